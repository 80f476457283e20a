"""The firmware's map of physical memory, as SeaBIOS on QEMU's "pc" machine draws it, and how the kernel edits it.

RAM lies in two pieces: below 4 GB up to where PCI devices begin, and from 4 GB on. A machine of 3.5 GB or
more keeps 3 GB below. The firmware takes the last 128 KB below for its tables and 12 KB for every disk it
can boot from; the first megabyte has the holes that it has had since 1981. With an AMD processor
the addresses below 1 TB belong to HyperTransport, and RAM that would reach them begins at 1 TB.

Linux: arch/x86/kernel/e820.c. QEMU: hw/i386/pc.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mmfs.machine import Machine

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30
RAM = "usable"
RESERVED = "reserved"

EBDA = 0x9FC00
ISA_START, BIOS_BEGIN, ISA_END = 0xA0000, 0xA0000, 0x100000
SYSTEM_ROM = 0xF0000
SPLIT_LOW_RAM, SPLIT_ABOVE = 3 * GB, 0xE0000000
FLASH = 0xFFFC0000
FOUR_GB = 4 * GB
HYPERTRANSPORT = 0xFD00000000
ONE_TB = 1 << 40
PCI_HOLE64 = 2 * GB
ACPI_TABLES = 0x20000
BIOS_PER_DISK = 0x3000
DIMM, SMBIOS_PER_DIMM = 16 * GB, 58
DIMM_SLOTS = 8
INITRD_CEILING = 0x30000


class E820Entry(NamedTuple):
    """A range in bytes, ``end`` exclusive."""

    start: int
    end: int
    type: str


class E820Table:
    """An ordered map of ranges. Linux: struct e820_table."""

    def __init__(self, entries: list[E820Entry]) -> None:
        self.entries = sorted(entries)

    def __iter__(self) -> Iterator[E820Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def copy(self) -> E820Table:
        """The same map, to be edited."""
        return E820Table(list(self.entries))

    def _replace(self, start: int, end: int, old: str, new: str | None) -> None:
        entries: list[E820Entry] = []
        for entry in self.entries:
            low, high = max(entry.start, start), min(entry.end, end)
            if entry.type != old or low >= high:
                entries.append(entry)
                continue
            if entry.start < low:
                entries.append(entry._replace(end=low))
            if new is not None:
                entries.append(E820Entry(low, high, new))
            if high < entry.end:
                entries.append(entry._replace(start=high))
        self.entries = entries

    def range_update(self, start: int, end: int, old: str, new: str) -> None:
        """Change the type of a range where it has the old type. Linux: e820__range_update()."""
        self._replace(start, end, old, new)

    def range_remove(self, start: int, end: int, old: str) -> None:
        """Forget a range where it has that type. Linux: e820__range_remove()."""
        self._replace(start, end, old, None)

    def end_of_ram_pfn(self, limit_pfn: int) -> int:
        """The end of the last usable range below a limit, in frames. Linux: e820__end_of_ram_pfn()."""
        last = 0
        for start, end, kind in self.entries:
            if kind == RAM and start >> 12 < limit_pfn:
                last = max(last, min(end >> 12, limit_pfn))
        return last

    def pci_gap(self) -> tuple[int, int]:
        """The largest hole below 4 GB, for PCI devices. Linux: e820__setup_pci_gap(), e820_search_gap()."""
        last, best = FOUR_GB, (0, 4 * MB)
        for start, end, _ in reversed(self.entries):
            if last > end and last - end >= best[1] - best[0]:
                best = (end, last)
            last = min(last, start)
        return best

    def nosave_regions(self, max_pfn: int) -> list[tuple[int, int]]:
        """Ranges that hibernation skips, in bytes. Linux: e820__register_nosave_regions()."""
        regions = []
        last = 0
        for start, end, _ in self.ram():
            if last >> 12 < -(-start >> 12):
                regions.append((last >> 12 << 12, -(-start >> 12) << 12))
            last = end
        if last >> 12 < max_pfn:
            regions.append((last >> 12 << 12, max_pfn << 12))
        return regions

    def ram_buffers(self) -> list[tuple[int, int]]:
        """What lies between the end of RAM and a round address. Linux: e820__reserve_resources_late()."""
        buffers = []
        for _, start, _ in self.ram():
            align = 64 * KB if start < MB else MB if start < 16 * MB else 64 * MB
            end = -(-start // align) * align
            if start < end:
                buffers.append((start, end))
        return buffers

    def ram(self) -> list[E820Entry]:
        """The usable ranges."""
        return [entry for entry in self.entries if entry.type == RAM]


def low_ram(machine: Machine) -> int:
    """Bytes of RAM below 4 GB."""
    return SPLIT_LOW_RAM if machine.ram >= SPLIT_ABOVE else machine.ram


def above_4g_start(machine: Machine) -> int:
    """Where RAM goes on above 4 GB: there, or at 1 TB if it would run into HyperTransport's addresses."""
    above = machine.ram - low_ram(machine)
    hole = -(-(FOUR_GB + above) // GB) * GB + PCI_HOLE64
    if machine.cpu.vendor_id == "AuthenticAMD" and hole > HYPERTRANSPORT:
        return ONE_TB
    return FOUR_GB


def hotplug_span(machine: Machine) -> tuple[int, int]:
    """Where memory that is plugged in comes to be: behind all RAM, with room to align the module of each slot."""
    base = -(-max(above_4g_start(machine) + machine.ram - low_ram(machine), FOUR_GB) // GB) * GB
    return base, base + (machine.maxmem - machine.ram + DIMM_SLOTS * GB if machine.maxmem else 0)


def nr_dimms(machine: Machine) -> int:
    """Memory modules as the firmware describes them, of 16 GB each."""
    return -(-machine.ram // DIMM)


def has_hypertransport_hole(machine: Machine) -> bool:
    """Whether the map reserves the last 12 GB below 1 TB."""
    return machine.cpu.vendor_id == "AuthenticAMD"


def firmware_tables(machine: Machine) -> int:
    """Bytes below the end of low RAM that the firmware keeps."""
    disks = sum(1 for disk in machine.disks if disk.major)
    smbios = round(nr_dimms(machine) * SMBIOS_PER_DIMM / (4 * KB)) * 4 * KB
    return ACPI_TABLES + BIOS_PER_DISK * disks + smbios


def initrd_end(machine: Machine) -> int:
    """Where the boot loader ends the initramfs: below the firmware's tables, at a round address."""
    return low_ram(machine) - max(INITRD_CEILING, -(-firmware_tables(machine) // (64 * KB)) * 64 * KB)


def firmware_map(machine: Machine) -> E820Table:
    """What the firmware tells the kernel. Linux prints it as BIOS-e820."""
    low = low_ram(machine)
    tables = low - firmware_tables(machine)
    entries = [
        E820Entry(0, EBDA, RAM),
        E820Entry(EBDA, ISA_START, RESERVED),
        E820Entry(SYSTEM_ROM, ISA_END, RESERVED),
        E820Entry(ISA_END, tables, RAM),
        E820Entry(tables, low, RESERVED),
        E820Entry(FLASH, FOUR_GB, RESERVED),
    ]
    if machine.ram > low:
        start = above_4g_start(machine)
        entries.append(E820Entry(start, start + machine.ram - low, RAM))
    if has_hypertransport_hole(machine):
        entries.append(E820Entry(HYPERTRANSPORT, ONE_TB, RESERVED))
    return E820Table(entries)


def kernel_map(firmware: E820Table, mem_limit: int | None = None) -> E820Table:
    """The map after the kernel's edits: no page 0, no BIOS area, nothing above ``mem=``."""
    table = firmware.copy()
    if mem_limit is not None:
        table.range_remove(mem_limit, 1 << 64, RAM)
    table.range_update(0, 4 * KB, RAM, RESERVED)
    table.range_remove(BIOS_BEGIN, ISA_END, RAM)
    return table


def node_spans(machine: Machine) -> list[tuple[int, int, int]]:
    """The physical ranges of each node (start, end, nid), as the firmware's SRAT lists them."""
    low, above = low_ram(machine), above_4g_start(machine)
    spans = []
    at = 0
    for nid, node in enumerate(machine.nodes):
        start, end = at, at + node.memory
        at = end
        for first, last in ((start, min(end, low)), (max(start, low), end)):
            if first >= last:
                continue
            if first >= low:
                spans.append((first - low + above, last - low + above, nid))
            elif first < ISA_START < last:
                spans.append((first, ISA_START, nid))
                spans.append((ISA_END, last, nid))
            else:
                spans.append((first, last, nid))
    return spans
