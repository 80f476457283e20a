"""madvise(): what a process says it will do with a range, and prctl(PR_SET_VMA): what it calls it.

Some advice changes flags (and so splits and merges VMAs): read-ahead, fork, core dump, KSM and huge page
advice. The rest acts on pages at once: DONTNEED zaps them, FREE lets reclaim drop them, COLD and PAGEOUT
hand them to reclaim, WILLNEED and POPULATE_* bring them in. Holes in the range do not stop it: the mapped parts
are treated, and the call returns ENOMEM in the end.

Linux: mm/madvise.c, kernel/sys.c (prctl_set_vma).
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EACCES, EAGAIN, EBADF, EFAULT, EINVAL, ENOMEM, EPERM
from typing import TYPE_CHECKING

import numpy as np

from mmfs.mm import access, memory
from mmfs.mm.debug import LOG_INFO
from mmfs.mm.fault import Fault, task_of
from mmfs.mm.folio import folio_order
from mmfs.mm.gup import madvise_populate
from mmfs.mm.hugetlb_resv import inode_of
from mmfs.mm.hugetlb_vma import hugetlb_walk, punch_hole, vma_kernel_pagesize
from mmfs.mm.mman import (
    ANON_VMA_NAME_MAX_LEN,
    CAP_FOWNER,
    CAP_SYS_ADMIN,
    FMODE_WRITE,
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_HWPOISON,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_REMOVE,
    MADV_SEQUENTIAL,
    MADV_SOFT_OFFLINE,
    MADV_UNMERGEABLE,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    ULONG_MAX,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_IO,
    VM_LOCKED,
    VM_MAYWRITE,
    VM_MERGEABLE,
    VM_NOHUGEPAGE,
    VM_PFNMAP,
    VM_RAND_READ,
    VM_SEQ_READ,
    VM_SHARED,
    VM_SPECIAL,
    VM_WIPEONFORK,
    page_align,
)
from mmfs.mm.unmapped_area import huge_page_size
from mmfs.mm.vma import VmAreaStruct
from mmfs.mm.vma_merge import vma_modify_flags_name
from mmfs.mm_types import (
    PAGE_MASK,
    PAGE_SHIFT,
    PAGE_SIZE,
    PTE_PFN_MASK,
)

if TYPE_CHECKING:
    from mmfs.mm.mm_struct import MmStruct

# Advice that only sets and clears flags: behaviour -> (cleared, set).
_FLAG_ADVICE = {
    MADV_NORMAL: (VM_RAND_READ | VM_SEQ_READ, 0),
    MADV_SEQUENTIAL: (VM_RAND_READ, VM_SEQ_READ),
    MADV_RANDOM: (VM_SEQ_READ, VM_RAND_READ),
    MADV_DONTFORK: (0, VM_DONTCOPY),
    MADV_DOFORK: (VM_DONTCOPY, 0),
    MADV_WIPEONFORK: (0, VM_WIPEONFORK),
    MADV_KEEPONFORK: (VM_WIPEONFORK, 0),
    MADV_DONTDUMP: (0, VM_DONTDUMP),
    MADV_DODUMP: (VM_DONTDUMP, 0),
    MADV_MERGEABLE: (0, VM_MERGEABLE),
    MADV_UNMERGEABLE: (VM_MERGEABLE, 0),
    MADV_HUGEPAGE: (VM_NOHUGEPAGE, VM_HUGEPAGE),
    MADV_NOHUGEPAGE: (VM_HUGEPAGE, VM_NOHUGEPAGE),
}

Visitor = Callable[[VmAreaStruct, VmAreaStruct | None, int, int], VmAreaStruct]
"""Treats [start, end) of a VMA, given the VMA before; returns the VMA that holds the range then."""


def _flags_allowed(vma: VmAreaStruct, behavior: int) -> None:
    flags = vma.vm_flags
    if behavior == MADV_DOFORK and flags & VM_IO:
        raise OSError(EINVAL, "device memory is not copied")
    if behavior == MADV_WIPEONFORK and (vma.vm_file is not None or flags & VM_SHARED):
        raise OSError(EINVAL, "only private anonymous memory can be wiped")
    if behavior == MADV_KEEPONFORK and flags & VM_DROPPABLE:
        raise OSError(EINVAL, "droppable memory is always wiped")
    if behavior == MADV_DODUMP and (flags & VM_DROPPABLE or (flags & VM_SPECIAL and not vma.is_hugetlb())):
        raise OSError(EINVAL, "a special mapping is never dumped")


def _update_vma(
    vma: VmAreaStruct, prev: VmAreaStruct | None, start: int, end: int, new_flags: int, name: str | None
) -> VmAreaStruct:
    """Linux: mm/madvise.c, madvise_update_vma()."""
    if new_flags == vma.vm_flags and name == vma.anon_name:
        return vma
    try:
        vma = vma_modify_flags_name(prev, vma, start, end, new_flags, name)
    except OSError as error:
        raise OSError(EAGAIN if error.errno == ENOMEM else error.errno, error.strerror) from error
    if vma.vm_file is None or vma.vm_file.inode.shmem:
        vma.anon_name = name
    vma.flags_reset(new_flags)
    return vma


def _update_flags(vma: VmAreaStruct, prev: VmAreaStruct | None, start: int, end: int, behavior: int) -> VmAreaStruct:
    """Linux: mm/madvise.c, madvise_vma_behavior()."""
    _flags_allowed(vma, behavior)
    clear, add = _FLAG_ADVICE[behavior]
    if behavior in (MADV_MERGEABLE, MADV_UNMERGEABLE) and not vma.vm_mm.kernel.ksm.madvise(
        vma, start, end, behavior == MADV_MERGEABLE
    ):
        add = 0
    return _update_vma(vma, prev, start, end, vma.vm_flags & ~clear | add, vma.anon_name)


def madvise_free(mm: MmStruct, vma: VmAreaStruct, start: int, end: int) -> None:
    """MADV_FREE: pages may be dropped unless they are written again. Linux: madvise_free_single_vma()."""
    mm.kernel.lru.lru_add_drain()
    mm.kernel.madvise.lazyfree_range(mm.row, start & PAGE_MASK, end)


def madvise_cold(mm: MmStruct, vma: VmAreaStruct, start: int, end: int) -> None:
    """MADV_COLD: move pages to the inactive lists. Linux: madvise_cold()."""
    mm.kernel.lru.lru_add_drain()
    mm.kernel.madvise.cold_or_pageout_range(mm.row, start, end, False)


def madvise_pageout(mm: MmStruct, vma: VmAreaStruct, start: int, end: int) -> None:
    """MADV_PAGEOUT: reclaim pages, those of files only if the caller may write them. Linux: madvise_pageout()."""
    kernel = mm.kernel
    caller = kernel.tasks.current or task_of(mm)
    anon_only = vma.vm_file is not None and not vma.vm_file.f_mode & FMODE_WRITE and not caller.capable(CAP_FOWNER)
    kernel.lru.lru_add_drain()
    pfns = np.zeros((end - start) // PAGE_SIZE, np.int64)
    found = kernel.madvise.cold_or_pageout_range(mm.row, start, end, anon_only, pfns)
    kernel.reclaim.reclaim_pages(caller, pfns[:found])


def madvise_willneed(mm: MmStruct, vma: VmAreaStruct, start: int, end: int) -> None:
    """MADV_WILLNEED: read a file's pages ahead, and swapped-out ones. Linux: madvise_willneed()."""
    file, state = vma.vm_file, mm.kernel.mmu.swap_state
    first = vma.vm_pgoff + (start - vma.vm_start) // PAGE_SIZE
    last = first + (end - start) // PAGE_SIZE
    state.begin(mm.kernel.clock.now_ns)
    if vma.is_hugetlb():
        return  # Linux: mm/fadvise.c, generic_fadvise(): nothing to read from
    if file is None:
        mm.kernel.madvise.willneed_range(mm.row, vma.row, start, end)
    elif file.inode.shmem:
        state.shmem_willneed(file.mapping.id, first, last)
    else:
        file.mapping.force_readahead(file, first, last)


