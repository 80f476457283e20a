"""/proc/partitions and /proc/diskstats: block devices, their sizes and what they have transferred.

Linux: block/genhd.c, show_partition(), diskstats_show().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc

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


def diskstats_show(disk: Gendisk) -> str:
    """One row: reads, writes, requests in flight, busy and queued milliseconds, discards, flushes."""
    return f"{disk.major:4d} {disk.minor:7d} {disk.name} {' '.join(map(str, disk.stat()))}\n"
