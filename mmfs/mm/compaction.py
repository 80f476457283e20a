"""Compaction: moving pages together so that larger blocks become free.

Memory is there but in pieces: then a request for a large block is served by moving pages from the low end of a zone to
its high end (fastpath/compaction.py). The task that asks does so itself, first without waiting for anything, later
thoroughly (`try_to_compact_pages`); what has not helped a zone is put off there, twice as long each time. kcompactd of
each node does the same in the background: after kswapd has made room for a large block, for requests that must not
wait, and proactively twice a second when free memory is too much in pieces (vm.compaction_proactiveness).

Linux: mm/compaction.c.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from mmfs.fastpath.compact_control import CompactControl, CompactResult
from mmfs.mm.filemap import task_ns
from mmfs.mm_types import (
    ALLOC_CMA,
    ALLOC_WMARK_LOW,
    ALLOC_WMARK_MASK,
    ALLOC_WMARK_MIN,
    COMPACT_MAX_DEFER_SHIFT,
    GFP_IO_BIT,
    GFP_KERNEL,
    HPAGE_PMD_ORDER,
    MAX_NR_ZONES,
    MIGRATE_ASYNC,
    MIGRATE_SYNC,
    MIGRATE_SYNC_LIGHT,
    PAGE_ALLOC_COSTLY_ORDER,
    VmEventItem,
)

if TYPE_CHECKING:
    from mmfs.kernel.clock import Periodic
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.mmzone import PglistData, Zone

ALL: Final = -1
"""The order of a run for nobody in particular. Linux: is_via_compact_memory()."""
SLICE_NS: Final = 1_000_000
HPAGE_FRAG_CHECK_INTERVAL_NS: Final = 500_000_000


class CompactPriority(IntEnum):
    """How hard direct compaction tries, the hardest first. Linux: enum compact_priority."""

    SYNC_FULL = 0
    SYNC_LIGHT = 1
    ASYNC = 2


def compact_gap(order: int) -> int:
    """Free pages beside a watermark that compaction wants. Linux: include/linux/compaction.h."""
    return 2 << order


class Compactor:
    """The compaction of a machine's zones, on behalf of whoever runs. Linux: mm/compaction.c."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.loops = kernel.mmu.compaction
        self.zones = self.loops.zones
        self.cc = CompactControl(kernel.frames)

    # -- whether --------------------------------------------------------------------------------------------------

    def has_room(self, zone: Zone, order: int, highest: int, free: int) -> bool:
        """Whether there would be pages enough to move others to. Linux: __compaction_suitable()."""
        mark = zone.low_wmark_pages() if order > PAGE_ALLOC_COSTLY_ORDER else zone.min_wmark_pages()
        return zone.watermark_ok(0, mark + compact_gap(order), highest, ALLOC_CMA, free)

    def suitable(self, zone: Zone, order: int, highest: int) -> bool:
        """Whether compaction of a zone could make a block. Linux: compaction_suitable()."""
        if not self.has_room(zone, order, highest, zone.nr_free_pages):
            return False
        if order <= PAGE_ALLOC_COSTLY_ORDER:
            return True
        index = self.loops.fragmentation_index(zone.index, order)
        return not 0 <= index <= self.kernel.vm.extfrag_threshold

    def suit_allocation_order(self, zone: Zone, order: int, highest: int, alloc_flags: int) -> CompactResult:
        """Whether a block is there already, or would come of it. Linux: compaction_suit_allocation_order()."""
        low = alloc_flags & ALLOC_WMARK_MASK == ALLOC_WMARK_LOW
        mark = zone.low_wmark_pages() if low else zone.min_wmark_pages()
        if zone.watermark_ok(order, mark, highest, alloc_flags):
            return CompactResult.SUCCESS
        return CompactResult.CONTINUE if self.suitable(zone, order, highest) else CompactResult.SKIPPED

    def zonelist_suitable(self, zonelist: list[Zone], order: int, highest: int) -> bool:
        """Whether some zone would have room if reclaim went on. Linux: compaction_zonelist_suitable()."""
        reclaimable = self.kernel.reclaim.zone_reclaimable_pages
        return any(
            self.has_room(zone, order, highest, zone.nr_free_pages + reclaimable(zone) // order) for zone in zonelist
        )

    # -- a zone ---------------------------------------------------------------------------------------------------

    def prepare(self, cc: CompactControl, zone: Zone, order: int, mode: int, gfp: int = GFP_KERNEL) -> CompactControl:
        """Get ready to compact a zone."""
        loops, vm = self.loops, self.kernel.vm
        cc.prepare(zone.index, order, gfp, mode, ALLOC_WMARK_MIN, MAX_NR_ZONES - 1)
        cc.migratetype = self.kernel.page_alloc.gfp_migratetype(gfp)
        loops.source.unevictable_allowed = bool(vm.compact_unevictable_allowed)
        loops.proactiveness = vm.compaction_proactiveness
        loops.migration.now_ns = task_ns(self.kernel)
        return cc

    def finish(self, cc: CompactControl) -> CompactResult:
        """Compact a zone to the end, in one go."""
        loops = self.loops
        loops.budget_ns = 1 << 62
        return CompactResult(loops.compact_zone(cc))

    def charge(self, task: Task | None) -> None:
        """What the loops have used is the task's, who waits for memory meanwhile. Linux: psi_memstall_enter()."""
        used_ns, self.loops.cpu_ns = int(self.loops.cpu_ns), 0
        if task is not None and used_ns:
            self.kernel.scheduler.charge(task, system_ns=used_ns, memstall=True)

    # -- for a request --------------------------------------------------------------------------------------------

    def _compact_zone_order(
        self, zone: Zone, order: int, gfp: int, priority: CompactPriority, alloc_flags: int, highest: int
    ) -> CompactResult:
        """Linux: compact_zone_order()."""
        result = self.suit_allocation_order(zone, order, highest, alloc_flags)
        if result is not CompactResult.CONTINUE:
            return result
        asynchronous = priority is CompactPriority.ASYNC
        cc = self.prepare(self.cc, zone, order, MIGRATE_ASYNC if asynchronous else MIGRATE_SYNC_LIGHT, gfp)
        cc.direct = True
        cc.whole_zone = cc.ignore_skip_hint = cc.ignore_block_suitable = priority is CompactPriority.SYNC_FULL
        return self.finish(cc)

    def try_to_compact_pages(
        self, zonelist: list[Zone], order: int, gfp: int, alloc_flags: int, highest: int, priority: CompactPriority
    ) -> CompactResult:
        """Compact zones for a request, one after the other until one has a block. Linux: try_to_compact_pages()."""
        best = CompactResult.SKIPPED
        for zone in zonelist if gfp & GFP_IO_BIT else ():
            if priority > CompactPriority.SYNC_FULL and self.zones.deferred(zone.index, order):
                best = max(best, CompactResult.DEFERRED)
                continue
            result = self._compact_zone_order(zone, order, gfp, priority, alloc_flags, highest)
            best = max(best, result)
            if result is CompactResult.SUCCESS:
                self.zones.defer_reset(zone.index, order, False)
                break
            through = result in (CompactResult.COMPLETE, CompactResult.PARTIAL_SKIPPED)
            if priority is not CompactPriority.ASYNC and through:
                self.zones.defer(zone.index, order)
        self.charge(self.kernel.tasks.current)
        return best

    def block_found(self, pfn: int, order: int) -> None:
        """The request was served after all. Linux: __alloc_pages_direct_compact(), its success."""
        zone = int(self.kernel.frames.blocks[pfn >> HPAGE_PMD_ORDER]["zone"])
        self.zones.zones[zone]["blockskip_flush"] = 0
        self.zones.defer_reset(zone, order, True)

    # -- for whoever asks -----------------------------------------------------------------------------------------

    def compact_node(self, pgdat: PglistData) -> None:
        """Compact all zones of a node. Linux: compact_node()."""
        for zone in pgdat.node_zones:
            if zone.populated():
                cc = self.prepare(self.cc, zone, ALL, MIGRATE_SYNC)
                cc.ignore_skip_hint = cc.whole_zone = True
                self.finish(cc)
        self.charge(self.kernel.tasks.current)

    def release_free_pages(self) -> None:
        """What kcompactds have taken and not yet used is free again, as memory is about to go."""
        for kcompactd in self.kernel.kcompactds:
            self.loops.free.release_free_list(kcompactd.cc)

    def reset_isolation_suitable(self, pgdat: PglistData) -> None:
        """kswapd goes to sleep: pageblocks are worth another look. Linux: reset_isolation_suitable()."""
        for zone in pgdat.node_zones:
            if zone.populated():
                self.zones.reset_isolation_suitable(zone.index)

    def fragmentation_score_node(self, pgdat: PglistData) -> int:
        """How much of a node's free memory is of no use for huge pages, zones by their size, in percent.

        Linux: fragmentation_score_node().
        """
        return sum(
            zone.present_pages * self.loops.extfrag_for_order(zone.index, HPAGE_PMD_ORDER)
            // (pgdat.node_present_pages + 1)
            for zone in pgdat.node_zones
            if zone.populated()
        )


class Kcompactd:
    """The kcompactd of a node: sleeps, compacts for `max_order` up to zone `highest`, or proactively.

    Linux: kcompactd(), kcompactd_do_work().
    """

    def __init__(self, kernel: Kernel, pgdat: PglistData) -> None:
        self.kernel = kernel
        self.pgdat = pgdat
        self.cc = CompactControl(kernel.frames)
        self.max_order = 0
        self.highest = MAX_NR_ZONES - 1
        self.work: list[Zone] | None = None
        """Zones that are still to be compacted; None while it sleeps."""
        self.proactive = False
        self._order = self._highest = self._score_before = 0
        self.checks: Periodic | None = None
        """When it looks at the score: rarely if that did not help, never if vm.compaction_proactiveness is 0."""
        self._task: Task | None = None

    @property
    def task(self) -> Task | None:
        """Its thread, once there is one."""
        if self._task is None:
            comm = f"kcompactd{self.pgdat.node_id}"
            self._task = next((t for t in self.kernel.tasks.values() if t.is_kthread and t.comm == comm), None)
        return self._task

    def forget_task(self) -> None:
        """The thread has ended, or another one takes its place."""
        self._task = None

    def wakeup(self, order: int, highest: int) -> None:
        """A block of this order would be welcome. Linux: wakeup_kcompactd()."""
        if not order:
            return
        self.max_order = max(self.max_order, order)
        self.highest = min(self.highest, highest)
        suits, zones = self.kernel.compactor.suit_allocation_order, self.pgdat.node_zones[: self.highest + 1]
        if self.work is None and any(
            suits(zone, self.max_order, self.highest, ALLOC_WMARK_MIN) is CompactResult.CONTINUE
            for zone in zones if zone.populated()
        ):  # fmt: skip
            self._check_every(HPAGE_FRAG_CHECK_INTERVAL_NS)
            self._begin(proactive=False)
            self.kernel.clock.add_timer(self.kernel.clock.now_ns, self._run)

    def check(self) -> None:
        """Half a second has passed: is free memory too much in pieces? Linux: should_proactive_compact_node()."""
        compactor, loops = self.kernel.compactor, self.kernel.compactor.loops
        loops.proactiveness = self.kernel.vm.compaction_proactiveness
        self._check_every(HPAGE_FRAG_CHECK_INTERVAL_NS)
        balancing = self.kernel.page_alloc.buddy.kswapds_awake >> self.pgdat.node_id & 1
        if self.work is not None or not loops.proactiveness or balancing:
            return
        self._score_before = compactor.fragmentation_score_node(self.pgdat)
        if self._score_before > loops.score_wmark(False):
            self._begin(proactive=True)
            self._run()

    def _check_every(self, period_ns: int) -> None:
        """Look at the score next time in so many ns."""
        period_ns = period_ns if self.kernel.vm.compaction_proactiveness else 0
        if self.checks is not None and self.checks.period_ns != period_ns:
            self.checks.period_ns = period_ns
            self.kernel.clock.restart(self.checks)

    def _begin(self, proactive: bool) -> None:
        self.proactive = proactive
        if proactive:
            self._order, self._highest = ALL, MAX_NR_ZONES - 1
        else:
            self.kernel.vmstat.count_vm_events(VmEventItem.COMPACT_DAEMON_WAKE)
            self._order, self._highest = self.max_order, self.highest
        self.work = [zone for zone in self.pgdat.node_zones[: self._highest + 1] if zone.populated()]

    def _prepared(self, zone: Zone) -> bool:
        """Whether the next zone is to be compacted; gets ready for it."""
        compactor, cc = self.kernel.compactor, self.cc
        if self.proactive:
            compactor.prepare(cc, zone, ALL, MIGRATE_SYNC_LIGHT)
            cc.proactive = cc.ignore_skip_hint = cc.whole_zone = True
            return True
        if compactor.zones.deferred(zone.index, self._order):
            return False
        suits = compactor.suit_allocation_order(zone, self._order, zone.zone_idx, ALLOC_WMARK_MIN)
        compactor.prepare(cc, zone, self._order, MIGRATE_SYNC_LIGHT)
        return suits is CompactResult.CONTINUE

    def _run(self) -> None:
        """A slice of work, on its own CPU."""
        kernel, task, loops = self.kernel, self.task, self.kernel.compactor.loops
        current, cpu = kernel.tasks.current, kernel.page_alloc.buddy.cpu
        if task is not None:
            kernel.tasks.current, kernel.page_alloc.buddy.cpu = task, task.processor
        loops.migration.now_ns = kernel.clock.now_ns
        while self.work and loops.cpu_ns < SLICE_NS:
            zone = self.work[0]
            if not self.cc.begun and not self._prepared(zone):
                self.work.pop(0)
                continue
            loops.budget_ns = SLICE_NS - loops.cpu_ns
            result = CompactResult(loops.compact_zone(self.cc))
            if result is not CompactResult.CONTINUE:
                self.work.pop(0)
                self._zone_done(zone, result)
        kernel.compactor.charge(task)
        kernel.tasks.current, kernel.page_alloc.buddy.cpu = current, cpu
        if not self.work:
            self._done()
        elif task is not None:
            kernel.scheduler.call_when_ready(task, self._run)
        else:
            kernel.clock.add_timer(kernel.clock.now_ns + SLICE_NS, self._run)

    def _zone_done(self, zone: Zone, result: CompactResult) -> None:
        zones, vmstat = self.kernel.compactor.zones, self.kernel.vmstat
        vmstat.count_vm_events(VmEventItem.COMPACT_DAEMON_MIGRATE_SCANNED, self.cc.total_migrate_scanned)
        vmstat.count_vm_events(VmEventItem.COMPACT_DAEMON_FREE_SCANNED, self.cc.total_free_scanned)
        if self.proactive:
            return
        if result is CompactResult.SUCCESS:
            zones.defer_reset(zone.index, self._order, False)
        elif result in (CompactResult.COMPLETE, CompactResult.PARTIAL_SKIPPED):
            for cpu in range(self.kernel.machine.nr_cpus):
                self.kernel.page_alloc.buddy.drain_pages(cpu, zone.index)
            zones.defer(zone.index, self._order)

    def _done(self) -> None:
        """All zones are through: sleep, or begin again if more was asked for meanwhile."""
        self.work = None
        if self.proactive:
            if self.kernel.compactor.fragmentation_score_node(self.pgdat) >= self._score_before:
                self._check_every(HPAGE_FRAG_CHECK_INTERVAL_NS << COMPACT_MAX_DEFER_SHIFT)
            return
        if self.max_order <= self._order:
            self.max_order = 0
        if self.highest >= self._highest:
            self.highest = MAX_NR_ZONES - 1
        if self.max_order:
            self._begin(proactive=False)
            self.kernel.clock.add_timer(self.kernel.clock.now_ns, self._run)


def compact_node(kernel: Kernel, nid: int) -> None:
    """Compact one node. Linux: mm/compaction.c, compact_store()."""
    kernel.lru.lru_add_drain_all()
    kernel.compactor.compact_node(kernel.node_data[nid])


def compact_nodes(kernel: Kernel) -> None:
    """Compact every node. Linux: mm/compaction.c, compact_nodes()."""
    kernel.lru.lru_add_drain_all()
    for pgdat in kernel.node_data:
        kernel.compactor.compact_node(pgdat)


def proactiveness_changed(kernel: Kernel, _: int) -> None:
    """Every kcompactd looks at once. Linux: compaction_proactiveness_sysctl_handler()."""
    for kcompactd in kernel.kcompactds:
        kcompactd.check()
