"""What the kernel derives from the sizes of zones: watermarks, reserves, per-CPU lists; functions of plain numbers.

The watermarks follow from the square root of the memory, the per-CPU lists from the watermarks. Nothing here holds
state: page_alloc calls these at boot and again whenever a sysctl changes.

Linux: mm/page_alloc.c, mm/vmstat.c, mm/khugepaged.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import NamedTuple

from mmfs.mm_types import (
    MAX_NR_ZONES,
    MIGRATE_PCPTYPES,
    PAGE_SHIFT,
    PAGE_SIZE,
    PAGEBLOCK_NR_PAGES,
    SWAP_CLUSTER_MAX,
)

MIN_PERCPU_PAGELIST_HIGH_FRACTION = 8
LOWMEM_RESERVE_RATIO = (256, 256, 32, 0, 0, 0)
"""By zone type."""


class Watermarks(NamedTuple):
    """The four watermarks of a zone in pages."""

    min: int
    low: int
    high: int
    promo: int


def calculate_min_free_kbytes(free_buffer_pages: int) -> int:
    """min_free_kbytes for that many pages above the high watermark in zones for kernel use.

    Linux: mm/page_alloc.c, calculate_min_free_kbytes().
    """
    lowmem_kbytes = free_buffer_pages * (PAGE_SIZE >> 10)
    return min(max(isqrt(lowmem_kbytes * 16), 128), 262144)


def recommended_min_free_kbytes(nr_zones: int, free_buffer_pages: int) -> int:
    """What khugepaged raises min_free_kbytes to; nr_zones counts populated zones but Movable.

    Linux: mm/khugepaged.c, set_recommended_min_free_kbytes().
    """
    wanted = PAGEBLOCK_NR_PAGES * nr_zones * (2 + MIGRATE_PCPTYPES * MIGRATE_PCPTYPES)
    return min(wanted, free_buffer_pages // 20) << (PAGE_SHIFT - 10)


def zone_watermarks(
    managed: int, lowmem_pages: int, min_free_kbytes: int, watermark_scale_factor: int = 10, movable: bool = False
) -> Watermarks:
    """A zone's watermarks; lowmem_pages is what all zones but Movable manage.

    Linux: mm/page_alloc.c, __setup_per_zone_wmarks().
    """
    share = (min_free_kbytes >> (PAGE_SHIFT - 10)) * managed // lowmem_pages if lowmem_pages else 0
    low_min = min(max(managed // 1024, SWAP_CLUSTER_MAX), 128) if movable else share
    whole, rest = divmod(managed, 10000)
    step = max(share >> 2, whole * watermark_scale_factor + rest * watermark_scale_factor // 10000)
    return Watermarks(low_min, low_min + step, low_min + 2 * step, low_min + 3 * step)


def lowmem_reserves(managed: Sequence[int], ratios: Sequence[int] = LOWMEM_RESERVE_RATIO) -> list[list[int]]:
    """lowmem_reserve of each zone of a node, from what its zones manage.

    Linux: mm/page_alloc.c, setup_per_zone_lowmem_reserve().
    """
    rows = []
    for zone, ratio in enumerate(ratios):
        row = [0] * MAX_NR_ZONES
        above = 0
        for upper in range(zone + 1, MAX_NR_ZONES):
            above += managed[upper]
            if ratio and managed[zone]:
                row[upper] = above // ratio
        rows.append(row)
    return rows


def zone_batchsize(managed: int) -> int:
    """How many pages move at a time between a per-CPU list and the zone. Linux: zone_batchsize()."""
    batch = max(min(managed >> 10, (1 << 20) // PAGE_SIZE) // 4, 1)
    return (1 << ((batch + batch // 2).bit_length() - 1)) - 1


def zone_highsize(
    managed: int, low_wmark: int, batch: int, nr_node_cpus: int, nr_online_cpus: int, high_fraction: int = 0
) -> int:
    """How many pages a per-CPU list may hold. Linux: mm/page_alloc.c, zone_highsize()."""
    total = managed // high_fraction if high_fraction else low_wmark
    return max(total // (nr_node_cpus or nr_online_cpus), batch << 2)


def pageset_high_and_batch(
    managed: int, low_wmark: int, nr_node_cpus: int, nr_online_cpus: int, percpu_pagelist_high_fraction: int = 0
) -> tuple[int, int, int]:
    """high_min, high_max and batch of a zone's per-CPU lists. Linux: zone_set_pageset_high_and_batch()."""
    batch = max(1, zone_batchsize(managed))
    fraction = percpu_pagelist_high_fraction
    high_min = zone_highsize(managed, low_wmark, batch, nr_node_cpus, nr_online_cpus, fraction)
    if fraction:
        return high_min, high_min, batch
    high_max = zone_highsize(managed, low_wmark, batch, nr_node_cpus, nr_online_cpus, MIN_PERCPU_PAGELIST_HIGH_FRACTION)
    return high_min, high_max, batch


def calculate_normal_threshold(managed: int, nr_online_cpus: int) -> int:
    """How far a per-CPU counter may run ahead of its zone's. Linux: mm/vmstat.c."""
    in_128mb = managed >> (27 - PAGE_SHIFT)
    return min(125, 2 * nr_online_cpus.bit_length() * (1 + in_128mb.bit_length()))


def calculate_pressure_threshold(low_wmark: int, min_wmark: int, nr_online_cpus: int) -> int:
    """The smaller threshold while kswapd is awake. Linux: mm/vmstat.c."""
    return min(125, max(1, (low_wmark - min_wmark) // nr_online_cpus))
