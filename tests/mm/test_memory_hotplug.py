"""Blocks of memory that go offline and come back: what a real 6.12 printed, and what must hold with pages in use."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import Any

import pytest

from mmfs.mm.mman import MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_READ
from mmfs.mm_types import (
    BLK_VIRGIN,
    MAX_NR_ZONES,
    PAGEBLOCK_ORDER,
    ZONE_MOVABLE,
    ZONE_NORMAL,
    VmEventItem,
    ZoneStatItem,
)

MB = 1 << 20
BLOCK = 128 * MB
DIRECTORY = "/sys/devices/system/memory"


def read(kernel: Any, path: str) -> str:
    text: str = kernel.read(path).decode()
    return text


def write(kernel: Any, block: int, value: str, attribute: str = "state") -> int:
    """The errno that a real write(2) would have had."""
    try:
        kernel.write(f"{DIRECTORY}/memory{block}/{attribute}", value)
    except OSError as error:
        return error.errno or -1
    finally:
        kernel.check()
    return 0


def block_line(kernel: Any, block: int) -> str:
    names = ("state", "online", "valid_zones")
    return " ".join(read(kernel, f"{DIRECTORY}/memory{block}/{name}").strip() for name in names)


def zone_facts(kernel: Any, zone: Any) -> tuple[int, int, int, int]:
    return zone.zone_start_pfn, zone.spanned_pages, zone.present_pages, zone.managed_pages


def mem_total(kernel: Any) -> int:
    match = re.search(r"MemTotal: +(\d+) kB", read(kernel, "/proc/meminfo"))
    assert match is not None
    return int(match[1])


@pytest.fixture
def kernel(boot: Callable[..., Any]) -> Any:
    """The machine on which a real kernel was asked: 1 GB, of which 384 MB are in ZONE_MOVABLE."""
    return boot(ram="1G", cpus=1, preset="bare", cmdline="movablecore=384M")


def empty_movable_block(kernel: Any) -> int:
    """A block of ZONE_MOVABLE in which the boot has left nothing."""
    frames = kernel.frames.blocks["state"]
    for number in (6, 5):
        blocks = slice(number * BLOCK >> 12 + PAGEBLOCK_ORDER, (number + 1) * BLOCK >> 12 + PAGEBLOCK_ORDER)
        if (frames[blocks] == BLK_VIRGIN).all():
            return number
    raise AssertionError("boot memory is everywhere")


def test_bad_writes_as_a_real_kernel_refuses_them(kernel: Any) -> None:
    expected = [
        (2, "xx", "state", errno.EINVAL), (2, "online", "state", errno.EINVAL),
        (2, "online_movable", "state", errno.EINVAL), (2, "1", "online", 0), (2, "2", "online", errno.EINVAL),
        (2, "z", "online", errno.EINVAL), (0, "0", "online", errno.EINVAL), (0, "offline", "state", errno.EINVAL),
        (7, "offline", "state", errno.EINVAL), (7, "0", "online", errno.EINVAL),
    ]  # fmt: skip
    assert [(*row, write(kernel, row[0], row[1], row[2])) for *row, _ in expected] == [tuple(row) for row in expected]
    lines = [block_line(kernel, number) for number in (0, 4, 7)]
    assert lines == ["online 1 none", "online 1 DMA32", "online 1 Movable"]


def test_a_block_goes_offline_and_comes_to_another_zone(kernel: Any) -> None:
    """The steps and what they print are those of a real kernel: valid_zones, spans, which counters move."""
    block = empty_movable_block(kernel)
    movable, normal = kernel.zone_of(0, ZONE_MOVABLE), kernel.zone_of(0, ZONE_NORMAL)
    before, total = zone_facts(kernel, movable), mem_total(kernel)
    direct_map = re.findall(r"DirectMap.*", read(kernel, "/proc/meminfo"))
    assert write(kernel, block, "offline") == 0
    assert block_line(kernel, block) == "offline 0 Movable Normal"
    assert mem_total(kernel) == total - BLOCK // 1024
    assert zone_facts(kernel, movable) == (before[0], before[1], before[2] - 32768, before[3] - 32768)
    assert re.findall(r"DirectMap.*", read(kernel, "/proc/meminfo")) == direct_map
    assert "nr_memmap_boot_pages 4096\n" in read(kernel, "/proc/vmstat")
    assert write(kernel, block, "offline") == errno.EINVAL
    assert write(kernel, block, "0", "online") == 0

    assert write(kernel, block, "online_kernel") == 0
    assert block_line(kernel, block) == "online 1 Normal"
    assert zone_facts(kernel, normal) == (block * 32768, 32768, 32768, 32768)
    assert mem_total(kernel) == total
    assert "Policy zone: Normal" in read(kernel, "/dev/kmsg")
    assert re.search(r"Node 0, zone +Normal( +0){10} +32 \n", read(kernel, "/proc/buddyinfo"))

    assert write(kernel, block, "offline") == 0
    assert zone_facts(kernel, normal) == (0, 0, 0, 0)
    assert kernel.read("/proc/buddyinfo").count(b"Normal") == 0
    assert write(kernel, block, "online_movable") == 0
    assert block_line(kernel, block) == "online 1 Movable"
    assert zone_facts(kernel, movable) == before


def test_zones_begin_and_end_with_what_is_online(boot: Callable[..., Any]) -> None:
    """As find_smallest_section_pfn() and find_biggest_section_pfn(): a hole in the middle stays in the span."""
    kernel = boot(ram="4G", cpus=1, preset="bare", cmdline="movablecore=1G")
    movable = kernel.zone_of(0, ZONE_MOVABLE)
    start, end = movable.zone_start_pfn, movable.zone_end_pfn
    first = start // 32768
    free = [
        number for number in range(first, end // 32768)
        if block_line(kernel, number) == "online 1 Movable" and write(kernel, number, "offline") == 0
    ]  # fmt: skip
    assert len(free) >= 3 and movable.present_pages == sum(high - low for low, high in present(kernel, movable))
    for number in free:
        assert write(kernel, number, "online_movable") == 0
    assert (movable.zone_start_pfn, movable.zone_end_pfn) == (start, end)
    middle = free[len(free) // 2]
    assert write(kernel, middle, "offline") == 0
    assert (movable.zone_start_pfn, movable.zone_end_pfn) == (start, end)
    node = kernel.node_data[0]
    assert node.node_present_pages == sum(zone.present_pages for zone in node.node_zones)


def present(kernel: Any, zone: Any) -> list[tuple[int, int]]:
    """What the firmware's map has of the zone, without the blocks that are offline."""
    found = []
    for low, high, _ in kernel.memblock.memory:
        for at in range(low // 32768 * 32768, high, 32768):
            piece = max(low, at, zone.zone_start_pfn), min(high, at + 32768, zone.zone_end_pfn)
            if piece[0] < piece[1] and kernel.sections.online(at):
                found.append(piece)
    return found


def test_pages_in_use_move_away(boot: Callable[..., Any]) -> None:
    """Anonymous memory and cached files leave the block; who maps them sees the same pages of the same file."""
    kernel = boot(ram="1G", cpus=2, preset="bare", swap="256M")
    task = kernel.spawn("hog")
    addr = task.mmap(560 * MB)
    task.touch(addr, 560 * MB, write=True)
    kernel.create_file("/data", 64 * MB)
    mapped = task.mmap(64 * MB, PROT_READ, MAP_PRIVATE, file="/data")
    task.touch(mapped, 64 * MB)
    smaps = [line for line in read(kernel, f"/proc/{task.pid}/smaps").splitlines() if "Rss" in line or "Pss" in line]
    done = [number for number in range(1, 7) if write(kernel, number, "offline") == 0]
    assert done and int(kernel.vmstat.event[VmEventItem.PGMIGRATE_SUCCESS]) >= 1000
    for number in done:
        blocks = kernel.frames.blocks["state"][number * 64 : number * 64 + 64]
        assert (blocks == BLK_VIRGIN).all()
    after = [line for line in read(kernel, f"/proc/{task.pid}/smaps").splitlines() if "Rss" in line or "Pss" in line]
    assert [line.split()[0] for line in after] == [line.split()[0] for line in smaps]
    assert sum(int(line.split()[1]) for line in after if line.startswith("Rss")) <= sum(
        int(line.split()[1]) for line in smaps if line.startswith("Rss")
    )
    task.touch(addr, 560 * MB, write=True)
    kernel.run_for(5)
    for number in done:
        assert write(kernel, number, "online") == 0
    task.exit(0)


def test_what_cannot_move_keeps_its_block(boot: Callable[..., Any]) -> None:
    """The kernel's own memory: EBUSY, the log says which page, and the block is as it was."""
    kernel = boot(ram="1G", cpus=1, preset="server")
    free = kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_FREE_PAGES)
    on_pcp_lists = int(kernel.page_alloc.buddy.pcps["count"].sum())
    refused = [number for number in range(1, 7) if write(kernel, number, "offline") == errno.EBUSY]
    assert refused
    assert "page dumped because: unmovable page" in read(kernel, "/dev/kmsg")
    assert all(block_line(kernel, number) == "online 1 DMA32" for number in refused)
    now = kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_FREE_PAGES)
    assert 0 <= now + (6 - len(refused)) * 32768 - free <= on_pcp_lists  # these were drained


