"""Machines that are mounted for the tests, and what runs on them: all by the command line, as a user does it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mmfs.mount.mounts import daemon_pids, mount_at, unmount

ROOT = Path(__file__).resolve().parents[2]
MMFS = (sys.executable, "-m", "mmfs")
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    "PYTHONDONTWRITEBYTECODE": "",  # as installed: modules are compiled once
    "PYTHONPYCACHEPREFIX": f"{tempfile.gettempdir()}/pycache-mmfs-tests-{os.geteuid()}",
    "LC_ALL": "C.UTF-8",
    "TERM": "xterm",
    "COLUMNS": "200",
}

Result = subprocess.CompletedProcess[str]


def call(*command: str, timeout: float = 60, env: dict[str, str] | None = None, **options: Any) -> Result:
    """Run a command to its end."""
    env = {**ENVIRONMENT, **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env, check=False, **options)


def mmfs(*arguments: str, **options: Any) -> Result:
    """Run the command line in a process of its own."""
    return call(*MMFS, *arguments, **options)


def wait_until(condition: Callable[[], object], seconds: float = 5) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while not (result := bool(condition())) and time.monotonic() < end:
        time.sleep(0.02)
    return result


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Machine:
    """A mounted machine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, path: str) -> str:
        """A file of the mount."""
        return (self.path / path.lstrip("/")).read_text()

    def run(self, *command: str, **options: Any) -> Result:
        """A command in `mmfs run`."""
        return mmfs("run", "--mount", str(self.path), "--", *command, **options)

    def output(self, *command: str, **options: Any) -> str:
        """What a command prints that must succeed silently."""
        result = self.run(*command, **options)
        assert result.returncode == 0, result
        assert result.stderr == "", result
        return result.stdout

    def meminfo(self, path: str = "proc/meminfo") -> dict[str, int]:
        """Name -> kB."""
        rows = (line.removeprefix("Node ").split() for line in self.read(path).splitlines())
        return {row[-3 if row[-1] == "kB" else -2].rstrip(":"): int(row[-2 if row[-1] == "kB" else -1]) for row in rows}

    def pids(self) -> list[int]:
        """Simulated processes."""
        return sorted(int(name) for name in os.listdir(self.path / "proc") if name.isdigit())

    def status(self, pid: int) -> dict[str, str]:
        """PID/status by name."""
        return dict(line.split(":\t", 1) for line in self.read(f"proc/{pid}/status").splitlines())

    def status_kb(self, pid: int, name: str) -> int:
        """A size in PID/status; kernel threads have none."""
        return int(self.status(pid).get(name, "0 kB").split()[0])

    @property
    def daemon(self) -> int:
        """The daemon's pid."""
        return daemon_pids()[str(self.path)]

    @property
    def mounted(self) -> bool:
        """Whether mountinfo has it."""
        return mount_at(str(self.path)) is not None


class Machines:
    """Mounts as many as a test wants and clears them all away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Machine] = []

    def directory(self) -> Path:
        """An empty directory."""
        path = self.folder / f"machine{len(self.made)}"
        path.mkdir()
        self.made.append(Machine(path))
        return path

    def mount(self, *options: str, path: Path | None = None) -> Machine:
        """Mount one; it has to work without a word."""
        path = path or self.directory()
        result = mmfs("mount", str(path), *options)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", ""), result
        return Machine(path)

    def clear(self) -> None:
        """Unmount what is still there and wait for the daemons' end."""
        pids = daemon_pids()
        for machine in self.made:
            while machine.mounted:
                unmount(str(machine.path), lazy=True)
        ours = {pid for path, pid in pids.items() if path.startswith(str(self.folder))}
        if not wait_until(lambda: not ours & set(daemon_pids().values())):
            for pid in ours & set(daemon_pids().values()):
                os.kill(pid, signal.SIGKILL)


def need(*programs: str) -> None:
    """Skip unless these are installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (scripts/setup --test installs it)")


def columns(text: str, header: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table below the line that holds all words of `header`."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if set(header) <= set(line.split()))
    names = lines[start].split()
    rows = []
    for line in lines[start + 1 :]:
        if not line.strip():
            break
        rows.append(dict(zip(names, line.split(None, len(names) - 1), strict=False)))
    return rows
