"""/sys/class/zram-control and /sys/block/zramN: disks in memory, and what their pages take.

Linux: drivers/block/zram/zram_drv.c.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmfs.fs.sys import block
from mmfs.fs.sys.block import Disk, class_dir, queue
from mmfs.fs.sys.device import Device, device, uevent_store
from mmfs.fs.sys.root import DIRECTORY, facts, virtual
from mmfs.kernel.zram import ZramDisk
from mmfs.kernfs import Directory, fail, kstrtobool, sysfs_streq
from mmfs.kernfs.kstrtox import kstrtoint, kstrtouint, kstrtoull, memparse
from mmfs.profile import since, until

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

# -- the module --------------------------------------------------------------------------------------------------------

control: Directory[Kernel] = class_dir.directory(
    "zram-control", mode=DIRECTORY, needs=lambda kernel: kernel.zrams.loaded
)


@control.attribute("hot_add", mode=0o400)
def hot_add(kernel: Kernel) -> int:
    """Reading makes a disk, and tells its number. Linux: hot_add_show()."""
    return kernel.zrams.add()


def hot_remove_store(kernel: Kernel, buf: str) -> None:
    """Linux: hot_remove_store()."""
    number = kstrtoint(buf, 10)
    if number < 0:
        fail(errno.EINVAL)
    kernel.zrams.remove(number)


control.attributes("hot_remove", None, hot_remove_store, mode=0o200)

# -- a disk ------------------------------------------------------------------------------------------------------------


def _zram(disk: Disk) -> ZramDisk:
    found = disk.disk
    assert isinstance(found, ZramDisk)
    return found


def _names(kernel: Kernel) -> list[str]:
    return [disk.name for disk in kernel.zrams.disks.values()]


def _find(kernel: Kernel, name: str) -> Disk | None:
    disk = block.find_disk(kernel, name)
    return disk if disk is not None and disk.disk.virtual else None


virtual_block = virtual.directory("block", mode=DIRECTORY, needs=lambda kernel: bool(kernel.zrams.disks))
zram: Directory[Disk] = virtual_block.family(list=_names, lookup=_find, mode=DIRECTORY)
for _name in (
    "alignment_offset", "capability", "dev", "discard_alignment", "diskseq", "hidden", "removable", "ro", "size",
    "stat",
):  # fmt: skip
    zram.add(block.block.children[_name])
facts(zram, {"ext_range": lambda disk: 1, "range": lambda disk: 1})
zram.attributes("uevent", block.disk_uevent, uevent_store)
device(zram, lambda disk: Device(disk.kernel, f"block/{disk.disk.name}"), has_uevent=False)


def link_to_bdi(disk: Disk) -> str:
    """The page cache's side of it."""
    return f"../../bdi/{disk.bdi.name}"


zram.symlink("bdi", link_to_bdi)
zram.symlink("subsystem", "../../../../class/block")


@zram.attribute("initstate")
def initstate(disk: Disk) -> int:
    """Whether it has a size. Linux: initstate_show()."""
    return int(_zram(disk).zram is not None)


@zram.attribute("disksize")
def disksize(disk: Disk) -> int:
    """Bytes."""
    return _zram(disk).disksize


@disksize.store
def disksize_store(disk: Disk, buf: str) -> None:
    """Linux: disksize_store()."""
    _zram(disk).set_disksize(memparse(buf)[0])


def reset_store(disk: Disk, buf: str) -> None:
    """Linux: reset_store()."""
    value = kstrtoull(buf, 10)
    if value > 0xFFFF:
        fail(errno.ERANGE)
    if not value:
        fail(errno.EINVAL)
    _zram(disk).reset()


def _size(buf: str) -> int:
    value, rest = memparse(buf)
    if rest == buf:
        fail(errno.EINVAL)
    return value


def mem_limit_store(disk: Disk, buf: str) -> None:
    """Linux: mem_limit_store()."""
    _zram(disk).set_limit(_size(buf))


def mem_used_max_store(disk: Disk, buf: str) -> None:
    """0 begins anew. Linux: mem_used_max_store()."""
    try:
        value = kstrtoull(buf, 10)
    except OSError:
        fail(errno.EINVAL)
    if value:
        fail(errno.EINVAL)
    loops = _zram(disk).zram
    if loops is not None:
        loops.max_used_pages = loops.pool.pages_allocated


def compact_store(disk: Disk, buf: str) -> None:
    """Linux: compact_store()."""
    _zram(disk).initialised().pool.compact()


def idle_store(disk: Disk, buf: str) -> None:
    """Pages not used from now on are idle, which nothing asks for without a backing device. Linux: idle_store()."""
    if not sysfs_streq(buf, "all"):
        try:
            kstrtoull(buf)
        except OSError:
            fail(errno.EINVAL)
    _zram(disk).initialised()


WRITEBACK = ("idle", "huge", "huge_idle", "incompressible")


def writeback_store(disk: Disk, buf: str) -> None:
    """There is no device to write to. Linux: writeback_store()."""
    if not any(sysfs_streq(buf, mode) for mode in WRITEBACK) and not buf.startswith("page_index="):
        fail(errno.EINVAL)
    _zram(disk).initialised()
    fail(errno.ENODEV)


for _name, _store in (
    ("reset", reset_store), ("mem_limit", mem_limit_store), ("mem_used_max", mem_used_max_store),
    ("compact", compact_store), ("idle", idle_store), ("writeback", writeback_store),
):  # fmt: skip
    zram.attributes(_name, None, _store, mode=0o200)


