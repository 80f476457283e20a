"""Huge pages in swap: what gets a cluster of slots whole, comes back from the swap cache whole, or is split there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mmfs.fs.proc.page import Kpf
from mmfs.mm.mman import MADV_DONTNEED, MADV_PAGEOUT
from mmfs.mm_types import PG_SWAPCACHE, PG_WRITEBACK
from tests.mm.test_huge_memory import HUGE, SYS, smaps, vmstat

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

NR = 512
PAGE = 4096
SWAP = "/dev/vdb"
pytestmark = pytest.mark.machine(ram="1G")


def fast_swap(kernel: Kernel, path: str = SWAP) -> None:
    """Have the swap disk be one without seek times."""
    kernel.swapoff(path)
    kernel.write("/sys/block/vdb/queue/rotational", b"0")
    kernel.swapon(path)


@pytest.fixture
def out(kernel: Kernel) -> tuple[Task, int]:
    """A process with a huge page that is on its way to a disk without seek times, and 6 MB behind it."""
    fast_swap(kernel)
    task = kernel.spawn("hog")
    addr = task.mmap("8M")
    task.touch(addr, HUGE, write=True)
    task.madvise(addr, HUGE, MADV_PAGEOUT)
    return task, addr


def cached(kernel: Kernel) -> list[int]:
    """The huge pages that are in the swap cache: the flags of each."""
    flags = kernel.frames.pages["flags"][kernel.frames.huge :]
    return [int(one) for one in flags if one & PG_SWAPCACHE]


def test_it_is_written_whole(kernel: Kernel, out: tuple[Task, int]) -> None:
    task, addr = out
    assert vmstat(kernel, "thp_swpout") == vmstat(kernel, "thp_split_pmd") == 1
    assert vmstat(kernel, "thp_split_page") == vmstat(kernel, "thp_swpout_fallback") == 0
    assert kernel.read(f"{SYS}/hugepages-2048kB/stats/swpout") == b"1\n"
    assert vmstat(kernel, "pswpout") == vmstat(kernel, "nr_swapcached") == NR
    assert smaps(task, addr, "Swap") == 2048 and smaps(task, addr, "Rss") == 0
    assert [bool(flags & PG_WRITEBACK) for flags in cached(kernel)] == [True]
    requests = int(kernel.read("/sys/block/vdb/stat").split()[4])
    kernel.run_for(0.1)
    assert vmstat(kernel, "nr_writeback") == 0 and vmstat(kernel, "pgrotated") == NR
    assert int(kernel.read("/sys/block/vdb/stat").split()[4]) - requests in (0, 2)  # of 1280 and 768 KB


def test_frames_of_one_that_is_cached(kernel: Kernel, out: tuple[Task, int]) -> None:
    (block,) = np.flatnonzero(kernel.frames.pages["flags"][kernel.frames.huge :] & PG_SWAPCACHE).tolist()
    raw = kernel.vfs.open("/proc/kpageflags", 0).read(NR * 8, block * NR * 8)
    flags = np.frombuffer(raw, "<u8")
    wanted = 1 << Kpf.SWAPCACHE | 1 << Kpf.WRITEBACK | 1 << Kpf.THP | 1 << Kpf.ANON
    assert (flags & wanted == wanted).all() and not (flags & 1 << Kpf.MMAP).any()


def test_a_swap_file_has_no_room_for_it(kernel: Kernel) -> None:
    """Only disks of their own give clusters."""
    kernel.swapoff(SWAP)
    kernel.write("/sys/block/vda/queue/rotational", b"0")
    kernel.create_file("/swapfile", 16 << 20)
    kernel.mkswap("/swapfile")
    kernel.swapon("/swapfile")
    task = kernel.spawn("hog")
    addr = task.mmap("4M")
    task.touch(addr, HUGE, write=True)
    task.madvise(addr, HUGE, MADV_PAGEOUT)
    assert (vmstat(kernel, "thp_swpout"), vmstat(kernel, "thp_swpout_fallback")) == (0, 1)
    assert smaps(task, addr, "Swap") == 2048


def test_a_fault_on_what_is_cached_maps_all_of_it(kernel: Kernel, out: tuple[Task, int]) -> None:
    task, addr = out
    kernel.run_for(0.1)
    faults = vmstat(kernel, "pgfault")
    task.touch(addr + 7 * PAGE, PAGE, write=True)
    assert vmstat(kernel, "pgfault") == faults + 1
    assert smaps(task, addr, "Rss") == 2048 and smaps(task, addr, "AnonHugePages") == 0
    assert vmstat(kernel, "pswpin") == vmstat(kernel, "nr_swapcached") == 0
    kernel.check()
    task.touch(addr, HUGE, write=True)
    assert vmstat(kernel, "pgfault") == faults + 1  # all were made writable
    task.madvise(addr, HUGE, MADV_PAGEOUT)
    assert vmstat(kernel, "thp_swpout") == 2


def test_a_part_of_it_comes_back_alone(kernel: Kernel, out: tuple[Task, int]) -> None:
    """With one entry gone they do not stand together any more: each fault maps one page of what is cached."""
    task, addr = out
    kernel.run_for(0.1)
    task.madvise(addr, PAGE, MADV_DONTNEED)
    task.touch(addr + PAGE, 2 * PAGE, write=True)
    assert smaps(task, addr, "Rss") == 8 and smaps(task, addr, "Swap") == 2048 - 12
    kernel.check()
    task.munmap(addr, HUGE)
    assert vmstat(kernel, "nr_swapcached") == 0 and cached(kernel) == []
    assert kernel.swap_info[0].inuse_pages == 0


def test_a_child_has_the_entries_too(kernel: Kernel, out: tuple[Task, int]) -> None:
    task, addr = out
    child = task.fork()
    kernel.run_for(0.1)
    child.touch(addr, HUGE)
    assert vmstat(kernel, "nr_swapcached") == NR
    child.touch(addr, PAGE, write=True)
    kernel.check()
    task.exit()
    kernel.check()
    child.touch(addr, HUGE, write=True)
    child.exit()
    assert kernel.swap_info[0].inuse_pages == 0 and cached(kernel) == []


def test_it_is_split_in_the_swap_cache(kernel: Kernel, out: tuple[Task, int]) -> None:
    """Not while it is being written; then its pages are in the swap cache each by itself."""
    task, addr = out
    kernel.write("/sys/kernel/debug/split_huge_pages", b"1")
    assert vmstat(kernel, "thp_split_page") == 0
    kernel.run_for(0.1)
    kernel.write("/sys/kernel/debug/split_huge_pages", b"1")
    assert vmstat(kernel, "thp_split_page") == 1 and cached(kernel) == []
    assert vmstat(kernel, "nr_swapcached") == NR
    kernel.check()
    task.touch(addr, HUGE, write=True)
    assert vmstat(kernel, "pswpin") == 0 and smaps(task, addr, "Rss") == 2048


def test_swapoff_brings_it_back(kernel: Kernel, out: tuple[Task, int]) -> None:
    task, addr = out
    kernel.swapoff(SWAP)
    assert smaps(task, addr, "Rss") == 2048 and vmstat(kernel, "pswpin") == 0
    kernel.check()


@pytest.mark.machine(ram="1G", swap="6M")
def test_without_a_free_cluster_it_is_split(kernel: Kernel) -> None:
    """Of three clusters the first has the header: two pages go whole, the third in parts, to slots of all clusters."""
    fast_swap(kernel)
    task = kernel.spawn("hog")
    addr = task.mmap("8M")
    task.touch(addr, "6M", write=True)
    task.madvise(addr, "6M", MADV_PAGEOUT)
    assert (vmstat(kernel, "thp_swpout"), vmstat(kernel, "thp_swpout_fallback")) == (2, 1)
    assert vmstat(kernel, "thp_split_page") == 1
    kernel.check()
    task.munmap(addr + PAGE, 4 * PAGE)  # slots of a cluster that was taken whole
    task.touch(addr + 3 * HUGE, 4 * PAGE, write=True)
    kernel.run_for(0.1)
    task.touch(addr + 2 * HUGE, HUGE, write=True)
    task.madvise(addr + 2 * HUGE, HUGE, MADV_PAGEOUT)
    kernel.check()


@pytest.mark.machine(ram="1G", cmdline="zram.num_devices=1")
def test_zram_takes_it_at_once(kernel: Kernel) -> None:
    if kernel.swap_info:
        kernel.swapoff(SWAP)
    kernel.write("/sys/block/zram0/disksize", b"64M")
    kernel.mkswap("/dev/zram0")
    kernel.swapon("/dev/zram0")
    task = kernel.spawn("hog")
    addr = task.mmap("4M")
    task.touch(addr, "4M", write=True)
    task.madvise(addr, "4M", MADV_PAGEOUT)
    assert vmstat(kernel, "thp_swpout") == 2 and vmstat(kernel, "nr_swapcached") == 0
    assert smaps(task, addr, "Swap") == 4096
    kernel.check()
    task.touch(addr, "4M")
    assert vmstat(kernel, "pswpin") == 2 * NR
