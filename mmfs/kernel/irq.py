"""Interrupts: which lines the machine's devices have, and how often each CPU was interrupted.

A PC has its legacy devices behind the I/O APIC (timer, keyboard and mouse, serial port, clock, ACPI); each virtio
device of ours has MSI-X vectors: one for configuration changes and one a queue, and a disk has a queue a
CPU. Numbers are handed out in the order in which drivers ask, from 24 on.

What follows from other parts of the model is read from them: local timer interrupts and soft interrupts from the
CPUs' accounting, machine check polls from the uptime.

Linux: kernel/irq/irqdesc.c, proc.c; arch/x86/kernel/irq.c; arch/x86/kernel/apic/vector.c; kernel/softirq.c.

Simplified: the requests of a disk take the queues of all CPUs in turns; inter-processor interrupts (RES, CAL) are
counted only where the model sends one; every tick of a busy CPU raises a soft interrupt (SCHED, RCU), every timer that
fires another (TIMER).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mmfs.kernel.clock import NSEC_PER_SEC
from mmfs.profile import Profile, since, until

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmfs.kernel.block import Gendisk
    from mmfs.kernel.rq import Cpu
    from mmfs.machine import Machine

CHIP_OF_DEVICE: Final = since(6, 12)
"""Kernels in which each PCI device is an interrupt chip; in older ones all are one, in which each has its place."""
CONSOLE_MODULE: Final = until(6, 12)
"""Kernels whose driver of the serial port is a module, which comes after that of the disks."""
POLLED_AT_BOOT: Final = until(7, 0)
"""Kernels that look for machine checks once when a CPU comes up, before they do so now and then."""
DEVFN_SHIFT: Final = 14
GSI_TOP: Final = 24
NR_LEGACY_IRQS: Final = 16
NR_VECTORS: Final = 256
NR_IRQS_LIMIT: Final = 524544
MCE_POLL_NS: Final = 300 * NSEC_PER_SEC
"""Linux: arch/x86/kernel/cpu/mce/core.c, check_interval."""

TLB_SHOOTDOWNS: Final = 2
"""The column of Mmu.tlb_counts that counts shootdowns that a CPU received."""

SOFTIRQS: Final = ("HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU")

LEGACY: Final = ((0, "timer"), (1, "i8042"), (4, "ttyS0"), (8, "rtc0"), (9, "acpi"), (12, "i8042"))

ARCH: Final = (
    ("NMI", "Non-maskable interrupts"),
    ("LOC", "Local timer interrupts"),
    ("SPU", "Spurious interrupts"),
    ("PMI", "Performance monitoring interrupts"),
    ("IWI", "IRQ work interrupts"),
    ("RTR", "APIC ICR read retries"),
    ("RES", "Rescheduling interrupts"),
    ("CAL", "Function call interrupts"),
    ("TLB", "TLB shootdowns"),
    ("TRM", "Thermal event interrupts"),
    ("THR", "Threshold APIC interrupts"),
    ("DFR", "Deferred Error APIC interrupts"),
    ("MCE", "Machine check exceptions"),
    ("MCP", "Machine check polls"),
)
VIRTUALIZATION: Final = (
    ("PIN", "Posted-interrupt notification event"),
    ("NPI", "Nested posted-interrupt event"),
    ("PIW", "Posted-interrupt wakeup event"),
)
UNCOUNTED: Final = ("TLB", "PIN", "NPI", "PIW", "DFR")
"""Not in the sum of /proc/stat. Linux: arch/x86/kernel/irq.c, arch_irq_stat_cpu()."""


@dataclass
class IrqDesc:
    """One interrupt line and its handler. Linux: struct irq_desc."""

    irq: int
    chip: str
    hwirq: int
    flow: str
    action: str
    nr_cpus: int
    kstat: dict[int, int] = field(default_factory=dict)

    def handle(self, cpu: int, times: int = 1) -> None:
        """The device interrupted a CPU."""
        self.kstat[cpu] = self.kstat.get(cpu, 0) + times

    def counts(self) -> list[int]:
        """How often each CPU took it."""
        return [self.kstat.get(cpu, 0) for cpu in range(self.nr_cpus)]


class Interrupts:
    """All interrupts of a machine."""

    arch_names: tuple[tuple[str, str], ...] = (*ARCH, *VIRTUALIZATION)
    """The processors' own: name and description."""
    msi_flow = "edge"

    def __init__(self, machine: Machine, cpus: Sequence[Cpu], profile: Profile) -> None:
        self.cpus = cpus
        self.chip_of_device, self.console_last = CHIP_OF_DEVICE(profile), CONSOLE_MODULE(profile)
        self.first_polls = int(POLLED_AT_BOOT(profile))
        self.virtualization = bool(profile.config("KVM"))
        self._descs: list[IrqDesc] = []
        self._arch: dict[str, list[int]] = {name: [0] * len(cpus) for name, _ in self.arch_names}
        self.disks: Iterable[Gendisk] = ()
        self.tlb_counts: NDArray[np.int64] | None = None
        self.queues: dict[str, list[IrqDesc]] = {}
        self.err_count = 0
        self.mis_count = 0
        self._request_lines(machine)

    def _request_lines(self, machine: Machine) -> None:
        """In the order in which drivers ask. Linux: request_irq()."""
        for irq, action in LEGACY:
            self._request(irq, "IO-APIC", 2 if irq == 0 else irq, "fasteoi" if action == "acpi" else "edge", action)
        self._request_devices(machine)

    def _request_devices(self, machine: Machine) -> None:
        """The serial port and the disks."""
        if not self.console_last:
            self._request_msix(0, ["config", "virtqueues"])
        for number, disk in enumerate(machine.disks, 1):
            queues = [f"req.{queue}" for queue in range(len(self.cpus))]
            self.queues[disk.name] = self._request_msix(number, ["config", *queues])[1:]
        if self.console_last:
            self._request_msix(0, ["config", "virtqueues"])

    def _request(self, irq: int, chip: str, hwirq: int, flow: str, action: str) -> IrqDesc:
        desc = IrqDesc(irq, chip, hwirq, flow, action, len(self.cpus))
        self._descs.append(desc)
        return desc

    def _request_msix(self, device: int, vectors: list[str]) -> list[IrqDesc]:
        chip, first_hw, lowest = self._msi_chip(device)
        first = max(lowest, self._descs[-1].irq + 1)
        return [
            self._request(first + number, chip, first_hw + number, self.msi_flow, f"virtio{device}-{name}")
            for number, name in enumerate(vectors)
        ]

    def _msi_chip(self, device: int) -> tuple[str, int, int]:
        """The chip of a device's messages, its first line there, and the lowest number for such."""
        slot = device + 2
        if self.chip_of_device:
            return f"PCI-MSIX-0000:00:{slot:02x}.0", 0, GSI_TOP
        return "PCI-MSI", slot << DEVFN_SHIFT, GSI_TOP

    # -- what the model reports ---------------------------------------------------------------------------

    def attach_disks(self, disks: Iterable[Gendisk]) -> None:
        """The disks whose requests interrupt."""
        self.disks = disks

    def attach_tlb(self, counts: NDArray[np.int64]) -> None:
        """The counters of the CPUs' TLBs: a shootdown is a call of a function on another CPU."""
        self.tlb_counts = counts

    def _shootdowns(self) -> list[int]:
        if self.tlb_counts is None:
            return self._arch["TLB"]
        shootdowns: list[int] = self.tlb_counts[:, TLB_SHOOTDOWNS].tolist()
        return shootdowns

    def _collect_disk_interrupts(self) -> None:
        """Each request that a disk has answered was one interrupt; the queues of the CPUs take turns."""
        for disk in self.disks:
            queues = self.queues.get(disk.name, ())
            answered = sum(disk.ios) - disk.in_flight
            for number, desc in enumerate(queues):
                desc.kstat[number] = (answered + len(queues) - 1 - number) // len(queues)

    def count_arch(self, name: str, cpu: int, times: int = 1) -> None:
        """An interrupt of the processor itself, by its name in /proc/interrupts."""
        self._arch[name][cpu] += times

    # -- what is read -------------------------------------------------------------------------------------

    @property
    def nr_irqs(self) -> int:
        """How many interrupt numbers there can be. Linux: arch_probe_nr_irqs()."""
        nr_cpus = len(self.cpus)
        return min(NR_IRQS_LIMIT, NR_VECTORS * nr_cpus, GSI_TOP + NR_LEGACY_IRQS + 8 * nr_cpus + GSI_TOP * 16)

    @property
    def precision(self) -> int:
        """Width of the first column of /proc/interrupts. Linux: kernel/irq/proc.c, show_interrupts()."""
        width, limit = 3, 1000
        while width < 10 and limit <= self.nr_irqs:
            width, limit = width + 1, limit * 10
        return width

    def descs(self) -> list[IrqDesc]:
        """Lines with a handler, by number."""
        self._collect_disk_interrupts()
        return self._descs

    def by_number(self) -> list[int]:
        """The sum over CPUs of every number up to nr_irqs."""
        sums = [0] * self.nr_irqs
        for desc in self.descs():
            sums[desc.irq] = sum(desc.kstat.values())
        return sums

    def arch(self) -> Iterator[tuple[str, str, list[int]]]:
        """The processors' own interrupts: name, description, count a CPU."""
        for name, description in self.arch_names:
            if self.virtualization or (name, description) not in VIRTUALIZATION:
                yield name, description, self.arch_counts(name)

    def arch_counts(self, name: str) -> list[int]:
        """One kind of them a CPU."""
        if name == "LOC":
            return [cpu.timer_interrupts for cpu in self.cpus]
        if name == "MCP":
            return [self.first_polls + cpu.clock.now_ns // MCE_POLL_NS for cpu in self.cpus]
        if name == "TLB":
            return self._shootdowns()
        if name == "CAL":
            return [own + tlb for own, tlb in zip(self._arch[name], self._shootdowns(), strict=True)]
        return self._arch[name]

    def total(self) -> int:
        """All interrupts since boot. Linux: fs/proc/stat.c, the first number of the intr line."""
        own = sum(sum(counts) for name, _, counts in self.arch() if name not in UNCOUNTED)
        return own + self.err_count + sum(sum(desc.kstat.values()) for desc in self.descs())

    def softirqs(self) -> dict[str, list[int]]:
        """Soft interrupts a CPU, by name."""
        counts = {name: [0] * len(self.cpus) for name in SOFTIRQS}
        counts["TIMER"] = [cpu.timer_wakeups for cpu in self.cpus]
        counts["SCHED"] = [cpu.busy_ticks for cpu in self.cpus]
        counts["RCU"] = [cpu.busy_ticks for cpu in self.cpus]
        return counts
