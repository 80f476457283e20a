"""/proc/PID/fd and fdinfo: what is open.

Linux: fs/proc/fd.c.

Simplified: who may not trace a process cannot read its fdinfo files, but can list them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from mmfs.fs.proc.pid import BOTH, check_ptrace
from mmfs.kernel.namei import O_CLOEXEC
from mmfs.mm.mman import FMODE_READ, FMODE_WRITE

if TYPE_CHECKING:
    from mmfs.kernel.namei import OpenFile
    from mmfs.kernel.task import Task
    from mmfs.kernfs import Caller

OPEN_LINK_SIZE: Final = 64


class Descriptor(NamedTuple):
    """A number that a task has open."""

    task: Task
    fd: int
    file: OpenFile

    @property
    def flags(self) -> int:
        """The flags of open(2), with O_CLOEXEC, which the table of files keeps."""
        files = self.task.files
        return self.file.f_flags | (O_CLOEXEC if files is not None and self.fd in files.close_on_exec else 0)


def _fds(task: Task) -> list[str]:
    return [str(fd) for fd in sorted(task.fdtable)]


def _nr_fds(task: Task) -> int:
    return len(task.fdtable)


def _find_fd(task: Task, name: str) -> Descriptor | None:
    if not name.isascii() or not name.isdecimal() or (name[0] == "0" and name != "0"):
        return None
    file = task.fdtable.get(int(name))
    return Descriptor(task, int(name), file) if file is not None else None


def _fd_mode(descriptor: Descriptor) -> int:
    """What the descriptor allows. Linux: proc_fd_instantiate(), tid_fd_update_inode()."""
    f_mode = descriptor.file.f_mode
    return (0o500 if f_mode & FMODE_READ else 0) | (0o300 if f_mode & FMODE_WRITE else 0)


def proc_fd_link(descriptor: Descriptor, caller: Caller) -> str:
    """The path of an open file. Linux: proc_fd_link()."""
    check_ptrace(descriptor.task, caller)
    file = descriptor.file
    return f"{file.path} (deleted)" if file.deleted else file.path


def _fdinfo_permission(descriptor: Descriptor, caller: Caller) -> None:
    """Linux: proc_fdinfo_permission()."""
    check_ptrace(descriptor.task, caller)


def fdinfo(descriptor: Descriptor) -> str:
    """Position, flags, mount and inode. Linux: seq_show()."""
    file = descriptor.file
    mount = file.inode.kernel.mounts.find(file.path)
    return f"pos:\t{file.f_pos}\nflags:\t0{descriptor.flags:o}\nmnt_id:\t{mount.mnt_id}\nino:\t{file.inode.ino}\n"


for _files in BOTH:
    _fd_dir = _files.directory("fd", mode=0o500, size=_nr_fds)
    _fd_dir.symlinks(list=_fds, lookup=_find_fd, mode=_fd_mode, size=OPEN_LINK_SIZE, wants_caller=True)(proc_fd_link)
    _fdinfo_dir = _files.directory("fdinfo", mode=0o555)
    _fdinfo_dir.files(list=_fds, lookup=_find_fd, mode=0o444, open=_fdinfo_permission)(fdinfo)
