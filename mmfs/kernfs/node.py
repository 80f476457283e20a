"""Templates of virtual files: what a tree is made of, before there is anything to show.

A tree is declared once, at module level, and holds no state. `Directory[T]` says what stands in a directory that is
bound to an object of type T: attributes (text files), binaries (files read by position), symlinks, device nodes,
subdirectories, and families (one entry per object: a process, a cgroup, a file descriptor). `mmfs.kernfs.vfs` binds
templates to objects while it walks a path, so a function below gets the typed object and never a path.

    proc: Directory[Kernel] = Directory(mode=0o555, rules=PROC)

    @proc.attribute("uptime")
    def uptime(kernel: Kernel) -> str: ...

    pid: Directory[Task] = proc.family(list=pids, lookup=find_task, owner=lambda task: (task.euid, task.egid))

    @pid.attribute("oom_score_adj")
    def oom_score_adj(task: Task) -> int: ...

    @oom_score_adj.store
    def oom_score_adj_store(task: Task, buf: str) -> None: ...
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Generic, TypeVar, overload

from mmfs.kernfs.rules import Rules

if TYPE_CHECKING:
    from mmfs.kernfs.entry import Caller

T = TypeVar("T")
U = TypeVar("U")
F = TypeVar("F", bound=Callable[..., object])

Text = str | bytes | bytearray | int
Owner = tuple[int, int]
Stored = int | None | Generator[None, None, int | None]
"""How much of a write(2) a store has taken (None: all), or will have when it ends."""


class Node(Generic[T]):
    """One name in a directory; there for an object if `needs(obj)`.

    A `needs` whose attribute `constant` is true answers the same as long as the tree is. A name that stands in a
    directory more than once, each time with `needs`, is the first that is there (`variant`: the next one).
    """

    type = 0
    """The S_IFMT bits."""
    rdev = 0

    def __init__(
        self,
        name: str,
        mode: int | Callable[[T], int],
        *,
        needs: Callable[[T], bool] | None = None,
        owner: Callable[[T], Owner] | None = None,
        uid: int | Callable[[T], int] | None = None,
        gid: int | Callable[[T], int] | None = None,
        size: int | Callable[[T], int] | None = None,
    ) -> None:
        self.name = name
        self.mode = mode
        self.needs = needs
        self.comes_and_goes = needs is not None and not getattr(needs, "constant", False)
        self.variant: Node[T] | None = None
        self.owner = owner if uid is None and gid is None else _owner(uid, gid)
        self.size = size

    def for_object(self, obj: T) -> Node[T] | None:
        """This node, or the first of its variants that is there for an object."""
        node: Node[T] | None = self
        while node is not None and node.needs is not None and not node.needs(obj):
            node = node.variant
        return node

    def mode_of(self, obj: T) -> int:
        """Permission bits for this object."""
        mode = self.mode
        return mode if isinstance(mode, int) else mode(obj)


def _owner(uid: int | Callable[[T], int] | None, gid: int | Callable[[T], int] | None) -> Callable[[T], Owner]:
    def owner(obj: T) -> Owner:
        return (uid(obj) if callable(uid) else uid or 0, gid(obj) if callable(gid) else gid or 0)

    return owner


class Attribute(Node[T]):
    """A text file: `show` makes its whole content for an open file, `store` takes one write(2).

    - `wants_caller`, `wants_file`: the functions get `caller=` (who opened) or `file=` (the OpenFile, whose `private`
      is theirs); `wants_offset`: the store gets `offset=`.
    - `open(obj, caller)` may refuse open(2), `before(obj)` each read(2) and write(2) of what is open;
      `release(obj, file)` is called at the last close(2).
    - A store that may take long is a generator: between two steps of it others are served.
    - `poll(obj, file)` returns the poll(2) mask that is true now.
    - `events(obj)` counts what poll(2) wakes for with POLLPRI and POLLERR until the file is read again, as kernfs does.
    - `version(obj)`: all that the content depends on; while it is equal, the text that was made last serves again.
      For a file at a fixed place that is read often and costs much more to make than its version.
    - `one_read`: past offset 0 there is nothing, as in a sysctl.
    - `transaction`: a read after a write on the same open file gives the answer to it, wherever the file position is.
    """

    type = stat.S_IFREG

    def __init__(
        self,
        name: str,
        show: Callable[Concatenate[T, ...], Text] | None = None,
        store: Callable[Concatenate[T, str, ...], Stored] | None = None,
        *,
        mode: int | Callable[[T], int] | None = None,
        wants_caller: bool = False,
        wants_file: bool = False,
        wants_offset: bool = False,
        open: Callable[[T, Caller], object] | None = None,
        before: Callable[[T], object] | None = None,
        poll: Callable[[T, Any], int] | None = None,
        events: Callable[[T], int] | None = None,
        release: Callable[[T, Any], object] | None = None,
        version: Callable[[T], object] | None = None,
        one_read: bool = False,
        transaction: bool = False,
        **options: Any,
    ) -> None:
        self.show = show
        self._store = store
        self._mode_given = mode is not None
        super().__init__(name, self._default_mode() if mode is None else mode, **options)
        self.wants_caller = wants_caller
        self.wants_file = wants_file
        self.wants_offset = wants_offset
        self.open = open
        self.before = before
        self.poll = poll
        self.events = events
        self.release = release
        self.version = version
        self.one_read = one_read
        self.transaction = transaction

    def _default_mode(self) -> int:
        return (0o444 if self.show else 0) | (0o200 if self._store else 0)

    def store(self, function: F) -> F:
        """Decorator: the function that takes a write(2)."""
        self._store = function  # type: ignore[assignment]
        if not self._mode_given:
            self.mode = self._default_mode()
        return function

    @property
    def storer(self) -> Callable[..., Stored] | None:
        """The function that takes a write(2), if the file has one."""
        return self._store

    def __call__(self, obj: T, **keywords: Any) -> Text:
        """Show, as the plain function that was decorated."""
        if self.show is None:
            raise TypeError(f"{self.name} cannot be read")
        return self.show(obj, **keywords)


class Binary(Node[T]):
    """A file read and written by position: `read(obj, offset, size)`; the content is never snapshot.

    Options as for Attribute.
    """

    type = stat.S_IFREG

    def __init__(
        self,
        name: str,
        read: Callable[Concatenate[T, int, int, ...], bytes] | None = None,
        write: Callable[Concatenate[T, int, bytes, ...], int | None] | None = None,
        *,
        mode: int | Callable[[T], int] | None = None,
        open: Callable[[T, Caller], object] | None = None,
        poll: Callable[[T, Any], int] | None = None,
        release: Callable[[T, Any], object] | None = None,
        wants_caller: bool = False,
        wants_file: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(name, (0o444 if read else 0) | (0o200 if write else 0) if mode is None else mode, **options)
        self.read = read
        self._write = write
        self.open = open
        self.poll = poll
        self.release = release
        self.wants_caller = wants_caller
        self.wants_file = wants_file

    def store(self, function: F) -> F:
        """Decorator: the function that takes a write(2), `(obj, offset, data)`."""
        self._write = function  # type: ignore[assignment]
        return function

    @property
    def storer(self) -> Callable[..., Stored] | None:
        """The function that takes a write(2), if the file has one."""
        return self._write

    def __call__(self, obj: T, offset: int, size: int, **keywords: Any) -> bytes:
        """Read, as the plain function that was decorated."""
        if self.read is None:
            raise TypeError(f"{self.name} cannot be read")
        return self.read(obj, offset, size, **keywords)


class Symlink(Node[T]):
    """A symbolic link; its target is a text or a function of the object (and of the caller)."""

    type = stat.S_IFLNK

    def __init__(
        self,
        name: str,
        target: str | Callable[Concatenate[T, ...], str],
        *,
        mode: int | Callable[[T], int] = 0o777,
        wants_caller: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(name, mode, **options)
        self.target = target
        self.wants_caller = wants_caller


class Special(Node[T]):
    """A device node; `type_` is stat.S_IFCHR or S_IFBLK."""

    def __init__(self, name: str, mode: int, rdev: int, *, type_: int = stat.S_IFCHR, **options: Any) -> None:
        super().__init__(name, mode, **options)
        self.type = type_
        self.rdev = rdev


class Graft(Node[T], Generic[T, U]):
    """A directory template under a name, bound to the object that `obj` takes from the parent's.

    `instead(obj)` may name another template for an object of the parent's, always the same one.
    """

    type = stat.S_IFDIR

    def __init__(
        self,
        name: str,
        directory: Directory[U],
        obj: Callable[[T], U] | None,
        needs: Callable[[T], bool] | None,
        instead: Callable[[T], Directory[U] | None] | None = None,
    ) -> None:
        super().__init__(name, 0, needs=needs)
        self.directory = directory
        self.obj = obj
        self.instead = instead

    def template(self, obj: T) -> Directory[U]:
        """The template for this object of the parent's."""
        other = None if self.instead is None else self.instead(obj)
        return self.directory if other is None else other


