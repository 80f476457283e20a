# cython: language_level=3
"""Collapse: 512 entries of a page table, with the pages that they map, give way to one huge page.

scan_pmd() counts what a table holds, policy (mm/khugepaged.py) decides and finds a free pageblock, and collapse()
copies into it.

Linux: mm/khugepaged.c, hpage_collapse_scan_pmd(), collapse_huge_page().
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAPPED = cython.declare(cython.ulong, 0x101)  # present, or PROT_NONE with the page kept


class CollapseControl:
    """The scans, with ``tables`` to descend by. Linux: struct collapse_control.

    Of the table that was scanned last: entries that map nothing or zeros (``none``), are ``swap``ped, map a page that
    others may map too (``shared``), were used (``referenced``), may be written (``writable``), map what is no
    anonymous memory (``foreign``), or a page that cannot be taken off its list now (``busy``).
    """

    def __init__(self, tables):
        self.tables = tables
        self.mmu = tables.mmu
        self.frames = tables.frames
        self.huge = tables.huge
        self.none = self.swap = self.shared = self.referenced = self.writable = self.foreign = self.busy = 0

    def count_page(self, entry):
        """Add an entry that maps a page."""
        pfn: cython.long = cython.cast(cython.long, (entry & PTE_PFN_MASK) >> PAGE_SHIFT)
        folio: cython.long = self.frames.folio_of(pfn)
        flags: cython.uint = self.frames.page[folio].flags
        mapcount: cython.long = self.frames.page[pfn].mapcount
        if folio != pfn:
            mapcount += self.frames.block[pfn >> PAGEBLOCK_ORDER].mapcount
        self.shared += mapcount > 1
        self.writable += entry & PTE_RW != 0
        self.referenced += entry & PTE_ACCESSED != 0 or flags & (PG_REFERENCED | PG_YOUNG) != 0
        self.foreign += not flags & PG_ANON
        self.busy += flags & (PG_UNEVICTABLE | PG_MLOCKED) != 0 or not flags & PG_LRU

    def scan_pmd(self, mm: cython.long, addr: cython.long):
        """Count what the table of the 2 MB at an address holds; NO_TABLE, HUGE_PMD, or the index of its first entry."""
        at: cython.long = self.tables.seek(mm, addr)
        i: cython.long
        entry: cython.ulong
        self.none = self.swap = self.shared = self.referenced = self.writable = self.foreign = self.busy = 0
        if at < 0:
            return at
        for i in range(at, at + HPAGE_PMD_NR):
            entry = self.frames.entry[i]
            if entry == 0 or entry & PTE_SPECIAL:
                self.none += 1
            elif entry & _MAPPED:
                self.count_page(entry)
            else:
                self.swap += 1
        return at

    def collapse(self, mm: cython.long, vma: cython.long, addr: cython.long, pfn: cython.long):
        """Have a charged pageblock in place of the pages of 2 MB, and of those that are not there.

        Linux: collapse_huge_page(), __collapse_huge_page_copy().
        """
        at: cython.long = self.tables.seek(mm, addr)
        pmd: cython.long = self.tables.pmd
        memcg: cython.long = self.mmu.mm[mm].memcg
        flags: cython.ulong = self.mmu.vma[vma].flags
        i: cython.long
        entry: cython.ulong
        with cython.nogil:
            self.mmu.walker.forget_tables()
            self.mmu.tlb.flush_range(mm, addr, addr + HPAGE_PMD_SIZE)
            for i in range(at, at + HPAGE_PMD_NR):
                entry = self.frames.entry[i]
                self.frames.entry[i] = 0
                if entry & PTE_SPECIAL:
                    self.mmu.rmap.ksm.unmap_zero(mm, entry)
                elif entry != 0:
                    self.mmu.unmap.unmap_page(mm, flags, cython.cast(cython.long, (entry & PTE_PFN_MASK) >> PAGE_SHIFT))
            self.frames.entry[pmd] = 0
            self.huge.map_new(mm, vma, addr, pmd, pfn, at >> TABLE_SHIFT, memcg)
            self.mmu.memcg.count_memcg_events(memcg, THP_COLLAPSE_ALLOC, 1)
