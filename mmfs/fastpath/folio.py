# cython: language_level=3
"""What happens to a page between allocation and freeing: page cache, dirt, locks, the end.

A page of the page cache is found in its address_space's slots, which lie in one lazily committed arena. A slot
holds ``pfn + 1``, or 0, or an entry that is no page (SLOT_SHADOW, SLOT_SWAP): ``lookup()`` tells. 64 slots stand for
one node of Linux's tree of slots (fastpath/xa_nodes.py).

An address_space that becomes dirty is put down in ``dirtied`` once, until whoever writes back takes it over.

Linux: mm/filemap.c, mm/page-writeback.c, mm/truncate.c, mm/mlock.c, mm/swap.c.

Simplified: the tree's upper levels are as many as its leaves make needful; one that holds only the first page has none.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view
from mmfs.fastpath.obj_cgroup import ObjCgroups
from mmfs.fastpath.slub import Slub
from mmfs.fastpath.workingset import Workingset
from mmfs.fastpath.xa_nodes import XaNodes
from mmfs.mm_types import MAPPING_DTYPE

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_MAPPINGS = 1 << 24
_SLOTS = 1 << 34


class Folios:
    """The pages in use. ``mappings`` MAPPING_DTYPE rows and ``slots`` uint64 are handed out by mm/filemap.py."""

    def __init__(self, buddy, lru, vmstat):
        self.frames = buddy.frames
        self.buddy = buddy
        self.lru = lru
        self.workingset = Workingset(lru)
        self.mappings = lazy_array(_MAX_MAPPINGS, MAPPING_DTYPE)
        self.slots = lazy_array(_SLOTS, np.uint64)
        self.slub = Slub(ObjCgroups(lru.memcg), vmstat)
        self.nodes = XaNodes(self.slub, self.slots)
        self.dirtied = lazy_array(_MAX_MAPPINGS, np.uint32)
        self.nr_dirtied = 0
        self.mapping = view(self.mappings)
        self.slot = view(self.slots)
        self.dirtied_mapping = view(self.dirtied)
        self.memcg = lru.memcg
        self.zone_stat = view(vmstat.zone_stat)
        self.event = view(vmstat.event)

    def lookup(self, m, index):
        """The frame that caches a page of a file, -1 if none does. Linux: filemap_get_folio()."""
        value: cython.ulong
        if index < 0 or index >= self.mapping[m].slots:
            return -1
        value = self.slot[self.mapping[m].base + index]
        if value & (SLOT_SHADOW | SLOT_SWAP):
            return -1
        return cython.cast(cython.long, value) - 1

    def set_slot(self, m, index, value):
        """Store into a slot, which is in a node of the tree unless it is the first. Linux: xas_store()."""
        at: cython.long = self.mapping[m].base + index
        if index:
            self.nodes.store(at, value)
        else:
            self.slot[at] = value

    def cache_add(self, m, index, pfn, in_fault):
        """Put a new page into the page cache. Linux: mm/filemap.c, filemap_add_folio(); shmem_add_to_page_cache()."""
        shadow: cython.ulong = self.slot[self.mapping[m].base + index]
        self.frames.page[pfn].flags = PG_UPTODATE
        self.frames.page[pfn].mapcount = 0
        self.cache_insert(m, index, pfn)
        if shadow & SLOT_SHADOW:
            self.workingset.refault(pfn, shadow, in_fault)
        self.lru.add(pfn, in_fault)

    def cache_insert(self, m, index, pfn):
        """Have a page found in the page cache."""
        self.frames.page[pfn].mapping = m
        self.frames.page[pfn].index = cython.cast(cython.uint, index)
        self.set_slot(m, index, pfn + 1)
        self.mapping[m].nrpages += 1
        self.memcg.mod_folio_state(pfn, NR_FILE_PAGES, 1)
        if self.mapping[m].shmem:
            self.frames.page[pfn].flags |= PG_SWAPBACKED
            self.memcg.mod_folio_state(pfn, NR_SHMEM, 1)

    def cache_remove(self, pfn, shadow):
        """Take a page out of the page cache, an entry left in its place. Linux: __filemap_remove_folio()."""
        m: cython.long = self.frames.page[pfn].mapping
        self.set_slot(m, self.frames.page[pfn].index, shadow)
        self.mapping[m].nrpages -= 1
        self.memcg.mod_folio_state(pfn, NR_FILE_PAGES, -1)
        if self.mapping[m].shmem:
            self.memcg.mod_folio_state(pfn, NR_SHMEM, -1)
        elif self.frames.page[pfn].flags & PG_DIRTY:
            self.account_cleaned(pfn)
        if self.frames.page[pfn].flags & PG_PRIVATE:
            self.frames.page[pfn].flags &= ~PG_PRIVATE
            self.nodes.free_buffer(self.mapping[m].base + self.frames.page[pfn].index)
        self.frames.page[pfn].private = 0
        self.frames.page[pfn].mapping = 0

    def page_cache_delete(self, m: cython.long, index: cython.long):
        """Take a page out of the page cache; it is freed unless somebody maps it."""
        pfn: cython.long = self.lookup(m, index)
        if pfn >= 0:
            self.cache_remove(pfn, 0)
            if self.frames.page[pfn].mapcount == 0:
                self.free_page(pfn)

    def truncate_range(self, m: cython.long, first: cython.long, last: cython.long):
        """Take the pages [first, last) out of the page cache, and shadows; how many pages.

        Linux: mm/truncate.c, truncate_inode_pages_range().
        """
        i: cython.long
        pfn: cython.long
        nr: cython.long = 0
        with cython.nogil:
            for i in range(first, min(last, self.mapping[m].slots)):
                pfn = self.lookup(m, i)
                if pfn < 0:
                    if self.slot[self.mapping[m].base + i] & SLOT_SHADOW:
                        self.set_slot(m, i, 0)
                    continue
                self.cache_remove(pfn, 0)
                nr += 1
                if self.frames.page[pfn].mapcount == 0:
                    self.free_page(pfn)
        return nr

    def invalidate_range(self, m: cython.long, first: cython.long, last: cython.long):
        """Drop the pages [first, last) that nobody uses, and shadows, and deactivate the others; how many went.

        Linux: mm/truncate.c, mapping_try_invalidate().
        """
        i: cython.long
        pfn: cython.long
        nr: cython.long = 0
        with cython.nogil:
            for i in range(first, min(last, self.mapping[m].slots)):
                pfn = self.lookup(m, i)
                if pfn < 0:
                    if self.slot[self.mapping[m].base + i] & SLOT_SHADOW:
                        self.set_slot(m, i, 0)
                elif self.in_use(pfn):
                    self.lru.deactivate_file(pfn)
                else:
                    self.cache_remove(pfn, 0)
                    self.free_page(pfn)
                    nr += 1
        return nr

    def in_use(self, pfn):
        """Whether a page of the page cache cannot be dropped. Linux: mm/truncate.c, mapping_evict_folio()."""
        return (
            self.frames.page[pfn].flags & (PG_DIRTY | PG_WRITEBACK) != 0
            or self.frames.page[pfn].mapcount != 0
            or self.pinned(pfn)
        )

    def pinned(self, pfn):
        """Whether its file system holds a page of the page cache, so that nobody can take it away."""
        m: cython.long = self.frames.page[pfn].mapping
        return cython.cast(cython.long, self.frames.page[pfn].index) < self.mapping[m].pinned

    def account_cleaned(self, pfn):
        """A dirty page of a file will not be written. Linux: mm/page-writeback.c, folio_account_cleaned()."""
        zone: cython.long = self.frames.block[pfn >> PAGEBLOCK_ORDER].zone
        self.frames.page[pfn].flags &= ~PG_DIRTY
        self.mapping[self.frames.page[pfn].mapping].nr_dirty -= 1
        self.memcg.mod_folio_state(pfn, NR_FILE_DIRTY, -1)
        self.zone_stat[zone, NR_ZONE_WRITE_PENDING] -= 1

    def add_buffers(self, pfn):
        """A page of a file gets a buffer head, unless it has one. Linux: fs/buffer.c, folio_create_buffers()."""
        if not self.frames.page[pfn].flags & PG_PRIVATE:
            self.frames.page[pfn].flags |= PG_PRIVATE
            self.nodes.add_buffer(
                self.mapping[self.frames.page[pfn].mapping].base + self.frames.page[pfn].index,
                self.frames.page[pfn].memcg,
            )

    def mark_dirty(self, pfn):
        """A page differs from its file, if it has one, where it has a buffer head from then on, or from swap.

        Linux: mm/page-writeback.c, folio_mark_dirty(), folio_account_dirtied(); fs/buffer.c, folio_create_buffers().
        """
        m: cython.long = self.frames.page[pfn].mapping
        zone: cython.long
        if self.frames.page[pfn].flags & PG_DIRTY:
            return
        self.frames.page[pfn].flags = self.frames.page[pfn].flags & ~PG_RECLAIM | PG_DIRTY
        if m == 0 or self.frames.page[pfn].flags & PG_ANON or self.mapping[m].shmem:
            return
        self.add_buffers(pfn)
        if not self.mapping[m].queued:
            self.mapping[m].queued = 1
            self.dirtied_mapping[self.nr_dirtied] = cython.cast(cython.uint, m)
            self.nr_dirtied += 1
        zone = self.frames.block[pfn >> PAGEBLOCK_ORDER].zone
        self.mapping[m].nr_dirty += 1
        self.memcg.mod_folio_state(pfn, NR_FILE_DIRTY, 1)
        self.memcg.mod_folio_state(pfn, NR_DIRTIED, 1)
        self.zone_stat[zone, NR_ZONE_WRITE_PENDING] += 1

    def mlock_new(self, folio):
        """A folio of a locked VMA is new, and on no list yet. Linux: mm/mlock.c, mlock_new_folio()."""
        nr: cython.long = self.frames.nr_pages(folio)
        self.frames.page[folio].flags |= PG_MLOCKED | PG_UNEVICTABLE
        self.frames.page[folio].mlock_count = 1
        self.zone_stat[self.frames.zone_of(folio), NR_MLOCK] += nr
        self.event[UNEVICTABLE_PGS_MLOCKED] += nr

    def mlock_folio(self, folio):
        """One more locked VMA maps the folio. Linux: mm/mlock.c, mlock_folio()."""
        if self.frames.page[folio].flags & PG_MLOCKED:
            self.frames.page[folio].mlock_count += 1
            return
        if self.frames.page[folio].flags & PG_BATCHED:
            self.lru.drain_all()
        if self.frames.page[folio].flags & PG_LRU:
            self.lru.del_page(folio)
            self.mlock_new(folio)
            self.lru.add_page(folio)
            self.event[UNEVICTABLE_PGS_CULLED] += self.frames.nr_pages(folio)
        else:
            self.mlock_new(folio)

    def munlock_folio(self, folio):
        """One locked VMA less maps the folio. Linux: mm/mlock.c, munlock_folio()."""
        if not self.frames.page[folio].flags & PG_MLOCKED:
            return
        self.frames.page[folio].mlock_count -= 1
        if self.frames.page[folio].mlock_count == 0:
            self.clear_mlocked(folio)

    def clear_mlocked(self, folio):
        """No locked VMA maps the folio any more; one that is off its list now is found to be free to go later.

        Linux: mm/mlock.c, __munlock_folio(); mm/swap.c, lru_add().
        """
        nr: cython.long = self.frames.nr_pages(folio)
        listed: cython.bint
        if self.frames.page[folio].flags & PG_BATCHED:
            self.lru.drain_all()
        listed = self.frames.page[folio].flags & PG_LRU != 0
        if listed:
            self.lru.del_page(folio)
        self.frames.page[folio].flags &= ~(PG_MLOCKED | PG_UNEVICTABLE)
        self.frames.page[folio].mlock_count = 0
        if listed:
            self.lru.add_page(folio)
        self.zone_stat[self.frames.zone_of(folio), NR_MLOCK] -= nr
        self.event[UNEVICTABLE_PGS_MUNLOCKED if listed else UNEVICTABLE_PGS_STRANDED] += nr
        self.event[UNEVICTABLE_PGS_RESCUED] += nr

    def unmap_mlocked(self, folio):
        """What maps a folio is taken away for a while: locked VMAs, too. Linux: munlock_vma_folio()."""
        if self.frames.page[folio].flags & PG_MLOCKED:
            self.clear_mlocked(folio)

    def mod_lruvec_states(self, pfn: cython.long, nr: cython.long):
        """Count a page, or no more, in all that its lruvec counts of it. Linux: mem_cgroup_move_account()."""
        flags: cython.uint = self.frames.page[pfn].flags
        mapped: cython.bint = self.frames.page[pfn].mapcount > 0
        if flags & PG_ANON:
            if mapped:
                self.memcg.mod_folio_state(pfn, NR_ANON_MAPPED, nr)
        else:
            self.memcg.mod_folio_state(pfn, NR_FILE_PAGES, nr)
            if mapped:
                self.memcg.mod_folio_state(pfn, NR_FILE_MAPPED, nr)
            if flags & PG_SWAPBACKED:
                self.memcg.mod_folio_state(pfn, NR_SHMEM, nr)
            elif flags & PG_DIRTY:
                self.memcg.mod_folio_state(pfn, NR_FILE_DIRTY, nr)
        if flags & PG_SWAPCACHE:
            self.memcg.mod_folio_state(pfn, NR_FILE_PAGES, nr)
            self.memcg.mod_folio_state(pfn, NR_SWAPCACHE, nr)
        if flags & PG_WRITEBACK:
            self.memcg.mod_folio_state(pfn, NR_WRITEBACK, nr)

    def move_accounts(self, pfns: cython.long[::1], source: cython.long, to: cython.long):
        """Pages of one memory cgroup are another's from now on, counters aside; how many are on a list and could be.

        Linux: mem_cgroup_move_account().
        """
        i: cython.Py_ssize_t
        pfn: cython.long
        moved: cython.long = 0
        for i in range(pfns.shape[0]):
            pfn = pfns[i]
            if self.frames.page[pfn].memcg != source or not self.frames.page[pfn].flags & PG_LRU:
                continue
            self.lru.del_page(pfn)
            self.mod_lruvec_states(pfn, -1)
            self.memcg.count_memcg_events(source, PGPGOUT, 1)
            self.memcg.count_memcg_events(to, PGPGIN, 1)
            self.memcg.ref[source] -= 1
            self.memcg.set_owner(pfn, to)
            self.mod_lruvec_states(pfn, 1)
            self.lru.add_page(pfn)
            moved += 1
        return moved

    def clear_mlocked_freed(self, folio):
        """A folio is freed that is still locked. Linux: mm/swap.c, __page_cache_release()."""
        nr: cython.long = self.frames.nr_pages(folio)
        self.zone_stat[self.frames.zone_of(folio), NR_MLOCK] -= nr
        self.event[UNEVICTABLE_PGS_CLEARED] += nr

    def free_page(self, pfn):
        """Free a page that nobody maps or caches; if its memory has failed it is lost. Linux: __folio_put()."""
        poisoned: cython.uint = self.frames.page[pfn].flags & PG_HWPOISON
        if self.frames.page[pfn].flags & PG_BATCHED:
            self.lru.drain_all()
        if self.frames.page[pfn].flags & PG_LRU:
            self.lru.del_page(pfn)
        if self.frames.page[pfn].flags & PG_MLOCKED:
            self.clear_mlocked_freed(pfn)
        self.frames.page[pfn].flags = poisoned
        self.frames.page[pfn].mapping = 0
        self.frames.page[pfn].index = 0
        self.frames.page[pfn].private = 0
        self.frames.page[pfn].mapcount = 0
        self.memcg.uncharge_folio(pfn)
        self.frames.page[pfn].mlock_count = 0
        if not poisoned:
            self.buddy.free(pfn, 0)
