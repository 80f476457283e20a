"""Sets of small numbers as text: the masks and lists of cpumap, cpulist, Cpus_allowed.

Linux: lib/vsprintf.c, bitmap_string(), bitmap_list_string(); lib/bitmap-str.c, bitmap_parselist().
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from typing import Final

from mmfs.kernfs.kstrtox import fail

REGION: Final = re.compile(r"(\d+|N)(?:-(\d+|N)(?::(\d+)/(\d+))?)?", re.ASCII)


def bitmap_mask(members: Iterable[int], nr_bits: int) -> str:
    """Hex digits in groups of 32 bits from the highest, as %*pb prints them."""
    value = 0
    for member in members:
        value |= 1 << member
    groups = -(-nr_bits // 32)
    first = nr_bits - 32 * (groups - 1)
    text = [f"{value >> 32 * i & 0xFFFF_FFFF:08x}" for i in range(groups - 1, -1, -1)]
    text[0] = text[0][8 - -(-first // 4) :]
    return ",".join(text)


def bitmap_list(members: Iterable[int]) -> str:
    """Ranges such as 0-3,8, as %*pbl prints them; empty for none."""
    ranges: list[list[int]] = []
    for member in sorted(members):
        if ranges and ranges[-1][1] == member - 1:
            ranges[-1][1] = member
        else:
            ranges.append([member, member])
    return ",".join(f"{a}-{b}" if a != b else f"{a}" for a, b in ranges)


def bitmap_parselist(buf: str, nr_bits: int) -> frozenset[int]:
    """The members of a list such as 0-3,8 or 0-15:2/4, parted by commas or blanks; N is the last bit.

    EINVAL: no list; ERANGE: a bit beyond the last. Linux: lib/bitmap-str.c, bitmap_parselist().
    """
    members: set[int] = set()
    for word in re.split(r"[,\s]+", buf):
        if not word:
            continue
        match = REGION.fullmatch("0-N" if word == "all" else word)
        if match is None:
            fail(errno.EINVAL)
        first, last = (nr_bits - 1 if text == "N" else int(text) for text in (match[1], match[2] or match[1]))
        used, group = (int(match[3]), int(match[4])) if match[4] else (1, 1)
        if first > last or not group or used > group:
            fail(errno.EINVAL)
        if last >= nr_bits:
            fail(errno.ERANGE)
        members.update(bit for bit in range(first, last + 1) if (bit - first) % group < used)
    return frozenset(members)
