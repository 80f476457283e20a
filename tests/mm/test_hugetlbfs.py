"""Mappings of huge pages: where they stand, what files print of them, and that nothing of them is ever lost."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any

import pytest

from mmfs.kernel.signal import BusError, TaskKilled
from mmfs.mm.mman import (
    MADV_DONTNEED,
    MAP_ANONYMOUS,
    MAP_HUGE_1GB,
    MAP_HUGETLB,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from mmfs.mm_types import PTE_PSE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.hugetlb import Hstate

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30
PRIVATE, SHARED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB
POOL = "/proc/sys/vm/nr_hugepages"


@pytest.fixture
def pool(kernel: Kernel) -> Hstate:
    kernel.write(POOL, "8")
    return kernel.hugetlb.default


def counts(pool: Hstate) -> tuple[int, int, int, int]:
    return pool.nr_huge_pages, pool.free_huge_pages, pool.resv_huge_pages, pool.surplus_huge_pages


def row(kernel: Kernel, task: Any, path: str, name: str) -> int:
    """The sum of the rows of that name, in kB."""
    lines = kernel.read(f"/proc/{task.pid}/{path}").decode().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def test_entries_stand_where_a_table_would(kernel: Kernel, pool: Hstate) -> None:
    task = kernel.spawn("huge")
    before = task.mm.pgtables_bytes
    addr = task.mmap("8M", flags=PRIVATE)
    assert addr % (2 * MB) == 0
    task.touch(addr, "8M", write=True)
    assert task.mm.pgtables_bytes - before <= 2 * 4096, "a PMD table and maybe a PUD table, no PTE table"
    from mmfs.mm.pgtable import walk

    entries = [entry for _, _, _, entry in walk(kernel, task.mm.row, addr)]
    assert entries[-1] & PTE_PSE
    assert row(kernel, task, "status", "HugetlbPages") == 8192
    assert row(kernel, task, "status", "VmRSS") < 8192
    kernel.check()
    task.exit(0)
    assert counts(pool) == (8, 8, 0, 0)


def test_what_files_print(kernel: Kernel, pool: Hstate) -> None:
    task = kernel.spawn("huge")
    private = task.mmap("4M", flags=PRIVATE)
    shared = task.mmap("2M", flags=SHARED)
    task.touch(private, 1, write=True)
    task.touch(shared, 1, write=True)
    child = task.fork()
    lines = [line for line in kernel.read(f"/proc/{task.pid}/maps").decode().splitlines() if "hugepage" in line]
    assert [line.split()[0:2] for line in lines] == [
        [f"{shared:08x}-{shared + 2 * MB:08x}", "rw-s"],
        [f"{private:08x}-{private + 4 * MB:08x}", "rw-p"],
    ]
    assert all(line.endswith(" /anon_hugepage (deleted)") and " 00:11 " in line for line in lines)
    for name, kb in (("Private_Hugetlb", 2048), ("Shared_Hugetlb", 2048)):
        assert row(kernel, task, "smaps", name) == row(kernel, task, "smaps_rollup", name) == kb
    assert "VmFlags: rd wr sh mr mw me ms de ht sd \n" in kernel.read(f"/proc/{task.pid}/smaps").decode()
    numa = [line.partition(" ")[2] for line in kernel.read(f"/proc/{task.pid}/numa_maps").decode().splitlines()]
    assert "default file=/anon_hugepage\\040(deleted) huge dirty=1 N0=1 kernelpagesize_kB=2048" in numa
    assert "default file=/anon_hugepage\\040(deleted) huge anon=1 dirty=1 mapmax=2 N0=1 kernelpagesize_kB=2048" in numa
    assert row(kernel, child, "status", "HugetlbPages") == 2048, "the shared page is mapped when it is touched"


def test_frames(kernel: Kernel, pool: Hstate) -> None:
    task = kernel.spawn("huge")
    addr = task.mmap("4M", flags=PRIVATE)
    task.touch(addr + 5000, 1, write=True)
    (folio,) = pool.hugepage_activelist.values()
    pagemap = kernel.vfs.open(f"/proc/{task.pid}/pagemap")
    entries = struct.unpack("<2Q", pagemap.read(16, (addr // 4096 + 511) * 8))
    soft_dirty, exclusive, present = 1 << 55, 1 << 56, 1 << 63
    assert entries == (present | exclusive | soft_dirty | folio.pfn + 511, soft_dirty)
    free = pool.hugepage_freelists[0][0]
    kpageflags = kernel.vfs.open("/proc/kpageflags")
    frames = (folio.pfn, folio.pfn + 1, free, free + 1)
    flags = [struct.unpack("<Q", kpageflags.read(8, pfn * 8))[0] for pfn in frames]
    bits = [{bit for bit in range(40) if value >> bit & 1} for value in flags]
    assert bits == [{3, 11, 12, 15, 17, 21}, {3, 11, 12, 16, 17, 21}, {15, 17}, {16, 17}], "as a real 6.12 shows them"


def test_pages_of_a_gigabyte(boot: Any) -> None:
    kernel = boot(ram="8G", preset="bare", seed=1, cmdline="hugepagesz=1G hugepages=3")
    pool = kernel.hugetlb.hstates[0]
    assert counts(pool) == (3, 3, 0, 0)
    task = kernel.spawn("huge")
    addr = task.mmap("2G", flags=PRIVATE | MAP_HUGE_1GB)
    assert addr % GB == 0 and counts(pool) == (3, 3, 2, 0)
    before = task.mm.pgtables_bytes
    task.touch(addr, "2G", write=True, stride="256M")
    assert counts(pool) == (3, 1, 0, 0) and task.mm.pgtables_bytes - before <= 4096
    assert row(kernel, task, "smaps", "Private_Hugetlb") == 2 << 20
    kernel.check()
    child = task.fork()
    task.touch(addr, 1, write=True)
    assert counts(pool) == (3, 0, 0, 0)
    kernel.check()
    with pytest.raises(BusError):
        child.touch(addr + GB, 1, write=True)
    task.munmap(addr, "1G")
    kernel.check()
    assert counts(pool) == (3, 2, 0, 0)
    with pytest.raises(OSError) as caught:
        task.munmap(addr + GB, "2M")
    assert caught.value.errno == errno.EINVAL


def test_protection(kernel: Kernel, pool: Hstate) -> None:
    task = kernel.spawn("huge")
    addr = task.mmap("4M", flags=PRIVATE)
    task.touch(addr, "4M", write=True)
    task.mprotect(addr, "2M", PROT_NONE)
    kernel.check()
    assert counts(pool)[1] == 6
    pagemap = kernel.vfs.open(f"/proc/{task.pid}/pagemap")
    assert struct.unpack("<Q", pagemap.read(8, addr // 4096 * 8))[0] >> 55 == 0x103, "as a real 6.12 shows it"
    task.mprotect(addr, "2M", PROT_READ | PROT_WRITE)
    task.touch(addr, "4M", write=True)
    kernel.check()
    task.munmap(addr, "4M")
    assert counts(pool) == (8, 8, 0, 0)


def test_mremap_takes_the_promise_along(kernel: Kernel, pool: Hstate) -> None:
    task = kernel.spawn("huge")
    addr = task.mmap("8M", flags=PRIVATE)
    task.touch(addr + 2 * MB, "2M", write=True)
    where = task.mmap("64M", PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS) + 32 * MB & -(2 * MB)
    assert task.mremap(addr, "8M", "8M", 3, where) == where
    assert counts(pool) == (8, 7, 3, 0)
    kernel.check()
    task.touch(where, "8M", write=True)
    assert counts(pool) == (8, 4, 0, 0)
    task.mremap(where, "8M", "4M")
    assert counts(pool) == (8, 6, 0, 0)
    kernel.check()


def test_addresses_in_any_order(kernel: Kernel, pool: Hstate) -> None:
    """Accesses go from huge pages to others and back."""
    task = kernel.spawn("huge")
    huge, small = task.mmap("4M", flags=PRIVATE), task.mmap("4M")
    task.touch([huge, small, huge + 2 * MB, small + 8192, huge + 1], write=True)
    assert counts(pool) == (8, 6, 0, 0)
    assert task.mm.hugetlb_usage == 1024
    more = task.mmap("16M", flags=PRIVATE | MAP_NORESERVE)
    with pytest.raises(BusError):
        task.touch([small, *range(more, more + 16 * MB, 2 * MB)])


def test_a_fault_takes_its_time(kernel: Kernel, pool: Hstate) -> None:
    """Clearing 2 MB takes as long as a huge page of the cost table does."""
    from mmfs.kernel.cputime import Cost

    task = kernel.spawn("huge")
    addr = task.mmap("8M", flags=PRIVATE)
    before = kernel.scheduler.ready_ns(task)
    task.touch(addr, "8M", write=True, stride="2M")
    took = kernel.scheduler.ready_ns(task) - before
    assert 4 * Cost.FAULT_HUGE * 0.9 < took < 4 * Cost.FAULT_HUGE * 1.2


def test_files(kernel: Kernel) -> None:
    task = kernel.spawn("huge")
    kernel.write(POOL, "8")
    task.mount("none", "/mnt/huge", "hugetlbfs", "size=6M,nr_inodes=3,mode=1777")
    assert "none /mnt/huge hugetlbfs rw,relatime,mode=1777,nr_inodes=3,pagesize=2M,size=6291456 0 0\n" in (
        kernel.read("/proc/mounts").decode()
    )
    fd = task.open("/mnt/huge/a", 0o102)
    addr = task.mmap("4M", flags=MAP_SHARED, file=fd)
    task.touch(addr, "2M", write=True)
    assert task.stat("/mnt/huge/a") == 4 * MB
    assert f"{addr:08x}-{addr + 4 * MB:08x} rw-s" in kernel.read(f"/proc/{task.pid}/maps").decode()
    kernel.create_file("/mnt/huge/b", "2M")
    for call, error in (
        (lambda: task.open("/mnt/huge/c", 0o102), errno.ENOSPC),
        (lambda: kernel.create_file("/mnt/huge/d", "1M"), errno.EINVAL),
        (lambda: task.mmap("4M", flags=MAP_SHARED, file="/mnt/huge/b"), errno.ENOMEM),
        (lambda: task.umount("/mnt/huge"), errno.EBUSY),
        (lambda: task.write(fd, 10), errno.EINVAL),
        (lambda: task.mmap("2M", flags=MAP_SHARED, file=fd, offset="4K"), errno.EINVAL),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == error
    assert task.read(fd, "4M") == 4 * MB
    kernel.check()
    task.exit(0)
    assert counts(kernel.hugetlb.default) == (8, 7, 1, 0), "a file keeps its page, and what was reserved of it"
    init = kernel.tasks[1]
    init.umount("/mnt/huge")
    assert counts(kernel.hugetlb.default) == (8, 8, 0, 0)
    assert "/mnt/huge" not in kernel.read("/proc/mounts").decode()


@pytest.mark.parametrize(
    "options", ["pagesize=4K", "size=x", "min_size=4M,size=2M", "nonsense", "mode=9", "nr_inodes="]
)
def test_bad_mount_options(kernel: Kernel, options: str) -> None:
    with pytest.raises(OSError) as caught:
        kernel.tasks[1].mount("none", "/mnt/huge", "hugetlbfs", options)
    assert caught.value.errno == errno.EINVAL


def test_the_oom_killer_gives_pages_back(boot: Any) -> None:
    kernel = boot(ram="256M", preset="bare", seed=1)
    kernel.write(POOL, "16")
    task = kernel.spawn("huge")
    task.touch(task.mmap("32M", flags=PRIVATE), "32M", write=True)
    hog = [task.mmap("32M") for _ in range(8)]
    with pytest.raises(TaskKilled):
        task.touch([addr + at for addr in hog for at in range(0, 32 * MB, 4096)], write=True)
    assert counts(kernel.hugetlb.default) == (16, 16, 0, 0)
    assert "hugepages_total=16 hugepages_free=0 hugepages_surp=0 hugepages_size=2048kB" in kernel.printk.dmesg()


def test_the_owner_survives_and_the_child_is_told(kernel: Kernel) -> None:
    kernel.write(POOL, "1")
    task = kernel.spawn("huge")
    addr = task.mmap("2M", flags=PRIVATE)
    task.touch(addr, 1, write=True)
    child = task.fork()
    task.touch(addr, 1, write=True)
    with pytest.raises(BusError):
        child.touch(addr, 1)
    assert f"PID {child.pid} killed due to inadequate hugepage pool" in kernel.printk.dmesg()


def test_dontneed_and_a_second_thread(kernel: Kernel, pool: Hstate) -> None:
    task = kernel.spawn("huge")
    addr = task.mmap("8M", flags=PRIVATE)
    thread = task.pthread_create()
    thread.touch(addr, "8M", write=True)
    task.madvise(addr, "4M", MADV_DONTNEED)
    assert counts(pool) == (8, 6, 2, 0)
    thread.touch(addr, "8M", write=True)
    assert counts(pool) == (8, 4, 0, 0)
