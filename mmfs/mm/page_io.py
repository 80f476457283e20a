"""Writing to swap areas: what is under way to the disks, and who waits for it.

What is written out has been collected by the fast path (fastpath/swap.py) and becomes one request per call; its end
frees the pages.

Linux: mm/page_io.c; block/blk-wbt.c.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from mmfs.mm_types import PAGE_SECTORS, SLOT_SWP_MASK, SWAPFILE_CLUSTER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.filemap import AddressSpace

WRITE: Final = 1
RWB_DEF_DEPTH: Final = 16
"""Requests that a disk is given to write at most. Linux: block/blk-wbt.c."""


class SwapWrites:
    """What the machine is writing to its swap areas."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.swap = kernel.mmu.swap
        self._under_way: deque[tuple[int, int]] = deque()
        """When writes will be done, and how many requests they are."""

    def write_unplug(self, now_ns: int = 0) -> None:
        """Send what has been collected to the disks, at `now_ns` if that is later than the clock.

        Linux: mm/page_io.c, swap_writepage_bdev_async().
        """
        if self.swap.slots.zswap.want_shrink:
            self.kernel.zswap.queue_work()
        for number, area in self.kernel.swap_files.areas.items():
            if self.swap.batched_counts[number]:
                folios, pages, requests, runs, slot = self.swap.take_batch(number)
                offset = slot - int(self.swap.slots.areas[number]["base"])
                sector = area.sector + offset * PAGE_SECTORS if runs == 1 else -1
                took_ns = area.disk.submit_bio(
                    WRITE,
                    pages * PAGE_SECTORS,
                    len(folios),
                    requests,
                    sector,
                    end_io=self.end_swap_bio_write,
                    args=(folios,),
                    now_ns=now_ns,
                )
                self._under_way.append((self.kernel.clock.now_ns + took_ns, requests))

    def write_throttle_ns(self, now_ns: int) -> int:
        """How long who swaps out at `now_ns`, its own time, waits until fewer writes are under way.

        Linux: block/blk-wbt.c, wbt_wait().

        Simplified: the limit does not follow the latency of reads, and is one for all areas.
        """
        while self._under_way and self._under_way[0][0] <= self.kernel.clock.now_ns:
            self._under_way.popleft()
        under_way = [(done_ns, requests) for done_ns, requests in self._under_way if done_ns > now_ns]
        excess = sum(requests for _, requests in under_way) - RWB_DEF_DEPTH
        until = now_ns
        for done_ns, requests in under_way:
            if excess <= 0:
                break
            excess -= requests
            until = done_ns
        return until - now_ns

    def last_ns(self) -> int:
        """How long it takes until the disks have written all that they are given; 0 if that is nothing."""
        self.write_unplug()
        bios = [area.disk.bios[-1] for area in self.kernel.swap_files.areas.values() if area.disk.bios]
        return max((bio.when_ns - self.kernel.clock.now_ns for bio in bios), default=0)

    def wait_on_write(self, mapping: AddressSpace, index: int) -> None:
        """Sleep until a page of shared memory has been written to swap. Linux: folio_wait_writeback()."""
        self.write_unplug()
        slot = int(mapping.slots()[index]) & SLOT_SWP_MASK
        bios = self.kernel.swap_files.areas[int(self.swap.slots.types[slot // SWAPFILE_CLUSTER])].disk.bios
        if bios:
            self.kernel.current_io_schedule(bios[-1].when_ns)

    def end_swap_bio_write(self, folios: NDArray[np.int64]) -> None:
        """Pages have been written."""
        self.swap.end_swap_bio_write(folios)
