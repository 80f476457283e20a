"""What the kernel says while it boots on x86, as far as the simulated machine has the facts.

boot_log() gives the records in order with the time that a machine of 2.4 GHz under emulation would have
shown: everything before the clock runs is at 0, then each stage begins where it begins on a real machine. Lines about
devices and features that are not modelled are left out.

What all architectures print is in boot_lines.py.

Linux: init/main.c, start_kernel(); arch/x86/kernel/setup.c; the pr_info() of what they call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmfs.kernel.boot_lines import (
    DEBUG,
    ERR,
    HIGHMEM,
    INFO,
    LONG_64,
    NOTICE,
    NUMA,
    VFS_TABLES,
    Line,
    Record,
    balancing_lines,
    calibration_line,
    deferred_lines,
    disk_lines,
    hash_line,
    inet_lines,
    memory_line,
    narrow,
    reservation,
    smp_line,
    swap_lines,
    timed,
    wide,
    zone_lines,
    zonelist_lines,
)
from mmfs.machine import Machine
from mmfs.mm import e820, mm_init
from mmfs.mm.memblock import Memblock
from mmfs.mm.percpu import per_cpu_unit_bytes, percpu_unit_pages
from mmfs.mm.system_hash import HashTable
from mmfs.mm_types import MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE, ZONE_HIGHMEM, ZONE_MOVABLE, ZONE_NAMES
from mmfs.profile import Profile, config, since

# What kernels say, or when.
GAPS = since(7, 0)
"""Kernels that tell what lies between the ranges of the firmware's map, and call them by other names."""
E820_WORDS = {"usable": "System RAM", "reserved": "device reserved"}
DIMMS = CPU_TOPO = TABLES_FIRST = MEMORY_LATE = FROM_RAM = since(6, 12)
DEFERRED, BLOCKS = config("DEFERRED_STRUCT_PAGE_INIT"), config("MEMORY_HOTPLUG")


def boot_log(
    machine: Machine,
    profile: Profile,
    memblock: Memblock,
    *,
    nr_free_pages: int | None = None,
    swap_priorities: bool = True,
    demotion_targets: Sequence[str] = (),
) -> list[Record]:
    """The boot log: (microseconds, level, text) in order.

    nr_free_pages is what the buddy allocator had free when its frames were all initialised; left out, what it had got.
    """
    late = memblock.hash_tables
    stages: list[tuple[int, Iterator[Line]]] = [
        (0, _firmware(machine, profile, memblock)),
        (0, _nodes(machine, profile, memblock) if NUMA(profile) else _low_memory(memblock)),
        (0, zone_lines(profile, memblock)),
        (0, _processors(machine, profile, memblock)),
        (0, _zonelists(machine, profile, memblock, nr_free_pages)),
        (0, balancing_lines(machine, memblock)),
        (210_000, _calibration(machine, profile)),
        (450_000, _vfs(machine, profile, late)),
        (640_000, _smp(machine, profile)),
        (756_000, _memory(machine, profile, memblock, nr_free_pages)),
        (786_000, _initcalls(profile, memblock, late)),
        (1_430_000, iter([(INFO, line) for line in demotion_targets])),
        (1_440_000, _give_back(memblock)),
        (2_900_000, disk_lines(machine)),
        (3_600_000, swap_lines(machine) if swap_priorities else iter(())),
    ]
    return timed(stages)


# -- stages ---------------------------------------------------------------------------------------------------


def _e820_table(profile: Profile, memblock: Memblock) -> Iterator[Line]:
    """What the firmware says, since 7.0 with the gaps. Linux: e820__print_table()."""
    before = 0
    for start, end, kind in memblock.e820_firmware:
        if start > before and GAPS(profile):
            yield INFO, f"BIOS-e820: {wide(before, start).replace('mem', 'gap')}"
        yield INFO, f"BIOS-e820: {wide(start, end)} {' ' + E820_WORDS.get(kind, kind) if GAPS(profile) else kind}"
        before = end


