"""Control groups: the tree, its controllers, the freezer.

    cgroup.py    the tree, the csses in it              migrate.py   tasks move, fork, exit
    control.py   enabling controllers, threaded mode

Linux: kernel/cgroup/.
"""

from mmfs.kernel.cgroup.cgroup import SUBSYS, Cgroup, CgroupRoot

__all__ = ["SUBSYS", "Cgroup", "CgroupRoot"]
