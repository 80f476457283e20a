"""/dev/kmsg: the kernel's log, a record a read(2), and a way for programs to add to it.

A record is `priority,sequence number,microseconds,-;text`. Each open file has a place of its own in the log; who falls
so far behind that his next record is gone gets EPIPE once and goes on with the oldest that is left.

- One read(2) gives one record, as programs that parse the log want it (dmesg, journald). Only a read with room for
  32 KB or more gets as many whole records as fit: that is a program that copies, and sendfile(2) takes a short read for
  the end.
- After the last record a file opened with O_NONBLOCK gives EAGAIN; without, read(2) returns 0 where Linux would sleep
  until there is another record, since who serves this file must not sleep.
- lseek(2) shows as a read at an unexpected position: 0 means the first record, anything else the end.

Linux: kernel/printk/printk.c, devkmsg_read(), devkmsg_write(), devkmsg_open().

Simplified: a regular file instead of the character device 1:11, since a mount that carries devices takes root; who may
not read the log (kernel.dmesg_restrict) learns it from read(2), not from open(2).
"""

from __future__ import annotations

import errno
import os
import select
from typing import TYPE_CHECKING, Final

from mmfs.fs.dev.root import dev
from mmfs.kernel.printk import DevkmsgUser
from mmfs.kernfs import Caller, OpenFile, fail

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

COPYING: Final = 32 << 10


class Reader:
    """One open file: its place in the log, and the position that the next read(2) should have."""

    def __init__(self, kernel: Kernel) -> None:
        self.user = DevkmsgUser(kernel.printk)
        self.position = 0

    def seek(self, offset: int) -> None:
        """Find the place again after an lseek(2)."""
        if offset != self.position:
            self.user.seek(0, os.SEEK_END if offset else os.SEEK_SET)
            self.position = offset

    def read(self, size: int) -> bytes:
        """One record, or for who copies as many as fit; nothing at the end."""
        data = self.user.read(size) or b""
        while data and size >= COPYING:
            record = self.user.log.record(self.user.seq)
            if record is None or len(data) + len(record.kmsg()) > size:
                break
            data += self.user.read(size) or b""
        self.position += len(data)
        return data


def reader(kernel: Kernel, file: OpenFile) -> Reader:
    """What an open file remembers."""
    if file.private is None:
        file.private = Reader(kernel)
    made: Reader = file.private
    return made


def devkmsg_open(kernel: Kernel, caller: Caller) -> None:
    """Nobody while printk.devkmsg is off. Linux: devkmsg_open()."""
    if kernel.printk.devkmsg_log == "off":
        fail(errno.EPERM)


def devkmsg_poll(kernel: Kernel, file: OpenFile) -> int:
    """Linux: devkmsg_poll()."""
    user = reader(kernel, file).user
    if not user.readable():
        return 0
    lost = select.POLLERR | select.POLLPRI if user.seq < kernel.printk.first_seq else 0
    return select.POLLIN | select.POLLRDNORM | lost


def devkmsg_release(kernel: Kernel, file: OpenFile) -> None:
    """Linux: devkmsg_release()."""
    if file.private is not None:
        task = kernel.tasks.get(file.caller.pid)
        file.private.user.release(task.comm if task is not None else "mmfs")


@dev.binary(
    "kmsg",
    mode=0o644,
    open=devkmsg_open,
    poll=devkmsg_poll,
    release=devkmsg_release,
    wants_caller=True,
    wants_file=True,
)
def kmsg(kernel: Kernel, offset: int, size: int, *, caller: Caller, file: OpenFile) -> bytes:
    """The next record. Linux: devkmsg_read()."""
    if kernel.sysctl.dmesg_restrict and caller.uid != 0:
        fail(errno.EPERM)
    place = reader(kernel, file)
    place.seek(offset)
    data = place.read(size)
    if not data and size and file.flags & os.O_NONBLOCK:
        fail(errno.EAGAIN)
    return data


@kmsg.store
def kmsg_write(kernel: Kernel, offset: int, data: bytes, *, caller: Caller, file: OpenFile) -> int:
    """Add a record: `<priority>text`. Linux: devkmsg_write()."""
    return reader(kernel, file).user.write(data)
