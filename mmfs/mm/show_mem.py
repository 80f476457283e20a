"""How much memory there is and how much is to be had: what /proc/meminfo and sysinfo(2) sum up, and what the log says.

"Free" is what the buddy allocator holds. "Available" is an estimate of what a new workload can get without
swapping: free memory less what the kernel reserves, plus the page cache and the reclaimable slab, of each
of which half, but no more than the low watermarks, is taken to be needed.

`show_mem()` is the report that an OOM kill, a failed allocation and SysRq-m put into the log.

Linux: mm/show_mem.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from mmfs.mm.debug import LOG_INFO, LOG_WARNING, gfp_flag_names, ranges
from mmfs.mm.dump_stack import current, dump_stack
from mmfs.mm.mempolicy import nodemask_of
from mmfs.mm.mmzone import is_highmem
from mmfs.mm.ratelimit import NSEC_PER_SEC, RatelimitState
from mmfs.mm_types import GFP_NOWARN_BIT, MAX_NR_ZONES, PAGE_SHIFT, NodeStatItem, ZoneStatItem
from mmfs.profile import config, since, until

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mmzone import PglistData, Zone

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


# ---- the state of memory in the log -------------------------------------------------------------------------------

_NODE_FIELDS: Final = (
    ("active_anon", NodeStatItem.NR_ACTIVE_ANON), ("inactive_anon", NodeStatItem.NR_INACTIVE_ANON),
    ("active_file", NodeStatItem.NR_ACTIVE_FILE), ("inactive_file", NodeStatItem.NR_INACTIVE_FILE),
    ("unevictable", NodeStatItem.NR_UNEVICTABLE), ("isolated(anon)", NodeStatItem.NR_ISOLATED_ANON),
    ("isolated(file)", NodeStatItem.NR_ISOLATED_FILE), ("mapped", NodeStatItem.NR_FILE_MAPPED),
    ("dirty", NodeStatItem.NR_FILE_DIRTY), ("writeback", NodeStatItem.NR_WRITEBACK),
    ("shmem", NodeStatItem.NR_SHMEM), ("shmem_thp", NodeStatItem.NR_SHMEM_THPS),
    ("shmem_pmdmapped", NodeStatItem.NR_SHMEM_PMDMAPPED), ("anon_thp", NodeStatItem.NR_ANON_THPS),
    ("writeback_tmp", NodeStatItem.NR_WRITEBACK_TEMP), ("kernel_stack", NodeStatItem.NR_KERNEL_STACK_KB),
    ("pagetables", NodeStatItem.NR_PAGETABLE), ("sec_pagetables", NodeStatItem.NR_SECONDARY_PAGETABLE),
)  # fmt: skip
_ZONE_FIELDS: Final = (
    ("active_anon", ZoneStatItem.NR_ZONE_ACTIVE_ANON), ("inactive_anon", ZoneStatItem.NR_ZONE_INACTIVE_ANON),
    ("active_file", ZoneStatItem.NR_ZONE_ACTIVE_FILE), ("inactive_file", ZoneStatItem.NR_ZONE_INACTIVE_FILE),
    ("unevictable", ZoneStatItem.NR_ZONE_UNEVICTABLE), ("writepending", ZoneStatItem.NR_ZONE_WRITE_PENDING),
)  # fmt: skip
MIGRATETYPE_LETTERS: Final = "UMEHCI"
_BLANK: Final = ("shmem_thp", "shmem_pmdmapped", "anon_thp")
NUMA: Final = config("NUMA")
BLANKS: Final = until(6, 12)
"""Kernels that print a blank before the numbers of these."""
WRITEBACK_TMP: Final = until(6, 18)
BALLOON: Final = since(6, 16)
MORE_OF_ZONES: Final = since(6, 18)
"""Kernels that tell what of reserved_highatomic is free, and how many pages zsmalloc has."""


def _kb(pages: int) -> int:
    return pages << (PAGE_SHIFT - 10)


def show_mem(kernel: Kernel, nodemask: int | None = None, max_zone_idx: int = MAX_NR_ZONES - 1) -> None:
    """Log the state of memory: of all nodes, or of those in `nodemask`, up to a zone type.

    Linux: mm/show_mem.c, __show_mem().
    """
    level = kernel.printk.default_message_loglevel
    for line in _report(kernel, nodemask, max_zone_idx):
        kernel.printk.emit(line, level)


def _report(kernel: Kernel, nodemask: int | None, max_zone_idx: int) -> Iterator[str]:
    mask = nodemask_of(current(kernel).mems_allowed) if nodemask is None else nodemask
    nodes = [pgdat for pgdat in kernel.node_data if mask >> pgdat.node_id & 1]
    zones = [zone for pgdat in nodes for zone in pgdat.node_zones if zone.populated() and zone.zone_idx <= max_zone_idx]
    yield "Mem-Info:"
    yield _machine(kernel, sum(_free_pcp(zone) for zone in zones))
    for pgdat in nodes:
        if any(zone.managed() for zone in pgdat.node_zones[: max_zone_idx + 1]):
            yield _node(kernel, pgdat)
    for zone in zones:
        yield _zone(kernel, zone)
        yield f"lowmem_reserve[]: {' '.join(map(str, zone.lowmem_reserve))}"
    for zone in zones:
        yield _free_areas(kernel, zone)
    for pgdat in nodes:
        for h in kernel.hugetlb:
            nid = pgdat.node_id
            yield (
                f"Node {nid} hugepages_total={h.nr_huge_pages_node[nid]} hugepages_free={h.free_huge_pages_node[nid]} "
                f"hugepages_surp={h.surplus_huge_pages_node[nid]} hugepages_size={h.size_kb}kB"
            )
    yield f"{kernel.vmstat.global_node_page_state(NodeStatItem.NR_FILE_PAGES)} total pagecache pages"
    yield f"{kernel.vmstat.global_node_page_state(NodeStatItem.NR_SWAPCACHE)} pages in swap cache"
    yield f"Free swap  = {_kb(kernel.nr_swap_pages)}kB"
    yield f"Total swap = {_kb(kernel.total_swap_pages)}kB"
    populated = [zone for zone in kernel.zones if zone.populated()]
    yield f"{sum(zone.present_pages for zone in populated)} pages RAM"
    yield f"{sum(zone.present_pages for zone in populated if is_highmem(zone))} pages HighMem/MovableOnly"
    yield f"{sum(zone.present_pages - zone.managed_pages for zone in populated)} pages reserved"
    if kernel.profile.config("CMA"):
        yield f"{kernel.page_alloc.totalcma_pages} pages cma reserved"
    if kernel.profile.config("MEMORY_FAILURE"):
        yield f"{len(kernel.memory_failure.poisoned)} pages hwpoisoned"


def _free_pcp(zone: Zone) -> int:
    return sum(pcp.count for pcp in zone.per_cpu_pageset)


def _machine(kernel: Kernel, free_pcp: int) -> str:
    """The sums over all nodes. Linux: mm/show_mem.c, show_free_areas()."""
    n = [int(count) for count in kernel.vmstat.node_stat.sum(axis=0)]
    z = [int(count) for count in kernel.vmstat.zone_stat.sum(axis=0)]
    item = NodeStatItem
    pages = node_page_state_pages(n)
    return (
        f"active_anon:{n[item.NR_ACTIVE_ANON]} inactive_anon:{n[item.NR_INACTIVE_ANON]} "
        f"isolated_anon:{n[item.NR_ISOLATED_ANON]}\n"
        f" active_file:{n[item.NR_ACTIVE_FILE]} inactive_file:{n[item.NR_INACTIVE_FILE]} "
        f"isolated_file:{n[item.NR_ISOLATED_FILE]}\n"
        f" unevictable:{n[item.NR_UNEVICTABLE]} dirty:{n[item.NR_FILE_DIRTY]} writeback:{n[item.NR_WRITEBACK]}\n"
        f" slab_reclaimable:{pages[item.NR_SLAB_RECLAIMABLE_B]} "
        f"slab_unreclaimable:{pages[item.NR_SLAB_UNRECLAIMABLE_B]}\n"
        f" mapped:{n[item.NR_FILE_MAPPED]} shmem:{n[item.NR_SHMEM]} pagetables:{n[item.NR_PAGETABLE]}\n"
        f" sec_pagetables:{n[item.NR_SECONDARY_PAGETABLE]} bounce:{z[ZoneStatItem.NR_BOUNCE]}\n"
        f" kernel_misc_reclaimable:{n[item.NR_KERNEL_MISC_RECLAIMABLE]}\n"
        f" free:{z[ZoneStatItem.NR_FREE_PAGES]} free_pcp:{free_pcp} free_cma:{z[ZoneStatItem.NR_FREE_CMA_PAGES]}"
    )


def _node(kernel: Kernel, pgdat: PglistData) -> str:
    """A node's line. Linux: mm/show_mem.c, show_free_areas()."""
    words = [f"Node {pgdat.node_id}"]
    for name, item in _NODE_FIELDS:
        if item is NodeStatItem.NR_WRITEBACK_TEMP and not WRITEBACK_TMP(kernel):
            continue
        count = kernel.vmstat.node_page_state(pgdat.node_id, item)
        blank = " " if name in _BLANK and BLANKS(kernel) else ""
        words.append(f"{name}:{blank}{count if item is NodeStatItem.NR_KERNEL_STACK_KB else _kb(count)}kB")
    words.append(f"all_unreclaimable? {'no' if pgdat.node_reclaimable else 'yes'}")
    if BALLOON(kernel):
        words.append(f"Balloon:{_kb(kernel.vmstat.node_page_state(pgdat.node_id, NodeStatItem.NR_BALLOON_PAGES))}kB")
    return " ".join(words)


