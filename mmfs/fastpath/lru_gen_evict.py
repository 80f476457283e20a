# cython: language_level=3
"""Eviction from the oldest generation: 64 pages at a time, reclaimed as those of the other lists are.

Linux: mm/vmscan.c, evict_folios().
"""

import cython
import numpy as np

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403
    from mmfs.fastpath.vmscan import ScanControl

_BATCH = 64


class LruGenEvict:
    """Eviction for all lruvecs; ``vmscan`` reclaims the pages that ``lru_gen`` gives out."""

    def __init__(self, vmscan, lru_gen):
        self.frames = lru_gen.frames
        self.vmscan = vmscan
        self.lru_gen = lru_gen
        self.event = self.vmscan.event
        self.isolated = view(np.zeros(_BATCH, np.int64))

    def isolate_folios(self, lruvec: cython.long, kind: cython.int, tier: cython.int, sc: ScanControl):
        """Take pages of the oldest generation of a kind, tiers up to ``tier``. How many were looked at.

        Linux: scan_folios().
        """
        scanned: cython.long
        taken: cython.long
        item: cython.int = PGSCAN_KSWAPD if sc.kswapd else PGSCAN_DIRECT
        if kind == 0:
            self.split_oldest(lruvec)
        scanned = self.lru_gen.scan_folios(
            lruvec, kind, tier, sc.reclaim_idx, (sc.gfp & GFP_IO_BIT) != 0, item, self.isolated
        )
        taken = self.lru_gen.isolated
        if kind == 1:
            sc.nr_file_taken += taken
        sc.nr_taken += taken
        return scanned

    def split_oldest(self, lruvec):
        """Where only blocks mapped as a whole are left in the oldest generation of anonymous memory, split one."""
        gen: cython.int = self.lru_gen.seq[lruvec, 1] & 3
        zid: cython.int
        head: cython.long
        for zid in range(MAX_NR_ZONES):
            head = self.lru_gen.head(lruvec, gen, 0, zid)
            if self.frames.page[head].prv == head:
                self.vmscan.split_last(head + self.lru_gen.block_heads - self.lru_gen.page_heads)

    def shrink_isolated(self, kind: cython.int, sc: ScanControl):
        """Reclaim the pages taken, and once more those that have become clean meanwhile. Linux: evict_folios()."""
        retry: cython.bint = False
        taken: cython.long = self.lru_gen.isolated
        left: cython.long
        reclaimed: cython.long
        i: cython.Py_ssize_t
        with cython.nogil:
            for i in range(taken):
                self.vmscan.folio[i] = cython.cast(cython.uint, self.isolated[i])
            while taken:
                left = self.vmscan.shrink_folio_list(taken, sc, retry)
                reclaimed = taken - left
                sc.nr_reclaimed += reclaimed
                taken = self.put_back(left, retry)
                self.event[PGSTEAL_KSWAPD if sc.kswapd else PGSTEAL_DIRECT] += reclaimed
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
            pfn = self.vmscan.folio[i]
            flags = self.frames.page[pfn].flags
            if flags & (PG_MLOCKED | PG_UNEVICTABLE):
                pass
            elif flags & PG_RECLAIM and flags & (PG_DIRTY | PG_WRITEBACK):
                if flags & PG_WORKINGSET:
                    self.frames.page[pfn].flags |= PG_REFERENCED
            elif retried or flags & busy or self.frames.page[pfn].mapcount or self.vmscan.is_locked(pfn):
                self.lru_gen.clear_refs(pfn)
                self.frames.page[pfn].flags |= PG_ACTIVE
            else:
                self.isolated[clean] = pfn
                clean += 1
                continue
            self.vmscan.folio[kept] = cython.cast(cython.uint, pfn)
            kept += 1
        self.vmscan.move_folios_to_lru(kept)
        for i in range(clean):
            self.vmscan.folio[i] = cython.cast(cython.uint, self.isolated[i])
        return clean
