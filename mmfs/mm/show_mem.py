"""How much memory there is and how much is to be had: what /proc/meminfo and sysinfo(2) sum up.

"Free" is what the buddy allocator holds. "Available" is an estimate of what a new workload can get without
swapping: free memory less what the kernel reserves, plus the page cache and the reclaimable slab, of each
of which half, but no more than the low watermarks, is taken to be needed.

Linux: mm/show_mem.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mmfs.mm_types import PAGE_SHIFT, NodeStatItem, ZoneStatItem

IN_BYTES: Final = (NodeStatItem.NR_SLAB_RECLAIMABLE_B, NodeStatItem.NR_SLAB_UNRECLAIMABLE_B)
"""Counted in bytes, printed in pages. Linux: include/linux/mmzone.h, vmstat_item_in_bytes()."""


def node_page_state_pages(state: Sequence[int]) -> list[int]:
    """A row of node counters with all memory in pages.

    Linux: mm/vmstat.c, node_page_state_pages().
    """
    pages = list(state)
    for item in IN_BYTES:
        pages[item] >>= PAGE_SHIFT
    return pages


def si_mem_available(
    zone_state: Sequence[int], node_state: Sequence[int], totalreserve_pages: int, wmark_low: int
) -> int:
    """Pages to be had without swapping, from the machine's zone and node counters, all in pages.

    ``wmark_low`` is the sum of the low watermarks of all zones.

    Linux: mm/show_mem.c, si_mem_available().
    """
    available = zone_state[ZoneStatItem.NR_FREE_PAGES] - totalreserve_pages
    pagecache = node_state[NodeStatItem.NR_ACTIVE_FILE] + node_state[NodeStatItem.NR_INACTIVE_FILE]
    available += pagecache - min(pagecache // 2, wmark_low)
    reclaimable = (
        node_state[NodeStatItem.NR_SLAB_RECLAIMABLE_B] + node_state[NodeStatItem.NR_KERNEL_MISC_RECLAIMABLE]
    )
    available += reclaimable - min(reclaimable // 2, wmark_low)
    return max(available, 0)
