"""Signals, as far as they decide who lives: permission, default actions, stop and continue, handlers.

A simulated task is always at a point where a signal can reach it, so delivery is immediate: a signal that is
neither blocked nor ignored acts before `kill()` returns. What a program does on a signal it catches is a
`Handler`, a function of the task and the signal's number; `exit_on_signal`, `reap_children` and `note_signal` are
the three that services need. SigCgt and SigIgn of /proc/PID/status are what stands in the action table.

A thread is killed with its whole thread group; init takes only what it catches; kernel threads ignore all.

Linux: kernel/signal.c.

Simplified: real-time signals are not queued one by one, a second one of a pending number is lost as for the
classic ones; no siginfo, no alternate stacks, no ptrace.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from mmfs.kernel.sched import (
    CAP_KILL,
    EXIT_ZOMBIE,
    PF_KTHREAD,
    PF_SIGNALED,
    TASK_INTERRUPTIBLE,
    TASK_STOPPED,
    TASK_UNINTERRUPTIBLE,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

(
    SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGUSR1, SIGSEGV, SIGUSR2, SIGPIPE,
    SIGALRM, SIGTERM, SIGSTKFLT, SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGXCPU, SIGXFSZ,
    SIGVTALRM, SIGPROF, SIGWINCH, SIGIO, SIGPWR, SIGSYS,
) = range(1, 32)  # fmt: skip
SIGRTMIN: Final = 32
NSIG: Final = 64

SIGNAL_NAMES: Final = dict(
    enumerate(
        "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN "
        "TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS".split(),
        1,
    )
)

Handler = Callable[["Task", int], None]
SIG_DFL: Final = 0
SIG_IGN: Final = 1
Action = int | Handler

STOP_SIGNALS: Final = frozenset({SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU})
IGNORED_BY_DEFAULT: Final = frozenset({SIGCONT, SIGCHLD, SIGWINCH, SIGURG})
COREDUMP_SIGNALS: Final = frozenset(
    {SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSEGV, SIGBUS, SIGSYS, SIGXCPU, SIGXFSZ}
)


class TaskKilled(Exception):
    """The task died of a signal while it was running: raised to the Python caller that drove it.

    `task` is the (now dead) task, `signal` the number it died of. Not an OSError, for it is no errno that the
    program could have seen. A page fault past a mapping raises the subclass `SegmentationFault`, one past the end
    of a mapped file `BusError`; the OOM killer's choice raises this class with SIGKILL.
    """

    def __init__(self, task: Task, sig: int, address: int | None = None) -> None:
        where = "" if address is None else f" at {address:#x}"
        super().__init__(f"{task.comm}[{task.pid}] was killed by SIG{SIGNAL_NAMES.get(sig, sig)}{where}")
        self.task = task
        self.signal = sig
        self.address = address


class SegmentationFault(TaskKilled):
    """The task touched an address where it has no (or not such a) mapping and died of SIGSEGV."""


class BusError(TaskKilled):
    """The task touched a page of a file mapping past the end of the file and died of SIGBUS."""


class TaskStopped(Exception):
    """The task is stopped by a signal and makes no system calls until SIGCONT."""


class TaskFaulting(TaskStopped):
    """The task faults again and again: there is no memory for it and nobody who may be killed."""


class Workload(Protocol):
    """Whoever runs programs (mmfs/workload) and wants to know when they may go on."""

    def wake(self, task: Task) -> None:
        """The task's program has something to do."""


class Sighand:
    """The action table that threads share.

    Linux: include/linux/sched/signal.h, struct sighand_struct.
    """

    __slots__ = ("actions", "count", "nocldwait", "obj")

    def __init__(self) -> None:
        self.actions: dict[int, Action] = {}
        self.count = 1
        self.nocldwait = False
        """SA_NOCLDWAIT on SIGCHLD: children leave no zombies though the signal is caught."""
        self.obj = 0
        """Its object of the slab."""

    def copy(self) -> Sighand:
        """The child's table after fork without CLONE_SIGHAND."""
        new = Sighand()
        new.actions = dict(self.actions)
        new.nocldwait = self.nocldwait
        return new

    def flush_handlers(self) -> None:
        """What execve does: caught signals return to their default, ignored ones stay ignored."""
        self.actions = {sig: action for sig, action in self.actions.items() if action == SIG_IGN}
        self.nocldwait = False

    def ignored_mask(self) -> int:
        """SigIgn of /proc/PID/status."""
        return sum(1 << (sig - 1) for sig, action in self.actions.items() if action == SIG_IGN)

    def caught_mask(self) -> int:
        """SigCgt of /proc/PID/status."""
        return sum(1 << (sig - 1) for sig, action in self.actions.items() if callable(action))


def valid_signal(sig: int) -> bool:
    """Whether `sig` is 0 or a signal's number."""
    return 0 <= sig <= NSIG


