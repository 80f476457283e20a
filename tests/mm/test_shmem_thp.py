"""Huge pages of shared memory: who gets one, how it is mapped, what splits it, where it goes when memory is short.

Linux: mm/shmem.c, mm/khugepaged.c. What a real kernel counts is asked in tests/differential/test_shmem_thp.py.
"""

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
    MADV_REMOVE,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
)
from mmfs.mm_types import HPAGE_PMD_NR
from tests.mm.test_huge_memory import HUGE, MB, SYS, smaps, vmstat
from tests.mm.test_page_idle import frames

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

SIZE = f"{SYS}/hugepages-2048kB"
SHARED = MAP_SHARED | MAP_ANONYMOUS
O_RDWR, O_CREAT = 2, 0o100
pytestmark = pytest.mark.machine(ram="1G", swap="64M")


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn("hog")


def counts(kernel: Kernel) -> dict[str, int]:
    """What there is of huge pages of shared memory: in the page cache, mapped whole; and what was counted."""
    names = {
        "huge": "nr_shmem_hugepages", "whole": "nr_shmem_pmdmapped", "alloc": "thp_file_alloc",
        "mapped": "thp_file_mapped", "split": "thp_split_page", "pmds": "thp_split_pmd",
    }  # fmt: skip
    return {short: n for short, name in names.items() if (n := vmstat(kernel, name))}


def remount(kernel: Kernel, huge: str) -> None:
    kernel.tasks[1].mount("none", "/dev/shm", "tmpfs", f"remount,huge={huge}")


def tmpfs_file(task: Task, size: int, path: str = "/dev/shm/f") -> int:
    """A file that was written from its beginning."""
    fd = task.open(path, O_RDWR | O_CREAT)
    task.write(fd, size)
    return fd


@pytest.mark.parametrize(
    ("enabled", "size", "advice", "huge"),
    [
        ("never", "inherit", MADV_HUGEPAGE, 0), ("always", "inherit", None, 2),
        ("always", "inherit", MADV_NOHUGEPAGE, 0), ("always", "never", MADV_HUGEPAGE, 0),
        ("never", "always", None, 2), ("advise", "inherit", None, 0),
        ("advise", "inherit", MADV_HUGEPAGE, 2), ("never", "advise", MADV_HUGEPAGE, 2), ("force", "inherit", None, 2),
        ("deny", "always", MADV_HUGEPAGE, 0), ("within_size", "inherit", None, 2), ("never", "within_size", None, 2),
    ],
)  # fmt: skip
def test_who_gets_one(kernel: Kernel, task: Task, enabled: str, size: str, advice: int | None, huge: int) -> None:
    """Of 5 MB of shared anonymous memory, what is whole: the last MB is of pages of 4 KB."""
    kernel.write(f"{SIZE}/shmem_enabled", size)
    kernel.write(f"{SYS}/shmem_enabled", enabled)
    addr = task.mmap("6M", flags=SHARED)
    task.munmap(addr + 5 * MB, MB)
    start = addr + -addr % HUGE
    if advice is not None:
        task.madvise(addr, "5M", advice)
    task.touch(start, addr + 5 * MB - start, write=True)
    whole = (addr + 5 * MB - start) // HUGE if huge else 0
    assert vmstat(kernel, "thp_file_alloc") == vmstat(kernel, "nr_shmem_pmdmapped") == whole
    assert int(kernel.read(f"{SIZE}/stats/shmem_alloc")) == whole
    assert smaps(task, addr, "ShmemPmdMapped") == whole * 2048
    assert smaps(task, addr, "Rss") == addr + 5 * MB - start >> 10
    kernel.check()
    if whole:
        assert addr == start and smaps(task, addr, "THPeligible") == 1  # addresses are aligned where they may be huge


def test_the_mount_option(kernel: Kernel, task: Task) -> None:
    """It is shown last, holds for its mount only, and other words are refused."""
    remount(kernel, "always")
    assert b"/dev/shm tmpfs rw,relatime,inode64,huge=always 0 0" in kernel.read("/proc/mounts")
    tmpfs_file(task, 4 * MB + 1)
    assert counts(kernel) == {"huge": 3, "alloc": 3}
    tmpfs_file(task, 4 * MB, "/tmp/f")
    assert counts(kernel) == {"huge": 3, "alloc": 3}
    with pytest.raises(OSError, match="huge=force") as error:
        remount(kernel, "force")
    assert error.value.errno == errno.EINVAL
    kernel.write("/sim/control", "remount /dev/shm huge=never")
    assert b"huge=" not in kernel.read("/proc/mounts")
    tmpfs_file(task, 2 * MB, "/dev/shm/g")
    assert counts(kernel) == {"huge": 3, "alloc": 3}


