"""cpuset.*: the CPUs and nodes of a cgroup.

Linux: kernel/cgroup/cpuset.c, dfl_files[].
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmfs.fs.cgroup.core import cgroup, enabled
from mmfs.fs.proc.array import max_numnodes
from mmfs.kernel.cgroup import Cgroup
from mmfs.kernel.cgroup.cpuset import MEMBER, Cpuset, Cpusets
from mmfs.kernfs import fail
from mmfs.kernfs.bitmap import bitmap_list, bitmap_parselist
from mmfs.profile import both, since

if TYPE_CHECKING:
    from collections.abc import Callable

needs = enabled("cpuset")
everywhere = enabled("cpuset", on_root=True)


def css_cs(group: Cgroup) -> Cpuset:
    """The controller's state in a cgroup in which it is enabled."""
    css: Cpuset = group.subsys["cpuset"]
    return css


def controller(group: Cgroup) -> Cpusets:
    """The controller."""
    ss = group.root.controllers["cpuset"]
    assert isinstance(ss, Cpusets)
    return ss


def _list(name: str, attribute: str, writable: bool, shown: Callable[[Cgroup], bool] = needs) -> None:
    def show(group: Cgroup) -> str:
        return f"{bitmap_list(getattr(css_cs(group), attribute))}\n"

    def store(group: Cgroup, buf: str) -> None:
        """Linux: cpuset_write_resmask()."""
        kernel = group.root.kernel
        limit = max_numnodes(kernel) if attribute == "mems_allowed" else kernel.machine.nr_cpus
        controller(group).update(css_cs(group), attribute, bitmap_parselist(buf.strip(), limit))

    cgroup.attributes(name, show, store if writable else None, needs=shown)


_list("cpuset.cpus", "cpus_allowed", True)
_list("cpuset.mems", "mems_allowed", True)
_list("cpuset.cpus.effective", "effective_cpus", False, everywhere)
_list("cpuset.mems.effective", "effective_mems", False, everywhere)
_list("cpuset.cpus.exclusive", "exclusive_cpus", True, both(since(6, 12), needs))
_list("cpuset.cpus.exclusive.effective", "effective_xcpus", False, both(since(6, 12), needs))


@cgroup.attribute("cpuset.cpus.partition", needs=needs)
def cpuset_cpus_partition(group: Cgroup) -> str:
    """Linux: cpuset_partition_show()."""
    css = css_cs(group)
    if css.partition == MEMBER or css.is_partition:
        return f"{css.partition}\n"
    return f"{css.partition} invalid{f' ({css.prs_err})' if css.prs_err else ''}\n"


@cpuset_cpus_partition.store
def cpuset_cpus_partition_store(group: Cgroup, buf: str) -> None:
    """Linux: cpuset_partition_write()."""
    word = buf.strip()
    if word not in (MEMBER, "root", "isolated"):
        fail(errno.EINVAL)
    controller(group).set_partition(css_cs(group), word)


def _on_root(group: Cgroup) -> bool:
    return group.parent is None and everywhere(group)


@cgroup.attribute("cpuset.cpus.isolated", needs=both(since(6, 12), _on_root))
def cpuset_cpus_isolated(group: Cgroup) -> str:
    """Linux: cpuset_common_seq_show(), FILE_ISOLATED_CPULIST."""
    return f"{bitmap_list(controller(group).isolated())}\n"