@zram.attribute("comp_algorithm")
def comp_algorithm(disk: Disk) -> str:
    """Those that there are, the chosen one in brackets."""
    zram = _zram(disk)
    names = (f"[{name}]" if name == zram.comp_algorithm else name for name in zram.backends.algorithms)
    return " ".join(names) + " \n"


@comp_algorithm.store
def comp_algorithm_store(disk: Disk, buf: str) -> None:
    """Linux: comp_algorithm_store()."""
    _zram(disk).set_algorithm(buf)


@zram.attribute("max_comp_streams", needs=until(6, 18))
def max_comp_streams(disk: Disk) -> int:
    """One a processor."""
    return disk.kernel.machine.nr_cpus


@max_comp_streams.store
def max_comp_streams_store(disk: Disk, buf: str) -> None:
    """Ignored, as in Linux. Linux: max_comp_streams_store()."""


@zram.attribute("backing_dev")
def backing_dev(disk: Disk) -> str:
    """None."""
    return "none\n"


@backing_dev.store
def backing_dev_store(disk: Disk, buf: str) -> None:
    """Linux: backing_dev_store(). Simplified: there can be none, EOPNOTSUPP for a disk that is there."""
    if _zram(disk).zram is not None:
        fail(errno.EBUSY)
    if buf.removesuffix("\n") not in [found.path for found in disk.kernel.block_devices]:
        fail(errno.ENOENT)
    fail(errno.EOPNOTSUPP)


@zram.attribute("writeback_limit")
def writeback_limit(disk: Disk) -> int:
    """Pages that may still be written back."""
    return _zram(disk).writeback_limit


@writeback_limit.store
def writeback_limit_store(disk: Disk, buf: str) -> None:
    """Linux: writeback_limit_store()."""
    try:
        _zram(disk).writeback_limit = kstrtoull(buf, 10)
    except OSError:
        fail(errno.EINVAL)


@zram.attribute("writeback_limit_enable")
def writeback_limit_enable(disk: Disk) -> int:
    """Whether there is a limit."""
    return int(_zram(disk).writeback_limit_enable)


@writeback_limit_enable.store
def writeback_limit_enable_store(disk: Disk, buf: str) -> None:
    """Linux: writeback_limit_enable_store()."""
    try:
        _zram(disk).writeback_limit_enable = bool(kstrtoull(buf, 10))
    except OSError:
        fail(errno.EINVAL)


@zram.attribute("writeback_batch_size", needs=since(6, 19))
def writeback_batch_size(disk: Disk) -> int:
    """Requests of writeback that may be under way at a time."""
    return _zram(disk).writeback_batch_size


@writeback_batch_size.store
def writeback_batch_size_store(disk: Disk, buf: str) -> None:
    """Linux: writeback_batch_size_store()."""
    try:
        value = kstrtouint(buf, 10)
    except OSError:
        fail(errno.EINVAL)
    if not value:
        fail(errno.EINVAL)
    _zram(disk).writeback_batch_size = value


@zram.attribute("compressed_writeback", needs=since(7, 0))
def compressed_writeback(disk: Disk) -> int:
    """Whether pages are written back as they are, compressed."""
    return int(_zram(disk).compressed_writeback)


@compressed_writeback.store
def compressed_writeback_store(disk: Disk, buf: str) -> None:
    """Linux: compressed_writeback_store()."""
    try:
        value = kstrtobool(buf)
    except OSError:
        fail(errno.EINVAL)
    if _zram(disk).zram is not None:
        fail(errno.EBUSY)
    _zram(disk).compressed_writeback = value


@zram.attribute("mm_stat")
def mm_stat(disk: Disk) -> str:
    """What its pages take, in bytes, and how many are of one kind or the other. Linux: mm_stat_show()."""
    return " ".join(f"{value:8d}" for value in _zram(disk).mm_stat()) + "\n"


INVALID_IO_GONE = since(6, 12)
"""Kernels that do not count requests which are not of whole pages any more, and print a 0 for them."""


@zram.attribute("io_stat")
def io_stat(disk: Disk) -> str:
    """Failed reads and writes, pages that were freed. Linux: io_stat_show()."""
    loops = _zram(disk).zram
    writes, freed = (loops.failed_writes, loops.notify_free) if loops is not None else (0, 0)
    invalid = "0" if INVALID_IO_GONE(disk) else f"{0:8d}"
    return f"{0:8d} {writes:8d} {invalid} {freed:8d}\n"


@zram.attribute("bd_stat")
def bd_stat(disk: Disk) -> str:
    """Pages on the backing device. Linux: bd_stat_show()."""
    return f"{0:8d} {0:8d} {0:8d}\n"


STALLS_GONE = since(6, 18)
"""Kernels that do not count writes which had to wait for memory any more, and print a 0 for them."""


@zram.attribute("debug_stat")
def debug_stat(disk: Disk) -> str:
    """Linux: debug_stat_show()."""
    stalls = "0" if STALLS_GONE(disk) else f"{0:8d}"
    return f"version: 1\n{stalls} {0:8d}\n"


# -- its queue ---------------------------------------------------------------------------------------------------------

zram_queue = zram.directory("queue", mode=DIRECTORY)
for _name in ("max_sectors_kb", "read_ahead_kb", "rotational"):
    zram_queue.add(queue.children[_name])
facts(
    zram_queue,
    {
        "hw_sector_size": lambda disk: 4096,
        "logical_block_size": lambda disk: 4096,
        "max_hw_sectors_kb": lambda disk: 124,
        "max_segments": lambda disk: 128,
        "minimum_io_size": lambda disk: 4096,
        "optimal_io_size": lambda disk: 4096,
        "physical_block_size": lambda disk: 4096,
        "nr_zones": lambda disk: 0,
        "zoned": lambda disk: "none\n",
    },
)
