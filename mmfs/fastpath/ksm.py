# cython: language_level=3
"""ksmd's work on a range: pages that hold the same are merged into one, which is mapped read-only.

What a page holds is a number here, its key (`key_of()`): pages of equal keys are equal, and a key that is not what it
was in the last full scan says that the page has changed. What the range is said to hold decides (mm/ksm.py).

Linux: mm/ksm.c, cmp_and_merge_page() and below, scan_get_next_rmap_item(), unmerge_ksm_pages().
"""

import cython
from cython import address

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAPPED = cython.declare(cython.ulong, 0x101)  # present, or PROT_NONE with the page kept
_VM_MERGEABLE = cython.declare(cython.ulong, 0x80000000)
_ALL_BITS = cython.declare(cython.ulong, (1 << 64) - 1)
_GAMMA = cython.declare(cython.ulong, 0x9E3779B97F4A7C15)
_MIX_1 = cython.declare(cython.ulong, 0xBF58476D1CE4E5B9)
_MIX_2 = cython.declare(cython.ulong, 0x94D049BB133111EB)
_ZERO_KEY = cython.declare(cython.ulong, 1)
_YOUNG_AGE = cython.declare(cython.int, 3)

# What a range holds, as mm/ksm.py numbers it.
_SAME = cython.declare(cython.int, 1)
_IMAGE = cython.declare(cython.int, 2)
_ZERO = cython.declare(cython.int, 3)
_UNIQUE = cython.declare(cython.int, 4)
_VOLATILE = cython.declare(cython.int, 5)


