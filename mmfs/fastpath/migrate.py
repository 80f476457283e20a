# cython: language_level=3
"""Moving a page to another frame while whoever uses it goes on.

Who migrates takes the page off its list (`isolate()`), has a free frame, and moves all of the page there: every page
table that maps it, its place in the page cache or swap cache, its charge, its flags (`migrate_folio()`). A page that
cannot move now goes back to its list (`putback()`).

Linux: mm/migrate.c.

Simplified: nobody else runs within a call, so a page is moved in one go, without migration entries; where Linux would
wait for a disk, the page stays. A folio that is mapped in part is split first, and so is a huge page of a file that is
in the swap cache.
"""

from errno import EACCES, EBUSY, ENOMEM

import cython
import numpy as np
from cython import address

from mmfs.fastpath.frames import lazy_array, view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MOVED_FLAGS = cython.declare(
    cython.uint,
    PG_REFERENCED | PG_UPTODATE | PG_ACTIVE | PG_UNEVICTABLE | PG_WORKINGSET | PG_MAPPEDTODISK | PG_DIRTY | PG_YOUNG
    | PG_IDLE | PG_KSM | PG_READAHEAD | PG_SWAPCACHE | PG_SWAPBACKED | PG_ANON | PG_PRIVATE | PG_MLOCKED,
)  # fmt: skip
_EBUSY = cython.declare(cython.int, EBUSY)
_EACCES = cython.declare(cython.int, EACCES)
_ENOMEM = cython.declare(cython.int, ENOMEM)
_CPUPID_MASK = cython.declare(cython.long, (1 << 21) - 1)
_SPLIT = cython.declare(cython.int, -1000)  # it is single pages now


