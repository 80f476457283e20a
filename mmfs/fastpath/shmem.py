# cython: language_level=3
"""Folios of several pages for shared memory: brought by a fault or a write, swapped out whole, taken away.

What has a name in a tmpfs gets pages of 2 MB or single ones. What has none (shared anonymous memory, memfds) gets,
where it is mapped, the largest size that its switches allow, that its VMA spans, and where nothing is in the file yet.

How they lie in the slots of a file is in fastpath/shmem_slots.py; what becomes of one of which only part may stay
(truncation, a hole) in fastpath/huge_split.py.

Linux: mm/shmem.c.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view
from mmfs.fastpath.shmem_slots import ShmemSlots

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_MAPPINGS = 1 << 24
_LATER = cython.declare(cython.long, -4)


class Shmem:
    """The files of shared memory.

    Policy (mm/shmem_huge.py) sets ``always``, ``within_size``, ``madvise`` and ``inherit``: bit masks of the orders
    that files without a name get, mapped.

    ``queued``: address_spaces (``nr_queued`` of them) whose last page reaches beyond the end of the file, put down once
    (``shrinking``) until policy takes them over (mm/shmem_huge.py).
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
        self.slots = ShmemSlots(self.folios)
        self.always = self.within_size = self.madvise = self.inherit = 0
        self.queued = lazy_array(_MAX_MAPPINGS, np.uint32)
        self.queued_mapping = view(self.queued)
        self.nr_queued = 0

    # ------------------------------------------------------------------------------ which size

    def suits(self, vma, addr, order):
        """Whether a VMA spans what lies around an address in this size, on its boundary there and in the file.

        Linux: thp_vma_suitable_order().
        """
        size: cython.long = cython.cast(cython.long, PAGE_SIZE) << order
        start: cython.long = addr & -size
        return (
            ((self.vma[vma].start >> PAGE_SHIFT) - self.vma[vma].pgoff) & ((1 << order) - 1) == 0
            and start >= self.vma[vma].start
            and start + size <= self.vma[vma].end
        )

    def disabled(self, vma):
        """Whether a VMA has no huge pages at all. Linux: vma_thp_disabled()."""
        return (
            self.vma[vma].flags & VMF_NOHUGEPAGE != 0 or self.mm[self.vma[vma].mm].flags & MMF_DISABLE_THP != 0
        )

    def wanted(self, index, end, policy, advised):
        """Whether a file of ``end`` pages gets a huge page there. Linux: shmem_huge_global_enabled()."""
        if policy & SHMEM_ALWAYS or (policy & SHMEM_ADVISE and advised):
            return True
        return policy & SHMEM_WITHIN_SIZE != 0 and (index | (HPAGE_PMD_NR - 1)) < end

    def orders_within(self, index, end):
        """The sizes for what lies within a file of ``end`` pages, from the largest that does there on."""
        orders: cython.uint = self.within_size
        order: cython.int = HPAGE_PMD_ORDER
        while order and not (orders >> order & 1 and (index | ((1 << order) - 1)) < end):
            orders &= ~(cython.cast(cython.uint, 1) << order)
            order -= 1
        return orders

    def allowable_orders(self, m, vma, index):
        """The sizes that a page of a file may have where a VMA maps it, a bit an order.

        Linux: shmem_allowable_huge_orders().
        """
        policy: cython.int = self.mapping[m].huge_fault
        end: cython.long = self.mapping[m].size
        advised: cython.bint = self.vma[vma].flags & VMF_HUGEPAGE != 0
        wanted: cython.bint = self.wanted(index, end, policy, advised)
        if self.disabled(vma):
            return 0
        if not policy & SHMEM_BY_SIZE:
            return 1 << HPAGE_PMD_ORDER if wanted else 0
        return (
            self.always | self.orders_within(index, end) | (self.madvise if advised else 0)
            | (self.inherit if wanted else 0)
        )

    def next_order(self, orders, order):
        """The largest order of a mask below this one, 0 if there is none. Linux: next_order()."""
        order -= 1
        while order > 0 and not orders >> order & 1:
            order -= 1
        return order

    def largest_order(self, m, index, vma, orders):
        """The largest order of a mask that a VMA (0: none is asked) spans around an index where nothing is; or 0.

        Linux: shmem_suitable_orders().
        """
        order: cython.int = self.next_order(orders, HPAGE_PMD_ORDER + 1)
        addr: cython.long = self.vma[vma].start + ((index - self.vma[vma].pgoff) << PAGE_SHIFT)
        first: cython.long
        while order > 0:
            first = self.slots.start_of(index, order)
            if (
                first + (1 << order) <= self.mapping[m].slots
                and (vma == 0 or self.suits(vma, addr, order))
                and self.slots.is_vacant(m, first, order)
            ):
                break
            order = self.next_order(orders, order)
        return order

    # ------------------------------------------------------------------------------ a new one

    def count_fallback(self, order, charge):
        """There is no folio of a size to be had, or (``charge``) it is above a limit."""
        self.stat[order, MTHP_STAT_SHMEM_FALLBACK] += 1
        self.stat[order, MTHP_STAT_SHMEM_FALLBACK_CHARGE] += charge
        if order == HPAGE_PMD_ORDER:
            self.event[THP_FILE_FALLBACK] += 1
            self.event[THP_FILE_FALLBACK_CHARGE] += charge

    def alloc(self, m, index, vma, orders, memcg, in_fault):
        """Bring a folio of one of these sizes around ``index``: the frame of that page, -1: it is not to be had,
        _LATER: policy has more to try. Linux: shmem_alloc_and_add_folio()."""
        order: cython.int = self.largest_order(m, index, vma, orders)
        advised: cython.bint = vma != 0 and self.vma[vma].flags & VMF_HUGEPAGE != 0
        first: cython.long
        pfn: cython.long
        result: cython.int
        if self.huge.wanted and self.huge.wanted < order:  # larger ones were not to be had
            order = self.huge.wanted
        while order > 0:
            first = self.slots.start_of(index, order)
            pfn = self.huge.alloc(vma, first, order, advised)
            if pfn == -2:
                return _LATER
            if pfn >= 0:
                result = self.huge.charge(memcg, pfn, order, advised)
                if result == FAULT_HUGE:
                    return _LATER
                if result == FAULT_FALLBACK:
                    self.count_fallback(order, True)
                    return -1
                self.add_new(m, first, pfn, order, memcg, in_fault)
                self.event[THP_FILE_ALLOC] += order == HPAGE_PMD_ORDER
                self.stat[order, MTHP_STAT_SHMEM_ALLOC] += 1
                return pfn + index - first
            self.count_fallback(order, False)
            order = self.next_order(orders, order)
        return -1

    def add_new(self, m, first, pfn, order, memcg, in_fault):
        """Make a charged block a folio of a file. Linux: shmem_alloc_and_add_folio()."""
        block: cython.long = pfn >> PAGEBLOCK_ORDER
        folio: cython.long = self.frames.large_folio(pfn, order)
        i: cython.long
        if order == HPAGE_PMD_ORDER:
            self.frames.block[block].state = BLK_SPLIT
            self.frames.block[block].mapcount = self.frames.block[block].nr_mapped = 0
        self.frames.page[folio].flags = PG_UPTODATE | PG_SWAPBACKED | PG_HEAD
        self.frames.page[folio].private = 0
        self.frames.page[folio].mapcount = 0
        self.frames.page[folio].mlock_count = 0
        for i in range(pfn, pfn + (1 << order)):
            self.frames.page[i].flags = PG_UPTODATE | PG_SWAPBACKED | PG_TAIL
            self.frames.page[i].private = 0
            self.frames.page[i].mapcount = 0
            self.frames.page[i].memcg = 0
            self.frames.page[i].mlock_count = cython.cast(cython.ushort, order)
        self.memcg.commit_charge(folio, memcg)
        self.slots.insert(m, first, folio)
        self.lru.add(folio, in_fault)
        if self.mapping[m].size < first + (1 << order) and not self.mapping[m].shrinking:
            self.mapping[m].shrinking = 1
            self.queued_mapping[self.nr_queued] = cython.cast(cython.uint, m)
            self.nr_queued += 1

    def may_map(self, vma, addr, write):
        """Whether an access to a VMA where it has no page table may map a huge page. Linux: do_set_pmd()."""
        m: cython.long = self.vma[vma].mapping
        if not self.mapping[m].shmem or not (self.slots.nr_large or self.mapping[m].huge_fault):
            return False
        if write and not self.vma[vma].flags & VMF_SHARED:
            return False
        return self.suits(vma, addr, HPAGE_PMD_ORDER) and not self.disabled(vma)

    def fault(self, m, vma, index):
        """A fault on a page of a file that is not there: as alloc()."""
        return self.alloc(
            m, index, vma, self.allowable_orders(m, vma, index), self.mm[self.vma[vma].mm].memcg,
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
        pfn = self.bring(m, index, end)
        if pfn >= 0 and self.frames.page[pfn].flags & PG_TAIL:
            self.frames.page[self.frames.folio_of(pfn)].flags |= PG_REFERENCED
        return pfn

    def bring(self, m, index, end):
        """A new page for who writes to a file, or allocates of it, up to ``end``; as write_begin().

        Linux: shmem_get_folio_gfp() with SGP_WRITE or SGP_FALLOC.
        """
        pfn: cython.long = -1
        if self.mapping[m].huge_write and self.wanted(
            index, max(self.mapping[m].size, (end + PAGE_SIZE - 1) >> PAGE_SHIFT), self.mapping[m].huge_write, False
        ):
            pfn = self.alloc(m, index, 0, 1 << HPAGE_PMD_ORDER, self.memcg.current, False)
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
                stop += self.frames.folio_pfn(folio) + self.frames.nr_pages(folio) - pfn - 1
            stop = min(end, stop << PAGE_SHIFT)
            self.filemap.spend(((stop + PAGE_SIZE - 1) // PAGE_SIZE - pos // PAGE_SIZE) * self.filemap.write_ns)
            pos = stop
            if pos < end and self.filemap.now_ns >= until_ns:
                self.filemap.reason = FAULT_SLICE
                break
        return pos

    def fallocate(self, m: cython.long, index: cython.long, end: cython.long, now_ns: cython.long,
                  until_ns: cython.long):
        """Have memory for the pages [index, end) of a file; how far it got, the rest as write() tells it.

        Linux: shmem_fallocate().
        """
        pfn: cython.long
        folio: cython.long
        self.filemap.now_ns = now_ns
        self.filemap.cpu_ns = self.filemap.memstall_ns = self.filemap.nr_dirtied = 0
        self.filemap.reason = FAULT_DONE
        while index < end:
            if self.folios.slot[self.mapping[m].base + index] & SLOT_SWAP:
                self.filemap.reason = FAULT_SWAP
                break
            pfn = self.folios.lookup(m, index)
            if pfn < 0:
                pfn = self.bring(m, index, end << PAGE_SHIFT)
            if pfn < 0:
                self.filemap.reason = FAULT_OOM if pfn == -1 else FAULT_HUGE
                break
            folio = self.frames.folio_of(pfn)
            self.folios.mark_dirty(folio)
            index += self.frames.folio_pfn(folio) + self.frames.nr_pages(folio) - pfn
            if index < end and self.filemap.now_ns >= until_ns:
                self.filemap.reason = FAULT_SLICE
                break
        return index

    # ------------------------------------------------------------------------------ letting go

    def unmap(self, folio, locked):
        """Take a large folio of a file out of every page table, VMAs that are ``locked`` too; else False there.

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
            pmd = self.rmap.find_pmd(vma, folio) if folio < self.frames.mthp else -1
            if pmd >= 0:
                if self.vma[vma].flags & VMF_LOCKED and not locked:
                    return False
                self.rmap.update_hiwater_rss(self.vma[vma].mm)
                self.file.split_pmd(self.vma[vma].mm, self.rmap.found_addr, pmd)
            if self.frames.page[folio].mapcount > self.huge.entire_mapcount(folio):
                for i in range(pfn, pfn + self.frames.nr_pages(folio)):
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
        order: cython.int
        end: cython.long = min(last, self.mapping[m].slots)
        while i < end and self.slots.nr_large:
            order = self.slots.order_at(m, i)
            start = self.slots.start_of(i, order)
            if order:
                if start < first or start + (1 << order) > last:
                    return i
                pfn = self.folios.lookup(m, start)
                if pfn >= 0:
                    pfn = self.frames.folio_of(pfn)
                    self.slots.remove(pfn, 0)
                    self.huge.free(pfn)
                else:
                    self.free_swap(m, start, order)
            i = start + (1 << order)
        return -1

    def free_swap(self, m, first, order):
        """Let go of pages that are swapped out as one. Linux: shmem_free_swap()."""
        slot: cython.long = cython.cast(cython.long, self.folios.slot[self.mapping[m].base + first] & SLOT_SWP_MASK)
        i: cython.long
        self.slots.clear(m, first, order)
        self.swap.nr_shmem_swapped -= 1 << order
        for i in range(slot, slot + (1 << order)):
            self.swap.free_swap_and_cache(i)

    # ------------------------------------------------------------------------------ swap

    def add_to_swap(self, folio):
        """Move a large folio that nobody maps from the page cache to the swap cache. False: it must be split first.

        Linux: shmem_writepage().
        """
        m: cython.long = self.frames.page[folio].mapping
        first: cython.long = self.frames.page[folio].index
        nr: cython.long = self.frames.nr_pages(folio)
        slot: cython.long
        i: cython.long
        if first < self.mapping[m].size < first + nr:
            return False
        slot = self.swap.alloc_slot(folio)
        if slot == 0:
            return False
        self.slots.remove(folio, slot)
        self.swap.nr_shmem_swapped += nr
        for i in range(slot, slot + nr):
            self.swap.duplicate(i)
        self.swap.add_to_swap_cache(folio, slot)
        return True

    def swap_in(self, m, index, folio):
        """Move a large folio from the swap cache back to its file: the frame of page ``index``.

        Linux: shmem_swapin_folio().
        """
        order: cython.int = self.frames.folio_order(folio)
        nr: cython.long = cython.cast(cython.long, 1) << order
        first: cython.long = self.slots.start_of(index, order)
        slot: cython.long = self.frames.page[folio].private
        i: cython.long
        self.swap.delete_from_swap_cache(folio, 0)
        self.slots.insert_swapped(m, first, folio)
        self.frames.page[folio].flags |= PG_DIRTY
        self.swap.nr_shmem_swapped -= nr
        for i in range(slot, slot + nr):
            self.swap.entry_free(i)
        return self.frames.folio_pfn(folio) + index - first

    # ------------------------------------------------------------------------------ for mm

    def orders(self, m: cython.long, vma: cython.long, index: cython.long):
        """allowable_orders(), for policy."""
        return self.allowable_orders(m, vma, index)
