"""NUMA balancing on a machine of two nodes, simulated and real: the counts of memory that follows a task."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cgroup_v2.conftest import BOTH
from tests.cgroup_v2.machine import MB, PAGE, Linux, Machine, Process, Simulated, errno_of
from tests.differential.agent import Agent

pytestmark = pytest.mark.timeout(600)
MODE = "/proc/sys/kernel/numa_balancing"
SIZE = 16 * MB
SLACK = 64
"""Pages of the program beside, its stack and the like."""


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


def test_mode(machine: Machine) -> None:
    assert machine.read(MODE) == "1\n" and machine.mode(MODE) == 0o644
    for odd in ("5", "-1", "x", ""):
        assert errno_of(machine.write, MODE, odd) in ("EINVAL", ""), odd
    assert machine.read(MODE) == "1\n"
    assert machine.read(MODE + "_promote_rate_limit_MBps") == "65536\n"


def busy(machine: Machine, process: Process, until: int) -> int:
    """Have the process look at its memory until so many pages have moved; how many have."""
    moved = 0
    for _ in range(2000):
        for _ in range(200):
            process.again()
        moved = machine.rows("a/memory.stat")["numa_pages_migrated"]
        if moved >= until:
            break
    return moved


def test_memory_follows_its_task(machine: Machine) -> None:
    """A process on node 0 with all of its memory on node 1: each page is marked, faults and moves, once."""
    machine.enable("memory cpuset")
    machine.make("a")
    machine.write("a/cpuset.mems", 1)
    machine.write("a/cpuset.cpus", 0)
    process = machine.spawn("a")
    process.grow(SIZE)
    machine.write("a/cpuset.mems", "0-1")
    before = machine.rows("/proc/vmstat")
    moved = busy(machine, process, SIZE // PAGE)
    assert 0 <= moved - SIZE // PAGE < SLACK
    after, rows = machine.rows("/proc/vmstat"), machine.rows("a/memory.stat")
    for name in ("numa_pte_updates", "numa_hint_faults", "numa_pages_migrated"):
        assert 0 <= rows[name] - SIZE // PAGE < SLACK, name
        assert 0 <= after[name] - before[name] - rows[name] < 2 * SLACK, name
    assert after["numa_huge_pte_updates"] == before["numa_huge_pte_updates"]
    anon = next(line for line in machine.read("a/memory.numa_stat").splitlines() if line.startswith("anon "))
    near, far = (int(part.partition("=")[2]) for part in anon.split()[1:])
    assert near >= SIZE and far < SLACK * PAGE
