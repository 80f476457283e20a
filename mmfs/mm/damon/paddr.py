"""Monitoring physical memory.

Linux: mm/damon/paddr.c.

Simplified: a page that is being read is looked at all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mmfs.mm.damon.ops_common import DamonOperations
from mmfs.mm.damon.schemes import Damos, DamosAction, DamosFilterType
from mmfs.mm.migrate import move_pages
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE, VmEventItem
from mmfs.profile import since

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.mm.damon.core import DamonRegion, DamonTarget

LONG_MAX: Final = (1 << 63) - 1
PAGES_A_CHUNK: Final = 1 << 14
"""Pages that are taken off their lists at once."""
ACTIONS: Final = (
    DamosAction.PAGEOUT, DamosAction.LRU_PRIO, DamosAction.LRU_DEPRIO, DamosAction.MIGRATE_HOT,
    DamosAction.MIGRATE_COLD,
)  # fmt: skip
REST: Final = -1
"""The type of the row of filters that says what becomes of pages that none matches."""
FILTERS_COUNTED: Final = since(7, 0)
"""Which kernels count what filters let through when nothing is done with it."""


class DamonPaddr(DamonOperations):
    """Frames."""

    name = "paddr"
    has_pid = False
    scores: ClassVar[dict[DamosAction, bool]] = {
        DamosAction.PAGEOUT: False,
        DamosAction.LRU_PRIO: True,
        DamosAction.LRU_DEPRIO: False,
        DamosAction.MIGRATE_HOT: True,
        DamosAction.MIGRATE_COLD: False,
    }

    def _frames(self, addresses: NDArray[np.int64]) -> NDArray[np.int64]:
        """Frame numbers, -1 where there is no memory."""
        pfns = addresses >> PAGE_SHIFT
        return np.where((pfns >= 0) & (pfns < self.damon.kernel.max_pfn), pfns, -1)

    def mkold(self, target: DamonTarget, addresses: NDArray[np.int64]) -> None:
        """Linux: damon_pa_mkold()."""
        self.loops.pa_mkold(self._frames(addresses))

    def young(self, target: DamonTarget, addresses: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Linux: damon_pa_young()."""
        self.loops.pa_young(self._frames(addresses), out)

    def apply_scheme(self, target: DamonTarget, region: DamonRegion, scheme: Damos) -> tuple[int, int]:
        """Linux: damon_pa_apply_scheme()."""
        filtered = scheme.action == DamosAction.STAT and any(not one.type.of_core for one in scheme.filters)
        if scheme.action not in ACTIONS and not (filtered and FILTERS_COUNTED(self.damon)):
            return 0, 0
        pfn = -(-region.start // PAGE_SIZE)
        end = min(-(-region.end // PAGE_SIZE), self.damon.kernel.max_pfn)
        filters, out, applied = self._filters(scheme), np.zeros(PAGES_A_CHUNK, np.int64), 0
        while pfn < end:
            found = self.loops.apply(pfn, end, scheme.action, filters, out)
            pfn = int(self.loops.next_pfn)
            if found:
                applied += self._take(scheme, out[:found])
        applied, passed = applied + int(self.loops.applied), int(self.loops.passed)
        self.loops.applied = self.loops.passed = 0
        return applied * PAGE_SIZE, passed * PAGE_SIZE

    @staticmethod
    def _filters(scheme: Damos) -> NDArray[np.int64]:
        """Those of pages; who pages out looks once more whether a page is young. Linux: damon_pa_pageout()."""
        if scheme.core_allowed:
            return np.zeros((0, 5), np.int64)
        filters = [one for one in scheme.filters if not one.type.of_core]
        rows = [
            [int(one.type), one.matching, one.memcg or one.start, min(one.end, LONG_MAX), one.allow] for one in filters
        ]
        if scheme.action == DamosAction.PAGEOUT and all(one.type != DamosFilterType.YOUNG for one in filters):
            rows.append([DamosFilterType.YOUNG, True, 0, 0, False])
        if scheme.default_reject(of_core=False):
            rows.append([REST, True, 0, 0, False])
        return np.array(rows, np.int64).reshape(-1, 5)

    def _take(self, scheme: Damos, pfns: NDArray[np.int64]) -> int:
        """Reclaim pages or move them to another node; how many."""
        kernel = self.damon.kernel
        if scheme.action == DamosAction.PAGEOUT:
            return kernel.reclaim.reclaim_pages(kernel.tasks.current, pfns)
        nid = scheme.target_nid
        if not 0 <= nid < len(kernel.node_data) or not kernel.node_data[nid].node_present_pages:
            return 0
        event = kernel.vmstat.event
        before = int(event[VmEventItem.PGMIGRATE_SUCCESS])
        move_pages(kernel, pfns, nid, True)
        return int(event[VmEventItem.PGMIGRATE_SUCCESS]) - before
