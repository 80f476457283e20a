"""Blocks of memory: the pieces in which memory can be plugged and unplugged, 128 MB each or more.

Linux: drivers/base/memory.c; arch/x86/mm/init_64.c, probe_memory_block_size().
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EINVAL
from typing import TYPE_CHECKING, NamedTuple

from mmfs.mm.memory_failure import EHWPOISON
from mmfs.mm.memory_hotplug import ONLINE_TYPES
from mmfs.mm.sparse import PAGES_PER_SECTION
from mmfs.mm_types import MAX_NR_ZONES, PAGE_SHIFT, PAGEBLOCK_NR_PAGES

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mmzone import Zone


class MemoryBlock(NamedTuple):
    """One block. Linux: struct memory_block."""

    blocks: MemoryBlocks
    id: int

    @property
    def start_pfn(self) -> int:
        """Its first frame."""
        return self.id * self.blocks.pages_per_block

    @property
    def end_pfn(self) -> int:
        """The first frame behind it."""
        return self.start_pfn + self.blocks.pages_per_block

    @property
    def nodes(self) -> list[int]:
        """The nodes that have memory in it."""
        return sorted({nid for low, high, nid in self.blocks.memory if low < self.end_pfn and high > self.start_pfn})

    @property
    def has_holes(self) -> bool:
        """Whether not all of it is memory. Linux: count_system_ram_pages_cb()."""
        start, end = self.start_pfn, self.end_pfn
        memory = ((max(low, start), min(high, end)) for low, high, _ in self.blocks.memory)
        return sum(max(high - low, 0) for low, high in memory) < self.blocks.pages_per_block

    @property
    def online(self) -> bool:
        """Whether its memory can be used."""
        return self.blocks.changed.get(self.id, self) is not None

    @property
    def zone(self) -> Zone | None:
        """The zone that all of it is in, if there is one; none offline. Linux: early_node_zone_for_memory_block()."""
        if self.id in self.blocks.changed:
            return self.blocks.changed[self.id]
        zones = [
            self.blocks.kernel.zones[pages.nid * MAX_NR_ZONES + pages.zone_type]
            for pages in self.blocks.kernel.memblock.zone_ranges
            if pages.present and pages.start_pfn < self.end_pfn and pages.end_pfn > self.start_pfn
        ]
        return zones[0] if len(zones) == 1 and len(self.nodes) == 1 else None

    def set_state(self, online_type: str) -> bool:
        """Have it go online or offline; False if it is so already. Linux: device_online(), device_offline().

        EINVAL: it cannot go offline as a whole; EBUSY: something in it stays; EHWPOISON: a part of it has failed.
        """
        if (online_type != "offline") is self.online:
            return False
        hotplug = self.blocks.kernel.memory_hotplug
        if online_type == "offline":
            hotplug.offline_pages(self)
        else:
            if self.blocks.kernel.memory_failure.nr_poisoned(self.start_pfn, self.end_pfn):
                raise OSError(EHWPOISON, "memory of the block has failed")
            zone = hotplug.zone_for_pfn_range(online_type, self.nodes[0], self.start_pfn, self.end_pfn)
            hotplug.online_pages(self, zone)
        return True

    def valid_zones(self) -> list[Zone]:
        """Its zone, or offline those that it could come to, the default one first. Linux: valid_zones_show()."""
        if self.online:
            return [self.zone] if self.zone is not None else []
        hotplug, nid = self.blocks.kernel.memory_hotplug, self.nodes[0]
        zones = (hotplug.zone_for_pfn_range(kind, nid, self.start_pfn, self.end_pfn) for kind in ONLINE_TYPES[1:])
        return list(dict.fromkeys(zones))


class MemoryBlocks:
    """All blocks of a machine; they are made when somebody looks. Linux: drivers/base/memory.c, memory_dev_init().

    ``changed``: the zone of each block that is not as it was at boot, None if it is offline.
    """

    def __init__(self, kernel: Kernel, block_size_bytes: int) -> None:
        self.kernel = kernel
        self.block_size_bytes = block_size_bytes
        self.pages_per_block = block_size_bytes >> PAGE_SHIFT
        self.memory: list[tuple[int, int, int]] = list(kernel.memblock.memory)
        self.changed: dict[int, Zone | None] = {}
        online = kernel.profile.config("MEMORY_HOTPLUG_DEFAULT_ONLINE")
        self.default_online_type = "online" if online else "offline"
        for word in kernel.cmdline.split():
            key, _, value = word.partition("=")
            if key == "memhp_default_state" and value in ONLINE_TYPES:
                self.default_online_type = value

    def add(self, start: int, end: int, nid: int) -> list[MemoryBlock]:
        """Blocks come, offline. Linux: create_memory_block_devices()."""
        self.memory.append((start, end, nid))
        numbers = range(start // self.pages_per_block, end // self.pages_per_block)
        self.changed.update(dict.fromkeys(numbers))
        return [MemoryBlock(self, number) for number in numbers]

    def remove(self, start: int, end: int, nid: int) -> None:
        """Blocks that are offline go. Linux: remove_memory_block_devices()."""
        self.memory.remove((start, end, nid))
        for number in range(start // self.pages_per_block, end // self.pages_per_block):
            del self.changed[number]

    def ids(self) -> list[int]:
        """The numbers of those that are there."""
        per_block = self.pages_per_block // PAGES_PER_SECTION
        return sorted(
            {
                number
                for first, last in self.kernel.sections.ranges
                for number in range(first // per_block, -(-last // per_block))
            }
        )

    def of_node(self, nid: int) -> list[int]:
        """The numbers of those in which a node has memory."""
        size = self.pages_per_block
        return sorted(
            {
                number
                for start, end, owner in self.memory
                if owner == nid
                for number in range(start // size, -(-end // size))
            }
        )

    def find(self, number: int) -> MemoryBlock | None:
        """A block by its number."""
        per_block = self.pages_per_block // PAGES_PER_SECTION
        first, last = number * per_block, (number + 1) * per_block
        if any(low < last and high > first for low, high in self.kernel.sections.ranges):
            return MemoryBlock(self, number)
        return None

    def block(self, number: int) -> MemoryBlock:
        """A block that is there; EINVAL."""
        block = self.find(number)
        if block is None:
            raise OSError(EINVAL, f"there is no memory{number}")
        return block

    def pieces(self, zone: Zone) -> list[tuple[int, int]]:
        """Ranges of frames that are online and the zone's, in pageblocks. Linux: find_smallest_section_pfn()."""
        return sorted({*self._boot_pieces(zone), *(
            (number * self.pages_per_block, (number + 1) * self.pages_per_block)
            for number, owner in self.changed.items() if owner is zone
        )})  # fmt: skip

    def _boot_pieces(self, zone: Zone) -> Iterator[tuple[int, int]]:
        """What the zone has had since boot, without the blocks that have changed."""
        pages = self.kernel.memblock.zone_ranges[zone.index]
        holes = sorted(number * self.pages_per_block for number in self.changed)
        for start, end, nid in self.kernel.memblock.memory:
            if nid != pages.nid or not pages.present:
                continue
            start, end = max(start, pages.start_pfn), min(end, pages.end_pfn)
            end = -(-end // PAGEBLOCK_NR_PAGES) * PAGEBLOCK_NR_PAGES
            for hole in holes:
                if start < hole < end:
                    yield start, hole
                if hole < end and hole + self.pages_per_block > start:
                    start = max(start, hole + self.pages_per_block)
            if start < end:
                yield start, end
