"""Who claims which physical addresses and I/O ports on arm64: devices of QEMU's board `virt`, RAM, and what boot keeps.

Devices lie below RAM, but for the PCI bus's registers and its window for large resources, which are at 256 GB or
behind RAM. What boot code has reserved is told range by range: two that touch are one.

Linux: arch/arm64/kernel/setup.c, request_standard_resources(), reserve_memblock_reserved_regions();
drivers/pci/controller/pci-host-common.c. QEMU: hw/arm/virt.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from mmfs.machine import Machine
from mmfs.mm.memblock import Memblock
from mmfs.mm.resource import Resource
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE
from mmfs.profile import Profile

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30
BOARD = (
    ("GICD", 0x0800_0000, 64 * KB),
    ("GICR", 0x080A_0000, 0xF6_0000),
    ("pl011@9000000", 0x0900_0000, 4 * KB),
    ("9000000.pl011 pl011@9000000", 0x0900_0000, 4 * KB),
    ("pl031@9010000", 0x0901_0000, 4 * KB),
    ("pl061@9030000", 0x0903_0000, 4 * KB),
)
PCIE, PCI_WINDOW, PCI_WINDOW_END = "pcie@10000000", 0x1000_0000, 0x3EFE_FFFF
HIGH_REDIST, HIGH_ECAM, HIGH_MMIO = 64 * MB, 256 * MB, 512 * GB
HIGH_BASE = 256 * GB
REGISTERS, MODERN = 4 * KB, 16 * KB
"""What a virtio device's interrupt table takes, and its registers."""
IO_SPACE_LIMIT = 0xFF_FFFF
FIRST_PORT, DISK_PORTS, SERIAL_PORTS = 0x1000, 0x80, 0x40


def high_pci(block_end: int) -> tuple[int, int]:
    """Where the PCI bus's registers and its large window lie, for RAM that ends there; each aligned to its size."""
    at = max(-(-block_end // GB) * GB, HIGH_BASE) + HIGH_REDIST
    ecam = -(-at // HIGH_ECAM) * HIGH_ECAM
    return ecam, -(-(ecam + HIGH_ECAM) // HIGH_MMIO) * HIGH_MMIO


def pci_devices(machine: Machine) -> list[str]:
    """The serial port and the disks, by slot."""
    return [f"0000:00:{number + 1:02x}.0" for number in range(1 + len(machine.disks))]


def build_iomem(machine: Machine, profile: Profile, block: Memblock, crash: tuple[int, int] | None) -> Resource:
    """The tree of addresses, for a machine whose kernel lies at block.kernel_base."""
    root = Resource("PCI mem", 0, (1 << 52) - 1)
    for name, start, size in BOARD:
        root.add(name, start, start + size - 1)
    ecam, high = high_pci(block.max_pfn << PAGE_SHIFT)
    root.add(PCIE, PCI_WINDOW, PCI_WINDOW_END)
    root.add("PCI ECAM", ecam, ecam + HIGH_ECAM - 1)
    root.add(PCIE, high, high + HIGH_MMIO - 1)
    for number, name in enumerate(pci_devices(machine)):
        start = PCI_WINDOW + number * REGISTERS
        root.add(name, start, start + REGISTERS - 1)
        start = high + number * MODERN
        root.add(name, start, start + MODERN - 1)
        root.add("virtio-pci-modern", start, start + MODERN - 1)
    base, image = block.kernel_base, profile.image
    root.add("Kernel code", base, base + image.init_start - 1)
    root.add("Kernel data", base + image.data_start, base + image.end - 1)
    for start, end, _, _ in block.regions:
        ram = root.add("System RAM", start, end - 1)
        assert ram is not None
        if crash is not None and start <= crash[0] < end:
            ram.add("Crash kernel", *crash)
        for low, stop in _merged((region.start, region.end) for region in block.reservations):
            low, stop = low // PAGE_SIZE * PAGE_SIZE, -(-stop // PAGE_SIZE) * PAGE_SIZE
            if start <= low and stop <= end:
                ram.add_where_free("reserved", low, stop - 1)
    return root


def _merged(ranges: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges (start, end), those that touch as one. Linux: mm/memblock.c, memblock_merge_regions()."""
    merged: list[tuple[int, int]] = []
    for start, end in ranges:
        if merged and merged[-1][1] == start:
            start = merged.pop()[0]
        merged.append((start, end))
    return merged


def build_ioports(machine: Machine) -> Resource:
    """The tree of ports: the PCI bus has them all, the largest resources come first."""
    root = Resource("PCI IO", 0, IO_SPACE_LIMIT)
    root.add(PCIE, 0, 0xFFFF)
    serial, *disks = pci_devices(machine)
    at = FIRST_PORT
    for size, name in (*((DISK_PORTS, name) for name in disks), (SERIAL_PORTS, serial)):
        root.add(name, at, at + size - 1)
        at += size
    return root
