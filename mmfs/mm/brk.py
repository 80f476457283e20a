"""The heap: brk() moves its end.

The heap is an ordinary private anonymous mapping from `start_brk` (which execve() chose) up to `brk`. It grows by
extending the VMA that ends there and shrinks by unmapping; it never comes within a stack's guard gap.

Linux: mm/mmap.c, brk(), do_brk_flags(), vm_brk_flags().
"""

from __future__ import annotations

import contextlib
from errno import EAGAIN, EINVAL, ENOMEM, ENOSPC
from typing import TYPE_CHECKING

from mmfs.mm.gup import mm_populate
from mmfs.mm.mman import (
    MAP_FIXED,
    RLIM_INFINITY,
    RLIMIT_DATA,
    VM_ACCOUNT,
    VM_DATA_DEFAULT_FLAGS,
    VM_EXEC,
    VM_LOCKED,
    VM_SOFTDIRTY,
    page_align,
)
from mmfs.mm.munmap import do_munmap
from mmfs.mm.unmapped_area import get_unmapped_area
from mmfs.mm.vma import VmAreaStruct, vm_area_alloc
from mmfs.mm.vma_merge import VmaMergeStruct, vma_merge_new_range
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.mm.mm_struct import MmStruct


def _check_brk_limits(mm: MmStruct, addr: int, length: int) -> None:
    get_unmapped_area(mm, None, addr, length, 0, MAP_FIXED)
    if not mm.mlock_future_ok(mm.def_flags, length):
        raise OSError(EAGAIN, "RLIMIT_MEMLOCK")


def _do_brk_flags(mm: MmStruct, prev: VmAreaStruct | None, addr: int, length: int, flags: int) -> None:
    """Extend the heap (or start it). Linux: mm/mmap.c, do_brk_flags()."""
    flags |= VM_DATA_DEFAULT_FLAGS | VM_ACCOUNT | mm.def_flags
    pages = length >> PAGE_SHIFT
    if not mm.may_expand_vm(flags, pages):
        raise OSError(ENOMEM, "RLIMIT_AS or RLIMIT_DATA")
    if mm.map_count > mm.kernel.vm.max_map_count:
        raise OSError(ENOMEM, "max_map_count reached")
    mm.kernel.overcommit.enough_memory(pages, mm)
    vma = None
    if prev is not None and prev.vm_end == addr:
        vmg = VmaMergeStruct(mm, addr, addr + length, flags, addr >> PAGE_SHIFT, prev=prev)
        vma = vma_merge_new_range(vmg, just_expand=True)
    if vma is None:
        vma = vm_area_alloc(mm, addr, addr + length, flags, addr >> PAGE_SHIFT)
        mm.vma_link(vma)
        if mm.ksm.merge_any:
            mm.kernel.ksm.add_vma(vma)
    mm.total_vm += pages
    mm.data_vm += pages
    if flags & VM_LOCKED:
        mm.locked_vm += pages
    vma.flags_reset(vma.vm_flags | VM_SOFTDIRTY)


def _move_brk(mm: MmStruct, brk: int) -> None:
    data_limit = mm.rlimit(RLIMIT_DATA)
    if data_limit < RLIM_INFINITY and brk - mm.start_brk + mm.end_data - mm.start_data > data_limit:
        raise OSError(ENOSPC, "RLIMIT_DATA")
    new, old = page_align(brk), page_align(mm.brk)
    if new < old:
        vma = mm.find_vma_intersection(new, old)
        if vma is None:
            raise OSError(EINVAL, "the heap is not there")
        do_munmap(mm, new, old - new)
    elif new > old:
        _check_brk_limits(mm, old, new - old)
        above = mm.find_vma_intersection(old, new + PAGE_SIZE + mm.stack_guard_gap)
        if above is not None and new + PAGE_SIZE > above.start_gap():
            raise OSError(ENOMEM, "the heap would run into another mapping")
        prev = mm.find_vma_prev(old)
        _do_brk_flags(mm, prev if prev is not None and prev.vm_end > mm.start_brk else None, old, new - old, 0)
    mm.brk = brk
    if new > old and mm.def_flags & VM_LOCKED:
        mm_populate(mm, old, new - old)


def do_brk(mm: MmStruct, brk: int) -> int:
    """Move the end of the heap; returns where it is then (where it was, if that is refused). Linux: brk(2)."""
    if brk >= mm.start_brk:
        with contextlib.suppress(OSError):
            _move_brk(mm, brk)
    return mm.brk


def vm_brk_flags(mm: MmStruct, addr: int, request: int, flags: int = 0) -> None:
    """Map zeroed memory at a fixed address, as a program's bss is. Linux: mm/mmap.c, vm_brk_flags()."""
    length = page_align(request)
    if length < request:
        raise OSError(ENOMEM, "longer than the address space")
    if not length:
        return
    if flags & ~VM_EXEC:
        raise OSError(EINVAL, "only VM_EXEC may be asked for")
    _check_brk_limits(mm, addr, length)
    do_munmap(mm, addr, length)
    _do_brk_flags(mm, mm.find_vma_prev(addr), addr, length, flags)
    if mm.def_flags & VM_LOCKED:
        mm_populate(mm, addr, length)