def test_what_cannot_be_forced(kernel: Kernel) -> None:
    """Other sizes that inherit, for these are no sizes of the page cache."""
    kernel.write(f"{SYS}/hugepages-64kB/shmem_enabled", "inherit")
    with pytest.raises(OSError, match="2 MB"):
        kernel.write(f"{SYS}/shmem_enabled", "force")
    kernel.write(f"{SYS}/hugepages-64kB/shmem_enabled", "never")
    kernel.write(f"{SYS}/shmem_enabled", "force")
    with pytest.raises(OSError, match="2 MB"):
        kernel.write(f"{SYS}/hugepages-64kB/shmem_enabled", "inherit")
    assert kernel.read(f"{SYS}/shmem_enabled") == b"always within_size advise never deny [force]\n"


def test_within_size(kernel: Kernel, task: Task) -> None:
    """A write brings one only if it reaches the end of it, or the file already does."""
    remount(kernel, "within_size")
    fd = tmpfs_file(task, 3 * MB)
    assert counts(kernel) == {"huge": 1, "alloc": 1}
    task.write(fd, MB)
    assert counts(kernel) == {"huge": 1, "alloc": 1}  # there are single pages already
    task.ftruncate(fd, 8 * MB)
    task.write(fd, 4096, 7 * MB)
    assert counts(kernel) == {"huge": 2, "alloc": 2}


def test_mapping(kernel: Kernel, task: Task) -> None:
    """Where the VMA spans it, by a PMD entry; elsewhere entry by entry, and by all 512 only of what has no name."""
    remount(kernel, "always")
    tmpfs_file(task, 4 * MB)
    addr = task.mmap("4M", flags=MAP_SHARED, file="/dev/shm/f")
    task.touch(addr, 4096)
    task.touch(addr + HUGE, 4096, write=True)
    assert counts(kernel) == {"huge": 2, "whole": 2, "alloc": 2, "mapped": 2}
    part = task.mmap("1M", flags=MAP_SHARED, file="/dev/shm/f", offset="1M")
    task.touch(part, 4096)
    assert smaps(task, part, "Rss") == 64  # what lies around, as ever
    kernel.check()
    private = task.mmap("2M", flags=MAP_PRIVATE, file="/dev/shm/f")
    task.touch(private, "2M")
    assert smaps(task, private, "ShmemPmdMapped") == 2048
    task.touch(private + 5 * 4096, 4096, write=True)  # which takes the entry apart, and copies one page
    assert smaps(task, private, "Anonymous") == 4 and smaps(task, private, "ShmemPmdMapped") == 0
    kernel.check()
    task.touch(private, "2M")
    child = task.fork()
    assert smaps(child, private, "Rss") == smaps(task, private, "Rss") == 2048
    kernel.check()
    task.mprotect(addr, "4M", PROT_READ)
    task.mprotect(addr, "4M", PROT_READ | PROT_WRITE)
    task.touch(addr, "4M", write=True)
    assert smaps(task, addr, "ShmemPmdMapped") == smaps(task, addr, "Rss") == 4096


def test_a_table_that_is_there(kernel: Kernel, task: Task) -> None:
    """What has no name is mapped as a whole into a page table, what has one page by page."""
    kernel.write(f"{SYS}/shmem_enabled", "always")
    addr = task.mmap("4M", flags=SHARED)
    task.madvise(addr, "2M", MADV_NOHUGEPAGE)
    other = task.fork()
    other.madvise(addr, "2M", MADV_HUGEPAGE)
    other.touch(addr, 4096, write=True)
    assert smaps(other, addr, "ShmemPmdMapped") == 2048
    task.touch(addr, 4096, write=True)
    assert smaps(task, addr, "Rss") == 2048 and smaps(task, addr, "ShmemPmdMapped") == 0
    kernel.check()
    task.munmap(addr + 4096, 8192)
    kernel.check()
    other.exit()
    assert counts(kernel)["huge"] == 1 and "whole" not in counts(kernel)


def test_unmapping_a_part(kernel: Kernel, task: Task) -> None:
    """The entry goes; what is left is mapped when it is used."""
    kernel.write(f"{SYS}/shmem_enabled", "always")
    addr = task.mmap("4M", flags=SHARED)
    task.touch(addr, "4M", write=True)
    tables = vmstat(kernel, "nr_page_table_pages")
    task.munmap(addr + MB, 4096)
    assert counts(kernel) == {"huge": 2, "whole": 1, "alloc": 2, "mapped": 2, "pmds": 1}
    assert smaps(task, addr + HUGE - MB + 4096, "Rss") == 2048
    assert vmstat(kernel, "nr_page_table_pages") == tables
    task.touch(addr, MB)
    assert smaps(task, addr, "Rss") == 1024
    assert vmstat(kernel, "nr_page_table_pages") == tables + 1


