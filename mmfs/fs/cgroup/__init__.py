"""/sys/fs/cgroup: the tree of cgroups, with the files that every cgroup has and those of its controllers.

Linux: kernel/cgroup/cgroup.c.
"""

from mmfs.fs.cgroup import memory, pids
from mmfs.fs.cgroup.core import cgroup

__all__ = ["cgroup", "memory", "pids"]
