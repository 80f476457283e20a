"""Paths: which inode a name means, and opening it.

The simulated disk holds what was put there: programs and libraries appear when they are first executed or mapped,
data files when somebody creates them. Each name has one inode, hence one copy in the page cache that all processes
share. The first look at a name takes an inode and a dentry from the slab, an open file takes a `filp`.

Linux: fs/namei.c, fs/file_table.c, fs/open.c.

Simplified: no directories and no permission bits; a path is one name. Inode numbers are given out in the order
in which files are first used.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mmfs.mm.filemap import File, Inode
from mmfs.mm.mman import FMODE_READ, FMODE_WRITE

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
O_LARGEFILE: Final = 0o100000
O_CLOEXEC: Final = 0o2000000
OPEN_FMODE: Final = {O_RDONLY: FMODE_READ, O_WRONLY: FMODE_WRITE, O_RDWR: FMODE_READ | FMODE_WRITE}

FIRST_INO: Final = 131_073
INODE_CACHES: Final = {"ext4": "ext4_inode_cache", "tmpfs": "shmem_inode_cache", "proc": "proc_inode_cache"}


class OpenFile(File):
    """A file that a path or a descriptor was opened for; it takes a slab object. Linux: fs/file_table.c."""

    def __init__(self, inode: Inode, f_mode: int, f_flags: int = 0, path: str | None = None) -> None:
        super().__init__(inode, path, f_mode)
        self.f_flags = f_flags
        inode.kernel.slab.alloc("filp", 1)

    def put(self) -> None:
        """One user less; the last closes it. Linux: fs/file_table.c, fput()."""
        super().put()
        if self.f_count == 0:
            self.inode.kernel.slab.free("filp", 1)


class Namei:
    """The names of a machine's files."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.inodes: dict[str, Inode] = {}
        self._next_ino = FIRST_INO

    def lookup(self, path: str) -> Inode | None:
        """The inode of a path. Linux: fs/namei.c, path_lookupat()."""
        return self.inodes.get(path)

    def create(
        self, path: str, size: int = 0, *, mode: int = 0o100644, uid: int = 0, gid: int = 0
    ) -> Inode:  # fmt: skip
        """A new file of `size` bytes, nothing of it cached; EEXIST if there is one. Linux: vfs_create()."""
        if path in self.inodes:
            raise OSError(errno.EEXIST, f"{path} exists")
        mount = self.kernel.mounts.find(path)
        shmem = mount.fstype in ("tmpfs", "devtmpfs")
        inode = Inode(
            self.kernel, self._next_ino, mount.dev, size, path, shmem=shmem, mode=mode, uid=uid, gid=gid
        )
        self._next_ino += 1
        self.inodes[path] = inode
        self.kernel.slab.alloc(INODE_CACHES.get(mount.fstype, "shmem_inode_cache"), 1)
        self.kernel.slab.alloc("dentry", 1)
        return inode

    def unlink(self, path: str) -> None:
        """unlink(2): the name goes now, the inode when nobody uses it."""
        inode = self.inodes.pop(path, None)
        if inode is None:
            raise OSError(errno.ENOENT, f"no file {path}")
        mount = self.kernel.mounts.find(path)
        self.kernel.slab.free(INODE_CACHES.get(mount.fstype, "shmem_inode_cache"), 1)
        self.kernel.slab.free("dentry", 1)
        inode.unlink()

    def do_open(self, path: str, flags: int = O_RDONLY, mode: int = 0o644) -> OpenFile:
        """open(2) without the descriptor. Linux: fs/open.c, do_filp_open()."""
        inode = self.inodes.get(path)
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

        image = elf_image(program.image)
        return self._open_binary(path if program.image == "static" else image.path, image.size)

    def _open_binary(self, path: str, size: int) -> OpenFile:
        inode = self.inodes.get(path)
        if inode is None:
            inode = self.create(path, size, mode=0o100755)
        return OpenFile(inode, FMODE_READ, O_LARGEFILE)
