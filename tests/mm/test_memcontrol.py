"""Memory cgroups: what is charged to whom, what happens at limits, what protection keeps, and when one is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import mmfs
from mmfs.kernel.signal import TaskKilled
from mmfs.mm.memcontrol_limits import calculate_high_delay, calculate_overage
from mmfs.mm.page_counter import effective_protection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

TOP = "/sys/fs/cgroup"
MB = 1 << 20


@pytest.fixture(params=["classic", "lru_gen"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    kernel = mmfs.boot(ram="256M", swap="128M", cpus=1, preset="bare", seed=1, disks="nvme")
    if request.param == "classic":
        kernel.write("/sys/kernel/mm/lru_gen/enabled", "n")
    kernel.write(f"{TOP}/cgroup.subtree_control", "+memory")
    yield kernel
    kernel.check()


def make(kernel: Kernel, name: str, **limits: str) -> str:
    kernel.mkdir(f"{TOP}/{name}")
    for key, value in limits.items():
        kernel.write(f"{TOP}/{name}/memory.{key.replace('_', '.')}", value)
    return f"{TOP}/{name}"


def number(kernel: Kernel, path: str) -> int:
    return int(kernel.read(path))


def rows(kernel: Kernel, path: str) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in kernel.read(path).decode().splitlines())}


def grow(task: Task, size: int) -> None:
    task.touch(task.mmap(size), size, write=True)


def test_charges_follow_the_owner(kernel: Kernel) -> None:
    """Anonymous memory is charged where its process was then; it stays there when the process moves."""
    a, b = make(kernel, "a"), make(kernel, "b")
    task = kernel.spawn("worker", cgroup="/a")
    before = rows(kernel, f"{a}/memory.stat")["anon"]
    grow(task, 8 * MB)
    assert rows(kernel, f"{a}/memory.stat")["anon"] - before == 8 * MB
    kernel.write(f"{b}/cgroup.procs", f"{task.pid}")
    grow(task, 4 * MB)
    assert rows(kernel, f"{a}/memory.stat")["anon"] - before == 8 * MB
    assert rows(kernel, f"{b}/memory.stat")["anon"] == 4 * MB
    child = task.fork()
    grow(child, 2 * MB)
    assert rows(kernel, f"{b}/memory.stat")["anon"] >= 6 * MB
    assert number(kernel, f"{b}/memory.current") % 4096 == 0


def test_a_file_is_who_touches_it_first(kernel: Kernel) -> None:
    a, b = make(kernel, "a"), make(kernel, "b")
    kernel.create_file("/data/f", "8M")
    for name in ("/a", "/b"):
        kernel.spawn("reader", cgroup=name).read("/data/f", 0, 8 * MB)
    assert rows(kernel, f"{a}/memory.stat")["file"] >= 8 * MB
    assert rows(kernel, f"{b}/memory.stat")["file"] < MB


def test_batches_of_a_cpu_show(kernel: Kernel) -> None:
    """A CPU charges 64 pages in advance, and the next cgroup that runs there gives the rest back."""
    a = make(kernel, "a")
    task = kernel.spawn("worker", cgroup="/a")
    area = task.mmap(MB)
    task.touch(area, 4096, write=True)
    held = number(kernel, f"{a}/memory.current")
    task.touch(area + 4096, 5 * 4096, write=True)
    assert number(kernel, f"{a}/memory.current") == held
    make(kernel, "b")
    grow(kernel.spawn("other", cgroup="/b"), MB)
    assert number(kernel, f"{a}/memory.current") < held


def test_max_swaps_then_kills(kernel: Kernel) -> None:
    a = make(kernel, "a", max="16M", swap_max="8M")
    task = kernel.spawn("leak", cgroup="/a")
    grow(task, 20 * MB)
    assert number(kernel, f"{a}/memory.current") <= 16 * MB
    assert number(kernel, f"{a}/memory.swap.current") > 2 * MB
    with pytest.raises(TaskKilled):
        grow(task, 32 * MB)
    found = rows(kernel, f"{a}/memory.events")
    assert found["oom"] >= 1 and found["oom_kill"] == 1 and found["max"] > 0
    # generations leave anonymous memory alone when less than a batch may be swapped
    assert (rows(kernel, f"{a}/memory.swap.events")["max"] > 0) != kernel.lru.enabled


def test_events_go_up(kernel: Kernel) -> None:
    top = make(kernel, "n", max="16M", swap_max="0")
    kernel.write(f"{top}/cgroup.subtree_control", "+memory")
    child = make(kernel, "n/k")
    with pytest.raises(TaskKilled):
        grow(kernel.spawn("leak", cgroup="/n/k"), 64 * MB)
    assert rows(kernel, f"{child}/memory.events") == {
        "low": 0, "high": 0, "max": 0, "oom": 0, "oom_kill": 1, "oom_group_kill": 0
    }  # fmt: skip
    assert rows(kernel, f"{top}/memory.events.local")["oom"] == 1
    assert rows(kernel, f"{top}/memory.events.local")["oom_kill"] == 0
    assert rows(kernel, f"{top}/memory.events")["oom_kill"] == 1


def test_a_group_goes_together(kernel: Kernel) -> None:
    a = make(kernel, "a", max="16M", swap_max="0", oom_group="1")
    other = kernel.spawn("helper", cgroup="/a")
    outside = kernel.spawn("helper")
    with pytest.raises(TaskKilled):
        grow(kernel.spawn("leak", cgroup="/a"), 64 * MB)
    assert not other.alive and outside.alive
    assert rows(kernel, f"{a}/memory.events")["oom_group_kill"] == 1


def test_high_slows_down(kernel: Kernel) -> None:
    """Above memory.high without swap nothing can be reclaimed: the task sleeps, and is not killed."""
    a = make(kernel, "a", high="8M", swap_max="0")
    task = kernel.spawn("leak", cgroup="/a")
    before = kernel.clock.now_ns
    grow(task, 12 * MB)
    kernel.schedule(task)
    assert rows(kernel, f"{a}/memory.events")["high"] > 0 and task.alive
    assert kernel.clock.now_ns - before > 1_000_000_000
    assert "total=0" not in kernel.read(f"{a}/memory.pressure").decode().splitlines()[0]


def test_lowering_max_reclaims_then_kills(kernel: Kernel) -> None:
    a = make(kernel, "a", swap_max="0")
    kernel.create_file("/data/f", "16M")
    task = kernel.spawn("worker", cgroup="/a")
    task.read("/data/f", 0, 16 * MB)
    grow(task, 8 * MB)
    kernel.write(f"{a}/memory.max", "16M")
    assert task.alive and number(kernel, f"{a}/memory.current") <= 16 * MB
    kernel.write(f"{a}/memory.max", "4M")
    assert not task.alive and rows(kernel, f"{a}/memory.events")["oom_kill"] == 1


def test_min_keeps(kernel: Kernel) -> None:
    """What memory.min protects survives a neighbour that takes the whole machine.

    With generations direct reclaim goes by what kswapd has last found to be protected, so that has run before.
    """
    kept = make(kernel, "kept", min="32M")
    make(kernel, "greedy", swap_max="0")
    kernel.create_file("/data/f", "24M")
    kernel.create_file("/data/g", "600M")
    greedy = kernel.spawn("reader", cgroup="/greedy")
    greedy.read("/data/g", 0, 600 * MB)
    kernel.spawn("reader", cgroup="/kept").read("/data/f", 0, 24 * MB)
    greedy.read("/data/g", 0, 300 * MB)
    held = rows(kernel, f"{kept}/memory.stat")["file"]
    greedy.read("/data/g", 300 * MB, 300 * MB)
    assert rows(kernel, f"{kept}/memory.stat")["file"] == held
    assert rows(kernel, f"{kept}/memory.events")["low"] == 0


def test_dying_until_nothing_is_charged(kernel: Kernel) -> None:
    """A removed cgroup lingers while its cache does."""
    a = make(kernel, "a")
    kernel.create_file("/data/f", "4M")
    reader = kernel.spawn("reader", cgroup="/a")
    reader.read("/data/f", 0, 4 * MB)
    reader.exit()
    kernel.rmdir(a)
    stat = rows(kernel, f"{TOP}/cgroup.stat")
    assert stat["nr_descendants"] == 0 and stat["nr_dying_descendants"] == 1 and stat["nr_dying_subsys_memory"] == 1
    kernel.check()
    kernel.sync()
    kernel.write("/proc/sys/vm/drop_caches", "3")
    stat = rows(kernel, f"{TOP}/cgroup.stat")
    assert stat["nr_dying_descendants"] == 0 and stat["nr_dying_subsys_memory"] == 0


def test_both_lru_kinds_hold_all_cgroups(kernel: Kernel) -> None:
    for name in ("a", "b"):
        make(kernel, name)
        grow(kernel.spawn("worker", cgroup=f"/{name}"), 4 * MB)
    for enabled in ("n", "y", "n"):
        kernel.write("/sys/kernel/mm/lru_gen/enabled", enabled)
        kernel.check()


def test_totals_are_the_sum(kernel: Kernel) -> None:
    """memory.stat of a parent contains the children's; those of one that is gone stay counted."""
    top = make(kernel, "n")
    kernel.write(f"{top}/cgroup.subtree_control", "+memory")
    for name in ("x", "y"):
        make(kernel, f"n/{name}")
        task = kernel.spawn("worker", cgroup=f"/n/{name}")
        grow(task, 4 * MB)
    parts = [rows(kernel, f"{top}/{name}/memory.stat") for name in ("x", "y")]
    whole = rows(kernel, f"{top}/memory.stat")
    for key in ("anon", "file", "pagetables", "pgfault", "active_anon"):
        assert whole[key] == sum(part[key] for part in parts), key
    own = {key: whole[key] - sum(part[key] for part in parts) for key in ("kernel", "percpu", "slab")}
    assert own["percpu"] == 2 * (1088 + 496) * (1 + 8 // 4)  # it pays for the children's counters, on one CPU
    assert own["slab"] == 2 * (2048 + 1024 + 2 * 8)
    assert own["kernel"] == -(-(own["percpu"] + own["slab"]) // 4096) * 4096
    task.exit()
    faults = rows(kernel, f"{top}/memory.stat")["pgfault"]
    kernel.rmdir(f"{top}/y")
    kernel.write("/proc/sys/vm/drop_caches", "3")
    assert rows(kernel, f"{top}/memory.stat")["pgfault"] == faults


def test_zswap_counts_for_its_owner(kernel: Kernel) -> None:
    """What zswap keeps is counted in the cgroup; at memory.zswap.max the rest goes to the disk."""
    kernel.write("/sys/module/zswap/parameters/enabled", "1")
    a = make(kernel, "a", max="16M", zswap_max="1M")
    grow(kernel.spawn("leak", cgroup="/a"), 32 * MB)
    stat = rows(kernel, f"{a}/memory.stat")
    assert MB <= stat["zswap"] < MB + 4096 and stat["zswapped"] > MB and stat["zswpout"] > 0
    assert number(kernel, f"{a}/memory.zswap.current") == stat["zswap"]
    assert stat["zswapped"] < number(kernel, f"{a}/memory.swap.current")
    kernel.write(f"{a}/memory.zswap.writeback", "0")
    kernel.write(f"{a}/memory.zswap.max", "0")
    swapped = number(kernel, f"{a}/memory.swap.current")
    with pytest.raises(TaskKilled):
        grow(kernel.spawn("leak", cgroup="/a"), 16 * MB)
    assert number(kernel, f"{a}/memory.swap.current") <= swapped + MB


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((100, 400, 50, 200, 150, False), 50),
        ((100, 400, 100, 100, 200, False), 50),  # children claim more than there is: in proportion
        ((100, 400, 0, 200, 0, True), 50),  # nobody claims: shared by use
        ((100, 400, 0, 200, 0, False), 0),
    ],
)
def test_effective_protection(arguments: tuple[int, int, int, int, int, bool], expected: int) -> None:
    assert effective_protection(*arguments) == expected


