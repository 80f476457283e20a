"""A CPU's run queue: who wants to run there, and how its time is shared among them.

What a task has called for is queued as work, in nanoseconds of each bucket. As the clock moves the CPU works its
queue off: the task whose weighted time (`vruntime`) is least runs until its work is done, the tick finds its slice used
up while others wait, or one that has fallen far behind wakes. Weights follow from nice values. What is left is idle, or
iowait while a task that last ran here waits for a disk. So a long computation keeps its CPU busy for as long as it
takes, and two of them take twice as long.

Nothing happens at each tick: a CPU is brought up to date (`Cpu.sync()`) when someone looks at it or adds to its queue,
so a thousand idle CPUs cost nothing, and what comes out does not depend on who looked when.

Linux: kernel/sched/core.c, fair.c, cputime.c; kernel/time/tick-sched.c.

Simplified: the least vruntime instead of EEVDF's deadlines, for real-time tasks too; what a call waits for comes before
the work that it has queued.
"""

from __future__ import annotations

import heapq
from typing import Final

from mmfs.kernel.clock import NSEC_PER_MSEC, TICK_NSEC, Clock, Timer
from mmfs.kernel.cputime import CpuTime
from mmfs.kernel.psi import TSK_IOWAIT, TSK_MEMSTALL, TSK_MEMSTALL_RUNNING, TSK_ONCPU, TSK_RUNNING, PsiGroup
from mmfs.kernel.sched import NICE_0_WEIGHT, PRIO_TO_WEIGHT
from mmfs.kernel.sched_entity import VRUNTIME_SHIFT, SchedEntity, Waiter

IDLE: Final = int(CpuTime.IDLE)
IOWAIT: Final = int(CpuTime.IOWAIT)
RUNS: Final = TSK_RUNNING | TSK_ONCPU
SCHED_SLICE_NS: Final = TICK_NSEC
"""How long a task runs while others wait: until the tick after its slice of up to 2.8 ms is used up."""
WAKEUP_CREDIT: Final = SCHED_SLICE_NS << VRUNTIME_SHIFT
"""How far behind the others a task may start that has slept."""
WAKEUP_GRANULARITY: Final = NSEC_PER_MSEC << VRUNTIME_SHIFT
"""How far ahead of a task that wakes the running one must be to be preempted."""


