"""Interrupts of arm64: lines of a GICv3, and messages of PCI devices through its translation service.

Each CPU has a timer and a performance monitor of its own (PPIs), which have one number for all; interrupts that CPUs
send each other have the first numbers and no row with a handler. What TLBs must forget is broadcast by the hardware:
no CPU is interrupted for it.

Linux: drivers/irqchip/irq-gic-v3.c, irq-gic-v3-its.c; arch/arm64/kernel/smp.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.kernel.irq import Interrupts, IrqDesc

if TYPE_CHECKING:
    from mmfs.machine import Machine

LEVEL, EDGE = "Level", "Edge"
FIRST_IPI: Final = 1
TIMER, UART, PMU = (11, 27, "arch_timer"), (13, 33, "uart-pl011"), (23, "arm-pmu")
"""Number if it is known, line of the GIC, who handles it."""
FIRST_MSI: Final = 17
IPIS: Final = (
    ("IPI0", "Rescheduling interrupts"),
    ("IPI1", "Function call interrupts"),
    ("IPI2", "CPU stop interrupts"),
    ("IPI3", "CPU stop NMIs"),
    ("IPI4", "Timer broadcast interrupts"),
    ("IPI5", "IRQ work interrupts"),
    ("IPI6", "CPU backtrace interrupts"),
    ("IPI7", "KGDB roundup interrupts"),
)
NR_IRQS: Final = 64


class GicInterrupts(Interrupts):
    """All interrupts of a machine of arm64."""

    arch_names = IPIS
    msi_flow = EDGE

    def _request_lines(self, machine: Machine) -> None:
        """In the order in which drivers ask. Linux: request_irq()."""
        self.timer = self._request(TIMER[0], "GICv3", TIMER[1], LEVEL, TIMER[2])
        self._request(UART[0], "GICv3", UART[1], LEVEL, UART[2])
        self._request_devices(machine)
        self._request(self._descs[-1].irq + 1, "GICv3", PMU[0], LEVEL, PMU[1])

    def _msi_chip(self, device: int) -> tuple[str, int, int]:
        return f"ITS-PCI-MSIX-0000:00:{device + 1:02x}.0", 0, FIRST_MSI

    @property
    def nr_irqs(self) -> int:
        """How many interrupt numbers there are without messages; those grow as they are asked for."""
        return max(NR_IRQS, self._descs[-1].irq + 1)

    def descs(self) -> list[IrqDesc]:
        """Lines with a handler, by number."""
        self.timer.kstat = {cpu.cpu: cpu.timer_interrupts for cpu in self.cpus}
        return super().descs()

    def by_number(self) -> list[int]:
        """The sum over CPUs of every number up to nr_irqs, of what CPUs send each other too."""
        sums = super().by_number()
        for number, (name, _) in enumerate(IPIS, FIRST_IPI):
            sums[number] = sum(self._arch[name])
        return sums

    def arch_counts(self, name: str) -> list[int]:
        """One kind of what CPUs send each other, a CPU."""
        return self._arch[name]

    def total(self) -> int:
        """All interrupts since boot."""
        return self.err_count + sum(self.by_number())
