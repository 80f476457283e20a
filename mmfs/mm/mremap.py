"""mremap(): a mapping changes its size or its place, and its pages go with it.

Shrinking unmaps the tail. Growing extends the VMA where it is if the addresses above are free; else, with
MREMAP_MAYMOVE, a new VMA is made, the page-table entries are moved into it and the old range is unmapped.
MREMAP_FIXED says where to; MREMAP_DONTUNMAP leaves the old range mapped, and empty.

Linux: mm/mremap.c.
"""

from __future__ import annotations

import contextlib
from errno import EAGAIN, EFAULT, EINVAL, ENOMEM
from typing import TYPE_CHECKING

from mmfs.mm import memory, rmap
from mmfs.mm.gup import mm_populate
from mmfs.mm.hugetlb_resv import hugetlb_dup_vma_private
from mmfs.mm.mman import (
    MAP_FIXED,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    ULONG_MAX,
    VM_ACCOUNT,
    VM_DONTEXPAND,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_MAYSHARE,
    VM_MERGEABLE,
    VM_PFNMAP,
    VM_SHARED,
    page_align,
)
from mmfs.mm.munmap import do_munmap
from mmfs.mm.unmapped_area import get_unmapped_area, huge_page_size
from mmfs.mm.vma import VmAreaStruct, split_vma
from mmfs.mm.vma_merge import copy_vma, vma_merge_extend
from mmfs.mm_types import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from mmfs.mm.mm_struct import MmStruct


def _vma_to_resize(mm: MmStruct, addr: int, old_len: int, new_len: int, flags: int) -> VmAreaStruct:
    """The VMA, if it may take the new length. Linux: mm/mremap.c, vma_to_resize()."""
    vma = mm.vma_lookup(addr)
    if vma is None:
        raise OSError(EFAULT, "not mapped")
    if not old_len and not vma.vm_flags & (VM_SHARED | VM_MAYSHARE):
        owner = mm.owner
        who = f"{owner.comm} ({owner.pid})" if owner is not None else "swapper/0 (0)"
        mm.kernel.overcommit.warn_once(
            "mremap", f"{who}: attempted to duplicate a private mapping with mremap.  This is not supported."
        )
        raise OSError(EINVAL, "a private mapping cannot be duplicated")
    if flags & MREMAP_DONTUNMAP and vma.vm_flags & (VM_DONTEXPAND | VM_PFNMAP):
        raise OSError(EINVAL, "a special mapping")
    if old_len > vma.vm_end - addr:
        raise OSError(EFAULT, "the range spans more than one mapping")
    if new_len == old_len:
        return vma
    pgoff = vma.vm_pgoff + (addr - vma.vm_start >> PAGE_SHIFT)
    if pgoff + (new_len >> PAGE_SHIFT) > ULONG_MAX:
        raise OSError(EINVAL, "the file offset overflows")
    if vma.vm_flags & (VM_DONTEXPAND | VM_PFNMAP):
        raise OSError(EFAULT, "a special mapping")
    if not mm.mlock_future_ok(vma.vm_flags, new_len - old_len):
        raise OSError(EAGAIN, "RLIMIT_MEMLOCK")
    if not mm.may_expand_vm(vma.vm_flags, new_len - old_len >> PAGE_SHIFT):
        raise OSError(ENOMEM, "RLIMIT_AS or RLIMIT_DATA")
    return vma


def _prepare_move(vma: VmAreaStruct, old_addr: int, old_len: int, flags: int) -> None:
    """Everything that may forbid a move before anything is changed. Linux: the first part of move_vma()."""
    mm = vma.vm_mm
    if mm.map_count >= mm.kernel.vm.max_map_count - 3:
        raise OSError(ENOMEM, "max_map_count is near")
    split_before, split_after = vma.vm_start != old_addr, vma.vm_end != old_addr + old_len
    if vma.vm_ops is not None and vma.vm_ops.may_split is not None:
        if split_before:
            vma.vm_ops.may_split(vma, old_addr)
        if split_after:
            vma.vm_ops.may_split(vma, old_addr + old_len)
    if flags & MREMAP_DONTUNMAP and vma.vm_flags & VM_LOCKED:
        if split_before:
            split_vma(vma, old_addr, new_below=True)
        if split_after:
            split_vma(vma, old_addr + old_len, new_below=False)


def _keep_source(vma: VmAreaStruct, old_addr: int, old_len: int) -> None:
    """MREMAP_DONTUNMAP: the source stays, unlocked and empty. Linux: move_vma()."""
    vma.flags_reset(vma.vm_flags & ~VM_LOCKED_MASK)
    if vma.vm_start == old_addr and vma.vm_end == old_addr + old_len:
        rmap.unlink_anon_vmas(vma)
        if vma.is_anonymous():
            vma.vm_mm.vma_adjust(vma, vma.vm_start, vma.vm_end, vma.vm_start >> PAGE_SHIFT)


