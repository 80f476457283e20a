"""/proc: the directory that every file of procfs hangs on.

Linux: fs/proc/root.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.kernfs import PROC, Directory
from mmfs.kernfs.node import Family, Node

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

proc: Directory[Kernel] = Directory(mode=0o555, rules=PROC)


def sort_entries() -> None:
    """List names as readdir(2) of /proc does: by length and letters, then who looks, then processes."""
    late = ("self", "thread-self")

    def place(node: Node[Kernel] | Family[Kernel, object]) -> tuple[int, int, str]:
        if isinstance(node, Family):
            return 2, 0, ""
        return int(node.name in late), len(node.name), node.name

    proc.content.sort(key=place)
