# cython: language_level=3
"""Taking pages back: the loops over the active and inactive lists.

What is scanned comes from the end of a list, 32 pages at a time (`isolate_lru_folios`). Active pages become
inactive; with inactive ones it is seen one by one what becomes of them (fastpath/folio_reclaim.py). Who is to be
scanned how much is decided by mm/vmscan.py, which fills a ScanControl and calls `shrink_lruvec()` until it says that
all is done; a call stops when ``budget_ns`` of the cpu_ns of the FolioReclaim are used up.

Linux: mm/vmscan.c, shrink_lruvec() and below.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403
    from mmfs.fastpath.scan_control import ScanControl

_MAX_REQUEST = cython.declare(cython.long, 320)  # pages; Linux: BLK_DEF_MAX_SECTORS_CAP
_DEF_PRIORITY = cython.declare(cython.int, 12)


class Vmscan:
    """The loops, over the lists of an Lru, whose pages ``reclaim`` (a FolioReclaim) takes."""

    def __init__(self, reclaim, vmstat):
        self.reclaim = reclaim
        self.frames = reclaim.frames
        self.buddy = reclaim.buddy
        self.lru = reclaim.lru
        self.lruvec = view(self.lru.lruvecs)
        self.memcg = self.lru.memcg
        self.event = view(vmstat.event)
        self.rotated = view(np.zeros(32, np.uint32))
        self.nr_scanned = self.nr_taken = 0
        self.budget_ns = 1 << 62
        self.wake_flusher = False

    def is_over(self):
        """Whether a call has taken its time, or written as much as a disk is asked for at once."""
        return self.reclaim.cpu_ns >= self.budget_ns or self.reclaim.nr_written >= _MAX_REQUEST

    def isolate_lru_folios(self, lruvec, lru, nr_to_scan, sc):
        """Take folios off the end of a list into ``folio``: how many, of ``nr_taken`` pages.

        Linux: isolate_lru_folios().
        """
        head: cython.long = self.lru.page_heads + lruvec * NR_LRU_LISTS + lru
        pfn: cython.long
        nr: cython.long
        zid: cython.int
        scan: cython.long = 0
        total: cython.long = 0
        size: cython.long = self.lru.size(lruvec, lru)
        taken: cython.long = 0
        self.nr_taken = 0
        while scan < nr_to_scan and total < size:
            pfn = self.frames.page[head].prv
            if pfn == head:
                break
            nr = self.frames.nr_pages(pfn)
            total += nr
            zid = self.buddy.zone[self.frames.zone_of(pfn)].zid
            if zid > sc.reclaim_idx:
                self.frames.page_list_del(pfn)
                self.frames.page_list_add(head, pfn)
                self.event[PGSKIP_DMA + zid] += nr
                continue
            scan += nr
            if not sc.may_unmap and self.frames.page[pfn].mapcount:
                self.frames.page_list_del(pfn)
                self.frames.page_list_add(head, pfn)
                continue
            self.lru.del_page(pfn)
            self.reclaim.folio[taken] = cython.cast(cython.uint, pfn)
            taken += 1
            self.nr_taken += nr
        self.nr_scanned = total
        self.reclaim.coming = self.frames.page[head].prv
        return taken

    def move_folios_to_lru(self, n):
        """Put the first ``n`` of ``folio`` back on their lists. Linux: move_folios_to_lru()."""
        i: cython.Py_ssize_t
        pfn: cython.long
        for i in range(n):
            pfn = self.reclaim.folio[i]
            if self.frames.page[pfn].flags & PG_MLOCKED:
                self.frames.page[pfn].flags |= PG_UNEVICTABLE
                self.lru.add(pfn, False)
                continue
            self.lru.add_page(pfn)
            if self.frames.page[pfn].flags & PG_ACTIVE:
                self.lru.age_nonresident(self.lru.lruvec_of(pfn), self.frames.nr_pages(pfn))

    def shrink_inactive_list(self, lruvec, lru, nr_to_scan, sc):
        """Reclaim from the end of an inactive list; how many pages. Linux: shrink_inactive_list()."""
        file: cython.bint = lru >= LRU_INACTIVE_FILE
        taken: cython.long
        nr_taken: cython.long
        left: cython.long
        reclaimed: cython.long
        unqueued: cython.long = sc.nr_unqueued_dirty
        self.lru.drain(self.buddy.cpu)
        taken = self.isolate_lru_folios(lruvec, lru, nr_to_scan, sc)
        self.count(sc, lruvec, PGSCAN_KSWAPD + self.reclaimer_offset(sc), self.nr_scanned)
        self.event[PGSCAN_ANON + file] += self.nr_scanned
        if taken == 0:
            return 0
        self.reclaim.nr_pageout = 0
        nr_taken = self.nr_taken
        left = self.reclaim.shrink_folio_list(taken, sc, False)
        reclaimed = self.reclaim.nr_reclaimed
        self.move_folios_to_lru(left)
        self.count_demoted(sc, lruvec)
        self.count(sc, lruvec, PGSTEAL_KSWAPD + self.reclaimer_offset(sc), reclaimed)
        self.event[PGSTEAL_ANON + file] += reclaimed
        self.lru.note_cost(lruvec, file, self.reclaim.nr_pageout, self.nr_scanned - reclaimed)
        if sc.nr_unqueued_dirty - unqueued == nr_taken:
            self.wake_flusher = True
        sc.nr_taken += nr_taken
        if file:
            sc.nr_file_taken += nr_taken
        return reclaimed

    def shrink_active_list(self, lruvec, lru, nr_to_scan, sc):
        """Move pages from the end of an active list to the inactive one. Linux: shrink_active_list()."""
        taken: cython.long
        i: cython.Py_ssize_t
        pfn: cython.long
        left: cython.long = 0
        nr_rotated: cython.long = 0
        file: cython.bint = lru >= LRU_INACTIVE_FILE
        self.lru.drain(self.buddy.cpu)
        taken = self.isolate_lru_folios(lruvec, lru, nr_to_scan, sc)
        self.count(sc, lruvec, PGREFILL, self.nr_scanned)
        self.reclaim.cpu_ns += self.nr_scanned * self.reclaim.cost_scan
        for i in range(taken):
            self.reclaim.prefetch(i, taken)
            pfn = self.reclaim.folio[i]
            if self.reclaim.referenced(pfn) and self.reclaim.rmap.vm_flags & VMF_EXEC and file:
                self.rotated[nr_rotated] = cython.cast(cython.uint, pfn)
                nr_rotated += 1
                continue
            if not self.frames.page[pfn].flags & PG_MLOCKED:
                self.frames.page[pfn].flags = (self.frames.page[pfn].flags & ~PG_ACTIVE) | PG_WORKINGSET
                self.memcg.count_events(self.frames.page[pfn].memcg, PGDEACTIVATE, self.frames.nr_pages(pfn))
            self.reclaim.folio[left] = cython.cast(cython.uint, pfn)
            left += 1
        for i in range(nr_rotated):
            self.lru.add_page(self.rotated[i])
            self.lru.age_nonresident(lruvec, 1)
        self.move_folios_to_lru(left)
        if nr_rotated:
            self.lru.note_cost(lruvec, file, 0, nr_rotated)

    def count(self, sc, lruvec, item, nr):
        """Count what reclaim does: what it does for a memory cgroup only there. Linux: cgroup_reclaim()."""
        if sc.memcg < 0:
            self.event[item] += nr
        self.memcg.count_memcg_events(self.lruvec[lruvec].memcg, item, nr)

    def reclaimer_offset(self, sc):
        """Which of the counters of who reclaims: kswapd, directly, khugepaged, as asked. Linux: reclaimer_offset()."""
        if sc.count_proactive:
            return PGSCAN_PROACTIVE - PGSCAN_KSWAPD
        return 0 if sc.kswapd else PGSCAN_KHUGEPAGED - PGSCAN_KSWAPD if sc.khugepaged else PGSCAN_DIRECT - PGSCAN_KSWAPD

    def count_demoted(self, sc, lruvec):
        """Count what shrink_folio_list() has demoted."""
        if self.reclaim.nr_demoted:
            self.memcg.mod_lruvec_state(
                lruvec, self.lruvec[lruvec].nid, PGDEMOTE_KSWAPD + self.reclaimer_offset(sc), self.reclaim.nr_demoted
            )

    def is_low(self, lruvec, lru):
        """Whether an inactive list is too short beside its active one. Linux: inactive_is_low()."""
        inactive: cython.long = self.memcg.lruvec_page_state(lruvec, NR_INACTIVE_ANON + lru)
        active: cython.long = self.memcg.lruvec_page_state(lruvec, NR_INACTIVE_ANON + lru + 1)
        gb: cython.long = (inactive + active) >> (30 - PAGE_SHIFT)
        ratio: cython.long = 1
        if gb:
            while (ratio + 1) * (ratio + 1) <= 10 * gb:
                ratio += 1
        return inactive * ratio < active

    def adjust_targets(self, sc):
        """Enough was reclaimed: scan on only as much as keeps both kinds in proportion. False: stop.

        Linux: shrink_lruvec(), the second half of its loop.
        """
        file: cython.long = sc.nr[LRU_INACTIVE_FILE] + sc.nr[LRU_ACTIVE_FILE]
        anon: cython.long = sc.nr[LRU_INACTIVE_ANON] + sc.nr[LRU_ACTIVE_ANON]
        smaller: cython.int = LRU_INACTIVE_ANON
        larger: cython.int = LRU_INACTIVE_FILE
        nr: cython.long = anon
        percentage: cython.long
        lru: cython.int
        scanned: cython.long
        if file == 0 or anon == 0:
            return False
        if file <= anon:
            smaller = LRU_INACTIVE_FILE
            larger = LRU_INACTIVE_ANON
            nr = file
        percentage = nr * 100 // (sc.target[smaller] + sc.target[smaller + 1] + 1)
        sc.nr[smaller] = sc.nr[smaller + 1] = 0
        for lru in range(larger, larger + 2):
            scanned = sc.target[lru] - sc.nr[lru]
            sc.nr[lru] = sc.target[lru] * (100 - percentage) // 100
            sc.nr[lru] -= min(sc.nr[lru], scanned)
        return True

    def shrink_lruvec(self, lruvec: cython.long, sc: ScanControl, age_anon: cython.bint):
        """Scan the lists of a lruvec as far as ``sc`` says. False: the budget is used up, call again.

        ``age_anon``: keep the anonymous lists in balance even if none was to be scanned. Linux: shrink_lruvec().
        """
        lru: cython.int
        n: cython.long
        proportional: cython.bint = not sc.kswapd and sc.priority == _DEF_PRIORITY
        more: cython.bint = True
        with cython.nogil:
            while sc.nr[LRU_INACTIVE_ANON] or sc.nr[LRU_ACTIVE_FILE] or sc.nr[LRU_INACTIVE_FILE]:
                if self.is_over():
                    more = False
                    break
                for lru in range(LRU_UNEVICTABLE):
                    n = min(sc.nr[lru], cython.cast(cython.long, SWAP_CLUSTER_MAX))
                    if n == 0:
                        continue
                    sc.nr[lru] -= n
                    if not lru & 1:
                        sc.lruvec_reclaimed += self.shrink_inactive_list(lruvec, lru, n, sc)
                    elif sc.may_deactivate & (2 if lru == LRU_ACTIVE_FILE else 1):
                        self.shrink_active_list(lruvec, lru, n, sc)
                    else:
                        sc.skipped_deactivate = True
                if sc.lruvec_reclaimed >= sc.nr_to_reclaim and not proportional and not self.adjust_targets(sc):
                    break
            if more:
                sc.nr_reclaimed += sc.lruvec_reclaimed
                if age_anon and self.is_low(lruvec, LRU_INACTIVE_ANON):
                    self.shrink_active_list(lruvec, LRU_ACTIVE_ANON, SWAP_CLUSTER_MAX, sc)
        return more

    def age_active_anon(self, lruvec: cython.long, sc: ScanControl):
        """Give anonymous pages a chance to be used before they are scanned. Linux: kswapd_age_node()."""
        self.shrink_active_list(lruvec, LRU_ACTIVE_ANON, SWAP_CLUSTER_MAX, sc)

    def inactive_is_low(self, lruvec: cython.long, lru: cython.int):
        """For policy: whether the inactive list ``lru`` is too short."""
        return self.is_low(lruvec, lru)
