"""The page allocator's policy: zonelists, watermarks, what a request may use, what to do when it fails.

The free lists themselves are the fast path's (fastpath/buddy.py). Here is what decides: from the gfp bits to
a zone, a migratetype and allocation flags; from min_free_kbytes and its kin to watermarks, reserves and the
size of per-CPU lists. What tries harder is mm/page_alloc_slowpath.py.

Linux: mm/page_alloc.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mmfs.fastpath.buddy import Buddy
from mmfs.fastpath.compact_control import CompactControl
from mmfs.fastpath.lru import Lru
from mmfs.mm import watermark
from mmfs.mm.boot_memory import BootMemory
from mmfs.mm.mm_init import migratetypes, node_fallback_orders, zone_types
from mmfs.mm.mmzone import PglistData, Zone, is_highmem, is_lowmem
from mmfs.mm_types import (
    ALLOC_CMA,
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_NON_BLOCK,
    ALLOC_WMARK_LOW,
    ALLOC_WMARK_MIN,
    BLK_HUGETLB,
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
    MAX_NR_ZONES,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
    PAGE_ALLOC_COSTLY_ORDER,
    PAGE_SHIFT,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    PG_HUGETLB,
    ZONE_DMA,
    ZONE_DMA32,
    ZONE_HIGHMEM,
    ZONE_MOVABLE,
    ZONE_NORMAL,
    ZoneStatItem,
)
from mmfs.profile import Profile, since

if TYPE_CHECKING:
    from mmfs.machine import Machine
    from mmfs.mm.memblock import Memblock
    from mmfs.mm.sysctl import VmSysctl
    from mmfs.mm.vmstat import VmStat

_ALL_NODES = (1 << 64) - 1
MOVABLE_APART = since(6, 12)
"""Kernels in which ZONE_MOVABLE has no share of min_free_kbytes, but watermarks of its own."""
PCP_TUNED = since(6, 12)
"""Kernels that tune how many pages a per-CPU list holds."""
RESERVES_FOLLOW = since(7, 0)
"""Which kernels reckon lowmem_reserve anew when memory is given back. Linux: 7.0, adjust_managed_page_count()."""
_LRU_HEADS_SPARE = 1024


def gfp_migratetype(gfp: int) -> int:
    """The migratetype a request belongs to, where kinds are kept apart. Linux: gfp_migratetype()."""
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
    if gfp_migratetype(gfp) == MIGRATE_MOVABLE:
        flags |= ALLOC_CMA
    return flags


class PageAllocator:
    """The free memory of a machine and the rules by which it is given out.

    Set by the kernel: ``slowpath``, called with (gfp, order, nid, nodemask) when no zone has its low watermark, and
    ``wake_boosted`` when watermarks were raised (mm/page_alloc_slowpath.py, mm/kswapd.py); ``out_of_memory``, called
    with (gfp, order, nodemask) when nothing helps, kills somebody and returns whether to try again;
    ``current_is_victim`` tells whether it is the caller who has to die, and so may use the reserves; ``warn_alloc``
    logs what could not be had.
    """

    def __init__(
        self,
        machine: Machine,
        memblock: Memblock,
        vmstat: VmStat,
        vm: VmSysctl,
        profile: Profile,
        transparent_hugepage: bool = True,
    ) -> None:
        self.movable_apart = MOVABLE_APART(profile)
        self.pcp_tuned = PCP_TUNED(profile)
        self.reserves_follow = RESERVES_FOLLOW(profile)
        self.transparent_hugepage = transparent_hugepage
        self.vm = vm
        self.vmstat = vmstat
        self.nr_nodes = len(machine.nodes)
        self.out_of_memory: Callable[..., bool] = lambda gfp, order, nodemask=None: False
        self.current_is_victim: Callable[[], bool] = lambda: False
        self.warn_alloc: Callable[..., None] = lambda gfp, order, nodemask=None: None
        self.slowpath: Callable[[int, int, int, int | None], int] = self._boot_slowpath
        self.wake_boosted: Callable[[], None] = lambda: None
        spare = Lru.heads_needed(self.nr_nodes) + CompactControl.heads_needed(self.nr_nodes) + _LRU_HEADS_SPARE
        frames = max(memblock.max_pfn, memblock.max_possible_pfn)
        self.buddy = Buddy.of_machine(frames, vmstat, self.nr_nodes, machine.nr_cpus, spare)
        self.zone_types = types = zone_types(profile)
        self.nr_migratetypes = len(migratetypes(profile))
        vm.lowmem_reserve_ratio = [watermark.LOWMEM_RESERVE_RATIO[zone] for zone in types]
        self.opt_zone_dma32 = ZONE_DMA32 if ZONE_DMA32 in types else ZONE_NORMAL
        self.has_highmem = ZONE_HIGHMEM in types
        if self.has_highmem:
            self.buddy.opt_zone_highmem = ZONE_HIGHMEM
        if ZONE_DMA32 not in types:
            self.buddy.nofragment_zone = -1
        self.frames = self.buddy.frames
        self.lru = Lru(self.frames, self.buddy, vmstat, self.nr_nodes, machine.nr_cpus)
        self.node_data: list[PglistData] = []
        self.zones: list[Zone] = []
        self.totalreserve_pages = 0
        self.khugepaged = False
        """Whether room is kept for huge pages."""
        self.set_mobility_grouping(memblock.total_pages(profile))
        boot = BootMemory(self)
        boot.free_area_init(machine, memblock)
        self.build_zonelists()
        boot.memblock_free_all(memblock)

    # ------------------------------------------------------------------------------ zonelists

    def build_zonelists(self) -> None:
        """Linux: mm/page_alloc.c, build_zonelists(): by node, each node's zones from the highest."""
        orders = node_fallback_orders(
            [pgdat.distances for pgdat in self.node_data],
            [pgdat.node_present_pages > 0 for pgdat in self.node_data],
            [bool(pgdat.cpus) for pgdat in self.node_data],
        )
        for pgdat, order in zip(self.node_data, orders, strict=True):
            pgdat.node_zonelists = [
                zone
                for nid in order
                for zone in reversed(self.node_data[nid].node_zones)
                if zone.populated()
            ]
            rows = [zone.index for zone in pgdat.node_zonelists]
            self.buddy.zonelists[pgdat.node_id] = -1
            self.buddy.zonelists[pgdat.node_id, : len(rows)] = rows

    def set_mobility_grouping(self, nr_pages: int) -> bool:
        """Pageblocks of different kinds are kept apart if there is memory enough. Linux: build_all_zonelists()."""
        self.buddy.areas.grouping_disabled = nr_pages < PAGEBLOCK_NR_PAGES * self.nr_migratetypes
        return not self.buddy.areas.grouping_disabled

    def gfp_migratetype(self, gfp: int) -> int:
        """The same; it is one for all where they are not. Linux: page_group_by_mobility_disabled."""
        return MIGRATE_UNMOVABLE if self.buddy.areas.grouping_disabled else gfp_migratetype(gfp)

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
        wanted = watermark.calculate_min_free_kbytes(self.nr_free_buffer_pages())
        if wanted > self.vm.user_min_free_kbytes:
            self.vm.min_free_kbytes = wanted
        self.setup_per_zone_wmarks()

    def update_per_zone_wmark_min(self) -> None:
        """Memory came or went. Linux: init_per_zone_wmark_min(), with khugepaged_min_free_kbytes_update()."""
        self.init_per_zone_wmark_min()
        if self.khugepaged:
            self.set_recommended_min_free_kbytes()

    def set_recommended_min_free_kbytes(self) -> None:
        """Raise min_free_kbytes so that huge pages find room. Linux: mm/khugepaged.c."""
        populated = sum(1 for zone in self.zones if zone.populated() and is_lowmem(zone))
        wanted = watermark.recommended_min_free_kbytes(populated, self.nr_free_buffer_pages())
        if wanted > self.vm.min_free_kbytes:
            self.vm.min_free_kbytes = wanted
        self.setup_per_zone_wmarks()

    def setup_per_zone_wmarks(self) -> None:
        """Everything that follows from min_free_kbytes, watermark_scale_factor and lowmem_reserve_ratio.

        Linux: mm/page_alloc.c, setup_per_zone_wmarks(), setup_per_zone_lowmem_reserve(),
        zone_pcp_update(), calculate_totalreserve_pages().
        """
        vm = self.vm
        apart = (lambda zone: not is_lowmem(zone)) if self.movable_apart else is_highmem
        shares = {zone.index: not apart(zone) for zone in self.zones}
        lowmem = sum(zone.managed_pages for zone in self.zones if shares[zone.index])
        for zone in self.zones:
            marks = watermark.zone_watermarks(
                zone.managed_pages, lowmem, vm.min_free_kbytes, vm.watermark_scale_factor, not shares[zone.index]
            )
            row = self.buddy.zones[zone.index]
            row["wmark_min"], row["wmark_low"], row["wmark_high"], row["wmark_promo"] = marks
            row["watermark_boost"] = 0
        self.buddy.areas.watermark_boost_factor = vm.watermark_boost_factor
        self.setup_per_zone_lowmem_reserve()
        self.setup_per_cpu_pagesets()

    def setup_per_zone_lowmem_reserve(self) -> None:
        """Linux: mm/page_alloc.c, setup_per_zone_lowmem_reserve()."""
        ratios = dict(zip(self.zone_types, self.vm.lowmem_reserve_ratio, strict=True))
        for pgdat in self.node_data:
            managed = [zone.managed_pages for zone in pgdat.node_zones]
            rows = watermark.lowmem_reserves(managed, [ratios.get(zone, 0) for zone in range(MAX_NR_ZONES)])
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
            high_min, high_max, batch = watermark.pageset_high_and_batch(
                zone.managed_pages,
                low,
                len(zone.zone_pgdat.cpus),
                buddy.nr_cpus,
                self.vm.percpu_pagelist_high_fraction,
            )
            column = pcps[:, zone.index]
            column["high_min"], column["high_max"], column["batch"] = high_min, high_max, batch
            if not self.pcp_tuned:
                column["high"] = column["high_max"] = high_min

    def reset_per_cpu_pageset(self, zone: Zone) -> None:
        """The per-CPU lists of a zone without memory keep nothing. Linux: mm/page_alloc.c, zone_pcp_reset()."""
        column = self.buddy.pcps.reshape(self.buddy.nr_cpus, self.buddy.nr_zones)[:, zone.index]
        column["high"] = column["high_min"] = column["high_max"] = 0
        column["batch"] = 1

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
    def highmem_zones(self) -> list[Zone]:
        """The zones with memory that the kernel cannot look at without mapping it."""
        return [zone for zone in self.zones if is_highmem(zone) and zone.populated()] if self.has_highmem else []

    def totalhigh_pages(self) -> int:
        """High memory that the buddy allocator manages. Linux: totalhigh_pages()."""
        return sum(zone.managed_pages for zone in self.highmem_zones)

    def nr_free_highpages(self) -> int:
        """What of it is free. Linux: nr_free_highpages()."""
        return sum(zone.nr_free_pages for zone in self.highmem_zones)

    @property
    def totalram_pages(self) -> int:
        """All managed pages: MemTotal. Linux: totalram_pages()."""
        return int(self.buddy.zones["managed"].sum())

    @property
    def totalcma_pages(self) -> int:
        """Pages of contiguous memory areas: CmaTotal. Linux: totalcma_pages."""
        return sum(zone.cma_pages for zone in self.zones)

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

    def gfp_zone(self, gfp: int) -> int:
        """The highest zone a request may use. Linux: include/linux/gfp.h, gfp_zone(), GFP_ZONE_TABLE."""
        if gfp & GFP_DMA_BIT:
            return ZONE_DMA
        if gfp & GFP_DMA32_BIT:
            return self.opt_zone_dma32
        if gfp & GFP_HIGHMEM_BIT:
            return ZONE_MOVABLE if gfp & GFP_MOVABLE_BIT else int(self.buddy.opt_zone_highmem)
        return ZONE_NORMAL

    def alloc_pages(self, gfp: int, order: int = 0, nid: int | None = None) -> int:
        """Allocate a block of 2**order pages, preferably on a node: its first frame, or -1.

        Linux: mm/page_alloc.c, __alloc_pages().
        """
        buddy = self.buddy
        if nid is None:
            nid = int(buddy.cpu_nodes[buddy.cpu])
        mask = 1 << nid if gfp & GFP_THISNODE_BIT else int(buddy.mems_allowed)
        flags = ALLOC_WMARK_LOW | (ALLOC_KSWAPD if gfp & GFP_KSWAPD_RECLAIM_BIT else 0)
        pfn = buddy.alloc_pages(order, self.gfp_migratetype(gfp), nid, self.gfp_zone(gfp), flags, mask)
        if buddy.wake_kswapd:
            self.wake_boosted()
        return pfn if pfn >= 0 else self.slowpath(gfp, order, nid, mask if gfp & GFP_THISNODE_BIT else None)

    def _boot_slowpath(self, gfp: int, order: int, nid: int, nodemask: int | None) -> int:
        """What is left to try before there are threads that could reclaim."""
        flags = gfp_to_alloc_flags(gfp, order)
        mask = _ALL_NODES if nodemask is None else nodemask
        return int(self.buddy.alloc_pages(order, self.gfp_migratetype(gfp), nid, self.gfp_zone(gfp), flags, mask))

    def may_oom(self, gfp: int, order: int) -> bool:
        """Whether a failing request may kill somebody. Linux: mm/page_alloc.c, __alloc_pages_may_oom()."""
        if gfp & GFP_NOFAIL_BIT:
            return True
        if order > PAGE_ALLOC_COSTLY_ORDER or gfp & (GFP_NORETRY_BIT | GFP_RETRY_MAYFAIL_BIT | GFP_THISNODE_BIT):
            return False
        return self.gfp_zone(gfp) >= ZONE_NORMAL

    def free_pages(self, pfn: int, order: int = 0) -> None:
        """Free a block that alloc_pages() gave. Linux: mm/page_alloc.c, __free_pages()."""
        first = self.frames.pages[pfn]
        first["flags"] = first["mapping"] = first["private"] = first["memcg"] = 0
        self.buddy.free_pages(pfn, order)

    def set_hugetlb(self, pfn: int, order: int, hugetlb: bool) -> None:
        """The frames become a huge page of a pool, or are none any longer. Linux: __folio_set_hugetlb().

        One that is smaller than a pageblock says so in the records of its frames.
        """
        if order < PAGEBLOCK_ORDER:
            pages = self.frames.pages[pfn : pfn + (1 << order)]
            pages[:] = 0
            pages["flags"], pages["private"] = (PG_HUGETLB, order) if hugetlb else (0, 0)
            return
        blocks = self.frames.blocks[pfn >> PAGEBLOCK_ORDER : pfn + (1 << order) >> PAGEBLOCK_ORDER]
        blocks["state"] = BLK_HUGETLB if hugetlb else BLK_SPLIT

    def is_hugetlb(self, pfn: int) -> bool:
        """Whether a frame is part of a huge page of a pool. Linux: folio_test_hugetlb()."""
        state = self.frames.blocks["state"][pfn >> PAGEBLOCK_ORDER]
        return bool(state == BLK_HUGETLB or (state == BLK_SPLIT and self.frames.pages["flags"][pfn] & PG_HUGETLB))

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
            self.buddy.highatomic.unreserve(zone.index, self.gfp_migratetype(gfp), force)
            for zone in self.zones
            if zone.managed() and zone.zone_idx <= self.gfp_zone(gfp)
        )
