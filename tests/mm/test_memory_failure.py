"""Memory that fails: what a real 6.12 answered for each kind of page. Linux: mm/memory-failure.c."""

from __future__ import annotations

import errno
from typing import Any

import numpy as np
import pytest

from mmfs.kernel.signal import SIGBUS
from mmfs.mm.memory_failure import EHWPOISON
from mmfs.mm.mman import MADV_HWPOISON, MADV_SOFT_OFFLINE, MAP_SHARED, PROT_READ, PROT_WRITE
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
