"""Where CPU time goes: run queues, waits, time buckets, context switches.

The effects of a system call are there when it returns; its time follows. What it costs (`Cost`, a table of
nanoseconds) is queued as work on the task's CPU, and where it waits for a disk or is throttled, an interval is noted
for which the task sleeps. As the clock moves, a sleeping task wakes when its time has come, and each CPU works its
queue off, sharing its time among the tasks on it by their weights; what it has worked goes to its user, nice, system,
irq and softirq buckets; the rest is idle, or iowait while a task that last ran there waits for a disk. So for each
CPU the buckets always add up to the time since boot, a long computation keeps its CPU busy for as long as it takes,
and the load average, procs_running, context switches and timer interrupts follow from who is on the queues.

`Scheduler.ready_ns()` tells when a task will have done what it has called for: then a program makes its next call
(`call_when_ready()`), and `Kernel.schedule()` lets time pass until then for whoever calls from outside.

Nothing here happens at each tick: a CPU is brought up to date (`Cpu.sync()`) when someone looks at it or adds
to its queue, so a thousand idle CPUs cost nothing.

Linux: kernel/sched/cputime.c, core.c, fair.c; kernel/time/tick-sched.c.
Simplified: instead of EEVDF, tasks on a CPU share it at every moment by their weights; no balancing of tasks once
placed; what a call waits for comes before the work that it has queued.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple, Protocol

from mmfs.kernel.clock import TICK_NSEC, Clock, Timer
from mmfs.kernel.sched import NICE_0_WEIGHT, PRIO_TO_WEIGHT


class CpuTime(IntEnum):
    """The buckets of a CPU's time, in the order of /proc/stat."""

    USER = 0
    NICE = 1
    SYSTEM = 2
    IDLE = 3
    IOWAIT = 4
    IRQ = 5
    SOFTIRQ = 6
    STEAL = 7
    GUEST = 8
    GUEST_NICE = 9


class Cost:
    """What operations cost, in nanoseconds of CPU time of a 2.4 GHz server core (orders of magnitude)."""

    SYSCALL: Final = 150
    FAULT_MINOR: Final = 500
    FAULT_COW: Final = 900
    FAULT_HUGE: Final = 60_000
    FAULT_MAJOR: Final = 4_000
    ACCESS: Final = 4
    UNMAP_PAGE: Final = 60
    COPY_PTE: Final = 25
    COPY_PAGE: Final = 250
    FORK: Final = 70_000
    EXEC: Final = 300_000
    EXIT: Final = 60_000
    SIGNAL: Final = 1_500
    WAKEUP: Final = 2_000
    TIMER_INTERRUPT: Final = 1_500
    BLOCK_INTERRUPT: Final = 3_000
    KTHREAD_SCAN: Final = 20_000


SCHED_SLICE_NS: Final = TICK_NSEC
"""How long a task runs before another one on the same CPU gets its turn: the tick after its slice is used up."""


class Accountable(Protocol):
    """What of a task the accounting reads and writes."""

    processor: int
    utime_ns: int
    stime_ns: int
    nvcsw: int
    nivcsw: int
    sched: Any

    @property
    def nice(self) -> int:
        """A positive one makes user time count as nice."""

    @property
    def cpus_allowed(self) -> Collection[int] | None:
        """Where it may run; None: anywhere."""


class Wait(NamedTuple):
    """An interval for which a task sleeps uninterruptibly."""

    until_ns: int
    io: bool
    memstall: bool


class SchedEntity:
    """A task as its CPU sees it: work that is not done yet, and what it waits for first. Linux: struct sched_entity."""

    __slots__ = ("buckets", "cpu", "on_rq", "ran_ns", "task", "timer", "total", "waits", "weight")

    def __init__(self, task: Accountable | None, cpu: Cpu) -> None:
        self.task = task
        self.cpu = cpu
        self.on_rq = False
        self.weight = NICE_0_WEIGHT
        self.buckets: dict[CpuTime, int] = {}
        self.total = 0
        self.ran_ns = 0
        self.waits: list[Wait] = []
        self.timer: Timer | None = None

    def add(self, bucket: CpuTime, nsec: int) -> None:
        """More work."""
        self.buckets[bucket] = self.buckets.get(bucket, 0) + nsec
        self.total += nsec

    def take(self, nsec: int, times: list[int]) -> None:
        """`nsec` of the work is done, and goes to the CPU's buckets."""
        self.total -= nsec
        for bucket, queued in list(self.buckets.items()):
            part = min(queued, nsec)
            times[bucket] += part
            nsec -= part
            if part < queued:
                self.buckets[bucket] = queued - part
                return
            del self.buckets[bucket]

    def move_to(self, other: SchedEntity) -> None:
        """Make the work another's."""
        for bucket, nsec in self.buckets.items():
            other.add(bucket, nsec)
        self.buckets.clear()
        self.total = 0


