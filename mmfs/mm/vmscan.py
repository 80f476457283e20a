"""Reclaim: what is taken back when free memory runs short, from where, and how hard it is tried.

Pages stand on lists by recency (fastpath/lru.py). Reclaim scans a part of each list, lru size >> priority: it begins
with priority 12 and, as long as too little comes of it, goes down to 0, where it looks at everything. How the scan is
shared between anonymous memory and files depends on what either has cost lately (pages that came back, pages that had
to be kept) and on swappiness (fastpath/scan_count.py). The loops over pages are the fast path's too
(fastpath/vmscan.py).

Two reclaim: kswapd, one a node, in the background, from the low watermark up to the high one (mm/kswapd.py), and
whoever finds no page above the min watermark, in its own time (`try_to_free_pages`). Both shrink a node step by step
(mm/vmscan_node.py), so that others get their turn in between.

Linux: mm/vmscan.c.

Simplified: a file system that is asked to write a single page never does, as ext4.
"""

from __future__ import annotations

from signal import SIGKILL
from typing import TYPE_CHECKING, Final

from mmfs.fastpath.folio_reclaim import FolioReclaim
from mmfs.fastpath.scan_control import ScanControl
from mmfs.fastpath.scan_count import ScanCount
from mmfs.fastpath.vmscan import Vmscan
from mmfs.mm.compaction import compact_gap
from mmfs.mm.filemap import task_ns
from mmfs.mm.lru_gen_reclaim import LruGenNode, LruGenReclaim
from mmfs.mm.shrinker import Shrinkers
from mmfs.mm.vmscan_node import DEF_PRIORITY, NodeReclaim, Throttle
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
    ZONE_MOVABLE,
    ZONE_NORMAL,
    NodeStatItem,
    VmEventItem,
    ZoneStatItem,
)
from mmfs.profile import since

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.mem_cgroup import MemCgroup
    from mmfs.mm.mmzone import PglistData, Zone

MAX_RECLAIM_RETRIES: Final = 16
NSEC_PER_JIFFY: Final = 4_000_000
SLICE_NS: Final = 1_000_000
COUNTS_PROACTIVE: Final = since(6, 16)
"""Kernels that count apart what memory.reclaim takes: pgscan_proactive and its kin."""
PF_MEMALLOC: Final = 0x0000_0800
PF_KTHREAD: Final = 0x0020_0000
SIGKILL_MASK: Final = 1 << SIGKILL - 1
_TIMEOUT_NS = {Throttle.WRITEBACK: 25 * NSEC_PER_JIFFY, Throttle.NOPROGRESS: NSEC_PER_JIFFY,
               Throttle.CONGESTED: NSEC_PER_JIFFY}


def fatal_signal_pending(task: Task) -> bool:
    """Whether the task is about to die. Linux: include/linux/sched/signal.h."""
    return not task.alive or bool((task.pending | task.signal.shared_pending) & SIGKILL_MASK)


