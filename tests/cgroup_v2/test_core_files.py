"""Core interface files

Not modelled: irq.pressure (Debian's kernel has it not).
"""

from __future__ import annotations

from tests.cgroup_v2.machine import MB, PAGE, Machine, errno_of

ON_ROOT = {
    "cgroup.controllers", "cgroup.max.depth", "cgroup.max.descendants", "cgroup.procs", "cgroup.stat",
    "cgroup.subtree_control", "cgroup.threads",
}  # fmt: skip


def frozen(machine: Machine, path: str) -> bool:
    return machine.rows(f"{path}/cgroup.events")["frozen"] == 1


def test_which_files(machine: Machine) -> None:
    """All begin with `cgroup.`; type, events, freeze, kill and pressure are not in the root."""
    machine.mkdir("a")
    core = {name for name in machine.listdir("a") if name.startswith("cgroup.")}
    assert {name for name in machine.listdir("") if name.startswith("cgroup.")} - {"cgroup.pressure"} == ON_ROOT
    assert core == ON_ROOT | {"cgroup.type", "cgroup.events", "cgroup.freeze", "cgroup.kill", "cgroup.pressure"}


def test_max_descendants(machine: Machine) -> None:
    """cgroup.max.descendants is `max` at first; as many below are enough for mkdir(2) to fail with EAGAIN."""
    machine.mkdir("a")
    assert machine.read("a/cgroup.max.descendants") == "max\n"
    machine.write("a/cgroup.max.descendants", 2)
    machine.mkdir("a/x")
    machine.mkdir("a/x/y")
    assert errno_of(machine.mkdir, "a/z") == errno_of(machine.mkdir, "a/x/z") == "EAGAIN"
    machine.write("a/cgroup.max.descendants", 1)
    machine.rmdir("a/x/y")
    assert errno_of(machine.mkdir, "a/x/z") == "EAGAIN"


def test_max_depth(machine: Machine) -> None:
    """cgroup.max.depth is `max` at first; below that many levels mkdir(2) fails with EAGAIN."""
    machine.mkdir("a")
    assert machine.read("a/cgroup.max.depth") == "max\n"
    machine.write("a/cgroup.max.depth", 1)
    machine.mkdir("a/x")
    assert errno_of(machine.mkdir, "a/x/y") == "EAGAIN"
    machine.write("a/cgroup.max.depth", 0)
    assert errno_of(machine.mkdir, "a/z") == "EAGAIN"


def test_stat_counts_descendants(machine: Machine) -> None:
    """cgroup.stat counts the cgroups below, at all depths."""
    for path in ("a", "a/x", "a/x/y", "a/z"):
        machine.mkdir(path)
    assert [machine.rows(f"{path}/cgroup.stat")["nr_descendants"] for path in ("a", "a/x", "a/z")] == [3, 1, 0]


def test_a_removed_cgroup_is_dying_while_pages_are_charged(machine: Machine) -> None:
    """A removed cgroup counts as dying as long as pages are charged to it, and nothing can enter it meanwhile."""
    machine.enable("memory")
    machine.make("p")
    machine.enable("memory", "p")
    machine.make("p/a")
    reader = machine.spawn("p/a")
    reader.read("/data/f", 0, 4 * MB)
    reader.kill()
    assert machine.eventually(lambda: not machine.pids("p/a/cgroup.procs"))
    procs = machine.open("p/a/cgroup.procs")
    machine.rmdir("p/a")
    stat = machine.rows("p/cgroup.stat")
    assert (stat["nr_descendants"], stat["nr_dying_descendants"], stat["nr_dying_subsys_memory"]) == (0, 1, 1)
    assert machine.number("p/memory.current") >= 4 * MB, "and the parent pays"
    assert errno_of(procs.write, str(machine.spawn().pid)) == "ENODEV"
    procs.close()
    machine.write("/proc/sys/vm/drop_caches", 3)
    # On a real machine slab objects and CPUs' batches hold it, too, for an undefined time.
    assert machine.real or machine.rows("p/cgroup.stat")["nr_dying_descendants"] == 0


def test_a_dying_cgroup_keeps_its_limits(machine: Machine) -> None:
    """What was charged to a dying cgroup never exceeds the limits that it had."""
    machine.enable("memory")
    machine.make("p")
    machine.enable("memory", "p")
    machine.make("p/a", max=8 * MB)
    reader = machine.spawn("p/a")
    reader.read("/data/f", 0, 16 * MB)
    reader.kill()
    assert machine.eventually(lambda: not machine.pids("p/a/cgroup.procs"))
    machine.rmdir("p/a")
    assert 4 * MB <= machine.number("p/memory.current") <= 8 * MB + 256 * PAGE


def test_stat_counts_subsystems(machine: Machine) -> None:
    """nr_subsys_NAME counts the cgroups that have the controller, this one and those below."""
    machine.enable("memory pids")
    machine.mkdir("a")
    machine.enable("memory", "a")
    machine.mkdir("a/x")
    stat = machine.rows("a/cgroup.stat")
    assert [stat[f"nr_subsys_{name}"] for name in ("memory", "pids", "hugetlb")] == [2, 1, 0]
    machine.rmdir("a/x")
    assert machine.rows("a/cgroup.stat")["nr_subsys_memory"] == 1


