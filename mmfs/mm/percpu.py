"""Per-CPU memory of the kernel: chunks with a unit for every CPU, of which only the used pages are populated.

The first chunk lies in boot memory and holds the kernel's own per-CPU variables; what modules, cgroups and file systems
ask for later comes from the pages at its end and from further chunks. A few pages are populated ahead.

Linux: mm/percpu.c.

Simplified: the size of each allocation is not tracked; boot leaves the pages that Debian's kernel has populated beyond
the first chunk when init starts.
"""

from __future__ import annotations

from typing import Final, Protocol

from mmfs.mm_types import GFP_KERNEL, PAGE_SIZE

BOOT_PAGES: Final = 3
"""Pages a unit that are populated after boot beyond the first chunk."""


class PageSource(Protocol):
    """What per-CPU chunks need of the page allocator."""

    def alloc_pages(self, gfp: int, order: int, nid: int) -> int:
        """First frame of 2^order free ones, -1 if there are none."""


class PerCpu:
    """The populated pages of all units."""

    def __init__(self, first_chunk_bytes: int, unit_nodes: list[int]) -> None:
        """``unit_nodes`` tells each unit's node."""
        self.unit_nodes = unit_nodes
        self.nr_populated = -(-first_chunk_bytes // PAGE_SIZE)
        self.pages: list[int] = []

    @property
    def nr_pages(self) -> int:
        """Percpu of /proc/meminfo. Linux: mm/percpu.c, pcpu_nr_pages()."""
        return self.nr_populated * len(self.unit_nodes)

    def populate(self, page_alloc: PageSource, nr_pages: int = BOOT_PAGES) -> None:
        """Give every unit so many pages more. Linux: mm/percpu.c, pcpu_populate_chunk()."""
        for _ in range(nr_pages):
            pages = [page_alloc.alloc_pages(GFP_KERNEL, 0, nid) for nid in self.unit_nodes]
            if min(pages) < 0:
                return
            self.pages += pages
            self.nr_populated += 1
