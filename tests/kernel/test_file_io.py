"""Files on the disk: what is read ahead, what becomes dirty, who writes it back. Figures are those of a real 6.12."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mmfs.kernel.block import StatGroup
from mmfs.kernel.namei import O_CREAT, O_RDWR
from mmfs.mm.fadvise import POSIX_FADV_DONTNEED, POSIX_FADV_RANDOM, POSIX_FADV_SEQUENTIAL, POSIX_FADV_WILLNEED
from mmfs.mm.madvise import MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED
from mmfs.mm.mman import MAP_SHARED, PROT_READ, PROT_WRITE
from mmfs.mm.msync import MS_SYNC

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

KB, MB, PAGE = 1 << 10, 1 << 20, 4096


def counters(kernel: Kernel) -> dict[str, int]:
    rows = kernel.read("/proc/vmstat").decode().splitlines()
    found = {name: int(value) for name, value in (row.split() for row in rows)}
    for row in kernel.read("/proc/meminfo").decode().splitlines():
        name, value = row.split()[:2]
        found[name[:-1]] = int(value)
    return found


class Changes:
    """What counters change by while a block runs."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.disk = kernel.block_devices["vda"]

    def __enter__(self) -> Changes:
        self.before, self.ios = counters(self.kernel), self.disk.ios
        return self

    def __exit__(self, *_: object) -> None:
        after = counters(self.kernel)
        self.by = {name: after[name] - value for name, value in self.before.items()}
        self.requests = [new - old for new, old in zip(self.disk.ios, self.ios, strict=True)]
        self.kernel.check()


@pytest.fixture
def task(kernel: Kernel) -> Task:
    """Init, with a file of 200 MB on the disk and everything read that opening it needs."""
    kernel.create_file("/data/f", "200M")
    init = kernel.tasks[1]
    init.stat("/data/f")
    init.write("/data/old", 0, MB)  # a disk that has never written has no share of what may be dirty
    init.sync()
    return init


def dd(task: Task, bs: int, count: int, skip: int = 0) -> None:
    fd = task.open("/data/f")
    for number in range(skip, skip + count):
        task.read(fd, bs, number * bs)
    task.close(fd)


# -- reading ---------------------------------------------------------------------------------------------------------


def test_a_whole_file_comes_in_windows_of_read_ahead(kernel: Kernel, task: Task) -> None:
    with Changes(kernel) as change:
        dd(task, 128 * KB, 1600)
    assert change.requests[StatGroup.READ] == 1600
    assert (change.by["pgpgin"], change.by["Cached"]) == (204800, 204800)
    assert change.by["Inactive(file)"] + change.by["Active(file)"] == pytest.approx(204800, abs=2 * 31 * 4)


@pytest.mark.parametrize(
    ("bs", "count", "skip", "kilobytes", "requests"),
    [
        (4 * KB, 1, 0, 16, 1),  # from the start: four pages
        (4 * KB, 3, 0, 48, 2),
        (4 * KB, 1, 1000, 4, 1),  # anywhere else: only that
        (64 * KB, 1, 300, 64, 1),
        (MB, 1, 100, 1024, 1),  # larger than a window: as much as a request may be
        (MB, 50, 0, 52224, 51),
    ],
)
def test_windows(kernel: Kernel, task: Task, bs: int, count: int, skip: int, kilobytes: int, requests: int) -> None:
    with Changes(kernel) as change:
        dd(task, bs, count, skip)
    assert (change.by["pgpgin"], change.requests[StatGroup.READ]) == (kilobytes, requests)


def test_read_ahead_is_as_far_as_the_disk_says(kernel: Kernel, task: Task) -> None:
    kernel.write("/sys/block/vda/queue/read_ahead_kb", "1024")
    assert kernel.read("/sys/class/bdi/254:0/read_ahead_kb") == b"1024\n"
    with Changes(kernel) as change:
        dd(task, 128 * KB, 80)
    assert change.requests[StatGroup.READ] < 20
    kernel.write("/sys/class/bdi/254:0/read_ahead_kb", "0")
    with Changes(kernel) as change:
        dd(task, 4 * KB, 10, 40_000)
    assert (change.by["pgpgin"], change.requests[StatGroup.READ]) == (40, 10)


def test_a_read_takes_the_time_of_the_disk(kernel: Kernel, task: Task) -> None:
    began = kernel.clock.now_ns
    assert task.read("/data/f", 0, "54M") == 54 * MB
    took = kernel.clock.now_ns - began
    assert took == pytest.approx(54 * MB / 540e6 * 1e9, rel=0.1)
    began = kernel.clock.now_ns
    task.read("/data/f", 0, "54M")
    assert kernel.clock.now_ns - began < took / 5


