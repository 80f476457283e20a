"""Memory: memory.min and memory.low"""

from __future__ import annotations

import contextlib

import pytest

from tests.cgroup_v2.machine import MB, Dead, Machine


@pytest.fixture
def tree(machine: Machine) -> Machine:
    """64 MB without swap in `top`, for `top/kept` and `top/greedy`."""
    machine.enable("memory")
    machine.make("top", max=64 * MB, swap_max=0)
    machine.enable("memory", "top")
    machine.make("top/kept")
    machine.make("top/greedy")
    return machine


def cache(machine: Machine, path: str) -> int:
    return machine.rows(f"{path}/memory.stat")["file"]


def fill(machine: Machine, kept: str = "top/kept") -> None:
    """Some cache for who is protected."""
    machine.spawn(kept).read("/data/f", 0, 24 * MB)


@pytest.mark.parametrize("name", ["min", "low"])
def test_within_the_boundary_nothing_is_reclaimed(tree: Machine, name: str) -> None:
    """What is within memory.min or memory.low is not reclaimed while there is something else."""
    tree.write("top/kept/memory." + name, 32 * MB)
    fill(tree)
    before = cache(tree, "top/kept")
    tree.spawn("top/greedy").read("/data/g", 0, 64 * MB)
    assert cache(tree, "top/kept") == before >= 24 * MB
    assert tree.rows("top/kept/memory.events")["low"] == 0


def test_without_protection_it_is_reclaimed(tree: Machine) -> None:
    """Without protection the neighbour's need takes it."""
    fill(tree)
    tree.spawn("top/greedy").read("/data/g", 0, 64 * MB)
    assert cache(tree, "top/kept") < 20 * MB


def test_min_is_hard(tree: Machine) -> None:
    """memory.min is never reclaimed: when there is nothing else, the OOM killer comes."""
    tree.write("top/kept/memory.min", 32 * MB)
    fill(tree)
    greedy = tree.spawn("top/greedy")
    with pytest.raises(Dead):
        greedy.grow(56 * MB)
    assert cache(tree, "top/kept") >= 24 * MB and tree.rows("top/memory.events")["oom_kill"] == 1


def test_low_is_an_effort(tree: Machine) -> None:
    """memory.low is reclaimed when there is nothing else, and `low` in memory.events counts it."""
    tree.write("top/kept/memory.low", 32 * MB)
    fill(tree)
    greedy = tree.spawn("top/greedy")
    greedy.grow(56 * MB)
    assert cache(tree, "top/kept") < 16 * MB and tree.rows("top/kept/memory.events")["low"] > 0
    assert tree.rows("top/memory.events")["oom_kill"] == 0


def test_above_it_pressure_is_by_the_overage(tree: Machine) -> None:
    """Above the boundary pages are reclaimed in proportion to the overage: what is a little above loses little."""
    tree.write("top/kept/memory.low", 20 * MB)
    fill(tree)
    tree.spawn("top/greedy").read("/data/g", 0, 64 * MB)
    assert 18 * MB <= cache(tree, "top/kept") < 24 * MB, "without any it is 16 MB"


@pytest.mark.parametrize("name", ["min", "low"])
def test_limited_by_all_above(machine: Machine, name: str) -> None:
    """The effective boundary is limited by those of all above: a child of an unprotected cgroup has none."""
    machine.enable("memory")
    machine.make("top", max=64 * MB, swap_max=0)
    machine.enable("memory", "top")
    machine.make("top/inner")
    machine.enable("memory", "top/inner")
    machine.make("top/inner/kept", **{name: 32 * MB})
    machine.make("top/greedy")
    fill(machine, "top/inner/kept")
    machine.spawn("top/greedy").read("/data/g", 0, 64 * MB)
    assert cache(machine, "top/inner/kept") < 20 * MB


def test_overcommitted_protection_is_shared_by_use(machine: Machine) -> None:
    """If children are promised more than the parent is, they share what it is promised by their usage."""
    machine.enable("memory")
    machine.make("top", max=72 * MB, swap_max=0)
    machine.enable("memory", "top")
    machine.make("top/inner", low=24 * MB)
    machine.enable("memory", "top/inner")
    for name, size in (("one", 24 * MB), ("two", 12 * MB)):
        machine.make(f"top/inner/{name}", low=64 * MB)
        machine.spawn(f"top/inner/{name}").read("/data/f", 0 if name == "one" else 32 * MB, size)
    machine.make("top/greedy")
    machine.spawn("top/greedy").read("/data/g", 0, 64 * MB)
    machine.spawn("top/greedy").read("/data/g", 0, 64 * MB)
    one, two = cache(machine, "top/inner/one"), cache(machine, "top/inner/two")
    assert 20 * MB <= one + two < 33 * MB and one > two >= 8 * MB


def test_min_of_an_empty_cgroup(machine: Machine) -> None:
    """memory.min of a cgroup without processes is to be ignored by the manual; the kernel does protect its pages."""
    machine.enable("memory")
    machine.make("top", max=64 * MB, swap_max=0)
    machine.enable("memory", "top")
    machine.make("top/kept", min=32 * MB)
    machine.make("top/greedy")
    reader = machine.spawn("top/kept")
    reader.read("/data/f", 0, 24 * MB)
    reader.kill()
    assert machine.eventually(lambda: not machine.pids("top/kept/cgroup.procs"))
    before = cache(machine, "top/kept")
    with contextlib.suppress(Dead):
        machine.spawn("top/greedy").grow(56 * MB)
    assert cache(machine, "top/kept") == before


@pytest.mark.parametrize("generations", [7, 0])
def test_children_on_two_nodes_are_reclaimed_alike(machine_with_nodes: Machine, generations: int) -> None:
    """Reclaim that bears on a parent takes about as much from each child, also where they are on several nodes.

    The next step goes on behind the child at which the last one has stopped, on each node.
    """
    machine = machine_with_nodes
    machine.write("/sys/kernel/mm/lru_gen/enabled", generations)
    machine.enable("memory")
    machine.make("p")
    machine.enable("memory", "p")
    files = {machine.make("p/a"): "/data/f", machine.make("p/b"): "/data/g"}
    for group, file in files.items():
        machine.spawn(group).read(file, 0, 60 * MB)
    before = {group: machine.number(f"{group}/memory.current") for group in files}
    for _ in range(5):
        machine.write("p/memory.reclaim", "8M")
    lost = {group: before[group] - machine.number(f"{group}/memory.current") for group in files}
    machine.write("/sys/kernel/mm/lru_gen/enabled", 7)
    # A real kernel took 41 to 68 MB of 105 from one of them: which has one turn more on each node is chance.
    assert sum(lost.values()) >= 40 * MB and min(lost.values()) >= 10 * MB, lost
