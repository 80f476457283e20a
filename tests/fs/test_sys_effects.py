"""What follows from a tunable: watermarks, reserves, per-CPU lists, promises, caches, counters."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import mmfs
from mmfs.kernfs import Caller
from mmfs.mm.mman import MAP_FIXED, MAP_PRIVATE
from tests.golden.captures import GOLDEN, MACHINES

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

Zones = dict[str, dict[str, list[int]]]


@pytest.fixture
def kernel() -> Kernel:
    return mmfs.boot(ram="256M", cpus=2, swap="64M", preset="bare", seed=1)


def meminfo(kernel: Kernel, label: str) -> int:
    (line,) = [line for line in kernel.read("/proc/meminfo").decode().splitlines() if line.startswith(label + ":")]
    return int(line.split()[1])


def event(kernel: Kernel, name: str) -> int:
    (line,) = [line for line in kernel.read("/proc/vmstat").decode().splitlines() if line.startswith(name + " ")]
    return int(line.split()[1])


def tunable(kernel: Kernel, name: str) -> str:
    return kernel.read(f"/proc/sys/vm/{name}").decode().strip()


def set_tunable(kernel: Kernel, name: str, value: object) -> None:
    kernel.write(f"/proc/sys/vm/{name}", f"{value}\n")


# -- what zoneinfo shows, against a real kernel of the same shape -----------------------------------------------

# Where the kernel's own data lies differs from boot to boot: 2 % of a node's managed pages between this boot and ours.
TOLERANCE = 0.025


FIELDS = ("boost", "min", "low", "high", "promo", "managed", "protection", "batch")


def golden_steps() -> Iterator[tuple[str, Zones]]:
    """What was written to /proc/sys/vm, and all zones afterwards (tests/golden/zoneinfo_tuned.txt)."""
    for part in (GOLDEN / "zoneinfo_tuned.txt").read_text().split("== ")[1:]:
        title, _, body = part.partition("\n")
        zones: Zones = {}
        for line in body.splitlines():
            zone, field, numbers = line.split(maxsplit=2)
            add(zones, zone, field.rstrip(":"), numbers, ":" in field)
        yield title, zones


def zones_of(kernel: Kernel) -> Zones:
    """The same of ours."""
    zones: Zones = {}
    zone = ""
    for line in kernel.read("/proc/zoneinfo").decode().splitlines():
        if line.startswith("Node"):
            node, name = re.findall(r"\w+", line)[1::2]
            zone = f"{node},{name}"
        elif match := re.fullmatch(r" +(\w+)(:?) +([(\d].*)", line):
            add(zones, zone, match[1], match[3], bool(match[2]))
    return zones


def add(zones: Zones, zone: str, field: str, numbers: str, colon: bool) -> None:
    """Note a field, but for `high:` of a CPU's list, which moves by itself."""
    if field in FIELDS and not (field == "high" and colon):
        zones.setdefault(zone, {}).setdefault(field, []).extend(map(int, re.findall(r"\d+", numbers)))


def close(ours: int, real: int) -> bool:
    return abs(ours - real) <= max(2, real * TOLERANCE)


def test_watermarks_reserves_and_lists() -> None:
    """Each step of the real machine's script, and every figure of every zone."""
    kernel = mmfs.boot(preset="bare", seed=1, **MACHINES["5G-numa2"])  # type: ignore[arg-type]
    wrong = []
    for title, real in golden_steps():
        if title != "boot":
            name, _, value = title.partition(" ")
            set_tunable(kernel, name, value)
        ours = zones_of(kernel)
        assert ours.keys() == real.keys()
        for zone, fields in real.items():
            assert ours[zone].keys() == fields.keys()
            for field, numbers in fields.items():
                mine = ours[zone][field]
                if len(mine) != len(numbers) or not all(map(close, mine, numbers)):
                    wrong.append(f"{title}: {zone} {field}: {mine}, {numbers} wanted")
    assert not wrong, "\n".join(wrong)
    kernel.check()


