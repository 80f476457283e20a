# cython: language_level=3
"""The migrate scanner of compaction: which pages move.

It takes movable pages from one pageblock, 32 at a time or a whole block. A large request for movable memory begins
with a pageblock that has free blocks already (`fast_find_migrateblock`).

Linux: mm/compaction.c, isolate_migratepages() and its like.

Simplified: huge pages of a pageblock are never moved.
"""

import cython

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403


class MigrateScanner:
    """Takes pages in use from the zone of a CompactControl."""

    def __init__(self, migration, zones, vmstat):
        self.migration = migration
        self.rmap = migration.rmap
        self.frames = migration.frames
        self.zones = zones
        self.areas = zones.areas
        self.event = view(vmstat.event)
        self.unevictable_allowed = True

    def putback(self, cc):
        """Let all pages that were taken go back to their lists. Linux: putback_movable_pages()."""
        i: cython.int
        for i in range(cc.nr_isolated - 1, -1, -1):
            self.migration.putback(cc.pfn[i])
        cc.nr_isolated = 0
        cc.nr_migratepages = 0

    def suitable_migration_source(self, cc, pfn):
        """Whether to take pages from a pageblock. Linux: suitable_migration_source()."""
        if cc.mode != MIGRATE_ASYNC or not cc.direct:
            return True
        if self.frames.block[pfn >> PAGEBLOCK_ORDER].state == BLK_VIRGIN:
            return cc.migratetype == MIGRATE_MOVABLE
        if cc.migratetype == MIGRATE_MOVABLE:
            return self.areas.is_migrate_movable(pfn >> PAGEBLOCK_ORDER)
        return self.frames.block[pfn >> PAGEBLOCK_ORDER].migratetype == cc.migratetype

    def movable(self, cc, pfn):
        """Whether a folio on a list may be taken off it to be moved. Linux: isolate_migratepages_block()."""
        flags: cython.uint = self.frames.page[pfn].flags
        if not flags & PG_LRU or (flags & PG_HEAD and pfn < self.frames.mthp):
            return False
        if not flags & PG_ANON and not cc.gfp & GFP_FS_BIT:
            return False
        if flags & PG_UNEVICTABLE and not self.unevictable_allowed:
            return False
        return cc.mode == MIGRATE_SYNC or not flags & PG_WRITEBACK

    def folio_at(self, pfn):
        """The folio of 4 to 256 pages that begins at a frame, or the frame itself."""
        folio: cython.long = pfn
        if self.frames.page[pfn].flags & (PG_TAIL | PG_SLAB) == PG_TAIL:
            folio = self.frames.folio_of(pfn)
        return folio if folio >= self.frames.mthp and self.frames.folio_pfn(folio) == pfn else pfn

    def skip_isolation_on_order(self, order, target):
        """Whether moving a folio of this order would not help one who wants the other. Linux: mm/compaction.c."""
        return order > 0 and target >= 0 and order >= target

    def isolate_whole(self, cc, low, end):
        """Pass over a pageblock without pages of its own, or of one huge page; pages scanned, or 0: it has some."""
        if self.frames.block[low >> PAGEBLOCK_ORDER].state == BLK_SPLIT:
            return 0
        return 1 << MAX_PAGE_ORDER if self.zones.free_order(low) == MAX_PAGE_ORDER else end - low

    def isolate_migratepages_block(self, cc, low, end):
        """Take pages from [low, end) of a pageblock off their lists; ``migrate_pfn`` is where it stopped.

        Linux: isolate_migratepages_block().
        """
        scanned: cython.long = 0
        isolated: cython.long = 0
        skip_pfn: cython.long = 0
        folio: cython.long
        size: cython.long
        skip_on_failure: cython.bint = cc.direct and cc.mode == MIGRATE_ASYNC
        first: cython.long = -1
        updated: cython.bint = False
        aborted: cython.bint = False
        if low == low & ~(PAGEBLOCK_NR_PAGES - 1) or low == self.areas.zone[cc.zone].start_pfn:
            first = low
            aborted = not self.zones.isolation_suitable(cc, low)
            scanned = 1 if aborted else self.isolate_whole(cc, low, end)
        if skip_on_failure:
            skip_pfn = (low | (1 << cc.order) - 1) + 1
        if aborted or scanned:
            low = end
        while low < end:
            if skip_on_failure and low >= skip_pfn:
                if isolated:
                    break
                skip_pfn = (low | (1 << cc.order) - 1) + 1
            scanned += 1
            if self.frames.page[low].flags & PG_BUDDY:
                size = 1 << self.frames.page[low].private
                scanned += size - 1
                low += size
                continue
            folio = self.folio_at(low)
            size = self.frames.nr_pages(folio)
            scanned += size - 1
            if not self.skip_isolation_on_order(self.frames.folio_order(folio), cc.order) and self.movable(cc, folio):
                if first >= 0 and not updated:
                    updated = True
                    if self.zones.test_and_set_skip(cc, first) and not cc.finish_pageblock:
                        low = end
                        aborted = True
                        break
                self.migration.isolate(folio)
                cc.pfn[cc.nr_isolated] = folio
                cc.nr_isolated += 1
                cc.nr_migratepages += size
                isolated += size
                low += size
                if cc.nr_migratepages >= SWAP_CLUSTER_MAX and not cc.finish_pageblock:
                    break
                continue
            if self.frames.page[low].flags & PG_HUGETLB:
                size = 1 << self.frames.page[low].private
                scanned += size - 1
            low += size - 1
            if skip_on_failure:
                if isolated:
                    self.putback(cc)
                    isolated = 0
                if low < skip_pfn:
                    low = skip_pfn - 1
                    skip_pfn += 1 << cc.order
            low += 1
        low = min(low, end)
        if low == end and (not isolated or cc.finish_pageblock):
            if first >= 0 and not updated:
                self.zones.set_skip(first)
            self.zones.update_cached_migrate(cc, low)
        cc.total_migrate_scanned += scanned
        self.event[COMPACT_ISOLATED] += isolated
        cc.migrate_pfn = low

    # ------------------------------------------------------------------------------ by the free lists

    def reinit_migrate_pfn(self, cc):
        """Where a search that found nothing goes on: at the lowest block found before. Linux: reinit_migrate_pfn()."""
        if cc.fast_start_pfn > 0:
            cc.migrate_pfn = cc.fast_start_pfn
            cc.fast_start_pfn = -1
        return cc.migrate_pfn

    def fast_find_migrateblock(self, cc):
        """The first page of a pageblock low in the zone that has free blocks. Linux: fast_find_migrateblock()."""
        limit: cython.int = cc.freelist_scan_limit()
        scanned: cython.int = 0
        pfn: cython.long = cc.migrate_pfn
        zone_start: cython.long = self.areas.zone[cc.zone].start_pfn
        distance: cython.long = (cc.free_pfn - cc.migrate_pfn) >> 1
        high: cython.long
        head: cython.long
        at: cython.long
        order: cython.int = min(cc.order, PAGEBLOCK_ORDER) - 1
        if cc.ignore_skip_hint or cc.finish_pageblock or (pfn != zone_start and pfn & PAGEBLOCK_NR_PAGES - 1):
            return pfn
        if cc.order <= PAGE_ALLOC_COSTLY_ORDER or (cc.direct and cc.migratetype != MIGRATE_MOVABLE):
            return pfn
        if cc.migrate_pfn != zone_start:
            distance >>= 2
        high = (cc.migrate_pfn + distance) & ~(PAGEBLOCK_NR_PAGES - 1)
        while order >= PAGE_ALLOC_COSTLY_ORDER and scanned < limit:
            head = self.areas.page_heads + (cc.zone * PAGEBLOCK_ORDER + order) * MIGRATE_TYPES + MIGRATE_MOVABLE
            at = self.frames.page[head].nxt
            while at != head:
                scanned += 1
                if scanned > limit:
                    self.move_freelist_tail(head, at)
                    break
                if at < high and not self.frames.block[at >> PAGEBLOCK_ORDER].skip:
                    self.move_freelist_tail(head, at)
                    if cc.fast_start_pfn >= 0:
                        cc.fast_start_pfn = min(cc.fast_start_pfn, at) if cc.fast_start_pfn else at
                    cc.fast_search_fail = 0
                    cc.total_migrate_scanned += scanned
                    return max(at & ~(PAGEBLOCK_NR_PAGES - 1), zone_start)
                at = self.frames.page[at].nxt
            order -= 1
        cc.total_migrate_scanned += scanned
        cc.fast_search_fail += 1
        return self.reinit_migrate_pfn(cc)

    def move_freelist_tail(self, head, pfn):
        """A free list ends with this page from now on. Linux: move_freelist_tail()."""
        if self.frames.page[head].prv != cython.cast(cython.uint, pfn):
            self.frames.page_list_del(head)
            self.frames.page_list_add(pfn, head)

    # ------------------------------------------------------------------------------ by the pageblocks

    def isolate_migratepages(self, cc):
        """Take pages from the next pageblock that has any; whether there are some to move.

        Linux: isolate_migratepages().
        """
        low: cython.long = self.fast_find_migrateblock(cc)
        found: cython.bint = low != cc.migrate_pfn and not cc.fast_search_fail
        block: cython.long = max(low & ~(PAGEBLOCK_NR_PAGES - 1), self.areas.zone[cc.zone].start_pfn)
        end: cython.long = (low | PAGEBLOCK_NR_PAGES - 1) + 1
        while end <= cc.free_pfn:
            if not self.zones.block_in_zone(block, cc.zone):
                pass
            elif low == block and not found and not self.zones.isolation_suitable(cc, block):
                pass
            elif not self.suitable_migration_source(cc, block):
                self.zones.update_cached_migrate(cc, end)
            else:
                self.isolate_migratepages_block(cc, low, end)
                break
            found = False
            cc.migrate_pfn = low = block = end
            end += PAGEBLOCK_NR_PAGES
        return cc.nr_migratepages != 0
