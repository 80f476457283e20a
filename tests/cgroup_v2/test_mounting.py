"""Mounting

Not modelled: the magic number of the file system, which through FUSE is FUSE's except in `mmfs run`.

Not modelled: v1 hierarchies, controllers that move between hierarchies, and cgroup_no_v1=.

Not modelled: nsdelegate has no effect, as there are no namespaces; memory_hugetlb_accounting neither.

Not modelled: the mount options of a namespace that is not the initial one.
"""

from __future__ import annotations

import pytest

from tests.cgroup_v2.machine import MB, Dead, Machine, errno_of


def option(machine: Machine, name: str) -> bool:
    (line,) = (line for line in machine.read("/proc/mounts").splitlines() if " /sys/fs/cgroup " in line)
    return name in line.split()[3].split(",")


def full(machine: Machine) -> None:
    """A process in p/a fails to fork at the limit of p, and is killed at that of p/a."""
    machine.enable("memory pids")
    machine.make("p")
    machine.write("p/pids.max", 1)
    machine.enable("memory pids", "p")
    machine.make("p/a", max=8 * MB, swap_max=0)
    process = machine.spawn("p/a")
    assert errno_of(process.fork) == "EAGAIN"
    with pytest.raises(Dead):
        process.grow(16 * MB)


def test_one_hierarchy(machine: Machine) -> None:
    """There is one hierarchy, and all controllers show up at its root."""
    assert machine.read("/proc/mounts").count(" cgroup2 ") == 1
    assert {"cpuset", "memory", "hugetlb", "pids"} <= set(machine.read("cgroup.controllers").split())
    rows = [line.split() for line in machine.read("/proc/cgroups").splitlines()[1:]]
    assert {row[1] for row in rows} == {"0"}


def test_options_are_changed_by_remounting(machine: Machine) -> None:
    """Mount options are of the whole system and can be changed by mounting anew; an unknown one is EINVAL."""
    machine.remount("favordynmods,nsdelegate,memory_recursiveprot")
    assert option(machine, "favordynmods") and option(machine, "memory_recursiveprot") and option(machine, "nsdelegate")
    machine.remount("")
    assert not option(machine, "favordynmods")
    assert errno_of(machine.remount, "nosuchoption") == "EINVAL"


def test_favordynmods_changes_no_result(machine: Machine) -> None:
    """favordynmods only makes changes to the tree quicker: the same moves give the same tree."""
    machine.remount("favordynmods")
    machine.enable("pids")
    machine.mkdir("a")
    process = machine.spawn("a")
    assert machine.pids("a/cgroup.procs") == {process.pid} and machine.number("a/pids.current") == 1


def test_events_are_of_the_subtree_without_memory_localevents(machine: Machine) -> None:
    """Without the option memory.events counts what happens below, too."""
    full(machine)
    assert machine.rows("p/memory.events")["oom_kill"] == machine.rows("p/a/memory.events")["oom_kill"] == 1


def test_memory_localevents(machine: Machine) -> None:
    """With memory_localevents memory.events counts only what happens in the cgroup itself."""
    machine.remount("memory_localevents")
    full(machine)
    assert machine.rows("p/memory.events")["oom_kill"] == 0 and machine.rows("p/a/memory.events")["oom_kill"] == 1


def test_pids_localevents(machine: Machine) -> None:
    """With pids_localevents pids.events counts failed forks where they happened; without it the limit's hits below."""
    machine.remount("pids_localevents")
    full(machine)
    assert [machine.read(f"{path}/pids.events") for path in ("p", "p/a")] == ["max 0\n", "max 1\n"]
    machine.remount("")
    assert [machine.read(f"{path}/pids.events") for path in ("p", "p/a")] == ["max 0\n", "max 0\n"]


def kept(machine: Machine) -> int:
    """What is left of 20 MB of cache in p/kept, p being protected, after a neighbour has read 64 MB."""
    machine.enable("memory")
    machine.make("limit", max=48 * MB, swap_max=0)
    machine.enable("memory", "limit")
    machine.make("limit/p", low=24 * MB)
    machine.enable("memory", "limit/p")
    machine.make("limit/p/kept")
    machine.make("limit/greedy")
    machine.spawn("limit/p/kept").read("/data/f", 0, 20 * MB)
    machine.spawn("limit/greedy").read("/data/g", 0, 64 * MB)
    return machine.rows("limit/p/kept/memory.stat")["file"]


def test_memory_recursiveprot(machine: Machine) -> None:
    """With memory_recursiveprot the protection of a cgroup holds for what is below it without being set there."""
    machine.remount("memory_recursiveprot")
    assert kept(machine) >= 20 * MB


def test_without_memory_recursiveprot(machine: Machine) -> None:
    """Without it protection has to be set at each level down to the leaf."""
    assert kept(machine) < 16 * MB
