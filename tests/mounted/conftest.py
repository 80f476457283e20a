"""Mounts for a test or for all; they are gone when the tests are over, whatever those did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounted.machines import Machine, Machines


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """Mounts for one test."""
    made = Machines(tmp_path)
    yield made
    made.clear()


STILL = ("--ram", "2G", "--swap", "512M", "--cpus", "4", "--nodes", "2", "--seed", "1", "--clock", "manual")


@pytest.fixture(scope="session")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine of two nodes on which no time passes, so that tools and files can be compared."""
    made = Machines(tmp_path_factory.mktemp("still"))
    try:
        machine = made.mount(*STILL)
        control = machine.path / "sim/clock"
        if control.exists():
            control.write_text("step 5s")
        yield machine
    finally:
        made.clear()


@pytest.fixture(scope="session")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine whose time runs."""
    made = Machines(tmp_path_factory.mktemp("lively"))
    try:
        yield made.mount("--ram", "1G", "--swap", "256M", "--cpus", "2", "--seed", "1")
    finally:
        made.clear()
