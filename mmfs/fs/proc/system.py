"""/proc/loadavg, uptime, version, cmdline: the short files about the system as a whole.

Linux: fs/proc/loadavg.c, uptime.c, version.c, cmdline.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc
from mmfs.kernel.clock import NSEC_PER_SEC

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


def seconds(nsec: int) -> str:
    """Seconds with two decimals, cut off."""
    return f"{nsec // NSEC_PER_SEC}.{nsec % NSEC_PER_SEC // (NSEC_PER_SEC // 100):02d}"


@proc.attribute("loadavg")
def loadavg(kernel: Kernel) -> str:
    """Load averages, threads that run (the reader does) of all threads, the newest pid."""
    one, five, fifteen = kernel.loadavg.get_avenrun()
    running = max(kernel.scheduler.nr_running, 1)
    return f"{one} {five} {fifteen} {running}/{kernel.tasks.nr_threads} {kernel.tasks.last_pid}\n"


@proc.attribute("uptime")
def uptime(kernel: Kernel) -> str:
    """Seconds since boot, and idle seconds of all CPUs together."""
    return f"{seconds(kernel.clock.now_ns)} {seconds(kernel.scheduler.idle_ns())}\n"


@proc.attribute("version")
def version(kernel: Kernel) -> str:
    """What was built where with what."""
    return f"{kernel.profile.version_banner}\n"


@proc.attribute("cmdline", size=lambda kernel: len(kernel.cmdline.encode()) + 1)
def cmdline(kernel: Kernel) -> str:
    """The boot loader's arguments."""
    return f"{kernel.cmdline}\n"
