"""Moving the pages of a process to other nodes, because somebody asks for it or its cpuset has changed.

Linux: mm/migrate.c, do_pages_move(), do_pages_stat(); mm/mempolicy.c, do_migrate_pages().

Simplified: a node that has no page above its low watermark is full (ENOMEM): nothing is reclaimed to make room.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from errno import EFAULT, ENOENT
from typing import TYPE_CHECKING, Final

import numpy as np

from mmfs.mm import hugetlb_migrate
from mmfs.mm.mman import VM_IO, VM_PFNMAP
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE, PAGEBLOCK_ORDER, PTE_GLOBAL, PTE_PFN_MASK, PTE_PRESENT, PTE_SPECIAL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mm_struct import MmStruct

CHUNK_PAGES: Final = 1 << 16


def mapped_pages(mm: MmStruct, start: int, end: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Addresses and frames of the pages that are mapped in a range, some at a time; not those of pools."""
    for vma in mm.mt:
        if vma.vm_flags & (VM_IO | VM_PFNMAP) or vma.is_hugetlb():
            continue
        at, stop = max(vma.vm_start, start), min(vma.vm_end, end)
        while at < stop:
            raw = np.zeros(min((stop - at) // PAGE_SIZE, CHUNK_PAGES), np.uint64)
            mm.kernel.task_mmu.read_entries(mm.row, at, raw)
            mapped = raw & np.uint64(PTE_PRESENT | PTE_GLOBAL) != 0
            here = np.flatnonzero(mapped & (raw & np.uint64(PTE_SPECIAL) == 0))
            if len(here):
                yield at + here * PAGE_SIZE, (raw[here] & np.uint64(PTE_PFN_MASK)).astype(np.int64) >> PAGE_SHIFT
            at += len(raw) * PAGE_SIZE


def nodes_of(mm: MmStruct, pfns: NDArray[np.int64]) -> NDArray[np.int64]:
    """On which nodes frames lie."""
    node_of_zone = np.array([zone.zone_pgdat.node_id for zone in mm.kernel.zones])
    nodes: NDArray[np.int64] = node_of_zone[mm.kernel.frames.blocks["zone"][pfns >> PAGEBLOCK_ORDER]]
    return nodes


def move_pages(kernel: Kernel, pfns: NDArray[np.int64], nid: int, shared: bool) -> NDArray[np.int32]:
    """Move pages to a node; of each the node, or a negative errno. The running task pays for it."""
    status = np.zeros(len(pfns), np.int32)
    migration = kernel.mmu.compaction.migration
    migration.move_pages(pfns, nid, shared, status)
    kernel.compactor.loops.cpu_ns += migration.cpu_ns
    migration.cpu_ns = 0
    kernel.compactor.charge(kernel.tasks.current)
    return status


def node_remap(nid: int, old: Sequence[int], new: Sequence[int]) -> int:
    """The node that takes the place of another in a set. Linux: include/linux/nodemask.h, node_remap()."""
    return new[old.index(nid) % len(new)] if nid in old else nid


def migration_steps(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Which node's pages move where, in an order that moves none twice. Linux: do_migrate_pages()."""
    left = list(old)
    while left:
        source = dest = -1
        for nid in left:
            if len(old) != len(new) and nid in new:
                continue
            target = node_remap(nid, old, new)
            if target == nid:
                continue
            source, dest = nid, target
            if dest not in left:
                break
        if source < 0:
            return
        left.remove(source)
        yield source, dest


def do_migrate_pages(mm: MmStruct, old: Sequence[int], new: Sequence[int], shared: bool = False) -> int:
    """Move all pages of some nodes to others; how many stayed. Linux: mm/mempolicy.c, do_migrate_pages()."""
    failed = 0
    mm.kernel.lru.lru_add_drain_all()  # Linux: lru_cache_disable()
    for source, dest in migration_steps(sorted(old), sorted(new)):
        for _, pfns in mapped_pages(mm, 0, mm.task_size):
            status = move_pages(mm.kernel, pfns[nodes_of(mm, pfns) == source], dest, shared)
            failed += int((status < 0).sum())
        failed += hugetlb_migrate.migrate_to_node(mm, source, dest, shared)
    return failed


def do_pages_move(mm: MmStruct, pages: Sequence[int], nodes: Sequence[int] | None, shared: bool) -> list[int]:
    """Where pages are, or with `nodes` move each to one; of each its node or a negative errno.

    EFAULT: not mapped, ENOENT: no page, EACCES: several map it, EBUSY, ENOMEM. Linux: do_pages_move(), do_pages_stat().
    """
    if nodes is not None:
        mm.kernel.lru.lru_add_drain_all()  # Linux: lru_cache_disable()
    status = [-EFAULT if mm.vma_lookup(addr) is None else -ENOENT for addr in pages]
    for number, addr in enumerate(pages):
        vma = mm.vma_lookup(addr)
        if vma is not None and vma.is_hugetlb():
            status[number] = hugetlb_migrate.move_page(vma, addr, None if nodes is None else nodes[number], shared)
            continue
        start = addr & -PAGE_SIZE
        for _, pfns in mapped_pages(mm, start, start + PAGE_SIZE):
            where = nodes_of(mm, pfns) if nodes is None else move_pages(mm.kernel, pfns, nodes[number], shared)
            status[number] = int(where[0])
    return status
