"""Programs that take memory: a leak, a hog, a holder of locked memory, a service that is mostly idle."""

from __future__ import annotations

from mmfs.mm_types import PAGE_SIZE
from mmfs.sizes import format_size
from mmfs.workload.parameters import Parameter, duration, one_of, rate, size, skew
from mmfs.workload.pattern import PATTERNS, Pattern
from mmfs.workload.program import FOREVER, MAX_BYTES, Program, workload

ARENA_BYTES = 64 << 20


def pages(nr_bytes: int) -> int:
    """Bytes rounded up to whole pages."""
    return -(-nr_bytes // PAGE_SIZE)


@workload
class Leak(Program):
    """Takes memory, writes it, and never gives it back."""

    name = "leak"
    anon = Parameter(rate, "10M/s", "how fast it grows")
    until = Parameter(size, "0", "how large it gets; 0: as large as it can")

    def start(self) -> None:
        self.used = 0
        self.room = 0
        self.addr = 0

    def step(self) -> int:
        now = self.kernel.clock.now_ns
        wanted = self.chunk(self.anon) if self.anon else 0
        if self.until:
            wanted = min(wanted, self.until - self.used)
        if wanted <= 0:
            return FOREVER
        if not self.room:
            self.addr, self.room = self.task.mmap(ARENA_BYTES), ARENA_BYTES
        length = min(wanted, self.room)
        self.task.touch(self.addr, length, write=True)
        self.used += length
        self.addr += length
        self.room -= length
        return self.pace.take(now, length, self.anon)

    def progress(self) -> str:
        return f"leaked {format_size(self.used)}"


class Filling(Program):
    """A program that writes to its `size` bytes at `addr` once before it does anything else."""

    addr: int
    size: int
    filled: int

    @property
    def settled(self) -> bool:
        return self.started and self.filled >= self.size

    def fill(self) -> bool:
        """Write to the next of them, if any are left; whether it has."""
        length = min(MAX_BYTES, self.size - self.filled)
        if length <= 0:
            return False
        self.task.touch(self.addr + self.filled, length, write=True)
        self.filled += length
        return True


@workload
class Hog(Filling):
    """Takes its memory at once and keeps it; goes on writing to it if a rate is given."""

    name = "hog"
    anon = Parameter(size, "0", "how much memory it takes")
    rate = Parameter(rate, "0", "how much of it it writes again a second")
    pattern = Parameter(one_of(*PATTERNS), "sequential", "which pages it writes")
    skew = Parameter(skew, "1", "exponent of the zipf pattern")

    def start(self) -> None:
        self.filled = 0
        self.size = 0
        self.written = 0
        self.grow()

    def grow(self) -> None:
        """Take the memory that a parameter asks for; it never shrinks."""
        if self.anon > self.size:
            old, self.size = self.size, self.anon
            self.addr = self.task.mremap(self.addr, old, self.size) if old else self.task.mmap(self.size)
        self.way = Pattern(self.pattern, max(pages(self.size), 1), self.skew, self.rng)

    def changed(self) -> None:
        self.grow()

    def step(self) -> int:
        now = self.kernel.clock.now_ns
        if self.fill():
            return 0
        if not self.rate or not self.size:
            return FOREVER
        n = pages(self.chunk(self.rate))
        self.task.touch(self.way.take(n) * PAGE_SIZE + self.addr, write=True)
        self.written += n * PAGE_SIZE
        return self.pace.take(now, n * PAGE_SIZE, self.rate)

    def progress(self) -> str:
        again = f", {format_size(self.written)} written again" if self.written else ""
        return f"holds {format_size(self.filled)}{again}"


@workload
class Mlock(Program):
    """Takes memory and locks it: nothing of it can be swapped out."""

    name = "mlock"
    anon = Parameter(size, "64M", "how much memory it locks")

    def start(self) -> None:
        self.locked = 0

    @property
    def settled(self) -> bool:
        return self.started and self.locked >= self.anon

    def step(self) -> int:
        if self.locked >= self.anon:
            return FOREVER
        length = min(MAX_BYTES, pages(self.anon - self.locked) * PAGE_SIZE)
        self.task.mlock(self.task.mmap(length), length)
        self.locked += length
        return 0

    def progress(self) -> str:
        return f"locked {format_size(self.locked)}"


@workload
class Idle(Filling):
    """A service with little to do: it wakes now and then and looks at its memory."""

    name = "idle"
    anon = Parameter(size, "16M", "how much memory it has")
    interval = Parameter(duration, "1s", "how often it wakes")
    touches = Parameter(size, "256K", "how much of its memory it then reads")

    def start(self) -> None:
        self.filled = 0
        self.wakeups = 0
        self.size = max(self.anon, PAGE_SIZE)
        self.addr = self.task.mmap(self.size)
        self.way = Pattern("random", pages(self.size), 1, self.rng)

    def step(self) -> int:
        if self.fill():
            return 0
        self.wakeups += 1
        if self.touches:
            self.task.touch(self.way.take(pages(min(self.touches, MAX_BYTES))) * PAGE_SIZE + self.addr)
        return max(self.interval, 1)

    def progress(self) -> str:
        return f"woke {self.wakeups} times"
