"""/proc: a module a file, or a few files that belong together; importing this package declares them all.

Linux: fs/proc.
"""

from mmfs.fs.proc import (
    array,
    base,
    cgroups,
    cpuinfo,
    devices,
    diskstats,
    fd,
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
    task_mmu,
    vmstat,
    zoneinfo,
)
from mmfs.fs.proc.root import proc, sort_entries

sort_entries()

__all__ = [
    "task_mmu",
    "fd",
    "base",
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
