"""posix_fadvise(): what a program says it will do with a file.

Linux: mm/fadvise.c, generic_fadvise().
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL
from typing import TYPE_CHECKING, Any, Final

from mmfs.mm.truncate import invalidate_mapping_pages
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.mm.inode import File

POSIX_FADV_NORMAL: Final = 0
POSIX_FADV_RANDOM: Final = 1
POSIX_FADV_SEQUENTIAL: Final = 2
POSIX_FADV_WILLNEED: Final = 3
POSIX_FADV_DONTNEED: Final = 4
POSIX_FADV_NOREUSE: Final = 5
LLONG_MAX: Final = (1 << 63) - 1


def generic_fadvise(file: File, offset: int, length: int, advice: int, write: Callable[[Any, int, int], None]) -> None:
    """Do as the advice says; `write` starts writing a range of pages. Raises OSError(EINVAL)."""
    if length < 0 or not POSIX_FADV_NORMAL <= advice <= POSIX_FADV_NOREUSE:
        raise OSError(EINVAL, "no such advice")
    bdi, kernel = file.inode.bdi, file.inode.kernel
    if bdi is None:
        return
    ra = kernel.mmu.filemap.files[file.ra]
    end = offset + length - 1 if length and offset + length <= LLONG_MAX else LLONG_MAX
    if advice in (POSIX_FADV_NORMAL, POSIX_FADV_SEQUENTIAL):
        ra["ra_pages"] = bdi.ra_pages * (1 if advice == POSIX_FADV_NORMAL else 2)
        ra["random"] = 0
    elif advice == POSIX_FADV_RANDOM:
        ra["random"] = 1
    elif advice == POSIX_FADV_WILLNEED:
        file.mapping.force_readahead(file, offset >> PAGE_SHIFT, (end >> PAGE_SHIFT) + 1)
    elif advice == POSIX_FADV_DONTNEED:
        write(file, offset >> PAGE_SHIFT, (end >> PAGE_SHIFT) + 1)
        first, last = (offset + PAGE_SIZE - 1) >> PAGE_SHIFT, end >> PAGE_SHIFT
        if end % PAGE_SIZE == PAGE_SIZE - 1 or end >= file.inode.size - 1:
            last += 1
        if last > first:
            kernel.lru.lru_add_drain_all()
            invalidate_mapping_pages(file.mapping, first, last)
