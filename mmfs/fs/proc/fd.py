"""/proc/PID/fd and fdinfo, and /proc/PID/task: what is open, and the threads.

Linux: fs/proc/fd.c; fs/proc/base.c, proc_task_readdir().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.proc.array import proc_pid_statm, proc_pid_status, proc_stat
from mmfs.fs.proc.base import declare_base
from mmfs.fs.proc.pid import owner, pid_dir
from mmfs.fs.proc.task_mmu import declare_task_mmu
from mmfs.mm.mman import FMODE_READ, FMODE_WRITE

if TYPE_CHECKING:
    from mmfs.kernel.namei import OpenFile
    from mmfs.kernel.task import Task
    from mmfs.kernfs import Caller, Directory

OPEN_LINK_SIZE = 64


def _fds(task: Task) -> list[str]:
    return [str(fd) for fd in sorted(task.fdtable)]


def _file(task: Task, name: str) -> OpenFile | None:
    return task.fdtable.get(int(name)) if name.isascii() and name.isdecimal() else None


fd_dir: Directory[Task] = pid_dir.directory("fd", mode=0o500)
fdinfo_dir: Directory[Task] = pid_dir.directory("fdinfo", mode=0o555)


def _fd_mode(file: OpenFile) -> int:
    """What the descriptor allows. Linux: proc_fd_link(), tid_fd_update_inode()."""
    return (0o500 if file.f_mode & FMODE_READ else 0) | (0o300 if file.f_mode & FMODE_WRITE else 0)


@fd_dir.symlinks(list=_fds, lookup=_file, mode=_fd_mode, size=OPEN_LINK_SIZE)
def proc_fd_link(file: OpenFile) -> str:
    """The path of an open file."""
    return f"{file.path} (deleted)" if file.deleted else file.path


@fdinfo_dir.files(list=_fds, lookup=_file, mode=0o444)
def fdinfo(file: OpenFile) -> str:
    """Position, flags, mount and inode. Linux: fs/proc/fd.c, seq_show()."""
    mount = file.inode.kernel.mounts.find(file.path)
    return f"pos:\t{file.f_pos}\nflags:\t0{file.f_flags:o}\nmnt_id:\t{mount.mnt_id}\nino:\t{file.inode.ino}\n"


# ---------------------------------------------------------------------------------- threads


def _threads(task: Task) -> list[str]:
    return [str(thread.pid) for thread in task.threads]


def _thread(task: Task, name: str) -> Task | None:
    return next((thread for thread in task.threads if str(thread.pid) == name), None)


task_dir: Directory[Task] = pid_dir.directory("task", mode=0o555)
tid_dir: Directory[Task] = task_dir.family(list=_threads, lookup=_thread, mode=0o555, owner=owner)


@tid_dir.attribute("stat", wants_caller=True)
def proc_tid_stat(task: Task, caller: Caller) -> str:
    """52 numbers about a thread."""
    return proc_stat(task, caller, False)


@tid_dir.attribute("children")
def children(task: Task) -> str:
    """The processes that the thread has made. Linux: children_seq_show()."""
    return "".join(f"{child.tgid} " for child in task.children)


tid_dir.attributes("status", proc_pid_status)
tid_dir.attributes("statm", proc_pid_statm)
declare_base(tid_dir)
declare_task_mmu(tid_dir)