class Cpu:
    """One processor: its time buckets and its run queue. Linux: struct kernel_cpustat, struct rq."""

    __slots__ = ("_queue", "_ready", "_seq", "_slice_ns", "_timer", "_times", "busy_ns", "clock", "cpu", "curr",
                 "drained_ns", "load", "min_vruntime", "nid", "nobody", "nr_iowait", "nr_switches", "now_ns",
                 "timer_wakeups")  # fmt: skip

    def __init__(self, clock: Clock, cpu: int, nid: int = 0) -> None:
        self.clock = clock
        self.cpu = cpu
        self.nid = nid
        self.now_ns = clock.now_ns
        """Until when time is accounted for. Linux: rq_clock()."""
        self.nr_switches = 0
        self.timer_wakeups = 0
        self.busy_ns = 0
        self.nr_iowait = 0
        """Tasks that last ran here and wait for a disk now."""
        self.load = 0
        """The weight of the tasks that run here. Linux: struct cfs_rq, load."""
        self.min_vruntime = 0
        self.nobody = SchedEntity(None, self)
        """Work of interrupts, and of tasks that are gone."""
        self.curr: SchedEntity | None = None
        """Who runs."""
        self._queue: list[tuple[int, int, SchedEntity]] = []
        """Who waits for this CPU, a heap by vruntime."""
        self._seq = 0
        self._slice_ns = 0
        self._times = [0] * len(CpuTime)
        self.drained_ns = clock.now_ns
        """When all that is queued here will be done."""
        self._timer: Timer | None = None
        self._ready: list[Waiter] | None = None
        """Who is to be called at the end of the look that is being taken."""

    def __len__(self) -> int:
        """Tasks that ran or wanted to when the CPU was last looked at."""
        return len(self._queue) + (self.curr is not None) - self.nobody.on_rq

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do."""
        return self.clock.now_ns >= self.drained_ns

    # -- time passes -------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Account for the time since the last call: work the queue off, then idle."""
        now = self.clock.now_ns
        if now == self.now_ns:
            return
        times = self._times
        while (curr := self.curr) is not None:
            step = now - self.now_ns
            if step <= 0:
                return
            stretch = curr.stretch_ns() if curr.stall_ns else curr.total
            if stretch < step:
                step = stretch
            if self._queue and self._slice_ns < step:
                step = self._slice_ns
            curr.take(step, times)
            self.now_ns += step
            self.busy_ns += step
            self._slice_ns -= step
            if not curr.total:
                self._put(curr)
            elif self._slice_ns <= 0 and self._queue:
                self._preempt()
            elif curr.stall_ns or curr.psi_flags & TSK_MEMSTALL:
                self.psi_task_change(curr)
        idle = now - self.now_ns
        if idle > 0:
            times[IOWAIT if self.nr_iowait else IDLE] += idle
            self.now_ns = now

    def _preempt(self) -> None:
        """Let whoever is furthest behind run, which may be the same. Linux: __schedule()."""
        curr = self.curr
        assert curr is not None
        self._slice_ns = SCHED_SLICE_NS
        if self._queue[0][0] > curr.vruntime:
            return
        self._seq += 1
        following = heapq.heapreplace(self._queue, (curr.vruntime, self._seq, curr))[2]
        if curr.task is not None:
            curr.task.nivcsw += 1
        self._switch(curr, following)

    def _put(self, entity: SchedEntity) -> None:
        """The running one has nothing more to do here: the next, if there is one."""
        entity.on_rq = False
        if entity.task is not None:
            self.load -= entity.weight
        self._slice_ns = SCHED_SLICE_NS
        following = heapq.heappop(self._queue)[2] if self._queue else None
        self._switch(entity, following)
        if not entity.total and entity.waiters and not entity.waits:
            self.call_waiters(entity)

    def _switch(self, previous: SchedEntity | None, following: SchedEntity | None) -> None:
        """Linux: kernel/sched/core.c, context_switch(); kernel/sched/psi.c, psi_task_switch()."""
        self.curr = following
        if following is not None and following.vruntime > self.min_vruntime:
            self.min_vruntime = following.vruntime
        if previous is not self.nobody and following is not self.nobody:
            self.nr_switches += 1
        if previous is not None:
            if (
                following is not None
                and previous.psi_flags == RUNS
                and following.psi_flags == TSK_RUNNING
                and following.psi_group is previous.psi_group
            ):  # as seen from their groups, nothing has changed
                previous.psi_flags, following.psi_flags = following.psi_flags, previous.psi_flags
            self.psi_task_change(previous)
        if following is not None:
            self.psi_task_change(following)

    # -- who is on the queue -----------------------------------------------------------------------------------

    def enqueue(self, entity: SchedEntity, bucket: int, nsec: int, memstall: bool = False) -> None:
        """Give a task of this CPU `nsec` of work, to be done once it waits for nothing."""
        if self.now_ns != self.clock.now_ns:
            self.sync()
        key, work = bucket << 1 | memstall, entity.work
        work[key] = work.get(key, 0) + nsec
        entity.total += nsec
        if memstall:
            entity.stall_ns += nsec
        if entity.on_rq:
            self.drained_ns += nsec
        elif not entity.waits:
            self.wake(entity)

    def wake(self, entity: SchedEntity) -> None:
        """The task runs, or wants to, if it has any work. Linux: kernel/sched/core.c, try_to_wake_up()."""
        now = self.clock.now_ns
        if self.now_ns != now:
            self.sync()
        if entity.on_rq or entity.frozen or not entity.total:
            entity.cpu.psi_task_change(entity)
            return
        self._place(entity)
        entity.on_rq = True
        self.drained_ns = (self.drained_ns if self.drained_ns > now else now) + entity.total
        if entity.task is not None:
            self.load += entity.weight
        if self.curr is None:
            self._slice_ns = SCHED_SLICE_NS
            self._switch(None, entity)
            return
        if not self._queue:
            self._slice_ns = TICK_NSEC - self.now_ns % TICK_NSEC
        self._seq += 1
        heapq.heappush(self._queue, (entity.vruntime, self._seq, entity))
        if entity.vruntime + WAKEUP_GRANULARITY < self.curr.vruntime:
            self._preempt()
        self.psi_task_change(entity)

    def _place(self, entity: SchedEntity) -> None:
        """Where it stands among the others here. Linux: kernel/sched/fair.c, place_entity()."""
        if entity.cpu is not self:
            entity.cpu.psi_set(entity, 0)
            entity.vruntime += self.min_vruntime - entity.cpu.min_vruntime
            entity.cpu = self
            entity.nr_migrations += 1
        weight = NICE_0_WEIGHT if entity.task is None else PRIO_TO_WEIGHT[entity.task.nice + 20]
        if weight != entity.weight:
            entity.vruntime += (entity.vruntime - self.min_vruntime) * (entity.weight - weight) // weight
            entity.weight = weight
        least = self.min_vruntime - WAKEUP_CREDIT
        if entity.vruntime < least:
            entity.vruntime = least

    def dequeue(self, entity: SchedEntity) -> None:
        """The task does not run on, whatever it has still to do."""
        self.sync()
        if not entity.on_rq:
            return
        self.drained_ns -= entity.total
        if entity is self.curr:
            self._put(entity)
        else:
            entity.on_rq = False
            self._queue = [item for item in self._queue if item[2] is not entity]
            heapq.heapify(self._queue)
            if entity.task is not None:
                self.load -= entity.weight
            self.psi_task_change(entity)
        self.watch()

    def movable(self, cpu: int) -> list[SchedEntity]:
        """The tasks here that may run on another CPU, who has not moved for longest first."""
        on_rq = [item[2] for item in self._queue]
        if self.curr is not None:
            on_rq.append(self.curr)
        found = [
            entity
            for entity in on_rq
            if entity.task is not None and (entity.task.cpus_allowed is None or cpu in entity.task.cpus_allowed)
        ]
        return sorted(found, key=lambda entity: entity.migrated)

    def interrupt(self, bucket: int, nsec: int) -> None:
        """Something that belongs to no task takes `nsec`."""
        self.enqueue(self.nobody, bucket, nsec)

    # -- who is told when work is done -------------------------------------------------------------------------

    def not_before_ns(self, entity: SchedEntity) -> int:
        """The earliest time at which the task, which is on the queue, can have done its work: if all let it run."""
        if self.curr is entity or self.curr is None:
            return self.now_ns + entity.total
        return self.now_ns + min(self._slice_ns, self.curr.total) + entity.total

    def watch(self) -> None:
        """Look again when the running task is done or preempted, while somebody waits for the end of one here."""
        curr = self.curr
        if curr is None or not (curr.waiters or any(item[2].waiters for item in self._queue)):
            return
        when = self.now_ns + (min(self._slice_ns, curr.total) if self._queue else curr.total)
        if self._timer is not None:
            if self._timer.when_ns <= when:
                return
            self._timer.cancel()
        self._timer = self.clock.add_timer(when, self._look)

    def _look(self) -> None:
        self._timer = None
        ready = self._ready = []
        self.sync()
        self._ready = None
        self.watch()
        for function, args in ready:
            function(*args)

    def call_waiters(self, entity: SchedEntity) -> None:
        """The task is ready: call who waits for that, once the run queue is in order again."""
        waiters, entity.waiters = entity.waiters, []
        if self._ready is not None:
            self._ready += waiters
            return
        for function, args in waiters:
            self.clock.add_timer(self.now_ns, function, *args)

    # -- pressure ----------------------------------------------------------------------------------------------

    def psi_task_change(self, entity: SchedEntity) -> None:
        """Tell the groups of a task what it does now. Linux: kernel/sched/psi.c, psi_task_change()."""
        if entity.on_rq:
            flags = RUNS if entity is self.curr else TSK_RUNNING
            if entity.stall_ns and entity.memstall:
                flags |= TSK_MEMSTALL | TSK_MEMSTALL_RUNNING
        elif entity.waits:
            wait = entity.waits[0]
            flags = (TSK_IOWAIT if wait.io else 0) | (TSK_MEMSTALL if wait.memstall else 0)
        else:
            flags = 0
        if flags != entity.psi_flags:
            self.psi_set(entity, flags)

    def psi_move(self, entity: SchedEntity, group: PsiGroup | None) -> None:
        """The task belongs to another group now. Linux: kernel/sched/psi.c, cgroup_move_task()."""
        self.sync()
        flags = entity.psi_flags
        self.psi_set(entity, 0)
        entity.psi_group = group
        self.psi_set(entity, flags)

    def psi_set(self, entity: SchedEntity, flags: int) -> None:
        """The task, whose flags count here, has these now."""
        group, old = entity.psi_group, entity.psi_flags
        while group is not None:
            group.task_change(self.cpu, old, flags, self.now_ns)
            group = group.parent
        entity.psi_flags = flags

    # -- what is read ------------------------------------------------------------------------------------------

    def timer_interrupt(self, nsec: int) -> None:
        """A timer of the kernel's own fires here."""
        self.timer_wakeups += 1
        self.interrupt(CpuTime.IRQ, nsec)

    @property
    def nr_running(self) -> int:
        """Tasks that run or want to run here now."""
        self.sync()
        return len(self)

    @property
    def backlog_ns(self) -> int:
        """Work queued here and not done yet."""
        self.sync()
        return max(self.drained_ns - self.clock.now_ns, 0)

    @property
    def timer_interrupts(self) -> int:
        """Local timer interrupts: every tick while busy, and one a wakeup while idle (the tick stops then)."""
        self.sync()
        return self.timer_wakeups + self.busy_ns // TICK_NSEC

    @property
    def busy_ticks(self) -> int:
        """Ticks that found a task running."""
        self.sync()
        return self.busy_ns // TICK_NSEC

    def times(self) -> tuple[int, ...]:
        """All buckets in ns, in the order of `CpuTime`; they add up to the time since the CPU came up."""
        self.sync()
        return tuple(self._times)

    @property
    def user(self) -> int:
        """Nanoseconds in user mode."""
        return self.times()[CpuTime.USER]

    @property
    def nice(self) -> int:
        """Nanoseconds in user mode with a positive nice value."""
        return self.times()[CpuTime.NICE]

    @property
    def system(self) -> int:
        """Nanoseconds in the kernel."""
        return self.times()[CpuTime.SYSTEM]

    @property
    def idle(self) -> int:
        """Nanoseconds with nothing to do."""
        return self.times()[CpuTime.IDLE]

    @property
    def iowait(self) -> int:
        """Nanoseconds with nothing to do but wait for a disk."""
        return self.times()[CpuTime.IOWAIT]

    @property
    def irq(self) -> int:
        """Nanoseconds in interrupt handlers."""
        return self.times()[CpuTime.IRQ]

    @property
    def softirq(self) -> int:
        """Nanoseconds in soft interrupts."""
        return self.times()[CpuTime.SOFTIRQ]

    @property
    def steal(self) -> int:
        """Nanoseconds the hypervisor took."""
        return self.times()[CpuTime.STEAL]

    @property
    def guest(self) -> int:
        """Nanoseconds running guests."""
        return self.times()[CpuTime.GUEST]

    @property
    def guest_nice(self) -> int:
        """Nanoseconds running niced guests."""
        return self.times()[CpuTime.GUEST_NICE]