class Cpu:
    """One processor: its time buckets and its run queue. Linux: struct kernel_cpustat, struct rq."""

    __slots__ = (
        "_last_ns",
        "_queue",
        "_times",
        "busy_ns",
        "clock",
        "cpu",
        "nid",
        "nobody",
        "nr_iowait",
        "nr_switches",
        "timer_wakeups",
    )

    def __init__(self, clock: Clock, cpu: int, nid: int = 0) -> None:
        self.clock = clock
        self.cpu = cpu
        self.nid = nid
        self.nr_switches = 0
        self.timer_wakeups = 0
        self.busy_ns = 0
        self.nr_iowait = 0
        """Tasks that last ran here and wait for a disk now."""
        self.nobody = SchedEntity(None, self)
        """Work of interrupts, and of tasks that are gone."""
        self._times = [0] * len(CpuTime)
        self._last_ns = clock.now_ns
        self._queue: list[SchedEntity] = []

    def sync(self) -> None:
        """Account for the time since the last call: work the queue off, then idle."""
        elapsed = self.clock.now_ns - self._last_ns
        if elapsed <= 0:
            return
        self._last_ns += elapsed
        if self._queue:
            left = self._share(elapsed)
            self.busy_ns += elapsed - left
            elapsed = left
        self._times[CpuTime.IOWAIT if self.nr_iowait else CpuTime.IDLE] += elapsed

    def _share(self, left: int) -> int:
        """Spend up to `left` ns on the queue, each task its share by weight; what is left then is returned."""
        queue, times = self._queue, self._times
        while left and queue:
            if len(queue) == 1:
                only = queue[0]
                part = min(left, only.total)
                only.take(part, times)
                left -= part
                if not only.total:
                    only.on_rq = False
                    queue.clear()
                continue
            weight = sum([entity.weight for entity in queue])
            step = min(left, min([-(-entity.total * weight // entity.weight) for entity in queue]))
            given = reached = 0
            for entity in queue:
                given += entity.weight
                until = step * given // weight
                part = min(until - reached, entity.total)
                reached = until
                left -= part
                entity.take(part, times)
                self._count_switches(entity, part)
            self._queue = queue = [entity for entity in queue if entity.total or self._leaves(entity)]
        return left

    @staticmethod
    def _leaves(entity: SchedEntity) -> bool:
        entity.on_rq = False
        return False

    def _count_switches(self, entity: SchedEntity, nsec: int) -> None:
        """A task that has company is preempted whenever its slice is used up."""
        entity.ran_ns += nsec
        switches = entity.ran_ns // SCHED_SLICE_NS
        if switches:
            entity.ran_ns -= switches * SCHED_SLICE_NS
            self.nr_switches += switches
            if entity.task is not None:
                entity.task.nivcsw += switches

    def enqueue(self, entity: SchedEntity, bucket: CpuTime, nsec: int) -> None:
        """Give a task of this CPU `nsec` of work, to be done once it waits for nothing."""
        self.sync()
        entity.add(bucket, nsec)
        if not entity.waits:
            self.wake(entity)

    def wake(self, entity: SchedEntity) -> None:
        """The task runs, or wants to, if it has any work. Linux: kernel/sched/core.c, try_to_wake_up()."""
        self.sync()
        if entity.total and not entity.on_rq:
            entity.on_rq = True
            entity.cpu = self
            self._queue.append(entity)
            if entity.task is not None:
                entity.weight = PRIO_TO_WEIGHT[entity.task.nice + 20]
                self.nr_switches += 1 if len(self._queue) > 1 else 2

    def dequeue(self, entity: SchedEntity) -> None:
        """The task does not run on, whatever it has still to do."""
        self.sync()
        if entity.on_rq:
            entity.on_rq = False
            self._queue.remove(entity)

    def interrupt(self, bucket: CpuTime, nsec: int) -> None:
        """Something that belongs to no task takes `nsec`."""
        self.enqueue(self.nobody, bucket, nsec)

    def finish_ns(self, entity: SchedEntity) -> int:
        """When the task, which is on the queue, will have done its work if nobody joins."""
        self.sync()
        own, weight = entity.total, entity.weight
        others = sum([min(e.total, -(-own * e.weight // weight)) for e in self._queue if e is not entity])
        return self.clock.now_ns + own + others

    def timer_interrupt(self, nsec: int) -> None:
        """A timer of the kernel's own fires here."""
        self.timer_wakeups += 1
        self.interrupt(CpuTime.IRQ, nsec)

    @property
    def nr_running(self) -> int:
        """Tasks that run or want to run here now."""
        self.sync()
        return len(self._queue) - self.nobody.on_rq

    @property
    def backlog_ns(self) -> int:
        """Work queued here and not done yet."""
        self.sync()
        return sum([entity.total for entity in self._queue])

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


class Scheduler:
    """All CPUs of a machine, and who ran on them how long."""

    def __init__(self, clock: Clock, nodes: Sequence[int]) -> None:
        """`nodes` tells each CPU's NUMA node."""
        self.clock = clock
        self.cpus = [Cpu(clock, cpu, nid) for cpu, nid in enumerate(nodes)]
        self.total_forks = 0
        """The "processes" line of /proc/stat. Linux: kernel/fork.c, total_forks."""
        self.nr_uninterruptible = 0
        """Tasks that wait for a disk or are throttled, which count as load."""

    def _entity(self, task: Accountable) -> SchedEntity:
        if task.sched is None:
            task.sched = SchedEntity(task, self.cpus[task.processor])
        entity: SchedEntity = task.sched
        return entity

    def charge(self, task: Accountable, *, user_ns: int = 0, system_ns: int = 0) -> None:
        """The task has used CPU time: in its own code, in the kernel on its behalf."""
        entity = self._entity(task)
        cpu = self.select_task_rq(task, entity)
        if user_ns:
            task.utime_ns += user_ns
            cpu.enqueue(entity, CpuTime.NICE if task.nice > 0 else CpuTime.USER, user_ns)
        if system_ns:
            task.stime_ns += system_ns
            cpu.enqueue(entity, CpuTime.SYSTEM, system_ns)

    def charge_syscall(self, task: Accountable, extra_ns: int = 0) -> None:
        """One system call, with what it did beyond entering and leaving the kernel."""
        self.charge(task, system_ns=Cost.SYSCALL + extra_ns)

    def charge_faults(self, task: Accountable, minor: int, major: int = 0, accesses: int = 0) -> None:
        """Page faults the task took, and the accesses that went without one."""
        self.charge(
            task,
            user_ns=accesses * Cost.ACCESS,
            system_ns=minor * Cost.FAULT_MINOR + major * Cost.FAULT_MAJOR,
        )

    def run_kthread(self, task: Accountable | None, nsec: int = Cost.WAKEUP, cpu: int = 0) -> None:
        """A timer woke a kernel thread, which ran `nsec`."""
        target = self.cpus[task.processor if task is not None else cpu]
        target.timer_wakeups += 1
        if task is None:
            target.interrupt(CpuTime.SYSTEM, nsec)
            target.nr_switches += 2
        else:
            task.stime_ns += nsec
            task.nvcsw += 1
            entity = self._entity(task)
            (entity.cpu if entity.on_rq else target).enqueue(entity, CpuTime.SYSTEM, nsec)

    def sleep(self, task: Accountable) -> None:
        """The task gives its CPU up of its own will."""
        task.nvcsw += 1

    # -- waiting -------------------------------------------------------------------------------------------

    def wait(self, task: Accountable, nsec: int, *, io: bool, memstall: bool = False) -> None:
        """The task sleeps uninterruptibly for `nsec` from when its other waits are over; `io`: until a disk answers.

        Linux: kernel/sched/core.c, io_schedule(); kernel/time/timer.c, schedule_timeout().
        """
        entity = self._entity(task)
        if entity.task is None:
            return
        task.nvcsw += 1
        begin = entity.waits[-1].until_ns if entity.waits else self.clock.now_ns
        entity.waits.append(Wait(begin + nsec, io, memstall))
        if len(entity.waits) == 1:
            entity.cpu.dequeue(entity)
            self.nr_uninterruptible += 1
            self._begin_wait(entity)

    def _begin_wait(self, entity: SchedEntity) -> None:
        wait = entity.waits[0]
        entity.cpu.nr_iowait += wait.io
        entity.timer = self.clock.add_timer(wait.until_ns, self._end_wait, entity)

    def _end_wait(self, entity: SchedEntity) -> None:
        """The interval is over: on to the next, or run."""
        cpu = entity.cpu
        cpu.sync()
        cpu.nr_iowait -= entity.waits.pop(0).io
        if entity.waits:
            self._begin_wait(entity)
        else:
            entity.timer = None
            self.nr_uninterruptible -= 1
            cpu.wake(entity)

    def is_waiting(self, task: Accountable) -> bool:
        """Whether the task sleeps uninterruptibly: state D of /proc/PID/stat."""
        return bool(self._entity(task).waits)

    def is_running(self, task: Accountable) -> bool:
        """Whether the task runs or waits for its CPU: state R of /proc/PID/stat."""
        entity = self._entity(task)
        entity.cpu.sync()
        return entity.on_rq and entity.task is not None

    def backlog_ns(self, task: Accountable) -> int:
        """CPU time that the task has called for and not had yet."""
        entity = self._entity(task)
        entity.cpu.sync()
        return entity.total if entity.task is not None else 0

    def ready_ns(self, task: Accountable) -> int:
        """When the task's waits are over and its work is done, if nobody else comes; the time now if it is ready."""
        entity = self._entity(task)
        if entity.waits:
            return entity.waits[-1].until_ns + entity.total
        return entity.cpu.finish_ns(entity) if self.is_running(task) else self.clock.now_ns

    def is_ready(self, task: Accountable) -> bool:
        """Whether the task has done all that it called for."""
        return not self.is_waiting(task) and not self.is_running(task)

    def call_when_ready(self, task: Accountable, function: Callable[..., object], *args: object) -> None:
        """Call `function(*args)` from the clock once the task is ready: a program's next step."""
        if self.is_ready(task):
            self.clock.add_timer(self.clock.now_ns, function, *args)
        else:
            self.clock.add_timer(self.ready_ns(task), self.call_when_ready, task, function, *args)

    def exit(self, task: Accountable) -> None:
        """The task is gone: it waits for nothing, and its queued work stays as nobody's."""
        entity = self._entity(task)
        cpu = entity.cpu
        cpu.dequeue(entity)
        if entity.timer is not None:
            entity.timer.cancel()
            self.nr_uninterruptible -= 1
            cpu.nr_iowait -= entity.waits[0].io
            entity.waits.clear()
        entity.move_to(cpu.nobody)
        cpu.wake(cpu.nobody)
        task.sched = cpu.nobody

    def select_task_rq(self, task: Accountable, entity: SchedEntity) -> Cpu:
        """Where the task runs: where it ran last if that is idle, else an idle CPU near, else the least busy.

        Linux: kernel/sched/fair.c, select_idle_sibling().
        """
        if entity.waits or entity.task is None:
            return entity.cpu
        previous = self.cpus[task.processor]
        entity.cpu.sync()
        if entity.on_rq:
            return entity.cpu
        if len(self.cpus) == 1 or not previous.nr_running:
            return previous
        allowed = self.cpus if task.cpus_allowed is None else [self.cpus[cpu] for cpu in sorted(task.cpus_allowed)]
        best = min(allowed, key=lambda cpu: (cpu.nr_running, cpu.nid != previous.nid, cpu.cpu), default=previous)
        if best.nr_running < previous.nr_running:
            task.processor = best.cpu
            return best
        return previous

    @property
    def nr_running(self) -> int:
        """procs_running of /proc/stat."""
        return sum(cpu.nr_running for cpu in self.cpus)

    @property
    def nr_iowait(self) -> int:
        """procs_blocked of /proc/stat."""
        return sum(cpu.nr_iowait for cpu in self.cpus)

    @property
    def nr_context_switches(self) -> int:
        """ctxt of /proc/stat."""
        for cpu in self.cpus:
            cpu.sync()
        return sum(cpu.nr_switches for cpu in self.cpus)

    def idle_ns(self) -> int:
        """Idle time of all CPUs together, as /proc/uptime counts it."""
        return sum(cpu.idle for cpu in self.cpus)

    def check(self) -> None:
        """Each CPU's buckets add up to the time since boot."""
        for cpu in self.cpus:
            total = sum(cpu.times()[: CpuTime.GUEST])
            if total != self.clock.now_ns:
                raise AssertionError(f"cpu{cpu.cpu}: buckets add up to {total} ns, uptime is {self.clock.now_ns} ns")
