"""Memory that fails: what a real 6.12 answered for each kind of page. Linux: mm/memory-failure.c."""

from __future__ import annotations

import errno
from typing import Any

import numpy as np
import pytest

from mmfs.kernel import sched
from mmfs.kernel.signal import SIGBUS
from mmfs.mm.memory_failure import EHWPOISON
from mmfs.mm.mman import (
    MADV_HWPOISON,
    MADV_PAGEOUT,
    MADV_SOFT_OFFLINE,
    MAP_ANONYMOUS,
    MAP_HUGETLB,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
)
from tests.mm.test_page_idle import frames

PAGE = 4096
KPF_BUDDY, KPF_SLAB, KPF_HWPOISON = 10, 7, 19


def offline(kernel: Any, kind: str, pfn: int) -> int:
    """The errno that a real write(2) would have had."""
    try:
        kernel.write(f"/sys/devices/system/memory/{kind}_offline_page", f"{pfn * PAGE:#x}")
    except OSError as error:
        return error.errno or -1
    finally:
        kernel.check()
    return 0


def counts(kernel: Any) -> tuple[int, str]:
    """HardwareCorrupted in pages, and total/ignored/failed/delayed/recovered of node 0."""
    meminfo = dict(line.split(":") for line in kernel.read("/proc/meminfo").decode().splitlines())
    names = ("total", "ignored", "failed", "delayed", "recovered")
    node = "/sys/devices/system/node/node0/memory_failure"
    stats = [kernel.read(f"{node}/{name}").decode().strip() for name in names]
    return int(meminfo["HardwareCorrupted"].split()[0]) // 4, "/".join(stats)


def last(kernel: Any) -> str:
    """The last line of the log."""
    text: str = kernel.read("/dev/kmsg").decode().splitlines()[-1].split(";", 1)[1]
    return text


def flags(kernel: Any) -> Any:
    return np.frombuffer(kernel.read("/proc/kpageflags"), np.uint64)


def find(kernel: Any, kpf: int) -> int:
    """A frame with a flag."""
    return int(np.flatnonzero(flags(kernel) >> np.uint64(kpf) & np.uint64(1))[50])


@pytest.fixture
def used(kernel: Any) -> tuple[Any, int]:
    """A process with 64 pages."""
    task = kernel.spawn("hog")
    addr = task.mmap(64 * PAGE)
    task.touch(addr, 64 * PAGE, write=True)
    return task, addr


def test_free_memory_is_taken_from_the_buddy(kernel: Any) -> None:
    pfn = find(kernel, KPF_BUDDY)
    assert offline(kernel, "hard", pfn) == 0
    assert last(kernel) == f"Memory failure: {pfn:#x}: recovery action for free buddy page: Recovered"
    assert counts(kernel) == (1, "1/0/0/0/1")
    assert int(flags(kernel)[pfn]) >> KPF_HWPOISON & 1
    assert offline(kernel, "hard", pfn) == EHWPOISON
    assert offline(kernel, "soft", pfn) == 0
    assert counts(kernel) == (1, "1/0/0/0/1")
    assert offline(kernel, "soft", find(kernel, KPF_BUDDY)) == 0
    assert counts(kernel) == (2, "1/0/0/0/1")


def test_the_kernels_own_memory_cannot_be_helped(kernel: Any) -> None:
    pfn = find(kernel, KPF_SLAB)
    assert offline(kernel, "hard", pfn) == errno.EBUSY
    assert last(kernel).endswith("recovery action for get hwpoison page: Ignored")
    assert counts(kernel) == (1, "1/1/0/0/0")
    assert offline(kernel, "soft", find(kernel, KPF_SLAB) + 1) == errno.EIO
    for kind in ("hard", "soft"):
        assert offline(kernel, kind, 99_999_999) == errno.ENXIO


