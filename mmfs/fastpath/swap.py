# cython: language_level=3
"""Swapping out and letting go: the swap cache, the slots' owners, and pages on their way to the disk.

A page that reclaim picks gets a slot and enters the swap cache (add_to_swap()), its entries become swap entries
(fastpath/rmap.py), it is written (writepage() collects, mm/swapfile.py submits) and freed. A page that comes back
(fastpath/swap_state.py) keeps its slot until it is written to, or swap fills up.

In front of the areas each CPU has two caches of 64 slots: those it will use next, and those it has freed. Both count
as used until they are given back.

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
_HAS_CACHE = cython.declare(cython.uint, 1 << 30)
_SHADOW = cython.declare(cython.ulong, 1 << 63)


class Swap:
    """All of swap but reading. ``slots`` has the areas, ``allocator`` finds free slots."""

    def __init__(self, folios, vmstat):
        self.frames = folios.frames
        self.buddy = folios.buddy
        self.folios = folios
        self.lru = folios.lru
        self.slots = SwapMap(folios, vmstat)
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

    def alloc_slot(self, pfn):
        """A slot for a page, charged to its memory cgroup; or 0. Linux: mm/swap_slots.c, folio_alloc_swap()."""
        slot: cython.long = self.find_slot()
        memcg: cython.long = self.frames.page[pfn].memcg
        if self.memcg.memsw:
            return slot
        if slot == 0:
            if memcg:
                self.memcg.memory_event(memcg, MEMCG_SWAP_FAIL)
            return 0
        if not self.memcg.try_charge_swap(memcg):
            self.free_slot(slot)
            return 0
        self.slots.memcg_of[slot] = cython.cast(cython.ushort, memcg)
        return slot

    def find_slot(self):
        """A slot that nobody uses, from the CPU's cache if it keeps one; or 0."""
        cpu: cython.Py_ssize_t = self.buddy.cpu
        i: cython.Py_ssize_t
        slot: cython.long
        if self.check_cache_active():
            if self.nr[cpu] == 0:
                self.nr[cpu] = self.allocator.get_swap_pages(_SLOTS_CACHE_SIZE)
                self.cur[cpu] = 0
                for i in range(self.nr[cpu]):
                    self.slot_cache[cpu, i] = self.allocator.found[i]
            if self.nr[cpu]:
                slot = self.slot_cache[cpu, self.cur[cpu]]
                self.cur[cpu] += 1
                self.nr[cpu] -= 1
                return slot
        return self.allocator.found[0] if self.allocator.get_swap_pages(1) else 0

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

    def put_cache(self, slot):
        """The swap cache has the slot no more. Linux: put_swap_folio()."""
        self.count[slot] &= ~_HAS_CACHE
        if self.count[slot] == 0:
            self.free_slot(slot)

    def free_swap_and_cache(self, slot):
        """A swap entry goes; a page that nobody else could find goes with the last. Linux: free_swap_and_cache_nr()."""
        pfn: cython.long
        if self.entry_free(slot) != _HAS_CACHE:
            return
        pfn = self.slots.lookup(slot)
        if pfn < 0 or self.slots.isolated(pfn) or not self.slots.freeable(pfn):
            return
        if self.frames.page[pfn].mapcount == 0 or self.slots.swap_full():
            self.delete_from_swap_cache(pfn, 0)
            self.frames.page[pfn].flags |= PG_DIRTY
            if self.frames.page[pfn].mapcount == 0:
                self.folios.free_page(pfn)

    # ------------------------------------------------------------------------------ the swap cache

    def add_to_swap_cache(self, pfn, slot):
        """Join a page and a slot; the shadow that reclaim left in the slot, or 0. Linux: add_to_swap_cache()."""
        shadow: cython.ulong = self.cached[slot]
        self.count[slot] |= _HAS_CACHE
        self.cached[slot] = pfn + 1
        self.frames.page[pfn].private = cython.cast(cython.uint, slot)
        self.frames.page[pfn].flags |= PG_SWAPCACHE
        self.memcg.mod_folio_state(pfn, NR_FILE_PAGES, 1)
        self.memcg.mod_folio_state(pfn, NR_SWAPCACHE, 1)
        return shadow & _SHADOW and shadow

    def delete_from_swap_cache(self, pfn, shadow):
        """Part a page and its slot, which is free if no entry means it. Linux: delete_from_swap_cache()."""
        slot: cython.long = self.frames.page[pfn].private
        self.slots.remove_from_cache(pfn, shadow)
        self.put_cache(slot)

    def free_swap(self, pfn):
        """Take a page out of the swap cache if no swap entry means its slot. Linux: folio_free_swap()."""
        if not self.slots.freeable(pfn) or self.count[self.frames.page[pfn].private] != _HAS_CACHE:
            return False
        self.delete_from_swap_cache(pfn, 0)
        self.frames.page[pfn].flags |= PG_DIRTY
        return True

    def add_to_swap(self, pfn):
        """Give a page a slot. False: there is none. Linux: add_to_swap()."""
        slot: cython.long = self.alloc_slot(pfn)
        if slot == 0:
            return False
        self.add_to_swap_cache(pfn, slot)
        self.frames.page[pfn].flags |= PG_DIRTY
        return True

    def free_unused(self, t: cython.int):
        """Free the slots of an area that only copies in memory have. Linux: the last loop of try_to_unuse()."""
        slot: cython.long
        pfn: cython.long
        with cython.nogil:
            for slot in range(self.area[t].base + 1, self.area[t].base + self.area[t].max):
                pfn = self.slots.lookup(slot)
                if pfn >= 0 and self.free_swap(pfn) and self.frames.page[pfn].mapcount == 0:
                    self.folios.free_page(pfn)

    # ------------------------------------------------------------------------------ writing

    def start_writeback(self, pfn):
        """A page is on its way to the disk. Linux: __folio_start_writeback()."""
        zone: cython.long = self.frames.block[pfn >> PAGEBLOCK_ORDER].zone
        self.frames.page[pfn].flags |= PG_WRITEBACK
        self.memcg.mod_folio_state(pfn, NR_WRITEBACK, 1)
        self.zone_stat[zone, NR_ZONE_WRITE_PENDING] += 1

    def end_writeback(self, pfn):
        """A page has been written; one that reclaim waits for is next in line. Linux: folio_end_writeback()."""
        zone: cython.long = self.frames.block[pfn >> PAGEBLOCK_ORDER].zone
        self.frames.page[pfn].flags &= ~PG_WRITEBACK
        self.memcg.mod_folio_state(pfn, NR_WRITEBACK, -1)
        self.memcg.mod_folio_state(pfn, NR_WRITTEN, 1)
        self.zone_stat[zone, NR_ZONE_WRITE_PENDING] -= 1
        if self.frames.page[pfn].flags & PG_RECLAIM:
            self.frames.page[pfn].flags &= ~PG_RECLAIM
            self.lru.rotate(pfn)

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
                    self.free_swap_and_cache(cython.cast(cython.long, value & ~SLOT_SWAP))

    def shmem_swap_usage(self, m: cython.long, first: cython.long, last: cython.long):
        """Pages among [first, last) of a file that are swapped out. Linux: mm/shmem.c, shmem_partial_swap_usage()."""
        i: cython.long
        n: cython.long = 0
        if self.nr_shmem_swapped:
            for i in range(first, min(last, self.folios.mapping[m].slots)):
                if self.folios.slot[self.folios.mapping[m].base + i] & SLOT_SWAP:
                    n += 1
        return n

    def writepage(self, pfn):
        """Clean a page of the swap cache: it is compressed, or written with its batch, unless nobody needs that.

        SWAP_WRITE_CLEAN, _STARTED, or _BUSY: still dirty, for there was no room. Linux: swap_writepage().
        """
        slot: cython.long = self.frames.page[pfn].private
        if self.free_swap(pfn):
            return SWAP_WRITE_CLEAN
        if self.slots.zswap.store_zero(pfn, slot) or self.slots.zswap.store(pfn, slot):
            self.frames.page[pfn].flags &= ~PG_DIRTY
            return SWAP_WRITE_CLEAN
        if not self.memcg.may_write_back(self.frames.page[pfn].memcg):
            return SWAP_WRITE_BUSY
        return self.write_to_area(pfn, slot)

    def write_to_area(self, pfn, slot):
        """As writepage(), to where the area lies. Linux: __swap_writepage()."""
        t: cython.int = self.slots.type[slot >> 9]
        if self.area[t].flags & SWP_SYNCHRONOUS_IO:
            self.event[PSWPOUT] += 1
            if not self.slots.devices.zram_write(t, slot - self.area[t].base, pfn):
                return SWAP_WRITE_BUSY
            self.frames.page[pfn].flags &= ~PG_DIRTY
            return SWAP_WRITE_CLEAN
        if self.batched[t] == self.max_batch:
            return SWAP_WRITE_BUSY
        self.frames.page[pfn].flags &= ~PG_DIRTY
        self.event[PSWPOUT] += 1
        self.start_writeback(pfn)
        self.batch[t, self.batched[t]] = cython.cast(cython.uint, pfn)
        self.batched[t] += 1
        return SWAP_WRITE_STARTED

    def take_batch(self, t: cython.int):
        """The pages that wait to be written to an area, in how many runs of neighbouring slots they lie, and
        the first slot."""
        i: cython.Py_ssize_t
        n: cython.Py_ssize_t = self.batched[t]
        runs: cython.long = 0
        pfns = np.empty(n, np.int64)
        out: cython.long[::1] = view(pfns)
        for i in range(n):
            out[i] = self.batch[t, i]
            if i == 0 or self.frames.page[out[i]].private != self.frames.page[out[i - 1]].private + 1:
                runs += 1
        self.batched[t] = 0
        return pfns, runs, self.frames.page[out[0]].private

    def end_swap_bio_write(self, pfns: cython.long[::1]):
        """A batch has been written. Linux: mm/page_io.c, end_swap_bio_write()."""
        i: cython.Py_ssize_t
        for i in range(pfns.shape[0]):
            self.end_writeback(pfns[i])

    def kept_slots(self):
        """The slots that CPUs keep for themselves: for checks."""
        out = []
        for cpu in range(self.buddy.nr_cpus):
            out += [int(self.slot_cache[cpu, self.cur[cpu] + i]) for i in range(self.nr[cpu])]
            out += [int(self.slot_cache_ret[cpu, i]) for i in range(self.n_ret[cpu])]
        return out
