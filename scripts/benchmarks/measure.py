"""Rows, medians and the programs in C that stand for the other side."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CFLAGS = ["-O2", "-fno-strict-aliasing", "-fwrapv", "-Wall"]


@dataclass(frozen=True)
class Side:
    """One side of a comparison: the median of the rounds and the distance between their quartiles."""

    what: str
    value: float
    spread: float = 0.0

    @classmethod
    def of(cls, what: str, samples: Sequence[float]) -> Side:
        """The median and the spread of samples."""
        if len(samples) < 2:
            return cls(what, samples[0])
        low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(what, middle, high - low)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `ratio` is ours/theirs; `most` or `least` bound it, or bound our figure itself where there is no other side.
    """

    name: str
    unit: str
    ours: Side
    theirs: Side | None = None
    most: float | None = None
    least: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        """Ours over theirs."""
        return self.ours.value / self.theirs.value if self.theirs and self.theirs.value else None

    @property
    def kept(self) -> bool | None:
        """Whether the bound holds; None where there is none."""
        if self.most is None and self.least is None:
            return None
        value = self.ratio if self.theirs is not None else self.ours.value
        return (
            value is not None
            and (self.most is None or value <= self.most)
            and (self.least is None or value >= self.least)
        )


class Unavailable(Exception):
    """A row cannot be measured on this machine; the reason."""


def percentile(samples: Sequence[float], percent: float) -> float:
    """The value that `percent` of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def interleave(rounds: int, **measurements: Callable[[], float]) -> dict[str, list[float]]:
    """Take turns, `rounds` times after one that is thrown away."""
    samples: dict[str, list[float]] = {name: [] for name in measurements}
    for turn in range(rounds + 1):
        for name, measure in measurements.items():
            value = measure()
            if turn:
                samples[name].append(value)
    return samples


@cache
def scratch() -> Path:
    """A folder for compiled programs and mount points; it goes when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
    _kept.append(folder)
    return Path(folder.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


@cache
def program(name: str) -> Path:
    """The program made from c/NAME.c, with the flags that the fast path is compiled with."""
    target = scratch() / name
    compiler = str(sysconfig.get_config_var("CC") or "cc").split()
    subprocess.run([*compiler, *CFLAGS, "-o", str(target), str(HERE / "c" / f"{name}.c")], check=True)
    return target


def numbers(*command: str | Path) -> list[int]:
    """Run a command and return the first number of each line that it prints."""
    done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
    return [int(line.split()[0]) for line in done.stdout.splitlines()]


def python(code: str, *arguments: str) -> str:
    """Run code in a new interpreter of this environment and return what it prints."""
    command = [sys.executable, "-c", code, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


@contextmanager
def pinned(cpu: int, *pids: int) -> Iterator[None]:
    """Keep this process's children and the given processes on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        for pid in pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), before)
