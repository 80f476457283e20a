"""mmap(): making mappings.

mmap() checks its arguments, finds an address (mm/unmapped_area.py), and hands over to `mmap_region()`, which
makes room (what is there is cut and unmapped, mm/munmap.py), checks the limits of the address space, promises
memory for a private writable mapping, and then extends a neighbour or adds a VMA.

All addresses are bytes; `pgoff` counts pages. Errors are OSError with the number that the system call returns; its
text says why. What other rooms call of an address space can be imported from here.

Linux: mm/mmap.c.
"""

from __future__ import annotations

from errno import EACCES, EAGAIN, EEXIST, EINVAL, ENODEV, ENOMEM, EOPNOTSUPP, EOVERFLOW, EPERM, ETXTBSY
from typing import TYPE_CHECKING

from mmfs.mm import shmem
from mmfs.mm.brk import do_brk, vm_brk_flags
from mmfs.mm.fork import dup_mm, dup_mmap, exit_mmap, mmput
from mmfs.mm.gup import mm_populate
from mmfs.mm.hugetlbfs import hugetlb_anon_file
from mmfs.mm.mlock import vma_supports_mlock
from mmfs.mm.mman import (
    EXECUTE_ONLY_PKEY,
    FMODE_READ,
    FMODE_WRITE,
    LEGACY_MAP_MASK,
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_SYNC,
    MAP_TYPE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    READ_IMPLIES_EXEC,
    ULONG_MAX,
    VM_ACCOUNT,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_NORESERVE,
    VM_PKEY_SHIFT,
    VM_SHARED,
    VM_SOFTDIRTY,
    VM_SYNC,
    VM_WIPEONFORK,
    VM_WRITE,
    calc_vm_flag_bits,
    calc_vm_prot_bits,
    page_align,
)
from mmfs.mm.mmap_layout import arch_pick_mmap_layout
from mmfs.mm.munmap import VmaMunmapStruct, do_munmap
from mmfs.mm.special_mapping import insert_special_mapping, map_vdso, setup_arg_pages
from mmfs.mm.stack import expand_stack
from mmfs.mm.unmapped_area import get_unmapped_area, huge_page_size
from mmfs.mm.util import OVERCOMMIT_NEVER
from mmfs.mm.vma import VmAreaStruct, vm_area_alloc, vm_area_free
from mmfs.mm.vma_merge import VmaMergeStruct, vma_merge_new_range
from mmfs.mm_types import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from mmfs.mm.inode import File
    from mmfs.mm.mm_struct import MmStruct

__all__ = [
    "arch_pick_mmap_layout", "do_brk", "do_mmap", "do_munmap", "dup_mm", "dup_mmap", "exit_mmap", "expand_stack",
    "get_unmapped_area", "insert_special_mapping", "map_vdso", "mm_populate", "mmap_region", "mmput",
    "setup_arg_pages", "vm_brk_flags",
]  # fmt: skip

MAX_LFS_FILESIZE = (1 << 63) - 1


def _check_file(file: File, prot: int, flags: int, vm_flags: int, pgoff: int, length: int) -> int:
    """The file's part of do_mmap(): what its open mode permits; returns the flags of the VMA."""
    if length > MAX_LFS_FILESIZE or pgoff > (MAX_LFS_FILESIZE - length) >> PAGE_SHIFT:
        raise OSError(EOVERFLOW, "past the largest file size")
    kind = flags & MAP_TYPE
    if kind not in (MAP_SHARED, MAP_SHARED_VALIDATE, MAP_PRIVATE):
        raise OSError(EINVAL, "neither MAP_SHARED nor MAP_PRIVATE")
    if kind != MAP_PRIVATE:
        known = LEGACY_MAP_MASK | MAP_SHARED_VALIDATE | (0 if file.inode.shmem else MAP_SYNC)
        if kind == MAP_SHARED_VALIDATE and flags & ~known:
            raise OSError(EOPNOTSUPP, "a flag that MAP_SHARED_VALIDATE does not know")
        writable = file.f_mode & FMODE_WRITE
        if prot & PROT_WRITE:
            if not writable:
                raise OSError(EACCES, "the file is not open for writing")
            if getattr(file.inode, "swapfile", False):
                raise OSError(ETXTBSY, "the file is in use as swap")
        if getattr(file.inode, "append", False) and writable:
            raise OSError(EACCES, "an append-only file")
        vm_flags |= VM_SHARED | VM_MAYSHARE
        if not writable:
            vm_flags &= ~(VM_MAYWRITE | VM_SHARED)
    if not file.f_mode & FMODE_READ:
        raise OSError(EACCES, "the file is not open for reading")
    if getattr(file, "noexec", False):
        if vm_flags & VM_EXEC:
            raise OSError(EPERM, "the file system is mounted noexec")
        vm_flags &= ~VM_MAYEXEC
    if file.mapping is None:
        raise OSError(ENODEV, "not a file that can be mapped")
    if vm_flags & VM_GROWSDOWN:
        raise OSError(EINVAL, "a stack cannot be backed by a file")
    return vm_flags


