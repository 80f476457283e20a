"""Cpuset

Not modelled: hotplug of CPUs and nodes.

Not modelled: remote partitions; load balancing in and out of partitions; isolcpus=.
"""

from __future__ import annotations

import re

import pytest

from tests.cgroup_v2.machine import MB, Machine, errno_of


@pytest.fixture
def tree(machine_with_nodes: Machine) -> Machine:
    """`a`, `a/b` and `c` with the cpuset controller, on two CPUs and two nodes."""
    machine = machine_with_nodes
    machine.enable("cpuset")
    machine.mkdir("a")
    machine.enable("cpuset", "a")
    machine.mkdir("a/b")
    machine.mkdir("c")
    return machine


def allowed(tree: Machine, pid: int, what: str) -> str:
    rows = dict(line.split(":\t", 1) for line in tree.read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    return rows[f"{what}_allowed_list"]


def values(tree: Machine, path: str, *names: str) -> list[str]:
    return [tree.read(f"{path}/cpuset.{name}".lstrip("/")).strip() for name in names]


@pytest.mark.parametrize(("name", "what"), [("cpus", "Cpus"), ("mems", "Mems")])
def test_tasks_are_confined(tree: Machine, name: str, what: str) -> None:
    """Tasks use the CPUs and nodes of their cgroup only, those that are in it and those that come."""
    inside, comes = tree.spawn("a/b"), tree.spawn()
    tree.write(f"a/b/cpuset.{name}", 1)
    tree.write("a/b/cgroup.procs", comes.pid)
    assert [allowed(tree, process.pid, what) for process in (inside, comes)] == ["1", "1"]


@pytest.mark.parametrize("name", ["cpus", "mems"])
def test_hierarchical(tree: Machine, name: str) -> None:
    """A cgroup cannot use what its parent may not: it asks for it, and is granted what the parent has of it."""
    tree.write(f"a/cpuset.{name}", 0)
    tree.write(f"a/b/cpuset.{name}", "0-1")
    assert values(tree, "a/b", name, f"{name}.effective") == ["0-1", "0"]


@pytest.mark.parametrize("name", ["cpus", "mems"])
def test_lists(tree: Machine, name: str) -> None:
    """Numbers and ranges, split by commas; where nothing is asked for, the nearest above that does counts."""
    assert values(tree, "a", name, f"{name}.effective") == ["", "0-1"]
    for text, shown in (("0,1", "0-1"), ("1", "1"), ("0-1", "0-1")):
        tree.write(f"a/cpuset.{name}", text)
        assert values(tree, "a", name) == [shown]
    tree.write(f"a/cpuset.{name}", 1)
    assert values(tree, "a/b", name, f"{name}.effective") == ["", "1"]


@pytest.mark.parametrize("name", ["cpus", "mems"])
def test_effective_is_everywhere_and_read_only(tree: Machine, name: str) -> None:
    """The effective lists are in the root, too, and can only be read; the others are not in the root."""
    assert {f"cpuset.{name}.effective"} <= tree.listdir("") and f"cpuset.{name}" not in tree.listdir("")
    assert tree.mode(f"a/cpuset.{name}.effective") == 0o444


@pytest.mark.parametrize("name", ["cpus", "mems"])
def test_what_cannot_be_granted_is_as_nothing_asked_for(tree: Machine, name: str) -> None:
    """If none of what is asked for can be granted, the parent's are used."""
    tree.write(f"a/b/cpuset.{name}", 1)
    tree.write(f"a/cpuset.{name}", 0)
    assert values(tree, "a/b", name, f"{name}.effective") == ["1", "0"]


def test_memory_comes_from_the_nodes(tree: Machine) -> None:
    """Memory is allocated on the nodes of cpuset.mems; that is what it should be set for before tasks come."""
    tree.enable("memory")
    tree.write("c/cpuset.mems", 1)
    process = tree.spawn("c")
    process.grow(8 * MB)
    process.read("/data/f", 0, 8 * MB)
    rows = dict(line.split(" ", 1) for line in tree.read("c/memory.numa_stat").splitlines())
    for name in ("anon", "file", "pagetables", "kernel_stack"):
        nodes = dict(part.split("=") for part in rows[name].split())
        assert int(nodes["N0"]) < MB and (name not in ("anon", "file") or int(nodes["N1"]) > 7 * MB), name


def on_nodes(tree: Machine, pid: int) -> dict[str, int]:
    """Pages of a process's own on each node, but for single ones."""
    pages: dict[str, int] = {}
    for line in tree.read(f"/proc/{pid}/numa_maps").splitlines():
        for nid, count in re.findall(r" N(\d)=(\d+)", line if "anon=" in line else ""):
            pages[nid] = pages.get(nid, 0) + int(count)
    return {nid: count for nid, count in pages.items() if count > 64}


def test_pages_follow_when_mems_changes(tree: Machine) -> None:
    """Writing cpuset.mems moves the pages of the cgroup's tasks to the new nodes; so does coming from elsewhere."""
    tree.write("c/cpuset.mems", 0)
    process = tree.spawn("c")
    process.grow(4 * MB)
    assert set(on_nodes(tree, process.pid)) == {"0"}
    tree.write("c/cpuset.mems", 1)
    assert tree.eventually(lambda: set(on_nodes(tree, process.pid)) == {"1"})
    tree.write("a/cpuset.mems", 0)
    tree.write("a/b/cgroup.procs", process.pid)
    assert tree.eventually(lambda: set(on_nodes(tree, process.pid)) == {"0"})


def test_exclusive(tree: Machine) -> None:
    """Of siblings only one can have a CPU in cpuset.cpus.exclusive, and not if it is all that another one asks for."""
    tree.write("a/cpuset.cpus.exclusive", 1)
    assert errno_of(tree.write, "c/cpuset.cpus.exclusive", "0-1") == "EINVAL"
    tree.write("a/cpuset.cpus.exclusive", "\n")
    tree.write("c/cpuset.cpus", 1)
    assert errno_of(tree.write, "a/cpuset.cpus.exclusive", 1) == "EINVAL"
    tree.write("c/cpuset.cpus", "0-1")
    tree.write("a/cpuset.cpus.exclusive", 1)


def test_a_sibling_that_asks_for_a_partitions_cpus(tree: Machine) -> None:
    """Changes to cpuset.cpus can make a valid partition invalid; writing `root` again makes it valid when it can be."""
    tree.write("a/cpuset.cpus", 1)
    tree.write("a/cpuset.cpus.partition", "root")
    partition = tree.open("a/cpuset.cpus.partition")
    partition.read()
    tree.write("c/cpuset.cpus", 1)
    assert values(tree, "a", "cpus.partition") == ["root invalid"]
    assert partition.woken(), "and poll(2) is told"
    tree.write("c/cpuset.cpus", 0)
    assert values(tree, "a", "cpus.partition") == ["root invalid"]
    tree.write("a/cpuset.cpus.partition", "root")
    assert values(tree, "a", "cpus.partition") == ["root"]
    partition.close()


def test_exclusive_effective_is_within_the_parents(tree: Machine) -> None:
    """cpuset.cpus.exclusive.effective is part of cpus.exclusive and of the parent's, unless that is the root."""
    tree.write("a/cpuset.cpus", "0-1")
    tree.write("a/cpuset.cpus.exclusive", 1)
    tree.write("a/b/cpuset.cpus.exclusive", 1)
    assert values(tree, "a", "cpus.exclusive.effective") == values(tree, "a/b", "cpus.exclusive.effective") == ["1"]


def test_a_partition(tree: Machine) -> None:
    """`root` makes it a partition that has its CPUs for itself; `member`, as all are at first, ends it."""
    assert values(tree, "a", "cpus.partition") == ["member"]
    tree.write("a/cpuset.cpus", 1)
    tree.write("a/cpuset.cpus.partition", "root")
    assert values(tree, "a", "cpus.partition", "cpus.effective") == ["root", "1"]
    assert values(tree, "", "cpus.effective") == values(tree, "c", "cpus.effective") == ["0"]
    tree.write("a/cpuset.cpus.partition", "member")
    assert values(tree, "", "cpus.effective") == ["0-1"]
    assert errno_of(tree.write, "a/cpuset.cpus.partition", "other") == "EINVAL"


def test_an_isolated_partition(tree: Machine) -> None:
    """`isolated` is a partition whose CPUs cpuset.cpus.isolated of the root lists."""
    tree.write("a/cpuset.cpus", 1)
    tree.write("a/cpuset.cpus.partition", "isolated")
    assert values(tree, "", "cpus.isolated") == ["1"] and values(tree, "a", "cpus.partition") == ["isolated"]
    tree.write("a/cpuset.cpus.partition", "root")
    assert values(tree, "", "cpus.isolated") == [""]


def test_an_invalid_partition_says_why(tree: Machine) -> None:
    """A partition that cannot be is `root invalid` with the reason, and is used as a member."""
    tree.write("a/b/cpuset.cpus", 1)
    tree.write("a/b/cpuset.cpus.partition", "root")
    (text,) = values(tree, "a/b", "cpus.partition")
    assert text.startswith("root invalid (") and text.endswith(")")
    assert values(tree, "c", "cpus.effective") == ["0-1"]


def test_children_of_a_partition_that_ends(tree: Machine) -> None:
    """If a partition becomes a member, partitions below it become invalid; they recover when it is one again."""
    tree.write("a/cpuset.cpus", "0-1")
    tree.write("a/cpuset.cpus", 1)
    tree.write("a/cpuset.cpus.partition", "root")
    tree.write("a/b/cpuset.cpus", 1)
    tree.write("a/b/cpuset.cpus.partition", "root")
    assert values(tree, "a/b", "cpus.partition") == ["root"]
    tree.write("a/cpuset.cpus.partition", "member")
    assert values(tree, "a/b", "cpus.partition")[0].startswith("root invalid")
    tree.write("a/cpuset.cpus.partition", "root")
    assert values(tree, "a/b", "cpus.partition") == ["root"]
