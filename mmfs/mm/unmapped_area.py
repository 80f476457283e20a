"""Where a new mapping goes when the caller does not insist: the search for free addresses.

mmap() without MAP_FIXED takes the caller's hint if the range there is free, and else the highest hole below
`mmap_base` that is large enough (or, with the legacy layout, for MAP_32BIT and when nothing is left, the lowest
above the legacy base). A hole below a stack is taken to end where the stack's guard gap begins.

What is mapped has a say in the alignment. Anonymous memory whose length is a multiple of 2 MB, and files of the
disk file systems, are placed so that huge pages fit: a hole of 2 MB more is looked for and the start moved within it
(`thp_get_unmapped_area()`). Shared memory is aligned only if its file system may use huge pages; hugetlbfs needs
its own page size.

Linux: mm/mmap.c, arch/x86/kernel/sys_x86_64.c, mm/huge_memory.c, mm/shmem.c, arch/x86/mm/hugetlbpage.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from errno import EINVAL, ENOMEM, EPERM
from typing import TYPE_CHECKING

from mmfs.mm.mman import (
    CAP_SYS_RAWIO,
    MAP_32BIT,
    MAP_ABOVE4G,
    MAP_FIXED,
    MAP_SHARED,
    VM_SHADOW_STACK,
    VM_STARTGAP_FLAGS,
)
from mmfs.mm.mmap_layout import randomize_page, task_unmapped_base
from mmfs.mm_types import HPAGE_PMD_SIZE, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE
from mmfs.profile import config

if TYPE_CHECKING:
    from mmfs.mm.inode import File
    from mmfs.mm.mm_struct import MmStruct

SZ_4G = 1 << 32
ALIGNED = config("64BIT")
"""Kernels that have addresses enough to align anonymous memory."""


@dataclass(slots=True)
class VmUnmappedAreaInfo:
    """What hole is looked for. Linux: include/linux/mm.h, struct vm_unmapped_area_info."""

    length: int
    low_limit: int
    high_limit: int
    align_mask: int = 0
    align_offset: int = 0
    start_gap: int = 0


def unmapped_area_topdown(mm: MmStruct, info: VmUnmappedAreaInfo) -> int | None:
    """The highest address that fits. Linux: mm/mmap.c, unmapped_area_topdown()."""
    length = info.length + info.align_mask + info.start_gap
    low = max(info.low_limit, mm.kernel.vm.mmap_min_addr)
    high = info.high_limit
    while True:
        hole = mm.mt.empty_area_rev(low, high, length)
        if hole is None:
            return None
        addr = hole[1] - info.length
        addr -= (addr - info.align_offset) & info.align_mask
        above = mm.mt.find(hole[1])
        if above is not None and above.vm_flags & VM_STARTGAP_FLAGS and above.start_gap() < hole[1]:
            high = above.start_gap()
            continue
        return addr


def unmapped_area(mm: MmStruct, info: VmUnmappedAreaInfo) -> int | None:
    """The lowest address that fits. Linux: mm/mmap.c, unmapped_area()."""
    length = info.length + info.align_mask + info.start_gap
    low = max(info.low_limit, mm.kernel.vm.mmap_min_addr)
    while True:
        hole = mm.mt.empty_area(low, info.high_limit, length)
        if hole is None:
            return None
        addr = hole[0] + info.start_gap
        addr += (info.align_offset - addr) & info.align_mask
        above = mm.mt.find(hole[0])
        if above is not None and above.vm_flags & VM_STARTGAP_FLAGS and above.start_gap() < addr + length - 1:
            low = above.vm_end
            continue
        return addr


def _guard_placement(vm_flags: int) -> int:
    return PAGE_SIZE if vm_flags & VM_SHADOW_STACK else 0


def _hint_valid(mm: MmStruct, addr: int, length: int) -> bool:
    """No mapping may straddle the 47-bit window. Linux: arch/x86/mm/mmap.c, mmap_address_hint_valid()."""
    if mm.task_size - length < addr:
        return False
    return (addr > mm.arch.map_window) == (addr + length > mm.arch.map_window)


def _is_free(mm: MmStruct, addr: int, length: int) -> bool:
    vma = mm.find_vma(addr)
    return vma is None or addr + length <= vma.start_gap()


def arch_get_unmapped_area(mm: MmStruct, addr: int, length: int, flags: int) -> int:
    """A free address, from the bottom up. Linux: arch/x86/kernel/sys_x86_64.c, arch_get_unmapped_area()."""
    if flags & MAP_FIXED:
        return addr
    if flags & MAP_32BIT:
        begin, end = 0x4000_0000, 0x8000_0000
        if mm.randomize:
            begin = randomize_page(mm, begin, 0x0200_0000)
    else:
        begin = mm.mmap_legacy_base
        end = mm.task_size if addr > mm.arch.map_window else mm.arch.map_window
    if length > end:
        raise OSError(ENOMEM, "longer than the address space")
    if addr:
        addr = (addr + PAGE_SIZE - 1) & PAGE_MASK
        if end - length >= addr and _is_free(mm, addr, length):
            return addr
    found = unmapped_area(mm, VmUnmappedAreaInfo(length, begin, end))
    if found is None:
        raise OSError(ENOMEM, "no free range of addresses is long enough")
    return found


def arch_get_unmapped_area_topdown(mm: MmStruct, addr: int, length: int, flags: int, vm_flags: int) -> int:
    """A free address, from the top down. Linux: sys_x86_64.c, arch_get_unmapped_area_topdown()."""
    if length > mm.task_size:
        raise OSError(ENOMEM, "longer than the address space")
    if flags & MAP_FIXED:
        return addr
    if not flags & MAP_32BIT:
        hint = addr & PAGE_MASK
        if addr and _hint_valid(mm, hint, length) and _is_free(mm, hint, length):
            return hint
        info = VmUnmappedAreaInfo(length, SZ_4G if flags & MAP_ABOVE4G else PAGE_SIZE, mm.mmap_base)
        info.start_gap = _guard_placement(vm_flags)
        if hint > mm.arch.map_window:
            info.high_limit += mm.task_size - mm.arch.map_window
        found = unmapped_area_topdown(mm, info)
        if found is not None:
            return found
    return arch_get_unmapped_area(mm, addr, length, flags)


def mm_get_unmapped_area(mm: MmStruct, addr: int, length: int, flags: int, vm_flags: int = 0) -> int:
    """A free address, in this process's direction. Linux: mm/mmap.c, mm_get_unmapped_area_vmflags()."""
    if mm.topdown:
        return arch_get_unmapped_area_topdown(mm, addr, length, flags, vm_flags)
    return arch_get_unmapped_area(mm, addr, length, flags)


