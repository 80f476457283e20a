# cython: language_level=3
"""Eviction from the oldest generation: 64 pages at a time, reclaimed as those of the other lists are.

Linux: mm/vmscan.c, try_to_shrink_lruvec(), evict_folios().
"""

import cython
import numpy as np

from mmfs.fastpath.frames import view
from mmfs.fastpath.lru_gen_ctrl import LruGenCtrl

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403
    from mmfs.fastpath.scan_control import ScanControl

_BATCH = 4096
_FILE = cython.declare(cython.int, 1)
_TIERS = cython.declare(cython.int, 4)
_MIN_SEQ = cython.declare(cython.int, 1)
_MAX_SWAPPINESS = cython.declare(cython.int, 200)
_DEF_PRIORITY = cython.declare(cython.int, 12)


class LruGenEvict:
    """Eviction for all lruvecs; ``vmscan`` reclaims the pages that ``lru_gen`` gives out, as ``ctrl`` decides.

    ``scanned``: how many pages try_to_shrink_lruvec() has looked at.
    """

    def __init__(self, vmscan, lru_gen):
        self.frames = lru_gen.frames
        self.vmscan = vmscan
        self.lru_gen = lru_gen
        self.buddy = lru_gen.buddy
        self.ctrl = LruGenCtrl(lru_gen)
        self.scanned = 0
        self.event = self.vmscan.event
        self.isolated = view(np.zeros(_BATCH, np.int64))

    # ------------------------------------------------------------------------------ a lruvec

    def try_to_shrink_lruvec(self, lruvec: cython.long, swappiness: cython.int, sc: ScanControl,
                             scanned: cython.long):
        """Evict until there is enough; ``scanned`` pages have been looked at before.

        LRU_GEN_DONE, LRU_GEN_SLICE: the budget is used up, call again; LRU_GEN_AGE: a generation is due instead.
        Linux: try_to_shrink_lruvec(), get_nr_to_scan().
        """
        nr_to_scan: cython.long
        delta: cython.long
        result: cython.int = LRU_GEN_DONE
        self.scanned = scanned
        with cython.nogil:
            while True:
                nr_to_scan = self.ctrl.should_run_aging(lruvec, self.kinds(swappiness))
                if nr_to_scan == 0 or self.lru_gen.memcg.alive[self.lru_gen.memcg.memcg_of(lruvec)]:
                    if self.ctrl.due and sc.priority != _DEF_PRIORITY:
                        result = LRU_GEN_AGE
                        break
                    nr_to_scan >>= sc.priority
                if nr_to_scan <= 0:
                    break
                delta = self.evict_folios(lruvec, swappiness, sc)
                self.scanned += delta
                if delta == 0 or self.scanned >= nr_to_scan or self.should_abort_scan(lruvec, sc):
                    break
                if self.vmscan.is_over():
                    result = LRU_GEN_SLICE
                    break
        return result

    def should_abort_scan(self, lruvec, sc):
        """Whether that is enough. Linux: should_abort_scan()."""
        zid: cython.int
        zone: cython.long
        if sc.memcg > 0:
            return False
        if sc.nr_reclaimed >= max(sc.nr_to_reclaim, cython.cast(cython.long, 2) << sc.order):
            return True
        if not sc.kswapd or sc.order:
            return False
        for zid in range(sc.reclaim_idx + 1):
            zone = self.vmscan.lruvec[lruvec].nid * MAX_NR_ZONES + zid
            if self.buddy.zone[zone].managed > 0 and not self.buddy.watermark_ok(
                zone, 0, self.buddy.zone[zone].wmark_high + self.buddy.zone[zone].watermark_boost + MIN_LRU_BATCH,
                sc.reclaim_idx, 0,
            ):  # fmt: skip
                return False
        return True

    def kinds(self, swappiness):
        """Which kinds may be evicted: 0 files only, 1 both, 2 anonymous memory only, which 6.18 can be asked for."""
        return 0 if swappiness == 0 else 1 if swappiness <= _MAX_SWAPPINESS else 2

    def evict_folios(self, lruvec, swappiness, sc):
        """Evict up to 64 pages of the kind that refaults less; how many were looked at.

        Linux: evict_folios(), isolate_folios().
        """
        kind: cython.int = _FILE
        tier: cython.int = -1
        tries: cython.int
        scanned: cython.long = 0
        choice: cython.int
        if swappiness:
            if self.lru_gen.seq[lruvec, _MIN_SEQ] < self.lru_gen.seq[lruvec, _MIN_SEQ + 1]:
                kind = 0
            elif swappiness >= _MAX_SWAPPINESS:
                kind = 0
            elif swappiness != 1 and sc.gfp & GFP_IO_BIT:
                choice = self.ctrl.type_to_scan(lruvec, swappiness)
                kind = choice // _TIERS
                tier = choice % _TIERS
        for tries in range(2 if 0 < swappiness <= _MAX_SWAPPINESS else 1):
            if tier < 0:
                tier = self.ctrl.tier_idx(lruvec, kind)
            scanned = self.isolate_folios(lruvec, kind, tier, sc)
            if scanned:
                break
            kind = 1 - kind
            tier = -1
        if self.ctrl.try_to_inc_min_seq(lruvec, self.kinds(swappiness)):
            scanned += 1
        if (
            self.lru_gen.seq[lruvec, 0] - self.lru_gen.seq[lruvec, _MIN_SEQ + (0 if swappiness else 1)] + 1
            == MIN_NR_GENS
        ):
            scanned = 0
        self.shrink_isolated(lruvec, kind, sc)
        return scanned

    def isolate_folios(self, lruvec, kind, tier, sc):
        """Take pages of the oldest generation of a kind, tiers up to ``tier``. How many were looked at.

        Linux: scan_folios().
        """
        scanned: cython.long
        taken: cython.long
        item: cython.int = PGSCAN_KSWAPD + self.vmscan.reclaimer_offset(sc)
        scanned = self.lru_gen.scan_folios(
            lruvec, kind, tier, sc.reclaim_idx, (sc.gfp & GFP_IO_BIT) != 0, item, sc.memcg >= 0, self.isolated
        )
        taken = self.lru_gen.isolated
        self.vmscan.reclaim.coming = self.lru_gen.coming
        if kind == 1:
            sc.nr_file_taken += taken
        sc.nr_taken += taken
        return scanned

    def shrink_isolated(self, lruvec, kind, sc):
        """Reclaim the pages taken, and once more those that have become clean meanwhile. Linux: evict_folios()."""
        retry: cython.bint = False
        taken: cython.long = self.lru_gen.nr_folios
        left: cython.long
        reclaimed: cython.long
        i: cython.Py_ssize_t
        for i in range(taken):
            self.vmscan.reclaim.folio[i] = cython.cast(cython.uint, self.isolated[i])
        while taken:
            left = self.vmscan.reclaim.shrink_folio_list(taken, sc, retry)
            reclaimed = self.vmscan.reclaim.nr_reclaimed
            sc.nr_reclaimed += reclaimed
            taken = self.put_back(left, retry)
            self.vmscan.count_demoted(sc, lruvec)
            self.vmscan.count(sc, lruvec, PGSTEAL_KSWAPD + self.vmscan.reclaimer_offset(sc), reclaimed)
            self.event[PGSTEAL_ANON + kind] += reclaimed
            retry = True

    def put_back(self, left, retried):
        """Put pages that were not freed into generations; those that may go now stay, how many.

        A page that is being written goes into the second youngest generation, one that was refused into the youngest.
        """
        i: cython.Py_ssize_t
        kept: cython.long = 0
        clean: cython.long = 0
        pfn: cython.long
        flags: cython.uint
        busy: cython.uint = PG_ACTIVE | PG_REFERENCED | PG_LOCKED | PG_DIRTY | PG_WRITEBACK
        for i in range(left):
            pfn = self.vmscan.reclaim.folio[i]
            flags = self.frames.page[pfn].flags
            if flags & (PG_MLOCKED | PG_UNEVICTABLE):
                pass
            elif flags & PG_RECLAIM and flags & (PG_DIRTY | PG_WRITEBACK):
                if flags & PG_WORKINGSET:
                    self.frames.page[pfn].flags |= PG_REFERENCED
            elif retried or flags & busy or self.frames.page[pfn].mapcount or self.vmscan.reclaim.is_locked(pfn):
                self.lru_gen.clear_refs(pfn)
                self.frames.page[pfn].flags |= PG_ACTIVE
            else:
                self.isolated[clean] = pfn
                clean += 1
                continue
            self.vmscan.reclaim.folio[kept] = cython.cast(cython.uint, pfn)
            kept += 1
        self.vmscan.move_folios_to_lru(kept)
        for i in range(clean):
            self.vmscan.reclaim.folio[i] = cython.cast(cython.uint, self.isolated[i])
        return clean
