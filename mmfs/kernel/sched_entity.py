"""A task as its CPU sees it: work that is not done yet, and what it waits for first.

Linux: include/linux/sched.h, struct sched_entity.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from mmfs.kernel.cputime import CpuTime
from mmfs.kernel.sched import NICE_0_WEIGHT, PRIO_TO_WEIGHT

if TYPE_CHECKING:
    from mmfs.kernel.cgroup.rstat import BaseStat
    from mmfs.kernel.clock import Timer
    from mmfs.kernel.psi import PsiGroup
    from mmfs.kernel.rq import Cpu

VRUNTIME_SHIFT: Final = 22
INV_WEIGHT: Final = {weight: (NICE_0_WEIGHT << VRUNTIME_SHIFT) // weight for weight in PRIO_TO_WEIGHT}
NICE: Final = int(CpuTime.NICE)


Waiter = tuple[Callable[..., object], tuple[object, ...]]
"""What to call when a task is ready."""


class Accountable(Protocol):
    """What of a task the scheduler reads and writes."""

    processor: int
    nvcsw: int
    nivcsw: int
    delays: bool
    blkio_delay_ns: int
    sched: Any

    @property
    def nice(self) -> int:
        """Decides its weight; a positive one makes user time count as nice."""

    @property
    def cpus_allowed(self) -> Collection[int] | None:
        """Where it may run; None: anywhere."""


class Wait(NamedTuple):
    """An interval for which a task sleeps uninterruptibly."""

    until_ns: int
    nsec: int
    io: bool
    memstall: bool


class SchedEntity:
    """What a task has to do, and how far it is with it. Linux: struct sched_entity."""

    __slots__ = ("cpu", "frozen", "migrated", "nr_migrations", "on_rq", "psi_flags", "psi_group", "stall_ns", "stat",
                 "stime_ns", "task", "timer", "total", "utime_ns", "vruntime", "waiters", "waits", "weight",
                 "work")  # fmt: skip

    def __init__(self, task: Accountable | None, cpu: Cpu, psi_group: PsiGroup | None = None) -> None:
        self.stat: BaseStat | None = None
        """Where its time counts: with its cgroup."""
        self.task = task
        self.cpu = cpu
        self.on_rq = False
        self.frozen = False
        """Does nothing of its work until it is thawed."""
        self.weight = NICE_0_WEIGHT
        self.vruntime = cpu.min_vruntime
        self.work: dict[int, int] = {}
        """Nanoseconds to do, in this order, by bucket << 1 | whether it is a memstall."""
        self.total = self.stall_ns = 0
        self.utime_ns = self.stime_ns = 0
        """Done."""
        self.waits: list[Wait] = []
        self.timer: Timer | None = None
        self.migrated = 0
        """When it was moved to another CPU, in turns."""
        self.nr_migrations = 0
        """How often it went on where it had not run last."""
        self.waiters: list[Waiter] = []
        """When all work is done and all waits are over."""
        self.psi_group = psi_group
        self.psi_flags = 0

    def add(self, bucket: int, nsec: int, memstall: bool) -> None:
        """More work."""
        key = bucket << 1 | memstall
        self.work[key] = self.work.get(key, 0) + nsec
        self.total += nsec
        if memstall:
            self.stall_ns += nsec

    @property
    def memstall(self) -> bool:
        """Whether what it does now, or waits for, is a stall on memory."""
        if self.waits:
            return self.waits[0].memstall
        return self.stall_ns > 0 and next(iter(self.work)) & 1 == 1

    def stretch_ns(self) -> int:
        """How much of the work comes before the task is done, or enters or leaves a memstall."""
        if not self.stall_ns:
            return self.total
        stretch, first = 0, self.memstall
        for key, nsec in self.work.items():
            if key & 1 != first:
                break
            stretch += nsec
        return stretch

    def take(self, nsec: int, times: list[int]) -> None:
        """`nsec` of the work is done: it goes to the CPU's buckets and is the task's."""
        self.total -= nsec
        self.vruntime += nsec * INV_WEIGHT[self.weight]
        work, stat = self.work, self.stat
        while nsec:
            key = next(iter(work))
            queued = work[key]
            if queued <= nsec:
                part = queued
                del work[key]
            else:
                part = nsec
                work[key] = queued - nsec
            nsec -= part
            bucket = key >> 1
            times[bucket] += part
            if stat is not None:
                stat.account(bucket, part)
            if bucket <= NICE:
                self.utime_ns += part
            else:
                self.stime_ns += part
            if key & 1:
                self.stall_ns -= part

    def hand_over(self, other: SchedEntity) -> None:
        """The task ends: the work is its time already, and another's to do."""
        for key, nsec in self.work.items():
            bucket = key >> 1
            other.add(bucket, nsec, False)
            if self.stat is not None:
                self.stat.account(bucket, nsec)
            if bucket <= NICE:
                self.utime_ns += nsec
            else:
                self.stime_ns += nsec
        self.work.clear()
        self.total = self.stall_ns = 0
