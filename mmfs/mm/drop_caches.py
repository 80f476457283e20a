"""Giving up, on request, what is only cached.

Pages of files that are clean and that nobody maps leave the page cache; those of tmpfs have no other copy and stay.
What the slab keeps and can have again (names, inodes without pages) goes as the shrinkers let it.

Linux: fs/drop_caches.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.mm.truncate import invalidate_mapping_pages
from mmfs.mm_types import VmEventItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

DROP_PAGECACHE: Final = 1
DROP_SLAB: Final = 2
DROP_SILENT: Final = 4


def drop_pagecache(kernel: Kernel) -> int:
    """Drop the clean and unmapped pages of all files; how many there were. Linux: drop_pagecache_sb()."""
    kernel.lru.lru_add_drain_all()
    mappings = list(kernel.page_cache.mappings.values())
    return sum(
        invalidate_mapping_pages(mapping)
        for mapping in mappings
        if not mapping.host.shmem and (mapping.nrpages or mapping.slots().any())
    )


def drop_slab(kernel: Kernel) -> None:
    """Have everything go that the slab keeps and nobody uses. Linux: mm/vmscan.c, drop_slab()."""
    nodes = [pgdat.node_id for pgdat in kernel.node_data if pgdat.node_present_pages]
    rows = [memcg.row * kernel.lru.nr_nodes for memcg in kernel.memcgs.root.descendants()]
    kernel.reclaim.shrinkers.drop_slab([row + nid for nid in nodes for row in rows])


def drop_caches(kernel: Kernel, what: int, comm: str, pid: int) -> None:
    """Do as vm.drop_caches says, for a task. Linux: fs/drop_caches.c, drop_caches_sysctl_handler()."""
    if what & DROP_PAGECACHE:
        drop_pagecache(kernel)
        kernel.vmstat.count_vm_events(VmEventItem.DROP_PAGECACHE)
    if what & DROP_SLAB:
        drop_slab(kernel)
        kernel.vmstat.count_vm_events(VmEventItem.DROP_SLAB)
    if not kernel.vm.drop_caches_silent:
        kernel.printk.emit(f"{comm} ({pid}): drop_caches: {what}")
    kernel.vm.drop_caches_silent |= bool(what & DROP_SILENT)
