"""Folios of 16 KB to 1 MB: which a fault gets, and what becomes of them. Linux: mm/memory.c, alloc_anon_folio()."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mmfs.kernel.signal import TaskKilled
from mmfs.mm.huge_memory import parse_thp_anon
from mmfs.mm.mman import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_PAGEOUT,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    MAP_SHARED,
    MLOCK_ONFAULT,
    PROT_READ,
)
from tests.mm.test_huge_memory import smaps, vmstat
from tests.mm.test_page_idle import frames, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

KB, MB, PAGE = 1 << 10, 1 << 20, 4096
SYS = "/sys/kernel/mm/transparent_hugepage"
SPLIT = "/sys/kernel/debug/split_huge_pages"
COMPOUND_HEAD, COMPOUND_TAIL, THP = 1 << 15, 1 << 16, 1 << 22
pytestmark = pytest.mark.machine(ram="128M", swap="64M")


def allow(kernel: Kernel, **modes: str) -> None:
    """For whom sizes are enabled: `k64="always"`."""
    for size, mode in modes.items():
        kernel.write(f"{SYS}/hugepages-{size.removeprefix('k')}kB/enabled", mode.encode())


def stat(kernel: Kernel, size: int, name: str) -> int:
    """A counter of a size in KB."""
    return int(kernel.read(f"{SYS}/hugepages-{size}kB/stats/{name}"))


@pytest.fixture
def hog(kernel: Kernel) -> tuple[Task, int]:
    """A process with 4 MB on a boundary of 2 MB, after which 64 KB are enabled."""
    task = kernel.spawn("hog")
    addr = task.mmap("4M")
    allow(kernel, k64="always")
    return task, addr


def test_a_fault_brings_64_kb(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    faults, anon = vmstat(kernel, "pgfault"), vmstat(kernel, "nr_anon_pages")
    task.touch(addr + 70 * KB, "4K", write=True)
    assert vmstat(kernel, "pgfault") == faults + 1
    assert vmstat(kernel, "nr_anon_pages") == anon + 16
    assert stat(kernel, 64, "anon_fault_alloc") == stat(kernel, 64, "nr_anon") == 1
    assert smaps(task, addr, "Rss") == smaps(task, addr, "Private_Dirty") == smaps(task, addr, "Referenced") == 64
    assert smaps(task, addr, "AnonHugePages") == vmstat(kernel, "nr_anon_transparent_hugepages") == 0
    assert smaps(task, addr, "THPeligible") == 1
    pfns = frames(task, addr + 64 * KB, 16)
    assert pfns[0] % 16 == 0 and pfns == list(range(pfns[0], pfns[0] + 16))
    assert frames(task, addr + 60 * KB, 1) == frames(task, addr + 128 * KB, 1) == [0]
    flags = np.frombuffer(read(kernel, "/proc/kpageflags", pfns[0] * 8, 128), np.uint64)
    assert [bool(int(flag) & COMPOUND_HEAD) for flag in flags] == [True] + [False] * 15
    assert [bool(int(flag) & COMPOUND_TAIL) for flag in flags] == [False] + [True] * 15
    assert all(int(flag) & THP for flag in flags)


def test_a_read_brings_zeros(kernel: Kernel, hog: tuple[Task, int]) -> None:
    """And a write after it a single page, for the range is not empty any more."""
    task, addr = hog
    task.touch(addr, "4K")
    task.touch(addr, "8K", write=True)
    assert stat(kernel, 64, "nr_anon") == 0 and smaps(task, addr, "Rss") == 8


def test_the_largest_that_fits(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    allow(kernel, k16="always", k256="always")
    task.munmap(addr, "184K")
    task.touch(addr + 184 * KB, 128 * KB, write=True)
    counts = {size: stat(kernel, size, "anon_fault_alloc") for size in (16, 64, 256)}
    assert counts == {16: 0, 64: 1, 256: 1}  # 192K of them; what is before gets pages
    assert smaps(task, addr + 184 * KB, "Rss") == 8 + 64 + 256


def test_without_blocks_of_the_size(kernel: Kernel, hog: tuple[Task, int]) -> None:
    """What is not to be had is counted, and the next smaller size tried."""
    task, addr = hog
    allow(kernel, k64="never")
    other = kernel.spawn("hog")
    there = other.mmap("100M")
    other.touch(there, (vmstat(kernel, "nr_free_pages") - 700) * PAGE, write=True)
    for offset in range(0, 8 * MB, 256 * KB):
        other.madvise(there + offset, 128 * KB, MADV_DONTNEED)
    allow(kernel, k1024="always", k16="always")
    task.touch(addr, "4M", write=True)
    assert stat(kernel, 1024, "anon_fault_fallback") > 0
    assert stat(kernel, 16, "anon_fault_alloc") > 0


@pytest.mark.parametrize(
    ("mode", "advised", "expected"), [("madvise", False, 0), ("madvise", True, 1), ("never", True, 0)]
)  # fmt: skip
def test_who_gets_one(kernel: Kernel, hog: tuple[Task, int], mode: str, advised: bool, expected: int) -> None:
    task, addr = hog
    allow(kernel, k64=mode)
    if advised:
        task.madvise(addr, "4M", MADV_HUGEPAGE)
    task.touch(addr, "4K", write=True)
    assert stat(kernel, 64, "anon_fault_alloc") == smaps(task, addr, "THPeligible") == expected


def test_inherit(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    allow(kernel, k64="inherit")
    for offset, mode in enumerate(("never", "madvise", "always")):
        kernel.write(f"{SYS}/enabled", mode.encode())
        task.touch(addr + offset * 64 * KB, "4K", write=True)
        assert stat(kernel, 64, "anon_fault_alloc") == (mode == "always")


def test_a_hole_waits_for_reclaim(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    task.touch(addr, "1M", write=True)
    task.madvise(addr + 4 * PAGE, PAGE, MADV_DONTNEED)
    task.madvise(addr + 5 * PAGE, PAGE, MADV_DONTNEED)
    assert stat(kernel, 64, "split_deferred") == stat(kernel, 64, "nr_anon_partially_mapped") == 1
    assert vmstat(kernel, "thp_deferred_split_page") == 0
    freed = vmstat(kernel, "pgfree")
    kernel.write("/proc/sys/vm/drop_caches", b"2")
    assert stat(kernel, 64, "split") == 1 and stat(kernel, 64, "nr_anon") == 15
    assert vmstat(kernel, "pgfree") >= freed + 2 and vmstat(kernel, "thp_split_page") == 0


def test_protecting_part_splits_nothing(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    task.touch(addr, "64K", write=True)
    task.mprotect(addr + 8 * KB, "8K", PROT_READ)
    assert stat(kernel, 64, "nr_anon") == 1 and stat(kernel, 64, "split_deferred") == 0
    task.mremap(addr + 32 * KB, "16K", "16K", 3, addr + MB)
    kernel.check()
    assert stat(kernel, 64, "nr_anon") == 1


def test_a_child_shares_and_copies(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    task.touch(addr, "64K", write=True)
    child = task.fork()
    child.touch(addr, "8K", write=True)
    assert smaps(child, addr, "Private_Dirty") == 8 and smaps(child, addr, "Shared_Dirty") == 56
    assert stat(kernel, 64, "split_deferred") == 0
    task.munmap(addr, "4M")
    assert stat(kernel, 64, "split_deferred") == 1  # its first pages are nobody's
    child.exit(0)
    assert stat(kernel, 64, "nr_anon") == stat(kernel, 64, "nr_anon_partially_mapped") == 0


def swap_disk(kernel: Kernel, *, seeks: bool) -> None:
    """The swap disk anew."""
    kernel.swapoff("/dev/vdb")
    kernel.write("/sys/block/vdb/queue/rotational", str(int(seeks)))
    kernel.swapon("/dev/vdb")


@pytest.mark.parametrize("seeks", [False, True])
@pytest.mark.parametrize("generations", ["y", "n"])
def test_swapped(kernel: Kernel, hog: tuple[Task, int], seeks: bool, generations: str) -> None:
    """Whole, its slots side by side, where the disk has clusters; else page by page."""
    kernel.write("/sys/kernel/mm/lru_gen/enabled", generations)
    swap_disk(kernel, seeks=seeks)
    task, addr = hog
    task.touch(addr, "1M", write=True)
    task.madvise(addr, "1M", MADV_PAGEOUT)
    kernel.check()
    whole, split = (0, 16) if seeks else (16, 0)
    assert stat(kernel, 64, "swpout") == whole and vmstat(kernel, "thp_swpout") == 0
    assert stat(kernel, 64, "swpout_fallback") == stat(kernel, 64, "split") == split
    assert vmstat(kernel, "thp_swpout_fallback") == 0
    kernel.run_for(1)
    assert smaps(task, addr, "Swap") == 1024
    task.touch(addr, "1M", write=True)
    assert smaps(task, addr, "Rss") == 1024
    if not seeks:
        assert stat(kernel, 64, "nr_anon") == 16  # they were still in the swap cache


def test_out_of_zram_and_back(kernel: Kernel, hog: tuple[Task, int]) -> None:
    """What lies in memory and was swapped out whole comes back so, in one major fault each."""
    kernel.zrams.load(1)
    kernel.write("/sys/block/zram0/disksize", b"32M")
    kernel.mkswap("/dev/zram0")
    kernel.swapon("/dev/zram0", 100)
    task, addr = hog
    task.touch(addr, "1M", write=True)
    task.madvise(addr, "1M", MADV_PAGEOUT)
    assert stat(kernel, 64, "swpout") == 16 and stat(kernel, 64, "nr_anon") == 0
    faults = vmstat(kernel, "pgmajfault")
    task.touch(addr + 8 * PAGE, "4K", write=True)
    assert smaps(task, addr, "Rss") == 64 and stat(kernel, 64, "nr_anon") == 1
    task.touch(addr, "1M", write=True)
    assert vmstat(kernel, "pgmajfault") == faults + 16 and vmstat(kernel, "pswpin") == 256
    assert stat(kernel, 64, "nr_anon") == 16 and stat(kernel, 64, "anon_fault_alloc") == 16


def test_charged_at_once_or_not(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    kernel.write("/sys/fs/cgroup/cgroup.subtree_control", b"+memory")
    kernel.mkdir("/sys/fs/cgroup/a")
    kernel.write("/sys/fs/cgroup/a/cgroup.procs", str(task.pid))
    kernel.write("/sys/fs/cgroup/a/memory.swap.max", b"0")
    task.touch(addr, "256K", write=True)
    used = int(kernel.read("/sys/fs/cgroup/a/memory.current"))
    assert used >= 256 * KB
    kernel.write("/sys/fs/cgroup/a/memory.max", str(used + 40 * KB))
    rows = dict(line.split() for line in kernel.read("/sys/fs/cgroup/a/memory.stat").decode().splitlines())
    assert int(rows["anon"]) == 256 * KB and rows["anon_thp"] == "0"
    with pytest.raises(TaskKilled):
        task.touch(addr + 256 * KB, "1M", write=True)
    assert stat(kernel, 64, "anon_fault_fallback_charge") == stat(kernel, 64, "anon_fault_fallback") > 0


@pytest.mark.parametrize("room", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_reclaim_for_a_huge_page(kernel: Kernel, shared: bool, room: bool) -> None:
    """Above a limit others make room for one if they can be swapped, and `defrag` has a fault reclaim."""
    kernel.write("/sys/fs/cgroup/cgroup.subtree_control", b"+memory")
    kernel.mkdir("/sys/fs/cgroup/a")
    other, task = kernel.spawn("other"), kernel.spawn("hog")
    for one in (other, task):
        kernel.write("/sys/fs/cgroup/a/cgroup.procs", str(one.pid))
    for switch in ("enabled", "shmem_enabled", "defrag"):
        kernel.write(f"{SYS}/{switch}", b"never")
    other.touch(other.mmap("16M"), "16M", write=True)
    for switch in ("enabled", "shmem_enabled", "defrag"):
        kernel.write(f"{SYS}/{switch}", b"always")
    addr = task.mmap("8M", flags=MAP_ANONYMOUS | (MAP_SHARED if shared else MAP_PRIVATE))
    kernel.write("/sys/fs/cgroup/a/memory.max", str(int(kernel.read("/sys/fs/cgroup/a/memory.current")) + 3 * MB))
    kernel.write("/sys/fs/cgroup/a/memory.swap.max", b"max" if room else b"0")
    name = "thp_file_" if shared else "thp_fault_"
    task.touch(addr, "2M", write=True)
    task.touch(addr + 2 * MB, "512K", write=True)
    task.touch(addr + 4 * MB, "256K", write=True)
    assert vmstat(kernel, f"{name}alloc") == (3 if room else 1)
    assert vmstat(kernel, f"{name}fallback_charge") == vmstat(kernel, f"{name}fallback") == (0 if room else 2)
    assert (vmstat(kernel, "pswpout") >= 512) == room
    kernel.check()


def test_advice(kernel: Kernel, hog: tuple[Task, int]) -> None:
    """What is cold, or may be freed, stays whole unless only a part is meant, and so does what is locked."""
    task, addr = hog
    task.touch(addr, "256K", write=True)
    task.madvise(addr, 96 * KB, MADV_COLD)
    assert stat(kernel, 64, "split") == 1
    task.madvise(addr + 128 * KB, 64 * KB, MADV_FREE)
    assert stat(kernel, 64, "split") == 1 and vmstat(kernel, "pglazyfree") == 16
    task.mlock(addr + 192 * KB, PAGE)
    assert stat(kernel, 64, "split") == 1 and vmstat(kernel, "nr_mlock") == 0
    task.mlock(addr + 192 * KB, 64 * KB)
    assert stat(kernel, 64, "split") == 1 and vmstat(kernel, "nr_mlock") == 0  # it is in two VMAs


def test_split_to_an_order(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    task.touch(addr, "128K", write=True)
    task.madvise(addr, 16 * KB, MADV_DONTNEED)
    kernel.write(SPLIT, f"{task.pid},{addr:#x},{addr + 128 * KB:#x},2".encode())
    assert stat(kernel, 64, "split") == 2 and stat(kernel, 64, "nr_anon") == 0
    assert stat(kernel, 16, "nr_anon") == 7  # nobody has the first
    kernel.check()
    kernel.write(SPLIT, b"1")
    assert stat(kernel, 16, "split") == 7 and smaps(task, addr, "Rss") == 112


def test_compaction_moves_them_whole(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    allow(kernel, k64="never", k16="always")
    task.touch(addr, "4M", write=True)
    for offset in range(0, 4 * MB, 32 * KB):
        task.madvise(addr + offset, 16 * KB, MADV_DONTNEED)
    moved = vmstat(kernel, "pgmigrate_success")
    kernel.write("/proc/sys/vm/compact_memory", b"1")
    assert vmstat(kernel, "pgmigrate_success") >= moved + 4
    assert stat(kernel, 16, "nr_anon") >= 120 and stat(kernel, 16, "nr_anon") + stat(kernel, 16, "split") == 128


def test_collapsed(kernel: Kernel, hog: tuple[Task, int]) -> None:
    task, addr = hog
    task.touch(addr, "2M", write=True)
    kernel.write(f"{SYS}/enabled", b"always")
    task.madvise(addr, "2M", MADV_COLLAPSE)
    assert smaps(task, addr, "AnonHugePages") == 2048 and stat(kernel, 64, "nr_anon") == 0


@pytest.mark.parametrize(
    ("text", "modes"),
    [
        ("64K:always", {64: "always"}),
        ("16K-64K:always;128K,512K:inherit;256K:madvise;1M-2M:never", {
            16: "always", 32: "always", 64: "always", 128: "inherit", 256: "madvise", 512: "inherit", 1024: "never",
        }),
        ("16-64K:always", {}), ("8K:always", {}), ("48K:always", {}), ("64K", {}), ("64K:yes", {}),
        ("64K-16K:never", {}),
    ],
)  # fmt: skip
def test_the_command_line(boot: Callable[..., Kernel], text: str, modes: dict[int, str]) -> None:
    """What cannot be read is ignored, and said; what can be says of 2 MB too, which do not inherit then."""
    kernel = boot(ram="128M", cpus=1, seed=1, preset="bare", cmdline=f"thp_anon={text}")
    for size in (16, 32, 64, 128, 256, 512, 1024, 2048):
        mode = modes.get(size, "inherit" if size == 2048 and not modes else "never")
        assert f"[{mode}]".encode() in kernel.read(f"{SYS}/hugepages-{size}kB/enabled")
    assert (f"thp_anon={text}: error parsing string" in kernel.printk.dmesg()) == (not modes)


def test_later_settings_add_to_earlier_ones() -> None:
    assert parse_thp_anon("64K:always") | parse_thp_anon("16K,64K:never") == {4: "never", 2: "never"}


@pytest.mark.slow
@pytest.mark.machine(ram="14T", nodes=2)
def test_the_last_memory_of_a_large_machine_has_none(kernel: Kernel) -> None:
    """Its frames cannot be of such folios: as if there were no blocks of the size, however hard a fault looks."""
    task = kernel.spawn("hog")
    addr = task.mmap("4M")
    task.mbind(addr, "4M", "bind", [1])
    kernel.write(f"{SYS}/enabled", b"never")
    allow(kernel, k64="always", k16="always")
    for offset, defrag in ((0, b"madvise"), (2 * MB, b"always")):
        kernel.write(f"{SYS}/defrag", defrag)
        before = stat(kernel, 64, "anon_fault_fallback"), stat(kernel, 16, "anon_fault_fallback")
        task.touch(addr + offset, "1M", write=True)
        assert stat(kernel, 64, "anon_fault_fallback") == before[0] + 16
        assert stat(kernel, 16, "anon_fault_fallback") == before[1] + 64
    assert smaps(task, addr, "Rss") == 2048 and min(frames(task, addr, 256)) >= kernel.frames.mthp_pfns
    task.mbind(addr + MB, "1M", "bind", [0])
    task.touch(addr + MB, "64K", write=True)
    assert stat(kernel, 64, "anon_fault_alloc") == 1


@pytest.mark.parametrize("size", [64, 2048])
def test_locked_folios(kernel: Kernel, size: int) -> None:
    """Locked whole as they are faulted in; the pages of one that is split stay locked."""
    task = kernel.spawn("hog")
    allow(kernel, **{f"k{size}": "always"})
    addr = task.mmap("6M")
    task.mlock(addr, "6M", MLOCK_ONFAULT)
    task.touch(addr + 2 * MB, "2M", write=True)
    assert stat(kernel, size, "nr_anon") == 2048 // size
    assert vmstat(kernel, "nr_mlock") == vmstat(kernel, "nr_unevictable") == 512
    kernel.write(SPLIT, f"{task.pid},{addr + 2 * MB:#x},{addr + 2 * MB + PAGE:#x},0".encode())
    assert stat(kernel, size, "split") == 1
    assert vmstat(kernel, "nr_mlock") == vmstat(kernel, "nr_unevictable") == 512
    assert vmstat(kernel, "unevictable_pgs_munlocked") == size // 4
    kernel.check()
    task.munmap(addr, "6M")
    assert vmstat(kernel, "nr_mlock") == vmstat(kernel, "nr_unevictable") == 0


@pytest.mark.machine(ram="256M", nodes=2, swap="64M")
@pytest.mark.parametrize("size", [64, 2048])
def test_one_that_has_moved_is_locked_by_reclaim(kernel: Kernel, size: int) -> None:
    """A page is locked again where it has gone to, a folio not until reclaim comes upon it."""
    kernel.write("/sys/fs/cgroup/cgroup.subtree_control", b"+memory")
    kernel.mkdir("/sys/fs/cgroup/a")
    task = kernel.spawn("hog")
    kernel.write("/sys/fs/cgroup/a/cgroup.procs", str(task.pid))
    allow(kernel, **{f"k{size}": "always"})
    addr = task.mmap("2M")
    task.mlock(addr, "2M", MLOCK_ONFAULT)
    task.touch(addr, "2M", write=True)
    nid = kernel.frames.blocks["zone"][frames(task, addr, 1)[0] >> 9] == kernel.node_data[1].zones[2].index
    task.migrate_pages(task.pid, [int(nid)], [1 - int(nid)])
    assert vmstat(kernel, "nr_mlock") == vmstat(kernel, "nr_unevictable") == 0
    assert vmstat(kernel, "unevictable_pgs_stranded") == 512
    kernel.check()
    with contextlib.suppress(OSError):
        kernel.write("/sys/fs/cgroup/a/memory.reclaim", b"8M")
    assert vmstat(kernel, "nr_mlock") == vmstat(kernel, "nr_unevictable") == 512
    assert smaps(task, addr, "Rss") == 2048


@pytest.mark.machine(ram="128M", profile="6.1")
def test_an_old_kernel_has_none(kernel: Kernel) -> None:
    task = kernel.spawn("hog")
    task.touch(task.mmap("1M"), "1M", write=True)
    assert not kernel.mmu.anon.anon_folios.enabled and not kernel.mmu.huge.stats.any()
