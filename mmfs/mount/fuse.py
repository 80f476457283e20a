"""The FUSE adapter: requests of the kernel become calls on the virtual files, and exceptions errnos.

One thread answers and takes the lock that the ticker also takes, so the model needs none. Content is never cached by
the kernel (direct_io); names and attributes are as far as they cannot change behind its back: for a second at a fixed
place, not at all if they come and go (/proc/PID, cgroups), so that their dentry is asked for on every walk.

A file of the mount must never be opened by this process: it would wait for itself. What `HostProc` says about the real
procfs goes through a descriptor that was opened before the mount.

An exception that is no OSError is a defect of the model: it is logged with its traceback, the caller gets EIO, and the
daemon goes on.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from mmfs.kernfs import Caller, Entry, OpenFile, Vfs, fail
from mmfs.kernfs.node import Binary, templates
from mmfs.mount.libfuse import CAP_SPLICE_READ, Session, load_binding

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

log = logging.getLogger("mmfs")

P = ParamSpec("P")
R = TypeVar("R")
FOREVER: Final = 1.0
"""Seconds for which the kernel may believe names and attributes at fixed places."""
VOLATILE: Final = 0.1
"""... attributes of what comes and goes, which are asked for anew on every walk."""
TEXT_SIZE: Final = 1 << 30
"""More than any text file has; what the kernel believes while one without a size is open."""
BINARY_SIZE: Final = 1 << 50
POLL_SECONDS: Final = 0.01
EVENTS: Final = select.POLLPRI | select.POLLERR | select.POLLHUP
"""What wakes; a virtual file can always be read and written."""


class HostProc(Protocol):
    """The caller's own entries in the real procfs (`mmfs.mount.namespace`)."""

    def readlink(self, path: str, pid: int) -> str | None:
        """Where a link that is not the machine's leads; None if there is no such link."""

    def mode(self, path: str, pid: int) -> int | None:
        """Type and permissions of a path that is not the machine's; None if there is no such thing."""


def guarded(method: Callable[Concatenate[Operations, P], R]) -> Callable[Concatenate[Operations, P], R]:
    """One request: under the lock, and with nothing but OSErrors coming out."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: Operations, /, *arguments: P.args, **keywords: P.kwargs) -> R:
        try:
            with self.big_lock:
                return method(self, *arguments, **keywords)
        except OSError as error:
            if error.errno:
                raise
            log.exception("%s%r", name, arguments)
        except Exception:
            log.exception("%s%r", name, arguments)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    return call


class Handle:
    """An open file and what FUSE adds to it."""

    __slots__ = ("file", "mask", "path", "poll_handle")

    def __init__(self, file: OpenFile, path: str) -> None:
        self.file = file
        self.path = path
        self.poll_handle = 0
        self.mask = 0
        """Events that poll(2) has not been told of yet."""


class Pollers:
    """Open files that somebody polls; their events are looked at after every write and every few milliseconds.

    The model does not know that it is watched, so nobody tells when an event happens. The thread lives only while there
    are such files.
    """

    def __init__(self, operations: Operations) -> None:
        self.operations = operations
        self.waiting: list[Handle] = []
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def add(self, handle: Handle, poll_handle: int) -> None:
        """Keep libfuse's handle until there is an event; it replaces an older one."""
        self.forget(handle)
        if not handle.file.polls:
            self.operations.session.forget_poll(poll_handle)
            return
        handle.poll_handle = poll_handle
        self.waiting.append(handle)
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="mmfs-poll", daemon=True)
            self._thread.start()

    def forget(self, handle: Handle) -> None:
        """Nobody polls this file any more."""
        if handle.poll_handle:
            self.waiting.remove(handle)
            self.operations.session.forget_poll(handle.poll_handle)
            handle.poll_handle = 0

    def check(self) -> None:
        """Wake those whose events have come; with the lock held."""
        for handle in list(self.waiting):
            handle.mask |= handle.file.poll() & EVENTS
            if handle.mask:
                self.waiting.remove(handle)
                self.operations.session.notify_poll(handle.poll_handle)
                handle.poll_handle = 0

    def stop(self) -> None:
        """The mount is gone."""
        self._stopped = True
        self._wake.set()

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait()
            time.sleep(POLL_SECONDS)
            with self.operations.big_lock:
                try:
                    self.check()
                except Exception:
                    log.exception("poll")
                    self.waiting.clear()
                if not self.waiting:
                    self._wake.clear()


