"""The formats of /proc alone: numbers out of a capture, printed by our code, give the capture back byte for byte."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmfs.fs.proc import cpuinfo, devices, diskstats, interrupts, iomem, slabinfo, swaps, vmstat, zoneinfo
from mmfs.fs.proc.meminfo import plan
from mmfs.fs.proc.modules import m_show
from mmfs.kernel.block import Gendisk
from mmfs.kernel.char_dev import CharDevices
from mmfs.kernel.clock import NSEC_PER_MSEC, Clock
from mmfs.kernel.ioport import build_ioports
from mmfs.kernel.irq import Interrupts
from mmfs.kernel.module import Modules
from mmfs.kernfs import Caller
from mmfs.machine import Machine
from mmfs.mm.vmstat import VmStat, node_stat_text, numa_stat_text, zone_stat_text
from mmfs.mm_types import PAGE_SIZE, NodeStatItem
from mmfs.profile import Profile, load_profile
from tests.golden.captures import MACHINES, Capture, at_boot, captures

ROOT = Caller()
USER = Caller(pid=7, uid=1000, gid=1000)


def all_of(path: str) -> Any:
    """Every distinct capture of a path."""
    return pytest.mark.parametrize("golden", list(captures(path)), ids=str)


def machine(name: str) -> Machine:
    options = MACHINES[name]
    options = {key: options[key] for key in ("ram", "nodes", "arch") if key in options}
    return Machine.from_sizes(cpus=2, swap="256M", **options)  # type: ignore[arg-type]


def profile(name: str) -> Profile:
    """The kernel of a captured machine."""
    return load_profile(str(MACHINES[name].get("profile", "6.12")), str(MACHINES[name].get("arch", "x86_64")))


@all_of("/proc/meminfo")
def test_meminfo(golden: Capture) -> None:
    template = plan(profile(golden.machine)).template
    numbers = re.findall(rb"(\d+)(?: kB)?\n", golden.data)
    assert (template % tuple(map(int, numbers))).encode() == golden.data


def test_meminfo_of_a_kernel_without_an_option() -> None:
    profile = load_profile()
    options = {name: value for name, value in profile.options.items() if name not in ("ZSWAP", "HUGETLB_PAGE")}
    labels = {row.label for row in plan(profile).rows}
    fewer = {row.label for row in plan(replace(profile, options=options)).rows}
    assert labels - fewer == {
        "Zswap", "Zswapped", "HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp", "Hugepagesize",
        "Hugetlb",
    }  # fmt: skip


@all_of("/proc/vmstat")
def test_vmstat(golden: Capture) -> None:
    numbers = [int(line.split()[1]) for line in golden.data.splitlines()]
    assert numbers.pop() == 0  # nr_unstable
    assert (vmstat.plan(profile(golden.machine)).template % tuple(numbers) + "nr_unstable 0\n").encode() == golden.data


def _zones_of(golden: Capture) -> Any:
    """A kernel with the zones that a zoneinfo tells of."""
    text, kernel = golden.data.decode(), profile(golden.machine)
    nodes: dict[int, Any] = {}
    zone_stat, numa_event, node_stat = [], [], {}
    stats = (*zone_stat_text, *numa_stat_text)
    for section in re.split(r"^(?=Node )", text, flags=re.MULTILINE)[1:]:
        nid, name = re.match(r"Node (\d+), zone +(\w+)", section).groups()  # type: ignore[union-attr]
        pgdat = nodes.setdefault(int(nid), SimpleNamespace(node_id=int(nid), zones=[], kswapd_failures=0))
        body = section.split("  pages free")[1]
        if "per-node stats" in section:
            found = {item: re.search(rf"^      {item} +(\d+)$", section, re.M) for item in node_stat_text}
            row = [int(match[1]) if match else 0 for match in found.values()]
            for item in vmstat.IN_THP:
                row[item] *= 512
            for item in (NodeStatItem.NR_SLAB_RECLAIMABLE_B, NodeStatItem.NR_SLAB_UNRECLAIMABLE_B):
                row[item] *= PAGE_SIZE
            node_stat[int(nid)] = row
        if "node_unreclaimable:  1" in body:
            pgdat.kswapd_failures = 16
        of = {key: int(value) for key, value in reversed(re.findall(r"^ +([a-z_]+):? +(\d+)$", body, re.M))}
        row = [of.get(item, 0) for item in stats]
        row[0] = int(body.split()[0])
        pcps = [
            SimpleNamespace(**{name: int(value) for name, value in re.findall(r"(\w+): +(\d+)\n", text)})
            for text in re.findall(r"cpu: \d+\n((?: +\w+: +\d+\n)+)", body)
        ]
        threshold = re.search(r"vm stats threshold: (\d+)", body)
        pgdat.zones.append(
            SimpleNamespace(
                name=name,
                index=len(zone_stat),
                watermark_boost=of["boost"],
                min_wmark_pages=lambda of=of: of["min"],
                low_wmark_pages=lambda of=of: of["low"],
                high_wmark_pages=lambda of=of: of["high"],
                promo_wmark_pages=lambda of=of: of.get("promo"),
                spanned_pages=of["spanned"],
                present_pages=of["present"],
                managed_pages=of["managed"],
                cma_pages=of["cma"],
                lowmem_reserve=[int(word) for word in re.search(r"\((.*)\)", body)[1].split(",")],  # type: ignore[index]
                populated=lambda of=of: of["present"] > 0,
                per_cpu_pageset=pcps,
                stat_threshold=int(threshold[1]) if threshold else 0,
                zone_start_pfn=of.get("start_pfn", 0),
                nr_free_pages_blocks=lambda of=of: of.get("nr_free_pages_blocks", 0),
                nr_reserved_highatomic=of.get("reserved_highatomic"),
                nr_free_highatomic=of.get("free_highatomic"),
            )
        )
        zone_stat.append(row[: len(zone_stat_text)])
        numa_event.append(row[len(zone_stat_text) :])
    counters = SimpleNamespace(
        zone_stat=np.array(zone_stat),
        numa_event=np.array(numa_event),
        node_stat=np.array([node_stat[nid] for nid in sorted(nodes)]),
    )
    return SimpleNamespace(
        node_data=list(nodes.values()),
        vmstat=counters,
        cpus=[SimpleNamespace(cpu=cpu) for cpu in range(2)],
        profile=kernel,
    )


@all_of("/proc/zoneinfo")
def test_zoneinfo(golden: Capture) -> None:
    assert zoneinfo.zoneinfo(_zones_of(golden)) == golden.data.decode()


def _free_areas(text: str) -> tuple[Any, dict[str, Any]]:
    """Zones by name, and a kernel of them, from lines that name a node and a zone."""
    nodes: dict[int, Any] = {}
    zones: dict[str, Any] = {}
    for nid, name in re.findall(r"^Node +(\d+), zone +(\w+)", text, re.M):
        pgdat = nodes.setdefault(int(nid), SimpleNamespace(node_id=int(nid), zones=[]))
        if name not in zones:
            zones[name] = SimpleNamespace(name=name, populated=lambda: True, free={}, blocks=[])
            pgdat.zones.append(zones[name])
    return SimpleNamespace(node_data=list(nodes.values()), profile=load_profile()), zones


@all_of("/proc/buddyinfo")
def test_buddyinfo(golden: Capture) -> None:
    text = golden.data.decode()
    kernel, zones = _free_areas(text)
    for line in text.splitlines():
        name, counts = line.split()[3], [int(word) for word in line.split()[4:]]
        zones[name].free_area_counts = lambda counts=counts: [[0, count, 0, 0, 0] for count in counts]
    assert zoneinfo.buddyinfo(kernel) == text


@all_of("/proc/pagetypeinfo")
def test_pagetypeinfo(golden: Capture) -> None:
    text = golden.data.decode()
    kernel, zones = _free_areas(text)
    types = zoneinfo.MIGRATETYPE_NAMES
    shown = [types.index(kind) for kind in ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate")]
    for name, kind, counts in re.findall(r"^Node .* zone +(\w+), type +(\w+) (.*)$", text, re.M):
        zones[name].free[types.index(kind)] = [int(word) for word in counts.split()]
    for name, counts in re.findall(r"^Node \d+, zone +(\w+) ( +\d.*)$", text, re.M):
        zones[name].blocks = dict(zip(shown, map(int, counts.split()), strict=True))
    for zone in zones.values():
        by_type = [zone.free.get(kind, [0] * len(zone.free[0])) for kind in range(len(types))]
        zone.free_area_counts = lambda by_type=by_type: list(zip(*by_type, strict=True))
        zone.nr_pageblocks_by_type = lambda zone=zone: [zone.blocks.get(kind, 0) for kind in range(len(types))]
    assert zoneinfo.pagetypeinfo(kernel) == text


def test_pagetypeinfo_stops_counting() -> None:
    zone = SimpleNamespace(name="Normal", free_area_counts=lambda: [[99_999 + order] * 6 for order in range(11)])
    line = zoneinfo._pagetype_free(SimpleNamespace(node_id=0), zone, [0]).splitlines()[0]  # type: ignore[arg-type]
    assert line.startswith("Node    0, zone   Normal, type    Unmovable  99999 >100000 >100000 ")


@all_of("/proc/slabinfo")
def test_slabinfo(golden: Capture) -> None:
    lines = golden.data.decode().splitlines(keepends=True)
    assert "".join(lines[:2]) == slabinfo.HEADER
    for line in lines[2:]:
        word = line.split()
        cache = SimpleNamespace(
            name=word[0], size=int(word[3]), objs_per_slab=int(word[4]), order=int(word[5]).bit_length() - 1
        )
        row = int(word[1]), int(word[2]), int(word[14])
        assert slabinfo.cache_show(cache, *row) == line  # type: ignore[arg-type]


class RecordedDisk(Gendisk):
    """A disk that was asked for things elsewhere."""

    in_flight = io_ns = 0


@all_of("/proc/diskstats")
def test_diskstats(golden: Capture) -> None:
    for line in golden.data.decode().splitlines(keepends=True):
        word = line.split()
        if word[2].startswith("zram"):  # its column of queued time is not the sum of the others
            continue
        n = [int(number) for number in word[3:]]
        disk = RecordedDisk(Clock(), VmStat(1), word[2], int(word[0]), int(word[1]), 0)
        disk.in_flight, disk.io_ns = n[8], n[9] * NSEC_PER_MSEC  # type: ignore[misc]
        disk.queue.stats[:3] = [n[0:4], n[4:8], n[11:15]]
        disk.queue.stats[3, [0, 3]] = n[15:17]
        disk.queue.stats[:, 3] *= NSEC_PER_MSEC
        printed = diskstats.diskstats_show(disk).split(" ")
        theirs = line.split(" ")
        # Linux adds nanoseconds before it divides, so the sum may be some milliseconds more.
        assert abs(int(printed[-7]) - int(theirs[-7])) <= 3
        printed[-7] = theirs[-7]
        assert " ".join(printed) == line


@all_of("/proc/partitions")
def test_partitions(golden: Capture) -> None:
    lines = golden.data.decode().splitlines()
    disks = [
        SimpleNamespace(major=int(major), minor=int(minor), size_kb=int(size), nr_sectors=int(size) * 2, name=name)
        for major, minor, size, name in (line.split() for line in lines[2:])
    ]
    empty = SimpleNamespace(major=7, minor=0, size_kb=0, nr_sectors=0, name="loop0")
    assert diskstats.partitions(SimpleNamespace(block_devices=[*disks, empty])) == golden.data.decode()
    assert diskstats.partitions(SimpleNamespace(block_devices=[])) == ""


@all_of("/proc/swaps")
def test_swaps(golden: Capture) -> None:
    areas = []
    for line in golden.data.decode().splitlines()[1:]:
        path, kind, size, used, prio = line.split()
        path = path.replace("\\040", " ").replace("\\012", "\n")
        areas.append(SimpleNamespace(file=path, type=kind, size=int(size), used=int(used), prio=int(prio)))
    assert swaps.swaps(SimpleNamespace(swap_info=areas)) == golden.data.decode()


def test_swaps_of_many_gigabytes_lose_a_tab() -> None:
    area = SimpleNamespace(file="/swapfile", type="file", size=16777212, used=10000000, prio=5)
    expected = f"/swapfile{' ' * 31}file\t\t16777212\t10000000\t5\n"
    assert swaps.swap_show(area) == expected  # type: ignore[arg-type]


def _masked(match: re.Match[str]) -> str:
    return f"{match[1].split(':')[0]}: #.{'#' * len(match[2])}"


@pytest.mark.parametrize("name", MACHINES)
def test_cpuinfo(name: str) -> None:
    def steady(text: str) -> str:
        return re.sub(r"^(cpu MHz\t\t: \d+|bogomips\t: \d+)\.(\d+)$", _masked, text, flags=re.M)

    ours = "".join(cpuinfo.processor(machine(name), cpu, profile(name)) for cpu in range(2))
    assert steady(ours) == steady(at_boot(name, "/proc/cpuinfo").decode())


def test_bogomips_follows_the_clock() -> None:
    assert cpuinfo.bogomips(2445443) == "4890.88"  # 512M/00-boot, CPU 0: 2445.443 MHz


@pytest.mark.parametrize("name", MACHINES)
def test_ioports(name: str) -> None:
    tree = build_ioports(machine(name))
    golden = at_boot(name, "/proc/ioports").decode()
    assert iomem.resources(tree, ROOT) == golden
    hidden = re.sub(r"[0-9a-f]{4}-[0-9a-f]{4} :", "0000-0000 :", golden)
    assert iomem.resources(tree, USER) == hidden


def _interrupts(name: str) -> Any:
    cpus = [
        SimpleNamespace(
            cpu=cpu, timer_interrupts=0, timer_wakeups=0, busy_ticks=0, clock=SimpleNamespace(now_ns=15 * 10**9)
        )
        for cpu in range(2)
    ]
    irqs = Interrupts(machine(name), cpus, profile(name))  # type: ignore[arg-type]
    return SimpleNamespace(interrupts=irqs, cpus=cpus, profile=profile(name))


@pytest.mark.parametrize("name", MACHINES)
def test_interrupts(name: str) -> None:
    golden = at_boot(name, "/proc/interrupts").decode()
    kernel = _interrupts(name)
    irqs = kernel.interrupts
    by_number = {desc.irq: desc for desc in irqs.descs()}
    shootdowns: list[int] = []
    for line in golden.splitlines()[1:]:
        label, counts = line.split()[0].rstrip(":"), [int(word) for word in line.split()[1:3] if word.isdigit()]
        if label.isdigit():
            for cpu, count in enumerate(counts):
                by_number[int(label)].handle(cpu, count)
        elif label == "TLB":
            shootdowns = counts
        elif label == "LOC":
            for cpu, count in enumerate(counts):
                kernel.cpus[cpu].timer_interrupts = count
        elif label not in ("ERR", "MIS", "MCP"):
            for cpu, count in enumerate(counts):
                irqs.count_arch(label, cpu, count)
    for cpu, count in enumerate(shootdowns):  # each is one of the function calls
        irqs.count_arch("TLB", cpu, count)
        irqs.count_arch("CAL", cpu, -count)
    assert interrupts.interrupts(kernel) == golden


@pytest.mark.parametrize("name", MACHINES)
def test_intr_of_stat(name: str) -> None:
    """As many numbers as the kernel has interrupts, each in its place."""
    golden = re.search(r"^intr \d+ (.*)$", at_boot(name, "/proc/stat").decode(), re.M)
    irqs = _interrupts(name).interrupts
    assert golden
    assert irqs.nr_irqs == len(golden[1].split())
    lines = [number for number, count in enumerate(golden[1].split()) if int(count)]
    assert set(lines) <= {desc.irq for desc in irqs.descs()}


@all_of("/proc/softirqs")
def test_softirqs(golden: Capture) -> None:
    kernel = _interrupts(golden.machine)
    rows = [line.split(":") for line in golden.data.decode().splitlines()[1:]]
    kernel.interrupts.softirqs = lambda: {name.strip(): [int(n) for n in counts.split()] for name, counts in rows}
    assert interrupts.softirqs(kernel) == golden.data.decode()
    assert list(_interrupts(golden.machine).interrupts.softirqs()) == [name.strip() for name, _ in rows]


@pytest.mark.parametrize("name", ["512M", "512M-6.1", "2G-686-pae"])
def test_character_devices(name: str) -> None:
    chrdevs = CharDevices("console=ttyS0", profile(name))
    kernel = SimpleNamespace(chrdevs=chrdevs, block_devices=SimpleNamespace(majors={}))
    kernel.block_devices.majors = {259: "blkext", 254: "virtblk"}
    assert devices.devices(kernel).encode() == at_boot(name, "/proc/devices")
    assert devices.misc(kernel).encode() == at_boot(name, "/proc/misc")
    (golden,) = captures("/proc/consoles")
    assert devices.consoles(kernel).encode() == golden.data
    (golden,) = captures("/proc/tty/drivers")
    assert devices.drivers(kernel).encode() == golden.data


@pytest.mark.parametrize("name", ["512M", "1G-hugepages"])
def test_modules_lie_as_on_a_real_machine(name: str) -> None:
    """All addresses but the random first one; the 5G machine loaded two at once and has them the other way round."""
    vmalloc = SimpleNamespace(alloc=lambda pages, nid: None)
    modules = Modules(SimpleNamespace(seed=7, profile=profile(name), vmalloc=vmalloc))  # type: ignore[arg-type]
    modules.load_initramfs()
    golden = at_boot(name, "/proc/modules").decode()
    first = int(golden.split()[-1], 16)
    moved = [replace(module, base=module.base - modules.list[-1].base + first) for module in modules.list]
    assert "".join(m_show(module, True) for module in moved) == golden
    assert m_show(moved[0], False).endswith(" Live 0x0000000000000000\n")


def test_new_drivers_take_the_next_free_numbers() -> None:
    registry = CharDevices("", load_profile())
    taken = {major for major, _ in registry.chrdevs}
    major = registry.register_chrdev(0, "mine")
    assert major == 244
    assert major not in taken
    assert registry.misc_register(0, "mine too") == 260
    assert registry.misc[0] == (260, "mine too")
