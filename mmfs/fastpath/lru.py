# cython: language_level=3
"""The lists of pages by recency: five a lruvec, batches a CPU in front of them.

A lruvec is a memory cgroup's share of the pages of a node (fastpath/memcontrol.py has their numbers). A new page
waits in its CPU's batch (``folio_batch``, 31 pages) and is on no list until the batch is full or drained, which is why
Active and Inactive lag AnonPages by some pages. Moves (activate, deactivate, rotate to the tail) wait in batches of
their own; until then the page stays where it is. PG_BATCHED says that a page waits in one of them.

A folio of several pages is one entry of a list and counts as all of them (fastpath/frames.py); it waits in no batch.

``enabled`` says whether the multi-generational lists rule (lru_gen_enabled()): then evictable pages are in the
generations of ``gen`` (fastpath/lru_gen.py) and the lists here hold only the unevictable ones.

Linux: mm/swap.c; include/linux/mm_inline.h, lruvec_add_folio().

Simplified: a page waits in one batch at a time; asking for a second move drains them.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view
from mmfs.fastpath.lru_gen import LruGen
from mmfs.fastpath.memcontrol import Memcontrol
from mmfs.mm_types import LRUVEC_DTYPE

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_BATCH = cython.declare(cython.int, 31)
_ADD = cython.declare(cython.int, 0)
_MOVE_TAIL = cython.declare(cython.int, 1)
_AHEAD = cython.declare(cython.Py_ssize_t, 4)  # pages for whose neighbours the host's cache is told what is coming
_DEACTIVATE_FILE = cython.declare(cython.int, 2)
_DEACTIVATE = cython.declare(cython.int, 3)
_LAZYFREE = cython.declare(cython.int, 4)
_ACTIVATE = cython.declare(cython.int, 5)
_NR_BATCHES = cython.declare(cython.int, 6)


class Lru:
    """The lists of all lruvecs, ``lruvecs`` LRUVEC_DTYPE. Counters go to the VmStat's node and zone rows."""

    def __init__(self, frames, buddy, vmstat, nr_nodes, nr_cpus):
        self.frames = frames
        self.buddy = buddy
        self.nr_cpus = nr_cpus
        self.memcg = Memcontrol(buddy, vmstat, nr_nodes)
        self.nr_nodes = nr_nodes
        self.nr_lruvecs = MAX_MEMCGS * nr_nodes
        self.enabled = True
        self.lruvecs = lazy_array(self.nr_lruvecs, LRUVEC_DTYPE)
        self.lruvec = view(self.lruvecs)
        self.node_stat = view(vmstat.node_stat)
        self.zone_stat = view(vmstat.zone_stat)
        self.event = view(vmstat.event)
        self.batch = view(np.zeros((nr_cpus * _NR_BATCHES, _BATCH), np.uint32))
        self.batched = view(np.zeros(nr_cpus * _NR_BATCHES, np.int32))
        self.page_heads = frames.reserve_page_heads(self.nr_lruvecs * NR_LRU_LISTS)
        self.gen = LruGen(frames, buddy, self.memcg, self.nr_lruvecs)
        self.init_lruvecs(0)

    @staticmethod
    def heads_needed(nr_nodes):
        """How many list heads the lists take."""
        return MAX_MEMCGS * nr_nodes * NR_LRU_LISTS + LruGen.heads_needed(MAX_MEMCGS * nr_nodes)

    def init_lruvecs(self, memcg: cython.long):
        """The lruvecs of a new memory cgroup: empty lists. Linux: lruvec_init()."""
        nid: cython.int
        lru: cython.int
        lruvec: cython.long
        for nid in range(self.nr_nodes):
            lruvec = memcg * self.nr_nodes + nid
            self.lruvec[lruvec].nid = nid
            self.lruvec[lruvec].memcg = cython.cast(cython.int, memcg)
            self.lruvec[lruvec].anon_cost = self.lruvec[lruvec].file_cost = 0
            self.lruvec[lruvec].nonresident_age = 0
            self.lruvec[lruvec].refaults_anon = self.lruvec[lruvec].refaults_file = 0
            for lru in range(NR_LRU_LISTS):
                self.frames.init_page_head(self.page_heads + lruvec * NR_LRU_LISTS + lru)
            self.gen.init_lruvec(lruvec)

    # ------------------------------------------------------------------------------ lists

    def lruvec_of(self, pfn):
        """The number of a page's lruvec. Linux: folio_lruvec()."""
        block: cython.long = pfn >> PAGEBLOCK_ORDER if pfn < self.frames.huge else self.frames.block_of(pfn)
        return self.frames.page[pfn].memcg * self.nr_nodes + self.buddy.zone[self.frames.block[block].zone].nid

    def lru_of(self, flags):
        """The list for a page of these flags. Linux: folio_lru_list()."""
        lru: cython.int = LRU_INACTIVE_ANON
        if flags & PG_UNEVICTABLE:
            return LRU_UNEVICTABLE
        if not flags & PG_SWAPBACKED:
            lru = LRU_INACTIVE_FILE
        if flags & PG_ACTIVE:
            lru += 1
        return lru

    def size(self, lruvec, lru):
        """Pages on a list."""
        return self.memcg.lruvec_stat[lruvec, NR_INACTIVE_ANON + lru]

    def zone_size(self, lruvec, zid, lru):
        """Pages on a list that lie in the zones up to a type. Linux: lruvec_lru_size()."""
        size: cython.long = 0
        i: cython.int
        for i in range(zid + 1):
            size += self.memcg.lruvec_zone_stat[lruvec, i * NR_LRU_LISTS + lru]
        return size

    def add_page(self, pfn):
        """Put a page at the front of its list. Linux: lruvec_add_folio()."""
        lru: cython.int = self.lru_of(self.frames.page[pfn].flags)
        lruvec: cython.long = self.lruvec_of(pfn)
        self.frames.page[pfn].flags |= PG_LRU
        if self.enabled and lru != LRU_UNEVICTABLE:
            self.gen.add_folio(lruvec, pfn, False)
            return
        self.frames.page_list_add(self.page_heads + lruvec * NR_LRU_LISTS + lru, pfn)
        self.memcg.update_lru_size(lruvec, self.frames.zone_of(pfn), lru, self.frames.nr_pages(pfn))

    def add_page_tail(self, pfn):
        """Put a page at the end of its list. Linux: lruvec_add_folio_tail()."""
        lru: cython.int = self.lru_of(self.frames.page[pfn].flags)
        lruvec: cython.long = self.lruvec_of(pfn)
        self.frames.page[pfn].flags |= PG_LRU
        if self.enabled and lru != LRU_UNEVICTABLE:
            self.gen.add_folio(lruvec, pfn, True)
            return
        self.frames.page_list_add_tail(self.page_heads + lruvec * NR_LRU_LISTS + lru, pfn)
        self.memcg.update_lru_size(lruvec, self.frames.zone_of(pfn), lru, self.frames.nr_pages(pfn))

    def del_page(self, pfn):
        """Take a page off its list, out of a batch if need be. Linux: lruvec_del_folio()."""
        if self.frames.page[pfn].flags & PG_BATCHED:
            self.drain_all()
        if self.gen.gen_of(pfn) >= 0:
            self.gen.del_folio(self.lruvec_of(pfn), pfn, False)
            self.frames.page[pfn].flags &= ~PG_LRU
            return
        self.frames.page_list_del(pfn)
        self.memcg.update_lru_size(
            self.lruvec_of(pfn), self.frames.zone_of(pfn), self.lru_of(self.frames.page[pfn].flags),
            -self.frames.nr_pages(pfn),
        )  # fmt: skip
        self.frames.page[pfn].flags &= ~PG_LRU

    # ------------------------------------------------------------------------------ batches

    def queue(self, kind, pfn):
        """Put a page into a batch of the running CPU. Linux: folio_batch_add_and_move()."""
        at: cython.long = self.buddy.cpu * _NR_BATCHES + kind
        if self.frames.page[pfn].flags & PG_BATCHED:
            self.drain_all()
        self.frames.page[pfn].flags |= PG_BATCHED
        self.batch[at, self.batched[at]] = cython.cast(cython.uint, pfn)
        self.batched[at] += 1
        if self.batched[at] == _BATCH or pfn >= self.frames.huge:
            self.drain_batch(self.buddy.cpu, kind)

    def drain_batch(self, cpu, kind):
        """Do what the pages of a batch wait for. Linux: folio_batch_move_lru()."""
        at: cython.long = cpu * _NR_BATCHES + kind
        i: cython.Py_ssize_t
        pfn: cython.long
        for i in range(self.batched[at]):
            if kind != _ADD and i + _AHEAD < self.batched[at]:
                pfn = self.batch[at, i + _AHEAD]
                self.frames.prefetch_page(self.frames.page[pfn].nxt)
                self.frames.prefetch_page(self.frames.page[pfn].prv)
            pfn = self.batch[at, i]
            self.frames.page[pfn].flags &= ~PG_BATCHED
            if kind == _ADD:
                self.lru_add(pfn)
            elif self.frames.page[pfn].flags & PG_LRU and not self.frames.page[pfn].flags & PG_UNEVICTABLE:
                self.move(kind, pfn)
        self.batched[at] = 0

    def lru_add(self, pfn):
        """Linux: lru_add()."""
        if self.frames.page[pfn].flags & PG_UNEVICTABLE:
            self.event[UNEVICTABLE_PGS_CULLED] += self.frames.nr_pages(pfn)
            self.frames.page[pfn].flags &= ~PG_ACTIVE
        self.add_page(pfn)

    def move(self, kind, pfn):
        """Linux: lru_move_tail(), lru_deactivate_file(), lru_deactivate(), lru_lazyfree(), lru_activate()."""
        flags: cython.uint = self.frames.page[pfn].flags
        nr: cython.long = self.frames.nr_pages(pfn)
        if kind == _DEACTIVATE_FILE:
            self.lru_deactivate_file(pfn)
        elif kind == _MOVE_TAIL:
            self.del_page(pfn)
            self.frames.page[pfn].flags &= ~PG_ACTIVE
            self.add_page_tail(pfn)
            self.event[PGROTATED] += nr
        elif kind == _DEACTIVATE and (flags & PG_ACTIVE or self.enabled):
            self.del_page(pfn)
            self.frames.page[pfn].flags &= ~(PG_ACTIVE | PG_REFERENCED)
            self.add_page(pfn)
            self.memcg.count_events(self.frames.page[pfn].memcg, PGDEACTIVATE, nr)
        elif kind == _LAZYFREE and flags & PG_ANON and flags & PG_SWAPBACKED and not flags & PG_SWAPCACHE:
            self.del_page(pfn)
            self.frames.page[pfn].flags &= ~(PG_ACTIVE | PG_REFERENCED | PG_SWAPBACKED)
            self.add_page(pfn)
            self.memcg.count_events(self.frames.page[pfn].memcg, PGLAZYFREE, nr)
        elif kind == _ACTIVATE and not flags & PG_ACTIVE:
            self.del_page(pfn)
            self.frames.page[pfn].flags |= PG_ACTIVE
            self.add_page(pfn)
            self.memcg.count_events(self.frames.page[pfn].memcg, PGACTIVATE, nr)

    def lru_deactivate_file(self, pfn):
        """Linux: lru_deactivate_file()."""
        active: cython.bint = (self.frames.page[pfn].flags & PG_ACTIVE) != 0
        if self.frames.page[pfn].mapcount:
            return
        self.del_page(pfn)
        self.frames.page[pfn].flags &= ~(PG_ACTIVE | PG_REFERENCED)
        if self.frames.page[pfn].flags & (PG_WRITEBACK | PG_DIRTY):
            self.add_page(pfn)
            self.frames.page[pfn].flags |= PG_RECLAIM
        else:
            self.add_page_tail(pfn)
            self.event[PGROTATED] += 1
        if active:
            self.memcg.count_events(self.frames.page[pfn].memcg, PGDEACTIVATE, 1)

    def drain(self, cpu):
        """Empty a CPU's batches. Linux: lru_add_drain_cpu()."""
        kind: cython.int
        for kind in range(_NR_BATCHES):
            if self.batched[cpu * _NR_BATCHES + kind]:
                self.drain_batch(cpu, kind)

    def drain_all(self):
        """Linux: lru_add_drain_all()."""
        cpu: cython.long
        for cpu in range(self.nr_cpus):
            self.drain(cpu)

    # ------------------------------------------------------------------------------ what happens to a page

    def add(self, pfn, in_fault):
        """Queue a new page for its list; ``in_fault``: for an access through a page table. Linux: folio_add_lru()."""
        if self.enabled and in_fault and not self.frames.page[pfn].flags & PG_UNEVICTABLE:
            self.frames.page[pfn].flags |= PG_ACTIVE
        self.queue(_ADD, pfn)

    def activate(self, pfn):
        """Linux: folio_activate()."""
        if self.frames.page[pfn].flags & PG_LRU and not self.frames.page[pfn].flags & (PG_ACTIVE | PG_UNEVICTABLE):
            self.queue(_ACTIVATE, pfn)

    def activate_new(self, pfn):
        """Have a page that still waits for its list begin there as active. Linux: __lru_cache_activate_folio()."""
        at: cython.long = self.buddy.cpu * _NR_BATCHES + _ADD
        i: cython.int
        for i in range(self.batched[at]):
            if self.batch[at, i] == cython.cast(cython.uint, pfn):
                self.frames.page[pfn].flags |= PG_ACTIVE

    def mark_accessed(self, pfn):
        """A page was used. Linux: folio_mark_accessed()."""
        flags: cython.uint = self.frames.page[pfn].flags
        if self.enabled:
            self.gen.inc_refs(pfn)
        elif not flags & PG_REFERENCED:
            self.frames.page[pfn].flags |= PG_REFERENCED
        elif not flags & (PG_UNEVICTABLE | PG_ACTIVE):
            if flags & PG_LRU:
                self.activate(pfn)
            else:
                self.activate_new(pfn)
            self.frames.page[pfn].flags &= ~PG_REFERENCED
            self.age_nonresident(self.lruvec_of(pfn), self.frames.nr_pages(pfn))
        self.frames.page[pfn].flags &= ~PG_IDLE

    def deactivate(self, pfn):
        """Linux: folio_deactivate()."""
        flags: cython.uint = self.frames.page[pfn].flags
        if flags & PG_LRU and not flags & PG_UNEVICTABLE and (flags & PG_ACTIVE or self.enabled):
            self.queue(_DEACTIVATE, pfn)

    def deactivate_file(self, pfn):
        """A page of a file will hardly be used again. Linux: deactivate_file_folio()."""
        if self.frames.page[pfn].flags & PG_LRU and not self.frames.page[pfn].flags & PG_UNEVICTABLE:
            self.queue(_DEACTIVATE_FILE, pfn)

    def lazyfree(self, pfn):
        """An anonymous page may be dropped. Linux: folio_mark_lazyfree()."""
        flags: cython.uint = self.frames.page[pfn].flags
        if flags & PG_LRU and flags & PG_ANON and flags & PG_SWAPBACKED and not flags & (PG_SWAPCACHE | PG_UNEVICTABLE):
            self.queue(_LAZYFREE, pfn)

    def rotate(self, pfn):
        """A page that waits to be reclaimed has been written. Linux: folio_rotate_reclaimable()."""
        flags: cython.uint = self.frames.page[pfn].flags
        if flags & PG_LRU and not flags & (PG_LOCKED | PG_DIRTY | PG_UNEVICTABLE):
            self.queue(_MOVE_TAIL, pfn)

    def note_cost(self, lruvec, file, nr_io, nr_rotated):
        """What it cost to have taken from the anonymous or the file lists. Linux: lru_note_cost()."""
        cost: cython.long = nr_io * SWAP_CLUSTER_MAX + nr_rotated
        lru: cython.int
        total: cython.long
        while lruvec >= 0:
            total = 0
            if file:
                self.lruvec[lruvec].file_cost += cost
            else:
                self.lruvec[lruvec].anon_cost += cost
            for lru in range(LRU_UNEVICTABLE):
                total += self.memcg.lruvec_page_state(lruvec, NR_INACTIVE_ANON + lru)
            if self.lruvec[lruvec].file_cost + self.lruvec[lruvec].anon_cost > total // 4:
                self.lruvec[lruvec].file_cost //= 2
                self.lruvec[lruvec].anon_cost //= 2
            lruvec = self.memcg.parent_lruvec(lruvec)

    def age_nonresident(self, lruvec, nr):
        """Linux: mm/workingset.c, workingset_age_nonresident()."""
        while lruvec >= 0:
            self.lruvec[lruvec].nonresident_age += nr
            lruvec = self.memcg.parent_lruvec(lruvec)

    # ------------------------------------------------------------------------------ the other kind of lists

    def fill_generations(self, rows: cython.long[::1]):
        """The multi-generational lists rule from now on: all evictable pages go over, the coldest first.

        ``rows``: the memory cgroups there are. Linux: mm/vmscan.c, fill_evictable().
        """
        lruvec: cython.long
        i: cython.Py_ssize_t
        lru: cython.int
        head: cython.long
        self.drain_all()
        self.enabled = True
        for i in range(rows.shape[0] * self.nr_nodes):
            lruvec = rows[i // self.nr_nodes] * self.nr_nodes + i % self.nr_nodes
            for lru in range(LRU_UNEVICTABLE):
                head = self.page_heads + lruvec * NR_LRU_LISTS + lru
                while self.frames.page[head].prv != head:
                    self.readd_page(self.frames.page[head].prv)

    def drain_generations(self, rows: cython.long[::1]):
        """The active and inactive lists rule from now on, for these memory cgroups. Linux: drain_evictable()."""
        lruvec: cython.long
        k: cython.Py_ssize_t
        i: cython.int
        head: cython.long
        self.drain_all()
        self.enabled = False
        for k in range(rows.shape[0] * self.nr_nodes):
            lruvec = rows[k // self.nr_nodes] * self.nr_nodes + k % self.nr_nodes
            for i in range(MAX_NR_GENS * 2 * MAX_NR_ZONES):
                head = self.gen.page_heads + lruvec * MAX_NR_GENS * 2 * MAX_NR_ZONES + i
                while self.frames.page[head].prv != head:
                    self.readd_page(self.frames.page[head].prv)

    def readd_page(self, pfn):
        """Move a page to the lists that rule."""
        self.del_page(pfn)
        self.add_page(pfn)

    # ------------------------------------------------------------------------------ for mm

    def lru_add_drain(self):
        """Empty the running CPU's batches. Linux: lru_add_drain()."""
        self.drain(self.buddy.cpu)

    def lru_add_drain_all(self):
        """Empty every CPU's batches. Linux: lru_add_drain_all()."""
        self.drain_all()

    def nr_batched(self, cpu):
        """New pages that wait in a CPU's batch: for checks."""
        return self.batched[cpu * _NR_BATCHES + _ADD]

    def pages(self, lruvec, lru):
        """The pages of a list from its front: for checks and debugging."""
        return self.frames.walk_pages(self.page_heads + lruvec * NR_LRU_LISTS + lru)
