"""The recorded workloads on mmfs: every level, total and kill inside its band, but for the misses that are known.

What is known to miss is listed here with the reason, so that the list can only shrink: a miss that is not listed fails,
and so does a listed one that is kept again.
"""

from __future__ import annotations

import pytest

from tests.fidelity.compare import compare, recordings
from tests.fidelity.probe import SCENARIOS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
GENERATION = "how many generations the aging has begun by then is chance; mmfs is one off at that step"
NO_THP = "a real machine of 512 MB and more backs the process with huge pages (thp_fault_alloc), mmfs does not yet"
OLD_FILES = "swappiness 200: aging waits for the oldest files to be under a quarter of all pages, here just above"
UNEXPLAINED = "outside the band, mechanism not found"
ACTIVE = ("Active(anon)", "Inactive(anon)")
KNOWN: dict[str, dict[str, str]] = {
    "anon-growth-512M/anon_growth_swap256_swappiness0": dict.fromkeys(ACTIVE, GENERATION),
    "swappiness-512M/swappiness_mix": dict.fromkeys(ACTIVE, GENERATION) | {"Inactive(file)": OLD_FILES},
    "growth-300M/anon_growth_noswap": dict.fromkeys(ACTIVE, UNEXPLAINED),
    "growth-300M/anon_growth_swappiness100": dict.fromkeys(("AnonPages", "SwapFree"), UNEXPLAINED),
    "growth-300M/anon_growth_classic": dict.fromkeys(("Cached", "Inactive(file)"), UNEXPLAINED),
    "mix-300M/mix_swappiness100": dict.fromkeys(ACTIVE, GENERATION),
    "mix-300M/mix_swappinessclassic": {"Active(file)": UNEXPLAINED},
    "growth-1G/anon_growth_swappiness60": {"pgfault": NO_THP} | dict.fromkeys(ACTIVE, GENERATION),
    "growth-1G/anon_growth_swappiness100": {"pgfault": NO_THP, "pgscan": UNEXPLAINED},
    "growth-1G/anon_growth_noswap": {"pgfault": NO_THP},
    "growth-1G/anon_growth_classic": {"pgfault": NO_THP, "pgscan": UNEXPLAINED},
    "mix-1G/mix_swappiness10": {"pgfault": NO_THP},
    "mix-1G/mix_swappiness100": {"pgfault": NO_THP},
    "mix-1G/mix_swappiness200": {"Inactive(anon)": UNEXPLAINED, "pgfault": NO_THP},
    "mix-1G/mix_swappinessclassic": {"pgfault": NO_THP} | dict.fromkeys(
        (
            "MemAvailable", "Cached", "AnonPages", "SwapFree", "Inactive(anon)", "Active(file)", "Inactive(file)",
            "pswpout", "pgscan",
        ),
        UNEXPLAINED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("folder", SCENARIOS)
def test_curves(folder: str) -> None:
    """Each curve of a scenario, played in order on one machine."""
    wrong = []
    for name, ours in SCENARIOS[folder]():
        rows = compare(recordings(folder, name), ours)
        missed = {row.counter for row in rows if not row.kept}
        expected = set(KNOWN.get(f"{folder}/{name}", ()))
        wrong += [f"{name}: {row}" for row in rows if row.counter in missed - expected]
        wrong += [f"{name}: {counter} is kept now" for counter in sorted(expected - missed)]
    assert not wrong, "\n".join(wrong)
