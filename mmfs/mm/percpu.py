"""Per-CPU memory of the kernel: chunks with a unit for every CPU, of which only the used pages are populated.

The first chunk lies in boot memory, CPUs sharing large pages, and holds the kernel's own per-CPU variables; what
modules, cgroups and file systems ask for later comes from the pages at its end and from further chunks. A few
pages are populated ahead.

Linux: mm/percpu.c.

Simplified: the size of each later allocation is not tracked; boot leaves the pages that Debian's kernel has populated
beyond the first chunk when init starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol

from mmfs.mm_types import GFP_KERNEL, PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.profile import Profile

PMD_SIZE = 2 << 20
CHUNK_STRUCT, SLOT_STRUCT, BLOCK_STRUCT = 200, 16, 32
MIN_ALLOC_BYTES = 4


def pcpu_units_per_alloc(unit_bytes: int, group_cpus: list[int]) -> int:
    """How many per-CPU units share a 2 MB page: as many as waste little. Linux: pcpu_build_alloc_info()."""
    upa = PMD_SIZE // unit_bytes
    while PMD_SIZE % upa or PMD_SIZE // upa % PAGE_SIZE:
        upa -= 1
    nr_cpus = sum(group_cpus)
    best, last_allocs = upa, 1 << 60
    for candidate in range(upa, 0, -1):
        if PMD_SIZE % candidate or PMD_SIZE // candidate % PAGE_SIZE:
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
    return PMD_SIZE // pcpu_units_per_alloc(percpu_unit_pages(profile) * PAGE_SIZE, group_cpus)


def percpu_tables(profile: Profile, unit_bytes: int, nr_groups: int, nr_cpus: int) -> Iterator[tuple[int, str]]:
    """Sizes of the tables about the chunk. Linux: pcpu_setup_first_chunk(), pcpu_alloc_first_chunk()."""
    slots = unit_bytes.bit_length() + 1
    for size in (8 * nr_groups, 8 * nr_groups, 4 * nr_cpus, 8 * nr_cpus, slots * SLOT_STRUCT):
        yield size, "per-CPU tables"
    for region in (profile.percpu_reserved, profile.percpu_dynamic):
        bitmap = region // MIN_ALLOC_BYTES // 8
        for size in (CHUNK_STRUCT, bitmap, bitmap + 8, region // PAGE_SIZE * BLOCK_STRUCT):
            yield size, "per-CPU chunk"


BOOT_PAGES: Final = 3
"""Pages a unit that are populated after boot beyond the first chunk."""


class PageSource(Protocol):
    """What per-CPU chunks need of the page allocator."""

    def alloc_pages(self, gfp: int, order: int, nid: int) -> int:
        """First frame of 2^order free ones, -1 if there are none."""


class PerCpu:
    """The populated pages of all units."""

    def __init__(self, first_chunk_bytes: int, unit_nodes: list[int]) -> None:
        """``unit_nodes`` tells each unit's node."""
        self.unit_nodes = unit_nodes
        self.nr_populated = -(-first_chunk_bytes // PAGE_SIZE)
        self.pages: list[int] = []

    @property
    def nr_pages(self) -> int:
        """Percpu of /proc/meminfo. Linux: mm/percpu.c, pcpu_nr_pages()."""
        return self.nr_populated * len(self.unit_nodes)

    def populate(self, page_alloc: PageSource, nr_pages: int = BOOT_PAGES) -> None:
        """Give every unit so many pages more. Linux: mm/percpu.c, pcpu_populate_chunk()."""
        for _ in range(nr_pages):
            pages = [page_alloc.alloc_pages(GFP_KERNEL, 0, nid) for nid in self.unit_nodes]
            if min(pages) < 0:
                return
            self.pages += pages
            self.nr_populated += 1
