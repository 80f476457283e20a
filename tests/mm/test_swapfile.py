"""Swap areas come and go: what swapon and swapoff accept, priorities, and reading everything back."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from mmfs.kernel.block import StatGroup
from mmfs.kernel.signal import TaskKilled
from mmfs.mm.mman import MADV_PAGEOUT
from mmfs.mm.swapfile import (
    SWAP_FLAG_DISCARD,
    SWAP_FLAG_DISCARD_ONCE,
    SWAP_FLAG_DISCARD_PAGES,
    SWAP_FLAG_PREFER,
)
from mmfs.mm_types import MAX_SWAPFILES, MM_SWAPENTS, VmEventItem
from tests.mm.test_swap import MB, PAGE, entries, event, forget_copies, rows, swapped

SWAP = ["32M", "32M", "32M"]
pytestmark = pytest.mark.machine(ram="128M", swap=SWAP, cpus=2, preset="bare")


def fails(number: int, function: Any, *arguments: Any, **keywords: Any) -> None:
    with pytest.raises(OSError) as caught:
        function(*arguments, **keywords)
    assert caught.value.errno == number


def table(kernel: Any) -> list[tuple[str, str, str]]:
    """File, kind and priority of each row of /proc/swaps."""
    lines = [line.split() for line in kernel.read("/proc/swaps").decode().splitlines()[1:]]
    return [(words[0], words[1], words[4]) for words in lines]


@pytest.fixture
def task(kernel: Any) -> Any:
    return kernel.spawn("hog")


def put_out(task: Any, size: int) -> int:
    addr: int = task.mmap(size)
    task.touch(addr, size, write=True)
    task.madvise(addr, size, MADV_PAGEOUT)
    return addr


def test_errors(kernel: Any) -> None:
    """As a real kernel's, asked one after the other."""
    fails(errno.EBUSY, kernel.swapon, "/dev/vdb")
    fails(errno.EBUSY, kernel.swapon, "/dev/vda")
    fails(errno.ENOENT, kernel.swapon, "/dev/vdz")
    fails(errno.ENOENT, kernel.swapon, "/nofile")
    fails(errno.EISDIR, kernel.swapon, "/")
    kernel.namei.create("/f", 20 * MB)
    fails(errno.EINVAL, kernel.swapon, "/f")
    assert "Unable to find swap-space signature" in kernel.read("/dev/kmsg").decode()
    kernel.namei.create("/dev/shm/s" if kernel.mounts.find("/dev/shm/s").fstype == "tmpfs" else "/run/s", MB)
    fails(errno.EINVAL, kernel.swapoff, "/f")
    fails(errno.ENOENT, kernel.swapoff, "/nofile")
    fails(errno.EINVAL, kernel.swap_files.swapon, "/f", 1 << 20)


def test_only_the_administrator(kernel: Any) -> None:
    task = kernel.spawn("hog", uid=1000)
    fails(errno.EPERM, task.swapon, "/dev/vdb")
    fails(errno.EPERM, task.swapoff, "/dev/vdb")
    root = kernel.spawn("hog")
    root.swapoff("/dev/vdb")
    root.swapon("/dev/vdb", SWAP_FLAG_PREFER | 3)
    assert ("/dev/vdb", "partition", "3") in table(kernel)


def test_a_file(kernel: Any) -> None:
    kernel.create_file("/swapfile", 20 * MB)
    kernel.mkswap("/swapfile")
    kernel.swapon("/swapfile", priority=7)
    assert table(kernel)[-1] == ("/swapfile", "file", "7")
    assert kernel.swap_info[-1].size == 20 * 1024 - 4
    fails(errno.EBUSY, kernel.swapon, "/swapfile")
    fails(errno.EPERM, kernel.namei.unlink, "/swapfile")
    fails(errno.ETXTBSY, kernel.namei.open, "/swapfile", write=True)
    put_out(kernel.spawn("hog"), MB)
    kernel.check()
    assert kernel.swap_info[-1].inuse_pages >= 256
    kernel.swapoff("/swapfile")
    kernel.check()
    kernel.namei.unlink("/swapfile")


def test_so_many_are_all(kernel: Any) -> None:
    for number in range(MAX_SWAPFILES - 3):
        kernel.create_file(f"/s{number}", 40 << 10)
        kernel.mkswap(f"/s{number}")
        kernel.swapon(f"/s{number}")
    kernel.create_file("/one", 40 << 10)
    kernel.mkswap("/one")
    fails(errno.EPERM, kernel.swapon, "/one")
    assert len(kernel.swap_info) == MAX_SWAPFILES == 27
    kernel.check()