def _unmap_source(vma: VmAreaStruct, old_addr: int, old_len: int) -> None:
    """Unmap the moved range without giving up its promise of memory. Linux: move_vma(), "Conceal VM_ACCOUNT"."""
    mm = vma.vm_mm
    accounted = vma.vm_flags & VM_ACCOUNT
    before, after = vma.vm_start < old_addr, vma.vm_end > old_addr + old_len
    if accounted:
        vma.flags_reset(vma.vm_flags & ~VM_ACCOUNT)
    hiwater_vm = mm.hiwater_vm
    try:
        do_munmap(mm, old_addr, old_len)
    except OSError:
        if accounted:
            mm.kernel.overcommit.vm_acct_memory(old_len >> PAGE_SHIFT)
        before = after = False
    mm.hiwater_vm = hiwater_vm
    left = [mm.find_vma_prev(old_addr)] if before else []
    left += [mm.find_vma(old_addr + old_len)] if after else []
    for rest in left:
        if accounted and rest is not None:
            rest.flags_reset(rest.vm_flags | VM_ACCOUNT)


def _move_vma(vma: VmAreaStruct, old_addr: int, old_len: int, new_len: int, new_addr: int, flags: int) -> int:
    """Linux: mm/mremap.c, move_vma()."""
    mm = vma.vm_mm
    _prepare_move(vma, old_addr, old_len, flags)
    vm_flags = vma.vm_flags
    if vm_flags & VM_MERGEABLE:
        mm.kernel.ksm.unmerge(vma, old_addr, old_addr + old_len)
    keep = bool(flags & MREMAP_DONTUNMAP)
    to_account = (new_len if keep else new_len - old_len) >> PAGE_SHIFT
    if vm_flags & VM_ACCOUNT:
        mm.kernel.overcommit.enough_memory(to_account, mm)
    pgoff = vma.vm_pgoff + (old_addr - vma.vm_start >> PAGE_SHIFT)
    new_vma = copy_vma(vma, new_addr, new_len, pgoff, keep)
    if new_vma.vm_start <= old_addr < new_vma.vm_end:
        vma = new_vma
    moved = memory.move_page_tables(mm, vma, old_addr, new_vma, new_addr, old_len)
    if moved < old_len:
        memory.move_page_tables(mm, new_vma, new_addr, vma, old_addr, moved)
        mm.vm_stat_account(vm_flags, new_len >> PAGE_SHIFT)
        if vm_flags & VM_ACCOUNT:
            mm.kernel.overcommit.vm_acct_memory(0 if keep else old_len >> PAGE_SHIFT)
        if vm_flags & VM_LOCKED:
            mm.locked_vm += new_len >> PAGE_SHIFT
        do_munmap(mm, new_addr, new_len)
        raise OSError(ENOMEM, "no memory for page tables")
    mm.ksm.move(old_addr, old_len, new_addr - old_addr)
    if vma.is_hugetlb():
        hugetlb_dup_vma_private(vma)
    mm.vm_stat_account(vma.vm_flags, new_len >> PAGE_SHIFT)
    if keep:
        _keep_source(vma, old_addr, old_len)
        return new_addr
    _unmap_source(vma, old_addr, old_len)
    if vm_flags & VM_LOCKED:
        mm.locked_vm += new_len >> PAGE_SHIFT
    return new_addr


def _map_flags(vma: VmAreaStruct) -> int:
    return MAP_SHARED if vma.vm_flags & VM_MAYSHARE else 0


def _mremap_to(mm: MmStruct, addr: int, old_len: int, new_addr: int, new_len: int, flags: int) -> int:
    """MREMAP_FIXED and MREMAP_DONTUNMAP. Linux: mm/mremap.c, mremap_to()."""
    if new_addr & ~PAGE_MASK:
        raise OSError(EINVAL, "not a multiple of the page size")
    if new_len > mm.task_size or new_addr > mm.task_size - new_len:
        raise OSError(EINVAL, "past the end of the address space")
    if addr + old_len > new_addr and new_addr + new_len > addr:
        raise OSError(EINVAL, "the old and the new range overlap")
    if mm.map_count + 2 >= mm.kernel.vm.max_map_count - 3:
        raise OSError(ENOMEM, "max_map_count is near")
    if flags & MREMAP_FIXED:
        do_munmap(mm, new_addr, new_len)
    if old_len > new_len:
        do_munmap(mm, addr + new_len, old_len - new_len)
        old_len = new_len
    vma = _vma_to_resize(mm, addr, old_len, new_len, flags)
    if flags & MREMAP_DONTUNMAP and not mm.may_expand_vm(vma.vm_flags, old_len >> PAGE_SHIFT):
        raise OSError(ENOMEM, "RLIMIT_AS or RLIMIT_DATA")
    map_flags = _map_flags(vma) | (MAP_FIXED if flags & MREMAP_FIXED else 0)
    pgoff = vma.vm_pgoff + (addr - vma.vm_start >> PAGE_SHIFT)
    found = get_unmapped_area(mm, vma.vm_file, new_addr, new_len, pgoff, map_flags)
    return _move_vma(vma, addr, old_len, new_len, new_addr if flags & MREMAP_FIXED else found, flags)


