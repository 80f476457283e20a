"""Huge pages of a pool that move to other memory.

What is in a huge page moves to one that is free and promised to nobody, or else to a new one of the buddy allocator's.
In the first case the old page is free in its pool; in the second it is given back, so that there are as many pages as
before, but maybe on other nodes.

Linux: mm/hugetlb.c, alloc_hugetlb_folio_nodemask(), move_hugetlb_state(); mm/migrate.c, unmap_and_move_huge_page().
"""

from __future__ import annotations

from errno import EACCES, ENOENT, ENOMEM
from typing import TYPE_CHECKING

from mmfs.mm.hugetlb_fault import huge_nodes
from mmfs.mm.hugetlb_vma import folios_in, mappings, set_huge_pte_at
from mmfs.mm_types import GFP_THISNODE_BIT, PAGE_SHIFT, PTE_PFN_MASK, VmEventItem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.hugetlb import Hstate, HugetlbFolio
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct


def alloc_target(hstate: Hstate, nodes: Iterable[int]) -> tuple[int, bool] | None:
    """A page that is on no list, from the first node that has one: a free one or (True) a new one of the allocator's.

    Linux: alloc_hugetlb_folio_nodemask(), alloc_migrate_hugetlb_folio().
    """
    pfn = hstate.dequeue(nodes) if hstate.available_huge_pages > 0 else -1
    if pfn >= 0:
        return pfn, False
    if not hstate.gigantic:
        for nid in nodes:
            pfn = hstate.alloc_fresh_hugetlb_folio(nid, GFP_THISNODE_BIT)
            if pfn >= 0:
                return pfn, True
    return None


def replace(kernel: Kernel, folio: HugetlbFolio, pfn: int) -> None:
    """What is in a huge page is in another from now on, which was on no list, as the old one is now.

    Linux: move_to_new_folio(), remove_migration_ptes(), hugetlb_cgroup_migrate().
    """
    hstate, entries = folio.hstate, kernel.frames.entries
    for vma, at in list(mappings(kernel, folio)):
        set_huge_pte_at(vma, at, int(entries[at]) & ~PTE_PFN_MASK | pfn << PAGE_SHIFT)
    nid = kernel.page_alloc.page_to_nid(pfn)
    if folio.cgroup is not None:
        folio.cgroup.move_charge(hstate.size_name, 1 << hstate.order, folio.nid, nid)
    del hstate.hugepage_activelist[folio.pfn]
    hstate.hugepage_activelist[pfn] = folio
    hstate.count_in_use(folio.nid, -1)
    hstate.count_in_use(nid, 1)
    folio.pfn, folio.nid = pfn, nid
    kernel.compactor.loops.cpu_ns += kernel.hugetlb.copy_ns << hstate.order
    kernel.vmstat.count_vm_events(VmEventItem.PGMIGRATE_SUCCESS, 1 << hstate.order)


def migrate(kernel: Kernel, folio: HugetlbFolio, nodes: Iterable[int]) -> bool:
    """Move what is in a huge page to one of `nodes`, the best first; False: none has a page. The running task pays."""
    hstate, old, nid = folio.hstate, folio.pfn, folio.nid
    target = alloc_target(hstate, nodes)
    if target is None:
        kernel.vmstat.count_vm_events(VmEventItem.PGMIGRATE_FAIL, 1 << hstate.order)
        return False
    pfn, fresh = target
    replace(kernel, folio, pfn)
    if fresh:
        if folio.nid != nid and hstate.surplus_huge_pages_node[nid]:
            hstate.surplus_huge_pages_node[nid] -= 1
            hstate.surplus_huge_pages_node[folio.nid] += 1
        hstate.remove_hugetlb_folio(old, nid, False)
    else:
        hstate.enqueue(old, nid)
    kernel.compactor.charge(kernel.tasks.current)
    return True


# -- whose pages ---------------------------------------------------------------------------------------------------


def move_page(vma: VmAreaStruct, addr: int, nid: int | None, shared: bool) -> int:
    """Move the page of an address to a node, or (None) only look: its node, or a negative errno.

    Linux: mm/migrate.c, __add_folio_for_migration(), do_pages_stat_array().
    """
    folio = next((folio for _, _, folio in folios_in(vma, addr, addr + 1)), None)
    if folio is None:
        return -ENOENT
    if nid is None or folio.nid == nid:
        return folio.nid
    if folio.mapcount > 1 and not shared:
        return -EACCES
    return nid if migrate(vma.vm_mm.kernel, folio, [nid]) else -ENOMEM


def migrate_to_node(mm: MmStruct, source: int, dest: int, shared: bool) -> int:
    """Move an address space's huge pages from one node to another; how many stayed. Linux: migrate_to_node()."""
    return sum(
        not migrate(mm.kernel, folio, [dest])
        for vma in mm.mt
        if vma.is_hugetlb()
        for _, _, folio in list(folios_in(vma))
        if folio.nid == source and (shared or folio.mapcount == 1)
    )


def move_misplaced(vma: VmAreaStruct, start: int, end: int, nodes: Sequence[int], moves: bool, shared: bool) -> int:
    """Move the pages of a range that are not on `nodes` to where its policy wants them; how many stay elsewhere.

    Those that several map count as if they were where they should be, unless they may be moved (`shared`).
    Linux: mm/mempolicy.c, queue_folios_hugetlb(), alloc_migration_target_by_mpol().
    """
    stayed = 0
    for addr, _, folio in list(folios_in(vma, start, end)):
        if folio.nid in nodes:
            continue
        if not moves:
            stayed += 1
        elif shared or folio.mapcount == 1:
            stayed += not migrate(vma.vm_mm.kernel, folio, huge_nodes(vma, addr, folio.hstate))
    return stayed


def in_use(kernel: Kernel, start: int, end: int) -> Iterator[HugetlbFolio]:
    """The huge pages in use that have to do with a range of frames."""
    for hstate in kernel.hugetlb:
        for pfn, folio in hstate.hugepage_activelist.items():
            if pfn < end and pfn + (1 << hstate.order) > start:
                yield folio


def replace_free(kernel: Kernel, start: int, end: int) -> bool:
    """Pools get other pages for their free ones in a range of frames, which are given back; False: there are none.

    Linux: mm/hugetlb.c, isolate_or_dissolve_huge_folio(), alloc_and_dissolve_hugetlb_folio().
    """
    for hstate in kernel.hugetlb:
        for nid, pages in enumerate(hstate.hugepage_freelists):
            for old in [pfn for pfn in pages if pfn < end and pfn + (1 << hstate.order) > start]:
                pfn = -1 if hstate.gigantic else hstate.alloc_fresh_hugetlb_folio(nid, GFP_THISNODE_BIT)
                if pfn < 0:
                    return False
                pages.remove(old)
                hstate.remove_hugetlb_folio(old, nid, False)
                pages.append(pfn)
    return True


def migrate_range(kernel: Kernel, start: int, end: int, nid: int, mask: int) -> int:
    """Move the huge pages of a range of frames of a node to nodes of `mask`; how many did.

    Linux: do_migrate_range().
    """
    nodes = [node for node in kernel.node_data[nid].zonelist_nodes if mask >> node & 1]
    return sum(migrate(kernel, folio, nodes) for folio in list(in_use(kernel, start, end)))
