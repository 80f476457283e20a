"""The requests that a cat consists of, answered in the loop that received them.

OPEN, GETATTR, READ and RELEASE of a file that has been opened before name an inode and a handle, no path, and need
nothing that libfuse knows; LOOKUP of a name that it has given a number needs that number. They call the same
`Operations` as all others; what is left out is the way through libfuse and ctypes and back. The rest of the protocol,
all new names among it, is libfuse's.

The structures are those of include/uapi/linux/fuse.h, which the kernel keeps compatible.
"""

from __future__ import annotations

import errno
import struct
from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final

from mmfs.kernfs.rules import Page
from mmfs.mount.handles import checked
from mmfs.mount.libfuse import BODY, GETATTR, LOOKUP, MAX_STATS, READ_LOCKOWNER, Session, errno_of
from mmfs.mount.writes import LongWrites

if TYPE_CHECKING:
    from mmfs.kernfs import Stat
    from mmfs.mount.fuse import Operations
    from mmfs.mount.handles import Inode

FORGET: Final = 2
OPEN: Final = 14
READ: Final = 15
WRITE: Final = 16
RELEASE: Final = 18
INTERRUPT: Final = 36
BATCH_FORGET: Final = 42

REQUEST: Final = struct.Struct("=IIQQ8xI4xQQII")
"""struct fuse_in_header: length, opcode, unique, nodeid, pid; what may follow: handle or flags, offset, size, flags."""
GETATTR_FH: Final = 1
WRITE_DATA: Final = 80
FORGET_IN: Final = struct.Struct("=Q")
BATCH_IN: Final = struct.Struct("=40xI")
BATCH_ONE: Final = struct.Struct("=QQ")
BATCH_FIRST: Final = 48
ROOT_ID: Final = 1

OUT: Final = struct.Struct("=IiQ")
OUT_SIZE: Final = OUT.size
WRITE_OUT: Final = struct.Struct("=IiQ I4x")
OPEN_OUT: Final = struct.Struct("=IiQQII")
FOPEN_DIRECT_IO: Final = 1
FOPEN_KEEP_CACHE: Final = 2
ATTR: Final = struct.Struct("=QQQQQ IIIIIIIIII")
"""struct fuse_attr without its inode number."""
ATTR_OUT: Final = struct.Struct("=IiQ QI4x Q")
"""struct fuse_out_header, struct fuse_attr_out up to the inode number."""
ENTRY_OUT: Final = struct.Struct("=IiQ QQQQII Q")
"""struct fuse_out_header, struct fuse_entry_out up to the inode number."""
NO_ENTRY: Final = struct.Struct("=IiQ QQQQ 96x")
"""The same of a name that is known not to exist: no inode, and for how many seconds that holds."""
NEVER_SECONDS: Final = 10

unpack_request, pack_out = REQUEST.unpack_from, OUT.pack


