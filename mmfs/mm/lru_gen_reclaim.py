"""Reclaim of a node by generations: age if that is due, evict from the oldest, stop when there is enough.

A node's memory cgroups have their turns (mm/lru_gen_memcg.py). What is protected is passed over.

Linux: mm/vmscan.c, lru_gen_shrink_node(), shrink_many(), shrink_one(), try_to_shrink_lruvec(), get_nr_to_scan().
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Final

from mmfs.fastpath.lru_gen_evict import LruGenEvict
from mmfs.fastpath.scan_control import ScanControl
from mmfs.mm.lru_gen import ANON, ANON_ONLY, FILE, MAX_SWAPPINESS, SWAPPINESS_ANON_ONLY, LruGenLruvec
from mmfs.mm.lru_gen_memcg import MEMCG_NR_BINS, MemcgLruOp
from mmfs.mm.vmscan_node import DEF_PRIORITY
from mmfs.mm_types import (
    GFP_KERNEL,
    LRU_GEN_AGE,
    LRU_GEN_SLICE,
    MAX_NR_GENS,
    MAX_NR_ZONES,
    MIN_LRU_BATCH,
    MIN_NR_GENS,
    MemcgMemoryEvent,
    NodeStatItem,
)

if TYPE_CHECKING:
    from mmfs.mm.mem_cgroup import MemCgroup
    from mmfs.mm.mmzone import PglistData
    from mmfs.mm.vmscan import Reclaim
    from mmfs.mm.vmscan_node import Throttle

AGING_ENTRY_NS: Final = 4
"""What a page-table entry costs the aging."""


class LruGenReclaim:
    """What reclaim by generations asks of the machine."""

    def __init__(self, reclaim: Reclaim) -> None:
        self.reclaim = reclaim
        self.kernel = reclaim.kernel
        self.state = reclaim.kernel.lru_gen
        self.evict = LruGenEvict(reclaim.loops, self.state.lists)

    def get_swappiness(self, sc: ScanControl, memcg: MemCgroup, nid: int) -> int:
        """How readily a cgroup's anonymous memory is evicted; 0 if it cannot be. Linux: get_swappiness()."""
        free = self.reclaim.lru.memcg.nr_swap_pages(memcg.row, self.kernel.nr_swap_pages)
        if not sc.may_swap or (free < MIN_LRU_BATCH and not self.reclaim.can_demote(nid, sc)):
            return 0
        return self.reclaim.swappiness(sc, memcg)

    def is_sizable(self, lruvec: LruGenLruvec, sc: ScanControl) -> bool:
        """Whether a lruvec is large enough to be of use. Linux: lruvec_is_sizable()."""
        memcg = self.kernel.memcgs.rows[lruvec.memcg]
        total = lruvec.total_size(bool(self.get_swappiness(sc, memcg, lruvec.nid)))
        return bool(total >> sc.priority if memcg.online else total)

    def set_initial_priority(self, pgdat: PglistData, sc: ScanControl) -> None:
        """Begin where so much may be got at once. Linux: set_initial_priority()."""
        if sc.priority != DEF_PRIORITY or sc.nr_to_reclaim < MIN_LRU_BATCH:
            return
        state = self.kernel.vmstat.node_stat[pgdat.node_id]
        reclaimable = int(state[NodeStatItem.NR_INACTIVE_FILE])
        if self.reclaim.can_reclaim_anon_pages(pgdat.node_id, sc):
            reclaimable += int(state[NodeStatItem.NR_INACTIVE_ANON])
        priority = reclaimable.bit_length() - 1 - int(sc.nr_to_reclaim - 1).bit_length()
        sc.priority = max(DEF_PRIORITY // 2, min(priority, DEF_PRIORITY))

    def age_node(self, pgdat: PglistData, sc: ScanControl) -> None:
        """Before kswapd shrinks a node: kill if all is younger than min_ttl_ms. Linux: lru_gen_age_node()."""
        self.set_initial_priority(pgdat, sc)
        min_ttl, memcgs = self.state.min_ttl_jiffies, self.kernel.memcgs
        for memcg in memcgs.root.descendants():
            memcg.calculate_protection(None)
        if not min_ttl:
            return
        if not any(self._is_reclaimable(memcg, pgdat, sc, min_ttl) for memcg in memcgs.root.descendants()):
            self.kernel.page_alloc.out_of_memory(sc.gfp, 0)

    def _is_reclaimable(self, memcg: MemCgroup, pgdat: PglistData, sc: ScanControl, min_ttl: int) -> bool:
        """Whether a cgroup has something that is older than min_ttl jiffies. Linux: lruvec_is_reclaimable()."""
        lruvec = self.lruvec(memcg, pgdat)
        born = lruvec.birth[lruvec.min_seq(FILE) % len(lruvec.birth)]
        return (
            not memcg.below_min(None) and self.is_sizable(lruvec, sc) and self.kernel.clock.jiffies > born + min_ttl
        )

    def lruvec(self, memcg: MemCgroup, pgdat: PglistData) -> LruGenLruvec:
        """A cgroup's generations on a node. Linux: mem_cgroup_lruvec()."""
        return self.state.lruvecs[memcg.row * self.reclaim.lru.nr_nodes + pgdat.node_id]

    def begin_lruvec(self, memcg: MemCgroup, pgdat: PglistData, sc: ScanControl) -> LruvecEviction:
        """Begin to shrink a cgroup's lruvec for its or a parent's limit. Linux: lru_gen_shrink_lruvec()."""
        self.reclaim.lru.lru_add_drain()
        self.state.walk.batching = bool(sc.proactive)
        return LruvecEviction(self, memcg, pgdat, sc)

    def run_cmd(self, age: bool, number: int, nid: int, seq: int, swappiness: int, option: int) -> None:
        """Age or evict what the memory cgroup with this id has on a node; option: force_scan, or pages to reclaim.

        Raises OSError(EINVAL) for what cannot be, ERANGE where a generation more would be one too many.
        Linux: run_cmd().
        """
        nodes, memcg = self.kernel.node_data, self.kernel.memcgs.from_id(number)
        most = SWAPPINESS_ANON_ONLY if ANON_ONLY(self.kernel) else MAX_SWAPPINESS
        if memcg is None or nid >= len(nodes) or not nodes[nid].node_present_pages or swappiness > most:
            raise OSError(errno.EINVAL, "no such cgroup or node, or swappiness out of range")
        sc = ScanControl(GFP_KERNEL, 0, DEF_PRIORITY, MAX_NR_ZONES - 1)
        sc.may_writepage = sc.may_swap = True
        lruvec = self.lruvec(memcg, nodes[nid])
        self.reclaim.lru.lru_add_drain()
        if swappiness < 0:
            swappiness = self.get_swappiness(sc, memcg, nid)
        self.state.walk.batching = True
        if age:
            self._run_aging(lruvec, seq, bool(swappiness), bool(option))
        else:
            self._run_eviction(lruvec, seq, swappiness, option if option >= 0 else sys.maxsize, sc)

    def _run_aging(self, lruvec: LruGenLruvec, seq: int, can_swap: bool, force_scan: bool) -> None:
        """Linux: run_aging()."""
        if seq < lruvec.max_seq:
            return
        if seq > lruvec.max_seq:
            raise OSError(errno.EINVAL, "that generation is not the youngest")
        if not force_scan and lruvec.min_seq(ANON if can_swap else FILE) + MAX_NR_GENS - 1 <= lruvec.max_seq:
            raise OSError(errno.ERANGE, "there are as many generations as there can be")
        lruvec.try_to_inc_max_seq(can_swap, force_scan)

    def _run_eviction(
        self, lruvec: LruGenLruvec, seq: int, swappiness: int, nr_to_reclaim: int, sc: ScanControl
    ) -> None:
        """Evict generations up to `seq`. Linux: run_eviction()."""
        if seq + MIN_NR_GENS > lruvec.max_seq:
            raise OSError(errno.EINVAL, "the two youngest generations are not evicted")
        while seq >= lruvec.min_seq(ANON if swappiness else FILE) and sc.nr_reclaimed < nr_to_reclaim:
            if not self.evict.evict_folios(lruvec.number, swappiness, sc):
                break


class LruvecEviction:
    """Evicting from one lruvec until there is enough, slice by slice. Linux: try_to_shrink_lruvec().

    ``aged``: a generation was begun instead, for there was too little that is cold, or all of it is protected.
    """

    def __init__(self, gens: LruGenReclaim, memcg: MemCgroup, pgdat: PglistData, sc: ScanControl) -> None:
        self.gens = gens
        self.memcg = memcg
        self.sc = sc
        self.lruvec = gens.lruvec(memcg, pgdat)
        self.scanned = 0
        self.aged = False

    def step(self) -> bool:
        """Work for a slice of time; whether it is done."""
        gens, sc = self.gens, self.sc
        if self.memcg.below_min(gens.reclaim.target(sc)):
            self.aged = True
            return True
        swappiness = gens.get_swappiness(sc, self.memcg, self.lruvec.nid)
        result = gens.evict.try_to_shrink_lruvec(self.lruvec.number, swappiness, sc, self.scanned)
        self.scanned = int(gens.evict.scanned)
        if result == LRU_GEN_SLICE:
            return False
        if result == LRU_GEN_AGE:
            looked = self.lruvec.try_to_inc_max_seq(bool(swappiness))
            gens.state.walk.batching = True
            gens.reclaim.folios.cpu_ns += looked * AGING_ENTRY_NS
            self.aged = True
        if sc.nr_unqueued_dirty and sc.nr_unqueued_dirty == sc.nr_file_taken:
            gens.reclaim.loops.wake_flusher = True
        return True


class LruGenNode:
    """Shrinking one node, step by step. Linux: lru_gen_shrink_node(), shrink_many(), shrink_one()."""

    def __init__(self, gens: LruGenReclaim, pgdat: PglistData, sc: ScanControl) -> None:
        self.gens = gens
        self.reclaim = gens.reclaim
        self.pgdat = pgdat
        self.sc = sc
        self.throttle: Throttle | None = None
        self.before = int(sc.nr_reclaimed)
        self.one: LruvecEviction | None = None
        self.lru = gens.state.memcg_lru[pgdat.node_id]
        sc.clear_counts()
        self.idle = not sc.may_writepage or not sc.may_unmap
        if not self.idle:
            self.reclaim.lru.lru_add_drain()
            gens.set_initial_priority(pgdat, sc)
            if sc.kswapd:
                sc.nr_reclaimed = 0
            gens.state.walk.batching = bool(sc.kswapd or sc.proactive)
            self.turns = self._turns()

    def _turns(self) -> list[LruGenLruvec]:
        """The lruvecs of the oldest generation, from a random bin on; one that has moved is passed over later."""
        fifo, first = self.lru.fifo[self.lru.oldest], self.lru.random_bin()
        self.gen = self.lru.oldest
        return [one for nr in range(MEMCG_NR_BINS) for one in fifo[(first + nr) % MEMCG_NR_BINS]][::-1]

    def step(self) -> bool:
        """Work for a slice of time; whether the node is done."""
        sc = self.sc
        if not self.idle:
            if not self._shrink_many():
                return False
            if sc.kswapd:
                sc.nr_reclaimed += self.before
        if sc.nr_reclaimed > self.before:
            self.pgdat.kswapd_failures = 0
        return True

    def _shrink_many(self) -> bool:
        """Go on with the cgroup whose turn it is, or with the next; whether all have had theirs, or it is enough."""
        if self.one is None:
            if not self.turns:
                return True
            lruvec = self.turns.pop()
            if lruvec.memcg_gen != self.gen or self.gens.state.lruvecs.get(lruvec.number) is not lruvec:
                return not self.turns
            memcg = self.reclaim.kernel.memcgs.rows[lruvec.memcg]
            op = self._passed_over(memcg, lruvec)
            if op is not MemcgLruOp.NOP:
                return self._end_turn(lruvec, op)
            self.one = LruvecEviction(self.gens, memcg, self.pgdat, self.sc)
        one = self.one
        if not one.step():
            return False
        self.one = None
        self.sc.nr_reclaimed += self.reclaim.shrink_slab(self.pgdat, one.memcg, self.sc)
        return self._end_turn(one.lruvec, self._where_next(one))

    @staticmethod
    def _passed_over(memcg: MemCgroup, lruvec: LruGenLruvec) -> MemcgLruOp:
        """Where a cgroup goes that is protected, NOP if it is not. Linux: shrink_one()."""
        if memcg.below_min(None):
            return MemcgLruOp.YOUNG
        if memcg.below_low(None):
            if lruvec.memcg_seg is not MemcgLruOp.TAIL:
                return MemcgLruOp.TAIL
            memcg.event(MemcgMemoryEvent.MEMCG_LOW)
        return MemcgLruOp.NOP

    def _where_next(self, one: LruvecEviction) -> MemcgLruOp:
        """Where a cgroup goes that has had its turn. Linux: shrink_one()."""
        if one.aged and one.memcg.online:
            return MemcgLruOp.YOUNG
        if not one.aged and self.gens.is_sizable(one.lruvec, self.sc):
            return MemcgLruOp.NOP
        return MemcgLruOp.TAIL if one.lruvec.memcg_seg is not MemcgLruOp.TAIL else MemcgLruOp.YOUNG

    def _end_turn(self, lruvec: LruGenLruvec, op: MemcgLruOp) -> bool:
        if op is not MemcgLruOp.NOP:
            self.lru.rotate(lruvec, op)
        return not self.turns or bool(self.gens.evict.should_abort_scan(lruvec.number, self.sc))