def _futex_line(table: HashTable, nodes: int) -> Line:
    """Each node has a table of its own. Linux: 7.0, futex_init()."""
    entries = 1 << (max(table.entries // nodes, 4) - 1).bit_length()
    size = table.size // table.entries * entries
    where = "vmalloc" if size > PAGE_SIZE << MAX_PAGE_ORDER else "linear"
    text = f"{entries} ({size} bytes on {nodes} NUMA nodes, total {size * nodes >> 10} KiB, {where})"
    return INFO, f"futex hash table entries: {text}."


def _firmware(machine: Machine, profile: Profile, memblock: Memblock) -> Iterator[Line]:
    """From the banner to the end of RAM. Linux: setup_arch()."""
    yield NOTICE, profile.version_banner
    if LONG_64(profile):
        yield INFO, f"Command line: {memblock.cmdline}"
    yield INFO, "BIOS-provided physical RAM map:"
    yield from _e820_table(profile, memblock)
    yield INFO, "NX (Execute Disable) protection: active"
    yield INFO, f"DMI: {machine.hardware_name}, {machine.bios}"
    if DIMMS(profile):
        dimms = e820.nr_dimms(machine)
        yield INFO, f"DMI: Memory slots populated: {dimms}/{dimms}"
    yield INFO, f"tsc: Detected {machine.cpu.khz // 1000}.{machine.cpu.khz % 1000:03d} MHz processor"
    usable, reserved = (E820_WORDS[word] if GAPS(profile) else word for word in ("usable", "reserved"))
    yield DEBUG, f"e820: update [mem 0x00000000-0x00000fff] {usable} ==> {reserved}"
    yield DEBUG, f"e820: remove [mem 0x000a0000-0x000fffff] {usable}"
    max_arch = (1 << (52 if machine.cpu.la57 else 46) if LONG_64(profile) else profile.arch.max_ram) >> PAGE_SHIFT
    yield INFO, f"last_pfn = {memblock.max_pfn:#x} max_arch_pfn = {max_arch:#x}"
    four_gb = e820.FOUR_GB >> PAGE_SHIFT
    if memblock.max_pfn > four_gb and LONG_64(profile):
        yield INFO, f"last_pfn = {memblock.e820.end_of_ram_pfn(four_gb):#x} max_arch_pfn = {max_arch:#x}"
    if machine.cpu.gbpages and LONG_64(profile):
        yield INFO, "Using GB pages for direct mapping"
    initrd = reservation(memblock, "initrd")
    start, end = memblock.ramdisk
    yield INFO, f"RAMDISK: {narrow(start, -(-end // PAGE_SIZE) * PAGE_SIZE)}"
    if initrd is not None and initrd.start != start:
        moved = narrow(initrd.start, initrd.start + end - start)
        yield INFO, f"Allocated new RAMDISK: {moved}"
        yield INFO, f"Move RAMDISK from {narrow(start, end)} to {moved}"


def _low_memory(memblock: Memblock) -> Iterator[Line]:
    """How much of memory the kernel maps. Linux: arch/x86/mm/init_32.c, initmem_init()."""
    low = memblock.max_low_pfn << PAGE_SHIFT
    yield NOTICE, f"{memblock.max_pfn - memblock.max_low_pfn >> 8}MB HIGHMEM available."
    yield NOTICE, f"{memblock.max_low_pfn >> 8}MB LOWMEM available."
    yield INFO, f"  mapped low ram: 0 - {low:08x}"
    yield INFO, f"  low ram: 0 - {low:08x}"


def _nodes(machine: Machine, profile: Profile, memblock: Memblock) -> Iterator[Line]:
    """Which memory is on which node. Linux: x86_numa_init(), alloc_node_data()."""
    if machine.numa:
        spans = e820.node_spans(machine)
        for start, end, nid in spans:
            yield INFO, f"ACPI: SRAT: Node {nid} PXM {nid} {narrow(start, end)}"
        if machine.maxmem:
            nid = len(machine.nodes) - 1
            yield INFO, f"ACPI: SRAT: Node {nid} PXM {nid} {narrow(*e820.hotplug_span(machine))} hotplug"
        if len(machine.nodes) > 1:
            yield DEBUG, f"NUMA: Initialized distance table, cnt={len(machine.nodes)}"
        yield from _merged_spans(profile, memblock, spans)
    else:
        yield INFO, "No NUMA configuration found"
        yield INFO, f"Faking a node at {wide(0, memblock.max_pfn << PAGE_SHIFT)}"
    with_memory = {region.nid for region in memblock.regions}
    for nid in sorted(with_memory):
        data = reservation(memblock, f"NODE_DATA({nid})")
        if data is not None:
            yield INFO, f"NODE_DATA({nid}) allocated {narrow(data.start, data.end)}"
            on = memblock.pfn_to_nid(data.start >> PAGE_SHIFT)
            if on != nid:
                yield INFO, f"    NODE_DATA({nid}) on node {on}"
    for line in memblock.cma_log:
        yield INFO if line.startswith("Reserved") else ERR, f"cma: {line}"


def _merged_spans(profile: Profile, memblock: Memblock, spans: list[tuple[int, int, int]]) -> Iterator[Line]:
    """Ranges of one node that only a hole parts count as one. Linux: numa_cleanup_meminfo()."""
    lowest, highest = memblock.regions[0].start if FROM_RAM(profile) else 0, memblock.max_pfn << PAGE_SHIFT
    low, high, last = 0, 0, -1
    for start, end, nid in spans:
        start, end = max(start, lowest), min(end, highest)
        if start >= end:
            continue
        if nid == last:
            yield INFO, f"NUMA: Node {nid} {narrow(low, high)} + {narrow(start, end)} -> {narrow(low, end)}"
            start = low
        low, high, last = start, end, nid


def _processors(machine: Machine, profile: Profile, memblock: Memblock) -> Iterator[Line]:
    """CPU topology, gaps, per-CPU areas. Linux: topology_init_possible_cpus(), setup_per_cpu_areas()."""
    top = machine.topology
    if CPU_TOPO(profile):
        yield INFO, f"CPU topo: Max. logical packages: {top.sockets:3d}"
        yield INFO, f"CPU topo: Max. logical dies:     {top.sockets:3d}"
        yield INFO, "CPU topo: Max. dies per package:   1"
        yield INFO, f"CPU topo: Max. threads per core: {top.threads:3d}"
        yield INFO, f"CPU topo: Num. cores per package:   {top.cores:3d}"
        yield INFO, f"CPU topo: Num. threads per package: {top.cores * top.threads:3d}"
        yield INFO, f"CPU topo: Allowing {machine.nr_cpus} present CPUs plus 0 hotplug CPUs"
    else:
        yield INFO, f"smpboot: Allowing {machine.nr_cpus} CPUs, 0 hotplug CPUs"
    for start, end in memblock.e820.nosave_regions(memblock.max_pfn):
        yield INFO, f"PM: hibernation: Registered nosave memory: {narrow(start, end)}"
    gap = narrow(*memblock.e820.pci_gap())
    yield INFO, f"{gap.replace('mem', 'gap') if GAPS(profile) else gap} available for PCI devices"
    cpus = machine.nr_cpus
    unit = per_cpu_unit_bytes(profile, [len(node.cpus) for node in machine.nodes if node.cpus])
    yield (
        INFO,
        f"setup_percpu: NR_CPUS:{profile.config('NR_CPUS')} nr_cpumask_bits:{cpus} nr_cpu_ids:{cpus}"
        f" nr_node_ids:{len(machine.nodes)}",
    )
    yield (
        INFO,
        f"percpu: Embedded {percpu_unit_pages(profile)} pages/cpu s{profile.image.percpu_static}"
        f" r{profile.percpu_reserved} d{profile.percpu_dynamic} u{unit}",
    )
    if TABLES_FIRST(profile):
        yield from _command_line(memblock)


def _command_line(memblock: Memblock) -> Iterator[Line]:
    """Linux: start_kernel(), vfs_caches_init_early()."""
    yield NOTICE, f"Kernel command line: {memblock.cmdline}"
    yield from (hash_line(table) for table in memblock.hash_tables if table.early)


def _zonelists(machine: Machine, profile: Profile, memblock: Memblock, nr_free_pages: int | None) -> Iterator[Line]:
    """Fallback orders and what there is to allocate. Linux: build_all_zonelists(), mem_init()."""
    yield from zonelist_lines(machine, profile, memblock)
    if not TABLES_FIRST(profile):
        yield from _command_line(memblock)
    yield INFO, "mem auto-init: stack:all(zero), heap alloc:on, heap free:off"
    if HIGHMEM(profile):
        high = memblock.zone_ranges[ZONE_HIGHMEM]
        for zone in (ZONE_HIGHMEM, ZONE_MOVABLE) if high.spanned else (ZONE_HIGHMEM,):
            frames = memblock.zone_ranges[zone]
            yield INFO, f"Initializing {ZONE_NAMES[zone]} for node 0 ({frames.start_pfn:08x}:{frames.end_pfn:08x})"
    if reservation(memblock, "software IO TLB") is not None:
        yield INFO, f"software IO TLB: area num {1 << (machine.nr_cpus - 1).bit_length()}."
    if not MEMORY_LATE(profile):
        early = sum(end - start for start, end, _ in memblock.early_free_ranges())
        boot = [*memblock.early_free_ranges(), *memblock.deferred_free_ranges()]
        yield memory_line(profile, memblock, boot, early if nr_free_pages is None else nr_free_pages)
    yield INFO, f"SLUB: HWalign=64, Order=0-3, MinObjects=0, CPUs={machine.nr_cpus}, Nodes={len(machine.nodes)}"


def _calibration(machine: Machine, profile: Profile) -> Iterator[Line]:
    yield calibration_line(machine.cpu.khz * 1000, profile)


def _vfs(machine: Machine, profile: Profile, tables: list[HashTable]) -> Iterator[Line]:
    yield INFO, f"Freeing SMP alternatives memory: {profile.image.freed_smp_locks_kb}K"
    pid_max = max(32768, 1024 * machine.nr_cpus)
    yield INFO, f"pid_max: default: {pid_max} minimum: {max(301, 8 * machine.nr_cpus)}"
    for table in tables:
        if not table.early and table.name in VFS_TABLES:
            yield hash_line(table)


def _smp(machine: Machine, profile: Profile) -> Iterator[Line]:
    cpu = machine.cpu
    vendor = {"AuthenticAMD": "AMD ", "GenuineIntel": "Intel "}.get(cpu.vendor_id, "")
    name = cpu.model_name if cpu.model_name.startswith(vendor.strip() or " ") else vendor + cpu.model_name
    yield INFO, f"smpboot: CPU0: {name} (family: {cpu.family:#x}, model: {cpu.model:#x}, stepping: {cpu.stepping:#x})"
    yield smp_line(machine)
    hz = profile.config_int("HZ")
    total = cpu.khz * 1000 // hz * machine.nr_cpus
    yield (
        INFO,
        f"smpboot: Total of {machine.nr_cpus} processors activated"
        f" ({total // (500000 // hz)}.{total // (5000 // hz) % 100:02d} BogoMIPS)",
    )


def _memory(machine: Machine, profile: Profile, memblock: Memblock, nr_free_pages: int | None) -> Iterator[Line]:
    """Linux: deferred_init_memmap(), mem_init_print_info(), probe_memory_block_size()."""
    yield from deferred_lines(memblock) if DEFERRED(profile) else ()
    if MEMORY_LATE(profile):
        boot = memblock.boot_free_ranges()
        free = sum(end - start for start, end, _ in boot)
        yield memory_line(profile, memblock, boot, free if nr_free_pages is None else nr_free_pages)
    if BLOCKS(profile):
        block = mm_init.memory_block_size(memblock.max_pfn, machine.cpu.hypervisor)
        yield INFO, f"x86/mm: Memory block size: {block >> 20}MB"


def _initcalls(profile: Profile, memblock: Memblock, tables: list[HashTable]) -> Iterator[Line]:
    """The hash tables of the rest, and bounce buffers. Linux: the initcalls."""
    later = {table.name: table for table in tables if not table.early}
    if "posixtimers" in later:
        yield hash_line(later["posixtimers"])
    futex = later["futex"]
    yield _futex_line(futex, len(memblock.node_ranges)) if GAPS(profile) else hash_line(futex)
    for start, end in memblock.e820.ram_buffers():
        what = "register RAM buffer resource" if GAPS(profile) else "reserve RAM buffer"
        yield DEBUG, f"e820: {what} {narrow(start, end)}"
    heads = PAGE_SIZE * 8 // profile.arch.bits_per_long
    yield INFO, f"VFS: Dquot-cache hash table entries: {heads} (order 0, 4096 bytes)"
    yield from inet_lines(later)
    bounce = reservation(memblock, "software IO TLB")
    if bounce is not None:
        size = bounce.end - bounce.start
        yield INFO, "PCI-DMA: Using software bounce buffering for IO (SWIOTLB)"
        yield INFO, f"software IO TLB: mapped [mem 0x{bounce.start:016x}-0x{bounce.end:016x}] ({size >> 20}MB)"


def _give_back(memblock: Memblock) -> Iterator[Line]:
    """Linux: free_initrd_mem(), mem_encrypt_free_decrypted_mem(), free_initmem(), mark_rodata_ro()."""
    texts = {
        "initrd": "Freeing initrd memory",
        "decrypted": "Freeing unused decrypted memory",
        "kernel image (initmem)": "Freeing unused kernel image (initmem) memory",
        "kernel image (text/rodata gap)": "Freeing unused kernel image (text/rodata gap) memory",
        "kernel image (rodata/data gap)": "Freeing unused kernel image (rodata/data gap) memory",
    }
    for region in memblock.late_freed:
        if region.why in texts:
            yield INFO, f"{texts[region.why]}: {(region.end - region.start) // 1024}K"
