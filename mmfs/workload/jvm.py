"""A Java virtual machine: a heap that fills, is collected, grows, and shrinks again.

New objects fill the young generation; when that is full, a minor collection copies what lives into the old generation.
When the old generation has filled its part of the heap, a full collection looks at everything that lives and gives the
rest back. Memory that has been given back to the system is touched anew when the heap grows again.
"""

from __future__ import annotations

from mmfs.mm.mman import MADV_DONTNEED, MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE
from mmfs.mm_types import PAGE_SIZE
from mmfs.sizes import format_size
from mmfs.workload.memory import pages
from mmfs.workload.parameters import Parameter, rate, share, size, yes_or_no
from mmfs.workload.program import Program, workload

THREADS = ("GC Thread#0", "VM Thread", "C2 CompilerThre")
GC_BYTES = 2 << 20
"""What a collection looks at in a step."""


@workload
class Jvm(Program):
    """A server in Java: its heap grows, is collected, and shrinks."""

    name = "jvm"
    comm = "java"
    heap = Parameter(size, "512M", "how large the heap may get (-Xmx)")
    young = Parameter(size, "64M", "the young generation, which is collected when it is full")
    live = Parameter(size, "128M", "what the program really needs")
    alloc = Parameter(rate, "50M/s", "how much it allocates")
    survive = Parameter(share, "10%", "how much of the young generation lives on at a collection")
    shrink = Parameter(yes_or_no, "yes", "whether a full collection gives memory back to the system")

    def start(self) -> None:
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        self.size = max(pages(self.heap), 64) * PAGE_SIZE
        self.addr = self.task.mmap(self.size, PROT_READ | PROT_WRITE, flags)
        for name in THREADS:
            self.task.pthread_create(name, arena=False)
        self.eden = self.old = self.committed = 0
        self.minor = self.full = 0
        self.marked = -1
        """How far a full collection has come; -1 while there is none."""
        self.copying = 0
        """What a minor collection has still to copy."""

    @property
    def young_bytes(self) -> int:
        """The young generation, at most half of the heap."""
        return min(max(pages(self.young), 1) * PAGE_SIZE, self.size // 2)

    def step(self) -> int:
        now = self.kernel.clock.now_ns
        if self.marked >= 0:
            return self._mark()
        if self.copying:
            return self._copy()
        if self.eden >= self.young_bytes:
            return self._collect()
        length = min(self.chunk(self.alloc), self.young_bytes - self.eden)
        self.task.touch(self.addr + self.eden, length, write=True)
        self.eden += length
        return self.pace.take(now, length, self.alloc)

    def _collect(self) -> int:
        """The young generation is full."""
        self.minor += 1
        self.eden = 0
        self.copying = int(self.young_bytes * self.survive) // PAGE_SIZE * PAGE_SIZE
        if self.old + self.copying > self.size - self.young_bytes:
            self.copying = 0
            self.marked = 0
        return 0

    def _copy(self) -> int:
        """Copy survivors behind the old generation."""
        length = min(self.copying, GC_BYTES)
        self.task.touch(self.addr + self.young_bytes + self.old, length, write=True)
        self.old += length
        self.copying -= length
        self.committed = max(self.committed, self.old)
        return 0

    def _mark(self) -> int:
        """Look at all of the old generation, a part at a time; at the end what is dead goes."""
        begin = self.addr + self.young_bytes
        if self.marked < self.old:
            length = min(self.old - self.marked, GC_BYTES)
            self.task.touch(begin + self.marked, length)
            self.marked += length
            return 0
        self.marked = -1
        self.full += 1
        self.old = min(max(self.live, PAGE_SIZE) // PAGE_SIZE * PAGE_SIZE, self.old)
        if self.shrink == "yes" and self.committed > self.old:
            self.task.madvise(begin + self.old, self.committed - self.old, MADV_DONTNEED)
            self.committed = self.old
        return 0

    def progress(self) -> str:
        return f"heap {format_size(self.eden + self.old)}, {self.minor} minor and {self.full} full collections"
