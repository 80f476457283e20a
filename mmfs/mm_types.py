"""The words of the memory model: enums, flag bits and record layouts that every room shares.

Values are Linux's own wherever Linux shows them to user space (page-table bits, migratetypes, zone and
counter order). Bits of a ``struct page`` that Linux keeps elsewhere (page types) live above bit 24 here.

``fastpath/defs.pxd`` holds the same constants for the compiled loops; ``MMFS_PURE=1 python -m mmfs.fastpath.defs``
writes it from this module and a test keeps the two equal.

How large a page is, is decided when Linux is built, and here when this module is imported: 4 KB, or 64 KB with
MMFS_PAGE_SIZE=64K in the environment. So a process simulates kernels of one page size, and the loops are compiled once
for each.

Linux: include/linux/mmzone.h, page-flags.h, vm_event_item.h, arch/x86/include/asm/pgtable_types.h,
arch/arm64/Kconfig.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

import numpy as np

PAGE_SHIFTS: Mapping[str, int] = MappingProxyType({"4K": 12, "64K": 16})
"""The page sizes that there are, as MMFS_PAGE_SIZE names them."""


def _page_shift(name: str) -> int:
    """The shift of the page size that the environment asks for."""
    if name not in PAGE_SHIFTS:
        raise ImportError(f"MMFS_PAGE_SIZE={name}: pages have one of {', '.join(PAGE_SHIFTS)}")
    return PAGE_SHIFTS[name]


PAGE_SHIFT = _page_shift(os.environ.get("MMFS_PAGE_SIZE") or "4K")
PAGE_SIZE = 1 << PAGE_SHIFT
PAGE_MASK = ~(PAGE_SIZE - 1)
MAX_PAGE_ORDER = 10 if PAGE_SHIFT == 12 else 13
NR_PAGE_ORDERS = MAX_PAGE_ORDER + 1
# A page table fills a page with entries of eight bytes, and a huge page stands for one.
TABLE_SHIFT = PAGE_SHIFT - 3
PTRS_PER_TABLE = 1 << TABLE_SHIFT
PMD_SHIFT = PAGE_SHIFT + TABLE_SHIFT
PUD_SHIFT = PMD_SHIFT + TABLE_SHIFT
HPAGE_PMD_ORDER = PMD_SHIFT - PAGE_SHIFT
HPAGE_PMD_NR = 1 << HPAGE_PMD_ORDER
HPAGE_PMD_SIZE = 1 << PMD_SHIFT
CONT_SHIFT = 5  # arm64 with pages of 64 KB. Linux: CONT_PTE_SHIFT, CONT_PMD_SHIFT
CONT_PTES = 1 << CONT_SHIFT
PAGEBLOCK_ORDER = HPAGE_PMD_ORDER
PAGEBLOCK_NR_PAGES = 1 << PAGEBLOCK_ORDER
PAGE_ALLOC_COSTLY_ORDER = 3
PAGE_SECTORS_SHIFT = PAGE_SHIFT - 9
PAGE_SECTORS = 1 << PAGE_SECTORS_SHIFT
SWAP_CLUSTER_MAX = 32
# include/linux/mmzone.h: generations and tiers of the multi-generational LRU; both lie in mlock_count (Linux: flags).
MIN_NR_GENS = 2
MAX_NR_GENS = 4
MAX_NR_TIERS = 4
MIN_LRU_BATCH = 64
MAX_LRU_BATCH = 64 * 64
LRU_GEN_MASK = 0x7
LRU_REFS_SHIFT = 3
LRU_REFS_WIDTH = 2
LRU_REFS_MASK = 0x18
# include/linux/mmzone.h, enum lru_list.
LRU_INACTIVE_ANON = 0
LRU_ACTIVE_ANON = 1
LRU_INACTIVE_FILE = 2
LRU_ACTIVE_FILE = 3
LRU_UNEVICTABLE = 4
NR_LRU_LISTS = 5

# include/linux/mmzone.h, enum migratetype, with CONFIG_MEMORY_ISOLATION and CONFIG_CMA.
MIGRATE_UNMOVABLE = 0
MIGRATE_MOVABLE = 1
MIGRATE_RECLAIMABLE = 2
MIGRATE_PCPTYPES = 3
MIGRATE_HIGHATOMIC = 3
MIGRATE_CMA = 4
MIGRATE_ISOLATE = 5
MIGRATE_TYPES = 6

# How hard migration tries. Linux: include/linux/migrate_mode.h.
MIGRATE_ASYNC = 0
MIGRATE_SYNC_LIGHT = 1
MIGRATE_SYNC = 2

COMPACT_MAX_DEFER_SHIFT = 6  # compaction that does not help is tried every 64th time at least
MIGRATETYPE_NAMES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate")

# enum zone_type with all that a configuration can have; a kernel uses those that mm/mmzone.py says it has.
ZONE_DMA = 0
ZONE_DMA32 = 1
ZONE_NORMAL = 2
ZONE_HIGHMEM = 3
ZONE_MOVABLE = 4
ZONE_DEVICE = 5
MAX_NR_ZONES = 6
ZONE_NAMES = ("DMA", "DMA32", "Normal", "HighMem", "Movable", "Device")

# Per-CPU lists: three migratetypes for orders 0 to 3 and two lists for huge pages.
NR_LOWORDER_PCP_LISTS = MIGRATE_PCPTYPES * (PAGE_ALLOC_COSTLY_ORDER + 1)
NR_PCP_LISTS = NR_LOWORDER_PCP_LISTS + 2
PCP_BATCH_SCALE_MAX = 5

# Page flags: bit numbers as in 6.12's enum pageflags; page types (Linux: page_type) and PG_anon
# (Linux: the low bit of page->mapping) above.
PG_LOCKED = 1 << 0
PG_WRITEBACK = 1 << 1
PG_REFERENCED = 1 << 2
PG_UPTODATE = 1 << 3
PG_DIRTY = 1 << 4
PG_LRU = 1 << 5
PG_HEAD = 1 << 6
PG_ACTIVE = 1 << 8
PG_WORKINGSET = 1 << 9
PG_SWAPCACHE = 1 << 10
PG_MAPPEDTODISK = 1 << 11
PG_ANON_EXCLUSIVE = 1 << 11
PG_MEMCG_KMEM = 1 << 12  # Linux: in page->memcg_data
PG_RESERVED = 1 << 13
PG_PRIVATE = 1 << 14
PG_PARTIALLY_MAPPED = 1 << 15  # Linux: PG_reclaim of the second page
PG_RECLAIM = 1 << 16
PG_READAHEAD = PG_RECLAIM
PG_SWAPBACKED = 1 << 17
PG_UNEVICTABLE = 1 << 18
PG_MLOCKED = 1 << 19
PG_HWPOISON = 1 << 20
PG_YOUNG = 1 << 21
PG_IDLE = 1 << 22
PG_BATCHED = 1 << 23  # ours: waits in a folio batch
PG_BUDDY = 1 << 24
PG_TABLE = 1 << 25
PG_SLAB = 1 << 26
PG_ANON = 1 << 27
PG_KSM = 1 << 28
PG_PCP = 1 << 29
PG_TAIL = 1 << 30
PG_HUGETLB = 1 << 31  # of a pool's page that is smaller than a pageblock

# x86-64 page-table entry bits.
PTE_PRESENT = 1 << 0
PTE_RW = 1 << 1
PTE_USER = 1 << 2
PTE_PWT = 1 << 3
PTE_PCD = 1 << 4
PTE_ACCESSED = 1 << 5
PTE_DIRTY = 1 << 6
PTE_PSE = 1 << 7
PTE_GLOBAL = 1 << 8
PTE_SPECIAL = 1 << 9
PTE_UFFD_WP = 1 << 10
PTE_SOFT_DIRTY = 1 << 11
PTE_CONT = 1 << 52  # arm64's own: one of CONT_PTES entries in a row that map as much as one larger page
PTE_SAVED_DIRTY = 1 << 58
PTE_NX = 1 << 63
PTE_PFN_MASK = (1 << 52) - 1 & PAGE_MASK
PTE_HWPOISON = PTE_GLOBAL | PTE_SPECIAL | PTE_PCD  # ours: not present, for the memory of its page has failed

# A swap entry: not present; the area's number in the top five bits, the offset in it inverted below (l1tf).
SWP_SOFT_DIRTY = PTE_RW
SWP_EXCLUSIVE = PTE_PWT
SWP_TYPE_SHIFT = 59
SWP_OFFSET_FIRST_BIT = 9
SWP_OFFSET_MASK = (1 << SWP_TYPE_SHIFT - SWP_OFFSET_FIRST_BIT) - 1
INDEX_MASK = 0xFFFFFFFF  # a page offset as page records keep it
INDEX_SPAN = 1 << 32 + PAGE_SHIFT  # after so many bytes of an area it repeats

# Block states (records of 32 bytes, one a pageblock). VIRGIN: no record yet: a hole, or memory in an extent. HUGE: a
# huge page that is mapped by PMD entries only.
BLK_VIRGIN = 0
BLK_FREE = 1
BLK_SPLIT = 2
BLK_HUGE = 3
BLK_RESERVED = 4
BLK_TAIL = 5
BLK_HUGETLB = 6  # a huge page of a pool, or part of one

# What an access or an allocation returns to policy when the fast path stops.
FAULT_DONE = 0
FAULT_OOM = 1
FAULT_SIGSEGV = 2
FAULT_SIGBUS = 3
FAULT_NO_VMA = 4
FAULT_SLICE = 5
FAULT_HUGE = 6
FAULT_SWAP = 7
FAULT_FILE = 8
FAULT_HIGH = 9
FAULT_FALLBACK = 10
# What a walk says instead of an entry's index: there is no table, or a huge page's PMD entry.
NO_TABLE = -1
HUGE_PMD = -2

# Watermark indices (enum zone_watermarks) and allocation flags (mm/internal.h).
WMARK_MIN = 0
WMARK_LOW = 1
WMARK_HIGH = 2
WMARK_PROMO = 3
NR_WMARK = 4
ALLOC_WMARK_MIN = WMARK_MIN
ALLOC_WMARK_LOW = WMARK_LOW
ALLOC_WMARK_HIGH = WMARK_HIGH
ALLOC_NO_WATERMARKS = 0x04
ALLOC_WMARK_MASK = ALLOC_NO_WATERMARKS - 1
ALLOC_OOM = 0x08
ALLOC_NON_BLOCK = 0x10
ALLOC_MIN_RESERVE = 0x20
ALLOC_CPUSET = 0x40
ALLOC_CMA = 0x80
ALLOC_NOFRAGMENT = 0x100
ALLOC_HIGHATOMIC = 0x200
ALLOC_KSWAPD = 0x800
ALLOC_RESERVES = ALLOC_NON_BLOCK | ALLOC_MIN_RESERVE | ALLOC_HIGHATOMIC | ALLOC_OOM

# gfp bits (include/linux/gfp_types.h of 6.12), those the model decides by.
GFP_DMA_BIT = 0x01
GFP_HIGHMEM_BIT = 0x02
GFP_DMA32_BIT = 0x04
GFP_MOVABLE_BIT = 0x08
GFP_RECLAIMABLE_BIT = 0x10
GFP_HIGH_BIT = 0x20
GFP_IO_BIT = 0x40
GFP_FS_BIT = 0x80
GFP_ZERO_BIT = 0x100
GFP_DIRECT_RECLAIM_BIT = 0x400
GFP_KSWAPD_RECLAIM_BIT = 0x800
GFP_WRITE_BIT = 0x1000
GFP_NOWARN_BIT = 0x2000
GFP_RETRY_MAYFAIL_BIT = 0x4000
GFP_NOFAIL_BIT = 0x8000
GFP_NORETRY_BIT = 0x10000
GFP_MEMALLOC_BIT = 0x20000
GFP_COMP_BIT = 0x40000
GFP_NOMEMALLOC_BIT = 0x80000
GFP_HARDWALL_BIT = 0x100000
GFP_THISNODE_BIT = 0x200000
GFP_ACCOUNT_BIT = 0x400000
GFP_RECLAIM = GFP_DIRECT_RECLAIM_BIT | GFP_KSWAPD_RECLAIM_BIT
GFP_RECLAIM_MASK = (
    GFP_RECLAIM | GFP_HIGH_BIT | GFP_IO_BIT | GFP_FS_BIT | GFP_NOWARN_BIT | GFP_RETRY_MAYFAIL_BIT | GFP_NOFAIL_BIT
    | GFP_NORETRY_BIT | GFP_MEMALLOC_BIT | GFP_NOMEMALLOC_BIT
)  # fmt: skip
GFP_ATOMIC = GFP_HIGH_BIT | GFP_KSWAPD_RECLAIM_BIT
GFP_KERNEL = GFP_RECLAIM | GFP_IO_BIT | GFP_FS_BIT
GFP_KERNEL_ACCOUNT = GFP_KERNEL | GFP_ACCOUNT_BIT
GFP_NOWAIT = GFP_KSWAPD_RECLAIM_BIT | GFP_NOWARN_BIT
GFP_USER = GFP_RECLAIM | GFP_IO_BIT | GFP_FS_BIT | GFP_HARDWALL_BIT
GFP_HIGHUSER = GFP_USER | GFP_HIGHMEM_BIT
GFP_HIGHUSER_MOVABLE = GFP_HIGHUSER | GFP_MOVABLE_BIT

# mm_struct counters.
MM_FILEPAGES = 0
MM_ANONPAGES = 1
MM_SWAPENTS = 2
MM_SHMEMPAGES = 3
NR_MM_COUNTERS = 4

# Columns of the counts that a walk for smaps fills: pages; SMAPS_PSS*, SMAPS_SWAP_PSS and SMAPS_LOCKED in bytes << 12.
SMAPS_RSS = 0
SMAPS_ANONYMOUS = 1
SMAPS_FILE = 2
SMAPS_SHMEM = 3
SMAPS_SHARED_CLEAN = 4
SMAPS_SHARED_DIRTY = 5
SMAPS_PRIVATE_CLEAN = 6
SMAPS_PRIVATE_DIRTY = 7
SMAPS_REFERENCED = 8
SMAPS_PSS = 9
SMAPS_PSS_DIRTY = 10
SMAPS_PSS_ANON = 11
SMAPS_PSS_FILE = 12
SMAPS_PSS_SHMEM = 13
SMAPS_SWAP = 14
SMAPS_LOCKED = 15
SMAPS_LAZYFREE = 16
SMAPS_SWAP_PSS = 17
SMAPS_SHARED_HUGETLB = 18
SMAPS_PRIVATE_HUGETLB = 19
SMAPS_ANON_HUGE = 20
SMAPS_SHMEM_HUGE = 21
NR_SMAPS = 22


class ZoneStatItem(IntEnum):
    """Per-zone counters of all kernels, in /proc/vmstat's order (enum zone_stat_item)."""

    NR_FREE_PAGES = 0
    NR_FREE_PAGES_BLOCKS = 1
    NR_ZONE_INACTIVE_ANON = 2
    NR_ZONE_ACTIVE_ANON = 3
    NR_ZONE_INACTIVE_FILE = 4
    NR_ZONE_ACTIVE_FILE = 5
    NR_ZONE_UNEVICTABLE = 6
    NR_ZONE_WRITE_PENDING = 7
    NR_MLOCK = 8
    NR_BOUNCE = 9
    NR_ZSPAGES = 10
    NR_FREE_CMA_PAGES = 11
    NR_UNACCEPTED = 12


