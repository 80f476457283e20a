"""Machines of odd shapes, pressed hard: every request for memory ends, in success, ENOMEM, a kill or a panic.

Each seed makes a machine (tiny, of two nodes, without swap, locked nearly full, its tmpfs full, nearly all of it
reserve, dirty on a slow disk, under each kind of overcommit and of LRU lists) and lets processes ask it for more than
it has.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from mmfs.kernel.panic import KernelPanicError
from mmfs.kernel.signal import TaskKilled
from mmfs.mm.mman import MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Boot = Callable[..., "Kernel"]
MB = 1 << 20
CALLS = 14
FILE_SIZE = 256 * MB
MAX_RECLAIMS = 20_000
"""Calls of direct reclaim in one system call: 256 MB at 32 pages a call, and ten times that where less is freed."""
MAX_SECONDS = 900
"""Of simulated time: a slow disk seeks for each of the 65536 pages of the largest call, ten milliseconds at a time."""
FOUND = (57, 63, 105, 123, 276, 283, 288, 349)
"""Machines on which a page was reclaimed before the fault or the read that it was read for had used it, which began
anew; which did not boot; on which a process died between two calls."""
LIMITS = {errno.ENOMEM, errno.EAGAIN}
"""What a system call may say for want of memory; EAGAIN: a fork for which there is no room."""


class Pressed:
    """One machine and its processes."""

    def __init__(self, boot: Boot, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.shape: dict[str, Any] = {
            "ram": rng.choice(["80M", "96M", "128M", "192M"]),
            "swap": rng.choice([None, None, "8M", "64M"]),
            "nodes": rng.choice([1, 1, 2]),
            "cpus": 2,
            "disks": rng.choice(["hdd", "ssd"]),
        }
        self.kernel = boot(seed=seed, preset="bare", **self.shape)
        self.write("/sys/kernel/mm/lru_gen/enabled", rng.choice("ny"))
        self.write("/proc/sys/vm/overcommit_memory", str(rng.choice([0, 1, 1, 2])))
        self.write("/proc/sys/vm/swappiness", str(rng.choice([0, 60, 200])))
        self.free = self.kernel.page_alloc.nr_free_pages() << 12
        self.tasks: list[Task] = []
        self.ends: list[str] = []
        self.reclaims = 0
        self._bound_reclaim()
        for _ in range(3):
            self.spawn()
        for make in rng.sample([self.locked, self.reserved, self.full_tmpfs, self.dirty, self.nothing], 2):
            self.call(make)

    def write(self, path: str, text: str) -> None:
        self.shape[path] = text
        self.kernel.write(path, text)

    def _bound_reclaim(self) -> None:
        """Count calls of direct reclaim; too many in one system call are a deadlock."""
        reclaim: Any = self.kernel.reclaim
        try_to_free_pages = reclaim.try_to_free_pages

        def counted(*arguments: Any) -> int:
            self.reclaims += 1
            assert self.reclaims < MAX_RECLAIMS, f"no end: {self.shape}"
            freed: int = try_to_free_pages(*arguments)
            return freed

        reclaim.try_to_free_pages = counted

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Do something and note how it ended."""
        self.reclaims = 0
        began = self.kernel.clock.now_ns
        try:
            function(*arguments)
            self.ends.append("done")
        except OSError as error:
            if error.errno not in LIMITS:
                raise
            self.ends.append("ENOMEM")
        except TaskKilled:
            self.ends.append("killed")
        assert self.kernel.clock.now_ns - began < MAX_SECONDS * 10**9, self.shape
        self.tasks = [task for task in self.tasks if task.alive]
        self.kernel.check()

    def task(self) -> Task:
        if not self.tasks:
            self.spawn()
        return self.rng.choice(self.tasks)

    def some(self) -> int:
        """A part of what was free at boot, or more than that."""
        return max(int(self.free * self.rng.choice([0.02, 0.1, 0.3, 0.6, 1.1])) & ~4095, 4096)

    # -- what makes it odd ------------------------------------------------------------------------------------------

    def nothing(self) -> None:
        pass

    def locked(self) -> None:
        length = int(self.free * 0.9) & ~4095
        task = self.task()
        task.mlock(task.mmap(length), length)

    def reserved(self) -> None:
        self.write("/proc/sys/vm/min_free_kbytes", str(int(self.free * self.rng.choice([0.5, 0.9, 0.98])) >> 10))

    def full_tmpfs(self) -> None:
        self.task().write("/tmp/full", int(self.free * 0.8))

    def dirty(self) -> None:
        self.write("/proc/sys/vm/dirty_ratio", "100")
        self.write("/proc/sys/vm/dirty_background_ratio", "99")
        self.task().write("/data/dirty", int(self.free * 0.9))

    # -- what asks for memory -----------------------------------------------------------------------------------------

    def spawn(self) -> None:
        self.tasks.append(self.kernel.spawn("hog", oom_score_adj=self.rng.choice([-1000, 0, 0, 500])))

    def anon(self) -> None:
        task, length = self.task(), self.some()
        task.touch(task.mmap(length), length, write=True)

    def shared(self) -> None:
        task, length = self.task(), self.some()
        task.touch(task.mmap(length, flags=MAP_SHARED | MAP_ANONYMOUS), length, write=True)

    def sparse(self) -> None:
        """A page table for each page."""
        task = self.task()
        task.touch(task.mmap(min(self.some() * 64, 1 << 36)), self.some() * 32, write=True, stride=2 * MB)

    def mlock(self) -> None:
        task, length = self.task(), self.some()
        task.mlock(task.mmap(length), length)

    def fork(self) -> None:
        child = self.task().fork()
        self.tasks.append(child)

    def write_file(self) -> None:
        self.task().write("/data/a", self.some())

    def write_tmpfs(self) -> None:
        self.task().write(f"/tmp/{self.rng.randrange(4)}", self.some())

    def read_file(self) -> None:
        task = self.task()
        task.read("/data/b", 0, self.some())

    def map_file(self) -> None:
        task, length = self.task(), self.some()
        addr = task.mmap(length, PROT_READ | PROT_WRITE, self.rng.choice([MAP_SHARED, MAP_PRIVATE]), file="/data/b")
        task.touch(addr, min(length, FILE_SIZE), write=self.rng.random() < 0.5)

    def unmap(self) -> None:
        """Some memory comes back, so that not all of it is about the last page."""
        task = self.task()
        vma = max((vma for vma in task.mm.mmap), key=lambda vma: vma.pages) if task.mm is not None else None
        if vma is not None and vma.is_anonymous():
            task.munmap(vma.vm_start, vma.vm_end - vma.vm_start)

    def wait(self) -> None:
        self.kernel.run_for(self.rng.choice([0.01, 1.0, 7.0]))

    def press(self) -> None:
        """Ask until there have been enough calls, or the kernel panics."""
        self.kernel.create_file("/data/b", FILE_SIZE)
        asks = [self.anon, self.anon, self.shared, self.sparse, self.mlock, self.fork, self.write_file,
                self.write_tmpfs, self.read_file, self.map_file, self.unmap, self.wait, self.spawn]  # fmt: skip
        for _ in range(CALLS):
            self.call(self.rng.choice(asks))


def press(boot: Boot, seed: int) -> list[str]:
    """How the calls of a machine ended."""
    pressed = None
    try:
        pressed = Pressed(boot, seed)
        pressed.press()
    except KernelPanicError:
        return [*(pressed.ends if pressed is not None else []), "panic"]
    return pressed.ends


@pytest.mark.parametrize("seed", [*range(24), *FOUND])
def test_every_request_ends(boot: Boot, seed: int) -> None:
    assert press(boot, seed)


def test_all_ends_occur(boot: Boot) -> None:
    """The machines above are pressed hard enough: each way to end is met."""
    ends = {end for seed in range(12) for end in press(boot, seed)}
    assert ends == {"done", "ENOMEM", "killed", "panic"}
