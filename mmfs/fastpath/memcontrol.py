# cython: language_level=3
"""Memory cgroups: what each may use and uses, and its share of the counters.

A memory cgroup is a row; row 0 is the root, whose pages are counted but never limited. A page, an address space and a
swap slot know the row they are charged to. Charging goes from a row up through its parents (page_counter.py); each
CPU keeps some pages charged in advance for one row (its stock), so most charges touch one number.

Counters of a row (its lruvecs' share of the nodes' counters, its own, its events) are its own until somebody asks:
``flush()`` then adds what has changed since the last time to the totals of the row and of all above it.

A lruvec is a row's part of a node, number ``row * nr_nodes + node``.

``refs`` int64 [MAX_MEMCGS]: pages, and swap slots, that are charged to the row itself.

Linux: mm/memcontrol.c; kernel/cgroup/rstat.c.

Simplified: a page's share of a cgroup's counters is exact at once, where Linux lets up to 64 changes a CPU wait.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view
from mmfs.fastpath.page_counter import PageCounters
from mmfs.mm_types import MEMCG_VM_EVENTS, VmEventItem

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_UPDATED_MAX = 1 << 23


class Memcontrol:
    """The memory cgroups of a machine.

    ``current``: the row of the running task, to which the page cache and the kernel's memory are charged.
    ``failed``: the row whose limit the last charge has hit, -1 if it was done, and ``failed_for`` the row it was for;
    ``failed_swap``: it was the limit of memory and swap. ``over_high_pages``: pages charged by the running task while a
    row was above its high mark. ``memsw``: the second counter is of memory and swap together, as with cgroup v1.

    ``local_events``, ``total_events`` int64 [MAX_MEMCGS, MemcgMemoryEvent]: what memory.events tells;
    ``only_local_events``: they are not counted in the rows above (mount option memory_localevents). ``alives``: rows
    whose directory there is. ``zswap_maxes``: pages that zswap may take for a row; ``no_zswap_writebacks``: rows of
    which nothing but that may be swapped.
    """

    def __init__(self, buddy, vmstat, nr_nodes):
        self.frames = buddy.frames
        self.buddy = buddy
        self.nr_nodes = nr_nodes
        self.counters = PageCounters()
        self.counter = self.counters.counter
        self.parent = self.counters.parent
        self.refs = lazy_array(MAX_MEMCGS, np.int64)
        self.ref = view(self.refs)
        self.stock_memcg = view(np.zeros(buddy.nr_cpus, np.int32))
        self.stock_pages = view(np.zeros(buddy.nr_cpus, np.int64))
        self.current = self.over_high_pages = self.nr_updated = 0
        self.failed = self.failed_for = -1
        self.failed_swap = self.memsw = self.only_local_events = False
        self.local_events = lazy_array(MAX_MEMCGS * NR_MEMCG_MEMORY_EVENTS, np.int64).reshape(MAX_MEMCGS, -1)
        self.total_events = lazy_array(MAX_MEMCGS * NR_MEMCG_MEMORY_EVENTS, np.int64).reshape(MAX_MEMCGS, -1)
        self.alives = lazy_array(MAX_MEMCGS, np.uint8)
        self.zswap_maxes = lazy_array(MAX_MEMCGS, np.int64)
        self.no_zswap_writebacks = lazy_array(MAX_MEMCGS, np.uint8)
        self.zswap_max = view(self.zswap_maxes)
        self.no_zswap_writeback = view(self.no_zswap_writebacks)
        self.local_event = view(self.local_events)
        self.total_event = view(self.total_events)
        self.alive = view(self.alives)
        self.updated = view(lazy_array(_UPDATED_MAX, np.uint8))
        self.update_list = view(lazy_array(_UPDATED_MAX, np.uint32))
        self.event_column = view(
            np.array([MEMCG_VM_EVENTS.index(e) if e in MEMCG_VM_EVENTS else -1 for e in VmEventItem], np.int32)
        )
        self.node_stat = view(vmstat.node_stat)
        self.zone_stat = view(vmstat.zone_stat)
        self.event = view(vmstat.event)
        self.lruvec_stat = view(vmstat.lruvec_stat)
        self.lruvec_flushed = view(vmstat.lruvec_flushed)
        self.lruvec_total = view(vmstat.lruvec_total)
        self.lruvec_zone_stat = view(vmstat.lruvec_zone_stat)
        self.own_stat = view(vmstat.memcg_stat)
        self.own_flushed = view(vmstat.memcg_flushed)
        self.own_total = view(vmstat.memcg_total)
        self.init(0, -1)

    # ------------------------------------------------------------------------------ rows

    def init(self, memcg: cython.long, parent: cython.int):
        """A row begins: no limits, nothing charged."""
        kind: cython.int
        self.counters.init(memcg, parent)
        self.ref[memcg] = 0
        self.alive[memcg] = 1
        self.zswap_max[memcg] = cython.cast(cython.long, PAGE_COUNTER_MAX)
        self.no_zswap_writeback[memcg] = 0
        for kind in range(NR_MEMCG_MEMORY_EVENTS):
            self.local_event[memcg, kind] = self.total_event[memcg, kind] = 0

    def clear(self, memcg: cython.long):
        """A row ends: what its counters still say has gone to those above."""
        i: cython.int
        lruvec: cython.long
        self.flush()
        for lruvec in range(memcg * self.nr_nodes, (memcg + 1) * self.nr_nodes):
            for i in range(NR_VM_NODE_STAT_ITEMS):
                self.lruvec_stat[lruvec, i] = self.lruvec_flushed[lruvec, i] = self.lruvec_total[lruvec, i] = 0
        for i in range(NR_MEMCG_STATS + NR_MEMCG_EVENTS):
            self.own_stat[memcg, i] = self.own_flushed[memcg, i] = self.own_total[memcg, i] = 0

    # ------------------------------------------------------------------------------ charging

    def consume_stock(self, memcg, nr):
        """Take pages that the CPU has charged in advance. Linux: consume_stock()."""
        cpu: cython.long = self.buddy.cpu
        if self.stock_memcg[cpu] != memcg or self.stock_pages[cpu] < nr:
            return False
        self.stock_pages[cpu] -= nr
        return True

    def uncharge_counters(self, memcg, nr):
        """Give charged pages back. Linux: memcg_uncharge()."""
        self.counters.uncharge(memcg, MEMCG_COUNTER_MEMORY, nr)
        if self.memsw:
            self.counters.uncharge(memcg, MEMCG_COUNTER_SWAP, nr)

    def drain_stock(self, cpu):
        """Linux: drain_stock()."""
        if self.stock_pages[cpu]:
            self.uncharge_counters(self.stock_memcg[cpu], self.stock_pages[cpu])
        self.stock_pages[cpu] = 0
        self.stock_memcg[cpu] = 0

    def refill_stock(self, memcg, nr):
        """Keep pages that are charged to a row for the CPU's next charges. Linux: refill_stock()."""
        cpu: cython.long = self.buddy.cpu
        if self.stock_memcg[cpu] != memcg:
            self.drain_stock(cpu)
            self.stock_memcg[cpu] = cython.cast(cython.int, memcg)
        self.stock_pages[cpu] += nr
        if self.stock_pages[cpu] > MEMCG_CHARGE_BATCH:
            self.drain_stock(cpu)

    def drain_all_stock(self, root: cython.long):
        """Give back what CPUs have charged in advance for rows at or below ``root``. Linux: drain_all_stock()."""
        cpu: cython.long
        memcg: cython.long
        for cpu in range(self.buddy.nr_cpus):
            memcg = self.stock_memcg[cpu]
            while memcg > 0 and memcg != root:
                memcg = self.parent[memcg]
            if self.stock_pages[cpu] and memcg == root:
                self.drain_stock(cpu)

    def charge_batch(self, memcg, nr):
        """Charge so many pages in the counters; False: ``failed`` says whose limit forbids it."""
        failed: cython.long
        self.failed_swap = False
        if self.memsw:
            failed = self.counters.try_charge(memcg, MEMCG_COUNTER_SWAP, nr)
            if failed >= 0:
                self.failed = failed
                self.failed_swap = True
                return False
        failed = self.counters.try_charge(memcg, MEMCG_COUNTER_MEMORY, nr)
        if failed >= 0:
            if self.memsw:
                self.counters.uncharge(memcg, MEMCG_COUNTER_SWAP, nr)
            self.failed = failed
            return False
        self.failed = -1
        return True

    def charge(self, memcg, nr):
        """Charge pages to a row; False: a limit is hit, ``failed`` says whose. Linux: try_charge_memcg()."""
        batch: cython.long = max(nr, cython.cast(cython.long, MEMCG_CHARGE_BATCH))
        self.failed = -1
        if memcg == 0 or self.consume_stock(memcg, nr):
            return True
        if not self.charge_batch(memcg, batch):
            if batch == nr or not self.charge_batch(memcg, nr):
                self.failed_for = memcg
                return False
            batch = nr
        if batch > nr:
            self.refill_stock(memcg, batch - nr)
        self.note_high(memcg, batch)
        return True

    def note_high(self, memcg, nr):
        """Remember that pages were charged above a high mark. Linux: try_charge_memcg(), done_restock."""
        at: cython.long
        while memcg >= 0:
            at = memcg * NR_MEMCG_COUNTERS
            if self.counter[at].usage > self.counter[at].high or (
                self.counter[at + MEMCG_COUNTER_SWAP].usage > self.counter[at + MEMCG_COUNTER_SWAP].high
                and not self.memsw
            ):
                self.over_high_pages += nr
                return
            memcg = self.parent[memcg]

    def set_owner(self, pfn, memcg):
        """A folio is the row's."""
        self.frames.page[pfn].memcg = cython.cast(cython.ushort, memcg)
        self.ref[memcg] += self.frames.nr_pages(pfn)

    def commit_charge(self, pfn, memcg):
        """A page that has been charged is the row's. Linux: commit_charge(), memcg1_commit_charge()."""
        self.set_owner(pfn, memcg)
        if self.memsw:
            self.count_memcg_events(memcg, PGPGIN, 1)

    def unused(self, memcg, nr):
        """Pages were charged, but there is no memory for them: the next try finds them in the CPU's stock."""
        if memcg:
            self.refill_stock(memcg, nr)

    def commit_kmem(self, pfn, memcg):
        """commit_charge() of a page that the kernel uses. Linux: __memcg_kmem_charge_page()."""
        self.set_owner(pfn, memcg)
        if memcg:
            self.frames.page[pfn].flags |= PG_MEMCG_KMEM
            self.mod_memcg_state(memcg, MEMCG_KMEM, 1)
            self.counters.charge(memcg, MEMCG_COUNTER_KMEM, 1)

    def uncharge_kmem(self, pfn):
        """uncharge_folio() of a page that the kernel has used. Linux: __memcg_kmem_uncharge_page()."""
        memcg: cython.long = self.frames.page[pfn].memcg
        if self.frames.page[pfn].flags & PG_MEMCG_KMEM:
            self.frames.page[pfn].flags &= ~cython.cast(cython.uint, PG_MEMCG_KMEM)
            self.mod_memcg_state(memcg, MEMCG_KMEM, -1)
            self.counters.uncharge(memcg, MEMCG_COUNTER_KMEM, 1)
            if memcg == 0:  # it was charged to a row that is gone
                self.uncharge_counters(0, 1)
        self.clear_owner(pfn)

    def reparent_kmem(self, memcg, parent, nr):
        """So many pages that the kernel uses are the parent's, which has been charged for them all along."""
        block: cython.long = -1
        pfn: cython.long
        self.ref[memcg] -= nr
        self.ref[parent] += nr
        while nr:
            block += 1
            if self.frames.block[block].state == BLK_SPLIT:
                for pfn in range(block << PAGEBLOCK_ORDER, (block + 1) << PAGEBLOCK_ORDER):
                    if self.frames.page[pfn].memcg == memcg and self.frames.page[pfn].flags & PG_MEMCG_KMEM:
                        self.frames.page[pfn].memcg = cython.cast(cython.ushort, parent)
                        nr -= 1

    def uncharge_folio(self, pfn):
        """A folio that is freed is nobody's any more. Linux: uncharge_folio(), memcg1_uncharge_batch()."""
        if self.memsw:
            self.count_memcg_events(self.frames.page[pfn].memcg, PGPGOUT, 1)
        self.clear_owner(pfn)

    def clear_owner(self, pfn):
        """A folio is no row's any more. Linux: uncharge_folio(), uncharge_batch()."""
        memcg: cython.long = self.frames.page[pfn].memcg
        self.ref[memcg] -= self.frames.nr_pages(pfn)
        if memcg:
            self.uncharge_counters(memcg, self.frames.nr_pages(pfn))
        self.frames.page[pfn].memcg = 0

    # ------------------------------------------------------------------------------ swap

    def try_charge_swap(self, memcg, nr):
        """Charge slots to a row. Linux: __mem_cgroup_try_charge_swap()."""
        failed: cython.long
        if memcg == 0:
            return True
        failed = self.counters.try_charge(memcg, MEMCG_COUNTER_SWAP, nr)
        if failed >= 0:
            self.memory_event(failed, MEMCG_SWAP_MAX)
            self.memory_event(failed, MEMCG_SWAP_FAIL)
            return False
        self.ref[memcg] += nr
        self.mod_memcg_state(memcg, MEMCG_SWAP, nr)
        return True

    def uncharge_swap(self, memcg):
        """A slot is free. Linux: __mem_cgroup_uncharge_swap()."""
        self.counters.uncharge(memcg, MEMCG_COUNTER_SWAP, 1)
        self.ref[memcg] -= 1
        self.mod_memcg_state(memcg, MEMCG_SWAP, -1)

    def swapout(self, pfn):
        """A page leaves memory for its slots, which have its charge of memory and swap from now on: to which row.

        The nearest row that is alive takes it over from one that is dying. Linux: mem_cgroup_swapout().
        """
        memcg: cython.long = self.frames.page[pfn].memcg
        slot_memcg: cython.long = memcg
        nr: cython.long = self.frames.nr_pages(pfn)
        if memcg == 0:
            return 0
        while not self.alive[slot_memcg]:
            slot_memcg = self.parent[slot_memcg]
        self.frames.page[pfn].memcg = 0
        self.counters.uncharge(memcg, MEMCG_COUNTER_MEMORY, nr)
        if memcg != slot_memcg:
            self.counters.uncharge(memcg, MEMCG_COUNTER_SWAP, nr)
            if slot_memcg:
                self.counters.charge(slot_memcg, MEMCG_COUNTER_SWAP, nr)
        self.count_memcg_events(memcg, PGPGOUT, 1)
        self.count_memcg_events(0, PGPGOUT, -1)  # the page is nobody's when it is freed, next
        self.ref[memcg] -= nr
        self.ref[0] += nr
        if slot_memcg:
            self.ref[slot_memcg] += nr
            self.mod_memcg_state(slot_memcg, MEMCG_SWAP, nr)
        return slot_memcg

    def swap_full(self, memcg):
        """Whether over half of what a row may swap is swapped. Linux: mem_cgroup_swap_full()."""
        at: cython.long
        if self.memsw:
            return False
        while memcg > 0:
            at = memcg * NR_MEMCG_COUNTERS + MEMCG_COUNTER_SWAP
            if self.counter[at].usage * 2 >= self.counter[at].high or (
                self.counter[at].usage * 2 >= self.counter[at].max
            ):
                return True
            memcg = self.parent[memcg]
        return False

    def may_zswap(self, memcg):
        """Whether zswap may keep one more page of a row. Linux: obj_cgroup_may_zswap()."""
        while memcg > 0:
            if self.zswap_max[memcg] == 0:
                return False
            if self.zswap_max[memcg] != cython.cast(cython.long, PAGE_COUNTER_MAX):
                self.flush()
                if self.own_total[memcg, MEMCG_ZSWAP_B] // PAGE_SIZE >= self.zswap_max[memcg]:
                    return False
            memcg = self.parent[memcg]
        return True

    def may_write_back(self, memcg):
        """Whether what zswap does not keep may go to a disk. Linux: mem_cgroup_zswap_writeback_enabled()."""
        while memcg >= 0:
            if self.no_zswap_writeback[memcg]:
                return False
            memcg = self.parent[memcg]
        return True

    def swapin_memcg(self, memcg, other):
        """To which row a page that is read back is charged: its slot's, if that is alive, else ``other``.

        Linux: mem_cgroup_swapin_charge_folio().
        """
        return memcg if self.alive[memcg] else other

    # ------------------------------------------------------------------------------ what users are told

    def memory_event(self, memcg, event):
        """Count an event of memory.events for a row and those above it. Linux: memcg_memory_event()."""
        self.local_event[memcg, event] += 1
        while memcg > 0:
            self.total_event[memcg, event] += 1
            memcg = 0 if self.only_local_events else self.parent[memcg]

    # ------------------------------------------------------------------------------ counters

    def mark_updated(self, lruvec):
        """A lruvec's, or its row's, counters have changed. Linux: cgroup_rstat_updated()."""
        if not self.updated[lruvec]:
            self.updated[lruvec] = 1
            self.update_list[self.nr_updated] = cython.cast(cython.uint, lruvec)
            self.nr_updated += 1

    def mod_lruvec_state(self, lruvec, nid, item, nr):
        """Change a counter of a node and of a lruvec there. Linux: __mod_lruvec_state()."""
        self.node_stat[nid, item] += nr
        self.lruvec_stat[lruvec, item] += nr
        if not self.updated[lruvec]:
            self.mark_updated(lruvec)

    def mod_memcg_lruvec_state(self, memcg, nid, item, nr):
        """Change a counter of a lruvec that is not the node's. Linux: __mod_memcg_lruvec_state()."""
        self.lruvec_stat[memcg * self.nr_nodes + nid, item] += nr
        self.mark_updated(memcg * self.nr_nodes + nid)

    def mod_folio_state(self, pfn, item, nr):
        """Change a counter of the node and lruvec of a folio. Linux: __lruvec_stat_mod_folio()."""
        block: cython.long = pfn >> PAGEBLOCK_ORDER if pfn < self.frames.huge else self.frames.block_of(pfn)
        nid: cython.long = self.buddy.zone[self.frames.block[block].zone].nid
        self.mod_lruvec_state(self.frames.page[pfn].memcg * self.nr_nodes + nid, nid, item, nr)

    def mod_memcg_state(self, memcg, item, nr):
        """Change a counter of a row (MemcgStatItem). Linux: __mod_memcg_state()."""
        self.own_stat[memcg, item] += nr
        self.mark_updated(memcg * self.nr_nodes)

    def count_memcg_events(self, memcg, item, nr):
        """Count an event (VmEventItem) of a row only. Linux: __count_memcg_events()."""
        self.own_stat[memcg, NR_MEMCG_STATS + self.event_column[item]] += nr
        if not self.updated[memcg * self.nr_nodes]:
            self.mark_updated(memcg * self.nr_nodes)

    def count_events(self, memcg, item, nr):
        """Count an event of the machine (VmEventItem) and of a row. Linux: count_memcg_events()."""
        self.event[item] += nr
        self.count_memcg_events(memcg, item, nr)

    def update_lru_size(self, lruvec, zone, lru, nr):
        """Pages joined or left a list. Linux: update_lru_size()."""
        self.mod_lruvec_state(lruvec, self.buddy.zone[zone].nid, NR_INACTIVE_ANON + lru, nr)
        self.zone_stat[zone, NR_ZONE_INACTIVE_ANON + lru] += nr
        self.lruvec_zone_stat[lruvec, self.buddy.zone[zone].zid * NR_LRU_LISTS + lru] += nr

    def flush_lruvec(self, lruvec):
        """Add what has changed to the totals of a lruvec and of those above it."""
        memcg: cython.long = lruvec // self.nr_nodes
        nid: cython.long = lruvec - memcg * self.nr_nodes
        i: cython.int
        row: cython.long
        delta: cython.long
        for i in range(NR_VM_NODE_STAT_ITEMS):
            delta = self.lruvec_stat[lruvec, i] - self.lruvec_flushed[lruvec, i]
            if delta:
                self.lruvec_flushed[lruvec, i] += delta
                row = memcg
                while row >= 0:
                    self.lruvec_total[row * self.nr_nodes + nid, i] += delta
                    row = self.parent[row]
        if nid:
            return
        for i in range(NR_MEMCG_STATS + NR_MEMCG_EVENTS):
            delta = self.own_stat[memcg, i] - self.own_flushed[memcg, i]
            if delta:
                self.own_flushed[memcg, i] += delta
                row = memcg
                while row >= 0:
                    self.own_total[row, i] += delta
                    row = self.parent[row]

    def flush(self):
        """Bring all totals up to date. Linux: mem_cgroup_flush_stats()."""
        i: cython.long
        for i in range(self.nr_updated):
            self.flush_lruvec(self.update_list[i])
            self.updated[self.update_list[i]] = 0
        self.nr_updated = 0

    def memcg_of(self, lruvec):
        """The memory cgroup whose a lruvec is. Linux: lruvec_memcg()."""
        return lruvec // self.nr_nodes

    def parent_lruvec(self, lruvec):
        """The lruvec on the same node of the memory cgroup above, -1 above the root. Linux: parent_lruvec()."""
        memcg: cython.long = lruvec // self.nr_nodes
        if memcg == 0:
            return -1
        return self.parent[memcg] * self.nr_nodes + lruvec % self.nr_nodes

    def lruvec_page_state(self, lruvec, item):
        """A counter of a lruvec and of all below it, as of the last flush. Linux: lruvec_page_state()."""
        if lruvec < self.nr_nodes:
            return self.node_stat[lruvec, item]
        return self.lruvec_total[lruvec, item]

    def nr_swap_pages(self, memcg, free):
        """How much of swap's ``free`` pages a row may have. Linux: mem_cgroup_get_nr_swap_pages()."""
        at: cython.long
        if self.memsw:
            return free
        while memcg > 0:
            at = memcg * NR_MEMCG_COUNTERS + MEMCG_COUNTER_SWAP
            free = min(free, self.counter[at].max - self.counter[at].usage)
            memcg = self.parent[memcg]
        return free

    # ------------------------------------------------------------------------------ for mm

    def force_charge(self, memcg, nr):
        """Charge above all limits. Linux: try_charge_memcg(), force."""
        self.counters.charge(memcg, MEMCG_COUNTER_MEMORY, nr)
        if self.memsw:
            self.counters.charge(memcg, MEMCG_COUNTER_SWAP, nr)

    def give_stock(self, memcg: cython.long, nr: cython.long):
        """Charged pages are kept for the CPU's next charge."""
        self.refill_stock(memcg, nr)

    def mod_node_state(self, memcg: cython.long, nid: cython.long, item: cython.int, nr: cython.long):
        """mod_lruvec_state(), for policy."""
        self.mod_lruvec_state(memcg * self.nr_nodes + nid, nid, item, nr)

    def stock(self, cpu):
        """(row, pages) that a CPU has charged in advance."""
        return int(self.stock_memcg[cpu]), int(self.stock_pages[cpu])
