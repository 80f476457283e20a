"""System calls in slices end as the calls of their names do."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from mmfs.kernel import slices
from mmfs.kernel.sched import RLIMIT_MEMLOCK
from mmfs.kernel.signal import TaskKilled
from mmfs.mm.mman import MAP_ANONYMOUS, MAP_POPULATE, MAP_PRIVATE, PROT_READ, PROT_WRITE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

MB = 1 << 20
RW = PROT_READ | PROT_WRITE
POPULATED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE
Call = Callable[["Task", int, int], Any]


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a size that small machines have many of."""
    for name in ("TOUCH_SLICE", "RANGE_SLICE", "FILE_SLICE"):
        monkeypatch.setattr(slices, name, 256 << 10)


def drain(generator: Any) -> tuple[Any, int]:
    """What it returns, and after how many slices."""
    count = 1
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value, count
        count += 1


FIELDS = ("Cached:", "Dirty:", "AnonPages:", "Mlocked:", "Mapped:", "PageTables:", "Committed_AS:")
"""Of meminfo; what per-CPU lists and batches hold (MemFree, Active) follows each call's own time."""


def look(task: Task) -> list[str]:
    """What files say of the task and the machine."""
    read = task.kernel.read
    machine = [line for line in read("/proc/meminfo").decode().splitlines() if line.startswith(FIELDS)]
    return [read(f"/proc/{task.pid}/smaps").decode(), *machine]


CALLS: dict[str, tuple[Call, Call]] = {
    "mlock": (lambda task, fd, addr: task.mlock(addr, 4 * MB), lambda task, fd, addr: task.mlock_slices(addr, 4 * MB)),
    "mlock_onfault": (
        lambda task, fd, addr: task.mlock(addr, 3 * MB + 5, 1),
        lambda task, fd, addr: task.mlock_slices(addr, 3 * MB + 5, 1),
    ),
    "munlock": (
        lambda task, fd, addr: task.munlock(addr, 4 * MB),
        lambda task, fd, addr: task.munlock_slices(addr, 4 * MB),
    ),
    "munmap": (
        lambda task, fd, addr: task.munmap(addr + MB, 2 * MB),
        lambda task, fd, addr: task.munmap_slices(addr + MB, 2 * MB),
    ),
    "munmap_all": (
        lambda task, fd, addr: task.munmap(addr - MB, 9 * MB),
        lambda task, fd, addr: task.munmap_slices(addr - MB, 9 * MB),
    ),
    "populate": (
        lambda task, fd, addr: task.mmap(2 * MB + 1, RW, POPULATED),
        lambda task, fd, addr: task.mmap_slices(2 * MB + 1, RW, POPULATED),
    ),
    "read": (lambda task, fd, addr: task.read(fd, 9 * MB, MB), lambda task, fd, addr: task.read_slices(fd, 9 * MB, MB)),
    "write": (
        lambda task, fd, addr: task.write(fd, 3 * MB, MB),
        lambda task, fd, addr: task.write_slices(fd, 3 * MB, MB),
    ),
}  # fmt: skip


def prepared(boot: Callable[..., Kernel]) -> tuple[Task, int, int]:
    """A process with a file of 4 MB and as much memory, half of it there, locked in the middle."""
    kernel = boot(ram="128M", seed=1, preset="bare")
    kernel.create_file("/data/a", 4 * MB)
    task = kernel.spawn("long")
    fd, addr = task.open("/data/a", 2), task.mmap(4 * MB)
    task.touch(addr, 2 * MB, write=True)
    task.mlock(addr + MB, 2 * MB)
    return task, fd, addr


@pytest.mark.parametrize("name", CALLS)
def test_the_end_is_the_same(boot: Callable[..., Kernel], name: str) -> None:
    whole, sliced = CALLS[name]
    one, two = prepared(boot), prepared(boot)
    expected = whole(*one)
    got, count = drain(sliced(*two))
    assert count >= 8 and got == expected
    assert look(two[0]) == look(one[0])


@pytest.mark.parametrize(
    ("name", "arguments", "number"),
    [
        ("munmap", (1, 4096), errno.EINVAL),
        ("munmap", (0x10000, 0), errno.EINVAL),
        ("munmap", (0x10000, 1 << 60), errno.EINVAL),
        ("mlock", (0x10000, MB), errno.ENOMEM),
        ("mlock", (0x10000, MB, 8), errno.EINVAL),
        ("munlock", (0x10000, MB), errno.ENOMEM),
    ],
)
def test_errors_are_the_same(kernel: Kernel, name: str, arguments: tuple[int, ...], number: int) -> None:
    task = kernel.spawn("wrong")
    for call in (getattr(task, name), lambda *given: drain(getattr(task, f"{name}_slices")(*given))):
        with pytest.raises(OSError) as error:
            call(*arguments)
        assert error.value.errno == number


def test_a_limit_holds_for_the_whole(kernel: Kernel) -> None:
    task = kernel.spawn("user", uid=1000)
    task.setrlimit(RLIMIT_MEMLOCK, MB)
    addr = task.mmap(4 * MB)
    with pytest.raises(OSError, match="RLIMIT_MEMLOCK"):
        drain(task.mlock_slices(addr, 4 * MB))
    assert task.mm is not None and task.mm.locked_vm == 0


@pytest.mark.parametrize("name", ["mlock", "munmap", "populate", "read"])
def test_who_dies_meanwhile_is_told(kernel: Kernel, name: str) -> None:
    kernel.create_file("/data/a", 4 * MB)
    task = kernel.spawn("victim")
    fd, addr = task.open("/data/a", 2), task.mmap(4 * MB)
    generator = CALLS[name][1](task, fd, addr)
    next(generator)
    kernel.kill(task.pid, 9)
    with pytest.raises((TaskKilled, ProcessLookupError)):
        drain(generator)


def test_what_is_broken_off_stays_in_order(kernel: Kernel) -> None:
    kernel.create_file("/data/a", 4 * MB)
    task = kernel.spawn("broken")
    fd, addr = task.open("/data/a", 2), task.mmap(4 * MB)
    for name in ("mlock", "munmap", "populate", "read", "write"):
        generator = CALLS[name][1](task, fd, addr)
        next(generator)
        kernel.check()
        generator.close()
        kernel.check()
