"""/sim/clock: simulated time, to be looked at and to be moved.

    pause        time stands still            run          it runs again
    rate 10      ten seconds a real one       step 5s      five seconds pass now (ns us ms s m h; s if none is named)

What ties the clock to real time (the daemon of a mount) obeys `rate`, `pause` and `run`; a step is done when write(2)
returns, whether time runs or not.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from mmfs.fs.sim.root import sim
from mmfs.kernel.clock import NSEC_PER_SEC, NSEC_PER_USEC
from mmfs.kernel.clock import parse_duration as clock_duration

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

RATE: Final = re.compile(r"\d{1,7}(?:\.\d{1,9})?|\.\d{1,9}", re.ASCII)
STEP_EVENTS: Final = 4
"""How many wakeups others wait for during a step."""
MAX_RATE: Final = 1e6
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def invalid(reason: str) -> OSError:
    """EINVAL with a reason."""
    return OSError(errno.EINVAL, reason)


def parse_duration(text: str) -> int:
    """Nanoseconds of 5s, 100ms, 2.5, 1h."""
    try:
        return clock_duration(text)
    except ValueError as error:
        raise invalid(str(error)) from None


def parse_rate(text: str) -> float:
    """A factor above zero, with or without an x behind it."""
    number = text.removesuffix("x")
    rate = float(number) if RATE.fullmatch(number) else 0.0
    if not 0 < rate <= MAX_RATE:
        raise invalid(f"{text!r} is not a rate above zero")
    return rate


def set_clock(kernel: Kernel, text: str) -> Generator[None, None, None]:
    """Do what one of the words at the top of this file says."""
    word, _, argument = text.strip().partition(" ")
    argument = argument.strip()
    if word in ("pause", "run") and not argument:
        kernel.clock.paused = word == "pause"
    elif word == "rate" and argument:
        kernel.clock.rate = parse_rate(argument)
    elif word == "step" and argument:
        until = kernel.clock.now_ns + parse_duration(argument)
        while not kernel.clock.run_until(until, max_events=STEP_EVENTS):
            yield
    else:
        raise invalid("neither pause, run, rate X nor step TIME")


@sim.attribute("clock")
def clock(kernel: Kernel) -> str:
    """Whether time runs and how fast, how long the machine is up, what its calendar says."""
    now = kernel.clock
    seconds, rest = divmod(now.now_ns, NSEC_PER_SEC)
    date = EPOCH + timedelta(microseconds=now.realtime_ns // NSEC_PER_USEC)
    return (
        f"state {'halted' if now.halted else 'paused' if now.paused else 'running'}\n"
        f"rate {now.rate:g}\n"
        f"uptime {seconds}.{rest:09d}\n"
        f"date {date:%Y-%m-%dT%H:%M:%S.%f}Z\n"
    )


@clock.store
def clock_store(kernel: Kernel, buf: str) -> Generator[None, None, None]:
    """Move it."""
    return set_clock(kernel, buf)
