"""Pages of 1 GB, which no free list holds: taken while the machine runs, played on both machines, and at boot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import mmfs
from mmfs.kernel.kernel import Kernel
from tests.cgroup_v2.machine import MB, Linux, Machine, Simulated, errno_of
from tests.differential.agent import Agent

GIGANTIC = "/sys/kernel/mm/hugepages/hugepages-1048576kB"
LARGE = "/sys/kernel/mm/hugepages/hugepages-2048kB"


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    agent = Agent(memory_mb=4096)
    yield agent
    agent.close()


@pytest.fixture(params=["simulated", pytest.param("linux", marks=pytest.mark.differential)])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """4 GB, of which the range from 1 to 2 GB is all that is whole and not the kernel's."""
    simulated = request.param == "simulated"
    made = Simulated(memory_mb=4096) if simulated else Linux(request.getfixturevalue("agent"))
    yield made
    made.write(f"{GIGANTIC}/nr_hugepages", 0)
    made.close()


def meminfo(machine: Machine | Kernel, row: str) -> int:
    text = machine.read("/proc/meminfo")
    lines = (text if isinstance(text, str) else text.decode()).splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{row}:"))


def vmstat(machine: Machine, row: str) -> int:
    return machine.rows("/proc/vmstat")[row]


def test_they_come_and_go(machine: Machine) -> None:
    free = meminfo(machine, "MemFree")
    machine.write(f"{GIGANTIC}/nr_hugepages", 1)
    assert machine.number(f"{GIGANTIC}/free_hugepages") == 1
    assert free - meminfo(machine, "MemFree") == pytest.approx(1 << 20, rel=0.03)  # the CPUs' lists are emptied
    assert (meminfo(machine, "Hugetlb"), meminfo(machine, "HugePages_Total")) == (1 << 20, 0)
    machine.write(f"{GIGANTIC}/nr_hugepages", 4)
    assert machine.number(f"{GIGANTIC}/nr_hugepages") == 1, "there is no other range"
    assert vmstat(machine, "htlb_buddy_alloc_fail") == 0
    machine.write(f"{GIGANTIC}/demote", 1)
    assert [machine.number(f"{size}/nr_hugepages") for size in (GIGANTIC, LARGE)] == [0, 512]
    machine.write(f"{LARGE}/nr_hugepages", 0)
    assert meminfo(machine, "MemFree") >= free - 16 * 1024
    machine.write(f"{GIGANTIC}/nr_hugepages", 1)
    machine.write(f"{GIGANTIC}/nr_hugepages", 0)
    assert meminfo(machine, "Hugetlb") == 0 and meminfo(machine, "MemFree") >= free - 16 * 1024


def test_what_lies_there_moves_away() -> None:
    """A real 6.12 moved 454 of the 512 huge pages of the range. (The guest that plays the others has none.)"""
    machine = Simulated(memory_mb=4096)
    machine.write(f"{GIGANTIC}/nr_hugepages", 1)
    machine.write(f"{GIGANTIC}/nr_hugepages", 0)
    process = machine.spawn()
    process.grow(1800 * MB)
    huge = meminfo(machine, "AnonHugePages")
    machine.write(f"{GIGANTIC}/nr_hugepages", 1)
    assert machine.number(f"{GIGANTIC}/nr_hugepages") == 1
    moved = vmstat(machine, "thp_migration_success")
    assert moved == pytest.approx(454, rel=0.1) and vmstat(machine, "pgmigrate_success") == moved * 512
    assert vmstat(machine, "pgmigrate_fail") == vmstat(machine, "thp_migration_split") == 0
    assert meminfo(machine, "AnonHugePages") == huge


def test_clean_pages_of_files_are_dropped() -> None:
    """They are not worth being moved, and count as neither moved nor reclaimed, as in a real 6.12."""
    machine = Simulated(memory_mb=4096)
    machine.kernel.create_file("/data/large", "2400M")
    machine.spawn().read("/data/large", 0, 2400 * MB)
    cached = meminfo(machine, "Cached")
    machine.write(f"{GIGANTIC}/nr_hugepages", 1)
    assert machine.number(f"{GIGANTIC}/nr_hugepages") == 1
    assert 400 << 10 < cached - meminfo(machine, "Cached") <= 1 << 20
    assert vmstat(machine, "pgmigrate_success") == vmstat(machine, "pgsteal_file") == 0


def test_a_range_in_use_by_the_kernel_is_left_alone(machine: Machine) -> None:
    """There is none where memory is full of what cannot move."""
    process = machine.spawn()
    process.grow(1500 * MB)
    machine.write("/proc/sys/vm/nr_hugepages", 700)
    machine.write(f"{GIGANTIC}/nr_hugepages", 1)
    assert machine.number(f"{GIGANTIC}/nr_hugepages") == 0, "pages of pools do not move for it"
    process.kill()
    machine.write("/proc/sys/vm/nr_hugepages", 0)


def test_they_do_not_come_on_demand(machine: Machine) -> None:
    assert errno_of(machine.write, f"{GIGANTIC}/nr_overcommit_hugepages", 1) == "EINVAL"


def boot(cmdline: str) -> Kernel:
    return mmfs.boot(ram="4G", preset="bare", seed=1, cmdline=cmdline)


@pytest.mark.parametrize(
    ("cmdline", "default_kb", "gigantic", "large"),
    [
        ("hugepages=1 default_hugepagesz=1G", 1 << 20, 1, 0),
        ("default_hugepagesz=1G hugepages=1", 1 << 20, 1, 0),
        ("default_hugepagesz=3M hugepages=5", 2048, 0, 0),
        ("hugepages=9 hugepagesz=2M hugepages=7 hugepages=3 hugepagesz=1G hugepages=0:1", 2048, 1, 9),
        ("default_hugepagesz=1024M default_hugepagesz=2M hugepagesz=2M hugepages=3", 1 << 20, 0, 3),
    ],
)
def test_the_command_line(cmdline: str, default_kb: int, gigantic: int, large: int) -> None:
    """As a real 6.12 of 4 GB took the first four."""
    kernel = boot(cmdline)
    kernel.check()
    assert meminfo(kernel, "Hugepagesize") == default_kb
    assert meminfo(kernel, "HugePages_Total") == (gigantic if default_kb > 2048 else large)
    assert [int(kernel.read(f"{size}/nr_hugepages")) for size in (GIGANTIC, LARGE)] == [gigantic, large]


def test_what_the_default_size_is_for() -> None:
    """vm.nr_hugepages, and who does not say which pages it wants."""
    kernel = boot("default_hugepagesz=1G")
    kernel.write("/proc/sys/vm/nr_hugepages", "1")
    assert int(kernel.read(f"{GIGANTIC}/nr_hugepages")) == 1
    with pytest.raises(OSError, match="Invalid"):
        kernel.write("/proc/sys/vm/nr_overcommit_hugepages", "3")
    task = kernel.spawn("user")
    task.touch(task.mmap("1G", flags=0x40022), write=True)
    assert meminfo(kernel, "HugePages_Free") == 0
    kernel.check()
