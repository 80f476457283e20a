"""A database: a pool of buffers that its workers share, a data file that is larger, and a log.

A query looks at a few blocks of the data file, popular ones more often. A block that is not in the pool is read from
the file, through the page cache; a query that writes leaves its block dirty and appends to the log, which it waits for
(some queries commit together). A checkpoint writes what is dirty back into the data file. So the same blocks lie in the
pool and in the page cache, as in real life.
"""

from __future__ import annotations

import numpy as np

from mmfs.kernel.clock import NSEC_PER_MSEC
from mmfs.kernel.namei import O_CREAT, O_RDWR
from mmfs.kernel.signal import SIGCHLD, reap_children
from mmfs.mm.mman import MAP_ANONYMOUS, MAP_SHARED, PROT_READ, PROT_WRITE
from mmfs.workload.parameters import Parameter, duration, frequency, path, positive, share, size, skew
from mmfs.workload.pattern import Pattern
from mmfs.workload.program import FOREVER, Program, programs_of, workload

BLOCK = 8192
LOG_SEGMENT = 64 << 20
MAX_QUERIES = 64
"""Queries of a worker's step."""
MAX_WRITES = 32
"""Blocks of a checkpoint's step."""


class BufferPool:
    """Which block of the data file each buffer holds, and what is dirty: the memory that the workers share."""

    def __init__(self, buffers: int, blocks: int) -> None:
        self.tags = np.full(buffers, -1, np.int64)
        self.dirty = np.zeros(buffers, bool)
        self.blocks = blocks
        self.log_end = 0
        self.queries = self.hits = self.reads = 0


@workload
class Database(Program):
    """A database server: workers that share a pool of buffers, a data file, a log, checkpoints."""

    name = "database"
    comm = "postgres"
    buffers = Parameter(size, "64M", "the pool of buffers that the workers share")
    file = Parameter(size, "512M", "how large the data file is, which is made if it is not there")
    path = Parameter(path, "/data/db", "where it is; the log is PATH.log")
    workers = Parameter(positive, "4", "how many processes serve queries")
    rate = Parameter(frequency, "500/s", "queries a second, of all workers; 0: as many as they can")
    blocks = Parameter(positive, "4", "blocks that a query looks at")
    writes = Parameter(share, "20%", "queries that write")
    skew = Parameter(skew, "0.9", "how much the most popular blocks stand out")
    checkpoint = Parameter(duration, "30s", "how often all dirty buffers are written")

    def start(self) -> None:
        self.pool = BufferPool(max(self.buffers // BLOCK, 1), max(self.file // BLOCK, 1))
        self.file_on_disk(self.path, self.pool.blocks * BLOCK)
        self.addr = self.task.mmap(len(self.pool.tags) * BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS)
        self.fd = self.task.open(self.path, O_RDWR)
        self.log = self.task.open(f"{self.path}.log", O_RDWR | O_CREAT)
        self.task.sigaction(SIGCHLD, reap_children)
        self.nr_workers = 0
        self.todo: list[int] = []
        self.checkpoints = 0
        self.next_ns = self.kernel.clock.now_ns + self.checkpoint

    @property
    def settled(self) -> bool:
        return self.started and self.nr_workers >= self.workers

    def step(self) -> int:
        if self.nr_workers < self.workers:
            self.nr_workers += 1
            child = self.task.fork()
            programs_of(self.kernel).add(Worker(child, self))
            return NSEC_PER_MSEC
        now = self.kernel.clock.now_ns
        if not self.todo and now >= self.next_ns:
            self.next_ns = now + max(self.checkpoint, NSEC_PER_MSEC)
            self.todo = np.flatnonzero(self.pool.dirty)[::-1].tolist()
            self.checkpoints += 1
        for _ in range(min(len(self.todo), MAX_WRITES)):
            buffer = self.todo.pop()
            self.task.write(self.fd, BLOCK, int(self.pool.tags[buffer]) * BLOCK)
            self.pool.dirty[buffer] = False
        return 10 * NSEC_PER_MSEC if self.todo else max(self.next_ns - now, NSEC_PER_MSEC)

    def changed(self) -> None:
        self.next_ns = min(self.next_ns, self.kernel.clock.now_ns + self.checkpoint)

    def progress(self) -> str:
        pool = self.pool
        looked = max(pool.queries * self.blocks, 1)
        return (
            f"{pool.queries} queries, {pool.hits * 100 // looked}% of blocks in the pool, "
            f"{self.checkpoints} checkpoints"
        )


class Worker(Program):
    """A process that serves queries."""

    def __init__(self, task: object, server: Database) -> None:
        super().__init__(task)  # type: ignore[arg-type]
        self.server = server
        self.way = Pattern("zipf", server.pool.blocks, server.skew, self.rng)

    def step(self) -> int:
        server, pool, now = self.server, self.server.pool, self.kernel.clock.now_ns
        if not server.task.alive:
            self.task.exit(1)
            return FOREVER
        per_worker = -(-server.rate // server.workers) if server.rate else 0
        queries = min(max(per_worker // 10, 1), MAX_QUERIES) if per_worker else MAX_QUERIES // 4
        if self.way.skew != server.skew:
            self.way = Pattern("zipf", pool.blocks, server.skew, self.rng)
        wanted = self.way.take(queries * server.blocks)
        buffers = wanted % len(pool.tags)
        missing = np.flatnonzero(pool.tags[buffers] != wanted)
        for at in missing.tolist():
            self._replace(int(buffers[at]), int(wanted[at]))
        if len(missing):
            self.task.touch(self._pages(buffers[missing]), write=True)
        self.task.touch(self._pages(buffers))
        self._write(buffers[:: server.blocks])
        pool.queries += queries
        pool.hits += len(wanted) - len(missing)
        return self.pace.take(now, queries, per_worker)

    def _pages(self, buffers: np.ndarray) -> np.ndarray:
        """The addresses of both pages of some buffers."""
        addresses = self.server.addr + buffers * BLOCK
        return np.concatenate([addresses, addresses + BLOCK // 2])

    def _replace(self, buffer: int, block: int) -> None:
        """Read a block for a buffer, into which it is copied with others; what is dirty there is written first."""
        server, pool = self.server, self.server.pool
        if pool.tags[buffer] == block:
            return
        if pool.dirty[buffer]:
            self.task.write(server.fd, BLOCK, int(pool.tags[buffer]) * BLOCK)
            pool.dirty[buffer] = False
        self.task.read(server.fd, BLOCK, block * BLOCK)
        pool.tags[buffer] = block
        pool.reads += 1

    def _write(self, first: np.ndarray) -> None:
        """Some queries change the first block that they looked at, and append that to the log."""
        server, pool = self.server, self.server.pool
        writers = first[self.rng.random(len(first)) < server.writes]
        if not len(writers):
            return
        self.task.touch(server.addr + writers * BLOCK, write=True)
        pool.dirty[writers] = True
        pool.log_end += self.task.write(server.log, len(writers) * 512, pool.log_end % LOG_SEGMENT)
        self.task.fdatasync(server.log)
