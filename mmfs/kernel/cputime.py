"""Where CPU time goes: run queues, time buckets, context switches, load average.

A system call of the model takes no simulated time: it is over when it returns, and the clock stands still
meanwhile. What it costs (`Cost`, a small table of nanoseconds) is charged to the task at once and put on the
run queue of the task's CPU as work to be done. As the clock moves, each CPU works its queue off, sharing its
time among the tasks on it, and what it has worked goes to its user, nice, system, irq and softirq buckets;
the rest is idle, or iowait while a task that last ran there waits for a disk. So for each CPU the buckets
always add up to the time since boot, a long computation keeps its CPU busy for as long as it takes, and the
load average, procs_running, context switches and timer interrupts follow from who is on the queues.

Nothing here happens at each tick: a CPU is brought up to date (`Cpu.sync()`) when someone looks at it or adds
to its queue, so a thousand idle CPUs cost nothing.

Linux: kernel/sched/cputime.c, loadavg.c, fair.c; kernel/time/tick-sched.c.
Simplified: one round of round-robin instead of EEVDF; nice values weigh nothing; no balancing of tasks once placed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import IntEnum
from typing import Final, Protocol

from mmfs.kernel.clock import NSEC_PER_MSEC, TICK_NSEC, Clock


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


SCHED_SLICE_NS: Final = 3 * NSEC_PER_MSEC
"""How long a task runs before another one on the same CPU gets its turn."""


class Accountable(Protocol):
    """What of a task the accounting reads and writes."""

    processor: int
    utime_ns: int
    stime_ns: int
    nvcsw: int
    nivcsw: int

    @property
    def nice(self) -> int:
        """A positive one makes user time count as nice."""

    @property
    def cpus_allowed(self) -> Collection[int] | None:
        """Where it may run; None: anywhere."""


class RunnableWork:
    """What a task has still to do on the CPU it is queued on."""

    __slots__ = ("buckets", "task", "total")

    def __init__(self, task: Accountable | None) -> None:
        self.task = task
        self.buckets: dict[CpuTime, int] = {}
        self.total = 0

    def add(self, bucket: CpuTime, nsec: int) -> None:
        """Queue more work."""
        self.buckets[bucket] = self.buckets.get(bucket, 0) + nsec
        self.total += nsec


class Cpu:
    """One processor: its time buckets and its run queue. Linux: struct kernel_cpustat, struct rq."""

    __slots__ = (
        "_io_until",
        "_last_ns",
        "_queue",
        "_times",
        "busy_ns",
        "clock",
        "cpu",
        "nid",
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
        self._times = [0] * len(CpuTime)
        self._last_ns = clock.now_ns
        self._queue: dict[Accountable | None, RunnableWork] = {}
        self._io_until: dict[Accountable, int] = {}

    def sync(self) -> None:
        """Account for the time since the last call: work the queue off, then idle."""
        now = self.clock.now_ns
        elapsed = now - self._last_ns
        if elapsed <= 0:
            return
        left = self._work(elapsed) if self._queue else elapsed
        if left:
            waited = 0
            if self._io_until:
                waited = max(min(left, max(self._io_until.values()) - self._last_ns), 0)
                self._io_until = {task: until for task, until in self._io_until.items() if until > now}
            self._times[CpuTime.IOWAIT] += waited
            self._times[CpuTime.IDLE] += left - waited
        self._last_ns = now

    def _work(self, elapsed: int) -> int:
        """Spend up to `elapsed` ns on the queue, fairly; the rest is returned."""
        left = elapsed
        while left and self._queue:
            nr_running = len(self._queue)
            share = max(left // nr_running, 1)
            for key, work in list(self._queue.items()):
                spent = self._run(work, min(share, left))
                left -= spent
                switches = spent // SCHED_SLICE_NS if nr_running > 1 else 0
                self.nr_switches += switches
                if work.task is not None:
                    work.task.nivcsw += switches
                if not work.total:
                    del self._queue[key]
                if not left:
                    break
        self.busy_ns += elapsed - left
        return left

    def _run(self, work: RunnableWork, limit: int) -> int:
        """Let one task run for at most `limit` ns."""
        spent = 0
        for bucket in list(work.buckets):
            part = min(work.buckets[bucket], limit - spent)
            self._times[bucket] += part
            spent += part
            if part == work.buckets[bucket]:
                del work.buckets[bucket]
            else:
                work.buckets[bucket] -= part
                break
        work.total -= spent
        return spent

    def enqueue(self, task: Accountable | None, bucket: CpuTime, nsec: int) -> None:
        """Give this CPU `nsec` of work, on behalf of a task or of an interrupt (None)."""
        self.sync()
        work = self._queue.get(task)
        if work is None:
            work = self._queue[task] = RunnableWork(task)
            if task is not None:
                self.nr_switches += 1 if len(self._queue) > 1 else 2
        work.add(bucket, nsec)

    def has_queued(self, task: Accountable) -> bool:
        """Whether the task has work here that is not done yet."""
        return task in self._queue

    def timer_interrupt(self, nsec: int) -> None:
        """A timer of the kernel's own fires here."""
        self.timer_wakeups += 1
        self.enqueue(None, CpuTime.IRQ, nsec)

    def forget(self, task: Accountable) -> None:
        """The task is gone: its queued work stays, as nobody's."""
        work = self._queue.pop(task, None)
        if work is not None:
            rest = self._queue.setdefault(None, RunnableWork(None))
            for bucket, nsec in work.buckets.items():
                rest.add(bucket, nsec)
        self._io_until.pop(task, None)

    def io_wait(self, task: Accountable, nsec: int) -> None:
        """The task, which last ran here, sleeps in the kernel until a disk has answered."""
        self.sync()
        self._io_until[task] = max(self._io_until.get(task, 0), self.clock.now_ns) + nsec

    @property
    def nr_running(self) -> int:
        """Tasks that run or want to run here now."""
        self.sync()
        return len(self._queue) - (None in self._queue)

    @property
    def nr_iowait(self) -> int:
        """Tasks that last ran here and wait for a disk now."""
        now = self.clock.now_ns
        return sum(1 for until in self._io_until.values() if until > now)

    @property
    def backlog_ns(self) -> int:
        """Work queued here and not done yet."""
        self.sync()
        return sum(work.total for work in self._queue.values())

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

    def charge(self, task: Accountable, *, user_ns: int = 0, system_ns: int = 0) -> None:
        """The task has used CPU time: in its own code, in the kernel on its behalf."""
        cpu = self.select_task_rq(task)
        if user_ns:
            task.utime_ns += user_ns
            cpu.enqueue(task, CpuTime.NICE if task.nice > 0 else CpuTime.USER, user_ns)
        if system_ns:
            task.stime_ns += system_ns
            cpu.enqueue(task, CpuTime.SYSTEM, system_ns)

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
            target.enqueue(None, CpuTime.SYSTEM, nsec)
            target.nr_switches += 2
        else:
            task.stime_ns += nsec
            task.nvcsw += 1
            target.enqueue(task, CpuTime.SYSTEM, nsec)

    def sleep(self, task: Accountable) -> None:
        """The task gives its CPU up of its own will."""
        task.nvcsw += 1

    def io_wait(self, task: Accountable, nsec: int) -> None:
        """The task waits for a disk: a voluntary switch away and iowait on its CPU."""
        task.nvcsw += 1
        self.cpus[task.processor].io_wait(task, nsec)

    def is_running(self, task: Accountable) -> bool:
        """Whether the task runs or waits for its CPU: state R of /proc/PID/stat."""
        cpu = self.cpus[task.processor]
        cpu.sync()
        return cpu.has_queued(task)

    def exit(self, task: Accountable) -> None:
        """The task is gone."""
        self.cpus[task.processor].forget(task)

    def select_task_rq(self, task: Accountable) -> Cpu:
        """Where the task runs: where it ran last if that is idle, else an idle CPU near, else the least busy.

        Linux: kernel/sched/fair.c, select_idle_sibling().
        """
        previous = self.cpus[task.processor]
        if len(self.cpus) == 1 or not previous.nr_running or previous.has_queued(task):
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