def test_reading_again_marks_pages_as_used(kernel: Kernel, task: Task) -> None:
    kernel.write("/sys/kernel/mm/lru_gen/enabled", "n")
    task.read("/data/f", 0, "8M")
    with Changes(kernel) as change:
        task.read("/data/f", 0, "8M")
    assert change.by["pgpgin"] == 0
    assert change.by["pgactivate"] == pytest.approx(2048, abs=31)


def test_advice(kernel: Kernel, task: Task) -> None:
    fd = task.open("/data/f")
    with Changes(kernel) as change:
        task.fadvise(fd, 0, 0, POSIX_FADV_RANDOM)
        task.read(fd, 4 * KB, 0)
        task.read(fd, 4 * KB, 4 * KB)
    assert change.by["pgpgin"] == 8
    with Changes(kernel) as change:
        task.fadvise(fd, 10 * MB, MB, POSIX_FADV_WILLNEED)
    assert change.by["pgpgin"] == 1024
    with Changes(kernel) as change:
        task.fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)
    assert change.by["Cached"] == -1032
    task.fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL)
    with Changes(kernel) as change:
        for number in range(200):
            task.read(fd, 16 * KB, number * 16 * KB)
    assert change.requests[StatGroup.READ] < 20  # windows of 256 KB


# -- mapped files -----------------------------------------------------------------------------------------------------


def test_a_mapped_file_read_in_order(kernel: Kernel, task: Task) -> None:
    addr = task.mmap("16M", PROT_READ, MAP_SHARED, file="/data/f")
    with Changes(kernel) as change:
        task.touch(addr, "16M")
    assert change.by["pgpgin"] == 16512
    assert change.by["pgmajfault"] == 1  # marks have all other windows read in time, or nearly


@pytest.mark.parametrize(
    ("advice", "stride", "count", "kilobytes"),
    [
        (None, 64, 700, 89600),  # all of 32 pages around: what these let be mapped makes good for the misses
        (MADV_RANDOM, 7919, 500, 2000),
        (None, 7919, 500, 60400),
    ],
)
def test_mapped_and_read_here_and_there(
    kernel: Kernel, task: Task, advice: int | None, stride: int, count: int, kilobytes: int
) -> None:
    addr = task.mmap("200M", PROT_READ, MAP_SHARED, file="/data/f")
    if advice is not None:
        task.madvise(addr, "200M", advice)
    pages = [addr + number * stride % 51200 * PAGE for number in range(count)]
    with Changes(kernel) as change:
        task.touch(pages)
    assert change.by["pgpgin"] == kilobytes
    assert change.by["pgmajfault"] == pytest.approx(count, abs=1)
    before = task.maj_flt
    task.touch(pages)
    assert task.maj_flt == before


def test_advice_on_mappings(kernel: Kernel, task: Task) -> None:
    addr = task.mmap("8M", PROT_READ, MAP_SHARED, file="/data/f")
    with Changes(kernel) as change:
        task.madvise(addr, "1M", MADV_WILLNEED)
    assert change.by["Cached"] == 1024
    task.madvise(addr, "8M", MADV_SEQUENTIAL)
    task.touch(addr, "1M")


# -- writing ----------------------------------------------------------------------------------------------------------


def test_written_pages_are_dirty_until_they_are_synced(kernel: Kernel, task: Task) -> None:
    with Changes(kernel) as change:
        fd = task.open("/data/w", O_RDWR | O_CREAT)
        for _ in range(30):
            task.write(fd, MB)
    assert change.by["nr_dirtied"] == pytest.approx(7680, abs=8)
    assert change.by["Dirty"] >= 30720
    assert task.io.write_bytes >= 30 * MB
    with Changes(kernel) as change:
        task.sync()
    assert (counters(kernel)["Dirty"], counters(kernel)["Writeback"]) == (0, 0)
    assert change.by["pgpgout"] == pytest.approx(30764, abs=100)
    assert change.by["nr_written"] == pytest.approx(7688, abs=16)
    assert change.requests[StatGroup.WRITE] == pytest.approx(34, abs=10)
    with Changes(kernel) as change:
        task.close(fd)
        task.unlink("/data/w")
    assert change.by["Cached"] == -30720


def test_the_flusher_writes_what_is_old(kernel: Kernel, task: Task) -> None:
    task.write("/data/e", 0, MB)
    kernel.run_for(20)
    assert counters(kernel)["nr_dirty"] >= 256
    kernel.run_for(20)
    kernel.check()
    assert counters(kernel)["nr_dirty"] < 16
    kernel.run_for(40)
    assert counters(kernel)["nr_dirty"] == 0


def test_expiry_can_be_tuned(kernel: Kernel, task: Task) -> None:
    kernel.write("/proc/sys/vm/dirty_expire_centisecs", "100")
    kernel.write("/proc/sys/vm/dirty_writeback_centisecs", "100")
    task.write("/data/e", 0, MB)
    kernel.run_for(8)
    assert counters(kernel)["nr_dirty"] < 16


