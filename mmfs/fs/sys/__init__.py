"""/sys: nodes, processors, blocks of memory and the pools of huge pages; importing this package declares them all.

Linux: fs/sysfs.
"""

from mmfs.fs.sys import cpu, device, hugepages, memory, node
from mmfs.fs.sys.root import sys

__all__ = ["cpu", "device", "hugepages", "memory", "node", "sys"]
