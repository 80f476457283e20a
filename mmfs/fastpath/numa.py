# cython: language_level=3
"""NUMA hinting faults: an access to an entry that was made inaccessible to learn who uses the page, and from where.

kernel/numa_balancing.py has entries marked now and then (fastpath/numa_scan.py). The next access faults: the page may
move to the node of the CPU that accesses it, if it was not others' that used it last, or (memory tiering) if it is on a
slow node and was accessed soon after it was marked. What is learnt is counted for the task.

Linux: mm/memory.c, do_numa_page(); mm/huge_memory.c, do_huge_pmd_numa_page(); mm/mempolicy.c, mpol_misplaced();
mm/migrate.c, migrate_misplaced_folio(); kernel/sched/fair.c, should_numa_migrate_memory(), task_numa_fault().

Simplified: a huge page that entries map in parts stays where it is.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_NORMAL = cython.declare(cython.int, 1)
_TIERING = cython.declare(cython.int, 2)
_PID_BITS = cython.declare(cython.int, 8)
_PID_MASK = cython.declare(cython.long, 0xFF)
_CPUPID_MASK = cython.declare(cython.long, (1 << 21) - 1)
_GB_PAGES = cython.declare(cython.long, 1 << 30 - PAGE_SHIFT)
_NO_NODE = cython.declare(cython.int, -1)
_MEM_BUF = cython.declare(cython.int, 2)  # enum numa_faults_stats
_CPU_BUF = cython.declare(cython.int, 3)
_FAILED = cython.declare(cython.int, 2)  # of ``locality``: remote, local, failed
_STEPS = cython.declare(cython.long, 16)  # Linux: NUMA_MIGRATION_ADJUST_STEPS


class TaskNuma:
    """What is known of a task's hinting faults: the NUMA fields of struct task_struct.

    ``fault_counts`` int64 [4 * nodes * 2]: of its memory's nodes and its CPUs' nodes, averaged, then since the last
    scan; shared, then private. ``localities`` int64 [3]: faults since the scan period was set last, remote, local, and
    failed migrations. ``migrate_retry`` in ms: when placement is due; ``due``: it is.
    """

    def __init__(self, pid, nr_nodes):
        self.pid = pid
        self.nr_nodes = nr_nodes
        self.fault_counts = np.zeros(8 * nr_nodes, np.int64)
        self.localities = np.zeros(3, np.int64)
        self.fault = view(self.fault_counts)
        self.locality = view(self.localities)
        self.preferred_nid = _NO_NODE
        self.scan_seq = self.pages_migrated = self.migrate_retry = 0
        self.has_faults = self.due = False


class Numa:
    """The hinting faults of a machine; ``mode``: kernel.numa_balancing, 1 normal, 2 memory tiering.

    ``task``: who runs, and ``now_ms`` when. ``hot_threshold`` (ms), ``rate_limit`` (pages a second),
    ``scan_period_max`` (ms): what limits promotion. ``rates`` int64 [nodes, 5]: the state of that. ``wake``: nodes that
    are too full for what would move there.
    """

    def __init__(self, areas, migration, nr_nodes):
        self.areas = areas
        self.migration = migration
        self.frames = self.migration.frames
        self.buddy = self.migration.buddy
        self.memcg = self.migration.memcg
        self.event = self.migration.event
        self.zone_stat = self.migration.zone_stat
        self.vma = self.migration.vma
        self.tlb = self.migration.tlb
        self.huge = self.migration.split.huge
        self.several = nr_nodes > 1
        self.toptier = self.migration.toptier
        self.rates = np.zeros((nr_nodes, 5), np.int64)
        self.rate = view(self.rates)
        self.node_stat = self.memcg.node_stat
        self.mode = 0
        self.hot_threshold = 1000
        self.rate_limit = 65536 << 8
        self.scan_period_max = 60000
        self.wake = 0
        self.now_ms = 0
        self.task = TaskNuma(0, nr_nodes)
        self.flag_local = self.flag_migrated = self.flag_failed = False

    # ------------------------------------------------------------------------------ who used a page last

    def last_cpupid(self, folio):
        """The CPU and process that faulted on it last, or when it was marked (slow memory); all ones: unknown.

        Linux: folio_last_cpupid().
        """
        return self.migration.last_cpupid(folio) if self.several else _CPUPID_MASK

    def xchg_last_cpupid(self, folio, cpupid):
        """Note a new one; the one before. Linux: folio_xchg_last_cpupid(), folio_xchg_access_time()."""
        last: cython.long = self.last_cpupid(folio)
        if self.several:
            self.migration.set_cpupid(folio, cpupid & _CPUPID_MASK)
        return last

    def use_access_time(self, nid):
        """Whether of a node's pages the time of marking is noted, not who used them. Linux: folio_use_access_time()."""
        return self.mode & _TIERING != 0 and not self.toptier[nid]

    # ------------------------------------------------------------------------------ whether to move it

    def free_space_enough(self, nid):
        """Whether a fast node has so much free that anything may come. Linux: pgdat_free_space_enough()."""
        zone: cython.long
        present: cython.long = 0
        mark: cython.long
        for zone in range(nid * MAX_NR_ZONES, (nid + 1) * MAX_NR_ZONES):
            present += self.buddy.zone[zone].managed
        for zone in range((nid + 1) * MAX_NR_ZONES - 1, nid * MAX_NR_ZONES - 1, -1):
            if self.buddy.zone[zone].managed == 0:
                continue
            mark = self.buddy.zone[zone].wmark_promo + self.buddy.zone[zone].watermark_boost
            mark += max(_GB_PAGES, present >> 4)
            if self.buddy.watermark_ok_with(zone, 0, mark, ZONE_MOVABLE, 0, self.zone_stat[zone, NR_FREE_PAGES]):
                return True
        return False

    def adjust_threshold(self, nid):
        """How soon after marking a page must be accessed to be hot, so that about ``rate_limit`` are; in ms.

        Linux: numa_promotion_adjust_threshold().
        """
        wanted: cython.long
        came: cython.long
        unit: cython.long = self.hot_threshold * 2 // _STEPS
        threshold: cython.long = self.rate[nid, 4] if self.rate[nid, 4] else self.hot_threshold
        if self.now_ms - self.rate[nid, 2] > self.scan_period_max:
            self.rate[nid, 2] = self.now_ms
            wanted = self.rate_limit * self.scan_period_max // 1000
            came = self.node_stat[nid, PGPROMOTE_CANDIDATE] - self.rate[nid, 3]
            if came > wanted * 11 // 10:
                threshold = max(threshold - unit, unit)
            elif came < wanted * 9 // 10:
                threshold = min(threshold + unit, self.hot_threshold * 2)
            self.rate[nid, 3] = self.node_stat[nid, PGPROMOTE_CANDIDATE]
            self.rate[nid, 4] = threshold
        return threshold

    def rate_limited(self, nid, nr):
        """Count candidates; whether there were enough in this second. Linux: numa_promotion_rate_limit()."""
        came: cython.long
        self.node_stat[nid, PGPROMOTE_CANDIDATE] += nr
        came = self.node_stat[nid, PGPROMOTE_CANDIDATE]
        if self.now_ms - self.rate[nid, 0] > 1000:
            self.rate[nid, 0] = self.now_ms
            self.rate[nid, 1] = came
        return came - self.rate[nid, 1] >= self.rate_limit

    def is_hot(self, folio, nid, nr):
        """Whether a page of slow memory is to be promoted to a node. Linux: should_numa_migrate_memory()."""
        threshold: cython.long
        latency: cython.long
        if self.free_space_enough(nid):
            self.rate[nid, 4] = 0
            self.node_stat[nid, PGPROMOTE_CANDIDATE_NRL] += nr
            return True
        threshold = self.adjust_threshold(nid)
        latency = (self.now_ms - self.xchg_last_cpupid(folio, self.now_ms)) & _CPUPID_MASK
        return latency < threshold and not self.rate_limited(nid, nr)

    def should_migrate(self, folio, source, nid, nr):
        """Whether a page that a node's CPU accesses is to move there. Linux: should_numa_migrate_memory()."""
        last: cython.long
        same: cython.bint
        cpu: cython.long
        if self.buddy.zonelist[nid, 0] < 0 or self.buddy.zone[self.buddy.zonelist[nid, 0]].nid != nid:
            return False
        if self.use_access_time(source):
            return self.is_hot(folio, nid, nr)
        last = self.xchg_last_cpupid(folio, self.buddy.cpu << _PID_BITS | self.task.pid & _PID_MASK)
        cpu = last >> _PID_BITS
        if not self.mode & _TIERING and not self.toptier[source] and cpu >= self.buddy.nr_cpus:
            return False
        same = (last & _PID_MASK) == (self.task.pid & _PID_MASK)
        if (self.task.preferred_nid == _NO_NODE or self.task.scan_seq <= 4) and (
            same or (last & _PID_MASK) == _PID_MASK
        ):
            return True
        if (last & _PID_MASK) != _PID_MASK and (cpu >= self.buddy.nr_cpus or self.buddy.cpu_node[cpu] != nid):
            return False
        return True

    def mpol_misplaced(self, folio, vma, source, nr):
        """The node that a page should be on, -1 if it is well where it is. Linux: mpol_misplaced().

        A policy that was set says nothing of hinting faults.
        """
        nid: cython.int = self.buddy.cpu_node[self.buddy.cpu]
        if self.vma[vma].policy != 0 or source == nid or not self.should_migrate(folio, source, nid, nr):
            return _NO_NODE
        return nid

    # ------------------------------------------------------------------------------ moving it

    def is_shared(self, folio):
        """Whether several processes seem to map it. Linux: folio_likely_mapped_shared()."""
        if folio >= self.frames.huge:
            return self.migration.huge.likely_mapped_shared(folio)
        return self.frames.page[folio].mapcount > 1

    def balanced(self, nid, nr):
        """Whether a node has room for so many more without its kswapd. Linux: migrate_balanced_pgdat()."""
        zone: cython.long
        mark: cython.long
        for zone in range((nid + 1) * MAX_NR_ZONES - 1, nid * MAX_NR_ZONES - 1, -1):
            if self.buddy.zone[zone].managed == 0:
                continue
            mark = self.buddy.zone[zone].wmark_high + self.buddy.zone[zone].watermark_boost + nr
            if self.buddy.watermark_ok(zone, 0, mark, ZONE_MOVABLE, ALLOC_CMA):
                return True
        return False

    def prepare(self, folio, vma, nid, nr):
        """Whether a page may be moved and can be taken off its list. Linux: migrate_misplaced_folio_prepare()."""
        flags: cython.uint = self.frames.page[folio].flags
        if not flags & (PG_ANON | PG_SWAPBACKED):
            if (self.vma[vma].flags & VMF_EXEC and self.is_shared(folio)) or flags & PG_DIRTY:
                return False
        if not self.balanced(nid, nr):
            if self.mode & _TIERING:
                self.wake |= cython.cast(cython.ulong, 1) << nid
            return False
        return flags & PG_LRU != 0 and (nr == 1 or self.migration.moves_whole(folio))

    def migrate_misplaced(self, folio, vma, nid, source):
        """Move a page; whether it has. Linux: migrate_misplaced_folio()."""
        order: cython.int = self.frames.folio_order(folio)
        nr: cython.long = 1 << order
        memcg: cython.long = self.frames.page[folio].memcg
        dst: cython.long
        moved: cython.bint = False
        if not self.prepare(folio, vma, nid, nr):
            return False
        self.migration.isolate(folio)
        dst = self.buddy.alloc(
            order, MIGRATE_MOVABLE, nid, ZONE_MOVABLE, ALLOC_WMARK_LOW, cython.cast(cython.ulong, 1) << nid
        )
        if dst >= 0 and order:
            self.migration.migrate_large(folio, dst)
            moved = True
        elif dst >= 0:
            moved = self.migration.migrate_folio(folio, dst)
            if moved:
                self.event[PGMIGRATE_SUCCESS] += 1
            else:
                self.buddy.free(dst, 0)
        if not moved:
            self.event[PGMIGRATE_FAIL] += nr
            if order == HPAGE_PMD_ORDER:
                self.event[THP_MIGRATION_FAIL] += 1
            self.migration.putback(folio)
            return False
        self.memcg.count_events(memcg, NUMA_PAGES_MIGRATED, nr)
        if self.mode & _TIERING and not self.toptier[source] and self.toptier[nid]:
            self.memcg.mod_lruvec_state(memcg * self.memcg.nr_nodes + nid, nid, PGPROMOTE_SUCCESS, nr)
        return True

    # ------------------------------------------------------------------------------ the fault

    def task_numa_fault(self, last, nid, nr):
        """Count a fault for the task that runs. Linux: task_numa_fault()."""
        private: cython.int = 1
        here: cython.int = self.buddy.cpu_node[self.buddy.cpu]
        if not self.toptier[nid] and (self.mode & _TIERING or last >> _PID_BITS >= self.buddy.nr_cpus):
            return
        if last != _CPUPID_MASK:
            private = (last & _PID_MASK) == (self.task.pid & _PID_MASK)
        self.task.has_faults = True
        if self.now_ms > self.task.migrate_retry:
            self.task.due = True
        if self.flag_migrated:
            self.task.pages_migrated += nr
        if self.flag_failed:
            self.task.locality[_FAILED] += nr
        self.task.fault[2 * (_MEM_BUF * self.task.nr_nodes + nid) + private] += nr
        self.task.fault[2 * (_CPU_BUF * self.task.nr_nodes + here) + private] += nr
        self.task.locality[1 if self.flag_local else 0] += nr

    def hint_fault(self, folio, vma, nr):
        """A page that somebody accesses: count that, and move it if it should be elsewhere; whether it has moved.

        Linux: numa_migrate_check(), and what is common to those who call it.
        """
        nid: cython.int = self.buddy.zone[self.frames.zone_of(folio)].nid
        last: cython.long = _CPUPID_MASK if self.use_access_time(nid) else self.last_cpupid(folio)
        target: cython.int
        self.flag_migrated = self.flag_failed = False
        self.flag_local = nid == self.buddy.cpu_node[self.buddy.cpu]
        self.memcg.count_events(self.frames.page[folio].memcg, NUMA_HINT_FAULTS, 1)
        if self.flag_local:
            self.event[NUMA_HINT_FAULTS_LOCAL] += 1
        target = self.mpol_misplaced(folio, vma, nid, nr)
        if target != _NO_NODE:
            self.flag_migrated = self.migrate_misplaced(folio, vma, target, nid)
            self.flag_failed = not self.flag_migrated
            if self.flag_migrated:
                nid = target
        self.task_numa_fault(last, nid, nr)
        return self.flag_migrated

    def can_change_writable(self, vma, entry, pfn):
        """Whether a write through the entry needs no fault. Linux: can_change_pte_writable()."""
        flags: cython.ulong = self.vma[vma].flags
        if not flags & VMF_WRITE:
            return False
        if flags & VMF_SHARED:
            return self.frames.page[pfn].flags & PG_SWAPBACKED != 0 or entry & PTE_DIRTY != 0
        return self.frames.page[pfn].flags & (PG_ANON | PG_ANON_EXCLUSIVE) == PG_ANON | PG_ANON_EXCLUSIVE

    def restore(self, vma, at, writable):
        """Have an entry give access again. Linux: numa_rebuild_single_mapping()."""
        keep: cython.ulong = PTE_PFN_MASK | PTE_DIRTY | PTE_SOFT_DIRTY | PTE_SPECIAL | PTE_PSE
        self.frames.entry[at] = (
            (self.frames.entry[at] & keep) | self.areas.prot(self.vma[vma].flags) | (PTE_RW if writable else 0)
        )

    def do_numa_page(self, vma, at):
        """A fault at an entry of a page. Linux: do_numa_page()."""
        pfn: cython.long = (self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT
        if self.frames.entry[at] & PTE_SPECIAL:
            self.restore(vma, at, False)
            return
        if self.frames.page[pfn].flags & PG_TAIL:
            self.rebuild_large(vma, at, pfn)
            return
        if not self.hint_fault(pfn, vma, 1):
            self.restore(vma, at, self.can_change_writable(vma, self.frames.entry[at], pfn))

    def rebuild_large(self, vma, at, pfn):
        """A fault at an entry of a part of a large folio: it moves, or all its entries here give access again.

        Linux: do_numa_page().
        """
        folio: cython.long = self.frames.folio_of(pfn)
        nr: cython.long = self.frames.nr_pages(folio)
        nid: cython.int = self.buddy.zone[self.frames.zone_of(folio)].nid
        last: cython.long = _CPUPID_MASK if self.use_access_time(nid) else self.last_cpupid(folio)
        if folio >= self.frames.mthp:
            if not self.hint_fault(folio, vma, nr):
                self.restore_large(vma, at, folio)
            return
        self.flag_migrated = False
        self.flag_local = nid == self.buddy.cpu_node[self.buddy.cpu]
        self.memcg.count_events(self.frames.page[folio].memcg, NUMA_HINT_FAULTS, 1)
        if self.flag_local:
            self.event[NUMA_HINT_FAULTS_LOCAL] += 1
        self.flag_failed = self.mpol_misplaced(folio, vma, nid, nr) != _NO_NODE
        self.restore_large(vma, at, folio)
        self.task_numa_fault(last, nid, nr)

    def restore_large(self, vma, at, folio):
        """Have the entries of a table that map a large folio's frames give access again.

        Linux: numa_rebuild_large_mapping().
        """
        first: cython.long = self.frames.folio_pfn(folio)
        end: cython.long = first + self.frames.nr_pages(folio)
        pfn: cython.long
        i: cython.long
        for i in range(at & -PTRS_PER_TABLE, (at & -PTRS_PER_TABLE) + PTRS_PER_TABLE):
            pfn = (self.frames.entry[i] & PTE_PFN_MASK) >> PAGE_SHIFT
            if self.frames.entry[i] & (PTE_PRESENT | PTE_GLOBAL) == PTE_GLOBAL and first <= pfn < end:
                self.restore(vma, i, self.can_change_writable(vma, self.frames.entry[i], pfn))

    def do_huge_pmd_numa_page(self, vma, pmd):
        """A fault at an entry of a huge page. Linux: do_huge_pmd_numa_page()."""
        folio: cython.long
        if self.frames.entry[pmd] & PTE_SPECIAL:
            self.restore(vma, pmd, False)
            return
        folio = self.huge.folio_of_pmd(self.frames.entry[pmd])
        if not self.hint_fault(folio, vma, HPAGE_PMD_NR):
            self.restore(vma, pmd, self.can_change_writable(vma, self.frames.entry[pmd], folio))

    def check_cpupid(self, pfn):
        """For tests: who used the page of a frame last, -1 if that is unknown."""
        last: cython.long = self.last_cpupid(self.frames.folio_of(pfn))
        return -1 if last == _CPUPID_MASK else last
