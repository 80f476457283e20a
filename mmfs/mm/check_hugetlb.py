"""The invariants of huge pages: every page of a pool is in one place, promises add up, charges are what is there."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfs.mm.hugetlb_resv import hstate_vma, inode_of, is_owner, private_of, vma_hugecache_offset
from mmfs.mm.hugetlb_vma import folio_of
from mmfs.mm.mman import VM_MAYSHARE
from mmfs.mm_types import (
    BLK_HUGETLB,
    BLK_SPLIT,
    CONT_PTES,
    PAGE_SHIFT,
    PAGE_SIZE,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    PG_HUGETLB,
    PTE_ACCESSED,
    PTE_CONT,
    PTE_DIRTY,
    PTE_GLOBAL,
    PTE_PFN_MASK,
    PTE_PRESENT,
    PTE_PSE,
    PTE_SPECIAL,
    TABLE_SHIFT,
    NodeStatItem,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.hugetlb import Hstate, HugetlbFolio
    from mmfs.mm.vma import VmAreaStruct

_MAPPED = PTE_PRESENT | PTE_GLOBAL


def _same(what: str, left: object, right: object) -> None:
    if left != right:
        raise AssertionError(f"{what}: {left} is not {right}")


def entries_of_pools(kernel: Kernel, entries: NDArray[np.uint64], level: int) -> NDArray[np.int64]:
    """Which entries of a table map huge pages of pools, of several that map one the first; the others continue it."""
    if level > 1:
        huge = np.flatnonzero(entries & np.uint64(PTE_PSE))
        blocks = (entries[huge] & np.uint64(PTE_PFN_MASK)).astype(np.int64) >> PAGE_SHIFT + PAGEBLOCK_ORDER
        huge = huge[kernel.frames.blocks["state"][blocks] == BLK_HUGETLB]
    else:
        marked = entries & np.uint64(PTE_CONT | PTE_SPECIAL) == PTE_CONT
        huge = np.flatnonzero(marked & (entries & np.uint64(_MAPPED) != 0))
    cont = entries[huge] & np.uint64(PTE_CONT) != 0
    runs = huge[cont].reshape(-1, CONT_PTES)
    kept = entries[runs] & ~np.uint64(PTE_ACCESSED | PTE_DIRTY)
    step = PAGE_SIZE << TABLE_SHIFT * (level - 1)
    together = runs[:, :1] // CONT_PTES * CONT_PTES + np.arange(CONT_PTES)
    if (runs != together).any() or any(one != step for one in np.diff(kept).flat):
        raise AssertionError("entries that map a huge page together do not go on from each other")
    first: NDArray[np.int64] = huge[~cont | (huge % CONT_PTES == 0)]
    return first


def check_hugetlb(kernel: Kernel, entries: list[tuple[int, int, int]]) -> None:
    """Pools against page tables, of which `entries` are those of huge pages: (address space, address, entry)."""
    mapped: Counter[HugetlbFolio] = Counter()
    usage: Counter[int] = Counter()
    for row, addr, entry in entries:
        vma = kernel.mms[row].vma_lookup(addr)
        if vma is None or not vma.is_hugetlb():
            raise AssertionError(f"{addr:#x} maps a huge page and {vma!r} is no such mapping")
        folio = folio_of(vma, entry)
        mapped[folio] += 1
        usage[row] += 1 << folio.hstate.order
        if not folio.anon and inode_of(vma).folios.get(vma_hugecache_offset(vma, addr)) is not folio:
            raise AssertionError(f"{addr:#x} maps {folio!r}, which is not its file's there")
    for row, mm in kernel.mms.items():
        _same(f"mm {row}: huge pages that it maps", usage[row], mm.hugetlb_usage)
    for hstate in kernel.hugetlb:
        _check_pool(kernel, hstate, mapped)
        _check_reservations(kernel, hstate)
    for nid in range(len(kernel.node_data)):
        in_use = sum(
            1 << hstate.order for hstate in kernel.hugetlb for folio in hstate.hugepage_activelist.values()
            if folio.nid == nid
        )  # fmt: skip
        _same(f"nr_hugetlb of node {nid}", in_use, kernel.vmstat.node_page_state(nid, NodeStatItem.NR_HUGETLB))
    _check_states(kernel)
    _check_charges(kernel)


def _check_states(kernel: Kernel) -> None:
    """As many frames say that they are of huge pages as the pools have."""
    states = kernel.frames.blocks["state"][: kernel.frames.nr_blocks]
    large = sum(hstate.nr_base_pages for hstate in kernel.hugetlb if hstate.order >= PAGEBLOCK_ORDER)
    _same("pageblocks of huge pages", int(np.count_nonzero(states == BLK_HUGETLB)), large >> PAGEBLOCK_ORDER)
    if all(hstate.order >= PAGEBLOCK_ORDER for hstate in kernel.hugetlb):
        return
    split = np.flatnonzero(states == BLK_SPLIT)
    flags = kernel.frames.pages["flags"][: kernel.frames.nr_blocks << PAGEBLOCK_ORDER].reshape(-1, PAGEBLOCK_NR_PAGES)
    marked = sum(int(np.count_nonzero(flags[block] & PG_HUGETLB)) for block in split.tolist())
    _same("frames of huge pages", marked, sum(hstate.nr_base_pages for hstate in kernel.hugetlb) - large)


def _check_pool(kernel: Kernel, hstate: Hstate, mapped: Counter[HugetlbFolio]) -> None:
    """Each page is free, or mapped, or in a file, once."""
    active = hstate.hugepage_activelist
    pages = [*active, *(pfn for pfns in hstate.hugepage_freelists for pfn in pfns)]
    _same(f"{hstate!r}: pages that are in two places", len(pages) - len(set(pages)), 0)
    nodes = Counter(kernel.page_alloc.page_to_nid(pfn) for pfn in pages)
    for nid, count in enumerate(hstate.nr_huge_pages_node):
        _same(f"{hstate!r}: pages of node {nid}", nodes[nid], count)
        if not 0 <= hstate.surplus_huge_pages_node[nid] <= count:
            raise AssertionError(f"{hstate!r}: {hstate.surplus_huge_pages_node[nid]} surplus pages of {count}")
    for pfn, folio in active.items():
        _same(f"{folio!r}: its frame", folio.pfn, pfn)
        _same(f"{folio!r}: how often it is mapped", mapped[folio], folio.mapcount)
        if not folio.mapcount and folio.mapping is None and not folio.hwpoison:
            raise AssertionError(f"{folio!r} is not free and nobody uses it")
        if folio.mapping is not None and folio.mapping.folios.get(folio.index) is not folio:
            raise AssertionError(f"{folio!r} is not where its file has it")
    for pfn in pages:
        _same(f"{hstate!r}: {pfn:#x} says that it is one", kernel.page_alloc.is_hugetlb(pfn), True)


def _hugetlb_vmas(kernel: Kernel, hstate: Hstate) -> list[VmAreaStruct]:
    vmas = (vma for mm in kernel.mms.values() for vma in mm.mmap if vma.is_hugetlb())
    return [vma for vma in vmas if hstate_vma(vma) is hstate]


def _check_reservations(kernel: Kernel, hstate: Hstate) -> None:
    """The promises are what files have reserved and not got, and private mappings, and mounts."""
    subpools, resv = {}, 0
    for inode in kernel.hugetlb.inodes:
        if inode.hstate is not hstate:
            continue
        resv += inode.resv_map.region_count(0, 1 << 62) - len(inode.folios)
        for index in inode.folios:
            _same(f"{inode!r}: page {index} is in its map", inode.resv_map.region_count(index, index + 1), 1)
    for sb in (*(sb for sb, _ in kernel.hugetlb.vfsmounts.values()), *kernel.hugetlb.mounts.values()):
        if sb.subpool is not None and sb.hstate is hstate:
            subpools[id(sb)] = sb.subpool
    resv += sum(subpool.rsv_hpages for subpool in subpools.values())
    for vma in _hugetlb_vmas(kernel, hstate):
        if is_owner(vma):
            private = private_of(vma).resv_map
            assert private is not None
            first, last = vma_hugecache_offset(vma, vma.vm_start), vma_hugecache_offset(vma, vma.vm_end)
            resv += last - first - private.region_count(first, last)
    _same(f"{hstate!r}: promised pages", resv, hstate.resv_huge_pages)
    if hstate.resv_huge_pages > hstate.free_huge_pages:
        raise AssertionError(f"{hstate!r}: {hstate.resv_huge_pages} pages are promised")


def _check_charges(kernel: Kernel) -> None:
    """What each cgroup is charged with itself: the pages, and the reservations, that say so."""
    pages: Counter[Any] = Counter()
    reserved: Counter[Any] = Counter()
    for hstate in kernel.hugetlb:
        for folio in hstate.hugepage_activelist.values():
            pages[folio.cgroup, hstate.size_name] += 1 << hstate.order
            reserved[folio.cgroup_rsvd, hstate.size_name] += 1 << hstate.order
        for vma in _hugetlb_vmas(kernel, hstate):
            resv = private_of(vma).resv_map
            if resv is not None and not vma.vm_flags & VM_MAYSHARE:
                reserved[resv.css, hstate.size_name] += vma.pages
    for inode in kernel.hugetlb.inodes:
        for region in inode.resv_map.regions:
            reserved[region.css, inode.hstate.size_name] += region.end - region.start << inode.hstate.order
    hierarchy = next((root for root in kernel.cgroup_roots if "hugetlb" in root.controllers), None)
    if hierarchy is None:
        return
    root = hierarchy.root.subsys["hugetlb"]
    for group in (hierarchy.root, *hierarchy.root.descendants()):
        css = group.subsys.get("hugetlb")
        for size, nodes in css.nodeinfo.items() if css is not None else ():
            _same(f"hugetlb.{size} of {group.path} itself", sum(nodes.values()), pages[css, size])
    for hstate in kernel.hugetlb:
        size = hstate.size_name
        total = sum(count for (css, of), count in reserved.items() if css is not None and of == size)
        _same(f"hugetlb.{size}.rsvd.current of all", root.rsvd_hugepage[size].usage, total)
