"""Emptying a range of frames, for memory that goes offline or a block larger than the buddy allocator's largest.

`isolate_range()` takes the free pages of a range from everybody; it fails if something there cannot move. Then
`migrate_range()` moves the rest as often as it takes. What is left at the end is free, and belongs to who has isolated
it, or goes back to all (`undo_isolate_range()`).

Linux: mm/page_isolation.c; mm/memory_hotplug.c, scan_movable_pages(), do_migrate_range(); mm/page_alloc.c,
alloc_contig_pages().

Simplified: Linux tries to move a page until it moves or a signal comes; here it fails (EBUSY) when TRIES rounds have
moved nothing.
"""

from __future__ import annotations

from errno import EBUSY
from typing import TYPE_CHECKING, Final

import numpy as np

from mmfs.fastpath.page_isolation import PageIsolation
from mmfs.mm import hugetlb_migrate
from mmfs.mm.debug import dump_page
from mmfs.mm.filemap import task_ns
from mmfs.mm_types import (
    BLK_HUGETLB,
    BLK_RESERVED,
    BLK_SPLIT,
    GFP_HIGHMEM_BIT,
    GFP_MOVABLE_BIT,
    GFP_RETRY_MAYFAIL_BIT,
    GFP_USER,
    MAX_PAGE_ORDER,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    MIGRATE_TYPES,
    NR_PAGE_ORDERS,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    PG_DIRTY,
    PG_HEAD,
    PG_HUGETLB,
    PG_LRU,
    PG_SWAPBACKED,
    PG_TAIL,
    PG_UNEVICTABLE,
    ZONE_MOVABLE,
    ZONE_NORMAL,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mmzone import Zone

TRIES: Final = 8
CONTIG_TRIES: Final = 5
RETRY_NS: Final = 20_000_000
"""How long to wait for what holds pages where they are: a disk."""
EXTENTS_PER_ZONE: Final = 256


class Isolation:
    """The isolation of a machine's pageblocks, on behalf of whoever runs."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.loops = PageIsolation(kernel.mmu.compaction.migration, kernel.vmstat)

    # -- pageblocks -----------------------------------------------------------------------------------------------

    def isolate_range(
        self, zone: Zone, start: int, end: int, report: bool = True, migratetype: int = MIGRATE_MOVABLE
    ) -> None:
        """Isolate all pageblocks of a range of one zone, or none: EBUSY. `report`: the log tells what is in the way.

        They are of `migratetype` as far as the caller knows. Linux: start_isolate_page_range().
        """
        self.kernel.lru.lru_add_drain_all()
        self.kernel.compactor.release_free_pages()
        self.kernel.page_alloc.drain_all_pages()
        self.cut_extents(zone, start, end)
        first, last = start >> PAGEBLOCK_ORDER, (end >> PAGEBLOCK_ORDER) - 1
        for block in (first, last, *range(first + 1, last)):
            pfn = self.loops.unmovable(block, zone.zone_idx == ZONE_MOVABLE, migratetype)
            if pfn >= 0 or self.kernel.frames.blocks["migratetype"][block] == MIGRATE_ISOLATE:
                if report:
                    dump_page(self.kernel, max(pfn, block << PAGEBLOCK_ORDER), "unmovable page")
                raise OSError(EBUSY, f"frame {pfn:#x} cannot move")
        for block in (first, last + 1):
            self.loops.split_large_buddy(block)
        for block in range(first, last + 1):
            self.loops.isolate_block(block)

    def undo_isolate_range(self, start: int, end: int, migratetype: int = MIGRATE_MOVABLE) -> None:
        """The pageblocks are there for everybody again. Linux: undo_isolate_page_range()."""
        for block in range(start >> PAGEBLOCK_ORDER, end >> PAGEBLOCK_ORDER):
            self.loops.unisolate_block(block, migratetype)

    def cut_extents(self, zone: Zone, start: int, end: int) -> None:
        """What was never used of a range gets records; the smallest pieces that are left, too, if they are too many."""
        areas, row = self.kernel.page_alloc.buddy.areas, self.kernel.page_alloc.buddy.zones[zone.index]
        shown: list[tuple[int, int]] = []
        left: list[tuple[int, int]] = []
        for low, high in zone.virgin_extents():
            cut = max(low, start), min(high, end)
            if cut[0] < cut[1]:
                shown.append(cut)
                left += [piece for piece in ((low, cut[0]), (cut[1], high)) if piece[0] < piece[1]]
            else:
                left.append((low, high))
        if not shown:
            return
        smallest = sorted(left, key=lambda piece: piece[1] - piece[0])[: max(len(left) - EXTENTS_PER_ZONE, 0)]
        left = [piece for piece in left if piece not in smallest]
        base = zone.index * EXTENTS_PER_ZONE
        row["virgin"], row["virgin_end"] = base, base + len(left)
        areas.extents[base : base + len(left)] = np.array(left, np.int64).reshape(-1, 2)
        free = (zone.index * NR_PAGE_ORDERS + MAX_PAGE_ORDER) * MIGRATE_TYPES + MIGRATE_MOVABLE
        for low, high in [*smallest, *shown]:
            areas.nr_free_counts[free] -= (high - low) >> MAX_PAGE_ORDER
            for pfn in range(low, high, 1 << MAX_PAGE_ORDER):
                self.loops.add_virgin(zone.index, pfn)

    # -- pages ----------------------------------------------------------------------------------------------------

    def migrate_range(self, zone: Zone, start: int, end: int) -> None:
        """Move everything out of an isolated range. EBUSY: something stays. Linux: the loop of offline_pages()."""
        kernel, nid = self.kernel, zone.zone_pgdat.node_id
        others = self._nodes_with_memory() & ~(1 << nid)
        stuck = 0
        while (pfn := self._next_used(start, end)) < end:
            if self._migrate_once(zone, pfn, end, others or 1 << nid):
                stuck = 0
                continue
            stuck += 1
            if stuck == TRIES:
                dump_page(kernel, pfn, "migration failure")
                raise OSError(EBUSY, f"frame {pfn:#x} does not move")
            kernel.current_io_schedule(kernel.clock.now_ns + RETRY_NS)
            kernel.lru.lru_add_drain_all()

    def _next_used(self, start: int, end: int) -> int:
        """The first frame of a range that is not free, or `end`. Linux: scan_movable_pages()."""
        huge = (max(folio.pfn, start) for folio in hugetlb_migrate.in_use(self.kernel, start, end))
        return min(int(self.loops.next_used(start, end)), *huge, end)

    def _nodes_with_memory(self) -> int:
        return sum(1 << pgdat.node_id for pgdat in self.kernel.node_data if pgdat.node_present_pages)

    def _migrate_once(self, zone: Zone, start: int, end: int, mask: int) -> bool:
        """One round, to nodes of `mask`; whether anything moved. Linux: do_migrate_range()."""
        kernel, loops, nid = self.kernel, self.loops, zone.zone_pgdat.node_id
        migration = kernel.mmu.compaction.migration
        movable = zone.zone_idx == ZONE_MOVABLE
        gfp = GFP_USER | GFP_MOVABLE_BIT | GFP_RETRY_MAYFAIL_BIT | (GFP_HIGHMEM_BIT if movable else 0)
        migration.now_ns = task_ns(kernel)
        moved = hugetlb_migrate.migrate_range(kernel, start, end, nid, mask)
        while (start := loops.migrate_range(start, end, nid, ZONE_MOVABLE if movable else ZONE_NORMAL, mask)) < end:
            moved += loops.nr_moved
            loops.spare = kernel.page_alloc.slowpath(gfp, 0, nid, mask)
            if loops.spare < 0:
                break
        moved += loops.nr_moved
        if loops.spare >= 0:
            kernel.page_alloc.free_pages(loops.spare)
            loops.spare = -1
        kernel.lru.lru_add_drain_all()
        kernel.compactor.loops.cpu_ns += migration.cpu_ns
        migration.cpu_ns = 0
        kernel.compactor.charge(kernel.tasks.current)
        return moved > 0

    # -- blocks larger than the buddy's largest -------------------------------------------------------------------

    def alloc_contig_pages(self, nr_pages: int, nid: int) -> int:
        """A run of frames of a node, aligned to its own size, that nobody uses any more; -1 if there is none.

        Linux: mm/page_alloc.c, alloc_contig_pages(), with GFP_HIGHUSER and __GFP_THISNODE.
        """
        for zone in self.kernel.node_data[nid].node_zones[ZONE_NORMAL::-1]:
            if not zone.managed():
                continue
            for low, high in self.kernel.memory_blocks.pieces(zone):
                for start in range(-(-low // nr_pages) * nr_pages, high - nr_pages + 1, nr_pages):
                    end = start + nr_pages
                    if self._valid_contig(start, end) and self.alloc_contig_range(zone, start, end):
                        return start
        return -1

    def _valid_contig(self, start: int, end: int) -> bool:
        """Whether it is worth a try. Linux: pfn_range_valid_contig()."""
        frames = self.kernel.frames
        states = frames.blocks["state"][start >> PAGEBLOCK_ORDER : end >> PAGEBLOCK_ORDER]
        if ((states == BLK_RESERVED) | (states == BLK_HUGETLB)).any():
            return False
        split = np.repeat(states == BLK_SPLIT, PAGEBLOCK_NR_PAGES)
        return not bool((frames.pages["flags"][start:end][split] & PG_HUGETLB).any())

    def alloc_contig_range(self, zone: Zone, start: int, end: int, migratetype: int = MIGRATE_MOVABLE) -> bool:
        """Empty a range of frames, whose pageblocks are of a type, and take it; False: something stays.

        Linux: mm/page_alloc.c, alloc_contig_range_noprof(), __alloc_contig_migrate_range().
        """
        loops = self.loops
        low, high = start & -PAGEBLOCK_NR_PAGES, end + PAGEBLOCK_NR_PAGES - 1 & -PAGEBLOCK_NR_PAGES
        try:
            self.isolate_range(zone, low, high, report=False, migratetype=migratetype)
        except OSError:
            return False
        self._reclaim_clean_pages(start, end)
        tries, mask = 0, self._nodes_with_memory()
        replaced = hugetlb_migrate.replace_free(self.kernel, start, end)
        while (pfn := self._next_used(loops.find_large_buddy(start), end)) < end and tries < CONTIG_TRIES:
            tries = 0 if self._migrate_once(zone, pfn, end, mask) else tries + 1
        emptied = replaced and bool(pfn >= end)
        if emptied:
            outer = loops.find_large_buddy(start)
            outer_end = loops.take_isolated(zone.index, outer, end)
            for pfn in (*range(outer, start), *range(end, outer_end)):
                self.kernel.page_alloc.buddy.free_pages(pfn, 0)
        self.undo_isolate_range(low, high, migratetype)
        return emptied

    def _reclaim_clean_pages(self, start: int, end: int) -> None:
        """Pages of files that are clean are not worth being moved. Linux: reclaim_clean_pages_from_list()."""
        kernel = self.kernel
        flags = kernel.frames.pages["flags"][start:end]
        clean = flags & (PG_LRU | PG_SWAPBACKED | PG_DIRTY | PG_UNEVICTABLE | PG_HEAD | PG_TAIL) == PG_LRU
        clean &= kernel.frames.blocks["state"][np.arange(start, end) >> PAGEBLOCK_ORDER] == BLK_SPLIT
        if clean.any():
            kernel.reclaim.reclaim_pages(kernel.tasks.current, start + np.flatnonzero(clean))