class NumaStatItem(IntEnum):
    """Per-zone NUMA events (enum numa_stat_item)."""

    NUMA_HIT = 0
    NUMA_MISS = 1
    NUMA_FOREIGN = 2
    NUMA_INTERLEAVE_HIT = 3
    NUMA_LOCAL = 4
    NUMA_OTHER = 5


class NodeStatItem(IntEnum):
    """Per-node counters of all kernels, in /proc/vmstat's order (enum node_stat_item)."""

    (
        NR_INACTIVE_ANON, NR_ACTIVE_ANON, NR_INACTIVE_FILE, NR_ACTIVE_FILE, NR_UNEVICTABLE,
        NR_SLAB_RECLAIMABLE_B, NR_SLAB_UNRECLAIMABLE_B, NR_ISOLATED_ANON, NR_ISOLATED_FILE,
        WORKINGSET_NODES, WORKINGSET_REFAULT_ANON, WORKINGSET_REFAULT_FILE, WORKINGSET_ACTIVATE_ANON,
        WORKINGSET_ACTIVATE_FILE, WORKINGSET_RESTORE_ANON, WORKINGSET_RESTORE_FILE,
        WORKINGSET_NODERECLAIM, NR_ANON_MAPPED, NR_FILE_MAPPED, NR_FILE_PAGES, NR_FILE_DIRTY,
        NR_WRITEBACK, NR_WRITEBACK_TEMP, NR_SHMEM, NR_SHMEM_THPS, NR_SHMEM_PMDMAPPED, NR_FILE_THPS,
        NR_FILE_PMDMAPPED, NR_ANON_THPS, NR_VMSCAN_WRITE, NR_VMSCAN_IMMEDIATE, NR_DIRTIED, NR_WRITTEN,
        NR_THROTTLED_WRITTEN, NR_KERNEL_MISC_RECLAIMABLE, NR_FOLL_PIN_ACQUIRED, NR_FOLL_PIN_RELEASED,
        NR_KERNEL_STACK_KB, NR_PAGETABLE, NR_SECONDARY_PAGETABLE, NR_IOMMU_PAGES, NR_SWAPCACHE,
        PGPROMOTE_SUCCESS, PGPROMOTE_CANDIDATE, PGPROMOTE_CANDIDATE_NRL, PGDEMOTE_KSWAPD, PGDEMOTE_DIRECT,
        PGDEMOTE_KHUGEPAGED, PGDEMOTE_PROACTIVE, NR_HUGETLB, NR_BALLOON_PAGES, NR_KERNEL_FILE_PAGES,
    ) = range(52)


