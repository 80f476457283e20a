"""/proc/PID: the directory of a process, and who may look into it.

Linux: fs/proc/base.c, proc_pid_readdir(), proc_pid_lookup(), task_dump_owner(); kernel/ptrace.c.

Simplified: every process is dumpable, so its files belong to its effective user.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.kernfs import Caller, Directory


def _processes(kernel: Kernel) -> list[str]:
    return [str(task.pid) for task in kernel.tasks.processes()]


def _find_task(kernel: Kernel, name: str) -> Task | None:
    """The thread of a number, leaders or not, as /proc finds both. Names with leading zeros are none."""
    if not name.isascii() or not name.isdecimal() or (name[0] == "0" and name != "0"):
        return None
    return kernel.tasks.get(int(name))


def owner(task: Task) -> tuple[int, int]:
    """Whose the files of a process are. Linux: task_dump_owner()."""
    return (task.cred.euid, task.cred.egid) if task.mm is not None else (0, 0)


pid_dir: Directory[Task] = proc.family(list=_processes, lookup=_find_task, mode=0o555, owner=owner)


def ptrace_may_access(task: Task, caller: Caller) -> bool:
    """Whether the caller may read what a debugger could. Linux: kernel/ptrace.c, __ptrace_may_access()."""
    if caller.uid == 0:
        return True
    cred = task.cred
    return caller.uid == cred.uid == cred.euid == cred.suid and caller.gid == cred.gid == cred.egid == cred.sgid


def check_ptrace(task: Task, caller: Caller, error: int = errno.EACCES) -> None:
    """Raise the error that a file gives those who may not look."""
    if not ptrace_may_access(task, caller):
        raise OSError(error, os.strerror(error))
