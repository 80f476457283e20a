"""Ranges of mappings of huge pages: unmapping, copying at fork, protecting, moving, and looking at them.

What several entries in a row map (PTE_CONT) is known by the first of them: it alone says whether the page was accessed
or written.

Linux: mm/hugetlb.c; arch/arm64/mm/hugetlbpage.c; fs/proc/task_mmu.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EINVAL, ENOMEM
from typing import TYPE_CHECKING

import numpy as np

from mmfs.mm.hugetlb_resv import (
    hstate_vma,
    hugetlb_vm_op_close,
    hugetlb_vm_op_open,
    inode_of,
    is_owner,
    private_of,
    vma_hugecache_offset,
    vma_needs_reservation,
    vma_resv_map,
)
from mmfs.mm.mman import VM_EXEC, VM_MAYWRITE, VM_READ, VM_SHARED, VM_WRITE
from mmfs.mm.vma import VmOperations
from mmfs.mm_types import (
    PAGE_SHIFT,
    PAGE_SIZE,
    PTE_ACCESSED,
    PTE_CONT,
    PTE_DIRTY,
    PTE_GLOBAL,
    PTE_HWPOISON,
    PTE_NX,
    PTE_PFN_MASK,
    PTE_PRESENT,
    PTE_PSE,
    PTE_RW,
    PTE_USER,
    TABLE_SHIFT,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.hugetlb import Hstate, HugetlbFolio
    from mmfs.mm.hugetlbfs import HugetlbInode
    from mmfs.mm.vma import VmAreaStruct

_MAPPED = PTE_PRESENT | PTE_GLOBAL
"""Present, or PROT_NONE with the page kept."""


def huge_pte_prot(hstate: Hstate, vm_flags: int) -> int:
    """The bits of a huge page's entry, without write. Linux: vm_get_page_prot(), arch_make_huge_pte()."""
    bits = PTE_PRESENT | PTE_USER | PTE_ACCESSED
    if not vm_flags & (VM_READ | VM_WRITE | VM_EXEC):
        bits = PTE_ACCESSED | PTE_GLOBAL
    bits |= (PTE_PSE if hstate.level else 0) | (PTE_CONT if hstate.nr_ptes > 1 else 0)
    return bits if vm_flags & VM_EXEC else bits | PTE_NX


def huge_pte_alloc(vma: VmAreaStruct, addr: int) -> int:
    """The index of an address's entry, tables allocated; -1 when memory is out. Linux: huge_pte_alloc()."""
    mm, hstate = vma.vm_mm, hstate_vma(vma)
    return int(mm.kernel.mmu.walker.huge_pte_alloc(mm.row, addr & -hstate.huge_page_size, hstate.level))


def hugetlb_walk(vma: VmAreaStruct, addr: int) -> int:
    """The index of the entry of an address's huge page, -1 without a table. Linux: hugetlb_walk()."""
    mm, hstate = vma.vm_mm, hstate_vma(vma)
    return int(mm.kernel.mmu.walker.huge_pte_offset(mm.row, addr & -hstate.huge_page_size, hstate.level))


def set_huge_pte_at(vma: VmAreaStruct, at: int, entry: int) -> None:
    """Write the entries of a huge page, of which this is the first. Linux: set_huge_pte_at(), huge_pte_clear()."""
    entries, hstate = vma.vm_mm.kernel.frames.entries, hstate_vma(vma)
    entries[at : at + hstate.nr_ptes] = entry
    if hstate.nr_ptes > 1 and entry & PTE_PFN_MASK:
        step = hstate.huge_page_size // hstate.nr_ptes
        entries[at : at + hstate.nr_ptes] += np.arange(hstate.nr_ptes, dtype=np.uint64) * np.uint64(step)


def is_poisoned(entry: int) -> bool:
    """Whether an entry says that the memory of its page has failed. Linux: is_hwpoison_entry()."""
    return entry & PTE_HWPOISON == PTE_HWPOISON


