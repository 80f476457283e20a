"""Huge pages that are swapped out, on a simulated machine and on a real 6.12: whole, or split where that cannot be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cgroup_v2.conftest import BOTH
from tests.cgroup_v2.machine import MB, PAGE, Machine, Process, errno_of
from tests.differential.agent import Agent
from tests.differential.swap_machine import MEMORY_MB, made_for, swap

pytestmark = pytest.mark.timeout(600)
"""Machines of less than 512 MB have no huge pages unless they are told to."""
NR = 512
SIZE = 64 * MB
STATS = "/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/stats/"
ROWS = ("thp_swpout", "thp_swpout_fallback", "thp_split_page", "thp_split_pmd", "pswpout", "pswpin")


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    agent = Agent(memory_mb=MEMORY_MB)
    yield agent
    agent.close()


@pytest.fixture(params=BOTH)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """1 GB with a cgroup `a`, and swap on a disk whose seeks take time."""
    made = made_for(request, seeks=True)
    yield made
    made.close()


def hog(machine: Machine) -> Process:
    """A process in `a` with huge pages."""
    process = machine.spawn("a")
    process.thp(True)
    process.grow(SIZE)
    assert machine.rows("a/memory.stat")["anon_thp"] >= SIZE - 2 * MB
    return process


def counts(machine: Machine) -> dict[str, int]:
    """What the machine, and what the size of huge pages counts."""
    rows = machine.rows("/proc/vmstat")
    found = {name: rows[name] for name in ROWS}
    return found | {name: machine.number(STATS + name) for name in ("swpout", "swpout_fallback", "split")}


def reclaimed(machine: Machine, size: int) -> dict[str, int]:
    """What has changed by having so much of `a` reclaimed."""
    before = counts(machine)
    errno_of(machine.write, "a/memory.reclaim", size)  # EAGAIN where not all that was asked for could go
    after = counts(machine)
    return {name: after[name] - before[name] for name in before}


def test_a_disk_that_seeks(machine: Machine) -> None:
    """It has no clusters: the pages are split, and each of these counts as a failure of the cgroup to swap."""
    hog(machine)
    got = reclaimed(machine, 16 * MB)
    assert got["thp_swpout"] == got["swpout"] == 0
    assert 8 <= got["thp_swpout_fallback"] == got["swpout_fallback"] == got["split"] == got["thp_split_page"] <= 10
    assert machine.rows("a/memory.swap.events")["fail"] == got["thp_swpout_fallback"]
    assert machine.rows("a/memory.stat")["thp_swpout_fallback"] == got["thp_swpout_fallback"]


def test_a_disk_that_does_not(machine: Machine) -> None:
    """Each gets a cluster and is written whole, its entries apart; back come single pages."""
    swap(machine, seeks=False)
    process = hog(machine)
    got = reclaimed(machine, 16 * MB)
    whole = got["thp_swpout"]
    assert 8 <= whole == got["swpout"] == got["thp_split_pmd"] <= 17  # 8 are freed, others are being written meanwhile
    assert got["thp_swpout_fallback"] == got["thp_split_page"] == got["split"] == 0
    assert 0 <= got["pswpout"] - whole * NR < 64
    assert machine.rows("a/memory.stat")["thp_swpout"] == whole
    assert machine.rows("a/memory.swap.events")["fail"] == 0
    before = counts(machine)["pswpin"]
    huge, swapped = machine.rows("a/memory.stat")["anon_thp"], machine.number("a/memory.swap.current")
    assert abs(swapped - whole * NR * PAGE) < 64 * PAGE
    process.again()
    read = counts(machine)["pswpin"] - before
    assert read % NR < 64 and read // NR >= 8  # the others are still in the swap cache
    assert machine.rows("a/memory.stat")["anon_thp"] == huge


def test_more_than_the_cgroup_may_swap(machine: Machine) -> None:
    """With less than 2 MB left to swap, one more page is refused, split, and half of its pages are refused too."""
    swap(machine, seeks=False)
    machine.write("a/memory.swap.max", 5 * MB)
    hog(machine)
    got = [reclaimed(machine, 4 * MB) for _ in range(2)]
    assert sum(one["thp_swpout"] for one in got) == 2
    assert sum(one["thp_swpout_fallback"] for one in got) == sum(one["thp_split_page"] for one in got) == 1
    assert machine.number("a/memory.swap.current") == 5 * MB
    events = machine.rows("a/memory.swap.events")
    assert events["max"] == events["fail"] == 1 + NR - 256


@pytest.mark.parametrize("generations", ["y", "n"])
def test_more_than_memory(machine: Machine, generations: str) -> None:
    """kswapd, or who grows, swaps out whole pages; what is read back then is single pages, and so new room is made."""
    machine.write("/sys/kernel/mm/lru_gen/enabled", generations)
    swap(machine, seeks=False)
    before = counts(machine)
    process = machine.spawn()
    process.thp(True)
    process.grow((MEMORY_MB + 56) * MB)
    grown = counts(machine)
    whole = grown["thp_swpout"] - before["thp_swpout"]
    assert 80 <= whole <= 150
    assert grown["thp_swpout_fallback"] - before["thp_swpout_fallback"] <= 2
    assert 0 <= grown["pswpout"] - before["pswpout"] - whole * NR < 4 * NR
    process.again()
    after = counts(machine)
    assert 250 <= after["thp_swpout"] - grown["thp_swpout"] <= 480
    read, written = after["pswpin"] - grown["pswpin"], after["pswpout"] - grown["pswpout"]
    assert 380 * NR < read < 570 * NR and abs(read - written) < 0.1 * read
