"""Process numbers, handed out in a circle.

The next pid is the lowest free one above the last; past pid_max the search starts again at 300, so that the
low numbers of boot stay with those who have them. 1 and 2 therefore always are init and kthreadd.

Linux: kernel/pid.c.
"""

from __future__ import annotations

import errno
from collections.abc import Container
from typing import Final

RESERVED_PIDS: Final = 300
PID_MAX_DEFAULT: Final = 0x8000
PID_MAX_LIMIT: Final = 4 << 20
PIDS_PER_CPU_DEFAULT: Final = 1024
PIDS_PER_CPU_MIN: Final = 8


class PidAllocator:
    """The cursor and the bounds of a pid namespace.

    Linux: kernel/pid.c, pid_idr_init(), alloc_pid().
    """

    def __init__(self, nr_cpus: int) -> None:
        self.pid_max = min(PID_MAX_LIMIT, max(PID_MAX_DEFAULT, PIDS_PER_CPU_DEFAULT * nr_cpus))
        self.pid_max_min = max(RESERVED_PIDS + 1, PIDS_PER_CPU_MIN * nr_cpus)
        self.pid_max_max = PID_MAX_LIMIT
        self.last_pid = 0
        """The pid given out last, the fifth field of /proc/loadavg."""

    def alloc_pid(self, taken: Container[int]) -> int:
        """The next number that nobody in `taken` has; EAGAIN when there is none."""
        floor = RESERVED_PIDS if self.last_pid + 1 > RESERVED_PIDS else 1
        start = max(self.last_pid + 1, floor)
        for lower, upper in ((start, self.pid_max), (floor, min(start, self.pid_max))):
            for nr in range(lower, upper):
                if nr not in taken:
                    self.last_pid = nr
                    return nr
        raise BlockingIOError(errno.EAGAIN, "no free pid")

    def skip(self, count: int) -> None:
        """Let `count` numbers pass, as short-lived programs do that ran and were reaped during boot."""
        self.last_pid += count
        if self.last_pid >= self.pid_max:
            self.last_pid = RESERVED_PIDS + self.last_pid % (self.pid_max - RESERVED_PIDS)
