"""Swap areas: what is swapped on, how large, how full, and their traffic with the disks.

Slots, their owners and the swap cache are the fast path's (fastpath/swap*.py), an area a row there. What is written
out has been collected there and becomes one request per call; its end frees the pages.

Linux: mm/swapfile.c, mm/page_io.c.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from mmfs.fastpath.swapin import SwapDevice
from mmfs.mm_types import (
    MAX_SWAPFILES,
    PAGE_SHIFT,
    SWAPFILE_CLUSTER,
    SWP_BLKDEV,
    SWP_SOLIDSTATE,
    SWP_USED,
    SWP_WRITEOK,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmfs.fastpath.blk import Disk
    from mmfs.fastpath.swap import Swap
    from mmfs.kernel.kernel import Kernel

SWAP_MAP_BAD = 0x3FFF_FFFF
SECTORS_PER_PAGE = 8
WRITE = 1
RWB_DEF_DEPTH = 16


class SwapDisk(Protocol):
    """What swap asks of a disk (kernel/block.py, Gendisk)."""

    queue: Disk

    def submit_bio(
        self, op: Any, nr_sectors: int, nr_bios: int = 1, nr_requests: int = 1, sector: int = -1,
        end_io: Callable[..., object] | None = None, args: tuple[object, ...] = (),
    ) -> int:  # fmt: skip
        """Ask for sectors; `end_io(*args)` is called when they have come or gone."""


class SwapInfoStruct:
    """One swap area; ``pages`` leaves out its header page. Linux: struct swap_info_struct."""

    def __init__(self, swap: Swap, number: int, file: str, disk: SwapDisk, partition: bool) -> None:
        self.swap = swap
        self.number = number
        self.file = file
        self.disk = disk
        self.partition = partition

    @property
    def type(self) -> str:
        """What it lies on, as /proc/swaps shows it."""
        return "partition" if self.partition else "file"

    @property
    def pages(self) -> int:
        """Usable pages."""
        return int(self.swap.slots.areas[self.number]["pages"])

    @property
    def inuse_pages(self) -> int:
        """Pages in use, those that CPUs keep for themselves included."""
        return int(self.swap.slots.areas[self.number]["inuse"])

    @property
    def prio(self) -> int:
        """Higher is used first; below zero it was chosen by the kernel."""
        return int(self.swap.slots.areas[self.number]["prio"])

    @property
    def size(self) -> int:
        """Usable size in kB, as /proc/swaps shows it."""
        return self.pages << (PAGE_SHIFT - 10)

    @property
    def used(self) -> int:
        """Size in use in kB."""
        return self.inuse_pages << (PAGE_SHIFT - 10)


class SwapFiles:
    """All swap areas of a machine. Linux: mm/swapfile.c, swap_info and least_priority."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.swap = kernel.mmu.swap
        self.areas: dict[int, SwapInfoStruct] = {}
        self.least_priority = -1
        self._next_base = 0
        self._writes: deque[tuple[int, int]] = deque()
        """When writes will be done, and how many requests they are."""

    def enable(self, file: str, disk: SwapDisk, pages: int, prio: int = -1, partition: bool = True) -> SwapInfoStruct:
        """Add an area of so many pages, the header among them. Linux: setup_swap_info(), enable_swap_info()."""
        slots = self.swap.slots
        number = next(number for number in range(MAX_SWAPFILES) if number not in self.areas)
        base = self._next_base
        clusters = -(-pages // SWAPFILE_CLUSTER)
        self._next_base += clusters * SWAPFILE_CLUSTER
        slots.types[base >> 9 : (base >> 9) + clusters] = number
        slots.counts[base] = SWAP_MAP_BAD
        if prio < 0:
            self.least_priority -= 1
            prio = self.least_priority
        flags = SWP_USED | SWP_WRITEOK | (SWP_BLKDEV if partition else 0)
        slots.areas[number] = (base, pages, pages - 1, 0, 1, pages - 1, 1, 0, prio, flags)
        if flags & SWP_SOLIDSTATE:
            slots.setup_clusters(number)
        else:
            self.kernel.mmu.swapin.nr_rotate_swap += 1
        slots.workingset.nr_swap_pages += pages - 1
        slots.total_swap_pages += pages - 1
        slots.add_area(number)
        self.swap.slot_cache_enabled = True
        swapin = self.kernel.mmu.swapin
        swapin.devices = SwapDevice(number, disk.queue, 0 if partition else -1, swapin.devices)
        area = SwapInfoStruct(self.swap, number, file, disk, partition)
        self.areas[number] = area
        return area

    def write_unplug(self) -> None:
        """Send what has been collected to the disks. Linux: mm/page_io.c, swap_writepage_bdev_async()."""
        for number, area in self.areas.items():
            if self.swap.batched_counts[number]:
                pfns, runs, slot = self.swap.take_batch(number)
                offset = slot - int(self.swap.slots.areas[number]["base"])
                sector = offset * SECTORS_PER_PAGE if area.partition and runs == 1 else -1
                took_ns = area.disk.submit_bio(
                    WRITE,
                    len(pfns) * SECTORS_PER_PAGE,
                    len(pfns),
                    runs,
                    sector,
                    end_io=self.end_swap_bio_write,
                    args=(pfns,),
                )
                self._writes.append((self.kernel.clock.now_ns + took_ns, runs))

    def write_throttle_ns(self) -> int:
        """How long who swaps out waits until fewer writes are under way. Linux: block/blk-wbt.c, wbt_wait().

        Simplified: the limit does not follow the latency of reads, and is one for all areas.
        """
        now = self.kernel.clock.now_ns
        while self._writes and self._writes[0][0] <= now:
            self._writes.popleft()
        excess = sum(requests for _, requests in self._writes) - RWB_DEF_DEPTH
        until = now
        for done_ns, requests in self._writes:
            if excess <= 0:
                break
            excess -= requests
            until = done_ns
        return until - now

    def end_swap_bio_write(self, pfns: NDArray[np.int64]) -> None:
        """Pages have been written."""
        self.swap.end_swap_bio_write(pfns)


def total_swap_pages(kernel: Kernel) -> int:
    """Pages of all areas. Linux: total_swap_pages."""
    return int(kernel.mmu.swap.slots.total_swap_pages)


def nr_swap_pages(kernel: Kernel) -> int:
    """Free pages of all areas. Linux: get_nr_swap_pages()."""
    return int(kernel.mmu.swap.slots.workingset.nr_swap_pages)
