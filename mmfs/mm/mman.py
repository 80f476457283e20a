"""The words of the memory-mapping system calls: protections, mapping flags, VMA flags, advice, limits.

What user space passes (PROT_*, MAP_*, MADV_*, MREMAP_*, MCL_*, RLIMIT_*) and what the kernel keeps in
``vma->vm_flags`` (VM_*) are two sets of bits; `calc_vm_prot_bits()` and `calc_vm_flag_bits()` translate the
first into the second. The VM_* values are Linux's own because /proc/PID/smaps names them in bit order.

Linux: include/uapi/linux/mman.h, include/uapi/asm-generic/mman*.h, arch/x86/include/uapi/asm/mman.h,
include/linux/mm.h, include/linux/mman.h, include/uapi/asm-generic/resource.h.
"""

from __future__ import annotations

from typing import Final

from mmfs.mm_types import PAGE_MASK, PAGE_SIZE

ULONG_MAX: Final = (1 << 64) - 1

# ---- what user space passes -------------------------------------------------------------------------------------
PROT_NONE: Final = 0x0
PROT_READ: Final = 0x1
PROT_WRITE: Final = 0x2
PROT_EXEC: Final = 0x4
PROT_SEM: Final = 0x8
PROT_GROWSDOWN: Final = 0x0100_0000
PROT_GROWSUP: Final = 0x0200_0000

MAP_SHARED: Final = 0x01
MAP_PRIVATE: Final = 0x02
MAP_SHARED_VALIDATE: Final = 0x03
MAP_DROPPABLE: Final = 0x08
MAP_TYPE: Final = 0x0F
MAP_FIXED: Final = 0x10
MAP_ANONYMOUS: Final = 0x20
MAP_32BIT: Final = 0x40
MAP_ABOVE4G: Final = 0x80
MAP_GROWSDOWN: Final = 0x0100
MAP_DENYWRITE: Final = 0x0800
MAP_EXECUTABLE: Final = 0x1000
MAP_LOCKED: Final = 0x2000
MAP_NORESERVE: Final = 0x4000
MAP_POPULATE: Final = 0x8000
MAP_NONBLOCK: Final = 0x1_0000
MAP_STACK: Final = 0x2_0000
MAP_HUGETLB: Final = 0x4_0000
MAP_SYNC: Final = 0x8_0000
MAP_FIXED_NOREPLACE: Final = 0x10_0000
MAP_HUGE_SHIFT: Final = 26
MAP_HUGE_MASK: Final = 0x3F
MAP_HUGE_2MB: Final = 21 << MAP_HUGE_SHIFT
MAP_HUGE_1GB: Final = 30 << MAP_HUGE_SHIFT
LEGACY_MAP_MASK: Final = (
    MAP_SHARED | MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_DENYWRITE | MAP_EXECUTABLE | MAP_GROWSDOWN | MAP_LOCKED
    | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_STACK | MAP_HUGETLB | MAP_32BIT | MAP_ABOVE4G | MAP_HUGE_2MB
    | MAP_HUGE_1GB
)  # fmt: skip
"""The flags that plain MAP_SHARED understands; it ignores all others."""

MREMAP_MAYMOVE: Final = 1
MREMAP_FIXED: Final = 2
MREMAP_DONTUNMAP: Final = 4

MCL_CURRENT: Final = 1
MCL_FUTURE: Final = 2
MCL_ONFAULT: Final = 4
MLOCK_ONFAULT: Final = 1

MADV_NORMAL: Final = 0
MADV_RANDOM: Final = 1
MADV_SEQUENTIAL: Final = 2
MADV_WILLNEED: Final = 3
MADV_DONTNEED: Final = 4
MADV_FREE: Final = 8
MADV_REMOVE: Final = 9
MADV_DONTFORK: Final = 10
MADV_DOFORK: Final = 11
MADV_MERGEABLE: Final = 12
MADV_UNMERGEABLE: Final = 13
MADV_HUGEPAGE: Final = 14
MADV_NOHUGEPAGE: Final = 15
MADV_DONTDUMP: Final = 16
MADV_DODUMP: Final = 17
MADV_WIPEONFORK: Final = 18
MADV_KEEPONFORK: Final = 19
MADV_COLD: Final = 20
MADV_PAGEOUT: Final = 21
MADV_POPULATE_READ: Final = 22
MADV_POPULATE_WRITE: Final = 23
MADV_DONTNEED_LOCKED: Final = 24
MADV_COLLAPSE: Final = 25
MADV_HWPOISON: Final = 100
MADV_SOFT_OFFLINE: Final = 101

PR_SET_VMA: Final = 0x53564D41
PR_SET_VMA_ANON_NAME: Final = 0
ANON_VMA_NAME_MAX_LEN: Final = 80

RLIMIT_DATA: Final = 2
RLIMIT_STACK: Final = 3
RLIMIT_MEMLOCK: Final = 8
RLIMIT_AS: Final = 9
RLIM_INFINITY: Final = ULONG_MAX

READ_IMPLIES_EXEC: Final = 0x0040_0000
ADDR_NO_RANDOMIZE: Final = 0x0004_0000
ADDR_COMPAT_LAYOUT: Final = 0x0020_0000

