"""Faults on huge pages: a page for the first access, a copy for a write to a shared one.

The entry of a huge page stands where a table would be linked: in the PMD table (2 MB) or the PUD table (1 GB), with the
PSE bit; arm64 has sizes that several entries map. A fault takes a page that was promised, or one that is free, or a
surplus one; when there is none the access ends with SIGBUS. A private page that parent and child share is copied by who
writes first. If the owner of the mapping finds no page for his copy, the page is taken away from his children: they die
when they look for it, he does not.

Linux: mm/hugetlb.c.

Simplified: processes do not share the page tables of a shared mapping of 1 GB.
"""

from __future__ import annotations

from errno import ENOMEM
from signal import SIGBUS
from typing import TYPE_CHECKING

from mmfs.mm.fault import Fault, task_of
from mmfs.mm.hugetlb_resv import (
    hstate_vma,
    hugetlb_cgroup_of,
    inode_of,
    is_owner,
    private_of,
    vma_commit_reservation,
    vma_has_reserves,
    vma_hugecache_offset,
    vma_needs_reservation,
)
from mmfs.mm.hugetlb_vma import (
    folio_of,
    huge_pte_alloc,
    huge_pte_prot,
    hugetlb_walk,
    is_poisoned,
    remove_rmap,
    set_huge_pte_at,
    unmap_hugepage_range,
)
from mmfs.mm.mempolicy import effective
from mmfs.mm.mman import VM_MAYSHARE, VM_SHARED, VM_WRITE
from mmfs.mm.rmap import anon_vma_prepare
from mmfs.mm_types import (
    FAULT_DONE,
    FAULT_HIGH,
    FAULT_OOM,
    FAULT_SLICE,
    PAGE_SHIFT,
    POLICY_IN_TURN,
    POLICY_MANY,
    POLICY_WEIGHTED,
    PTE_ACCESSED,
    PTE_DIRTY,
    PTE_PRESENT,
    PTE_RW,
    VmEventItem,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmfs.mm.hugetlb import Hstate, HugetlbFolio
    from mmfs.mm.vma import VmAreaStruct


# ---------------------------------------------------------------------------------- a page


def huge_nodes(vma: VmAreaStruct, addr: int, hstate: Hstate) -> Iterable[int]:
    """The nodes that a page for an address may come from, the best first. Linux: mm/mempolicy.c, huge_node()."""
    kernel, owner = vma.vm_mm.kernel, vma.vm_mm.owner
    how, nid, mask = effective(vma.vm_policy or (owner.mempolicy if owner is not None else None), owner)
    if mask == 0:
        buddy = kernel.page_alloc.buddy
        nid, mask = int(buddy.cpu_nodes[buddy.cpu]), -1
    elif how in (POLICY_IN_TURN, POLICY_WEIGHTED):
        chosen = mask & sum(1 << node for node in hstate.nodes)
        offset = vma_hugecache_offset(vma, addr)
        nid, mask = kernel.mmu.areas.node_in_turn(chosen, offset, how == POLICY_WEIGHTED), -1
    nodes = kernel.node_data[nid].zonelist_nodes
    first = [nid for nid in nodes if mask >> nid & 1]
    return dict.fromkeys((*first, *nodes)) if how == POLICY_MANY else first


def _take_page(vma: VmAreaStruct, addr: int, needed: bool, cow_from_owner: bool) -> HugetlbFolio | None:
    """A page of the pool, a promised one unless one is `needed`, or a surplus one.

    Linux: dequeue_hugetlb_folio_vma(), alloc_buddy_hugetlb_folio_with_mpol().
    """
    hstate = hstate_vma(vma)
    nodes = huge_nodes(vma, addr, hstate)
    reserved = vma_has_reserves(vma, needed)
    folio = hstate.dequeue_hugetlb_folio(nodes) if reserved or hstate.available_huge_pages > 0 else None
    if folio is None:
        pfn = next((pfn for nid in nodes if (pfn := hstate.alloc_surplus_hugetlb_folio(nid)) >= 0), -1)
        if pfn < 0:
            return None
        folio = hstate.activate(pfn)
        reserved = reserved and not cow_from_owner
    if reserved:
        folio.restore_reserve = True
        hstate.resv_huge_pages -= 1
    return folio


def alloc_hugetlb_folio(vma: VmAreaStruct, addr: int, cow_from_owner: bool) -> HugetlbFolio:
    """A page for an address, charged; OSError if there is none. Linux: mm/hugetlb.c, alloc_hugetlb_folio()."""
    hstate, subpool = hstate_vma(vma), inode_of(vma).subpool
    css = hugetlb_cgroup_of(task_of(vma.vm_mm))
    pages, size = 1 << hstate.order, hstate.size_name
    needed = from_pool = vma_needs_reservation(vma, addr)
    deferred = needed or cow_from_owner
    if deferred:
        from_pool = bool(subpool.get_pages(1)) if subpool is not None else True
    charged_rsvd = charged = False
    try:
        if deferred and css is not None:
            css.charge_rsvd(size, pages)
            charged_rsvd = True
        if css is not None:
            css.try_charge(size, pages)
            charged = True
        folio = _take_page(vma, addr, from_pool, cow_from_owner)
        if folio is None:
            raise OSError(ENOMEM, "no huge page is free")
    except OSError:
        if css is not None and charged:
            css.cancel_charge(size, pages)
        if css is not None and charged_rsvd:
            css.uncharge_rsvd(size, pages)
        if deferred and subpool is not None:
            subpool.put_pages(1)
        raise
    if css is not None:
        css.commit_charge(size, pages, folio.nid)
    folio.cgroup, folio.cgroup_rsvd = css, css if charged_rsvd else None
    folio.subpool = subpool
    vma_commit_reservation(vma, addr)
    return folio


# ---------------------------------------------------------------------------------- faults


def _map(vma: VmAreaStruct, at: int, folio: HugetlbFolio, writable: bool) -> None:
    """Write an entry. Linux: mm/hugetlb.c, make_huge_pte(), set_huge_pte_at()."""
    folio.mapcount += 1
    bits = PTE_RW | PTE_DIRTY if writable else 0
    set_huge_pte_at(vma, at, folio.pfn << PAGE_SHIFT | huge_pte_prot(folio.hstate, vma.vm_flags) | bits)


def _new_anon(folio: HugetlbFolio) -> None:
    """The page is a private mapping's. Linux: mm/rmap.c, hugetlb_add_new_anon_rmap()."""
    folio.anon = folio.anon_exclusive = True
    folio.restore_reserve = False


def hugetlb_no_page(vma: VmAreaStruct, addr: int, at: int, write: bool) -> None:
    """The first access to a huge page: the file's, or a new one. Raises Fault. Linux: hugetlb_no_page()."""
    inode, mm = inode_of(vma), vma.vm_mm
    hstate, mmu = inode.hstate, mm.kernel.mmu
    index = vma_hugecache_offset(vma, addr)
    if private_of(vma).unmapped:
        task = task_of(mm)
        text = f"PID {task.pid} killed due to inadequate hugepage pool"
        mm.kernel.hugetlb.ratelimit.warn(mm.kernel, "hugetlb_no_page", text)
        raise Fault(SIGBUS, addr)
    folio = inode.folios.get(index)
    if folio is not None and folio.hwpoison:
        raise Fault(SIGBUS, addr)
    if folio is None:
        if index >= inode.size // hstate.huge_page_size:
            raise Fault(SIGBUS, addr)
        if not vma.vm_flags & VM_MAYSHARE:
            anon_vma_prepare(vma)
        try:
            folio = alloc_hugetlb_folio(vma, addr, False)
        except OSError:
            raise Fault(SIGBUS, addr) from None
        mmu.time.cpu_ns += mm.kernel.hugetlb.clear_ns << hstate.order
        if vma.vm_flags & VM_MAYSHARE:
            inode.add_to_page_cache(folio, index)
        else:
            _new_anon(folio)
    _map(vma, at, folio, vma.vm_flags & (VM_WRITE | VM_SHARED) == VM_WRITE | VM_SHARED)
    mm.hugetlb_usage += 1 << hstate.order
    if write and not vma.vm_flags & VM_SHARED:
        hugetlb_wp(vma, addr, at)


def hugetlb_wp(vma: VmAreaStruct, addr: int, at: int) -> None:
    """A write to a page that is mapped read-only. Raises Fault. Linux: mm/hugetlb.c, hugetlb_wp()."""
    mm, entries = vma.vm_mm, vma.vm_mm.kernel.frames.entries
    old = folio_of(vma, int(entries[at]))
    if vma.vm_flags & VM_MAYSHARE or (old.anon and old.mapcount == 1):
        old.anon_exclusive = old.anon
        set_huge_pte_at(vma, at, int(entries[at]) | PTE_RW | PTE_DIRTY)
        return
    cow_from_owner = is_owner(vma) and old.anon
    try:
        new = alloc_hugetlb_folio(vma, addr, cow_from_owner)
    except OSError:
        if not cow_from_owner:
            raise Fault(SIGBUS, addr) from None
        unmap_ref_private(vma, old, addr)
        hugetlb_wp(vma, addr, at)
        return
    anon_vma_prepare(vma)
    mm.kernel.mmu.time.cpu_ns += mm.kernel.hugetlb.copy_ns << old.hstate.order
    remove_rmap(old)
    _new_anon(new)
    _map(vma, at, new, True)


def unmap_ref_private(vma: VmAreaStruct, folio: HugetlbFolio, addr: int) -> None:
    """Take a page away from those who were not promised it. Linux: mm/hugetlb.c, unmap_ref_private()."""
    offset = (addr - vma.vm_start >> PAGE_SHIFT) + vma.vm_pgoff
    size = folio.hstate.huge_page_size
    for other in list(inode_of(vma).mapping.i_mmap):
        if other is vma or other.vm_flags & VM_MAYSHARE or is_owner(other):
            continue
        if other.vm_pgoff <= offset < other.vm_pgoff + other.pages:
            at = other.vm_start + (offset - other.vm_pgoff << PAGE_SHIFT) & -size
            unmap_hugepage_range(other, at, at + size, folio)


def hugetlb_fault(vma: VmAreaStruct, addr: int, write: bool) -> int:
    """An access that the tables do not allow yet: FAULT_DONE, or FAULT_OOM for want of a table. Raises Fault.

    Linux: mm/hugetlb.c, hugetlb_fault(); mm/memory.c, handle_mm_fault(), mm_account_fault().
    """
    mm = vma.vm_mm
    mmu, hstate = mm.kernel.mmu, hstate_vma(vma)
    addr &= -hstate.huge_page_size
    at = huge_pte_alloc(vma, addr)
    if at < 0:
        return FAULT_OOM
    mmu.memcg.count_events(int(mmu.mms[mm.row]["memcg"]), VmEventItem.PGFAULT, 1)
    mmu.time.cpu_ns += mmu.time.cost_fault
    entry = int(mm.kernel.frames.entries[at])
    if is_poisoned(entry):
        raise Fault(SIGBUS, addr)
    if entry & PTE_PRESENT:
        hugetlb_wp(vma, addr, at)
    else:
        hugetlb_no_page(vma, addr, at, write)
    mmu.time.minflt += 1
    return FAULT_DONE


def touch_range(vma: VmAreaStruct, start: int, end: int, stride: int, write: bool) -> int:
    """As the fast path's touch_range() for a mapping of huge pages: the first address that was not accessed, the reason
    in `mmu.reason`. Raises Fault."""
    mm, mmu, hstate = vma.vm_mm, vma.vm_mm.kernel.mmu, hstate_vma(vma)
    entries, size = mm.kernel.frames.entries, hstate.huge_page_size
    mmu.reason = FAULT_DONE
    while start < end:
        if mmu.time.cpu_ns >= min(mmu.time.cpu_budget_ns, mmu.time.budget_ns - mmu.time.wait_ns):
            mmu.reason = FAULT_SLICE
            break
        if mmu.memcg.over_high_pages:
            mmu.reason = FAULT_HIGH
            break
        at = hugetlb_walk(vma, start)
        entry = int(entries[at]) if at >= 0 else 0
        if not entry & PTE_PRESENT or (write and not entry & PTE_RW):
            mmu.reason = hugetlb_fault(vma, start, write)
            if mmu.reason != FAULT_DONE:
                break
            at = hugetlb_walk(vma, start)
        entries[at] = int(entries[at]) | PTE_ACCESSED | (PTE_DIRTY if write else 0)
        accesses = -(-(min(end, (start | size - 1) + 1) - start) // stride)
        mmu.time.cpu_ns += accesses * mmu.time.cost_access
        mmu.time.user_ns += accesses * mmu.time.cost_access
        start += accesses * stride
    return start
