"""/proc/cpuinfo of arm64: each processor as its identification registers describe it.

Linux: arch/arm64/kernel/cpuinfo.c, c_show().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.kernel.clock import HZ

if TYPE_CHECKING:
    from mmfs.cpu_model import CpuModel
    from mmfs.kernel.kernel import Kernel


def cpuinfo(kernel: Kernel) -> str:
    """A paragraph a processor."""
    return "".join(processor(kernel.machine.cpu, cpu.cpu) for cpu in kernel.cpus)


def processor(model: CpuModel, cpu: int) -> str:
    """One paragraph, the empty line behind it included."""
    loops, midr = model.khz * 1000 // HZ, model.midr
    return (
        f"processor\t: {cpu}\nBogoMIPS\t: {loops // (500_000 // HZ)}.{loops // (5_000 // HZ) % 100:02d}\n"
        f"Features\t: {' '.join(model.flags)}\nCPU implementer\t: 0x{midr >> 24:02x}\n"
        f"CPU architecture: {model.family}\nCPU variant\t: 0x{midr >> 20 & 0xF:x}\n"
        f"CPU part\t: 0x{midr >> 4 & 0xFFF:03x}\nCPU revision\t: {midr & 0xF}\n\n"
    )
