"""Zones and nodes: what physical memory there is, cut by address and by distance.

A Zone is a view of its row in the fast path's arrays (free lists, watermarks, per-CPU lists) with the facts
that change only when memory comes or goes; a PglistData is a node with its zones and the order in which it turns
to others' when its own are short.

Linux: include/linux/mmzone.h, struct zone, struct pglist_data, struct per_cpu_pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmfs.mm.mm_init import NodeRange, ZoneRange
from mmfs.mm.watermark import calculate_normal_threshold
from mmfs.mm_types import (
    BLK_VIRGIN,
    MAX_NR_ZONES,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    MIGRATE_TYPES,
    NR_PAGE_ORDERS,
    PAGEBLOCK_ORDER,
    ZONE_HIGHMEM,
    ZONE_MOVABLE,
    ZONE_NAMES,
    ZoneStatItem,
)

if TYPE_CHECKING:
    from mmfs.fastpath.buddy import Buddy


class PerCpuPages(NamedTuple):
    """A CPU's lists of a zone, as they are now. Linux: struct per_cpu_pages."""

    count: int  # type: ignore[assignment]  # hides tuple.count()
    high: int
    high_min: int
    high_max: int
    batch: int


class Zone:
    """One zone of one node, populated or not. Linux: struct zone."""

    cma_pages = 0

    def __init__(self, buddy: Buddy, pgdat: PglistData, pages: ZoneRange) -> None:
        self.buddy = buddy
        self.zone_pgdat = pgdat
        self.zone_idx = pages.zone_type
        self.name = ZONE_NAMES[pages.zone_type]
        self.index = pgdat.node_id * MAX_NR_ZONES + pages.zone_type
        self.zone_start_pfn = pages.start_pfn
        self.spanned_pages = pages.spanned
        self.present_pages = pages.present
        self._row = buddy.zones[self.index]

    def __repr__(self) -> str:
        return f"<zone {self.name} of node {self.zone_pgdat.node_id}>"

    @property
    def zone_end_pfn(self) -> int:
        """The first frame behind it."""
        return self.zone_start_pfn + self.spanned_pages

    def set_span(self, start_pfn: int, end_pfn: int) -> None:
        """It reaches from a frame to another from now on; nowhere if they are the same."""
        self.zone_start_pfn = start_pfn if end_pfn > start_pfn else 0
        self.spanned_pages = end_pfn - start_pfn
        self._row["start_pfn"], self._row["end_pfn"] = self.zone_start_pfn, self.zone_end_pfn

    def intersects(self, start_pfn: int, nr_pages: int) -> bool:
        """Whether it reaches into a range of frames. Linux: zone_intersects()."""
        return bool(self.spanned_pages) and start_pfn < self.zone_end_pfn and start_pfn + nr_pages > self.zone_start_pfn

    def adjust_present_page_count(self, nr_pages: int, managed: int | None = None) -> None:
        """So many pages came, or went. Linux: adjust_present_page_count(), adjust_managed_page_count()."""
        self.present_pages += nr_pages
        self.zone_pgdat.node_present_pages += nr_pages
        self._row["managed"] += nr_pages if managed is None else managed

    def populated(self) -> bool:
        """Whether it has memory at all. Linux: populated_zone()."""
        return self.present_pages > 0

    def managed(self) -> bool:
        """Whether the buddy allocator has some of it. Linux: managed_zone()."""
        return self.managed_pages > 0

    @property
    def managed_pages(self) -> int:
        """Pages handed to the buddy allocator."""
        return int(self._row["managed"])

    @property
    def watermark_boost(self) -> int:
        """Pages by which fragmentation has raised the watermarks for now."""
        return int(self._row["watermark_boost"])

    @watermark_boost.setter
    def watermark_boost(self, pages: int) -> None:
        self._row["watermark_boost"] = pages

    @property
    def reclaim_active(self) -> bool:
        """Whether kswapd works on it. Linux: ZONE_RECLAIM_ACTIVE."""
        return bool(self._row["reclaim_active"])

    @reclaim_active.setter
    def reclaim_active(self, active: bool) -> None:
        self._row["reclaim_active"] = active

    @property
    def nr_free_pages(self) -> int:
        """Free pages."""
        return int(self.buddy.zone_stats[self.index, ZoneStatItem.NR_FREE_PAGES])

    def watermark_ok(self, order: int, mark: int, highest: int, alloc_flags: int = 0, free: int | None = None) -> bool:
        """Whether a block can be had with `mark` pages left, if `free` are free. Linux: zone_watermark_ok()."""
        free = self.nr_free_pages if free is None else free
        return bool(self.buddy.watermark_ok_with(self.index, order, mark, highest, alloc_flags, free))

    def min_wmark_pages(self) -> int:
        """The min watermark, boost included, as Linux's macro of this name."""
        return int(self._row["wmark_min"]) + self.watermark_boost

    def low_wmark_pages(self) -> int:
        """The low watermark, boost included."""
        return int(self._row["wmark_low"]) + self.watermark_boost

    def high_wmark_pages(self) -> int:
        """The high watermark, boost included."""
        return int(self._row["wmark_high"]) + self.watermark_boost

    def promo_wmark_pages(self) -> int:
        """The promotion watermark, boost included."""
        return int(self._row["wmark_promo"]) + self.watermark_boost

    @property
    def lowmem_reserve(self) -> list[int]:
        """Pages kept from allocations that could use a higher zone, by that zone, of those that the kernel has."""
        row = self.buddy.lowmem_reserves[self.index].tolist()
        return [row[zone] for zone in self.zone_pgdat.zone_types]

    @property
    def nr_reserved_highatomic(self) -> int:
        """Pages of pageblocks set aside for high-order atomic allocations."""
        return int(self._row["nr_reserved_highatomic"])

    @property
    def nr_free_highatomic(self) -> int:
        """How many of those are free."""
        return int(self._row["nr_free_highatomic"])

    @property
    def per_cpu_pageset(self) -> list[PerCpuPages]:
        """Every CPU's lists."""
        buddy = self.buddy
        rows = buddy.pcps.reshape(buddy.nr_cpus, buddy.nr_zones)[:, self.index]
        return [PerCpuPages(*row) for row in rows[list(PerCpuPages._fields)].tolist()]

    @property
    def stat_threshold(self) -> int:
        """How far Linux lets a per-CPU counter of the zone run ahead."""
        return calculate_normal_threshold(self.managed_pages, self.buddy.nr_cpus) if self.managed() else 0

    def free_area_counts(self) -> list[list[int]]:
        """Free blocks by order and migratetype."""
        base = self.index * NR_PAGE_ORDERS * MIGRATE_TYPES
        counts = self.buddy.areas.nr_free_counts[base : base + NR_PAGE_ORDERS * MIGRATE_TYPES]
        rows: list[list[int]] = counts.reshape(NR_PAGE_ORDERS, MIGRATE_TYPES).tolist()
        return rows

    def nr_free_pages_blocks(self) -> int:
        """Free pages in free pageblocks, isolated ones not. Linux: mm/page_alloc.c, account_freepages()."""
        counts = self.free_area_counts()
        return sum(
            sum(counts[order]) - counts[order][MIGRATE_ISOLATE] << order
            for order in range(PAGEBLOCK_ORDER, NR_PAGE_ORDERS)
        )

    def free_area_nr_free(self, order: int) -> int:
        """Free blocks of an order."""
        return sum(self._free_area(order))

    def free_area_nr_free_mt(self, order: int, migratetype: int) -> int:
        """Free blocks of an order and migratetype."""
        return self._free_area(order)[migratetype]

    def _free_area(self, order: int) -> list[int]:
        base = (self.index * NR_PAGE_ORDERS + order) * MIGRATE_TYPES
        return [int(count) for count in self.buddy.areas.nr_free_counts[base : base + MIGRATE_TYPES]]

    def virgin_extents(self) -> list[tuple[int, int]]:
        """Ranges of frames that were never used since boot; they are free and movable."""
        row = self._row
        return [(int(a), int(b)) for a, b in self.buddy.areas.extents[int(row["virgin"]) : int(row["virgin_end"])]]

    def nr_pageblocks_by_type(self) -> list[int]:
        """Pageblocks of the zone by migratetype. Linux: mm/vmstat.c, pagetypeinfo_showblockcount_print()."""
        counts = np.zeros(MIGRATE_TYPES, np.int64)
        at = self.zone_start_pfn
        for low, high in [*sorted(self.virgin_extents()), (self.zone_end_pfn, self.zone_end_pfn)]:
            blocks = self.buddy.frames.blocks[at >> PAGEBLOCK_ORDER : -(-low >> PAGEBLOCK_ORDER)]
            mine = (blocks["zone"] == self.index) & (blocks["state"] != BLK_VIRGIN)
            counts += np.bincount(blocks["migratetype"][mine], minlength=MIGRATE_TYPES)
            counts[MIGRATE_MOVABLE] += (high - low) >> PAGEBLOCK_ORDER
            at = high
        return [int(n) for n in counts]


