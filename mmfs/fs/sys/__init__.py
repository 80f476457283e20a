"""/sys: nodes, processors, blocks of memory, pools of huge pages, cgroups; importing this package declares them all.

Linux: fs/sysfs.
"""

from mmfs.fs.cgroup import cgroup as cgroups
from mmfs.fs.cgroup1 import hierarchies
from mmfs.fs.sys import (
    block,
    cgroup,
    cma,
    cpu,
    damon,
    damon_modules,
    damon_schemes,
    debug,
    debug_bdi,
    debug_sched,
    device,
    hugepages,
    ksm,
    lru_gen,
    memory,
    mempolicy,
    module,
    node,
    node_access,
    numa,
    page_idle,
    slab,
    swap,
    tracing,
    transparent_hugepage,
    zram,
)
from mmfs.fs.sys.root import fs, sys

fs.mount(
    "cgroup",
    cgroups,
    obj=lambda kernel: kernel.cgroups.root,
    instead=lambda kernel: hierarchies if kernel.cgroup == "v1" else None,
)

__all__ = [
    "block", "cgroup", "cma", "cpu", "damon", "damon_modules", "damon_schemes", "debug", "debug_bdi", "debug_sched",
    "device", "hugepages", "ksm", "lru_gen", "memory", "mempolicy", "module", "node", "node_access", "numa",
    "page_idle", "slab", "swap", "sys", "tracing", "transparent_hugepage", "zram",
]  # fmt: skip
