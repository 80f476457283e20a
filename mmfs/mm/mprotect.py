"""mprotect(): changing what a range may be used for.

Each VMA of the range gets new access bits, merging with or splitting from its neighbours. Making private memory
writable promises it (VM_ACCOUNT); making it read-only again gives the promise back only if nothing of it was ever
touched.

Linux: mm/mprotect.c.
"""

from __future__ import annotations

import contextlib
from errno import EACCES, EINVAL, ENOMEM
from typing import TYPE_CHECKING

from mmfs.mm import memory
from mmfs.mm.gup import populate_vma_page_range
from mmfs.mm.mman import (
    EXECUTE_ONLY_PKEY,
    PROT_EXEC,
    PROT_GROWSDOWN,
    PROT_GROWSUP,
    PROT_READ,
    PROT_SEM,
    PROT_WRITE,
    READ_IMPLIES_EXEC,
    ULONG_MAX,
    VM_ACCESS_FLAGS,
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_LOCKED,
    VM_MAYEXEC,
    VM_NORESERVE,
    VM_PKEY_MASK,
    VM_PKEY_SHIFT,
    VM_SHARED,
    VM_WRITE,
    calc_vm_prot_bits,
    page_align,
)
from mmfs.mm.vma import VmAreaStruct
from mmfs.mm.vma_merge import vma_modify_flags
from mmfs.mm_types import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from mmfs.mm.mm_struct import MmStruct


def _charge(vma: VmAreaStruct, newflags: int, pages: int) -> tuple[int, int]:
    """Promise memory that becomes writable; returns the new flags and the pages charged."""
    mm, oldflags = vma.vm_mm, vma.vm_flags
    if newflags & VM_WRITE:
        if not mm.may_expand_vm(newflags, pages) and mm.may_expand_vm(oldflags, pages):
            raise OSError(ENOMEM, "RLIMIT_DATA")
        if not oldflags & (VM_ACCOUNT | VM_WRITE | VM_HUGETLB | VM_SHARED | VM_NORESERVE):
            mm.kernel.overcommit.enough_memory(pages, mm)
            return newflags | VM_ACCOUNT, pages
    elif oldflags & VM_ACCOUNT and vma.is_anonymous() and vma.anon_vma is None:
        newflags &= ~VM_ACCOUNT
    return newflags, 0


def mprotect_fixup(vma: VmAreaStruct, prev: VmAreaStruct | None, start: int, end: int, newflags: int) -> VmAreaStruct:
    """Give [start, end) of `vma` new flags; returns the VMA that holds it then. Linux: mprotect_fixup()."""
    mm, oldflags = vma.vm_mm, vma.vm_flags
    if newflags == oldflags:
        return vma
    pages = end - start >> PAGE_SHIFT
    newflags, charged = _charge(vma, newflags, pages)
    try:
        vma = vma_modify_flags(prev, vma, start, end, newflags)
    except OSError:
        mm.kernel.overcommit.vm_unacct_memory(charged)
        raise
    vma.flags_reset(newflags)
    memory.change_protection(mm, vma, start, end)
    if oldflags & VM_ACCOUNT and not newflags & VM_ACCOUNT:
        mm.kernel.overcommit.vm_unacct_memory(pages)
    mm.vm_stat_account(oldflags, -pages)
    mm.vm_stat_account(newflags, pages)
    if oldflags & (VM_WRITE | VM_SHARED | VM_LOCKED) == VM_LOCKED and newflags & VM_WRITE:
        with contextlib.suppress(OSError):  # what cannot be faulted in now is faulted in on access
            populate_vma_page_range(vma, start, end)
    return vma


def do_mprotect(mm: MmStruct, start: int, length: int, prot: int) -> None:
    """mprotect(2). Linux: mm/mprotect.c, do_mprotect_pkey()."""
    grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
    prot &= ~(PROT_GROWSDOWN | PROT_GROWSUP)
    if grows == PROT_GROWSDOWN | PROT_GROWSUP:
        raise OSError(EINVAL, "PROT_GROWSDOWN and PROT_GROWSUP")
    if start & ~PAGE_MASK:
        raise OSError(EINVAL, "not a multiple of the page size")
    if not length:
        return
    end = start + page_align(length) & ULONG_MAX
    if end <= start:
        raise OSError(ENOMEM, "past the end of the address space")
    if prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM):
        raise OSError(EINVAL, "no such protection")
    vma = mm.find_vma_intersection(start, end)
    if vma is None:
        raise OSError(ENOMEM, "not mapped")
    if grows & PROT_GROWSDOWN:
        start = vma.vm_start
        if not vma.vm_flags & VM_GROWSDOWN:
            raise OSError(EINVAL, "not a stack")
    elif vma.vm_start > start:
        raise OSError(ENOMEM, "not mapped")
    elif grows & PROT_GROWSUP:
        raise OSError(EINVAL, "no mapping grows up on x86")
    _protect_range(mm, start, end, prot)


def _override_mprotect_pkey(vma: VmAreaStruct, prot: int) -> int:
    """The key of execute-only memory comes and goes with that protection. Linux: arch/x86/mm/pkeys.c."""
    if prot == PROT_EXEC and vma.vm_mm.has_pkeys:
        return EXECUTE_ONLY_PKEY
    return 0 if vma.pkey == EXECUTE_ONLY_PKEY else vma.pkey


def _protect_range(mm: MmStruct, start: int, end: int, prot: int) -> None:
    prev = mm.find_vma_prev(start)
    while start < end:
        vma = mm.vma_lookup(start)
        if vma is None:
            raise OSError(ENOMEM, "not mapped")
        if start > vma.vm_start:
            prev = vma
        bits = calc_vm_prot_bits(prot)
        if mm.personality & READ_IMPLIES_EXEC and prot & PROT_READ and vma.vm_flags & VM_MAYEXEC:
            bits |= PROT_EXEC
        pkey = _override_mprotect_pkey(vma, prot)
        newflags = bits | pkey << VM_PKEY_SHIFT | vma.vm_flags & ~(VM_ACCESS_FLAGS | VM_PKEY_MASK)
        if newflags & ~(newflags >> 4) & VM_ACCESS_FLAGS:
            raise OSError(EACCES, "the mapping was made without that right")
        stop = min(vma.vm_end, end)
        prev = mprotect_fixup(vma, prev, start, stop, newflags)
        start = prev.vm_end
