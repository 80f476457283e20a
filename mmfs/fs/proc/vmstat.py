"""/proc/vmstat: every counter of the machine, a name and a number a line.

First the counters of all zones added up, NUMA events, counters of all nodes, the dirty thresholds and what struct
pages take, then the events since boot: the order of the kernel's enums.

Linux: mm/vmstat.c, vmstat_start(), vmstat_text.
"""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc
from mmfs.mm.page_writeback import dirty_limits
from mmfs.mm.show_mem import node_page_state_pages
from mmfs.mm.vmstat import is_printed, node_stat_text, numa_stat_text, vm_event_text, zone_stat_text
from mmfs.mm_types import HPAGE_PMD_ORDER, NodeStatItem, VmEventItem, ZoneStatItem
from mmfs.profile import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mmzone import Zone
    from mmfs.profile import Profile

VM_STAT_TEXT = ("nr_dirty_threshold", "nr_dirty_background_threshold", "nr_memmap_pages", "nr_memmap_boot_pages")
"""Linux: include/linux/vmstat.h, enum vm_stat_item."""

IN_THP = (
    NodeStatItem.NR_SHMEM_THPS,
    NodeStatItem.NR_SHMEM_PMDMAPPED,
    NodeStatItem.NR_FILE_THPS,
    NodeStatItem.NR_FILE_PMDMAPPED,
    NodeStatItem.NR_ANON_THPS,
)
"""Counted in pages, printed in huge pages. Linux: vmstat_item_print_in_thp()."""

NAMES = (*zone_stat_text, *numa_stat_text, *node_stat_text, *VM_STAT_TEXT, *vm_event_text)
DEMOTED = ("pgdemote_kswapd", "pgdemote_direct")
"""Counters of nodes, which older kernels have among the events."""


class Plan:
    """What a kernel prints of a list of counters, and in which order: a template and the places of its numbers."""

    def __init__(self, names: Iterable[str], profile: Profile, line: str) -> None:
        names = tuple(names)
        rows = [name for name in names if is_printed(name, profile)]
        if until(6, 12)(profile) and "pgsteal_direct" in rows:
            after = rows.index("pgsteal_direct") + 1
            rows[after:after] = DEMOTED
        self.template = "".join(line % name for name in rows)
        self.take: Callable[[Sequence[int]], tuple[int, ...]] = itemgetter(*map(names.index, rows))

    def text(self, numbers: Sequence[int]) -> str:
        """The rows."""
        return self.template % self.take(numbers)


def zone_printed(kernel: Kernel, zones: Iterable[Zone], state: list[int]) -> list[int]:
    """Counters of zones, the free pages in whole pageblocks too, which the buddy allocator's lists hold."""
    if is_printed("nr_free_pages_blocks", kernel.profile):
        state[ZoneStatItem.NR_FREE_PAGES_BLOCKS] = sum(zone.nr_free_pages_blocks() for zone in zones)
    return state


@cache
def plan(profile: Profile) -> Plan:
    """The file's."""
    return Plan(NAMES, profile, "%s %%d\n")


def node_stat_printed(state: Sequence[int]) -> list[int]:
    """Node counters in the units that vmstat and zoneinfo print."""
    printed = node_page_state_pages(state)
    for item in IN_THP:
        printed[item] >>= HPAGE_PMD_ORDER
    return printed


@proc.attribute("vmstat")
def vmstat(kernel: Kernel) -> str:
    """Linux: mm/vmstat.c, vmstat_show()."""
    counters = kernel.vmstat
    zone = zone_printed(kernel, kernel.zones, counters.zone_stat.sum(axis=0).tolist())
    node: list[int] = counters.node_stat.sum(axis=0).tolist()
    events: list[int] = counters.event.tolist()
    events[VmEventItem.PGPGIN] //= 2  # sectors to kilobytes
    events[VmEventItem.PGPGOUT] //= 2
    background, threshold = dirty_limits(kernel, zone, node)
    numbers = (
        *zone,
        *counters.numa_event.sum(axis=0).tolist(),
        *node_stat_printed(node),
        threshold,
        background,
        kernel.sections.nr_memmap_pages,
        kernel.sections.nr_memmap_boot_pages,
        *events,
    )
    # The last row is kept for programs that expect it; Linux prints this very constant.
    return plan(kernel.profile).text(numbers) + "nr_unstable 0\n"
