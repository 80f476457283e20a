# cython: language_level=3
"""Swapping in: a fault on a swap entry, a page of shared memory that is out, and the emptying of an area.

If the page is still in the swap cache, the fault is minor. Else it is read, with its neighbours
(fastpath/swap_state.py); or from zram in one folio of a size that is enabled (fastpath/anon_folio.py), if the slots lie
together as they did when one was swapped out.

Linux: mm/memory.c, do_swap_page(); mm/shmem.c, shmem_swapin_folio(); mm/swapfile.c, unuse_pte().
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_NO_MEMORY = cython.declare(cython.long, -2)
_HAS_CACHE = cython.declare(cython.uint, 1 << 30)
_SHADOW = cython.declare(cython.ulong, 1 << 63)


class SwapIn:
    """Swap-in for all address spaces. ``state``: what is read. ``major``: the last fault has read."""

    def __init__(self, state, shmem, anon_folios):
        self.state = state
        self.anon_folios = anon_folios
        self.huge = anon_folios.huge
        self.frames = state.frames
        self.buddy = state.buddy
        self.folios = state.folios
        self.lru = state.lru
        self.memcg = state.memcg
        self.shmem = shmem
        self.rmap = shmem.rmap
        self.swap = state.swap
        self.areas = state.areas
        self.vma = self.areas.vma
        self.mm = self.areas.walker.mm
        self.area = self.swap.area
        self.event = self.folios.event
        self.major = self.direct = False
        self.reason = FAULT_DONE

    def swap_in(self, mm, vma, addr, at, write):
        """Serve a fault on a swap entry: FAULT_DONE, FAULT_OOM, FAULT_SIGBUS; ``major`` if it was read.

        A write to a page that others have too leaves it read-only: the caller copies it. Linux: do_swap_page().
        """
        slot: cython.long = self.swap.slots.slot_of(self.frames.entry[at])
        pfn: cython.long = -1
        result: cython.int
        self.major = False
        if self.state.pending_slot != slot or self.state.pending_addr != addr:
            pfn = self.state.swap_cache_get(slot, vma, addr)
        if pfn < 0:
            self.direct = self.alone_in_zram(slot)
            if self.direct and self.anon_folios.enabled:
                result = self.swap_in_large(mm, vma, addr, at, slot, write)
                if result != FAULT_FALLBACK:
                    self.direct = False
                    return result
            if self.direct:
                pfn = self.state.read_swap_cache(vma, slot, self.areas.index(vma, addr))
            else:
                pfn = self.state.readahead(vma, addr, at, slot)
            if pfn < 0:
                self.direct = False
                return FAULT_OOM
            self.major = True
        if self.frames.page[pfn].flags & PG_HWPOISON:
            return FAULT_SIGBUS
        if self.might_need_to_copy(vma, addr, self.swap.slots.frame_of(pfn, slot)):
            self.direct = False
            return self.map_copy(mm, vma, addr, at)
        if pfn >= self.frames.huge:
            self.map_huge(mm, vma, addr, at, pfn, write)
        else:
            self.map_page(mm, vma, addr, at, pfn, write)
        self.direct = False
        return FAULT_DONE

    def might_need_to_copy(self, vma, addr, pfn):
        """Whether a page of the swap cache is another's: what KSM had merged is swapped in apart.

        Linux: mm/ksm.c, ksm_might_need_to_copy().
        """
        flags: cython.uint = self.frames.page[pfn].flags
        if flags & PG_KSM:
            return self.frames.page[pfn].mapping == 0 or self.rmap.ksm.unmerging
        if not flags & PG_ANON:
            return False
        return (
            self.frames.page[pfn].index != self.areas.index(vma, addr)
            or self.rmap.root[self.frames.page[pfn].mapping] != self.rmap.root[self.vma[vma].anon_vma]
        )

    def map_copy(self, mm, vma, addr, at):
        """Map a copy of a page of the swap cache in place of its entry: FAULT_DONE or FAULT_OOM."""
        entry: cython.ulong = self.frames.entry[at]
        flags: cython.ulong = self.vma[vma].flags
        pfn: cython.long = self.areas.alloc_charged(vma, self.areas.index(vma, addr), self.mm[mm].memcg)
        if pfn < 0:
            return FAULT_OOM
        self.frames.page[pfn].flags = PG_UPTODATE | PG_SWAPBACKED | PG_DIRTY
        self.swap.entry_free(self.swap.slots.slot_of(entry))
        self.mm[mm].rss_anon += 1
        self.mm[mm].rss_swap -= 1
        self.rmap.add_anon_rmap(vma, addr, pfn, True)
        self.frames.entry[at] = (
            cython.cast(cython.ulong, pfn) << PAGE_SHIFT | self.areas.prot(flags)
            | (PTE_SOFT_DIRTY if entry & SWP_SOFT_DIRTY else 0)
            | (PTE_RW if flags & VMF_WRITE else 0)
        )  # fmt: skip
        self.lru.add(pfn, True)
        if flags & VMF_LOCKED:
            self.folios.mlock_folio(pfn)
        self.event[KSM_SWPIN_COPY] += 1
        return FAULT_DONE

    def alone_in_zram(self, slot):
        """Whether a page is read at once and has one owner: it skips readahead, and does not stay in the swap cache."""
        t: cython.int = self.swap.slots.type[slot >> SWAPFILE_CLUSTER_SHIFT]
        return self.area[t].flags & SWP_SYNCHRONOUS_IO != 0 and self.swap.owners(slot) == 1

    def is_whole(self, vma, addr, at, index, nr):
        """Whether the swap entry ``at`` is the ``index``th of ``nr`` that a table has in order, alike, in one VMA.

        Linux: swap_pte_batch().
        """
        start: cython.long = addr - (index << PAGE_SHIFT)
        end: cython.long = start + nr * PAGE_SIZE
        first: cython.ulong = self.frames.entry[at] + (cython.cast(cython.ulong, index) << SWP_OFFSET_FIRST_BIT)
        i: cython.long = (at & (PTRS_PER_TABLE - 1)) - index
        if i < 0 or i + nr > PTRS_PER_TABLE or start < self.vma[vma].start or end > self.vma[vma].end:
            return False
        for i in range(nr):
            if self.frames.entry[at - index + i] != first - (cython.cast(cython.ulong, i) << SWP_OFFSET_FIRST_BIT):
                return False
        return True

    def map_huge(self, mm, vma, addr, at, folio, write):
        """Map a large folio of the swap cache again: all its frames if their swap entries stand together, else the one.

        Linux: the second half of do_swap_page().
        """
        entry: cython.ulong = self.frames.entry[at]
        flags: cython.ulong = self.vma[vma].flags
        slot: cython.long = self.swap.slots.slot_of(entry)
        index: cython.long = slot - self.frames.page[folio].private
        pfn: cython.long = self.frames.folio_pfn(folio) + index
        nr: cython.long = 1
        bits: cython.ulong = self.areas.prot(flags) | (PTE_SOFT_DIRTY if entry & SWP_SOFT_DIRTY else 0)
        exclusive: cython.bint = self.may_be_exclusive(folio, slot, entry)
        i: cython.long
        if self.is_whole(vma, addr & PAGE_MASK, at, index, self.frames.nr_pages(folio)):
            nr = self.frames.nr_pages(folio)
            at -= index
            pfn -= index
            slot -= index
        for i in range(slot, slot + nr):
            self.swap.entry_free(i)
        if self.wants_no_slot(vma, folio, write):
            self.swap.free_swap(folio)
        self.mm[mm].rss_anon += nr
        self.mm[mm].rss_swap -= nr
        exclusive |= self.frames.page[folio].mapcount == 0 and not self.frames.page[folio].flags & PG_SWAPCACHE
        if exclusive and flags & VMF_WRITE and (flags & VMF_SOFTDIRTY or bits & PTE_SOFT_DIRTY):
            bits |= PTE_RW | (PTE_DIRTY | PTE_SOFT_DIRTY if write else 0)
        self.rmap.huge.add_rmaps(pfn, nr, exclusive)
        for i in range(nr):
            self.frames.entry[at + i] = cython.cast(cython.ulong, pfn + i) << PAGE_SHIFT | bits

    def can_swapin(self, vma, addr, at, slot, order):
        """Whether an address's swap entry and its neighbours can come back as a folio of this order.

        Linux: can_swapin_thp(), thp_swap_suitable_orders().
        """
        nr: cython.long = cython.cast(cython.long, 1) << order
        index: cython.long = (addr >> PAGE_SHIFT) & (nr - 1)
        offset: cython.long = slot - self.area[self.swap.slots.type[slot >> SWAPFILE_CLUSTER_SHIFT]].base
        i: cython.long
        if (offset & (nr - 1)) != index or not self.is_whole(vma, addr & PAGE_MASK, at, index, nr):
            return False
        for i in range(slot - index, slot - index + nr):
            if self.swap.count[i] & _HAS_CACHE or (
                self.swap.slots.zswap.holds_zero(i) != self.swap.slots.zswap.holds_zero(slot)
            ):
                return False
        return True

    def swap_in_large(self, mm, vma, addr, at, slot, write):
        """Serve a fault on a swap entry of zram with a folio: FAULT_DONE, _FALLBACK: with a page, or _HUGE.

        Linux: alloc_swap_folio().
        """
        orders: cython.uint = self.anon_folios.allowable_orders(mm, vma)
        order: cython.int = self.anon_folios.next_order(orders, HPAGE_PMD_ORDER)
        memcg: cython.long = self.memcg.swapin_memcg(self.swap.slots.memcg_of[slot], self.memcg.current)
        pfn: cython.long
        madvised: cython.bint = self.vma[vma].flags & VMF_HUGEPAGE != 0
        result: cython.int = FAULT_FALLBACK
        if self.swap.slots.zswap.ever_enabled:
            return FAULT_FALLBACK
        while order and not self.can_swapin(vma, addr, at, slot, order):
            order = self.anon_folios.next_order(orders, order)
        if self.huge.wanted and self.huge.wanted < order:
            order = self.huge.wanted
        while order:
            pfn = self.huge.alloc(vma, self.areas.index(vma, addr), order, madvised)
            if pfn >= 0:
                result = self.huge.charge(memcg, pfn, order, madvised)
            if pfn == -2 or result == FAULT_HUGE:
                return FAULT_HUGE
            if pfn >= 0 and result == FAULT_DONE:
                self.map_large(mm, vma, addr, at, slot, pfn, order, memcg, write)
                self.major = True
                return FAULT_DONE
            order = self.anon_folios.next_order(orders, order)
        return FAULT_FALLBACK

    def map_large(self, mm, vma, addr, at, slot, pfn, order, memcg, write):
        """Read a folio into a charged block and map it in place of its swap entries. Linux: do_swap_page()."""
        nr: cython.long = cython.cast(cython.long, 1) << order
        index: cython.long = (addr >> PAGE_SHIFT) & (nr - 1)
        folio: cython.long = self.frames.large_folio(pfn, order)
        flags: cython.ulong = self.vma[vma].flags
        bits: cython.ulong = self.areas.prot(flags)
        shadow: cython.ulong = self.swap.cached[slot - index]
        i: cython.long
        if self.frames.entry[at] & SWP_SOFT_DIRTY:
            bits |= PTE_SOFT_DIRTY
        if flags & VMF_WRITE and (flags & VMF_SOFTDIRTY or bits & PTE_SOFT_DIRTY):
            bits |= PTE_RW | (PTE_DIRTY | PTE_SOFT_DIRTY if write else 0)
        self.anon_folios.add_new(vma, self.anon_folios.start_of(addr, order), pfn, order, memcg)
        if shadow & _SHADOW:
            self.folios.workingset.refault(folio, shadow, self.state.has_recency(vma))
        self.lru.add(folio, self.state.has_recency(vma))
        self.mm[mm].rss_anon += nr
        self.mm[mm].rss_swap -= nr
        for i in range(nr):
            self.state.read_folio(pfn + i, slot - index + i)
            if self.memcg.memsw:
                self.swap.slots.uncharge(slot - index + i)
            self.swap.entry_free(slot - index + i)
            self.frames.entry[at - index + i] = cython.cast(cython.ulong, pfn + i) << PAGE_SHIFT | bits

    def may_be_exclusive(self, folio, slot, entry):
        """Whether a swap entry says that nobody else has the page, and nobody is reading it to write it to a disk."""
        if (
            self.frames.page[folio].flags & PG_WRITEBACK
            and self.area[self.swap.slots.type[slot >> SWAPFILE_CLUSTER_SHIFT]].flags & SWP_STABLE_WRITES
        ):
            return False
        return (entry & SWP_EXCLUSIVE) != 0

    def wants_no_slot(self, vma, folio, write):
        """Whether a page that is mapped should leave the swap cache. Linux: should_try_to_free_swap()."""
        flags: cython.uint = self.frames.page[folio].flags
        return (
            self.vma[vma].flags & VMF_LOCKED != 0
            or flags & PG_MLOCKED != 0
            or (write and self.frames.page[folio].mapcount == 0 and not flags & PG_BATCHED)
            or self.swap.slots.folio_swap_full(folio)
            or self.direct
        )

    def map_page(self, mm, vma, addr, at, pfn, write):
        """Put a page of the swap cache in place of its swap entry. Linux: the second half of do_swap_page()."""
        entry: cython.ulong = self.frames.entry[at]
        slot: cython.long = self.frames.page[pfn].private
        flags: cython.ulong = self.vma[vma].flags
        new: cython.ulong = cython.cast(cython.ulong, pfn) << PAGE_SHIFT | self.areas.prot(flags)
        exclusive: cython.bint = self.may_be_exclusive(pfn, slot, entry)
        if write and not self.frames.page[pfn].flags & PG_LRU:
            self.lru.drain(self.buddy.cpu)
        self.swap.entry_free(slot)
        if self.wants_no_slot(vma, pfn, write):
            self.swap.free_swap(pfn)
        self.mm[mm].rss_anon += 1
        self.mm[mm].rss_swap -= 1
        if entry & SWP_SOFT_DIRTY:
            new |= PTE_SOFT_DIRTY
        if not self.frames.page[pfn].flags & (PG_SWAPCACHE | PG_BATCHED) and self.frames.page[pfn].mapcount == 0:
            exclusive = self.frames.page[pfn].flags & PG_KSM == 0
        if exclusive and flags & VMF_WRITE and (flags & VMF_SOFTDIRTY or new & PTE_SOFT_DIRTY):
            new |= PTE_RW
            if write:
                new |= PTE_DIRTY | PTE_SOFT_DIRTY
        self.rmap.add_anon_rmap(vma, addr, pfn, exclusive)
        self.frames.entry[at] = new
        if flags & VMF_LOCKED:
            self.folios.mlock_folio(pfn)

    def unuse(self, mm, vma, addr, at):
        """Read what a swap entry means and map it again: FAULT_DONE, FAULT_OOM, FAULT_SLICE while it is being written.

        Linux: mm/swapfile.c, unuse_pte_range(), unuse_pte().
        """
        entry: cython.ulong = self.frames.entry[at]
        slot: cython.long = self.swap.slots.slot_of(entry)
        pfn: cython.long = self.state.swap_cache_get(slot, vma, addr)
        page: cython.long
        if pfn < 0:
            pfn = self.state.readahead(vma, addr, at, slot)
            if pfn < 0:
                return FAULT_OOM
        if self.frames.page[pfn].flags & PG_WRITEBACK:
            return FAULT_SLICE
        if self.frames.page[pfn].flags & PG_HWPOISON:
            self.frames.entry[at] = PTE_HWPOISON
            self.mm[mm].rss_swap -= 1
            self.swap.free_swap_and_cache(slot)
            return FAULT_DONE
        page = self.swap.slots.frame_of(pfn, slot)
        if self.might_need_to_copy(vma, addr, page):
            return self.map_copy(mm, vma, addr, at)
        self.mm[mm].rss_anon += 1
        self.mm[mm].rss_swap -= 1
        if pfn >= self.frames.huge:
            self.rmap.huge.add_rmaps(page, 1, (entry & SWP_EXCLUSIVE) != 0)
        else:
            self.rmap.add_anon_rmap(vma, addr, pfn, (entry & SWP_EXCLUSIVE) != 0)
        self.frames.entry[at] = (
            cython.cast(cython.ulong, page) << PAGE_SHIFT
            | (self.areas.prot(self.vma[vma].flags) & ~cython.cast(cython.ulong, PTE_ACCESSED))
            | (PTE_SOFT_DIRTY if entry & SWP_SOFT_DIRTY else 0)
        )
        self.swap.entry_free(slot)
        self.swap.free_swap(pfn)
        return FAULT_DONE

    # ------------------------------------------------------------------------------ shared memory

    def shmem_swapin(self, m, index):
        """Have a page of shared memory that is swapped out back in its file: the page; -1 while it is being written,
        _NO_MEMORY. Linux: mm/shmem.c, shmem_swapin_folio()."""
        at: cython.long = self.folios.mapping[m].base + index
        slot: cython.long = cython.cast(cython.long, self.folios.slot[at] & SLOT_SWP_MASK)
        pfn: cython.long = -1
        order: cython.int = 0
        if self.state.pending_slot != slot or self.state.pending_addr != index:
            pfn = self.state.swap_cache_get(slot, 0, 0)
        if self.shmem.slots.nr_large:
            order = self.shmem.slots.order_at(m, index)
            if order and (pfn < 0 or self.frames.folio_order(pfn) < order):
                self.shmem.slots.split(m, self.shmem.slots.start_of(index, order), order)
        if pfn < 0:
            pfn = self.state.readahead(0, index, 0, slot)
            if pfn < 0:
                return _NO_MEMORY
            self.major = True
            self.memcg.count_events(self.memcg.current, PGMAJFAULT, 1)
        if self.frames.page[pfn].flags & PG_WRITEBACK:
            return -1
        if pfn >= self.frames.huge:
            return self.shmem.swap_in(m, index, pfn)
        self.swap.delete_from_swap_cache(pfn, 0)
        self.folios.cache_insert(m, index, pfn)
        self.frames.page[pfn].flags |= PG_DIRTY
        self.swap.entry_free(slot)
        self.swap.nr_shmem_swapped -= 1
        return pfn

    def slot_type(self, value):
        """The area of what is swapped out of a file."""
        return self.swap.slots.type[(value & SLOT_SWP_MASK) >> SWAPFILE_CLUSTER_SHIFT]

    def shmem_swapin_range(self, m: cython.long, first: cython.long, last: cython.long, t: cython.int):
        """Have what [first, last) of a file has in swap area ``t`` (-1: in any) back; where it stopped.

        ``reason``: FAULT_DONE, FAULT_OOM, or FAULT_SLICE at a page that is being written.
        """
        i: cython.long = first
        pfn: cython.long
        value: cython.ulong
        self.reason = FAULT_DONE
        with cython.nogil:
            while self.swap.nr_shmem_swapped and i < last and i < self.folios.mapping[m].slots:
                value = self.folios.slot[self.folios.mapping[m].base + i]
                if value & SLOT_SWAP and (t < 0 or self.slot_type(value) == t):
                    pfn = self.shmem_swapin(m, i)
                    if pfn < 0:
                        self.reason = FAULT_OOM if pfn == _NO_MEMORY else FAULT_SLICE
                        break
                i += 1
        return i if self.reason != FAULT_DONE else last
