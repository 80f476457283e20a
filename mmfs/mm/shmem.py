"""Shared memory: pages that belong to a file of no file system, or of tmpfs.

Anonymous memory that is shared (MAP_SHARED | MAP_ANONYMOUS), memfds and System V segments are unnamed files of
the kernel's own tmpfs, device 0:1. They are charged to Committed_AS as a whole when they are made, and their
pages count as cache (Shmem) and swap like anonymous memory.

Linux: mm/shmem.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.mm.filemap import AddressSpace, Room, task_ns
from mmfs.mm.inode import File, Inode
from mmfs.mm.mman import VM_NORESERVE
from mmfs.mm.shmem_huge import SHM_MNT_DEV
from mmfs.mm_types import FAULT_DONE, FAULT_SLICE, PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mm_struct import MmStruct

_FIRST_INO = 1024


class ShmMnt:
    """The kernel's internal tmpfs mount, which numbers its inodes. Linux: mm/shmem.c, shm_mnt."""

    def __init__(self) -> None:
        self.next_ino = _FIRST_INO

    def new_ino(self) -> int:
        """The next inode number."""
        ino = self.next_ino
        self.next_ino += 1
        return ino


def swapin_range(mapping: AddressSpace, first: int, last: int) -> None:
    """Have pages [first, last) back that are swapped out. Raises MemoryError. Linux: mm/shmem.c, shmem_get_folio()."""
    kernel = mapping.kernel
    state, swapin = kernel.mmu.swap_state, kernel.mmu.swapin
    index = first
    with Room(kernel) as room:
        while True:
            state.begin(task_ns(kernel))
            index = swapin.shmem_swapin_range(mapping.id, index, last, -1)
            kernel.current_io_schedule(state.done_ns)
            if swapin.reason == FAULT_DONE:
                kernel.page_cache.settle()
                return
            if swapin.reason == FAULT_SLICE:
                kernel.swap_writes.wait_on_write(mapping, index)
            elif not room.hand():
                raise MemoryError("no memory for swapped-out pages")


def shmem_file_setup(kernel: Kernel, name: str, size: int, mm: MmStruct | None = None, flags: int = 0,
                     ino: int | None = None) -> File:
    """An unlinked file of ``size`` bytes, zero until touched. Linux: shmem_file_setup().

    Raises OSError(ENOMEM) when overcommit forbids it.
    """
    pages = -(-size // PAGE_SIZE)
    if not flags & VM_NORESERVE:
        kernel.overcommit.enough_memory(pages, mm)
    inode = Inode(kernel, kernel.shm_mnt.new_ino() if ino is None else ino, SHM_MNT_DEV, size, name, shmem=True)
    inode.acct_pages = 0 if flags & VM_NORESERVE else pages
    inode.i_nlink = 0
    kernel.shmem_huge.apply(inode.mapping)
    return File(inode)


def shmem_zero_setup(mm: MmStruct, size: int, vm_flags: int) -> File:
    """The file behind shared anonymous memory. Linux: shmem_zero_setup()."""
    return shmem_file_setup(mm.kernel, "/dev/zero", size, mm, vm_flags)
