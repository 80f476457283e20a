"""[Un]populated notification"""

from __future__ import annotations

from tests.cgroup_v2.machine import Machine


def populated(machine: Machine, path: str) -> int:
    return machine.rows(f"{path}/cgroup.events")["populated"]


def test_populated(machine: Machine) -> None:
    """cgroup.events of all but the root says whether a living process is in the cgroup or below it."""
    machine.mkdir("a")
    machine.mkdir("a/b")
    assert "cgroup.events" not in machine.listdir("") and populated(machine, "a") == 0
    process = machine.spawn("a/b")
    assert (populated(machine, "a"), populated(machine, "a/b")) == (1, 1)
    process.kill()
    assert machine.eventually(lambda: populated(machine, "a") == populated(machine, "a/b") == 0)


def test_poll_is_woken_when_it_changes(machine: Machine) -> None:
    """poll(2) on cgroup.events returns when the value changes, and only then."""
    machine.mkdir("a")
    events = machine.open("a/cgroup.events")
    events.read()
    assert not events.woken()
    process = machine.spawn("a")
    assert events.woken()
    events.read()
    machine.spawn("a")
    process.kill()
    assert not events.woken(), "another process is there"
    events.close()


def test_recursive(machine: Machine) -> None:
    """With processes in A and C of A-B-C and A-B-D all but D are populated; when C's ends, B and C flip."""
    for path in ("A", "A/B", "A/B/C", "A/B/D"):
        machine.mkdir(path)
    for _ in range(4):
        machine.spawn("A")
    last = machine.spawn("A/B/C")
    paths = ("A", "A/B", "A/B/C", "A/B/D")
    assert [populated(machine, path) for path in paths] == [1, 1, 1, 0]
    files = [machine.open(f"{path}/cgroup.events") for path in paths]
    for file in files:
        file.read()
    assert not any(file.woken() for file in files)
    last.kill()
    assert [file.woken() for file in files] == [False, True, True, False]
    assert [populated(machine, path) for path in paths] == [1, 0, 0, 0]
    for file in files:
        file.close()
