# cython: language_level=3
"""What memory cgroups use and may use: a counter of each kind a row, and the rows' tree.

Charging goes from a row up through its parents.

``records`` PAGE_COUNTER_DTYPE [MAX_MEMCGS * NR_MEMCG_COUNTERS]; ``parents`` int32 [MAX_MEMCGS], -1 above the root.

Linux: mm/page_counter.c.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view
from mmfs.mm_types import PAGE_COUNTER_DTYPE

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403


class PageCounters:
    """The counters of all rows."""

    def __init__(self):
        self.records = lazy_array(MAX_MEMCGS * NR_MEMCG_COUNTERS, PAGE_COUNTER_DTYPE)
        self.parents = lazy_array(MAX_MEMCGS, np.int32)
        self.counter = view(self.records)
        self.parent = view(self.parents)

    def init(self, memcg, parent):
        """A row begins: no limits, nothing used. Linux: page_counter_init()."""
        kind: cython.int
        at: cython.long
        self.parent[memcg] = parent
        for kind in range(NR_MEMCG_COUNTERS):
            at = memcg * NR_MEMCG_COUNTERS + kind
            self.counter[at].max = self.counter[at].high = cython.cast(cython.long, PAGE_COUNTER_MAX)
            self.counter[at].min = self.counter[at].low = self.counter[at].emin = self.counter[at].elow = 0
            self.counter[at].min_usage = self.counter[at].low_usage = self.counter[at].usage = 0
            self.counter[at].children_min_usage = self.counter[at].children_low_usage = 0
            self.counter[at].watermark = self.counter[at].local_watermark = self.counter[at].failcnt = 0

    def propagate_protected_usage(self, at, up):
        """How much of what a row uses is protected goes to its parent's sums; ``up`` is the parent's counter.

        Linux: propagate_protected_usage().
        """
        protected: cython.long = min(self.counter[at].usage, self.counter[at].min)
        if protected != self.counter[at].min_usage:
            self.counter[up].children_min_usage += protected - self.counter[at].min_usage
            self.counter[at].min_usage = protected
        protected = min(self.counter[at].usage, self.counter[at].low)
        if protected != self.counter[at].low_usage:
            self.counter[up].children_low_usage += protected - self.counter[at].low_usage
            self.counter[at].low_usage = protected

    def add_usage(self, memcg, kind, nr):
        """Change one row's counter, not those above."""
        at: cython.long = memcg * NR_MEMCG_COUNTERS + kind
        self.counter[at].usage += nr
        if kind == MEMCG_COUNTER_MEMORY and self.parent[memcg] >= 0:
            if (
                self.counter[at].min or self.counter[at].low or self.counter[at].min_usage
                or self.counter[at].low_usage
            ):  # fmt: skip
                self.propagate_protected_usage(at, self.parent[memcg] * NR_MEMCG_COUNTERS)
        if self.counter[at].usage > self.counter[at].local_watermark:
            self.counter[at].local_watermark = self.counter[at].usage
            if self.counter[at].usage > self.counter[at].watermark:
                self.counter[at].watermark = self.counter[at].usage

    def charge(self, memcg, kind, nr):
        """Charge whatever the limits say. Linux: page_counter_charge()."""
        while memcg >= 0:
            self.add_usage(memcg, kind, nr)
            memcg = self.parent[memcg]

    def uncharge(self, memcg, kind, nr):
        """Linux: page_counter_uncharge()."""
        while memcg >= 0:
            self.add_usage(memcg, kind, -nr)
            memcg = self.parent[memcg]

    def try_charge(self, memcg, kind, nr):
        """Charge a row and those above; -1, or the row whose limit forbids it. Linux: page_counter_try_charge()."""
        at: cython.long
        row: cython.long = memcg
        low: cython.long = memcg
        while row >= 0:
            at = row * NR_MEMCG_COUNTERS + kind
            if self.counter[at].usage + nr > self.counter[at].max:
                self.counter[at].failcnt += 1
                while low != row:
                    self.add_usage(low, kind, -nr)
                    low = self.parent[low]
                return row
            self.add_usage(row, kind, nr)
            row = self.parent[row]
        return -1

    def set_protection(self, memcg: cython.long):
        """The row's min or low has been set. Linux: page_counter_set_min(), page_counter_set_low()."""
        up: cython.long
        while memcg >= 0 and self.parent[memcg] >= 0:
            up = self.parent[memcg]
            self.propagate_protected_usage(memcg * NR_MEMCG_COUNTERS, up * NR_MEMCG_COUNTERS)
            memcg = up
