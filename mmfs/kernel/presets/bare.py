"""A machine with an init and nothing else: a statically linked one, as in an initramfs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.kernel.presets.kthreads import start_root_file_system
from mmfs.kernel.sched import PF_SUPERPRIV

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


def start(kernel: Kernel) -> None:
    """The root disk is mounted and init runs."""
    start_root_file_system(kernel)
    init = kernel.tasks[1]
    init.execve("/sbin/init", ("/sbin/init",), {"HOME": "/", "TERM": "linux"})
    init.flags |= PF_SUPERPRIV  # it has mounted /proc and /sys
