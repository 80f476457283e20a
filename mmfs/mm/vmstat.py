"""The counters: every number of the model stands once, in the arrays of a VmStat.

meminfo, vmstat, zoneinfo, node*/meminfo are views of these arrays; the compiled loops write into the
very same memory. Rows are zones (``node * MAX_NR_ZONES + zone type``) or nodes, columns are the items of
``mm_types``.

Linux: mm/vmstat.c.

Simplified: per-CPU differentials are folded at once, so a reader never sees a counter that lags.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmfs.fastpath.frames import lazy_array
from mmfs.mm_types import (
    MAX_MEMCGS,
    MAX_NR_ZONES,
    NR_LRU_LISTS,
    NR_MEMCG_EVENTS,
    NR_MEMCG_STATS,
    NodeStatItem,
    NumaStatItem,
    VmEventItem,
    ZoneStatItem,
)
from mmfs.profile import Needs, Profile, config, since, until

# The names that /proc/vmstat prints where they differ from the enum member in lower case.
_ZONE_TEXT = {"nr_free_cma_pages": "nr_free_cma"}
_NUMA_TEXT = {"numa_interleave_hit": "numa_interleave"}
_NODE_TEXT = {
    "nr_slab_reclaimable_b": "nr_slab_reclaimable",
    "nr_slab_unreclaimable_b": "nr_slab_unreclaimable",
    "nr_anon_mapped": "nr_anon_pages",
    "nr_file_mapped": "nr_mapped",
    "nr_file_dirty": "nr_dirty",
    "nr_shmem_thps": "nr_shmem_hugepages",
    "nr_file_thps": "nr_file_hugepages",
    "nr_anon_thps": "nr_anon_transparent_hugepages",
    "nr_vmscan_immediate": "nr_vmscan_immediate_reclaim",
    "nr_kernel_stack_kb": "nr_kernel_stack",
    "nr_pagetable": "nr_page_table_pages",
    "nr_secondary_pagetable": "nr_sec_page_table_pages",
    "nr_swapcache": "nr_swapcached",
}


def _text(enum: type[ZoneStatItem] | type[NodeStatItem] | type[NumaStatItem] | type[VmEventItem],
          names: dict[str, str]) -> tuple[str, ...]:
    return tuple(names.get(item.name.lower(), item.name.lower()) for item in enum)


_NEW, _NUMA, _BALANCING = since(6, 12), config("NUMA"), config("NUMA_BALANCING")
_OF_ZONE = {"dma32": config("ZONE_DMA32"), "high": config("HIGHMEM"), "device": config("ZONE_DEVICE")}
STAT_NEEDS: Final[dict[str, Needs]] = {
    **dict.fromkeys(
        (
            "pgdemote_kswapd", "pgdemote_direct", "pgdemote_khugepaged",
            "nr_memmap_pages", "nr_memmap_boot_pages", "pgsteal_khugepaged", "pgscan_khugepaged",
            "thp_underused_split_page", "swpin_zero", "swpout_zero", "zswpwb",
        ),
        _NEW,
    ),
    "nr_unaccepted": config("UNACCEPTED_MEMORY"),
    "nr_iommu_pages": _NEW & config("IOMMU_SUPPORT"),
    "nr_hugetlb": since(6, 13),
    **dict.fromkeys(
        (
            "nr_free_pages_blocks", "nr_balloon_pages", "pgdemote_proactive", "pgsteal_proactive", "pgscan_proactive",
        ),
        since(6, 16),
    ),
    **dict.fromkeys(("direct_map_level2_splits", "direct_map_level3_splits"), config("X86")),
    **dict.fromkeys(("direct_map_level2_collapses", "direct_map_level3_collapses"), config("X86") & since(6, 16)),
    **dict.fromkeys(("nr_bounce", "nr_writeback_temp"), until(6, 18)),
    **dict.fromkeys(("pgpromote_candidate_nrl", "nr_kernel_file_pages"), since(6, 18)),
    **dict.fromkeys(
        (
            "numa_hit", "numa_miss", "numa_foreign", "numa_interleave", "numa_local", "numa_other",
            "zone_reclaim_failed",
        ),
        _NUMA,
    ),
    **dict.fromkeys(
        (
            "numa_pte_updates", "numa_huge_pte_updates", "numa_hint_faults", "numa_hint_faults_local",
            "numa_pages_migrated", "pgpromote_success", "pgpromote_candidate",
        ),
        _BALANCING,
    ),
    "zone_reclaim_success": _NEW & _NUMA,
    **dict.fromkeys(("cma_alloc_success", "cma_alloc_fail"), config("CMA")),
    "thp_split_pud": config("HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD"),
    **{
        f"{event}_{zone}": needs
        for event in ("pgalloc", "allocstall", "pgskip") for zone, needs in _OF_ZONE.items()
    },
}  # fmt: skip
"""The counters, by the name that is printed, that not all kernels print."""


def is_printed(name: str, profile: Profile) -> bool:
    """Whether a kernel prints a counter of that name."""
    needs = STAT_NEEDS.get(name)
    return needs is None or needs(profile)


zone_stat_text: Final = _text(ZoneStatItem, _ZONE_TEXT)
numa_stat_text: Final = _text(NumaStatItem, _NUMA_TEXT)
node_stat_text: Final = _text(NodeStatItem, _NODE_TEXT)
vm_event_text: Final = _text(VmEventItem, {})


def _lazy_table(rows: int, columns: int) -> NDArray[np.int64]:
    table: NDArray[np.int64] = lazy_array(rows * columns, np.int64).reshape(rows, columns)
    return table


class VmStat:
    """All counters of a machine.

    Linux: mm/vmstat.c, vm_zone_stat, vm_node_stat, vm_event_states.

    ``zone_stat`` [zones, ZoneStatItem], ``numa_event`` [zones, NumaStatItem], ``node_stat``
    [nodes, NodeStatItem], ``event`` [VmEventItem]: int64; pages unless the item says otherwise.

    Memory cgroups' share of them: ``lruvec_stat`` [lruvecs, NodeStatItem], ``memcg_stat`` [cgroups, MemcgStatItem and
    then MEMCG_VM_EVENTS], each with what was added to the ``*_total`` of a cgroup and those above when that was last
    asked for (``*_flushed``); ``lruvec_zone_stat`` [lruvecs, zone types * lists]. Rows are those of
    fastpath/memcontrol.py; the host commits them where they are used.
    """

    zone_stat: NDArray[np.int64]
    numa_event: NDArray[np.int64]
    node_stat: NDArray[np.int64]
    event: NDArray[np.int64]

    def __init__(self, nr_nodes: int) -> None:
        self.zone_stat = np.zeros((nr_nodes * MAX_NR_ZONES, len(ZoneStatItem)), np.int64)
        self.numa_event = np.zeros((nr_nodes * MAX_NR_ZONES, len(NumaStatItem)), np.int64)
        self.node_stat = np.zeros((nr_nodes, len(NodeStatItem)), np.int64)
        self.event = np.zeros(len(VmEventItem), np.int64)
        self._numa_counted = self.numa_event
        lruvecs, columns = MAX_MEMCGS * nr_nodes, NR_MEMCG_STATS + NR_MEMCG_EVENTS
        self.lruvec_stat, self.lruvec_flushed, self.lruvec_total = (
            _lazy_table(lruvecs, len(NodeStatItem)) for _ in range(3)
        )
        self.lruvec_zone_stat = _lazy_table(lruvecs, MAX_NR_ZONES * NR_LRU_LISTS)
        self.memcg_stat, self.memcg_flushed, self.memcg_total = (_lazy_table(MAX_MEMCGS, columns) for _ in range(3))

    def global_zone_page_state(self, item: ZoneStatItem) -> int:
        """Sum of a per-zone counter over the machine."""
        return int(self.zone_stat[:, item].sum())

    def global_node_page_state(self, item: NodeStatItem) -> int:
        """Sum of a per-node counter over the machine."""
        return int(self.node_stat[:, item].sum())

    def global_numa_event_state(self, item: NumaStatItem) -> int:
        """Sum of a NUMA event over the machine."""
        return int(self.numa_event[:, item].sum())

    def zone_page_state(self, zone: int, item: ZoneStatItem) -> int:
        """A counter of one zone, by the zone's row."""
        return int(self.zone_stat[zone, item])

    def node_page_state(self, nid: int, item: NodeStatItem) -> int:
        """A counter of one node."""
        return int(self.node_stat[nid, item])

    def sum_zone_node_page_state(self, nid: int, item: ZoneStatItem) -> int:
        """Sum of a per-zone counter over the zones of one node."""
        return int(self.zone_stat[nid * MAX_NR_ZONES : (nid + 1) * MAX_NR_ZONES, item].sum())

    def sum_zone_numa_event_state(self, nid: int, item: NumaStatItem) -> int:
        """Sum of a NUMA event over the zones of one node."""
        return int(self.numa_event[nid * MAX_NR_ZONES : (nid + 1) * MAX_NR_ZONES, item].sum())

    def mod_node_page_state(self, nid: int, item: NodeStatItem, delta: int) -> None:
        """Change a counter of one node."""
        self.node_stat[nid, item] += delta

    def mod_zone_page_state(self, zone: int, item: ZoneStatItem, delta: int) -> None:
        """Change a counter of one zone."""
        self.zone_stat[zone, item] += delta

    def set_numa_stat(self, enabled: bool) -> None:
        """Count NUMA events from zero on, or show none. Linux: mm/vmstat.c, sysctl_vm_numa_stat_handler().

        The compiled loops always count into the same array; while counting is off, nobody looks at it.
        """
        self._numa_counted[:] = 0
        self.numa_event = self._numa_counted if enabled else np.zeros_like(self._numa_counted)

    def negative(self) -> Iterator[tuple[str, int]]:
        """Counters below zero, which none may be for long. Linux: mm/vmstat.c, vmstat_refresh()."""
        sometimes = (ZoneStatItem.NR_ZONE_WRITE_PENDING, ZoneStatItem.NR_FREE_CMA_PAGES)
        for zone_item in ZoneStatItem:
            if zone_item not in sometimes and (value := self.global_zone_page_state(zone_item)) < 0:
                yield zone_stat_text[zone_item], value
        for node_item in NodeStatItem:
            if node_item is not NodeStatItem.NR_WRITEBACK and (value := self.global_node_page_state(node_item)) < 0:
                yield node_stat_text[node_item], value

    def count_vm_events(self, item: VmEventItem, delta: int = 1) -> None:
        """Count an event."""
        self.event[item] += delta
