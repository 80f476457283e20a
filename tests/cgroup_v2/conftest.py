"""The statements are played on a simulated machine and, marked `differential`, on a real Linux 6.12."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cgroup_v2.machine import Linux, Machine, Simulated
from tests.differential.agent import Agent

BOTH = ["simulated", pytest.param("linux", marks=pytest.mark.differential)]


@pytest.fixture(scope="session")
def agent() -> Iterator[Agent]:
    agent = Agent()
    yield agent
    agent.close()


@pytest.fixture(scope="session")
def agent_with_nodes() -> Iterator[Agent]:
    agent = Agent(nr_nodes=2)
    yield agent
    agent.close()


@pytest.fixture(params=BOTH)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine of 512 MB with two CPUs, 256 MB of swap, and /data/f and /data/g of 64 MB, not cached."""
    made = Simulated() if request.param == "simulated" else Linux(request.getfixturevalue("agent"))
    yield made
    made.close()


@pytest.fixture(params=BOTH)
def machine_with_nodes(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The same with two nodes, a CPU and half of the memory in each."""
    simulated = request.param == "simulated"
    made = Simulated(nr_nodes=2) if simulated else Linux(request.getfixturevalue("agent_with_nodes"))
    yield made
    made.close()
