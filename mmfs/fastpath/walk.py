# cython: language_level=3
"""The page-table walker: from an address to its entry, tables allocated on the way.

Page tables are real x86 ones: tables of PTRS_PER_TABLE entries in frames that come from the buddy allocator, entries
with the bits of the hardware. Level 1 holds pages, the root is level ``levels``: four or five (la57) of them, or with
PAE three, where the root is an object of the slab with four entries and all that it points to is there from the start.
A walk goes by the index of a table's first entry among all words of memory.

An entry of level 2 may map a huge page (PTE_PSE); then there is no entry of level 1, and walks say HUGE_PMD.

Linux: mm/memory.c, __pte_alloc() and the like; arch/x86/mm/pgtable.c.
"""

import cython

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_TABLE = cython.declare(cython.ulong, PTE_PRESENT | PTE_RW | PTE_USER | PTE_ACCESSED | PTE_DIRTY)
_UPPER = cython.declare(cython.long, 4)  # gigabytes of which the table above those of pages is remembered


class Walker:
    """The page tables of all address spaces.

    ``mms`` MM_DTYPE; ``alloc_flags`` is what tables may use; ``pte_zone`` up to which zone those of level 1 may come
    from; ``failed_highest`` up to which what could not be had last might have.
    """

    def __init__(self, buddy, lru, vmstat, mms, levels):
        self.frames = buddy.frames
        self.buddy = buddy
        self.lru = lru
        self.levels = levels
        self.mm = view(mms)
        self.memcg = lru.memcg
        self.alloc_flags = ALLOC_WMARK_LOW | ALLOC_KSWAPD
        self.pte_zone = ZONE_NORMAL
        self.failed_highest = ZONE_MOVABLE
        self.pmd = 0
        if not cython.compiled:
            self.upper_key = [-1] * _UPPER
            self.upper_table = [0] * _UPPER
        self.forget_tables()

    def alloc_page(self, mt, node, highest, nodemask):
        """A page for a fault, or -1: then the slow path has more to do than to wake kswapds that are awake already.

        Linux: __alloc_pages(), __alloc_pages_slowpath().
        """
        pfn: cython.long = self.buddy.alloc(0, mt, node, highest, self.alloc_flags, nodemask)
        if (
            pfn < 0
            and self.alloc_flags & ALLOC_WMARK_LOW
            and self.buddy.reclaim_zone < 0
            and self.buddy.wake_awake_kswapds(node, highest, nodemask)
        ):
            pfn = self.buddy.alloc(0, mt, node, highest, ALLOC_WMARK_MIN | ALLOC_KSWAPD, nodemask)
        if pfn < 0:
            self.failed_highest = highest
        return pfn

    def count_table(self, mm, pfn, level, sign):
        """Linux: pagetable_pte_ctor(), mm_inc_nr_ptes() and the like; root and p4d tables are not counted."""
        if level <= 3:
            self.memcg.mod_folio_state(pfn, NR_PAGETABLE, sign)
            self.mm[mm].pgtables_bytes += sign * PAGE_SIZE

    def alloc_table(self, mm, level, filled):
        """A page table of a level (1: the one that holds pages), or -1; zeroed unless whoever asks fills it."""
        pfn: cython.long
        memcg: cython.long = self.memcg.current
        if not self.memcg.charge(memcg, 1):
            return -1
        pfn = self.alloc_page(
            MIGRATE_UNMOVABLE, self.buddy.cpu_node[self.buddy.cpu], self.pte_zone if level == 1 else ZONE_NORMAL,
            self.buddy.mems_allowed,
        )
        if pfn < 0:
            self.memcg.unused(memcg, 1)
            return -1
        self.memcg.commit_kmem(pfn, memcg)
        if not filled:
            self.frames.clear_table(pfn)
        self.frames.page[pfn].flags |= PG_TABLE
        self.frames.page[pfn].private = level
        self.count_table(mm, pfn, level, 1)
        return pfn

    def free_table(self, mm, table, level):
        """Give the frame of a page table back. Linux: pagetable_free()."""
        self.count_table(mm, table, level, -1)
        self.frames.page[table].flags &= ~cython.cast(cython.uint, PG_TABLE)
        self.frames.page[table].mapping = 0
        self.frames.page[table].private = 0
        self.memcg.uncharge_kmem(table)
        self.buddy.free(table, 0)

    def lookup(self, mm, addr):
        """Index of the entry that maps an address, NO_TABLE where a table is missing; HUGE_PMD: ``pmd`` maps it."""
        table: cython.long = self.mm[mm].pgd
        level: cython.int = self.levels - 1
        at: cython.long
        entry: cython.ulong
        if self.cached_key == (mm << 40 | addr >> PMD_SHIFT):
            return self.cached_table + (addr >> PAGE_SHIFT & (PTRS_PER_TABLE - 1))
        if self.upper_key[addr >> PUD_SHIFT & (_UPPER - 1)] == (mm << 34 | addr >> PUD_SHIFT):
            table = self.upper_table[addr >> PUD_SHIFT & (_UPPER - 1)]
            level = 1
        while level > 0:
            at = table + (addr >> (PAGE_SHIFT + TABLE_SHIFT * level) & (PTRS_PER_TABLE - 1))
            entry = self.frames.entry[at]
            if level == 1 and entry & PTE_PSE:
                self.upper_key[addr >> PUD_SHIFT & (_UPPER - 1)] = mm << 34 | addr >> PUD_SHIFT
                self.upper_table[addr >> PUD_SHIFT & (_UPPER - 1)] = table
                self.pmd = at
                return HUGE_PMD
            if not entry & PTE_PRESENT:
                return NO_TABLE
            if level == 1:
                self.upper_key[addr >> PUD_SHIFT & (_UPPER - 1)] = mm << 34 | addr >> PUD_SHIFT
                self.upper_table[addr >> PUD_SHIFT & (_UPPER - 1)] = table
                self.frames.entry[at] |= PTE_ACCESSED
            table = (entry & PTE_PFN_MASK) >> 3
            level -= 1
        self.cached_key = mm << 40 | addr >> PMD_SHIFT
        self.cached_table = table
        return table + (addr >> PAGE_SHIFT & (PTRS_PER_TABLE - 1))

    def prefetch_entry(self, mm, addr):
        """Have the host fetch an entry that will be looked up soon.

        Its index, if a walk would change nothing on its way until tables go or the upper entry is cleared; else -1.
        """
        table: cython.long = self.mm[mm].pgd
        level: cython.int = self.levels - 1
        entry: cython.ulong = 0
        if not cython.compiled:
            return -1
        if self.upper_key[addr >> PUD_SHIFT & (_UPPER - 1)] == (mm << 34 | addr >> PUD_SHIFT):
            table = self.upper_table[addr >> PUD_SHIFT & (_UPPER - 1)]
            level = 1
        while level > 0:
            entry = self.frames.entry[table + (addr >> (PAGE_SHIFT + TABLE_SHIFT * level) & (PTRS_PER_TABLE - 1))]
            if not entry & PTE_PRESENT or entry & PTE_PSE:
                return -1
            table = (entry & PTE_PFN_MASK) >> 3
            level -= 1
        prefetch(cython.address(self.frames.entry[table + (addr >> PAGE_SHIFT & (PTRS_PER_TABLE - 1))]))
        return table + (addr >> PAGE_SHIFT & (PTRS_PER_TABLE - 1)) if entry & PTE_ACCESSED else -1

    def get_entry(self, mm, addr):
        """Index of the entry that maps an address, tables allocated as needed; -1 when memory is out.

        No huge page may be there: look first.
        """
        at: cython.long = self.lookup(mm, addr)
        if at < 0:
            at = self.get_entry_level(mm, addr, 0)
            if at >= 0:
                self.cached_key = mm << 40 | addr >> PMD_SHIFT
                self.cached_table = at & ~(PTRS_PER_TABLE - 1)
        return at

    def get_entry_level(self, mm, addr, last):
        """Index of an address's entry in its table of level ``last`` + 1, tables allocated; -1 when memory is out."""
        table: cython.long = self.mm[mm].pgd
        level: cython.int = self.levels - 1
        at: cython.long
        child: cython.long
        while level > last:
            at = table + (addr >> (PAGE_SHIFT + TABLE_SHIFT * level) & (PTRS_PER_TABLE - 1))
            if not self.frames.entry[at] & PTE_PRESENT:
                child = self.alloc_table(mm, level, False)
                if child < 0:
                    return -1
                self.frames.entry[at] = cython.cast(cython.ulong, child) << PAGE_SHIFT | _TABLE
                table = child << TABLE_SHIFT
            else:
                table = (self.frames.entry[at] & PTE_PFN_MASK) >> 3
            level -= 1
        return table + (addr >> (PAGE_SHIFT + TABLE_SHIFT * level) & (PTRS_PER_TABLE - 1))

    def huge_pte_offset(self, mm, addr, last):
        """Index of an address's entry in its table of level ``last`` + 1, -1 where there is none.

        Linux: mm/hugetlb.c, huge_pte_offset().
        """
        table: cython.long = self.mm[mm].pgd
        level: cython.int = self.levels - 1
        entry: cython.ulong
        while level > last:
            entry = self.frames.entry[table + (addr >> (PAGE_SHIFT + TABLE_SHIFT * level) & (PTRS_PER_TABLE - 1))]
            if not entry & PTE_PRESENT:
                return -1
            table = (entry & PTE_PFN_MASK) >> 3
            level -= 1
        return table + (addr >> (PAGE_SHIFT + TABLE_SHIFT * level) & (PTRS_PER_TABLE - 1))

    def huge_pte_alloc(self, mm: cython.long, addr: cython.long, last: cython.int):
        """The same, tables allocated; -1 when memory is out. Linux: mm/hugetlb.c, huge_pte_alloc()."""
        return self.get_entry_level(mm, addr, last)

    def forget_tables(self):
        """Tables go: nothing remembered of them may live on."""
        i: cython.int
        self.cached_key = -1
        for i in range(_UPPER):
            self.upper_key[i] = -1

    def forget(self, mm):
        """An address space goes: nothing remembered of it may live on."""
        self.forget_tables()
