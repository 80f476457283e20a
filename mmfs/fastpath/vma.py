# cython: language_level=3
"""What the loops know of virtual memory areas: a row each, the pages and the rights it gives.

Linux: include/linux/mm_types.h, struct vm_area_struct; mm/mempolicy.c, alloc_pages_mpol(); mm/mmap.c, protection_map.
"""

import cython

from mmfs.fastpath.frames import lazy_array, view
from mmfs.mm_types import VMA_DTYPE

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_VMAS = 1 << 26


class Vmas:
    """The rows of all VMAs. ``vmas`` VMA_DTYPE is handed out and written by mm/rows.py; row 0 is none's."""

    def __init__(self, buddy, walker):
        self.frames = buddy.frames
        self.buddy = buddy
        self.walker = walker
        self.memcg = walker.memcg
        self.vmas = lazy_array(_MAX_VMAS, VMA_DTYPE)
        self.vma = view(self.vmas)

    def alloc_page(self, vma, index, mt, highest):
        """A page for a VMA by its memory policy, or -1. Linux: mm/mempolicy.c, alloc_pages_mpol()."""
        node: cython.int = self.buddy.cpu_node[self.buddy.cpu]
        mask: cython.ulong = ~cython.cast(cython.ulong, 0)
        n: cython.long
        pfn: cython.long
        if vma >= 0 and self.vma[vma].policy != 0:
            mask = self.vma[vma].nodemask
            node = self.vma[vma].nid
            if self.vma[vma].policy == 2:
                n = 0
                for node in range(64):
                    n += mask >> node & 1
                n = index % max(n, cython.cast(cython.long, 1))
                for node in range(64):
                    if mask >> node & 1:
                        if n == 0:
                            break
                        n -= 1
                mask = ~cython.cast(cython.ulong, 0)
        pfn = self.walker.alloc_page(mt, node, highest, mask)
        if pfn >= 0 and vma >= 0 and self.vma[vma].policy == 2:
            self.buddy.numa_event[self.frames.block[pfn >> PAGEBLOCK_ORDER].zone, NUMA_INTERLEAVE_HIT] += 1
        return pfn

    def alloc_charged(self, vma, index, memcg):
        """A movable page for a VMA, charged; -1: no memory, or above a limit. Linux: folio_prealloc()."""
        pfn: cython.long
        if not self.memcg.charge(memcg, 1):
            return -1
        pfn = self.alloc_page(vma, index, MIGRATE_MOVABLE, ZONE_MOVABLE)
        if pfn < 0:
            self.memcg.unused(memcg, 1)
            return -1
        self.memcg.commit_charge(pfn, memcg)
        return pfn

    def prot(self, flags):
        """The entry bits of a VMA's protection, without write. Linux: vm_get_page_prot()."""
        bits: cython.ulong = PTE_PRESENT | PTE_USER | PTE_ACCESSED
        if not flags & (VMF_READ | VMF_WRITE | VMF_EXEC):
            bits = PTE_ACCESSED | PTE_GLOBAL  # _PAGE_PROTNONE shares the global bit
        if not flags & VMF_EXEC:
            bits |= PTE_NX
        return bits

    def index(self, vma, addr):
        """The page offset of an address, as page records keep it. Linux: linear_page_index()."""
        return cython.cast(
            cython.uint, (self.vma[vma].pgoff + ((addr - self.vma[vma].start) >> 12)) & INDEX_MASK
        )
