"""Accesses: a task reads or writes its memory, a range or addresses in any order, as a program does.

The loops are the fast path's (fastpath/mmu.py), which knows rows (mm/rows.py), not objects: here each address gets the
row of its VMA, if the VMA allows the access, and mm/fault.py serves what stops the loop.

Linux: the hardware; arch/x86/mm/fault.c, access_error().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mmfs.fastpath.mmu import Mmu
from mmfs.mm import rmap
from mmfs.mm.fault import begin_slice, cannot_be_faulted, serve, stop_retrying, vma_for_access, wants_anon_vma
from mmfs.mm.mman import VM_WRITE
from mmfs.mm.rows import vma_row
from mmfs.mm_types import PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct

_WINDOW = 2048  # addresses looked at together: about what a slice has time for
_NO_ROWS = np.zeros(0, np.int32)


def access_range(mm: MmStruct, start: int, end: int, write: bool, stride: int = PAGE_SIZE) -> None:
    """Access one byte every ``stride`` of [start, end), as a program would. Raises Fault."""
    if stride <= 0:
        raise ValueError("stride: must be above zero")
    kernel = mm.kernel
    mmu = kernel.mmu
    begin_slice(mm)
    addr = start
    try:
        while addr < end:
            vma = mm.vma_lookup(addr)
            row = _row_for_access(vma, write) if vma is not None else None
            if row is None:
                vma = vma_for_access(mm, addr, write)
                if cannot_be_faulted(vma):
                    addr += -(-(min(end, vma.vm_end) - addr) // stride) * stride
                    continue
                if vma.is_hugetlb():
                    addr = _access_huge(vma, addr, min(end, vma.vm_end), write, stride)
                    continue
                row = vma_row(vma)
            assert vma is not None
            stop = min(end, vma.vm_end)
            reached = mmu.touch_range(mm.row, row, addr, stop, stride, write)
            if reached < stop:
                serve(mm, reached, reached)
            addr = reached
    finally:
        mmu.time.tried = False
        stop_retrying(kernel)


def access_pages(mm: MmStruct, addresses: ArrayLike, write: bool) -> None:
    """Access addresses (integers, any order) one after the other. Raises Fault at the first that cannot be."""
    mmu = mm.kernel.mmu
    begin_slice(mm)
    order = np.ascontiguousarray(addresses, dtype=np.int64).ravel()
    done, window = 0, _Window(order, 0)
    try:
        while done < len(order):
            if done == window.end:
                window = _Window(order, done)
            row, rows, known = window.rows(mm, done, write)
            if known == done:
                done += _access_apart(mm, int(order[done]), write)
                continue
            reached = mmu.touch_pages(mm.row, row, rows, order[window.start : known], done - window.start, write)
            done = window.start + reached
            if done < known:
                serve(mm, done, int(order[done]))
    finally:
        mmu.time.tried = False
        stop_retrying(mm.kernel)


def _access_huge(vma: VmAreaStruct, addr: int, end: int, write: bool, stride: int = PAGE_SIZE) -> int:
    """Access a mapping of huge pages for a slice; where to go on. Raises Fault."""
    from mmfs.mm.hugetlb_fault import touch_range

    reached = touch_range(vma, addr, end, stride, write)
    if reached < end:
        serve(vma.vm_mm, reached, reached)
    return reached


def _access_apart(mm: MmStruct, addr: int, write: bool) -> bool:
    """An access that is not the fast path's alone; False: it may be by now. Raises Fault."""
    vma = vma_for_access(mm, addr, write)
    if vma.is_hugetlb():
        return _access_huge(vma, addr, addr + 1, write) > addr
    return cannot_be_faulted(vma)


class _Window:
    """Some of the addresses in an order of accesses: those that are looked at together."""

    def __init__(self, order: np.ndarray, start: int) -> None:
        self.order = order
        self.start = start
        self.end = min(start + _WINDOW, len(order))
        bounds: tuple[int, int] = Mmu.bounds(order[start : self.end]) if start < self.end else (0, 0)
        self.lowest, self.highest = bounds

    def rows(self, mm: MmStruct, done: int, write: bool) -> tuple[int, np.ndarray, int]:
        """The VMA row of all addresses, or 0 and that of each from `start` on; and the position in the order, from
        `done` on, of the first that needs a closer look.

        Others may have changed the VMAs between two calls.
        """
        vma = mm.vma_lookup(self.lowest)
        if vma is not None and self.highest < vma.vm_end:  # as most often
            row = _row_for_access(vma, write)
            return (0, _NO_ROWS, done) if row is None else (row, _NO_ROWS, self.end)
        rows, known = _rows_of(mm, self.order[done : self.end], write)
        return 0, np.concatenate((np.zeros(done - self.start, np.int32), rows)), done + known


def _row_for_access(vma: VmAreaStruct, write: bool) -> int | None:
    """The row of a VMA that may be accessed like this and has ordinary pages, ready to be faulted in."""
    if vma.is_hugetlb() or not (vma.vm_flags & VM_WRITE if write else vma.is_readable()) or cannot_be_faulted(vma):
        return None
    if wants_anon_vma(vma, write):
        rmap.anon_vma_prepare(vma)
    return vma_row(vma)


def _rows_of(mm: MmStruct, order: np.ndarray, write: bool) -> tuple[np.ndarray, int]:
    """The VMA row of each address, and the position of the first that needs a closer look."""
    vmas = mm.mmap
    starts = np.array([vma.vm_start for vma in vmas], np.int64)
    ends = np.array([vma.vm_end for vma in vmas], np.int64)
    at = np.searchsorted(ends, order, side="right")
    inside = at < len(vmas)
    at = np.where(inside, at, 0)
    usable = np.zeros(len(vmas), bool)
    rows = np.zeros(len(vmas), np.int32)
    for i in np.flatnonzero(np.bincount(at[inside])):
        row = _row_for_access(vmas[i], write)
        if row is not None:
            usable[i], rows[i] = True, row
    good = inside & usable[at] & (starts[at] <= order) if len(vmas) else inside
    bad = np.flatnonzero(~good)
    return rows[at] if len(vmas) else rows, int(bad[0]) if len(bad) else len(order)
