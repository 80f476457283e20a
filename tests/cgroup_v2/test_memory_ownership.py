"""Memory ownership"""

from __future__ import annotations

import pytest

from tests.cgroup_v2.machine import MB, Machine


@pytest.fixture
def tree(machine: Machine) -> Machine:
    """Two cgroups with the memory controller."""
    machine.enable("memory")
    machine.make("a")
    machine.make("b")
    return machine


def test_charged_to_who_made_it(tree: Machine) -> None:
    """Memory is charged to the cgroup that brought it into being, until it is given back."""
    process = tree.spawn("a")
    process.grow(8 * MB)
    assert tree.number("a/memory.current") >= 8 * MB
    process.release()
    assert tree.number("a/memory.current") < 4 * MB


def test_moving_moves_no_memory(tree: Machine) -> None:
    """A process that moves leaves what it has used so far where it was."""
    process = tree.spawn("a")
    process.grow(8 * MB)
    process.read("/data/f", 0, 8 * MB)
    tree.write("b/cgroup.procs", process.pid)
    process.grow(4 * MB)
    assert tree.number("a/memory.current") >= 16 * MB and 4 * MB <= tree.number("b/memory.current") < 8 * MB


def test_shared_by_several(tree: Machine) -> None:
    """What is used by several cgroups is charged to one of them."""
    tree.spawn("a").read("/data/f", 0, 8 * MB)
    tree.spawn("b").read("/data/f", 0, 8 * MB)
    files = [tree.rows(f"{name}/memory.stat")["file"] for name in ("a", "b")]
    assert files[0] >= 8 * MB - 512 * 1024 and files[1] < MB


def test_it_ends_up_with_who_can_afford_it(tree: Machine) -> None:
    """In time it is charged to a cgroup that has the memory for it: the other has lost it by reclaim."""
    tree.write("a/memory.max", 8 * MB)
    tree.spawn("a").read("/data/f", 0, 24 * MB)
    tree.spawn("b").read("/data/f", 0, 24 * MB)
    assert tree.rows("b/memory.stat")["file"] >= 14 * MB


def test_fadvise_gives_up_ownership(tree: Machine) -> None:
    """POSIX_FADV_DONTNEED gives a file's pages up: who reads it next is charged."""
    process = tree.spawn("a")
    process.read("/data/f", 0, 8 * MB)
    process.drop("/data/f")
    assert tree.rows("a/memory.stat")["file"] < MB
    tree.spawn("b").read("/data/f", 0, 8 * MB)
    assert tree.rows("b/memory.stat")["file"] >= 7 * MB