def test_too_many_dirty_pages_are_written_in_the_background(kernel: Kernel, task: Task) -> None:
    kernel.write("/proc/sys/vm/dirty_background_bytes", str(4 * MB))
    task.write("/data/e", 0, "16M")
    kernel.run_for(2)
    kernel.check()
    assert counters(kernel)["nr_dirty"] <= 4 * MB // PAGE


@pytest.mark.machine(disks="hdd")
def test_a_writer_gets_no_faster_than_the_disk(kernel: Kernel, task: Task) -> None:
    kernel.write("/proc/sys/vm/dirty_bytes", str(32 * MB))
    kernel.write("/proc/sys/vm/dirty_background_bytes", str(8 * MB))
    began = kernel.clock.now_ns
    fd = task.open("/data/w", O_RDWR | O_CREAT)
    most = 0
    for _ in range(200):
        task.write(fd, MB)
        kernel.check()
        most = max(most, counters(kernel)["nr_dirty"] + counters(kernel)["nr_writeback"])
    seconds = (kernel.clock.now_ns - began) / 1e9
    assert most <= 33 * MB // PAGE
    assert 0.7 <= seconds <= 3  # 200 MB at 180 MB/s, of which 32 MB may still be dirty


def test_fsync_writes_one_file(kernel: Kernel, task: Task) -> None:
    task.write("/data/a", 0, MB)
    fd = task.open("/data/b", O_RDWR | O_CREAT)
    task.write(fd, MB)
    task.fsync(fd)
    kernel.check()
    assert task.fdtable[fd].mapping.nr_dirty == 0
    assert counters(kernel)["nr_dirty"] >= 256


def test_a_shared_mapping_that_is_written(kernel: Kernel, task: Task) -> None:
    addr = task.mmap("4M", PROT_READ | PROT_WRITE, MAP_SHARED, file="/data/f")
    with Changes(kernel) as change:
        task.touch(addr, "1M", write=True)
    assert change.by["nr_dirtied"] == pytest.approx(256, abs=4)
    task.msync(addr, "4M", MS_SYNC)
    kernel.check()
    mapping = kernel.namei.inodes["/data/f"].mapping
    assert mapping.nr_dirty == 0
    task.touch(addr, "1M", write=True)
    kernel.check()
    assert mapping.nr_dirty == 256


# -- giving up ---------------------------------------------------------------------------------------------------------


@pytest.mark.machine(disks="hdd")
def test_the_flusher_sleeps_while_what_is_dirty_is_being_written(
    kernel: Kernel, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that become dirty again on their way to the disk are over the threshold, and yet there is nothing to do."""
    addr = task.mmap(32 * PAGE, prot=PROT_READ | PROT_WRITE, flags=MAP_SHARED, file="/data/f")
    task.touch(addr, 32 * PAGE, write=True)
    wb, turns = kernel.bdis[0].wb, 0
    wb.start_writeback()
    kernel.run_for(0.002)
    assert wb.pages_in_flight == 32
    task.touch(addr, 32 * PAGE, write=True)
    write_inode = wb._write_inode

    def counted(*arguments: Any) -> None:
        nonlocal turns
        turns += 1
        assert turns < 100
        write_inode(*arguments)

    monkeypatch.setattr(wb, "_write_inode", counted)
    kernel.write("/proc/sys/vm/dirty_background_bytes", "1")
    wb.run()
    kernel.check()
    assert counters(kernel)["Dirty"] == 32 * 4
    kernel.run_for(60)
    assert counters(kernel)["Dirty"] == 0


def test_drop_caches(kernel: Kernel, task: Task) -> None:
    task.read("/data/f", 0, "50M")
    task.write("/data/g", 0, "1M")
    with Changes(kernel) as change:
        kernel.write("/proc/sys/vm/drop_caches", "1")
    assert change.by["drop_pagecache"] == 1
    assert change.by["Cached"] <= -51200 + 4 * 31
    assert counters(kernel)["nr_dirty"] >= 256


def test_names_and_inodes_go_when_asked(kernel: Kernel, task: Task) -> None:
    with Changes(kernel) as change:
        for number in range(1000):
            task.close(task.open(f"/data/many/f{number:05d}", O_RDWR | O_CREAT))
    assert change.by["Buffers"] == pytest.approx(272, abs=24)
    assert change.by["SReclaimable"] == pytest.approx(1300, abs=100)
    task.sync()
    with Changes(kernel) as change:
        kernel.write("/proc/sys/vm/drop_caches", "2")
    assert change.by["slabs_scanned"] >= 2000
    assert change.by["SReclaimable"] < -1050  # empty slabs stay on the CPUs' lists and, five a cache, on the node's
    with Changes(kernel) as change:
        task.stat("/data/many/f00500")
    assert change.by["SReclaimable"] >= 0