def test_holes_and_ends(kernel: Kernel, task: Task) -> None:
    """What is whole goes whole; a part splits it, and what lies beyond the end of the file is free."""
    remount(kernel, "always")
    fd = tmpfs_file(task, 8 * MB)
    addr = task.mmap("8M", flags=MAP_SHARED, file="/dev/shm/f")
    task.touch(addr, "8M")
    shmem = vmstat(kernel, "nr_shmem") - 2048
    task.madvise(addr, 4096, MADV_REMOVE)
    assert counts(kernel) == {"huge": 3, "whole": 3, "alloc": 4, "mapped": 4, "split": 1, "pmds": 1}
    assert vmstat(kernel, "nr_shmem") - shmem == 2047
    task.madvise(addr + HUGE, HUGE, MADV_REMOVE)
    assert counts(kernel) == {"huge": 2, "whole": 2, "alloc": 4, "mapped": 4, "split": 1, "pmds": 1}
    kernel.check()
    task.ftruncate(fd, 5 * MB)
    assert counts(kernel) == {"alloc": 4, "mapped": 4, "split": 2, "pmds": 2}
    assert vmstat(kernel, "nr_shmem") - shmem == 767
    kernel.check()
    task.ftruncate(fd, 1)
    assert vmstat(kernel, "nr_shmem") - shmem == 0
    task.unlink("/dev/shm/f")


def test_the_end_of_a_page(kernel: Kernel, task: Task) -> None:
    """A file that is cut within the last page of a huge page has single pages."""
    remount(kernel, "always")
    fd = tmpfs_file(task, 4 * MB)
    task.ftruncate(fd, 4 * MB - 100)
    assert counts(kernel) == {"huge": 1, "alloc": 2, "split": 1}
    assert vmstat(kernel, "nr_shmem") >= 1024


def test_what_reaches_beyond_the_end(kernel: Kernel, task: Task) -> None:
    """A shrinker has the last page of a file split, if anything of it is beyond."""
    remount(kernel, "always")
    tmpfs_file(task, 3 * MB)
    tmpfs_file(task, 4 * MB, "/dev/shm/whole")
    shmem = vmstat(kernel, "nr_shmem")
    kernel.write("/proc/sys/vm/drop_caches", "2")
    assert counts(kernel) == {"huge": 3, "alloc": 4, "split": 1}
    assert vmstat(kernel, "nr_shmem") == shmem - 256
    kernel.write("/proc/sys/vm/drop_caches", "2")
    assert counts(kernel)["split"] == 1


def test_limits(kernel: Kernel, task: Task) -> None:
    """Above the limit of a cgroup a page of 4 KB has to do."""
    kernel.write("/sys/fs/cgroup/cgroup.subtree_control", "+memory")
    kernel.mkdir("/sys/fs/cgroup/a")
    kernel.write("/sys/fs/cgroup/a/memory.max", "5M")
    kernel.write("/sys/fs/cgroup/a/cgroup.procs", str(task.pid))
    kernel.write(f"{SYS}/shmem_enabled", "always")
    addr = task.mmap("6M", flags=SHARED)
    task.touch(addr, "6M", write=True)
    stat = dict(line.split() for line in kernel.read("/sys/fs/cgroup/a/memory.stat").decode().splitlines())
    assert vmstat(kernel, "thp_file_fallback") == vmstat(kernel, "thp_file_fallback_charge") > 0
    assert int(kernel.read(f"{SIZE}/stats/shmem_fallback")) == vmstat(kernel, "thp_file_fallback")
    assert int(stat["shmem_thp"]) == counts(kernel).get("huge", 0) * HUGE
    assert vmstat(kernel, "thp_file_alloc") == 2


