"""Delegation

Not modelled: delegation to a cgroup namespace (mount option nsdelegate), and the ENOENT of a move that leaves it.
"""

from __future__ import annotations

import pytest

from tests.cgroup_v2.machine import MB, USER, Dead, Machine, errno_of


def delegate(machine: Machine, path: str) -> None:
    for name in ("", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"):
        machine.chown(f"{path}{name}", USER)


def test_delegated_to_a_user(machine: Machine) -> None:
    """With the directory, cgroup.procs, .threads and .subtree_control a user may build and arrange what is below."""
    machine.enable("memory pids")
    machine.mkdir("d")
    assert errno_of(machine.mkdir, "d/x", uid=USER) == "EACCES"
    delegate(machine, "d")
    for path in ("d/x", "d/y"):
        machine.mkdir(path, uid=USER)
    process = machine.spawn("d")
    machine.write("d/x/cgroup.procs", process.pid, uid=USER)
    machine.write("d/y/cgroup.procs", process.pid, uid=USER)
    machine.write("d/cgroup.subtree_control", "+pids", uid=USER)
    machine.write("d/x/pids.max", 5, uid=USER)
    machine.rmdir("d/x", uid=USER)
    assert machine.pids("d/y/cgroup.procs") == {process.pid}


def test_resource_files_are_not_delegated(machine: Machine) -> None:
    """The files that control what the parent gives are not granted: the user cannot write them."""
    machine.enable("memory pids")
    machine.mkdir("d")
    delegate(machine, "d")
    for name in ("memory.max", "memory.low", "pids.max", "cgroup.max.depth", "cgroup.freeze"):
        assert errno_of(machine.write, f"d/{name}", "1", uid=USER) == "EACCES", name


def test_what_can_be_delegated_to_a_namespace(machine: Machine) -> None:
    """/sys/kernel/cgroup/delegate lists the files that a namespace's root may still write."""
    names = machine.read("/sys/kernel/cgroup/delegate").split()
    assert names == ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "memory.oom.group", "memory.reclaim"]


def test_nothing_escapes_the_limits_above(machine: Machine) -> None:
    """Whatever is done in the delegated part, the limits of the parent hold."""
    machine.enable("memory")
    machine.make("d", max=16 * MB, swap_max=0)
    delegate(machine, "d")
    machine.write("d/cgroup.subtree_control", "+memory", uid=USER)
    machine.mkdir("d/x", uid=USER)
    machine.write("d/x/memory.max", "max", uid=USER)
    with pytest.raises(Dead):
        machine.spawn("d/x").grow(24 * MB)


def test_depth_is_not_limited_by_itself(machine: Machine) -> None:
    """The number and depth of cgroups in a delegated part are not limited unless somebody limits them."""
    machine.mkdir("d")
    delegate(machine, "d")
    path = "d"
    for number in range(24):
        path = f"{path}/{number}"
        machine.mkdir(path, uid=USER)
    machine.write("d/cgroup.max.descendants", 24)
    assert errno_of(machine.mkdir, "d/one-more", uid=USER) == "EAGAIN"


def test_the_writer_needs_the_file(machine: Machine) -> None:
    """Who moves a process must be allowed to write the target's cgroup.procs."""
    machine.mkdir("a")
    process = machine.spawn()
    assert errno_of(machine.write, "a/cgroup.procs", process.pid, uid=USER) == "EACCES"


def test_the_writer_needs_the_common_ancestor(machine: Machine) -> None:
    """And that of the nearest cgroup above both ends: nothing is pulled in from outside or pushed out."""
    machine.mkdir("d")
    delegate(machine, "d")
    machine.mkdir("d/x", uid=USER)
    outside, inside = machine.spawn(), machine.spawn("d/x")
    assert errno_of(machine.write, "d/x/cgroup.procs", outside.pid, uid=USER) == "EACCES"
    machine.mkdir("free")
    machine.chown("free/cgroup.procs", USER)
    assert errno_of(machine.write, "free/cgroup.procs", inside.pid, uid=USER) == "EACCES"


def test_two_delegated_parts(machine: Machine) -> None:
    """Between two parts delegated to the same user nothing moves: the cgroup above both is not his."""
    for path in ("C0", "C1"):
        machine.mkdir(path)
        delegate(machine, path)
    for path in ("C0/C00", "C0/C01", "C1/C10"):
        machine.mkdir(path, uid=USER)
    process = machine.spawn("C1/C10")
    assert errno_of(machine.write, "C0/C00/cgroup.procs", process.pid, uid=USER) == "EACCES"
    machine.write("C0/C00/cgroup.procs", process.pid)
    machine.write("C0/C01/cgroup.procs", process.pid, uid=USER)