class VmEventItem(IntEnum):
    """System-wide events of all kernels, in /proc/vmstat's order (enum vm_event_item); named as vmstat prints them."""

    (
        PGPGIN, PGPGOUT, PSWPIN, PSWPOUT, PGALLOC_DMA, PGALLOC_DMA32, PGALLOC_NORMAL, PGALLOC_HIGH, PGALLOC_MOVABLE,
        PGALLOC_DEVICE, ALLOCSTALL_DMA, ALLOCSTALL_DMA32, ALLOCSTALL_NORMAL, ALLOCSTALL_HIGH, ALLOCSTALL_MOVABLE,
        ALLOCSTALL_DEVICE, PGSKIP_DMA, PGSKIP_DMA32, PGSKIP_NORMAL, PGSKIP_HIGH, PGSKIP_MOVABLE, PGSKIP_DEVICE,
        PGFREE, PGACTIVATE, PGDEACTIVATE, PGLAZYFREE, PGFAULT, PGMAJFAULT, PGLAZYFREED, PGREFILL,
        PGREUSE, PGSTEAL_KSWAPD, PGSTEAL_DIRECT, PGSTEAL_KHUGEPAGED, PGSTEAL_PROACTIVE, PGSCAN_KSWAPD, PGSCAN_DIRECT,
        PGSCAN_KHUGEPAGED, PGSCAN_PROACTIVE, PGSCAN_DIRECT_THROTTLE, PGSCAN_ANON, PGSCAN_FILE, PGSTEAL_ANON,
        PGSTEAL_FILE, ZONE_RECLAIM_SUCCESS, ZONE_RECLAIM_FAILED, PGINODESTEAL, SLABS_SCANNED, KSWAPD_INODESTEAL,
        KSWAPD_LOW_WMARK_HIT_QUICKLY, KSWAPD_HIGH_WMARK_HIT_QUICKLY, PAGEOUTRUN, PGROTATED,
        DROP_PAGECACHE, DROP_SLAB, OOM_KILL, NUMA_PTE_UPDATES, NUMA_HUGE_PTE_UPDATES, NUMA_HINT_FAULTS,
        NUMA_HINT_FAULTS_LOCAL, NUMA_PAGES_MIGRATED, PGMIGRATE_SUCCESS, PGMIGRATE_FAIL,
        THP_MIGRATION_SUCCESS, THP_MIGRATION_FAIL, THP_MIGRATION_SPLIT, COMPACT_MIGRATE_SCANNED,
        COMPACT_FREE_SCANNED, COMPACT_ISOLATED, COMPACT_STALL, COMPACT_FAIL, COMPACT_SUCCESS,
        COMPACT_DAEMON_WAKE, COMPACT_DAEMON_MIGRATE_SCANNED, COMPACT_DAEMON_FREE_SCANNED,
        HTLB_BUDDY_ALLOC_SUCCESS, HTLB_BUDDY_ALLOC_FAIL, CMA_ALLOC_SUCCESS, CMA_ALLOC_FAIL, UNEVICTABLE_PGS_CULLED,
        UNEVICTABLE_PGS_SCANNED, UNEVICTABLE_PGS_RESCUED, UNEVICTABLE_PGS_MLOCKED,
        UNEVICTABLE_PGS_MUNLOCKED, UNEVICTABLE_PGS_CLEARED, UNEVICTABLE_PGS_STRANDED, THP_FAULT_ALLOC,
        THP_FAULT_FALLBACK, THP_FAULT_FALLBACK_CHARGE, THP_COLLAPSE_ALLOC, THP_COLLAPSE_ALLOC_FAILED,
        THP_FILE_ALLOC, THP_FILE_FALLBACK, THP_FILE_FALLBACK_CHARGE, THP_FILE_MAPPED, THP_SPLIT_PAGE,
        THP_SPLIT_PAGE_FAILED, THP_DEFERRED_SPLIT_PAGE, THP_UNDERUSED_SPLIT_PAGE, THP_SPLIT_PMD,
        THP_SCAN_EXCEED_NONE_PTE, THP_SCAN_EXCEED_SWAP_PTE, THP_SCAN_EXCEED_SHARE_PTE, THP_SPLIT_PUD,
        THP_ZERO_PAGE_ALLOC, THP_ZERO_PAGE_ALLOC_FAILED, THP_SWPOUT, THP_SWPOUT_FALLBACK,
        BALLOON_INFLATE, BALLOON_DEFLATE, BALLOON_MIGRATE, SWAP_RA, SWAP_RA_HIT, SWPIN_ZERO,
        SWPOUT_ZERO, KSM_SWPIN_COPY, COW_KSM, ZSWPIN, ZSWPOUT, ZSWPWB, DIRECT_MAP_LEVEL2_SPLITS,
        DIRECT_MAP_LEVEL3_SPLITS, DIRECT_MAP_LEVEL2_COLLAPSES, DIRECT_MAP_LEVEL3_COLLAPSES,
    ) = range(124)


