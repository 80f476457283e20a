"""Monitoring the address space of a process.

Linux: mm/damon/vaddr.c.

Simplified: nothing is migrated, nor do filters of pages count what they let through, as 7.0 does.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mmfs.mm.damon.core import DAMON_MIN_REGION, AddrRange, DamonRegion, align, align_down
from mmfs.mm.damon.ops_common import DamonOperations
from mmfs.mm.damon.schemes import Damos, DamosAction
from mmfs.mm.madvise import do_madvise
from mmfs.mm.mman import MADV_COLD, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_PAGEOUT, MADV_WILLNEED, page_align

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.mm.damon.core import DamonCtx, DamonTarget
    from mmfs.mm.mm_struct import MmStruct

ADVICE: Final = {
    DamosAction.WILLNEED: MADV_WILLNEED,
    DamosAction.COLD: MADV_COLD,
    DamosAction.PAGEOUT: MADV_PAGEOUT,
    DamosAction.HUGEPAGE: MADV_HUGEPAGE,
    DamosAction.NOHUGEPAGE: MADV_NOHUGEPAGE,
}


def three_regions(mm: MmStruct) -> list[AddrRange]:
    """What is mapped, without the two largest gaps; nothing if there are none. Linux: __damon_va_three_regions()."""
    vmas = list(mm.mmap)
    first = second = (0, 0)
    for before, vma in pairwise(vmas):
        gap = vma.vm_start - before.vm_end
        if gap > first[1] - first[0]:
            first, second = (before.vm_end, vma.vm_start), first
        elif gap > second[1] - second[0]:
            second = (before.vm_end, vma.vm_start)
    if first == (0, 0) or second == (0, 0):
        return []
    (low, middle), (end, high) = sorted((first, second))
    return [
        (align(vmas[0].vm_start), align(low)), (align(middle), align(end)), (align(high), align(vmas[-1].vm_end))
    ]  # fmt: skip


def split_evenly(start: int, end: int, pieces: int) -> list[DamonRegion]:
    """Linux: damon_va_evenly_split_region()."""
    size = align_down((end - start) // pieces) if pieces else 0
    if not size:
        return [DamonRegion(start, end)]
    regions = [DamonRegion(start + number * size, start + (number + 1) * size) for number in range(pieces)]
    if pieces > 1:
        regions[-1].end = end
    return regions


class DamonFvaddr(DamonOperations):
    """Ranges of an address space that the user names."""

    name = "fvaddr"
    has_pid = True
    scores: ClassVar[dict[DamosAction, bool]] = {DamosAction.PAGEOUT: False}

    def mm_of(self, target: DamonTarget) -> MmStruct | None:
        """Linux: damon_get_mm()."""
        return target.task.mm if target.task is not None and self.exists(target) else None

    def exists(self, target: DamonTarget) -> bool:
        """Linux: damon_va_target_valid()."""
        task = target.task
        return task is not None and self.damon.kernel.tasks.get(task.pid) is task

    def any_target_valid(self, ctx: DamonCtx) -> bool:
        """Whether any of the processes is left."""
        return any(self.exists(target) for target in ctx.targets)

    @staticmethod
    def _user(mm: MmStruct, addresses: NDArray[np.int64]) -> NDArray[np.int64]:
        """Addresses; for those that no process has, one where nothing is mapped."""
        return np.where((addresses >= 0) & (addresses < mm.task_size), addresses, -1)

    def mkold(self, target: DamonTarget, addresses: NDArray[np.int64]) -> None:
        """Linux: damon_va_mkold()."""
        mm = self.mm_of(target)
        if mm is not None:
            self.loops.va_mkold(mm.row, self._user(mm, addresses))

    def young(self, target: DamonTarget, addresses: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Linux: damon_va_young()."""
        mm = self.mm_of(target)
        if mm is not None:
            self.loops.va_young(mm.row, self._user(mm, addresses), out)

    def apply_scheme(self, target: DamonTarget, region: DamonRegion, scheme: Damos) -> tuple[int, int]:
        """Linux: damon_va_apply_scheme(), damos_madvise()."""
        advice, mm = ADVICE.get(scheme.action), self.mm_of(target)
        if advice is None or mm is None:
            return 0, 0
        length = page_align(region.size)
        try:
            do_madvise(mm, page_align(region.start), length, advice)
        except OSError:
            return 0, 0
        return length, 0


class DamonVaddr(DamonFvaddr):
    """All of an address space."""

    name = "vaddr"

    def init(self, ctx: DamonCtx) -> None:
        """Begin with three regions, cut into pieces of equal size. Linux: damon_va_init()."""
        for target in ctx.targets:
            mm = self.mm_of(target)
            if target.regions or mm is None:
                continue
            ranges = three_regions(mm)
            size = sum(end - start for start, end in ranges)
            size = max(size // ctx.attrs.min_nr_regions if ctx.attrs.min_nr_regions else size, DAMON_MIN_REGION)
            for start, end in ranges:
                target.regions += split_evenly(start, end, (end - start) // size)

    def update(self, ctx: DamonCtx) -> None:
        """Linux: damon_va_update()."""
        for target in ctx.targets:
            mm = self.mm_of(target)
            ranges = three_regions(mm) if mm is not None else []
            if ranges:
                target.set_regions(ranges)
