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
import logging
import os
import threading
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

from mmfs.kernfs import ROOT, Caller, Entry, Stat, Vfs, fail
from mmfs.kernfs import inode as kernfs_inode
from mmfs.kernfs.node import Binary, templates
from mmfs.kernfs.rules import Page
from mmfs.mount.fsnotify import FsNotify
from mmfs.mount.handles import SEND_SECONDS, Handle, Held, Inode, Pollers, checked
from mmfs.mount.libfuse import CAP_SPLICE_READ, MAX_WRITE, Session, bridge, load_binding
from mmfs.mount.shortcut import Shortcut

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

log = logging.getLogger("mmfs")

FOREVER: Final = 1.0
"""Seconds for which the kernel may believe names and attributes at fixed places."""
VOLATILE: Final = 0.1
"""... attributes of what comes and goes, which are asked for anew on every walk."""
HELD: Final = 10.0
"""... names and attributes of which it is told when they change, `Entry.held`."""
TEXT_SIZE: Final = (1 << 30) + 1
"""More than any text file has; what the kernel believes while one without a size is open."""
NOBODY: Final = (1 << 32) - 1
"""Instead of a uid or gid that stays as it is."""
BINARY_SIZE: Final = (1 << 50) + 1


class HostProc(Protocol):
    """The caller's own entries in the real procfs (`mmfs.mount.namespace`)."""

    def readlink(self, path: str, pid: int) -> str | None:
        """Where a link that is not the machine's leads; None if there is no such link."""

    def mode(self, path: str, pid: int) -> int | None:
        """Type and permissions of a path that is not the machine's; None if there is no such thing."""


def believed_size(entry: Entry) -> int:
    """A size that no file exceeds, if the file itself tells none."""
    return entry.size or (BINARY_SIZE if type(entry.node) is Binary else TEXT_SIZE)


