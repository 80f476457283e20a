"""Requests that are answered without libfuse, byte by byte, and those that have to wait."""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Iterator

import pytest

from mmfs.kernfs import Vfs
from mmfs.mount import fuse, handles
from mmfs.mount.libfuse import GETATTR, LOOKUP, Session, load_binding
from mmfs.mount.shortcut import BATCH_FORGET, FORGET, OPEN, READ, RELEASE, Names, Shortcut
from tests.kernfs import toy

NODE = 5
DIRECTORY = 4
UNIQUE = 77
DIRECT, PAGES = 2, 0


class Kernel:
    """The other end of /dev/fuse: sends requests, takes answers and notices."""

    def __init__(self, box: toy.Box) -> None:
        self.reader, self.writer = os.pipe()
        self.session = Session(load_binding())
        self.session.fd = self.writer
        self.operations = fuse.Operations(Vfs(toy.root, box), threading.Lock(), self.session)
        self.shortcut = self.session.shortcut = Shortcut(self.session, self.operations)

    def request(self, opcode: int, body: bytes, nodeid: int = NODE, pid: int = 123) -> bool:
        """Whether it was taken."""
        head = struct.pack("=IIQQIII4x", 40 + len(body), opcode, UNIQUE, nodeid, 0, 0, pid)
        memory = bytearray((head + body).ljust(8192, b"\0"))
        self.session.memory = memory
        return self.shortcut.postpone(memory) or self.shortcut.answer(memory)

    def answers(self) -> list[tuple[int, int, bytes]]:
        """What was sent: error or notice, unique, the rest."""
        os.set_blocking(self.reader, False)
        try:
            data = os.read(self.reader, 1 << 20)
        except BlockingIOError:
            return []
        found = []
        while data:
            length, error, unique = struct.unpack_from("=IiQ", data)
            found.append((error, unique, data[16:length]))
            data = data[length:]
        return found

    def open(self, path: str = "/proc/meminfo", nodeid: int = NODE) -> int:
        """Open the first time, as libfuse would ask for it."""
        self.request(99, b"", nodeid)
        fh = self.operations.open(path, os.O_RDONLY)
        self.operations.handles[fh].short = True
        self.answers()
        return fh

    def read(self, fh: int, size: int, offset: int, flags: int) -> bool:
        return self.request(READ, struct.pack("=QQIIQII", fh, offset, size, flags, 0, 0, 0))

    def getattr(self, flags: int = 0, pid: int = 123) -> bool:
        return self.request(GETATTR, struct.pack("=IIQ", flags, 0, 0), pid=pid)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    try:
        made = Kernel(toy.Box())
    except ImportError as error:
        pytest.skip(str(error))
    yield made
    os.close(made.reader)
    os.close(made.writer)


def test_a_cat(kernel: Kernel) -> None:
    assert not kernel.request(OPEN, struct.pack("=II", 0, 0))
    kernel.open()
    assert kernel.request(OPEN, struct.pack("=II", 0, 0))
    ((error, unique, body),) = kernel.answers()
    fh, flags, _ = struct.unpack("=QII", body)
    assert (error, unique, flags) == (0, UNIQUE, 1 | 2)
    assert kernel.read(fh, 100, 0, DIRECT)
    assert kernel.answers() == [(0, UNIQUE, toy.Box().text.encode()[:100])]
    assert kernel.read(fh, 100, 1 << 20, DIRECT)
    assert kernel.answers() == [(0, UNIQUE, b"")]
    assert kernel.request(RELEASE, struct.pack("=QIIQ", fh, 0, 0, 0))
    assert kernel.answers() == [(0, UNIQUE, b"")]
    assert fh not in kernel.operations.handles


def test_getattr(kernel: Kernel) -> None:
    fh = kernel.open()
    for _ in range(2):
        assert kernel.getattr()
        (notice, _, stored), (error, unique, body) = kernel.answers()
        assert notice == 4
        assert struct.unpack_from("=QQI", stored)[0] == NODE
        attributes = struct.unpack("=QI4xQQQQQQIIIIIIIIII", body)
        valid, nsec, ino, size, *_, mode, nlink, uid, gid, rdev, blksize, _ = attributes
        known = kernel.operations.vfs.stat("/proc/meminfo")
        assert (error, unique, valid, nsec, ino, size) == (0, UNIQUE, 1, 0, known.ino, 0)
        assert (mode, nlink, uid, gid, rdev, blksize) == (known.mode, 1, os.geteuid(), os.getegid(), 0, 1024)
    kernel.operations.release(None, fh)
    assert kernel.getattr()
    assert [one[0] for one in kernel.answers()] == [0]
    assert not kernel.getattr(flags=1)


