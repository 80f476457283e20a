"""mmfs ctl and translate on a mounted machine: system calls by their names, answers from the same open file."""

from __future__ import annotations

import pytest

from tests.mounted.machines import Machines, mmfs

pytestmark = pytest.mark.mounted

BARE = ("--ram", "512M", "--preset", "bare", "--seed", "1", "--clock", "manual")


def test_a_process_comes_and_goes(machines: Machines) -> None:
    """spawn, mmap, touch, kill; the files follow."""
    machine = machines.mount(*BARE)
    before = machine.meminfo()

    def ctl(command: str) -> str:
        result = mmfs("ctl", str(machine.path), *command.split())
        assert (result.returncode, result.stderr) == (0, ""), result
        return result.stdout

    pid = int(ctl("spawn hog").split()[-1])
    assert pid in machine.pids()
    assert machine.status(pid)["Name"] == "hog\n".strip()
    resident = machine.status_kb(pid, "VmRSS")
    address = int(ctl(f"mmap {pid} 64M").split()[-1], 0)
    ctl(f"touch {pid} {address:#x} 64M write")
    assert machine.status_kb(pid, "VmRSS") - resident == 64 << 10
    after = machine.meminfo()
    assert after["AnonPages"] - before["AnonPages"] >= 64 << 10
    assert before["MemFree"] - after["MemFree"] >= 60 << 10  # some came from per-CPU lists, which are not free memory

    walk = mmfs("translate", "--mount", str(machine.path), str(pid), hex(address))
    assert walk.returncode == 0, walk
    assert "PGD" in walk.stdout
    assert "frame" in walk.stdout

    ctl(f"kill {pid} 9")
    assert machine.meminfo()["AnonPages"] < before["AnonPages"] + 1024
    ctl("check")


@pytest.mark.parametrize("command", ["dance", "spawn", "touch 999999 0x1000 1M", "mmap 1 lots", "kill 999999 9"])
def test_refusals(machines: Machines, command: str) -> None:
    """A bad command is one line with the reason, exit status 1; the machine lives on."""
    machine = machines.mount(*BARE)
    result = mmfs("ctl", str(machine.path), *command.split())
    assert result.returncode == 1, result
    assert result.stdout == ""
    assert result.stderr.startswith("mmfs ctl: ")
    assert result.stderr.count("\n") == 1
    assert machine.read("proc/meminfo")


def test_translate_refused(machines: Machines) -> None:
    """A pid that nobody has."""
    machine = machines.mount(*BARE)
    result = mmfs("translate", "--mount", str(machine.path), "999999", "0x1000")
    assert result.returncode == 1
    assert "999999" in result.stderr
