"""Control groups: the tree, its controllers, the freezer.

    cgroup.py    a cgroup, the csses in it                root.py      a hierarchy of them
    control.py   enabling controllers, threaded mode      migrate.py   tasks move, fork, exit
    rstat.py     the time that tasks use                  freezer.py   stopping all that is in one
    cgroup1.py   hierarchies of cgroup v1                 pids.py      how many tasks there may be
    cpuset.py    on which CPUs and nodes tasks are

Linux: kernel/cgroup/.
"""

from mmfs.kernel.cgroup.cgroup import SUBSYS, Cgroup, task_css
from mmfs.kernel.cgroup.root import CgroupRoot

__all__ = ["SUBSYS", "Cgroup", "CgroupRoot", "task_css"]