class MthpStatItem(IntEnum):
    """What is counted by the size of huge pages (enum mthp_stat_item)."""

    (
        MTHP_STAT_ANON_FAULT_ALLOC, MTHP_STAT_ANON_FAULT_FALLBACK, MTHP_STAT_ANON_FAULT_FALLBACK_CHARGE,
        MTHP_STAT_SWPOUT, MTHP_STAT_SWPOUT_FALLBACK, MTHP_STAT_SHMEM_ALLOC, MTHP_STAT_SHMEM_FALLBACK,
        MTHP_STAT_SHMEM_FALLBACK_CHARGE, MTHP_STAT_SPLIT, MTHP_STAT_SPLIT_FAILED, MTHP_STAT_SPLIT_DEFERRED,
        MTHP_STAT_NR_ANON, MTHP_STAT_NR_ANON_PARTIALLY_MAPPED,
    ) = range(13)


class MemcgStatItem(IntEnum):
    """What memory cgroups count beside their share of the nodes' counters (enum memcg_stat_item)."""

    MEMCG_SWAP, MEMCG_SOCK, MEMCG_PERCPU_B, MEMCG_VMALLOC, MEMCG_KMEM, MEMCG_ZSWAP_B, MEMCG_ZSWAPPED = range(7)


class MemcgMemoryEvent(IntEnum):
    """What memory.events and memory.swap.events tell (enum memcg_memory_event)."""

    (
        MEMCG_LOW, MEMCG_HIGH, MEMCG_MAX, MEMCG_OOM, MEMCG_OOM_KILL, MEMCG_OOM_GROUP_KILL, MEMCG_SWAP_HIGH,
        MEMCG_SWAP_MAX, MEMCG_SWAP_FAIL,
    ) = range(9)


