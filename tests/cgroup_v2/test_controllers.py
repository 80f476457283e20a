"""Controlling controllers"""

from __future__ import annotations

import pytest

from tests.cgroup_v2.machine import MB, Dead, Machine, errno_of


def enabled(machine: Machine, path: str = "") -> set[str]:
    return set(machine.read(f"{path}/cgroup.subtree_control".lstrip("/")).split())


def test_available_controllers(machine: Machine) -> None:
    """cgroup.controllers lists the controllers that the cgroup can enable: those that its parent has enabled."""
    assert {"cpuset", "memory", "hugetlb", "pids"} <= set(machine.read("cgroup.controllers").split())
    machine.enable("memory pids")
    machine.mkdir("a")
    assert machine.read("a/cgroup.controllers") == "memory pids\n"


def test_none_is_enabled_at_first(machine: Machine) -> None:
    """No controller is enabled in a new cgroup."""
    machine.enable("memory pids")
    machine.mkdir("a")
    assert enabled(machine, "a") == set()


def test_plus_and_minus(machine: Machine) -> None:
    """+NAME enables and -NAME disables, several in one write."""
    machine.write("cgroup.subtree_control", "+memory +pids +cpuset")
    machine.write("cgroup.subtree_control", "-pids +hugetlb")
    assert enabled(machine) == {"cpuset", "memory", "hugetlb"}


def test_only_what_is_listed(machine: Machine) -> None:
    """A controller that cgroup.controllers does not list cannot be enabled: ENOENT; an unknown name is EINVAL."""
    machine.enable("pids")
    machine.mkdir("a")
    assert errno_of(machine.write, "a/cgroup.subtree_control", "+memory") == "ENOENT"
    assert errno_of(machine.write, "a/cgroup.subtree_control", "+nosuch") == "EINVAL"


def test_all_or_none(machine: Machine) -> None:
    """Of several operations in one write all succeed or none does."""
    machine.enable("pids")
    machine.mkdir("a")
    assert errno_of(machine.write, "a/cgroup.subtree_control", "+pids +memory") == "ENOENT"
    assert enabled(machine, "a") == set()


def test_the_last_of_several_counts(machine: Machine) -> None:
    """Of several operations on one controller the last counts."""
    machine.write("cgroup.subtree_control", "+pids -pids +memory -memory +memory")
    assert enabled(machine) == {"memory"}


def test_enabling_controls_the_children(machine: Machine) -> None:
    """A controller enabled in A acts on its child B; where B does not enable it, B's children share freely."""
    machine.enable("memory pids")
    machine.make("A")
    machine.enable("memory pids", "A")
    machine.make("A/B", max=16 * MB, swap_max=0)
    machine.enable("memory", "A/B")
    for path in ("A/B/C", "A/B/D"):
        machine.make(path)
    machine.write("A/B/pids.max", 3)
    first, second = machine.spawn("A/B/C"), machine.spawn("A/B/D")
    first.fork()
    assert errno_of(second.fork) == "EAGAIN", "C and D compete for the three"
    machine.write("A/B/C/memory.max", 8 * MB)
    with pytest.raises(Dead):
        first.grow(12 * MB)
    second.grow(12 * MB)


def test_enabling_makes_files(machine: Machine) -> None:
    """Enabling makes the controller's files in the children, disabling removes them; the cgroup's own stay."""
    machine.enable("memory pids")
    machine.mkdir("A")
    machine.mkdir("A/B")
    own = machine.listdir("A")
    assert not {name for name in machine.listdir("A/B") if name.startswith("pids.")}
    machine.enable("pids", "A")
    assert {"pids.current", "pids.max"} <= machine.listdir("A/B") and machine.listdir("A") == own
    machine.write("A/cgroup.subtree_control", "-pids")
    assert not {name for name in machine.listdir("A/B") if name.startswith("pids.")} and machine.listdir("A") == own


def test_top_down(machine: Machine) -> None:
    """What is enabled in a cgroup is enabled in its parent; it cannot be disabled there while a child has it: EBUSY."""
    machine.mkdir("A")
    assert errno_of(machine.enable, "memory", "A") == "ENOENT"
    machine.enable("memory")
    machine.enable("memory", "A")
    assert errno_of(machine.write, "cgroup.subtree_control", "-memory") == "EBUSY"
    machine.write("A/cgroup.subtree_control", "-memory")
    machine.write("cgroup.subtree_control", "-memory")
    assert enabled(machine) == set()


def test_no_internal_processes(machine: Machine) -> None:
    """A cgroup with processes cannot enable a domain controller, one that has enabled any takes none: EBUSY."""
    machine.enable("memory")
    machine.mkdir("A")
    machine.mkdir("A/B")
    process = machine.spawn("A")
    assert errno_of(machine.enable, "memory", "A") == "EBUSY"
    machine.write("A/B/cgroup.procs", process.pid)
    machine.enable("memory", "A")
    assert errno_of(machine.write, "A/cgroup.procs", process.pid) == "EBUSY"


def test_the_root_is_exempt(machine: Machine) -> None:
    """The root has processes of its own and enables controllers all the same."""
    process = machine.spawn()
    machine.enable("memory pids")
    assert process.pid in machine.pids("cgroup.procs")


def test_without_controllers_processes_may_be_anywhere(machine: Machine) -> None:
    """With no controller enabled a cgroup with processes may have children, with processes or without."""
    machine.enable("memory")
    machine.mkdir("A")
    inner = machine.spawn("A")
    machine.mkdir("A/B")
    machine.spawn("A/B")
    assert machine.pids("A/cgroup.procs") == {inner.pid} and len(machine.pids("A/B/cgroup.procs")) == 1


def test_moving_all_processes_to_children_lets_controllers_be_enabled(machine: Machine) -> None:
    """A populated cgroup makes children and moves all its processes to them: then it can enable controllers."""
    machine.enable("memory")
    machine.mkdir("A")
    processes = [machine.spawn("A") for _ in range(3)]
    machine.mkdir("A/leaf")
    for process in processes:
        machine.write("A/leaf/cgroup.procs", process.pid)
    machine.enable("memory", "A")
    assert "memory.max" in machine.listdir("A/leaf")