def _check_anonymous(flags: int, vm_flags: int) -> int:
    """The part of do_mmap() without a file; returns the flags of the VMA."""
    kind = flags & MAP_TYPE
    if kind == MAP_SHARED:
        if vm_flags & VM_GROWSDOWN:
            raise OSError(EINVAL, "a stack cannot be shared")
        return vm_flags | VM_SHARED | VM_MAYSHARE
    if kind == MAP_DROPPABLE:
        if flags & (MAP_LOCKED | MAP_HUGETLB) or vm_flags & VM_GROWSDOWN:
            raise OSError(EINVAL, "droppable memory can be neither locked nor a stack")
        return vm_flags | VM_DROPPABLE | VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP
    if kind != MAP_PRIVATE:
        raise OSError(EINVAL, "neither MAP_SHARED nor MAP_PRIVATE")
    return vm_flags


def _initial_flags(mm: MmStruct, file: File | None, prot: int, flags: int) -> int:
    """The flags of the VMA before the kind of mapping adds its own."""
    if prot & PROT_READ and mm.personality & READ_IMPLIES_EXEC and not getattr(file, "noexec", False):
        prot |= PROT_EXEC
    vm_flags = calc_vm_prot_bits(prot) | calc_vm_flag_bits(flags) | mm.def_flags
    if prot == PROT_EXEC and mm.has_pkeys:
        vm_flags |= EXECUTE_ONLY_PKEY << VM_PKEY_SHIFT
    return vm_flags | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC


def _round_hint_to_min(mm: MmStruct, hint: int) -> int:
    """A hint below vm.mmap_min_addr is moved up. Linux: mm/mmap.c, round_hint_to_min()."""
    hint &= PAGE_MASK
    lowest = mm.kernel.vm.mmap_min_addr
    return page_align(lowest) if 0 < hint < lowest else hint


def do_mmap(
    mm: MmStruct, addr: int, length: int, prot: int, flags: int, file: File | None = None, pgoff: int = 0
) -> int:
    """Map `file` (or anonymous memory) and return the address. Linux: mm/mmap.c, ksys_mmap_pgoff()."""
    if not flags & MAP_ANONYMOUS:
        if flags & MAP_HUGETLB and not huge_page_size(file):
            raise OSError(EINVAL, "not a file of hugetlbfs")
        return _do_mmap(mm, addr, length, prot, flags, file, pgoff)
    if not flags & MAP_HUGETLB:
        return _do_mmap(mm, addr, length, prot, flags, None, pgoff)
    file = hugetlb_anon_file(mm, length & ULONG_MAX, flags)
    try:
        return _do_mmap(mm, addr, length, prot, flags, file, pgoff)
    finally:
        file.put()


