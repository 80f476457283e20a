"""/sys/block, /sys/class/bdi: disks, their queues, and how the page cache uses them.

Linux: block/genhd.c, block/blk-sysfs.c, block/elevator.c, mm/backing-dev.c.

Simplified: of a disk's many files those that the page cache and monitoring agents look at; the scheduler that is
chosen does not change the order of requests.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from mmfs.fs.sys.device import Device, device, uevent_store
from mmfs.fs.sys.root import DIRECTORY, devices, facts, sys, virtual
from mmfs.kernfs import Directory, fail
from mmfs.kernfs.kstrtox import UINT_MAX, kstrtouint, kstrtoul
from mmfs.mm.backing_dev import BDI_RATIO_SCALE, BackingDevInfo
from mmfs.mm.page_writeback import dirty_limits
from mmfs.mm_types import PAGE_SIZE
from mmfs.profile import since

if TYPE_CHECKING:
    from mmfs.kernel.block import Gendisk
    from mmfs.kernel.kernel import Kernel

BLKDEV_MIN_RQ: Final = 4
SCHEDULERS: Final = ("none", "mq-deadline")
VIRTBLK_QUEUE_SIZE: Final = 256
MAX_SCHED_RQ: Final = 2048
FIRST_SLOT: Final = 3
KB_SHIFT: Final = 2


class Disk(NamedTuple):
    """A disk as a device."""

    kernel: Kernel
    bdi: BackingDevInfo

    @property
    def disk(self) -> Gendisk:
        """Linux: struct gendisk."""
        disk: Gendisk = self.bdi.disk
        return disk


def find_disk(kernel: Kernel, name: str) -> Disk | None:
    """The disk of that name."""
    return next((Disk(kernel, bdi) for bdi in kernel.bdis if bdi.disk.name == name), None)


def disk_names(kernel: Kernel) -> list[str]:
    """All disks."""
    return [bdi.disk.name for bdi in kernel.bdis]


def path_of(disk: Disk) -> str:
    """Where a disk is, below /sys/devices."""
    if disk.disk.virtual:
        return f"virtual/block/{disk.disk.name}"
    number = disk.kernel.bdis.index(disk.bdi) + 1
    return f"pci0000:00/0000:00:{number + FIRST_SLOT - 1:02x}.0/virtio{number}/block/{disk.disk.name}"


def hardware(kernel: Kernel) -> list[Disk]:
    """The virtio disks."""
    return [Disk(kernel, bdi) for bdi in kernel.bdis if not bdi.disk.virtual]


# -- the way to a disk: a bus, a slot, a virtio device ---------------------------------------------------------------

pci = devices.directory("pci0000:00", mode=DIRECTORY)


def _step(depth: int) -> tuple[Callable[[Kernel], list[str]], Callable[[Kernel, str], Disk | None]]:
    """Names and lookup of the directories at a depth of the path."""

    def names(kernel: Kernel) -> list[str]:
        return [path_of(disk).split("/")[depth] for disk in hardware(kernel)]

    def lookup(kernel: Kernel, name: str) -> Disk | None:
        return next((disk for disk in hardware(kernel) if path_of(disk).split("/")[depth] == name), None)

    return names, lookup


_names, _lookup = _step(1)
slot: Directory[Disk] = pci.family(list=_names, lookup=_lookup, mode=DIRECTORY)
virtio: Directory[Disk] = slot.family(
    list=lambda disk: [path_of(disk).split("/")[2]],
    lookup=lambda disk, name: disk if name == path_of(disk).split("/")[2] else None,
    mode=DIRECTORY,
)
of_virtio = virtio.directory("block", mode=DIRECTORY)
block: Directory[Disk] = of_virtio.family(
    list=lambda disk: [disk.disk.name],
    lookup=lambda disk, name: disk if name == disk.disk.name else None,
    mode=DIRECTORY,
)
block_links = sys.directory("block", mode=DIRECTORY)
class_dir = sys.directory("class", mode=DIRECTORY)
class_block = class_dir.directory("block", mode=DIRECTORY)
class_bdi = class_dir.directory("bdi", mode=DIRECTORY)


@block_links.symlinks(list=disk_names, lookup=find_disk)
def block_link(disk: Disk) -> str:
    """Each disk, wherever it is."""
    return f"../devices/{path_of(disk)}"


@class_block.symlinks(list=disk_names, lookup=find_disk)
def class_block_link(disk: Disk) -> str:
    """The same as a class of devices."""
    return f"../../devices/{path_of(disk)}"


# -- a disk ------------------------------------------------------------------------------------------------------------

facts(
    block,
    {
        "alignment_offset": lambda disk: 0,
        "capability": lambda disk: "0\n",
        "dev": lambda disk: f"{disk.bdi.name}\n",
        "discard_alignment": lambda disk: 0,
        "diskseq": lambda disk: disk.kernel.bdis.index(disk.bdi) + 1,
        "ext_range": lambda disk: 256,
        "hidden": lambda disk: 0,
        "range": lambda disk: 16,
        "removable": lambda disk: 0,
        "ro": lambda disk: 0,
        "size": lambda disk: disk.disk.nr_sectors,
    },
)


def link_to_bdi(disk: Disk) -> str:
    """The page cache's side of it."""
    return f"../../../../../virtual/bdi/{disk.bdi.name}"