class Operations:
    """What libfuse calls; methods that are absent here are absent there, and the kernel stops asking."""

    use_ns = True

    def __init__(
        self,
        vfs: Vfs,
        lock: threading.Lock | threading.RLock,
        session: Session,
        on_ready: Callable[[], None] | None = None,
        host_proc: HostProc | None = None,
        entry_timeout: float = FOREVER,
        attr_timeout: float = FOREVER,
    ) -> None:
        self.vfs = vfs
        self.big_lock = lock
        self.session = session
        self.on_ready = on_ready
        self.host_proc = host_proc
        self.entry_timeout = entry_timeout
        self.attr_timeout = attr_timeout
        self.handles: dict[int, Handle] = {}
        self.directories: dict[int, Entry] = {}
        self.next_handle = 1
        self.opened: dict[str, list[int]] = {}
        """Paths of open files whose size is unknown: nodeid, how often it is open, size to believe."""
        self.config: Any = None
        self.pollers = Pollers(self)
        self.euid, self.egid = os.geteuid(), os.getegid()
        if not any(directory.xattr for directory in templates(vfs.root.directory or fail(errno.EINVAL)).values()):
            self.getxattr = self.listxattr = self.setxattr = self.removexattr = None

    # ------------------------------------------------------------------------------------------------- life

    def init_with_config(self, connection: Any, config: Any) -> None:
        """libfuse 3 has mounted; its configuration stays ours to change, as `getattr()` does."""
        self.config = config
        if connection is not None:
            connection.want &= ~CAP_SPLICE_READ
        if config is not None:
            config.use_ino = 1
            config.nullpath_ok = 1
        self.init("/")

    def init(self, path: str) -> None:
        """The mount works from now on."""
        if self.on_ready is not None:
            self.on_ready()

    def destroy(self, path: str) -> None:
        """The mount is gone."""
        self.pollers.stop()

    # ------------------------------------------------------------------------------------------------- who

    def caller(self) -> Caller:
        """Who makes the request; the user who has mounted is root of the machine."""
        uid, gid, pid = self.session.caller()
        return Caller(pid, 0 if uid == self.euid else uid, 0 if gid == self.egid else gid)

    def host_mode(self, path: str) -> int:
        """Mode of what is not the machine's; ENOENT."""
        mode = None
        if self.host_proc is not None and path.startswith("/proc/"):
            mode = self.host_proc.mode(path, self.session.caller()[2])
        return fail(errno.ENOENT) if mode is None else mode

    # ------------------------------------------------------------------------------------------------- names

    @guarded
    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, int]:
        """LOOKUP and GETATTR; also says how long the answer may be believed."""
        if path is None or fh is not None:
            entry = self.handles[fh or 0].file.entry
        else:
            opened = self.opened.get(path)
            if opened is not None:
                self.session.store_size(opened[0], opened[2])
            try:
                entry = self.vfs.walk(path)
            except FileNotFoundError:
                mode = self.host_mode(path)
                self.believe(0.0, 0.0)
                return {"st_mode": mode, "st_nlink": 1, "st_uid": self.euid, "st_gid": self.egid}
        if entry.stable:
            self.believe(self.entry_timeout, self.attr_timeout)
        else:
            self.believe(0.0 if entry.comes_and_goes else self.entry_timeout, min(VOLATILE, self.attr_timeout))
        mode, nlink, uid, gid, size, ino, rdev = entry.stat()
        now = self.vfs.time_ns()
        return {
            "st_mode": mode,
            "st_ino": ino,
            "st_nlink": nlink,
            "st_uid": uid or self.euid,
            "st_gid": gid or self.egid,
            "st_size": size,
            "st_rdev": rdev,
            "st_blksize": 1024 if size == 0 else 4096,
            "st_atime": now,
            "st_mtime": now,
            "st_ctime": now,
        }

    def believe(self, entry_timeout: float, attr_timeout: float) -> None:
        """How long the kernel may keep the name and the attributes that are about to be answered.

        libfuse reads its configuration anew for each answer, so this is per answer.
        """
        if self.config is not None:
            self.config.entry_timeout = entry_timeout
            self.config.attr_timeout = attr_timeout

    @guarded
    def readlink(self, path: str) -> str:
        """READLINK: the caller's own entries lead to the real procfs."""
        if self.host_proc is not None and path.startswith("/proc/"):
            target = self.host_proc.readlink(path, self.session.caller()[2])
            if target is not None and (path in ("/proc/self", "/proc/thread-self") or not self.exists(path)):
                return target
        return self.vfs.walk(path).readlink(self.caller())

    def exists(self, path: str) -> bool:
        """Whether the machine has this path."""
        try:
            self.vfs.walk(path)
        except FileNotFoundError:
            return False
        return True

    @guarded
    def opendir(self, path: str) -> int:
        """OPENDIR."""
        try:
            entry = self.vfs.walk(path)
        except FileNotFoundError:
            self.host_mode(path)
            return 0
        fh = self.next_handle
        self.next_handle = fh + 1
        self.directories[fh] = entry
        return fh

    @guarded
    def readdir(self, path: str | None, fh: int) -> list[tuple[str, dict[str, int], int]]:
        """READDIR: the whole listing at once, names with type and inode number."""
        entry = self.directories.get(fh)
        if entry is None:
            return []
        names = [(".", entry), ("..", entry.parent or entry), *entry.readdir()]
        return [(name, {"st_mode": child.type, "st_ino": child.ino}, 0) for name, child in names]

    def releasedir(self, path: str | None, fh: int) -> int:
        """RELEASEDIR."""
        self.directories.pop(fh, None)
        return 0

    @guarded
    def mkdir(self, path: str, mode: int) -> int:
        """MKDIR."""
        parent, name = self.parent(path)
        parent.mkdir(name, mode, self.caller())
        self.pollers.check()
        return 0

    @guarded
    def rmdir(self, path: str) -> int:
        """RMDIR."""
        parent, name = self.parent(path)
        parent.rmdir(name, self.caller())
        self.pollers.check()
        return 0

    def parent(self, path: str) -> tuple[Entry, str]:
        """The directory that a path is in, and its last name."""
        head, _, name = path.rpartition("/")
        return self.vfs.walk(head or "/"), name

    # ------------------------------------------------------------------------------------------------- refusals

    @guarded
    def create(self, path: str, mode: int, fi: Any = None) -> int:
        """No file can be made: what Linux answers in this directory."""
        return fail(self.parent(path)[0].rules.create)

    @guarded
    def mknod(self, path: str, mode: int, dev: int) -> int:
        """As create()."""
        return fail(self.parent(path)[0].rules.create)

    def _refuse(self, *arguments: Any) -> int:
        return fail(errno.EPERM)

    unlink = rename = link = symlink = chmod = chown = _refuse

    def truncate(self, path: str | None, length: int, fh: int | None = None) -> int:
        """O_TRUNC and truncate(2) succeed and do nothing."""
        return 0

    def utimens(self, path: str | None, times: Any = None) -> int:
        """Times are the machine's own; touch(1) is content."""
        return 0

    # ------------------------------------------------------------------------------------------------- files

    @guarded
    def open(self, path: str, flags: int) -> int:
        """OPEN: the mode has been looked at by the kernel (default_permissions), the file's own rules have not."""
        entry = self.vfs.walk(path)
        file = entry.open(flags, self.caller(), check=False)
        fh = self.next_handle
        self.next_handle = fh + 1
        handle = self.handles[fh] = Handle(file, path)
        if flags & os.O_ACCMODE != os.O_WRONLY:
            self.enlarge(handle, entry)
        return fh

    def enlarge(self, handle: Handle, entry: Entry) -> None:
        """Let sendfile(2) read the file although it says to have no size; see mmfs.mount.libfuse."""
        nodeid = self.session.nodeid()
        size = entry.size
        if not size:
            size = BINARY_SIZE if type(entry.node) is Binary else TEXT_SIZE
            opened = self.opened.get(handle.path)
            self.opened[handle.path] = [nodeid, 1 if opened is None else opened[1] + 1, size]
        self.session.store_size(nodeid, size)

    @guarded
    def read(self, path: str | None, size: int, offset: int, fh: int) -> bytes:
        """READ."""
        data = self.handles[fh].file.read(size, offset)
        if type(data) is not bytes or len(data) > size:
            raise TypeError(f"read of {self.handles[fh].path} gave {type(data).__name__}, not up to {size} bytes")
        return data

    @guarded
    def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:
        """WRITE: one write(2) is one call of the store."""
        taken = self.handles[fh].file.write(data, offset)
        self.pollers.check()
        return taken

    @guarded
    def release(self, path: str | None, fh: int) -> int:
        """The last close(2)."""
        handle = self.handles.pop(fh)
        opened = self.opened.get(handle.path)
        if opened is not None and handle.file.flags & os.O_ACCMODE != os.O_WRONLY:
            opened[1] -= 1
            if not opened[1]:
                del self.opened[handle.path]
        self.pollers.forget(handle)
        handle.file.release()
        return 0

    @guarded
    def poll(self, path: str | None, fh: int, poll_handle: int | None, events: Any) -> int:
        """POLL: the mask that is true now; a handle is kept for the change that may come."""
        handle = self.handles[fh]
        events[0] = handle.file.poll() | handle.mask
        handle.mask = 0
        if poll_handle:
            self.pollers.add(handle, poll_handle)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        """A file system without blocks, as procfs."""
        return {"f_bsize": 4096, "f_frsize": 4096, "f_namemax": 255}

    # ------------------------------------------------------------------------------------------------- xattr

    def _xattr(self, path: str) -> tuple[Any, Any]:
        entry = self.vfs.walk(path)
        if entry.directory is None or entry.directory.xattr is None:
            fail(errno.EOPNOTSUPP)
        return entry.directory.xattr, entry.obj

    @guarded
    def _getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        xattr, obj = self._xattr(path)
        value: bytes = xattr.get(obj, name)
        return value

    @guarded
    def _listxattr(self, path: str) -> list[str]:
        xattr, obj = self._xattr(path)
        return list(xattr.list(obj))

    @guarded
    def _setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> int:
        xattr, obj = self._xattr(path)
        (xattr.set or fail(errno.EPERM))(obj, name, value, options)
        return 0

    @guarded
    def _removexattr(self, path: str, name: str) -> int:
        xattr, obj = self._xattr(path)
        (xattr.remove or fail(errno.EPERM))(obj, name)
        return 0

    getxattr: Any = _getxattr
    listxattr: Any = _listxattr
    setxattr: Any = _setxattr
    removexattr: Any = _removexattr


