# cython: language_level=3
"""Splitting folios into pages or smaller folios, and the queue of those for which that would free memory.

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
_FOLIO_FLAGS = cython.declare(cython.uint, PG_UPTODATE | PG_ANON | PG_HEAD)


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
        """Make a folio single pages, on its list in its place; those that nobody has are freed at once.

        One that is on no list, for reclaim has taken it off, leaves pages that are on none. False: it is being
        written, and stays as it is. Linux: split_folio().
        """
        order: cython.int = self.frames.folio_order(folio)
        first: cython.long = self.frames.folio_pfn(folio)
        end: cython.long = first + (cython.cast(cython.long, 1) << order)
        cached: cython.bint = self.frames.page[folio].flags & PG_SWAPCACHE != 0
        pfn: cython.long
        if self.frames.page[folio].flags & PG_WRITEBACK:
            return False
        if self.frames.page[folio].mapping and not self.frames.page[folio].flags & PG_ANON:
            self.split_file(folio)
            return True
        self.unmap_folio(folio, order)
        for pfn in range(first, end):
            self.become_page(folio, pfn)
            if cached:
                self.swap.become_page(folio, pfn)
        if self.frames.page[folio].flags & PG_LRU:
            self.replace_on_list(folio, first, order, 0)
        self.huge.clear(folio, order)
        self.count_split(order)
        for pfn in range(first, end):
            if self.frames.page[pfn].mapcount == 0 and (not cached or self.swap.free_swap(pfn)):
                self.huge.folios.free_page(pfn)
            else:
                self.rmap.mlock_vmas(pfn)
        return True

    def split_file(self, folio):
        """The same for one of a file: nothing maps its pages then, and what lies beyond the end of the file is free.

        Linux: __split_huge_page().
        """
        m: cython.long = self.frames.page[folio].mapping
        first: cython.long = self.frames.page[folio].index
        start: cython.long = self.frames.folio_pfn(folio)
        order: cython.int = self.frames.folio_order(folio)
        nr: cython.long = cython.cast(cython.long, 1) << order
        i: cython.long
        self.shmem.unmap(folio, True)
        self.huge.folios.unmap_mlocked(folio)
        if order == HPAGE_PMD_ORDER:
            self.shmem.memcg.mod_folio_state(folio, NR_SHMEM_THPS, -nr)
        for i in range(nr):
            self.become_page(folio, start + i)
        self.shmem.slots.split(m, first, order)
        if self.frames.page[folio].flags & PG_LRU:
            self.replace_on_list(folio, start, order, 0)
        self.huge.clear(folio, order)
        self.count_split(order)
        for i in range(nr - 1, -1, -1):
            if first + i >= self.shmem.mapping[m].size:
                self.huge.folios.cache_remove(start + i, 0)
                self.huge.folios.free_page(start + i)

    def split_to_order(self, folio, new_order):
        """split_folio() into folios of an order above 1. False: it is a file's, in the swap cache, or not so large.

        Linux: split_folio_to_order().
        """
        order: cython.int = self.frames.folio_order(folio)
        first: cython.long = self.frames.folio_pfn(folio)
        end: cython.long = first + (cython.cast(cython.long, 1) << order)
        nr: cython.long = cython.cast(cython.long, 1) << new_order
        head: cython.uint
        memcg: cython.ushort = self.frames.page[folio].memcg
        gen: cython.ushort
        mapping: cython.uint = self.frames.page[folio].mapping
        pfn: cython.long = first
        if order <= new_order or self.frames.page[folio].flags & (PG_ANON | PG_SWAPCACHE) != PG_ANON:
            return False
        if end > self.frames.mthp_pfns:
            return False
        self.unmap_folio(folio, order)
        head = self.frames.page[folio].flags & _LIST_FLAGS | _FOLIO_FLAGS
        gen = self.frames.page[folio].mlock_count
        if head & PG_LRU:
            self.replace_on_list(folio, first, order, new_order)
        self.huge.clear(folio, order)
        self.count_split(order)
        while pfn < end:
            folio = self.become_folio(pfn, new_order)
            self.frames.page[folio].flags = head
            self.frames.page[folio].mapping = mapping
            self.frames.page[folio].memcg = memcg
            self.frames.page[folio].mlock_count = gen
            if self.frames.page[folio].mapcount == 0:
                self.huge.free(folio)
            pfn += nr
        return True

    def unmap_folio(self, folio, order):
        """Have a folio mapped by entries of its frames only, and off the queue. Linux: unmap_folio()."""
        if order == HPAGE_PMD_ORDER:
            self.rmap.split_pmds(folio)
            if self.frames.block[folio - self.frames.huge].state == BLK_HUGE:
                self.huge.write_frames(folio - self.frames.huge)
        self.huge.folios.unmap_mlocked(folio)
        self.huge.forget(folio)

    def count_split(self, order):
        """A folio was split. Linux: the end of split_huge_page_to_list_to_order()."""
        if order == HPAGE_PMD_ORDER:
            self.event[THP_SPLIT_PAGE] += 1
        self.stat[order, MTHP_STAT_SPLIT] += 1

    def become_page(self, folio, pfn):
        """A frame is a page of its own from now on. Linux: __split_huge_page_tail()."""
        self.frames.page[pfn].flags = (
            self.frames.page[pfn].flags & ~(PG_TAIL | PG_SWAPBACKED) | self.frames.page[folio].flags & _LIST_FLAGS
        )
        self.frames.page[pfn].memcg = self.frames.page[folio].memcg
        self.frames.page[pfn].mlock_count = self.frames.page[folio].mlock_count

    def become_folio(self, pfn, order):
        """The frames from ``pfn`` on are a folio of their own from now on: which. Linux: __split_huge_page_tail()."""
        folio: cython.long = self.frames.large_folio(pfn, order)
        mapcount: cython.int = 0
        i: cython.long
        for i in range(pfn, pfn + (1 << order)):
            self.frames.page[i].mlock_count = cython.cast(cython.ushort, order)
            mapcount += self.frames.page[i].mapcount
        self.frames.page[folio].index = self.frames.page[pfn].index
        self.frames.page[folio].private = 0
        self.frames.page[folio].mapcount = mapcount
        self.stat[order, MTHP_STAT_NR_ANON] += 1
        return folio

    def replace_on_list(self, folio, first, order, new_order):
        """Put what a folio becomes where it stands, the first next to be reclaimed. Linux: lru_add_page_tail()."""
        after: cython.long = self.frames.page[folio].nxt
        pfn: cython.long = first
        part: cython.long
        self.frames.page_list_del(folio)
        while pfn < first + (1 << order):
            part = self.frames.large_folio(pfn, new_order) if new_order else pfn
            self.frames.page_list_add_tail(after, part)
            after = part
            pfn += 1 << new_order

    # ------------------------------------------------------------------------------ for mm

    def split_huge_page(self, folio: cython.long, new_order: cython.int = 0):
        """split_folio() or split_to_order(), for policy."""
        if new_order:
            self.split_to_order(folio, new_order)
        else:
            self.split_folio(folio)

    def split_queued(self, nid: cython.int, nr: cython.long):
        """Split the first folios of a node's queue, on which none is in the swap cache; how many.

        Linux: deferred_split_scan().
        """
        head: cython.long = self.huge.queue[nid]
        done: cython.long = 0
        while done < nr and self.frames.page[head].nxt != cython.cast(cython.uint, head):
            self.split_folio(self.frames.folio_of(self.frames.page[head].nxt))
            done += 1
        return done