# The events that memory cgroups count, in memory.stat's order; the last two for cgroup v1 (memcg_vm_event_stat[]).
MEMCG_VM_EVENTS = (
    VmEventItem.PSWPIN, VmEventItem.PSWPOUT, VmEventItem.PGSCAN_KSWAPD, VmEventItem.PGSCAN_DIRECT,
    VmEventItem.PGSCAN_KHUGEPAGED, VmEventItem.PGSCAN_PROACTIVE, VmEventItem.PGSTEAL_KSWAPD,
    VmEventItem.PGSTEAL_DIRECT, VmEventItem.PGSTEAL_KHUGEPAGED, VmEventItem.PGSTEAL_PROACTIVE,
    VmEventItem.PGFAULT, VmEventItem.PGMAJFAULT, VmEventItem.PGREFILL, VmEventItem.PGACTIVATE,
    VmEventItem.PGDEACTIVATE, VmEventItem.PGLAZYFREE, VmEventItem.PGLAZYFREED, VmEventItem.SWPIN_ZERO,
    VmEventItem.SWPOUT_ZERO, VmEventItem.ZSWPIN, VmEventItem.ZSWPOUT, VmEventItem.ZSWPWB,
    VmEventItem.THP_FAULT_ALLOC, VmEventItem.THP_COLLAPSE_ALLOC, VmEventItem.THP_SWPOUT,
    VmEventItem.THP_SWPOUT_FALLBACK, VmEventItem.NUMA_PAGES_MIGRATED, VmEventItem.NUMA_PTE_UPDATES,
    VmEventItem.NUMA_HINT_FAULTS, VmEventItem.PGPGIN, VmEventItem.PGPGOUT,
)  # fmt: skip
NR_MEMCG_EVENTS = len(MEMCG_VM_EVENTS)
NR_VM_NODE_STAT_ITEMS = len(NodeStatItem)
NR_MEMCG_STATS = len(MemcgStatItem)
NR_MTHP_STATS = len(MthpStatItem)
NR_MEMCG_MEMORY_EVENTS = len(MemcgMemoryEvent)


