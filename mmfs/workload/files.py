"""Programs that work on files: a reader of more or less than fits into memory, a writer, one that fills a tmpfs."""

from __future__ import annotations

from mmfs.kernel.namei import O_CREAT, O_RDONLY, O_RDWR
from mmfs.mm.mman import MAP_SHARED, PROT_READ
from mmfs.mm_types import PAGE_SIZE
from mmfs.sizes import format_size
from mmfs.workload.memory import pages
from mmfs.workload.parameters import Parameter, one_of, path, rate, size, skew, yes_or_no
from mmfs.workload.pattern import PATTERNS, Pattern
from mmfs.workload.program import FOREVER, Program, workload

MAX_READS = 16
"""Blocks of a random pattern that a step reads."""


@workload
class CacheReader(Program):
    """Reads a file again and again: what fits into memory comes from the page cache."""

    name = "cache-reader"
    file = Parameter(size, "256M", "how large the file is, which is made if it is not there")
    path = Parameter(path, "/data/cache", "where it is")
    rate = Parameter(rate, "100M/s", "how much it reads; 0: as much as it can")
    pattern = Parameter(one_of(*PATTERNS), "sequential", "which part it reads next")
    skew = Parameter(skew, "1", "exponent of the zipf pattern")
    block = Parameter(size, "1M", "how much it reads at once (of a sequential pattern)")
    mmap = Parameter(yes_or_no, "no", "whether it maps the file instead of reading it")

    def start(self) -> None:
        self.nr_read = 0
        self.file_on_disk(self.path, max(self.file, PAGE_SIZE))
        self.fd = self.task.open(self.path, O_RDONLY)
        self.length = self.task.lseek(self.fd, 0, 2)
        self.addr = 0
        if self.mmap == "yes":
            self.addr = self.task.mmap(self.length, PROT_READ, MAP_SHARED, self.fd)
        self.changed()

    def changed(self) -> None:
        self.way = Pattern(self.pattern, max(self.length // PAGE_SIZE, 1), self.skew, self.rng)
        self.offset = 0

    def step(self) -> int:
        now = self.kernel.clock.now_ns
        if self.addr:
            length = self._touch()
        elif self.pattern == "sequential":
            length = self._read_on()
        else:
            length = self._read_blocks()
        self.nr_read += length
        return self.pace.take(now, length, self.rate)

    def _touch(self) -> int:
        n = pages(self.chunk(self.rate, most=1 << 20))
        self.task.touch(self.way.take(n) * PAGE_SIZE + self.addr)
        return n * PAGE_SIZE

    def _read_on(self) -> int:
        block = max(self.block, PAGE_SIZE)
        todo = max(self.chunk(self.rate, most=1 << 20) // block, 1)
        done = 0
        for _ in range(todo):
            if self.offset >= self.length:
                self.offset = 0
            got = self.task.read(self.fd, block, self.offset)
            self.offset += got
            done += got
        return done

    def _read_blocks(self) -> int:
        n = min(pages(self.chunk(self.rate)), MAX_READS)
        return sum(self.task.read(self.fd, PAGE_SIZE, page * PAGE_SIZE) for page in self.way.take(n).tolist())

    def progress(self) -> str:
        return f"read {format_size(self.nr_read)}"


@workload
class FileWriter(Program):
    """Writes a file from the beginning to its end, and again."""

    name = "file-writer"
    file = Parameter(size, "256M", "how large the file gets")
    path = Parameter(path, "/data/written", "where it is")
    rate = Parameter(rate, "20M/s", "how much it writes; 0: as much as it can")
    fsync = Parameter(size, "0", "after how much it waits until all is on the disk; 0: never")

    def start(self) -> None:
        self.offset = self.nr_written = self.unsynced = 0
        self.fd = self.task.open(self.path, O_RDWR | O_CREAT)

    def step(self) -> int:
        now = self.kernel.clock.now_ns
        if self.offset >= self.file:
            self.offset = 0
        length = min(self.chunk(self.rate, most=1 << 20), max(self.file - self.offset, PAGE_SIZE))
        length = self.task.write(self.fd, length, self.offset)
        self.offset += length
        self.nr_written += length
        self.unsynced += length
        if self.fsync and self.unsynced >= self.fsync:
            self.task.fsync(self.fd)
            self.unsynced = 0
        return self.pace.take(now, length, self.rate)

    def progress(self) -> str:
        return f"wrote {format_size(self.nr_written)}"


@workload
class Tmpfs(Program):
    """Fills a file in memory, which only swap can take out of it."""

    name = "tmpfs"
    file = Parameter(size, "128M", "how large the file gets")
    path = Parameter(path, "/dev/shm/filler", "where it is")
    rate = Parameter(rate, "50M/s", "how fast it grows; 0: as fast as it can")

    def start(self) -> None:
        self.offset = 0
        self.fd = self.task.open(self.path, O_RDWR | O_CREAT)

    def step(self) -> int:
        now = self.kernel.clock.now_ns
        if self.offset >= self.file:
            return FOREVER
        length = min(self.chunk(self.rate, most=1 << 20), self.file - self.offset)
        length = self.task.write(self.fd, length, self.offset)
        self.offset += length
        return self.pace.take(now, length, self.rate)

    def progress(self) -> str:
        return f"filled {format_size(self.offset)}"