class PglistData:
    """One node. Linux: struct pglist_data."""

    def __init__(self, buddy: Buddy, pages: NodeRange, zones: list[ZoneRange], cpus: tuple[int, ...],
                 distances: tuple[int, ...], types: tuple[int, ...]) -> None:
        self._buddy = buddy
        self.node_id = pages.nid
        self.node_start_pfn = pages.start_pfn
        self.node_spanned_pages = pages.spanned
        self.node_present_pages = pages.present
        self.cpus = cpus
        self.distances = distances
        self.zone_types = types
        self.kswapd_failures = 0
        self.kswapd_order = 0
        self.congested = self.dirty = self.writeback = False
        """What kswapd found at the end of the lists. Linux: LRUVEC_NODE_CONGESTED, PGDAT_DIRTY, PGDAT_WRITEBACK."""
        self.node_zones = [Zone(buddy, self, zone) for zone in zones]
        self.node_zonelists: list[Zone] = []

    def __repr__(self) -> str:
        return f"<node {self.node_id}>"

    @property
    def zones(self) -> list[Zone]:
        """The zones that the kernel has, with memory or without."""
        return [self.node_zones[zone] for zone in self.zone_types]

    @property
    def zonelist_nodes(self) -> list[int]:
        """The nodes that its zonelist falls back to, itself first. Linux: build_zonelists()."""
        return list(dict.fromkeys(zone.zone_pgdat.node_id for zone in self.node_zonelists))

    def update_span(self) -> None:
        """It reaches as far as its zones. Linux: update_pgdat_span()."""
        zones = [zone for zone in self.node_zones if zone.spanned_pages]
        self.node_start_pfn = min((zone.zone_start_pfn for zone in zones), default=0)
        self.node_spanned_pages = max((zone.zone_end_pfn for zone in zones), default=0) - self.node_start_pfn

    @property
    def kswapd_highest_zoneidx(self) -> int:
        """Up to which zone kswapd was asked to work, MAX_NR_ZONES if it was not."""
        return int(self._buddy.kswapd_highest[self.node_id])

    @kswapd_highest_zoneidx.setter
    def kswapd_highest_zoneidx(self, zone_idx: int) -> None:
        self._buddy.kswapd_highest[self.node_id] = zone_idx

    @property
    def node_reclaimable(self) -> bool:
        """Whether reclaim is still worth trying. Linux: kswapd_failures below MAX_RECLAIM_RETRIES."""
        return self.kswapd_failures < 16


def is_highmem(zone: Zone) -> bool:
    """Whether the kernel has to map a page of it to look at it; so in ZONE_MOVABLE if that is cut from high memory.

    Linux: include/linux/mmzone.h, is_highmem().
    """
    return zone.zone_idx == ZONE_HIGHMEM or (
        zone.zone_idx == ZONE_MOVABLE and zone.zone_pgdat.node_zones[ZONE_HIGHMEM].spanned_pages > 0
    )


def is_lowmem(zone: Zone) -> bool:
    """Whether the kernel may allocate its own data there."""
    return zone.zone_idx not in (ZONE_HIGHMEM, ZONE_MOVABLE)
