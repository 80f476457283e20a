# cython: language_level=3
"""Taking a page back: free it, send it to the disk, demote it, or keep it because it is in use.

A page that was taken off its list is freed, unless it was used since (`check_references`), is being written or cannot
be: anonymous memory gets a slot in swap and is written there, a file's page that is clean leaves a shadow entry in its
address_space and goes.

Linux: mm/vmscan.c, shrink_folio_list() and below.

Simplified: nobody else runs within a call, so pages are never seen isolated.
"""

import cython
import numpy as np

from mmfs.fastpath.demotion import Demotion
from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403
    from mmfs.fastpath.scan_control import ScanControl

_AHEAD = cython.declare(cython.long, 4)  # pages for which the host's cache is told what is coming
_LIST_MAX = cython.declare(cython.long, 4096)

# enum folio_references, and what becomes of a page.
_RECLAIM = cython.declare(cython.int, 0)
_RECLAIM_CLEAN = cython.declare(cython.int, 1)
_KEEP = cython.declare(cython.int, 2)
_ACTIVATE = cython.declare(cython.int, 3)
_FREED = cython.declare(cython.int, 4)
_SPLIT = cython.declare(cython.int, 5)
_DEMOTE = cython.declare(cython.int, 6)


class FolioReclaim:
    """The pages in ``folio`` one by one. ``cpu_ns`` grows by what the calls cost, by the ``cost_*`` of a page.

    ``nr_written``: pages handed to swap since whoever sends them to the disk has set it to 0. ``now_ns``: the time,
    which tells what disks have read. ``coming``: the page that will be taken off a list next.
    """

    def __init__(self, huge_split, swap, filemap, migration, vmstat):
        rmap = huge_split.rmap
        folios = rmap.folios
        self.huge_split = huge_split
        self.rmap = rmap
        self.swap = swap
        self.filemap = filemap
        self.frames = folios.frames
        self.buddy = folios.buddy
        self.lru = folios.lru
        self.folios = folios
        self.workingset = folios.workingset
        self.lruvec = view(self.lru.lruvecs)
        self.node_stat = view(vmstat.node_stat)
        self.memcg = self.lru.memcg
        self.event = view(vmstat.event)
        self.folio = view(np.zeros(_LIST_MAX + HPAGE_PMD_NR, np.uint32))
        self.kept = view(np.zeros(_LIST_MAX + HPAGE_PMD_NR, np.uint32))
        self.demote = view(np.zeros(_LIST_MAX + HPAGE_PMD_NR, np.uint32))
        self.demotion = Demotion(migration, self.lru.nr_nodes, _LIST_MAX + HPAGE_PMD_NR)
        self.nr_demote = self.nr_demoted = self.nr_split = 0
        self.demoting = False
        self.nr_left = self.nr_reclaimed = self.nr_pageout = self.coming = 0
        self.now_ns = self.cpu_ns = self.nr_written = 0
        self.cost_scan = self.cost_referenced = self.cost_steal = self.cost_unmap = self.cost_pageout = 0

    def prefetch(self, i, n):
        """While the ``i``th of ``n`` pages in ``folio`` is looked at: have the host fetch the entry of one of the next,
        and the record of the page that will be taken off the end of their list as the ``i``th after these."""
        if i + _AHEAD < n:
            self.rmap.prefetch(self.folio[i + _AHEAD])
        self.coming = self.frames.page[self.coming].prv
        self.frames.prefetch_page(self.coming)

    def check_references(self, pfn, sc):
        """Whether an inactive page was used since it was looked at last. Linux: folio_check_references()."""
        referenced: cython.bint = (self.frames.page[pfn].flags & PG_REFERENCED) != 0
        ptes: cython.int = 0
        if self.frames.page[pfn].mapcount:
            ptes = self.rmap.folio_referenced(pfn)
            self.cpu_ns += self.cost_referenced
            if self.rmap.vm_flags & VMF_LOCKED:
                return _ACTIVATE
        self.frames.page[pfn].flags &= ~PG_REFERENCED
        if ptes:
            self.frames.page[pfn].flags |= PG_REFERENCED
            if referenced or ptes > 1:
                return _ACTIVATE
            if self.rmap.vm_flags & VMF_EXEC and not self.frames.page[pfn].flags & PG_SWAPBACKED:
                return _ACTIVATE
            return _KEEP
        if referenced and not self.frames.page[pfn].flags & PG_SWAPBACKED:
            return _RECLAIM_CLEAN
        return _RECLAIM

    def activate(self, pfn):
        """A page is not to be reclaimed now: out of the way. Linux: shrink_folio_list(), activate_locked."""
        flags: cython.uint = self.frames.page[pfn].flags
        if flags & PG_SWAPCACHE and (flags & PG_MLOCKED or self.swap.slots.folio_swap_full(pfn)):
            self.swap.free_swap(pfn)
        if not self.frames.page[pfn].flags & PG_MLOCKED:
            self.frames.page[pfn].flags |= PG_ACTIVE
            self.memcg.count_events(self.frames.page[pfn].memcg, PGACTIVATE, self.frames.nr_pages(pfn))

    def is_locked(self, pfn):
        """Whether somebody is at work on the page of a file. Linux: folio_trylock()."""
        return not self.frames.page[pfn].flags & (PG_ANON | PG_SWAPBACKED) and self.filemap.is_locked(pfn, self.now_ns)

    def shrink_folio(self, pfn, sc, ignore_references):
        """Free a page if that is possible: _FREED, _KEEP or _ACTIVATE; _SPLIT: a huge page that became pages;
        _DEMOTE: one that is to move to a slower node.

        Linux: the loop of shrink_folio_list().
        """
        flags: cython.uint = self.frames.page[pfn].flags
        references: cython.int = _RECLAIM
        dirty: cython.bint = False
        writeback: cython.bint = False
        if self.is_locked(pfn):
            return _KEEP
        sc.nr_scanned += self.frames.nr_pages(pfn)
        self.cpu_ns += self.cost_scan
        if flags & PG_MLOCKED:
            return _ACTIVATE
        if not sc.may_unmap and self.frames.page[pfn].mapcount:
            return _KEEP
        if not flags & (PG_SWAPBACKED | PG_ANON):
            dirty = (flags & PG_DIRTY) != 0
            writeback = (flags & PG_WRITEBACK) != 0
            sc.nr_dirty += dirty or writeback
            sc.nr_unqueued_dirty += dirty and not writeback
            sc.nr_congested += writeback and (flags & PG_RECLAIM) != 0
        if flags & PG_WRITEBACK:
            if sc.kswapd and flags & PG_RECLAIM and sc.node_writeback:
                sc.nr_immediate += 1
            else:
                self.frames.page[pfn].flags |= PG_RECLAIM
                sc.nr_writeback += self.frames.nr_pages(pfn)
            return _ACTIVATE
        if not ignore_references:
            if self.lru.enabled and flags & PG_REFERENCED and self.frames.page[pfn].mapcount:
                return _KEEP  # promoted while it was off its list
            references = self.check_references(pfn, sc)
            if references == _ACTIVATE or references == _KEEP:
                return references
        if self.demoting:
            return _DEMOTE
        return self.reclaim_folio(pfn, sc, references)

    def reclaim_folio(self, pfn, sc, references):
        """The page was not used and can go: unmap, clean, free it. Linux: the second half of that loop."""
        result: cython.int
        flags: cython.uint = self.frames.page[pfn].flags
        if flags & PG_ANON and flags & PG_SWAPBACKED and not flags & PG_SWAPCACHE:
            if not sc.gfp & GFP_IO_BIT:
                return _KEEP
            if flags & PG_PARTIALLY_MAPPED:
                return self.split(pfn, sc)
            if not self.swap.add_to_swap(pfn):
                return self.split_to_swap(pfn, sc) if pfn >= self.frames.huge else _ACTIVATE
        if self.frames.page[pfn].mapcount and not self.unmap(pfn):
            return _ACTIVATE
        if self.frames.page[pfn].flags & PG_DIRTY:
            if self.is_huge_file(pfn) and self.may_write(sc) and not self.huge_split.shmem.add_to_swap(pfn):
                return self.split(pfn, sc)
            result = self.pageout(pfn, sc, references)
            if result != _RECLAIM:
                return result
        if self.frames.page[pfn].flags & (PG_ANON | PG_SWAPBACKED) == PG_ANON:
            self.memcg.count_events(self.frames.page[pfn].memcg, PGLAZYFREED, self.frames.nr_pages(pfn))
        elif not self.remove_mapping(pfn):
            return _KEEP
        self.nr_reclaimed += self.frames.nr_pages(pfn)
        self.swap.slots.free_folio(pfn)
        self.cpu_ns += self.cost_steal
        return _FREED

    def unmap(self, pfn):
        """Take a page out of every page table. False: somebody needs it there."""
        self.cpu_ns += self.cost_unmap * self.frames.nr_pages(pfn)
        if self.is_huge_file(pfn):
            return self.huge_split.shmem.unmap(pfn, False)
        return self.rmap.unmap_huge(pfn) if pfn >= self.frames.huge else self.rmap.try_to_unmap(pfn)

    def is_huge_file(self, pfn):
        """Whether it is a large folio of the page cache."""
        return pfn >= self.frames.huge and self.frames.page[pfn].flags & (PG_ANON | PG_SWAPCACHE) == 0

    def may_write(self, sc):
        """Whether a page may be written to swap. Linux: may_enter_fs()."""
        return sc.gfp & (GFP_FS_BIT | GFP_IO_BIT) != 0 and sc.may_writepage

    def split(self, folio, sc):
        """Have the ``nr_split`` pages of a folio reclaimed one by one. Linux: split_folio_to_list()."""
        self.nr_split = self.frames.nr_pages(folio)
        sc.nr_scanned -= self.nr_split
        self.huge_split.split_folio(folio)
        return _SPLIT

    def split_to_swap(self, folio, sc):
        """A folio cannot be swapped in one piece: have its pages swapped. Linux: shrink_folio_list()."""
        if folio < self.frames.mthp:
            self.memcg.count_events(self.frames.page[folio].memcg, THP_SWPOUT_FALLBACK, 1)
        self.huge_split.stat[self.frames.folio_order(folio), MTHP_STAT_SWPOUT_FALLBACK] += 1
        return self.split(folio, sc)

    def pageout(self, pfn, sc, references):
        """A dirty page: write it if it goes to swap, leave it to the flusher if it is a file's.

        _RECLAIM: it is clean. Linux: shrink_folio_list(), pageout(). ext4 has no writepage().
        """
        zone: cython.long
        if not self.frames.page[pfn].flags & PG_SWAPBACKED:
            zone = self.frames.block[pfn >> PAGEBLOCK_ORDER].zone
            if not sc.kswapd or not self.frames.page[pfn].flags & PG_RECLAIM or not sc.node_dirty:
                self.node_stat[self.buddy.zone[zone].nid, NR_VMSCAN_IMMEDIATE] += 1
                self.frames.page[pfn].flags |= PG_RECLAIM
                return _ACTIVATE
            if references == _RECLAIM_CLEAN or not sc.gfp & GFP_FS_BIT or not sc.may_writepage:
                return _KEEP
            return _ACTIVATE
        return self.writepage(pfn) if self.may_write(sc) else _KEEP

    def writepage(self, pfn):
        """Write a page of the swap cache, or of shared memory; _RECLAIM: it is clean at once. Linux: pageout()."""
        nid: cython.int = self.buddy.zone[self.frames.zone_of(pfn)].nid
        nr: cython.long = self.frames.nr_pages(pfn)
        result: cython.int
        self.frames.page[pfn].flags |= PG_RECLAIM
        if self.frames.page[pfn].flags & PG_SWAPCACHE:
            result = self.swap.writepage(pfn)
        else:
            result = self.swap.shmem_writepage(pfn)
        if result == SWAP_WRITE_BUSY:
            self.frames.page[pfn].flags &= ~PG_RECLAIM
            return _KEEP if self.frames.page[pfn].flags & PG_SWAPCACHE else _ACTIVATE
        self.cpu_ns += self.cost_pageout + self.swap.slots.zswap.contents.take_ns()
        self.node_stat[nid, NR_VMSCAN_WRITE] += nr
        self.nr_pageout += nr
        self.nr_written += nr
        if self.frames.page[pfn].flags & PG_WRITEBACK:
            return _KEEP
        self.frames.page[pfn].flags &= ~PG_RECLAIM
        return _KEEP if self.frames.page[pfn].flags & PG_DIRTY else _RECLAIM

    def remove_mapping(self, pfn):
        """Take a clean page from where it is found, its shadow left there. Linux: __remove_mapping()."""
        slot: cython.long
        memcg: cython.long
        i: cython.long
        if self.frames.page[pfn].flags & PG_SWAPCACHE:
            slot = self.frames.page[pfn].private
            self.swap.slots.remove_from_cache(pfn, self.workingset.eviction(pfn))
            if self.memcg.memsw:
                memcg = self.memcg.swapout(pfn)
                for i in range(slot, slot + self.frames.nr_pages(pfn)):
                    self.swap.slots.memcg_of[i] = cython.cast(cython.ushort, memcg)
            self.swap.put_slots(slot, self.frames.nr_pages(pfn))
            return True
        if self.frames.page[pfn].mapping == 0 or self.frames.page[pfn].flags & PG_ANON:
            return False
        if pfn >= self.frames.huge:
            self.huge_split.shmem.slots.remove(pfn, 0)
            return True
        if self.frames.page[pfn].flags & PG_SWAPBACKED:
            self.folios.cache_remove(pfn, 0)
            return True
        self.folios.cache_remove(pfn, self.workingset.eviction(pfn))
        return True

    def shrink_folio_list(self, n, sc, ignore_references):
        """Reclaim from the first ``n`` of ``folio``; how many are left, at its front. Linux: shrink_folio_list().

        ``nr_reclaimed`` pages have become free on their node, ``nr_demoted`` of them have moved to another.
        """
        i: cython.Py_ssize_t
        self.nr_left = self.nr_reclaimed = self.nr_demote = self.nr_demoted = 0
        self.demoting = False
        if n and self.demotion.enabled and not sc.no_demotion:
            self.demoting = self.demotion.can_demote(self.buddy.zone[self.frames.zone_of(self.folio[0])].nid)
        self.shrink_folios(n, sc, ignore_references)
        if self.nr_demote:
            self.demote_folios(sc, ignore_references)
        for i in range(self.nr_left):
            self.folio[i] = self.kept[i]
        return self.nr_left

    def demote_folios(self, sc, ignore_references):
        """Move those that are to be demoted; others are reclaimed after all, unless nobody is in need of it."""
        i: cython.Py_ssize_t
        nid: cython.int = self.buddy.zone[self.frames.zone_of(self.demote[0])].nid
        n: cython.long = self.demotion.demote_folio_list(self.demote, self.nr_demote, nid)
        self.nr_demoted = self.demotion.nr_demoted
        self.nr_reclaimed += self.nr_demoted
        self.cpu_ns += self.demotion.migration.cpu_ns
        self.demotion.migration.cpu_ns = 0
        self.demoting = False
        if sc.proactive:
            for i in range(n):
                self.note_result(self.demote[i], _KEEP)
            return
        for i in range(n):
            self.folio[i] = self.demote[i]
        self.shrink_folios(n, sc, ignore_references)

    def shrink_folios(self, n, sc, ignore_references):
        """The loop of it: each of the first ``n`` of ``folio`` is freed, or goes to ``kept`` or ``demote``."""
        i: cython.Py_ssize_t
        pfn: cython.long
        first: cython.long
        result: cython.int
        for i in range(n):
            self.prefetch(i, n)
            pfn = self.folio[i]
            result = self.shrink_folio(pfn, sc, ignore_references)
            if result != _SPLIT:
                self.note_result(pfn, result)
                continue
            first = self.frames.folio_pfn(pfn)
            for pfn in range(first, first + self.nr_split):
                if self.frames.page[pfn].flags & (PG_ANON | PG_SWAPBACKED):
                    self.note_result(pfn, self.shrink_folio(pfn, sc, ignore_references))

    def note_result(self, pfn, result):
        """What became of a page: it is free, will move, or is kept for its list."""
        if result == _DEMOTE:
            self.demote[self.nr_demote] = cython.cast(cython.uint, pfn)
            self.nr_demote += 1
            return
        if result == _FREED:
            return
        if result == _ACTIVATE:
            self.activate(pfn)
        self.kept[self.nr_left] = cython.cast(cython.uint, pfn)
        self.nr_left += 1

    def referenced(self, pfn):
        """Whether a page was accessed through page tables; they forget it."""
        if self.frames.page[pfn].mapcount == 0 or self.frames.page[pfn].flags & PG_MLOCKED:
            return False
        self.cpu_ns += self.cost_referenced
        return self.rmap.folio_referenced(pfn) != 0

    def reclaim_pages(self, pfns: cython.long[::1], sc: ScanControl):
        """Reclaim pages whatever their use; how many went. Linux: reclaim_pages(), after folio_isolate_lru()."""
        i: cython.Py_ssize_t = 0
        n: cython.long
        left: cython.long
        pfn: cython.long
        done: cython.long = 0
        with cython.nogil:
            while i < pfns.shape[0]:
                n = 0
                while i < pfns.shape[0] and n < _LIST_MAX and (n == 0 or pfns[i] < self.frames.huge):
                    pfn = pfns[i]
                    i += 1
                    if self.frames.page[pfn].flags & (PG_LRU | PG_UNEVICTABLE) == PG_LRU:
                        self.lru.del_page(pfn)
                        self.frames.page[pfn].flags &= ~PG_ACTIVE
                        self.folio[n] = cython.cast(cython.uint, pfn)
                        n += 1
                left = self.shrink_folio_list(n, sc, True)
                done += self.nr_reclaimed
                for n in range(left):
                    self.lru.add(self.folio[n], False)
        return done
