"""Huge pages of shared memory, on a simulated machine and on a real 6.12: who gets some, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mmfs.mm.mman import MADV_HUGEPAGE, MADV_NOHUGEPAGE
from tests.cgroup_v2.conftest import BOTH
from tests.cgroup_v2.machine import MB, PAGE, Machine, Process, errno_of
from tests.differential.agent import Agent
from tests.differential.swap_machine import MEMORY_MB, made_for

pytestmark = pytest.mark.timeout(600)
NR = 512
THP = "/sys/kernel/mm/transparent_hugepage/"
STATS = f"{THP}hugepages-2048kB/stats/"
FILE = "/dev/shm/f"
EVENTS = (
    "thp_file_alloc", "thp_file_fallback", "thp_file_fallback_charge", "thp_file_mapped", "thp_split_page",
    "thp_split_pmd", "thp_collapse_alloc", "thp_swpout",
)  # fmt: skip
NAMES = ("alloc", "fallback", "charge", "mapped", "split", "pmds", "collapsed", "swapped")


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    agent = Agent(memory_mb=MEMORY_MB)
    yield agent
    agent.close()


@pytest.fixture(params=BOTH)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """1 GB with a cgroup `a`, swap on a disk whose seeks take no time, and a khugepaged that rests."""
    made = made_for(request, seeks=False)
    enabled = made.read(f"{THP}enabled").split("[")[1].split("]")[0]
    made.write(f"{THP}enabled", "never")
    yield made
    made.write(f"{THP}enabled", enabled)
    made.write(f"{THP}shmem_enabled", "never")
    made.write(f"{THP}hugepages-2048kB/shmem_enabled", "inherit")
    made.tmpfs("huge=never")
    errno_of(made.unlink, FILE)
    made.close()


class Counts:
    """What has been counted since the last call, and what there is."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.before = machine.rows("/proc/vmstat")

    def __call__(self) -> dict[str, int]:
        """The events that have grown, and the huge pages of shared memory that there are (all, mapped whole)."""
        rows = self.machine.rows("/proc/vmstat")
        found = {new: rows[name] - self.before[name] for new, name in zip(NAMES, EVENTS, strict=True)}
        self.before = rows
        found |= {"huge": rows["nr_shmem_hugepages"], "whole": rows["nr_shmem_pmdmapped"]}
        return {name: n for name, n in found.items() if n}


def shmem(machine: Machine) -> int:
    """The pages of shared memory of the cgroup."""
    return machine.rows("a/memory.stat")["shmem"] // PAGE


def stats(machine: Machine) -> tuple[int, ...]:
    """What the size of huge pages counts: brought, not to be had, above a limit."""
    return tuple(machine.number(STATS + name) for name in ("shmem_alloc", "shmem_fallback", "shmem_fallback_charge"))


def smaps(machine: Machine, process: Process, path: str = FILE) -> dict[str, int]:
    """The rows of the mapping of a file that was made last, in kB."""
    text = machine.read(f"/proc/{process.pid}/smaps").split(path, 1)[1].split("VmFlags", 1)[0]
    rows = (line.split() for line in text.splitlines() if line)
    return {row[0].rstrip(":"): int(row[1]) for row in rows}


def mapper(machine: Machine, size: int = 8 * MB) -> Process:
    """A process of the cgroup that may have huge pages and maps the file."""
    process = machine.spawn("a")
    process.thp(True)
    process.map(FILE, size)
    return process


def mapped(machine: Machine, counts: Counts) -> Process:
    """The same with a file of 8 MB in huge pages, all of it used."""
    machine.tmpfs("huge=always")
    machine.spawn("a").fill(FILE, 8 * MB)
    assert counts() == {"alloc": 4, "huge": 4}
    process = mapper(machine)
    process.dirty()
    assert counts() == {"mapped": 4, "huge": 4, "whole": 4}
    return process


