"""How the kernel cuts memory into nodes and zones, as functions of plain numbers.

Zones are cut from the nodes' memory at 16 MB (not on arm64) and 4 GB, and where ``movablecore=`` or ``kernelcore=``
say so. Nothing here holds state; what follows from the zones' sizes is in watermark.py.

Linux: mm/mm_init.c, mm/page_alloc.c.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import NamedTuple

from mmfs.mm.sparse import PAGES_PER_SECTION
from mmfs.mm_types import (
    MAX_NR_ZONES,
    MAX_PAGE_ORDER,
    MIGRATE_CMA,
    MIGRATE_TYPES,
    PAGE_SHIFT,
    ZONE_DEVICE,
    ZONE_DMA,
    ZONE_DMA32,
    ZONE_HIGHMEM,
    ZONE_MOVABLE,
    ZONE_NORMAL,
)
from mmfs.profile import Profile, config

MAX_DMA_PFN = (16 << 20) >> PAGE_SHIFT
MAX_DMA32_PFN = (4 << 30) >> PAGE_SHIFT
MAX_ORDER_NR_PAGES = 1 << MAX_PAGE_ORDER
MIN_PERCPU_PAGELIST_HIGH_FRACTION = 8
SWAP_CLUSTER_MAX = 32
ZONE_NEEDS = {
    ZONE_DMA: config("ZONE_DMA"), ZONE_DMA32: config("ZONE_DMA32"), ZONE_HIGHMEM: config("HIGHMEM"),
    ZONE_DEVICE: config("ZONE_DEVICE"),
}  # fmt: skip
"""The zones that only some kernels have. Linux: include/linux/mmzone.h, enum zone_type."""


@cache
def zone_types(profile: Profile) -> tuple[int, ...]:
    """The zones that a node of a kernel has, lowest first; the model keeps a row for each of the others too."""
    return tuple(zone for zone in range(MAX_NR_ZONES) if zone not in ZONE_NEEDS or ZONE_NEEDS[zone](profile))


@cache
def migratetypes(profile: Profile) -> tuple[int, ...]:
    """The kinds of pageblocks that a kernel knows; the model has lists for all."""
    return tuple(mt for mt in range(MIGRATE_TYPES) if mt != MIGRATE_CMA or profile.config("CMA"))


class ZoneRange(NamedTuple):
    """The frames of one zone of one node; a zone without frames starts at 0."""

    nid: int
    zone_type: int
    start_pfn: int
    spanned: int
    present: int

    @property
    def end_pfn(self) -> int:
        """The first frame behind it."""
        return self.start_pfn + self.spanned

    @property
    def absent(self) -> int:
        """Holes within it."""
        return self.spanned - self.present


class NodeRange(NamedTuple):
    """The frames of one node."""

    nid: int
    start_pfn: int
    spanned: int
    present: int

    @property
    def end_pfn(self) -> int:
        """The first frame behind it."""
        return self.start_pfn + self.spanned


PfnRanges = Sequence[tuple[int, int, int]]


# -- zones -----------------------------------------------------------------------------------------------


def zone_limits(
    start_pfn: int, max_low_pfn: int, max_pfn: int, types: Collection[int], max_dma_pfn: int = MAX_DMA_PFN
) -> list[tuple[int, int]]:
    """The lowest and highest possible frame of each zone type, of which ``types`` are there.

    Linux: free_area_init(), zone_sizes_init().
    """
    tops = {
        ZONE_DMA: min(max_dma_pfn, max_low_pfn),
        ZONE_DMA32: min(MAX_DMA32_PFN, max_low_pfn),
        ZONE_NORMAL: max_low_pfn,
        ZONE_HIGHMEM: max_pfn,
    }
    tops = {zone: top for zone, top in tops.items() if zone in types}
    limits = []
    for zone in range(MAX_NR_ZONES):
        if zone == ZONE_MOVABLE:
            limits.append((0, 0))
            continue
        end = max(tops.get(zone, 0), start_pfn)
        limits.append((start_pfn, end))
        start_pfn = end
    return limits


def movable_zone(limits: Sequence[tuple[int, int]]) -> int:
    """The highest zone type that has room: ZONE_MOVABLE is cut from it. Linux: find_usable_zone_for_movable()."""
    return max(
        zone for zone, (low, high) in enumerate(limits) if zone not in (ZONE_MOVABLE, ZONE_DEVICE) and high > low
    )


def find_zone_movable_pfns(
    memory: PfnRanges, limits: Sequence[tuple[int, int]], kernelcore: int, movablecore: int
) -> dict[int, int]:
    """Where ZONE_MOVABLE begins on each node, for kernelcore= and movablecore= in pages.

    The memory that the kernel may use freely is spread evenly over the nodes; a node that has too
    little gives its share to the others in another round.

    Linux: find_zone_movable_pfns_for_nodes().
    """
    total = sum(end - start for start, end, _ in memory)
    if movablecore:
        movablecore = min(total, -(-movablecore // MAX_ORDER_NR_PAGES) * MAX_ORDER_NR_PAGES)
        kernelcore = max(kernelcore, total - movablecore)
    if not kernelcore or kernelcore >= total:
        return {}
    usable_start = limits[movable_zone(limits)][0]
    nodes = sorted({nid for _, _, nid in memory})
    starts = dict.fromkeys(nodes, 0)
    usable_nodes = len(nodes)
    while True:
        share = kernelcore // usable_nodes
        for nid in nodes:
            if kernelcore < share:
                share = kernelcore // usable_nodes
            kernelcore = _take_kernelcore(memory, nid, share, kernelcore, usable_start, starts)
        usable_nodes -= 1
        if not usable_nodes or kernelcore <= usable_nodes:
            break
    return _align_movable(memory, starts)


def _take_kernelcore(
    memory: PfnRanges, nid: int, remaining: int, kernelcore: int, usable_start: int, starts: dict[int, int]
) -> int:
    """Move a node's ZONE_MOVABLE up by its share; what the kernel still wants is the result."""
    for start, end, on in memory:
        start = max(start, starts[nid])
        if on != nid or start >= end:
            continue
        if start < usable_start:
            below = min(end, usable_start) - start
            remaining -= min(below, remaining)
            kernelcore -= min(below, kernelcore)
            if end <= usable_start:
                starts[nid] = end
                continue
            start = usable_start
        size = min(end - start, remaining)
        starts[nid] = start + size
        kernelcore -= min(kernelcore, size)
        remaining -= size
        if not remaining:
            break
    return kernelcore


