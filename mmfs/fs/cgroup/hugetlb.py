"""hugetlb.SIZE.*: huge pages of each size in a cgroup.

Linux: mm/hugetlb_cgroup.c, hugetlb_dfl_tmpl[].
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mmfs.arch import ARCHES
from mmfs.fs.cgroup.core import cgroup
from mmfs.fs.cgroup.memory import page_counter_memparse
from mmfs.kernel.cgroup import Cgroup
from mmfs.kernfs import fail
from mmfs.mm.hugetlb import mem_fmt
from mmfs.mm.hugetlb_cgroup import HugetlbCgroup, HugetlbCounter
from mmfs.mm_types import PAGE_COUNTER_MAX, PAGE_SHIFT

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES: Final = {
    mem_fmt(order): order
    for arch in ARCHES.values() if arch.page_shift == PAGE_SHIFT for order in arch.hugetlb_orders
}  # fmt: skip
"""Every size that there can be, with its order; a machine without gigantic pages has no files of theirs."""


def css_hugetlb(group: Cgroup) -> HugetlbCgroup:
    """The controller's state in a cgroup in which it is enabled."""
    css: HugetlbCgroup = group.subsys["hugetlb"]
    return css


def _needs(size: str) -> Callable[[Cgroup], bool]:
    def needs(group: Cgroup) -> bool:
        css = group.subsys.get("hugetlb")
        return css is not None and group.parent is not None and size in css.hugepage

    return needs


def _counter(size: str, rsvd: bool) -> None:
    """Linux: hugetlb_cgroup_read_u64_max(), hugetlb_cgroup_write()."""
    order = SIZES[size]

    def counter(group: Cgroup) -> HugetlbCounter:
        return css_hugetlb(group).counter(size, rsvd)

    def current(group: Cgroup) -> str:
        return f"{counter(group).usage << PAGE_SHIFT}\n"

    def show(group: Cgroup) -> str:
        pages = counter(group).max
        return "max\n" if pages == PAGE_COUNTER_MAX >> order << order else f"{pages << PAGE_SHIFT}\n"

    def store(group: Cgroup, buf: str) -> None:
        pages = page_counter_memparse(buf.strip()) >> order << order
        if pages < counter(group).usage:
            fail(errno.EBUSY)
        counter(group).max = pages

    prefix = f"hugetlb.{size}.rsvd" if rsvd else f"hugetlb.{size}"
    cgroup.attributes(f"{prefix}.max", show, store, needs=_needs(size))
    cgroup.attributes(f"{prefix}.current", current, needs=_needs(size))


def _statistics(size: str) -> None:
    def events(group: Cgroup) -> str:
        return f"max {css_hugetlb(group).events[size]}\n"

    def events_local(group: Cgroup) -> str:
        return f"max {css_hugetlb(group).events_local[size]}\n"

    def numa_stat(group: Cgroup) -> str:
        """Linux: hugetlb_cgroup_read_numa_stat()."""
        nodes = css_hugetlb(group).node_usage(size)
        words = [f"total={sum(nodes.values()) << PAGE_SHIFT}"]
        words.extend(f"N{nid}={pages << PAGE_SHIFT}" for nid, pages in sorted(nodes.items()))
        return " ".join(words) + "\n"

    cgroup.attributes(f"hugetlb.{size}.events", events, needs=_needs(size))
    cgroup.attributes(f"hugetlb.{size}.events.local", events_local, needs=_needs(size))
    cgroup.attributes(f"hugetlb.{size}.numa_stat", numa_stat, needs=_needs(size))


for _size in SIZES:
    _counter(_size, False)
    _counter(_size, True)
    _statistics(_size)
