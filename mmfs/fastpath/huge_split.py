# cython: language_level=3
"""Splitting huge pages into 512 pages, and the queue of those for which that would free memory.

Linux: mm/huge_memory.c, split_huge_page_to_list_to_order(), __split_huge_page(), deferred_split_scan().

Simplified: one queue a node, not one a memory cgroup; shrink_underused finds nothing, as with max_ptes_none = 511.
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_LIST_FLAGS = cython.declare(
    cython.uint,
    PG_REFERENCED | PG_ACTIVE | PG_WORKINGSET | PG_DIRTY | PG_SWAPBACKED | PG_UNEVICTABLE | PG_LRU | PG_YOUNG | PG_IDLE
    | PG_RECLAIM,
)  # fmt: skip


class HugeSplit:
    """Splits; ``huge`` has the pages, ``shmem`` the files that have some, ``rmap`` leads to their entries."""

    def __init__(self, huge, shmem):
        self.huge = huge
        self.shmem = shmem
        self.rmap = shmem.rmap
        self.swap = shmem.swap
        self.frames = huge.frames
        self.lru = huge.lru
        self.event = self.huge.event
        self.stat = self.huge.stat

    def split_folio(self, folio):
        """Make a huge page 512 pages, on its list in its place; those that nobody has are freed at once.

        One that is on no list, for reclaim has taken it off, leaves 512 pages that are on none. False: it is being
        written, and stays as it is. Linux: split_folio().
        """
        block: cython.long = folio - self.frames.huge
        cached: cython.bint = self.frames.page[folio].flags & PG_SWAPCACHE != 0
        pfn: cython.long
        if self.frames.page[folio].flags & PG_WRITEBACK:
            return False
        if self.frames.page[folio].mapping and not self.frames.page[folio].flags & PG_ANON:
            self.split_file(folio)
            return True
        self.rmap.split_pmds(folio)
        if self.frames.block[block].state == BLK_HUGE:
            self.huge.write_frames(block)
        self.huge.forget(folio)
        for pfn in range(block << PAGEBLOCK_ORDER, (block + 1) << PAGEBLOCK_ORDER):
            self.become_page(folio, pfn)
            if cached:
                self.swap.become_page(folio, pfn)
        self.finish(folio)
        for pfn in range(block << PAGEBLOCK_ORDER, (block + 1) << PAGEBLOCK_ORDER):
            if self.frames.page[pfn].mapcount == 0 and (not cached or self.swap.free_swap(pfn)):
                self.huge.folios.free_page(pfn)
        return True

    def split_file(self, folio):
        """The same for one of a file: nothing maps its pages then, and what lies beyond the end of the file is free.

        Linux: __split_huge_page().
        """
        m: cython.long = self.frames.page[folio].mapping
        first: cython.long = self.frames.page[folio].index
        start: cython.long = self.frames.folio_pfn(folio)
        i: cython.long
        self.shmem.unmap(folio, True)
        self.shmem.memcg.mod_folio_state(folio, NR_SHMEM_THPS, -HPAGE_PMD_NR)
        for i in range(HPAGE_PMD_NR):
            self.become_page(folio, start + i)
        self.shmem.split_slots(m, first)
        self.finish(folio)
        for i in range(HPAGE_PMD_NR - 1, -1, -1):
            if first + i >= self.shmem.mapping[m].size:
                self.huge.folios.cache_remove(start + i, 0)
                self.huge.folios.free_page(start + i)

    def finish(self, folio):
        """Its pages take the place of a huge page, which is no more."""
        if self.frames.page[folio].flags & PG_LRU:
            self.replace_on_list(folio)
        self.huge.clear(folio)
        self.event[THP_SPLIT_PAGE] += 1
        self.stat[HPAGE_PMD_ORDER, MTHP_STAT_SPLIT] += 1

    def become_page(self, folio, pfn):
        """A frame is a page of its own from now on. Linux: __split_huge_page_tail()."""
        self.frames.page[pfn].flags = (
            self.frames.page[pfn].flags & ~PG_TAIL | self.frames.page[folio].flags & _LIST_FLAGS
        )
        self.frames.page[pfn].memcg = self.frames.page[folio].memcg
        self.frames.page[pfn].mlock_count = self.frames.page[folio].mlock_count

    def replace_on_list(self, folio):
        """Put the pages where the huge page stands, the first next to be reclaimed. Linux: lru_add_page_tail()."""
        pfn: cython.long = (folio - self.frames.huge) << PAGEBLOCK_ORDER
        after: cython.long = self.frames.page[folio].nxt
        i: cython.long
        self.frames.page_list_del(folio)
        for i in range(HPAGE_PMD_NR):
            self.frames.page_list_add_tail(after, pfn + i)
            after = pfn + i

    # ------------------------------------------------------------------------------ for mm

    def split_huge_page(self, folio: cython.long):
        """split_folio(), for policy."""
        self.split_folio(folio)

    def split_queued(self, nid: cython.int, nr: cython.long):
        """Split the first pages of a node's queue, on which none is in the swap cache; how many.

        Linux: deferred_split_scan().
        """
        head: cython.long = self.huge.queue[nid]
        done: cython.long = 0
        while done < nr and self.frames.block[head].nxt != head:
            self.split_folio(self.frames.huge + self.frames.block[head].nxt)
            done += 1
        return done