def test_percpu_pagelist_high_fraction() -> None:
    """The real lists came to these sizes: a share of the zone for each CPU of its node, or its low mark."""
    kernel = mmfs.boot(preset="bare", seed=1, **MACHINES["5G-numa2"])  # type: ignore[arg-type]
    set_tunable(kernel, "min_free_kbytes", 20000)
    set_tunable(kernel, "watermark_scale_factor", 300)
    for fraction, dma32, normal in ((8, 92994, 64409), (100, 7439, 5152), (0, 25263, 17497)):
        set_tunable(kernel, "percpu_pagelist_high_fraction", fraction)
        assert close(kernel.zone_of(0, 1).per_cpu_pageset[0].high_min, dma32)
        assert close(kernel.zone_of(1, 2).per_cpu_pageset[1].high_min, normal)


def test_min_free_kbytes_is_the_users_from_then_on(kernel: Kernel) -> None:
    set_tunable(kernel, "min_free_kbytes", 3000)
    kernel.page_alloc.init_per_zone_wmark_min()
    assert tunable(kernel, "min_free_kbytes") == "3000"


def test_watermark_boost_factor(kernel: Kernel) -> None:
    set_tunable(kernel, "watermark_boost_factor", 20000)
    assert kernel.page_alloc.buddy.areas.watermark_boost_factor == 20000


def test_a_reserve_is_kept(kernel: Kernel) -> None:
    """A process dies earlier where more must stay free."""

    def survives(reserve_mb: int) -> int:
        kernel = mmfs.boot(ram="256M", preset="bare", seed=1)
        set_tunable(kernel, "min_free_kbytes", reserve_mb << 10)
        task = kernel.spawn("hog")
        pages = 0
        try:
            while True:
                task.touch(task.mmap("4M"), "4M", write=True)
                pages += 1024
        except Exception:
            return pages

    assert survives(4) - survives(64) > 10_000


# -- promises ----------------------------------------------------------------------------------------------------