def thp_get_unmapped_area(mm: MmStruct, addr: int, length: int, pgoff: int, flags: int, vm_flags: int = 0) -> int:
    """A free address where huge pages of the file (or of anonymous memory) fall on 2 MB boundaries.

    Linux: mm/huge_memory.c, thp_get_unmapped_area_vmflags(), __thp_get_unmapped_area().
    """
    offset = pgoff << PAGE_SHIFT
    aligned = -(-offset // HPAGE_PMD_SIZE) * HPAGE_PMD_SIZE
    if offset + length > aligned and offset + length - aligned >= HPAGE_PMD_SIZE:
        try:
            found = mm_get_unmapped_area(mm, addr, length + HPAGE_PMD_SIZE, flags, vm_flags)
        except OSError:
            found = 0
        if found:
            shift = (offset - found) & (HPAGE_PMD_SIZE - 1)
            if found == addr:
                return addr
            return found + (shift or (HPAGE_PMD_SIZE if mm.topdown else 0))
    return mm_get_unmapped_area(mm, addr, length, flags, vm_flags)


def shmem_get_unmapped_area(mm: MmStruct, file: File | None, addr: int, length: int, pgoff: int, flags: int) -> int:
    """A free address for shared memory: aligned if huge pages are possible there.

    Linux: mm/shmem.c, shmem_get_unmapped_area().
    """
    if length > mm.task_size:
        raise OSError(ENOMEM, "longer than the address space")
    found = mm_get_unmapped_area(mm, addr, length, flags)
    size = mm.kernel.shmem_huge.alignment(file)
    if found & ~PAGE_MASK or found > mm.task_size - length or flags & MAP_FIXED or found == addr or length < size:
        return found
    offset = (pgoff << PAGE_SHIFT) & (size - 1) if size else 0
    if not size or (offset and offset + length < 2 * size) or found & (size - 1) == offset:
        return found
    try:
        inflated = mm_get_unmapped_area(mm, addr, length + size - PAGE_SIZE, flags)
    except OSError:
        return found
    aligned = inflated + (offset - inflated & size - 1)
    return found if aligned > mm.task_size - length else aligned


def hugetlb_get_unmapped_area(mm: MmStruct, huge_page_size: int, addr: int, length: int, flags: int) -> int:
    """A free address that is a multiple of the huge page size. Linux: hugetlbpage.c, hugetlb_get_unmapped_area()."""
    mask = huge_page_size - 1
    if length & mask:
        raise OSError(EINVAL, "not a multiple of the huge page size")
    if length > mm.task_size:
        raise OSError(ENOMEM, "longer than the address space")
    if flags & MAP_FIXED:
        if addr & mask:
            raise OSError(EINVAL, "not a multiple of the huge page size")
        return addr
    hint = addr & ~mask
    if addr and _hint_valid(mm, hint, length) and _is_free(mm, hint, length):
        return hint
    beyond = hint > mm.arch.map_window
    info = VmUnmappedAreaInfo(length, PAGE_SIZE, mm.mmap_base, align_mask=mask & PAGE_MASK)
    found: int | None = None
    if mm.topdown:
        info.high_limit += mm.task_size - mm.arch.map_window if beyond else 0
        found = unmapped_area_topdown(mm, info)
        info.low_limit, info.high_limit = task_unmapped_base(mm), mm.arch.map_window
    else:
        info.low_limit = mm.mmap_legacy_base
        info.high_limit = mm.task_size if beyond else mm.arch.map_window
    if found is None:
        found = unmapped_area(mm, info)
    if found is None:
        raise OSError(ENOMEM, "no free range of addresses is long enough")
    return found


def huge_page_size(file: File | None) -> int:
    """The page size of a hugetlbfs file, 0 for any other. Linux: is_file_hugepages(), huge_page_size()."""
    return getattr(file.inode, "huge_page_size", 0) if file is not None else 0


def get_unmapped_area(
    mm: MmStruct, file: File | None, addr: int, length: int, pgoff: int, flags: int, vm_flags: int = 0
) -> int:
    """Choose (or with MAP_FIXED check) the address of a mapping. Linux: mm/mmap.c, __get_unmapped_area().

    Simplified: every file that is neither in shared memory nor in hugetlbfs is on a file system that asks for
    2 MB alignment, as ext4, xfs and btrfs do.
    """
    if length > mm.task_size:
        raise OSError(ENOMEM, "longer than the address space")
    if huge_page_size(file):
        addr = hugetlb_get_unmapped_area(mm, huge_page_size(file), addr, length, flags)
    elif (file is None and flags & MAP_SHARED) or (file is not None and file.inode.shmem):
        addr = shmem_get_unmapped_area(mm, file, addr, length, pgoff, flags)
    elif file is not None or (not addr and length % HPAGE_PMD_SIZE == 0 and ALIGNED(mm)):
        addr = thp_get_unmapped_area(mm, addr, length, pgoff if file else 0, flags, vm_flags)
    else:
        addr = mm_get_unmapped_area(mm, addr, length, flags, vm_flags)
    if addr > mm.task_size - length:
        raise OSError(ENOMEM, "past the end of the address space")
    if addr & ~PAGE_MASK:
        raise OSError(EINVAL, "not a multiple of the page size")
    if addr < mm.kernel.vm.mmap_min_addr and not mm.capable(CAP_SYS_RAWIO):
        raise OSError(EPERM, "below vm.mmap_min_addr")
    return addr
