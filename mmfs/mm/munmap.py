"""Taking mappings away: munmap(), and the first half of every mmap() that replaces something.

The VMAs that a range overlaps are gathered; the first and the last are cut at its borders (which may fail, and
then leaves them cut, as in Linux). Then their pages go, then they leave the tree, then the page tables that no
neighbour needs, and last the accounts are settled.

Linux: mm/vma.c, vms_gather_munmap_vmas(), vms_complete_munmap_vmas().
"""

from __future__ import annotations

from dataclasses import dataclass, field
from errno import EINVAL, ENOMEM
from typing import TYPE_CHECKING

from mmfs.mm import memory
from mmfs.mm.mman import VM_ACCOUNT, VM_LOCKED, page_align
from mmfs.mm.vma import VmAreaStruct, remove_vma, split_vma_unchecked
from mmfs.mm_types import PAGE_MASK

if TYPE_CHECKING:
    from mmfs.mm.mm_struct import MmStruct


@dataclass(slots=True)
class VmaMunmapStruct:
    """The VMAs of a range that is to be unmapped, cut to it, and their sums. Linux: struct vma_munmap_struct."""

    mm: MmStruct
    start: int
    end: int
    vmas: list[VmAreaStruct] = field(default_factory=list)
    nr_pages: int = 0
    locked_vm: int = 0
    nr_accounted: int = 0

    @classmethod
    def gather(cls, mm: MmStruct, start: int, end: int) -> VmaMunmapStruct:
        """Cut the first and last VMA at the borders and sum up. Linux: mm/vma.c, vms_gather_munmap_vmas()."""
        vms = cls(mm, start, end)
        first = mm.find_vma_intersection(start, end)
        if first is None:
            return vms
        if start > first.vm_start:
            if end < first.vm_end and mm.map_count >= mm.kernel.vm.max_map_count:
                raise OSError(ENOMEM, "max_map_count reached")
            split_vma_unchecked(first, start, new_below=True)
        vms.vmas = mm.mt.span(start, end)
        if vms.vmas[-1].vm_end > end:
            split_vma_unchecked(vms.vmas[-1], end, new_below=False)
        for vma in vms.vmas:
            vms.nr_pages += vma.pages
            if vma.vm_flags & VM_LOCKED:
                vms.locked_vm += vma.pages
            if vma.vm_flags & VM_ACCOUNT:
                vms.nr_accounted += vma.pages
        return vms

    def unmap(self) -> None:
        """Take away the pages, the VMAs and the page tables that nothing else needs.

        Linux: mm/vma.c, vms_clear_ptes().
        """
        if not self.vmas:
            return
        mm = self.mm
        prev, next = mm.find_vma_prev(self.start), mm.find_vma(self.end)
        mm.update_hiwater_rss()
        mm.ksm.cut(self.start, self.end)
        for vma in self.vmas:
            memory.zap_page_range(mm, vma, vma.vm_start, vma.vm_end)
        for vma in self.vmas:
            mm.vma_unlink(vma)
        floor = prev.vm_end if prev is not None else 0
        memory.free_pgtables(mm, floor, next.vm_start if next is not None else mm.task_size)

    def complete(self) -> None:
        """Settle the accounts and close the VMAs. Linux: mm/vma.c, vms_complete_munmap_vmas()."""
        mm = self.mm
        mm.locked_vm -= self.locked_vm
        mm.update_hiwater_vm()
        for vma in self.vmas:
            mm.vm_stat_account(vma.vm_flags, -vma.pages)
            remove_vma(vma)
        mm.kernel.overcommit.vm_unacct_memory(self.nr_accounted)


def do_munmap(mm: MmStruct, start: int, length: int) -> None:
    """Unmap whatever is mapped in a range. Linux: mm/vma.c, do_vmi_munmap(), do_vmi_align_munmap()."""
    if start & ~PAGE_MASK or not 0 <= start <= mm.task_size or not 0 <= length <= mm.task_size - start:
        raise OSError(EINVAL, "not a page-aligned range of user addresses")
    end = start + page_align(length)
    if end == start:
        raise OSError(EINVAL, "zero length")
    vms = VmaMunmapStruct.gather(mm, start, end)
    vms.unmap()
    vms.complete()
