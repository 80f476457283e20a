"""/dev/kmsg: a record a read, writes from programs, who may."""

from __future__ import annotations

import errno
import os
import select
from typing import TYPE_CHECKING

import pytest

import mmfs
from mmfs.kernfs import Caller, OpenFile

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


@pytest.fixture
def kernel() -> Kernel:
    return mmfs.boot(ram="128M", preset="bare", seed=1)


class Log:
    """An open /dev/kmsg with a file position."""

    def __init__(self, kernel: Kernel, flags: int = os.O_RDONLY | os.O_NONBLOCK) -> None:
        self.file: OpenFile = kernel.vfs.open("/dev/kmsg", flags)
        self.position = 0

    def read(self, size: int = 8191) -> bytes:
        data = self.file.read(size, self.position)
        self.position += len(data)
        return data

    def rest(self) -> list[bytes]:
        """All records that are left."""
        records = []
        while True:
            try:
                record = self.read()
            except BlockingIOError:
                return records
            if not record:
                return records
            records.append(record)


def test_a_record_a_read(kernel: Kernel) -> None:
    log = Log(kernel)
    first = log.read()
    assert first.startswith(b"5,0,0,-;Linux version 6.12")
    assert first.count(b"\n") == 1
    records = [first, *log.rest()]
    assert len(records) == len(kernel.printk.records)
    assert b"".join(records) == kernel.read("/dev/kmsg")
    with pytest.raises(OSError) as caught:
        log.read()
    assert caught.value.errno == errno.EAGAIN
    kernel.printk.emit("one more", 4)
    assert log.read().endswith(b",-;one more\n")
    assert kernel.stat("/dev/kmsg").st_mode == 0o100644


def test_who_does_not_want_to_wait_and_who_does(kernel: Kernel) -> None:
    """Linux puts a blocking reader to sleep at the end; here it gets 0 bytes, and the next record when it comes."""
    log = Log(kernel, os.O_RDONLY)
    log.rest()
    assert log.read() == b""
    kernel.printk.emit("later")
    assert log.read().endswith(b";later\n")


def test_copies(kernel: Kernel) -> None:
    """A large buffer takes many records; a small one none, and the record stays."""
    whole = kernel.read("/dev/kmsg")
    log = Log(kernel)
    assert log.read(1 << 20) == whole
    log = Log(kernel)
    assert whole.startswith(log.read(40 << 10))
    log = Log(kernel)
    with pytest.raises(OSError) as caught:
        log.read(10)
    assert caught.value.errno == errno.EINVAL


def test_seeks(kernel: Kernel) -> None:
    log = Log(kernel)
    first = log.read()
    log.read()
    log.position = 0
    assert log.read() == first
    log.position = 1 << 40
    with pytest.raises(BlockingIOError):
        log.read()
    kernel.printk.emit("after the end")
    assert log.read().endswith(b";after the end\n")


def test_overwritten(kernel: Kernel) -> None:
    log = Log(kernel)
    log.read()
    for number in range(5000):
        kernel.printk.emit(f"flood {number}")
    assert log.file.poll() & select.POLLPRI
    with pytest.raises(BrokenPipeError):
        log.read()
    assert log.read() == kernel.printk.ring[0].kmsg()


def test_poll(kernel: Kernel) -> None:
    log = Log(kernel)
    assert log.file.poll() == select.POLLIN | select.POLLRDNORM
    log.rest()
    assert log.file.poll() == 0


@pytest.mark.parametrize(
    ("written", "prefix", "text"),
    [
        (b"hello from user", b"12,", b"hello from user"),
        (b"<11>error\n", b"11,", b"error"),
        (b"<6>told", b"14,", b"told"),
        (b"<x>foo", b"12,", b"<x>foo"),
        (b"tab\tand \\", b"12,", b"tab\\x09and \\x5c"),
        (b"two\nlines\n", b"12,", b"two\\x0alines"),
        (b"<300>facility 37", b"300,", b"facility 37"),
        (b"<>bar", b"8,", b"bar"),
        (b"<6>x\0y", b"14,", b"x"),
        (b"<-6>neg", b"12,", b"<-6>neg"),
    ],
)
def test_writes(kernel: Kernel, written: bytes, prefix: bytes, text: bytes) -> None:
    assert kernel.write("/dev/kmsg", written) == len(written)
    last = Log(kernel).rest()[-1]
    assert last.startswith(prefix)
    assert last.endswith(b",-;" + text + b"\n")


def test_limits_of_writing(kernel: Kernel) -> None:
    with pytest.raises(OSError) as caught:
        kernel.write("/dev/kmsg", b"x" * 1025)
    assert caught.value.errno == errno.EINVAL
    log = kernel.vfs.open("/dev/kmsg", os.O_WRONLY)
    before = kernel.printk.next_seq
    for number in range(15):
        log.write(b"line %d\n" % number)
    assert kernel.printk.next_seq - before == 10, "ten lines in five seconds"
    kernel.run_for(6)
    log.write(b"again")
    log.release()
    assert [text for _, _, _, text in kernel.printk.records[-2:]] == [
        "again",
        "printk: mmfs: 5 output lines suppressed due to ratelimiting",
    ]


def test_who_may(kernel: Kernel) -> None:
    """Root reads; others when kernel.dmesg_restrict is 0. Nobody opens it while printk.devkmsg is off."""
    user = Caller(uid=1000, gid=1000)
    with pytest.raises(PermissionError):
        kernel.vfs.read("/dev/kmsg", user)
    kernel.write("/proc/sys/kernel/dmesg_restrict", "0")
    assert kernel.vfs.read("/dev/kmsg", user) == kernel.read("/dev/kmsg")
    with pytest.raises(PermissionError):
        kernel.vfs.write("/dev/kmsg", b"x", user)
    kernel.write("/proc/sys/kernel/printk_devkmsg", "off\n")
    with pytest.raises(PermissionError):
        kernel.read("/dev/kmsg")
