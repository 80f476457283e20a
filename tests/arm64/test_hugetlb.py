"""Huge pages of arm64 with pages of 64 KB: of 2 MB, 512 MB and 16 GB, in pools and mapped.

Those of 2 MB are part of a pageblock; they and those of 16 GB are mapped by 32 entries in a row. The numbers that are
compared with a real kernel's are those of a 6.12 on QEMU's machine "virt" with 2 GB.
"""

from __future__ import annotations

import errno
import struct
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from mmfs.kernel.signal import BusError, TaskKilled
from mmfs.mm.mman import (
    MADV_DONTNEED,
    MADV_HWPOISON,
    MADV_SOFT_OFFLINE,
    MAP_ANONYMOUS,
    MAP_HUGE_2MB,
    MAP_HUGE_SHIFT,
    MAP_HUGETLB,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from mmfs.mm.pgtable import walk
from mmfs.mm_types import CONT_PTES, PAGE_SHIFT, PAGE_SIZE, PAGEBLOCK_ORDER, PTE_CONT, PTE_PFN_MASK, PTE_PSE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.hugetlb import Hstate

pytestmark = pytest.mark.machine(arch="arm64-64k", ram="2G")
MB, GB = 1 << 20, 1 << 30
PRIVATE, SHARED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB
MAP_HUGE_16GB = 34 << MAP_HUGE_SHIFT
POOLS = "/sys/kernel/mm/hugepages"
SIZES = {"16GB": 16777216, "512MB": 524288, "2MB": 2048}


def resize(kernel: Kernel, size: str, count: int, file: str = "nr_hugepages") -> None:
    kernel.write(f"{POOLS}/hugepages-{SIZES[size]}kB/{file}", str(count))


def pools(kernel: Kernel) -> dict[str, tuple[int, int, int, int]]:
    """Of each size: pages, free ones, promised ones, surplus ones."""
    return {
        pool.size_name: (pool.nr_huge_pages, pool.free_huge_pages, pool.resv_huge_pages, pool.surplus_huge_pages)
        for pool in kernel.hugetlb
    }


def pool_of(kernel: Kernel, size: str) -> Hstate:
    return next(pool for pool in kernel.hugetlb if pool.size_name == size)


def meminfo(kernel: Kernel, row: str) -> int:
    lines = kernel.read("/proc/meminfo").decode().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{row}:"))


def entries_of(kernel: Kernel, task: Any, addr: int) -> tuple[int, list[int]]:
    """The level at which an address is mapped, and the row of entries of which one maps it."""
    level, table, index, _ = list(walk(kernel, task.mm.row, addr))[-1]
    first = (table << PAGE_SHIFT - 3) + index // CONT_PTES * CONT_PTES
    return level, kernel.frames.entries[first : first + CONT_PTES].tolist()


def test_pools_take_what_a_real_kernel_does(kernel: Kernel) -> None:
    assert [pool.name for pool in kernel.hugetlb] == [f"hugepages-{kb}kB" for kb in SIZES.values()]
    assert meminfo(kernel, "Hugepagesize") == 524288
    resize(kernel, "512MB", 4)
    assert (meminfo(kernel, "HugePages_Total"), meminfo(kernel, "Hugetlb")) == (2, 1048576)
    resize(kernel, "512MB", 1, "demote")
    kernel.check()
    assert pools(kernel) == {"16GB": (0, 0, 0, 0), "512MB": (1, 1, 0, 0), "2MB": (256, 256, 0, 0)}
    assert meminfo(kernel, "Hugetlb") == 1048576
    resize(kernel, "16GB", 1)
    for size in ("512MB", "2MB"):
        resize(kernel, size, 0)
    assert meminfo(kernel, "Hugetlb") == 0
    assert kernel.read("/proc/buddyinfo").split()[-1] == b"2", "what was cut is whole again"


def test_small_ones_come_from_the_pieces(kernel: Kernel) -> None:
    """A pool of 2 MB pages does not need whole pageblocks."""
    resize(kernel, "512MB", 4)
    resize(kernel, "2MB", 100)
    assert pools(kernel)["2MB"] == (100, 100, 0, 0)
    kernel.check()
    resize(kernel, "512MB", 0)
    resize(kernel, "2MB", 40)
    assert pools(kernel)["2MB"] == (40, 40, 0, 0)


def test_entries_in_a_row(kernel: Kernel) -> None:
    resize(kernel, "2MB", 8)
    task = kernel.spawn("huge")
    before = task.mm.pgtables_bytes
    addr = task.mmap("4M", flags=PRIVATE | MAP_HUGE_2MB)
    assert addr % (2 * MB) == 0 and pools(kernel)["2MB"] == (8, 8, 2, 0)
    task.touch(addr + 5 * PAGE_SIZE, 1, write=True)
    assert task.mm.pgtables_bytes - before <= 2 * PAGE_SIZE, "a page table, and maybe a PMD table"
    level, entries = entries_of(kernel, task, addr)
    (folio,) = pool_of(kernel, "2MB").hugepage_activelist.values()
    assert level == 1 and all(entry & (PTE_CONT | PTE_PSE) == PTE_CONT for entry in entries)
    assert [(entry & PTE_PFN_MASK) >> PAGE_SHIFT for entry in entries] == list(range(folio.pfn, folio.pfn + 32))
    assert entries_of(kernel, task, addr + 2 * MB)[1] == [0] * CONT_PTES
    smaps = kernel.read(f"/proc/{task.pid}/smaps").decode()
    mapping = smaps[smaps.index(f"{addr:08x}-") :]
    assert "KernelPageSize:     2048 kB\nMMUPageSize:        2048 kB\n" in mapping
    assert "Private_Hugetlb:    2048 kB\n" in mapping
    assert task.mm.hugetlb_usage == CONT_PTES
    kernel.check()
    task.exit(0)
    assert pools(kernel)["2MB"] == (8, 8, 0, 0)


def test_a_child_copies_what_is_written(kernel: Kernel) -> None:
    resize(kernel, "2MB", 3)
    task = kernel.spawn("huge")
    addr = task.mmap("2M", flags=PRIVATE | MAP_HUGE_2MB)
    task.touch(addr, "2M", write=True)
    child = task.fork()
    kernel.check()
    child.touch(addr + 20 * PAGE_SIZE, 1, write=True)
    kernel.check()
    assert pools(kernel)["2MB"] == (3, 1, 0, 0)
    other = task.fork()
    resize(kernel, "2MB", 2)
    task.touch(addr, 1, write=True)
    with pytest.raises(BusError):
        other.touch(addr, 1)
    kernel.check()


def test_a_life_as_on_a_real_kernel(kernel: Kernel) -> None:
    """What the pool counts after each step of a program's, to the page."""
    counts = []

    def step() -> None:
        counts.append(pools(kernel)["2MB"])
        kernel.check()

    resize(kernel, "2MB", 8)
    task = kernel.spawn("huge")
    addr = task.mmap("8M", flags=PRIVATE | MAP_HUGE_2MB)
    step()
    task.touch(addr + 5 * PAGE_SIZE, 1, write=True)
    step()
    task.touch(addr, "4M", write=True)
    step()
    child = task.fork()
    child.touch(addr + PAGE_SIZE, 1, write=True)
    step()
    child.exit(0)
    step()
    for refused in (
        partial(task.madvise, addr + PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED),
        partial(task.munmap, addr, PAGE_SIZE),
    ):
        with pytest.raises(OSError) as caught:
            refused()
        assert caught.value.errno == errno.EINVAL
    task.madvise(addr, "2M", MADV_DONTNEED)
    step()
    task.touch(addr, 1, write=True)
    step()
    task.munmap(addr, "2M")
    step()
    task.madvise(addr + 2 * MB + 3 * PAGE_SIZE, PAGE_SIZE, MADV_SOFT_OFFLINE)
    step()
    child = task.fork()
    child.touch(addr + 2 * MB, 1, write=True)
    with pytest.raises(TaskKilled):
        child.madvise(addr + 2 * MB, PAGE_SIZE, MADV_HWPOISON)
    step()
    assert counts == [
        (8, 8, 4, 0), (8, 7, 3, 0), (8, 6, 2, 0), (8, 5, 2, 0), (8, 6, 2, 0), (8, 7, 3, 0), (8, 6, 2, 0), (8, 7, 2, 0),
        (7, 6, 2, 0), (6, 5, 2, 0),
    ]  # fmt: skip
    assert meminfo(kernel, "HardwareCorrupted") == 2 * 64


def test_a_range_is_protected_moved_and_dropped(kernel: Kernel) -> None:
    resize(kernel, "2MB", 8)
    task = kernel.spawn("huge")
    addr = task.mmap("8M", flags=PRIVATE | MAP_HUGE_2MB)
    task.touch(addr, "8M", write=True)
    task.mprotect(addr, "8M", PROT_NONE)
    kernel.check()
    pagemap = kernel.vfs.open(f"/proc/{task.pid}/pagemap")
    assert struct.unpack("<Q", pagemap.read(8, (addr >> PAGE_SHIFT) * 8))[0] & 1 << 63, "PROT_NONE, and kept"
    task.mprotect(addr, "8M", PROT_READ | PROT_WRITE)
    hole = task.mmap("32M", PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS) + 8 * MB & -2 * MB
    assert task.mremap(addr, "8M", "4M", 3, hole) == hole
    kernel.check()
    task.madvise(hole, "2M", MADV_DONTNEED)
    assert pools(kernel)["2MB"][:2] == (8, 7)
    kernel.check()


def test_frames(kernel: Kernel) -> None:
    """As those of larger pages are shown: a head and 31 others, mapped as often as the page is."""
    resize(kernel, "2MB", 2)
    task = kernel.spawn("huge")
    addr = task.mmap("2M", flags=PRIVATE | MAP_HUGE_2MB)
    task.touch(addr, 1, write=True)
    (folio,) = pool_of(kernel, "2MB").hugepage_activelist.values()
    pagemap = kernel.vfs.open(f"/proc/{task.pid}/pagemap")
    entries = struct.unpack("<32Q", pagemap.read(256, (addr >> PAGE_SHIFT) * 8))
    assert [entry & (1 << 55) - 1 for entry in entries] == list(range(folio.pfn, folio.pfn + 32))
    files = [kernel.vfs.open(f"/proc/{name}") for name in ("kpageflags", "kpagecount")]
    free = pool_of(kernel, "2MB").hugepage_freelists[0][0]
    frames = (folio.pfn, folio.pfn + 31, free, free + 1)
    flags, counts = [[struct.unpack("<Q", file.read(8, pfn * 8))[0] for pfn in frames] for file in files]
    bits = [{bit for bit in range(40) if value >> bit & 1} for value in flags]
    assert bits == [{3, 11, 12, 15, 17, 21}, {3, 11, 12, 16, 17, 21}, {15, 17}, {16, 17}]
    assert counts == [1, 1, 0, 0]


def test_files_of_the_default_size_and_of_another(kernel: Kernel) -> None:
    resize(kernel, "512MB", 1)
    resize(kernel, "2MB", 4)
    task = kernel.spawn("huge")
    task.mount("none", "/mnt/huge", "hugetlbfs")
    task.mount("none", "/mnt/small", "hugetlbfs", "pagesize=2M,size=4M")
    mounts = kernel.read("/proc/mounts").decode()
    assert "/mnt/huge hugetlbfs rw,relatime,pagesize=512M 0 0\n" in mounts
    assert "/mnt/small hugetlbfs rw,relatime,pagesize=2M,size=4194304 0 0\n" in mounts
    for path, size in (("/mnt/huge/a", 512 * MB), ("/mnt/small/a", 4 * MB)):
        fd = task.open(path, 0o102)
        task.touch(task.mmap(size, flags=MAP_SHARED, file=fd), size, write=True, stride=MB)
        assert task.stat(path) == size
    assert (pools(kernel)["512MB"], pools(kernel)["2MB"]) == ((1, 0, 0, 0), (4, 2, 0, 0))
    kernel.check()
    task.exit(0)
    assert pools(kernel)["2MB"] == (4, 2, 0, 0), "files keep their pages"


def test_cgroups(kernel: Kernel) -> None:
    resize(kernel, "2MB", 4)
    kernel.write("/sys/fs/cgroup/cgroup.subtree_control", "+hugetlb")
    kernel.mkdir("/sys/fs/cgroup/h")
    names = [name for name in kernel.vfs.listdir("/sys/fs/cgroup/h") if name.startswith("hugetlb.")]
    assert {name.split(".")[1] for name in names} == set(SIZES)
    kernel.write("/sys/fs/cgroup/h/hugetlb.2MB.max", "4M")
    task = kernel.spawn("huge")
    kernel.write("/sys/fs/cgroup/h/cgroup.procs", str(task.pid))
    addr = task.mmap("6M", flags=SHARED | MAP_HUGE_2MB)
    task.touch(addr, "4M", write=True)
    assert kernel.read("/sys/fs/cgroup/h/hugetlb.2MB.current") == b"4194304\n"
    with pytest.raises(BusError):
        task.touch(addr + 4 * MB, 1, write=True)
    assert kernel.read("/sys/fs/cgroup/h/hugetlb.2MB.events") == b"max 1\n"


@pytest.mark.machine(arch="arm64-64k", ram="6G")
def test_memory_goes_offline(kernel: Kernel) -> None:
    """Pages of 2 MB that lie in it move, or leave their pool."""
    resize(kernel, "2MB", 300)
    task = kernel.spawn("huge")
    task.touch(task.mmap("200M", flags=PRIVATE | MAP_HUGE_2MB), "200M", write=True)
    used = pool_of(kernel, "2MB").hugepage_activelist
    section = next(iter(used)) >> PAGEBLOCK_ORDER
    inside = sum(pfn >> PAGEBLOCK_ORDER == section for pfn in used)
    assert 0 < inside < 100
    kernel.write(f"/sys/devices/system/memory/memory{section}/state", "offline")
    kernel.check()
    assert len(used) == 100 and all(pfn >> PAGEBLOCK_ORDER != section for pfn in used)
    assert pools(kernel)["2MB"] == (300 - inside, 200 - inside, 0, 0)


@pytest.mark.machine(arch="arm64-64k", ram="40G", cmdline="hugepagesz=16G hugepages=1 hugepagesz=2M hugepages=5")
def test_sixteen_gigabytes(kernel: Kernel) -> None:
    """At boot from the boot allocator, later from a range that is emptied; 32 entries of a PMD table map one."""
    assert (pools(kernel)["16GB"], pools(kernel)["2MB"]) == ((1, 1, 0, 0), (5, 5, 0, 0))
    task = kernel.spawn("huge")
    addr = task.mmap("16G", flags=PRIVATE | MAP_HUGE_16GB)
    task.touch(addr + 3 * GB, 1, write=True)
    level, entries = entries_of(kernel, task, addr)
    (folio,) = pool_of(kernel, "16GB").hugepage_activelist.values()
    assert level == 2 and all(entry & PTE_CONT and entry & PTE_PSE for entry in entries)
    assert [(entry & PTE_PFN_MASK) >> PAGE_SHIFT for entry in entries] == list(
        range(folio.pfn, folio.pfn + (1 << 18), 1 << 13)
    )
    kernel.check()
    task.exit(0)
    resize(kernel, "16GB", 1, "demote")
    assert pools(kernel)["512MB"] == (32, 32, 0, 0)


@pytest.mark.machine(arch="arm64-64k", ram="2G", cmdline="default_hugepagesz=2M hugepages=50")
def test_another_default(kernel: Kernel) -> None:
    assert (meminfo(kernel, "HugePages_Total"), meminfo(kernel, "Hugepagesize")) == (50, 2048)
    task = kernel.spawn("huge")
    task.touch(task.mmap("4M", flags=PRIVATE), "4M", write=True)
    assert meminfo(kernel, "HugePages_Free") == 48