class Shortcut:
    """Answers what it can."""

    def __init__(self, session: Session, operations: Operations) -> None:
        self.session = session
        self.operations = operations
        self.answers: dict[int, Callable[..., bytes | None]] = {
            LOOKUP: self.lookup,
            OPEN: self.open,
            READ: self.read,
            GETATTR: self.getattr,
            WRITE: self.write,
            RELEASE: self.release,
            INTERRUPT: self.interrupt,
            FORGET: self.forget,
            BATCH_FORGET: self.batch_forget,
        }
        self.names = Names()
        self._attributes: dict[tuple[int, ...], bytes] = {}
        self._lock, self._handles = operations.big_lock, operations.handles
        self.doubted: list[Inode] = []
        """Inodes whose size has changed since the queue of requests was last seen empty."""
        self.postponed: list[tuple[Inode, bytes]] = []
        self.writes = LongWrites()
        self._asked: deque[int] = deque(maxlen=4)
        """Who has made the last requests."""

    @property
    def queues(self) -> tuple[Collection[Inode], Collection[Inode], Collection[tuple[Inode, bytes]], Collection[Any]]:
        """What makes a difference before a request: while all are empty, `answer()` is all there is to call."""
        return self.operations.sending, self.doubted, self.postponed, self.writes.waiting

    def postpone(self, memory: Any) -> bool:
        """While pages are being read: put aside a request that would disturb it; whether it is put aside."""
        inode = self.in_the_way(memory)
        if inode is not None:
            self.postponed.append((inode, bytes(memory[: REQUEST.unpack_from(memory)[0]])))
        return inode is not None

    def in_the_way(self, memory: Any) -> Inode | None:
        """The inode whose pages are being read while this request would have its size changed."""
        length, opcode, _, nodeid, *_ = REQUEST.unpack_from(memory)
        if opcode in (OPEN, GETATTR):
            inode = self.operations.by_nodeid.get(nodeid)
            return inode if inode is not None and inode.busy else None
        if opcode == LOOKUP:
            name = memory[BODY:length].partition(b"\0")[0]
            for inode in self.operations.sending:
                if inode.busy and inode.path.rpartition("/")[2].encode("utf-8", "surrogateescape") == name:
                    return inode
        return None

    def settle(self, wait: Callable[[int], list[tuple[int, int]]], spinning: bool) -> bool:
        """Before the next request: take up what was put aside; whether there is one, or nothing to be done but wait.

        `spinning`: the loop still looks out for a request without sleeping.
        """
        for inode, request in list(self.postponed):
            if not inode.busy:
                self.postponed.remove((inode, request))
                self.session.replay(request)
        if wait(1 if self.postponed and not self.doubted and not self.writes else 0):
            if self.writes and self.writes.due:
                self.writes.work(self._work)
            return True
        for inode in self.doubted:
            inode.doubted = False
        self.doubted.clear()
        if self.writes:
            if spinning and not self.writes.due:
                return True
            self.writes.work(self._work)
            return False
        return not self.postponed

    def _work(self, unique: int, work: Callable[[], int | None]) -> bool:
        """A slice of a long write, and the answer to it if it is done."""
        try:
            with self._lock:
                taken = work()
                if taken is None:
                    return False
                self.operations.settle()
            message = WRITE_OUT.pack(WRITE_OUT.size, 0, unique, taken)
        except Exception as error:
            message = pack_out(OUT_SIZE, -errno_of(error, "write", unique), unique)
        self.session.send(message)
        return True

    def answer(self, memory: Any) -> bool:
        """Answer a request; False if libfuse has to."""
        _, opcode, unique, nodeid, pid, first, second, third, fourth = unpack_request(memory)
        self._asked.append(pid)
        answer = self.answers.get(opcode)
        if answer is None:
            return False
        try:
            with self._lock:
                message = answer(unique, nodeid, first, second, third, fourth)
        except Exception as error:
            message = pack_out(OUT_SIZE, -errno_of(error, answer.__name__, nodeid), unique)
        if message:
            self.session.send(message)
        return message is not None

    def lookup(self, unique: int, parent: int, *_: int) -> bytes | None:
        """LOOKUP of a name whose inode libfuse has told the kernel, and of one that does not exist."""
        directory = self.names.paths.get(parent)
        if directory is None:
            return None
        path = f"{directory}/{self.session.name()}"
        nodeid = self.names.nodeids.get(path)
        try:
            status, entry_valid, attr_valid = self.operations.status(path, nodeid or 0)
        except FileNotFoundError:
            if not self.operations.never(path):
                raise
            return NO_ENTRY.pack(NO_ENTRY.size, 0, unique, 0, 0, NEVER_SECONDS, 0)
        if nodeid is None:
            return None
        self.names.more(nodeid)
        data = self.pack(status)
        entry_s, attr_s = int(entry_valid), int(attr_valid)
        entry_ns, attr_ns = int((entry_valid - entry_s) * 1e9), int((attr_valid - attr_s) * 1e9)
        total = ENTRY_OUT.size + ATTR.size
        return ENTRY_OUT.pack(total, 0, unique, nodeid, 0, entry_s, attr_s, entry_ns, attr_ns, status.ino) + data

    def open(self, unique: int, nodeid: int, flags: int, *_: int) -> bytes | None:
        """OPEN of an inode that libfuse has named once."""
        inode = self.operations.by_nodeid.get(nodeid)
        if inode is None:
            return None
        kept = 0 if inode.touched else FOPEN_KEEP_CACHE
        fh = self.operations.open(inode.path, flags & 0xFFFFFFFF, inode)
        self._handles[fh].short = True
        return OPEN_OUT.pack(OPEN_OUT.size, 0, unique, fh, FOPEN_DIRECT_IO | kept, 0)

    def read(self, unique: int, nodeid: int, fh: int, offset: int, size: int, flags: int) -> bytes:
        """READ."""
        if flags & READ_LOCKOWNER:
            data = checked(self._handles[fh].file.read(size, offset), size)
        else:
            data = self.operations.read(None, size, offset, fh)
        return pack_out(OUT_SIZE + len(data), 0, unique) + data

    def write(self, unique: int, nodeid: int, fh: int, offset: int, size: int, *_: int) -> bytes:
        """WRITE: one write(2) is one call of the store; what is not done soon is answered when it is."""
        data = bytes(self.session.memory[WRITE_DATA : WRITE_DATA + size])
        taken = self._handles[fh].file.begin_write(data, offset)
        if not isinstance(taken, int):
            if self._asked.count(self._asked[-1]) < len(self._asked):
                self.writes.defer(unique, taken)
                return b""
            done = self.writes.begin(unique, taken)
            if done is None:
                return b""
            taken = done
        self.operations.settle()
        return WRITE_OUT.pack(WRITE_OUT.size, 0, unique, taken)

    def interrupt(self, unique: int, nodeid: int, wanted: int, *_: int) -> bytes | None:
        """INTERRUPT: a signal has come to who waits for a long write; all other requests are answered at once."""
        if not self.writes.interrupt(wanted):
            return None
        return pack_out(OUT_SIZE, -errno.EINTR, wanted)

    def getattr(self, unique: int, nodeid: int, flags: int, *_: int) -> bytes | None:
        """GETATTR of stat(2) and fstat(2); with a handle, as lseek(2) to the end asks, it is libfuse's."""
        inode = self.operations.by_nodeid.get(nodeid)
        if inode is None or flags & GETATTR_FH:
            return None
        if inode.attributes is None:
            status, _entry_valid, valid = self.operations.status(inode.path, nodeid)
            data, whole = self.pack(status), int(valid)
            fixed = whole, int((valid - whole) * 1e9), status.ino
            if self.operations.vfs.walk(inode.path).constant:
                inode.attributes = fixed, data, status.size
        else:
            fixed, data, size = inode.attributes
            self.operations.tell_size(inode, size)
        return ATTR_OUT.pack(ATTR_OUT.size + ATTR.size, 0, unique, *fixed) + data

    def pack(self, status: Stat) -> bytes:
        """All of struct fuse_attr but the inode number; kept for the next that is alike."""
        mode, nlink, uid, gid, size, _, rdev = status
        key = (mode, nlink, uid, gid, size, rdev)
        data = self._attributes.get(key)
        if data is None:
            session = self.session
            seconds, rest = divmod(session.time_ns, 10**9)
            blksize = Page.size if size else 1024
            times = (seconds, seconds, seconds, rest, rest, rest)
            owner = (uid or session.root[0], gid or session.root[1])
            data = ATTR.pack(size, 0, *times, mode, nlink, *owner, rdev, blksize, 0)
            if len(self._attributes) < MAX_STATS:
                self._attributes[key] = data
        return data

    def release(self, unique: int, nodeid: int, fh: int, *_: int) -> bytes | None:
        """RELEASE of what was opened here."""
        handle = self._handles.get(fh)
        if handle is None or not handle.short:
            return None
        self.operations.release(None, fh)
        return pack_out(OUT_SIZE, 0, unique)

    def forget(self, unique: int, nodeid: int, count: int, *_: int) -> bytes | None:
        """FORGET: the kernel has no such inode any more; libfuse is told too."""
        left = self.forgotten(nodeid, count)
        FORGET_IN.pack_into(self.session.memory, BODY, left)
        return None if left else b""

    def batch_forget(self, unique: int, nodeid: int, first: int, *_: int) -> None:
        """Several FORGETs."""
        memory = self.session.memory
        for begin in range(BATCH_FIRST, BATCH_FIRST + (first & 0xFFFFFFFF) * BATCH_ONE.size, BATCH_ONE.size):
            one, count = BATCH_ONE.unpack_from(memory, begin)
            BATCH_ONE.pack_into(memory, begin, one, self.forgotten(one, count))

    def forgotten(self, nodeid: int, count: int) -> int:
        """How many of the lookups that the kernel forgets were libfuse's."""
        left = self.names.fewer(nodeid, count)
        if left:
            self.operations.forget(nodeid)
        return left


