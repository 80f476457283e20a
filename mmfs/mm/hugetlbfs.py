"""Huge pages of hugetlbfs, as far as mmap() needs them: the nameless file behind MAP_ANONYMOUS | MAP_HUGETLB.

Linux: fs/hugetlbfs/inode.c, hugetlb_file_setup(), hugetlbfs_file_mmap().

Simplified: there are no pools, so every mapping is refused when its pages would be reserved. Linux lets a
MAP_NORESERVE mapping pass without a pool and kills its user at the first touch.
"""

from __future__ import annotations

from errno import EINVAL, ENOMEM
from typing import TYPE_CHECKING

from mmfs.mm.mman import FMODE_READ, FMODE_WRITE, MAP_HUGE_MASK, MAP_HUGE_SHIFT, PMD_SIZE

if TYPE_CHECKING:
    from mmfs.mm.vma import VmAreaStruct

HSTATE_SIZES = {0: PMD_SIZE, 21: PMD_SIZE, 30: 1 << 30}
"""MAP_HUGE_* to page size; 0 is the default."""


class HugetlbInode:
    """The inode of a hugetlbfs file without a name."""

    shmem = False

    def __init__(self, page_size: int) -> None:
        self.huge_page_size = page_size


class HugetlbFile:
    """An anonymous hugetlbfs file."""

    f_mode = FMODE_READ | FMODE_WRITE

    def __init__(self, page_size: int) -> None:
        self.inode = HugetlbInode(page_size)
        self.mapping = self

    def get(self) -> None:
        """One user more."""

    def put(self) -> None:
        """One user less."""

    def mmap(self, vma: VmAreaStruct) -> None:
        """Reserve the pages. Linux: hugetlbfs_file_mmap(), hugetlb_reserve_pages()."""
        raise OSError(ENOMEM, "no huge pages are free")


def hugetlb_file_setup(flags: int) -> HugetlbFile:
    """A file of the page size that the MAP_HUGE_* bits ask for. Linux: ksys_mmap_pgoff(), hugetlb_file_setup()."""
    page_size = HSTATE_SIZES.get(flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK)
    if page_size is None:
        raise OSError(EINVAL, "no such huge page size")
    return HugetlbFile(page_size)
