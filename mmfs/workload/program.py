"""A running program: a task and what it does next.

A program only makes system calls, and reads and writes its memory, as any process does. It does so in steps: `step()`
makes a call or a few that take at most about a millisecond and returns how long the program then sleeps. The next step
comes from the clock, when the task has done the work it has called for, has waited for its devices, and has slept. So a
slow disk, a busy CPU or a reclaim in its way make a program slow, as they should. It dies with its task, stands still
while the task is stopped, and ends with status 1 when a call fails that it needs.

A program keeps what it has to remember in its attributes, so a machine with programs can be saved and goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

import numpy as np

from mmfs.kernel.clock import NSEC_PER_MSEC, NSEC_PER_SEC
from mmfs.kernel.sched import PF_EXITING, TASK_STOPPED
from mmfs.kernel.signal import SIGNAL_NAMES, SIGTERM, TaskFaulting, TaskKilled, TaskStopped
from mmfs.workload.parameters import parameters_of, parse_parameters

if TYPE_CHECKING:
    from mmfs.kernel.clock import Timer
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

FOREVER: Final = -1
"""What step() returns when there is nothing to do until a signal, a child or a new parameter comes."""
MAX_BYTES: Final = 4 << 20
"""Memory that a step takes at most: about a millisecond of page faults."""
STEP_NS: Final = NSEC_PER_MSEC
MAX_BURST: Final = 1 << 30
MAX_BEHIND_NS: Final = NSEC_PER_SEC
ENDED: Final = 20


class Pace:
    """Keeps a rate: how long to sleep after so much work. A program that has fallen far behind does not catch up."""

    def __init__(self) -> None:
        self.due_ns = -1

    def take(self, now_ns: int, amount: int, per_second: int) -> int:
        """Sleep that long; 0 means no limit."""
        if not per_second:
            return 0
        begin = now_ns if self.due_ns < 0 else max(self.due_ns, now_ns - MAX_BEHIND_NS)
        self.due_ns = begin + amount * NSEC_PER_SEC // per_second
        return max(self.due_ns - now_ns, 0)


class Program:
    """What a task does. Subclasses declare `name`, their parameters, `start()` and `step()`."""

    name: ClassVar[str] = ""
    comm: ClassVar[str] = ""
    """The name of the process, if it is another."""

    def __init__(self, task: Task, texts: Mapping[str, str] | None = None) -> None:
        self.task = task
        self.kernel: Kernel = task.kernel
        self.texts = {name: one.default for name, one in parameters_of(type(self)).items()} | dict(texts or {})
        self.values = parse_parameters(type(self), self.texts)
        self.random = Random(f"workload {self.kernel.seed} {task.pid}")
        self.rng = np.random.Generator(np.random.PCG64(self.random.getrandbits(64)))
        self.pace = Pace()
        self.burst = MAX_BYTES // 8
        """What a step of a program without a rate does: as much as takes it about a millisecond."""
        self.started = False
        self.timer: Timer | None = None
        """While it sleeps."""
        self.ready_soon = False
        """Whether the next step is due when the task is ready."""
        self.error = ""

    def start(self) -> None:
        """What the program does first."""

    def step(self) -> int:
        """The next call; nanoseconds to sleep after it, or FOREVER."""
        return FOREVER

    def changed(self) -> None:
        """A parameter has another value."""

    @property
    def settled(self) -> bool:
        """Whether it has taken what it takes at the start."""
        return self.started

    def progress(self) -> str:
        """How far it has come, for people."""
        return ""

    # ---- help for subclasses ------------------------------------------------------------------------------------

    def chunk(self, per_second: int, unit: int = 4096, most: int = MAX_BYTES) -> int:
        """How many bytes a step does at a rate: ten steps a second, or more if that is too much at once."""
        if not per_second:
            return max(self.burst // unit * unit, unit)
        return min(max(per_second // 10 // unit * unit, unit), most)

    def compute(self, nsec: int) -> None:
        """Use the processor."""
        self.kernel.scheduler.charge(self.task, user_ns=nsec)

    def file_on_disk(self, path: str, size: int) -> None:
        """Have a file there from the start, nothing of it cached."""
        if self.kernel.namei.lookup(path) is None:
            self.kernel.create_file(path, size)

    # ---- running ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Make the next step now, and have the clock make the one after it."""
        task = self.task
        if not task.alive or task.state == TASK_STOPPED:
            return
        now = self.kernel.clock.now_ns
        try:
            if not self.started:
                self.started = True
                self.start()
            sleep = self.step()
        except TaskFaulting:
            sleep = 0  # the step is made again
        except (TaskKilled, TaskStopped):
            return
        except OSError as error:
            self.error = error.strerror or str(error)
            if task.alive:
                task.exit(1)
            return
        if task.alive:
            self._sleep(now, sleep)

    def _sleep(self, begin_ns: int, nsec: int) -> None:
        scheduler, clock = self.kernel.scheduler, self.kernel.clock
        task = self.task
        ready_ns = scheduler.ready_ns(task)
        if ready_ns - begin_ns < STEP_NS // 4:
            self.burst = min(self.burst * 2, MAX_BURST)
        elif ready_ns - begin_ns > STEP_NS:
            self.burst = max(self.burst // 2, 4096)
        if nsec:
            task.wchan = "do_sys_poll" if nsec == FOREVER else "hrtimer_nanosleep"
            scheduler.sleep(task)
        if nsec > 0:
            self.timer = clock.add_timer(begin_ns + nsec, self._due)
        elif nsec != FOREVER:
            self._go_on()

    def _due(self) -> None:
        """It has slept long enough."""
        self.timer = None
        if self.ready_soon or not self.kernel.scheduler.is_idle(self.task):
            self._go_on()
        else:
            self.run()

    def _go_on(self) -> None:
        """Make the next step as soon as the task has done its work and its waits are over."""
        if not self.ready_soon:
            self.ready_soon = True
            self.kernel.scheduler.call_when_ready(self.task, self._ready)

    def _ready(self) -> None:
        self.ready_soon = False
        self.run()

    def wake(self) -> None:
        """Sleep no longer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.task.alive:
            self._go_on()

    def set(self, texts: Mapping[str, str]) -> None:
        """Change parameters; ValueError changes none."""
        self.values.update(parse_parameters(type(self), texts))
        self.texts.update(texts)
        if self.started:
            self.changed()
        self.wake()

    def settle_slices(self) -> Generator[None, None, None]:
        """From outside: let time pass until it has taken what it takes at the start; an event a slice.

        Or until it has died, or waits for somebody to make room in its memory cgroup.
        """
        clock, waiters = self.kernel.clock, self.kernel.memcgs.oom_waiters
        while self.task.alive and not self.settled and self.task not in waiters:
            due = clock.next_event_ns()
            if due is None:
                return
            clock.run_until(due)
            yield

    def settle(self) -> None:
        """The same in one go."""
        for _ in self.settle_slices():
            pass

    def parameters(self) -> str:
        """Its parameters as they are now."""
        return " ".join(f"{name}={text}" for name, text in self.texts.items())


class Ended(NamedTuple):
    """A program that is over."""

    pid: int
    name: str
    how: str


class Programs:
    """All programs of a machine: its `workload`."""

    def __init__(self) -> None:
        self.by_pid: dict[int, Program] = {}
        self.ended: deque[Ended] = deque(maxlen=ENDED)
        self._prune_at = ENDED

    def add(self, program: Program) -> None:
        """A program begins: its first step is due now."""
        if len(self.by_pid) >= self._prune_at or program.task.pid in self.by_pid:
            self.prune()
            self._prune_at = 2 * len(self.by_pid) + ENDED
        self.by_pid[program.task.pid] = program
        program.wake()

    def get(self, task: Task) -> Program | None:
        """What a task runs."""
        program = self.by_pid.get(task.pid)
        return program if program is not None and program.task is task else None

    def wake(self, task: Task) -> None:
        """Something has happened that the task's program waits for."""
        program = self.get(task)
        if program is not None:
            program.wake()

    def prune(self) -> None:
        """Forget those whose task is over, and remember how it ended."""
        for program in [one for one in self.by_pid.values() if one.task.flags & PF_EXITING]:
            pid = program.task.pid
            del self.by_pid[pid]
            if program.name:
                self.ended.append(Ended(pid, program.name, how_it_ended(program)))

    def running(self) -> list[Program]:
        """Those that can be named, by the order in which they began."""
        self.prune()
        return [program for program in self.by_pid.values() if program.name]


def how_it_ended(program: Program) -> str:
    """An exit status in words."""
    code = program.task.exit_code
    if code & 0x7F:
        return f"killed by SIG{SIGNAL_NAMES.get(code & 0x7F, code & 0x7F)}"
    reason = f": {program.error}" if program.error else ""
    return f"exited with status {code >> 8}{reason}"


def programs_of(kernel: Kernel) -> Programs:
    """The machine's programs."""
    if kernel.workload is None:
        kernel.workload = Programs()
    assert isinstance(kernel.workload, Programs)
    return kernel.workload


WORKLOADS: Final[dict[str, type[Program]]] = {}
"""Every program that can be started, by name."""


def workload(kind: type[Program]) -> type[Program]:
    """Decorator: a program that can be started by its name."""
    WORKLOADS[kind.name] = kind
    return kind


def spawn(kernel: Kernel, name: str, texts: Mapping[str, str] | None = None, **options: Any) -> Program:
    """Start a program; `texts` are its parameters as text, `options` those of kernel.spawn(). ValueError."""
    kind = WORKLOADS.get(name)
    if kind is None:
        raise ValueError(f"no program {name!r} (known: {', '.join(WORKLOADS)})")
    parse_parameters(kind, texts or {})
    program = kind(kernel.spawn(kind.comm or name, **options), texts)
    programs_of(kernel).add(program)
    return program


def stop(program: Program) -> None:
    """SIGTERM to a program and the processes that it has started, if it still runs."""
    if program.task.alive:
        program.kernel.kill(-program.task.pgrp, SIGTERM)
