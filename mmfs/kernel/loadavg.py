"""The load averages: exponentially damped counts of tasks that run or wait for a disk.

Every five seconds (and a tick) the number of active tasks enters three averages in fixed point with eleven
bits of fraction. The constants and the rounding are the kernel's own, so that a machine that is busy for a
minute shows the numbers a real one would.

Linux: kernel/sched/loadavg.c, calc_global_load(); include/linux/sched/loadavg.h.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mmfs.kernel.clock import HZ, TICK_NSEC, Clock

FSHIFT: Final = 11
FIXED_1: Final = 1 << FSHIFT
LOAD_FREQ: Final = 5 * HZ + 1
EXP_1: Final = 1884
EXP_5: Final = 2014
EXP_15: Final = 2037
SAMPLE_DELAY_TICKS: Final = 10


def calc_load(load: int, exp: int, active: int) -> int:
    """One step of a damped average, all in fixed point. Linux: include/linux/sched/loadavg.h, calc_load()."""
    newload = load * exp + active * (FIXED_1 - exp)
    if active >= load:
        newload += FIXED_1 - 1
    return newload // FIXED_1


class LoadAverage:
    """avenrun[3], sampled every LOAD_FREQ ticks."""

    def __init__(self, clock: Clock, nr_active: Callable[[], int]) -> None:
        self.avenrun = [0, 0, 0]
        self.nr_active = nr_active
        first = (LOAD_FREQ + SAMPLE_DELAY_TICKS) * TICK_NSEC
        clock.call_every("calc_global_load", LOAD_FREQ * TICK_NSEC, self.calc_global_load, first)

    def calc_global_load(self) -> None:
        """Take a sample."""
        active = self.nr_active() * FIXED_1
        self.avenrun = [
            calc_load(load, exp, active) for load, exp in zip(self.avenrun, (EXP_1, EXP_5, EXP_15), strict=True)
        ]

    def get_avenrun(self) -> tuple[str, str, str]:
        """The three averages with two decimals, rounded as /proc/loadavg rounds. Linux: get_avenrun()."""
        rounded = [load + FIXED_1 // 200 for load in self.avenrun]
        one, five, fifteen = (f"{n >> FSHIFT}.{((n & (FIXED_1 - 1)) * 100) >> FSHIFT:02d}" for n in rounded)
        return one, five, fifteen
