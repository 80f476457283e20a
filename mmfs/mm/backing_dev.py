"""What the page cache knows of a disk: how far to read ahead, its share of dirty memory, who writes back to it.

Linux: mm/backing-dev.c, include/linux/backing-dev-defs.h.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from mmfs.mm_types import PAGE_SECTORS

if TYPE_CHECKING:
    from mmfs.fastpath.blk import Disk
    from mmfs.kernel.fs_writeback import BdiWriteback

VM_READAHEAD_PAGES: Final = 32
"""Linux: include/linux/mm.h."""
BLK_DEF_MAX_SECTORS_CAP: Final = 2560
"""The largest request, in sectors. Linux: include/linux/blkdev.h."""
BLKDEV_DEFAULT_RQ: Final = 256
"""The size of a virtio disk's queue."""
BDI_RATIO_SCALE: Final = 10_000
"""Linux: include/linux/backing-dev.h."""


class BackingDevInfo:
    """A disk as the page cache sees it. Linux: struct backing_dev_info."""

    def __init__(self, disk: Any) -> None:
        self.disk = disk
        """The Gendisk."""
        self.ra_pages = VM_READAHEAD_PAGES
        self.min_ratio = 0
        self.max_ratio = 100 * BDI_RATIO_SCALE
        self.strict_limit = False
        self.nr_requests = BLKDEV_DEFAULT_RQ
        self.scheduler = "none"
        self.rotational = True
        """What virtio's driver says of any disk."""
        self.next_sector = 0
        """Where the file system puts the next file."""
        self.wb: BdiWriteback
        self.set_io_pages(BLK_DEF_MAX_SECTORS_CAP // PAGE_SECTORS)

    @property
    def queue(self) -> Disk:
        """The disk's queue, for the compiled loops."""
        queue: Disk = self.disk.queue
        return queue

    @property
    def name(self) -> str:
        """Its directory in /sys/class/bdi."""
        return f"{self.disk.major}:{self.disk.minor}"

    def set_io_pages(self, pages: int) -> None:
        """The largest request (max_sectors_kb)."""
        self.queue.io_pages = pages


def bdi_of(bdis: Iterable[BackingDevInfo], dev: tuple[int, int]) -> BackingDevInfo | None:
    """The disk that a file system's device number means, None for those without one."""
    return next((bdi for bdi in bdis if bdi.disk.dev == dev), None)
