# cython: language_level=3
"""Frames that nobody may use any more, because their memory has failed.

What such a frame held is taken from who has it: out of the buddy's block, of page tables, of the page cache. The frame
then belongs to nobody; its record says PG_HWPOISON. What to do with which page is decided by mm/memory_failure.py.

Linux: mm/memory-failure.c; mm/page_alloc.c, take_page_off_buddy().
"""

import cython
from cython import address

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403


class Hwpoison:
    """Takes frames away."""

    def __init__(self, migration, vmstat):
        self.migration = migration
        self.rmap = migration.rmap
        self.folios = migration.folios
        self.frames = migration.frames
        self.buddy = migration.buddy
        self.areas = migration.buddy.areas
        self.lru = migration.lru
        self.memcg = migration.memcg
        self.tlb = migration.tlb
        self.vma = view(migration.rmap.areas.vmas)
        self.mm = self.rmap.walker.mm
        self.zone_stat = view(vmstat.zone_stat)
        self.event = view(vmstat.event)

    # ------------------------------------------------------------------------------ free pages

    def take_page_off_buddy(self, pfn):
        """Take a frame out of the free block that it is in. False: it is not free. Linux: take_page_off_buddy()."""
        block: cython.long = pfn >> PAGEBLOCK_ORDER
        zone: cython.long = self.frames.block[block].zone
        head: cython.long = pfn
        order: cython.int = 0
        mt: cython.int
        if self.frames.block[block].state == BLK_TAIL:
            block -= 1
        if self.frames.block[block].state == BLK_FREE:
            head = block << PAGEBLOCK_ORDER
            order = self.frames.block[block].order
        elif self.frames.block[block].state != BLK_SPLIT:
            return False
        else:
            while not (self.frames.page[head].flags & PG_BUDDY and self.frames.page[head].private >= order):
                order += 1
                if order >= PAGEBLOCK_ORDER:
                    return False
                head = pfn & ~((cython.cast(cython.long, 1) << order) - 1)
            order = self.frames.page[head].private
        mt = self.frames.block[head >> PAGEBLOCK_ORDER].migratetype
        self.areas.del_from_free_list(zone, head, order, mt)
        if order >= PAGEBLOCK_ORDER:
            self.areas.take_blocks(head, order)
        while order > 0:
            order -= 1
            if pfn >= head + (1 << order):
                self.areas.add_to_free_list(zone, head, order, mt, False)
                head += 1 << order
            else:
                self.areas.add_to_free_list(zone, head + (1 << order), order, mt, False)
        self.areas.account_freepages(zone, -1, mt)
        self.frames.page[pfn].flags = PG_HWPOISON
        return True

    # ------------------------------------------------------------------------------ pages in use

    def unmap_poisoned(self, pfn, poison):
        """Take a page out of all page tables, with ``poison`` left there; how many entries map it still.

        A page of the swap cache leaves swap entries, which lead to it as long as it is there.

        Linux: unmap_poisoned_folio(), try_to_unmap_one() with TTU_HWPOISON.
        """
        link: cython.long = self.rmap.first(pfn)
        vma: cython.long
        mm: cython.long
        addr: cython.long
        at: cython.long
        while link and self.frames.page[pfn].mapcount > 0:
            vma = self.rmap.chain[link].vma
            link = self.rmap.chain[link].nxt
            mm = self.vma[vma].mm
            addr = self.rmap.start_address(vma, self.frames.page[pfn].index)
            while addr < self.vma[vma].end:
                at = self.rmap.find(mm, addr, pfn)
                if at >= 0 and self.frames.page[pfn].flags & PG_SWAPCACHE:
                    self.rmap.unmap_entry(vma, addr, at, pfn)
                elif at >= 0:
                    self.rmap.update_hiwater_rss(mm)
                    if self.frames.entry[at] & PTE_DIRTY:
                        self.folios.mark_dirty(pfn)
                    self.frames.entry[at] = PTE_HWPOISON if poison else 0
                    if self.frames.page[pfn].flags & PG_ANON:
                        self.mm[mm].rss_anon -= 1
                    elif self.frames.page[pfn].flags & PG_SWAPBACKED:
                        self.mm[mm].rss_shmem -= 1
                    else:
                        self.mm[mm].rss_file -= 1
                    self.tlb.flush_page(mm, addr)
                    self.rmap.remove_rmap(pfn)
                addr += INDEX_SPAN
        return self.frames.page[pfn].mapcount

    def make_dirty_clean(self, pfn):
        """Tell a page of a file what its entries know: that it was written. Linux: folio_mkclean()."""
        link: cython.long = self.rmap.first(pfn)
        vma: cython.long
        addr: cython.long
        at: cython.long
        while link:
            vma = self.rmap.chain[link].vma
            link = self.rmap.chain[link].nxt
            addr = self.rmap.start_address(vma, self.frames.page[pfn].index)
            while addr < self.vma[vma].end:
                at = self.rmap.find(self.vma[vma].mm, addr, pfn)
                if at >= 0 and self.frames.entry[at] & PTE_DIRTY:
                    self.folios.mark_dirty(pfn)
                addr += INDEX_SPAN

    def keep(self, pfn):
        """Leave a page where it is, so that who looks for it learns that it is lost; nobody is charged for it any more.

        Linux: delete_from_lru_cache().
        """
        if self.frames.page[pfn].flags & (PG_BATCHED | PG_LRU):
            self.lru.drain_all()
            self.lru.del_page(pfn)
        if self.frames.page[pfn].flags & PG_MLOCKED:
            self.zone_stat[self.frames.block[pfn >> PAGEBLOCK_ORDER].zone, NR_MLOCK] -= 1
        self.frames.page[pfn].flags &= ~cython.cast(cython.uint, PG_MLOCKED | PG_UNEVICTABLE | PG_ACTIVE)
        self.frames.page[pfn].flags |= PG_HWPOISON
        self.frames.page[pfn].mlock_count = 0
        self.memcg.uncharge_folio(pfn)
        self.memcg.set_owner(pfn, 0)
        if self.memcg.memsw:
            self.memcg.count_memcg_events(0, PGPGOUT, -1)  # it is counted when it is freed

    def forget(self, pfn):
        """Have the frame be nobody's: off its list, not charged."""
        self.keep(pfn)
        self.memcg.uncharge_folio(pfn)
        p = address(self.frames.page[pfn])
        p.flags = PG_HWPOISON
        p.mapping = p.index = p.private = 0
        p.mapcount = 0

    def keep_in_swap_cache(self, pfn):
        """Leave a page in the swap cache that is newer than what swap has. Linux: me_swapcache_dirty()."""
        self.frames.page[pfn].flags &= ~cython.cast(cython.uint, PG_DIRTY)
        self.keep(pfn)

    def leave_swap_cache(self, pfn):
        """Have the next fault read what swap has. Linux: me_swapcache_clean()."""
        self.rmap.swap.delete_from_swap_cache(pfn, 0)
        self.forget(pfn)

    def evict(self, pfn):
        """Take a page out of the page cache. False: its file system holds it. Linux: truncate_error_folio()."""
        if self.folios.pinned(pfn):
            return False
        self.folios.cache_remove(pfn, 0)
        return True

    def migrate(self, pfn, nid, highest):
        """Move a page to another frame, its own is nobody's then. 0, 1: it cannot, 2: no page is free.

        Linux: soft_offline_in_use_page().
        """
        zone: cython.long = self.frames.block[pfn >> PAGEBLOCK_ORDER].zone
        p = address(self.buddy.pcp[self.buddy.cpu * self.buddy.nr_zones + zone])
        dst: cython.long = self.buddy.alloc(
            0, MIGRATE_MOVABLE, nid, highest, ALLOC_WMARK_LOW | ALLOC_KSWAPD, ~cython.cast(cython.ulong, 0)
        )
        if dst < 0:
            return 2
        self.migration.isolate(pfn)
        if not self.migration.migrate_folio(pfn, dst):
            self.migration.putback(pfn)
            self.buddy.free(dst, 0)
            self.event[PGMIGRATE_FAIL] += 1
            return 1
        self.event[PGMIGRATE_SUCCESS] += 1
        if self.frames.page[pfn].flags & PG_PCP:
            self.frames.page_list_del(pfn)
            self.frames.page[pfn].flags = PG_HWPOISON
            p.count -= 1
        else:
            self.take_page_off_buddy(pfn)
        self.event[PGFREE] -= 1
        return 0
