"""The page tables of an address space: unmapping, copying, moving and protecting ranges of a VMA.

The loops are the fast path's (fastpath/pgtable.py); they know rows (mm/rows.py), not objects.

Linux: mm/memory.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fastpath.madvise import Madvise
from mmfs.fastpath.mmu import Mmu
from mmfs.fastpath.page_idle import PageIdle
from mmfs.fastpath.pgtable import PageTables
from mmfs.fastpath.task_mmu import TaskMmu
from mmfs.mm import hugetlb_vma, rmap
from mmfs.mm.fault import Fault, retry, stop_retrying
from mmfs.mm.filemap import PageCache
from mmfs.mm.lru_gen import LruGenState
from mmfs.mm.memcontrol import MemCgroups
from mmfs.mm.page_io import SwapWrites
from mmfs.mm.pgd import pgtable_cache_init
from mmfs.mm.rows import Rows
from mmfs.mm.shmem import ShmMnt
from mmfs.mm.shmem_huge import ShmemHuge
from mmfs.mm.swapfile import SwapFiles
from mmfs.mm_types import PAGE_SHIFT, PTE_ACCESSED, PTE_RW, PTE_SOFT_DIRTY
from mmfs.profile import config

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct

HIGHPTE = config("HIGHPTE")
"""Kernels whose lowest page tables may lie in high memory."""


def paging_init(kernel: Kernel) -> None:
    """Make what address spaces need: the MMU, the page cache, rows, reverse maps. Linux: mm_core_init()."""
    page_alloc = kernel.page_alloc
    kernel.lru = page_alloc.lru
    kernel.mmu = Mmu(
        page_alloc.buddy,
        page_alloc.lru,
        kernel.vmstat,
        kernel.profile.arch.pgtable_levels or (5 if kernel.machine.cpu.la57 else 4),
        kernel.memblock.kernel_base >> PAGE_SHIFT,
    )
    if HIGHPTE(kernel):
        kernel.mmu.walker.pte_zone = page_alloc.buddy.opt_zone_highmem
    kernel.pagetables = PageTables(kernel.mmu)
    kernel.page_idle = PageIdle(kernel.mmu.rmap)
    kernel.task_mmu = TaskMmu(kernel.pagetables)
    kernel.madvise = Madvise(kernel.pagetables)
    kernel.lru_gen = LruGenState(kernel)
    kernel.memcgs = MemCgroups(kernel)
    kernel.page_cache = PageCache(kernel)
    kernel.rmap = rmap.Rmap()
    kernel.swap_files = SwapFiles(kernel)
    kernel.swap_writes = SwapWrites(kernel)
    kernel.shm_mnt = ShmMnt()
    kernel.pgd = pgtable_cache_init(kernel)
    kernel.shmem_huge = ShmemHuge(kernel)
    kernel.mm_rows = Rows()
    kernel.vma_rows = Rows()
    kernel.mms = {}


def zap_page_range(mm: MmStruct, vma: VmAreaStruct, start: int, end: int) -> None:
    """Unmap the pages of a range. Linux: mm/memory.c, zap_page_range_single(), unmap_vmas()."""
    if vma.is_hugetlb():
        hugetlb_vma.unmap_hugepage_range(vma, start, end)
        return
    mm.update_hiwater_rss()
    mm.kernel.lru.lru_add_drain()
    mm.kernel.pagetables.zap_range(mm.row, vma.vm_flags, start, end)


def free_pgtables(mm: MmStruct, floor: int, ceiling: int) -> None:
    """Free the page tables that span nothing but [floor, ceiling), which is unmapped. Linux: free_pgtables()."""
    mm.kernel.pagetables.free_tables(mm.row, floor, ceiling)


def copy_page_range(mm: MmStruct, vma: VmAreaStruct, src: VmAreaStruct) -> None:
    """Copy a VMA's entries to a child, private pages shared until written. Linux: copy_page_range().

    Files' pages are not copied unless some are private: the child faults them in. Raises OSError(ENOMEM).
    """
    from errno import ENOMEM

    if src.anon_vma is None:
        return
    if src.is_hugetlb():
        hugetlb_vma.copy_hugetlb_page_range(vma, src)
        return
    tables = mm.kernel.pagetables
    addr = src.vm_start
    try:
        while addr < src.vm_end:
            reached = tables.copy_range(mm.row, src.vm_mm.row, src.vm_flags, addr, src.vm_end)
            if reached < src.vm_end:
                retry(src.vm_mm, reached)
            addr = reached
    except Fault as fault:
        raise OSError(ENOMEM, "no memory for page tables") from fault
    finally:
        stop_retrying(mm.kernel)


def change_protection(mm: MmStruct, vma: VmAreaStruct, start: int, end: int) -> None:
    """Give the entries of a range the rights of their VMA. Linux: mm/mprotect.c, change_protection()."""
    if vma.is_hugetlb():
        hugetlb_vma.hugetlb_change_protection(vma, start, end)
        return
    mm.kernel.pagetables.protect_range(mm.row, vma.vm_flags, start, end)


def move_page_tables(
    mm: MmStruct, vma: VmAreaStruct, old_addr: int, new_vma: VmAreaStruct, new_addr: int, length: int
) -> int:
    """Move entries from one VMA to another; returns how many bytes. Linux: mm/mremap.c, move_page_tables()."""
    if vma.is_hugetlb():
        return hugetlb_vma.move_hugetlb_page_tables(vma, old_addr, new_addr, length)
    tables = mm.kernel.pagetables
    done = 0
    try:
        while done < length:
            moved = tables.move_range(mm.row, old_addr + done, new_addr + done, length - done)
            done += moved
            if done < length:
                retry(mm, new_addr + done)
    except Fault:
        return done
    finally:
        stop_retrying(mm.kernel)
    return done


def mlock_vma_pages_range(mm: MmStruct, vma: VmAreaStruct, start: int, end: int, lock: bool) -> None:
    """mlock or munlock the pages that are mapped in a range. Linux: mm/mlock.c, mlock_vma_pages_range()."""
    mm.kernel.lru.lru_add_drain()
    mm.kernel.pagetables.lock_range(mm.row, start, end, lock)


def clear_refs(mm: MmStruct, vma: VmAreaStruct, soft_dirty: bool) -> None:
    """Forget that pages of a VMA were accessed, or were written. Linux: fs/proc/task_mmu.c, clear_refs_write()."""
    if vma.is_hugetlb():  # Linux: clear_refs_walk_ops has no hugetlb_entry
        return
    bits = PTE_SOFT_DIRTY | PTE_RW if soft_dirty else PTE_ACCESSED
    mm.kernel.task_mmu.clear_refs(mm.row, vma.vm_start, vma.vm_end, bits)
