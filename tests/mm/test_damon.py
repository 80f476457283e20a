"""DAMON: what monitors find, and what schemes do with it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mmfs.mm.damon.core import DamonRegion, DamonTarget
from mmfs.mm.damon.quota import GOAL, DamosQuota, DamosQuotaGoal, DamosQuotaGoalMetric, feed_loop_next_input
from mmfs.mm.damon.vaddr import split_evenly, three_regions
from mmfs.mm.mman import MADV_HUGEPAGE, MAP_ANONYMOUS, MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE
from mmfs.mm_types import PAGE_SIZE, PG_IDLE, PG_YOUNG
from tests.mm.damon_machine import (
    CONTEXT,
    MB,
    SCHEME,
    Region,
    Worker,
    read,
    set_up,
    stats,
    tried_regions,
    turn,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

SIZE, HOT_FROM, HOT_SIZE = 96 * MB, 32 * MB, 16 * MB


@pytest.fixture
def worker(boot: Callable[..., Kernel]) -> Worker:
    """96 MB, of which 16 in the middle are in use; no huge pages."""
    kernel = boot(ram="1G", swap="512M", seed=5)
    kernel.write("/sys/kernel/mm/transparent_hugepage/enabled", "never")
    return Worker(kernel, SIZE, HOT_FROM, HOT_SIZE)


def vmstat(kernel: Kernel, name: str) -> int:
    rows = map(str.split, kernel.read("/proc/vmstat").decode().splitlines())
    return int(next(value for row, value in rows if row == name))


def rss_kb(worker: Worker) -> int:
    status = worker.kernel.read(f"/proc/{worker.task.pid}/status").decode()
    return int(next(row.split()[1] for row in status.splitlines() if row.startswith("VmRSS")))


def assert_shows(regions: list[Region], worker: Worker, samples: int) -> None:
    """The part that is hot is found hot and the rest cold, but for borders.

    A border is found by cutting at random and comparing; after some seconds what lies on the wrong side of one is a
    small part of the hot memory. Regions that were cut in the last interval have the mean of what they were cut from.
    """
    hot = [region for region in regions if region.nr_accesses > samples // 2]
    found = sum(region.overlap(worker.hot, worker.hot_end) for region in hot)
    wrong = sum(region.size for region in hot) - found
    assert found > 0.9 * HOT_SIZE
    assert wrong < 0.1 * HOT_SIZE
    cold = [region for region in regions if region.nr_accesses == 0]
    inside = sum(region.overlap(worker.addr, worker.addr + SIZE) for region in cold)
    assert inside > 0.9 * (SIZE - HOT_SIZE)
    assert max(region.age for region in cold) > 10


# -- what is found -----------------------------------------------------------------------------------------------------


def test_vaddr_finds_the_hot_part(worker: Worker) -> None:
    kernel = worker.kernel
    set_up(kernel, "vaddr", worker.task.pid)
    turn(kernel, "on")
    kernel.run_for(6)
    kernel.check()
    regions = tried_regions(kernel)
    assert_shows(regions, worker, 20)
    assert 10 <= len(regions) <= 1000
    turn(kernel, "off")


def test_vaddr_covers_what_is_mapped_but_the_two_largest_gaps(worker: Worker) -> None:
    kernel = worker.kernel
    set_up(kernel, "vaddr", worker.task.pid)
    turn(kernel, "on")
    kernel.run_for(0.5)
    regions = tried_regions(kernel)
    ranges = three_regions(worker.task.mm) if worker.task.mm else []
    vmas = [(vma.vm_start, vma.vm_end) for vma in worker.task.mm.mmap] if worker.task.mm else []
    assert len(ranges) == 3
    assert sum(region.size for region in regions) == sum(end - start for start, end in ranges)
    assert all(any(start <= low and high <= end for start, end in ranges) for low, high in vmas)


def test_a_mapping_that_comes_is_monitored_after_an_update(worker: Worker) -> None:
    kernel = worker.kernel
    set_up(kernel, "vaddr", worker.task.pid)
    write(kernel, CONTEXT + "monitoring_attrs/intervals/update_us", 1_000_000)
    turn(kernel, "on")
    kernel.run_for(0.3)
    before = sum(region.size for region in tried_regions(kernel))
    addr = worker.task.mmap(64 * MB)
    assert sum(region.size for region in tried_regions(kernel)) == before
    kernel.run_for(1.5)
    kernel.check()
    assert sum(region.overlap(addr, addr + 64 * MB) for region in tried_regions(kernel)) == 64 * MB


def test_fvaddr_monitors_the_ranges_that_it_is_given(worker: Worker) -> None:
    kernel = worker.kernel
    set_up(kernel, "fvaddr", worker.task.pid)
    write(kernel, CONTEXT + "targets/0/regions/nr_regions", 1)
    write(kernel, CONTEXT + "targets/0/regions/0/start", worker.addr)
    write(kernel, CONTEXT + "targets/0/regions/0/end", worker.addr + SIZE)
    turn(kernel, "on")
    kernel.run_for(6)
    kernel.check()
    regions = tried_regions(kernel)
    assert (regions[0].start, regions[-1].end) == (worker.addr, worker.addr + SIZE)
    assert all(before.end == after.start for before, after in pairwise(regions))
    assert_shows(regions, worker, 20)


def test_paddr_finds_the_frames_of_the_hot_part(worker: Worker) -> None:
    """By the reverse mapping: what was accessed of a region of frames is accessed by whoever maps them."""
    kernel = worker.kernel
    set_up(kernel, "paddr")
    write(kernel, CONTEXT + "targets/0/regions/nr_regions", 1)
    write(kernel, CONTEXT + "targets/0/regions/0/end", kernel.max_pfn * PAGE_SIZE)
    turn(kernel, "on")
    kernel.run_for(8)
    kernel.check()
    pagemap = kernel.vfs.open(f"/proc/{worker.task.pid}/pagemap").read(SIZE // 512, worker.addr // 512)
    pfns = np.frombuffer(pagemap, np.uint64) & np.uint64((1 << 55) - 1)
    first, count = HOT_FROM // PAGE_SIZE, HOT_SIZE // PAGE_SIZE
    hot = set((pfns[first : first + count] * PAGE_SIZE).tolist())
    regions = [region for region in tried_regions(kernel) if region.nr_accesses > 10]
    found = sum(any(region.start <= frame < region.end for region in regions) for frame in hot)
    assert found > 0.8 * len(hot)
    assert sum(region.size for region in regions) < 2 * HOT_SIZE


def test_huge_pages_are_sampled_by_their_one_entry(boot: Callable[..., Kernel]) -> None:
    kernel = boot(ram="1G", seed=5)
    worker = Worker(kernel, 4 * MB, 0, PAGE_SIZE)
    kernel.write("/sys/kernel/mm/transparent_hugepage/enabled", "madvise")
    addr = worker.task.mmap(SIZE)
    worker.task.madvise(addr, SIZE, MADV_HUGEPAGE)
    worker.task.touch(addr, SIZE, write=True)
    worker.addr, worker.hot, worker.hot_end = addr, addr + HOT_FROM, addr + HOT_FROM + HOT_SIZE
    set_up(kernel, "vaddr", worker.task.pid)
    turn(kernel, "on")
    kernel.run_for(6)
    kernel.check()
    assert_shows(tried_regions(kernel), worker, 20)


def test_sampling_leaves_pages_young_and_idle_as_page_idle_does(worker: Worker) -> None:
    kernel, mm = worker.kernel, worker.task.mm
    assert mm is not None
    cold = np.array([worker.addr], np.int64)
    raw = np.zeros(1, np.uint64)
    kernel.lru.lru_add_drain_all()
    kernel.task_mmu.read_entries(mm.row, worker.addr, raw)
    pfn = int(raw[0]) >> 12 & (1 << 40) - 1
    page, accessed, out = kernel.frames.pages, 1 << 5, np.zeros(1, np.uint8)
    assert int(raw[0]) & accessed
    kernel.damon.loops.va_young(mm.row, cold, out)
    assert out[0]
    kernel.damon.loops.va_mkold(mm.row, cold)
    kernel.task_mmu.read_entries(mm.row, worker.addr, raw)
    assert not int(raw[0]) & accessed
    assert int(page[pfn]["flags"]) & (PG_IDLE | PG_YOUNG) == PG_IDLE | PG_YOUNG
    kernel.damon.loops.va_young(mm.row, cold, out)
    assert not out[0]
    kernel.damon.loops.scanned = 0
    kernel.check()


def sampled(kernel: Kernel, pfn: int, act: Callable[[], object]) -> bool:
    """Whether a frame is found accessed, if that is done after it was sampled."""
    loops, pfns, out = kernel.damon.loops, np.array([pfn], np.int64), np.zeros(1, np.uint8)
    kernel.lru.lru_add_drain_all()
    loops.pa_mkold(pfns)
    loops.pa_young(pfns, out)
    assert not out[0]
    act()
    loops.pa_young(pfns, out)
    loops.scanned = 0
    kernel.check()
    return bool(out[0])


def frame_of(task: Task, addr: int) -> int:
    (raw,) = np.frombuffer(task.kernel.vfs.open(f"/proc/{task.pid}/pagemap").read(8, addr // 512), np.uint64)
    return int(raw) & (1 << 55) - 1


def flush_tlb(task: Task, addr: int, size: int) -> None:
    """By what the TLB holds, a page is accessed without its entry."""
    for prot in (PROT_READ, PROT_READ | PROT_WRITE):
        task.mprotect(addr, size, prot)


def test_frames_are_accessed_by_whoever_maps_them(kernel: Kernel) -> None:
    task = kernel.spawn("parent")
    addr = task.mmap(64 * PAGE_SIZE)
    task.touch(addr, 64 * PAGE_SIZE, write=True)
    child, pfn = task.fork(), frame_of(task, addr)
    assert frame_of(child, addr) == pfn
    for one in (task, child):
        flush_tlb(one, addr, 64 * PAGE_SIZE)
        assert sampled(kernel, pfn, lambda one=one: one.touch(addr, PAGE_SIZE))
    assert not sampled(kernel, pfn, lambda: task.touch(addr + PAGE_SIZE, PAGE_SIZE))


def test_a_page_of_a_file_is_accessed_by_who_reads_it(kernel: Kernel) -> None:
    kernel.create_file("/data", MB)
    task = kernel.spawn("reader")
    fd = task.open("/data")
    task.read(fd, MB, 0)
    addr = task.mmap(MB, file=fd, prot=PROT_READ, flags=MAP_SHARED)
    task.touch(addr, PAGE_SIZE)
    pfn = frame_of(task, addr)
    task.munmap(addr, MB)
    assert sampled(kernel, pfn, lambda: task.read(fd, PAGE_SIZE, 0))
    assert not sampled(kernel, pfn, lambda: task.read(fd, PAGE_SIZE, MB // 2))


def test_frames_without_pages_of_users_are_never_accessed(kernel: Kernel) -> None:
    pfns = np.array([0, 1, kernel.max_pfn - 1, -1], np.int64)
    out = np.ones(len(pfns), np.uint8)
    kernel.damon.loops.pa_mkold(pfns)
    kernel.damon.loops.pa_young(pfns, out)
    assert not out.any()
    kernel.damon.loops.scanned = 0


def test_pages_of_pools_are_sampled_too(boot: Callable[..., Kernel]) -> None:
    kernel = boot(ram="1G", cmdline="hugepages=16")
    task = kernel.spawn("user")
    addr = task.mmap(8 * MB, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB)
    task.touch(addr, 8 * MB, write=True)
    assert task.mm is not None
    loops, out = kernel.damon.loops, np.zeros(4, np.uint8)
    where = np.array([addr + turn * 2 * MB + 12345 for turn in range(4)], np.int64)
    loops.va_young(task.mm.row, where, out)
    assert out.all()
    loops.va_mkold(task.mm.row, where)
    loops.va_young(task.mm.row, where, out)
    assert not out.any()
    flush_tlb(task, addr, 8 * MB)
    task.touch(addr + 4 * MB, PAGE_SIZE)
    loops.va_young(task.mm.row, where, out)
    assert out.tolist() == [0, 0, 1, 0]
    loops.scanned = 0
    kernel.check()


def test_runs_are_the_same_with_the_same_seed(boot: Callable[..., Kernel]) -> None:
    found = []
    for _ in range(2):
        kernel = boot(ram="1G", seed=9)
        worker = Worker(kernel, SIZE, HOT_FROM, HOT_SIZE)
        set_up(kernel, "vaddr", worker.task.pid)
        turn(kernel, "on")
        kernel.run_for(2)
        found.append(tried_regions(kernel))
    assert found[0] == found[1]


# -- threads -----------------------------------------------------------------------------------------------------------


def test_the_thread_works_sleeps_and_ends(worker: Worker) -> None:
    kernel = worker.kernel
    set_up(kernel, "vaddr", worker.task.pid)
    turn(kernel, "on")
    pid = int(read(kernel, "0/pid"))
    assert kernel.read(f"/proc/{pid}/comm") == b"kdamond.0\n"
    assert kernel.read(f"/proc/{pid}/wchan") == b"kdamond_fn"
    assert kernel.read(f"/proc/{pid}/stat").split()[2] == b"I"
    before = kernel.tasks[pid].nvcsw
    kernel.run_for(1)
    assert 190 <= kernel.tasks[pid].nvcsw - before <= 201
    schedstat = kernel.read(f"/proc/{pid}/schedstat").split()
    assert int(schedstat[0]) > 200 * 2_000
    objects = kernel.slab["damon_region"].nr_objects_inuse
    turn(kernel, "off")
    assert (read(kernel, "0/pid"), read(kernel, "0/state")) == ("-1", "off")
    assert pid not in kernel.tasks
    assert kernel.slab["damon_region"].nr_objects_inuse < objects


def test_a_monitor_ends_with_its_process(worker: Worker) -> None:
    kernel = worker.kernel
    set_up(kernel, "vaddr", worker.task.pid)
    turn(kernel, "on")
    kernel.run_for(0.5)
    kernel.kill(worker.task.pid, 9)
    kernel.run_for(0.5)
    kernel.check()
    assert read(kernel, "0/state") == "off"


def test_off_ends_a_long_sleep_early_and_waits_for_a_short_one(worker: Worker) -> None:
    kernel = worker.kernel
    set_up(kernel, "vaddr", worker.task.pid)
    for sample_us, longest_ms in ((1_000_000, 1), (20_000, 21)):
        write(kernel, CONTEXT + "monitoring_attrs/intervals/sample_us", sample_us)
        write(kernel, CONTEXT + "monitoring_attrs/intervals/aggr_us", 2_000_000)
        turn(kernel, "on")
        kernel.run_for(0.001)
        begin = kernel.clock.now_ns
        turn(kernel, "off")
        assert kernel.clock.now_ns - begin <= longest_ms * 1_000_000


def test_two_monitors_of_one_process(worker: Worker) -> None:
    kernel = worker.kernel
    write(kernel, "nr_kdamonds", 2)
    for number in range(2):
        context = f"{number}/contexts/0/"
        write(kernel, f"{number}/contexts/nr_contexts", 1)
        write(kernel, context + "targets/nr_targets", 1)
        write(kernel, context + "targets/0/pid_target", worker.task.pid)
        turn(kernel, "on", number)
    kernel.run_for(1)
    kernel.check()
    assert [ctx.kdamond.task.comm for ctx in kernel.damon.running if ctx.kdamond] == ["kdamond.0", "kdamond.1"]
    turn(kernel, "off", 0)
    assert (read(kernel, "0/state"), read(kernel, "1/state")) == ("off", "on")


# -- schemes -----------------------------------------------------------------------------------------------------------


def cold_scheme(worker: Worker, action: str, operations: str = "vaddr") -> None:
    """What was not accessed for half a second."""
    set_up(worker.kernel, operations, worker.task.pid if operations == "vaddr" else None, action)
    write(worker.kernel, SCHEME + "access_pattern/nr_accesses/max", 0)
    write(worker.kernel, SCHEME + "access_pattern/age/min", 5)


def test_pageout_of_an_address_space_swaps_the_cold_part(worker: Worker) -> None:
    kernel = worker.kernel
    cold_scheme(worker, "pageout")
    turn(kernel, "on")
    kernel.run_for(6)
    kernel.check()
    assert HOT_SIZE >> 10 <= rss_kb(worker) < (HOT_SIZE >> 10) + 8 * 1024
    swapped = vmstat(kernel, "pswpout")
    assert swapped * PAGE_SIZE > 0.9 * (SIZE - HOT_SIZE)
    counted = stats(kernel)
    assert counted["nr_tried"] >= counted["nr_applied"] > 0
    worker.task.touch(worker.addr, SIZE, write=True)
    kernel.check()
    assert rss_kb(worker) >= SIZE >> 10


def test_pageout_of_physical_memory_looks_at_each_page(worker: Worker) -> None:
    kernel = worker.kernel
    cold_scheme(worker, "pageout", "paddr")
    write(kernel, CONTEXT + "targets/0/regions/nr_regions", 1)
    write(kernel, CONTEXT + "targets/0/regions/0/end", kernel.max_pfn * PAGE_SIZE)
    turn(kernel, "on")
    kernel.run_for(6)
    kernel.check()
    counted = stats(kernel)
    assert counted["sz_applied"] > 0.8 * (SIZE - HOT_SIZE)
    assert rss_kb(worker) < (SIZE >> 10) - 40 * 1024


def test_filters_of_pages(worker: Worker) -> None:
    """Anonymous memory is spared, or nothing else is."""
    kernel = worker.kernel
    cold_scheme(worker, "pageout", "paddr")
    write(kernel, CONTEXT + "targets/0/regions/nr_regions", 1)
    write(kernel, CONTEXT + "targets/0/regions/0/end", kernel.max_pfn * PAGE_SIZE)
    write(kernel, SCHEME + "filters/nr_filters", 1)
    write(kernel, SCHEME + "filters/0/type", "anon")
    write(kernel, SCHEME + "filters/0/matching", "Y")
    turn(kernel, "on")
    kernel.run_for(3)
    kernel.check()
    assert vmstat(kernel, "pswpout") == 0
    write(kernel, SCHEME + "filters/0/type", "memcg")
    write(kernel, SCHEME + "filters/0/memcg_path", "/")
    write(kernel, SCHEME + "filters/0/matching", "N")
    turn(kernel, "commit")
    kernel.run_for(3)
    kernel.check()
    assert read(kernel, "0/state") == "on"


def test_filters_of_addresses_and_targets(worker: Worker) -> None:
    kernel = worker.kernel
    cold_scheme(worker, "pageout")
    write(kernel, SCHEME + "filters/nr_filters", 2)
    for number, values in enumerate((("target", "Y", "damon_target_idx", 1), ("addr", "N", "addr_start", worker.addr))):
        kind, matching, name, value = values
        write(kernel, SCHEME + f"filters/{number}/type", kind)
        write(kernel, SCHEME + f"filters/{number}/matching", matching)
        write(kernel, SCHEME + f"filters/{number}/{name}", value)
    write(kernel, SCHEME + "filters/1/addr_end", worker.addr + 16 * MB)
    turn(kernel, "on")
    kernel.run_for(4)
    kernel.check()
    swapped = vmstat(kernel, "pswpout") * PAGE_SIZE
    assert 0 < swapped <= 16 * MB


def test_a_quota_of_bytes(worker: Worker) -> None:
    kernel = worker.kernel
    cold_scheme(worker, "pageout")
    write(kernel, SCHEME + "quotas/bytes", 2 * MB)
    write(kernel, SCHEME + "quotas/reset_interval_ms", 200)
    write(kernel, SCHEME + "quotas/weights/age_permil", 1000)
    turn(kernel, "on")
    kernel.run_for(3.05)
    kernel.check()
    counted = stats(kernel)
    assert counted["qt_exceeds"] > 5
    assert counted["sz_tried"] <= 2 * MB * 16
    turn(kernel, "update_schemes_effective_quotas")
    assert read(kernel, SCHEME + "quotas/effective_bytes") == str(2 * MB)


def test_watermarks_let_a_scheme_rest(worker: Worker) -> None:
    kernel = worker.kernel
    cold_scheme(worker, "pageout")
    wmarks = {"metric": "free_mem_rate", "interval_us": 100_000, "high": 500, "mid": 400, "low": 50}
    for name, value in wmarks.items():
        write(kernel, SCHEME + f"watermarks/{name}", value)
    turn(kernel, "on")
    kernel.run_for(2)
    assert stats(kernel)["nr_tried"] == 0  # most memory is free
    write(kernel, SCHEME + "watermarks/high", 1000)
    write(kernel, SCHEME + "watermarks/mid", 1000)
    write(kernel, SCHEME + "watermarks/low", 0)
    turn(kernel, "off")
    turn(kernel, "on")
    kernel.run_for(2)
    kernel.check()
    assert stats(kernel)["nr_tried"] > 0


@pytest.mark.parametrize("action", ["cold", "willneed", "hugepage", "nohugepage", "stat"])
def test_advice_for_address_spaces(worker: Worker, action: str) -> None:
    kernel = worker.kernel
    cold_scheme(worker, action)
    before = vmstat(kernel, "pgdeactivate")
    turn(kernel, "on")
    kernel.run_for(2)
    kernel.check()
    assert stats(kernel)["nr_tried"] > 0
    mm = worker.task.mm
    assert mm is not None
    smaps = kernel.read(f"/proc/{worker.task.pid}/smaps").decode()
    assert (" hg" in smaps) == (action == "hugepage")
    assert (" nh" in smaps) == (action == "nohugepage")
    if action == "cold":
        assert vmstat(kernel, "pgdeactivate") >= before


@pytest.mark.parametrize("action", ["lru_prio", "lru_deprio"])
def test_lists_are_sorted(worker: Worker, action: str) -> None:
    kernel = worker.kernel
    set_up(kernel, "paddr", action=action)
    write(kernel, CONTEXT + "targets/0/regions/nr_regions", 1)
    write(kernel, CONTEXT + "targets/0/regions/0/end", kernel.max_pfn * PAGE_SIZE)
    turn(kernel, "on")
    kernel.run_for(1)
    kernel.check()
    assert stats(kernel)["sz_applied"] >= SIZE


@pytest.mark.machine(ram="2G", nodes=2)
def test_migration_to_another_node(kernel: Kernel) -> None:
    worker = Worker(kernel, 32 * MB, 0, 8 * MB)
    here = worker.task.processor % 2
    before = vmstat(kernel, "pgmigrate_success")
    set_up(kernel, "paddr", action="migrate_cold")
    write(kernel, SCHEME + "target_nid", 1 - here)
    write(kernel, SCHEME + "access_pattern/nr_accesses/max", 0)
    write(kernel, CONTEXT + "targets/0/regions/nr_regions", 1)
    write(kernel, CONTEXT + "targets/0/regions/0/end", kernel.max_pfn * PAGE_SIZE)
    turn(kernel, "on")
    kernel.run_for(2)
    kernel.check()
    moved = vmstat(kernel, "pgmigrate_success") - before
    assert moved * PAGE_SIZE > 16 * MB
    assert stats(kernel)["sz_applied"] == moved * PAGE_SIZE
    assert worker.task.alive


# -- arithmetic --------------------------------------------------------------------------------------------------------


def test_regions_are_fitted_to_ranges() -> None:
    target = DamonTarget()
    target.set_regions([(0x1000, 0x9000), (0x20000, 0x21000)])
    target.regions[0].nr_accesses = 7
    target.set_regions([(0x4000, 0xA800), (0x30000, 0x31000)])
    assert [(r.start, r.end, r.nr_accesses) for r in target.regions] == [(0x4000, 0xB000, 7), (0x30000, 0x31000, 0)]
    target.regions = [DamonRegion(0x1000, 0x2000), DamonRegion(0x3000, 0x4000)]
    target.set_regions([(0x1000, 0x5000)])
    assert [(r.start, r.end) for r in target.regions] == [(0x1000, 0x2000), (0x2000, 0x3000), (0x3000, 0x5000)]
    for wrong in ([(0x2000, 0x2000)], [(0, 0x2001), (0x2002, 0x4000)]):
        with pytest.raises(OSError, match="ranges"):
            target.set_regions(wrong)


def test_neighbours_that_are_alike_become_one_of_their_mean() -> None:
    target = DamonTarget()
    for start, end, accesses in ((0, 3, 4), (3, 4, 8), (4, 5, 20), (6, 7, 20)):
        region = DamonRegion(start * PAGE_SIZE, end * PAGE_SIZE)
        region.nr_accesses = region.last_nr_accesses = accesses
        region.age = 2
        target.regions.append(region)
    target.merge_regions(4, 1 << 40, True)
    found = [(r.start // PAGE_SIZE, r.end // PAGE_SIZE, r.nr_accesses, r.age) for r in target.regions]
    assert found == [(0, 4, 5, 3), (4, 5, 20, 3), (6, 7, 20, 3)]


def test_even_pieces() -> None:
    assert [(r.start, r.end) for r in split_evenly(0, 0x7000, 2)] == [(0, 0x3000), (0x3000, 0x7000)]
    assert [(r.start, r.end) for r in split_evenly(0, 0x1000, 0)] == [(0, 0x1000)]


def test_quotas_follow_their_goals(kernel: Kernel) -> None:
    assert feed_loop_next_input(1_000_000, 5_000) == 1_500_000
    assert feed_loop_next_input(1_000_000, 15_000) == 500_000
    assert feed_loop_next_input(1_000_000, 2 * GOAL) == GOAL
    quota = DamosQuota(goals=[DamosQuotaGoal(DamosQuotaGoalMetric.USER_INPUT, 100, 50)], esz_bp=100 * MB * GOAL)
    quota.set_effective(kernel)
    assert quota.esz == 150 * MB
    quota.sz = 10 * MB
    quota.set_effective(kernel)
    assert quota.esz == 10 * MB
    timed = DamosQuota(ms=10)
    timed.set_effective(kernel)
    assert timed.esz == 10 * PAGE_SIZE * 1024
