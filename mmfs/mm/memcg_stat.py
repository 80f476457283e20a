"""What memory.stat tells, as rows, and the same in the report of a memory cgroup's OOM killer.

Counters are hierarchical: a cgroup's contain those of all below it. They are in bytes, events in times.

Linux: mm/memcontrol.c, memory_stats[], memcg_stat_format(), mem_cgroup_print_oom_meminfo().
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from mmfs.mm_types import (
    MEMCG_VM_EVENTS,
    NR_MEMCG_STATS,
    PAGE_SIZE,
    MemcgStatItem,
    NodeStatItem,
    VmEventItem,
)
from mmfs.profile import Needs, since

if TYPE_CHECKING:
    from mmfs.mm.mem_cgroup import MemCgroup

K: Final = PAGE_SIZE >> 10

_S, _N = MemcgStatItem, NodeStatItem
MEMORY_STATS: Final[tuple[tuple[str, MemcgStatItem | NodeStatItem], ...]] = (
    ("anon", _N.NR_ANON_MAPPED),
    ("file", _N.NR_FILE_PAGES),
    ("kernel", _S.MEMCG_KMEM),
    ("kernel_stack", _N.NR_KERNEL_STACK_KB),
    ("pagetables", _N.NR_PAGETABLE),
    ("sec_pagetables", _N.NR_SECONDARY_PAGETABLE),
    ("percpu", _S.MEMCG_PERCPU_B),
    ("sock", _S.MEMCG_SOCK),
    ("vmalloc", _S.MEMCG_VMALLOC),
    ("shmem", _N.NR_SHMEM),
    ("zswap", _S.MEMCG_ZSWAP_B),
    ("zswapped", _S.MEMCG_ZSWAPPED),
    ("file_mapped", _N.NR_FILE_MAPPED),
    ("file_dirty", _N.NR_FILE_DIRTY),
    ("file_writeback", _N.NR_WRITEBACK),
    ("swapcached", _N.NR_SWAPCACHE),
    ("anon_thp", _N.NR_ANON_THPS),
    ("file_thp", _N.NR_FILE_THPS),
    ("shmem_thp", _N.NR_SHMEM_THPS),
    ("inactive_anon", _N.NR_INACTIVE_ANON),
    ("active_anon", _N.NR_ACTIVE_ANON),
    ("inactive_file", _N.NR_INACTIVE_FILE),
    ("active_file", _N.NR_ACTIVE_FILE),
    ("unevictable", _N.NR_UNEVICTABLE),
    ("slab_reclaimable", _N.NR_SLAB_RECLAIMABLE_B),
    ("slab_unreclaimable", _N.NR_SLAB_UNRECLAIMABLE_B),
    ("hugetlb", _N.NR_HUGETLB),
    ("workingset_refault_anon", _N.WORKINGSET_REFAULT_ANON),
    ("workingset_refault_file", _N.WORKINGSET_REFAULT_FILE),
    ("workingset_activate_anon", _N.WORKINGSET_ACTIVATE_ANON),
    ("workingset_activate_file", _N.WORKINGSET_ACTIVATE_FILE),
    ("workingset_restore_anon", _N.WORKINGSET_RESTORE_ANON),
    ("workingset_restore_file", _N.WORKINGSET_RESTORE_FILE),
    ("workingset_nodereclaim", _N.WORKINGSET_NODERECLAIM),
    ("pgdemote_kswapd", _N.PGDEMOTE_KSWAPD),
    ("pgdemote_direct", _N.PGDEMOTE_DIRECT),
    ("pgdemote_khugepaged", _N.PGDEMOTE_KHUGEPAGED),
    ("pgdemote_proactive", _N.PGDEMOTE_PROACTIVE),
    ("pgpromote_success", _N.PGPROMOTE_SUCCESS),
)
STAT_NEEDS: Final[dict[str, Needs]] = {
    **dict.fromkeys(
        (
            "pgdemote_kswapd", "pgdemote_direct", "pgdemote_khugepaged", "pgpromote_success", "pgscan_khugepaged",
            "pgsteal_khugepaged", "swpin_zero", "swpout_zero", "zswpwb", "thp_swpout", "thp_swpout_fallback",
            "numa_pages_migrated", "numa_pte_updates", "numa_hint_faults",
        ),
        since(6, 12),
    ),
    **dict.fromkeys(("hugetlb", "pswpin", "pswpout"), since(6, 13)),
    **dict.fromkeys(("pgdemote_proactive", "pgscan_proactive", "pgsteal_proactive"), since(6, 16)),
}  # fmt: skip
"""The rows that not all kernels have."""
ROW_BY_ROW: Final = since(6, 12)
"""Kernels that log each row by itself."""
IN_BYTES: Final = (_S.MEMCG_PERCPU_B, _S.MEMCG_ZSWAP_B, _N.NR_SLAB_RECLAIMABLE_B, _N.NR_SLAB_UNRECLAIMABLE_B)
IN_TIMES: Final = (
    _N.WORKINGSET_REFAULT_ANON, _N.WORKINGSET_REFAULT_FILE, _N.WORKINGSET_ACTIVATE_ANON, _N.WORKINGSET_ACTIVATE_FILE,
    _N.WORKINGSET_RESTORE_ANON, _N.WORKINGSET_RESTORE_FILE, _N.WORKINGSET_NODERECLAIM, _N.PGDEMOTE_KSWAPD,
    _N.PGDEMOTE_DIRECT, _N.PGDEMOTE_KHUGEPAGED, _N.PGDEMOTE_PROACTIVE, _N.PGPROMOTE_SUCCESS,
)  # fmt: skip
_SCANS: Final = (
    VmEventItem.PGSCAN_KSWAPD, VmEventItem.PGSCAN_DIRECT, VmEventItem.PGSCAN_KHUGEPAGED, VmEventItem.PGSCAN_PROACTIVE,
)  # fmt: skip
_STEALS: Final = (
    VmEventItem.PGSTEAL_KSWAPD, VmEventItem.PGSTEAL_DIRECT, VmEventItem.PGSTEAL_KHUGEPAGED,
    VmEventItem.PGSTEAL_PROACTIVE,
)  # fmt: skip


def output_unit(item: MemcgStatItem | NodeStatItem) -> int:
    """By what a counter is multiplied. Linux: memcg_page_state_output_unit()."""
    if any(item is one for one in (*IN_BYTES, *IN_TIMES)):  # not by value, which the two enums share
        return 1
    return 1024 if item is NodeStatItem.NR_KERNEL_STACK_KB else PAGE_SIZE


def page_state(memcg: MemCgroup, item: MemcgStatItem | NodeStatItem, local: bool = False) -> int:
    """A counter of a cgroup and all below it, as of the last flush; `local`: without those below, as of now.

    Linux: memcg_page_state(), memcg_page_state_local().
    """
    owner, vmstat = memcg.owner, memcg.owner.kernel.vmstat
    if isinstance(item, MemcgStatItem):
        return max(int((vmstat.memcg_stat if local else vmstat.memcg_total)[memcg.row, item]), 0)
    first, nr = memcg.row * owner.fast.nr_nodes, owner.fast.nr_nodes
    return max(int((vmstat.lruvec_stat if local else vmstat.lruvec_total)[first : first + nr, item].sum()), 0)


def events(memcg: MemCgroup, item: VmEventItem, local: bool = False) -> int:
    """How often something happened in a cgroup, as page_state(). Linux: memcg_events(), memcg_events_local()."""
    vmstat = memcg.owner.kernel.vmstat
    counts = vmstat.memcg_stat if local else vmstat.memcg_total
    return int(counts[memcg.row, NR_MEMCG_STATS + MEMCG_VM_EVENTS.index(item)])


def is_printed(name: str, memcg: MemCgroup) -> bool:
    """Whether this kernel has a row of that name."""
    needs = STAT_NEEDS.get(name)
    return needs is None or needs(memcg.owner)


def stat_rows(memcg: MemCgroup) -> Iterator[tuple[str, int]]:
    """The rows of memory.stat that this kernel has. Linux: memcg_stat_format()."""
    return (row for row in _all_rows(memcg) if is_printed(row[0], memcg))


def _all_rows(memcg: MemCgroup) -> Iterator[tuple[str, int]]:
    memcg.owner.fast.flush()
    slab = 0
    for name, item in MEMORY_STATS:
        if item is NodeStatItem.NR_HUGETLB:
            continue  # only with memory_hugetlb_accounting, which is not modelled
        value = page_state(memcg, item) * output_unit(item)
        yield name, value
        if item is NodeStatItem.NR_SLAB_RECLAIMABLE_B or item is NodeStatItem.NR_SLAB_UNRECLAIMABLE_B:
            slab += value
        if item is NodeStatItem.NR_SLAB_UNRECLAIMABLE_B:
            yield "slab", slab
    yield "pgscan", sum(events(memcg, item) for item in _SCANS)
    yield "pgsteal", sum(events(memcg, item) for item in _STEALS)
    for event in MEMCG_VM_EVENTS[:-2]:
        yield event.name.lower(), events(memcg, event)


def numa_rows(memcg: MemCgroup, nodes: list[int]) -> Iterator[tuple[str, list[int]]]:
    """The rows of memory.numa_stat: a counter's bytes or times by node. Linux: memory_numa_stat_show()."""
    owner = memcg.owner
    owner.fast.flush()
    for name, item in MEMORY_STATS:
        if isinstance(item, NodeStatItem) and is_printed(name, memcg):
            first, unit = memcg.row * owner.fast.nr_nodes, output_unit(item)
            yield name, [max(int(owner.kernel.vmstat.lruvec_total[first + nid, item]), 0) * unit for nid in nodes]


def oom_meminfo(memcg: MemCgroup) -> Iterator[str]:
    """What the OOM report says of a cgroup's memory. Linux: mem_cgroup_print_oom_meminfo()."""
    from mmfs.mm import memcontrol_v1

    counters = [("memory", memcg.memory), ("memory+swap" if memcg.owner.fast.memsw else "swap", memcg.swap)]
    if memcg.owner.fast.memsw:
        counters.append(("kmem", memcg.kmem))
    for name, counter in counters:
        yield f"{name}: usage {counter.usage * K}kB, limit {counter.max * K}kB, failcnt {counter.failcnt}"
    yield f"Memory cgroup stats for {memcg.path}:"
    rows = (memcontrol_v1.stat_rows if memcg.owner.fast.memsw else stat_rows)(memcg)
    lines = [f"{name} {value}" for name, value in rows]
    yield from lines if ROW_BY_ROW(memcg.owner) else ["\n".join(lines)]
