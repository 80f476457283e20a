"""/proc/PID/pagemap and clear_refs: frames and bits of single pages, and forgetting the bits.

Linux: fs/proc/task_mmu.c, pagemap_read(), clear_refs_write().
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import numpy as np

from mmfs.fs.proc.pid import BOTH, capable, first_bytes, needs_mm
from mmfs.fs.proc.task_mmu import SOFT_DIRTY
from mmfs.kernfs.kstrtox import fail, kstrtoint
from mmfs.kernfs.node import Attribute, Binary
from mmfs.mm import huge_memory, memory
from mmfs.mm.hugetlb_vma import folios_in
from mmfs.mm.mman import VM_PFNMAP, VM_SOFTDIRTY
from mmfs.mm_types import (
    PAGE_SHIFT,
    PAGE_SIZE,
    PTE_CONT,
    PTE_GLOBAL,
    PTE_PFN_MASK,
    PTE_PRESENT,
    PTE_SOFT_DIRTY,
    PTE_SPECIAL,
    SWP_OFFSET_FIRST_BIT,
    SWP_OFFSET_MASK,
    SWP_SOFT_DIRTY,
    SWP_TYPE_SHIFT,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.kernel.task import Task
    from mmfs.kernfs import Caller
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct

PM_SOFT_DIRTY, PM_MMAP_EXCLUSIVE, PM_FILE, PM_SWAP, PM_PRESENT = (
    np.uint64(1 << bit) for bit in (55, 56, 61, 62, 63)
)
PM_SWAP_TYPE_BITS: Final = 5
PM_ENTRY_BYTES: Final = 8
CLEAR_REFS_ALL, CLEAR_REFS_ANON, CLEAR_REFS_MAPPED, CLEAR_REFS_SOFT_DIRTY, CLEAR_REFS_MM_HIWATER_RSS = range(1, 6)


def pagemap_read(task: Task, offset: int, size: int, caller: Caller) -> bytes:
    """8 bytes a page of the address space: frame, soft-dirty, exclusive, file, present."""
    mm = task.mm
    if mm is None:
        return b""
    if offset % PM_ENTRY_BYTES or size % PM_ENTRY_BYTES:
        fail(errno.EINVAL)
    start = offset // PM_ENTRY_BYTES * PAGE_SIZE
    pages = min(size // PM_ENTRY_BYTES, max(mm.task_size - start, 0) // PAGE_SIZE)
    if pages <= 0:
        return b""
    return pagemap_entries(mm, start, pages, show_pfn=capable(caller)).tobytes()


def pagemap_entries(mm: MmStruct, start: int, pages: int, show_pfn: bool) -> NDArray[np.uint64]:
    """The entries of ``pages`` pages from an address on. Linux: pte_to_pagemap_entry()."""
    kernel = mm.kernel
    raw = np.zeros(pages, np.uint64)
    kernel.task_mmu.read_entries(mm.row, start, raw)
    out = np.zeros(pages, np.uint64)
    mapped = raw & np.uint64(PTE_PRESENT | PTE_GLOBAL) != 0
    here = np.flatnonzero(mapped & (raw & np.uint64(PTE_CONT) == 0))  # the others: of huge pages of a pool, below
    entries = raw[here]
    pfns = (entries & np.uint64(PTE_PFN_MASK)) >> np.uint64(PAGE_SHIFT)
    value = np.full(len(here), PM_PRESENT)
    if show_pfn:
        value |= pfns
    value[entries & np.uint64(PTE_SOFT_DIRTY) != 0] |= PM_SOFT_DIRTY
    normal = entries & np.uint64(PTE_SPECIAL) == 0
    anon, mapcounts = huge_memory.states_of(kernel.frames, pfns.astype(np.int64))
    value[normal & ~anon] |= PM_FILE
    value[normal & (mapcounts == 1)] |= PM_MMAP_EXCLUSIVE
    out[here] = value
    gone = np.flatnonzero((raw != 0) & ~mapped)
    out[gone] = swap_entries(raw[gone], show_pfn)
    end = start + pages * PAGE_SIZE
    vma = mm.find_vma(start)
    while vma is not None and vma.vm_start < end:
        if vma.is_hugetlb():
            hugetlb_entries(vma, start, out, show_pfn)
        if vma.vm_flags & VM_SOFTDIRTY:
            low, high = max(vma.vm_start, start), min(vma.vm_end, end)
            out[(low - start) // PAGE_SIZE : (high - start) // PAGE_SIZE] |= PM_SOFT_DIRTY
        vma = mm.find_vma(vma.vm_end)
    if not SOFT_DIRTY(kernel):
        out &= ~PM_SOFT_DIRTY
    return out


def hugetlb_entries(vma: VmAreaStruct, start: int, out: NDArray[np.uint64], show_pfn: bool) -> None:
    """Put the pages of a mapping's huge ones into the entries from an address on. Linux: pagemap_hugetlb_range()."""
    for addr, _, folio in folios_in(vma):
        first = (addr - start) // PAGE_SIZE
        low, high = max(first, 0), min(first + (1 << folio.hstate.order), len(out))
        if low >= high:
            continue
        value = PM_PRESENT
        value |= np.uint64(0) if folio.anon else PM_FILE
        value |= PM_MMAP_EXCLUSIVE if folio.mapcount == 1 else np.uint64(0)
        out[low:high] = value
        if show_pfn:
            out[low:high] |= np.arange(folio.pfn + low - first, folio.pfn + high - first, dtype=np.uint64)


