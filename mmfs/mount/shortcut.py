"""The requests that a cat consists of, answered in the loop that received them.

OPEN, GETATTR, READ and RELEASE of a file that has been opened before name an inode and a handle, no path, and need
nothing that libfuse knows. They call the same `Operations` as all others; what is left out is the way through libfuse
and ctypes and back. The rest of the protocol, all names among it, is libfuse's.

The structures are those of include/uapi/linux/fuse.h, which the kernel keeps compatible.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mmfs.kernfs.rules import PAGE_SIZE
from mmfs.mount.libfuse import MAX_STATS, Session, errno_of

if TYPE_CHECKING:
    from mmfs.kernfs import Stat
    from mmfs.mount.fuse import Operations
    from mmfs.mount.handles import Inode

LOOKUP: Final = 1
FORGET: Final = 2
GETATTR: Final = 3
OPEN: Final = 14
READ: Final = 15
RELEASE: Final = 18
BATCH_FORGET: Final = 42

LENGTH: Final = struct.Struct("=I")
NAME: Final = 40
IN: Final = struct.Struct("=4xIQQ")
OPEN_IN: Final = struct.Struct("=40xI")
GETATTR_IN: Final = struct.Struct("=40xI")
GETATTR_FH: Final = 1
READ_IN: Final = struct.Struct("=40xQQI")
RELEASE_IN: Final = struct.Struct("=40xQ")
BATCH_IN: Final = struct.Struct("=40xI")
BATCH_ONE: Final = struct.Struct("=QQ")
BATCH_FIRST: Final = 48

OUT: Final = struct.Struct("=IiQ")
OPEN_OUT: Final = struct.Struct("=IiQQII")
FOPEN_DIRECT_IO: Final = 1
FOPEN_KEEP_CACHE: Final = 2
ATTR_OUT: Final = struct.Struct("=IiQ QI4x QQQQQQ IIIIIIIIII")
ATTR_UNIQUE: Final = 8
ATTR_VALID: Final = 16
ATTR_INO: Final = 32
ATTR_NEXT: Final = 40
QUAD: Final = struct.Struct("=Q")
VALID: Final = struct.Struct("=QI")


class Shortcut:
    """Answers what it can; called with the memory of a request, it returns whether it has answered."""

    def __init__(self, session: Session, operations: Operations) -> None:
        self.session = session
        self.operations = operations
        self.answers = {
            OPEN: self.open,
            READ: self.read,
            GETATTR: self.getattr,
            RELEASE: self.release,
            FORGET: self.forget,
            BATCH_FORGET: self.batch_forget,
        }
        self._attributes: dict[tuple[int, ...], bytes] = {}

        self.doubted: list[Inode] = []
        """Inodes whose size has changed since the queue of requests was last seen empty."""
        self.postponed: list[tuple[Inode, bytes]] = []

    def __call__(self, memory: Any) -> bool:
        if self.operations.sending:
            inode = self.in_the_way(memory)
            if inode is not None:
                self.postponed.append((inode, memory[: LENGTH.unpack_from(memory)[0]]))
                return True
        return self.answer(memory)

    def in_the_way(self, memory: Any) -> Inode | None:
        """The inode whose pages are being read while this request would have its size changed."""
        opcode, _, nodeid = IN.unpack_from(memory)
        if opcode in (OPEN, GETATTR):
            inode = self.operations.by_nodeid.get(nodeid)
            return inode if inode is not None and inode.busy else None
        if opcode == LOOKUP:
            name = memory[NAME : LENGTH.unpack_from(memory)[0]].partition(b"\0")[0]
            for inode in self.operations.sending:
                if inode.busy and inode.path.rpartition("/")[2].encode("utf-8", "surrogateescape") == name:
                    return inode
        return None

    def settle(self, wait: Callable[[int], list[tuple[int, int]]]) -> bool:
        """Before the next request: take up what was put aside; whether there is one, or nothing to be done but wait."""
        for inode, request in list(self.postponed):
            if not inode.busy:
                self.postponed.remove((inode, request))
                self.session.replay(request)
        if wait(1 if self.postponed and not self.doubted else 0):
            return True
        for inode in self.doubted:
            inode.doubted = False
        self.doubted.clear()
        return not self.postponed

    def answer(self, memory: Any) -> bool:
        """Answer a request; False if libfuse has to."""
        opcode, unique, nodeid = IN.unpack_from(memory)
        answer = self.answers.get(opcode)
        if answer is None:
            return False
        try:
            with self.operations.big_lock:
                message = answer(memory, unique, nodeid)
        except Exception as error:
            message = OUT.pack(OUT.size, -errno_of(error, answer.__name__, nodeid), unique)
        if message is None:
            return False
        self.session.send(message)
        return True

    def open(self, memory: Any, unique: int, nodeid: int) -> bytes | None:
        """OPEN of an inode that libfuse has named once."""
        inode = self.operations.by_nodeid.get(nodeid)
        if inode is None:
            return None
        kept = 0 if inode.touched else FOPEN_KEEP_CACHE
        fh = self.operations.open(inode.path, OPEN_IN.unpack_from(memory)[0])
        self.operations.handles[fh].short = True
        return OPEN_OUT.pack(OPEN_OUT.size, 0, unique, fh, FOPEN_DIRECT_IO | kept, 0)

    def read(self, memory: Any, unique: int, nodeid: int) -> bytes:
        """READ."""
        fh, offset, size = READ_IN.unpack_from(memory)
        data = self.operations.read(None, size, offset, fh)
        return OUT.pack(OUT.size + len(data), 0, unique) + data

    def getattr(self, memory: Any, unique: int, nodeid: int) -> bytes | None:
        """GETATTR of stat(2) and fstat(2); with a handle, as lseek(2) to the end asks, it is libfuse's."""
        inode = self.operations.by_nodeid.get(nodeid)
        if inode is None or GETATTR_IN.unpack_from(memory)[0] & GETATTR_FH:
            return None
        if inode.attributes is None:
            status, _, valid = self.operations.status(inode.path)
            data = self.pack(status, valid)
            if self.operations.vfs.walk(inode.path).constant:
                inode.attributes = data, status.size
        else:
            data, size = inode.attributes
            self.operations.tell_size(inode, size)
        return data[:ATTR_UNIQUE] + QUAD.pack(unique) + data[ATTR_VALID:]

    def pack(self, status: Stat, valid: float) -> bytes:
        """struct fuse_attr_out; all but inode number and validity is kept for the next that is alike."""
        mode, nlink, uid, gid, size, ino, rdev = status
        key = (mode, nlink, uid, gid, size, rdev)
        data = self._attributes.get(key)
        if data is None:
            session = self.session
            seconds, rest = divmod(session.time_ns, 10**9)
            blksize = PAGE_SIZE if size else 1024
            times = (seconds, seconds, seconds, rest, rest, rest)
            owner = (uid or session.root[0], gid or session.root[1])
            data = ATTR_OUT.pack(ATTR_OUT.size, 0, 0, 0, 0, 0, size, 0, *times, mode, nlink, *owner, rdev, blksize, 0)
            if len(self._attributes) < MAX_STATS:
                self._attributes[key] = data
        whole = int(valid)
        moment = VALID.pack(whole, int((valid - whole) * 1e9))
        return data[:ATTR_VALID] + moment + data[ATTR_VALID + VALID.size : ATTR_INO] + QUAD.pack(ino) + data[ATTR_NEXT:]

    def release(self, memory: Any, unique: int, nodeid: int) -> bytes | None:
        """RELEASE of what was opened here."""
        fh = RELEASE_IN.unpack_from(memory)[0]
        handle = self.operations.handles.get(fh)
        if handle is None or not handle.short:
            return None
        self.operations.release(None, fh)
        return OUT.pack(OUT.size, 0, unique)

    def forget(self, memory: Any, unique: int, nodeid: int) -> None:
        """FORGET: the kernel has no such inode any more; libfuse is told too."""
        self.operations.forget(nodeid)

    def batch_forget(self, memory: Any, unique: int, nodeid: int) -> None:
        """Several FORGETs."""
        count = BATCH_IN.unpack_from(memory)[0]
        last = min(BATCH_FIRST + count * BATCH_ONE.size, len(memory) // BATCH_ONE.size * BATCH_ONE.size)
        for begin in range(BATCH_FIRST, last, BATCH_ONE.size):
            self.operations.forget(BATCH_ONE.unpack_from(memory, begin)[0])
