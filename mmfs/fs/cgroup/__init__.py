"""/sys/fs/cgroup: the tree of cgroups, with the files that every cgroup has and those of its controllers.

Linux: kernel/cgroup/.
"""

from mmfs.fs.cgroup import cpu, cpuset, hugetlb, memory, pids, pressure  # noqa: F401
from mmfs.fs.cgroup.core import cgroup, finish

__all__ = ["cgroup"]

finish(cgroup)
