"""What a kernel knows of its processor's architecture: the width of a long, address spaces, how much memory it reaches.

`i386-pae` is x86 with 32 bits and three-level page tables whose entries have 64 (Debian's 686-pae): programs have the
lower 3 GB of addresses, the kernel the last one, in which it can map some 880 MB of memory at once. What lies above is
high memory: processes and the page cache live there, the kernel's own data cannot.

`arm64-64k` is arm64 as a kernel with pages of 64 KB sees it: page tables of 8192 entries in three levels, of which the
root has 64, for 48 bits of addresses; huge pages of 512 MB, sections of 512 MB.

Linux: arch/x86/include/asm/pgtable_32_types.h, page_32_types.h, processor.h; arch/arm64/include/asm/processor.h,
memory.h, elf.h.

Simplified: what is a long of 32 bits in Linux takes no larger number from a file, but what counts in it does not wrap,
and limits (RLIMIT_*, limit_in_bytes) are kept as with 64 bits. The page cache of block devices may lie in high memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

GB, TB = 1 << 30, 1 << 40


@dataclass(frozen=True)
class Arch:
    """An architecture that a machine can be booted with."""

    name: str
    """How a user asks for it."""
    machine: str
    """What uname(2) says."""
    bits_per_long: int
    max_ram: int
    max_cpus: int
    max_nodes: int
    thread_pages: int
    """Pages of a kernel stack. Linux: THREAD_SIZE."""
    pid_max_limit: int
    """Linux: PID_MAX_LIMIT."""
    bad_apicid: int
    """The number of what has none. Linux: BAD_APICID."""
    page_shift: int = 12
    """How large its pages are. A process simulates kernels of one size (mm_types.py)."""
    page_offset: int = 0
    """Where the kernel's half of all addresses begins, if they have 32 bits. Linux: PAGE_OFFSET."""
    max_low: int = 0
    """How much memory the kernel maps, in bytes; 0: all. Linux: MAXMEM, less what vmalloc and fixed mappings need."""
    vmalloc_end: int = 0
    """The end of the vmalloc area, which begins behind what is mapped. Linux: VMALLOC_END."""
    hugetlb_orders: tuple[int, ...] = (18, 9)
    """Sizes of the huge pages of pools, as orders, in the order in which they register. Linux: hugetlb_add_hstate()."""
    pgtable_levels: int = 0
    """Levels of page tables, if that does not depend on the processor."""
    task_size: int = 0
    """The end of user addresses, if that does not depend on the processor. Linux: TASK_SIZE_MAX."""
    map_window: int = (1 << 47) - 4096
    """The end of the addresses where a program's mappings go. Linux: DEFAULT_MAP_WINDOW, TASK_SIZE."""
    stack_rnd_mask: int = 0x3FFFFF
    """Pages by which a stack is lowered at most."""
    elf_et_dyn_base: int = ((1 << 47) - 4096) // 3 * 2
    """Where a position-independent program goes. Linux: ELF_ET_DYN_BASE."""
    brk_rnd: int = 1 << 30
    """Bytes by which the heap is moved at most. Linux: arch_randomize_brk()."""
    stack_align_rnd: int = 8192
    """Bytes by which a stack pointer is lowered at most. Linux: arch_align_stack()."""
    unmapped_base: int = ((1 << 47) - 4096) // 3
    """Where a search from the bottom begins, but for alignment. Linux: TASK_UNMAPPED_BASE."""
    vvar_pages: int = 4
    vdso_pages: int = 2
    """Pages of the kernel's that every program sees."""
    ptrs_per_pgd: int = 0
    """Entries of the root of page tables, if it is no page. Linux: PTRS_PER_PGD."""
    preallocated_pmds: int = 0
    """Tables below the root that are there from the start. Linux: PREALLOCATED_PMDS."""

    @property
    def page_size(self) -> str:
        """How large its pages are, as MMFS_PAGE_SIZE says it."""
        return f"{1 << self.page_shift - 10}K"

    @property
    def ulong_max(self) -> int:
        """The largest unsigned long."""
        return (1 << self.bits_per_long) - 1

    @property
    def long_max(self) -> int:
        """The largest long."""
        return self.ulong_max >> 1


X86_64 = Arch(
    "x86_64", "x86_64", 64, max_ram=15 * TB, max_cpus=8192, max_nodes=64, thread_pages=4, pid_max_limit=4 << 20,
    bad_apicid=0xFFFF,
)  # fmt: skip
I386_PAE = Arch(
    "i386-pae", "i686", 32, max_ram=64 * GB, max_cpus=32, max_nodes=1, thread_pages=2, pid_max_limit=0x8000,
    bad_apicid=0xFF,
    page_offset=0xC000_0000, max_low=0x36FF_E000, vmalloc_end=0xFEFF_E000, pgtable_levels=3, hugetlb_orders=(9,),
    task_size=0xC000_0000,
    map_window=0xC000_0000, stack_rnd_mask=0x7FF, elf_et_dyn_base=0x40_0000, brk_rnd=32 << 20,
    unmapped_base=0xC000_0000 // 3, ptrs_per_pgd=4, preallocated_pmds=3,
)  # fmt: skip
ARM64_64K = Arch(
    "arm64-64k", "aarch64", 64, max_ram=4 * TB, max_cpus=512, max_nodes=16, thread_pages=1, pid_max_limit=4 << 20,
    bad_apicid=0, page_shift=16, hugetlb_orders=(18, 13, 5), pgtable_levels=3, task_size=1 << 48,
    map_window=1 << 48, stack_rnd_mask=0x3FFF,
    elf_et_dyn_base=(1 << 48) // 3 * 2, stack_align_rnd=1 << 16, unmapped_base=1 << 46, vvar_pages=2, vdso_pages=1,
    ptrs_per_pgd=64,
)  # fmt: skip
ARCHES: Mapping[str, Arch] = MappingProxyType({arch.name: arch for arch in (X86_64, I386_PAE, ARM64_64K)})


def arch_of(name: str) -> Arch:
    """The architecture of that name; ValueError with one line if there is none, or none with this process's pages."""
    from mmfs.mm_types import PAGE_SHIFT

    if name not in ARCHES:
        raise ValueError(f"arch: unknown architecture {name!r} (known: {', '.join(ARCHES)})")
    arch = ARCHES[name]
    if arch.page_shift != PAGE_SHIFT:
        pages = arch.page_size
        raise ValueError(f"arch: {name} has pages of {pages}B: start Python with MMFS_PAGE_SIZE={pages} for it")
    return arch
