"""Profiles: which kernels have what, and that a machine of another kernel works."""

from __future__ import annotations

import csv
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mmfs.kernel.signal import TaskKilled
from mmfs.profile import PROFILES, both, config, load_profile, since, until

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

CURVES = Path(__file__).parents[1] / "golden/curves/growth-6.1"
MB = 1 << 20


def test_needs() -> None:
    old, new = load_profile("6.1"), load_profile()
    assert [since(6, 12)(one) for one in (old, new)] == [since(6, 11)(one) for one in (old, new)] == [False, True]
    assert [until(6, 12)(one) for one in (old, new)] == [True, False]
    assert since(6, 1)(old) and not until(6, 1)(old)
    assert config("ZSWAP")(old) and config("DAMON")(new) and not config("DAMON")(old)
    assert both(since(6, 12), lambda profile: profile.name == "6.12")(new)
    assert not both(since(6, 12), lambda profile: True)(old)
    assert pickle.loads(pickle.dumps(until(6, 12)))(old)


def test_an_unknown_kernel() -> None:
    known = r"6\.12, 6\.1, 7\.0, 6\.12-deb12, 6\.12-cma, 7\.0\.0"
    with pytest.raises(ValueError, match=rf"unknown kernel '2\.4' \(known: {known}\)"):
        load_profile("2.4")


@pytest.mark.parametrize("name", PROFILES)
def test_machines_of_all_kernels_work(boot: Callable[..., Kernel], name: str) -> None:
    kernel = boot(ram="1G", swap="256M", cpus=2, seed=1, profile=name)
    task = kernel.spawn("hog")
    addr = task.mmap("32M")
    task.touch(addr, "32M", write=True)
    task.madvise(addr, 32 * MB, 21)  # MADV_PAGEOUT
    kernel.write("/sys/kernel/mm/lru_gen/enabled", "y")
    kernel.run_for(5.0)
    task.touch(addr, "32M")
    kernel.write("/sys/kernel/mm/lru_gen/enabled", "n")
    kernel.run_for(5.0)
    assert kernel.profile.release.encode() in kernel.read("/proc/version")
    again = pickle.loads(pickle.dumps(kernel))
    assert again.read("/proc/vmstat") == kernel.read("/proc/vmstat")
    again.run_for(1.0)


def grow(task: Task) -> str:
    """Take memory step by step until the task is killed; the label of the real kernel's last row."""
    for had in range(0, 800, 16):
        try:
            task.touch(task.mmap("16M"), "16M", write=True)
        except TaskKilled:
            return f"end_sig9_at_{had}MB"
    raise AssertionError("nobody killed it")


@pytest.mark.slow  # minutes uncompiled: all of a machine is touched
@pytest.mark.parametrize("name", ["noswap", "swap"])
def test_growth_ends_as_on_a_real_6_1(boot: Callable[..., Kernel], name: str) -> None:
    """Killed at the same step, with as much swapped out; a tenth more or less is scanned for it."""
    with (CURVES / f"anon_growth_{name}.tsv").open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    theirs = {key: int(rows[-1][key]) - int(rows[0][key]) for key in rows[0] if key.startswith(("pg", "psw", "oom"))}
    kernel = boot(ram="512M", swap="256M" if name == "swap" else None, cpus=2, seed=3, preset="bare", profile="6.1")
    parent = kernel.spawn("probe", oom_score_adj=-1000)
    child = parent.fork()
    child.oom_score_adj = 0
    before = kernel.vmstat.event.copy()
    assert grow(child) == rows[-1]["label"]

    def event(key: str) -> int:
        from mmfs.mm_types import VmEventItem

        return int((kernel.vmstat.event - before)[VmEventItem[key.upper()]])

    assert event("oom_kill") == theirs["oom_kill"] == 1
    assert event("pswpout") == pytest.approx(theirs["pswpout"], abs=64)
    assert event("pgfault") == pytest.approx(theirs["pgfault"], rel=0.01)
    if name == "swap":
        scanned, real = (sum(of(f"pgscan_{who}") for who in ("kswapd", "direct")) for of in (event, theirs.__getitem__))
        assert scanned == pytest.approx(real, rel=0.15)


@pytest.mark.slow  # a machine of each kernel
def test_the_document_says_what_differs() -> None:
    """docs/profiles.md is what scripts/profiles writes."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, root / "scripts/profiles.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
