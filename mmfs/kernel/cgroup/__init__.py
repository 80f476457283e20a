"""Control groups: the tree, its controllers, the freezer.

    cgroup.py    the tree, the csses in it              migrate.py   tasks move, fork, exit
    control.py   enabling controllers, threaded mode      freezer.py   stopping all that is in one
    rstat.py     the time that tasks use                  pids.py      how many tasks there may be
    cgroup1.py   hierarchies of cgroup v1                 cpuset.py    on which CPUs and nodes tasks are

Linux: kernel/cgroup/.
"""

from mmfs.kernel.cgroup.cgroup import SUBSYS, Cgroup, CgroupRoot, task_css

__all__ = ["SUBSYS", "Cgroup", "CgroupRoot", "task_css"]
