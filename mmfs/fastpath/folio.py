# cython: language_level=3
"""What happens to a page between allocation and freeing: page cache, dirt, locks, the end.

A page of the page cache is found in its address_space's slots (``pfn + 1``, 0 where there is none), which lie
in one lazily committed arena.

Linux: mm/filemap.c, mm/page-writeback.c, mm/mlock.c, mm/swap.c.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view
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
        self.mappings = lazy_array(_MAX_MAPPINGS, MAPPING_DTYPE)
        self.slots = lazy_array(_SLOTS, np.uint64)
        self.mapping = view(self.mappings)
        self.slot = view(self.slots)
        self.node_stat = view(vmstat.node_stat)
        self.zone_stat = view(vmstat.zone_stat)
        self.event = view(vmstat.event)

    def cache_add(self, m, index, pfn, in_fault):
        """Put a new page into the page cache. Linux: mm/filemap.c, filemap_add_folio(); shmem_add_to_page_cache()."""
        nid: cython.int = self.buddy.zone[self.frames.block[pfn >> PAGEBLOCK_ORDER].zone].nid
        self.frames.page[pfn].flags = PG_UPTODATE
        self.frames.page[pfn].mapping = m
        self.frames.page[pfn].index = cython.cast(cython.uint, index)
        self.frames.page[pfn].mapcount = 0
        self.frames.page[pfn].memcg = cython.cast(cython.ushort, self.mapping[m].memcg)
        self.slot[self.mapping[m].base + index] = pfn + 1
        self.mapping[m].nrpages += 1
        self.node_stat[nid, NR_FILE_PAGES] += 1
        if self.mapping[m].shmem:
            self.frames.page[pfn].flags |= PG_SWAPBACKED
            self.node_stat[nid, NR_SHMEM] += 1
        self.lru.add(pfn, in_fault)

    def page_cache_delete(self, m, index):
        """Take a page out of the page cache; it is freed unless somebody maps it. Linux: __filemap_remove_folio()."""
        at: cython.long = self.mapping[m].base + index
        pfn: cython.long = cython.cast(cython.long, self.slot[at]) - 1
        zone: cython.long
        if pfn < 0:
            return
        zone = self.frames.block[pfn >> PAGEBLOCK_ORDER].zone
        self.slot[at] = 0
        self.mapping[m].nrpages -= 1
        self.node_stat[self.buddy.zone[zone].nid, NR_FILE_PAGES] -= 1
        if self.mapping[m].shmem:
            self.node_stat[self.buddy.zone[zone].nid, NR_SHMEM] -= 1
        elif self.frames.page[pfn].flags & PG_DIRTY:
            self.mapping[m].nr_dirty -= 1
            self.node_stat[self.buddy.zone[zone].nid, NR_FILE_DIRTY] -= 1
            self.zone_stat[zone, NR_ZONE_WRITE_PENDING] -= 1
        self.frames.page[pfn].mapping = 0
        if self.frames.page[pfn].mapcount == 0:
            self.free_page(pfn)

    def mark_dirty(self, pfn):
        """A page of the page cache differs from its file. Linux: mm/page-writeback.c, folio_account_dirtied()."""
        m: cython.long = self.frames.page[pfn].mapping
        zone: cython.long = self.frames.block[pfn >> PAGEBLOCK_ORDER].zone
        if self.frames.page[pfn].flags & PG_DIRTY:
            return
        self.frames.page[pfn].flags |= PG_DIRTY
        if m == 0 or self.mapping[m].shmem:
            return
        self.mapping[m].nr_dirty += 1
        self.node_stat[self.buddy.zone[zone].nid, NR_FILE_DIRTY] += 1
        self.node_stat[self.buddy.zone[zone].nid, NR_DIRTIED] += 1
        self.zone_stat[zone, NR_ZONE_WRITE_PENDING] += 1

    def mlock_page(self, pfn):
        """One more locked VMA maps the page. Linux: mm/mlock.c, mlock_folio()."""
        if self.frames.page[pfn].flags & PG_MLOCKED:
            self.frames.page[pfn].mlock_count += 1
            return
        if self.frames.page[pfn].flags & PG_BATCHED:
            self.lru.drain_all()
        if self.frames.page[pfn].flags & PG_LRU:
            self.lru.del_page(pfn)
            self.frames.page[pfn].flags |= PG_MLOCKED | PG_UNEVICTABLE
            self.lru.add_page(pfn)
            self.event[UNEVICTABLE_PGS_CULLED] += 1
        else:
            self.frames.page[pfn].flags |= PG_MLOCKED | PG_UNEVICTABLE
        self.frames.page[pfn].mlock_count = 1
        self.zone_stat[self.frames.block[pfn >> PAGEBLOCK_ORDER].zone, NR_MLOCK] += 1
        self.event[UNEVICTABLE_PGS_MLOCKED] += 1

    def munlock_page(self, pfn):
        """One locked VMA less maps the page. Linux: mm/mlock.c, munlock_folio()."""
        if not self.frames.page[pfn].flags & PG_MLOCKED:
            return
        self.frames.page[pfn].mlock_count -= 1
        if self.frames.page[pfn].mlock_count:
            return
        if self.frames.page[pfn].flags & PG_BATCHED:
            self.lru.drain_all()
        self.lru.del_page(pfn)
        self.frames.page[pfn].flags &= ~(PG_MLOCKED | PG_UNEVICTABLE)
        self.lru.add_page(pfn)
        self.zone_stat[self.frames.block[pfn >> PAGEBLOCK_ORDER].zone, NR_MLOCK] -= 1
        self.event[UNEVICTABLE_PGS_MUNLOCKED] += 1
        self.event[UNEVICTABLE_PGS_RESCUED] += 1

    def free_page(self, pfn):
        """Free a page that nobody maps or caches. Linux: __folio_put()."""
        self.lru.del_page(pfn)
        if self.frames.page[pfn].flags & PG_MLOCKED:
            self.zone_stat[self.frames.block[pfn >> PAGEBLOCK_ORDER].zone, NR_MLOCK] -= 1
            self.event[UNEVICTABLE_PGS_CLEARED] += 1
        self.frames.page[pfn].flags = 0
        self.frames.page[pfn].mapping = 0
        self.frames.page[pfn].index = 0
        self.frames.page[pfn].private = 0
        self.frames.page[pfn].mapcount = 0
        self.frames.page[pfn].memcg = 0
        self.frames.page[pfn].mlock_count = 0
        self.buddy.free(pfn, 0)
