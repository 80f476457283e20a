"""The buddy allocator against a model of what it must keep true, and against facts of Linux's placement.

For pages of any size: CI runs it with MMFS_PAGE_SIZE=64K, too.
"""

from collections.abc import Iterator

import numpy as np
import pytest

from mmfs.fastpath.buddy import Buddy
from mmfs.mm.vmstat import VmStat
from mmfs.mm_types import (
    ALLOC_HIGHATOMIC,
    ALLOC_MIN_RESERVE,
    ALLOC_NON_BLOCK,
    ALLOC_WMARK_MIN,
    BLK_RESERVED,
    MAX_NR_ZONES,
    MAX_PAGE_ORDER,
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_TYPES,
    MIGRATE_UNMOVABLE,
    NR_LOWORDER_PCP_LISTS,
    NR_PAGE_ORDERS,
    NR_PCP_LISTS,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    ZONE_MOVABLE,
    ZONE_NORMAL,
    NumaStatItem,
    VmEventItem,
    ZoneStatItem,
)

PAGES = 16 << MAX_PAGE_ORDER
Z = ZONE_NORMAL


class Bed:
    """One zone of sixteen blocks of the largest order, all of it free, per-CPU lists off unless asked for."""

    def __init__(self, start: int = 0, end: int = PAGES, pcp: tuple[int, int] = (1, 0)) -> None:
        self.vmstat = VmStat(1)
        self.buddy = Buddy.of_machine(PAGES, self.vmstat, 1, 1)
        self.frames = self.buddy.frames
        zone = self.buddy.zones[Z]
        zone["start_pfn"], zone["end_pfn"], zone["managed"], zone["zid"] = 0, PAGES, end - start, Z
        self.buddy.areas.init_zone_range(Z, 0, PAGES, MIGRATE_MOVABLE, BLK_RESERVED)
        whole = MAX_PAGE_ORDER - PAGEBLOCK_ORDER
        self.frames.blocks["state"][-(-start >> MAX_PAGE_ORDER) << whole : end >> MAX_PAGE_ORDER << whole] = 0
        self.buddy.areas.free_range(Z, start, end)
        self.buddy.zonelists[0, 0] = Z
        batch, high = pcp
        for name, value in (("batch", batch), ("high", high), ("high_min", high), ("high_max", high)):
            self.buddy.pcps[name] = value

    def alloc(self, order: int = 0, mt: int = MIGRATE_MOVABLE, flags: int = ALLOC_WMARK_MIN) -> int:
        return int(self.buddy.alloc_pages(order, mt, 0, ZONE_MOVABLE, flags))

    def free_pages(self) -> int:
        return self.vmstat.zone_page_state(Z, ZoneStatItem.NR_FREE_PAGES)

    def counts(self) -> list[int]:
        table = self.buddy.areas.nr_free_counts.reshape(-1, NR_PAGE_ORDERS, MIGRATE_TYPES)[Z]
        return [int(n) for n in table.sum(axis=1)]

    def blocks(self) -> Iterator[tuple[int, int]]:
        """(first frame, order) of everything free, extents included."""
        for order in range(NR_PAGE_ORDERS):
            for mt in range(MIGRATE_TYPES):
                yield from ((pfn, order) for pfn in self.buddy.areas.free_list(Z, order, mt))
        row = self.buddy.zones[Z]
        for low, high in self.buddy.areas.extents[row["virgin"] : row["virgin_end"]]:
            yield from ((int(pfn), MAX_PAGE_ORDER) for pfn in range(low, high, 1 << MAX_PAGE_ORDER))

    def check(self) -> None:
        seen = np.zeros(PAGES, int)
        for pfn, order in self.blocks():
            assert pfn % (1 << order) == 0
            seen[pfn : pfn + (1 << order)] += 1
        for pindex in range(NR_PCP_LISTS):
            order = PAGEBLOCK_ORDER if pindex >= NR_LOWORDER_PCP_LISTS else pindex // 3
            for folio in self.buddy.pcp_list(0, Z, pindex):
                pfn = folio if order < PAGEBLOCK_ORDER else (folio - self.buddy.frames.huge) << PAGEBLOCK_ORDER
                seen[pfn : pfn + (1 << order)] += 1
        assert seen.max() <= 1
        assert seen.sum() == self.free_pages() + int(self.buddy.pcps[Z]["count"])


