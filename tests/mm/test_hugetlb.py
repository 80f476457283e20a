"""Pools of huge pages grow and shrink by hand, over the nodes in turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from mmfs.mm.hugetlb import Hstates
from mmfs.mm.page_alloc import PageAllocator
from mmfs.mm.vmstat import VmStat
from mmfs.mm_types import VmEventItem


@dataclass
class Pages:
    """Nodes with so many free blocks of 2 MB each."""

    blocks: list[int]
    vmstat: VmStat = field(init=False)
    held: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.vmstat = VmStat(len(self.blocks))

    def alloc_pages(self, gfp: int, order: int, nid: int) -> int:
        if not self.blocks[nid]:
            return -1
        self.blocks[nid] -= 1
        pfn = (nid << 20) + (self.blocks[nid] << 9)
        self.held.append((pfn, order))
        return pfn

    def page_to_nid(self, pfn: int) -> int:
        return pfn >> 20

    def set_hugetlb(self, pfn: int, order: int, hugetlb: bool) -> None:
        pass

    def free_pages(self, pfn: int, order: int) -> None:
        self.held.remove((pfn, order))
        self.blocks[pfn >> 20] += 1


def pools(blocks: list[int], gigantic: int = 0) -> tuple[Pages, Hstates]:
    pages = Pages(blocks)
    runs = [(n << 18, (n + 1) << 18, 0) for n in range(gigantic)]
    return pages, Hstates(cast(PageAllocator, cast(Any, pages)), (18, 9), range(len(blocks)), runs)


def test_names_and_sizes() -> None:
    _, huge = pools([4])
    assert [h.name for h in huge.hstates] == ["hugepages-1048576kB", "hugepages-2048kB"]
    assert huge.default.order == 9


def test_the_pool_grows_over_the_nodes_in_turn_and_shrinks_again() -> None:
    pages, huge = pools([10, 10, 10])
    pool = huge.default
    pool.set_max_huge_pages(7)
    assert pool.nr_huge_pages_node == [3, 2, 2]
    assert (pool.nr_huge_pages, pool.free_huge_pages, huge.total_pages()) == (7, 7, 7 * 512)
    assert pages.vmstat.event[VmEventItem.HTLB_BUDDY_ALLOC_SUCCESS] == 7
    pool.set_max_huge_pages(1)
    assert (pool.nr_huge_pages, len(pages.held)) == (1, 1)


def test_a_pool_takes_what_there_is() -> None:
    pages, huge = pools([2, 5])
    huge.default.set_max_huge_pages(100)
    assert huge.default.nr_huge_pages_node == [2, 5]
    assert pages.vmstat.event[VmEventItem.HTLB_BUDDY_ALLOC_FAIL] > 0


def test_one_node_by_itself() -> None:
    _, huge = pools([9, 9])
    pool = huge.default
    pool.set_max_huge_pages(4)
    pool.set_max_huge_pages(5, nid=1)
    assert pool.nr_huge_pages_node == [2, 5]
    pool.set_max_huge_pages(0, nid=0)
    assert pool.nr_huge_pages_node == [0, 5]


def test_reserved_pages_stay() -> None:
    _, huge = pools([9])
    huge.default.set_max_huge_pages(5)
    huge.default.resv_huge_pages = 3
    huge.default.set_max_huge_pages(0)
    assert huge.default.nr_huge_pages == 3


@pytest.mark.parametrize(
    ("cmdline", "nodes", "gigantic"),
    [
        ("quiet hugepages=4", [2, 2], 0),
        ("hugepagesz=1G hugepages=2 hugepagesz=2M hugepages=3", [2, 1], 2),
        ("hugepages=0:1,1:3", [1, 3], 0),
        ("hugepages=nonsense", [0, 0], 0),
        ("", [0, 0], 0),
    ],
)
def test_the_command_line(cmdline: str, nodes: list[int], gigantic: int) -> None:
    _, huge = pools([9, 9], gigantic)
    huge.setup(cmdline)
    assert huge.default.nr_huge_pages_node == nodes
    assert huge.hstates[0].nr_huge_pages == gigantic


def test_pages_of_a_gigabyte_do_not_come_from_the_buddy_allocator() -> None:
    pages, huge = pools([9])
    huge.hstates[0].set_max_huge_pages(2)
    assert huge.hstates[0].nr_huge_pages == 0
    assert pages.held == []