def sigaction(task: Task, sig: int, action: Action) -> Action:
    """Set what `task` does on `sig`; returns what it did before.

    Linux: kernel/signal.c, do_sigaction().
    """
    if not 1 <= sig <= NSIG or sig in (SIGKILL, SIGSTOP):
        raise OSError(errno.EINVAL, "not a signal that can be caught")
    old = task.sighand.actions.get(sig, SIG_DFL)
    if action == SIG_DFL:
        task.sighand.actions.pop(sig, None)
    else:
        task.sighand.actions[sig] = action
    if action == SIG_IGN or (action == SIG_DFL and sig in IGNORED_BY_DEFAULT):
        task.signal.shared_pending &= ~(1 << (sig - 1))
    return old


def set_blocked(task: Task, mask: int) -> int:
    """Set the mask of blocked signals and deliver what it no longer holds back; returns the old mask.

    Linux: kernel/signal.c, sigprocmask().
    """
    old = task.blocked
    task.blocked = mask & ~(1 << (SIGKILL - 1)) & ~(1 << (SIGSTOP - 1))
    deliver_pending(task)
    return old


def deliver_pending(task: Task) -> None:
    """Let happen what waited and is not blocked any more. Linux: kernel/signal.c, get_signal()."""
    pending = (task.pending | task.signal.shared_pending) & ~task.blocked
    for sig in (SIGKILL, *range(1, NSIG + 1)) if pending else ():
        bit = 1 << (sig - 1)
        if pending & bit and task.alive:
            pending &= ~bit
            task.pending &= ~bit
            task.signal.shared_pending &= ~bit
            _deliver(task, sig)


def may_kill(sender: Task, target: Task, sig: int) -> bool:
    """Whether `sender` may signal `target`: same user, CAP_KILL, or SIGCONT within a session.

    Linux: kernel/signal.c, check_kill_permission(), kill_ok_by_cred().
    """
    if sender.tgid == target.tgid or sender.capable(CAP_KILL):
        return True
    if sender.euid in (target.suid, target.uid) or sender.uid in (target.suid, target.uid):
        return True
    return sig == SIGCONT and sender.session == target.session


def kill(kernel: Kernel, pid: int, sig: int, sender: Task | None = None) -> None:
    """kill(2): one process, the sender's group (0), all (-1), or a process group (-pgrp).

    `sender` None is root from outside the machine (there, pid 0 is ESRCH).

    Linux: kernel/signal.c, kill_something_info().
    """
    if not valid_signal(sig):
        raise OSError(errno.EINVAL, f"no signal {sig}")
    if pid > 0:
        task = kernel.tasks.get(pid)
        if task is None:
            raise OSError(errno.ESRCH, f"no process {pid}")
        _kill_one(task.group_leader, sig, sender)
        return
    if pid == -1:
        own = sender.tgid if sender is not None else 0
        targets = [task for task in kernel.tasks.processes() if task.pid > 1 and task.tgid != own]
    else:
        pgrp = -pid if pid else (sender.pgrp if sender is not None else -1)
        targets = [task for task in kernel.tasks.processes() if task.pgrp == pgrp]
    _kill_many(targets, sig, sender)


def sys_kill(kernel: Kernel, pid: int, sig: int) -> None:
    """kill(2) by root from outside the machine."""
    kill(kernel, pid, sig)


def _kill_one(target: Task, sig: int, sender: Task | None) -> None:
    if sender is not None and not may_kill(sender, target, sig):
        raise OSError(errno.EPERM, f"not allowed to signal {target.pid}")
    if sig:
        send_signal(target, sig)


def _kill_many(targets: list[Task], sig: int, sender: Task | None) -> None:
    error: OSError | None = OSError(errno.ESRCH, "no such process")
    reached = False
    for target in targets:
        try:
            _kill_one(target, sig, sender)
            reached = True
        except OSError as refused:
            error = refused
    if not reached and error is not None:
        raise error


def tgkill(kernel: Kernel, tgid: int, tid: int, sig: int, sender: Task | None = None) -> None:
    """tgkill(2): one thread. Linux: kernel/signal.c, do_tkill()."""
    task = kernel.tasks.get(tid)
    if not valid_signal(sig) or tid <= 0:
        raise OSError(errno.EINVAL, f"no signal {sig}")
    if task is None or (tgid > 0 and task.tgid != tgid):
        raise OSError(errno.ESRCH, f"no thread {tid}")
    if sender is not None and not may_kill(sender, task, sig):
        raise OSError(errno.EPERM, f"not allowed to signal {tid}")
    if sig:
        send_signal(task, sig, group=False)


