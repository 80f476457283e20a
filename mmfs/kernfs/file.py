"""An open file: what a read(2) or a write(2) does between the caller and the functions of a template.

A text file behaves as a seq_file: its content is made when it is read, not when it is opened. Reading on from where the
last read ended continues in the same text, so a file read in pieces is of one moment; reading at offset 0 or anywhere
else makes it anew. One write(2) is one call of the store.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Generator
from os import O_ACCMODE, O_APPEND, O_RDONLY, O_WRONLY
from typing import TYPE_CHECKING, Any, Final

from mmfs.kernfs.kstrtox import fail
from mmfs.kernfs.node import Attribute, Binary, Text

if TYPE_CHECKING:
    from mmfs.kernfs.entry import Caller, Entry

Slices = Generator[None, None, int]
"""A write(2) under way: between two steps others may be served."""

DEFAULT_POLLMASK: Final = select.POLLIN | select.POLLOUT | select.POLLRDNORM | select.POLLWRNORM


def render(value: Text) -> bytes:
    """The bytes of what a show function returned; a number is a line."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        return value
    if isinstance(value, int):
        return b"%d\n" % value
    if isinstance(value, bytearray):
        return bytes(value)
    raise TypeError(f"a file's content cannot be a {type(value).__name__}")


class OpenFile:
    """One open(2) of an entry; `private` is for the template's functions.

    Linux: fs/seq_file.c, seq_read_iter().
    Simplified: a seq_file of several records is made record by record as it is read; here it is made at once.
    """

    __slots__ = ("_base", "_next", "_text", "caller", "entry", "event", "flags", "node", "private")

    def __init__(self, entry: Entry, flags: int, caller: Caller) -> None:
        self.entry = entry
        self.node: Attribute[Any] | Binary[Any] = entry.node
        self.flags = flags
        self.caller = caller
        self.private: Any = None
        self.event = -1
        """How many events there had been when the file was read last; -1: it has not been."""
        self._text: bytes | None = None
        self._next = 0
        self._base: int | None = 0

    def read(self, size: int, offset: int = 0) -> bytes:
        """read(2): at most `size` bytes at `offset`; past the end nothing."""
        node = self.node
        if self.flags & O_ACCMODE == O_WRONLY:
            fail(errno.EBADF)
        if type(node) is not Attribute:
            return self._read_binary(size, offset)
        if node.show is None:
            fail(self.entry.rules.no_method)
        if node.before is not None:
            node.before(self.entry.obj)
        if offset and node.one_read:
            return b""
        if node.transaction:
            if self._base is None:
                self._base = offset
            if offset >= self._base:
                offset -= self._base
        text = self._text
        if text is None or offset != self._next or not offset:
            text = self._text = self._show()
        data = text[offset : offset + size]
        self._next = offset + len(data)
        return data

    def _show(self) -> bytes:
        entry = self.entry
        node: Attribute[Any] = self.node  # type: ignore[assignment]
        assert node.show is not None
        if node.events is not None:
            self.event = node.events(entry.obj)
        if node.wants_caller or node.wants_file:
            return render(node.show(entry.obj, **self._keywords()))
        if node.version is None:
            return render(node.show(entry.obj))
        version = node.version(entry.obj)
        if entry.memo is None or entry.memo[0] != version:
            entry.memo = version, render(node.show(entry.obj))
        return entry.memo[1]

    def _keywords(self) -> dict[str, Any]:
        keywords: dict[str, Any] = {}
        if self.node.wants_caller:
            keywords["caller"] = self.caller
        if self.node.wants_file:
            keywords["file"] = self
        return keywords

    def _read_binary(self, size: int, offset: int) -> bytes:
        node = self.node
        if not isinstance(node, Binary):
            fail(errno.EISDIR)
        if node.read is None:
            fail(self.entry.rules.no_method)
        return node.read(self.entry.obj, offset, size, **self._keywords())

    def write(self, data: bytes, offset: int = 0) -> int:
        """write(2): one call of the store; how many bytes it took."""
        taken = self.begin_write(data, offset)
        while not isinstance(taken, int):
            try:
                next(taken)
            except StopIteration as end:
                taken = end.value
        return taken

    def begin_write(self, data: bytes, offset: int = 0) -> int | Slices:
        """As write(), but a store that works in slices is only begun: the generator returns what write() would."""
        if self.flags & O_ACCMODE == O_RDONLY:
            fail(errno.EBADF)
        entry, node = self.entry, self.node
        rules = entry.rules
        storer = node.storer
        if storer is None and (data or not rules.skip_empty):
            fail(rules.no_method)
        transaction = type(node) is Attribute and node.transaction
        if entry.guard is not None and not transaction:  # a transaction has its own answer
            entry.guard()
        if not data and rules.skip_empty:
            return 0
        assert storer is not None
        if rules.write_max is not None and len(data) > rules.write_max:
            if rules.write_over:
                fail(rules.write_over)
            data = data[: rules.write_max]
        if self.flags & O_APPEND:
            offset = entry.size
        keywords = self._keywords()
        if isinstance(node, Binary):
            taken = storer(entry.obj, offset, data, **keywords)
        else:
            if node.wants_offset:
                keywords["offset"] = offset
            if node.before is not None:
                node.before(entry.obj)
            self._text, self._base = None, None
            taken = storer(entry.obj, data.decode("utf-8", "surrogateescape"), **keywords)
        return self._slices(taken, len(data)) if isinstance(taken, Generator) else len(data) if taken is None else taken

    @staticmethod
    def _slices(store: Generator[None, None, int | None], length: int) -> Slices:
        taken = yield from store
        return length if taken is None else taken

    def poll(self) -> int:
        """The poll(2) mask that is true now. Linux: fs/kernfs/file.c, kernfs_generic_poll()."""
        node = self.node
        if node.poll is not None:
            return node.poll(self.entry.obj, self)
        if type(node) is Attribute and node.events is not None and node.events(self.entry.obj) != self.event:
            return DEFAULT_POLLMASK | select.POLLERR | select.POLLPRI
        return DEFAULT_POLLMASK

    @property
    def polls(self) -> bool:
        """Whether the file has events of its own."""
        node = self.node
        return node.poll is not None or (type(node) is Attribute and node.events is not None)

    def release(self) -> None:
        """The last close(2)."""
        node = self.node
        if node.release is not None:
            node.release(self.entry.obj, self)
