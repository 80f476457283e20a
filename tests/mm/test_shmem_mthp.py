"""Folios of 16 KB to 1 MB for shared memory: how they are mapped, swapped, split, moved, and lost.

Linux: mm/shmem.c. What a real kernel counts is asked in tests/differential/test_shmem_mthp.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mmfs.mm.mman import MADV_HWPOISON, MADV_PAGEOUT, MADV_REMOVE, MAP_ANONYMOUS, MAP_FIXED, MAP_SHARED
from tests.mm.test_huge_memory import smaps, vmstat
from tests.mm.test_mthp import KB, MB, PAGE, SPLIT, SYS, stat
from tests.mm.test_page_idle import frames
from tests.mm.test_shmem_thp import read_node

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

SHARED = MAP_SHARED | MAP_ANONYMOUS
pytestmark = pytest.mark.machine(ram="128M", swap="64M")


def allow(kernel: Kernel, **modes: str) -> None:
    """For whom sizes are enabled: `k64="always"`."""
    for size, mode in modes.items():
        kernel.write(f"{SYS}/hugepages-{size.removeprefix('k')}kB/shmem_enabled", mode.encode())


def shared(kernel: Kernel, size: int = 2 * MB, **modes: str) -> tuple[Task, int]:
    """A process that has written to so much shared memory, in folios of 64 KB if nothing else is said."""
    allow(kernel, **(modes or {"k64": "always"}))
    task = kernel.spawn("hog")
    addr = task.mmap(size, flags=SHARED)
    task.touch(addr, size, write=True)
    return task, addr


@pytest.fixture
def quick(kernel: Kernel) -> Kernel:
    """The machine, whose swap disk does not seek."""
    kernel.swapoff("/dev/vdb")
    kernel.write("/sys/block/vdb/queue/rotational", "0")
    kernel.swapon("/dev/vdb")
    return kernel


def test_a_fault_maps_all_of_it(kernel: Kernel) -> None:
    """64 KB with each; a part that is unmapped splits nothing; a child maps what lies around what it reads."""
    task, addr = shared(kernel)
    assert stat(kernel, 64, "shmem_alloc") == 32 and smaps(task, addr, "Rss") == 2048
    task.munmap(addr + MB, 20 * KB)
    assert smaps(task, addr, "Rss") == 1024 and stat(kernel, 64, "split") == 0
    kernel.check()
    child = task.fork()
    child.touch(addr, PAGE)
    assert smaps(child, addr, "Rss") == 64
    child.touch(addr + 128 * KB, PAGE, write=True)
    assert smaps(child, addr, "Rss") == 128
    kernel.check()


def test_the_largest_that_fits(kernel: Kernel) -> None:
    """What lies behind the last boundary of a size gets smaller ones, one below the smallest a page."""
    task, addr = shared(kernel, MB + 84 * KB, k16="always", k64="always", k512="always")
    assert [stat(kernel, size, "shmem_alloc") for size in (16, 64, 512)] == [1, 1, 2]
    assert smaps(task, addr, "Rss") == 1024 + 84


@pytest.mark.parametrize("generations", ["n", "y"])
def test_swapped(quick: Kernel, generations: str) -> None:
    """Whole, in slots side by side; read back page by page; those in the swap cache come back as they were."""
    quick.write("/sys/kernel/mm/lru_gen/enabled", generations)
    task, addr = shared(quick, k16="always", k256="always")
    task.madvise(addr, 2 * MB, MADV_PAGEOUT)
    assert stat(quick, 256, "swpout") == 8 and vmstat(quick, "pswpout") == 512
    quick.check()
    task.touch(addr + 300 * KB, PAGE)
    assert vmstat(quick, "pswpin") == 0 and smaps(task, addr, "Rss") == 256
    quick.check()
    quick.run_for(1)
    task.madvise(addr, 2 * MB, MADV_PAGEOUT)
    quick.run_for(1)
    task.madvise(addr, 2 * MB, MADV_PAGEOUT)
    quick.check()
    task.madvise(addr + 512 * KB, 300 * KB, MADV_REMOVE)  # one whole, of the next a part: it comes back for that
    quick.check()
    task.touch(addr, 2 * MB, write=True)
    assert smaps(task, addr, "Rss") == 2048 and smaps(task, addr, "Swap") == 0
    assert stat(quick, 256, "split") == 1
    quick.check()


def test_swapoff(quick: Kernel) -> None:
    """All comes back."""
    task, addr = shared(quick)
    task.madvise(addr, 2 * MB, MADV_PAGEOUT)
    quick.run_for(1)
    task.touch(addr + 4 * PAGE, PAGE)
    quick.swapoff("/dev/vdb")
    quick.check()
    task.touch(addr, 2 * MB)
    assert smaps(task, addr, "Rss") == 2048


def test_a_disk_that_seeks(kernel: Kernel) -> None:
    """Each is split for it."""
    task, addr = shared(kernel)
    task.madvise(addr, 2 * MB, MADV_PAGEOUT)
    kernel.run_for(1)
    assert stat(kernel, 64, "split") == 32 and stat(kernel, 64, "swpout") == 0 and vmstat(kernel, "pswpout") == 512
    kernel.check()


def test_holes_and_ends(kernel: Kernel) -> None:
    """What is whole goes whole; a part splits it, and nothing maps what is left until it is used."""
    task, addr = shared(kernel)
    before = vmstat(kernel, "nr_shmem")
    task.madvise(addr + 60 * KB, 72 * KB, MADV_REMOVE)
    assert stat(kernel, 64, "split") == 2 and vmstat(kernel, "nr_shmem") == before - 18
    assert smaps(task, addr, "Rss") == 2048 - 3 * 64
    kernel.check()
    task.touch(addr, MB, write=True)
    assert stat(kernel, 64, "shmem_alloc") == 33 and vmstat(kernel, "nr_shmem") == before
    kernel.check()
    task.exit()
    assert vmstat(kernel, "nr_shmem") == before - 512


def test_written_without_a_name(kernel: Kernel) -> None:
    """A write to an unlinked file brings single pages; it goes through folios that mappings have brought."""
    allow(kernel, k64="always")
    task = kernel.spawn("hog")
    fd = task.open("/dev/shm/f", 0o102)
    task.ftruncate(fd, MB)
    addr = task.mmap(MB, flags=MAP_SHARED | MAP_FIXED, file="/dev/shm/f", addr=0x7000_0000_0000)
    task.unlink("/dev/shm/f")
    task.touch(addr + 64 * KB, 64 * KB, write=True)
    assert stat(kernel, 64, "shmem_alloc") == 1
    task.write(fd, 192 * KB, 0)
    task.touch(addr, MB, write=True)
    assert stat(kernel, 64, "shmem_alloc") == 1 + 13
    kernel.check()
    task.ftruncate(fd, 100)
    kernel.check()


def test_split_by_request(kernel: Kernel) -> None:
    """split_huge_pages makes them single pages."""
    task, addr = shared(kernel)
    kernel.write(SPLIT, f"{task.pid},{addr:#x},{addr + 128 * KB:#x}".encode())
    assert stat(kernel, 64, "split") == 2 and smaps(task, addr, "Rss") == 2048 - 128
    kernel.check()
    task.touch(addr, 128 * KB)
    assert smaps(task, addr, "Rss") == 2048


def test_compaction_moves_them_whole(kernel: Kernel) -> None:
    task, addr = shared(kernel, 4 * MB, k16="always")
    for offset in range(0, 4 * MB, 32 * KB):
        task.madvise(addr + offset, 16 * KB, MADV_REMOVE)
    moved = vmstat(kernel, "pgmigrate_success")
    kernel.write("/proc/sys/vm/compact_memory", b"1")
    assert vmstat(kernel, "pgmigrate_success") >= moved + 4
    assert stat(kernel, 16, "split") <= 8  # where no block was free for them
    kernel.check()


@pytest.mark.machine(ram="256M", nodes=2)
def test_moving(kernel: Kernel) -> None:
    """To another node whole, with all its entries."""
    task, addr = shared(kernel)
    node = read_node(task, addr)
    before = vmstat(kernel, "nr_shmem")
    task.migrate_pages(0, [node], [1 - node])
    kernel.check()
    assert read_node(task, addr + 5 * PAGE) == 1 - node
    assert stat(kernel, 64, "split") == 0 and vmstat(kernel, "nr_shmem") == before
    assert vmstat(kernel, "nr_shmem_hugepages") == vmstat(kernel, "thp_migration_success") == 0


def test_memory_that_fails(kernel: Kernel) -> None:
    """Its folio is split, and one page is lost."""
    task, addr = shared(kernel)
    task.madvise(addr + 20 * PAGE, PAGE, MADV_HWPOISON)
    assert stat(kernel, 64, "split") == 1 and vmstat(kernel, "nr_shmem") >= 511
    kernel.check()
    task.touch(addr, 20 * PAGE)
    kernel.check()


def test_locked(kernel: Kernel) -> None:
    """mlock() locks those that are mapped whole."""
    task, addr = shared(kernel)
    task.mlock(addr, MB)
    assert vmstat(kernel, "nr_mlock") == 256
    kernel.check()
    task.munlock(addr, MB)
    assert vmstat(kernel, "nr_mlock") == 0
    kernel.check()


def test_flags(kernel: Kernel) -> None:
    """/proc/kpageflags: heads and tails, all mapped."""
    task, addr = shared(kernel)
    pfn = frames(task, addr, 1)[0]
    raw = kernel.vfs.open("/proc/kpageflags", 0).read(16 * 8, pfn * 8)
    flags = [int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8)]
    mmap, head, tail, swapbacked = 1 << 11, 1 << 15, 1 << 16, 1 << 14
    assert all(one & (mmap | swapbacked) == mmap | swapbacked for one in flags)
    assert flags[0] & (head | tail) == head and all(one & (head | tail) == tail for one in flags[1:])
