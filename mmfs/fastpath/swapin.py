# cython: language_level=3
"""Swapping in: a fault on a swap entry, and what is read along with the page.

If the page is still in the swap cache, the fault is minor. Else it is read, with its neighbours: those in the address
space around the fault (where all areas are on disks without seek times), or those in the area around its slot. A
window grows while what it brought in is used, and shrinks slowly.

Linux: mm/memory.c, do_swap_page(); mm/swap_state.c, swapin_readahead().

Simplified: pages that are read along are there at the same time as the page.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_VMAS = 1 << 26
_RA_DTYPE = np.dtype([("addr", "i8"), ("win", "i4"), ("hits", "i4")])
_RA_ORDER_CEILING = cython.declare(cython.int, 5)
_HITS_MAX = cython.declare(cython.int, 63)
_HAS_CACHE = cython.declare(cython.uint, 1 << 30)
_PMD_SIZE = cython.declare(cython.long, 1 << 21)
_READ = cython.declare(cython.int, 0)
_NO_MEMORY = cython.declare(cython.long, -2)
_MAX_RECLAIM_RETRIES = cython.declare(cython.int, 16)


class SwapIn:
    """Swap-in for all address spaces. ``ras`` what each VMA's last swap-ins were like.

    Of the last fault, which came at ``now_ns``: ``major``, whether it read, ``nr_read`` pages, and when they are there,
    ``done_ns``; ``thrashing``: the page was in use when it was reclaimed.
    """

    def __init__(self, areas, folios, rmap, swap):
        self.frames = areas.frames
        self.buddy = areas.buddy
        self.folios = folios
        self.lru = folios.lru
        self.rmap = rmap
        self.memcg = rmap.memcg
        self.swap = swap
        self.areas = areas
        self.vma = self.areas.vma
        self.mm = self.areas.walker.mm
        self.area = self.swap.area
        self.count = self.swap.count
        self.ras = lazy_array(_MAX_VMAS, _RA_DTYPE)
        self.ra = view(self.ras)
        self.event = self.folios.event
        self.zswap = self.swap.slots.zswap
        self.page_cluster = 3
        self.enable_vma_readahead = True
        self.nr_rotate_swap = 0
        self.hits = 4
        self.last_pages = 0
        self.prev_offset = 0
        self.pending_slot = self.pending_addr = 0
        self.pending_by_vma = False
        self.window = self.window_end = 0
        self.major = self.allocated = self.direct = self.thrashing = False
        self.reason = FAULT_DONE
        self.now_ns = self.done_ns = self.nr_read = 0
        self.run_start = self.run_pages = 0

    def has_recency(self, vma):
        """Whether accesses through a VMA tell that its pages are hot. Linux: vma_has_recency()."""
        return not self.vma[vma].flags & (VMF_SEQ_READ | VMF_RAND_READ)

    def begin(self, now_ns):
        """Reads are asked for at ``now_ns``."""
        self.now_ns = now_ns
        self.done_ns = self.nr_read = 0
        self.thrashing = False

    def use_vma_readahead(self):
        """Whether neighbours in the address space are read along, not on the disk. Linux: swap_use_vma_readahead()."""
        return self.enable_vma_readahead and self.nr_rotate_swap == 0

    def swap_cache_get(self, slot, vma, addr):
        """The page of the swap cache for a fault, or -1; counts readahead's hits. Linux: swap_cache_get_folio()."""
        pfn: cython.long = self.swap.slots.lookup(slot)
        hit: cython.bint
        if pfn < 0:
            return -1
        hit = (self.frames.page[pfn].flags & PG_READAHEAD) != 0
        self.frames.page[pfn].flags &= ~PG_READAHEAD
        if vma and self.use_vma_readahead():
            if self.ra[vma].addr == 0 and self.ra[vma].win == 0 and self.ra[vma].hits == 0:
                self.ra[vma].hits = 4
            if hit:
                self.ra[vma].hits = min(self.ra[vma].hits + 1, _HITS_MAX)
            self.ra[vma].addr = addr & PAGE_MASK
        if hit:
            self.event[SWAP_RA_HIT] += 1
            if vma == 0 or not self.use_vma_readahead():
                self.hits += 1
        return pfn

    def read_swap_cache(self, vma, slot, index):
        """The page of a slot, read if need be (``allocated``); -1 if nobody uses the slot, _NO_MEMORY.

        Linux: read_swap_cache_async().
        """
        pfn: cython.long = self.alloc_swap_cache(vma, slot, index)
        if pfn >= 0 and self.allocated:
            self.read_folio(pfn, slot)
        return pfn

    def alloc_swap_cache(self, vma, slot, index):
        """The page of a slot, or a new one for it with nothing in it; as read_swap_cache().

        Linux: __read_swap_cache_async().
        """
        pfn: cython.long = self.swap.slots.lookup(slot)
        shadow: cython.ulong
        memcg: cython.long
        self.allocated = False
        if pfn >= 0:
            return pfn
        if self.count[slot] & ~_HAS_CACHE == 0:
            return -1
        memcg = self.swap.slots.memcg_of[slot]
        pfn = self.areas.alloc_charged(vma, index, self.memcg.swapin_memcg(memcg, self.memcg.current))
        if pfn < 0:
            return _NO_MEMORY
        self.allocated = True
        self.frames.page[pfn].flags = PG_UPTODATE | PG_SWAPBACKED
        self.frames.page[pfn].mapping = self.frames.page[pfn].index = 0
        self.frames.page[pfn].mapcount = 0
        shadow = self.swap.add_to_swap_cache(pfn, slot)
        if shadow:
            self.folios.workingset.refault(pfn, shadow, self.has_recency(vma))
        self.lru.add(pfn, self.has_recency(vma))
        return pfn

    def read_folio(self, pfn, slot):
        """Read a slot, from a disk in one request with the slots before it. Linux: mm/page_io.c, swap_read_folio()."""
        t: cython.int = self.swap.slots.type[slot >> 9]
        if self.zswap.load_zero(slot):
            return
        if self.zswap.load(slot):
            self.frames.page[pfn].flags |= PG_DIRTY
            return
        self.event[PSWPIN] += 1
        if self.area[t].flags & SWP_SYNCHRONOUS_IO:
            self.swap.slots.devices.zram_read(t, slot - self.area[t].base)
            return
        if slot != self.run_start + self.run_pages:
            self.read_unplug()
            self.run_start = slot
        self.run_pages += 1
        self.nr_read += 1

    def read_unplug(self):
        """Send the request that is being put together."""
        t: cython.int = self.swap.slots.type[self.run_start >> 9]
        if self.run_pages:
            self.done_ns = max(
                self.done_ns,
                self.swap.slots.devices.read(t, self.run_start - self.area[t].base, self.run_pages, self.now_ns),
            )
        self.run_pages = 0

    # ------------------------------------------------------------------------------ readahead

    def nr_pages(self, prev, here, hits, max_pages, prev_win):
        """How many pages to read. Linux: __swapin_nr_pages()."""
        pages: cython.int = hits + 2
        roundup: cython.int = 4
        if pages == 2:
            if here != prev + 1 and here != prev - 1:
                pages = 1
        else:
            while roundup < pages:
                roundup <<= 1
            pages = roundup
        pages = min(pages, max_pages)
        return max(pages, prev_win // 2)

    def vma_window(self, vma, addr):
        """Which addresses to read ahead: [window, window_end), empty for the page alone. Linux: swap_vma_ra_win()."""
        order: cython.int = min(self.page_cluster, _RA_ORDER_CEILING)
        prev: cython.long = self.ra[vma].addr
        hits: cython.int = self.ra[vma].hits
        pmd: cython.long = addr & ~(_PMD_SIZE - 1)
        win: cython.int
        left: cython.long
        self.window = self.window_end = 0
        if order == 0:
            return
        if prev == 0 and self.ra[vma].win == 0 and hits == 0:
            hits = 4
        win = self.nr_pages(prev >> 12, addr >> 12, hits, 1 << order, self.ra[vma].win)
        self.ra[vma].addr = addr
        self.ra[vma].win = win
        self.ra[vma].hits = 0
        if win == 1:
            return
        if addr == prev + PAGE_SIZE:
            left = addr
        elif prev == addr + PAGE_SIZE:
            left = addr - (cython.cast(cython.long, win) << 12) + PAGE_SIZE
        else:
            left = addr - (cython.cast(cython.long, (win - 1) // 2) << 12)
        self.window = max(left, self.vma[vma].start, pmd)
        self.window_end = min(left + (cython.cast(cython.long, win) << 12), self.vma[vma].end, pmd + _PMD_SIZE)

    def cluster_window(self, slot):
        """Which slots to read ahead: [window, window_end), empty for the page alone. Linux: swapin_nr_pages()."""
        t: cython.int = self.swap.slots.type[slot >> 9]
        base: cython.long = self.area[t].base
        offset: cython.long = slot - base
        max_pages: cython.int = 1 << min(self.page_cluster, 30)
        hits: cython.int = self.hits
        mask: cython.long
        self.window = self.window_end = 0
        if max_pages <= 1:
            return
        self.hits = 0
        self.last_pages = self.nr_pages(self.prev_offset, offset, hits, max_pages, self.last_pages)
        if hits == 0:
            self.prev_offset = offset
        mask = self.last_pages - 1
        if mask == 0:
            return
        self.window = base + max(offset & ~mask, cython.cast(cython.long, 1))
        self.window_end = base + min((offset | mask) + 1, self.area[t].max)

    def vma_readahead(self, vma, addr, at, slot):
        """Read the swapped-out pages of the window. Linux: swap_vma_readahead()."""
        entry: cython.ulong
        pfn: cython.long
        here: cython.long = addr & PAGE_MASK
        while self.window < self.window_end:
            entry = self.frames.entry[at + ((self.window - here) >> 12)]
            if entry != 0 and not entry & (PTE_PRESENT | PTE_GLOBAL):
                pfn = self.read_swap_cache(vma, self.swap.slots.slot_of(entry), self.areas.index(vma, self.window))
                if pfn == _NO_MEMORY:
                    return _NO_MEMORY
                if self.allocated and self.window != here:
                    self.frames.page[pfn].flags |= PG_READAHEAD
                    self.event[SWAP_RA] += 1
            self.window += PAGE_SIZE
        return 0

    def cluster_readahead(self, vma, addr, slot):
        """Read the slots of the window that are in use. Linux: swap_cluster_readahead()."""
        pfn: cython.long
        while self.window < self.window_end:
            pfn = self.read_swap_cache(vma, self.window, self.areas.index(vma, addr))
            if pfn == _NO_MEMORY:
                return _NO_MEMORY
            if self.allocated and self.window != slot:
                self.frames.page[pfn].flags |= PG_READAHEAD
                self.event[SWAP_RA] += 1
            self.window += 1
        return 0

    def readahead(self, vma, addr, at, slot):
        """Read a slot and its neighbours; the page, or _NO_MEMORY. ``vma`` 0: shared memory. Linux: swapin_readahead().

        A fault that runs out of memory goes on with its window when it is taken again, unless windows have come to be
        of the other kind meanwhile.
        """
        by_vma: cython.bint = vma != 0 and self.use_vma_readahead()
        alone: cython.bint
        pfn: cython.long
        if self.pending_slot != slot or self.pending_addr != addr or self.pending_by_vma != by_vma:
            if by_vma:
                self.vma_window(vma, addr & PAGE_MASK)
            else:
                self.cluster_window(slot)
        alone = self.window_end == 0
        self.pending_slot = slot
        self.pending_addr = addr
        self.pending_by_vma = by_vma
        if by_vma:
            pfn = self.vma_readahead(vma, addr, at, slot)
        else:
            pfn = self.cluster_readahead(vma, addr, slot)
        if pfn >= 0:
            if not alone:
                self.lru.drain(self.buddy.cpu)
            pfn = self.read_swap_cache(vma, slot, self.areas.index(vma, addr))
        self.read_unplug()
        if pfn >= 0:
            self.pending_slot = 0
            self.thrashing = (self.frames.page[pfn].flags & PG_WORKINGSET) != 0
        return pfn

    def read_ahead_of(self, vma, addr, entry):
        """Read what a swap entry means into the swap cache; False without memory. Linux: read_swap_cache_async()."""
        slot: cython.long = self.swap.slots.slot_of(entry)
        return self.read_swap_cache(vma, slot, self.areas.index(vma, addr)) != _NO_MEMORY

    def finish(self):
        """All that is wanted has been asked for."""
        self.read_unplug()
        self.lru.drain(self.buddy.cpu)

    def shmem_willneed(self, m: cython.long, first: cython.long, last: cython.long):
        """Read what [first, last) of a file has in swap into the swap cache. Linux: shmem_swapin_range()."""
        i: cython.long
        value: cython.ulong
        with cython.nogil:
            for i in range(first, min(last, self.folios.mapping[m].slots)):
                value = self.folios.slot[self.folios.mapping[m].base + i]
                if value & SLOT_SWAP and self.read_swap_cache(0, value & ~SLOT_SWAP, i) == _NO_MEMORY:
                    break
            self.finish()

    # ------------------------------------------------------------------------------ writing zswap's pages back

    def writeback_entry(self, slot):
        """Have a page that zswap keeps written to its area. False: it could not be. Linux: zswap_writeback_entry()."""
        pfn: cython.long
        self.allocated = False
        pfn = self.alloc_swap_cache(0, slot, slot)
        if pfn < 0 or not self.allocated:
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

    # ------------------------------------------------------------------------------ the fault

    def swap_in(self, mm, vma, addr, at, write):
        """Serve a fault on a swap entry: FAULT_DONE or FAULT_OOM; ``major`` if it was read.

        A write to a page that others have too leaves it read-only: the caller copies it. Linux: do_swap_page().
        """
        slot: cython.long = self.swap.slots.slot_of(self.frames.entry[at])
        pfn: cython.long = -1
        self.major = False
        if self.pending_slot != slot or self.pending_addr != addr:
            pfn = self.swap_cache_get(slot, vma, addr)
        if pfn < 0:
            self.direct = self.alone_in_zram(slot)
            if self.direct:
                pfn = self.read_swap_cache(vma, slot, self.areas.index(vma, addr))
            else:
                pfn = self.readahead(vma, addr, at, slot)
            if pfn < 0:
                self.direct = False
                return FAULT_OOM
            self.major = True
        self.map_page(mm, vma, addr, at, pfn, write)
        self.direct = False
        return FAULT_DONE

    def alone_in_zram(self, slot):
        """Whether a page is read at once and has one owner: it skips readahead, and does not stay in the swap cache."""
        return (
            self.area[self.swap.slots.type[slot >> 9]].flags & SWP_SYNCHRONOUS_IO != 0 and self.swap.owners(slot) == 1
        )

    def map_page(self, mm, vma, addr, at, pfn, write):
        """Put a page of the swap cache in place of its swap entry. Linux: the second half of do_swap_page()."""
        entry: cython.ulong = self.frames.entry[at]
        slot: cython.long = self.frames.page[pfn].private
        flags: cython.ulong = self.vma[vma].flags
        new: cython.ulong = cython.cast(cython.ulong, pfn) << 12 | self.areas.prot(flags)
        exclusive: cython.bint = (entry & SWP_EXCLUSIVE) != 0
        if (
            self.frames.page[pfn].flags & PG_WRITEBACK
            and self.area[self.swap.slots.type[slot >> 9]].flags & SWP_STABLE_WRITES
        ):
            exclusive = False
        if write and not self.frames.page[pfn].flags & PG_LRU:
            self.lru.drain(self.buddy.cpu)
        self.swap.entry_free(slot)
        if (
            flags & VMF_LOCKED
            or self.frames.page[pfn].flags & PG_MLOCKED
            or (write and self.frames.page[pfn].mapcount == 0 and not self.frames.page[pfn].flags & PG_BATCHED)
            or self.swap.slots.folio_swap_full(pfn)
            or self.direct
        ):
            self.swap.free_swap(pfn)
        self.mm[mm].rss_anon += 1
        self.mm[mm].rss_swap -= 1
        if entry & SWP_SOFT_DIRTY:
            new |= PTE_SOFT_DIRTY
        if not self.frames.page[pfn].flags & (PG_SWAPCACHE | PG_BATCHED) and self.frames.page[pfn].mapcount == 0:
            exclusive = True
        if exclusive and flags & VMF_WRITE and (flags & VMF_SOFTDIRTY or new & PTE_SOFT_DIRTY):
            new |= PTE_RW
            if write:
                new |= PTE_DIRTY | PTE_SOFT_DIRTY
        self.rmap.add_anon_rmap(vma, addr, pfn, exclusive)
        self.frames.entry[at] = new
        if flags & VMF_LOCKED:
            self.folios.mlock_page(pfn)

    def unuse(self, mm, vma, addr, at):
        """Read what a swap entry means and map it again: FAULT_DONE, FAULT_OOM, FAULT_SLICE while it is being written.

        Linux: mm/swapfile.c, unuse_pte_range(), unuse_pte().
        """
        entry: cython.ulong = self.frames.entry[at]
        slot: cython.long = self.swap.slots.slot_of(entry)
        pfn: cython.long = self.swap_cache_get(slot, vma, addr)
        if pfn < 0:
            pfn = self.readahead(vma, addr, at, slot)
            if pfn < 0:
                return FAULT_OOM
        if self.frames.page[pfn].flags & PG_WRITEBACK:
            return FAULT_SLICE
        self.mm[mm].rss_anon += 1
        self.mm[mm].rss_swap -= 1
        self.rmap.add_anon_rmap(vma, addr, pfn, (entry & SWP_EXCLUSIVE) != 0)
        self.frames.entry[at] = (
            cython.cast(cython.ulong, pfn) << 12
            | (self.areas.prot(self.vma[vma].flags) & ~cython.cast(cython.ulong, PTE_ACCESSED))
            | (PTE_SOFT_DIRTY if entry & SWP_SOFT_DIRTY else 0)
        )
        self.swap.entry_free(slot)
        self.swap.free_swap(pfn)
        return FAULT_DONE

    # ------------------------------------------------------------------------------ shared memory

    def shmem_swapin(self, m, index):
        """Have a page of shared memory that is swapped out back in its file: the page; -1 while it is being written,
        _NO_MEMORY. Linux: mm/shmem.c, shmem_swapin_folio()."""
        at: cython.long = self.folios.mapping[m].base + index
        slot: cython.long = cython.cast(cython.long, self.folios.slot[at] & ~SLOT_SWAP)
        pfn: cython.long = -1
        if self.pending_slot != slot or self.pending_addr != index:
            pfn = self.swap_cache_get(slot, 0, 0)
        if pfn < 0:
            pfn = self.readahead(0, index, 0, slot)
            if pfn < 0:
                return _NO_MEMORY
            self.major = True
            self.memcg.count_events(self.memcg.current, PGMAJFAULT, 1)
        if self.frames.page[pfn].flags & PG_WRITEBACK:
            return -1
        self.swap.delete_from_swap_cache(pfn, 0)
        self.folios.cache_insert(m, index, pfn)
        self.frames.page[pfn].flags |= PG_DIRTY
        self.swap.entry_free(slot)
        self.swap.nr_shmem_swapped -= 1
        return pfn

    def shmem_swapin_range(self, m: cython.long, first: cython.long, last: cython.long, t: cython.int):
        """Have what [first, last) of a file has in swap area ``t`` (-1: in any) back; where it stopped.

        ``reason``: FAULT_DONE, FAULT_OOM, or FAULT_SLICE at a page that is being written.
        """
        i: cython.long = first
        pfn: cython.long
        value: cython.ulong
        self.reason = FAULT_DONE
        with cython.nogil:
            while self.swap.nr_shmem_swapped and i < last and i < self.folios.mapping[m].slots:
                value = self.folios.slot[self.folios.mapping[m].base + i]
                if value & SLOT_SWAP and (t < 0 or self.swap.slots.type[(value & ~SLOT_SWAP) >> 9] == t):
                    pfn = self.shmem_swapin(m, i)
                    if pfn < 0:
                        self.reason = FAULT_OOM if pfn == _NO_MEMORY else FAULT_SLICE
                        break
                i += 1
        return i if self.reason != FAULT_DONE else last
