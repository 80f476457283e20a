"""Block devices: disks with a size, a speed and the counters of /proc/diskstats.

How long a request takes, and what is counted of it, is the compiled `Disk` (fastpath/blk.py); here are the disks
by name, the speeds to choose from, and what happens when a request is done. What the data is does not matter:
`submit_bio()` says how long it takes, and calls `end_io` when the clock gets there. A task that cannot wait for the
clock has completions run early, in order (`complete_until()`).

Linux: block/genhd.c, block/blk-core.c, drivers/block/virtio_blk.c.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mmfs.fastpath.blk import Disk
from mmfs.kernel.clock import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC, Clock, Timer

if TYPE_CHECKING:
    from mmfs.fastpath.zram import Zram
    from mmfs.mm.vmstat import VmStat

SECTOR_SHIFT: Final = 9
SECTOR_SIZE: Final = 1 << SECTOR_SHIFT
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
    """How long a disk takes."""

    seek_ns: int
    """To get to sectors that do not follow the last ones."""
    latency_ns: int
    """Until a request is answered, beside its transfer; those of several requests overlap."""
    request_ns: int
    """Of the queue's time that each request takes, so that there are never more a second."""
    flush_ns: int
    """To empty the disk's own cache."""
    read_bytes_per_second: int
    write_bytes_per_second: int

    def transfer_ns(self, nr_sectors: int, op: StatGroup = StatGroup.READ) -> int:
        """Time on the wire."""
        return nr_sectors * self.ps_per_sector(op) // 1000

    def ps_per_sector(self, op: StatGroup) -> int:
        """Picoseconds for 512 bytes."""
        speed = self.read_bytes_per_second if op is StatGroup.READ else self.write_bytes_per_second
        return SECTOR_SIZE * 1000 * NSEC_PER_SEC // speed


HDD: Final = DiskSpeed(8_500 * NSEC_PER_USEC, 200 * NSEC_PER_USEC, 0, 12 * NSEC_PER_MSEC, 180_000_000, 180_000_000)
"""7,200 turns a minute: 4.2 ms for half a turn and as much for the arm."""
SSD: Final = DiskSpeed(0, 90 * NSEC_PER_USEC, 11 * NSEC_PER_USEC, 1 * NSEC_PER_MSEC, 540_000_000, 500_000_000)
"""On SATA: 90,000 requests a second."""
NVME: Final = DiskSpeed(0, 70 * NSEC_PER_USEC, 1_600, 20 * NSEC_PER_USEC, 3_400_000_000, 2_500_000_000)
"""On four lanes of PCIe 3: 600,000 requests a second."""
SPEEDS: Final = {"hdd": HDD, "ssd": SSD, "nvme": NVME}
"""By the names of machine.DISK_KINDS. Data sheets of disks of the middle of their kind."""


