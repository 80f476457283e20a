"""/proc: a module a file, or a few files that belong together; importing this package declares them all.

Linux: fs/proc.
"""

from mmfs.fs.proc import (
    cgroups,
    cpuinfo,
    devices,
    diskstats,
    filesystems,
    interrupts,
    iomem,
    meminfo,
    modules,
    page,
    self,
    slabinfo,
    stat,
    swaps,
    system,
    vmstat,
    zoneinfo,
)
from mmfs.fs.proc.root import proc, sort_entries

sort_entries()

__all__ = [
    "cgroups",
    "cpuinfo",
    "devices",
    "diskstats",
    "filesystems",
    "interrupts",
    "iomem",
    "meminfo",
    "modules",
    "page",
    "proc",
    "self",
    "slabinfo",
    "stat",
    "swaps",
    "system",
    "vmstat",
    "zoneinfo",
]