class Operations:
    """What libfuse calls; methods that are absent here are absent there, and the kernel stops asking."""

    use_ns = True

    def __init__(
        self,
        vfs: Vfs,
        lock: threading.Lock | threading.RLock,
        session: Session,
        on_ready: Callable[[Operations], None] | None = None,
        host_proc: HostProc | None = None,
        entry_timeout: float = inf,
        attr_timeout: float = inf,
        mountpoint: str = "",
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
        self.inodes: dict[str, Inode] = {}
        self.by_nodeid: dict[int, Inode] = {}
        self.sending: set[Inode] = set()
        self.config: Any = None
        self.pollers = Pollers(self)
        self.held = Held(self)
        self.fsnotify = FsNotify(mountpoint)
        self.euid, self.egid = os.geteuid(), os.getegid()
        self._last_caller: tuple[tuple[int, int, int], Caller] = ((-1, -1, -1), ROOT)
        session.root, session.time_ns = (self.euid, self.egid), vfs.time_ns()
        if not any(directory.iattrs for directory in templates(vfs.root.directory or fail(errno.EINVAL)).values()):
            self.getxattr = self.listxattr = self.setxattr = self.removexattr = None

    # ------------------------------------------------------------------------------------------------- life

    def init_with_config(self, connection: Any, config: Any) -> None:
        """libfuse 3 has mounted; its configuration stays ours to change, as `getattr()` does."""
        self.config = config
        if connection is not None:
            connection.want &= ~CAP_SPLICE_READ
            connection.max_write = min(connection.max_write, MAX_WRITE)
        if config is not None:
            config.use_ino = 1
            config.nullpath_ok = 1
        self.init("/")

    def init(self, path: str) -> None:
        """The mount works from now on."""
        if self.on_ready is not None:
            self.on_ready(self)

    def destroy(self, path: str) -> None:
        """The mount is gone."""
        self.pollers.stop()
        self.fsnotify.stop()

    # ------------------------------------------------------------------------------------------------- who

    def caller(self) -> Caller:
        """Who makes the request; the user who has mounted is root of the machine."""
        credentials = self.session.caller()
        if credentials != self._last_caller[0]:
            uid, gid, pid = credentials
            caller = Caller(pid, 0 if uid == self.euid else uid, 0 if gid == self.egid else gid)
            self._last_caller = credentials, caller
        return self._last_caller[1]

    def host_mode(self, path: str) -> int:
        """Mode of what is not the machine's; ENOENT."""
        mode = None
        if self.host_proc is not None and path.startswith("/proc/"):
            mode = self.host_proc.mode(path, self.session.caller()[2])
        return fail(errno.ENOENT) if mode is None else mode

    # ------------------------------------------------------------------------------------------------- names

    def getattr(self, path: str | None, fh: int | None = None) -> bytes:
        """LOOKUP and GETATTR: a struct stat; also says how long the answer may be believed."""
        if path is None or fh is not None:
            handle = self.handles[fh or 0]
            if handle.inode is not None:  # lseek(2) to the end: the kernel takes the size over
                handle.inode.size = handle.file.entry.size
            return self.session.pack_stat(handle.file.entry.stat())
        status, entry_timeout, attr_timeout = self.status(path, self.session.learn_asked(path))
        self.believe(entry_timeout, attr_timeout)
        return self.session.pack_stat(status)

    def status(self, path: str, nodeid: int = 0) -> tuple[Stat, float, float]:
        """What stat(2) shows, and for how long the kernel may believe in the name and in the attributes.

        `nodeid` if it is known: what has none cannot be taken back.
        While a file of size 0 is open the kernel must go on to believe it large; see mmfs.mount.libfuse.
        """
        try:
            entry = self.vfs.walk(path)
        except FileNotFoundError:
            return Stat(self.host_mode(path), 1, 0, 0, 0, 0, 0), 0.0, 0.0
        status = entry.stat()
        if entry.iattrs is not None:
            self.fsnotify.looked_up(path, entry)
        inode = self.inodes.get(path)
        if inode is not None:
            self.tell_size(inode, status.size)
        name = 0.0 if entry.comes_and_goes else min(FOREVER, self.entry_timeout)
        if not entry.held:
            return status, name, min(FOREVER if entry.stable else VOLATILE, self.attr_timeout)
        if not nodeid:
            return status, name, 0.0
        self.held.add(path if entry.directory is not None else path.rpartition("/")[0], nodeid)
        return status, min(HELD, self.entry_timeout), min(HELD, self.attr_timeout)

    def never(self, path: str) -> bool:
        """Whether no file of this name can ever be in its directory, as long as that is held."""
        parent, name = self.parent(path)
        directory = parent.directory
        return parent.held and directory is not None and not directory.families and name not in directory.children

    def settle(self) -> None:
        """After anything has changed: tell those who wait for it, and the kernel; with the lock held."""
        self.pollers.check()
        self.fsnotify.check()
        self.held.flush()

    def believe(self, entry_timeout: float, attr_timeout: float) -> None:
        """How long the kernel may keep the name and the attributes that are about to be answered.

        libfuse reads its configuration anew for each answer, so this is per answer.
        """
        if self.config is not None:
            self.config.entry_timeout = entry_timeout
            self.config.attr_timeout = attr_timeout

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

    def mkdir(self, path: str, mode: int) -> int:
        """MKDIR."""
        parent, name = self.parent(path)
        parent.mkdir(name, mode, self.caller())
        self.settle()
        return 0

    def rmdir(self, path: str) -> int:
        """RMDIR."""
        parent, name = self.parent(path)
        parent.rmdir(name, self.caller())
        if self.session.shortcut is not None:
            self.session.shortcut.names.removed(path)
        self.settle()
        return 0

    def parent(self, path: str) -> tuple[Entry, str]:
        """The directory that a path is in, and its last name."""
        head, _, name = path.rpartition("/")
        return self.vfs.walk(head or "/"), name

    # ------------------------------------------------------------------------------------------------- refusals

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        """No file can be made: what Linux answers in this directory."""
        return fail(self.parent(path)[0].rules.create)

    def mknod(self, path: str, mode: int, dev: int) -> int:
        """As create()."""
        return fail(self.parent(path)[0].rules.create)

    def _refuse(self, *arguments: Any) -> int:
        return fail(errno.EPERM)

    unlink = rename = link = symlink = _refuse

    def chmod(self, path: str, mode: int, fh: int | None = None) -> int:
        """SETATTR of the mode."""
        kernfs_inode.chmod(self.vfs.walk(path), mode, self.caller())
        return 0

    def chown(self, path: str, uid: int, gid: int, fh: int | None = None) -> int:
        """SETATTR of the owner; who has mounted is root of the machine."""
        uid = {self.euid: 0, NOBODY: -1}.get(uid, uid)
        gid = {self.egid: 0, NOBODY: -1}.get(gid, gid)
        kernfs_inode.chown(self.vfs.walk(path), uid, gid, self.caller())
        return 0

    def truncate(self, path: str | None, length: int, fh: int | None = None) -> int:
        """O_TRUNC and truncate(2) succeed and do nothing."""
        return 0

    def utimens(self, path: str | None, times: Any = None) -> int:
        """Times are the machine's own; touch(1) is content."""
        return 0

    # ------------------------------------------------------------------------------------------------- files

    def open(self, path: str, flags: int, known: Inode | None = None) -> int:
        """OPEN: the mode has been looked at by the kernel (default_permissions), the file's own rules have not.

        `known` is the inode if the request has named it.
        """
        entry = self.vfs.walk(path)
        caller = self.caller()
        handle = Handle(entry.open(flags, caller, check=False), path)
        if flags & os.O_ACCMODE != os.O_WRONLY:
            inode = handle.inode = known or self.inode(path, entry)
            if inode.size < inode.limit:
                self.enlarge(inode)
            if not inode.senders:
                inode.touched = False
            inode.opens += 1
            inode.opener = caller.pid
        fh = self.next_handle
        self.next_handle = fh + 1
        self.handles[fh] = handle
        return fh

    def inode(self, path: str, entry: Entry) -> Inode:
        """The inode that is about to be opened."""
        nodeid = self.session.nodeid()
        inode = self.inodes.get(path)
        if inode is None or inode.nodeid != nodeid:
            inode = self.inodes[path] = Inode(nodeid, path, believed_size(entry))
            if nodeid:
                self.by_nodeid[nodeid] = inode
                self.session.learn(path, nodeid)
        return inode

    def enlarge(self, inode: Inode) -> None:
        """Before an open(2): the kernel is to believe the inode large; see Inode."""
        inode.size = inode.limit
        self.session.store_size(inode.nodeid, inode.size)
        self.doubt(inode)

    def tell_size(self, inode: Inode, size: int) -> None:
        """Before an answer to stat(2), whose size the kernel would take for the inode's; not 0 while it is open."""
        if size or not inode.opens:
            inode.size = size
            return
        if inode.touched:
            self.session.forget_attributes(inode.nodeid)
        else:
            inode.size = max(inode.size, inode.limit) + 1  # what is no larger than before would not count
            self.session.store_size(inode.nodeid, inode.size)
        if inode.opens > 1 or inode.opener != self.session.caller()[2]:
            self.doubt(inode)

    def doubt(self, inode: Inode) -> None:
        """A READ of pages that has been asked before now will not tell the kernel the size."""
        if inode.opens and self.session.shortcut is not None:
            inode.doubted = True
            self.session.shortcut.doubted.append(inode)

    def forget(self, nodeid: int) -> None:
        """The kernel has dropped an inode."""
        inode = self.by_nodeid.get(nodeid)
        if inode is not None and not inode.opens:
            del self.by_nodeid[nodeid]
            if self.inodes.get(inode.path) is inode:
                del self.inodes[inode.path]

    def read(self, path: str | None, size: int, offset: int, fh: int) -> bytes:
        """READ."""
        handle = self.handles[fh]
        inode = handle.inode if self.session.reads_pages() else None
        if inode is not None:
            self.send(inode, handle, size)
        data = checked(handle.file.read(size, offset), size)
        if inode is not None:
            inode.sent(offset, size, len(data))
        return data

    def send(self, inode: Inode, handle: Handle, size: int) -> None:
        """A READ of pages, as of sendfile(2)."""
        if not handle.sends:
            handle.sends = True
            inode.senders += 1
            self.sending.add(inode)
        inode.busy_until = time.monotonic() + SEND_SECONDS
        if inode.doubted and size > Page.size:
            fail(errno.EAGAIN)  # readahead; the kernel asks again for the page that it needs

    def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:
        """WRITE: one write(2) is one call of the store."""
        taken = self.handles[fh].file.write(data, offset)
        self.settle()
        return taken

    def release(self, path: str | None, fh: int) -> int:
        """The last close(2)."""
        handle = self.handles.pop(fh)
        inode = handle.inode
        if inode is not None:
            inode.opens -= 1
            if handle.sends:
                inode.senders -= 1
                if not inode.senders:
                    self.sending.discard(inode)
        if handle.poll_handle:
            self.pollers.forget(handle)
        handle.file.release()
        return 0

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

    def _getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        return kernfs_inode.getxattr(self.vfs.walk(path), name, self.caller())

    def _listxattr(self, path: str) -> list[str]:
        return kernfs_inode.listxattr(self.vfs.walk(path), self.caller())

    def _setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> int:
        kernfs_inode.setxattr(self.vfs.walk(path), name, value, options, self.caller())
        return 0

    def _removexattr(self, path: str, name: str) -> int:
        kernfs_inode.removexattr(self.vfs.walk(path), name, self.caller())
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
    on_ready: Callable[[Operations], None] | None = None,
    host_proc: HostProc | None = None,
    binding: str | None = None,
) -> None:
    """Mount and answer until unmounted or a signal comes.

    `options` go to libfuse (-o); entry_timeout and attr_timeout among them are upper bounds. Every request is answered
    with `lock` held; `on_ready(operations)` is called once the mount works. RuntimeError with libfuse's number if it
    cannot be mounted.
    """
    vfs = machine if isinstance(machine, Vfs) else machine.vfs
    module = load_binding(binding)
    session = Session(module)
    given: dict[str, Any] = dict(options)
    timeouts = {name: float(given.pop(name, inf)) for name in ("entry_timeout", "attr_timeout")}
    given |= {"foreground": True, "nothreads": True, "direct_io": True}
    if not session.can_loop:
        given |= {"use_ino": True}
        kind = Operations if hasattr(module, "fuse_version_major") else FusepyOperations
        operations = kind(vfs, lock, session, on_ready, host_proc)
        bridge(session)(
            operations, mountpoint, entry_timeout=0, attr_timeout=timeouts["attr_timeout"] and VOLATILE, **given
        )
        return
    operations = Operations(vfs, lock, session, on_ready, host_proc, mountpoint=mountpoint, **timeouts)
    if "allow_root" not in given:  # libfuse then turns other users away itself
        session.shortcut = Shortcut(session, operations)
    original = module.fuse_main_real
    module.fuse_main_real = session.main
    try:
        bridge(session)(operations, mountpoint, **given)
    finally:
        module.fuse_main_real = original
