"""What looking at 2 MB that could become a huge page comes to. Linux: mm/khugepaged.c, enum scan_result."""

from __future__ import annotations

from enum import IntEnum, auto
from errno import EAGAIN, EBUSY, ENOMEM
from typing import Final

from mmfs.mm_types import VmEventItem


class Scan(IntEnum):
    """The results."""

    FAIL = 0
    SUCCEED = auto()
    PMD_NULL = auto()
    PMD_MAPPED = auto()
    EXCEED_NONE_PTE = auto()
    EXCEED_SWAP_PTE = auto()
    EXCEED_SHARED_PTE = auto()
    PTE_MAPPED_HUGEPAGE = auto()
    PAGE_RO = auto()
    LACK_REFERENCED_PAGE = auto()
    PAGE_LRU = auto()
    PAGE_ANON = auto()
    ALLOC_HUGE_PAGE_FAIL = auto()
    CGROUP_CHARGE_FAIL = auto()
    TRUNCATED = auto()


EXCEEDED: Final = {
    Scan.EXCEED_NONE_PTE: VmEventItem.THP_SCAN_EXCEED_NONE_PTE,
    Scan.EXCEED_SWAP_PTE: VmEventItem.THP_SCAN_EXCEED_SWAP_PTE,
    Scan.EXCEED_SHARED_PTE: VmEventItem.THP_SCAN_EXCEED_SHARE_PTE,
}
COLLAPSE_ERRNO: Final = {
    Scan.ALLOC_HUGE_PAGE_FAIL: ENOMEM, Scan.CGROUP_CHARGE_FAIL: EBUSY, Scan.PAGE_LRU: EAGAIN
}  # fmt: skip
"""Linux: madvise_collapse_errno(); EINVAL otherwise."""
GO_ON: Final = (Scan.PMD_NULL, Scan.PAGE_RO, Scan.LACK_REFERENCED_PAGE, Scan.PAGE_LRU)
"""After which MADV_COLLAPSE looks at the next 2 MB."""
