"""The allocator's slow path: what happens when no zone has a page above its low watermark.

kswapd is woken and the min watermark tried. Below that, the task reclaims itself, again and again as long as that
gets anywhere or the pages that could still be reclaimed would be enough; then the OOM killer has its turn. Small
requests of the kernel and of processes do not fail as long as there is somebody to kill; large ones, and those that
say so (__GFP_NORETRY), do. A request that must not sleep may dip into the reserves and fails after that.
A large block is made by moving pages together: before anything is reclaimed where that is worth it, and after it.

Linux: mm/page_alloc.c, __alloc_pages_slowpath() and below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fastpath.compact_control import CompactResult
from mmfs.mm.compaction import CompactPriority
from mmfs.mm.kswapd import wake_all_kswapds
from mmfs.mm.node_reclaim import node_reclaim
from mmfs.mm.page_alloc import gfp_to_alloc_flags
from mmfs.mm.vmscan import MAX_RECLAIM_RETRIES, fatal_signal_pending
from mmfs.mm_types import (
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_NO_WATERMARKS,
    ALLOC_OOM,
    ALLOC_WMARK_HIGH,
    ALLOC_WMARK_LOW,
    GFP_DIRECT_RECLAIM_BIT,
    GFP_HARDWALL_BIT,
    GFP_IO_BIT,
    GFP_KSWAPD_RECLAIM_BIT,
    GFP_MEMALLOC_BIT,
    GFP_NOFAIL_BIT,
    GFP_NOMEMALLOC_BIT,
    GFP_NORETRY_BIT,
    GFP_RETRY_MAYFAIL_BIT,
    GFP_THISNODE_BIT,
    MIGRATE_MOVABLE,
    PAGE_ALLOC_COSTLY_ORDER,
    VmEventItem,
    ZoneStatItem,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mmzone import Zone

PF_MEMALLOC = 0x0000_0800
ALL_NODES = (1 << 64) - 1
MAX_COMPACT_RETRIES = 16


class SlowPath:
    """One request that the fast path could not serve. Linux: struct alloc_context."""

    def __init__(self, kernel: Kernel, gfp: int, order: int, nid: int, nodemask: int | None) -> None:
        self.kernel = kernel
        self.page_alloc = kernel.page_alloc
        self.task = kernel.tasks.current
        self.gfp = gfp
        self.order = order
        self.nid = nid
        self.nodemask = nodemask
        self.mask = ALL_NODES if nodemask is None else nodemask
        if gfp & GFP_HARDWALL_BIT and not self.page_alloc.current_is_victim():
            self.mask &= int(self.page_alloc.buddy.mems_allowed)
        self.highest = self.page_alloc.gfp_zone(gfp)
        self.migratetype = kernel.page_alloc.gfp_migratetype(gfp)
        self.no_progress_loops = self.compaction_retries = 0
        self.costly = order > PAGE_ALLOC_COSTLY_ORDER
        self.compact_priority = CompactPriority.SYNC_LIGHT
        self.compact_result = CompactResult.SKIPPED

    def _policy_nodemask(self) -> int | None:
        """The nodes of a memory policy, not of __GFP_THISNODE."""
        return None if self.gfp & GFP_THISNODE_BIT else self.nodemask

    def zonelist(self) -> list[Zone]:
        """The zones that may serve it, best first."""
        zones = self.kernel.node_data[self.nid].node_zonelists
        return [z for z in zones if z.zone_idx <= self.highest and self.mask >> z.zone_pgdat.node_id & 1]

    def attempt(self, flags: int) -> int:
        """Linux: get_page_from_freelist()."""
        buddy = self.page_alloc.buddy
        return int(buddy.alloc_pages(self.order, self.migratetype, self.nid, self.highest, flags, self.mask))

    def alloc(self) -> int:
        """The first frame of a block, or -1. Linux: __alloc_pages_slowpath()."""
        flags = gfp_to_alloc_flags(self.gfp, self.order)
        pfn = self._shrink_near_nodes() if self.page_alloc.buddy.reclaim_zone >= 0 else -1
        if pfn >= 0:
            return pfn
        self._wake_kswapds(flags)
        pfn = self.attempt(flags)
        again = True
        if pfn < 0:
            pfn, again = self._compact_first(flags)
        while pfn < 0:
            if again:
                pfn, again = self._try_harder(flags)
            if pfn < 0 and not again:
                if not self.gfp & GFP_NOFAIL_BIT or not self.gfp & GFP_DIRECT_RECLAIM_BIT:
                    self.page_alloc.warn_alloc(self.gfp, self.order, self._policy_nodemask())
                    return -1
                pfn = self.attempt(ALLOC_MIN_RESERVE)
        return pfn

    def _shrink_near_nodes(self) -> int:
        """The fast path has stopped at nodes that are to be shrunk first. Linux: get_page_from_freelist()."""
        buddy, pfn = self.page_alloc.buddy, -1
        try:
            while pfn < 0 and buddy.reclaim_zone >= 0:
                pgdat = self.kernel.zones[buddy.reclaim_zone].zone_pgdat
                buddy.reclaimed |= 1 << pgdat.node_id
                if not self._reclaims():
                    node_reclaim(self.kernel, pgdat, self.gfp, self.order)
                pfn = self.attempt(ALLOC_WMARK_LOW | (ALLOC_KSWAPD if self.gfp & GFP_KSWAPD_RECLAIM_BIT else 0))
        finally:
            buddy.reclaimed = 0
        return pfn

    def _wake_kswapds(self, flags: int) -> None:
        if flags & ALLOC_KSWAPD:
            wake_all_kswapds(self.kernel, self.order, self.gfp, self.zonelist(), self.highest)

    def _pfmemalloc_flags(self) -> int:
        """The reserves it may use: all while it reclaims, some while it dies. Linux: __gfp_pfmemalloc_flags()."""
        if self.gfp & GFP_NOMEMALLOC_BIT:
            return 0
        if self.gfp & GFP_MEMALLOC_BIT or self._reclaims():
            return ALLOC_NO_WATERMARKS
        return ALLOC_OOM if self.page_alloc.current_is_victim() else 0

    def _reclaims(self) -> bool:
        return self.task is not None and bool(self.task.flags & PF_MEMALLOC)

    def _try_harder(self, flags: int) -> tuple[int, bool]:
        """One round of reserves, reclaim and the OOM killer: a block or -1, and whether another round makes sense."""
        self._wake_kswapds(flags)
        reserves = self._pfmemalloc_flags()
        if reserves:
            flags = reserves | (flags & ALLOC_KSWAPD)
        pfn = self.attempt(flags)
        if pfn >= 0 or not self.gfp & GFP_DIRECT_RECLAIM_BIT or self._reclaims():
            return pfn, False
        progress = self._direct_reclaim()
        pfn = self._attempt_after_reclaim(flags)
        if pfn < 0:
            pfn = self._direct_compact(flags, self.compact_priority)
        if pfn >= 0:
            return pfn, False
        if self.gfp & GFP_NORETRY_BIT:
            return -1, False
        if self.costly and not (self._can_compact() and self.gfp & GFP_RETRY_MAYFAIL_BIT):
            return -1, False
        if self._should_reclaim_retry(flags, progress > 0):
            return -1, True
        if progress and self._can_compact() and self._should_compact_retry():
            return -1, True
        return self._may_oom(flags)

    # -- compaction -----------------------------------------------------------------------------------------------

    def _can_compact(self) -> bool:
        """Linux: mm/internal.h, gfp_compaction_allowed()."""
        return bool(self.gfp & GFP_IO_BIT)

    def _compact_first(self, flags: int) -> tuple[int, bool]:
        """Large blocks, and those that must not be taken from movable memory, by moving pages before any is reclaimed.

        A block or -1, and whether it is worth going on. Linux: __alloc_pages_slowpath(), before its loop.
        """
        may = self.gfp & GFP_DIRECT_RECLAIM_BIT and self._can_compact() and not self._pfmemalloc_flags()
        if not may or not (self.costly or (self.order and self.migratetype != MIGRATE_MOVABLE)):
            return -1, True
        pfn = self._direct_compact(flags, CompactPriority.ASYNC)
        if pfn < 0 and self.costly and self.gfp & GFP_NORETRY_BIT:
            if self.compact_result in (CompactResult.SKIPPED, CompactResult.DEFERRED):
                return -1, False
            self.compact_priority = CompactPriority.ASYNC
        return pfn, True

    def _direct_compact(self, flags: int, priority: CompactPriority) -> int:
        """Linux: __alloc_pages_direct_compact()."""
        task, compactor, vmstat = self.task, self.kernel.compactor, self.kernel.vmstat
        if not self.order:
            return -1
        if task is not None:
            task.flags |= PF_MEMALLOC
        try:
            self.compact_result = compactor.try_to_compact_pages(
                self.zonelist(), self.order, self.gfp, flags, self.highest, priority
            )
        finally:
            if task is not None:
                task.flags &= ~PF_MEMALLOC
        if self.compact_result is CompactResult.SKIPPED:
            return -1
        vmstat.count_vm_events(VmEventItem.COMPACT_STALL)
        pfn = self.attempt(flags)
        if pfn >= 0:
            compactor.block_found(pfn, self.order)
        vmstat.count_vm_events(VmEventItem.COMPACT_FAIL if pfn < 0 else VmEventItem.COMPACT_SUCCESS)
        return pfn

    def _should_compact_retry(self) -> bool:
        """Whether compaction could still help. Linux: should_compact_retry()."""
        if not self.order or (self.task is not None and fatal_signal_pending(self.task)):
            return False
        if self.compact_result is CompactResult.SKIPPED:
            return self.kernel.compactor.zonelist_suitable(self.zonelist(), self.order, self.highest)
        if self.compact_result is CompactResult.SUCCESS:
            self.compaction_retries += 1
            if self.compaction_retries <= MAX_COMPACT_RETRIES // (4 if self.costly else 1):
                return True
        least = CompactPriority.SYNC_LIGHT if self.costly else CompactPriority.SYNC_FULL
        if self.compact_priority > least:
            self.compact_priority = CompactPriority(self.compact_priority - 1)
            self.compaction_retries = 0
            return True
        return False

    # -- reclaim --------------------------------------------------------------------------------------------------

    def _direct_reclaim(self) -> int:
        """Linux: __perform_reclaim()."""
        task = self.task
        if task is not None:
            task.flags |= PF_MEMALLOC
        try:
            return self.kernel.reclaim.try_to_free_pages(task, self.order, self.gfp, self.zonelist(), self.highest)
        finally:
            if task is not None:
                task.flags &= ~PF_MEMALLOC

    def _attempt_after_reclaim(self, flags: int) -> int:
        """What was freed may stand on per-CPU lists or in reserves. Linux: __alloc_pages_direct_reclaim().

        Simplified: those lists are emptied even if nothing was freed, which Linux leaves to time.
        """
        pfn = self.attempt(flags)
        if pfn < 0:
            self.page_alloc.unreserve_highatomic(self.gfp, False)
            self.page_alloc.drain_all_pages()
            pfn = self.attempt(flags)
        return pfn

    def _should_reclaim_retry(self, flags: int, progress: bool) -> bool:
        """Whether what could still be reclaimed would be enough. Linux: should_reclaim_retry()."""
        if progress and self.order <= PAGE_ALLOC_COSTLY_ORDER:
            self.no_progress_loops = 0
        else:
            self.no_progress_loops += 1
        if self.no_progress_loops <= MAX_RECLAIM_RETRIES:
            vmstat, reclaim = self.kernel.vmstat, self.kernel.reclaim
            for zone in self.zonelist():
                free = vmstat.zone_page_state(zone.index, ZoneStatItem.NR_FREE_PAGES)
                available = free + reclaim.zone_reclaimable_pages(zone)
                if zone.watermark_ok(self.order, zone.min_wmark_pages(), self.highest, flags, available):
                    return True
        return self.page_alloc.unreserve_highatomic(self.gfp, True)

    def _may_oom(self, flags: int) -> tuple[int, bool]:
        """Kill somebody, unless memory has become free just now. Linux: __alloc_pages_may_oom()."""
        pfn = self.attempt(ALLOC_WMARK_HIGH)
        if pfn >= 0:
            return pfn, False
        if not self.page_alloc.may_oom(self.gfp, self.order):
            return -1, False
        killed = self.page_alloc.out_of_memory(self.gfp, self.order, self._policy_nodemask())
        if killed or self.gfp & GFP_NOFAIL_BIT:
            self.no_progress_loops = 0
        if self.gfp & GFP_NOFAIL_BIT:
            pfn = self.attempt(ALLOC_NO_WATERMARKS)
        victim = self.page_alloc.current_is_victim() and (flags & ALLOC_OOM or self.gfp & GFP_NOMEMALLOC_BIT)
        return pfn, killed and not victim


def alloc_pages_slowpath(kernel: Kernel, gfp: int, order: int, nid: int, nodemask: int | None) -> int:
    """A block of 2**order pages for a request that the fast path could not serve, or -1."""
    return SlowPath(kernel, gfp, order, nid, nodemask).alloc()
