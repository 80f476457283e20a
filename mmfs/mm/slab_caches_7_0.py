"""The slab caches of a 7.0 kernel: 6.12's (`mm/slab_caches.py`), but for those of address spaces.

An area is locked by a count of its own since 6.15, so there is no cache of locks, and it fills three cache lines. What
khugepaged and KSM keep of an address space has a common cache since 6.18.

Linux: kernel/fork.c, vma_state_init(); mm/khugepaged.c, khugepaged_init().

Simplified: sizes and counts of the other caches are 6.12's, those that came since are not there (mem_cgroup,
mem_cgroup_per_node, zspage, zs_handle, pidfs_attr_cache, bfilp); objects wait on CPUs in slabs, not in sheaves.
"""

from __future__ import annotations

from typing import Final

from mmfs.mm import slab_caches
from mmfs.mm.slab_caches import CONSTRUCTORS, KMALLOC_LARGE_PAGES, USERSIZES

__all__ = ["ALIASES", "CONSTRUCTORS", "KMALLOC_LARGE_PAGES", "RENAMED", "SLAB_CACHES", "USERSIZES"]

CHANGED: Final = {
    "vma_lock 40 40 8 am": "pde_opener 40 40 8 am",
    "vm_area_struct 176 176 8 am": "vm_area_struct 192 192 64 hua",
    "khugepaged_mm_slot": "mm_slot",
}


def _changed(rows: str) -> str:
    for old, new in CHANGED.items():
        rows = rows.replace(old, new)
    return rows


SLAB_CACHES: Final = _changed(slab_caches.SLAB_CACHES)
ALIASES: Final = _changed(slab_caches.ALIASES.replace("vma_lock: pde_opener\n", ""))
RENAMED: Final = {"khugepaged_mm_slot": "mm_slot"}
"""What the model calls by its name in 6.12: which cache has it here."""