def test_automatic_priorities_move_up(kernel: Any) -> None:
    """The numbers of a real kernel's /proc/swaps: vdb leaves and comes back last, in its old row."""
    assert [prio for _, _, prio in table(kernel)] == ["-2", "-3", "-4"]
    kernel.swapoff("/dev/vdb")
    assert table(kernel) == [("/dev/vdc", "partition", "-2"), ("/dev/vdd", "partition", "-3")]
    kernel.swapon("/dev/vdb")
    assert [prio for _, _, prio in table(kernel)] == ["-4", "-2", "-3"]
    line = "Adding 32764k swap on /dev/vdb.  Priority:-4 extents:1 across:32764k \n"
    assert line in kernel.read("/dev/kmsg").decode()


def test_the_highest_priority_first(kernel: Any) -> None:
    kernel.swapoff("/dev/vdd")
    kernel.swapon("/dev/vdd", priority=1)
    put_out(kernel.spawn("hog"), 4 * MB)
    assert [area.inuse_pages > 0 for area in kernel.swap_info] == [False, False, True]
    put_out(kernel.spawn("hog"), 40 * MB)
    kernel.check()
    assert kernel.swap_info[2].inuse_pages == kernel.swap_info[2].pages
    assert [area.inuse_pages > 0 for area in kernel.swap_info] == [True, False, True]


def test_equal_priorities_in_turn(kernel: Any) -> None:
    for disk in ("/dev/vdc", "/dev/vdd"):
        kernel.swapoff(disk)
        kernel.swapon(disk, priority=5)
    put_out(kernel.spawn("hog"), 8 * MB)
    kernel.check()
    used = [area.inuse_pages for area in kernel.swap_info]
    assert used[0] == 0
    assert abs(used[1] - used[2]) <= 2 * 64
    assert used[1] + used[2] >= 2048


def test_swapoff_reads_everything_back(kernel: Any) -> None:
    for disk in ("/dev/vdc", "/dev/vdd"):
        kernel.swapoff(disk)
    task = kernel.spawn("hog")
    addr = put_out(task, 16 * MB)
    child = task.fork()
    kernel.run_for(1)
    began = kernel.clock.now_ns
    read = event(kernel, VmEventItem.PSWPIN)
    kernel.swapoff("/dev/vdb")
    kernel.check()
    assert kernel.swap_info == []
    assert rows(kernel, "/proc/meminfo")["SwapTotal"] == rows(kernel, "/proc/meminfo")["SwapCached"] == 0
    assert task.mm.get_mm_counter(MM_SWAPENTS) == child.mm.get_mm_counter(MM_SWAPENTS) == 0
    raw = entries(task, addr, 4096)
    assert (raw & 1 == 1).all() and not (raw & (1 << 5 | 1 << 1)).any()
    assert (raw == entries(child, addr, 4096)).all()
    assert event(kernel, VmEventItem.PSWPIN) - read == 0  # all of it was in the swap cache still
    assert kernel.clock.now_ns == began


def test_swapoff_takes_the_disk_s_time(kernel: Any) -> None:
    task = kernel.spawn("hog")
    put_out(task, 16 * MB)
    kernel.run_for(1)
    assert forget_copies(kernel) == 4096
    began = kernel.clock.now_ns
    read = event(kernel, VmEventItem.PSWPIN)
    kernel.swapoff("/dev/vdb")
    kernel.check()
    assert event(kernel, VmEventItem.PSWPIN) - read == 4096
    assert kernel.clock.now_ns - began > 16 * MB * 1_000_000_000 // 600_000_000


@pytest.mark.machine(ram="96M", swap="200M", cpus=1, preset="bare")
def test_swapoff_without_memory_fails_and_leaves_the_area(kernel: Any) -> None:
    task = kernel.spawn("hog", oom_score_adj=-1000)
    for _ in range(5):
        put_out(task, 24 * MB)
        kernel.run_for(1)
        forget_copies(kernel)
    fails(errno.ENOMEM, kernel.swapoff, "/dev/vdb")
    kernel.check()
    assert table(kernel) == [("/dev/vdb", "partition", "-2")]
    assert task.alive
    assert kernel.swap_info[0].inuse_pages > 1000


