# cython: language_level=3
"""Compaction of a zone: its two scanners, until they meet or the block that is wanted is free.

Who compacts fills a CompactControl and calls `compact_zone()`, again as long as it says CONTINUE: a call stops when it
has used up ``budget_ns``. What to compact when is decided by mm/compaction.py.

Linux: mm/compaction.c, compact_zone(), compact_finished().

Simplified: the block that is wanted is not caught while it is being freed (capture_control), but found on its list.
"""

import cython
import numpy as np
from cython import address

from mmfs.fastpath.compact_control import CompactResult, CompactZones
from mmfs.fastpath.compact_free import FreeScanner
from mmfs.fastpath.compact_migrate import MigrateScanner
from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_CONTINUE = cython.declare(cython.int, CompactResult.CONTINUE)
_COMPLETE = cython.declare(cython.int, CompactResult.COMPLETE)
_PARTIAL_SKIPPED = cython.declare(cython.int, CompactResult.PARTIAL_SKIPPED)
_CONTENDED = cython.declare(cython.int, CompactResult.CONTENDED)
_SUCCESS = cython.declare(cython.int, CompactResult.SUCCESS)


class Compaction:
    """Compacts zones. ``cpu_ns`` grows by what calls cost; ``proactiveness``: vm.compaction_proactiveness."""

    def __init__(self, migration, vmstat):
        self.migration = migration
        self.buddy = migration.buddy
        self.areas = migration.buddy.areas
        self.frames = migration.frames
        self.lru = migration.lru
        self.zones = CompactZones(self.areas)
        self.free = FreeScanner(self.buddy, self.zones, vmstat)
        self.source = MigrateScanner(migration, self.zones, vmstat)
        self.event = view(vmstat.event)
        self.budget_ns = 1 << 62
        self.cpu_ns = self.cost_scan = 0
        self.proactiveness = 20
        self.blocks = view(np.zeros(3, np.int64))

    # ------------------------------------------------------------------------------ how fragmented

    def contig_page_info(self, zone, order):
        """``blocks``: free pages, free blocks, and blocks of an order in them. Linux: fill_contig_page_info()."""
        o: cython.int
        mt: cython.int
        nr: cython.long
        self.blocks[0] = self.blocks[1] = self.blocks[2] = 0
        for o in range(NR_PAGE_ORDERS):
            nr = 0
            for mt in range(MIGRATE_TYPES):
                nr += self.areas.nr_free[(zone * NR_PAGE_ORDERS + o) * MIGRATE_TYPES + mt]
            self.blocks[0] += nr << o
            self.blocks[1] += nr
            if o >= order:
                self.blocks[2] += nr << (o - order)

    def extfrag_for_order(self, zone, order):
        """The part of a zone's free memory, in percent, that is of no use for an order. Linux: mm/vmstat.c."""
        self.contig_page_info(zone, order)
        if self.blocks[0] == 0:
            return 0
        return cython.cast(cython.int, (self.blocks[0] - (self.blocks[2] << order)) * 100 // self.blocks[0])

    def fragmentation_index(self, zone, order):
        """Why a block cannot be had: towards 0 for want of memory, towards 1000 because it is in pieces.

        -1000: it can be had. Linux: mm/vmstat.c, __fragmentation_index().
        """
        requested: cython.long = 1 << order
        self.contig_page_info(zone, order)
        if self.blocks[1] == 0:
            return 0
        if self.blocks[2]:
            return -1000
        return cython.cast(
            cython.int, 1000 - (1000 + self.blocks[0] * 1000 // requested) // self.blocks[1]
        )

    def unusable_free_index(self, zone, order):
        """As extfrag_for_order(), in thousandths, all of them where nothing is free. Linux: mm/vmstat.c."""
        self.contig_page_info(zone, order)
        if self.blocks[0] == 0:
            return 1000
        return cython.cast(cython.int, (self.blocks[0] - (self.blocks[2] << order)) * 1000 // self.blocks[0])

    def score_wmark(self, low):
        """The score at which proactive compaction ends or begins. Linux: fragmentation_score_wmark()."""
        wmark: cython.int = max(100 - self.proactiveness, 5)
        return wmark if low else min(wmark + 10, 100)

    # ------------------------------------------------------------------------------ a zone

    def finished(self, cc):
        """Whether to go on. Linux: compact_finished()."""
        z = address(self.zones.zone[cc.zone])
        order: cython.int
        if cc.free_pfn >> PAGEBLOCK_ORDER <= cc.migrate_pfn >> PAGEBLOCK_ORDER:
            self.zones.reset_cached_positions(cc.zone)
            if cc.direct:
                z.blockskip_flush = 1
            return _COMPLETE if cc.whole_zone else _PARTIAL_SKIPPED
        if cc.proactive:
            if self.buddy.kswapds_awake >> self.areas.zone[cc.zone].nid & 1:
                return _PARTIAL_SKIPPED
            if self.extfrag_for_order(cc.zone, PAGEBLOCK_ORDER) > self.score_wmark(True):
                return _CONTINUE
            return _SUCCESS
        if cc.order < 0 or cc.migrate_pfn & PAGEBLOCK_NR_PAGES - 1:
            return _CONTINUE
        for order in range(cc.order, NR_PAGE_ORDERS):
            if self.areas.first_free(cc.zone, order, cc.migratetype) >= 0:
                return _SUCCESS
            if cc.migratetype == MIGRATE_MOVABLE and self.areas.first_free(cc.zone, order, MIGRATE_CMA) >= 0:
                return _SUCCESS
            if self.areas.suitable_fallback(cc.zone, order, cc.migratetype) >= 0 and self.areas.can_steal(
                order, cc.migratetype
            ):
                return _SUCCESS
        return _CONTINUE

    def begin(self, cc):
        """Where the scanners start. Linux: compact_zone(), before its loop."""
        z = address(self.zones.zone[cc.zone])
        start: cython.long = self.areas.zone[cc.zone].start_pfn
        end: cython.long = self.areas.zone[cc.zone].end_pfn
        cc.clear()
        cc.begun = True
        if cc.order > 0 and self.zones.restarting(cc.zone, cc.order):
            self.zones.reset_isolation_suitable(cc.zone)
        if cc.whole_zone:
            cc.migrate_pfn = start
            cc.free_pfn = self.zones.last_block(cc.zone)
        else:
            cc.migrate_pfn = z.cached_migrate_pfn if cc.mode == MIGRATE_ASYNC else z.cached_migrate_sync_pfn
            cc.free_pfn = z.cached_free_pfn
            if cc.free_pfn < start or cc.free_pfn >= end:
                cc.free_pfn = z.cached_free_pfn = self.zones.last_block(cc.zone)
            if cc.migrate_pfn < start or cc.migrate_pfn >= end:
                cc.migrate_pfn = start
                self.zones.set_cached_migrate(cc.zone, start)
            if cc.migrate_pfn <= z.init_migrate_pfn:
                cc.whole_zone = True
        cc.update_cached = cc.mode == MIGRATE_ASYNC and z.cached_migrate_pfn == z.cached_migrate_sync_pfn
        self.lru.drain(self.buddy.cpu)

    def migrate_pages(self, cc):
        """Move what was taken, the last page first; how many stayed, or -1: nowhere to move to.

        Those go back to their lists. Linux: migrate_pages().
        """
        i: cython.int = cc.nr_isolated
        dst: cython.long
        failed: cython.int = 0
        while i > 0:
            if cc.pfn[i - 1] >= self.frames.huge:
                i = self.migrate_large(cc, i - 1)
                continue
            dst = self.free.compaction_alloc(cc, 0)
            if dst < 0:
                break
            i -= 1
            if self.migration.migrate_folio(cc.pfn[i], dst):
                self.event[PGMIGRATE_SUCCESS] += 1
                continue
            self.free.compaction_free(cc, dst)
            self.migration.putback(cc.pfn[i])
            failed += 1
        self.event[PGMIGRATE_FAIL] += failed + (i > 0)
        cc.nr_isolated = i
        if i > 0:
            self.source.putback(cc)
            failed = -1
        cc.nr_migratepages = 0
        return failed

    def migrate_large(self, cc, at):
        """Move the folio at the last position, or have its pages moved in its place: how many entries are left.

        Linux: migrate_pages_batch(), try_split_folio().
        """
        folio: cython.long = cc.pfn[at]
        first: cython.long = self.frames.folio_pfn(folio)
        end: cython.long = first + self.frames.nr_pages(folio)
        dst: cython.long = -1
        pfn: cython.long
        if self.migration.moves_whole(folio):
            dst = self.free.compaction_alloc(cc, self.frames.folio_order(folio))
        if dst >= 0:
            self.migration.migrate_large(folio, dst)
            return at
        if not self.migration.split_large(folio):
            self.migration.putback(folio)
            return at
        for pfn in range(first, end):
            if self.frames.page[pfn].flags & (PG_ANON | PG_SWAPBACKED) and (
                not self.frames.page[pfn].flags & (PG_LRU | PG_BATCHED)
            ):
                cc.pfn[at] = pfn
                at += 1
        return at

    def round(self, cc):
        """Take pages and move them; _CONTINUE, or that memory has run out. Linux: the loop of compact_zone()."""
        failed: cython.int
        z = address(self.zones.zone[cc.zone])
        cc.finish_pageblock = cc.last_migrated_pfn >> PAGEBLOCK_ORDER == cc.migrate_pfn >> PAGEBLOCK_ORDER
        while True:
            if not self.source.isolate_migratepages(cc):
                if cc.update_cached:
                    z.cached_migrate_sync_pfn = z.cached_migrate_pfn
                break
            cc.update_cached = False
            cc.last_migrated_pfn = max(
                self.areas.zone[cc.zone].start_pfn, (cc.migrate_pfn - 1) & ~(PAGEBLOCK_NR_PAGES - 1)
            )
            failed = self.migrate_pages(cc)
            if failed < 0 and cc.free_pfn >> PAGEBLOCK_ORDER > cc.migrate_pfn >> PAGEBLOCK_ORDER:
                return _CONTENDED
            if (
                not failed or not cc.migrate_pfn & PAGEBLOCK_NR_PAGES - 1 or cc.ignore_skip_hint
                or cc.finish_pageblock or cc.mode == MIGRATE_SYNC
            ):  # fmt: skip
                break
            cc.finish_pageblock = True
            if cc.order == HPAGE_PMD_ORDER:
                cc.last_migrated_pfn = 0
        if cc.order > 0 and cc.last_migrated_pfn:
            if cc.last_migrated_pfn < cc.migrate_pfn & ~((cython.cast(cython.long, 1) << cc.order) - 1):
                self.lru.drain(self.buddy.cpu)
                self.buddy.drain_pages(self.buddy.cpu, cc.zone)
                cc.last_migrated_pfn = 0
        return _CONTINUE

    def compact_zone(self, cc):
        """Compact for a slice of time; CompactResult.CONTINUE: there is more to do. Linux: compact_zone()."""
        z = address(self.zones.zone[cc.zone])
        result: cython.int
        scanned: cython.long
        high: cython.long
        until: cython.long = self.cpu_ns + self.budget_ns
        if not cc.begun:
            self.begin(cc)
        while True:
            result = self.finished(cc)
            if result != _CONTINUE:
                break
            scanned = cc.total_migrate_scanned + cc.total_free_scanned
            result = self.round(cc)
            self.cpu_ns += (cc.total_migrate_scanned + cc.total_free_scanned - scanned) * self.cost_scan
            self.cpu_ns += self.migration.cpu_ns
            self.migration.cpu_ns = 0
            if result != _CONTINUE:
                break
            if self.cpu_ns >= until:
                return _CONTINUE
        if cc.nr_freepages:
            high = self.free.release_free_list(cc) & ~(PAGEBLOCK_NR_PAGES - 1)
            z.cached_free_pfn = max(z.cached_free_pfn, high)
        self.event[COMPACT_MIGRATE_SCANNED] += cc.total_migrate_scanned
        self.event[COMPACT_FREE_SCANNED] += cc.total_free_scanned
        cc.begun = False
        return result
