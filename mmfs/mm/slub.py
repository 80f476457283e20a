"""Slab caches: kernel objects of one kind packed into slabs of a few pages.

Which object lies where, and which slab is on which list, is the fast path's (fastpath/slub.py): it hands objects out as
long as there is memory for their slabs and their cgroup may have them. Here is the geometry of a cache, and what
happens else: a smaller slab where there is no large run of pages, reclaim, the OOM killer of a cgroup.

All pages really come from the page allocator and are counted as NR_SLAB_RECLAIMABLE_B or NR_SLAB_UNRECLAIMABLE_B,
so that forking a thousand tasks shows in Slab, in the zones' free pages and in slabtop alike.

Linux: mm/slub.c, mm/slab_common.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.mm_types import (
    GFP_COMP_BIT,
    GFP_DIRECT_RECLAIM_BIT,
    GFP_DMA_BIT,
    GFP_KERNEL,
    GFP_NORETRY_BIT,
    GFP_NOWARN_BIT,
    GFP_RECLAIMABLE_BIT,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
    PAGE_SHIFT,
    PAGE_SIZE,
    ZONE_DMA,
    ZONE_NORMAL,
    NodeStatItem,
)

if TYPE_CHECKING:
    import numpy as np

    from mmfs.mm.slab_common import SlabCaches

SLUB_MAX_ORDER: Final = 3
MAX_OBJS_PER_PAGE: Final = 32767
MIN_PARTIAL: Final = 5
MAX_PARTIAL: Final = 10
DEFRAG_RATIO: Final = 1000


def get_order(size: int) -> int:
    """The smallest order whose pages hold `size` bytes. Linux: include/asm-generic/getorder.h."""
    return max((size - 1).bit_length() - PAGE_SHIFT, 0)


def calculate_order(size: int, nr_cpus: int) -> int:
    """The order of a cache's slabs: more CPUs want more objects in a slab. Linux: mm/slub.c, calculate_order()."""
    max_objects = max((PAGE_SIZE << SLUB_MAX_ORDER) // size, 1)
    min_objects = min(4 * (nr_cpus.bit_length() + 1), max_objects)
    min_order = get_order(min_objects * size)
    if (PAGE_SIZE << min_order) // size > MAX_OBJS_PER_PAGE:
        return get_order(size * MAX_OBJS_PER_PAGE) - 1
    fraction = 16
    while fraction > 1:
        for order in range(min_order, SLUB_MAX_ORDER + 1):
            slab_size = PAGE_SIZE << order
            if slab_size % size <= slab_size // fraction:
                return order
        fraction //= 2
    return get_order(size)
SHEAF_CAPACITY: Final = {"vm_area_struct": 32, "maple_node": 32}
"""What caches ask for. Linux: struct kmem_cache_args, sheaf_capacity."""


class KmemCache:
    """A cache of objects of one size. Linux: mm/slab.h, struct kmem_cache. `index`: its row in the fast path."""

    def __init__(
        self, slabs: SlabCaches, index: int, name: str, object_size: int, size: int, align: int, flags: str
    ) -> None:
        self.owner = slabs
        self.profile = slabs.profile
        self.index = index
        self.name = name
        self.object_size = object_size
        self.size = size
        self.align = align
        self.reclaim_account = "r" in flags
        self.hwcache_align = "h" in flags
        self.destroy_by_rcu = "u" in flags
        self.cache_dma = "d" in flags
        self.account = "a" in flags
        self.mergeable = "m" in flags
        self.ctor = ""
        self.usersize = size if "kmalloc-" in name or name.startswith("memdup_user") else 0
        self.nr_aliases = 0
        self.skip_kfence = False
        self.order = calculate_order(size, slabs.fast.nr_cpus)
        self.min_order = get_order(size)
        self.objs_per_slab = (PAGE_SIZE << self.order) // size
        self.stat_item = (
            NodeStatItem.NR_SLAB_RECLAIMABLE_B if self.reclaim_account else NodeStatItem.NR_SLAB_UNRECLAIMABLE_B
        )
        row = self.record
        row["size"], row["order"], row["stat_item"] = size, self.order, self.stat_item
        row["min_partial"] = min(MAX_PARTIAL, max(MIN_PARTIAL, (size.bit_length() - 1) // 2))
        row["remote_node_defrag_ratio"] = DEFRAG_RATIO
        row["migratetype"] = MIGRATE_RECLAIMABLE if self.reclaim_account else MIGRATE_UNMOVABLE
        row["highest_zoneidx"] = ZONE_DMA if self.cache_dma else ZONE_NORMAL
        most = 6 if size >= PAGE_SIZE else 24 if size >= 1024 else 52 if size >= 256 else 120
        self.set_cpu_partial(most if slabs.profile.config("SLUB_CPU_PARTIAL") else 0)

    def __repr__(self) -> str:
        return f"<KmemCache {self.name} {self.nr_objects_inuse}/{self.num_objs}>"

    @property
    def sysfs_name(self) -> str:
        """Its directory: one that others can be merged into is named for what matters. Linux: create_unique_id()."""
        if not self.mergeable:
            return self.name
        flags = "d" * self.cache_dma + "a" * self.reclaim_account + "A" * self.account
        return f":{flags}{'-' if flags else ''}{self.size:07d}"

    # -- what it has --------------------------------------------------------------------------------------------------

    @property
    def record(self) -> np.void:
        """Its row. KMEM_CACHE_DTYPE."""
        row: np.void = self.owner.fast.caches[self.index]
        return row

    @property
    def nodes(self) -> np.ndarray:
        """What each node has of it. KMEM_CACHE_NODE_DTYPE."""
        fast = self.owner.fast
        rows: np.ndarray = fast.nodes[self.index * fast.nr_nodes : (self.index + 1) * fast.nr_nodes]
        return rows

    @property
    def cpus(self) -> np.ndarray:
        """What each CPU has of it. KMEM_CACHE_CPU_DTYPE."""
        fast = self.owner.fast
        rows: np.ndarray = fast.cpus[self.index * fast.nr_cpus : (self.index + 1) * fast.nr_cpus]
        return rows

    @property
    def nr_objects_inuse(self) -> int:
        """Objects that somebody has."""
        return int(self.record["nr_inuse"])

    @property
    def nr_slabs(self) -> int:
        """All its slabs. Linux: node_nr_slabs()."""
        return int(self.nodes["nr_slabs"].sum())

    @property
    def num_objs(self) -> int:
        """All its objects, free ones included. Linux: node_nr_objs()."""
        return int(self.nodes["total_objects"].sum())

    @property
    def active_objs(self) -> int:
        """Objects in use as /proc/slabinfo counts them: all but those free in slabs on the nodes' lists."""
        return self.num_objs - int(self.nodes["partial_free"].sum())

    @property
    def cpu_partial(self) -> int:
        """Free objects that a CPU's list of partial slabs is meant to hold."""
        return self._cpu_partial

    def set_cpu_partial(self, nr_objects: int) -> None:
        """Linux: mm/slub.c, slub_set_cpu_partial()."""
        self._cpu_partial = nr_objects
        self.record["cpu_partial_slabs"] = min(-(-nr_objects * 2 // self.objs_per_slab), (1 << 31) - 1)

    @property
    def sheaf_capacity(self) -> int:
        """Objects of the array that a CPU has; what bootstraps the others has none.

        Linux 7.0: mm/slub.c, calculate_sheaf_capacity().
        Simplified: the model takes objects from slabs of a CPU.
        """
        if self.name in ("kmem_cache", "kmem_cache_node"):
            return 0
        size = self.size
        most = 4 if size >= PAGE_SIZE else 12 if size >= 1024 else 28 if size >= 256 else 60
        return max(most, SHEAF_CAPACITY.get(self.name, 0))

    # -- objects ------------------------------------------------------------------------------------------------------

    def alloc(self, account: bool = False, force: bool = False) -> int:
        """An object, 0 if there is no memory for it. Linux: mm/slub.c, kmem_cache_alloc_noprof().

        `account`: the running task's cgroup pays for it though the cache does not ask for that (__GFP_ACCOUNT);
        `force`: whatever its limit says.
        """
        fast = self.owner.fast
        objcg = fast.objcg.current() if account or self.account else 0
        obj = fast.alloc(self.index, objcg, force)
        while obj <= 0:
            if not (self.owner.charge(objcg, self.size) if obj else self._new_slab()):
                return 0
            obj = fast.alloc(self.index, objcg, force)
        return int(obj)

    def _new_slab(self) -> bool:
        """Pages for one more slab, fewer if there is no such run. Linux: mm/slub.c, allocate_slab()."""
        gfp = GFP_KERNEL | GFP_COMP_BIT
        if self.reclaim_account:
            gfp |= GFP_RECLAIMABLE_BIT
        if self.cache_dma:
            gfp |= GFP_DMA_BIT
        order, pages = self.order, self.owner.pages
        first_try = gfp
        if order > self.min_order:
            first_try = (gfp | GFP_NOWARN_BIT | GFP_NORETRY_BIT) & ~GFP_DIRECT_RECLAIM_BIT
        pfn = pages.alloc_pages(first_try, order)
        if pfn < 0 and order > self.min_order:
            order = self.min_order
            pfn = pages.alloc_pages(gfp, order)
        if pfn < 0:
            return False
        self.owner.fast.give_slab(self.index, pfn, order)
        return True

    def free(self, obj: int) -> None:
        """Give an object back. Linux: mm/slub.c, kmem_cache_free()."""
        if not self.owner.fast.free(obj):
            raise AssertionError(f"{self.name}: object {obj:#x} is freed, but it is not in use")

    def flush_all(self) -> None:
        """Have no CPU keep a slab. Linux: mm/slub.c, flush_all()."""
        self.owner.fast.flush_all(self.index)

    def shrink(self) -> int:
        """Free every empty slab; how many there were. Linux: mm/slub.c, __kmem_cache_shrink()."""
        return int(self.owner.fast.shrink(self.index))
