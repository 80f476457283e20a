"""The VMAs of one address space in order of address, and the gaps between them.

Two questions are asked of an address space all the time: which VMA holds this address (or is the next above
it), and where is the highest (or lowest) hole of at least this size. Linux answers both from one B-tree, whose
inner nodes know the largest gap below them. A Python list with a parallel list of end addresses answers the
first in O(log n) by bisection and stays fast to insert into at the 65530 VMAs that `max_map_count` allows.

For the second question every gap stands in a list of its size class (the number of bits of its length), sorted
by address. A request of n bytes looks at the topmost gap of each class that can be large enough: at most 52
bisections, whatever the number of VMAs. The ends of the address space count as neighbours, so a space without
VMAs is one gap.

Linux: lib/maple_tree.c. Simplified: no nodes, hence no maple_node slab objects; the answers are the same.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmfs.mm.vma import VmAreaStruct

TOP = 1 << 64


class MapleTree:
    """Sorted, non-overlapping VMAs, with an index of the gaps between them."""

    __slots__ = ("_classes", "_gap_end", "ends", "entries")

    def __init__(self) -> None:
        self.entries: list[VmAreaStruct] = []
        self.ends: list[int] = []
        self._gap_end: dict[int, int] = {}
        self._classes: dict[int, list[int]] = {}
        self._add_gap(0, TOP)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[VmAreaStruct]:
        return iter(self.entries)

    # ---- which VMA ----------------------------------------------------------------------------------------------

    def index_above(self, addr: int) -> int:
        """The index of the first VMA that ends above `addr`."""
        return bisect_right(self.ends, addr)

    def find(self, addr: int) -> VmAreaStruct | None:
        """The VMA that holds `addr`, or the next above it. Linux: mt_find()."""
        index = bisect_right(self.ends, addr)
        return self.entries[index] if index < len(self.entries) else None

    def prev(self, vma: VmAreaStruct) -> VmAreaStruct | None:
        """The VMA below `vma`."""
        index = bisect_right(self.ends, vma.vm_start) - 1
        return self.entries[index] if index >= 0 else None

    def next(self, vma: VmAreaStruct) -> VmAreaStruct | None:
        """The VMA above `vma`."""
        return self.find(vma.vm_end)

    def span(self, start: int, end: int) -> list[VmAreaStruct]:
        """The VMAs that overlap [start, end), low to high."""
        first = last = bisect_right(self.ends, start)
        while last < len(self.entries) and self.entries[last].vm_start < end:
            last += 1
        return self.entries[first:last]

    # ---- changes ------------------------------------------------------------------------------------------------

    def store(self, vma: VmAreaStruct) -> None:
        """Insert `vma` into the gap where it belongs."""
        index = bisect_right(self.ends, vma.vm_start)
        below, above = self._bounds(index, index)
        assert below <= vma.vm_start < vma.vm_end <= above, "VMAs must not overlap"
        self._del_gap(below)
        self.entries.insert(index, vma)
        self.ends.insert(index, vma.vm_end)
        self._add_gap(below, vma.vm_start)
        self._add_gap(vma.vm_end, above)

    def erase(self, vma: VmAreaStruct) -> None:
        """Remove `vma`, leaving a gap."""
        index = self._index(vma)
        below, above = self._bounds(index, index + 1)
        self._del_gap(below)
        self._del_gap(vma.vm_end)
        del self.entries[index], self.ends[index]
        self._add_gap(below, above)

    def resize(self, vma: VmAreaStruct, start: int, end: int) -> None:
        """Give `vma` the range [start, end); its neighbours must leave room for it."""
        index = self._index(vma)
        below, above = self._bounds(index, index + 1)
        assert below <= start < end <= above, "VMAs must not overlap"
        if start != vma.vm_start:
            self._del_gap(below)
            self._add_gap(below, start)
        if end != vma.vm_end:
            self._del_gap(vma.vm_end)
            self._add_gap(end, above)
            self.ends[index] = end
        vma.vm_start, vma.vm_end = start, end

    def clear(self) -> None:
        """Remove all VMAs at once. Linux: __mt_destroy()."""
        self.entries.clear()
        self.ends.clear()
        self._gap_end.clear()
        self._classes.clear()
        self._add_gap(0, TOP)

    # ---- gaps ---------------------------------------------------------------------------------------------------

    def empty_area_rev(self, low: int, high: int, size: int) -> tuple[int, int] | None:
        """The highest gap of `size` bytes within [low, high), cut to those limits. Linux: mas_empty_area_rev()."""
        best: tuple[int, int] | None = None
        for order, starts in self._classes.items():
            if 1 << order <= size:
                continue
            for index in range(bisect_left(starts, high) - 1, -1, -1):
                end = self._gap_end[starts[index]]
                if end <= low or (best is not None and end <= best[0]):
                    break
                first, last = max(starts[index], low), min(end, high)
                if last - first >= size:
                    best = first, last
                    break
        return best

    def empty_area(self, low: int, high: int, size: int) -> tuple[int, int] | None:
        """The lowest gap of `size` bytes within [low, high), cut to those limits. Linux: mas_empty_area()."""
        best: tuple[int, int] | None = None
        for order, starts in self._classes.items():
            if 1 << order <= size:
                continue
            for index in range(max(bisect_right(starts, low) - 1, 0), len(starts)):
                start = starts[index]
                if start >= high or (best is not None and start >= best[1]):
                    break
                first, last = max(start, low), min(self._gap_end[start], high)
                if last - first >= size:
                    best = first, last
                    break
        return best

    def gaps(self) -> list[tuple[int, int]]:
        """Every gap, low to high (for checks)."""
        return sorted(self._gap_end.items())

    def _index(self, vma: VmAreaStruct) -> int:
        index = bisect_left(self.ends, vma.vm_end)
        assert index < len(self.entries) and self.entries[index] is vma, "not a VMA of this address space"
        return index

    def _bounds(self, below: int, above: int) -> tuple[int, int]:
        low = self.ends[below - 1] if below else 0
        high = self.entries[above].vm_start if above < len(self.entries) else TOP
        return low, high

    def _add_gap(self, start: int, end: int) -> None:
        if start < end:
            self._gap_end[start] = end
            insort(self._classes.setdefault((end - start).bit_length(), []), start)

    def _del_gap(self, start: int) -> None:
        end = self._gap_end.pop(start, None)
        if end is not None:
            starts = self._classes[(end - start).bit_length()]
            del starts[bisect_left(starts, start)]
