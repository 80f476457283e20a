"""What the kernel says while it boots on arm64, as far as the simulated machine has the facts.

As setup.py has it for x86: lines about devices and features that are not modelled are left out.

Linux: init/main.c, start_kernel(); arch/arm64/kernel/setup.c; the pr_info() of what they call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmfs.kernel import boot_lines
from mmfs.kernel.boot_lines import INFO, NOTICE, Line, Record
from mmfs.machine import Machine
from mmfs.mm.boot_areas import dma_pool_bytes
from mmfs.mm.memblock import Memblock
from mmfs.mm.percpu import percpu_unit_pages
from mmfs.mm.system_hash import HashTable
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE
from mmfs.profile import Profile

IO_TLB_DEFAULT = 64 << 20


def boot_log(
    machine: Machine, profile: Profile, memblock: Memblock, *, nr_free_pages: int | None = None,
    demotion_targets: Sequence[str] = (),
) -> list[Record]:  # fmt: skip
    """The boot log: (microseconds, level, text) in order; for nr_free_pages see setup.boot_log()."""
    later = {table.name: table for table in memblock.hash_tables if not table.early}
    return boot_lines.timed(
        (
            (0, _firmware(machine, profile, memblock)),
            (0, _nodes(machine, memblock)),
            (0, boot_lines.zone_lines(profile, memblock)),
            (0, _start_kernel(machine, profile, memblock)),
            (0, boot_lines.balancing_lines(machine, memblock)),
            (19_000, _vfs(machine, profile, later)),
            (133_000, _smp(machine)),
            (243_000, _memory(profile, memblock, nr_free_pages)),
            (345_000, _initcalls(memblock, later)),
            (805_000, iter([(INFO, f"Freeing initrd memory: {_kb(memblock, 'initrd')}K")])),
            (1_000_000, boot_lines.disk_lines(machine)),
            (1_135_000, iter([(INFO, line) for line in demotion_targets])),
            (1_472_000, iter([(INFO, f"Freeing unused kernel memory: {_kb(memblock, 'kernel memory')}K")])),
        )
    )


def _kb(memblock: Memblock, why: str) -> int:
    """The whole pages of what is freed when the kernel has booted. Linux: free_reserved_area()."""
    region = next(region for region in memblock.late_freed if region.why == why)
    return (region.end // PAGE_SIZE - -(-region.start // PAGE_SIZE)) * PAGE_SIZE >> 10


def _firmware(machine: Machine, profile: Profile, memblock: Memblock) -> Iterator[Line]:
    """From the first line to the model. Linux: smp_setup_processor_id(), setup_machine_fdt()."""
    yield INFO, f"Booting Linux on physical CPU 0x{0:010x} [0x{machine.cpu.midr:08x}]"
    yield NOTICE, profile.version_banner
    yield INFO, "KASLR disabled on command line" if "nokaslr" in memblock.cmdline.split() else "KASLR enabled"
    yield INFO, f"Machine model: {machine.hardware_name.removesuffix(' (DT)')}"


def _nodes(machine: Machine, memblock: Memblock) -> Iterator[Line]:
    """Which memory is on which node. Linux: mm/numa_emulation.c, drivers/base/arch_numa.c, dummy_numa_init()."""
    if not machine.numa:
        span = boot_lines.wide(memblock.regions[0].start, memblock.max_pfn << PAGE_SHIFT)
        yield INFO, f"NUMA: Faking a node at {span}"
    for nid in sorted({region.nid for region in memblock.regions}):
        data = boot_lines.reservation(memblock, f"NODE_DATA({nid})")
        if data is not None:
            yield INFO, f"NODE_DATA({nid}) allocated {boot_lines.narrow(data.start, data.end)}"


def _start_kernel(machine: Machine, profile: Profile, memblock: Memblock) -> Iterator[Line]:
    """Per-CPU areas, the command line, zonelists, bounce buffers, the slab. Linux: start_kernel()."""
    unit_pages, image = percpu_unit_pages(profile), profile.image
    yield (
        INFO,
        f"percpu: Embedded {unit_pages} pages/cpu s{image.percpu_static} r{profile.percpu_reserved}"
        f" d{profile.percpu_dynamic} u{unit_pages * PAGE_SIZE}",
    )
    yield NOTICE, f"Kernel command line: {memblock.cmdline}"
    yield from (boot_lines.hash_line(table) for table in memblock.hash_tables if table.early)
    yield from boot_lines.zonelist_lines(machine, profile, memblock)
    yield INFO, "mem auto-init: stack:all(zero), heap alloc:on, heap free:off"
    bounce = boot_lines.reservation(memblock, "software IO TLB")
    if bounce is not None:
        size = bounce.end - bounce.start
        if size != IO_TLB_DEFAULT:
            yield INFO, f"software IO TLB: SWIOTLB bounce buffer size adjusted to {size >> 20}MB"
        yield INFO, f"software IO TLB: area num {1 << (machine.nr_cpus - 1).bit_length()}."
        yield INFO, f"software IO TLB: mapped [mem 0x{bounce.start:016x}-0x{bounce.end:016x}] ({size >> 20}MB)"
    yield INFO, f"SLUB: HWalign=64, Order=0-3, MinObjects=0, CPUs={machine.nr_cpus}, Nodes={len(machine.nodes)}"


def _vfs(machine: Machine, profile: Profile, later: dict[str, HashTable]) -> Iterator[Line]:
    yield boot_lines.calibration_line(machine.cpu.khz * 1000, profile)
    pid_max = max(32768, 1024 * machine.nr_cpus)
    yield INFO, f"pid_max: default: {pid_max} minimum: {max(301, 8 * machine.nr_cpus)}"
    yield from (boot_lines.hash_line(later[name]) for name in boot_lines.VFS_TABLES if name in later)


def _smp(machine: Machine) -> Iterator[Line]:
    yield boot_lines.smp_line(machine)
    yield INFO, f"SMP: Total of {machine.nr_cpus} processors activated."


def _memory(profile: Profile, memblock: Memblock, nr_free_pages: int | None) -> Iterator[Line]:
    """Linux: deferred_init_memmap(), mem_init_print_info()."""
    yield from boot_lines.deferred_lines(memblock)
    boot = memblock.boot_free_ranges()
    free = sum(end - start for start, end, _ in boot)
    yield boot_lines.memory_line(profile, memblock, boot, free if nr_free_pages is None else nr_free_pages)


def _initcalls(memblock: Memblock, later: dict[str, HashTable]) -> Iterator[Line]:
    """Hash tables of the rest, and memory for devices. Linux: the initcalls."""
    yield boot_lines.hash_line(later["futex"])
    size = dma_pool_bytes(sum(end - start for start, end, _ in memblock.free_ranges()))
    for zone in ("", "|GFP_DMA", "|GFP_DMA32"):
        yield INFO, f"DMA: preallocated {size >> 10} KiB GFP_KERNEL{zone} pool for atomic allocations"
    yield from boot_lines.inet_lines(later)
