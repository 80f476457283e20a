"""Transparent huge pages: who gets some, how hard a fault tries, what is done when memory is short.

An anonymous mapping that spans 2 MB on its boundary may be backed there by one page of 2 MB. The first fault brings it
(fastpath/huge_memory.py) as /sys/kernel/mm/transparent_hugepage allows: `enabled` for all, or for those that have asked
by madvise(); `defrag` says whether the fault may reclaim and compact for it, have kswapd do so, or does without. Where
part of a huge page has been unmapped, the rest of it is lost until it is split, which reclaim does through a shrinker.

Sizes between, from 16 KB on (fastpath/anon_folio.py), are allowed by `hugepages-SIZEkB/enabled`, each for itself.

Linux: mm/huge_memory.c.

Simplified: shared memory has only pages of 2 MB; the sizes between have their switches, and no pages yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from mmfs.mm.cmdline import memparse
from mmfs.mm.debug import LOG_WARNING
from mmfs.mm.mman import VM_HUGEPAGE, VM_NOHUGEPAGE
from mmfs.mm.rows import get_mm_flags, set_mm_flags
from mmfs.mm.shmem_huge import SHMEM_ORDERS
from mmfs.mm.shrinker import Shrinker
from mmfs.mm_types import (
    ALLOC_KSWAPD,
    ALLOC_WMARK_LOW,
    BLK_SPLIT,
    GFP_COMP_BIT,
    GFP_DIRECT_RECLAIM_BIT,
    GFP_HIGHUSER_MOVABLE,
    GFP_KSWAPD_RECLAIM_BIT,
    GFP_NOMEMALLOC_BIT,
    GFP_NORETRY_BIT,
    GFP_NOWARN_BIT,
    GFP_RECLAIM,
    GFP_THISNODE_BIT,
    HPAGE_PMD_NR,
    HPAGE_PMD_ORDER,
    MMF_DISABLE_THP,
    PAGE_SHIFT,
    PAGEBLOCK_ORDER,
    PG_ANON,
    PG_TAIL,
)
from mmfs.profile import since

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.fastpath.frames import Frames
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct

GFP_TRANSHUGE_LIGHT: Final = (
    GFP_HIGHUSER_MOVABLE | GFP_COMP_BIT | GFP_NOMEMALLOC_BIT | GFP_NOWARN_BIT
) & ~GFP_RECLAIM
GFP_TRANSHUGE: Final = GFP_TRANSHUGE_LIGHT | GFP_DIRECT_RECLAIM_BIT
ENABLED: Final = ("always", "madvise", "never")
DEFRAG: Final = ("always", "defer", "defer+madvise", "madvise", "never")
ANON_MODES: Final = ("always", "inherit", "madvise", "never")
ANON_ORDERS: Final = range(2, HPAGE_PMD_ORDER + 1)
MULTI_SIZE: Final = since(6, 12)
"""Whether there are sizes below 2 MB."""
SMALLEST_MACHINE: Final = 512 << 20 - PAGE_SHIFT
"""Machines with fewer pages begin with everything off."""


class TransparentHugepage:
    """The switches, and what follows from them for the fast path.

    Linux: transparent_hugepage_flags, huge_anon_orders_always and its kin, shmem_huge.
    """

    def __init__(self, kernel: Kernel, ram_pages: int) -> None:
        """``ram_pages``: how many the machine has when huge pages are set up. Linux: hugepage_init()."""
        self.kernel = kernel
        self.fast = kernel.mmu.huge
        self.enabled = "always" if kernel.profile.config("TRANSPARENT_HUGEPAGE_ALWAYS") else "madvise"
        self.defrag = "madvise"
        self.khugepaged_defrag = self.use_zero_page = self.shrink_underused = True
        self.anon_orders = self._anon_orders_at_boot()
        for word in kernel.cmdline.split():
            if word.startswith("transparent_hugepage=") and word.partition("=")[2] in ENABLED:
                self.enabled = word.partition("=")[2]
        if ram_pages < SMALLEST_MACHINE:
            self.enabled = self.defrag = "never"
            self.khugepaged_defrag = self.use_zero_page = False
        self.apply()

    def apply(self) -> None:
        """A switch was set: tell the fast path."""
        mode = self.anon_orders[HPAGE_PMD_ORDER]
        if mode == "inherit":
            mode = self.enabled
        fast = self.fast
        fast.always, fast.madvise = mode == "always", mode == "madvise"
        self._apply_sizes()
        fast.use_zero_page = self.use_zero_page
        for madvised in (False, True):
            gfp = self.gfp_mask(madvised)
            flags = ALLOC_WMARK_LOW | (ALLOC_KSWAPD if gfp & GFP_KSWAPD_RECLAIM_BIT else 0)
            if madvised:
                fast.flags_madvised, fast.slow_madvised = flags, bool(gfp & GFP_RECLAIM)
                fast.reclaims_madvised = bool(gfp & GFP_DIRECT_RECLAIM_BIT)
            else:
                fast.flags, fast.slow = flags, bool(gfp & GFP_RECLAIM)
                fast.reclaims = bool(gfp & GFP_DIRECT_RECLAIM_BIT)

    def _anon_orders_at_boot(self) -> dict[int, str]:
        """For whom each size is enabled, as the command line says. Linux: hugepage_init_sysfs(), setup_thp_anon()."""
        words = [word.partition("=")[2] for word in self.kernel.cmdline.split() if word.startswith("thp_anon=")]
        orders, configured = dict.fromkeys(ANON_ORDERS, "never"), False
        for text in words if MULTI_SIZE(self.kernel) else ():
            try:
                orders |= parse_thp_anon(text)
                configured = True
            except ValueError:
                message = f"huge_memory: thp_anon={text}: error parsing string, ignoring setting"
                self.kernel.printk.emit(message, LOG_WARNING)
        return orders if configured else orders | {HPAGE_PMD_ORDER: "inherit"}

    def _apply_sizes(self) -> None:
        """Tell the fast path which sizes below 2 MB are enabled."""
        masks = {"always": 0, "madvise": 0}
        for order, mode in self.anon_orders.items():
            mode = self.enabled if mode == "inherit" else mode
            if order < HPAGE_PMD_ORDER and mode in masks:
                masks[mode] |= 1 << order
        sizes = self.kernel.mmu.anon.anon_folios
        sizes.always, sizes.madvise = masks["always"], masks["madvise"]
        sizes.enabled = any(masks.values())

    def pmd_enabled(self) -> bool:
        """Whether any memory may be backed by pages of 2 MB. Linux: mm/khugepaged.c, hugepage_pmd_enabled()."""
        mode = self.anon_orders[HPAGE_PMD_ORDER]
        return mode in ("always", "madvise") or (mode == "inherit" and self.enabled != "never")

    def set_enabled(self, mode: str) -> None:
        """/sys/kernel/mm/transparent_hugepage/enabled. Linux: enabled_store(), start_stop_khugepaged()."""
        self.enabled = mode
        self.start_stop()

    def set_anon_order(self, order: int, mode: str) -> None:
        """hugepages-SIZEkB/enabled. Linux: anon_enabled_store()."""
        self.anon_orders[order] = mode
        self.start_stop()

    def start_stop(self) -> None:
        """Huge pages are wanted or not from now on. Linux: mm/khugepaged.c, start_stop_khugepaged()."""
        self.apply()
        self.kernel.khugepaged.start_stop(self.pmd_enabled())
        if self.pmd_enabled():
            self.kernel.page_alloc.set_recommended_min_free_kbytes()

    def gfp_mask(self, madvised: bool) -> int:
        """How hard a fault tries. Linux: vma_thp_gfp_mask()."""
        if self.defrag == "always":
            return GFP_TRANSHUGE | (0 if madvised else GFP_NORETRY_BIT)
        if self.defrag == "defer":
            return GFP_TRANSHUGE_LIGHT | GFP_KSWAPD_RECLAIM_BIT
        if self.defrag == "defer+madvise":
            return GFP_TRANSHUGE_LIGHT | (GFP_DIRECT_RECLAIM_BIT if madvised else GFP_KSWAPD_RECLAIM_BIT)
        if self.defrag == "madvise" and madvised:
            return GFP_TRANSHUGE_LIGHT | GFP_DIRECT_RECLAIM_BIT
        return GFP_TRANSHUGE_LIGHT

    def alloc_slowly(self, vma: VmAreaStruct, addr: int, nodemask: int | None) -> None:
        """The free lists had no block of the order that a fault wants: find one, or have the fault do without.

        Or one was found and cannot be charged: make room in the memory cgroup. Linux: __alloc_pages_slowpath().
        """
        gfp, order = self.gfp_mask(bool(vma.vm_flags & VM_HUGEPAGE)), int(self.fast.wanted)
        if self.fast.handed >= 0:
            self.charge_slowly(gfp)
            return
        index = vma.vm_pgoff + (addr - vma.vm_start >> PAGE_SHIFT)
        nid = int(self.kernel.mmu.areas.policy_node(vma.row, index >> order))
        if order == HPAGE_PMD_ORDER:
            self.alloc_on(gfp, nid)
        else:
            self._hand_small(self.kernel.page_alloc.slowpath(gfp, order, nid, nodemask), order)

    def charge_slowly(self, gfp: int) -> None:
        """Charge the block that is in hand, with reclaim, for who comes back for it. Linux: mem_cgroup_charge()."""
        memcgs = self.kernel.memcgs
        row = int(memcgs.fast.failed_for)
        charged = memcgs.try_charge(row, gfp, 1 << int(self.fast.wanted))
        memcgs.fast.failed = -1
        self.fast.charged, self.fast.charged_for = 1 if charged else -1, row

    def _hand_small(self, pfn: int, order: int) -> None:
        """Hand out a block below 2 MB, unless its frames cannot be of a folio."""
        if pfn >= self.kernel.frames.mthp_pfns:
            self.kernel.page_alloc.buddy.free_pages(pfn, order)
            pfn = -1
        self.fast.handed = pfn

    def alloc_on(self, gfp: int, nid: int) -> None:
        """A pageblock on a node, or if need be on another. Linux: mm/mempolicy.c, alloc_pages_mpol()."""
        slowpath = self.kernel.page_alloc.slowpath
        pfn = slowpath(gfp | GFP_THISNODE_BIT | GFP_NORETRY_BIT, HPAGE_PMD_ORDER, nid, 1 << nid)
        if pfn < 0 and gfp & GFP_DIRECT_RECLAIM_BIT and len(self.kernel.machine.nodes) > 1:
            pfn = slowpath(gfp, HPAGE_PMD_ORDER, nid, None)
        self.fast.handed = pfn

    def put_back(self) -> None:
        """What alloc_slowly() has found, or not, is not wanted in the end."""
        self.fast.put_back()

    # -- of a mapping ---------------------------------------------------------------------------------------------

    def allowable(self, vma: VmAreaStruct) -> bool:
        """Whether a mapping may have huge pages of any size: THPeligible. Linux: thp_vma_allowable_orders()."""
        if vma.is_shmem():
            orders = [order for order in SHMEM_ORDERS if suitable(vma, order)]
            shmem_huge = self.kernel.shmem_huge
            return self._wanted(vma) and any(shmem_huge.allowable(vma, order, enforce=True) for order in orders)
        return self._possible(vma) and any(
            self._order_enabled(mode, bool(vma.vm_flags & VM_HUGEPAGE)) and suitable(vma, order)
            for order, mode in self.anon_orders.items()
        )

    def pmd_allowable(self, vma: VmAreaStruct, *, enforce: bool) -> bool:
        """Whether a mapping may have pages of 2 MB; unless ``enforce``, whatever `enabled` says."""
        if vma.is_shmem():
            allowed = self.kernel.shmem_huge.allowable(vma, HPAGE_PMD_ORDER, enforce=enforce)
            return allowed and self._wanted(vma) and suitable(vma, HPAGE_PMD_ORDER)
        mode = self.anon_orders[HPAGE_PMD_ORDER] if enforce else "always"
        return (
            self._possible(vma)
            and suitable(vma, HPAGE_PMD_ORDER)
            and self._order_enabled(mode, bool(vma.vm_flags & VM_HUGEPAGE))
        )

    def _possible(self, vma: VmAreaStruct) -> bool:
        """Whether it is anonymous memory of somebody who wants some. Linux: vma_thp_disabled(), vma_is_anonymous()."""
        return vma.vm_file is None and vma.vm_ops is None and self._wanted(vma)

    def _wanted(self, vma: VmAreaStruct) -> bool:
        """Linux: vma_thp_disabled()."""
        return not vma.vm_flags & VM_NOHUGEPAGE and not thp_disabled(vma.vm_mm)

    def _order_enabled(self, mode: str, madvised: bool) -> bool:
        if mode == "inherit":
            mode = self.enabled
        return mode == "always" or (mode == "madvise" and madvised)

    # -- when memory is short -------------------------------------------------------------------------------------

    def shrinkers(self) -> list[Shrinker]:
        """Of the huge page of zeros, and of those that are mapped only in part. Linux: thp_shrinker_init()."""
        return [
            Shrinker("thp-zero", self._count_zero, self._scan_zero),
            Shrinker("thp-deferred_split", self._count_queued, self._scan_queued),
        ]

    def _count_zero(self, nid: int) -> int:
        return HPAGE_PMD_NR if self.fast.zero_pfn >= 0 and self.fast.zero_users == 0 else 0

    def _scan_zero(self, nid: int, nr: int) -> int:
        return HPAGE_PMD_NR if self.fast.shrink_zero() else 0

    def _count_queued(self, nid: int) -> int:
        return int(self.fast.queued_counts[nid])

    def _scan_queued(self, nid: int, nr: int) -> int:
        return int(self.kernel.mmu.huge_split.split_queued(nid, nr))


def parse_thp_anon(text: str) -> dict[int, str]:
    """The modes by order of `thp_anon=SIZE[-SIZE][,SIZE...]:MODE[;...]`; ValueError. Linux: setup_thp_anon()."""
    orders: dict[int, str] = {}
    for part in text.split(";"):
        ranges, colon, mode = part.partition(":")
        if not colon or mode not in ANON_MODES:
            raise ValueError(text)
        for sizes in ranges.split(","):
            first, _, last = sizes.partition("-")
            start, end = _order_of(first), _order_of(last if "-" in sizes else first)
            if start > end:
                raise ValueError(text)
            orders |= dict.fromkeys(range(start, end + 1), mode)
    return orders


def _order_of(size: str) -> int:
    """The order of a size that anonymous memory may have; ValueError. Linux: get_order_from_str()."""
    pages = memparse(size) >> PAGE_SHIFT
    if memparse(size).bit_count() != 1 or pages.bit_length() - 1 not in ANON_ORDERS:
        raise ValueError(size)
    return pages.bit_length() - 1


def suitable(vma: VmAreaStruct, order: int) -> bool:
    """Whether a mapping spans a page of this order on its boundary. Linux: thp_vma_suitable_order()."""
    size = 1 << PAGE_SHIFT + order
    if vma.vm_file is not None and ((vma.vm_start >> PAGE_SHIFT) - vma.vm_pgoff) & (1 << order) - 1:
        return False
    return (vma.vm_start + size - 1 & -size) + size <= vma.vm_end


def states_of(frames: Frames, pfns: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Of frames in use: whether each is anonymous memory, and how many entries map it.

    Linux: PageAnon(), folio_precise_page_mapcount().
    """
    blocks = frames.blocks[pfns >> PAGEBLOCK_ORDER]
    pages, own = frames.pages[pfns], blocks["state"] == BLK_SPLIT
    counts = np.where(own, pages["mapcount"], 0).astype(np.int64)
    compound = ~own | (pages["flags"] & PG_TAIL != 0)
    counts[compound] += blocks["mapcount"][compound]
    return ~own | (pages["flags"] & PG_ANON != 0), counts


def thp_disabled(mm: MmStruct) -> bool:
    """Whether a process does without huge pages (PR_SET_THP_DISABLE). Linux: MMF_DISABLE_THP."""
    return bool(get_mm_flags(mm) & MMF_DISABLE_THP)


def set_thp_disabled(mm: MmStruct, disabled: bool) -> None:
    """Linux: kernel/sys.c, PR_SET_THP_DISABLE."""
    flags = get_mm_flags(mm)
    set_mm_flags(mm, flags | MMF_DISABLE_THP if disabled else flags & ~MMF_DISABLE_THP)