# struct page: 32 bytes a frame. nxt/prv are frame numbers (list heads lie past the last frame);
# mapping is the id of an anon_vma (PG_ANON) or address_space; index the low 32 bits of the page offset
# there; private the order of a free block, or the slot of a page in the swap cache. A folio of several pages has a
# record of its own (fastpath/frames.py); its frames have theirs, marked PG_TAIL, with its order in mlock_count: those
# of a huge page only while entries of their own map some, or a file has it.
PAGE_DTYPE = np.dtype(
    [
        ("flags", "u4"),
        ("nxt", "u4"),
        ("prv", "u4"),
        ("mapping", "u4"),
        ("index", "u4"),
        ("private", "u4"),
        ("mapcount", "i4"),
        ("memcg", "u2"),
        ("mlock_count", "u2"),
    ]
)

# One pageblock: 32 bytes. nxt/prv are block numbers: a free list's; order that of a free block. A huge page's PMD
# entries are counted in mapcount, its frames that entries of their own map in nr_mapped.
BLOCK_DTYPE = np.dtype(
    [
        ("nxt", "u4"),
        ("prv", "u4"),
        ("mapcount", "i4"),
        ("nr_mapped", "i4"),
        ("state", "u1"),
        ("migratetype", "u1"),
        ("order", "u1"),
        ("pad", "u1"),
        ("zone", "u2"),
        ("pad2", "u2"),
        ("skip", "i4"),  # compaction found nothing there
        ("spare", "u4"),
    ]
)

# The part of struct zone that the loops use; pages and frame numbers. virgin/virgin_end index the extents
# of never-touched memory that stand at the end of the zone's MAX_PAGE_ORDER list.
ZONE_DTYPE = np.dtype(
    [
        ("start_pfn", "i8"),
        ("end_pfn", "i8"),
        ("managed", "i8"),
        ("wmark_min", "i8"),
        ("wmark_low", "i8"),
        ("wmark_high", "i8"),
        ("wmark_promo", "i8"),
        ("watermark_boost", "i8"),
        ("nr_reserved_highatomic", "i8"),
        ("nr_free_highatomic", "i8"),
        ("virgin", "i8"),
        ("virgin_end", "i8"),
        ("nid", "i4"),
        ("zid", "i4"),
        ("below_high", "i4"),
        ("boosted", "i4"),
        ("reclaim_active", "i4"),
        ("pad", "i4"),
    ]
)

# struct per_cpu_pages, one a CPU and zone: pages, and the state of its batch heuristics.
PCP_DTYPE = np.dtype(
    [
        ("count", "i4"),
        ("high", "i4"),
        ("high_min", "i4"),
        ("high_max", "i4"),
        ("batch", "i4"),
        ("alloc_factor", "i4"),
        ("free_count", "i4"),
        ("flags", "i4"),
    ]
)

