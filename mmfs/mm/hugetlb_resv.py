"""Reservations of huge pages: who was promised a page that he has not touched yet.

mmap() of huge pages fails at once if there are too few, rather than that a fault does later. What was promised stands
in reservation maps, in pages of the huge size. A file has one for all who share it: the pages that somebody has
reserved or taken. A private mapping has its own, with the opposite meaning: it is promised all of its pages, and the
map has those that it has taken. Only who called mmap() has it: a child that fork() made has no promise for the pages of
its own that it will copy.

A mounted hugetlbfs may have a size, and pages that are its own before anybody asks: its subpool stands between its
files and the pool.

Linux: mm/hugetlb.c, struct resv_map, struct hugepage_subpool.
"""

from __future__ import annotations

from dataclasses import dataclass
from errno import ENOMEM
from typing import TYPE_CHECKING

from mmfs.mm.mempolicy import policy_nodemask
from mmfs.mm.mman import VM_MAYSHARE, VM_NORESERVE
from mmfs.mm_types import PAGE_SHIFT

if TYPE_CHECKING:
    from mmfs.kernel.task import Task
    from mmfs.mm.hugetlb import Hstate
    from mmfs.mm.hugetlb_cgroup import HugetlbCgroup
    from mmfs.mm.hugetlbfs import HugetlbInode
    from mmfs.mm.vma import VmAreaStruct


@dataclass(slots=True)
class FileRegion:
    """Pages [start, end) of a map, with the cgroup that their reservation is charged to. Linux: struct file_region."""

    start: int
    end: int
    css: HugetlbCgroup | None = None


class ResvMap:
    """A set of pages, as regions in rising order. Linux: struct resv_map."""

    __slots__ = ("css", "hstate", "regions")

    def __init__(self, hstate: Hstate) -> None:
        self.hstate = hstate
        self.css: HugetlbCgroup | None = None
        """The cgroup that all of a private mapping's reservation is charged to."""
        self.regions: list[FileRegion] = []

    def region_count(self, start: int, end: int) -> int:
        """Pages of [start, end) that are in the map. Linux: region_count()."""
        return sum(max(min(end, region.end) - max(start, region.start), 0) for region in self.regions)

    def region_chg(self, start: int, end: int) -> int:
        """Pages of [start, end) that are not. Linux: region_chg()."""
        return end - start - self.region_count(start, end)

    def region_add(self, start: int, end: int, css: HugetlbCgroup | None = None) -> None:
        """Put [start, end) in; what is new is charged to a cgroup already. Linux: region_add()."""
        regions: list[FileRegion] = []
        at = start
        for region in self.regions:
            if region.start > at and at < end:
                regions.append(FileRegion(at, min(region.start, end), css))
            at = max(at, region.end)
            regions.append(region)
        if at < end:
            regions.append(FileRegion(at, end, css))
        regions.sort(key=lambda region: region.start)
        self.regions = []
        for region in regions:  # Linux: coalesce_file_region()
            last = self.regions[-1] if self.regions else None
            if last is not None and last.end == region.start and last.css is region.css:
                last.end = region.end
            else:
                self.regions.append(region)

    def region_del(self, start: int, end: int) -> int:
        """Take [start, end) out; how many pages were in. Their charges end. Linux: region_del()."""
        deleted, regions = 0, []
        for region in self.regions:
            low, high = max(start, region.start), min(end, region.end)
            if low >= high:
                regions.append(region)
                continue
            deleted += high - low
            if region.css is not None:
                region.css.uncharge_rsvd(self.hstate.size_name, high - low << self.hstate.order)
            if region.start < low:
                regions.append(FileRegion(region.start, low, region.css))
            if high < region.end:
                regions.append(FileRegion(high, region.end, region.css))
        self.regions = regions
        return deleted


