"""Transparent huge pages: who gets one, what takes it apart, what the counters say. Linux: mm/huge_memory.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mmfs.mm.mman import (
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_HUGEPAGE,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_PAGEOUT,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

MB = 1 << 20
HUGE = 2 * MB
SYS = "/sys/kernel/mm/transparent_hugepage"
pytestmark = pytest.mark.machine(ram="1G")


def vmstat(kernel: Kernel, name: str) -> int:
    """One row of /proc/vmstat."""
    rows = dict(line.split() for line in kernel.read("/proc/vmstat").decode().splitlines())
    return int(rows[name])


def smaps(task: Task, addr: int, name: str) -> int:
    """A row of the mapping at an address."""
    text = task.kernel.read(f"/proc/{task.pid}/smaps").decode().split(f"{addr:08x}-", 1)[1]
    return int(next(line for line in text.splitlines() if line.startswith(f"{name}:")).split()[1])


@pytest.fixture
def hog(kernel: Kernel) -> tuple[Task, int]:
    """A process with 16 MB on a boundary of 2 MB."""
    task = kernel.spawn("hog")
    return task, task.mmap("16M")


def test_a_fault_brings_2_mb(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    assert addr % HUGE == 0
    faults = vmstat(kernel, "pgfault")
    task.touch(addr, "8M", write=True)
    assert vmstat(kernel, "pgfault") == faults + 4
    assert vmstat(kernel, "thp_fault_alloc") == vmstat(kernel, "nr_anon_transparent_hugepages") == 4
    assert smaps(task, addr, "AnonHugePages") == smaps(task, addr, "Rss") == 8192
    assert smaps(task, addr, "THPeligible") == 1
    stats = f"{SYS}/hugepages-2048kB/stats"
    assert kernel.read(f"{stats}/anon_fault_alloc") == kernel.read(f"{stats}/nr_anon") == b"4\n"


@pytest.mark.parametrize(
    ("enabled", "advice", "huge"),
    [
        ("always", None, True), ("always", MADV_NOHUGEPAGE, False), ("madvise", None, False),
        ("madvise", MADV_HUGEPAGE, True), ("never", MADV_HUGEPAGE, False),
    ],
)  # fmt: skip
def test_who_gets_one(kernel: Kernel, hog: tuple[Task, int], enabled: str, advice: int | None, huge: bool) -> None:
    task, addr = hog
    kernel.write(f"{SYS}/enabled", enabled.encode())
    if advice is not None:
        task.madvise(addr, "16M", advice)
    task.touch(addr, "2M", write=True)
    assert vmstat(kernel, "thp_fault_alloc") == int(huge)
    assert smaps(task, addr, "THPeligible") == int(huge)


def test_prctl_and_its_heirs(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, _ = hog
    task.prctl(41, 1)
    assert task.prctl(42) == 1
    child = task.fork()
    addr = child.mmap("4M")
    child.touch(addr, "4M", write=True)
    assert vmstat(kernel, "thp_fault_alloc") == 0
    assert b"THP_enabled:\t0\n" in kernel.read(f"/proc/{child.pid}/status")
    assert smaps(child, addr, "THPeligible") == 0


def test_a_mapping_that_spans_none(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    task.munmap(addr + HUGE - 4096, "4K")
    task.touch(addr, HUGE - 4096, write=True)
    assert vmstat(kernel, "thp_fault_alloc") == 0


def test_small_machines_have_it_off(boot: Callable[..., Kernel]) -> None:
    kernel = boot(ram="500M", cpus=1, seed=1, preset="bare")
    assert kernel.read(f"{SYS}/enabled") == b"always madvise [never]\n"
    assert kernel.read(f"{SYS}/defrag").endswith(b"[never]\n")


def test_the_command_line(boot: Callable[..., Kernel]) -> None:
    kernel = boot(ram="1G", cpus=1, seed=1, preset="bare", cmdline="transparent_hugepage=madvise")
    assert kernel.read(f"{SYS}/enabled") == b"always [madvise] never\n"


def test_unmapping_part_takes_the_entry_apart(kernel: Kernel, hog: tuple[Task, int]) -> None:
    """The huge page stays whole until memory is short: then what is unmapped of it is free."""
    task, addr = hog
    task.touch(addr, "4M", write=True)
    free = vmstat(kernel, "nr_free_pages")
    task.munmap(addr + MB, MB)
    assert vmstat(kernel, "thp_split_pmd") == vmstat(kernel, "thp_deferred_split_page") == 1
    assert vmstat(kernel, "nr_anon_transparent_hugepages") == 1
    assert vmstat(kernel, "nr_free_pages") == free
    kernel.write("/proc/sys/vm/drop_caches", b"2")
    assert vmstat(kernel, "thp_split_page") == 1
    kernel.page_alloc.drain_all_pages()
    assert vmstat(kernel, "nr_free_pages") >= free + 256
    task.touch(addr, MB)


def test_unmapping_the_rest_frees_it(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    task.touch(addr, HUGE, write=True)
    task.madvise(addr + 4096, "4K", MADV_DONTNEED)
    task.munmap(addr, HUGE)
    assert vmstat(kernel, "thp_split_page") == 0
    assert kernel.read(f"{SYS}/hugepages-2048kB/stats/nr_anon") == b"0\n"


def test_a_child_shares_and_copies_pages(kernel: Kernel, hog: tuple[Task, int]) -> None:
    """fork() shares the entry; a write takes the writer's apart and copies one page."""
    task, addr = hog
    task.touch(addr, "4M", write=True)
    anon = vmstat(kernel, "nr_anon_pages")
    child = task.fork()
    assert vmstat(kernel, "thp_split_pmd") == 0
    assert smaps(child, addr, "AnonHugePages") == 4096
    assert smaps(child, addr, "Pss") == 2048
    child.touch(addr, "4K", write=True)
    assert vmstat(kernel, "thp_split_pmd") == 1
    assert smaps(child, addr, "AnonHugePages") == 2048
    assert smaps(task, addr, "AnonHugePages") == 4096
    assert vmstat(kernel, "nr_anon_pages") >= anon + 1
    child.exit()
    splits = vmstat(kernel, "thp_split_pmd")
    task.touch(addr + HUGE, HUGE, write=True)  # it has the page for itself again
    assert vmstat(kernel, "thp_split_pmd") == splits


