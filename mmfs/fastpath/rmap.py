# cython: language_level=3
"""Reverse mapping: from a page to the entries that map it, and taking these away.

A page knows its anon_vma or its address_space and its offset there; each of these heads a chain of the VMAs that
may map its pages (mm/rmap.py and mm/filemap.py link them), and a VMA gives the address at which to look. Who
reclaims a page asks whether it was accessed (folio_referenced()) and unmaps it (try_to_unmap()): an anonymous
page leaves a swap entry in each place, a file's page leaves nothing, and its dirt moves to the page.

Linux: mm/rmap.c; mm/page_vma_mapped.c.

Simplified: chains are lists, not interval trees; a translation that is no longer young stays in the TLBs, as on x86.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view
from mmfs.fastpath.ksm_tree import KsmTree

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_ANON_VMAS = cython.declare(cython.long, 1 << 26)
_MAX_MAPPINGS = 1 << 24
_MAX_CHAINS = 1 << 28
_CHAIN_DTYPE = np.dtype([("vma", "u4"), ("nxt", "u4"), ("prv", "u4"), ("head", "u4")])
_MAPPED = cython.declare(cython.ulong, 0x101)  # present, or PROT_NONE with the page kept


class Rmap:
    """The chains of all anon_vmas and address_spaces. ``vm_flags``: of the VMAs that folio_referenced() counted."""

    def __init__(self, areas, folios, tlb, swap, lru_gen_walk, huge):
        self.frames = areas.frames
        self.buddy = areas.buddy
        self.folios = folios
        self.swap = swap
        self.lru_gen_walk = lru_gen_walk
        self.huge = huge
        self.tlb = tlb
        self.areas = areas
        self.walker = areas.walker
        self.vma = view(areas.vmas)
        self.mm = self.walker.mm
        self.chain = view(lazy_array(_MAX_CHAINS, _CHAIN_DTYPE))
        self.head = view(lazy_array(_MAX_ANON_VMAS + _MAX_MAPPINGS, np.uint32))
        self.roots = lazy_array(_MAX_ANON_VMAS, np.uint32)
        self.root = view(self.roots)
        self.memcg = self.folios.memcg
        self.free_chain = 0
        self.next_chain = 1
        self.vm_flags = 0
        self.found_addr = self.found_vma = 0
        self.ksm = KsmTree(self.frames)
        self.ksm_item = self.ksm_link = 0

    # ------------------------------------------------------------------------------ chains

    def link(self, head, vma):
        """Put a VMA at the front of a chain; returns the link."""
        at: cython.long = self.free_chain
        if at:
            self.free_chain = self.chain[at].nxt
        else:
            at = self.next_chain
            self.next_chain = at + 1
        self.chain[at].vma = cython.cast(cython.uint, vma)
        self.chain[at].head = cython.cast(cython.uint, head)
        self.chain[at].prv = 0
        self.chain[at].nxt = self.head[head]
        if self.head[head]:
            self.chain[self.head[head]].prv = cython.cast(cython.uint, at)
        self.head[head] = cython.cast(cython.uint, at)
        return at

    def link_anon(self, anon_vma: cython.long, vma: cython.long):
        """A VMA may map pages of an anon_vma; returns the link. Linux: anon_vma_chain_link()."""
        return self.link(anon_vma, vma)

    def link_file(self, mapping: cython.long, vma: cython.long):
        """A VMA maps a file; returns the link. Linux: vma_interval_tree_insert()."""
        return self.link(_MAX_ANON_VMAS + mapping, vma)

    def unlink(self, at: cython.long):
        """Take a link out of its chain."""
        if self.chain[at].prv:
            self.chain[self.chain[at].prv].nxt = self.chain[at].nxt
        else:
            self.head[self.chain[at].head] = self.chain[at].nxt
        if self.chain[at].nxt:
            self.chain[self.chain[at].nxt].prv = self.chain[at].prv
        self.chain[at].nxt = cython.cast(cython.uint, self.free_chain)
        self.free_chain = at

    def first(self, pfn):
        """The first link of the chain of a page that is mapped, or 0: a page of KSM has next_ksm()."""
        if self.frames.page[pfn].flags & PG_KSM:
            return 0
        if self.frames.page[pfn].flags & PG_ANON:
            return self.head[self.frames.page[pfn].mapping]
        return self.head[_MAX_ANON_VMAS + self.frames.page[pfn].mapping] if self.frames.page[pfn].mapping else 0

    def start_address(self, vma, index):
        """The first address in a VMA that a page offset (its low 32 bits) can mean; past its end if none.

        Linux: vma_address().
        """
        offset: cython.uint = cython.cast(
            cython.uint, (index - cython.cast(cython.ulong, self.vma[vma].pgoff)) & INDEX_MASK
        )
        return self.vma[vma].start + (cython.cast(cython.long, offset) << PAGE_SHIFT)

    def prefetch(self, pfn):
        """Have the host fetch the first entry that may map a page, which will be looked for soon."""
        link: cython.long = self.first(pfn)
        vma: cython.long
        if cython.compiled and link:
            vma = self.chain[link].vma
            self.walker.prefetch_entry(self.vma[vma].mm, self.start_address(vma, self.frames.page[pfn].index))

    def find(self, mm, addr, pfn):
        """The index of an address's entry if it maps the page, or -1. Linux: page_vma_mapped_walk()."""
        table: cython.long = self.mm[mm].pgd
        level: cython.int = self.walker.levels - 1
        entry: cython.ulong
        i: cython.long = addr >> PUD_SHIFT & 3
        if self.walker.upper_key[i] == (mm << 34 | addr >> PUD_SHIFT):
            table = self.walker.upper_table[i]
            level = 1
        while level > 0:
            entry = self.frames.entry[table + (addr >> (PAGE_SHIFT + TABLE_SHIFT * level) & (PTRS_PER_TABLE - 1))]
            if not entry & PTE_PRESENT or entry & PTE_PSE:
                return -1
            table = (entry & PTE_PFN_MASK) >> 3
            level -= 1
        entry = self.frames.entry[table + (addr >> PAGE_SHIFT & (PTRS_PER_TABLE - 1))]
        if not entry & _MAPPED or cython.cast(cython.long, (entry & PTE_PFN_MASK) >> PAGE_SHIFT) != pfn:
            return -1
        return table + (addr >> PAGE_SHIFT & (PTRS_PER_TABLE - 1))

    def find_pmd(self, vma, folio):
        """The index of the PMD entry by which a VMA maps a huge page, or -1; ``found_addr`` is its address."""
        addr: cython.long = self.start_address(vma, self.frames.page[folio].index)
        at: cython.long
        while addr < self.vma[vma].end:
            if addr & (HPAGE_PMD_SIZE - 1) == 0 and self.walker.lookup(self.vma[vma].mm, addr) == HUGE_PMD:
                at = self.walker.pmd
                if not self.frames.entry[at] & PTE_SPECIAL and self.huge.folio_of_pmd(self.frames.entry[at]) == folio:
                    self.found_addr = addr
                    return at
            addr += INDEX_SPAN
        return -1

    def split_pmds(self, folio):
        """Take apart every PMD entry that maps a huge page. Linux: split_huge_pmd_address()."""
        link: cython.long = self.head[self.frames.page[folio].mapping]
        vma: cython.long
        pmd: cython.long
        while link and self.frames.block[folio - self.frames.huge].mapcount:
            vma = self.chain[link].vma
            link = self.chain[link].nxt
            pmd = self.find_pmd(vma, folio)
            if pmd >= 0:
                self.huge.split_pmd(self.vma[vma].mm, self.found_addr, pmd)

    # ------------------------------------------------------------------------------ pages of KSM

    def begin_ksm(self, pfn):
        """Walk over the entries that map a page of KSM, with next_ksm()."""
        self.ksm_item = self.ksm.node[self.frames.page[pfn].mapping].first
        self.ksm_link = self.head[self.ksm.item[self.ksm_item].anon_vma]

    def next_ksm(self, pfn):
        """The index of the next entry that maps frame ``pfn``, in ``found_vma`` at ``found_addr``; -1: no more.

        What was forked from an item's address space has it at the same address. Linux: mm/ksm.c, rmap_walk_ksm().
        """
        at: cython.long
        vma: cython.long
        while self.ksm_item:
            self.found_addr = self.ksm.item[self.ksm_item].address
            while self.ksm_link:
                vma = self.chain[self.ksm_link].vma
                self.ksm_link = self.chain[self.ksm_link].nxt
                if self.vma[vma].start <= self.found_addr < self.vma[vma].end:
                    at = self.find(self.vma[vma].mm, self.found_addr, pfn)
                    if at >= 0:
                        self.found_vma = vma
                        return at
            self.ksm_item = self.ksm.item[self.ksm_item].after
            self.ksm_link = self.head[self.ksm.item[self.ksm_item].anon_vma]
        return -1

    def ksm_referenced(self, pfn):
        """folio_referenced() for a page of KSM."""
        count: cython.int = 0
        at: cython.long
        young: cython.bint
        self.begin_ksm(pfn)
        at = self.next_ksm(pfn)
        while at >= 0:
            if self.vma[self.found_vma].flags & VMF_LOCKED:
                self.mlock_missed(pfn)
                return count
            young = self.frames.entry[at] & PTE_ACCESSED != 0
            if self.folios.lru.enabled:
                young = self.lru_gen_walk.look_around(at, self.found_addr, self.found_vma, pfn)
            if young:
                self.frames.entry[at] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
                self.vm_flags |= self.vma[self.found_vma].flags
                count += 1
            at = self.next_ksm(pfn)
        if self.was_young(pfn, count > 0) and count == 0:
            count = 1
        return count

    def unmap_ksm(self, pfn):
        """try_to_unmap() for a page of KSM."""
        at: cython.long
        self.begin_ksm(pfn)
        at = self.next_ksm(pfn)
        while at >= 0:
            if self.vma[self.found_vma].flags & VMF_LOCKED:
                return False
            if not self.unmap_entry(self.found_vma, self.found_addr, at, pfn):
                return False
            at = self.next_ksm(pfn)
        return self.frames.page[pfn].mapcount == 0

    # ------------------------------------------------------------------------------ who accessed it

    def large_clear_young(self, vma, folio, around):
        """Whether a VMA's entries say that a large folio was accessed, its PMD's or its frames'; they forget it.

        ``around``: what is used near those of its frames is promoted.
        """
        first: cython.long = self.frames.folio_pfn(folio)
        pmd: cython.long = self.find_pmd(vma, folio) if folio < self.frames.mthp else -1
        pfn: cython.long
        addr: cython.long
        at: cython.long
        young: cython.bint = False
        if pmd >= 0 and self.frames.entry[pmd] & PTE_ACCESSED:
            self.frames.entry[pmd] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
            young = True
        if pmd < 0 and self.frames.page[folio].mapcount > self.huge.entire_mapcount(folio):
            for pfn in range(first, first + self.frames.nr_pages(folio)):
                addr = self.start_address(vma, self.frames.page[pfn].index)
                at = self.find(self.vma[vma].mm, addr, pfn) if addr < self.vma[vma].end else -1
                if at >= 0 and around:
                    young |= self.lru_gen_walk.look_around(at, addr, vma, folio)
                elif at >= 0 and self.frames.entry[at] & PTE_ACCESSED:
                    self.frames.entry[at] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
                    young = True
        return young

    def large_referenced_one(self, vma, folio):
        """referenced_one() for a large folio; a locked VMA is not asked, but locks one that it maps whole."""
        young: cython.bint = False
        if not self.vma[vma].flags & VMF_LOCKED:
            young = self.large_clear_young(vma, folio, self.folios.lru.enabled and folio >= self.frames.mthp)
        elif self.maps_whole(vma, folio):
            self.mlock_missed(folio)
            return False
        return self.was_young(folio, young)

    def maps_whole(self, vma, folio):
        """Whether a PMD entry of a VMA, or its entries, all in one page table, map all frames of a large folio.

        Linux: the end of folio_referenced_one().
        """
        first: cython.long = self.frames.folio_pfn(folio)
        nr: cython.long = self.frames.nr_pages(folio)
        addr: cython.long = self.start_address(vma, self.frames.page[folio].index)
        i: cython.long
        if folio < self.frames.mthp and self.find_pmd(vma, folio) >= 0:
            return True
        if addr + nr * PAGE_SIZE > self.vma[vma].end or addr >> PMD_SHIFT != (addr + nr * PAGE_SIZE - 1) >> PMD_SHIFT:
            return False
        for i in range(nr):
            if self.find(self.vma[vma].mm, addr + i * PAGE_SIZE, first + i) < 0:
                return False
        return True

    def mlock_missed(self, folio):
        """A folio that was not locked is found in a locked VMA: no reclaim. Linux: folio_referenced_one()."""
        self.vm_flags |= VMF_LOCKED
        self.folios.mlock_folio(folio)

    def mlock_vmas(self, pfn):
        """Each locked VMA that maps a page locks it. Linux: remove_migration_pte(), mlock_vma_folio()."""
        link: cython.long = self.first(pfn)
        vma: cython.long
        addr: cython.long
        while link:
            vma = self.chain[link].vma
            link = self.chain[link].nxt
            addr = self.start_address(vma, self.frames.page[pfn].index)
            if (
                self.vma[vma].flags & VMF_LOCKED
                and addr < self.vma[vma].end
                and self.find(self.vma[vma].mm, addr, pfn) >= 0
            ):
                self.folios.mlock_folio(pfn)

    def referenced_one(self, vma, pfn):
        """Whether a VMA's entries say that the page was accessed; they forget it. Linux: folio_referenced_one()."""
        addr: cython.long = self.start_address(vma, self.frames.page[pfn].index)
        at: cython.long
        young: cython.bint = False
        while addr < self.vma[vma].end:
            at = self.find(self.vma[vma].mm, addr, pfn)
            if at >= 0 and self.vma[vma].flags & VMF_LOCKED:
                self.mlock_missed(pfn)
                return False
            if at >= 0 and self.folios.lru.enabled:
                young |= self.lru_gen_walk.look_around(at, addr, vma, pfn)
            elif at >= 0 and self.frames.entry[at] & PTE_ACCESSED:
                self.frames.entry[at] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
                young = True
            addr += INDEX_SPAN
        return self.was_young(pfn, young)

    def was_young(self, pfn, young):
        """Whether a page was accessed, as its entries say (``young``) or page_idle has noted.

        Linux: the end of folio_referenced_one().
        """
        if young:
            self.frames.page[pfn].flags &= ~PG_IDLE
        if self.frames.page[pfn].flags & PG_YOUNG:
            self.frames.page[pfn].flags &= ~PG_YOUNG
            return True
        return young

    def folio_referenced(self, pfn):
        """In how many VMAs the page was accessed since the last call; ``vm_flags`` are those VMAs'.

        VMF_LOCKED in ``vm_flags`` ends the walk: the page cannot be reclaimed. Linux: folio_referenced().
        """
        count: cython.int = 0
        link: cython.long
        vma: cython.long
        young: cython.bint
        self.vm_flags = 0
        if self.frames.page[pfn].mapcount == 0:
            return 0
        if self.frames.page[pfn].flags & PG_KSM:
            return self.ksm_referenced(pfn)
        link = self.first(pfn)
        while link and not self.vm_flags & VMF_LOCKED:
            vma = self.chain[link].vma
            if pfn >= self.frames.huge:
                young = self.large_referenced_one(vma, pfn)
            else:
                young = self.referenced_one(vma, pfn)
            if young:
                count += 1
                self.vm_flags |= self.vma[vma].flags & ~cython.cast(cython.ulong, VMF_LOCKED)
            link = self.chain[link].nxt
        return count

    # ------------------------------------------------------------------------------ taking it away

    def remove_rmap(self, pfn):
        """One entry less maps the page. Linux: folio_remove_rmap_pte()."""
        anon: cython.bint = (self.frames.page[pfn].flags & PG_ANON) != 0
        self.frames.page[pfn].mapcount -= 1
        if self.frames.page[pfn].mapcount == 0:
            self.memcg.mod_folio_state(pfn, NR_ANON_MAPPED if anon else NR_FILE_MAPPED, -1)

    def unmap_entry(self, vma, addr, at, pfn):
        """Take one entry away from a page. False: it must stay mapped. Linux: the body of try_to_unmap_one()."""
        mm: cython.long = self.vma[vma].mm
        entry: cython.ulong = self.frames.entry[at]
        dirty: cython.bint
        self.update_hiwater_rss(mm)
        if not self.frames.page[pfn].flags & PG_ANON:
            if entry & PTE_DIRTY:
                self.folios.mark_dirty(pfn)
            self.frames.entry[at] = 0
            if self.frames.page[pfn].flags & PG_SWAPBACKED:
                self.mm[mm].rss_shmem -= 1
            else:
                self.mm[mm].rss_file -= 1
        elif not self.frames.page[pfn].flags & PG_SWAPBACKED:
            dirty = entry & PTE_DIRTY or self.frames.page[pfn].flags & PG_DIRTY
            if dirty and not self.vma[vma].flags & VMF_DROPPABLE:
                self.frames.page[pfn].flags |= PG_DIRTY | PG_SWAPBACKED
                return False
            self.frames.entry[at] = 0
            self.mm[mm].rss_anon -= 1
        else:
            if not self.frames.page[pfn].flags & PG_SWAPCACHE:
                return False
            if entry & PTE_DIRTY:
                self.frames.page[pfn].flags |= PG_DIRTY
            self.set_swap_entry(mm, at, pfn, self.frames.page[pfn].private)
        self.tlb.flush_page(mm, addr)
        self.remove_rmap(pfn)
        return True

    def set_swap_entry(self, mm, at, pfn, slot):
        """Have a slot's swap entry in place of one that maps a frame. Linux: the end of try_to_unmap_one()."""
        swp: cython.ulong = self.swap.entry_of(slot)
        self.swap.duplicate(slot)
        if self.frames.page[pfn].flags & PG_ANON_EXCLUSIVE:
            self.frames.page[pfn].flags &= ~PG_ANON_EXCLUSIVE
            swp |= SWP_EXCLUSIVE
        if self.frames.entry[at] & PTE_SOFT_DIRTY:
            swp |= SWP_SOFT_DIRTY
        self.frames.entry[at] = swp
        self.mm[mm].rss_anon -= 1
        self.mm[mm].rss_swap += 1

    def unmap_huge(self, folio):
        """try_to_unmap() for a large folio of the swap cache, or one that may be dropped: entry by entry."""
        first: cython.long = self.frames.folio_pfn(folio)
        link: cython.long = self.first(folio)
        vma: cython.long
        addr: cython.long
        at: cython.long
        pfn: cython.long
        if folio < self.frames.mthp:
            self.split_pmds(folio)
        while link and self.frames.page[folio].mapcount:
            vma = self.chain[link].vma
            link = self.chain[link].nxt
            self.update_hiwater_rss(self.vma[vma].mm)
            for pfn in range(first, first + self.frames.nr_pages(folio)):
                addr = self.start_address(vma, self.frames.page[pfn].index)
                while addr < self.vma[vma].end and self.frames.page[pfn].mapcount:
                    at = self.find(self.vma[vma].mm, addr, pfn)
                    if at >= 0 and (
                        self.vma[vma].flags & VMF_LOCKED or not self.unmap_large_entry(folio, vma, addr, at, pfn)
                    ):
                        return False
                    addr += INDEX_SPAN
        return self.frames.page[folio].mapcount == 0

    def unmap_large_entry(self, folio, vma, addr, at, pfn):
        """unmap_entry() for a frame of a large folio of anonymous memory."""
        mm: cython.long = self.vma[vma].mm
        if self.frames.page[folio].flags & PG_SWAPBACKED:
            self.set_swap_entry(mm, at, pfn, self.frames.page[folio].private + pfn - self.frames.folio_pfn(folio))
        else:
            if self.frames.entry[at] & PTE_DIRTY:
                self.frames.page[folio].flags |= PG_DIRTY
            if self.frames.page[folio].flags & PG_DIRTY and not self.vma[vma].flags & VMF_DROPPABLE:
                self.frames.page[folio].flags |= PG_SWAPBACKED
                return False
            self.frames.entry[at] = 0
            self.mm[mm].rss_anon -= 1
        self.tlb.flush_page(mm, addr)
        self.huge.remove_rmap(pfn, 1)
        return True

    def try_to_unmap(self, pfn):
        """Take a page out of every page table. False: it is still mapped somewhere. Linux: try_to_unmap().

        An anonymous page must be in the swap cache, unless it may be dropped (MADV_FREE).
        """
        link: cython.long = self.first(pfn)
        vma: cython.long
        addr: cython.long
        at: cython.long
        if self.frames.page[pfn].flags & PG_KSM:
            return self.unmap_ksm(pfn)
        while link and self.frames.page[pfn].mapcount:
            vma = self.chain[link].vma
            link = self.chain[link].nxt
            addr = self.start_address(vma, self.frames.page[pfn].index)
            while addr < self.vma[vma].end:
                at = self.find(self.vma[vma].mm, addr, pfn)
                if at >= 0 and (self.vma[vma].flags & VMF_LOCKED or not self.unmap_entry(vma, addr, at, pfn)):
                    return False
                addr += INDEX_SPAN
        return self.frames.page[pfn].mapcount == 0

    # ------------------------------------------------------------------------------ giving it

    def add_anon_rmap(self, vma, addr, pfn, exclusive):
        """One entry more maps an anonymous page. Linux: folio_add_new_anon_rmap(), folio_add_anon_rmap_pte()."""
        if not self.frames.page[pfn].flags & PG_ANON:
            self.frames.page[pfn].flags |= PG_ANON
            self.frames.page[pfn].mapping = (
                self.vma[vma].anon_vma if exclusive else self.root[self.vma[vma].anon_vma]
            )
            self.frames.page[pfn].index = self.areas.index(vma, addr)
        if exclusive:
            self.frames.page[pfn].flags |= PG_ANON_EXCLUSIVE
        if self.frames.page[pfn].mapcount == 0:
            self.memcg.mod_folio_state(pfn, NR_ANON_MAPPED, 1)
        self.frames.page[pfn].mapcount += 1

    def update_hiwater_rss(self, mm):
        """Remember the RSS before it falls. Linux: include/linux/mm.h."""
        rss: cython.long = self.mm[mm].rss_anon + self.mm[mm].rss_file + self.mm[mm].rss_shmem
        if rss > self.mm[mm].hiwater_rss:
            self.mm[mm].hiwater_rss = rss

    # ------------------------------------------------------------------------------ for mm

    def chain_of(self, anon_vma: cython.long):
        """The VMA rows of an anon_vma: for checks."""
        return self._rows(self.head[anon_vma])

    def file_chain_of(self, mapping: cython.long):
        """The VMA rows of an address_space: for checks."""
        return self._rows(self.head[_MAX_ANON_VMAS + mapping])

    def _rows(self, link):
        rows = []
        while link:
            rows.append(self.chain[link].vma)
            link = self.chain[link].nxt
        return rows