def huge_ptes(vma: VmAreaStruct, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(address, index of the entry) of every huge page that [start, end) maps, or whose memory has failed."""
    entries, hstate = vma.vm_mm.kernel.frames.entries, hstate_vma(vma)
    size, span = hstate.huge_page_size, PAGE_SIZE << TABLE_SHIFT * (hstate.level + 1)
    while start < end:
        at = hugetlb_walk(vma, start)
        if at < 0:
            start = (start & -span) + span
            continue
        if int(entries[at]) & _MAPPED:
            yield start, at
        start += size


def folio_of(vma: VmAreaStruct, entry: int) -> HugetlbFolio:
    """The page that an entry maps."""
    return hstate_vma(vma).hugepage_activelist[(entry & PTE_PFN_MASK) >> PAGE_SHIFT]


def mappings(kernel: Kernel, folio: HugetlbFolio) -> Iterator[tuple[VmAreaStruct, int]]:
    """Every VMA that maps a huge page, with the index of the entry. Linux: rmap_walk()."""
    entries = kernel.frames.entries
    for mm in list(kernel.mms.values()):
        for vma in mm.mmap:
            if not vma.is_hugetlb():
                continue
            for _, at in huge_ptes(vma, vma.vm_start, vma.vm_end):
                entry = int(entries[at])
                if not is_poisoned(entry) and (entry & PTE_PFN_MASK) >> PAGE_SHIFT == folio.pfn:
                    yield vma, at


def remove_rmap(folio: HugetlbFolio) -> None:
    """A mapping less; what nobody maps and no file has is free. Linux: hugetlb_remove_rmap(), folio_put()."""
    folio.mapcount -= 1
    if folio.mapcount == 0 and folio.mapping is None:
        folio.hstate.free_huge_folio(folio)


def unmap_hugepage_range(vma: VmAreaStruct, start: int, end: int, ref_page: HugetlbFolio | None = None) -> None:
    """Unmap huge pages, or one only. Those that nobody maps then are free, and promised to their owner again.

    Linux: mm/hugetlb.c, unmap_hugepage_range(), __unmap_hugepage_range().
    """
    mm, hstate = vma.vm_mm, hstate_vma(vma)
    entries = mm.kernel.frames.entries
    unused = []
    for addr, at in huge_ptes(vma, start, end):
        entry = int(entries[at])
        if is_poisoned(entry):
            set_huge_pte_at(vma, at, 0)
            continue
        folio = folio_of(vma, entry)
        if ref_page is not None:
            if folio is not ref_page:
                continue
            private_of(vma).unmapped = True
        set_huge_pte_at(vma, at, 0)
        folio.dirty |= bool(entry & PTE_DIRTY)
        mm.hugetlb_usage -= 1 << hstate.order
        folio.mapcount -= 1
        if folio.mapcount == 0 and folio.mapping is None:
            if not hstate.surplus_huge_pages and is_owner(vma) and folio.anon:
                folio.restore_reserve = True
                if vma_needs_reservation(vma, addr):
                    _add_reservation(vma, addr)
            unused.append(folio)
    for folio in unused:
        hstate.free_huge_folio(folio)


def _add_reservation(vma: VmAreaStruct, addr: int) -> None:
    """A private mapping has a page to take again. Linux: mm/hugetlb.c, vma_add_reservation()."""
    resv = vma_resv_map(vma)
    assert resv is not None
    index = vma_hugecache_offset(vma, addr)
    resv.region_del(index, index + 1)


def copy_hugetlb_page_range(vma: VmAreaStruct, src: VmAreaStruct) -> None:
    """Copy a VMA's entries to a child, private pages shared until written. ENOMEM. Linux: copy_hugetlb_page_range()."""
    mm, hstate = vma.vm_mm, hstate_vma(src)
    entries = mm.kernel.frames.entries
    cow = src.vm_flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE
    for addr, at in huge_ptes(src, src.vm_start, src.vm_end):
        to, entry = huge_pte_alloc(vma, addr), int(entries[at])
        if to < 0:
            raise OSError(ENOMEM, "no memory for a page table")
        if is_poisoned(entry):
            set_huge_pte_at(vma, to, entry)
            continue
        folio = folio_of(src, entry)
        folio.mapcount += 1
        folio.anon_exclusive = False
        if cow:
            entry &= ~PTE_RW
            set_huge_pte_at(src, at, entry)
        set_huge_pte_at(vma, to, entry)
        mm.hugetlb_usage += 1 << hstate.order


def hugetlb_change_protection(vma: VmAreaStruct, start: int, end: int) -> None:
    """Give entries the rights of their VMA. Linux: mm/hugetlb.c, hugetlb_change_protection(); pte_modify()."""
    entries, prot = vma.vm_mm.kernel.frames.entries, huge_pte_prot(hstate_vma(vma), vma.vm_flags)
    keep = PTE_PFN_MASK | PTE_ACCESSED | PTE_DIRTY
    for _, at in huge_ptes(vma, start, end):
        if not is_poisoned(int(entries[at])):
            set_huge_pte_at(vma, at, int(entries[at]) & keep | prot & ~keep)


def move_hugetlb_page_tables(vma: VmAreaStruct, old: int, new: int, length: int) -> int:
    """Move entries to another address; how many bytes. Linux: mm/hugetlb.c, move_hugetlb_page_tables()."""
    entries = vma.vm_mm.kernel.frames.entries
    for addr, at in huge_ptes(vma, old, old + length):
        to, entry = huge_pte_alloc(vma, new + addr - old), int(entries[at])
        if to < 0:
            return addr - old
        set_huge_pte_at(vma, at, 0)
        set_huge_pte_at(vma, to, entry)
    return length


def hugetlb_vm_op_split(vma: VmAreaStruct, addr: int) -> None:
    """A huge page cannot be cut. Linux: mm/hugetlb.c, hugetlb_vm_op_split()."""
    if addr & hstate_vma(vma).huge_page_size - 1:
        raise OSError(EINVAL, "inside a huge page")


hugetlb_vm_ops = VmOperations(open=hugetlb_vm_op_open, close=hugetlb_vm_op_close, may_split=hugetlb_vm_op_split)


def vma_kernel_pagesize(vma: VmAreaStruct) -> int:
    """Linux: mm/hugetlb.c, vma_kernel_pagesize()."""
    return hstate_vma(vma).huge_page_size if vma.is_hugetlb() else 1 << PAGE_SHIFT


def folios_in(
    vma: VmAreaStruct, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, int, HugetlbFolio]]:  # fmt: skip
    """(address, entry, page) of every huge page that a VMA maps, or a range of it. Linux: walk_hugetlb_range()."""
    entries = vma.vm_mm.kernel.frames.entries
    first = max(start & -hstate_vma(vma).huge_page_size, vma.vm_start)
    for addr, at in huge_ptes(vma, first, vma.vm_end if end is None else min(end, vma.vm_end)):
        if not is_poisoned(int(entries[at])):
            yield addr, int(entries[at]), folio_of(vma, int(entries[at]))



def nr_poisoned(vma: VmAreaStruct) -> int:
    """How many huge pages of a VMA have failed."""
    entries = vma.vm_mm.kernel.frames.entries
    return sum(is_poisoned(int(entries[at])) for _, at in huge_ptes(vma, vma.vm_start, vma.vm_end))


def punch_hole(inode: HugetlbInode, start: int, end: int) -> None:
    """Take the huge pages away that lie in pages [start, end) of a file. Linux: hugetlbfs_punch_hole()."""
    order = inode.hstate.order
    first, last = -(-start >> order), end >> order
    if first < last:
        inode.remove_pages(first, last, hole=True)


def unmap_file_range(vmas: list[VmAreaStruct], start: int, end: int) -> None:
    """Unmap huge pages [start, end) of a file from all who map it. Linux: hugetlb_vmdelete_list()."""
    for vma in vmas:
        order = inode_of(vma).hstate.order
        first = vma.vm_pgoff >> order
        low, high = max(start, first), min(end, first + (vma.pages >> order))
        if low < high:
            shift = order + PAGE_SHIFT
            unmap_hugepage_range(vma, vma.vm_start + (low - first << shift), vma.vm_start + (high - first << shift))
