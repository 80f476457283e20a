"""/proc: a module a file, or a few files that belong together; importing this package declares them all.

Linux: fs/proc.
"""

from mmfs.fs.proc import (
    array,
    attr,
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
    numa_maps,
    oom,
    page,
    pagemap,
    pid,
    pid_namespaces,
    pid_sched,
    pressure,
    self,
    slabinfo,
    stat,
    swaps,
    sysrq,
    system,
    sysvipc,
    task_mmu,
    vmstat,
    zoneinfo,
)
from mmfs.fs.proc.root import proc, sort_entries
from mmfs.fs.proc.sys import sys

proc.mount("sys", sys)
sort_entries()
pid.arrange(pid.pid_dir, pid.TGID_BASE_STUFF)
pid.arrange(pid.tid_dir, pid.TID_BASE_STUFF)

__all__ = [
    "array",
    "attr",
    "base",
    "cgroups",
    "cpuinfo",
    "devices",
    "diskstats",
    "fd",
    "filesystems",
    "interrupts",
    "iomem",
    "meminfo",
    "modules",
    "numa_maps",
    "oom",
    "page",
    "pagemap",
    "pid",
    "pid_namespaces",
    "pid_sched",
    "pressure",
    "proc",
    "self",
    "slabinfo",
    "stat",
    "swaps",
    "sys",
    "sysrq",
    "system",
    "sysvipc",
    "task_mmu",
    "vmstat",
    "zoneinfo",
]
