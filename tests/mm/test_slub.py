"""Slab caches: Linux's own geometry, pages that are really taken, counts that agree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfs.fastpath.buddy import Buddy
from mmfs.fastpath.memcontrol import Memcontrol
from mmfs.fastpath.obj_cgroup import ObjCgroups
from mmfs.fastpath.slub import Slub
from mmfs.mm.slab_common import TASK_CACHES, SlabCaches
from mmfs.mm.slub import calculate_order, get_order
from mmfs.mm.vmstat import VmStat
from mmfs.mm_types import (
    ALLOC_WMARK_MIN,
    BLK_RESERVED,
    GFP_KERNEL,
    GFP_RECLAIMABLE_BIT,
    MAX_NR_ZONES,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
    PAGE_SIZE,
    PG_HEAD,
    PG_SLAB,
    PG_TAIL,
    ZONE_NORMAL,
    NodeStatItem,
    ZoneStatItem,
)
from mmfs.profile import load_profile

if TYPE_CHECKING:
    from mmfs.mm.page_alloc import PageAllocator

CAPTURES = Path(__file__).parents[1] / "golden" / "captures"
NODE_PAGES = 1 << 16


class Pages:
    """A page allocator of so many pages a node, the first pageblock of each reserved; `limit` is what may be taken."""

    def __init__(self, nr_cpus: int = 2, nodes: int = 1, node_pages: int = NODE_PAGES) -> None:
        self.vmstat = VmStat(nodes)
        self.node_pages = node_pages
        self.buddy = Buddy.of_machine(node_pages * nodes, self.vmstat, nodes, nr_cpus, 64)
        areas = self.buddy.areas
        for nid in range(nodes):
            start, end, index = nid * node_pages, (nid + 1) * node_pages, nid * MAX_NR_ZONES + ZONE_NORMAL
            zone = self.buddy.zones[index]
            zone["start_pfn"], zone["end_pfn"], zone["managed"], zone["zid"] = start, end, node_pages, ZONE_NORMAL
            zone["nid"] = nid
            areas.init_zone_range(index, start, end, MIGRATE_MOVABLE, BLK_RESERVED)
            self.buddy.frames.blocks["state"][start >> 9 : end >> 9] = 0
            self.buddy.frames.blocks["zone"][start >> 9 : end >> 9] = index
            areas.free_range(index, start, end)
            self.buddy.zonelists[nid, :nodes] = [
                other * MAX_NR_ZONES + ZONE_NORMAL for other in sorted(range(nodes), key=lambda other: other != nid)
            ]
        self.buddy.cpu_nodes[:] = [cpu * nodes // nr_cpus for cpu in range(nr_cpus)]

    @property
    def used(self) -> int:
        return self.node_pages * len(self.vmstat.node_stat) - self.vmstat.global_zone_page_state(
            ZoneStatItem.NR_FREE_PAGES
        )

    def alloc_pages(self, gfp: int, order: int = 0, nid: int | None = None) -> int:
        nid = int(self.buddy.cpu_nodes[self.buddy.cpu]) if nid is None else nid
        migratetype = MIGRATE_RECLAIMABLE if gfp & GFP_RECLAIMABLE_BIT else MIGRATE_UNMOVABLE
        return int(self.buddy.alloc_pages(order, migratetype, nid, ZONE_NORMAL, ALLOC_WMARK_MIN))

    def free_pages(self, pfn: int, order: int = 0) -> None:
        self.buddy.frames.pages[pfn]["flags"] = 0
        self.buddy.free_pages(pfn, order)

    def page_to_nid(self, pfn: int) -> int:
        return pfn // self.node_pages


def make(nr_cpus: int = 2, nodes: int = 1, node_pages: int = NODE_PAGES) -> SlabCaches:
    pages = Pages(nr_cpus, nodes, node_pages)
    memcg = Memcontrol(pages.buddy, pages.vmstat, nodes)
    return SlabCaches(cast("PageAllocator", pages), Slub(ObjCgroups(memcg), pages.vmstat), load_profile())


def used(slabs: SlabCaches) -> int:
    return cast("Pages", slabs.pages).used


def take(slabs: SlabCaches, name: str, n: int = 1, cpu: int = 0) -> list[int]:
    """Objects from a CPU; none if there are not all of them."""
    slabs.pages.buddy.cpu = cpu
    found = [slabs.alloc(name) for _ in range(n)]
    if 0 in found:
        give(slabs, [obj for obj in found if obj])
        return []
    return found


def give(slabs: SlabCaches, objects: list[int], cpu: int = 0) -> None:
    slabs.pages.buddy.cpu = cpu
    for obj in objects:
        slabs.free(obj)


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
    slabs = make()
    cache = slabs["task_struct"]
    objects = take(slabs, "task_struct", 10)
    assert len(set(objects)) == 10
    assert (cache.nr_slabs, cache.num_objs, cache.active_objs, cache.nr_objects_inuse) == (4, 12, 12, 10)
    assert used(slabs) == 4 * 8
    assert slabs.vmstat.global_node_page_state(NodeStatItem.NR_SLAB_UNRECLAIMABLE_B) == 32 * PAGE_SIZE
    slabs.check()
    give(slabs, objects)
    assert cache.nr_objects_inuse == 0
    assert cache.shrink() == 4
    assert used(slabs) == 0
    slabs.check()


def test_full_slabs_that_lose_an_object_join_the_cpus_list_and_then_the_nodes() -> None:
    """cpu_partial 120 and 39 objects a slab: 7 slabs on the CPU's list; empty ones beyond min_partial are given up."""
    slabs = make()
    cache = slabs["buffer_head"]
    assert int(cache.record["cpu_partial_slabs"]) == 7
    objects = take(slabs, "buffer_head", 39 * 100)
    give(slabs, objects[: 39 * 7])
    assert (int(cache.cpus["partial_slabs"][0]), int(cache.nodes["nr_partial"][0])) == (7, 0)
    assert cache.active_objs == cache.num_objs  # what a CPU keeps counts as in use
    give(slabs, objects[39 * 7 : 39 * 99])
    slabs.check()
    # 99 slabs came to the CPU's list, each eighth to a full one, which then went to the node: one is left there.
    assert (cache.nr_slabs, int(cache.nodes["nr_partial"][0])) == (5 + 1 + 1, 5)
    assert cache.active_objs == cache.num_objs - 5 * 39


