"""Contiguous memory areas: ranges set aside at boot from which a driver gets long runs of frames.

Until somebody takes a run, movable pages live in an area: its pageblocks are MIGRATE_CMA (fastpath/free_area.py). Who
takes one has these pages moved away (mm/page_isolation.py). An area is asked for on the command line (mm/contiguous.py)
and used by writing numbers of pages to its files `alloc` and `free` in debugfs.

Linux: mm/cma.c, mm/cma_debug.c, mm/cma_sysfs.c.

Simplified: no device of the machine takes memory from an area by itself.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np

from mmfs.mm.debug import LOG_ERR, LOG_INFO
from mmfs.mm.ratelimit import RatelimitState
from mmfs.mm_types import MIGRATE_CMA, VmEventItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.memblock import CmaRange
    from mmfs.mm.mmzone import Zone


class Cma:
    """One area: which of its pages are taken, and how often that went well. Linux: struct cma."""

    def __init__(self, kernel: Kernel, area: CmaRange, zone: Zone) -> None:
        self.kernel = kernel
        self.name = area.name
        self.base_pfn = area.start_pfn
        self.count = area.end_pfn - area.start_pfn
        self.zone = zone
        self.order_per_bit = 0
        self.bitmap = np.zeros(self.count, bool)
        self.nr_pages_succeeded = self.nr_pages_failed = self.nr_pages_released = 0
        self.mem: list[tuple[int, int]] = []
        """Runs (first frame, pages) that were taken through debugfs. Linux: struct cma_mem."""
        self._ratelimit = RatelimitState(kernel, "__cma_alloc")

    @property
    def used(self) -> int:
        """Pages taken."""
        return int(self.bitmap.sum())

    @property
    def maxchunk(self) -> int:
        """The longest run of pages that nobody has taken."""
        return max((nr for _, nr in self._free_runs()), default=0)

    def _free_runs(self) -> list[tuple[int, int]]:
        """Runs that nobody has taken: (first, pages), counted from the area's begin."""
        edges = np.flatnonzero(np.diff(np.concatenate([[1], self.bitmap, [1]])))
        return [(int(first), int(end - first)) for first, end in edges.reshape(-1, 2)]

    def alloc(self, count: int, align: int = 0) -> int:
        """Take a run of `count` pages whose first is a multiple of 1 << `align`; -1, and a line in the log, if none is.

        Linux: cma_alloc().
        """
        if count <= 0 or count > self.count:
            return -1
        pfn, busy = self._find(count, align)
        if pfn >= 0:
            self.kernel.vmstat.count_vm_events(VmEventItem.CMA_ALLOC_SUCCESS)
            self.nr_pages_succeeded += count
            return pfn
        self.kernel.vmstat.count_vm_events(VmEventItem.CMA_ALLOC_FAIL)
        self.nr_pages_failed += count
        if self._ratelimit.ratelimit():
            error = errno.EBUSY if busy else errno.ENOMEM
            text = f"cma: __cma_alloc: {self.name}: alloc failed, req-size: {count} pages, ret: -{error}"
            self.kernel.printk.emit(text, LOG_ERR)
        self._show_areas()
        return -1

    def _find(self, count: int, align: int) -> tuple[int, bool]:
        """The first frame of a run that could be emptied, or -1; and whether one was tried that could not."""
        step, busy = 1 << align, False
        start = 0
        while (at := self._next_zero_area(start, count, step)) >= 0:
            pfn = self.base_pfn + at
            if self.kernel.memory_hotplug.isolation.alloc_contig_range(self.zone, pfn, pfn + count, MIGRATE_CMA):
                self.bitmap[at : at + count] = True
                return pfn, busy
            busy, start = True, at + step
        return -1, busy

    def _next_zero_area(self, start: int, count: int, step: int) -> int:
        """Where `count` free pages follow each other, aligned, or -1. Linux: bitmap_find_next_zero_area_off()."""
        for first, nr in self._free_runs():
            at = max(first, start)
            at += -(self.base_pfn + at) % step
            if at + count <= first + nr:
                return at
        return -1

    def release(self, pfn: int, count: int) -> None:
        """Give a run back. Linux: cma_release(), free_contig_range()."""
        for frame in range(pfn, pfn + count):
            self.kernel.page_alloc.free_pages(frame)
        self.bitmap[pfn - self.base_pfn : pfn - self.base_pfn + count] = False
        self.nr_pages_released += count

    def _show_areas(self) -> None:
        """Linux: cma_debug_show_areas()."""
        runs = self._free_runs()
        parts = "+".join(f"{nr}@{first}" for first, nr in runs)
        total = sum(nr for _, nr in runs)
        text = f"cma: number of available pages: {parts}=> {total} free of {self.count} total pages"
        self.kernel.printk.emit(text, LOG_INFO)

    # -- debugfs --------------------------------------------------------------------------------------------------

    def alloc_mem(self, count: int) -> None:
        """Take a run and remember it. ENOMEM: there is none. Linux: cma_alloc_mem()."""
        pfn = self.alloc(count)
        if pfn < 0:
            raise OSError(errno.ENOMEM, f"no {count} pages of {self.name}")
        self.mem.insert(0, (pfn, count))

    def free_mem(self, count: int) -> None:
        """Give so many pages of remembered runs back, of the newest first. Linux: cma_free_mem()."""
        while count and self.mem:
            pfn, nr = self.mem.pop(0)
            part = nr if nr <= count or count < 0 else count
            self.release(pfn, part)
            if part < nr:
                self.mem.insert(0, (pfn + part, nr - part))
            count -= part


def cma_init_reserved_areas(kernel: Kernel) -> list[Cma]:
    """The areas of a booted machine, which the page allocator has already (mm/boot_memory.py)."""
    return [Cma(kernel, area, kernel.page_alloc.page_zone(area.start_pfn)) for area in kernel.memblock.cma_areas]
