"""Shrinkers: who keeps objects in the slab that can be had again, and gives some back when memory is short.

A cache registers how many of its objects could go (`count_objects`) and a way to make some go (`scan_objects`). Reclaim
asks all of them for a share of their objects that grows as its priority rises, as it does of pages; what is too
little to be worth a call is remembered for the next time. Those that know which cgroup pays for an object are
asked for each cgroup, by the number of its lruvec (which is the node's, for the root), the others for each node.

Linux: mm/shrinker.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mmfs.mm_types import NodeStatItem, VmEventItem

if TYPE_CHECKING:
    from mmfs.mm.vmstat import VmStat

SHRINK_BATCH: Final = 128
SUPER_BATCH: Final = 1024
"""The batch of a file system's names and inodes. Linux: fs/super.c, alloc_super()."""
DEFAULT_SEEKS: Final = 2
"""How much dearer than a page of the page cache an object is to get back. Linux: include/linux/shrinker.h."""


class Shrinker:
    """One cache that can shrink.

    Both functions take a node, or (`memcg_aware`) a lruvec; `scan_objects` also how many, and returns how many went.

    Linux: struct shrinker.
    """

    def __init__(
        self,
        name: str,
        count_objects: Callable[[int], int],
        scan_objects: Callable[[int, int], int],
        seeks: int = DEFAULT_SEEKS,
        batch: int = SHRINK_BATCH,
        memcg_aware: bool = False,
    ) -> None:
        self.name = name
        self.count_objects = count_objects
        self.scan_objects = scan_objects
        self.seeks = seeks
        self.batch = batch
        self.memcg_aware = memcg_aware
        self.nr_deferred: dict[int, int] = {}
        """By lruvec."""


class Shrinkers:
    """All shrinkers, in the order in which they were registered."""

    def __init__(self, vmstat: VmStat) -> None:
        self.vmstat = vmstat
        self.shrinkers: list[Shrinker] = []

    def register(self, shrinker: Shrinker) -> None:
        """Linux: shrinker_register()."""
        self.shrinkers.append(shrinker)

    def unregister(self, shrinker: Shrinker) -> None:
        """Linux: shrinker_free()."""
        self.shrinkers.remove(shrinker)

    def _slab_pages(self) -> int:
        state = self.vmstat.global_node_page_state
        return state(NodeStatItem.NR_SLAB_RECLAIMABLE_B) + state(NodeStatItem.NR_SLAB_UNRECLAIMABLE_B)

    def shrink_slab(self, lruvec: int, priority: int) -> tuple[int, int]:
        """Have every cache give up its share of a lruvec; (objects, pages) that became free. Linux: shrink_slab()."""
        objects = pages = 0
        of_root = lruvec < len(self.vmstat.node_stat)
        for shrinker in self.shrinkers:
            freeable = shrinker.count_objects(lruvec) if of_root or shrinker.memcg_aware else 0
            if freeable:
                before = self._slab_pages()
                objects += self._do_shrink_slab(shrinker, freeable, lruvec, priority)
                pages += before - self._slab_pages()
        return objects, max(pages, 0)

    def _do_shrink_slab(self, shrinker: Shrinker, freeable: int, lruvec: int, priority: int) -> int:
        """Linux: do_shrink_slab()."""
        deferred = shrinker.nr_deferred.pop(lruvec, 0)
        delta = (freeable >> priority) * 4 // shrinker.seeks if shrinker.seeks else freeable // 2
        total_scan = min((deferred >> priority) + delta, 2 * freeable)
        scanned = freed = 0
        while total_scan >= shrinker.batch or total_scan >= freeable > 0:
            nr_to_scan = min(shrinker.batch, total_scan)
            freed += shrinker.scan_objects(lruvec, nr_to_scan)
            self.vmstat.count_vm_events(VmEventItem.SLABS_SCANNED, nr_to_scan)
            total_scan -= nr_to_scan
            scanned += nr_to_scan
            if not nr_to_scan:
                break
        rest = min(max(deferred + delta - scanned, 0), 2 * freeable)
        if rest:
            shrinker.nr_deferred[lruvec] = rest
        return freed

    def drop_slab(self, lruvecs: list[int]) -> None:
        """Have everything go that can. Linux: mm/vmscan.c, drop_slab()."""
        shift = 0
        while True:
            freed = sum(self.shrink_slab(lruvec, 0)[0] for lruvec in lruvecs)
            if freed >> shift <= 1:
                return
            shift += 1
