"""Recorded and simulated curves side by side: errors per counter and step, and the band that each must keep.

The bands: levels within 3 % of RAM at every step that both have; the kill at the same step of 16 MB or the next to it;
totals from the first sample to the last: faults 5 %, pages swapped and stolen 15 %, refaults 25 %, scans 35 %. To each
comes what the real kernel differs by from itself: the most that any two recordings of the same curve (`again*`) differ
in that counter, since it is chance at which step kswapd has just finished or a new generation begun.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from tests.fidelity.probe import Curve

CURVES = Path(__file__).parent.parent / "golden" / "curves"
LEVELS = (
    "MemFree", "MemAvailable", "Cached", "AnonPages", "SwapFree",
    "Active(anon)", "Inactive(anon)", "Active(file)", "Inactive(file)",
)  # fmt: skip
LEVEL_BAND = 0.03
TOTALS: dict[str, tuple[tuple[str, ...], float]] = {
    "pgfault": (("pgfault",), 0.05),
    "pswpout": (("pswpout",), 0.15),
    "pswpin": (("pswpin",), 0.15),
    "pgsteal": (("pgsteal_kswapd", "pgsteal_direct"), 0.15),
    "pgscan": (("pgscan_kswapd", "pgscan_direct"), 0.35),
    "workingset_refault": (("workingset_refault_anon", "workingset_refault_file"), 0.25),
}
NEGLIGIBLE_PAGES = 1024
"""4 MB: a total that is smaller on both sides says nothing of the mechanism."""
KILL_STEP_MB = 16


@dataclass(frozen=True)
class Row:
    """One comparison: a level at its worst step, a total, or the step of the kill."""

    counter: str
    step: str
    real: float
    simulated: float
    error: float
    band: float

    @property
    def kept(self) -> bool:
        """Whether the error is inside the band."""
        return abs(self.error) <= self.band


def recorded(folder: str, name: str) -> Curve:
    """A recorded curve: label -> counter -> value."""
    return _read(CURVES / folder / f"{name}.tsv")


def recordings(folder: str, name: str) -> list[Curve]:
    """All recordings of a curve, the one that is compared with first."""
    again = (CURVES if folder.endswith("-512M") else CURVES / folder).glob(f"again*/{name}.tsv")
    return [recorded(folder, name), *(_read(path) for path in sorted(again))]


def _read(path: Path) -> Curve:
    with path.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {row["label"]: {key: int(value) for key, value in row.items() if value and value.isdigit()} for row in rows}


def killed_at(curve: Curve) -> int | None:
    """At how many MB the growing process was killed."""
    found = [re.fullmatch(r"end_sig9_at_(\d+)MB", label) for label in curve]
    return next((int(match[1]) for match in found if match), None)


def level_rows(real: Curve, ours: Curve) -> list[Row]:
    """Each level at the step where it differs most."""
    rows = []
    steps = [label for label in real if label in ours and not label.startswith("end_")]
    ram = next(iter(real.values()))["MemTotal"]
    for counter in LEVELS:
        errors = {label: (ours[label][counter] - real[label][counter]) / ram for label in steps}
        step = max(steps, key=lambda label: abs(errors[label]))
        rows.append(Row(counter, step, real[step][counter], ours[step][counter], errors[step], LEVEL_BAND))
    return rows


def total(curve: Curve, names: tuple[str, ...]) -> int:
    """How much counters have grown together from the first sample to the last."""
    first, *_, last = curve.values()
    return sum(last[name] - first[name] for name in names)


def total_rows(real: Curve, ours: Curve) -> list[Row]:
    """Each total from the first sample to the last."""
    rows = []
    for counter, (names, band) in TOTALS.items():
        expected, got = total(real, names), total(ours, names)
        if max(expected, got) >= NEGLIGIBLE_PAGES:
            rows.append(Row(counter, "total", expected, got, (got - expected) / max(expected, 1), band))
    return rows


def spread(curves: list[Curve]) -> dict[str, float]:
    """How much recordings of one curve differ from each other, by counter."""
    found: dict[str, float] = {}
    for one, other in combinations(curves, 2):
        for row in _rows(one, other):
            found[row.counter] = max(found.get(row.counter, 0.0), abs(row.error))
    return found


def compare(real: list[Curve], ours: Curve) -> list[Row]:
    """Every row of a curve, against its first recording."""
    chance = spread(real)
    return [replace(row, band=row.band + chance.get(row.counter, 0.0)) for row in _rows(real[0], ours)]


def _rows(real: Curve, ours: Curve) -> list[Row]:
    rows = level_rows(real, ours) + total_rows(real, ours)
    expected, got = killed_at(real), killed_at(ours)
    if expected is not None:
        at = -1 if got is None else got
        rows.append(Row("OOM kill (MB)", "end", expected, at, at - expected, KILL_STEP_MB))
    return rows
