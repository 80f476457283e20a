"""Page tables read aloud: from the root to the frame, each entry decoded.

Linux: arch/x86/mm/fault.c, dump_pagetable(); the levels' names are Linux's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.mm_types import (
    PAGE_SHIFT,
    PTE_ACCESSED,
    PTE_CONT,
    PTE_DIRTY,
    PTE_GLOBAL,
    PTE_NX,
    PTE_PCD,
    PTE_PFN_MASK,
    PTE_PRESENT,
    PTE_PSE,
    PTE_PWT,
    PTE_RW,
    PTE_SOFT_DIRTY,
    PTE_SPECIAL,
    PTE_UFFD_WP,
    PTE_USER,
    PTRS_PER_TABLE,
    TABLE_SHIFT,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmfs.kernel.kernel import Kernel

LEVEL_NAMES = {5: "PGD", 4: "P4D", 3: "PUD", 2: "PMD", 1: "PTE"}
FLAG_NAMES = (
    (PTE_PRESENT, "present"),
    (PTE_RW, "rw"),
    (PTE_USER, "user"),
    (PTE_PWT, "pwt"),
    (PTE_PCD, "pcd"),
    (PTE_ACCESSED, "accessed"),
    (PTE_DIRTY, "dirty"),
    (PTE_PSE, "huge"),
    (PTE_GLOBAL, "global"),
    (PTE_SPECIAL, "special"),
    (PTE_UFFD_WP, "uffd-wp"),
    (PTE_SOFT_DIRTY, "soft-dirty"),
    (PTE_CONT, "cont"),
    (PTE_NX, "nx"),
)


def level_name(level: int, levels: int) -> str:
    """PGD for the root, whichever level it is; below it the name of the level."""
    return "PGD" if level == levels else LEVEL_NAMES[level]


def decode(entry: int) -> str:
    """The set bits of an entry by name."""
    return " ".join(name for bit, name in FLAG_NAMES if entry & bit) or "none"


def walk(kernel: Kernel, row: int, addr: int) -> Iterator[tuple[int, int, int, int]]:
    """(level, table frame, index, entry) from the root down to the page or the first empty entry."""
    mmu = kernel.mmu
    first, levels = int(mmu.mms[row]["pgd"]), mmu.walker.levels
    for level in range(levels, 0, -1):
        index = addr >> (PAGE_SHIFT + TABLE_SHIFT * (level - 1)) & PTRS_PER_TABLE - 1
        entry = int(kernel.frames.entries[first + index])
        yield level, first // PTRS_PER_TABLE, index, entry
        if not entry & PTE_PRESENT or (level > 1 and entry & PTE_PSE):
            return
        first = (entry & PTE_PFN_MASK) >> PAGE_SHIFT << TABLE_SHIFT


def translate(kernel: Kernel, pid: int, addr: int) -> str:
    """Walk a process's tables for an address, one line a level, and say where it ends.

    Raises ProcessLookupError for a pid that is not there, ValueError for a kernel thread or a non-canonical
    address.
    """
    task = kernel.tasks.get(pid)
    if task is None:
        raise ProcessLookupError(f"no process {pid}")
    mm = task.mm
    if mm is None:
        raise ValueError(f"process {pid} ({task.comm}) has no address space")
    levels = kernel.mmu.walker.levels
    if not 0 <= addr < (kernel.profile.arch.page_offset or 1 << (PAGE_SHIFT + TABLE_SHIFT * levels - 1)):
        raise ValueError(f"{addr:#x} is not an address of user space")
    lines = [f"{addr:#x} in {task.comm} ({pid})"]
    vma = mm.vma_lookup(addr)
    if vma is None:
        lines.append("no mapping holds this address")
    else:
        lines.append(f"mapping {vma.vm_start:#x}-{vma.vm_end:#x} {vma.name}".rstrip())
    for level, table, index, entry in walk(kernel, mm.row, addr):
        name = level_name(level, levels)
        where = f"{name} table {table:#x}[{index}]"
        if not entry & PTE_PRESENT:
            what = "empty" if entry == 0 else f"not present: {entry:#018x}"
            lines.append(f"{where:32} {what}")
            lines.append(f"not mapped: the {name} entry is {what.split(':')[0]}")
            return "\n".join(lines) + "\n"
        lines.append(f"{where:32} {entry:#018x}  {decode(entry)}")
    physical = entry & PTE_PFN_MASK | addr & (1 << PAGE_SHIFT + TABLE_SHIFT * (level - 1)) - 1
    pfn = physical >> PAGE_SHIFT
    zone = kernel.page_alloc.page_zone(pfn)
    lines.append(f"frame {pfn:#x}, physical address {physical:#x}, node {zone.zone_pgdat.node_id} zone {zone.name}")
    return "\n".join(lines) + "\n"
