"""Memory cgroups: what ten thousand of them cost, and what a charge costs deep in the tree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from benchmarks.measure import Row, Side

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

TOP = "/sys/fs/cgroup"
MB = 1 << 20
WIDTH = 6
DEPTH = 5


def _seconds(call: Callable[[], object], times: int) -> float:
    begin = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - begin) / times


def cgroups(rounds: int = 5) -> Iterator[Row]:
    """mkdir, reading and faulting with 10 cgroups and with 9,330 in five levels."""
    import mmfs

    kernel = mmfs.boot(ram="4G", preset="bare", seed=1)
    kernel.write(f"{TOP}/cgroup.subtree_control", "+memory +pids")
    kernel.mkdir(f"{TOP}/x")
    for number in range(9):
        kernel.mkdir(f"{TOP}/y{number}")
    few = {name: _read(kernel, name, rounds) for name in ("memory.stat", "memory.current")}
    made = 0
    begin = time.process_time()
    level = [f"{TOP}/x"]
    for _ in range(DEPTH):
        below = []
        for path in level:
            kernel.write(f"{path}/cgroup.subtree_control", "+memory +pids")
            for number in range(WIDTH):
                below.append(f"{path}/c{number}")
                kernel.mkdir(below[-1])
        made, level = made + len(below), below
    rate = made / (time.process_time() - begin)
    yield Row(f"cgroups: mkdir, {made} of them {DEPTH} deep, controllers enabled on the way", "1/s",
              Side.of("mmfs", [rate]), least=2000)  # fmt: skip
    for name, samples in few.items():
        yield Row(f"cgroups: read {name} among {made}", "us", Side.of("mmfs", _read(kernel, name, rounds)),
                  Side.of("among 10", samples), most=2)  # fmt: skip
    leaf = level[0].removeprefix(TOP)
    cost: dict[str, list[float]] = {"/": [], leaf: []}
    for turn in range(rounds + 1):
        for path, found in cost.items():
            task = kernel.spawn("worker", cgroup=path)
            area = task.mmap(256 * MB)
            begin = time.process_time()
            task.touch(area, 256 * MB, write=True)
            if turn:
                found.append((time.process_time() - begin) / (256 * MB >> 12) * 1e9)
            task.exit()
    yield Row(f"cgroups: a fault {DEPTH + 1} levels deep", "ns", Side.of("mmfs", cost[leaf]),
              Side.of("in the root", cost["/"]), most=1.5)  # fmt: skip


def _read(kernel: Kernel, name: str, rounds: int) -> list[float]:
    """Microseconds for reading a file of /x."""
    return [1e6 * _seconds(lambda: kernel.read(f"{TOP}/x/{name}"), 50) for _ in range(rounds)]
