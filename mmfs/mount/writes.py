"""Writes that take long, such as `step 1h` to sim/clock: done a slice at a time, while others are served.

There is one thread for all requests. A write(2) whose store works in slices is therefore not answered at once: the
loop of `mmfs.mount.libfuse` takes requests as before, and between them, or when there are none, a slice is done here
with the lock held. The writer sleeps until the answer comes. A signal to it (^C) breaks the write off between two
slices, with EINTR, and what has been done by then stays done.

Who reads goes first, and as most readers follow a request by another at once, the loop looks out for that a moment
before it turns to the writes. They get a fifth of the time whoever else asks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mmfs.kernfs.file import Slices

SLICE_SECONDS: Final = 0.001
PATIENCE: Final = 4
"""How many times as long as the last slice took others may keep the writes from getting on."""
YIELD_SECONDS: Final = 0.00005
"""Time for a thread that waits for the lock to take it."""


class LongWrites:
    """The writes under way, by the number of their request; they take turns."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, Slices]] = deque()
        self._last = 0.0
        self._took = 0.0

    def __len__(self) -> int:
        return len(self.waiting)

    def defer(self, unique: int, slices: Slices) -> None:
        """Let others go first."""
        if not self.waiting:
            self._last = time.monotonic()
        self.waiting.append((unique, slices))

    def begin(self, unique: int, slices: Slices) -> int | None:
        """The first slice; what the write has taken if that was all."""
        taken = self._slice(slices)
        if taken is None:
            self.waiting.append((unique, slices))
        return taken

    @property
    def due(self) -> bool:
        """Whether a slice has to be done though others wait."""
        return time.monotonic() - self._last > PATIENCE * self._took

    def work(self, answer: Callable[[int, Callable[[], int | None]], bool]) -> None:
        """A slice of the write whose turn it is; `answer(unique, work)` calls `work` and says whether that is done."""
        unique, slices = self.waiting.popleft()
        if not answer(unique, lambda: self._slice(slices)):
            self.waiting.append((unique, slices))
        time.sleep(YIELD_SECONDS)

    def interrupt(self, unique: int) -> bool:
        """Break a write off; whether there is such a one."""
        for one in self.waiting:
            if one[0] == unique:
                self.waiting.remove(one)
                one[1].close()
                return True
        return False

    def _slice(self, slices: Slices) -> int | None:
        begin = time.monotonic()
        try:
            while time.monotonic() - begin < SLICE_SECONDS:
                next(slices)
        except StopIteration as end:
            return int(end.value)
        finally:
            self._last = time.monotonic()
            self._took = self._last - begin
        return None