CAP_FOWNER: Final = 3
CAP_IPC_LOCK: Final = 14
CAP_IPC_OWNER: Final = 15
CAP_SYS_RAWIO: Final = 17
CAP_SYS_ADMIN: Final = 21

FMODE_READ: Final = 0x1
FMODE_WRITE: Final = 0x2

# ---- vma->vm_flags ----------------------------------------------------------------------------------------------
VM_NONE: Final = 0
VM_READ: Final = 0x0000_0001
VM_WRITE: Final = 0x0000_0002
VM_EXEC: Final = 0x0000_0004
VM_SHARED: Final = 0x0000_0008
VM_MAYREAD: Final = 0x0000_0010
VM_MAYWRITE: Final = 0x0000_0020
VM_MAYEXEC: Final = 0x0000_0040
VM_MAYSHARE: Final = 0x0000_0080
VM_GROWSDOWN: Final = 0x0000_0100
VM_UFFD_MISSING: Final = 0x0000_0200
VM_PFNMAP: Final = 0x0000_0400
VM_UFFD_WP: Final = 0x0000_1000
VM_LOCKED: Final = 0x0000_2000
VM_IO: Final = 0x0000_4000
VM_SEQ_READ: Final = 0x0000_8000
VM_RAND_READ: Final = 0x0001_0000
VM_DONTCOPY: Final = 0x0002_0000
VM_DONTEXPAND: Final = 0x0004_0000
VM_LOCKONFAULT: Final = 0x0008_0000
VM_ACCOUNT: Final = 0x0010_0000
VM_NORESERVE: Final = 0x0020_0000
VM_HUGETLB: Final = 0x0040_0000
VM_SYNC: Final = 0x0080_0000
VM_PAT: Final = 0x0100_0000
VM_WIPEONFORK: Final = 0x0200_0000
VM_DONTDUMP: Final = 0x0400_0000
VM_SOFTDIRTY: Final = 0x0800_0000
VM_MIXEDMAP: Final = 0x1000_0000
VM_HUGEPAGE: Final = 0x2000_0000
VM_NOHUGEPAGE: Final = 0x4000_0000
VM_MERGEABLE: Final = 0x8000_0000
VM_PKEY_SHIFT: Final = 32
VM_PKEY_MASK: Final = 0xF << VM_PKEY_SHIFT
EXECUTE_ONLY_PKEY: Final = 1
"""The first free protection key; the kernel takes it for memory that may only be executed."""
VM_SHADOW_STACK: Final = 1 << 37
VM_UFFD_MINOR: Final = 1 << 38
VM_DROPPABLE: Final = 1 << 40
VM_SEALED: Final = 1 << 63

VM_STACK: Final = VM_GROWSDOWN
VM_STARTGAP_FLAGS: Final = VM_GROWSDOWN | VM_SHADOW_STACK
VM_ACCESS_FLAGS: Final = VM_READ | VM_WRITE | VM_EXEC
VM_LOCKED_MASK: Final = VM_LOCKED | VM_LOCKONFAULT
VM_SPECIAL: Final = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP
VM_DATA_DEFAULT_FLAGS: Final = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
VM_STACK_FLAGS: Final = VM_STACK | VM_DATA_DEFAULT_FLAGS | VM_ACCOUNT
VM_INIT_DEF_MASK: Final = VM_NOHUGEPAGE


def calc_vm_prot_bits(prot: int) -> int:
    """The VM_READ, VM_WRITE and VM_EXEC that PROT_* ask for. Linux: include/linux/mman.h, calc_vm_prot_bits()."""
    return prot & (PROT_READ | PROT_WRITE | PROT_EXEC)


def calc_vm_flag_bits(flags: int) -> int:
    """The VM_* that MAP_* ask for. Linux: include/linux/mman.h, calc_vm_flag_bits()."""
    vm_flags = VM_NONE
    if flags & MAP_GROWSDOWN:
        vm_flags |= VM_GROWSDOWN
    if flags & MAP_LOCKED:
        vm_flags |= VM_LOCKED
    if flags & MAP_SYNC:
        vm_flags |= VM_SYNC
    if flags & MAP_STACK:
        vm_flags |= VM_NOHUGEPAGE
    return vm_flags


def page_align(nr_bytes: int) -> int:
    """Up to the next page boundary, wrapping to 0 past the top as C does. Linux: PAGE_ALIGN()."""
    return (nr_bytes + PAGE_SIZE - 1) & PAGE_MASK & ULONG_MAX


def is_exec_mapping(vm_flags: int) -> bool:
    """Code: executable, not writable, not stack (VmExe). Linux: mm/vma.h, is_exec_mapping()."""
    return vm_flags & (VM_EXEC | VM_WRITE | VM_STACK) == VM_EXEC


def is_stack_mapping(vm_flags: int) -> bool:
    """A stack (VmStk). Linux: mm/vma.h, is_stack_mapping()."""
    return bool(vm_flags & (VM_STACK | VM_SHADOW_STACK))


def is_data_mapping(vm_flags: int) -> bool:
    """Private, writable, not stack (VmData). Linux: mm/vma.h, is_data_mapping()."""
    return vm_flags & (VM_WRITE | VM_SHARED | VM_STACK) == VM_WRITE
