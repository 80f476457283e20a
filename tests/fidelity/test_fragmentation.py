"""Memory in pieces: what compaction makes of it, and how many huge pages can be had, beside a real kernel.

Real runs differ widely in how many huge pages they get of a machine that is full of half-used pageblocks, so the band
is a tenth beyond the fewest and the most of seven real runs; where they agree it is a tenth of the real number.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from tests.fidelity import fragmentation
from tests.fidelity.fragmentation import Sample

CURVES = Path(__file__).parent.parent / "golden" / "curves"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def real_states(name: str) -> dict[str, Sample]:
    """What `bd` printed, by label."""
    states: dict[str, Sample] = {}
    for part in (CURVES / name).read_text().split("# ")[1:]:
        label, _, text = part.partition("\n")
        found = {key: int(value) for key, value in re.findall(r"^(\w+):? +(\d+)", text, re.M)}
        counts = re.search(r"^Node 0, zone +DMA32((?: +\d+){11})", text, re.M)
        assert counts is not None
        states[label] = found | {f"order{order}": int(count) for order, count in enumerate(counts[1].split())}
    return states


def real_hugepages(name: str) -> dict[str, list[int]]:
    """What was read back of nr_hugepages, by state of the machine."""
    got: dict[str, list[int]] = {}
    with (CURVES / name).open() as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            got.setdefault(row["state"], []).append(int(row["readback"]))
    return got


def again(label: str) -> list[list[int]]:
    """The same from two further boots, whose label begins like that."""
    text = (CURVES / "hugepages-1G" / "again.txt").read_text()
    return [[int(n) for n in row.split()] for row in re.findall(rf"^{label}\S* +([\d ]+)$", text, re.M)]


def huge_blocks(state: Sample) -> int:
    """Free memory in blocks that a huge page could be had from, in huge pages."""
    return state["order9"] + 2 * state["order10"]


def grown(states: dict[str, Sample], name: str, since: str, until: str) -> int:
    return states[until][name] - states[since][name]


def test_movable() -> None:
    """Every other page of a process given back: compact_memory, then nr_hugepages."""
    played = dict(fragmentation.movable())
    ours = {label: state for label, state in played.items() if isinstance(state, dict)}
    hugepages = {label: got for label, got in played.items() if isinstance(got, list)}
    real = real_states("hugepages-1G/frag_compact_buddyinfo.txt")
    recorded = real_hugepages("hugepages-1G/nr_hugepages_fragmented.tsv")
    assert hugepages["clean"][:7] == recorded["clean"][:7]
    assert hugepages["clean"][-1] == pytest.approx(recorded["clean"][-1], rel=0.1)
    before, after = "movable500_before", "movable500_after_compact"
    assert huge_blocks(ours[after]) == pytest.approx(huge_blocks(real[after]), rel=0.1)
    for name in ("compact_migrate_scanned", "compact_free_scanned", "compact_isolated"):
        assert grown(ours, name, before, after) == pytest.approx(grown(real, name, before, after), rel=0.25), name
    ends = [recorded["movable900"][-1], *(run[-1] for run in again("movable900"))]
    assert min(ends) * 0.9 <= hugepages["movable900"][-1] <= max(ends) * 1.1
    assert ours["movable900_after_hp"]["compact_success"] > 0


def test_unmovable() -> None:
    """Pages of pipes in between, which cannot move: how many pageblocks stay whole, and are had as huge pages."""
    played = dict(fragmentation.unmovable())
    ours = {label: state for label, state in played.items() if isinstance(state, dict)}
    real = real_states("unmovable-1G/frag_unmovable_buddyinfo.txt")
    got = played["unmovable520"]
    assert isinstance(got, list)
    recorded = real_hugepages("unmovable-1G/nr_hugepages_unmovable.tsv")["unmovable520"]
    assert got[:5] == recorded[:5]
    assert got[5] == pytest.approx(recorded[5], rel=0.1)
    for label in ("unmovable520_before", "unmovable520_after_compact", "after_free", "movable400_after_compact3"):
        assert huge_blocks(ours[label]) == pytest.approx(huge_blocks(real[label]), rel=0.1), label
    for number in (1, 2):
        following = f"movable400_after_compact{number + 1}"
        assert huge_blocks(ours[following]) >= huge_blocks(ours[f"movable400_after_compact{number}"])
