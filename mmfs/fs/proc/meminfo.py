"""/proc/meminfo: where the machine's memory is, a row a line, in kilobytes.

Every number is read from the counters of mm/vmstat or from the object that owns it; nothing is kept here.

Linux: fs/proc/meminfo.c, mm/show_mem.c, mm/hugetlb.c, arch/x86/mm/pat/set_memory.c.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from operator import attrgetter, itemgetter, mul
from typing import TYPE_CHECKING

from numpy import add

from mmfs.fs.proc.root import proc
from mmfs.mm.show_mem import node_page_state_pages, si_mem_available
from mmfs.mm.swapfile import nr_swap_pages, total_swap_pages
from mmfs.mm_types import PAGE_SIZE
from mmfs.mm_types import NodeStatItem as Node
from mmfs.mm_types import ZoneStatItem as Zone
from mmfs.profile import config, since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.profile import Profile

# What a row's number counts, in kilobytes; COUNT rows have no unit.
KB = 1
PAGES = PAGE_SIZE >> 10
DIRECT_MAP_2M = 2 << 10
DIRECT_MAP_1G = 1 << 20
COUNT = 0


class MemInfo:
    """The sums that rows share, taken once a read.

    Linux: include/uapi/linux/sysinfo.h, struct sysinfo; fs/proc/meminfo.c, meminfo_proc_show().
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.zone: list[int] = add.reduce(kernel.vmstat.zone_stat).tolist()
        self.node = node_page_state_pages(add.reduce(kernel.vmstat.node_stat).tolist())
        self.bufferram: int = kernel.nr_blockdev_pages()
        self.hstate = kernel.hugetlb.default

    def totalram(self) -> int:
        """Pages that the buddy allocator manages."""
        return self.kernel.totalram_pages()

    def lowfree(self) -> int:
        """Free pages that the kernel can use for its own data."""
        return self.zone[Zone.NR_FREE_PAGES] - self.kernel.page_alloc.nr_free_highpages()

    def cached(self) -> int:
        """Page cache less the swap cache and what block devices hold."""
        return max(self.node[Node.NR_FILE_PAGES] - self.node[Node.NR_SWAPCACHE] - self.bufferram, 0)

    def available(self) -> int:
        """MemAvailable, by the kernel's estimate."""
        page_alloc = self.kernel.page_alloc
        zones = page_alloc.buddy.zones
        wmark_low = int(add.reduce(zones["wmark_low"]) + add.reduce(zones["watermark_boost"]))
        return si_mem_available(self.zone, self.node, page_alloc.totalreserve_pages, wmark_low)


@dataclass(frozen=True)
class Row:
    """One line: its label, its number in units of ``scale`` kilobytes (0: a plain count), where it exists."""

    label: str
    value: Callable[[MemInfo], int] | Zone | Node
    scale: int = PAGES
    needs: Callable[[Profile], bool] | None = None

    def template(self) -> str:
        """The line with a conversion for its number; label and number take 24 columns together."""
        width = 8 - max(0, len(self.label) - 15)
        return f"{self.label + ':':<16}%{width}d{' kB' if self.scale else ''}\n"


def item(label: str, *items: Node, needs: Callable[[Profile], bool] | None = None, scale: int = PAGES) -> Row:
    """A row that is a node counter, or the sum of two."""
    if len(items) == 1:
        return Row(label, items[0], scale, needs)
    one, other = map(int, items)
    return Row(label, lambda m: m.node[one] + m.node[other], scale, needs)


def zone_item(label: str, of: Zone, needs: Callable[[Profile], bool] | None = None) -> Row:
    """A row that is the sum of a zone counter."""
    return Row(label, of, needs=needs)


def of_kernel(label: str, path: str, scale: int = PAGES, needs: Callable[[Profile], bool] | None = None) -> Row:
    """A row whose number is an attribute of an object of the kernel."""
    return Row(label, attrgetter("kernel." + path), scale, needs)


def nothing(_: MemInfo) -> int:
    """What Linux prints as a constant 0, and what no part of the model can change yet."""
    return 0


