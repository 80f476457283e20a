# cython: language_level=3
"""Ranges of pageblocks that are emptied: for memory that goes offline, or for a block larger than the buddy's largest.

The free pages of an isolated pageblock (MIGRATE_ISOLATE) stand on lists from which nobody takes any and which are not
counted as free; what is freed in it comes to these. Its other pages are moved away, until all of it is free.

Linux: mm/page_isolation.c; mm/memory_hotplug.c, do_migrate_range().
"""

import cython
from cython import address

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403


class PageIsolation:
    """Isolation of pageblocks. ``spare``: a free page that policy has found, for the next page to go to, or -1.

    ``nr_moved`` and ``nr_failed``: pages of the last migrate_range().
    """

    def __init__(self, migration, vmstat):
        self.migration = migration
        self.buddy = migration.buddy
        self.areas = migration.buddy.areas
        self.frames = migration.frames
        self.event = view(vmstat.event)
        self.spare = -1
        self.nr_failed = self.nr_moved = 0

    # ------------------------------------------------------------------------------ pageblocks

    def unmovable(self, block, movable_zone, migratetype):
        """The first page of a pageblock that cannot move away, or -1. Linux: has_unmovable_pages()."""
        pfn: cython.long = block << PAGEBLOCK_ORDER
        end: cython.long = pfn + PAGEBLOCK_NR_PAGES
        flags: cython.uint
        folio: cython.long
        size: cython.long
        if self.frames.block[block].state == BLK_RESERVED:
            return pfn
        if self.frames.block[block].migratetype == MIGRATE_CMA:
            return -1 if migratetype == MIGRATE_CMA else pfn
        if self.frames.block[block].state != BLK_SPLIT or self.frames.page[self.frames.huge + block].flags & PG_HEAD:
            return -1
        while pfn < end:
            size = 1
            flags = self.frames.page[pfn].flags
            if flags & PG_RESERVED:
                return pfn
            if flags & PG_BUDDY:
                pfn += 1 << self.frames.page[pfn].private
                continue
            if flags & (PG_TAIL | PG_SLAB) == PG_TAIL:
                folio = self.frames.folio_of(pfn)
                flags = self.frames.page[folio].flags
                size = self.frames.folio_pfn(folio) + self.frames.nr_pages(folio) - pfn
            if not movable_zone and not flags & (PG_LRU | PG_PCP | PG_HWPOISON | PG_HUGETLB):
                return pfn
            pfn += size
        return -1

    def split_large_buddy(self, block):
        """A free block that begins before a pageblock ends there from now on. Linux: split_large_buddy()."""
        head: cython.long = block - 1
        zone: cython.long
        mt: cython.int
        if self.frames.block[block].state != BLK_TAIL or self.frames.block[head].state != BLK_FREE:
            return
        zone = self.frames.block[head].zone
        mt = self.frames.block[head].migratetype
        self.areas.del_from_free_list(zone, head << PAGEBLOCK_ORDER, MAX_PAGE_ORDER, mt)
        self.areas.add_to_free_list(zone, head << PAGEBLOCK_ORDER, PAGEBLOCK_ORDER, mt, False)
        self.areas.add_to_free_list(zone, block << PAGEBLOCK_ORDER, PAGEBLOCK_ORDER, mt, False)

    def find_large_buddy(self, pfn):
        """The first frame of the free block that a frame is in; itself if it is not free. Linux: find_large_buddy()."""
        block: cython.long = pfn >> PAGEBLOCK_ORDER
        head: cython.long
        order: cython.int
        if self.frames.block[block].state == BLK_FREE:
            return block << PAGEBLOCK_ORDER
        if self.frames.block[block].state == BLK_SPLIT:
            for order in range(PAGEBLOCK_ORDER):
                head = pfn & ~((cython.cast(cython.long, 1) << order) - 1)
                if self.frames.page[head].flags & PG_BUDDY and self.frames.page[head].private >= order:
                    return head
        return pfn

    def isolate_block(self, block):
        """Take a pageblock's free pages from who could use them. Linux: set_migratetype_isolate()."""
        pfn: cython.long = block << PAGEBLOCK_ORDER
        zone: cython.long = self.frames.block[block].zone
        order: cython.int = self.frames.block[block].order
        mt: cython.int = self.frames.block[block].migratetype
        if self.frames.block[block].state == BLK_SPLIT:
            self.areas.move_freepages_block(zone, block, mt, MIGRATE_ISOLATE)
        elif self.frames.block[block].state == BLK_FREE:
            self.areas.del_from_free_list(zone, pfn, order, mt)
            self.areas.account_freepages(zone, -(cython.cast(cython.long, 1) << order), mt)
            self.areas.add_to_free_list(zone, pfn, order, MIGRATE_ISOLATE, True)
        self.frames.block[block].migratetype = MIGRATE_ISOLATE

    def unisolate_block(self, block, migratetype):
        """Its pages are of a type for everybody again. Linux: unset_migratetype_isolate()."""
        pfn: cython.long = block << PAGEBLOCK_ORDER
        zone: cython.long = self.frames.block[block].zone
        order: cython.int = self.frames.block[block].order
        if self.frames.block[block].migratetype != MIGRATE_ISOLATE:
            return
        if self.areas.grouping_disabled and migratetype < MIGRATE_PCPTYPES:
            migratetype = MIGRATE_UNMOVABLE
        if self.frames.block[block].state == BLK_SPLIT:
            self.areas.move_freepages_block(zone, block, MIGRATE_ISOLATE, migratetype)
        elif self.frames.block[block].state == BLK_FREE:
            self.areas.del_from_free_list(zone, pfn, order, MIGRATE_ISOLATE)
            self.frames.block[block].migratetype = migratetype
            if order > PAGEBLOCK_ORDER:
                self.frames.block[block + 1].migratetype = migratetype
            self.areas.free_one_page(zone, pfn, order, migratetype, True)
        self.frames.block[block].migratetype = migratetype

    # ------------------------------------------------------------------------------ pages

    def split(self, pfn):
        """Make the large folio that a frame belongs to single pages, if it is one. Linux: try_to_split_thp_page()."""
        folio: cython.long = self.frames.page_folio(pfn)
        if folio >= self.frames.huge and self.frames.page[folio].flags & PG_HEAD:
            self.migration.split.split_folio(folio)

    def migrate_page(self, pfn, nid, highest, nodemask):
        """Move a page away: where to, -1: no page is free, -2: it must stay. Linux: alloc_migration_target()."""
        dst: cython.long = self.spare
        self.spare = -1
        if dst < 0:
            dst = self.buddy.alloc(0, MIGRATE_MOVABLE, nid, highest, ALLOC_WMARK_LOW | ALLOC_KSWAPD, nodemask)
        if dst < 0:
            return -1
        self.migration.isolate(pfn)
        if self.migration.migrate_folio(pfn, dst):
            self.event[PGMIGRATE_SUCCESS] += 1
            self.nr_moved += 1
            return dst
        self.migration.putback(pfn)
        self.buddy.free(dst, 0)
        self.event[PGMIGRATE_FAIL] += 1
        self.nr_failed += 1
        return -2

    def migrate_large(self, folio, nid, highest, nodemask):
        """Move a large folio away, or split it where no block is free for it: whether there is nothing more to do.

        Linux: migrate_pages(), try_split_folio().
        """
        nr: cython.long = self.frames.nr_pages(folio)
        dst: cython.long = -1
        if self.migration.moves_whole(folio):
            dst = self.buddy.alloc(
                self.frames.folio_order(folio), MIGRATE_MOVABLE, nid, highest, ALLOC_WMARK_LOW | ALLOC_KSWAPD, nodemask
            )
        if dst < 0:
            if not self.migration.split_large(folio):
                self.nr_failed += 1
                return True
            return False
        self.migration.isolate(folio)
        self.migration.migrate_large(folio, dst)
        self.nr_moved += nr
        return True

    def migrate_range(self, start, end, nid, highest, nodemask):
        """Move what can move out of a range of frames; where it stopped: a page is wanted, and none is free.

        Linux: do_migrate_range().
        """
        pfn: cython.long = start
        block: cython.long
        folio: cython.long
        after: cython.long
        self.nr_failed = self.nr_moved = 0
        while pfn < end:
            block = pfn >> PAGEBLOCK_ORDER
            folio = self.frames.page_folio(pfn)
            if folio >= self.frames.huge and self.frames.page[folio].flags & PG_HEAD:
                after = self.frames.folio_pfn(folio) + self.frames.nr_pages(folio)
                if self.migrate_large(folio, nid, highest, nodemask):
                    pfn = after
                continue
            if self.frames.block[block].state != BLK_SPLIT:
                pfn = (block + 1) << PAGEBLOCK_ORDER
            elif self.frames.page[pfn].flags & PG_BUDDY:
                pfn += 1 << self.frames.page[pfn].private
            elif self.frames.page[pfn].flags & PG_LRU and self.migrate_page(pfn, nid, highest, nodemask) == -1:
                return pfn
            else:
                pfn += 1
        return end

    def next_used(self, start, end):
        """The first frame of a range that is neither free nor of a pool, or ``end``. Linux: scan_movable_pages()."""
        pfn: cython.long = start
        block: cython.long
        while pfn < end:
            block = pfn >> PAGEBLOCK_ORDER
            if (
                self.frames.block[block].state == BLK_FREE
                or self.frames.block[block].state == BLK_TAIL
                or self.frames.block[block].state == BLK_HUGETLB
            ):
                pfn = (block + 1) << PAGEBLOCK_ORDER
            elif self.frames.block[block].state != BLK_SPLIT:
                return pfn
            elif self.frames.page[pfn].flags & PG_BUDDY:
                pfn += 1 << self.frames.page[pfn].private
            elif self.frames.page[pfn].flags & PG_HUGETLB:
                pfn += 1 << self.frames.page[pfn].private
            elif self.frames.page[pfn].flags & (PG_HWPOISON | PG_SWAPBACKED) == PG_HWPOISON:  # and nobody has it
                pfn += 1
            else:
                return pfn
        return end

    # ------------------------------------------------------------------------------ going and coming

    def take_isolated(self, zone, start, end):
        """The free pages of an isolated range leave their lists: they are the caller's. Where the last block ends.

        Linux: isolate_freepages_range().
        """
        pfn: cython.long = start
        block: cython.long
        order: cython.int
        while pfn < end:
            block = pfn >> PAGEBLOCK_ORDER
            if self.frames.block[block].state == BLK_FREE:
                order = self.frames.block[block].order
            elif self.frames.page[pfn].flags & PG_BUDDY:
                order = self.frames.page[pfn].private
            else:
                pfn += 1
                continue
            self.areas.del_from_free_list(zone, pfn, order, MIGRATE_ISOLATE)
            if order >= PAGEBLOCK_ORDER:
                self.areas.take_blocks(pfn, order)
            pfn += cython.cast(cython.long, 1) << order
        return pfn

    def offline_isolated(self, zone, start, end):
        """The free pages of an isolated range are gone; it becomes a hole. Linux: __offline_isolated_pages()."""
        block: cython.long
        self.take_isolated(zone, start, end)
        for block in range(start >> PAGEBLOCK_ORDER, end >> PAGEBLOCK_ORDER):
            b = address(self.frames.block[block])
            b.state = BLK_VIRGIN
            b.migratetype = b.order = b.zone = 0
            b.skip = 0

    def online_range(self, zone, start, end):
        """A hole is free memory from now on, at the tail of the list. Linux: online_pages_range()."""
        pfn: cython.long = start
        while pfn < end:
            self.add_virgin(zone, pfn)
            self.areas.account_freepages(zone, 1 << MAX_PAGE_ORDER, MIGRATE_MOVABLE)
            pfn += 1 << MAX_PAGE_ORDER

    def add_virgin(self, zone, pfn):
        """Frames without records become a movable block of the largest order, at its list's tail; others account."""
        block: cython.long = pfn >> PAGEBLOCK_ORDER
        i: cython.long
        for i in range(block, block + (1 << (MAX_PAGE_ORDER - PAGEBLOCK_ORDER))):
            self.frames.block[i].zone = cython.cast(cython.uchar, zone)
            self.frames.block[i].migratetype = MIGRATE_MOVABLE
        self.areas.add_to_free_list(zone, pfn, MAX_PAGE_ORDER, MIGRATE_MOVABLE, True)
