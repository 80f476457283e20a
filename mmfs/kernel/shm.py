"""System V shared memory: segments that have an identifier and outlive who has made them.

A segment is a file of no name, of shared memory or of huge pages, that is attached by mapping it. It goes when it was
marked for it and nobody has it attached any more; with kernel.shm_rmid_forced as soon as nobody has. Its identifier is
its inode number in /proc/PID/maps, `SYSV` and its key the name.

Linux: ipc/shm.c.

Simplified: SHM_LOCK and SHM_UNLOCK are not there (EINVAL); one IPC namespace; a segment is no object of the slab.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from errno import EINVAL, ENOSPC
from typing import TYPE_CHECKING, Final

from mmfs.kernel.clock import NSEC_PER_SEC
from mmfs.kernel.ipc_ids import IPC_PRIVATE, S_IRWXUGO, IpcIds, KernIpcPerm, check_permission
from mmfs.mm.fault import task_of
from mmfs.mm.hugetlbfs import HugetlbInode, hstate_sizelog, hugetlb_file_setup
from mmfs.mm.inode import File
from mmfs.mm.mman import (
    FMODE_READ,
    FMODE_WRITE,
    MAP_FIXED,
    MAP_SHARED,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    VM_NORESERVE,
    page_align,
)
from mmfs.mm.mmap import do_mmap
from mmfs.mm.munmap import do_munmap
from mmfs.mm.shmem import shmem_file_setup
from mmfs.mm.util import OVERCOMMIT_NEVER
from mmfs.mm.vma import VmAreaStruct, VmOperations
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.mm_struct import MmStruct

SHM_HUGETLB, SHM_NORESERVE = 0o4000, 0o10000
SHM_HUGE_SHIFT, SHM_HUGE_MASK = 26, 0x3F
SHM_RDONLY, SHM_RND, SHM_REMAP, SHM_EXEC = 0o10000, 0o20000, 0o40000, 0o100000
SHM_DEST: Final = 0o1000
"""In a mode: the segment goes when nobody has it attached any more."""
IPC_RMID, IPC_SET, IPC_STAT, IPC_INFO = 0, 1, 2, 3
SHM_STAT, SHM_INFO, SHM_STAT_ANY = 13, 14, 15
S_IRUGO, S_IWUGO, S_IXUGO = 0o444, 0o222, 0o111


class ShmidKernel(KernIpcPerm):
    """A segment. Linux: struct shmid_kernel."""

    def __init__(self, key: int, mode: int, size: int, file: File, creator: Task) -> None:
        super().__init__(key, mode, creator)
        self.file = file
        self.segsz = size
        self.nattch = 0
        self.atim = self.dtim = 0
        self.ctim = creator.kernel.clock.realtime_ns // NSEC_PER_SEC
        self.cprid, self.lprid = creator.tgid, 0
        self.creator: Task | None = creator
        """Who has made it, as long as that lives."""

    @property
    def pages(self) -> int:
        """What counts against kernel.shmall."""
        return -(-self.segsz // PAGE_SIZE)

    def rss_swap(self) -> tuple[int, int]:
        """Its pages in memory and in swap. Linux: shm_add_rss_swap()."""
        inode = self.file.inode
        if isinstance(inode, HugetlbInode):
            return len(inode.folios) << inode.hstate.order, 0
        mapping, swap = inode.mapping, inode.kernel.mmu.swap
        return mapping.nrpages, int(swap.shmem_swap_usage(mapping.id, 0, int(mapping.record["slots"])))


@dataclass(frozen=True)
class ShmidDs:
    """What shmctl(IPC_STAT) tells. Linux: struct shmid64_ds."""

    key: int
    uid: int
    gid: int
    cuid: int
    cgid: int
    mode: int
    segsz: int
    atime: int
    dtime: int
    ctime: int
    cpid: int
    lpid: int
    nattch: int


class ShmFile(File):
    """What is mapped when a segment is attached: whoever opens or closes a mapping is counted. Linux: shm_file_data."""

    def __init__(self, segment: ShmidKernel, f_mode: int) -> None:
        super().__init__(segment.file.inode, segment.file.path, f_mode)
        self.segment = segment
        self.vm_ops: VmOperations | None = None
        """Those of the file behind it."""

    def mmap(self, vma: VmAreaStruct) -> None:
        """Linux: shm_mmap()."""
        shm = vma.vm_mm.kernel.shm
        shm.opened(self.segment)
        try:
            super().mmap(vma)
        except OSError:
            shm.closed(self.segment, vma.vm_mm)
            raise
        self.vm_ops = vma.vm_ops
        vma.vm_ops = shm_vm_ops


def _shm_file(vma: VmAreaStruct) -> ShmFile:
    assert isinstance(vma.vm_file, ShmFile)
    return vma.vm_file


def shm_open(vma: VmAreaStruct) -> None:
    """One more mapping. Linux: shm_open()."""
    file = _shm_file(vma)
    if file.vm_ops is not None and file.vm_ops.open is not None:
        file.vm_ops.open(vma)
    vma.vm_mm.kernel.shm.opened(file.segment)


def shm_close(vma: VmAreaStruct) -> None:
    """One less. Linux: shm_close()."""
    file = _shm_file(vma)
    if file.vm_ops is not None and file.vm_ops.close is not None:
        file.vm_ops.close(vma)
    vma.vm_mm.kernel.shm.closed(file.segment, vma.vm_mm)


def shm_may_split(vma: VmAreaStruct, addr: int) -> None:
    """Linux: shm_may_split()."""
    file = _shm_file(vma)
    if file.vm_ops is not None and file.vm_ops.may_split is not None:
        file.vm_ops.may_split(vma, addr)


shm_vm_ops = VmOperations(open=shm_open, close=shm_close, may_split=shm_may_split)


class Shm:
    """The segments of a machine. ``tot``: their pages. Linux: shm_ids, struct ipc_namespace."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.ids: IpcIds[ShmidKernel] = IpcIds()
        self.tot = 0

    def now(self) -> int:
        """Seconds since 1970."""
        return self.kernel.clock.realtime_ns // NSEC_PER_SEC

    # -- making one -----------------------------------------------------------------------------------------------

    def shmget(self, task: Task, key: int, size: int, flags: int) -> int:
        """The identifier of a key's segment, or of a new one. EINVAL, ENOENT, EEXIST, EACCES, ENOSPC, ENOMEM."""
        found = self.ids.find(key, flags)
        if found is None:
            return self.newseg(task, key, size, flags)
        if found.segsz < size:
            raise OSError(EINVAL, "the segment is smaller")
        check_permission(found, task, flags)
        return found.id

    def newseg(self, task: Task, key: int, size: int, flags: int) -> int:
        """Linux: newseg()."""
        limits, pages = self.kernel.ipc, -(-size // PAGE_SIZE)
        if not 1 <= size <= limits.shmmax:
            raise OSError(EINVAL, "no such size is allowed: kernel.shmmax")
        if self.tot + pages > limits.shmall:
            raise OSError(ENOSPC, "kernel.shmall")
        file = self._file(task, f"/SYSV{key & 0xFFFF_FFFF:08x}", size, flags)
        segment = ShmidKernel(key, flags & S_IRWXUGO, size, file, task)
        try:
            self.ids.add(segment, limits.shmmni)
        except OSError:
            file.put()
            raise
        file.inode.ino = segment.id
        self.tot += pages
        return segment.id

    def _file(self, task: Task, name: str, size: int, flags: int) -> File:
        if flags & SHM_HUGETLB:
            log = flags >> SHM_HUGE_SHIFT & SHM_HUGE_MASK
            huge = hstate_sizelog(self.kernel, log).huge_page_size
            acctflag = VM_NORESERVE if flags & SHM_NORESERVE else 0
            return hugetlb_file_setup(self.kernel, name, -(-size // huge) * huge, acctflag, log, task)
        strict = self.kernel.overcommit.sysctl_overcommit_memory == OVERCOMMIT_NEVER
        acctflag = VM_NORESERVE if flags & SHM_NORESERVE and not strict else 0
        file = shmem_file_setup(self.kernel, name, size, task.mm, acctflag)
        file.inode.sysv = True
        self.kernel.shmem_huge.apply(file.mapping)
        return file

    # -- users ----------------------------------------------------------------------------------------------------

    def opened(self, segment: ShmidKernel) -> None:
        """Linux: __shm_open()."""
        current = self.kernel.tasks.current
        segment.atim, segment.nattch = self.now(), segment.nattch + 1
        if current is not None:
            segment.lprid = current.tgid

    def closed(self, segment: ShmidKernel, mm: MmStruct) -> None:
        """Linux: __shm_close()."""
        segment.dtim, segment.nattch = self.now(), segment.nattch - 1
        if mm.owner is not None:
            segment.lprid = task_of(mm).tgid
        self.destroy_if_unused(segment)

    def may_destroy(self, segment: ShmidKernel) -> bool:
        """Linux: shm_may_destroy()."""
        return segment.nattch == 0 and bool(self.kernel.ipc.shm_rmid_forced or segment.mode & SHM_DEST)

    def destroy_if_unused(self, segment: ShmidKernel) -> None:
        """Have a segment go that nobody needs. Linux: shm_destroy()."""
        if not self.may_destroy(segment):
            return
        self.tot -= segment.pages
        self.ids.remove(segment)
        segment.file.put()

    def destroy_orphaned(self) -> None:
        """kernel.shm_rmid_forced was set: what nobody has attached and whose maker is gone. Linux: ipc/shm.c."""
        for segment in self.ids.in_order():
            if segment.creator is None:
                self.destroy_if_unused(segment)

    def exit_shm(self, task: Task) -> None:
        """A task ends. Linux: exit_shm()."""
        for segment in self.ids.in_order():
            if segment.creator is task:
                segment.creator = None
                if self.kernel.ipc.shm_rmid_forced:
                    self.destroy_if_unused(segment)

    def shmat(self, task: Task, mm: MmStruct, shmid: int, addr: int, flags: int) -> int:
        """Attach a segment: the address. EINVAL, EACCES, ENOMEM. Linux: do_shmat()."""
        if addr and flags & SHM_RND:
            addr &= -PAGE_SIZE
        if addr % PAGE_SIZE or (not addr and flags & SHM_REMAP):
            raise OSError(EINVAL, "not an address to attach at")
        prot = PROT_READ if flags & SHM_RDONLY else PROT_READ | PROT_WRITE
        mode = S_IRUGO if flags & SHM_RDONLY else S_IRUGO | S_IWUGO
        if flags & SHM_EXEC:
            prot, mode = prot | PROT_EXEC, mode | S_IXUGO
        segment = self.ids.obtain(shmid)
        check_permission(segment, task, mode)
        size = segment.file.inode.size
        if addr and not flags & SHM_REMAP and mm.find_vma_intersection(addr, addr + size) is not None:
            raise OSError(EINVAL, "something is mapped there")
        segment.nattch += 1
        file = ShmFile(segment, FMODE_READ if flags & SHM_RDONLY else FMODE_READ | FMODE_WRITE)
        try:
            return do_mmap(mm, addr, size, prot, MAP_SHARED | (MAP_FIXED if addr else 0), file)
        finally:
            file.put()
            segment.nattch -= 1
            self.destroy_if_unused(segment)

    def shmdt(self, mm: MmStruct, addr: int) -> None:
        """Detach the segment whose mapping, or what is left of it, began at an address. EINVAL. Linux: ksys_shmdt()."""
        parts = [vma for vma in mm.mt if vma.vm_start >= addr and isinstance(vma.vm_file, ShmFile)]
        parts = [vma for vma in parts if vma.vm_start - addr >> PAGE_SHIFT == vma.vm_pgoff]
        if addr % PAGE_SIZE or not parts:
            raise OSError(EINVAL, "no segment is attached there")
        file = _shm_file(parts[0])
        end = addr + page_align(file.inode.size)
        for vma in parts:
            if vma is parts[0] or (vma.vm_file is file and vma.vm_end <= end):
                do_munmap(mm, vma.vm_start, vma.vm_end - vma.vm_start)

    # -- shmctl() -------------------------------------------------------------------------------------------------

    def rmid(self, task: Task, shmid: int) -> None:
        """Mark a segment to go. EINVAL, EPERM. Linux: shmctl_down(), do_shm_rmid()."""
        segment = self.ids.obtain(shmid)
        segment.check_owner(task)
        segment.mode |= SHM_DEST
        segment.key = IPC_PRIVATE
        self.destroy_if_unused(segment)

    def set(self, task: Task, shmid: int, uid: int, gid: int, mode: int) -> None:
        """Other owners and rights. EINVAL, EPERM. Linux: shmctl_down()."""
        segment = self.ids.obtain(shmid)
        segment.check_owner(task)
        segment.update(uid, gid, mode)
        segment.ctim = self.now()

    def stat(self, task: Task, segment: ShmidKernel, anybody: bool = False) -> ShmidDs:
        """EACCES. Linux: shmctl_stat()."""
        if not anybody:
            check_permission(segment, task, S_IRUGO)
        return ShmidDs(
            segment.key, segment.uid, segment.gid, segment.cuid, segment.cgid, segment.mode, segment.segsz,
            segment.atim, segment.dtim, segment.ctim, segment.cprid, segment.lprid, segment.nattch,
        )  # fmt: skip

    # -- checks ---------------------------------------------------------------------------------------------------

    def check(self, attached: Callable[[ShmidKernel], int]) -> None:
        """Counts against mappings: ``attached`` tells how many a segment has. Raises AssertionError."""
        if self.tot != sum(segment.pages for segment in self.ids.objects.values()):
            raise AssertionError(f"pages of System V segments: {self.tot}")
        for idx, segment in self.ids.objects.items():
            if segment.id % (1 << 15) != idx or segment.nattch != attached(segment):
                raise AssertionError(f"segment {segment.id}: place {idx}, attached {segment.nattch}")
