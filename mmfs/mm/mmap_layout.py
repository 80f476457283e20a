"""Where things go in an address space: program, heap, mmap area, vDSO and stack, and how they are shuffled.

From the bottom: a program linked to fixed addresses lies at 0x400000, a position-independent one at two thirds of
the address space (0x555555554000) plus a random number of pages; the heap follows it at a random distance. The
stack hangs from the top, lowered by a random number of pages; below it, after a gap for the stack to grow into,
lies `mmap_base`, from which mmap() goes down. A CPU with five-level paging has 56 bits of user addresses, but
nothing is placed above the 47-bit window unless the caller's hint asks for it. With 32 bits the window is 3 GB,
programs lie at 0x8048000 or above 0x400000, and there is less room to shuffle; arm64 has a window of 48 bits (arch.py
has the numbers).

All randomness comes from the process's own generator in the order in which execve() draws it, so that a seed
gives the same addresses every time. Of a draw, Linux takes the low bits: mmap_rnd_bits (28) for the mmap area and
for programs, 22 for the stack, a page within 1 GB for the heap.

Linux: arch/x86/mm/mmap.c, mm/util.c (randomize_stack_top, randomize_page), arch/x86/kernel/process.c,
fs/binfmt_elf.c, arch/x86/include/asm/elf.h.

Simplified: with 64 bits, 64-bit programs only; what a 32-bit system call would use is drawn (to keep the order) and
unused.
"""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING

from mmfs.mm.mman import ADDR_COMPAT_LAYOUT, RLIM_INFINITY, ULONG_MAX, page_align
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE
from mmfs.profile import config

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mm_struct import MmStruct

IA32_PAGE_OFFSET = 0xFFFFE000
SIZE_128M = 128 << 20

COMPAT = config("IA32_EMULATION")
"""Kernels of 64 bits that run programs of 32."""
ANY_STACK = config("ARM64")
"""Kernels that leave the room below a stack without limit to it. Linux: mm/util.c, mmap_is_legacy()."""


def task_size_max(kernel: Kernel) -> int:
    """The end of user addresses: 47 bits, or 56 with five-level paging, or 3 GB. Linux: TASK_SIZE_MAX."""
    return kernel.profile.arch.task_size or (1 << (56 if kernel.machine.cpu.la57 else 47)) - PAGE_SIZE


def stack_guard_gap(kernel: Kernel) -> int:
    """Bytes that stay free below a stack: 256 pages, or stack_guard_gap= on the command line.

    Linux: mm/mmap.c, cmdline_parse_stack_guard_gap().
    """
    match = re.search(r"(?:^|\s)stack_guard_gap=(\d+)(?:\s|$)", kernel.cmdline)
    return (int(match[1]) if match else 256) << PAGE_SHIFT


def ignore_rlimit_data(kernel: Kernel) -> bool:
    """Whether RLIMIT_DATA only warns. Linux: mm/mmap.c, ignore_rlimit_data."""
    return bool(re.search(r"(?:^|\s)ignore_rlimit_data(?:=[1yYoO]\w*)?(?:\s|$)", kernel.cmdline))


def _random_long(mm: MmStruct) -> int:
    assert mm.rng is not None, "arch_pick_mmap_layout() gives an address space its random numbers"
    return mm.rng.getrandbits(64)


def _arch_rnd(mm: MmStruct, bits: int) -> int:
    return (_random_long(mm) & (1 << bits) - 1) << PAGE_SHIFT if mm.randomize else 0


def arch_mmap_rnd(mm: MmStruct) -> int:
    """How far a position-independent program is moved. Linux: arch/x86/mm/mmap.c, arch_mmap_rnd()."""
    return _arch_rnd(mm, mm.kernel.vm.mmap_rnd_bits)


