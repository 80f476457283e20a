# cython: language_level=3
"""Huge pages of files as page tables see them: a PMD entry, or entries of their own for some of the frames.

As with anonymous memory (fastpath/huge_memory.py) a folio is its record, and its block counts what maps it. But the
page cache finds each of the 512 frames, so these always have records. And no page table lies in store behind a PMD
entry: where it cannot stay it is taken away, and the next access maps again what it needs.

Linux: mm/memory.c, do_set_pmd(); mm/huge_memory.c; mm/rmap.c, folio_add_file_rmap_pmd() and its kin.

Simplified: only those of shared memory.
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403


class HugeFile:
    """Mapping and unmapping them."""

    def __init__(self, areas, folios, tlb):
        self.areas = areas
        self.frames = areas.frames
        self.buddy = areas.buddy
        self.walker = areas.walker
        self.folios = folios
        self.lru = folios.lru
        self.memcg = folios.memcg
        self.tlb = tlb
        self.mm = self.walker.mm
        self.event = self.folios.event

    def mod_pmdmapped(self, block, nr):
        """Count pages that PMD entries map, on their node only. Linux: __folio_mod_stat()."""
        self.memcg.node_stat[self.buddy.zone[self.frames.block[block].zone].nid, NR_SHMEM_PMDMAPPED] += nr

    def set_pmd(self, mm, vmflags, pmd, folio, write):
        """Map all of it by an empty PMD entry. Linux: do_set_pmd(), folio_add_file_rmap_pmd()."""
        block: cython.long = folio - self.frames.huge
        entry: cython.ulong = (
            cython.cast(cython.ulong, block) << (PAGE_SHIFT + PAGEBLOCK_ORDER) | self.areas.prot(vmflags) | PTE_PSE
        )
        if vmflags & VMF_SHARED and vmflags & VMF_WRITE:
            entry |= PTE_RW
        if write:
            entry |= PTE_DIRTY | PTE_SOFT_DIRTY
            self.folios.mark_dirty(folio)
        if self.frames.block[block].mapcount == 0:
            self.memcg.mod_folio_state(folio, NR_FILE_MAPPED, HPAGE_PMD_NR - self.frames.block[block].nr_mapped)
            self.mod_pmdmapped(block, HPAGE_PMD_NR)
        self.frames.block[block].mapcount += 1
        self.frames.page[folio].mapcount += 1
        self.mm[mm].rss_shmem += HPAGE_PMD_NR
        self.frames.entry[pmd] = entry
        self.event[THP_FILE_MAPPED] += 1

    def zap_pmd(self, mm, pmd):
        """Take a PMD entry away; what it knows of writes the page knows then. Linux: zap_huge_pmd()."""
        entry: cython.ulong = self.frames.entry[pmd]
        block: cython.long = cython.cast(cython.long, (entry & PTE_PFN_MASK) >> PAGE_SHIFT) >> PAGEBLOCK_ORDER
        folio: cython.long = self.frames.huge + block
        self.frames.entry[pmd] = 0
        if entry & PTE_DIRTY:
            self.folios.mark_dirty(folio)
        self.mm[mm].rss_shmem -= HPAGE_PMD_NR
        self.frames.page[folio].mapcount -= 1
        self.frames.block[block].mapcount -= 1
        if self.frames.block[block].mapcount == 0:
            self.memcg.mod_folio_state(folio, NR_FILE_MAPPED, self.frames.block[block].nr_mapped - HPAGE_PMD_NR)
            self.mod_pmdmapped(block, -HPAGE_PMD_NR)

    def split_pmd(self, mm, addr, pmd):
        """Take a PMD entry away because it cannot map all any more. Linux: __split_huge_pmd_locked()."""
        entry: cython.ulong = self.frames.entry[pmd]
        start: cython.long = addr & -cython.cast(cython.long, HPAGE_PMD_SIZE)
        self.event[THP_SPLIT_PMD] += 1
        if entry & PTE_ACCESSED:
            self.frames.page[
                self.frames.huge + (cython.cast(cython.long, (entry & PTE_PFN_MASK) >> PAGE_SHIFT) >> PAGEBLOCK_ORDER)
            ].flags |= PG_REFERENCED
        self.zap_pmd(mm, pmd)
        self.tlb.flush_range(mm, start, start + HPAGE_PMD_SIZE)

    def add_rmaps(self, pfn, nr):
        """One entry more maps each of ``nr`` frames of a large folio. Linux: folio_add_file_rmap_ptes()."""
        folio: cython.long = self.frames.folio_of(pfn)
        first: cython.long = 0
        i: cython.long
        for i in range(pfn, pfn + nr):
            first += self.frames.page[i].mapcount == 0
            self.frames.page[i].mapcount += 1
        self.frames.page[folio].mapcount += cython.cast(cython.int, nr)
        self.mod_mapped(folio, first)

    def remove_rmaps(self, mm, pfn, nr):
        """One entry less of an address space maps each of ``nr`` frames of a large folio.

        Linux: folio_remove_rmap_ptes().
        """
        folio: cython.long = self.frames.folio_of(pfn)
        last: cython.long = 0
        i: cython.long
        for i in range(pfn, pfn + nr):
            self.frames.page[i].mapcount -= 1
            last += self.frames.page[i].mapcount == 0
        self.mm[mm].rss_shmem -= nr
        self.frames.page[folio].mapcount -= cython.cast(cython.int, nr)
        self.mod_mapped(folio, -last)

    def mod_mapped(self, folio, nr):
        """Entries of their own map so many frames of a large folio more, or less."""
        if folio < self.frames.mthp:
            self.frames.block[folio - self.frames.huge].nr_mapped += cython.cast(cython.int, nr)
            if self.frames.block[folio - self.frames.huge].mapcount:
                return
        self.memcg.mod_folio_state(folio, NR_FILE_MAPPED, nr)
