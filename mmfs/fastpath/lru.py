# cython: language_level=3
"""The lists of pages by recency: five a node, a batch a CPU in front of them.

A new page waits in its CPU's batch (``folio_batch``, 31 pages) and is on no list until the batch is full or
drained, which is why Active and Inactive lag AnonPages by some pages. A block that is mapped as a whole
stands as one record on a list of blocks beside the list of pages and counts as 512.

Linux: mm/swap.c, folio_add_lru(), lru_add(); include/linux/mm_inline.h, lruvec_add_folio().

Simplified: one set of lists a node; batches exist for additions only.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_BATCH = cython.declare(cython.int, 31)
_UNEVICTABLE = cython.declare(cython.int, 4)


class Lru:
    """The lists of all nodes. Counters go to the VmStat's node and zone rows."""

    def __init__(self, frames, buddy, vmstat, nr_nodes, nr_cpus):
        self.frames = frames
        self.buddy = buddy
        self.nr_cpus = nr_cpus
        self.node_stat = view(vmstat.node_stat)
        self.zone_stat = view(vmstat.zone_stat)
        self.event = view(vmstat.event)
        self.batch = view(np.zeros((nr_cpus, _BATCH), np.uint32))
        self.batched = view(np.zeros(nr_cpus, np.int32))
        self.page_heads = frames.next_page_head
        self.block_heads = frames.next_block_head
        for _ in range(nr_nodes * NR_LRU_LISTS):
            frames.new_page_head()
            frames.new_block_head()

    @staticmethod
    def heads_needed(nr_nodes):
        """How many page (and as many pageblock) list heads the lists take."""
        return nr_nodes * NR_LRU_LISTS

    def lru_of(self, flags):
        """The list for a page of these flags. Linux: folio_lru_list()."""
        lru: cython.int = 0
        if flags & PG_UNEVICTABLE:
            return _UNEVICTABLE
        if not flags & PG_SWAPBACKED:
            lru = 2
        if flags & PG_ACTIVE:
            lru += 1
        return lru

    def count(self, zone, lru, nr):
        """Linux: update_lru_size()."""
        self.node_stat[self.buddy.zone[zone].nid, NR_INACTIVE_ANON + lru] += nr
        self.zone_stat[zone, NR_ZONE_INACTIVE_ANON + lru] += nr

    def add_page(self, pfn):
        """Put a page at the front of its list. Linux: lruvec_add_folio()."""
        zone: cython.long = self.frames.block[pfn >> PAGEBLOCK_ORDER].zone
        lru: cython.int = self.lru_of(self.frames.page[pfn].flags)
        self.frames.page[pfn].flags |= PG_LRU
        self.frames.page_list_add(self.page_heads + self.buddy.zone[zone].nid * NR_LRU_LISTS + lru, pfn)
        self.count(zone, lru, 1)

    def del_page(self, pfn):
        """Take a page off its list, out of a batch if need be. Linux: lruvec_del_folio()."""
        if not self.frames.page[pfn].flags & PG_LRU:
            self.drain_all()
        self.frames.page_list_del(pfn)
        self.count(self.frames.block[pfn >> PAGEBLOCK_ORDER].zone, self.lru_of(self.frames.page[pfn].flags), -1)
        self.frames.page[pfn].flags &= ~PG_LRU

    def drain(self, cpu):
        """Put a CPU's batch on the lists. Linux: lru_add_drain_cpu()."""
        i: cython.Py_ssize_t
        pfn: cython.long
        for i in range(self.batched[cpu]):
            pfn = self.batch[cpu, i]
            if self.frames.page[pfn].flags & PG_UNEVICTABLE:
                self.event[UNEVICTABLE_PGS_CULLED] += 1
            self.add_page(pfn)
        self.batched[cpu] = 0

    def drain_all(self):
        """Linux: lru_add_drain_all()."""
        cpu: cython.long
        for cpu in range(self.nr_cpus):
            if self.batched[cpu]:
                self.drain(cpu)

    def cache_add(self, pfn):
        """Queue a new page for its list. Linux: folio_add_lru()."""
        cpu: cython.long = self.buddy.cpu
        self.batch[cpu, self.batched[cpu]] = cython.cast(cython.uint, pfn)
        self.batched[cpu] += 1
        if self.batched[cpu] == _BATCH:
            self.drain(cpu)

    def add_block(self, block):
        """Put a block that is mapped as a whole on its list."""
        zone: cython.long = self.frames.block[block].zone
        lru: cython.int = self.lru_of(self.frames.block[block].flags)
        self.frames.block_list_add(self.block_heads + self.buddy.zone[zone].nid * NR_LRU_LISTS + lru, block)
        self.count(zone, lru, PAGEBLOCK_NR_PAGES)

    def del_block(self, block):
        """Take a block that is mapped as a whole off its list."""
        self.frames.block_list_del(block)
        self.count(self.frames.block[block].zone, self.lru_of(self.frames.block[block].flags), -PAGEBLOCK_NR_PAGES)

    def split_block(self, block):
        """Replace a block on a list by its 512 pages, whose records the caller has written."""
        zone: cython.long = self.frames.block[block].zone
        lru: cython.int = self.lru_of(self.frames.block[block].flags)
        head: cython.long = self.page_heads + self.buddy.zone[zone].nid * NR_LRU_LISTS + lru
        pfn: cython.long
        self.frames.block_list_del(block)
        for pfn in range(block << PAGEBLOCK_ORDER, (block + 1) << PAGEBLOCK_ORDER):
            self.frames.page[pfn].flags |= PG_LRU
            self.frames.page_list_add(head, pfn)

    def lru_add_drain(self):
        """Put every CPU's batch on the lists."""
        self.drain_all()

    def nr_batched(self, cpu):
        """Pages that wait in a CPU's batch: for checks."""
        return self.batched[cpu]

    def pages(self, nid, lru):
        """The pages of a list from its front: for checks and debugging."""
        return self.frames.walk_pages(self.page_heads + nid * NR_LRU_LISTS + lru)

    def blocks(self, nid, lru):
        """The blocks of a list from its front: for checks and debugging."""
        return self.frames.walk_blocks(self.block_heads + nid * NR_LRU_LISTS + lru)

    def deactivate(self, pfn):
        """Move a page from an active list to the front of the inactive one. Linux: mm/swap.c, lru_deactivate()."""
        if self.frames.page[pfn].flags & PG_LRU and not self.frames.page[pfn].flags & PG_UNEVICTABLE:
            self.del_page(pfn)
            self.frames.page[pfn].flags &= ~PG_ACTIVE
            self.add_page(pfn)
