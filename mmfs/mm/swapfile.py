"""Swap areas: what is swapped on, how large, how full.

Linux: mm/swapfile.c.

Simplified: nothing is swapped out yet, so areas are empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmfs.mm_types import PAGE_SHIFT

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


@dataclass
class SwapInfoStruct:
    """One swap area; ``pages`` leaves out its header page. Linux: struct swap_info_struct."""

    file: str
    type: str
    pages: int
    prio: int
    inuse_pages: int = 0

    @property
    def size(self) -> int:
        """Usable size in kB, as /proc/swaps shows it."""
        return self.pages << (PAGE_SHIFT - 10)

    @property
    def used(self) -> int:
        """Size in use in kB."""
        return self.inuse_pages << (PAGE_SHIFT - 10)


def total_swap_pages(kernel: Kernel) -> int:
    """Pages of all areas. Linux: total_swap_pages."""
    return sum(area.pages for area in kernel.swap_info)


def nr_swap_pages(kernel: Kernel) -> int:
    """Free pages of all areas. Linux: get_nr_swap_pages()."""
    return sum(area.pages - area.inuse_pages for area in kernel.swap_info)
