"""Interface files: formats and conventions

Not modelled: settings with a `default` entry and overrides by device: there is no io controller.
"""

from __future__ import annotations

import re

import pytest

from tests.cgroup_v2.machine import Machine, errno_of

CONTROLLERS = "cpuset memory hugetlb pids"


@pytest.fixture
def tree(machine: Machine) -> Machine:
    """A cgroup `a` with all controllers."""
    machine.enable(CONTROLLERS)
    machine.mkdir("a")
    return machine


def ours(tree: Machine, path: str) -> set[str]:
    """The files of the controllers that both machines have."""
    names = (name for name in tree.listdir(path) if not name.endswith(".pressure"))
    return {name for name in names if name.split(".")[0] in CONTROLLERS.split()}


def test_one_value_a_line(tree: Machine) -> None:
    """Where one value can be written at a time, values stand one a line."""
    one, two = tree.spawn("a"), tree.spawn("a")
    assert sorted(tree.read("a/cgroup.procs").split("\n")) == sorted(["", str(one.pid), str(two.pid)])


def test_values_split_by_blanks(tree: Machine) -> None:
    """Where several can be written, or none, they stand on one line, split by blanks."""
    assert re.fullmatch(r"(\w+ )+\w+\n", tree.read("cgroup.subtree_control"))


def test_flat_keyed(tree: Machine) -> None:
    """A flat keyed file has a key and a value a line."""
    for name in ("memory.stat", "memory.events", "memory.swap.events", "cgroup.events", "cgroup.stat", "pids.events"):
        assert re.fullmatch(r"(\w+ \d+\n)+", tree.read(f"a/{name}")), name


def test_nested_keyed(tree: Machine) -> None:
    """A nested keyed file has a key a line and several SUBKEY=VALUE."""
    assert re.fullmatch(r"(\w+( N\d+=\d+)+\n)+", tree.read("a/memory.numa_stat"))
    assert re.fullmatch(r"((some|full)( \w+=[\d.]+)+\n){2}", tree.read("a/memory.pressure"))


def test_what_is_read_can_be_written(tree: Machine) -> None:
    """What a writable file shows can be written to it; the numbers may carry a suffix instead."""
    for name in ("memory.max", "memory.low", "memory.swap.high", "pids.max", "cgroup.max.depth", "cgroup.freeze"):
        before = tree.read(f"a/{name}")
        tree.write(f"a/{name}", before)
        assert tree.read(f"a/{name}") == before, name
    tree.write("a/memory.max", "1G")
    assert tree.number("a/memory.max") == 1 << 30


def test_the_root_has_no_resource_files(tree: Machine) -> None:
    """The root is not controlled: files that limit, protect or count are not in it."""
    assert ours(tree, "") == {
        "cpuset.cpus.effective", "cpuset.cpus.isolated", "cpuset.mems.effective", "memory.numa_stat", "memory.reclaim",
        "memory.stat", "memory.zswap.writeback",
    }  # fmt: skip


def test_the_files_of_a_cgroup(tree: Machine) -> None:
    """A controller's files begin with its name and a dot, and are these."""
    huge = ("current", "events", "events.local", "max", "numa_stat", "rsvd.current", "rsvd.max")
    assert {name for name in ours(tree, "a") if not name.startswith("hugetlb.1GB.")} == {
        *(f"memory.{name}" for name in (
            "current", "events", "events.local", "high", "low", "max", "min", "numa_stat", "oom.group", "peak",
            "reclaim", "stat", "swap.current", "swap.events", "swap.high", "swap.max", "swap.peak", "zswap.current",
            "zswap.max", "zswap.writeback",
        )),
        *(f"pids.{name}" for name in ("current", "events", "events.local", "max", "peak")),
        *(f"cpuset.{name}" for name in (
            "cpus", "cpus.effective", "cpus.exclusive", "cpus.exclusive.effective", "cpus.partition", "mems",
            "mems.effective",
        )),
        *(f"hugetlb.2MB.{name}" for name in huge),
    }  # fmt: skip


def test_modes(tree: Machine) -> None:
    """What can only be read has mode 0444, what can only be written 0200, and the rest 0644."""
    for name, mode in {
        "memory.current": 0o444, "memory.stat": 0o444, "memory.reclaim": 0o200, "memory.max": 0o644,
        "memory.peak": 0o644, "cgroup.kill": 0o200, "cgroup.events": 0o444, "cgroup.procs": 0o644, "pids.peak": 0o444,
        "cpuset.mems": 0o644,
    }.items():  # fmt: skip
        assert tree.mode(f"a/{name}") == mode, name


def test_microseconds(tree: Machine) -> None:
    """Time is in microseconds, by default or by name (usage_usec)."""
    assert {"usage_usec", "user_usec", "system_usec"} <= set(tree.rows("a/cpu.stat"))


def test_percentages(tree: Machine) -> None:
    """Shares are percentages with two decimals."""
    share = r"\d+\.\d\d"
    pattern = rf"some avg10={share} avg60={share} avg300={share} total=\d+\n"
    assert re.match(pattern, tree.read("a/memory.pressure"))


def test_max_is_infinite(tree: Machine) -> None:
    """`max` stands for no bound in min, low, high and max, read and written; a bound that large reads as `max`."""
    for name in ("min", "low", "high", "max"):
        tree.write(f"a/memory.{name}", 4096)
        tree.write(f"a/memory.{name}", "max")
        assert tree.read(f"a/memory.{name}") == "max\n"
        tree.write(f"a/memory.{name}", (1 << 64) - 1)
        assert tree.read(f"a/memory.{name}") == "max\n"


def test_names_may_collide(tree: Machine) -> None:
    """Nothing keeps a child from having the look of an interface file; only a name that is taken is refused."""
    tree.mkdir("a/memory.mine")
    tree.mkdir("a/cgroup.x")
    assert errno_of(tree.mkdir, "a/memory.max") == "EEXIST"


def test_odd_writes(machine: Machine) -> None:
    """A write of no bytes does nothing, also to a file that cannot be written; a pid that is no int is EINVAL."""
    machine.enable("memory")
    machine.make("g")
    for name in ("memory.current", "memory.stat", "cgroup.controllers", "memory.max", "cgroup.procs"):
        assert errno_of(machine.write, f"g/{name}", "") == ""
    assert errno_of(machine.write, "g/memory.current", "0") == "EINVAL"
    for pid in ("99999999999", "2147483648", "-1", "1x", " "):
        assert errno_of(machine.write, "g/cgroup.procs", pid) == "EINVAL"


def test_triggers_without_an_end_of_line(machine: Machine) -> None:
    """Each character of a trigger counts: `some 150000 1000000` needs no newline here, as it does in /proc/pressure."""
    machine.enable("memory")
    machine.make("g")
    answers = {"some 150000 1000000": "", "full 1 2": "", "full 2 1": "EINVAL", "some 1 20000000": "EINVAL"}
    for text, answer in answers.items():
        assert errno_of(machine.write, "g/memory.pressure", text) == answer
        assert errno_of(machine.write, "g/memory.pressure", f"{text}\n") == answer
    assert errno_of(machine.write, "/proc/pressure/memory", "some 150000 1000000") == "EINVAL"
