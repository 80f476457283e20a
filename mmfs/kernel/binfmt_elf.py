"""Loading an ELF program: its segments, its interpreter, the stack with arguments and the auxiliary vector.

What the kernel maps are the program's segments, ld.so's, the vDSO and the stack; the libraries are mapped by ld.so,
in `link_program()`: each goes below the one before it, its relocated pages (data and relro) are written, then the
relro part is made read-only. So the lines of maps come out as on a real system, relocated pages are private
anonymous memory, and all else is page cache shared with every other process that runs the same file.

Linux: fs/binfmt_elf.c; glibc's elf/dl-load.c and elf/dl-reloc.c for what ld.so does.

Simplified: ld.so.cache is not mapped; the pages of a file that a program reads are its first ones.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from mmfs.arch import ARM64_64K, I386_PAE, X86_64
from mmfs.kernel.elf_images import INTERPRETERS, ElfImage, elf_image
from mmfs.mm.access import access_range
from mmfs.mm.brk import vm_brk_flags
from mmfs.mm.mman import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    page_align,
)
from mmfs.mm.mmap import do_mmap, get_unmapped_area
from mmfs.mm.mmap_layout import arch_align_stack, elf_load_bias, randomize_stack_top, set_brk
from mmfs.mm.mprotect import do_mprotect
from mmfs.mm.special_mapping import map_vdso, setup_arg_pages
from mmfs.mm_types import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE
from mmfs.profile import config, since

if TYPE_CHECKING:
    from mmfs.kernel.exec import LinuxBinprm
    from mmfs.mm.inode import File
    from mmfs.mm.mm_struct import MmStruct

(AT_NULL, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY, AT_UID, AT_EUID, AT_GID, AT_EGID,
 AT_PLATFORM, AT_HWCAP, AT_CLKTCK, AT_SECURE, AT_RANDOM, AT_HWCAP2, AT_RSEQ_FEATURE_SIZE, AT_RSEQ_ALIGN, AT_EXECFN,
 AT_SYSINFO_EHDR, AT_MINSIGSTKSZ) = (
    0, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 23, 25, 26, 27, 28, 31, 33, 51)  # fmt: skip

AT_SYSINFO: Final = 32
VSYSCALL_OFFSET: Final = 0x570
"""Where in the vDSO of 32 bits __kernel_vsyscall() is."""
LONG_64: Final = config("64BIT")
RANDOM_BYTES: Final = 16
MIN_SIGNAL_STACK: Final = {X86_64.machine: 3632, I386_PAE.machine: 3632, ARM64_64K.machine: 9984}
"""Linux: AT_MINSIGSTKSZ, which the processor's registers decide."""
ARM64: Final = config("ARM64")

# CPUID leaf 1, register edx: what AT_HWCAP tells.
_HWCAP_FLAGS: Final = (
    "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 "
    "ss ht tm ia64 pbe"
).split()


_HWCAPS_ARM64: Final = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 "
    "sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg dcpodp sve2 sveaes svepmull svebitperm "
    "svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 i8mm bf16 dgh rng bti"
).split()


class ElfSizes(NamedTuple):
    """Bytes of a word, a file's header and a program header, and how an entry of the auxiliary vector is packed."""

    word: int
    ehdr: int
    phdr: int
    auxv: str


ELF_SIZES: Final = {64: ElfSizes(8, 64, 56, "<QQ"), 32: ElfSizes(4, 52, 32, "<II")}
"""By the bits of a word."""


def elf_sizes(mm: MmStruct) -> ElfSizes:
    """Those of an address space."""
    return ELF_SIZES[mm.arch.bits_per_long]


class Layout:
    """Where a program's parts came to lie."""

    __slots__ = ("image", "load_bias", "interp_base", "entry", "phdr")

    def __init__(self, image: ElfImage) -> None:
        self.image = image
        self.load_bias = self.interp_base = self.entry = self.phdr = 0