class HugepageSubpool:
    """What a mounted hugetlbfs may use (-1 without end) and has in advance. Linux: struct hugepage_subpool."""

    def __init__(self, hstate: Hstate, max_hpages: int, min_hpages: int) -> None:
        self.hstate = hstate
        self.max_hpages = max_hpages
        self.min_hpages = min_hpages
        self.used_hpages = 0
        if min_hpages != -1:
            hstate.acct_memory(min_hpages)
        self.rsv_hpages = max(min_hpages, 0)
        """Pages promised to it that nobody uses."""

    def get_pages(self, delta: int) -> int:
        """Use so many pages; how many are to be had from the pool. ENOMEM. Linux: hugepage_subpool_get_pages()."""
        if self.max_hpages != -1:
            if self.used_hpages + delta > self.max_hpages:
                raise OSError(ENOMEM, "the file system's size is exhausted")
            self.used_hpages += delta
        own = min(delta, self.rsv_hpages)
        self.rsv_hpages -= own
        return delta - own

    def put_pages(self, delta: int) -> int:
        """Use fewer; how many promises of the pool are no longer needed. Linux: hugepage_subpool_put_pages()."""
        if self.max_hpages != -1:
            self.used_hpages -= delta
        if self.min_hpages == -1 or self.used_hpages >= self.min_hpages:
            return delta
        kept = min(delta, self.min_hpages - self.rsv_hpages)
        self.rsv_hpages += kept
        return delta - kept


@dataclass(slots=True)
class HugetlbVmaPrivate:
    """What a VMA of huge pages knows of reservations. Linux: vm_private_data, HPAGE_RESV_OWNER, HPAGE_RESV_UNMAPPED."""

    resv_map: ResvMap | None = None
    """Of a private mapping, and only for who made it."""
    unmapped: bool = False
    """Pages were taken away, so that the owner could have them; who looks for them dies."""


def private_of(vma: VmAreaStruct) -> HugetlbVmaPrivate:
    """The VMA's, made when it is first asked for."""
    private: HugetlbVmaPrivate | None = vma.vm_private_data
    if private is None:
        private = vma.vm_private_data = HugetlbVmaPrivate()
    return private


def inode_of(vma: VmAreaStruct) -> HugetlbInode:
    """The file behind a mapping of huge pages."""
    assert vma.vm_file is not None
    inode: HugetlbInode = vma.vm_file.inode  # type: ignore[assignment]
    return inode


def hstate_vma(vma: VmAreaStruct) -> Hstate:
    """The pool of a mapping. Linux: include/linux/hugetlb.h, hstate_vma()."""
    return inode_of(vma).hstate


def is_owner(vma: VmAreaStruct) -> bool:
    """Whether the VMA's process was promised the pages of a private mapping. Linux: HPAGE_RESV_OWNER."""
    return not vma.vm_flags & VM_MAYSHARE and private_of(vma).resv_map is not None


def vma_resv_map(vma: VmAreaStruct) -> ResvMap | None:
    """The map that is asked for a VMA's pages. Linux: mm/hugetlb.c, vma_resv_map()."""
    return inode_of(vma).resv_map if vma.vm_flags & VM_MAYSHARE else private_of(vma).resv_map


def vma_hugecache_offset(vma: VmAreaStruct, addr: int) -> int:
    """The huge page of the file that an address is in. Linux: mm/hugetlb.c, vma_hugecache_offset()."""
    order = hstate_vma(vma).order
    return (addr - vma.vm_start >> PAGE_SHIFT + order) + (vma.vm_pgoff >> order)


def vma_needs_reservation(vma: VmAreaStruct, addr: int) -> bool:
    """Whether no page is promised for an address. Linux: vma_needs_reservation(), __vma_reservation_common()."""
    resv = vma_resv_map(vma)
    if resv is None:
        return True
    index = vma_hugecache_offset(vma, addr)
    missing = resv.region_chg(index, index + 1) > 0
    return missing if vma.vm_flags & VM_MAYSHARE else not missing


def vma_commit_reservation(vma: VmAreaStruct, addr: int) -> None:
    """The page of an address is taken. Linux: mm/hugetlb.c, vma_commit_reservation()."""
    resv = vma_resv_map(vma)
    if resv is not None:
        index = vma_hugecache_offset(vma, addr)
        resv.region_add(index, index + 1)


