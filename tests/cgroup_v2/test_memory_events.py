"""Memory: memory.events and memory.events.local"""

from __future__ import annotations

import pytest

from tests.cgroup_v2.machine import MB, Dead, Machine


@pytest.fixture
def tree(machine: Machine) -> Machine:
    """`p` with 16 MB, and `p/a` and `p/b` without limits."""
    machine.enable("memory")
    machine.make("p", max=16 * MB, swap_max=0)
    machine.enable("memory", "p")
    machine.make("p/a")
    machine.make("p/b")
    return machine


def overflow(machine: Machine, path: str) -> None:
    with pytest.raises(Dead):
        machine.spawn(path).grow(32 * MB)


def test_the_rows(tree: Machine) -> None:
    """The rows are low, high, max, oom, oom_kill and oom_group_kill; all begin with 0."""
    for name in ("memory.events", "memory.events.local"):
        assert list(tree.rows(f"p/{name}").items()) == [
            ("low", 0), ("high", 0), ("max", 0), ("oom", 0), ("oom_kill", 0), ("oom_group_kill", 0)
        ]  # fmt: skip


def test_hierarchical(tree: Machine) -> None:
    """memory.events counts what happens below, too; memory.events.local does not."""
    overflow(tree, "p/a")
    assert tree.rows("p/memory.events")["oom_kill"] == tree.rows("p/a/memory.events")["oom_kill"] == 1
    assert tree.rows("p/memory.events.local")["oom_kill"] == 0
    assert tree.rows("p/a/memory.events.local")["oom_kill"] == 1
    assert set(tree.rows("p/b/memory.events").values()) == {0}


def test_max_and_oom_count_where_the_limit_is(tree: Machine) -> None:
    """`max` counts attempts to pass the limit and `oom` that one was about to fail, in the cgroup whose limit it is."""
    overflow(tree, "p/a")
    full, inside = tree.rows("p/memory.events.local"), tree.rows("p/a/memory.events.local")
    assert full["max"] > 0 and full["oom"] == 1
    assert inside["max"] == inside["oom"] == 0


def test_oom_kill_counts_where_the_victim_was(tree: Machine) -> None:
    """`oom_kill` counts processes of the cgroup that any OOM killer has killed."""
    victim = tree.spawn("p/b")
    victim.grow(12 * MB)
    tree.spawn("p/a").grow(8 * MB)
    assert not victim.alive
    assert tree.rows("p/b/memory.events.local")["oom_kill"] == 1
    assert tree.rows("p/a/memory.events.local")["oom_kill"] == 0


def test_high_counts(tree: Machine) -> None:
    """`high` counts how often processes had to reclaim because of memory.high."""
    tree.write("p/a/memory.high", 4 * MB)
    tree.spawn("p/a").read("/data/f", 0, 12 * MB)
    assert tree.rows("p/a/memory.events")["high"] > 0 and tree.rows("p/memory.events.local")["high"] == 0


def test_the_group_kill_counts(tree: Machine) -> None:
    """`oom_group_kill` counts kills of a whole group."""
    tree.write("p/a/memory.oom.group", 1)
    overflow(tree, "p/a")
    assert tree.rows("p/a/memory.events.local")["oom_group_kill"] == 1


def test_poll_is_woken(tree: Machine) -> None:
    """A change wakes poll(2): memory.events up the tree, memory.events.local only where it happened."""
    paths = ("p/memory.events", "p/a/memory.events", "p/b/memory.events", "p/memory.events.local")
    files = [tree.open(path) for path in (*paths, "p/a/memory.events.local")]
    for file in files:
        file.read()
    assert not any(file.woken() for file in files)
    tree.write("p/a/memory.max", 4 * MB)
    overflow(tree, "p/a")
    assert [file.woken() for file in files] == [True, True, False, False, True]
    for file in files:
        file.close()
