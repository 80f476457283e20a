"""Splitting huge pages because somebody asks for it: all, those of a process, those of a file.

Linux: mm/huge_memory.c, split_huge_pages_all(), split_huge_pages_pid(), split_huge_pages_in_file().

Simplified: they become pages of 4 KB if an order between 0 and theirs is asked for.
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

import numpy as np

from mmfs.mm.pgtable import walk
from mmfs.mm_types import (
    HPAGE_PMD_ORDER,
    HPAGE_PMD_SIZE,
    PAGE_SHIFT,
    PAGE_SIZE,
    PAGEBLOCK_ORDER,
    PG_ANON,
    PG_HEAD,
    PG_LRU,
    PTE_PFN_MASK,
    PTE_PRESENT,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mm_struct import MmStruct


def is_order(order: int) -> bool:
    """Whether a huge page can become pages of this order. Linux: split_folio_to_order()."""
    return order == 0 or 1 < order < HPAGE_PMD_ORDER


def _split(kernel: Kernel, blocks: set[int]) -> None:
    """Those of the pageblocks that are huge pages, and on a list, are so no longer."""
    for block in sorted(blocks):
        folio = kernel.frames.huge + block
        if int(kernel.frames.pages[folio]["flags"]) & (PG_HEAD | PG_LRU) == PG_HEAD | PG_LRU:
            kernel.mmu.huge_split.split_huge_page(folio)


def split_huge_pages_all(kernel: Kernel) -> None:
    """All of the machine's. Linux: split_huge_pages_all()."""
    flags = kernel.frames.pages["flags"][kernel.frames.huge :]
    _split(kernel, set(np.flatnonzero(flags & PG_HEAD).tolist()))


def split_huge_pages_pid(mm: MmStruct, start: int, end: int) -> None:
    """Those that a process maps in a range, in whole or in part. Linux: split_huge_pages_pid()."""
    kernel, found = mm.kernel, set[int]()
    addr = start & -PAGE_SIZE
    while addr < end and (vma := mm.find_vma(addr)) is not None:
        addr = max(addr, vma.vm_start)
        while addr < min(end, vma.vm_end):
            *_, (level, _, _, entry) = walk(kernel, mm.row, addr)
            if entry & PTE_PRESENT and not vma.is_hugetlb():
                found.add((entry & PTE_PFN_MASK) >> PAGE_SHIFT + PAGEBLOCK_ORDER)
            addr = addr + PAGE_SIZE if level == 1 else (addr | HPAGE_PMD_SIZE - 1) + 1
    _split(kernel, found)


def split_huge_pages_in_file(kernel: Kernel, path: str, first: int, last: int) -> None:
    """Those that begin in a file between two of its pages. EINVAL: there is no such file.

    Linux: split_huge_pages_in_file().
    """
    try:
        file = kernel.namei.open(path)
    except OSError:
        raise OSError(EINVAL, f"{path} cannot be opened") from None
    try:
        pages = kernel.frames.pages[kernel.frames.huge :]
        own = (pages["flags"] & (PG_HEAD | PG_ANON) == PG_HEAD) & (pages["mapping"] == file.mapping.id)
        found = np.flatnonzero(own & (pages["index"] >= first) & (pages["index"] < last))
        _split(kernel, set(found.tolist()))
    finally:
        file.put()
