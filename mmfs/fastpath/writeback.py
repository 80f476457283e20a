# cython: language_level=3
"""Pages on their way to the disk: found dirty, marked as being written, and clean when the disk is done.

Linux: mm/page-writeback.c, write_cache_pages(), __folio_start_writeback(), __folio_end_writeback(); mm/rmap.c,
folio_mkclean().
"""

import cython

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_BIO_MAX_VECS = cython.declare(cython.long, 256)


class Writeback:
    """The loops of writing back."""

    def __init__(self, folios, walker, tlb, vmstat):
        self.frames = folios.frames
        self.buddy = folios.buddy
        self.lru = folios.lru
        self.folios = folios
        self.tlb = tlb
        self.walker = walker
        self.mapping = view(folios.mappings)
        self.memcg = folios.memcg
        self.zone_stat = view(vmstat.zone_stat)
        self.next_index = self.nr_requests = self.nr_bios = self.first_index = 0

    def start(self, pfn):
        """A dirty page will be written. Linux: folio_clear_dirty_for_io(), __folio_start_writeback()."""
        m: cython.long = self.frames.page[pfn].mapping
        zone: cython.long = self.frames.block[pfn >> PAGEBLOCK_ORDER].zone
        self.folios.account_cleaned(pfn)
        self.frames.page[pfn].flags |= PG_WRITEBACK
        self.mapping[m].nr_writeback += 1
        self.memcg.mod_folio_state(pfn, NR_WRITEBACK, 1)
        self.zone_stat[zone, NR_ZONE_WRITE_PENDING] += 1

    def end(self, pfn):
        """A page has been written. Linux: folio_end_writeback(), __folio_end_writeback()."""
        m: cython.long = self.frames.page[pfn].mapping
        zone: cython.long = self.frames.block[pfn >> PAGEBLOCK_ORDER].zone
        if self.frames.page[pfn].flags & PG_RECLAIM:
            self.frames.page[pfn].flags &= ~PG_RECLAIM
            self.lru.rotate(pfn)
        self.frames.page[pfn].flags &= ~PG_WRITEBACK
        self.mapping[m].nr_writeback -= 1
        self.memcg.mod_folio_state(pfn, NR_WRITEBACK, -1)
        self.memcg.mod_folio_state(pfn, NR_WRITTEN, 1)
        self.zone_stat[zone, NR_ZONE_WRITE_PENDING] -= 1

    def write_cache_pages(self, m: cython.long, first: cython.long, last: cython.long, pfns: cython.uint[::1],
                          io_pages: cython.long):
        """Start writing dirty pages among [first, last), as many as ``pfns`` holds; returns how many.

        ``next_index`` is where to go on, ``first_index`` the first page; ``nr_requests`` of at most ``io_pages`` each
        and ``nr_bios`` are what the runs of neighbours come to. Pages that are still being written are left out.
        """
        n: cython.long = 0
        run: cython.long = 0
        i: cython.long
        pfn: cython.long
        limit: cython.long = pfns.shape[0]
        self.nr_requests = self.nr_bios = 0
        last = min(last, self.mapping[m].slots)
        i = first
        with cython.nogil:
            while i < last and n < limit and self.mapping[m].nr_dirty > 0:
                pfn = self.folios.lookup(m, i)
                if pfn < 0 or not self.frames.page[pfn].flags & PG_DIRTY or self.frames.page[pfn].flags & PG_WRITEBACK:
                    run = 0
                    i += 1
                    continue
                self.start(pfn)
                pfns[n] = cython.cast(cython.uint, pfn)
                if n == 0:
                    self.first_index = i
                if run % io_pages == 0:
                    self.nr_requests += 1
                if run % _BIO_MAX_VECS == 0:
                    self.nr_bios += 1
                n += 1
                run += 1
                i += 1
                if i > self.mapping[m].on_disk:
                    self.mapping[m].on_disk = i
        self.next_index = i if n == limit else last
        self.nr_bios = max(self.nr_bios, self.nr_requests)
        return n

    def end_writeback(self, pfns: cython.uint[::1]):
        """The disk is done with these pages."""
        i: cython.Py_ssize_t
        with cython.nogil:
            for i in range(pfns.shape[0]):
                self.end(pfns[i])

    def mkclean(self, mm: cython.long, start: cython.long, end: cython.long):
        """Have the next write to pages that are being written fault, in a shared mapping. Linux: folio_mkclean()."""
        addr: cython.long = start
        at: cython.long
        entry: cython.ulong
        pfn: cython.long
        with cython.nogil:
            while addr < end:
                at = self.walker.lookup(mm, addr)
                if at >= 0:
                    entry = self.frames.entry[at]
                    pfn = (entry & PTE_PFN_MASK) >> PAGE_SHIFT
                    if not entry & PTE_PRESENT or not entry & (PTE_RW | PTE_DIRTY):
                        addr += PAGE_SIZE
                        continue
                    if self.frames.page[pfn].flags & PG_WRITEBACK:
                        self.frames.entry[at] = entry & ~cython.cast(cython.ulong, PTE_RW | PTE_DIRTY)
                        self.tlb.flush_page(mm, addr)
                addr += PAGE_SIZE

    def range_has_writeback(self, m: cython.long, first: cython.long, last: cython.long):
        """Whether any of the pages [first, last) is being written."""
        i: cython.long
        pfn: cython.long
        if self.mapping[m].nr_writeback == 0:
            return False
        for i in range(first, min(last, self.mapping[m].slots)):
            pfn = self.folios.lookup(m, i)
            if pfn >= 0 and self.frames.page[pfn].flags & PG_WRITEBACK:
                return True
        return False
