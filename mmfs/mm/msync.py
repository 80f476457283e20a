"""msync(): which parts of which files a range of addresses maps shared.

Linux: mm/msync.c.
"""

from __future__ import annotations

from errno import EINVAL, ENOMEM
from typing import TYPE_CHECKING, Final

from mmfs.mm.mman import VM_SHARED, page_align
from mmfs.mm_types import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from mmfs.mm.inode import File
    from mmfs.mm.mm_struct import MmStruct

MS_ASYNC: Final = 1
MS_INVALIDATE: Final = 2
MS_SYNC: Final = 4


def do_msync(mm: MmStruct, start: int, length: int, flags: int) -> list[tuple[File, int, int]]:
    """What has to be written now: (file, first page, behind the last). Raises OSError(EINVAL, ENOMEM)."""
    if flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) or start & ~PAGE_MASK or flags & (MS_ASYNC | MS_SYNC) == 5:
        raise OSError(EINVAL, "flags, or not a multiple of the page size")
    end, found = start + page_align(length), []
    while start < end:
        vma = mm.vma_lookup(start)
        if vma is None:
            raise OSError(ENOMEM, "a part of the range is not mapped")
        stop = min(vma.vm_end, end)
        if flags & MS_SYNC and vma.vm_file is not None and vma.vm_flags & VM_SHARED and not vma.vm_file.inode.shmem:
            first = vma.vm_pgoff + ((start - vma.vm_start) >> PAGE_SHIFT)
            found.append((vma.vm_file, first, first + ((stop - start) >> PAGE_SHIFT)))
        start = stop
    return found
