"""Boot memory becomes the page allocator's: nodes and zones, and every free range on its list.

The records of memory that is free from the start are not touched here (fastpath/free_area.py has it as
extents), so this costs what is reserved, not what there is.

Linux: mm/mm_init.c, free_area_init(); mm/memblock.c, memblock_free_all().

Simplified: a pageblock belongs to one zone. Where high memory begins amid one, its frames there (two, with Debian's
i386) are counted as managed, but nobody gets them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from mmfs.mm.mmzone import PglistData, Zone, is_highmem
from mmfs.mm_types import (
    BLK_RESERVED,
    BLK_SPLIT,
    MAX_PAGE_ORDER,
    MIGRATE_CMA,
    MIGRATE_MOVABLE,
    MIGRATE_UNMOVABLE,
    PAGE_SHIFT,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    PG_RESERVED,
    VmEventItem,
)

if TYPE_CHECKING:
    from mmfs.machine import Machine
    from mmfs.mm.memblock import Memblock
    from mmfs.mm.page_alloc import PageAllocator


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

class BootMemory:
    """The steps from a memblock to a page allocator, in order."""

    def __init__(self, alloc: PageAllocator) -> None:
        self.alloc = alloc
        self.buddy = alloc.buddy
        self.frames = alloc.frames
        self.vmstat = alloc.vmstat

    def free_area_init(self, machine: Machine, memblock: Memblock) -> None:
        """Linux: mm/mm_init.c, free_area_init()."""
        buddy = self.buddy
        for node_range in memblock.node_ranges:
            nid = node_range.nid
            node = machine.nodes[nid]
            zones = [zone for zone in memblock.zone_ranges if zone.nid == nid]
            types = self.alloc.zone_types
            pgdat = PglistData(buddy, node_range, zones, node.cpus, node.distances or (10,), types)
            self.alloc.node_data.append(pgdat)
            self.alloc.zones += pgdat.node_zones
            for cpu in node.cpus:
                buddy.cpu_nodes[cpu] = nid
            for zone in pgdat.node_zones:
                row = buddy.zones[zone.index]
                row["start_pfn"], row["end_pfn"] = zone.zone_start_pfn, zone.zone_end_pfn
                row["nid"], row["zid"] = nid, zone.zone_idx
        extents = self._extents(memblock)
        for zone, low, high in self._in_zones(_minus(memblock.memory, extents)):
            low = self._own_block(zone, low)
            if low < high:
                buddy.areas.init_zone_range(zone.index, low, high, MIGRATE_UNMOVABLE, BLK_RESERVED)
        self._set_movable(memblock, extents)

    def _set_movable(self, memblock: Memblock, extents: list[tuple[int, int]]) -> None:
        """A pageblock is movable if its first frame was initialised early, or is deferred and free.

        The others stay as they were, unmovable: those of deferred memory that begin with a reserved frame, as most of
        the kernel's image and of the memory map, and what lies below the first frame. What is freed there later (init's
        memory, the initrd) is first given to the kernel; files that take it raise the watermarks. On a machine that is
        too small to keep kinds apart all are unmovable.

        Linux: mm/mm_init.c, memmap_init_range(), deferred_free_pages().
        """
        early = [
            (start, min(end, memblock.first_deferred_pfn.get(nid, end)), nid) for start, end, nid in memblock.memory
        ]
        if self.buddy.areas.grouping_disabled:
            return
        types = self.frames.blocks["migratetype"]
        for start, end, _ in _minus([*early, *memblock.deferred_free_ranges()], extents):
            types[-(-start >> PAGEBLOCK_ORDER) : -(-end >> PAGEBLOCK_ORDER)] = MIGRATE_MOVABLE

    @staticmethod
    def _own_block(zone: Zone, pfn: int) -> int:
        """A frame, or the first that shares no pageblock with the zone below."""
        return max(pfn, -(-zone.zone_start_pfn // PAGEBLOCK_NR_PAGES) * PAGEBLOCK_NR_PAGES) if is_highmem(zone) else pfn

    def _in_zones(self, ranges: Iterable[tuple[int, int, int]]) -> Iterator[tuple[Zone, int, int]]:
        """Ranges of frames cut at zone borders."""
        for start, end, nid in ranges:
            for zone in self.alloc.node_data[nid].node_zones:
                low, high = max(start, zone.zone_start_pfn), min(end, zone.zone_end_pfn)
                if low < high:
                    yield zone, low, high

    def _extents(self, memblock: Memblock) -> list[tuple[int, int]]:
        """The aligned inner parts of what will be freed: memory whose records nobody touches at boot."""
        size = 1 << MAX_PAGE_ORDER
        inner: list[tuple[int, int]] = []
        if self.buddy.areas.grouping_disabled:
            return inner
        for ranges in (memblock.early_free_ranges(), memblock.deferred_free_ranges()):
            for _, low, high in self._in_zones(ranges):
                low, high = -(-low // size) * size, high // size * size
                if low < high:
                    inner.append((low, high))
        return sorted(inner)

    def memblock_free_all(self, memblock: Memblock) -> None:
        """Hand boot memory to the free lists. Linux: mm/memblock.c, memblock_free_all(), page_alloc_init_late()."""
        for ranges in (memblock.early_free_ranges(), memblock.deferred_free_ranges()):
            for zone, low, high in self._in_zones(ranges):
                self.buddy.areas.free_range(zone.index, min(self._own_block(zone, low), high), high)
                self.buddy.zones[zone.index]["managed"] += high - low
        self._mark_reserved(memblock)
        self._free_cma_areas(memblock)
        late = memblock.late_free_ranges()
        freed = len(memblock.early_free_ranges()) + len(memblock.deferred_free_ranges())
        early = len(memblock.boot_free_ranges()) - freed
        self._free_reserved_areas(late[:early])
        self.alloc.init_per_zone_wmark_min()
        self._hugepage_init()
        self._free_reserved_areas(late[early:])
        if self.alloc.reserves_follow:
            self.alloc.setup_per_zone_lowmem_reserve()
        self.vmstat.event[:] = 0
        self.vmstat.event[VmEventItem.PGFREE] = sum(int(zone["managed"]) for zone in self.buddy.zones)
        self.vmstat.numa_event[:] = 0

    def _free_reserved_areas(self, ranges: Iterable[tuple[int, int, int]]) -> None:
        """Memory that booting is done with, page by page. Linux: mm/page_alloc.c, free_reserved_area()."""
        for start, end, nid in ranges:
            self._init_split(start, end, nid)
            self.buddy.free_pages_bulk(np.arange(start, end, dtype=np.int64))

    def _free_cma_areas(self, memblock: Memblock) -> None:
        """Pageblocks of contiguous areas, which only movable pages may use. Linux: init_cma_reserved_pageblock()."""
        for zone, low, high in self._in_zones(memblock.cma_ranges()):
            self.buddy.areas.init_zone_range(zone.index, low, high, MIGRATE_CMA, BLK_SPLIT)
            for pfn in range(low, high, PAGEBLOCK_NR_PAGES):
                self.buddy.free_pages(pfn, PAGEBLOCK_ORDER)
            self.buddy.zones[zone.index]["managed"] += high - low
            zone.cma_pages += high - low

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
        self.alloc.khugepaged = self.alloc.transparent_hugepage and self.alloc.totalram_pages >= 512 << 20 - PAGE_SHIFT
        if self.alloc.khugepaged:
            self.alloc.set_recommended_min_free_kbytes()

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