def _can_expand(vma: VmAreaStruct, delta: int) -> bool:
    """Whether the addresses above are free. Linux: mm/mremap.c, vma_expandable()."""
    mm, end = vma.vm_mm, vma.vm_end + delta
    if mm.find_vma_intersection(vma.vm_end, end) is not None:
        return False
    with contextlib.suppress(OSError):
        get_unmapped_area(mm, None, vma.vm_start, end - vma.vm_start, 0, MAP_FIXED)
        return True
    return False


def _expand_in_place(vma: VmAreaStruct, delta: int) -> None:
    mm, pages = vma.vm_mm, delta >> PAGE_SHIFT
    charged = pages if vma.vm_flags & VM_ACCOUNT else 0
    if charged:
        mm.kernel.overcommit.enough_memory(charged, mm)
    merged = vma_merge_extend(vma, delta)
    if merged is None:
        mm.kernel.overcommit.vm_unacct_memory(charged)
        raise OSError(ENOMEM, "the mapping cannot be extended")
    mm.vm_stat_account(merged.vm_flags, pages)
    if merged.vm_flags & VM_LOCKED:
        mm.locked_vm += pages


def do_mremap(mm: MmStruct, addr: int, old_len: int, new_len: int, flags: int = 0, new_addr: int = 0) -> int:
    """mremap(2); returns the new address. Linux: mm/mremap.c, mremap()."""
    if flags & ~(MREMAP_FIXED | MREMAP_MAYMOVE | MREMAP_DONTUNMAP):
        raise OSError(EINVAL, "no such flag")
    if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) and not flags & MREMAP_MAYMOVE:
        raise OSError(EINVAL, "MREMAP_FIXED and MREMAP_DONTUNMAP need MREMAP_MAYMOVE")
    if flags & MREMAP_DONTUNMAP and old_len != new_len:
        raise OSError(EINVAL, "MREMAP_DONTUNMAP does not resize")
    if addr & ~PAGE_MASK:
        raise OSError(EINVAL, "not a multiple of the page size")
    old_len, new_len = page_align(old_len), page_align(new_len)
    if not new_len:
        raise OSError(EINVAL, "zero length")
    vma = mm.vma_lookup(addr)
    if vma is None:
        raise OSError(EFAULT, "not mapped")
    if vma.is_hugetlb():
        huge = huge_page_size(vma.vm_file)
        old_len, new_len = -(-old_len // huge) * huge, -(-new_len // huge) * huge
        if addr % huge or new_addr % huge or new_len > old_len:
            raise OSError(EINVAL, "huge pages can only shrink, at huge page boundaries")
    if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
        result = _mremap_to(mm, addr, old_len, new_addr, new_len, flags)
    elif old_len >= new_len:
        if old_len > new_len:
            do_munmap(mm, addr + new_len, old_len - new_len)
        return addr
    else:
        result = _grow(mm, addr, old_len, new_len, flags)
    if new_len > old_len:
        moved = mm.vma_lookup(result)
        if moved is not None and moved.vm_flags & VM_LOCKED:
            mm_populate(mm, result + old_len, new_len - old_len)
    return result


def _grow(mm: MmStruct, addr: int, old_len: int, new_len: int, flags: int) -> int:
    vma = _vma_to_resize(mm, addr, old_len, new_len, flags)
    if old_len == vma.vm_end - addr and _can_expand(vma, new_len - old_len):
        _expand_in_place(vma, new_len - old_len)
        return addr
    if not flags & MREMAP_MAYMOVE:
        raise OSError(ENOMEM, "no room to grow in place")
    pgoff = vma.vm_pgoff + (addr - vma.vm_start >> PAGE_SHIFT)
    new_addr = get_unmapped_area(mm, vma.vm_file, 0, new_len, pgoff, _map_flags(vma))
    return _move_vma(vma, addr, old_len, new_len, new_addr, flags)
