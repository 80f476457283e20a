"""Reclaim of a node by generations: age if that is due, evict from the oldest, stop when there is enough.

Linux: mm/vmscan.c, lru_gen_shrink_node(), shrink_one(), try_to_shrink_lruvec(), get_nr_to_scan(), evict_folios().

Simplified: a node has one lruvec, so there is no LRU of memory cgroups.
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Final

from mmfs.fastpath.lru_gen_evict import LruGenEvict
from mmfs.fastpath.vmscan import ScanControl
from mmfs.mm.lru_gen import ANON, FILE, MAX_SWAPPINESS, LruGenLruvec
from mmfs.mm_types import (
    GFP_KERNEL,
    LRU_GEN_AGE,
    LRU_GEN_SLICE,
    MAX_NR_GENS,
    MAX_NR_ZONES,
    MIN_LRU_BATCH,
    MIN_NR_GENS,
    NodeStatItem,
)

if TYPE_CHECKING:
    from mmfs.mm.mmzone import PglistData
    from mmfs.mm.vmscan import Reclaim, Throttle

DEF_PRIORITY: Final = 12
AGING_ENTRY_NS: Final = 4
"""What a page-table entry costs the aging."""


class LruGenReclaim:
    """What reclaim by generations asks of the machine."""

    def __init__(self, reclaim: Reclaim) -> None:
        self.reclaim = reclaim
        self.kernel = reclaim.kernel
        self.state = reclaim.kernel.lru_gen
        self.evict = LruGenEvict(reclaim.loops, self.state.lists)

    def get_swappiness(self, sc: ScanControl) -> int:
        """How readily anonymous memory is evicted; 0 if it cannot be. Linux: get_swappiness()."""
        if not sc.may_swap or self.kernel.nr_swap_pages < MIN_LRU_BATCH:
            return 0
        return self.kernel.vm.swappiness

    def set_initial_priority(self, pgdat: PglistData, sc: ScanControl) -> None:
        """Begin where so much may be got at once. Linux: set_initial_priority()."""
        if sc.priority != DEF_PRIORITY or sc.nr_to_reclaim < MIN_LRU_BATCH:
            return
        state = self.kernel.vmstat.node_stat[pgdat.node_id]
        reclaimable = int(state[NodeStatItem.NR_INACTIVE_FILE])
        if self.reclaim.can_reclaim_anon_pages():
            reclaimable += int(state[NodeStatItem.NR_INACTIVE_ANON])
        priority = reclaimable.bit_length() - 1 - int(sc.nr_to_reclaim - 1).bit_length()
        sc.priority = max(DEF_PRIORITY // 2, min(priority, DEF_PRIORITY))

    def age_node(self, pgdat: PglistData, sc: ScanControl) -> None:
        """Before kswapd shrinks a node: kill if all is younger than min_ttl_ms. Linux: lru_gen_age_node()."""
        self.set_initial_priority(pgdat, sc)
        min_ttl = self.state.min_ttl_jiffies
        if not min_ttl:
            return
        lruvec = self.state.lruvecs[pgdat.node_id]
        sizable = lruvec.total_size(bool(self.get_swappiness(sc))) >> sc.priority
        born = lruvec.birth[lruvec.min_seq(FILE) % len(lruvec.birth)]
        if not sizable or self.kernel.clock.jiffies <= born + min_ttl:
            self.kernel.page_alloc.out_of_memory(sc.gfp, 0)


    def run_cmd(self, age: bool, nid: int, seq: int, swappiness: int, option: int) -> None:
        """Age or evict as debugfs is told; option: force_scan, or pages to reclaim. Linux: run_cmd().

        Raises OSError(EINVAL) for what cannot be, ERANGE where a generation more would be one too many.
        """
        nodes = self.kernel.node_data
        if nid >= len(nodes) or not nodes[nid].node_present_pages or swappiness > MAX_SWAPPINESS:
            raise OSError(errno.EINVAL, "no such node, or swappiness out of range")
        sc = ScanControl(GFP_KERNEL, 0, DEF_PRIORITY, MAX_NR_ZONES - 1)
        sc.may_writepage = sc.may_swap = True
        node = LruGenNode(self, nodes[nid], sc)
        if swappiness < 0:
            swappiness = self.get_swappiness(sc)
        self.state.walk.batching = True
        if age:
            self._run_aging(node.lruvec, seq, bool(swappiness), bool(option))
        else:
            node.run_eviction(seq, swappiness, option if option >= 0 else sys.maxsize)

    def _run_aging(self, lruvec: LruGenLruvec, seq: int, can_swap: bool, force_scan: bool) -> None:
        """Linux: run_aging()."""
        if seq < lruvec.max_seq:
            return
        if seq > lruvec.max_seq:
            raise OSError(errno.EINVAL, "that generation is not the youngest")
        if not force_scan and lruvec.min_seq(ANON if can_swap else FILE) + MAX_NR_GENS - 1 <= lruvec.max_seq:
            raise OSError(errno.ERANGE, "there are as many generations as there can be")
        lruvec.try_to_inc_max_seq(can_swap, force_scan)


class LruGenNode:
    """Shrinking one node, step by step. Linux: lru_gen_shrink_node()."""

    def __init__(self, gens: LruGenReclaim, pgdat: PglistData, sc: ScanControl) -> None:
        self.gens = gens
        self.reclaim = gens.reclaim
        self.pgdat = pgdat
        self.sc = sc
        self.throttle: Throttle | None = None
        self.lruvec: LruGenLruvec = gens.state.lruvecs[pgdat.node_id]
        self.scanned = 0
        self.before = int(sc.nr_reclaimed)
        sc.clear_counts()
        self.idle = not sc.may_writepage or not sc.may_unmap
        if not self.idle:
            self.reclaim.lru.lru_add_drain()
            gens.set_initial_priority(pgdat, sc)
            if sc.kswapd:
                sc.nr_reclaimed = 0
            gens.state.walk.batching = bool(sc.kswapd)

    def step(self) -> bool:
        """Work for a slice of time; whether the node is done."""
        sc = self.sc
        if not self.idle:
            if not self._try_to_shrink_lruvec():
                return False
            if sc.nr_unqueued_dirty and sc.nr_unqueued_dirty == sc.nr_file_taken:
                self.reclaim.loops.wake_flusher = True
            _, pages = self.reclaim.shrinkers.shrink_slab(self.pgdat.node_id, sc.priority)
            sc.nr_reclaimed += pages
            if sc.kswapd:
                sc.nr_reclaimed += self.before
        if sc.nr_reclaimed > self.before:
            self.pgdat.kswapd_failures = 0
        return True

    def run_eviction(self, seq: int, swappiness: int, nr_to_reclaim: int) -> None:
        """Evict generations up to `seq`. Linux: run_eviction()."""
        lruvec, sc = self.lruvec, self.sc
        if seq + MIN_NR_GENS > lruvec.max_seq:
            raise OSError(errno.EINVAL, "the two youngest generations are not evicted")
        while seq >= lruvec.min_seq(ANON if swappiness else FILE) and sc.nr_reclaimed < nr_to_reclaim:
            if not self.gens.evict.evict_folios(lruvec.number, swappiness, sc):
                break

    def _try_to_shrink_lruvec(self) -> bool:
        """Evict until there is enough, or begin a generation instead. False: the slice is over.

        Linux: try_to_shrink_lruvec(), get_nr_to_scan().
        """
        evict, swappiness = self.gens.evict, self.gens.get_swappiness(self.sc)
        result = evict.try_to_shrink_lruvec(self.lruvec.number, swappiness, self.sc, self.scanned)
        self.scanned = int(evict.scanned)
        if result == LRU_GEN_AGE:
            looked = self.lruvec.try_to_inc_max_seq(bool(swappiness))
            self.gens.state.walk.batching = True
            self.reclaim.loops.cpu_ns += looked * AGING_ENTRY_NS
        return bool(result != LRU_GEN_SLICE)