@pytest.mark.parametrize("huge", ["always", "within_size", "advise", "never"])
def test_writing(machine: Machine, huge: str) -> None:
    """8.5 MB in parts of 128 KB: only `always` brings huge pages, one of them for half a MB."""
    machine.tmpfs(f"huge={huge}")
    shown = "" if huge == "never" else f",huge={huge}"
    assert f" /dev/shm tmpfs rw,relatime,inode64{shown} 0 0\n" in machine.read("/proc/mounts")
    counts, before = Counts(machine), stats(machine)
    machine.spawn("a").fill(FILE, 8 * MB + MB // 2)
    nr = 5 if huge == "always" else 0
    assert counts() == ({"alloc": nr, "huge": nr} if nr else {})
    assert [new - old for new, old in zip(stats(machine), before, strict=True)] == [nr, 0, 0]
    rows = machine.rows("a/memory.stat")
    assert rows["shmem_thp"] == nr * 2 * MB
    assert rows["file"] == rows["shmem"] == (nr * 2 * MB or 8 * MB + MB // 2)
    assert f"ShmemHugePages: {nr * 2048:8d} kB\nShmemPmdMapped:        0 kB\n" in machine.read("/proc/meminfo")


@pytest.mark.parametrize("huge", ["always", "within_size", "advise", "never"])
def test_mapping(machine: Machine, huge: str) -> None:
    """7 MB of a file are mapped and written: three huge pages, and single ones for what is left of the mapping."""
    machine.tmpfs(f"huge={huge}")
    machine.spawn("a").fill(FILE, 4096)
    machine.cut(FILE, 0)
    machine.cut(FILE, 7 * MB)
    counts = Counts(machine)
    process = mapper(machine, 7 * MB)
    process.dirty()
    whole = {"huge": 3, "whole": 3} if huge in ("always", "within_size") else {}
    assert counts() == ({"alloc": 3, "mapped": 3} if whole else {}) | whole
    rows = smaps(machine, process)
    assert rows["Rss"] == rows["Pss"] == rows["Private_Dirty"] == rows["Referenced"] == 7168
    assert rows["ShmemPmdMapped"] == (6144 if whole else 0) and rows["THPeligible"] == bool(whole)
    stat = machine.rows("a/memory.stat")
    assert stat["shmem"] == stat["file_mapped"] == 7 * MB and stat["shmem_thp"] == (6 * MB if whole else 0)
    process.fork().again()
    assert counts() == ({"mapped": 3} if whole else {}) | whole


def test_advice(machine: Machine) -> None:
    """`advise` listens to madvise()."""
    machine.tmpfs("huge=advise")
    machine.spawn("a").fill(FILE, 8 * MB)
    machine.cut(FILE, 0)
    machine.cut(FILE, 8 * MB)
    counts = Counts(machine)
    process = mapper(machine)
    process.advise(MADV_HUGEPAGE)
    process.again()
    assert counts() == {"alloc": 4, "mapped": 4, "huge": 4, "whole": 4}
    process.advise(MADV_NOHUGEPAGE)
    process.dirty()
    assert counts() == {"huge": 4, "whole": 4}
    assert smaps(machine, process)["THPeligible"] == 0


def test_life(machine: Machine) -> None:
    """A part that is unmapped takes the entry of all; a hole, or an end within a huge page, splits it."""
    counts = Counts(machine)
    process = mapped(machine, counts)
    process.cancel(4096, 4096)
    assert counts() == {"pmds": 1, "huge": 4, "whole": 3}
    process.release()
    assert counts() == {"huge": 4}
    process.map(FILE, 8 * MB)
    process.again()
    assert counts() == {"mapped": 4, "huge": 4, "whole": 4}
    process.drain(0, 4096)
    assert counts() == {"split": 1, "pmds": 1, "huge": 3, "whole": 3} and shmem(machine) == 2047
    process.drain(2 * MB, 2 * MB)
    assert counts() == {"huge": 2, "whole": 2} and shmem(machine) == 1535
    machine.cut(FILE, 5 * MB)
    assert counts() == {"split": 1, "pmds": 1} and shmem(machine) == 767
    machine.cut(FILE, 0)
    assert counts() == {} and shmem(machine) == 0


@pytest.mark.parametrize(
    ("enabled", "size", "nr"),
    [
        ("always", "inherit", 2), ("never", "always", 2), ("force", "inherit", 2), ("deny", "always", 0),
        ("within_size", "inherit", 2), ("never", "within_size", 2), ("advise", "inherit", 0), ("never", "inherit", 0),
    ],
)  # fmt: skip
def test_shared_anonymous(machine: Machine, enabled: str, size: str, nr: int) -> None:
    """5 MB: two huge pages, whose addresses are aligned for them, and what is left."""
    machine.write(f"{THP}hugepages-2048kB/shmem_enabled", size)
    machine.write(f"{THP}shmem_enabled", enabled)
    counts = Counts(machine)
    process = machine.spawn("a")
    process.thp(True)
    process.share(5 * MB)
    assert counts() == ({"alloc": nr, "mapped": nr, "huge": nr, "whole": nr} if nr else {})
    assert shmem(machine) == 5 * MB // PAGE
    process.kill()
    assert counts() == {}


def test_reclaim(machine: Machine) -> None:
    """They go to swap whole; what is still in the swap cache comes back whole, what is read as single pages."""
    counts = Counts(machine)
    process = mapped(machine, counts)
    before = machine.rows("/proc/vmstat")
    assert errno_of(machine.write, "a/memory.reclaim", 4 * MB) in ("", "EAGAIN")  # while they are being written
    machine.sleep(0.3)
    got = counts()
    nr = got["swapped"]
    assert got == {"pmds": nr, "swapped": nr} | ({"huge": 4 - nr, "whole": 4 - nr} if nr < 4 else {}) and nr >= 2
    assert machine.rows("/proc/vmstat")["pswpout"] - before["pswpout"] == nr * NR
    assert machine.number("a/memory.swap.current") == nr * 2 * MB
    errno_of(machine.write, "a/memory.reclaim", 2 * MB)
    machine.sleep(0.3)
    process.again()
    read = machine.rows("/proc/vmstat")["pswpin"] - before["pswpin"]
    assert read % NR == 0 and read >= NR
    assert shmem(machine) == 8 * MB // PAGE and machine.number("a/memory.swap.current") == 0
    assert machine.rows("a/memory.stat")["shmem_thp"] == 8 * MB - read * PAGE


def test_limit(machine: Machine) -> None:
    """What is above the limit is no huge page: single ones are brought, for which others are swapped out."""
    machine.tmpfs("huge=always")
    machine.write("a/memory.max", 16 * MB)
    counts, before = Counts(machine), stats(machine)
    machine.spawn("a").fill(FILE, 40 * MB)
    got = counts()
    assert 7 <= got["alloc"] <= 12 and got["alloc"] + got["fallback"] == 20
    assert got["charge"] == got["fallback"] and got["swapped"] >= 5
    grown = [new - old for new, old in zip(stats(machine), before, strict=True)]
    assert grown == [got["alloc"], got["fallback"], got["fallback"]]


def test_collapse(machine: Machine) -> None:
    """madvise(MADV_COLLAPSE) asks no switch; who calls it has huge pages at once, others when they use them."""
    machine.spawn("a").fill(FILE, 8 * MB)
    machine.tmpfs("huge=always")  # for addresses that are aligned
    process, other = mapper(machine), mapper(machine)
    machine.tmpfs("huge=never")
    counts = Counts(machine)
    process.again()
    other.again()
    assert counts() == {}
    process.collapse()
    assert counts() == {"mapped": 4, "collapsed": 4, "huge": 4, "whole": 4}
    assert smaps(machine, process)["ShmemPmdMapped"] == 8192 and smaps(machine, other)["Rss"] == 0
    assert machine.rows("a/memory.stat")["thp_collapse_alloc"] == 4
    other.again()
    assert counts() == {"mapped": 4, "huge": 4, "whole": 4}
    machine.write(f"{THP}shmem_enabled", "deny")
    assert errno_of(process.collapse) == "EINVAL"
