"""Calls of the command line inside this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest


class Result(NamedTuple):
    """What a command printed and its exit status."""

    status: int
    out: str
    err: str


@pytest.fixture
def mmfs(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Result]:
    """`mmfs("show", "/proc/meminfo")` runs the command line."""
    from mmfs.cli import main

    def call(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        out, err = capfdbinary.readouterr()
        status = exit.value.code
        assert isinstance(status, int)
        return Result(status, out.decode(), err.decode())

    return call
