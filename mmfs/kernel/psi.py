"""Pressure stall information: how much time tasks lose because they wait for memory, a disk or a CPU.

A task that stands still for want of a resource is stalled. On one CPU there is pressure of a kind ("some") while at
least one of its tasks is stalled, and all is lost ("full") while none of the others does anything useful; the times of
the CPUs are averaged, each weighted by how long it was not idle. Every two seconds the share of the last two enters
averages over 10, 60 and 300 seconds, in the fixed point of the load average.

The scheduler tells when a task begins or ceases (`PsiGroup.task_change()`) to run, to wait for a disk, or to be stalled
on memory (a `memstall`: direct reclaim, reading back a page that was in use when it was reclaimed, being throttled).

A trigger watches a total: when it has grown by its threshold within its window, poll(2) on the open file says
POLLPRI, at most once a window. Triggers of the privileged are looked at ten times a window, by the kernel thread
psimon, while the resource is under pressure; others when the averages are made.

Linux: kernel/sched/psi.c.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol

from mmfs.kernel.clock import HZ, NSEC_PER_USEC, TICK_NSEC, Clock, Timer
from mmfs.kernel.loadavg import FIXED_1, FSHIFT, calc_load

if TYPE_CHECKING:
    from mmfs.kernel.rq import Cpu

TSK_IOWAIT: Final = 1
TSK_MEMSTALL: Final = 2
TSK_RUNNING: Final = 4
TSK_MEMSTALL_RUNNING: Final = 8
TSK_ONCPU: Final = 16

PSI_FREQ: Final = (2 * HZ + 1) * TICK_NSEC
PSI_EXPS: Final = (1677, 1981, 2034)
"""1/exp(2s/10s), 1/exp(2s/60s), 1/exp(2s/300s) in fixed point."""


class PsiRes(IntEnum):
    """Resources. Linux: enum psi_res."""

    IO = 0
    MEM = 1
    CPU = 2


NR_PSI_TOTALS: Final = 2 * len(PsiRes)
"""some and full of each: state 2 * res + full."""
PSI_NONIDLE: Final = NR_PSI_TOTALS

WINDOW_MAX_US: Final = 10_000_000
UNPRIVILEGED_WINDOW_US: Final = 2_000_000
UPDATES_PER_WINDOW: Final = 10


class RtpollWorker(Protocol):
    """The kernel thread that looks at the triggers of the privileged."""

    def want(self, wanted: bool) -> None:
        """There are such triggers, or none any more."""

    def run(self) -> None:
        """It works for a moment."""


class PsiGroupCpu:
    """What the tasks of a group do on one CPU, and how long it has been so. Linux: struct psi_group_cpu."""

    __slots__ = ("memstall_oncpu", "nonidle", "nr_iowait", "nr_memstall", "nr_memstall_running", "nr_running", "oncpu",
                 "prev", "state_start", "times")  # fmt: skip

    def __init__(self, now: int) -> None:
        self.nr_iowait = self.nr_memstall = self.nr_running = self.nr_memstall_running = 0
        self.oncpu = self.memstall_oncpu = 0
        """Whether one of them is the one that runs, and stalled."""
        self.state_start = now
        self.times = [0] * NR_PSI_TOTALS
        self.nonidle = 0
        self.prev: dict[str, tuple[list[int], int]] = {}
        """Times when an aggregator last looked."""

    def change(self, old: int, new: int) -> None:
        """A task was what the old TSK flags say, and is what the new ones do. Linux: psi_group_change()."""
        changed = old ^ new
        if changed & TSK_RUNNING:
            self.nr_running += 1 if new & TSK_RUNNING else -1
        if changed & TSK_ONCPU:
            self.oncpu += 1 if new & TSK_ONCPU else -1
        if changed & TSK_IOWAIT:
            self.nr_iowait += 1 if new & TSK_IOWAIT else -1
        if (old | new) & TSK_MEMSTALL:
            self._change_memstall(old, -1)
            self._change_memstall(new, 1)

    def _change_memstall(self, flags: int, sign: int) -> None:
        if flags & TSK_MEMSTALL:
            self.nr_memstall += sign
            if flags & TSK_ONCPU:
                self.memstall_oncpu += sign
            if flags & TSK_MEMSTALL_RUNNING:
                self.nr_memstall_running += sign

    def record_times(self, now: int) -> None:
        """Until now it was so. Linux: record_times(), test_states()."""
        nsec, running = now - self.state_start, self.nr_running
        self.state_start = now
        if not (running or self.nr_iowait or self.nr_memstall):
            return
        times = self.times
        self.nonidle += nsec
        if self.nr_iowait:
            times[0] += nsec
            if not running:
                times[1] += nsec
        if self.nr_memstall:
            times[2] += nsec
            if running == self.nr_memstall_running or self.memstall_oncpu:
                times[3] += nsec
        if running > self.oncpu:
            times[4] += nsec
            if not self.oncpu:
                times[5] += nsec


class PsiTrigger:
    """A threshold on the growth of a total within a window. Linux: struct psi_trigger."""

    def __init__(self, group: PsiGroup, state: int, threshold_ns: int, window_ns: int, aggregator: str) -> None:
        self.group = group
        self.state = state
        self.threshold_ns = threshold_ns
        self.window_ns = window_ns
        self.aggregator = aggregator
        self.event = self.pending_event = False
        self.last_event_ns = 0
        self.reset(group.clock.now_ns, group.total["poll"][state], 0)

    def reset(self, now: int, value: int, prev_growth: int) -> None:
        """A new window begins. Linux: window_reset()."""
        self.start_ns, self.start_value, self.prev_growth = now, value, prev_growth

    def window_update(self, now: int, value: int) -> int:
        """Growth in a window that ends now: what is missing is taken from the one before, as if it had been even."""
        elapsed, growth = now - self.start_ns, value - self.start_value
        if elapsed > self.window_ns:
            self.reset(now, value, growth)
        else:
            growth += self.prev_growth * (self.window_ns - elapsed) // self.window_ns
        return growth

    def update(self, now: int, value: int, new_stall: bool) -> None:
        """See whether the threshold is passed; at most one event a window. Linux: update_triggers()."""
        if new_stall:
            growth = self.window_update(now, value)
            self.pending_event = self.pending_event or growth >= self.threshold_ns
        if self.pending_event and now >= self.last_event_ns + self.window_ns:
            self.event = True
            self.last_event_ns = now
            self.pending_event = False

    def poll(self) -> bool:
        """Whether there was an event since the last call. Linux: psi_trigger_poll()."""
        event, self.event = self.event, False
        return event


class PsiGroup:
    """The pressure on a set of tasks: all of a machine, or those of a cgroup and below. Linux: struct psi_group."""

    def __init__(self, clock: Clock, cpus: list[Cpu], parent: PsiGroup | None = None) -> None:
        self.clock = clock
        self.cpus = cpus
        self.parent = parent
        self.enabled = True
        """Whether time is accounted (cgroup.pressure)."""
        self.pcpu: dict[int, PsiGroupCpu] = {}
        """By CPU, once a task of the group has run there."""
        self.total = {"avgs": [0] * NR_PSI_TOTALS, "poll": [0] * NR_PSI_TOTALS}
        self.avg = [[0, 0, 0] for _ in range(NR_PSI_TOTALS)]
        self.avg_total = [0] * NR_PSI_TOTALS
        self.avg_last_update = self.start_ns = clock.now_ns
        self.avg_next_update = clock.now_ns + PSI_FREQ
        self.triggers: list[PsiTrigger] = []
        self._avgs_work: Timer | None = None
        self._init_rtpoll()

    def cpu(self, number: int) -> PsiGroupCpu:
        """The group's part on one CPU."""
        found = self.pcpu.get(number)
        if found is None:
            found = self.pcpu[number] = PsiGroupCpu(self.clock.now_ns)
        return found

    def task_change(self, cpu: int, old: int, new: int, now: int) -> None:
        """A task of the group does something else on a CPU from now on. Linux: psi_group_change()."""
        groupc = self.pcpu.get(cpu) or self.cpu(cpu)
        if not self.enabled:
            groupc.change(old, new)
            return
        if now != groupc.state_start:
            groupc.record_times(now)
        groupc.change(old, new)
        if self._avgs_work is None:
            self._avgs_work = self.clock.add_timer(self.clock.now_ns + PSI_FREQ, self.psi_avgs_work)
        if self._rtpoll_timer is None and self.rtpoll_period:
            self._schedule_rtpoll(TICK_NSEC)

    def enable(self, enabled: bool) -> None:
        """Account for time from now on, or no longer; who does what is known all the time.

        Linux: kernel/sched/psi.c, psi_cgroup_restart().
        """
        now = self.clock.now_ns
        for number, groupc in self.pcpu.items():
            self.cpus[number].sync()
            if enabled:
                groupc.state_start = now
            elif self.enabled:
                groupc.record_times(now)
        self.enabled = enabled

    def close(self) -> None:
        """The cgroup is gone: nobody watches any more. Linux: psi_cgroup_free()."""
        for trigger in list(self.triggers):
            self.trigger_destroy(trigger)

    # -- totals and averages ---------------------------------------------------------------------------------

    def collect_percpu_times(self, aggregator: str) -> set[int]:
        """Add to the totals what has happened since the last time; which states there were, NONIDLE among them.

        Linux: collect_percpu_times(), get_recent_times().
        """
        now = self.clock.now_ns
        deltas, nonidle_total, changed = [0] * NR_PSI_TOTALS, 0, set[int]()
        for number, groupc in self.pcpu.items():
            self.cpus[number].sync()
            if self.enabled:
                groupc.record_times(now)
            old_times, old_nonidle = groupc.prev.get(aggregator, ([0] * NR_PSI_TOTALS, 0))
            nonidle_ns = groupc.nonidle - old_nonidle
            if not nonidle_ns:
                continue
            changed.add(PSI_NONIDLE)
            groupc.prev[aggregator] = (list(groupc.times), groupc.nonidle)
            nonidle = nonidle_ns // TICK_NSEC
            nonidle_total += nonidle
            for state, (new, old) in enumerate(zip(groupc.times, old_times, strict=True)):
                if new != old:
                    changed.add(state)
                    deltas[state] += (new - old) * nonidle
        total = self.total[aggregator]
        for state in range(NR_PSI_TOTALS):
            total[state] += deltas[state] // max(nonidle_total, 1)
        return changed

    def update_averages(self, now: int) -> None:
        """Let the last two seconds enter the averages, and zeroes for those in which nobody looked.

        Linux: update_averages(), calc_avgs().
        """
        missed = (now - self.avg_next_update) // PSI_FREQ
        period = now - (self.avg_last_update + missed * PSI_FREQ)
        self.avg_next_update += (1 + missed) * PSI_FREQ
        self.avg_last_update = now
        for state, avg in enumerate(self.avg):
            sample = min(self.total["avgs"][state] - self.avg_total[state], period)
            self.avg_total[state] += sample
            active = sample * 100 // period * FIXED_1
            for index, exp in enumerate(PSI_EXPS):
                load = calc_load_n(avg[index], exp, 0, missed) if missed else avg[index]
                avg[index] = calc_load(load, exp, active)

    def psi_avgs_work(self) -> None:
        """Every two seconds while there is activity. Linux: psi_avgs_work()."""
        now = self.clock.now_ns
        self._avgs_work = None
        changed = self.collect_percpu_times("avgs")
        if now >= self.avg_next_update:
            self._update_triggers(now, "avgs", self.avg_total)
            self.update_averages(now)
        if changed:
            ticks = (self.avg_next_update - now) // TICK_NSEC + 1
            self._avgs_work = self.clock.add_timer(now + ticks * TICK_NSEC, self.psi_avgs_work)

    def show(self, res: PsiRes) -> str:
        """The lines of a pressure file. Linux: psi_show()."""
        now = self.clock.now_ns
        self.collect_percpu_times("avgs")
        if now >= self.avg_next_update:
            self.update_averages(now)
        lines = ""
        for full, word in enumerate(("some", "full")):
            state = 2 * res + full
            avg, total = self.avg[state], self.total["avgs"][state] // NSEC_PER_USEC
            if res is PsiRes.CPU and full and self.parent is None:
                avg, total = [0, 0, 0], 0  # undefined for a whole machine
            ten, sixty, long = [f"{n >> FSHIFT}.{((n & (FIXED_1 - 1)) * 100) >> FSHIFT:02d}" for n in avg]
            lines += f"{word} avg10={ten} avg60={sixty} avg300={long} total={total}\n"
        return lines

    # -- triggers -----------------------------------------------------------------------------------------------

    def _init_rtpoll(self) -> None:
        self.rtpoll_period = 0
        """How often triggers of the privileged are looked at: a tenth of the shortest window."""
        self.rtpoll_worker: RtpollWorker | None = None
        self.rtpoll_total = [0] * NR_PSI_TOTALS
        self.rtpoll_until = 0
        self.rtpoll_next_update = 0
        self._rtpoll_timer: Timer | None = None

    def trigger_create(
        self, res: PsiRes, full: bool, threshold_us: int, window_us: int, privileged: bool
    ) -> PsiTrigger:
        """Watch a total from now on; EINVAL. Who is not privileged may have windows of whole periods of the averages.

        Linux: psi_trigger_create().
        """
        if not 0 < window_us <= WINDOW_MAX_US or (not privileged and window_us % UNPRIVILEGED_WINDOW_US):
            raise OSError(errno.EINVAL, "no such window")
        if not 0 < threshold_us <= window_us:
            raise OSError(errno.EINVAL, "the threshold is not within the window")
        trigger = PsiTrigger(
            self, 2 * res + full, threshold_us * NSEC_PER_USEC, window_us * NSEC_PER_USEC,
            "poll" if privileged else "avgs",
        )  # fmt: skip
        self.triggers.append(trigger)
        self._triggers_changed()
        return trigger

    def trigger_destroy(self, trigger: PsiTrigger) -> None:
        """Its file is closed. Linux: psi_trigger_destroy()."""
        if trigger not in self.triggers:
            return
        self.triggers.remove(trigger)
        self._triggers_changed()

    def _triggers_changed(self) -> None:
        polled = [trigger for trigger in self.triggers if trigger.aggregator == "poll"]
        self.rtpoll_period = min((trigger.window_ns for trigger in polled), default=0) // UPDATES_PER_WINDOW
        if self.rtpoll_worker is not None:
            self.rtpoll_worker.want(bool(polled))
        if polled and self._rtpoll_timer is None:
            self._schedule_rtpoll(TICK_NSEC)
        elif not polled:
            self.rtpoll_until = 0
            if self._rtpoll_timer is not None:
                self._rtpoll_timer.cancel()
                self._rtpoll_timer = None

    def _schedule_rtpoll(self, delay_ns: int) -> None:
        self._rtpoll_timer = self.clock.add_timer(self.clock.now_ns + delay_ns, self.psi_rtpoll_work)

    def _update_triggers(self, now: int, aggregator: str, seen: list[int]) -> None:
        total = self.total[aggregator]
        for trigger in self.triggers:
            if trigger.aggregator == aggregator:
                trigger.update(now, total[trigger.state], total[trigger.state] != seen[trigger.state])

    def psi_rtpoll_work(self) -> None:
        """Look at the triggers, ten times a window while what they watch grows. Linux: psi_rtpoll_work()."""
        now = self.clock.now_ns
        self._rtpoll_timer = None
        if self.rtpoll_worker is not None:
            self.rtpoll_worker.run()
        changed = self.collect_percpu_times("poll")
        grows = any(trigger.state in changed for trigger in self.triggers if trigger.aggregator == "poll")
        if grows:
            if now > self.rtpoll_until:
                self._init_windows(now)
            self.rtpoll_until = now + self.rtpoll_period * UPDATES_PER_WINDOW
        if now > self.rtpoll_until:
            return
        if now >= self.rtpoll_next_update:
            if grows:
                self._update_triggers(now, "poll", self.rtpoll_total)
                self.rtpoll_total = list(self.total["poll"])
            self.rtpoll_next_update = now + self.rtpoll_period
        self._schedule_rtpoll(((self.rtpoll_next_update - now) // TICK_NSEC + 1) * TICK_NSEC)

    def _init_windows(self, now: int) -> None:
        """Pressure begins: all windows do. Linux: init_rtpoll_triggers()."""
        for trigger in self.triggers:
            if trigger.aggregator == "poll":
                trigger.reset(now, self.total["poll"][trigger.state], 0)
        self.rtpoll_total = list(self.total["poll"])
        self.rtpoll_next_update = now + self.rtpoll_period

    def check(self) -> None:
        """Nothing was lost for longer than there was time."""
        elapsed = self.clock.now_ns - self.start_ns
        for number, groupc in self.pcpu.items():
            self.cpus[number].sync()
            if max([*groupc.times, groupc.nonidle]) > elapsed:
                raise AssertionError(f"psi: cpu{number}: {groupc.times} ns in {elapsed} ns")
        for aggregator, total in self.total.items():
            if max(total) > elapsed or any(total[2 * res + 1] > total[2 * res] for res in PsiRes):
                raise AssertionError(f"psi: {aggregator}: totals of {total} ns in {elapsed} ns")


def calc_load_n(load: int, exp: int, active: int, periods: int) -> int:
    """Many steps of a damped average at once. Linux: kernel/sched/loadavg.c, calc_load_n(), fixed_power_int()."""
    power, base = FIXED_1, exp
    while periods:
        if periods & 1:
            power = (power * base + (1 << (FSHIFT - 1))) >> FSHIFT
        periods >>= 1
        base = (base * base + (1 << (FSHIFT - 1))) >> FSHIFT
    return calc_load(load, power, active)
