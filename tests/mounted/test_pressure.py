"""Pressure through a mount: poll(2) on a trigger wakes when tasks stall, and whoever waits there is no one's signal."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from tests.mounted.machines import Machines

pytestmark = pytest.mark.mounted

SMALL = ("--ram", "256M", "--swap", "512M", "--preset", "bare", "--seed", "1", "--clock", "manual")
SIGTERM_MASK = 1 << 14


def blocked(thread: Path) -> int:
    """The signals that a thread of the host blocks."""
    lines = (thread / "status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("SigBlk")), 16)


def test_poll_wakes_when_a_leak_stalls(machines: Machines) -> None:
    machine = machines.mount(*SMALL)
    trigger = os.open(machine.path / "proc/pressure/memory", os.O_RDWR)
    try:
        os.write(trigger, b"some 20000 1000000\n")
        poller = select.poll()
        poller.register(trigger, select.POLLPRI)
        assert poller.poll(50) == []
        (machine.path / "sim/clock").write_text("step 2s")
        assert poller.poll(50) == [], "nothing stalls yet"
        (machine.path / "sim/control").write_text("spawn leak anon=200M/s")
        for _ in range(10):
            (machine.path / "sim/clock").write_text("step 500ms")
            if events := poller.poll(100):
                break
        assert events == [(trigger, select.POLLPRI)]
        assert "total=0" not in machine.read("proc/pressure/memory").splitlines()[0]
        threads = list(Path(f"/proc/{machine.daemon}/task").iterdir())
        assert len(threads) > 1
        assert [int(thread.name) for thread in threads if not blocked(thread) & SIGTERM_MASK] == [machine.daemon]
    finally:
        os.close(trigger)