@pytest.mark.parametrize("rotational", [0, 1])
def test_swapping(kernel: Kernel, task: Task, rotational: int) -> None:
    """It is written whole where there is a cluster for it, else split; what is read back is single pages."""
    kernel.swapoff("/dev/vdb")
    kernel.write("/sys/block/vdb/queue/rotational", str(rotational))
    kernel.swapon("/dev/vdb")
    kernel.write(f"{SYS}/shmem_enabled", "always")
    addr = task.mmap("4M", flags=SHARED)
    task.touch(addr, "4M", write=True)
    task.madvise(addr, "4M", MADV_PAGEOUT)
    kernel.check()
    kernel.run_for(1)
    assert vmstat(kernel, "pswpout") == 2 * HPAGE_PMD_NR
    assert vmstat(kernel, "thp_swpout") == 2 - 2 * rotational
    assert counts(kernel) == {"alloc": 2, "mapped": 2, "pmds": 2} | ({"split": 2} if rotational else {})
    assert smaps(task, addr, "Swap") == 4096
    task.madvise(addr, "4M", MADV_PAGEOUT)
    kernel.write("/proc/sys/vm/drop_caches", "3")
    task.touch(addr + HUGE, 4096)
    kernel.check()
    task.madvise(addr + MB, 4096, MADV_REMOVE)
    kernel.check()
    task.touch(addr, "4M", write=True)
    assert smaps(task, addr, "Rss") == 4096 and smaps(task, addr, "Swap") == 0


def test_back_from_the_swap_cache(kernel: Kernel, task: Task) -> None:
    """While it is still there a fault has it back as it was."""
    kernel.swapoff("/dev/vdb")
    kernel.write("/sys/block/vdb/queue/rotational", "0")
    kernel.swapon("/dev/vdb")
    kernel.write(f"{SYS}/shmem_enabled", "always")
    addr = task.mmap("2M", flags=SHARED)
    task.touch(addr, "2M", write=True)
    task.madvise(addr, "2M", MADV_PAGEOUT)
    assert vmstat(kernel, "nr_swapcached") == HPAGE_PMD_NR and "huge" not in counts(kernel)
    task.touch(addr + 4096, 4096)
    assert counts(kernel) == {"huge": 1, "whole": 1, "alloc": 1, "mapped": 2, "pmds": 1}
    assert vmstat(kernel, "nr_swapcached") == vmstat(kernel, "pswpin") == 0


def test_swapoff(kernel: Kernel, task: Task) -> None:
    kernel.swapoff("/dev/vdb")
    kernel.write("/sys/block/vdb/queue/rotational", "0")
    kernel.swapon("/dev/vdb")
    kernel.write(f"{SYS}/shmem_enabled", "always")
    addr = task.mmap("4M", flags=SHARED)
    task.touch(addr, "4M", write=True)
    task.madvise(addr, "4M", MADV_PAGEOUT)
    kernel.run_for(1)
    kernel.swapoff("/dev/vdb")
    assert smaps(task, addr, "Swap") == 0 and vmstat(kernel, "nr_shmem") >= 1024


def test_split_by_request(kernel: Kernel, task: Task) -> None:
    """Through debugfs, which leaves the others whole."""
    remount(kernel, "always")
    tmpfs_file(task, 6 * MB)
    addr = task.mmap("6M", flags=MAP_SHARED, file="/dev/shm/f")
    task.touch(addr, "6M")
    kernel.write("/sys/kernel/debug/split_huge_pages", "/dev/shm/f,0x0,0x200")
    assert counts(kernel) == {"huge": 2, "whole": 2, "alloc": 3, "mapped": 3, "split": 1, "pmds": 1}
    task.mlock(addr + HUGE, 4096)  # a page that is locked in part stays whole, and evictable, but for its PMD entry
    assert (counts(kernel)["huge"], counts(kernel)["whole"]) == (2, 1)
    assert smaps(task, addr + HUGE, "Locked") == 4
    kernel.check()


def test_advice_to_a_part_splits_the_entry(kernel: Kernel, task: Task) -> None:
    """A border of two VMAs in the midst of what a PMD entry maps."""
    remount(kernel, "always")
    tmpfs_file(task, 4 * MB)
    addr = task.mmap("4M", flags=MAP_SHARED, file="/dev/shm/f")
    task.touch(addr, "4M")
    task.madvise(addr + HUGE + 64 * 4096, 37 * 4096, MADV_HUGEPAGE)
    kernel.check()
    assert (counts(kernel)["huge"], counts(kernel)["whole"]) == (2, 1)


def collapsed(kernel: Kernel, task: Task) -> int:
    """4 MB that were faulted in by pages of 4 KB, where huge pages are possible now."""
    kernel.write(f"{SYS}/shmem_enabled", "always")
    addr = task.mmap("4M", flags=SHARED)
    task.madvise(addr, "4M", MADV_NOHUGEPAGE)
    task.touch(addr, "4M", write=True)
    task.madvise(addr, "4M", MADV_HUGEPAGE)
    assert "huge" not in counts(kernel)
    return addr