class Reclaim:
    """Reclaim of a machine: its loops, its shrinkers, and the balance between kinds of pages."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.vmstat = kernel.vmstat
        self.lru = kernel.lru
        mmu = kernel.mmu
        self.folios = FolioReclaim(
            mmu.huge_split, mmu.swap, mmu.filemap, mmu.compaction.migration, kernel.vmstat
        )
        self.loops = Vmscan(self.folios, kernel.vmstat)
        self.demotion = self.folios.demotion
        self.loops.budget_ns = SLICE_NS
        self.scan_count = ScanCount(self.loops, kernel.vmstat)
        self.shrinkers = Shrinkers(kernel.vmstat)
        self.generations = LruGenReclaim(self)
        self.until_ns = 0
        """The time of a call in a wakeup, which runs ahead of the clock."""

    # -- words ----------------------------------------------------------------------------------------------

    def can_demote(self, nid: int, sc: ScanControl | None = None) -> bool:
        """Whether what is cold on a node can move to a slower one. Linux: can_demote()."""
        demotion = self.demotion
        return bool(demotion.enabled and demotion.preferred[nid]) and (sc is None or not sc.no_demotion)

    def can_reclaim_anon_pages(self, nid: int, sc: ScanControl | None = None) -> bool:
        """Whether there is room in swap, or on a slower node. Linux: can_reclaim_anon_pages(), without a cgroup."""
        return self.kernel.nr_swap_pages > 0 or self.can_demote(nid, sc)

    def can_age_anon_pages(self, pgdat: PglistData, sc: ScanControl) -> bool:
        """Whether anonymous pages could ever be reclaimed. Linux: can_age_anon_pages()."""
        return self.kernel.total_swap_pages > 0 or self.can_demote(pgdat.node_id, sc)

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
        if self.can_reclaim_anon_pages(zone.zone_pgdat.node_id):
            nr += int(state[ZoneStatItem.NR_ZONE_INACTIVE_ANON] + state[ZoneStatItem.NR_ZONE_ACTIVE_ANON])
        return nr or int(state[ZoneStatItem.NR_FREE_PAGES])

    # -- time -----------------------------------------------------------------------------------------------

    def slice_over(self) -> bool:
        """Whether it is time to let others run."""
        return bool(self.folios.cpu_ns >= SLICE_NS)

    def write_unplug(self) -> int:
        """Send what the loops have written, at their own time, when disks have answered what came before.

        How long they wait then. Linux: block/blk-core.c, blk_finish_plug().
        """
        if not self.folios.nr_written:
            return 0
        self.folios.nr_written = 0
        kernel, now_ns = self.kernel, self.kernel.clock.now_ns + int(self.folios.cpu_ns)
        kernel.block_devices.complete_until(now_ns)
        kernel.swap_writes.write_unplug(now_ns)
        return kernel.swap_writes.write_throttle_ns(now_ns)

    def charge(self, task: Task | None) -> int:
        """What the loops have used is the task's, and what they have set going goes; how many ns."""
        used_ns = int(self.folios.cpu_ns)
        self.folios.cpu_ns = self.folios.nr_written = 0
        self.kernel.swap_writes.write_unplug()
        if self.demotion.wake:
            self._wake_targets()
        if self.loops.wake_flusher:
            self.loops.wake_flusher = False
            for bdi in self.kernel.bdis:
                bdi.wb.start_writeback()
        if task is not None and used_ns:
            self.kernel.scheduler.charge(task, system_ns=used_ns, memstall=True)
        self.set_time()
        return used_ns

    def _wake_targets(self) -> None:
        """Nodes that had little room for what was demoted: their kswapds make some. Linux: wake_all_kswapds()."""
        nodes, self.demotion.wake = int(self.demotion.wake), 0
        for kswapd in self.kernel.kswapds:
            if nodes >> kswapd.pgdat.node_id & 1:
                kswapd.wakeup(0, 0, ZONE_MOVABLE)

    def set_time(self) -> None:
        """Tell the loops how late it is, for pages that are being read."""
        self.folios.now_ns = self.demotion.migration.now_ns = max(task_ns(self.kernel), self.until_ns)

    def cond_resched(self, task: Task | None) -> None:
        """Within direct reclaim: others may run, and disks have answered what they can by now.

        What was written in one round may so be freed in the next. Linux: cond_resched().
        """
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
        else:
            self.kernel.block_devices.complete_until(self.kernel.scheduler.ready_ns(task))

    def age_node(self, pgdat: PglistData, sc: ScanControl) -> None:
        """Before kswapd shrinks a node. Linux: kswapd_age_node()."""
        if self.lru.enabled:
            self.generations.age_node(pgdat, sc)
        elif self.can_age_anon_pages(pgdat, sc) and self.loops.inactive_is_low(pgdat.node_id, LRU_INACTIVE_ANON):
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
        sc.khugepaged = self.kernel.khugepaged.running
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
        sc.count_proactive = proactive and COUNTS_PROACTIVE(self.kernel)
        sc.khugepaged = self.kernel.khugepaged.running
        cpu = self.kernel.page_alloc.buddy.cpu
        nid = int(self.kernel.page_alloc.buddy.cpu_nodes[cpu])
        set_flag = task is not None and not task.flags & PF_MEMALLOC
        self.folios.workingset.target = memcg.row
        try:
            if task is not None and set_flag:
                task.flags |= PF_MEMALLOC
            return DirectReclaim(self, task, self.kernel.node_data[nid].node_zonelists, sc).run()
        finally:
            self.folios.workingset.target = 0
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
        """Have shrinkers give up what a cgroup has on a node; how many pages came of it that count as reclaimed.

        Linux: shrink_slab(); flush_reclaim_state().
        """
        if not (memcg.is_root or memcg.online):
            return 0
        pages = self.shrinkers.shrink_slab(memcg.row * self.kernel.lru.nr_nodes + pgdat.node_id, sc.priority)[1]
        return pages if self.target(sc) is None else 0

    # -- pages that somebody names ------------------------------------------------------------------------------

    def reclaim_pages(self, task: Task | None, pfns: NDArray[np.int64]) -> int:
        """Reclaim pages whether they are in use or not; how many went. Linux: reclaim_pages()."""
        sc = ScanControl(GFP_KERNEL)
        sc.may_writepage = sc.may_swap = sc.no_demotion = True
        self.set_time()
        freed = int(self.folios.reclaim_pages(pfns, sc))
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


