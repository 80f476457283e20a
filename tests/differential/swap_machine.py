"""A machine of 1 GB whose swap disk seeks or does not, simulated or the guest of an agent, for tests of huge pages."""

from __future__ import annotations

import pytest

from tests.cgroup_v2.machine import Linux, Machine, Simulated

MEMORY_MB = 1024


def swap(machine: Machine, *, seeks: bool) -> None:
    """The swap disk anew, as one that seeks, or as one that does not."""
    machine.swapoff("/dev/vdb")
    machine.write("/sys/block/vdb/queue/rotational", int(seeks))
    machine.swapon("/dev/vdb")


def made_for(request: pytest.FixtureRequest, *, seeks: bool) -> Machine:
    """The machine that a fixture's parameter names, with a cgroup `a`."""
    simulated = request.param == "simulated"
    made = Simulated(memory_mb=MEMORY_MB) if simulated else Linux(request.getfixturevalue("agent"))
    made.enable("memory")
    made.make("a")
    swap(made, seeks=seeks)
    return made
