# cython: language_level=3
"""The multi-generational LRU: generations of pages, the youngest filled by faults and the aging, the oldest evicted.

Each lruvec has up to four generations of anonymous memory and of files, a list a zone each, and counters that tell
which kind and which tier (pages by how often they were used through descriptors) refaults too much to be evicted.
A page remembers its generation and its uses in the 16 bits that count locks while it is mlocked. An access found in a
page table only changes that number; the page changes lists when eviction meets it (``sort_folio``).

``seqs`` [lruvec, 3] int64: the youngest generation's number, the oldest of anonymous memory and of files.
``sizes`` [lruvec, 4 * 2 * 6]: pages by generation, kind and zone. ``evicted``, ``refaulted``, ``protected``,
``avg_refaulted``, ``avg_total`` [lruvec, 2 * 4]: by kind and tier; what the oldest generation did, and averages of
those before it.

Linux: include/linux/mm_inline.h, lru_gen_add_folio() and around; mm/vmscan.c, scan_folios(), inc_min_seq(),
inc_max_seq(), fill_evictable(); mm/workingset.c, lru_gen_eviction(), lru_gen_refault().
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_SLOTS = cython.declare(cython.int, 48)  # generations * kinds * zones
_TIERS = cython.declare(cython.int, 4)
_MAX_SEQ = cython.declare(cython.int, 0)
_MIN_SEQ = cython.declare(cython.int, 1)


class LruGen:
    """The generations of all lruvecs. Counters of the lists go to the VmStat's rows through ``memcg``.

    ``fault_activates``: of pages that come back, those of faults alone count as activated, and as restored those that
    were of the working set, as 7.0 has it.
    """

    def __init__(self, frames, buddy, memcg, nr_lruvecs):
        self.frames = frames
        self.buddy = buddy
        self.memcg = memcg
        self.event = self.memcg.event
        self.nr_lruvecs = nr_lruvecs
        self.page_heads = frames.reserve_page_heads(nr_lruvecs * _SLOTS)
        self.seqs = lazy_array(nr_lruvecs * 3, np.int64).reshape(-1, 3)
        self.sizes = lazy_array(nr_lruvecs * _SLOTS, np.int64).reshape(-1, _SLOTS)
        self.evicted, self.refaulted, self.protected, self.avg_refaulted, self.avg_total = (
            lazy_array(nr_lruvecs * 2 * _TIERS, np.int64).reshape(-1, 2 * _TIERS) for _ in range(5)
        )
        self.seq = view(self.seqs)
        self.size = view(self.sizes)
        self.evict = view(self.evicted)
        self.refault_count = view(self.refaulted)
        self.protect = view(self.protected)
        self.avg_refault = view(self.avg_refaulted)
        self.avg_sum = view(self.avg_total)
        self.isolated = self.nr_folios = self.coming = 0
        self.fault_activates = False

    @staticmethod
    def heads_needed(nr_lruvecs):
        """How many list heads the lists take."""
        return nr_lruvecs * 48

    def init_lruvec(self, lruvec: cython.long):
        """A new lruvec: empty generations. Linux: lru_gen_init_lruvec()."""
        i: cython.int
        self.seq[lruvec, _MAX_SEQ] = MIN_NR_GENS + 1
        self.seq[lruvec, _MIN_SEQ] = self.seq[lruvec, _MIN_SEQ + 1] = 0
        for i in range(_SLOTS):
            self.size[lruvec, i] = 0
            self.frames.init_page_head(self.page_heads + lruvec * _SLOTS + i)
        for i in range(2 * _TIERS):
            self.evict[lruvec, i] = self.refault_count[lruvec, i] = self.protect[lruvec, i] = 0
            self.avg_refault[lruvec, i] = self.avg_sum[lruvec, i] = 0

    # ------------------------------------------------------------------------------ words

    def gen_of(self, pfn):
        """A page's generation slot, -1 if it is in none. Linux: folio_lru_gen()."""
        if self.frames.page[pfn].flags & (PG_UNEVICTABLE | PG_MLOCKED):
            return -1
        return cython.cast(cython.int, self.frames.page[pfn].mlock_count & LRU_GEN_MASK) - 1

    def refs_of(self, pfn):
        """Uses through descriptors beyond the first. Linux: folio_lru_refs()."""
        return (cython.cast(cython.int, self.frames.page[pfn].mlock_count & LRU_REFS_MASK) >> LRU_REFS_SHIFT) + (
            1 if self.frames.page[pfn].flags & PG_WORKINGSET else 0
        )

    def tier_of(self, refs):
        """The tier of so many uses: 0, 1, 2, 3 for 0, 1, 2-3, 4. Linux: lru_tier_from_refs()."""
        if refs < 2:
            return refs
        return 2 if refs < 4 else 3

    def is_active(self, lruvec, gen):
        """Whether a generation counts as active: the two youngest. Linux: lru_gen_is_active()."""
        return gen == self.seq[lruvec, _MAX_SEQ] & 3 or gen == self.seq[lruvec, _MAX_SEQ] - 1 & 3

    def head(self, lruvec, gen, kind, zid):
        """The list of a generation, kind and zone."""
        return self.page_heads + lruvec * _SLOTS + (gen * 2 + kind) * MAX_NR_ZONES + zid

    def update_size(self, lruvec, zone, kind, old, new, nr):
        """Pages join (old -1), leave (new -1) or change generations. Linux: lru_gen_update_size()."""
        zid: cython.int = self.buddy.zone[zone].zid
        lru: cython.int = 2 * kind
        if old >= 0:
            self.size[lruvec, (old * 2 + kind) * MAX_NR_ZONES + zid] -= nr
        if new >= 0:
            self.size[lruvec, (new * 2 + kind) * MAX_NR_ZONES + zid] += nr
        if old < 0:
            self.memcg.update_lru_size(lruvec, zone, lru + (1 if self.is_active(lruvec, new) else 0), nr)
        elif new < 0:
            self.memcg.update_lru_size(lruvec, zone, lru + (1 if self.is_active(lruvec, old) else 0), -nr)
        elif not self.is_active(lruvec, old) and self.is_active(lruvec, new):
            self.memcg.update_lru_size(lruvec, zone, lru, -nr)
            self.memcg.update_lru_size(lruvec, zone, lru + 1, nr)

    # ------------------------------------------------------------------------------ joining and leaving

    def seq_for(self, lruvec, flags, reclaiming):
        """The generation a page of these flags joins: hot, waiting for the disk, or cold."""
        kind: cython.int = 0 if flags & PG_SWAPBACKED else 1
        youngest: cython.long = self.seq[lruvec, _MAX_SEQ]
        oldest: cython.long = self.seq[lruvec, _MIN_SEQ + kind]
        if flags & PG_ACTIVE:
            return youngest
        if (kind == 0 and not flags & PG_SWAPCACHE) or (
            flags & PG_RECLAIM and flags & (PG_DIRTY | PG_WRITEBACK)
        ):
            return youngest - 1
        if reclaiming or oldest + MIN_NR_GENS >= youngest:
            return oldest
        return oldest + 1

    def add_folio(self, lruvec, pfn, reclaiming):
        """Put a page that is on no list into a generation. Linux: lru_gen_add_folio()."""
        flags: cython.uint = self.frames.page[pfn].flags
        zone: cython.long = self.frames.zone_of(pfn)
        kind: cython.int = 0 if flags & PG_SWAPBACKED else 1
        gen: cython.int = self.seq_for(lruvec, flags, reclaiming) & 3
        head: cython.long = self.head(lruvec, gen, kind, self.buddy.zone[zone].zid)
        if flags & PG_ACTIVE:
            self.frames.page[pfn].flags = flags & ~cython.cast(cython.uint, PG_ACTIVE | PG_REFERENCED)
            self.frames.page[pfn].mlock_count = cython.cast(cython.ushort, gen + 1)
        else:
            self.frames.page[pfn].mlock_count = cython.cast(
                cython.ushort, self.frames.page[pfn].mlock_count & LRU_REFS_MASK | gen + 1
            )
        self.update_size(lruvec, zone, kind, -1, gen, self.frames.nr_pages(pfn))
        if reclaiming:
            self.frames.page_list_add_tail(head, pfn)
        else:
            self.frames.page_list_add(head, pfn)

    def del_folio(self, lruvec, pfn, reclaiming):
        """Take a page out of its generation; one of the active ones leaves it marked so. Linux: lru_gen_del_folio()."""
        gen: cython.int = self.gen_of(pfn)
        if not reclaiming and self.is_active(lruvec, gen):
            self.frames.page[pfn].flags |= PG_ACTIVE
        self.frames.page[pfn].mlock_count &= LRU_REFS_MASK
        self.update_size(
            lruvec,
            self.frames.zone_of(pfn),
            0 if self.frames.page[pfn].flags & PG_SWAPBACKED else 1,
            gen,
            -1,
            self.frames.nr_pages(pfn),
        )
        self.frames.page_list_del(pfn)

    # ------------------------------------------------------------------------------ use

    def inc_refs(self, pfn):
        """A page was used through a descriptor. Linux: mm/swap.c, folio_inc_refs()."""
        flags: cython.uint = self.frames.page[pfn].flags
        if flags & (PG_UNEVICTABLE | PG_MLOCKED):
            return
        if not flags & PG_REFERENCED:
            self.frames.page[pfn].flags |= PG_REFERENCED
        elif not flags & PG_WORKINGSET:
            self.frames.page[pfn].flags |= PG_WORKINGSET
        elif self.frames.page[pfn].mlock_count & LRU_REFS_MASK != LRU_REFS_MASK:
            self.frames.page[pfn].mlock_count += 1 << LRU_REFS_SHIFT

    def clear_refs(self, pfn):
        """Forget how often a page was used. Linux: folio_clear_lru_refs()."""
        self.frames.page[pfn].flags &= ~cython.cast(cython.uint, PG_REFERENCED | PG_WORKINGSET)
        if not self.frames.page[pfn].flags & (PG_UNEVICTABLE | PG_MLOCKED):
            self.frames.page[pfn].mlock_count &= LRU_GEN_MASK

    def update_gen(self, lruvec, pfn, gen):
        """A page was found used in a page table: it is of this generation now. Linux: folio_update_gen().

        A page that is in none (isolated, or in a batch) is marked referenced instead.
        """
        old: cython.int = self.gen_of(pfn)
        if old < 0:
            if not self.frames.page[pfn].flags & (PG_UNEVICTABLE | PG_MLOCKED):
                self.frames.page[pfn].flags |= PG_REFERENCED
            return
        self.frames.page[pfn].flags &= ~cython.cast(cython.uint, PG_REFERENCED | PG_WORKINGSET)
        self.frames.page[pfn].mlock_count = cython.cast(cython.ushort, gen + 1)
        if old != gen:
            self.update_size(
                lruvec,
                self.frames.zone_of(pfn),
                0 if self.frames.page[pfn].flags & PG_SWAPBACKED else 1,
                old,
                gen,
                self.frames.nr_pages(pfn),
            )

    def inc_gen(self, lruvec, pfn, kind, reclaiming):
        """A page of the oldest generation goes to the next, unless it was promoted already. Linux: folio_inc_gen()."""
        oldest: cython.int = self.seq[lruvec, _MIN_SEQ + kind] & 3
        gen: cython.int = self.gen_of(pfn)
        if gen != oldest:
            return gen
        gen = oldest + 1 & 3
        self.frames.page[pfn].flags &= ~cython.cast(cython.uint, PG_REFERENCED | PG_WORKINGSET)
        if reclaiming:
            self.frames.page[pfn].flags |= PG_RECLAIM
        self.frames.page[pfn].mlock_count = cython.cast(cython.ushort, gen + 1)
        self.update_size(lruvec, self.frames.zone_of(pfn), kind, oldest, gen, self.frames.nr_pages(pfn))
        return gen

    # ------------------------------------------------------------------------------ eviction

    def sort_folio(self, lruvec, pfn, kind, zid, tier_idx, reclaim_idx):
        """Whether the page at the end of the oldest list stays; it has moved then. Linux: sort_folio()."""
        oldest: cython.int = self.seq[lruvec, _MIN_SEQ + kind] & 3
        gen: cython.int = self.gen_of(pfn)
        refs: cython.int = self.refs_of(pfn)
        tier: cython.int = self.tier_of(refs)
        if gen < 0:
            return False
        if gen != oldest:
            self.frames.page_list_del(pfn)
            self.frames.page_list_add(self.head(lruvec, gen, kind, zid), pfn)
            return True
        if tier > tier_idx or refs == 1 << LRU_REFS_WIDTH:
            gen = self.inc_gen(lruvec, pfn, kind, False)
            self.frames.page_list_del(pfn)
            self.frames.page_list_add_tail(self.head(lruvec, gen, kind, zid), pfn)
            self.protect[lruvec, kind * _TIERS + tier] += self.frames.nr_pages(pfn)
            return True
        if zid > reclaim_idx:
            gen = self.inc_gen(lruvec, pfn, kind, False)
            self.frames.page_list_del(pfn)
            self.frames.page_list_add_tail(self.head(lruvec, gen, kind, zid), pfn)
            return True
        return False

    def isolate_folio(self, lruvec, pfn, may_io):
        """Take a page off its list to evict it; False if it may not go without I/O. Linux: isolate_folio()."""
        flags: cython.uint = self.frames.page[pfn].flags
        if not may_io and (
            (flags & PG_DIRTY and flags & PG_SWAPBACKED) or (flags & PG_ANON and not flags & PG_SWAPCACHE)
        ):
            return False
        if not flags & PG_REFERENCED:
            self.clear_refs(pfn)
        self.frames.page[pfn].flags &= ~cython.cast(cython.uint, PG_REFERENCED | PG_LRU)
        self.del_folio(lruvec, pfn, True)
        return True

    def scan_folios(self, lruvec, kind, tier, reclaim_idx, may_io, item, cgroup, out):
        """Take up to 64 pages of the oldest generation to ``out`` (int64), coldest first; the fast path of eviction.

        ``isolated`` is how many pages they are, ``nr_folios`` how many folios; counted as scanned under ``item``
        (PGSCAN_KSWAPD and so on), of the machine unless it is for a ``cgroup``. Returns how many were looked at, 0 if
        there was nothing to get. Linux: scan_folios().
        """
        remaining: cython.long = MAX_LRU_BATCH
        scanned: cython.long = 0
        sorted_: cython.long = 0
        skipped: cython.long
        taken: cython.long = 0
        gen: cython.int
        zid: cython.int
        i: cython.int
        head: cython.long
        pfn: cython.long
        nr: cython.long
        folios: cython.long = 0
        memcg: cython.long
        self.isolated = self.nr_folios = 0
        if self.seq[lruvec, _MAX_SEQ] - self.seq[lruvec, _MIN_SEQ + kind] + 1 == MIN_NR_GENS:
            return 0
        gen = self.seq[lruvec, _MIN_SEQ + kind] & 3
        for i in range(MAX_NR_ZONES, 0, -1):
            zid = (reclaim_idx + i) % MAX_NR_ZONES
            head = self.head(lruvec, gen, kind, zid)
            skipped = 0
            while self.frames.page[head].prv != head:
                pfn = self.frames.page[head].prv
                nr = self.frames.nr_pages(pfn)
                scanned += nr
                if self.sort_folio(lruvec, pfn, kind, zid, tier, reclaim_idx):
                    sorted_ += nr
                elif self.isolate_folio(lruvec, pfn, may_io):
                    out[folios] = pfn
                    folios += 1
                    taken += nr
                else:
                    self.frames.page_list_del(pfn)
                    self.frames.page_list_add(head, pfn)
                    skipped += nr
                remaining -= 1
                if remaining == 0 or max(taken, skipped) >= MIN_LRU_BATCH:
                    break
            self.coming = self.frames.page[head].prv
            if skipped:
                self.event[PGSKIP_DMA + zid] += skipped
            if remaining == 0 or taken >= MIN_LRU_BATCH:
                break
        memcg = self.memcg.memcg_of(lruvec)
        if not cgroup:
            self.event[item] += taken
            self.event[PGREFILL] += sorted_
        self.memcg.count_memcg_events(memcg, item, taken)
        self.memcg.count_memcg_events(memcg, PGREFILL, sorted_)
        self.event[PGSCAN_ANON + kind] += taken
        self.isolated = taken
        self.nr_folios = folios
        return scanned if taken or remaining == 0 else 0

    # ------------------------------------------------------------------------------ generations

    def gen_empty(self, lruvec, kind, seq):
        """Whether no page is on the lists of a generation."""
        zid: cython.int
        head: cython.long
        for zid in range(MAX_NR_ZONES):
            head = self.head(lruvec, seq & 3, kind, zid)
            if self.frames.page[head].nxt != head:
                return False
        return True

    def move_oldest(self, lruvec: cython.long, kind: cython.int, limit: cython.long):
        """Move what is left of the oldest generation into the next; False after ``limit``. Linux: inc_min_seq()."""
        oldest: cython.int = self.seq[lruvec, _MIN_SEQ + kind] & 3
        gen: cython.int
        zid: cython.int
        head: cython.long
        pfn: cython.long
        for zid in range(MAX_NR_ZONES):
            head = self.head(lruvec, oldest, kind, zid)
            while self.frames.page[head].prv != head:
                pfn = self.frames.page[head].prv
                gen = self.inc_gen(lruvec, pfn, kind, False)
                self.frames.page_list_del(pfn)
                self.frames.page_list_add_tail(self.head(lruvec, gen, kind, zid), pfn)
                limit -= 1
                if limit == 0:
                    return False
        return True

    def shift_active(self, lruvec: cython.long, zones: cython.int[::1]):
        """The youngest generation's number is about to grow: the second youngest turns inactive, what is left of the
        slot of the next (anonymous memory, when it cannot be swapped) active. ``zones``: the zone of each type.

        Linux: the middle of inc_max_seq().
        """
        before: cython.int = self.seq[lruvec, _MAX_SEQ] - 1 & 3
        after: cython.int = self.seq[lruvec, _MAX_SEQ] + 1 & 3
        kind: cython.int
        zid: cython.int
        delta: cython.long
        for kind in range(2):
            for zid in range(MAX_NR_ZONES):
                delta = (
                    self.size[lruvec, (before * 2 + kind) * MAX_NR_ZONES + zid]
                    - self.size[lruvec, (after * 2 + kind) * MAX_NR_ZONES + zid]
                )
                if delta:
                    self.memcg.update_lru_size(lruvec, zones[zid], 2 * kind, delta)
                    self.memcg.update_lru_size(lruvec, zones[zid], 2 * kind + 1, -delta)
        self.seq[lruvec, _MAX_SEQ] += 1

    # ------------------------------------------------------------------------------ evicted and back

    def eviction_token(self, lruvec, pfn):
        """What a shadow entry keeps of a page that is evicted now, and count it. Linux: lru_gen_eviction()."""
        kind: cython.int = 0 if self.frames.page[pfn].flags & PG_SWAPBACKED else 1
        refs: cython.int = self.refs_of(pfn)
        self.evict[lruvec, kind * _TIERS + self.tier_of(refs)] += self.frames.nr_pages(pfn)
        return self.seq[lruvec, _MIN_SEQ + kind] << LRU_REFS_WIDTH | (refs - 1 if refs > 0 else 0)

    def test_recent(self, lruvec, kind, token, mask):
        """Whether a token is of the generation that is evicted now. Linux: lru_gen_test_recent()."""
        return token >> LRU_REFS_WIDTH == self.seq[lruvec, _MIN_SEQ + kind] & (mask >> LRU_REFS_WIDTH)

    def refault(self, lruvec, pfn, token, mask, workingset, in_fault):
        """A page that was evicted with this token is back. Linux: lru_gen_refault()."""
        kind: cython.int = 0 if self.frames.page[pfn].flags & PG_SWAPBACKED else 1
        nr: cython.long = self.frames.nr_pages(pfn)
        refs: cython.int
        self.memcg.mod_folio_state(pfn, WORKINGSET_REFAULT_ANON + kind, nr)
        if not self.test_recent(lruvec, kind, token, mask):
            return
        refs = cython.cast(cython.int, token & ((1 << LRU_REFS_WIDTH) - 1)) + (1 if workingset else 0)
        self.refault_count[lruvec, kind * _TIERS + self.tier_of(refs)] += nr
        if in_fault or not self.fault_activates:
            self.memcg.mod_folio_state(pfn, WORKINGSET_ACTIVATE_ANON + kind, nr)
        if self.fault_activates and workingset:
            self.memcg.mod_folio_state(pfn, WORKINGSET_RESTORE_ANON + kind, nr)
        if in_fault or refs >= (1 << LRU_REFS_WIDTH) - 1:
            self.frames.page[pfn].mlock_count |= LRU_REFS_MASK
            self.frames.page[pfn].flags |= PG_WORKINGSET
            if not self.fault_activates:
                self.memcg.mod_folio_state(pfn, WORKINGSET_RESTORE_ANON + kind, nr)

    # ------------------------------------------------------------------------------ checks

    def pages(self, lruvec, gen, kind, zid):
        """The pages on a list from its front: for checks and debugging."""
        return self.frames.walk_pages(self.head(lruvec, gen, kind, zid))
