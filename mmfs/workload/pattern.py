"""Which pages a program touches: one after the other, any, or some much more often than others.

Everything random comes from the program's own generator, so a run can be repeated.
"""

from __future__ import annotations

from functools import cache
from math import gcd
from typing import Final

import numpy as np
from numpy.typing import NDArray

PATTERNS: Final = ("sequential", "random", "zipf")
_SCATTER: Final = 0x9E3779B97F4A7C15
"""Spreads popular pages over the whole; odd, hence of no common divisor with powers of two."""
_AHEAD: Final = 1024
"""How many pages are drawn at a time: drawing few takes as long."""


class Pattern:
    """A way through `pages` pages."""

    def __init__(self, kind: str, pages: int, skew: float, rng: np.random.Generator) -> None:
        self.kind = kind
        self.pages = pages
        self.skew = skew
        self.rng = rng
        self.position = 0
        self.drawn = np.empty(0, np.int64)
        """Pages that were drawn and not taken yet."""

    def take(self, n: int) -> NDArray[np.int64]:
        """The next `n` pages."""
        if self.kind == "sequential":
            taken = np.arange(self.position, self.position + n, dtype=np.int64) % self.pages
            self.position = (self.position + n) % self.pages
            return taken
        if n > len(self.drawn):
            self.drawn = np.concatenate([self.drawn, self._draw(max(n, _AHEAD))])
        taken, self.drawn = self.drawn[:n], self.drawn[n:]
        return taken

    def _draw(self, n: int) -> NDArray[np.int64]:
        if self.kind == "random":
            return self.rng.integers(0, self.pages, n)
        return scatter(zipf(self.rng, self.pages, self.skew, n), self.pages)


def zipf(rng: np.random.Generator, n: int, exponent: float, size: int) -> NDArray[np.int64]:
    """Ranks below `n`, the lowest the most frequent: rank r as often as (r + 1) ** -exponent, smoothed."""
    u = rng.random(size)
    if abs(exponent - 1) < 1e-9:
        ranks = np.exp(u * np.log(n + 1.0))
    else:
        tail = 1 - exponent
        ranks = (u * ((n + 1.0) ** tail - 1) + 1) ** (1 / tail)
    below: NDArray[np.int64] = np.minimum(ranks.astype(np.int64), n) - 1
    return below


def scatter(ranks: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Ranks as pages: each rank a page of its own, neighbours far apart."""
    return ranks * coprime(n) % n


@cache
def coprime(n: int) -> int:
    """A large number that has no divisor in common with `n`."""
    factor = _SCATTER % n | 1
    while gcd(factor, n) != 1:
        factor += 2
    return factor
