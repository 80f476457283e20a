"""A machine with a slow node, simulated and real: its tiers, and what reclaim demotes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cgroup_v2.conftest import BOTH
from tests.cgroup_v2.machine import MB, PAGE, Linux, Machine, Process, Simulated, errno_of
from tests.differential.agent import Agent

pytestmark = pytest.mark.timeout(600)
TIERING, ENABLED = "/sys/devices/virtual/memory_tiering", "/sys/kernel/mm/numa/demotion_enabled"
NODES = "/sys/devices/system/node"
SLACK = 4 * MB
"""What else a cgroup has: the program itself, page tables, pages in batches."""


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    agent = Agent(slow=True)
    yield agent
    agent.close()


@pytest.fixture(params=BOTH)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """320 MB with two CPUs, and a node of 192 MB that is slow."""
    made = Simulated(slow=True) if request.param == "simulated" else Linux(request.getfixturevalue("agent"))
    yield made
    made.write(ENABLED, "0")
    made.write("/sys/kernel/mm/lru_gen/enabled", "y")
    made.close()


def test_tiers(machine: Machine) -> None:
    assert machine.listdir(TIERING) == {"memory_tier4", "memory_tier90", "power", "uevent"}
    assert machine.listdir("/sys/bus/memory_tiering/devices") == {"memory_tier4", "memory_tier90"}
    assert [machine.read(f"{TIERING}/memory_tier{number}/nodelist") for number in (4, 90)] == ["0\n", "1\n"]
    assert machine.listdir(f"{TIERING}/memory_tier90") == {"nodelist", "power", "subsystem", "uevent"}
    assert machine.mode(f"{TIERING}/memory_tier4/nodelist") == 0o444


def test_access_classes(machine: Machine) -> None:
    for number in (0, 1):
        access = f"{NODES}/node1/access{number}"
        assert machine.listdir(access) == {"initiators", "power", "targets", "uevent"}
        assert machine.listdir(f"{access}/targets") == set()
        assert machine.listdir(f"{NODES}/node0/access{number}/targets") == {"node0", "node1"}
        assert machine.listdir(f"{access}/initiators") == {
            "node0", "read_bandwidth", "read_latency", "write_bandwidth", "write_latency",
        }  # fmt: skip
        assert machine.read(f"{access}/initiators/read_latency") == "40\n"
        assert machine.read(f"{access}/initiators/write_bandwidth") == "2048\n"
        assert machine.read(f"{access}/initiators/node0/distance") == "10 40\n"
        assert machine.read(f"{NODES}/node0/access{number}/targets/node1/distance") == "40 10\n"
        assert machine.listdir(f"{access}/power") == {
            "async", "runtime_active_kids", "runtime_enabled", "runtime_status", "runtime_usage",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("1", "true"), ("n", "false"), ("on", "true"), ("off", "false"), ("true", "true"), ("oN\n", "true")],
)
def test_demotion_enabled(machine: Machine, text: str, wanted: str) -> None:
    machine.write(ENABLED, text)
    assert machine.read(ENABLED) == f"{wanted}\n"
    for odd in ("", " 1", "2", "xyz", "-1"):
        assert odd == "" or errno_of(machine.write, ENABLED, odd) == "EINVAL", odd
    assert machine.read(ENABLED) == f"{wanted}\n"
    assert machine.mode(ENABLED) == 0o644


def on_nodes(machine: Machine, path: str, name: str) -> list[int]:
    """A row of memory.numa_stat by node."""
    row = next(line for line in machine.read(path).splitlines() if line.split()[0] == name)
    return [int(part.partition("=")[2]) for part in row.split()[1:]]


def demoted(machine: Machine) -> dict[str, int]:
    """What was demoted by then, by whom, of node 0, which agrees with all of it."""
    node, other = machine.rows(f"{NODES}/node0/vmstat"), machine.rows(f"{NODES}/node1/vmstat")
    rows = {name: value for name, value in node.items() if name.startswith("pgdemote_")}
    assert not any(value for name, value in other.items() if name.startswith("pgdemote_"))
    return rows


@pytest.fixture
def held(machine: Machine) -> Machine:
    """80 MB on node 0, in a cgroup that may use nothing else."""
    machine.enable("memory cpuset")
    machine.make("a")
    machine.write("a/cpuset.mems", 0)
    machine.spawn("a").grow(80 * MB)
    machine.write(ENABLED, "1")
    return machine


@pytest.mark.parametrize("generations", ["y", "n"])
def test_proactive_reclaim_demotes(held: Machine, generations: str) -> None:
    """Whatever cpuset.mems says; nothing is uncharged, and what may not be swapped can be reclaimed so."""
    held.write("/sys/kernel/mm/lru_gen/enabled", generations)
    held.write("a/memory.swap.max", 0)
    before, swapped = demoted(held), held.rows("/proc/vmstat")["pswpout"]
    held.rows("a/memory.stat")  # which brings the counts up to date by which a real kernel decides what to scan
    held.write("a/memory.reclaim", "24M")
    far = on_nodes(held, "a/memory.numa_stat", "anon")[1]
    assert 24 * MB - SLACK < far < 24 * MB + SLACK
    after = demoted(held)
    moved = after["pgdemote_direct"] - before["pgdemote_direct"]
    assert 24 * MB - SLACK < moved * PAGE < 24 * MB + SLACK
    assert after["pgdemote_kswapd"] == before["pgdemote_kswapd"]
    assert held.rows("/proc/vmstat")["pswpout"] == swapped
    rows = held.rows("a/memory.stat")
    assert rows["anon"] >= 80 * MB
    assert rows["pgdemote_direct"] == moved == on_nodes(held, "a/memory.numa_stat", "pgdemote_direct")[0]
    assert rows["pgsteal"] >= moved


def test_the_lowest_tier_swaps(held: Machine) -> None:
    """What has been demoted may be swapped out there."""
    for _ in range(2):
        held.write("a/memory.reclaim", "24M")
    near, far = on_nodes(held, "a/memory.numa_stat", "anon")
    swapped = held.number("a/memory.swap.current")
    assert 80 * MB - SLACK < near + far + swapped < 80 * MB + SLACK
    assert 8 * MB < swapped < 13 * MB
    assert 26 * MB < far < 33 * MB


def test_reclaim_swaps_without_demotion(held: Machine) -> None:
    held.write(ENABLED, "0")
    held.write("a/memory.reclaim", "24M")
    assert on_nodes(held, "a/memory.numa_stat", "anon")[1] == 0
    assert held.number("a/memory.swap.current") > 24 * MB - SLACK
    assert held.rows("a/memory.stat")["pgdemote_direct"] == 0


def test_limit_is_not_reached_by_demotion(held: Machine) -> None:
    """What is demoted stays charged: a limit below what is used is met by swap all the same."""
    held.write("a/memory.max", 50 * MB)
    assert held.number("a/memory.current") <= 50 * MB
    assert held.number("a/memory.swap.current") > 30 * MB - SLACK


def test_kswapd_demotes(machine: Machine) -> None:
    """A program that may only use node 0 takes more than it has."""
    machine.enable("memory cpuset")
    machine.make("a")
    machine.write("a/cpuset.mems", 0)
    machine.write(ENABLED, "1")
    before, swapped = demoted(machine), machine.rows("/proc/vmstat")["pswpout"]
    machine.spawn("a").grow(350 * MB)
    after = demoted(machine)
    assert after["pgdemote_kswapd"] + after["pgdemote_direct"] > sum(before.values()) + 40 * MB // PAGE
    assert after["pgdemote_kswapd"] > before["pgdemote_kswapd"]
    assert on_nodes(machine, "a/memory.numa_stat", "anon")[1] > 30 * MB
    assert machine.rows("/proc/vmstat")["pswpout"] - swapped < after["pgdemote_kswapd"] + after["pgdemote_direct"]


BALANCING = "/proc/sys/kernel/numa_balancing"
PROMOTED = 16 * MB


@pytest.fixture
def slow(machine: Machine) -> Iterator[tuple[Machine, Process]]:
    """A process on a CPU of node 0 that has its memory on the slow node and may use both; only tiering is on."""
    machine.enable("memory cpuset")
    machine.make("a")
    machine.write("a/cpuset.mems", 1)
    process = machine.spawn("a")
    process.grow(PROMOTED)
    machine.write("a/cpuset.mems", "0-1")
    machine.write(BALANCING, 2)
    yield machine, process
    machine.write(BALANCING, 1)


def promotions(machine: Machine) -> dict[str, int]:
    """What was promoted to node 0 by then, and what hinting faults there were."""
    rows = machine.rows("/proc/vmstat")
    node = machine.rows(f"{NODES}/node0/vmstat")
    assert node["pgpromote_success"] == rows["pgpromote_success"]
    names = ("pgpromote_success", "pgpromote_candidate", "numa_pages_migrated", "numa_hint_faults", "numa_pte_updates")
    return {name: rows[name] for name in names}


def test_hot_memory_is_promoted(slow: tuple[Machine, Process]) -> None:
    """Each page is marked, is accessed soon after, is a candidate and moves; what is on the fast node is left alone."""
    machine, process = slow
    before = promotions(machine)
    for _ in range(2000):
        for _ in range(200):
            process.again()
        if machine.rows("a/memory.stat")["pgpromote_success"] >= PROMOTED // PAGE:
            break
    after = promotions(machine)
    grown = {name: after[name] - before[name] for name in after}
    pages, slack = PROMOTED // PAGE, SLACK // PAGE
    for name, value in grown.items():
        assert pages <= value < pages + slack, name
    near, far = on_nodes(machine, "a/memory.numa_stat", "anon")
    assert near >= PROMOTED and far < SLACK
    for _ in range(400):
        process.again()
    assert promotions(machine)["pgpromote_success"] - after["pgpromote_success"] < slack
