# cython: language_level=3
"""Folios of 4 to 256 pages for anonymous memory (multi-size THP): which size a fault gets, and how it is mapped.

A size is used where `hugepages-SIZEkB/enabled` allows it, the aligned range around the fault lies in the VMA, and
nothing is mapped in it; of several the largest that is to be had. The folio's frames are mapped by entries of their
own, as those of a huge page whose PMD entry was taken apart are, and so are counted, shared, reclaimed and let go by
fastpath/huge_memory.py and who else knows folios.

Linux: mm/memory.c, alloc_anon_folio(), do_anonymous_page(); include/linux/huge_mm.h, thp_vma_allowable_orders().

Simplified: on machines of more than 12 TB none is in the last of the memory: of 14 TB in the last 11.
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403


class AnonFolios:
    """The faults that bring such folios, into ``huge``.

    Policy (mm/huge_memory.py) sets ``always`` and ``madvise``: bit masks of the orders for all, and for VMAs that were
    advised. ``enabled``: either has a bit. ``nr``: how many pages the last fault has brought.
    """

    def __init__(self, huge):
        self.huge = huge
        self.areas = huge.areas
        self.frames = huge.frames
        self.buddy = huge.buddy
        self.lru = huge.lru
        self.memcg = huge.memcg
        self.mm = self.huge.mm
        self.vma = self.huge.vma
        self.stat = self.huge.stat
        self.always = self.madvise = 0
        self.enabled = False
        self.nr = 0

    # ------------------------------------------------------------------------------ which size

    def allowable_orders(self, mm, vma):
        """The sizes that a VMA may have, a bit an order. Linux: thp_vma_allowable_orders()."""
        flags: cython.ulong = self.vma[vma].flags
        if flags & (VMF_NOHUGEPAGE | VMF_SHARED) or self.mm[mm].flags & MMF_DISABLE_THP:
            return 0
        return self.always | (self.madvise if flags & VMF_HUGEPAGE else 0)

    def start_of(self, addr, order):
        """Where the range of this size around an address begins."""
        return addr & -(cython.cast(cython.long, PAGE_SIZE) << order)

    def suitable(self, vma, addr, order):
        """Whether that range lies in the VMA. Linux: thp_vma_suitable_order()."""
        start: cython.long = self.start_of(addr, order)
        end: cython.long = start + (cython.cast(cython.long, PAGE_SIZE) << order)
        return self.vma[vma].start <= start and end <= self.vma[vma].end

    def range_none(self, at, nr):
        """Whether so many entries map nothing. Linux: pte_range_none()."""
        i: cython.long
        for i in range(at, at + nr):
            if self.frames.entry[i]:
                return False
        return True

    def next_order(self, orders, order):
        """The largest order of a mask below this one, 0 if there is none. Linux: next_order()."""
        order -= 1
        while order and not orders >> order & 1:
            order -= 1
        return order

    def largest_order(self, orders, vma, addr, at):
        """The largest order whose range around a fault is in the VMA and maps nothing, 0 if there is none.

        ``at`` is the fault's entry.
        """
        order: cython.int = self.next_order(orders, HPAGE_PMD_ORDER)
        while order:
            if self.suitable(vma, addr, order) and self.range_none(
                at - ((addr - self.start_of(addr, order)) >> PAGE_SHIFT), cython.cast(cython.long, 1) << order
            ):
                break
            order = self.next_order(orders, order)
        return order

    # ------------------------------------------------------------------------------ the fault

    def fault(self, mm, vma, addr, at):
        """Serve a write to anonymous memory with a folio: FAULT_DONE, _FALLBACK: with a page, or _HUGE: policy must
        look. Linux: alloc_anon_folio().
        """
        orders: cython.uint = self.allowable_orders(mm, vma)
        order: cython.int = self.largest_order(orders, vma, addr, at)
        index: cython.long = self.vma[vma].pgoff + ((addr - self.vma[vma].start) >> PAGE_SHIFT)
        pfn: cython.long
        madvised: cython.bint = self.vma[vma].flags & VMF_HUGEPAGE != 0
        result: cython.int
        if self.huge.wanted and self.huge.wanted < order:  # larger ones were not to be had
            order = self.huge.wanted
        while order:
            pfn = self.huge.alloc(vma, index, order, madvised)
            if pfn == -2:
                return FAULT_HUGE
            if pfn >= 0:
                result = self.huge.charge(self.mm[mm].memcg, pfn, order, madvised)
                if result == FAULT_HUGE:
                    return FAULT_HUGE
                if result == FAULT_DONE:
                    self.map_new(mm, vma, addr, at, pfn, order)
                    return FAULT_DONE
                self.stat[order, MTHP_STAT_ANON_FAULT_FALLBACK_CHARGE] += 1
            self.stat[order, MTHP_STAT_ANON_FAULT_FALLBACK] += 1
            order = self.next_order(orders, order)
        return FAULT_FALLBACK

    def map_new(self, mm, vma, addr, at, pfn, order):
        """Make a charged block a folio of a VMA, its entries those around ``at``. Linux: do_anonymous_page()."""
        start: cython.long = self.start_of(addr, order)
        flags: cython.ulong = self.vma[vma].flags
        entry: cython.ulong = (
            cython.cast(cython.ulong, pfn) << PAGE_SHIFT | self.areas.prot(flags) | PTE_DIRTY | PTE_SOFT_DIRTY
            | (PTE_RW if flags & VMF_WRITE else 0)
        )
        i: cython.long
        self.nr = cython.cast(cython.long, 1) << order
        self.mm[mm].rss_anon += self.nr
        self.add_new(vma, start, pfn, order, self.mm[mm].memcg)
        self.stat[order, MTHP_STAT_ANON_FAULT_ALLOC] += 1
        if flags & VMF_LOCKED:
            self.huge.folios.mlock_new(self.frames.large_folio(pfn, order))
        self.lru.add(self.frames.large_folio(pfn, order), not flags & (VMF_SEQ_READ | VMF_RAND_READ))
        at -= (addr - start) >> PAGE_SHIFT
        for i in range(self.nr):
            self.frames.entry[at + i] = entry + (cython.cast(cython.ulong, i) << PAGE_SHIFT)

    def add_new(self, vma, start, pfn, order, memcg):
        """Write the records of a folio that a VMA has at an address, each frame mapped once by an entry of its own.

        Linux: folio_add_new_anon_rmap().
        """
        folio: cython.long = self.frames.large_folio(pfn, order)
        nr: cython.long = cython.cast(cython.long, 1) << order
        i: cython.long
        for i in range(nr):
            self.frames.page[pfn + i].flags = PG_UPTODATE | PG_SWAPBACKED | PG_ANON | PG_TAIL | PG_ANON_EXCLUSIVE
            self.frames.page[pfn + i].mapping = self.vma[vma].anon_vma
            self.frames.page[pfn + i].index = self.areas.index(vma, start + i * PAGE_SIZE)
            self.frames.page[pfn + i].private = 0
            self.frames.page[pfn + i].mapcount = 1
            self.frames.page[pfn + i].memcg = 0
            self.frames.page[pfn + i].mlock_count = cython.cast(cython.ushort, order)
        self.frames.page[folio].flags = PG_UPTODATE | PG_SWAPBACKED | PG_ANON | PG_HEAD
        self.frames.page[folio].mapping = self.vma[vma].anon_vma
        self.frames.page[folio].index = self.frames.page[pfn].index
        self.frames.page[folio].private = 0
        self.frames.page[folio].mapcount = cython.cast(cython.int, nr)
        self.frames.page[folio].mlock_count = 0
        self.memcg.commit_charge(folio, memcg)
        self.memcg.mod_folio_state(folio, NR_ANON_MAPPED, nr)
        self.stat[order, MTHP_STAT_NR_ANON] += 1
