"""Sysctls: files of numbers under /proc/sys, as rows of a table.

    for row in (
        sysctl("swappiness", proc_dointvec_minmax(0, 200)),
        sysctl("min_free_kbytes", proc_dointvec_minmax(0), after=lambda vm, old: vm.kernel.page_alloc.set_watermarks()),
        sysctl("drop_caches", proc_dointvec_minmax(1, 4), mode=0o200, after=drop_caches),
    ):
        vm.add(row)

A row reads and writes one field of the object that the directory is bound to: an int, or a list of ints for a vector.
The parsers stand below under their Linux names, and read as Linux reads: white space around numbers, 0x and 0 as
prefixes, a vector written number by number until one is wrong, whatever follows the last wanted number left unread
(`60 70` takes three of five bytes), writes at another position than 0 swallowed, reads past position 0 empty.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, TypeVar

from mmfs.kernfs.kstrtox import INT_MAX, UINT_MAX, fail, fixup_radix, parse_integer, ulong_max
from mmfs.kernfs.node import Attribute
from mmfs.kernfs.rules import Page

T = TypeVar("T")
HZ: Final = 250
_SPACES: Final = b" \t\n\v\f\r\xa0"
"""Linux: lib/ctype.c; 0xa0 counts as white space."""
_SEPARATORS: Final = b" \t\n"
_LONGEST: Final = 21


def skip_spaces(buf: bytes, start: int) -> int:
    """Where the next byte stands that is no white space."""
    while start < len(buf) and buf[start] in _SPACES:
        start += 1
    return start


def proc_get_long(buf: bytes, start: int) -> tuple[bool, int, int]:
    """A number at `start`: whether a minus stood before it, its magnitude, and where it ends.

    Linux: kernel/sysctl.c, proc_get_long().
    """
    left = len(buf) - start
    text = buf[start : start + _LONGEST].partition(b"\0")[0].decode("latin-1")
    negative = text.startswith("-") and left > 1
    first = 1 if negative else 0
    if not ("0" <= text[first : first + 1] <= "9"):
        fail(errno.EINVAL)
    base, digits = fixup_radix(text, first, 0)
    value, end = parse_integer(text, digits, base)
    if value > ulong_max() or end == _LONGEST:
        fail(errno.EINVAL)
    if end < left and buf[start + end] not in _SEPARATORS:
        fail(errno.EINVAL)
    return negative, value, start + end


class Parser(ABC):
    """How the text of a sysctl becomes numbers and back; `one_read` as in Attribute."""

    one_read = True

    @abstractmethod
    def show(self, value: Any) -> str:
        """The text of a value."""

    @abstractmethod
    def store(self, value: Any, buf: str, offset: int, assign: Callable[[Any], None]) -> int:
        """Read one write(2), call `assign` with the new value as soon as it is known, return the bytes taken."""


class _Vector(Parser):
    """Numbers separated by tabs."""

    def __init__(self, low: int | None = None, high: int | None = None) -> None:
        self.low = low
        self.high = high

    @abstractmethod
    def to_value(self, negative: bool, magnitude: int) -> int:
        """The value for what was written; EINVAL if it does not fit the type."""

    def from_value(self, value: int) -> int:
        """What is printed for a value."""
        return value

    def show(self, value: Any) -> str:
        values = value if isinstance(value, list) else [value]
        return "\t".join(str(self.from_value(int(one))) for one in values) + "\n"

    def checked(self, negative: bool, magnitude: int) -> int:
        """The value, within the bounds."""
        value = self.to_value(negative, magnitude)
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            fail(errno.EINVAL)
        return value

    def store(self, value: Any, buf: str, offset: int, assign: Callable[[Any], None]) -> int:
        """Linux: kernel/sysctl.c, __do_proc_dointvec()."""
        raw = buf.encode("utf-8", "surrogateescape")
        if not raw or offset:
            return len(raw)
        text = raw[: Page.size - 1]
        old: list[int] = list(value) if isinstance(value, list) else [value]
        new = list(old)
        at = 0
        read = 0
        try:
            while read < len(new) and at < len(text):
                at = skip_spaces(text, at)
                if at == len(text):
                    break
                negative, magnitude, at = proc_get_long(text, at)
                new[read] = self.checked(negative, magnitude)
                read += 1
        finally:
            if read:
                assign(new if isinstance(value, list) else new[0])
        if not read:
            fail(errno.EINVAL)
        return len(raw) - (len(text) - skip_spaces(text, at))


class proc_dointvec(_Vector):
    """ints.

    Linux: kernel/sysctl.c, proc_dointvec().
    """

    def to_value(self, negative: bool, magnitude: int) -> int:
        if magnitude > INT_MAX + negative:
            fail(errno.EINVAL)
        return -magnitude if negative else magnitude


class proc_dointvec_minmax(proc_dointvec):
    """ints within bounds.

    Linux: kernel/sysctl.c, proc_dointvec_minmax().
    """


class proc_doulongvec_minmax(_Vector):
    """unsigned longs within bounds; no minus, not even before a 0.

    An upper bound that depends on how wide a long is is a function.

    Linux: kernel/sysctl.c, proc_doulongvec_minmax().
    """

    def __init__(self, low: int | None = None, high: int | Callable[[], int] | None = None) -> None:
        super().__init__(low, None if callable(high) else high)
        self.high_of_long = high if callable(high) else None

    def checked(self, negative: bool, magnitude: int) -> int:
        if self.high_of_long is not None and magnitude > self.high_of_long():
            fail(errno.EINVAL)
        return super().checked(negative, magnitude)

    def to_value(self, negative: bool, magnitude: int) -> int:
        if negative:
            fail(errno.EINVAL)
        return magnitude


class proc_dointvec_jiffies(proc_dointvec):
    """Seconds outside, jiffies inside.

    Linux: kernel/sysctl.c, proc_dointvec_jiffies().
    """

    def __init__(self, low: int | None = None, high: int | None = None, hz: int = HZ) -> None:
        super().__init__(low, high)
        self.hz = hz

    def to_value(self, negative: bool, magnitude: int) -> int:
        if magnitude > INT_MAX // self.hz:
            fail(errno.EINVAL)
        return (-magnitude if negative else magnitude) * self.hz

    def from_value(self, value: int) -> int:
        return -(-value // self.hz) if value < 0 else value // self.hz


class proc_douintvec(_Vector):
    """One unsigned int; all that is written counts as taken, whatever follows the number.

    Linux: kernel/sysctl.c, do_proc_douintvec_w().
    """

    def to_value(self, negative: bool, magnitude: int) -> int:
        if negative or magnitude > UINT_MAX:
            fail(errno.EINVAL)
        return magnitude

    def store(self, value: Any, buf: str, offset: int, assign: Callable[[Any], None]) -> int:
        super().store(value, buf, offset, assign)
        return len(buf.encode("utf-8", "surrogateescape"))


class proc_douintvec_minmax(proc_douintvec):
    """One unsigned int within bounds.

    Linux: kernel/sysctl.c, proc_douintvec_minmax().
    """


class proc_dou8vec_minmax(proc_douintvec):
    """One byte within bounds.

    Linux: kernel/sysctl.c, proc_dou8vec_minmax().
    """

    def __init__(self, low: int = 0, high: int = 255) -> None:
        super().__init__(low, high)


class proc_dobool(proc_dointvec):
    """Any int; what is not 0 is 1.

    Linux: kernel/sysctl.c, proc_dobool().
    """

    def to_value(self, negative: bool, magnitude: int) -> int:
        return int(super().to_value(negative, magnitude) != 0)


class proc_dostring(Parser):
    """A line of text of less than `maxlen` bytes; a write at a position inside it goes on from there.

    Linux: kernel/sysctl.c, _proc_do_string() with sysctl_writes_strict.
    """

    one_read = False

    def __init__(self, maxlen: int) -> None:
        self.maxlen = maxlen

    def show(self, value: Any) -> str:
        return f"{value}\n"

    def store(self, value: Any, buf: str, offset: int, assign: Callable[[Any], None]) -> int:
        taken = len(buf.encode("utf-8", "surrogateescape"))
        if not taken or offset > len(value):
            return taken
        line = buf.partition("\0")[0].partition("\n")[0]
        assign((value[:offset] + line)[: self.maxlen - 1])
        return taken


def sysctl(
    name: str,
    parser: Parser,
    *,
    field: str | None = None,
    get: Callable[[T], Any] | None = None,
    set: Callable[[T, Any], object] | None = None,
    after: Callable[[T, Any], object] | None = None,
    mode: int = 0o644,
    needs: Callable[[T], bool] | None = None,
    open: Callable[[T, Any], object] | None = None,
) -> Attribute[T]:
    """A row of a table of sysctls: a file for `field` (the name with _ for -), an int or a list of ints or a text.

    `get` and `set` stand in for a plain field. `after(obj, old)` runs after every write that was read without an error,
    as the rest of a handler in Linux does: it makes what follows from the value, or refuses with OSError after having
    restored `old`.
    """
    attribute = field or name.replace("-", "_")

    def load(obj: T) -> Any:
        return getattr(obj, attribute) if get is None else get(obj)

    def save(obj: T, value: Any) -> None:
        if set is None:
            setattr(obj, attribute, value)
        else:
            set(obj, value)

    def show(obj: T) -> str:
        return parser.show(load(obj))

    def store(obj: T, buf: str, *, offset: int) -> int:
        old = load(obj)
        taken = parser.store(old, buf, offset, lambda value: save(obj, value))
        if after is not None:
            after(obj, old)
        return taken

    return Attribute(
        name,
        show if mode & 0o444 else None,
        store if mode & 0o222 else None,
        mode=mode,
        needs=needs,
        open=open,
        one_read=parser.one_read,
        wants_offset=True,
    )
