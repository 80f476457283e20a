"""All slab caches of a machine, kmalloc on top of them, and what booting leaves in them.

Which caches there are, and how many objects the kernel's own start puts into each, are facts of the kernel
(`mm/slab_caches.py`); how they hold them is `mm/slub.py`.

Linux: mm/slab_common.c, include/linux/slab.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mmfs.mm.slab_caches import (
    ALIASES,
    KERNFS_NODES_PER_MEMORY_BLOCK,
    KERNFS_NODES_PER_NODE,
    KMALLOC_LARGE_PAGES,
    SLAB_CACHES,
)
from mmfs.mm.slub import KmemCache, get_order
from mmfs.mm.vmstat import VmStat
from mmfs.mm_types import GFP_COMP_BIT, GFP_KERNEL, PAGE_SIZE, PG_HEAD, PG_SLAB, PG_TAIL, NodeStatItem

KMALLOC_MAX_CACHE_SIZE: Final = 2 * PAGE_SIZE

KMALLOC_SIZES: Final = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)

# Caches that tasks fill. Boot leaves each CPU a slab of them, empty but for what lives.
TASK_CACHES: Final = (
    "task_struct", "signal_cache", "sighand_cache", "files_cache", "mm_struct", "vm_area_struct", "vma_lock",
    "anon_vma", "anon_vma_chain", "pid", "cred", "filp", "maple_node",
)  # fmt: skip


class PageSource(Protocol):
    """What slub needs of the page allocator."""

    def alloc_pages(self, gfp: int, order: int, nid: int) -> int:
        """First frame of 2^order free ones, -1 if there are none."""

    def free_pages(self, pfn: int, order: int) -> object:
        """Give frames back."""


class SlabCaches:
    """All caches of a machine, newest first as /proc/slabinfo lists them. Linux: mm/slab_common.c, slab_caches."""

    def __init__(
        self,
        pages: PageSource,
        vmstat: VmStat,
        cpu_to_node: Sequence[int],
        node_end_pfn: Sequence[int] = (),
        page_flags: NDArray[np.uint32] | None = None,
    ) -> None:
        """`node_end_pfn[nid]`: where each node's memory ends (nodes in order of address); `page_flags` by frame."""
        self.pages = pages
        self.page_flags = page_flags
        self.vmstat = vmstat
        self.cpu_to_node = list(cpu_to_node)
        self.node_end_pfn = list(node_end_pfn)
        self.kmalloc_large: list[tuple[int, int, int]] = []
        nr_cpus = len(self.cpu_to_node)
        self.caches: dict[str, KmemCache] = {}
        self.boot_objects: dict[str, tuple[int, int]] = {}
        for row in SLAB_CACHES.strip().splitlines():
            name, object_size, size, align, flags, *boot = row.split()
            self.caches[name] = KmemCache(self, name, int(object_size), int(size), int(align), flags, nr_cpus)
            if boot:
                constant, per_cpu = boot[0].split("+")
                self.boot_objects[name] = int(constant), int(per_cpu)
        self.aliases: dict[str, str] = {}
        for row in ALIASES.strip().splitlines():
            name, aliases = row.split(":")
            self.aliases.update(dict.fromkeys(aliases.split(), name))

    def __iter__(self) -> Iterator[KmemCache]:
        return iter(self.caches.values())

    def __len__(self) -> int:
        return len(self.caches)

    def __getitem__(self, name: str) -> KmemCache:
        """The cache of that name, or the one it is merged into."""
        cache = self.caches.get(name)
        return cache if cache is not None else self.caches[self.aliases[name]]

    def alloc(self, name: str, n: int = 1, cpu: int = 0) -> bool:
        """Allocate `n` objects from a cache; False if there is no memory for all of them."""
        return self[name].alloc(n, cpu)

    def free(self, name: str, n: int = 1, cpu: int = 0) -> None:
        """Free `n` objects of a cache."""
        self[name].free(n, cpu)

    def kmalloc_cache(self, size: int, kind: str = "kmalloc") -> KmemCache:
        """The cache for an allocation of `size` bytes; `kind` is kmalloc, kmalloc-cg, kmalloc-rcl or dma-kmalloc."""
        fit = next(s for s in KMALLOC_SIZES if s >= size)
        return self.caches[f"{kind}-{fit if fit < 1024 else f'{fit >> 10}k'}"]

    def kmalloc(self, size: int, kind: str = "kmalloc", cpu: int = 0) -> bool:
        """Allocate `size` bytes. Linux: include/linux/slab.h, kmalloc()."""
        if size > KMALLOC_MAX_CACHE_SIZE:
            return self.kmalloc_large_node(get_order(size), self.cpu_to_node[cpu])
        return self.kmalloc_cache(size, kind).alloc(1, cpu)

    def kfree(self, size: int, kind: str = "kmalloc", cpu: int = 0) -> None:
        """Free an allocation of `size` bytes."""
        if size <= KMALLOC_MAX_CACHE_SIZE:
            self.kmalloc_cache(size, kind).free(1, cpu)
            return
        order = get_order(size)
        index = max(i for i, (_, large, _) in enumerate(self.kmalloc_large) if large == order)
        pfn, _, nid = self.kmalloc_large.pop(index)
        self.pages.free_pages(pfn, order)
        self.account(nid, NodeStatItem.NR_SLAB_UNRECLAIMABLE_B, -(1 << order))

    def kmalloc_large_node(self, order: int, nid: int) -> bool:
        """Pages for an allocation that no cache serves; counted as slab. Linux: mm/slub.c, ___kmalloc_large_node()."""
        pfn = self.pages.alloc_pages(GFP_KERNEL | GFP_COMP_BIT, order, nid)
        if pfn < 0:
            return False
        nid = self.page_to_nid(pfn)
        self.kmalloc_large.append((pfn, order, nid))
        self.account(nid, NodeStatItem.NR_SLAB_UNRECLAIMABLE_B, 1 << order)
        return True

    def page_to_nid(self, pfn: int) -> int:
        """The node whose memory a frame is."""
        return next((nid for nid, end in enumerate(self.node_end_pfn) if pfn < end), 0)

    def account(self, nid: int, item: NodeStatItem, nr_pages: int) -> None:
        """Count slab pages. Linux: mm/slub.c, account_slab()."""
        self.vmstat.mod_node_page_state(nid, item, nr_pages * PAGE_SIZE)

    def set_slab_flags(self, pfn: int, order: int) -> None:
        """Mark the pages of a slab. Linux: mm/slub.c, alloc_slab_page(), __folio_set_slab()."""
        if self.page_flags is not None:
            self.page_flags[pfn] = PG_SLAB | PG_HEAD if order else PG_SLAB
            self.page_flags[pfn + 1 : pfn + (1 << order)] = PG_SLAB | PG_TAIL

    def clear_slab_flags(self, pfn: int, order: int) -> None:
        """They are no slab any more. Linux: mm/slub.c, __free_slab()."""
        if self.page_flags is not None:
            self.page_flags[pfn : pfn + (1 << order)] = 0

    def boot(self, nr_memory_blocks: int, nr_nodes: int = 1) -> None:
        """Allocate what the kernel's own start leaves in the caches, spread over the nodes that have CPUs."""
        first_cpu: dict[int, int] = {}
        for cpu, nid in enumerate(self.cpu_to_node):
            first_cpu.setdefault(nid, cpu)
        cpus_of = [(cpu, self.cpu_to_node.count(nid)) for nid, cpu in first_cpu.items()]
        sysfs = int(nr_memory_blocks * KERNFS_NODES_PER_MEMORY_BLOCK) + (nr_nodes - 1) * KERNFS_NODES_PER_NODE
        for name, (constant, per_cpu) in self.boot_objects.items():
            if name == "kernfs_node_cache":
                constant += sysfs
            share, extra = divmod(constant, len(cpus_of))
            for place, (cpu, nr_cpus) in enumerate(cpus_of):
                self.caches[name].alloc(share + (extra if place == 0 else 0) + per_cpu * nr_cpus, cpu)
        constant, per_cpu = KMALLOC_LARGE_PAGES
        for cpu, nr_cpus in cpus_of:
            for _ in range((constant // len(cpus_of) + per_cpu * nr_cpus) >> 2):
                self.kmalloc_large_node(2, self.cpu_to_node[cpu])
        for name in TASK_CACHES:
            cache = self.caches[name]
            for cpu in range(len(self.cpu_to_node)):
                if cache.alloc(1, cpu):
                    cache.free(1, cpu)

    def check(self) -> None:
        """The pages of all slabs are those that are counted."""
        counted = {item: self.vmstat.global_node_page_state(item) for item in
                   (NodeStatItem.NR_SLAB_RECLAIMABLE_B, NodeStatItem.NR_SLAB_UNRECLAIMABLE_B)}  # fmt: skip
        found = dict.fromkeys(counted, 0)
        for cache in self:
            cache.check()
            found[cache.stat_item] += cache.nr_pages * PAGE_SIZE
        found[NodeStatItem.NR_SLAB_UNRECLAIMABLE_B] += sum(PAGE_SIZE << order for _, order, _ in self.kmalloc_large)
        for item, size in found.items():
            if size != counted[item]:
                raise AssertionError(f"{item.name}: {counted[item]} bytes counted, the slabs have {size}")