def test_a_slab_is_held_by_its_last_object() -> None:
    slabs = make()
    cache = slabs["dentry"]
    objects = take(slabs, "dentry", 21 * 50)
    give(slabs, [obj for n, obj in enumerate(objects) if n % 21])
    assert (cache.shrink(), cache.nr_slabs, cache.nr_objects_inuse) == (0, 50, 50)
    slabs.check()
    more = take(slabs, "dentry", 20 * 50)
    assert cache.nr_slabs == 50  # holes are filled before there are new slabs
    give(slabs, more + objects[::21])
    assert (cache.shrink() > 0, used(slabs)) == (True, 0)


def test_shrinking_sorts_the_fullest_first() -> None:
    slabs = make()
    cache = slabs["dentry"]
    objects = take(slabs, "dentry", 21 * 4)
    kept = (3, 20, 11, 7)
    give(slabs, [obj for n, obj in enumerate(objects) if n % 21 >= kept[n // 21]])
    cache.shrink()
    slabs.check()
    order = [int(slabs.fast.slabs[slab]["inuse"]) for slab in slabs.fast.partial(cache.index, 0)]
    assert order == [20, 11, 7, 3]


def test_reclaimable_caches_say_so_to_the_page_allocator() -> None:
    slabs = make()
    take(slabs, "dentry")
    pfn = int(slabs.fast.slabs[1]["pfn"])
    assert slabs.fast.frames.blocks[pfn >> 9]["migratetype"] == MIGRATE_RECLAIMABLE
    assert slabs.vmstat.global_node_page_state(NodeStatItem.NR_SLAB_RECLAIMABLE_B) == PAGE_SIZE


def test_pages_of_slabs_are_marked_and_unmarked() -> None:
    slabs = make()
    objects = take(slabs, "kmalloc-1k")
    pfn = int(slabs.fast.slabs[1]["pfn"])
    flags = slabs.fast.frames.pages["flags"]
    assert flags[pfn : pfn + 4].tolist() == [PG_SLAB | PG_HEAD, *[PG_SLAB | PG_TAIL] * 3]
    give(slabs, objects)
    slabs["kmalloc-1k"].shrink()
    assert not (flags[pfn : pfn + 4] & PG_SLAB).any()


def test_each_cpu_has_a_slab_of_its_own_on_its_node() -> None:
    slabs = make(nr_cpus=2, nodes=2)
    for cpu in (0, 1):
        take(slabs, "filp", 1, cpu)
    assert slabs["filp"].nr_slabs == 2
    for nid in (0, 1):
        assert slabs.vmstat.node_page_state(nid, NodeStatItem.NR_SLAB_UNRECLAIMABLE_B) == PAGE_SIZE


@pytest.mark.parametrize(("ratio", "new_slabs"), [(1000, 0), (0, 1)])
def test_another_nodes_partial_slabs_are_used_if_that_has_many(ratio: int, new_slabs: int) -> None:
    slabs = make(nr_cpus=2, nodes=2)
    cache = slabs["dentry"]
    cache.record["remote_node_defrag_ratio"] = ratio
    objects = take(slabs, "dentry", 21 * 100, cpu=1)
    give(slabs, objects[::2], cpu=1)
    before = cache.nr_slabs
    assert int(cache.nodes["nr_partial"][1]) > int(cache.record["min_partial"])
    take(slabs, "dentry", 1, cpu=0)
    assert cache.nr_slabs - before == new_slabs
    slabs.check()


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
    slabs = make()
    obj = slabs.kmalloc(8193)
    assert slabs.vmstat.global_node_page_state(NodeStatItem.NR_SLAB_UNRECLAIMABLE_B) == 4 * PAGE_SIZE
    slabs.check()
    slabs.kfree(obj)
    assert used(slabs) == 0
    slabs.check()


def test_without_memory_nothing_is_taken() -> None:
    slabs = make(node_pages=1024)
    assert take(slabs, "task_struct", 1000) == []
    assert slabs["task_struct"].nr_objects_inuse == 0
    slabs.check()


def test_without_large_runs_slabs_are_smaller() -> None:
    slabs = make(node_pages=1024)
    singles = [slabs.pages.alloc_pages(GFP_KERNEL) for _ in range(1024)]
    for pfn in singles[::2]:
        slabs.pages.free_pages(pfn)
    assert len(take(slabs, "kmalloc-1k", 10)) == 10
    assert (slabs["kmalloc-1k"].nr_slabs, slabs["kmalloc-1k"].num_objs) == (3, 12)
    slabs.check()


def test_freeing_what_is_not_in_use_is_an_error() -> None:
    slabs = make()
    (obj,) = take(slabs, "dentry")
    slabs.free(obj)
    for wrong in (obj, obj + 1, 0, 1 << 40, -5):
        with pytest.raises(AssertionError, match="not in use"):
            slabs.free(wrong)


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
    tasks -= sum(slabs[name].nr_slabs << slabs[name].order for name in TASK_CACHES)
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
steps = st.lists(
    st.tuples(st.sampled_from([*NAMES, "shrink"]), st.integers(-300, 300), st.integers(0, 3), st.integers(0, 7)),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(steps, st.sampled_from([1024, 2048]))
def test_counts_hold_whatever_happens(steps: list[tuple[str, int, int, int]], node_pages: int) -> None:
    slabs = make(nr_cpus=4, nodes=2, node_pages=node_pages)
    held: dict[str, list[int]] = {name: [] for name in NAMES}
    for name, n, cpu, stride in steps:
        if name == "shrink":
            slabs[NAMES[n % 3]].shrink()
        elif n > 0:
            held[name] += take(slabs, name, n, cpu)
        else:
            gone = held[name][:: stride + 1][:-n]
            held[name] = [obj for obj in held[name] if obj not in set(gone)]
            give(slabs, gone, cpu)
        slabs.check()
        assert {name: slabs[name].nr_objects_inuse for name in NAMES} == {name: len(held[name]) for name in NAMES}
    for name in NAMES:
        give(slabs, held[name])
        slabs[name].shrink()
    assert used(slabs) == 0
