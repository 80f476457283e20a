"""Collapse of shared memory: 512 slots of a file get one huge page in place of what they hold.

A mapping leads to it, of a process that khugepaged looks at or that has called madvise(MADV_COLLAPSE), but it is the
page cache that is looked at (fastpath/collapse_file.py): what the file holds there, mapped or not, and what of it is
swapped out. All page tables lose the pages; the next access, or madvise() at once, maps the huge page.

Linux: mm/khugepaged.c, hpage_collapse_scan_file(), collapse_file().

Simplified: locked pages are left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fastpath.collapse_file import CollapseFile
from mmfs.mm.rows import vma_row
from mmfs.mm.scan_result import EXCEEDED, Scan
from mmfs.mm.shmem import swapin_range
from mmfs.mm_types import (
    FAULT_DONE,
    FAULT_HUGE,
    HPAGE_PMD_NR,
    HPAGE_PMD_ORDER,
    PAGE_SHIFT,
    VmEventItem,
)

if TYPE_CHECKING:
    from mmfs.mm.filemap import AddressSpace
    from mmfs.mm.khugepaged import Khugepaged
    from mmfs.mm.vma import VmAreaStruct


class FileCollapse:
    """What khugepaged does with files; ``khugepaged`` has the limits."""

    def __init__(self, khugepaged: Khugepaged) -> None:
        self.khugepaged = khugepaged
        self.kernel = khugepaged.kernel
        self.fast = CollapseFile(self.kernel.mmu)

    def scan(self, vma: VmAreaStruct, addr: int, gfp: int, *, is_khugepaged: bool) -> Scan:
        """Collapse what a mapping has of a file at an address, if that is worth it; madvise() minds fewer things.

        Linux: hpage_collapse_scan_file().
        """
        assert vma.vm_file is not None
        mapping, first = vma.vm_file.mapping, vma.vm_pgoff + (addr - vma.vm_start >> PAGE_SHIFT)
        self.fast.scan(mapping.id, first)
        limits, result = self.khugepaged, Scan.SUCCEED
        if is_khugepaged and self.fast.swap > limits.max_ptes_swap:
            result = Scan.EXCEED_SWAP_PTE
        elif self.fast.large:
            return Scan.PTE_MAPPED_HUGEPAGE
        elif self.fast.busy:
            return Scan.PAGE_LRU
        elif is_khugepaged and self.fast.present < HPAGE_PMD_NR - limits.max_ptes_none:
            result = Scan.EXCEED_NONE_PTE
        if result != Scan.SUCCEED:
            self.kernel.vmstat.count_vm_events(EXCEEDED[result], 1)
            return result
        result = self._collapse(mapping, first, int(self.kernel.mmu.mms[vma.vm_mm.row]["memcg"]), gfp)
        return Scan.PTE_MAPPED_HUGEPAGE if result == Scan.SUCCEED and not is_khugepaged else result

    def _collapse(self, mapping: AddressSpace, first: int, memcg: int, gfp: int) -> Scan:
        """Linux: collapse_file()."""
        kernel, buddy = self.kernel, self.kernel.page_alloc.buddy
        pfn = self.khugepaged.alloc_folio(gfp)
        if pfn < 0:
            return Scan.ALLOC_HUGE_PAGE_FAIL
        kernel.vmstat.count_vm_events(VmEventItem.THP_COLLAPSE_ALLOC, 1)
        if not self.khugepaged.charge(memcg, gfp):
            buddy.free_pages(pfn, HPAGE_PMD_ORDER)
            return Scan.CGROUP_CHARGE_FAIL
        result = self._read(mapping, first)
        if result == Scan.SUCCEED and not self.fast.collapse(mapping.id, first, pfn, memcg):
            result = Scan.PAGE_LRU
        self.khugepaged.copied += result == Scan.SUCCEED
        if result != Scan.SUCCEED:
            self.khugepaged.uncharge(memcg)
            buddy.free_pages(pfn, HPAGE_PMD_ORDER)
        kernel.page_cache.settle()
        return result

    def _read(self, mapping: AddressSpace, first: int) -> Scan:
        """Have what is swapped out back, and look whether all can go. Linux: collapse_file(), shmem_get_folio()."""
        mapping.cache.reserve(mapping.id, first + HPAGE_PMD_NR)
        try:
            swapin_range(mapping, first, first + HPAGE_PMD_NR)
        except MemoryError:
            return Scan.FAIL
        self.kernel.lru.lru_add_drain_all()
        self.fast.scan(mapping.id, first)
        if not self.fast.present:
            return Scan.TRUNCATED
        return Scan.PAGE_LRU if self.fast.busy or self.fast.swap or self.fast.large else Scan.SUCCEED

    def collapse_pte_mapped(self, vma: VmAreaStruct, addr: int, *, install: bool) -> Scan:
        """Have the huge page of a file mapped by a PMD entry, or (unless ``install``) by none.

        Linux: collapse_pte_mapped_thp().
        """
        done = int(self.fast.collapse_pte_mapped(vma_row(vma), addr, install))
        return {FAULT_DONE: Scan.SUCCEED, FAULT_HUGE: Scan.PMD_MAPPED}.get(done, Scan.FAIL)
