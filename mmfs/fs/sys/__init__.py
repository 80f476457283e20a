"""/sys: nodes, processors, blocks of memory, pools of huge pages, cgroups; importing this package declares them all.

Linux: fs/sysfs.
"""

from mmfs.fs.cgroup import cgroup
from mmfs.fs.sys import block, cpu, debug, device, hugepages, lru_gen, memory, module, node, swap, zram
from mmfs.fs.sys.root import fs, sys

fs.mount("cgroup", cgroup, obj=lambda kernel: kernel.cgroups.root)

__all__ = [
    "block", "cpu", "debug", "device", "hugepages", "lru_gen", "memory", "module", "node", "swap", "sys", "zram",
]  # fmt: skip
