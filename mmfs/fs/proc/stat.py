"""/proc/stat: CPU time by kind, interrupts, context switches, forks.

Linux: fs/proc/stat.c, show_stat().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc
from mmfs.kernel.clock import NSEC_PER_SEC, nsec_to_clock_t

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmfs.kernel.kernel import Kernel


def cpu_line(name: str, times: Iterable[int]) -> str:
    """The ten kinds of time in USER_HZ."""
    return f"{name} {' '.join([str(nsec_to_clock_t(time)) for time in times])}\n"


@proc.attribute("stat")
def stat(kernel: Kernel) -> str:
    """Linux: fs/proc/stat.c, show_stat()."""
    times = [cpu.times() for cpu in kernel.cpus]
    lines = [cpu_line("cpu ", [sum(column) for column in zip(*times, strict=True)])]
    lines += [cpu_line(f"cpu{cpu.cpu}", row) for cpu, row in zip(kernel.cpus, times, strict=True)]
    irqs = kernel.interrupts
    softirqs = [sum(counts) for counts in irqs.softirqs().values()]
    scheduler = kernel.scheduler
    return "".join(lines) + (
        f"intr {irqs.total()} {' '.join(map(str, irqs.by_number()))}\n"
        f"ctxt {scheduler.nr_context_switches}\n"
        f"btime {kernel.clock.boottime_ns // NSEC_PER_SEC}\n"
        f"processes {scheduler.total_forks}\n"
        f"procs_running {max(scheduler.nr_running, 1)}\n"
        f"procs_blocked {scheduler.nr_iowait}\n"
        f"softirq {sum(softirqs)} {' '.join(map(str, softirqs))}\n"
    )
