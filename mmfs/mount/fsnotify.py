"""IN_MODIFY on files of the mount that tell something new: memory.events, cgroup.events.

FUSE has no notice that raises inotify events. The kernel raises IN_MODIFY when the time of modification is set, so
a helper process sets it, of files that were looked up and have an event since: setting it changes nothing, and only
goes through the mount. The helper is a process of its own because it waits for the daemon; it begins with the first
event of such a file and ends with the daemon's pipe.

Simplified: a file that was given to another user (chown(1)) raises none on a mount of an unprivileged user, who may not
set its times.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mmfs.kernfs import Entry

MAX_WATCHED: Final = 256
"""Files that are looked at; who looks up more has the oldest forgotten."""
NAMES: Final = (".events", ".events.local", ".partition")

HELPER: Final = """
import ctypes, sys
libc = ctypes.CDLL(None)
OMIT, NOW = (1 << 30) - 2, (1 << 30) - 1
times = (ctypes.c_long * 4)(0, OMIT, 0, NOW)
for line in sys.stdin.buffer:
    libc.utimensat(-100, line[:-1], times, 0x100)
"""


class FsNotify:
    """The files whose events are watched for, and the helper. Linux: fs/notify/fsnotify.c, fsnotify()."""

    def __init__(self, mountpoint: str) -> None:
        self.mountpoint = mountpoint
        self.watched: dict[str, tuple[Entry, int]] = {}
        """By path: the entry, and how many events it had had."""
        self._helper: subprocess.Popen[bytes] | None = None

    def looked_up(self, path: str, entry: Entry) -> None:
        """Somebody asks for a file, perhaps to watch it."""
        events = getattr(entry.node, "events", None)
        if events is None or not path.endswith(NAMES) or path in self.watched:
            return
        if len(self.watched) >= MAX_WATCHED:
            del self.watched[next(iter(self.watched))]
        self.watched[path] = entry, events(entry.obj)

    def check(self) -> None:
        """Tell of those with events since the last time; with the lock held."""
        for path, (entry, seen) in list(self.watched.items()):
            count = entry.node.events(entry.obj)
            if count < 0:
                del self.watched[path]
            elif count != seen:
                self.watched[path] = entry, count
                self._modified(path)

    def _modified(self, path: str) -> None:
        if self._helper is None:
            self._helper = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", HELPER], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
            )  # fmt: skip
            assert self._helper.stdin is not None
            os.set_blocking(self._helper.stdin.fileno(), False)
        assert self._helper.stdin is not None
        name = (self.mountpoint + path).encode("utf-8", "surrogateescape")
        with contextlib.suppress(OSError):  # full: it will be told of the next one
            os.write(self._helper.stdin.fileno(), name + b"\n")

    def stop(self) -> None:
        """The mount is gone."""
        if self._helper is not None and self._helper.stdin is not None:
            self._helper.stdin.close()
