# cython: language_level=3
"""Huge pages of shared memory in the page cache: brought by a fault or a write, swapped out whole, taken away.

One page of 2 MB fills 512 slots of its address_space, each with its own frame, that begin at a multiple of 512. Swapped
out, 512 swap entries stand there. Linux has one entry of order 9 in either case, in a node above those of slots: so the
nodes of its slots (fastpath/xa_nodes.py) count nothing, which tells it from single pages (``is_large()``).

What it is made of when only part of it may stay (truncation, a hole) is in fastpath/huge_split.py.

Linux: mm/shmem.c.

Simplified: the node above that holds the entry of a huge page is no object of the slab.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_MAPPINGS = 1 << 24
_NODE_SHIFT = cython.declare(cython.int, 6)
_LATER = cython.declare(cython.long, -4)


class Shmem:
    """The files of shared memory. ``nr_large``: entries of order 9 that they have.

    ``queued``: address_spaces (``nr_queued`` of them) whose last page reaches beyond the end of the file, put down once
    (``shrinking``) until policy takes them over (mm/shmem.py).
    """

    def __init__(self, filemap, rmap):
        self.filemap = filemap
        self.rmap = rmap
        self.huge = rmap.huge
        self.file = self.huge.file
        self.swap = rmap.swap
        self.folios = filemap.folios
        self.frames = filemap.frames
        self.buddy = filemap.buddy
        self.lru = filemap.lru
        self.walker = filemap.walker
        self.memcg = self.folios.memcg
        self.tlb = rmap.tlb
        self.mapping = self.folios.mapping
        self.mm = self.walker.mm
        self.vma = self.rmap.vma
        self.event = self.folios.event
        self.stat = view(self.huge.stats)
        self.nr_large = 0
        self.queued = lazy_array(_MAX_MAPPINGS, np.uint32)
        self.queued_mapping = view(self.queued)
        self.nr_queued = 0

    # ------------------------------------------------------------------------------ slots

    def is_large(self, m, index):
        """Whether a page, or an entry for one, of a file is part of an entry of order 9. Linux: xas_get_order()."""
        at: cython.long = self.mapping[m].base + index
        if index >= self.mapping[m].slots or self.folios.nodes.entry[at >> _NODE_SHIFT]:
            return False
        return self.folios.slot[at | 1] != 0

    def is_vacant(self, m, first):
        """Whether there is nothing in 512 slots. Linux: mm/shmem.c, shmem_suitable_orders()."""
        at: cython.long = self.mapping[m].base + first
        node: cython.long
        if self.folios.slot[at] or self.folios.slot[at | 1]:
            return False
        for node in range(at >> _NODE_SHIFT, (at + HPAGE_PMD_NR) >> _NODE_SHIFT):
            if self.folios.nodes.entry[node]:
                return False
        return True

    def insert(self, m, first, folio):
        """Have a huge page found in the page cache. Linux: shmem_add_to_page_cache()."""
        at: cython.long = self.mapping[m].base + first
        pfn: cython.long = self.frames.folio_pfn(folio)
        i: cython.long
        self.frames.page[folio].mapping = cython.cast(cython.uint, m)
        self.frames.page[folio].index = cython.cast(cython.uint, first & INDEX_MASK)
        for i in range(HPAGE_PMD_NR):
            self.folios.slot[at + i] = pfn + i + 1
            self.frames.page[pfn + i].mapping = cython.cast(cython.uint, m)
            self.frames.page[pfn + i].index = cython.cast(cython.uint, (first + i) & INDEX_MASK)
        self.count_cached(m, folio, HPAGE_PMD_NR)

    def remove(self, folio, entry):
        """Take a huge page out of the page cache; ``entry``, and what follows it, stand there then if it is not 0.

        Linux: shmem_delete_from_page_cache(), filemap_remove_folio().
        """
        m: cython.long = self.frames.page[folio].mapping
        at: cython.long = self.mapping[m].base + self.frames.page[folio].index
        pfn: cython.long = self.frames.folio_pfn(folio)
        i: cython.long
        self.count_cached(m, folio, -HPAGE_PMD_NR)
        for i in range(HPAGE_PMD_NR):
            self.folios.slot[at + i] = entry + i if entry else 0
            self.frames.page[pfn + i].mapping = 0
        self.frames.page[folio].mapping = 0

    def count_cached(self, m, folio, nr):
        """Linux: shmem_update_stats()."""
        self.nr_large += 1 if nr > 0 else -1
        self.mapping[m].nrpages += nr
        self.memcg.mod_folio_state(folio, NR_SHMEM_THPS, nr)
        self.memcg.mod_folio_state(folio, NR_FILE_PAGES, nr)
        self.memcg.mod_folio_state(folio, NR_SHMEM, nr)

    def split_slots(self, m, first):
        """Have 512 entries in place of one. Linux: xas_split()."""
        at: cython.long = self.mapping[m].base + first
        value: cython.ulong
        i: cython.long
        for i in range(HPAGE_PMD_NR):
            value = self.folios.slot[at + i]
            self.folios.slot[at + i] = 0
            self.folios.set_slot(m, first + i, value)
        self.nr_large -= 1

    # ------------------------------------------------------------------------------ a new one

    def wanted(self, m, index, end, policy, advised):
        """Whether a file of ``end`` pages gets a huge page there. Linux: shmem_huge_global_enabled()."""
        if policy & SHMEM_ALWAYS or (policy & SHMEM_ADVISE and advised):
            return True
        return policy & SHMEM_WITHIN_SIZE != 0 and (index | (HPAGE_PMD_NR - 1)) < end

    def count_fallback(self, charge):
        """There is no huge page to be had, or (``charge``) it is above a limit."""
        self.event[THP_FILE_FALLBACK] += 1
        self.stat[HPAGE_PMD_ORDER, MTHP_STAT_SHMEM_FALLBACK] += 1
        if charge:
            self.event[THP_FILE_FALLBACK_CHARGE] += 1
            self.stat[HPAGE_PMD_ORDER, MTHP_STAT_SHMEM_FALLBACK_CHARGE] += 1

    def alloc(self, m, index, vma, advised, memcg, in_fault):
        """Bring a huge page around ``index``: the frame of that page, -1: it is not to be had, _LATER: policy has more
        to try. Linux: shmem_alloc_and_add_folio()."""
        first: cython.long = index & -cython.cast(cython.long, HPAGE_PMD_NR)
        pfn: cython.long
        result: cython.int
        if first + HPAGE_PMD_NR > self.mapping[m].slots or not self.is_vacant(m, first):
            return -1
        pfn = self.huge.alloc(vma, first, HPAGE_PMD_ORDER, advised)
        if pfn == -2:
            return _LATER
        if pfn < 0:
            self.count_fallback(False)
            return -1
        result = self.huge.charge(memcg, pfn, HPAGE_PMD_ORDER, advised)
        if result == FAULT_HUGE:
            return _LATER
        if result == FAULT_FALLBACK:
            self.count_fallback(True)
            return -1
        self.add_new(m, first, pfn, memcg, in_fault)
        self.event[THP_FILE_ALLOC] += 1
        self.stat[HPAGE_PMD_ORDER, MTHP_STAT_SHMEM_ALLOC] += 1
        return pfn + index - first

    def add_new(self, m, first, pfn, memcg, in_fault):
        """Make a charged pageblock a huge page of a file. Linux: shmem_alloc_and_add_folio()."""
        block: cython.long = pfn >> PAGEBLOCK_ORDER
        folio: cython.long = self.frames.huge + block
        i: cython.long
        self.memcg.commit_charge(folio, memcg)
        self.frames.block[block].state = BLK_SPLIT
        self.frames.block[block].mapcount = self.frames.block[block].nr_mapped = 0
        self.frames.page[folio].flags = PG_UPTODATE | PG_SWAPBACKED | PG_HEAD
        self.frames.page[folio].private = 0
        self.frames.page[folio].mapcount = 0
        self.frames.page[folio].mlock_count = 0
        for i in range(pfn, pfn + HPAGE_PMD_NR):
            self.frames.page[i].flags = PG_UPTODATE | PG_SWAPBACKED | PG_TAIL
            self.frames.page[i].private = 0
            self.frames.page[i].mapcount = 0
            self.frames.page[i].memcg = 0
            self.frames.page[i].mlock_count = HPAGE_PMD_ORDER
        self.insert(m, first, folio)
        self.lru.add(folio, in_fault)
        if self.mapping[m].size < first + HPAGE_PMD_NR and not self.mapping[m].shrinking:
            self.mapping[m].shrinking = 1
            self.queued_mapping[self.nr_queued] = cython.cast(cython.uint, m)
            self.nr_queued += 1

    def suits(self, vma, addr):
        """Whether a VMA spans 2 MB around an address that are on their boundary there and in the file.

        Linux: thp_vma_suitable_order().
        """
        start: cython.long = addr & -cython.cast(cython.long, HPAGE_PMD_SIZE)
        return (
            ((self.vma[vma].start >> PAGE_SHIFT) - self.vma[vma].pgoff) & (HPAGE_PMD_NR - 1) == 0
            and start >= self.vma[vma].start
            and start + HPAGE_PMD_SIZE <= self.vma[vma].end
        )

    def disabled(self, vma):
        """Whether a VMA has no huge pages at all. Linux: vma_thp_disabled()."""
        return (
            self.vma[vma].flags & VMF_NOHUGEPAGE != 0 or self.mm[self.vma[vma].mm].flags & MMF_DISABLE_THP != 0
        )

    def may_map(self, vma, addr, write):
        """Whether an access to a VMA where it has no page table may map a huge page. Linux: do_set_pmd()."""
        m: cython.long = self.vma[vma].mapping
        if not self.mapping[m].shmem or not (self.nr_large or self.mapping[m].huge_fault):
            return False
        if write and not self.vma[vma].flags & VMF_SHARED:
            return False
        return self.suits(vma, addr) and not self.disabled(vma)

    def fault(self, m, vma, index):
        """A fault on a page of a file that is not there: as alloc()."""
        addr: cython.long = self.vma[vma].start + ((index - self.vma[vma].pgoff) << PAGE_SHIFT)
        advised: cython.bint = self.vma[vma].flags & VMF_HUGEPAGE != 0
        if self.disabled(vma) or not self.suits(vma, addr):
            return -1
        if not self.wanted(m, index, self.mapping[m].size, self.mapping[m].huge_fault, advised):
            return -1
        return self.alloc(
            m, index, vma, advised, self.mm[self.vma[vma].mm].memcg,
            not self.vma[vma].flags & (VMF_SEQ_READ | VMF_RAND_READ),
        )  # fmt: skip

    # ------------------------------------------------------------------------------ reading and writing

    def read(self, m: cython.long, pos: cython.long, end: cython.long):
        """Read shared memory: what is not there reads as zeroes. Linux: mm/shmem.c, shmem_file_read_iter()."""
        i: cython.long
        pfn: cython.long
        self.filemap.cpu_ns = ((end + PAGE_SIZE - 1) // PAGE_SIZE - pos // PAGE_SIZE) * self.filemap.read_ns
        with cython.nogil:
            for i in range(pos >> PAGE_SHIFT, (end + PAGE_SIZE - 1) >> PAGE_SHIFT):
                pfn = self.folios.lookup(m, i)
                if pfn >= 0:
                    self.lru.mark_accessed(self.frames.folio_of(pfn))

    def write_begin(self, m, index, end):
        """The page of a write that goes on to ``end``: its frame, -1 without memory, _LATER as in alloc().

        Linux: shmem_write_begin().
        """
        pfn: cython.long = self.folios.lookup(m, index)
        if pfn >= 0:
            self.lru.mark_accessed(self.frames.folio_of(pfn))
            return pfn
        if self.mapping[m].huge_write and self.wanted(
            m, index, max(self.mapping[m].size, (end + PAGE_SIZE - 1) >> PAGE_SHIFT), self.mapping[m].huge_write, False
        ):
            pfn = self.alloc(m, index, 0, False, self.memcg.current, False)
            if pfn >= 0:
                self.frames.page[self.frames.folio_of(pfn)].flags |= PG_REFERENCED
        if pfn == -1:
            pfn = self.filemap.alloc_page()
            if pfn >= 0:
                self.folios.cache_add(m, index, pfn, False)
        self.filemap.spend(self.filemap.add_ns)
        return pfn

    def write(self, m: cython.long, pos: cython.long, end: cython.long, now_ns: cython.long, until_ns: cython.long):
        """Write the bytes [pos, end) of shared memory. Returns how far it got; the rest as Filemap.write() tells it.

        ``filemap.reason`` may also be FAULT_HUGE: policy has more to try for a huge page. Linux:
        generic_perform_write().
        """
        pfn: cython.long
        folio: cython.long
        stop: cython.long
        self.filemap.now_ns = now_ns
        self.filemap.cpu_ns = self.filemap.memstall_ns = self.filemap.nr_dirtied = 0
        self.filemap.reason = FAULT_DONE
        while pos < end:
            if self.folios.slot[self.mapping[m].base + (pos >> PAGE_SHIFT)] & SLOT_SWAP:
                self.filemap.reason = FAULT_SWAP
                break
            pfn = self.write_begin(m, pos >> PAGE_SHIFT, end)
            if pfn < 0:
                self.filemap.reason = FAULT_OOM if pfn == -1 else FAULT_HUGE
                break
            folio = self.frames.folio_of(pfn)
            self.folios.mark_dirty(folio)
            stop = (pos >> PAGE_SHIFT) + 1
            if folio != pfn:
                stop = ((pos >> PAGE_SHIFT) | (HPAGE_PMD_NR - 1)) + 1
            stop = min(end, stop << PAGE_SHIFT)
            self.filemap.spend(((stop + PAGE_SIZE - 1) // PAGE_SIZE - pos // PAGE_SIZE) * self.filemap.write_ns)
            pos = stop
            if pos < end and self.filemap.now_ns >= until_ns:
                self.filemap.reason = FAULT_SLICE
                break
        return pos

    # ------------------------------------------------------------------------------ letting go

    def unmap(self, folio, locked):
        """Take a huge page of a file out of every page table, VMAs that are ``locked`` too; else False there.

        Linux: try_to_unmap() with TTU_SPLIT_HUGE_PMD.
        """
        link: cython.long = self.rmap.first(folio)
        vma: cython.long
        pmd: cython.long
        pfn: cython.long = self.frames.folio_pfn(folio)
        i: cython.long
        while link and self.frames.page[folio].mapcount:
            vma = self.rmap.chain[link].vma
            link = self.rmap.chain[link].nxt
            pmd = self.rmap.find_pmd(vma, folio)
            if pmd >= 0:
                if self.vma[vma].flags & VMF_LOCKED and not locked:
                    return False
                self.rmap.update_hiwater_rss(self.vma[vma].mm)
                self.file.split_pmd(self.vma[vma].mm, self.rmap.found_addr, pmd)
            if self.frames.block[folio - self.frames.huge].nr_mapped:
                for i in range(pfn, pfn + HPAGE_PMD_NR):
                    if self.frames.page[i].mapcount and not self.unmap_frame(vma, i, folio, locked):
                        return False
        return self.frames.page[folio].mapcount == 0

    def unmap_frame(self, vma, pfn, folio, locked):
        """Take a frame out of a VMA's page table. Linux: try_to_unmap_one()."""
        addr: cython.long = self.rmap.start_address(vma, self.frames.page[pfn].index)
        mm: cython.long = self.vma[vma].mm
        at: cython.long
        while addr < self.vma[vma].end:
            at = self.rmap.find(mm, addr, pfn)
            if at >= 0:
                if self.vma[vma].flags & VMF_LOCKED and not locked:
                    return False
                self.rmap.update_hiwater_rss(mm)
                if self.frames.entry[at] & PTE_DIRTY:
                    self.folios.mark_dirty(folio)
                self.frames.entry[at] = 0
                self.file.remove_rmaps(mm, pfn, 1)
                self.tlb.flush_page(mm, addr)
            addr += INDEX_SPAN
        return True

    def undo_range(self, m: cython.long, first: cython.long, last: cython.long):
        """Take what is large and lies in [first, last) out of the page cache, or out of swap.

        Returns the next page of which a large entry lies in part in the range and must be split first, or -1: all is
        done. Nothing of it is mapped. Linux: shmem_undo_range(), shmem_free_swap().
        """
        i: cython.long = first
        start: cython.long
        pfn: cython.long
        end: cython.long = min(last, self.mapping[m].slots)
        while i < end and self.nr_large:
            start = i & -cython.cast(cython.long, HPAGE_PMD_NR)
            if self.is_large(m, i):
                if start < first or start + HPAGE_PMD_NR > last:
                    return i
                pfn = self.folios.lookup(m, start)
                if pfn >= 0:
                    self.remove(self.frames.folio_of(pfn), 0)
                    self.huge.free(self.frames.huge + (pfn >> PAGEBLOCK_ORDER))
                else:
                    self.free_swap(m, start)
            i = start + HPAGE_PMD_NR
        return -1

    def free_swap(self, m, first):
        """Let go of 512 pages that are swapped out. Linux: shmem_free_swap()."""
        at: cython.long = self.mapping[m].base + first
        slot: cython.long = cython.cast(cython.long, self.folios.slot[at] & ~SLOT_SWAP)
        i: cython.long
        self.nr_large -= 1
        self.swap.nr_shmem_swapped -= HPAGE_PMD_NR
        for i in range(HPAGE_PMD_NR):
            self.folios.slot[at + i] = 0
            self.swap.free_swap_and_cache(slot + i)

    # ------------------------------------------------------------------------------ swap

    def add_to_swap(self, folio):
        """Move a huge page that nobody maps from the page cache to the swap cache. False: it must be split first.

        Linux: shmem_writepage().
        """
        m: cython.long = self.frames.page[folio].mapping
        first: cython.long = self.frames.page[folio].index
        slot: cython.long
        i: cython.long
        if first < self.mapping[m].size < first + HPAGE_PMD_NR:
            return False
        slot = self.swap.alloc_slot(folio)
        if slot == 0:
            return False
        self.remove(folio, SLOT_SWAP | slot)
        self.nr_large += 1
        self.swap.nr_shmem_swapped += HPAGE_PMD_NR
        for i in range(slot, slot + HPAGE_PMD_NR):
            self.swap.duplicate(i)
        self.swap.add_to_swap_cache(folio, slot)
        return True

    def swap_in(self, m, index, folio):
        """Move a huge page from the swap cache back to its file: the frame of page ``index``.

        Linux: shmem_swapin_folio().
        """
        first: cython.long = index & -cython.cast(cython.long, HPAGE_PMD_NR)
        slot: cython.long = self.frames.page[folio].private
        i: cython.long
        if not self.is_large(m, index):
            for i in range(first, first + HPAGE_PMD_NR):
                self.folios.set_slot(m, i, 0)
            self.nr_large += 1
        self.nr_large -= 1
        self.swap.delete_from_swap_cache(folio, 0)
        self.insert(m, first, folio)
        self.frames.page[folio].flags |= PG_DIRTY
        self.swap.nr_shmem_swapped -= HPAGE_PMD_NR
        for i in range(slot, slot + HPAGE_PMD_NR):
            self.swap.entry_free(i)
        return self.frames.folio_pfn(folio) + index - first

    # ------------------------------------------------------------------------------ for mm

    def order(self, m: cython.long, index: cython.long):
        """The order of what is in a slot, for policy."""
        return HPAGE_PMD_ORDER if self.nr_large and self.is_large(m, index) else 0