def test_protecting_whole_and_part(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    task.touch(addr, "8M", write=True)
    for prot in (PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE):
        task.mprotect(addr, "4M", prot)
        kernel.check()
    assert vmstat(kernel, "thp_split_pmd") == 0
    task.touch(addr, "4M", write=True)
    task.mprotect(addr + MB, MB, PROT_READ)
    assert vmstat(kernel, "thp_split_pmd") == 1


def test_moving(kernel: Kernel, hog: tuple[Task, int]) -> None:
    """mremap() moves the entry where both addresses are on a boundary."""
    task, addr = hog
    task.touch(addr, "4M", write=True)
    task.mmap("4K")
    moved = task.mremap(addr, "16M", "64M")
    assert moved != addr
    assert moved % HUGE == 0
    assert vmstat(kernel, "thp_split_pmd") == 0
    assert smaps(task, moved, "AnonHugePages") == 4096


def test_reading_maps_the_page_of_zeros(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    task.touch(addr, "4M")
    assert vmstat(kernel, "thp_zero_page_alloc") == 1
    assert smaps(task, addr, "Rss") == 0
    task.touch(addr, "4K", write=True)
    assert vmstat(kernel, "thp_split_pmd") == 1
    assert smaps(task, addr, "Rss") == 4
    child = task.fork()
    kernel.check()
    child.exit()
    task.exit()
    kernel.write("/proc/sys/vm/drop_caches", b"2")
    assert int(kernel.mmu.huge.zero_pfn) < 0


def test_swapping_out_splits(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    task.touch(addr, HUGE, write=True)
    task.madvise(addr, HUGE, MADV_PAGEOUT)
    assert vmstat(kernel, "thp_swpout_fallback") == vmstat(kernel, "thp_split_page") == 1
    assert smaps(task, addr, "Swap") == 2048
    kernel.check()
    task.touch(addr, HUGE, write=True)
    assert smaps(task, addr, "AnonHugePages") == 0


@pytest.mark.parametrize("generations", ["y", "n"])
def test_memory_that_runs_short(kernel: Kernel, generations: str) -> None:
    """More huge pages than memory: they are split and swapped; what comes then is small, as defrag is madvise."""
    kernel.write("/sys/kernel/mm/lru_gen/enabled", generations.encode())
    task = kernel.spawn("hog")
    addr = task.mmap("1100M")
    task.touch(addr, "1100M", write=True)
    kernel.check()
    assert vmstat(kernel, "thp_fault_alloc") > 350
    assert vmstat(kernel, "thp_fault_fallback") > 0
    assert vmstat(kernel, "thp_split_page") == vmstat(kernel, "thp_swpout_fallback") > 0
    for kind in ("n", "y"):
        kernel.write("/sys/kernel/mm/lru_gen/enabled", kind.encode())
        kernel.check()


def test_a_limit_is_charged_whole(kernel: Kernel) -> None:
    """A huge page that its memory cgroup has no room for is not brought: small ones are."""
    kernel.write("/sys/fs/cgroup/cgroup.subtree_control", b"+memory")
    kernel.vfs.mkdir("/sys/fs/cgroup/g")
    kernel.write("/sys/fs/cgroup/g/memory.max", b"5M")
    task = kernel.spawn("hog")
    kernel.write("/sys/fs/cgroup/g/cgroup.procs", str(task.pid).encode())
    addr = task.mmap("16M")
    task.touch(addr, HUGE, write=True)
    stat = dict(line.split() for line in kernel.read("/sys/fs/cgroup/g/memory.stat").decode().splitlines())
    assert (stat["anon_thp"], stat["thp_fault_alloc"]) == (str(HUGE), "1")
    task.touch(addr + HUGE, "4M", write=True)
    assert vmstat(kernel, "thp_fault_fallback_charge") >= 1
    assert vmstat(kernel, "thp_fault_fallback") == vmstat(kernel, "thp_fault_fallback_charge")


def test_flags_of_its_frames(kernel: Kernel, hog: tuple[Task, int]) -> None:
    """kpageflags: the first frame is the head, whether it is mapped as a whole or entry by entry."""
    task, addr = hog
    task.touch(addr, HUGE, write=True)
    for _ in range(2):
        pagemap = kernel.vfs.open(f"/proc/{task.pid}/pagemap")
        pfn = int.from_bytes(pagemap.read(8, addr >> 12 << 3), "little") & (1 << 55) - 1
        flags = np.frombuffer(kernel.read("/proc/kpageflags"), "<u8")[pfn : pfn + 2].tolist()
        assert [flag >> 15 & 1 for flag in flags] == [1, 0]
        assert [flag >> 16 & 1 for flag in flags] == [0, 1]
        assert all(flag >> 22 & 1 and flag >> 12 & 1 and flag >> 11 & 1 for flag in flags)
        task.mprotect(addr + MB, MB, PROT_READ)


@pytest.mark.parametrize("defrag", ["always", "defer", "defer+madvise", "madvise", "never"])
def test_defrag(kernel: Kernel, defrag: str) -> None:
    """However hard a fault tries, it ends."""
    kernel.write(f"{SYS}/defrag", defrag.encode())
    task = kernel.spawn("hog")
    addr = task.mmap("1G")
    task.madvise(addr, "512M", MADV_HUGEPAGE)
    task.touch(addr, "1G", write=True)
    assert vmstat(kernel, "thp_fault_alloc") > 300


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize("advice", [MADV_MERGEABLE, MADV_DONTFORK])
def test_no_huge_page_lies_across_the_border_of_a_mapping(kernel: Kernel, write: bool, advice: int) -> None:
    """Advice that leaves the pages alone cuts the mapping all the same, and with it the entry."""
    task = kernel.spawn("hog")
    addr = task.mmap("8M")
    task.touch(addr, "8M", write=write)
    task.madvise(addr + HUGE + 5 * 4096, "3M", advice)
    kernel.check()
    assert vmstat(kernel, "thp_split_pmd") == 2


def test_a_read_brings_a_huge_page_where_zeros_are_not_shared(kernel: Kernel) -> None:
    kernel.write(f"{SYS}/use_zero_page", b"0")
    task = kernel.spawn("hog")
    addr = task.mmap("8M")
    task.touch(addr, "8M")
    kernel.check()
    assert smaps(task, addr, "AnonHugePages") == 8192
