"""Huge pages that move to another node, anonymous and shared, on a simulated machine and on a real 6.12."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mmfs.mm.mman import MADV_DONTNEED
from tests.cgroup_v2.conftest import BOTH
from tests.cgroup_v2.machine import KB, MB, Linux, Machine, Process, Simulated
from tests.differential.agent import Agent

pytestmark = pytest.mark.timeout(600)
MEMORY_MB = 1024
TOP = "/sys/kernel/mm/transparent_hugepage/"
ROWS = (
    "nr_anon_transparent_hugepages", "nr_shmem_hugepages", "nr_shmem_pmdmapped", "thp_split_page", "thp_split_pmd",
    "thp_migration_success", "thp_migration_split", "thp_migration_fail",
)  # fmt: skip


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    agent = Agent(nr_nodes=2, memory_mb=MEMORY_MB)
    yield agent
    agent.close()


@pytest.fixture(params=BOTH)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """1 GB, half on each of two nodes, with a cgroup `a` that has its memory from node 0."""
    simulated = request.param == "simulated"
    made: Machine = (
        Simulated(nr_nodes=2, memory_mb=MEMORY_MB) if simulated else Linux(request.getfixturevalue("agent"))
    )
    made.enable("memory cpuset")
    made.make("a")
    made.write("a/cpuset.cpus", 0)  # a huge page comes from the node of the CPU, or there is none
    made.write("a/cpuset.mems", 0)
    made.write(f"{TOP}shmem_enabled", "always")
    yield made
    made.write(f"{TOP}shmem_enabled", "never")
    made.close()


def moved(machine: Machine) -> dict[str, int]:
    """What changes as the cgroup gets its memory from node 1."""
    before = machine.rows("/proc/vmstat")
    machine.write("a/cpuset.mems", 1)
    machine.eventually(lambda: machine.rows("/proc/vmstat")["pgmigrate_success"] > before["pgmigrate_success"])
    machine.sleep(0.5)
    machine.write("/proc/sys/vm/stat_refresh", 1)
    after = machine.rows("/proc/vmstat")
    return {name: after[name] - before[name] for name in ROWS if after[name] != before[name]}


def filled(machine: Machine, *, shared: bool) -> Process:
    """A process that has touched 8 MB."""
    process = machine.spawn("a")
    process.thp(True)
    if shared:
        process.share(8 * MB)
    else:
        process.grow(8 * MB)
    return process


@pytest.mark.parametrize("shared", [False, True])
def test_whole(machine: Machine, shared: bool) -> None:
    """Each moves as one, and is mapped by its PMD entry there as here."""
    filled(machine, shared=shared)
    huge = machine.rows("/proc/vmstat")["nr_shmem_hugepages" if shared else "nr_anon_transparent_hugepages"]
    assert 3 <= huge <= 5
    assert moved(machine) == {"thp_migration_success": huge}
    rows = machine.read("a/memory.numa_stat").splitlines()
    near, far = next(line for line in rows if line.startswith("shmem " if shared else "anon ")).split()[1:]
    assert int(near.partition("=")[2]) == 0 and int(far.partition("=")[2]) >= 8 * MB


def test_shared_memory_mapped_by_entries(machine: Machine) -> None:
    """A huge page of shared memory of which a part was unmapped has no PMD entry, and moves whole."""
    process = filled(machine, shared=True)
    process.advise_part(MADV_DONTNEED, 4 * MB + 64 * KB, 64 * KB)
    process.again()
    got = moved(machine)
    assert got.get("thp_split_page", 0) == got.get("thp_migration_split", 0) == 0
    assert 3 <= got["thp_migration_success"] <= 5
    process.again()


def test_anonymous_memory_mapped_by_entries(machine: Machine) -> None:
    """One of which entries map single frames, all of them, moves whole, too."""
    process = filled(machine, shared=False)
    process.lock(4 * MB, 64 * KB)
    process.unlock(4 * MB, 64 * KB)
    got = moved(machine)
    assert got.get("thp_split_page", 0) == got.get("thp_migration_split", 0) == 0
    assert 3 <= got["thp_migration_success"] <= 5
    process.again()


@pytest.mark.parametrize("defrag", ["madvise", "always"])
def test_another_node_than_the_cpus(machine: Machine, defrag: str) -> None:
    """A node that the CPU is not of has none for a fault that does not try hard, be it the only one allowed."""
    machine.write("a/cpuset.mems", 1)
    machine.write(f"{TOP}defrag", defrag)
    before = machine.rows("/proc/vmstat")
    filled(machine, shared=False)
    after = machine.rows("/proc/vmstat")
    machine.write(f"{TOP}defrag", "madvise")
    got, missed = (after[name] - before[name] for name in ("thp_fault_alloc", "thp_fault_fallback"))
    assert 3 <= (got if defrag == "always" else missed) <= 5
    assert (missed if defrag == "always" else got) == 0
    rows = machine.read("a/memory.numa_stat").splitlines()
    near, far = next(line for line in rows if line.startswith("anon ")).split()[1:]
    assert int(near.partition("=")[2]) == 0 and int(far.partition("=")[2]) >= 8 * MB
