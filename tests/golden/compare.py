"""Compare a file of ours with what a real kernel printed: numbers masked, every other byte compared.

Two masks, because printf(3) has two ways with a number:

- ``columns``: right-aligned numbers (``%8lu``). A number and the blanks before it become one run of ``#`` of
  the same total width, so a column must end where it ended, whatever the digits.
- ``words``: free numbers (``%lu``). A number becomes one ``#``; blanks are compared as they are.

Only a number that stands alone is masked. Digits inside a name (``DirectMap4k``, ``cpu0``, ``pgalloc_dma32``) are
part of the name and must agree. A fraction keeps its number of decimals. ``addresses`` masks hexadecimal
runs at the same width.

The comparison is of whole files, never of a subset: order, blanks, a missing or superfluous line, the last
newline all count. ``assert_rows`` is for tables whose rows depend on the machine (slab caches,
disks): every row that both have must agree and stand in the same order, and the header too.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

Mask = Callable[[str], str]

_NUMBER = r"(?:(?<=[\s])-)?(?<![\w.])\d+(?:\.\d+)?(?!\w)"
_FREE = re.compile(_NUMBER)
_ALIGNED = re.compile(rf"[ ]*{_NUMBER}")
_HEX = re.compile(r"(?<![\w])[0-9a-f]{8,16}(?!\w)")


def exact(text: str) -> str:
    """No mask at all."""
    return text


def words(text: str) -> str:
    """Mask free numbers: one token each, decimals kept."""

    def token(match: re.Match[str]) -> str:
        _, point, decimals = match.group().partition(".")
        return "#" + point + "#" * len(decimals)

    return _FREE.sub(token, text)


def columns(text: str) -> str:
    """Mask right-aligned numbers: the blanks before belong to the field, the width stays."""
    return _ALIGNED.sub(lambda match: "#" * len(match.group()), text)


def addresses(text: str) -> str:
    """Mask hexadecimal addresses at the same width."""
    return _HEX.sub(lambda match: "#" * len(match.group()), text)


def only(pattern: str, mask: Mask) -> Mask:
    """Mask inside the matches of a pattern only (multi-line); the rest is compared as it is."""
    compiled = re.compile(pattern, re.MULTILINE)
    return lambda text: compiled.sub(lambda match: mask(match.group()), text)


def each(*masks: Mask) -> Mask:
    """Masks one after the other."""

    def chained(text: str) -> str:
        for mask in masks:
            text = mask(text)
        return text

    return chained


def _text(data: bytes | str) -> str:
    return data.decode() if isinstance(data, bytes) else data


def difference(ours: bytes | str, golden: bytes | str, mask: Mask, name: str = "golden") -> str:
    """A unified diff of the masked texts; empty when they agree to the last byte."""
    left, right = mask(_text(golden)), mask(_text(ours))
    if left == right:
        return ""
    # Blanks at the end of a line and a missing last newline must show.
    shown = [[repr(line)[1:-1] for line in text.splitlines(keepends=True)] for text in (left, right)]
    return "\n".join(difflib.unified_diff(*shown, fromfile=name, tofile="mmfs", lineterm="", n=1))


def assert_layout(ours: bytes | str, golden: bytes | str, mask: Mask, name: str = "golden") -> None:
    """Every byte but the masked numbers agrees."""
    diff = difference(ours, golden, mask, name)
    assert not diff, f"layout differs from {name}:\n{diff}"


def assert_rows(
    ours: bytes | str,
    golden: bytes | str,
    mask: Mask,
    key: Callable[[str], str],
    *,
    header: int = 0,
    at_least: int = 1,
    name: str = "golden",
) -> None:
    """The header, every row that both have, and the order of those agree; there are some of them."""
    left, right = (_text(text).splitlines(keepends=True) for text in (golden, ours))
    assert_layout("".join(right[:header]), "".join(left[:header]), exact, name)
    known = {key(line): line for line in left[header:]}
    mine = {key(line): line for line in right[header:]}
    assert len(mine) == len(right) - header, "a row is printed twice"
    assert set(mine) & set(known), f"no row in common with {name}: ours {list(mine)}"
    shared = [word for word in known if word in mine]
    assert len(shared) >= at_least, f"{len(shared)} rows in common with {name}, {at_least} wanted: ours {list(mine)}"
    assert_layout(
        "".join(line for word, line in mine.items() if word in known),
        "".join(known[word] for word in shared),
        mask,
        name,
    )
