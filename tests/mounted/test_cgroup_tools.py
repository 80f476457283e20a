"""What manages cgroups on a real machine does so on a mount: cgroup-tools, directories as container runtimes make them.

cgroup-tools look for a line of cgroup2 in /proc/mounts, which in `mmfs run` is the host's, with one for the machine's.
systemd-cgls and systemd-cgtop ask for the file system's magic number, which `mmfs run` answers. cgexec moves itself,
and a real process is not one of the machine's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mounted.machines import MMFS, Machine, Machines, Result, call, need, wait_until

pytestmark = pytest.mark.mounted


@pytest.fixture
def machine(machines: Machines) -> Machine:
    return machines.mount("--ram", "512M", "--swap", "256M", "--preset", "server")


@pytest.fixture
def run(machine: Machine) -> Callable[..., Result]:
    """Run a command in `mmfs run`."""

    def run(*command: str) -> Result:
        return call(*MMFS, "run", "--mount", str(machine.path), "--", *command)

    if " /sys/fs/cgroup cgroup2 " not in run("cat", "/proc/mounts").stdout:
        pytest.skip("the host has no cgroup2 at /sys/fs/cgroup, and it may not be mounted")
    return run


def test_cgroup_tools(machine: Machine, run: Callable[..., Result]) -> None:
    """cgcreate, cgset, cgget, lscgroup and cgdelete."""
    need("cgcreate")
    assert run("cgcreate", "-g", "memory,pids:/web").returncode == 0
    assert machine.read("sys/fs/cgroup/web/memory.max") == "max\n"
    assert run("cgset", "-r", "memory.max=64M", "-r", "pids.max=50", "web").returncode == 0
    assert machine.read("sys/fs/cgroup/web/memory.max") == f"{64 << 20}\n"
    got = run("cgget", "-r", "memory.max", "-r", "pids.max", "web")
    assert got.stdout.split() == ["web:", "memory.max:", str(64 << 20), "pids.max:", "50"], got
    listed = {line.rpartition(":")[2].rstrip("/") for line in run("lscgroup").stdout.splitlines()}
    top = machine.path / "sys/fs/cgroup"
    assert listed == {"", *("/" + str(Path(path).relative_to(top)) for path, _, _ in os.walk(top) if path != str(top))}
    assert run("cgset", "-r", "memory.max=-5", "web").returncode != 0
    assert run("cgdelete", "-g", "memory,pids:/web").returncode == 0
    assert not (top / "web").exists()


def test_systemds_tools(machine: Machine) -> None:
    """systemd-cgls draws the tree with its processes, systemd-cgtop has a row with the memory of each cgroup."""
    need("systemd-cgls")
    if machine.output("stat", "-f", "-c", "%T", "/sys/fs/cgroup") != "cgroup2fs\n":
        pytest.skip("this kernel hands no system calls over (seccomp user notification)")
    tree = machine.output("systemd-cgls", "--no-pager")
    assert "system.slice" in tree and "cron.service" in tree and "/usr/sbin/cron -f" in tree
    lines = machine.output("systemd-cgtop", "--batch", "-n", "1").splitlines()
    rows = {row[0]: row[1:] for row in map(str.split, lines)}
    assert {"init.scope", "system.slice", "system.slice/cron.service"} <= rows.keys()
    used = int(machine.read("sys/fs/cgroup/system.slice/cron.service/memory.current"))
    assert rows["system.slice/cron.service"][2] == f"{used / 1024:.1f}K"


RUNTIME = """
import errno, os, pathlib, select, sys

top = pathlib.Path("/sys/fs/cgroup")

def enable(group):
    wanted = {"memory", "pids", "cpuset"}
    have = set((group / "cgroup.controllers").read_text().split())
    (group / "cgroup.subtree_control").write_text(" ".join("+" + name for name in sorted(wanted & have)))

path = top
for name in ("machine.slice", "libpod-1.scope", "container"):
    enable(path)
    path = path / name
    path.mkdir()
for name, value in {"memory.max": 256 << 20, "memory.low": 64 << 20, "memory.swap.max": 0, "pids.max": 100}.items():
    (path / name).write_text(str(value))
    assert (path / name).read_text() == f"{value}\\n"
(path / "memory.oom.group").write_text("1")
try:
    (path.parent / "cgroup.procs").write_text("1")
except OSError as error:
    print(errno.errorcode[error.errno])
(path / "cgroup.procs").write_text(sys.argv[1])
print(*pathlib.Path("/proc", sys.argv[1], "cgroup").read_text().split())
events = open(path / "cgroup.events", "rb", buffering=0)
events.read()
waiting = select.poll()
waiting.register(events, select.POLLPRI)
(path / "cgroup.kill").write_text("1")
assert waiting.poll(10_000)
events.seek(0)
print(events.read().decode().split()[1])
path.rmdir()
path.parent.rmdir()
print((top / "machine.slice/cgroup.stat").read_text().splitlines()[0])
"""


def test_a_container_runtime(machine: Machine) -> None:
    """Directories as crun makes them: controllers from the top down, limits, a process, cgroup.kill, poll(2), rmdir."""
    (machine.path / "sim/control").write_text("spawn worker")
    pid = next(
        name
        for name in sorted(filter(str.isdigit, os.listdir(machine.path / "proc")), key=int, reverse=True)
        if machine.read(f"proc/{name}/comm") == "worker\n"
    )
    done = machine.run(sys.executable, "-c", RUNTIME, pid)
    assert done.stdout.splitlines() == [
        "EBUSY", "0::/machine.slice/libpod-1.scope/container", "0", "nr_descendants 0"
    ], done  # fmt: skip
    assert wait_until(lambda: not (machine.path / "proc" / pid).exists())


def test_psutil(machine: Machine) -> None:
    """psutil finds the machine's processes, and /proc/PID/cgroup leads to their limits."""
    pytest.importorskip("psutil")
    program = """
import pathlib, psutil
for process in psutil.process_iter(["name"]):
    path = pathlib.Path("/proc", str(process.pid), "cgroup")
    group = path.read_text().strip().partition("::")[2]
    assert (pathlib.Path("/sys/fs/cgroup") / group.lstrip("/") / "cgroup.procs").exists(), group
print(sum(1 for _ in psutil.process_iter()))
"""
    done = machine.run(sys.executable, "-c", program)
    assert done.returncode == 0 and int(done.stdout) > 50, done
