"""How many dirty pages there may be, and how a task that writes faster than the disk is slowed down.

Memory that may become dirty is what is free above the reserves and what the page cache holds. Beyond the background
threshold the flusher writes. Beyond the middle between both thresholds every task that dirties pages sleeps now and
then, such that together they dirty as fast as the disk writes, and the number of dirty pages stays near the setpoint
between there and the limit: the rate is the disk's measured bandwidth, divided among those who write, times a
polynomial of how far off the setpoint is.

Linux: mm/page-writeback.c.

Simplified: a disk has its share of the threshold by what it has written of late, in whole periods of three seconds;
no writeback domains of cgroups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from mmfs.mm.backing_dev import BDI_RATIO_SCALE
from mmfs.mm_types import PAGE_SIZE, NodeStatItem, ZoneStatItem

if TYPE_CHECKING:
    from mmfs.kernel.fs_writeback import BdiWriteback
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

_UINT_MAX = 0xFFFFFFFF
HZ: Final = 250
TICK_NSEC: Final = 1_000_000_000 // HZ
MAX_PAUSE: Final = HZ // 5
BANDWIDTH_INTERVAL: Final = HZ // 5
DIRTY_POLL_THRESH: Final = 32
RATELIMIT_CALC_SHIFT: Final = 10
BANDWIDTH_PERIOD: Final = 1024
"""Jiffies: roundup_pow_of_two(3 * HZ)."""
VM_COMPLETIONS_PERIOD_LEN: Final = 3 * HZ
AWAKE_PERIODS: Final = 3
"""While there is something to write, the flusher wakes so often."""


class DirtyLimits(Protocol):
    """The tunables that decide, by their names in /proc/sys/vm."""

    dirty_ratio: int
    dirty_bytes: int
    dirty_background_ratio: int
    dirty_background_bytes: int


def global_dirtyable_memory(
    zone_state: Sequence[int], node_state: Sequence[int], totalreserve_pages: int, highmem: int = 0
) -> int:
    """Pages that may become dirty, without ``highmem`` of them.

    Linux: mm/page-writeback.c, global_dirtyable_memory().
    """
    free = zone_state[ZoneStatItem.NR_FREE_PAGES]
    free -= min(free, totalreserve_pages)
    pages = free + node_state[NodeStatItem.NR_INACTIVE_FILE] + node_state[NodeStatItem.NR_ACTIVE_FILE]
    return pages - min(highmem, pages) + 1


def highmem_dirtyable_memory(kernel: Kernel) -> int:
    """Pages of high memory that may not become dirty: all that could, unless vm.highmem_is_dirtyable is set.

    Linux: mm/page-writeback.c, highmem_dirtyable_memory().
    """
    pages = 0
    if kernel.vm.highmem_is_dirtyable:
        return pages
    for zone in kernel.page_alloc.highmem_zones:
        free = zone.nr_free_pages
        state = kernel.vmstat.zone_stat[zone.index]
        pages += free - min(free, zone.high_wmark_pages())
        pages += int(state[ZoneStatItem.NR_ZONE_INACTIVE_FILE] + state[ZoneStatItem.NR_ZONE_ACTIVE_FILE])
    return pages


def global_dirty_limits(vm: DirtyLimits, dirtyable: int) -> tuple[int, int]:
    """(background threshold, threshold) in pages.

    Linux: mm/page-writeback.c, domain_dirty_limits().
    """
    thresh = _threshold(vm.dirty_bytes, vm.dirty_ratio, dirtyable)
    bg_thresh = _threshold(vm.dirty_background_bytes, vm.dirty_background_ratio, dirtyable)
    thresh = min(thresh, _UINT_MAX)
    return (bg_thresh if bg_thresh < thresh else thresh // 2), thresh


def _threshold(limit_bytes: int, ratio: int, dirtyable: int) -> int:
    if limit_bytes:
        return -(-limit_bytes // PAGE_SIZE)
    return ratio * PAGE_SIZE // 100 * dirtyable // PAGE_SIZE


def dirty_limits(
    kernel: Kernel, zone: Sequence[int] | None = None, node: Sequence[int] | None = None
) -> tuple[int, int]:
    """(background threshold, threshold) of the machine as it is now; ``zone`` and ``node``: its counters, if known."""
    zone = kernel.vmstat.zone_stat.sum(axis=0).tolist() if zone is None else zone
    node = kernel.vmstat.node_stat.sum(axis=0).tolist() if node is None else node
    reserve, highmem = kernel.page_alloc.totalreserve_pages, highmem_dirtyable_memory(kernel)
    return global_dirty_limits(kernel.vm, global_dirtyable_memory(zone, node, reserve, highmem))


class WbDomain:
    """What all disks share: the limit as it follows the threshold, and their completions.

    Linux: struct wb_domain; lib/flex_proportions.c.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.dirty_limit = 0
        self.dirty_limit_tstamp = 0
        self.completions = 1
        self.period = 0
        self.ratelimit_pages = 32
        self.set_ratelimit()

    def set_ratelimit(self) -> None:
        """Linux: writeback_set_ratelimit()."""
        self.dirty_limit = dirty_limits(self.kernel)[1]
        self.ratelimit_pages = max(self.dirty_limit // (self.kernel.machine.nr_cpus * 32), 16)

    def _age(self) -> None:
        """Halve what was counted with each period that has passed. Linux: writeout_period(), fprop_new_period().

        The timer does not wake an idle machine: then several periods pass at once, and nothing may be left.
        """
        period = self.kernel.clock.now_ns // (VM_COMPLETIONS_PERIOD_LEN * TICK_NSEC)
        missed, self.period = period - self.period, period
        steps = [1] * missed if missed <= AWAKE_PERIODS else [missed]
        for shift in steps:
            if self.completions > 1:
                self.completions >>= shift
                for bdi in self.kernel.bdis:
                    bdi.wb.completions >>= shift

    def writeout_add(self, wb: BdiWriteback, nr: int) -> None:
        """A disk has written pages. Linux: wb_domain_writeout_add()."""
        self._age()
        wb.completions += nr
        self.completions += nr

    def wb_calc_thresh(self, wb: BdiWriteback, thresh: int) -> int:
        """A disk's share of the threshold. Linux: __wb_calc_thresh()."""
        self._age()
        whole = 100 * BDI_RATIO_SCALE
        reserved = sum(bdi.min_ratio for bdi in self.kernel.bdis)
        share = thresh * (whole - reserved) // whole
        share = share * wb.completions // max(self.completions, wb.completions, 1)
        share += thresh * wb.bdi.min_ratio // whole
        return min(share, thresh * wb.bdi.max_ratio // whole)

    def update_dirty_limit(self, thresh: int, dirty: int, now: int) -> None:
        """Up at once, down slowly. Linux: domain_update_dirty_limit()."""
        if now - self.dirty_limit_tstamp < BANDWIDTH_INTERVAL:
            return
        self.dirty_limit_tstamp = now
        if self.dirty_limit < thresh:
            self.dirty_limit = thresh
        elif self.dirty_limit > max(thresh, dirty):
            self.dirty_limit -= (self.dirty_limit - max(thresh, dirty)) >> 5


class DirtyThrottleControl:
    """How a disk stands with respect to the thresholds. Linux: struct dirty_throttle_control."""

    def __init__(self, wb: BdiWriteback) -> None:
        kernel = wb.kernel
        state = kernel.vmstat.global_node_page_state
        self.wb = wb
        self.domain: WbDomain = kernel.wb_domain
        self.nr_dirty = state(NodeStatItem.NR_FILE_DIRTY)
        self.dirty = self.nr_dirty + state(NodeStatItem.NR_WRITEBACK)
        self.bg_thresh, self.thresh = dirty_limits(kernel)
        self.freerun_ceiling = (self.thresh + self.bg_thresh) // 2
        self.wb_thresh = self.domain.wb_calc_thresh(wb, self.thresh)
        self.wb_bg_thresh = self.wb_thresh * self.bg_thresh // self.thresh if self.thresh else 0
        self.wb_dirty = wb.nr_dirty() + wb.nr_writeback()
        self.strict = wb.bdi.strict_limit

    @property
    def freerun(self) -> bool:
        """Few enough that nobody needs to wait. Linux: domain_dirty_freerun()."""
        if self.strict:
            return self.wb_dirty <= (self.wb_thresh + self.wb_bg_thresh) // 2
        return self.dirty <= self.freerun_ceiling

    @property
    def dirty_exceeded(self) -> bool:
        """Linux: wb_dirty_exceeded()."""
        return self.wb_dirty > self.wb_thresh and (self.dirty > self.thresh or self.strict)

    @property
    def limit(self) -> int:
        """Linux: hard_dirty_limit()."""
        return max(self.thresh, self.domain.dirty_limit)

    def poll_interval(self) -> int:
        """After how many pages to look again. Linux: domain_poll_intv(), dirty_poll_interval()."""
        dirty, thresh = (self.wb_dirty, self.wb_thresh) if self.strict else (self.dirty, self.thresh)
        return 1 << (_ilog2(thresh - dirty) >> 1) if thresh > dirty else 1

    def position_ratio(self) -> int:
        """How much faster or slower than its share a task may dirty, 1024 being just so. Linux: wb_position_ratio()."""
        limit = self.limit
        if self.dirty >= limit:
            return 0
        setpoint = (self.freerun_ceiling + limit) // 2
        ratio = _polynom(setpoint, self.dirty, limit)
        if self.strict:
            return self._strict_ratio(ratio)
        write_bw = self.wb.avg_write_bandwidth
        wb_thresh = max(min(self.wb_thresh, self.thresh), (limit - self.dirty) // 8)
        x = (wb_thresh << 16) // (self.thresh | 1)
        wb_setpoint = setpoint * x >> 16
        span = (self.thresh - wb_thresh + 8 * write_bw) * x >> 16
        x_intercept = wb_setpoint + span
        if self.wb_dirty < x_intercept - span // 4:
            ratio = ratio * (x_intercept - self.wb_dirty) // ((x_intercept - wb_setpoint) | 1)
        else:
            ratio //= 4
        low = wb_thresh // 2
        if self.wb_dirty < low:
            ratio = ratio * low // self.wb_dirty if self.wb_dirty > low // 8 else ratio * 8
        return ratio

    def _strict_ratio(self, ratio: int) -> int:
        if self.wb_dirty < 8:
            return min(ratio * 2, 2 << RATELIMIT_CALC_SHIFT)
        setpoint = (self.wb_thresh + self.wb_bg_thresh) // 2
        if self.wb_dirty >= self.wb_thresh or setpoint in (0, self.wb_thresh):
            return 0
        return min(ratio, _polynom(setpoint, self.wb_dirty, self.wb_thresh))


def _ilog2(value: int) -> int:
    return max(value, 1).bit_length() - 1


def _polynom(setpoint: int, dirty: int, limit: int) -> int:
    """Linux: pos_ratio_polynom()."""
    shift = RATELIMIT_CALC_SHIFT
    x = int(((setpoint - dirty) << shift) / ((limit - setpoint) | 1))
    ratio = ((x * x >> shift) * x >> shift) + (1 << shift)
    return min(max(ratio, 0), 2 << shift)


def wb_update_dirty_ratelimit(dtc: DirtyThrottleControl, pos_ratio: int, dirtied: int, elapsed: int) -> None:
    """Follow the rate at which one task may dirty, so that all of them match the disk. Linux: same name."""
    wb = dtc.wb
    setpoint = (dtc.freerun_ceiling + dtc.limit) // 2
    dirty, limit = dtc.dirty, wb.dirty_ratelimit
    rate = (dirtied - wb.dirtied_stamp) * HZ // elapsed
    task_ratelimit = (limit * pos_ratio >> RATELIMIT_CALC_SHIFT) + 1
    balanced = min(task_ratelimit * wb.avg_write_bandwidth // (rate | 1), wb.avg_write_bandwidth)
    if dtc.strict:
        dirty = dtc.wb_dirty
        setpoint = dirty + 1 if dirty < 8 else (dtc.wb_thresh + dtc.wb_bg_thresh) // 2
    if dirty < setpoint:
        step = max(min(wb.balanced_dirty_ratelimit, balanced, task_ratelimit) - limit, 0)
    else:
        step = max(limit - max(wb.balanced_dirty_ratelimit, balanced, task_ratelimit), 0)
    shift = limit // (2 * step + 1)
    step = -(-(step >> shift) // 8) if shift < 64 else 0
    wb.dirty_ratelimit = max(limit + step if limit < balanced else limit - step, 1)
    wb.balanced_dirty_ratelimit = balanced


def wb_update_bandwidth(wb: BdiWriteback, dtc: DirtyThrottleControl | None = None, pos_ratio: int = 0) -> None:
    """Measure how fast the disk writes; with `dtc`, also how fast tasks may dirty. Linux: __wb_update_bandwidth()."""
    now = wb.kernel.clock.jiffies
    elapsed = max(now - wb.bw_time_stamp, 1)
    dirtied, written = wb.nr_dirtied(), wb.written
    if dtc is not None:
        dtc.domain.update_dirty_limit(dtc.thresh, dtc.dirty, now)
        wb_update_dirty_ratelimit(dtc, pos_ratio, dirtied, elapsed)
    bandwidth = (written - min(written, wb.written_stamp)) * HZ
    average, old = wb.avg_write_bandwidth, wb.write_bandwidth
    if elapsed > BANDWIDTH_PERIOD:
        average = bandwidth = bandwidth // elapsed
    else:
        bandwidth = (bandwidth + old * (BANDWIDTH_PERIOD - elapsed)) // BANDWIDTH_PERIOD
        if average > old >= bandwidth:
            average -= (average - old) >> 3
        if average < old <= bandwidth:
            average += (old - average) >> 3
    wb.write_bandwidth, wb.avg_write_bandwidth = bandwidth, max(average, 1)
    wb.dirtied_stamp, wb.written_stamp, wb.bw_time_stamp = dirtied, written, now


def wb_bandwidth_estimate_start(wb: BdiWriteback) -> None:
    """Something is going to be written: time in which nothing was does not count. Linux: same name."""
    now = wb.kernel.clock.jiffies
    if now - wb.bw_time_stamp > HZ and not wb.nr_writeback():
        wb.dirtied_stamp, wb.written_stamp, wb.bw_time_stamp = wb.nr_dirtied(), wb.written, now


def _max_pause(wb: BdiWriteback, wb_dirty: int) -> int:
    """Linux: wb_max_pause()."""
    return min(wb_dirty // (1 + wb.avg_write_bandwidth // 32) + 1, MAX_PAUSE)


def _min_pause(wb: BdiWriteback, max_pause: int, task_ratelimit: int) -> tuple[int, int]:
    """(shortest pause worth making, after how many pages to look again). Linux: wb_min_pause()."""
    high, low = _ilog2(wb.avg_write_bandwidth), _ilog2(wb.dirty_ratelimit)
    t = max(1, HZ // 100)
    if high > low:
        t += (high - low) * (10 * HZ) // 1024
    t = min(t, 1 + max_pause // 2)
    pages = wb.dirty_ratelimit * t // 256
    if pages < DIRTY_POLL_THRESH:
        t = max_pause
        pages = wb.dirty_ratelimit * t // 256
        if pages > DIRTY_POLL_THRESH:
            pages = DIRTY_POLL_THRESH
            t = HZ * DIRTY_POLL_THRESH // wb.dirty_ratelimit
    if HZ * pages // (task_ratelimit + 1) > max_pause:
        t = max_pause
        pages = task_ratelimit * t // 256
    return (1 + t // 2 if pages >= DIRTY_POLL_THRESH else t), pages


def ratelimit(task: Task, wb: BdiWriteback) -> int:
    """How many pages more the task may dirty before it has to look. Linux: balance_dirty_pages_ratelimited_flags()."""
    limit = min(task.nr_dirtied_pause, 8) if wb.dirty_exceeded else task.nr_dirtied_pause
    return min(limit, wb.kernel.wb_domain.ratelimit_pages) - task.nr_dirtied


def balance_dirty_pages(task: Task, wb: BdiWriteback, now: int) -> tuple[int, bool]:
    """Have the flusher write if there is enough to write; how many jiffies the task has to sleep, and ask again then.

    `now`: the task's own time, in jiffies. Linux: mm/page-writeback.c, balance_dirty_pages().
    """
    dtc = DirtyThrottleControl(wb)
    if not wb.kernel.vm.laptop_mode and dtc.nr_dirty > dtc.bg_thresh:
        wb.start_background_writeback()
    if dtc.freerun:
        task.dirty_paused_when = now
        task.nr_dirtied = 0
        task.nr_dirtied_pause = dtc.poll_interval()
        return 0, False
    wb.start_background_writeback()
    pos_ratio = dtc.position_ratio()
    wb.dirty_exceeded = dtc.dirty_exceeded
    if now > wb.bw_time_stamp + BANDWIDTH_INTERVAL:
        wb_update_bandwidth(wb, dtc, pos_ratio)
    task_ratelimit = wb.dirty_ratelimit * pos_ratio >> RATELIMIT_CALC_SHIFT
    max_pause = _max_pause(wb, dtc.wb_dirty)
    min_pause, pages = _min_pause(wb, max_pause, task_ratelimit)
    pause = period = HZ * task.nr_dirtied // task_ratelimit if task_ratelimit else max_pause
    if task_ratelimit and task.dirty_paused_when:
        pause -= now - task.dirty_paused_when
    if task_ratelimit and pause < min_pause:
        if pause < -HZ:
            task.dirty_paused_when, task.nr_dirtied = now, 0
        elif period:
            task.dirty_paused_when += period
            task.nr_dirtied = 0
        elif task.nr_dirtied_pause <= task.nr_dirtied:
            task.nr_dirtied_pause += task.nr_dirtied
        return 0, False
    if pause > max_pause:
        now += min(pause - max_pause, max_pause)
        pause = max_pause
    task.dirty_paused_when = now + pause
    task.nr_dirtied = 0
    task.nr_dirtied_pause = pages
    return pause, not task_ratelimit and dtc.wb_dirty > 0