def send_signal(task: Task, sig: int, *, group: bool = True, forced: bool = False) -> None:
    """Make `sig` happen to a process (or, group=False, to one thread). No permission is asked.

    `forced` is the kernel's own SIGSEGV, SIGBUS or SIGKILL: what blocks or ignores it is undone, and init dies too.

    Linux: kernel/signal.c, send_signal_locked(), force_sig_info_to_task().
    """
    if group and not task.alive:
        task = next((thread for thread in task.signal.threads if thread.alive), task)
    if task.flags & PF_KTHREAD or task.state == EXIT_ZOMBIE or task.signal.group_exit:
        return
    action = task.sighand.actions.get(sig, SIG_DFL)
    bit = 1 << (sig - 1)
    if forced:
        if task.blocked & bit or action == SIG_IGN:
            task.sighand.actions.pop(sig, None)
            task.blocked &= ~bit
            action = SIG_DFL
        task.signal.unkillable = False
    elif task.signal.unkillable and not callable(action):
        return
    if sig == SIGCONT:
        _continue_group(task)
    elif sig in STOP_SIGNALS:
        task.signal.shared_pending &= ~(1 << (SIGCONT - 1))
    if sig != SIGKILL and (action == SIG_IGN or (action == SIG_DFL and sig in IGNORED_BY_DEFAULT)):
        if not task.blocked & bit:
            return
    if task.frozen and action == SIG_DFL and sig_fatal(sig) and not task.blocked & bit and task.state != TASK_STOPPED:
        sig = SIGKILL
    asleep = task.frozen or task.state in (TASK_STOPPED, TASK_UNINTERRUPTIBLE)
    if task.busy or (sig != SIGKILL and (task.blocked & bit or asleep)):
        if group:
            task.signal.shared_pending |= bit
        else:
            task.pending |= bit
        return
    _deliver(task, sig)


def sig_fatal(sig: int) -> bool:
    """Whether the signal, neither caught nor ignored, ends a process at once. Linux: complete_signal(), sig_fatal()."""
    return sig not in IGNORED_BY_DEFAULT | STOP_SIGNALS | COREDUMP_SIGNALS


def fatal_signal_pending(task: Task) -> bool:
    """Whether a SIGKILL waits for the task. Linux: include/linux/sched/signal.h, fatal_signal_pending()."""
    return bool((task.pending | task.signal.shared_pending) & 1 << (SIGKILL - 1))


def oom_kill(task: Task) -> None:
    """SIGKILL from the OOM killer. Linux: kernel/signal.c, do_send_sig_info().

    Who is in the middle of a call, as the task that asks for memory is, dies when it leaves the kernel.
    """
    kernel = task.kernel
    current = kernel.tasks.current
    inside = [thread for thread in task.signal.threads if thread.busy or thread is current]
    if not inside:
        send_signal(task, SIGKILL, forced=True)
        return
    task.signal.shared_pending |= 1 << (SIGKILL - 1)
    kernel.clock.add_timer(kernel.clock.now_ns, exit_to_user_mode, inside[0])


def exit_to_user_mode(task: Task) -> None:
    """A call is over: a SIGKILL that came meanwhile acts. Linux: kernel/entry/common.c, exit_to_user_mode_loop()."""
    if (task.pending or task.signal.shared_pending) and task.alive and not task.busy and fatal_signal_pending(task):
        deliver_pending(task)
    if task.cgrp.freezing and not task.frozen:
        from mmfs.kernel.cgroup.freezer import try_to_freeze

        try_to_freeze(task)


def _deliver(task: Task, sig: int) -> None:
    """Do what the action table says. Linux: kernel/signal.c, get_signal()."""
    from mmfs.kernel.exit import do_group_exit

    action = task.sighand.actions.get(sig, SIG_DFL)
    if callable(action) and sig != SIGKILL:
        action(task, sig)
    elif (action == SIG_IGN and sig != SIGKILL) or sig in IGNORED_BY_DEFAULT:
        return
    elif sig in STOP_SIGNALS:
        do_signal_stop(task, sig)
    else:
        task.flags |= PF_SIGNALED
        do_group_exit(task, sig)


def do_signal_stop(task: Task, sig: int) -> None:
    """Stop all threads of a process and tell its parent. Linux: kernel/signal.c, do_signal_stop()."""
    for thread in task.signal.threads:
        if thread.alive:
            thread.state = TASK_STOPPED
    task.signal.stop_code = sig
    _notify_parent(task)


def _continue_group(task: Task) -> None:
    """Let a stopped process run and deliver what waited. Linux: kernel/signal.c, prepare_signal(), SIGCONT."""
    for stop in STOP_SIGNALS:
        task.signal.shared_pending &= ~(1 << (stop - 1))
    if task.state != TASK_STOPPED:
        return
    for thread in task.signal.threads:
        if thread.state == TASK_STOPPED:
            thread.state = TASK_INTERRUPTIBLE
        if task.kernel.workload is not None:
            task.kernel.workload.wake(thread)
    task.signal.stop_code = 0
    task.signal.continued = True
    _notify_parent(task)
    set_blocked(task, task.blocked)


def _notify_parent(task: Task) -> None:
    parent = task.group_leader.parent
    if parent is not None:
        send_signal(parent, SIGCHLD)


# ---- what programs do on the signals they catch ----------------------------------------------------------------


def note_signal(task: Task, sig: int) -> None:
    """Catch a signal and go on: a SIGHUP that reopens a log, a SIGINT at a shell's prompt."""
    task.nvcsw += 1


def exit_on_signal(task: Task, sig: int) -> None:
    """Catch a signal, tidy up and exit with status 0, as services do on SIGTERM."""
    from mmfs.kernel.exit import do_group_exit

    do_group_exit(task, 0)


def reap_children(task: Task, sig: int) -> None:
    """Catch SIGCHLD and wait for every child that has died, as init and shells do."""
    from mmfs.kernel.exit import wait_for_zombies

    wait_for_zombies(task)