def test_boot_frees_the_largest_aligned_blocks() -> None:
    bed = Bed(start=1, end=PAGES - 3)
    assert bed.free_pages() == PAGES - 4
    assert bed.counts() == [2, 1, *[2] * (MAX_PAGE_ORDER - 2), 14]
    bed.check()


def test_split_takes_the_low_half_and_lists_the_rest() -> None:
    bed = Bed()
    assert bed.alloc() == 0
    assert bed.counts() == [1] * MAX_PAGE_ORDER + [15]
    assert [bed.alloc() for _ in range(3)] == [1, 2, 3]
    bed.check()


def test_free_merges_up_to_the_top() -> None:
    bed = Bed()
    taken = [bed.alloc() for _ in range(PAGES)]
    assert sorted(taken) == list(range(PAGES)) and bed.alloc() == -1
    for pfn in np.random.default_rng(7).permutation(taken):
        bed.buddy.free_pages(int(pfn), 0)
    assert bed.counts() == [0] * MAX_PAGE_ORDER + [16]
    bed.check()


def test_freed_block_goes_to_the_tail_when_its_merge_is_near() -> None:
    bed = Bed()
    pages = [bed.alloc() for _ in range(8)]
    bed.buddy.free_pages(pages[0], 0)
    bed.buddy.free_pages(pages[4], 0)
    bed.buddy.free_pages(pages[5], 0)  # merges with 4; its buddy pair 6-7 is taken, so it is put in front
    bed.buddy.free_pages(pages[2], 0)  # 3 is taken, and 0-1 is not whole: in front
    assert bed.buddy.areas.free_list(Z, 0, MIGRATE_MOVABLE) == [2, 0]
    bed.buddy.free_pages(pages[7], 0)  # the pair above it, 4-5, is free: 7 will merge soon, so to the tail
    assert bed.buddy.areas.free_list(Z, 0, MIGRATE_MOVABLE) == [2, 0, 7]


@pytest.mark.parametrize("mt", [MIGRATE_UNMOVABLE, MIGRATE_RECLAIMABLE])
def test_a_kernel_allocation_claims_a_whole_movable_block(mt: int) -> None:
    bed = Bed()
    pfn = bed.alloc(0, mt)
    assert bed.frames.blocks[pfn >> PAGEBLOCK_ORDER]["migratetype"] == mt
    assert len(bed.buddy.areas.free_list(Z, PAGEBLOCK_ORDER - 1, mt)) == 1
    bed.check()