def test_overcommit_forbids_swapoff(kernel: Any) -> None:
    task = kernel.spawn("hog")
    task.mmap(80 * MB)
    kernel.write("/proc/sys/vm/overcommit_memory", "2")
    kernel.write("/proc/sys/vm/overcommit_ratio", "0")
    fails(errno.ENOMEM, kernel.swapoff, "/dev/vdb")
    assert len(table(kernel)) == 3


def test_on_a_disk_without_seeks_each_cpu_has_a_cluster(kernel: Any) -> None:
    kernel.swapoff("/dev/vdb")
    kernel.write("/sys/block/vdb/queue/rotational", "0")
    kernel.swapon("/dev/vdb", priority=9)
    assert "across:32764k SS\n" in kernel.read("/dev/kmsg").decode()
    for cpu in (0, 1):
        task = kernel.spawn("hog", cpus=[cpu])
        put_out(task, MB)
    kernel.check()
    clusters = {number: count for number, count, *_ in kernel.mmu.swap.slots.clusters_of(0)}
    assert sum(count > 1 for count in clusters.values()) == 2


def test_vma_readahead(kernel: Any) -> None:
    for disk in ("/dev/vdb", "/dev/vdc", "/dev/vdd"):
        kernel.swapoff(disk)
    kernel.write("/sys/block/vdb/queue/rotational", "0")
    kernel.swapon("/dev/vdb")
    task = kernel.spawn("hog")
    addr = put_out(task, 2 * MB)
    kernel.run_for(1)
    forget_copies(kernel)
    assert kernel.read("/sys/kernel/mm/swap/vma_ra_enabled") == b"true\n"
    task.touch(addr, MB)
    kernel.check()
    assert event(kernel, VmEventItem.SWAP_RA_HIT) > 200
    kernel.write("/sys/kernel/mm/swap/vma_ra_enabled", "0")
    assert kernel.read("/sys/kernel/mm/swap/vma_ra_enabled") == b"false\n"
    fails(errno.EINVAL, kernel.write, "/sys/kernel/mm/swap/vma_ra_enabled", "maybe")


def test_commands(kernel: Any) -> None:
    kernel.write("/sim/control", "swapoff /dev/vdb")
    kernel.write("/sim/control", "swapon /dev/vdb priority=12")
    assert ("/dev/vdb", "partition", "12") in table(kernel)
    fails(errno.EBUSY, kernel.write, "/sim/control", "swapon /dev/vdb")
    kernel.write("/sim/control", "create /sw 8M")
    kernel.write("/sim/control", "mkswap /sw")
    kernel.write("/sim/control", "swapon /sw")
    assert table(kernel)[-1][:2] == ("/sw", "file")


# ---- swapoff while others run ---------------------------------------------------------------------------------------


@pytest.mark.machine(ram="128M", swap="32M", cpus=2, preset="bare", disks={"vdb": "hdd"})
def test_swapoff_meets_programs_that_unmap_fork_and_exit(kernel: Any) -> None:
    """It waits for the disk, and what it was reading back for may be gone when it goes on."""
    tasks = [kernel.spawn("hog") for _ in range(3)]
    starts = [put_out(task, 6 * MB) for task in tasks]
    fd = tasks[0].open("/dev/shm/f", 0o102)
    tasks[0].write(fd, 4 * MB, 0)
    start = tasks[0].mmap(4 * MB, flags=1, file="/dev/shm/f")
    tasks[0].touch(start, 4 * MB, write=True)
    tasks[0].madvise(start, 4 * MB, MADV_PAGEOUT)
    kernel.run_for(2)
    forget_copies(kernel)
    now = kernel.clock.now_ns
    for after_ms, call, arguments in (
        (1, tasks[0].unlink, ("/dev/shm/f",)),
        (2, tasks[0].munmap, (start, 4 * MB)),
        (3, tasks[0].close, (fd,)),
        (20, tasks[1].munmap, (starts[1] + MB, 4 * MB)),
        (40, tasks[1].fork, ()),
        (60, tasks[0].munmap, (starts[0], 6 * MB)),
        (80, tasks[2].exit, (0,)),
    ):
        kernel.clock.add_timer(now + after_ms * 1_000_000, call, *arguments)
    kernel.swapoff("/dev/vdb")
    assert kernel.clock.now_ns - now > 80_000_000
    kernel.check()
    assert kernel.swap_info == []
    assert not tasks[2].alive


