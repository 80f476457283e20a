"""mmfs ctl and translate on a mounted machine: system calls by their names, answers from the same open file."""

from __future__ import annotations

import os

import pytest

from tests.mounted.machines import Machines, mmfs, wait_until

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


def test_the_dead_are_gone_at_once(machines: Machines) -> None:
    """The host's kernel keeps names and attributes of processes; it hears of changes before the writer goes on."""
    machine = machines.mount(*BARE)
    control = os.open(machine.path / "sim/control", os.O_RDWR)

    def ctl(command: str) -> str:
        os.write(control, command.encode())
        return os.pread(control, 4096, 0).decode().strip()

    parent = int(ctl("spawn parent uid=1234"))
    for _ in range(20):
        pid = int(ctl(f"fork {parent}"))
        directory = machine.path / "proc" / str(pid)
        for _ in range(3):
            assert (directory / "stat").read_text().startswith(f"{pid} (parent)")
            assert directory.stat().st_uid == (directory / "maps").stat().st_uid == 1234
            assert not (directory / "ctty").exists()
        inside = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        opened = os.open(directory / "status", os.O_RDONLY)
        ctl(f"kill {pid} 9")
        assert (directory.stat().st_uid, (directory / "maps").stat().st_uid) == (1234, os.geteuid()), "a zombie"
        ctl(f"wait {parent} {pid}")
        assert not directory.exists()
        with pytest.raises(FileNotFoundError):
            (directory / "stat").read_text()
        with pytest.raises(FileNotFoundError):
            os.open("stat", os.O_RDONLY, dir_fd=inside)
        with pytest.raises(ProcessLookupError):
            os.read(opened, 100)
        os.close(opened)
        os.close(inside)
    assert (machine.path / "proc" / str(parent)).exists()
    os.close(control)


def test_who_dies_by_himself_is_gone(machines: Machines) -> None:
    """The same when simulated time kills: the ticker says so."""
    machine = machines.mount("--ram", "512M", "--preset", "bare", "--seed", "1")
    pid = int(mmfs("ctl", str(machine.path), "spawn", "leak", "anon=400M/s").stdout)
    directory = machine.path / "proc" / str(pid)

    def dead() -> bool:
        return not directory.exists()

    assert not dead()
    assert wait_until(dead, 30)
    assert str(pid) not in os.listdir(machine.path / "proc")
