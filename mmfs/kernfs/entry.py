"""Entries: templates bound to objects, under a name; what Linux splits into dentry and inode.

Inode numbers follow from the path alone: the same file has the same number in every run.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from mmfs.kernfs.file import OpenFile
from mmfs.kernfs.kstrtox import fail
from mmfs.kernfs.node import Attribute, Directory, Graft, Iattrs, Node, Owner, Symlink
from mmfs.kernfs.rules import PROC, Rules

MAY_EXEC: Final = 1
MAY_WRITE: Final = 2
MAY_READ: Final = 4
_INO_MODULUS: Final = 2**61 - 1
_INO_FACTOR: Final = 0x1D8E4E27C47D124F
MAX_KEPT: Final = 8192
"""How many entries a directory keeps; all are forgotten then."""


class Caller(NamedTuple):
    """Who makes a system call: a pid (0: nobody's) and the credentials that permissions look at."""

    pid: int = 0
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


ROOT: Final = Caller()


class Stat(NamedTuple):
    """What stat(2) tells."""

    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    ino: int
    rdev: int


class Entry:
    """A template bound to an object, under a name.

    `stable`: it and its object are there as long as the root is. `comes_and_goes`: the name itself may vanish, as a
    member of a family or a node with `needs` that is not constant; what stands at a fixed name below such a directory
    is neither. `held`: a directory that is `flushed`, or a file at a fixed name in one: it is what it is until that is
    said.

    An entry keeps those below it that were asked for. Whether the name is still there, and stands for the same object,
    is found out anew each time.
    """

    __slots__ = (
        "_ino",
        "_kept",
        "_owner",
        "_owner_obj",
        "comes_and_goes",
        "directory",
        "file_size",
        "guard",
        "held",
        "iattrs",
        "memo",
        "name",
        "node",
        "obj",
        "parent",
        "rules",
        "stable",
    )

    def __init__(
        self, name: str, parent: Entry | None, node: Any, directory: Directory[Any] | None, obj: Any, stable: bool
    ):
        self.name = name
        self.parent = parent
        self.node = node
        self.directory = directory
        self.obj = obj
        self.stable = stable
        self.comes_and_goes = False
        self.held = False
        self.memo: tuple[object, bytes] | None = None
        """The last text and its version, if the template tells versions."""
        self._ino = 0
        self._kept: dict[str, Entry] = {}
        owner: Callable[[Any], Owner] | None = None
        self.guard: Callable[[], None] | None = None if parent is None else parent.guard
        """Called before anything is changed; it raises if nothing may be."""
        if parent is None:
            self.rules: Rules = PROC
            self.file_size = 0
            self._owner: Callable[[Any], Owner] | None = None
            self._owner_obj: Any = None
        else:
            self.rules = parent.rules
            self.file_size = parent.file_size
            self._owner, self._owner_obj = parent._owner, parent._owner_obj
        if directory is None:
            owner = node.owner
        else:
            owner = directory.owner
            if directory.rules is not None:
                self.rules = directory.rules
                self.file_size = directory.rules.file_size
            if directory.file_size is not None:
                self.file_size = directory.file_size
        if owner is not None:
            self._owner, self._owner_obj = owner, obj
        holder = directory if directory is not None else None if parent is None else parent.directory
        self.iattrs: Callable[[Any], dict[str, Iattrs]] | None = None if holder is None else holder.iattrs
        """What was changed of this entry is here, if it can be."""

    def changed(self) -> Iattrs | None:
        """What was changed of its attributes (mmfs/kernfs/inode.py)."""
        return self.iattrs and self.iattrs(self.obj).get("" if self.directory is not None else self.name)

    @property
    def path(self) -> str:
        """The path from the root."""
        names: list[str] = []
        entry = self
        while entry.parent is not None:
            names.append(entry.name)
            entry = entry.parent
        return "/" + "/".join(reversed(names))

    @property
    def template(self) -> Any:
        """What a member of a family is bound to."""
        return self.node if self.directory is None else self.directory

    @property
    def type(self) -> int:
        """The S_IFMT bits."""
        return stat.S_IFDIR if self.directory is not None else self.node.type

    @property
    def ino(self) -> int:
        """The inode number: the template's, else one that follows from the path."""
        if not self._ino:
            directory, parent = self.directory, self.parent
            if directory is not None and directory.ino is not None:
                self._ino = directory.ino(self.obj)
            elif parent is None:
                self._ino = 1
            else:
                name = int.from_bytes(self.name.encode("utf-8", "surrogateescape"), "little")
                self._ino = (parent.ino * _INO_FACTOR + name) % _INO_MODULUS + 2
        return self._ino

    @property
    def owner(self) -> Owner:
        """uid and gid: the nearest template's above that names an owner."""
        changed = self.iattrs and self.changed()
        if changed and changed.owner is not None:
            return changed.owner
        return (0, 0) if self._owner is None else self._owner(self._owner_obj)

    @property
    def mode(self) -> int:
        """Permission bits."""
        changed = self.iattrs and self.changed()
        if changed and changed.mode is not None:
            return changed.mode
        directory = self.directory
        return self.node.mode_of(self.obj) if directory is None else directory.mode_of(self.obj)

    @property
    def size(self) -> int:
        """st_size."""
        directory, node = self.directory, self.node
        if directory is not None:
            return 0 if directory.size is None else directory.size(self.obj)
        size = node.size
        if size is None:
            if node.type == stat.S_IFREG:
                return self.file_size
            if isinstance(node, Symlink) and self.rules is PROC and isinstance(node.target, str):
                return len(node.target)
            return 0
        return int(size(self.obj) if callable(size) else size)

    @property
    def constant(self) -> bool:
        """Whether `stat()` always gives the same."""
        node = self.node
        plain = isinstance(node, Node) and isinstance(node.mode, int) and not callable(node.size)
        return self.stable and self.directory is None and self._owner is None and self.iattrs is None and plain

    @property
    def nlink(self) -> int:
        """Two and the number of subdirectories, 1 for what is no directory."""
        directory = self.directory
        if directory is None:
            return 1
        if directory.nlink is not None:
            return directory.nlink(self.obj)
        count = 2
        for graft in directory.grafts:
            if graft.needs is None or graft.needs(self.obj):
                count += 1
        for family in directory.families:
            if isinstance(family.node, Directory):
                count += len(list(family.list(self.obj)))
        return count

    def stat(self, caller: Caller = ROOT) -> Stat:
        """lstat(2)."""
        uid, gid = (0, 0) if self._owner is None and self.iattrs is None else self.owner
        directory, node = self.directory, self.node
        ino = self._ino or self.ino
        if directory is not None:
            return Stat(stat.S_IFDIR | self.mode, self.nlink, uid, gid, self.size, ino, 0)
        mode = node.mode if type(node.mode) is int and self.iattrs is None else self.mode
        return Stat(node.type | mode, 1, uid, gid, self.size, ino, node.rdev)

    # ------------------------------------------------------------------------------------------------- directories

    def child(self, name: str) -> Entry | None:
        """The entry of a name in this directory."""
        directory = self.directory
        if directory is None:
            fail(errno.ENOTDIR)
        obj = self.obj
        kept = self._kept.get(name)
        node = directory.children.get(name)
        if node is not None:
            found = node if node.needs is None else node.for_object(obj)
            if found is None:
                return None
            return kept if kept is not None and kept.node is found else self._keep(name, self._bind(found))
        for family in directory.families:
            member = family.lookup(obj, name)
            if member is not None:
                if kept is not None and kept.obj is member and kept.template is family.node:
                    return kept
                return self._keep(name, self._bind_member(name, family.node, member))
        self._kept.pop(name, None)
        return None

    def _keep(self, name: str, child: Entry) -> Entry:
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[name] = child
        return child

    def _bind(self, node: Node[Any]) -> Entry:
        stable = self.stable and not node.comes_and_goes
        if isinstance(node, Graft):
            obj = self.obj if node.obj is None else node.obj(self.obj)
            entry = Entry(node.name, self, node, node.template(self.obj), obj, stable)
        else:
            entry = Entry(node.name, self, node, None, self.obj, stable)
        entry.comes_and_goes = node.comes_and_goes
        entry.held = self.held and entry.directory is None and not node.comes_and_goes
        return entry

    def _bind_member(self, name: str, node: Any, member: Any) -> Entry:
        if isinstance(node, Directory):
            entry = Entry(name, self, None, node, member, False)
            entry.held = node.flushed
        else:
            entry = Entry(name, self, node, None, member, False)
        entry.comes_and_goes = True
        return entry

    def readdir(self, caller: Caller = ROOT) -> list[tuple[str, Entry]]:
        """The entries of this directory as declared or as the rules order them, without . and .."""
        directory = self.directory
        if directory is None:
            fail(errno.ENOTDIR)
        obj = self.obj
        found: list[tuple[str, Entry]] = []
        for node in directory.content:
            if isinstance(node, Node):
                if node.needs is None or node.needs(obj):
                    found.append((node.name, self._bind(node)))
                continue
            for name in node.list(obj):
                member = node.lookup(obj, name)
                if member is not None:
                    found.append((name, self._bind_member(name, node.node, member)))
        order = self.rules.order
        if order is not None:
            found.sort(key=lambda pair: order(pair[0]))
        return found

    def mkdir(self, name: str, mode: int = 0o755, caller: Caller = ROOT) -> None:
        """mkdir(2) of a name in this directory."""
        if self.child(name) is not None:
            fail(errno.EEXIST)
        if self.directory is None or self.directory.mkdir is None:
            fail(self.rules.mkdir)
        if self.guard is not None:
            self.guard()
        self.directory.mkdir(self.obj, name, mode, caller)

    def rmdir(self, name: str, caller: Caller = ROOT) -> None:
        """rmdir(2) of a name in this directory."""
        child = self.child(name)
        if child is None:
            fail(errno.ENOENT)
        if child.directory is None:
            fail(errno.ENOTDIR)
        if self.directory is None or self.directory.rmdir is None:
            fail(errno.EPERM)
        if self.guard is not None:
            self.guard()
        self.directory.rmdir(self.obj, name, caller)

    # ------------------------------------------------------------------------------------------------- the others

    def readlink(self, caller: Caller = ROOT) -> str:
        """readlink(2)."""
        node = self.node
        if not isinstance(node, Symlink):
            fail(errno.EINVAL)
        if isinstance(node.target, str):
            return node.target
        return node.target(self.obj, caller=caller) if node.wants_caller else node.target(self.obj)

    def permission(self, mask: int, caller: Caller) -> None:
        """EACCES unless the caller may; root may read and write all and execute what anybody may.

        Linux: fs/namei.c, generic_permission().
        """
        strict = self.rules.strict_mode
        if caller.uid == 0 and not strict:
            if mask & MAY_EXEC and self.directory is None and not self.mode & 0o111:
                fail(errno.EACCES)
            return
        mode = self.mode
        uid, gid = self.owner
        if caller.uid == uid:
            mode >>= 6
        elif caller.gid == gid or gid in caller.groups:
            mode >>= 3
        if mask & ~mode & 7:
            fail(errno.EACCES)

    def open(self, flags: int = os.O_RDONLY, caller: Caller = ROOT, check: bool = True) -> OpenFile:
        """open(2) of a regular file; without `check` the mode has been looked at by the caller's kernel.

        Linux: fs/namei.c, may_open(); fs/kernfs/file.c, kernfs_fop_open().
        """
        node = self.node
        if self.directory is not None:
            fail(errno.EISDIR)
        if node.type != stat.S_IFREG:
            fail(errno.ELOOP if node.type == stat.S_IFLNK else errno.ENXIO)
        access = flags & os.O_ACCMODE
        mask = (MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, 0)[access]
        if flags & os.O_TRUNC:
            mask |= MAY_WRITE
        rules = self.rules
        if check or rules.strict_mode:
            self.permission(mask, caller)
        if rules.strict_open:
            mode = self.mode
            reader = node.show if isinstance(node, Attribute) else node.read
            if (mask & MAY_WRITE and not (mode & 0o222 and node.storer)) or (
                mask & MAY_READ and not (mode & 0o444 and reader)
            ):
                fail(errno.EACCES)
        if node.open is not None:
            node.open(self.obj, caller)
        return OpenFile(self, flags, caller)