def elf_map_segments(mm: MmStruct, file: File, image: ElfImage, bias: int) -> None:
    """Map every PT_LOAD segment, and zeroed memory where one is longer in memory than in the file.

    Linux: fs/binfmt_elf.c, elf_load().
    """
    for segment in image.segments:
        start = bias + segment.vaddr & PAGE_MASK
        in_page = segment.vaddr & PAGE_SIZE - 1
        end = start + page_align(segment.filesz + in_page)
        pgoff = segment.offset >> PAGE_SHIFT
        do_mmap(mm, start, end - start, segment.prot, MAP_PRIVATE | MAP_FIXED, file, pgoff)
        last = page_align(bias + segment.vaddr + segment.memsz)
        if last > end:
            vm_brk_flags(mm, end, last - end)


def load_elf_binary(bprm: LinuxBinprm, file: File, interpreter: File | None) -> Layout:
    """Lay a program out in the new, empty address space of `bprm`. Linux: fs/binfmt_elf.c, load_elf_binary()."""
    mm, image = bprm.mm, bprm.image
    layout = Layout(image)
    stack_top = randomize_stack_top(mm)
    strings = _copy_strings(bprm, stack_top)
    setup_arg_pages(mm, stack_top, stack_top - (strings & PAGE_MASK) >> PAGE_SHIFT)
    if image.dyn:
        layout.load_bias = elf_load_bias(mm)
    elf_map_segments(mm, file, image, layout.load_bias)
    _set_code_and_data(mm, image, layout.load_bias)
    last = image.segments[-1]
    set_brk(mm, layout.load_bias + last.vaddr + last.memsz, randomize_brk=mm.kernel.sysctl.randomize_va_space == 2)
    layout.phdr = layout.load_bias + image.load_start + elf_sizes(mm).ehdr
    layout.entry = layout.load_bias + image.entry
    if interpreter is not None:
        layout.interp_base = map_library(mm, interpreter, elf_image(INTERPRETERS[mm.arch.machine], mm.arch.machine))
    vdso = map_vdso(mm)
    create_elf_tables(bprm, layout, vdso, strings)
    return layout


def _set_code_and_data(mm: MmStruct, image: ElfImage, bias: int) -> None:
    """Note the borders that /proc/PID/stat shows. Linux: load_elf_binary(), start_code to end_data."""
    code = [segment for segment in image.segments if segment.prot & PROT_EXEC]
    mm.start_code = bias + min(segment.vaddr for segment in code)
    mm.end_code = bias + max(segment.vaddr + segment.filesz for segment in code)
    mm.start_data = bias + max(segment.vaddr for segment in image.segments)
    mm.end_data = bias + max(segment.vaddr + segment.filesz for segment in image.segments)


RSEQ_TOLD: Final = since(6, 12)
"""Kernels that tell programs of restartable sequences by their auxiliary vector."""

# ---- the stack --------------------------------------------------------------------------------------------------


def _copy_strings(bprm: LinuxBinprm, stack_top: int) -> int:
    """Lay the file name, the environment and the arguments at the top of the stack; returns where they begin.

    Linux: fs/exec.c, copy_string_kernel(), copy_strings().
    """
    mm = bprm.mm
    position = stack_top - elf_sizes(mm).word - len(bprm.filename) - 1
    bprm.exec_addr = position
    mm.env_end = position
    position -= len(bprm.environ)
    mm.env_start = mm.arg_end = position
    position -= len(bprm.cmdline)
    mm.arg_start = position
    return position


def hwcap(flags: tuple[str, ...]) -> int:
    """The processor's features as AT_HWCAP gives them. Linux: ELF_HWCAP, boot_cpu_data.x86_capability[0]."""
    return sum(1 << bit for bit, flag in enumerate(_HWCAP_FLAGS) if flag in flags)


def hwcaps_arm64(flags: tuple[str, ...]) -> tuple[int, int]:
    """AT_HWCAP and AT_HWCAP2 of arm64, a bit a feature. Linux: arch/arm64/include/uapi/asm/hwcap.h."""
    bits = sum(1 << bit for bit, flag in enumerate(_HWCAPS_ARM64) if flag in flags)
    return bits & 0xFFFFFFFF, bits >> 32


