"""/proc/partitions and /proc/diskstats: block devices, their sizes and what they have transferred.

Linux: block/genhd.c, show_partition(), diskstats_show().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc
from mmfs.kernel.block import StatGroup
from mmfs.kernel.clock import NSEC_PER_MSEC

if TYPE_CHECKING:
    from mmfs.kernel.block import Gendisk
    from mmfs.kernel.kernel import Kernel

HEADER = "major minor  #blocks  name\n\n"


@proc.attribute("partitions")
def partitions(kernel: Kernel) -> str:
    """Devices that have a size, in kilobytes."""
    disks = [disk for disk in kernel.block_devices if disk.nr_sectors]
    rows = [f"{disk.major:4d}  {disk.minor:7d} {disk.size_kb:10d} {disk.name}\n" for disk in disks]
    return HEADER + "".join(rows) if disks else ""


@proc.attribute("diskstats")
def diskstats(kernel: Kernel) -> str:
    """What each device has transferred."""
    return "".join([diskstats_show(disk) for disk in kernel.block_devices])


def counters(disk: Gendisk, group: StatGroup) -> tuple[int, int, int, int]:
    """Requests, merges, sectors and milliseconds of one kind of request."""
    return disk.ios[group], disk.merges[group], disk.sectors[group], disk.nsecs[group] // NSEC_PER_MSEC


def diskstats_show(disk: Gendisk) -> str:
    """One row: reads, writes, requests in flight, busy and queued milliseconds, discards, flushes."""
    numbers = (
        *counters(disk, StatGroup.READ),
        *counters(disk, StatGroup.WRITE),
        disk.in_flight,
        disk.io_ns // NSEC_PER_MSEC,
        sum(disk.nsecs) // NSEC_PER_MSEC,
        *counters(disk, StatGroup.DISCARD),
        disk.ios[StatGroup.FLUSH],
        disk.nsecs[StatGroup.FLUSH] // NSEC_PER_MSEC,
    )
    return f"{disk.major:4d} {disk.minor:7d} {disk.name} {' '.join(map(str, numbers))}\n"
