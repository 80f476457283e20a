"""Huge pages by cgroup: what is mapped and what is reserved of each size, with limits.

Linux: mm/hugetlb_cgroup.c.

Simplified: no process maps huge pages in the model yet, so nothing calls `charge()` but who wants to see a limit work.

"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from mmfs.mm.cgroup_defs import CgroupSubsys, CgroupSubsysState
from mmfs.mm_types import PAGE_COUNTER_MAX

if TYPE_CHECKING:
    from mmfs.mm.hugetlb import Hstate, Hstates


class HugetlbCounter:
    """Pages of 4 KB, of one size of huge pages, mapped or reserved. Linux: struct page_counter."""

    __slots__ = ("max", "usage")

    def __init__(self, order: int) -> None:
        self.usage = 0
        self.max = PAGE_COUNTER_MAX >> order << order


class HugetlbCgroup(CgroupSubsysState):
    """By the name of the size, such as 2MB. Linux: struct hugetlb_cgroup."""

    __slots__ = ("events", "events_local", "hugepage", "nodeinfo", "rsvd_hugepage")

    parent: HugetlbCgroup | None

    def __init__(self, hstates: dict[str, Hstate]) -> None:
        super().__init__()
        self.hugepage = {size: HugetlbCounter(hstate.order) for size, hstate in hstates.items()}
        self.rsvd_hugepage = {size: HugetlbCounter(hstate.order) for size, hstate in hstates.items()}
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

    def charge(self, size: str, nr_pages: int, nid: int, *, rsvd: bool = False) -> None:
        """Count pages of 4 KB here and above; ENOMEM at a limit. Linux: hugetlb_cgroup_charge_cgroup()."""
        above = self.up()
        if any(css.counter(size, rsvd).usage + nr_pages > css.counter(size, rsvd).max for css in above):
            self._event(size)
            raise OSError(errno.ENOMEM, f"hugetlb.{size}.max of {self.cgroup.path} or above")
        for css in above:
            css.counter(size, rsvd).usage += nr_pages
        if not rsvd:
            self.nodeinfo[size][nid] += nr_pages

    def uncharge(self, size: str, nr_pages: int, nid: int, *, rsvd: bool = False) -> None:
        """Linux: hugetlb_cgroup_uncharge_folio()."""
        for css in self.up():
            css.counter(size, rsvd).usage -= nr_pages
        if not rsvd:
            self.nodeinfo[size][nid] -= nr_pages

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
        self.hstates = {size_name(hstate): hstate for hstate in hstates}

    def css_alloc(self, parent: Any) -> HugetlbCgroup:
        """Nothing counted, no limit."""
        return HugetlbCgroup(self.hstates)

    def css_offline(self, css: HugetlbCgroup) -> None:
        """Pages that stay mapped are the parent's from now on. Linux: hugetlb_cgroup_css_offline()."""
        parent = css.parent
        assert parent is not None
        for size, nodes in css.nodeinfo.items():
            for nid, pages in nodes.items():
                css.hugepage[size].usage -= pages
                parent.nodeinfo[size][nid] += pages
                nodes[nid] = 0

    def check(self, css: HugetlbCgroup) -> None:
        """Usage is what is mapped here and below."""
        for size, counter in css.hugepage.items():
            mapped = sum(css.node_usage(size).values())
            if counter.usage != mapped:
                raise AssertionError(f"hugetlb.{size}.current of {css.cgroup.path}: {counter.usage}, mapped {mapped}")


def size_name(hstate: Hstate) -> str:
    """2MB or 1GB, as the files call it. Linux: mm/hugetlb_cgroup.c, mem_fmt()."""
    kb = hstate.size_kb
    return f"{kb >> 20}GB" if kb >= 1 << 20 else f"{kb >> 10}MB"
