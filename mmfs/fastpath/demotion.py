# cython: language_level=3
"""Demotion: what reclaim would free or swap on a fast node moves to a slower one instead.

Which nodes a node demotes to is policy's (mm/memory_tiers.py), which fills ``preferred`` and ``lower``. Reclaim asks
`can_demote()` and hands over what it has picked; what finds no room there comes back to be reclaimed as ever.

Linux: mm/vmscan.c, can_demote(), demote_folio_list(), alloc_migrate_folio(); mm/memory-tiers.c, next_demotion_node().

Simplified: for a large folio the target is not compacted; without a free block of its size there it is split at once.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_NO_NODE = cython.declare(cython.int, -1)


class Demotion:
    """Demotion between nodes by ``migration``.

    ``enabled``: numa_demotion_enabled. ``preferred``, ``lower`` [nodes] uint64: the targets of a node, and all nodes
    of the tiers below its own. ``wake``: nodes whose kswapd was asked for, for policy to wake them. ``seed``: where
    the choice among several targets stands. ``nr_folios``: how long the lists are that it is given.
    """

    def __init__(self, migration, nr_nodes, nr_folios):
        self.migration = migration
        self.frames = migration.frames
        self.buddy = migration.buddy
        self.event = self.migration.event
        self.preferred = np.zeros(nr_nodes, np.uint64)
        self.lower = np.zeros(nr_nodes, np.uint64)
        self.target = view(self.preferred)
        self.allowed = view(self.lower)
        self.enabled = False
        self.wake = 0
        self.seed = 0x9E3779B97F4A7C15
        self.kept = view(np.zeros(nr_folios, np.uint32))
        self.nr_demoted = 0
        self.full = False

    def node_random(self, mask):
        """One of the nodes of a mask that is not empty. Linux: include/linux/nodemask.h."""
        i: cython.int
        count: cython.int = 0
        pick: cython.int = 0
        for i in range(self.target.shape[0]):
            count += (mask >> i) & 1
        if count > 1:
            self.seed ^= self.seed << 13
            self.seed ^= self.seed >> 7
            self.seed ^= self.seed << 17
            if not cython.compiled:
                self.seed &= 0xFFFFFFFFFFFFFFFF
            pick = cython.cast(cython.int, (self.seed >> 32) % cython.cast(cython.ulong, count))
        for i in range(self.target.shape[0]):
            if (mask >> i) & 1:
                if pick == 0:
                    return i
                pick -= 1
        return _NO_NODE

    def next_demotion_node(self, nid):
        """Where a node's pages go to, -1 if nowhere. Linux: next_demotion_node()."""
        return self.node_random(self.target[nid]) if self.target[nid] else _NO_NODE

    def can_demote(self, nid):
        """Whether pages of a node can go to a slower one. Linux: can_demote()."""
        return self.enabled and self.target[nid] != 0

    # ------------------------------------------------------------------------------ moving

    def alloc_on(self, order, nid, mask):
        """A free block on one of some nodes, their reserves left alone; or -1."""
        flags: cython.int = 0 if order else ALLOC_KSWAPD
        pfn: cython.long = self.buddy.alloc(
            order, MIGRATE_MOVABLE, nid, ZONE_MOVABLE, ALLOC_WMARK_LOW | flags, mask
        )  # fmt: skip
        if pfn >= 0:
            return pfn
        if order == 0:
            self.wake |= mask
        return self.buddy.alloc(order, MIGRATE_MOVABLE, nid, ZONE_MOVABLE, ALLOC_WMARK_MIN | flags, mask)

    def alloc_migrate_folio(self, order, nid, allowed):
        """A free block on the target, else on any node of a lower tier; or -1. Linux: alloc_migrate_folio()."""
        only: cython.ulong = cython.cast(cython.ulong, 1) << nid
        pfn: cython.long = self.alloc_on(order, nid, only)
        if pfn < 0 and allowed & ~only:
            pfn = self.alloc_on(order, nid, allowed)
        return pfn

    def demote_large(self, folio, nid, allowed):
        """Move a folio of several pages that is not being written; False: it is single pages now.

        Linux: migrate_pages_batch(), try_split_folio().
        """
        dst: cython.long = -1
        nr: cython.long = self.frames.nr_pages(folio)
        if self.migration.moves_whole(folio):
            dst = self.alloc_migrate_folio(self.frames.folio_order(folio), nid, allowed)
            if dst >= 0:
                self.migration.migrate_large(folio, dst)
                self.nr_demoted += nr
                return True
            if folio < self.frames.mthp:
                self.event[THP_MIGRATION_FAIL] += 1
        self.migration.split_large(folio)
        return False

    def demote_page(self, pfn, nid, allowed):
        """Move a page; False: it cannot move, or (``full``) there is no room for it."""
        dst: cython.long = self.alloc_migrate_folio(0, nid, allowed)
        self.full = dst < 0
        if not self.full:
            if self.migration.migrate_folio(pfn, dst):
                self.event[PGMIGRATE_SUCCESS] += 1
                self.nr_demoted += 1
                return True
            self.buddy.free(dst, 0)
        self.event[PGMIGRATE_FAIL] += 1
        return False

    def demote_folio_list(self, folio, n, source):
        """Move ``n`` isolated folios of a node to a lower tier, the last first; how many, at the front, stay.

        ``nr_demoted`` pages have moved. Linux: demote_folio_list().
        """
        nid: cython.int = self.next_demotion_node(source)
        allowed: cython.ulong = self.allowed[source]
        left: cython.long = 0
        pfn: cython.long
        first: cython.long
        nr: cython.long
        self.nr_demoted = 0
        self.full = False
        while n > 0 and not self.full:
            n -= 1
            pfn = folio[n]
            first = self.frames.folio_pfn(pfn)
            nr = self.frames.nr_pages(pfn)
            if pfn < self.frames.huge:
                if not self.demote_page(pfn, nid, allowed):
                    self.kept[left] = cython.cast(cython.uint, pfn)
                    left += 1
            elif not self.demote_large(pfn, nid, allowed):
                for pfn in range(first, first + nr):
                    if self.frames.page[pfn].flags & (PG_ANON | PG_SWAPBACKED):
                        folio[n] = cython.cast(cython.uint, pfn)
                        n += 1
        for first in range(left):
            folio[n + first] = self.kept[first]
        return n + left
