"""The direct map: all of RAM at one address of the kernel, in pages as large as alignment and neighbours allow.

At boot the map is made from the top of memory down in growing steps, so that page tables for the next step lie in
what is mapped already: 2 MB, then 64 MB, 2 GB and so on. A piece uses 1 GB pages if all of the aligned gigabyte is RAM,
else 2 MB pages if all of those two megabytes are, else 4 KB. A step that meets a page which an earlier one
mapped counts it again; DirectMap1G is larger than the machine's memory for that reason, on Linux and here.

Later, giving a part of a page other permissions (kernel text, modules) splits it.

Linux: arch/x86/mm/init.c, init_mem_mapping(); arch/x86/mm/pat/set_memory.c, direct_pages_count[].

Simplified: which pages are split at boot depends on where the kernel and its modules lie; here it is the number that
Debian's kernel needs on a small machine, two gigabyte pages where there are any included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from mmfs.mm_types import GFP_KERNEL, VmEventItem

if TYPE_CHECKING:
    from mmfs.mm.page_alloc import PageAllocator

KB4, MB2, GB1 = 1 << 12, 1 << 21, 1 << 30
ISA_END: Final = 0x100000
STEP_SHIFT: Final = 5

IMAGE_SPLITS_2M: Final = 10
"""2 MB pages split for the sections of the kernel image, before events are counted."""
IMAGE_SPLITS_1G: Final = 2
MODULE_SPLITS_2M: Final = 6
"""2 MB pages split for modules; these are counted as events."""
SPLITS_64: Final = (IMAGE_SPLITS_2M, MODULE_SPLITS_2M)
SPLITS_64_7_0: Final = (IMAGE_SPLITS_2M - 1, MODULE_SPLITS_2M)
"""The same since 7.0."""
SPLITS_32: Final = ((4, 3), (3, 0))
"""Both with 32 bits, where all memory is low and where not."""


class Range(NamedTuple):
    """Bytes of RAM, ``end`` exclusive."""

    start: int
    end: int


class DirectMap:
    """How many pages of each size the kernel's map of RAM has.

    Linux: arch/x86/mm/pat/set_memory.c, direct_pages_count[].
    """

    def __init__(self, ram: Iterable[tuple[int, int]], gbpages: bool, splits: tuple[int, int] = SPLITS_64) -> None:
        """``splits``: of 2 MB pages, for the image and for modules. Without RAM: a kernel that does not count them."""
        self.ram: Sequence[Range] = sorted(Range(*piece) for piece in ram)
        self.gbpages = gbpages
        self.module_splits = splits[1]
        self.nr_4k = self.nr_2m = self.nr_1g = 0
        if not self.ram:
            return
        self.init_mem_mapping()
        broken = sum(self.split_1g() for _ in range(IMAGE_SPLITS_1G))
        for _ in range(splits[0] + broken):
            self.split_2m()

    def split_2m(self) -> bool:
        """Break a 2 MB page into 4 KB pages; False if there is none. Linux: split_page_count()."""
        if not self.nr_2m:
            return False
        self.nr_2m -= 1
        self.nr_4k += MB2 // KB4
        return True

    def split_1g(self) -> bool:
        """Break a 1 GB page into 2 MB pages; False if there is none."""
        if not self.nr_1g:
            return False
        self.nr_1g -= 1
        self.nr_2m += GB1 // MB2
        return True

    def load_modules(self, page_alloc: PageAllocator) -> None:
        """Modules get pages of their own permissions: each split takes a page table and is counted.

        Linux: arch/x86/mm/pat/set_memory.c, split_large_page().
        """
        for _ in range(self.module_splits):
            if page_alloc.alloc_pages(GFP_KERNEL, 0, 0) >= 0 and self.split_2m():
                page_alloc.vmstat.count_vm_events(VmEventItem.DIRECT_MAP_LEVEL2_SPLITS)

    def add(self, start: int, end: int, sign: int = 1) -> None:
        """Memory that was plugged in is mapped, or with -1 no longer. Linux: arch_add_memory()."""
        whole = self.gbpages and start % GB1 == 0
        nr_1g = (end - start) // GB1 if whole else 0
        self.nr_1g += sign * nr_1g
        self.nr_2m += sign * ((end - start - nr_1g * GB1) // MB2)

    def init_mem_mapping(self) -> None:
        """Map the first megabyte, then all RAM from the top down. Linux: arch/x86/mm/init.c, memory_map_top_down()."""
        end = self.ram[-1].end
        self._map(0, ISA_END)
        last = real_end = self._highest_free_2m() + MB2
        step = MB2
        mapped = 0
        while last > ISA_END:
            start = max(_round_down(last - 1, step), ISA_END) if last > step else ISA_END
            mapped += self._map_range(start, last)
            last = start
            if mapped >= step:
                step <<= STEP_SHIFT
        if real_end < end:
            self._map_range(real_end, end)

    def _highest_free_2m(self) -> int:
        """The highest aligned 2 MB of RAM. Linux: memblock_phys_alloc_range()."""
        for piece in reversed(self.ram):
            top = _round_down(piece.end, MB2) - MB2
            if top >= max(piece.start, ISA_END):
                return top
        return ISA_END

    def _map_range(self, start: int, end: int) -> int:
        """Map the RAM of a range; its size. Linux: init_range_memory_mapping()."""
        mapped = 0
        for piece in self.ram:
            low, high = max(piece.start, start), min(piece.end, end)
            if low < high:
                self._map(low, high)
                mapped += high - low
        return mapped

    def _map(self, start: int, end: int) -> None:
        """Map a range with the largest pages it allows. Linux: init_memory_mapping()."""
        for low, high, size in self._split(start, end):
            pages = -(-high // size) - low // size
            if size == GB1:
                self.nr_1g += pages
            elif size == MB2:
                self.nr_2m += pages
            else:
                self.nr_4k += pages

    def _split(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Pieces with the size of their pages. Linux: split_mem_range(), adjust_range_page_size_mask()."""
        sizes = [MB2, GB1] if self.gbpages else [MB2]
        rising = [-(-start // size) * size for size in sizes]
        falling = [_round_down(end, size) for size in reversed(sizes)]
        at = start
        for cut in (*rising, *falling, end):
            if not at < cut <= end:
                continue
            yield at, cut, self._largest_page(at, cut)
            at = cut

    def _largest_page(self, start: int, end: int) -> int:
        for size in (GB1, MB2) if self.gbpages else (MB2,):
            if self._is_ram(_round_down(start, size), -(-end // size) * size):
                return size
        return KB4

    def _is_ram(self, start: int, end: int) -> bool:
        return any(piece.start <= start and end <= piece.end for piece in self.ram)


def _round_down(value: int, size: int) -> int:
    return value // size * size
