"""pids.*: forks beyond the limit fail, moves do not, zombies count."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

import mmfs

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

TOP = "/sys/fs/cgroup"


@pytest.fixture
def kernel() -> Kernel:
    kernel = mmfs.boot(ram="256M", preset="bare", seed=1)
    kernel.write(f"{TOP}/cgroup.subtree_control", "+pids")
    kernel.mkdir(f"{TOP}/a")
    kernel.write(f"{TOP}/a/cgroup.subtree_control", "+pids")
    kernel.mkdir(f"{TOP}/a/b")
    return kernel


def number(kernel: Kernel, path: str) -> int:
    return int(kernel.read(f"{TOP}/{path}").split()[-1])


def test_fork_fails_beyond(kernel: Kernel) -> None:
    task = kernel.spawn("worker", cgroup="/a/b")
    kernel.write(f"{TOP}/a/pids.max", "2")
    child = task.fork()
    for fork in (task.fork, child.fork, task.pthread_create):
        with pytest.raises(OSError) as caught:
            fork()
        assert caught.value.errno == errno.EAGAIN
    kernel.check()
    assert [number(kernel, f"a/{name}") for name in ("pids.current", "pids.peak")] == [2, 2]
    assert [number(kernel, f"a/{name}") for name in ("pids.events", "pids.events.local")] == [3, 3]
    assert [number(kernel, f"a/b/{name}") for name in ("pids.events", "pids.events.local")] == [0, 0]
    lines = [record.text for record in kernel.printk.since(0) if "fork rejected" in record.text]
    assert lines == ["cgroup: fork rejected by pids controller in /a/b"]


def test_zombies_count_until_they_are_reaped(kernel: Kernel) -> None:
    task = kernel.spawn("worker", cgroup="/a/b")
    task.fork().exit(0)
    assert number(kernel, "a/b/pids.current") == 2
    task.wait()
    assert number(kernel, "a/b/pids.current") == 1 and number(kernel, "a/b/pids.peak") == 2


def test_moves_may_exceed_the_limit(kernel: Kernel) -> None:
    kernel.write(f"{TOP}/a/b/pids.max", "0")
    task = kernel.spawn("worker")
    task.pthread_create()
    kernel.write(f"{TOP}/a/b/cgroup.procs", str(task.pid))
    assert number(kernel, "a/b/pids.current") == number(kernel, "a/pids.current") == 2
    kernel.write(f"{TOP}/cgroup.procs", str(task.pid))
    assert number(kernel, "a/b/pids.current") == number(kernel, "a/pids.current") == 0
    kernel.check()


def test_enabling_counts_who_is_there(kernel: Kernel) -> None:
    kernel.write(f"{TOP}/a/cgroup.subtree_control", "-pids")
    task = kernel.spawn("worker", cgroup="/a/b")
    task.fork().exit(0)
    assert number(kernel, "a/pids.current") == 2
    kernel.write(f"{TOP}/a/cgroup.subtree_control", "+pids")
    assert number(kernel, "a/b/pids.current") == number(kernel, "a/pids.current") == 2
    kernel.check()


@pytest.mark.parametrize(
    ("text", "shown"),
    [("5", "5"), ("0", "0"), ("max\n", "max"), (" 7\n", "7"), ("0x10", "16"), ("4194304", "4194304")],
)
def test_limits(kernel: Kernel, text: str, shown: str) -> None:
    assert kernel.write(f"{TOP}/a/pids.max", text) == len(text)
    assert kernel.read(f"{TOP}/a/pids.max").decode() == f"{shown}\n"


@pytest.mark.parametrize("text", ["-1", "x", "4194305", "max 5", "9223372036854775807"])
def test_no_limits(kernel: Kernel, text: str) -> None:
    with pytest.raises(OSError) as caught:
        kernel.write(f"{TOP}/a/pids.max", text)
    assert caught.value.errno == errno.EINVAL and kernel.read(f"{TOP}/a/pids.max") == b"max\n"
