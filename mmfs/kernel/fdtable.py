"""Open files by number, and where a task stands in the file tree: what clone(2) shares with CLONE_FILES and CLONE_FS.

Linux: fs/file.c, fs/fs_struct.c.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmfs.kernel.namei import OpenFile


@dataclass(slots=True)
class FsStruct:
    """Where a task stands in the file tree. Linux: include/linux/fs_struct.h."""

    cwd: str = "/"
    root: str = "/"
    umask: int = 0o022
    users: int = 1


class FilesStruct:
    """The table of open files. Linux: include/linux/fdtable.h."""

    __slots__ = ("fdt", "close_on_exec", "count", "fdsize")

    def __init__(self) -> None:
        self.fdt: dict[int, OpenFile] = {}
        self.close_on_exec: set[int] = set()
        self.count = 1
        self.fdsize = 64

    def get_unused_fd(self, limit: int) -> int:
        """The lowest free number; EMFILE at `limit`. The table doubles when it is full. Linux: alloc_fd()."""
        fd = 0
        while fd in self.fdt:
            fd += 1
        if fd >= limit:
            raise OSError(errno.EMFILE, "RLIMIT_NOFILE is reached")
        while fd >= self.fdsize:
            self.fdsize *= 2
        return fd

    def install(self, fd: int, file: OpenFile, cloexec: bool = False) -> None:
        """Make `file` what `fd` means. Linux: fd_install()."""
        self.fdt[fd] = file
        if cloexec:
            self.close_on_exec.add(fd)

    def close(self, fd: int) -> None:
        """Free a number and drop its file; EBADF. Linux: close_fd()."""
        file = self.fdt.pop(fd, None)
        if file is None:
            raise OSError(errno.EBADF, f"{fd} is not an open file")
        self.close_on_exec.discard(fd)
        file.put()

    def copy(self) -> FilesStruct:
        """The same open files under the same numbers in a table of its own. Linux: dup_fd()."""
        new = FilesStruct()
        new.fdt = dict(self.fdt)
        new.close_on_exec = set(self.close_on_exec)
        new.fdsize = self.fdsize
        for file in new.fdt.values():
            file.get()
        return new

    def close_files(self, only_cloexec: bool = False) -> None:
        """Close all, or what execve closes. Linux: close_files(), do_close_on_exec()."""
        for fd in sorted(self.close_on_exec if only_cloexec else self.fdt):
            self.close(fd)
