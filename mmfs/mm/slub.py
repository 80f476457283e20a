"""The slab allocator: kernel objects of one kind packed into slabs of a few pages.

A cache hands objects out of the slab that the CPU works on, takes a partial slab of the node when that is used
up, and a new one from the page allocator when there is none. Freed objects go back to the CPU's slab, then to the
node's partial slabs; a node that has more empty slabs than `min_partial` gives pages back. As in Linux, a slab that
a CPU works on counts as wholly in use in /proc/slabinfo.

All pages really come from the page allocator and are counted as NR_SLAB_RECLAIMABLE_B or NR_SLAB_UNRECLAIMABLE_B,
so that forking a thousand tasks shows in Slab, in the zones' free pages and in slabtop alike.

Linux: mm/slub.c, mm/slab_common.c.
Simplified: objects are counted per node and per CPU, not one by one, and frees pack perfectly: objects that are freed
all lie in as few slabs as possible, so a cache never stays fragmented. The list of CPU partial slabs is part of the
node's.
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
    PAGE_SHIFT,
    PAGE_SIZE,
    NodeStatItem,
)

if TYPE_CHECKING:
    from mmfs.mm.slab_common import SlabCaches

SLUB_MAX_ORDER: Final = 3
MAX_OBJS_PER_PAGE: Final = 32767
MIN_PARTIAL: Final = 5
MAX_PARTIAL: Final = 10


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


class Slab:
    """Pages cut into objects. Linux: mm/slab.h, struct slab."""

    __slots__ = ("nid", "objects", "order", "pfn")

    def __init__(self, pfn: int, order: int, objects: int, nid: int) -> None:
        self.pfn = pfn
        self.order = order
        self.objects = objects
        self.nid = nid


class CpuSlab:
    """The slab a CPU allocates from, and how many free objects it has. Linux: struct kmem_cache_cpu."""

    __slots__ = ("free", "slab")

    def __init__(self, slab: Slab, free: int) -> None:
        self.slab = slab
        self.free = free


class KmemCacheNode:
    """A node's slabs that no CPU works on. Linux: mm/slub.c, struct kmem_cache_node."""

    __slots__ = ("free", "slabs", "total_objects")

    def __init__(self) -> None:
        self.slabs: list[Slab] = []
        self.total_objects = 0
        self.free = 0

    def inuse(self) -> int:
        """Objects in use in these slabs."""
        return self.total_objects - self.free

    def add(self, slab: Slab, free: int) -> None:
        """A slab that a CPU is done with."""
        self.slabs.append(slab)
        self.total_objects += slab.objects
        self.free += free

    def take(self) -> tuple[Slab, int] | None:
        """A slab with free objects, and how many; None if all are full."""
        if not self.free:
            return None
        slab = self.slabs.pop()
        free = min(slab.objects, self.free)
        self.total_objects -= slab.objects
        self.free -= free
        return slab, free


