"""The kernel log: a ring of records that /dev/kmsg and dmesg read.

A record is a line (or several) of text with its level, facility, sequence number and time. The text lives in
a ring of bytes and the descriptions in a ring of descriptors; when either is full the oldest records go. A
reader keeps nothing but the sequence number it wants next, so it learns exactly when it has missed something
(EPIPE) and carries on with the oldest record that is left.

The ring's size is that of CONFIG_LOG_BUF_SHIFT, grows with the number of CPUs, and follows log_buf_len= on
the command line, as in Linux: how much of the past an OOM storm leaves readable depends on it.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from mmfs.kernel.clock import NSEC_PER_SEC, Clock

LOG_EMERG, LOG_ALERT, LOG_CRIT, LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG = range(8)
LOG_KERN: Final = 0
LOG_USER: Final = 1

CONFIG_LOG_BUF_SHIFT: Final = 17
CONFIG_LOG_CPU_MAX_BUF_SHIFT: Final = 12
PRB_AVGBITS: Final = 5
PRINTKRB_RECORD_MAX: Final = 1024
DATA_BLOCK_HEADER: Final = 8

SEEK_DATA: Final = 3

DEVKMSG_RATELIMIT_INTERVAL_NS: Final = 5 * NSEC_PER_SEC
DEVKMSG_RATELIMIT_BURST: Final = 10


def log_buf_len(nr_cpus: int, requested: int = 0) -> int:
    """The ring's size in bytes on a machine with so many possible CPUs.

    Linux: kernel/printk/printk.c, log_buf_add_cpu(), log_buf_len_update().
    """
    default = 1 << CONFIG_LOG_BUF_SHIFT
    size = requested
    if not size:
        extra = (nr_cpus - 1) << CONFIG_LOG_CPU_MAX_BUF_SHIFT
        size = default + extra if extra > default // 2 else 0
    if size <= default:
        return default
    return 1 << (size - 1).bit_length()


class PrintkRecord(NamedTuple):
    """One message of the log. Linux: struct printk_info and its text."""

    seq: int
    level: int
    facility: int
    ts_ns: int
    text: str
    begin_lpos: int

    def kmsg(self) -> bytes:
        """The record as one read(2) of /dev/kmsg returns it.

        Linux: kernel/printk/printk.c, info_print_ext_header(), msg_add_ext_text().
        """
        header = f"{self.facility << 3 | self.level},{self.seq},{self.ts_ns // 1000},-;"
        return (header + escape_text(self.text) + "\n").encode("ascii")

    def dmesg(self) -> str:
        """The record as dmesg prints it, each line with the time in front. Linux: record_print_text()."""
        seconds, rest = divmod(self.ts_ns, NSEC_PER_SEC)
        prefix = f"[{seconds:5d}.{rest // 1000:06d}] "
        return "".join(f"{prefix}{line}\n" for line in self.text.split("\n"))


def escape_text(text: str) -> str:
    """Text with everything but printable ASCII, and the backslash, as \\xNN."""
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(c) if 32 <= c < 127 and c != 92 else f"\\x{c:02x}" for c in data)


class Printk:
    """The log of one machine."""

    def __init__(self, clock: Clock, nr_cpus: int = 1, requested_len: int = 0) -> None:
        self.clock = clock
        self.log_buf_len = log_buf_len(nr_cpus, requested_len)
        self.nr_descriptors = self.log_buf_len >> PRB_AVGBITS
        self.ring: deque[PrintkRecord] = deque()
        self.next_seq = 0
        self.clear_seq = 0
        self.console_loglevel = LOG_DEBUG
        self.default_message_loglevel = LOG_WARNING
        self.minimum_console_loglevel = LOG_ALERT
        self.default_console_loglevel = LOG_DEBUG
        self.devkmsg_log = "ratelimit"
        self._head_lpos = 0

    @property
    def first_seq(self) -> int:
        """Sequence number of the oldest record that is left."""
        return self.ring[0].seq if self.ring else self.next_seq

    @property
    def records(self) -> list[tuple[int, int, int, str]]:
        """All records left: (sequence number, level, microseconds, text)."""
        return [(r.seq, r.level, r.ts_ns // 1000, r.text) for r in self.ring]

    def emit(self, text: str, level: int = LOG_INFO, facility: int = LOG_KERN, ts_ns: int | None = None) -> int:
        """Store one message and return its sequence number. Linux: vprintk_store()."""
        text = text.removesuffix("\n")
        data = text.encode("utf-8", "surrogateescape")
        if len(data) > PRINTKRB_RECORD_MAX:
            data = data[:PRINTKRB_RECORD_MAX]
            text = data.decode("utf-8", "surrogateescape")
        begin = self._reserve(len(data))
        seq = self.next_seq
        self.next_seq += 1
        when = self.clock.now_ns if ts_ns is None else ts_ns
        self.ring.append(PrintkRecord(seq, level & 7, facility, when, text, begin))
        return seq

    def _reserve(self, length: int) -> int:
        """Make room for a block of text, dropping the oldest records. Linux: printk_ringbuffer.c, data_alloc()."""
        begin = self._head_lpos
        size = -(-(DATA_BLOCK_HEADER + length) // 8) * 8 if length else 0
        end = begin + size
        if size and begin // self.log_buf_len != (end - 1) // self.log_buf_len:
            end = (end - 1) // self.log_buf_len * self.log_buf_len + size
        while self.ring and (self.ring[0].begin_lpos < end - self.log_buf_len or len(self.ring) >= self.nr_descriptors):
            self.ring.popleft()
        self._head_lpos = end
        return begin

    def since(self, seq: int) -> Iterator[PrintkRecord]:
        """The records left from `seq` on."""
        first = self.first_seq
        for index in range(max(seq - first, 0), len(self.ring)):
            yield self.ring[index]

    def record(self, seq: int) -> PrintkRecord | None:
        """The record `seq`, or the oldest one after it that is left; None past the end."""
        index = max(seq - self.first_seq, 0)
        return self.ring[index] if index < len(self.ring) else None

    def dmesg(self, clear: bool = False) -> str:
        """What dmesg(1) prints: everything since the last clear. Linux: syslog_print_all()."""
        text = "".join(record.dmesg() for record in self.since(self.clear_seq))
        if clear:
            self.clear_seq = self.next_seq
        return text


class DevkmsgUser:
    """One open /dev/kmsg. Linux: kernel/printk/printk.c, struct devkmsg_user."""

    def __init__(self, log: Printk) -> None:
        self.log = log
        self.seq = log.first_seq
        self._window_ns: int | None = None
        self._printed = 0
        self._missed = 0

    def read(self, count: int) -> bytes | None:
        """The next record; None when there is none yet. EPIPE when it has been overwritten. devkmsg_read()."""
        record = self.log.record(self.seq)
        if record is None:
            return None
        if record.seq != self.seq:
            self.seq = record.seq
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        self.seq += 1
        data = record.kmsg()
        if len(data) > count:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return data

    def write(self, data: bytes) -> int:
        """Log a line from user space: [<priority>]text. Linux: devkmsg_write()."""
        if len(data) > PRINTKRB_RECORD_MAX:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if self.log.devkmsg_log == "off":
            return len(data)
        if self.log.devkmsg_log != "on" and not self._ratelimit():
            return len(data)
        text = data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
        level, facility = self.log.default_message_loglevel, LOG_USER
        if text.startswith("<"):
            digits, closing, rest = text[1:].partition(">")
            if closing and (digits == "" or (digits.isascii() and digits.isdigit())):
                priority = int(digits or "0") & 0xFFFFFFFF
                level = priority & 7
                facility = priority >> 3 or LOG_USER
                text = rest
        self.log.emit(text, level, facility)
        return len(data)

    def _ratelimit(self) -> bool:
        """Ten lines every five seconds. Linux: lib/ratelimit.c, ___ratelimit()."""
        now = self.log.clock.now_ns
        if self._window_ns is None or now - self._window_ns > DEVKMSG_RATELIMIT_INTERVAL_NS:
            self._window_ns, self._printed = now, 0
        if self._printed < DEVKMSG_RATELIMIT_BURST:
            self._printed += 1
            return True
        self._missed += 1
        return False

    def release(self, comm: str) -> None:
        """Closed: say how many lines were not logged. Linux: devkmsg_release(), ratelimit_state_exit()."""
        if self._missed:
            self.log.emit(f"printk: {comm}: {self._missed} output lines suppressed due to ratelimiting", LOG_WARNING)
            self._missed = 0

    def seek(self, offset: int, whence: int) -> int:
        """First record, first after the last clear, or the end. Linux: devkmsg_llseek()."""
        if offset:
            raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))
        if whence == os.SEEK_SET:
            self.seq = self.log.first_seq
        elif whence == SEEK_DATA:
            self.seq = self.log.clear_seq
        elif whence == os.SEEK_END:
            self.seq = self.log.next_seq
        else:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return 0

    def readable(self) -> bool:
        """Whether a read would return at once. Linux: devkmsg_poll()."""
        return self.seq < self.log.next_seq
