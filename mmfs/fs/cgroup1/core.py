"""What every directory of a hierarchy of cgroup v1 has: who is in it, and the flags of the core.

Linux: kernel/cgroup/cgroup-v1.c, cgroup1_base_files[].
"""

from __future__ import annotations

import errno

from mmfs.fs.cgroup.core import cgroup_mkdir, cgroup_rmdir, find_task
from mmfs.kernel.cgroup import Cgroup
from mmfs.kernel.cgroup.cgroup1 import mounted
from mmfs.kernel.cgroup.migrate import attach_task
from mmfs.kernfs import CGROUP2, TMPFS_RO, Caller, Directory, fail, kstrtoull

DIRENT_SIZE = 20
"""By so much a directory of a tmpfs grows with each name. Linux: mm/shmem.c, BOGO_DIRENT_SIZE."""


def on_root(group: Cgroup) -> bool:
    """Linux: CFTYPE_ONLY_ON_ROOT."""
    return group.parent is None


cgroup1: Directory[Cgroup] = Directory(
    mode=lambda group: 0o755 if group.parent is not None else 0o555,
    rules=CGROUP2,
    ino=lambda group: group.id,
    owner=lambda group: group.owner,
    iattrs=lambda group: group.iattrs,
)
cgroup1.family(list=lambda group: group.children, lookup=lambda group, name: group.children.get(name), template=cgroup1)
cgroup1.on_mkdir(cgroup_mkdir)
cgroup1.on_rmdir(cgroup_rmdir)


def names(top: Cgroup) -> dict[str, Cgroup]:
    return {root.name or root.title: root.root for root in mounted(top.root.kernel)}


hierarchies: Directory[Cgroup] = Directory(
    mode=0o755,
    rules=TMPFS_RO,
    size=lambda top: DIRENT_SIZE * (2 + len(names(top))),
)
"""The tmpfs on /sys/fs/cgroup, bound to the root of the default hierarchy, which is not mounted."""
hierarchies.family(list=names, lookup=lambda top, name: names(top).get(name), template=cgroup1)


# -- members -------------------------------------------------------------------------------------------------------


def _procs_write(group: Cgroup, buf: str, caller: Caller, threadgroup: bool) -> None:
    """Move a task here; one's own, unless root asks. Linux: kernel/cgroup/cgroup-v1.c, __cgroup1_procs_write()."""
    task = find_task(group, buf, caller, threadgroup)
    if caller.uid not in (0, task.cred.uid, task.cred.suid):
        fail(errno.EACCES)
    attach_task(task, group, threadgroup)


@cgroup1.attribute("cgroup.procs", wants_caller=True)
def cgroup_procs(group: Cgroup, *, caller: Caller) -> str:
    """The processes here."""
    return "".join(f"{pid}\n" for pid in group.procs())


@cgroup_procs.store
def cgroup_procs_store(group: Cgroup, buf: str, *, caller: Caller) -> None:
    """Move a process here, with all its threads. Linux: cgroup1_procs_write()."""
    _procs_write(group, buf, caller, threadgroup=True)


@cgroup1.attribute("tasks", wants_caller=True)
def tasks(group: Cgroup, *, caller: Caller) -> str:
    """The threads here."""
    return "".join(f"{pid}\n" for pid in group.threads())


@tasks.store
def tasks_store(group: Cgroup, buf: str, *, caller: Caller) -> None:
    """Move a thread here. Linux: cgroup1_tasks_write()."""
    _procs_write(group, buf, caller, threadgroup=False)


# -- flags ---------------------------------------------------------------------------------------------------------


@cgroup1.attribute("cgroup.clone_children")
def cgroup_clone_children(group: Cgroup) -> int:
    """Whether new cpusets begin as copies of the one above."""
    return int(group.clone_children)


@cgroup_clone_children.store
def cgroup_clone_children_store(group: Cgroup, buf: str) -> None:
    """Linux: cgroup_clone_children_write()."""
    group.clone_children = bool(kstrtoull(buf))


@cgroup1.attribute("notify_on_release")
def notify_on_release(group: Cgroup) -> int:
    """Whether the release agent is to hear that nobody is left here."""
    return int(group.notify_on_release)


@notify_on_release.store
def notify_on_release_store(group: Cgroup, buf: str) -> None:
    """Linux: cgroup_write_notify_on_release()."""
    group.notify_on_release = bool(kstrtoull(buf))


@cgroup1.attribute("release_agent", needs=on_root)
def release_agent(group: Cgroup) -> str:
    """The program that hears of it."""
    return f"{group.root.release_agent_path}\n"


@release_agent.store
def release_agent_store(group: Cgroup, buf: str) -> None:
    """Linux: cgroup_release_agent_write()."""
    group.root.release_agent_path = buf.strip()


@cgroup1.attribute("cgroup.sane_behavior", needs=on_root)
def cgroup_sane_behavior(group: Cgroup) -> int:
    """Linux: cgroup_sane_behavior_show()."""
    return 0
