"""maps, smaps and numa_maps of the zoo against what a real kernel printed, line by line and number by number."""

from __future__ import annotations

import re
from functools import cache

import pytest

import mmfs
from tests.fs.pid_zoo import Zoo, zoo
from tests.golden.captures import CAPTURES

ZOO = CAPTURES / "512M" / "02-zoo"
PARENT, CHILD = "262", "264"

# What is not the same, by the start of the mapping, and why. Everything else is, to the last number.
DIFFERENT = {
    "7fe0a5200000": "htlbsh: hugetlb pages cannot be mapped yet",
    "7fe0a5400000": "htlb: the same",
    "7fe0acd6d000": "[vdso]: its page is not mapped when a program reads the clock",
}
DIFFERENT_IN_CHILD = DIFFERENT | {
    "7fe0a4c80000": "split: Referenced; kswapd had looked at some pages",
    "7fe0ab400000": "locked: Referenced, for the same reason",
}


@cache
def the_zoo() -> Zoo:
    """One zoo for all tests here, which only look."""
    kernel = mmfs.boot(ram="512M", cpus=2, seed=1, preset="bare", swap="256M")
    made = zoo(kernel)
    for name, value in (("run", "1"), ("pages_to_scan", "5000")):
        kernel.write(f"/sys/kernel/mm/ksm/{name}", value)
    kernel.run_for(8)
    kernel.check()
    return made


def in_mmap_area(line: str) -> bool:
    """The mappings that are at the same addresses: not the program's segments, heap and stack."""
    return 0x7FE0_A000_0000 <= int(re.split("[- ]", line)[0], 16) < 0x7FE0_B000_0000


def ours(name: str, file: str) -> str:
    """A file of the parent or the child here, with inode numbers masked."""
    z = the_zoo()
    assert z.child is not None
    task = z.task if name == PARENT else z.child
    return without_inodes(z.kernel.read(f"/proc/{task.pid}/{file}").decode())


def golden(name: str, file: str) -> str:
    """The captured file, with inode numbers masked."""
    return without_inodes((ZOO / "proc" / name / file).read_text())


def without_inodes(text: str) -> str:
    """Mask the inode numbers of maps at the same width: which file has which depends on the disk."""
    return re.sub(
        r"(?m)^([0-9a-f]+-[0-9a-f]+ \S{4} [0-9a-f]+ \S+ )([1-9]\d*) *(?= /)",
        lambda match: match[1] + "#".ljust(len(match[0]) - len(match[1])),
        text,
    )


def by_mapping(text: str) -> dict[str, str]:
    """smaps or maps or numa_maps cut into mappings, those of the mmap area, by their first address."""
    parts = re.split(r"(?m)^(?=[0-9a-f]{8,}[- ])", text)
    return {re.split("[- ]", part)[0]: part for part in parts if part and in_mmap_area(part)}


def test_addresses_are_the_captured_ones() -> None:
    logged = dict(re.findall(r"^(\w+) +0x([0-9a-f]+) \+\d+ ok$", (ZOO / "zoo.log").read_text(), re.MULTILINE))
    assert len(logged) == 36
    assert {name: f"{addr:x}" for name, addr in the_zoo().at.items() if name in logged} == logged


@pytest.mark.parametrize("name", [PARENT, CHILD])
def test_maps(name: str) -> None:
    hugetlb = ("7fe0a5200000", "7fe0a5400000")
    mine, real = by_mapping(ours(name, "maps")), by_mapping(golden(name, "maps"))
    assert len(real) > 35
    assert list(mine) == list(real)
    for start in real:
        if start not in hugetlb:
            assert mine[start] == real[start]


@pytest.mark.parametrize("file", ["smaps", "numa_maps"])
@pytest.mark.parametrize("name", [PARENT, CHILD])
def test_every_number(name: str, file: str) -> None:
    """Line by line; the mappings that differ are those listed, and nothing is listed without need."""
    mine, real = by_mapping(ours(name, file)), by_mapping(golden(name, file))
    assert list(mine) == list(real)
    differ = {start for start in real if mine[start] != real[start]}
    listed = DIFFERENT if name == PARENT else DIFFERENT_IN_CHILD
    assert differ <= set(listed), "\n".join(real[start] + mine[start] for start in differ - set(listed))
    if name == PARENT and file == "smaps":
        assert differ == set(listed)


@pytest.mark.parametrize("name", [PARENT, CHILD])
def test_rows_of_the_different_ones(name: str) -> None:
    """Where numbers differ the layout is the same."""
    mine, real = by_mapping(ours(name, "smaps")), by_mapping(golden(name, "smaps"))
    for start in DIFFERENT:
        if "htlb" not in DIFFERENT[start]:
            assert re.sub(r" +\d+ kB", "", mine[start]) == re.sub(r" +\d+ kB", "", real[start])


def test_vmstat_of_status() -> None:
    """The sums that do not hang on the program's own segments, swap or hugetlb."""

    def rows(text: str) -> dict[str, str]:
        return dict(line.split(":\t", 1) for line in text.splitlines())

    for name in (PARENT, CHILD):
        mine, real = rows(ours(name, "status")), rows(golden(name, "status"))
        assert list(mine) == list(real)
        for row in ("VmLck", "VmPin", "RssShmem", "VmStk", "CoreDumping", "THP_enabled", "untag_mask", "Threads"):
            assert mine[row] == real[row], (name, row)


def test_rollup_is_the_sum() -> None:
    for name in (PARENT, CHILD):
        for text in (golden(name, "smaps"), ours(name, "smaps")):
            sums: dict[str, int] = {}
            for row, kb in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE):
                sums[row] = sums.get(row, 0) + int(kb)
        rollup = {
            row: int(kb) for row, kb in re.findall(r"^(\w+): +(\d+) kB$", ours(name, "smaps_rollup"), re.MULTILINE)
        }
        for row in ("Rss", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty", "Referenced", "Anonymous"):
            assert rollup[row] == sums[row]
        assert 0 <= rollup["Pss"] - sums["Pss"] < 50, "each mapping rounds down"
        assert rollup["Pss_Anon"] + rollup["Pss_File"] + rollup["Pss_Shmem"] in range(
            rollup["Pss"] - 2, rollup["Pss"] + 1
        )
