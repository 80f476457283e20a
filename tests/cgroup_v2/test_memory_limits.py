"""Memory: memory.high, memory.max and memory.oom.group

Not modelled: allocations that do not invoke the OOM killer, but for read-ahead, which is given up.
"""

from __future__ import annotations

import contextlib

import pytest

from tests.cgroup_v2.machine import KB, MB, Dead, Machine


@pytest.fixture
def tree(machine: Machine) -> Machine:
    """A cgroup `a` with the memory controller and no swap."""
    machine.enable("memory")
    machine.make("a", swap_max=0)
    return machine


def test_high_reclaims(tree: Machine) -> None:
    """Above memory.high the processes reclaim hard: cache stays at the mark."""
    tree.write("a/memory.high", 16 * MB)
    tree.spawn("a").read("/data/f", 0, 48 * MB)
    assert tree.number("a/memory.current") <= 18 * MB
    assert tree.rows("a/memory.events")["high"] > 0


def test_high_never_kills(tree: Machine) -> None:
    """Above memory.high processes are throttled, and never killed: usage may pass it."""
    tree.write("a/memory.high", 8 * MB)
    process = tree.spawn("a")
    for _ in range(10):
        process.grow(MB)
    events = tree.rows("a/memory.events")
    assert process.alive and tree.number("a/memory.current") > 9 * MB
    assert events["high"] > 0 == events["max"] == events["oom"] == events["oom_kill"]


def test_high_throttles(tree: Machine) -> None:
    """Who is far above it waits: the stall shows in memory.pressure."""
    tree.write("a/memory.high", 4 * MB)
    process = tree.spawn("a")
    for _ in range(6):
        process.grow(MB)
    total = int(tree.read("a/memory.pressure").splitlines()[0].rpartition("=")[2])
    assert total > 100_000


def test_lowering_high_reclaims(tree: Machine) -> None:
    """Writing it below the usage reclaims at once, and kills nobody."""
    process = tree.spawn("a")
    process.read("/data/f", 0, 16 * MB)
    process.grow(4 * MB)
    tree.write("a/memory.high", 8 * MB)
    assert tree.number("a/memory.current") <= 8 * MB + 512 * KB and process.alive


def test_max_is_not_passed(tree: Machine) -> None:
    """memory.max is the limit: usage is brought down before it is passed."""
    tree.write("a/memory.max", 16 * MB)
    tree.spawn("a").read("/data/f", 0, 64 * MB)
    assert tree.number("a/memory.peak") <= 16 * MB
    assert tree.rows("a/memory.events")["max"] > 0


def test_max_kills(tree: Machine) -> None:
    """If usage cannot be brought down, the OOM killer takes a process of the cgroup, and none outside."""
    tree.write("a/memory.max", 16 * MB)
    outside = tree.spawn()
    outside.grow(48 * MB)
    with pytest.raises(Dead):
        tree.spawn("a").grow(32 * MB)
    events = tree.rows("a/memory.events")
    assert events["oom"] == events["oom_kill"] == 1 and outside.alive


def test_lowering_max_reclaims_then_kills(tree: Machine) -> None:
    """Writing memory.max below the usage reclaims, and kills if that is not enough."""
    process = tree.spawn("a")
    process.read("/data/f", 0, 8 * MB)
    process.grow(16 * MB)
    tree.write("a/memory.max", 20 * MB)
    assert process.alive and tree.number("a/memory.current") <= 20 * MB
    tree.write("a/memory.max", 8 * MB)
    assert tree.eventually(lambda: not process.alive)
    assert tree.rows("a/memory.events")["oom_kill"] == 1


def test_single_pages_are_granted_until_the_task_is_chosen(tree: Machine) -> None:
    """Single pages are always granted, unless the task itself is the victim: others die first, and it goes on."""
    tree.write("a/memory.max", 32 * MB)
    large, small = tree.spawn("a"), tree.spawn("a")
    large.grow(24 * MB)
    small.grow(16 * MB)
    assert small.alive and not large.alive


def test_oom_group(tree: Machine) -> None:
    """With memory.oom.group all processes of the cgroup go, or none; it is 0 at first."""
    assert tree.read("a/memory.oom.group") == "0\n"
    tree.write("a/memory.max", 16 * MB)
    tree.write("a/memory.oom.group", 1)
    helper = tree.spawn("a")
    with pytest.raises(Dead):
        tree.spawn("a").grow(32 * MB)
    assert tree.eventually(lambda: not helper.alive)
    events = tree.rows("a/memory.events")
    assert events["oom_group_kill"] == 1 and events["oom_kill"] == 3, "the first victim counts again as a member"


def test_oom_group_takes_those_below(tree: Machine) -> None:
    """All below belong to it, too; the highest cgroup within the full one that has it set counts."""
    tree.write("a/memory.max", 16 * MB)
    tree.write("a/memory.oom.group", 1)
    tree.enable("memory", "a")
    for name in ("x", "y"):
        tree.make(f"a/{name}")
    helper = tree.spawn("a/x")
    with pytest.raises(Dead):
        tree.spawn("a/y").grow(32 * MB)
    assert tree.eventually(lambda: not helper.alive)


def test_the_protected_survive_a_group_kill(tree: Machine) -> None:
    """Processes with oom_score_adj -1000 are never killed, not with their group either."""
    tree.write("a/memory.max", 16 * MB)
    tree.write("a/memory.oom.group", 1)
    keeper = tree.spawn("a")
    tree.write(f"/proc/{keeper.pid}/oom_score_adj", -1000)
    with pytest.raises(Dead):
        tree.spawn("a").grow(32 * MB)
    assert keeper.alive


def test_the_protected_fault_until_there_is_room(tree: Machine) -> None:
    """A full cgroup in which nobody may be killed kills nobody: the fault is tried again until the limit is raised."""
    tree.write("a/memory.max", 16 * MB)
    keeper = tree.spawn("a")
    tree.write(f"/proc/{keeper.pid}/oom_score_adj", -1000)
    keeper.try_to_grow(24 * MB)
    assert tree.eventually(lambda: tree.rows("a/memory.events")["oom"] > 20)
    events = tree.rows("a/memory.events")  # amid an attempt, which is one of many
    assert keeper.alive and events["oom_kill"] == 0 and 17 <= events["max"] / events["oom"] <= 19
    tree.write("a/memory.max", 64 * MB)
    keeper.finish()
    assert tree.number("a/memory.current") >= 24 * MB


def test_nobody_outside_is_killed(tree: Machine) -> None:
    """When a cgroup is full, nobody outside it dies, whatever memory.oom.group says above it."""
    tree.write("a/memory.oom.group", 1)
    tree.enable("memory", "a")
    tree.make("a/x", max=16 * MB)
    tree.make("a/y")
    outside = tree.spawn("a/y")
    with pytest.raises(Dead):
        tree.spawn("a/x").grow(32 * MB)
    assert outside.alive and tree.rows("a/memory.events")["oom_group_kill"] == 0


def test_readahead_gives_up(tree: Machine) -> None:
    """Allocations that may fail do so without a kill: a full cgroup reads a file page by page."""
    tree.write("a/memory.max", 8 * MB)
    process = tree.spawn("a")
    process.grow(6 * MB)
    with contextlib.suppress(Dead):
        process.read("/data/f", 0, 8 * MB)
    assert process.alive and tree.rows("a/memory.events")["oom_kill"] == 0
