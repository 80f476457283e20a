"""Paths: which inode a name means, and opening it.

The simulated disk holds what was put there: programs and libraries appear when they are first executed or mapped,
data files when somebody creates them. Each name has one inode, hence one copy in the page cache that all processes
share. The first look at a name reads its inode from the disk and takes an inode and a dentry from the slab
(kernel/dcache.py, kernel/ext4.py), an open file takes a `filp`.

Linux: fs/namei.c, fs/file_table.c, fs/open.c.

Simplified: no directories and no permission bits; a path is one name. Inode numbers are given out in the order
in which files are first used.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mmfs.kernel.clock import NSEC_PER_SEC
from mmfs.kernel.dcache import Dcache
from mmfs.mm.hugetlbfs import HugetlbInode, hugetlbfs_super
from mmfs.mm.inode import File, Inode
from mmfs.mm.mman import FMODE_READ, FMODE_WRITE
from mmfs.mm_types import PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.kernel.elf_images import ElfImage
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.programs import Program

O_RDONLY: Final = 0
O_WRONLY: Final = 1
O_RDWR: Final = 2
O_ACCMODE: Final = 3
O_CREAT: Final = 0o100
O_EXCL: Final = 0o200
O_TRUNC: Final = 0o1000
O_APPEND: Final = 0o2000
O_NONBLOCK: Final = 0o4000
O_LARGEFILE: Final = 0o100000
O_CLOEXEC: Final = 0o2000000
OPEN_FMODE: Final = {O_RDONLY: FMODE_READ, O_WRONLY: FMODE_WRITE, O_RDWR: FMODE_READ | FMODE_WRITE}

FIRST_INO: Final = 131_073
RELATIME_NS: Final = 86_400 * NSEC_PER_SEC


class OpenFile(File):
    """A file that a path or a descriptor was opened for; it takes a slab object. Linux: fs/file_table.c."""

    def __init__(self, inode: Inode, f_mode: int, f_flags: int = 0, path: str | None = None) -> None:
        super().__init__(inode, path, f_mode)
        self.f_flags = f_flags
        self.obj = inode.kernel.slab.alloc("filp", force=True)

    def accessed(self) -> None:
        """The file was read: its inode changes if it was not since it was written. Linux: fs/inode.c, touch_atime()."""
        inode, now = self.inode, self.inode.kernel.clock.now_ns
        if inode.bdi is not None and (inode.atime_ns <= inode.mtime_ns or now - inode.atime_ns >= RELATIME_NS):
            inode.atime_ns = now
            inode.kernel.ext4.dirty_inode(inode)

    def updated(self) -> None:
        """The file was written: its inode changes. Linux: fs/inode.c, file_update_time()."""
        if self.inode.bdi is not None:
            self.inode.mtime_ns = self.inode.kernel.clock.now_ns
            self.inode.kernel.ext4.dirty_inode(self.inode)

    def put(self) -> None:
        """One user less; the last closes it. Linux: fs/file_table.c, fput()."""
        super().put()
        if self.f_count == 0:
            self.inode.kernel.slab.free_if(self.obj)
            self.inode.kernel.namei.dcache.dput(self.inode)


class Namei:
    """The names of a machine's files."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.inodes: dict[str, Inode] = {}
        self.dcache = Dcache(kernel)
        self._next_ino = FIRST_INO

    def lookup(self, path: str) -> Inode | None:
        """The inode of a path, read from the disk if it is not in memory. Linux: fs/namei.c, path_lookupat()."""
        inode = self.inodes.get(path)
        if inode is not None and inode not in self.dcache.dentries:
            fstype = self.kernel.mounts.find(path).fstype
            if inode not in self.dcache.in_core and not inode.shmem:
                self.kernel.ext4.lookup(inode)
            self.dcache.iget(inode, fstype)
            self.dcache.d_alloc(inode)
        return inode

    def stat(self, path: str) -> Inode:
        """What stat(2) looks at; ENOENT if there is no such file. Linux: fs/stat.c, vfs_statx()."""
        inode = self.lookup(path)
        if inode is None:
            raise OSError(errno.ENOENT, f"no file {path}")
        self.dcache.dput(inode)
        return inode

    def _new_inode(self, path: str, size: int, mode: int, uid: int, gid: int) -> Inode:
        if path in self.inodes:
            raise OSError(errno.EEXIST, f"{path} exists")
        mount = self.kernel.mounts.find(path)
        shmem = mount.fstype in ("tmpfs", "devtmpfs")
        if mount.fstype == "hugetlbfs":
            sb = hugetlbfs_super(self.kernel, mount)
            if size % sb.hstate.huge_page_size:
                raise OSError(errno.EINVAL, "not a multiple of the huge page size")
            inode: Inode = HugetlbInode(sb, self._next_ino, mount.dev, path, mode, uid, gid)
            inode.size = size
        else:
            inode = Inode(self.kernel, self._next_ino, mount.dev, size, path, shmem=shmem, mode=mode, uid=uid, gid=gid)
        self._next_ino += 1
        self.inodes[path] = inode
        return inode

    def create(self, path: str, size: int = 0, *, mode: int = 0o100644, uid: int = 0, gid: int = 0) -> Inode:
        """A new file of `size` bytes, with nothing in it; EEXIST if there is one. Linux: vfs_create()."""
        inode = self._new_inode(path, size, mode, uid, gid)
        if not inode.shmem:
            self.kernel.ext4.create(inode)
        self.dcache.iget(inode, self.kernel.mounts.find(path).fstype)
        self.dcache.d_alloc(inode)
        return inode

    def install(self, path: str, size: int, *, mode: int = 0o100644) -> Inode:
        """A file that has been on the disk, nothing of it in memory; or one of huge pages, with none of them."""
        if self.kernel.mounts.find(path).fstype == "hugetlbfs":
            return self.create(path, size, mode=mode)
        inode = self._new_inode(path, size, mode, 0, 0)
        if inode.bdi is None:
            raise OSError(errno.EINVAL, f"{path} is not on a disk")
        inode.allocate(-(-size // PAGE_SIZE))
        self.kernel.ext4.add_entry(path)
        self.kernel.ext4.max_ino = max(self.kernel.ext4.max_ino, inode.ino)
        return inode

    def unlink(self, path: str) -> None:
        """unlink(2): the name goes now, the inode when nobody uses it."""
        inode = self.lookup(path)
        if inode is None:
            raise OSError(errno.ENOENT, f"no file {path}")
        if inode.swapfile:
            raise OSError(errno.EPERM, f"{path} is swapped on")
        del self.inodes[path]
        if not inode.shmem:
            self.kernel.ext4.unlink(inode)
        self.dcache.d_delete(inode)
        inode.unlink()

    def do_open(self, path: str, flags: int = O_RDONLY, mode: int = 0o644) -> OpenFile:
        """open(2) without the descriptor. Linux: fs/open.c, do_filp_open()."""
        inode = self.lookup(path)
        if inode is None:
            if not flags & O_CREAT:
                raise OSError(errno.ENOENT, f"no file {path}")
            inode = self.create(path, mode=0o100000 | mode)
        elif flags & O_CREAT and flags & O_EXCL:
            raise OSError(errno.EEXIST, f"{path} exists")
        if flags & O_ACCMODE == O_ACCMODE:
            raise OSError(errno.EINVAL, "neither reading nor writing")
        if inode.swapfile and flags & O_ACCMODE:
            raise OSError(errno.ETXTBSY, f"{path} is swapped on")
        if flags & O_TRUNC and flags & O_ACCMODE:
            inode.truncate(0)
        kept = flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC)
        return OpenFile(inode, OPEN_FMODE[flags & O_ACCMODE], kept | O_LARGEFILE)

    def open(self, path: str, *, write: bool = False, create_size: int | None = None) -> OpenFile:
        """Open for reading, or reading and writing; make the file with `create_size` bytes if it is not there."""
        if create_size is not None and path not in self.inodes:
            self.create(path, create_size)
        return self.do_open(path, O_RDWR if write else O_RDONLY)

    def open_image(self, image: ElfImage) -> OpenFile:
        """Open a program's or library's file, which is on the disk from the start."""
        return self._open_binary(image.path, image.size)

    def open_exec(self, program: Program, path: str) -> OpenFile:
        """Open what execve was given: `path`, with the size of the program's image. Linux: do_open_execat()."""
        from mmfs.kernel.elf_images import elf_image

        image = elf_image(program.image, self.kernel.profile.arch.machine)
        return self._open_binary(path if program.image == "static" else image.path, image.size)

    def _open_binary(self, path: str, size: int) -> OpenFile:
        if path not in self.inodes and self.kernel.mounts.find(path).fstype in ("tmpfs", "devtmpfs"):
            self.create(path, size, mode=0o100755)
        elif path not in self.inodes:
            self.install(path, size, mode=0o100755)
        inode = self.lookup(path)
        assert inode is not None
        return OpenFile(inode, FMODE_READ, O_LARGEFILE)
