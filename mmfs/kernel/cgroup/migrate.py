"""Tasks move, come and go: the controllers are asked and told.

Linux: kernel/cgroup/cgroup.c, cgroup_attach_task(), cgroup_can_fork(), cgroup_exit().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.kernel.cgroup import freezer
from mmfs.mm.cgroup_defs import Migration

if TYPE_CHECKING:
    from mmfs.kernel.cgroup.cgroup import Cgroup
    from mmfs.kernel.task import Task
    from mmfs.mm.cgroup_defs import CgroupSubsys


def attach_task(task: Task, cgroup: Cgroup, threadgroup: bool = True) -> None:
    """Move a thread, or its process with all its threads; what is exiting stays. OSError if a controller refuses.

    Linux: kernel/cgroup/cgroup.c, cgroup_attach_task(), cgroup_migrate_execute().
    """
    threads = list(task.signal.threads) if threadgroup else [task]
    root = cgroup.root
    moving = [thread for thread in threads if thread.alive and root.task_cgroup(thread) is not cgroup]
    if not moving:
        return
    told: list[tuple[CgroupSubsys, list[Migration]]] = []
    for name, ss in root.controllers.items():
        new = cgroup.e_css[name]
        tset = [Migration(one, ss.task_css(one), new) for one in moving]
        tset = [move for move in tset if move.old is not new]
        if not tset:
            continue
        try:
            ss.can_attach(tset)
        except OSError:
            for other, asked in told:
                other.cancel_attach(asked)
            raise
        told.append((ss, tset))
    for thread in moving:
        old = root.task_cgroup(thread)
        cgroup.join(thread)
        old.leave(thread)
        if root.on_dfl:
            freezer.migrate_task(thread, old, cgroup)
            thread.kernel.scheduler.move_group(thread)
    for ss, tset in told:
        ss.attach(tset)


def can_fork(task: Task) -> None:
    """Whether a new thread may be made where its creator is; OSError if a controller refuses.

    Linux: cgroup_can_fork().
    """
    asked: list[CgroupSubsys] = []
    for ss in [ss for cgroup in task.cset for ss in cgroup.root.can_fork]:
        try:
            ss.can_fork(task, ss.task_css(task))
        except OSError:
            for other in asked:
                other.cancel_fork(task, other.task_css(task))
            raise
        asked.append(ss)


def post_fork(task: Task) -> None:
    """A new thread enters the cgroups of its creator. Linux: cgroup_post_fork()."""
    for cgroup in task.cset:
        cgroup.join(task)
        if cgroup.freezing or cgroup.frozen:
            freezer.freeze_task(task, cgroup.freezing)
            freezer.update_frozen(cgroup)
        for ss in cgroup.root.with_fork:
            ss.fork(task)


def cgroup_exit(task: Task) -> None:
    """A thread is dead; what is left of it stays in its cgroups. Linux: cgroup_exit()."""
    if task.frozen:
        freezer.leave_frozen(task)
    for cgroup in task.cset:
        cgroup.update_tasks(-1)
        if cgroup.freezing:
            freezer.update_frozen(cgroup)
        for ss in cgroup.root.with_exit:
            ss.exit(task)


def cgroup_release(task: Task) -> None:
    """The last of a thread leaves its cgroups. Linux: cgroup_release(), cgroup_free()."""
    for cgroup in task.cset:
        for ss in cgroup.root.with_release:
            ss.release(task)
        cgroup.leave(task)
