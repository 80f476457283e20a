"""Blocks of memory: the pieces in which memory can be plugged and unplugged, 128 MB each or more.

Linux: drivers/base/memory.c; arch/x86/mm/init_64.c, probe_memory_block_size().

Simplified: memory is neither added nor taken offline while the machine runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from mmfs.mm.sparse import PAGES_PER_SECTION
from mmfs.mm_types import PAGE_SHIFT

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mmzone import Zone

ONLINE_TYPES: Final = ("offline", "online", "online_kernel", "online_movable")


class MemoryBlock(NamedTuple):
    """One block. Linux: struct memory_block."""

    blocks: MemoryBlocks
    id: int

    @property
    def nodes(self) -> list[int]:
        """The nodes that have memory in it."""
        start = self.id * self.blocks.pages_per_block
        end = start + self.blocks.pages_per_block
        return sorted({nid for low, high, nid in self.blocks.memory if low < end and high > start})

    @property
    def zone(self) -> Zone | None:
        """The zone that all of it is in, if there is one. Linux: early_node_zone_for_memory_block()."""
        nodes = self.nodes
        if len(nodes) != 1:
            return None
        start = self.id * self.blocks.pages_per_block
        end = start + self.blocks.pages_per_block
        zones = [
            zone
            for zone in self.blocks.kernel.node_data[nodes[0]].node_zones
            if zone.populated() and zone.zone_start_pfn < end and zone.zone_end_pfn > start
        ]
        return zones[0] if len(zones) == 1 else None


class MemoryBlocks:
    """All blocks of a machine; they are made when somebody looks. Linux: drivers/base/memory.c, memory_dev_init()."""

    def __init__(self, kernel: Kernel, block_size_bytes: int) -> None:
        self.kernel = kernel
        self.block_size_bytes = block_size_bytes
        self.pages_per_block = block_size_bytes >> PAGE_SHIFT
        self.memory: list[tuple[int, int, int]] = list(kernel.memblock.memory)
        self.default_online_type = "online"

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
