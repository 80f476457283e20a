"""mlock(), munlock() and their kin: memory that stays resident.

A locked range is a VMA flag: the pages there now go to the unevictable list, and the rest is faulted in (or, with
MLOCK_ONFAULT, locked when it is). RLIMIT_MEMLOCK bounds the locked size of an unprivileged process; `locked_vm`
(VmLck) is that size, whether the pages are there or not. mlockall(MCL_FUTURE) sets the flags of mappings to come.

Linux: mm/mlock.c.
"""

from __future__ import annotations

from errno import EAGAIN, EFAULT, EINVAL, ENOMEM, EPERM
from typing import TYPE_CHECKING

from mmfs.mm import memory
from mmfs.mm.gup import mm_populate
from mmfs.mm.mman import (
    CAP_IPC_LOCK,
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    MLOCK_ONFAULT,
    RLIMIT_MEMLOCK,
    ULONG_MAX,
    VM_DROPPABLE,
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_LOCKONFAULT,
    VM_SPECIAL,
    page_align,
)
from mmfs.mm.vma import VmAreaStruct
from mmfs.mm.vma_merge import vma_modify_flags
from mmfs.mm_types import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from mmfs.mm.mm_struct import MmStruct


def vma_supports_mlock(vma: VmAreaStruct) -> bool:
    """Whether locking means anything there. Linux: mm/internal.h, vma_supports_mlock()."""
    return not vma.vm_flags & (VM_SPECIAL | VM_DROPPABLE | VM_HUGETLB)


def _mlock_fixup(vma: VmAreaStruct, prev: VmAreaStruct | None, start: int, end: int, newflags: int) -> VmAreaStruct:
    """Give [start, end) of `vma` new lock flags; returns the VMA that holds it then. Linux: mlock_fixup()."""
    mm, oldflags = vma.vm_mm, vma.vm_flags
    if newflags == oldflags or not vma_supports_mlock(vma):
        return vma
    vma = vma_modify_flags(prev, vma, start, end, newflags)
    pages = end - start >> PAGE_SHIFT
    if not newflags & VM_LOCKED:
        mm.locked_vm -= pages
    elif not oldflags & VM_LOCKED:
        mm.locked_vm += pages
    vma.flags_reset(newflags)
    if not newflags & oldflags & VM_LOCKED:
        memory.mlock_vma_pages_range(mm, vma, start, end, bool(newflags & VM_LOCKED))
    return vma


def _apply_vma_lock_flags(mm: MmStruct, start: int, length: int, flags: int) -> None:
    """Set the lock flags of a range without holes. Linux: mm/mlock.c, apply_vma_lock_flags()."""
    end = start + length
    if end > ULONG_MAX:
        raise OSError(EINVAL, "past the end of the address space")
    prev = mm.find_vma_prev(start)
    while start < end:
        vma = mm.vma_lookup(start)
        if vma is None:
            raise OSError(ENOMEM, "not mapped")
        if start > vma.vm_start:
            prev = vma
        newflags = vma.vm_flags & ~VM_LOCKED_MASK | flags
        stop = min(vma.vm_end, end)
        prev = _mlock_fixup(vma, prev, start, stop, newflags)
        start = prev.vm_end


def _count_mm_mlocked_page_nr(mm: MmStruct, start: int, length: int) -> int:
    """Pages of the range that are locked already. Linux: mm/mlock.c, count_mm_mlocked_page_nr()."""
    end = min(start + length, ULONG_MAX)
    locked = (vma for vma in mm.mt.span(start, end) if vma.vm_flags & VM_LOCKED)
    return sum(min(end, vma.vm_end) - max(start, vma.vm_start) for vma in locked) >> PAGE_SHIFT


def _do_mlock(mm: MmStruct, start: int, length: int, flags: int) -> None:
    """Linux: mm/mlock.c, do_mlock()."""
    if not mm.can_do_mlock():
        raise OSError(EPERM, "RLIMIT_MEMLOCK is 0")
    length = page_align(length + (start & ~PAGE_MASK))
    start &= PAGE_MASK
    if not mm.capable(CAP_IPC_LOCK):
        limit = mm.rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT
        locked = (length >> PAGE_SHIFT) + mm.locked_vm
        if locked > limit and locked - _count_mm_mlocked_page_nr(mm, start, length) > limit:
            raise OSError(ENOMEM, "RLIMIT_MEMLOCK")
    _apply_vma_lock_flags(mm, start, length, flags)
    try:
        mm_populate(mm, start, length, ignore_errors=False)
    except OSError as error:
        posix = {EFAULT: ENOMEM, ENOMEM: EAGAIN}.get(error.errno or 0, error.errno)
        raise OSError(posix, error.strerror) from error


def do_mlock(mm: MmStruct, start: int, length: int) -> None:
    """mlock(2)."""
    _do_mlock(mm, start, length, VM_LOCKED)


def do_mlock2(mm: MmStruct, start: int, length: int, flags: int) -> None:
    """mlock2(2)."""
    if flags & ~MLOCK_ONFAULT:
        raise OSError(EINVAL, "no such flag")
    _do_mlock(mm, start, length, VM_LOCKED | (VM_LOCKONFAULT if flags & MLOCK_ONFAULT else 0))


def do_munlock(mm: MmStruct, start: int, length: int) -> None:
    """munlock(2)."""
    length = page_align(length + (start & ~PAGE_MASK))
    _apply_vma_lock_flags(mm, start & PAGE_MASK, length, 0)


def _apply_mlockall_flags(mm: MmStruct, flags: int) -> None:
    """Set def_flags, and the flags of every VMA there is. Linux: mm/mlock.c, apply_mlockall_flags()."""
    onfault = VM_LOCKONFAULT if flags & MCL_ONFAULT else 0
    mm.def_flags &= ~VM_LOCKED_MASK
    if flags & MCL_FUTURE:
        mm.def_flags |= VM_LOCKED | onfault
        if not flags & MCL_CURRENT:
            return
    to_add = VM_LOCKED | onfault if flags & MCL_CURRENT else 0
    prev: VmAreaStruct | None = None
    addr = 0
    while (vma := mm.find_vma(addr)) is not None:
        newflags = vma.vm_flags & ~VM_LOCKED_MASK | to_add
        try:
            prev = _mlock_fixup(vma, prev, vma.vm_start, vma.vm_end, newflags)
        except OSError:
            prev = vma
        addr = prev.vm_end


def do_mlockall(mm: MmStruct, flags: int) -> None:
    """mlockall(2)."""
    if not flags or flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) or flags == MCL_ONFAULT:
        raise OSError(EINVAL, "no such flags")
    if not mm.can_do_mlock():
        raise OSError(EPERM, "RLIMIT_MEMLOCK is 0")
    if flags & MCL_CURRENT and mm.total_vm > mm.rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT and not mm.capable(CAP_IPC_LOCK):
        raise OSError(ENOMEM, "RLIMIT_MEMLOCK")
    _apply_mlockall_flags(mm, flags)
    if flags & MCL_CURRENT:
        mm_populate(mm, 0, mm.task_size)


def do_munlockall(mm: MmStruct) -> None:
    """munlockall(2)."""
    _apply_mlockall_flags(mm, 0)
