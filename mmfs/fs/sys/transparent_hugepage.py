"""/sys/kernel/mm/transparent_hugepage: who gets huge pages, how hard a fault tries for one, what has come of it.

Linux: mm/huge_memory.c, hugepage_attr[], anon_ctrl_attrs[], stats_attrs[]; mm/khugepaged.c, khugepaged_attr[];
mm/shmem.c, shmem_enabled_store().
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from mmfs.fs.sys.root import DIRECTORY, mm
from mmfs.kernfs import Directory, fail
from mmfs.kernfs.kstrtox import kstrtoul
from mmfs.mm.huge_memory import (
    ANON_MODES,
    ANON_ORDERS,
    DEFRAG,
    ENABLED,
    TransparentHugepage,
)
from mmfs.mm.khugepaged import Khugepaged
from mmfs.mm.shmem_huge import SHMEM_ENABLED, SHMEM_MODES, SHMEM_ORDERS
from mmfs.mm_types import HPAGE_PMD_NR, HPAGE_PMD_SIZE, PAGE_SHIFT, MthpStatItem
from mmfs.profile import Needs, since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

_SIZE_SHIFT = PAGE_SHIFT - 10
UINT_MAX = (1 << 32) - 1
ORDERS: Final = sorted({*ANON_ORDERS, *SHMEM_ORDERS})
"""Every size that there is for something. Linux: THP_ORDERS_ALL_ANON | THP_ORDERS_ALL_FILE_DEFAULT."""

transparent_hugepage: Directory[TransparentHugepage] = Directory(mode=DIRECTORY)
mm.mount("transparent_hugepage", transparent_hugepage, obj=lambda kernel: kernel.thp)


def choice(words: tuple[str, ...], current: str) -> str:
    """All words, the one that holds in brackets."""
    return " ".join(f"[{word}]" if word == current else word for word in words) + "\n"


def chosen(words: tuple[str, ...], buf: str) -> str:
    """The word that was written, with or without a newline. Linux: sysfs_streq()."""
    word = buf.split("\0", 1)[0].removesuffix("\n")
    if word not in words:
        fail(errno.EINVAL)
    return word


def flag_attribute(
    directory: Directory[TransparentHugepage],
    name: str,
    attribute: str,
    changed: Callable[[TransparentHugepage], None],
    needs: Needs | None = None,
) -> None:
    """A file of 0 or 1. Linux: single_hugepage_flag_store()."""

    def show(thp: TransparentHugepage) -> int:
        return int(getattr(thp, attribute))

    def store(thp: TransparentHugepage, buf: str) -> None:
        value = kstrtoul(buf, 10)
        if value > 1:
            fail(errno.EINVAL)
        setattr(thp, attribute, bool(value))
        changed(thp)

    directory.attributes(name, show, store, needs=needs)


@transparent_hugepage.attribute("enabled")
def enabled(thp: TransparentHugepage) -> str:
    """For whom the sizes that inherit are enabled."""
    return choice(ENABLED, thp.enabled)


@enabled.store
def enabled_store(thp: TransparentHugepage, buf: str) -> None:
    """Linux: enabled_store()."""
    thp.set_enabled(chosen(ENABLED, buf))


@transparent_hugepage.attribute("defrag")
def defrag(thp: TransparentHugepage) -> str:
    """How hard a fault tries."""
    return choice(DEFRAG, thp.defrag)


@defrag.store
def defrag_store(thp: TransparentHugepage, buf: str) -> None:
    """Linux: defrag_store()."""
    thp.defrag = chosen(DEFRAG, buf)
    thp.apply()


@transparent_hugepage.attribute("shmem_enabled")
def shmem_enabled(thp: TransparentHugepage) -> str:
    """For which mounts of shared memory that has none of its own rule."""
    return choice(SHMEM_ENABLED, thp.kernel.shmem_huge.enabled)


@shmem_enabled.store
def shmem_enabled_store(thp: TransparentHugepage, buf: str) -> None:
    """Linux: shmem_enabled_store()."""
    thp.kernel.shmem_huge.set_enabled(chosen(SHMEM_ENABLED, buf))


@transparent_hugepage.attribute("hpage_pmd_size")
def hpage_pmd_size(thp: TransparentHugepage) -> int:
    """Bytes of the largest of them."""
    return HPAGE_PMD_SIZE


flag_attribute(transparent_hugepage, "use_zero_page", "use_zero_page", TransparentHugepage.apply)
flag_attribute(transparent_hugepage, "shrink_underused", "shrink_underused", TransparentHugepage.apply, since(6, 12))


class Size(NamedTuple):
    """One size of huge pages."""

    thp: TransparentHugepage
    order: int

    @property
    def kernel(self) -> Kernel:
        """Whose it is."""
        return self.thp.kernel


def _names(thp: TransparentHugepage) -> list[str]:
    """The directories of sizes; an old kernel has huge pages of one size only, and none."""
    if not since(6, 12)(thp):
        return []
    return [f"hugepages-{1 << order + _SIZE_SHIFT}kB" for order in ORDERS]


def _find(thp: TransparentHugepage, name: str) -> Size | None:
    orders = dict(zip(_names(thp), ORDERS, strict=False))
    return Size(thp, orders[name]) if name in orders else None


def _anonymous(size: Size) -> bool:
    """Whether anonymous memory may have pages of the size: they need room for a list of their own in the third page."""
    return size.order in ANON_ORDERS


def _of_files(size: Size) -> bool:
    """Whether the page cache may have pages of the size."""
    return size.order in SHMEM_ORDERS


size_dir: Directory[Size] = transparent_hugepage.family(list=_names, lookup=_find, mode=DIRECTORY)


@size_dir.attribute("enabled", needs=_anonymous)
def anon_enabled(size: Size) -> str:
    """For whom pages of the size are enabled."""
    return choice(ANON_MODES, size.thp.anon_orders[size.order])


@anon_enabled.store
def anon_enabled_store(size: Size, buf: str) -> None:
    """Linux: anon_enabled_store()."""
    size.thp.set_anon_order(size.order, chosen(ANON_MODES, buf))


@size_dir.attribute("shmem_enabled", needs=_of_files)
def thpsize_shmem_enabled(size: Size) -> str:
    """The same for shared memory."""
    return choice(SHMEM_MODES, size.thp.kernel.shmem_huge.orders[size.order])


@thpsize_shmem_enabled.store
def thpsize_shmem_enabled_store(size: Size, buf: str) -> None:
    """Linux: thpsize_shmem_enabled_store()."""
    size.thp.kernel.shmem_huge.set_order(size.order, chosen(SHMEM_MODES, buf))


stats = size_dir.directory("stats", mode=DIRECTORY)


def _stat(item: MthpStatItem) -> Callable[[Size], int]:
    return lambda size: int(size.thp.fast.stats[size.order, item])


for _item in MthpStatItem:
    stats.attributes(
        _item.name.removeprefix("MTHP_STAT_").lower(),
        _stat(_item),
        needs=_of_files if "SHMEM" in _item.name
        else None if re.search("SWPOUT|SPLIT(_FAILED)?$", _item.name) else _anonymous,
    )


STAT_NEEDS: Final = {
    "zswpout": since(6, 13),
    **dict.fromkeys(("swpin", "swpin_fallback", "swpin_fallback_charge"), since(6, 14)),
}
"""Counts of what never happens here.

