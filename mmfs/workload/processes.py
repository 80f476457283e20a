"""Programs that are many processes: a server that forks for each request, a build that runs compilers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.kernel.clock import NSEC_PER_MSEC
from mmfs.kernel.namei import O_CREAT, O_RDWR
from mmfs.kernel.signal import SIGCHLD, reap_children
from mmfs.mm_types import PAGE_SIZE
from mmfs.workload.memory import Filling, pages
from mmfs.workload.parameters import Parameter, count, duration, frequency, path, positive, size
from mmfs.workload.pattern import Pattern
from mmfs.workload.program import FOREVER, MAX_BYTES, Program, programs_of, workload

if TYPE_CHECKING:
    from mmfs.kernel.task import Task

COMPILE_STEP_NS = 10 * NSEC_PER_MSEC
"""What a compiler computes between two looks at its memory."""


def child_died(task: Task, sig: int) -> None:
    """On SIGCHLD: reap, and go on."""
    reap_children(task, sig)
    if task.kernel.workload is not None:
        task.kernel.workload.wake(task)


@workload
class ForkServer(Filling):
    """A server that forks a process for each request; each copies what it writes of the server's memory."""

    name = "forkserver"
    anon = Parameter(size, "64M", "the server's memory")
    rate = Parameter(frequency, "10/s", "requests a second")
    dirty = Parameter(size, "1M", "how much of the memory a request writes")
    life = Parameter(duration, "200ms", "how long a request takes")
    most = Parameter(positive, "100", "how many requests are served at once")

    def start(self) -> None:
        self.size = max(pages(self.anon), 1) * PAGE_SIZE
        self.addr = self.task.mmap(self.size)
        self.filled = self.served = 0
        self.task.sigaction(SIGCHLD, reap_children)

    def step(self) -> int:
        now = self.kernel.clock.now_ns
        if self.fill():
            return 0
        if not self.rate:
            return FOREVER
        if len(self.task.children) < self.most:
            child = self.task.fork()
            programs_of(self.kernel).add(Request(child, self))
            self.served += 1
        return self.pace.take(now, 1, self.rate)

    def progress(self) -> str:
        return f"{self.served} requests, {len(self.task.children)} now"


class Request(Program):
    """A process that serves one request of a `ForkServer`."""

    def __init__(self, task: Task, server: ForkServer) -> None:
        super().__init__(task)
        self.server = server

    def start(self) -> None:
        self.left = min(self.server.dirty, self.server.size)
        self.way = Pattern("random", pages(self.server.size), 1, self.rng)
        self.end_ns = self.kernel.clock.now_ns + self.server.life

    def step(self) -> int:
        if self.left > 0:
            n = pages(min(self.left, MAX_BYTES))
            self.task.touch(self.way.take(n) * PAGE_SIZE + self.server.addr, write=True)
            self.left -= n * PAGE_SIZE
            return 0
        now = self.kernel.clock.now_ns
        if now < self.end_ns:
            return self.end_ns - now
        self.task.exit(0)
        return FOREVER


@workload
class Batch(Program):
    """A build: compilers, several at a time, that read sources, take memory, compute and write an object file."""

    name = "batch"
    comm = "make"
    jobs = Parameter(positive, "4", "how many run at once")
    total = Parameter(count, "0", "how many in all; 0: without end")
    memory = Parameter(size, "48M", "memory that a compiler takes")
    cpu = Parameter(duration, "500ms", "how long it computes")
    sources = Parameter(size, "64M", "sources and headers, of which each reads a part")
    object = Parameter(size, "256K", "what each writes")
    path = Parameter(path, "/data/build", "where sources and objects are")

    def start(self) -> None:
        self.begun = 0
        self.file_on_disk(f"{self.path}/sources", max(self.sources, PAGE_SIZE))
        self.task.sigaction(SIGCHLD, child_died)

    def step(self) -> int:
        if self.total and self.begun >= self.total:
            if not self.task.children:
                self.task.exit(0)
            return FOREVER
        if len(self.task.children) >= self.jobs:
            return FOREVER
        self.begun += 1
        child = self.task.fork()
        programs_of(self.kernel).add(Compiler(child, self, self.begun))
        return NSEC_PER_MSEC

    def progress(self) -> str:
        return f"{self.begun} begun, {len(self.task.children)} run"


class Compiler(Program):
    """One compiler of a `Batch`."""

    READS = 4 << 20

    def __init__(self, task: Task, build: Batch, number: int) -> None:
        super().__init__(task)
        self.build = build
        self.number = number

    def start(self) -> None:
        self.task.execve("cc1", ["cc1", f"{self.number}.c"])
        self.fd = self.task.open(f"{self.build.path}/sources")
        self.nr_read = self.taken = 0
        self.cpu_left = self.build.cpu
        self.size = max(pages(self.build.memory), 1) * PAGE_SIZE
        self.addr = self.task.mmap(self.size)

    def step(self) -> int:
        if self.nr_read < min(self.READS, self.build.sources):
            offset = self.random.randrange(max(self.build.sources >> 17, 1)) << 17
            self.nr_read += max(self.task.read(self.fd, 128 << 10, offset), 1)
            return 0
        if self.cpu_left > 0:
            share = min(COMPILE_STEP_NS / self.build.cpu, 1)
            length = min(max(int(self.size * share), PAGE_SIZE), self.size - self.taken, MAX_BYTES)
            if length:
                self.task.touch(self.addr + self.taken, length, write=True)
                self.taken += length
            self.compute(min(self.cpu_left, COMPILE_STEP_NS))
            self.cpu_left -= COMPILE_STEP_NS
            return 0
        return self._finish()

    def _finish(self) -> int:
        fd = self.task.open(f"{self.build.path}/{self.number}.o", O_RDWR | O_CREAT)
        self.task.write(fd, max(self.build.object, 1), 0)
        self.task.exit(0)
        return FOREVER
