# cython: language_level=3
"""Finding free swap slots: which area, and where in it.

Areas are tried by priority, those of equal priority in turn. Where seeks cost time, slots are taken in order from the
last one, in runs of 512; otherwise each CPU has a cluster of its own. When swap is more than half full, slots that
only a copy in memory holds are taken back on the way.

A huge page's slots are a cluster, which only areas of the latter kind have, and only on a disk of their own.

Linux: mm/swapfile.c, get_swap_pages(), scan_swap_map_slots(), cluster_alloc_swap_entry().
"""

import cython
import numpy as np

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_BATCH = cython.declare(cython.int, 64)
_LATENCY_LIMIT = cython.declare(cython.long, 256)
_HAS_CACHE = cython.declare(cython.uint, 1 << 30)
_CLUSTERS = cython.declare(cython.long, 1 << 22)
_ORDERS = cython.declare(cython.int, HPAGE_PMD_ORDER + 1)
_FREE = cython.declare(cython.int, 1)
_NONFULL = cython.declare(cython.int, 2)
_FRAG = cython.declare(cython.int, 3)
_FULL = cython.declare(cython.int, 4)


class SwapAlloc:
    """The allocator over a SwapMap. ``found`` are the slots of the last get_swap_pages(): the first of each group."""

    def __init__(self, slots, buddy):
        self.slots = slots
        self.buddy = buddy
        self.area = self.slots.area
        self.count = self.slots.count
        self.cluster = self.slots.cluster
        self.avail = self.slots.avail
        self.order = view(np.zeros(MAX_SWAPFILES, np.int32))
        self.cluster_next = view(np.zeros((buddy.nr_cpus, MAX_SWAPFILES * _ORDERS), np.int64))
        self.found = view(np.zeros(_BATCH, np.uint32))
        self.latency = 0
        self.scanned_many = False

    def forget(self, t: cython.int):
        """No CPU has a cluster of its own in an area any more."""
        cpu: cython.Py_ssize_t
        order: cython.int
        for cpu in range(self.buddy.nr_cpus):
            for order in range(_ORDERS):
                self.cluster_next[cpu, t * _ORDERS + order] = 0

    # ------------------------------------------------------------------------------ by clusters

    def first_cluster(self, t, which, order):
        """The first cluster of a list, or -1."""
        head: cython.long = self.slots.list_head(t, which, order)
        return -1 if self.cluster[head].nxt == head else cython.cast(cython.long, self.cluster[head].nxt)

    def range_usable(self, t, offset, nr):
        """Whether slots are free, or can be made so. Linux: cluster_scan_range(), cluster_reclaim_range()."""
        first: cython.long = self.area[t].base + offset
        slot: cython.long
        reclaim: cython.bint = False
        for slot in range(first, first + nr):
            if self.count[slot]:
                if self.count[slot] != _HAS_CACHE or not self.slots.swap_full():
                    return False
                reclaim = True
        if reclaim:
            for slot in range(first, first + nr):
                if self.count[slot] and (self.count[slot] != _HAS_CACHE or self.slots.reclaim_direct(slot) <= 0):
                    return False
        return True

    def scan_cluster(self, t, offset, order):
        """Take ``1 << order`` slots from an offset on in its cluster: the first, or 0. The CPU goes on behind them.

        Linux: alloc_swap_scan_cluster(), cluster_alloc_range().
        """
        cluster: cython.long = (self.area[t].base + offset) >> SWAPFILE_CLUSTER_SHIFT
        end: cython.long = min((offset & ~(SWAPFILE_CLUSTER - 1)) + SWAPFILE_CLUSTER, self.area[t].max)
        nr: cython.long = cython.cast(cython.long, 1) << order
        slot: cython.long
        self.cluster_next[self.buddy.cpu, t * _ORDERS + order] = 0
        if self.cluster[cluster].count + nr > SWAPFILE_CLUSTER:
            return 0
        while offset + nr <= end and not self.range_usable(t, offset, nr):
            offset += nr
        if offset + nr > end:
            return 0
        if self.cluster[cluster].flags == _FREE:
            self.cluster[cluster].order = order
            self.slots.set_list(t, cluster, _NONFULL)
        for slot in range(self.area[t].base + offset, self.area[t].base + offset + nr):
            self.count[slot] = _HAS_CACHE
        self.slots.range_alloc(t, offset, nr)
        self.cluster[cluster].count += cython.cast(cython.int, nr)
        if self.cluster[cluster].count == SWAPFILE_CLUSTER:
            self.slots.set_list(t, cluster, _FULL)
        elif offset + 2 * nr <= end:
            self.cluster_next[self.buddy.cpu, t * _ORDERS + order] = offset + nr
        return offset

    def reclaim_full_cluster(self, t):
        """Free what only copies in memory hold of the oldest full cluster. Linux: swap_reclaim_full_clusters()."""
        cluster: cython.long = self.first_cluster(t, _FULL, 0)
        slot: cython.long
        end: cython.long
        if cluster < 0:
            return
        self.slots.set_list(t, cluster, _FULL)
        end = min((cluster + 1) << SWAPFILE_CLUSTER_SHIFT, self.area[t].base + self.area[t].max)
        for slot in range(cluster << SWAPFILE_CLUSTER_SHIFT, end):
            if self.count[slot] == _HAS_CACHE:
                self.slots.reclaim_direct(slot)

    def cluster_alloc_swap_entry(self, t, order):
        """``1 << order`` slots for the running CPU: the first one's offset, or 0. Linux: cluster_alloc_swap_entry()."""
        offset: cython.long = self.cluster_next[self.buddy.cpu, t * _ORDERS + order]
        found: cython.long = 0
        cluster: cython.long
        if offset:
            found = self.scan_cluster(t, offset, order)
            if found:
                return found
        cluster = self.first_cluster(t, _FREE, 0)
        if cluster >= 0:
            return self.scan_cluster(t, (cluster << SWAPFILE_CLUSTER_SHIFT) - self.area[t].base, order)
        if self.slots.swap_full():
            self.reclaim_full_cluster(t)
        if order < HPAGE_PMD_ORDER:
            found = self.from_used_clusters(t, order)
        return found if found or order else self.steal_slot(t)

    def from_used_clusters(self, t, order):
        """The same from clusters in use that have room, the longest untried first."""
        base: cython.long = self.area[t].base
        found: cython.long = 0
        cluster: cython.long = self.first_cluster(t, _NONFULL, order)
        tries: cython.int = 0
        while cluster >= 0 and found == 0:
            self.slots.set_list(t, cluster, _FRAG)
            tries += 1
            found = self.scan_cluster(t, (cluster << SWAPFILE_CLUSTER_SHIFT) - base, order)
            cluster = self.first_cluster(t, _NONFULL, order)
        while found == 0 and tries < self.slots.frag_nr[t * _ORDERS + order]:
            cluster = self.first_cluster(t, _FRAG, order)
            self.slots.set_list(t, cluster, _FRAG)
            tries += 1
            found = self.scan_cluster(t, (cluster << SWAPFILE_CLUSTER_SHIFT) - base, order)
        return found

    def steal_slot(self, t):
        """A single slot of a cluster that gives larger groups: its offset, or 0."""
        order: cython.int
        which: cython.int
        cluster: cython.long
        for order in range(1, _ORDERS):
            for which in range(_FRAG, _FRAG - 2, -1):
                cluster = self.first_cluster(t, which, order)
                if cluster >= 0:
                    return self.scan_cluster(t, (cluster << SWAPFILE_CLUSTER_SHIFT) - self.area[t].base, 0)
        return 0

    # ------------------------------------------------------------------------------ in order

    def reclaimable(self, t, offset):
        """Whether only a copy in memory holds a slot, and swap is filling up."""
        return self.count[self.area[t].base + offset] == _HAS_CACHE and self.slots.swap_full()

    def new_cluster(self, t):
        """Where to go on after a run of slots: the first 512 free ones in a row, or the first free one."""
        base: cython.long = self.area[t].base
        first: cython.long = self.area[t].lowest_bit
        highest: cython.long = self.area[t].highest_bit
        start: cython.long = first
        offset: cython.long
        while start + SWAPFILE_CLUSTER - 1 <= highest:
            offset = start + SWAPFILE_CLUSTER - 1
            while offset >= start and self.count[base + offset] == 0:  # from the end: most of a row need not be seen
                offset -= 1
            if offset < start:
                self.scan_latency(start + SWAPFILE_CLUSTER - 1 - first)
                return start
            if offset + SWAPFILE_CLUSTER > highest:  # Linux, which goes forward, stops at the first of these
                start = max(start, highest - SWAPFILE_CLUSTER + 1)
                while self.count[base + start] == 0:
                    start += 1
                self.scan_latency(start + 1 - first)
                break
            start = offset + 1
        return first

    def scan_latency(self, nr):
        """So many slots were looked at. Linux: latency_ration of scan_swap_map_slots()."""
        self.latency = _LATENCY_LIMIT - (_LATENCY_LIMIT - self.latency + nr) % (_LATENCY_LIMIT + 1)

    def search(self, t, offset, scan_base):
        """The next slot behind an offset that is free or reclaimable, the area's start coming after its end; or 0."""
        found: cython.long = self.search_to(t, offset + 1, self.area[t].highest_bit)
        return found if found else self.search_to(t, self.area[t].lowest_bit, scan_base - 1)

    def search_to(self, t, offset, last):
        """The first slot from an offset to a last one that is free or reclaimable, or 0."""
        base: cython.long = self.area[t].base
        full: cython.bint = self.slots.swap_full()
        begin: cython.long = offset
        while offset <= last and self.count[base + offset] and not (full and self.count[base + offset] == _HAS_CACHE):
            offset += 1
        self.latency -= max(min(offset, last) - begin + 1, cython.cast(cython.long, 0))
        if self.latency < 0:
            self.latency = _LATENCY_LIMIT - (-1 - self.latency) % (_LATENCY_LIMIT + 1)
            self.scanned_many = True
        return offset if offset <= last else 0

    def next_in_order(self, t, offset, scan_base):
        """After a slot was taken: the next one near it, or -1 - the offset at which to stop."""
        base: cython.long = self.area[t].base
        limit: cython.long
        self.latency -= 1
        if self.latency < 0:
            return -1 - offset
        if self.area[t].cluster_nr:
            offset += 1
            if self.count[base + offset] == 0:
                self.area[t].cluster_nr -= 1
                return offset
        if not self.scanned_many:
            limit = scan_base if offset < scan_base else self.area[t].highest_bit
            while offset <= limit:
                self.latency -= 1
                if self.latency <= 0:
                    break
                if self.count[base + offset] == 0:
                    return offset
                offset += 1
        return -1 - offset

    def cluster_alloc_swap(self, t, goal, order):
        """scan_swap_map_slots() of an area with clusters. Linux: cluster_alloc_swap()."""
        n: cython.int = 0
        offset: cython.long
        while n < goal:
            offset = self.cluster_alloc_swap_entry(t, order)
            if offset == 0:
                break
            self.found[n] = cython.cast(cython.uint, self.area[t].base + offset)
            n += 1
        return n

    def scan_swap_map_slots(self, t, goal, order):
        """Take up to ``goal`` groups of slots of an area into ``found``; how many. Linux: scan_swap_map_slots()."""
        n: cython.int = 0
        busy: cython.long = 0
        offset: cython.long
        scan_base: cython.long
        base: cython.long = self.area[t].base
        if order and self.area[t].flags & (SWP_BLKDEV | SWP_SOLIDSTATE) != SWP_BLKDEV | SWP_SOLIDSTATE:
            return 0
        if self.area[t].flags & SWP_SOLIDSTATE:
            return self.cluster_alloc_swap(t, goal, order)
        self.latency = _LATENCY_LIMIT
        self.scanned_many = False
        offset = scan_base = self.area[t].cluster_next
        if self.area[t].cluster_nr == 0:
            if self.area[t].pages - self.area[t].inuse >= SWAPFILE_CLUSTER:
                scan_base = self.area[t].lowest_bit
                offset = self.new_cluster(t)
            self.area[t].cluster_nr = SWAPFILE_CLUSTER
        self.area[t].cluster_nr -= 1
        while self.area[t].highest_bit:
            if offset > self.area[t].highest_bit:
                scan_base = offset = self.area[t].lowest_bit
            if self.reclaimable(t, offset):
                if self.slots.reclaim_direct(base + offset) > 0:
                    continue
                busy += 1
                offset = self.search(t, offset, scan_base)
                if offset == 0 or busy > self.area[t].pages:
                    return n
                continue
            if self.count[base + offset]:
                if n:
                    break
                offset = self.search(t, offset, scan_base)
                if offset == 0:
                    return n
                continue
            self.count[base + offset] = _HAS_CACHE
            self.slots.range_alloc(t, offset, 1)
            self.found[n] = cython.cast(cython.uint, base + offset)
            n += 1
            if n == goal or offset >= self.area[t].highest_bit:
                break
            offset = self.next_in_order(t, offset, scan_base)
            if offset < 0:
                offset = -1 - offset
                break
        else:
            return n
        self.area[t].cluster_next = offset + 1
        return n

    # ------------------------------------------------------------------------------ by areas

    def requeue(self, t):
        """Put an area behind those of its priority. Linux: plist_requeue()."""
        i: cython.int = 0
        while i < self.slots.nr_avail and self.avail[i] != t:
            i += 1
        while i + 1 < self.slots.nr_avail and self.area[self.avail[i + 1]].prio == self.area[t].prio:
            self.avail[i] = self.avail[i + 1]
            self.avail[i + 1] = t
            i += 1

    def get_swap_pages(self, goal, order):
        """Take up to ``goal`` groups of ``1 << order`` slots, with _HAS_CACHE set, into ``found``; how many groups.

        Larger groups than of one slot are asked only of the first area. Linux: get_swap_pages().
        """
        i: cython.int
        n: cython.int = 0
        areas: cython.int = self.slots.nr_avail
        t: cython.int
        groups: cython.long = self.slots.workingset.nr_swap_pages >> order
        if groups <= 0:
            return 0
        goal = min(goal, _BATCH)
        if goal > groups:
            goal = cython.cast(cython.int, groups)
        for i in range(areas):
            self.order[i] = self.avail[i]
        for i in range(areas):
            t = self.order[i]
            if not self.area[t].highest_bit or not self.area[t].flags & SWP_WRITEOK:
                continue
            self.requeue(t)
            self.slots.workingset.nr_swap_pages -= cython.cast(cython.long, goal) << order
            n = self.scan_swap_map_slots(t, goal, order)
            self.slots.workingset.nr_swap_pages += cython.cast(cython.long, goal - n) << order
            if n or order:
                break
        return n