class KsmScan:
    """A scan of one range after another. ``left``: pages that may still be looked at; ``cursor``: the item after which
    that of the next address belongs, 0 for the first; ``skipped``, ``merged``, ``split``: pages, pages, huge pages."""

    def __init__(self, tables, contents):
        self.tables = tables
        self.mmu = tables.mmu
        self.frames = tables.frames
        self.contents = contents
        self.rmap = self.mmu.rmap
        self.tree = self.rmap.ksm
        self.left = self.cursor = self.pages_scanned = self.pages_skipped = self.merged = 0
        self.smart_scan = self.merge_across_nodes = True
        self.use_zero_pages = False
        self.kind = 0
        self.number = 0
        self.base = 0

    def folio_of(self, pfn):
        """The folio of a frame, which need not have a record. Linux: page_folio()."""
        return self.frames.page_folio(pfn)

    # ------------------------------------------------------------------------------ what is in pages

    def mix(self, h):
        """A number from which nobody tells the one before (SplitMix64)."""
        h = h + _GAMMA & _ALL_BITS
        h = (h ^ h >> 30) * _MIX_1 & _ALL_BITS
        h = (h ^ h >> 27) * _MIX_2 & _ALL_BITS
        return h ^ h >> 31

    def key_of(self, addr, pfn):
        """What the page at an address holds. Linux: calc_checksum()."""
        folio: cython.long = self.folio_of(pfn)
        key: cython.ulong
        if self.kind == _SAME:
            key = self.mix(self.number << 1)
        elif self.kind == _IMAGE:
            key = self.mix(self.number << 1 | 1) + cython.cast(cython.ulong, (addr - self.base) >> PAGE_SHIFT)
            key = self.mix(key & _ALL_BITS)
        elif self.kind == _ZERO:
            key = _ZERO_KEY
        elif self.kind == _VOLATILE:
            key = self.mix(cython.cast(cython.ulong, pfn)) + cython.cast(cython.ulong, self.tree.turn)
            key = self.mix(key & _ALL_BITS)
        elif folio == pfn and self.kind != _UNIQUE and self.contents.compressed(pfn, 1000) == 0:
            key = _ZERO_KEY
        else:
            key = cython.cast(cython.ulong, self.frames.page[folio].mapping) << 33
            key |= cython.cast(cython.ulong, self.frames.page[folio].index) << 1
            if folio != pfn:
                key += cython.cast(cython.ulong, pfn - self.frames.folio_pfn(folio)) << 1
            key = self.mix(self.mix(key) ^ _GAMMA)
        if not self.merge_across_nodes:
            key ^= self.mix(cython.cast(cython.ulong, self.mmu.buddy.zone[self.frames.zone_of(folio)].nid))
        return key

    # ------------------------------------------------------------------------------ the scan

    def skip(self, i, pfn):
        """Whether a page is not looked at this time, for it was in vain so often. Linux: should_skip_rmap_item()."""
        it = address(self.tree.item[i])
        age: cython.int = it.age
        if not self.smart_scan or self.frames.page[self.folio_of(pfn)].flags & PG_KSM:
            return False
        if age != 255:
            it.age += 1
        if age < _YOUNG_AGE:
            return False
        if not it.skips:
            it.skips = 1 if age <= 3 else 2 if age <= 5 else 4 if age <= 8 else 8
            return False
        self.pages_skipped += 1
        it.skips -= 1
        self.tree.remove_item(i)
        return True

    def scan_page(self, mm, vma, addr, pfn):
        """Look at an anonymous page."""
        i: cython.long = self.tree.get_item(mm, self.cursor, addr)
        self.cursor = i
        if self.skip(i, pfn):
            return
        self.left -= 1
        self.pages_scanned += 1
        self.cmp_and_merge(i, vma, addr, pfn)

    def scan_range(self, mm: cython.long, vma: cython.long, start: cython.long, end: cython.long, kind: cython.int,
                   number: cython.ulong, base: cython.long):
        """Look at pages of [start, end) of a VMA, which hold ``kind`` ``number``, counted from address ``base``; where
        it stopped. Linux: scan_get_next_rmap_item()."""
        addr: cython.long = start
        stop: cython.long
        at: cython.long
        pfn: cython.long
        entry: cython.ulong
        self.kind, self.number, self.base = kind, number, base
        with cython.nogil:
            self.mmu.walker.forget_tables()
            while addr < end and self.left > 0:
                at = self.tables.seek(mm, addr)
                stop = min(self.tables.next_addr, end)
                if at == HUGE_PMD and not self.frames.entry[self.tables.pmd] & PTE_SPECIAL:
                    entry = self.frames.entry[self.tables.pmd]
                    pfn = ((entry & PTE_PFN_MASK) >> PAGE_SHIFT) + (addr >> PAGE_SHIFT & (HPAGE_PMD_NR - 1))
                    self.scan_page(mm, vma, addr, pfn)
                    addr += PAGE_SIZE
                    continue
                while at >= 0 and addr < stop and self.left > 0:
                    entry = self.frames.entry[at]
                    if entry & _MAPPED and not entry & PTE_SPECIAL:
                        pfn = (entry & PTE_PFN_MASK) >> PAGE_SHIFT
                        if self.frames.page[self.frames.folio_of(pfn)].flags & PG_ANON:
                            self.scan_page(mm, vma, addr, pfn)
                    at += 1
                    addr += PAGE_SIZE
                if at < 0:
                    addr = stop
        return addr

    # ------------------------------------------------------------------------------ merging

    def cmp_and_merge(self, i, vma, addr, pfn):
        """Merge a page with an equal one, or let it wait for one. Linux: cmp_and_merge_page()."""
        it = address(self.tree.item[i])
        key: cython.ulong
        n: cython.long
        if self.folio_of(pfn) == pfn and self.frames.page[pfn].flags & PG_KSM:
            n = self.frames.page[pfn].mapping
            if it.tree == 2 and it.node == n:
                return
            self.tree.remove_item(i)
            it.anon_vma = self.mmu.vma[vma].anon_vma
            self.tree.append(i, n)
            return
        self.tree.remove_item(i)
        key = self.key_of(addr, pfn)
        if it.key != key:
            it.key = key
            return
        it.vma = cython.cast(cython.uint, vma)
        if key == _ZERO_KEY and self.use_zero_pages and self.merge_zero(it.mm, vma, addr, pfn):
            return
        n = self.tree.search_stable(key)
        if n:
            if self.replace_page(it.mm, vma, addr, pfn, self.tree.node[n].kpfn):
                it.anon_vma = self.mmu.vma[vma].anon_vma
                self.tree.append(i, n)
            return
        n = self.tree.search_unstable(key)
        if n:
            self.merge_two(i, n, addr, pfn)
        else:
            self.tree.insert_unstable(i)

    def entry_at(self, mm, addr):
        """The index of the entry by which an address maps an anonymous page that can be merged; -1 if it does not.

        A huge page is split. Linux: get_mergeable_page(), try_to_merge_one_page().
        """
        at: cython.long = self.tables.seek(mm, addr)
        pfn: cython.long
        if at == HUGE_PMD:
            if self.frames.entry[self.tables.pmd] & PTE_SPECIAL:
                return -1
            self.mmu.huge_split.split_folio(self.mmu.huge.folio_of_pmd(self.frames.entry[self.tables.pmd]))
            at = self.tables.seek(mm, addr)
        if at < 0 or not self.frames.entry[at] & _MAPPED or self.frames.entry[at] & PTE_SPECIAL:
            return -1
        pfn = (self.frames.entry[at] & PTE_PFN_MASK) >> PAGE_SHIFT
        if self.frames.page[pfn].flags & PG_TAIL:
            self.mmu.huge_split.split_folio(self.folio_of(pfn))
        if self.frames.page[pfn].flags & (PG_ANON | PG_KSM | PG_BATCHED | PG_TAIL) != PG_ANON:
            return -1
        return at

    def merge_two(self, i, t, addr, pfn):
        """Two equal pages become one: that of item ``i``, to which ``t`` goes. Linux: try_to_merge_two_pages()."""
        a = address(self.tree.item[i])
        b = address(self.tree.item[t])
        vma: cython.long = b.vma
        folio: cython.long = self.folio_of(pfn)
        at: cython.long
        other: cython.long
        n: cython.long
        together: cython.bint
        if (
            self.mmu.vma[vma].mm != cython.cast(cython.int, b.mm)
            or not self.mmu.vma[vma].start <= b.address < self.mmu.vma[vma].end
            or not self.mmu.vma[vma].flags & _VM_MERGEABLE
        ):
            return
        other = self.page_at(b.mm, b.address)
        if other < 0 or other == pfn:
            return
        together = folio != pfn and self.folio_of(other) == folio
        at = self.entry_at(a.mm, addr)
        if at < 0 or together:
            return
        if self.entry_at(b.mm, b.address) < 0:
            return
        self.tree.remove_item(t)
        n = self.tree.new_node(a.key, pfn)
        self.write_protect(a.mm, addr, at, pfn)
        self.frames.page[pfn].flags = self.frames.page[pfn].flags & ~PG_ANON_EXCLUSIVE | PG_KSM | PG_DIRTY
        self.frames.page[pfn].mapping = cython.cast(cython.uint, n)
        self.mmu.lru.mark_accessed(pfn)
        self.replace_page(b.mm, vma, b.address, other, pfn)
        a.anon_vma = self.mmu.vma[a.vma].anon_vma
        b.anon_vma = self.mmu.vma[vma].anon_vma
        self.tree.append(t, n)
        self.tree.append(i, n)

    def page_at(self, mm, addr):
        """The anonymous page that an address maps, or -1. Linux: get_mergeable_page()."""
        at: cython.long = self.tables.seek(mm, addr)
        entry: cython.ulong = self.frames.entry[self.tables.pmd if at == HUGE_PMD else max(at, 0)]
        pfn: cython.long = (entry & PTE_PFN_MASK) >> PAGE_SHIFT
        if at == HUGE_PMD:
            pfn += addr >> PAGE_SHIFT & (HPAGE_PMD_NR - 1)
        elif at < 0:
            return -1
        if not entry & _MAPPED or entry & PTE_SPECIAL:
            return -1
        return pfn if self.frames.page[self.folio_of(pfn)].flags & PG_ANON else -1

    def write_protect(self, mm, addr, at, pfn):
        """Nobody writes through an entry any more. Linux: write_protect_page()."""
        if self.frames.entry[at] & PTE_DIRTY:
            self.frames.page[pfn].flags |= PG_DIRTY
        self.frames.entry[at] &= ~cython.cast(cython.ulong, PTE_RW | PTE_DIRTY)
        self.mmu.tlb.flush_page(mm, addr)

    def replace_page(self, mm, vma, addr, pfn, kpfn):
        """Map a page of KSM in place of an equal page. Linux: try_to_merge_with_ksm_page(), replace_page()."""
        at: cython.long = self.entry_at(mm, addr)
        if at < 0:
            return False
        self.rmap.add_anon_rmap(vma, addr, kpfn, False)
        self.mmu.mm[mm].rss_anon += 1
        self.frames.entry[at] = (
            cython.cast(cython.ulong, kpfn) << PAGE_SHIFT | self.mmu.areas.prot(self.mmu.vma[vma].flags)
        )
        if self.mmu.vma[vma].flags & VMF_LOCKED:
            self.mmu.folios.mlock_folio(kpfn)
        self.mmu.unmap.unmap_page(mm, self.mmu.vma[vma].flags, pfn)
        self.mmu.tlb.flush_page(mm, addr)
        self.merged += 1
        return True

    def merge_zero(self, mm, vma, addr, pfn):
        """Map the zero page in place of a page of zeros. Linux: try_to_merge_with_zero_page()."""
        at: cython.long = self.entry_at(mm, addr)
        if at < 0:
            return False
        self.frames.entry[at] = (
            cython.cast(cython.ulong, self.mmu.anon.zero_pfn) << PAGE_SHIFT
            | self.mmu.areas.prot(self.mmu.vma[vma].flags) | PTE_SPECIAL | PTE_DIRTY
        )  # fmt: skip
        self.tree.map_zero(mm)
        self.mmu.unmap.unmap_page(mm, self.mmu.vma[vma].flags, pfn)
        self.mmu.tlb.flush_page(mm, addr)
        self.merged += 1
        return True

    # ------------------------------------------------------------------------------ the way back

    def is_merged(self, entry):
        """Whether an entry maps a page of KSM or its zero page."""
        if entry & PTE_SPECIAL:
            return entry & PTE_DIRTY != 0
        return entry & _MAPPED != 0 and self.frames.page[(entry & PTE_PFN_MASK) >> PAGE_SHIFT].flags & PG_KSM != 0

    def unmerge_range(self, mm: cython.long, vma: cython.long, start: cython.long, end: cython.long):
        """Give [start, end) pages of its own again; where memory ran out, or ``end``. Linux: break_ksm().

        Simplified: the copies can be written to at once, and are dirty.
        """
        addr: cython.long = start
        stop: cython.long
        at: cython.long
        pfn: cython.long
        entry: cython.ulong
        with cython.nogil:
            while addr < end:
                at = self.tables.seek(mm, addr)
                stop = min(self.tables.next_addr, end)
                while at >= 0 and addr < stop:
                    entry = self.frames.entry[at]
                    if self.is_merged(entry):
                        pfn = self.mmu.areas.alloc_charged(
                            vma, self.mmu.areas.index(vma, addr), self.mmu.mm[mm].memcg
                        )
                        if pfn < 0:
                            break
                        self.break_page(mm, vma, addr, at, pfn)
                    at += 1
                    addr += PAGE_SIZE
                if at >= 0 and addr < stop:
                    break
                addr = stop
        return addr

    def break_page(self, mm, vma, addr, at, pfn):
        """Map a copy in place of what is merged. Linux: wp_page_copy(), to unshare."""
        entry: cython.ulong = self.frames.entry[at]
        flags: cython.ulong = self.mmu.vma[vma].flags
        self.mmu.anon.add_anon(mm, vma, addr, pfn)
        self.frames.entry[at] = (
            cython.cast(cython.ulong, pfn) << PAGE_SHIFT | self.mmu.areas.prot(flags) | PTE_DIRTY | PTE_SOFT_DIRTY
            | (PTE_RW if flags & VMF_WRITE else 0)
        )  # fmt: skip
        if entry & PTE_SPECIAL:
            self.tree.unmap_zero(mm, entry)
        else:
            self.mmu.anon.event[COW_KSM] += 1
            self.mmu.unmap.unmap_page(mm, flags, cython.cast(cython.long, (entry & PTE_PFN_MASK) >> PAGE_SHIFT))
        self.mmu.tlb.flush_page(mm, addr)

    def count_range(self, mm: cython.long, start: cython.long, end: cython.long):
        """Pages of [start, end) that are merged. Linux: fs/proc/task_mmu.c, smaps_account()."""
        addr: cython.long = start
        stop: cython.long
        at: cython.long
        count: cython.long = 0
        while addr < end:
            at = self.tables.seek(mm, addr)
            stop = min(self.tables.next_addr, end)
            while at >= 0 and addr < stop:
                count += self.is_merged(self.frames.entry[at])
                at += 1
                addr += PAGE_SIZE
            addr = stop
        return count
