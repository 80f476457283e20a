"""Freezing cgroups: their tasks stand still, and only death moves them.

A cgroup is frozen when it is to be (`freezing`: because of its own cgroup.freeze or one above it) and all its tasks
are; one that waits for a disk freezes when the wait is over, one in the middle of a call when the call is. Stopped
tasks are frozen at once. Kernel threads never are.

Linux: kernel/cgroup/freezer.c; kernel/signal.c, do_freezer_trap().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.kernel.sched import PF_KTHREAD, TASK_STOPPED
from mmfs.kernel.signal import deliver_pending

if TYPE_CHECKING:
    from mmfs.kernel.cgroup.cgroup import Cgroup
    from mmfs.kernel.task import Task


def cgroup_freeze(cgroup: Cgroup, freeze: bool) -> None:
    """Freeze or thaw a cgroup and all below it. Linux: kernel/cgroup/freezer.c, cgroup_freeze()."""
    if cgroup.freeze is freeze:
        return
    cgroup.freeze = freeze
    step, applied = (1 if freeze else -1), False
    for one in [cgroup, *cgroup.descendants()]:
        one.e_freeze += step
        if one.e_freeze == (1 if freeze else 0):
            _do_freeze(one, freeze)
            applied = True
    if not applied:
        cgroup.file_notify("cgroup.events")


def _do_freeze(cgroup: Cgroup, freeze: bool) -> None:
    """Linux: kernel/cgroup/freezer.c, cgroup_do_freeze()."""
    now_ns = cgroup.kernel.clock.now_ns
    if freeze:
        cgroup.freeze_start_ns = now_ns
    else:
        cgroup.frozen_ns += now_ns - cgroup.freeze_start_ns
    cgroup.freezing = freeze
    for task in list(cgroup.tasks.values()):
        freeze_task(task, freeze)
    if cgroup.nr_descendants == cgroup.nr_frozen_descendants:
        update_frozen(cgroup)


def frozen_ns(cgroup: Cgroup) -> int:
    """For how long a cgroup has been told to be frozen. Linux: struct cgroup_freezer_state, frozen_nsec."""
    running = cgroup.kernel.clock.now_ns - cgroup.freeze_start_ns if cgroup.freezing else 0
    return cgroup.frozen_ns + running


def freeze_task(task: Task, freeze: bool) -> None:
    """Ask a task to stand still, or let it go on. Linux: kernel/cgroup/freezer.c, cgroup_freeze_task()."""
    if task.flags & PF_KTHREAD or not task.alive:
        return
    if freeze:
        try_to_freeze(task)
    elif task.frozen:
        leave_frozen(task)
        if task.state != TASK_STOPPED:
            deliver_pending(task)


def try_to_freeze(task: Task) -> None:
    """On the way back to user mode: stand still if the cgroup wants it. Linux: kernel/signal.c, do_freezer_trap()."""
    if task.frozen or not task.alive or not task.cgrp.freezing or task.flags & PF_KTHREAD or task.busy:
        return
    scheduler = task.kernel.scheduler
    if scheduler.is_waiting(task):
        scheduler.clock.add_timer(scheduler.ready_ns(task), try_to_freeze, task)
        return
    scheduler.freeze(task)
    task.frozen = True
    task.cgrp.nr_frozen_tasks += 1
    update_frozen(task.cgrp)


def leave_frozen(task: Task) -> None:
    """It is frozen no longer: thawed, or about to die. Linux: kernel/cgroup/freezer.c, cgroup_leave_frozen()."""
    task.frozen = False
    task.cgrp.nr_frozen_tasks -= 1
    update_frozen(task.cgrp)
    task.kernel.scheduler.thaw(task)


def update_frozen(cgroup: Cgroup) -> None:
    """Whether it is frozen now, and what follows for those above. Linux: cgroup_update_frozen()."""
    frozen = cgroup.freezing and cgroup.nr_frozen_tasks == cgroup.nr_tasks
    if frozen is cgroup.frozen:
        return
    cgroup.frozen = frozen
    cgroup.file_notify("cgroup.events")
    count = 1
    for above in cgroup.ancestors():
        above.nr_frozen_descendants += count if frozen else -count
        if frozen:
            change = above.freezing and not above.frozen and above.nr_frozen_descendants == above.nr_descendants
        else:
            change = above.frozen
        if change:
            above.frozen = frozen
            above.file_notify("cgroup.events")
            count += 1


def migrate_task(task: Task, old: Cgroup, new: Cgroup) -> None:
    """A task has moved: its counters move, and it does as the new cgroup wants.

    Linux: kernel/cgroup/freezer.c, cgroup_freezer_migrate_task().
    """
    if task.flags & PF_KTHREAD or not (old.freezing or new.freezing or task.frozen):
        return
    if task.frozen:
        new.nr_frozen_tasks += 1
        old.nr_frozen_tasks -= 1
    update_frozen(new)
    update_frozen(old)
    freeze_task(task, new.freezing)


def inherit(cgroup: Cgroup) -> None:
    """A new cgroup below one that freezes is frozen. Linux: kernel/cgroup/cgroup.c, cgroup_create()."""
    parent = cgroup.parent
    if parent is None or not parent.e_freeze:
        return
    cgroup.e_freeze = parent.e_freeze
    cgroup.freezing = cgroup.frozen = True
    cgroup.freeze_start_ns = cgroup.kernel.clock.now_ns
    for above in cgroup.ancestors():
        above.nr_frozen_descendants += 1
