"""fallocate(2): memory for a part of a file of tmpfs or hugetlbfs in advance, or a hole.

Linux: fs/open.c, vfs_fallocate(); mm/shmem.c, shmem_fallocate(); fs/hugetlbfs/inode.c, hugetlbfs_fallocate().

Simplified: only tmpfs and hugetlbfs (EOPNOTSUPP); of a huge page that is split, what lies beyond the end of the file is
free even if it was allocated in advance.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import numpy as np

from mmfs.mm.filemap import Room
from mmfs.mm.hugetlb_fallocate import hugetlbfs_fallocate
from mmfs.mm.hugetlb_vma import punch_hole
from mmfs.mm.hugetlbfs import HugetlbInode
from mmfs.mm.mman import FMODE_WRITE
from mmfs.mm_types import FAULT_HUGE, FAULT_OOM, FAULT_SWAP, PAGE_SHIFT, PAGE_SIZE, SWAP_CLUSTER_MAX

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.kernel.namei import OpenFile
    from mmfs.kernel.task import Task
    from mmfs.mm.filemap import AddressSpace

FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
_KNOWN: Final = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_SLICE_NS: Final = 1_000_000
_SWAPIN_BYTES: Final = SWAP_CLUSTER_MAX * PAGE_SIZE
MAX_LFS_FILESIZE: Final = (1 << 63) - 1


def vfs_fallocate(task: Task, file: OpenFile, mode: int, offset: int, length: int) -> None:
    """EINVAL, EOPNOTSUPP, EBADF, EFBIG, ENOMEM and what a pool has to say."""
    inode = file.inode
    if offset < 0 or length <= 0:
        raise OSError(errno.EINVAL, "no such part of a file")
    if mode & ~_KNOWN or mode == FALLOC_FL_PUNCH_HOLE:
        raise OSError(errno.EOPNOTSUPP, f"fallocate: mode {mode:#x}")
    if not file.f_mode & FMODE_WRITE:
        raise OSError(errno.EBADF, "not open for writing")
    if offset + length > MAX_LFS_FILESIZE:
        raise OSError(errno.EFBIG, "beyond what a file can have")
    if not inode.shmem:
        raise OSError(errno.EOPNOTSUPP, "no file of tmpfs or hugetlbfs")
    if mode & FALLOC_FL_PUNCH_HOLE:
        _punch(file, offset, offset + length)
        return
    if isinstance(inode, HugetlbInode):
        assert task.mm is not None
        hugetlbfs_fallocate(task.mm, file, inode, offset, offset + length)
        if not mode & FALLOC_FL_KEEP_SIZE:
            inode.size = max(inode.size, offset + length)
        task.account_faults()
        return
    shmem_fallocate(task, file, offset, offset + length)
    if not mode & FALLOC_FL_KEEP_SIZE and offset + length > inode.size:
        inode.truncate(offset + length)
    file.updated()


def _punch(file: OpenFile, start: int, end: int) -> None:
    """The whole pages of a part go; what is left of it is only zeroed. Linux: shmem_truncate_range()."""
    inode = file.inode
    first, last = -(-start >> PAGE_SHIFT), end >> PAGE_SHIFT
    if isinstance(inode, HugetlbInode):
        punch_hole(inode, first, last)
        return
    if first < last:
        inode.mapping.truncate_pages(first, last)
    file.updated()


def undo(mapping: AddressSpace, added: NDArray[np.intp]) -> None:
    """Take away the pages that a call has added which failed. Linux: shmem_undo_range() with unfalloc."""
    for run in np.split(added, np.flatnonzero(np.diff(added) > 1) + 1):
        if len(run):
            mapping.truncate_pages(int(run[0]), int(run[-1]) + 1)


def shmem_fallocate(task: Task, file: OpenFile, start: int, end: int) -> None:
    """Have the pages of a part of a tmpfs file. ENOMEM. Linux: shmem_fallocate()."""
    kernel, mapping = task.kernel, file.mapping
    index, last = start >> PAGE_SHIFT, -(-end >> PAGE_SHIFT)
    now = kernel.scheduler.ready_ns(task)
    mapping.reserve(last)
    first, vacant = index, mapping.slots()[index:last] == 0
    with Room(kernel) as room:
        while index < last:
            index = kernel.mmu.shmem.fallocate(mapping.id, index, last, now, now + _SLICE_NS)
            reason = kernel.mmu.filemap.reason
            now = task._spent(now)
            if reason == FAULT_OOM and not room.make():
                undo(mapping, first + np.flatnonzero(vacant[: index - first]))
                raise OSError(errno.ENOMEM, "no memory for the page cache")
            if reason == FAULT_HUGE:
                kernel.shmem_huge.alloc_slowly()
            if reason == FAULT_SWAP:
                at = index << PAGE_SHIFT
                task._swapin(file, at, min(last << PAGE_SHIFT, at + _SWAPIN_BYTES))
                now = kernel.scheduler.ready_ns(task)
    kernel.page_cache.settle()
