"""The files of /proc agree with each other: one number has one owner, whatever file prints it."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mmfs.fs.proc.page import Kpf
from tests.golden.captures import MACHINES, at_boot, captures

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

Boot = Callable[..., "Kernel"]


def meminfo_of(text: bytes) -> dict[str, int]:
    """Rows in kilobytes or counts."""
    return {key: int(number) for key, number in re.findall(r"^(\S+): +(\d+)", text.decode(), re.M)}


def vmstat_of(text: bytes) -> dict[str, int]:
    """Counters by name."""
    return {line.split()[0]: int(line.split()[1]) for line in text.decode().splitlines()}


def zones_of(text: bytes) -> dict[tuple[int, str], dict[str, int]]:
    """Each zone's numbers; per-node ones are in its node's first populated zone."""
    zones = {}
    for section in re.split(r"^(?=Node )", text.decode(), flags=re.M)[1:]:
        nid, name = re.match(r"Node (\d+), zone +(\w+)", section).groups()  # type: ignore[union-attr]
        rows = re.findall(r"^ +(?:pages )?(\w+):? +(\d+)$", section, re.M)
        zones[int(nid), name] = {key: int(value) for key, value in reversed(rows)}
    return zones


def free_of(text: bytes) -> dict[tuple[int, str], int]:
    """Free pages of each zone from buddyinfo."""
    zones = {}
    for line in text.decode().splitlines():
        word = line.split()
        zones[int(word[1].rstrip(",")), word[3]] = sum(int(n) << order for order, n in enumerate(word[4:]))
    return zones


def check(kernel: Kernel) -> None:
    """Every relation, at this moment."""
    meminfo = meminfo_of(kernel.read("/proc/meminfo"))
    vmstat = vmstat_of(kernel.read("/proc/vmstat"))
    zones = zones_of(kernel.read("/proc/zoneinfo"))
    for row, counter in {
        "MemFree": "nr_free_pages", "SwapCached": "nr_swapcached", "Active(anon)": "nr_active_anon",
        "Inactive(anon)": "nr_inactive_anon", "Active(file)": "nr_active_file", "Inactive(file)": "nr_inactive_file",
        "Unevictable": "nr_unevictable", "Mlocked": "nr_mlock", "Dirty": "nr_dirty", "Writeback": "nr_writeback",
        "AnonPages": "nr_anon_pages", "Mapped": "nr_mapped", "Shmem": "nr_shmem", "SReclaimable": "nr_slab_reclaimable",
        "SUnreclaim": "nr_slab_unreclaimable", "PageTables": "nr_page_table_pages", "Bounce": "nr_bounce",
    }.items():  # fmt: skip
        assert meminfo[row] == vmstat.get(counter, 0) * 4, row
    assert meminfo["KernelStack"] == vmstat["nr_kernel_stack"]
    assert meminfo["Active"] == meminfo["Active(anon)"] + meminfo["Active(file)"]
    assert meminfo["Inactive"] == meminfo["Inactive(anon)"] + meminfo["Inactive(file)"]
    assert meminfo["Slab"] == meminfo["SReclaimable"] + meminfo["SUnreclaim"]
    assert meminfo["Cached"] + meminfo["SwapCached"] + meminfo["Buffers"] == vmstat["nr_file_pages"] * 4
    assert meminfo["MemTotal"] == sum(zone["managed"] for zone in zones.values()) * 4
    assert 0 <= meminfo["MemAvailable"] <= meminfo["MemTotal"]
    check_zones(kernel, vmstat, zones)


def check_zones(kernel: Kernel, vmstat: dict[str, int], zones: dict[tuple[int, str], dict[str, int]]) -> None:
    """zoneinfo adds up to vmstat and agrees with buddyinfo and pagetypeinfo."""
    populated = {key: zone for key, zone in zones.items() if zone["present"]}
    for name in next(iter(populated.values())):
        if name in vmstat:
            assert sum(zone.get(name, 0) for zone in populated.values()) == vmstat[name], name
    free = free_of(kernel.read("/proc/buddyinfo"))
    assert set(free) == set(populated)
    for key, zone in populated.items():
        assert free[key] == zone["nr_free_pages"] == zone["free"]
        assert zone["managed"] <= zone["present"] <= zone["spanned"]
        assert zone["min"] <= zone["low"] <= zone["high"] <= zone.get("promo", zone["high"])
    by_type: dict[tuple[int, str], int] = {}
    for nid, name, counts in re.findall(
        r"^Node +(\d+), zone +(\w+), type +\w+ (.*)$", kernel.read("/proc/pagetypeinfo").decode(), re.M
    ):
        pages = sum(int(n) << order for order, n in enumerate(counts.split()))
        by_type[int(nid), name] = by_type.get((int(nid), name), 0) + pages
    assert by_type == free


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest, boot: Boot) -> tuple[str, Kernel]:
    """A machine of the shape of each captured one, as it boots."""
    return request.param, boot(preset="bare", seed=1, **MACHINES[request.param])


def test_files_agree_at_boot(machine: tuple[str, Kernel]) -> None:
    check(machine[1])


def test_files_agree_as_memory_is_used(boot: Boot) -> None:
    kernel = boot(ram="1G", nodes=2, cpus=2, seed=1, preset="bare")
    check(kernel)
    task = kernel.spawn("hog")
    addr = task.mmap("64M")
    check(kernel)
    kernel.page_alloc.drain_all_pages()
    before = meminfo_of(kernel.read("/proc/meminfo"))
    task.touch(addr, "64M", write=True)
    check(kernel)
    after = meminfo_of(kernel.read("/proc/meminfo"))
    assert after["AnonPages"] - before["AnonPages"] == 64 << 10
    assert before["MemFree"] - after["MemFree"] >= 64 << 10
    assert after["PageTables"] - before["PageTables"] >= 64 * 1024 // 2048 * 4  # a table of 4 KB for 2 MB
    task.munmap(addr, "32M")
    kernel.run_for(2.0)
    check(kernel)
    task.exit(0)
    kernel.run_for(2.0)
    check(kernel)


def test_values_at_boot_are_a_real_kernels(machine: tuple[str, Kernel]) -> None:
    """Within what the issue asks for MemTotal; the rest within what a bare user space makes of it."""
    name, kernel = machine
    mine = meminfo_of(kernel.read("/proc/meminfo"))
    real = meminfo_of(at_boot(name, "/proc/meminfo"))
    assert mine["MemTotal"] == pytest.approx(real["MemTotal"], rel=0.01)  # the bar
    for row in ("SwapTotal", "Percpu", "VmallocTotal", "Hugepagesize", "HugePages_Total", "HugePages_Free", "Hugetlb"):
        wanted = 262140 if row == "SwapTotal" else real[row]  # the capture was taken before swapon
        assert mine[row] == wanted, row
    for row in {"DirectMap4k", "DirectMap2M", "DirectMap1G"} & set(real):  # a boot's modules split four to six pages
        assert mine[row] == pytest.approx(real[row], abs=4 * 2048), row
    # Half of RAM less what hugetlb holds, plus swap.
    assert mine["CommitLimit"] == pytest.approx(real["CommitLimit"] + 262140, rel=0.01)
    # Debian's kernel itself; init is a small program in both.
    for row in ("Slab", "MemFree", "MemAvailable", "VmallocUsed", "KernelStack"):
        assert mine[row] == pytest.approx(real[row], rel=0.25, abs=1024), row


def test_zones_at_boot_are_a_real_kernels(machine: tuple[str, Kernel]) -> None:
    """Sizes to the page, watermarks within what 1 % of managed pages makes of them."""
    name, kernel = machine
    mine, real = zones_of(kernel.read("/proc/zoneinfo")), zones_of(at_boot(name, "/proc/zoneinfo"))
    assert list(mine) == list(real)
    for key, zone in real.items():
        for item in ("spanned", "present"):
            assert mine[key][item] == zone[item], (key, item)
        for item in {"managed", "min", "low", "high", "promo"} & set(zone):
            assert mine[key][item] == pytest.approx(zone[item], rel=0.01, abs=2), (key, item)
        if zone["present"]:
            assert mine[key]["start_pfn"] == zone["start_pfn"]


def test_stat_and_uptime(boot: Boot) -> None:
    kernel = boot(ram="512M", cpus=2, seed=1, preset="bare")
    kernel.run_for(10.0)
    lines = kernel.read("/proc/stat").decode().splitlines()
    total, *cpus = ([int(word) for word in line.split()[1:]] for line in lines[:3])
    for cpu in cpus:
        ticks = sum(cpu)
        uptime = float(kernel.read("/proc/uptime").split()[0])
        assert ticks == pytest.approx(uptime * 100, abs=10)  # each kind of time is cut to a whole tick
    assert all(abs(whole - a - b) <= 1 for whole, a, b in zip(total, *cpus, strict=True))
    intr = [int(word) for word in lines[3].split()[1:]]
    rows = kernel.read("/proc/interrupts").decode().splitlines()
    loc = next(line for line in rows if line.strip().startswith("LOC:"))
    assert intr[0] >= sum(int(word) for word in loc.split()[1:3])
    by_name = dict(line.split(" ", 1) for line in lines)
    softirqs = [int(word) for word in by_name["softirq"].split()]
    assert softirqs[0] == sum(softirqs[1:])
    assert int(by_name["processes"]) > len([name for name in kernel.listdir("/proc") if name.isdigit()]) - 3


def pages(kernel: Kernel, name: str, pfn: int, count: int) -> np.ndarray:
    """Entries of one of the arrays by frame number."""
    file = kernel.vfs.open(f"/proc/{name}")
    try:
        return np.frombuffer(file.read(count * 8, pfn * 8), "<u8")
    finally:
        file.release()


def test_kpageflags_agree_with_buddyinfo_and_meminfo(boot: Boot) -> None:
    kernel = boot(ram="512M", cpus=2, seed=1, preset="bare")
    task = kernel.spawn("hog")
    task.touch(task.mmap("16M"), "16M", write=True)
    end = 512 << 8  # frames of 512 MB
    flags = pages(kernel, "kpageflags", 0, end)
    counts = pages(kernel, "kpagecount", 0, end)
    cgroups = pages(kernel, "kpagecgroup", 0, end)
    assert len(flags) == len(counts) == len(cgroups) == end

    def having(*bits: Kpf) -> int:
        mask = np.uint64(sum(1 << one for one in bits))
        return int(np.count_nonzero(flags & mask == mask))

    vmstat = vmstat_of(kernel.read("/proc/vmstat"))
    assert having(Kpf.BUDDY) == vmstat["nr_free_pages"]
    assert having(Kpf.PGTABLE) == vmstat["nr_page_table_pages"]
    assert having(Kpf.ANON, Kpf.MMAP) == vmstat["nr_anon_pages"]
    assert having(Kpf.ZERO_PAGE) == 1
    mapped = flags & np.uint64(1 << Kpf.MMAP) != 0
    assert (mapped == (counts > 0)).all()
    lru = flags & np.uint64(1 << Kpf.LRU) != 0
    assert (cgroups[lru] == 1).all()  # the root's inode number
    assert not cgroups[~lru].any()
    (golden,) = captures("/proc/kpageflags", "512M")
    first_megabyte = np.frombuffer(golden.data, "<u8")[:256]
    assert (flags[:256] == first_megabyte).all()  # all reserved, RAM or not


def test_kpagecgroup_names_who_pays(boot: Boot) -> None:
    """Pages of a process and its page tables are its cgroup's; those of a removed cgroup its parent's."""
    kernel = boot(ram="512M", cpus=2, seed=1, preset="bare")
    top = "/sys/fs/cgroup"
    kernel.write(f"{top}/cgroup.subtree_control", "+memory")
    kernel.mkdir(f"{top}/a")
    kernel.write(f"{top}/a/cgroup.subtree_control", "+memory")
    kernel.mkdir(f"{top}/a/b")
    task = kernel.spawn("hog", cgroup="/a/b")
    task.touch(task.mmap("16M"), "16M", write=True)
    kernel.create_file("/data/f", "4M")
    task.read("/data/f", 0, 4 << 20)
    end = 512 << 8
    upper, lower = (kernel.stat(f"{top}/{path}").st_ino for path in ("a", "a/b"))

    def count(inode: int, flag: Kpf) -> int:
        flags = pages(kernel, "kpageflags", 0, end) & np.uint64(1 << flag)
        return int(np.count_nonzero((pages(kernel, "kpagecgroup", 0, end) == inode) & (flags != 0)))

    stat = dict(line.split() for line in kernel.read(f"{top}/a/b/memory.stat").decode().splitlines())
    assert count(lower, Kpf.ANON) == int(stat["anon"]) >> 12
    assert count(lower, Kpf.PGTABLE) == int(stat["pagetables"]) >> 12
    file = count(lower, Kpf.LRU) - count(lower, Kpf.ANON)
    assert abs(file - (int(stat["file"]) >> 12)) <= 32, "those of a CPU's batch are on no list yet"
    task.exit()
    kernel.rmdir(f"{top}/a/b")
    assert count(lower, Kpf.LRU) == 0 < 900 < count(upper, Kpf.LRU)


def test_kpage_arrays_end_with_the_last_section(boot: Boot) -> None:
    kernel = boot(ram="300M", preset="bare")
    section = 1 << 15
    end = -(-(300 << 8) // section) * section
    assert len(pages(kernel, "kpagecount", 0, end + 5)) == end
    assert len(pages(kernel, "kpageflags", end - 1, 8)) == 1
    assert len(pages(kernel, "kpageflags", end, 8)) == 0
    assert len(pages(kernel, "kpagecgroup", end + 1000, 8)) == 0


def test_kpage_arrays_have_holes_without_pages(boot: Boot) -> None:
    kernel = boot(ram="5G", nodes=["3G", "2G"], cpus=2, preset="bare")
    hole = (3 << 18) + 100  # between 3 GB and 4 GB there are only devices
    assert list(pages(kernel, "kpageflags", hole, 2)) == [1 << Kpf.NOPAGE] * 2
    assert not pages(kernel, "kpagecount", hole, 2).any()


@pytest.mark.parametrize("name", ["kpagecount", "kpageflags", "kpagecgroup"])
@pytest.mark.parametrize(("offset", "size"), [(0, 1), (0, 7), (0, 12), (1, 8), (4, 16), (8, 4097)])
def test_kpage_arrays_want_whole_entries(boot: Boot, name: str, offset: int, size: int) -> None:
    """EINVAL for an offset or a size that is not a multiple of 8, as a real kernel answered dd bs=1, 7, 12."""
    file = boot(ram="300M", preset="bare").vfs.open(f"/proc/{name}")
    with pytest.raises(OSError) as caught:
        file.read(size, offset)
    assert caught.value.errno == errno.EINVAL


def test_iomem_hides_addresses_from_users(boot: Boot) -> None:
    from mmfs.kernfs import Caller

    kernel = boot(ram="512M", preset="bare")
    mine = kernel.read("/proc/iomem").decode()
    theirs = kernel.vfs.read("/proc/iomem", Caller(pid=1, uid=1000)).decode()
    assert theirs == re.sub(r"[0-9a-f]{8,} ", "00000000 ", re.sub(r"[0-9a-f]{8,}-", "00000000-", mine))


def test_self_is_the_caller(boot: Boot) -> None:
    from mmfs.kernfs import Caller

    kernel = boot(ram="512M", preset="bare")
    task = kernel.spawn("sh")
    caller = Caller(pid=task.pid)
    assert kernel.vfs.readlink("/proc/self", caller) == str(task.pid)
    assert kernel.vfs.readlink("/proc/thread-self", caller) == f"{task.pid}/task/{task.pid}"
    assert kernel.readlink("/proc/mounts") == "self/mounts"
