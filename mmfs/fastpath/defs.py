"""The constants of ``mm_types`` for the compiled loops.

Uncompiled, the loops see the Python values below. Compiled, they see ``defs.pxd``, which this module
writes: ``MMFS_PURE=1 python -m mmfs.fastpath.defs > mmfs/fastpath/defs.pxd``. What depends on the size of a page stands
there for each, and the C compiler takes those of the ``MMFS_PAGE_SHIFT`` that it was told: one translation to C serves
all page sizes.
"""

import os
import runpy
from enum import IntEnum

from mmfs import mm_types


def _constants(module: dict[str, object]) -> dict[str, int]:
    values: dict[str, int] = {}
    for name, value in module.items():
        if name.isupper() and isinstance(value, int):
            values[name] = value
        elif isinstance(value, type) and issubclass(value, IntEnum) and value is not IntEnum:
            values.update({item.name: int(item) for item in value})
    return values


CONSTANTS = _constants(vars(mm_types))
globals().update(CONSTANTS)


def address(record):  # type: ignore[no-untyped-def]
    """What stands for `cython.address` uncompiled: an array's record is a reference already."""
    return record


def by_page_size() -> dict[int, dict[str, int]]:
    """All constants for each page shift."""
    before, found = os.environ.get("MMFS_PAGE_SIZE", ""), {}
    for name, shift in mm_types.PAGE_SHIFTS.items():
        os.environ["MMFS_PAGE_SIZE"] = name
        found[shift] = _constants(runpy.run_path(mm_types.__file__))
    os.environ["MMFS_PAGE_SIZE"] = before
    return found


def _narrow(value: int) -> bool:
    """Whether it fits an int."""
    return -(1 << 31) <= value < 1 << 31


def _defines(constants: dict[str, int], names: list[str]) -> str:
    """Macros, with unsigned literals for wide masks."""
    lines = []
    for name in names:
        value = constants[name]
        literal = f"({value})" if value < 0 else f"{value}" if _narrow(value) else f"{value:#x}ULL"
        lines.append(f"    #define MMFS_{name} {literal}\n")
    return "".join(lines)


def render() -> str:
    """The text of defs.pxd: an anonymous enum for what fits an int in all, macros for wide masks and what differs."""
    sizes = by_page_size()
    first, *others = sizes
    constants = sizes[first]
    differing = [name for name in constants if any(sizes[other][name] != constants[name] for other in others)]
    wide = [name for name in constants if not all(_narrow(sizes[shift][name]) for shift in sizes)]
    plain = [name for name in constants if name not in differing and name not in wide]
    text = "# Written by MMFS_PURE=1 python -m mmfs.fastpath.defs from mm_types.py; do not edit.\n"
    text += "cdef enum:\n" + "".join(f"    {name} = {constants[name]}\n" for name in plain)
    text += '\ncdef extern from *:\n    """\n' + _defines(constants, [name for name in wide if name not in differing])
    for shift in sizes:
        text += f"    #{'if' if shift == first else 'elif'} MMFS_PAGE_SHIFT == {shift}\n"
        text += _defines(sizes[shift], differing)
    text += '    #else\n    #error "MMFS_PAGE_SHIFT is no page shift"\n    #endif\n    """\n    enum:\n'
    text += "".join(f'        {name} "MMFS_{name}"\n' for name in differing if name not in wide)
    return text + "".join(f'    const unsigned long {name} "MMFS_{name}"\n' for name in wide)


if __name__ == "__main__":
    print(render(), end="")
