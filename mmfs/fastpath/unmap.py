# cython: language_level=3
"""What a page-table entry that goes lets go of.

Linux: mm/memory.c, zap_present_folio_ptes(); mm/rmap.c, folio_remove_rmap_ptes().
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403


class Unmap:
    """One entry less for pages of memory and of files; ``swap`` frees what only swap still has."""

    def __init__(self, rmap):
        self.swap = rmap.swap
        self.huge = rmap.huge
        self.folios = rmap.folios
        self.frames = rmap.frames
        self.memcg = rmap.memcg
        self.mm = self.huge.mm

    def unmap_frames(self, mm, vmflags, pfn, nr):
        """One entry less maps each of ``nr`` frames of a huge page. Linux: folio_remove_rmap_ptes()."""
        folio: cython.long = self.frames.folio_of(pfn)
        if vmflags & VMF_LOCKED:
            self.folios.munlock_folio(folio)
        if not self.frames.page[folio].flags & PG_ANON:
            self.huge.file.remove_rmaps(mm, pfn, nr)
            return
        self.mm[mm].rss_anon -= nr
        self.huge.remove_rmap(pfn, nr)
        if self.frames.page[folio].flags & PG_SWAPCACHE and self.frames.page[folio].mapcount == 0:
            self.swap.free_swap_cache(folio)

    def unmap_page(self, mm, vmflags, pfn):
        """One entry less maps a page; the last frees anonymous memory. Linux: folio_remove_rmap_pte()."""
        if self.frames.page[pfn].flags & PG_TAIL:
            self.unmap_frames(mm, vmflags, pfn, 1)
            return
        if vmflags & VMF_LOCKED:
            self.folios.munlock_folio(pfn)
        self.frames.page[pfn].mapcount -= 1
        if self.frames.page[pfn].flags & PG_ANON:
            self.mm[mm].rss_anon -= 1
            if self.frames.page[pfn].mapcount == 0:
                self.memcg.mod_folio_state(pfn, NR_ANON_MAPPED, -1)
                if self.frames.page[pfn].flags & PG_SWAPCACHE and not self.swap.free_swap(pfn):
                    return
                self.folios.free_page(pfn)
            return
        if self.frames.page[pfn].flags & PG_SWAPBACKED:
            self.mm[mm].rss_shmem -= 1
        else:
            self.mm[mm].rss_file -= 1
        if self.frames.page[pfn].mapcount == 0:
            self.memcg.mod_folio_state(pfn, NR_FILE_MAPPED, -1)
            if self.frames.page[pfn].mapping == 0:
                self.folios.free_page(pfn)
