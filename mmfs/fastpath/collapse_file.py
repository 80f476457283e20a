# cython: language_level=3
"""Collapse of shared memory: the pages of 512 slots of a file give way to one huge page.

scan() counts what the slots hold, policy (mm/khugepaged.py) decides and finds a free pageblock, and collapse() copies
into it. Page tables that mapped the pages are empty then, and go where no private pages can be in them;
collapse_pte_mapped() is for one that maps a huge page entry by entry.

Linux: mm/khugepaged.c, hpage_collapse_scan_file(), collapse_file(), collapse_pte_mapped_thp().
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403


class CollapseFile:
    """The scans. Of the slots that were scanned last: how many hold a page (``present``), or one that is swapped out
    (``swap``); ``large``: it is a huge page; ``busy``: a page cannot be taken off its list now."""

    def __init__(self, mmu):
        self.mmu = mmu
        self.shmem = mmu.shmem
        self.huge = mmu.huge
        self.rmap = mmu.rmap
        self.folios = mmu.folios
        self.frames = mmu.frames
        self.walker = mmu.walker
        self.mapping = self.folios.mapping
        self.vma = self.rmap.vma
        self.present = self.swap = 0
        self.large = self.busy = False

    def scan(self, m: cython.long, first: cython.long):
        """Count what 512 slots from ``first`` on hold. Linux: hpage_collapse_scan_file()."""
        i: cython.long
        pfn: cython.long
        self.present = self.swap = 0
        self.busy = False
        self.large = (
            self.shmem.slots.order_at(m, first) == HPAGE_PMD_ORDER and self.folios.lookup(m, first) >= 0
        )
        for i in range(first, min(first + HPAGE_PMD_NR, self.mapping[m].slots)):
            pfn = self.folios.lookup(m, i)
            if pfn >= 0:
                self.present += 1
                self.busy |= (
                    self.frames.page[self.frames.folio_of(pfn)].flags
                    & (PG_LRU | PG_MLOCKED | PG_HWPOISON | PG_WRITEBACK) != PG_LRU
                )
            elif self.folios.slot[self.mapping[m].base + i] & SLOT_SWAP:
                self.swap += 1

    def unmap(self, m, first):
        """Take what the slots hold out of all page tables. False: a locked VMA maps it. Linux: try_to_unmap()."""
        i: cython.long
        pfn: cython.long
        for i in range(first, first + HPAGE_PMD_NR):
            pfn = self.folios.lookup(m, i)
            if pfn < 0 or not self.frames.page[pfn].mapcount:
                continue
            if self.frames.page[pfn].flags & PG_TAIL:
                if not self.shmem.unmap(self.frames.folio_of(pfn), False):
                    return False
            elif not self.rmap.try_to_unmap(pfn):
                return False
        return True

    def remove(self, m, index):
        """Take what is in a slot, if it is a page, or the folio that it is part of, away. Linux: collapse_file()."""
        pfn: cython.long = self.folios.lookup(m, index)
        if pfn < 0:
            return
        if self.frames.page[pfn].flags & PG_TAIL:
            pfn = self.frames.folio_of(pfn)
            self.shmem.slots.remove(pfn, 0)
            self.huge.free(pfn)
        else:
            self.folios.cache_remove(pfn, 0)
            self.folios.free_page(pfn)

    def collapse(self, m: cython.long, first: cython.long, new: cython.long, memcg: cython.long):
        """Have a charged pageblock in place of what the slots hold, none of it swapped out; False: it must stay.

        Linux: collapse_file(), retract_page_tables().
        """
        i: cython.long
        link: cython.long
        vma: cython.long
        addr: cython.long
        aligned: cython.bint
        if not self.unmap(m, first):
            return False
        for i in range(first, first + HPAGE_PMD_NR):
            self.remove(m, i)
        self.shmem.add_new(m, first, new, HPAGE_PMD_ORDER, memcg, False)
        self.frames.page[self.frames.folio_of(new)].flags |= PG_DIRTY
        self.mmu.memcg.count_memcg_events(memcg, THP_COLLAPSE_ALLOC, 1)
        link = self.rmap.first(self.frames.folio_of(new))
        while link:
            vma = self.rmap.chain[link].vma
            link = self.rmap.chain[link].nxt
            addr = self.vma[vma].start + ((first - self.vma[vma].pgoff) << PAGE_SHIFT)
            aligned = addr & (HPAGE_PMD_SIZE - 1) == 0 and self.shmem.suits(vma, addr, HPAGE_PMD_ORDER)
            if self.vma[vma].anon_vma == 0 and aligned:
                self.retract(self.vma[vma].mm, addr)
        return True

    def retract(self, mm, addr):
        """Take away the page table of 2 MB if there is one and it is empty. Linux: pmdp_collapse_flush()."""
        pmd: cython.long = self.walker.huge_pte_offset(mm, addr, 1)
        table: cython.long
        i: cython.long
        if pmd < 0 or not self.frames.entry[pmd] & PTE_PRESENT or self.frames.entry[pmd] & PTE_PSE:
            return
        table = (self.frames.entry[pmd] & PTE_PFN_MASK) >> PAGE_SHIFT
        for i in range(table << TABLE_SHIFT, (table + 1) << TABLE_SHIFT):
            if self.frames.entry[i]:
                return
        self.frames.entry[pmd] = 0
        self.walker.forget_tables()
        self.walker.free_table(mm, table, 1)

    def collapse_pte_mapped(self, vma: cython.long, addr: cython.long, install: cython.bint):
        """Take away the page table that maps the huge page of a file entry by entry, and ``install`` a PMD entry.

        FAULT_DONE; FAULT_HUGE: there is one already; FAULT_FALLBACK: the table maps other things; FAULT_OOM.
        Linux: collapse_pte_mapped_thp().
        """
        mm: cython.long = self.vma[vma].mm
        m: cython.long = self.vma[vma].mapping
        pfn: cython.long = self.folios.lookup(m, self.vma[vma].pgoff + ((addr - self.vma[vma].start) >> PAGE_SHIFT))
        pmd: cython.long = self.walker.huge_pte_offset(mm, addr, 1)
        entry: cython.ulong = self.frames.entry[pmd] if pmd >= 0 else 0
        at: cython.long = (entry & PTE_PFN_MASK) >> PAGE_SHIFT << TABLE_SHIFT
        i: cython.long
        if entry & PTE_PSE:
            return FAULT_HUGE
        if entry & PTE_PRESENT:
            for i in range(HPAGE_PMD_NR):
                entry = self.frames.entry[at + i]
                if entry and (
                    not entry & PTE_PRESENT or cython.cast(cython.long, (entry & PTE_PFN_MASK) >> PAGE_SHIFT) != pfn + i
                ):
                    return FAULT_FALLBACK
            for i in range(HPAGE_PMD_NR):
                if self.frames.entry[at + i]:
                    self.frames.entry[at + i] = 0
                    self.shmem.file.remove_rmaps(mm, pfn + i, 1)
            self.mmu.tlb.flush_range(mm, addr, addr + HPAGE_PMD_SIZE)
            self.retract(mm, addr)
        if install:
            pmd = self.walker.get_entry_level(mm, addr, 1)
            if pmd < 0:
                return FAULT_OOM
            self.shmem.file.set_pmd(mm, self.vma[vma].flags, pmd, self.frames.folio_of(pfn), False)
        return FAULT_DONE
