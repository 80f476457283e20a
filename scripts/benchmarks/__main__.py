"""`scripts/bench [ROW...] [--json] [--quick]`: measure and print a row for each question."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Iterator

from benchmarks import cgroups, engine, ksm, machines, pressure, reading, slab
from benchmarks.measure import Row, Side, Unavailable

BENCHMARKS: dict[str, Callable[[], Iterator[Row]]] = {
    "meminfo": reading.meminfo,
    "load": reading.under_load,
    "faults": engine.faults,
    "buddy": engine.buddy,
    "slab": slab.slab,
    "ksm": ksm.ksm,
    "boot": machines.boot,
    "zipf": pressure.zipf,
    "reclaim": pressure.reclaim,
    "server": pressure.server,
    "kswapd": pressure.kswapd,
    "terabytes": machines.terabytes,
    "files": machines.files,
    "help": machines.answering,
    "cgroups": cgroups.cgroups,
    "ps": reading.ps,
    "mount": reading.mounting,
}


def figure(value: float) -> str:
    """Three significant digits, no exponent."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def side(of: Side | None) -> str:
    """`median ± half the spread  what`."""
    return "" if of is None else f"{figure(of.value)} ± {figure(of.spread / 2)}  {of.what}"


def bound(row: Row) -> str:
    """What was promised and whether it holds."""
    words = [f"≤ {row.most:g}" if row.most is not None else "", f"≥ {row.least:g}" if row.least is not None else ""]
    verdict = {True: "yes", False: "NO", None: ""}[row.kept]
    return f"{' '.join(filter(None, words))} {verdict}".strip()


def cells(row: Row) -> list[str]:
    """A row as the table's columns."""
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return [row.name, side(row.ours), side(row.theirs), row.unit, ratio, bound(row)]


COLUMNS = ["what", "ours", "theirs", "unit", "ratio", "bound"]


def table(rows: list[Row]) -> str:
    """The rows, aligned, notes below theirs."""
    lines = [COLUMNS, *(cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for line, row in zip(lines, [None, *rows], strict=True):
        text.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        text += [f"    {note}" for note in (row.notes if row else [])]
    return "\n".join(text)


def as_json(row: Row) -> dict[str, object]:
    """A row for machines."""
    ours, theirs = vars(row.ours), vars(row.theirs) if row.theirs else None
    bounds = {"most": row.most, "least": row.least, "kept": row.kept}
    return {
        "name": row.name,
        "unit": row.unit,
        "ours": ours,
        "theirs": theirs,
        "ratio": row.ratio,
        **bounds,
        "notes": row.notes,
    }


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which to measure (all): {' '.join(BENCHMARKS)}")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    unknown = [name for name in options.rows if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no row named {' '.join(unknown)}: there are {' '.join(BENCHMARKS)}")
    rows: list[Row] = []
    failed = False
    for name in options.rows or BENCHMARKS:
        print(f"bench: {name}", file=sys.stderr, flush=True)
        try:
            for row in BENCHMARKS[name]():
                rows.append(row)
                if options.json:
                    print(json.dumps(as_json(row)), flush=True)
        except Unavailable as reason:
            print(f"bench: {name}: not measured: {reason}", file=sys.stderr)
        except Exception:
            failed = True
            traceback.print_exc()
    if not options.json:
        print(table(rows))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
