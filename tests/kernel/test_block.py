"""Disks: what requests cost, and what /proc/diskstats counts of them."""

from __future__ import annotations

import pytest

from mmfs.kernel.block import HDD, BlockDevices, Gendisk, StatGroup, virtio_disks
from mmfs.kernel.clock import NSEC_PER_SEC, Clock
from mmfs.mm.vmstat import VmStat
from mmfs.mm_types import VmEventItem


@pytest.fixture
def devices() -> BlockDevices:
    return virtio_disks(Clock(), VmStat(1), [("vda", 254, 0, 6291456, "ssd"), ("vdb", 254, 16, 524288, "ssd")])


@pytest.fixture
def disk(devices: BlockDevices) -> Gendisk:
    return devices["vda"]


def test_disks_by_name_and_by_path(devices: BlockDevices) -> None:
    assert [d.name for d in devices] == ["vda", "vdb"]
    assert devices["/dev/vdb"] is devices["vdb"]
    assert (devices["vdb"].dev, devices["vdb"].size_kb) == ((254, 16), 262144)
    with pytest.raises(KeyError):
        devices["sda"]


def test_major_numbers_as_on_debian(devices: BlockDevices) -> None:
    assert sorted(devices.majors.items()) == [(254, "virtblk"), (259, "blkext")]
    assert devices.register_blkdev("zram") == 253


def test_a_read_is_counted_and_takes_its_time(disk: Gendisk) -> None:
    wait = disk.submit_bio(StatGroup.READ, 8)
    assert wait == disk.speed.latency_ns + disk.speed.request_ns + disk.speed.transfer_ns(8)
    assert (disk.ios[StatGroup.READ], disk.sectors[StatGroup.READ], disk.nsecs[StatGroup.READ]) == (1, 8, wait)
    assert disk.vmstat.event[VmEventItem.PGPGIN] == 8
    assert disk.in_flight == 1
    assert disk.io_ns == 0
    disk.clock.run_for(wait)
    assert disk.in_flight == 0
    assert disk.io_ns == wait


def test_merged_writes(disk: Gendisk) -> None:
    disk.submit_bio(StatGroup.WRITE, 256, nr_bios=32, nr_requests=1)
    assert (disk.ios[StatGroup.WRITE], disk.merges[StatGroup.WRITE]) == (1, 31)
    assert disk.vmstat.event[VmEventItem.PGPGOUT] == 256


def test_requests_queue_behind_each_other(disk: Gendisk) -> None:
    first = disk.submit_bio(StatGroup.READ, 20480)
    second = disk.submit_bio(StatGroup.READ, 20480)
    assert second == first + disk.speed.request_ns + disk.speed.transfer_ns(20480)
    assert disk.in_flight == 2
    disk.clock.run_for(NSEC_PER_SEC)
    assert disk.io_ns == second  # busy without a pause, and not twice for two at once


def test_io_time_never_runs_ahead_of_the_clock(disk: Gendisk) -> None:
    disk.submit_bio(StatGroup.WRITE, 1 << 22)
    for _ in range(5):
        disk.clock.run_for(NSEC_PER_SEC // 10)
        assert disk.io_ns == disk.clock.now_ns


def test_flushes_are_not_page_traffic(disk: Gendisk) -> None:
    disk.submit_bio(StatGroup.FLUSH, 0)
    assert disk.ios[StatGroup.FLUSH] == 1
    assert disk.vmstat.event.sum() == 0


def test_a_hard_disk_is_slower(devices: BlockDevices) -> None:
    slow = devices.add_disk(Gendisk(Clock(), VmStat(1), "sda", 8, 0, 1 << 21, HDD))
    assert slow.submit_bio(StatGroup.READ, 8) > 50 * devices["vda"].submit_bio(StatGroup.READ, 8)
    devices.del_gendisk(slow)
    assert len(devices) == 2


def test_a_hard_disk_reads_on_where_it_stopped_without_moving_its_arm(devices: BlockDevices) -> None:
    devices["vda"].set_speed(HDD)
    disk = devices["vda"]
    wait = disk.submit_bio(StatGroup.READ, 256, sector=1000)
    assert disk.submit_bio(StatGroup.READ, 256, sector=1256) == wait + HDD.transfer_ns(256)
    assert disk.submit_bio(StatGroup.READ, 256, sector=1000) == wait + 2 * HDD.transfer_ns(256) + HDD.seek_ns


def test_completions_come_in_their_order_with_the_clock_or_early(devices: BlockDevices) -> None:
    clock, done = devices["vda"].clock, []
    first = devices["vda"].submit_bio(StatGroup.WRITE, 8, end_io=done.append, args=("first",))
    third = devices["vda"].submit_bio(StatGroup.WRITE, 1 << 12, end_io=done.append, args=("third",))
    devices["vdb"].submit_bio(StatGroup.WRITE, 8, nr_requests=2, end_io=done.append, args=("second",))
    clock.run_for(first)
    assert done == ["first"]
    devices.complete_until(third - 1)
    assert done == ["first", "second"]
    devices.complete_until(third)
    clock.run_for(third)
    assert done == ["first", "second", "third"]


def test_more_requests_than_are_told_apart(disk: Gendisk) -> None:
    waits = [disk.submit_bio(StatGroup.READ, 8) for _ in range(5000)]
    assert disk.in_flight == 5000
    disk.clock.run_for(waits[9])
    assert disk.in_flight == 4990
    disk.clock.run_for(waits[-1])
    assert disk.in_flight == 0


def test_no_device_pages_unless_someone_caches_them(devices: BlockDevices) -> None:
    assert devices.nr_blockdev_pages() == 0


def test_the_row_of_diskstats(disk: Gendisk) -> None:
    disk.submit_bio(StatGroup.READ, 1 << 18, nr_bios=40, nr_requests=10)
    disk.submit_bio(StatGroup.FLUSH, 0)
    disk.clock.run_for(NSEC_PER_SEC // 10)
    wait = 248  # ms: 128 MB at 540 MB/s
    row = disk.stat()
    assert len(row) == 17
    assert row[:4] == [10, 30, 1 << 18, 10 * wait + 7]
    assert row[8:11] == [11, 100, sum(disk.nsecs) // 1_000_000]
    assert row[15:] == [1, wait + 1]
