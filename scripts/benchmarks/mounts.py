"""File systems to read from: mmfs, a bare mfusepy, lxcfs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import HERE, ROOT, Unavailable, scratch


@dataclass(frozen=True)
class Mount:
    """A mounted file system and the process that answers."""

    path: Path
    pid: int


def why_not() -> str | None:
    """Why nothing can be mounted here."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is missing or not ours"
    return None if shutil.which("fusermount3") else "fusermount3 is missing (scripts/setup)"


@contextmanager
def mounted(name: str, probe: str, *command: str) -> Iterator[Mount]:
    """Run a daemon on a new directory (`{}`) and wait until `probe` is there."""
    if reason := why_not():
        raise Unavailable(reason)
    path = scratch() / f"mount-{name}"
    path.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    daemon = subprocess.Popen(
        [word.replace("{}", str(path)) for word in command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 20
        while not (path / probe).exists():
            if daemon.poll() is not None or time.monotonic() > deadline:
                assert daemon.stderr
                said = "" if daemon.poll() is None else daemon.stderr.read().decode(errors="replace").strip()
                raise Unavailable(f"{name} did not mount: {said or 'no answer'}")
            time.sleep(0.02)
        yield Mount(path, daemon.pid)
    finally:
        subprocess.run(["fusermount3", "-uz", str(path)], stderr=subprocess.DEVNULL, check=False)
        daemon.terminate()
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()


def mmfs(*options: str) -> list[str]:
    """The command line of `mmfs` in this environment."""
    return [sys.executable, "-m", "mmfs", *options]


@contextmanager
def mmfs_mount(*options: str, name: str = "mmfs") -> Iterator[Mount]:
    """A simulated machine."""
    with mounted(name, "proc/meminfo", *mmfs("mount", "--foreground", *options, "{}")) as mount:
        yield mount


@contextmanager
def bare_mount(size: int) -> Iterator[Mount]:
    """One constant file of `size` bytes on mfusepy."""
    with mounted("bare", "meminfo", sys.executable, str(HERE / "bare_fuse.py"), "{}", str(size)) as mount:
        yield mount


@contextmanager
def lxcfs_mount() -> Iterator[Mount]:
    """lxcfs on a directory of its own."""
    lxcfs = shutil.which("lxcfs") or shutil.which("lxcfs", path="/usr/sbin:/sbin")
    if lxcfs is None:
        raise Unavailable("lxcfs is not installed (scripts/setup --bench)")
    if os.geteuid():
        raise Unavailable("lxcfs needs root")
    with mounted("lxcfs", "proc/meminfo", lxcfs, "-f", "-p", str(scratch() / "lxcfs.pid"), "{}") as mount:
        yield mount
