"""cgroup.freeze: all tasks of a cgroup and of those below stop, until it is thawed or they are killed.

A task that makes no call now stops where it is; one that is frozen makes none. When all have stopped the cgroup is
frozen, and cgroup.events says so.

Linux: kernel/cgroup/freezer.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmfs.kernel.cgroup.cgroup import Cgroup
    from mmfs.kernel.task import Task


def e_freeze(cgroup: Cgroup) -> bool:
    """Whether it or one above is to be frozen. Linux: struct cgroup_freezer_state, e_freeze."""
    return cgroup.freeze or any(one.freeze for one in cgroup.ancestors())


def cgroup_freeze(cgroup: Cgroup, freeze: bool) -> None:
    """Stop all tasks here and below, or let them go on. Linux: kernel/cgroup/freezer.c, cgroup_freeze()."""
    cgroup.freeze = freeze
    groups = [cgroup, *cgroup.descendants()]
    for one in groups:
        stop = e_freeze(one)
        for task in list(one.tasks.values()):
            freeze_task(task, stop)
    for one in reversed(groups):
        _update(one)
    update_frozen(cgroup)


def freeze_task(task: Task, frozen: bool) -> None:
    """Stop a task or let it go on; kernel threads and the dead are left alone. Linux: cgroup_freeze_task()."""
    if task.frozen == frozen or task.is_kthread or not task.alive:
        return
    task.frozen = frozen
    if not frozen and task.kernel.workload is not None:
        task.kernel.workload.wake(task)


def join(task: Task) -> None:
    """A new task is in its cgroup. Linux: cgroup_post_fork()."""
    if e_freeze(task.cgrp):
        freeze_task(task, True)
        update_frozen(task.cgrp)


def exit(task: Task) -> None:
    """A task has died."""
    task.frozen = False
    update_frozen(task.cgrp)


def migrate_task(task: Task, old: Cgroup, new: Cgroup) -> None:
    """A task has moved. Linux: cgroup_freezer_migrate_task()."""
    freeze_task(task, e_freeze(new))
    update_frozen(old)
    update_frozen(new)


def _update(cgroup: Cgroup) -> None:
    frozen = (
        e_freeze(cgroup)
        and all(task.frozen or not task.alive or task.is_kthread for task in cgroup.tasks.values())
        and all(child.frozen for child in cgroup.children.values())
    )
    if frozen != cgroup.frozen:
        cgroup.frozen = frozen
        cgroup.root.file_notify(cgroup, "cgroup.events")


def update_frozen(cgroup: Cgroup) -> None:
    """Tasks have stopped, come or gone: what that says of those above. Linux: cgroup_update_frozen()."""
    if cgroup.frozen or e_freeze(cgroup):
        for one in (cgroup, *cgroup.ancestors()):
            _update(one)
