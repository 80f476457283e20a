# cython: language_level=3
"""Pageblocks that are kept for atomic allocations of high orders.

Linux: mm/page_alloc.c, reserve_highatomic_pageblock(), unreserve_highatomic_pageblock().
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403


class HighAtomic:
    """The reserves of all zones of ``areas``, up to a hundredth of each."""

    def __init__(self, areas):
        self.areas = areas
        self.frames = areas.frames
        self.zone = self.areas.zone

    def reserve(self, zone, pfn, order):
        """Keep the pageblock of a high-order atomic allocation for more of them.

        Linux: reserve_highatomic_pageblock().
        """
        percent: cython.long = self.zone[zone].managed // 100
        b: cython.long = pfn >> PAGEBLOCK_ORDER
        mt: cython.int = self.frames.block[b].migratetype
        if percent < PAGEBLOCK_NR_PAGES:
            return
        percent = (percent + PAGEBLOCK_NR_PAGES - 1) & ~(PAGEBLOCK_NR_PAGES - 1)
        if self.zone[zone].nr_reserved_highatomic >= percent or mt >= MIGRATE_PCPTYPES:
            return
        if order < PAGEBLOCK_ORDER:
            if b << PAGEBLOCK_ORDER < self.zone[zone].start_pfn or (b + 1) << PAGEBLOCK_ORDER > self.zone[zone].end_pfn:
                return
            self.areas.move_freepages_block(zone, b, mt, MIGRATE_HIGHATOMIC)
            self.zone[zone].nr_reserved_highatomic += PAGEBLOCK_NR_PAGES
            return
        self.frames.block[b].migratetype = MIGRATE_HIGHATOMIC
        if order > PAGEBLOCK_ORDER:
            self.frames.block[b + 1].migratetype = MIGRATE_HIGHATOMIC
        self.zone[zone].nr_reserved_highatomic += 1 << order

    def unreserve(self, zone: cython.long, mt: cython.int, force: cython.bint):
        """Give a HighAtomic pageblock back to a migratetype; whether one was found.

        Linux: unreserve_highatomic_pageblock(), for one zone of the list.
        """
        order: cython.int
        pfn: cython.long
        b: cython.long
        size: cython.long
        if not force and self.zone[zone].nr_reserved_highatomic <= PAGEBLOCK_NR_PAGES:
            return False
        for order in range(NR_PAGE_ORDERS):
            pfn = self.areas.first_free(zone, order, MIGRATE_HIGHATOMIC)
            if pfn < 0:
                continue
            b = pfn >> PAGEBLOCK_ORDER
            size = max(cython.cast(cython.long, PAGEBLOCK_NR_PAGES), cython.cast(cython.long, 1) << order)
            self.zone[zone].nr_reserved_highatomic -= min(size, self.zone[zone].nr_reserved_highatomic)
            if order < PAGEBLOCK_ORDER:
                self.areas.move_freepages_block(zone, b, MIGRATE_HIGHATOMIC, mt)
                return True
            self.areas.del_from_free_list(zone, pfn, order, MIGRATE_HIGHATOMIC)
            self.areas.account_freepages(zone, -(1 << order), MIGRATE_HIGHATOMIC)
            self.frames.block[b].migratetype = mt
            if order > PAGEBLOCK_ORDER:
                self.frames.block[b + 1].migratetype = mt
            self.areas.add_to_free_list(zone, pfn, order, mt, False)
            self.areas.account_freepages(zone, 1 << order, mt)
            return True
        return False
