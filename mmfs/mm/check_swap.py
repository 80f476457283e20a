"""The invariants of swap: every slot has exactly its owners, every page of the swap cache its slot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mmfs.mm.folio import nr_pages
from mmfs.mm.swapfile import SWAP_MAP_BAD
from mmfs.mm_types import (
    PG_SWAPCACHE,
    SLOT_SWAP,
    SLOT_SWP_MASK,
    SWAPFILE_CLUSTER,
    SWP_SOLIDSTATE,
    NodeStatItem,
    ZoneStatItem,
)

if TYPE_CHECKING:
    from mmfs.fastpath.zsmalloc import ZsPool
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.swapfile import SwapInfoStruct

HAS_CACHE = 1 << 30
CLUSTER_NONFULL = 2
CLUSTER_FRAG = 3
SHADOW = np.uint64(1 << 63)


def _same(what: str, left: object, right: object) -> None:
    if left != right:
        raise AssertionError(f"{what}: {left} is not {right}")


def check_swap(kernel: Kernel, entries: Counter[int]) -> None:
    """Areas, slots and the swap cache; ``entries`` are the swap entries of all page tables by slot."""
    swap = kernel.mmu.swap
    shmem = [int(slot) & SLOT_SWP_MASK for slot in _shmem_entries(kernel)]
    _same("pages of shared memory that are swapped out", len(shmem), int(swap.nr_shmem_swapped))
    entries = entries + Counter(shmem)
    kept = Counter(swap.kept_slots())
    known: set[int] = set()
    cached = free = total = 0
    for area in kernel.swap_info:
        cached += check_area(kernel, area, entries, kept)
        record = swap.slots.areas[area.number]
        known.update(range(int(record["base"]), int(record["base"] + record["max"])))
        free += area.pages - area.inuse_pages
        total += area.pages
    _same("nr_swap_pages", free, int(swap.slots.workingset.nr_swap_pages))
    _same("total_swap_pages", total, int(swap.slots.total_swap_pages))
    _same("swap entries and slots of no area", sorted((entries.keys() | kept.keys()) - known), [])
    _same("nr_swapcached", cached, kernel.vmstat.global_node_page_state(NodeStatItem.NR_SWAPCACHE))
    check_compressed(kernel)


def _shmem_entries(kernel: Kernel) -> Iterator[np.uint64]:
    """The swap entries in the slots of all files of shared memory."""
    for row, mapping in kernel.page_cache.mappings.items():
        if kernel.mmu.folios.mappings[row]["shmem"]:
            slots = mapping.slots()
            yield from slots[slots & np.uint64(SLOT_SWAP) != 0]


def check_area(kernel: Kernel, area: SwapInfoStruct, entries: Counter[int], kept: Counter[int]) -> int:
    """The slots of one area; how many of them are in the swap cache."""
    slots = kernel.mmu.swap.slots
    base, end = (int(slots.areas[area.number][name]) for name in ("base", "max"))
    end += base
    counts = slots.counts[base:end].astype(np.int64)
    caches = slots.caches[base:end]
    _same(f"{area.file}: its header", int(counts[0]), SWAP_MAP_BAD)
    _same(f"{area.file}: slots in use", int(np.count_nonzero(counts[1:])), area.inuse_pages)
    here = np.flatnonzero((caches != 0) & (caches & SHADOW == 0))
    folios = (caches[here] - np.uint64(1)).astype(np.int64)
    pages = kernel.frames.pages[folios]
    first, number = np.unique(folios, return_index=True)[1], np.unique(folios, return_inverse=True)[1]
    slots_of = pages["private"].astype(np.int64) + np.arange(len(here)) - first[number]
    _same(f"{area.file}: slots of cached pages", slots_of.tolist(), (here + base).tolist())
    sizes = nr_pages(kernel.frames, folios[first])
    _same(f"{area.file}: how many of each", np.bincount(number, minlength=0).tolist(), sizes.tolist())
    if not (pages["flags"] & PG_SWAPCACHE).all():
        raise AssertionError(f"{area.file}: a page is not marked as cached")
    expected = np.zeros(end - base, np.int64)
    for slot, owners in entries.items():
        if base <= slot < end:
            expected[slot - base] += owners
    for slot, copies in kept.items():
        if base <= slot < end:
            _same(f"slot {slot - base} of {area.file} that a CPU keeps", (copies, int(expected[slot - base])), (1, 0))
            expected[slot - base] = HAS_CACHE
    if expected[here].max(initial=0) >= HAS_CACHE:
        raise AssertionError(f"{area.file}: a CPU keeps the slot of a cached page")
    expected[here] += HAS_CACHE
    for offset in (np.flatnonzero(counts[1:] != expected[1:]) + 1)[:1]:
        _same(f"owners of slot {offset} of {area.file}", hex(int(expected[offset])), hex(int(counts[offset])))
    if slots.areas[area.number]["flags"] & SWP_SOLIDSTATE:
        check_clusters(kernel, area, counts)
    return len(here)


def check_compressed(kernel: Kernel) -> None:
    """What is compressed against the slots and disk pages it is of, and the pages it lies in."""
    swap = kernel.mmu.swap
    zswap = swap.slots.zswap
    stored = check_pool("zswap", zswap.pool)
    aged = [slot for nid in range(len(kernel.node_data)) for slot in zswap.lru(nid)]
    _same("zswap: entries by age", sorted(aged), sorted(stored))
    for slot in stored:
        if not swap.slots.counts[slot]:
            raise AssertionError(f"zswap has a page for slot {slot}, which is free")
    pages = int(zswap.pool.pages_allocated)
    for disk in kernel.zrams.disks.values():
        if disk.zram is None:
            continue
        keys = check_pool(disk.name, disk.zram.pool)
        pages += int(disk.zram.pool.pages_allocated)
        _same(f"{disk.name}: pages", len(keys) + int(disk.zram.same_pages), int(disk.zram.pages_stored))
        area = next((area for area in kernel.swap_info if area.file == disk.path), None)
        base = int(swap.slots.areas[area.number]["base"]) if area is not None else 0
        for key in keys:
            if key > 1 and (area is None or not swap.slots.counts[base + key - 1]):
                raise AssertionError(f"{disk.name} keeps page {key - 1}, whose slot is free")
    _same("nr_zspages", pages, kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_ZSPAGES))


def check_pool(what: str, pool: ZsPool) -> list[int]:
    """Each object in one group, each group on the list of how full it is; the keys of all objects."""
    keys: list[int] = []
    pages = 0
    used = [0] * len(pool.used)
    for klass, group, number, objects in pool.groups():
        record = pool.zspages[number]
        _same(f"{what}: class of group {number}", int(record["klass"]), klass)
        _same(f"{what}: objects of group {number}", len(objects), int(record["inuse"]))
        room, nr_pages = (int(n) for n in pool.classes[klass, 2:])
        full = 11 if len(objects) == room else 100 * len(objects) // room // 10 + 1
        _same(f"{what}: list of group {number}", group, full)
        _same(f"{what}: pages of group {number}", len(pool.pages_of(number)), nr_pages)
        if not (pool.entries["zspage"][objects] == number).all():
            raise AssertionError(f"{what}: an object of group {number} is of another")
        used[klass] += len(objects)
        pages += nr_pages
        keys += objects
    _same(f"{what}: objects of each class", used, pool.used.tolist())
    _same(f"{what}: pages", pages, int(pool.pages_allocated))
    _same(f"{what}: objects", (len(keys), len(set(keys))), (int(pool.nr_objects), len(keys)))
    _same(f"{what}: bytes", int(pool.entries["length"][keys].sum()) if keys else 0, int(pool.bytes_stored))
    return keys


def check_clusters(kernel: Kernel, area: SwapInfoStruct, counts: np.ndarray) -> None:
    """The lists of clusters of one area: each on one list, with as many slots in use as it says."""
    clusters = kernel.mmu.swap.slots.clusters_of(area.number)
    nr = -(-len(counts) // SWAPFILE_CLUSTER)
    _same(f"{area.file}: clusters on lists", sorted(number for number, *_ in clusters), list(range(nr)))
    used = np.ones(nr * SWAPFILE_CLUSTER, bool)
    used[: len(counts)] = counts != 0
    for number, count, flags, order, which, listed in clusters:
        first = number * SWAPFILE_CLUSTER
        _same(f"{area.file}: slots in cluster {number}", int(used[first : first + SWAPFILE_CLUSTER].sum()), count)
        _same(f"{area.file}: list of cluster {number}", flags, which)
        if which in (CLUSTER_NONFULL, CLUSTER_FRAG):
            _same(f"{area.file}: order of cluster {number}", order, listed)

