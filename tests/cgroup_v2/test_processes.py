"""Organizing processes

Not modelled: the v2 hierarchy beside legacy ones; /proc/PID/cgroup has the one line of v2.
"""

from __future__ import annotations

from tests.cgroup_v2.machine import MB, Machine, errno_of


def test_all_begin_in_the_root(machine: Machine) -> None:
    """At first there is only the root, and a process is in it."""
    process = machine.spawn()
    assert process.pid in machine.pids("cgroup.procs")
    assert machine.read(f"/proc/{process.pid}/cgroup") == "0::/\n"


def test_mkdir_makes_a_child(machine: Machine) -> None:
    """mkdir(2) makes a child; one cgroup may have several, and they may have children: a tree."""
    for path in ("a", "b", "a/x", "a/y", "a/x/z"):
        machine.mkdir(path)
    assert {"x", "y"} <= machine.listdir("a") and "z" in machine.listdir("a/x")
    assert errno_of(machine.mkdir, "nowhere/x") == "ENOENT"


def test_procs_lists_pids(machine: Machine) -> None:
    """cgroup.procs lists the processes of the cgroup, one a line; not the threads, nor those of children."""
    machine.mkdir("a")
    machine.mkdir("a/b")
    one, two, below = machine.spawn("a"), machine.spawn("a"), machine.spawn("a/b")
    one.thread()
    lines = machine.read("a/cgroup.procs").splitlines()
    assert sorted(map(int, lines)) == sorted([one.pid, two.pid])
    assert machine.pids("a/b/cgroup.procs") == {below.pid}


def test_each_process_is_in_one_cgroup(machine: Machine) -> None:
    """A process belongs to one cgroup and to no other: moving it takes it out of where it was."""
    machine.mkdir("a")
    machine.mkdir("b")
    process = machine.spawn("a")
    machine.write("b/cgroup.procs", process.pid)
    assert machine.pids("a/cgroup.procs") == set() and machine.pids("b/cgroup.procs") == {process.pid}
    assert process.pid not in machine.pids("cgroup.procs")


def test_writing_a_pid_migrates(machine: Machine) -> None:
    """Writing a PID to cgroup.procs moves that process; 0 is the writer."""
    machine.mkdir("a")
    process, writer = machine.spawn(), machine.spawn()
    machine.write("a/cgroup.procs", f"{process.pid}\n")
    writer.write("a/cgroup.procs", "0")
    assert machine.pids("a/cgroup.procs") == {process.pid, writer.pid}


def test_one_process_a_write(machine: Machine) -> None:
    """One write moves one process: two PIDs in one write are EINVAL, and neither moves."""
    machine.mkdir("a")
    one, two = machine.spawn(), machine.spawn()
    for text in (f"{one.pid}\n{two.pid}\n", f"{one.pid} {two.pid}"):
        assert errno_of(machine.write, "a/cgroup.procs", text) == "EINVAL"
    assert machine.pids("a/cgroup.procs") == set()


def test_writing_a_thread_migrates_its_process(machine: Machine) -> None:
    """The number of any thread of a process moves all its threads."""
    machine.mkdir("a")
    process = machine.spawn()
    threads = {process.pid, process.thread(), process.thread()}
    machine.write("a/cgroup.procs", max(threads))
    assert machine.pids("a/cgroup.procs") == {process.pid}
    assert machine.pids("a/cgroup.threads") == threads


def test_a_child_is_born_where_its_parent_is(machine: Machine) -> None:
    """A new process is in the cgroup in which its parent is at the time of the fork."""
    machine.mkdir("a")
    machine.mkdir("b")
    parent = machine.spawn("a")
    first = parent.fork()
    machine.write("b/cgroup.procs", parent.pid)
    second = parent.fork()
    assert machine.pids("a/cgroup.procs") == {first.pid}
    assert machine.pids("b/cgroup.procs") == {parent.pid, second.pid}


def test_moving_leaves_the_children(machine: Machine) -> None:
    """Moving a process does not move the children that it has already."""
    machine.mkdir("a")
    parent = machine.spawn()
    child = parent.fork()
    machine.write("a/cgroup.procs", parent.pid)
    assert machine.pids("a/cgroup.procs") == {parent.pid}
    assert machine.read(f"/proc/{child.pid}/cgroup") == "0::/\n"


def test_a_zombie_stays_but_is_not_listed(machine: Machine) -> None:
    """A process that has exited stays with its cgroup until it is reaped, is not listed, and cannot be moved."""
    machine.mkdir("a")
    machine.mkdir("b")
    parent = machine.spawn()
    child = parent.fork()
    machine.write("a/cgroup.procs", child.pid)
    child.exit()
    assert machine.eventually(lambda: machine.pids("a/cgroup.procs") == set())
    assert machine.read(f"/proc/{child.pid}/cgroup") == "0::/a\n"
    errno_of(machine.write, "b/cgroup.procs", child.pid)
    assert machine.read(f"/proc/{child.pid}/cgroup") == "0::/a\n"


def test_rmdir_of_an_empty_cgroup(machine: Machine) -> None:
    """rmdir(2) removes a cgroup with neither children nor living processes; with either it is EBUSY."""
    machine.mkdir("a")
    machine.mkdir("a/b")
    assert errno_of(machine.rmdir, "a") == "EBUSY"
    machine.rmdir("a/b")
    process = machine.spawn("a")
    assert errno_of(machine.rmdir, "a") == "EBUSY"
    process.kill()
    assert machine.eventually(lambda: not machine.pids("a/cgroup.procs"))
    machine.rmdir("a")
    assert "a" not in machine.listdir("")


def test_a_cgroup_of_zombies_is_empty(machine: Machine) -> None:
    """A cgroup whose only processes are zombies can be removed; their /proc/PID/cgroup then ends in ` (deleted)`."""
    machine.mkdir("a")
    parent = machine.spawn()
    child = parent.fork()
    machine.write("a/cgroup.procs", child.pid)
    child.exit()
    assert machine.eventually(lambda: not machine.pids("a/cgroup.procs"))
    machine.rmdir("a")
    assert machine.read(f"/proc/{child.pid}/cgroup") == "0::/a (deleted)\n"
    parent.wait()


def test_proc_cgroup(machine: Machine) -> None:
    """/proc/PID/cgroup names the cgroup as 0::PATH."""
    machine.mkdir("a")
    machine.mkdir("a/b")
    assert machine.read(f"/proc/{machine.spawn('a/b').pid}/cgroup") == "0::/a/b\n"


def test_controllers_act_on_the_whole_subtree(machine: Machine) -> None:
    """What a controller does to a cgroup it does to all processes below: usage and limits are those of the subtree."""
    machine.enable("memory pids")
    machine.make("a", max=24 * MB, swap_max=0)
    machine.mkdir("a/b")
    machine.write("a/pids.max", 3)
    one, two = machine.spawn("a/b"), machine.spawn("a/b")
    one.grow(8 * MB)
    two.grow(8 * MB)
    assert machine.number("a/memory.current") >= 16 * MB
    one.fork()
    assert errno_of(two.fork) == "EAGAIN"


def test_what_is_set_above_cannot_be_overridden(machine: Machine) -> None:
    """A limit nearer to the root holds, whatever is written farther away."""
    machine.enable("pids")
    machine.mkdir("a")
    machine.enable("pids", "a")
    machine.mkdir("a/b")
    machine.write("a/pids.max", 1)
    machine.write("a/b/pids.max", "max")
    assert errno_of(machine.spawn("a/b").fork) == "EAGAIN"
