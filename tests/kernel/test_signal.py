"""Signals: who may send them, what they do, what holds them back."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from mmfs.kernel import sched
from mmfs.kernel.sched import CLONE_PTHREAD, WCONTINUED, WUNTRACED
from mmfs.kernel.signal import (
    NSIG,
    SIG_DFL,
    SIG_IGN,
    SIGABRT,
    SIGBUS,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    SIGINT,
    SIGKILL,
    SIGSEGV,
    SIGSTOP,
    SIGTERM,
    SIGTSTP,
    SIGURG,
    SIGUSR1,
    SIGWINCH,
    BusError,
    SegmentationFault,
    TaskKilled,
    TaskStopped,
    exit_on_signal,
)
from mmfs.mm.mman import MAP_SHARED, PROT_READ

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task


def errno_of(call: object, *args: object) -> int | None:
    """The errno of a call, None if it succeeds."""
    assert callable(call)
    try:
        call(*args)
    except OSError as error:
        return error.errno
    return None


@pytest.fixture
def parent(kernel: Kernel) -> Task:
    return kernel.spawn("parent")


@pytest.mark.parametrize("sig", [SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGUSR1, SIGABRT, 34])
def test_default_is_death(parent: Task, sig: int) -> None:
    child = parent.fork()
    parent.kill(child.pid, sig)
    assert child.state == "Z" and child.flags & sched.PF_SIGNALED
    assert parent.wait() == (child.pid, sig)


@pytest.mark.parametrize("sig", [SIGCHLD, SIGURG, SIGWINCH, SIGCONT])
def test_ignored_by_default(parent: Task, sig: int) -> None:
    child = parent.fork()
    parent.kill(child.pid, sig)
    assert child.alive


def test_errors(kernel: Kernel, parent: Task) -> None:
    assert errno_of(parent.kill, parent.pid, 0) is None
    assert errno_of(parent.kill, 9999, 0) == errno.ESRCH
    assert errno_of(parent.kill, 9999, SIGTERM) == errno.ESRCH
    assert errno_of(parent.kill, parent.pid, NSIG + 1) == errno.EINVAL
    assert errno_of(parent.kill, parent.pid, -1) == errno.EINVAL
    assert errno_of(parent.kill, -9999, SIGTERM) == errno.ESRCH
    assert errno_of(kernel.kill, 0, SIGTERM) == errno.ESRCH
    assert errno_of(parent.tgkill, parent.pid, 9999, SIGTERM) == errno.ESRCH
    assert errno_of(parent.tgkill, 1, parent.pid, SIGTERM) == errno.ESRCH


def test_zombies_can_be_signalled(parent: Task) -> None:
    child = parent.fork()
    child.exit(3)
    assert errno_of(parent.kill, child.pid, SIGKILL) is None
    assert parent.wait() == (child.pid, 3 << 8)


def test_permission(kernel: Kernel) -> None:
    alice, bob = kernel.spawn("a", uid=1000), kernel.spawn("b", uid=1001)
    other = kernel.spawn("c", uid=1000)
    assert errno_of(alice.kill, bob.pid, SIGTERM) == errno.EPERM
    assert errno_of(alice.kill, bob.pid, 0) == errno.EPERM
    assert errno_of(alice.kill, 1, SIGTERM) == errno.EPERM
    assert errno_of(alice.kill, other.pid, SIGTERM) is None
    assert other.pid not in kernel.tasks
    assert errno_of(kernel.spawn("r").kill, bob.pid, SIGTERM) is None


def test_sigcont_within_a_session(kernel: Kernel) -> None:
    shell = kernel.spawn("sh")
    job = shell.fork()
    job.setuid(1000)
    shell.setuid(1001)
    assert errno_of(shell.kill, job.pid, SIGTERM) == errno.EPERM
    assert errno_of(shell.kill, job.pid, SIGCONT) is None


def test_groups(kernel: Kernel, parent: Task) -> None:
    first, second = parent.fork(), parent.fork()
    second.setpgid()
    third = second.fork()
    outsider = kernel.spawn("outsider")
    parent.kill(-second.pgrp, SIGKILL)
    assert not second.alive and not third.alive and first.alive
    reached: list[int] = []
    for task in (first, parent, outsider):
        task.sigaction(SIGUSR1, lambda task, sig: reached.append(task.pid))
    parent.kill(0, SIGUSR1)
    assert reached == [parent.pid, first.pid]
    parent.kill(-1, SIGKILL)
    assert parent.alive and not outsider.alive and not first.alive
    assert kernel.tasks[1].alive and kernel.tasks[2].alive


def test_stop_and_continue(parent: Task) -> None:
    child = parent.fork()
    thread = child.clone(CLONE_PTHREAD, 0)
    parent.kill(child.pid, SIGSTOP)
    assert child.state == thread.state == "T"
    with pytest.raises(TaskStopped):
        child.mmap("1M")
    assert parent.wait(-1) == (0, 0)
    assert parent.wait(-1, WUNTRACED) == (child.pid, SIGSTOP << 8 | 0x7F)
    assert parent.wait(-1, WUNTRACED) == (0, 0)
    parent.kill(child.pid, SIGTERM)
    assert child.alive, "what comes while it is stopped waits"
    parent.kill(child.pid, SIGCONT)
    assert child.state == "Z"
    assert parent.wait() == (child.pid, SIGTERM)


def test_continued_is_told_once(parent: Task) -> None:
    child = parent.fork()
    parent.kill(child.pid, SIGTSTP)
    parent.kill(child.pid, SIGCONT)
    assert child.state == "S"
    assert parent.wait(-1, WUNTRACED | WCONTINUED) == (child.pid, 0xFFFF)
    assert parent.wait(-1, WUNTRACED | WCONTINUED) == (0, 0)


def test_kill_reaches_the_stopped(parent: Task) -> None:
    child = parent.fork()
    parent.kill(child.pid, SIGSTOP)
    parent.kill(child.pid, SIGKILL)
    assert parent.wait() == (child.pid, SIGKILL)


def test_blocked_waits(parent: Task) -> None:
    child = parent.fork()
    child.sigprocmask(1 << (SIGTERM - 1) | 1 << (SIGKILL - 1))
    parent.kill(child.pid, SIGTERM)
    assert child.alive and child.signal.shared_pending == 1 << (SIGTERM - 1)
    assert child.blocked == 1 << (SIGTERM - 1), "SIGKILL cannot be blocked"
    child.sigprocmask(0)
    assert not child.alive


def test_actions(parent: Task) -> None:
    seen: list[int] = []
    assert parent.sigaction(SIGTERM, lambda task, sig: seen.append(sig)) == SIG_DFL
    parent.kill(parent.pid, SIGTERM)
    parent.sigaction(SIGINT, SIG_IGN)
    parent.kill(parent.pid, SIGINT)
    assert seen == [SIGTERM] and parent.alive
    assert parent.sighand.caught_mask() == 1 << (SIGTERM - 1)
    assert parent.sighand.ignored_mask() == 1 << (SIGINT - 1)
    for sig in (SIGKILL, SIGSTOP, 0, NSIG + 1):
        assert errno_of(parent.sigaction, sig, SIG_IGN) == errno.EINVAL


def test_service_ends_well(kernel: Kernel) -> None:
    shell = kernel.spawn("sh")
    child = shell.fork()
    child.sigaction(SIGTERM, exit_on_signal)
    shell.kill(child.pid, SIGTERM)
    assert shell.wait() == (child.pid, 0)


def test_ignoring_drops_what_is_pending(parent: Task) -> None:
    parent.sigprocmask(1 << (SIGUSR1 - 1))
    parent.kill(parent.pid, SIGUSR1)
    parent.sigaction(SIGUSR1, SIG_IGN)
    parent.sigprocmask(0)
    assert parent.alive


def test_one_thread_s_signal_kills_all(parent: Task) -> None:
    child = parent.fork()
    thread = child.clone(CLONE_PTHREAD, 0)
    parent.tgkill(child.pid, thread.pid, SIGTERM)
    assert parent.wait() == (child.pid, SIGTERM)


def test_kernel_threads_do_not_care(kernel: Kernel) -> None:
    kernel.kill(2, SIGKILL)
    assert kernel.tasks[2].alive
    assert kernel.tasks[3].sighand.ignored_mask() == (1 << 64) - 1


def test_segmentation_fault(kernel: Kernel, parent: Task) -> None:
    child = parent.fork()
    with pytest.raises(SegmentationFault) as killed:
        child.touch(0x1000, write=True)
    assert killed.value.task is child and killed.value.signal == SIGSEGV and killed.value.address == 0x1000
    assert "SIGSEGV" in str(killed.value) and "0x1000" in str(killed.value)
    assert parent.wait() == (child.pid, SIGSEGV)


def test_blocked_or_ignored_segv_kills_too(parent: Task) -> None:
    child = parent.fork()
    child.sigaction(SIGSEGV, SIG_IGN)
    child.sigprocmask(1 << (SIGSEGV - 1))
    with pytest.raises(SegmentationFault):
        child.touch(0)
    assert parent.wait() == (child.pid, SIGSEGV)


def test_writing_where_only_reading_is_allowed(parent: Task) -> None:
    addr = parent.mmap("8K", prot=PROT_READ)
    parent.touch(addr, "8K")
    with pytest.raises(SegmentationFault):
        parent.touch(addr, "8K", write=True)


def test_bus_error_past_the_end_of_a_file(kernel: Kernel, parent: Task) -> None:
    kernel.namei.create("/data/short", 4096)
    child = parent.fork()
    addr = child.mmap("8K", prot=PROT_READ, flags=MAP_SHARED, file="/data/short")
    child.touch(addr, 4096)
    with pytest.raises(BusError):
        child.touch(addr + 4096)
    assert parent.wait() == (child.pid, SIGBUS)


def test_faults_before_the_fatal_one_count(parent: Task) -> None:
    child = parent.fork()
    addr = child.mmap("64K")
    before = child.min_flt
    with pytest.raises(TaskKilled):
        child.touch(addr, "1G", write=True)
    assert parent.wait()[1] == SIGSEGV
    assert parent.cmin_flt >= before + 16


def test_init_takes_only_what_it_catches(kernel: Kernel) -> None:
    init = kernel.tasks[1]
    seen: list[int] = []
    init.sigaction(SIGHUP, lambda task, sig: seen.append(sig))
    for sig in (SIGTERM, SIGKILL, SIGSTOP, SIGHUP):
        kernel.kill(1, sig)
    assert seen == [SIGHUP] and init.state == "S"


def test_vfork_parent_is_killed_while_it_waits(kernel: Kernel, parent: Task) -> None:
    child = parent.vfork()
    kernel.kill(parent.pid, SIGKILL)
    assert parent.pid not in kernel.tasks
    child.execve("alone")
    assert child.ppid == 1 and child.alive
