"""Sections: memory comes and goes in pieces of 128 MB (512 MB with large pages), each with its whole memory map.

Linux: mm/sparse.c, include/linux/mmzone.h.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mmfs.mm_types import PAGE_SHIFT

SECTION_SIZE_BITS: Final = 27 if PAGE_SHIFT == 12 else 29
"""Linux: arch/x86/include/asm/sparsemem.h, arch/arm64/include/asm/sparsemem.h."""
PAGES_PER_SECTION: Final = 1 << SECTION_SIZE_BITS - PAGE_SHIFT
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
            self._mark_present(start // PAGES_PER_SECTION, -(-end // PAGES_PER_SECTION))
        self.nr_early = self.nr_present
        """How many there were at boot."""
        self.offline: set[int] = set()
        """Those that are present and whose memory cannot be used."""

    def _mark_present(self, first: int, last: int) -> None:
        if self.ranges and first <= self.ranges[-1][1]:
            first, last = self.ranges[-1][0], max(last, self.ranges.pop()[1])
        self.ranges.append((first, last))

    def add(self, start_pfn: int, end_pfn: int) -> None:
        """Sections come, offline. Linux: sparse_add_section()."""
        self.nr_memmap_pages += (end_pfn - start_pfn) // PAGES_PER_SECTION * MEMMAP_PAGES_PER_SECTION
        added = start_pfn // PAGES_PER_SECTION, end_pfn // PAGES_PER_SECTION
        ranges, self.ranges = sorted([*self.ranges, added]), []
        for first, last in ranges:
            self._mark_present(first, last)
        self.set_online(start_pfn, end_pfn, False)

    def remove(self, start_pfn: int, end_pfn: int) -> None:
        """Sections that are offline go. Linux: sparse_remove_section()."""
        self.nr_memmap_pages -= (end_pfn - start_pfn) // PAGES_PER_SECTION * MEMMAP_PAGES_PER_SECTION
        low, high = start_pfn // PAGES_PER_SECTION, end_pfn // PAGES_PER_SECTION
        pieces = [piece for first, last in self.ranges for piece in ((first, min(last, low)), (max(first, high), last))]
        self.ranges = [(first, last) for first, last in pieces if first < last]
        self.set_online(start_pfn, end_pfn, True)

    def online(self, pfn: int) -> bool:
        """Whether a frame has a struct page in use. Linux: pfn_to_online_page()."""
        section = pfn // PAGES_PER_SECTION
        return section not in self.offline and any(first <= section < last for first, last in self.ranges)

    def set_online(self, start_pfn: int, end_pfn: int, online: bool) -> None:
        """Sections go online or offline. Linux: online_mem_sections(), offline_mem_sections()."""
        sections = range(start_pfn // PAGES_PER_SECTION, end_pfn // PAGES_PER_SECTION)
        if online:
            self.offline.difference_update(sections)
        else:
            self.offline.update(sections)

    @property
    def nr_present(self) -> int:
        """How many there are."""
        return sum(last - first for first, last in self.ranges)

    @property
    def nr_memmap_boot_pages(self) -> int:
        """Pages of struct pages made at boot. Linux: mm/sparse.c, memmap_boot_pages_add()."""
        return self.nr_early * MEMMAP_PAGES_PER_SECTION