def _zone(kernel: Kernel, zone: Zone) -> str:
    """A zone's line. Linux: mm/show_mem.c, show_free_areas()."""
    here, more = zone.per_cpu_pageset, MORE_OF_ZONES(kernel)
    state = kernel.vmstat.zone_stat[zone.index]
    words = [
        f"{_show_node(kernel, zone)}{zone.name} free:{_kb(state[ZoneStatItem.NR_FREE_PAGES])}kB",
        f"boost:{_kb(zone.watermark_boost)}kB min:{_kb(zone.min_wmark_pages())}kB",
        f"low:{_kb(zone.low_wmark_pages())}kB high:{_kb(zone.high_wmark_pages())}kB",
        f"reserved_highatomic:{_kb(zone.nr_reserved_highatomic)}KB",
        *([f"free_highatomic:{_kb(zone.nr_free_highatomic)}KB"] if more else []),
        *(f"{name}:{_kb(state[item])}kB" for name, item in _ZONE_FIELDS),
        *([f"zspages:{_kb(state[ZoneStatItem.NR_ZSPAGES])}kB"] if more else []),
        f"present:{_kb(zone.present_pages)}kB managed:{_kb(zone.managed_pages)}kB",
        f"mlocked:{_kb(state[ZoneStatItem.NR_MLOCK])}kB bounce:{_kb(state[ZoneStatItem.NR_BOUNCE])}kB",
        f"free_pcp:{_kb(_free_pcp(zone))}kB local_pcp:{_kb(here[current(kernel).processor].count)}kB",
        f"free_cma:{_kb(state[ZoneStatItem.NR_FREE_CMA_PAGES])}kB",
    ]
    return " ".join(words)


