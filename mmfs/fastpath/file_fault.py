# cython: language_level=3
"""Faults on mapped files and on shared memory.

A page of a file that is not cached, or not yet read, stops the loop with FAULT_FILE: mm/filemap.py reads it.

Linux: mm/memory.c, do_fault(), do_fault_around(); mm/filemap.c, filemap_fault(), filemap_map_pages(); mm/shmem.c,
shmem_fault().
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403


class FileFaults:
    """Serves them as long as memory is to be had; ``anon`` gives private mappings their copies."""

    def __init__(self, anon, swapin, filemap, walker):
        self.anon = anon
        self.time = anon.time
        self.swapin = swapin
        self.swap_state = swapin.state
        self.shmem = swapin.shmem
        self.rmap = swapin.rmap
        self.huge = swapin.huge
        self.filemap = filemap
        self.walker = walker
        self.folios = anon.folios
        self.frames = anon.frames
        self.memcg = anon.memcg
        self.areas = anon.areas
        self.vma = self.anon.vma
        self.mm = self.anon.mm
        self.mapping = self.folios.mapping
        self.file = self.filemap.file
        self.fault_around_pages = 16

    def file_page(self, vma, m, index):
        """The page of a file at an index; -1: it must be read, -2: no memory, -3: its memory has failed, -4: policy has
        more to try for a huge page.

        Linux: filemap_fault(), shmem_fault().
        """
        pfn: cython.long = self.folios.lookup(m, index)
        row: cython.long = self.vma[vma].file
        if self.mapping[m].shmem:
            if pfn < 0 and self.folios.slot[self.mapping[m].base + index] & SLOT_SWAP:
                return self.shmem_fault(m, index)
            if pfn < 0 and self.mapping[m].huge_fault:
                pfn = self.shmem.fault(m, vma, index)
                if pfn == -4:
                    return pfn
                if pfn >= 0:
                    self.time.use_large(self.frames.nr_pages(self.frames.folio_of(pfn)))
            if pfn < 0:
                pfn = self.areas.alloc_charged(vma, index, self.mm[self.vma[vma].mm].memcg)
                if pfn < 0:
                    return -2
                self.folios.cache_add(m, index, pfn, self.anon.has_recency(vma))
            return -3 if self.frames.page[pfn].flags & PG_HWPOISON else pfn
        if pfn < 0:
            return -1
        if not self.vma[vma].flags & VMF_RAND_READ and self.file[row].ra_pages:
            if self.file[row].mmap_miss > 0 and not self.time.tried:
                self.file[row].mmap_miss -= 1
            if self.frames.page[pfn].flags & PG_READAHEAD and not self.frames.page[pfn].flags & PG_WRITEBACK:
                return -1
        if self.filemap.reading_until(pfn):
            return -1
        return pfn

    def shmem_fault(self, m, index):
        """A fault on shared memory that is swapped out; as file_page(). Linux: mm/shmem.c, shmem_fault()."""
        pfn: cython.long
        self.swap_state.begin(self.time.now())
        self.swapin.major = False
        pfn = self.swapin.shmem_swapin(m, index)
        self.time.wait_on_read(self.swap_state)
        if self.swapin.major:
            self.time.tried = True
        return pfn

    def map_file(self, mm, vma, pfn, at, write):
        """Map a page of the page cache. Linux: set_pte_range(), folio_add_file_rmap_pte()."""
        flags: cython.ulong = self.vma[vma].flags
        entry: cython.ulong = cython.cast(cython.ulong, pfn) << PAGE_SHIFT | self.areas.prot(flags)
        shmem: cython.bint = (self.frames.page[pfn].flags & PG_SWAPBACKED) != 0
        if self.frames.page[pfn].flags & PG_TAIL:
            self.map_frames(mm, vma, pfn, at, write, self.frames_to_map(vma, pfn, at))
            return
        if self.frames.page[pfn].mapcount == 0:
            self.memcg.mod_folio_state(pfn, NR_FILE_MAPPED, 1)
        self.frames.page[pfn].mapcount += 1
        if shmem:
            self.mm[mm].rss_shmem += 1
        else:
            self.mm[mm].rss_file += 1
        if flags & VMF_SHARED and flags & VMF_WRITE and (write or shmem):
            entry |= PTE_RW
        if write:
            entry |= PTE_DIRTY | PTE_SOFT_DIRTY
            self.folios.mark_dirty(pfn)
        if flags & VMF_LOCKED:
            self.folios.mlock_folio(pfn)
        self.frames.entry[at] = entry

    def frames_to_map(self, vma, pfn, at):
        """How many frames of a large folio a fault on one maps: all if the file has no name, and all that the table has
        there is empty and the VMA's; else the one. Linux: finish_fault().
        """
        folio: cython.long = self.frames.folio_of(pfn)
        nr: cython.long = self.frames.nr_pages(folio)
        idx: cython.long = pfn - self.frames.folio_pfn(folio)
        offset: cython.long = self.rmap.start_address(vma, self.frames.page[pfn].index) - self.vma[vma].start
        here: cython.long = at & (PTRS_PER_TABLE - 1)
        i: cython.long
        if not self.mapping[self.vma[vma].mapping].unnamed or here < idx or here - idx + nr > PTRS_PER_TABLE:
            return 1
        if offset < idx * PAGE_SIZE or offset + (nr - idx) * PAGE_SIZE > self.vma[vma].end - self.vma[vma].start:
            return 1
        for i in range(at - idx, at - idx + nr):
            if self.frames.entry[i]:
                return 1
        return nr

    def map_frames(self, mm, vma, pfn, at, write, nr):
        """Map a frame of a large folio of a file, or all ``nr`` of them. Linux: set_pte_range()."""
        flags: cython.ulong = self.vma[vma].flags
        bits: cython.ulong = self.areas.prot(flags)
        i: cython.long
        if flags & VMF_SHARED and flags & VMF_WRITE:
            bits |= PTE_RW
        if write:
            self.folios.mark_dirty(self.frames.folio_of(pfn))
            bits |= PTE_DIRTY | PTE_SOFT_DIRTY
        if nr > 1:
            i = pfn - self.frames.folio_pfn(self.frames.folio_of(pfn))
            pfn -= i
            at -= i
        self.huge.file.add_rmaps(pfn, nr)
        self.mm[mm].rss_shmem += nr
        for i in range(nr):
            self.frames.entry[at + i] = cython.cast(cython.ulong, pfn + i) << PAGE_SHIFT | bits

    def fault_around(self, mm, vma, addr):
        """Map what is cached of the aligned pages around a read fault. Linux: do_fault_around()."""
        table: cython.long = self.walker.get_entry(mm, addr) - (addr >> PAGE_SHIFT & (PTRS_PER_TABLE - 1))
        here: cython.long = addr >> PAGE_SHIFT & (PTRS_PER_TABLE - 1)
        behind: cython.long = (addr - self.vma[vma].start) >> PAGE_SHIFT
        low: cython.long = max(here & ~(self.fault_around_pages - 1), here - behind)
        high: cython.long = min(
            min(low + self.fault_around_pages, cython.cast(cython.long, PTRS_PER_TABLE)),
            here + ((self.vma[vma].end - addr) >> PAGE_SHIFT),
        )
        index: cython.long = self.vma[vma].pgoff + behind - here
        m: cython.long = self.vma[vma].mapping
        row: cython.long = self.vma[vma].file
        miss: cython.long = self.file[row].mmap_miss
        i: cython.long
        pfn: cython.long
        for i in range(low, high):
            if index + i >= self.mapping[m].size:
                break
            pfn = self.folios.lookup(m, index + i)
            if pfn < 0 or self.frames.page[pfn].flags & (PG_READAHEAD | PG_HWPOISON) or self.filemap.reading_until(pfn):
                continue
            if miss > 0 and not self.frames.page[pfn].flags & PG_WORKINGSET:
                miss -= 1
            if self.frames.entry[table + i] == 0 and self.frames.page[pfn].flags & PG_TAIL:
                self.map_frames(mm, vma, pfn, table + i, False, 1)
            elif self.frames.entry[table + i] == 0:
                self.map_file(mm, vma, pfn, table + i, False)
        self.file[row].mmap_miss = cython.cast(cython.int, miss)

    def file_fault(self, mm, vma, addr, at, write):
        """First access to a page of a mapped file. Linux: do_read_fault(), do_cow_fault(), do_shared_fault()."""
        index: cython.long = self.vma[vma].pgoff + ((addr - self.vma[vma].start) >> PAGE_SHIFT)
        m: cython.long = self.vma[vma].mapping
        page: cython.long
        copy: cython.long = -1
        if index >= self.mapping[m].size:
            return FAULT_SIGBUS
        if not write and self.fault_around_pages > 1:
            self.fault_around(mm, vma, addr)
            if self.frames.entry[at] != 0:
                return FAULT_DONE
        page = self.file_page(vma, m, index)
        if page < 0:
            return self.unserved(page)
        if write and not self.vma[vma].flags & VMF_SHARED:
            copy = self.areas.alloc_charged(vma, index, self.mm[mm].memcg)
            if copy < 0:
                return FAULT_OOM
        if copy < 0:
            self.map_file(mm, vma, page, at, write)
            return FAULT_DONE
        self.anon.map_copy(mm, vma, addr, at, copy)
        return FAULT_DONE

    def huge_fault(self, mm, vma, addr, write):
        """Map a huge page of shared memory if there is one or a new one, or a smaller folio that is new; as
        Mmu.access(). Linux: finish_fault(), do_set_pmd().
        """
        index: cython.long = self.vma[vma].pgoff + ((addr - self.vma[vma].start) >> PAGE_SHIFT)
        m: cython.long = self.vma[vma].mapping
        pmd: cython.long
        page: cython.long
        missed: cython.bint
        if index >= self.mapping[m].size:
            return FAULT_FALLBACK
        missed = self.folios.lookup(m, index) < 0
        page = self.file_page(vma, m, index)
        if page < 0:
            return self.unserved(page)
        if not self.frames.page[page].flags & PG_TAIL:
            return FAULT_FALLBACK
        if self.frames.folio_of(page) >= self.frames.mthp:
            return self.map_new(mm, vma, addr, page, write) if missed else FAULT_FALLBACK
        pmd = self.walker.get_entry_level(mm, addr, 1)
        if pmd < 0:
            return FAULT_OOM
        self.huge.file.set_pmd(mm, self.vma[vma].flags, pmd, self.frames.folio_of(page), write)
        self.anon.tlb.fill(mm, addr, self.frames.entry[pmd])
        return FAULT_DONE

    def map_new(self, mm, vma, addr, pfn, write):
        """Map a folio below 2 MB that a fault has brought where there is no table; as huge_fault()."""
        at: cython.long = self.walker.get_entry(mm, addr)
        if at < 0:
            return FAULT_OOM
        self.map_file(mm, vma, pfn, at, write)
        if not write and self.fault_around_pages > 1:
            self.fault_around(mm, vma, addr)
        self.frames.entry[at] |= PTE_ACCESSED
        self.anon.tlb.fill(mm, addr, self.frames.entry[at])
        return FAULT_DONE

    def unserved(self, page):
        """The reason to stop for what file_page() has said."""
        return FAULT_FILE if page == -1 else FAULT_OOM if page == -2 else FAULT_HUGE if page == -4 else FAULT_SIGBUS
