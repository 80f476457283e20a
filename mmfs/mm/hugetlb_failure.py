"""Huge pages of a pool on memory that fails.

A page that is mapped is taken out of all page tables, whose entries say so from then on: who touches it gets SIGBUS. A
private page leaves the pool, and the buddy allocator has what is sound of it. A file keeps its page, which can be read
up to the frame that has failed; once the file lets go of it, it is lost to the pool. Before it comes to that, a page
moves to another huge page.

Linux: mm/memory-failure.c, try_memory_failure_hugetlb(), me_huge_page(); mm/hugetlb.c, alloc_hugetlb_folio_nodemask().

Simplified: a huge page fails once; that a second frame of it has failed is not remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.mm.hugetlb_vma import huge_ptes, is_poisoned
from mmfs.mm_types import PAGE_SHIFT, PTE_DIRTY, PTE_HWPOISON, PTE_PFN_MASK, VmEventItem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.hugetlb import Hstate, HugetlbFolio
    from mmfs.mm.vma import VmAreaStruct


def folio_in_use(kernel: Kernel, pfn: int) -> HugetlbFolio | None:
    """The huge page in use that a frame belongs to."""
    hstate = kernel.hugetlb.folio_hstate(pfn)
    return hstate.hugepage_activelist.get(pfn >> hstate.order << hstate.order)


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


def unmap_poisoned(kernel: Kernel, folio: HugetlbFolio) -> None:
    """Take a huge page out of all page tables, and leave a mark there. Linux: unmap_poisoned_folio()."""
    entries = kernel.frames.entries
    for vma, at in list(mappings(kernel, folio)):
        folio.dirty |= bool(int(entries[at]) & PTE_DIRTY)
        entries[at] = PTE_HWPOISON
        vma.vm_mm.hugetlb_usage -= 1 << folio.hstate.order
        folio.mapcount -= 1


def kept_pages(kernel: Kernel, mapping: int, poisoned: set[int]) -> Iterator[int]:
    """The indices, by 4 KB, of failed frames that a file keeps."""
    for inode in kernel.hugetlb.inodes:
        for index, folio in inode.folios.items() if inode.mapping.id == mapping else ():
            nr_pages = 1 << folio.hstate.order
            inside = [pfn - folio.pfn for pfn in poisoned if 0 <= pfn - folio.pfn < nr_pages]
            yield from (index * nr_pages + at for at in inside if folio.hwpoison)


def let_go(folio: HugetlbFolio) -> bool:
    """Nobody maps the failed page any more: what is private is free, a file keeps its own. Whether it was freed."""
    folio.hwpoison = folio.mapping is not None
    if not folio.hwpoison:
        folio.hstate.free_huge_folio(folio)
    return not folio.hwpoison


def migrate(kernel: Kernel, folio: HugetlbFolio) -> bool:
    """Move what is in a huge page to another, and have the old one leave the pool; False: there is none.

    Linux: soft_offline_in_use_page(), alloc_migration_target(), move_hugetlb_state().
    """
    hstate, old = folio.hstate, folio.pfn
    pfn = _target(kernel, hstate, folio.nid)
    if pfn < 0:
        return False
    entries = kernel.frames.entries
    for _, at in list(mappings(kernel, folio)):
        entries[at] = int(entries[at]) & ~PTE_PFN_MASK | pfn << PAGE_SHIFT
    nid = kernel.page_alloc.page_to_nid(pfn)
    if folio.cgroup is not None:
        folio.cgroup.move_charge(hstate.size_name, 1 << hstate.order, folio.nid, nid)
    del hstate.hugepage_activelist[old]
    hstate.hugepage_activelist[pfn] = folio
    folio.pfn, folio.nid, was_on = pfn, nid, folio.nid
    hstate.count_in_use(was_on, -1)
    hstate.count_in_use(nid, 1)
    kernel.vmstat.count_vm_events(VmEventItem.PGMIGRATE_SUCCESS, 1 << hstate.order)
    hstate.remove_hugetlb_folio(old, was_on, False)
    return True


def _target(kernel: Kernel, hstate: Hstate, nid: int) -> int:
    """A page that is on no list: a free one that nobody was promised, the node's own first, or a new one; or -1."""
    nodes = [zone.zone_pgdat.node_id for zone in kernel.node_data[nid].node_zonelists]
    if hstate.available_huge_pages > 0:
        folio = hstate.dequeue_hugetlb_folio(dict.fromkeys(nodes))
        if folio is not None:
            del hstate.hugepage_activelist[folio.pfn]
            hstate.count_in_use(folio.nid, -1)
            return folio.pfn
    return -1 if hstate.gigantic else hstate.alloc_fresh_hugetlb_folio(nid)
