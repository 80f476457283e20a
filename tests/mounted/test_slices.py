"""Writes to sim/ that take long: others are served meanwhile, and a signal to the writer ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.mounted.machines import Machine, Machines

pytestmark = pytest.mark.mounted

BARE = ("--ram", "1T", "--preset", "bare", "--seed", "1", "--clock", "manual")
WRITE = "import os, sys; os.write(os.open(sys.argv[1], os.O_WRONLY), sys.argv[2].encode())"
LONGEST_READ = 0.25
"""Seconds; a slice is a millisecond, the rest is for other tests that run beside this one."""


@contextmanager
def writing(machine: Machine, file: str, text: str) -> Iterator[subprocess.Popen[str]]:
    """Write from a process of its own, which has begun."""
    command = [sys.executable, "-c", WRITE, str(machine.path / file), text]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def control(machine: Machine, command: str) -> str:
    """A command and its answer."""
    descriptor = os.open(machine.path / "sim/control", os.O_RDWR)
    try:
        os.write(descriptor, command.encode())
        return os.pread(descriptor, 65536, 0).decode().strip()
    finally:
        os.close(descriptor)


def uptime(machine: Machine) -> float:
    return float(machine.read("proc/uptime").split()[0])


def hog(machine: Machine) -> tuple[int, str]:
    """A process and half a terabyte for it to touch."""
    pid = int(control(machine, "spawn hog"))
    return pid, control(machine, f"mmap {pid} 512G")


def reads_while(machine: Machine, process: subprocess.Popen[str], moving: list[float], sample: object) -> None:
    """Read until what the write changes has been seen at five values; each read is short."""
    assert callable(sample)
    deadline = time.monotonic() + 30
    while len(set(moving)) < 5:
        assert process.poll() is None, "too short to see anything"
        assert time.monotonic() < deadline, moving
        begin = time.monotonic()
        moving.append(sample())
        assert time.monotonic() - begin < LONGEST_READ


def test_a_long_touch_lets_others_read(machines: Machines) -> None:
    machine = machines.mount(*BARE)
    pid, address = hog(machine)
    seen: list[float] = []
    with writing(machine, "sim/control", f"touch {pid} {address} 512G write") as process:
        reads_while(machine, process, seen, lambda: machine.meminfo()["MemFree"])
        assert seen == sorted(seen, reverse=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) != 0
    touched = machine.status_kb(pid, "VmRSS")
    assert 0 < touched < 512 << 20
    assert control(machine, "check") == "ok"
    assert machine.status_kb(pid, "VmRSS") == touched


@pytest.mark.parametrize(
    ("command", "field"),
    [
        ("mlock {pid} {address} 512G", "Mlocked"),
        ("munmap {pid} {address} 512G", "AnonPages"),
        ("mmap {pid} 512G flags=private,anonymous,populate", "AnonPages"),
        ("read {pid} /data/large", "Cached"),
        ("write {pid} /data/new 0 512G", "Cached"),
    ],
)
def test_other_long_calls_let_others_read(machines: Machines, command: str, field: str) -> None:
    """Each works on half a terabyte; a reader sees it get on, and ^C ends it with the model in order."""
    machine = machines.mount(*BARE)
    pid, address = hog(machine)
    if command.startswith("munmap"):
        control(machine, f"touch {pid} {address} 512G write")
    control(machine, "create /data/large 512G")
    before = machine.meminfo()[field]
    seen: list[float] = []
    with writing(machine, "sim/control", command.format(pid=pid, address=address)) as process:
        reads_while(machine, process, seen, lambda: machine.meminfo()[field])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) != 0
    assert seen == sorted(seen, reverse=command.startswith("munmap"))
    now = machine.meminfo()[field]
    assert now != before and abs(now - before) < 512 << 20
    assert control(machine, "check") == "ok"
    assert machine.meminfo()[field] == now


def test_a_long_step_lets_others_read(machines: Machines) -> None:
    machine = machines.mount("--ram", "1G", "--seed", "1", "--clock", "manual")
    seen: list[float] = []
    with writing(machine, "sim/clock", "step 9000h") as process:
        reads_while(machine, process, seen, lambda: uptime(machine))
        assert seen == sorted(seen)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    stopped = uptime(machine)
    assert stopped < 9000 * 3600
    assert uptime(machine) == stopped


def test_a_write_returns_when_it_is_done(machines: Machines) -> None:
    """Longer than a slice, and in the order in which one caller asks."""
    machine = machines.mount("--ram", "1G", "--seed", "1", "--clock", "manual")
    before = uptime(machine)
    (machine.path / "sim/clock").write_text("step 2h")
    assert uptime(machine) == pytest.approx(before + 7200, abs=0.01)
    pid = int(control(machine, "spawn hog anon=256M"))
    assert machine.status_kb(pid, "VmRSS") > 256 << 10
    address = control(machine, f"mmap {pid} 256M")
    control(machine, f"touch {pid} {address} 256M write")
    assert machine.status_kb(pid, "VmRSS") > 512 << 10


def test_two_at_once(machines: Machines) -> None:
    """They take turns, and both are done."""
    machine = machines.mount("--ram", "16G", "--preset", "bare", "--seed", "1", "--clock", "manual")
    pid = int(control(machine, "spawn hog"))
    address = control(machine, f"mmap {pid} 8G")
    before = uptime(machine)
    with (
        writing(machine, "sim/clock", "step 5h") as step,
        writing(machine, "sim/control", f"touch {pid} {address} 8G write") as touch,
    ):
        assert (step.wait(60), touch.wait(60)) == (0, 0)
    assert 0 <= uptime(machine) - before - 5 * 3600 < 1  # the rest of the touch takes its time
    assert machine.status_kb(pid, "VmRSS") > 8 << 20
    assert control(machine, "check") == "ok"


READ = "import sys\nwhile True: open(sys.argv[1]).read()"


def test_a_reader_without_pause_lets_writes_through(machines: Machines) -> None:
    """Who reads goes first, but not for ever; and what is written is done in order."""
    machine = machines.mount("--ram", "512M", "--preset", "bare", "--seed", "1", "--clock", "manual")
    pid = int(control(machine, "spawn writer"))
    address = int(control(machine, f"mmap {pid} 64M"), 0)
    with subprocess.Popen([sys.executable, "-c", READ, str(machine.path / "proc/meminfo")]) as reader:
        for page in range(256):
            before = machine.status_kb(pid, "VmRSS")
            control(machine, f"touch {pid} {address + page * 4096:#x} 4K write")
            assert machine.status_kb(pid, "VmRSS") == before + 4
        assert reader.poll() is None
        reader.kill()
    assert control(machine, "check") == "ok"
