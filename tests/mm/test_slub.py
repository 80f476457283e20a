"""Slab caches: Linux's own geometry, pages that are really taken, counts that agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfs.mm.slab_common import TASK_CACHES, SlabCaches
from mmfs.mm.slub import KmemCache, calculate_order, get_order
from mmfs.mm.vmstat import VmStat
from mmfs.mm_types import GFP_RECLAIMABLE_BIT, PAGE_SIZE, PG_HEAD, PG_SLAB, PG_TAIL, NodeStatItem

CAPTURES = Path(__file__).parents[1] / "golden" / "captures"
NODE_PAGES = 1 << 20


class Pages:
    """A page allocator with so many pages a node that never fragments."""

    def __init__(self, limit: int = NODE_PAGES, max_order: int = 10) -> None:
        self.limit = limit
        self.max_order = max_order
        self.used = 0
        self.next_pfn = [0, NODE_PAGES]
        self.held: dict[int, tuple[int, int]] = {}

    def alloc_pages(self, gfp: int, order: int, nid: int) -> int:
        if self.used + (1 << order) > self.limit or order > self.max_order:
            return -1
        pfn = self.next_pfn[nid]
        self.next_pfn[nid] += 1 << order
        self.used += 1 << order
        self.held[pfn] = order, gfp
        return pfn

    def free_pages(self, pfn: int, order: int) -> None:
        held, _ = self.held.pop(pfn)
        assert held == order
        self.used -= 1 << order


def make(nr_cpus: int = 2, pages: Pages | None = None, nodes: int = 1) -> SlabCaches:
    cpu_to_node = [cpu * nodes // nr_cpus for cpu in range(nr_cpus)]
    return SlabCaches(pages or Pages(), VmStat(nodes), cpu_to_node, [NODE_PAGES * (nid + 1) for nid in range(nodes)])


def golden_slabinfo(capture: str) -> dict[str, list[int]]:
    lines = (CAPTURES / capture / "00-boot/proc/slabinfo").read_text().splitlines()[2:]
    return {row[0]: [int(x) for x in row[1:6]] for row in (line.split() for line in lines)}


def test_names_order_and_geometry_are_those_of_a_real_kernel() -> None:
    golden = golden_slabinfo("512M")
    slabs = make(nr_cpus=2)
    assert [cache.name for cache in slabs] == list(golden)
    for cache in slabs:
        assert [cache.size, cache.objs_per_slab, 1 << cache.order] == golden[cache.name][2:], cache.name


@pytest.mark.parametrize(
    ("size", "nr_cpus", "order"),
    # slabinfo of a real 6.12 with that many CPUs: task_struct, dentry, kmalloc-1k, ext4_inode_cache, vm_area_struct
    [(8448, 1, 3), (8448, 16, 3), (192, 8, 0), (192, 16, 1), (1024, 1, 1), (1024, 2, 2), (1024, 8, 3), (1168, 4, 3),
     (1168, 2, 2), (176, 16, 1), (1408, 1, 2), (8, 16, 0)],
)  # fmt: skip
def test_slabs_are_larger_on_machines_with_more_cpus(size: int, nr_cpus: int, order: int) -> None:
    assert calculate_order(size, nr_cpus) == order


@pytest.mark.parametrize(("size", "order"), [(1, 0), (4096, 0), (4097, 1), (8192, 1), (8448, 2), (32768, 3)])
def test_get_order(size: int, order: int) -> None:
    assert get_order(size) == order


def test_objects_take_pages_which_are_counted_and_come_back() -> None:
    pages = Pages()
    slabs = make(pages=pages)
    cache = slabs["task_struct"]
    assert slabs.alloc("task_struct", 10)
    assert (cache.nr_slabs, cache.num_objs, cache.active_objs) == (4, 12, 12)
    assert pages.used == 4 * 8
    assert slabs.vmstat.global_node_page_state(NodeStatItem.NR_SLAB_UNRECLAIMABLE_B) == 32 * PAGE_SIZE
    slabs.check()
    slabs.free("task_struct", 10)
    assert cache.nr_objects_inuse == 0
    assert cache.shrink() == 4
    assert pages.used == 0
    slabs.check()


def test_empty_slabs_beyond_min_partial_are_freed() -> None:
    pages = Pages()
    slabs = make(pages=pages)
    cache = slabs["buffer_head"]
    slabs.alloc("buffer_head", 39 * 100)
    slabs.free("buffer_head", 39 * 100)
    assert cache.nr_slabs == cache.min_partial + 1  # and the CPU's own
    assert cache.active_objs == 39
    slabs.check()


def test_reclaimable_caches_say_so_to_the_page_allocator() -> None:
    pages = Pages()
    slabs = make(pages=pages)
    slabs.alloc("dentry")
    ((_, gfp),) = pages.held.values()
    assert gfp & GFP_RECLAIMABLE_BIT
    assert slabs.vmstat.global_node_page_state(NodeStatItem.NR_SLAB_RECLAIMABLE_B) == PAGE_SIZE


def test_pages_of_slabs_are_marked_and_unmarked() -> None:
    flags = np.zeros(1 << 10, np.uint32)
    slabs = SlabCaches(Pages(), VmStat(1), [0, 0], [NODE_PAGES], flags)
    slabs.alloc("kmalloc-1k")
    assert flags[:5].tolist() == [PG_SLAB | PG_HEAD, *[PG_SLAB | PG_TAIL] * 3, 0]
    slabs.free("kmalloc-1k")
    slabs["kmalloc-1k"].shrink()
    assert not flags.any()
    slabs.alloc("dentry")
    assert flags[4] == PG_SLAB


def test_each_cpu_has_a_slab_of_its_own_on_its_node() -> None:
    slabs = make(nr_cpus=2, nodes=2)
    for cpu in (0, 1):
        slabs.alloc("filp", 1, cpu)
    assert slabs["filp"].nr_slabs == 2
    for nid in (0, 1):
        assert slabs.vmstat.node_page_state(nid, NodeStatItem.NR_SLAB_UNRECLAIMABLE_B) == PAGE_SIZE


def test_merged_caches_share_their_objects() -> None:
    slabs = make()
    assert slabs["fs_cache"] is slabs["anon_vma_chain"]
    with pytest.raises(KeyError):
        slabs["no_such_cache"]


@pytest.mark.parametrize(
    ("size", "kind", "name"),
    [(1, "kmalloc", "kmalloc-8"), (65, "kmalloc", "kmalloc-96"), (100, "kmalloc-cg", "kmalloc-cg-128"),
     (1000, "kmalloc", "kmalloc-1k"), (8192, "kmalloc-rcl", "kmalloc-rcl-8k")],
)  # fmt: skip
def test_kmalloc_rounds_up(size: int, kind: str, name: str) -> None:
    assert make().kmalloc_cache(size, kind).name == name


def test_large_kmallocs_are_pages_that_count_as_slab() -> None:
    pages = Pages()
    slabs = make(pages=pages)
    assert slabs.kmalloc(8193)
    assert slabs.vmstat.global_node_page_state(NodeStatItem.NR_SLAB_UNRECLAIMABLE_B) == 4 * PAGE_SIZE
    slabs.check()
    slabs.kfree(8193)
    assert pages.used == 0
    slabs.check()


def test_without_memory_nothing_is_taken() -> None:
    slabs = make(pages=Pages(limit=20))
    assert not slabs.alloc("task_struct", 100)
    assert slabs["task_struct"].nr_objects_inuse == 0
    slabs.check()


def test_without_large_runs_slabs_are_smaller() -> None:
    slabs = make(pages=Pages(max_order=0))
    cache = slabs["kmalloc-1k"]
    assert slabs.alloc("kmalloc-1k", 10)
    assert (cache.nr_slabs, cache.num_objs) == (3, 12)
    slabs.check()


def test_freeing_what_was_not_allocated_is_an_error() -> None:
    with pytest.raises(AssertionError, match="dentry"):
        make().free("dentry")


def slab_kb(slabs: SlabCaches, item: NodeStatItem, nid: int | None = None) -> int:
    size = slabs.vmstat.global_node_page_state(item) if nid is None else slabs.vmstat.node_page_state(nid, item)
    return size // 1024


@pytest.mark.parametrize(("capture", "blocks", "nodes"), [("512M", 4, 1), ("5G-numa2", 40, 2)])
def test_boot_leaves_what_a_real_boot_leaves(capture: str, blocks: int, nodes: int) -> None:
    """Within 5 % (in all) and 20 % (a cache): slack in half-filled slabs differs from boot to boot by as much."""
    slabs = make(nr_cpus=2, nodes=nodes)
    slabs.boot(blocks, nodes)
    slabs.check()
    golden = golden_slabinfo(capture)
    slack = 2 * nodes
    for cache in slabs:
        if cache.name in TASK_CACHES or cache.name == "proc_inode_cache":  # the capture itself walks /proc
            continue
        theirs = golden[cache.name][1]
        ours = cache.num_objs
        assert abs(ours - theirs) <= max(0.2 * theirs, slack * cache.objs_per_slab), (cache.name, ours, theirs)
    # The tasks of the capture (kernel threads and a shell) are not there yet.
    tasks = sum(golden[name][4] * golden[name][1] // golden[name][3] for name in TASK_CACHES)
    tasks -= sum(slabs[name].nr_pages for name in TASK_CACHES)
    meminfo = (CAPTURES / capture / "00-boot/proc/meminfo").read_text().splitlines()
    kb = {line.split(":")[0]: int(line.split()[1]) for line in meminfo}
    assert slab_kb(slabs, NodeStatItem.NR_SLAB_UNRECLAIMABLE_B) + tasks * 4 == pytest.approx(kb["SUnreclaim"], rel=0.05)
    assert slab_kb(slabs, NodeStatItem.NR_SLAB_RECLAIMABLE_B) == pytest.approx(kb["SReclaimable"], rel=0.15)


def test_boot_on_many_cpus_and_nodes_stays_balanced() -> None:
    slabs = make(nr_cpus=16, nodes=2)
    slabs.boot(512, 2)
    slabs.check()
    item = NodeStatItem.NR_SLAB_UNRECLAIMABLE_B
    assert slab_kb(slabs, item, 0) == pytest.approx(slab_kb(slabs, item, 1), rel=0.2)


NAMES = ("dentry", "task_struct", "kmalloc-96")
steps = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(-300, 300), st.integers(0, 3)), max_size=60)


@given(steps, st.integers(0, 400))
def test_counts_hold_whatever_happens(steps: list[tuple[str, int, int]], limit: int) -> None:
    pages = Pages(limit)
    slabs = make(nr_cpus=4, pages=pages, nodes=2)
    held = dict.fromkeys(NAMES, 0)

    def fits(cache: KmemCache) -> bool:
        return cache.num_objs >= held[cache.name]

    for name, n, cpu in steps:
        if n > 0 and slabs.alloc(name, n, cpu):
            held[name] += n
        elif n < 0:
            n = min(-n, held[name])
            slabs.free(name, n, cpu)
            held[name] -= n
        slabs.check()
        assert all(fits(slabs[name]) for name in NAMES)
        assert {name: slabs[name].nr_objects_inuse for name in NAMES} == held
    for name in NAMES:
        slabs.free(name, held[name])
        slabs[name].shrink()
    assert pages.used == 0