def test_a_page_that_is_moved_in_time_is_not_missed(kernel: Any, used: tuple[Any, int]) -> None:
    task, addr = used
    before = frames(task, addr, 64)
    assert offline(kernel, "soft", before[2]) == 0
    after = frames(task, addr, 64)
    assert after[2] != before[2] and after[:2] + after[3:] == before[:2] + before[3:]
    task.touch(addr, 64 * PAGE, write=True)
    assert counts(kernel) == (1, "0/0/0/0/0")
    task.madvise(addr, PAGE, MADV_SOFT_OFFLINE)
    assert frames(task, addr, 1) != before[:1]


def test_lost_memory_kills_who_touches_it(kernel: Any, used: tuple[Any, int]) -> None:
    task, addr = used
    (pfn,) = frames(task, addr + 3 * PAGE, 1)
    assert offline(kernel, "hard", pfn) == 0
    assert last(kernel) == f"Memory failure: {pfn:#x}: recovery action for dirty LRU page: Recovered"
    assert counts(kernel) == (1, "1/0/0/0/1")
    child = task.fork()
    task.touch(addr, 3 * PAGE, write=True)
    with pytest.raises(Exception, match="SIGBUS"):
        task.touch(addr + 3 * PAGE, PAGE)
    with pytest.raises(Exception, match="SIGBUS"):
        child.touch(addr + 3 * PAGE, PAGE)
    kernel.check()


def test_who_maps_it_is_killed_early_if_so_wanted(kernel: Any, used: tuple[Any, int]) -> None:
    task, addr = used
    kernel.write("/proc/sys/vm/memory_failure_early_kill", "1")
    (pfn,) = frames(task, addr, 1)
    assert offline(kernel, "hard", pfn) == 0
    assert f"Sending SIGBUS to hog:{task.pid} due to hardware memory corruption" in kernel.read("/dev/kmsg").decode()
    kernel.run_for(1)
    assert task.exit_code & 127 == SIGBUS
    assert counts(kernel) == (1, "1/0/0/0/1")


def test_files_are_read_again_and_what_was_written_is_lost(kernel: Any) -> None:
    kernel.create_file("/data/f", 64 * PAGE)
    task = kernel.spawn("db")
    addr = task.mmap(64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file="/data/f")
    task.touch(addr, 64 * PAGE)
    clean, dirty = frames(task, addr, 1)[0], frames(task, addr + PAGE, 1)[0]
    task.touch(addr + PAGE, PAGE, write=True)
    assert offline(kernel, "hard", clean) == 0
    assert last(kernel).endswith("recovery action for clean LRU page: Recovered")
    task.touch(addr, PAGE)
    assert offline(kernel, "hard", dirty) == 0
    assert last(kernel).endswith("recovery action for dirty LRU page: Recovered")
    fd = task.open("/data/f")
    with pytest.raises(OSError) as caught:
        task.fsync(fd)
    assert caught.value.errno == errno.EIO
    task.fsync(fd)  # who has been told is not told again
    with pytest.raises(Exception, match="SIGBUS"):
        task.touch(addr + PAGE, PAGE)
    kernel.check()


@pytest.mark.machine(ram="1G")
def test_only_a_part_of_a_huge_page_is_lost(kernel: Any) -> None:
    task = kernel.spawn("hog")
    addr = task.mmap(2 << 20)
    task.touch(addr, 2 << 20, write=True)
    (pfn,) = frames(task, addr + 9 * PAGE, 1)
    assert offline(kernel, "hard", pfn) == 0
    task.touch(addr, 9 * PAGE, write=True)
    with pytest.raises(Exception, match="SIGBUS"):
        task.touch(addr + 9 * PAGE, PAGE)


def test_madvise_injects_a_failure(kernel: Any, used: tuple[Any, int]) -> None:
    task, addr = used
    with pytest.raises(Exception, match="SIGBUS"):  # at once: who injects it counts as having touched it
        task.madvise(addr, PAGE, MADV_HWPOISON)
    assert counts(kernel) == (1, "1/0/0/0/1")
    kernel.check()


