"""The CPU time that tasks have used in each cgroup and below.

Linux: kernel/cgroup/rstat.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmfs.kernel.cgroup.cgroup import Cgroup
    from mmfs.kernel.task import Task


def join(task: Task) -> None:
    """From now on its time counts where it is."""
    task.cgrp_since_ns = task.utime_ns, task.stime_ns


def leave(task: Task) -> None:
    """What it has used stays where it was."""
    user, system = task.utime_ns - task.cgrp_since_ns[0], task.stime_ns - task.cgrp_since_ns[1]
    for cgroup in (task.cgrp, *task.cgrp.ancestors()):
        cgroup.gone_ns[0] += user
        cgroup.gone_ns[1] += system
    join(task)


def cputime_ns(cgroup: Cgroup) -> tuple[int, int]:
    """User and system time that tasks have used here and below. Linux: cgroup_base_stat_cputime_show()."""
    user, system = cgroup.gone_ns
    for one in (cgroup, *cgroup.descendants()):
        for task in one.tasks.values():
            user += task.utime_ns - task.cgrp_since_ns[0]
            system += task.stime_ns - task.cgrp_since_ns[1]
    return user, system
