"""KSM: pages that hold the same are merged into one page, which is copied again by who writes to it.

A program says which memory may be merged (MADV_MERGEABLE, PR_SET_MEMORY_MERGE). While `run` is 1, ksmd looks every
`sleep_millisecs` at `pages_to_scan` pages of it (fastpath/ksm.py): address space by address space, each by address,
again and again. What a page holds is not simulated: it follows from what its process says that a range holds
(`set_contents()`), or from sim/contents, which has some pages all zero, and every other unlike all others.

Linux: mm/ksm.c.

Simplified: what ksmd knows of an address space goes when that exits, not when ksmd comes to it; a page that moved to
another node stays in the tree of its contents.
"""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENOMEM
from typing import TYPE_CHECKING, Final

from mmfs.fastpath.ksm import KsmScan
from mmfs.mm.ksm_contents import CONTENTS, Contents
from mmfs.mm.mman import (
    VM_DONTEXPAND,
    VM_DROPPABLE,
    VM_HUGETLB,
    VM_IO,
    VM_MAYSHARE,
    VM_MERGEABLE,
    VM_MIXEDMAP,
    VM_PFNMAP,
    VM_SHARED,
    page_align,
)
from mmfs.mm.rows import vma_row
from mmfs.mm_types import GFP_HIGHUSER_MOVABLE, PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmfs.kernel.clock import Timer
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct

NSEC_PER_MSEC: Final = 1_000_000
KSM_RUN_STOP, KSM_RUN_MERGE, KSM_RUN_UNMERGE = range(3)
INCOMPATIBLE: Final = (
    VM_SHARED | VM_MAYSHARE | VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_HUGETLB | VM_MIXEDMAP | VM_DROPPABLE
)
"""Memory that is never merged. Linux: vma_ksm_compatible()."""
SIZEOF_RMAP_ITEM: Final = 64
PAGES_A_SLICE: Final = 4096
DEFAULT_PAGES_TO_SCAN: Final = 100
ADVISOR_MIN_CPU: Final = 10
EWMA_WEIGHT: Final = 30



