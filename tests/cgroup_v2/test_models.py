"""Resource distribution models

Not modelled: weights share no CPU time: cpu.weight is not there.

Not modelled: allocations (cpu.rt.max).
"""

from __future__ import annotations

import contextlib

from tests.cgroup_v2.machine import MB, Dead, Machine


def test_limits_can_be_overcommitted(machine: Machine) -> None:
    """The limits of children may add up to more than the parent has: all keep below their own and the parent's."""
    machine.enable("memory")
    machine.make("p", max=32 * MB, swap_max=0)
    machine.enable("memory", "p")
    for name in ("x", "y"):
        machine.make(f"p/{name}", max=24 * MB)
    first, second = machine.spawn("p/x"), machine.spawn("p/y")
    first.grow(20 * MB)
    with contextlib.suppress(Dead):
        second.grow(20 * MB)
    assert not (first.alive and second.alive) and machine.number("p/memory.current") <= 32 * MB
    assert machine.rows("p/y/memory.events.local")["max"] == 0 < machine.rows("p/memory.events.local")["max"]


def test_limits_are_max_at_first(machine: Machine) -> None:
    """Limits lie between 0 and max, and are `max`, which limits nothing, at first."""
    machine.enable("memory pids hugetlb")
    machine.mkdir("a")
    for name in ("memory.max", "memory.high", "memory.swap.max", "memory.zswap.max", "pids.max", "hugetlb.2MB.max"):
        assert machine.read(f"a/{name}") == "max\n", name
        machine.write(f"a/{name}", 0)
        assert machine.read(f"a/{name}") == "0\n", name


def test_no_setting_of_limits_is_refused(machine: Machine) -> None:
    """No combination of limits is invalid, and none keeps a process from moving in."""
    machine.enable("memory pids")
    machine.make("a", max=16 * MB, high=32 * MB, low=64 * MB, min=128 * MB)
    machine.write("a/pids.max", 0)
    process = machine.spawn("a")
    assert machine.pids("a/cgroup.procs") == {process.pid}


def test_protections_are_0_at_first(machine: Machine) -> None:
    """Protections lie between 0 and max, and are 0, which protects nothing, at first."""
    machine.enable("memory")
    machine.mkdir("a")
    for name in ("memory.min", "memory.low"):
        assert machine.read(f"a/{name}") == "0\n"
        machine.write(f"a/{name}", "max")
        assert machine.read(f"a/{name}") == "max\n"


def test_protections_can_be_overcommitted(machine: Machine) -> None:
    """Protections may add up to more than the parent's: any combination is taken."""
    machine.enable("memory")
    machine.make("p", low=16 * MB)
    machine.enable("memory", "p")
    for name in ("x", "y"):
        machine.make(f"p/{name}", low=64 * MB, min="1G")
        assert machine.number(f"p/{name}/memory.low") == 64 * MB
