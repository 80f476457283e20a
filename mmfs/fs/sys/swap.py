"""/sys/kernel/mm/swap: how pages are read along when one is swapped in.

Linux: mm/swap_state.c, swap_attrs[].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.sys.root import DIRECTORY, mm
from mmfs.kernfs import kstrtobool

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

swap = mm.directory("swap", mode=DIRECTORY)


@swap.attribute("vma_ra_enabled")
def vma_ra_enabled(kernel: Kernel) -> str:
    """Whether neighbours in the address space are read along, if all areas are on disks without seek times."""
    return "true\n" if kernel.mmu.swap_state.enable_vma_readahead else "false\n"


@vma_ra_enabled.store
def vma_ra_enabled_store(kernel: Kernel, buf: str) -> None:
    """Linux: vma_ra_enabled_store()."""
    kernel.mmu.swap_state.enable_vma_readahead = kstrtobool(buf)
