"""Sizes as users write and read them: 8G, 8GB, 1.5G. All units are powers of 1024."""

from __future__ import annotations

import re

KB, MB, GB, TB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

_SIZE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)([kmgtp]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_UNITS = {"": 1, "k": KB, "m": MB, "g": GB, "t": TB, "p": 1 << 50}


def parse_size(text: str | int, what: str = "size") -> int:
    """Bytes of a size such as 8G, 8GB, 512M, 1.5G or a number of bytes (units are powers of 1024)."""
    if isinstance(text, bool) or not isinstance(text, (str, int)):
        raise ValueError(f"{what}: expected a size such as 8G or 512M, not {text!r}")
    if isinstance(text, int):
        value = text
    else:
        match = _SIZE.fullmatch(text.strip())
        if match is None:
            joined = "".join(text.split())
            instead = joined if _SIZE.fullmatch(joined) else "8G, 512M, 1.5G"
            raise ValueError(f"{what}: {text!r} is not a size (write {instead})")
        number, unit = match[1], _UNITS[match[2].lower()]
        if "." in number and unit == 1:
            raise ValueError(f"{what}: {text!r} is not a whole number of bytes")
        whole, _, fraction = number.partition(".")
        value = int(whole or "0") * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
    if value <= 0:
        raise ValueError(f"{what}: {text!r} is not a size above zero")
    return value


def format_size(value: int) -> str:
    """A size as a user would write it: 8G, 1536M, 5000K."""
    for unit, letter in ((TB, "T"), (GB, "G"), (MB, "M"), (KB, "K")):
        if value >= unit and value % unit == 0:
            return f"{value // unit}{letter}"
    return str(value)
