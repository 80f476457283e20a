"""damo, the user-space tool of DAMON (`pip install damo`), on a machine.

damo asks a tracefs which tracepoints there are, by its line in /proc/mounts, which in `mmfs run` is the host's, with
one for the machine's. What it finds out about a kernel it keeps in $HOME.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mounted.machines import Machine, Machines, mmfs, wait_until

pytestmark = pytest.mark.mounted

SIZE_MB = 64


@pytest.fixture
def machine(machines: Machines) -> Machine:
    return machines.mount("--ram", "1G", "--swap", "512M", "--seed", "3")


@pytest.fixture
def damo(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run damo in `mmfs run`; what it prints, without colours."""
    found = shutil.which("damo", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("damo is not installed (pip install damo)")
    if " /sys/kernel/tracing tracefs " not in machine.run("cat", "/proc/mounts").stdout:
        pytest.skip("the host has no tracefs at /sys/kernel/tracing, and it may not be mounted")
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(*words: str) -> str:
        result = machine.run(found, *words)
        assert result.returncode == 0, result
        return re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)

    return run


def hog(machine: Machine, *options: str) -> int:
    """A program of so many megabytes."""
    result = mmfs("ctl", str(machine.path), "spawn", "hog", f"anon={SIZE_MB}M", *options)
    assert result.returncode == 0, result
    pid = int(result.stdout.split()[-1])
    assert wait_until(lambda: machine.status_kb(pid, "VmRSS") >= SIZE_MB << 10)
    return pid


def state(machine: Machine) -> str:
    return machine.read("sys/kernel/mm/damon/admin/kdamonds/0/state")


def regions(text: str) -> list[tuple[int, int, int]]:
    """Start, end and nr_accesses of `damo report access --raw_form`."""
    rows = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) \(.*?\)\s+(\d+)\s+\d+$", text, re.MULTILINE)
    return [(int(start, 16), int(end, 16), int(accesses)) for start, end, accesses in rows]


def test_accesses_are_reported(machine: Machine, damo: Callable[..., str]) -> None:
    """start, report access, report damon, stop; what is written again and again is what is hot."""
    pid = hog(machine, "rate=8G")
    damo("start", "--target_pid", str(pid))
    assert state(machine) == "on\n"
    kdamond = int(machine.read("sys/kernel/mm/damon/admin/kdamonds/0/pid"))
    assert machine.status(kdamond)["Name"] == "kdamond.0"

    def hot_mb() -> float:
        found = regions(damo("report", "access", "--raw_form"))
        return sum(end - start for start, end, accesses in found if accesses > 0) / (1 << 20)

    assert wait_until(lambda: 0.8 * SIZE_MB < hot_mb() < 1.2 * SIZE_MB, 30)
    shown = damo("report", "damon")
    assert f"state: on, pid: {kdamond}" in shown
    assert f"pid: {pid}" in shown
    damo("stop")
    assert state(machine) == "off\n"


def test_cold_memory_is_paged_out(machine: Machine, damo: Callable[..., str]) -> None:
    """start with a scheme, tune, statistics."""
    pid = hog(machine)
    damo("start", "--target_pid", str(pid), "--damos_action", "pageout", "--damos_access_rate", "0%", "0%",
         "--damos_age", "1s", "max")  # fmt: skip
    assert wait_until(lambda: machine.status_kb(pid, "VmSwap") > 0.9 * (SIZE_MB << 10), 30)
    assert machine.status_kb(pid, "VmRSS") < SIZE_MB << 8
    assert "action: pageout" in damo("report", "damon")
    damo("tune", "--target_pid", str(pid), "--damos_action", "stat")
    assert machine.read("sys/kernel/mm/damon/admin/kdamonds/0/contexts/0/schemes/0/action") == "stat\n"
    tried = re.search(r"nr_tried: ([\d,]+)", damo("report", "damon", "--damos_stats"))
    assert tried is not None
    assert int(tried[1].replace(",", "")) > 0
    damo("stop")


def test_physical_memory_and_the_module(machine: Machine, damo: Callable[..., str]) -> None:
    """start without a target, lru_sort enable; damo shows neighbours that are alike as one region."""
    damo("start")

    def size() -> int:
        return sum(end - start for start, end, _ in regions(damo("report", "access", "--raw_form")))

    assert wait_until(lambda: size() > 1000 << 20, 30)
    damo("stop")
    damo("lru_sort", "enable")
    assert machine.read("sys/module/damon_lru_sort/parameters/enabled") == "Y\n"
