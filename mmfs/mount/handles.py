"""Open files as FUSE sees them: their inodes in the kernel, and who polls them."""

from __future__ import annotations

import logging
import select
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mmfs.kernfs import OpenFile
    from mmfs.mount.fuse import Operations

log = logging.getLogger("mmfs")

POLL_SECONDS: Final = 0.01
SEND_SECONDS: Final = 0.1
EVENTS: Final = select.POLLPRI | select.POLLERR | select.POLLHUP
"""What wakes; a virtual file can always be read and written."""


def checked(data: bytes, size: int) -> bytes:
    """What a file has answered to a READ, if it is what libfuse and the kernel can take."""
    if type(data) is not bytes or len(data) > size:
        raise TypeError(f"a read gave {type(data).__name__}, not up to {size} bytes")
    return data


class Inode:
    """What the kernel believes of an inode that has been opened, so that sendfile(2) reads what has no size.

    `size` is the kernel's i_size: `limit` or more while the file is open, less once a short page has told it better.
    `touched`: pages of it may be cached, with zeros behind the end; it must not be enlarged then, for whoever has it
    open would find these. The next open(2) drops all pages. `senders` have read pages and not yet closed. While they
    are at it others wait, a tenth of a second at the most, because a change of size would keep the kernel from taking
    it from the short page; a READ that had been asked before a change is sent back (`doubted`).
    """

    __slots__ = (
        "attributes",
        "busy_until",
        "doubted",
        "limit",
        "nodeid",
        "opener",
        "opens",
        "path",
        "senders",
        "size",
        "touched",
    )

    def __init__(self, nodeid: int, path: str, limit: int) -> None:
        self.nodeid = nodeid
        self.path = path
        self.limit = limit
        self.size = 0
        self.touched = True
        self.opens = 0
        self.senders = 0
        self.busy_until = 0.0
        self.doubted = False
        self.opener = 0
        self.attributes: tuple[tuple[int, int, int], bytes, int] | None = None
        """The answer to GETATTR (how long it holds, inode number; the rest) and the size in it, if it never changes."""

    @property
    def busy(self) -> bool:
        """Whether somebody is reading pages just now."""
        return self.senders > 0 and time.monotonic() < self.busy_until

    def sent(self, offset: int, wanted: int, given: int) -> None:
        """Pages have been read; a short read tells the kernel the size."""
        self.touched = True
        if given < wanted:
            self.size = offset + given


class Handle:
    """An open file and what FUSE adds to it."""

    __slots__ = ("file", "inode", "mask", "path", "poll_handle", "sends", "short")

    def __init__(self, file: OpenFile, path: str) -> None:
        self.file = file
        self.path = path
        self.inode: Inode | None = None
        """Where sendfile(2) may read it."""
        self.sends = False
        """One of the inode's senders."""
        self.short = False
        """Opened without libfuse, and so to be closed without it."""
        self.poll_handle = 0
        self.mask = 0
        """Events that poll(2) has not been told of yet."""


class Held:
    """Directories that come and go, and their files, of which the kernel has been told what they are.

    It believes that for a while, so it must hear when they change. Names it may keep: who asks for what is gone is
    answered ENOENT for its attributes, which every walk through a directory needs.
    """

    def __init__(self, operations: Operations) -> None:
        self.operations = operations
        self._nodeids: dict[str, set[int]] = {}
        """By path of the directory."""
        self._count = operations.vfs.flushed(0)[0]

    def add(self, path: str, nodeid: int) -> None:
        """The kernel is about to be told of an inode in this directory, or of the directory."""
        self._nodeids.setdefault(path, set()).add(nodeid)

    def flush(self) -> None:
        """Have the kernel ask again about what has changed; with the lock held."""
        self._count, paths = self.operations.vfs.flushed(self._count)
        for path in list(self._nodeids) if paths is None else paths:
            for nodeid in self._nodeids.pop(path, ()):
                self.operations.session.forget_attributes(nodeid)


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
