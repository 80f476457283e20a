"""cgroup.freeze: tasks stand still, death is let through, and cgroup.events says when all are frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import mmfs
from mmfs.kernel.signal import SIG_IGN, SIGCONT, SIGKILL, SIGSEGV, SIGSTOP, SIGTERM, SIGUSR1, note_signal

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

TOP = "/sys/fs/cgroup"
SECOND = 10**9


@pytest.fixture
def kernel() -> Kernel:
    kernel = mmfs.boot(ram="256M", preset="bare", seed=1)
    kernel.cgroups.makedirs("/a/b")
    return kernel


def freeze(kernel: Kernel, path: str, value: int) -> None:
    kernel.write(f"{TOP}/{path}/cgroup.freeze", str(value))
    kernel.check()


def frozen(kernel: Kernel, path: str) -> int:
    return int(kernel.read(f"{TOP}/{path}/cgroup.events").split()[3])


def state(kernel: Kernel, task: Task) -> str:
    return kernel.read(f"/proc/{task.pid}/stat").decode().split()[2]


def test_work_waits(kernel: Kernel) -> None:
    task = kernel.spawn("worker", cgroup="/a")
    kernel.clock.run_for(SECOND)
    begin = task.utime_ns
    kernel.scheduler.charge(task, user_ns=SECOND)
    kernel.clock.run_for(SECOND // 4)
    assert state(kernel, task) == "R"
    freeze(kernel, "a", 1)
    done = task.utime_ns
    kernel.clock.run_for(SECOND)
    assert state(kernel, task) == "S" and task.utime_ns == done and frozen(kernel, "a") == 1
    freeze(kernel, "a", 0)
    assert state(kernel, task) == "R" and frozen(kernel, "a") == 0
    kernel.clock.run_for(SECOND)
    assert task.utime_ns == begin + SECOND
    kernel.check()


def test_who_waits_for_a_disk_freezes_afterwards(kernel: Kernel) -> None:
    task = kernel.spawn("worker", cgroup="/a/b")
    kernel.scheduler.wait(task, SECOND, io=True)
    freeze(kernel, "a/b", 1)
    assert state(kernel, task) == "D" and frozen(kernel, "a/b") == 0
    kernel.clock.run_for(SECOND + SECOND // 100)
    assert state(kernel, task) == "S" and frozen(kernel, "a/b") == 1
    kernel.check()


def test_hierarchy(kernel: Kernel) -> None:
    """Both have to be thawed; the one below is frozen with the one above, and made frozen."""
    task = kernel.spawn("worker", cgroup="/a/b")
    freeze(kernel, "a", 1)
    assert (frozen(kernel, "a"), frozen(kernel, "a/b"), task.frozen) == (1, 1, True)
    assert kernel.read(f"{TOP}/a/b/cgroup.freeze") == b"0\n"
    freeze(kernel, "a/b", 1)
    freeze(kernel, "a", 0)
    assert (frozen(kernel, "a"), frozen(kernel, "a/b"), task.frozen) == (0, 1, True)
    freeze(kernel, "a/b", 0)
    assert not task.frozen
    freeze(kernel, "a", 1)
    kernel.cgroups.makedirs("/a/new")
    assert frozen(kernel, "a/new") == 1
    kernel.check()
    kernel.cgroups.rmdir(kernel.cgroups.makedirs("/a/new"))
    kernel.check()


def test_moving_in_and_out(kernel: Kernel) -> None:
    kernel.cgroups.makedirs("/free")
    task = kernel.spawn("worker", cgroup="/free")
    freeze(kernel, "a", 1)
    kernel.write(f"{TOP}/a/cgroup.procs", str(task.pid))
    assert task.frozen and frozen(kernel, "a") == 1
    kernel.check()
    kernel.write(f"{TOP}/free/cgroup.procs", str(task.pid))
    assert not task.frozen
    kernel.check()


def test_a_child_of_a_frozen_task_is_frozen(kernel: Kernel) -> None:
    task = kernel.spawn("worker", cgroup="/a")
    freeze(kernel, "a", 1)
    assert task.fork().frozen and frozen(kernel, "a") == 1
    kernel.check()


@pytest.mark.parametrize("sig", [SIGKILL, SIGTERM, SIGUSR1])
def test_death_is_let_through(kernel: Kernel, sig: int) -> None:
    """A signal that would end the process does so at once, and the cgroup stays frozen."""
    task, other = kernel.spawn("worker", cgroup="/a"), kernel.spawn("worker", cgroup="/a")
    freeze(kernel, "a", 1)
    kernel.kill(task.pid, sig)
    assert not task.alive and other.frozen and frozen(kernel, "a") == 1
    kernel.check()


@pytest.mark.parametrize("sig", [SIGSTOP, SIGSEGV])
def test_other_signals_wait(kernel: Kernel, sig: int) -> None:
    task = kernel.spawn("worker", cgroup="/a")
    freeze(kernel, "a", 1)
    kernel.kill(task.pid, sig)
    assert task.alive and state(kernel, task) == "S"
    freeze(kernel, "a", 0)
    assert (not task.alive) if sig == SIGSEGV else state(kernel, task) == "T"


def test_caught_and_ignored_signals_wait(kernel: Kernel) -> None:
    task = kernel.spawn("worker", cgroup="/a")
    task.sigaction(SIGTERM, note_signal)
    task.sigaction(SIGUSR1, SIG_IGN)
    freeze(kernel, "a", 1)
    before = task.nvcsw
    kernel.kill(task.pid, SIGUSR1)
    kernel.kill(task.pid, SIGTERM)
    assert task.alive and task.nvcsw == before
    freeze(kernel, "a", 0)
    assert task.alive and task.nvcsw == before + 1


def test_stopped_tasks_count_as_frozen(kernel: Kernel) -> None:
    task = kernel.spawn("worker", cgroup="/a")
    kernel.kill(task.pid, SIGSTOP)
    freeze(kernel, "a", 1)
    assert state(kernel, task) == "T" and frozen(kernel, "a") == 1
    kernel.kill(task.pid, SIGCONT)
    assert task.frozen and state(kernel, task) == "S"
    freeze(kernel, "a", 0)
    assert task.alive and not task.frozen


def test_kill_takes_frozen_ones_too(kernel: Kernel) -> None:
    task = kernel.spawn("worker", cgroup="/a/b")
    freeze(kernel, "a", 1)
    kernel.write(f"{TOP}/a/cgroup.kill", "1")
    assert not task.alive
    assert kernel.read(f"{TOP}/a/cgroup.events") == b"populated 0\nfrozen 1\n"
    kernel.check()
