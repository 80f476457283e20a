"""Who claims which physical addresses: the tree behind /proc/iomem.

Linux: arch/x86/kernel/e820.c, e820__reserve_resources(); drivers/pci.
"""

from __future__ import annotations

from mmfs.machine import Machine
from mmfs.mm import e820
from mmfs.mm.memblock import Memblock
from mmfs.mm.resource import Resource
from mmfs.profile import Profile, config, until

PCI_END = 0xFEBFFFFF
PAGE = 0x1000
VIDEO_RAM = ~config("64BIT")
"""Kernels that claim the screen's memory. Linux: arch/x86/kernel/setup.c, i386_reserve_resources()."""
LOCAL_APIC = until(6, 12)
"""Kernels that claim the interrupt controller's registers here."""


def build_iomem(machine: Machine, profile: Profile, block: Memblock, crash: tuple[int, int] | None) -> Resource:
    """The tree for a machine whose kernel lies at block.kernel_base."""
    root = Resource("PCI mem", 0, (1 << machine.phys_bits) - 1)
    for start, end, kind in block.e820:
        root.add("System RAM" if kind == e820.RAM else "Reserved", start, end - 1)
    base, image = block.kernel_base, profile.image
    for name, first, end in (
        ("Kernel code", 0, image.text_end),
        ("Kernel rodata", image.rodata_start, image.rodata_end),
        ("Kernel data", image.data_start, image.data_end),
        ("Kernel bss", image.bss_start, image.end),
    ):
        root.add(name, base + first, base + end - 1)
    if crash is not None:
        root.add("Crash kernel", *crash)
    root.add("PCI Bus 0000:00", 0xA0000, 0xBFFFF)
    if VIDEO_RAM(profile):
        root.add("Video RAM area", 0xA0000, 0xBFFFF)
    root.add("Video ROM", 0xC0000, 0xC05FF)
    root.add("System ROM", 0xF0000, 0xFFFFF)
    low = e820.low_ram(machine)
    root.add("PCI Bus 0000:00", low, PCI_END)
    _virtio(machine, root)
    root.add("IOAPIC 0", 0xFEC00000, 0xFEC003FF)
    root.add("HPET 0", 0xFED00000, 0xFED003FF)
    root.add("PNP0103:00", 0xFED00000, 0xFED003FF)
    if LOCAL_APIC(profile):
        root.add("Local APIC", 0xFEE00000, 0xFEE00FFF)
    _, hole = e820.hotplug_span(machine)
    root.add("PCI Bus 0000:00", hole, hole + e820.PCI_HOLE64 - 1)
    for start, end in block.e820.ram_buffers():
        root.add_where_free("RAM buffer", start, end - 1)
    return root


def _virtio(machine: Machine, root: Resource) -> None:
    """A serial port and a disk each: a page of registers and 16 KB of modern ones, from the top down."""
    devices = 1 + len(machine.disks)
    pages = PCI_END + 1 - devices * PAGE
    modern = (pages - devices * 4 * PAGE) & -(4 * PAGE)
    for number in range(devices):
        name = f"0000:00:{number + 2:02x}.0"
        start = modern + number * 4 * PAGE
        root.add(name, start, start + 4 * PAGE - 1)
        root.add("virtio-pci-modern", start, start + 4 * PAGE - 1)
        root.add(name, pages + number * PAGE, pages + (number + 1) * PAGE - 1)
