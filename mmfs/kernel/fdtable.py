"""Open files by number, and where a task stands in the file tree: what clone(2) shares with CLONE_FILES and CLONE_FS.

A table of up to 64 files is part of its `files_cache`. A larger one doubles when it is full and takes memory that the
task's cgroup pays for: 8 bytes a file, from the slab or, where that has nothing as large, from vmalloc, and three maps.

Linux: fs/file.c, fs/fs_struct.c.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.namei import OpenFile
    from mmfs.mm.vmalloc import Kvmalloc

FDTABLE_WORDS = 7
"""Of struct fdtable."""


@dataclass(slots=True)
class FsStruct:
    """Where a task stands in the file tree. Linux: include/linux/fs_struct.h."""

    cwd: str = "/"
    root: str = "/"
    umask: int = 0o022
    users: int = 1
    obj: int = 0
    """Its object of the slab."""


class FilesStruct:
    """The table of open files. Linux: include/linux/fdtable.h."""

    __slots__ = ("kernel", "fdt", "close_on_exec", "count", "fdsize", "obj", "tables")

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.fdt: dict[int, OpenFile] = {}
        self.close_on_exec: set[int] = set()
        self.count = 1
        self.fdsize = kernel.profile.arch.bits_per_long  # NR_OPEN_DEFAULT
        self.obj = 0
        """Its object of the slab."""
        self.tables: list[Kvmalloc] = []
        """What a table takes that is larger than that."""

    def expand(self, fd: int) -> None:
        """Have room for a number; ENOMEM. Linux: expand_files(), alloc_fdtable()."""
        if fd < self.fdsize:
            return
        bits = self.kernel.profile.arch.bits_per_long
        word = bits // 8
        nr = min(max(1024 // word, 1 << fd.bit_length()), self.kernel.fs_sysctl.nr_open & -bits)
        if fd >= nr:
            raise OSError(errno.EMFILE, "above fs.nr_open")
        taken: list[Kvmalloc] = []
        try:
            sizes = FDTABLE_WORDS * word, word * nr, max(2 * nr // 8 + -(-(nr // bits) // bits) * word, 64)
            taken.extend(map(self.kernel.vmalloc.kvmalloc, sizes))
        except OSError:
            self._free_tables(taken)
            raise
        self._free_tables(self.tables)
        self.tables, self.fdsize = taken, nr

    def _free_tables(self, tables: list[Kvmalloc]) -> None:
        for one in tables:
            self.kernel.vmalloc.kvfree(one)

    def get_unused_fd(self, limit: int) -> int:
        """The lowest free number; EMFILE at `limit`. The table doubles when it is full. Linux: alloc_fd()."""
        fd = 0
        while fd in self.fdt:
            fd += 1
        if fd >= limit:
            raise OSError(errno.EMFILE, "RLIMIT_NOFILE is reached")
        self.expand(fd)
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
        new = FilesStruct(self.kernel)
        if self.fdt:
            new.expand(max(self.fdt))
        new.fdt = dict(self.fdt)
        new.close_on_exec = set(self.close_on_exec)
        for file in new.fdt.values():
            file.get()
        return new

    def close_files(self, only_cloexec: bool = False) -> None:
        """Close all, or what execve closes. Linux: close_files(), do_close_on_exec()."""
        for fd in sorted(self.close_on_exec if only_cloexec else self.fdt):
            self.close(fd)

    def put(self) -> None:
        """Nobody uses it any more; its object of the slab stays. Linux: put_files_struct(), __free_fdtable()."""
        self.close_files()
        self._free_tables(self.tables)
        self.tables = []