# struct lruvec: the costs that balance anonymous memory against files, the clock of evictions, refaults seen last time.
LRUVEC_DTYPE = np.dtype(
    [
        ("nid", "i4"),
        ("memcg", "i4"),
        ("anon_cost", "i8"),
        ("file_cost", "i8"),
        ("nonresident_age", "i8"),
        ("refaults_anon", "i8"),
        ("refaults_file", "i8"),
    ]
)
# struct page_counter, NR_MEMCG_COUNTERS a memory cgroup: pages.
PAGE_COUNTER_DTYPE = np.dtype(
    [
        ("usage", "i8"),
        ("max", "i8"),
        ("high", "i8"),
        ("min", "i8"),
        ("low", "i8"),
        ("emin", "i8"),
        ("elow", "i8"),
        ("min_usage", "i8"),
        ("low_usage", "i8"),
        ("children_min_usage", "i8"),
        ("children_low_usage", "i8"),
        ("watermark", "i8"),
        ("local_watermark", "i8"),
        ("failcnt", "i8"),
    ]
)
PAGE_COUNTER_MAX = ((1 << 63) - 1) >> PAGE_SHIFT
MAX_MEMCGS = 1 << 16
MEMCG_CHARGE_BATCH = 64
# The counters of a memory cgroup: the second counts memory and swap together where cgroup v1 rules (memsw).
MEMCG_COUNTER_MEMORY = 0
MEMCG_COUNTER_SWAP = 1
MEMCG_COUNTER_KMEM = 2
MEMCG_COUNTER_TCPMEM = 3
NR_MEMCG_COUNTERS = 4
# A slab: its first frame, its objects' entries, its neighbours on a list, who has it and what is taken of it.
SLAB_DTYPE = np.dtype(
    [
        ("pfn", "i8"),
        ("base", "i8"),
        ("nxt", "u4"),
        ("prv", "u4"),
        ("cache", "u2"),
        ("nid", "u2"),
        ("inuse", "u2"),
        ("objects", "u2"),
        ("freelist", "u2"),
        ("fresh", "u2"),
        ("order", "u1"),
        ("state", "u1"),
        ("pad", "u2"),
    ]
)
KMEM_CACHE_DTYPE = np.dtype(
    [
        ("size", "i4"),
        ("order", "i4"),
        ("min_partial", "i8"),
        ("cpu_partial_slabs", "i4"),
        ("remote_node_defrag_ratio", "i4"),
        ("migratetype", "i4"),
        ("highest_zoneidx", "i4"),
        ("stat_item", "i4"),
        ("pad", "i4"),
        ("nr_inuse", "i8"),
    ]
)
# What a node has of a cache: all its slabs and their objects, the list of partial ones and their free objects.
KMEM_CACHE_NODE_DTYPE = np.dtype(
    [
        ("first", "u4"),
        ("last", "u4"),
        ("nr_partial", "i8"),
        ("nr_slabs", "i8"),
        ("total_objects", "i8"),
        ("partial_free", "i8"),
    ]
)
KMEM_CACHE_CPU_DTYPE = np.dtype([("slab", "u4"), ("partial", "u4"), ("partial_slabs", "i8")])
SLAB_NONE = 0
SLAB_FULL = 1
SLAB_CPU = 2
SLAB_CPU_PARTIAL = 3
SLAB_NODE_PARTIAL = 4
SLAB_NO_OBJECT = 0xFFFF
# An object that is in use; the low bits are the objcg that pays for it.
SLAB_OBJECT_TAKEN = 1 << 31
SLAB_OBJ_EXT_BYTES = 8
MAX_OBJCGS = 1 << 24
PCPF_PREV_FREE_HIGH_ORDER = 1
PCPF_FREE_HIGH_BATCH = 2

# What the loops know of an mm_struct: the first entry of the root table, rss counters, page-table bytes, a bit a lruvec
# that says it has run since the aging walked it, the highest rss, flags.
MM_DTYPE = np.dtype(
    [
        ("pgd", "i8"),
        ("rss_file", "i8"),
        ("rss_anon", "i8"),
        ("rss_swap", "i8"),
        ("rss_shmem", "i8"),
        ("pgtables_bytes", "i8"),
        ("asid", "i8"),
        ("cpumask", "u8"),
        ("memcg", "u4"),
        ("lru_gen_bitmap", "u4"),
        ("hiwater_rss", "i8"),
        ("flags", "i8"),
    ]
)
# mm_struct flags that the loops decide by: PR_SET_THP_DISABLE, and a hold on the huge page of zeros.
MMF_DISABLE_THP = 1
MMF_HUGE_ZERO_PAGE = 2

# How a memory policy chooses a page's node: the local one, one within a mask, each of a mask in turn, so many pages of
# each in turn, or the local one's nearest of a mask as long as that has room.
POLICY_LOCAL = 0
POLICY_NODE = 1
POLICY_IN_TURN = 2
POLICY_WEIGHTED = 3
POLICY_MANY = 4