ROWS = (
    Row("MemTotal", MemInfo.totalram),
    zone_item("MemFree", Zone.NR_FREE_PAGES),
    Row("MemAvailable", MemInfo.available),
    Row("Buffers", attrgetter("bufferram")),
    Row("Cached", MemInfo.cached),
    item("SwapCached", Node.NR_SWAPCACHE),
    item("Active", Node.NR_ACTIVE_ANON, Node.NR_ACTIVE_FILE),
    item("Inactive", Node.NR_INACTIVE_ANON, Node.NR_INACTIVE_FILE),
    item("Active(anon)", Node.NR_ACTIVE_ANON),
    item("Inactive(anon)", Node.NR_INACTIVE_ANON),
    item("Active(file)", Node.NR_ACTIVE_FILE),
    item("Inactive(file)", Node.NR_INACTIVE_FILE),
    item("Unevictable", Node.NR_UNEVICTABLE),
    zone_item("Mlocked", Zone.NR_MLOCK),
    Row("HighTotal", lambda m: m.kernel.page_alloc.totalhigh_pages(), needs=config("HIGHMEM")),
    Row("HighFree", lambda m: m.kernel.page_alloc.nr_free_highpages(), needs=config("HIGHMEM")),
    Row("LowTotal", lambda m: m.totalram() - m.kernel.page_alloc.totalhigh_pages(), needs=config("HIGHMEM")),
    Row("LowFree", MemInfo.lowfree, needs=config("HIGHMEM")),
    Row("SwapTotal", lambda m: total_swap_pages(m.kernel)),
    Row("SwapFree", lambda m: nr_swap_pages(m.kernel)),
    of_kernel("Zswap", "zswap.loops.pool.pages_allocated", needs=config("ZSWAP")),
    of_kernel("Zswapped", "zswap.nr_stored", needs=config("ZSWAP")),
    item("Dirty", Node.NR_FILE_DIRTY),
    item("Writeback", Node.NR_WRITEBACK),
    item("AnonPages", Node.NR_ANON_MAPPED),
    item("Mapped", Node.NR_FILE_MAPPED),
    item("Shmem", Node.NR_SHMEM),
    item("KReclaimable", Node.NR_SLAB_RECLAIMABLE_B, Node.NR_KERNEL_MISC_RECLAIMABLE),
    item("Slab", Node.NR_SLAB_RECLAIMABLE_B, Node.NR_SLAB_UNRECLAIMABLE_B),
    item("SReclaimable", Node.NR_SLAB_RECLAIMABLE_B),
    item("SUnreclaim", Node.NR_SLAB_UNRECLAIMABLE_B),
    item("KernelStack", Node.NR_KERNEL_STACK_KB, scale=KB),
    item("PageTables", Node.NR_PAGETABLE),
    item("SecPageTables", Node.NR_SECONDARY_PAGETABLE),
    Row("NFS_Unstable", nothing),
    zone_item("Bounce", Zone.NR_BOUNCE),
    item("WritebackTmp", Node.NR_WRITEBACK_TEMP),
    Row("CommitLimit", lambda m: m.kernel.overcommit.vm_commit_limit()),
    Row("Committed_AS", lambda m: m.kernel.overcommit.vm_memory_committed()),
    of_kernel("VmallocTotal", "vmalloc.total_kb", KB),
    of_kernel("VmallocUsed", "vmalloc.nr_pages"),
    Row("VmallocChunk", nothing),
    of_kernel("Percpu", "percpu.nr_pages"),
    Row("HardwareCorrupted", lambda m: len(m.kernel.memory_failure.poisoned), needs=config("MEMORY_FAILURE")),
    item("AnonHugePages", Node.NR_ANON_THPS, needs=config("TRANSPARENT_HUGEPAGE")),
    item("ShmemHugePages", Node.NR_SHMEM_THPS, needs=config("TRANSPARENT_HUGEPAGE")),
    item("ShmemPmdMapped", Node.NR_SHMEM_PMDMAPPED, needs=config("TRANSPARENT_HUGEPAGE")),
    item("FileHugePages", Node.NR_FILE_THPS, needs=config("TRANSPARENT_HUGEPAGE")),
    item("FilePmdMapped", Node.NR_FILE_PMDMAPPED, needs=config("TRANSPARENT_HUGEPAGE")),
    of_kernel("CmaTotal", "page_alloc.totalcma_pages", needs=config("CMA")),
    zone_item("CmaFree", Zone.NR_FREE_CMA_PAGES, needs=config("CMA")),
    zone_item("Unaccepted", Zone.NR_UNACCEPTED, needs=config("UNACCEPTED_MEMORY")),
    item("Balloon", Node.NR_BALLOON_PAGES, needs=since(6, 16)),
    Row("HugePages_Total", attrgetter("hstate.nr_huge_pages"), COUNT, config("HUGETLB_PAGE")),
    Row("HugePages_Free", attrgetter("hstate.free_huge_pages"), COUNT, config("HUGETLB_PAGE")),
    Row("HugePages_Rsvd", attrgetter("hstate.resv_huge_pages"), COUNT, config("HUGETLB_PAGE")),
    Row("HugePages_Surp", attrgetter("hstate.surplus_huge_pages"), COUNT, config("HUGETLB_PAGE")),
    Row("Hugepagesize", lambda m: 1 << m.hstate.order, needs=config("HUGETLB_PAGE")),
    Row("Hugetlb", lambda m: m.kernel.hugetlb_total_pages(), needs=config("HUGETLB_PAGE")),
    of_kernel("DirectMap4k", "direct_map.nr_4k", needs=config("X86")),
    of_kernel("DirectMap2M", "direct_map.nr_2m", DIRECT_MAP_2M, config("X86")),
    of_kernel("DirectMap1G", "direct_map.nr_1g", DIRECT_MAP_1G, config("X86") & config("64BIT")),
)


