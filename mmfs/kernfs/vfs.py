"""Path walk and the system calls on paths, over a tree of templates bound to one object.

Entries that are `stable`, fixed names below fixed names, whose objects live as long as the root's, are kept by path, so
that a walk to /proc/meminfo is one look into a dictionary. All others are asked for in their directory on every walk,
which keeps them as long as they stand for the same object, so nothing can be out of date.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any, Final

from mmfs.kernfs import inode
from mmfs.kernfs.entry import MAY_EXEC, MAY_READ, MAY_WRITE, ROOT, Caller, Entry, Stat
from mmfs.kernfs.file import OpenFile
from mmfs.kernfs.kstrtox import fail
from mmfs.kernfs.node import Directory, Symlink

MAX_LINKS: Final = 40
NAME_MAX: Final = 255


class Vfs:
    """A tree of templates bound to one object, and the system calls on its paths."""

    def __init__(
        self,
        root: Directory[Any],
        obj: Any,
        time_ns: Callable[[], int] | None = None,
        guard: Callable[[], None] | None = None,
        flushed: Callable[[int], tuple[int, list[str] | None]] | None = None,
    ) -> None:
        """`guard` is called before a write(2), mkdir(2) or rmdir(2) and raises if there may be none.

        `flushed(count)` gives the paths of directories (`Entry.held`) that have changed since `count` had, and how many
        have by now; None for the paths if they are too many to tell.
        """
        self.root = Entry("", None, None, root, obj, True)
        self.root.guard = guard
        self.time_ns: Callable[[], int] = time_ns or (lambda: 0)
        self.flushed: Callable[[int], tuple[int, list[str] | None]] = flushed or (lambda count: (count, []))
        self._stable: dict[str, Entry] = {"/": self.root}

    def walk(self, path: str) -> Entry:
        """The entry of an absolute path as FUSE gives it: no links followed, nobody's permissions looked at."""
        entry = self._stable.get(path)
        if entry is not None:
            return entry
        split = path.rfind("/")
        parent = self._stable.get(path[:split])
        if parent is not None:
            names = [path[split + 1 :]]
            entry = parent
        else:
            names = path.split("/")[1:]
            entry = self.root
        for name in names:
            child = entry.child(name)
            if child is None:
                fail(errno.ENAMETOOLONG if len(name) > NAME_MAX else errno.ENOENT)
            entry = child
        if entry.stable:
            self._stable[path] = entry
        return entry

    def resolve(self, path: str, caller: Caller = ROOT, follow: bool = True) -> Entry:
        """The entry that a path leads the caller to.

        Linux: fs/namei.c, link_path_walk().
        """
        if not path:
            fail(errno.ENOENT)
        entry = self.root
        pending = path.split("/")[::-1]
        links = 0
        must_be_directory = False
        while pending:
            name = pending.pop()
            if entry.directory is None:
                fail(errno.ENOTDIR)
            if name in ("", "."):
                must_be_directory = not pending
                continue
            entry.permission(MAY_EXEC, caller)
            if name == "..":
                entry = entry.parent or self.root
                continue
            child = entry.child(name)
            if child is None:
                fail(errno.ENAMETOOLONG if len(name) > NAME_MAX else errno.ENOENT)
            if isinstance(child.node, Symlink) and (pending or follow):
                links += 1
                if links > MAX_LINKS:
                    fail(errno.ELOOP)
                target = child.readlink(caller)
                if target.startswith("/"):
                    entry = self.root
                pending += target.split("/")[::-1]
                continue
            entry = child
        if must_be_directory and entry.directory is None:
            fail(errno.ENOTDIR)
        return entry

    def _parent(self, path: str, caller: Caller) -> tuple[Entry, str]:
        head, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            fail(errno.EEXIST if name == "" else errno.EINVAL)
        return self.resolve(head or "/", caller), name

    def open(self, path: str, flags: int = os.O_RDONLY, caller: Caller = ROOT) -> OpenFile:
        """open(2)."""
        try:
            entry = self.resolve(path, caller, follow=not flags & os.O_NOFOLLOW)
        except FileNotFoundError:
            if flags & os.O_CREAT:
                parent, _ = self._parent(path, caller)
                fail(parent.rules.create)
            raise
        if flags & os.O_CREAT and flags & os.O_EXCL:
            fail(errno.EEXIST)
        if flags & os.O_DIRECTORY and entry.directory is None:
            fail(errno.ENOTDIR)
        return entry.open(flags, caller)

    def read(self, path: str, caller: Caller = ROOT) -> bytes:
        """The whole content of a file."""
        file = self.open(path, os.O_RDONLY, caller)
        pieces: list[bytes] = []
        offset = 0
        try:
            while piece := file.read(1 << 24, offset):
                pieces.append(piece)
                offset += len(piece)
        finally:
            file.release()
        return b"".join(pieces)

    def write(self, path: str, data: bytes | str, caller: Caller = ROOT) -> int:
        """One write(2) to a file opened for writing; how many bytes it took."""
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogateescape")
        file = self.open(path, os.O_WRONLY | os.O_TRUNC, caller)
        try:
            return file.write(data, 0)
        finally:
            file.release()

    def listdir(self, path: str, caller: Caller = ROOT) -> list[str]:
        """The names in a directory, as declared."""
        entry = self.resolve(path, caller)
        entry.permission(MAY_READ, caller)
        return [name for name, _ in entry.readdir(caller)]

    def mkdir(self, path: str, mode: int = 0o755, caller: Caller = ROOT) -> None:
        """mkdir(2)."""
        parent, name = self._parent(path, caller)
        if parent.child(name) is None and parent.directory is not None and parent.directory.mkdir is not None:
            parent.permission(MAY_WRITE | MAY_EXEC, caller)
        parent.mkdir(name, mode, caller)

    def rmdir(self, path: str, caller: Caller = ROOT) -> None:
        """rmdir(2)."""
        parent, name = self._parent(path, caller)
        if parent.child(name) is not None:
            parent.permission(MAY_WRITE | MAY_EXEC, caller)
        parent.rmdir(name, caller)

    def chmod(self, path: str, mode: int, caller: Caller = ROOT) -> None:
        """chmod(2)."""
        inode.chmod(self.resolve(path, caller), mode, caller)

    def chown(self, path: str, uid: int, gid: int, caller: Caller = ROOT) -> None:
        """chown(2); -1: as it is."""
        inode.chown(self.resolve(path, caller), uid, gid, caller)

    def getxattr(self, path: str, name: str, caller: Caller = ROOT) -> bytes:
        """getxattr(2)."""
        return inode.getxattr(self.resolve(path, caller), name, caller)

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0, caller: Caller = ROOT) -> None:
        """setxattr(2)."""
        inode.setxattr(self.resolve(path, caller), name, value, flags, caller)

    def removexattr(self, path: str, name: str, caller: Caller = ROOT) -> None:
        """removexattr(2)."""
        inode.removexattr(self.resolve(path, caller), name, caller)

    def listxattr(self, path: str, caller: Caller = ROOT) -> list[str]:
        """listxattr(2)."""
        return inode.listxattr(self.resolve(path, caller), caller)

    def stat(self, path: str, caller: Caller = ROOT) -> Stat:
        """stat(2)."""
        return self.resolve(path, caller).stat(caller)

    def lstat(self, path: str, caller: Caller = ROOT) -> Stat:
        """lstat(2)."""
        return self.resolve(path, caller, follow=False).stat(caller)

    def readlink(self, path: str, caller: Caller = ROOT) -> str:
        """readlink(2)."""
        return self.resolve(path, caller, follow=False).readlink(caller)

    def entries(self, path: str = "/", caller: Caller = ROOT) -> Iterator[tuple[str, Entry]]:
        """Every path below one with its entry, directories before what is in them; links are not followed."""
        waiting = [(path.rstrip("/"), self.resolve(path, caller))]
        while waiting:
            base, directory = waiting.pop()
            inner: list[tuple[str, Entry]] = []
            for name, entry in directory.readdir(caller):
                yield f"{base}/{name}", entry
                if entry.directory is not None:
                    inner.append((f"{base}/{name}", entry))
            waiting += reversed(inner)
