# cython: language_level=3
"""What one run of compaction is after and where it stands, and what zones remember from one run to the next.

Compaction moves pages from the low end of a zone to the high end. The migrate scanner comes from below and takes pages
in use; the free scanner comes from above and takes free pages to move them to; when they meet, the zone is done. A
pageblock in which either found nothing is marked (``skip`` of its record), and the next run starts where the last one
stopped.

Linux: mm/internal.h, struct compact_control; mm/compaction.c, the skip hints and cached positions; struct zone.
"""

from enum import IntEnum

import cython
import numpy as np
from cython import address

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

NR_FREEPAGES_LISTS = PAGEBLOCK_ORDER
_MAX_MIGRATEPAGES = 2 * PAGEBLOCK_NR_PAGES
COMPACT_ZONE_DTYPE = np.dtype(
    [
        ("cached_free_pfn", "i8"),
        ("cached_migrate_pfn", "i8"),
        ("cached_migrate_sync_pfn", "i8"),
        ("init_migrate_pfn", "i8"),
        ("init_free_pfn", "i8"),
        ("considered", "i4"),
        ("defer_shift", "i4"),
        ("order_failed", "i4"),
        ("blockskip_flush", "i4"),
    ]
)


class CompactResult(IntEnum):
    """How a run of compaction ended. Linux: include/linux/compaction.h, enum compact_result."""

    NOT_SUITABLE_ZONE = 0
    SKIPPED = 1
    DEFERRED = 2
    NO_SUITABLE_PAGE = 3
    CONTINUE = 4
    COMPLETE = 5
    PARTIAL_SKIPPED = 6
    CONTENDED = 7
    SUCCESS = 8


class CompactControl:
    """One run of compaction: what for, how hard, and where it stands. Linux: struct compact_control.

    ``freepages``: the heads of the lists, by order, of free pages that were taken; ``pfns``: the ``nr_isolated`` pages
    that are to move. ``order`` -1: all of the zone, for nobody in particular.
    """

    def __init__(self, frames):
        order: cython.int
        self.freepages = frames.next_page_head
        for order in range(NR_FREEPAGES_LISTS):
            frames.new_page_head()
        self.pfns = np.zeros(_MAX_MIGRATEPAGES, np.int64)
        self.pfn = view(self.pfns)
        self.prepare(-1, -1, 0, MIGRATE_SYNC, 0, 0)

    @staticmethod
    def heads_needed(nr_nodes):
        """How many page list heads the controls of a machine take: one a node's kcompactd, one for who waits."""
        return NR_FREEPAGES_LISTS * (nr_nodes + 1)

    def prepare(self, zone, order, gfp, mode, alloc_flags, highest):
        """Begin anew, with nothing special asked for."""
        self.zone = zone
        self.order = self.search_order = order
        self.gfp = gfp
        self.mode = mode
        self.alloc_flags = alloc_flags
        self.highest = highest
        self.migratetype = MIGRATE_MOVABLE
        self.direct = self.proactive = self.whole_zone = False
        self.ignore_skip_hint = self.ignore_block_suitable = self.finish_pageblock = self.begun = False
        self.clear()

    def clear(self):
        """Before a zone is compacted: nothing was done there yet."""
        self.migrate_pfn = self.free_pfn = self.fast_start_pfn = self.last_migrated_pfn = 0
        self.fast_search_fail = self.nr_isolated = self.nr_migratepages = self.nr_freepages = 0
        self.total_migrate_scanned = self.total_free_scanned = 0
        self.update_cached = False

    def freelist_scan_limit(self):
        """How many entries of free lists to look at. Linux: freelist_scan_limit()."""
        return (SWAP_CLUSTER_MAX >> min(self.fast_search_fail, 31)) + 1


