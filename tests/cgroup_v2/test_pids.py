"""PID"""

from __future__ import annotations

import pytest

from tests.cgroup_v2.machine import Machine, errno_of


@pytest.fixture
def tree(machine: Machine) -> Machine:
    """`a` and `a/b` with the pids controller."""
    machine.enable("pids")
    machine.mkdir("a")
    machine.enable("pids", "a")
    machine.mkdir("a/b")
    return machine


def test_fork_and_clone_fail_at_the_limit(tree: Machine) -> None:
    """At pids.max, fork(2) and clone(2) are EAGAIN; it is `max` at first."""
    assert tree.read("a/pids.max") == "max\n"
    tree.write("a/pids.max", 2)
    process = tree.spawn("a/b")
    process.fork()
    assert errno_of(process.fork) == errno_of(process.thread) == "EAGAIN"


def test_threads_count(tree: Machine) -> None:
    """PIDs are those of threads: each thread is one."""
    process = tree.spawn("a/b")
    process.thread()
    assert tree.number("a/b/pids.current") == 2


def test_current_is_of_the_subtree(tree: Machine) -> None:
    """pids.current counts the cgroup and those below."""
    tree.spawn("a/b").fork()
    assert tree.number("a/pids.current") == tree.number("a/b/pids.current") == 2


def test_peak(tree: Machine) -> None:
    """pids.peak is the most that there have been."""
    one = tree.spawn("a/b")
    tree.spawn("a/b")
    one.kill()
    assert tree.eventually(lambda: tree.number("a/pids.current") == 1) and tree.number("a/pids.peak") == 2


def test_events(tree: Machine) -> None:
    """`max` of pids.events counts forks that a limit here or below refused; pids.events.local those of this limit."""
    tree.write("a/b/pids.max", 1)
    events = tree.open("a/pids.events")
    events.read()
    assert errno_of(tree.spawn("a/b").fork) == "EAGAIN"
    names = ("a/pids.events", "a/b/pids.events", "a/pids.events.local", "a/b/pids.events.local")
    assert [tree.rows(name)["max"] for name in names] == [1, 1, 0, 1]
    assert events.woken(), "and poll(2) is told"
    events.close()


def test_moves_are_not_refused(tree: Machine) -> None:
    """pids.current can be above pids.max: a limit below what is there, or processes that are moved in, are accepted."""
    processes = [tree.spawn("a/b") for _ in range(3)]
    tree.write("a/b/pids.max", 1)
    tree.write("a/b/cgroup.procs", tree.spawn().pid)
    assert tree.number("a/b/pids.current") == 4
    assert errno_of(processes[0].fork) == "EAGAIN"
