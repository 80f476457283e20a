"""Cgroups through a mount: made with mkdir(1), delegated with chown(1), labelled, and polled for events."""

from __future__ import annotations

import ctypes
import os
import select
from pathlib import Path

import pytest

from tests.mounted.machines import Machines, mmfs

pytestmark = pytest.mark.mounted


def test_cgroups(machines: Machines) -> None:
    machine = machines.mount("--ram", "256M", "--preset", "bare", "--clock", "manual")
    top = machine.path / "sys/fs/cgroup"
    (top / "cgroup.subtree_control").write_text("+pids")
    group = top / "job"
    group.mkdir()
    assert (group / "pids.max").read_text() == "max\n"
    os.setxattr(group, "user.invocation_id", b"42")
    assert os.listxattr(group) == ["user.invocation_id"] and os.getxattr(group, "user.invocation_id") == b"42"
    (group / "cgroup.procs").chmod(0o664)
    assert (group / "cgroup.procs").stat().st_mode & 0o777 == 0o664
    with open(group / "cgroup.events", "rb", buffering=0) as events:
        assert events.read() == b"populated 0\nfrozen 0\n"
        waiting = select.poll()
        waiting.register(events, select.POLLPRI)
        assert waiting.poll(100) == []
        assert mmfs("ctl", str(machine.path), "spawn", "worker", "cgroup=/job").returncode == 0
        ((_, mask),) = waiting.poll(5000)
        assert mask & select.POLLPRI
        events.seek(0)
        assert events.read() == b"populated 1\nfrozen 0\n"
        assert waiting.poll(100) == []
    (group / "cgroup.kill").write_text("1")
    assert (group / "cgroup.events").read_text().startswith("populated 0")
    group.rmdir()


IN_MODIFY = 2


def watch(path: Path) -> int:
    """An inotify descriptor."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert libc.inotify_add_watch(descriptor, os.fsencode(path), IN_MODIFY) >= 0, os.strerror(ctypes.get_errno())
    return int(descriptor)


def test_events_raise_inotify(machines: Machines) -> None:
    machine = machines.mount("--ram", "256M", "--preset", "bare", "--clock", "manual")
    group = machine.path / "sys/fs/cgroup/with space"
    group.mkdir()
    descriptor = watch(group / "cgroup.events")
    try:
        assert select.select([descriptor], [], [], 0.2)[0] == []
        (group / "cgroup.freeze").write_text("1")
        assert select.select([descriptor], [], [], 10)[0], "no IN_MODIFY"
        assert int.from_bytes(os.read(descriptor, 4096)[4:8], "little") == IN_MODIFY
    finally:
        os.close(descriptor)


def test_swap_events_raise_inotify(machines: Machines) -> None:
    """`max` and `fail` of memory.swap.events, which the loops of reclaim count."""
    machine = machines.mount("--ram", "256M", "--swap", "128M", "--preset", "bare", "--clock", "manual")
    (machine.path / "sys/kernel/mm/lru_gen/enabled").write_text("n")
    top = machine.path / "sys/fs/cgroup"
    (top / "cgroup.subtree_control").write_text("+memory")
    group = top / "job"
    group.mkdir()
    (group / "memory.max").write_text("8M")
    (group / "memory.swap.max").write_text("2M")
    events = group / "memory.swap.events"
    assert events.read_text() == "high 0\nmax 0\nfail 0\n"
    descriptor = watch(events)
    try:
        assert mmfs("ctl", str(machine.path), "spawn", "leak", "anon=16M/s", "cgroup=/job").returncode == 0
        (machine.path / "sim/clock").write_text("step 2s")
        assert select.select([descriptor], [], [], 10)[0], "no IN_MODIFY"
        rows = dict(line.split() for line in events.read_text().splitlines())
        assert int(rows["fail"]) >= int(rows["max"]) > 0
    finally:
        os.close(descriptor)
