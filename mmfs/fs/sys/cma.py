"""/sys/kernel/mm/cma and /sys/kernel/debug/cma: contiguous memory areas, and runs of pages taken from them by hand.

Linux: mm/cma_sysfs.c, mm/cma_debug.c.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from mmfs.fs.sys.debug import debug
from mmfs.fs.sys.root import DIRECTORY, facts, mm
from mmfs.kernfs import Directory, Text, fail
from mmfs.kernfs.kstrtox import kstrtoull
from mmfs.mm.cma import Cma
from mmfs.profile import config

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


def names(kernel: Kernel) -> list[str]:
    """The areas."""
    return [cma.name for cma in kernel.cma_areas]


def find(kernel: Kernel, name: str) -> Cma | None:
    """An area by its name."""
    return next((cma for cma in kernel.cma_areas if cma.name == name), None)


counts: Directory[Cma] = mm.directory("cma", mode=DIRECTORY, needs=config("CMA_SYSFS")).family(
    list=names, lookup=find, mode=DIRECTORY
)
facts(counts, {
    "alloc_pages_success": lambda cma: cma.nr_pages_succeeded,
    "alloc_pages_fail": lambda cma: cma.nr_pages_failed,
    "release_pages_success": lambda cma: cma.nr_pages_released,
})  # fmt: skip

area: Directory[Cma] = debug.directory("cma", mode=DIRECTORY, needs=config("CMA_DEBUGFS")).family(
    list=names, lookup=find, mode=DIRECTORY
)


def _pages(buf: str) -> int:
    """A number that becomes an int of 32 bits. Linux: debugfs_attr_write(), and `int pages = val`."""
    value = kstrtoull(buf, 0) & 0xFFFF_FFFF
    return value - (1 << 32) if value >> 31 else value


def unreadable(_: Cma) -> NoReturn:
    """Only written. EACCES. Linux: fs/libfs.c, simple_attr_read()."""
    fail(errno.EACCES)


def alloc_write(cma: Cma, buf: str) -> None:
    """Take so many pages in a row. ENOMEM: there are none. Linux: cma_alloc_write()."""
    cma.alloc_mem(_pages(buf))


def free_write(cma: Cma, buf: str) -> None:
    """Give so many pages back of what was taken here. Linux: cma_free_write()."""
    cma.free_mem(_pages(buf))


def bitmap_show(cma: Cma) -> str:
    """Which pages are taken, as numbers of 32 bits. Linux: debugfs_create_u32_array()."""
    bits = np.packbits(cma.bitmap, bitorder="little").tobytes()
    words = np.frombuffer(bits + bytes(-len(bits) % 4), "<u4")
    return " ".join(map(str, words.tolist())) + "\n"


area.attributes("alloc", unreadable, alloc_write, mode=0o200)
area.attributes("free", unreadable, free_write, mode=0o200)
_SHOWN: dict[str, Callable[[Cma], Text]] = {
    "base_pfn": lambda cma: cma.base_pfn,
    "count": lambda cma: cma.count,
    "order_per_bit": lambda cma: cma.order_per_bit,
    "used": lambda cma: cma.used,
    "maxchunk": lambda cma: cma.maxchunk,
    "bitmap": bitmap_show,
}
for _name, _show in _SHOWN.items():
    area.attributes(_name, _show, mode=0o444)
