"""Threads"""

from __future__ import annotations

import pytest

from tests.cgroup_v2.machine import MB, Machine, errno_of


@pytest.fixture
def tree(machine: Machine) -> Machine:
    """A domain d with the threaded cgroups d/x and d/y."""
    for path in ("d", "d/x", "d/y"):
        machine.mkdir(path)
    for path in ("d/x", "d/y"):
        machine.write(f"{path}/cgroup.type", "threaded")
    return machine


def kind(machine: Machine, path: str) -> str:
    return machine.read(f"{path}/cgroup.type").rstrip("\n")


def test_threads_of_a_process_are_together_at_first(machine: Machine) -> None:
    """All threads of a process are in the same cgroup, unless it is threaded."""
    machine.mkdir("a")
    machine.mkdir("b")
    process = machine.spawn("a")
    thread = process.thread()
    assert machine.pids("a/cgroup.threads") == {process.pid, thread}
    assert errno_of(machine.write, "b/cgroup.threads", thread) == "EOPNOTSUPP"


def test_the_kinds(tree: Machine) -> None:
    """cgroup.type tells a domain, a domain that is the root of a threaded subtree, and a threaded cgroup apart."""
    tree.mkdir("other")
    assert [kind(tree, path) for path in ("other", "d", "d/x")] == ["domain", "domain threaded", "threaded"]


def test_a_threaded_cgroup_joins_its_parents_domain(tree: Machine) -> None:
    """A threaded cgroup below a threaded one has the domain farther up: threads move between them all."""
    tree.mkdir("d/x/z")
    tree.write("d/x/z/cgroup.type", "threaded")
    process = tree.spawn("d")
    thread = process.thread()
    for path in ("d/x/z", "d/y", "d"):
        tree.write(f"{path}/cgroup.threads", thread)
        assert thread in tree.pids(f"{path}/cgroup.threads")


def test_threads_are_exempt_from_no_internal_processes(tree: Machine) -> None:
    """In a threaded subtree threads may be in a cgroup that has controllers enabled for its children."""
    tree.enable("pids")
    tree.enable("pids", "d")
    tree.mkdir("d/x/z")
    process = tree.spawn("d")
    tree.write("d/x/cgroup.threads", process.pid)
    tree.enable("pids", "d/x")
    assert tree.read("d/x/cgroup.subtree_control") == "pids\n" and tree.pids("d/x/cgroup.threads") == {process.pid}


def test_a_threaded_domain_has_no_populated_domain_children(machine: Machine) -> None:
    """A threaded domain cannot have populated children that are not threaded: the one is EOPNOTSUPP with the other."""
    for path in ("d", "d/x", "d/y"):
        machine.mkdir(path)
    machine.spawn("d/y")
    assert errno_of(machine.write, "d/x/cgroup.type", "threaded") == "EOPNOTSUPP"


def test_the_root_may_have_both(machine: Machine) -> None:
    """The root may be a threaded domain and the parent of domains at once."""
    machine.enable("memory")
    for path in ("t", "d"):
        machine.mkdir(path)
    machine.spawn("d")
    machine.write("t/cgroup.type", "threaded")
    assert (kind(machine, "t"), kind(machine, "d")) == ("threaded", "domain")
    process = machine.spawn()
    thread = process.thread()
    machine.write("t/cgroup.threads", thread)
    assert machine.pids("t/cgroup.threads") == {thread}


def test_a_new_cgroup_is_a_domain(machine: Machine) -> None:
    """A new cgroup is a domain; only the word `threaded` can be written to cgroup.type."""
    machine.mkdir("a")
    assert kind(machine, "a") == "domain"
    assert errno_of(machine.write, "a/cgroup.type", "domain") == "EINVAL"


def test_threaded_for_good(tree: Machine) -> None:
    """A threaded cgroup cannot be made a domain again."""
    for word in ("domain", "domain threaded", ""):
        assert errno_of(tree.write, "d/x/cgroup.type", word or "\n") == "EINVAL"
    assert kind(tree, "d/x") == "threaded"


def test_domain_controllers_stand_in_the_way(machine: Machine) -> None:
    """A domain with a domain controller enabled can have no threaded child, unless it is the root."""
    machine.enable("memory")
    for path in ("a", "a/b"):
        machine.mkdir(path)
    machine.enable("memory", "a")
    assert errno_of(machine.write, "a/b/cgroup.type", "threaded") == "EOPNOTSUPP"
    machine.mkdir("c")
    machine.write("c/cgroup.type", "threaded")


