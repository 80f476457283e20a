"""HugeTLB"""

from __future__ import annotations

import pytest

from tests.cgroup_v2.machine import MB, Dead, Machine

HUGE = 2 * MB


@pytest.fixture
def tree(machine: Machine) -> Machine:
    """`a` and `a/b` with the hugetlb controller, and a pool of eight huge pages."""
    machine.write("/proc/sys/vm/nr_hugepages", 8)
    machine.enable("hugetlb")
    machine.mkdir("a")
    machine.enable("hugetlb", "a")
    machine.mkdir("a/b")
    return machine


def test_current(tree: Machine) -> None:
    """hugetlb.SIZE.current is what is used, here and below; it is in all but the root."""
    tree.spawn("a/b").huge(2 * HUGE)
    assert tree.number("a/hugetlb.2MB.current") == tree.number("a/b/hugetlb.2MB.current") == 2 * HUGE
    assert not {name for name in tree.listdir("") if name.startswith("hugetlb.")}


def test_the_limit_is_enforced_by_the_fault(tree: Machine) -> None:
    """hugetlb.SIZE.max limits it, at the page fault: SIGBUS, though the pool has pages; it is `max` at first."""
    assert tree.read("a/hugetlb.2MB.max") == "max\n"
    tree.write("a/hugetlb.2MB.max", 2 * HUGE)
    tree.spawn("a/b").huge(2 * HUGE)
    with pytest.raises(Dead):
        tree.spawn("a/b").huge(HUGE)


def test_events(tree: Machine) -> None:
    """`max` of hugetlb.SIZE.events counts allocations that the limit refused; .local without those below."""
    tree.write("a/b/hugetlb.2MB.max", 0)
    with pytest.raises(Dead):
        tree.spawn("a/b").huge(HUGE)
    names = ("a/hugetlb.2MB.events", "a/b/hugetlb.2MB.events", "a/hugetlb.2MB.events.local")
    assert [tree.rows(name)["max"] for name in names] == [1, 1, 0]
    assert tree.rows("a/b/hugetlb.2MB.events.local")["max"] == 1


def test_numa_stat(tree: Machine) -> None:
    """hugetlb.SIZE.numa_stat has the pages in use by node, in bytes."""
    tree.spawn("a/b").huge(3 * HUGE)
    assert tree.read("a/hugetlb.2MB.numa_stat") == f"total={3 * HUGE} N0={3 * HUGE}\n"
