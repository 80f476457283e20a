"""Numbers and words as the kernel reads them from a write(2).

A store gets the bytes of one write as a string. To the kernel they are a C string: it ends at the first NUL,
and a single newline before the end does not count. The functions here return the value or raise OSError with the
errno the write(2) then has: EINVAL for what is no number, ERANGE for one that does not fit its type.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Final, NoReturn

ULLONG_MAX: Final = 2**64 - 1
UINT_MAX: Final = 2**32 - 1
INT_MAX: Final = 2**31 - 1


class Long:
    """How wide a long is for whoever writes: a tree's guard says so before each write. Linux: BITS_PER_LONG."""

    bits = 64


def ulong_max() -> int:
    """The largest unsigned long."""
    return (1 << Long.bits) - 1


def long_max() -> int:
    """The largest long."""
    return ulong_max() >> 1


_DIGITS: Final = {char: value for value, char in enumerate("0123456789abcdef")} | {
    char: value for value, char in enumerate("ABCDEF", 10)
}


def fail(number: int) -> NoReturn:
    """Raise OSError with an errno and its text."""
    raise OSError(number, os.strerror(number))


def c_string(buf: str) -> str:
    """What a C function sees of a buffer: all before the first NUL."""
    end = buf.find("\0")
    return buf if end < 0 else buf[:end]


def fixup_radix(text: str, start: int, base: int) -> tuple[int, int]:
    """Choose the base by its prefix if it is 0, and step over 0x; returns (base, start).

    Linux: lib/kstrtox.c, _parse_integer_fixup_radix().
    """
    prefix = text[start : start + 2] in ("0x", "0X")
    if base == 0:
        if text[start : start + 1] != "0":
            base = 10
        else:
            base = 16 if prefix and text[start + 2 : start + 3] in _DIGITS else 8
    if base == 16 and prefix:
        start += 2
    return base, start


def parse_integer(text: str, start: int, base: int) -> tuple[int, int]:
    """The number whose digits begin at `start` and where they end; may exceed any type.

    Linux: lib/kstrtox.c, _parse_integer().
    """
    value = 0
    end = start
    for char in text[start:]:
        digit = _DIGITS.get(char, 16)
        if digit >= base:
            break
        value = value * base + digit
        end += 1
    return value, end


def _kstrtoull(text: str, start: int, base: int) -> int:
    base, start = fixup_radix(text, start, base)
    value, end = parse_integer(text, start, base)
    if value > ULLONG_MAX:
        fail(errno.ERANGE)
    if end == start or text[end:] not in ("", "\n"):
        fail(errno.EINVAL)
    return value


def kstrtoull(buf: str, base: int = 0) -> int:
    """An unsigned 64-bit number; a plus sign may stand before it, a minus sign or blanks may not.

    Linux: lib/kstrtox.c, kstrtoull().
    """
    text = c_string(buf)
    return _kstrtoull(text, 1 if text.startswith("+") else 0, base)


def kstrtoll(buf: str, base: int = 0) -> int:
    """A signed 64-bit number.

    Linux: lib/kstrtox.c, kstrtoll().
    """
    text = c_string(buf)
    if text.startswith("-"):
        value = -_kstrtoull(text, 1, base)
        if value < -(2**63):
            fail(errno.ERANGE)
        return value
    return _within(kstrtoull(text, base), 0, 2**63 - 1)


def _within(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        fail(errno.ERANGE)
    return value


def kstrtoul(buf: str, base: int = 0) -> int:
    """An unsigned long.

    Linux: lib/kstrtox.c, kstrtoul().
    """
    return _within(kstrtoull(buf, base), 0, ulong_max())


def kstrtol(buf: str, base: int = 0) -> int:
    """A long.

    Linux: lib/kstrtox.c, kstrtol().
    """
    return _within(kstrtoll(buf, base), -long_max() - 1, long_max())


def kstrtouint(buf: str, base: int = 0) -> int:
    """An unsigned int.

    Linux: lib/kstrtox.c, kstrtouint().
    """
    return _within(kstrtoull(buf, base), 0, UINT_MAX)


def kstrtoint(buf: str, base: int = 0) -> int:
    """An int.

    Linux: lib/kstrtox.c, kstrtoint().
    """
    return _within(kstrtoll(buf, base), -INT_MAX - 1, INT_MAX)


def kstrtou8(buf: str, base: int = 0) -> int:
    """An unsigned char.

    Linux: lib/kstrtox.c, kstrtou8().
    """
    return _within(kstrtoull(buf, base), 0, 255)


def kstrtobool(buf: str) -> bool:
    """Yes or no by the first letter: y t 1 on, n f 0 off; what follows does not matter.

    Linux: lib/kstrtox.c, kstrtobool().
    """
    first = buf[:1]
    if first and first in "yYtT1":
        return True
    if first and first in "nNfF0":
        return False
    word = buf[:2].lower()
    if word == "on":
        return True
    if word == "of":
        return False
    fail(errno.EINVAL)


def memparse(buf: str) -> tuple[int, str]:
    """A size with an optional suffix K M G T P E, and the text that follows it; wraps at 64 bits.

    Linux: lib/cmdline.c, memparse().
    """
    text = c_string(buf)
    base, start = fixup_radix(text, 0, 0)
    value, end = parse_integer(text, start, base)
    suffix = text[end : end + 1].upper()
    if suffix and suffix in "KMGTPE":
        value <<= 10 * ("KMGTPE".index(suffix) + 1)
        end += 1
    return value & ULLONG_MAX, text[end:]


def sysfs_streq(left: str, right: str) -> bool:
    """Whether two strings are the same, one newline at the end aside.

    Linux: lib/string_helpers.c, sysfs_streq().
    """
    left, right = c_string(left), c_string(right)
    return left == right or left + "\n" == right or left == right + "\n"


def sysfs_match_string(strings: Sequence[str], buf: str) -> int:
    """The index of the word that was written; EINVAL if it is none of them.

    Linux: lib/string_helpers.c, __sysfs_match_string().
    """
    for index, string in enumerate(strings):
        if sysfs_streq(string, buf):
            return index
    fail(errno.EINVAL)


match_string = sysfs_match_string
