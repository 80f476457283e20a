"""Tests of arm64-64k run in a Python that has pages of 64 KB: MMFS_PAGE_SIZE=64K."""

from __future__ import annotations

from pathlib import Path

import pytest

import mmfs
from mmfs.kernel.kernel import Kernel
from mmfs.mm_types import PAGE_SHIFT
from tests.golden.captures import MACHINES

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In any other Python they are skipped."""
    for item in items:
        if PAGE_SHIFT == 12 and item.path.parent == HERE and item.path.name != "test_command.py":
            item.add_marker(pytest.mark.skip(reason="needs pages of 64 KB: MMFS_PAGE_SIZE=64K"))


@pytest.fixture(scope="module")
def captured_machine() -> Kernel:
    """The machine of tests/golden/captures/2G-arm64-64k as ours boots."""
    return mmfs.boot(**MACHINES["2G-arm64-64k"], preset="bare")  # type: ignore[arg-type]
