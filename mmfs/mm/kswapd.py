"""kswapd: the thread of each node that reclaims in the background.

An allocation that finds free memory at the low watermark wakes it (`wakeup_kswapd`). It shrinks the node, harder and
harder as long as too little comes of it (`BalancePgdat`), until some zone is back at its high watermark; then it naps
for a tenth of a second and goes to sleep if that still holds. A node from which nothing could be reclaimed 16 times in
a row is left to direct reclaim. After an allocation had to break up another kind's pageblock, watermarks are boosted
for a while: kswapd then frees that much, but writes and swaps nothing for it.

It runs by the clock, a slice at a time; what it has to remember stands in its objects.

Linux: mm/vmscan.c, kswapd() and below.

Simplified: those who wait for it (throttle_direct_reclaim()) look themselves, once a jiffy.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from mmfs.fastpath.scan_control import ScanControl
from mmfs.mm.compaction import compact_gap
from mmfs.mm.vmscan import MAX_RECLAIM_RETRIES, NSEC_PER_JIFFY
from mmfs.mm.vmscan_node import DEF_PRIORITY
from mmfs.mm_types import GFP_DIRECT_RECLAIM_BIT, GFP_KERNEL, MAX_NR_ZONES, PAGEBLOCK_ORDER, VmEventItem

if TYPE_CHECKING:
    from mmfs.kernel.clock import Timer
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.lru_gen_reclaim import LruGenNode
    from mmfs.mm.mmzone import PglistData, Zone
    from mmfs.mm.vmscan_node import NodeReclaim

NAP_NS: Final = 25 * NSEC_PER_JIFFY


def pgdat_balanced(kernel: Kernel, pgdat: PglistData, order: int, highest: int) -> bool:
    """Whether some zone up to `highest` has its high watermark. Linux: pgdat_balanced()."""
    return bool(kernel.reclaim.scan_count.pgdat_balanced(pgdat.node_id, order, highest))


class BalancePgdat:
    """One run of kswapd over its node. Linux: balance_pgdat()."""

    def __init__(self, kernel: Kernel, pgdat: PglistData, order: int, highest: int) -> None:
        self.kernel = kernel
        self.pgdat = pgdat
        self.highest = highest
        self.zones = [zone for zone in pgdat.node_zones[: highest + 1] if zone.managed()]
        self.sc = ScanControl(GFP_KERNEL, order, DEF_PRIORITY, highest)
        self.sc.kswapd = True
        self.boosts = {zone: zone.watermark_boost for zone in self.zones}
        self.nr_boost_reclaim = sum(self.boosts.values())
        self.boosted = self.nr_boost_reclaim > 0
        self.raise_priority = True
        self.nr_reclaimed = 0
        self.node: NodeReclaim | LruGenNode | None = None
        self.done = False
        kernel.vmstat.count_vm_events(VmEventItem.PAGEOUTRUN)
        self._set_reclaim_active(True)

    def _set_reclaim_active(self, active: bool) -> None:
        """Per-CPU lists stay short while kswapd works. Linux: update_reclaim_active()."""
        for zone in self.zones:
            zone.reclaim_active = active

    def step(self) -> None:
        """Work for a slice of time; sets `done` at the end."""
        if self.node is None and not self._next_round():
            self._finish()
        elif self.node is not None and self.node.step():
            self._end_round()

    def _next_round(self) -> bool:
        """Begin to shrink the node at this priority; False: it is balanced."""
        sc, pgdat = self.sc, self.pgdat
        balanced = pgdat_balanced(self.kernel, pgdat, sc.order, self.highest)
        if not balanced and self.nr_boost_reclaim:
            self.nr_boost_reclaim = 0
            sc.priority = DEF_PRIORITY
        if not self.nr_boost_reclaim and balanced:
            return False
        self.raise_priority = not (self.nr_boost_reclaim and sc.priority == DEF_PRIORITY - 2)
        sc.may_writepage = not self.kernel.vm.laptop_mode and not self.nr_boost_reclaim
        sc.may_swap = not self.nr_boost_reclaim
        self.kernel.reclaim.age_node(pgdat, sc)
        if sc.priority < DEF_PRIORITY - 2:
            sc.may_writepage = True
        sc.nr_scanned = 0
        sc.nr_to_reclaim = self.kernel.reclaim.scan_count.kswapd_target(pgdat.node_id, self.highest)
        self.nr_reclaimed = sc.nr_reclaimed
        self.node = self.kernel.reclaim.shrink_node(pgdat, sc)
        return True

    def _end_round(self) -> None:
        """The node was shrunk at this priority: at which to go on? Linux: kswapd_shrink_node(), balance_pgdat()."""
        sc = self.sc
        self.node = None
        progress = sc.nr_reclaimed - self.nr_reclaimed
        if sc.order and sc.nr_reclaimed >= compact_gap(sc.order):
            sc.order = 0
        if max(sc.nr_scanned, progress) >= sc.nr_to_reclaim:
            self.raise_priority = False
        self.nr_boost_reclaim -= min(self.nr_boost_reclaim, progress)
        if self.nr_boost_reclaim and not progress:
            self._give_up()
            return
        if self.raise_priority or not progress:
            sc.priority -= 1
        if sc.priority < 1:
            self._give_up()

    def _give_up(self) -> None:
        """All priorities are through."""
        sc = self.sc
        if not sc.nr_reclaimed and sc.priority < 1 and not sc.no_cache_trim_mode and sc.cache_trim_mode_failed:
            sc.no_cache_trim_mode = True
            sc.priority = DEF_PRIORITY
            return
        if not sc.nr_reclaimed:
            self.pgdat.kswapd_failures += 1
        self._finish()

    def _finish(self) -> None:
        self.done = True
        self._set_reclaim_active(False)
        if self.boosted:
            for zone, boost in self.boosts.items():
                zone.watermark_boost -= min(zone.watermark_boost, boost)
            self.kernel.kcompactds[self.pgdat.node_id].wakeup(PAGEBLOCK_ORDER, self.highest)
        self.kernel.reclaim.snapshot_refaults(self.pgdat, self.sc)


class State(IntEnum):
    """What kswapd does."""

    ASLEEP = 0
    NAPPING = 1
    BALANCING = 2


class Kswapd:
    """The kswapd of a node. Linux: kswapd(), kswapd_try_to_sleep()."""

    def __init__(self, kernel: Kernel, pgdat: PglistData) -> None:
        self.kernel = kernel
        self.pgdat = pgdat
        self._state = State.ASLEEP
        self.alloc_order = self.reclaim_order = 0
        self.highest = MAX_NR_ZONES - 1
        self.balance: BalancePgdat | None = None
        self._timer: Timer | None = None
        self._task: Task | None = None

    @property
    def state(self) -> State:
        """What it does."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        buddy, bit = self.kernel.page_alloc.buddy, 1 << self.pgdat.node_id
        buddy.kswapds_awake = buddy.kswapds_awake & ~bit | (bit if state is State.BALANCING else 0)

    @property
    def task(self) -> Task | None:
        """Its thread, once there is one."""
        if self._task is None:
            comm = f"kswapd{self.pgdat.node_id}"
            self._task = next((t for t in self.kernel.tasks.values() if t.is_kthread and t.comm == comm), None)
        return self._task

    def forget_task(self) -> None:
        """The thread has ended, or another one takes its place."""
        self._task = None

    # -- sleeping and waking --------------------------------------------------------------------------------

    def wakeup(self, gfp: int, order: int, highest: int) -> None:
        """A zone is low on memory, or boosted. Linux: wakeup_kswapd()."""
        pgdat = self.pgdat
        if pgdat.kswapd_highest_zoneidx in (MAX_NR_ZONES, *range(highest)):
            pgdat.kswapd_highest_zoneidx = highest
        pgdat.kswapd_order = max(pgdat.kswapd_order, order)
        if self.state is State.BALANCING:
            return
        boosted = any(zone.watermark_boost for zone in pgdat.node_zones[: highest + 1] if zone.managed())
        if pgdat.kswapd_failures < MAX_RECLAIM_RETRIES and (
            boosted or not pgdat_balanced(self.kernel, pgdat, order, highest)
        ):
            self.wake_up()
        elif not gfp & GFP_DIRECT_RECLAIM_BIT:
            self.kernel.kcompactds[pgdat.node_id].wakeup(order, highest)

    def wake_up(self) -> None:
        """Run as soon as a CPU is free. Linux: wake_up_interruptible(&pgdat->kswapd_wait)."""
        if self.state is State.BALANCING:
            return
        if self.state is State.NAPPING:
            pgdat = self.pgdat
            pgdat.kswapd_highest_zoneidx = self._highest_zoneidx(self.highest)
            pgdat.kswapd_order = max(pgdat.kswapd_order, self.reclaim_order)
            self.kernel.vmstat.count_vm_events(VmEventItem.KSWAPD_LOW_WMARK_HIT_QUICKLY)
        if self._timer is not None:
            self._timer.cancel()
        self.state = State.BALANCING
        self._timer = self.kernel.clock.add_timer(self.kernel.clock.now_ns, self.run)

    def _highest_zoneidx(self, before: int) -> int:
        """Linux: kswapd_highest_zoneidx()."""
        now = self.pgdat.kswapd_highest_zoneidx
        return before if now == MAX_NR_ZONES else now

    def _may_sleep(self) -> bool:
        """Linux: prepare_kswapd_sleep()."""
        pgdat = self.pgdat
        if pgdat.kswapd_failures >= MAX_RECLAIM_RETRIES:
            return True
        if pgdat_balanced(self.kernel, pgdat, self.reclaim_order, self.highest):
            pgdat.congested = pgdat.dirty = pgdat.writeback = False
            return True
        return False

    def _try_to_sleep(self) -> None:
        """Nap if the node is balanced, else go on at once. Linux: kswapd_try_to_sleep(), its first half."""
        if self._may_sleep():
            self.kernel.compactor.reset_isolation_suitable(self.pgdat)
            self.kernel.kcompactds[self.pgdat.node_id].wakeup(self.alloc_order, self.highest)
            self.state = State.NAPPING
            self._timer = self.kernel.clock.add_timer(self.kernel.clock.now_ns + NAP_NS, self._nap_over)
        else:
            self.kernel.vmstat.count_vm_events(VmEventItem.KSWAPD_HIGH_WMARK_HIT_QUICKLY)
            self._timer = self.kernel.clock.add_timer(self.kernel.clock.now_ns, self.run)

    def _nap_over(self) -> None:
        """Nobody has woken it meanwhile. Linux: kswapd_try_to_sleep(), its second half."""
        self._timer = None
        if self._may_sleep():
            self.state = State.ASLEEP
            return
        self.kernel.vmstat.count_vm_events(VmEventItem.KSWAPD_HIGH_WMARK_HIT_QUICKLY)
        self.state = State.BALANCING
        self.run()

    # -- working --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """A slice of work, and when the next comes."""
        kernel, task = self.kernel, self.task
        self._timer = None
        current, cpu = kernel.tasks.current, kernel.page_alloc.buddy.cpu
        if task is not None:
            kernel.tasks.current, kernel.page_alloc.buddy.cpu = task, task.processor
        if self.balance is None:
            self._read_request()
            self.balance = BalancePgdat(kernel, self.pgdat, self.alloc_order, self.highest)
        balance = self.balance
        kernel.reclaim.set_time()
        node, io_wait_ns = None, 0
        while not balance.done and not io_wait_ns and not kernel.reclaim.slice_over():
            node = balance.node
            balance.step()
            io_wait_ns = kernel.reclaim.write_unplug()
        kernel.reclaim.charge(task)
        kernel.tasks.current, kernel.page_alloc.buddy.cpu = current, cpu
        if balance.done:
            self._balanced(balance)
        elif io_wait_ns:
            self._continue(io_wait_ns, io=True)
        elif node is not None and node.throttle is not None and balance.node is not node:
            self._continue(kernel.reclaim.throttle_ns(self.pgdat, node.throttle))
        else:
            self._continue()

    def _continue(self, wait_ns: int = 0, io: bool = False) -> None:
        """Run again when the work is done, after a wait for the disk (`io`) or for others.

        All of it is a stall on memory. Linux: balance_pgdat(), psi_memstall_enter().
        """
        task = self.task
        if task is not None:
            if wait_ns:
                self.kernel.scheduler.wait(task, wait_ns, io=io, memstall=True)
            self.kernel.scheduler.call_when_ready(task, self.run)
        else:
            self._timer = self.kernel.clock.add_timer(self.kernel.clock.now_ns + wait_ns, self.run)

    def _read_request(self) -> None:
        """What was asked for since: order and highest zone."""
        pgdat = self.pgdat
        self.alloc_order = pgdat.kswapd_order
        self.highest = self._highest_zoneidx(self.highest)
        pgdat.kswapd_order, pgdat.kswapd_highest_zoneidx = 0, MAX_NR_ZONES

    def _balanced(self, balance: BalancePgdat) -> None:
        """A run is over: sleep, for the order that was reached."""
        self.balance = None
        self.reclaim_order = balance.sc.order
        if self.reclaim_order >= self.alloc_order:
            self.alloc_order = self.reclaim_order = self.pgdat.kswapd_order
            self.highest = self._highest_zoneidx(self.highest)
        self._try_to_sleep()


def wake_boosted(kernel: Kernel) -> None:
    """Allocations have raised the watermarks of zones: their kswapds work towards these. Linux: rmqueue()."""
    kernel.page_alloc.buddy.wake_kswapd = False
    for zone in kernel.zones:
        if zone.watermark_boost:
            kernel.kswapds[zone.zone_pgdat.node_id].wakeup(0, 0, zone.zone_idx)


def wake_all_kswapds(kernel: Kernel, order: int, gfp: int, zonelist: list[Zone], highest: int) -> None:
    """Wake the kswapd of every node in a zonelist. Linux: mm/page_alloc.c, wake_all_kswapds()."""
    nodes = dict.fromkeys(zone.zone_pgdat for zone in zonelist if zone.managed())
    for pgdat in nodes:
        kernel.kswapds[pgdat.node_id].wakeup(gfp, order, highest)