def _do_mmap(mm: MmStruct, addr: int, length: int, prot: int, flags: int, file: File | None, pgoff: int) -> int:
    """Linux: mm/mmap.c, do_mmap()."""
    addr &= ULONG_MAX
    length &= ULONG_MAX
    if huge_page_size(file):
        length = -(-length // huge_page_size(file)) * huge_page_size(file) & ULONG_MAX
    if not length:
        raise OSError(EINVAL, "zero length")
    if flags & MAP_FIXED_NOREPLACE:
        flags |= MAP_FIXED
    if not flags & MAP_FIXED:
        addr = _round_hint_to_min(mm, addr)
    length = page_align(length)
    if not length:
        raise OSError(ENOMEM, "longer than the address space")
    if pgoff + (length >> PAGE_SHIFT) > ULONG_MAX:
        raise OSError(EOVERFLOW, "the file offset overflows")
    if mm.map_count > mm.kernel.vm.max_map_count:
        raise OSError(ENOMEM, "max_map_count reached")
    vm_flags = _initial_flags(mm, file, prot, flags)
    addr = get_unmapped_area(mm, file, addr, length, pgoff, flags, vm_flags)
    if flags & MAP_FIXED_NOREPLACE and mm.find_vma_intersection(addr, addr + length) is not None:
        raise OSError(EEXIST, "something is mapped there")
    if flags & MAP_LOCKED and not mm.can_do_mlock():
        raise OSError(EPERM, "RLIMIT_MEMLOCK is 0")
    if not mm.mlock_future_ok(vm_flags, length):
        raise OSError(EAGAIN, "RLIMIT_MEMLOCK")
    if file is not None:
        vm_flags = _check_file(file, prot, flags, vm_flags, pgoff, length)
    else:
        vm_flags = _check_anonymous(flags, vm_flags)
        pgoff = 0 if vm_flags & VM_SHARED else addr >> PAGE_SHIFT
    strict = mm.kernel.overcommit.sysctl_overcommit_memory == OVERCOMMIT_NEVER
    if flags & MAP_NORESERVE and (not strict or huge_page_size(file)):
        vm_flags |= VM_NORESERVE
    addr = mmap_region(mm, file, addr, length, vm_flags, pgoff)
    if vm_flags & VM_LOCKED or flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE:
        mm_populate(mm, addr, length)
    return addr


def _accountable(file: File | None, vm_flags: int) -> bool:
    """Whether memory is promised for the mapping. Linux: mm/mmap.c, accountable_mapping()."""
    if huge_page_size(file):
        return False
    return vm_flags & (VM_NORESERVE | VM_SHARED | VM_WRITE) == VM_WRITE


def mmap_region(mm: MmStruct, file: File | None, addr: int, length: int, vm_flags: int, pgoff: int) -> int:
    """Map a range whose address and flags are settled, replacing what is there. Linux: mm/mmap.c, mmap_region()."""
    end, pages = addr + length, length >> PAGE_SHIFT
    vms = VmaMunmapStruct.gather(mm, addr, end)
    if not mm.may_expand_vm(vm_flags, pages - vms.nr_pages):
        raise OSError(ENOMEM, "RLIMIT_AS or RLIMIT_DATA")
    if _accountable(file, vm_flags):
        if pages != vms.nr_accounted:
            mm.kernel.overcommit.enough_memory(pages - vms.nr_accounted, mm)
        vms.nr_accounted = 0
        vm_flags |= VM_ACCOUNT
    vms.unmap()
    vmg = VmaMergeStruct(mm, addr, end, vm_flags, pgoff, file)
    vmg.prev, vmg.next = mm.find_vma_prev(addr), mm.find_vma(end)
    vma = vma_merge_new_range(vmg)
    if vma is None:
        try:
            vma = _new_mapping(mm, file, addr, end, vm_flags, pgoff)
        except OSError:
            vms.nr_accounted += pages if vm_flags & VM_ACCOUNT else 0
            vms.complete()
            raise
        vm_flags = vma.vm_flags
        if mm.ksm.merge_any:
            mm.kernel.ksm.add_vma(vma)
    vms.complete()
    mm.vm_stat_account(vm_flags, pages)
    vm_flags = vma.vm_flags | VM_SOFTDIRTY
    if vm_flags & VM_LOCKED:
        if vma_supports_mlock(vma):
            mm.locked_vm += pages
        else:
            vm_flags &= ~VM_LOCKED_MASK
    vma.flags_reset(vm_flags)
    return addr


def _new_mapping(mm: MmStruct, file: File | None, addr: int, end: int, vm_flags: int, pgoff: int) -> VmAreaStruct:
    vma = vm_area_alloc(mm, addr, end, vm_flags, pgoff)
    try:
        if file is not None:
            vma.vm_file = file
            file.get()
            if vm_flags & VM_SYNC and not file.inode.shmem:
                raise OSError(EOPNOTSUPP, "MAP_SYNC needs persistent memory")
            file.mmap(vma)
        elif vm_flags & VM_SHARED:
            vma.vm_file = shmem.shmem_zero_setup(mm, end - addr, vm_flags)
    except OSError:
        if file is not None:
            file.put()
        vm_area_free(vma)
        raise
    mm.vma_link(vma)
    return vma