def test_freeze(machine: Machine) -> None:
    """1 in cgroup.freeze stops all processes here and below; `frozen` turns 1 when they are, and poll(2) is told."""
    machine.mkdir("a")
    machine.mkdir("a/b")
    machine.spawn("a/b")
    assert machine.read("a/cgroup.freeze") == "0\n"
    events = machine.open("a/cgroup.events")
    events.read()
    machine.write("a/cgroup.freeze", 1)
    assert machine.eventually(lambda: frozen(machine, "a") and frozen(machine, "a/b"))
    assert events.woken()
    events.close()
    machine.write("a/cgroup.freeze", 0)
    assert machine.eventually(lambda: not frozen(machine, "a") and not frozen(machine, "a/b"))


def test_freeze_takes_0_and_1(machine: Machine) -> None:
    """Only 0 and 1 can be written to cgroup.freeze: ERANGE, or EINVAL for what is no number."""
    machine.mkdir("a")
    found = [errno_of(machine.write, "a/cgroup.freeze", text) for text in ("2", "-1", "x")]
    assert found == ["ERANGE", "ERANGE", "EINVAL"]


def test_frozen_by_any_above(machine: Machine) -> None:
    """A cgroup is frozen by its own setting or by any above, and stays so until none says it."""
    machine.mkdir("a")
    machine.mkdir("a/b")
    machine.write("a/b/cgroup.freeze", 1)
    machine.write("a/cgroup.freeze", 1)
    machine.write("a/b/cgroup.freeze", 0)
    assert machine.eventually(lambda: frozen(machine, "a/b"))
    machine.write("a/cgroup.freeze", 0)
    assert machine.eventually(lambda: not frozen(machine, "a/b"))


def test_the_frozen_can_be_killed(machine: Machine) -> None:
    """A frozen process dies of a fatal signal."""
    machine.mkdir("a")
    process = machine.spawn("a")
    machine.write("a/cgroup.freeze", 1)
    assert machine.eventually(lambda: frozen(machine, "a"))
    process.kill()
    assert machine.eventually(lambda: not process.alive)


def test_moving_into_and_out_of_the_frozen(machine: Machine) -> None:
    """A process that is moved into a frozen cgroup stops, and one that is moved out runs again."""
    machine.mkdir("a")
    machine.write("a/cgroup.freeze", 1)
    process = machine.spawn("a")
    assert machine.eventually(lambda: frozen(machine, "a"))
    machine.write("cgroup.procs", process.pid)
    process.grow(PAGE)


def test_the_tree_of_the_frozen_can_change(machine: Machine) -> None:
    """In a frozen cgroup children can be made, frozen from the beginning, and removed."""
    machine.mkdir("a")
    machine.write("a/cgroup.freeze", 1)
    machine.mkdir("a/b")
    assert machine.eventually(lambda: frozen(machine, "a/b"))
    machine.rmdir("a/b")
    machine.rmdir("a")


def test_kill(machine: Machine) -> None:
    """1 in cgroup.kill kills all processes here and below; nothing else can be written, and nothing read."""
    machine.mkdir("a")
    machine.mkdir("a/b")
    inside, outside = [machine.spawn("a"), machine.spawn("a/b")], machine.spawn()
    assert errno_of(machine.write, "a/cgroup.kill", 0) == "ERANGE"
    assert errno_of(machine.read, "a/cgroup.kill") == "EINVAL"
    machine.write("a/cgroup.kill", 1)
    assert machine.eventually(lambda: not any(process.alive for process in inside))
    assert outside.alive


def test_kill_in_a_threaded_cgroup(machine: Machine) -> None:
    """In a threaded cgroup cgroup.kill is EOPNOTSUPP: it kills processes, not threads."""
    machine.mkdir("a")
    machine.mkdir("a/b")
    machine.write("a/b/cgroup.type", "threaded")
    assert errno_of(machine.write, "a/b/cgroup.kill", 1) == "EOPNOTSUPP"


def test_pressure_can_be_switched_off(machine: Machine) -> None:
    """0 in cgroup.pressure switches the accounting of pressure off, here and not below, 1 on; it is 1 at first."""
    machine.mkdir("a")
    machine.mkdir("a/b")
    assert machine.read("a/cgroup.pressure") == "1\n"
    machine.write("a/cgroup.pressure", 0)
    assert not {"memory.pressure", "io.pressure", "cpu.pressure"} & machine.listdir("a")
    assert "memory.pressure" in machine.listdir("a/b") and machine.read("a/b/cgroup.pressure") == "1\n"
    machine.write("a/cgroup.pressure", 1)
    assert machine.read("a/memory.pressure").startswith("some ")
    assert errno_of(machine.write, "a/cgroup.pressure", 2) == "ERANGE"