class Migration:
    """Migration between frames. ``cpu_ns`` grows by ``cost_move`` with each page; ``now_ns``: see Vmscan.

    Who used a page last (fastpath/numa.py) is kept beside the frames, with the page's place in its mapping: another
    page that has its frame then has another. ``tiering``: on slow nodes it is a time, which does not move to a fast one
    or back; ``toptiers`` uint8 [nodes] tells which is which.
    """

    def __init__(self, rmap, split, filemap, vmstat):
        self.rmap = rmap
        self.split = split
        self.huge = split.huge
        self.filemap = filemap
        self.folios = rmap.folios
        self.frames = rmap.frames
        self.buddy = rmap.buddy
        self.lru = rmap.folios.lru
        self.memcg = rmap.folios.memcg
        self.tlb = rmap.tlb
        self.vma = view(rmap.areas.vmas)
        self.slots = rmap.swap.slots
        self.zone_stat = view(vmstat.zone_stat)
        self.event = view(vmstat.event)
        self.several = self.lru.nr_nodes > 1
        self.cpupids = lazy_array(self.frames.huge if self.several else 1, np.uint32)
        self.places = lazy_array(self.frames.huge if self.several else 1, np.uint64)
        self.cpupid = view(self.cpupids)
        self.place = view(self.places)
        self.toptiers = np.ones(self.lru.nr_nodes, np.uint8)
        self.toptier = view(self.toptiers)
        self.tiering = False
        self.moved_first = self.moved_end = 0
        self.cpu_ns = self.cost_move = self.now_ns = 0

    # ------------------------------------------------------------------------------ who used a page last

    def place_of(self, folio):
        """What tells a page from another that had its frame before."""
        return (
            cython.cast(cython.ulong, self.frames.page[folio].mapping) << 32
            | cython.cast(cython.ulong, self.frames.page[folio].index)
        )

    def last_cpupid(self, folio):
        """What was noted of a folio, all ones if nothing was."""
        frame: cython.long = self.frames.folio_pfn(folio)
        if self.cpupid[frame] == 0 or self.place[frame] != self.place_of(folio):
            return _CPUPID_MASK
        return self.cpupid[frame] - 1

    def set_cpupid(self, folio, cpupid):
        """Note it."""
        frame: cython.long = self.frames.folio_pfn(folio)
        self.cpupid[frame] = cython.cast(cython.uint, cpupid + 1)
        self.place[frame] = self.place_of(folio)

    def move_cpupid(self, cpupid, src, dst):
        """It was noted of a folio that has moved. Linux: folio_migrate_flags()."""
        source: cython.int = self.buddy.zone[self.frames.zone_of(src)].nid
        target: cython.int = self.buddy.zone[self.frames.zone_of(dst)].nid
        if not self.tiering or self.toptier[source] == self.toptier[target]:
            self.set_cpupid(dst, cpupid)

    # ------------------------------------------------------------------------------ a page

    def isolate(self, pfn):
        """Take a page off its list. Linux: folio_isolate_lru()."""
        self.lru.del_page(pfn)

    def putback(self, pfn):
        """Let a page that did not move wait for its list. Linux: folio_putback_lru()."""
        self.lru.add(pfn, False)

    def can_migrate(self, pfn):
        """Whether nobody holds the page where it is. Linux: folio_expected_refs(), migrate_folio_unmap()."""
        flags: cython.uint = self.frames.page[pfn].flags
        if flags & PG_WRITEBACK:
            return False
        if flags & PG_ANON:
            return True
        if self.frames.page[pfn].mapping == 0:
            return flags & PG_SWAPCACHE and self.frames.page[pfn].mapcount == 0
        if flags & PG_SWAPBACKED:
            return True
        return not self.filemap.is_locked(pfn, self.now_ns) and not self.folios.pinned(pfn)

    def remap(self, pfn, old, new):
        """Have the entries that map frame ``old`` map ``new``; how many. ``pfn`` has the page's record.

        Linux: try_to_migrate(), remove_migration_ptes().
        """
        link: cython.long = self.rmap.first(pfn)
        vma: cython.long
        addr: cython.long
        at: cython.long
        left: cython.int = self.frames.page[pfn].mapcount
        if self.frames.page[pfn].flags & PG_KSM:
            return self.remap_ksm(pfn, old, new)
        while link and left > 0:
            vma = self.rmap.chain[link].vma
            link = self.rmap.chain[link].nxt
            addr = self.rmap.start_address(vma, self.frames.page[pfn].index)
            while addr < self.vma[vma].end:
                at = self.rmap.find(self.vma[vma].mm, addr, old)
                if at >= 0:
                    self.remap_entry(pfn, vma, addr, at, new)
                    left -= 1
                addr += INDEX_SPAN
        return self.frames.page[pfn].mapcount - left

    def remap_entry(self, pfn, vma, addr, at, new):
        """Have one entry map another frame."""
        if self.frames.entry[at] & PTE_DIRTY:
            self.folios.mark_dirty(pfn)
        bits: cython.ulong = self.accessible(self.frames.entry[at], vma, pfn) & ~PTE_PFN_MASK
        self.frames.entry[at] = bits | cython.cast(cython.ulong, new) << PAGE_SHIFT
        self.tlb.flush_page(self.vma[vma].mm, addr)

    def accessible(self, entry, vma, pfn):
        """An entry that was marked to learn of accesses is not any more, once its page has moved; what it is then.

        Linux: remove_migration_pte().
        """
        flags: cython.ulong = self.vma[vma].flags
        if entry & (PTE_PRESENT | PTE_GLOBAL) != PTE_GLOBAL or not flags & (VMF_READ | VMF_WRITE | VMF_EXEC):
            return entry
        entry &= ~cython.cast(cython.ulong, PTE_GLOBAL)
        entry |= self.rmap.areas.prot(flags) & ~cython.cast(cython.ulong, PTE_ACCESSED)
        if flags & VMF_SHARED and flags & VMF_WRITE and self.frames.page[pfn].flags & PG_SWAPBACKED:
            entry |= PTE_RW
        return entry

    def remap_ksm(self, pfn, old, new):
        """remap() for a page of KSM."""
        done: cython.int = 0
        at: cython.long
        self.rmap.begin_ksm(pfn)
        at = self.rmap.next_ksm(old)
        while at >= 0:
            self.remap_entry(pfn, self.rmap.found_vma, self.rmap.found_addr, at, new)
            done += 1
            at = self.rmap.next_ksm(old)
        return done

    def account(self, pfn, sign):
        """Count a page in, or out, where its frame lies. Linux: __folio_migrate_mapping(), the rmap's and mlock's."""
        flags: cython.uint = self.frames.page[pfn].flags
        zone: cython.long = self.frames.block[pfn >> PAGEBLOCK_ORDER].zone
        cached: cython.bint = not flags & PG_ANON and self.frames.page[pfn].mapping != 0
        if self.frames.page[pfn].mapcount:
            self.memcg.mod_folio_state(pfn, NR_ANON_MAPPED if flags & PG_ANON else NR_FILE_MAPPED, sign)
        if cached or flags & PG_SWAPCACHE:
            self.memcg.mod_folio_state(pfn, NR_FILE_PAGES, sign)
        if flags & PG_SWAPCACHE:
            self.memcg.mod_folio_state(pfn, NR_SWAPCACHE, sign)
        if flags & PG_MLOCKED:
            self.zone_stat[zone, NR_MLOCK] += sign
        if not cached:
            return
        if flags & PG_SWAPBACKED:
            self.memcg.mod_folio_state(pfn, NR_SHMEM, sign)
        elif flags & PG_DIRTY:
            self.memcg.mod_folio_state(pfn, NR_FILE_DIRTY, sign)
            self.zone_stat[zone, NR_ZONE_WRITE_PENDING] += sign

    def move_record(self, src, dst):
        """Make the record of ``dst`` what that of ``src`` is, which becomes that of a free page.

        Linux: folio_migrate_flags(), mem_cgroup_migrate().
        """
        old = address(self.frames.page[src])
        new = address(self.frames.page[dst])
        cpupid: cython.long = self.last_cpupid(src) if self.several else _CPUPID_MASK
        new.flags = old.flags & _MOVED_FLAGS
        new.mapping, new.index, new.private = old.mapping, old.index, old.private
        new.mapcount, new.memcg = old.mapcount, old.memcg
        new.mlock_count = old.mlock_count if old.flags & PG_MLOCKED else 0
        old.flags = old.mapping = old.index = old.private = 0
        old.mapcount = 0
        old.memcg = old.mlock_count = 0
        if cpupid != _CPUPID_MASK:
            self.move_cpupid(cpupid, src, dst)
        if new.flags & PG_KSM:  # Linux: mm/ksm.c, folio_migrate_ksm()
            self.rmap.ksm.node[new.mapping].kpfn = dst

    def migrate_folio(self, src, dst):
        """Move an isolated page to a free frame; its own is freed. False: it cannot move and is where it was.

        Linux: migrate_folio_unmap(), migrate_folio_move().
        """
        mapped: cython.bint = self.frames.page[src].mapcount != 0
        elsewhere: cython.bint = (
            self.frames.block[src >> PAGEBLOCK_ORDER].zone != self.frames.block[dst >> PAGEBLOCK_ORDER].zone
        )
        if not self.can_migrate(src):
            return False
        if mapped and self.remap(src, src, dst) != self.frames.page[src].mapcount:
            self.remap(src, dst, src)
            return False
        if elsewhere:
            self.account(src, -1)
        if self.frames.page[src].flags & PG_SWAPCACHE:
            self.slots.cached[self.frames.page[src].private] = dst + 1
        elif not self.frames.page[src].flags & PG_ANON:
            self.folios.set_slot(self.frames.page[src].mapping, self.frames.page[src].index, dst + 1)
        self.move_record(src, dst)
        if elsewhere:
            self.account(dst, 1)
        self.lru.add(dst, False)
        if mapped:
            self.lru.drain(self.buddy.cpu)
        self.buddy.free(src, 0)
        self.cpu_ns += self.cost_move
        return True

    # ------------------------------------------------------------------------------ huge pages

    def remap_pmds(self, folio, new):
        """Have the PMD entries that map a huge page map the pageblock from frame ``new`` on."""
        link: cython.long = self.rmap.first(folio)
        left: cython.int = self.frames.page[folio].mapcount
        pmd: cython.long
        while link and left > 0:
            pmd = self.rmap.find_pmd(self.rmap.chain[link].vma, folio)
            if pmd >= 0:
                self.frames.entry[pmd] = self.accessible(
                    self.frames.entry[pmd], self.rmap.chain[link].vma, folio
                ) & ~PTE_PFN_MASK | cython.cast(cython.ulong, new) << PAGE_SHIFT
                self.tlb.flush_range(
                    self.vma[self.rmap.chain[link].vma].mm, self.rmap.found_addr, self.rmap.found_addr + HPAGE_PMD_SIZE
                )
                left -= 1
            link = self.rmap.chain[link].nxt

    def migrate_huge(self, folio, dst):
        """Move an isolated huge page that only PMD entries map to a free pageblock; its own is freed."""
        old: cython.long = folio - self.frames.huge
        new: cython.long = dst >> PAGEBLOCK_ORDER
        to: cython.long = self.frames.huge + new
        self.folios.unmap_mlocked(folio)
        self.remap_pmds(folio, dst)
        self.memcg.mod_folio_state(folio, NR_ANON_MAPPED, -HPAGE_PMD_NR)
        self.memcg.mod_folio_state(folio, NR_ANON_THPS, -HPAGE_PMD_NR)
        self.move_record(folio, to)
        self.frames.page[to].flags |= PG_HEAD
        self.frames.block[new].state = BLK_HUGE
        self.frames.block[new].mapcount = self.frames.block[old].mapcount
        self.frames.block[new].nr_mapped = 0
        self.memcg.mod_folio_state(to, NR_ANON_MAPPED, HPAGE_PMD_NR)
        self.memcg.mod_folio_state(to, NR_ANON_THPS, HPAGE_PMD_NR)
        self.lru.add(to, False)
        self.lru.drain(self.buddy.cpu)
        self.frames.block[old].state = BLK_SPLIT
        self.frames.block[old].mapcount = 0
        self.buddy.free(old << PAGEBLOCK_ORDER, HPAGE_PMD_ORDER)
        self.event[PGMIGRATE_SUCCESS] += HPAGE_PMD_NR
        self.event[THP_MIGRATION_SUCCESS] += 1
        self.cpu_ns += self.cost_move * HPAGE_PMD_NR

    # ------------------------------------------------------------------------------ folios of several pages

    def moves_whole(self, folio):
        """Whether a folio can be moved as one, given a free block; else it is split first."""
        flags: cython.uint = self.frames.page[folio].flags
        if flags & (PG_PARTIALLY_MAPPED | PG_WRITEBACK) or flags & (PG_ANON | PG_SWAPCACHE) == PG_SWAPCACHE:
            return False
        return folio < self.frames.mthp or self.frames.mthp_pfns >= self.frames.nr_frames

    def migrate_large(self, folio, dst):
        """Move an isolated folio that moves_whole() to the free block at frame ``dst``; its own is freed.

        Linux: migrate_folio_unmap(), migrate_folio_move(), for a large folio.
        """
        order: cython.int = self.frames.folio_order(folio)
        first: cython.long = self.frames.folio_pfn(folio)
        nr: cython.long = cython.cast(cython.long, 1) << order
        to: cython.long = self.frames.large_folio(dst, order)
        i: cython.long
        if self.frames.block[first >> PAGEBLOCK_ORDER].state == BLK_HUGE:
            self.migrate_huge(folio, dst)
            return
        self.folios.unmap_mlocked(folio)
        self.account_large(folio, -1)
        if self.huge.entire_mapcount(folio):
            self.remap_pmds(folio, dst)
        for i in range(nr):
            if self.frames.page[first + i].mapcount:
                self.remap(first + i, first + i, dst + i)
            self.move_frame(folio, first + i, dst + i, order)
        self.move_record(folio, to)
        self.frames.page[to].flags |= PG_HEAD
        if order == HPAGE_PMD_ORDER:
            self.move_block(first >> PAGEBLOCK_ORDER, dst >> PAGEBLOCK_ORDER)
        self.find_at(to, dst, nr)
        self.account_large(to, 1)
        self.lru.add(to, False)
        self.lru.drain(self.buddy.cpu)
        self.buddy.free(first, order)
        self.event[PGMIGRATE_SUCCESS] += nr
        self.event[THP_MIGRATION_SUCCESS] += order == HPAGE_PMD_ORDER
        self.cpu_ns += self.cost_move * nr

    def move_block(self, old, new):
        """What the pageblock of a huge page counts is another's."""
        self.frames.block[new].state = BLK_SPLIT
        self.frames.block[new].mapcount = self.frames.block[old].mapcount
        self.frames.block[new].nr_mapped = self.frames.block[old].nr_mapped
        self.frames.block[old].mapcount = self.frames.block[old].nr_mapped = 0

    def find_at(self, folio, dst, nr):
        """Have the swap cache, or the page cache, find a folio that has moved. Linux: __folio_migrate_mapping()."""
        i: cython.long
        at: cython.long
        if self.frames.page[folio].flags & PG_SWAPCACHE:
            for i in range(nr):
                self.slots.cached[self.frames.page[folio].private + i] = folio + 1
        elif not self.frames.page[folio].flags & PG_ANON:
            at = self.folios.mapping[self.frames.page[folio].mapping].base + self.frames.page[folio].index
            for i in range(nr):
                self.folios.slot[at + i] = dst + i + 1

    def move_frame(self, folio, src, dst, order):
        """Make the record of a folio's frame that of another, itself that of a free page."""
        old = address(self.frames.page[src])
        new = address(self.frames.page[dst])
        self.frames.page[folio].flags |= old.flags & PG_DIRTY
        new.flags = old.flags & ~cython.cast(cython.uint, PG_DIRTY)
        new.mapping, new.index, new.private, new.mapcount = old.mapping, old.index, 0, old.mapcount
        new.memcg = 0
        new.mlock_count = cython.cast(cython.ushort, order)
        old.flags = old.mapping = old.index = 0
        old.mapcount = 0
        old.mlock_count = 0

    def account_large(self, folio, sign):
        """account() for a folio of several pages whose frames have records."""
        first: cython.long = self.frames.folio_pfn(folio)
        nr: cython.long = self.frames.nr_pages(folio)
        anon: cython.bint = self.frames.page[folio].flags & PG_ANON != 0
        mapped: cython.long = 0
        i: cython.long
        for i in range(first, first + nr):
            mapped += self.frames.page[i].mapcount > 0
        if self.huge.entire_mapcount(folio):
            mapped = nr
            if anon:
                self.memcg.mod_folio_state(folio, NR_ANON_THPS, sign * nr)
            else:
                self.huge.file.mod_pmdmapped(first >> PAGEBLOCK_ORDER, sign * nr)
        self.memcg.mod_folio_state(folio, NR_ANON_MAPPED if anon else NR_FILE_MAPPED, sign * mapped)
        if not anon:
            self.memcg.mod_folio_state(folio, NR_SHMEM, sign * nr)
            if folio < self.frames.mthp:
                self.memcg.mod_folio_state(folio, NR_SHMEM_THPS, sign * nr)
        if not anon or self.frames.page[folio].flags & PG_SWAPCACHE:
            self.memcg.mod_folio_state(folio, NR_FILE_PAGES, sign * nr)
        if self.frames.page[folio].flags & PG_SWAPCACHE:
            self.memcg.mod_folio_state(folio, NR_SWAPCACHE, sign * nr)

    def large_to_node(self, folio, nid, shared):
        """Move a large folio to a node, whole if there is a block free: the node, a negative errno, or _SPLIT.

        Linux: migrate_pages(), try_split_folio().
        """
        dst: cython.long = -1
        if not self.frames.page[folio].flags & PG_LRU:
            return -_EBUSY
        if not shared and self.huge.likely_mapped_shared(folio):
            return -_EACCES
        if self.moves_whole(folio):
            dst = self.buddy.alloc(
                self.frames.folio_order(folio), MIGRATE_MOVABLE, nid, ZONE_MOVABLE, ALLOC_WMARK_LOW | ALLOC_KSWAPD,
                cython.cast(cython.ulong, 1) << nid,
            )  # fmt: skip
        if dst < 0:
            if not self.split_large(folio):
                return -_EBUSY
            return _SPLIT
        self.moved_first = self.frames.folio_pfn(folio)
        self.moved_end = self.moved_first + self.frames.nr_pages(folio)
        self.isolate(folio)
        self.migrate_large(folio, dst)
        return nid

    def split_large(self, folio):
        """A folio of several pages cannot be moved: have its pages moved. False: it is being written.

        Linux: try_split_folio(). THP_MIGRATION_SPLIT counts huge pages only.
        """
        if not self.split.split_folio(folio):
            return False
        if folio < self.frames.mthp:
            self.event[THP_MIGRATION_SPLIT] += 1
        return True

    # ------------------------------------------------------------------------------ to another node

    def move_to_node(self, pfn, nid, shared):
        """Move a page to a node: the node, or a negative errno. Linux: migrate_to_node(), add_folio_for_migration()."""
        block: cython.long = pfn >> PAGEBLOCK_ORDER
        folio: cython.long = self.frames.page_folio(pfn)
        dst: cython.long
        status: cython.int
        if self.moved_first <= pfn < self.moved_end or self.buddy.zone[self.frames.block[block].zone].nid == nid:
            return nid
        if folio >= self.frames.huge and self.frames.page[folio].flags & PG_HEAD:
            status = self.large_to_node(folio, nid, shared)
            if status != _SPLIT:
                return status
        if not self.frames.page[pfn].flags & PG_LRU or self.frames.page[pfn].flags & PG_HEAD:
            return -_EBUSY
        if self.frames.page[pfn].mapcount > 1 and not shared:
            return -_EACCES
        dst = self.buddy.alloc(
            0, MIGRATE_MOVABLE, nid, ZONE_MOVABLE, ALLOC_WMARK_LOW | ALLOC_KSWAPD, cython.cast(cython.ulong, 1) << nid
        )
        if dst < 0:
            return -_ENOMEM
        self.isolate(pfn)
        if self.migrate_folio(pfn, dst):
            self.event[PGMIGRATE_SUCCESS] += 1
            return nid
        self.event[PGMIGRATE_FAIL] += 1
        self.buddy.free(dst, 0)
        self.putback(pfn)
        return -_EBUSY

    def move_pages(self, pfns: cython.long[::1], nid: cython.int, shared: cython.bint, status: cython.int[::1]):
        """Move pages to a node, ``shared`` also those of several processes; ``status``: as move_to_node()."""
        i: cython.Py_ssize_t
        self.moved_first = self.moved_end = 0
        with cython.nogil:
            self.lru.drain_all()
            for i in range(pfns.shape[0]):
                status[i] = self.move_to_node(pfns[i], nid, shared)
