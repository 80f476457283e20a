# cython: language_level=3
"""Data access monitoring: which of some sampled pages were accessed, and what is done with pages that are hot or cold.

A sample is prepared by taking the accessed bit from the entries that map the page, and looked at later. What the bit
said before is not lost: the page is young, and idle until somebody accesses it, as page_idle has it.

Linux: mm/damon/ops-common.c, vaddr.c, paddr.c.
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAPPED = cython.declare(cython.ulong, 0x101)  # present, or PROT_NONE with the page kept
_ANON = cython.declare(cython.int, 0)
_MEMCG = cython.declare(cython.int, 1)
_YOUNG = cython.declare(cython.int, 2)
_ACTIVE = cython.declare(cython.int, 5)
_HUGEPAGE_SIZE = cython.declare(cython.int, 6)
_UNMAPPED = cython.declare(cython.int, 7)
_PAGEOUT = cython.declare(cython.int, 2)
_LRU_PRIO = cython.declare(cython.int, 5)
_LRU_DEPRIO = cython.declare(cython.int, 6)
_STAT = cython.declare(cython.int, 9)


class DamonLoops:
    """The loops of all monitors, by the page tables and the reverse mapping.

    ``next_pfn``: where apply() has stopped; ``applied``: pages it has moved on their lists itself; ``passed``: pages
    that filters have let through; ``scanned``: entries and pages that were looked at.
    """

    def __init__(self, tables, rmap, lru):
        self.tables = tables
        self.rmap = rmap
        self.frames = tables.frames
        self.lru = lru
        self.next_pfn = self.applied = self.passed = self.scanned = 0

    def get_folio(self, pfn):
        """The record of the page that a frame is of, or -1 if it is on no list. Linux: damon_get_folio()."""
        folio: cython.long = self.frames.page_folio(pfn)
        return folio if folio >= 0 and self.frames.page[folio].flags & PG_LRU else -1

    def mkold(self, at, folio):
        """An entry forgets an access, of which the page knows then. Linux: damon_ptep_mkold()."""
        if self.frames.entry[at] & PTE_ACCESSED:
            self.frames.entry[at] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
            self.frames.page[folio].flags |= PG_YOUNG
        self.frames.page[folio].flags |= PG_IDLE

    def young(self, at, folio):
        """Whether an entry or its page says that it was accessed. Linux: damon_young_pmd_entry()."""
        return self.frames.entry[at] & PTE_ACCESSED != 0 or not self.frames.page[folio].flags & PG_IDLE

    # ------------------------------------------------------------------------------ of an address space

    def entry_of(self, mm, addr):
        """The index of the entry that maps an address, of a page or of a huge one, or -1: nothing is mapped."""
        at: cython.long = self.tables.seek(mm, addr)
        if at == HUGE_PMD:
            return self.tables.pmd
        if at >= 0 and self.frames.entry[at] & _MAPPED and not self.frames.entry[at] & (PTE_SPECIAL | PTE_CONT):
            return at
        return -1

    def hugetlb_entry(self, mm, addr):
        """The entry of a huge page of hugetlbfs that maps an address, the first of several; -1: there is none."""
        at: cython.long = self.tables.seek(mm, addr)
        if at < 0:
            at = self.tables.pmd
            if not self.frames.entry[at] & PTE_PSE or self.frames.maps_thp(self.frames.entry[at]):
                return -1
        elif not self.frames.entry[at] & _MAPPED or not self.frames.entry[at] & PTE_CONT:
            return -1
        return at & ~(CONT_PTES - 1) if self.frames.entry[at] & PTE_CONT else at

    def va_mkold(self, mm: cython.long, addresses: cython.long[::1]):
        """Prepare samples of an address space. Linux: damon_va_mkold()."""
        i: cython.Py_ssize_t
        at: cython.long
        folio: cython.long
        with cython.nogil:
            for i in range(addresses.shape[0]):
                at = self.entry_of(mm, addresses[i])
                if at >= 0:
                    folio = self.get_folio((self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT)
                    if folio >= 0:
                        self.mkold(at, folio)
                    continue
                at = self.hugetlb_entry(mm, addresses[i])
                if at >= 0:
                    self.frames.entry[at] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
        self.scanned += addresses.shape[0]

    def va_young(self, mm: cython.long, addresses: cython.long[::1], out: cython.uchar[::1]):
        """Set ``out`` to whether samples of an address space were accessed. Linux: damon_va_young()."""
        i: cython.Py_ssize_t
        at: cython.long
        folio: cython.long
        with cython.nogil:
            for i in range(addresses.shape[0]):
                at = self.entry_of(mm, addresses[i])
                if at >= 0:
                    folio = self.get_folio((self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT)
                    out[i] = folio >= 0 and self.young(at, folio)
                    continue
                at = self.hugetlb_entry(mm, addresses[i])
                out[i] = at >= 0 and self.frames.entry[at] & PTE_ACCESSED != 0
        self.scanned += addresses.shape[0]

    # ------------------------------------------------------------------------------ of physical memory

    def walk_one(self, vma, folio, mark):
        """Prepare (``mark``) or look at the entries of a VMA that map a page: whether one was accessed.

        Linux: damon_folio_mkold_one(), damon_folio_young_one().
        """
        pfn: cython.long = self.frames.folio_pfn(folio)
        end: cython.long = pfn + self.frames.nr_pages(folio)
        at: cython.long
        addr: cython.long
        if self.frames.huge <= folio < self.frames.mthp:
            at = self.rmap.find_pmd(vma, folio)
            if at >= 0:
                return self.visit(at, folio, mark)
        while pfn < end:
            addr = self.rmap.start_address(vma, self.frames.page[pfn].index)
            while addr < self.rmap.vma[vma].end:
                at = self.rmap.find(self.rmap.vma[vma].mm, addr, pfn)
                if at >= 0 and self.visit(at, folio, mark):
                    return True
                addr += INDEX_SPAN
            pfn += 1
        return False

    def visit(self, at, folio, mark):
        """One entry of walk_one(); marking never ends the walk."""
        self.scanned += 1
        if mark:
            self.mkold(at, folio)
            return False
        return self.young(at, folio)

    def rmap_walk(self, folio, mark):
        """walk_one() for all that map a page, until one has accessed it."""
        link: cython.long
        vma: cython.long
        at: cython.long
        if self.frames.page[folio].flags & PG_KSM:
            self.rmap.begin_ksm(folio)
            at = self.rmap.next_ksm(folio)
            while at >= 0:
                if self.visit(at, folio, mark):
                    return True
                at = self.rmap.next_ksm(folio)
            return False
        link = self.rmap.first(folio)
        while link:
            vma = self.rmap.chain[link].vma
            link = self.rmap.chain[link].nxt
            if self.walk_one(vma, folio, mark):
                return True
        return False

    def folio_mkold(self, folio):
        """Linux: damon_folio_mkold()."""
        if self.frames.page[folio].mapcount == 0 or self.frames.page[folio].mapping == 0:
            self.frames.page[folio].flags |= PG_IDLE
        else:
            self.rmap_walk(folio, True)

    def folio_young(self, folio):
        """Linux: damon_folio_young()."""
        if self.frames.page[folio].mapcount == 0 or self.frames.page[folio].mapping == 0:
            return not self.frames.page[folio].flags & PG_IDLE
        return self.rmap_walk(folio, False)

    def pa_mkold(self, pfns: cython.long[::1]):
        """Prepare samples of physical memory; -1 is no frame. Linux: damon_pa_mkold()."""
        i: cython.Py_ssize_t
        folio: cython.long
        with cython.nogil:
            for i in range(pfns.shape[0]):
                folio = self.get_folio(pfns[i]) if pfns[i] >= 0 else -1
                if folio >= 0:
                    self.folio_mkold(folio)
        self.scanned += pfns.shape[0]

    def pa_young(self, pfns: cython.long[::1], out: cython.uchar[::1]):
        """Set ``out`` to whether samples of physical memory were accessed. Linux: damon_pa_young()."""
        i: cython.Py_ssize_t
        folio: cython.long
        with cython.nogil:
            for i in range(pfns.shape[0]):
                folio = self.get_folio(pfns[i]) if pfns[i] >= 0 else -1
                out[i] = folio >= 0 and self.folio_young(folio)
        self.scanned += pfns.shape[0]

    # ------------------------------------------------------------------------------ schemes

    def filter_out(self, folio, filters):
        """Whether a page is left alone; ``filters``: rows of type, matching, memcg or least size, most size, allow.

        The first that matches decides; a row of another type says what becomes of the rest.

        Linux: damos_pa_filter_out().
        """
        i: cython.Py_ssize_t
        matched: cython.bint
        size: cython.long
        for i in range(filters.shape[0]):
            matched = False
            if filters[i, 0] == _ANON:
                matched = self.frames.page[folio].flags & PG_ANON != 0
            elif filters[i, 0] == _MEMCG:
                matched = self.frames.page[folio].memcg == filters[i, 2]
            elif filters[i, 0] == _YOUNG:
                matched = self.folio_young(folio)
                if matched:
                    self.folio_mkold(folio)
            elif filters[i, 0] == _ACTIVE:
                matched = self.frames.page[folio].flags & PG_ACTIVE != 0
            elif filters[i, 0] == _HUGEPAGE_SIZE:
                size = self.frames.nr_pages(folio) << PAGE_SHIFT
                matched = filters[i, 2] <= size and size <= filters[i, 3]
            elif filters[i, 0] == _UNMAPPED:
                matched = self.frames.page[folio].mapcount == 0 or self.frames.page[folio].mapping == 0
            else:
                return filters[i, 4] == 0
            if matched == (filters[i, 1] != 0):
                return filters[i, 4] == 0
        return False

    def apply(self, pfn: cython.long, end: cython.long, action: cython.int, filters: cython.long[:, ::1],
              out: cython.long[::1]):
        """Treat the pages of [pfn, end) until ``out`` is full: how many are in it, which are to be reclaimed or moved.

        ``out`` has pages to be reclaimed by their records, pages to be moved by their first frames.

        Linux: damon_pa_pageout(), damon_pa_mark_accessed_or_deactivate(), damon_pa_migrate().
        """
        n: cython.Py_ssize_t = 0
        folio: cython.long
        with cython.nogil:
            while pfn < end and n < out.shape[0]:
                self.scanned += 1
                folio = self.get_folio(pfn)
                if folio < 0:
                    pfn += 1
                    continue
                pfn += self.frames.nr_pages(folio)
                if self.filter_out(folio, filters):
                    continue
                self.passed += self.frames.nr_pages(folio)
                if action == _STAT:
                    continue
                if action == _LRU_PRIO or action == _LRU_DEPRIO:
                    if action == _LRU_PRIO:
                        self.lru.mark_accessed(folio)
                    else:
                        self.lru.deactivate(folio)
                    self.applied += self.frames.nr_pages(folio)
                    continue
                if action == _PAGEOUT:
                    self.frames.page[folio].flags &= ~(PG_REFERENCED | PG_YOUNG)
                    out[n] = folio
                else:
                    out[n] = self.frames.folio_pfn(folio)
                n += 1
        self.next_pfn = pfn
        return n
