"""/proc/PID and /proc/PID/task/TID: the directories of a process and of a thread, and who may look into them.

The files themselves are declared by the modules that know what they show, each with `attribute()` below, which puts a
file into both directories or into one; the order of a listing is the kernel's, kept here.

Linux: fs/proc/base.c, tgid_base_stuff[], tid_base_stuff[], task_dump_owner(); kernel/ptrace.c.

Simplified: every process is dumpable, so its files belong to its effective user; nobody but root has capabilities.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, Final

from mmfs.fs.proc.root import proc
from mmfs.kernfs import PROC_PID
from mmfs.kernfs.kstrtox import fail
from mmfs.kernfs.node import Attribute, Directory, Family, Graft, Node, Symlink, Text
from mmfs.profile import since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.kernfs import Caller

PROC_NUMBUF: Final = 13
"""The buffer into which the kernel copies a number: what is longer is cut, and the rest left to the next write(2)."""

TGID_BASE_STUFF: Final = (
    "task", "fd", "map_files", "fdinfo", "ns", "net", "environ", "auxv", "status", "personality", "limits", "sched",
    "autogroup", "timens_offsets", "comm", "syscall", "cmdline", "stat", "statm", "maps", "numa_maps", "mem", "cwd",
    "root", "exe", "mounts", "mountinfo", "mountstats", "clear_refs", "smaps", "smaps_rollup", "pagemap", "attr",
    "wchan", "stack", "schedstat", "cpuset", "cgroup", "cpu_resctrl_groups", "oom_score", "oom_adj", "oom_score_adj",
    "loginuid", "sessionid", "coredump_filter", "io", "uid_map", "gid_map", "projid_map", "setgroups", "timers",
    "timerslack_ns", "patch_state", "arch_status", "ksm_merging_pages", "ksm_stat",
)  # fmt: skip
"""What Debian's kernel lists of a process, in its order. `net`, `mem` and `syscall` are not modelled."""

TID_BASE_STUFF: Final = (
    "fd", "fdinfo", "ns", "net", "environ", "auxv", "status", "personality", "limits", "sched", "comm", "syscall",
    "cmdline", "stat", "statm", "maps", "children", "numa_maps", "mem", "cwd", "root", "exe", "mounts", "mountinfo",
    "clear_refs", "smaps", "smaps_rollup", "pagemap", "attr", "wchan", "stack", "schedstat", "cpuset", "cgroup",
    "cpu_resctrl_groups", "oom_score", "oom_adj", "oom_score_adj", "loginuid", "sessionid", "io", "uid_map", "gid_map",
    "projid_map", "setgroups", "patch_state", "arch_status", "ksm_merging_pages", "ksm_stat",
)  # fmt: skip
"""What it lists of a thread."""


# ---- the directories ----------------------------------------------------------------------------------------------


def _processes(kernel: Kernel) -> list[str]:
    return [str(task.pid) for task in kernel.tasks.processes()]


def _find_task(kernel: Kernel, name: str) -> Task | None:
    """The thread of a number, leaders or not, as /proc finds both. Names with leading zeros are none."""
    if not name.isascii() or not name.isdecimal() or (name[0] == "0" and name != "0"):
        return None
    return kernel.tasks.get(int(name))


def _threads(task: Task) -> list[str]:
    return [str(thread.pid) for thread in task.threads]


def _find_thread(task: Task, name: str) -> Task | None:
    thread = _find_task(task.kernel, name)
    return thread if thread is not None and thread.signal is task.signal else None


def directory_owner(task: Task) -> tuple[int, int]:
    """Whose a process is: who owns its directories that all may enter. Linux: task_dump_owner()."""
    return task.cred.euid, task.cred.egid


def file_owner(task: Task) -> tuple[int, int]:
    """Whose the files of a process are: root's once it is a zombie. Linux: task_dump_owner()."""
    return (task.cred.euid, task.cred.egid) if task.mm is not None else (0, 0)


pid_dir: Directory[Task] = proc.family(
    list=_processes, lookup=_find_task, mode=0o555, owner=directory_owner, rules=PROC_PID, flushed=True
)
task_dir: Directory[Task] = pid_dir.directory("task", mode=0o555)
tid_dir: Directory[Task] = task_dir.family(list=_threads, lookup=_find_thread, mode=0o555, owner=directory_owner)
BOTH: Final = (pid_dir, tid_dir)