def madvise_remove(mm: MmStruct, vma: VmAreaStruct, start: int, end: int) -> None:
    """MADV_REMOVE: punch a hole into shared memory. Linux: madvise_remove()."""
    assert vma.vm_file is not None
    first = vma.vm_pgoff + (start - vma.vm_start) // PAGE_SIZE
    if vma.is_hugetlb():
        punch_hole(inode_of(vma), first, first + (end - start) // PAGE_SIZE)
        return
    vma.vm_file.mapping.truncate_pages(first, first + (end - start) // PAGE_SIZE)


def _dontneed_free(vma: VmAreaStruct, start: int, end: int, behavior: int) -> None:
    """Linux: mm/madvise.c, madvise_dontneed_free()."""
    if vma.is_hugetlb():
        huge = huge_page_size(vma.vm_file)
        if behavior == MADV_FREE or start % huge:
            raise OSError(EINVAL, "huge pages are dropped whole")
        end -= end % huge
    elif vma.vm_flags & (VM_PFNMAP if behavior == MADV_DONTNEED_LOCKED else VM_PFNMAP | VM_LOCKED):
        raise OSError(EINVAL, "locked or device memory")
    if start >= end:
        return
    if behavior != MADV_FREE:
        memory.zap_page_range(vma.vm_mm, vma, start, end)
    elif vma.is_anonymous():
        vma.vm_mm.update_hiwater_rss()
        madvise_free(vma.vm_mm, vma, start, end)
    else:
        raise OSError(EINVAL, "only anonymous memory can be freed lazily")


def _remove(vma: VmAreaStruct, start: int, end: int) -> None:
    """Punch a hole into the file behind the mapping. Linux: mm/madvise.c, madvise_remove()."""
    if vma.vm_flags & VM_LOCKED or vma.vm_file is None:
        raise OSError(EINVAL, "locked, or without a file")
    if vma.vm_flags & (VM_SHARED | VM_MAYWRITE) != VM_SHARED | VM_MAYWRITE:
        raise OSError(EACCES, "not a shared writable mapping")
    madvise_remove(vma.vm_mm, vma, start, end)


def _act(vma: VmAreaStruct, start: int, end: int, behavior: int) -> None:
    """The advice that acts on pages. Linux: mm/madvise.c, madvise_vma_behavior()."""
    mm = vma.vm_mm
    if behavior in (MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_FREE):
        _dontneed_free(vma, start, end, behavior)
    elif behavior == MADV_REMOVE:
        _remove(vma, start, end)
    elif behavior == MADV_WILLNEED:
        madvise_willneed(mm, vma, start, end)
    elif behavior == MADV_COLLAPSE:
        mm.kernel.khugepaged.madvise_collapse(vma, start, end)
    elif vma.vm_flags & (VM_LOCKED | VM_PFNMAP | VM_HUGETLB):
        raise OSError(EINVAL, "locked, device or hugetlb memory cannot be reclaimed")
    elif behavior == MADV_COLD:
        madvise_cold(mm, vma, start, end)
    else:
        madvise_pageout(mm, vma, start, end)


def madvise_inject_error(mm: MmStruct, start: int, end: int, soft: bool) -> None:
    """MADV_HWPOISON and MADV_SOFT_OFFLINE: the memory of a range fails, or is about to.

    Linux: mm/madvise.c, madvise_inject_error().
    """
    kernel = mm.kernel
    what = "Soft offlining pfn" if soft else "Injecting memory failure for pfn"
    while start < end:
        try:
            access.access_range(mm, start, start + 1, False)
        except Fault as fault:
            raise OSError(EFAULT, f"the page cannot be faulted in: {fault}") from fault
        pfn, size = _page_at(mm, start)
        kernel.printk.emit(f"{what} {pfn:#x} at process virtual address {start:#x}", LOG_INFO)
        if soft:
            kernel.memory_failure.soft_offline_page(pfn)
        else:
            kernel.memory_failure.memory_failure(pfn, task_of(mm))
        start += size


def _page_at(mm: MmStruct, addr: int) -> tuple[int, int]:
    """The frame that is mapped at an address, and the bytes of the page that it belongs to."""
    frames, vma = mm.kernel.frames, mm.vma_lookup(addr)
    assert vma is not None
    if vma.is_hugetlb():
        size = vma_kernel_pagesize(vma)
        entry = int(frames.entries[hugetlb_walk(vma, addr)])
        return (entry & PTE_PFN_MASK) + (addr & size - 1) >> PAGE_SHIFT, size
    raw = np.zeros(1, np.uint64)
    mm.kernel.task_mmu.read_entries(mm.row, addr, raw)
    pfn = (int(raw[0]) & PTE_PFN_MASK) >> PAGE_SHIFT
    return pfn, PAGE_SIZE << folio_order(frames, frames.folio(pfn))


def _walk_vmas(mm: MmStruct, start: int, end: int, visit: Visitor) -> None:
    """Visit every VMA of a range; ENOMEM in the end if there were holes. Linux: madvise_walk_vmas()."""
    hole = False
    prev = mm.find_vma_prev(start)
    while start < end:
        vma = mm.find_vma(start)
        if vma is None:
            hole = True
            break
        if start > vma.vm_start:
            prev = vma
        if start < vma.vm_start:
            hole = True
            start = vma.vm_start
            if start >= end:
                break
        stop = min(vma.vm_end, end)
        prev = visit(vma, prev, start, stop)
        start = max(stop, prev.vm_end)
    if hole:
        raise OSError(ENOMEM, "a part of the range is not mapped")


def do_madvise(mm: MmStruct, start: int, length: int, behavior: int) -> None:
    """madvise(2). Linux: mm/madvise.c, do_madvise()."""
    acting = (
        MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_FREE, MADV_REMOVE, MADV_WILLNEED, MADV_COLD, MADV_PAGEOUT,
        MADV_COLLAPSE, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_HWPOISON, MADV_SOFT_OFFLINE,
    )  # fmt: skip
    if behavior not in _FLAG_ADVICE and behavior not in acting:
        raise OSError(EINVAL, "no such advice")
    if start & ~PAGE_MASK:
        raise OSError(EINVAL, "not a multiple of the page size")
    end = start + page_align(length)
    if (length and end == start) or end > ULONG_MAX:
        raise OSError(EINVAL, "past the end of the address space")
    if end == start:
        return
    if behavior in (MADV_POPULATE_READ, MADV_POPULATE_WRITE):
        madvise_populate(mm, start, end, behavior == MADV_POPULATE_WRITE)
        return
    if behavior in (MADV_HWPOISON, MADV_SOFT_OFFLINE):
        if not mm.capable(CAP_SYS_ADMIN):
            raise OSError(EPERM, "needs CAP_SYS_ADMIN")
        madvise_inject_error(mm, start, end, behavior == MADV_SOFT_OFFLINE)
        return

    def visit(vma: VmAreaStruct, prev: VmAreaStruct | None, start: int, end: int) -> VmAreaStruct:
        if behavior in _FLAG_ADVICE:
            return _update_flags(vma, prev, start, end, behavior)
        _act(vma, start, end, behavior)
        return vma

    _walk_vmas(mm, start, end, visit)


def prctl_set_vma_anon_name(mm: MmStruct, start: int, length: int, name: str | None) -> None:
    """prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME): name a range, or with None take its name away.

    Linux: kernel/sys.c, prctl_set_vma(); mm/madvise.c, madvise_set_anon_name(). Without CONFIG_ANON_VMA_NAME, as
    Debian builds it, there are no names and this is EINVAL.
    """
    if not mm.kernel.profile.config("ANON_VMA_NAME"):
        raise OSError(EINVAL, "the kernel is built without CONFIG_ANON_VMA_NAME")
    if name is not None:
        if len(name) >= ANON_VMA_NAME_MAX_LEN:
            raise OSError(EINVAL, "the name is too long")
        if not all(" " <= char <= "~" and char not in "\\`$[]" for char in name):
            raise OSError(EINVAL, "the name has a character that is not allowed")
    if start & ~PAGE_MASK:
        raise OSError(EINVAL, "not a multiple of the page size")
    end = start + page_align(length)
    if (length and end == start) or end > ULONG_MAX:
        raise OSError(EINVAL, "past the end of the address space")

    def visit(vma: VmAreaStruct, prev: VmAreaStruct | None, start: int, end: int) -> VmAreaStruct:
        if vma.vm_file is not None and not vma.vm_file.inode.shmem:
            raise OSError(EBADF, "only anonymous memory can be named")
        return _update_vma(vma, prev, start, end, vma.vm_flags, name)

    _walk_vmas(mm, start, end, visit)