class KmemCache:
    """A cache of objects of one size. Linux: mm/slab.h, struct kmem_cache."""

    def __init__(
        self, slabs: SlabCaches, name: str, object_size: int, size: int, align: int, flags: str, nr_cpus: int
    ) -> None:
        self.owner = slabs
        self.name = name
        self.object_size = object_size
        self.size = size
        self.align = align
        self.reclaim_account = "r" in flags
        self.hwcache_align = "h" in flags
        self.destroy_by_rcu = "u" in flags
        self.cache_dma = "d" in flags
        self.account = "a" in flags
        self.order = calculate_order(size, nr_cpus)
        self.min_order = get_order(size)
        self.objs_per_slab = (PAGE_SIZE << self.order) // size
        self.min_partial = min(MAX_PARTIAL, max(MIN_PARTIAL, (size.bit_length() - 1) // 2))
        self.cpu_partial = 6 if size >= PAGE_SIZE else 24 if size >= 1024 else 52 if size >= 256 else 120
        self.nr_objects_inuse = 0
        self.nr_slabs = 0
        self.num_objs = 0
        self.nodes: dict[int, KmemCacheNode] = {}
        self.cpu_slabs: dict[int, CpuSlab] = {}
        gfp = GFP_KERNEL | GFP_COMP_BIT
        if self.reclaim_account:
            gfp |= GFP_RECLAIMABLE_BIT
        if self.cache_dma:
            gfp |= GFP_DMA_BIT
        self.allocflags = gfp
        self.stat_item = (
            NodeStatItem.NR_SLAB_RECLAIMABLE_B if self.reclaim_account else NodeStatItem.NR_SLAB_UNRECLAIMABLE_B
        )

    def __repr__(self) -> str:
        return f"<KmemCache {self.name} {self.nr_objects_inuse}/{self.num_objs}>"

    @property
    def active_objs(self) -> int:
        """Objects in use as /proc/slabinfo counts them: all but those free in slabs that no CPU works on."""
        return self.num_objs - sum(node.free for node in self.nodes.values())

    @property
    def nr_pages(self) -> int:
        """Pages of all its slabs."""
        slabs = [s for node in self.nodes.values() for s in node.slabs]
        slabs += [cpu_slab.slab for cpu_slab in self.cpu_slabs.values()]
        return sum(1 << slab.order for slab in slabs)

    def alloc(self, n: int = 1, cpu: int = 0) -> bool:
        """Take `n` objects on a CPU, all of them or none (no memory). Linux: mm/slub.c, slab_alloc_node()."""
        cpu_slab = self.cpu_slabs.get(cpu)
        if cpu_slab is not None and cpu_slab.free >= n:
            cpu_slab.free -= n
            self.nr_objects_inuse += n
            return True
        taken = 0
        while taken < n:
            if cpu_slab is None or not cpu_slab.free:
                cpu_slab = self._refill(cpu)
                if cpu_slab is None:
                    self.free(taken, cpu)
                    return False
            part = min(cpu_slab.free, n - taken)
            cpu_slab.free -= part
            self.nr_objects_inuse += part
            taken += part
        return True

    def _refill(self, cpu: int) -> CpuSlab | None:
        """Put the CPU's used-up slab away and give it another. Linux: mm/slub.c, ___slab_alloc()."""
        nid = self.owner.cpu_to_node[cpu]
        node = self.nodes.get(nid)
        found = node.take() if node is not None else None
        if found is None:
            slab = self._new_slab(nid)
            if slab is None:
                return None
            found = slab, slab.objects
        used_up = self.cpu_slabs.get(cpu)
        if used_up is not None:
            self._node(used_up.slab.nid).add(used_up.slab, used_up.free)
        self.cpu_slabs[cpu] = CpuSlab(*found)
        return self.cpu_slabs[cpu]

    def _node(self, nid: int) -> KmemCacheNode:
        node = self.nodes.get(nid)
        if node is None:
            node = self.nodes[nid] = KmemCacheNode()
        return node

    def _new_slab(self, nid: int) -> Slab | None:
        """Pages for one more slab, fewer if there is no such run. Linux: mm/slub.c, allocate_slab()."""
        order = self.order
        gfp = self.allocflags
        if order > self.min_order:
            gfp = (gfp | GFP_NOWARN_BIT | GFP_NORETRY_BIT) & ~GFP_DIRECT_RECLAIM_BIT
        pfn = self.owner.pages.alloc_pages(gfp, order, nid)
        if pfn < 0 and order > self.min_order:
            order = self.min_order
            pfn = self.owner.pages.alloc_pages(self.allocflags, order, nid)
        if pfn < 0:
            return None
        slab = Slab(pfn, order, (PAGE_SIZE << order) // self.size, self.owner.page_to_nid(pfn))
        self.owner.account(slab.nid, self.stat_item, 1 << order)
        self.owner.set_slab_flags(pfn, order)
        self.nr_slabs += 1
        self.num_objs += slab.objects
        return slab

    def free(self, n: int = 1, cpu: int = 0) -> None:
        """Give `n` objects back on a CPU: to its slab, then to the nodes' slabs. Linux: mm/slub.c, slab_free()."""
        if n > self.nr_objects_inuse:
            raise AssertionError(f"{self.name}: {n} objects freed, {self.nr_objects_inuse} are in use")
        self.nr_objects_inuse -= n
        cpu_slab = self.cpu_slabs.get(cpu)
        if cpu_slab is not None:
            part = min(n, cpu_slab.slab.objects - cpu_slab.free)
            cpu_slab.free += part
            n -= part
            if not n:
                return
        local = self.nodes.get(self.owner.cpu_to_node[cpu])
        rest = [node for node in self.nodes.values() if node is not local]
        for node in [local, *rest] if local is not None else rest:
            part = min(n, node.inuse())
            if part:
                node.free += part
                n -= part
                self._discard_empty(node, self.min_partial)
        for other in self.cpu_slabs.values():
            part = min(n, other.slab.objects - other.free)
            other.free += part
            n -= part
        assert not n

    def _discard_empty(self, node: KmemCacheNode, keep: int) -> int:
        """Free the empty slabs of a node but for `keep` of them. Linux: mm/slub.c, discard_slab()."""
        discarded = 0
        while node.slabs and node.free - node.slabs[-1].objects >= keep * self.objs_per_slab:
            slab = node.slabs.pop()
            node.total_objects -= slab.objects
            node.free -= slab.objects
            self._free_slab(slab)
            discarded += 1
        return discarded

    def _free_slab(self, slab: Slab) -> None:
        self.owner.clear_slab_flags(slab.pfn, slab.order)
        self.owner.pages.free_pages(slab.pfn, slab.order)
        self.owner.account(slab.nid, self.stat_item, -(1 << slab.order))
        self.nr_slabs -= 1
        self.num_objs -= slab.objects

    def shrink(self) -> int:
        """Free every empty slab; how many there were. Linux: mm/slub.c, __kmem_cache_shrink()."""
        for cpu in list(self.cpu_slabs):
            cpu_slab = self.cpu_slabs.pop(cpu)
            self._node(cpu_slab.slab.nid).add(cpu_slab.slab, cpu_slab.free)
        return sum(self._discard_empty(node, 0) for node in self.nodes.values())

    def check(self) -> None:
        """The counts agree."""
        free = sum(n.free for n in self.nodes.values()) + sum(c.free for c in self.cpu_slabs.values())
        if self.num_objs - free != self.nr_objects_inuse:
            raise AssertionError(f"{self.name}: {self.num_objs} objects, {free} free, {self.nr_objects_inuse} in use")
        nr_slabs = sum(len(node.slabs) for node in self.nodes.values()) + len(self.cpu_slabs)
        if nr_slabs != self.nr_slabs:
            raise AssertionError(f"{self.name}: {nr_slabs} slabs on lists, {self.nr_slabs} counted")
