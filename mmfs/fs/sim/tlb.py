"""/sim/tlb: what each processor's translation buffer has done, which real ones tell only to perf(1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.sim.root import sim

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


@sim.attribute("tlb")
def tlb(kernel: Kernel) -> str:
    """Translations found and not found, and flushes that another processor asked for."""
    lines = [f"{'':6}{'hits':>16}{'misses':>16}{'shootdowns':>16}\n"]
    for cpu, counts in enumerate(kernel.mmu.tlb.counts[:, :3].tolist()):
        lines.append(f"cpu{cpu:<3}" + "".join(f"{count:16d}" for count in counts) + "\n")
    return "".join(lines)
