# cython: language_level=3
"""The free scanner of compaction: where moved pages go.

First the free lists are searched for a block near the high end of the zone (`fast_isolate_freepages`); if that finds
none, pageblocks are scanned from above. What is taken stands on the lists of the CompactControl until pages move
there or it is given back.

Linux: mm/compaction.c, isolate_freepages() and its like, compaction_alloc().

Simplified: the fast search looks at blocks below the size of a pageblock only.
"""

import cython
from cython import address

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_ORDER = cython.declare(cython.int, PAGEBLOCK_ORDER - 1)


class FreeScanner:
    """Takes free pages from the zone of a CompactControl."""

    def __init__(self, buddy, zones, vmstat):
        self.buddy = buddy
        self.areas = buddy.areas
        self.frames = buddy.frames
        self.zones = zones
        self.zone_stat = view(vmstat.zone_stat)
        self.event = view(vmstat.event)

    def isolate_free_page(self, cc, pfn, order):
        """Take a free block off its list; False: the zone is short of memory. Linux: __isolate_free_page()."""
        zone: cython.long = cc.zone
        block: cython.long = pfn >> PAGEBLOCK_ORDER
        mt: cython.int = self.frames.block[block].migratetype
        mark: cython.long = self.areas.zone[zone].wmark_min + (1 << order)
        if not self.buddy.watermark_ok_with(zone, 0, mark, 0, ALLOC_CMA, self.zone_stat[zone, NR_FREE_PAGES]):
            return False
        self.areas.del_from_free_list(zone, pfn, order, mt)
        self.areas.account_freepages(zone, -(1 << order), mt)
        if order >= PAGEBLOCK_ORDER - 1 and mt < MIGRATE_PCPTYPES:
            self.areas.move_freepages_block(zone, block, mt, MIGRATE_MOVABLE)
        self.frames.page[pfn].private = order
        self.frames.page_list_add_tail(cc.freepages + order, pfn)
        cc.nr_freepages += 1 << order
        self.event[COMPACT_ISOLATED] += 1 << order
        return True

    def isolate_freepages_block(self, cc, pfn, end, stride):
        """Take free blocks from a part of a pageblock until there are enough; where it stopped.

        Linux: isolate_freepages_block().
        """
        scanned: cython.long = 0
        size: cython.long
        if self.frames.block[pfn >> PAGEBLOCK_ORDER].state != BLK_SPLIT:
            cc.total_free_scanned += (end - pfn + stride - 1) // stride
            return end
        while pfn < end:
            scanned += 1
            if not self.frames.page[pfn].flags & PG_BUDDY:
                pfn += stride
                continue
            size = 1 << self.frames.page[pfn].private
            if not self.isolate_free_page(cc, pfn, self.frames.page[pfn].private):
                break
            scanned += size - 1
            pfn += size
            if cc.nr_migratepages <= cc.nr_freepages:
                break
            pfn += stride - 1
        cc.total_free_scanned += scanned
        return min(pfn, end)

    def suitable_migration_target(self, cc, pfn):
        """Whether to take free pages from a pageblock. Linux: suitable_migration_target()."""
        order: cython.int = cc.order if cc.order > 0 else PAGEBLOCK_ORDER
        if self.zones.free_order(pfn) >= min(order, PAGEBLOCK_ORDER):
            return False
        if cc.ignore_block_suitable or self.frames.block[pfn >> PAGEBLOCK_ORDER].state == BLK_VIRGIN:
            return True
        return self.areas.is_migrate_movable(pfn >> PAGEBLOCK_ORDER)

    # ------------------------------------------------------------------------------ by the free lists

    def next_search_order(self, cc, order):
        """The order to search after this one, -1 when all were searched. Linux: next_search_order()."""
        last: cython.int = min(cc.order - 1, _MAX_ORDER)
        order -= 1
        if order < 0:
            order = last
        if order == cc.search_order:
            cc.search_order -= 1
            if cc.search_order < 0:
                cc.search_order = last
            return -1
        return order

    def fast_isolate_freepages(self, cc):
        """Search the free lists for a block high in the zone. Linux: fast_isolate_freepages()."""
        limit: cython.long = max(1, cc.freelist_scan_limit() >> 1)
        scanned: cython.long = 0
        order_scanned: cython.long
        highest: cython.long = 0
        found: cython.long = -1
        candidate: cython.long
        distance: cython.long = cc.free_pfn - cc.migrate_pfn
        low_pfn: cython.long = (cc.free_pfn - (distance >> 2)) & ~(PAGEBLOCK_NR_PAGES - 1)
        min_pfn: cython.long = (cc.free_pfn - (distance >> 1)) & ~(PAGEBLOCK_NR_PAGES - 1)
        start: cython.bint = cc.free_pfn >= self.zones.zone[cc.zone].init_free_pfn
        head: cython.long
        pfn: cython.long
        order: cython.int
        if cc.order <= 0:
            return
        if start:
            limit = PAGEBLOCK_NR_PAGES >> 1
        cc.search_order = min(cc.order - 1, _MAX_ORDER, cc.search_order)
        order = cc.search_order
        while found < 0 and order >= 0:
            head = self.areas.page_heads + (cc.zone * PAGEBLOCK_ORDER + order) * MIGRATE_TYPES + MIGRATE_MOVABLE
            order_scanned = 0
            candidate = -1
            pfn = self.frames.page[head].prv
            while pfn != head:
                order_scanned += 1
                scanned += 1
                if pfn >= highest:
                    highest = max(pfn & ~(PAGEBLOCK_NR_PAGES - 1), self.areas.zone[cc.zone].start_pfn)
                if pfn >= low_pfn:
                    cc.fast_search_fail = 0
                    cc.search_order = order
                    found = pfn
                    break
                if pfn >= min_pfn and pfn > candidate:
                    candidate = pfn
                    limit >>= 1
                if order_scanned >= limit:
                    break
                pfn = self.frames.page[pfn].prv
            if found < 0 and candidate >= 0:
                found = pfn = candidate
            if pfn != head and self.frames.page[head].nxt != pfn:
                self.frames.page_list_del(head)  # the list begins with this page now: Linux: move_freelist_head()
                self.frames.page_list_add_tail(pfn, head)
            if found >= 0:
                if self.isolate_free_page(cc, found, order):
                    scanned += (1 << order) - 1
                else:
                    order = cc.search_order + 1
                    found = -1
            if cc.nr_freepages >= cc.nr_migratepages:
                break
            if order_scanned >= limit:
                limit = max(1, limit >> 1)
            if found < 0:
                order = self.next_search_order(cc, order)
        self.search_done(cc, found, start, highest, min_pfn)
        cc.total_free_scanned += scanned

    def search_done(self, cc, found, start, highest, min_pfn):
        """The free lists were searched: where the scan goes on. Linux: the end of fast_isolate_freepages()."""
        z = address(self.zones.zone[cc.zone])
        at: cython.long = found
        if found < 0:
            cc.fast_search_fail += 1
            if start and highest >= min_pfn:
                at = cc.free_pfn = highest
            elif start and cc.direct:
                if self.zones.block_in_zone(min_pfn, cc.zone) and self.suitable_migration_target(cc, min_pfn):
                    at = min_pfn
                cc.free_pfn = min_pfn
        if highest and highest >= z.cached_free_pfn:
            z.cached_free_pfn = highest - PAGEBLOCK_NR_PAGES
        if at >= 0:
            self.fast_isolate_around(cc, at)

    def fast_isolate_around(self, cc, pfn):
        """Take more from the pageblock of a free block that was found. Linux: fast_isolate_around()."""
        start: cython.long = max(pfn & ~(PAGEBLOCK_NR_PAGES - 1), self.areas.zone[cc.zone].start_pfn)
        end: cython.long = min((pfn | PAGEBLOCK_NR_PAGES - 1) + 1, self.areas.zone[cc.zone].end_pfn)
        if cc.nr_freepages >= cc.nr_migratepages or (cc.direct and cc.mode == MIGRATE_ASYNC):
            return
        if self.zones.block_in_zone(start, cc.zone) and self.isolate_freepages_block(cc, start, end, 1) == end:
            self.zones.set_skip(start)

    # ------------------------------------------------------------------------------ by the pageblocks

    def isolate_freepages(self, cc):
        """Take as many free pages as are to move, or all there are above the migrate scanner.

        Linux: isolate_freepages().
        """
        start: cython.long
        block: cython.long
        end: cython.long
        low: cython.long
        before: cython.long
        stride: cython.long = SWAP_CLUSTER_MAX if cc.mode == MIGRATE_ASYNC else 1
        self.fast_isolate_freepages(cc)
        if cc.nr_freepages:
            return
        start = cc.free_pfn
        block = start & ~(PAGEBLOCK_NR_PAGES - 1)
        end = min(block + PAGEBLOCK_NR_PAGES, self.areas.zone[cc.zone].end_pfn)
        low = (cc.migrate_pfn | PAGEBLOCK_NR_PAGES - 1) + 1
        while block >= low:
            if (
                self.zones.block_in_zone(block, cc.zone)
                and self.suitable_migration_target(cc, block)
                and self.zones.isolation_suitable(cc, block)
            ):
                before = cc.nr_freepages
                start = self.isolate_freepages_block(cc, start, end, stride)
                if start == end:
                    self.zones.update_pageblock_skip(cc.zone, block, block - PAGEBLOCK_NR_PAGES)
                if cc.nr_freepages >= cc.nr_migratepages:
                    if start >= end:
                        start = block - PAGEBLOCK_NR_PAGES
                    break
                if start < end:
                    break
                stride = 1 if cc.nr_freepages > before else min(cython.cast(cython.long, SWAP_CLUSTER_MAX), stride << 1)
            end = block
            block -= PAGEBLOCK_NR_PAGES
            start = block
        cc.free_pfn = start

    # ------------------------------------------------------------------------------ giving and taking back

    def compaction_alloc(self, cc, order):
        """A free block to move one of this order to, or -1. Linux: compaction_alloc()."""
        at: cython.int = self.first_order(cc, order)
        pfn: cython.long
        if at < 0:
            self.isolate_freepages(cc)
            at = self.first_order(cc, order)
            if at < 0:
                return -1
        pfn = self.frames.page[cc.freepages + at].nxt
        self.frames.page_list_del(pfn)
        while at > order:
            at -= 1
            self.frames.page[pfn + (1 << at)].private = at
            self.frames.page_list_add(cc.freepages + at, pfn + (1 << at))
        self.frames.page[pfn].private = 0
        cc.nr_freepages -= 1 << order
        cc.nr_migratepages -= 1 << order
        return pfn

    def first_order(self, cc, order):
        """The smallest order, from this one on, of which a block was taken, or -1."""
        while order < PAGEBLOCK_ORDER:
            if self.frames.page[cc.freepages + order].nxt != cython.cast(cython.uint, cc.freepages + order):
                return order
            order += 1
        return -1

    def compaction_free(self, cc, pfn):
        """A page that was given was not needed. Linux: compaction_free()."""
        self.frames.page_list_add(cc.freepages, pfn)
        cc.nr_freepages += 1
        cc.nr_migratepages += 1

    def release_free_list(self, cc):
        """Free what was taken and not used; the highest page of it. Linux: release_free_list()."""
        order: cython.int
        pfn: cython.long
        high: cython.long = 0
        for order in range(PAGEBLOCK_ORDER):
            while self.frames.page[cc.freepages + order].nxt != cython.cast(cython.uint, cc.freepages + order):
                pfn = self.frames.page[cc.freepages + order].nxt
                self.frames.page_list_del(pfn)
                self.frames.page[pfn].private = 0
                self.buddy.free(pfn, order)
                high = max(high, pfn)
        cc.nr_freepages = 0
        return high