def test_collapse(kernel: Kernel, task: Task) -> None:
    """MADV_COLLAPSE maps the new pages at once, for who calls it; others map them when they use them."""
    addr = collapsed(kernel, task)
    other = task.fork()
    other.touch(addr, "4M")
    tables = vmstat(kernel, "nr_page_table_pages")
    kernel.write(f"{SYS}/shmem_enabled", "never")
    task.madvise(addr, "4M", MADV_COLLAPSE)
    assert counts(kernel) == {"huge": 2, "whole": 2, "mapped": 2}
    assert vmstat(kernel, "thp_collapse_alloc") == 2 and vmstat(kernel, "nr_page_table_pages") == tables - 4
    assert smaps(task, addr, "ShmemPmdMapped") == 4096 and smaps(other, addr, "Rss") == 0
    kernel.check()
    other.touch(addr, "4M")
    assert smaps(other, addr, "ShmemPmdMapped") == 4096
    task.madvise(addr, "4M", MADV_COLLAPSE)  # it is what it should be
    kernel.write(f"{SYS}/shmem_enabled", "deny")
    with pytest.raises(OSError, match="not possible"):
        task.madvise(addr, "4M", MADV_COLLAPSE)


def test_collapse_of_what_is_swapped(kernel: Kernel, task: Task) -> None:
    """It is read; of nothing there is no huge page."""
    addr = collapsed(kernel, task)
    task.madvise(addr, "4M", MADV_PAGEOUT)
    kernel.run_for(1)
    task.madvise(addr + HUGE, HUGE, MADV_REMOVE)
    with pytest.raises(OSError, match="TRUNCATED") as error:
        task.madvise(addr, "4M", MADV_COLLAPSE)
    assert error.value.errno == errno.EINVAL
    assert counts(kernel)["huge"] == 1 and smaps(task, addr, "Swap") == 0


def test_khugepaged(kernel: Kernel, task: Task) -> None:
    """It leaves alone what is mostly not there, and counts what is a huge page already as collapsed."""
    addr = collapsed(kernel, task)
    task.madvise(addr + 4096, HUGE - 4096, MADV_REMOVE)
    kernel.write(f"{SYS}/khugepaged/max_ptes_none", "510")
    kernel.run_for(11)
    assert counts(kernel) == {"huge": 1} and smaps(task, addr, "ShmemPmdMapped") == 0
    assert vmstat(kernel, "thp_scan_exceed_none_pte") == 1
    kernel.write(f"{SYS}/khugepaged/max_ptes_none", "511")
    kernel.run_for(10)
    assert counts(kernel) == {"huge": 2}
    assert kernel.read(f"{SYS}/khugepaged/pages_collapsed") == b"3\n"
    task.touch(addr, "4M")
    assert counts(kernel) == {"huge": 2, "whole": 2, "mapped": 2}


def read_node(task: Task, addr: int) -> int:
    """The node of a page."""
    return task.move_pages(0, [addr])[0]


@pytest.mark.machine(ram="1G", nodes=2)
def test_moving(kernel: Kernel, task: Task) -> None:
    """A huge page moves to another node whole, also where entries of its frames map it."""
    kernel.write(f"{SYS}/shmem_enabled", "always")
    addr = task.mmap("2M", flags=SHARED)
    task.touch(addr, "2M", write=True)
    node = read_node(task, addr)
    task.migrate_pages(0, [node], [1 - node])
    kernel.check()
    assert read_node(task, addr) == 1 - node
    assert counts(kernel) == {"huge": 1, "whole": 1, "alloc": 1, "mapped": 1}
    task.madvise(addr, "4K", MADV_DONTNEED)
    task.touch(addr + 4096, "64K")
    task.migrate_pages(0, [1 - node], [node])
    kernel.check()
    assert read_node(task, addr + 4096) == node and vmstat(kernel, "thp_migration_success") == 2
    task.touch(addr, "2M")
    assert counts(kernel)["huge"] == 1 and "split" not in counts(kernel)


def test_flags(kernel: Kernel, task: Task) -> None:
    """/proc/kpageflags: THP, a head and 511 tails; all mapped."""
    kernel.write(f"{SYS}/shmem_enabled", "always")
    addr = task.mmap("2M", flags=SHARED)
    task.touch(addr, "2M", write=True)
    pfn = frames(task, addr, 1)[0]
    raw = kernel.vfs.open("/proc/kpageflags", 0).read(HPAGE_PMD_NR * 8, pfn * 8)
    flags = [int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8)]
    mmap, head, tail, thp, swapbacked = 1 << 11, 1 << 15, 1 << 16, 1 << 22, 1 << 14
    assert all(one & (mmap | thp | swapbacked) == mmap | thp | swapbacked for one in flags)
    assert flags[0] & (head | tail) == head and all(one & (head | tail) == tail for one in flags[1:])
