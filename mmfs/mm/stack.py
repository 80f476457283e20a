"""Stacks that grow: the one kind of mapping that becomes larger by being touched.

An access just below a VM_GROWSDOWN area extends it down to the page touched, as long as the limits allow and at
least `stack_guard_gap` (256 pages) remains between it and the mapping below, unless that is a PROT_NONE guard
or another stack.

Linux: mm/mmap.c, expand_downwards(), acct_stack_growth(), expand_stack().
"""

from __future__ import annotations

from errno import EFAULT, ENOMEM, EPERM
from typing import TYPE_CHECKING

from mmfs.mm import rmap
from mmfs.mm.mman import RLIMIT_STACK, VM_GROWSDOWN, VM_LOCKED
from mmfs.mm_types import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct


def _acct_stack_growth(vma: VmAreaStruct, size: int, grow: int) -> None:
    """Check every limit, the promise of memory last. Linux: mm/mmap.c, acct_stack_growth().

    As in Linux, the growth of a stack that is not VM_ACCOUNT (read-only, or MAP_NORESERVE) is promised all the
    same, and that promise is never taken back.
    """
    mm = vma.vm_mm
    if not mm.may_expand_vm(vma.vm_flags, grow):
        raise OSError(ENOMEM, "RLIMIT_AS or RLIMIT_DATA")
    if size > mm.rlimit(RLIMIT_STACK):
        raise OSError(ENOMEM, "RLIMIT_STACK")
    if not mm.mlock_future_ok(vma.vm_flags, grow << PAGE_SHIFT):
        raise OSError(ENOMEM, "RLIMIT_MEMLOCK")
    mm.kernel.overcommit.enough_memory(grow, mm)


def expand_downwards(vma: VmAreaStruct, address: int) -> None:
    """Extend a stack down to the page of `address`, or raise. Linux: mm/mmap.c, expand_downwards()."""
    mm = vma.vm_mm
    if not vma.vm_flags & VM_GROWSDOWN:
        raise OSError(EFAULT, "not a stack")
    address &= PAGE_MASK
    if address < mm.kernel.vm.mmap_min_addr:
        raise OSError(EPERM, "below vm.mmap_min_addr")
    prev = mm.mt.prev(vma)
    if (
        prev is not None
        and not prev.vm_flags & VM_GROWSDOWN
        and prev.is_accessible()
        and address - prev.vm_end < mm.stack_guard_gap
    ):
        raise OSError(ENOMEM, "the stack would come closer than stack_guard_gap to the mapping below")
    rmap.anon_vma_prepare(vma)
    if address >= vma.vm_start:
        return
    grow = vma.vm_start - address >> PAGE_SHIFT
    if grow > vma.vm_pgoff:
        raise OSError(ENOMEM, "page offsets would become negative")
    _acct_stack_growth(vma, vma.vm_end - address, grow)
    if vma.vm_flags & VM_LOCKED:
        mm.locked_vm += grow
    mm.vm_stat_account(vma.vm_flags, grow)
    mm.vma_adjust(vma, address, vma.vm_end, vma.vm_pgoff - grow)


def expand_stack(mm: MmStruct, addr: int) -> VmAreaStruct | None:
    """The VMA for a faulting address: the one that holds it, or a stack extended to it, or None (SIGSEGV).

    Linux: mm/mmap.c, expand_stack(); mm/memory.c, lock_mm_and_find_vma().
    """
    vma = mm.find_vma(addr)
    if vma is None or vma.vm_start <= addr:
        return vma
    try:
        expand_downwards(vma, addr)
    except OSError:
        return None
    return vma
