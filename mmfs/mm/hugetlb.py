"""The pools of huge pages: pages of 2 MB and of 1 GB that an administrator sets aside.

A pool grows and shrinks by hand (nr_hugepages) or at boot (hugepages= on the command line); its pages are spread
over the nodes one by one and are gone for everyone else as long as they are in the pool. Pages of 1 GB
are taken from the boot allocator before the buddy allocator exists, as no free list holds such runs.

Linux: mm/hugetlb.c.
Simplified: nothing maps huge pages yet, so all of a pool's pages are free; the vmemmap of huge pages is not given back;
pages of 1 GB cannot be added after boot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from mmfs.mm_types import (
    GFP_COMP_BIT,
    GFP_HIGHUSER_MOVABLE,
    GFP_NOWARN_BIT,
    GFP_RETRY_MAYFAIL_BIT,
    GFP_THISNODE_BIT,
    HPAGE_PMD_ORDER,
    MAX_PAGE_ORDER,
    PAGE_SHIFT,
    VmEventItem,
)

if TYPE_CHECKING:
    from mmfs.mm.page_alloc import PageAllocator

PUD_ORDER: Final = 18


class Hstate:
    """A pool of huge pages of one size. Linux: include/linux/hugetlb.h, struct hstate."""

    def __init__(self, page_alloc: PageAllocator, order: int, nodes: Sequence[int]) -> None:
        nr_nodes = max(nodes) + 1
        self.page_alloc = page_alloc
        self.order = order
        self.nodes = list(nodes)
        self.hugepage_freelists: list[list[int]] = [[] for _ in range(nr_nodes)]
        self.nr_huge_pages_node = [0] * nr_nodes
        self.surplus_huge_pages_node = [0] * nr_nodes
        self.resv_huge_pages = 0
        self.nr_overcommit_huge_pages = 0
        self.next_nid_to_alloc = 0
        self.next_nid_to_free = 0

    def __repr__(self) -> str:
        return f"<Hstate {self.name} {self.free_huge_pages}/{self.nr_huge_pages}>"

    @property
    def name(self) -> str:
        """The directory under /sys/kernel/mm/hugepages."""
        return f"hugepages-{self.size_kb}kB"

    @property
    def size_kb(self) -> int:
        """Size of a page in kB."""
        return 1 << self.order + PAGE_SHIFT - 10

    @property
    def gigantic(self) -> bool:
        """Larger than the buddy allocator's largest blocks. Linux: hstate_is_gigantic()."""
        return self.order > MAX_PAGE_ORDER

    @property
    def nr_huge_pages(self) -> int:
        """Pages in the pool, surplus ones included."""
        return sum(self.nr_huge_pages_node)

    @property
    def surplus_huge_pages(self) -> int:
        """Pages beyond the persistent ones."""
        return sum(self.surplus_huge_pages_node)

    @property
    def free_huge_pages_node(self) -> list[int]:
        """Free pages on each node."""
        return [len(pages) for pages in self.hugepage_freelists]

    @property
    def free_huge_pages(self) -> int:
        """Pages that nobody maps."""
        return sum(self.free_huge_pages_node)

    @property
    def persistent_huge_pages(self) -> int:
        """Pages that stay. Linux: persistent_huge_pages()."""
        return self.nr_huge_pages - self.surplus_huge_pages

    def state(self) -> tuple[int, ...]:
        """All its counts, to see whether one has changed."""
        free = map(len, self.hugepage_freelists)
        return (*self.nr_huge_pages_node, *free, *self.surplus_huge_pages_node, self.resv_huge_pages)

    @property
    def nr_base_pages(self) -> int:
        """The pool in pages of 4 KB."""
        return self.nr_huge_pages << self.order

    def set_max_huge_pages(self, count: int, nid: int | None = None) -> None:
        """Grow or shrink the pool to `count` pages, or a node's part of it, as far as that is possible.

        Linux: mm/hugetlb.c, set_max_huge_pages().
        """
        nodes = self.nodes if nid is None else [nid]
        if nid is not None:
            count += self.persistent_huge_pages - (self.nr_huge_pages_node[nid] - self.surplus_huge_pages_node[nid])
        while self.persistent_huge_pages < count:
            if not self.alloc_pool_hugetlb_folio(nodes):
                break
        while self.persistent_huge_pages > max(count, self.resv_huge_pages):
            if not self.remove_pool_hugetlb_folio(nodes):
                break

    def alloc_pool_hugetlb_folio(self, nodes: Sequence[int]) -> bool:
        """Add a page from the next node that has one. Linux: mm/hugetlb.c, alloc_pool_huge_folio()."""
        if self.gigantic:
            return False
        gfp = GFP_HIGHUSER_MOVABLE | GFP_COMP_BIT | GFP_NOWARN_BIT | GFP_RETRY_MAYFAIL_BIT | GFP_THISNODE_BIT
        for nid in _round_robin(nodes, self.next_nid_to_alloc):
            self.next_nid_to_alloc = _next(nodes, nid)
            pfn = self.page_alloc.alloc_pages(gfp, self.order, nid)
            event = VmEventItem.HTLB_BUDDY_ALLOC_SUCCESS if pfn >= 0 else VmEventItem.HTLB_BUDDY_ALLOC_FAIL
            self.page_alloc.vmstat.count_vm_events(event)
            if pfn >= 0:
                self.add_hugetlb_folio(pfn, nid)
                return True
        return False

    def add_hugetlb_folio(self, pfn: int, nid: int) -> None:
        """Put a page into the pool. Linux: mm/hugetlb.c, enqueue_hugetlb_folio()."""
        self.hugepage_freelists[nid].append(pfn)
        self.nr_huge_pages_node[nid] += 1

    def remove_pool_hugetlb_folio(self, nodes: Sequence[int]) -> bool:
        """Give a free page back to the buddy allocator. Linux: mm/hugetlb.c, remove_pool_hugetlb_folio()."""
        for nid in _round_robin(nodes, self.next_nid_to_free):
            self.next_nid_to_free = _next(nodes, nid)
            if self.hugepage_freelists[nid]:
                pfn = self.hugepage_freelists[nid].pop()
                self.nr_huge_pages_node[nid] -= 1
                largest = min(self.order, MAX_PAGE_ORDER)
                for first in range(pfn, pfn + (1 << self.order), 1 << largest):
                    self.page_alloc.free_pages(first, largest)
                return True
        return False

    def demote(self, target: Hstate, count: int, nid: int | None = None) -> None:
        """Cut up to `count` free pages, of one node or in turn of all, into smaller ones. Linux: demote_store()."""
        nodes = self.nodes if nid is None else [nid]
        while count and (self.free_huge_pages > self.resv_huge_pages or nid is not None):
            if not self._demote_free_hugetlb_folio(target, nodes):
                break
            count -= 1

    def _demote_free_hugetlb_folio(self, target: Hstate, nodes: Sequence[int]) -> bool:
        """Linux: mm/hugetlb.c, demote_pool_huge_page()."""
        for nid in _round_robin(nodes, self.next_nid_to_free):
            self.next_nid_to_free = _next(nodes, nid)
            if self.hugepage_freelists[nid]:
                pfn = self.hugepage_freelists[nid].pop()
                self.nr_huge_pages_node[nid] -= 1
                for first in range(pfn, pfn + (1 << self.order), 1 << target.order):
                    target.add_hugetlb_folio(first, nid)
                return True
        return False


