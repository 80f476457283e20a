"""Which generation is evicted and when a new one begins: the policy of the multi-generational LRU.

Eviction takes from the oldest generation of anonymous memory or of files, whichever refaults less (a controller with
memory compares them, and the tiers of each); what was used since moves on. When fewer than three generations would be
left, or too much is young, the aging walks the page tables and begins a new one. The lists and walks are in
the fast path (fastpath/lru_gen.py, fastpath/lru_gen_walk.py).

Linux: mm/vmscan.c, from "shorthand helpers" of CONFIG_LRU_GEN on; Documentation/mm/multigen_lru.rst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from mmfs.fastpath.lru_gen import LruGen
from mmfs.fastpath.lru_gen_ctrl import LruGenCtrl
from mmfs.fastpath.lru_gen_walk import LruGenWalk
from mmfs.mm.folio import nr_pages
from mmfs.mm.lru_gen_memcg import MemcgLru, MemcgLruOp
from mmfs.mm.mman import VM_HUGETLB, VM_LOCKED, VM_RAND_READ, VM_SEQ_READ, VM_SPECIAL
from mmfs.mm_types import (
    LRU_GEN_MASK,
    MAX_NR_GENS,
    MAX_NR_TIERS,
    MAX_NR_ZONES,
    MIN_NR_GENS,
    PG_LRU,
    PG_SWAPBACKED,
)
from mmfs.profile import config, since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct

ANON, FILE = 0, 1
MAX_SWAPPINESS = 200
SWAPPINESS_ANON_ONLY = 201
ANON_ONLY = since(6, 18)
"""Kernels that can be asked to reclaim anonymous memory only."""
LRU_GEN_CORE, LRU_GEN_MM_WALK, LRU_GEN_NONLEAF_YOUNG = 1, 2, 4
NONLEAF_YOUNG = config("X86")
"""Kernels whose upper page tables have accessed bits. Linux: arch_has_hw_nonleaf_pmd_young()."""
ALL_CAPS = LRU_GEN_CORE | LRU_GEN_MM_WALK | LRU_GEN_NONLEAF_YOUNG


class LruGenLruvec:
    """The generations of one lruvec. Linux: struct lru_gen_folio, struct lru_gen_mm_state."""

    def __init__(self, owner: LruGenState, number: int) -> None:
        self.owner = owner
        self.number = number
        self.nid = number % owner.lists.memcg.nr_nodes
        self.memcg = number // owner.lists.memcg.nr_nodes
        lists = owner.lists
        self._seq: NDArray[np.int64] = lists.seqs[number]
        self._sizes: NDArray[np.int64] = lists.sizes[number].reshape(MAX_NR_GENS, 2, MAX_NR_ZONES)
        self._evicted = lists.evicted[number].reshape(2, MAX_NR_TIERS)
        self._refaulted = lists.refaulted[number].reshape(2, MAX_NR_TIERS)
        self._protected = lists.protected[number].reshape(2, MAX_NR_TIERS)
        self.avg_refaulted = lists.avg_refaulted[number].reshape(2, MAX_NR_TIERS)
        self.avg_total = lists.avg_total[number].reshape(2, MAX_NR_TIERS)
        self.memcg_gen = self.memcg_bin = 0
        self.memcg_seg = MemcgLruOp.NOP
        self.birth = [owner.kernel.clock.jiffies] * MAX_NR_GENS
        self.walk_seq = MIN_NR_GENS
        self._walked = 0

    # -- numbers ------------------------------------------------------------------------------------------

    @property
    def max_seq(self) -> int:
        """The number of the youngest generation."""
        return int(self._seq[0])

    def min_seq(self, kind: int) -> int:
        """The number of the oldest generation of a kind."""
        return int(self._seq[1 + kind])

    def nr_gens(self, kind: int) -> int:
        """How many generations a kind has. Linux: get_nr_gens()."""
        return self.max_seq - self.min_seq(kind) + 1

    def size(self, kind: int, seq: int) -> int:
        """Pages of a generation."""
        return int(np.maximum(self._sizes[seq % MAX_NR_GENS, kind], 0).sum())

    def tier_counts(self, kind: int, tier: int) -> tuple[int, int, int]:
        """Of the oldest generation: pages refaulted, evicted and protected."""
        return int(self._refaulted[kind, tier]), int(self._evicted[kind, tier]), int(self._protected[kind, tier])

    # -- old and new generations ----------------------------------------------------------------------------

    def _inc_min_seq(self, kind: int, can_swap: bool) -> None:
        """What is left of the oldest generation joins the next. Linux: inc_min_seq()."""
        if kind == FILE or can_swap:
            while not self.owner.lists.move_oldest(self.number, kind, 1 << 12):
                pass
        self.owner.ctrl.reset_ctrl_pos(self.number, kind)
        self._seq[1 + kind] += 1

    def try_to_inc_min_seq(self, can_swap: bool) -> bool:
        """Drop oldest generations that are empty; whether there were any. Linux: try_to_inc_min_seq()."""
        return bool(self.owner.ctrl.try_to_inc_min_seq(self.number, can_swap))

    def _inc_max_seq(self, can_swap: bool) -> None:
        """A new generation begins. Linux: inc_max_seq()."""
        for kind in (FILE, ANON):
            if self.nr_gens(kind) == MAX_NR_GENS:
                self._inc_min_seq(kind, can_swap)
        self.birth[(self.max_seq + 1) % MAX_NR_GENS] = self.owner.kernel.clock.jiffies
        self.owner.lists.shift_active(self.number, self.owner.zones[self.nid])

    def try_to_inc_max_seq(self, can_swap: bool, force_scan: bool = False) -> int:
        """Begin a new generation; how many entries the walk looked at. Linux: try_to_inc_max_seq()."""
        seq = self.max_seq
        looked = 0
        if self.owner.caps & LRU_GEN_MM_WALK:
            looked = self._walk_mms(seq, can_swap, force_scan)
        self.walk_seq = seq
        self._inc_max_seq(can_swap)
        return looked

    def _walk_mms(self, seq: int, can_swap: bool, force_scan: bool) -> int:
        """Walk the address spaces that ran since the last walk, and all new ones. Linux: iterate_mm_list()."""
        walk, kernel = self.owner.walk, self.owner.kernel
        looked, first, newest = 0, True, self._walked
        walk.stats[self.number] = 0
        for mm in list(kernel.mms.values()):
            if kernel.mmu.mms[mm.row]["memcg"] != self.memcg:
                continue
            force_scan = force_scan or mm.serial > self._walked
            newest = max(newest, mm.serial)
            record = kernel.mmu.mms[mm.row]
            bit = np.uint32(1 << self.nid % 32)
            if not force_scan and not record["lru_gen_bitmap"] & bit:
                continue
            record["lru_gen_bitmap"] &= ~bit
            if first:
                walk.reset_filter(self.number, seq + 1)
                first = False
            ranges = self.owner.ranges(mm, can_swap)
            if len(ranges):
                looked += walk.walk_mm(mm.row, self.number, ranges, seq, can_swap, force_scan)
        self._walked = newest
        return looked

    def total_size(self, can_swap: bool) -> int:
        """Pages of all generations. Linux: lruvec_is_sizable()."""
        return sum(
            self.size(kind, seq)
            for kind in range(ANON if can_swap else FILE, 2)
            for seq in range(self.min_seq(kind), self.max_seq + 1)
        )


    # -- checks -------------------------------------------------------------------------------------------

    def check(self) -> list[int]:
        """Lists against sizes and page records; how many pages count as on each of the five lists.

        Raises AssertionError. Pages may stand on the list of an older generation than their own.
        """
        lists, frames = self.owner.lists, self.owner.kernel.frames
        found = np.zeros((MAX_NR_GENS, 2, MAX_NR_ZONES), np.int64)
        for gen in range(MAX_NR_GENS):
            for zid in range(MAX_NR_ZONES):
                for kind in (ANON, FILE):
                    pfns = np.array(lists.pages(self.number, gen, kind, zid), np.int64)
                    pages = frames.pages[pfns]
                    own = (pages["mlock_count"] & LRU_GEN_MASK).astype(np.int64) - 1
                    good = (pages["flags"] & PG_LRU != 0) & (own >= 0)
                    good &= (pages["flags"] & PG_SWAPBACKED != 0) == (kind == ANON)
                    if not good.all():
                        raise AssertionError(f"{int(pfns[~good][0]):#x} does not belong into generation {gen}")
                    found[:, kind, zid] += np.bincount(own, nr_pages(frames, pfns), MAX_NR_GENS).astype(np.int64)
        if not (found == self._sizes).all():
            raise AssertionError(f"lruvec {self.number}: generations hold {found.tolist()}, not {self._sizes.tolist()}")
        sums = found.sum(axis=2)
        active = [self.max_seq % MAX_NR_GENS, (self.max_seq - 1) % MAX_NR_GENS]
        young, total = sums[active].sum(axis=0), sums.sum(axis=0)
        return [int(total[0] - young[0]), int(young[0]), int(total[1] - young[1]), int(young[1]), 0]


FAULT_ACTIVATES: Final = since(7, 0)
"""Kernels that count pages that come back as activated only if a fault brings them."""


class LruGenState:
    """The multi-generational LRU of a machine: lists, walks, which parts are on, min_ttl_ms in jiffies."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.lists: LruGen = kernel.lru.gen
        self.lists.fault_activates = FAULT_ACTIVATES(kernel)
        self.ctrl = LruGenCtrl(self.lists)
        self.walk: LruGenWalk = kernel.mmu.lru_gen_walk
        self.zones = [
            np.array([zone.index for zone in pgdat.node_zones], np.int32) for pgdat in kernel.node_data
        ]
        self.supported = ALL_CAPS if NONLEAF_YOUNG(kernel) else ALL_CAPS & ~LRU_GEN_NONLEAF_YOUNG
        self.caps = self.supported
        self.walk.clear_pmd_young = bool(self.caps & LRU_GEN_NONLEAF_YOUNG)
        self.min_ttl_jiffies = 0
        self._serial = 0
        self.memcg_lru = [MemcgLru(nid) for nid in range(self.lists.memcg.nr_nodes)]
        self.lruvecs: dict[int, LruGenLruvec] = {}
        """By their number."""
        self.online_memcg(0)
        if not kernel.profile.config("LRU_GEN_ENABLED"):
            self.set_caps(0)

    def _numbers(self, memcg: int) -> range:
        nr_nodes = self.lists.memcg.nr_nodes
        return range(memcg * nr_nodes, (memcg + 1) * nr_nodes)

    def online_memcg(self, memcg: int) -> None:
        """A memory cgroup begins. Linux: lru_gen_init_lruvec(), lru_gen_online_memcg()."""
        nr_bin = self.memcg_lru[0].random_bin()
        for nid, number in enumerate(self._numbers(memcg)):
            self.lruvecs[number] = LruGenLruvec(self, number)
            self.memcg_lru[nid].add(self.lruvecs[number], nr_bin)

    def offline_memcg(self, memcg: int) -> None:
        """A memory cgroup is dying: it is visited first. Linux: lru_gen_offline_memcg()."""
        for nid, number in enumerate(self._numbers(memcg)):
            self.memcg_lru[nid].rotate(self.lruvecs[number], MemcgLruOp.OLD)

    def release_memcg(self, memcg: int) -> None:
        """A memory cgroup is no more. Linux: lru_gen_release_memcg()."""
        for nid, number in enumerate(self._numbers(memcg)):
            self.memcg_lru[nid].release(self.lruvecs.pop(number))

    def next_serial(self) -> int:
        """The number of a new address space."""
        self._serial += 1
        return self._serial

    def set_caps(self, caps: int) -> None:
        """Switch parts on and off; the first decides which lists rule. Linux: lru_gen_change_state()."""
        lru = self.kernel.lru
        if bool(caps & LRU_GEN_CORE) != lru.enabled:
            nr_nodes = self.lists.memcg.nr_nodes
            rows = np.array([number // nr_nodes for number in self.lruvecs if number % nr_nodes == 0], np.int64)
            if caps & LRU_GEN_CORE:
                lru.fill_generations(rows)
            else:
                lru.drain_generations(rows)
        self.caps = caps & self.supported
        self.walk.clear_pmd_young = bool(self.caps & LRU_GEN_NONLEAF_YOUNG)

    def ranges(self, mm: MmStruct, can_swap: bool) -> NDArray[np.int64]:
        """The address ranges [n, 2] that the aging looks at. Linux: should_skip_vma()."""
        return np.array(
            [(vma.vm_start, vma.vm_end) for vma in mm.mmap if _worth_walking(vma, can_swap)], np.int64
        ).reshape(-1, 2)


def _worth_walking(vma: VmAreaStruct, can_swap: bool) -> bool:
    if not vma.is_accessible() or vma.vm_flags & (VM_SEQ_READ | VM_RAND_READ | VM_LOCKED | VM_HUGETLB | VM_SPECIAL):
        return False
    if vma.vm_file is None:
        return can_swap
    return can_swap or not vma.vm_file.inode.shmem
