# cython: language_level=3
"""Looking at the page tables of an address range: the counts of smaps and numa_maps, raw entries, and clear_refs.

Linux: fs/proc/task_mmu.c.
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAPPED = cython.declare(cython.ulong, 0x101)  # present, or PROT_NONE with the page kept
_PSS_SHIFT = cython.declare(cython.int, 12)


class TaskMmu:
    """The walks, with ``tables`` to descend by."""

    def __init__(self, tables):
        self.tables = tables
        self.mmu = tables.mmu
        self.frames = tables.frames

    def read_entries(self, mm: cython.long, start: cython.long, out: cython.ulong[::1]):
        """The raw entries of consecutive pages from ``start``: 0 where there is no table."""
        addr: cython.long = start
        n: cython.Py_ssize_t = out.shape[0]
        i: cython.Py_ssize_t = 0
        at: cython.long
        entry: cython.ulong = 0
        while i < n:
            at = self.tables.seek(mm, addr)
            if at == HUGE_PMD:
                entry = self.frames.entry[self.tables.pmd] & ~cython.cast(cython.ulong, PTE_PSE)
            while i < n and addr < self.tables.next_addr:
                if at >= 0:
                    out[i] = self.frames.entry[at]
                    at += 1
                elif at == HUGE_PMD:
                    out[i] = entry + (addr & (HPAGE_PMD_SIZE - 1) & PAGE_MASK)
                else:
                    out[i] = 0
                addr += PAGE_SIZE
                i += 1

    def count_entry(self, entry, locked, out):
        """Add one mapped page to the counts of smaps. Linux: smaps_account()."""
        pfn: cython.long = (entry & PTE_PFN_MASK) >> PAGE_SHIFT
        folio: cython.long = self.frames.folio_of(pfn)
        mapcount: cython.long = self.frames.page[pfn].mapcount
        pss: cython.long
        dirty: cython.bint = (entry & PTE_DIRTY) != 0 or (self.frames.page[folio].flags & PG_DIRTY) != 0
        if folio != pfn:
            mapcount += self.frames.block[pfn >> PAGEBLOCK_ORDER].mapcount
        pss = (cython.cast(cython.long, PAGE_SIZE) << _PSS_SHIFT) // mapcount
        out[SMAPS_RSS] += 1
        out[SMAPS_PSS] += pss
        if dirty:
            out[SMAPS_PSS_DIRTY] += pss
        if entry & PTE_ACCESSED or self.frames.page[folio].flags & (PG_REFERENCED | PG_YOUNG):
            out[SMAPS_REFERENCED] += 1
        if self.frames.page[pfn].flags & PG_ANON:
            out[SMAPS_ANONYMOUS] += 1
            out[SMAPS_PSS_ANON] += pss
            if not dirty and not self.frames.page[pfn].flags & PG_SWAPBACKED:
                out[SMAPS_LAZYFREE] += 1
        elif self.frames.page[pfn].flags & PG_SWAPBACKED:
            out[SMAPS_SHMEM] += 1
            out[SMAPS_PSS_SHMEM] += pss
        else:
            out[SMAPS_FILE] += 1
            out[SMAPS_PSS_FILE] += pss
        if mapcount > 1:
            out[SMAPS_SHARED_DIRTY if dirty else SMAPS_SHARED_CLEAN] += 1
        else:
            out[SMAPS_PRIVATE_DIRTY if dirty else SMAPS_PRIVATE_CLEAN] += 1
        if locked:
            out[SMAPS_LOCKED] += pss

    def count_huge(self, entry, out):
        """Add a huge page to the counts of smaps. Linux: smaps_pmd_entry()."""
        folio: cython.long = self.mmu.huge.folio_of_pmd(entry)
        block: cython.long = folio - self.frames.huge
        first: cython.long = block << PAGEBLOCK_ORDER
        dirty: cython.bint = (entry & PTE_DIRTY) != 0 or (self.frames.page[folio].flags & PG_DIRTY) != 0
        mapcount: cython.long
        pss: cython.long
        i: cython.long
        anon: cython.bint
        if entry & PTE_SPECIAL:
            return
        out[SMAPS_RSS] += HPAGE_PMD_NR
        anon = self.frames.page[folio].flags & PG_ANON != 0
        out[SMAPS_ANONYMOUS if anon else SMAPS_SHMEM] += HPAGE_PMD_NR
        out[SMAPS_ANON_HUGE if anon else SMAPS_SHMEM_HUGE] += HPAGE_PMD_NR
        if entry & PTE_ACCESSED or self.frames.page[folio].flags & (PG_REFERENCED | PG_YOUNG):
            out[SMAPS_REFERENCED] += HPAGE_PMD_NR
        for i in range(HPAGE_PMD_NR):
            mapcount = self.frames.block[block].mapcount
            if self.frames.block[block].state == BLK_SPLIT:
                mapcount += self.frames.page[first + i].mapcount
            pss = (cython.cast(cython.long, PAGE_SIZE) << _PSS_SHIFT) // mapcount
            out[SMAPS_PSS] += pss
            out[SMAPS_PSS_ANON if anon else SMAPS_PSS_SHMEM] += pss
            if dirty:
                out[SMAPS_PSS_DIRTY] += pss
            if mapcount > 1:
                out[SMAPS_SHARED_DIRTY if dirty else SMAPS_SHARED_CLEAN] += 1
            else:
                out[SMAPS_PRIVATE_DIRTY if dirty else SMAPS_PRIVATE_CLEAN] += 1

    def count_swapped(self, entry, out):
        """Add one swapped-out page to the counts of smaps. Linux: smaps_pte_entry()."""
        owners: cython.long = self.mmu.swap.owners(self.mmu.swap.slots.slot_of(entry))
        out[SMAPS_SWAP] += 1
        out[SMAPS_SWAP_PSS] += (cython.cast(cython.long, PAGE_SIZE) << _PSS_SHIFT) // owners

    def smaps(self, mm: cython.long, vmflags: cython.ulong, start: cython.long, end: cython.long,
              out: cython.long[::1]):
        """Add the pages that [start, end) maps to ``out`` [NR_SMAPS] int64. Linux: smaps_pte_range().

        Pages; the PSS columns and LOCKED in bytes << PAGE_SHIFT, as struct mem_size_stats keeps them.
        """
        addr: cython.long = start
        at: cython.long
        stop: cython.long
        locked: cython.bint = (vmflags & VMF_LOCKED) != 0
        while addr < end:
            at = self.tables.seek(mm, addr)
            stop = min(self.tables.next_addr, end)
            if at == HUGE_PMD:
                self.count_huge(self.frames.entry[self.tables.pmd], out)
            elif at >= 0:
                while addr < stop:
                    if self.frames.entry[at] & _MAPPED and not self.frames.entry[at] & PTE_SPECIAL:
                        self.count_entry(self.frames.entry[at], locked, out)
                    elif self.frames.entry[at] != 0 and not self.frames.entry[at] & _MAPPED:
                        self.count_swapped(self.frames.entry[at], out)
                    at += 1
                    addr += PAGE_SIZE
            addr = stop

    def count_nodes(self, mm: cython.long, start: cython.long, end: cython.long, out: cython.long[::1]):
        """Add the pages that [start, end) maps to ``out`` [nodes + 7]: per node, then anon, dirty, mapped
        by one, highest mapcount, active, in the swap cache, under writeback. Linux: gather_stats()."""
        addr: cython.long = start
        at: cython.long
        stop: cython.long
        pfn: cython.long
        while addr < end:
            at = self.tables.seek(mm, addr)
            stop = min(self.tables.next_addr, end)
            if at == HUGE_PMD and not self.frames.entry[self.tables.pmd] & PTE_SPECIAL:
                self.count_node(
                    self.mmu.huge.folio_of_pmd(self.frames.entry[self.tables.pmd]),
                    self.frames.block[(self.frames.entry[self.tables.pmd] & PTE_PFN_MASK) >> PMD_SHIFT].mapcount,
                    self.frames.entry[self.tables.pmd], out,
                )  # fmt: skip
            while at >= 0 and addr < stop:
                if self.frames.entry[at] & _MAPPED and not self.frames.entry[at] & PTE_SPECIAL:
                    pfn = (self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT
                    self.count_node(pfn, self.frames.page[pfn].mapcount, self.frames.entry[at], out)
                at += 1
                addr += PAGE_SIZE
            addr = stop

    def count_node(self, pfn, mapcount, entry, out):
        """Add a mapped folio, or a frame of one, to the counts of numa_maps. Linux: gather_stats()."""
        folio: cython.long = pfn if pfn >= self.frames.huge else self.frames.folio_of(pfn)
        flags: cython.uint = self.frames.page[folio].flags
        nr: cython.long = self.frames.nr_pages(pfn)
        n: cython.Py_ssize_t = out.shape[0] - 7
        out[self.mmu.buddy.zone[self.frames.zone_of(folio)].nid] += nr
        out[n] += nr if flags & PG_ANON else 0
        out[n + 1] += nr if flags & PG_DIRTY or entry & PTE_DIRTY else 0
        out[n + 2] += nr if mapcount == 1 else 0
        out[n + 3] = max(out[n + 3], mapcount)
        out[n + 4] += nr if flags & (PG_ACTIVE | PG_UNEVICTABLE) else 0
        out[n + 5] += nr if flags & PG_SWAPCACHE else 0
        out[n + 6] += nr if flags & PG_WRITEBACK else 0

    def clear_refs(self, mm: cython.long, start: cython.long, end: cython.long, bits: cython.ulong):
        """Clear entry bits (accessed; or soft-dirty and write) of what is mapped. Linux: clear_refs_pte_range()."""
        addr: cython.long = start
        at: cython.long
        stop: cython.long
        while addr < end:
            at = self.tables.seek(mm, addr)
            stop = min(self.tables.next_addr, end)
            if at == HUGE_PMD:
                at = self.tables.pmd
                self.frames.entry[at] &= ~bits
                if bits & PTE_ACCESSED and not self.frames.entry[at] & PTE_SPECIAL:
                    self.frames.page[self.mmu.huge.folio_of_pmd(self.frames.entry[at])].flags &= ~(
                        PG_REFERENCED | PG_YOUNG
                    )
            elif at >= 0:
                while addr < stop:
                    if self.frames.entry[at] & _MAPPED:
                        self.frames.entry[at] &= ~bits
                        if bits & PTE_ACCESSED and not self.frames.entry[at] & PTE_SPECIAL:
                            self.frames.page[
                                self.frames.folio_of((self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT)
                            ].flags &= ~(PG_REFERENCED | PG_YOUNG)
                    elif bits & PTE_SOFT_DIRTY:
                        self.frames.entry[at] &= ~cython.cast(cython.ulong, SWP_SOFT_DIRTY)
                    at += 1
                    addr += PAGE_SIZE
            addr = stop
        self.mmu.tlb.flush_mm(mm)
