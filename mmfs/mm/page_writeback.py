"""How many dirty pages there may be: thresholds in pages from the ratios or bytes of /proc/sys/vm.

Memory that may become dirty is what is free above the reserves and what the page cache holds. Beyond the
background threshold the flusher writes, beyond the other writers wait.

Linux: mm/page-writeback.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mmfs.mm_types import PAGE_SIZE, NodeStatItem, ZoneStatItem

_UINT_MAX = 0xFFFFFFFF


class DirtyLimits(Protocol):
    """The tunables that decide, by their names in /proc/sys/vm."""

    dirty_ratio: int
    dirty_bytes: int
    dirty_background_ratio: int
    dirty_background_bytes: int


def global_dirtyable_memory(zone_state: Sequence[int], node_state: Sequence[int], totalreserve_pages: int) -> int:
    """Pages that may become dirty.

    Linux: mm/page-writeback.c, global_dirtyable_memory().
    """
    free = zone_state[ZoneStatItem.NR_FREE_PAGES]
    free -= min(free, totalreserve_pages)
    return free + node_state[NodeStatItem.NR_INACTIVE_FILE] + node_state[NodeStatItem.NR_ACTIVE_FILE] + 1


def global_dirty_limits(vm: DirtyLimits, dirtyable: int) -> tuple[int, int]:
    """(background threshold, threshold) in pages.

    Linux: mm/page-writeback.c, domain_dirty_limits().
    """
    thresh = _threshold(vm.dirty_bytes, vm.dirty_ratio, dirtyable)
    bg_thresh = _threshold(vm.dirty_background_bytes, vm.dirty_background_ratio, dirtyable)
    thresh = min(thresh, _UINT_MAX)
    return (bg_thresh if bg_thresh < thresh else thresh // 2), thresh


def _threshold(limit_bytes: int, ratio: int, dirtyable: int) -> int:
    if limit_bytes:
        return -(-limit_bytes // PAGE_SIZE)
    return ratio * PAGE_SIZE // 100 * dirtyable // PAGE_SIZE