def _mmap_base(mm: MmStruct, rnd: int, task_size: int, rlim_stack: int, rnd_mask: int) -> int:
    pad = (rnd_mask << PAGE_SHIFT if mm.randomize else 0) + mm.stack_guard_gap
    gap = rlim_stack + pad if rlim_stack + pad <= ULONG_MAX else rlim_stack
    gap = min(max(gap, SIZE_128M), task_size // 6 * 5)
    return page_align(task_size - gap - rnd)


def task_unmapped_base(mm: MmStruct) -> int:
    """Where a bottom-up search starts: a third of the address space, a quarter on arm64. Linux: TASK_UNMAPPED_BASE."""
    return page_align(mm.arch.unmapped_base)


def arch_pick_mmap_layout(mm: MmStruct, rng: Random, rlim_stack: int) -> None:
    """Choose where mmap() starts, and remember where this process's random numbers come from.

    `mm.randomize` (PF_RANDOMIZE) must be set before.

    Linux: arch/x86/mm/mmap.c, arch_pick_mmap_layout().
    """
    mm.rng = rng
    legacy = bool(mm.personality & ADDR_COMPAT_LAYOUT or mm.kernel.vm.legacy_va_layout)
    legacy = legacy or (ANY_STACK(mm) and rlim_stack == RLIM_INFINITY)
    mm.topdown = not legacy
    rnd = _arch_rnd(mm, mm.kernel.vm.mmap_rnd_bits)
    mm.mmap_legacy_base = task_unmapped_base(mm) + rnd
    base = _mmap_base(mm, rnd, mm.arch.map_window, rlim_stack, mm.arch.stack_rnd_mask)
    mm.mmap_base = mm.mmap_legacy_base if legacy else base
    if not COMPAT(mm):
        return
    rnd = _arch_rnd(mm, mm.kernel.vm.mmap_rnd_compat_bits)
    mm.mmap_compat_legacy_base = page_align(IA32_PAGE_OFFSET // 3) + rnd
    base = _mmap_base(mm, rnd, IA32_PAGE_OFFSET, rlim_stack, 0x7FF)
    mm.mmap_compat_base = mm.mmap_compat_legacy_base if legacy else base


def randomize_stack_top(mm: MmStruct) -> int:
    """The end of the stack, up to 16 GB (or 8 MB) below the window's end. Linux: mm/util.c, randomize_stack_top()."""
    rnd = (_random_long(mm) & mm.arch.stack_rnd_mask) << PAGE_SHIFT if mm.randomize else 0
    return page_align(mm.arch.map_window) - rnd


def arch_align_stack(mm: MmStruct, sp: int) -> int:
    """A stack pointer lowered by up to 8 kB (or a page) and aligned. Linux: arch_align_stack()."""
    if mm.randomize:
        sp -= _random_long(mm) % mm.arch.stack_align_rnd
    return sp & ~0xF


def randomize_page(mm: MmStruct, start: int, size: int) -> int:
    """A random page in [start, start + size). Linux: mm/util.c, randomize_page()."""
    aligned = page_align(start)
    size = (size - (aligned - start)) >> PAGE_SHIFT
    return aligned + (_random_long(mm) % size << PAGE_SHIFT) if size > 0 else aligned


def elf_load_bias(mm: MmStruct, alignment: int = PAGE_SIZE) -> int:
    """Where a position-independent program with an interpreter is loaded. Linux: fs/binfmt_elf.c, "PIE handling"."""
    return mm.arch.elf_et_dyn_base + arch_mmap_rnd(mm) & ~(alignment - 1)


def set_brk(mm: MmStruct, elf_brk: int, static_pie: bool = False, randomize_brk: bool = True) -> None:
    """Place the heap: after the program's bss, or where position-independent ones go for a static PIE, then further up.

    `randomize_brk` is whether kernel.randomize_va_space is 2.

    Linux: fs/binfmt_elf.c, load_elf_binary(), "brk handling"; arch_randomize_brk().
    """
    mm.start_brk = mm.brk = page_align(mm.arch.elf_et_dyn_base if static_pie else elf_brk)
    if mm.randomize and randomize_brk:
        if not static_pie:
            mm.brk += PAGE_SIZE
        mm.start_brk = mm.brk = randomize_page(mm, mm.brk, mm.arch.brk_rnd)
