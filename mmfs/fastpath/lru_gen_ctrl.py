# cython: language_level=3
"""Which kind of pages is evicted, up to which tier, and when a generation is due or over.

A controller with memory compares how much of what was evicted has come back: anonymous memory with files, the tiers of
a kind with its first.

Linux: mm/vmscan.c, read_ctrl_pos() to positive_ctrl_err(), get_tier_idx(), get_type_to_scan(), try_to_inc_min_seq(),
should_run_aging().
"""

import cython

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_SEQ = cython.declare(cython.int, 0)
_MIN_SEQ = cython.declare(cython.int, 1)
_TIERS = cython.declare(cython.int, 4)
_ANON = cython.declare(cython.int, 0)
_FILE = cython.declare(cython.int, 1)
_MAX_SWAPPINESS = cython.declare(cython.int, 200)


class LruGenCtrl:
    """Decisions for all lruvecs. ``due``: whether should_run_aging() has found that a generation is."""

    def __init__(self, lru_gen):
        self.lru_gen = lru_gen
        self.seq = view(lru_gen.seqs)
        self.size = view(lru_gen.sizes)
        self.evicted = view(lru_gen.evicted)
        self.refaulted = view(lru_gen.refaulted)
        self.protect = view(lru_gen.protected)
        self.avg_refaulted = view(lru_gen.avg_refaulted)
        self.avg_total = view(lru_gen.avg_total)
        self.due = False

    # ------------------------------------------------------------------------------ the controller

    def refaults(self, lruvec, kind, tier):
        """How much of a tier came back. Linux: read_ctrl_pos()."""
        i: cython.int = kind * _TIERS + tier
        return self.avg_refaulted[lruvec, i] + self.refaulted[lruvec, i]

    def total(self, lruvec, kind, tier):
        """Of how much. Linux: read_ctrl_pos()."""
        i: cython.int = kind * _TIERS + tier
        return self.avg_total[lruvec, i] + self.evicted[lruvec, i] + self.protect[lruvec, i]

    def positive_ctrl_err(self, sp_refaulted, sp_total, sp_gain, pv_refaulted, pv_total, pv_gain):
        """Whether the process variable refaults no more than the set point. Linux: positive_ctrl_err()."""
        return pv_refaulted < MIN_LRU_BATCH or (
            pv_refaulted * (sp_total + MIN_LRU_BATCH) * sp_gain <= (sp_refaulted + 1) * pv_total * pv_gain
        )

    def last_tier(self, lruvec, kind, gain, sp_kind, sp_gain):
        """The last tier of a kind that refaults no more than the first of ``sp_kind``."""
        tier: cython.int
        refaulted: cython.long = self.refaults(lruvec, sp_kind, 0)
        total: cython.long = self.total(lruvec, sp_kind, 0)
        for tier in range(1, _TIERS):
            if not self.positive_ctrl_err(
                refaulted, total, sp_gain, self.refaults(lruvec, kind, tier), self.total(lruvec, kind, tier), gain
            ):
                return tier - 1
        return _TIERS - 1

    def tier_idx(self, lruvec, kind):
        """The last tier of a kind that may be evicted. Linux: get_tier_idx()."""
        return self.last_tier(lruvec, kind, 2, kind, 1)

    def type_to_scan(self, lruvec, swappiness):
        """Which kind to evict, times four, and its last tier that may be. Linux: get_type_to_scan()."""
        kind: cython.int = self.positive_ctrl_err(
            self.refaults(lruvec, _ANON, 0), self.total(lruvec, _ANON, 0), swappiness,
            self.refaults(lruvec, _FILE, 0), self.total(lruvec, _FILE, 0), _MAX_SWAPPINESS - swappiness,
        )  # fmt: skip
        gain: cython.long = swappiness if kind == _ANON else _MAX_SWAPPINESS - swappiness
        return kind * _TIERS + self.last_tier(lruvec, kind, gain, 1 - kind, _MAX_SWAPPINESS - gain)

    def reset_ctrl_pos(self, lruvec, kind):
        """The oldest generation is done: what it did goes into the averages. Linux: reset_ctrl_pos()."""
        i: cython.int
        for i in range(kind * _TIERS, (kind + 1) * _TIERS):
            self.avg_refaulted[lruvec, i] = (self.avg_refaulted[lruvec, i] + self.refaulted[lruvec, i]) // 2
            self.avg_total[lruvec, i] = (
                self.avg_total[lruvec, i] + self.evicted[lruvec, i] + self.protect[lruvec, i]
            ) // 2
            self.refaulted[lruvec, i] = self.evicted[lruvec, i] = self.protect[lruvec, i] = 0

    # ------------------------------------------------------------------------------ old and new generations

    def try_to_inc_min_seq(self, lruvec, can_swap):
        """Drop oldest generations that are empty; whether there were any. Linux: try_to_inc_min_seq().

        ``can_swap``: 0 files only, 1 both kinds, which stay together, 2 anonymous memory only.
        """
        youngest: cython.long = self.seq[lruvec, _MAX_SEQ]
        anon: cython.long = self.seq[lruvec, _MIN_SEQ]
        file: cython.long = self.seq[lruvec, _MIN_SEQ + 1]
        success: cython.bint = False
        if can_swap:
            while anon + MIN_NR_GENS <= youngest and self.lru_gen.gen_empty(lruvec, _ANON, anon):
                anon += 1
        while can_swap != 2 and file + MIN_NR_GENS <= youngest and self.lru_gen.gen_empty(lruvec, _FILE, file):
            file += 1
        if can_swap:
            if can_swap != 2:
                anon = min(anon, file)
                file = max(anon, self.seq[lruvec, _MIN_SEQ + 1])
            if anon != self.seq[lruvec, _MIN_SEQ]:
                self.reset_ctrl_pos(lruvec, _ANON)
                self.seq[lruvec, _MIN_SEQ] = anon
                success = True
        if file != self.seq[lruvec, _MIN_SEQ + 1]:
            self.reset_ctrl_pos(lruvec, _FILE)
            self.seq[lruvec, _MIN_SEQ + 1] = file
            success = True
        return success

    def gen_size(self, lruvec, kind, seq):
        """Pages of a generation."""
        zid: cython.int
        pages: cython.long = 0
        for zid in range(MAX_NR_ZONES):
            pages += max(
                self.size[lruvec, ((seq & 3) * 2 + kind) * MAX_NR_ZONES + zid], cython.cast(cython.long, 0)
            )
        return pages

    def should_run_aging(self, lruvec, can_swap):
        """How many pages may be scanned at most, and whether a new generation is ``due``. Linux: should_run_aging()."""
        youngest: cython.long = self.seq[lruvec, _MAX_SEQ]
        oldest: cython.long = self.seq[lruvec, _MIN_SEQ + (_ANON if can_swap else _FILE)]
        kind: cython.int
        seq: cython.long
        pages: cython.long
        total: cython.long = 0
        young: cython.long = 0
        old: cython.long = 0
        self.due = oldest + MIN_NR_GENS > youngest
        if self.due:
            return 0
        for kind in range(_ANON if can_swap else _FILE, 1 if can_swap == 2 else 2):
            for seq in range(self.seq[lruvec, _MIN_SEQ + kind], youngest + 1):
                pages = self.gen_size(lruvec, kind, seq)
                total += pages
                if seq == youngest:
                    young += pages
                elif seq + MIN_NR_GENS == youngest:
                    old += pages
        if oldest + MIN_NR_GENS == youngest:
            self.due = young * MIN_NR_GENS > total or old * (MIN_NR_GENS + 2) < total
        return total
