"""/proc/swaps: the swap areas in use.

Linux: mm/swapfile.c, swap_show(); fs/seq_file.c, mangle_path().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.swapfile import SwapInfoStruct

HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
NAME_WIDTH = 40
WIDE = 10_000_000


def mangle_path(path: str, escaped: str) -> str:
    """Characters that would break a row, as octal escapes."""
    return "".join([f"\\{ord(char):03o}" if char in escaped else char for char in path])


@proc.attribute("swaps")
def swaps(kernel: Kernel) -> str:
    """A row an area: its file, kind, size and use in kilobytes, priority."""
    return HEADER + "".join([swap_show(area) for area in kernel.swap_info])


def swap_show(area: SwapInfoStruct) -> str:
    """One row. Columns are made of tabs, a second one for short numbers."""
    path = mangle_path(area.file, " \t\n\\")
    padding = max(NAME_WIDTH - len(path), 1)
    kind = "partition" if area.type == "partition" else "file\t"
    return (
        f"{path}{' ' * padding}{kind}\t{area.size}\t{tab(area.size)}{area.used}\t{tab(area.used)}{area.prio}\n"
    )


def tab(number: int) -> str:
    """What keeps the next column in place."""
    return "\t" if number < WIDE else ""
