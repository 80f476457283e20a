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
EVENTS: Final = select.POLLPRI | select.POLLERR | select.POLLHUP
"""What wakes; a virtual file can always be read and written."""


class Inode:
    """What we know of an inode in the kernel that has been opened."""

    __slots__ = ("large", "nodeid", "opens", "path", "size", "touched")

    def __init__(self, nodeid: int, path: str, size: int) -> None:
        self.nodeid = nodeid
        self.path = path
        self.size = size
        """What the kernel is to believe while it is open."""
        self.opens = 0
        self.large = False
        """The kernel believes a size that is no less than the file's."""
        self.touched = True
        """sendfile(2) has read pages of it, and so told the kernel its true size."""


class Handle:
    """An open file and what FUSE adds to it."""

    __slots__ = ("file", "inode", "mask", "path", "poll_handle", "short")

    def __init__(self, file: OpenFile, path: str, inode: Inode | None) -> None:
        self.file = file
        self.path = path
        self.inode = inode
        """Where sendfile(2) may read it."""
        self.short = False
        """Opened without libfuse, and so to be closed without it."""
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
