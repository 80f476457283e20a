"""Reclaim: what is taken back when free memory runs short, from where, and how hard it is tried.

Pages stand on lists by recency (fastpath/lru.py). Reclaim scans a part of each list, lru size >> priority: it begins
with priority 12 and, as long as too little comes of it, goes down to 0, where it looks at everything. How the scan is
shared between anonymous memory and files depends on what either has cost lately (pages that came back, pages that had
to be kept) and on swappiness (fastpath/scan_count.py). The loops over pages are the fast path's too
(fastpath/vmscan.py).

Two reclaim: kswapd, one a node, in the background, from the low watermark up to the high one (mm/kswapd.py), and
whoever finds no page above the min watermark, in its own time (`try_to_free_pages`). Both shrink a node step by step
(`NodeReclaim`), so that others get their turn in between.

Linux: mm/vmscan.c.

Simplified: no demotion between nodes; a file system that is asked to write a single page never does, as ext4.
"""

from __future__ import annotations

from enum import IntEnum
from signal import SIGKILL
from typing import TYPE_CHECKING, Final

from mmfs.fastpath.scan_count import ScanCount
from mmfs.fastpath.vmscan import ScanControl, Vmscan
from mmfs.mm.filemap import task_ns
from mmfs.mm.lru_gen_memcg import MemcgLruOp
from mmfs.mm.lru_gen_reclaim import LruGenNode, LruGenReclaim, LruvecEviction
from mmfs.mm.shrinker import Shrinkers
from mmfs.mm_types import (
    GFP_FS_BIT,
    GFP_HIGHUSER_MOVABLE,
    GFP_IO_BIT,
    GFP_KERNEL,
    GFP_RECLAIM_MASK,
    LRU_INACTIVE_ANON,
    MAX_NR_ZONES,
    PAGE_ALLOC_COSTLY_ORDER,
    SWAP_CLUSTER_MAX,
    ZONE_NORMAL,
    MemcgMemoryEvent,
    NodeStatItem,
    VmEventItem,
    ZoneStatItem,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.memcontrol import MemCgroup
    from mmfs.mm.mmzone import PglistData, Zone

DEF_PRIORITY: Final = 12
MAX_RECLAIM_RETRIES: Final = 16
NSEC_PER_JIFFY: Final = 4_000_000
SLICE_NS: Final = 1_000_000
PF_MEMALLOC: Final = 0x0000_0800
PF_KTHREAD: Final = 0x0020_0000
SIGKILL_MASK: Final = 1 << SIGKILL - 1


class Throttle(IntEnum):
    """Why a reclaimer waits. Linux: enum vmscan_throttle_state."""

    WRITEBACK = 0
    ISOLATED = 1
    NOPROGRESS = 2
    CONGESTED = 3


_TIMEOUT_NS = {Throttle.WRITEBACK: 25 * NSEC_PER_JIFFY, Throttle.NOPROGRESS: NSEC_PER_JIFFY,
               Throttle.CONGESTED: NSEC_PER_JIFFY}


def compact_gap(order: int) -> int:
    """Free pages beside a watermark that compaction wants. Linux: include/linux/compaction.h."""
    return 2 << order


def fatal_signal_pending(task: Task) -> bool:
    """Whether the task is about to die. Linux: include/linux/sched/signal.h."""
    return not task.alive or bool((task.pending | task.signal.shared_pending) & SIGKILL_MASK)


class Reclaim:
    """Reclaim of a machine: its loops, its shrinkers, and the balance between kinds of pages."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.vmstat = kernel.vmstat
        self.lru = kernel.lru
        self.loops = Vmscan(kernel.mmu.rmap, kernel.mmu.swap, kernel.mmu.filemap, kernel.vmstat)
        self.loops.budget_ns = SLICE_NS
        self.scan_count = ScanCount(self.loops)
        self.shrinkers = Shrinkers(kernel.vmstat)
        self.generations = LruGenReclaim(self)
        self.until_ns = 0
        """The time of a call in a wakeup, which runs ahead of the clock."""

    # -- words ----------------------------------------------------------------------------------------------

    def can_reclaim_anon_pages(self, memcg: int = 0) -> bool:
        """Whether a memory cgroup (row) has room in swap. Linux: can_reclaim_anon_pages()."""
        return bool(self.lru.memcg.nr_swap_pages(memcg, self.kernel.nr_swap_pages) > 0)

    def target(self, sc: ScanControl) -> MemCgroup | None:
        """For whose sake a run of reclaim is, None for the machine's. Linux: struct scan_control, target_mem_cgroup."""
        return None if sc.memcg < 0 else self.kernel.memcgs.rows[sc.memcg]

    def target_lruvec(self, pgdat: PglistData, sc: ScanControl) -> int:
        """The lruvec on a node that stands for all that this run may reclaim there."""
        return int(max(sc.memcg, 0) * self.lru.nr_nodes + pgdat.node_id)

    def swappiness(self, sc: ScanControl, memcg: MemCgroup) -> int:
        """How readily a memory cgroup's anonymous memory is swapped. Linux: sc_swappiness()."""
        if sc.proactive and sc.swappiness >= 0:
            return int(sc.swappiness)
        return self.kernel.memcgs.swappiness(memcg)

    def zone_reclaimable_pages(self, zone: Zone) -> int:
        """Pages that reclaim could look at, or what is free if there are none. Linux: zone_reclaimable_pages()."""
        state = self.vmstat.zone_stat[zone.index]
        nr = int(state[ZoneStatItem.NR_ZONE_INACTIVE_FILE] + state[ZoneStatItem.NR_ZONE_ACTIVE_FILE])
        if self.can_reclaim_anon_pages():
            nr += int(state[ZoneStatItem.NR_ZONE_INACTIVE_ANON] + state[ZoneStatItem.NR_ZONE_ACTIVE_ANON])
        return nr or int(state[ZoneStatItem.NR_FREE_PAGES])

    # -- time -----------------------------------------------------------------------------------------------

    def slice_over(self) -> bool:
        """Whether it is time to let others run."""
        return bool(self.loops.cpu_ns >= SLICE_NS)

    def write_unplug(self) -> int:
        """Send what the loops have written, at their own time, when disks have answered what came before.

        How long they wait then. Linux: block/blk-core.c, blk_finish_plug().
        """
        if not self.loops.nr_written:
            return 0
        self.loops.nr_written = 0
        kernel, now_ns = self.kernel, self.kernel.clock.now_ns + int(self.loops.cpu_ns)
        kernel.block_devices.complete_until(now_ns)
        kernel.swap_writes.write_unplug(now_ns)
        return kernel.swap_writes.write_throttle_ns(now_ns)

    def charge(self, task: Task | None) -> int:
        """What the loops have used is the task's, and what they have set going goes; how many ns."""
        used_ns = int(self.loops.cpu_ns)
        self.loops.cpu_ns = self.loops.nr_written = 0
        self.kernel.swap_writes.write_unplug()
        if self.loops.wake_flusher:
            self.loops.wake_flusher = False
            for bdi in self.kernel.bdis:
                bdi.wb.start_writeback()
        if task is not None and used_ns:
            self.kernel.scheduler.charge(task, system_ns=used_ns, memstall=True)
        self.set_time()
        return used_ns

    def set_time(self) -> None:
        """Tell the loops how late it is, for pages that are being read."""
        self.loops.now_ns = max(task_ns(self.kernel), self.until_ns)

    def cond_resched(self, task: Task | None) -> None:
        """Within direct reclaim: others may run. In a wakeup, and for a writer of a file, who has no time of his own,
        disks answer meanwhile. Linux: cond_resched()."""
        used_ns = self.charge(task)
        if task is None:
            now_ns = max(self.until_ns, self.kernel.clock.now_ns) + used_ns
            self._let_disks_answer(used_ns + self.kernel.swap_writes.write_throttle_ns(now_ns))
            return
        wait_ns = self.kernel.swap_writes.write_throttle_ns(self.kernel.scheduler.ready_ns(task))
        if wait_ns:
            self.kernel.io_wait(task, wait_ns, wait_ns)
        elif self.kernel.clock.running:
            self._let_disks_answer(used_ns)
        elif self.kernel.scheduler.backlog_ns(task) >= SLICE_NS:
            self.kernel.schedule(task)

    def age_node(self, pgdat: PglistData, sc: ScanControl) -> None:
        """Before kswapd shrinks a node. Linux: kswapd_age_node()."""
        if self.lru.enabled:
            self.generations.age_node(pgdat, sc)
        elif self.kernel.total_swap_pages and self.loops.inactive_is_low(pgdat.node_id, LRU_INACTIVE_ANON):
            for memcg in self.kernel.memcgs.root.descendants():
                self.loops.age_active_anon(memcg.row * self.lru.nr_nodes + pgdat.node_id, sc)

    def shrink_node(self, pgdat: PglistData, sc: ScanControl) -> NodeReclaim | LruGenNode:
        """Begin to shrink a node, by the lists that rule. Linux: shrink_node()."""
        if not sc.kswapd:
            self.set_time()
        if self.lru.enabled and sc.memcg <= 0:
            return LruGenNode(self.generations, pgdat, sc)
        return NodeReclaim(self, pgdat, sc)

    def get_scan_count(self, pgdat: PglistData, sc: ScanControl, memcg: MemCgroup) -> None:
        """Set how many pages of each list of a lruvec are to be scanned. Linux: get_scan_count()."""
        number = memcg.row * self.lru.nr_nodes + pgdat.node_id
        least, low = memcg.protection(self.target(sc))
        self.scan_count.get_scan_count(number, sc, self.swappiness(sc, memcg), least, low)

    def snapshot_refaults(self, pgdat: PglistData, sc: ScanControl) -> None:
        """Remember how many refaults there were, to tell new ones. Linux: snapshot_refaults()."""
        if self.lru.enabled:
            return
        number, fast = self.target_lruvec(pgdat, sc), self.lru.memcg
        lruvec = self.lru.lruvecs[number]
        lruvec["refaults_anon"] = fast.lruvec_page_state(number, NodeStatItem.WORKINGSET_ACTIVATE_ANON)
        lruvec["refaults_file"] = fast.lruvec_page_state(number, NodeStatItem.WORKINGSET_ACTIVATE_FILE)

    # -- direct reclaim -------------------------------------------------------------------------------------------

    def try_to_free_pages(self, task: Task | None, order: int, gfp: int, zonelist: list[Zone], highest: int) -> int:
        """Reclaim for an allocation; how many pages, 0 if it is hopeless. Linux: try_to_free_pages()."""
        sc = ScanControl(gfp, order, DEF_PRIORITY, highest, SWAP_CLUSTER_MAX)
        sc.may_writepage = not self.kernel.vm.laptop_mode
        sc.may_swap = True
        if self._throttle_direct_reclaim(task, gfp, zonelist):
            return 1
        return DirectReclaim(self, task, zonelist, sc).run()

    def try_to_free_mem_cgroup_pages(
        self, task: Task | None, memcg: MemCgroup, nr_pages: int, gfp: int, *, may_swap: bool = True,
        proactive: bool = False, swappiness: int = -1,
    ) -> int:  # fmt: skip
        """Reclaim from a memory cgroup and those below it; how many pages. Linux: try_to_free_mem_cgroup_pages()."""
        sc = ScanControl(
            gfp & GFP_RECLAIM_MASK | GFP_HIGHUSER_MOVABLE & ~GFP_RECLAIM_MASK, 0, DEF_PRIORITY, MAX_NR_ZONES - 1,
            max(nr_pages, SWAP_CLUSTER_MAX),
        )  # fmt: skip
        sc.memcg = memcg.row
        sc.may_writepage = not self.kernel.vm.laptop_mode
        sc.may_swap, sc.proactive, sc.swappiness = may_swap, proactive, swappiness
        cpu = self.kernel.page_alloc.buddy.cpu
        nid = int(self.kernel.page_alloc.buddy.cpu_nodes[cpu])
        set_flag = task is not None and not task.flags & PF_MEMALLOC
        self.loops.workingset.target = memcg.row
        try:
            if task is not None and set_flag:
                task.flags |= PF_MEMALLOC
            return DirectReclaim(self, task, self.kernel.node_data[nid].node_zonelists, sc).run()
        finally:
            self.loops.workingset.target = 0
            if task is not None and set_flag:
                task.flags &= ~PF_MEMALLOC

    def allow_direct_reclaim(self, pgdat: PglistData) -> bool:
        """Whether the reserves are large enough not to wait for kswapd. Linux: allow_direct_reclaim()."""
        if pgdat.kswapd_failures >= MAX_RECLAIM_RETRIES:
            return True
        reserve = free = 0
        for zone in pgdat.node_zones[: ZONE_NORMAL + 1]:
            if zone.managed() and self.zone_reclaimable_pages(zone):
                reserve += zone.min_wmark_pages()
                free += self.vmstat.zone_page_state(zone.index, ZoneStatItem.NR_FREE_PAGES)
        if not reserve or free > reserve // 2:
            return True
        pgdat.kswapd_highest_zoneidx = min(pgdat.kswapd_highest_zoneidx, ZONE_NORMAL)
        self.kernel.kswapds[pgdat.node_id].wake_up()
        return False

    def _throttle_direct_reclaim(self, task: Task | None, gfp: int, zonelist: list[Zone]) -> bool:
        """Wait for kswapd while the reserves are low; whether the task is to die. Linux: throttle_direct_reclaim().

        Simplified: within a step of a program kswapd cannot run, so the wait is a jiffy, and the task reclaims itself.
        """
        if task is None or task.flags & PF_KTHREAD or fatal_signal_pending(task):
            return False
        pgdat = next((zone.zone_pgdat for zone in zonelist if zone.zone_idx <= ZONE_NORMAL), None)
        if pgdat is None or self.allow_direct_reclaim(pgdat):
            return False
        self.vmstat.count_vm_events(VmEventItem.PGSCAN_DIRECT_THROTTLE)
        for _ in range(1 if self.kernel.clock.running else 250):
            self.schedule_timeout(task, NSEC_PER_JIFFY)
            if self.allow_direct_reclaim(pgdat) or fatal_signal_pending(task):
                break
        return fatal_signal_pending(task)

    def schedule_timeout(self, task: Task | None, ns: int) -> None:
        """Wait; in a wakeup, and for a writer of a file, disks answer meanwhile."""
        kernel = self.kernel
        if task is not None:
            kernel.schedule_timeout(task, ns, memstall=True)
        if task is None or kernel.clock.running:
            self._let_disks_answer(ns)

    def _let_disks_answer(self, ns: int) -> None:
        """In a wakeup: so much more of the call's time is over."""
        self.until_ns = max(self.until_ns, self.kernel.clock.now_ns) + ns
        self.kernel.block_devices.complete_until(self.until_ns)

    def shrink_slab(self, pgdat: PglistData, memcg: MemCgroup, sc: ScanControl) -> int:
        """Have shrinkers give up what a cgroup has on a node; how many pages came of it. Linux: shrink_slab().

        Simplified: all objects of shrinkers are the root's.
        """
        return self.shrinkers.shrink_slab(pgdat.node_id, sc.priority)[1] if memcg.is_root else 0

    # -- pages that somebody names ------------------------------------------------------------------------------

    def reclaim_pages(self, task: Task | None, pfns: NDArray[np.int64]) -> int:
        """Reclaim pages whether they are in use or not; how many went. Linux: reclaim_pages()."""
        sc = ScanControl(GFP_KERNEL)
        sc.may_writepage = sc.may_swap = True
        self.set_time()
        freed = int(self.loops.reclaim_pages(pfns, sc))
        self.cond_resched(task)
        return freed

    # -- waiting ----------------------------------------------------------------------------------------------------

    def skip_throttle_noprogress(self, pgdat: PglistData) -> bool:
        """Whether waiting would not help. Linux: skip_throttle_noprogress()."""
        if pgdat.kswapd_failures >= MAX_RECLAIM_RETRIES:
            return True
        zones = [zone for zone in pgdat.node_zones if zone.managed()]
        reclaimable = sum(self.zone_reclaimable_pages(zone) for zone in zones)
        pending = sum(self.vmstat.zone_page_state(z.index, ZoneStatItem.NR_ZONE_WRITE_PENDING) for z in zones)
        return 2 * pending <= reclaimable

    def throttle_ns(self, pgdat: PglistData, reason: Throttle) -> int:
        """How long to wait for this reason. Linux: reclaim_throttle()."""
        if reason in (Throttle.CONGESTED, Throttle.NOPROGRESS) and self.skip_throttle_noprogress(pgdat):
            return 0
        return _TIMEOUT_NS[reason]


class MemCgroupWalk:
    """The cgroups whose turn it is on a node, those passed over that are protected. Linux: shrink_node_memcgs().

    kswapd goes through all of them. Others go on where the last one has stopped, and only as far as they need to.
    """

    def __init__(self, reclaim: Reclaim, pgdat: PglistData, sc: ScanControl) -> None:
        memcgs = reclaim.kernel.memcgs
        self.sc = sc
        self.nid = pgdat.node_id
        self.target = reclaim.target(sc)
        self.root = self.target or memcgs.root
        self.partial = not (sc.kswapd or sc.full_walk)
        self.order: Iterator[MemCgroup] = self.root.descendants()
        if self.partial and (position := self.root.positions.get(self.nid)) is not None:
            for memcg in self.order:
                if memcg is position:
                    break
        self.started = False

    def next(self) -> MemCgroup | None:
        """The next that may be shrunk, None at the end."""
        if self.partial and self.started and self.sc.nr_reclaimed >= self.sc.nr_to_reclaim:
            return None
        while True:
            memcg = self._iter()
            if memcg is None or self._eligible(memcg):
                return memcg

    def _iter(self) -> MemCgroup | None:
        """Linux: mm/memcontrol.c, mem_cgroup_iter()."""
        memcg = next(self.order, None)
        if self.partial:
            if memcg is None and not self.started:
                self.order = self.root.descendants()
                memcg = next(self.order)
            self.root.positions[self.nid] = memcg
        self.started = True
        return memcg

    def _eligible(self, memcg: MemCgroup) -> bool:
        """Whether its protection lets it be shrunk."""
        memcg.calculate_protection(self.target)
        if memcg.below_min(self.target):
            return False
        if memcg.below_low(self.target):
            if not self.sc.memcg_low_reclaim:
                self.sc.memcg_low_skipped = True
                return False
            memcg.event(MemcgMemoryEvent.MEMCG_LOW)
        return True


class NodeReclaim:
    """Shrinking one node, step by step. Linux: shrink_node()."""

    def __init__(self, reclaim: Reclaim, pgdat: PglistData, sc: ScanControl) -> None:
        self.reclaim = reclaim
        self.pgdat = pgdat
        self.sc = sc
        self.throttle: Throttle | None = None
        """Set at the end: why the reclaimer should wait now."""
        self._begin()

    def _begin(self) -> None:
        reclaim, sc = self.reclaim, self.sc
        sc.clear_counts()
        self.nr_reclaimed = sc.nr_reclaimed
        sc.node_dirty, sc.node_writeback = self.pgdat.dirty, self.pgdat.writeback
        if not reclaim.lru.enabled:
            reclaim.scan_count.prepare_scan_control(reclaim.target_lruvec(self.pgdat, sc), sc)
        self.walk = MemCgroupWalk(reclaim, self.pgdat, sc)
        self.memcg: MemCgroup | None = None
        self.eviction: LruvecEviction | None = None

    def _shrink_node_memcgs(self) -> bool:
        """Shrink one cgroup after the other; False: the slice is over. Linux: shrink_node_memcgs()."""
        reclaim, sc = self.reclaim, self.sc
        if self.memcg is None:
            self.memcg = self.walk.next()
            if self.memcg is None:
                return True
            if reclaim.lru.enabled:
                self.eviction = reclaim.generations.begin_lruvec(self.memcg, self.pgdat, sc)
            else:
                reclaim.get_scan_count(self.pgdat, sc, self.memcg)
        if not self._shrink_lruvec(self.memcg):
            return False
        sc.nr_reclaimed += reclaim.shrink_slab(self.pgdat, self.memcg, sc)
        self.memcg = None
        return False

    def _shrink_lruvec(self, memcg: MemCgroup) -> bool:
        """Linux: shrink_lruvec()."""
        reclaim, eviction = self.reclaim, self.eviction
        if eviction is None:
            number = memcg.row * reclaim.lru.nr_nodes + self.pgdat.node_id
            return bool(reclaim.loops.shrink_lruvec(number, self.sc, reclaim.kernel.total_swap_pages > 0))
        if not eviction.step():
            return False
        if eviction.aged:
            reclaim.kernel.lru_gen.memcg_lru[self.pgdat.node_id].rotate(eviction.lruvec, MemcgLruOp.YOUNG)
        return True

    def step(self) -> bool:
        """Work for a slice of time; whether the node is done."""
        sc, pgdat = self.sc, self.pgdat
        if not self._shrink_node_memcgs():
            return False
        if sc.kswapd:
            self._note_writeback()
        congested = sc.nr_dirty and sc.nr_dirty == sc.nr_congested
        if congested and sc.kswapd:
            pgdat.congested = True
        if not sc.kswapd and pgdat.congested:
            self.throttle = Throttle.CONGESTED
        progress = sc.nr_reclaimed - self.nr_reclaimed
        if self._should_continue(progress):
            self._begin()
            return False
        if progress:
            pgdat.kswapd_failures = 0
        elif sc.cache_trim_mode:
            sc.cache_trim_mode_failed = True
        return True

    def _note_writeback(self) -> None:
        """What kswapd learns about dirty pages and those being written."""
        sc, pgdat = self.sc, self.pgdat
        if sc.nr_writeback and sc.nr_writeback == sc.nr_taken:
            pgdat.writeback = True
        if sc.nr_unqueued_dirty == sc.nr_file_taken:
            pgdat.dirty = True
        if sc.nr_immediate:
            self.throttle = Throttle.WRITEBACK

    def _should_continue(self, nr_reclaimed: int) -> bool:
        """Whether to go on for a block that compaction could make then. Linux: should_continue_reclaim()."""
        sc, pgdat = self.sc, self.pgdat
        if not sc.order or not (sc.order > PAGE_ALLOC_COSTLY_ORDER or sc.priority < DEF_PRIORITY - 2):
            return False
        if not nr_reclaimed:
            return False
        for zone in pgdat.node_zones[: sc.reclaim_idx + 1]:
            if zone.managed() and zone.watermark_ok(sc.order, zone.min_wmark_pages(), sc.reclaim_idx):
                return False
        state = self.reclaim.vmstat.node_stat[pgdat.node_id]
        inactive = int(state[NodeStatItem.NR_INACTIVE_FILE])
        if self.reclaim.can_reclaim_anon_pages():
            inactive += int(state[NodeStatItem.NR_INACTIVE_ANON])
        return inactive > compact_gap(sc.order)


class DirectReclaim:
    """One call of direct reclaim. Linux: do_try_to_free_pages(), shrink_zones()."""

    def __init__(self, reclaim: Reclaim, task: Task | None, zonelist: list[Zone], sc: ScanControl) -> None:
        self.reclaim = reclaim
        self.kernel = reclaim.kernel
        self.task = task
        self.sc = sc
        self.zones = [zone for zone in zonelist if zone.zone_idx <= sc.reclaim_idx]
        self.nodes = list(dict.fromkeys(zone.zone_pgdat for zone in self.zones))

    def run(self) -> int:
        """Reclaim until there is enough or nothing more to be had; how many pages."""
        sc = self.sc
        while True:
            self._priorities()
            for pgdat in self.nodes:
                self.reclaim.snapshot_refaults(pgdat, sc)
            if sc.nr_reclaimed:
                return int(sc.nr_reclaimed)
            if sc.compaction_ready:
                return 1
            if not sc.full_walk:
                sc.full_walk = True
            elif sc.skipped_deactivate:
                sc.force_deactivate, sc.skipped_deactivate = True, False
            elif sc.memcg_low_skipped:
                sc.force_deactivate, sc.memcg_low_reclaim, sc.memcg_low_skipped = False, True, False
            else:
                return 0

    def _priorities(self) -> None:
        sc = self.sc
        if sc.memcg < 0:
            self.kernel.vmstat.count_vm_events(VmEventItem(VmEventItem.ALLOCSTALL_DMA + sc.reclaim_idx))
        sc.priority = DEF_PRIORITY
        while True:
            sc.nr_scanned = 0
            self._shrink_zones()
            if sc.nr_reclaimed >= sc.nr_to_reclaim or sc.compaction_ready:
                return
            if sc.priority < DEF_PRIORITY - 2:
                sc.may_writepage = True
            if not sc.priority:
                return
            sc.priority -= 1

    def _shrink_zones(self) -> None:
        sc = self.sc
        for pgdat in self.nodes:
            node = self.reclaim.shrink_node(pgdat, sc)
            while not node.step():
                self.reclaim.cond_resched(self.task)
            self.reclaim.cond_resched(self.task)
            if node.throttle is not None:
                self._wait(pgdat, node.throttle)
        if self.nodes and sc.priority == 1 and not sc.nr_reclaimed and not sc.nr_scanned >> 3 < sc.nr_reclaimed:
            self._wait(self.nodes[0], Throttle.NOPROGRESS)

    def _wait(self, pgdat: PglistData, reason: Throttle) -> None:
        ns = self.reclaim.throttle_ns(pgdat, reason)
        if ns and (self.task is None or not self.task.flags & PF_KTHREAD):
            self.reclaim.schedule_timeout(self.task, ns)


def gfp_has_io_fs(gfp: int) -> bool:
    """Whether a request may start I/O and enter file systems. Linux: gfp_has_io_fs()."""
    return gfp & (GFP_IO_BIT | GFP_FS_BIT) == GFP_IO_BIT | GFP_FS_BIT
