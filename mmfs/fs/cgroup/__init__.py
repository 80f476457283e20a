"""/sys/fs/cgroup: the tree of cgroups, with the files that every cgroup has.

Linux: kernel/cgroup/cgroup.c.
"""

from mmfs.fs.cgroup import pids  # noqa: F401
from mmfs.fs.cgroup.core import cgroup

__all__ = ["cgroup"]
