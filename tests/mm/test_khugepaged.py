"""khugepaged and MADV_COLLAPSE: pages of 4 KB become huge ones. Linux: mm/khugepaged.c."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from mmfs.mm.mman import (
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_PAGEOUT,
    PROT_READ,
)
from tests.fidelity.compare import recorded
from tests.mm.test_huge_memory import HUGE, MB, SYS, smaps, vmstat

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

KHUGEPAGED = f"{SYS}/khugepaged"
pytestmark = pytest.mark.machine(ram="1G")


@pytest.fixture
def small(kernel: Kernel) -> tuple[Task, int]:
    """A process with 16 MB in pages of 4 KB that may be collapsed from now on."""
    task = kernel.spawn("hog")
    addr = task.mmap("16M")
    task.madvise(addr, "16M", MADV_NOHUGEPAGE)
    task.touch(addr, "16M", write=True)
    task.madvise(addr, "16M", MADV_HUGEPAGE)
    return task, addr


def test_it_collapses_eight_a_round(kernel: Kernel, small: tuple[Task, int]) -> None:
    task, addr = small
    kernel.run_for(10.5)
    first = vmstat(kernel, "thp_collapse_alloc")
    assert 7 <= first <= 8  # 4096 pages a round, less what it looked at on the way there
    kernel.run_for(10)
    kernel.check()
    assert smaps(task, addr, "AnonHugePages") == smaps(task, addr, "Rss") == 16384
    assert kernel.read(f"{KHUGEPAGED}/pages_collapsed") == b"8\n"
    assert vmstat(kernel, "thp_fault_alloc") == 0


def test_what_is_missing_becomes_memory(kernel: Kernel, small: tuple[Task, int]) -> None:
    """max_ptes_none = 511: one page is enough; with 0 none may be missing."""
    task, addr = small
    task.madvise(addr + 4096, HUGE - 4096, MADV_DONTNEED)
    kernel.write(f"{KHUGEPAGED}/max_ptes_none", b"0")
    kernel.run_for(25)
    assert smaps(task, addr, "Rss") == 16384 - 2044
    assert vmstat(kernel, "thp_scan_exceed_none_pte") >= 1
    kernel.write(f"{KHUGEPAGED}/max_ptes_none", b"511")
    kernel.run_for(25)
    assert smaps(task, addr, "Rss") == smaps(task, addr, "AnonHugePages") == 16384


def test_what_is_shared_or_read_only_stays(kernel: Kernel, small: tuple[Task, int]) -> None:
    task, addr = small
    task.mprotect(addr, HUGE, PROT_READ)
    child = task.fork()
    kernel.run_for(25)
    assert vmstat(kernel, "thp_collapse_alloc") == 0
    assert vmstat(kernel, "thp_scan_exceed_share_pte") >= 7
    child.exit()
    task.touch(addr + HUGE, 14 * MB, write=True)
    kernel.run_for(25)
    assert vmstat(kernel, "thp_collapse_alloc") == 7


def test_switched_off_it_sleeps(kernel: Kernel, small: tuple[Task, int]) -> None:
    kernel.write(f"{SYS}/enabled", b"never")
    kernel.run_for(30)
    assert vmstat(kernel, "thp_collapse_alloc") == 0
    kernel.write(f"{SYS}/enabled", b"madvise")
    kernel.run_for(30)
    assert vmstat(kernel, "thp_collapse_alloc") == 8


def test_madvise_collapses_at_once(kernel: Kernel, small: tuple[Task, int]) -> None:
    task, addr = small
    kernel.write(f"{SYS}/enabled", b"never")
    task.madvise(addr, "8M", MADV_PAGEOUT)
    with pytest.raises(OSError) as caught:  # no entry is writable where all is in swap
        task.madvise(addr, "8M", MADV_COLLAPSE)
    assert caught.value.errno == errno.EINVAL
    task.touch(addr, "8M", write=True, stride=HUGE)
    task.madvise(addr, "16M", MADV_COLLAPSE)
    kernel.check()
    assert smaps(task, addr, "AnonHugePages") == 16384
    assert smaps(task, addr, "Swap") == 0
    task.madvise(addr, "16M", MADV_COLLAPSE)  # they are there already
    task.madvise(addr, "16M", MADV_NOHUGEPAGE)
    with pytest.raises(OSError) as caught:
        task.madvise(addr, "16M", MADV_COLLAPSE)
    assert caught.value.errno == errno.EINVAL


def test_splitting_and_collapsing_again(kernel: Kernel, small: tuple[Task, int]) -> None:
    """A huge page that is mapped entry by entry is copied into a new one."""
    task, addr = small
    task.madvise(addr, "16M", MADV_COLLAPSE)
    task.mprotect(addr, "4K", PROT_READ)
    task.mprotect(addr, "4K", 3)
    kernel.check()
    task.madvise(addr, "16M", MADV_COLLAPSE)
    kernel.check()
    assert smaps(task, addr, "AnonHugePages") == 16384
    assert kernel.read(f"{SYS}/hugepages-2048kB/stats/nr_anon") == b"8\n"


STEPS = ("dontneed_half", "dontneed_4k", "mprotect_4k", "munmap")
COUNTS = ("thp_collapse_alloc", "thp_split_pmd", "thp_split_page", "thp_deferred_split_page", "thp_fault_alloc")


def test_as_recorded(kernel: Kernel) -> None:
    """A real kernel's counts while 128 MB are collapsed, cut up and unmapped (tests/golden/curves/hugepages-1G)."""
    real = recorded("hugepages-1G", "thp128_khugepaged_default_pages_to_scan")
    kernel.write(f"{KHUGEPAGED}/scan_sleep_millisecs", b"50")
    task = kernel.spawn("hog")
    addr = task.mmap("128M")
    task.madvise(addr, "128M", MADV_NOHUGEPAGE)
    task.touch(addr, "128M", write=True)
    task.madvise(addr, "128M", MADV_HUGEPAGE)
    start = {name: vmstat(kernel, name) for name in COUNTS}
    kernel.run_for(6)
    for step in STEPS:
        if step == "dontneed_half":
            task.madvise(addr + 64 * MB, "64M", MADV_DONTNEED)
        elif step == "dontneed_4k":
            task.madvise(addr + 4096, "4K", MADV_DONTNEED)
        elif step == "mprotect_4k":
            task.mprotect(addr + 4 * MB + 8192, "4K", PROT_READ)
        else:
            task.munmap(addr, "128M")
        kernel.check()
        for name in COUNTS:
            ours, theirs = vmstat(kernel, name) - start[name], real[step][name] - real["start"][name]
            assert ours == theirs, f"{step}: {name}"
        assert vmstat(kernel, "nr_anon_transparent_hugepages") * 2048 == real[step]["AnonHugePages"]