class FusepyOperations(Operations):
    """The same for fusepy, which calls operations by name."""

    def __call__(self, operation: str, *arguments: Any) -> Any:
        return getattr(self, operation)(*arguments)


def serve(
    machine: Kernel | Vfs,
    mountpoint: str,
    lock: threading.Lock | threading.RLock,
    options: dict[str, str | bool],
    *,
    on_ready: Callable[[], None] | None = None,
    host_proc: HostProc | None = None,
    binding: str | None = None,
) -> None:
    """Mount and answer until unmounted or a signal comes.

    `options` go to libfuse (-o); entry_timeout and attr_timeout among them are upper bounds. Every request is answered
    with `lock` held; `on_ready()` is called once the mount works. RuntimeError with libfuse's number if it cannot be
    mounted.
    """
    vfs = machine if isinstance(machine, Vfs) else machine.vfs
    module = load_binding(binding)
    session = Session(module)
    given: dict[str, Any] = dict(options)
    timeouts = {name: float(given.pop(name, FOREVER)) for name in ("entry_timeout", "attr_timeout")}
    given |= {"foreground": True, "nothreads": True, "direct_io": True}
    if not session.can_loop:
        given |= {"use_ino": True}
        operations: Operations = FusepyOperations(vfs, lock, session, on_ready, host_proc)
        module.FUSE(
            operations, mountpoint, entry_timeout=0, attr_timeout=timeouts["attr_timeout"] and VOLATILE, **given
        )
        return
    operations = Operations(vfs, lock, session, on_ready, host_proc, **timeouts)
    original = module.fuse_main_real
    module.fuse_main_real = session.main
    try:
        module.FUSE(operations, mountpoint, **given)
    finally:
        module.fuse_main_real = original
