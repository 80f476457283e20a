"""The pools of huge pages: pages of 2 MB and of 1 GB, or what the architecture has, that an administrator sets aside.

A pool grows and shrinks by hand (nr_hugepages) or at boot (hugepages= on the command line); its pages are spread
over the nodes one by one and are gone for everyone else as long as they are in the pool. No free list holds runs of
1 GB: such pages come from the boot allocator before the buddy allocator exists, or, later, from a range that is emptied
(mm/page_isolation.py).

A page fills pageblocks, or is smaller than one: arm64 with pages of 64 KB has huge pages of 2 MB, 512 MB and 16 GB,
where 512 MB are a pageblock and what an entry of a PMD table maps. Those of 2 MB and of 16 GB are mapped by 32 entries
in a row, of a page table and of a PMD table, that are marked as such (PTE_CONT).

Who maps huge pages reserves them first (mm/hugetlb_resv.py), so that a fault finds one: of the free pages,
`resv_huge_pages` are promised. Where too few are free, a pool takes more from the buddy allocator while they are
needed, up to nr_overcommit_hugepages: surplus pages, which go back to it as soon as they are free. Pages in use are
HugetlbFolio objects, free ones frame numbers on a list.

Linux: mm/hugetlb.c.
Simplified: the vmemmap of huge pages is not given back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from errno import EBUSY, ENOMEM
from typing import TYPE_CHECKING, Final

from mmfs.mm.cmdline import HugetlbOptions, node_counts
from mmfs.mm.util import RateLimit
from mmfs.mm_types import (
    GFP_COMP_BIT,
    GFP_HIGHUSER_MOVABLE,
    GFP_NOWARN_BIT,
    GFP_RETRY_MAYFAIL_BIT,
    GFP_THISNODE_BIT,
    HPAGE_PMD_ORDER,
    MAX_PAGE_ORDER,
    MIGRATE_ISOLATE,
    PAGE_SHIFT,
    PAGEBLOCK_ORDER,
    TABLE_SHIFT,
    NodeStatItem,
    VmEventItem,
)

if TYPE_CHECKING:
    from mmfs.mm.hugetlb_cgroup import HugetlbCgroup
    from mmfs.mm.hugetlb_resv import HugepageSubpool
    from mmfs.mm.hugetlbfs import HugetlbfsSuperBlock, HugetlbInode
    from mmfs.mm.page_alloc import PageAllocator

HTLB_ALLOC_MASK: Final = GFP_HIGHUSER_MOVABLE | GFP_COMP_BIT | GFP_NOWARN_BIT | GFP_RETRY_MAYFAIL_BIT
"""What a huge page is asked for with. Linux: include/linux/hugetlb.h, htlb_alloc_mask()."""


def mem_fmt(order: int) -> str:
    """The size of a huge page, in whole MB or GB. Linux: mm/hugetlb_cgroup.c, mem_fmt()."""
    mb = 1 << order + PAGE_SHIFT - 20
    return f"{mb >> 10}GB" if mb >= 1024 else f"{mb}MB"


class HugetlbFolio:
    """A huge page that is in use: mapped, or in a file. Linux: struct folio."""

    __slots__ = (
        "anon", "anon_exclusive", "cgroup", "cgroup_rsvd", "dirty", "hstate", "hwpoison", "index", "mapcount",
        "mapping", "nid", "pfn", "restore_reserve", "subpool",
    )  # fmt: skip

    def __init__(self, hstate: Hstate, pfn: int, nid: int) -> None:
        self.hstate = hstate
        self.pfn = pfn
        self.nid = nid
        self.mapcount = 0
        self.anon = self.anon_exclusive = self.dirty = False
        self.hwpoison = False
        """Its memory has failed: it never comes back to the pool."""
        self.mapping: HugetlbInode | None = None
        """The file that has it, at page `index` of the huge ones."""
        self.index = 0
        self.restore_reserve = False
        """It was promised to somebody, to whom it has to be promised again when it is free."""
        self.subpool: HugepageSubpool | None = None
        self.cgroup: HugetlbCgroup | None = None
        self.cgroup_rsvd: HugetlbCgroup | None = None
        """The cgroups that it is charged to, as a page and as one that nobody had reserved."""

    def __repr__(self) -> str:
        return f"<huge page {self.pfn:#x} of {self.hstate.size_kb} kB, mapped {self.mapcount} times>"


class Hstate:
    """A pool of huge pages of one size. Linux: include/linux/hugetlb.h, struct hstate."""

    def __init__(self, page_alloc: PageAllocator, order: int, nodes: Sequence[int]) -> None:
        nr_nodes = max(nodes) + 1
        self.page_alloc = page_alloc
        self.order = order
        self.level = order // TABLE_SHIFT
        """Which tables have its entries: 0 page tables, 1 PMD tables, 2 PUD tables."""
        self.nr_ptes = 1 << order % TABLE_SHIFT
        """How many entries map a page. Linux: arch/arm64/mm/hugetlbpage.c, num_contig_ptes()."""
        self.nodes = list(nodes)
        self.hugepage_freelists: list[list[int]] = [[] for _ in range(nr_nodes)]
        self.hugepage_activelist: dict[int, HugetlbFolio] = {}
        """The pages in use by first frame, in the order in which they were taken."""
        self.nr_huge_pages_node = [0] * nr_nodes
        self.surplus_huge_pages_node = [0] * nr_nodes
        self.resv_huge_pages = 0
        self.nr_overcommit_huge_pages = 0
        self.next_nid_to_alloc = 0
        self.next_nid_to_free = 0
        self.alloc_contig_pages: Callable[[int, int], int] = lambda nr_pages, nid: -1
        """Where a page comes from that is too large for the buddy allocator: mm/page_isolation.py."""

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
    def size_name(self) -> str:
        """2MB or 1GB, as files of cgroups call it."""
        return mem_fmt(self.order)

    @property
    def huge_page_size(self) -> int:
        """Size of a page in bytes. Linux: huge_page_size()."""
        return 1 << self.order + PAGE_SHIFT

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
    def available_huge_pages(self) -> int:
        """Free pages that are promised to nobody. Linux: available_huge_pages()."""
        return self.free_huge_pages - self.resv_huge_pages

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
        """The pool in base pages."""
        return self.nr_huge_pages << self.order

    # ------------------------------------------------------------------------------ nr_hugepages

    def set_max_huge_pages(
        self, count: int, nid: int | None = None, nodes_allowed: Sequence[int] | None = None
    ) -> None:
        """Grow or shrink the pool to `count` pages, or a node's part of it, as far as that is possible.

        `nodes_allowed`: where pages may come from and go; None: all nodes.

        Pages in use that are too many become surplus. Linux: mm/hugetlb.c, set_max_huge_pages().
        """
        nodes = (nodes_allowed or self.nodes) if nid is None else [nid]
        if nid is not None:
            count += self.persistent_huge_pages - (self.nr_huge_pages_node[nid] - self.surplus_huge_pages_node[nid])
        while self.surplus_huge_pages and count > self.persistent_huge_pages:
            if not self.adjust_pool_surplus(nodes, -1):
                break
        while self.persistent_huge_pages < count:
            if not self.alloc_pool_hugetlb_folio(nodes):
                break
        min_count = max(count, self.resv_huge_pages + self.nr_huge_pages - self.free_huge_pages)
        while self.persistent_huge_pages > min_count:
            if not self.remove_pool_hugetlb_folio(nodes):
                break
        while self.persistent_huge_pages > count:
            if not self.adjust_pool_surplus(nodes, 1):
                break

    def adjust_pool_surplus(self, nodes: Sequence[int], delta: int) -> bool:
        """Call a page surplus, or with -1 no longer. Linux: mm/hugetlb.c, adjust_pool_surplus()."""
        for nid in self._in_turn(nodes, alloc=delta < 0):
            surplus = self.surplus_huge_pages_node[nid]
            if surplus if delta < 0 else surplus < self.nr_huge_pages_node[nid]:
                self.surplus_huge_pages_node[nid] += delta
                return True
        return False

    def _in_turn(self, nodes: Sequence[int], *, alloc: bool) -> Iterator[int]:
        """The nodes, from the one whose turn it is; each that is looked at has had its turn.

        Linux: for_each_node_mask_to_alloc(), for_each_node_mask_to_free().
        """
        for nid in _round_robin(nodes, self.next_nid_to_alloc if alloc else self.next_nid_to_free):
            if alloc:
                self.next_nid_to_alloc = _next(nodes, nid)
            else:
                self.next_nid_to_free = _next(nodes, nid)
            yield nid

    def alloc_pool_hugetlb_folio(self, nodes: Sequence[int]) -> bool:
        """Add a page from the next node that has one. Linux: mm/hugetlb.c, alloc_pool_huge_folio()."""
        for nid in self._in_turn(nodes, alloc=True):
            pfn = self.alloc_fresh_hugetlb_folio(nid, GFP_THISNODE_BIT)
            if pfn >= 0:
                self.hugepage_freelists[nid].append(pfn)
                return True
        return False

    def alloc_fresh_hugetlb_folio(self, nid: int, gfp: int = 0) -> int:
        """A new page of the pool, on no list yet, or -1. Linux: mm/hugetlb.c, only_alloc_fresh_hugetlb_folio()."""
        if self.gigantic:
            pfn = self.alloc_contig_pages(1 << self.order, nid)
            if pfn >= 0:
                self._init_new_hugetlb_folio(pfn)
            return pfn
        pfn = self.page_alloc.alloc_pages(HTLB_ALLOC_MASK | gfp, self.order, nid)
        event = VmEventItem.HTLB_BUDDY_ALLOC_SUCCESS if pfn >= 0 else VmEventItem.HTLB_BUDDY_ALLOC_FAIL
        self.page_alloc.vmstat.count_vm_events(event)
        if pfn >= 0:
            self._init_new_hugetlb_folio(pfn)
        return pfn

    def _init_new_hugetlb_folio(self, pfn: int) -> None:
        """Linux: mm/hugetlb.c, prep_new_hugetlb_folio()."""
        self.page_alloc.set_hugetlb(pfn, self.order, True)
        self.nr_huge_pages_node[self.page_alloc.page_to_nid(pfn)] += 1

    def add_hugetlb_folio(self, pfn: int, nid: int) -> None:
        """Put a page into the pool. Linux: mm/hugetlb.c, prep_and_add_allocated_folios()."""
        self._init_new_hugetlb_folio(pfn)
        self.hugepage_freelists[nid].append(pfn)

    def remove_pool_hugetlb_folio(self, nodes: Sequence[int], acct_surplus: bool = False) -> bool:
        """Give a free page back to the buddy allocator. Linux: mm/hugetlb.c, remove_pool_hugetlb_folio()."""
        for nid in self._in_turn(nodes, alloc=False):
            if self.hugepage_freelists[nid] and (not acct_surplus or self.surplus_huge_pages_node[nid]):
                self.remove_hugetlb_folio(self.hugepage_freelists[nid].pop(), nid, acct_surplus)
                return True
        return False

    def remove_hugetlb_folio(self, pfn: int, nid: int, surplus: bool) -> None:
        """A page that is on no list is the buddy allocator's again. Linux: remove_hugetlb_folio()."""
        self.nr_huge_pages_node[nid] -= 1
        self.surplus_huge_pages_node[nid] -= surplus
        self.page_alloc.set_hugetlb(pfn, self.order, False)
        largest = min(self.order, MAX_PAGE_ORDER)
        for first in range(pfn, pfn + (1 << self.order), 1 << largest):
            self.page_alloc.free_pages(first, largest)

    def demote(self, target: Hstate, count: int, nid: int | None = None) -> None:
        """Cut up to `count` free pages, of one node or in turn of all, smaller. EBUSY. Linux: demote_store()."""
        nodes = self.nodes if nid is None else [nid]
        while count:
            free = self.free_huge_pages if nid is None else self.free_huge_pages_node[nid]
            if free == self.resv_huge_pages:
                break
            demoted = self._demote_pool_huge_page(target, nodes, count)
            if not demoted:
                raise OSError(EBUSY, "no huge page is free there")
            count -= demoted

    def _demote_pool_huge_page(self, target: Hstate, nodes: Sequence[int], count: int) -> int:
        """Cut free pages of one node after the other until there are `count`. Linux: demote_pool_huge_page()."""
        demoted = 0
        for nid in self._in_turn(nodes, alloc=False):
            while self.hugepage_freelists[nid] and demoted < count:
                pfn = self.hugepage_freelists[nid].pop()
                self.nr_huge_pages_node[nid] -= 1
                self.page_alloc.set_hugetlb(pfn, self.order, False)
                for first in reversed(range(pfn, pfn + (1 << self.order), 1 << target.order)):
                    target.add_hugetlb_folio(first, nid)
                demoted += 1
            if demoted == count:
                break
        return demoted

    # ------------------------------------------------------------------------------ promises and surplus

    def alloc_surplus_hugetlb_folio(self, nid: int) -> int:
        """A page more than the pool should have, on no list yet; -1. Linux: alloc_surplus_hugetlb_folio()."""
        if self.gigantic or self.surplus_huge_pages >= self.nr_overcommit_huge_pages:
            return -1
        pfn = self.alloc_fresh_hugetlb_folio(nid)
        if pfn >= 0:
            self.surplus_huge_pages_node[self.page_alloc.page_to_nid(pfn)] += 1
        return pfn

    def acct_memory(self, delta: int, allowed: Sequence[int] | None = None) -> None:
        """Promise pages, surplus ones if need be, or fewer; ENOMEM if the nodes `allowed` do not have that many free.

        Linux: mm/hugetlb.c, hugetlb_acct_memory(), gather_surplus_pages().
        """
        nodes = self.nodes if allowed is None else allowed
        if delta <= 0:
            self.return_unused_surplus_pages(-delta)
            return
        surplus: list[int] = []
        while self.resv_huge_pages + delta > self.free_huge_pages + len(surplus):
            pfn = next((pfn for nid in nodes if (pfn := self.alloc_surplus_hugetlb_folio(nid)) >= 0), -1)
            if pfn < 0:
                for pfn in surplus:
                    self.remove_hugetlb_folio(pfn, self.page_alloc.page_to_nid(pfn), True)
                raise OSError(ENOMEM, "too few huge pages are free")
            surplus.append(pfn)
        self.resv_huge_pages += delta
        for pfn in surplus:
            self.hugepage_freelists[self.page_alloc.page_to_nid(pfn)].append(pfn)
        if delta > sum(len(self.hugepage_freelists[nid]) for nid in nodes):
            self.return_unused_surplus_pages(delta)
            raise OSError(ENOMEM, "too few huge pages are free on the nodes that are allowed")

    def return_unused_surplus_pages(self, unused: int) -> None:
        """So many promises were not needed; surplus pages for them go. Linux: return_unused_surplus_pages()."""
        self.resv_huge_pages -= unused
        for _ in range(min(unused, self.surplus_huge_pages)):
            if not self.remove_pool_hugetlb_folio(self.nodes, acct_surplus=True):
                break

    # ------------------------------------------------------------------------------ pages in use

    def dequeue(self, nodes: Iterable[int]) -> int:
        """Take a free page off the list of the first node that has one, -1: none; isolated ones stay.

        Linux: dequeue_hugetlb_folio_nodemask().

        Simplified: 6.12 takes isolated ones, too; what has to leave memory that goes offline may move in it forever.
        """
        migratetypes = self.page_alloc.frames.blocks["migratetype"]
        for nid in nodes:
            pages = self.hugepage_freelists[nid]
            for at in range(len(pages) - 1, -1, -1):
                if migratetypes[pages[at] >> PAGEBLOCK_ORDER] != MIGRATE_ISOLATE:
                    return pages.pop(at)
        return -1

    def dequeue_hugetlb_folio(self, nodes: Iterable[int]) -> HugetlbFolio | None:
        """Take a free page into use."""
        pfn = self.dequeue(nodes)
        return self.activate(pfn) if pfn >= 0 else None

    def activate(self, pfn: int) -> HugetlbFolio:
        """A page that is on no list is in use from now on."""
        folio = HugetlbFolio(self, pfn, self.page_alloc.page_to_nid(pfn))
        self.hugepage_activelist[pfn] = folio
        self.count_in_use(folio.nid, 1)
        return folio

    def count_in_use(self, nid: int, nr: int) -> None:
        """So many more pages of a node are in use. Linux: lruvec_stat_mod_folio() of NR_HUGETLB."""
        self.page_alloc.vmstat.mod_node_page_state(nid, NodeStatItem.NR_HUGETLB, nr << self.order)

    def free_huge_folio(self, folio: HugetlbFolio) -> None:
        """Nobody uses the page any more, unless it has failed. Linux: mm/hugetlb.c, free_huge_folio()."""
        if folio.hwpoison:
            return
        del self.hugepage_activelist[folio.pfn]
        self.count_in_use(folio.nid, -1)
        restore_reserve = folio.restore_reserve
        if not restore_reserve and folio.subpool is not None and folio.subpool.put_pages(1) == 0:
            restore_reserve = True
        if folio.cgroup is not None:
            folio.cgroup.uncharge(self.size_name, 1 << self.order, folio.nid)
        if folio.cgroup_rsvd is not None:
            folio.cgroup_rsvd.uncharge_rsvd(self.size_name, 1 << self.order)
        self.resv_huge_pages += restore_reserve
        self.enqueue(folio.pfn, folio.nid)

    def enqueue(self, pfn: int, nid: int) -> None:
        """A page that nobody uses any more is free, or leaves the pool if it was a surplus one."""
        if self.surplus_huge_pages_node[nid]:
            self.remove_hugetlb_folio(pfn, nid, True)
        else:
            self.hugepage_freelists[nid].append(pfn)


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
        orders: Sequence[int],
        nodes: Sequence[int],
        gigantic: Iterable[tuple[int, int, int]] = (),
    ) -> None:
        """`nodes` are those with memory; `gigantic` the largest pages, taken early: (first frame, end, node)."""
        self.hstates = [Hstate(page_alloc, order, nodes) for order in orders]
        self.default = next(hstate for hstate in self.hstates if hstate.order == HPAGE_PMD_ORDER)
        """The pool that meminfo and vm.nr_hugepages speak of. Linux: default_hstate."""
        self.inodes: dict[HugetlbInode, None] = {}
        """All files of huge pages."""
        self.mounts: dict[tuple[int, int], HugetlbfsSuperBlock] = {}
        """What is mounted, by device number; and the kernel's own mounts for nameless files, with theirs."""
        self.vfsmounts: dict[Hstate, tuple[HugetlbfsSuperBlock, tuple[int, int]]] = {}
        self.clear_ns = self.copy_ns = 0
        """What it takes to clear, and to copy, a base page."""
        self.ratelimit = RateLimit()
        self._next_ino = 0
        for start, _, nid in gigantic:
            self.hstates[0].add_hugetlb_folio(start, nid)

    def __iter__(self) -> Iterator[Hstate]:
        return iter(self.hstates)

    @property
    def nodes(self) -> list[int]:
        """The nodes that have memory."""
        return self.hstates[0].nodes

    def set_nodes(self, nodes: Sequence[int]) -> None:
        """Other nodes have memory from now on."""
        for hstate in self.hstates:
            hstate.nodes = list(nodes)
            more = max(nodes) + 1 - len(hstate.nr_huge_pages_node)
            hstate.nr_huge_pages_node += [0] * more
            hstate.surplus_huge_pages_node += [0] * more
            hstate.hugepage_freelists += [[] for _ in range(more)]

    def new_ino(self) -> int:
        """The number of the next nameless file."""
        self._next_ino += 1
        return self._next_ino

    def folio_hstate(self, pfn: int) -> Hstate:
        """The pool of the huge page that a frame belongs to. Linux: include/linux/hugetlb.h, folio_hstate()."""
        for hstate in self.hstates:
            head = pfn >> hstate.order << hstate.order
            if head in hstate.hugepage_activelist or any(head in pages for pages in hstate.hugepage_freelists):
                return hstate
        raise AssertionError(f"{pfn:#x} is in no pool")

    def find(self, name: str) -> Hstate | None:
        """The pool of a directory of /sys/kernel/mm/hugepages."""
        return next((hstate for hstate in self.hstates if hstate.name == name), None)

    def dissolve_free_hugetlb_folios(self, start: int, end: int) -> None:
        """Free pages that have to do with a range of frames leave their pools.

        EBUSY: one is in use, or promised to somebody. Linux: mm/hugetlb.c, dissolve_free_hugetlb_folios().
        """
        for hstate in self.hstates:
            size = 1 << hstate.order
            for pfn in hstate.hugepage_activelist:
                if pfn < end and pfn + size > start:
                    raise OSError(EBUSY, f"the huge page at {pfn:#x} is in use")
            for nid in hstate.nodes:
                for pfn in [one for one in hstate.hugepage_freelists[nid] if one < end and one + size > start]:
                    if not hstate.available_huge_pages:
                        raise OSError(EBUSY, "all free huge pages are promised")
                    hstate.hugepage_freelists[nid].remove(pfn)
                    hstate.remove_hugetlb_folio(pfn, nid, bool(hstate.surplus_huge_pages_node[nid]))

    def total_pages(self) -> int:
        """All pools in base pages. Linux: mm/hugetlb.c, hugetlb_total_pages()."""
        return sum(hstate.nr_base_pages for hstate in self.hstates)

    def setup(self, cmdline: str) -> None:
        """Fill the pools as the command line says; those of gigantic pages are full. Linux: hugetlb_init()."""
        by_size = {hstate.huge_page_size: hstate for hstate in self.hstates}
        options = HugetlbOptions.parse(cmdline, by_size)
        self.default = by_size[options.default]
        for size, text in options.counts:
            if not by_size[size].gigantic:
                for nid, count in node_counts(text):
                    if nid is not None and nid not in self.nodes:
                        break
                    by_size[size].set_max_huge_pages(count, nid)
