# cython: language_level=3
"""The page allocator's fast path: per-CPU lists before the free lists, and the walk along a zonelist.

Everything here is mechanism. Which node, zone and migratetype an allocation wants, and what happens when it
fails, is decided by mm/page_alloc.py.

Linux: mm/page_alloc.c, rmqueue_pcplist() .. free_unref_page_commit(), get_page_from_freelist().

Simplified: locks never fail.
"""

import cython
import numpy as np
from cython import address

from mmfs.fastpath.frames import Frames, view
from mmfs.fastpath.free_area import FreeArea
from mmfs.fastpath.highatomic import HighAtomic
from mmfs.mm_types import PCP_DTYPE

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403


class Buddy:
    """Allocation and freeing as the running CPU does it.

    ``areas`` has the zones and their free lists; ``pcps`` [nr_cpus * nr_zones] PCP_DTYPE, ``zonelists``
    [nodes, ...] zone rows ended by -1, ``lowmem_reserves`` [nr_zones, MAX_NR_ZONES]; counters go to the arrays of the
    VmStat. ``cpu`` is the CPU that runs: its per-CPU lists serve, its node is the local one. ``handed``: a page that
    the slow path has found for an access that is tried again, which takes it; else -1.

    ``reclaim_nodes`` [nodes] uint64: nodes to shrink (vm.zone_reclaim_mode) before an allocation that prefers a node
    passes them over; it stops with ``reclaim_zone``, unless the node is one of those in ``reclaimed``.

    ``opt_zone_highmem``: up to which zone unmovable memory that need not be mapped may come from (OPT_ZONE_HIGHMEM);
    ``nofragment_zone``: where pageblocks of another type are left alone as long as the zone below has room.

    ``kswapds_awake``: the nodes, a bit each, whose kswapd works; ``kswapd_highest`` [nodes] int32: up to which zone it
    was asked to since it looked last, MAX_NR_ZONES if it was not.
    """

    def __init__(self, areas, vmstat, nr_nodes, nr_cpus):
        self.areas = areas
        self.highatomic = HighAtomic(areas)
        self.frames = areas.frames
        self.nr_zones = areas.nr_zones
        self.nr_cpus = nr_cpus
        self.zones = areas.zones
        self.pcps = np.zeros(nr_cpus * self.nr_zones, PCP_DTYPE)
        self.zonelists = np.full((nr_nodes, self.nr_zones + 1), -1, np.int32)
        self.lowmem_reserves = np.zeros((self.nr_zones, MAX_NR_ZONES), np.int64)
        self.cpu_nodes = np.zeros(nr_cpus, np.int32)
        self.zone = view(self.zones)
        self.nr_free = view(areas.nr_free_counts)
        self.pcps["batch"] = 1  # boot pagesets, which keep nothing
        self.pcp = view(self.pcps)
        self.zonelist = view(self.zonelists)
        self.lowmem_reserve = view(self.lowmem_reserves)
        self.cpu_node = view(self.cpu_nodes)
        self.zone_stats = vmstat.zone_stat
        self.zone_stat = view(self.zone_stats)
        self.numa_event = view(vmstat.numa_event)
        self.event = view(vmstat.event)
        self.cpu = 0
        self.nr_online_nodes = nr_nodes
        self.opt_zone_highmem = self.nofragment_zone = ZONE_NORMAL
        self.wake_kswapd = False
        self.handed = self.reclaim_zone = -1
        self.reclaim_nodes = np.zeros(nr_nodes, np.uint64)
        self.reclaim_node = view(self.reclaim_nodes)
        self.reclaimed = self.kswapds_awake = 0
        self.mems_allowed = (1 << 64) - 1
        self.kswapd_highest = np.full(nr_nodes, MAX_NR_ZONES, np.int32)
        self.kswapd_highest_zoneidx = view(self.kswapd_highest)
        self.pcp_heads = self.frames.next_page_head
        for _ in range(nr_cpus * self.nr_zones * NR_PCP_LISTS):
            self.frames.new_page_head()

    @staticmethod
    def of_machine(nr_frames, vmstat, nr_nodes, nr_cpus, spare_heads=0):
        """Frames, free areas and per-CPU lists of a machine, with list heads left for others."""
        zones: cython.long = nr_nodes * MAX_NR_ZONES
        page_heads, block_heads = FreeArea.heads_needed(zones)
        page_heads += nr_cpus * zones * NR_PCP_LISTS
        frames = Frames(nr_frames, page_heads + spare_heads, block_heads + spare_heads)
        return Buddy(FreeArea(frames, vmstat, zones), vmstat, nr_nodes, nr_cpus)

    # ------------------------------------------------------------------------------ freeing

    def free_pcppages_bulk(self, zone, slot, count, pindex):
        """Return pages of a per-CPU list to the buddy, list by list from ``pindex``. Linux: free_pcppages_bulk()."""
        p = address(self.pcp[slot])
        heads: cython.long = self.pcp_heads + slot * NR_PCP_LISTS
        head: cython.long
        pfn: cython.long
        order: cython.int
        count = min(count, cython.cast(cython.long, p.count))
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
                if order == PAGEBLOCK_ORDER:
                    pfn = (pfn - self.frames.huge) << PAGEBLOCK_ORDER
                count -= 1 << order
                p.count -= 1 << order
                self.areas.free_one_page(zone, pfn, order, self.frames.block[pfn >> PAGEBLOCK_ORDER].migratetype, False)

    def nr_pcp_free(self, slot, batch, high, free_high):
        """Linux: nr_pcp_free()."""
        p = address(self.pcp[slot])
        if free_high:
            return min(p.count, batch << PCP_BATCH_SCALE_MAX)
        if high < batch:
            return 1
        return min(max(p.free_count, batch), high - batch)

    def nr_pcp_high(self, slot, zone, batch, free_high):
        """Linux: nr_pcp_high()."""
        z = address(self.zone[zone])
        p = address(self.pcp[slot])
        low: cython.int = p.high_min
        top: cython.int = p.high_max
        high: cython.int = min(max(p.high, low), top)
        burst: cython.int = max(p.free_count, batch)
        p.high = high
        if high == 0:
            return 0
        if free_high:
            p.high = max(high - (batch << PCP_BATCH_SCALE_MAX), low)
            return 0
        if z.reclaim_active:
            p.high = max(high - burst, low)
            return min(batch << 2, p.high)
        if low == top:
            return high
        if z.below_high:
            p.high = max(high - burst, low)
            high = max(p.count, low)
        elif p.count >= high:
            burst = p.free_count + batch
            if p.high < burst:
                p.high = min(max(burst, low), top)
        return high

    def free(self, pfn, order):
        """Free a block. Linux: free_unref_page(), free_unref_page_commit(), __free_pages_ok()."""
        b: cython.long = pfn >> PAGEBLOCK_ORDER
        zone: cython.long = self.frames.block[b].zone
        z = address(self.zone[zone])
        mt: cython.int = self.frames.block[b].migratetype
        slot: cython.long
        folio: cython.long = pfn
        batch: cython.int
        high: cython.int
        pindex: cython.int
        free_high: cython.bint = False
        self.event[PGFREE] += 1 << order
        if (order > PAGE_ALLOC_COSTLY_ORDER and order != PAGEBLOCK_ORDER) or mt == MIGRATE_ISOLATE:
            self.areas.free_one_page(zone, pfn, order, mt, False)
            return
        if mt >= MIGRATE_PCPTYPES:
            mt = MIGRATE_MOVABLE
        slot = self.cpu * self.nr_zones + zone
        p = address(self.pcp[slot])
        p.alloc_factor >>= 1
        if order == PAGEBLOCK_ORDER:
            pindex = NR_LOWORDER_PCP_LISTS + (mt == MIGRATE_MOVABLE)
            folio = self.frames.huge + b
        else:
            pindex = MIGRATE_PCPTYPES * order + mt
        self.frames.page[folio].flags = PG_PCP
        self.frames.page_list_add(self.pcp_heads + slot * NR_PCP_LISTS + pindex, folio)
        p.count += 1 << order
        batch = p.batch
        if order != 0 and order <= PAGE_ALLOC_COSTLY_ORDER:
            free_high = (
                p.free_count >= batch
                and (p.flags & PCPF_PREV_FREE_HIGH_ORDER) != 0
                and (not p.flags & PCPF_FREE_HIGH_BATCH or p.count >= batch)
            )
            p.flags |= PCPF_PREV_FREE_HIGH_ORDER
        else:
            p.flags &= ~PCPF_PREV_FREE_HIGH_ORDER
        if p.free_count < batch << PCP_BATCH_SCALE_MAX:
            p.free_count += 1 << order
        high = self.nr_pcp_high(slot, zone, batch, free_high)
        if p.count >= high:
            self.free_pcppages_bulk(zone, slot, self.nr_pcp_free(slot, batch, high, free_high), pindex)
            if z.below_high and self.watermark_ok(
                zone, 0, z.wmark_high + z.watermark_boost, ZONE_MOVABLE, 0
            ):
                z.below_high = 0

    # ------------------------------------------------------------------------------ allocating

    def nr_pcp_alloc(self, slot, zone, order):
        """How many blocks to take from the buddy at once. Linux: nr_pcp_alloc()."""
        z = address(self.zone[zone])
        p = address(self.pcp[slot])
        base: cython.int = p.batch
        low: cython.int = p.high_min
        top: cython.int = p.high_max
        high: cython.int = min(max(p.high, low), top)
        batch: cython.int
        most: cython.int
        p.high = high
        if high < base:
            return 1
        batch = base if order else base << p.alloc_factor
        if low != top and not z.below_high:
            high = min(high + batch, top)
            p.high = high
        if order == 0:
            most = max(high - p.count - base, base)
            if batch <= most and p.alloc_factor < PCP_BATCH_SCALE_MAX:
                p.alloc_factor += 1
            batch = min(batch, most)
        if batch > 1:
            batch = max(batch >> order, 2)
        return batch

    def rmqueue_pcplist(self, zone, order, mt, alloc_flags):
        """Take a block from the running CPU's list, refilled if empty; or -1.

        Linux: rmqueue_pcplist(), __rmqueue_pcplist(), rmqueue_bulk().
        """
        slot: cython.long = self.cpu * self.nr_zones + zone
        p = address(self.pcp[slot])
        head: cython.long
        pfn: cython.long
        left: cython.long
        run: cython.long
        if order == PAGEBLOCK_ORDER:
            head = NR_LOWORDER_PCP_LISTS + (mt == MIGRATE_MOVABLE)
        else:
            head = MIGRATE_PCPTYPES * order + mt
        head += self.pcp_heads + slot * NR_PCP_LISTS
        p.free_count >>= 1
        if self.frames.page[head].nxt == cython.cast(cython.uint, head):
            left = self.nr_pcp_alloc(slot, zone, order)
            self.areas.begin_bulk()
            while left > 0:
                run = 1
                if order == 0:
                    pfn = self.areas.rmqueue_run(zone, left, mt, alloc_flags)
                    run = self.areas.run
                else:
                    pfn = self.areas.rmqueue_mode(zone, order, mt, alloc_flags)
                if pfn < 0:
                    break
                if order == PAGEBLOCK_ORDER:
                    pfn = self.frames.huge + (pfn >> PAGEBLOCK_ORDER)
                self.frames.page_list_add_run(head, pfn, run, PG_PCP)
                p.count += cython.cast(cython.int, run) << order
                left -= run
            if self.frames.page[head].nxt == cython.cast(cython.uint, head):
                return -1
        pfn = self.frames.page[head].nxt
        self.frames.page_list_del(pfn)
        self.frames.page[pfn].flags = 0
        p.count -= 1 << order
        return (pfn - self.frames.huge) << PAGEBLOCK_ORDER if order == PAGEBLOCK_ORDER else pfn

    def rmqueue(self, preferred, zone, order, mt, alloc_flags):
        """Take a block from a zone, counted; or -1. Linux: rmqueue(), rmqueue_buddy(), zone_statistics()."""
        z = address(self.zone[zone])
        pfn: cython.long = -1
        nid: cython.int = z.nid
        if order <= PAGE_ALLOC_COSTLY_ORDER or order == PAGEBLOCK_ORDER:
            pfn = self.rmqueue_pcplist(zone, order, mt, alloc_flags)
        if pfn < 0:
            if alloc_flags & ALLOC_HIGHATOMIC:
                pfn = self.areas.rmqueue_smallest(zone, order, MIGRATE_HIGHATOMIC)
            if pfn < 0:
                self.areas.begin_bulk()
                pfn = self.areas.rmqueue_mode(zone, order, mt, alloc_flags)
            if pfn < 0 and alloc_flags & (ALLOC_OOM | ALLOC_NON_BLOCK):
                pfn = self.areas.rmqueue_smallest(zone, order, MIGRATE_HIGHATOMIC)
            if pfn < 0:
                return -1
        self.event[PGALLOC_DMA + z.zid] += 1 << order
        self.numa_event[zone, NUMA_LOCAL if nid == self.cpu_node[self.cpu] else NUMA_OTHER] += 1
        if nid == self.zone[preferred].nid:
            self.numa_event[zone, NUMA_HIT] += 1
        else:
            self.numa_event[zone, NUMA_MISS] += 1
            self.numa_event[preferred, NUMA_FOREIGN] += 1
        if z.boosted and alloc_flags & ALLOC_KSWAPD:
            z.boosted = 0
            self.wake_kswapd = True
        return pfn

    def watermark_ok(self, zone, order, mark, highest, alloc_flags):
        """Linux: zone_watermark_fast()."""
        return self.watermark_ok_with(zone, order, mark, highest, alloc_flags, self.zone_stat[zone, NR_FREE_PAGES])

    def watermark_ok_with(self, zone, order, mark, highest, alloc_flags, free):
        """Whether a block could be had if so many pages were free. Linux: __zone_watermark_ok()."""
        z = address(self.zone[zone])
        least: cython.long = mark
        o: cython.int
        mt: cython.int
        base: cython.long
        free -= (1 << order) - 1
        if not alloc_flags & ALLOC_RESERVES:
            free -= z.nr_free_highatomic
        if alloc_flags & ALLOC_MIN_RESERVE:
            least -= least // 2
            if alloc_flags & ALLOC_NON_BLOCK:
                least -= least // 4
        if alloc_flags & ALLOC_OOM:
            least -= least // 2
        if not alloc_flags & ALLOC_CMA:
            free -= self.zone_stat[zone, NR_FREE_CMA_PAGES]
        if free <= least + self.lowmem_reserve[zone, highest]:
            return False
        if order == 0:
            return True
        for o in range(order, NR_PAGE_ORDERS):
            base = (zone * NR_PAGE_ORDERS + o) * MIGRATE_TYPES
            for mt in range(MIGRATE_PCPTYPES):
                if self.nr_free[base + mt]:
                    return True
            if alloc_flags & ALLOC_CMA and self.nr_free[base + MIGRATE_CMA]:
                return True
            if alloc_flags & (ALLOC_HIGHATOMIC | ALLOC_OOM) and self.nr_free[base + MIGRATE_HIGHATOMIC]:
                return True
        return False

    def alloc(self, order, mt, nid, highest, alloc_flags, nodemask):
        """Walk a node's zonelist for a block; the frame number, or -1. Linux: get_page_from_freelist()."""
        i: cython.Py_ssize_t
        zone: cython.long
        preferred: cython.long = -1
        mark: cython.long
        pfn: cython.long
        flags: cython.int = alloc_flags
        self.reclaim_zone = -1
        if self.areas.grouping_disabled:
            mt = MIGRATE_UNMOVABLE
        if mt == MIGRATE_MOVABLE:
            flags |= ALLOC_CMA
        if self.handed >= 0 and order == 0 and (
            self.zone[self.frames.block[self.handed >> PAGEBLOCK_ORDER].zone].zid <= highest
        ):
            pfn = self.handed
            self.handed = -1
            return pfn
        while True:
            for i in range(self.nr_zones):
                zone = self.zonelist[nid, i]
                if zone < 0:
                    break
                z = address(self.zone[zone])
                if z.zid > highest or not nodemask >> z.nid & 1:
                    continue
                if preferred < 0:
                    preferred = zone
                    if z.zid == self.nofragment_zone and (
                        self.nr_online_nodes <= 1 or self.zone[zone - 1].managed > 0
                    ):
                        flags |= ALLOC_NOFRAGMENT
                elif (
                    flags & ALLOC_NOFRAGMENT
                    and self.nr_online_nodes > 1
                    and z.nid != self.zone[preferred].nid
                ):
                    break
                if not z.below_high:
                    mark = z.wmark_high + z.watermark_boost
                    if not self.watermark_ok(zone, order, mark, highest, flags):
                        z.below_high = 1
                if z.below_high and not flags & ALLOC_NO_WATERMARKS:
                    mark = z.wmark_low if flags & ALLOC_WMARK_LOW else z.wmark_min
                    mark += z.watermark_boost
                    if not self.watermark_ok(zone, order, mark, highest, flags):
                        if not (
                            order == 0
                            and flags & ALLOC_MIN_RESERVE
                            and not flags & ALLOC_WMARK_LOW
                            and z.watermark_boost
                            and self.watermark_ok(zone, 0, z.wmark_min, highest, flags)
                        ):
                            if (
                                flags & ALLOC_WMARK_LOW
                                and self.reclaim_node[self.zone[preferred].nid] & ~self.reclaimed
                                & cython.cast(cython.ulong, 1) << z.nid
                            ):
                                self.reclaim_zone = zone
                                return -1
                            continue
                pfn = self.rmqueue(preferred, zone, order, mt, flags)
                if pfn >= 0:
                    if flags & ALLOC_HIGHATOMIC:
                        self.highatomic.reserve(zone, pfn, order)
                    return pfn
            if not flags & ALLOC_NOFRAGMENT:
                return -1
            flags &= ~ALLOC_NOFRAGMENT

    def wake_awake_kswapds(self, nid, highest, nodemask):
        """Ask every kswapd of a zonelist to work for a page; False, and none is asked, if one of them sleeps.

        Linux: wake_all_kswapds(), wakeup_kswapd().
        """
        i: cython.Py_ssize_t
        zone: cython.long
        nodes: cython.ulong = 0
        for i in range(self.nr_zones):
            zone = self.zonelist[nid, i]
            if zone < 0:
                break
            z = address(self.zone[zone])
            if z.managed and z.zid <= highest:
                nodes |= nodemask & cython.cast(cython.ulong, 1) << z.nid
        if nodes & ~self.kswapds_awake:
            return False
        for i in range(self.reclaim_node.shape[0]):
            if nodes >> i & 1 and (
                self.kswapd_highest_zoneidx[i] == MAX_NR_ZONES or self.kswapd_highest_zoneidx[i] < highest
            ):
                self.kswapd_highest_zoneidx[i] = highest
        return True

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
        p = address(self.pcp[slot])
        low: cython.int = p.high_min
        batch: cython.int = p.batch
        drain: cython.int
        if p.high > low:
            p.high = max(
                p.count - (batch << PCP_BATCH_SCALE_MAX),
                p.high - (p.high >> 3),
                low,
            )
        drain = p.count - p.high
        while drain > 0:
            self.free_pcppages_bulk(zone, slot, min(drain, batch), 0)
            drain -= batch

    def pcp_list(self, cpu, zone, pindex):
        """The records on one per-CPU list in order, of folios: for checks and debugging."""
        return self.frames.walk_pages(self.pcp_heads + (cpu * self.nr_zones + zone) * NR_PCP_LISTS + pindex)
