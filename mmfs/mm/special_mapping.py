"""Mappings that the kernel makes for a new program: the vDSO with its data page, and the stack.

Linux: mm/mmap.c, _install_special_mapping(); arch/x86/entry/vdso/vma.c; fs/exec.c, setup_arg_pages().
"""

from __future__ import annotations

from errno import EFAULT, EINVAL, ENOMEM
from typing import TYPE_CHECKING

from mmfs.mm.mman import (
    RLIMIT_STACK,
    VM_ACCOUNT,
    VM_DONTDUMP,
    VM_DONTEXPAND,
    VM_EXEC,
    VM_IO,
    VM_LOCKED_MASK,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYWRITE,
    VM_PFNMAP,
    VM_READ,
    VM_SOFTDIRTY,
    VM_STACK_FLAGS,
)
from mmfs.mm.stack import expand_downwards
from mmfs.mm.unmapped_area import get_unmapped_area
from mmfs.mm.vma import VmAreaStruct, VmOperations, vm_area_alloc, vm_area_free
from mmfs.mm_types import HPAGE_PMD_SIZE, PAGE_MASK, PAGE_SHIFT
from mmfs.profile import config, until

if TYPE_CHECKING:
    from mmfs.mm.mm_struct import MmStruct

STACK_EXPAND = 128 << 10
VDSO_ABOVE_STACK = until(6, 12) & config("64BIT")
"""Kernels that map the vDSO beside the stack and not among the libraries."""
DEVICE_PAGES = ~config("ARM64")
"""Kernels whose data pages may be a clock's of the hypervisor."""


def _special_mapping_close(vma: VmAreaStruct) -> None:
    """Nothing to give back; that there is such a hook keeps the VMA from being merged."""


def _special_mapping_split(vma: VmAreaStruct, addr: int) -> None:
    """The kernel relies on the whole mapping. Linux: mm/mmap.c, special_mapping_split()."""
    raise OSError(EINVAL, "a special mapping cannot be cut")


def special_mapping_vmops(name: str) -> VmOperations:
    """The operations of a kernel-made mapping. Linux: mm/mmap.c, special_mapping_vmops."""
    return VmOperations(name=name, close=_special_mapping_close, may_split=_special_mapping_split)


vvar_mapping = special_mapping_vmops("[vvar]")
vdso_mapping = special_mapping_vmops("[vdso]")


def _insert_vm_struct(mm: MmStruct, vma: VmAreaStruct) -> None:
    """Add a ready-made VMA where nothing is mapped. Linux: mm/mmap.c, insert_vm_struct()."""
    try:
        if mm.find_vma_intersection(vma.vm_start, vma.vm_end) is not None:
            raise OSError(ENOMEM, "something is mapped there")
        if vma.vm_flags & VM_ACCOUNT:
            mm.kernel.overcommit.enough_memory(vma.pages, mm)
    except OSError:
        vm_area_free(vma)
        raise
    if vma.is_anonymous():
        vma.vm_pgoff = vma.vm_start >> PAGE_SHIFT
    mm.vma_link(vma)


def insert_special_mapping(mm: MmStruct, addr: int, length: int, vm_flags: int, ops: VmOperations) -> VmAreaStruct:
    """Map pages of the kernel's own. Linux: mm/mmap.c, _install_special_mapping()."""
    flags = (vm_flags | mm.def_flags | VM_DONTEXPAND | VM_SOFTDIRTY) & ~VM_LOCKED_MASK
    vma = vm_area_alloc(mm, addr, addr + length, flags, 0)
    vma.vm_ops = ops
    _insert_vm_struct(mm, vma)
    mm.vm_stat_account(flags, vma.pages)
    return vma


def vdso_addr(mm: MmStruct, length: int) -> int:
    """A random page above the stack, in reach of the same page table. Linux 6.1: arch/x86/entry/vdso/vma.c."""
    assert mm.rng is not None
    start = mm.mmap[-1].vm_end
    end = min(-(-start // HPAGE_PMD_SIZE) * HPAGE_PMD_SIZE, mm.arch.map_window) - length
    pages = max(end - start >> PAGE_SHIFT, 0)
    return start + (mm.rng.randrange(pages + 1) << PAGE_SHIFT)


def map_vdso(mm: MmStruct) -> int:
    """Map the vvar pages and the vDSO above them; returns the vDSO's address. Linux: map_vdso()."""
    vvar_bytes, vdso_bytes = mm.arch.vvar_pages << PAGE_SHIFT, mm.arch.vdso_pages << PAGE_SHIFT
    length = vvar_bytes + vdso_bytes
    addr = get_unmapped_area(mm, None, vdso_addr(mm, length) if VDSO_ABOVE_STACK(mm) else 0, length, 0, 0)
    text = addr + vvar_bytes
    text_flags = VM_READ | VM_EXEC | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    vvar_flags = VM_READ | VM_MAYREAD | VM_PFNMAP | (VM_IO | VM_DONTDUMP if DEVICE_PAGES(mm) else 0)
    insert_special_mapping(mm, text, vdso_bytes, text_flags, vdso_mapping)
    insert_special_mapping(mm, addr, vvar_bytes, vvar_flags, vvar_mapping)
    mm.vdso = text
    return text


def setup_arg_pages(
    mm: MmStruct, stack_top: int, arg_pages: int = 1, executable_stack: bool = False, rlim_stack: int | None = None
) -> VmAreaStruct:
    """Make the stack below `stack_top` (page-aligned): the pages of arguments and environment, and 128 kB more.

    Linux: fs/exec.c, bprm_mm_init(), setup_arg_pages().

    Simplified: the stack is made where it stays; Linux fills a temporary one at the top of the address space and
    moves it down.
    """
    size = max(arg_pages, 1) << PAGE_SHIFT
    if size >= stack_top - mm.kernel.vm.mmap_min_addr:
        raise OSError(ENOMEM, "no room for the arguments")
    flags = VM_STACK_FLAGS | mm.def_flags | (VM_EXEC if executable_stack else 0)
    vma = vm_area_alloc(mm, stack_top - size, stack_top, flags, 0)
    _insert_vm_struct(mm, vma)
    mm.vm_stat_account(flags, vma.pages)
    limit = mm.rlimit(RLIMIT_STACK) if rlim_stack is None else rlim_stack
    try:
        expand_downwards(vma, stack_top - min(limit & PAGE_MASK, size + STACK_EXPAND))
    except OSError as error:
        raise OSError(EFAULT, f"the stack cannot be made: {error.strerror}") from error
    return vma