def flushed(kernel: Kernel, count: int) -> tuple[int, list[str] | None]:
    """Which directories have changed since there had been `count` changes; see Vfs. Linux: proc_flush_pid()."""
    tasks = kernel.tasks
    new = tasks.nr_flushed - count
    if new > len(tasks.flushed):
        return tasks.nr_flushed, None
    return tasks.nr_flushed, [f"/proc/{tasks.flushed[-index]}" for index in range(new, 0, -1)]


# ---- declaring files ----------------------------------------------------------------------------------------------

Show = Callable[Concatenate["Task", ...], Text]


def get_proc_task(task: Task) -> None:
    """ESRCH for an open file of whoever has been reaped. Linux: fs/proc/internal.h, get_proc_task()."""
    if task.kernel.tasks.get(task.pid) is not task:
        fail(errno.ESRCH)


def attribute(
    name: str, *, where: tuple[Directory[Task], ...] = BOTH, outlives: bool = False, **options: Any
) -> Callable[[Show], Attribute[Task]]:
    """Decorator: a text file of processes and of threads; `outlives`: once open it can be read when they are gone."""

    def decorate(show: Show) -> Attribute[Task]:
        node = Attribute(name, show, before=None if outlives else get_proc_task, **options)
        for directory in where:
            directory.add(node)
        return node

    return decorate


def symlink(name: str) -> Callable[[Callable[[Task], str]], Symlink[Task]]:
    """Decorator: a link that only those may read who may trace the process. Linux: proc_pid_readlink()."""

    def decorate(target: Callable[[Task], str]) -> Symlink[Task]:
        def readlink(task: Task, caller: Caller) -> str:
            check_ptrace(task, caller)
            return target(task)

        node: Symlink[Task] = Symlink(name, readlink, wants_caller=True)
        for directory in BOTH:
            directory.add(node)
        return node

    return decorate


def arrange(directory: Directory[Task], names: tuple[str, ...]) -> None:
    """Give a directory the kernel's order, and its nodes their owner; all have been declared."""

    def place(node: Node[Task] | Family[Task, Any]) -> int:
        assert isinstance(node, Node)
        return names.index(node.name)

    directory.content.sort(key=place)
    for node in directory.children.values():
        if not isinstance(node, Graft):
            node.owner = file_owner
        elif node.directory.mode != 0o555:
            node.directory.owner = file_owner


# ---- permissions --------------------------------------------------------------------------------------------------


def current(task: Task, caller: Caller) -> Task | None:
    """The task that calls, if it is one of the machine's."""
    return task.kernel.tasks.get(caller.pid)


def same_thread_group(task: Task, caller: Caller) -> bool:
    """Whether a process looks at itself. Linux: include/linux/sched/signal.h."""
    own = current(task, caller)
    return own is not None and own.signal is task.signal


def capable(caller: Caller) -> bool:
    """Whether the caller may do what takes a capability."""
    return caller.uid == 0


def ptrace_may_access(task: Task, caller: Caller) -> bool:
    """Whether the caller may read what a debugger could. Linux: kernel/ptrace.c, __ptrace_may_access()."""
    if caller.uid == 0:
        return True
    cred = task.cred
    return (
        caller.uid == cred.uid == cred.euid == cred.suid and caller.gid == cred.gid == cred.egid == cred.sgid
    ) or same_thread_group(task, caller)


def check_ptrace(task: Task, caller: Caller, error: int = errno.EACCES) -> None:
    """Raise the error that a file gives those who may not look."""
    if not ptrace_may_access(task, caller):
        fail(error)


def lock_trace(task: Task, caller: Caller) -> None:
    """EPERM for those who may not attach. Linux: fs/proc/base.c, lock_trace()."""
    check_ptrace(task, caller, errno.EPERM)


def proc_mem_open(task: Task, caller: Caller) -> None:
    """Open a file about memory; whoever has none shows nothing. Linux: fs/proc/base.c, proc_mem_open()."""
    if task.mm is not None:
        check_ptrace(task, caller)


MM_NEEDED: Final = since(6, 12)
"""Kernels in which files about memory cannot be opened for tasks without; older ones let them be opened and read."""


def needs_mm(task: Task, caller: Caller) -> None:
    """Open a file about memory that is not there for tasks without: ESRCH. Linux: __mem_open(), pagemap_open()."""
    if task.mm is None:
        if MM_NEEDED(task):
            fail(errno.ESRCH)
        return
    check_ptrace(task, caller)


def first_bytes(buf: str) -> tuple[str, int]:
    """What fits the buffer of a number, stripped, and how much of the write(2) that was. Linux: PROC_NUMBUF."""
    kept = buf[: PROC_NUMBUF - 1]
    return kept.partition("\0")[0].strip(" \t\n\v\f\r"), len(kept)
