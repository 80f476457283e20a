# cython: language_level=3
"""Idle page tracking: frames are marked idle, and are not any more once somebody has accessed them.

Linux: mm/page_idle.c.
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403


class PageIdle:
    """Marks and looks at frames, by ``rmap``; only those that are on a list of reclaim."""

    def __init__(self, rmap):
        self.rmap = rmap
        self.frames = rmap.frames

    def get_folio(self, pfn):
        """The record of the page of a frame, or -1 if it is none of a user. Linux: page_idle_get_folio()."""
        folio: cython.long = self.frames.page_folio(pfn)
        if folio < 0 or self.frames.folio_pfn(folio) != pfn:
            return -1
        return folio if self.frames.page[folio].flags & PG_LRU else -1

    def clear_young(self, vma, pfn):
        """Whether a VMA's entries say that a page was accessed; they forget it.

        Linux: page_idle_clear_pte_refs_one().
        """
        addr: cython.long = self.rmap.start_address(vma, self.frames.page[pfn].index)
        at: cython.long
        young: cython.bint = False
        while addr < self.rmap.vma[vma].end:
            at = self.rmap.find(self.rmap.vma[vma].mm, addr, pfn)
            if at >= 0 and self.frames.entry[at] & PTE_ACCESSED:
                self.frames.entry[at] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
                young = True
            addr += INDEX_SPAN
        return young

    def clear_young_ksm(self, folio):
        """clear_young() for a page of KSM, of all that map it."""
        at: cython.long
        young: cython.bint = False
        if not self.frames.page[folio].flags & PG_KSM:
            return False
        self.rmap.begin_ksm(folio)
        at = self.rmap.next_ksm(folio)
        while at >= 0:
            if self.frames.entry[at] & PTE_ACCESSED:
                self.frames.entry[at] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
                young = True
            at = self.rmap.next_ksm(folio)
        return young

    def clear_pte_refs(self, folio):
        """Take from page tables what they know of accesses; the page remembers.

        Linux: page_idle_clear_pte_refs().
        """
        link: cython.long
        vma: cython.long
        young: cython.bint = False
        if self.frames.page[folio].mapcount == 0 or self.frames.page[folio].mapping == 0:
            return
        young = self.clear_young_ksm(folio)
        link = self.rmap.first(folio)
        while link:
            vma = self.rmap.chain[link].vma
            link = self.rmap.chain[link].nxt
            young |= (
                self.rmap.large_clear_young(vma, folio, False)
                if folio >= self.frames.huge else self.clear_young(vma, folio)
            )
        if young:
            self.frames.page[folio].flags = self.frames.page[folio].flags & ~PG_IDLE | PG_YOUNG

    def read(self, pfn: cython.long, out: cython.uchar[::1]):
        """Set ``out[i]`` to whether frame ``pfn + i`` is idle. Linux: page_idle_bitmap_read()."""
        i: cython.Py_ssize_t
        folio: cython.long
        with cython.nogil:
            for i in range(out.shape[0]):
                out[i] = 0
                folio = self.get_folio(pfn + i)
                if folio >= 0 and self.frames.page[folio].flags & PG_IDLE:
                    self.clear_pte_refs(folio)
                    out[i] = self.frames.page[folio].flags & PG_IDLE != 0

    def write(self, pfn: cython.long, marks: cython.uchar[::1]):
        """Mark idle each frame ``pfn + i`` for which ``marks[i]`` is not 0. Linux: page_idle_bitmap_write()."""
        i: cython.Py_ssize_t
        folio: cython.long
        with cython.nogil:
            for i in range(marks.shape[0]):
                folio = self.get_folio(pfn + i) if marks[i] else -1
                if folio >= 0:
                    self.clear_pte_refs(folio)
                    self.frames.page[folio].flags |= PG_IDLE
