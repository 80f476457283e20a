# cython: language_level=3
"""Walks over the page tables of an address range: unmap, copy at fork, protect, move, swapoff.

Every walk goes table by table and skips what is not there, so it costs what is mapped, not what the range
spans. ``seek`` is the one place that descends. Those that look are in fastpath/task_mmu.py, those of advice in
fastpath/madvise.py.

Linux: mm/memory.c, unmap_page_range(), copy_page_range(), free_pgd_range(); mm/mprotect.c,
change_protection(); mm/mremap.c, move_page_tables(); mm/swapfile.c, unuse_vma().
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAPPED = cython.declare(cython.ulong, 0x101)  # present, or PROT_NONE with the page kept


class PageTables:
    """The walks, over the tables of an Mmu."""

    def __init__(self, mmu):
        self.mmu = mmu
        self.walker = mmu.walker
        self.frames = mmu.frames
        self.huge = mmu.huge
        self.next_addr = 0
        self.pmd = 0

    def seek(self, mm, addr):
        """The index of an address's entry; else NO_TABLE, or HUGE_PMD: the entry ``pmd`` maps a huge page.

        ``next_addr`` becomes the end of the table, of the hole or of the huge page.
        """
        table: cython.long = self.mmu.mm[mm].pgd
        level: cython.int = self.walker.levels - 1
        shift: cython.int
        while level > 0:
            shift = PAGE_SHIFT + TABLE_SHIFT * level
            self.pmd = table + (addr >> shift & (PTRS_PER_TABLE - 1))
            self.next_addr = ((addr >> shift) + 1) << shift
            if self.frames.entry[self.pmd] & PTE_PSE:
                return HUGE_PMD if self.frames.maps_thp(self.frames.entry[self.pmd]) else NO_TABLE
            if not self.frames.entry[self.pmd] & PTE_PRESENT:
                return NO_TABLE
            table = (self.frames.entry[self.pmd] & PTE_PFN_MASK) >> 3
            level -= 1
        return table + (addr >> PAGE_SHIFT & (PTRS_PER_TABLE - 1))

    def seek_entry(self, mm, addr):
        """As seek(), a huge page's entry taken apart first: an index or NO_TABLE. Linux: split_huge_pmd()."""
        at: cython.long = self.seek(mm, addr)
        if at == HUGE_PMD:
            self.huge.split_pmd(mm, addr, self.pmd)
            at = self.seek(mm, addr)
        return at

    def split_huge_pmd_address(self, mm: cython.long, addr: cython.long):
        """Take apart the PMD entry that maps an address, if it is one of a huge page. Linux: mm/huge_memory.c."""
        self.seek_entry(mm, addr)

    def seek_part(self, mm, addr, end):
        """As seek(), but a huge page's entry is taken apart unless it lies whole in [addr, end)."""
        at: cython.long = self.seek(mm, addr)
        if at == HUGE_PMD and (addr & (HPAGE_PMD_SIZE - 1) or self.next_addr > end):
            return self.seek_entry(mm, addr)
        return at

    # ------------------------------------------------------------------------------ unmap

    def zap_entry(self, mm, vmflags, at):
        """Clear an entry and let go of its page. Linux: zap_present_ptes()."""
        entry: cython.ulong = self.frames.entry[at]
        pfn: cython.long = (entry & PTE_PFN_MASK) >> PAGE_SHIFT
        self.frames.entry[at] = 0
        if not entry & _MAPPED:
            self.mmu.mm[mm].rss_swap -= 1
            self.mmu.swap.free_swap_and_cache(self.mmu.swap.slots.slot_of(entry))
            return
        if entry & PTE_SPECIAL:
            self.mmu.rmap.ksm.unmap_zero(mm, entry)
            return
        if not self.frames.page[pfn].flags & PG_ANON:
            self.note_use(pfn, entry, vmflags)
        self.mmu.unmap.unmap_page(mm, vmflags, pfn)

    def note_use(self, folio, entry, vmflags):
        """A page of a file learns what an entry that goes knows of it."""
        if entry & PTE_DIRTY:
            self.mmu.folios.mark_dirty(folio)
        if entry & PTE_ACCESSED and not vmflags & (VMF_SEQ_READ | VMF_RAND_READ):
            self.mmu.lru.mark_accessed(folio)

    def is_tail(self, at):
        """Whether an entry that is mapped maps a frame of a large folio."""
        return (
            not self.frames.entry[at] & PTE_SPECIAL
            and self.frames.page[(self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT].flags & PG_TAIL != 0
        )

    def pte_batch(self, at, most):
        """How many entries from ``at`` on, at most so many, map frames of a large folio in order.

        Linux: folio_pte_batch().
        """
        pfn: cython.long = (self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT
        folio: cython.long = self.frames.folio_of(pfn)
        nr: cython.long = 0
        most = min(most, self.frames.folio_pfn(folio) + self.frames.nr_pages(folio) - pfn)
        while (
            nr < most
            and self.frames.entry[at + nr] & _MAPPED
            and cython.cast(cython.long, (self.frames.entry[at + nr] & PTE_PFN_MASK) >> PAGE_SHIFT) == pfn + nr
        ):
            nr += 1
        return nr

    def zap_frames(self, mm, vmflags, at, most):
        """Clear the entries from ``at`` on that pte_batch() counts; how many. Linux: zap_present_ptes()."""
        pfn: cython.long = (self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT
        nr: cython.long = self.pte_batch(at, most)
        bits: cython.ulong = 0
        i: cython.long
        for i in range(at, at + nr):
            bits |= self.frames.entry[i]
            self.frames.entry[i] = 0
        if not self.frames.page[pfn].flags & PG_ANON:
            self.note_use(self.frames.folio_of(pfn), bits, vmflags)
        self.mmu.unmap.unmap_frames(mm, vmflags, pfn, nr)
        return nr

    def zap_range(self, mm: cython.long, vmflags: cython.ulong, start: cython.long, end: cython.long):
        """Unmap [start, end) of a VMA with these flags. Linux: unmap_page_range()."""
        addr: cython.long = start
        at: cython.long
        stop: cython.long
        nr: cython.long
        with cython.nogil:
            while addr < end:
                at = self.seek_part(mm, addr, end)
                stop = min(self.next_addr, end)
                if at == HUGE_PMD:
                    self.huge.zap_pmd(mm, vmflags, self.pmd)
                elif at != NO_TABLE:
                    while addr < stop:
                        nr = 1
                        if self.frames.entry[at] & _MAPPED and self.is_tail(at):
                            nr = self.zap_frames(mm, vmflags, at, (stop - addr) >> PAGE_SHIFT)
                        elif self.frames.entry[at] != 0:
                            self.zap_entry(mm, vmflags, at)
                        at += nr
                        addr += nr * PAGE_SIZE
                addr = stop
            self.mmu.tlb.flush_range(mm, start, end)

    # ------------------------------------------------------------------------------ fork

    def copy_swap_entry(self, dst, at, to):
        """Share a swap entry with the child. Linux: copy_nonpresent_pte()."""
        self.frames.entry[at] &= ~cython.cast(cython.ulong, SWP_EXCLUSIVE)
        self.mmu.swap.duplicate(self.mmu.swap.slots.slot_of(self.frames.entry[at]))
        self.mmu.mm[dst].rss_swap += 1
        self.frames.entry[to] = self.frames.entry[at]

    def copy_entry(self, dst, src, vmflags, addr, at):
        """Share one entry with the child. False when memory is out. Linux: copy_present_ptes()."""
        entry: cython.ulong = self.frames.entry[at]
        pfn: cython.long = (entry & PTE_PFN_MASK) >> PAGE_SHIFT
        to: cython.long = self.walker.get_entry(dst, addr)
        if to < 0:
            return False
        if not entry & _MAPPED:
            self.copy_swap_entry(dst, at, to)
            return True
        if not entry & PTE_SPECIAL:
            if entry & PTE_RW and not vmflags & VMF_SHARED:
                entry &= ~cython.cast(cython.ulong, PTE_RW)
                self.frames.entry[at] = entry
            if self.frames.page[pfn].flags & PG_TAIL:
                self.huge.add_rmap(pfn)
            else:
                self.frames.page[pfn].mapcount += 1
            if self.frames.page[pfn].flags & PG_ANON:
                self.frames.page[pfn].flags &= ~PG_ANON_EXCLUSIVE
                self.mmu.mm[dst].rss_anon += 1
            elif self.frames.page[pfn].flags & PG_SWAPBACKED:
                self.mmu.mm[dst].rss_shmem += 1
            else:
                self.mmu.mm[dst].rss_file += 1
            if vmflags & VMF_SHARED:
                entry &= ~cython.cast(cython.ulong, PTE_DIRTY)
            entry &= ~cython.cast(cython.ulong, PTE_ACCESSED)
        elif entry & PTE_DIRTY:
            self.mmu.rmap.ksm.map_zero(dst)
        self.frames.entry[to] = entry
        return True

    def copy_range(self, dst: cython.long, src: cython.long, vmflags: cython.ulong, start: cython.long,
                   end: cython.long):
        """Copy the entries of [start, end) to a child, private pages write-protected in both.

        Returns the address where memory ran out, or ``end``. Linux: copy_page_range().
        """
        addr: cython.long = start
        at: cython.long
        stop: cython.long
        ok: cython.bint = True
        with cython.nogil:
            while addr < end and ok:
                at = self.seek_part(src, addr, end)
                stop = min(self.next_addr, end)
                if at == HUGE_PMD:
                    ok = self.huge.copy_pmd(dst, src, addr, self.pmd)
                    if ok:
                        addr = stop
                    continue
                if at == NO_TABLE:
                    addr = stop
                    continue
                while addr < stop:
                    if self.frames.entry[at] != 0 and not self.copy_entry(dst, src, vmflags, addr, at):
                        ok = False
                        break
                    at += 1
                    addr += PAGE_SIZE
            self.mmu.tlb.flush_range(src, start, end)
        return addr

    # ------------------------------------------------------------------------------ protect, lock, move

    def protect_range(self, mm: cython.long, vmflags: cython.ulong, start: cython.long, end: cython.long):
        """Give the entries of [start, end) the protection of these VMA flags. Linux: change_protection()."""
        addr: cython.long = start
        at: cython.long
        stop: cython.long
        entry: cython.ulong
        keep: cython.ulong = PTE_PFN_MASK | PTE_ACCESSED | PTE_DIRTY | PTE_SOFT_DIRTY | PTE_SPECIAL
        bits: cython.ulong = self.mmu.areas.prot(vmflags) & ~cython.cast(cython.ulong, PTE_ACCESSED)
        pfn: cython.long
        with cython.nogil:
            while addr < end:
                at = self.seek_part(mm, addr, end)
                stop = min(self.next_addr, end)
                if at < 0:
                    if at == HUGE_PMD:
                        self.huge.protect_pmd(vmflags, self.pmd)
                    addr = stop
                    continue
                while addr < stop:
                    entry = self.frames.entry[at]
                    if entry & _MAPPED and entry & PTE_HWPOISON != PTE_HWPOISON:
                        pfn = (entry & PTE_PFN_MASK) >> PAGE_SHIFT
                        entry = (entry & keep) | bits | (entry & PTE_RW if vmflags & VMF_WRITE else 0)
                        if (
                            vmflags & VMF_WRITE
                            and not vmflags & VMF_SHARED
                            and not entry & PTE_SPECIAL
                            and self.frames.page[pfn].flags & PG_ANON
                            and self.frames.page[pfn].flags & PG_ANON_EXCLUSIVE
                        ):
                            entry |= PTE_RW
                        self.frames.entry[at] = entry
                    at += 1
                    addr += PAGE_SIZE
            self.mmu.tlb.flush_range(mm, start, end)

    def lock_range(self, mm: cython.long, start: cython.long, end: cython.long, lock: cython.bint):
        """mlock or munlock the folios that [start, end) maps. Linux: mm/mlock.c, mlock_vma_pages_range()."""
        addr: cython.long = start
        at: cython.long
        stop: cython.long
        with cython.nogil:
            while addr < end:
                at = self.seek(mm, addr)
                stop = min(self.next_addr, end)
                if at == HUGE_PMD and not self.frames.entry[self.pmd] & PTE_SPECIAL:
                    self.lock_folio(self.huge.folio_of_pmd(self.frames.entry[self.pmd]), lock)
                elif at >= 0:
                    self.lock_entries(at, at + ((stop - addr) >> PAGE_SHIFT), lock)
                addr = stop

    def lock_entries(self, at, end, lock):
        """The same for the entries [at, end) of a table. A large folio that they do not map whole is not locked.

        Linux: mm/mlock.c, mlock_pte_range(), allow_mlock_munlock().
        """
        pfn: cython.long
        folio: cython.long
        nr: cython.long
        while at < end:
            nr = 1
            if self.frames.entry[at] & _MAPPED and not self.frames.entry[at] & PTE_SPECIAL:
                pfn = (self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT
                folio = self.frames.folio_of(pfn)
                if self.is_tail(at):
                    nr = self.pte_batch(at, end - at)
                if not lock or nr == self.frames.nr_pages(folio):
                    self.lock_folio(folio, lock)
            at += nr

    def lock_folio(self, folio, lock):
        """A locked VMA maps a folio, or one less."""
        if lock:
            self.mmu.folios.mlock_folio(folio)
        else:
            self.mmu.folios.munlock_folio(folio)

    def move_range(self, mm: cython.long, old: cython.long, new: cython.long, length: cython.long):
        """Move entries to another address. Returns how many bytes were moved. Linux: move_page_tables()."""
        done: cython.long = 0
        at: cython.long
        to: cython.long
        with cython.nogil:
            while done < length:
                at = self.seek_part(mm, old + done, old + length)
                if at == HUGE_PMD:
                    if (new + done) & (HPAGE_PMD_SIZE - 1) == 0 and self.huge.move_pmd(mm, self.pmd, new + done):
                        done += HPAGE_PMD_SIZE
                        continue
                    at = self.seek_entry(mm, old + done)
                if at == NO_TABLE:
                    done = min(self.next_addr - old, length)
                    continue
                if self.frames.entry[at] != 0:
                    to = self.walker.get_entry(mm, new + done)
                    if to < 0:
                        break
                    self.frames.entry[to] = self.frames.entry[at] | (
                        PTE_SOFT_DIRTY if self.frames.entry[at] & _MAPPED else SWP_SOFT_DIRTY
                    )
                    self.frames.entry[at] = 0
                done += PAGE_SIZE
            self.mmu.tlb.flush_range(mm, old, old + length)
        return done

    # ------------------------------------------------------------------------------ freeing tables

    def free_level(self, mm, table, level, base, floor, ceiling):
        """Free the tables below the one whose first entry is ``table`` that span nothing outside [floor, ceiling)."""
        shift: cython.int = PAGE_SHIFT + TABLE_SHIFT * level
        first: cython.long = max(floor - base, cython.cast(cython.long, 0)) >> shift
        last: cython.long = min((ceiling - 1 - base) >> shift, cython.cast(cython.long, PTRS_PER_TABLE - 1))
        i: cython.long
        child: cython.long
        start: cython.long
        for i in range(first, last + 1):
            if not self.frames.entry[table + i] & PTE_PRESENT:
                continue
            child = (self.frames.entry[table + i] & PTE_PFN_MASK) >> PAGE_SHIFT
            start = base + (i << shift)
            if level > 1:
                self.free_level(mm, child << TABLE_SHIFT, level - 1, start, floor, ceiling)
            if start >= floor and start + (cython.cast(cython.long, 1) << shift) <= ceiling:
                self.frames.entry[table + i] = 0
                self.walker.free_table(mm, child, level)

    def free_tables(self, mm: cython.long, floor: cython.long, ceiling: cython.long):
        """Free the tables that lie wholly in [floor, ceiling), where nothing is mapped any more.

        Linux: free_pgtables(), free_pgd_range().
        """
        with cython.nogil:
            self.walker.forget_tables()
            self.free_level(mm, self.mmu.mm[mm].pgd, self.walker.levels - 1, 0, floor, ceiling)

    # ------------------------------------------------------------------------------ swapoff

    def unuse_range(self, mm: cython.long, vma: cython.long, start: cython.long, end: cython.long, t: cython.int):
        """Read back what [start, end) has in swap area ``t``; where it stopped, and ``mmu.reason`` why.

        At most as many pages a call as a table maps. Linux: mm/swapfile.c, unuse_vma().
        """
        addr: cython.long = start
        at: cython.long
        stop: cython.long
        done: cython.long = 0
        entry: cython.ulong
        self.mmu.reason = FAULT_DONE
        with cython.nogil:
            while addr < end and done < PTRS_PER_TABLE and self.mmu.reason == FAULT_DONE:
                at = self.seek(mm, addr)
                stop = min(self.next_addr, end)
                if at < 0:
                    addr = stop
                    continue
                while addr < stop:
                    entry = self.frames.entry[at]
                    if entry != 0 and not entry & _MAPPED and cython.cast(cython.int, entry >> SWP_TYPE_SHIFT) == t:
                        self.mmu.reason = self.mmu.swapin.unuse(mm, vma, addr, at)
                        if self.mmu.reason != FAULT_DONE:
                            break
                        done += 1
                    at += 1
                    addr += PAGE_SIZE
        return addr
