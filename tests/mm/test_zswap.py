"""zswap and zram: pages compressed instead of written, what comes back from where, and what happens when it is full."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmfs.mm.mman import MADV_PAGEOUT
from mmfs.mm.zswap import WRITEBACK_SLICE, parse_contents
from mmfs.mm_types import VmEventItem, ZoneStatItem
from tests.mm.test_swap import MB, entries, event, forget_copies, rows

pytestmark = pytest.mark.machine(ram="128M", swap="128M", cpus=2, preset="bare", disks="nvme")
PARAMETERS = "/sys/module/zswap/parameters"


def enable(kernel: Any, contents: str = "") -> None:
    kernel.write(f"{PARAMETERS}/enabled", "Y")
    if contents:
        kernel.write("/sim/contents", contents)


def put_out(task: Any, size: int) -> int:
    addr: int = task.mmap(size)
    task.touch(addr, size, write=True)
    task.madvise(addr, size, MADV_PAGEOUT)
    return addr


def debug(kernel: Any, name: str) -> int:
    return int(kernel.read(f"/sys/kernel/debug/zswap/{name}"))


def test_off_until_it_is_asked_for(kernel: Any) -> None:
    assert "zswap" not in kernel.listdir("/sys/kernel/debug")
    put_out(kernel.spawn("hog"), 4 * MB)
    assert (event(kernel, VmEventItem.ZSWPOUT), event(kernel, VmEventItem.PSWPOUT)) == (0, 1024)
    enable(kernel)
    assert "zswap: loaded using pool lzo/zsmalloc" in kernel.read("/dev/kmsg").decode()
    assert "zswap" in kernel.listdir("/sys/kernel/debug")


def test_out_and_in_again(kernel: Any) -> None:
    """No disk is asked; a page that is read leaves zswap, and is dirty, as nobody else has it."""
    enable(kernel, "anon mean=500 spread=0 incompressible=0")
    task = kernel.spawn("hog")
    written = kernel.read("/proc/diskstats").splitlines()[1]
    addr = put_out(task, 8 * MB)
    assert event(kernel, VmEventItem.ZSWPOUT) == debug(kernel, "stored_pages") == 2048
    assert event(kernel, VmEventItem.PSWPOUT) == 0 and kernel.read("/proc/diskstats").splitlines()[1] == written
    meminfo = rows(kernel, "/proc/meminfo")
    assert meminfo["Zswapped"] == 8 << 10
    lzo = 4096 * 500 // 1000 * 880 // 1000
    assert 2048 * lzo >> 10 < meminfo["Zswap"] < 2048 * (lzo + 80) >> 10
    assert meminfo["Zswap"] << 10 == debug(kernel, "pool_total_size")
    assert meminfo["Zswap"] >> 2 == kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_ZSPAGES)
    assert f"VmSwap:\t    {8 << 10} kB\n" in kernel.read(f"/proc/{task.pid}/status").decode()
    assert rows(kernel, "/proc/meminfo")["SwapTotal"] - rows(kernel, "/proc/meminfo")["SwapFree"] >= 8 << 10
    kernel.check()
    major, began = task.maj_flt, kernel.clock.now_ns
    task.touch(addr, 4 * MB)
    assert event(kernel, VmEventItem.ZSWPIN) >= 1024 and event(kernel, VmEventItem.PSWPIN) == 0
    assert task.maj_flt > major, "Linux counts them as major though no disk is waited for"
    assert kernel.clock.now_ns - began < 1024 * 30_000
    assert debug(kernel, "stored_pages") == 2048 - event(kernel, VmEventItem.ZSWPIN)
    kernel.check()
    task.exit(0)
    assert rows(kernel, "/proc/meminfo")["Zswap"] == 0
    kernel.check()


@pytest.mark.machine(ram="128M", swap="128M", cpus=2, preset="bare", disks="nvme", profile="6.1")
def test_an_old_kernel_keeps_what_it_has_read(kernel: Any) -> None:
    """6.1 is set up at boot, knows pages of one word itself, and a copy stays until its slot is free."""
    assert "zswap: loaded using pool lzo/zbud" in kernel.read("/dev/kmsg").decode()
    enable(kernel, "anon mean=500 spread=0 incompressible=0 zero=250 same=250")
    task = kernel.spawn("hog")
    addr = put_out(task, 8 * MB)
    stored, same = debug(kernel, "stored_pages"), debug(kernel, "same_filled_pages")
    assert stored == event(kernel, VmEventItem.ZSWPOUT) == 2048
    assert same == pytest.approx(1024, rel=0.1)
    meminfo = rows(kernel, "/proc/meminfo")
    assert meminfo["Zswapped"] == 8 << 10
    assert meminfo["Zswap"] < (2048 - same) * 4 // 2
    assert event(kernel, VmEventItem.SWPOUT_ZERO) == 0
    task.touch(addr, 8 * MB)
    assert event(kernel, VmEventItem.ZSWPIN) == 2048 and event(kernel, VmEventItem.PSWPIN) == 0
    kernel.check()
    assert 0 < debug(kernel, "stored_pages") <= 2048
    task.exit(0)
    assert debug(kernel, "stored_pages") == debug(kernel, "same_filled_pages") == 0
    kernel.write(f"{PARAMETERS}/same_filled_pages_enabled", "N")
    put_out(kernel.spawn("hog"), 4 * MB)
    assert debug(kernel, "same_filled_pages") == 0
    with pytest.raises(OSError):
        kernel.write(f"{PARAMETERS}/zpool", "nosuch")
    kernel.write(f"{PARAMETERS}/zpool", "zsmalloc")


@pytest.mark.machine(ram="128M", swap="128M", cpus=2, preset="bare", disks="nvme", profile="6.1")
def test_an_old_kernel_writes_zeros(kernel: Any) -> None:
    """Without zswap, pages that are all zero go to the disk."""
    kernel.write("/sim/contents", "anon incompressible=0 zero=1000")
    put_out(kernel.spawn("hog"), 4 * MB)
    assert event(kernel, VmEventItem.PSWPOUT) == 1024


def test_what_does_not_compress_is_written(kernel: Any) -> None:
    enable(kernel, "anon mean=300 spread=100 incompressible=500")
    put_out(kernel.spawn("hog"), 8 * MB)
    poor = debug(kernel, "reject_compress_poor")
    assert 800 < poor < 1250, "about half of 2048"
    assert event(kernel, VmEventItem.PSWPOUT) == poor and event(kernel, VmEventItem.ZSWPOUT) == 2048 - poor
    kernel.check()


def test_zero_pages_are_neither(kernel: Any) -> None:
    """With and without zswap. Linux: swap_zeromap_folio_set()."""
    kernel.write("/sim/contents", "anon zero=1000 incompressible=0")
    task = kernel.spawn("hog")
    addr = put_out(task, 4 * MB)
    assert (event(kernel, VmEventItem.SWPOUT_ZERO), event(kernel, VmEventItem.PSWPOUT)) == (1024, 0)
    enable(kernel)
    other = put_out(task, 4 * MB)
    assert (event(kernel, VmEventItem.SWPOUT_ZERO), event(kernel, VmEventItem.ZSWPOUT)) == (2048, 0)
    task.touch(addr, 4 * MB)
    task.touch(other, 4 * MB, write=True)
    assert event(kernel, VmEventItem.SWPIN_ZERO) == 2048
    kernel.check()


def test_a_full_pool_writes_its_oldest_back(kernel: Any) -> None:
    kernel.write(f"{PARAMETERS}/max_pool_percent", "5")
    enable(kernel, "anon mean=500 spread=0 incompressible=0")
    task = kernel.spawn("hog")
    limit = kernel.totalram_pages() * 5 // 100
    addr = put_out(task, 16 * MB)
    assert debug(kernel, "pool_limit_hit") >= 1
    assert limit <= debug(kernel, "pool_total_size") >> 12 < limit + 8
    assert debug(kernel, "written_back_pages") == 0, "the first time round each has a second chance"
    for _ in range(300):
        put_out(task, MB // 16)
        kernel.run_for(0.02)
    assert limit * 8 // 10 < debug(kernel, "pool_total_size") >> 12 < limit + 8
    back = debug(kernel, "written_back_pages")
    assert back == event(kernel, VmEventItem.ZSWPWB) > 0
    assert event(kernel, VmEventItem.PSWPOUT) >= back
    kernel.check()
    assert forget_copies(kernel) > 0, "what has been written is in the swap cache until it is reclaimed"
    task.touch(addr, 16 * MB)
    assert event(kernel, VmEventItem.PSWPIN) > 0, "those come from the disk"
    kernel.check()


def test_the_worker_goes_on_until_the_threshold(kernel: Any) -> None:
    """A slice at a time, waiting for the disk in between."""
    kernel.write(f"{PARAMETERS}/max_pool_percent", "5")
    enable(kernel, "anon mean=500 spread=0 incompressible=0")
    task = kernel.spawn("hog")
    put_out(task, 16 * MB)
    kernel.write(f"{PARAMETERS}/accept_threshold_percent", "10")
    for _ in range(150):
        put_out(task, MB // 16)
        kernel.run_for(0.01)
    limit = kernel.totalram_pages() * 5 // 1000
    assert debug(kernel, "written_back_pages") > 4 * WRITEBACK_SLICE
    assert debug(kernel, "pool_total_size") >> 12 < limit * 3
    kernel.check()


def test_turned_off_it_still_gives_back(kernel: Any) -> None:
    enable(kernel)
    task = kernel.spawn("hog")
    addr = put_out(task, 4 * MB)
    kernel.write(f"{PARAMETERS}/enabled", "0")
    stored = debug(kernel, "stored_pages")
    assert stored > 900
    put_out(task, MB)
    assert debug(kernel, "stored_pages") == stored
    task.touch(addr, 4 * MB, write=True)
    assert event(kernel, VmEventItem.ZSWPIN) == stored and debug(kernel, "stored_pages") == 0
    kernel.check()


def test_swapoff_takes_all_out(kernel: Any) -> None:
    enable(kernel)
    put_out(kernel.spawn("hog"), 8 * MB)
    kernel.swapoff("/dev/vdb")
    assert rows(kernel, "/proc/meminfo")["Zswapped"] == 0
    kernel.check()


@pytest.mark.machine(
    ram="128M", swap="128M", cpus=2, preset="bare", disks="nvme",
    cmdline="zswap.enabled=oN zswap.compressor=zstd zswap.shrinker_enabled=T zswap.max_pool_percent=50 zswap.zpool=x",
)  # fmt: skip
def test_parameters_of_the_command_line(kernel: Any) -> None:
    values = {name: kernel.read(f"{PARAMETERS}/{name}").decode().strip() for name in kernel.listdir(PARAMETERS)}
    assert values == {
        "accept_threshold_percent": "90", "compressor": "zstd", "enabled": "Y", "max_pool_percent": "50",
        "shrinker_enabled": "Y", "zpool": "zsmalloc",
    }  # fmt: skip
    said = kernel.read("/dev/kmsg").decode()
    assert "zswap: zpool x not available, using default zsmalloc" in said
    assert "invalid for parameter" not in said


def test_names_are_looked_at_when_it_is_enabled(kernel: Any) -> None:
    kernel.write(f"{PARAMETERS}/compressor", "nosuch")
    assert kernel.read(f"{PARAMETERS}/compressor") == b"nosuch\n"
    kernel.write(f"{PARAMETERS}/enabled", "1")
    assert kernel.read(f"{PARAMETERS}/compressor") == b"lzo\n"
    assert "zswap: compressor nosuch not available, using default lzo" in kernel.read("/dev/kmsg").decode()
    with pytest.raises(OSError, match="nosuch"):
        kernel.write(f"{PARAMETERS}/compressor", "nosuch")


def test_shrinker_writes_back_under_pressure(kernel: Any) -> None:
    """With the pool far from full: reclaim asks zswap as it asks all that can shrink."""
    kernel.write(f"{PARAMETERS}/max_pool_percent", "90")
    enable(kernel, "anon mean=800 spread=0 incompressible=0")
    task = kernel.spawn("hog")
    put_out(task, 40 * MB)
    task.mmap(60 * MB)
    kernel.write(f"{PARAMETERS}/shrinker_enabled", "1")
    other = kernel.spawn("other")
    addr = other.mmap(100 * MB)
    for at in range(0, 80 * MB, 4 * MB):
        other.touch(addr + at, 4 * MB, write=True)
        kernel.run_for(0.05)
    assert debug(kernel, "written_back_pages") > 0
    kernel.check()


def test_contents() -> None:
    class Fake:
        table = __import__("numpy").zeros((2, 5), "i4")

    parse_contents(Fake, "shmem mean=10 zero=1000")  # type: ignore[arg-type]
    assert Fake.table.tolist() == [[0, 0, 0, 0, 0], [10, 0, 0, 0, 1000]]
    for bad in ("", "heap mean=1", "anon mean=-1", "anon mean=1001", "anon nice=3", "anon zero=600 same=500", "anon x"):
        with pytest.raises(ValueError):
            parse_contents(Fake, bad)  # type: ignore[arg-type]


# ---- zram ------------------------------------------------------------------------------------------------------------

ZRAM = pytest.mark.machine(ram="128M", cpus=2, preset="bare", cmdline="zram.num_devices=1")


def zram(kernel: Any, size: str = "128M", algorithm: str = "lz4") -> None:
    kernel.write("/sys/block/zram0/comp_algorithm", algorithm)
    kernel.write("/sys/block/zram0/disksize", size)
    kernel.mkswap("/dev/zram0")
    kernel.swapon("/dev/zram0", 100)


def mm_stat(kernel: Any) -> list[int]:
    return [int(word) for word in kernel.read("/sys/block/zram0/mm_stat").split()]


@ZRAM
def test_zram_keeps_pages_compressed(kernel: Any) -> None:
    """A page with one owner comes back past the swap cache, alone, and its slot is free at once."""
    zram(kernel)
    kernel.write("/sim/contents", "anon mean=250 spread=0 incompressible=100 same=100")
    task = kernel.spawn("hog")
    addr = put_out(task, 16 * MB)
    original, compressed, used, limit, most, same, _, huge, since = mm_stat(kernel)
    assert original == 16 * MB + 4096 and limit == 0 and most == used and since == huge
    assert 300 < same < 520 and 300 < huge < 520
    assert compressed == (4096 - same - huge) * 1024 + huge * 4096 + 63
    assert compressed < used < compressed * 11 // 10
    assert event(kernel, VmEventItem.PSWPOUT) == 4096
    kernel.check()
    task.touch(addr, 8 * MB)
    assert event(kernel, VmEventItem.PSWPIN) == 2048 and event(kernel, VmEventItem.SWAP_RA) == 0
    assert rows(kernel, "/proc/meminfo")["SwapCached"] == 0
    assert mm_stat(kernel)[0] <= 8 * MB + 4096 + 64 * 4096 * 2, "but for what a processor keeps of free slots"
    kernel.check()
    task.exit(0)
    kernel.swapoff("/dev/zram0")
    assert mm_stat(kernel)[0] == 4096, "the header"
    kernel.write("/sys/block/zram0/reset", "1")
    assert kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_ZSPAGES) == 0
    kernel.check()


@ZRAM
def test_zram_takes_no_time_of_a_disk(kernel: Any) -> None:
    zram(kernel)
    task = kernel.spawn("hog")
    addr = put_out(task, 8 * MB)
    kernel.run_for(1.0)
    before = task.stime_ns
    task.touch(addr, 8 * MB)
    assert task.stime_ns - before > 1800 * 5_400, "decompressing is the reader's own time"
    assert "0.00" in kernel.read("/proc/pressure/io").decode().split()[1]
    fields = kernel.read("/sys/block/zram0/stat").split()
    assert (int(fields[0]), int(fields[4]), int(fields[8])) == (2048, 2049, 0)


@ZRAM
def test_zram_over_its_limit_refuses(kernel: Any) -> None:
    """The page stays in memory, dirty. Linux: zram_write_page(), __end_swap_bio_write()."""
    zram(kernel)
    kernel.write("/sim/contents", "anon mean=500 spread=0 incompressible=0")
    kernel.write("/sys/block/zram0/mem_limit", "2M")
    task = kernel.spawn("hog")
    addr = put_out(task, 8 * MB)
    stat = mm_stat(kernel)
    assert stat[2] <= stat[3] == 2 * MB
    assert int(kernel.read("/sys/block/zram0/io_stat").split()[1]) > 0
    kernel.check()
    task.touch(addr, 8 * MB)
    kernel.check()


@ZRAM
def test_zswap_in_front_of_zram(kernel: Any) -> None:
    zram(kernel)
    enable(kernel)
    task = kernel.spawn("hog")
    addr = put_out(task, 8 * MB)
    assert debug(kernel, "stored_pages") + debug(kernel, "reject_compress_poor") == 2048
    kernel.check()
    task.touch(addr, 8 * MB, write=True)
    assert debug(kernel, "stored_pages") == 0
    kernel.check()


@ZRAM
def test_compact_after_many_have_gone(kernel: Any) -> None:
    zram(kernel)
    kernel.write("/sim/contents", "anon mean=250 spread=0 incompressible=0")
    task = kernel.spawn("hog")
    addr = put_out(task, 32 * MB)
    task.touch(addr, 32 * MB, stride=8192)
    used = mm_stat(kernel)[2]
    kernel.write("/sys/block/zram0/compact", "1")
    after = mm_stat(kernel)
    assert used - after[2] == after[6] << 12 > 0
    kernel.check()


@ZRAM
def test_a_page_of_two_owners_goes_through_the_swap_cache(kernel: Any) -> None:
    zram(kernel)
    task = kernel.spawn("hog")
    addr = task.mmap(4 * MB)
    task.touch(addr, 4 * MB, write=True)
    child = task.fork()
    kernel.lru.lru_add_drain_all()
    kernel.reclaim.reclaim_pages(None, (entries(task, addr, 1024) >> 12 & (1 << 40) - 1).astype(np.int64))
    assert mm_stat(kernel)[0] == 4 * MB + 4096
    task.touch(addr, 4 * MB)
    assert rows(kernel, "/proc/meminfo")["SwapCached"] == 4 << 10
    child.touch(addr, 4 * MB, write=True)
    kernel.check()