def _show_node(kernel: Kernel, zone: Zone) -> str:
    """Whose a zone is, if there can be more nodes than one. Linux: mm/show_mem.c, show_node()."""
    return f"Node {zone.zone_pgdat.node_id} " if NUMA(kernel) else ""


def _free_areas(kernel: Kernel, zone: Zone) -> str:
    """A zone's free blocks by order, and which migratetypes they are of. Linux: mm/show_mem.c, show_free_areas()."""
    words, total = [], 0
    for order, counts in enumerate(zone.free_area_counts()):
        types = "".join(letter for letter, count in zip(MIGRATETYPE_LETTERS, counts, strict=True) if count)
        words.append(f"{sum(counts)}*{_kb(1) << order}kB" + (f" ({types})" if types else ""))
        total += sum(counts) << order
    return f"{_show_node(kernel, zone)}{zone.name}: {' '.join(words)} = {_kb(total)}kB"


def dump_unreclaimable_slab(kernel: Kernel) -> None:
    """Log the caches that reclaim cannot shrink. Linux: mm/slab_common.c, dump_unreclaimable_slab()."""
    emit = kernel.printk.emit
    emit("Unreclaimable slab info:", LOG_INFO)
    emit("Name                      Used          Total", LOG_INFO)
    for cache in kernel.slab:
        if not cache.reclaim_account and cache.num_objs:
            used, total = cache.active_objs * cache.size >> 10, cache.num_objs * cache.size >> 10
            emit(f"{cache.name:<17} {used:10d}KB {total:10d}KB", LOG_INFO)


class AllocWarning:
    """What the log says of an allocation that failed, once in ten seconds. Linux: mm/page_alloc.c, warn_alloc()."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.nopage_rs = RatelimitState(kernel, "warn_alloc", 10 * NSEC_PER_SEC, 1)

    def warn_alloc(self, gfp: int, order: int, nodemask: int | None = None) -> None:
        """Say who could not get what, and how memory is."""
        kernel = self.kernel
        if gfp & GFP_NOWARN_BIT or not self.nopage_rs.ratelimit():
            return
        kernel.printk.emit(
            f"{current(kernel).comm}: page allocation failure: order:{order}, mode:{gfp:#x}({gfp_flag_names(gfp)}), "
            f"nodemask={nodemask_text(nodemask)}{current_mems_allowed(kernel)}",
            LOG_WARNING,
        )
        dump_stack(kernel, "warn_alloc")
        show_mem(kernel, nodemask, kernel.page_alloc.gfp_zone(gfp))


def nodemask_text(nodemask: int | None) -> str:
    """A node mask as the log prints it."""
    return "(null)" if nodemask is None else ranges([nid for nid in range(64) if nodemask >> nid & 1])


def current_mems_allowed(kernel: Kernel) -> str:
    """Where the current task may allocate. Linux: kernel/cgroup/cpuset.c, cpuset_print_current_mems_allowed()."""
    task = current(kernel)
    allowed = task.mems_allowed
    nodes = sorted(allowed or (pgdat.node_id for pgdat in kernel.node_data if pgdat.node_present_pages))
    css = task.cgrp.e_css.get("cpuset")
    return f",cpuset={css.cgroup.name or '/' if css is not None else '/'},mems_allowed={ranges(nodes)}"
