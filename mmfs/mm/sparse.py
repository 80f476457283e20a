"""Sections: memory comes and goes in pieces of 128 MB, and each piece that is there has a whole memory map.

Linux: mm/sparse.c, include/linux/mmzone.h.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mmfs.mm_types import PAGE_SHIFT

PAGES_PER_SECTION: Final = 1 << 27 - PAGE_SHIFT
STRUCT_PAGE_SIZE: Final = 64
MEMMAP_PAGES_PER_SECTION: Final = PAGES_PER_SECTION * STRUCT_PAGE_SIZE >> PAGE_SHIFT


class Sections:
    """Which sections are present."""

    def __init__(self, memory: Iterable[tuple[int, int, int]]) -> None:
        """``memory``: ranges of frames with their node."""
        self.nr_memmap_pages = 0
        """Pages of struct pages made since boot, for memory that was plugged in."""
        self.ranges: list[tuple[int, int]] = []
        for start, end, _ in sorted(memory):
            first, last = start // PAGES_PER_SECTION, -(-end // PAGES_PER_SECTION)
            if self.ranges and first <= self.ranges[-1][1]:
                first, last = self.ranges[-1][0], max(last, self.ranges.pop()[1])
            self.ranges.append((first, last))

    def online(self, pfn: int) -> bool:
        """Whether a frame has a struct page. Linux: pfn_to_online_page()."""
        section = pfn // PAGES_PER_SECTION
        return any(first <= section < last for first, last in self.ranges)

    @property
    def nr_present(self) -> int:
        """How many there are."""
        return sum(last - first for first, last in self.ranges)

    @property
    def nr_memmap_boot_pages(self) -> int:
        """Pages of struct pages made at boot. Linux: mm/sparse.c, memmap_boot_pages_add()."""
        return self.nr_present * MEMMAP_PAGES_PER_SECTION