@pytest.mark.machine(ram="96M", swap="96M", cpus=2, preset="bare")
def test_swapoff_without_memory_is_what_the_oom_killer_takes(kernel: Any) -> None:
    """As a real kernel's swapoff, which was killed; the area stayed with its priority."""
    hog, root = kernel.spawn("hog"), kernel.spawn("bash")
    addr = hog.mmap(120 * MB)
    hog.touch(addr, 120 * MB, write=True)
    with pytest.raises(TaskKilled):
        root.swapoff("/dev/vdb")
    kernel.check()
    assert hog.alive
    assert not root.alive
    assert table(kernel) == [("/dev/vdb", "partition", "-2")]
    assert f"Killed process {root.pid} (bash)" in kernel.read("/dev/kmsg").decode()


@pytest.mark.machine(ram="128M", swap="200M", cpus=2, preset="bare")
@pytest.mark.parametrize(
    ("flags", "rotational", "letters", "sectors"),
    [
        (SWAP_FLAG_DISCARD, "1", "Dsc", 409592),
        (SWAP_FLAG_DISCARD | SWAP_FLAG_DISCARD_PAGES, "1", "Dc", 0),
        (SWAP_FLAG_DISCARD | SWAP_FLAG_DISCARD_ONCE, "1", "Ds", 409592),
        (SWAP_FLAG_DISCARD, "0", "SSDsc", 409592),
        (0, "1", "", 0),
    ],
)
def test_discard(kernel: Any, flags: int, rotational: str, letters: str, sectors: int) -> None:
    """What a real kernel logged, and what it discarded of a disk of 200 MB."""
    kernel.swapoff("/dev/vdb")
    kernel.write("/sys/block/vdb/queue/rotational", rotational)
    kernel.spawn("bash").swapon("/dev/vdb", flags)
    line = f"Adding 204796k swap on /dev/vdb.  Priority:-2 extents:1 across:204796k {letters}"
    assert kernel.read("/dev/kmsg").decode().splitlines()[-1].endswith(line)
    disk = kernel.block_devices["vdb"]
    assert disk.sectors[StatGroup.DISCARD] == sectors
    assert disk.ios[StatGroup.DISCARD] == int(sectors > 0)


@pytest.mark.machine(ram="128M", swap="32M", cpus=1, preset="bare")
def test_clusters_are_discarded_when_they_are_free(kernel: Any) -> None:
    kernel.swapoff("/dev/vdb")
    kernel.write("/sys/block/vdb/queue/rotational", "0")
    kernel.spawn("bash").swapon("/dev/vdb", SWAP_FLAG_DISCARD | SWAP_FLAG_DISCARD_PAGES)
    task = kernel.spawn("hog")
    addr = put_out(task, 8 * MB)
    kernel.run_for(1)
    task.munmap(addr, 8 * MB)
    kernel.run_for(2)
    disk = kernel.block_devices["vdb"]
    assert disk.ios[StatGroup.DISCARD] in (3, 4)
    assert disk.sectors[StatGroup.DISCARD] == disk.ios[StatGroup.DISCARD] * 512 * 8
    kernel.check()
    before = disk.ios[StatGroup.DISCARD]
    task.munmap(put_out(task, 8 * MB), 8 * MB)
    kernel.swapoff("/dev/vdb")
    assert disk.ios[StatGroup.DISCARD] > before, "swapoff does what was still to do"
    assert "swap_discard_work" not in kernel.clock.periodics
    kernel.run_for(2)
    kernel.check()


# ---- short of memory ----------------------------------------------------------------------------------------------


@pytest.mark.machine(ram="96M", swap="96M", cpus=2, preset="bare")
def test_a_tmpfs_file_larger_than_memory_is_written_again(kernel: Any, task: Any) -> None:
    """Pages that go to swap while the pages before them are written keep their slots until they are back."""
    fd = task.open("/dev/shm/big", 0o102)
    size = 100 * MB
    for _ in range(2):
        assert task.write(fd, size, 0) == size
        kernel.check()
    assert rows(kernel, "/proc/meminfo")["SwapFree"] > 0
    task.ftruncate(fd, 0)
    kernel.check()
    assert rows(kernel, "/proc/meminfo")["Shmem"] == 0
    assert kernel.mmu.swap.nr_shmem_swapped == 0


