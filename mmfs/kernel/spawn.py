"""Starting a program as who is at the console would: vfork and execve, with what a shell sets in between.

Linux: kernel/fork.c, kernel_clone(); fs/exec.c.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mmfs.kernel import exit, fork, sched
from mmfs.kernel.cgroup.cgroup1 import attach_task, find
from mmfs.kernel.panic import check_panicked
from mmfs.kernel.sched import CLONE_VFORK, CLONE_VM

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task


def spawn(
    kernel: Kernel,
    name: str,
    *,
    uid: int = 0,
    gid: int | None = None,
    groups: Sequence[int] = (),
    oom_score_adj: int = 0,
    cgroup: str = "/",
    argv: Sequence[str | bytes] | None = None,
    environ: Mapping[str, str] | None = None,
    parent: Task | None = None,
    nice: int = 0,
    cpus: Sequence[int] | None = None,
    cwd: str = "/",
) -> Task:
    """Start a program: vfork and execve from init (or `parent`), with who and where it is set in between.

    `name` is a path or a name that `kernel/programs.py` knows; `cgroup` must exist.
    """
    check_panicked(kernel)
    if not find(kernel, cgroup):
        raise OSError(errno.ENOENT, f"no cgroup {cgroup}")
    if not sched.OOM_SCORE_ADJ_MIN <= oom_score_adj <= sched.OOM_SCORE_ADJ_MAX:
        raise OSError(errno.EINVAL, "oom_score_adj lies between -1000 and 1000")
    kernel.tasks.current = parent = parent or kernel.tasks[1]
    task = fork.kernel_clone(parent, CLONE_VM | CLONE_VFORK)
    try:
        attach_task(task, cgroup)
        task.signal.oom_score_adj = oom_score_adj
        if uid or gid or groups:
            cred = task.cred.become(uid, uid if gid is None else gid, tuple(groups))
            kernel.tasks.commit_creds(task, cred)
        if cpus is not None:
            task.sched_setaffinity(cpus)
        task.static_prio = sched.DEFAULT_PRIO + min(max(nice, sched.MIN_NICE), sched.MAX_NICE)
        task.fs.cwd = cwd
        task.execve(name, argv, environ)
    except OSError:
        if task.alive:
            exit.do_group_exit(task, 127 << 8)
        raise
    task.set_session(task.pid)
    return task
