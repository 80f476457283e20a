"""Faulting pages in ahead of use: MAP_POPULATE, MAP_LOCKED, mlock() and MADV_POPULATE_*.

Linux: mm/gup.c.
"""

from __future__ import annotations

from errno import EFAULT, EINVAL, ENOMEM
from typing import TYPE_CHECKING

from mmfs.mm import access
from mmfs.mm.fault import Fault
from mmfs.mm.mman import VM_IO, VM_LOCKONFAULT, VM_PFNMAP, VM_READ, VM_SHARED, VM_WRITE

if TYPE_CHECKING:
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct


def populate_vma_page_range(vma: VmAreaStruct, start: int, end: int) -> None:
    """Touch every page of a part of a VMA, for writing if it is private and writable.

    Linux: mm/gup.c, populate_vma_page_range().
    """
    if vma.vm_flags & VM_LOCKONFAULT:
        return
    if not vma.is_readable():
        raise OSError(EFAULT, "PROT_NONE, or execute-only")
    try:
        access.access_range(vma.vm_mm, start, end, vma.vm_flags & (VM_WRITE | VM_SHARED) == VM_WRITE)
    except Fault as fault:
        raise OSError(EFAULT, f"a page cannot be faulted in: {fault}") from fault


def mm_populate(mm: MmStruct, start: int, length: int, ignore_errors: bool = True) -> None:
    """Fault in every VMA of a range; stops at the first error unless they are to be ignored.

    Linux: mm/gup.c, __mm_populate().
    """
    end = start + length
    while start < end:
        vma = mm.find_vma_intersection(start, end)
        if vma is None:
            return
        stop = min(end, vma.vm_end)
        if not vma.vm_flags & (VM_IO | VM_PFNMAP):
            try:
                populate_vma_page_range(vma, max(start, vma.vm_start), stop)
            except OSError:
                if not ignore_errors:
                    raise
        start = stop


def madvise_populate(mm: MmStruct, start: int, end: int, write: bool) -> None:
    """MADV_POPULATE_READ and MADV_POPULATE_WRITE. Linux: mm/madvise.c, madvise_populate(); mm/gup.c."""
    while start < end:
        vma = mm.vma_lookup(start)
        if vma is None:
            raise OSError(ENOMEM, "not mapped")
        allowed = vma.vm_flags & (VM_WRITE if write else VM_READ) and vma.is_readable()
        if vma.vm_flags & (VM_IO | VM_PFNMAP) or not allowed:
            raise OSError(EINVAL, "the mapping does not allow it")
        stop = min(end, vma.vm_end)
        try:
            access.access_range(mm, start, stop, write)
        except Fault as fault:
            raise OSError(EFAULT, f"a page cannot be faulted in: {fault}") from fault
        start = stop