def test_a_node_without_memory_has_no_daemons(boot: Callable[..., Any]) -> None:
    """All of a node goes: its masks, its threads and who allocates there follow, and come back with it."""
    kernel = boot(nodes=[{"memory": "512M", "cpus": 1}, {"memory": "512M", "cpus": 1}], cmdline="movablecore=900M")
    second = kernel.node_data[1]
    blocks = kernel.memory_blocks.of_node(1)
    results = {number: write(kernel, number, "offline") for number in blocks}
    left = [number for number, result in results.items() if result]
    assert second.node_present_pages == sum(
        min(high, number * 32768 + 32768) - max(low, number * 32768)
        for low, high, nid in kernel.memblock.memory if nid == 1
        for number in left if low < number * 32768 + 32768 and high > number * 32768
    )  # fmt: skip
    for number in set(blocks) - set(left):
        assert write(kernel, number, "online") == 0
    assert set(read(kernel, "/sys/devices/system/node/has_memory").split()) == {"0-1"}


def test_memory_blocks_of_a_node_come_back_after_a_save(kernel: Any) -> None:
    """What is offline is so in a copy of the machine, too."""
    import copy

    block = empty_movable_block(kernel)
    assert write(kernel, block, "offline") == 0
    other = copy.deepcopy(kernel)
    assert block_line(other, block) == "offline 0 Movable Normal"
    assert write(other, block, "online") == 0
    assert block_line(kernel, block) == "offline 0 Movable Normal"


