"""Memory that fails, on a simulated machine and a real one: pages of the swap cache, and shared memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mmfs.mm.mman import MADV_PAGEOUT
from tests.cgroup_v2.conftest import BOTH
from tests.cgroup_v2.machine import MB, PAGE, Dead, Linux, Machine, Process, Simulated
from tests.differential.agent import Agent

pytestmark = pytest.mark.timeout(600)
STATS = "/sys/devices/system/node/node0/memory_failure"
ROWS = ("HardwareCorrupted", "SwapCached", "AnonPages", "Shmem")
RESULTS = ("recovered", "delayed", "ignored", "failed")
Counts = dict[str, int]


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    """Its memory is worn out afterwards."""
    agent = Agent()
    yield agent
    agent.close()


@pytest.fixture(params=BOTH)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    made = Simulated() if request.param == "simulated" else Linux(request.getfixturevalue("agent"))
    yield made
    made.close()


def look(machine: Machine, process: Process) -> Counts:
    """What changes, in pages, and the results so far."""
    machine.write("/proc/sys/vm/stat_refresh", "1")
    meminfo = dict(line.split(":") for line in machine.read("/proc/meminfo").splitlines())
    status = dict(line.split(":", 1) for line in machine.read(f"/proc/{process.pid}/status").splitlines())
    counts = {row: int(meminfo[row].split()[0]) // 4 for row in ROWS}
    counts |= {row: int(status[row].split()[0]) // 4 for row in ("VmSwap", "RssAnon", "RssShmem")}
    return counts | {name: int(machine.read(f"{STATS}/{name}")) for name in RESULTS}


def fail(machine: Machine, process: Process, kind: str = "hard") -> Counts:
    """What changes as the memory of the process's third page fails."""
    before = look(machine, process)
    machine.write(f"/sys/devices/system/memory/{kind}_offline_page", f"{process.frame(2 * PAGE) * PAGE:#x}")
    after = look(machine, process)
    return {name: after[name] - before[name] for name in after if after[name] != before[name] and name != "AnonPages"}


def swapped_in(machine: Machine) -> Process:
    """A process with 256 pages that are mapped and in the swap cache, beside those of who was just killed."""
    process = machine.spawn()
    process.grow(MB)
    process.advise(MADV_PAGEOUT)
    machine.sleep(0.5)
    process.again()
    machine.sleep(0.5)
    counts = look(machine, process)
    assert counts["SwapCached"] and not counts["VmSwap"]
    return process


def test_clean_in_the_swap_cache(machine: Machine) -> None:
    process = swapped_in(machine)
    assert fail(machine, process) == {
        "HardwareCorrupted": 1, "SwapCached": -1, "VmSwap": 1, "RssAnon": -1, "recovered": 1,
    }  # fmt: skip
    process.again()
    assert look(machine, process)["VmSwap"] == 0
    process.kill()


@pytest.mark.parametrize("released", [False, True])
def test_dirty_in_the_swap_cache(machine: Machine, released: bool) -> None:
    process = swapped_in(machine)
    process.dirty()
    assert fail(machine, process) == {"HardwareCorrupted": 1, "VmSwap": 1, "RssAnon": -1, "delayed": 1}
    if released:
        process.release()
        assert look(machine, process)["VmSwap"] == 0
        process.kill()
        return
    with pytest.raises(Dead):
        process.again()


def test_soft_in_the_swap_cache(machine: Machine) -> None:
    process = swapped_in(machine)
    assert fail(machine, process, "soft") == {"HardwareCorrupted": 1}
    process.again()
    process.kill()


@pytest.mark.parametrize("swapped", [False, True])
def test_shared_memory(machine: Machine, swapped: bool) -> None:
    process = machine.spawn()
    process.share(MB)
    if swapped:
        process.advise(MADV_PAGEOUT)
        process.again()
        machine.sleep(0.5)
    assert fail(machine, process) == {"HardwareCorrupted": 1, "RssShmem": -1, "recovered": 1}
    with pytest.raises(Dead):
        process.again()


def test_shared_memory_that_is_released(machine: Machine) -> None:
    process = machine.spawn()
    process.share(MB)
    before = look(machine, process)["Shmem"]
    assert fail(machine, process) == {"HardwareCorrupted": 1, "RssShmem": -1, "recovered": 1}
    process.release()
    assert before - look(machine, process)["Shmem"] == 256
    process.kill()


def test_shared_memory_is_not_charged(machine: Machine) -> None:
    """A page of shared memory that is lost stays in its file, but its cgroup does not pay for it."""
    machine.enable("memory cpuset")
    machine.make("lost")
    machine.write("lost/cpuset.cpus", 0)  # each CPU charges some pages ahead
    process = machine.spawn("lost")
    process.share(MB)
    process.frame(2 * PAGE)
    current, shmem = machine.number("lost/memory.current"), machine.rows("lost/memory.stat")["shmem"]
    assert fail(machine, process)["HardwareCorrupted"] == 1
    assert machine.number("lost/memory.current") == current - PAGE
    assert machine.rows("lost/memory.stat")["shmem"] == shmem
    process.kill()
