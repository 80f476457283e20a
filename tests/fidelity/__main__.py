"""Prints (or writes into docs/fidelity.md) how near the simulated curves are to the recorded ones."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tests.fidelity.compare import Row, compare, recorded, recordings
from tests.fidelity.probe import SCENARIOS

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "fidelity.md"
HEAD = """# How near to a real kernel

<!-- Written by scripts/fidelity --write; do not edit. -->

Workloads that were recorded on a real Linux 6.12 (512 MB of RAM, 300 MB and 1 GB; `tests/golden/curves`), played
call by call on mmfs (`tests/fidelity`). Levels in kB, at the step where they differ most, the error in parts of RAM;
totals over the whole curve in pages. `tests/fidelity/compare.py` says how the bands come about; what misses its own is
marked **miss**.
"""


def table(name: str, rows: list[Row]) -> str:
    """One curve as a Markdown table."""
    lines = [f"\n## {name}\n", "| counter | worst at | real | simulated | error | band | |"]
    lines.append("|---|---|--:|--:|--:|--:|---|")
    for row in rows:
        whole = row.counter.startswith("OOM")
        error, band = (f"{row.error:+.0f}", f"{row.band:.0f}") if whole else (f"{row.error:+.1%}", f"{row.band:.1%}")
        lines.append(
            f"| {row.counter} | {row.step} | {row.real:.0f} | {row.simulated:.0f} | {error} | {band} | "
            f"{'' if row.kept else '**miss**'} |"
        )
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--write", is_flag=True, help="Write docs/fidelity.md.")
@click.option("--only", default="", help="Only curves whose name contains this.")
@click.option("--steps", default="", help="Print these counters at every step instead (comma separated).")
def main(write: bool, only: str, steps: str) -> None:
    """Compare simulated with recorded curves."""
    text = HEAD
    for folder, scenario in SCENARIOS.items():
        if only and only not in folder and folder.split("-")[0] not in only:
            continue
        for name, ours in scenario():
            if only and only not in folder and only not in name:
                continue
            real = recorded(folder, name)
            if steps:
                for label in sorted({*real, *ours}, key=[*real, *ours].index):
                    cells = [(real.get(label, {}).get(c), ours.get(label, {}).get(c)) for c in steps.split(",")]
                    click.echo(f"{name} {label:22} " + "  ".join(f"{a}/{b}" for a, b in cells))
                continue
            part = table(f"{folder}: {name}", compare(recordings(folder, name), ours))
            text += part
            click.echo(part)
            sys.stdout.flush()
    if write:
        DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
