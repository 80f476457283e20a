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

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_ANON_VMAS = cython.declare(cython.long, 1 << 26)
_MAX_MAPPINGS = 1 << 24
_MAX_CHAINS = 1 << 28
_CHAIN_DTYPE = np.dtype([("vma", "u4"), ("nxt", "u4"), ("prv", "u4"), ("head", "u4")])
_MAPPED = cython.declare(cython.ulong, 0x101)  # present, or PROT_NONE with the page kept
_INDEX_SPAN = cython.declare(cython.long, 1 << 44)  # after so many bytes a page offset's low 32 bits repeat


class Rmap:
    """The chains of all anon_vmas and address_spaces. ``vm_flags``: of the VMAs that folio_referenced() counted."""

    def __init__(self, areas, folios, tlb, swap, lru_gen_walk):
        self.frames = areas.frames
        self.buddy = areas.buddy
        self.folios = folios
        self.swap = swap
        self.lru_gen_walk = lru_gen_walk
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
        """The first link of the chain of a page that is mapped, or 0."""
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
        return self.vma[vma].start + (cython.cast(cython.long, offset) << 12)

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
        if self.walker.upper_key == (mm << 34 | addr >> 30):
            table = self.walker.upper_table
            level = 1
        while level > 0:
            entry = self.frames.entry[(table << 9) + (addr >> (12 + 9 * level) & 511)]
            if not entry & PTE_PRESENT or entry & PTE_UNIFORM:
                return -1
            table = (entry & PTE_PFN_MASK) >> 12
            level -= 1
        entry = self.frames.entry[(table << 9) + (addr >> 12 & 511)]
        if not entry & _MAPPED or cython.cast(cython.long, (entry & PTE_PFN_MASK) >> 12) != pfn:
            return -1
        return (table << 9) + (addr >> 12 & 511)

    # ------------------------------------------------------------------------------ who accessed it

    def referenced_one(self, vma, pfn):
        """Whether a VMA's entries say that the page was accessed; they forget it. Linux: folio_referenced_one()."""
        addr: cython.long = self.start_address(vma, self.frames.page[pfn].index)
        at: cython.long
        young: cython.bint = False
        while addr < self.vma[vma].end:
            at = self.find(self.vma[vma].mm, addr, pfn)
            if at >= 0 and self.vma[vma].flags & VMF_LOCKED:
                self.vm_flags |= VMF_LOCKED
                return False
            if at >= 0 and self.folios.lru.enabled:
                young |= self.lru_gen_walk.look_around(at, addr, vma, pfn)
            elif at >= 0 and self.frames.entry[at] & PTE_ACCESSED:
                self.frames.entry[at] &= ~cython.cast(cython.ulong, PTE_ACCESSED)
                young = True
            addr += _INDEX_SPAN
        if young:
            self.frames.page[pfn].flags &= ~PG_IDLE
        if self.frames.page[pfn].flags & PG_YOUNG:
            self.frames.page[pfn].flags &= ~PG_YOUNG
            young = True
        return young

    def folio_referenced(self, pfn):
        """In how many VMAs the page was accessed since the last call; ``vm_flags`` are those VMAs'.

        VMF_LOCKED in ``vm_flags`` ends the walk: the page cannot be reclaimed. Linux: folio_referenced().
        """
        count: cython.int = 0
        link: cython.long
        vma: cython.long
        self.vm_flags = 0
        if self.frames.page[pfn].mapcount == 0:
            return 0
        link = self.first(pfn)
        while link and not self.vm_flags & VMF_LOCKED:
            vma = self.chain[link].vma
            if self.referenced_one(vma, pfn):
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
        swp: cython.ulong
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
            swp = self.swap.entry_of(self.frames.page[pfn].private)
            self.swap.duplicate(self.frames.page[pfn].private)
            if self.frames.page[pfn].flags & PG_ANON_EXCLUSIVE:
                self.frames.page[pfn].flags &= ~PG_ANON_EXCLUSIVE
                swp |= SWP_EXCLUSIVE
            if entry & PTE_SOFT_DIRTY:
                swp |= SWP_SOFT_DIRTY
            self.frames.entry[at] = swp
            self.mm[mm].rss_anon -= 1
            self.mm[mm].rss_swap += 1
        self.tlb.flush_page(mm, addr)
        self.remove_rmap(pfn)
        return True

    def try_to_unmap(self, pfn):
        """Take a page out of every page table. False: it is still mapped somewhere. Linux: try_to_unmap().

        An anonymous page must be in the swap cache, unless it may be dropped (MADV_FREE).
        """
        link: cython.long = self.first(pfn)
        vma: cython.long
        addr: cython.long
        at: cython.long
        while link and self.frames.page[pfn].mapcount:
            vma = self.chain[link].vma
            link = self.chain[link].nxt
            addr = self.start_address(vma, self.frames.page[pfn].index)
            while addr < self.vma[vma].end:
                at = self.find(self.vma[vma].mm, addr, pfn)
                if at >= 0 and (self.vma[vma].flags & VMF_LOCKED or not self.unmap_entry(vma, addr, at, pfn)):
                    return False
                addr += _INDEX_SPAN
        return self.frames.page[pfn].mapcount == 0

    def split_block(self, block):
        """Write out the pages of a block that is mapped as a whole; its first page. Linux: split_huge_pmd()."""
        link: cython.long = self.head[self.frames.block[block].mapping]
        vma: cython.long
        addr: cython.long
        while link and self.frames.block[block].state == BLK_UNIFORM:
            vma = self.chain[link].vma
            link = self.chain[link].nxt
            addr = self.start_address(vma, self.frames.block[block].index)
            while addr < self.vma[vma].end and self.frames.block[block].state == BLK_UNIFORM:
                self.walker.split_if_maps(self.vma[vma].mm, addr, block)
                addr += _INDEX_SPAN
        return block << PAGEBLOCK_ORDER

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