@pytest.mark.machine(ram="96M", swap="96M", cpus=2, preset="bare")
def test_read_ahead_changes_its_kind_while_a_fault_waits_for_memory(
    kernel: Any, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window of addresses is not gone on with as one of slots, nor the other way round."""
    kernel.write("/sys/block/vdb/queue/rotational", "0")
    kernel.swapoff("/dev/vdb")
    kernel.swapon("/dev/vdb")
    addr = swapped(task, 4 * MB)
    slow, calls = kernel.page_alloc.slowpath, 0

    def switch(*arguments: Any) -> int:
        nonlocal calls
        calls += 1
        kernel.write("/sys/kernel/mm/swap/vma_ra_enabled", str(calls & 1))
        pfn: int = slow(*arguments)
        return pfn

    other = kernel.spawn("hog")
    full = other.mmap(60 * MB)
    other.touch(full, 60 * MB, write=True)
    monkeypatch.setattr(kernel.page_alloc, "slowpath", switch)
    for start in range(addr, addr + 4 * MB, MB):
        task.touch(start, MB)
        other.touch(full, 60 * MB, write=True)
    kernel.check()
    assert calls > 10


@pytest.mark.machine(ram="96M", swap="128M", cpus=2, preset="bare")
def test_no_page_is_lost_while_shared_memory_comes_back(kernel: Any, task: Any) -> None:
    """A page that was made for a swap-in is its, or free again. Between the sums lie the per-CPU lists' pages."""

    def known() -> int:
        now = rows(kernel, "/proc/meminfo")
        names = "MemFree", "Cached", "SwapCached", "Buffers", "AnonPages", "Slab", "PageTables", "KernelStack", "Percpu"
        return sum(now[name] for name in names)

    other = kernel.spawn("hog")
    other.touch(other.mmap(50 * MB), 50 * MB, write=True)
    fd = task.open("/dev/shm/big", 0o102)
    task.write(fd, 60 * MB, 0)
    before = known()
    for _ in range(3):
        task.read(fd, 60 * MB, 0)
        task.write(fd, 60 * MB, 0)
    kernel.check()
    assert before - known() < 400


# ---- read-ahead: what a real 6.12 counted ----------------------------------------------------------------------------

PATTERNS = ("in order", "every 16th", "backwards", "every other", "at random")
READ_AHEAD = {  # pswpin, pgmajfault, swap_ra, swap_ra_hit of each pattern, by queue/rotational and vm.page-cluster
    ("1", 3): ((1031, 129, 902, 895), (67, 63, 4, 1)),
    ("1", 0): ((1024, 1024, 0, 0), (64, 64, 0, 0), (1024, 1024, 0, 0)),
    ("0", 3): ((1024, 130, 894, 894), (75, 64, 11, 0), (1024, 132, 892, 892), (769, 384, 385, 128), (64, 64, 0, 0)),
    ("0", 5): ((1024, 36, 988, 988), (113, 63, 50, 1), (1024, 38, 986, 986), (769, 379, 390, 133), (64, 64, 0, 0)),
}


@pytest.mark.machine(ram="256M", swap="256M", cpus=2, preset="bare")
@pytest.mark.parametrize(("rotational", "page_cluster"), READ_AHEAD)
def test_read_ahead_as_on_a_real_machine(kernel: Any, task: Any, rotational: str, page_cluster: int) -> None:
    """32 MB that have been swapped out are read in five patterns, 4 MB each; the figures are exact.

    On a disk that turns, a real kernel's later patterns found pages that its reclaim had left in the swap cache, so
    only those are here that did not.
    """
    kernel.swapoff("/dev/vdb")
    kernel.write("/sys/block/vdb/queue/rotational", rotational)
    kernel.swapon("/dev/vdb")
    kernel.write("/proc/sys/vm/page-cluster", str(page_cluster))
    addr = put_out(task, 32 * MB)
    kernel.run_for(1)
    forget_copies(kernel)
    accesses = (
        range(0, 4 * MB, PAGE),
        range(4 * MB, 8 * MB, 16 * PAGE),
        range(12 * MB - PAGE, 8 * MB - 1, -PAGE),
        range(12 * MB, 16 * MB, 2 * PAGE),
        [16 * MB + (i * 2654435761 % (1 << 32) % 1024) * PAGE for i in range(64)],
    )
    names = ("pswpin", "pgmajfault", "swap_ra", "swap_ra_hit")
    for pattern, offsets, expected in zip(PATTERNS, accesses, READ_AHEAD[rotational, page_cluster], strict=False):
        before = rows(kernel, "/proc/vmstat")
        task.touch([addr + offset for offset in offsets])
        after = rows(kernel, "/proc/vmstat")
        assert (pattern, *(after[name] - before[name] for name in names)) == (pattern, *expected)
    kernel.check()
