"""Folios between 16 KB and 1 MB for shared memory, on a simulated machine and on a real 6.12, by their counters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mmfs.mm.mman import MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_PAGEOUT
from tests.cgroup_v2.conftest import BOTH
from tests.cgroup_v2.machine import KB, MB, PAGE, Dead, Machine, Process, errno_of
from tests.differential.agent import Agent
from tests.differential.swap_machine import MEMORY_MB, made_for

pytestmark = pytest.mark.timeout(600)
TOP = "/sys/kernel/mm/transparent_hugepage/"
SIZES = (16, 32, 64, 128, 256, 512, 1024)
FILE = "/dev/shm/f"
COUNTED = {
    "alloc": "shmem_alloc", "fallback": "shmem_fallback", "charge": "shmem_fallback_charge", "out": "swpout",
    "broken": "swpout_fallback", "split": "split",
}  # fmt: skip
SLACK = 12
"""Faults of a process in what it has of its own: its stack, its data."""
ROWS = {"file": "thp_file_alloc", "mapped": "thp_file_mapped", "pswpout": "pswpout", "pswpin": "pswpin"}


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    agent = Agent(memory_mb=MEMORY_MB)
    yield agent
    agent.close()


@pytest.fixture(params=BOTH)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """1 GB with a cgroup `a`, swap on a disk without seeks, and no huge pages of any size."""
    made = made_for(request, seeks=False)
    enabled = made.read(f"{TOP}enabled").split("[")[1].split("]")[0]
    made.write(f"{TOP}enabled", "never")
    allow(made)
    yield made
    made.write(f"{TOP}enabled", enabled)
    made.write(f"{TOP}shmem_enabled", "never")
    allow(made)
    made.tmpfs("huge=never")
    errno_of(made.unlink, FILE)
    made.close()


def allow(machine: Machine, modes: dict[int, str] | None = None) -> None:
    """For whom each size, in KB, is enabled: for nobody, if it is not named; 2 MB inherit."""
    for size in SIZES:
        machine.write(f"{TOP}hugepages-{size}kB/shmem_enabled", (modes or {}).get(size, "never"))
    machine.write(f"{TOP}hugepages-2048kB/shmem_enabled", (modes or {}).get(2048, "inherit"))


class Counts:
    """What has been counted since the last call, of the machine and of these sizes."""

    def __init__(self, machine: Machine, *sizes: int) -> None:
        self.machine, self.sizes = machine, sizes
        self.before = self.now()

    def now(self) -> dict[str, int]:
        """All of it."""
        rows = self.machine.rows("/proc/vmstat")
        found = {short: rows[name] for short, name in ROWS.items()}
        for size in self.sizes:
            stats = f"{TOP}hugepages-{size}kB/stats/"
            found |= {f"{size} {short}": self.machine.number(stats + name) for short, name in COUNTED.items()}
        return found

    def __call__(self) -> dict[str, int]:
        """What has grown."""
        before, self.before = self.before, self.now()
        return {name: n - before[name] for name, n in self.before.items() if n != before[name]}


def sharer(machine: Machine, size: int) -> Process:
    """A process of the cgroup that may have huge pages, and has written to so much shared memory."""
    process = machine.spawn("a")
    process.thp(True)
    process.share(size)
    return process


def shmem(machine: Machine) -> int:
    """The pages of shared memory of the cgroup."""
    return machine.rows("a/memory.stat")["shmem"] // PAGE


def has(machine: Machine, pages: int) -> bool:
    """Whether these are so many, as soon as it is known."""
    return machine.eventually(lambda: shmem(machine) == pages)


def faults(machine: Machine, process: Process) -> int:
    """How many it has had."""
    return int(machine.read(f"/proc/{process.pid}/stat").rsplit(")", 1)[1].split()[7])


def smaps(machine: Machine, process: Process) -> dict[str, int]:
    """The rows of the shared mapping, in kB."""
    text = machine.read(f"/proc/{process.pid}/smaps").split("/dev/zero (deleted)", 1)[1].split("VmFlags", 1)[0]
    rows = (line.split() for line in text.splitlines() if line)
    return {row[0].rstrip(":"): int(row[1]) for row in rows}


def test_one_size(machine: Machine) -> None:
    """Each fault brings 64 KB, mapped by 16 entries; no huge page of 2 MB is counted."""
    allow(machine, {64: "always"})
    process = machine.spawn("a")
    process.thp(True)
    counts, before = Counts(machine, 64), faults(machine, process)
    process.share(16 * MB)
    assert counts() == {"64 alloc": 256}
    assert 256 <= faults(machine, process) - before < 256 + SLACK
    stat = machine.rows("a/memory.stat")
    assert stat["shmem"] == stat["file_mapped"] == 16 * MB and stat["shmem_thp"] == 0
    rows = smaps(machine, process)
    assert rows["Rss"] == rows["Pss"] == rows["Private_Dirty"] == rows["Referenced"] == 16384
    assert rows["ShmemPmdMapped"] == 0 and rows["THPeligible"] == 1
    process.kill()
    assert has(machine, 0)
    assert counts() == {}


def test_the_largest_that_fits(machine: Machine) -> None:
    """Of 5 MB and 84 KB the last 84 are 64, 16, and a page."""
    allow(machine, {16: "always", 64: "always", 1024: "always"})
    counts = Counts(machine, 16, 64, 1024, 2048)
    process = sharer(machine, 5 * MB + 84 * KB)
    assert counts() == {"1024 alloc": 5, "64 alloc": 1, "16 alloc": 1}
    assert smaps(machine, process)["Rss"] == 5 * 1024 + 84


@pytest.mark.parametrize(
    ("top", "modes", "advice", "found"),
    [
        ("never", {64: "inherit"}, None, {}),
        ("always", {64: "inherit"}, None, {"2048 alloc": 2, "64 alloc": 16}),
        ("always", {64: "inherit", 2048: "never"}, None, {"64 alloc": 80}),
        ("within_size", {64: "inherit", 2048: "never"}, None, {"64 alloc": 64}),  # up to the last boundary of 2 MB
        ("never", {64: "within_size"}, None, {"64 alloc": 80}),
        ("never", {64: "advise"}, None, {}),
        ("never", {64: "advise"}, MADV_HUGEPAGE, {"64 alloc": 80}),
        ("advise", {64: "inherit", 2048: "never"}, MADV_HUGEPAGE, {"64 alloc": 80}),
        ("never", {64: "always"}, MADV_NOHUGEPAGE, {}),
        ("deny", {64: "always"}, None, {}),
        ("force", {64: "always"}, None, {"2048 alloc": 2}),
    ],
)  # fmt: skip
def test_who_gets_some(
    machine: Machine, top: str, modes: dict[int, str], advice: int | None, found: dict[str, int]
) -> None:
    """5 MB, by the switch of all sizes and those of each."""
    allow(machine, modes)
    machine.write(f"{TOP}shmem_enabled", top)
    process = machine.spawn("a")
    process.share(5 * MB)  # without any
    process.drain(0, 5 * MB)
    process.thp(True)
    if advice is not None:
        process.advise(advice)
    counts = Counts(machine, 64, 2048)
    process.dirty()
    got = counts()
    assert {name: n for name, n in got.items() if "alloc" in name} == found
    assert has(machine, 1280)
    eligible = smaps(machine, process)["THPeligible"]
    assert eligible == bool(found)


def test_files_of_tmpfs(machine: Machine) -> None:
    """Files that have a name have huge pages of 2 MB, or none, written or mapped."""
    allow(machine, {64: "always"})
    counts = Counts(machine, 64, 2048)
    machine.spawn("a").fill(FILE, 3 * MB)
    assert counts() == {}
    machine.cut(FILE, 0)
    machine.tmpfs("huge=always")
    process = machine.spawn("a")
    process.thp(True)
    process.fill(FILE, 3 * MB)
    assert counts() == {"2048 alloc": 2, "file": 2}
    machine.cut(FILE, 0)
    machine.cut(FILE, 3 * MB)
    process.map(FILE, 3 * MB)
    process.dirty()
    assert counts() == {"2048 alloc": 1, "file": 1, "mapped": 1}


@pytest.mark.parametrize("size", [16, 256])
def test_another_maps_them(machine: Machine, size: int) -> None:
    """A child maps 64 KB with each fault that reads, and folios whole with each that writes."""
    allow(machine, {size: "always"})
    process = sharer(machine, 4 * MB)
    counts = Counts(machine, size)
    reader, writer = process.fork(), process.fork()
    before = faults(machine, reader)
    reader.again()
    assert 64 <= faults(machine, reader) - before < 64 + SLACK
    assert smaps(machine, reader)["Rss"] == 4096
    before = faults(machine, writer)
    writer.dirty()
    assert 4096 // size <= faults(machine, writer) - before < 4096 // size + SLACK
    assert smaps(machine, writer)["Pss"] == 4096 // 3
    assert counts() == {}


def test_reading_first(machine: Machine) -> None:
    """What a read fault brings is mapped whole."""
    allow(machine, {256: "always"})
    process = sharer(machine, 4 * MB)
    process.drain(0, 4 * MB)
    counts, before = Counts(machine, 256), faults(machine, process)
    process.again()
    assert counts() == {"256 alloc": 16}
    assert 16 <= faults(machine, process) - before < 16 + SLACK
    assert smaps(machine, process)["Rss"] == 4096


def test_where_there_are_pages(machine: Machine) -> None:
    """Around a page that is there already no folio fits; a smaller one may."""
    allow(machine, {16: "always", 256: "always"})  # for an address that is aligned
    process = machine.spawn("a")
    process.share(MB)
    process.drain(0, 512 * KB + 16 * KB)
    process.drain(512 * KB + 20 * KB, 492 * KB)  # one page is left
    process.thp(True)
    counts = Counts(machine, 16, 256)
    process.dirty()
    assert counts() == {"256 alloc": 3, "16 alloc": 15}
    assert has(machine, 256)


def test_holes(machine: Machine) -> None:
    """A hole splits the folios that it cuts, and takes the others away."""
    allow(machine, {64: "always"})
    process = sharer(machine, MB)
    counts = Counts(machine, 64)
    process.drain(0, 4 * KB)
    assert counts() == {"64 split": 1} and has(machine, 255)
    process.drain(64 * KB, 128 * KB)
    assert counts() == {} and has(machine, 223)
    process.drain(256 * KB + 60 * KB, 72 * KB)
    assert counts() == {"64 split": 2} and has(machine, 205)
    assert smaps(machine, process)["Rss"] == 832 - 64 * 3  # those that were split are mapped by nobody
    process.again()
    assert counts() == {"64 alloc": 3} and has(machine, 256)


def test_a_part_is_unmapped(machine: Machine) -> None:
    """Nothing is split for it, and what is left stays mapped."""
    allow(machine, {64: "always"})
    process = sharer(machine, MB)
    counts = Counts(machine, 64)
    process.cancel(MB - 20 * KB, 20 * KB)
    assert counts() == {} and has(machine, 256)
    assert smaps(machine, process)["Rss"] == 1004


def test_swapped_whole(machine: Machine) -> None:
    """On a disk without seeks each gets 16 slots side by side; what is read back is single pages."""
    allow(machine, {64: "always"})
    process = sharer(machine, 8 * MB)
    counts = Counts(machine, 64)
    errno_of(machine.write, "a/memory.reclaim", 8 * MB)
    machine.sleep(0.5)
    errno_of(machine.write, "a/memory.reclaim", 8 * MB)
    machine.sleep(0.5)
    got = counts()
    assert got["64 out"] == got["pswpout"] // 16 >= 100 and "64 split" not in got and "64 broken" not in got
    assert machine.number("a/memory.swap.current") == got["pswpout"] * PAGE
    errno_of(machine.write, "a/memory.reclaim", 8 * MB)
    process.again()
    got = counts()
    assert got.pop("pswpin") >= 1024 and not {name for name in got if name not in ("64 out", "pswpout")}
    assert has(machine, 2048) and machine.number("a/memory.swap.current") == 0
    process.release()
    assert has(machine, 0)


def test_holes_in_what_is_out(machine: Machine) -> None:
    """Of what is swapped out whole, a part is read back when a hole cuts it."""
    allow(machine, {64: "always"})
    process = sharer(machine, 4 * MB)
    for _ in range(3):
        errno_of(machine.write, "a/memory.reclaim", 8 * MB)
        machine.sleep(0.5)
    assert machine.number("a/memory.swap.current") == 4 * MB
    counts = Counts(machine, 64)
    process.drain(MB, MB)
    assert counts() == {} and machine.number("a/memory.swap.current") == 3 * MB
    process.drain(32 * KB, 32 * KB)
    got = counts()
    assert got.keys() == {"pswpin"} and got["pswpin"] >= 1
    process.release()
    assert machine.eventually(lambda: machine.number("a/memory.swap.current") == 0)


def test_a_disk_that_seeks(machine: Machine) -> None:
    """It has no room for several pages side by side: each is split."""
    machine.swapoff("/dev/vdb")
    machine.write("/sys/block/vdb/queue/rotational", 1)
    machine.swapon("/dev/vdb")
    allow(machine, {64: "always"})
    sharer(machine, 4 * MB)
    counts = Counts(machine, 64)
    for _ in range(3):
        errno_of(machine.write, "a/memory.reclaim", 8 * MB)
        machine.sleep(0.5)
    assert counts() == {"64 split": 64, "pswpout": 1024}


def test_a_limit(machine: Machine) -> None:
    """One that cannot be charged is none: it is a page at once, whatever smaller sizes there are."""
    machine.write("a/memory.swap.max", 0)
    allow(machine, {16: "always", 1024: "always"})
    process = machine.spawn("a")
    process.share(6 * MB)
    process.drain(0, 5 * MB)
    process.thp(True)
    machine.write("a/memory.max", machine.number("a/memory.current") + 2 * MB + 512 * KB)
    counts = Counts(machine, 16, 1024)
    with pytest.raises(Dead):
        process.dirty()
    got = counts()
    assert got["1024 alloc"] == 2 and got["1024 fallback"] == got["1024 charge"] == 1
    assert "16 fallback" not in got or got["16 fallback"] == got["16 charge"]


def test_advice(machine: Machine) -> None:
    """MADV_PAGEOUT of shared memory that others map, too, does nothing; of what one alone maps it swaps whole."""
    allow(machine, {64: "always"})
    process = sharer(machine, 4 * MB)
    counts = Counts(machine, 64)
    process.advise(MADV_PAGEOUT)
    machine.sleep(0.5)
    got = counts()
    assert got == {"64 out": 64, "pswpout": 1024}
    process.advise(MADV_PAGEOUT)
    process.again()
    assert has(machine, 1024)


def test_collapse(machine: Machine) -> None:
    """madvise(MADV_COLLAPSE) makes one huge page of 32 folios."""
    allow(machine, {64: "always"})
    machine.write(f"{TOP}shmem_enabled", "always")  # for addresses that are aligned
    process = machine.spawn("a")
    process.share(4 * MB)
    process.drain(0, 4 * MB)
    machine.write(f"{TOP}shmem_enabled", "never")
    process.thp(True)
    process.dirty()
    counts = Counts(machine, 64, 2048)
    process.collapse()
    assert machine.rows("a/memory.stat")["shmem_thp"] == 4 * MB
    assert has(machine, 1024)
    assert counts() == {"mapped": 2}
