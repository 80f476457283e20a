"""The scheduler: where tasks run, what they wait for, when they are through with what they called for.

The effects of a system call are there when it returns; its time follows. What it costs (kernel/cputime.py) is queued
as work on the task's CPU (kernel/rq.py), and where it waits for a disk or is throttled, an interval is noted for which
the task sleeps. `ready_ns()` tells when all that will be over: then a program makes its next call
(`call_when_ready()`), and `Kernel.schedule()` lets time pass until then for whoever calls from outside.

A task that wakes runs where it ran last if that CPU is idle, else on an idle one, else where the load is least. While
some CPU has more than one task, the tick balances: an idle CPU takes one, and every now and then so does the
least loaded from the most loaded, so that three tasks on two CPUs get two thirds each.

Linux: kernel/sched/core.c, fair.c.

Simplified: one level of balancing for all CPUs instead of domains; a CPU that falls idle takes over a task at the next
tick, not at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from mmfs.kernel.clock import TICK_NSEC, Clock, Timer
from mmfs.kernel.cputime import Cost, CpuTime
from mmfs.kernel.psi import PsiGroup
from mmfs.kernel.rq import Cpu
from mmfs.kernel.sched_entity import Accountable, SchedEntity, Wait

USER: Final = int(CpuTime.USER)
NICE: Final = int(CpuTime.NICE)
SYSTEM: Final = int(CpuTime.SYSTEM)
BUSY_BALANCE_TICKS: Final = 16
"""How rarely a loaded CPU takes over a task from one with more load. Linux: struct sched_domain, busy_factor."""


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
        self.psi_system = PsiGroup(clock, self.cpus)
        """The pressure on all tasks of the machine."""
        self.delayacct_on = 0
        """Whether tasks' delays are accounted for, of those that begin from then on: kernel.task_delayacct."""
        self._balance_timer: Timer | None = None
        self._ticks = self._migrations = 0

    def _entity(self, task: Accountable) -> SchedEntity:
        if task.sched is None:
            task.sched = SchedEntity(task, self.cpus[task.processor], self.psi_system)
            self.move_group(task)
        entity: SchedEntity = task.sched
        return entity

    def move_group(self, task: Accountable) -> None:
        """The task is in another cgroup: its time and what it stalls on count there from now on."""
        entity, group = task.sched, getattr(task, "cgrp", None)
        if entity is None or group is None:
            return
        if entity.psi_group is not group.psi:
            entity.cpu.psi_move(entity, group.psi)
        entity.cpu.sync()
        entity.stat = group.stat

    def charge(self, task: Accountable, *, user_ns: int = 0, system_ns: int = 0, memstall: bool = False) -> None:
        """The task needs CPU time: for its own code, for the kernel on its behalf; `memstall`: to reclaim memory."""
        entity: SchedEntity = task.sched or self._entity(task)
        if entity.task is None:
            self._charge_exited(task, entity, user_ns, system_ns)
            return
        cpu = entity.cpu
        if entity.waits or (entity.on_rq and cpu.now_ns == self.clock.now_ns):
            if user_ns:
                entity.add(NICE if task.nice > 0 else USER, user_ns, False)
            if system_ns:
                entity.add(SYSTEM, system_ns, memstall)
            if entity.on_rq:
                cpu.drained_ns += user_ns + system_ns
            return
        cpu = self.select_task_rq(task, entity)
        if user_ns:
            cpu.enqueue(entity, NICE if task.nice > 0 else USER, user_ns)
        if system_ns:
            cpu.enqueue(entity, SYSTEM, system_ns, memstall)

    @staticmethod
    def _charge_exited(task: Accountable, entity: SchedEntity, user_ns: int, system_ns: int) -> None:
        user = NICE if user_ns and task.nice > 0 else USER
        if entity.stat is not None:
            entity.stat.account(user, user_ns)
            entity.stat.account(SYSTEM, system_ns)
        entity.utime_ns += user_ns
        entity.stime_ns += system_ns
        entity.cpu.interrupt(user, user_ns)
        entity.cpu.interrupt(SYSTEM, system_ns)

    def cputime(self, task: Accountable) -> tuple[int, int]:
        """User and system time that the task has had. Linux: kernel/sched/cputime.c, task_cputime_adjusted()."""
        entity = self._entity(task)
        entity.cpu.sync()
        return entity.utime_ns, entity.stime_ns

    def charge_syscall(self, task: Accountable, extra_ns: int = 0) -> None:
        """One system call, with what it did beyond entering and leaving the kernel."""
        self.charge(task, system_ns=Cost.SYSCALL + extra_ns)

    def run_kthread(self, task: Accountable | None, nsec: int = Cost.WAKEUP, cpu: int = 0) -> None:
        """A timer woke a kernel thread, which ran `nsec`."""
        target = self.cpus[task.processor if task is not None else cpu]
        target.timer_wakeups += 1
        if task is None:
            target.interrupt(SYSTEM, nsec)
            target.nr_switches += 2
        else:
            task.nvcsw += 1
            self.charge(task, system_ns=nsec)

    def sleep(self, task: Accountable) -> None:
        """The task gives its CPU up of its own will."""
        task.nvcsw += 1

    # -- waiting -------------------------------------------------------------------------------------------

    def wait(self, task: Accountable, nsec: int, *, io: bool, memstall: bool = False, times: int = 1) -> None:
        """The task sleeps uninterruptibly for `nsec` from when its other waits are over; `io`: until a disk answers.

        In `times` turns, between which it runs for moments.

        Linux: kernel/sched/core.c, io_schedule(); kernel/time/timer.c, schedule_timeout().
        """
        entity: SchedEntity = task.sched or self._entity(task)
        if entity.task is None:
            return
        task.nvcsw += times
        entity.cpu.nr_switches += 2 * (times - 1)
        waits = entity.waits
        begin = waits[-1].until_ns if waits else self.clock.now_ns
        if len(waits) > 1 and waits[-1].io == io and waits[-1].memstall == memstall:  # it has not begun: make it longer
            waits[-1] = Wait(begin + nsec, waits[-1].nsec + nsec, io, memstall)
            return
        waits.append(Wait(begin + nsec, nsec, io, memstall))
        if len(waits) == 1:
            entity.cpu.dequeue(entity)
            self.nr_uninterruptible += 1
            self._begin_wait(entity)

    def _begin_wait(self, entity: SchedEntity) -> None:
        wait = entity.waits[0]
        entity.cpu.nr_iowait += wait.io
        entity.cpu.psi_task_change(entity)
        entity.timer = self.clock.add_timer(wait.until_ns, self._end_wait, entity)

    def _end_wait(self, entity: SchedEntity) -> None:
        """The interval is over: on to the next, or run."""
        cpu = entity.cpu
        cpu.sync()
        wait = entity.waits.pop(0)
        cpu.nr_iowait -= wait.io
        if wait.io and self.delayacct_on and entity.task is not None and entity.task.delays:
            entity.task.blkio_delay_ns += wait.nsec
        if entity.waits:
            self._begin_wait(entity)
        else:
            entity.timer = None
            self.nr_uninterruptible -= 1
            if entity.total and entity.task is not None:
                cpu = self.select_task_rq(entity.task, entity)
            cpu.wake(entity)
            if entity.waiters and not entity.total:
                waiters, entity.waiters = entity.waiters, []
                for function, args in waiters:
                    function(*args)
            elif entity.waiters:
                cpu.watch()

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
        entity: SchedEntity = task.sched or self._entity(task)
        entity.cpu.sync()
        return entity.total if entity.task is not None else 0

    def ready_ns(self, task: Accountable) -> int:
        """The time before which the task is not ready; the time now if it is. Who finds it busy then asks again."""
        entity: SchedEntity = task.sched or self._entity(task)
        if entity.waits:
            return entity.waits[-1].until_ns + entity.total
        now = self.clock.now_ns
        if not entity.on_rq:
            return now
        cpu = entity.cpu
        if cpu.now_ns != now:
            cpu.sync()
        if cpu.curr is entity:
            return cpu.now_ns + entity.total if entity.task is not None else now
        return cpu.not_before_ns(entity) if entity.on_rq and entity.task is not None else now

    def is_ready(self, task: Accountable) -> bool:
        """Whether the task has done all that it called for."""
        return not self.is_waiting(task) and not self.is_running(task)

    def is_idle(self, task: Accountable) -> bool:
        """Whether the task is ready, and would go on at once if something were to be done."""
        entity: SchedEntity = task.sched or self._entity(task)
        if entity.on_rq:
            entity.cpu.sync()
        return not (entity.on_rq or entity.waits or entity.frozen)

    def call_when_ready(self, task: Accountable, function: Callable[..., object], *args: object) -> None:
        """Call `function(*args)` from the clock once the task is ready: a program's next step."""
        entity: SchedEntity = task.sched or self._entity(task)
        entity.waiters.append((function, args))
        entity.cpu.sync()
        if entity.on_rq:
            entity.cpu.watch()
        elif not entity.waits and not entity.frozen:
            entity.cpu.call_waiters(entity)

    def freeze(self, task: Accountable) -> None:
        """The task stands still, whatever it has still to do."""
        entity = self._entity(task)
        entity.frozen = True
        entity.cpu.dequeue(entity)
        entity.cpu.psi_task_change(entity)

    def thaw(self, task: Accountable) -> None:
        """It goes on where it was."""
        entity = self._entity(task)
        entity.frozen = False
        cpu = self.select_task_rq(task, entity) if entity.total else entity.cpu
        cpu.wake(entity)
        if entity.waiters and entity.total:
            cpu.watch()
        elif entity.waiters:
            cpu.call_waiters(entity)

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
        entity.hand_over(cpu.nobody)
        entity.task = None
        cpu.wake(cpu.nobody)
        cpu.psi_task_change(entity)
        cpu.call_waiters(entity)

    # -- where tasks run -----------------------------------------------------------------------------------

    def select_task_rq(self, task: Accountable, entity: SchedEntity) -> Cpu:
        """Where the task runs: where it ran last if that is idle, else an idle CPU near, else the least busy.

        Linux: kernel/sched/fair.c, select_idle_sibling().
        """
        if entity.waits or entity.on_rq:
            entity.cpu.sync()
            if entity.waits or entity.on_rq:
                return entity.cpu
        previous = self.cpus[task.processor]
        if self.clock.now_ns >= previous.drained_ns or len(self.cpus) == 1:
            return previous
        allowed = self.cpus if task.cpus_allowed is None else [self.cpus[cpu] for cpu in sorted(task.cpus_allowed)]
        idle = [cpu for cpu in allowed if cpu.is_idle]
        if idle:
            best = min(idle, key=lambda cpu: (cpu.nid != previous.nid, cpu.cpu))
        else:
            best = min(allowed, key=lambda cpu: (cpu.load, cpu is not previous, cpu.nid != previous.nid))
            if self._balance_timer is None:
                self._balance_timer = self.clock.add_timer(self.clock.now_ns + TICK_NSEC, self.balance)
        task.processor = best.cpu
        return best

    def balance(self) -> None:
        """The tick, while tasks share CPUs: an idle CPU takes one over. Linux: sched_balance_domains()."""
        self._balance_timer = None
        self._ticks += 1
        for cpu in [cpu for cpu in self.cpus if cpu.is_idle]:
            if not self._pull_task(cpu):
                break
        if self._ticks % BUSY_BALANCE_TICKS == 0:
            self._even_out()
        if any(len(cpu) > 1 for cpu in self.cpus):
            self._balance_timer = self.clock.add_timer(self.clock.now_ns + TICK_NSEC, self.balance)

    def _pull_task(self, cpu: Cpu) -> bool:
        """Take a task over from the CPU that has most; whether any has more than one."""
        busiest = max(self.cpus, key=len)
        busiest.sync()
        if len(busiest) < 2:
            return False
        for entity in busiest.movable(cpu.cpu)[:1]:
            self.migrate_task(entity, cpu)
        return True

    def _even_out(self) -> None:
        """Move a task from the most to the least loaded if that does not turn them round.

        Linux: kernel/sched/fair.c, calculate_imbalance(), detach_tasks().
        """
        for cpu in self.cpus:
            cpu.sync()
        most, least = max(self.cpus, key=lambda cpu: cpu.load), min(self.cpus, key=lambda cpu: cpu.load)
        for entity in most.movable(least.cpu):
            if entity.weight <= most.load - least.load:
                self.migrate_task(entity, least)
                return

    def migrate_task(self, entity: SchedEntity, cpu: Cpu) -> None:
        """The task runs on elsewhere. Linux: kernel/sched/core.c, set_task_cpu()."""
        entity.cpu.dequeue(entity)
        self._migrations += 1
        entity.migrated = self._migrations
        if entity.task is not None:
            entity.task.processor = cpu.cpu
        cpu.wake(entity)
        cpu.watch()

    def move_task(self, task: Accountable, cpu: Cpu) -> None:
        """The task runs there from now on. Linux: kernel/sched/core.c, migrate_task_to()."""
        entity = self._entity(task)
        entity.cpu.sync()
        if entity.on_rq:
            self.migrate_task(entity, cpu)
        else:
            task.processor = cpu.cpu

    def task_changed(self, task: Accountable) -> None:
        """Its nice value or the CPUs it may use have changed. Linux: reweight_task(), set_cpus_allowed_ptr()."""
        entity = self._entity(task)
        entity.cpu.sync()
        if entity.on_rq:
            self.migrate_task(entity, self.cpus[task.processor])

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
        """Each CPU's buckets add up to the time since boot, and no pressure lasted longer."""
        self.psi_system.check()
        for cpu in self.cpus:
            total = sum(cpu.times()[: CpuTime.GUEST])
            if total != self.clock.now_ns:
                raise AssertionError(f"cpu{cpu.cpu}: buckets add up to {total} ns, uptime is {self.clock.now_ns} ns")
