"""The root of an address space's page tables.

It is a page, or with fewer entries than that an object of a slab (64 with arm64's large pages); what lies below comes
and goes with what is mapped. With PAE the hardware reads four entries of it once, when the address space is switched
to: they are 32 bytes of a slab, and the tables of the three gigabytes that a program has are there from the start.

Linux: arch/x86/mm/pgtable.c, arch/arm64/mm/pgd.c, pgd_alloc(), pgd_free().

Simplified: page table isolation is off (it would give the kernel's gigabyte a table in each address space).
"""

from __future__ import annotations

from errno import ENOMEM
from typing import TYPE_CHECKING, Final

from mmfs.mm_types import (
    GFP_KERNEL_ACCOUNT,
    GFP_ZERO_BIT,
    PAGE_SIZE,
    PG_TABLE,
    PTE_ACCESSED,
    PTE_DIRTY,
    PTE_PFN_MASK,
    PTE_PRESENT,
    PTE_RW,
    PTE_USER,
    PTRS_PER_TABLE,
    NodeStatItem,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

PGD_CACHE: Final = "pgd_cache"
PMD_LEVEL: Final = 2
GFP_PGTABLE_USER: Final = GFP_KERNEL_ACCOUNT | GFP_ZERO_BIT
_PGTABLE: Final = PTE_PRESENT | PTE_RW | PTE_USER | PTE_ACCESSED | PTE_DIRTY


def _take(kernel: Kernel, level: int, gfp: int = GFP_KERNEL_ACCOUNT) -> int:
    """A cleared table that the running task's cgroup pays for; OSError(ENOMEM)."""
    pfn = kernel.memcgs.alloc_kmem_page(gfp)
    if pfn < 0:
        raise OSError(ENOMEM, "no memory for a page table")
    kernel.frames.pages[pfn]["flags"] |= PG_TABLE
    kernel.frames.pages[pfn]["private"] = level
    kernel.frames.entries[pfn * PTRS_PER_TABLE : pfn * PTRS_PER_TABLE + PTRS_PER_TABLE] = 0
    return pfn


class PgdPage:
    """Roots that are pages."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def alloc(self, row: int) -> int:
        """The index of the first entry of a new root, for an address space's row. Raises OSError(ENOMEM)."""
        return _take(self.kernel, self.kernel.mmu.walker.levels) * PTRS_PER_TABLE

    def free(self, row: int) -> None:
        """The root of a row, below which nothing is left."""
        self.kernel.memcgs.free_kmem_page(int(self.kernel.mmu.mms[row]["pgd"]) // PTRS_PER_TABLE)


class PgdObject:
    """Roots that are objects of a slab. ``objects``: that of each row."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.arch = kernel.profile.arch
        self.objects: dict[int, int] = {}

    def alloc(self, row: int) -> int:
        """As PgdPage.alloc(). Linux: preallocate_pmds(), pgd_prepopulate_pmd()."""
        kernel, pmds = self.kernel, list[int]()
        obj = kernel.slab.alloc(PGD_CACHE, account=True)
        try:
            if not obj:
                raise OSError(ENOMEM, "no memory for a page table")
            for _ in range(self.arch.preallocated_pmds):
                pmds.append(_take(kernel, PMD_LEVEL, GFP_PGTABLE_USER))
        except OSError:
            for pfn in pmds:
                kernel.memcgs.free_kmem_page(pfn)
            kernel.slab.free_if(obj)
            raise
        first = kernel.slab.words_of(obj)
        entries = [pfn * PAGE_SIZE | _PGTABLE for pfn in pmds]
        kernel.frames.entries[first : first + self.arch.ptrs_per_pgd] = 0
        kernel.frames.entries[first : first + len(entries)] = entries
        for pfn in pmds:
            self._count(row, pfn, +1)
        self.objects[row] = obj
        return first

    def free(self, row: int) -> None:
        """As PgdPage.free(), with the tables that are still below. Linux: pgd_mop_up_pmds()."""
        kernel = self.kernel
        first = int(kernel.mmu.mms[row]["pgd"])
        for entry in kernel.frames.entries[first : first + self.arch.preallocated_pmds].tolist():
            if entry & PTE_PRESENT:
                pfn = (entry & PTE_PFN_MASK) // PAGE_SIZE
                self._count(row, pfn, -1)
                kernel.memcgs.free_kmem_page(pfn)
        kernel.slab.free(self.objects.pop(row))

    def _count(self, row: int, pfn: int, sign: int) -> None:
        """Linux: pgtable_pmd_page_ctor(), mm_inc_nr_pmds()."""
        self.kernel.lru.memcg.mod_folio_state(pfn, NodeStatItem.NR_PAGETABLE, sign)
        self.kernel.mmu.mms[row]["pgtables_bytes"] += sign * PAGE_SIZE


def pgtable_cache_init(kernel: Kernel) -> PgdPage | PgdObject:
    """How this kernel makes roots. Linux: pgtable_cache_init()."""
    return PgdObject(kernel) if kernel.profile.arch.ptrs_per_pgd else PgdPage(kernel)
