"""The same seed and the same calls give the same bytes: every file of the tree, in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LIVES = Path(__file__).with_name("lives.py")
ROOT = LIVES.parent.parent.parent


def digests(seed: int, **environment: str) -> list[tuple[str, str]]:
    """What a process of its own says of every file, in the order of the listings."""
    environ = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    ran = subprocess.run([sys.executable, LIVES, str(seed)], env=environ, capture_output=True, check=True, text=True)
    said: dict[str, str] = json.loads(ran.stdout)
    return list(said.items())


def differing(one: list[tuple[str, str]], other: list[tuple[str, str]]) -> list[str]:
    """Paths that only one has, or with other content."""
    return sorted({path for path, _ in set(one) ^ set(other)})


@pytest.fixture(scope="module")
def first() -> list[tuple[str, str]]:
    return digests(1, PYTHONHASHSEED="1")


def test_same_seed(first: list[tuple[str, str]]) -> None:
    """Under another seed of Python's hashes, in another time zone, after another amount of memory use."""
    again = digests(1, PYTHONHASHSEED="4242", TZ="Asia/Kolkata", PYTHONMALLOC="malloc")
    assert differing(first, again) == []
    assert again == first  # the order of listings too


def test_another_seed(first: list[tuple[str, str]]) -> None:
    """What the seed decides: addresses and what follows from them; the hardware does not depend on it."""
    different = differing(first, digests(2))
    assert {"/proc/1/maps", "/proc/1/stat", "/proc/iomem"} <= set(different)
    assert not {"/proc/cpuinfo", "/proc/cmdline", "/proc/sys/vm/min_free_kbytes"} & set(different)


@pytest.mark.slow
def test_uncompiled(first: list[tuple[str, str]], compiled: bool) -> None:
    """The fast path as machine code and as Python is one program."""
    if not compiled:
        pytest.skip("the fast path is not compiled")
    assert differing(first, digests(1, MMFS_PURE="1")) == []
