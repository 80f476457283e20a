# cython: language_level=3
"""What a run of reclaim is asked for and what it finds.

Linux: mm/vmscan.c, struct scan_control.
"""

import cython


class ScanControl:
    """One run of reclaim: what is wanted and allowed, what was found. Linux: struct scan_control.

    ``memcg``: the memory cgroup whose limit is hit, -1 for the whole machine; ``memcg_low_skipped``: some were spared
    for their memory.low, which ``memcg_low_reclaim`` no longer honours; ``proactive``: somebody has asked for it, with
    ``swappiness`` of its own unless that is -1; ``no_demotion``: nothing moves to slower nodes. ``kswapd``,
    ``khugepaged``: whether it is they that run; ``count_proactive``: what is asked for has counters of its own (6.15);
    ``node_dirty``, ``node_writeback``: PGDAT_DIRTY, PGDAT_WRITEBACK.
    """

    def __init__(self, gfp, order=0, priority=12, reclaim_idx=4, nr_to_reclaim=32):
        self.gfp = gfp
        self.order = order
        self.memcg = -1
        self.memcg_low_reclaim = self.memcg_low_skipped = self.proactive = self.count_proactive = False
        self.swappiness = -1
        self.priority = priority
        self.reclaim_idx = reclaim_idx
        self.nr_to_reclaim = nr_to_reclaim
        self.may_unmap = True
        self.kswapd = self.khugepaged = self.no_demotion = self.may_writepage = self.may_swap = False
        self.anon_cost = self.file_cost = self.may_deactivate = 0
        self.force_deactivate = self.skipped_deactivate = self.full_walk = self.compaction_ready = False
        self.no_cache_trim_mode = self.cache_trim_mode = self.cache_trim_mode_failed = self.file_is_tiny = False
        self.node_writeback = self.node_dirty = False
        self.nr_scanned = self.nr_reclaimed = self.lruvec_reclaimed = 0
        if not cython.compiled:
            self.nr = [0] * 5
            self.target = [0] * 5
        self.clear_counts()

    def clear_counts(self):
        """Before a node is shrunk: nothing found yet. Linux: memset(&sc->nr)."""
        self.nr_dirty = self.nr_unqueued_dirty = self.nr_congested = self.nr_writeback = self.nr_immediate = 0
        self.nr_file_taken = self.nr_taken = 0

    def to_scan(self):
        """Pages that are still to be scanned, by list."""
        return [self.nr[0], self.nr[1], self.nr[2], self.nr[3]]
