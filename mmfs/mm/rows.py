"""What the fast path knows of address spaces and VMAs: a row of a table each, counters among it.

Linux: struct mm_struct, struct vm_area_struct; kernel/fork.c, mm_init(); include/linux/mm.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.mm.mempolicy import effective
from mmfs.mm_types import (
    HPAGE_PMD_SIZE,
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_SHMEMPAGES,
    MM_SWAPENTS,
    MMF_DISABLE_THP,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct

_COUNTER_FIELDS = {
    MM_FILEPAGES: "rss_file",
    MM_ANONPAGES: "rss_anon",
    MM_SWAPENTS: "rss_swap",
    MM_SHMEMPAGES: "rss_shmem",
}


class Rows:
    """Rows of the fast path's tables: address spaces and VMAs by number, lowest free first to last freed."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._next = 1

    def take(self) -> int:
        """A row nobody uses; 0 is never one."""
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1

    def give(self, row: int) -> None:
        """The row is free again."""
        self._free.append(row)


def mm_init(kernel: Kernel, mm: MmStruct, oldmm: MmStruct | None = None) -> None:
    """Give a new address space its root table; it does without huge pages if the caller's, ``oldmm``, does.

    Linux: kernel/fork.c, mm_init(), mm_alloc_pgd(), mmf_init_flags().

    Raises OSError(ENOMEM) when there is no page for it.
    """
    mmu, row = kernel.mmu, kernel.mm_rows.take()
    record = mmu.mms[row]
    try:
        record["pgd"] = kernel.pgd.alloc(row)
    except OSError:
        kernel.mm_rows.give(row)
        raise
    mm.row = row
    kernel.mms[row] = mm
    mm.serial = kernel.lru_gen.next_serial()
    record["flags"] = get_mm_flags(oldmm) & MMF_DISABLE_THP if oldmm is not None and oldmm.row >= 0 else 0
    record["memcg"] = kernel.lru.memcg.current if mm.owner is None else mm.owner.memcg
    mmu.tlb.new_asid(mm.row)
    if oldmm is not None and oldmm.ksm.merge_any:  # Linux: ksm_execve()
        mm.ksm.merge_any = True
        kernel.ksm.enter(mm)


def mm_release(mm: MmStruct) -> None:
    """Free the root table of an address space that maps nothing any more. Linux: mm_free_pgd(), free_mm()."""
    kernel = mm.kernel
    kernel.ksm.leave(mm)
    kernel.mmu.walker.forget(mm.row)
    kernel.mmu.huge.put_zero(mm.row)
    kernel.pgd.free(mm.row)
    kernel.mmu.mms[mm.row] = 0
    del kernel.mms[mm.row]
    kernel.mm_rows.give(mm.row)
    mm.row = -1


def get_mm_counter(mm: MmStruct, member: int) -> int:
    """Pages of one kind that are mapped, or swapped out. Linux: include/linux/mm.h."""
    return int(mm.kernel.mmu.mms[mm.row][_COUNTER_FIELDS[member]]) if mm.row >= 0 else 0


def get_mm_rss(mm: MmStruct) -> int:
    """Resident pages. Linux: include/linux/mm.h, get_mm_rss()."""
    return int(mm.kernel.mmu.tlb.get_mm_rss(mm.row)) if mm.row >= 0 else 0


def update_hiwater_rss(mm: MmStruct) -> None:
    """Remember the RSS before it falls. Linux: include/linux/mm.h, update_hiwater_rss()."""
    if mm.row >= 0:
        mm.kernel.mmu.tlb.update_hiwater_rss(mm.row)


def get_hiwater_rss(mm: MmStruct) -> int:
    """The highest RSS that was remembered. Linux: include/linux/mm.h, get_mm_hiwater_rss()."""
    return int(mm.kernel.mmu.mms[mm.row]["hiwater_rss"]) if mm.row >= 0 else 0


def set_hiwater_rss(mm: MmStruct, pages: int) -> None:
    """Remember an RSS."""
    mm.kernel.mmu.mms[mm.row]["hiwater_rss"] = pages


def mm_pgtables_bytes(mm: MmStruct) -> int:
    """Bytes of page tables below the root. Linux: include/linux/mm.h."""
    return int(mm.kernel.mmu.mms[mm.row]["pgtables_bytes"]) if mm.row >= 0 else 0


def get_mm_flags(mm: MmStruct) -> int:
    """MMF_DISABLE_THP, MMF_HUGE_ZERO_PAGE."""
    return int(mm.kernel.mmu.mms[mm.row]["flags"])


def set_mm_flags(mm: MmStruct, flags: int) -> None:
    """Set the flags that the fast path looks at."""
    mm.kernel.mmu.mms[mm.row]["flags"] = flags


def vma_allocated(vma: VmAreaStruct) -> None:
    """A new VMA gets a row, which says that it maps nothing until it is in a tree."""
    kernel = vma.vm_mm.kernel
    vma.row = kernel.vma_rows.take()
    kernel.mmu.vmas[vma.row] = 0
    kernel.mmu.swap_state.ras[vma.row] = 0


def vma_freed(vma: VmAreaStruct) -> None:
    """A VMA gives its row back; no chain of reverse maps holds it any more."""
    vma.vm_mm.kernel.vma_rows.give(vma.row)
    vma.row = -1


def vma_row(vma: VmAreaStruct) -> int:
    """The VMA's row, up to date. Policies, and what a cpuset allows, may have changed without a word."""
    owner = vma.vm_mm.owner
    if (
        not vma.row_plain
        or vma.vm_policy is not None
        or (owner is not None and (owner.mems_allowed is not None or owner.mempolicy is not None))
    ):
        vma_changed(vma)
    return vma.row


def vma_adjust_trans_huge(vma: VmAreaStruct, start: int, end: int) -> None:
    """The borders of a VMA will move: no huge page may lie across one. Linux: mm/huge_memory.c."""
    if vma.is_hugetlb() or not (vma.vm_file is None or vma.vm_file.inode.shmem):
        return
    for addr in (start, end):
        if vma.vm_start < addr < vma.vm_end and addr % HPAGE_PMD_SIZE:
            vma.vm_mm.kernel.pagetables.split_huge_pmd_address(vma.vm_mm.row, addr)


def vma_changed(vma: VmAreaStruct) -> None:
    """A VMA is in the tree, or what its row says has changed: reclaim goes by the row."""
    file, mm = vma.vm_file, vma.vm_mm
    policy = vma.vm_policy or (mm.owner.mempolicy if mm.owner is not None else None)
    mode, nid, mask = effective(policy, mm.owner)
    mm.kernel.mmu.areas.update(
        vma.row,
        vma.vm_start,
        vma.vm_end,
        vma.vm_flags,
        vma.vm_pgoff,
        file.mapping.id if file is not None else 0,
        vma.anon_vma.id if vma.anon_vma is not None else 0,
        mm.row,
        mode,
        nid,
        file.ra if file is not None else 0,
        mask,
    )
    vma.row_plain = mode == 0