class CompactZones:
    """What zones remember (``zones`` COMPACT_ZONE_DTYPE), and the marks of pageblocks."""

    def __init__(self, areas):
        self.areas = areas
        self.frames = areas.frames
        self.zones = np.zeros(areas.nr_zones, COMPACT_ZONE_DTYPE)
        self.zone = view(self.zones)

    def block_in_zone(self, pfn, zone):
        """Whether a pageblock has memory, all of it of the zone. Linux: pageblock_pfn_to_page()."""
        block: cython.long = pfn >> PAGEBLOCK_ORDER
        i: cython.long
        if self.frames.block[block].state != BLK_VIRGIN:
            return self.frames.block[block].zone == zone
        for i in range(self.areas.zone[zone].virgin, self.areas.zone[zone].virgin_end):
            if self.areas.extent[i, 0] <= pfn < self.areas.extent[i, 1]:
                return True
        return False

    def free_order(self, pfn):
        """The order of the free block that begins at the first page of a pageblock, or -1."""
        block: cython.long = pfn >> PAGEBLOCK_ORDER
        if self.frames.block[block].state == BLK_VIRGIN:
            return MAX_PAGE_ORDER if not block & 1 else -1
        if self.frames.block[block].state == BLK_FREE:
            return self.frames.block[block].order
        if self.frames.block[block].state == BLK_SPLIT and self.frames.page[pfn].flags & PG_BUDDY:
            return self.frames.page[pfn].private
        return -1

    def isolation_suitable(self, cc, pfn):
        """Whether a pageblock is worth a look. Linux: isolation_suitable()."""
        return cc.ignore_skip_hint or not self.frames.block[pfn >> PAGEBLOCK_ORDER].skip

    def set_skip(self, pfn):
        """Do not look there again soon. Linux: set_pageblock_skip()."""
        if self.frames.block[pfn >> PAGEBLOCK_ORDER].state != BLK_VIRGIN:
            self.frames.block[pfn >> PAGEBLOCK_ORDER].skip = 1

    def test_and_set_skip(self, cc, pfn):
        """Mark a pageblock; whether it was marked already. Linux: test_and_set_skip()."""
        skip: cython.bint = self.frames.block[pfn >> PAGEBLOCK_ORDER].skip != 0
        if cc.ignore_skip_hint:
            return False
        self.set_skip(pfn)
        return skip

    def update_cached_migrate(self, cc, pfn):
        """The migrate scanner is through with the pageblock before a frame. Linux: update_cached_migrate()."""
        z = address(self.zone[cc.zone])
        pfn = (pfn | PAGEBLOCK_NR_PAGES - 1) + 1
        z.cached_migrate_pfn = max(z.cached_migrate_pfn, pfn)
        if cc.mode != MIGRATE_ASYNC:
            z.cached_migrate_sync_pfn = max(z.cached_migrate_sync_pfn, pfn)

    def update_pageblock_skip(self, zone, pfn, next_pfn):
        """The free scanner is through with a pageblock. Linux: update_pageblock_skip()."""
        self.set_skip(pfn)
        self.zone[zone].cached_free_pfn = min(self.zone[zone].cached_free_pfn, next_pfn)

    def set_cached_migrate(self, zone, pfn):
        """Where both kinds of migrate scanners start next time."""
        self.zone[zone].cached_migrate_pfn = self.zone[zone].cached_migrate_sync_pfn = pfn

    def last_block(self, zone):
        """The first page of a zone's last pageblock."""
        return (self.areas.zone[zone].end_pfn - 1) & ~(PAGEBLOCK_NR_PAGES - 1)

    def reset_cached_positions(self, zone):
        """The next run starts at both ends. Linux: reset_cached_positions()."""
        self.set_cached_migrate(zone, self.areas.zone[zone].start_pfn)
        self.zone[zone].cached_free_pfn = self.last_block(zone)

    # ------------------------------------------------------------------------------ taking marks away

    def reset_isolation_pfn(self, zone, pfn, check_source, check_target):
        """Unmark a pageblock if a sample of it shows pages to move, or free ones. Linux: __reset_isolation_pfn()."""
        block: cython.long = pfn >> PAGEBLOCK_ORDER
        first: cython.long = block << PAGEBLOCK_ORDER
        at: cython.long
        if not self.block_in_zone(pfn, zone):
            return False
        if check_source and check_target and not self.frames.block[block].skip:
            return True
        if not check_source and check_target and self.frames.block[block].migratetype != MIGRATE_MOVABLE:
            return False
        if self.frames.block[block].state != BLK_SPLIT:
            if not (check_source and self.frames.block[block].state == BLK_HUGE) and not (
                check_target and self.free_order(first) >= 0
            ):
                return False
            self.frames.block[block].skip = 0
            return True
        at = first
        while at < first + PAGEBLOCK_NR_PAGES:
            if (check_source and self.frames.page[self.frames.folio_of(at)].flags & PG_LRU) or (
                check_target and self.frames.page[at].flags & PG_BUDDY
            ):
                self.frames.block[block].skip = 0
                return True
            at += 1 << PAGE_ALLOC_COSTLY_ORDER
        return False

    def reset_isolation_suitable(self, zone):
        """Take a zone's marks away if all of it was compacted since. Linux: __reset_isolation_suitable()."""
        z = address(self.zone[zone])
        migrate_pfn: cython.long = self.areas.zone[zone].start_pfn
        free_pfn: cython.long = self.areas.zone[zone].end_pfn - 1
        reset_migrate: cython.long = free_pfn
        reset_free: cython.long = migrate_pfn
        source_set: cython.bint = False
        free_set: cython.bint = False
        if not z.blockskip_flush:
            return
        z.blockskip_flush = 0
        while migrate_pfn < free_pfn:
            if self.reset_isolation_pfn(zone, migrate_pfn, True, source_set) and migrate_pfn < reset_migrate:
                source_set = True
                reset_migrate = migrate_pfn
                z.init_migrate_pfn = reset_migrate
                self.set_cached_migrate(zone, reset_migrate)
            if self.reset_isolation_pfn(zone, free_pfn, free_set, True) and free_pfn > reset_free:
                free_set = True
                reset_free = free_pfn
                z.init_free_pfn = reset_free
                z.cached_free_pfn = reset_free
            migrate_pfn += PAGEBLOCK_NR_PAGES
            free_pfn -= PAGEBLOCK_NR_PAGES
        if reset_migrate >= reset_free:
            self.set_cached_migrate(zone, migrate_pfn)
            z.cached_free_pfn = free_pfn

    # ------------------------------------------------------------------------------ putting off

    def defer(self, zone, order):
        """It has not helped: skip it more often. Linux: defer_compaction()."""
        z = address(self.zone[zone])
        z.considered = 0
        z.defer_shift = min(z.defer_shift + 1, COMPACT_MAX_DEFER_SHIFT)
        z.order_failed = min(z.order_failed, order)

    def deferred(self, zone, order):
        """Whether it is to be skipped this time. Linux: compaction_deferred()."""
        z = address(self.zone[zone])
        limit: cython.int = 1 << z.defer_shift
        if order < z.order_failed:
            return False
        z.considered += 1
        if z.considered >= limit:
            z.considered = limit
            return False
        return True

    def defer_reset(self, zone, order, alloc_success):
        """It has helped, or the allocation has. Linux: compaction_defer_reset()."""
        z = address(self.zone[zone])
        if alloc_success:
            z.considered = z.defer_shift = 0
        if order >= z.order_failed:
            z.order_failed = order + 1

    def restarting(self, zone, order):
        """Whether this is the first try after many that were skipped. Linux: compaction_restarting()."""
        z = address(self.zone[zone])
        return (
            order >= z.order_failed
            and z.defer_shift == COMPACT_MAX_DEFER_SHIFT
            and z.considered >= 1 << z.defer_shift
        )
