# cython: language_level=3
"""The swap cache as who swaps in sees it: which page is there, how one is read, and what is read along with it.

A page is read with its neighbours: those in the address space around the fault (where all areas are on disks without
seek times), or those in the area around its slot. A window grows while what it brought in is used, and shrinks slowly.

Linux: mm/swap_state.c; mm/page_io.c, swap_read_folio().

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
_NO_MEMORY = cython.declare(cython.long, -2)


class SwapState:
    """Reading swap for all address spaces. ``ras`` what each VMA's last swap-ins were like.

    Of what was asked for since ``begin()``, at ``now_ns``: ``nr_read`` pages, and when they are there, ``done_ns``;
    ``thrashing``: the page was in use when it was reclaimed.
    """

    def __init__(self, areas, folios, swap):
        self.frames = areas.frames
        self.buddy = areas.buddy
        self.folios = folios
        self.lru = folios.lru
        self.memcg = folios.memcg
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
        self.allocated = self.thrashing = False
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
        """The folio of the swap cache for a fault, or -1; counts readahead's hits. Linux: swap_cache_get_folio()."""
        pfn: cython.long = self.swap.slots.lookup(slot)
        hit: cython.bint
        if pfn < 0 or pfn >= self.frames.huge:
            return pfn
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
        """The folio of a slot, read if need be (``allocated``); -1 if nobody uses the slot, _NO_MEMORY.

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
        if self.memcg.memsw:
            self.swap.slots.uncharge(slot)
        if shadow:
            self.folios.workingset.refault(pfn, shadow, self.has_recency(vma))
        self.lru.add(pfn, self.has_recency(vma))
        return pfn

    def read_folio(self, pfn, slot):
        """Read a slot, from a disk in one request with the slots before it. Linux: mm/page_io.c, swap_read_folio()."""
        t: cython.int = self.swap.slots.type[slot >> SWAPFILE_CLUSTER_SHIFT]
        if self.zswap.load_zero(slot):
            return
        if self.zswap.load(slot):
            if self.zswap.exclusive:
                self.frames.page[pfn].flags |= PG_DIRTY
            return
        self.memcg.count_events(self.frames.page[self.frames.folio_of(pfn)].memcg, PSWPIN, 1)
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
        t: cython.int = self.swap.slots.type[self.run_start >> SWAPFILE_CLUSTER_SHIFT]
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
        pmd: cython.long = addr & ~(HPAGE_PMD_SIZE - 1)
        win: cython.int
        left: cython.long
        self.window = self.window_end = 0
        if order == 0:
            return
        if prev == 0 and self.ra[vma].win == 0 and hits == 0:
            hits = 4
        win = self.nr_pages(prev >> PAGE_SHIFT, addr >> PAGE_SHIFT, hits, 1 << order, self.ra[vma].win)
        self.ra[vma].addr = addr
        self.ra[vma].win = win
        self.ra[vma].hits = 0
        if win == 1:
            return
        if addr == prev + PAGE_SIZE:
            left = addr
        elif prev == addr + PAGE_SIZE:
            left = addr - (cython.cast(cython.long, win) << PAGE_SHIFT) + PAGE_SIZE
        else:
            left = addr - (cython.cast(cython.long, (win - 1) // 2) << PAGE_SHIFT)
        self.window = max(left, self.vma[vma].start, pmd)
        left += cython.cast(cython.long, win) << PAGE_SHIFT
        self.window_end = min(left, self.vma[vma].end, pmd + HPAGE_PMD_SIZE)

    def cluster_window(self, slot):
        """Which slots to read ahead: [window, window_end), empty for the page alone. Linux: swapin_nr_pages()."""
        t: cython.int = self.swap.slots.type[slot >> SWAPFILE_CLUSTER_SHIFT]
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
            entry = self.frames.entry[at + ((self.window - here) >> PAGE_SHIFT)]
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
                if value & SLOT_SWAP and self.read_swap_cache(0, value & SLOT_SWP_MASK, i) == _NO_MEMORY:
                    break
            self.finish()
