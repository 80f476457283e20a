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
KNOWN: dict[str, dict[str, str]] = {
    "anon_growth_swap256_swappiness0": dict.fromkeys(("Active(anon)", "Inactive(anon)"), GENERATION),
    "file_2xram_hot100_anon200": dict.fromkeys(("Active(file)", "Inactive(file)"), GENERATION),
    "swappiness_mix": dict.fromkeys(("Active(anon)", "Inactive(anon)"), GENERATION),
}


@pytest.mark.parametrize("folder", SCENARIOS)
def test_curves(folder: str) -> None:
    """Each curve of a scenario, played in order on one machine."""
    wrong = []
    for name, ours in SCENARIOS[folder]():
        rows = compare(recordings(folder, name), ours)
        missed = {row.counter for row in rows if not row.kept}
        expected = set(KNOWN.get(name, ()))
        wrong += [f"{name}: {row}" for row in rows if row.counter in missed - expected]
        wrong += [f"{name}: {counter} is kept now" for counter in sorted(expected - missed)]
    assert not wrong, "\n".join(wrong)
