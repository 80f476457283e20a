"""Counting pages up a tree, with limits: what a memory cgroup uses, may use, and is promised.

A counter's usage contains that of all below it. Charging fails where a limit (`max`) would be passed; `high` is looked
at by whoever has charged; `min` and `low` protect against reclaim, and what they protect in fact (`emin`, `elow`) is
shared out from above: no more than the parent is protected itself, in proportion where the children's claims exceed
that, and what nobody claims goes to those that use more than they claim (memory_recursiveprot).

The numbers stand in the rows of fastpath/memcontrol.py.

Linux: mm/page_counter.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.mm_types import NR_MEMCG_COUNTERS, PAGE_COUNTER_MAX, PAGE_SIZE

if TYPE_CHECKING:
    import numpy as np

    from mmfs.fastpath.page_counter import PageCounters

UNLIMITED: Final = PAGE_COUNTER_MAX


def effective_protection(
    usage: int, parent_usage: int, setting: int, parent_effective: int, siblings_protected: int, recursive: bool
) -> int:
    """How much of `usage` is protected, in pages. Linux: mm/page_counter.c, effective_protection()."""
    protected = min(usage, setting)
    if siblings_protected > parent_effective:
        return protected * parent_effective // siblings_protected
    if not recursive or not (parent_effective > siblings_protected and parent_usage > siblings_protected):
        return protected
    if usage > protected:
        unclaimed = parent_effective - siblings_protected
        protected += unclaimed * (usage - protected) // (parent_usage - siblings_protected)
    return protected


class PageCounter:
    """One counter: a record PAGE_COUNTER_DTYPE, in pages. Linux: struct page_counter."""

    __slots__ = ("_counters", "_memcg", "_kind", "_record", "parent")

    def __init__(self, counters: PageCounters, memcg: int, kind: int, parent: PageCounter | None) -> None:
        self._counters = counters
        self._memcg = memcg
        self._kind = kind
        self._record: np.void = counters.records[memcg * NR_MEMCG_COUNTERS + kind]
        self.parent = parent

    @property
    def usage(self) -> int:
        """Pages charged here and below. Linux: page_counter_read()."""
        return int(self._record["usage"])

    @property
    def max(self) -> int:
        """What usage never passes."""
        return int(self._record["max"])

    @max.setter
    def max(self, pages: int) -> None:
        self._record["max"] = pages

    @property
    def high(self) -> int:
        """Above this whoever charges is slowed down."""
        return int(self._record["high"])

    @high.setter
    def high(self, pages: int) -> None:
        self._record["high"] = pages

    @property
    def min(self) -> int:
        """Pages that are never reclaimed."""
        return int(self._record["min"])

    @min.setter
    def min(self, pages: int) -> None:
        self._record["min"] = pages
        self._counters.set_protection(self._memcg)

    @property
    def low(self) -> int:
        """Pages that are not reclaimed while others have some."""
        return int(self._record["low"])

    @low.setter
    def low(self, pages: int) -> None:
        self._record["low"] = pages
        self._counters.set_protection(self._memcg)

    @property
    def emin(self) -> int:
        """The part of min that the parents grant, as of the last calculate_protection()."""
        return int(self._record["emin"])

    @property
    def elow(self) -> int:
        """As emin, of low."""
        return int(self._record["elow"])

    @property
    def children_min_usage(self) -> int:
        """What those below use of their own min. Linux: struct page_counter, children_min_usage."""
        return int(self._record["children_min_usage"])

    @property
    def children_low_usage(self) -> int:
        """As children_min_usage, of low."""
        return int(self._record["children_low_usage"])

    @property
    def failcnt(self) -> int:
        """How often the limit was hit."""
        return int(self._record["failcnt"])

    @property
    def watermark(self) -> int:
        """The highest usage so far."""
        return int(self._record["watermark"])

    @property
    def local_watermark(self) -> int:
        """The highest usage since reset_local_watermark()."""
        return int(self._record["local_watermark"])

    def reset_local_watermark(self) -> int:
        """Begin to look for a new peak; the usage. Linux: mm/memcontrol.c, peak_write()."""
        usage = self.usage
        self._record["local_watermark"] = usage
        return usage

    def reset_watermark(self) -> None:
        """Forget the peak and how often the limit was hit. Linux: page_counter_reset_watermark()."""
        self._record["watermark"] = self._record["local_watermark"] = self._record["usage"]

    def reset_failcnt(self) -> None:
        """Forget how often the limit was hit."""
        self._record["failcnt"] = 0

    def set_max(self, pages: int) -> bool:
        """Set the limit unless more is in use. Linux: page_counter_set_max()."""
        if self.usage > pages:
            return False
        self.max = pages
        return True

    def calculate_protection(self, root: PageCounter, recursive: bool) -> None:
        """Find emin and elow for reclaim from `root` on, whose children are done. Linux: page_counter.c."""
        usage, parent, record = self.usage, self.parent, self._record
        if self is root or not usage or parent is None:
            return
        if parent is root:
            record["emin"], record["elow"] = record["min"], record["low"]
            return
        up = parent._record
        for own, effective, siblings in (("min", "emin", "children_min_usage"), ("low", "elow", "children_low_usage")):
            record[effective] = effective_protection(
                usage, parent.usage, int(record[own]), int(up[effective]), int(up[siblings]), recursive
            )


def bytes_text(pages: int) -> str:
    """A limit as files show it. Linux: mm/memcontrol.c, seq_puts_memcg_tunable()."""
    return "max" if pages >= PAGE_COUNTER_MAX else str(pages * PAGE_SIZE)
