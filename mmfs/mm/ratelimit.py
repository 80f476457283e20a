"""Rate limits: a message that could come a thousand times a second comes a few times, and how often it did not.

Linux: lib/ratelimit.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.mm.debug import LOG_WARNING

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

NSEC_PER_SEC: Final = 1_000_000_000
DEFAULT_RATELIMIT_INTERVAL_NS: Final = 5 * NSEC_PER_SEC
DEFAULT_RATELIMIT_BURST: Final = 10


class RatelimitState:
    """At most `burst` in `interval_ns`. Linux: struct ratelimit_state."""

    def __init__(
        self,
        kernel: Kernel,
        function: str,
        interval_ns: int = DEFAULT_RATELIMIT_INTERVAL_NS,
        burst: int = DEFAULT_RATELIMIT_BURST,
    ) -> None:
        """`function` is the name that the line about the missed ones begins with."""
        self.kernel = kernel
        self.function = function
        self.interval_ns = interval_ns
        self.burst = burst
        self.begin_ns: int | None = None
        self.printed = self.missed = 0

    def ratelimit(self) -> bool:
        """Whether to go on. Linux: ___ratelimit()."""
        now = self.kernel.clock.now_ns
        if self.begin_ns is None:
            self.begin_ns = now
        if now > self.begin_ns + self.interval_ns:
            if self.missed:
                self.kernel.printk.emit(f"{self.function}: {self.missed} callbacks suppressed", LOG_WARNING)
            self.begin_ns, self.printed, self.missed = now, 0, 0
        if self.printed >= self.burst:
            self.missed += 1
            return False
        self.printed += 1
        return True
