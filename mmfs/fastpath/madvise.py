# cython: language_level=3
"""Advice that acts on the pages of an address range: to drop them, to reclaim them, or to read them.

Linux: mm/madvise.c.
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

    # ------------------------------------------------------------------------------ folios

    def folio_batch(self, at, most, anon_only):
        """How many entries from ``at`` on, at most so many, map a folio whole.

        A large folio that they do not map whole is split: 0, look again; unless others seem to map it, or it is being
        written: -n, that many entries are passed over. Linux: madvise_folio_pte_batch().
        """
        folio: cython.long
        nr: cython.long
        if not self.tables.is_tail(at):
            return 1
        folio = self.frames.folio_of(cython.cast(cython.long, (self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT))
        nr = self.tables.pte_batch(at, most)
        if nr == self.frames.nr_pages(folio):
            return nr
        if self.mmu.huge.likely_mapped_shared(folio) or (
            anon_only and not self.frames.page[folio].flags & PG_ANON
        ):
            return -nr
        return 0 if self.mmu.huge_split.split_folio(folio) else -nr

    def split_part(self, pmd, whole):
        """A huge page of which only part is meant (not ``whole``) is split, unless others seem to map it.

        Whether the page is to be taken as a whole. Linux: madvise_free_huge_pmd().
        """
        folio: cython.long = self.mmu.huge.folio_of_pmd(self.frames.entry[pmd])
        if self.frames.entry[pmd] & PTE_SPECIAL or self.mmu.huge.likely_mapped_shared(folio):
            return False
        if not whole:
            self.mmu.huge_split.split_folio(folio)
        return whole

    def seek_part(self, mm, addr, end, anon_only):
        """The index of an address's entry, HUGE_PMD where a huge page is to be taken as a whole, or NO_TABLE.

        A huge page that [addr, end) holds in part is split, as by split_part().
        """
        at: cython.long = self.tables.seek(mm, addr)
        if at != HUGE_PMD:
            return at
        if anon_only and not self.mmu.huge.maps_anon(self.frames.entry[self.tables.pmd]):
            return NO_TABLE
        if self.split_part(self.tables.pmd, addr & (HPAGE_PMD_SIZE - 1) == 0 and end >= self.tables.next_addr):
            return HUGE_PMD
        at = self.tables.seek(mm, addr)
        return NO_TABLE if at == HUGE_PMD else at

    # ------------------------------------------------------------------------------ MADV_FREE

    def lazyfree_range(self, mm: cython.long, start: cython.long, end: cython.long):
        """Make the anonymous folios of [start, end) clean and droppable, and forget swapped-out pages.

        Linux: mm/madvise.c, madvise_free_pte_range(), madvise_free_huge_pmd().
        """
        addr: cython.long = start
        at: cython.long
        stop: cython.long
        folio: cython.long
        while addr < end:
            at = self.seek_part(mm, addr, end, False)
            stop = min(self.tables.next_addr, end)
            if at == HUGE_PMD:
                folio = self.mmu.huge.folio_of_pmd(self.frames.entry[self.tables.pmd])
                self.frames.page[folio].flags &= ~cython.cast(cython.uint, PG_DIRTY)
                self.make_clean(self.tables.pmd, 1)
                self.mmu.lru.lazyfree(folio)
            elif at >= 0:
                self.lazyfree_table(mm, at, at + ((stop - addr) >> PAGE_SHIFT))
            addr = stop
        self.mmu.tlb.flush_range(mm, start, end)

    def lazyfree_table(self, mm, at, end):
        """The same for what the entries [at, end) map."""
        nr: cython.long
        while at < end:
            nr = 1
            if self.frames.entry[at] & _MAPPED and not self.frames.entry[at] & PTE_SPECIAL:
                nr = self.folio_batch(at, end - at, False)
                if nr > 0:
                    self.lazyfree_folio(at, nr)
            elif self.frames.entry[at] != 0 and not self.frames.entry[at] & _MAPPED:
                self.tables.zap_entry(mm, 0, at)
            at += abs(nr)

    def lazyfree_folio(self, at, nr):
        """The same for a folio that ``nr`` entries from ``at`` on map. One that was written before stays if others map
        it, too.
        """
        pfn: cython.long = (self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT
        folio: cython.long = self.frames.folio_of(pfn)
        flags: cython.uint = self.frames.page[folio].flags
        if flags & (PG_SWAPCACHE | PG_DIRTY | PG_KSM):
            if self.frames.page[folio].mapcount != nr:
                return
            if flags & PG_SWAPCACHE and not self.mmu.swap.free_swap(folio):
                return
            self.frames.page[folio].flags &= ~cython.cast(cython.uint, PG_DIRTY)
        self.make_clean(at, nr)
        self.mmu.lru.lazyfree(folio)

    def make_clean(self, at, nr):
        """Have ``nr`` entries forget accesses and writes. Linux: clear_young_dirty_ptes()."""
        i: cython.long
        for i in range(at, at + nr):
            self.frames.entry[i] &= ~cython.cast(cython.ulong, PTE_ACCESSED | PTE_DIRTY)

    # ------------------------------------------------------------------------------ MADV_COLD, MADV_PAGEOUT

    def cold_or_pageout_folio(self, folio, out, n, pageout):
        """One folio: 1 if it is to be reclaimed, 0 if it was made inactive."""
        if self.frames.page[folio].flags & PG_ACTIVE:
            self.frames.page[folio].flags |= PG_WORKINGSET
        self.frames.page[folio].flags &= ~(PG_REFERENCED | PG_YOUNG)
        if not pageout:
            self.mmu.lru.deactivate(folio)
            return 0
        out[n] = folio
        return 1

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

    def cold_or_pageout_table(self, at, end, anon_only, out, n, pageout):
        """The same for what the entries [at, end) map: how many folios are to be reclaimed."""
        pfn: cython.long
        folio: cython.long
        nr: cython.long
        i: cython.long
        done: cython.int = 0
        while at < end:
            nr = 1
            if self.frames.entry[at] & _MAPPED and not self.frames.entry[at] & PTE_SPECIAL:
                nr = self.folio_batch(at, end - at, anon_only)
                pfn = (self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT
                folio = self.frames.folio_of(pfn)
                if nr > 0 and self.frames.page[folio].mapcount == nr and (
                    self.frames.page[folio].flags & PG_ANON or not anon_only
                ):
                    for i in range(at, at + (0 if pageout else nr)):
                        self.frames.entry[i] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
                    done += self.cold_or_pageout_folio(folio, out, n + done, pageout)
            at += abs(nr)
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
            at = self.seek_part(mm, addr, end, anon_only)
            stop = min(self.tables.next_addr, end)
            if at == HUGE_PMD:
                if not pageout:
                    self.frames.entry[self.tables.pmd] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
                n += self.cold_or_pageout_folio(
                    self.mmu.huge.folio_of_pmd(self.frames.entry[self.tables.pmd]), out, n, pageout
                )
            elif at >= 0:
                n += self.cold_or_pageout_table(at, at + ((stop - addr) >> PAGE_SHIFT), anon_only, out, n, pageout)
            addr = stop
        self.mmu.tlb.flush_range(mm, start, end)
        return n
