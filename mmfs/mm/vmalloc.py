"""Memory that is contiguous in the kernel's addresses only: kernel stacks, modules, big tables.

Each area is a list of single pages; `nr_pages` of them all is VmallocUsed in /proc/meminfo.

Linux: mm/vmalloc.c.

Simplified: areas have no addresses and no page tables, so vmalloc space never fragments.
"""

from __future__ import annotations

import errno
from collections import Counter
from typing import TYPE_CHECKING, Final

from mmfs.mm_types import (
    GFP_HIGHMEM_BIT,
    GFP_KERNEL,
    GFP_NOWARN_BIT,
    HPAGE_PMD_ORDER,
    PAGE_SHIFT,
    PAGE_SIZE,
    MemcgStatItem,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

VMALLOC_OFFSET: Final = 8 << 20
VMALLOC_TOTAL_ARM64_KB: Final = 137_301_581_824
"""The kernel's half of 48 bits but for modules, what maps the memory map with pages of 64 KB, and fixed mappings."""
Kvmalloc = int | list[int]
"""What kvmalloc() gives: an object of the slab, or the pages of an area."""


class Vmalloc:
    """The vmalloc area of a kernel. Linux: mm/vmalloc.c, nr_vmalloc_pages."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.nr_pages = 0
        self.nr_areas = 0

    @property
    def start(self) -> int:
        """Where the area begins with 32 bits: 8 MB behind what is mapped. Linux: VMALLOC_START."""
        kernel = self.kernel
        return kernel.profile.arch.page_offset + (kernel.memblock.max_low_pfn << PAGE_SHIFT) + VMALLOC_OFFSET

    @property
    def total_kb(self) -> int:
        """The size of the address range: 12.5 PB with five-level page tables, 32 TB with four; what is left of 4 GB.

        Linux: arch/x86/include/asm/pgtable_64_types.h, VMALLOC_TOTAL; pgtable_32_areas.h; arch/arm64's pgtable.h.
        """
        if end := self.kernel.profile.arch.vmalloc_end:
            return end - self.start >> 10
        if self.kernel.profile.config("ARM64"):
            return VMALLOC_TOTAL_ARM64_KB
        return 13_743_895_347_199 if self.kernel.machine.cpu.la57 else 34_359_738_367

    def alloc(self, nr_pages: int, nid: int, account: bool = False) -> list[int]:
        """An area of `nr_pages`, preferably from node `nid`; ENOMEM if they cannot be had.

        `account`: the running task's cgroup pays for it, and shows it in the row `vmalloc` of memory.stat.

        Linux: mm/vmalloc.c, __vmalloc_node_range(), __vmalloc_area_node().
        """
        pages = self._take(nr_pages, nid)
        if account:
            try:
                self.kernel.memcgs.charge_kmem(pages)
            except OSError:
                self._give(pages)
                raise
            self._mod_state(pages, +1)
        self._add(nr_pages)
        return pages

    def _mod_state(self, pages: list[int], sign: int) -> None:
        """Linux: mod_memcg_page_state(MEMCG_VMALLOC)."""
        frames, fast = self.kernel.frames.pages, self.kernel.memcgs.fast
        for row, nr in Counter(frames["memcg"][pages].tolist()).items():
            fast.mod_memcg_state(row, MemcgStatItem.MEMCG_VMALLOC, sign * nr)

    def _take(self, nr_pages: int, nid: int) -> list[int]:
        page_alloc = self.kernel.page_alloc
        pages: list[int] = []
        for _ in range(nr_pages):
            pfn = page_alloc.alloc_pages(GFP_KERNEL | GFP_HIGHMEM_BIT, 0, nid)
            if pfn < 0:
                break
            pages.append(pfn)
        if len(pages) < nr_pages:
            self._give(pages)
            raise OSError(errno.ENOMEM, f"vmalloc of {nr_pages} pages failed")
        return pages

    def _give(self, pages: list[int]) -> None:
        for pfn in pages:
            self.kernel.page_alloc.free_pages(pfn, 0)

    def _add(self, nr_pages: int) -> None:
        self.kernel.slab.alloc_counted("vmap_area")
        self.nr_pages += nr_pages
        self.nr_areas += 1

    def alloc_huge(self, nr_pages: int, nid: int) -> None:
        """An area that stays, in pages of 2 MB as far as there are any. Linux: mm/vmalloc.c, vmalloc_huge()."""
        for _ in range(nr_pages >> HPAGE_PMD_ORDER):
            if self.kernel.page_alloc.alloc_pages(GFP_KERNEL | GFP_NOWARN_BIT, HPAGE_PMD_ORDER, nid) < 0:
                self._take(1 << HPAGE_PMD_ORDER, nid)
        self._add(nr_pages)

    def free(self, pages: list[int], account: bool = False) -> None:
        """Give an area back. Linux: mm/vmalloc.c, vfree()."""
        if account:
            self._mod_state(pages, -1)
            self.kernel.memcgs.uncharge_kmem(pages)
        self._give(pages)
        self.kernel.slab.free_counted("vmap_area")
        self.nr_pages -= len(pages)
        self.nr_areas -= 1

    def kvmalloc(self, size: int) -> Kvmalloc:
        """`size` bytes that the running task's cgroup pays for: from the slab, or else an area; ENOMEM.

        Linux: mm/util.c, kvmalloc_node(), with GFP_KERNEL_ACCOUNT.
        """
        kernel = self.kernel
        if obj := kernel.slab.kmalloc(size, "kmalloc-cg"):
            return obj
        if size <= PAGE_SIZE:
            raise OSError(errno.ENOMEM, f"no memory for {size} bytes")
        nid = int(kernel.page_alloc.buddy.cpu_nodes[kernel.page_alloc.buddy.cpu])
        return self.alloc(-(-size // PAGE_SIZE), nid, account=True)

    def kvfree(self, what: Kvmalloc) -> None:
        """Linux: mm/util.c, kvfree()."""
        if isinstance(what, int):
            self.kernel.slab.kfree(what)
        else:
            self.free(what, account=True)