def test_movable_steals_one_page_when_only_small_unmovable_blocks_are_left() -> None:
    bed = Bed()
    taken = [bed.alloc(0, MIGRATE_UNMOVABLE) for _ in range(PAGES)]
    for pfn in taken[: PAGES // 2 : 2]:
        bed.buddy.free_pages(pfn, 0)
    pfn = bed.alloc(0, MIGRATE_MOVABLE)
    assert pfn >= 0
    assert bed.frames.blocks[pfn >> PAGEBLOCK_ORDER]["migratetype"] == MIGRATE_UNMOVABLE
    bed.check()


def test_fallback_raises_the_watermark() -> None:
    bed = Bed()
    bed.buddy.zones[Z]["wmark_high"] = PAGEBLOCK_NR_PAGES + 88
    keep = [bed.alloc(PAGEBLOCK_ORDER) for _ in range(PAGES >> PAGEBLOCK_ORDER)]
    bed.buddy.free_pages(keep[0], PAGEBLOCK_ORDER)
    assert bed.alloc(0) == keep[0]  # what is free lies now in a block of which a page is taken
    assert bed.alloc(0, MIGRATE_UNMOVABLE) >= 0
    assert bed.buddy.zones[Z]["watermark_boost"] == PAGEBLOCK_NR_PAGES
    bed.check()


def test_high_order_atomic_allocation_reserves_its_block() -> None:
    bed = Bed()
    bed.buddy.zones[Z]["managed"] = PAGEBLOCK_NR_PAGES * 100
    flags = ALLOC_WMARK_MIN | ALLOC_NON_BLOCK | ALLOC_MIN_RESERVE | ALLOC_HIGHATOMIC
    pfn = bed.alloc(3, MIGRATE_UNMOVABLE, flags)
    assert bed.frames.blocks[pfn >> PAGEBLOCK_ORDER]["migratetype"] == MIGRATE_HIGHATOMIC
    assert bed.buddy.zones[Z]["nr_reserved_highatomic"] == PAGEBLOCK_NR_PAGES
    assert bed.buddy.zones[Z]["nr_free_highatomic"] == PAGEBLOCK_NR_PAGES - 8
    assert bed.buddy.highatomic.unreserve(Z, MIGRATE_MOVABLE, True)
    assert bed.buddy.zones[Z]["nr_free_highatomic"] == bed.buddy.zones[Z]["nr_reserved_highatomic"] == 0
    bed.check()


def test_watermark_keeps_pages_back() -> None:
    bed = Bed()
    bed.buddy.zones[Z]["wmark_min"] = bed.buddy.zones[Z]["wmark_high"] = 100
    got = 0
    while bed.alloc() >= 0:
        got += 1
    assert bed.free_pages() == PAGES - got == 100
    assert bed.alloc(0, MIGRATE_MOVABLE, ALLOC_WMARK_MIN | ALLOC_MIN_RESERVE) >= 0


def test_pcp_list_is_filled_in_batches_that_grow() -> None:
    bed = Bed(pcp=(31, 400))
    first = bed.alloc()
    assert first == 0 and int(bed.buddy.pcps[Z]["count"]) == 30
    for _ in range(30):
        bed.alloc()
    assert bed.alloc() == 31
    assert int(bed.buddy.pcps[Z]["count"]) == 61  # a second run without a free in between takes twice the batch
    bed.check()


def test_events_and_numa_counters() -> None:
    bed = Bed()
    pfn = bed.alloc(2)
    bed.buddy.free_pages(pfn, 2)
    assert bed.vmstat.event[VmEventItem.PGALLOC_NORMAL] == 4
    assert bed.vmstat.event[VmEventItem.PGFREE] == 4
    assert bed.vmstat.numa_event[Z, NumaStatItem.NUMA_HIT] == 1
    assert bed.vmstat.numa_event[Z, NumaStatItem.NUMA_LOCAL] == 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pcp", [(1, 0), (31, 200)])
def test_random_use_keeps_every_page_in_one_place(seed: int, pcp: tuple[int, int]) -> None:
    bed = Bed(start=37, end=PAGES - 700, pcp=pcp)
    rng = np.random.default_rng(seed)
    held: list[tuple[int, int]] = []
    for step in range(3000):
        if held and rng.random() < 0.48:
            pfn, order = held.pop(int(rng.integers(len(held))))
            bed.buddy.free_pages(pfn, order)
        else:
            order = int(rng.choice(11, p=[0.6, 0.1, 0.08, 0.06, 0.04, 0.03, 0.03, 0.02, 0.02, 0.01, 0.01]))
            pfn = bed.alloc(order, int(rng.integers(3)))
            if pfn >= 0:
                assert pfn % (1 << order) == 0
                held.append((pfn, order))
        if step % 500 == 0:
            bed.check()
    for pfn, order in held:
        bed.buddy.free_pages(pfn, order)
    bed.buddy.drain_pages(0, Z)
    assert bed.free_pages() == PAGES - 737
    bed.check()


def test_each_zone_has_lists_of_its_own() -> None:
    """A block of the largest order that comes back stands in its zone's list, and in no other's."""
    bed = Bed()
    pfn = bed.alloc(MAX_PAGE_ORDER)
    bed.buddy.free_pages(pfn, MAX_PAGE_ORDER)
    lists = {
        (zone, order): bed.buddy.areas.free_list(zone, order, MIGRATE_MOVABLE)
        for zone in range(MAX_NR_ZONES)
        for order in range(NR_PAGE_ORDERS)
    }
    assert {where: blocks for where, blocks in lists.items() if blocks} == {(Z, MAX_PAGE_ORDER): [pfn]}
