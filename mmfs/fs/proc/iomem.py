"""/proc/iomem and /proc/ioports: which physical addresses and ports are whose.

Linux: kernel/resource.c, r_show().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernfs import Caller
    from mmfs.mm.resource import Resource

MAX_IORES_LEVEL = 5


def resources(root: Resource, caller: Caller) -> str:
    """The tree below a root, indented; addresses are for root only."""
    width = 4 if root.end < 0x10000 else 8
    shown = caller.uid == 0
    lines = []
    for depth, resource in root.walk():
        start, end = (resource.start, resource.end) if shown else (0, 0)
        indent = "  " * min(depth, MAX_IORES_LEVEL)
        lines.append(f"{indent}{start:0{width}x}-{end:0{width}x} : {resource.name}\n")
    return "".join(lines)


@proc.attribute("iomem", wants_caller=True)
def iomem(kernel: Kernel, caller: Caller) -> str:
    """Physical addresses."""
    return resources(kernel.memblock.iomem, caller)


@proc.attribute("ioports", wants_caller=True)
def ioports(kernel: Kernel, caller: Caller) -> str:
    """I/O ports."""
    return resources(kernel.ioports, caller)