def link_to_device(disk: Disk) -> str:
    """The virtio device."""
    return f"../../../{path_of(disk).split('/')[2]}"


block.symlink("bdi", link_to_bdi)
block.symlink("device", link_to_device)
block.symlink("subsystem", "../../../../../../class/block")


@block.attribute("stat")
def stat(disk: Disk) -> str:
    """What /proc/diskstats says. Linux: block/genhd.c, part_stat_show()."""
    return " ".join(f"{value:8d}" for value in disk.disk.stat()) + "\n"


def disk_uevent(disk: Disk) -> str:
    """Its variables. Linux: block/genhd.c, block_uevent()."""
    seq = disk.kernel.bdis.index(disk.bdi) + 1
    gendisk = disk.disk
    return f"MAJOR={gendisk.major}\nMINOR={gendisk.minor}\nDEVNAME={gendisk.name}\nDEVTYPE=disk\nDISKSEQ={seq}\n"


block.attributes("uevent", disk_uevent, uevent_store)
device(block, lambda disk: Device(disk.kernel, f"block/{disk.disk.name}"), has_uevent=False)

# -- its queue ---------------------------------------------------------------------------------------------------------

queue = block.directory("queue", mode=DIRECTORY)
facts(
    queue,
    {
        "hw_sector_size": lambda disk: 512,
        "logical_block_size": lambda disk: 512,
        "max_hw_sectors_kb": lambda disk: 2147483647,
        "max_segments": lambda disk: 254,
        "minimum_io_size": lambda disk: 512,
        "optimal_io_size": lambda disk: 0,
        "physical_block_size": lambda disk: 512,
        "nr_zones": lambda disk: 0,
        "zoned": lambda disk: "none\n",
    },
)


def _var(buf: str) -> int:
    """Linux: block/blk-sysfs.c, queue_var_store()."""
    value = kstrtoul(buf)
    if value > UINT_MAX:
        fail(errno.EINVAL)
    return value


@queue.attribute("read_ahead_kb")
def read_ahead_kb(disk: Disk) -> int:
    """How far ahead files are read."""
    return disk.bdi.ra_pages << KB_SHIFT


@read_ahead_kb.store
def read_ahead_kb_store(disk: Disk, buf: str) -> None:
    """Linux: block/blk-sysfs.c, queue_ra_store()."""
    disk.bdi.ra_pages = _var(buf) >> KB_SHIFT


@queue.attribute("max_sectors_kb")
def max_sectors_kb(disk: Disk) -> int:
    """The largest request."""
    return int(disk.bdi.queue.io_pages) << KB_SHIFT


@max_sectors_kb.store
def max_sectors_kb_store(disk: Disk, buf: str) -> None:
    """Linux: block/blk-settings.c, blk_validate_limits()."""
    value = _var(buf)
    if value and value < PAGE_SIZE >> 10:
        fail(errno.EINVAL)
    disk.bdi.set_io_pages(value >> KB_SHIFT)


@queue.attribute("nr_requests")
def nr_requests(disk: Disk) -> int:
    """How many requests there may be."""
    return disk.bdi.nr_requests


@nr_requests.store
def nr_requests_store(disk: Disk, buf: str) -> None:
    """Linux: block/blk-sysfs.c, queue_requests_store(); block/blk-mq.c, blk_mq_update_nr_requests()."""
    value = max(_var(buf), BLKDEV_MIN_RQ)
    if value > (VIRTBLK_QUEUE_SIZE if disk.bdi.scheduler == "none" else MAX_SCHED_RQ):
        fail(errno.EINVAL)
    disk.bdi.nr_requests = value


@queue.attribute("rotational")
def rotational(disk: Disk) -> int:
    """Whether it says that it turns: virtio's driver does not know better."""
    return int(disk.bdi.rotational)


@rotational.store
def rotational_store(disk: Disk, buf: str) -> None:
    """Linux: block/blk-sysfs.c, queue_feature_store()."""
    disk.bdi.rotational = bool(_var(buf))


@queue.attribute("scheduler")
def scheduler(disk: Disk) -> str:
    """Those that there are, the chosen one in brackets."""
    return " ".join(f"[{name}]" if name == disk.bdi.scheduler else name for name in SCHEDULERS) + " \n"


@scheduler.store
def scheduler_store(disk: Disk, buf: str) -> None:
    """Linux: block/elevator.c, elv_iosched_store()."""
    if buf.strip() not in SCHEDULERS:
        fail(errno.EINVAL)
    disk.bdi.scheduler = buf.strip()