Simplified: huge pages are neither compressed by zswap nor read from swap as a whole, which newer kernels do.
"""


def _never(_: Size) -> int:
    return 0


for _name, _needs in STAT_NEEDS.items():
    stats.attributes(_name, _never, needs=_needs)


khugepaged: Directory[Khugepaged] = Directory(mode=DIRECTORY)
transparent_hugepage.mount("khugepaged", khugepaged, obj=lambda thp: thp.kernel.khugepaged)


def _number(name: str, most: int, least: int = 0, changed: Callable[[Khugepaged], None] | None = None) -> None:
    """A switch that is a number. Linux: khugepaged_max_ptes_none_store() and its kin."""

    def show(thread: Khugepaged) -> int:
        return int(getattr(thread, name))

    def store(thread: Khugepaged, buf: str) -> None:
        value = kstrtoul(buf, 10)
        if not least <= value <= most:
            fail(errno.EINVAL)
        setattr(thread, name, value)
        if changed is not None:
            changed(thread)

    khugepaged.attributes(name, show, store)


_number("pages_to_scan", UINT_MAX, least=1)
_number("scan_sleep_millisecs", UINT_MAX, changed=Khugepaged.wake)
_number("alloc_sleep_millisecs", UINT_MAX, changed=Khugepaged.wake)
for _name in ("max_ptes_none", "max_ptes_swap", "max_ptes_shared"):
    _number(_name, HPAGE_PMD_NR - 1)


@khugepaged.attribute("defrag")
def khugepaged_defrag(thread: Khugepaged) -> int:
    """Whether it tries hard for a page."""
    return int(thread.kernel.thp.khugepaged_defrag)


@khugepaged_defrag.store
def khugepaged_defrag_store(thread: Khugepaged, buf: str) -> None:
    """Linux: defrag_store() of khugepaged."""
    value = kstrtoul(buf, 10)
    if value > 1:
        fail(errno.EINVAL)
    thread.kernel.thp.khugepaged_defrag = bool(value)


@khugepaged.attribute("full_scans")
def full_scans(thread: Khugepaged) -> int:
    """How often it has been through all address spaces."""
    return thread.full_scans


@khugepaged.attribute("pages_collapsed")
def pages_collapsed(thread: Khugepaged) -> int:
    """How many huge pages it has made."""
    return thread.pages_collapsed
