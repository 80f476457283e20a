"""Compaction: pages of every kind move and stay what they were; who compacts when; what counts of it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from mmfs.fastpath.compact_control import CompactResult
from mmfs.fs.proc.pagemap import pagemap_entries
from mmfs.kernel.namei import O_CREAT, O_WRONLY
from mmfs.mm.mman import MADV_DONTNEED, MADV_PAGEOUT
from mmfs.mm_types import (
    GFP_HIGHUSER,
    GFP_NOWARN_BIT,
    HPAGE_PMD_ORDER,
    PAGE_SIZE,
    PG_ANON,
    PG_LRU,
    PG_WRITEBACK,
    NodeStatItem,
    VmEventItem,
)

MB = 1 << 20
pytestmark = pytest.mark.machine(ram="128M", swap="64M", cpus=2, preset="bare", cmdline="transparent_hugepage=never")


def event(kernel: Any, name: str) -> int:
    return int(kernel.vmstat.event[VmEventItem[name]])


def event_pages(kernel: Any, name: str) -> int:
    """A counter of pages of all nodes."""
    return int(kernel.vmstat.node_stat[:, NodeStatItem[name]].sum())


def compact(kernel: Any) -> None:
    kernel.write("/proc/sys/vm/compact_memory", "1\n")


def huge_blocks(kernel: Any) -> int:
    """Free blocks that a huge page could be had from."""
    return sum(zone.free_area_nr_free(order) << order - 9 for zone in kernel.zones for order in (9, 10))


def frame(task: Any, addr: int) -> int:
    """The frame behind an address of a process."""
    return int(pagemap_entries(task.mm, addr, 1, show_pfn=True)[0]) & (1 << 55) - 1


def in_pieces(kernel: Any, size: int, seed: int = 1) -> tuple[Any, int]:
    """A process of which every second page is gone, at random, so that all free memory is in pieces."""
    task, draw = kernel.spawn("hog"), random.Random(seed)
    start = task.mmap(size)
    task.touch(start, size, write=True)
    for offset in range(0, size, PAGE_SIZE):
        if draw.random() < 0.5:
            task.madvise(start + offset, PAGE_SIZE, MADV_DONTNEED)
    return task, start


def test_pages_move_up_and_blocks_become_free(kernel: Any) -> None:
    in_pieces(kernel, 80 * MB)
    before, moved = huge_blocks(kernel), event(kernel, "PGMIGRATE_SUCCESS")
    compact(kernel)
    moved = event(kernel, "PGMIGRATE_SUCCESS") - moved
    assert moved > 2000
    # Each pair of half-used pageblocks becomes a full and a free one.
    assert huge_blocks(kernel) >= before + moved // 512 // 2
    assert event(kernel, "COMPACT_ISOLATED") >= 2 * moved
    assert event(kernel, "COMPACT_MIGRATE_SCANNED") >= moved


def test_mappings_of_all_processes_follow(kernel: Any) -> None:
    """Pages shared after fork, written ones, locked ones, and those that only the page cache and swap cache know."""
    task, start = in_pieces(kernel, 60 * MB)
    child = task.fork()
    child.touch(start, 2 * MB, write=True)
    task.mlock(start + 4 * MB, MB)
    task.madvise(start + 8 * MB, 4 * MB, MADV_PAGEOUT)
    reader = kernel.spawn("cat")
    kernel.create_file("/data/f", "8M")
    reader.read("/data/f", 0, 8 * MB)
    mapped = reader.mmap(4 * MB, file="/data/f")
    reader.touch(mapped, 4 * MB)
    shared = reader.mmap(2 * MB, flags=0x21)
    reader.touch(shared, 2 * MB, write=True)
    kernel.check()

    def resident() -> list[Any]:
        return [kernel.read(f"/proc/{t.pid}/smaps_rollup") for t in (task, child, reader)]

    before, cached = resident(), kernel.read("/proc/meminfo")
    moved = event(kernel, "PGMIGRATE_SUCCESS")
    compact(kernel)
    assert event(kernel, "PGMIGRATE_SUCCESS") > moved + 1000
    kernel.check()
    assert resident() == before

    def rows(text: bytes) -> list[bytes]:
        return [row for row in text.splitlines() if row.split(b":")[0] in
                (b"Cached", b"AnonPages", b"Mapped", b"Shmem", b"Mlocked", b"SwapCached", b"Unevictable")]  # fmt: skip

    assert rows(kernel.read("/proc/meminfo")) == rows(cached)
    faults = reader.maj_flt
    reader.touch(mapped, 4 * MB)
    assert reader.maj_flt == faults


def test_what_somebody_holds_stays(kernel: Any) -> None:
    """Pages of the file system's metadata that it holds, and such as are being written."""
    task, _ = in_pieces(kernel, 40 * MB)
    mapping = next(iter(kernel.block_devices)).bd_mapping
    held = [kernel.mmu.folios.lookup(mapping.id, index) for index in range(int(mapping.record["pinned"]))]
    fd = task.open("/data/w", O_WRONLY | O_CREAT)
    task.write(fd, 4 * MB)
    kernel.bdis[0].wb.start_writeback()
    while not event_pages(kernel, "NR_WRITEBACK"):
        kernel.clock.run_until(kernel.clock.next_event_ns())
    pages = kernel.frames.pages
    written = np.nonzero(pages["flags"][: kernel.frames.nr_frames] & PG_WRITEBACK)[0]
    assert len(written)
    compact(kernel)
    assert (pages["flags"][written] & PG_WRITEBACK).all()
    assert [kernel.mmu.folios.lookup(mapping.id, index) for index in range(len(held))] == held


