# cython: language_level=3
"""The slots of all swap areas: who uses each, which page of memory still has its content, which are free.

Slots of all areas stand in one arena: an area's begin at its ``base``, and slot 0 is a header, so 0 is none. A slot's
count is the number of page-table entries (and shmem files) that hold its swap entry, with _HAS_CACHE set while a page
of the swap cache, or a cache of free slots, has it too. ``cached`` is that page (its folio + 1), or the shadow of the
one that reclaim took away (bit 63 set). A huge page has 512 neighbouring slots, the first of them in ``private``.

An area on a disk without seek times is divided into clusters of 512 slots on lists: free ones, ones with room, ones
where allocation has been tried, full ones. A cluster gives slots in groups of one size while others have room: the
order for which it was taken when it was free.

Linux: mm/swapfile.c, swap_entry_range_free(), dec_cluster_info_page(), __try_to_reclaim_swap(); mm/swap_state.c.

Simplified: a slot's count needs no continuation pages; all nodes see one list of areas.
"""

import cython
import numpy as np

from mmfs.fastpath.contents import Contents
from mmfs.fastpath.frames import lazy_array, view
from mmfs.fastpath.zswap import Zswap
from mmfs.mm_types import SWAP_AREA_DTYPE

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_SLOTS = 1 << 31
_CLUSTERS = cython.declare(cython.long, (1 << 31) >> SWAPFILE_CLUSTER_SHIFT)
_CLUSTER_DTYPE = np.dtype([("nxt", "u4"), ("prv", "u4"), ("count", "i4"), ("flags", "i2"), ("order", "i2")])
_HAS_CACHE = cython.declare(cython.uint, 1 << 30)
_SHADOW = cython.declare(cython.ulong, 1 << 63)
_MAX_DISCARDS = cython.declare(cython.long, 1 << 16)
_ORDERS = cython.declare(cython.int, HPAGE_PMD_ORDER + 1)
_LISTS = cython.declare(cython.int, 4 * (HPAGE_PMD_ORDER + 1))
_FREE = cython.declare(cython.int, 1)
_NONFULL = cython.declare(cython.int, 2)
_FRAG = cython.declare(cython.int, 3)
_FULL = cython.declare(cython.int, 4)


