"""Simulated time: the one place where time moves.

The clock is a heap of wakeups ordered by (time, sequence number), so that two runs with the same seed and
the same calls fire the same callbacks in the same order. Nothing in the model reads the host's clock:
time passes only in `run_until()` and `run_for()`, which `Kernel.run_for()`, the daemon's ticker and `/sim/clock`
call, and `Kernel.schedule()` for a system call from outside that takes long. What a wakeup does takes no time at
once and never moves the clock: its cost is work that is queued on a CPU (kernel/scheduler.py).

A kernel thread is a `Periodic`: a callback with a period. What it has to remember between two runs it
keeps in the objects of the model, never in a stack frame, and callbacks are bound methods, so a whole
kernel can be pickled between two wakeups.

Timestamps are integers in nanoseconds since boot (CLOCK_BOOTTIME). The kernel's jiffies run at HZ = 250
and start five minutes before they wrap at 32 bits, as Linux's do; what user space sees of ticks is in
USER_HZ = 100.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable
from typing import Final

NSEC_PER_USEC: Final = 1_000
NSEC_PER_MSEC: Final = 1_000_000
NSEC_PER_SEC: Final = 1_000_000_000

HZ: Final = 250
USER_HZ: Final = 100
TICK_NSEC: Final = NSEC_PER_SEC // HZ
INITIAL_JIFFIES: Final = (-300 * HZ) & 0xFFFFFFFF
"""Linux: include/linux/jiffies.h, INITIAL_JIFFIES."""

BOOT_REALTIME_NS: Final = 1_767_225_600 * NSEC_PER_SEC
"""Every simulated machine is switched on at 2026-01-01T00:00:00Z."""


UNITS: Final = {
    "ns": 1, "us": NSEC_PER_USEC, "ms": NSEC_PER_MSEC, "": NSEC_PER_SEC, "s": NSEC_PER_SEC, "m": 60 * NSEC_PER_SEC,
    "min": 60 * NSEC_PER_SEC, "h": 3600 * NSEC_PER_SEC,
}  # fmt: skip
_DURATION: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*([a-z]*)", re.ASCII)


def parse_duration(text: str) -> int:
    """Nanoseconds of 5s, 100ms, 2.5, 1h; ValueError."""
    match = _DURATION.fullmatch(text)
    unit = UNITS.get(match[2]) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is not a duration such as 5s or 100ms")
    whole, _, fraction = match[1].partition(".")
    return int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)


def nsec_to_clock_t(nsec: int) -> int:
    """The USER_HZ ticks in a number of nanoseconds, rounded down. Linux: kernel/time/time.c, nsec_to_clock_t()."""
    return nsec // (NSEC_PER_SEC // USER_HZ)


class Timer:
    """One wakeup in the heap; `cancel()` makes it a no-op."""

    __slots__ = ("args", "function", "seq", "when_ns")

    def __init__(self, when_ns: int, seq: int, function: Callable[..., object], args: tuple[object, ...]) -> None:
        self.when_ns = when_ns
        self.seq = seq
        self.function: Callable[..., object] | None = function
        self.args = args

    def __lt__(self, other: Timer) -> bool:
        return (self.when_ns, self.seq) < (other.when_ns, other.seq)

    @property
    def pending(self) -> bool:
        """Whether the timer has neither fired nor been cancelled."""
        return self.function is not None

    def fire(self) -> None:
        """Do it now, whatever the time is."""
        function, args = self.function, self.args
        self.cancel()
        if function is not None:
            function(*args)

    def cancel(self) -> None:
        """Never fire; the heap drops the entry when its time comes."""
        self.function = None
        self.args = ()


class Periodic:
    """A kernel thread's or work item's regular run: `function()` every `period_ns`.

    The period may be changed while it runs (a sysctl does that); 0 stops it, `Clock.restart()` starts it again.
    """

    __slots__ = ("function", "name", "period_ns", "runs", "timer")

    def __init__(self, name: str, period_ns: int, function: Callable[[], object]) -> None:
        self.name = name
        self.period_ns = period_ns
        self.function = function
        self.timer: Timer | None = None
        self.runs = 0


class Clock:
    """CLOCK_BOOTTIME of a simulated machine and everything that waits for it."""

    def __init__(self, realtime_base_ns: int = BOOT_REALTIME_NS) -> None:
        self.now_ns = 0
        self.realtime_base_ns = realtime_base_ns
        self.rate = 1.0
        """Simulated seconds a real one, and whether time stands still: for whoever ties the clock to real time."""
        self.paused = False
        self.running = False
        """Whether a wakeup is being served: then time cannot be moved, and waits are only noted."""
        self.periodics: dict[str, Periodic] = {}
        self.halted = False
        """Nothing will happen any more: the kernel has panicked."""
        self._heap: list[tuple[int, int, Timer]] = []
        self._seq = 0

    @property
    def realtime_ns(self) -> int:
        """CLOCK_REALTIME: nanoseconds since 1970."""
        return self.realtime_base_ns + self.now_ns

    @property
    def boottime_ns(self) -> int:
        """When the machine was switched on, in nanoseconds since 1970: the btime of /proc/stat."""
        return self.realtime_base_ns

    @property
    def jiffies(self) -> int:
        """Timer ticks, from INITIAL_JIFFIES at boot."""
        return INITIAL_JIFFIES + self.now_ns // TICK_NSEC

    @property
    def nr_timers(self) -> int:
        """Wakeups that were asked for so far, which is what an idle machine costs."""
        return self._seq

    def add_timer(self, when_ns: int, function: Callable[..., object], *args: object) -> Timer:
        """Call `function(*args)` when the clock reaches `when_ns` (at once on the next run if that has passed)."""
        if when_ns < self.now_ns:
            when_ns = self.now_ns
        seq = self._seq
        self._seq = seq + 1
        timer = Timer(when_ns, seq, function, args)
        heapq.heappush(self._heap, (when_ns, seq, timer))
        return timer

    def call_every(
        self, name: str, period_ns: int, function: Callable[[], object], first_ns: int | None = None
    ) -> Periodic:
        """Run `function` every `period_ns`, first at `first_ns` (one period from now by default)."""
        if name in self.periodics:
            raise ValueError(f"periodic work {name!r} is registered already")
        work = Periodic(name, period_ns, function)
        self.periodics[name] = work
        self.restart(work, first_ns)
        return work

    def restart(self, work: Periodic, first_ns: int | None = None) -> None:
        """(Re)arm periodic work after its period has changed."""
        if work.timer is not None:
            work.timer.cancel()
            work.timer = None
        if work.period_ns > 0:
            when = self.now_ns + work.period_ns if first_ns is None else first_ns
            work.timer = self.add_timer(when, self._run_periodic, work)

    def forget(self, name: str) -> None:
        """End periodic work, if there is any of that name."""
        work = self.periodics.pop(name, None)
        if work is not None:
            work.period_ns = 0
            self.restart(work)

    def _run_periodic(self, work: Periodic) -> None:
        work.timer = None
        work.runs += 1
        work.function()
        if work.timer is None and work.period_ns > 0:
            work.timer = self.add_timer(self.now_ns + work.period_ns, self._run_periodic, work)

    def next_event_ns(self) -> int | None:
        """When the next wakeup is due, None if nothing waits."""
        heap = self._heap
        while heap and heap[0][2].function is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def run_until(self, when_ns: int, max_events: int | None = None) -> bool:
        """Let time pass up to `when_ns`, firing what falls due; False if `max_events` came first.

        A caller that must not hold the machine long (the daemon's ticker) passes `max_events` and calls again.
        """
        if self.running:
            raise RuntimeError("time is moved from within a wakeup")
        if self.halted:
            return True
        heap = self._heap
        self.running = True
        try:
            while heap and heap[0][0] <= when_ns:
                if max_events is not None:
                    if max_events <= 0:
                        return False
                    max_events -= 1
                due_ns, _, timer = heapq.heappop(heap)
                function, args = timer.function, timer.args
                if function is None:
                    continue
                timer.function, timer.args = None, ()
                if due_ns > self.now_ns:
                    self.now_ns = due_ns
                function(*args)
        finally:
            self.running = False
        self.now_ns = max(self.now_ns, when_ns)
        return True

    def halt(self) -> None:
        """Stop for good."""
        self.halted = True
        self._heap.clear()

    def run_for(self, duration_ns: int) -> None:
        """Let `duration_ns` nanoseconds pass."""
        self.run_until(self.now_ns + duration_ns)
