# cython: language_level=3
"""Writing zswap's pages back: the oldest are decompressed into the swap cache and go to their area.

Linux: mm/zswap.c, zswap_writeback_entry(), zswap_shrinker_scan(), shrink_worker().
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_RECLAIM_RETRIES = cython.declare(cython.int, 16)


class ZswapWriteback:
    """What shrinks zswap. ``state`` reads the pages, ``zswap`` keeps them."""

    def __init__(self, state):
        self.state = state
        self.frames = state.frames
        self.swap = state.swap
        self.zswap = state.zswap

    def writeback_entry(self, slot):
        """Have a page that zswap keeps written to its area. False: it could not be. Linux: zswap_writeback_entry()."""
        pfn: cython.long
        self.state.allocated = False
        pfn = self.state.alloc_swap_cache(0, slot, slot)
        if pfn < 0 or not self.state.allocated:
            return False
        self.zswap.load_for_writeback(slot)
        self.frames.page[pfn].flags |= PG_RECLAIM | PG_DIRTY
        if self.swap.write_to_area(pfn, slot) == SWAP_WRITE_BUSY:
            self.frames.page[pfn].flags &= ~PG_RECLAIM
        return True

    def shrink_oldest(self, nid):
        """Write back a node's oldest copy: 1; 0 if it cannot be, or got its second chance; -1 if there is none."""
        slot: cython.long = self.zswap.second_chance(nid)
        if slot <= 0:
            return 0 if slot else -1
        if self.writeback_entry(slot):
            self.zswap.written_back_pages += 1
            return 1
        self.zswap.reject_reclaim_fail += 1
        return 0

    def shrink_zswap_node(self, nid: cython.int, nr_to_scan: cython.long):
        """Scan a node's oldest copies; how many were written back. Linux: zswap_shrinker_scan()."""
        failed: cython.long = self.zswap.reject_reclaim_fail
        shrunk: cython.long = 0
        one: cython.int
        with cython.nogil:
            while nr_to_scan > 0 and self.zswap.reject_reclaim_fail == failed:
                one = self.shrink_oldest(nid)
                if one < 0:
                    break
                shrunk += one
                nr_to_scan -= 1
        return shrunk

    def shrink_zswap(self, nr_nodes: cython.int, most: cython.long):
        """Write back what is oldest until the pool takes pages again, at most ``most``. False: there is more to do.

        Linux: shrink_worker(), shrink_memcg().
        """
        failures: cython.int = 0
        written: cython.long = 0
        shrunk: cython.int
        nid: cython.int
        done: cython.bint = False
        with cython.nogil:
            while written < most and not done:
                shrunk = 0
                for nid in range(nr_nodes):
                    shrunk += max(self.shrink_oldest(nid), cython.cast(cython.int, 0))
                written += shrunk
                if shrunk == 0:
                    failures += 1
                done = (
                    failures == _MAX_RECLAIM_RETRIES or self.zswap.pool.pages_allocated <= self.zswap.accept_pages
                )
        return done
