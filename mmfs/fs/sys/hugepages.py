"""/sys/kernel/mm/hugepages and /sys/devices/system/node/nodeN/hugepages: the pools, whole and by node.

Linux: mm/hugetlb.c, hugetlb_init_hstates(), hugetlb_sysfs_init().
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, NamedTuple

from mmfs.fs.sys.root import DIRECTORY, mm
from mmfs.kernfs import Caller, Directory, fail, kstrtoul, memparse
from mmfs.mm.hugetlb import Hstate
from mmfs.mm.mempolicy import init_nodemask_of_mempolicy
from mmfs.profile import config, since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


GIGANTIC_SURPLUS: Final = since(7, 0)
"""Which kernels give surplus pages of 1 GB, too."""


class Pool(NamedTuple):
    """A pool, and the node whose part of it is meant, or None."""

    kernel: Kernel
    hstate: Hstate
    nid: int | None = None

    @property
    def demote_hstate(self) -> Hstate | None:
        """Into which pages its pages can be cut. Linux: struct hstate, demote_order."""
        smaller = [other for other in self.kernel.hugetlb if other.order < self.hstate.order]
        return max(smaller, key=lambda other: other.order, default=None)


def names(kernel: Kernel) -> list[str]:
    """The directories of all pools."""
    return [hstate.name for hstate in kernel.hugetlb]


def find(kernel: Kernel, name: str) -> Pool | None:
    """The pool of a directory."""
    hstate = kernel.hugetlb.find(name)
    return Pool(kernel, hstate) if hstate is not None else None


hugepages = mm.directory("hugepages", mode=DIRECTORY)
pool_dir: Directory[Pool] = hugepages.family(list=names, lookup=find, mode=DIRECTORY)
node_pool_dir: Directory[Pool] = Directory(mode=DIRECTORY)


def nr_hugepages(pool: Pool) -> int:
    """Pages in the pool."""
    hstate = pool.hstate
    return hstate.nr_huge_pages if pool.nid is None else hstate.nr_huge_pages_node[pool.nid]


def nr_hugepages_store(pool: Pool, buf: str) -> None:
    """Linux: mm/hugetlb.c, nr_hugepages_store_common()."""
    pool.hstate.set_max_huge_pages(kstrtoul(buf, 10), pool.nid)


def free_hugepages(pool: Pool) -> int:
    """Pages that nobody uses."""
    hstate = pool.hstate
    return hstate.free_huge_pages if pool.nid is None else hstate.free_huge_pages_node[pool.nid]


def surplus_hugepages(pool: Pool) -> int:
    """Pages beyond those that stay."""
    hstate = pool.hstate
    return hstate.surplus_huge_pages if pool.nid is None else hstate.surplus_huge_pages_node[pool.nid]


def can_be_demoted(pool: Pool) -> bool:
    """Whether there are smaller pages."""
    return pool.demote_hstate is not None


def demote_store(pool: Pool, buf: str) -> None:
    """Cut so many free pages into smaller ones. Linux: mm/hugetlb.c, demote_store()."""
    target = pool.demote_hstate
    count = kstrtoul(buf, 10)
    if target is not None:
        pool.hstate.demote(target, count, pool.nid)


def demote_size(pool: Pool) -> str:
    """Linux: mm/hugetlb.c, demote_size_show()."""
    target = pool.demote_hstate
    assert target is not None
    return f"{target.size_kb}kB\n"


def demote_size_store(pool: Pool, buf: str) -> None:
    """A size of pages that there are, smaller than these. Linux: mm/hugetlb.c, demote_size_store()."""
    wanted, _ = memparse(buf)
    if all(other.size_kb << 10 != wanted or other.order >= pool.hstate.order for other in pool.kernel.hugetlb):
        fail(errno.EINVAL)


for _directory in (pool_dir, node_pool_dir):
    _directory.attributes("nr_hugepages", nr_hugepages, nr_hugepages_store)
    _directory.attributes("free_hugepages", free_hugepages)
    _directory.attributes("surplus_hugepages", surplus_hugepages)
    _directory.attributes("demote", None, demote_store, needs=can_be_demoted)
    _directory.attributes("demote_size", demote_size, demote_size_store, needs=can_be_demoted)


@pool_dir.attribute("nr_hugepages_mempolicy", wants_caller=True, needs=config("NUMA"))
def nr_hugepages_mempolicy(pool: Pool, *, caller: Caller) -> int:
    """Pages in the pool; what is written makes them come and go where the writer's memory policy says."""
    return nr_hugepages(pool)


@nr_hugepages_mempolicy.store
def nr_hugepages_mempolicy_store(pool: Pool, buf: str, *, caller: Caller) -> None:
    """Linux: mm/hugetlb.c, nr_hugepages_mempolicy_store()."""
    nodes = init_nodemask_of_mempolicy(pool.kernel.tasks.get(caller.pid))
    pool.hstate.set_max_huge_pages(kstrtoul(buf, 10), nodes_allowed=nodes)


@pool_dir.attribute("nr_overcommit_hugepages")
def nr_overcommit_hugepages(pool: Pool) -> int:
    """How many more pages the pool may get on demand."""
    return pool.hstate.nr_overcommit_huge_pages


@nr_overcommit_hugepages.store
def nr_overcommit_hugepages_store(pool: Pool, buf: str) -> None:
    """Linux: mm/hugetlb.c, nr_overcommit_hugepages_store()."""
    if pool.hstate.gigantic and not GIGANTIC_SURPLUS(pool):
        fail(errno.EINVAL)
    pool.hstate.nr_overcommit_huge_pages = kstrtoul(buf, 10)


@pool_dir.attribute("resv_hugepages")
def resv_hugepages(pool: Pool) -> int:
    """Free pages that are promised to mappings."""
    return pool.hstate.resv_huge_pages
