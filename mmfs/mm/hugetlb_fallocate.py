"""Huge pages for a part of a file of hugetlbfs before anybody touches them.

Linux: fs/hugetlbfs/inode.c, hugetlbfs_fallocate().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.mm.hugetlb_fault import alloc_hugetlb_folio
from mmfs.mm.mman import VM_HUGETLB, VM_MAYSHARE, VM_SHARED
from mmfs.mm.vma import VmAreaStruct

if TYPE_CHECKING:
    from mmfs.mm.hugetlbfs import HugetlbInode
    from mmfs.mm.inode import File
    from mmfs.mm.mm_struct import MmStruct


def hugetlbfs_fallocate(mm: MmStruct, file: File, inode: HugetlbInode, start: int, end: int) -> None:
    """Have the pages that hold the bytes [start, end), as a mapping from the file's beginning on would.

    OSError, of alloc_hugetlb_folio(); what was had until then stays.
    """
    hstate = inode.hstate
    size = hstate.huge_page_size
    pseudo_vma = VmAreaStruct(mm, 0, -(-end // size) * size, VM_HUGETLB | VM_MAYSHARE | VM_SHARED, 0)
    pseudo_vma.vm_file = file
    for index in range(start // size, -(-end // size)):
        if index not in inode.folios:
            inode.add_to_page_cache(alloc_hugetlb_folio(pseudo_vma, index * size, False), index)
            mm.kernel.mmu.time.cpu_ns += mm.kernel.hugetlb.clear_ns << hstate.order