def _align_movable(memory: PfnRanges, starts: dict[int, int]) -> dict[int, int]:
    aligned = {}
    for nid, start in starts.items():
        start = -(-start // MAX_ORDER_NR_PAGES) * MAX_ORDER_NR_PAGES
        if 0 < start < max(end for _, end, on in memory if on == nid):
            aligned[nid] = start
    return aligned


def present_in_range(memory: PfnRanges, nid: int, start: int, end: int) -> int:
    """Frames of a node's memory within a range. Linux: the range less __absent_pages_in_range()."""
    return sum(max(0, min(high, end) - max(low, start)) for low, high, on in memory if on == nid)


def node_range(memory: PfnRanges, nid: int) -> NodeRange:
    """First to last frame of a node. Linux: get_pfn_range_for_nid()."""
    own = [(start, end) for start, end, on in memory if on == nid]
    if not own:
        return NodeRange(nid, 0, 0, 0)
    start, end = min(own)[0], max(high for _, high in own)
    return NodeRange(nid, start, end - start, sum(high - low for low, high in own))


def zone_range(
    memory: PfnRanges, node: NodeRange, zone: int, limits: Sequence[tuple[int, int]], movable_pfn: int = 0
) -> ZoneRange:
    """The frames of one zone of a node.

    Linux: zone_spanned_pages_in_node(), adjust_zone_range_for_zone_movable(), calculate_node_totalpages().
    """
    low, high = limits[zone]
    start = min(max(node.start_pfn, low), high)
    end = min(max(node.end_pfn, low), high)
    if movable_pfn:
        if zone == ZONE_MOVABLE:
            start, end = movable_pfn, min(node.end_pfn, limits[movable_zone(limits)][1])
        elif start < movable_pfn < end:
            end = movable_pfn
        elif start >= movable_pfn:
            start = end
    if not node.present or end <= start or end < node.start_pfn or start > node.end_pfn:
        return ZoneRange(node.nid, zone, 0, 0, 0)
    return ZoneRange(node.nid, zone, start, end - start, present_in_range(memory, node.nid, start, end))


def setup_nodes(
    memory: PfnRanges, nids: Iterable[int], limits: Sequence[tuple[int, int]], movable: dict[int, int]
) -> tuple[list[NodeRange], list[ZoneRange]]:
    """Every node and its zones. Linux: free_area_init(), free_area_init_node()."""
    nodes: list[NodeRange] = []
    zones: list[ZoneRange] = []
    for nid in nids:
        node = node_range(memory, nid)
        nodes.append(node)
        zones.extend(zone_range(memory, node, zone, limits, movable.get(nid, 0)) for zone in range(MAX_NR_ZONES))
    return nodes, zones


def first_deferred_pfn(memory: PfnRanges, node: NodeRange, zones: Sequence[ZoneRange]) -> int | None:
    """Where the lazy initialisation of a node's frames begins: after one section of its last zone.

    Linux: mm/mm_init.c, defer_init().
    """
    last = max((zone for zone in zones if zone.spanned), key=lambda zone: zone.end_pfn, default=None)
    if last is None:
        return None
    seen = 0
    for start, end, nid in memory:
        start, end = max(start, last.start_pfn), min(end, last.end_pfn)
        if nid != node.nid or start >= end:
            continue
        needed = max(PAGES_PER_SECTION - seen, 0)
        pfn = -(-(start + needed) // PAGES_PER_SECTION) * PAGES_PER_SECTION
        if pfn < end:
            return pfn
        seen += end - start
    return None


# -- the memory map ------------------------------------------------------------------------------------------------


def memory_block_size(max_pfn: int, hypervisor: bool) -> int:
    """Bytes of a memory block of /sys/devices/system/memory.

    Linux: arch/x86/mm/init_64.c, probe_memory_block_size().
    """
    smallest, largest = 128 << 20, 2 << 30
    end = max_pfn << PAGE_SHIFT
    if end < 64 << 30:
        return smallest
    if not hypervisor:
        return largest
    size = largest
    while size > smallest and end % size:
        size >>= 1
    return size


def unavailable_ranges(
    memory: PfnRanges, zones: Sequence[ZoneRange], sparse: bool = True
) -> list[tuple[int, int, int]]:
    """Frames that have a struct page but no memory: (node, zone, how many), hole by hole.

    Without ``sparse`` there is one memory map for all, which ends with the last frame.

    Linux: mm/mm_init.c, memmap_init(), init_unavailable_range().
    """
    sections = sorted({(start // PAGES_PER_SECTION, -(-end // PAGES_PER_SECTION)) for start, end, _ in memory})
    if not sparse:
        sections = [(0, sections[-1][1])]
    found = []

    def hole(start: int, end: int, nid: int, zone: int) -> None:
        pages, at = 0, start
        for low, high in sections:
            low, high = max(low * PAGES_PER_SECTION, at), min(high * PAGES_PER_SECTION, end)
            if low < high:
                pages, at = pages + high - low, high
        if pages:
            found.append((nid, zone, pages))

    at, last = 0, (0, 0)
    for start, end, nid in memory:
        for zone in zones:
            low, high = max(start, zone.start_pfn), min(end, zone.end_pfn)
            if zone.nid != nid or not zone.present:
                continue
            last = (nid, zone.zone_type)
            if low < high:
                hole(at, low, *last)
                at = high
    if sparse:
        hole(at, -(-at // PAGES_PER_SECTION) * PAGES_PER_SECTION, *last)
    return found


def node_fallback_orders(
    distances: Sequence[Sequence[int]], has_memory: Sequence[bool], has_cpus: Sequence[bool]
) -> list[list[int]]:
    """For each node, the nodes with memory in the order in which allocations try them.

    The nearest first; among equals, those behind it, without CPUs, and not yet another node's first choice.

    Linux: mm/page_alloc.c, build_zonelists(), find_next_best_node().
    """
    nodes = range(len(distances))
    load = [0] * len(distances)
    orders = []
    for local in nodes:
        order = [local] if has_memory[local] else []
        previous = local
        while len(order) < sum(has_memory):
            best = min(
                (node for node in nodes if has_memory[node] and node not in order),
                key=lambda node: ((distances[local][node] + (node < local) + has_cpus[node]) * 1024 + load[node], node),
            )
            if distances[local][best] != distances[local][previous]:
                load[best] += 1
            order.append(best)
            previous = best
        orders.append(order)
    return orders
