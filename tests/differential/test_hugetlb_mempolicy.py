"""Where nr_hugepages_mempolicy has huge pages come and go, on a machine of two nodes, simulated and real."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cgroup_v2.conftest import BOTH
from tests.cgroup_v2.machine import Linux, Machine, Simulated
from tests.differential.agent import Agent

pytestmark = pytest.mark.timeout(600)
SYSCTL = "/proc/sys/vm/nr_hugepages_mempolicy"
POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"


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


def by_node(machine: Machine) -> tuple[int, int]:
    """The pages of the pool on each node."""
    path = "/sys/devices/system/node/node{}/hugepages/hugepages-2048kB/nr_hugepages"
    return machine.number(path.format(0)), machine.number(path.format(1))


@pytest.mark.parametrize("path", [SYSCTL, f"{POOL}/nr_hugepages_mempolicy"])
def test_the_writers_policy_decides(machine: Machine, path: str) -> None:
    """Each write comes from a process with a policy; the node is that of the policy, nobody's policy allows all."""
    process = machine.spawn()
    steps: list[tuple[str, tuple[int, ...], int, tuple[int, int]]] = [
        ("bind", (1,), 6, (0, 6)),
        ("bind", (0,), 8, (2, 6)),
        ("prefer", (1,), 5, (2, 3)),
        ("interleave", (0, 1), 9, (4, 5)),
        ("prefer (many)", (0,), 10, (5, 5)),
        ("bind", (0,), 3, (0, 5)),  # there are no more on node 0
    ]
    for mode, nodes, pages, wanted in steps:
        process.set_mempolicy(mode, *nodes)
        process.write(path, str(pages))
        assert by_node(machine) == wanted, (mode, nodes, pages)
    assert machine.number(path) == machine.number(f"{POOL}/nr_hugepages") == 5
    process.write(f"{POOL}/nr_hugepages", "0")  # which looks at no policy
    assert by_node(machine) == (0, 0)


def test_without_a_policy_all_nodes_take_turns(machine: Machine) -> None:
    process = machine.spawn()
    process.write(SYSCTL, "6")
    assert by_node(machine) == (3, 3)
    machine.write(SYSCTL, 2)
    assert by_node(machine) == (1, 1)
    machine.write(SYSCTL, 0)
