# mypy: disable-error-code="misc"
"""System calls on ranges of any length, a slice at a time: between two slices others may run.

Each is a generator that does what the call of its name does; who calls from outside steps it (`/sim/control` does, so
that a mount goes on answering, and a writer that is interrupted ends it). What was done by then stays done, as when a
real call is interrupted.

Simplified: what Linux does in one call under the lock of the address space, or as one request, others may see half
done; a hole in the range of mlock() is found when it is reached, so what lies before it is in memory by then.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from mmfs.kernel.cputime import Cost
from mmfs.mm.access import access_range
from mmfs.mm.gup import mm_populate
from mmfs.mm.mlock import do_mlock, do_mlock2, do_munlock
from mmfs.mm.mman import CAP_IPC_LOCK, MAP_NONBLOCK, MAP_POPULATE
from mmfs.mm.munmap import do_munmap
from mmfs.mm_types import PAGE_MASK, PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.kernel.task import Task

TOUCH_SLICE = 2 << 20
"""As large as a huge page, so that none is cut."""
RANGE_SLICE = 32 << 20
"""How much of an address space is locked or unmapped at a time: half a millisecond's work."""
FILE_SLICE = 8 << 20
"""How much of a file is read or written at a time."""


def slices(start: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of [start, end) that lie between multiples of `size`."""
    while start < end:
        stop = min(end, (start | size - 1) + 1)
        yield start, stop
        start = stop


class SliceSyscalls:
    """The calls that come in slices; `Task` inherits them."""

    __slots__ = ()

    def touch_slices(
        self: Task, addr: int, length: int, write: bool = False, stride: int = PAGE_SIZE
    ) -> Iterator[None]:
        """As touch() of a range."""
        end, resume = addr + length, False
        while addr < end:
            stop = min(end, (addr | TOUCH_SLICE - 1) + 1)
            with self.running(resume) as mm:
                access_range(mm, addr, stop, write, stride)
            addr += -(-(stop - addr) // stride) * stride
            if addr < end:
                yield
            resume = True

    def mmap_slices(
        self: Task, length: int, prot: int, flags: int, file: str | None = None, offset: int = 0, addr: int = 0
    ) -> Generator[None, None, int]:
        """As mmap(), MAP_POPULATE in slices."""
        populate = flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE
        start = self.mmap(length, prot, flags & ~MAP_POPULATE if populate else flags, file, offset, addr)
        if populate:
            for at, stop in slices(start, start + length, TOUCH_SLICE):
                yield
                with self.running(resume=True) as mm:
                    mm_populate(mm, at, stop - at)
        return start

    def munmap_slices(self: Task, addr: int, length: int) -> Iterator[None]:
        """As munmap()."""
        mm = self._enter()
        if addr & ~PAGE_MASK or not 0 < length <= mm.task_size - addr:
            do_munmap(mm, addr, length)  # which says what is wrong with it
            return
        for start, stop in slices(addr, addr + length, RANGE_SLICE):
            if start > addr:
                yield
                mm = self._resume()
            before = mm.rss
            do_munmap(mm, start, stop - start)
            self.kernel.scheduler.charge(self, system_ns=max(before - mm.rss, 0) * Cost.UNMAP_PAGE)

    def mlock_slices(self: Task, addr: int, length: int, flags: int = 0) -> Iterator[None]:
        """As mlock(), or mlock2() with flags. A process with a limit locks little, and at once."""
        if self.mm is None or not self.mm.capable(CAP_IPC_LOCK) or length <= 0 or addr < 0:
            self.mlock(addr, length, flags)
            return
        resume = False
        for start, stop in slices(addr, addr + length, RANGE_SLICE):
            if resume:
                yield
            with self.running(resume) as mm:
                if flags:
                    do_mlock2(mm, start, stop - start, flags)
                else:
                    do_mlock(mm, start, stop - start)
            resume = True

    def munlock_slices(self: Task, addr: int, length: int) -> Iterator[None]:
        """As munlock()."""
        if length <= 0 or addr < 0:
            self.munlock(addr, length)
            return
        for start, stop in slices(addr, addr + length, RANGE_SLICE):
            if start > addr:
                yield
            do_munlock(self._resume() if start > addr else self._enter(), start, stop - start)

    def read_slices(self: Task, fd: int, count: int, offset: int) -> Generator[None, None, int]:
        """As read(); how many bytes there were."""
        taken = 0
        for start, stop in slices(offset, offset + count, FILE_SLICE):
            if taken:
                yield
            got = self.read(fd, stop - start, start)
            taken += got
            if got < stop - start:
                break
        return taken

    def write_slices(self: Task, fd: int, count: int, offset: int) -> Generator[None, None, int]:
        """As write(); how many bytes were taken."""
        taken = 0
        for start, stop in slices(offset, offset + count, FILE_SLICE):
            if taken:
                yield
            taken += self.write(fd, stop - start, start)
        return taken
