# cython: language_level=3
"""Marking entries so that the next access to their pages is learnt of.

Linux: mm/mempolicy.c, change_prot_numa(); mm/mprotect.c, change_pte_range(); mm/huge_memory.c, change_huge_pmd().
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_NORMAL = cython.declare(cython.int, 1)
_KEEP = cython.declare(
    cython.ulong, PTE_PFN_MASK | PTE_ACCESSED | PTE_DIRTY | PTE_SOFT_DIRTY | PTE_PSE | PTE_NX
)  # fmt: skip


class NumaScan:
    """The marking, over ``pagetables``; ``numa`` knows what for. ``scanned``: entries looked at since it was 0."""

    def __init__(self, pagetables, numa):
        self.pagetables = pagetables
        self.numa = numa
        self.frames = self.numa.frames
        self.buddy = self.numa.buddy
        self.memcg = self.numa.memcg
        self.migration = self.numa.migration
        self.mm = self.pagetables.mmu.mm
        self.scanned = 0

    def skips(self, folio):
        """Whether the mode says that pages of its node are left alone; notes the time if it is slow memory."""
        nid: cython.int = self.buddy.zone[self.frames.zone_of(folio)].nid
        if not self.numa.mode & _NORMAL and self.numa.toptier[nid]:
            return True
        if self.numa.use_access_time(nid):
            self.numa.xchg_last_cpupid(folio, self.numa.now_ms)
        return False

    def mark_entry(self, at, cow, target):
        """Mark the entry of a page that is worth it; whether it was. Linux: change_pte_range()."""
        entry: cython.ulong = self.frames.entry[at]
        pfn: cython.long = (entry & PTE_PFN_MASK) >> PAGE_SHIFT
        folio: cython.long
        flags: cython.uint
        if not entry & PTE_PRESENT or entry & PTE_SPECIAL:
            return False
        folio = self.frames.folio_of(pfn)
        flags = self.frames.page[folio].flags
        if flags & PG_KSM or (cow and self.numa.is_shared(folio)):
            return False
        if not flags & (PG_ANON | PG_SWAPBACKED) and flags & PG_DIRTY:
            return False
        if self.buddy.zone[self.frames.zone_of(folio)].nid == target or self.skips(folio):
            return False
        self.frames.entry[at] = entry & _KEEP | PTE_GLOBAL
        return True

    def mark_pmd(self, pmd):
        """Mark the entry of a huge page that is worth it; whether it was. Linux: change_huge_pmd()."""
        entry: cython.ulong = self.frames.entry[pmd]
        if not entry & PTE_PRESENT or entry & PTE_SPECIAL or self.skips(self.numa.huge.folio_of_pmd(entry)):
            return False
        self.frames.entry[pmd] = entry & _KEEP | PTE_GLOBAL
        return True

    def change_prot_numa(self, mm: cython.long, vmflags: cython.ulong, start: cython.long, end: cython.long,
                         target: cython.int):
        """Mark the entries of [start, end) of a VMA, not those of pages on ``target``; how many."""
        addr: cython.long = start
        at: cython.long
        stop: cython.long
        marked: cython.long = 0
        huge: cython.long = 0
        cow: cython.bint = not vmflags & VMF_SHARED
        with cython.nogil:
            while addr < end:
                at = self.pagetables.seek_part(mm, addr, end)
                stop = min(self.pagetables.next_addr, end)
                if at == HUGE_PMD:
                    huge += self.mark_pmd(self.pagetables.pmd)
                    self.scanned += 1
                    addr = stop
                if at < 0:
                    addr = stop
                    continue
                self.scanned += (stop - addr) >> PAGE_SHIFT
                while addr < stop:
                    marked += self.mark_entry(at, cow, target)
                    at += 1
                    addr += PAGE_SIZE
            marked += huge * HPAGE_PMD_NR
            if marked:
                self.pagetables.mmu.tlb.flush_range(mm, start, end)
                self.memcg.count_events(self.mm[mm].memcg, NUMA_PTE_UPDATES, marked)
                self.numa.event[NUMA_HUGE_PTE_UPDATES] += huge
        return marked
