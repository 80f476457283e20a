"""The invariants of memory cgroups: each page and swap slot is charged to one, and sums hold up the tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmfs.mm_types import (
    BLK_SPLIT,
    MEMCG_COUNTER_KMEM,
    MEMCG_COUNTER_MEMORY,
    MEMCG_COUNTER_SWAP,
    NR_MEMCG_COUNTERS,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    MemcgStatItem,
    NodeStatItem,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


def _same(what: str, left: object, right: object) -> None:
    if left != right:
        raise AssertionError(f"{what}: {left} is not {right}")


def pages_by_row(kernel: Kernel, mapped_blocks: set[int]) -> dict[int, int]:
    """How many frames say that they are a row's, the root aside."""
    blocks = np.flatnonzero(kernel.frames.blocks[: kernel.frames.nr_blocks]["state"] == BLK_SPLIT)
    found: dict[int, int] = {}
    for block in blocks:
        first = int(block) << PAGEBLOCK_ORDER
        memcgs = kernel.frames.pages[first : first + PAGEBLOCK_NR_PAGES]["memcg"]
        if memcgs.any():
            for memcg, count in zip(*np.unique(memcgs, return_counts=True), strict=True):
                found[int(memcg)] = found.get(int(memcg), 0) + int(count)
    for whole in mapped_blocks:
        row = int(kernel.frames.blocks[whole]["memcg"])
        found[row] = found.get(row, 0) + PAGEBLOCK_NR_PAGES
    found.pop(0, None)
    return found


def check_memcgs(kernel: Kernel, mapped_blocks: set[int]) -> None:
    """Charges against what pages and slots say, counters against the sum of those below, totals against parts."""
    fast, rows = kernel.lru.memcg, kernel.memcgs.rows
    pages = pages_by_row(kernel, mapped_blocks)
    used = kernel.mmu.swap.slots.memcgs[: kernel.swap_files.end_of_slots()]
    slots = {int(row): int(n) for row, n in zip(*np.unique(used[used != 0], return_counts=True), strict=True)}
    stocks = [fast.stock(cpu) for cpu in range(kernel.page_alloc.buddy.nr_cpus)]
    for row in pages.keys() | slots.keys():
        if row not in rows:
            raise AssertionError(f"pages or slots are charged to memory cgroup {row}, which is not there")
    for row, memcg in rows.items():
        if not row:
            continue
        own, swapped = pages.get(row, 0), slots.get(row, 0)
        stock = sum(nr for owner, nr in stocks if owner == row)
        below = [rows[child.row] for child in memcg.children]
        _same(f"{memcg!r}: pages and slots", own + swapped, memcg.charged)
        usage = own + stock + sum(child.memory.usage for child in below)
        if not fast.memsw:
            _same(f"{memcg!r}: memory", usage, memcg.memory.usage)
            _same(f"{memcg!r}: swap", swapped + sum(child.swap.usage for child in below), memcg.swap.usage)
        kmem = int(kernel.vmstat.memcg_stat[row, MemcgStatItem.MEMCG_KMEM])
        _same(f"{memcg!r}: kernel memory", kmem + sum(child.kmem.usage for child in below), memcg.kmem.usage)
    for kind in (MEMCG_COUNTER_MEMORY, MEMCG_COUNTER_SWAP, MEMCG_COUNTER_KMEM):
        children = [child.row * NR_MEMCG_COUNTERS for child in kernel.memcgs.root.children]
        top = sum(int(fast.counters[first + kind]["usage"]) for first in children)
        _same(f"the root's counter {kind}", int(fast.counters[kind]["usage"]), top)
    check_totals(kernel)


def check_totals(kernel: Kernel) -> None:
    """The nodes' counters are the sum of all lruvecs' (what was counted in cgroups that are gone, the root has)."""
    kernel.lru.memcg.flush()
    vmstat, nr_nodes = kernel.vmstat, kernel.lru.nr_nodes
    shared = [
        NodeStatItem.NR_ANON_MAPPED, NodeStatItem.NR_FILE_MAPPED, NodeStatItem.NR_FILE_PAGES, NodeStatItem.NR_SHMEM,
        NodeStatItem.NR_FILE_DIRTY, NodeStatItem.NR_WRITEBACK, NodeStatItem.NR_SWAPCACHE, NodeStatItem.NR_PAGETABLE,
        NodeStatItem.NR_KERNEL_STACK_KB, NodeStatItem.NR_INACTIVE_ANON, NodeStatItem.NR_ACTIVE_ANON,
        NodeStatItem.NR_INACTIVE_FILE, NodeStatItem.NR_ACTIVE_FILE, NodeStatItem.NR_UNEVICTABLE,
    ]  # fmt: skip
    for nid in range(nr_nodes):
        own = sum(vmstat.lruvec_stat[row * nr_nodes + nid] for row in kernel.memcgs.rows)
        for item in shared:
            _same(f"node {nid}: {item.name} of all cgroups", int(own[item]), int(vmstat.node_stat[nid, item]))
            _same(
                f"node {nid}: {item.name} of the root", int(vmstat.lruvec_total[nid, item]), int(own[item])
            )
