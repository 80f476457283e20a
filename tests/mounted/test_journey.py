"""A user brings a mounted machine under pressure and watches it with the usual tools until the OOM killer speaks."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
import tomllib
from pathlib import Path

import pytest

from tests.mounted.machines import ROOT, Machine, Machines, columns, need, wait_until

pytestmark = [pytest.mark.mounted, pytest.mark.slow]

SCENARIOS = sorted((ROOT / "docs" / "scenarios").glob("*.toml"))
KILLED = re.compile(
    r"Out of memory: Killed process (\d+) \((\w+)\) total-vm:(\d+)kB, anon-rss:(\d+)kB, file-rss:(\d+)kB, "
    r"shmem-rss:(\d+)kB, UID:0 pgtables:(\d+)kB oom_score_adj:0"
)


def shell(machine: Machine, command: str) -> str:
    """What a shell in the mount's directory prints; the command must succeed."""
    ran = subprocess.run(["bash", "-c", command], cwd=machine.path, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, ""), ran
    return ran.stdout.strip()


def tell(machine: Machine, command: str) -> str:
    """A command to sim/control as its docstring says, with the answer."""
    return shell(machine, f'exec 3<> sim/control; echo "{command}" >&3; cat <&3')


def vmstat(machine: Machine) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in machine.read("proc/vmstat").splitlines())}


def uptime(machine: Machine) -> float:
    return float(machine.read("proc/uptime").split()[0])


