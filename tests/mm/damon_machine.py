"""What tests of DAMON share: its files, and a process that uses a part of its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

MB = 1 << 20
MSEC = 1_000_000
ADMIN = "/sys/kernel/mm/damon/admin/kdamonds/"
CONTEXT = "0/contexts/0/"
SCHEME = CONTEXT + "schemes/0/"
ULONG_MAX = (1 << 64) - 1


class Region(NamedTuple):
    """What a directory of tried_regions says."""

    start: int
    end: int
    nr_accesses: int
    age: int

    @property
    def size(self) -> int:
        return self.end - self.start

    def overlap(self, start: int, end: int) -> int:
        return max(min(self.end, end) - max(self.start, start), 0)


def write(kernel: Kernel, path: str, value: object) -> None:
    kernel.write(ADMIN + path, f"{value}\n")


def read(kernel: Kernel, path: str) -> str:
    return kernel.read(ADMIN + path).decode().removesuffix("\n")


def set_up(kernel: Kernel, operations: str, pid: int | None = None, action: str = "stat") -> None:
    """A kdamond with one target and one scheme, whose pattern is everything."""
    write(kernel, "nr_kdamonds", 1)
    write(kernel, "0/contexts/nr_contexts", 1)
    write(kernel, CONTEXT + "operations", operations)
    write(kernel, CONTEXT + "targets/nr_targets", 1)
    if pid is not None:
        write(kernel, CONTEXT + "targets/0/pid_target", pid)
    write(kernel, CONTEXT + "schemes/nr_schemes", 1)
    write(kernel, SCHEME + "action", action)
    for name in ("sz", "nr_accesses", "age"):
        write(kernel, SCHEME + f"access_pattern/{name}/max", ULONG_MAX)


def turn(kernel: Kernel, command: str, number: int = 0) -> None:
    write(kernel, f"{number}/state", command)
    kernel.check()


def tried_regions(kernel: Kernel, scheme: str = SCHEME) -> list[Region]:
    """By address; the numbers of their directories are in that order too, of one target."""
    turn(kernel, "update_schemes_tried_regions")
    names = sorted((name for name in kernel.listdir(ADMIN + scheme + "tried_regions") if name.isdigit()), key=int)
    found = [
        Region(*(int(read(kernel, f"{scheme}tried_regions/{name}/{what}")) for what in Region._fields))
        for name in names
    ]
    assert int(read(kernel, scheme + "tried_regions/total_bytes")) == sum(region.size for region in found)
    return found


def stats(kernel: Kernel, scheme: str = SCHEME) -> dict[str, int]:
    turn(kernel, "update_schemes_stats")
    return {name: int(read(kernel, f"{scheme}stats/{name}")) for name in kernel.listdir(ADMIN + scheme + "stats")}


class Worker:
    """A process that has written all of its memory and goes on to write a part of it every few milliseconds."""

    def __init__(self, kernel: Kernel, size: int, hot_from: int, hot_size: int, period_ms: int = 2) -> None:
        self.kernel = kernel
        self.period_ns = period_ms * MSEC
        self.task: Task = kernel.spawn("worker")
        self.size = size
        self.addr = self.task.mmap(size)
        self.task.touch(self.addr, size, write=True)
        self.hot, self.hot_end = self.addr + hot_from, self.addr + hot_from + hot_size
        self.step()

    def step(self) -> None:
        if self.task.alive:
            self.task.touch(self.hot, self.hot_end - self.hot, write=True)
            self.kernel.clock.add_timer(self.kernel.clock.now_ns + self.period_ns, self.step)
