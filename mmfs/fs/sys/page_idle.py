"""/sys/kernel/mm/page_idle: which pages nobody has accessed since they were marked idle.

Linux: mm/page_idle.c.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

import numpy as np

from mmfs.fs.sys.root import DIRECTORY, mm
from mmfs.kernfs.node import Binary
from mmfs.mm_types import PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

CHUNK_SIZE: Final = 8

page_idle = mm.directory("page_idle", mode=DIRECTORY)


def frames_of(kernel: Kernel, offset: int, size: int) -> range:
    """The frames that some bytes of the file stand for, of one page at most, as sysfs hands them on."""
    if offset % CHUNK_SIZE or size % CHUNK_SIZE:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return range(offset * 8, min((offset + min(size, PAGE_SIZE)) * 8, kernel.max_pfn))


def bitmap_read(kernel: Kernel, offset: int, size: int) -> bytes:
    """A bit for each frame, in chunks of 64: whether it is idle."""
    frames = frames_of(kernel, offset, size)
    idle = np.zeros(-(-len(frames) // 64) * 64, np.uint8)
    kernel.page_idle.read(frames.start, idle[: len(frames)])
    return np.packbits(idle, bitorder="little").tobytes()


def bitmap_write(kernel: Kernel, offset: int, data: bytes) -> int:
    """Mark the frames idle whose bit is set."""
    frames = frames_of(kernel, offset, len(data))
    if not frames:
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    marks = np.unpackbits(np.frombuffer(data, np.uint8), count=len(frames), bitorder="little")
    kernel.page_idle.write(frames.start, marks)
    return -(-len(frames) // 64) * CHUNK_SIZE


page_idle.add(Binary("bitmap", bitmap_read, bitmap_write, mode=0o600))
