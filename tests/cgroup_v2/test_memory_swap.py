"""Memory: memory.swap.*, memory.zswap.* and memory.pressure"""

from __future__ import annotations

import pytest

from mmfs.kernel.kernel import Kernel
from tests.cgroup_v2.machine import MB, PAGE, TOP, Dead, Machine


@pytest.fixture
def tree(machine: Machine) -> Machine:
    """A cgroup `a` with 16 MB."""
    machine.enable("memory")
    machine.make("a", max=16 * MB)
    return machine


def test_swap_current(tree: Machine) -> None:
    """memory.swap.current: the swap that the cgroup and those below use."""
    tree.enable("memory", "a")
    tree.make("a/x")
    process = tree.spawn("a/x")
    process.grow(24 * MB)
    used = tree.number("a/memory.swap.current")
    assert used == tree.number("a/x/memory.swap.current") and 7 * MB <= used <= 12 * MB
    process.release()
    assert tree.number("a/memory.swap.current") <= MB


def test_swap_max(tree: Machine) -> None:
    """memory.swap.max is the limit: beyond it anonymous memory is not swapped out, and the OOM killer comes."""
    tree.write("a/memory.swap.max", 4 * MB)
    with pytest.raises(Dead):
        tree.spawn("a").grow(32 * MB)
    assert tree.number("a/memory.swap.peak") <= 4 * MB
    assert tree.rows("a/memory.events")["oom_kill"] == 1


def test_swap_max_below_usage(tree: Machine) -> None:
    """Set below the usage it frees nothing by itself: usage stays higher for a long time."""
    tree.spawn("a").grow(24 * MB)
    used = tree.number("a/memory.swap.current")
    tree.write("a/memory.swap.max", 2 * MB)
    assert tree.number("a/memory.swap.current") == used > 2 * MB


def test_swap_high_throttles(tree: Machine) -> None:
    """Above memory.swap.high allocations are throttled, and `high` of memory.swap.events counts it; nobody dies."""
    process = tree.spawn("a")
    process.grow(24 * MB)
    tree.write("a/memory.swap.high", 4 * MB)
    for _ in range(32):
        if not tree.rows("a/memory.swap.events")["high"]:
            process.grow(4 * PAGE)
    assert process.alive and tree.number("a/memory.swap.current") > 4 * MB
    assert tree.rows("a/memory.swap.events")["high"] > 0


def test_swap_peak(tree: Machine) -> None:
    """memory.swap.peak is the most that was used, and writing resets it for the open file."""
    process = tree.spawn("a")
    process.grow(24 * MB)
    file = tree.open("a/memory.swap.peak")
    peak = tree.number("a/memory.swap.peak")
    assert peak >= 7 * MB
    process.release()
    assert tree.number("a/memory.swap.peak") == peak
    file.write("reset")
    assert int(file.read()) <= MB and tree.number("a/memory.swap.peak") == peak
    file.close()


def test_swap_events(tree: Machine) -> None:
    """The rows are high, max and fail: `max` counts that the limit was hit, `fail` that there was no swap for it."""
    assert list(tree.rows("a/memory.swap.events")) == ["high", "max", "fail"]
    tree.write("a/memory.swap.max", 4 * MB)
    events = tree.open("a/memory.swap.events")
    events.read()
    tree.write("/sys/kernel/mm/lru_gen/enabled", 0)
    for _ in range(5):  # who sees that swap is full before he asks for a slot does not hit the limit
        with pytest.raises(Dead):
            tree.spawn("a").grow(32 * MB)
        found = tree.rows("a/memory.swap.events")
        if found["max"]:
            break
    tree.write("/sys/kernel/mm/lru_gen/enabled", 7)
    assert found["max"] > 0 and found["fail"] >= found["max"]
    assert tree.eventually(events.woken), "and poll(2) is told"
    events.close()


def test_pressure(tree: Machine) -> None:
    """memory.pressure has the stalls on memory: processes that wait for pages to come back from swap."""
    process = tree.spawn("a")
    process.grow(24 * MB)
    before = int(tree.read("a/memory.pressure").splitlines()[0].rpartition("=")[2])
    for _ in range(3):
        process.again()
    assert int(tree.read("a/memory.pressure").splitlines()[0].rpartition("=")[2]) > before


# -- zswap: a real one needs modules that the guest has not --------------------------------------------------------


@pytest.fixture
def zswap(kernel: Kernel) -> Kernel:
    kernel.write("/sys/module/zswap/parameters/enabled", "1")
    kernel.write(f"{TOP}/cgroup.subtree_control", "+memory")
    kernel.mkdir(f"{TOP}/a")
    kernel.write(f"{TOP}/a/memory.max", "16M")
    return kernel


def number(kernel: Kernel, name: str) -> int:
    return int(kernel.read(f"{TOP}/a/{name}"))


def rows(kernel: Kernel) -> dict[str, int]:
    lines = kernel.read(f"{TOP}/a/memory.stat").decode().splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def grow(kernel: Kernel, size: int) -> None:
    task = kernel.spawn("worker", cgroup="/a")
    task.touch(task.mmap(size), size, write=True)


def test_zswap_current(zswap: Kernel) -> None:
    """memory.zswap.current: what zswap takes for the cgroup; it is `zswap` of memory.stat, and part of the memory."""
    grow(zswap, 24 * MB)
    assert 0 < number(zswap, "memory.zswap.current") == rows(zswap)["zswap"] <= number(zswap, "memory.current")
    assert rows(zswap)["zswapped"] >= 7 * MB and rows(zswap)["zswpout"] * PAGE >= 7 * MB


def test_zswap_max(zswap: Kernel) -> None:
    """At memory.zswap.max zswap takes no more for the cgroup before something leaves it; the rest goes to the disk."""
    zswap.write(f"{TOP}/a/memory.zswap.max", "1M")
    grow(zswap, 32 * MB)
    assert number(zswap, "memory.zswap.current") <= MB + PAGE
    assert number(zswap, "memory.swap.current") > rows(zswap)["zswapped"] > 0


def test_zswap_writeback(zswap: Kernel) -> None:
    """memory.zswap.writeback is 1 at first; with 0 nothing goes to the disk, neither from zswap nor past it."""
    assert zswap.read(f"{TOP}/a/memory.zswap.writeback") == b"1\n"
    zswap.write(f"{TOP}/a/memory.zswap.writeback", "0")
    grow(zswap, 24 * MB)
    assert rows(zswap)["zswapped"] > 0 == rows(zswap)["zswpwb"]
    assert number(zswap, "memory.swap.current") <= rows(zswap)["zswapped"] + rows(zswap)["swapcached"]


def test_zswap_writeback_is_inherited(zswap: Kernel) -> None:
    """It is hierarchical: 0 above disables it below, whatever is written there."""
    zswap.write(f"{TOP}/a/cgroup.subtree_control", "+memory")
    zswap.mkdir(f"{TOP}/a/b")
    zswap.write(f"{TOP}/a/memory.zswap.writeback", "0")
    task = zswap.spawn("worker", cgroup="/a/b")
    task.touch(task.mmap(24 * MB), 24 * MB, write=True)
    assert rows(zswap)["zswpwb"] == 0
    assert number(zswap, "memory.swap.current") <= rows(zswap)["zswapped"] + rows(zswap)["swapcached"]
