"""The tree of physical address ranges that /proc/iomem prints.

Linux: kernel/resource.c, struct resource.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Resource:
    """A named range, ``end`` inclusive, and the ranges within it, low to high."""

    name: str
    start: int
    end: int
    children: list[Resource] = field(default_factory=list)

    def insert(self, new: Resource) -> bool:
        """Put a range in its place, around what it contains; False if it cuts another's boundary.

        Linux: insert_resource_conflict().
        """
        first = bisect_left(self.children, new.start, key=lambda r: r.end)
        last = bisect_right(self.children, new.end, key=lambda r: r.start)
        touched = self.children[first:last]
        if len(touched) == 1 and touched[0].start <= new.start and touched[0].end >= new.end:
            return touched[0].insert(new)
        if any(child.start < new.start or child.end > new.end for child in touched):
            return False
        new.children = touched
        self.children[first:last] = [new]
        return True

    def add(self, name: str, start: int, end: int) -> Resource | None:
        """Insert a new range; None where it does not fit."""
        new = Resource(name, start, end)
        return new if self.insert(new) else None

    def remove(self, start: int, end: int) -> None:
        """Forget a range right below this one. Linux: release_mem_region_adjustable()."""
        self.children = [child for child in self.children if (child.start, child.end) != (start, end)]

    def add_where_free(self, name: str, start: int, end: int) -> None:
        """Claim what nobody has of a range. Linux: reserve_region_with_split()."""
        for child in [*self.children, Resource("", end + 1, end + 1)]:
            if child.end < start:
                continue
            if start < min(child.start, end + 1):
                self.insert(Resource(name, start, min(child.start, end + 1) - 1))
            start = child.end + 1

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Resource]]:
        """Every range below this one with its depth, in order of addresses."""
        for child in self.children:
            yield depth, child
            yield from child.walk(depth + 1)