# -- backing devices ---------------------------------------------------------------------------------------------------

bdi_dir = virtual.directory("bdi", mode=DIRECTORY)


def bdi_names(kernel: Kernel) -> list[str]:
    """All of them."""
    return [bdi.name for bdi in kernel.bdis]


def find_bdi(kernel: Kernel, name: str) -> Disk | None:
    """The backing device of that name."""
    return next((Disk(kernel, bdi) for bdi in kernel.bdis if bdi.name == name), None)


@class_bdi.symlinks(list=bdi_names, lookup=find_bdi)
def class_bdi_link(disk: Disk) -> str:
    """As a class of devices."""
    return f"../../devices/virtual/bdi/{disk.bdi.name}"


bdi: Directory[Disk] = bdi_dir.family(list=bdi_names, lookup=find_bdi, mode=DIRECTORY)


@bdi.attribute("read_ahead_kb")
def bdi_read_ahead_kb(disk: Disk) -> int:
    """How far ahead files are read."""
    return disk.bdi.ra_pages << KB_SHIFT


@bdi_read_ahead_kb.store
def bdi_read_ahead_kb_store(disk: Disk, buf: str) -> None:
    """Linux: mm/backing-dev.c, read_ahead_kb_store()."""
    disk.bdi.ra_pages = kstrtoul(buf) >> KB_SHIFT


def _bytes(disk: Disk, ratio: int) -> int:
    """Linux: mm/page-writeback.c, bdi_get_bytes()."""
    return dirty_limits(disk.kernel)[1] * PAGE_SIZE * ratio // BDI_RATIO_SCALE // 100


def set_min_ratio(disk: Disk, ratio: int) -> None:
    """Linux: mm/page-writeback.c, __bdi_set_min_ratio()."""
    total = sum(bdi.min_ratio for bdi in disk.kernel.bdis) - disk.bdi.min_ratio + ratio
    if ratio > disk.bdi.max_ratio or (ratio >= disk.bdi.min_ratio and total >= 100 * BDI_RATIO_SCALE):
        fail(errno.EINVAL)
    disk.bdi.min_ratio = ratio


def set_max_ratio(disk: Disk, ratio: int) -> None:
    """Linux: mm/page-writeback.c, __bdi_set_max_ratio()."""
    if ratio > 100 * BDI_RATIO_SCALE or ratio < disk.bdi.min_ratio:
        fail(errno.EINVAL)
    disk.bdi.max_ratio = ratio


def _ratio_files(name: str, get: Callable[[BackingDevInfo], int], change: Callable[[Disk, int], None]) -> None:
    """A share of the dirty threshold in percent, in millionths, in bytes."""

    def show_bytes(disk: Disk) -> int:
        return _bytes(disk, get(disk.bdi))

    def store_bytes(disk: Disk, buf: str) -> None:
        pages, thresh = kstrtoul(buf) // PAGE_SIZE, max(dirty_limits(disk.kernel)[1], 1)
        change(disk, pages * 100 * BDI_RATIO_SCALE // thresh)

    def show_percent(disk: Disk) -> int:
        return get(disk.bdi) // BDI_RATIO_SCALE

    def store_percent(disk: Disk, buf: str) -> None:
        change(disk, kstrtouint(buf) * BDI_RATIO_SCALE)

    def show_fine(disk: Disk) -> int:
        return get(disk.bdi)

    def store_fine(disk: Disk, buf: str) -> None:
        change(disk, kstrtouint(buf))

    bdi.attributes(f"{name}_bytes", show_bytes, store_bytes, needs=since(6, 12))
    bdi.attributes(f"{name}_ratio", show_percent, store_percent)
    bdi.attributes(f"{name}_ratio_fine", show_fine, store_fine, needs=since(6, 12))


_ratio_files("max", attrgetter("max_ratio"), set_max_ratio)
_ratio_files("min", attrgetter("min_ratio"), set_min_ratio)


@bdi.attribute("stable_pages_required")
def stable_pages_required(disk: Disk) -> int:
    """Whether a page must not change while it is written."""
    return 0


@bdi.attribute("strict_limit", needs=since(6, 12))
def strict_limit(disk: Disk) -> int:
    """Whether its own share limits it, however few dirty pages there are."""
    return int(disk.bdi.strict_limit)


@strict_limit.store
def strict_limit_store(disk: Disk, buf: str) -> None:
    """Linux: mm/page-writeback.c, bdi_set_strict_limit()."""
    value = kstrtouint(buf)
    if value > 1:
        fail(errno.EINVAL)
    disk.bdi.strict_limit = bool(value)


device(bdi, lambda disk: Device(disk.kernel, f"bdi/{disk.bdi.name}"))
bdi.symlink("subsystem", "../../../../class/bdi")
