"""Huge pages of a pool that move between two nodes, on a simulated machine and a real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mmfs.mm.mempolicy import MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, MPOL_MF_STRICT
from tests.cgroup_v2.conftest import BOTH
from tests.cgroup_v2.machine import MB, PAGE, Linux, Machine, Process, Simulated, errno_of
from tests.differential.agent import Agent

pytestmark = pytest.mark.timeout(600)
HUGE = 2 * MB
POOL = "/sys/devices/system/node/node{}/hugepages/hugepages-2048kB/"


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    agent = Agent(nr_nodes=2)
    yield agent
    agent.close()


@pytest.fixture(params=BOTH)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """512 MB with two CPUs, half on each of two nodes."""
    made = Simulated(nr_nodes=2) if request.param == "simulated" else Linux(request.getfixturevalue("agent"))
    yield made
    made.close()


def pools(machine: Machine) -> tuple[tuple[int, int], ...]:
    """(in the pool, free) on each node."""
    return tuple(
        (machine.number(POOL.format(node) + "nr_hugepages"), machine.number(POOL.format(node) + "free_hugepages"))
        for node in (0, 1)
    )


def holder(machine: Machine, here: int, there: int, pages: int = 2) -> Process:
    """A process with huge pages of node 0; so many are in the pool on each node."""
    machine.write(POOL.format(0) + "nr_hugepages", here)
    machine.write(POOL.format(1) + "nr_hugepages", there)
    assert pools(machine) == ((here, here), (there, there))
    process = machine.spawn()
    process.set_mempolicy("bind", 0)
    process.huge(pages * HUGE)
    process.set_mempolicy("default")
    assert pools(machine) == ((here, here - pages), (there, there))
    return process


def test_where_they_are(machine: Machine) -> None:
    process = holder(machine, 3, 1)
    assert [process.move_page(offset, None) for offset in (0, 5 * PAGE, HUGE)] == [0, 0, 0]


def test_a_free_page_of_the_other_node_is_taken(machine: Machine) -> None:
    process = holder(machine, 3, 1)
    before = machine.rows("/proc/vmstat")
    assert process.move_page(7 * PAGE, 1) == 1
    assert pools(machine) == ((3, 2), (1, 0))
    assert [process.move_page(offset, None) for offset in (0, HUGE - PAGE, HUGE)] == [1, 1, 0]
    after = machine.rows("/proc/vmstat")
    assert after["pgmigrate_success"] - before["pgmigrate_success"] == 512
    assert process.move_page(0, 1) == 1
    process.again()
    process.release()
    assert pools(machine) == ((3, 3), (1, 1))


def test_without_one_the_pool_moves(machine: Machine) -> None:
    """A new page comes from the buddy allocator there, and the old one goes back to it."""
    process = holder(machine, 2, 0)
    assert process.move_page(0, 1) == 1
    assert pools(machine) == ((1, 0), (1, 0))
    process.release()
    assert pools(machine) == ((1, 1), (1, 1))
    assert machine.number("/proc/sys/vm/nr_hugepages") == 2


def test_promised_pages_are_not_taken(machine: Machine) -> None:
    process = holder(machine, 2, 2)
    other = machine.spawn()
    other.reserve(2 * HUGE)
    assert process.move_page(0, 1) == 1
    assert pools(machine) == ((1, 0), (3, 2))
    other.exit()
    process.release()
    assert pools(machine) == ((1, 1), (3, 3))


def test_shared_ones_move_only_when_all_may(machine: Machine) -> None:
    process = holder(machine, 2, 2)
    child = process.fork()
    assert process.move_page(0, 1) == -13
    assert process.move_page(0, 1, MPOL_MF_MOVE_ALL) == 1
    assert child.move_page(0, None) == 1
    assert pools(machine) == ((2, 1), (2, 1))
    process.mbind("bind", (1,), MPOL_MF_MOVE | MPOL_MF_STRICT)
    assert [process.move_page(offset, None) for offset in (0, HUGE)] == [1, 0]
    process.mbind("bind", (1,), MPOL_MF_MOVE_ALL | MPOL_MF_STRICT)
    assert [process.move_page(offset, None) for offset in (0, HUGE)] == [1, 1]
    assert pools(machine) == ((2, 2), (2, 0))


def test_mbind(machine: Machine) -> None:
    process = holder(machine, 4, 3)
    assert errno_of(process.mbind, "bind", (1,), MPOL_MF_STRICT) == "EIO"
    process.mbind("bind", (1,), MPOL_MF_MOVE | MPOL_MF_STRICT)
    assert pools(machine) == ((4, 4), (3, 1))
    process.mbind("interleave", (0, 1), MPOL_MF_MOVE)  # they are where they may be
    assert pools(machine) == ((4, 4), (3, 1))
    process.mbind("prefer", (0,), MPOL_MF_MOVE | MPOL_MF_STRICT)
    assert pools(machine) == ((4, 2), (3, 3))
    assert process.move_page(0, None) == process.move_page(HUGE, None) == 0


def test_migrate_pages(machine: Machine) -> None:
    process = holder(machine, 3, 1, pages=3)
    assert process.migrate_pages(0, 1) == 0
    assert pools(machine) == ((1, 1), (3, 0))
    assert [process.move_page(offset, None) for offset in (0, HUGE, 2 * HUGE)] == [1, 1, 1]


def test_a_file_keeps_its_pages(machine: Machine) -> None:
    """Pages of a shared mapping belong to a file, which has them wherever they are."""
    machine.write(POOL.format(0) + "nr_hugepages", 2)
    machine.write(POOL.format(1) + "nr_hugepages", 1)
    process = machine.spawn()
    process.set_mempolicy("bind", 0)
    process.share_huge(2 * HUGE)
    assert process.move_page(HUGE, 1) == 1
    assert pools(machine) == ((2, 1), (1, 0))
    process.again()
    assert [process.move_page(offset, None) for offset in (0, HUGE)] == [0, 1]
    process.release()
    assert pools(machine) == ((2, 2), (1, 1))
