"""Slab caches of arm64 with pages of 64 KB: what /sys/kernel/slab told of each, and which share one."""

from __future__ import annotations

import csv

import pytest

from mmfs.kernel.kernel import Kernel
from tests.golden.captures import CAPTURES

MACHINE = CAPTURES / "2G-arm64-64k"


def rows(name: str) -> list[dict[str, str]]:
    with (MACHINE / name).open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


CACHES = rows("slab.tsv")
LINKS = [tuple(line.split()) for line in (MACHINE / "slab-links.tsv").read_text().splitlines()]
FILES = [name for name in CACHES[0] if name not in ("name",)]


def test_directories(captured_machine: Kernel) -> None:
    """Caches that are merged have a directory of letters and sizes, and a link each."""
    names = {row["name"] for row in CACHES} | {name for name, _ in LINKS}
    assert set(captured_machine.listdir("/sys/kernel/slab")) == names


@pytest.mark.parametrize("row", CACHES, ids=lambda row: row["name"])
def test_attributes(captured_machine: Kernel, row: dict[str, str]) -> None:
    path = f"/sys/kernel/slab/{row['name']}"
    ours = {name: captured_machine.read(f"{path}/{name}").decode().rstrip("\n") for name in FILES}
    assert ours == {name: row[name] for name in FILES}


def test_links(captured_machine: Kernel) -> None:
    ours = {name: captured_machine.vfs.readlink(f"/sys/kernel/slab/{name}") for name, _ in LINKS}
    assert ours == dict(LINKS)
