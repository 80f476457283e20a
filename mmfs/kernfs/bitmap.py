"""Sets of small numbers as text: the masks and lists of cpumap, cpulist, Cpus_allowed.

Linux: lib/vsprintf.c, bitmap_string(), bitmap_list_string().
"""

from __future__ import annotations

from collections.abc import Iterable


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
