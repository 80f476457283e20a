"""khugepaged: the thread that gives huge pages to memory that was faulted in by pages of 4 KB, and MADV_COLLAPSE.

Every `scan_sleep_millisecs` it looks at `pages_to_scan` pages, address space by address space: 2 MB that could be one
huge page, are in use, and hold little that is missing, swapped or shared (`max_ptes_*`) are collapsed
(fastpath/khugepaged.py): a huge page is found, what is there is copied, the old pages are freed. When none is to be
had it sleeps once for `alloc_sleep_millisecs`, then gives up for this time. Its state is kept here, not in a stack.

Linux: mm/khugepaged.c.

Simplified: of files only those of shared memory; address spaces come in the order in which they began; the thread
leaves anonymous memory alone that is partly swapped; a `scan_sleep_millisecs` of 0 lets it rest for a ms all the same.
"""

from __future__ import annotations

from bisect import bisect_right
from errno import EINVAL, ENOMEM
from typing import TYPE_CHECKING, Final

import numpy as np

from mmfs.fastpath.khugepaged import CollapseControl
from mmfs.mm import rmap
from mmfs.mm.access import access_pages
from mmfs.mm.collapse_file import FileCollapse
from mmfs.mm.fault import Fault
from mmfs.mm.huge_memory import GFP_TRANSHUGE, GFP_TRANSHUGE_LIGHT
from mmfs.mm.mman import VM_LOCKED, VM_SPECIAL
from mmfs.mm.rows import vma_row
from mmfs.mm.scan_result import COLLAPSE_ERRNO, EXCEEDED, GO_ON, Scan
from mmfs.mm_types import (
    GFP_THISNODE_BIT,
    HPAGE_PMD_NR,
    HPAGE_PMD_ORDER,
    HPAGE_PMD_SIZE,
    HUGE_PMD,
    NO_TABLE,
    PAGE_SIZE,
    PTE_GLOBAL,
    PTE_PRESENT,
    VmEventItem,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmfs.kernel.clock import Timer
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct

NSEC_PER_MSEC: Final = 1_000_000


class Khugepaged:
    """The scan of a machine and its switches. Linux: struct khugepaged_scan, khugepaged_pages_to_scan and its kin.

    ``account``: called with the ns of CPU time that a scan took; set by the kernel.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.control = CollapseControl(kernel.pagetables)
        self.files = FileCollapse(self)
        self.pages_to_scan = HPAGE_PMD_NR * 8
        self.max_ptes_none = HPAGE_PMD_NR - 1
        self.max_ptes_swap = HPAGE_PMD_NR // 8
        self.max_ptes_shared = HPAGE_PMD_NR // 2
        self.scan_sleep_millisecs = 10_000
        self.alloc_sleep_millisecs = 60_000
        self.full_scans = self.pages_collapsed = self.copied = 0
        self.serial = -1
        """Of the address space that is scanned, -1 before the first."""
        self.address = 0
        self.waited = self.running = False
        self.result = Scan.FAIL
        self.timer: Timer | None = None
        self.account: Callable[[int, int], object] = lambda scanned, copied: None

    # -- the thread -----------------------------------------------------------------------------------------------

    def start_stop(self, wanted: bool) -> None:
        """Run from now on, or no more. Linux: start_stop_khugepaged()."""
        if self.timer is not None and not wanted:
            self.timer.cancel()
            self.timer = None
        elif self.timer is None and wanted:
            self._sleep(self.scan_sleep_millisecs)

    def wake(self) -> None:
        """It must not wait any longer. Linux: scan_sleep_millisecs_store()."""
        if self.timer is not None:
            self.timer.cancel()
            self._sleep(0)

    def _sleep(self, msecs: int) -> None:
        clock = self.kernel.clock
        self.timer = clock.add_timer(clock.now_ns + max(msecs, 1) * NSEC_PER_MSEC, self.run)

    def run(self) -> None:
        """Scan once, and sleep. Linux: khugepaged(), khugepaged_do_scan(), khugepaged_wait_work()."""
        copied = self.copied
        self.running = True
        scanned, sleep_ms = self.do_scan()
        self.running = False
        self.account(scanned, (self.copied - copied) * HPAGE_PMD_NR)
        self._sleep(sleep_ms)

    def do_scan(self) -> tuple[int, int]:
        """Look at as many pages as one round may: how many it were, and how many ms to sleep."""
        progress = passes = 0
        self.kernel.lru.lru_add_drain_all()
        mms = {mm.serial: mm for mm in self.kernel.mms.values()}
        order = sorted(mms)
        while progress < self.pages_to_scan:
            passes += self.serial < 0
            if passes >= 2 or (self.serial < 0 and not self._next_mm(order)):
                break
            progress += self._scan_mm(mms.get(self.serial), self.pages_to_scan - progress)
            if self.address < 0 and not self._next_mm(order):
                self.full_scans += 1
            if self.result == Scan.ALLOC_HUGE_PAGE_FAIL:
                self.waited = not self.waited
                return progress, self.alloc_sleep_millisecs if self.waited else self.scan_sleep_millisecs
        self.waited = False
        return progress, self.scan_sleep_millisecs

    def _next_mm(self, order: list[int]) -> bool:
        """Go to the next address space in the order of their serial numbers; False after the last."""
        at = bisect_right(order, self.serial)
        self.serial, self.address = (order[at], 0) if at < len(order) else (-1, 0)
        return self.serial >= 0

    def _scan_mm(self, mm: MmStruct | None, pages: int) -> int:
        """Look at so many pages of an address space: how many it were; ``address`` is -1 at its end.

        Linux: khugepaged_scan_mm_slot().
        """
        progress, self.result = 1, Scan.FAIL
        for vma in list(mm.mmap) if mm is not None and mm.row >= 0 else []:
            start, end = hugepage_range(vma.vm_start, vma.vm_end)
            if self.address > end or not self.collapsible(vma):
                progress += 1
                continue
            for addr in range(max(self.address, start), end, HPAGE_PMD_SIZE):
                self.result = self._scan_file(vma, addr) if vma.is_shmem() else self._scan_pmd(vma, addr)
                self.pages_collapsed += self.result == Scan.SUCCEED
                self.address = addr + HPAGE_PMD_SIZE
                progress += HPAGE_PMD_NR
                if progress >= pages or self.result in (Scan.SUCCEED, Scan.ALLOC_HUGE_PAGE_FAIL):
                    return progress
        self.address = -1
        return progress

    def collapsible(self, vma: VmAreaStruct) -> bool:
        """Whether khugepaged looks at a mapping. Linux: thp_vma_allowable_order(), VM_NO_KHUGEPAGED."""
        return (
            (vma.anon_vma is not None or vma.is_shmem())
            and not vma.vm_flags & (VM_SPECIAL | VM_LOCKED)
            and self.kernel.thp.pmd_allowable(vma, enforce=True)
        )

    # -- 2 MB -----------------------------------------------------------------------------------------------------

    def _look(self, mm: MmStruct, addr: int, khugepaged: bool) -> Scan:
        """Whether 2 MB are worth it; madvise() minds fewer things. Linux: hpage_collapse_scan_pmd()."""
        found = self.control
        at = found.scan_pmd(mm.row, addr)
        if at in (HUGE_PMD, NO_TABLE):
            return Scan.PMD_MAPPED if at == HUGE_PMD else Scan.PMD_NULL
        if khugepaged:
            for result, count, most in (
                (Scan.EXCEED_NONE_PTE, found.none, self.max_ptes_none),
                (Scan.EXCEED_SWAP_PTE, found.swap, self.max_ptes_swap),
                (Scan.EXCEED_SHARED_PTE, found.shared, self.max_ptes_shared),
            ):
                if count > most:
                    self.kernel.vmstat.count_vm_events(EXCEEDED[result], 1)
                    return result
        if found.foreign:
            return Scan.PAGE_ANON
        if found.busy:
            return Scan.PAGE_LRU
        if not found.writable:
            return Scan.PAGE_RO
        if khugepaged and (not found.referenced or (found.swap and found.referenced < HPAGE_PMD_NR // 2)):
            return Scan.LACK_REFERENCED_PAGE
        return Scan.SUCCEED

    def _scan_pmd(self, vma: VmAreaStruct, addr: int) -> Scan:
        result = self._look(vma.vm_mm, addr, khugepaged=True)
        if result != Scan.SUCCEED or self.control.swap:
            return Scan.FAIL if result == Scan.SUCCEED else result
        return self._collapse(vma, addr, self._gfp())

    def _gfp(self) -> int:
        """Linux: alloc_hugepage_khugepaged_gfpmask()."""
        return GFP_TRANSHUGE if self.kernel.thp.khugepaged_defrag else GFP_TRANSHUGE_LIGHT

    def _scan_file(self, vma: VmAreaStruct, addr: int) -> Scan:
        """The same of shared memory. One that is a huge page already counts as a success."""
        result = self.files.scan(vma, addr, self._gfp(), is_khugepaged=True)
        if result == Scan.PTE_MAPPED_HUGEPAGE:
            result = self.files.collapse_pte_mapped(vma, addr, install=False)
        return Scan.SUCCEED if result == Scan.PMD_MAPPED else result

    def alloc_folio(self, gfp: int) -> int:
        """The first frame of a huge page, or -1. Linux: alloc_charge_folio()."""
        buddy = self.kernel.page_alloc.buddy
        node = int(buddy.cpu_nodes[buddy.cpu])
        pfn = int(self.kernel.page_alloc.alloc_pages(gfp | GFP_THISNODE_BIT, HPAGE_PMD_ORDER, node))
        if pfn < 0:
            self.kernel.vmstat.count_vm_events(VmEventItem.THP_COLLAPSE_ALLOC_FAILED, 1)
        return pfn

    def charge(self, memcg: int, gfp: int) -> bool:
        """Charge a huge page to a memory cgroup, with reclaim; whether it has room. Linux: alloc_charge_folio()."""
        charged = self.kernel.memcgs.try_charge(memcg, gfp, HPAGE_PMD_NR)
        self.kernel.memcgs.fast.failed = -1
        return charged

    def uncharge(self, memcg: int) -> None:
        """It is not used in the end."""
        if memcg:
            self.kernel.memcgs.fast.give_stock(memcg, HPAGE_PMD_NR)

    def _collapse(self, vma: VmAreaStruct, addr: int, gfp: int) -> Scan:
        """Find a huge page and copy what is there into it. Linux: collapse_huge_page(), alloc_charge_folio()."""
        kernel, row = self.kernel, vma.vm_mm.row
        buddy, memcg = kernel.page_alloc.buddy, int(kernel.mmu.mms[row]["memcg"])
        pfn = self.alloc_folio(gfp)
        if pfn < 0:
            return Scan.ALLOC_HUGE_PAGE_FAIL
        kernel.vmstat.count_vm_events(VmEventItem.THP_COLLAPSE_ALLOC, 1)
        if not self.charge(memcg, gfp):
            buddy.free_pages(pfn, HPAGE_PMD_ORDER)
            return Scan.CGROUP_CHARGE_FAIL
        if self.control.scan_pmd(row, addr) < 0 or self.control.swap or self.control.busy:  # reclaim took some
            self.uncharge(memcg)
            buddy.free_pages(pfn, HPAGE_PMD_ORDER)
            return Scan.PAGE_LRU
        rmap.anon_vma_prepare(vma)
        self.control.collapse(row, vma_row(vma), addr, pfn)
        self.copied += 1
        return Scan.SUCCEED

    # -- madvise --------------------------------------------------------------------------------------------------

    def madvise_collapse(self, vma: VmAreaStruct, start: int, end: int) -> None:
        """MADV_COLLAPSE: huge pages for a range at once, whatever `enabled` says. Linux: madvise_collapse()."""
        if not self.kernel.thp.pmd_allowable(vma, enforce=False) or vma.vm_flags & VM_LOCKED:
            raise OSError(EINVAL, "huge pages are not possible there")
        failed = Scan.SUCCEED
        self.kernel.lru.lru_add_drain_all()
        for addr in range(*hugepage_range(start, end), HPAGE_PMD_SIZE):
            result = self._collapse_file(vma, addr) if vma.is_shmem() else self._collapse_anon(vma, addr)
            if result not in (Scan.SUCCEED, Scan.PMD_MAPPED):
                failed = result
                if result not in GO_ON:
                    break
        if failed != Scan.SUCCEED:
            raise OSError(COLLAPSE_ERRNO.get(failed, EINVAL), f"no huge page: {failed.name}")

    def _collapse_anon(self, vma: VmAreaStruct, addr: int) -> Scan:
        result = self._look(vma.vm_mm, addr, khugepaged=False)
        if result == Scan.SUCCEED and self.control.swap:
            self._swap_in(vma.vm_mm, addr)
        return self._collapse(vma, addr, GFP_TRANSHUGE) if result == Scan.SUCCEED else result

    def _collapse_file(self, vma: VmAreaStruct, addr: int) -> Scan:
        result = self.files.scan(vma, addr, GFP_TRANSHUGE, is_khugepaged=False)
        if result == Scan.PTE_MAPPED_HUGEPAGE:
            result = self.files.collapse_pte_mapped(vma, addr, install=True)
        return result

    def _swap_in(self, mm: MmStruct, addr: int) -> None:
        """Read what 2 MB have in swap. Linux: __collapse_huge_page_swapin()."""
        raw = np.zeros(HPAGE_PMD_NR, np.uint64)
        self.kernel.task_mmu.read_entries(mm.row, addr, raw)
        gone = np.flatnonzero((raw != 0) & (raw & np.uint64(PTE_PRESENT | PTE_GLOBAL) == 0))
        try:
            access_pages(mm, addr + gone * PAGE_SIZE, write=False)
        except Fault as fault:
            raise OSError(ENOMEM, "no memory to read what is swapped") from fault
        self.kernel.lru.lru_add_drain_all()


def hugepage_range(start: int, end: int) -> tuple[int, int]:
    """What of a range is whole 2 MB."""
    return start + HPAGE_PMD_SIZE - 1 & -HPAGE_PMD_SIZE, end & -HPAGE_PMD_SIZE
