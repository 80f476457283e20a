"""/sys/kernel/cgroup: what this kernel's cgroup v2 can do.

Linux: kernel/cgroup/cgroup.c, cgroup_sysfs_attrs[].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.fs.sys.root import DIRECTORY, kernel_dir

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

DELEGATABLE: Final = {
    "cgroup": ("procs", "threads", "subtree_control"),
    "memory": ("oom.group", "reclaim"),
}
"""The files that the root of a cgroup namespace may write. Linux: CFTYPE_NS_DELEGATABLE."""

cgroup_kobj = kernel_dir.directory("cgroup", mode=DIRECTORY)


@cgroup_kobj.attribute("delegate")
def delegate(kernel: Kernel) -> str:
    """The files that belong to whom a cgroup is delegated to. Linux: delegate_show()."""
    there = {"cgroup", *kernel.cgroups.known}
    return "".join(f"{name}.{file}\n" for name, files in DELEGATABLE.items() if name in there for file in files)


@cgroup_kobj.attribute("features")
def features(kernel: Kernel) -> str:
    """The mount options. Linux: features_show()."""
    return "".join(f"{flag}\n" for flag in kernel.cgroups.root_flags)