def test_unmovable_pages_stay_where_they_are(kernel: Any) -> None:
    pages = [kernel.page_alloc.alloc_pages(GFP_HIGHUSER, 0, 0) for _ in range(64)]
    in_pieces(kernel, 60 * MB)
    kernel.frames.pages["private"][pages] = 7
    compact(kernel)
    assert (kernel.frames.pages["private"][pages] == 7).all()
    assert not (kernel.frames.pages["flags"][pages] & (PG_LRU | PG_ANON)).any()
    kernel.frames.pages["private"][pages] = 0
    for pfn in pages:
        kernel.page_alloc.free_pages(pfn, 0)


def test_a_huge_page_is_made_by_whoever_asks(kernel: Any) -> None:
    in_pieces(kernel, 96 * MB)
    while huge_blocks(kernel):
        kernel.page_alloc.alloc_pages(GFP_HIGHUSER | GFP_NOWARN_BIT, HPAGE_PMD_ORDER, 0)
    assert event(kernel, "COMPACT_STALL") == 0
    kernel.write("/proc/sys/vm/nr_hugepages", "4\n")
    assert kernel.read("/proc/sys/vm/nr_hugepages") == b"4\n"
    assert event(kernel, "COMPACT_STALL") >= event(kernel, "COMPACT_SUCCESS") >= 4
    stalls = event(kernel, "COMPACT_STALL")
    assert event(kernel, "COMPACT_FAIL") + event(kernel, "COMPACT_SUCCESS") == stalls


def test_what_does_not_help_is_put_off(kernel: Any) -> None:
    """Twice as long each time, up to every 64th; forgotten when a block was had. Linux: defer_compaction()."""
    zones, zone = kernel.compactor.zones, kernel.zones[1].index
    assert not zones.deferred(zone, 9)
    for shift in range(1, 9):
        zones.defer(zone, 9)
        tries = 0
        while zones.deferred(zone, 9):
            tries += 1
        assert tries == (1 << min(shift, 6)) - 1
    assert not zones.deferred(zone, 8)
    assert zones.restarting(zone, 9)
    zones.defer_reset(zone, 9, True)
    assert not zones.deferred(zone, 9)
    assert not zones.restarting(zone, 9)