def _round_robin(nodes: Sequence[int], first: int) -> list[int]:
    """The nodes in turn, beginning with `first` or the next after it."""
    at = next((place for place, nid in enumerate(nodes) if nid >= first), 0)
    return [*nodes[at:], *nodes[:at]]


def _next(nodes: Sequence[int], nid: int) -> int:
    """The node after `nid`. Linux: mm/hugetlb.c, next_node_allowed()."""
    at = nodes.index(nid) + 1
    return nodes[at % len(nodes)]


class Hstates:
    """All pools of a machine, the largest pages first as they register. Linux: mm/hugetlb.c, hstates[]."""

    def __init__(
        self,
        page_alloc: PageAllocator,
        nodes: Sequence[int],
        gigantic: Iterable[tuple[int, int, int]] = (),
        gbpages: bool = True,
    ) -> None:
        """`nodes` are those with memory; `gigantic` the runs of 1 GB taken early: (first frame, end, node)."""
        orders = [PUD_ORDER, HPAGE_PMD_ORDER] if gbpages else [HPAGE_PMD_ORDER]
        self.hstates = [Hstate(page_alloc, order, nodes) for order in orders]
        for start, _, nid in gigantic:
            self.hstates[0].add_hugetlb_folio(start, nid)

    def __iter__(self) -> Iterator[Hstate]:
        return iter(self.hstates)

    @property
    def default(self) -> Hstate:
        """The pool that meminfo and vm.nr_hugepages speak of. Linux: default_hstate."""
        return self.hstates[-1]

    def find(self, name: str) -> Hstate | None:
        """The pool of a directory of /sys/kernel/mm/hugepages."""
        return next((hstate for hstate in self.hstates if hstate.name == name), None)

    def total_pages(self) -> int:
        """All pools in pages of 4 KB. Linux: mm/hugetlb.c, hugetlb_total_pages()."""
        return sum(hstate.nr_base_pages for hstate in self.hstates)

    def setup(self, cmdline: str) -> None:
        """Fill the pools as hugepages= and hugepagesz= say. Linux: mm/hugetlb.c, hugetlb_init(), hugepages_setup()."""
        hstate = self.default
        for word in cmdline.split():
            key, _, value = word.partition("=")
            if key == "hugepagesz":
                hstate = self.hstates[0] if value.upper() in ("1G", "1024M") else self.default
            elif key == "hugepages" and not hstate.gigantic:
                hugepages_setup(hstate, value)


def hugepages_setup(hstate: Hstate, text: str) -> None:
    """hugepages=N or hugepages=NODE:N,NODE:N. Linux: mm/hugetlb.c, hugepages_setup()."""
    if text.isdecimal():
        hstate.set_max_huge_pages(int(text))
        return
    for part in text.split(","):
        node, colon, count = part.partition(":")
        if not (colon and node.isdecimal() and count.isdecimal()) or int(node) not in hstate.nodes:
            return
        hstate.set_max_huge_pages(int(count), int(node))
