"""Splitting large folios because somebody asks for it: all, those of a process, those of a file.

Linux: mm/huge_memory.c, split_huge_pages_all(), split_huge_pages_pid(), split_huge_pages_in_file().
"""

from __future__ import annotations

from collections.abc import Iterable
from errno import EINVAL
from typing import TYPE_CHECKING

from mmfs.mm.folio import folio_order, large_folios
from mmfs.mm.pgtable import walk
from mmfs.mm_types import (
    HPAGE_PMD_ORDER,
    HPAGE_PMD_SIZE,
    PAGE_SHIFT,
    PAGE_SIZE,
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


def _split(kernel: Kernel, folios: Iterable[int], order: int) -> None:
    """Those that are large, and on a list, are so no longer, or of a smaller order."""
    for folio in folios:
        listed = int(kernel.frames.pages[folio]["flags"]) & (PG_HEAD | PG_LRU) == PG_HEAD | PG_LRU
        if listed and order < folio_order(kernel.frames, folio):
            kernel.mmu.huge_split.split_huge_page(folio, order)


def split_huge_pages_all(kernel: Kernel) -> None:
    """All of the machine's. Linux: split_huge_pages_all()."""
    _split(kernel, large_folios(kernel.frames).tolist(), 0)


def split_huge_pages_pid(mm: MmStruct, start: int, end: int, order: int) -> None:
    """Those that a process maps in a range, in whole or in part. Linux: split_huge_pages_pid()."""
    kernel, found = mm.kernel, dict[int, None]()
    addr = start & -PAGE_SIZE
    while addr < end and (vma := mm.find_vma(addr)) is not None:
        addr = max(addr, vma.vm_start)
        while addr < min(end, vma.vm_end):
            *_, (level, _, _, entry) = walk(kernel, mm.row, addr)
            if entry & PTE_PRESENT and not vma.is_hugetlb():
                found[kernel.frames.folio((entry & PTE_PFN_MASK) >> PAGE_SHIFT)] = None
            addr = addr + PAGE_SIZE if level == 1 else (addr | HPAGE_PMD_SIZE - 1) + 1
    _split(kernel, [folio for folio in found if folio >= kernel.frames.huge], order)


def split_huge_pages_in_file(kernel: Kernel, path: str, first: int, last: int, order: int) -> None:
    """Those that begin in a file between two of its pages. EINVAL: there is no such file.

    Linux: split_huge_pages_in_file().
    """
    try:
        file = kernel.namei.open(path)
    except OSError:
        raise OSError(EINVAL, f"{path} cannot be opened") from None
    try:
        folios = large_folios(kernel.frames)
        pages = kernel.frames.pages[folios]
        own = (pages["flags"] & (PG_HEAD | PG_ANON) == PG_HEAD) & (pages["mapping"] == file.mapping.id)
        _split(kernel, folios[own & (pages["index"] >= first) & (pages["index"] < last)].tolist(), order)
    finally:
        file.put()