def follow(machine: Machine, until: str, seconds: float) -> list[str]:
    """Read dev/kmsg record by record, as `dmesg --follow` does, up to one with these words."""
    said: list[str] = []
    descriptor = os.open(machine.path / "dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end and (not said or until not in said[-1]):
            if poller.poll(200):
                said.append(os.read(descriptor, 8192).decode().partition(";")[2].splitlines()[0])
    finally:
        os.close(descriptor)
    return said


def test_from_a_full_cache_to_the_kill(machines: Machines) -> None:
    need("vmstat", "ps", "free")
    machine = machines.mount("--ram", "512M", "--swap", "128M", "--cpus", "2", "--seed", "1")
    shell(machine, "echo 'spawn cache-reader file=768M rate=250M/s' > sim/control")
    assert wait_until(lambda: machine.meminfo()["Cached"] > 200 << 10, 20)
    rows = columns(machine.output("vmstat", "1", "3"), ["swpd", "cache", "bi"])
    assert len(rows) == 3
    assert all(int(row["bi"]) > 50_000 for row in rows[1:]), rows  # blocks of 1024 bytes, of 250 MB/s; a busy host lags

    shell(machine, "echo pause > sim/clock")
    memory = machine.meminfo()
    (free,) = [row for row in machine.output("free", "-k").splitlines() if row.startswith("Mem:")]
    total, _, unused, shared, cached, available = (int(word) for word in free.split()[1:])
    assert (total, unused, shared) == (memory["MemTotal"], memory["MemFree"], memory["Shmem"])
    assert cached == memory["Buffers"] + memory["Cached"] + memory["SReclaimable"]
    assert available == memory["MemAvailable"]
    assert memory["Cached"] > memory["MemTotal"] // 2
    shell(machine, "echo 3 > proc/sys/vm/drop_caches; echo 200 > proc/sys/vm/swappiness")
    dropped = machine.meminfo()
    assert dropped["Cached"] - dropped["Mapped"] < memory["Cached"] // 10
    assert dropped["MemFree"] - memory["MemFree"] > (memory["Cached"] - memory["Mapped"]) * 9 // 10
    assert machine.read("proc/sys/vm/swappiness") == "200\n" and vmstat(machine)["drop_pagecache"] == 1
    shell(machine, "echo run > sim/clock")

    leak = int(tell(machine, "spawn leak anon=100M/s"))
    assert str(leak) in machine.output("ps", "-C", "leak", "-o", "pid=").split()
    said = follow(machine, "Killed process", 60)
    shell(machine, "echo pause > sim/clock")
    killed = KILLED.fullmatch(said[-1])
    assert killed is not None, said[-3:]
    pid, name, total_vm, anon, file, shmem, pgtables = killed.groups()
    assert (int(pid), name) == (leak, "leak")
    report = said[next(number for number, line in enumerate(said) if "invoked oom-killer" in line) :]
    (row,) = [line.split() for line in report if line.startswith("[") and line.split()[-1] == "leak"]
    pages = [int(word) for word in row[-9:-2]]  # total_vm rss rss_anon rss_file rss_shmem pgtables_bytes swapents
    assert [count << 2 for count in (pages[0], *pages[2:5])] == [int(total_vm), int(anon), int(file), int(shmem)]
    assert pages[1] == sum(pages[2:5]) and pages[5] == int(pgtables) << 10
    (summary,) = [line for line in report if line.startswith("oom-kill:")]
    assert summary.endswith(f",global_oom,task_memcg=/,task=leak,pid={leak},uid=0")

    counters = vmstat(machine)
    assert counters["oom_kill"] == 1 and counters["pswpout"] > 1000 and counters["allocstall_movable"] > 0
    assert machine.run("ps", "-p", pid).returncode == 1
    for kind in ("some", "full"):
        (line,) = [line for line in machine.read("proc/pressure/memory").splitlines() if line.startswith(kind)]
        assert int(line.rpartition("total=")[2]) > 0
    assert tell(machine, "check") == "ok"
    daemon = machine.daemon
    subprocess.run(["umount", machine.path], check=True)
    assert wait_until(lambda: not Path(f"/proc/{daemon}").exists(), 10)


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda path: path.stem)
def test_each_scenario_can_be_mounted(machines: Machines, file: Path) -> None:
    """Its machine is there, and so are its programs, once their time has come."""
    plan = tomllib.loads(file.read_text())
    machine = machines.mount("--scenario", str(file), "--clock", "manual")
    size = {"G": 20, "M": 10}[plan["machine"]["ram"][-1]]
    ram = int(plan["machine"]["ram"][:-1]) << size
    assert ram * 0.85 < machine.meminfo()["MemTotal"] < ram
    before = uptime(machine)
    shell(machine, "echo step 3s > sim/clock")
    assert uptime(machine) == pytest.approx(before + 3, abs=0.011)  # hundredths, rounded down twice
    running = [line.split()[1] for line in tell(machine, "programs").splitlines() if line[0].isdigit()]
    due = [one for one in plan["program"] if one.get("start", "0s") in ("0s", "0")]
    for one in due:
        assert running.count(one["name"]) >= one.get("count", 1)
    assert len(running) == sum(one.get("count", 1) for one in due)
    assert tell(machine, "check") == "ok"


def test_time_runs_with_the_wall_clock(machines: Machines) -> None:
    """As fast as real time unless told otherwise; paused it stands."""
    machine = machines.mount("--ram", "256M", "--preset", "bare", "--seed", "1")

    def passed(seconds: float) -> float:
        """Simulated seconds in so many real ones, a real one being what the reader's own clock says."""
        began, first = time.monotonic(), uptime(machine)
        time.sleep(seconds)
        return (uptime(machine) - first) / (time.monotonic() - began)

    assert passed(2) == pytest.approx(1, abs=0.2)  # a busy host makes the ticker late, by at most a tick or two
    shell(machine, "echo pause > sim/clock")
    assert passed(0.3) == 0
    shell(machine, "echo rate 20 > sim/clock; echo run > sim/clock")
    assert passed(2) == pytest.approx(20, rel=0.2)
    shell(machine, "echo pause > sim/clock")
    before = uptime(machine)
    shell(machine, "echo step 90m > sim/clock")
    assert uptime(machine) == pytest.approx(before + 5400, abs=0.011)