def test_overcommit(kernel: Kernel) -> None:
    """As on the real machine: 50 percent of RAM and the swap; kilobytes instead of a ratio."""
    total, swap = meminfo(kernel, "MemTotal"), meminfo(kernel, "SwapTotal")
    set_tunable(kernel, "overcommit_memory", 2)
    assert meminfo(kernel, "CommitLimit") == (total // 4 * 50 // 100 * 4) + swap
    set_tunable(kernel, "overcommit_kbytes", 100_000)
    assert tunable(kernel, "overcommit_ratio") == "0"
    assert meminfo(kernel, "CommitLimit") == 100_000 + swap
    task = kernel.spawn("greedy")
    with pytest.raises(OSError) as caught:
        task.mmap("400M")
    assert caught.value.errno == errno.ENOMEM
    set_tunable(kernel, "overcommit_memory", 1)
    task.mmap("400G")
    set_tunable(kernel, "overcommit_ratio", 80)
    assert tunable(kernel, "overcommit_kbytes") == "0"


def test_reserves_of_overcommit(kernel: Kernel) -> None:
    set_tunable(kernel, "admin_reserve_kbytes", 1000)
    set_tunable(kernel, "user_reserve_kbytes", 2000)
    assert kernel.overcommit.sysctl_admin_reserve_kbytes == 1000
    assert kernel.overcommit.sysctl_user_reserve_kbytes == 2000


# -- address spaces ------------------------------------------------------------------------------------------------


def test_max_map_count(kernel: Kernel) -> None:
    task = kernel.spawn("mapper")
    set_tunable(kernel, "max_map_count", task.mm.map_count)
    task.mmap(4096, prot=1)
    with pytest.raises(OSError) as caught:
        task.mmap(4096, prot=3)
    assert caught.value.errno == errno.ENOMEM


def test_mmap_min_addr(kernel: Kernel) -> None:
    """Root's choice is shown; what the configuration keeps stays kept."""
    set_tunable(kernel, "mmap_min_addr", 4096)
    assert (tunable(kernel, "mmap_min_addr"), kernel.vm.mmap_min_addr) == ("4096", 65536)
    set_tunable(kernel, "mmap_min_addr", 1 << 20)
    assert kernel.vm.mmap_min_addr == 1 << 20
    task = kernel.spawn("low", uid=1000)
    with pytest.raises(PermissionError):
        task.mmap(4096, flags=MAP_PRIVATE | MAP_FIXED | 0x20, addr=0x20000)


# -- dirty pages -----------------------------------------------------------------------------------------------------


def test_dirty_limits(kernel: Kernel) -> None:
    """Bytes switch the ratio off and the other way round; vmstat's thresholds follow."""
    before = event(kernel, "nr_dirty_threshold")
    set_tunable(kernel, "dirty_ratio", 40)
    assert event(kernel, "nr_dirty_threshold") == pytest.approx(2 * before, abs=2)
    set_tunable(kernel, "dirty_bytes", 4096 * 1000)
    assert tunable(kernel, "dirty_ratio") == "0"
    assert event(kernel, "nr_dirty_threshold") == 1000
    set_tunable(kernel, "dirty_background_bytes", 4096 * 10)
    assert tunable(kernel, "dirty_background_ratio") == "0"
    assert event(kernel, "nr_dirty_background_threshold") == 10
    set_tunable(kernel, "dirty_ratio", 20)
    assert tunable(kernel, "dirty_bytes") == "0"


# -- caches --------------------------------------------------------------------------------------------------------


def test_drop_caches(kernel: Kernel) -> None:
    """Clean pages that nobody maps go, dirty and mapped ones stay; events count; the log tells who."""
    task = kernel.spawn("reader")
    for name in ("clean", "dirty", "mapped"):
        kernel.namei.create(f"/data/{name}", 1 << 20)
        descriptor = task.open(f"/data/{name}", 2)
        task.read(descriptor, "1M")
        if name == "dirty":
            task.write(descriptor, "1M", 0)
    addr = task.mmap("1M", prot=1, file="/data/mapped", flags=1)
    task.touch(addr, "512K")
    cached = {name: kernel.namei.lookup(f"/data/{name}").mapping for name in ("clean", "dirty", "mapped")}
    assert [mapping.nrpages for mapping in cached.values()] == [256, 256, 256]
    mapped = sum(1 for index in range(256) if kernel.translate(task.pid, addr + index * 4096).find("frame") > 0)
    kernel.vfs.write("/proc/sys/vm/drop_caches", b"1\n", Caller(pid=task.pid))
    assert [mapping.nrpages for mapping in cached.values()] == [0, 256, mapped]
    assert (event(kernel, "drop_pagecache"), event(kernel, "drop_slab")) == (1, 0)
    assert kernel.printk.records[-1][3] == f"reader ({task.pid}): drop_caches: 1"
    kernel.check()
    for value in (2, 4, 3):
        set_tunable(kernel, "drop_caches", value)
    assert (event(kernel, "drop_pagecache"), event(kernel, "drop_slab")) == (2, 2)
    assert kernel.printk.records[-1][3] == "init (1): drop_caches: 4", "with 4 the log is silent from then on"
    assert [mapping.nrpages for mapping in cached.values()] == [0, 256, mapped]


def test_dropped_pages_are_free(kernel: Kernel) -> None:
    task = kernel.spawn("reader")
    kernel.namei.create("/data/file", 20 << 20)
    task.read(task.open("/data/file"), "20M")
    before = kernel.page_alloc.nr_free_pages()
    cached = meminfo(kernel, "Cached")
    set_tunable(kernel, "drop_caches", 1)
    assert cached - meminfo(kernel, "Cached") >= 20 << 10
    kernel.page_alloc.drain_all_pages()
    assert kernel.page_alloc.nr_free_pages() - before >= 5000
    kernel.check()


def test_shared_memory_stays(kernel: Kernel) -> None:
    task = kernel.spawn("sharer")
    task.write(task.memfd_create("memory"), "1M")
    before = meminfo(kernel, "Shmem")
    assert before >= 1024
    set_tunable(kernel, "drop_caches", 3)
    assert meminfo(kernel, "Shmem") == before


# -- huge pages ----------------------------------------------------------------------------------------------------


def test_nr_hugepages(kernel: Kernel) -> None:
    """One pool behind all its files."""
    pool = "/sys/kernel/mm/hugepages/hugepages-2048kB"
    free = meminfo(kernel, "MemFree")
    set_tunable(kernel, "nr_hugepages", 4)
    assert (meminfo(kernel, "HugePages_Total"), meminfo(kernel, "HugePages_Free")) == (4, 4)
    assert free - meminfo(kernel, "MemFree") >= 8192
    assert kernel.read(f"{pool}/nr_hugepages") == b"4\n"
    kernel.write(f"{pool}/nr_hugepages", "6\n")
    assert tunable(kernel, "nr_hugepages") == "6"
    kernel.write("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "2")
    assert tunable(kernel, "nr_hugepages_mempolicy") == "2"
    set_tunable(kernel, "nr_hugepages", 1 << 40)
    had = int(tunable(kernel, "nr_hugepages"))
    assert 80 < had < 128, "as many as there is room for"
    kernel.check()
    set_tunable(kernel, "nr_hugepages", 0)
    assert meminfo(kernel, "HugePages_Total") == 0
    kernel.check()


def test_demote() -> None:
    """A page of 1 GB becomes 512 of 2 MB."""
    kernel = mmfs.boot(ram="4G", preset="bare", seed=1, cmdline="hugepagesz=1G hugepages=1")
    large, small = (f"/sys/kernel/mm/hugepages/hugepages-{size}kB" for size in (1048576, 2048))
    assert kernel.read(f"{large}/nr_hugepages") == b"1\n"
    kernel.write(f"{large}/demote", "5")
    assert (kernel.read(f"{large}/nr_hugepages"), kernel.read(f"{small}/nr_hugepages")) == (b"0\n", b"512\n")
    kernel.check()


# -- counters ------------------------------------------------------------------------------------------------------


def test_numa_stat() -> None:
    """As on the real machine: zero while it is off, counted from zero when it is on again."""
    kernel = mmfs.boot(ram="256M", nodes=2, cpus=2, preset="bare", seed=1)
    assert event(kernel, "numa_hit") > 0
    set_tunable(kernel, "numa_stat", 0)
    kernel.spawn("worker")
    assert event(kernel, "numa_hit") == 0
    assert b"numa_hit 0\n" in kernel.read("/sys/devices/system/node/node0/numastat")
    set_tunable(kernel, "numa_stat", 1)
    assert event(kernel, "numa_hit") == 0
    kernel.spawn("worker")
    assert event(kernel, "numa_hit") > 0
    texts = [text for _, _, _, text in kernel.printk.records[-2:]]
    assert texts == ["disable numa statistics, and clear numa counters", "enable numa statistics"]


def test_stat_refresh(kernel: Kernel) -> None:
    """Silent as long as no counter is below zero."""
    before = kernel.printk.next_seq
    assert kernel.read("/proc/sys/vm/stat_refresh") == b""
    set_tunable(kernel, "stat_refresh", "anything")
    assert kernel.printk.next_seq == before


def test_nodes_add_up() -> None:
    """What nodes say of their memory is what meminfo says of all, while nothing runs in between."""
    kernel = mmfs.boot(ram="1G", nodes=2, cpus=4, preset="bare", seed=1)
    nodes = [kernel.read(f"/sys/devices/system/node/node{nid}/meminfo").decode() for nid in (0, 1)]
    for label in ("MemTotal", "MemFree", "Active", "Inactive(anon)", "Mapped", "KernelStack", "PageTables", "Slab"):
        parts = [int(re.search(rf"{re.escape(label)}: +(\d+)", text)[1]) for text in nodes]  # type: ignore[index]
        assert sum(parts) == meminfo(kernel, label), label


# -- the kernel's own ----------------------------------------------------------------------------------------------


def test_pid_max_and_threads_max(kernel: Kernel) -> None:
    kernel.write("/proc/sys/kernel/pid_max", "400")
    for _ in range(200):
        task = kernel.spawn("x")
        assert task.pid < 400
        task.exit(0)
    kernel.write("/proc/sys/kernel/threads-max", "10")
    with pytest.raises(OSError) as caught:
        kernel.spawn("one too many")
    assert caught.value.errno == errno.EAGAIN


def test_hostname(kernel: Kernel) -> None:
    kernel.write("/proc/sys/kernel/hostname", "box\n")
    assert kernel.read("/proc/sys/kernel/hostname") == b"box\n"
    assert kernel.uts.nodename == "box"


def test_randomize_va_space(kernel: Kernel) -> None:
    kernel.write("/proc/sys/kernel/randomize_va_space", "0")
    first, second = (kernel.spawn("x").mm for _ in range(2))
    assert first.start_stack == second.start_stack


def test_open_files_are_counted(kernel: Kernel) -> None:
    def open_files() -> int:
        return int(kernel.read("/proc/sys/fs/file-nr").split()[0])

    task = kernel.spawn("opener")
    kernel.namei.create("/data/file", 4096)
    before = open_files()
    descriptors = [task.open("/data/file") for _ in range(5)]
    assert open_files() == before + 5
    task.close(descriptors[0])
    assert open_files() == before + 4
