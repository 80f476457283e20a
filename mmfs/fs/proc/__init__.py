"""/proc: a module a file, or a few files that belong together; importing this package declares them all.

Linux: fs/proc.
"""

from mmfs.fs.proc import (
    array,
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
    pid,
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
    "array",
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
    "pid",
    "proc",
    "self",
    "slabinfo",
    "stat",
    "swaps",
    "system",
    "vmstat",
    "zoneinfo",
]
