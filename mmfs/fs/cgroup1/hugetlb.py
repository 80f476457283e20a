"""hugetlb.*: huge pages of each size, mapped and reserved, as cgroup v1 shows them.

Linux: mm/hugetlb_cgroup.c, hugetlb_legacy_tmpl[].
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from mmfs.fs.cgroup.hugetlb import SIZES, css_hugetlb
from mmfs.fs.cgroup.memory import page_counter_memparse
from mmfs.fs.cgroup1.core import cgroup1
from mmfs.kernel.cgroup import Cgroup
from mmfs.kernfs import fail
from mmfs.mm.hugetlb_cgroup import HugetlbCounter
from mmfs.mm_types import PAGE_COUNTER_MAX, PAGE_SIZE


def _needs(size: str) -> Callable[[Cgroup], bool]:
    def needs(group: Cgroup) -> bool:
        css = group.subsys.get("hugetlb")
        return css is not None and size in css.hugepage

    return needs


def _counter(size: str, rsvd: bool) -> None:
    """The four files of a counter. Linux: hugetlb_cgroup_read_u64(), hugetlb_cgroup_write_legacy()."""
    order, needs = SIZES[size], _needs(size)

    def counter(group: Cgroup) -> HugetlbCounter:
        return css_hugetlb(group).counter(size, rsvd)

    def set_limit(group: Cgroup, buf: str) -> None:
        pages = page_counter_memparse(buf, "-1") >> order << order
        if group.parent is None:
            fail(errno.EINVAL)
        if pages < counter(group).usage:
            fail(errno.EBUSY)
        counter(group).max = pages

    def reset_watermark(group: Cgroup, buf: str) -> None:
        counter(group).watermark = counter(group).usage

    def reset_failcnt(group: Cgroup, buf: str) -> None:
        counter(group).failcnt = 0

    prefix = f"hugetlb.{size}.rsvd" if rsvd else f"hugetlb.{size}"
    def limit(group: Cgroup) -> int:
        """The root's is never rounded to huge pages."""
        return (counter(group).max if group.parent is not None else PAGE_COUNTER_MAX) * PAGE_SIZE

    for name, show, store in (
        ("limit_in_bytes", limit, set_limit),
        ("usage_in_bytes", lambda group: counter(group).usage * PAGE_SIZE, None),
        ("max_usage_in_bytes", lambda group: counter(group).watermark * PAGE_SIZE, reset_watermark),
        ("failcnt", lambda group: counter(group).failcnt, reset_failcnt),
    ):
        cgroup1.attributes(f"{prefix}.{name}", show, store, needs=needs)


def _numa_stat(size: str) -> None:
    def numa_stat(group: Cgroup) -> str:
        """Of this cgroup alone, then with all below. Linux: hugetlb_cgroup_read_numa_stat()."""
        css, lines = css_hugetlb(group), []
        for title, nodes in (("total", css.nodeinfo[size]), ("hierarchical_total", css.node_usage(size))):
            words = [f"{title}={sum(nodes.values()) * PAGE_SIZE}"]
            words.extend(f"N{nid}={pages * PAGE_SIZE}" for nid, pages in sorted(nodes.items()))
            lines.append(" ".join(words) + "\n")
        return "".join(lines)

    cgroup1.attributes(f"hugetlb.{size}.numa_stat", numa_stat, needs=_needs(size))


for _size in SIZES:
    _counter(_size, False)
    _counter(_size, True)
    _numa_stat(_size)
