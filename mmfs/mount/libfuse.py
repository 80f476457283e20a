"""libfuse below its Python binding: which binding there is, and the loop that takes requests from the kernel.

`mfusepy` calls fuse_main_real(), a loop in C that hides what we need: for which inode a request is, and who makes it.
So while a mount is set up, `Session.main()` stands in for fuse_main_real(): it makes the same public calls of libfuse 3
(fuse_new, fuse_mount, fuse_session_process_buf), reads requests itself and keeps the one that is being answered,
whose header names inode, uid, gid and pid. Requests that need no names are answered right there
(`mmfs.mount.shortcut`).

The size of a file. procfs says st_size 0 and sendfile(2) reads such files all the same; on FUSE sendfile goes through
the page cache, which believes the inode's size and reads nothing, and so do `busybox cat` and shutil.copyfile().
A NOTIFY_STORE of one byte far out makes the inode in the kernel large. What stat(2) shows comes from the answer to
GETATTR, and that answer leaves the inode alone if a store made it larger while the request was under way. sendfile then
asks for pages, gets a short one, and the kernel takes the size from that, again unless it was changed meanwhile.
`mmfs.mount.handles.Inode` keeps account of this. `store_size()` costs about 5 us, and a file that is read again and
again needs it once. read(2) never comes near any of this.

Simplified: where one program is in the middle of a sendfile of the very file that another opens or stats, the first
may in rare cases (one in thousands) find zeros after the end.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import logging
import os
import select
import signal
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mmfs.kernfs import Stat
from mmfs.kernfs.rules import Page

if TYPE_CHECKING:
    from mmfs.mount.shortcut import Shortcut

log = logging.getLogger("mmfs")

NOTIFY_INVAL_INODE: Final = 2
INVAL_INODE: Final = struct.Struct("=IiQQqq")
"""struct fuse_out_header, struct fuse_notify_inval_inode_out."""
NOTIFY_STORE: Final = 4
STORE: Final = struct.Struct("=IiQQQII1s")
"""struct fuse_out_header, struct fuse_notify_store_out, one byte."""
LENGTH: Final = struct.Struct("=I")
OPCODE: Final = struct.Struct("=4xI")
LOOKUP: Final = 1
GETATTR: Final = 3
BODY: Final = 40
"""Where what follows struct fuse_in_header begins."""
NODEID: Final = struct.Struct("=16xQ")
CALLER: Final = struct.Struct("=24xIII")
"""uid, gid and pid in struct fuse_in_header."""
READ_FLAGS: Final = struct.Struct("=60xI")
READ_LOCKOWNER: Final = 2
INO: Final = struct.Struct("=Q")
HEADER_ROOM: Final = 4096
MAX_STATS: Final = 4096
SMALLEST_BUFFER: Final = 8192
MAX_WRITE: Final = 1 << 20
BUFFER_SIZE: Final = MAX_WRITE + HEADER_ROOM
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
CAP_SPLICE_READ: Final = 1 << 9
SPINS: Final = 20
"""How often to look for the next request before sleeping, some 30 us: it follows soon, and to be woken takes long."""
OPTION_FLAGS: Final = (b"-f", b"-s")


class FuseArgs(ctypes.Structure):
    """struct fuse_args."""

    _fields_ = (("argc", ctypes.c_int), ("argv", ctypes.c_void_p), ("allocated", ctypes.c_int))


class FuseBuf(ctypes.Structure):
    """struct fuse_buf, with room for what later versions have added."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("mem", ctypes.c_void_p),
        ("fd", ctypes.c_int),
        ("pos", ctypes.c_int64),
        ("reserved", ctypes.c_uint64 * 8),
    )


def load_binding(name: str | None = None) -> Any:
    """The Python binding: mfusepy on libfuse 3, else fusepy on libfuse 2; raises ImportError with the reason.

    MMFS_FUSE=fusepy chooses; with both libraries installed mfusepy would take libfuse 2, hence FUSE_LIBRARY_NAME.
    """
    wanted = name or os.environ.get("MMFS_FUSE") or ""
    reasons: list[str] = []
    for binding, module in (("mfusepy", "mfusepy"), ("fusepy", "fuse")):
        if wanted and wanted != binding:
            continue
        if binding == "mfusepy":
            os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")
        try:
            return importlib.import_module(module)
        except (ImportError, OSError, AttributeError) as error:
            reasons.append(f"{binding}: {error}")
    raise ImportError("; ".join(reasons) or f"no binding called {wanted}")


