"""The page allocator's policy: zonelists, watermarks, what a request may use, what to do when it fails.

The free lists themselves are the fast path's (fastpath/buddy.py). Here is what decides: from the gfp bits to
a zone, a migratetype and allocation flags; from min_free_kbytes and its kin to watermarks, reserves and the
size of per-CPU lists; and the slow path, which tries harder and harder and ends with the OOM killer.

Linux: mm/page_alloc.c.

Simplified: the slow path goes from lower watermarks to draining per-CPU lists to the OOM killer; reclaim and
compaction are not there yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from mmfs.fastpath.buddy import Buddy
from mmfs.fastpath.lru import Lru
from mmfs.mm import mm_init
from mmfs.mm.mmzone import PglistData, Zone, is_lowmem
from mmfs.mm_types import (
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_NON_BLOCK,
    ALLOC_WMARK_LOW,
    ALLOC_WMARK_MIN,
    BLK_RESERVED,
    BLK_SPLIT,
    GFP_DIRECT_RECLAIM_BIT,
    GFP_DMA32_BIT,
    GFP_DMA_BIT,
    GFP_HIGH_BIT,
    GFP_HIGHMEM_BIT,
    GFP_KSWAPD_RECLAIM_BIT,
    GFP_MOVABLE_BIT,
    GFP_NOFAIL_BIT,
    GFP_NOMEMALLOC_BIT,
    GFP_NORETRY_BIT,
    GFP_RECLAIMABLE_BIT,
    GFP_RETRY_MAYFAIL_BIT,
    GFP_THISNODE_BIT,
    MAX_PAGE_ORDER,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
    PAGE_ALLOC_COSTLY_ORDER,
    PAGE_SHIFT,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    PG_RESERVED,
    ZONE_DMA,
    ZONE_DMA32,
    ZONE_MOVABLE,
    ZONE_NORMAL,
    ZoneStatItem,
)

if TYPE_CHECKING:
    from mmfs.machine import Machine
    from mmfs.mm.memblock import Memblock
    from mmfs.mm.sysctl import VmSysctl
    from mmfs.mm.vmstat import VmStat

_ALL_NODES = (1 << 64) - 1
_LRU_HEADS_SPARE = 1024
_MAX_NUMNODES = 1024


def gfp_zone(gfp: int) -> int:
    """The highest zone a request may use. Linux: include/linux/gfp.h, gfp_zone()."""
    if gfp & GFP_DMA_BIT:
        return ZONE_DMA
    if gfp & GFP_DMA32_BIT:
        return ZONE_DMA32
    if gfp & GFP_HIGHMEM_BIT and gfp & GFP_MOVABLE_BIT:
        return ZONE_MOVABLE
    return ZONE_NORMAL


def gfp_migratetype(gfp: int) -> int:
    """The migratetype a request belongs to. Linux: include/linux/gfp.h, gfp_migratetype()."""
    if gfp & GFP_MOVABLE_BIT:
        return MIGRATE_MOVABLE
    return MIGRATE_RECLAIMABLE if gfp & GFP_RECLAIMABLE_BIT else MIGRATE_UNMOVABLE


def gfp_to_alloc_flags(gfp: int, order: int) -> int:
    """Which reserves a request may use in the slow path. Linux: mm/page_alloc.c, gfp_to_alloc_flags()."""
    flags = ALLOC_WMARK_MIN
    if gfp & GFP_HIGH_BIT:
        flags |= ALLOC_MIN_RESERVE
    if gfp & GFP_KSWAPD_RECLAIM_BIT:
        flags |= ALLOC_KSWAPD
    if not gfp & GFP_DIRECT_RECLAIM_BIT and not gfp & GFP_NOMEMALLOC_BIT:
        flags |= ALLOC_NON_BLOCK
        if order > 0 and flags & ALLOC_MIN_RESERVE:
            flags |= ALLOC_HIGHATOMIC
    return flags


def _minus(ranges: Iterable[tuple[int, int, int]], holes: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """What is left of ranges (start, end, nid) without sorted holes (start, end)."""
    for start, end, nid in ranges:
        for low, high in holes:
            if low < end and high > start:
                if start < low:
                    yield start, low, nid
                start = max(start, high)
        if start < end:
            yield start, end, nid


class PageAllocator:
    """The free memory of a machine and the rules by which it is given out.

    ``out_of_memory`` is set by the kernel: called with (gfp, order) when nothing helps, it kills somebody and
    returns whether that freed anything.
    """

    def __init__(
        self,
        machine: Machine,
        memblock: Memblock,
        vmstat: VmStat,
        vm: VmSysctl,
        transparent_hugepage: bool = True,
    ) -> None:
        self.transparent_hugepage = transparent_hugepage
        self.vm = vm
        self.vmstat = vmstat
        self.nr_nodes = len(machine.nodes)
        self.out_of_memory: Callable[[int, int], bool] = lambda gfp, order: False
        spare = Lru.heads_needed(self.nr_nodes) + _LRU_HEADS_SPARE
        self.buddy = Buddy.of_machine(memblock.max_pfn, vmstat, self.nr_nodes, machine.nr_cpus, spare)
        self.frames = self.buddy.frames
        self.lru = Lru(self.frames, self.buddy, vmstat, self.nr_nodes, machine.nr_cpus)
        self.node_data: list[PglistData] = []
        self.zones: list[Zone] = []
        self.totalreserve_pages = 0
        self._free_area_init(machine, memblock)
        self._build_zonelists()
        self._memblock_free_all(memblock)

    # ------------------------------------------------------------------------------ boot

    def _free_area_init(self, machine: Machine, memblock: Memblock) -> None:
        """Linux: mm/mm_init.c, free_area_init()."""
        buddy = self.buddy
        for node_range in memblock.node_ranges:
            nid = node_range.nid
            node = machine.nodes[nid]
            zones = [zone for zone in memblock.zone_ranges if zone.nid == nid]
            pgdat = PglistData(buddy, node_range, zones, node.cpus, node.distances or (10,))
            self.node_data.append(pgdat)
            self.zones += pgdat.node_zones
            for cpu in node.cpus:
                buddy.cpu_nodes[cpu] = nid
            for zone in pgdat.node_zones:
                row = buddy.zones[zone.index]
                row["start_pfn"], row["end_pfn"] = zone.zone_start_pfn, zone.zone_end_pfn
                row["nid"], row["zid"] = nid, zone.zone_idx
        for zone, low, high in self._in_zones(_minus(memblock.memory, self._extents(memblock))):
            buddy.areas.init_zone_range(zone.index, low, high, MIGRATE_MOVABLE, BLK_RESERVED)

    def _in_zones(self, ranges: Iterable[tuple[int, int, int]]) -> Iterator[tuple[Zone, int, int]]:
        """Ranges of frames cut at zone borders."""
        for start, end, nid in ranges:
            for zone in self.node_data[nid].node_zones:
                low, high = max(start, zone.zone_start_pfn), min(end, zone.zone_end_pfn)
                if low < high:
                    yield zone, low, high

    def _extents(self, memblock: Memblock) -> list[tuple[int, int]]:
        """The aligned inner parts of what will be freed: memory whose records nobody touches at boot."""
        size = 1 << MAX_PAGE_ORDER
        inner = []
        for ranges in (memblock.early_free_ranges(), memblock.deferred_free_ranges()):
            for _, low, high in self._in_zones(ranges):
                low, high = -(-low // size) * size, high // size * size
                if low < high:
                    inner.append((low, high))
        return sorted(inner)

    def _node_order(self, nid: int, node_load: list[int]) -> list[int]:
        """The nodes with memory in the order in which a node turns to them.

        Linux: mm/page_alloc.c, build_zonelists(), find_next_best_node(). ``node_load`` is shared by all
        nodes' orders, so that not all of them turn to the same one first.
        """
        distances = self.node_data[nid].distances
        left = [pgdat.node_id for pgdat in self.node_data if pgdat.node_present_pages]
        order: list[int] = []
        previous = nid
        while left:

            def cost(n: int) -> int:
                near = distances[n] + (n < nid) + bool(self.node_data[n].cpus)
                return near * _MAX_NUMNODES + node_load[n]

            best = nid if nid in left else min(left, key=cost)
            left.remove(best)
            if distances[best] != distances[previous]:
                node_load[best] += 1
            order.append(best)
            previous = best
        return order

    def _build_zonelists(self) -> None:
        """Linux: mm/page_alloc.c, build_zonelists(): by node, each node's zones from the highest."""
        node_load = [0] * self.nr_nodes
        for pgdat in self.node_data:
            pgdat.node_zonelists = [
                zone
                for nid in self._node_order(pgdat.node_id, node_load)
                for zone in reversed(self.node_data[nid].node_zones)
                if zone.populated()
            ]
            rows = [zone.index for zone in pgdat.node_zonelists]
            self.buddy.zonelists[pgdat.node_id, : len(rows)] = rows

    def _memblock_free_all(self, memblock: Memblock) -> None:
        """Hand boot memory to the free lists. Linux: mm/memblock.c, memblock_free_all(), page_alloc_init_late()."""
        for ranges in (memblock.early_free_ranges(), memblock.deferred_free_ranges()):
            for zone, low, high in self._in_zones(ranges):
                self.buddy.areas.free_range(zone.index, low, high)
                self.buddy.zones[zone.index]["managed"] += high - low
        self._mark_reserved(memblock)
        self.init_per_zone_wmark_min()
        self._hugepage_init()
        for start, end, nid in memblock.late_free_ranges():
            self._init_split(start, end, nid)
            self.buddy.free_pages_bulk(np.arange(start, end, dtype=np.int64))
        self.vmstat.event[:] = 0
        self.vmstat.numa_event[:] = 0

    def _mark_reserved(self, memblock: Memblock) -> None:
        """Frames that stay with the boot code show it in the records of pageblocks that are partly free.

        Linux: mm/mm_init.c, memmap_init_reserved_pages().
        """
        pages, states = self.frames.pages, self.frames.blocks["state"]
        free = sorted((start, end) for start, end, _ in memblock.memblock_free_ranges())
        starts = [0, *(end for _, end in free)]
        ends = [*(start for start, _ in free), memblock.max_pfn]
        for start, end in zip(starts, ends, strict=True):
            for block in {start >> PAGEBLOCK_ORDER, max(end - 1, start) >> PAGEBLOCK_ORDER}:
                if states[block] == BLK_SPLIT:
                    first = block << PAGEBLOCK_ORDER
                    pages["flags"][max(start, first) : min(end, first + PAGEBLOCK_NR_PAGES)] = PG_RESERVED

    def _hugepage_init(self) -> None:
        """Machines of 512 MB and more have transparent huge pages and keep room for them.

        Linux: mm/huge_memory.c, hugepage_init(), which runs before init's memory is freed.
        """
        if self.transparent_hugepage and sum(zone.managed_pages for zone in self.zones) >= 512 << 20 - PAGE_SHIFT:
            self.set_recommended_min_free_kbytes()

    def _init_split(self, start: int, end: int, nid: int) -> None:
        """Frames that were reserved get page records and count as managed."""
        flags, states = self.frames.pages["flags"], self.frames.blocks["state"]
        for block in range(start >> PAGEBLOCK_ORDER, -(-end >> PAGEBLOCK_ORDER)):
            if states[block] == BLK_RESERVED:
                states[block] = BLK_SPLIT
                flags[block << PAGEBLOCK_ORDER : (block + 1) << PAGEBLOCK_ORDER] = PG_RESERVED
        flags[start:end] = 0
        for zone, low, high in self._in_zones([(start, end, nid)]):
            self.buddy.zones[zone.index]["managed"] += high - low

    # ------------------------------------------------------------------------------ watermarks

    def nr_free_buffer_pages(self) -> int:
        """Managed pages above the high watermark in zones the kernel may use.

        Linux: mm/page_alloc.c, nr_free_buffer_pages(), for the local node's zonelist.
        """
        zonelist = next(pgdat.node_zonelists for pgdat in self.node_data if pgdat.node_zonelists)
        return sum(
            max(zone.managed_pages - zone.high_wmark_pages(), 0) for zone in zonelist if zone.zone_idx <= ZONE_NORMAL
        )

    def init_per_zone_wmark_min(self) -> None:
        """Choose min_free_kbytes for the machine's size, unless the user has.

        Linux: mm/page_alloc.c, init_per_zone_wmark_min().
        """
        wanted = mm_init.calculate_min_free_kbytes(self.nr_free_buffer_pages())
        if wanted > self.vm.user_min_free_kbytes:
            self.vm.min_free_kbytes = wanted
        self.setup_per_zone_wmarks()

    def set_recommended_min_free_kbytes(self) -> None:
        """Raise min_free_kbytes so that huge pages find room. Linux: mm/khugepaged.c."""
        populated = sum(1 for zone in self.zones if zone.populated() and is_lowmem(zone))
        wanted = mm_init.recommended_min_free_kbytes(populated, self.nr_free_buffer_pages())
        if wanted > self.vm.min_free_kbytes:
            self.vm.min_free_kbytes = wanted
        self.setup_per_zone_wmarks()

    def setup_per_zone_wmarks(self) -> None:
        """Everything that follows from min_free_kbytes, watermark_scale_factor and lowmem_reserve_ratio.

        Linux: mm/page_alloc.c, setup_per_zone_wmarks(), setup_per_zone_lowmem_reserve(),
        zone_pcp_update(), calculate_totalreserve_pages().
        """
        vm = self.vm
        lowmem = sum(zone.managed_pages for zone in self.zones if is_lowmem(zone))
        for zone in self.zones:
            marks = mm_init.zone_watermarks(
                zone.managed_pages, lowmem, vm.min_free_kbytes, vm.watermark_scale_factor, not is_lowmem(zone)
            )
            row = self.buddy.zones[zone.index]
            row["wmark_min"], row["wmark_low"], row["wmark_high"], row["wmark_promo"] = marks
            row["watermark_boost"] = 0
        self.buddy.areas.watermark_boost_factor = vm.watermark_boost_factor
        self.setup_per_zone_lowmem_reserve()
        self.setup_per_cpu_pagesets()

    def setup_per_zone_lowmem_reserve(self) -> None:
        """Linux: mm/page_alloc.c, setup_per_zone_lowmem_reserve()."""
        for pgdat in self.node_data:
            managed = [zone.managed_pages for zone in pgdat.node_zones]
            rows = mm_init.lowmem_reserves(managed, self.vm.lowmem_reserve_ratio)
            for zone, row in zip(pgdat.node_zones, rows, strict=True):
                self.buddy.lowmem_reserves[zone.index] = row
        self.calculate_totalreserve_pages()

    def setup_per_cpu_pagesets(self) -> None:
        """Size the per-CPU lists. Linux: mm/page_alloc.c, zone_set_pageset_high_and_batch()."""
        buddy = self.buddy
        pcps = buddy.pcps.reshape(buddy.nr_cpus, buddy.nr_zones)
        for zone in self.zones:
            if not zone.populated():
                continue
            low = int(buddy.zones[zone.index]["wmark_low"])
            high_min, high_max, batch = mm_init.pageset_high_and_batch(
                zone.managed_pages,
                low,
                len(zone.zone_pgdat.cpus),
                buddy.nr_cpus,
                self.vm.percpu_pagelist_high_fraction,
            )
            column = pcps[:, zone.index]
            column["high_min"], column["high_max"], column["batch"] = high_min, high_max, batch
            column["high"] = np.clip(column["high"], high_min, high_max)

    def calculate_totalreserve_pages(self) -> None:
        """Pages that no user allocation gets. Linux: mm/page_alloc.c, calculate_totalreserve_pages()."""
        total = 0
        for zone in self.zones:
            total += min(max(zone.lowmem_reserve) + zone.high_wmark_pages(), zone.managed_pages)
        self.totalreserve_pages = total

    @property
    def wmark_low_sum(self) -> int:
        """Sum of all zones' low watermarks, as MemAvailable subtracts it."""
        return int(self.buddy.zones["wmark_low"].sum())

    # ------------------------------------------------------------------------------ facts

    @property
    def totalram_pages(self) -> int:
        """All managed pages: MemTotal. Linux: totalram_pages()."""
        return int(self.buddy.zones["managed"].sum())

    def nr_free_pages(self) -> int:
        """Free pages of the machine. Linux: nr_free_pages()."""
        return self.vmstat.global_zone_page_state(ZoneStatItem.NR_FREE_PAGES)

    def page_zone(self, pfn: int) -> Zone:
        """The zone of a frame."""
        return self.zones[int(self.frames.blocks[pfn >> PAGEBLOCK_ORDER]["zone"])]

    def page_to_nid(self, pfn: int) -> int:
        """The node of a frame."""
        return self.page_zone(pfn).zone_pgdat.node_id

    def in_extent(self, pfn: int) -> bool:
        """Whether the frame is free memory that was never used since boot."""
        return any(low <= pfn < high for zone in self.zones for low, high in zone.virgin_extents())

    @property
    def min_free_pages(self) -> int:
        """min_free_kbytes in pages."""
        return self.vm.min_free_kbytes >> (PAGE_SHIFT - 10)

    # ------------------------------------------------------------------------------ allocating

    def alloc_pages(self, gfp: int, order: int = 0, nid: int | None = None) -> int:
        """Allocate a block of 2**order pages, preferably on a node: its first frame, or -1.

        Linux: mm/page_alloc.c, __alloc_pages().
        """
        buddy = self.buddy
        if nid is None:
            nid = int(buddy.cpu_nodes[buddy.cpu])
        mask = 1 << nid if gfp & GFP_THISNODE_BIT else _ALL_NODES
        flags = ALLOC_WMARK_LOW | (ALLOC_KSWAPD if gfp & GFP_KSWAPD_RECLAIM_BIT else 0)
        pfn = buddy.alloc_pages(order, gfp_migratetype(gfp), nid, gfp_zone(gfp), flags, mask)
        return pfn if pfn >= 0 else self._alloc_pages_slowpath(gfp, order, nid, mask)

    def _alloc_pages_slowpath(self, gfp: int, order: int, nid: int, mask: int) -> int:
        """Linux: mm/page_alloc.c, __alloc_pages_slowpath()."""
        flags = gfp_to_alloc_flags(gfp, order)

        def attempt() -> int:
            return int(self.buddy.alloc_pages(order, gfp_migratetype(gfp), nid, gfp_zone(gfp), flags, mask))

        pfn = attempt()
        if pfn >= 0 or not gfp & GFP_DIRECT_RECLAIM_BIT:
            return pfn
        while True:
            self.drain_all_pages()
            pfn = attempt()
            if pfn < 0 and self.unreserve_highatomic(gfp):
                pfn = attempt()
            if pfn >= 0 or not self.may_oom(gfp, order) or not self.out_of_memory(gfp, order):
                return pfn

    @staticmethod
    def may_oom(gfp: int, order: int) -> bool:
        """Whether a failing request may kill somebody. Linux: mm/page_alloc.c, __alloc_pages_may_oom()."""
        if gfp & GFP_NOFAIL_BIT:
            return True
        if order > PAGE_ALLOC_COSTLY_ORDER or gfp & (GFP_NORETRY_BIT | GFP_RETRY_MAYFAIL_BIT | GFP_THISNODE_BIT):
            return False
        return gfp_zone(gfp) >= ZONE_NORMAL

    def free_pages(self, pfn: int, order: int = 0) -> None:
        """Free a block that alloc_pages() gave. Linux: mm/page_alloc.c, __free_pages()."""
        first = self.frames.pages[pfn]
        first["flags"] = first["mapping"] = first["private"] = first["memcg"] = 0
        self.buddy.free_pages(pfn, order)

    # ------------------------------------------------------------------------------ per-CPU lists

    def drain_all_pages(self) -> None:
        """Return every CPU's pages to the buddy. Linux: mm/page_alloc.c, drain_all_pages()."""
        for cpu in range(self.buddy.nr_cpus):
            for zone in self.zones:
                if zone.populated():
                    self.buddy.drain_pages(cpu, zone.index)

    def refresh_cpu_vm_stats(self, cpu: int) -> None:
        """What the per-CPU vmstat worker does for the lists once a second. Linux: mm/vmstat.c."""
        for zone in self.zones:
            if zone.populated():
                self.buddy.decay_pcp_high(cpu, zone.index)

    def unreserve_highatomic(self, gfp: int, force: bool = True) -> bool:
        """Give a HighAtomic pageblock back to the request's migratetype."""
        return any(
            self.buddy.areas.unreserve_highatomic(zone.index, gfp_migratetype(gfp), force)
            for zone in self.zones
            if zone.managed() and zone.zone_idx <= gfp_zone(gfp)
        )
