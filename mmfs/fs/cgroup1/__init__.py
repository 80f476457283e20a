"""/sys/fs/cgroup as cgroup v1 has it: a directory for each hierarchy, with what its controllers show below.

Linux: kernel/cgroup/cgroup-v1.c.
"""

from mmfs.fs.cgroup.core import finish
from mmfs.fs.cgroup1 import hugetlb, memory, pids  # noqa: F401
from mmfs.fs.cgroup1.core import cgroup1, hierarchies

__all__ = ["hierarchies"]

finish(cgroup1)