class Names:
    """Which inode numbers libfuse has given to which paths, and how often that was repeated without it.

    A node of libfuse's lives, and keeps its number, until the kernel has forgotten it as often as it was looked up.
    What was looked up here libfuse has not counted, so of what is forgotten that much is kept from it; once it hears
    of the rest, the number is not ours to give any more.
    """

    def __init__(self) -> None:
        self.paths: dict[int, str] = {ROOT_ID: ""}
        self.nodeids: dict[str, int] = {}
        self._lookups: dict[int, int] = {}

    def learn(self, path: str, nodeid: int) -> None:
        """libfuse has a number for a path."""
        if nodeid != ROOT_ID:
            self.paths[nodeid] = path
            self.nodeids[path] = nodeid

    def more(self, nodeid: int) -> None:
        """A lookup has been answered here."""
        self._lookups[nodeid] = self._lookups.get(nodeid, 0) + 1

    def fewer(self, nodeid: int, count: int) -> int:
        """The kernel forgets lookups; the number of those that libfuse has answered."""
        ours = self._lookups.pop(nodeid, 0)
        if ours > count:
            self._lookups[nodeid] = ours - count
        if ours >= count:
            return 0
        self._unlearn(nodeid)
        return count - ours

    def removed(self, path: str) -> None:
        """A directory is gone: one of the same name will have another number."""
        below = path + "/"
        for nodeid, known in list(self.paths.items()):
            if known == path or known.startswith(below):
                self._unlearn(nodeid)

    def _unlearn(self, nodeid: int) -> None:
        path = self.paths.pop(nodeid, None)
        if path is not None and self.nodeids.get(path) == nodeid:
            del self.nodeids[path]
