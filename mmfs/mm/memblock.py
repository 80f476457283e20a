"""The boot-time memory allocator: who owns which physical range before the buddy allocator exists.

Two sorted lists of ranges are all there is: ``memory`` (what the firmware calls usable RAM, cut at
node boundaries) and ``reserved`` (what is taken). An allocation is the highest hole of ``memory``
minus ``reserved`` that fits, so that the early tables of a kernel pile up below the top of RAM.
When the buddy allocator takes over, it is handed the holes, rounded inwards to whole pages; what
stays reserved is the difference between a zone's present and its managed pages.

Addresses are bytes in this module's allocator and page frame numbers in what it hands out. The work is
proportional to the number of ranges, never of pages: a 12 TB machine has some hundred ranges.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE, ZONE_HIGHMEM
from mmfs.profile import since

if TYPE_CHECKING:
    from mmfs.machine import Machine
    from mmfs.mm.e820 import E820Table
    from mmfs.mm.mm_init import NodeRange, ZoneRange
    from mmfs.mm.resource import Resource
    from mmfs.mm.system_hash import HashTable
    from mmfs.profile import Profile

NUMA_NO_NODE = -1
ALTERNATIVES = "SMP alternatives"
"""What x86 frees of its image first, before watermarks are computed."""
ALL_PAGES = since(6, 12)
"""Kernels that count all memory, and not what will be left, when they build zonelists."""
SMP_CACHE_BYTES = 64
MAX_DMA_PFN = (16 << 20) >> PAGE_SHIFT


class Region(NamedTuple):
    """A physical range in bytes, ``end`` exclusive, with its node and what it is for."""

    start: int
    end: int
    nid: int
    why: str


class PfnRange(NamedTuple):
    """A range of page frames, ``end_pfn`` exclusive, on one node."""

    start_pfn: int
    end_pfn: int
    nid: int


class ReservedRange(NamedTuple):
    """A range of whole page frames that the kernel keeps, and what for."""

    start_pfn: int
    end_pfn: int
    why: str
    nid: int


class CmaRange(NamedTuple):
    """A contiguous memory area, in frames."""

    name: str
    start_pfn: int
    end_pfn: int


class MemblockError(ValueError):
    """The machine has too little memory for what its kernel takes at boot (a real one panics here)."""


@dataclass
class Memblock:
    """Physical memory as the boot code sees it.

    Linux: mm/memblock.c, struct memblock.
    """

    regions: list[Region] = field(default_factory=list)
    reservations: list[Region] = field(default_factory=list)
    current_limit: int = 1 << 52
    # Filled in by boot_memory():
    e820: E820Table = field(init=False)
    e820_firmware: E820Table = field(init=False)
    iomem: Resource = field(init=False)
    zone_ranges: list[ZoneRange] = field(default_factory=list)
    node_ranges: list[NodeRange] = field(default_factory=list)
    zone_limits: list[tuple[int, int]] = field(default_factory=list)
    zone_movable_pfn: dict[int, int] = field(default_factory=dict)
    first_deferred_pfn: dict[int, int] = field(default_factory=dict)
    late_freed: list[Region] = field(default_factory=list)
    gigantic_pages: list[PfnRange] = field(default_factory=list)
    cma_areas: list[CmaRange] = field(default_factory=list)
    cma_log: list[str] = field(default_factory=list)
    hash_tables: list[HashTable] = field(default_factory=list)
    kernel_base: int = 0
    ramdisk: tuple[int, int] = (0, 0)  # where the boot loader put the initramfs
    max_pfn: int = 0
    max_possible_pfn: int = 0
    """The end of memory that may be plugged in."""
    max_low_pfn: int = 0
    nr_kernel_pages: int = 0
    cmdline: str = ""

    # -- the allocator -------------------------------------------------------------------------

    def add(self, start: int, end: int, nid: int = NUMA_NO_NODE) -> None:
        """Make a range known as memory. Linux: memblock_add()."""
        if end > start:
            self.regions.append(Region(start, end, nid, ""))
            self.regions.sort()

    def set_nodes(self, ranges: list[tuple[int, int, int]]) -> None:
        """Cut memory at node boundaries. Linux: memblock_set_node()."""
        cut = []
        for region in self.regions:
            for start, end, nid in ranges:
                low, high = max(region.start, start), min(region.end, end)
                if low < high:
                    cut.append(Region(low, high, nid, ""))
        self.regions = sorted(cut)

    def reserve(self, start: int, end: int, why: str, nid: int = NUMA_NO_NODE) -> None:
        """Take a range; the parts already taken keep their owner. Linux: memblock_reserve()."""
        index = bisect_right(self.reservations, start, key=lambda r: r.end)
        pieces = []
        at = index
        while at < len(self.reservations) and self.reservations[at].start < end:
            taken = self.reservations[at]
            if start < taken.start:
                pieces.append(Region(start, taken.start, nid, why))
            start = max(start, taken.end)
            at += 1
        if start < end:
            pieces.append(Region(start, end, nid, why))
        first = max(index - 1, 0)
        merged: list[Region] = []
        for region in sorted([*self.reservations[first : at + 1], *pieces]):
            if merged and merged[-1][1:] == (region.start, region.nid, region.why):
                region = region._replace(start=merged.pop().start)
            merged.append(region)
        self.reservations[first : at + 1] = merged

    def free(self, start: int, end: int) -> None:
        """Give a range back. Linux: memblock_phys_free()."""
        first = bisect_right(self.reservations, start, key=lambda r: r.end)
        last = bisect_left(self.reservations, end, key=lambda r: r.start)
        kept = []
        for region in self.reservations[first:last]:
            if region.start < start:
                kept.append(region._replace(end=start))
            if region.end > end:
                kept.append(region._replace(start=end))
        self.reservations[first:last] = kept

    def find_top_down(self, size: int, align: int, low: int, high: int, nid: int) -> int:
        """The highest aligned hole of that size. Linux: __memblock_find_range_top_down()."""
        low = max(low, PAGE_SIZE)
        reservations = self.reservations
        for region in reversed(self.regions):
            if nid not in (NUMA_NO_NODE, region.nid):
                continue
            if region.start >= high:
                continue
            end = min(region.end, high)
            at = bisect_left(reservations, end, key=lambda r: r.start) - 1
            while end > max(region.start, low):
                taken = reservations[at] if at >= 0 else None
                start = max(region.start, low, taken.end if taken else 0)
                if end - start >= size:
                    candidate = (end - size) // align * align
                    if candidate >= start:
                        return candidate
                if taken is None:
                    break
                end = min(end, taken.start)
                at -= 1
        return -1

    def find_bottom_up(self, size: int, align: int, low: int, high: int, nid: int = NUMA_NO_NODE) -> int:
        """The lowest aligned hole of that size, or -1. Linux: __memblock_find_range_bottom_up()."""
        for region in self.regions:
            if nid not in (NUMA_NO_NODE, region.nid):
                continue
            start, end = max(region.start, low), min(region.end, high)
            taken = [one for one in self.reservations if one.end > start and one.start < end]
            for stop, after in [*((one.start, one.end) for one in taken), (end, end)]:
                candidate = -(-start // align) * align
                if candidate + size <= stop:
                    return candidate
                start = max(start, after)
        return -1

    def alloc(
        self,
        size: int,
        why: str,
        *,
        align: int = SMP_CACHE_BYTES,
        nid: int = NUMA_NO_NODE,
        low: int = 0,
        high: int = 0,
        exact_nid: bool = False,
    ) -> int:
        """Take the highest free hole and return its address.

        Linux: mm/memblock.c, memblock_alloc_internal(), memblock_alloc_range_nid().
        """
        high = min(high or self.current_limit, self.current_limit)
        for floor in (low, 0):
            found = self.find_top_down(size, align, floor, high, nid)
            if found < 0 and nid != NUMA_NO_NODE and not exact_nid:
                found = self.find_top_down(size, align, floor, high, NUMA_NO_NODE)
            if found >= 0:
                self.reserve(found, found + size, why, nid)
                return found
        raise MemblockError(f"ram: too little to boot, no {size >> 10} kB left for {why}")

    def alloc_or_none(self, size: int, why: str, **where: int) -> int | None:
        """As alloc(), for callers that can do without."""
        try:
            return self.alloc(
                size,
                why,
                align=where.get("align", SMP_CACHE_BYTES),
                nid=where.get("nid", NUMA_NO_NODE),
                low=where.get("low", 0),
                high=where.get("high", 0),
            )
        except MemblockError:
            return None

    # -- what the rest of the kernel reads ---------------------------------------------------------

    @property
    def memory(self) -> list[PfnRange]:
        """Usable RAM in whole pages, low to high. Linux: for_each_mem_pfn_range()."""
        return [
            PfnRange(start, end, region.nid)
            for region in self.regions
            if (start := -(-region.start // PAGE_SIZE)) < (end := region.end // PAGE_SIZE)
        ]

    @property
    def reserved(self) -> list[ReservedRange]:
        """Everything taken at boot, rounded outwards to pages, low to high."""
        return [
            ReservedRange(region.start // PAGE_SIZE, -(-region.end // PAGE_SIZE), region.why, region.nid)
            for region in self.reservations
        ]

    def _holes(self) -> Iterator[Region]:
        """Memory minus reservations, in bytes. Linux: for_each_free_mem_range()."""
        at = 0
        reservations = self.reservations
        for region in self.regions:
            start = region.start
            while at < len(reservations) and reservations[at].end <= start:
                at += 1
            look = at
            while look < len(reservations) and reservations[look].start < region.end:
                if start < reservations[look].start:
                    yield Region(start, reservations[look].start, region.nid, "")
                start = max(start, reservations[look].end)
                look += 1
            if start < region.end:
                yield Region(start, region.end, region.nid, "")

    def memblock_free_ranges(self) -> list[PfnRange]:
        """Whole free pages when the buddy allocator takes over. Linux: free_low_memory_core_early()."""
        return [
            PfnRange(start, end, hole.nid)
            for hole in self._holes()
            if (start := -(-hole.start // PAGE_SIZE)) < (end := hole.end // PAGE_SIZE)
        ]

    def early_free_ranges(self) -> list[PfnRange]:
        """What memblock_free_all() hands to the buddy allocator: the frames that are not deferred."""
        early = []
        for start, end, nid in self.memblock_free_ranges():
            end = min(end, self.first_deferred_pfn.get(nid, end))
            if start < end:
                early.append(PfnRange(start, end, nid))
        return early

    def deferred_free_ranges(self) -> list[PfnRange]:
        """What the pgdatinit threads hand over later, node by node. Linux: deferred_init_memmap()."""
        deferred = []
        for start, end, nid in self.memblock_free_ranges():
            start = max(start, self.first_deferred_pfn.get(nid, end))
            if start < end:
                deferred.append(PfnRange(start, end, nid))
        return sorted(deferred, key=lambda r: (r.nid, r.start_pfn))

    def late_free_ranges(self) -> list[PfnRange]:
        """What the kernel gives back when it has booted: initrd, init sections. Linux: free_reserved_area()."""
        return self._by_node(self.late_freed)

    def _by_node(self, regions: list[Region]) -> list[PfnRange]:
        """Regions of whole pages, cut where memory changes its node."""
        return [
            PfnRange(max(start, low), min(end, high), nid)
            for start, end in ((region.start // PAGE_SIZE, region.end // PAGE_SIZE) for region in regions)
            for low, high, nid in self.memory
            if max(start, low) < min(end, high)
        ]

    def free_ranges(self) -> list[PfnRange]:
        """Every range handed to the buddy allocator, in the order in which it gets them."""
        return [*self.early_free_ranges(), *self.deferred_free_ranges(), *self.late_free_ranges()]

    def pfn_to_nid(self, pfn: int) -> int:
        """The node of a frame, or the first node. Linux: early_pfn_to_nid()."""
        at = bisect_right(self.regions, pfn * PAGE_SIZE, key=lambda r: r.start) - 1
        return self.regions[max(at, 0)].nid

    def boot_free_ranges(self) -> list[PfnRange]:
        """What the buddy allocator has when it computes its watermarks, before init memory is given back.

        Linux: mm/page_alloc.c, init_per_zone_wmark_min(), a postcore_initcall.
        """
        alternatives = self._by_node([region for region in self.late_freed if region.why == ALTERNATIVES])
        return [*self.early_free_ranges(), *self.deferred_free_ranges(), *alternatives]

    def managed_pages(self, start_pfn: int, end_pfn: int, nid: int, booted: bool = True) -> int:
        """How many pages of a node's range the buddy allocator got in the end, or until the initcalls."""
        ranges = self.free_ranges() if booted else self.boot_free_ranges()
        return sum(
            max(0, min(high, end_pfn) - max(low, start_pfn))
            for low, high, on in (*ranges, *self.gigantic_pages, *self.cma_ranges())
            if on == nid
        )

    def cma_ranges(self) -> list[PfnRange]:
        """The frames of all CMA areas, with their nodes."""
        return [PfnRange(area.start_pfn, area.end_pfn, self.pfn_to_nid(area.start_pfn)) for area in self.cma_areas]

    def zone_managed_pages(self, zone: ZoneRange) -> int:
        """Pages of a zone that the buddy allocator gets in the end."""
        return self.managed_pages(zone.start_pfn, zone.end_pfn, zone.nid)

    def phys_pages(self) -> int:
        """Pages of RAM in all. Linux: get_num_physpages()."""
        return sum(end - start for start, end, _ in self.memory)

    def total_pages(self, profile: Profile) -> int:
        """What can be allocated, as far as it is known when zonelists are built. Linux: build_all_zonelists()."""
        return self.phys_pages() if ALL_PAGES(profile) else self.nr_free_zone_pages(profile)

    def nr_free_zone_pages(self, profile: Profile) -> int:
        """What older kernels take for all that can be allocated, before it is: zones without their memory map.

        That of high memory is not in high memory, and so not left out.

        Linux 6.1: mm/page_alloc.c, free_area_init_core(), nr_free_zone_pages().
        """
        total = 0
        for zone in self.zone_ranges:
            total += zone.present - (0 if zone.zone_type == ZONE_HIGHMEM else self._memmap_pages(zone, profile))
        if not profile.config("64BIT"):
            return total
        low, free = (
            sum(min(end, MAX_DMA_PFN) - start for start, end, _ in ranges if start < MAX_DMA_PFN)
            for ranges in (self.memory, self.memblock_free_ranges())
        )
        return total - (low - free)

    @staticmethod
    def _memmap_pages(zone: ZoneRange, profile: Profile) -> int:
        """Pages of the memory map that a zone accounts for. Linux: calc_memmap_size()."""
        sparse = profile.config("64BIT") and zone.spanned > zone.present + (zone.present >> 4)
        return -(-(zone.present if sparse else zone.spanned) * profile.struct_page_size // PAGE_SIZE)

    def nr_kernel_free_pages(self, profile: Profile) -> int:
        """Pages by which hash tables are sized where there is high memory: low ones that hold no memory map.

        Linux 6.1: mm/page_alloc.c, free_area_init_core(), nr_kernel_pages.
        """
        total = 0
        for zone in self.zone_ranges:
            memmap = self._memmap_pages(zone, profile)
            if zone.zone_type != ZONE_HIGHMEM:
                total += zone.present - memmap
            elif total > 2 * memmap:
                total -= memmap
        return total

    def totalram_pages(self) -> int:
        """MemTotal in pages. Linux: totalram_pages()."""
        pages = sum(end - start for start, end, _ in self.free_ranges())
        return pages + sum(end - start for start, end, _ in (*self.gigantic_pages, *self.cma_ranges()))


def boot_memory(
    machine: Machine, profile: Profile, cmdline: str = "", rng_seed: int = 0, kernel_base: int | None = None
) -> Memblock:
    """Boot a machine's physical memory: firmware map, reservations, nodes and zones.

    The seed decides where the kernel is loaded, unless kernel_base says it.

    Linux: arch/x86/kernel/setup.c, setup_arch(); init/main.c, start_kernel() up to mm_core_init().
    """
    from mmfs.mm.setup_arch import setup_memory

    return setup_memory(machine, profile, cmdline, rng_seed, kernel_base)
