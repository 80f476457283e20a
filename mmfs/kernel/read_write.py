# mypy: disable-error-code="misc"
"""System calls on files: open, read, write, truncate, unlink, sync, advice, shared memory files.

A read brings pages into the page cache that are not there, ahead of what was asked for, and waits for the disk; a
write leaves them dirty and may have to sleep until the disk has caught up. The contents of files are not kept, only
their pages. `read` and `write` also take a path: `read(path, offset, length)`.

Linux: fs/open.c, fs/read_write.c, fs/sync.c, fs/file.c, mm/filemap.c, mm/fadvise.c, mm/memfd.c.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmfs.kernel.clock import NSEC_PER_MSEC, TICK_NSEC
from mmfs.kernel.cputime import Cost
from mmfs.kernel.fallocate import vfs_fallocate
from mmfs.kernel.fs_writeback import filemap_write_and_wait
from mmfs.kernel.namei import O_APPEND, O_CLOEXEC, O_CREAT, O_RDONLY, O_RDWR, O_WRONLY, OpenFile
from mmfs.kernel.sched import RLIMIT_NOFILE
from mmfs.kernel.sys import Size, nr_bytes
from mmfs.mm.fadvise import generic_fadvise
from mmfs.mm.filemap import Room
from mmfs.mm.mman import FMODE_READ, FMODE_WRITE
from mmfs.mm.page_writeback import balance_dirty_pages, ratelimit
from mmfs.mm.shmem import shmem_file_setup, swapin_range
from mmfs.mm_types import FAULT_HUGE, FAULT_OOM, FAULT_SWAP, PAGE_SHIFT, PAGE_SIZE, SWAP_CLUSTER_MAX

if TYPE_CHECKING:
    from mmfs.kernel.fdtable import FilesStruct
    from mmfs.kernel.task import Task

SEEK_SET, SEEK_CUR, SEEK_END = 0, 1, 2
MAX_RW_COUNT = 0x7FFF_F000
SLICE_NS = NSEC_PER_MSEC
"""How long a loop works or waits before others have a turn."""
SWAPIN_BYTES = SWAP_CLUSTER_MAX * PAGE_SIZE
"""How much of a shared file is brought back from swap at a time."""


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
        self._check_killed()
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
            files.expand(new)
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

    def read(self: Task, fd: int | str, count: Size, offset: Size | None = None) -> int:
        """read(2), or pread(2) with an offset: how many bytes there were. With a path: `read(path, offset, length)`."""
        if isinstance(fd, str):
            opened = self.open(fd, O_RDONLY)
            try:
                return self.read(opened, 1 << 62 if offset is None else offset, count)
            finally:
                if self.alive:
                    self.close(opened)
        file = self._fd(fd)
        if not file.f_mode & FMODE_READ:
            raise OSError(errno.EBADF, "not open for reading")
        start = file.f_pos if offset is None else nr_bytes(offset)
        wanted = nr_bytes(count)
        if file.inode.shmem and self.kernel.memory_failure.poisoned:
            wanted = file.inode.sound_bytes(start, wanted)
        length = 0
        while length < wanted and (part := min(wanted - length, MAX_RW_COUNT, file.inode.size - start - length)) > 0:
            self._filemap_read(file, start + length, start + length + part)
            length += part
        if offset is None:
            file.f_pos += length
        self.io.rchar += length
        self.io.syscr += 1
        return length

    def _swapin(self: Task, file: OpenFile, pos: int, end: int) -> None:
        """Have what of a file of shared memory is swapped out back. Linux: mm/shmem.c, shmem_get_folio()."""
        try:
            swapin_range(file.mapping, pos >> PAGE_SHIFT, -(-end >> PAGE_SHIFT))
        except MemoryError as error:
            raise OSError(errno.ENOMEM, str(error)) from error

    def _filemap_read(self: Task, file: OpenFile, pos: int, end: int) -> None:
        """Copy bytes out of the page cache, read from the disk where they are missing. Linux: filemap_read()."""
        kernel, inode = self.kernel, file.inode
        fast, mapping, bdi = kernel.mmu.filemap, file.mapping.id, inode.bdi
        if inode.huge_page_size:  # Linux: hugetlbfs_read_iter()
            kernel.scheduler.charge(self, system_ns=(end - pos + PAGE_SIZE - 1 >> PAGE_SHIFT) * Cost.COPY_PAGE)
            kernel.cond_resched(self)
            return
        if bdi is None:
            self._swapin(file, pos, end)
            kernel.mmu.shmem.read(mapping, pos, end)
            kernel.scheduler.charge(self, system_ns=fast.cpu_ns)
            kernel.cond_resched(self)
            return
        nr_sectors = 0
        queue, sectors_read = bdi.queue, bdi.disk.queue.sectors_read
        now, last_pos = kernel.scheduler.ready_ns(self), fast.prev_pos(file.ra)
        with Room(kernel) as room:
            while pos < end:
                before = sectors_read()
                pos = fast.read(mapping, file.ra, queue, pos, end, last_pos, now, now + SLICE_NS)
                nr_sectors += sectors_read() - before
                last_pos, window = pos, fast.window() if fast.reason == FAULT_OOM else None
                now = self._spent(now)
                if window is not None and not room.make(window, ahead=window[2] > pos >> PAGE_SHIFT):
                    fast.abandon()
                    if window[2] <= pos >> PAGE_SHIFT:
                        raise OSError(errno.ENOMEM, "no memory for the page cache")
                end = min(end, inode.size)
        fast.set_prev_pos(file.ra, pos)
        if nr_sectors:
            self.io.read_bytes += nr_sectors << 9
            bdi.wb.laptop_io_completion()
        file.accessed()

    def _spent(self: Task, began: int) -> int:
        """Charge what a loop over the page cache has used, and wait as long as it waited; the task's time then."""
        kernel = self.kernel
        fast, scheduler = kernel.mmu.filemap, kernel.scheduler
        until: int = fast.now_ns
        cpu_ns: int = fast.cpu_ns
        kernel.page_cache.settle()
        scheduler.charge(self, system_ns=cpu_ns)
        if until > began + cpu_ns and (wait_ns := until - scheduler.ready_ns(self)) > 0:
            kernel.io_wait(self, wait_ns, min(int(fast.memstall_ns), wait_ns))
        kernel.cond_resched(self)
        if self.has_exit_work():
            self._check_killed()
        return max(until, scheduler.ready_ns(self))

    def write(self: Task, fd: int | str, count: Size, offset: Size | None = None) -> int:
        """write(2), or pwrite(2) with an offset: the file grows, its pages are cached and dirty.

        With a path: `write(path, offset, length)`; the file is made if there is none.
        """
        if isinstance(fd, str):
            opened = self.open(fd, O_WRONLY | O_CREAT)
            try:
                return self.write(opened, 0 if offset is None else offset, count)
            finally:
                if self.alive:
                    self.close(opened)
        file = self._fd(fd)
        if not file.f_mode & FMODE_WRITE:
            raise OSError(errno.EBADF, "not open for writing")
        if file.inode.huge_page_size:
            raise OSError(errno.EINVAL, "files of huge pages are written through mappings")
        inode, length = file.inode, min(nr_bytes(count), MAX_RW_COUNT)
        start = inode.size if file.f_flags & O_APPEND else file.f_pos if offset is None else nr_bytes(offset)
        if inode.shmem and self.kernel.memory_failure.poisoned:
            length = inode.sound_bytes(start, length)
        if start + length > inode.size:
            inode.truncate(start + length)
        if length:
            self._perform_write(file, start, start + length)
            file.updated()
        if offset is None:
            file.f_pos = start + length
        self.io.wchar += length
        self.io.syscw += 1
        return length

    def _perform_write(self: Task, file: OpenFile, pos: int, end: int) -> None:
        """Copy bytes into the page cache, and sleep when that goes too fast. Linux: generic_perform_write()."""
        kernel, inode, mapping = self.kernel, file.inode, file.mapping
        fast, bdi = kernel.mmu.filemap, inode.bdi
        now = kernel.scheduler.ready_ns(self)
        with Room(kernel) as room:
            while pos < end:
                if bdi is not None:
                    limit = max(ratelimit(self, bdi.wb), 1)
                    pos = fast.write(mapping.id, bdi.queue, pos, end, limit, now, now + SLICE_NS)
                else:
                    pos = kernel.mmu.shmem.write(mapping.id, pos, end, now, now + SLICE_NS)
                self.io.write_bytes += fast.nr_dirtied << PAGE_SHIFT
                self.nr_dirtied += fast.nr_dirtied
                reason = fast.reason
                now = self._spent(now)
                if reason == FAULT_OOM and not room.make():
                    inode.truncate(pos)
                    raise OSError(errno.ENOMEM, "no memory for the page cache")
                if reason == FAULT_HUGE:
                    kernel.shmem_huge.alloc_slowly()
                if reason == FAULT_SWAP:  # maybe just now, to make room for the pages before it
                    self._swapin(file, pos, min(end, pos + SWAPIN_BYTES))
                    now = kernel.scheduler.ready_ns(self)
                if bdi is not None and ratelimit(self, bdi.wb) <= 0:
                    now = self._balance_dirty_pages(file, now)
                end = min(end, inode.size)
        kernel.page_cache.settle()
        kernel.collect_dirty_inodes()

    def _balance_dirty_pages(self: Task, file: OpenFile, now: int) -> int:
        """Sleep if there are too many dirty pages; the task's time then. Linux: balance_dirty_pages_ratelimited()."""
        bdi, kernel = file.inode.bdi, self.kernel
        assert bdi is not None
        kernel.page_cache.settle()
        kernel.collect_dirty_inodes()
        again = True
        while again:
            pause, again = balance_dirty_pages(self, bdi.wb, now // TICK_NSEC)
            if pause:
                kernel.schedule_timeout(self, pause * TICK_NSEC, io=True)
                self._check_killed()
            now = kernel.scheduler.ready_ns(self)
            again = again and not kernel.clock.running
        return now

    def fallocate(self: Task, fd: int, mode: int, offset: Size, length: Size) -> None:
        """fallocate(2): memory for a part of a file of tmpfs or hugetlbfs, or (FALLOC_FL_PUNCH_HOLE) a hole."""
        file = self._fd(fd)
        try:
            vfs_fallocate(self, file, mode, nr_bytes(offset), nr_bytes(length))
        finally:
            self._check_killed()

    def fsync(self: Task, fd: int) -> None:
        """fsync(2): wait until the disk has everything of a file; EIO if some of it is lost.

        Linux: fs/ext4/fsync.c, ext4_sync_file().
        """
        file = self._fd(fd)
        if file.inode.bdi is not None:
            filemap_write_and_wait(self, file.mapping)
            self.kernel.io_schedule(self, self.kernel.ext4.commit())
            error, file.mapping.wb_error = file.mapping.wb_error, 0
            if error:
                raise OSError(error, "data of the file are lost")

    def fdatasync(self: Task, fd: int) -> None:
        """fdatasync(2)."""
        self.fsync(fd)

    def sync(self: Task) -> None:
        """sync(2): wait until the disks have everything."""
        self._syscall()
        self.kernel.sync(self)

    def syncfs(self: Task, fd: int) -> None:
        """syncfs(2): the same for a file's file system."""
        if self._fd(fd).inode.bdi is not None:
            self.kernel.sync(self)

    def fadvise(self: Task, fd: int, offset: Size, length: Size, advice: int) -> None:
        """posix_fadvise(2): how a file will be used."""
        file = self._fd(fd)
        generic_fadvise(file, nr_bytes(offset), nr_bytes(length), advice, self._write_behind)
        self._spent(self.kernel.clock.now_ns)

    def _write_behind(self: Task, file: OpenFile, first: int, last: int) -> None:
        from mmfs.kernel.fs_writeback import FOREVER, write_cache_pages

        wrote = write_cache_pages(file.mapping, FOREVER, first, last)
        self.kernel.scheduler.charge(self, system_ns=wrote * Cost.WRITE_PAGE)

    def readahead(self: Task, fd: int, offset: Size, count: Size) -> None:
        """readahead(2)."""
        from mmfs.mm.fadvise import POSIX_FADV_WILLNEED

        if not self._fd(fd).f_mode & FMODE_READ:
            raise OSError(errno.EBADF, "not open for reading")
        self.fadvise(fd, offset, count, POSIX_FADV_WILLNEED)

    def stat(self: Task, path: str) -> int:
        """stat(2): the size of a file."""
        self._syscall()
        return self.kernel.namei.stat(self._absolute(path)).size

    def ftruncate(self: Task, fd: int, size: Size) -> None:
        """ftruncate(2)."""
        file = self._fd(fd)
        if not file.f_mode & FMODE_WRITE:
            raise OSError(errno.EINVAL, "not open for writing")
        file.inode.truncate(nr_bytes(size))
        file.updated()

    def unlink(self: Task, path: str) -> None:
        """unlink(2)."""
        self._syscall()
        self.kernel.namei.unlink(self._absolute(path))
        self.kernel.page_cache.settle()

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
