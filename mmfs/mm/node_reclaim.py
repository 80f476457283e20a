"""zone_reclaim_mode: make room on a node before an allocation turns to another one.

With a bit of vm.zone_reclaim_mode set, an allocation that finds a near node at its low watermark has it shrunk first,
gently: what the page cache has beyond min_unmapped_ratio (with RECLAIM_UNMAP also what is mapped, with RECLAIM_WRITE
also what is dirty), and the slab beyond min_slab_ratio. The page allocator's loop stops for it (``reclaim_nodes``).

Linux: mm/vmscan.c, node_reclaim().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.fastpath.scan_control import ScanControl
from mmfs.mm.vmscan_node import DEF_PRIORITY
from mmfs.mm_types import GFP_DIRECT_RECLAIM_BIT, GFP_KERNEL, SWAP_CLUSTER_MAX, NodeStatItem, VmEventItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mmzone import PglistData

RECLAIM_ZONE, RECLAIM_WRITE, RECLAIM_UNMAP = 1, 2, 4
NODE_RECLAIM_PRIORITY: Final = 4
RECLAIM_DISTANCE: Final = 30
MAX_RECLAIM_RETRIES: Final = 16


def node_reclaim_mode_changed(kernel: Kernel) -> None:
    """Tell the page allocator which nodes are to be shrunk for which. Linux: zone_allows_reclaim()."""
    enabled = kernel.vm.zone_reclaim_mode & (RECLAIM_ZONE | RECLAIM_WRITE | RECLAIM_UNMAP)
    for pgdat in kernel.node_data:
        near = [nid for nid, distance in enumerate(pgdat.distances) if distance <= RECLAIM_DISTANCE]
        kernel.page_alloc.buddy.reclaim_nodes[pgdat.node_id] = sum(1 << nid for nid in near) if enabled else 0


def _percent_of_managed(pgdat: PglistData, ratio: int) -> int:
    return sum(zone.managed_pages * ratio // 100 for zone in pgdat.node_zones)


def node_pagecache_reclaimable(kernel: Kernel, pgdat: PglistData) -> int:
    """Pages of the page cache that this mode could take. Linux: node_pagecache_reclaimable()."""
    state, mode = kernel.vmstat.node_stat[pgdat.node_id], kernel.vm.zone_reclaim_mode
    if mode & RECLAIM_UNMAP:
        pages = int(state[NodeStatItem.NR_FILE_PAGES])
    else:
        file_lru = int(state[NodeStatItem.NR_INACTIVE_FILE] + state[NodeStatItem.NR_ACTIVE_FILE])
        pages = max(file_lru - int(state[NodeStatItem.NR_FILE_MAPPED]), 0)
    return pages if mode & RECLAIM_WRITE else max(pages - int(state[NodeStatItem.NR_FILE_DIRTY]), 0)


def _worth_it(kernel: Kernel, pgdat: PglistData) -> bool:
    slab = int(kernel.vmstat.node_stat[pgdat.node_id, NodeStatItem.NR_SLAB_RECLAIMABLE_B])
    return node_pagecache_reclaimable(kernel, pgdat) > _percent_of_managed(
        pgdat, kernel.vm.min_unmapped_ratio
    ) or slab > _percent_of_managed(pgdat, kernel.vm.min_slab_ratio)


def node_reclaim(kernel: Kernel, pgdat: PglistData, gfp: int, order: int) -> None:
    """Shrink a node for an allocation that would else go elsewhere. Linux: node_reclaim(), __node_reclaim()."""
    buddy = kernel.page_alloc.buddy
    if not _worth_it(kernel, pgdat) or not gfp & GFP_DIRECT_RECLAIM_BIT:
        return
    if pgdat.cpus and pgdat.node_id != int(buddy.cpu_nodes[buddy.cpu]):
        return
    mode, nr_pages = kernel.vm.zone_reclaim_mode, 1 << order
    highest = kernel.page_alloc.gfp_zone(gfp)
    sc = ScanControl(gfp, order, NODE_RECLAIM_PRIORITY, highest, max(nr_pages, SWAP_CLUSTER_MAX))
    sc.may_writepage, sc.may_unmap, sc.may_swap = bool(mode & RECLAIM_WRITE), bool(mode & RECLAIM_UNMAP), True
    success = _shrink(kernel, pgdat, nr_pages, sc) >= nr_pages
    kernel.vmstat.count_vm_events(VmEventItem.ZONE_RECLAIM_SUCCESS if success else VmEventItem.ZONE_RECLAIM_FAILED)


def _shrink(kernel: Kernel, pgdat: PglistData, nr_pages: int, sc: ScanControl) -> int:
    """Shrink a node harder and harder; how many pages that gave. Linux: __node_reclaim()."""
    while sc.nr_reclaimed < nr_pages and sc.priority >= 0:
        node = kernel.reclaim.shrink_node(pgdat, sc)
        while not node.step():
            kernel.reclaim.cond_resched(kernel.tasks.current)
        sc.priority -= 1
    kernel.reclaim.cond_resched(kernel.tasks.current)
    return int(sc.nr_reclaimed)


def reclaim_from_node(kernel: Kernel, pgdat: PglistData, nr_to_reclaim: int, swappiness: int) -> bool:
    """Take so many pages of a node, as somebody has asked for; whether that could be done.

    Linux 6.18: mm/vmscan.c, user_proactive_reclaim().
    """
    reclaimed, retries = 0, MAX_RECLAIM_RETRIES
    with kernel.memcgs.for_a_writer():
        while reclaimed < nr_to_reclaim:
            if not retries:
                kernel.lru.lru_add_drain_all()
            batch, got = (nr_to_reclaim - reclaimed) // 4, 0
            if _worth_it(kernel, pgdat):
                highest = kernel.page_alloc.gfp_zone(GFP_KERNEL)
                sc = ScanControl(GFP_KERNEL, 0, DEF_PRIORITY, highest, max(batch, SWAP_CLUSTER_MAX))
                sc.may_writepage = sc.may_swap = sc.proactive = sc.count_proactive = True
                sc.swappiness = swappiness
                got = _shrink(kernel, pgdat, batch, sc)
            if not got:
                retries -= 1
                if retries < 0:
                    return False
            reclaimed += got
    return True
