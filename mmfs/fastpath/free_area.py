# cython: language_level=3
"""Free lists per zone, order and migratetype: splitting, merging, falling back to other types.

Orders 0 to 8 are linked through page records, orders 9 and 10 through pageblock records. Memory that was
never touched is not linked at all: it stands as extents at the end of its zone's MAX_PAGE_ORDER list and
becomes a free block of order 10 when the list before it is empty, which is what Linux's deferred
initialisation of struct pages amounts to.

Pageblocks of a CMA area (mm/cma.py) have lists of their own, which serve movable pages only: when their free pages are
more than half of all that the zone has, or when there are no others.

Linux: mm/page_alloc.c, __free_one_page(), expand(), __rmqueue() and below, the HighAtomic reserves.

Simplified: no page shuffling, no unaccepted memory.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import view
from mmfs.mm_types import ZONE_DTYPE

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_NORMAL = cython.declare(cython.int, 0)
_CMA = cython.declare(cython.int, 1)
_CLAIM = cython.declare(cython.int, 2)
_STEAL = cython.declare(cython.int, 3)
_BLOCK_ORDERS = cython.declare(cython.long, NR_PAGE_ORDERS - PAGEBLOCK_ORDER)  # orders of whole pageblocks
_EXTENTS_PER_ZONE = cython.declare(cython.long, 256)


class FreeArea:
    """The free blocks of all zones.

    ``zones`` [nr_zones] ZONE_DTYPE, ``nr_free_counts`` [nr_zones * 11 * 5] blocks per order and migratetype,
    ``extents`` [nr_zones * 256, 2] ranges of never-touched frames; NR_FREE_PAGES goes to the VmStat.
    """

    def __init__(self, frames, vmstat, nr_zones):
        self.frames = frames
        self.nr_zones = nr_zones
        self.zones = np.zeros(nr_zones, ZONE_DTYPE)
        self.nr_free_counts = np.zeros(nr_zones * NR_PAGE_ORDERS * MIGRATE_TYPES, np.int64)
        self.extents = np.zeros((nr_zones * _EXTENTS_PER_ZONE, 2), np.int64)
        self.zone = view(self.zones)
        self.nr_free = view(self.nr_free_counts)
        self.extent = view(self.extents)
        self.zone_stat = view(vmstat.zone_stat)
        self.fallbacks = view(
            np.array(
                [
                    [MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE],
                    [MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE],
                    [MIGRATE_UNMOVABLE, MIGRATE_MOVABLE],
                ],
                np.int32,
            )
        )
        self.zones["virgin"] = self.zones["virgin_end"] = np.arange(nr_zones) * _EXTENTS_PER_ZONE
        self.watermark_boost_factor = 15000
        self.grouping_disabled = False
        self.run = 0
        self.page_heads = frames.next_page_head
        self.block_heads = frames.next_block_head
        page_heads, block_heads = self.heads_needed(nr_zones)
        for _ in range(page_heads):
            frames.new_page_head()
        for _ in range(block_heads):
            frames.new_block_head()

    @staticmethod
    def heads_needed(nr_zones):
        """How many page and pageblock list heads the free lists take."""
        return (
            nr_zones * PAGEBLOCK_ORDER * MIGRATE_TYPES,
            nr_zones * _BLOCK_ORDERS * MIGRATE_TYPES,
        )

    # ------------------------------------------------------------------------------ boot

    def init_zone_range(self, zone, start_pfn, end_pfn, migratetype, state):
        """Give the pageblocks of a range their zone, migratetype and state (RESERVED until freed).

        Not for memory that becomes an extent: its records stay untouched until it is first used.
        """
        first = start_pfn >> PAGEBLOCK_ORDER
        last = (end_pfn + PAGEBLOCK_NR_PAGES - 1) >> PAGEBLOCK_ORDER
        blocks = self.frames.blocks[first:last]
        blocks["zone"] = zone
        blocks["migratetype"] = migratetype
        blocks["state"] = state

    def free_range(self, zone, start, end):
        """Hand a range of boot memory to the free lists, at their tails, in the largest aligned blocks.

        Linux: mm/memblock.c, __free_pages_memory(); mm/page_alloc.c, __free_pages_core(). Whole blocks of
        MAX_PAGE_ORDER become an extent and cost nothing, unless all memory is unmovable.
        """
        order: cython.int
        pfn: cython.long = start
        limit: cython.long = end
        whole: cython.long
        while pfn < limit:
            order = MAX_PAGE_ORDER
            while (pfn & ((1 << order) - 1)) or pfn + (1 << order) > limit:
                order -= 1
            if order == MAX_PAGE_ORDER and not self.grouping_disabled:
                whole = limit & ~((1 << MAX_PAGE_ORDER) - 1)
                self._add_extent(zone, pfn, whole)
                pfn = whole
                continue
            if order < PAGEBLOCK_ORDER:
                self.frames.block[pfn >> PAGEBLOCK_ORDER].state = BLK_SPLIT
            self.free_one_page(
                zone, pfn, order, self.frames.block[pfn >> PAGEBLOCK_ORDER].migratetype, True
            )
            pfn += 1 << order

    def _add_extent(self, zone, start, end):
        last: cython.long = self.zone[zone].virgin_end - 1
        if self.zone[zone].virgin <= last and self.extents[last, 1] == start:
            self.extents[last, 1] = end
        else:
            if last + 1 == (zone + 1) * _EXTENTS_PER_ZONE:
                raise ValueError("boot memory is in too many pieces")
            self.extents[last + 1] = (start, end)
            self.zone[zone].virgin_end += 1
        nr: cython.long = end - start
        self.nr_free[(zone * NR_PAGE_ORDERS + MAX_PAGE_ORDER) * MIGRATE_TYPES + MIGRATE_MOVABLE] += nr >> MAX_PAGE_ORDER
        self.account_freepages(zone, nr, MIGRATE_MOVABLE)

    # ------------------------------------------------------------------------------ free lists

    def account_freepages(self, zone, nr, mt):
        """Linux: account_freepages()."""
        if mt == MIGRATE_ISOLATE:
            return
        self.zone_stat[zone, NR_FREE_PAGES] += nr
        if mt == MIGRATE_HIGHATOMIC:
            self.zone[zone].nr_free_highatomic += nr
        elif mt == MIGRATE_CMA:
            self.zone_stat[zone, NR_FREE_CMA_PAGES] += nr

    def is_migrate_movable(self, block):
        """Whether pages of a pageblock are there to be moved. Linux: is_migrate_movable()."""
        mt: cython.int = self.frames.block[block].migratetype
        return mt == MIGRATE_MOVABLE or mt == MIGRATE_CMA

    def is_buddy(self, pfn, order, zone):
        """Whether a free block of exactly this order begins at the frame, in the zone."""
        if order < PAGEBLOCK_ORDER:
            return (
                self.frames.block[pfn >> PAGEBLOCK_ORDER].state == BLK_SPLIT
                and (self.frames.page[pfn].flags & PG_BUDDY) != 0
                and self.frames.page[pfn].private == cython.cast(cython.uint, order)
            )
        b: cython.long = pfn >> PAGEBLOCK_ORDER
        return (
            b < self.frames.nr_blocks
            and self.frames.block[b].state == BLK_FREE
            and self.frames.block[b].order == order
            and self.frames.block[b].zone == zone
        )

    def add_to_free_list(self, zone, pfn, order, mt, tail):
        """Linux: __add_to_free_list(); the caller accounts."""
        head: cython.long
        b: cython.long
        self.nr_free[(zone * NR_PAGE_ORDERS + order) * MIGRATE_TYPES + mt] += 1
        if order < PAGEBLOCK_ORDER:
            head = self.page_heads + (zone * PAGEBLOCK_ORDER + order) * MIGRATE_TYPES + mt
            self.frames.page[pfn].flags = PG_BUDDY
            self.frames.page[pfn].private = order
            if tail:
                self.frames.page_list_add_tail(head, pfn)
            else:
                self.frames.page_list_add(head, pfn)
            return
        b = pfn >> PAGEBLOCK_ORDER
        head = self.block_heads + (zone * _BLOCK_ORDERS + order - PAGEBLOCK_ORDER) * MIGRATE_TYPES + mt
        self.frames.block[b].state = BLK_FREE
        self.frames.block[b].order = order
        if order > PAGEBLOCK_ORDER:
            self.frames.block[b + 1].state = BLK_TAIL
        if tail:
            self.frames.block_list_add_tail(head, b)
        else:
            self.frames.block_list_add(head, b)

    def del_from_free_list(self, zone, pfn, order, mt):
        """Linux: __del_page_from_free_list(). A block of order 9 or 10 is left in its free state."""
        self.nr_free[(zone * NR_PAGE_ORDERS + order) * MIGRATE_TYPES + mt] -= 1
        if order < PAGEBLOCK_ORDER:
            self.frames.page_list_del(pfn)
            self.frames.page[pfn].flags = 0
            self.frames.page[pfn].private = 0
        elif self.frames.block[pfn >> PAGEBLOCK_ORDER].state == BLK_FREE:
            self.frames.block_list_del(pfn >> PAGEBLOCK_ORDER)
        else:
            self.frames.block[pfn >> PAGEBLOCK_ORDER].zone = zone
            self.frames.block[pfn >> PAGEBLOCK_ORDER].migratetype = MIGRATE_MOVABLE
            if MAX_PAGE_ORDER > PAGEBLOCK_ORDER:
                self.frames.block[(pfn >> PAGEBLOCK_ORDER) + 1].zone = zone
                self.frames.block[(pfn >> PAGEBLOCK_ORDER) + 1].migratetype = MIGRATE_MOVABLE
            self.extent[self.zone[zone].virgin, 0] += 1 << MAX_PAGE_ORDER
            if self.extent[self.zone[zone].virgin, 0] >= self.extent[self.zone[zone].virgin, 1]:
                self.zone[zone].virgin += 1

    def first_free(self, zone, order, mt):
        """The block at the front of a free list, or -1."""
        head: cython.long
        first: cython.long
        if order < PAGEBLOCK_ORDER:
            head = self.page_heads + (zone * PAGEBLOCK_ORDER + order) * MIGRATE_TYPES + mt
            first = self.frames.page[head].nxt
            return -1 if first == head else first
        head = self.block_heads + (zone * _BLOCK_ORDERS + order - PAGEBLOCK_ORDER) * MIGRATE_TYPES + mt
        first = self.frames.block[head].nxt
        if first != head:
            return first << PAGEBLOCK_ORDER
        if order == MAX_PAGE_ORDER and mt == MIGRATE_MOVABLE and self.zone[zone].virgin < self.zone[zone].virgin_end:
            return self.extent[self.zone[zone].virgin, 0]
        return -1

    def take_blocks(self, pfn, order):
        """Turn whole pageblocks that left the free lists into page records."""
        b: cython.long = pfn >> PAGEBLOCK_ORDER
        self.frames.block[b].state = BLK_SPLIT
        if order > PAGEBLOCK_ORDER:
            self.frames.block[b + 1].state = BLK_SPLIT

    def expand(self, zone, pfn, low, high, mt):
        """Split a block that left its list, halves to the front of theirs; returns pages put back.

        Linux: expand().
        """
        size: cython.long = cython.cast(cython.long, 1) << high
        added: cython.long = 0
        if high >= PAGEBLOCK_ORDER:
            self.take_blocks(pfn, high)
        while high > low:
            high -= 1
            size >>= 1
            self.add_to_free_list(zone, pfn + size, high, mt, False)
            added += size
        return added

    def rmqueue_smallest(self, zone, order, mt):
        """Linux: __rmqueue_smallest()."""
        o: cython.int
        pfn: cython.long
        for o in range(order, NR_PAGE_ORDERS):
            pfn = self.first_free(zone, o, mt)
            if pfn < 0:
                continue
            self.del_from_free_list(zone, pfn, o, mt)
            self.account_freepages(zone, self.expand(zone, pfn, order, o, mt) - (1 << o), mt)
            return pfn
        return -1

    # ------------------------------------------------------------------------------ fallback

    def can_steal(self, order, mt):
        """Linux: can_steal_fallback()."""
        return (
            order >= PAGEBLOCK_ORDER // 2 or mt == MIGRATE_RECLAIMABLE or mt == MIGRATE_UNMOVABLE
            or self.grouping_disabled
        )  # fmt: skip

    def suitable_fallback(self, zone, order, mt):
        """The migratetype to fall back to at an order, or -1. Linux: find_suitable_fallback()."""
        i: cython.int
        fallback: cython.int
        for i in range(2):
            fallback = self.fallbacks[mt, i]
            if self.first_free(zone, order, fallback) >= 0:
                return fallback
        return -1

    def boost_watermark(self, zone, alloc_flags):
        """Linux: boost_watermark(), and its caller's flag that wakes kswapd."""
        limit: cython.long
        if self.watermark_boost_factor == 0 or PAGEBLOCK_NR_PAGES * 4 > self.zone[zone].managed:
            return
        limit = self.zone[zone].wmark_high * self.watermark_boost_factor // 10000
        if limit == 0:
            return
        limit = max(limit, cython.cast(cython.long, PAGEBLOCK_NR_PAGES))
        self.zone[zone].watermark_boost = min(self.zone[zone].watermark_boost + PAGEBLOCK_NR_PAGES, limit)
        if alloc_flags & ALLOC_KSWAPD:
            self.zone[zone].boosted = 1

    def move_freepages_block(self, zone, block, old_mt, new_mt):
        """Move a SPLIT pageblock's free pages to another type's lists; returns how many.

        Linux: __move_freepages_block().
        """
        pfn: cython.long = block << PAGEBLOCK_ORDER
        end: cython.long = pfn + PAGEBLOCK_NR_PAGES
        order: cython.int
        moved: cython.long = 0
        while pfn < end:
            if self.frames.page[pfn].flags & PG_BUDDY:
                order = self.frames.page[pfn].private
                self.del_from_free_list(zone, pfn, order, old_mt)
                self.add_to_free_list(zone, pfn, order, new_mt, False)
                moved += 1 << order
                pfn += 1 << order
            else:
                pfn += 1
        self.frames.block[block].migratetype = new_mt
        self.account_freepages(zone, -moved, old_mt)
        self.account_freepages(zone, moved, new_mt)
        return moved

    def try_to_steal_block(self, zone, pfn, current_order, order, mt, alloc_flags):
        """Claim the pageblock of a fallback page and allocate from it, or -1. Linux: try_to_steal_block()."""
        b: cython.long = pfn >> PAGEBLOCK_ORDER
        i: cython.long
        free: cython.long = 0
        movable: cython.long = 0
        alike: cython.long
        block_mt: cython.int = self.frames.block[b].migratetype
        if self.frames.block[b].state == BLK_VIRGIN:
            block_mt = MIGRATE_MOVABLE
        if block_mt == MIGRATE_HIGHATOMIC:
            return -1
        if current_order >= PAGEBLOCK_ORDER:
            self.del_from_free_list(zone, pfn, current_order, block_mt)
            self.account_freepages(zone, -(1 << current_order), block_mt)
            for i in range(1 << (current_order - PAGEBLOCK_ORDER)):
                self.frames.block[b + i].migratetype = mt
            self.account_freepages(zone, self.expand(zone, pfn, order, current_order, mt), mt)
            return pfn
        self.boost_watermark(zone, alloc_flags)
        i = b << PAGEBLOCK_ORDER
        if i < self.zone[zone].start_pfn or i + PAGEBLOCK_NR_PAGES > self.zone[zone].end_pfn:
            return -1
        while i < (b + 1) << PAGEBLOCK_ORDER:
            if self.frames.page[i].flags & PG_BUDDY:
                free += 1 << self.frames.page[i].private
                i += 1 << self.frames.page[i].private
                continue
            if self.frames.page[i].flags & PG_LRU:
                movable += 1
            i += 1
        if mt == MIGRATE_MOVABLE:
            alike = movable
        elif block_mt == MIGRATE_MOVABLE:
            alike = PAGEBLOCK_NR_PAGES - (free + movable)
        else:
            alike = 0
        if free + alike >= PAGEBLOCK_NR_PAGES // 2 or self.grouping_disabled:
            self.move_freepages_block(zone, b, block_mt, mt)
            return self.rmqueue_smallest(zone, order, mt)
        return -1

    def rmqueue_claim(self, zone, order, mt, alloc_flags):
        """Linux: __rmqueue_claim(): the largest fallback block, whole pageblock converted."""
        lowest: cython.int = order
        o: cython.int
        fallback: cython.int
        pfn: cython.long
        if order < PAGEBLOCK_ORDER and alloc_flags & ALLOC_NOFRAGMENT:
            lowest = PAGEBLOCK_ORDER
        o = MAX_PAGE_ORDER
        while o >= lowest:
            fallback = self.suitable_fallback(zone, o, mt)
            if fallback >= 0:
                if not self.can_steal(o, mt):
                    break
                pfn = self.try_to_steal_block(zone, self.first_free(zone, o, fallback), o, order, mt, alloc_flags)
                if pfn >= 0:
                    return pfn
            o -= 1
        return -1

    def rmqueue_steal(self, zone, order, mt):
        """Linux: __rmqueue_steal(): the smallest fallback block, the pageblock left as it is."""
        o: cython.int
        fallback: cython.int
        pfn: cython.long
        for o in range(order, NR_PAGE_ORDERS):
            fallback = self.suitable_fallback(zone, o, mt)
            if fallback < 0:
                continue
            pfn = self.first_free(zone, o, fallback)
            self.del_from_free_list(zone, pfn, o, fallback)
            self.account_freepages(zone, self.expand(zone, pfn, order, o, fallback) - (1 << o), fallback)
            return pfn
        return -1

    def begin_bulk(self):
        """The next rmqueue_mode() begins a bulk: nothing is remembered of where pages are found."""
        self.mode = _NORMAL

    def rmqueue_mode(self, zone, order, mt, alloc_flags):
        """Linux: __rmqueue(); ``mode`` remembers over a bulk where pages were found."""
        pfn: cython.long
        if (
            alloc_flags & ALLOC_CMA
            and self.zone_stat[zone, NR_FREE_CMA_PAGES] > self.zone_stat[zone, NR_FREE_PAGES] // 2
        ):
            pfn = self.rmqueue_smallest(zone, order, MIGRATE_CMA)
            if pfn >= 0:
                return pfn
        if self.mode == _NORMAL:
            pfn = self.rmqueue_smallest(zone, order, mt)
            if pfn >= 0:
                return pfn
        if self.mode <= _CMA and alloc_flags & ALLOC_CMA and self.zone_stat[zone, NR_FREE_CMA_PAGES]:
            pfn = self.rmqueue_smallest(zone, order, MIGRATE_CMA)
            if pfn >= 0:
                self.mode = _CMA
                return pfn
        if self.mode <= _CLAIM:
            pfn = self.rmqueue_claim(zone, order, mt, alloc_flags)
            if pfn >= 0:
                self.mode = _NORMAL
                return pfn
        if not alloc_flags & ALLOC_NOFRAGMENT:
            pfn = self.rmqueue_steal(zone, order, mt)
            if pfn >= 0:
                self.mode = _STEAL
                return pfn
        return -1

    def rmqueue_run(self, zone, most, mt, alloc_flags):
        """What single pages of a bulk are, one after the other, as long as they follow each other in memory.

        Returns the first, or -1; there are ``run`` of them, at most ``most``. A block is split onto lists that
        are empty and its parts are taken from their fronts: its pages in order, so it need not be split at all.
        """
        o: cython.int
        low: cython.int
        pfn: cython.long
        self.run = 1
        if self.mode == _NORMAL and not self.zone_stat[zone, NR_FREE_CMA_PAGES]:
            for o in range(NR_PAGE_ORDERS):
                pfn = self.first_free(zone, o, mt)
                if pfn < 0:
                    continue
                low = o
                while cython.cast(cython.long, 1) << low > most:
                    low -= 1
                self.run = cython.cast(cython.long, 1) << low
                self.del_from_free_list(zone, pfn, o, mt)
                self.account_freepages(zone, self.expand(zone, pfn, low, o, mt) - (1 << o), mt)
                return pfn
        return self.rmqueue_mode(zone, 0, mt, alloc_flags)

    # ------------------------------------------------------------------------------ freeing

    def free_one_page(self, zone, pfn, order, mt, to_tail):
        """Merge a block with its free buddies and put it on its list. Linux: __free_one_page()."""
        buddy: cython.long = 0
        buddy_mt: cython.int
        tail: cython.bint = to_tail
        self.account_freepages(zone, cython.cast(cython.long, 1) << order, mt)
        while order < MAX_PAGE_ORDER:
            buddy = pfn ^ (cython.cast(cython.long, 1) << order)
            if not self.is_buddy(buddy, order, zone):
                break
            buddy_mt = mt
            if order >= PAGEBLOCK_ORDER:
                buddy_mt = self.frames.block[buddy >> PAGEBLOCK_ORDER].migratetype
                if buddy_mt != mt and (buddy_mt >= MIGRATE_PCPTYPES or mt >= MIGRATE_PCPTYPES):
                    break
            self.del_from_free_list(zone, buddy, order, buddy_mt)
            if buddy_mt != mt:
                self.frames.block[buddy >> PAGEBLOCK_ORDER].migratetype = mt
            pfn &= buddy
            order += 1
        if not tail and order < MAX_PAGE_ORDER - 1:
            tail = self.is_buddy((buddy & pfn) ^ (cython.cast(cython.long, 2) << order), order + 1, zone)
        self.add_to_free_list(zone, pfn, order, mt, tail)

    def free_list(self, zone, order, mt):
        """The blocks of one free list in order, extents left out: for checks and debugging."""
        if order < PAGEBLOCK_ORDER:
            return self.frames.walk_pages(
                self.page_heads + (zone * PAGEBLOCK_ORDER + order) * MIGRATE_TYPES + mt
            )
        return [
            block << PAGEBLOCK_ORDER
            for block in self.frames.walk_blocks(
                self.block_heads + (zone * _BLOCK_ORDERS + order - PAGEBLOCK_ORDER) * MIGRATE_TYPES + mt
            )
        ]