def test_an_invalid_domain(tree: Machine) -> None:
    """A domain that is made below a threaded cgroup is `domain invalid`: nothing can be in it until it is threaded."""
    tree.mkdir("d/x/c")
    assert kind(tree, "d/x/c") == "domain invalid"
    process = tree.spawn("d")
    for path, text in (("cgroup.procs", process.pid), ("cgroup.threads", process.pid)):
        assert errno_of(tree.write, f"d/x/c/{path}", text) == "EOPNOTSUPP"
    tree.write("d/x/c/cgroup.type", "threaded")
    tree.write("d/x/c/cgroup.threads", process.pid)


def test_controllers_on_a_populated_cgroup_make_a_threaded_domain(machine: Machine) -> None:
    """A threaded controller enabled where processes are makes a threaded domain, until they are gone."""
    machine.enable("pids")
    machine.mkdir("a")
    process = machine.spawn("a")
    machine.enable("pids", "a")
    assert kind(machine, "a") == "domain threaded"
    machine.write("cgroup.procs", process.pid)
    assert kind(machine, "a") == "domain"


def test_a_threaded_domain_reverts(tree: Machine) -> None:
    """A threaded domain whose threaded children are gone is a domain again."""
    tree.rmdir("d/x")
    assert kind(tree, "d") == "domain threaded"
    tree.rmdir("d/y")
    assert kind(tree, "d") == "domain"


def test_threads_lists_threads(tree: Machine) -> None:
    """cgroup.threads lists the threads of the cgroup itself, and takes the number of one that moves alone."""
    process = tree.spawn("d")
    stays, goes = process.thread(), process.thread()
    tree.write("d/x/cgroup.threads", goes)
    assert tree.pids("d/cgroup.threads") == {process.pid, stays} and tree.pids("d/x/cgroup.threads") == {goes}


def test_threads_stay_in_their_domain(tree: Machine) -> None:
    """A thread moves only within its threaded domain: elsewhere it is EOPNOTSUPP."""
    tree.mkdir("other")
    thread = tree.spawn("d").thread()
    for path in ("other", ""):
        assert errno_of(tree.write, f"{path}/cgroup.threads".lstrip("/"), thread) == "EOPNOTSUPP"


def test_procs_of_a_threaded_subtree(tree: Machine) -> None:
    """The domain's cgroup.procs has all processes of the subtree; below it the file is EOPNOTSUPP to read."""
    process, other = tree.spawn("d"), tree.spawn("d")
    tree.write("d/x/cgroup.threads", process.pid)
    assert tree.pids("d/cgroup.procs") == {process.pid, other.pid}
    assert errno_of(tree.read, "d/x/cgroup.procs") == "EOPNOTSUPP"


def test_procs_can_be_written_from_anywhere_in_the_subtree(tree: Machine) -> None:
    """A PID in cgroup.procs of a threaded cgroup brings all threads of its process there."""
    process = tree.spawn("d")
    threads = {process.pid, process.thread()}
    tree.write("d/y/cgroup.procs", process.pid)
    assert tree.pids("d/y/cgroup.threads") == threads


def test_only_threaded_controllers(tree: Machine) -> None:
    """In a threaded subtree cpuset and pids (and cpu) can be enabled; memory and hugetlb are not on offer."""
    tree.enable("cpuset memory hugetlb pids")
    assert errno_of(tree.enable, "memory", "d") == "EOPNOTSUPP"
    tree.enable("cpuset pids", "d")
    assert set(tree.read("d/x/cgroup.controllers").split()) == {"cpuset", "pids"}


def test_memory_belongs_to_the_domain(tree: Machine) -> None:
    """What belongs to no thread, such as memory, is the domain's: memory.* is there and nowhere below."""
    tree.enable("memory")
    process = tree.spawn("d")
    tree.write("d/x/cgroup.threads", process.pid)
    process.grow(4 * MB)
    assert tree.number("d/memory.current") >= 4 * MB
    assert not {name for name in tree.listdir("d/x") if name.startswith("memory.") and name != "memory.pressure"}


def test_a_threaded_controller_counts_threads(tree: Machine) -> None:
    """A threaded controller in the subtree accounts for the threads in a cgroup and below."""
    tree.enable("pids")
    tree.enable("pids", "d")
    process = tree.spawn("d")
    thread = process.thread()
    tree.write("d/x/cgroup.threads", thread)
    assert [tree.number(f"{path}/pids.current") for path in ("d", "d/x", "d/y")] == [2, 1, 0]