class DirectReclaim:
    """One call of direct reclaim. Linux: do_try_to_free_pages(), shrink_zones()."""

    def __init__(self, reclaim: Reclaim, task: Task | None, zonelist: list[Zone], sc: ScanControl) -> None:
        self.reclaim = reclaim
        self.kernel = reclaim.kernel
        self.task = task
        self.sc = sc
        self.zones = [zone for zone in zonelist if zone.zone_idx <= sc.reclaim_idx]
        self.nodes = list(dict.fromkeys(zone.zone_pgdat for zone in self.zones))
        self.waited = False

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
            elif not self._wait_on_writeback():
                return 0

    def _wait_on_writeback(self) -> bool:
        """Wait for what is being written to swap, as reclaim from a cgroup of v1 does; whether there was something.

        Linux: mm/vmscan.c, shrink_folio_list(), writeback_throttling_sane().

        Simplified: once, after a round without success, and for all of it, not for each page that is met.
        """
        if self.waited or self.sc.memcg < 0 or not self.kernel.lru.memcg.memsw:
            return False
        self.waited = True
        ns = self.kernel.swap_writes.last_ns()
        if ns:
            self.reclaim.schedule_timeout(self.task, ns)
        return ns > 0

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
        zones = [zone for zone in self.zones if not self._compaction_ready(zone)]
        for pgdat in dict.fromkeys(zone.zone_pgdat for zone in zones):
            node = self.reclaim.shrink_node(pgdat, sc)
            while not node.step():
                self.reclaim.cond_resched(self.task)
            self.reclaim.cond_resched(self.task)
            if node.throttle is not None:
                self._wait(pgdat, node.throttle)
        if self.nodes and sc.priority == 1 and not sc.nr_reclaimed and not sc.nr_scanned >> 3 < sc.nr_reclaimed:
            self._wait(self.nodes[0], Throttle.NOPROGRESS)

    def _compaction_ready(self, zone: Zone) -> bool:
        """Whether there is room for compaction, so that a zone need not be shrunk. Linux: compaction_ready()."""
        sc = self.sc
        if sc.memcg >= 0 or sc.order <= PAGE_ALLOC_COSTLY_ORDER:
            return False
        if not zone.watermark_ok(sc.order, zone.min_wmark_pages(), sc.reclaim_idx):
            mark = zone.high_wmark_pages() + compact_gap(sc.order)
            if not self.kernel.compactor.suitable(zone, sc.order, sc.reclaim_idx):
                return False
            if not zone.watermark_ok(0, mark, sc.reclaim_idx):
                return False
        sc.compaction_ready = True
        return True

    def _wait(self, pgdat: PglistData, reason: Throttle) -> None:
        ns = self.reclaim.throttle_ns(pgdat, reason)
        if ns and (self.task is None or not self.task.flags & PF_KTHREAD):
            self.reclaim.schedule_timeout(self.task, ns)


def gfp_has_io_fs(gfp: int) -> bool:
    """Whether a request may start I/O and enter file systems. Linux: gfp_has_io_fs()."""
    return gfp & (GFP_IO_BIT | GFP_FS_BIT) == GFP_IO_BIT | GFP_FS_BIT