class Gendisk:
    """A disk, or a partition of one, and what was asked of it. Linux: struct gendisk."""

    def __init__(
        self, clock: Clock, vmstat: VmStat, name: str, major: int, minor: int, nr_sectors: int, speed: DiskSpeed = SSD
    ) -> None:
        self.clock = clock
        self.vmstat = vmstat
        self.name = name
        self.major = major
        self.minor = minor
        self.nr_sectors = nr_sectors
        self.queue = Disk(vmstat)
        self.virtual = False
        """Whether there is no hardware behind it."""
        self.zram: Zram | None = None
        """What keeps its pages, if that is memory."""
        self.bd_mapping: Any = None
        """Pages of the device itself (Buffers in /proc/meminfo), once someone reads it."""
        self.bios: deque[Timer] = deque()
        """Completions to come, in their order."""
        self.set_speed(speed)

    def __repr__(self) -> str:
        return f"<Gendisk {self.name} {self.major}:{self.minor}>"

    def set_speed(self, speed: DiskSpeed) -> None:
        """Be as fast as that from now on."""
        self.speed = speed
        queue = self.queue
        queue.seek_ns, queue.latency_ns, queue.request_ns, queue.flush_ns = speed[:4]
        queue.read_ps, queue.write_ps = speed.ps_per_sector(StatGroup.READ), speed.ps_per_sector(StatGroup.WRITE)

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

    def submit_bio(
        self, op: StatGroup, nr_sectors: int, nr_bios: int = 1, nr_requests: int = 1, sector: int = -1,
        end_io: Callable[..., object] | None = None, args: tuple[object, ...] = (), now_ns: int = 0,
    ) -> int:  # fmt: skip
        """Ask for sectors, from `sector` on or wherever they are; how many ns from now the last one will have come.

        `nr_bios` pieces were handed in, which merged into `nr_requests`. When it is done, `end_io(*args)` is called.
        `now_ns`: the time of whoever asks, if that runs ahead of the clock. Linux: block/blk-core.c, submit_bio().
        """
        done = self.queue.submit(op, nr_sectors, nr_bios, nr_requests, max(now_ns, self.clock.now_ns), sector)
        if end_io is not None:
            self.bios.append(self.clock.add_timer(done, self._bio_endio, end_io, args))
        return int(done) - self.clock.now_ns

    def _bio_endio(self, end_io: Callable[..., object], args: tuple[object, ...]) -> None:
        """Linux: block/bio.c, bio_endio()."""
        self.bios.popleft()
        end_io(*args)

    def _column(self, number: int) -> list[int]:
        column: list[int] = self.queue.stats[:, number].tolist()
        return column

    @property
    def ios(self) -> list[int]:
        """Requests of each StatGroup."""
        return self._column(0)

    @property
    def merges(self) -> list[int]:
        """Pieces that became part of another request."""
        return self._column(1)

    @property
    def sectors(self) -> list[int]:
        """Units of 512 bytes."""
        return self._column(2)

    @property
    def sectors_read(self) -> int:
        """Those of reads alone."""
        return int(self.queue.sectors_read())

    @property
    def nsecs(self) -> list[int]:
        """Time that requests took."""
        return self._column(3)

    @property
    def in_flight(self) -> int:
        """Requests that have not been answered yet."""
        return int(self.queue.in_flight(self.clock.now_ns))

    @property
    def io_ns(self) -> int:
        """How long requests were in flight until now (io_ticks of /proc/diskstats)."""
        return int(self.queue.io_ns(self.clock.now_ns))

    def stat(self) -> list[int]:
        """The numbers of its row in /proc/diskstats, times in ms. Linux: block/genhd.c, diskstats_show()."""
        rows = self.queue.stats.tolist()
        row: list[int] = []
        for op in (StatGroup.READ, StatGroup.WRITE):
            row += [*rows[op][:3], rows[op][3] // NSEC_PER_MSEC]
        row += [self.in_flight, self.io_ns // NSEC_PER_MSEC, sum(nsecs for *_, nsecs in rows) // NSEC_PER_MSEC]
        row += [*rows[StatGroup.DISCARD][:3], rows[StatGroup.DISCARD][3] // NSEC_PER_MSEC]
        return [*row, rows[StatGroup.FLUSH][0], rows[StatGroup.FLUSH][3] // NSEC_PER_MSEC]

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

    def complete_until(self, when_ns: int) -> None:
        """Let every request that is done by then be done now, in order, though the clock is not there yet."""
        for disk in self.disks:
            if disk.bios and disk.bios[0].when_ns <= when_ns:
                break
        else:
            return
        while due := [disk.bios[0] for disk in self.disks if disk.bios and disk.bios[0].when_ns <= when_ns]:
            min(due).fire()

    def add_disk(self, disk: Gendisk) -> Gendisk:
        """A disk has appeared. Linux: block/genhd.c, device_add_disk()."""
        self.disks.append(disk)
        return disk

    def del_gendisk(self, disk: Gendisk) -> None:
        """A disk is gone. Linux: block/genhd.c, del_gendisk()."""
        self.disks.remove(disk)

    def nr_blockdev_pages(self) -> int:
        """Buffers of /proc/meminfo. Linux: block/bdev.c, nr_blockdev_pages()."""
        return sum([disk.bd_mapping.nrpages for disk in self.disks if disk.bd_mapping is not None])


def virtio_disks(clock: Clock, vmstat: VmStat, hardware: Iterable[tuple[str, int, int, int, str]]) -> BlockDevices:
    """The virtio disks of a machine: (name, major, minor, sectors, kind). Linux: drivers/block/virtio_blk.c."""
    devices = BlockDevices(vmstat)
    devices.register_blkdev("virtblk", VIRTBLK_MAJOR)
    for name, major, minor, nr_sectors, kind in hardware:
        devices.add_disk(Gendisk(clock, vmstat, name, major, minor, nr_sectors, SPEEDS[kind]))
    return devices
