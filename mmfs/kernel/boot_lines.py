"""Lines of the boot log that kernels of all architectures print, and their formats.

Linux: the pr_info() of mm/mm_init.c, mm/page_alloc.c, mm/mempolicy.c, kernel/smp.c, init/calibrate.c, mm/swapfile.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mmfs.machine import Machine, SwapDevice
from mmfs.mm import mm_init
from mmfs.mm.memblock import Memblock, PfnRange, Region
from mmfs.mm.system_hash import HashTable
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE, PAGEBLOCK_NR_PAGES, ZONE_HIGHMEM, ZONE_MOVABLE, ZONE_NAMES
from mmfs.profile import Profile, config

ERR, NOTICE, INFO, DEBUG = 3, 5, 6, 7
VFS_TABLES = ("Dentry cache", "Inode-cache", "Mount-cache", "Mountpoint-cache")
STEP_US = 137
Line = tuple[int, str]
Record = tuple[int, int, str]
NUMA, HIGHMEM, LONG_64 = config("NUMA"), config("HIGHMEM"), config("64BIT")


def timed(stages: Iterable[tuple[int, Iterable[Line]]]) -> list[Record]:
    """Lines with their times: those of a stage follow each other from its first microsecond on, or all stand at 0."""
    return [
        (base + number * STEP_US if base else 0, level, text)
        for base, lines in stages
        for number, (level, text) in enumerate(lines)
    ]


def wide(start: int, end: int) -> str:
    """A range of addresses, end exclusive, with 16 digits."""
    return f"[mem 0x{start:016x}-0x{end - 1:016x}]"


def narrow(start: int, end: int) -> str:
    """A range of addresses, end exclusive, with at least 8 digits."""
    return f"[mem 0x{start:08x}-0x{end - 1:08x}]"


def reservation(memblock: Memblock, why: str) -> Region | None:
    return next((region for region in memblock.reservations if region.why == why), None)


def zone_lines(profile: Profile, memblock: Memblock) -> Iterator[Line]:
    """Zone and node ranges. Linux: free_area_init()."""
    yield INFO, "Zone ranges:"
    for zone, (low, high) in enumerate(memblock.zone_limits):
        if zone != ZONE_MOVABLE and zone in mm_init.zone_types(profile):
            reach = wide(low << PAGE_SHIFT, high << PAGE_SHIFT) if low != high else "empty"
            yield INFO, f"  {ZONE_NAMES[zone]:<8} {reach}"
    yield INFO, "Movable zone start for each node"
    for nid, pfn in sorted(memblock.zone_movable_pfn.items()):
        yield INFO, f"  Node {nid}: 0x{pfn << PAGE_SHIFT:016x}"
    yield INFO, "Early memory node ranges"
    for start, end, nid in memblock.memory:
        yield INFO, f"  node {nid:3d}: {wide(start << PAGE_SHIFT, end << PAGE_SHIFT)}"
    for node in memblock.node_ranges:
        if node.present:
            yield (
                INFO,
                f"Initmem setup node {node.nid} {wide(node.start_pfn << PAGE_SHIFT, node.end_pfn << PAGE_SHIFT)}",
            )
        else:
            yield INFO, f"Initmem setup node {node.nid} as memoryless"
    for nid, zone, pages in mm_init.unavailable_ranges(
        memblock.memory, memblock.zone_ranges, sparse=bool(LONG_64(profile))
    ):
        yield INFO, f"On node {nid}, zone {ZONE_NAMES[zone]}: {pages} pages in unavailable ranges"


def zonelist_lines(machine: Machine, profile: Profile, memblock: Memblock) -> Iterator[Line]:
    """Linux: build_all_zonelists()."""
    orders = mm_init.node_fallback_orders(
        [node.distances for node in machine.nodes],
        [bool(node.present) for node in memblock.node_ranges],
        [bool(node.cpus) for node in machine.nodes],
    )
    for nid, order in enumerate(orders if NUMA(profile) else ()):
        yield INFO, f"Fallback order for Node {nid}: {''.join(f'{other} ' for other in order)}"
    pages = memblock.total_pages(profile)
    grouping = "off" if pages < PAGEBLOCK_NR_PAGES * len(mm_init.migratetypes(profile)) else "on"
    online = sum(1 for node, own in zip(memblock.node_ranges, machine.nodes, strict=True) if node.present or own.cpus)
    yield INFO, f"Built {online} zonelists, mobility grouping {grouping}.  Total pages: {pages}"
    if NUMA(profile):
        yield policy_zone_line(memblock)


def policy_zone_line(memblock: Memblock) -> Line:
    """The highest zone to which memory policies apply. Linux: init/main.c, mm/mempolicy.c, check_highest_zone()."""
    policy = max(zone.zone_type for zone in memblock.zone_ranges if zone.present and zone.zone_type != ZONE_MOVABLE)
    return INFO, f"Policy zone: {ZONE_NAMES[policy]}"


def balancing_lines(machine: Machine, memblock: Memblock) -> Iterator[Line]:
    """Linux: mm/mempolicy.c, check_numabalancing_enable()."""
    if len(machine.nodes) > 1 and "numa_balancing=" not in memblock.cmdline:
        yield (
            INFO,
            "mempolicy: Enabling automatic NUMA balancing. Configure with numa_balancing= or the kernel.numa_balancing"
            " sysctl",
        )


def calibration_line(timer_hz: int, profile: Profile) -> Line:
    """Linux: init/calibrate.c, calibrate_delay()."""
    hz = profile.config_int("HZ")
    lpj = timer_hz // hz
    return (
        INFO,
        "Calibrating delay loop (skipped), value calculated using timer frequency.. "
        f"{lpj // (500000 // hz)}.{lpj // (5000 // hz) % 100:02d} BogoMIPS (lpj={lpj})",
    )


def smp_line(machine: Machine) -> Line:
    """Linux: kernel/smp.c, smp_init()."""
    online = sum(1 for node in machine.nodes if node.cpus or node.memory)
    nodes, cpus = ("s" if number > 1 else "" for number in (online, machine.nr_cpus))
    return INFO, f"smp: Brought up {online} node{nodes}, {machine.nr_cpus} CPU{cpus}"


def deferred_lines(memblock: Memblock) -> Iterator[Line]:
    """Linux: deferred_init_memmap()."""
    for nid in sorted({region.nid for region in memblock.regions}):
        start = memblock.first_deferred_pfn.get(nid)
        deferred = memblock.node_ranges[nid].end_pfn - start if start is not None else 0
        yield INFO, f"node {nid} deferred pages initialised in {-(-deferred // 32768) * 4}ms"


def memory_line(profile: Profile, memblock: Memblock, ranges: list[PfnRange], nr_free_pages: int) -> Line:
    """How much memory is free, and what that is which was not handed over. Linux: mem_init_print_info()."""
    boot = sum(end - start for start, end, _ in (*ranges, *memblock.gigantic_pages))
    physical = memblock.phys_pages()
    image = profile.image
    kb = PAGE_SIZE // 1024
    cma = sum(end - start for start, end, _ in memblock.cma_ranges())
    high = sum(memblock.zone_managed_pages(zone) for zone in memblock.zone_ranges if zone.zone_type == ZONE_HIGHMEM)
    highmem = f", {high * kb}K highmem" if HIGHMEM(profile) else ""
    return (
        INFO,
        f"Memory: {nr_free_pages * kb}K/{physical * kb}K available"
        f" ({image.code_kb()}K kernel code, {image.rwdata_kb}K rwdata, {image.rodata_kb()}K rodata,"
        f" {image.init_kb()}K init, {image.bss_kb()}K bss, {(physical - boot - cma) * kb}K reserved,"
        f" {cma * kb}K cma-reserved{highmem})",
    )


def inet_lines(later: Mapping[str, HashTable]) -> Iterator[Line]:
    """Linux: net/ipv4/af_inet.c, inet_init()."""
    for name in ("IP idents", "tcp_listen_portaddr_hash", "Table-perturb", "TCP established", "TCP bind"):
        yield hash_line(later[name])
    established, bind = later["TCP established"], later["TCP bind"]
    yield INFO, f"TCP: Hash tables configured (established {established.entries} bind {bind.entries})"
    yield from (hash_line(later[name]) for name in ("MPTCP token", "UDP", "UDP-Lite") if name in later)


def disk_lines(machine: Machine) -> Iterator[Line]:
    """Linux: drivers/block/virtio_blk.c, virtblk_update_capacity()."""
    for number, disk in enumerate(machine.disks, 1):
        decimal, binary = _human(disk.nr_sectors, 1000), _human(disk.nr_sectors, 1024)
        yield (
            NOTICE,
            f"virtio_blk virtio{number}: [{disk.name}] {disk.nr_sectors} 512-byte logical blocks ({decimal}/{binary})",
        )


def _human(sectors: int, base: int) -> str:
    """A number of sectors as a size of three digits. Linux: lib/string_helpers.c, string_get_size()."""
    prefixes = ("", "k", "M", "G", "T", "P") if base == 1000 else ("", "Ki", "Mi", "Gi", "Ti", "Pi")
    unit, rest = 0, 0
    while sectors >> 32:
        sectors, unit = sectors // base, unit + 1
    size = sectors * 512
    while size >= base:
        size, rest = divmod(size, base)
        unit += 1
    digits = 3 - len(str(size))
    rest = (rest * 1000 >> 10 if base == 1024 else rest) + (500, 50, 5)[digits]
    size, rest = size + rest // 1000, rest % 1000
    return f"{size}{f'.{rest:03d}'[: digits + 1] if digits else ''} {prefixes[unit]}B"


def swap_lines(machine: Machine) -> Iterator[Line]:
    for number, device in enumerate(machine.swap):
        yield INFO, swap_line(device, -2 - number)


def swap_line(device: SwapDevice, priority: int, extents: int = 1, flags: str = "") -> str:
    """What swapon says; a page of the area is its header. Linux: mm/swapfile.c, SYSCALL swapon."""
    kb = (device.size - PAGE_SIZE) // 1024
    return f"Adding {kb}k swap on {device.name}.  Priority:{priority} extents:{extents} across:{kb}k {flags}"


def hash_line(table: HashTable) -> Line:
    return (
        INFO,
        f"{table.name} hash table entries: {table.entries} (order: {table.order}, {table.size} bytes, {table.where})",
    )
