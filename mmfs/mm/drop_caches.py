"""Giving up, on request, what is only cached.

Pages of files that are clean and that nobody maps leave the page cache; those of tmpfs have no other copy and stay.

Linux: fs/drop_caches.c; mm/truncate.c, invalidate_mapping_pages().

Simplified: names and inodes stay in the slab, so nothing of it becomes free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from mmfs.mm_types import PG_DIRTY, PG_WRITEBACK, VmEventItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.filemap import AddressSpace

DROP_PAGECACHE: Final = 1
DROP_SLAB: Final = 2
DROP_SILENT: Final = 4


def invalidate_mapping_pages(mapping: AddressSpace) -> int:
    """Drop the clean and unmapped pages of a file; how many there were."""
    kernel = mapping.kernel
    mmu = kernel.mmu
    record = mmu.folios.mappings[mapping.id]
    base, slots = int(record["base"]), int(record["slots"])
    used = mmu.folios.slots[base : base + slots]
    cached = np.flatnonzero(used)
    pages = kernel.frames.pages[(used[cached] - np.uint64(1)).astype(np.int64)]
    unused = (pages["mapcount"] == 0) & (pages["flags"] & (PG_DIRTY | PG_WRITEBACK) == 0)
    for index in cached[unused].tolist():
        mmu.folios.page_cache_delete(mapping.id, index)
    return int(unused.sum())


def drop_pagecache(kernel: Kernel) -> int:
    """Drop the clean and unmapped pages of all files; how many there were. Linux: drop_pagecache_sb()."""
    kernel.lru.lru_add_drain_all()
    mappings = list(kernel.page_cache.mappings.values())
    return sum(invalidate_mapping_pages(mapping) for mapping in mappings if not mapping.host.shmem and mapping.nrpages)


def drop_caches(kernel: Kernel, what: int, comm: str, pid: int) -> None:
    """Do as vm.drop_caches says, for a task. Linux: fs/drop_caches.c, drop_caches_sysctl_handler()."""
    if what & DROP_PAGECACHE:
        drop_pagecache(kernel)
        kernel.vmstat.count_vm_events(VmEventItem.DROP_PAGECACHE)
    if what & DROP_SLAB:
        kernel.vmstat.count_vm_events(VmEventItem.DROP_SLAB)
    if not kernel.vm.drop_caches_silent:
        kernel.printk.emit(f"{comm} ({pid}): drop_caches: {what}")
    kernel.vm.drop_caches_silent |= bool(what & DROP_SILENT)
