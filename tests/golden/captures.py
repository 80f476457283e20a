"""Where the captures are: what a real kernel's files said, by machine, snapshot and path.

``captures/MACHINE/SNAPSHOT/{proc,sys}/...`` holds contents, ``MANIFEST.tsv`` beside them type, mode, size
and error of every path of that snapshot. A file that did not change since the snapshot before is not kept
twice, so a path is asked for by machine and the answer is every distinct content.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mmfs.arch import ARCHES, X86_64
from mmfs.mm_types import PAGE_SHIFT

GOLDEN = Path(__file__).parent
CAPTURES = GOLDEN / "captures"

# The machines that were read, as mmfs.boot() makes them; captures/MACHINE/COMMAND is QEMU's view of each.
CMDLINE = "console=ttyS0 psi=1 panic=-1 loglevel=7"
_ALL: dict[str, dict[str, object]] = {
    "512M": {"ram": "512M", "cpus": 2, "swap": "256M", "cmdline": CMDLINE},
    "1G-hugepages": {"ram": "1G", "cpus": 2, "swap": "256M", "cmdline": f"{CMDLINE} hugepages=64"},
    "5G-numa2": {"ram": "5G", "cpus": 2, "swap": "256M", "nodes": ["3G", "2G"], "cmdline": CMDLINE},
    "512M-6.1": {"ram": "512M", "cpus": 2, "swap": "256M", "cmdline": CMDLINE, "profile": "6.1"},
    "512M-7.0": {"ram": "512M", "cpus": 2, "swap": "256M", "cmdline": CMDLINE, "profile": "7.0.0"},
    "2G-686-pae": {
        "ram": "2G", "cpus": 2, "swap": "256M", "cmdline": CMDLINE, "profile": "6.1", "arch": "i386-pae"
    },
    "2G-arm64-64k": {
        "ram": "2G", "cpus": 2, "swap": "256M", "cmdline": "console=ttyAMA0 psi=1 panic=-1 loglevel=3 ",
        "arch": "arm64-64k", "profile": "6.12",
    },
}


def has_our_pages(machine: Mapping[str, object]) -> bool:
    """Whether a machine has pages of the size that this process has; the others are for MMFS_PAGE_SIZE=64K."""
    return ARCHES[str(machine.get("arch", X86_64.name))].page_shift == PAGE_SHIFT


MACHINES = {name: machine for name, machine in _ALL.items() if has_our_pages(machine)}


@dataclass(frozen=True)
class Capture:
    """One file as it was read on a real machine."""

    machine: str
    snapshot: str
    path: str
    data: bytes

    def __str__(self) -> str:
        return f"{self.machine}/{self.snapshot}{self.path}"


@dataclass(frozen=True)
class ManifestRow:
    """What lstat(2), open(2) and read(2) said about one path."""

    path: str
    type: str
    mode: int | None
    st_size: int | None
    error: str | None
    note: str


def snapshots(machine: str) -> list[str]:
    """The snapshots of a machine, in the order they were taken."""
    return sorted(entry.name for entry in (CAPTURES / machine).iterdir() if entry.is_dir())


def captures(path: str, *machines: str) -> Iterator[Capture]:
    """Every distinct content of a path, on all machines or those named."""
    for machine in machines or MACHINES:
        for snapshot in snapshots(machine):
            file = CAPTURES / machine / snapshot / path.lstrip("/")
            if file.is_file():
                yield Capture(machine, snapshot, path, file.read_bytes())


def at_boot(machine: str, path: str) -> bytes:
    """A file as it was right after boot."""
    return (CAPTURES / machine / snapshots(machine)[0] / path.lstrip("/")).read_bytes()


@cache
def manifest(machine: str, snapshot: str) -> dict[str, ManifestRow]:
    """The manifest of a snapshot by path."""
    file = CAPTURES / machine / snapshot / "MANIFEST.tsv"
    rows = {}
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["path"] is None or not row["path"].startswith("/"):
                continue
            kind, mode = row["type"], row["mode"]
            if kind == "LIST":  # an entry of a directory: type and mode in one word
                if row["path"] in rows:
                    continue
                kind, mode = mode[0], mode[1:]
            rows[row["path"]] = ManifestRow(
                path=row["path"],
                type=kind,
                mode=None if mode in ("", "-") else int(mode, 8),
                st_size=None if row["st_size"] == "-" else int(row["st_size"]),
                error=None if row["error"] == "-" else row["error"],
                note=row["note"] or "",
            )
    return rows


def manifests() -> Iterator[tuple[str, str, dict[str, ManifestRow]]]:
    """Every kept manifest: machine, snapshot and rows."""
    for machine in MACHINES:
        for snapshot in snapshots(machine):
            if (CAPTURES / machine / snapshot / "MANIFEST.tsv").is_file():
                yield machine, snapshot, manifest(machine, snapshot)