def test_lookup(kernel: Kernel) -> None:
    """A name is answered once libfuse has numbered it and its directory; one that is not there, at once."""
    assert not kernel.request(LOOKUP, b"meminfo\0", nodeid=DIRECTORY)
    kernel.operations.getattr("/proc/meminfo")
    assert not kernel.request(LOOKUP, b"meminfo\0", nodeid=DIRECTORY)
    assert kernel.answers() == []
    fh = kernel.open()
    kernel.operations.release(None, fh)
    assert kernel.request(LOOKUP, b"meminfo\0", nodeid=DIRECTORY)
    ((error, unique, body),) = kernel.answers()
    nodeid, generation, entry_valid, attr_valid, entry_nsec, attr_nsec = struct.unpack_from("=QQQQII", body)
    assert (error, unique, nodeid, generation) == (0, UNIQUE, NODE, 0)
    assert (entry_valid, attr_valid, entry_nsec, attr_nsec) == (1, 1, 0, 0)
    assert kernel.getattr()
    assert kernel.answers()[0][2][16:] == body[40:]
    assert kernel.request(LOOKUP, b"none\0", nodeid=DIRECTORY)
    assert kernel.answers() == [(-errno.ENOENT, UNIQUE, b"")]


def test_forgetting(kernel: Kernel) -> None:
    """libfuse hears of as many forgotten lookups as it has answered, and then its number is given no more."""
    kernel.operations.release(None, kernel.open())
    kernel.request(LOOKUP, b"meminfo\0", nodeid=DIRECTORY)
    kernel.operations.getattr("/proc/meminfo")
    for _ in range(3):
        assert kernel.request(LOOKUP, b"meminfo\0", nodeid=DIRECTORY)
    kernel.answers()
    assert kernel.request(FORGET, struct.pack("=Q", 2))
    assert kernel.answers() == []
    assert kernel.request(LOOKUP, b"meminfo\0", nodeid=DIRECTORY)
    assert not kernel.request(FORGET, struct.pack("=Q", 7))
    assert struct.unpack_from("=IIQQ16xQ", kernel.session.memory) == (48, FORGET, UNIQUE, NODE, 5)
    assert not kernel.request(LOOKUP, b"meminfo\0", nodeid=DIRECTORY)


def test_forgetting_many(kernel: Kernel) -> None:
    kernel.operations.release(None, kernel.open())
    kernel.request(LOOKUP, b"meminfo\0", nodeid=DIRECTORY)
    kernel.operations.getattr("/proc/meminfo")
    assert kernel.request(LOOKUP, b"meminfo\0", nodeid=DIRECTORY)
    many = [(NODE, 1), *((number, 2) for number in range(100, 1100)), (NODE, 1)]
    body = struct.pack("=II", len(many), 0) + b"".join(struct.pack("=QQ", *one) for one in many)
    assert not kernel.request(BATCH_FORGET, body)
    left = list(struct.iter_unpack("=QQ", kernel.session.memory[48 : 48 + 16 * len(many)]))
    assert left == [(NODE, 0), *many[1:]]


def test_a_removed_directory_gets_another_number() -> None:
    names = Names()
    for nodeid, path in enumerate(("/a", "/a/b", "/a/b/c", "/ab"), 2):
        names.learn(path, nodeid)
    names.removed("/a/b")
    assert names.nodeids == {"/a": 2, "/ab": 5}
    assert names.paths == {1: "", 2: "/a", 5: "/ab"}


def test_sizes_grow(kernel: Kernel) -> None:
    """What is no larger than before would not make the kernel leave the size alone."""
    kernel.open()
    sizes = []
    for _ in range(3):
        kernel.getattr()
        stored = kernel.answers()[0][2]
        _, offset, length = struct.unpack_from("=QQI", stored)
        sizes.append(offset + length)
    assert sizes == sorted(set(sizes))
    assert sizes[0] > fuse.TEXT_SIZE


