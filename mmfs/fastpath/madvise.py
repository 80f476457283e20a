# cython: language_level=3
"""Advice that acts on the pages of an address range: to drop them, to reclaim them, or to read them.

Linux: mm/madvise.c.

Simplified: a large folio is split before pages of it may be freed (MADV_FREE).
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAPPED = cython.declare(cython.ulong, 0x101)  # present, or PROT_NONE with the page kept


class Madvise:
    """The walks, with ``tables`` to descend by."""

    def __init__(self, tables):
        self.tables = tables
        self.mmu = tables.mmu
        self.frames = tables.frames

    def lazyfree_range(self, mm: cython.long, start: cython.long, end: cython.long):
        """Make anonymous pages that one process maps clean and droppable, and forget swapped-out ones.

        Linux: mm/madvise.c, madvise_free_pte_range(); mm/swap.c, lru_lazyfree().
        """
        addr: cython.long = start
        at: cython.long
        stop: cython.long
        pfn: cython.long
        while addr < end:
            at = self.tables.seek_page(mm, addr)
            stop = min(self.tables.next_addr, end)
            if at >= 0:
                while addr < stop:
                    pfn = (self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT
                    if not self.tables.split_folio_at(at):
                        pass
                    elif self.frames.entry[at] != 0 and not self.frames.entry[at] & _MAPPED:
                        self.tables.zap_entry(mm, 0, at)
                    elif (
                        self.frames.entry[at] & _MAPPED
                        and not self.frames.entry[at] & PTE_SPECIAL
                        and self.frames.page[pfn].mapcount == 1
                        and self.frames.page[pfn].flags & PG_ANON
                        and self.frames.page[pfn].flags & PG_SWAPBACKED
                        and not self.frames.page[pfn].flags & PG_UNEVICTABLE
                        and (not self.frames.page[pfn].flags & PG_SWAPCACHE or self.mmu.swap.free_swap(pfn))
                    ):
                        self.frames.page[pfn].flags &= ~PG_DIRTY
                        self.frames.entry[at] &= ~cython.cast(cython.ulong, PTE_ACCESSED | PTE_DIRTY)
                        self.mmu.lru.lazyfree(pfn)
                    at += 1
                    addr += PAGE_SIZE
            addr = stop
        self.mmu.tlb.flush_range(mm, start, end)

    def cold_or_pageout_huge(self, pmd, anon_only, out, n, pageout):
        """The same for a huge page that a PMD entry alone maps: 1 if it is to be reclaimed."""
        folio: cython.long = self.mmu.huge.folio_of_pmd(self.frames.entry[pmd])
        if self.frames.entry[pmd] & PTE_SPECIAL or self.frames.page[folio].mapcount != 1:
            return 0
        if anon_only and not self.frames.page[folio].flags & PG_ANON:
            return 0
        self.frames.entry[pmd] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
        return self.cold_or_pageout_folio(folio, out, n, pageout)

    def cold_or_pageout_folio(self, folio, out, n, pageout):
        """The same for a page that is looked up: 1 if it is to be reclaimed, 0 if it was made inactive."""
        if self.frames.page[folio].flags & PG_ACTIVE:
            self.frames.page[folio].flags |= PG_WORKINGSET
        self.frames.page[folio].flags &= ~(PG_REFERENCED | PG_YOUNG)
        if not pageout:
            self.mmu.lru.deactivate(folio)
            return 0
        out[n] = folio
        return 1

    def whole_folio(self, at, most):
        """The large folio whose frames the entries from ``at`` on, at most so many, map in order; -1 if it is mapped
        elsewhere too, or there is none. Linux: madvise_folio_pte_batch().
        """
        pfn: cython.long = (self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT
        folio: cython.long
        i: cython.long
        if not self.frames.entry[at] & _MAPPED or not self.tables.is_tail(at):
            return -1
        folio = self.frames.folio_of(pfn)
        if pfn != self.frames.folio_pfn(folio) or most < self.frames.nr_pages(folio):
            return -1
        if self.frames.page[folio].mapcount != self.frames.nr_pages(folio):
            return -1
        for i in range(self.frames.nr_pages(folio)):
            if not self.frames.entry[at + i] & _MAPPED or self.frames.entry[at + i] & PTE_SPECIAL:
                return -1
            if cython.cast(cython.long, (self.frames.entry[at + i] & PTE_PFN_MASK) >> PAGE_SHIFT) != pfn + i:
                return -1
        return folio

    def willneed_range(self, mm: cython.long, vma: cython.long, start: cython.long, end: cython.long):
        """Read what [start, end) has in swap, while there is memory. Linux: mm/madvise.c, swapin_walk_pmd_entry()."""
        addr: cython.long = start
        at: cython.long
        stop: cython.long
        entry: cython.ulong
        with cython.nogil:
            while addr < end:
                at = self.tables.seek(mm, addr)
                stop = min(self.tables.next_addr, end)
                while at >= 0 and addr < stop:
                    entry = self.frames.entry[at]
                    if entry != 0 and not entry & _MAPPED and not self.mmu.swap_state.read_ahead_of(vma, addr, entry):
                        stop = end
                        break
                    at += 1
                    addr += PAGE_SIZE
                addr = stop
            self.mmu.swap_state.finish()

    def cold_or_pageout_table(self, at, nr, anon_only, out, n, pageout):
        """The same for what ``nr`` entries from ``at`` on map: how many folios are to be reclaimed."""
        end: cython.long = at + nr
        pfn: cython.long
        i: cython.long
        done: cython.int = 0
        while at < end:
            pfn = self.whole_folio(at, end - at)
            if pfn >= 0:
                nr = self.frames.nr_pages(pfn)
                for i in range(at, at + (0 if pageout else nr)):
                    self.frames.entry[i] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
                done += self.cold_or_pageout_folio(pfn, out, n + done, pageout)
                at += nr
                continue
            pfn = (self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT
            if (
                self.tables.split_folio_at(at)
                and self.frames.entry[at] & _MAPPED
                and not self.frames.entry[at] & PTE_SPECIAL
                and self.frames.page[pfn].mapcount == 1
                and (self.frames.page[pfn].flags & PG_ANON or not anon_only)
            ):
                if not pageout:
                    self.frames.entry[at] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
                done += self.cold_or_pageout_folio(pfn, out, n + done, pageout)
            at += 1
        return done

    def cold_or_pageout_range(self, mm: cython.long, start: cython.long, end: cython.long, anon_only: cython.bint,
                              out: cython.long[::1] = None):
        """Make the pages that [start, end) alone maps inactive, or put them into ``out`` for reclaim; how many then.

        Linux: mm/madvise.c, madvise_cold_or_pageout_pte_range().
        """
        addr: cython.long = start
        at: cython.long
        stop: cython.long
        n: cython.Py_ssize_t = 0
        pageout: cython.bint = out is not None
        while addr < end:
            at = self.tables.seek(mm, addr)
            stop = min(self.tables.next_addr, end)
            if at == HUGE_PMD and addr & (HPAGE_PMD_SIZE - 1) == 0 and stop == self.tables.next_addr:
                n += self.cold_or_pageout_huge(self.tables.pmd, anon_only, out, n, pageout)
            elif at == HUGE_PMD:
                at = self.tables.seek_page(mm, addr)
            if at >= 0:
                n += self.cold_or_pageout_table(at, (stop - addr) >> PAGE_SHIFT, anon_only, out, n, pageout)
            addr = stop
        self.mmu.tlb.flush_range(mm, start, end)
        return n
