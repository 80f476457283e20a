"""Huge pages of a pool on memory that fails.

A page that is mapped is taken out of all page tables, whose entries say so from then on: who touches it gets SIGBUS. A
private page leaves the pool, and the buddy allocator has what is sound of it. A file keeps its page, which can be read
up to the frame that has failed; once the file lets go of it, it is lost to the pool. Before it comes to that, a page
moves to another huge page.

Linux: mm/memory-failure.c, try_memory_failure_hugetlb(), me_huge_page().

Simplified: a huge page fails once; that a second frame of it has failed is not remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.mm.hugetlb_migrate import alloc_target, replace
from mmfs.mm.hugetlb_vma import mappings, set_huge_pte_at
from mmfs.mm_types import PTE_CONT, PTE_DIRTY, PTE_HWPOISON

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.hugetlb import HugetlbFolio


def folio_in_use(kernel: Kernel, pfn: int) -> HugetlbFolio | None:
    """The huge page in use that a frame belongs to."""
    hstate = kernel.hugetlb.folio_hstate(pfn)
    return hstate.hugepage_activelist.get(pfn >> hstate.order << hstate.order)


def unmap_poisoned(kernel: Kernel, folio: HugetlbFolio) -> None:
    """Take a huge page out of all page tables, and leave a mark there. Linux: unmap_poisoned_folio()."""
    entries = kernel.frames.entries
    for vma, at in list(mappings(kernel, folio)):
        folio.dirty |= bool(int(entries[at]) & PTE_DIRTY)
        set_huge_pte_at(vma, at, PTE_HWPOISON | int(entries[at]) & PTE_CONT)
        vma.vm_mm.hugetlb_usage -= 1 << folio.hstate.order
        folio.mapcount -= 1


def kept_pages(kernel: Kernel, mapping: int, poisoned: set[int]) -> Iterator[int]:
    """The indices, in base pages, of failed frames that a file keeps."""
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

    Linux: soft_offline_in_use_page(), alloc_migration_target().
    """
    old, nid = folio.pfn, folio.nid
    target = alloc_target(folio.hstate, kernel.node_data[nid].zonelist_nodes)
    if target is None:
        return False
    replace(kernel, folio, target[0])
    kernel.compactor.charge(kernel.tasks.current)
    folio.hstate.remove_hugetlb_folio(old, nid, False)
    return True