def test_errors(kernel: Kernel) -> None:
    kernel.open("/proc/gone", nodeid=6)
    assert kernel.request(OPEN, struct.pack("=II", 0, 0), nodeid=6)
    fh = struct.unpack_from("=Q", kernel.answers()[0][2])[0]
    assert kernel.read(fh, 100, 0, DIRECT)
    assert kernel.answers() == [(-errno.ESRCH, UNIQUE, b"")]


def test_pages_are_not_kept_once_read(kernel: Kernel) -> None:
    fh = kernel.open()
    assert kernel.read(fh, 131072, 0, PAGES)
    kernel.operations.release(None, fh)
    kernel.answers()
    assert kernel.request(OPEN, struct.pack("=II", 0, 0))
    (notice, _, _), (_, _, body) = kernel.answers()
    assert notice == 4
    assert struct.unpack("=QII", body)[1] == 1


def settle(kernel: Kernel, waiting: bool = False) -> bool:
    return kernel.shortcut.settle(lambda timeout: [(1, 1)] if waiting else [], False)


def test_who_sends_is_not_disturbed(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(handles.time, "monotonic", lambda: now)
    fh = kernel.open()
    assert kernel.read(fh, 131072, 0, PAGES)
    kernel.answers()
    assert kernel.getattr(pid=9)
    assert kernel.request(OPEN, struct.pack("=II", 0, 0), pid=9)
    assert kernel.request(LOOKUP, b"meminfo\0", nodeid=DIRECTORY, pid=9)
    assert not kernel.request(LOOKUP, b"vmstat\0", nodeid=DIRECTORY, pid=9)
    assert not settle(kernel)
    assert kernel.answers() == []
    kernel.operations.release(None, fh)
    seen: list[int] = []
    monkeypatch.setattr(kernel.session, "_process", seen.append)
    assert settle(kernel)
    assert [one[0] for one in kernel.answers()] == [0, 4, 0]
    assert len(seen) == 1
    assert not kernel.shortcut.postponed


def test_waiting_ends(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(handles.time, "monotonic", lambda: now)
    fh = kernel.open()
    assert kernel.read(fh, 131072, 0, PAGES)
    kernel.answers()
    assert kernel.getattr(pid=9)
    assert not settle(kernel)
    now += handles.SEND_SECONDS
    settle(kernel)
    assert [one[0] for one in kernel.answers()] == [2, 0]


def test_doubted_pages_are_asked_again(kernel: Kernel) -> None:
    fh = kernel.open()
    assert kernel.getattr(pid=9)
    kernel.answers()
    assert settle(kernel, waiting=True)
    assert kernel.read(fh, 131072, 0, PAGES)
    assert kernel.answers() == [(-errno.EAGAIN, UNIQUE, b"")]
    assert kernel.read(fh, 4096, 0, PAGES)
    assert kernel.answers()[0][0] == 0
    assert settle(kernel)
    assert kernel.read(fh, 131072, 0, PAGES)
    assert kernel.answers()[0][0] == 0


def test_ones_own_fstat_raises_no_doubt(kernel: Kernel) -> None:
    fh = kernel.open()
    assert kernel.getattr(pid=123)
    kernel.answers()
    assert kernel.read(fh, 131072, 0, PAGES)
    assert kernel.answers()[0][0] == 0


def test_forgotten(kernel: Kernel) -> None:
    fh = kernel.open()
    assert not kernel.request(2, struct.pack("=Q", 1))
    assert kernel.operations.by_nodeid
    kernel.operations.release(None, fh)
    assert not kernel.request(42, struct.pack("=II", 2, 0) + struct.pack("=QQQQ", 3, 1, NODE, 1), nodeid=0)
    assert not kernel.operations.by_nodeid
    assert not kernel.operations.inodes


def test_who_has_mounted_is_root_of_the_machine(kernel: Kernel) -> None:
    kernel.session.root = kernel.operations.euid, kernel.operations.egid = 4000, 4001
    kernel.open()
    head = struct.pack("=IIQQIII4x", 40, GETATTR, UNIQUE, NODE, 4000, 4001, 9)
    kernel.session.memory = bytearray(head.ljust(8192, b"\0"))
    assert kernel.operations.caller() == (9, 0, 0, ())
    assert kernel.getattr()
    body = kernel.answers()[-1][2]
    assert struct.unpack("=QI4xQQQQQQIIIIIIIIII", body)[-5:-3] == (4000, 4001)
