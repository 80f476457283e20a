"""The zoo: one process with every kind of mapping, made again with the system calls that a real one was made with.

The captures hold what a real kernel said about it (512M/02-zoo: processes 262 and its child 264). The program's own
segments differ, so its mappings in the mmap area are compared, which stand at the same addresses here.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmfs.mm.inode import File
from mmfs.mm.mman import (
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_PAGEOUT,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_GROWSDOWN,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from mmfs.mm.shmem import shmem_file_setup
from mmfs.mm.special_mapping import map_vdso

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

KB, MB = 1 << 10, 1 << 20
RW = PROT_READ | PROT_WRITE
PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS
MLOCK_ONFAULT = 1
PR_SET_VMA, PR_SET_VMA_ANON_NAME = 0x53564D41, 0
MMAP_BASE = 0x7FE0ACD6F000
"""Where the captured process's mmap area ended: the end of its vDSO, which is mapped first."""


@dataclass
class Zoo:
    """The process, its child, and the addresses of its mappings by name."""

    kernel: Kernel
    task: Task
    at: dict[str, int] = field(default_factory=dict)
    child: Task | None = None

    def map(self, name: str, length: int, prot: int = RW, flags: int = PRIVATE, file: File | int | None = None) -> int:
        """mmap(2), remembered by name."""
        self.at[name] = addr = self.task.mmap(length, prot, flags, file)
        return addr

    def write(self, name: str, length: int) -> None:
        """Write to every page of the first bytes of a mapping."""
        self.task.touch(self.at[name], length, write=True)

    def read(self, name: str, length: int) -> None:
        """Read every page of the first bytes of a mapping."""
        self.task.touch(self.at[name], length)

    def guard(self, number: int) -> None:
        """A mapping that keeps its neighbours from merging."""
        self.map(f"guard{number}", 64 * KB, PROT_NONE)


def zoo(kernel: Kernel) -> Zoo:
    """Make the zoo. MADV_PAGEOUT of `swapme` and hugetlb pages do nothing yet; stand-ins keep the addresses."""
    task = kernel.spawn("golden", argv=["golden", "zoo", "/dev/shm/zoo.ready", "/data", "s"])
    mm = task.mm
    assert mm is not None
    for vma in list(mm.mmap):
        if 0x7000_0000_0000 < vma.vm_start < mm.start_stack & ~0xFFF and vma.name != "[stack]":
            task.munmap(vma.vm_start, vma.vm_end - vma.vm_start)
    mm.mmap_base = MMAP_BASE
    map_vdso(mm)
    z = Zoo(kernel, task)
    _anonymous(z)
    _files(z)
    _advised(z)
    for _ in range(4):
        area = task.mmap(MB)
        task.madvise(area, MB, MADV_NOHUGEPAGE)
        task.mmap(4 * KB, PROT_NONE)
        task.touch(area, MB, write=True)
    task.touch(mm.start_stack - 200 * KB, 200 * KB, write=True)
    z.child = task.fork()
    z.child.touch(z.at["anon8m"], MB, write=True)
    return z


