# cython: language_level=3
"""Huge pages as page tables see them: the fault that maps one, sharing it, taking its entries apart, letting it go.

A PMD entry with PTE_PSE maps a pageblock as a whole. Behind it a page table lies in store (deposited in a chain of the
PMD table: ``mapping`` of its record is the first, ``index`` of each the next), so that the entry can be taken apart at
any time without memory: split_pmd() writes the frames' records and the entries. Then the page is mapped entry by entry
and is still one folio; the split of the folio itself is in fastpath/huge_split.py.

Counts: a folio's ``mapcount`` is of all entries, PMDs and others; its block has PMD entries (``mapcount``) and how many
frames entries of their own map (``nr_mapped``). Smaller folios (fastpath/anon_folio.py) have only the former.

Linux: mm/huge_memory.c; mm/rmap.c, __folio_add_rmap(), __folio_remove_rmap(); mm/pgtable-generic.c.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import view
from mmfs.fastpath.huge_file import HugeFile

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_TABLE = cython.declare(cython.ulong, 0x67)  # present, writable, user, accessed, dirty


class HugeMemory:
    """The huge pages of a machine.

    Policy (mm/huge_memory.py) sets ``always`` and ``madvise``: which VMAs get some; ``use_zero_page``; ``flags`` and
    ``flags_madvised``: ALLOC_* for the first try; ``slow`` and ``slow_madvised``: whether it has more to try when the
    free lists have none of the order ``wanted``. It then finds one, ``handed``, or has the fault do without. So with
    a charge above a limit: ``reclaims`` and ``reclaims_madvised`` say whether policy may make room for what is
    ``handed``. ``charged`` is its answer: 1, charged to the row ``charged_for``, or -1, there is none.

    ``stats`` int64 [order, MthpStatItem]: what hugepages-SIZEkB/stats tells. ``zero_pfn``: the huge page of zeros, -1
    while there is none; ``zero_users``: address spaces that hold it. ``queue``: by node, the heads of the lists of the
    first frames of folios that are mapped in part (PG_PARTIALLY_MAPPED); ``queued`` [nodes] int64 how many.
    """

    def __init__(self, areas, folios, tlb):
        self.areas = areas
        self.frames = areas.frames
        self.buddy = areas.buddy
        self.walker = areas.walker
        self.folios = folios
        self.lru = folios.lru
        self.memcg = folios.memcg
        self.tlb = tlb
        self.file = HugeFile(areas, folios, tlb)
        self.mm = self.walker.mm
        self.vma = view(areas.vmas)
        self.event = self.folios.event
        self.always = self.madvise = self.use_zero_page = False
        self.slow = self.slow_madvised = self.reclaims = self.reclaims_madvised = False
        self.charged = self.charged_for = 0
        self.flags = self.flags_madvised = ALLOC_WMARK_LOW
        self.handed = self.zero_pfn = -1
        self.zero_users = self.wanted = self.answered = 0
        self.page_zero = 0
        self.stats = np.zeros((HPAGE_PMD_ORDER + 1, NR_MTHP_STATS), np.int64)
        self.stat = view(self.stats)
        self.queues = np.array([self.frames.new_page_head() for _ in range(self.lru.nr_nodes)], np.int64)
        self.queue = view(self.queues)
        self.queued_counts = np.zeros(self.lru.nr_nodes, np.int64)
        self.queued = view(self.queued_counts)

    # ------------------------------------------------------------------------------ deposited tables

    def deposit(self, pmd, table):
        """Put a page table in store behind a PMD entry. Linux: pgtable_trans_huge_deposit()."""
        upper: cython.long = pmd >> TABLE_SHIFT
        self.frames.page[table].index = self.frames.page[upper].mapping
        self.frames.page[upper].mapping = cython.cast(cython.uint, table)

    def withdraw(self, pmd):
        """Take a page table out of the store. Linux: pgtable_trans_huge_withdraw()."""
        upper: cython.long = pmd >> TABLE_SHIFT
        table: cython.long = self.frames.page[upper].mapping
        self.frames.page[upper].mapping = self.frames.page[table].index
        self.frames.page[table].index = 0
        return table

    def zap_deposited(self, mm, pmd):
        """Free a page table that was in store. Linux: zap_deposited_table()."""
        self.walker.free_table(mm, self.withdraw(pmd), 1)

    # ------------------------------------------------------------------------------ the fault

    def allowed(self, mm, vma, addr):
        """Whether an anonymous fault may bring a huge page.

        Linux: thp_vma_allowable_order(), thp_vma_suitable_order().
        """
        start: cython.long = addr & -cython.cast(cython.long, HPAGE_PMD_SIZE)
        flags: cython.ulong = self.vma[vma].flags
        if start < self.vma[vma].start or start + HPAGE_PMD_SIZE > self.vma[vma].end or self.vma[vma].mapping:
            return False
        if flags & (VMF_NOHUGEPAGE | VMF_SHARED) or self.mm[mm].flags & MMF_DISABLE_THP:
            return False
        return self.always or (self.madvise and flags & VMF_HUGEPAGE != 0)

    def alloc(self, vma, index, order, madvised):
        """A free block for a fault: its first frame; -1: none, -2: policy has more to try.

        Linux: vma_alloc_folio() of a large folio, __alloc_pages().
        """
        pfn: cython.long
        flags: cython.int = self.flags_madvised if madvised else self.flags
        if self.wanted:
            pfn = self.take_handed()
            if pfn >= 0 and self.answered == order:
                return pfn
            if pfn >= 0:
                self.drop(pfn, self.answered)
            elif self.answered == order:
                return -1
        pfn = self.areas.alloc_large(vma, index, order, flags)
        if pfn < 0:
            if self.slow_madvised if madvised else self.slow:
                self.wanted = order
                return -2
            pfn = self.areas.alloc_large(vma, index, order, flags & ~(ALLOC_WMARK_LOW | ALLOC_KSWAPD))
        return pfn

    def take_handed(self):
        """What policy has found of the order ``answered``, which was wanted: its first frame, or -1."""
        pfn: cython.long = self.handed
        self.answered = self.wanted
        self.wanted = 0
        self.handed = -1
        return pfn

    def charge(self, memcg, pfn, order, madvised):
        """Charge a block that alloc() has found to a row: FAULT_DONE, _FALLBACK: it is free again, or _HUGE: policy may
        make room. Linux: mem_cgroup_charge().
        """
        answer: cython.int = self.charged
        self.charged = 0
        if answer > 0 or (answer == 0 and self.memcg.charge(memcg, cython.cast(cython.long, 1) << order)):
            return FAULT_DONE
        if answer == 0 and (self.reclaims_madvised if madvised else self.reclaims):
            self.handed = pfn
            self.wanted = order
            return FAULT_HUGE
        self.memcg.failed = -1
        self.buddy.free(pfn, order)
        return FAULT_FALLBACK

    def drop(self, pfn, order):
        """What policy has found, and charged, is not wanted in the end."""
        if self.charged > 0:
            self.memcg.unused(self.charged_for, cython.cast(cython.long, 1) << order)
        self.charged = 0
        self.buddy.free(pfn, order)

    def put_back(self):
        """drop() what a fault has not come back for."""
        if self.handed >= 0:
            self.drop(self.take_handed(), self.answered)
        self.wanted = self.charged = 0

    def count_fallback(self):
        """A fault does without a huge page."""
        self.event[THP_FAULT_FALLBACK] += 1
        self.stat[HPAGE_PMD_ORDER, MTHP_STAT_ANON_FAULT_FALLBACK] += 1
        return FAULT_FALLBACK

    def zero_fault(self, mm, vma, addr, pmd):
        """Map the huge page of zeros for a read. Linux: set_huge_zero_folio(), mm_get_huge_zero_folio()."""
        table: cython.long = self.walker.alloc_table(mm, 1, True)
        if table < 0:
            return FAULT_OOM
        if self.zero_pfn < 0:
            self.zero_pfn = self.buddy.alloc(
                HPAGE_PMD_ORDER, MIGRATE_UNMOVABLE, self.buddy.cpu_node[self.buddy.cpu], self.buddy.opt_zone_highmem,
                ALLOC_WMARK_LOW, ~cython.cast(cython.ulong, 0),
            )  # fmt: skip
            if self.zero_pfn < 0:
                self.event[THP_ZERO_PAGE_ALLOC_FAILED] += 1
                self.walker.free_table(mm, table, 1)
                return self.count_fallback()
            self.event[THP_ZERO_PAGE_ALLOC] += 1
        if not self.mm[mm].flags & MMF_HUGE_ZERO_PAGE:
            self.mm[mm].flags |= MMF_HUGE_ZERO_PAGE
            self.zero_users += 1
        self.deposit(pmd, table)
        self.frames.entry[pmd] = (
            cython.cast(cython.ulong, self.zero_pfn) << PAGE_SHIFT | self.areas.prot(self.vma[vma].flags)
            | PTE_PSE | PTE_SPECIAL
        )
        return FAULT_DONE

    def fault(self, mm, vma, addr, pmd, write):
        """First access to 2 MB of anonymous memory: FAULT_DONE, _OOM, _HUGE (policy must look), or _FALLBACK.

        ``pmd`` is the index of the empty PMD entry. Linux: do_huge_pmd_anonymous_page().
        """
        start: cython.long = addr & -cython.cast(cython.long, HPAGE_PMD_SIZE)
        index: cython.long = self.vma[vma].pgoff + ((start - self.vma[vma].start) >> PAGE_SHIFT)
        flags: cython.ulong = self.vma[vma].flags
        memcg: cython.long = self.mm[mm].memcg
        pfn: cython.long
        table: cython.long
        result: cython.int
        if not write and self.use_zero_page:
            return self.zero_fault(mm, vma, addr, pmd)
        pfn = self.alloc(vma, index, HPAGE_PMD_ORDER, flags & VMF_HUGEPAGE != 0)
        if pfn == -2:
            return FAULT_HUGE
        if pfn < 0:
            return self.count_fallback()
        result = self.charge(memcg, pfn, HPAGE_PMD_ORDER, flags & VMF_HUGEPAGE != 0)
        if result == FAULT_HUGE:
            return FAULT_HUGE
        if result == FAULT_FALLBACK:
            self.event[THP_FAULT_FALLBACK_CHARGE] += 1
            self.stat[HPAGE_PMD_ORDER, MTHP_STAT_ANON_FAULT_FALLBACK_CHARGE] += 1
            return self.count_fallback()
        table = self.walker.alloc_table(mm, 1, True)
        if table < 0:
            self.memcg.unused(memcg, HPAGE_PMD_NR)
            self.buddy.free(pfn, HPAGE_PMD_ORDER)
            return FAULT_OOM
        self.map_new(mm, vma, start, pmd, pfn, table, memcg)
        self.event[THP_FAULT_ALLOC] += 1
        self.memcg.count_memcg_events(memcg, THP_FAULT_ALLOC, 1)
        self.stat[HPAGE_PMD_ORDER, MTHP_STAT_ANON_FAULT_ALLOC] += 1
        return FAULT_DONE

    def map_new(self, mm, vma, start, pmd, pfn, table, memcg):
        """Make a charged pageblock a huge page of a VMA. Linux: folio_add_new_anon_rmap(), folio_add_lru_vma()."""
        block: cython.long = pfn >> PAGEBLOCK_ORDER
        folio: cython.long = self.frames.huge + block
        flags: cython.ulong = self.vma[vma].flags
        self.memcg.commit_charge(folio, memcg)
        self.frames.block[block].state = BLK_HUGE
        self.frames.block[block].mapcount = 1
        self.frames.block[block].nr_mapped = 0
        self.frames.page[folio].flags = PG_UPTODATE | PG_SWAPBACKED | PG_ANON | PG_ANON_EXCLUSIVE | PG_HEAD
        self.frames.page[folio].mapping = self.vma[vma].anon_vma
        self.frames.page[folio].index = self.areas.index(vma, start)
        self.frames.page[folio].private = 0
        self.frames.page[folio].mapcount = 1
        self.frames.page[folio].mlock_count = 0
        self.memcg.mod_folio_state(folio, NR_ANON_MAPPED, HPAGE_PMD_NR)
        self.memcg.mod_folio_state(folio, NR_ANON_THPS, HPAGE_PMD_NR)
        self.stat[HPAGE_PMD_ORDER, MTHP_STAT_NR_ANON] += 1
        if flags & VMF_LOCKED:
            self.folios.mlock_new(folio)
        self.lru.add(folio, not flags & (VMF_SEQ_READ | VMF_RAND_READ))
        self.deposit(pmd, table)
        self.frames.entry[pmd] = (
            cython.cast(cython.ulong, pfn) << PAGE_SHIFT | self.areas.prot(flags) | PTE_PSE | PTE_DIRTY | PTE_SOFT_DIRTY
            | (PTE_RW if flags & VMF_WRITE else 0)
        )
        self.mm[mm].rss_anon += HPAGE_PMD_NR

    def write_protect_fault(self, mm, vma, addr, pmd):
        """A write to a huge page that is mapped read-only: FAULT_DONE, or it is taken apart: FAULT_FALLBACK.

        Linux: do_huge_pmd_wp_page().
        """
        entry: cython.ulong = self.frames.entry[pmd]
        folio: cython.long = self.folio_of_pmd(entry)
        if self.maps_anon(entry):
            if (
                not self.frames.page[folio].flags & PG_ANON_EXCLUSIVE
                and self.frames.page[folio].mapcount == 1
                and not self.frames.page[folio].flags & PG_SWAPCACHE
            ):
                self.frames.page[folio].flags |= PG_ANON_EXCLUSIVE
                self.frames.page[folio].mapping = self.vma[vma].anon_vma
            if self.frames.page[folio].flags & PG_ANON_EXCLUSIVE:
                self.frames.entry[pmd] = entry | PTE_RW | PTE_ACCESSED | PTE_DIRTY | PTE_SOFT_DIRTY
                return FAULT_DONE
        self.split_pmd(mm, addr, pmd)
        return FAULT_FALLBACK

    def folio_of_pmd(self, entry):
        """The folio that a PMD entry maps."""
        return self.frames.huge + (cython.cast(cython.long, (entry & PTE_PFN_MASK) >> PAGE_SHIFT) >> PAGEBLOCK_ORDER)

    def maps_anon(self, entry):
        """Whether a PMD entry maps anonymous memory, no zeros and nothing of a file."""
        return not entry & PTE_SPECIAL and self.frames.page[self.folio_of_pmd(entry)].flags & PG_ANON != 0

    def maps_file(self, entry):
        """Whether a PMD entry maps a huge page of a file."""
        return not entry & PTE_SPECIAL and self.frames.page[self.folio_of_pmd(entry)].flags & PG_ANON == 0

    # ------------------------------------------------------------------------------ taking the entry apart

    def write_frames(self, block):
        """Write the records of a huge page's frames, which nothing maps singly yet."""
        folio: cython.long = self.frames.huge + block
        first: cython.long = block << PAGEBLOCK_ORDER
        i: cython.long
        for i in range(HPAGE_PMD_NR):
            self.frames.page[first + i].flags = PG_UPTODATE | PG_SWAPBACKED | PG_ANON | PG_TAIL
            self.frames.page[first + i].mapping = self.frames.page[folio].mapping
            self.frames.page[first + i].index = cython.cast(
                cython.uint, (cython.cast(cython.ulong, self.frames.page[folio].index) + i) & INDEX_MASK
            )
            self.frames.page[first + i].private = 0
            self.frames.page[first + i].mapcount = 0
            self.frames.page[first + i].memcg = 0
            self.frames.page[first + i].mlock_count = HPAGE_PMD_ORDER
        self.frames.block[block].state = BLK_SPLIT

    def split_pmd(self, mm, addr, pmd):
        """Have a table in place of a PMD entry, or none if it is a file's. Linux: __split_huge_pmd_locked()."""
        entry: cython.ulong = self.frames.entry[pmd]
        bits: cython.ulong = entry & ~cython.cast(cython.ulong, PTE_PFN_MASK | PTE_PSE)
        first: cython.long = (entry & PTE_PFN_MASK) >> PAGE_SHIFT
        start: cython.long = addr & -cython.cast(cython.long, HPAGE_PMD_SIZE)
        table: cython.long
        base: cython.long
        i: cython.long
        if self.maps_file(entry):
            self.file.split_pmd(mm, addr, pmd)
            return
        table = self.withdraw(pmd)
        base = table << TABLE_SHIFT
        self.event[THP_SPLIT_PMD] += 1
        for i in range(HPAGE_PMD_NR):
            if entry & PTE_SPECIAL:
                self.frames.entry[base + i] = cython.cast(cython.ulong, self.page_zero) << PAGE_SHIFT | bits
            else:
                self.frames.entry[base + i] = cython.cast(cython.ulong, first + i) << PAGE_SHIFT | bits
        if not entry & PTE_SPECIAL:
            self.split_rmap(first >> PAGEBLOCK_ORDER, entry)
        self.frames.entry[pmd] = cython.cast(cython.ulong, table) << PAGE_SHIFT | _TABLE
        self.tlb.flush_range(mm, start, start + HPAGE_PMD_SIZE)

    def split_rmap(self, block, entry):
        """A PMD entry of a huge page gives way to entries of all its frames. Linux: folio_add_anon_rmap_ptes()."""
        folio: cython.long = self.frames.huge + block
        first: cython.long = block << PAGEBLOCK_ORDER
        exclusive: cython.uint = self.frames.page[folio].flags & PG_ANON_EXCLUSIVE
        i: cython.long
        if self.frames.block[block].state == BLK_HUGE:
            self.write_frames(block)
        if entry & PTE_DIRTY:
            self.frames.page[folio].flags |= PG_DIRTY
        for i in range(HPAGE_PMD_NR):
            self.frames.page[first + i].flags |= exclusive
            if self.frames.page[first + i].mapcount == 0:
                self.frames.block[block].nr_mapped += 1
            self.frames.page[first + i].mapcount += 1
        self.frames.page[folio].mapcount += HPAGE_PMD_NR - 1
        self.frames.page[folio].flags &= ~PG_ANON_EXCLUSIVE
        self.frames.block[block].mapcount -= 1
        if self.frames.block[block].mapcount == 0:
            self.memcg.mod_folio_state(folio, NR_ANON_THPS, -HPAGE_PMD_NR)

    # ------------------------------------------------------------------------------ sharing, moving, protecting

    def copy_pmd(self, dst, src, addr, pmd):
        """Share a huge page, or that of zeros, with a child, which faults in what is of a file. False when memory is
        out. Linux: copy_huge_pmd()."""
        to: cython.long
        table: cython.long
        entry: cython.ulong
        folio: cython.long
        if self.maps_file(self.frames.entry[pmd]):
            return True
        to = self.walker.get_entry_level(dst, addr, 1)
        if to < 0:
            return False
        table = self.walker.alloc_table(dst, 1, True)
        if table < 0:
            return False
        entry = self.frames.entry[pmd]
        if entry & PTE_SPECIAL:
            if not self.mm[dst].flags & MMF_HUGE_ZERO_PAGE:
                self.mm[dst].flags |= MMF_HUGE_ZERO_PAGE
                self.zero_users += 1
        else:
            folio = self.folio_of_pmd(entry)
            self.frames.page[folio].mapcount += 1
            self.frames.page[folio].flags &= ~PG_ANON_EXCLUSIVE
            self.frames.block[folio - self.frames.huge].mapcount += 1
            self.mm[dst].rss_anon += HPAGE_PMD_NR
        self.deposit(to, table)
        entry &= ~cython.cast(cython.ulong, PTE_RW)
        self.frames.entry[pmd] = entry
        self.frames.entry[to] = entry & ~cython.cast(cython.ulong, PTE_ACCESSED)
        return True

    def move_pmd(self, mm, pmd, new):
        """Move a huge page's entry to another address; False: its entry there is taken. Linux: move_huge_pmd()."""
        to: cython.long = self.walker.get_entry_level(mm, new, 1)
        if to < 0 or self.frames.entry[to] != 0:
            return False
        if not self.maps_file(self.frames.entry[pmd]):
            self.deposit(to, self.withdraw(pmd))
        self.frames.entry[to] = self.frames.entry[pmd] | PTE_SOFT_DIRTY
        self.frames.entry[pmd] = 0
        return True

    def protect_pmd(self, vmflags, pmd):
        """Give a huge page's entry the protection of these VMA flags. Linux: change_huge_pmd()."""
        entry: cython.ulong = self.frames.entry[pmd]
        keep: cython.ulong = PTE_PFN_MASK | PTE_PSE | PTE_ACCESSED | PTE_DIRTY | PTE_SOFT_DIRTY | PTE_SPECIAL
        bits: cython.ulong = self.areas.prot(vmflags) & ~cython.cast(cython.ulong, PTE_ACCESSED)
        writable: cython.bint = entry & PTE_RW != 0
        if self.maps_file(entry):
            writable = vmflags & VMF_SHARED != 0
        elif vmflags & VMF_WRITE and not entry & PTE_SPECIAL:
            writable |= self.frames.page[self.folio_of_pmd(entry)].flags & PG_ANON_EXCLUSIVE != 0
        self.frames.entry[pmd] = entry & keep | bits | (PTE_RW if writable and vmflags & VMF_WRITE else 0)

    # ------------------------------------------------------------------------------ letting go

    def zap_pmd(self, mm, vmflags, pmd):
        """Unmap a huge page. Linux: zap_huge_pmd(), folio_remove_rmap_pmd()."""
        entry: cython.ulong = self.frames.entry[pmd]
        folio: cython.long = self.folio_of_pmd(entry)
        block: cython.long = folio - self.frames.huge
        if vmflags & VMF_LOCKED and not entry & PTE_SPECIAL:
            self.folios.munlock_folio(folio)
        if self.maps_file(entry):
            self.file.zap_pmd(mm, pmd)
            return
        self.frames.entry[pmd] = 0
        self.zap_deposited(mm, pmd)
        if entry & PTE_SPECIAL:
            return
        self.mm[mm].rss_anon -= HPAGE_PMD_NR
        self.frames.page[folio].mapcount -= 1
        self.frames.block[block].mapcount -= 1
        if self.frames.block[block].mapcount == 0:
            self.memcg.mod_folio_state(folio, NR_ANON_THPS, -HPAGE_PMD_NR)
            self.memcg.mod_folio_state(folio, NR_ANON_MAPPED, self.frames.block[block].nr_mapped - HPAGE_PMD_NR)
            if 0 < self.frames.block[block].nr_mapped < HPAGE_PMD_NR:
                self.deferred_split(folio)
        if self.frames.page[folio].mapcount == 0:
            self.free(folio)

    def add_rmap(self, pfn):
        """One entry more maps a frame of a large folio. Linux: folio_try_dup_anon_rmap_pte()."""
        self.frames.page[pfn].mapcount += 1
        self.frames.page[self.frames.folio_of(pfn)].mapcount += 1

    def add_rmaps(self, pfn, nr, exclusive):
        """One entry more maps each of ``nr`` frames of a large folio that no PMD entry maps.

        Linux: folio_add_anon_rmap_ptes().
        """
        folio: cython.long = self.frames.folio_of(pfn)
        first: cython.long = 0
        i: cython.long
        for i in range(pfn, pfn + nr):
            first += self.frames.page[i].mapcount == 0
            self.add_rmap(i)
            if exclusive:
                self.frames.page[i].flags |= PG_ANON_EXCLUSIVE
        if folio < self.frames.mthp:
            self.frames.block[pfn >> PAGEBLOCK_ORDER].nr_mapped += cython.cast(cython.int, first)
        if first:
            self.memcg.mod_folio_state(folio, NR_ANON_MAPPED, first)

    def remove_rmap(self, pfn, nr):
        """One entry less maps each of ``nr`` frames of a large folio; the last frees it if nobody else has it: the swap
        cache, or who has taken it off its list.

        Linux: folio_remove_rmap_ptes().
        """
        folio: cython.long = self.frames.folio_of(pfn)
        whole: cython.int = self.entire_mapcount(folio)
        i: cython.long
        last: cython.long = 0
        for i in range(pfn, pfn + nr):
            self.frames.page[i].mapcount -= 1
            last += self.frames.page[i].mapcount == 0
        self.frames.page[folio].mapcount -= cython.cast(cython.int, nr)
        if folio < self.frames.mthp:
            self.frames.block[folio - self.frames.huge].nr_mapped -= cython.cast(cython.int, last)
        if last and whole == 0:
            self.memcg.mod_folio_state(folio, NR_ANON_MAPPED, -last)
            if self.frames.page[folio].mapcount:
                self.deferred_split(folio)
        if self.frames.page[folio].mapcount == 0 and self.frames.page[folio].flags & (PG_SWAPCACHE | PG_LRU) == PG_LRU:
            self.free(folio)

    def entire_mapcount(self, folio):
        """How many PMD entries map a large folio. Linux: folio_entire_mapcount()."""
        return self.frames.block[folio - self.frames.huge].mapcount if folio < self.frames.mthp else 0

    def likely_mapped_shared(self, folio):
        """Whether several processes seem to map a large folio. Linux: folio_likely_mapped_shared()."""
        count: cython.int = self.frames.page[folio].mapcount
        first: cython.long = self.frames.folio_pfn(folio)
        if self.frames.block[first >> PAGEBLOCK_ORDER].state == BLK_HUGE or count <= 1:
            return count > 1
        return self.entire_mapcount(folio) or count > self.frames.nr_pages(folio) or (
            self.frames.page[first].mapcount > 1
        )

    def free(self, folio):
        """Free a large folio that nobody maps. Linux: __folio_put()."""
        order: cython.int = self.frames.folio_order(folio)
        first: cython.long = self.frames.folio_pfn(folio)
        i: cython.long
        if self.frames.page[folio].flags & PG_LRU:
            self.lru.del_page(folio)
        if self.frames.page[folio].flags & PG_MLOCKED:
            self.folios.clear_mlocked_freed(folio)
        self.forget(folio)
        self.memcg.uncharge_folio(folio)
        if self.frames.block[first >> PAGEBLOCK_ORDER].state == BLK_SPLIT:
            for i in range(first, first + (1 << order)):
                self.frames.page[i].flags = self.frames.page[i].mapping = self.frames.page[i].index = 0
                self.frames.page[i].mlock_count = 0
        self.clear(folio, order)
        self.buddy.free(first, order)

    def clear(self, folio, order):
        """The folio is no more: what its record said."""
        block: cython.long = folio - self.frames.huge
        self.stat[order, MTHP_STAT_NR_ANON] -= self.frames.page[folio].flags & PG_ANON != 0
        if order == HPAGE_PMD_ORDER:
            self.frames.block[block].state = BLK_SPLIT
            self.frames.block[block].mapcount = self.frames.block[block].nr_mapped = 0
        self.frames.page[folio].flags = self.frames.page[folio].mapping = self.frames.page[folio].index = 0
        self.frames.page[folio].private = 0
        self.frames.page[folio].mapcount = 0
        self.frames.page[folio].memcg = self.frames.page[folio].mlock_count = 0

    # ------------------------------------------------------------------------------ the queue of those mapped in part

    def deferred_split(self, folio):
        """A folio is mapped only in part: it may be split when memory is short. Linux: deferred_split_folio()."""
        order: cython.int = self.frames.folio_order(folio)
        nid: cython.int = self.buddy.zone[self.frames.zone_of(folio)].nid
        if self.frames.page[folio].flags & (PG_PARTIALLY_MAPPED | PG_SWAPCACHE):
            return
        self.frames.page[folio].flags |= PG_PARTIALLY_MAPPED
        if order == HPAGE_PMD_ORDER:
            self.event[THP_DEFERRED_SPLIT_PAGE] += 1
        self.stat[order, MTHP_STAT_SPLIT_DEFERRED] += 1
        self.stat[order, MTHP_STAT_NR_ANON_PARTIALLY_MAPPED] += 1
        self.frames.page_list_add_tail(self.queue[nid], self.frames.folio_pfn(folio))
        self.queued[nid] += 1

    def forget(self, folio):
        """A folio goes, or is split: it is not on the queue any more. Linux: __folio_unqueue_deferred_split()."""
        if self.frames.page[folio].flags & PG_PARTIALLY_MAPPED:
            self.frames.page[folio].flags &= ~cython.cast(cython.uint, PG_PARTIALLY_MAPPED)
            self.frames.page_list_del(self.frames.folio_pfn(folio))
            self.queued[self.buddy.zone[self.frames.zone_of(folio)].nid] -= 1
            self.stat[self.frames.folio_order(folio), MTHP_STAT_NR_ANON_PARTIALLY_MAPPED] -= 1

    # ------------------------------------------------------------------------------ for mm

    def put_zero(self, mm: cython.long):
        """An address space goes that held the huge page of zeros. Linux: mm_put_huge_zero_folio()."""
        if self.mm[mm].flags & MMF_HUGE_ZERO_PAGE:
            self.mm[mm].flags &= ~MMF_HUGE_ZERO_PAGE
            self.zero_users -= 1

    def shrink_zero(self):
        """Free the huge page of zeros if nobody holds it; whether it went. Linux: shrink_huge_zero_page_scan()."""
        if self.zero_pfn < 0 or self.zero_users:
            return False
        self.buddy.free(self.zero_pfn, HPAGE_PMD_ORDER)
        self.zero_pfn = -1
        return True

    def folios_queued(self, nid: cython.int):
        """The folios on a node's queue, the oldest first: for checks."""
        return [self.frames.folio_of(pfn) for pfn in self.frames.walk_pages(self.queue[nid])]
