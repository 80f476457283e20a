"""Folios between 16 KB and 1 MB for anonymous memory, on a simulated machine and on a real 6.12, by their counters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mmfs.mm.mman import MADV_COLD, MADV_FREE, MADV_HUGEPAGE, MADV_PAGEOUT, MLOCK_ONFAULT
from tests.cgroup_v2.conftest import BOTH
from tests.cgroup_v2.machine import KB, MB, PAGE, Dead, Machine, Process, errno_of
from tests.differential.agent import Agent
from tests.differential.swap_machine import MEMORY_MB, made_for

pytestmark = pytest.mark.timeout(600)
TOP = "/sys/kernel/mm/transparent_hugepage/"
SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048)
COUNTED = (
    "anon_fault_alloc", "anon_fault_fallback", "anon_fault_fallback_charge", "swpout", "swpout_fallback", "split",
    "split_failed", "split_deferred", "nr_anon", "nr_anon_partially_mapped",
)  # fmt: skip
ROWS = ("pgfault", "nr_anon_pages", "nr_anon_transparent_hugepages", "thp_fault_alloc", "thp_split_page", "pswpout")
SLACK = 8
"""Pages, and folios, that a process takes for itself: its stack, its tables."""


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    agent = Agent(memory_mb=MEMORY_MB)
    yield agent
    agent.close()


@pytest.fixture(params=BOTH)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """1 GB with a cgroup `a`, swap on a disk without seeks, and no huge pages of any size."""
    made = made_for(request, seeks=False)
    allow(made)
    yield made
    allow(made)
    made.close()


def allow(machine: Machine, modes: dict[int, str] | None = None) -> None:
    """For whom each size, in KB, is enabled: for nobody, if it is not named."""
    for size in SIZES:
        machine.write(f"{TOP}hugepages-{size}kB/enabled", (modes or {}).get(size, "never"))


def stats(machine: Machine, *sizes: int) -> dict[str, int]:
    """What the machine counts, and what it counts of these sizes."""
    rows = machine.rows("/proc/vmstat")
    found = {name: rows[name] for name in ROWS}
    for size in sizes:
        found |= {f"{size} {name}": machine.number(f"{TOP}hugepages-{size}kB/stats/{name}") for name in COUNTED}
    return found


def since(machine: Machine, before: dict[str, int], *sizes: int) -> dict[str, int]:
    """What has changed."""
    after = stats(machine, *sizes)
    return {name: after[name] - before[name] for name in before}


def hog(machine: Machine, size: int, cgroup: str = "a") -> Process:
    """A process that may have huge pages, and has touched so much."""
    process = machine.spawn(cgroup)
    process.thp(True)
    process.grow(size)
    return process


def emptied(machine: Machine, size: int, first: int | None = None) -> Process:
    """A process that has touched so much in single pages, and has given the first of it (or all) back."""
    process = hog(machine, size)
    process.punch(0, size if first is None else first, size)
    return process


def test_one_size(machine: Machine) -> None:
    """Each fault brings 64 KB, mapped by 16 entries; nothing of it is a transparent huge page of 2 MB."""
    process = emptied(machine, 16 * MB)
    allow(machine, {64: "always"})
    before = stats(machine, 64)
    process.dirty()
    got = since(machine, before, 64)
    assert 256 <= got["64 anon_fault_alloc"] == got["64 nr_anon"] < 256 + SLACK
    assert 256 <= got["pgfault"] < 256 + 100  # of others, for the tables
    assert abs(got["nr_anon_pages"] - 4096) < 64
    assert got["nr_anon_transparent_hugepages"] == got["thp_fault_alloc"] == got["64 anon_fault_fallback"] == 0
    assert machine.rows("a/memory.stat")["anon_thp"] == 0
    process.release()
    assert since(machine, before, 64)["64 nr_anon"] < SLACK


def test_the_largest_that_fits(machine: Machine) -> None:
    """Behind the last boundary of 1 MB there are pages after 80 KB: what is before is served with what fits there."""
    process = emptied(machine, 4 * MB, 3 * MB + 80 * KB)
    allow(machine, {16: "always", 64: "always", 1024: "always"})
    before = stats(machine, 16, 64, 1024)
    process.dirty()
    got = since(machine, before, 16, 64, 1024)
    assert (got["1024 anon_fault_alloc"], got["64 anon_fault_alloc"]) == (3, 1)
    assert 1 <= got["16 anon_fault_alloc"] < 1 + SLACK
    assert not got["1024 anon_fault_fallback"] + got["64 anon_fault_fallback"] + got["16 anon_fault_fallback"]


@pytest.mark.parametrize(
    ("mode", "top", "advised", "expected"),
    [
        ("madvise", "always", False, False), ("madvise", "never", True, True), ("inherit", "always", False, True),
        ("inherit", "madvise", True, True), ("inherit", "madvise", False, False), ("never", "always", True, False),
    ],
)  # fmt: skip
def test_for_whom(machine: Machine, mode: str, top: str, advised: bool, expected: bool) -> None:
    """`inherit` means what the file for all says; `madvise` those that have asked."""
    process = emptied(machine, 2 * MB)
    machine.write(f"{TOP}enabled", top)
    if advised:
        process.advise(MADV_HUGEPAGE)
    allow(machine, {128: mode})
    before = stats(machine, 128)
    process.dirty()
    assert since(machine, before, 128)["128 anon_fault_alloc"] == 16 * expected
    machine.write(f"{TOP}enabled", "always")


def test_what_is_mapped_in_part(machine: Machine) -> None:
    """A hole in each waits until memory is short; then they are split, the holes freed, the rest swapped singly."""
    allow(machine, {64: "always"})
    process = hog(machine, 8 * MB)
    before = stats(machine, 64)
    process.punch(8 * KB, 4 * KB, 64 * KB)
    got = since(machine, before, 64)
    assert got["64 split_deferred"] == got["64 nr_anon_partially_mapped"] == 128
    assert got["64 split"] == 0 and abs(got["nr_anon_pages"] + 128) < 32
    charged = machine.number("a/memory.current")
    errno_of(machine.write, "a/memory.reclaim", 16 * MB)
    got = since(machine, before, 64)
    assert got["64 split"] == 128 and got["64 nr_anon_partially_mapped"] == 0
    assert got["64 swpout"] == got["64 swpout_fallback"] == got["thp_split_page"] == 0
    assert charged - machine.number("a/memory.current") >= 8 * MB - 64 * PAGE


def test_a_hole_of_the_whole_size(machine: Machine) -> None:
    """Unmapping all of one frees it at once."""
    allow(machine, {64: "always"})
    process = hog(machine, 4 * MB)
    before = stats(machine, 64)
    process.punch(64 * KB, 64 * KB, 128 * KB)
    got = since(machine, before, 64)
    assert got["64 nr_anon"] == -32 and got["64 split_deferred"] == got["64 split"] == 0


def test_swapped_whole(machine: Machine) -> None:
    """On a disk without seeks each gets 16 slots side by side; what is read back is single pages."""
    allow(machine, {64: "always"})
    process = hog(machine, 32 * MB)
    before = stats(machine, 64)
    process.advise(MADV_PAGEOUT)
    got = since(machine, before, 64)
    assert got["64 swpout"] == 512 and got["64 swpout_fallback"] == got["64 split"] == 0
    assert abs(got["pswpout"] - 8192) < 64
    machine.sleep(1)
    process.again()
    assert since(machine, before, 64)["64 anon_fault_alloc"] < SLACK


def test_a_disk_that_seeks(machine: Machine) -> None:
    """It has no room for several pages side by side: each is split."""
    machine.swapoff("/dev/vdb")
    machine.write("/sys/block/vdb/queue/rotational", 1)
    machine.swapon("/dev/vdb")
    allow(machine, {64: "always"})
    process = hog(machine, 8 * MB)
    before = stats(machine, 64)
    process.advise(MADV_PAGEOUT)
    got = since(machine, before, 64)
    assert got["64 swpout"] == 0 and got["64 swpout_fallback"] == got["64 split"] == 128


def test_a_limit(machine: Machine) -> None:
    """One that cannot be charged is not reclaimed for: the next smaller size is tried, at last a page."""
    machine.write("a/memory.swap.max", 0)
    process = emptied(machine, 6 * MB, 5 * MB)
    machine.write("a/memory.max", machine.number("a/memory.current") + 4 * MB + 512 * KB)
    allow(machine, {16: "always", 1024: "always"})
    before = stats(machine, 16, 1024)
    with pytest.raises(Dead):
        process.dirty()
    got = since(machine, before, 16, 1024)
    assert got["1024 anon_fault_alloc"] == 4
    assert got["1024 anon_fault_fallback"] == got["1024 anon_fault_fallback_charge"] == 1
    assert 40 <= got["16 anon_fault_alloc"] <= 52  # more than 32, for CPUs have charged pages in advance
    assert 1 <= got["16 anon_fault_fallback"] == got["16 anon_fault_fallback_charge"] <= 4


@pytest.mark.parametrize(
    ("defrag", "advised", "reclaims"),
    [("always", False, True), ("madvise", True, True), ("madvise", False, False), ("defer", True, False)],
)  # fmt: skip
def test_reclaim_for_a_charge(machine: Machine, defrag: str, advised: bool, reclaims: bool) -> None:
    """Above a limit others are swapped to make room for a folio if `defrag` has faults reclaim; else pages are had."""
    other = hog(machine, 16 * MB)
    process = emptied(machine, 8 * MB)
    machine.write("a/memory.max", machine.number("a/memory.current") + 2 * MB)
    machine.write(f"{TOP}defrag", defrag)
    allow(machine, {64: "always"})
    if advised:
        process.advise(MADV_HUGEPAGE)
    before, events = stats(machine, 64), machine.rows("a/memory.events")
    process.dirty()
    got = since(machine, before, 64)
    machine.write(f"{TOP}defrag", "madvise")
    assert got["pswpout"] >= 1024
    assert machine.rows("a/memory.events")["max"] > events["max"]
    if reclaims:
        assert got["64 anon_fault_alloc"] >= 120 and got["64 anon_fault_fallback_charge"] <= 8
    else:
        assert got["64 anon_fault_fallback_charge"] >= 16
    other.kill()


def test_forked_and_written(machine: Machine) -> None:
    """A child shares them; what it writes to are single pages of its own, and nothing is mapped in part."""
    allow(machine, {64: "always"})
    process = hog(machine, 4 * MB)
    before = stats(machine, 64)
    child = process.fork()
    assert since(machine, before, 64)["64 nr_anon"] < SLACK
    child.dirty()
    got = since(machine, before, 64)
    assert abs(got["nr_anon_pages"] - 1024) < 128 and got["64 split_deferred"] < SLACK
    child.kill()
    assert since(machine, before, 64)["64 nr_anon"] < SLACK


LOCKS = (
    "nr_mlock", "nr_unevictable", "unevictable_pgs_culled", "unevictable_pgs_mlocked", "unevictable_pgs_munlocked",
    "unevictable_pgs_rescued",
)  # fmt: skip


def locks(machine: Machine, before: dict[str, int] | None = None) -> dict[str, int]:
    """What is locked, or how that has changed, what CPUs have not told yet included."""
    machine.write("/proc/sys/vm/stat_refresh", 1)
    rows = machine.rows("/proc/vmstat")
    return {name: rows[name] - (before or {}).get(name, 0) for name in LOCKS}


@pytest.mark.parametrize("size", [64, 1024])
def test_new_in_locked_memory(machine: Machine, size: int) -> None:
    """A folio that a fault brings where memory is locked (MLOCK_ONFAULT) is locked whole, and unlocked when it goes."""
    process = emptied(machine, 8 * MB)
    allow(machine, {size: "always"})
    process.lock(0, 8 * MB, MLOCK_ONFAULT)
    before, counts = locks(machine), stats(machine, size)
    process.dirty()
    got = locks(machine, before)
    whole = since(machine, counts, size)[f"{size} nr_anon"] * size // 4
    assert whole >= 1536
    assert got["nr_mlock"] == got["nr_unevictable"] == got["unevictable_pgs_mlocked"] == 2048
    assert got["unevictable_pgs_culled"] == 2048 and got["unevictable_pgs_rescued"] == 0
    process.release()
    got = locks(machine, before)
    assert got["nr_mlock"] == got["nr_unevictable"] == 0
    assert got["unevictable_pgs_munlocked"] == got["unevictable_pgs_rescued"] == 2048


def test_locked_later(machine: Machine) -> None:
    """mlock() of what is there locks folios whole and splits none; one that it covers in part stays unlocked."""
    allow(machine, {64: "always"})
    process = hog(machine, 4 * MB)
    before, counts = locks(machine), stats(machine, 64)
    process.lock(MB, MB)
    assert locks(machine, before)["nr_mlock"] == 256
    process.unlock(MB, MB)
    assert locks(machine, before)["nr_mlock"] == 0
    process.lock(2 * MB + 8 * KB, 128 * KB)
    got = locks(machine, before)
    assert got["nr_mlock"] == got["nr_unevictable"] == 16  # of three the one in the middle
    process.unlock(2 * MB + 72 * KB, 4 * KB)
    got = locks(machine, before)
    assert got["nr_mlock"] == got["nr_unevictable"] == 0
    assert got["unevictable_pgs_mlocked"] == got["unevictable_pgs_munlocked"] == 272
    got = since(machine, counts, 64)
    assert got["64 split"] == got["64 split_deferred"] == 0


def test_a_locked_one_loses_a_page(machine: Machine) -> None:
    """Unmapping a part of a locked folio unlocks it."""
    allow(machine, {64: "always"})
    process = hog(machine, MB)
    process.lock(0, MB)
    before, counts = locks(machine), stats(machine, 64)
    process.cancel(512 * KB, 4 * KB)
    got = locks(machine, before)
    assert (got["nr_mlock"], got["nr_unevictable"], got["unevictable_pgs_munlocked"]) == (-16, -16, 16)
    assert since(machine, counts, 64)["64 nr_anon_partially_mapped"] == 1


def test_reclaim_finds_the_locked(machine: Machine) -> None:
    """Reclaim frees nothing of a folio of which a part is locked, and swaps whole those of which nothing is."""
    allow(machine, {64: "always"})
    process = hog(machine, 2 * MB)
    process.lock(0, MB + 8 * KB)
    process.unlock(512 * KB + 60 * KB, 4 * KB)  # the folio of this page is not locked, and is in no VMA whole
    before, counts = locks(machine), stats(machine, 64)
    errno_of(machine.write, "a/memory.reclaim", 8 * MB)
    got = locks(machine, before)
    assert got["nr_mlock"] == 0
    got = since(machine, counts, 64)
    assert got["64 swpout"] == 15


def test_freed_lazily(machine: Machine) -> None:
    """MADV_FREE of whole folios splits none, and reclaim drops them whole; of a part of one it splits that one."""
    allow(machine, {64: "always"})
    process = hog(machine, 4 * MB)
    before, rows = stats(machine, 64), machine.rows("/proc/vmstat")
    process.advise_part(MADV_FREE, 0, 2 * MB + 8 * KB)
    now = machine.rows("/proc/vmstat")
    assert since(machine, before, 64)["64 split"] == 1
    assert 512 <= now["pglazyfree"] - rows["pglazyfree"] <= 514  # the two pages wait in a batch of their CPU
    errno_of(machine.write, "a/memory.reclaim", 2 * MB)
    got = since(machine, before, 64)
    assert machine.rows("/proc/vmstat")["pglazyfreed"] - rows["pglazyfreed"] >= 480
    assert got["64 split"] == 1
    assert got["64 split_deferred"] >= 30  # each is unmapped page by page
    assert got["64 swpout"] + got["64 swpout_fallback"] <= 2  # that was enough
    assert got["64 nr_anon_partially_mapped"] == 0


@pytest.mark.parametrize("written", [False, True])
def test_a_huge_page_freed_lazily(machine: Machine, written: bool) -> None:
    """Reclaim drops it whole, its PMD entry taken apart for that; one that was written to again stays."""
    allow(machine, {2048: "always"})
    process = hog(machine, 8 * MB)
    before, rows = stats(machine, 2048), machine.rows("/proc/vmstat")
    process.advise(MADV_FREE)
    assert since(machine, before, 2048)["2048 split"] == 0
    assert machine.rows("/proc/vmstat")["pglazyfree"] - rows["pglazyfree"] >= 1536
    if written:
        process.dirty()
    errno_of(machine.write, "a/memory.reclaim", 16 * MB)
    now = machine.rows("/proc/vmstat")
    freed = now["pglazyfreed"] - rows["pglazyfreed"]
    assert freed == 0 if written else freed >= 1024
    assert since(machine, before, 2048)["2048 split"] <= 1  # at the edge of the mapping
    assert (now["thp_split_pmd"] - rows["thp_split_pmd"]) * 512 >= freed


@pytest.mark.parametrize("advice", [MADV_COLD, MADV_PAGEOUT, MADV_FREE])
def test_shared_with_a_child(machine: Machine, advice: int) -> None:
    """Advice on part of a folio that a child maps, too, splits nothing; what is shared is not swapped."""
    allow(machine, {64: "always"})
    process = hog(machine, 2 * MB)
    child = process.fork()
    before = stats(machine, 64)
    process.advise_part(advice, 0, 8 * KB)
    process.advise_part(advice, MB, 256 * KB)
    got = since(machine, before, 64)
    assert got["64 split"] == got["64 swpout"] == 0 and got["pswpout"] < SLACK
    child.kill()