class Ksm:
    """ksmd and its switches. Linux: struct ksm_scan, ksm_thread_pages_to_scan and its kin.

    ``account``: called with pages that were looked at and pages that were merged; returns the ns of CPU time that this
    took; set by the kernel.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.loops = KsmScan(kernel.pagetables, kernel.mmu.swap.slots.zswap.contents)
        self.tree = self.loops.tree
        self.run = KSM_RUN_STOP
        self.pages_to_scan = DEFAULT_PAGES_TO_SCAN
        self.sleep_millisecs = 20
        self.full_scans = 0
        self.slots: list[MmStruct] = []
        """Address spaces that have mergeable memory, in the order of the scan."""
        self.at = -1
        """Which of them is scanned, from ``address`` on; -1 between two full scans."""
        self.address = 0
        self.due = 0
        """Pages that are left of the round that is under way."""
        self.timer: Timer | None = None
        self.objects = {"ksm_rmap_item": 0, "ksm_stable_node": 0, "ksm_mm_slot": 0}
        self.account: Callable[[int, int], int] = lambda scanned, merged: 0
        self.advisor_mode = "none"
        self.advisor_max_cpu = 70
        self.advisor_min_pages_to_scan = 500
        self.advisor_max_pages_to_scan = 30_000
        self.advisor_target_scan_time = 200
        self.cpu_ns = 0
        self._start_ns = self._scan_time = self._change = self._cpu_ns = 0

    # -- who is scanned -------------------------------------------------------------------------------------------

    def enter(self, mm: MmStruct) -> None:
        """An address space has mergeable memory from now on. Linux: __ksm_enter()."""
        if mm in self.slots:
            return
        if self.run == KSM_RUN_UNMERGE or self.at < 0:
            self.slots.append(mm)
        else:
            self.slots.insert(self.at, mm)
            self.at += 1
        self._wake()

    def leave(self, mm: MmStruct) -> None:
        """An address space ends. Linux: __ksm_exit()."""
        if mm not in self.slots:
            return
        self.tree.remove_trailing(mm.row, 0)
        at = self.slots.index(mm)
        del self.slots[at]
        if at < self.at:
            self.at -= 1
        elif at == self.at:
            self._begin_mm()
        self._sync_objects()

    def fork(self, mm: MmStruct, oldmm: MmStruct) -> None:
        """A copy of an address space may be merged as it may. Linux: ksm_fork()."""
        mm.ksm.contents = list(oldmm.ksm.contents)
        mm.ksm.merge_any = oldmm.ksm.merge_any
        if oldmm in self.slots:
            self.enter(mm)

    def madvise(self, vma: VmAreaStruct, start: int, end: int, merge: bool) -> bool:
        """Before a range becomes mergeable, or is no more: whether it does. Linux: ksm_madvise()."""
        if merge:
            if vma.vm_flags & INCOMPATIBLE:
                return False
            self.enter(vma.vm_mm)
        elif vma.vm_flags & VM_MERGEABLE:
            self.unmerge(vma, start, end)
        return True

    def set_merge_any(self, mm: MmStruct, wanted: bool) -> None:
        """PR_SET_MEMORY_MERGE. Linux: ksm_enable_merge_any(), ksm_disable_merge_any()."""
        if mm.ksm.merge_any == wanted:
            return
        if wanted:
            self.enter(mm)
        for vma in list(mm.mmap):
            if wanted and not vma.vm_flags & INCOMPATIBLE:
                vma.flags_reset(vma.vm_flags | VM_MERGEABLE)
            elif not wanted and vma.vm_flags & VM_MERGEABLE:
                self.unmerge(vma, vma.vm_start, vma.vm_end)
                vma.flags_reset(vma.vm_flags & ~VM_MERGEABLE)
        mm.ksm.merge_any = wanted

    def add_vma(self, vma: VmAreaStruct) -> None:
        """A new mapping of a process all of whose memory is merged. Linux: ksm_add_vma()."""
        if not vma.vm_flags & INCOMPATIBLE:
            vma.flags_reset(vma.vm_flags | VM_MERGEABLE)

    def set_contents(self, mm: MmStruct, start: int, end: int, what: str, number: int) -> None:
        """Say what the pages of a range hold from now on; those that are merged come apart, as if they were written.

        Raises OSError(EINVAL) if it does not begin at a page.
        """
        if start % PAGE_SIZE:
            raise OSError(EINVAL, "not at a page")
        end = start + page_align(end - start)
        for vma in list(mm.mmap):
            if vma.vm_start < end and start < vma.vm_end:
                self.unmerge(vma, max(vma.vm_start, start), min(vma.vm_end, end))
        mm.ksm.cut(start, end)
        if what != "default":
            mm.ksm.add([Contents(start, end, CONTENTS.index(what), number, start)])
        self.tree.forget_unstable(mm.row)

    # -- the thread -----------------------------------------------------------------------------------------------

    def _should_run(self) -> bool:
        return self.run == KSM_RUN_MERGE and bool(self.slots)

    def _wake(self) -> None:
        if self.timer is None and self._should_run():
            self._sleep(NSEC_PER_MSEC)

    def _sleep(self, nsec: int) -> None:
        clock = self.kernel.clock
        self.timer = clock.add_timer(clock.now_ns + max(nsec, NSEC_PER_MSEC), self._thread)

    def set_sleep(self, msecs: int) -> None:
        """Linux: sleep_millisecs_store(), which wakes ksmd."""
        self.sleep_millisecs = msecs
        if self.timer is not None:
            self.timer.cancel()
            self._sleep(0)

    def _thread(self) -> None:
        """A round, or a slice of one that takes long. Linux: ksm_scan_thread()."""
        self.timer = None
        if not self._should_run():
            self.due = 0
            return
        self.due = self.due or self.pages_to_scan
        nsec = self.scan_slice()
        if self._should_run():
            self._sleep(nsec if self.due else nsec + self.sleep_millisecs * NSEC_PER_MSEC)

    def scan_slice(self) -> int:
        """Look at what is due, up to PAGES_A_SLICE; the CPU time that it took. Linux: ksm_do_scan()."""
        loops, clock = self.loops, self.kernel.clock
        self.tree.now_ms = clock.now_ns // NSEC_PER_MSEC
        scanned, merged = loops.pages_scanned, loops.merged
        loops.left = min(self.due, PAGES_A_SLICE)
        self.due -= loops.left
        while loops.left > 0:
            if self._next_mm():
                self.due = 0
                break
        self._sync_objects()
        nsec = self.account(loops.pages_scanned - scanned, loops.merged - merged)
        self.cpu_ns += nsec
        return nsec

    def full_scan(self) -> None:
        """Look at all pages once, or at the rest of them, in no time: for whoever wants to see it done."""
        self.tree.now_ms = self.kernel.clock.now_ns // NSEC_PER_MSEC
        ended = False
        while not ended:
            self.loops.left = PAGES_A_SLICE
            ended = self._next_mm()
        self._sync_objects()

    def _begin_mm(self) -> None:
        self.address = self.loops.cursor = 0

    def _next_mm(self) -> bool:
        """Go on with an address space; whether a full scan has ended. Linux: scan_get_next_rmap_item()."""
        if self.at < 0:
            if not self.slots:
                return True
            self._start_ns = self.kernel.clock.now_ns
            self.kernel.lru.lru_add_drain_all()
            self.tree.turn += 1
            self.at = 0
            self._begin_mm()
        if self.at < len(self.slots):
            mm = self.slots[self.at]
            if not self._scan_mm(mm):
                return False
            self.tree.remove_trailing(mm.row, self.loops.cursor)
            if self.address == 0:
                del self.slots[self.at]
            else:
                self.at += 1
            self._begin_mm()
        if self.at < len(self.slots):
            return False
        self.at = -1
        if self.advisor_mode == "scan-time":
            self._scan_time_advisor()
        self.full_scans += 1
        return True

    def _scan_mm(self, mm: MmStruct) -> bool:
        """Scan an address space from where it was left; False: as many pages as were to be looked at are."""
        for vma in list(mm.mmap):
            if vma.vm_end <= self.address or not vma.vm_flags & VM_MERGEABLE:
                continue
            self.address = max(self.address, vma.vm_start)
            if vma.anon_vma is None:
                self.address = vma.vm_end
                continue
            row = vma_row(vma)
            for piece in mm.ksm.pieces(self.address, vma.vm_end):
                self.address = self.loops.scan_range(mm.row, row, piece.start, piece.end, *piece[2:])
                if self.loops.left <= 0:
                    return False
        return True

    def _sync_objects(self) -> None:
        """The objects of ksmd's records in their caches. Linux: alloc_rmap_item(), alloc_stable_node()."""
        slab, tree = self.kernel.slab, self.tree
        for name, n in (
            ("ksm_rmap_item", tree.rmap_items), ("ksm_stable_node", tree.nr_nodes + tree.chains),
            ("ksm_mm_slot", len(self.slots)),
        ):  # fmt: skip
            more = n - self.objects[name]
            if more > 0:
                slab.alloc_counted(name, more)
            elif more < 0:
                slab.free_counted(name, -more)
            self.objects[name] = n

    # -- the way back ---------------------------------------------------------------------------------------------

    def unmerge(self, vma: VmAreaStruct, start: int, end: int) -> None:
        """Give a range pages of its own again. Raises OSError(ENOMEM). Linux: unmerge_ksm_pages()."""
        if vma.anon_vma is None or not self.kernel.mmu.rmap.ksm.nr_nodes + self.tree.zero_pages:
            return
        mm, kernel, tries = vma.vm_mm, self.kernel, 0
        while True:
            start = self.loops.unmerge_range(mm.row, vma_row(vma), start, end)
            if start >= end:
                return
            fast, tries = kernel.memcgs.fast, tries + 1
            if fast.failed >= 0:
                if tries > 16 or not kernel.memcgs.make_room(GFP_HIGHUSER_MOVABLE, int(fast.failed_for)):
                    raise OSError(ENOMEM, "no room to unmerge")
                continue
            pfn = kernel.page_alloc.alloc_pages(GFP_HIGHUSER_MOVABLE, 0)
            if pfn < 0 or mm.row < 0 or tries > 1 << 20:
                raise OSError(ENOMEM, "no memory to unmerge")
            kernel.page_alloc.buddy.free_pages(pfn, 0)

    def set_run(self, value: int) -> None:
        """/sys/kernel/mm/ksm/run. Linux: run_store(), unmerge_and_remove_all_rmap_items()."""
        if self.run == value:
            return
        self.run = value
        self.tree.unmerging = value == KSM_RUN_UNMERGE
        if value == KSM_RUN_UNMERGE:
            try:
                self._unmerge_all()
            except OSError:
                self.run = KSM_RUN_STOP
                raise
        self._wake()

    def _unmerge_all(self) -> None:
        for mm in list(self.slots):
            for vma in list(mm.mmap):
                if vma.vm_flags & VM_MERGEABLE:
                    self.unmerge(vma, vma.vm_start, vma.vm_end)
            self.tree.remove_trailing(mm.row, 0)
        self.tree.remove_all_nodes()
        self.at, self.full_scans, self.due = -1, 0, 0
        self._begin_mm()
        self._sync_objects()

    def may_change_trees(self) -> None:
        """EBUSY while anything is merged. Linux: max_page_sharing_store(), merge_across_nodes_store()."""
        if self.tree.pages_shared or self.tree.remove_all_nodes():
            raise OSError(EBUSY, "pages are merged")

    # -- the advisor ----------------------------------------------------------------------------------------------

    def set_pages_to_scan(self, pages: int) -> None:
        """Linux: pages_to_scan_store()."""
        if self.advisor_mode != "none":
            raise OSError(EINVAL, "the advisor decides")
        self.pages_to_scan = pages

    def set_advisor_mode(self, mode: str) -> None:
        """Linux: advisor_mode_store(), set_advisor_defaults()."""
        if mode == self.advisor_mode:
            return
        self.advisor_mode = mode
        self._scan_time = self._change = self._cpu_ns = 0
        self.pages_to_scan = DEFAULT_PAGES_TO_SCAN if mode == "none" else self.advisor_min_pages_to_scan

    def _scan_time_advisor(self) -> None:
        """After a full scan: how many pages a round should look at. Linux: scan_time_advisor()."""
        scan_time = max((self.kernel.clock.now_ns - self._start_ns) // (1000 * NSEC_PER_MSEC), 1)
        cpu_percent = max((self.cpu_ns - self._cpu_ns) // NSEC_PER_MSEC * 100 // (scan_time * 1000), 1)
        factor = max(self.advisor_target_scan_time * 100 // scan_time, 1)
        change = max(scan_time * 100 // (self._scan_time or scan_time), 1)
        change = ((100 - EWMA_WEIGHT) * self._change + EWMA_WEIGHT * change) // 100
        pages = self.pages_to_scan * 100 // factor * change // 100
        per_page_cost = max(self.pages_to_scan // cpu_percent, 1)
        pages = max(min(pages, per_page_cost * self.advisor_max_cpu), per_page_cost * ADVISOR_MIN_CPU)
        self._change, self._scan_time, self._cpu_ns = change, scan_time, self.cpu_ns
        self.pages_to_scan = min(pages, self.advisor_max_pages_to_scan)

    # -- what has come of it --------------------------------------------------------------------------------------

    @property
    def pages_volatile(self) -> int:
        """Linux: pages_volatile_show()."""
        tree = self.tree
        return max(int(tree.rmap_items - tree.pages_shared - tree.pages_sharing - tree.pages_unshared), 0)

    @property
    def general_profit(self) -> int:
        """Bytes saved. Linux: general_profit_show()."""
        saved = self.tree.pages_sharing + self.tree.zero_pages
        return int(saved * PAGE_SIZE - self.tree.rmap_items * SIZEOF_RMAP_ITEM)

    def mm_stat(self, mm: MmStruct) -> tuple[int, int, int, int]:
        """ksm_rmap_items, ksm_zero_pages, ksm_merging_pages, and the profit. Linux: ksm_process_profit()."""
        record = self.tree.mms[mm.row]
        items, zero, merging = (int(record[name]) for name in ("rmap_items", "zero", "merging"))
        return items, zero, merging, (merging + zero) * PAGE_SIZE - items * SIZEOF_RMAP_ITEM
