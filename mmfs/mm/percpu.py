"""Per-CPU memory of the kernel: chunks with a unit for every CPU, of which only the used pages are populated.

The first chunk lies in boot memory, CPUs sharing large pages, and holds the kernel's own per-CPU variables; what
modules, cgroups and file systems ask for later comes from the pages at its end and from further chunks. A few
pages are populated ahead.

Linux: mm/percpu.c.

Simplified: what is allocated after boot fills pages without gaps; boot leaves the pages that Debian's kernel has
populated beyond the first chunk when init starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from mmfs.mm_types import GFP_HIGHMEM_BIT, GFP_KERNEL, HPAGE_PMD_SIZE, PAGE_SIZE, MemcgStatItem
from mmfs.profile import config

if TYPE_CHECKING:
    from mmfs.mm.memcontrol import MemCgroups
    from mmfs.profile import Profile

X86_64 = config("X86") & config("64BIT")
"""Kernels whose per-CPU areas share large pages."""
CHUNK_STRUCT, BLOCK_STRUCT = {8: 200, 4: 96}, 32
"""Bytes; of a chunk by the size of a long."""
MIN_ALLOC_BYTES = 4
OBJ_EXT_BYTES = 8


def pcpu_units_per_alloc(unit_bytes: int, group_cpus: list[int]) -> int:
    """How many per-CPU units share a huge page: as many as waste little. Linux: pcpu_build_alloc_info()."""
    upa = HPAGE_PMD_SIZE // unit_bytes
    while HPAGE_PMD_SIZE % upa or HPAGE_PMD_SIZE // upa % PAGE_SIZE:
        upa -= 1
    nr_cpus = sum(group_cpus)
    best, last_allocs = upa, 1 << 60
    for candidate in range(upa, 0, -1):
        if HPAGE_PMD_SIZE % candidate or HPAGE_PMD_SIZE // candidate % PAGE_SIZE:
            continue
        allocs = sum(-(-cpus // candidate) for cpus in group_cpus)
        wasted = sum(-(-cpus // candidate) * candidate - cpus for cpus in group_cpus)
        if wasted > nr_cpus // 3:
            continue
        if allocs > last_allocs:
            break
        last_allocs, best = allocs, candidate
    return best


def percpu_unit_pages(profile: Profile) -> int:
    """Pages that one CPU's variables take: static, reserved for modules, dynamic."""
    return -(-(profile.image.percpu_static + profile.percpu_reserved + profile.percpu_dynamic) // PAGE_SIZE)


def per_cpu_unit_bytes(profile: Profile, group_cpus: list[int]) -> int:
    """Bytes from one CPU's area to the next, for that many CPUs on each node that has some."""
    if not X86_64(profile):  # Linux: pcpu_embed_first_chunk(), whose atom is a page
        return percpu_unit_pages(profile) * PAGE_SIZE
    return HPAGE_PMD_SIZE // pcpu_units_per_alloc(percpu_unit_pages(profile) * PAGE_SIZE, group_cpus)


def percpu_tables(profile: Profile, unit_bytes: int, nr_groups: int, nr_cpus: int) -> Iterator[tuple[int, str]]:
    """Sizes of the tables about the chunk. Linux: pcpu_setup_first_chunk(), pcpu_alloc_first_chunk()."""
    slots, long = unit_bytes.bit_length() + 1, profile.arch.bits_per_long // 8
    for size in (long * nr_groups, long * nr_groups, 4 * nr_cpus, long * nr_cpus, slots * 2 * long):
        yield size, "per-CPU tables"
    for region in filter(None, (profile.percpu_reserved, profile.percpu_dynamic)):
        pages = -(-region // PAGE_SIZE)
        bitmap = pages * PAGE_SIZE // MIN_ALLOC_BYTES // 8
        for size in (CHUNK_STRUCT[long], bitmap, bitmap + long, pages * BLOCK_STRUCT):
            yield size, "per-CPU chunk"


BOOT_PAGES: Final = 3
"""Pages a unit that are populated after boot beyond the first chunk."""


EMPTY_POP_PAGES_LOW: Final = 2
EMPTY_POP_PAGES_HIGH: Final = 4
"""Between how many and how many empty pages a unit there are. Linux: mm/percpu.c, PCPU_EMPTY_POP_PAGES_LOW."""


class PageSource(Protocol):
    """What per-CPU chunks need of the page allocator."""

    def alloc_pages(self, gfp: int, order: int, nid: int) -> int:
        """First frame of 2^order free ones, -1 if there are none."""

    def free_pages(self, pfn: int) -> object:
        """Give a frame back."""


class PercpuObject(NamedTuple):
    """An allocation: bytes in each unit, and the objcg that pays for it, 0 for none."""

    size: int
    objcg: int = 0


class PerCpu:
    """The populated pages of all units."""

    def __init__(
        self, first_chunk_bytes: int, unit_nodes: list[int], page_alloc: PageSource, memcgs: MemCgroups
    ) -> None:
        """``unit_nodes`` tells each unit's node."""
        self.unit_nodes = unit_nodes
        self.page_alloc = page_alloc
        self.memcgs = memcgs
        self.nr_populated = -(-first_chunk_bytes // PAGE_SIZE)
        self.pages: list[list[int]] = []
        """The pages that boot has populated and those after them, a unit's each."""
        self.used = 0
        """Bytes a unit that were allocated after boot."""
        self.charged: dict[int, int] = {}
        """Bytes by the objcg that pays for them."""

    @property
    def nr_pages(self) -> int:
        """Percpu of /proc/meminfo. Linux: mm/percpu.c, pcpu_nr_pages()."""
        return self.nr_populated * len(self.unit_nodes)

    def populate(self, nr_pages: int = BOOT_PAGES) -> bool:
        """Give every unit so many pages more. Linux: mm/percpu.c, pcpu_populate_chunk()."""
        for _ in range(nr_pages):
            pages = [self.page_alloc.alloc_pages(GFP_KERNEL | GFP_HIGHMEM_BIT, 0, nid) for nid in self.unit_nodes]
            if min(pages) < 0:
                for pfn in pages:
                    if pfn >= 0:
                        self.page_alloc.free_pages(pfn)
                return False
            self.pages.append(pages)
            self.nr_populated += 1
        return True

    def _nr_empty(self) -> int:
        """Populated pages a unit that hold nothing."""
        return len(self.pages) - -(-self.used // PAGE_SIZE)

    def _balance(self) -> bool:
        """Populate some pages ahead; False: not even what is needed. Linux: mm/percpu.c, pcpu_balance_populated()."""
        self.populate(EMPTY_POP_PAGES_HIGH - self._nr_empty())
        return self._nr_empty() >= 0

    def alloc(self, size: int) -> PercpuObject | None:
        """So many bytes in each unit, for which the running task's cgroup pays; None: no memory.

        Linux: mm/percpu.c, pcpu_alloc_noprof(), pcpu_memcg_pre_alloc_hook(), with GFP_KERNEL_ACCOUNT.
        """
        objcg, full = self.memcgs.objcgs.current(), self.full_size(size)
        if objcg and not self.memcgs.charge_bytes(objcg, full):
            return None
        self.used += size
        if self._nr_empty() < EMPTY_POP_PAGES_LOW and not self._balance():
            self.used -= size
            if objcg:
                self.memcgs.objcgs.uncharge(objcg, full)
            return None
        if objcg:
            self.memcgs.objcgs.mod_memcg_state(objcg, MemcgStatItem.MEMCG_PERCPU_B, full)
            self.charged[objcg] = self.charged.get(objcg, 0) + full
        return PercpuObject(size, objcg)

    def free(self, obj: PercpuObject) -> None:
        """Linux: mm/percpu.c, free_percpu(), pcpu_memcg_free_hook(), pcpu_balance_free()."""
        self.used -= obj.size
        if obj.objcg:
            full = self.full_size(obj.size)
            self.charged[obj.objcg] -= full
            self.memcgs.objcgs.mod_memcg_state(obj.objcg, MemcgStatItem.MEMCG_PERCPU_B, -full)
            self.memcgs.objcgs.uncharge(obj.objcg, full)
        while self._nr_empty() > EMPTY_POP_PAGES_HIGH:
            for pfn in self.pages.pop():
                self.page_alloc.free_pages(pfn)
            self.nr_populated -= 1

    def full_size(self, size: int) -> int:
        """What an allocation costs, with what remembers who pays. Linux: mm/percpu.c, pcpu_obj_full_size()."""
        return size * len(self.unit_nodes) + size // MIN_ALLOC_BYTES * OBJ_EXT_BYTES