def meminfo(kernel: Any, *names: str) -> list[int]:
    """Rows in pages."""
    rows = dict(line.split(":") for line in kernel.read("/proc/meminfo").decode().splitlines())
    return [int(rows[name].split()[0]) // 4 for name in names]


def swapped_in(kernel: Any, write: bool) -> tuple[Any, int]:
    """A process whose 64 pages are mapped and, as they were swapped in, in the swap cache, too."""
    task = kernel.spawn("hog")
    addr = task.mmap(64 * PAGE)
    task.touch(addr, 64 * PAGE, write=True)
    task.madvise(addr, 64 * PAGE, MADV_PAGEOUT)
    kernel.run_for(1)
    task.touch(addr, 64 * PAGE)
    if write:
        task.touch(addr, 64 * PAGE, write=True)
    assert meminfo(kernel, "SwapCached") == [64]
    return task, addr


@pytest.mark.machine(ram="512M", swap="64M")
def test_what_swap_has_too_is_read_again(kernel: Any) -> None:
    task, addr = swapped_in(kernel, write=False)
    (pfn,) = frames(task, addr + 2 * PAGE, 1)
    assert offline(kernel, "hard", pfn) == 0
    assert last(kernel).endswith("recovery action for clean swapcache page: Recovered")
    assert counts(kernel) == (1, "1/0/0/0/1") and meminfo(kernel, "SwapCached") == [63]
    before = task.maj_flt
    task.touch(addr, 64 * PAGE)
    assert task.maj_flt == before + 1 and meminfo(kernel, "SwapCached") == [64]
    kernel.check()


@pytest.mark.machine(ram="512M", swap="64M")
@pytest.mark.parametrize("end", ["touch", "munmap", "swapoff"])
def test_what_is_newer_than_what_swap_has_is_lost(kernel: Any, end: str) -> None:
    task, addr = swapped_in(kernel, write=True)
    (pfn,) = frames(task, addr + 2 * PAGE, 1)
    (anon,) = meminfo(kernel, "AnonPages")
    assert offline(kernel, "hard", pfn) == 0
    assert last(kernel).endswith("recovery action for dirty swapcache page: Delayed")
    assert counts(kernel) == (1, "1/0/0/1/0")
    assert meminfo(kernel, "SwapCached", "AnonPages") == [64, anon - 1]
    if end == "swapoff":
        kernel.swapoff(kernel.read("/proc/swaps").decode().split("\n")[1].split()[0])
        kernel.check()
        assert meminfo(kernel, "SwapCached", "AnonPages") == [0, anon - 1]
    if end == "munmap":
        task.munmap(addr, 64 * PAGE)
        assert meminfo(kernel, "SwapCached", "AnonPages") == [0, anon - 64]
    else:
        with pytest.raises(Exception, match="SIGBUS"):
            task.touch(addr, 64 * PAGE)
    kernel.check()
    assert counts(kernel)[0] == 1 and int(flags(kernel)[pfn]) & ~(1 << KPF_HWPOISON) == 0


def test_shared_memory_keeps_what_is_lost(kernel: Any) -> None:
    task = kernel.spawn("hog")
    fd = task.memfd_create("shared")
    task.ftruncate(fd, 64 * PAGE)
    addr = task.mmap(64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file=fd)
    task.touch(addr, 64 * PAGE, write=True)
    (pfn,) = frames(task, addr + 2 * PAGE, 1)
    before = meminfo(kernel, "Shmem")
    assert offline(kernel, "hard", pfn) == 0
    assert last(kernel).endswith("recovery action for dirty LRU page: Recovered")
    assert meminfo(kernel, "Shmem") == before
    assert task.read(fd, 64 * PAGE, 0) == 2 * PAGE
    for call in (task.read, task.write):
        with pytest.raises(OSError) as caught:
            call(fd, PAGE, 2 * PAGE)
        assert caught.value.errno == errno.EIO
        assert call(fd, PAGE, 3 * PAGE) == PAGE
    other = kernel.spawn("other")
    there = other.mmap(64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file=task.files.fdt[fd])
    other.touch(there, 2 * PAGE)
    with pytest.raises(Exception, match="SIGBUS"):
        other.touch(there + 2 * PAGE, PAGE)
    with pytest.raises(Exception, match="SIGBUS"):
        task.touch(addr, 64 * PAGE)
    kernel.run_for(1)
    assert meminfo(kernel, "Shmem") == [before[0] - 64]
    assert counts(kernel) == (1, "1/0/0/0/1")
    kernel.check()


def hugetlb(kernel: Any) -> list[int]:
    rows = dict(line.split(":") for line in kernel.read("/proc/meminfo").decode().splitlines())
    return [int(rows[f"HugePages_{name}"]) for name in ("Total", "Free", "Rsvd")]


@pytest.mark.machine(ram="512M")
@pytest.mark.parametrize("shared", [False, True])
def test_a_huge_page_of_a_pool(kernel: Any, shared: bool) -> None:
    kernel.write("/proc/sys/vm/nr_hugepages", "8")
    task = kernel.spawn("hog")
    how = MAP_ANONYMOUS | MAP_HUGETLB | (MAP_SHARED if shared else MAP_PRIVATE)
    addr = task.mmap(8 << 20, PROT_READ | PROT_WRITE, how)
    task.touch(addr, 4 << 20, write=True)
    task.madvise(addr + (2 << 20), PAGE, MADV_SOFT_OFFLINE)
    assert counts(kernel) == (1, "0/0/0/0/0") and hugetlb(kernel) == [7, 5, 2]
    kernel.check()
    with pytest.raises(Exception, match="SIGBUS"):
        task.madvise(addr + PAGE, PAGE, MADV_HWPOISON)
    assert "recovery action for huge page: Recovered" in kernel.read("/dev/kmsg").decode()
    kernel.run_for(1)
    kernel.check()
    assert counts(kernel) == (2, "1/0/0/0/1")
    assert hugetlb(kernel) == ([7, 6, 0] if shared else [6, 6, 0])
    kernel.write("/proc/sys/vm/nr_hugepages", "0")
    assert hugetlb(kernel)[0] == shared
    kernel.check()


def test_a_process_says_when_it_is_killed(kernel: Any, used: tuple[Any, int]) -> None:
    task, addr = used
    assert task.prctl(sched.PR_MCE_KILL_GET) == sched.PR_MCE_KILL_DEFAULT
    for odd in ((sched.PR_MCE_KILL_CLEAR, 1), (sched.PR_MCE_KILL_SET, 3), (2,)):
        with pytest.raises(OSError, match="no such policy"):
            task.prctl(sched.PR_MCE_KILL, *odd)
    task.prctl(sched.PR_MCE_KILL, sched.PR_MCE_KILL_SET, sched.PR_MCE_KILL_LATE)
    kernel.write("/proc/sys/vm/memory_failure_early_kill", "1")
    assert task.prctl(sched.PR_MCE_KILL_GET) == sched.PR_MCE_KILL_LATE
    assert offline(kernel, "hard", frames(task, addr, 1)[0]) == 0
    kernel.run_for(1)
    assert task.alive
    kernel.write("/proc/sys/vm/memory_failure_early_kill", "0")
    child = task.fork()
    child.prctl(sched.PR_MCE_KILL, sched.PR_MCE_KILL_SET, sched.PR_MCE_KILL_EARLY)
    assert offline(kernel, "hard", frames(task, addr + PAGE, 1)[0]) == 0
    kernel.run_for(1)
    assert task.alive and not child.alive
    task.prctl(sched.PR_MCE_KILL, sched.PR_MCE_KILL_CLEAR, 0)
    assert task.prctl(sched.PR_MCE_KILL_GET) == sched.PR_MCE_KILL_DEFAULT