def test_the_delay_grows_with_the_square() -> None:
    """An overage of one to a thousandth, in jiffies for a batch of 64 pages."""
    assert calculate_overage(100, 200) == 0 and calculate_overage(300, 200) == 1 << 19
    delays = [calculate_high_delay(64, calculate_overage(1000 + over, 1000)) for over in (50, 100, 500)]
    assert delays[1] == pytest.approx(4 * delays[0], rel=0.3) and delays[2] > 20 * delays[1]
    assert calculate_high_delay(32, 1 << 15) == calculate_high_delay(64, 1 << 15) // 2


def test_random_groups_hold_together(kernel: Kernel) -> None:
    """Growing, reading, moving, limiting and removing at random, checked after each."""
    rng = np.random.default_rng(7)
    kernel.create_file("/data/f", "64M")
    names: list[str] = []
    for step in range(60):
        what = int(rng.integers(6))
        if what == 0 or not names:
            names.append(f"g{step}")
            make(kernel, names[-1])
        name = names[int(rng.integers(len(names)))]
        path = f"{TOP}/{name}"
        try:
            if what == 1:
                grow(kernel.spawn("worker", cgroup=f"/{name}"), int(rng.integers(1, 16)) * MB)
            elif what == 2:
                kernel.spawn("reader", cgroup=f"/{name}").read("/data/f", int(rng.integers(60)) * MB, 4 * MB)
            elif what == 3:
                limit = ("memory.max", "memory.high", "memory.low", "memory.swap.max")[int(rng.integers(4))]
                kernel.write(f"{path}/{limit}", f"{int(rng.integers(4, 40))}M")
            elif what == 4:
                kernel.write(f"{path}/memory.reclaim", "4M")
            elif what == 5:
                kernel.write(f"{path}/cgroup.kill", "1")
                kernel.run_for(0.01)
                kernel.rmdir(path)
                names.remove(name)
        except (TaskKilled, OSError):
            pass
        kernel.check()
