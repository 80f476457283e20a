# cython: language_level=3
"""What is in pages, as far as compression goes: how small a page becomes.

Pages have no contents here. How well one compresses follows from what kind of page it is and from a number that stays
with it (its place in its mapping), so that it is the same whenever it is asked for.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_KINDS = 2
_MEAN = cython.declare(cython.int, 0)
_SPREAD = cython.declare(cython.int, 1)
_INCOMPRESSIBLE = cython.declare(cython.int, 2)
_SAME = cython.declare(cython.int, 3)
_ZERO = cython.declare(cython.int, 4)
_SMALLEST = cython.declare(cython.int, 24)
_ALL_BITS = cython.declare(cython.ulong, (1 << 64) - 1)
_GAMMA = cython.declare(cython.ulong, 0x9E3779B97F4A7C15)
_MIX_1 = cython.declare(cython.ulong, 0xBF58476D1CE4E5B9)
_MIX_2 = cython.declare(cython.ulong, 0x94D049BB133111EB)


class Contents:
    """``table`` int32 [anonymous or shared memory, what]: in thousandths, to how much of its size a page compresses
    with lz4, give or take how much; how many pages do not compress; are one word all over; are zero all over.

    ``cpu_ns`` is what compressing and the reverse have taken, until somebody accounts it.
    """

    def __init__(self, frames):
        self.frames = frames
        self.table = np.zeros((_KINDS, 5), np.int32)
        self.kind = view(self.table)
        self.cpu_ns = 0

    def take_ns(self):
        """The time that compressing has taken since this was asked last."""
        ns: cython.long = self.cpu_ns
        self.cpu_ns = 0
        return ns

    def hash(self, pfn):
        """A number that stays with a page (SplitMix64)."""
        h: cython.ulong = cython.cast(cython.ulong, self.frames.page[pfn].mapping) << 32
        h = (h | self.frames.page[pfn].index) + _GAMMA & _ALL_BITS
        h = (h ^ h >> 30) * _MIX_1 & _ALL_BITS
        h = (h ^ h >> 27) * _MIX_2 & _ALL_BITS
        return h ^ h >> 31

    def compressed(self, pfn, factor):
        """Bytes that a page takes: 0 if it is all zero, PAGE_SIZE if it does not compress, below 0 if it is one word.

        ``factor``: thousandths of what lz4 makes of it.
        """
        h: cython.ulong = self.hash(pfn)
        kind: cython.int = 0 if self.frames.page[pfn].flags & PG_ANON else 1
        what: cython.int = cython.cast(cython.int, h % 1000)
        size: cython.long
        if what < self.kind[kind, _ZERO]:
            return 0
        what -= self.kind[kind, _ZERO]
        if what < self.kind[kind, _SAME]:
            return -_SMALLEST
        what -= self.kind[kind, _SAME]
        if what < self.kind[kind, _INCOMPRESSIBLE]:
            return PAGE_SIZE
        size = self.kind[kind, _MEAN] - self.kind[kind, _SPREAD]
        size += cython.cast(cython.long, (h >> 20) % cython.cast(cython.ulong, 2 * self.kind[kind, _SPREAD] + 1))
        size = PAGE_SIZE * size // 1000 * factor // 1000
        return cython.cast(cython.int, min(max(size, cython.cast(cython.long, _SMALLEST)), PAGE_SIZE))
