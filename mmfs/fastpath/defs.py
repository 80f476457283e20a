"""The constants of ``mm_types`` for the compiled loops.

Uncompiled, the loops see the Python values below. Compiled, they see ``defs.pxd``, which this module
writes: ``MMFS_PURE=1 python -m mmfs.fastpath.defs > mmfs/fastpath/defs.pxd``.
"""

from enum import IntEnum

from mmfs import mm_types


def _constants() -> dict[str, int]:
    values: dict[str, int] = {}
    for name, value in vars(mm_types).items():
        if name.isupper() and isinstance(value, int):
            values[name] = value
        elif isinstance(value, type) and issubclass(value, IntEnum) and value is not IntEnum:
            values.update({item.name: int(item) for item in value})
    return values


CONSTANTS = _constants()
globals().update(CONSTANTS)


def address(record):  # type: ignore[no-untyped-def]
    """What stands for `cython.address` uncompiled: an array's record is a reference already."""
    return record


def render() -> str:
    """The text of defs.pxd: an anonymous enum for what fits an int, unsigned literals for wide masks."""
    narrow = [f"    {name} = {value}" for name, value in CONSTANTS.items() if -(1 << 31) <= value < 1 << 31]
    wide = [
        f'cdef extern from *:\n    """\n    #define {name} {value & (1 << 64) - 1:#x}ULL\n    """\n'
        f"    const unsigned long {name}\n"
        for name, value in CONSTANTS.items()
        if not -(1 << 31) <= value < 1 << 31
    ]
    head = "# Written by MMFS_PURE=1 python -m mmfs.fastpath.defs from mm_types.py; do not edit.\n"
    return head + "cdef enum:\n" + "\n".join(narrow) + "\n\n" + "\n".join(wide)


if __name__ == "__main__":
    print(render(), end="")
