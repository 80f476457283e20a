"""What the pages of an address space hold, as far as its program says so: for KSM, which merges equal ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENTS: Final = ("default", "same", "image", "zero", "unique", "volatile")
"""What a range may be said to hold. `same N`: pages that are all equal, and equal to all others of that N; `image N`:
the pages of an image, the first of the range equal to all other first ones of that N, and so on; pages of zeros; pages
unlike all others; pages that are not what they were when ksmd comes again; `default`: as sim/contents says."""


class Contents(NamedTuple):
    """What [start, end) of an address space holds; the first page of an image is at ``base``."""

    start: int
    end: int
    kind: int
    number: int
    base: int


class KsmMm:
    """What KSM keeps of an address space. ``merge_any``: PR_SET_MEMORY_MERGE."""

    def __init__(self) -> None:
        self.merge_any = False
        self.contents: list[Contents] = []
        """In order of address."""

    def pieces(self, start: int, end: int) -> Iterator[Contents]:
        """A range in pieces of which each holds one kind of pages."""
        for one in self.contents:
            if one.end <= start or one.start >= end:
                continue
            if start < one.start:
                yield Contents(start, one.start, 0, 0, 0)
                start = one.start
            stop = min(one.end, end)
            yield one._replace(start=start, end=stop)
            start = stop
        if start < end:
            yield Contents(start, end, 0, 0, 0)

    def cut(self, start: int, end: int) -> list[Contents]:
        """Nothing is known any more of a range; what was known."""
        kept, gone = [], []
        for one in self.contents:
            low, high = max(one.start, start), min(one.end, end)
            if low >= high:
                kept.append(one)
                continue
            gone.append(one._replace(start=low, end=high))
            if one.start < low:
                kept.append(one._replace(end=low))
            if high < one.end:
                kept.append(one._replace(start=high))
        self.contents = kept
        return gone

    def add(self, new: list[Contents]) -> None:
        """More is known, of ranges of which nothing was."""
        self.contents = sorted([*self.contents, *new])

    def move(self, old: int, length: int, by: int) -> None:
        """mremap() takes along what is known of a range."""
        moved = self.cut(old, old + length)
        self.cut(old + by, old + by + length)
        self.add([Contents(o.start + by, o.end + by, o.kind, o.number, o.base + by) for o in moved])
