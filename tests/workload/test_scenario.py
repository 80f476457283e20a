"""Scenario files: what they start and when, what is wrong in them, and the ones that are documented."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mmfs
from mmfs.workload import Scenario, programs_of

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

SCENARIOS = Path(__file__).resolve().parents[2] / "docs" / "scenarios"
Boot = Callable[..., "Kernel"]

SMALL = """
[machine]
ram = "256M"
swap = "64M"
cpus = 2
seed = 5
preset = "bare"

[sysctl]
"vm.swappiness" = 10

[[cgroup]]
path = "/web"

[[program]]
name = "leak"
start = "2s"
stop = "4s"
count = 2
cgroup = "/web"
oom_score_adj = 500
anon = "1M/s"

[[program]]
name = "idle"

[[write]]
at = "3s"
path = "/proc/sys/vm/swappiness"
value = 77
"""


def names(kernel: Kernel) -> list[str]:
    return [program.name for program in programs_of(kernel).running()]


def test_everything_in_its_time(boot: Boot, tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text(SMALL)
    kernel = boot(scenario=file)
    assert (kernel.machine.ram, kernel.machine.nr_cpus, kernel.seed) == (256 << 20, 2, 5)
    assert kernel.vm.swappiness == 10 and names(kernel) == ["idle"]
    kernel.run_for(2.5)
    assert names(kernel) == ["idle", "leak", "leak"]
    leak = programs_of(kernel).running()[1]
    assert (leak.task.cgroup, leak.task.oom_score_adj, leak.texts["anon"]) == ("/web", 500, "1M/s")
    kernel.run_for(1.0)
    assert kernel.vm.swappiness == 77
    kernel.run_for(1.0)
    assert names(kernel) == ["idle"]


def test_arguments_override_the_machine(boot: Boot, tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text(SMALL)
    kernel = boot(scenario=file, ram="128M", seed=9)
    assert (kernel.machine.ram, kernel.machine.nr_cpus, kernel.seed) == (128 << 20, 2, 9)


def test_same_on_every_run(boot: Boot, tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text(SMALL)

    def play() -> bytes:
        kernel = boot(scenario=str(file))
        kernel.run_for(5.0)
        return kernel.read("/proc/vmstat") + kernel.read("/proc/stat")

    assert play() == play()


def test_what_cannot_start_is_told(boot: Boot) -> None:
    program = {"name": "hog", "anon": "1M", "start": "1s"}
    write = {"at": "1s", "path": "/proc/sys/vm/swappiness", "value": "high"}
    kernel = boot(scenario={"machine": {"preset": "bare", "ram": "256M"}, "program": [program], "write": [write]})
    kernel.sysctl.panic = 0
    kernel.tasks.max_threads = len(kernel.tasks)
    kernel.run_for(1.5)
    told = [ended[1:] for ended in programs_of(kernel).ended]
    assert told[0][0] == "hog" and told[0][1].startswith("could not start: ")
    assert told[1][0] == "write /proc/sys/vm/swappiness 'high'" and told[1][1].startswith("refused: ")


@pytest.mark.parametrize(
    ("tables", "wrong"),
    [
        ({"machin": {}}, "no table [machin] (known: machine, sysctl, cgroup, program, write)"),
        ({"machine": {"rum": 1}}, "machine: no key 'rum' (known: arch, cgroup, cmdline, cpus, disks, machine, "),
        ({"machine": {"cpus": "2"}}, "machine: cpus: '2' is not a number"),
        ({"machine": 5}, "machine: write [machine] and its keys below"),
        ({"program": {"name": "leak"}}, "program: write [[program]], once for each"),
        ({"program": [{}]}, "program 1: name is missing"),
        ({"program": [{"name": "lek"}]}, "program 1 (lek): no such program (known: database, "),
        ({"program": [{"name": "leak"}, {"name": "leak", "anonn": 1}]}, "program 2 (leak): leak has no parameter"),
        ({"program": [{"name": "leak", "anon": "fast"}]}, "program 1 (leak): anon: "),
        ({"program": [{"name": "leak", "start": "soon"}]}, "program 1 (leak): start: 'soon' is not a duration"),
        ({"program": [{"name": "leak", "start": "5s", "stop": "5s"}]}, "program 1 (leak): stop: it starts no earlier"),
        ({"program": [{"name": "leak", "uid": "root"}]}, "program 1 (leak): uid: 'root' is not a number"),
        ({"cgroup": [{"path": "/x", "memory": 1}]}, "cgroup 1: no key 'memory'"),
        ({"write": [{"value": "1"}]}, "write 1: path is missing"),
        ({"write": [{"path": "/sim/clock"}]}, "write 1: a scenario does not move the clock"),
    ],
)
def test_mistakes_are_one_clear_line(tables: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError) as said:
        Scenario.load(tables)
    assert str(said.value).startswith(wrong) and "\n" not in str(said.value)


def test_what_the_machine_refuses_is_one_line(tmp_path: Path) -> None:
    small = {"preset": "bare", "ram": "128M"}
    with pytest.raises(ValueError, match=r"sysctl vm\.swapiness: '1': "):
        mmfs.boot(scenario={"machine": small, "sysctl": {"vm.swapiness": 1}})
    with pytest.raises(ValueError, match="program leak: no cgroup /web"):
        mmfs.boot(scenario={"machine": small, "program": [{"name": "leak", "cgroup": "/web"}]})
    with pytest.raises(ValueError, match=r"none.toml: No such file"):
        mmfs.boot(scenario=tmp_path / "none.toml")
    file = tmp_path / "broken.toml"
    file.write_text("[machine\n")
    with pytest.raises(ValueError, match=r"broken.toml: "):
        mmfs.boot(scenario=file)


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
def test_documented_scenarios_play(boot: Boot, file: Path, compiled: bool) -> None:
    kernel = boot(scenario=file, preset="bare")
    started = {program.name for program in programs_of(kernel).running()}
    assert started
    kernel.run_for(5.0 if compiled else 0.2)
    kernel.check()
    assert any(program.progress() for program in programs_of(kernel).running())


@pytest.mark.slow
def test_the_leak_ends_in_a_kill(boot: Boot) -> None:
    """What docs/scenarios/leak.toml promises, on a machine that is full sooner."""
    kernel = boot(scenario=SCENARIOS / "leak.toml", preset="bare", ram="512M", swap="32M")
    for _ in range(60):
        kernel.run_for(1.0)
        if "leak" in {ended.name for ended in programs_of(kernel).ended} | set(names(kernel)[6:]):
            break
    for _ in range(60):
        if "Out of memory: Killed process" in kernel.printk.dmesg():
            break
        kernel.run_for(1.0)
    kernel.check()
    killed = [record.text for record in kernel.printk.ring if record.text.startswith("Out of memory: Killed")]
    assert len(killed) == 1 and "(leak)" in killed[0]
