"""/sys/kernel/debug/sched/numa_balancing: how often and how much memory is scanned to learn who uses it.

Linux: kernel/sched/debug.c, sched_init_debug().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.fs.sys.debug import debug
from mmfs.fs.sys.root import DIRECTORY
from mmfs.kernfs.kstrtox import kstrtoul

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

TUNABLES: Final = ("scan_delay_ms", "scan_period_min_ms", "scan_period_max_ms", "scan_size_mb", "hot_threshold_ms")
numa_balancing = debug.directory("sched", mode=DIRECTORY).directory("numa_balancing", mode=DIRECTORY)


def _tunable(name: str) -> None:
    def show(kernel: Kernel) -> int:
        value: int = getattr(kernel.numa_balancing, name)
        return value

    def store(kernel: Kernel, buf: str) -> None:
        setattr(kernel.numa_balancing, name, kstrtoul(buf, 0) & 0xFFFF_FFFF)
        kernel.numa_balancing.tell()

    numa_balancing.attributes(name, show, store)


for _name in TUNABLES:
    _tunable(_name)