def test_default_online_type_of_the_command_line(boot: Callable[..., Any]) -> None:
    kernel = boot(ram="512M", preset="bare", cmdline="memhp_default_state=online_movable")
    assert read(kernel, f"{DIRECTORY}/auto_online_blocks") == "online_movable\n"


# -- modules that are plugged in -----------------------------------------------------------------------------------


def lines(kernel: Any, path: str, pattern: str) -> list[str]:
    return re.findall(pattern, read(kernel, path))


def test_a_module_as_a_real_machine_takes_it(boot: Callable[..., Any]) -> None:
    """256 MB at 4 GB, in QEMU: valid_zones, spans, watermarks and reserves at each step as 6.12 printed them."""
    cmdline = "memhp_default_state=offline movablecore=384M"
    kernel = boot(ram="1G", maxmem="4G", cpus=1, preset="bare", cmdline=cmdline)
    total, mapped = mem_total(kernel), lines(kernel, "/proc/meminfo", r"DirectMap2M: +(\d+)")[0]
    assert kernel.memory_hotplug.plug(256 * MB, 0) == "dimm0"
    assert [block_line(kernel, number) for number in (32, 33)] == ["offline 0 Normal Movable"] * 2
    assert mem_total(kernel) == total
    assert "nr_memmap_pages 1024\n" in read(kernel, "/proc/vmstat")
    assert int(lines(kernel, "/proc/meminfo", r"DirectMap2M: +(\d+)")[0]) == int(mapped) + 262144
    assert "100000000-10fffffff : System RAM\n" in read(kernel, "/proc/iomem")

    normal, movable = kernel.zone_of(0, ZONE_NORMAL), kernel.zone_of(0, ZONE_MOVABLE)
    block = empty_movable_block(kernel)
    assert write(kernel, block, "offline") == 0
    assert write(kernel, block, "online_kernel") == 0
    assert write(kernel, 32, "online_kernel") == 0
    assert block_line(kernel, 32) == "online 1 Normal"
    assert (normal.present_pages, normal.managed_pages) == (65536, 65536)
    assert normal.zone_end_pfn == 33 * 32768
    assert [mark // 16 for mark in (normal.min_wmark_pages(), normal.low_wmark_pages())] == [3256 // 16, 4070 // 16]
    assert int(kernel.page_alloc.buddy.pcps.reshape(-1, MAX_NR_ZONES)[0]["batch"][ZONE_NORMAL]) == 15

    assert write(kernel, 33, "online_movable") == 0
    assert movable.zone_end_pfn == 34 * 32768
    assert mem_total(kernel) == total + 256 * 1024
    assert [write(kernel, number, "offline") for number in (32, 33)] == [0, 0]
    assert write(kernel, 32, "online_movable") == write(kernel, 33, "online") == 0
    assert [block_line(kernel, number) for number in (32, 33)] == ["online 1 Movable", "online 1 Normal"]

    kernel.memory_hotplug.unplug("dimm0")
    kernel.check()
    assert kernel.memory_blocks.find(32) is None
    assert mem_total(kernel) == total
    assert "nr_memmap_pages 0\n" in read(kernel, "/proc/vmstat")
    assert "100000000-10fffffff" not in read(kernel, "/proc/iomem")


def test_a_module_in_use_stays(boot: Callable[..., Any]) -> None:
    """Its blocks go online by themselves; a process fills it, and it can only go when there is room elsewhere."""
    kernel = boot(ram="512M", maxmem="2G", cpus=2, preset="bare")
    kernel.write(f"{DIRECTORY}/auto_online_blocks", "online_movable")
    total = mem_total(kernel)
    kernel.memory_hotplug.plug(1 << 30, 0)
    assert mem_total(kernel) > total + (1 << 19)
    task = kernel.spawn("hog")
    addr = task.mmap(900 * MB)
    task.touch(addr, 900 * MB, write=True)
    with pytest.raises(OSError, match="does not move") as caught:
        kernel.memory_hotplug.unplug("dimm0")
    assert caught.value.errno == errno.EBUSY
    kernel.check()
    assert all(block_line(kernel, number).startswith("online 1 ") for number in range(32, 40))
    task.munmap(addr, 700 * MB)
    kernel.memory_hotplug.unplug("dimm0")
    kernel.check()
    assert mem_total(kernel) == total
    task.touch(addr + 700 * MB, 200 * MB)


def test_what_cannot_be_plugged(boot: Callable[..., Any]) -> None:
    kernel = boot(ram="512M", maxmem="1G", preset="bare")
    for size, reason in ((64 * MB, errno.EINVAL), (0, errno.EINVAL), (1 << 30, errno.ENOSPC)):
        with pytest.raises(OSError, match=r".") as caught:
            kernel.memory_hotplug.plug(size, 0)
        assert caught.value.errno == reason
    with pytest.raises(OSError, match="dimm7") as caught:
        kernel.memory_hotplug.unplug("dimm7")
    assert caught.value.errno == errno.ENODEV
    with pytest.raises(OSError, match="maxmem"):
        boot(ram="512M", preset="bare").memory_hotplug.plug(BLOCK, 0)
    with pytest.raises(ValueError, match="maxmem"):
        boot(ram="512M", maxmem="256M")


def test_a_node_gets_its_first_memory(boot: Callable[..., Any]) -> None:
    """A node of CPUs alone: with its memory come its daemons, and its tasks allocate there."""
    kernel = boot(nodes=[{"memory": "512M", "cpus": 1}, {"memory": 0, "cpus": 1}], maxmem="1G", preset="bare")

    def threads() -> list[str]:
        return sorted(task.comm for task in kernel.tasks.values() if re.match(r"kswapd|kcompactd", task.comm))

    kernel.write(f"{DIRECTORY}/auto_online_blocks", "online_movable")
    assert read(kernel, "/sys/devices/system/node/has_memory") == "0\n"
    before = threads()
    kernel.memory_hotplug.plug(256 * MB, 1)
    kernel.check()
    assert read(kernel, "/sys/devices/system/node/has_memory") == "0-1\n"
    assert threads() == sorted([*before, "kcompactd1", "kswapd1"])
    assert "Fallback order for Node 1: 1 0 \n" in read(kernel, "/dev/kmsg")
    task = kernel.spawn("hog")
    task.set_mempolicy("bind", [1])
    addr = task.mmap(64 * MB)
    task.touch(addr, 64 * MB, write=True)
    assert "N1=16384" in read(kernel, f"/proc/{task.pid}/numa_maps")
    kernel.run_for(2)
    task.set_mempolicy("default")
    kernel.memory_hotplug.unplug("dimm0")
    kernel.check()
    assert "N0=16384" in read(kernel, f"/proc/{task.pid}/numa_maps")
    assert threads() == before
    kernel.run_for(2)


@pytest.mark.parametrize("in_part", [False, True])
def test_huge_pages_move_away(kernel: Any, in_part: bool) -> None:
    """Whole, or in pieces if only a part of them is mapped."""
    kernel.write("/sys/kernel/mm/transparent_hugepage/enabled", "always")
    task = kernel.spawn("hog")
    addr = task.mmap("400M")
    task.touch(addr, "400M", write=True)
    if in_part:
        for at in range(addr, addr + 400 * MB, 2 * MB):
            task.munmap(at, 4096)
    assert kernel.frames.pages["flags"][huge_pages(kernel, 6)].any()
    assert write(kernel, 6, "offline") == 0
    assert not kernel.frames.pages["flags"][huge_pages(kernel, 6)].any()
    event = kernel.vmstat.event
    assert bool(event[VmEventItem.THP_MIGRATION_SPLIT]) == in_part
    assert bool(event[VmEventItem.THP_MIGRATION_SUCCESS]) != in_part
    task.touch(addr + 4096, 4096, write=True)


def test_huge_pages_of_shared_memory_move_away(kernel: Any) -> None:
    """Whole, as long as there is a block free for each."""
    kernel.write("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "always")
    task = kernel.spawn("hog")
    addr = task.mmap("400M", flags=MAP_SHARED | MAP_ANONYMOUS)
    task.touch(addr, "400M", write=True)
    assert kernel.frames.pages["flags"][huge_pages(kernel, 6)].any()
    assert write(kernel, 6, "offline") == 0
    assert not kernel.frames.pages["flags"][huge_pages(kernel, 6)].any()
    assert kernel.vmstat.event[VmEventItem.THP_MIGRATION_SUCCESS] > 0
    assert kernel.vmstat.event[VmEventItem.THP_MIGRATION_SPLIT] == kernel.vmstat.event[VmEventItem.THP_SPLIT_PAGE] == 0
    task.touch(addr, "400M")


def huge_pages(kernel: Any, number: int) -> slice:
    """The records of the huge pages that may be in a block."""
    first = number * BLOCK >> 12 + PAGEBLOCK_ORDER
    return slice(kernel.frames.huge + first, kernel.frames.huge + first + (BLOCK >> 12 + PAGEBLOCK_ORDER))
