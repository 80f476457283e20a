"""cpu.stat: the CPU time of the tasks of a cgroup and below, which every cgroup counts.

Linux: kernel/cgroup/rstat.c, cgroup_base_stat_cputime_show(); kernel/cgroup/cgroup.c, cpu_stat_show().

Simplified: the cpu controller is not modelled, so only the root, where it always is, has its lines, and nothing is ever
throttled; core scheduling's forced idle time is not shown.
"""

from __future__ import annotations

from mmfs.fs.cgroup.core import cgroup
from mmfs.kernel.cgroup import Cgroup
from mmfs.kernel.clock import NSEC_PER_USEC
from mmfs.profile import since


def cputime(group: Cgroup) -> tuple[int, int, int]:
    """User time, of that at positive nice values, and system time, in ns. Linux: root_cgroup_cputime() for the root."""
    if group.stat is None:
        cpus = group.root.kernel.scheduler.cpus
        nice = sum(cpu.nice for cpu in cpus)
        return sum(cpu.user for cpu in cpus) + nice, nice, sum(cpu.system + cpu.irq + cpu.softirq for cpu in cpus)
    for cpu in group.root.kernel.scheduler.cpus:
        cpu.sync()
    user, nice, system = group.stat.flush()
    return user + nice, nice, system


@cgroup.attribute("cpu.stat")
def cpu_stat(group: Cgroup) -> str:
    """Linux: cpu_stat_show()."""
    user, nice, system = (nsec // NSEC_PER_USEC for nsec in cputime(group))
    text = f"usage_usec {user + system}\nuser_usec {user}\nsystem_usec {system}\n"
    if since(6, 12)(group):
        text += f"nice_usec {nice}\n"
    if group.parent is None:
        text += "nr_periods 0\nnr_throttled 0\nthrottled_usec 0\nnr_bursts 0\nburst_usec 0\n"
    return text


@cgroup.attribute("cpu.stat.local", needs=since(6, 12))
def cpu_stat_local(group: Cgroup) -> str:
    """Linux: cpu_local_stat_show()."""
    return "throttled_usec 0\n" if group.parent is None else ""
