# cython: language_level=3
"""Faults on anonymous memory, and writes to what is shared: a page of its own for whoever writes.

Linux: mm/memory.c, do_anonymous_page(), do_wp_page(); mm/rmap.c, folio_add_new_anon_rmap().
"""

import cython

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403


class AnonFaults:
    """Serves them as long as memory is to be had; FAULT_OOM if none is. ``zero_pfn``: the page that is all zeroes."""

    def __init__(self, anon_folios, rmap, unmap, time, vmstat, zero_pfn):
        self.anon_folios = anon_folios
        self.rmap = rmap
        self.unmap = unmap
        self.time = time
        self.swap = rmap.swap
        self.tlb = rmap.tlb
        self.folios = rmap.folios
        self.frames = self.folios.frames
        self.lru = self.folios.lru
        self.buddy = self.lru.buddy
        self.memcg = self.lru.memcg
        self.areas = rmap.areas
        self.vma = self.rmap.vma
        self.mm = self.rmap.mm
        self.event = view(vmstat.event)
        self.zero_pfn = zero_pfn

    def has_recency(self, vma):
        """Whether accesses through a VMA tell that its pages are hot. Linux: vma_has_recency()."""
        return not self.vma[vma].flags & (VMF_SEQ_READ | VMF_RAND_READ)

    def add_anon(self, mm, vma, addr, pfn):
        """Give a new page to a VMA as anonymous memory. Linux: folio_add_new_anon_rmap(), folio_add_lru_vma()."""
        self.frames.page[pfn].flags = PG_UPTODATE | PG_SWAPBACKED | PG_ANON | PG_ANON_EXCLUSIVE
        self.frames.page[pfn].mapping = self.vma[vma].anon_vma
        self.frames.page[pfn].index = self.areas.index(vma, addr)
        self.frames.page[pfn].mapcount = 1
        self.memcg.mod_folio_state(pfn, NR_ANON_MAPPED, 1)
        self.mm[mm].rss_anon += 1
        if self.vma[vma].flags & VMF_LOCKED:
            self.folios.mlock_new(pfn)
        self.lru.add(pfn, self.has_recency(vma))

    def anonymous_fault(self, mm, vma, addr, at, write):
        """First access to anonymous memory. Linux: do_anonymous_page()."""
        result: cython.int
        pfn: cython.long
        flags: cython.ulong = self.vma[vma].flags
        if not write:
            self.frames.entry[at] = (
                cython.cast(cython.ulong, self.zero_pfn) << PAGE_SHIFT | self.areas.prot(flags) | PTE_SPECIAL
            )
            return FAULT_DONE
        if self.anon_folios.enabled:
            result = self.large_fault(mm, vma, addr, at)
            if result != FAULT_FALLBACK:
                return result
        pfn = self.areas.alloc_charged(
            vma, self.vma[vma].pgoff + ((addr - self.vma[vma].start) >> PAGE_SHIFT), self.mm[mm].memcg
        )
        if pfn < 0:
            return FAULT_OOM
        self.add_anon(mm, vma, addr, pfn)
        self.frames.entry[at] = (
            cython.cast(cython.ulong, pfn) << PAGE_SHIFT | self.areas.prot(flags) | PTE_DIRTY | PTE_SOFT_DIRTY
            | (PTE_RW if flags & VMF_WRITE else 0)
        )
        return FAULT_DONE

    def large_fault(self, mm, vma, addr, at):
        """Serve a write to anonymous memory with a folio of several pages; as AnonFolios.fault()."""
        result: cython.int = self.anon_folios.fault(mm, vma, addr, at)
        if result == FAULT_DONE:
            self.time.use_large(self.anon_folios.nr)
        return result

    def can_reuse(self, vma, pfn):
        """Whether a write may go to the page itself: nobody else has it. Linux: wp_can_reuse_anon_folio()."""
        folio: cython.long
        if self.frames.page[pfn].flags & (PG_ANON | PG_KSM) != PG_ANON:
            return False
        if self.frames.page[pfn].flags & PG_ANON_EXCLUSIVE:
            return True
        if self.frames.page[pfn].flags & PG_TAIL:
            folio = self.frames.folio_of(pfn)
            if self.frames.page[folio].mapcount > 1 or self.frames.page[folio].flags & PG_SWAPCACHE:
                return False
            self.frames.page[folio].mapping = self.vma[vma].anon_vma
            self.frames.page[pfn].mapping = self.vma[vma].anon_vma
            self.frames.page[pfn].flags |= PG_ANON_EXCLUSIVE
            return True
        if self.frames.page[pfn].mapcount > 1:
            return False
        if not self.frames.page[pfn].flags & PG_LRU:
            self.lru.drain(self.buddy.cpu)
        if self.frames.page[pfn].flags & PG_BATCHED:
            return False
        if self.frames.page[pfn].flags & PG_SWAPCACHE and not self.swap.free_swap(pfn):
            return False
        self.frames.page[pfn].mapping = self.vma[vma].anon_vma
        self.frames.page[pfn].flags |= PG_ANON_EXCLUSIVE
        return True

    def map_copy(self, mm, vma, addr, at, pfn):
        """A page has been copied because of a write: map the copy. Linux: wp_page_copy(), finish_fault()."""
        self.time.cow += 1
        self.time.cpu_ns += self.time.cost_cow - self.time.cost_fault
        self.add_anon(mm, vma, addr, pfn)
        self.frames.entry[at] = (
            cython.cast(cython.ulong, pfn) << PAGE_SHIFT
            | self.areas.prot(self.vma[vma].flags) | PTE_RW | PTE_DIRTY | PTE_SOFT_DIRTY
        )

    def write_protect_fault(self, mm, vma, addr, at):
        """A write to a page that is mapped read-only. Linux: do_wp_page(), wp_page_copy(), wp_page_reuse()."""
        entry: cython.ulong = self.frames.entry[at]
        old: cython.long = (entry & PTE_PFN_MASK) >> PAGE_SHIFT
        pfn: cython.long
        if self.vma[vma].flags & VMF_SHARED:
            self.folios.mark_dirty(self.frames.folio_of(old))
        elif entry & PTE_SPECIAL or not self.can_reuse(vma, old):
            pfn = self.areas.alloc_charged(
                vma, self.vma[vma].pgoff + ((addr - self.vma[vma].start) >> PAGE_SHIFT), self.mm[mm].memcg
            )
            if pfn < 0:
                return FAULT_OOM
            self.map_copy(mm, vma, addr, at, pfn)
            if entry & PTE_SPECIAL:
                self.rmap.ksm.unmap_zero(mm, entry)
            else:
                self.event[COW_KSM] += self.frames.page[old].flags & PG_KSM != 0
                self.unmap.unmap_page(mm, self.vma[vma].flags, old)
            self.tlb.flush_page(mm, addr)
            return FAULT_DONE
        self.event[PGREUSE] += 1
        self.frames.entry[at] = entry | PTE_RW | PTE_ACCESSED | PTE_DIRTY | PTE_SOFT_DIRTY
        return FAULT_DONE
