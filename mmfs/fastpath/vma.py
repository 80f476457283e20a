# cython: language_level=3
"""What the loops know of virtual memory areas: a row each, the pages and the rights it gives.

Linux: include/linux/mm_types.h, struct vm_area_struct; mm/mempolicy.c, alloc_pages_mpol(); mm/mmap.c, protection_map.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view
from mmfs.mm_types import VMA_DTYPE

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_VMAS = 1 << 26


class Vmas:
    """The rows of all VMAs. ``vmas`` VMA_DTYPE is handed out and written by mm/rows.py; row 0 is none's.

    ``weights`` uint8 [64]: how many pages in turn a node gets by weighted interleave; 0 is 1.
    """

    def __init__(self, buddy, walker):
        self.frames = buddy.frames
        self.buddy = buddy
        self.walker = walker
        self.memcg = walker.memcg
        self.vmas = lazy_array(_MAX_VMAS, VMA_DTYPE)
        self.vma = view(self.vmas)
        self.weights = np.zeros(64, np.uint8)
        self.weight = view(self.weights)

    def update(
        self, vma: cython.long, start: cython.long, end: cython.long, flags: cython.ulong, pgoff: cython.long,
        mapping: cython.uint, anon_vma: cython.uint, mm: cython.int, policy: cython.int, nid: cython.int,
        file: cython.uint, nodemask: cython.ulong,
    ):  # fmt: skip
        """Write a row."""
        self.vma[vma].start = start
        self.vma[vma].end = end
        self.vma[vma].flags = flags
        self.vma[vma].pgoff = pgoff
        self.vma[vma].mapping = mapping
        self.vma[vma].anon_vma = anon_vma
        self.vma[vma].mm = mm
        self.vma[vma].policy = policy
        self.vma[vma].nid = nid
        self.vma[vma].file = file
        self.vma[vma].nodemask = nodemask

    def alloc_page(self, vma, index, mt, highest):
        """A page for a VMA by its memory policy, or -1. Linux: mm/mempolicy.c, alloc_pages_mpol()."""
        node: cython.int = self.buddy.cpu_node[self.buddy.cpu]
        mask: cython.ulong = ~cython.cast(cython.ulong, 0)
        pfn: cython.long
        if vma >= 0 and self.vma[vma].policy != 0:
            node = self.policy_node(vma, index)
            if self.vma[vma].policy == POLICY_NODE or self.vma[vma].policy == POLICY_MANY:
                mask = self.vma[vma].nodemask
        pfn = self.walker.alloc_page(mt, node, highest, mask)
        if vma < 0:
            return pfn
        if pfn < 0 and self.vma[vma].policy == POLICY_MANY:
            pfn = self.walker.alloc_page(mt, node, highest, ~cython.cast(cython.ulong, 0))
        if pfn >= 0 and self.vma[vma].policy == POLICY_IN_TURN:
            self.count_interleave_hit(self.frames.block[pfn >> PAGEBLOCK_ORDER].zone, node)
        return pfn

    def count_interleave_hit(self, zone, node):
        """A page by interleave is counted if it comes from the node whose turn it is."""
        if self.buddy.zone[zone].nid == node:
            self.buddy.numa_event[zone, NUMA_INTERLEAVE_HIT] += 1

    def policy_node(self, vma, index):
        """The node that a VMA's memory policy prefers for a page. Linux: policy_nodemask()."""
        policy: cython.int = self.vma[vma].policy
        if policy == POLICY_LOCAL or policy == POLICY_MANY:
            return self.buddy.cpu_node[self.buddy.cpu]
        if policy == POLICY_NODE:
            return self.vma[vma].nid
        return self.node_in_turn(self.vma[vma].nodemask, index, policy == POLICY_WEIGHTED)

    def node_in_turn(self, mask, index, weighted):
        """The node that gets a page of a mapping. Linux: interleave_nid(), weighted_interleave_nid()."""
        node: cython.int
        total: cython.long = 0
        left: cython.long
        for node in range(64):
            if mask >> node & 1:
                total += self.turns(node, weighted)
        left = index % max(total, cython.cast(cython.long, 1))
        for node in range(64):
            if mask >> node & 1:
                if left < self.turns(node, weighted):
                    break
                left -= self.turns(node, weighted)
        return node

    def turns(self, node, weighted):
        """How many pages in turn a node gets. Linux: get_il_weight()."""
        return max(self.weight[node], cython.cast(cython.uchar, 1)) if weighted else 1

    def alloc_large(self, vma, index, order, alloc_flags):
        """A free block for a VMA by its memory policy, a pageblock from the node that this prefers only; or -1.

        Linux: mm/mempolicy.c, alloc_pages_mpol(), for a large folio.
        """
        node: cython.int = self.policy_node(vma, index >> order)
        policy: cython.int = self.vma[vma].policy
        mask: cython.ulong = ~cython.cast(cython.ulong, 0)
        pfn: cython.long
        if order == HPAGE_PMD_ORDER:
            mask = cython.cast(cython.ulong, 1) << node
            if policy == POLICY_NODE:
                mask &= self.vma[vma].nodemask
        elif policy == POLICY_NODE or policy == POLICY_MANY:
            mask = self.vma[vma].nodemask
        pfn = self.buddy.alloc(order, MIGRATE_MOVABLE, node, ZONE_MOVABLE, alloc_flags, mask)
        if order == HPAGE_PMD_ORDER:
            return pfn
        if pfn < 0 and policy == POLICY_MANY:
            pfn = self.buddy.alloc(
                order, MIGRATE_MOVABLE, node, ZONE_MOVABLE, alloc_flags, ~cython.cast(cython.ulong, 0)
            )
        if pfn >= self.frames.mthp_pfns:
            self.buddy.free(pfn, order)
            return -1
        if pfn >= 0 and policy == POLICY_IN_TURN:
            self.count_interleave_hit(self.frames.block[pfn >> PAGEBLOCK_ORDER].zone, node)
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
            cython.uint, (self.vma[vma].pgoff + ((addr - self.vma[vma].start) >> PAGE_SHIFT)) & INDEX_MASK
        )