def create_elf_tables(bprm: LinuxBinprm, layout: Layout, vdso: int, strings: int) -> None:
    """Put argc, the pointers and the auxiliary vector on the stack. Linux: create_elf_tables()."""
    mm, cred = bprm.mm, bprm.cred
    position = arch_align_stack(mm, strings)
    sizes, name = elf_sizes(mm), mm.arch.machine.encode() + b"\0"
    platform = position - len(name)
    random_bytes = platform - RANDOM_BYTES
    flags = mm.kernel.machine.cpu.flags
    hwcaps = hwcaps_arm64(flags) if ARM64(mm) else (hwcap(flags), 2 if "fsgsbase" in flags else 0)
    auxv = (
        *(() if LONG_64(mm) else ((AT_SYSINFO, vdso + VSYSCALL_OFFSET),)),
        (AT_SYSINFO_EHDR, vdso), (AT_MINSIGSTKSZ, MIN_SIGNAL_STACK[mm.arch.machine]), (AT_HWCAP, hwcaps[0]),
        (AT_PAGESZ, PAGE_SIZE), (AT_CLKTCK, 100), (AT_PHDR, layout.phdr), (AT_PHENT, sizes.phdr),
        (AT_PHNUM, layout.image.phnum),
        (AT_BASE, layout.interp_base), (AT_FLAGS, 0), (AT_ENTRY, layout.entry), (AT_UID, cred.uid),
        (AT_EUID, cred.euid), (AT_GID, cred.gid), (AT_EGID, cred.egid), (AT_SECURE, 0), (AT_RANDOM, random_bytes),
        (AT_HWCAP2, hwcaps[1]), (AT_EXECFN, bprm.exec_addr), (AT_PLATFORM, platform),
        *(((AT_RSEQ_FEATURE_SIZE, 28), (AT_RSEQ_ALIGN, 32)) if RSEQ_TOLD(mm) else ()), (AT_NULL, 0),
    )  # fmt: skip
    mm.saved_auxv = b"".join(struct.pack(sizes.auxv, *entry) for entry in auxv)
    items = 1 + bprm.argc + 1 + bprm.envc + 1 + 2 * (len(auxv) + 1)
    mm.start_stack = (random_bytes & ~0xF) - items * sizes.word & ~0xF
    access_range(mm, mm.start_stack & PAGE_MASK, mm.env_end, True)


# ---- what ld.so does --------------------------------------------------------------------------------------------


def map_library(mm: MmStruct, file: File, image: ElfImage) -> int:
    """Map a shared object where there is room for all of it; returns its load bias."""
    length = page_align(image.total_mapping_size)
    base = get_unmapped_area(mm, file, 0, length, 0, MAP_PRIVATE)
    elf_map_segments(mm, file, image, base)
    return base


def link_object(mm: MmStruct, image: ElfImage, bias: int, used: float) -> None:
    """Relocate a mapped object: write its data, protect its relro part, read the share `used` of the rest."""
    data = image.segments[-1]
    data_start = bias + data.vaddr
    data_end = data_start + data.filesz
    if data.prot & PROT_WRITE:
        access_range(mm, data_start & PAGE_MASK, page_align(data_end), True)
        relro_end = data_start + image.relro & PAGE_MASK
        if relro_end > data_start & PAGE_MASK:
            do_mprotect(mm, data_start & PAGE_MASK, relro_end - (data_start & PAGE_MASK), PROT_READ)
    start = bias + image.load_start
    access_range(mm, start, start + int((data_start - start) * used), False)


def map_tls(mm: MmStruct, nr_bytes: int) -> int:
    """The thread control block and static TLS of the first thread, which ld.so maps after the libraries."""
    addr = do_mmap(mm, 0, nr_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
    access_range(mm, addr, addr + nr_bytes, True)
    return addr