def test_kcompactd_works_when_memory_is_in_pieces(kernel: Any) -> None:
    """Proactively: twice a second it looks at the score, and compacts down to the low mark."""
    kernel.write("/proc/sys/vm/compaction_proactiveness", "0\n")
    in_pieces(kernel, 90 * MB)
    pgdat = kernel.node_data[0]
    score = kernel.compactor.fragmentation_score_node(pgdat)
    assert score > 60
    kernel.run_for(3.0)
    scanned, asked = event(kernel, "COMPACT_DAEMON_MIGRATE_SCANNED"), event(kernel, "COMPACT_DAEMON_WAKE")
    kernel.write("/proc/sys/vm/compaction_proactiveness", "60\n")
    kernel.run_for(3.0)
    assert kernel.compactor.fragmentation_score_node(pgdat) < score
    assert event(kernel, "COMPACT_DAEMON_MIGRATE_SCANNED") > scanned + 2000
    assert event(kernel, "COMPACT_DAEMON_WAKE") == asked
    kcompactd = kernel.kcompactds[0].task
    assert kcompactd.stime_ns > 1_000_000


def test_kcompactd_goes_on_where_it_was(kernel: Any) -> None:
    """In slices of a millisecond, between which the machine is checked."""
    in_pieces(kernel, 90 * MB)
    kcompactd = kernel.kcompactds[0]
    kcompactd.wakeup(HPAGE_PMD_ORDER, 4)
    kcompactd.max_order = HPAGE_PMD_ORDER
    slices = 0
    while kernel.clock.next_event_ns() is not None and slices < 400:
        kernel.clock.run_until(kernel.clock.next_event_ns())
        kernel.check()
        slices += 1
        if kcompactd.work is None and kcompactd.max_order == 0:
            break
    assert kcompactd.work is None


def test_extfrag_threshold(kernel: Any) -> None:
    """A large block is worth moving pages for only if memory is in pieces, not if it is short."""
    in_pieces(kernel, 80 * MB)
    zone = max(kernel.zones, key=lambda zone: zone.managed_pages)
    while any(zone.free_area_nr_free(order) for order in (9, 10)):
        kernel.page_alloc.alloc_pages(GFP_HIGHUSER | GFP_NOWARN_BIT, HPAGE_PMD_ORDER, 0)
    index = int(kernel.compactor.loops.fragmentation_index(zone.index, HPAGE_PMD_ORDER))
    assert 500 < index < 1000
    text = kernel.read("/sys/kernel/debug/extfrag/extfrag_index").decode().splitlines()
    row = next(line for line in text if f" {zone.name} " in line)
    assert row.split()[4 + HPAGE_PMD_ORDER] == f"0.{index:03d}"
    assert kernel.compactor.suitable(zone, HPAGE_PMD_ORDER, 4)
    kernel.write("/proc/sys/vm/extfrag_threshold", "1000\n")
    assert not kernel.compactor.suitable(zone, HPAGE_PMD_ORDER, 4)


def test_results_are_ordered_as_linux_compares_them() -> None:
    assert max(CompactResult.SKIPPED, CompactResult.DEFERRED) is CompactResult.DEFERRED
    assert max(CompactResult.COMPLETE, CompactResult.SUCCESS) is CompactResult.SUCCESS


def test_migration_across_zones_takes_the_counters_along(boot: Any) -> None:
    """To another node: what is counted by zone, node and cgroup follows the page."""
    kernel = boot(nodes=[{"memory": "64M", "cpus": 1}, {"memory": "64M", "cpus": 1}], preset="bare")
    task = kernel.spawn("hog")
    start = task.mmap(MB)
    task.touch(start, MB, write=True)
    kernel.lru.lru_add_drain_all()
    migration = kernel.mmu.compaction.migration
    node0 = int(kernel.vmstat.node_stat[0].sum())
    for offset in range(0, MB, PAGE_SIZE):
        pfn = frame(task, start + offset)
        kernel.lru.lru_add_drain_all()
        new = kernel.page_alloc.buddy.alloc_pages(0, 1, 1, 4, 0, 0b10)
        migration.isolate(pfn)
        assert migration.migrate_folio(pfn, new)
        assert frame(task, start + offset) == new
    kernel.check()
    assert int(kernel.vmstat.node_stat[0].sum()) < node0
    assert b"N1=256" in kernel.read(f"/proc/{task.pid}/numa_maps")
    assert np.all(kernel.frames.blocks["zone"][[frame(task, start) >> 9]] >= 5)
