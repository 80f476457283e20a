"""Who claims which I/O ports: the tree behind /proc/ioports.

A PC's legacy devices have had theirs since 1981; the PCI devices of the machine get their windows from the
firmware, the largest first.

Linux: kernel/resource.c, ioport_resource; arch/x86/kernel/setup.c, standard_io_resources[].
"""

from __future__ import annotations

from typing import Final

from mmfs.machine import Machine
from mmfs.mm.resource import Resource

CONFIG_PORTS: Final = (0xCF8, 0xCFF)
PCI_WINDOW: Final = 0xC000
DISK_PORTS, SERIAL_PORTS, IDE_PORTS = 0x80, 0x40, 0x10

LEGACY: Final = (
    (0x0000, 0x001F, "dma1"),
    (0x0020, 0x0021, "pic1"),
    (0x0040, 0x0043, "timer0"),
    (0x0050, 0x0053, "timer1"),
    (0x0060, 0x0060, "keyboard"),
    (0x0064, 0x0064, "keyboard"),
    (0x0070, 0x0077, "rtc0"),
    (0x0080, 0x008F, "dma page reg"),
    (0x00A0, 0x00A1, "pic2"),
    (0x00C0, 0x00DF, "dma2"),
    (0x00F0, 0x00FF, "fpu"),
    (0x0170, 0x0177, "0000:00:01.1"),
    (0x01F0, 0x01F7, "0000:00:01.1"),
    (0x0376, 0x0376, "0000:00:01.1"),
    (0x03D4, 0x03D5, "cga"),
    (0x03F6, 0x03F6, "0000:00:01.1"),
    (0x03F8, 0x03FF, "serial"),
    (0x0510, 0x051B, "QEMU0002:00"),
    (0x0600, 0x063F, "0000:00:01.3"),
    (0x0600, 0x0603, "ACPI PM1a_EVT_BLK"),
    (0x0604, 0x0605, "ACPI PM1a_CNT_BLK"),
    (0x0608, 0x060B, "ACPI PM_TMR"),
    (0x0700, 0x070F, "0000:00:01.3"),
    (0xAFE0, 0xAFE3, "ACPI GPE0_BLK"),
)


def build_ioports(machine: Machine) -> Resource:
    """The tree for a machine: ports below the PCI configuration's, and those above."""
    root = Resource("PCI IO", 0, 0xFFFF)
    root.add("PCI Bus 0000:00", 0, CONFIG_PORTS[0] - 1)
    root.add("PCI conf1", *CONFIG_PORTS)
    root.add("PCI Bus 0000:00", CONFIG_PORTS[1] + 1, 0xFFFF)
    for start, end, name in LEGACY:
        root.add(name, start, end)
    disks = [(DISK_PORTS, f"0000:00:{number + 3:02x}.0") for number in range(len(machine.disks))]
    at = PCI_WINDOW
    for size, name in (*disks, (SERIAL_PORTS, "0000:00:02.0"), (IDE_PORTS, "0000:00:01.1")):
        root.add(name, at, at + size - 1)
        at += size
    return root
