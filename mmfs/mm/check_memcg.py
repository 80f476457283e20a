"""The invariants of memory cgroups: each page and swap slot is charged to one, and sums hold up the tree."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from mmfs.mm.folio import large_folios, nr_pages
from mmfs.mm_types import (
    BLK_SPLIT,
    MEMCG_COUNTER_KMEM,
    MEMCG_COUNTER_MEMORY,
    MEMCG_COUNTER_SWAP,
    NR_MEMCG_COUNTERS,
    PAGE_SIZE,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    PG_MEMCG_KMEM,
    MemcgStatItem,
    NodeStatItem,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


def _same(what: str, left: object, right: object) -> None:
    if left != right:
        raise AssertionError(f"{what}: {left} is not {right}")


def pages_by_row(kernel: Kernel) -> tuple[dict[int, int], Counter[int]]:
    """How many frames say that they are a row's, the root aside; of how many of them the kernel has the use."""
    blocks = np.flatnonzero(kernel.frames.blocks[: kernel.frames.nr_blocks]["state"] == BLK_SPLIT)
    found: dict[int, int] = {}
    kmem: Counter[int] = Counter()
    for block in blocks:
        first = int(block) << PAGEBLOCK_ORDER
        pages = kernel.frames.pages[first : first + PAGEBLOCK_NR_PAGES]
        memcgs = pages["memcg"]
        kmem.update(memcgs[pages["flags"] & PG_MEMCG_KMEM != 0].tolist())
        if memcgs.any():
            for memcg, count in zip(*np.unique(memcgs, return_counts=True), strict=True):
                found[int(memcg)] = found.get(int(memcg), 0) + int(count)
    folios = large_folios(kernel.frames)
    rows, sizes = kernel.frames.pages["memcg"][folios].tolist(), nr_pages(kernel.frames, folios).tolist()
    for row, size in zip(rows, sizes, strict=True):
        found[row] = found.get(row, 0) + size
    found.pop(0, None)
    return found, kmem


def check_memcgs(kernel: Kernel) -> None:
    """Charges against what pages and slots say, counters against the sum of those below, totals against parts."""
    fast, rows = kernel.lru.memcg, kernel.memcgs.rows
    objcg_pages = check_objcgs(kernel)
    pages, kmem_pages = pages_by_row(kernel)
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
        sock = int(kernel.vmstat.memcg_stat[row, MemcgStatItem.MEMCG_SOCK])
        pages_paid = own + stock + objcg_pages.get(row, 0) + sock
        usage = pages_paid + sum(child.memory.usage for child in below)
        in_swap = swapped + (pages_paid if fast.memsw else 0) + sum(child.swap.usage for child in below)
        _same(f"{memcg!r}: memory", usage, memcg.memory.usage)
        _same(f"{memcg!r}: {'memory and ' if fast.memsw else ''}swap", in_swap, memcg.swap.usage)
        _same(f"{memcg!r}: swapped", int(kernel.vmstat.memcg_stat[row, MemcgStatItem.MEMCG_SWAP]), swapped)
        kmem = int(kernel.vmstat.memcg_stat[row, MemcgStatItem.MEMCG_KMEM])
        _same(f"{memcg!r}: the kernel's pages", kmem_pages[row] + objcg_pages.get(row, 0), kmem)
        _same(f"{memcg!r}: kernel memory", kmem + sum(child.kmem.usage for child in below), memcg.kmem.usage)
    for kind in (MEMCG_COUNTER_MEMORY, MEMCG_COUNTER_SWAP, MEMCG_COUNTER_KMEM):
        children = [child.row * NR_MEMCG_COUNTERS for child in kernel.memcgs.root.children]
        top = sum(int(fast.counters.records[first + kind]["usage"]) for first in children)
        if kind != MEMCG_COUNTER_SWAP or fast.memsw:
            top += kmem_pages[0] + objcg_pages.get(0, 0)  # of cgroups that are gone
        _same(f"the root's counter {kind}", int(fast.counters.records[kind]["usage"]), top)
    for waiting in rows.values():
        above = {one.row for one in (*waiting.ancestors(), kernel.memcgs.root)}
        most = sum(limit.row in above for limit in kernel.memcgs.oom_waiters.values())
        _same(f"{waiting!r}: who waits at a limit, here or above", 0 <= waiting.under_oom <= most, True)
    check_totals(kernel)


def check_objcgs(kernel: Kernel) -> dict[int, int]:
    """The pages of each objcg hold what is charged to it, what stocks keep, and a rest; the pages by row."""
    objcgs, zswap, found = kernel.memcgs.objcgs, kernel.mmu.swap.slots.zswap, dict[int, int]()
    costs = kernel.slab.bytes_by_objcg()
    for objcg, size in kernel.percpu.charged.items():
        costs[objcg] = costs.get(objcg, 0) + size
    end = kernel.swap_files.end_of_slots()
    for slot in np.flatnonzero(zswap.objcgs[:end]):
        objcg = int(zswap.objcgs[slot])
        costs[objcg] = costs.get(objcg, 0) + int(zswap.pool.entries[slot]["length"])
    for cpu in range(kernel.page_alloc.buddy.nr_cpus):
        objcg, size = objcgs.stock(cpu)
        costs[objcg] = costs.get(objcg, 0) + size
    for objcg in range(1, objcgs.end):
        if not objcgs.refs[objcg]:
            _same(f"objcg {objcg}, which is gone: bytes", costs.get(objcg, 0), 0)
            continue
        size = costs.get(objcg, 0) + int(objcgs.nr_charged_bytes[objcg])
        _same(f"objcg {objcg}: bytes", size, int(objcgs.pages[objcg]) * PAGE_SIZE)
        row = int(objcgs.rows[objcg])
        found[row] = found.get(row, 0) + int(objcgs.pages[objcg])
    return found


def check_totals(kernel: Kernel) -> None:
    """The nodes' counters are the sum of all lruvecs' (what was counted in cgroups that are gone, the root has)."""
    kernel.lru.memcg.flush()
    vmstat, nr_nodes = kernel.vmstat, kernel.lru.nr_nodes
    shared = [
        NodeStatItem.NR_ANON_MAPPED, NodeStatItem.NR_FILE_MAPPED, NodeStatItem.NR_FILE_PAGES, NodeStatItem.NR_SHMEM,
        NodeStatItem.NR_FILE_DIRTY, NodeStatItem.NR_WRITEBACK, NodeStatItem.NR_SWAPCACHE, NodeStatItem.NR_PAGETABLE,
        NodeStatItem.NR_KERNEL_STACK_KB, NodeStatItem.NR_INACTIVE_ANON, NodeStatItem.NR_ACTIVE_ANON,
        NodeStatItem.NR_INACTIVE_FILE, NodeStatItem.NR_ACTIVE_FILE, NodeStatItem.NR_UNEVICTABLE,
        NodeStatItem.NR_ANON_THPS, NodeStatItem.NR_SHMEM_THPS,
    ]  # fmt: skip
    for nid in range(nr_nodes):
        own = sum(vmstat.lruvec_stat[row * nr_nodes + nid] for row in kernel.memcgs.rows)
        for item in shared:
            _same(f"node {nid}: {item.name} of all cgroups", int(own[item]), int(vmstat.node_stat[nid, item]))
            _same(
                f"node {nid}: {item.name} of the root", int(vmstat.lruvec_total[nid, item]), int(own[item])
            )
