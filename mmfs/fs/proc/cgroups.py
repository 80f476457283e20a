"""/proc/cgroups: the resource controllers that the kernel was built with.

Linux: kernel/cgroup/cgroup-v1.c, proc_cgroupstats_show().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc
from mmfs.profile import since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

SUBSYSTEMS = (
    ("cpuset", "CPUSETS"),
    ("cpu", "FAIR_GROUP_SCHED"),
    ("cpuacct", "CGROUP_CPUACCT"),
    ("blkio", "BLK_CGROUP"),
    ("memory", "MEMCG"),
    ("devices", "CGROUP_DEVICE"),
    ("freezer", "CGROUP_FREEZER"),
    ("net_cls", "CGROUP_NET_CLASSID"),
    ("perf_event", "CGROUP_PERF"),
    ("net_prio", "CGROUP_NET_PRIO"),
    ("hugetlb", "CGROUP_HUGETLB"),
    ("pids", "CGROUP_PIDS"),
    ("rdma", "CGROUP_RDMA"),
    ("misc", "CGROUP_MISC"),
    ("dmem", "CGROUP_DMEM"),
)
"""By their names in cgroup v1, with the option that builds each. Linux: include/linux/cgroup_subsys.h."""

V1_OPTIONS = {"cpuset": "CPUSETS_V1", "memory": "MEMCG_V1"}
"""The option that a controller has its files of v1 by."""
V2_ONLY_LEFT_OUT = since(7, 0)
"""Which kernels leave out controllers without files of v1. Linux: 7.0, proc_cgroupstats_show()."""


@proc.attribute("cgroups")
def cgroups(kernel: Kernel) -> str:
    """A row a controller: its hierarchy, and that one's cgroups, removed ones that linger too."""
    roots = {root.title: root for root in kernel.cgroup_roots[1:]}
    lines = ["#subsys_name\thierarchy\tnum_cgroups\tenabled\n"]
    for name, option in SUBSYSTEMS:
        absent = V2_ONLY_LEFT_OUT(kernel) and name in V1_OPTIONS and not kernel.profile.config(V1_OPTIONS[name])
        if kernel.profile.config(option) and (name in roots or not absent):
            enabled = int(f"cgroup_disable={name}" not in kernel.cmdline.split())
            root = roots.get(name, kernel.cgroups)
            lines.append(f"{name}\t{root.index}\t{root.nr_cgrps}\t{enabled}\n")
    return "".join(lines)
