"""cgroup v1: a hierarchy of directories for each controller, beside one that only has a name and groups processes.

A kernel that boots with `cgroup="v1"` has modelled controllers each on a hierarchy of its own, and systemd's named one
before them if systemd runs; the default hierarchy, that of cgroup v2, is then not mounted, and every task is in its
root. In a hierarchy of v1 all of its controllers work in every directory, and processes may be anywhere.

A path such as "/web" means that directory in each hierarchy which has it, "memory:/web" in one of them.

Linux: kernel/cgroup/cgroup-v1.c.

Simplified: hierarchies are mounted at boot and stay, that of cpuset is not; directories cannot be renamed; no release
agent runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.kernel.cgroup.cgroup import Cgroup
from mmfs.kernel.cgroup.root import CgroupRoot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.cgroup_defs import CgroupSubsys

VERSIONS: Final = ("v2", "v1")
SYSTEMD: Final = "systemd"
"""What systemd names the hierarchy that it keeps track of services with."""
AGENT: Final = "/usr/lib/systemd/systemd-cgroups-agent"


def mount_hierarchies(kernel: Kernel, controllers: Sequence[CgroupSubsys]) -> None:
    """Systemd's hierarchy if it is there, then one for each controller. Linux: cgroup1_root_to_use()."""
    roots = kernel.cgroup_roots
    if kernel.preset != "bare":
        roots.append(CgroupRoot(kernel, len(roots), SYSTEMD))
        roots[-1].release_agent_path = AGENT
        roots[-1].root.notify_on_release = True
    for ss in controllers:
        if ss.name in kernel.cgroups.known:
            roots.append(CgroupRoot(kernel, len(roots)))
            roots[-1].register(ss)


def mounted(kernel: Kernel) -> list[CgroupRoot]:
    """The hierarchies whose directories can be seen, in the order in which they were mounted."""
    return kernel.cgroup_roots[1:] or kernel.cgroup_roots


def show_options(root: CgroupRoot) -> str:
    """How a hierarchy is mounted. Linux: cgroup1_show_options()."""
    words = ["rw", *([] if root.name else [root.title])]
    if root.name:
        words.append("xattr")
    if root.release_agent_path:
        words.append(f"release_agent={root.release_agent_path}")
    if root.name:
        words.append(f"name={root.name}")
    return ",".join(words)


def _chosen(kernel: Kernel, path: str) -> tuple[list[CgroupRoot], str]:
    """Which hierarchies a path is about, and the path in them."""
    title, colon, rest = path.partition(":")
    if path.startswith("/") or not colon:
        return mounted(kernel), path
    return [root for root in mounted(kernel) if title in (root.name, root.title)], rest


def find(kernel: Kernel, path: str) -> list[Cgroup]:
    """The directories that a path means; empty if there is none."""
    roots, inner = _chosen(kernel, path)
    return [cgroup for root in roots if (cgroup := root.find(inner)) is not None]


def makedirs(kernel: Kernel, path: str) -> list[Cgroup]:
    """The directories that a path means, made with their parents where they do not exist."""
    roots, inner = _chosen(kernel, path)
    return [root.makedirs(inner) for root in roots]


def attach_task(task: Task, path: str) -> bool:
    """Move a process to the directories that a path means; whether there is one."""
    cgroups = find(task.kernel, path)
    for cgroup in cgroups:
        cgroup.root.attach_task(task, cgroup)
    return bool(cgroups)
