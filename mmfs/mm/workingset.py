"""What is given back of the memory of evicted pages: nodes of files' trees in which there is nothing but shadows.

A file that was read once and evicted leaves its whole tree behind. More shadows than there could be pages on an
active list tell nothing, so nodes of shadows beyond an eighth of that, at one shadow a node, are objects that the
shrinker may have (fastpath/xa_nodes.py).

Linux: mm/workingset.c, shadow_nodes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from mmfs.mm.shrinker import SHRINK_BATCH, Shrinker
from mmfs.mm_types import NR_LRU_LISTS, PAGE_SHIFT, NodeStatItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

XA_CHUNK_SHIFT: Final = 6


def count_shadow_nodes(kernel: Kernel, lruvec: int) -> int:
    """How many nodes of shadows a lruvec has too many. Linux: count_shadow_nodes()."""
    nodes = int(kernel.mmu.folios.nodes.nr_shadow_nodes(lruvec))
    if not nodes:
        return 0
    if lruvec < kernel.lru.nr_nodes:
        pages = kernel.node_data[lruvec].node_present_pages
    else:
        local = kernel.vmstat.lruvec_stat[lruvec]
        pages = int(local[NodeStatItem.NR_INACTIVE_ANON : NodeStatItem.NR_INACTIVE_ANON + NR_LRU_LISTS].sum())
        for item in (NodeStatItem.NR_SLAB_RECLAIMABLE_B, NodeStatItem.NR_SLAB_UNRECLAIMABLE_B):
            pages += int(local[item]) >> PAGE_SHIFT
    return max(nodes - (pages >> XA_CHUNK_SHIFT - 3), 0)


def scan_shadow_nodes(kernel: Kernel, lruvec: int, nr_to_scan: int) -> int:
    """Have the oldest go. Linux: scan_shadow_nodes()."""
    return int(kernel.mmu.folios.nodes.scan_shadow_nodes(lruvec, nr_to_scan))


def workingset_shrinker(kernel: Kernel) -> Shrinker:
    """Linux: workingset_init()."""
    count, scan = partial(count_shadow_nodes, kernel), partial(scan_shadow_nodes, kernel)
    return Shrinker("mm-shadow", count, scan, 0, SHRINK_BATCH, memcg_aware=True)