class Family(Generic[T, U]):
    """Entries that come and go: `list(obj)` names them, `lookup(obj, name)` finds the object of one or None."""

    def __init__(
        self, list: Callable[[T], Iterable[str]], lookup: Callable[[T, str], U | None], node: Node[U] | Directory[U]
    ) -> None:
        self.list = list
        self.lookup = lookup
        self.node = node


class Iattrs:
    """What was changed of one entry. Linux: struct kernfs_iattrs."""

    __slots__ = ("mode", "owner", "xattrs")

    def __init__(self) -> None:
        self.mode: int | None = None
        self.owner: tuple[int, int] | None = None
        self.xattrs: dict[str, bytes] = {}


class Directory(Generic[T]):
    """What stands in a directory that is bound to an object of type T; subdirectories inherit `rules` and `file_size`.

    `owner(obj)` gives uid and gid of the directory and of all below it; `ino(obj)` its inode number and `size(obj)` its
    st_size, where those mean something. `flushed`: when a member of a family goes, or what stat(2) tells of it and of
    the files in it changes, `Vfs.flushed` says so. `iattrs(obj)`: what was changed of mode, owner and extended
    attributes of the files in it, by name, and of itself, by ""; without, nothing can be changed (kernfs/inode.py).
    """

    type = stat.S_IFDIR

    def __init__(
        self,
        mode: int | Callable[[T], int] = 0o555,
        *,
        rules: Rules | None = None,
        file_size: int | None = None,
        owner: Callable[[T], Owner] | None = None,
        ino: Callable[[T], int] | None = None,
        nlink: Callable[[T], int] | None = None,
        size: Callable[[T], int] | None = None,
        flushed: bool = False,
        iattrs: Callable[[T], dict[str, Iattrs]] | None = None,
    ) -> None:
        self.mode = mode
        self.rules = rules
        self.flushed = flushed
        self.file_size = file_size
        self.owner = owner
        self.ino = ino
        self.nlink = nlink
        self.size = size
        self.content: list[Node[T] | Family[T, Any]] = []
        self.children: dict[str, Node[T]] = {}
        self.families: list[Family[T, Any]] = []
        self.grafts: list[Graft[T, Any]] = []
        self.mkdir: Callable[[T, str, int, Caller], object] | None = None
        self.rmdir: Callable[[T, str, Caller], object] | None = None
        self.iattrs = iattrs

    def mode_of(self, obj: T) -> int:
        """Permission bits for this object."""
        mode = self.mode
        return mode if isinstance(mode, int) else mode(obj)

    def add(self, node: Node[T]) -> None:
        """Put a node here; it is listed after those that are here already."""
        last = self.children.setdefault(node.name, node)
        if last is not node:
            while last.variant is not None:
                last = last.variant
            if last.needs is None or node.needs is None:
                raise ValueError(f"{node.name} is here already")
            last.variant = node
        self.content.append(node)
        if isinstance(node, Graft):
            self.grafts.append(node)

    def attributes(
        self,
        name: str,
        show: Callable[Concatenate[T, ...], Text] | None = None,
        store: Callable[Concatenate[T, str, ...], Stored] | None = None,
        **options: Any,
    ) -> Attribute[T]:
        """A text file from plain functions, for tables of rows."""
        node = Attribute(name, show, store, **options)
        self.add(node)
        return node

    def attribute(self, name: str, **options: Any) -> Callable[[Callable[Concatenate[T, ...], Text]], Attribute[T]]:
        """Decorator: a text file from its show function; for options see Attribute."""
        return lambda show: self.attributes(name, show, **options)

    def binary(
        self, name: str, **options: Any
    ) -> Callable[[Callable[Concatenate[T, int, int, ...], bytes]], Binary[T]]:
        """Decorator: a file read by position."""

        def decorate(read: Callable[Concatenate[T, int, int, ...], bytes]) -> Binary[T]:
            node = Binary(name, read, **options)
            self.add(node)
            return node

        return decorate

    def symlink(self, name: str, target: str | Callable[Concatenate[T, ...], str], **options: Any) -> Symlink[T]:
        """A symbolic link."""
        node = Symlink(name, target, **options)
        self.add(node)
        return node

    def special(self, name: str, mode: int, rdev: int, **options: Any) -> Special[T]:
        """A device node."""
        node: Special[T] = Special(name, mode, rdev, **options)
        self.add(node)
        return node

    @overload
    def directory(
        self, name: str, *, obj: Callable[[T], U], needs: Callable[[T], bool] | None = None, **options: Any
    ) -> Directory[U]: ...
    @overload
    def directory(self, name: str, *, needs: Callable[[T], bool] | None = None, **options: Any) -> Directory[T]: ...
    def directory(
        self, name: str, *, obj: Any = None, needs: Callable[[T], bool] | None = None, **options: Any
    ) -> Directory[Any]:
        """A subdirectory of a fixed name; `obj` must give the same object as long as the parent's lives."""
        made: Directory[Any] = Directory(**options)
        self.add(Graft(name, made, obj, needs))
        return made

    @overload
    def mount(self, name: str, directory: Directory[T], *, needs: Callable[[T], bool] | None = None) -> None: ...
    @overload
    def mount(
        self,
        name: str,
        directory: Directory[U],
        *,
        obj: Callable[[T], U],
        needs: Callable[[T], bool] | None = None,
        instead: Callable[[T], Directory[U] | None] | None = None,
    ) -> None: ...
    def mount(
        self, name: str, directory: Directory[Any], *, obj: Any = None, needs: Any = None, instead: Any = None
    ) -> None:
        """Put a template made elsewhere here under a name."""
        self.add(Graft(name, directory, obj, needs, instead))

    def _family(
        self, list: Callable[[T], Iterable[str]], lookup: Callable[[T, str], Any], node: Node[Any] | Directory[Any]
    ) -> None:
        family = Family(list, lookup, node)
        self.families.append(family)
        self.content.append(family)

    def family(
        self,
        *,
        list: Callable[[T], Iterable[str]],
        lookup: Callable[[T, str], U | None],
        template: Directory[U] | None = None,
        **options: Any,
    ) -> Directory[U]:
        """One subdirectory per object; with `template` an existing one, so that a tree can recurse."""
        made: Directory[U] = Directory(**options) if template is None else template
        self._family(list, lookup, made)
        return made

    def files(
        self, *, list: Callable[[T], Iterable[str]], lookup: Callable[[T, str], U | None], **options: Any
    ) -> Callable[[Callable[Concatenate[U, ...], Text]], Attribute[U]]:
        """Decorator: one text file per object."""

        def decorate(show: Callable[Concatenate[U, ...], Text]) -> Attribute[U]:
            node = Attribute("", show, **options)
            self._family(list, lookup, node)
            return node

        return decorate

    def symlinks(
        self, *, list: Callable[[T], Iterable[str]], lookup: Callable[[T, str], U | None], **options: Any
    ) -> Callable[[Callable[Concatenate[U, ...], str]], Symlink[U]]:
        """Decorator: one symbolic link per object."""

        def decorate(target: Callable[Concatenate[U, ...], str]) -> Symlink[U]:
            node = Symlink("", target, **options)
            self._family(list, lookup, node)
            return node

        return decorate

    def on_mkdir(self, function: F) -> F:
        """mkdir(2) in this directory calls `function(obj, name, mode, caller)`."""
        self.mkdir = function
        return function

    def on_rmdir(self, function: F) -> F:
        """rmdir(2) of an entry of this directory calls `function(obj, name, caller)`."""
        self.rmdir = function
        return function


def templates(root: Directory[Any]) -> Mapping[int, Directory[Any]]:
    """Every directory template that can be reached from `root`, by id."""
    found: dict[int, Directory[Any]] = {}
    waiting = [root]
    while waiting:
        directory = waiting.pop()
        if id(directory) in found:
            continue
        found[id(directory)] = directory
        for node in directory.content:
            inner = node.node if isinstance(node, Family) else node
            if isinstance(inner, Graft):
                waiting.append(inner.directory)
            elif isinstance(inner, Directory):
                waiting.append(inner)
    return found