def vma_has_reserves(vma: VmAreaStruct, needed: bool) -> bool:
    """Whether a page may be taken that is promised; `needed`: there is no promise. Linux: vma_has_reserves()."""
    if vma.vm_flags & VM_NORESERVE:
        return bool(vma.vm_flags & VM_MAYSHARE) and not needed
    return not needed and (bool(vma.vm_flags & VM_MAYSHARE) or is_owner(vma))


def allowed_nodes(hstate: Hstate, task: Task | None) -> list[int] | None:
    """The nodes that a task may have huge pages from, None for all. Linux: mm/hugetlb.c, allowed_mems_nr()."""
    mask = policy_nodemask(task.mempolicy, task) if task is not None else None
    return None if mask is None else [nid for nid in hstate.nodes if mask >> nid & 1]


def hugetlb_cgroup_of(task: Task | None) -> HugetlbCgroup | None:
    """Who a task's huge pages are charged to. Linux: hugetlb_cgroup_from_task()."""
    if task is None:
        return None
    return next((cgroup.e_css["hugetlb"] for cgroup in task.cset if "hugetlb" in cgroup.e_css), None)


def hugetlb_reserve_pages(
    inode: HugetlbInode, start: int, end: int, vma: VmAreaStruct | None, vm_flags: int, task: Task | None
) -> None:
    """Promise pages [start, end) of a file to all, or to a private mapping. ENOMEM. Linux: hugetlb_reserve_pages()."""
    if vm_flags & VM_NORESERVE:
        return
    hstate, css = inode.hstate, hugetlb_cgroup_of(task)
    shared = vma is None or bool(vma.vm_flags & VM_MAYSHARE)
    resv = inode.resv_map if shared else ResvMap(hstate)
    count = resv.region_chg(start, end) if shared else end - start
    if css is not None:
        css.charge_rsvd(hstate.size_name, count << hstate.order)
    try:
        gbl_reserve = inode.subpool.get_pages(count) if inode.subpool is not None else count
        try:
            hstate.acct_memory(gbl_reserve, allowed_nodes(hstate, task))
        except OSError:
            if inode.subpool is not None:
                inode.subpool.put_pages(count)
            raise
    except OSError:
        if css is not None:
            css.uncharge_rsvd(hstate.size_name, count << hstate.order)
        raise
    if shared:
        resv.region_add(start, end, css)
        return
    assert vma is not None
    resv.css = css
    private_of(vma).resv_map = resv


def hugetlb_unreserve_pages(inode: HugetlbInode, start: int, end: int, freed: int) -> None:
    """Pages [start, end) of a file are gone, of which `freed` were there. Linux: hugetlb_unreserve_pages()."""
    unused = inode.resv_map.region_del(start, end) - freed
    inode.hstate.acct_memory(-(inode.subpool.put_pages(unused) if inode.subpool is not None else unused))


# ---- what happens to VMAs ------------------------------------------------------------------------------------


def hugetlb_dup_vma_private(vma: VmAreaStruct) -> None:
    """A VMA owns no promise: a child's copy, or one whose pages mremap() has moved.

    Linux: mm/hugetlb.c, hugetlb_dup_vma_private(), clear_vma_resv_huge_pages().
    """
    vma.vm_private_data = None


def hugetlb_vm_op_open(vma: VmAreaStruct) -> None:
    """A VMA that was cut off another shares its promises. Linux: mm/hugetlb.c, hugetlb_vm_op_open()."""
    private = private_of(vma)
    vma.vm_private_data = HugetlbVmaPrivate(private.resv_map, private.unmapped)


def hugetlb_vm_op_close(vma: VmAreaStruct) -> None:
    """A VMA is gone: what it was promised and has not taken is free. Linux: mm/hugetlb.c, hugetlb_vm_op_close()."""
    resv = private_of(vma).resv_map
    if resv is None:
        return
    inode = inode_of(vma)
    start, end = vma_hugecache_offset(vma, vma.vm_start), vma_hugecache_offset(vma, vma.vm_end)
    unused = end - start - resv.region_count(start, end)
    if resv.css is not None:
        resv.css.uncharge_rsvd(inode.hstate.size_name, end - start << inode.hstate.order)
    if unused:
        inode.hstate.acct_memory(-(inode.subpool.put_pages(unused) if inode.subpool is not None else unused))
