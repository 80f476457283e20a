"""Memory that comes and goes while the machine runs: blocks of it go offline and online, zones shrink and grow.

A block goes offline when all of it is free: its pageblocks are isolated and its pages move away (mm/page_isolation.py).
What it loses is taken from its zone and node, and everything that follows from their sizes is worked out again:
watermarks, reserves, per-CPU lists, zonelists if the zone is empty now. Online, it may come to another zone: to
ZONE_MOVABLE, where nothing can hold it, or to a kernel zone.

Linux: mm/memory_hotplug.c.

Simplified: memory is not put into zones by their ratio (memory_hotplug.online_policy=auto-movable), and the memory map
of what is added lies in other memory (memmap_on_memory=0); what else the kernel allocates for new blocks is not taken.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL, ENODEV, ENOMEM, ENOSPC
from typing import TYPE_CHECKING, Final, NamedTuple

from mmfs.mm.debug import LOG_INFO
from mmfs.mm.e820 import DIMM_SLOTS, hotplug_span
from mmfs.mm.mm_init import node_fallback_orders
from mmfs.mm.page_isolation import Isolation
from mmfs.mm.sparse import MEMMAP_PAGES_PER_SECTION, PAGES_PER_SECTION
from mmfs.mm_types import (
    GFP_KERNEL,
    GFP_NOWARN_BIT,
    GFP_RETRY_MAYFAIL_BIT,
    PAGE_SHIFT,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    ZONE_MOVABLE,
    ZONE_NAMES,
    ZONE_NORMAL,
    VmEventItem,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.memory_block import MemoryBlock
    from mmfs.mm.mmzone import PglistData, Zone

Piece = tuple[int, int]
ONLINE_TYPES: Final = ("offline", "online", "online_kernel", "online_movable")
"""What may become of a block. Linux: include/linux/memory_hotplug.h, enum mmop."""


class Dimm(NamedTuple):
    """A module of memory that was plugged in: its frames, and where its memory map is: (first frame, order)."""

    nid: int
    start_pfn: int
    end_pfn: int
    memmap: list[tuple[int, int]]


class MemoryHotplug:
    """The blocks' way offline and online. ``notifiers`` are called with a node and whether memory came or went.

    Linux: mm/memory_hotplug.c.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.isolation = Isolation(kernel)
        self.movable_node_enabled = "movable_node" in kernel.cmdline.split()
        self.notifiers: list[Callable[[PglistData, bool], None]] = []
        self.dimms: dict[str, Dimm] = {}

    # -- offline --------------------------------------------------------------------------------------------------

    def offline_pages(self, block: MemoryBlock) -> None:
        """Take a block offline. EINVAL: it has holes or several zones; EBUSY: something stays.

        Linux: offline_pages().
        """
        kernel, zone, start, end = self.kernel, block.zone, block.start_pfn, block.end_pfn
        if zone is None or block.has_holes:
            raise OSError(EINVAL, "the block has holes, or pages of several zones")
        self.isolation.isolate_range(zone, start, end)
        try:
            self.isolation.migrate_range(zone, start, end)
            kernel.hugetlb.dissolve_free_hugetlb_folios(start, end)
        except OSError:
            self.isolation.undo_isolate_range(start, end)
            raise
        self.isolation.loops.offline_isolated(zone.index, start, end)
        zone.adjust_present_page_count(start - end)
        kernel.sections.set_online(start, end, False)
        block.blocks.changed[block.id] = None
        kernel.page_alloc.update_per_zone_wmark_min()
        if not zone.populated():
            kernel.page_alloc.reset_per_cpu_pageset(zone)
            self._build_all_zonelists()
        self._notify(zone.zone_pgdat, False)
        self._remove_pfn_range_from_zone(zone, start, end)

    def _remove_pfn_range_from_zone(self, zone: Zone, start: int, end: int) -> None:
        """The zone ends before what has gone, or begins behind it. Linux: remove_pfn_range_from_zone()."""
        pieces = self.kernel.memory_blocks.pieces(zone)
        if not zone.spanned_pages:
            return
        if zone.zone_start_pfn == start:
            zone.set_span(min((max(low, end) for low, high in pieces if high > end), default=0), zone.zone_end_pfn)
            if not pieces:
                zone.set_span(0, 0)
        elif zone.zone_end_pfn == end:
            last = max((min(high, start) for low, high in pieces if low < start), default=zone.zone_start_pfn)
            zone.set_span(zone.zone_start_pfn, -(-last // PAGEBLOCK_NR_PAGES) * PAGEBLOCK_NR_PAGES)
        zone.zone_pgdat.update_span()

    # -- online ---------------------------------------------------------------------------------------------------

    def online_pages(self, block: MemoryBlock, zone: Zone) -> None:
        """Give a block that is offline to a zone. Linux: online_pages()."""
        kernel, start, end = self.kernel, block.start_pfn, block.end_pfn
        low = min(start, zone.zone_start_pfn) if zone.spanned_pages else start
        zone.set_span(low, max(end, zone.zone_end_pfn))
        zone.zone_pgdat.update_span()
        was_populated = zone.populated()
        self.isolation.loops.online_range(zone.index, start, end)
        kernel.vmstat.count_vm_events(VmEventItem.PGFREE, end - start)
        zone.adjust_present_page_count(end - start)
        kernel.sections.set_online(start, end, True)
        block.blocks.changed[block.id] = zone
        if not was_populated:
            self._build_all_zonelists()
        kernel.page_alloc.update_per_zone_wmark_min()
        self._notify(zone.zone_pgdat, True)

    def zone_for_pfn_range(self, online_type: str, nid: int, start: int, end: int) -> Zone:
        """Which zone a range would come to. Linux: zone_for_pfn_range(), default_zone_for_pfn()."""
        zones = self.kernel.node_data[nid].node_zones
        movable = zones[ZONE_MOVABLE]
        if online_type == "online_movable":
            return movable
        kernel_zone = next((zone for zone in zones[:ZONE_NORMAL] if zone.intersects(start, end - start)), None)
        kernel_zone = kernel_zone or zones[ZONE_NORMAL]
        if online_type == "online_kernel":
            return kernel_zone
        in_kernel, in_movable = kernel_zone.intersects(start, end - start), movable.intersects(start, end - start)
        if in_kernel is not in_movable:
            return kernel_zone if in_kernel else movable
        return movable if self.movable_node_enabled else kernel_zone

    # -- modules --------------------------------------------------------------------------------------------------

    def plug(self, size: int, nid: int) -> str:
        """Put a module of memory into a free slot; its name. EINVAL: a part of a block; ENOSPC: no slot is left.

        Its blocks go online as auto_online_blocks says. Linux: acpi_memory_device_add().
        """
        blocks, nr_pages = self.kernel.memory_blocks, size >> PAGE_SHIFT
        base, limit = (at >> PAGE_SHIFT for at in hotplug_span(self.kernel.machine))
        if size <= 0 or nr_pages % blocks.pages_per_block:
            raise OSError(EINVAL, f"not a multiple of {blocks.block_size_bytes >> 20}M, the size of a block")
        start = max([base, *(dimm.end_pfn for dimm in self.dimms.values())])
        start = -(-start // blocks.pages_per_block) * blocks.pages_per_block
        used = sum(dimm.end_pfn - dimm.start_pfn for dimm in self.dimms.values()) << PAGE_SHIFT
        room = self.kernel.machine.maxmem - self.kernel.machine.ram - used
        if len(self.dimms) == DIMM_SLOTS or start + nr_pages > limit or size > room:
            raise OSError(ENOSPC, "no slot is free for it (maxmem)")
        name = next(f"dimm{number}" for number in range(DIMM_SLOTS) if f"dimm{number}" not in self.dimms)
        self.dimms[name] = self._add_memory(nid, start, start + nr_pages)
        if blocks.default_online_type != "offline":
            for number in range(start // blocks.pages_per_block, (start + nr_pages) // blocks.pages_per_block):
                blocks.block(number).set_state(blocks.default_online_type)
        return name

    def _add_memory(self, nid: int, start: int, end: int) -> Dimm:
        """Memory comes, offline. ENOMEM: there is none for its memory map. Linux: add_memory_resource()."""
        kernel = self.kernel
        memmap: list[tuple[int, int]] = []
        gfp = GFP_KERNEL | GFP_RETRY_MAYFAIL_BIT | GFP_NOWARN_BIT
        left = (end - start) // PAGES_PER_SECTION * MEMMAP_PAGES_PER_SECTION
        order = PAGEBLOCK_ORDER
        while left:
            pfn = kernel.page_alloc.alloc_pages(gfp, order, nid)
            if pfn >= 0:
                memmap.append((pfn, order))
                left -= 1 << order
            elif order:
                order = 0  # in single pages then: Linux: vmemmap_populate_basepages()
            else:
                self._free_memmap(memmap)
                raise OSError(ENOMEM, "no memory for the memory map")
        kernel.sections.add(start, end)
        kernel.memory_blocks.add(start, end, nid)
        kernel.direct_map.add(start << PAGE_SHIFT, end << PAGE_SHIFT)
        kernel.memblock.iomem.add("System RAM", start << PAGE_SHIFT, (end << PAGE_SHIFT) - 1)
        kernel.memblock.max_pfn = max(kernel.memblock.max_pfn, end)
        return Dimm(nid, start, end, memmap)

    def _free_memmap(self, memmap: list[tuple[int, int]]) -> None:
        for pfn, order in memmap:
            self.kernel.page_alloc.free_pages(pfn, order)

    def unplug(self, name: str) -> None:
        """Take a module out. ENODEV: there is none of that name; EBUSY: it is in use, and stays online.

        Linux: drivers/acpi/scan.c, acpi_scan_try_to_offline(); mm/memory_hotplug.c, try_remove_memory().
        """
        kernel, blocks, dimm = self.kernel, self.kernel.memory_blocks, self.dimms.get(name)
        if dimm is None:
            raise OSError(ENODEV, f"no module {name}")
        own = range(dimm.start_pfn // blocks.pages_per_block, dimm.end_pfn // blocks.pages_per_block)
        gone: list[int] = []
        try:
            for number in own:
                gone += [number] * blocks.block(number).set_state("offline")
        except OSError:
            for number in gone:
                blocks.block(number).set_state("online")
            raise
        blocks.remove(dimm.start_pfn, dimm.end_pfn, dimm.nid)
        kernel.sections.remove(dimm.start_pfn, dimm.end_pfn)
        kernel.direct_map.add(dimm.start_pfn << PAGE_SHIFT, dimm.end_pfn << PAGE_SHIFT, -1)
        kernel.memblock.iomem.remove(dimm.start_pfn << PAGE_SHIFT, (dimm.end_pfn << PAGE_SHIFT) - 1)
        kernel.memory_failure.clear_hwpoisoned_pages(dimm.start_pfn, dimm.end_pfn)
        self._free_memmap(dimm.memmap)
        del self.dimms[name]

    # -- what follows ---------------------------------------------------------------------------------------------

    def _build_all_zonelists(self) -> None:
        """A zone has its first memory, or none any more. Linux: mm/page_alloc.c, build_all_zonelists()."""
        kernel, page_alloc = self.kernel, self.kernel.page_alloc
        page_alloc.build_zonelists()
        orders = node_fallback_orders(
            [pgdat.distances for pgdat in kernel.node_data],
            [pgdat.node_present_pages > 0 for pgdat in kernel.node_data],
            [bool(pgdat.cpus) for pgdat in kernel.node_data],
        )
        for nid, order in enumerate(orders):
            kernel.printk.emit(f"Fallback order for Node {nid}: {''.join(f'{other} ' for other in order)}", LOG_INFO)
        pages = sum(max(zone.managed_pages - zone.high_wmark_pages(), 0) for zone in kernel.zones if zone.populated())
        grouping = "on" if page_alloc.set_mobility_grouping(pages) else "off"
        online = len(kernel.node_data)
        kernel.printk.emit(f"Built {online} zonelists, mobility grouping {grouping}.  Total pages: {pages}", LOG_INFO)
        highest = max(zone.zone_idx for zone in kernel.zones if zone.populated() and zone.zone_idx != ZONE_MOVABLE)
        kernel.printk.emit(f"Policy zone: {ZONE_NAMES[highest]}", LOG_INFO)

    def _notify(self, pgdat: PglistData, online: bool) -> None:
        """Whoever works with sizes looks at them again. Linux: memory_notify()."""
        self.kernel.wb_domain.set_ratelimit()
        self.kernel.overcommit.reserve_mem_notifier(online)
        for notifier in self.notifiers:
            notifier(pgdat, online)