def swap_entries(raw: NDArray[np.uint64], show_offset: bool) -> NDArray[np.uint64]:
    """What pagemap shows of swapped-out pages: area and offset there. Linux: pte_to_pagemap_entry()."""
    value = np.full(len(raw), PM_SWAP)
    if show_offset:
        offset = ~(raw >> np.uint64(SWP_OFFSET_FIRST_BIT)) & np.uint64(SWP_OFFSET_MASK)
        value |= raw >> np.uint64(SWP_TYPE_SHIFT) | offset << np.uint64(PM_SWAP_TYPE_BITS)
    value[raw & np.uint64(SWP_SOFT_DIRTY) != 0] |= PM_SOFT_DIRTY
    return value


def clear_refs_write(task: Task, buf: str) -> int:
    """Forget what was accessed (1 all, 2 anonymous, 3 mapped), written (4), or the highest RSS (5)."""
    text, taken = first_bytes(buf)
    kind = kstrtoint(text, 10)
    if not CLEAR_REFS_ALL <= kind <= CLEAR_REFS_MM_HIWATER_RSS:
        fail(errno.EINVAL)
    mm = task.mm
    if mm is None:
        return taken
    if kind == CLEAR_REFS_MM_HIWATER_RSS:
        mm.hiwater_rss = mm.rss
        return taken
    if kind == CLEAR_REFS_SOFT_DIRTY:
        for vma in mm.mmap:
            if vma.vm_flags & VM_SOFTDIRTY:
                vma.flags_reset(vma.vm_flags & ~VM_SOFTDIRTY)
    for vma in mm.mmap:
        if not _clear_refs_skips(vma, kind):
            memory.clear_refs(mm, vma, kind == CLEAR_REFS_SOFT_DIRTY)
    return taken


def _clear_refs_skips(vma: VmAreaStruct, kind: int) -> bool:
    """Linux: clear_refs_test_walk()."""
    if vma.vm_flags & VM_PFNMAP:
        return True
    return vma.vm_file is not None if kind == CLEAR_REFS_ANON else kind == CLEAR_REFS_MAPPED and vma.vm_file is None


for _files in BOTH:
    _files.add(Attribute("clear_refs", None, clear_refs_write, mode=0o200))
    _files.add(Binary("pagemap", pagemap_read, mode=0o400, open=needs_mm, wants_caller=True))