def errno_of(error: Exception, name: str, arguments: object) -> int:
    """The errno that a caller gets; what is no OSError is a defect of ours, which is logged, and EIO for him."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    log.error("%s%r", name, arguments, exc_info=error)
    return errno.EIO


def bridge(session: Session) -> Any:
    """The binding's FUSE class with our own way through it.

    Every request is answered with the lock of the operations held. getattr() gives a packed struct stat instead of a
    dictionary.
    """
    binding = session.binding

    class Bridge(binding.FUSE):  # type: ignore[misc,name-defined]
        def _wrapper(self, function: Any, *arguments: Any, **keywords: Any) -> int:
            try:
                if function.__name__[:4] == "init":
                    return function(*arguments, **keywords) or 0
                with self.operations.big_lock:
                    return function(*arguments, **keywords) or 0
            except Exception as error:
                return -errno_of(error, function.__name__, arguments[:1])
            except BaseException:
                log.exception("%s%r: the end", function.__name__, arguments[:1])
                binding.fuse_exit()
                return -errno.EIO

        def fgetattr(self, path: bytes | None, buffer: Any, info: Any) -> int:
            data = self.operations.getattr(
                None if path is None else path.decode("utf-8", "surrogateescape"), info.contents.fh if info else None
            )
            ctypes.memmove(buffer, data, len(data))
            return 0

    return Bridge


class Session:
    """One mount's connection to the kernel; without a loop of its own (`fd` < 0) it knows less.

    `shortcut.answer(memory)` may answer the request in the buffer; it returns whether it has. While something waits in
    its queues, `shortcut.postpone(memory)` is asked before, and `shortcut.settle(wait)` before waiting for the next.
    """

    def __init__(self, binding: Any) -> None:
        self.binding = binding
        self.lib: Any = binding._libfuse
        self.fd = -1
        self.memory: Any = None
        """The request that is being answered."""
        self.shortcut: Shortcut | None = None
        self.root = (0, 0)
        """uid and gid that stand for the machine's root."""
        self.time_ns = 0
        """The times of all files."""
        self._ended = False
        self._receiving = False
        self._process: Callable[[int], None] = lambda fuse_buf: None
        self._stats: dict[tuple[int, ...], bytes] = {}
        self._ino = binding.c_stat.st_ino

    @property
    def can_loop(self) -> bool:
        """Whether the binding is for libfuse 3 and has what `main()` calls."""
        names = ("fuse_mount", "fuse_get_session", "fuse_session_fd", "fuse_session_process_buf")
        has = self._fuse_new is not None and all(hasattr(self.lib, name) for name in names)
        return has and hasattr(self.binding, "fuse_main_real")

    @property
    def _fuse_new(self) -> Any:
        """fuse_new(): from libfuse 3.17 on a macro, behind which the call of 3.1 goes on as fuse_new_31()."""
        return getattr(self.lib, "fuse_new", None) or getattr(self.lib, "fuse_new_31", None)

    def main(self, argc: int, argv: Any, operations: Any, size: int, _private: Any) -> int:
        """Mount and answer until unmounted or told to end; returns what libfuse's fuse_main_real() would."""
        lib = self.lib
        words = [argv[index] for index in range(argc)]
        mountpoint = words[-1]
        kept = [word for word in words[:-1] if word not in OPTION_FLAGS]
        array = (ctypes.c_char_p * len(kept))(*kept)
        arguments = FuseArgs(len(kept), ctypes.cast(array, ctypes.c_void_p), 0)
        fuse_new = self._fuse_new
        fuse_new.restype = ctypes.c_void_p
        lib.fuse_get_session.restype = ctypes.c_void_p
        pointer = fuse_new(ctypes.byref(arguments), operations, ctypes.c_size_t(size), None)
        if not pointer:
            return 3
        fuse = ctypes.c_void_p(pointer)
        try:
            if lib.fuse_mount(fuse, ctypes.c_char_p(mountpoint)):
                return 4
            try:
                session = ctypes.c_void_p(lib.fuse_get_session(fuse))
                self.fd = lib.fuse_session_fd(session)
                before = self._catch_signals()
                try:
                    return self._loop(session)
                except InterruptedError:  # by _end()
                    return 0
                finally:
                    self.fd = -1
                    for number, handler in before.items():
                        signal.signal(number, handler)
            finally:
                lib.fuse_unmount(fuse)
        finally:
            lib.fuse_destroy(fuse)

    def _catch_signals(self) -> dict[signal.Signals, Any]:
        """Have signals end the loop, save those that somebody wants; the handlers there were."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        wanted = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
        return {number: signal.signal(number, self._end) for number in wanted}

    def _end(self, *_: Any) -> None:
        self._ended = True
        if self._receiving:
            raise InterruptedError

    def _loop(self, session: ctypes.c_void_p) -> int:
        process, exited = self.lib.fuse_session_process_buf, self.lib.fuse_session_exited
        process.argtypes, process.restype = [ctypes.c_void_p, ctypes.c_void_p], None
        exited.argtypes = [ctypes.c_void_p]
        memory = bytearray(BUFFER_SIZE)
        content = (ctypes.c_char * BUFFER_SIZE).from_buffer(memory)
        buffer = FuseBuf(mem=ctypes.addressof(content))
        handle, address = session.value, ctypes.addressof(buffer)
        shortcut, fd, buffers = self.shortcut, self.fd, [memory]
        self._process = lambda fuse_buf: process(handle, fuse_buf)
        device = select.poll()
        device.register(fd, select.POLLIN)
        os.set_blocking(fd, False)
        idle = 0
        receive, self.memory = os.readv, memory
        answer: Callable[[bytearray], bool] = (lambda memory: False) if shortcut is None else shortcut.answer
        sending, doubted, postponed, writes = ((), (), (), ()) if shortcut is None else shortcut.queues
        while not self._ended:
            if (doubted or postponed or writes) and shortcut and not shortcut.settle(device.poll, idle < SPINS):
                continue
            self._receiving = True
            try:
                if idle >= SPINS:
                    device.poll()
                elif idle:
                    os.sched_yield()
                size = receive(fd, buffers)
            except BlockingIOError:
                idle += 1
                continue
            except InterruptedError:
                raise
            except OSError as error:
                if error.errno == errno.ENOENT:  # a request that was given up meanwhile
                    continue
                return 0 if error.errno == errno.ENODEV else 7
            self._receiving = False
            idle = 0
            if not (sending and shortcut and shortcut.postpone(memory)) and not answer(memory):
                buffer.size = size
                process(handle, address)
                if exited(handle):
                    break
        return 0

    def replay(self, request: bytes) -> None:
        """Answer a request that was put aside."""
        memory = self.memory
        self.memory = bytearray(request.ljust(SMALLEST_BUFFER, b"\0"))
        if self.shortcut is None or not self.shortcut.answer(self.memory):
            content = (ctypes.c_char * len(self.memory)).from_buffer(self.memory)
            buffer = FuseBuf(size=len(request), mem=ctypes.addressof(content))
            self._process(ctypes.addressof(buffer))
        self.memory = memory

    def nodeid(self) -> int:
        """The inode that the request is about, as libfuse numbers it; 0 if unknown."""
        return int(NODEID.unpack_from(self.memory)[0]) if self.memory is not None else 0

    def learn(self, path: str, nodeid: int) -> None:
        """libfuse has a number for this path."""
        if self.shortcut is not None:
            self.shortcut.names.learn(path, nodeid)

    def learn_asked(self, path: str) -> int:
        """A LOOKUP names a path to us, and the number of its directory; GETATTR names its own, which is given back."""
        opcode = 0 if self.memory is None or self.shortcut is None else OPCODE.unpack_from(self.memory)[0]
        if opcode == LOOKUP:
            self.learn(path.rpartition("/")[0], self.nodeid())
        if opcode != GETATTR:
            return 0
        self.learn(path, self.nodeid())
        return self.nodeid()

    def name(self) -> str:
        """The name that a LOOKUP is about."""
        (length,) = LENGTH.unpack_from(self.memory)
        name: bytearray = self.memory[BODY : length - 1]
        return name.decode("utf-8", "surrogateescape")

    def caller(self) -> tuple[int, int, int]:
        """uid, gid and pid of who made the request."""
        if self.memory is not None:
            header: tuple[int, int, int] = CALLER.unpack_from(self.memory)
            return header
        context: tuple[int, int, int] = self.binding.fuse_get_context()
        return context

    def pack_stat(self, status: Stat) -> bytes:
        """A struct stat; all but the inode number is kept for the next that is alike."""
        mode, nlink, uid, gid, size, ino, rdev = status
        key = (mode, nlink, uid, gid, size, rdev)
        data = self._stats.get(key)
        if data is None:
            structure = self.binding.c_stat(
                st_mode=mode,
                st_nlink=nlink,
                st_uid=uid or self.root[0],
                st_gid=gid or self.root[1],
                st_size=size,
                st_rdev=rdev,
                st_blksize=Page.size if size else 1024,
            )
            times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), self.time_ns)
            self.binding.set_st_attrs(structure, times, use_ns=True)
            data = bytes(structure)
            if len(self._stats) < MAX_STATS:
                self._stats[key] = data
        begin = self._ino.offset
        return data[:begin] + INO.pack(ino) + data[begin + INO.size :]

    def send(self, message: bytes) -> None:
        """Write an answer or a notice; a request that was given up meanwhile, and an unmount, do not matter."""
        try:  # noqa: SIM105 - suppress() costs as much as the write
            os.write(self.fd, message)
        except OSError:
            pass

    def reads_pages(self) -> bool:
        """Whether the request is a READ for the page cache; a read(2) names an owner."""
        return self.memory is not None and not READ_FLAGS.unpack_from(self.memory)[0] & READ_LOCKOWNER

    def store_size(self, nodeid: int, size: int) -> None:
        """Make the kernel believe that an inode has at least `size` bytes, and stat(2) ask again."""
        if self.fd >= 0 and nodeid:
            self.send(STORE.pack(STORE.size, NOTIFY_STORE, 0, nodeid, size - 1, 1, 0, b"\0"))

    def forget_attributes(self, nodeid: int) -> None:
        """Have the kernel ask again for an inode's attributes; an answer under way leaves them as they are."""
        if self.fd >= 0 and nodeid:
            self.send(INVAL_INODE.pack(INVAL_INODE.size, NOTIFY_INVAL_INODE, 0, nodeid, -1, 0))

    def notify_poll(self, handle: int) -> None:
        """Wake who polls, and forget the handle."""
        self.lib.fuse_notify_poll(ctypes.c_void_p(handle))
        self.forget_poll(handle)

    def forget_poll(self, handle: int) -> None:
        """Free a poll handle."""
        self.lib.fuse_pollhandle_destroy(ctypes.c_void_p(handle))