class Plan:
    """What a kernel prints: all numbers are put into one list, counters first, and taken from it row by row."""

    def __init__(self, profile: Profile) -> None:
        self.rows = [row for row in ROWS if row.needs is None or row.needs(profile)]
        self.template = "".join(row.template() for row in self.rows)
        self.scales = [row.scale or 1 for row in self.rows]
        self.others: list[Callable[[MemInfo], int]] = []
        self.take = itemgetter(*[self.place(row.value) for row in self.rows])

    def place(self, value: Callable[[MemInfo], int] | Zone | Node) -> int:
        """Where in the list a row's number is."""
        if isinstance(value, Zone):
            return int(value)
        if isinstance(value, Node):
            return len(Zone) + value
        if value not in self.others:
            self.others.append(value)
        return len(Zone) + len(Node) + self.others.index(value)

    def text(self, m: MemInfo) -> str:
        """The file."""
        numbers = self.take([*m.zone, *m.node, *[value(m) for value in self.others]])
        return self.template % tuple(map(mul, numbers, self.scales))


plan = cache(Plan)

_OTHERS = attrgetter(
    "page_alloc.totalreserve_pages", "vmalloc.nr_pages", "percpu.nr_pages", "overcommit.vm_committed_as",
    "overcommit.sysctl_overcommit_ratio", "overcommit.sysctl_overcommit_kbytes", "direct_map.nr_4k",
    "direct_map.nr_2m", "direct_map.nr_1g", "zswap.loops.pool.pages_allocated", "zswap.nr_stored",
)  # fmt: skip


def version(kernel: Kernel) -> tuple[object, ...]:
    """All that the text is made of, cheaply: while it is equal, the text that was made last still holds."""
    return (
        kernel.vmstat.zone_stat.tobytes(),
        kernel.vmstat.node_stat.tobytes(),
        kernel.page_alloc.buddy.zones.tobytes(),
        kernel.nr_blockdev_pages(),
        kernel.mmu.swap.slots.areas.tobytes(),
        [h.state() for h in kernel.hugetlb.hstates],
        len(kernel.memory_failure.poisoned),
        _OTHERS(kernel),
    )


@proc.attribute("meminfo", version=version)
def meminfo(kernel: Kernel) -> str:
    """Linux: fs/proc/meminfo.c, meminfo_proc_show()."""
    return plan(kernel.profile).text(MemInfo(kernel))
