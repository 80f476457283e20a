"""Block devices: disks with a size, a speed and the counters of /proc/diskstats.

A request to a disk takes its latency plus its transfer time and waits for the transfers before it; from this
follow the time a task sleeps for it (iowait), io_ticks and the time in queue. What the data is does not matter
here: `submit_bio()` counts and says how long it takes.

The compiled fault path reads file pages by itself and only counts them (PGPGIN, in sectors). `fold_page_io()` makes
requests to the root disk out of what it has counted, read ahead in pieces of 128 KB, so that /proc/diskstats and
/proc/vmstat always tell the same number of sectors.

Linux: block/genhd.c, block/blk-core.c, drivers/block/virtio_blk.c.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mmfs.kernel.clock import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC, Clock
from mmfs.mm_types import PAGE_SHIFT, VmEventItem

if TYPE_CHECKING:
    from mmfs.mm.vmstat import VmStat

SECTOR_SHIFT: Final = 9
SECTOR_SIZE: Final = 1 << SECTOR_SHIFT
SECTORS_PER_PAGE_SHIFT: Final = PAGE_SHIFT - SECTOR_SHIFT
READAHEAD_SECTORS: Final = (128 << 10) >> SECTOR_SHIFT
"""Linux: include/linux/mm.h, VM_READAHEAD_PAGES."""
BLOCK_EXT_MAJOR: Final = 259
VIRTBLK_MAJOR: Final = 254
DYNAMIC_MAJOR_FIRST: Final = 254
VIRTBLK_MINORS: Final = 16


class StatGroup(IntEnum):
    """Kinds of requests that are counted apart. Linux: include/linux/blk_types.h, enum stat_group."""

    READ = 0
    WRITE = 1
    DISCARD = 2
    FLUSH = 3


class DiskSpeed(NamedTuple):
    """How long a disk takes: until the first byte, and bytes a second from then on."""

    latency_ns: int = 100 * NSEC_PER_USEC
    bytes_per_second: int = 500_000_000

    def transfer_ns(self, nr_sectors: int) -> int:
        """Time on the wire."""
        return nr_sectors * SECTOR_SIZE * NSEC_PER_SEC // self.bytes_per_second


SSD: Final = DiskSpeed()
HARD_DISK: Final = DiskSpeed(latency_ns=8_000 * NSEC_PER_USEC, bytes_per_second=150_000_000)


class Gendisk:
    """A disk, or a partition of one, and what was asked of it. Linux: struct gendisk, struct disk_stats."""

    def __init__(
        self, clock: Clock, vmstat: VmStat, name: str, major: int, minor: int, nr_sectors: int, speed: DiskSpeed = SSD
    ) -> None:
        self.clock = clock
        self.vmstat = vmstat
        self.name = name
        self.major = major
        self.minor = minor
        self.nr_sectors = nr_sectors
        self.speed = speed
        self.ios = [0] * len(StatGroup)
        self.merges = [0] * len(StatGroup)
        self.sectors = [0] * len(StatGroup)
        self.nsecs = [0] * len(StatGroup)
        self.bd_mapping: Any = None
        """Pages of the device itself (Buffers in /proc/meminfo), once someone reads it."""
        self._transfers_end_ns = 0
        self._busy_end_ns = 0
        self._busy_ns = 0
        self._in_flight: deque[tuple[int, int]] = deque()

    def __repr__(self) -> str:
        return f"<Gendisk {self.name} {self.major}:{self.minor}>"

    @property
    def dev(self) -> tuple[int, int]:
        """Major and minor number."""
        return self.major, self.minor

    @property
    def path(self) -> str:
        """Its device file."""
        return f"/dev/{self.name}"

    @property
    def size_kb(self) -> int:
        """Size in blocks of 1 KB, as /proc/partitions shows it."""
        return self.nr_sectors >> 1

    def submit_bio(self, op: StatGroup, nr_sectors: int, nr_bios: int = 1, nr_requests: int = 1) -> int:
        """Ask for sectors; how many ns from now the last one will have come.

        `nr_bios` pieces were handed in, which merged into `nr_requests`. Linux: block/blk-core.c, submit_bio().
        """
        if op is StatGroup.READ:
            self.vmstat.count_vm_events(VmEventItem.PGPGIN, nr_sectors)
        elif op is StatGroup.WRITE:
            self.vmstat.count_vm_events(VmEventItem.PGPGOUT, nr_sectors)
        return self.account_io(op, nr_sectors, nr_bios, nr_requests)

    def account_io(self, op: StatGroup, nr_sectors: int, nr_bios: int, nr_requests: int) -> int:
        """A request on its way through the queue; how long it takes. Linux: block/blk-mq.c, blk_account_io_done()."""
        now = self.clock.now_ns
        start = max(now, self._transfers_end_ns)
        self._transfers_end_ns = start + self.speed.transfer_ns(nr_sectors)
        done = self._transfers_end_ns + self.speed.latency_ns
        self.ios[op] += nr_requests
        self.merges[op] += nr_bios - nr_requests
        self.sectors[op] += nr_sectors
        self.nsecs[op] += (done - now) * nr_requests
        self._busy_ns += done - max(now, self._busy_end_ns)
        self._busy_end_ns = done
        self._in_flight.append((done, nr_requests))
        return done - now

    @property
    def in_flight(self) -> int:
        """Requests that have not been answered yet. Linux: block/genhd.c, bdev_count_inflight()."""
        now = self.clock.now_ns
        while self._in_flight and self._in_flight[0][0] <= now:
            self._in_flight.popleft()
        return sum(requests for _, requests in self._in_flight)

    @property
    def io_ns(self) -> int:
        """How long requests were in flight until now (io_ticks of /proc/diskstats)."""
        return self._busy_ns - max(self._busy_end_ns - self.clock.now_ns, 0)

    def stat(self) -> list[int]:
        """The numbers of its row in /proc/diskstats, times in ms. Linux: block/genhd.c, diskstats_show()."""
        row: list[int] = []
        for op in (StatGroup.READ, StatGroup.WRITE):
            row += [self.ios[op], self.merges[op], self.sectors[op], self.nsecs[op] // NSEC_PER_MSEC]
        row += [self.in_flight, self.io_ns // NSEC_PER_MSEC, sum(self.nsecs) // NSEC_PER_MSEC]
        op = StatGroup.DISCARD
        row += [self.ios[op], self.merges[op], self.sectors[op], self.nsecs[op] // NSEC_PER_MSEC]
        return [*row, self.ios[StatGroup.FLUSH], self.nsecs[StatGroup.FLUSH] // NSEC_PER_MSEC]

    def nr_pages(self) -> int:
        """Pages of the page cache that hold the device itself."""
        return 0 if self.bd_mapping is None else int(self.bd_mapping.nrpages)


class BlockDevices:
    """All disks, in the order in which they were added (the first holds the root), and the drivers' major numbers."""

    def __init__(self, vmstat: VmStat) -> None:
        self.vmstat = vmstat
        self.disks: list[Gendisk] = []
        self.majors: dict[int, str] = {BLOCK_EXT_MAJOR: "blkext"}

    def __iter__(self) -> Iterator[Gendisk]:
        self.fold_page_io()
        return iter(self.disks)

    def __len__(self) -> int:
        return len(self.disks)

    def __getitem__(self, name: str) -> Gendisk:
        """The disk of that name (vda) or device file (/dev/vda)."""
        name = name.removeprefix("/dev/")
        for disk in self.disks:
            if disk.name == name:
                return disk
        raise KeyError(name)

    def register_blkdev(self, name: str, major: int = 0) -> int:
        """A driver takes a major number, the highest free one below 255 if it asks for none. Linux: block/genhd.c."""
        if not major:
            major = next(number for number in range(DYNAMIC_MAJOR_FIRST, 0, -1) if number not in self.majors)
        self.majors[major] = name
        return major

    def fold_page_io(self) -> int:
        """Turn pages that faults and reads brought in since the last call into requests; ns until they are there."""
        counted = int(self.vmstat.event[VmEventItem.PGPGIN])
        nr_sectors = counted - sum(disk.sectors[StatGroup.READ] for disk in self.disks)
        if nr_sectors <= 0 or not self.disks:
            return 0
        nr_pages = -(-nr_sectors >> SECTORS_PER_PAGE_SHIFT)
        nr_requests = -(-nr_sectors // READAHEAD_SECTORS)
        return self.disks[0].account_io(StatGroup.READ, nr_sectors, nr_pages, nr_requests)

    def add_disk(self, disk: Gendisk) -> Gendisk:
        """A disk has appeared. Linux: block/genhd.c, device_add_disk()."""
        self.disks.append(disk)
        return disk

    def del_gendisk(self, disk: Gendisk) -> None:
        """A disk is gone. Linux: block/genhd.c, del_gendisk()."""
        self.disks.remove(disk)

    def nr_blockdev_pages(self) -> int:
        """Buffers of /proc/meminfo. Linux: block/bdev.c, nr_blockdev_pages()."""
        return sum(disk.nr_pages() for disk in self.disks)


def virtio_disks(clock: Clock, vmstat: VmStat, hardware: Iterable[tuple[str, int, int, int]]) -> BlockDevices:
    """The virtio disks of a machine: (name, major, minor, sectors) each. Linux: drivers/block/virtio_blk.c."""
    devices = BlockDevices(vmstat)
    devices.register_blkdev("virtblk", VIRTBLK_MAJOR)
    for name, major, minor, nr_sectors in hardware:
        devices.add_disk(Gendisk(clock, vmstat, name, major, minor, nr_sectors))
    return devices
