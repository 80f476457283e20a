# cython: language_level=3
"""The buddy allocator: free lists per zone, order and migratetype, and the per-CPU lists in front of them.

Orders 0 to 8 are linked through page records, orders 9 and 10 through pageblock records. Memory that was
never touched is not linked at all: it stands as extents at the end of its zone's MAX_PAGE_ORDER list and
becomes a free block of order 10 when the list before it is empty, which is what Linux's deferred
initialisation of struct pages amounts to.

Everything here is mechanism. Which node, zone and migratetype an allocation wants, and what happens when it
fails, is decided by mm/page_alloc.py.

Linux: mm/page_alloc.c, __rmqueue() .. free_unref_page_commit(), get_page_from_freelist().

Simplified: no CMA, no page shuffling, no unaccepted memory; locks never fail.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import view
from mmfs.mm_types import PCP_DTYPE, ZONE_DTYPE

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_NORMAL = cython.declare(cython.int, 0)
_CLAIM = cython.declare(cython.int, 1)
_STEAL = cython.declare(cython.int, 2)
_EXTENTS_PER_ZONE = cython.declare(cython.long, 256)


class Buddy:
    """The free memory of a machine.

    ``zones`` [nr_zones] ZONE_DTYPE, ``pcps`` [nr_cpus * nr_zones] PCP_DTYPE, ``nr_free_counts``
    [nr_zones * 11 * 5] blocks per order and migratetype, ``zonelists`` [nodes, ...] zone rows ended by -1,
    ``lowmem_reserves`` [nr_zones, 5]; counters go to the arrays of the VmStat. ``cpu`` is the CPU that
    runs: its per-CPU lists serve, its node is the local one.
    """

    def __init__(self, frames, vmstat, nr_nodes, nr_cpus):
        self.frames = frames
        self.nr_zones = nr_nodes * MAX_NR_ZONES
        self.nr_cpus = nr_cpus
        self.zones = np.zeros(self.nr_zones, ZONE_DTYPE)
        self.pcps = np.zeros(nr_cpus * self.nr_zones, PCP_DTYPE)
        self.nr_free_counts = np.zeros(self.nr_zones * NR_PAGE_ORDERS * MIGRATE_TYPES, np.int64)
        self.extents = np.zeros((self.nr_zones * _EXTENTS_PER_ZONE, 2), np.int64)
        self.zonelists = np.full((nr_nodes, self.nr_zones + 1), -1, np.int32)
        self.lowmem_reserves = np.zeros((self.nr_zones, MAX_NR_ZONES), np.int64)
        self.cpu_nodes = np.zeros(nr_cpus, np.int32)
        self.zone = view(self.zones)
        self.pcp = view(self.pcps)
        self.nr_free = view(self.nr_free_counts)
        self.extent = view(self.extents)
        self.zonelist = view(self.zonelists)
        self.lowmem_reserve = view(self.lowmem_reserves)
        self.cpu_node = view(self.cpu_nodes)
        self.zone_stat = view(vmstat.zone_stat)
        self.numa_event = view(vmstat.numa_event)
        self.event = view(vmstat.event)
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
        self.zones["virgin"] = self.zones["virgin_end"] = np.arange(self.nr_zones) * _EXTENTS_PER_ZONE
        self.cpu = 0
        self.nr_online_nodes = nr_nodes
        self.watermark_boost_factor = 15000
        self.wake_kswapd = False
        self.grouping_disabled = False
        self.whole_blocks = False
        self._make_lists()

    @staticmethod
    def heads_needed(nr_nodes, nr_cpus):
        """How many page and pageblock list heads the free lists take."""
        zones = nr_nodes * MAX_NR_ZONES
        return (
            zones * PAGEBLOCK_ORDER * MIGRATE_TYPES + nr_cpus * zones * NR_PCP_LISTS,
            zones * (NR_PAGE_ORDERS - PAGEBLOCK_ORDER) * MIGRATE_TYPES,
        )

    def _make_lists(self):
        i: cython.long
        n: cython.long = self.nr_zones * PAGEBLOCK_ORDER * MIGRATE_TYPES
        self.page_heads = self.frames.next_page_head
        self.pcp_heads = self.page_heads + n
        for i in range(n + self.nr_cpus * self.nr_zones * NR_PCP_LISTS):
            self.frames.new_page_head()
        self.block_heads = self.frames.next_block_head
        for i in range(self.nr_zones * (NR_PAGE_ORDERS - PAGEBLOCK_ORDER) * MIGRATE_TYPES):
            self.frames.new_block_head()

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
        MAX_PAGE_ORDER become an extent and cost nothing.
        """
        order: cython.int
        pfn: cython.long = start
        limit: cython.long = end
        whole: cython.long
        while pfn < limit:
            order = MAX_PAGE_ORDER
            while (pfn & ((1 << order) - 1)) or pfn + (1 << order) > limit:
                order -= 1
            if order == MAX_PAGE_ORDER:
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
        head = self.block_heads + (zone * 2 + order - PAGEBLOCK_ORDER) * MIGRATE_TYPES + mt
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
        head = self.block_heads + (zone * 2 + order - PAGEBLOCK_ORDER) * MIGRATE_TYPES + mt
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
        return order >= PAGEBLOCK_ORDER // 2 or mt == MIGRATE_RECLAIMABLE or mt == MIGRATE_UNMOVABLE

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

    def rmqueue_mode(self, zone, order, mt, alloc_flags):
        """Linux: __rmqueue(); ``mode`` remembers over a bulk where pages were found."""
        pfn: cython.long
        if self.mode == _NORMAL:
            pfn = self.rmqueue_smallest(zone, order, mt)
            if pfn >= 0:
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

    def free_pcppages_bulk(self, zone, slot, count, pindex):
        """Return pages of a per-CPU list to the buddy, list by list from ``pindex``. Linux: free_pcppages_bulk()."""
        heads: cython.long = self.pcp_heads + slot * NR_PCP_LISTS
        head: cython.long
        pfn: cython.long
        order: cython.int
        count = min(count, cython.cast(cython.long, self.pcp[slot].count))
        pindex -= 1
        while count > 0:
            pindex += 1
            if pindex > NR_PCP_LISTS - 1:
                pindex = 0
            head = heads + pindex
            order = PAGEBLOCK_ORDER if pindex >= NR_LOWORDER_PCP_LISTS else pindex // MIGRATE_PCPTYPES
            while count > 0 and self.frames.page[head].prv != cython.cast(cython.uint, head):
                pfn = self.frames.page[head].prv
                self.frames.page_list_del(pfn)
                self.frames.page[pfn].flags = 0
                count -= 1 << order
                self.pcp[slot].count -= 1 << order
                self.free_one_page(zone, pfn, order, self.frames.block[pfn >> PAGEBLOCK_ORDER].migratetype, False)

    def nr_pcp_free(self, slot, batch, high, free_high):
        """Linux: nr_pcp_free()."""
        if free_high:
            return min(self.pcp[slot].count, batch << PCP_BATCH_SCALE_MAX)
        if high < batch:
            return 1
        return min(max(self.pcp[slot].free_count, batch), high - batch)

    def nr_pcp_high(self, slot, zone, batch, free_high):
        """Linux: nr_pcp_high()."""
        low: cython.int = self.pcp[slot].high_min
        top: cython.int = self.pcp[slot].high_max
        high: cython.int = min(max(self.pcp[slot].high, low), top)
        burst: cython.int = max(self.pcp[slot].free_count, batch)
        self.pcp[slot].high = high
        if high == 0:
            return 0
        if free_high:
            self.pcp[slot].high = max(high - (batch << PCP_BATCH_SCALE_MAX), low)
            return 0
        if self.zone[zone].reclaim_active:
            self.pcp[slot].high = max(high - burst, low)
            return min(batch << 2, self.pcp[slot].high)
        if low == top:
            return high
        if self.zone[zone].below_high:
            self.pcp[slot].high = max(high - burst, low)
            high = max(self.pcp[slot].count, low)
        elif self.pcp[slot].count >= high:
            burst = self.pcp[slot].free_count + batch
            if self.pcp[slot].high < burst:
                self.pcp[slot].high = min(max(burst, low), top)
        return high

    def free(self, pfn, order):
        """Free a block. Linux: free_unref_page(), free_unref_page_commit(), __free_pages_ok()."""
        b: cython.long = pfn >> PAGEBLOCK_ORDER
        zone: cython.long = self.frames.block[b].zone
        mt: cython.int = self.frames.block[b].migratetype
        slot: cython.long
        batch: cython.int
        high: cython.int
        pindex: cython.int
        free_high: cython.bint = False
        self.event[PGFREE] += 1 << order
        if (order > PAGE_ALLOC_COSTLY_ORDER and order != PAGEBLOCK_ORDER) or mt == MIGRATE_ISOLATE:
            self.free_one_page(zone, pfn, order, mt, False)
            return
        if mt >= MIGRATE_PCPTYPES:
            mt = MIGRATE_MOVABLE
        slot = self.cpu * self.nr_zones + zone
        self.pcp[slot].alloc_factor >>= 1
        if order == PAGEBLOCK_ORDER:
            pindex = NR_LOWORDER_PCP_LISTS + (mt == MIGRATE_MOVABLE)
        else:
            pindex = MIGRATE_PCPTYPES * order + mt
        self.frames.page[pfn].flags = PG_PCP
        self.frames.page_list_add(self.pcp_heads + slot * NR_PCP_LISTS + pindex, pfn)
        self.pcp[slot].count += 1 << order
        batch = self.pcp[slot].batch
        if order != 0 and order <= PAGE_ALLOC_COSTLY_ORDER:
            free_high = (
                self.pcp[slot].free_count >= batch
                and (self.pcp[slot].flags & PCPF_PREV_FREE_HIGH_ORDER) != 0
                and (not self.pcp[slot].flags & PCPF_FREE_HIGH_BATCH or self.pcp[slot].count >= batch)
            )
            self.pcp[slot].flags |= PCPF_PREV_FREE_HIGH_ORDER
        else:
            self.pcp[slot].flags &= ~PCPF_PREV_FREE_HIGH_ORDER
        if self.pcp[slot].free_count < batch << PCP_BATCH_SCALE_MAX:
            self.pcp[slot].free_count += 1 << order
        high = self.nr_pcp_high(slot, zone, batch, free_high)
        if self.pcp[slot].count >= high:
            self.free_pcppages_bulk(zone, slot, self.nr_pcp_free(slot, batch, high, free_high), pindex)
            if self.zone[zone].below_high and self.watermark_ok(
                zone, 0, self.zone[zone].wmark_high + self.zone[zone].watermark_boost, ZONE_MOVABLE, 0
            ):
                self.zone[zone].below_high = 0

    # ------------------------------------------------------------------------------ allocating

    def nr_pcp_alloc(self, slot, zone, order):
        """How many blocks to take from the buddy at once. Linux: nr_pcp_alloc()."""
        base: cython.int = self.pcp[slot].batch
        low: cython.int = self.pcp[slot].high_min
        top: cython.int = self.pcp[slot].high_max
        high: cython.int = min(max(self.pcp[slot].high, low), top)
        batch: cython.int
        most: cython.int
        self.pcp[slot].high = high
        if high < base:
            return 1
        batch = base if order else base << self.pcp[slot].alloc_factor
        if low != top and not self.zone[zone].below_high:
            high = min(high + batch, top)
            self.pcp[slot].high = high
        if order == 0:
            most = max(high - self.pcp[slot].count - base, base)
            if batch <= most and self.pcp[slot].alloc_factor < PCP_BATCH_SCALE_MAX:
                self.pcp[slot].alloc_factor += 1
            batch = min(batch, most)
        if batch > 1:
            batch = max(batch >> order, 2)
        return batch

    def rmqueue_pcplist(self, zone, order, mt, alloc_flags):
        """Take a block from the running CPU's list, refilled if empty; or -1.

        Linux: rmqueue_pcplist(), __rmqueue_pcplist(), rmqueue_bulk().
        """
        slot: cython.long = self.cpu * self.nr_zones + zone
        head: cython.long
        pfn: cython.long
        i: cython.int
        n: cython.int
        if order == PAGEBLOCK_ORDER:
            head = NR_LOWORDER_PCP_LISTS + (mt == MIGRATE_MOVABLE)
        else:
            head = MIGRATE_PCPTYPES * order + mt
        head += self.pcp_heads + slot * NR_PCP_LISTS
        self.pcp[slot].free_count >>= 1
        if self.frames.page[head].nxt == cython.cast(cython.uint, head):
            n = self.nr_pcp_alloc(slot, zone, order)
            self.mode = _NORMAL
            for i in range(n):
                pfn = self.rmqueue_mode(zone, order, mt, alloc_flags)
                if pfn < 0:
                    break
                self.frames.page[pfn].flags = PG_PCP
                self.frames.page_list_add_tail(head, pfn)
                self.pcp[slot].count += 1 << order
            if self.frames.page[head].nxt == cython.cast(cython.uint, head):
                return -1
        pfn = self.frames.page[head].nxt
        self.frames.page_list_del(pfn)
        self.frames.page[pfn].flags = 0
        self.pcp[slot].count -= 1 << order
        return pfn

    def rmqueue(self, preferred, zone, order, mt, alloc_flags):
        """Take a block from a zone, counted; or -1. Linux: rmqueue(), rmqueue_buddy(), zone_statistics()."""
        pfn: cython.long = -1
        nid: cython.int = self.zone[zone].nid
        if order <= PAGE_ALLOC_COSTLY_ORDER or (order == PAGEBLOCK_ORDER and not self.whole_blocks):
            pfn = self.rmqueue_pcplist(zone, order, mt, alloc_flags)
        if pfn < 0:
            if alloc_flags & ALLOC_HIGHATOMIC:
                pfn = self.rmqueue_smallest(zone, order, MIGRATE_HIGHATOMIC)
            if pfn < 0:
                self.mode = _NORMAL
                pfn = self.rmqueue_mode(zone, order, mt, alloc_flags)
            if pfn < 0 and alloc_flags & (ALLOC_OOM | ALLOC_NON_BLOCK):
                pfn = self.rmqueue_smallest(zone, order, MIGRATE_HIGHATOMIC)
            if pfn < 0:
                return -1
        self.event[PGALLOC_DMA + self.zone[zone].zid] += 1 << order
        self.numa_event[zone, NUMA_LOCAL if nid == self.cpu_node[self.cpu] else NUMA_OTHER] += 1
        if nid == self.zone[preferred].nid:
            self.numa_event[zone, NUMA_HIT] += 1
        else:
            self.numa_event[zone, NUMA_MISS] += 1
            self.numa_event[preferred, NUMA_FOREIGN] += 1
        if self.zone[zone].boosted and alloc_flags & ALLOC_KSWAPD:
            self.zone[zone].boosted = 0
            self.wake_kswapd = True
        return pfn

    def watermark_ok(self, zone, order, mark, highest, alloc_flags):
        """Linux: zone_watermark_fast(), __zone_watermark_ok()."""
        free: cython.long = self.zone_stat[zone, NR_FREE_PAGES] - (1 << order) + 1
        least: cython.long = mark
        o: cython.int
        mt: cython.int
        base: cython.long
        if not alloc_flags & ALLOC_RESERVES:
            free -= self.zone[zone].nr_free_highatomic
        if alloc_flags & ALLOC_MIN_RESERVE:
            least -= least // 2
            if alloc_flags & ALLOC_NON_BLOCK:
                least -= least // 4
        if alloc_flags & ALLOC_OOM:
            least -= least // 2
        if free <= least + self.lowmem_reserve[zone, highest]:
            return False
        if order == 0:
            return True
        for o in range(order, NR_PAGE_ORDERS):
            base = (zone * NR_PAGE_ORDERS + o) * MIGRATE_TYPES
            for mt in range(MIGRATE_PCPTYPES):
                if self.nr_free[base + mt]:
                    return True
            if alloc_flags & (ALLOC_HIGHATOMIC | ALLOC_OOM) and self.nr_free[base + MIGRATE_HIGHATOMIC]:
                return True
        return False

    def reserve_highatomic(self, zone, pfn, order):
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
            self.move_freepages_block(zone, b, mt, MIGRATE_HIGHATOMIC)
            self.zone[zone].nr_reserved_highatomic += PAGEBLOCK_NR_PAGES
            return
        self.frames.block[b].migratetype = MIGRATE_HIGHATOMIC
        if order > PAGEBLOCK_ORDER:
            self.frames.block[b + 1].migratetype = MIGRATE_HIGHATOMIC
        self.zone[zone].nr_reserved_highatomic += 1 << order

    def alloc(self, order, mt, nid, highest, alloc_flags, nodemask):
        """Walk a node's zonelist for a block; the frame number, or -1. Linux: get_page_from_freelist()."""
        i: cython.Py_ssize_t
        zone: cython.long
        preferred: cython.long = -1
        mark: cython.long
        pfn: cython.long
        flags: cython.int = alloc_flags
        while True:
            for i in range(self.nr_zones):
                zone = self.zonelist[nid, i]
                if zone < 0:
                    break
                if self.zone[zone].zid > highest or not nodemask >> self.zone[zone].nid & 1:
                    continue
                if preferred < 0:
                    preferred = zone
                    if self.zone[zone].zid == ZONE_NORMAL and (
                        self.nr_online_nodes <= 1 or self.zone[zone - 1].managed > 0
                    ):
                        flags |= ALLOC_NOFRAGMENT
                elif (
                    flags & ALLOC_NOFRAGMENT
                    and self.nr_online_nodes > 1
                    and self.zone[zone].nid != self.zone[preferred].nid
                ):
                    break
                if not self.zone[zone].below_high:
                    mark = self.zone[zone].wmark_high + self.zone[zone].watermark_boost
                    if not self.watermark_ok(zone, order, mark, highest, flags):
                        self.zone[zone].below_high = 1
                if self.zone[zone].below_high and not flags & ALLOC_NO_WATERMARKS:
                    mark = self.zone[zone].wmark_low if flags & ALLOC_WMARK_LOW else self.zone[zone].wmark_min
                    mark += self.zone[zone].watermark_boost
                    if not self.watermark_ok(zone, order, mark, highest, flags):
                        if not (
                            order == 0
                            and flags & ALLOC_MIN_RESERVE
                            and not flags & ALLOC_WMARK_LOW
                            and self.zone[zone].watermark_boost
                            and self.watermark_ok(zone, 0, self.zone[zone].wmark_min, highest, flags)
                        ):
                            continue
                pfn = self.rmqueue(preferred, zone, order, mt, flags)
                if pfn >= 0:
                    if flags & ALLOC_HIGHATOMIC:
                        self.reserve_highatomic(zone, pfn, order)
                    return pfn
            if not flags & ALLOC_NOFRAGMENT:
                return -1
            flags &= ~ALLOC_NOFRAGMENT

    # ------------------------------------------------------------------------------ whole pageblocks

    def alloc_block(self, alloc_flags):
        """A movable pageblock, its page records untouched, for 512 faults at once; or -1.

        Counted as the 512 single allocations it stands for.
        """
        nid: cython.int = self.cpu_node[self.cpu]
        zone: cython.long
        pfn: cython.long
        self.whole_blocks = True
        pfn = self.alloc(
            PAGEBLOCK_ORDER, MIGRATE_MOVABLE, nid, ZONE_MOVABLE, alloc_flags, ~cython.cast(cython.ulong, 0)
        )
        self.whole_blocks = False
        if pfn < 0:
            return -1
        zone = self.frames.block[pfn >> PAGEBLOCK_ORDER].zone
        if self.zone[zone].nid == nid:
            self.numa_event[zone, NUMA_LOCAL] += PAGEBLOCK_NR_PAGES - 1
            self.numa_event[zone, NUMA_HIT] += PAGEBLOCK_NR_PAGES - 1
        else:
            self.numa_event[zone, NUMA_OTHER] += PAGEBLOCK_NR_PAGES - 1
            self.numa_event[zone, NUMA_MISS] += PAGEBLOCK_NR_PAGES - 1
            self.numa_event[self.zonelist[nid, 0], NUMA_FOREIGN] += PAGEBLOCK_NR_PAGES - 1
        return pfn

    def free_block(self, block):
        """Free a pageblock that alloc_block() gave, its page records still untouched."""
        self.event[PGFREE] += PAGEBLOCK_NR_PAGES
        self.free_one_page(
            self.frames.block[block].zone,
            block << PAGEBLOCK_ORDER,
            PAGEBLOCK_ORDER,
            self.frames.block[block].migratetype,
            False,
        )

    # ------------------------------------------------------------------------------ for mm

    def alloc_pages(self, order, mt, nid, highest, alloc_flags, nodemask=(1 << 64) - 1):
        """Allocate a block: its frame number, or -1. Its page records (order 0: one) are clear."""
        return self.alloc(order, mt, nid, highest, alloc_flags, nodemask)

    def free_pages(self, pfn, order):
        """Free a block whose page records the caller has cleared."""
        self.free(pfn, order)

    def alloc_pages_bulk(self, out: cython.long[::1], mt: cython.int, nid: cython.int, highest: cython.int,
                         alloc_flags: cython.int):
        """Fill ``out`` (int64) with single pages; returns how many there were."""
        i: cython.Py_ssize_t
        n: cython.Py_ssize_t = out.shape[0]
        done: cython.Py_ssize_t = n
        with cython.nogil:
            for i in range(n):
                out[i] = self.alloc(0, mt, nid, highest, alloc_flags, ~cython.cast(cython.ulong, 0))
                if out[i] < 0:
                    done = i
                    break
        return done

    def free_pages_bulk(self, pfns: cython.long[::1]):
        """Free single pages in the order given (int64)."""
        i: cython.Py_ssize_t
        with cython.nogil:
            for i in range(pfns.shape[0]):
                self.free(pfns[i], 0)

    def drain_pages(self, cpu, zone):
        """Return all of a CPU's pages of a zone to the buddy. Linux: drain_pages_zone()."""
        slot: cython.long = cpu * self.nr_zones + zone
        self.free_pcppages_bulk(zone, slot, self.pcp[slot].count, 0)

    def decay_pcp_high(self, cpu, zone):
        """Lower a per-CPU list's high mark and return what is above it. Linux: decay_pcp_high()."""
        slot: cython.long = cpu * self.nr_zones + zone
        low: cython.int = self.pcp[slot].high_min
        batch: cython.int = self.pcp[slot].batch
        drain: cython.int
        if self.pcp[slot].high > low:
            self.pcp[slot].high = max(
                self.pcp[slot].count - (batch << PCP_BATCH_SCALE_MAX),
                self.pcp[slot].high - (self.pcp[slot].high >> 3),
                low,
            )
        drain = self.pcp[slot].count - self.pcp[slot].high
        while drain > 0:
            self.free_pcppages_bulk(zone, slot, min(drain, batch), 0)
            drain -= batch

    def unreserve_highatomic(self, zone, mt, force):
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
            pfn = self.first_free(zone, order, MIGRATE_HIGHATOMIC)
            if pfn < 0:
                continue
            b = pfn >> PAGEBLOCK_ORDER
            size = max(cython.cast(cython.long, PAGEBLOCK_NR_PAGES), cython.cast(cython.long, 1) << order)
            self.zone[zone].nr_reserved_highatomic -= min(size, self.zone[zone].nr_reserved_highatomic)
            if order < PAGEBLOCK_ORDER:
                self.move_freepages_block(zone, b, MIGRATE_HIGHATOMIC, mt)
                return True
            self.del_from_free_list(zone, pfn, order, MIGRATE_HIGHATOMIC)
            self.account_freepages(zone, -(1 << order), MIGRATE_HIGHATOMIC)
            self.frames.block[b].migratetype = mt
            if order > PAGEBLOCK_ORDER:
                self.frames.block[b + 1].migratetype = mt
            self.add_to_free_list(zone, pfn, order, mt, False)
            self.account_freepages(zone, 1 << order, mt)
            return True
        return False

    def free_list(self, zone, order, mt):
        """The blocks of one free list in order, extents left out: for checks and debugging."""
        if order < PAGEBLOCK_ORDER:
            return self.frames.walk_pages(
                self.page_heads + (zone * PAGEBLOCK_ORDER + order) * MIGRATE_TYPES + mt
            )
        return [
            block << PAGEBLOCK_ORDER
            for block in self.frames.walk_blocks(
                self.block_heads + (zone * 2 + order - PAGEBLOCK_ORDER) * MIGRATE_TYPES + mt
            )
        ]

    def pcp_list(self, cpu, zone, pindex):
        """The blocks on one per-CPU list in order: for checks and debugging."""
        return self.frames.walk_pages(self.pcp_heads + (cpu * self.nr_zones + zone) * NR_PCP_LISTS + pindex)
