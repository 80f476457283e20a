"""Huge pages by cgroup: what is mapped and what is reserved of each size, with limits.

A page is charged to the cgroup of the task whose fault takes it; a reservation to that of the task that makes it, and
so is a page that nobody has reserved. Pages become the parent's when a cgroup goes, reservations stay with it.

Linux: mm/hugetlb_cgroup.c.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from mmfs.mm.cgroup_defs import CgroupSubsys, CgroupSubsysState
from mmfs.mm_types import PAGE_COUNTER_MAX
from mmfs.profile import until

if TYPE_CHECKING:
    from mmfs.mm.hugetlb import Hstate, Hstates


LIMIT_ROUNDED: Final = until(7, 0)
"""Which kernels round no limit, too: later ones show a number until "max" is written. Linux: hugetlb_cgroup_init()."""


class HugetlbCounter:
    """Pages of 4 KB, of one size of huge pages, mapped or reserved. Linux: struct page_counter."""

    __slots__ = ("failcnt", "max", "usage", "watermark")

    def __init__(self, order: int, rounded: bool = True) -> None:
        self.usage = 0
        self.watermark = self.failcnt = 0
        """The highest usage so far and how often the limit was hit, which cgroup v1 shows."""
        self.max = PAGE_COUNTER_MAX >> order << order if rounded else PAGE_COUNTER_MAX


class HugetlbCgroup(CgroupSubsysState):
    """By the name of the size, such as 2MB. Linux: struct hugetlb_cgroup."""

    __slots__ = ("events", "events_local", "hugepage", "nodeinfo", "rsvd_hugepage")

    parent: HugetlbCgroup | None

    def __init__(self, hstates: dict[str, Hstate], rounded: bool = True) -> None:
        super().__init__()
        self.hugepage = {size: HugetlbCounter(hstate.order, rounded) for size, hstate in hstates.items()}
        self.rsvd_hugepage = {size: HugetlbCounter(hstate.order, rounded) for size, hstate in hstates.items()}
        self.events = dict.fromkeys(hstates, 0)
        self.events_local = dict.fromkeys(hstates, 0)
        """How often a limit was hit: here or below, here."""
        self.nodeinfo: dict[str, dict[int, int]] = {
            size: dict.fromkeys(hstate.nodes, 0) for size, hstate in hstates.items()
        }
        """Pages of 4 KB mapped from each node, of this cgroup alone."""

    def counter(self, size: str, rsvd: bool) -> HugetlbCounter:
        """Linux: __hugetlb_cgroup_counter_from_cgroup()."""
        return (self.rsvd_hugepage if rsvd else self.hugepage)[size]

    def up(self) -> list[HugetlbCgroup]:
        """It and those above, the nearest first."""
        found: list[HugetlbCgroup] = []
        css: HugetlbCgroup | None = self
        while css is not None:
            found.append(css)
            css = css.parent
        return found

    def try_charge(self, size: str, nr_pages: int) -> None:
        """Make room for pages of 4 KB that will be mapped; ENOMEM at a limit. Linux: hugetlb_cgroup_charge_cgroup()."""
        self._try_charge(size, nr_pages, rsvd=False)

    def cancel_charge(self, size: str, nr_pages: int) -> None:
        """The page was not to be had. Linux: hugetlb_cgroup_uncharge_cgroup()."""
        for css in self.up():
            css.hugepage[size].usage -= nr_pages

    def commit_charge(self, size: str, nr_pages: int, nid: int) -> None:
        """It was. Linux: hugetlb_cgroup_commit_charge()."""
        self.nodeinfo[size][nid] += nr_pages

    def uncharge(self, size: str, nr_pages: int, nid: int) -> None:
        """A page is free. Linux: hugetlb_cgroup_uncharge_folio()."""
        self.cancel_charge(size, nr_pages)
        self.nodeinfo[size][nid] -= nr_pages

    def move_charge(self, size: str, nr_pages: int, nid: int, to: int) -> None:
        """A page moves to another node. Linux: hugetlb_cgroup_migrate()."""
        self.nodeinfo[size][nid] -= nr_pages
        self.nodeinfo[size][to] += nr_pages

    def charge_rsvd(self, size: str, nr_pages: int) -> None:
        """Count reserved pages of 4 KB here and above, which hold the css; ENOMEM at a limit.

        Linux: hugetlb_cgroup_charge_cgroup_rsvd().
        """
        self._try_charge(size, nr_pages, rsvd=True)
        self.css_get(nr_pages)

    def uncharge_rsvd(self, size: str, nr_pages: int) -> None:
        """Linux: hugetlb_cgroup_uncharge_cgroup_rsvd()."""
        for css in self.up():
            css.rsvd_hugepage[size].usage -= nr_pages
        if nr_pages:
            self.css_put(nr_pages)

    def _try_charge(self, size: str, nr_pages: int, rsvd: bool) -> None:
        """Linux: mm/hugetlb_cgroup.c, __hugetlb_cgroup_charge_cgroup()."""
        above = self.up()
        for css in above:
            counter = css.counter(size, rsvd)
            if counter.usage + nr_pages > counter.max:
                counter.failcnt += 1
                self._event(size)
                raise OSError(errno.ENOMEM, f"hugetlb.{size}.max of {self.cgroup.path} or above")
        for css in above:
            counter = css.counter(size, rsvd)
            counter.usage += nr_pages
            counter.watermark = max(counter.watermark, counter.usage)

    def _event(self, size: str) -> None:
        """A charge from here has failed. Linux: mm/hugetlb_cgroup.c, hugetlb_event()."""
        self.events_local[size] += 1
        self.cgroup.file_notify(f"hugetlb.{size}.events.local")
        for css in self.up():
            if css.parent is not None or css is self:
                css.events[size] += 1
                css.cgroup.file_notify(f"hugetlb.{size}.events")

    def node_usage(self, size: str) -> dict[int, int]:
        """Pages of 4 KB mapped from each node, here and below."""
        total = dict(self.nodeinfo[size])
        for group in self.cgroup.descendants():
            css = group.subsys.get("hugetlb")
            for nid, pages in css.nodeinfo[size].items() if css is not None else ():
                total[nid] += pages
        return total


class HugetlbController(CgroupSubsys):
    """The controller. Linux: hugetlb_cgrp_subsys."""

    name = "hugetlb"

    def __init__(self, hstates: Hstates) -> None:
        self.hstates = {hstate.size_name: hstate for hstate in hstates}

    def css_alloc(self, parent: Any) -> HugetlbCgroup:
        """Nothing counted, no limit."""
        return HugetlbCgroup(self.hstates, LIMIT_ROUNDED(self.hierarchy))

    def css_offline(self, css: HugetlbCgroup) -> None:
        """Pages that stay mapped are the parent's from now on. Linux: hugetlb_cgroup_css_offline()."""
        parent = css.parent
        assert parent is not None
        for size, nodes in css.nodeinfo.items():
            for nid, pages in nodes.items():
                css.hugepage[size].usage -= pages
                parent.nodeinfo[size][nid] += pages
                nodes[nid] = 0
            for folio in self.hstates[size].hugepage_activelist.values():
                if folio.cgroup is css:
                    folio.cgroup = parent

    def check(self, css: HugetlbCgroup) -> None:
        """Usage is what is mapped here and below."""
        for size, counter in css.hugepage.items():
            mapped = sum(css.node_usage(size).values())
            if counter.usage != mapped:
                raise AssertionError(f"hugetlb.{size}.current of {css.cgroup.path}: {counter.usage}, mapped {mapped}")

