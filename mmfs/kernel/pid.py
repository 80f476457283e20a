"""Process numbers, handed out in a circle, and the table of all tasks by number.

The next pid is the lowest free one above the last; past pid_max the search starts again at 300, so that the
low numbers of boot stay with those who have them. 1 and 2 therefore always are init and kthreadd.

Linux: kernel/pid.c.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Container, Iterator, ValuesView
from random import Random
from typing import TYPE_CHECKING, Final

from mmfs.mm.mempolicy import nodemask_of

if TYPE_CHECKING:
    from mmfs.fastpath.memcontrol import Memcontrol
    from mmfs.kernel.cred import Cred
    from mmfs.kernel.task import Task

RESERVED_PIDS: Final = 300
PID_MAX_DEFAULT: Final = 0x8000
PID_MAX_LIMIT: Final = 4 << 20
PIDS_PER_CPU_DEFAULT: Final = 1024
PIDS_PER_CPU_MIN: Final = 8
MAX_FLUSHED: Final = 1024


class PidAllocator:
    """The cursor and the bounds of a pid namespace.

    Linux: kernel/pid.c, pid_idr_init(), alloc_pid().
    """

    def __init__(self, nr_cpus: int, limit: int = PID_MAX_LIMIT) -> None:
        self.pid_max = min(limit, max(PID_MAX_DEFAULT, PIDS_PER_CPU_DEFAULT * nr_cpus))
        self.pid_max_min = max(RESERVED_PIDS + 1, PIDS_PER_CPU_MIN * nr_cpus)
        self.pid_max_max = limit
        self.last_pid = 0
        """The pid given out last, the fifth field of /proc/loadavg."""

    def alloc_pid(self, taken: Container[int]) -> int:
        """The next number that nobody in `taken` has; EAGAIN when there is none."""
        floor = RESERVED_PIDS if self.last_pid + 1 > RESERVED_PIDS else 1
        start = max(self.last_pid + 1, floor)
        for lower, upper in ((start, self.pid_max), (floor, min(start, self.pid_max))):
            for nr in range(lower, upper):
                if nr not in taken:
                    self.last_pid = nr
                    return nr
        raise BlockingIOError(errno.EAGAIN, "no free pid")

    def skip(self, count: int) -> None:
        """Let `count` numbers pass, as short-lived programs do that ran and were reaped during boot."""
        self.last_pid += count
        if self.last_pid >= self.pid_max:
            self.last_pid = RESERVED_PIDS + self.last_pid % (self.pid_max - RESERVED_PIDS)


class TaskTable:
    """Every task by its pid, threads included, and the numbers that fork(2) keeps.

    Linux: kernel/pid.c, init_pid_ns; kernel/fork.c, nr_threads, total_forks, max_threads.
    """

    def __init__(self, nr_cpus: int, max_threads: int, seed: int = 0, pid_max_limit: int = PID_MAX_LIMIT) -> None:
        self.rng = Random(f"tasks {seed}")
        """Where execve() gets the random numbers of address spaces."""
        self.pids = PidAllocator(nr_cpus, pid_max_limit)
        self.max_threads = max_threads
        self.nproc: dict[int, int] = {}
        """Tasks by real user id, for RLIMIT_NPROC. Linux: UCOUNT_RLIMIT_NPROC."""
        self._current: Task | None = None
        self.memcontrol: Memcontrol | None = None
        """Who is told which memory cgroup runs."""
        self._nr_cpus = nr_cpus
        self._last_cpu = nr_cpus - 1
        self._tasks: dict[int, Task] = {}
        self._leaders: list[Task] | None = None
        self.nr_flushed = 0
        self.flushed: deque[int] = deque(maxlen=MAX_FLUSHED)
        """Numbers whose /proc entries are not what they were, as somebody has gone or has become somebody else."""

    @property
    def current(self) -> Task | None:
        """Who made the last system call. Linux: current."""
        return self._current

    @current.setter
    def current(self, task: Task | None) -> None:
        last, self._current = self._current, task
        if self.memcontrol is not None and last is not task:
            if last is not None:
                last.memcg_nr_pages_over_high = self.memcontrol.over_high_pages
            self.memcontrol.over_high_pages = 0 if task is None else task.memcg_nr_pages_over_high
            self.memcontrol.current = 0 if task is None else task.memcg
            self.memcontrol.buddy.mems_allowed = nodemask_of(None if task is None else task.mems_allowed)

    def __getitem__(self, pid: int) -> Task:
        return self._tasks[pid]

    def __contains__(self, pid: object) -> bool:
        return pid in self._tasks

    def __iter__(self) -> Iterator[int]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def get(self, pid: int) -> Task | None:
        """The task or thread with this number."""
        return self._tasks.get(pid)

    def values(self) -> ValuesView[Task]:
        """All tasks and threads, in the order in which they came."""
        return self._tasks.values()

    def items(self) -> list[tuple[int, Task]]:
        """All (pid, task), in the order in which they came."""
        return list(self._tasks.items())

    def processes(self) -> list[Task]:
        """All thread group leaders by rising pid, as readdir(3) of /proc lists them."""
        if self._leaders is None:
            self._leaders = sorted((t for t in self._tasks.values() if t.pid == t.tgid), key=lambda t: t.pid)
        return self._leaders

    @property
    def last_pid(self) -> int:
        """The number given out last."""
        return self.pids.last_pid

    def swap(self, old: Task, new: Task, pid: int) -> None:
        """Give `new` the number `pid` of the leader `old`, whose `old.pid` is new. Linux: exchange_tids()."""
        self._tasks[old.pid] = old
        new.pid = new.tgid = pid
        self._tasks[pid] = new
        self.nproc[new.uid] += 1
        self._leaders = None
        for task, number in ((old, old.pid), (new, pid)):
            for cgroup in task.cset:
                cgroup.tasks[number] = task
            self.proc_flush_pid(number)

    @property
    def nr_threads(self) -> int:
        """Tasks that exist, zombies included."""
        return len(self._tasks)

    def attach(self, task: Task) -> None:
        """Make a new task findable. Linux: kernel/pid.c, attach_pid()."""
        self._tasks[task.pid] = task
        self.nproc[task.uid] = self.nproc.get(task.uid, 0) + 1
        if task.pid == task.tgid:
            self._leaders = None

    def proc_flush_pid(self, pid: int) -> None:
        """What was looked up in /proc under this number holds no more. Linux: fs/proc/base.c, proc_flush_pid()."""
        self.nr_flushed += 1
        self.flushed.append(pid)

    def detach(self, task: Task) -> None:
        """Free a task's number. Linux: kernel/pid.c, detach_pid(), free_pid()."""
        del self._tasks[task.pid]
        self.proc_flush_pid(task.pid)
        if self.current is task:
            self.current = None
        self.nproc[task.uid] -= 1
        if task.pid == task.tgid:
            self._leaders = None

    def commit_creds(self, task: Task, cred: Cred) -> None:
        """Make a task someone else. Linux: kernel/cred.c, commit_creds()."""
        if task.pid in self._tasks and cred.uid != task.uid:
            self.nproc[task.uid] -= 1
            self.nproc[cred.uid] = self.nproc.get(cred.uid, 0) + 1
        task.cred = cred
        self.proc_flush_pid(task.pid)

    def next_cpu(self, parent: Task) -> int:
        """Where a new task runs first: the CPUs take turns, within those that the creator may use.

        Linux: kernel/sched/fair.c, sched_balance_find_dst_group(). Simplified: turns instead of load.
        """
        for _ in range(self._nr_cpus):
            self._last_cpu = (self._last_cpu + 1) % self._nr_cpus
            if parent.cpus_allowed is None or self._last_cpu in parent.cpus_allowed:
                break
        return self._last_cpu