def _anonymous(z: Zoo) -> None:
    task = z.task
    z.map("anon8m", 8 * MB)
    z.write("anon8m", 6 * MB)
    z.guard(1)
    thp = -(-z.map("thp", 10 * MB) // (2 * MB)) * 2 * MB
    task.madvise(thp, 8 * MB, MADV_HUGEPAGE)
    task.touch(thp, 6 * MB, write=True)
    z.guard(2)
    task.madvise(z.map("nothp", 4 * MB), 4 * MB, MADV_NOHUGEPAGE)
    z.write("nothp", MB)
    z.guard(3)
    task.mlock(z.map("locked", 2 * MB), 2 * MB)
    z.guard(4)
    task.mlock(z.map("lockonfault", MB), MB, MLOCK_ONFAULT)
    z.write("lockonfault", 256 * KB)
    z.guard(5)
    z.map("ro", MB, PROT_READ)
    z.read("ro", MB)
    z.map("rwx", 256 * KB, RW | PROT_EXEC)
    z.write("rwx", 128 * KB)
    z.map("noreserve", 64 * MB, flags=PRIVATE | MAP_NORESERVE)
    z.write("noreserve", 512 * KB)
    z.guard(6)
    z.map("shanon", 3 * MB, flags=MAP_SHARED | MAP_ANONYMOUS)
    z.write("shanon", 2 * MB)


def _files(z: Zoo) -> None:
    task, kernel = z.task, z.kernel
    kernel.namei.create("/data/zoo.data")
    fd = task.open("/data/zoo.data", 2)
    task.write(fd, 6 * MB)
    task.fsync(fd)
    z.map("fsh", 4 * MB, flags=MAP_SHARED, file=fd)
    z.read("fsh", 3 * MB)
    z.write("fsh", MB)
    z.map("fpriv", 4 * MB, flags=MAP_PRIVATE, file=fd)
    z.read("fpriv", 2 * MB)
    z.write("fpriv", 512 * KB)
    task.madvise(z.map("fro", 6 * MB, PROT_READ, MAP_SHARED, fd), 6 * MB, MADV_SEQUENTIAL)
    z.map("fdel", MB, flags=MAP_SHARED, file=_created(z, "/data/zoo.deleted", MB))
    z.write("fdel", 64 * KB)
    task.unlink("/data/zoo.deleted")
    memfd = task.memfd_create("zoo-memfd")
    task.ftruncate(memfd, 4 * MB)
    z.map("memfd", 4 * MB, flags=MAP_SHARED, file=memfd)
    z.write("memfd", 3 * MB)
    segment = shmem_file_setup(kernel, "/SYSV00000000", 2 * MB)
    segment.inode.ino = 0  # a SysV segment's number is its id
    z.map("sysv", 2 * MB, flags=MAP_SHARED, file=segment)
    segment.put()
    z.write("sysv", MB)
    z.map("devshm", MB, flags=MAP_SHARED, file=_created(z, "/dev/shm/zoo.shm", MB))
    z.write("devshm", 512 * KB)
    z.map("htlb", 4 * MB, PROT_NONE)
    z.map("htlbsh", 2 * MB, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS)


def _created(z: Zoo, path: str, size: int) -> int:
    fd = z.task.open(path, 0o102)
    z.task.ftruncate(fd, size)
    return fd


def _advised(z: Zoo) -> None:
    task = z.task
    task.madvise(z.map("lazyfree", 2 * MB), 2 * MB, MADV_NOHUGEPAGE)
    z.write("lazyfree", 2 * MB)
    task.madvise(z.at["lazyfree"], MB, MADV_FREE)
    z.guard(7)
    for name, advice, written in (
        ("dontfork", MADV_DONTFORK, 256 * KB),
        ("dontdump", MADV_DONTDUMP, 256 * KB),
        ("wipe", MADV_WIPEONFORK, 256 * KB),
        ("rnd", MADV_RANDOM, 128 * KB),
    ):
        task.madvise(z.map(name, 256 * KB), 256 * KB, advice)
        z.write(name, written)
    z.map("mergeable", 2 * MB)
    task.set_contents(z.at["mergeable"], 2 * MB, "same", 0x5A)
    z.write("mergeable", 2 * MB)
    task.madvise(z.at["mergeable"], 2 * MB, MADV_MERGEABLE)
    z.guard(8)
    z.map("named", 256 * KB)
    z.write("named", 64 * KB)
    with suppress(OSError):  # Debian's kernel has no CONFIG_ANON_VMA_NAME
        task.prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, z.at["named"], 256 * KB, "zoo-named")
    z.map("grow", 64 * KB, flags=PRIVATE | MAP_GROWSDOWN)
    z.write("grow", 64 * KB)
    z.map("populate", MB, flags=PRIVATE | MAP_POPULATE)
    z.map("split", MB)
    z.write("split", MB)
    task.mprotect(z.at["split"] + 256 * KB, 256 * KB, PROT_READ)
    task.madvise(z.map("swapme", 4 * MB), 4 * MB, MADV_NOHUGEPAGE)
    z.write("swapme", 4 * MB)
    task.madvise(z.at["swapme"], 3 * MB, MADV_PAGEOUT)
    z.guard(9)
