# cython: language_level=3
"""Swapping out and letting go: the swap cache, the slots' owners, and pages on their way to the disk.

A page that reclaim picks gets a slot and enters the swap cache (add_to_swap()), its entries become swap entries
(fastpath/rmap.py), it is written (writepage() collects, mm/swapfile.py submits) and freed. A page that comes back
(fastpath/swap_state.py) keeps its slot until it is written to, or swap fills up.

In front of the areas each CPU has two caches of 64 slots: those it will use next, and those it has freed. Both count
as used until they are given back.

A large folio gets as many neighbouring slots at once, straight from an area, and is written in one piece; only if there
are none is it split first (fastpath/folio_reclaim.py).

Linux: mm/swap_state.c; mm/swapfile.c; mm/swap_slots.c; mm/page_io.c.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import view
from mmfs.fastpath.swap_alloc import SwapAlloc
from mmfs.fastpath.swap_map import SwapMap

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_SLOTS_CACHE_SIZE = cython.declare(cython.int, 64)
_ACTIVATE = cython.declare(cython.long, 5 * 64)
_DEACTIVATE = cython.declare(cython.long, 2 * 64)
_MAX_BATCH = 1 << 14
_MAX_REQUEST = cython.declare(cython.long, 320)  # pages; Linux: BLK_DEF_MAX_SECTORS_CAP
_HAS_CACHE = cython.declare(cython.uint, 1 << 30)
_SHADOW = cython.declare(cython.ulong, 1 << 63)


class Swap:
    """All of swap but reading. ``slots`` has the areas, ``allocator`` finds free slots.

    ``thp_swap``: whether a folio of several pages may go to swap in one piece (CONFIG_THP_SWAP).
    """

    def __init__(self, folios, huge, vmstat):
        self.frames = folios.frames
        self.buddy = folios.buddy
        self.folios = folios
        self.lru = folios.lru
        self.slots = SwapMap(folios, huge, vmstat)
        self.mthp_stat = view(huge.stats)
        self.allocator = SwapAlloc(self.slots, folios.buddy)
        self.area = self.slots.area
        self.count = self.slots.count
        self.cached = self.slots.cached
        nr_cpus = folios.buddy.nr_cpus
        self.slot_cache = view(np.zeros((nr_cpus, _SLOTS_CACHE_SIZE), np.uint32))
        self.slot_cache_ret = view(np.zeros((nr_cpus, _SLOTS_CACHE_SIZE), np.uint32))
        self.cur = view(np.zeros(nr_cpus, np.int32))
        self.nr = view(np.zeros(nr_cpus, np.int32))
        self.n_ret = view(np.zeros(nr_cpus, np.int32))
        self.max_batch = _MAX_BATCH
        self.batch = view(np.zeros((MAX_SWAPFILES, _MAX_BATCH), np.uint32))
        self.batched_counts = np.zeros(MAX_SWAPFILES, np.int32)
        self.batched = view(self.batched_counts)
        self.memcg = folios.memcg
        self.zone_stat = view(vmstat.zone_stat)
        self.event = view(vmstat.event)
        self.thp_swap = True
        self.slot_cache_enabled = self.slot_cache_active = False
        self.nr_shmem_swapped = 0

    def entry_of(self, slot):
        """The page-table entry for a slot."""
        return self.slots.entry_of(slot)

    # ------------------------------------------------------------------------------ caches of slots

    def drain_slot_caches(self):
        """Give all CPUs' slots back. Linux: __drain_swap_slots_cache()."""
        cpu: cython.Py_ssize_t
        i: cython.Py_ssize_t
        for cpu in range(self.buddy.nr_cpus):
            for i in range(self.nr[cpu]):
                self.slots.range_free(self.slot_cache[cpu, self.cur[cpu] + i])
            self.cur[cpu] = self.nr[cpu] = 0
            for i in range(self.n_ret[cpu]):
                self.slots.range_free(self.slot_cache_ret[cpu, i])
            self.n_ret[cpu] = 0

    def drain_swap_slots_cache(self):
        """Give all CPUs' slots back: for swapoff."""
        self.drain_slot_caches()

    def check_cache_active(self):
        """Whether there are free slots enough for CPUs to keep some. Linux: check_cache_active()."""
        if not self.slot_cache_enabled:
            return False
        if not self.slot_cache_active:
            self.slot_cache_active = self.slots.workingset.nr_swap_pages > self.buddy.nr_cpus * _ACTIVATE
        elif self.slots.workingset.nr_swap_pages < self.buddy.nr_cpus * _DEACTIVATE:
            self.slot_cache_active = False
            self.drain_slot_caches()
        return self.slot_cache_active

    def alloc_slot(self, folio):
        """A slot for a page, the first one of a huge page's, charged to its memory cgroup; or 0.

        Linux: mm/swap_slots.c, folio_alloc_swap().
        """
        slot: cython.long = self.find_slots(folio) if folio >= self.frames.huge else self.find_slot()
        memcg: cython.long = self.frames.page[folio].memcg
        nr: cython.long = self.frames.nr_pages(folio)
        i: cython.long
        if self.memcg.memsw:
            return slot
        if slot == 0:
            if memcg:
                self.memcg.memory_event(memcg, MEMCG_SWAP_FAIL)
            return 0
        if not self.memcg.try_charge_swap(memcg, nr):
            self.put_slots(slot, nr)
            return 0
        for i in range(slot, slot + nr):
            self.slots.memcg_of[i] = cython.cast(cython.ushort, memcg)
        return slot

    def find_slots(self, folio):
        """The first of as many slots that nobody uses as a folio has pages; or 0."""
        if not self.thp_swap:
            return 0
        return self.allocator.found[0] if self.allocator.get_swap_pages(1, self.frames.folio_order(folio)) else 0

    def find_slot(self):
        """A slot that nobody uses, from the CPU's cache if it keeps one; or 0."""
        cpu: cython.Py_ssize_t = self.buddy.cpu
        i: cython.Py_ssize_t
        slot: cython.long
        if self.check_cache_active():
            if self.nr[cpu] == 0:
                self.nr[cpu] = self.allocator.get_swap_pages(_SLOTS_CACHE_SIZE, 0)
                self.cur[cpu] = 0
                for i in range(self.nr[cpu]):
                    self.slot_cache[cpu, i] = self.allocator.found[i]
            if self.nr[cpu]:
                slot = self.slot_cache[cpu, self.cur[cpu]]
                self.cur[cpu] += 1
                self.nr[cpu] -= 1
                return slot
        return self.allocator.found[0] if self.allocator.get_swap_pages(1, 0) else 0

    def free_slot(self, slot):
        """Nobody uses a slot any more; the CPU keeps it for a while. Linux: free_swap_slot()."""
        cpu: cython.Py_ssize_t = self.buddy.cpu
        i: cython.Py_ssize_t
        self.count[slot] = _HAS_CACHE
        self.slots.zswap.invalidate(slot)
        if not (self.slot_cache_active and self.slot_cache_enabled):
            self.slots.range_free(slot)
            return
        if self.n_ret[cpu] == _SLOTS_CACHE_SIZE:
            for i in range(_SLOTS_CACHE_SIZE):
                self.slots.range_free(self.slot_cache_ret[cpu, i])
            self.n_ret[cpu] = 0
        self.slot_cache_ret[cpu, self.n_ret[cpu]] = cython.cast(cython.uint, slot)
        self.n_ret[cpu] += 1

    # ------------------------------------------------------------------------------ owners of a slot

    def duplicate(self, slot):
        """One more swap entry means the slot. Linux: swap_duplicate()."""
        self.count[slot] += 1

    def owners(self, slot):
        """How many swap entries mean the slot. Linux: swp_swapcount()."""
        return self.count[slot] & ~_HAS_CACHE

    def entry_free(self, slot):
        """One swap entry less means the slot; who still has it: the count. Linux: __swap_entry_free()."""
        self.count[slot] -= 1
        if self.count[slot] == 0:
            self.free_slot(slot)
            return 0
        return self.count[slot]

    def put_slots(self, slot, nr):
        """The swap cache has ``nr`` slots no more: a huge page's are free at once if nobody else has one of them.

        Linux: put_swap_folio().
        """
        i: cython.long
        used: cython.bint = nr == 1
        for i in range(slot, slot + nr):
            self.count[i] &= ~_HAS_CACHE
            used |= self.count[i] != 0
        for i in range(slot, slot + nr):
            if self.count[i] == 0:
                if used:
                    self.free_slot(i)
                else:
                    self.slots.range_free(i)

    def free_swap_and_cache(self, slot):
        """A swap entry goes; a page that nobody else could find goes with the last. Linux: free_swap_and_cache_nr()."""
        folio: cython.long
        if self.entry_free(slot) != _HAS_CACHE:
            return
        folio = self.slots.lookup(slot)
        if folio < 0 or self.slots.isolated(folio) or not self.slots.freeable(folio):
            return
        if self.frames.page[folio].mapcount == 0 or self.slots.swap_full():
            if self.free_swap(folio) and self.frames.page[folio].mapcount == 0:
                self.slots.free_folio(folio)

    # ------------------------------------------------------------------------------ the swap cache

    def add_to_swap_cache(self, folio, slot):
        """Join a page and a slot, a huge page and those from a slot on; the shadow that reclaim left there, or 0.

        Linux: add_to_swap_cache().
        """
        shadow: cython.ulong = self.cached[slot]
        nr: cython.long = self.frames.nr_pages(folio)
        i: cython.long
        for i in range(slot, slot + nr):
            self.count[i] |= _HAS_CACHE
            self.cached[i] = folio + 1
        self.frames.page[folio].private = cython.cast(cython.uint, slot)
        self.frames.page[folio].flags |= PG_SWAPCACHE
        self.memcg.mod_folio_state(folio, NR_FILE_PAGES, nr)
        self.memcg.mod_folio_state(folio, NR_SWAPCACHE, nr)
        return shadow & _SHADOW and shadow

    def delete_from_swap_cache(self, folio, shadow):
        """Part a page and its slots, which are free if no entry means them. Linux: delete_from_swap_cache()."""
        slot: cython.long = self.frames.page[folio].private
        self.slots.remove_from_cache(folio, shadow)
        self.put_slots(slot, self.frames.nr_pages(folio))

    def free_swap(self, folio):
        """Take a page out of the swap cache if no swap entry means its slots. Linux: folio_free_swap()."""
        if not self.slots.freeable(folio) or not self.slots.has_only_cache(folio):
            return False
        self.delete_from_swap_cache(folio, 0)
        self.frames.page[folio].flags |= PG_DIRTY
        return True

    def free_swap_cache(self, folio):
        """Nobody maps a page of the swap cache any more: free it unless an entry means it. Linux: free_swap_cache()."""
        if self.free_swap(folio):
            self.slots.free_folio(folio)

    def add_to_swap(self, folio):
        """Give a page its slots. False: there are none. Linux: add_to_swap()."""
        slot: cython.long = self.alloc_slot(folio)
        if slot == 0:
            return False
        self.add_to_swap_cache(folio, slot)
        self.frames.page[folio].flags |= PG_DIRTY
        return True

    def become_page(self, folio, pfn):
        """A frame of a huge page of the swap cache is a page of its own there. Linux: __split_huge_page()."""
        slot: cython.long = self.frames.page[folio].private + pfn - self.frames.folio_pfn(folio)
        self.cached[slot] = pfn + 1
        self.frames.page[pfn].private = cython.cast(cython.uint, slot)
        self.frames.page[pfn].flags |= PG_SWAPCACHE

    def free_unused(self, t: cython.int):
        """Free the slots of an area that only copies in memory have. Linux: the last loop of try_to_unuse()."""
        slot: cython.long
        folio: cython.long
        with cython.nogil:
            for slot in range(self.area[t].base + 1, self.area[t].base + self.area[t].max):
                folio = self.slots.lookup(slot)
                if folio >= 0 and self.free_swap(folio) and self.frames.page[folio].mapcount == 0:
                    self.slots.free_folio(folio)

    # ------------------------------------------------------------------------------ writing

    def start_writeback(self, folio):
        """A page is on its way to the disk. Linux: __folio_start_writeback()."""
        nr: cython.long = self.frames.nr_pages(folio)
        self.frames.page[folio].flags |= PG_WRITEBACK
        self.memcg.mod_folio_state(folio, NR_WRITEBACK, nr)
        self.zone_stat[self.frames.zone_of(folio), NR_ZONE_WRITE_PENDING] += nr

    def end_writeback(self, folio):
        """A page has been written; one that reclaim waits for is next in line. Linux: folio_end_writeback()."""
        nr: cython.long = self.frames.nr_pages(folio)
        self.frames.page[folio].flags &= ~PG_WRITEBACK
        self.memcg.mod_folio_state(folio, NR_WRITEBACK, -nr)
        self.memcg.mod_folio_state(folio, NR_WRITTEN, nr)
        self.zone_stat[self.frames.zone_of(folio), NR_ZONE_WRITE_PENDING] -= nr
        if self.frames.page[folio].flags & PG_RECLAIM:
            self.frames.page[folio].flags &= ~PG_RECLAIM
            self.lru.rotate(folio)

    def shmem_writepage(self, pfn):
        """Move a page of shared memory that nobody maps to the swap cache, and have it written; as writepage().

        SWAP_WRITE_BUSY: it stays, for there is no slot. Linux: mm/shmem.c, shmem_writepage().
        """
        slot: cython.long = self.alloc_slot(pfn)
        if slot == 0:
            return SWAP_WRITE_BUSY
        self.folios.cache_remove(pfn, SLOT_SWAP | slot)
        self.nr_shmem_swapped += 1
        self.duplicate(slot)
        self.add_to_swap_cache(pfn, slot)
        return self.writepage(pfn)

    def shmem_free_range(self, m: cython.long, first: cython.long, last: cython.long):
        """Let go of what [first, last) of a file of shared memory has in swap. Linux: shmem_free_swap()."""
        i: cython.long
        value: cython.ulong
        if self.nr_shmem_swapped == 0:
            return
        with cython.nogil:
            for i in range(first, min(last, self.folios.mapping[m].slots)):
                value = self.folios.slot[self.folios.mapping[m].base + i]
                if value & SLOT_SWAP:
                    self.folios.set_slot(m, i, 0)
                    self.nr_shmem_swapped -= 1
                    self.free_swap_and_cache(cython.cast(cython.long, value & SLOT_SWP_MASK))

    def shmem_swap_usage(self, m: cython.long, first: cython.long, last: cython.long):
        """Pages among [first, last) of a file that are swapped out. Linux: mm/shmem.c, shmem_partial_swap_usage()."""
        i: cython.long
        n: cython.long = 0
        if self.nr_shmem_swapped:
            for i in range(first, min(last, self.folios.mapping[m].slots)):
                if self.folios.slot[self.folios.mapping[m].base + i] & SLOT_SWAP:
                    n += 1
        return n

    def writepage(self, folio):
        """Clean a page of the swap cache: it is compressed, or written with its batch, unless nobody needs that.

        SWAP_WRITE_CLEAN, _STARTED, or _BUSY: still dirty, for there was no room. Linux: swap_writepage().
        """
        slot: cython.long = self.frames.page[folio].private
        if self.free_swap(folio):
            return SWAP_WRITE_CLEAN
        if self.slots.zswap.store_zero(folio, slot) or self.slots.zswap.store(folio, slot):
            self.frames.page[folio].flags &= ~PG_DIRTY
            return SWAP_WRITE_CLEAN
        if not self.memcg.may_write_back(self.frames.page[folio].memcg):
            return SWAP_WRITE_BUSY
        return self.write_to_area(folio, slot)

    def count_swpout(self, folio):
        """A page is written to its area. Linux: count_swpout_vm_event()."""
        self.memcg.count_events(self.frames.page[folio].memcg, PSWPOUT, self.frames.nr_pages(folio))
        if self.frames.huge <= folio < self.frames.mthp:
            self.memcg.count_events(self.frames.page[folio].memcg, THP_SWPOUT, 1)
        if folio >= self.frames.huge:
            self.mthp_stat[self.frames.folio_order(folio), MTHP_STAT_SWPOUT] += 1

    def write_to_zram(self, t, folio, slot):
        """As writepage(), to an area that lies in memory. Linux: swap_writepage_bdev_sync()."""
        first: cython.long = self.frames.folio_pfn(folio)
        i: cython.long
        for i in range(self.frames.nr_pages(folio)):
            if not self.slots.devices.zram_write(t, slot + i - self.area[t].base, first + i):
                return SWAP_WRITE_BUSY
        self.frames.page[folio].flags &= ~PG_DIRTY
        return SWAP_WRITE_CLEAN

    def write_to_area(self, folio, slot):
        """As writepage(), to where the area lies. Linux: __swap_writepage()."""
        t: cython.int = self.slots.type[slot >> SWAPFILE_CLUSTER_SHIFT]
        if self.area[t].flags & SWP_SYNCHRONOUS_IO:
            self.count_swpout(folio)
            return self.write_to_zram(t, folio, slot)
        if self.batched[t] == self.max_batch:
            return SWAP_WRITE_BUSY
        self.frames.page[folio].flags &= ~PG_DIRTY
        self.count_swpout(folio)
        self.start_writeback(folio)
        self.batch[t, self.batched[t]] = cython.cast(cython.uint, folio)
        self.batched[t] += 1
        return SWAP_WRITE_STARTED

    def take_batch(self, t: cython.int):
        """The folios that wait to be written to an area, how many pages they have, how many requests they make (a run
        of neighbouring slots is one; a huge page is too large for one), how many runs, and the first slot."""
        i: cython.Py_ssize_t
        n: cython.Py_ssize_t = self.batched[t]
        runs: cython.long = 0
        requests: cython.long = 0
        pages: cython.long = 0
        slot: cython.long = 0  # where the run ends so far
        folios = np.empty(n, np.int64)
        out: cython.long[::1] = view(folios)
        for i in range(n):
            out[i] = self.batch[t, i]
            if i == 0 or self.frames.page[out[i]].private != slot:
                runs += 1
            slot = self.frames.page[out[i]].private + self.frames.nr_pages(out[i])
            pages += self.frames.nr_pages(out[i])
            requests += self.frames.nr_pages(out[i]) // _MAX_REQUEST
        self.batched[t] = 0
        return folios, pages, requests + runs, runs, self.frames.page[out[0]].private

    def end_swap_bio_write(self, folios: cython.long[::1]):
        """A batch has been written. Linux: mm/page_io.c, end_swap_bio_write()."""
        i: cython.Py_ssize_t
        for i in range(folios.shape[0]):
            self.end_writeback(folios[i])

    def kept_slots(self):
        """The slots that CPUs keep for themselves: for checks."""
        out = []
        for cpu in range(self.buddy.nr_cpus):
            out += [int(self.slot_cache[cpu, self.cur[cpu] + i]) for i in range(self.nr[cpu])]
            out += [int(self.slot_cache_ret[cpu, i]) for i in range(self.n_ret[cpu])]
        return out
