"""/proc/zoneinfo, /proc/buddyinfo, /proc/pagetypeinfo: what each zone of each node holds.

Linux: mm/vmstat.c, zoneinfo_show_print(), frag_show_print(), pagetypeinfo_show().
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

from mmfs.fs.proc.root import proc
from mmfs.fs.proc.vmstat import Plan, node_stat_printed, zone_printed
from mmfs.mm.mm_init import migratetypes
from mmfs.mm.vmstat import node_stat_text, numa_stat_text, zone_stat_text
from mmfs.mm_types import (
    MIGRATETYPE_NAMES,
    NR_PAGE_ORDERS,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
)
from mmfs.profile import Needs, since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mmzone import PglistData, Zone
    from mmfs.profile import Profile

MAX_RECLAIM_RETRIES = 16
"""After so many fruitless runs kswapd gives a node up. Linux: mm/internal.h."""

PAGETYPE_MAX = 100_000
"""Where pagetypeinfo stops counting a free list."""


@cache
def node_stats(profile: Profile) -> Plan:
    """A kernel's rows of a node's counters."""
    return Plan(node_stat_text, profile, "\n      %-12s %%d")


@cache
def zone_stats(profile: Profile) -> Plan:
    """A kernel's rows of a zone's counters."""
    return Plan((*zone_stat_text, *numa_stat_text), profile, "\n      %-12s %%d")


def populated_zones(pgdat: PglistData) -> Iterator[Zone]:
    """The zones of a node that have memory."""
    return (zone for zone in pgdat.zones if zone.populated())


# -- zoneinfo ---------------------------------------------------------------------------------------------


@proc.attribute("zoneinfo")
def zoneinfo(kernel: Kernel) -> str:
    """All zones of all nodes with memory or CPUs, populated or not."""
    parts: list[str] = []
    for pgdat in kernel.node_data:
        first = next(populated_zones(pgdat), None)
        for zone in pgdat.zones:
            parts.append(f"Node {pgdat.node_id}, zone {zone.name:>8}")
            if zone is first:
                state = node_stat_printed(kernel.vmstat.node_stat[pgdat.node_id].tolist())
                parts.append(f"\n  per-node stats{node_stats(kernel.profile).text(state)}")
            parts.append(_zone(kernel, pgdat, zone))
    return "".join(parts)


def _zone(kernel: Kernel, pgdat: PglistData, zone: Zone) -> str:
    state = zone_printed(kernel, (zone,), kernel.vmstat.zone_stat[zone.index].tolist())
    promo = f"\n        promo    {zone.promo_wmark_pages()}" if since(6, 12)(kernel) else ""
    text = (
        f"\n  pages free     {state[0]}"
        f"\n        boost    {zone.watermark_boost}"
        f"\n        min      {zone.min_wmark_pages()}"
        f"\n        low      {zone.low_wmark_pages()}"
        f"\n        high     {zone.high_wmark_pages()}"
        f"{promo}"
        f"\n        spanned  {zone.spanned_pages}"
        f"\n        present  {zone.present_pages}"
        f"\n        managed  {zone.managed_pages}"
        f"\n        cma      {zone.cma_pages}"
        f"\n        protection: ({', '.join(map(str, zone.lowmem_reserve))})"
    )
    if not zone.populated():
        return text + "\n"
    numa = kernel.vmstat.numa_event[zone.index].tolist()
    text += zone_stats(kernel.profile).text((*state, *numa)) + "\n  pagesets" + _pagesets(kernel, zone)
    text += (
        f"\n  node_unreclaimable:  {int(pgdat.kswapd_failures >= MAX_RECLAIM_RETRIES)}"
        f"\n  start_pfn:           {zone.zone_start_pfn}\n"
    )
    if HIGHATOMIC(kernel):
        text += f"  reserved_highatomic: {zone.nr_reserved_highatomic}\n"
        text += f"  free_highatomic:     {zone.nr_free_highatomic}\n"
    return text


HIGHATOMIC: Final = since(6, 19)
"""Kernels that tell what is reserved for atomic allocations, and what of that is free."""
PAGESET_FIELDS: Final[tuple[tuple[str, Needs | None], ...]] = (
    ("count", None), ("high", None), ("batch", None), ("high_min", since(6, 13)), ("high_max", since(6, 13)),
)  # fmt: skip


@cache
def pageset_line(profile: Profile) -> str:
    """A kernel's fields of a CPU's list of pages, in a column as wide as the longest needs."""
    fields = [name for name, needs in PAGESET_FIELDS if needs is None or needs(profile)]
    width = max(map(len, fields)) + 1
    return "".join(f"\n              {name + ':':<{width}} {{0.{name}}}" for name in fields)


def _pagesets(kernel: Kernel, zone: Zone) -> str:
    pagesets = zone.per_cpu_pageset
    tail = f"\n  vm stats threshold: {zone.stat_threshold}"
    line = pageset_line(kernel.profile).format
    return "".join([f"\n    cpu: {cpu.cpu}{line(pcp)}{tail}" for cpu, pcp in zip(kernel.cpus, pagesets, strict=True)])


# -- buddyinfo --------------------------------------------------------------------------------------------


@proc.attribute("buddyinfo")
def buddyinfo(kernel: Kernel) -> str:
    """How many free blocks of each order every zone has.

    Linux: mm/vmstat.c, frag_show_print().
    """
    lines = []
    for pgdat in kernel.node_data:
        for zone in populated_zones(pgdat):
            free = "".join([f"{sum(counts):6d} " for counts in zone.free_area_counts()])
            lines.append(f"Node {pgdat.node_id}, zone {zone.name:>8} {free}\n")
    return "".join(lines)


# -- pagetypeinfo -----------------------------------------------------------------------------------------


@proc.attribute("pagetypeinfo", mode=0o400)
def pagetypeinfo(kernel: Kernel) -> str:
    """Free blocks by order and migratetype, pageblocks by migratetype, a section a node.

    Linux: mm/vmstat.c, pagetypeinfo_show().
    """
    return "".join(_pagetype_node(kernel, pgdat) for pgdat in kernel.node_data if any(populated_zones(pgdat)))


def _pagetype_node(kernel: Kernel, pgdat: PglistData) -> str:
    orders = "".join(f"{order:6d} " for order in range(NR_PAGE_ORDERS))
    shown = migratetypes(kernel.profile)
    types = "".join(f"{MIGRATETYPE_NAMES[mt]:>12} " for mt in shown)
    free = "".join(_pagetype_free(pgdat, zone, shown) for zone in populated_zones(pgdat))
    blocks = "".join(_pagetype_blocks(pgdat, zone, shown) for zone in populated_zones(pgdat))
    return (
        f"Page block order: {PAGEBLOCK_ORDER}\nPages per block:  {PAGEBLOCK_NR_PAGES}\n\n"
        f"{'Free pages count per migrate type at order':<43} {orders}\n{free}"
        f"\n{'Number of blocks type ':<23}{types}\n{blocks}"
    )


def _pagetype_free(pgdat: PglistData, zone: Zone, shown: Iterable[int]) -> str:
    lines = []
    by_type = list(zip(*zone.free_area_counts(), strict=True))
    for mt in shown:
        counts = by_type[mt]
        lines.append(f"Node {pgdat.node_id:4d}, zone {zone.name:>8}, type {MIGRATETYPE_NAMES[mt]:>12} ")
        lines += [f"{count:6d} " if count < PAGETYPE_MAX else f">{PAGETYPE_MAX:6d} " for count in counts]
        lines.append("\n")
    return "".join(lines)


def _pagetype_blocks(pgdat: PglistData, zone: Zone, shown: Iterable[int]) -> str:
    by_type = zone.nr_pageblocks_by_type()
    counts = "".join(f"{by_type[mt]:12d} " for mt in shown)
    return f"Node {pgdat.node_id}, zone {zone.name:>8} {counts}\n"
