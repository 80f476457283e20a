# mypy: disable-error-code="misc"
"""System calls on files: open, read, write, truncate, unlink, shared memory files.

A read brings pages into the page cache that are not there (and waits for the disk as long as its requests take), a
write leaves them dirty. The contents of files are not kept, only their pages.

Linux: fs/open.c, fs/read_write.c, fs/file.c, mm/memfd.c.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np

from mmfs.kernel.namei import O_APPEND, O_CLOEXEC, O_RDONLY, O_RDWR, OpenFile
from mmfs.kernel.sched import RLIMIT_NOFILE
from mmfs.kernel.sys import Size, nr_bytes
from mmfs.mm.mman import FMODE_READ, FMODE_WRITE
from mmfs.mm.shmem import shmem_file_setup
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE, PAGEBLOCK_ORDER, PG_DIRTY, NodeStatItem, ZoneStatItem

if TYPE_CHECKING:
    from mmfs.kernel.fdtable import FilesStruct
    from mmfs.kernel.task import Task
    from mmfs.mm.filemap import AddressSpace

SEEK_SET, SEEK_CUR, SEEK_END = 0, 1, 2
MAX_RW_COUNT = 0x7FFF_F000
COPY_PAGE_NS = 400
"""Copying a page between the page cache and the program."""


def folio_account_dirtied(mapping: AddressSpace, first: int, last: int) -> None:
    """Mark the cached pages [first, last) of a file as written. Linux: mm/page-writeback.c, filemap_dirty_folio()."""
    kernel = mapping.kernel
    record = kernel.mmu.folios.mappings[mapping.id]
    base, slots = int(record["base"]), kernel.mmu.folios.slots
    pfns = slots[base + first : base + last].astype(np.int64) - 1
    flags = kernel.frames.pages["flags"]
    clean = pfns[flags[pfns] & PG_DIRTY == 0]
    flags[clean] |= PG_DIRTY
    if mapping.host.shmem:
        return
    record["nr_dirty"] += len(clean)
    zones, counts = np.unique(kernel.frames.blocks["zone"][clean >> PAGEBLOCK_ORDER], return_counts=True)
    for zone, count in zip(zones.tolist(), counts.tolist(), strict=True):
        nid = kernel.zones[zone].zone_pgdat.node_id
        kernel.vmstat.mod_node_page_state(nid, NodeStatItem.NR_FILE_DIRTY, count)
        kernel.vmstat.mod_node_page_state(nid, NodeStatItem.NR_DIRTIED, count)
        kernel.vmstat.mod_zone_page_state(zone, ZoneStatItem.NR_ZONE_WRITE_PENDING, count)


class FileSyscalls:
    """The calls that take paths and descriptors; `Task` inherits them."""

    __slots__ = ()

    def _files(self: Task) -> FilesStruct:
        self._syscall()
        if self.files is None:
            raise OSError(errno.ESRCH, f"task {self.pid} has exited")
        return self.files

    def _fd(self: Task, fd: int) -> OpenFile:
        file = self._files().fdt.get(fd)
        if file is None:
            raise OSError(errno.EBADF, f"{fd} is not an open file")
        return file

    def open(self: Task, path: str, flags: int = O_RDONLY, mode: int = 0o644) -> int:
        """open(2)."""
        files = self._files()
        fd = files.get_unused_fd(self.rlimit(RLIMIT_NOFILE))
        file = self.kernel.namei.do_open(self._absolute(path), flags, mode & ~self.umask)
        files.install(fd, file, bool(flags & O_CLOEXEC))
        return fd

    def _absolute(self: Task, path: str) -> str:
        return path if path.startswith("/") else f"{self.cwd.rstrip('/')}/{path}"

    def close(self: Task, fd: int) -> None:
        """close(2)."""
        self._files().close(fd)

    def dup2(self: Task, old: int, new: int) -> int:
        """dup2(2)."""
        file, files = self._fd(old), self._files()
        if new < 0 or new >= self.rlimit(RLIMIT_NOFILE):
            raise OSError(errno.EBADF, "above RLIMIT_NOFILE")
        if new != old:
            if new in files.fdt:
                files.close(new)
            file.get()
            files.install(new, file)
        return new

    def lseek(self: Task, fd: int, offset: int, whence: int = SEEK_SET) -> int:
        """lseek(2)."""
        file = self._fd(fd)
        base = {SEEK_SET: 0, SEEK_CUR: file.f_pos, SEEK_END: file.inode.size}.get(whence)
        if base is None or base + offset < 0:
            raise OSError(errno.EINVAL, "before the start of the file")
        file.f_pos = base + offset
        return file.f_pos

    def read(self: Task, fd: int, count: Size, offset: int | None = None) -> int:
        """read(2), or pread(2) with an offset: how many bytes there were. The pages are cached then."""
        file = self._fd(fd)
        if not file.f_mode & FMODE_READ:
            raise OSError(errno.EBADF, "not open for reading")
        start = file.f_pos if offset is None else offset
        length = min(nr_bytes(count), MAX_RW_COUNT, max(file.inode.size - start, 0))
        if length > 0:
            self._read_pages(file, start, start + length)
        if offset is None:
            file.f_pos += max(length, 0)
        self.io.rchar += max(length, 0)
        self.io.syscr += 1
        return max(length, 0)

    def _read_pages(self: Task, file: OpenFile, start: int, end: int) -> int:
        """Have a range cached; returns how many pages came from the disk. Linux: mm/filemap.c, filemap_read()."""
        first, last = start >> PAGE_SHIFT, end + PAGE_SIZE - 1 >> PAGE_SHIFT
        try:
            missing = file.mapping.read_pages(first, last)
        except MemoryError:
            raise OSError(errno.ENOMEM, "no memory for the page cache") from None
        self.kernel.scheduler.charge(self, system_ns=(last - first) * COPY_PAGE_NS)
        if missing:
            self.kernel.io_schedule(self)
        self.kernel.cond_resched(self)
        return missing

    def write(self: Task, fd: int, count: Size, offset: int | None = None) -> int:
        """write(2), or pwrite(2) with an offset: the file grows, its pages are cached and dirty."""
        file = self._fd(fd)
        if not file.f_mode & FMODE_WRITE:
            raise OSError(errno.EBADF, "not open for writing")
        inode, length = file.inode, min(nr_bytes(count), MAX_RW_COUNT)
        start = inode.size if file.f_flags & O_APPEND else file.f_pos if offset is None else offset
        if start + length > inode.size:
            inode.truncate(start + length)
        first, last = start >> PAGE_SHIFT, start + length + PAGE_SIZE - 1 >> PAGE_SHIFT
        self._read_pages(file, start, start + length)
        folio_account_dirtied(file.mapping, first, last)
        if offset is None:
            file.f_pos = start + length
        self.io.wchar += length
        self.io.syscw += 1
        self.io.write_bytes += last - first << PAGE_SHIFT
        return length

    def ftruncate(self: Task, fd: int, size: Size) -> None:
        """ftruncate(2)."""
        file = self._fd(fd)
        if not file.f_mode & FMODE_WRITE:
            raise OSError(errno.EINVAL, "not open for writing")
        file.inode.truncate(nr_bytes(size))

    def unlink(self: Task, path: str) -> None:
        """unlink(2)."""
        self._syscall()
        self.kernel.namei.unlink(self._absolute(path))

    def memfd_create(self: Task, name: str) -> int:
        """memfd_create(2): an empty file of shared memory. Linux: mm/memfd.c."""
        files = self._files()
        if len(name) > 249:
            raise OSError(errno.EINVAL, "the name is too long")
        fd = files.get_unused_fd(self.rlimit(RLIMIT_NOFILE))
        unlinked = shmem_file_setup(self.kernel, f"/memfd:{name}", 0)
        files.install(fd, OpenFile(unlinked.inode, FMODE_READ | FMODE_WRITE, O_RDWR))
        unlinked.put()
        return fd
