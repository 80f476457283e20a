# cython: language_level=3
"""What is remembered of evicted pages, so that one that comes back soon is known to be part of the working set.

Each lruvec has a clock of evictions and activations. A page that is evicted leaves a shadow entry with the time in
its slot; when it is read again, the difference is how many pages the inactive list was too short for it. If all
active pages (and, with room in swap, those of the other kind) are at least as many, it takes the place of one of
them: it comes back active.

A shadow is an unsigned 64-bit number, from the top: SLOT_SHADOW, a zero bit, 35 bits of the clock, 16 of the owner's
id, 10 of the node, and whether the page had been active.

With the multi-generational LRU the time is the number of the generation that was evicted, and how often the page was
used (fastpath/lru_gen.py).

Linux: mm/workingset.c.
"""

import cython

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_NID_SHIFT = cython.declare(cython.int, 1)
_MEMCG_SHIFT = cython.declare(cython.int, 11)
_EVICTION_SHIFT = cython.declare(cython.int, 27)
_NID_MASK = cython.declare(cython.ulong, (1 << 10) - 1)
_MEMCG_MASK = cython.declare(cython.ulong, (1 << 16) - 1)
_EVICTION_MASK = cython.declare(cython.ulong, (1 << 35) - 1)


class Workingset:
    """Shadows made and read. ``nr_swap_pages`` is how many slots of all swap areas are free, kept by swap.

    ``target``: the memory cgroup for whose sake pages are evicted, which keeps the time; 0 for the whole machine.
    """

    def __init__(self, lru):
        self.frames = lru.frames
        self.lru = lru
        self.lruvec = view(lru.lruvecs)
        self.nr_swap_pages = self.target = 0

    def pack_shadow(self, lruvec, eviction, workingset):
        """Linux: pack_shadow()."""
        return (
            SLOT_SHADOW
            | (eviction & _EVICTION_MASK) << _EVICTION_SHIFT
            | cython.cast(cython.ulong, self.lruvec[lruvec].memcg) << _MEMCG_SHIFT
            | cython.cast(cython.ulong, self.lruvec[lruvec].nid) << _NID_SHIFT
            | (1 if workingset else 0)
        )

    def eviction(self, pfn):
        """The shadow of a page that is being evicted for ``target``'s sake. Linux: workingset_eviction()."""
        lruvec: cython.long = self.lru.lruvec_of(pfn)
        stamp: cython.ulong
        if self.lru.enabled:
            stamp = cython.cast(cython.ulong, self.lru.gen.eviction_token(lruvec, pfn))
            return self.pack_shadow(lruvec, stamp, self.lru.gen.refs_of(pfn) > 0)
        lruvec = self.target * self.lru.nr_nodes + self.lruvec[lruvec].nid
        stamp = cython.cast(cython.ulong, self.lruvec[lruvec].nonresident_age)
        self.lru.age_nonresident(lruvec, self.frames.nr_pages(pfn))
        return self.pack_shadow(lruvec, stamp, (self.frames.page[pfn].flags & PG_WORKINGSET) != 0)

    def shadow_lruvec(self, shadow):
        """The lruvec that a page had been evicted from."""
        return (
            cython.cast(cython.long, shadow >> _MEMCG_SHIFT & _MEMCG_MASK) * self.lru.nr_nodes
            + cython.cast(cython.long, shadow >> _NID_SHIFT & _NID_MASK)
        )  # fmt: skip

    def test_recent(self, shadow, file):
        """Whether a page was evicted so recently that it could have stayed. Linux: workingset_test_recent()."""
        lruvec: cython.long = self.shadow_lruvec(shadow)
        now: cython.ulong = cython.cast(cython.ulong, self.lruvec[lruvec].nonresident_age)
        distance: cython.ulong = now - (shadow >> _EVICTION_SHIFT) & _EVICTION_MASK
        size: cython.long
        if lruvec >= self.lru.nr_nodes:
            self.lru.memcg.flush()
        size = self.lru.memcg.lruvec_page_state(lruvec, NR_ACTIVE_FILE)
        if not file:
            size += self.lru.memcg.lruvec_page_state(lruvec, NR_INACTIVE_FILE)
        if self.lru.memcg.nr_swap_pages(self.lruvec[lruvec].memcg, self.nr_swap_pages) > 0:
            size += self.lru.memcg.lruvec_page_state(lruvec, NR_ACTIVE_ANON)
            if file:
                size += self.lru.memcg.lruvec_page_state(lruvec, NR_INACTIVE_ANON)
        return cython.cast(cython.long, distance) <= size

    def refault(self, pfn, shadow, in_fault):
        """A page that had been evicted is back, not on a list yet. Linux: workingset_refault()."""
        lruvec: cython.long = self.lru.lruvec_of(pfn)
        nr: cython.long = self.frames.nr_pages(pfn)
        file: cython.bint = not self.frames.page[pfn].flags & PG_SWAPBACKED
        if self.lru.enabled:
            if self.shadow_lruvec(shadow) == lruvec:
                self.lru.gen.refault(
                    lruvec, pfn, cython.cast(cython.long, shadow >> _EVICTION_SHIFT & _EVICTION_MASK),
                    cython.cast(cython.long, _EVICTION_MASK), (shadow & 1) != 0, in_fault,
                )
            return
        self.lru.memcg.mod_folio_state(pfn, WORKINGSET_REFAULT_ANON + file, nr)
        if not self.test_recent(shadow, file):
            return
        self.frames.page[pfn].flags |= PG_ACTIVE
        self.lru.age_nonresident(lruvec, nr)
        self.lru.memcg.mod_folio_state(pfn, WORKINGSET_ACTIVATE_ANON + file, nr)
        if shadow & 1:
            self.frames.page[pfn].flags |= PG_WORKINGSET
            self.lru.note_cost(lruvec, file, nr, 0)
            self.lru.memcg.mod_folio_state(pfn, WORKINGSET_RESTORE_ANON + file, nr)