# What the loops know of a vm_area_struct: addresses in bytes, pgoff in pages, ids of its file's address_space and
# of its anon_vma (0: none), its memory policy (POLICY_*), and the row of its open file.
VMA_DTYPE = np.dtype(
    [
        ("start", "i8"),
        ("end", "i8"),
        ("flags", "u8"),
        ("pgoff", "i8"),
        ("mapping", "u4"),
        ("anon_vma", "u4"),
        ("mm", "i4"),
        ("policy", "i4"),
        ("nid", "i4"),
        ("file", "u4"),
        ("nodemask", "u8"),
    ]
)

# An address_space: where its slots begin in the page-cache arena, how many it may hold, the size of the file in
# pages, how many are cached, and whether it is shmem (1) or a regular file (0); pages that are dirty or being
# written, whether a writeback list knows of it (or will be told), where the next round of writing begins;
# how many pages the disk has of it, and from which sector on; how many from the first on must stay. Of shmem: when a
# fault and when a write may bring a huge page (SHMEM_*), whether it is queued for one that reaches beyond its end, and
# whether it has no name: then all of a folio is mapped at once, entry by entry if need be.
MAPPING_DTYPE = np.dtype(
    [
        ("base", "i8"),
        ("slots", "i8"),
        ("size", "i8"),
        ("nrpages", "i8"),
        ("shmem", "i4"),
        ("memcg", "i4"),
        ("nr_dirty", "i8"),
        ("nr_writeback", "i8"),
        ("queued", "i8"),
        ("writeback_index", "i8"),
        ("on_disk", "i8"),
        ("sector", "i8"),
        ("pinned", "i8"),
        ("huge_fault", "i4"),
        ("huge_write", "i4"),
        ("shrinking", "i4"),
        ("unnamed", "i4"),
    ]
)

# When shared memory gets a huge page: always, if it lies within the size of the file, or if madvise() has asked for it.
SHMEM_ALWAYS = 1
SHMEM_WITHIN_SIZE = 2
SHMEM_ADVISE = 4
# In a row: the switches of each size decide.
SHMEM_BY_SIZE = 8

# A slot of an address_space is a frame + 1, or an entry that stands for a page that is not there: a shadow that
# reclaim has left, or (shmem) the swap slot of a page that is out, with the order of the entry that it is part of.
SLOT_SHADOW = 1 << 63
SLOT_SWAP = 1 << 62
SLOT_ORDER_SHIFT = 56
SLOT_SWP_MASK = (1 << SLOT_ORDER_SHIFT) - 1

# struct file_ra_state of an open file: pages; prev_pos in bytes. random: POSIX_FADV_RANDOM.
FILE_RA_DTYPE = np.dtype(
    [
        ("start", "i8"),
        ("size", "i8"),
        ("async_size", "i8"),
        ("ra_pages", "i8"),
        ("prev_pos", "i8"),
        ("mmap_miss", "i4"),
        ("random", "i4"),
    ]
)

# vm_flags that the loops decide by (include/linux/mm.h).
VMF_READ = 0x1
VMF_WRITE = 0x2
VMF_EXEC = 0x4
VMF_SHARED = 0x8
VMF_LOCKED = 0x2000
VMF_SEQ_READ = 0x8000
VMF_RAND_READ = 0x10000
VMF_SOFTDIRTY = 0x8000000
VMF_HUGEPAGE = 0x20000000
VMF_NOHUGEPAGE = 0x40000000
VMF_DROPPABLE = 1 << 40

# A swap area: where its slots begin in the arena of all slots, its size with the header, usable pages and those in
# use, where a scan for free ones begins and how many it may still take in order; priority; flags.
SWAP_AREA_DTYPE = np.dtype(
    [
        ("base", "i8"),
        ("max", "i8"),
        ("pages", "i8"),
        ("inuse", "i8"),
        ("lowest_bit", "i8"),
        ("highest_bit", "i8"),
        ("cluster_next", "i8"),
        ("cluster_nr", "i8"),
        ("prio", "i4"),
        ("flags", "i4"),
    ]
)
MAX_SWAPFILES = 27
SWAPFILE_CLUSTER_SHIFT = HPAGE_PMD_ORDER if PAGE_SHIFT == 12 else 8  # CONFIG_THP_SWAP or not
SWAPFILE_CLUSTER = 1 << SWAPFILE_CLUSTER_SHIFT
SWP_USED = 1 << 0
SWP_WRITEOK = 1 << 1
SWP_DISCARDABLE = 1 << 2
SWP_SOLIDSTATE = 1 << 4
SWP_BLKDEV = 1 << 6
SWP_AREA_DISCARD = 1 << 9
SWP_PAGE_DISCARD = 1 << 10
SWP_STABLE_WRITES = 1 << 11
SWP_SYNCHRONOUS_IO = 1 << 12

# What writing a page of the swap cache came to.
SWAP_WRITE_CLEAN = 0
SWAP_WRITE_STARTED = 1
SWAP_WRITE_BUSY = 2
LRU_GEN_DONE = 0
LRU_GEN_SLICE = 1
LRU_GEN_AGE = 2
assert PAGE_DTYPE.itemsize == 32 and BLOCK_DTYPE.itemsize == 32
