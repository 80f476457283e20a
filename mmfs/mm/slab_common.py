"""All slab caches of a machine, kmalloc on top of them, and what booting leaves in them.

Which caches there are, and how many objects the kernel's own start puts into each, are facts of the kernel
(`mm/slab_caches.py`); how they hold them is `mm/slub.py`. An object is a number that its user keeps and gives back.

Linux: mm/slab_common.c, include/linux/slab.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from mmfs.mm import slab_caches, slab_caches_6_1, slab_caches_7_0, slab_caches_686_pae, slab_caches_arm64
from mmfs.mm.slab_caches import KERNFS_NODES_PER_MEMORY_BLOCK, KERNFS_NODES_PER_NODE
from mmfs.mm.slub import KmemCache, get_order
from mmfs.mm_types import (
    GFP_COMP_BIT,
    GFP_KERNEL,
    GFP_NORETRY_BIT,
    GFP_NOWARN_BIT,
    PAGE_SHIFT,
    PAGE_SIZE,
    PAGEBLOCK_ORDER,
    SLAB_CPU,
    SLAB_CPU_PARTIAL,
    SLAB_FULL,
    SLAB_NODE_PARTIAL,
    SLAB_OBJ_EXT_BYTES,
    SLAB_OBJECT_TAKEN,
    NodeStatItem,
)
from mmfs.profile import Profile, config, since, until

if TYPE_CHECKING:
    from mmfs.fastpath.slub import Slub
    from mmfs.mm.memcontrol import MemCgroups
    from mmfs.mm.page_alloc import PageAllocator

TABLES: Final = (
    (config("X86_PAE"), slab_caches_686_pae), (config("ARM64"), slab_caches_arm64), (since(7, 0), slab_caches_7_0),
    (since(6, 12), slab_caches), (until(6, 12), slab_caches_6_1),
)  # fmt: skip
"""Which kernels have which caches: the first that fits."""

KMALLOC_MAX_CACHE_SIZE: Final = 2 * PAGE_SIZE

KMALLOC_KINDS: Final = ("kmalloc", "kmalloc-cg", "kmalloc-rcl", "dma-kmalloc")

KMALLOC_SIZES: Final = (8, 16, 32, 64, 96, 128, 192, *(1 << shift for shift in range(8, PAGE_SHIFT + 2)))

# Caches that tasks fill. Boot leaves each CPU a slab of them, empty but for what lives.
TASK_CACHES: Final = (
    "task_struct", "signal_cache", "sighand_cache", "files_cache", "mm_struct", "vm_area_struct", "vma_lock",
    "anon_vma", "anon_vma_chain", "pid", "cred", "filp", "maple_node",
)  # fmt: skip


class SlabCaches:
    """All caches of a machine, newest first as /proc/slabinfo lists them. Linux: mm/slab_common.c, slab_caches.

    ``memcgs`` is set once there are memory cgroups.
    """

    def __init__(self, pages: PageAllocator, fast: Slub, profile: Profile) -> None:
        self.profile = profile
        tables = next(tables for needs, tables in TABLES if needs(profile))
        self.pages = pages
        self.fast = fast
        self.vmstat = pages.vmstat
        self.memcgs: MemCgroups | None = None
        self.cpu_to_node = [int(nid) for nid in pages.buddy.cpu_nodes]
        self.kmalloc_large: dict[int, tuple[int, int]] = {}
        """Allocations that no cache serves: order and node of each by minus its first frame."""
        self.charged_large: set[int] = set()
        """Those of them that a cgroup pays for."""
        self.kept: dict[tuple[int, str], list[int]] = {}
        """What a leaking driver keeps, by size and kind."""
        self.counted: dict[str, list[int]] = {}
        """The objects of users that only count them."""
        self.caches: dict[str, KmemCache] = {}
        self.boot_objects: dict[str, tuple[int, int]] = {}
        for index, row in enumerate(tables.SLAB_CACHES.strip().splitlines()):
            name, object_size, size, align, flags, *boot = row.split()
            self.caches[name] = KmemCache(self, index, name, int(object_size), int(size), int(align), flags)
            if boot:
                constant, per_cpu = boot[0].split("+")
                self.boot_objects[name] = int(constant), int(per_cpu)
        self.by_index = list(self.caches.values())
        self.aliases: dict[str, str] = {}
        for row in tables.ALIASES.strip().splitlines():
            name, aliases = row.split(":")
            self.aliases.update(dict.fromkeys(aliases.split(), name))
            self.caches[name].nr_aliases += len(aliases.split())
        self.renamed: dict[str, str] = tables.RENAMED
        self.kmalloc_large_pages = tables.KMALLOC_LARGE_PAGES
        for row in tables.CONSTRUCTORS.strip().splitlines():
            name, self.caches[name].ctor = row.split()
        for row in tables.USERSIZES.strip().splitlines():
            name, usersize = row.split()
            self.caches[name].usersize = int(usersize)

    def __iter__(self) -> Iterator[KmemCache]:
        return iter(self.caches.values())

    def __len__(self) -> int:
        return len(self.caches)

    def __contains__(self, name: str) -> bool:
        return name in self.caches or name in self.aliases or name in self.renamed

    def __getitem__(self, name: str) -> KmemCache:
        """The cache of that name, or the one it is merged into."""
        cache = self.caches.get(name)
        return cache if cache is not None else self.caches[self.aliases.get(name) or self.renamed[name]]

    def slabinfo(self) -> Iterator[tuple[KmemCache, tuple[int, int, int]]]:
        """Each cache with its active objects, objects and slabs. Linux: mm/slub.c, get_slabinfo()."""
        fast = self.fast
        nodes = fast.nodes[: len(self.caches) * fast.nr_nodes].reshape(-1, fast.nr_nodes)
        num_objs = nodes["total_objects"].sum(axis=1)
        active_objs = num_objs - nodes["partial_free"].sum(axis=1)
        columns = (active_objs.tolist(), num_objs.tolist(), nodes["nr_slabs"].sum(axis=1).tolist())
        return zip(self.by_index, zip(*columns, strict=True), strict=True)

    # -- objects ------------------------------------------------------------------------------------------------------

    def alloc(self, name: str, *, account: bool = False, force: bool = False) -> int:
        """An object of a cache, 0 if there is no memory for it. Linux: kmem_cache_alloc()."""
        return self[name].alloc(account, force)

    def free(self, obj: int) -> None:
        """Give an object back. Linux: kmem_cache_free()."""
        if not self.fast.free(obj):
            raise AssertionError(f"object {obj:#x} is freed, but it is not in use")

    def lruvec_of(self, obj: int) -> int:
        """The lruvec of an object: its node, and the cgroup that pays for it. Linux: mem_cgroup_from_slab_obj()."""
        if not obj:
            return 0
        lruvec: int = self.fast.memcg_of(obj) * self.fast.nr_nodes + int(self.fast.slabs[obj >> 16]["nid"])
        return lruvec

    def words_of(self, obj: int) -> int:
        """Where an object begins among all words of memory."""
        slab = self.fast.slabs[obj >> 16]
        size = self.by_index[int(slab["cache"])].size
        return int(slab["pfn"]) * (PAGE_SIZE // 8) + (obj & 0xFFFF) * size // 8

    def free_if(self, obj: int) -> None:
        """Give an object back, if there is one. Linux: kmem_cache_free(), which knows of no null pointer."""
        if obj:
            self.free(obj)

    def alloc_counted(self, name: str, n: int = 1) -> bool:
        """As many objects for a user that only counts them; False if there is no memory for all of them."""
        cache, taken = self[name], list[int]()
        for _ in range(n):
            obj = cache.alloc(force=True)
            if not obj:
                for one in taken:
                    cache.free(one)
                return False
            taken.append(obj)
        self.counted.setdefault(cache.name, []).extend(taken)
        return True

    def free_counted(self, name: str, n: int = 1) -> None:
        """The last of such objects are given back."""
        objects = self.counted.get(self[name].name, [])
        if n > len(objects):
            raise AssertionError(f"{name}: {n} objects freed, {len(objects)} are in use")
        self.fast.free_bulk(np.array(objects[len(objects) - n :], np.int64))
        del objects[len(objects) - n :]

    def charge(self, objcg: int, size: int) -> bool:
        """Make room for an object in the cgroup of an objcg. Linux: obj_cgroup_charge_pages()."""
        assert self.memcgs is not None
        return self.memcgs.charge_objcg(objcg, -(-(size + SLAB_OBJ_EXT_BYTES) // PAGE_SIZE))

    # -- kmalloc ------------------------------------------------------------------------------------------------------

    def kmalloc_cache(self, size: int, kind: str = "kmalloc") -> KmemCache:
        """The cache for an allocation of `size` bytes; `kind` is kmalloc, kmalloc-cg, kmalloc-rcl or dma-kmalloc."""
        fit = next(s for s in KMALLOC_SIZES if s >= size)
        return self.caches[f"{kind}-{fit if fit < 1024 else f'{fit >> 10}k'}"]

    def kmalloc(self, size: int, kind: str = "kmalloc") -> int:
        """`size` bytes, 0 if there is no memory for them. Linux: include/linux/slab.h, kmalloc()."""
        if size > KMALLOC_MAX_CACHE_SIZE:
            nid = self.cpu_to_node[self.pages.buddy.cpu]
            return self.kmalloc_large_node(get_order(size), nid, kind == "kmalloc-cg")
        return self.kmalloc_cache(size, kind).alloc()

    def kfree(self, obj: int) -> None:
        """Free what kmalloc() gave. Linux: mm/slub.c, kfree()."""
        if obj > 0:
            self.free(obj)
            return
        order, nid = self.kmalloc_large.pop(obj)
        if obj in self.charged_large:
            assert self.memcgs is not None
            self.charged_large.remove(obj)
            pages = range(-obj, -obj + (1 << order))
            self._account_charged(pages, -PAGE_SIZE)
            self.memcgs.uncharge_kmem(pages)
        else:
            self._account_large(nid, -(1 << order))
        self.pages.free_pages(-obj, order)

    def kmalloc_large_node(self, order: int, nid: int, account: bool = False) -> int:
        """Pages for an allocation that no cache serves; counted as slab. Linux: mm/slub.c, ___kmalloc_large_node().

        `account`: for kvmalloc(), which has other ways if there are none at once, at the running task's cgroup's cost.

        Simplified: what a cgroup pays for has at most 1 MB, so that its frames are not a block that is one piece.
        """
        if account and order >= PAGEBLOCK_ORDER:
            return 0
        easy = GFP_NORETRY_BIT | GFP_NOWARN_BIT if account else 0
        pfn = self.pages.alloc_pages(GFP_KERNEL | GFP_COMP_BIT | easy, order, nid)
        if pfn < 0:
            return 0
        if account and self.memcgs is not None and self.memcgs.fast.current:
            pages = range(pfn, pfn + (1 << order))
            try:
                self.memcgs.charge_kmem(pages)
            except OSError:
                self.pages.free_pages(pfn, order)
                return 0
            self._account_charged(pages, PAGE_SIZE)
            self.charged_large.add(-pfn)
        nid = self.pages.page_to_nid(pfn)
        self.kmalloc_large[-pfn] = order, nid
        if -pfn not in self.charged_large:
            self._account_large(nid, 1 << order)
        return -pfn

    def _account_charged(self, pages: Sequence[int], size: int) -> None:
        assert self.memcgs is not None
        for pfn in pages:
            self.memcgs.fast.mod_folio_state(pfn, NodeStatItem.NR_SLAB_UNRECLAIMABLE_B, size)

    def _account_large(self, nid: int, nr_pages: int) -> None:
        self.vmstat.mod_node_page_state(nid, NodeStatItem.NR_SLAB_UNRECLAIMABLE_B, nr_pages << PAGE_SHIFT)

    # -- boot ---------------------------------------------------------------------------------------------------------

    def boot(self, nr_memory_blocks: int, nr_nodes: int = 1) -> None:
        """Allocate what the kernel's own start leaves in the caches, spread over the nodes that have CPUs."""
        first_cpu: dict[int, int] = {}
        for cpu, nid in enumerate(self.cpu_to_node):
            first_cpu.setdefault(nid, cpu)
        buddy, running = self.pages.buddy, int(self.pages.buddy.cpu)
        sysfs = int(nr_memory_blocks * KERNFS_NODES_PER_MEMORY_BLOCK) + (nr_nodes - 1) * KERNFS_NODES_PER_NODE
        for place, (nid, cpu) in enumerate(first_cpu.items()):
            buddy.cpu = cpu
            self._boot_node(self.cpu_to_node.count(nid), place, len(first_cpu), sysfs)
        for name in filter(self.__contains__, TASK_CACHES):
            for buddy.cpu in range(len(self.cpu_to_node)):
                obj = self.alloc(name)
                if obj:
                    self.free(obj)
        buddy.cpu = running

    def _boot_node(self, nr_cpus: int, place: int, places: int, sysfs: int) -> None:
        """The running CPU's share of them: of so many CPUs of so many places."""
        for name, (constant, per_cpu) in self.boot_objects.items():
            if name == "kernfs_node_cache":
                constant += sysfs
            share, extra = divmod(constant, places)
            cache, n = self.caches[name], share + (extra if place == 0 else 0) + per_cpu * nr_cpus
            for _ in range(n):
                cache.alloc()
        constant, per_cpu = self.kmalloc_large_pages
        for _ in range((constant // places + per_cpu * nr_cpus) >> 2):
            self.kmalloc_large_node(2, self.cpu_to_node[self.pages.buddy.cpu])

    # -- checks -------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Objects, slabs, lists, pages and counters agree. Raises AssertionError."""
        fast = self.fast
        slabs = fast.slabs[: fast.end]
        live = np.flatnonzero(slabs["state"])
        found = dict.fromkeys((NodeStatItem.NR_SLAB_RECLAIMABLE_B, NodeStatItem.NR_SLAB_UNRECLAIMABLE_B), 0)
        taken = self._taken(live)
        _same("objects in use by slab", slabs["inuse"][live].tolist(), taken.tolist())
        for cache in self:
            of_cache = live[slabs["cache"][live] == cache.index]
            _same(f"{cache.name}: objects", int(slabs["inuse"][of_cache].sum()), cache.nr_objects_inuse)
            _same(f"{cache.name}: slabs", len(of_cache), cache.nr_slabs)
            _same(f"{cache.name}: all objects", int(slabs["objects"][of_cache].sum()), cache.num_objs)
            self._check_lists(cache, of_cache)
            found[cache.stat_item] += int((PAGE_SIZE << slabs["order"][of_cache].astype(np.int64)).sum())
        found[NodeStatItem.NR_SLAB_UNRECLAIMABLE_B] += sum(
            PAGE_SIZE << order for order, _ in self.kmalloc_large.values()
        )
        for item, size in found.items():
            _same(f"{item.name}: bytes of the slabs", size, self.vmstat.global_node_page_state(item))

    def _taken(self, live: np.ndarray) -> np.ndarray:
        """How many objects of each of these slabs say that they are in use."""
        fast = self.fast
        taken = (fast.entries[: fast.slabs["base"][1 : fast.end].max(initial=0) + 32768] & SLAB_OBJECT_TAKEN) != 0
        upto = np.concatenate(([0], np.cumsum(taken)))
        base = fast.slabs["base"][live]
        counts: np.ndarray = upto[base + fast.slabs["fresh"][live]] - upto[base]
        return counts

    def _check_lists(self, cache: KmemCache, of_cache: np.ndarray) -> None:
        """Each slab is where its state says."""
        fast = self.fast
        states = {state: set(of_cache[fast.slabs["state"][of_cache] == state].tolist()) for state in range(5)}
        at_work = {int(slab) for slab in cache.cpus["slab"] if slab}
        _same(f"{cache.name}: the CPUs' slabs", at_work, states[SLAB_CPU])
        lists = [fast.cpu_partial(cache.index, cpu) for cpu in range(fast.nr_cpus)]
        _same(
            f"{cache.name}: the CPUs' partial slabs", [len(one) for one in lists], cache.cpus["partial_slabs"].tolist()
        )
        _same(f"{cache.name}: on the CPUs' lists", {slab for one in lists for slab in one}, states[SLAB_CPU_PARTIAL])
        lists = [fast.partial(cache.index, nid) for nid in range(fast.nr_nodes)]
        _same(
            f"{cache.name}: the nodes' partial slabs", [len(one) for one in lists], cache.nodes["nr_partial"].tolist()
        )
        _same(f"{cache.name}: on the nodes' lists", {slab for one in lists for slab in one}, states[SLAB_NODE_PARTIAL])
        for nid, one in enumerate(lists):
            rows = fast.slabs[one]
            free = int(rows["objects"].sum(dtype=np.int64) - rows["inuse"].sum(dtype=np.int64))
            _same(f"{cache.name}: free objects of node {nid}", free, int(cache.nodes["partial_free"][nid]))
        full = fast.slabs[list(states[SLAB_FULL])]
        _same(f"{cache.name}: full slabs", full["inuse"].tolist(), full["objects"].tolist())

    def bytes_by_objcg(self) -> dict[int, int]:
        """What objects cost each objcg: for checks."""
        fast, costs = self.fast, dict[int, int]()
        for slab in fast.slabs[1 : fast.end]:
            cache = self.by_index[int(slab["cache"])]
            if not slab["state"]:
                continue
            first = int(slab["base"])
            entries = fast.entries[first : first + int(slab["fresh"])]
            paid = entries[entries > SLAB_OBJECT_TAKEN] & (SLAB_OBJECT_TAKEN - 1)
            for objcg, n in zip(*np.unique(paid, return_counts=True), strict=True):
                costs[int(objcg)] = costs.get(int(objcg), 0) + int(n) * (cache.size + SLAB_OBJ_EXT_BYTES)
        return costs


def _same(what: str, left: object, right: object) -> None:
    if left != right:
        raise AssertionError(f"{what}: {left} is not {right}")
