"""Swap: pages that go to the disk and come back, whose slots they are, and what every file says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmfs.fs.proc.pagemap import pagemap_entries
from mmfs.mm.mman import (
    MADV_DONTNEED,
    MADV_FREE,
    MADV_PAGEOUT,
    MADV_WILLNEED,
    MAP_ANONYMOUS,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
)
from mmfs.mm_types import (
    MM_ANONPAGES,
    MM_SWAPENTS,
    SWP_EXCLUSIVE,
    SWP_OFFSET_FIRST_BIT,
    SWP_OFFSET_MASK,
    SWP_SOFT_DIRTY,
    NodeStatItem,
    VmEventItem,
)

MB = 1 << 20
PAGE = 4096
pytestmark = pytest.mark.machine(ram="128M", swap="64M", cpus=2, preset="bare")


def rows(kernel: Any, path: str) -> dict[str, int]:
    """meminfo or vmstat, by name."""
    lines = kernel.read(path).decode().splitlines()
    return {words[0].rstrip(":"): int(words[1]) for words in map(str.split, lines)}


def event(kernel: Any, item: VmEventItem) -> int:
    return int(kernel.vmstat.event[item])


def entries(task: Any, addr: int, pages: int) -> np.ndarray:
    out = np.zeros(pages, np.uint64)
    task.kernel.task_mmu.read_entries(task.mm.row, addr, out)
    return out


def forget_copies(kernel: Any) -> int:
    """Free the clean pages of the swap cache that nobody maps, as reclaim would; how many."""
    kernel.lru.lru_add_drain_all()
    pages, slots = kernel.frames.pages, kernel.mmu.swap.slots
    caches = np.concatenate([slots.caches[a["base"] : a["base"] + a["max"]] for a in slots.areas])
    cached = caches[(caches != 0) & (caches < 1 << 63)].astype(np.int64) - 1
    chosen = cached[pages[cached]["mapcount"] == 0]
    freed = int(kernel.reclaim.reclaim_pages(None, chosen))
    kernel.check()
    return freed


@pytest.fixture
def task(kernel: Any) -> Any:
    return kernel.spawn("hog")


def swapped(task: Any, size: int = MB, prot: int = PROT_READ | PROT_WRITE, gone: bool = True) -> int:
    """Memory that has been written and swapped out, and (``gone``) is not in the swap cache any more."""
    addr = task.mmap(size)
    task.touch(addr, size, write=True)
    if prot != PROT_READ | PROT_WRITE:
        task.mprotect(addr, size, prot)
    task.madvise(addr, size, MADV_PAGEOUT)
    task.kernel.check()
    if gone:
        task.kernel.run_for(1)
        assert forget_copies(task.kernel) == size // PAGE
    return addr


def test_pageout_writes_and_unmaps(kernel: Any, task: Any) -> None:
    before = rows(kernel, "/proc/meminfo")
    anon = task.mm.get_mm_counter(MM_ANONPAGES)
    swapped(task, gone=False)
    now = rows(kernel, "/proc/meminfo")
    assert event(kernel, VmEventItem.PSWPOUT) == 256
    assert now["Writeback"] == now["SwapCached"] == 1024
    assert now["Cached"] == before["Cached"]
    assert task.mm.get_mm_counter(MM_SWAPENTS) == 256
    assert task.mm.get_mm_counter(MM_ANONPAGES) == anon
    assert f"VmSwap:\t{1024:8d} kB" in kernel.read(f"/proc/{task.pid}/status").decode()
    kernel.run_for(1)
    assert rows(kernel, "/proc/meminfo")["Writeback"] == 0
    assert event(kernel, VmEventItem.PGROTATED) == 256 // 31 * 31  # the others wait in the CPU's batch
    assert kernel.block_devices["vdb"].sectors[1] == 256 * 8


def test_free_slots_go_in_batches_to_a_cpu(kernel: Any, task: Any) -> None:
    """The first search, for 512 free slots in a row, has time to take only 3 after it; the next takes 64."""
    free = rows(kernel, "/proc/meminfo")["SwapFree"]
    swapped(task, 65 * PAGE, gone=False)
    assert free - rows(kernel, "/proc/meminfo")["SwapFree"] == 67 * 4
    assert kernel.swap_info[0].used == 67 * 4


def test_fault_on_the_swap_cache_is_minor(kernel: Any, task: Any) -> None:
    addr = swapped(task, gone=False)
    major, minor = task.maj_flt, task.min_flt
    task.touch(addr, MB)
    assert (task.maj_flt - major, task.min_flt - minor) == (0, 256)
    assert rows(kernel, "/proc/meminfo")["SwapCached"] == 1024


def test_fault_on_the_disk_reads_a_cluster(kernel: Any, task: Any) -> None:
    addr = swapped(task)
    major, counted = task.maj_flt, event(kernel, VmEventItem.PGMAJFAULT)
    task.touch(addr, MB)
    assert event(kernel, VmEventItem.PSWPIN) == 256
    assert task.maj_flt - major == event(kernel, VmEventItem.PGMAJFAULT) - counted
    assert event(kernel, VmEventItem.SWAP_RA) == 256 - (task.maj_flt - major)
    assert event(kernel, VmEventItem.SWAP_RA_HIT) == event(kernel, VmEventItem.SWAP_RA)
    assert task.maj_flt - major <= 256 // 8 + 2
    assert task.mm.get_mm_counter(MM_SWAPENTS) == 0


def test_page_cluster_0_reads_single_pages(kernel: Any, task: Any) -> None:
    kernel.write("/proc/sys/vm/page-cluster", "0")
    addr = swapped(task)
    counted = event(kernel, VmEventItem.PGMAJFAULT)
    task.touch(addr, MB)
    assert event(kernel, VmEventItem.PGMAJFAULT) - counted == event(kernel, VmEventItem.PSWPIN) == 256
    assert event(kernel, VmEventItem.SWAP_RA) == 0


def test_written_pages_give_up_their_slots(kernel: Any, task: Any) -> None:
    addr = swapped(task)
    used = kernel.swap_info[0].inuse_pages
    task.touch(addr, MB // 2)
    assert kernel.swap_info[0].inuse_pages == used
    task.touch(addr + MB // 2, MB // 2, write=True)
    assert kernel.swap_info[0].inuse_pages == used - 64  # the CPU keeps the other 64
    assert rows(kernel, "/proc/meminfo")["SwapCached"] == 512


def test_a_clean_copy_needs_no_second_write(kernel: Any, task: Any) -> None:
    addr = swapped(task)
    task.touch(addr, MB)
    written = event(kernel, VmEventItem.PSWPOUT)
    task.madvise(addr, MB, MADV_PAGEOUT)
    assert event(kernel, VmEventItem.PSWPOUT) == written
    assert task.mm.get_mm_counter(MM_SWAPENTS) == 256


def test_entries_are_those_of_x86(task: Any) -> None:
    addr = swapped(task)
    raw = entries(task, addr, 256)
    assert (raw & np.uint64(1) == 0).all()
    assert (raw & np.uint64(SWP_EXCLUSIVE | SWP_SOFT_DIRTY) == np.uint64(SWP_EXCLUSIVE | SWP_SOFT_DIRTY)).all()
    offsets = ~(raw >> np.uint64(SWP_OFFSET_FIRST_BIT)) & np.uint64(SWP_OFFSET_MASK)
    assert sorted(offsets.tolist()) == list(range(1, 257))


def test_pagemap(kernel: Any, task: Any) -> None:
    addr = swapped(task)
    entries = pagemap_entries(task.mm, addr, 2, show_pfn=True).tolist()
    assert entries == [1 << 62 | 1 << 55 | 1 << 5, 1 << 62 | 1 << 55 | 2 << 5]
    assert pagemap_entries(task.mm, addr, 1, show_pfn=False).tolist() == [1 << 62 | 1 << 55]


def test_fork_shares_slots(kernel: Any, task: Any) -> None:
    addr = swapped(task)
    child = task.fork()
    kernel.check()
    assert child.mm.get_mm_counter(MM_SWAPENTS) == 256
    assert not (entries(task, addr, 256) & np.uint64(SWP_EXCLUSIVE)).any()
    smaps = kernel.read(f"/proc/{task.pid}/smaps").decode()
    assert f"Swap:           {1024:8d} kB\nSwapPss:        {512:8d} kB" in smaps
    task.touch(addr, MB, write=True)
    kernel.check()
    copied = task.mm.get_mm_counter(MM_ANONPAGES)
    child.touch(addr, MB, write=True)
    kernel.check()
    assert child.mm.get_mm_counter(MM_SWAPENTS) == task.mm.get_mm_counter(MM_SWAPENTS) == 0
    assert task.mm.get_mm_counter(MM_ANONPAGES) == copied
    pfns = [{int(e) >> 12 & (1 << 40) - 1 for e in entries(t, addr, 256)} for t in (task, child)]
    assert not pfns[0] & pfns[1]


def test_unmapping_and_exit_free_slots(kernel: Any, task: Any) -> None:
    addr = swapped(task)
    used = kernel.swap_info[0].inuse_pages
    task.munmap(addr, MB // 2)
    kernel.check()
    assert kernel.swap_info[0].inuse_pages <= used - 64
    task.madvise(addr + MB // 2, MB // 4, MADV_DONTNEED)
    kernel.check()
    task.exit()
    kernel.check()
    assert kernel.swap_info[0].inuse_pages <= 128
    assert kernel.vmstat.global_node_page_state(NodeStatItem.NR_SWAPCACHE) == 0


def test_pages_under_writeback_outlive_their_owner(kernel: Any, task: Any) -> None:
    swapped(task, gone=False)
    task.exit()
    kernel.check()
    assert rows(kernel, "/proc/meminfo")["SwapCached"] == 1024
    kernel.run_for(1)
    assert forget_copies(kernel) == 256
    assert rows(kernel, "/proc/meminfo")["SwapCached"] == 0


def test_mremap_moves_entries(kernel: Any, task: Any) -> None:
    addr = swapped(task)
    before = entries(task, addr, 256)
    moved = task.mremap(addr, MB, 64 * MB)
    kernel.check()
    assert (entries(task, moved, 256) == before).all()
    task.touch(moved, MB)
    assert task.mm.get_mm_counter(MM_SWAPENTS) == 0


def test_mprotect_keeps_entries(kernel: Any, task: Any) -> None:
    addr = swapped(task)
    before = entries(task, addr, 256)
    task.mprotect(addr, MB, PROT_READ)
    assert (entries(task, addr, 256) == before).all()
    task.touch(addr, MB)
    kernel.check()
    assert not (entries(task, addr, 256) & np.uint64(2)).any()


def test_mprotect_does_not_make_shared_slots_writable(kernel: Any, task: Any) -> None:
    """The child still has the swap entry of a page that the parent has back: a write must copy."""
    addr = swapped(task)
    child = task.fork()
    task.touch(addr, MB)
    task.mprotect(addr, MB, PROT_READ)
    task.mprotect(addr, MB, PROT_READ | PROT_WRITE)
    assert not (entries(task, addr, 256) & np.uint64(2)).any()
    task.touch(addr, MB, write=True)
    child.touch(addr, MB)
    kernel.check()
    assert not set(entries(task, addr, 256).tolist()) & set(entries(child, addr, 256).tolist())


def test_mlock_swaps_in(kernel: Any, task: Any) -> None:
    addr = swapped(task)
    task.mlock(addr, MB)
    kernel.check()
    assert task.mm.get_mm_counter(MM_SWAPENTS) == 0
    assert rows(kernel, "/proc/meminfo")["Mlocked"] == 1024
    assert rows(kernel, "/proc/meminfo")["SwapCached"] == 0


def test_madv_free_drops_entries(kernel: Any, task: Any) -> None:
    addr = swapped(task)
    task.touch(addr, MB // 2)
    task.madvise(addr, MB, MADV_FREE)
    kernel.check()
    assert task.mm.get_mm_counter(MM_SWAPENTS) == 0
    assert not entries(task, addr + MB // 2, 128).any()
    assert rows(kernel, "/proc/meminfo")["SwapCached"] == 0


def test_soft_dirty_stays(kernel: Any, task: Any) -> None:
    addr = swapped(task)
    kernel.write(f"/proc/{task.pid}/clear_refs", "4")
    assert not (entries(task, addr, 256) & np.uint64(SWP_SOFT_DIRTY)).any()
    task.touch(addr, MB)
    assert not (entries(task, addr, 256) & np.uint64(1 << 11 | 1 << 1)).any()
    task.touch(addr, MB, write=True)
    assert (entries(task, addr, 256) & np.uint64(1 << 11 | 1 << 1) == np.uint64(1 << 11 | 1 << 1)).all()


@pytest.mark.machine(ram="128M", swap="16M", cpus=2, preset="bare")
def test_full_swap_keeps_pages(kernel: Any, task: Any) -> None:
    addr = task.mmap(20 * MB)
    task.touch(addr, 20 * MB, write=True)
    task.madvise(addr, 20 * MB, MADV_PAGEOUT)
    kernel.check()
    assert task.mm.get_mm_counter(MM_SWAPENTS) == kernel.swap_info[0].pages
    assert rows(kernel, "/proc/meminfo")["SwapFree"] == 0


def test_when_swap_fills_up_copies_lose_their_slots(kernel: Any, task: Any) -> None:
    addr = swapped(task, 40 * MB)
    used = kernel.swap_info[0].inuse_pages
    task.touch(addr, MB)
    assert kernel.swap_info[0].inuse_pages <= used - 128
    assert rows(kernel, "/proc/meminfo")["SwapCached"] <= 8 * 4


def test_numa_maps(kernel: Any, task: Any) -> None:
    addr = swapped(task, gone=False)
    task.touch(addr, MB)
    kernel.run_for(1)
    assert " swapcache=256 active=" in kernel.read(f"/proc/{task.pid}/numa_maps").decode()


# ---------------------------------------------------------------------------------- shared memory


def shmem_out(task: Any, addr: int, pages: int) -> None:
    """Swap pages of shared memory out, as reclaim would."""
    kernel = task.kernel
    kernel.lru.lru_add_drain_all()
    pfns = (entries(task, addr, pages).astype(np.int64) >> 12) & (1 << 40) - 1
    kernel.reclaim.reclaim_pages(None, pfns)
    kernel.check()


def shared(task: Any, size: int = MB) -> int:
    addr: int = task.mmap(size, flags=MAP_SHARED | MAP_ANONYMOUS)
    task.touch(addr, size, write=True)
    return addr


def test_shared_memory_leaves_an_entry_in_its_file(kernel: Any, task: Any) -> None:
    before = rows(kernel, "/proc/meminfo")
    addr = shared(task)
    shmem_out(task, addr, 256)
    now = rows(kernel, "/proc/meminfo")
    assert now["Shmem"] == before["Shmem"]
    assert now["SwapCached"] == 1024
    assert task.mm.get_mm_counter(MM_SWAPENTS) == 0
    assert not entries(task, addr, 256).any()
    smaps = kernel.read(f"/proc/{task.pid}/smaps").decode()
    assert f"Swap:           {1024:8d} kB\nSwapPss:        {0:8d} kB" in smaps
    kernel.run_for(1)
    assert forget_copies(kernel) == 256
    major = task.maj_flt
    child = task.fork()
    child.touch(addr, MB // 2)
    task.touch(addr, MB, write=True)
    kernel.check()
    assert rows(kernel, "/proc/meminfo")["Shmem"] == before["Shmem"] + 1024
    assert task.maj_flt + child.maj_flt - major >= 256 // 8
    assert event(kernel, VmEventItem.PSWPIN) == 256
    assert rows(kernel, "/proc/meminfo")["SwapCached"] == 0


def test_a_fault_waits_for_the_write(kernel: Any, task: Any) -> None:
    addr = shared(task)
    shmem_out(task, addr, 256)
    began = kernel.clock.now_ns
    assert rows(kernel, "/proc/meminfo")["Writeback"] == 1024
    task.touch(addr, MB)
    kernel.check()
    assert rows(kernel, "/proc/meminfo")["Writeback"] == 0
    assert kernel.clock.now_ns > began


def test_truncating_frees_slots(kernel: Any, task: Any) -> None:
    fd = task.memfd_create("m")
    task.ftruncate(fd, MB)
    addr = task.mmap(MB, flags=MAP_SHARED, file=fd)
    task.touch(addr, MB, write=True)
    shmem_out(task, addr, 256)
    kernel.run_for(1)
    forget_copies(kernel)
    used = kernel.swap_info[0].inuse_pages
    task.ftruncate(fd, MB // 2)
    kernel.check()
    assert kernel.swap_info[0].inuse_pages <= used - 64
    assert task.read(fd, MB, 0) == MB // 2
    kernel.check()
    assert event(kernel, VmEventItem.PSWPIN) >= 128
    task.close(fd)
    task.exit()
    kernel.check()
    assert kernel.mmu.swap.nr_shmem_swapped == 0


def test_writing_a_swapped_out_file(kernel: Any, task: Any) -> None:
    fd = task.memfd_create("m")
    task.write(fd, MB, 0)
    addr = task.mmap(MB, flags=MAP_SHARED, file=fd)
    task.touch(addr, MB)
    shmem_out(task, addr, 256)
    task.write(fd, MB // 4, 0)
    kernel.check()
    assert kernel.mmu.swap.nr_shmem_swapped == 192


def test_swapoff_reads_shared_memory_back(kernel: Any, task: Any) -> None:
    addr = shared(task)
    shmem_out(task, addr, 256)
    kernel.run_for(1)
    forget_copies(kernel)
    kernel.swapoff("/dev/vdb")
    kernel.check()
    assert kernel.mmu.swap.nr_shmem_swapped == 0
    task.touch(addr, MB)
    assert kernel.swap_info == []


def test_willneed_reads_into_the_swap_cache(kernel: Any, task: Any) -> None:
    addr = swapped(task)
    other = shared(task)
    shmem_out(task, other, 256)
    kernel.run_for(1)
    forget_copies(kernel)
    task.madvise(addr, MB, MADV_WILLNEED)
    task.madvise(other, MB, MADV_WILLNEED)
    kernel.check()
    assert rows(kernel, "/proc/meminfo")["SwapCached"] == 2048
    assert event(kernel, VmEventItem.PSWPIN) == 512
    assert event(kernel, VmEventItem.SWAP_RA) == 0
    major = task.maj_flt
    task.touch(addr, MB)
    task.touch(other, MB)
    assert task.maj_flt == major
