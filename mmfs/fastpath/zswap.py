# cython: language_level=3
"""Compressed copies of pages in front of the swap areas.

A page that is swapped out is compressed into a pool; only if that has no room, or the page does not compress, it is
written to its area. Reading it takes the copy out. When the pool is full, its oldest pages that have had their second
chance go to the disk (fastpath/zswap_writeback.py). A page that is zero all over is neither compressed
nor written: a bit says so. Older kernels have such a bit only here, for pages of one word all over.

Linux: mm/zswap.c; mm/page_io.c, swap_zeromap_folio_set().

Simplified: one pool whatever the compressor, which acts on pages that come from then on.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view
from mmfs.fastpath.zsmalloc import ZsPool

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_SLOTS = 1 << 31
_MAX_NODES = 1024
_REFERENCED = cython.declare(cython.uint, 1)
_ZERO = cython.declare(cython.uint, 2)
_NID_SHIFT = cython.declare(cython.int, 4)


class Zswap:
    """All of zswap but writing back. ``pool`` keeps the copies by slot.

    ``memcg_of``: the memory cgroup that a slot is charged to; ``objcgs`` int32: the objcg that pays for its copy.
    ``max_pages`` and ``accept_pages``: how large the pool
    may get, and below which size it takes pages again after it was full.

    ``zeromap``: zero pages are known without zswap; if not, and ``same_filled``, zswap knows those of one word all
    over. ``exclusive``: a copy goes when its page is read.
    """

    def __init__(self, folios, contents, memcgs, vmstat):
        buddy = folios.buddy
        self.frames = buddy.frames
        self.buddy = buddy
        self.memcg = folios.memcg
        self.memcg_of = view(memcgs)
        self.objcg = folios.slub.objcg
        self.objcgs = lazy_array(_MAX_SLOTS, np.int32)
        self.objcg_of = view(self.objcgs)
        self.contents = contents
        self.pool = ZsPool(buddy, vmstat, _MAX_SLOTS)
        self.entry = view(self.pool.entries)
        self.first = view(np.zeros(_MAX_NODES, np.uint32))
        self.last = view(np.zeros(_MAX_NODES, np.uint32))
        self.nr = view(np.zeros(_MAX_NODES, np.int64))
        self.enabled = self.ever_enabled = self.reached_full = self.want_shrink = False
        self.max_pages = self.accept_pages = 0
        self.factor = 1000
        self.compress_ns = self.decompress_ns = 0
        self.pool_limit_hit = self.written_back_pages = self.reject_reclaim_fail = 0
        self.reject_compress_poor = self.reject_alloc_fail = 0
        self.nr_zero = 0
        self.zeromap = self.exclusive = self.same_filled = True

    # ------------------------------------------------------------------------------ the order of age

    def lru_add(self, slot, nid):
        """The youngest of its node. Linux: zswap_lru_add()."""
        last: cython.uint = self.last[nid]
        self.entry[slot].prv = last
        self.entry[slot].nxt = 0
        if last:
            self.entry[last].nxt = cython.cast(cython.uint, slot)
        else:
            self.first[nid] = cython.cast(cython.uint, slot)
        self.last[nid] = cython.cast(cython.uint, slot)
        self.nr[nid] += 1

    def lru_del(self, slot):
        """Linux: zswap_lru_del()."""
        nid: cython.long = self.entry[slot].flags >> _NID_SHIFT
        nxt: cython.uint = self.entry[slot].nxt
        prv: cython.uint = self.entry[slot].prv
        if nxt:
            self.entry[nxt].prv = prv
        else:
            self.last[nid] = prv
        if prv:
            self.entry[prv].nxt = nxt
        else:
            self.first[nid] = nxt
        self.nr[nid] -= 1

    # ------------------------------------------------------------------------------ pages

    def check_limits(self):
        """Whether the pool takes no page now. Linux: zswap_check_limits()."""
        if self.pool.pages_allocated >= self.max_pages:
            self.pool_limit_hit += 1
            self.reached_full = True
        elif self.reached_full and self.pool.pages_allocated <= self.accept_pages:
            self.reached_full = False
        return self.reached_full

    def entry_free(self, slot):
        """A copy goes. Linux: zswap_entry_free()."""
        objcg: cython.int = self.objcg_of[slot]
        size: cython.long = self.entry[slot].length
        if objcg:
            self.objcg.mod_memcg_state(objcg, MEMCG_ZSWAP_B, -size)
            self.objcg.mod_memcg_state(objcg, MEMCG_ZSWAPPED, -1)
            self.objcg.uncharge(objcg, size)
            self.objcg_of[slot] = 0
        self.lru_del(slot)
        self.pool.free(slot)

    def is_zero(self, folio):
        """Whether a page is all zero. Linux: mm/page_io.c, is_folio_zero_filled()."""
        first: cython.long = self.frames.folio_pfn(folio)
        pfn: cython.long
        for pfn in range(first, first + self.frames.nr_pages(folio)):
            if self.contents.compressed(pfn, 1000) != 0:
                return False
        return True

    def store_zero(self, folio, slot):
        """Whether a page is all zero, and remembered as that, of each of its slots from ``slot`` on.

        Linux: swap_writepage(), swap_zeromap_folio_set().
        """
        nr: cython.long = self.frames.nr_pages(folio)
        zero: cython.bint = self.zeromap and self.is_zero(folio)
        i: cython.long
        for i in range(slot, slot + nr):
            if zero:
                self.set_zero(i)
            else:
                self.clear_zero(i)
        if zero:
            self.memcg.count_events(self.memcg_of[slot], SWPOUT_ZERO, nr)
        return zero

    def set_zero(self, slot):
        """A slot's page is zero. Linux: swap_zeromap_folio_set()."""
        if not self.entry[slot].flags & _ZERO:
            self.entry[slot].flags |= _ZERO
            self.nr_zero += 1

    def holds_zero(self, slot):
        """Whether a slot's page is zero. Linux: swap_zeromap_batch()."""
        return self.nr_zero != 0 and self.entry[slot].flags & _ZERO != 0

    def clear_zero(self, slot):
        """A slot's page is not zero any more. Linux: swap_zeromap_folio_clear()."""
        if self.nr_zero and self.entry[slot].flags & _ZERO:
            self.entry[slot].flags &= ~_ZERO
            self.nr_zero -= 1

    def store(self, pfn, slot):
        """Keep a compressed copy of a page. False: it has to be written; no old copy is left. Linux: zswap_store().

        Huge pages are never kept.
        """
        if pfn >= self.frames.huge:
            return False
        if (
            self.enabled
            and self.memcg.may_zswap(self.memcg_of[slot])
            and not self.check_limits()
            and self.compress(pfn, slot)
        ):
            return True
        if self.enabled and self.reached_full:
            self.want_shrink = True
        if self.pool.nr_objects and self.entry[slot].zspage:
            self.entry_free(slot)
        return False

    def compress(self, pfn, slot):
        """Linux: zswap_compress()."""
        nid: cython.int = self.buddy.zone[self.frames.block[pfn >> PAGEBLOCK_ORDER].zone].nid
        memcg: cython.long = self.memcg_of[slot]
        size: cython.int = self.contents.compressed(pfn, self.factor)
        if size <= 0 and self.same_filled and not self.zeromap:
            if self.entry[slot].zspage:
                self.entry_free(slot)
            self.set_zero(slot)
            self.memcg.count_events(memcg, ZSWPOUT, 1)
            return True
        self.contents.cpu_ns += self.compress_ns
        if size < 0:
            size = -size
        if size >= PAGE_SIZE:
            self.reject_compress_poor += 1
            return False
        if self.entry[slot].zspage:
            self.entry_free(slot)
        if not self.pool.malloc(slot, size, nid):
            self.reject_alloc_fail += 1
            return False
        self.entry[slot].flags = cython.cast(cython.ushort, nid << _NID_SHIFT | _REFERENCED)
        self.lru_add(slot, nid)
        self.memcg.count_events(memcg, ZSWPOUT, 1)
        if memcg:
            self.charge(slot, self.objcg.from_memcg(memcg), size)
        return True

    def charge(self, slot, objcg, size):
        """Have an objcg pay for a copy, whatever its limits say. Linux: obj_cgroup_charge_zswap()."""
        if objcg:
            self.objcg_of[slot] = objcg
            self.objcg.charge(objcg, size, True)
            self.objcg.mod_memcg_state(objcg, MEMCG_ZSWAP_B, size)
            self.objcg.mod_memcg_state(objcg, MEMCG_ZSWAPPED, 1)

    def load(self, slot):
        """Read the copy of a slot's page. False: there is none. Linux: zswap_load()."""
        if self.pool.nr_objects == 0 or self.entry[slot].zspage == 0:
            return False
        self.contents.cpu_ns += self.decompress_ns
        self.memcg.count_events(self.memcg_of[slot], ZSWPIN, 1)
        if self.exclusive:
            self.entry_free(slot)
        return True

    def load_for_writeback(self, slot):
        """Take a copy out to write it to its area."""
        self.contents.cpu_ns += self.decompress_ns
        self.memcg.count_events(self.memcg_of[slot], ZSWPWB, 1)
        self.entry_free(slot)

    def load_zero(self, slot):
        """Whether a slot's page is all zero. Linux: swap_read_folio_zeromap()."""
        if self.nr_zero == 0 or not self.entry[slot].flags & _ZERO:
            return False
        self.memcg.count_events(self.memcg_of[slot], SWPIN_ZERO if self.zeromap else ZSWPIN, 1)
        return True

    def invalidate(self, slot):
        """Nobody will ask for a slot's page again. Linux: zswap_invalidate()."""
        self.clear_zero(slot)
        if self.pool.nr_objects and self.entry[slot].zspage:
            self.entry_free(slot)

    def second_chance(self, nid):
        """The oldest copy of a node, which becomes the youngest: its slot, or 0; -1 if it has had no second chance.

        Linux: shrink_memcg_cb().
        """
        slot: cython.long = self.first[nid]
        referenced: cython.bint
        if slot == 0:
            return 0
        referenced = (self.entry[slot].flags & _REFERENCED) != 0
        self.entry[slot].flags &= ~_REFERENCED
        self.lru_del(slot)
        self.lru_add(slot, nid)
        return -1 if referenced else slot

    def nr_on_lru(self, nid: cython.int):
        """Copies of a node. Linux: list_lru_shrink_count()."""
        return self.nr[nid]

    def lru(self, nid: cython.int):
        """The slots of a node's copies, the oldest first: for checks."""
        slot: cython.long = self.first[nid]
        out = []
        while slot:
            out.append(slot)
            slot = self.entry[slot].nxt
        return out
