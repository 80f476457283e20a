"""/proc/cgroups: the resource controllers that the kernel was built with.

Linux: kernel/cgroup/cgroup-v1.c, proc_cgroupstats_show().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

UNIFIED_HIERARCHY = 0

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
)
"""By their names in cgroup v1, with the option that builds each. Linux: include/linux/cgroup_subsys.h."""


@proc.attribute("cgroups")
def cgroups(kernel: Kernel) -> str:
    """A row a controller: all are on the unified hierarchy, whose cgroups are counted, removed ones that linger too."""
    root = kernel.cgroups.root
    nr_cgroups = 1 + root.nr_descendants + root.nr_dying_descendants
    lines = ["#subsys_name\thierarchy\tnum_cgroups\tenabled\n"]
    for name, option in SUBSYSTEMS:
        if kernel.profile.config(option):
            enabled = int(f"cgroup_disable={name}" not in kernel.cmdline.split())
            lines.append(f"{name}\t{UNIFIED_HIERARCHY}\t{nr_cgroups}\t{enabled}\n")
    return "".join(lines)