class SwapMap:
    """``areas`` SWAP_AREA_DTYPE; ``counts``, ``caches`` and ``memcgs`` per slot; ``types`` the area of each 512 slots.

    ``devices`` are those of all areas, ``zswap`` keeps pages in front of them.
    ``discards`` [:nr_discards] are clusters that wait to be discarded.
    """

    def __init__(self, folios, huge, vmstat):
        self.frames = folios.frames
        self.buddy = folios.buddy
        self.folios = folios
        self.huge = huge
        self.memcgs = lazy_array(_MAX_SLOTS, np.uint16)
        self.zswap = Zswap(folios, Contents(folios.frames), self.memcgs, vmstat)
        self.devices = None
        self.areas = np.zeros(MAX_SWAPFILES, SWAP_AREA_DTYPE)
        self.counts = lazy_array(_MAX_SLOTS, np.uint32)
        self.caches = lazy_array(_MAX_SLOTS, np.uint64)
        self.types = lazy_array(_CLUSTERS, np.uint8)
        self.avails = np.zeros(MAX_SWAPFILES, np.int32)
        self.area = view(self.areas)
        self.count = view(self.counts)
        self.cached = view(self.caches)
        self.memcg_of = view(self.memcgs)
        self.type = view(self.types)
        self.avail = view(self.avails)
        self.cluster = view(lazy_array(_CLUSTERS + MAX_SWAPFILES * _LISTS, _CLUSTER_DTYPE))
        self.frag_nr = view(np.zeros(MAX_SWAPFILES * _ORDERS, np.int32))
        self.memcg = folios.memcg
        self.discards = np.zeros(_MAX_DISCARDS, np.int64)
        self.discard = view(self.discards)
        self.nr_discards = 0
        self.nr_avail = 0
        self.workingset = folios.workingset
        self.total_swap_pages = 0

    def swap_full(self):
        """Whether over half of swap is in use: copies in memory then give up their slots. Linux: vm_swap_full()."""
        return self.workingset.nr_swap_pages * 2 < self.total_swap_pages

    def folio_swap_full(self, pfn):
        """The same for the page's memory cgroup. Linux: mem_cgroup_swap_full()."""
        return self.swap_full() or self.memcg.swap_full(self.frames.page[pfn].memcg)

    def entry_of(self, slot):
        """The page-table entry for a slot. Linux: arch/x86/include/asm/pgtable_64.h, __swp_entry()."""
        t: cython.ulong = self.type[slot >> SWAPFILE_CLUSTER_SHIFT]
        offset: cython.ulong = slot - self.area[t].base
        return (~offset & SWP_OFFSET_MASK) << SWP_OFFSET_FIRST_BIT | t << SWP_TYPE_SHIFT

    def slot_of(self, entry):
        """The slot that a swap entry means."""
        t: cython.long = entry >> SWP_TYPE_SHIFT
        return self.area[t].base + cython.cast(cython.long, ~(entry >> SWP_OFFSET_FIRST_BIT) & SWP_OFFSET_MASK)

    def prefetch(self, entry):
        """Have the host fetch what is known of the slot that a swap entry means, which will be asked for soon."""
        slot: cython.long
        if cython.compiled:
            slot = self.slot_of(entry)
            prefetch(cython.address(self.cached[slot]))
            prefetch(cython.address(self.count[slot]))

    def lookup(self, slot):
        """The page of the swap cache that has a slot's content, as a folio; or -1."""
        if self.cached[slot] == 0 or self.cached[slot] & _SHADOW:
            return -1
        return cython.cast(cython.long, self.cached[slot]) - 1

    # ------------------------------------------------------------------------------ clusters

    def list_head(self, t, which, order):
        """The head of one of an area's lists of clusters; those with room are listed by order."""
        return _CLUSTERS + t * _LISTS + (which - 1) * _ORDERS + (order if which == _NONFULL or which == _FRAG else 0)

    def list_del(self, cluster):
        """Take a cluster off its list."""
        self.cluster[self.cluster[cluster].prv].nxt = self.cluster[cluster].nxt
        self.cluster[self.cluster[cluster].nxt].prv = self.cluster[cluster].prv

    def list_add_tail(self, head, cluster):
        """Put a cluster at the end of a list."""
        last: cython.long = self.cluster[head].prv
        self.cluster[last].nxt = self.cluster[head].prv = cython.cast(cython.uint, cluster)
        self.cluster[cluster].prv = cython.cast(cython.uint, last)
        self.cluster[cluster].nxt = cython.cast(cython.uint, head)

    def set_list(self, t, cluster, flags):
        """Move a cluster to the end of another list."""
        order: cython.int = self.cluster[cluster].order
        if self.cluster[cluster].flags == _FRAG:
            self.frag_nr[t * _ORDERS + order] -= 1
        if flags == _FRAG:
            self.frag_nr[t * _ORDERS + order] += 1
        elif flags == _FREE:
            self.cluster[cluster].order = 0
        if self.cluster[cluster].flags:
            self.list_del(cluster)
        self.cluster[cluster].flags = flags
        self.list_add_tail(self.list_head(t, flags, order), cluster)

    def setup_clusters(self, t: cython.int):
        """Put the clusters of a new area on its lists. Linux: setup_clusters().

        Neighbours in the list are 32 clusters apart, so that CPUs do not meet in one part of the swap cache.
        """
        i: cython.long
        k: cython.long
        first: cython.long = self.area[t].base >> SWAPFILE_CLUSTER_SHIFT
        nr: cython.long = (self.area[t].max + SWAPFILE_CLUSTER - 1) // SWAPFILE_CLUSTER
        for i in range(_CLUSTERS + t * _LISTS, _CLUSTERS + (t + 1) * _LISTS):
            self.cluster[i].nxt = self.cluster[i].prv = cython.cast(cython.uint, i)
        for k in range(_ORDERS):
            self.frag_nr[t * _ORDERS + k] = 0
        for i in range(first, first + nr):
            self.cluster[i].count = self.cluster[i].flags = self.cluster[i].order = 0
        self.cluster[first].count = 1
        self.cluster[first + nr - 1].count += nr * SWAPFILE_CLUSTER - self.area[t].max
        for k in range(32):
            for i in range(k, nr, 32):
                self.set_list(t, first + i, _NONFULL if self.cluster[first + i].count else _FREE)

    # ------------------------------------------------------------------------------ which areas have room

    def add_to_avail_list(self, t):
        """The area has room; it stands after those of its priority. Linux: add_to_avail_list()."""
        i: cython.int = self.nr_avail
        while i > 0 and self.area[self.avail[i - 1]].prio < self.area[t].prio:
            self.avail[i] = self.avail[i - 1]
            i -= 1
        self.avail[i] = t
        self.nr_avail += 1

    def add_area(self, t: cython.int):
        """A new area may be used."""
        self.add_to_avail_list(t)

    def del_area(self, t: cython.int):
        """An area goes."""
        self.del_from_avail_list(t)

    def del_from_avail_list(self, t):
        """The area is full, or goes. Linux: del_from_avail_list()."""
        i: cython.int
        at: cython.int = 0
        for i in range(self.nr_avail):
            if self.avail[i] != t:
                self.avail[at] = self.avail[i]
                at += 1
        self.nr_avail = at

    def range_alloc(self, t, offset, nr):
        """Neighbouring slots are taken. Linux: swap_range_alloc()."""
        if offset == self.area[t].lowest_bit:
            self.area[t].lowest_bit += nr
        if offset + nr - 1 == self.area[t].highest_bit:
            self.area[t].highest_bit -= nr
        self.area[t].inuse += nr
        if self.area[t].inuse == self.area[t].pages:
            self.area[t].lowest_bit = self.area[t].max
            self.area[t].highest_bit = 0
            self.del_from_avail_list(t)

    def range_free(self, slot):
        """A slot that only a cache has left is free again. Linux: swap_entry_range_free(), swap_range_free()."""
        t: cython.int = self.type[slot >> SWAPFILE_CLUSTER_SHIFT]
        offset: cython.long = slot - self.area[t].base
        cluster: cython.long = slot >> SWAPFILE_CLUSTER_SHIFT
        self.count[slot] = 0
        self.cached[slot] = 0
        self.zswap.invalidate(slot)
        self.uncharge(slot)
        if self.area[t].flags & SWP_SYNCHRONOUS_IO:
            self.devices.zram_free(t, offset)
        if self.area[t].flags & SWP_SOLIDSTATE:
            self.cluster[cluster].count -= 1
            if self.cluster[cluster].count == 0:
                self.set_list(t, cluster, _FREE)
                if self.area[t].flags & SWP_PAGE_DISCARD and self.nr_discards < _MAX_DISCARDS:
                    self.discard[self.nr_discards] = cluster
                    self.nr_discards += 1
            elif self.cluster[cluster].flags != _NONFULL:
                self.set_list(t, cluster, _NONFULL)
        if offset < self.area[t].lowest_bit:
            self.area[t].lowest_bit = offset
        if offset > self.area[t].highest_bit:
            if self.area[t].highest_bit == 0 and self.area[t].flags & SWP_WRITEOK:
                self.add_to_avail_list(t)
            self.area[t].highest_bit = offset
        self.workingset.nr_swap_pages += 1
        self.area[t].inuse -= 1

    def uncharge(self, slot):
        """A slot is no memory cgroup's any more. Linux: __mem_cgroup_uncharge_swap()."""
        if self.memcg_of[slot]:
            self.memcg.uncharge_swap(self.memcg_of[slot])
            self.memcg_of[slot] = 0

    # ------------------------------------------------------------------------------ the swap cache

    def remove_from_cache(self, folio, shadow):
        """Part a page and its slots, which keep their counts. Linux: __delete_from_swap_cache()."""
        slot: cython.long = self.frames.page[folio].private
        nr: cython.long = self.frames.nr_pages(folio)
        i: cython.long
        for i in range(slot, slot + nr):
            self.cached[i] = shadow
        self.frames.page[folio].private = 0
        self.frames.page[folio].flags &= ~PG_SWAPCACHE
        self.memcg.mod_folio_state(folio, NR_FILE_PAGES, -nr)
        self.memcg.mod_folio_state(folio, NR_SWAPCACHE, -nr)

    def has_only_cache(self, folio):
        """Whether only the swap cache has the slots of a page. Linux: swap_is_has_cache(), folio_swapped()."""
        slot: cython.long = self.frames.page[folio].private
        i: cython.long
        for i in range(slot, slot + self.frames.nr_pages(folio)):
            if self.count[i] != _HAS_CACHE:
                return False
        return True

    def frame_of(self, folio, slot):
        """The frame of a page of the swap cache that has a slot's content. Linux: folio_file_page()."""
        return self.frames.folio_pfn(folio) + slot - self.frames.page[folio].private

    def free_folio(self, folio):
        """Free a page that nobody maps. Linux: __folio_put()."""
        if folio >= self.frames.huge:
            self.huge.free(folio)
        else:
            self.folios.free_page(folio)

    def freeable(self, pfn):
        """Whether a page may leave the swap cache. Linux: folio_swapcache_freeable()."""
        return (
            self.frames.page[pfn].flags & PG_SWAPCACHE != 0 and not self.frames.page[pfn].flags & PG_WRITEBACK
        )

    def isolated(self, pfn):
        """Whether reclaim is at work on a page."""
        return not self.frames.page[pfn].flags & (PG_LRU | PG_BATCHED | PG_HWPOISON)

    def reclaim_direct(self, slot):
        """Take away the page that alone has a slot, and free its slots: 1; -1 if it cannot be, 0 if there is no page.

        Linux: __try_to_reclaim_swap() with TTRS_ANYWAY | TTRS_DIRECT.
        """
        folio: cython.long = self.lookup(slot)
        i: cython.long
        if folio < 0:
            return 0
        if self.isolated(folio) or not self.freeable(folio) or not self.has_only_cache(folio):
            return -1
        slot = self.frames.page[folio].private
        self.remove_from_cache(folio, 0)
        self.frames.page[folio].flags |= PG_DIRTY
        for i in range(slot, slot + self.frames.nr_pages(folio)):
            self.range_free(i)
        if self.frames.page[folio].mapcount == 0:
            self.free_folio(folio)
        return 1

    # ------------------------------------------------------------------------------ for checks

    def slot(self, entry: cython.ulong):
        """The slot that a swap entry means."""
        return self.slot_of(entry)

    def clusters_of(self, t: cython.int):
        """(number, slots in use, list, order) of an area's clusters as they stand in their records; then the list, and
        the order, of the list on which it is."""
        out = []
        i: cython.long
        at: cython.long
        head: cython.long
        for i in range(_LISTS):
            head = _CLUSTERS + t * _LISTS + i
            at = self.cluster[head].nxt
            while at != head:
                out.append((
                    at - (self.area[t].base >> SWAPFILE_CLUSTER_SHIFT), self.cluster[at].count, self.cluster[at].flags,
                    self.cluster[at].order, i // _ORDERS + 1, i % _ORDERS,
                ))  # fmt: skip
                at = self.cluster[at].nxt
        return out
