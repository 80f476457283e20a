"""Shrinking one node: the cgroups whose turn it is, one after the other, in steps between which others run.

Linux: mm/vmscan.c, shrink_node().
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from mmfs.mm.compaction import compact_gap
from mmfs.mm.lru_gen_memcg import MemcgLruOp
from mmfs.mm_types import PAGE_ALLOC_COSTLY_ORDER, MemcgMemoryEvent, NodeStatItem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmfs.fastpath.scan_control import ScanControl
    from mmfs.mm.lru_gen_reclaim import LruvecEviction
    from mmfs.mm.mem_cgroup import MemCgroup
    from mmfs.mm.mmzone import PglistData
    from mmfs.mm.vmscan import Reclaim

DEF_PRIORITY: Final = 12


class Throttle(IntEnum):
    """Why a reclaimer waits. Linux: enum vmscan_throttle_state."""

    WRITEBACK = 0
    ISOLATED = 1
    NOPROGRESS = 2
    CONGESTED = 3


class MemCgroupWalk:
    """The cgroups whose turn it is on a node, those passed over that are protected. Linux: shrink_node_memcgs().

    kswapd goes through all of them. Others go on where the last one has stopped, and only as far as they need to.
    """

    def __init__(self, reclaim: Reclaim, pgdat: PglistData, sc: ScanControl) -> None:
        memcgs = reclaim.kernel.memcgs
        self.sc = sc
        self.nid = pgdat.node_id
        self.target = reclaim.target(sc)
        self.root = self.target or memcgs.root
        self.partial = not (sc.kswapd or sc.full_walk)
        self.order: Iterator[MemCgroup] = self.root.descendants()
        if self.partial and (position := self.root.positions.get(self.nid)) is not None:
            for memcg in self.order:
                if memcg is position:
                    break
        self.started = False

    def next(self) -> MemCgroup | None:
        """The next that may be shrunk, None at the end."""
        if self.partial and self.started and self.sc.nr_reclaimed >= self.sc.nr_to_reclaim:
            return None
        while True:
            memcg = self._iter()
            if memcg is None or self._eligible(memcg):
                return memcg

    def _iter(self) -> MemCgroup | None:
        """Linux: mm/memcontrol.c, mem_cgroup_iter()."""
        memcg = next(self.order, None)
        if self.partial:
            if memcg is None and not self.started:
                self.order = self.root.descendants()
                memcg = next(self.order)
            self.root.positions[self.nid] = memcg
        self.started = True
        return memcg

    def _eligible(self, memcg: MemCgroup) -> bool:
        """Whether its protection lets it be shrunk."""
        memcg.calculate_protection(self.target)
        if memcg.below_min(self.target):
            return False
        if memcg.below_low(self.target):
            if not self.sc.memcg_low_reclaim:
                self.sc.memcg_low_skipped = True
                return False
            memcg.event(MemcgMemoryEvent.MEMCG_LOW)
        return True


class NodeReclaim:
    """Shrinking one node, step by step. Linux: shrink_node()."""

    def __init__(self, reclaim: Reclaim, pgdat: PglistData, sc: ScanControl) -> None:
        self.reclaim = reclaim
        self.pgdat = pgdat
        self.sc = sc
        self.throttle: Throttle | None = None
        """Set at the end: why the reclaimer should wait now."""
        self._begin()

    def _begin(self) -> None:
        reclaim, sc = self.reclaim, self.sc
        sc.clear_counts()
        self.nr_reclaimed = sc.nr_reclaimed
        sc.node_dirty, sc.node_writeback = self.pgdat.dirty, self.pgdat.writeback
        if not reclaim.lru.enabled:
            reclaim.scan_count.prepare_scan_control(reclaim.target_lruvec(self.pgdat, sc), sc)
        self.walk = MemCgroupWalk(reclaim, self.pgdat, sc)
        self.memcg: MemCgroup | None = None
        self.eviction: LruvecEviction | None = None

    def _shrink_node_memcgs(self) -> bool:
        """Shrink one cgroup after the other; False: the slice is over. Linux: shrink_node_memcgs()."""
        reclaim, sc = self.reclaim, self.sc
        if self.memcg is None:
            self.memcg = self.walk.next()
            if self.memcg is None:
                return True
            if reclaim.lru.enabled:
                self.eviction = reclaim.generations.begin_lruvec(self.memcg, self.pgdat, sc)
            else:
                reclaim.get_scan_count(self.pgdat, sc, self.memcg)
        if not self._shrink_lruvec(self.memcg):
            return False
        sc.nr_reclaimed += reclaim.shrink_slab(self.pgdat, self.memcg, sc)
        self.memcg = None
        return False

    def _shrink_lruvec(self, memcg: MemCgroup) -> bool:
        """Linux: shrink_lruvec()."""
        reclaim, eviction = self.reclaim, self.eviction
        if eviction is None:
            number = memcg.row * reclaim.lru.nr_nodes + self.pgdat.node_id
            age_anon = reclaim.can_age_anon_pages(self.pgdat, self.sc)
            return bool(reclaim.loops.shrink_lruvec(number, self.sc, age_anon))
        if not eviction.step():
            return False
        if eviction.aged:
            reclaim.kernel.lru_gen.memcg_lru[self.pgdat.node_id].rotate(eviction.lruvec, MemcgLruOp.YOUNG)
        return True

    def step(self) -> bool:
        """Work for a slice of time; whether the node is done."""
        sc, pgdat = self.sc, self.pgdat
        if not self._shrink_node_memcgs():
            return False
        if sc.kswapd:
            self._note_writeback()
        congested = sc.nr_dirty and sc.nr_dirty == sc.nr_congested
        if congested and sc.kswapd:
            pgdat.congested = True
        if not sc.kswapd and pgdat.congested:
            self.throttle = Throttle.CONGESTED
        progress = sc.nr_reclaimed - self.nr_reclaimed
        if self._should_continue(progress):
            self._begin()
            return False
        if progress:
            pgdat.kswapd_failures = 0
        elif sc.cache_trim_mode:
            sc.cache_trim_mode_failed = True
        return True

    def _note_writeback(self) -> None:
        """What kswapd learns about dirty pages and those being written."""
        sc, pgdat = self.sc, self.pgdat
        if sc.nr_writeback and sc.nr_writeback == sc.nr_taken:
            pgdat.writeback = True
        if sc.nr_unqueued_dirty == sc.nr_file_taken:
            pgdat.dirty = True
        if sc.nr_immediate:
            self.throttle = Throttle.WRITEBACK

    def _should_continue(self, nr_reclaimed: int) -> bool:
        """Whether to go on for a block that compaction could make then. Linux: should_continue_reclaim()."""
        sc, pgdat = self.sc, self.pgdat
        if not sc.order or not (sc.order > PAGE_ALLOC_COSTLY_ORDER or sc.priority < DEF_PRIORITY - 2):
            return False
        if not nr_reclaimed:
            return False
        for zone in pgdat.node_zones[: sc.reclaim_idx + 1]:
            if not zone.managed():
                continue
            if zone.watermark_ok(sc.order, zone.min_wmark_pages(), sc.reclaim_idx):
                return False
            if self.reclaim.kernel.compactor.suitable(zone, sc.order, sc.reclaim_idx):
                return False
        state = self.reclaim.vmstat.node_stat[pgdat.node_id]
        inactive = int(state[NodeStatItem.NR_INACTIVE_FILE])
        if self.reclaim.can_reclaim_anon_pages(pgdat.node_id, sc):
            inactive += int(state[NodeStatItem.NR_INACTIVE_ANON])
        return inactive > compact_gap(sc.order)
