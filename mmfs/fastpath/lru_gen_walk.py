# cython: language_level=3
"""The aging's way through page tables: what was used since it came by last is of the youngest generation.

A walk goes table by table through the VMAs of an address space. It skips tables whose upper entry was not used (the
hardware marks these too) and those that held few used entries last time: two Bloom filters a lruvec remember which
tables are worth it, one is read while the other is filled for the next walk. Eviction helps: when it finds a page in
use it looks at the entries around it (``look_around``).

``stats`` [lruvec, 4] int64: entries seen, entries used, tables found in the filter, tables added to it.

Linux: mm/vmscan.c, walk_mm() and below, lru_gen_look_around(), test_bloom_filter().
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_FILTER_SHIFT = cython.declare(cython.int, 15)
_GOLDEN_RATIO = cython.declare(cython.ulong, 0x61C8864680B583EB)
_PAGE_OFFSET = cython.declare(cython.ulong, 0xFFFF888000000000)
_WORD = cython.declare(cython.ulong, 0xFFFFFFFFFFFFFFFF)
_TABLE_SPAN = cython.declare(cython.long, HPAGE_PMD_SIZE)
_AHEAD = cython.declare(cython.long, 16)  # entries for which the host's cache is told what is coming
_PTES_PER_CACHELINE = cython.declare(cython.long, 8)
_TOTAL = cython.declare(cython.int, 0)
_YOUNG = cython.declare(cython.int, 1)
_FOUND = cython.declare(cython.int, 2)
_ADDED = cython.declare(cython.int, 3)


class LruGenWalk:
    """Walks for all lruvecs. ``clear_pmd_young`` is the cap LRU_GEN_NONLEAF_YOUNG; ``batching``: whoever reclaims has
    room to note promotions (a struct lru_gen_mm_walk), else what ``look_around()`` finds is activated page by page.
    """

    def __init__(self, areas, folios):
        self.frames = folios.frames
        self.walker = areas.walker
        self.folios = folios
        self.lru = folios.lru
        self.lru_gen = self.lru.gen
        self.mm = self.walker.mm
        self.vma = view(areas.vmas)
        nr_lruvecs = self.lru_gen.nr_lruvecs
        self.filter = view(lazy_array(nr_lruvecs * 2 << _FILTER_SHIFT, np.uint8).reshape(nr_lruvecs * 2, -1))
        self.filter_used = view(lazy_array(nr_lruvecs * 2, np.int32))
        self.stats = lazy_array(nr_lruvecs * 4, np.int64).reshape(nr_lruvecs, 4)
        self.stat = view(self.stats)
        self.clear_pmd_young = True
        self.batching = False

    # ------------------------------------------------------------------------------ Bloom filters

    def key(self, pmd, number):
        """One of the two bits of a table, by where its upper entry stands. Linux: get_item_key()."""
        where: cython.ulong = _PAGE_OFFSET + (cython.cast(cython.ulong, pmd) << 3)
        bits: cython.ulong = (where * _GOLDEN_RATIO & _WORD) >> (64 - 2 * _FILTER_SHIFT)
        if number:
            bits >>= _FILTER_SHIFT
        return cython.cast(cython.long, bits & ((1 << _FILTER_SHIFT) - 1))

    def in_filter(self, lruvec, seq, pmd):
        """Whether a table is worth a visit; all are while there is no filter. Linux: test_bloom_filter()."""
        row: cython.long = lruvec * 2 + (seq & 1)
        return not self.filter_used[row] or (
            self.filter[row, self.key(pmd, 0)] != 0 and self.filter[row, self.key(pmd, 1)] != 0
        )

    def update_filter(self, lruvec, seq, pmd):
        """Remember a table for the walk of a generation. Linux: update_bloom_filter()."""
        row: cython.long = lruvec * 2 + (seq & 1)
        if self.filter_used[row]:
            self.filter[row, self.key(pmd, 0)] = 1
            self.filter[row, self.key(pmd, 1)] = 1

    def reset_filter(self, lruvec: cython.long, seq: cython.long):
        """Forget all tables of a generation's walk. Linux: reset_bloom_filter()."""
        row: cython.long = lruvec * 2 + (seq & 1)
        i: cython.Py_ssize_t
        self.filter_used[row] = 1
        for i in range(1 << _FILTER_SHIFT):
            self.filter[row, i] = 0

    # ------------------------------------------------------------------------------ entries

    def use_entry(self, lruvec, at, can_swap):
        """Clear an entry's accessed bit. The folio it maps, -1 if it was not used or is not of this lruvec."""
        entry: cython.ulong = self.frames.entry[at]
        pfn: cython.long = (entry & PTE_PFN_MASK) >> PAGE_SHIFT
        flags: cython.uint
        if not entry & (PTE_PRESENT | PTE_GLOBAL) or entry & PTE_SPECIAL or not entry & PTE_ACCESSED:
            return -1
        pfn = self.frames.folio_of(pfn)
        if self.lru.lruvec_of(pfn) != lruvec:
            return -1
        flags = self.frames.page[pfn].flags
        if flags & PG_SWAPBACKED and not can_swap:
            return -1
        self.frames.entry[at] = entry & ~cython.cast(cython.ulong, PTE_ACCESSED)
        if (
            entry & PTE_DIRTY
            and not flags & PG_DIRTY
            and not (flags & PG_ANON and flags & PG_SWAPBACKED and not flags & PG_SWAPCACHE)
        ):
            self.folios.mark_dirty(pfn)
        return pfn

    def prefetch(self, at):
        """Have the host fetch the record of the page that an entry maps, if it was used: it will be looked at soon."""
        if self.frames.entry[at] & (PTE_PRESENT | PTE_ACCESSED) == PTE_PRESENT | PTE_ACCESSED:
            self.frames.prefetch_page(cython.cast(cython.long, (self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT))

    def seek_pmd(self, mm, addr):
        """Index of the upper entry of an address's table, -1 where there is none; ``next_addr`` is where it ends."""
        table: cython.long = self.mm[mm].pgd
        level: cython.int = self.walker.levels - 1
        shift: cython.int
        at: cython.long
        while True:
            shift = PAGE_SHIFT + TABLE_SHIFT * level
            at = table + (addr >> shift & (PTRS_PER_TABLE - 1))
            self.next_addr = ((addr >> shift) + 1) << shift
            if level == 1 and self.frames.entry[at] & PTE_PSE:
                return at
            if not self.frames.entry[at] & PTE_PRESENT:
                return -1
            if level == 1:
                return at
            table = (self.frames.entry[at] & PTE_PFN_MASK) >> 3
            level -= 1

    def walk_huge(self, lruvec, pmd, can_swap):
        """A PMD entry that maps a huge page. Linux: walk_pmd_range_locked()."""
        entry: cython.ulong = self.frames.entry[pmd]
        folio: cython.long
        self.stat[lruvec, _TOTAL] += 1
        if entry & PTE_SPECIAL or not can_swap or not entry & PTE_ACCESSED:
            return
        folio = self.frames.huge + (cython.cast(cython.long, (entry & PTE_PFN_MASK) >> PAGE_SHIFT) >> PAGEBLOCK_ORDER)
        if self.lru.lruvec_of(folio) != lruvec:
            return
        self.frames.entry[pmd] = entry & ~cython.cast(cython.ulong, PTE_ACCESSED)
        self.stat[lruvec, _YOUNG] += 1
        self.lru_gen.update_gen(lruvec, folio, self.lru_gen.seq[lruvec, 0] & 3)

    # ------------------------------------------------------------------------------ the walk

    def walk_mm(self, mm: cython.long, lruvec: cython.long, ranges: cython.long[:, ::1], seq: cython.long,
                can_swap: cython.bint, force_scan: cython.bint):
        """Find what was used in the address ranges [n, 2] of an address space, in order. Linux: walk_mm().

        Returns how many entries were looked at.
        """
        gen: cython.int = self.lru_gen.seq[lruvec, 0] & 3
        n: cython.Py_ssize_t = ranges.shape[0]
        i: cython.Py_ssize_t = 0
        addr: cython.long = 0
        stop: cython.long
        table_end: cython.long
        pmd: cython.long
        at: cython.long
        pfn: cython.long
        total: cython.long
        young: cython.long
        looked: cython.long = 0
        self.walker.cached_key = -1  # the next access marks the upper entry again
        with cython.nogil:
            while i < n:
                addr = max(addr, ranges[i, 0])
                if addr >= ranges[i, 1]:
                    i += 1
                    continue
                pmd = self.seek_pmd(mm, addr)
                table_end = self.next_addr
                if pmd < 0:
                    self.stat[lruvec, _TOTAL] += 1
                    addr = table_end
                    continue
                if self.frames.entry[pmd] & PTE_PSE:
                    self.walk_huge(lruvec, pmd, can_swap)
                    looked += 1
                    addr = table_end
                    continue
                if not force_scan and self.clear_pmd_young:
                    if not self.frames.entry[pmd] & PTE_ACCESSED:
                        addr = table_end
                        continue
                    self.frames.entry[pmd] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
                if not force_scan and not self.in_filter(lruvec, seq, pmd):
                    addr = table_end
                    continue
                self.stat[lruvec, _FOUND] += 1
                total = 0
                young = 0
                while i < n and ranges[i, 0] < table_end:
                    addr = max(addr, ranges[i, 0])
                    stop = min(ranges[i, 1], table_end)
                    at = (self.frames.entry[pmd] & PTE_PFN_MASK) >> PAGE_SHIFT << TABLE_SHIFT
                    at += addr >> PAGE_SHIFT & (PTRS_PER_TABLE - 1)
                    while addr < stop:
                        total += 1
                        if addr + _AHEAD * PAGE_SIZE < stop:
                            self.prefetch(at + _AHEAD)
                        if self.frames.entry[at] & PTE_ACCESSED:  # as most are not
                            pfn = self.use_entry(lruvec, at, can_swap)
                            if pfn >= 0:
                                young += 1
                                self.lru_gen.update_gen(lruvec, pfn, gen)
                        at += 1
                        addr += PAGE_SIZE
                    if ranges[i, 1] > table_end:
                        break
                    i += 1
                looked += total
                self.stat[lruvec, _TOTAL] += total
                self.stat[lruvec, _YOUNG] += young
                if young * _PTES_PER_CACHELINE >= total:
                    self.stat[lruvec, _ADDED] += 1
                    self.update_filter(lruvec, seq + 1, pmd)
                addr = table_end
        return looked

    def look_around(self, at, addr, vma, pfn):
        """Eviction has found the page at an entry; whether it is in use. If so its neighbours are promoted.

        ``at`` is the entry's index, ``vma`` the row of its VMA. Linux: lru_gen_look_around().
        """
        lruvec: cython.long = self.lru.lruvec_of(pfn)
        gen: cython.int = self.lru_gen.seq[lruvec, 0] & 3
        batch: cython.long = cython.cast(cython.long, MIN_LRU_BATCH) * PAGE_SIZE
        start: cython.long = max(addr & -_TABLE_SPAN, self.vma[vma].start)
        end: cython.long = min((addr & -_TABLE_SPAN) + _TABLE_SPAN, self.vma[vma].end)
        young: cython.long = 1
        looked: cython.long = 0
        pmd: cython.long
        other: cython.long
        old: cython.int
        can_swap: cython.bint = (self.frames.page[pfn].flags & PG_SWAPBACKED) != 0
        if not self.frames.entry[at] & PTE_ACCESSED:
            return False
        self.frames.entry[at] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
        if end - start == PAGE_SIZE:
            return True
        if end - start > batch:
            if addr - start < batch // 2:
                end = start + batch
            elif end - addr < batch // 2:
                start = end - batch
            else:
                start = addr - batch // 2
                end = addr + batch // 2
        pmd = self.seek_pmd(self.vma[vma].mm, addr)
        at -= (addr - start) >> PAGE_SHIFT
        while start < end:
            looked += 1
            if start + _AHEAD * PAGE_SIZE < end:
                self.prefetch(at + _AHEAD)
            other = self.use_entry(lruvec, at, can_swap) if self.frames.entry[at] & PTE_ACCESSED else -1
            if other >= 0:
                young += 1
                if self.batching:
                    self.lru_gen.update_gen(lruvec, other, gen)
                else:
                    old = self.lru_gen.gen_of(other)
                    if old < 0:
                        self.frames.page[other].flags |= PG_REFERENCED
                    elif old != gen:
                        self.lru_gen.clear_refs(other)
                        self.lru.activate(other)
            at += 1
            start += PAGE_SIZE
        if pmd >= 0 and young * _PTES_PER_CACHELINE >= looked:
            self.update_filter(lruvec, self.lru_gen.seq[lruvec, 0], pmd)
        return True
