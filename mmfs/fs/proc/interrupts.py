"""/proc/interrupts and /proc/softirqs: who interrupted which CPU how often.

Linux: kernel/irq/proc.c, show_interrupts(); arch/x86/kernel/irq.c, arch_show_interrupts(); fs/proc/softirqs.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc
from mmfs.profile import config, since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

GIC = config("ARM64")
CHIP_NEXT_TO_COUNTS = since(7, 0)
"""Which kernels write no second space before the name of the chip."""


def columns(numbers: Iterable[int]) -> str:
    """A column a CPU."""
    return "".join([f"{number:10d} " for number in numbers])


def header(kernel: Kernel, indent: int) -> str:
    """The CPUs' names over their columns."""
    return " " * indent + "".join([f"CPU{cpu.cpu:<8d}" for cpu in kernel.cpus]) + "\n"


@proc.attribute("interrupts")
def interrupts(kernel: Kernel) -> str:
    """A row an interrupt that has a handler, then those that the processors count by themselves."""
    if GIC(kernel):
        return gic_interrupts(kernel)
    irqs = kernel.interrupts
    width = irqs.precision
    lines = [header(kernel, width + 8)]
    gap = "" if CHIP_NEXT_TO_COUNTS(kernel) else " "
    for desc in irqs.descs():
        source = f"{desc.chip:>8} {desc.hwirq:{width}d}-{desc.flow:<8}"
        lines.append(f"{desc.irq:{width}d}: {columns(desc.counts())}{gap}{source}  {desc.action}\n")
    for name, description, counts in irqs.arch():
        lines.append(f"{name:>{width}}: {columns(counts)}  {description}\n")
        if name == "MCP":  # two that are counted for the machine as a whole
            lines.append(f"{'ERR':>{width}}: {irqs.err_count:10d}\n")
            lines.append(f"{'MIS':>{width}}: {irqs.mis_count:10d}\n")
    return "".join(lines)


def gic_interrupts(kernel: Kernel) -> str:
    """The same on arm64, where it is told how an interrupt is triggered. Linux: arch/arm64/kernel/smp.c."""
    irqs = kernel.interrupts
    width = irqs.precision
    lines = [header(kernel, width + 8)]
    for desc in irqs.descs():
        source = f"{desc.chip:>8} {desc.hwirq:{width}d} {desc.flow:<8}"
        lines.append(f"{desc.irq:{width}d}: {columns(desc.counts())} {source}  {desc.action}\n")
    for name, description, counts in irqs.arch():
        lines.append(f"{name}:{columns(counts)}      {description}\n")
    lines.append(f"{'Err':>{width}}: {irqs.err_count:10d}\n")
    return "".join(lines)


@proc.attribute("softirqs")
def softirqs(kernel: Kernel) -> str:
    """A row a kind of soft interrupt. Linux: fs/proc/softirqs.c, show_softirqs()."""
    lines = [header(kernel, 20)]
    for name, counts in kernel.interrupts.softirqs().items():
        lines.append(f"{name:>12}:{''.join([f' {count:10d}' for count in counts])}\n")
    return "".join(lines)
