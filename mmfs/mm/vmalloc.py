"""Memory that is contiguous in the kernel's addresses only: kernel stacks, modules, big tables.

Each area is a list of single pages; `nr_pages` of them all is VmallocUsed in /proc/meminfo.

Linux: mm/vmalloc.c.

Simplified: areas have no addresses and no page tables, so vmalloc space never fragments.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmfs.mm_types import GFP_KERNEL, GFP_NOWARN_BIT, HPAGE_PMD_ORDER

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


class Vmalloc:
    """The vmalloc area of a kernel. Linux: mm/vmalloc.c, nr_vmalloc_pages."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.nr_pages = 0
        self.nr_areas = 0

    @property
    def total_kb(self) -> int:
        """The size of the address range: 12.5 PB with five-level page tables, 32 TB with four.

        Linux: arch/x86/include/asm/pgtable_64_types.h, VMALLOC_TOTAL.
        """
        return 13_743_895_347_199 if self.kernel.machine.cpu.la57 else 34_359_738_367

    def alloc(self, nr_pages: int, nid: int) -> list[int]:
        """An area of `nr_pages`, preferably from node `nid`; ENOMEM if they cannot be had.

        Linux: mm/vmalloc.c, __vmalloc_node_range().
        """
        pages = self._take(nr_pages, nid)
        self._add(nr_pages)
        return pages

    def _take(self, nr_pages: int, nid: int) -> list[int]:
        page_alloc = self.kernel.page_alloc
        pages: list[int] = []
        for _ in range(nr_pages):
            pfn = page_alloc.alloc_pages(GFP_KERNEL, 0, nid)
            if pfn < 0:
                break
            pages.append(pfn)
        if len(pages) < nr_pages:
            for pfn in pages:
                page_alloc.free_pages(pfn, 0)
            raise OSError(errno.ENOMEM, f"vmalloc of {nr_pages} pages failed")
        return pages

    def _add(self, nr_pages: int) -> None:
        self.kernel.slab.alloc("vmap_area", 1)
        self.nr_pages += nr_pages
        self.nr_areas += 1

    def alloc_huge(self, nr_pages: int, nid: int) -> None:
        """An area that stays, in pages of 2 MB as far as there are any. Linux: mm/vmalloc.c, vmalloc_huge()."""
        for _ in range(nr_pages >> HPAGE_PMD_ORDER):
            if self.kernel.page_alloc.alloc_pages(GFP_KERNEL | GFP_NOWARN_BIT, HPAGE_PMD_ORDER, nid) < 0:
                self._take(1 << HPAGE_PMD_ORDER, nid)
        self._add(nr_pages)

    def free(self, pages: list[int]) -> None:
        """Give an area back. Linux: mm/vmalloc.c, vfree()."""
        for pfn in pages:
            self.kernel.page_alloc.free_pages(pfn, 0)
        self.kernel.slab.free("vmap_area", 1)
        self.nr_pages -= len(pages)
        self.nr_areas -= 1
