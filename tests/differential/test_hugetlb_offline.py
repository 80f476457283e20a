"""Memory that goes offline with huge pages of a pool on it, on a simulated machine and a real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cgroup_v2.conftest import BOTH
from tests.cgroup_v2.machine import MB, Linux, Machine, Process, Simulated, errno_of
from tests.differential.agent import Agent

pytestmark = pytest.mark.timeout(600)
HUGE = 2 * MB
BLOCK_FRAMES = 128 * MB >> 12
STATE = "/sys/devices/system/memory/memory{}/state"


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    agent = Agent(memory_mb=1024, cmdline="movablecore=384M")
    yield agent
    agent.close()


@pytest.fixture(params=BOTH)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """1 GB, of which 384 MB are in ZONE_MOVABLE."""
    if request.param == "simulated":
        made: Machine = Simulated(memory_mb=1024, cmdline="movablecore=384M")
    else:
        made = Linux(request.getfixturevalue("agent"))
    yield made
    for block in range(8):
        if made.read(STATE.format(block)) == "offline\n":
            made.write(STATE.format(block), "online_movable")
    made.close()


def pool(machine: Machine) -> tuple[int, int]:
    """Huge pages, and free ones."""
    directory = "/sys/kernel/mm/hugepages/hugepages-2048kB"
    return machine.number(f"{directory}/nr_hugepages"), machine.number(f"{directory}/free_hugepages")


def blocks_of(process: Process, pages: int) -> list[int]:
    """The memory block of each of its huge pages."""
    return [process.frame(number * HUGE) // BLOCK_FRAMES for number in range(pages)]


def test_pages_in_use_move_away(machine: Machine) -> None:
    """To new ones elsewhere, so the pool stays as large as it is."""
    machine.write("/proc/sys/vm/nr_hugepages", 90)
    process = machine.spawn()
    process.huge(90 * HUGE)
    assert pool(machine) == (90, 0)
    tried = sorted(set(blocks_of(process, 90)))
    gone = next(block for block in tried if not errno_of(machine.write, STATE.format(block), "offline"))
    assert gone not in blocks_of(process, 90)
    assert pool(machine) == (90, 0)
    process.again()
    process.release()
    assert pool(machine) == (90, 90)


def test_free_pages_leave_the_pool(machine: Machine) -> None:
    machine.write("/proc/sys/vm/nr_hugepages", 90)
    process = machine.spawn()
    process.huge(90 * HUGE)
    where = blocks_of(process, 90)
    process.release()
    assert pool(machine) == (90, 90)
    gone = next(block for block in sorted(set(where)) if not errno_of(machine.write, STATE.format(block), "offline"))
    assert pool(machine) == (90 - where.count(gone), 90 - where.count(gone))
