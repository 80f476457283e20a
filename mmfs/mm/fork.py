"""An address space is copied (fork) and torn down (exit, exec).

Linux: kernel/fork.c, dup_mm(), dup_mmap(); mm/mmap.c, exit_mmap().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.mm import memory, rmap, rows
from mmfs.mm.hugetlb_resv import hugetlb_dup_vma_private
from mmfs.mm.mm_struct import MmOwner, MmStruct
from mmfs.mm.mman import VM_ACCOUNT, VM_DONTCOPY, VM_INIT_DEF_MASK, VM_LOCKED_MASK, VM_WIPEONFORK
from mmfs.mm.vma import VmAreaStruct, remove_vma, vm_area_dup

if TYPE_CHECKING:
    from random import Random

_COPIED = (
    "start_code", "end_code", "start_data", "end_data", "start_brk", "brk", "start_stack", "arg_start", "arg_end",
    "env_start", "env_end", "saved_auxv", "vdso", "exe_file", "randomize", "topdown", "task_size",
    "mmap_base", "mmap_legacy_base", "mmap_compat_base", "mmap_compat_legacy_base", "stack_guard_gap",
    "coredump_filter",
)  # fmt: skip


def _dup_vma(mm: MmStruct, oldmm: MmStruct, mpnt: VmAreaStruct) -> None:
    """Copy one VMA and what is mapped in it. Linux: the body of dup_mmap()'s loop."""
    if mpnt.vm_flags & VM_ACCOUNT:
        mm.kernel.overcommit.enough_memory(mpnt.pages, oldmm)
    vma = vm_area_dup(mpnt)
    vma.vm_mm = mm
    vma.vm_flags &= ~VM_LOCKED_MASK
    if vma.vm_flags & VM_WIPEONFORK:
        vma.anon_vma = None
    else:
        rmap.anon_vma_fork(vma, mpnt)
    if vma.vm_file is not None:
        vma.vm_file.get()
    if vma.is_hugetlb():
        hugetlb_dup_vma_private(vma)
    if vma.vm_ops is not None and vma.vm_ops.open is not None:
        vma.vm_ops.open(vma)
    mm.vma_link(vma)
    if not vma.vm_flags & VM_WIPEONFORK:
        memory.copy_page_range(mm, vma, mpnt)


def dup_mmap(mm: MmStruct, oldmm: MmStruct) -> None:
    """Copy every mapping that is not VM_DONTCOPY into the empty `mm`. Linux: kernel/fork.c, dup_mmap().

    When it raises, the copy is incomplete and the caller does away with it.
    """
    mm.exe_file = oldmm.exe_file
    for name in ("total_vm", "data_vm", "exec_vm", "stack_vm"):
        setattr(mm, name, getattr(oldmm, name))
    for mpnt in oldmm.mmap:
        if mpnt.vm_flags & VM_DONTCOPY:
            mm.vm_stat_account(mpnt.vm_flags, -mpnt.pages)
        else:
            _dup_vma(mm, oldmm, mpnt)


def dup_mm(oldmm: MmStruct, owner: MmOwner, rng: Random | None = None) -> MmStruct:
    """A copy of an address space for a child. Linux: kernel/fork.c, dup_mm()."""
    kernel = oldmm.kernel
    mm = MmStruct(kernel, owner)
    for name in _COPIED:
        setattr(mm, name, getattr(oldmm, name))
    mm.rng = rng if rng is not None else oldmm.rng
    mm.def_flags = oldmm.def_flags & VM_INIT_DEF_MASK
    rows.mm_init(kernel, mm, oldmm)
    kernel.ksm.fork(mm, oldmm)
    try:
        dup_mmap(mm, oldmm)
    except OSError:
        mmput(mm)
        raise
    mm.hiwater_rss, mm.hiwater_vm = mm.rss, mm.total_vm
    return mm


def exit_mmap(mm: MmStruct) -> None:
    """Unmap everything and free the page tables. Linux: mm/mmap.c, exit_mmap()."""
    vmas = list(mm.mmap)
    mm.update_hiwater_rss()
    mm.update_hiwater_vm()
    for vma in vmas:
        memory.zap_page_range(mm, vma, vma.vm_start, vma.vm_end)
    for vma in reversed(vmas):
        mm.vma_unlink(vma)
    memory.free_pgtables(mm, 0, mm.task_size)
    nr_accounted = 0
    for vma in vmas:
        if vma.vm_flags & VM_ACCOUNT:
            nr_accounted += vma.pages
        remove_vma(vma)
    mm.kernel.overcommit.vm_unacct_memory(nr_accounted)


def mmput(mm: MmStruct) -> None:
    """One user less; the last one takes the address space down. Linux: kernel/fork.c, mmput(), mmdrop()."""
    mm.mm_users -= 1
    if mm.mm_users == 0:
        exit_mmap(mm)
        rows.mm_release(mm)
