"""/sys/kernel/tracing: which events can be traced.

Linux: kernel/trace/trace_events.c; fs/tracefs.

Simplified: the model has no tracepoints, so there are no events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.sys.root import kernel_dir
from mmfs.kernfs.rules import DEBUGFS

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernfs import Directory

tracing: Directory[Kernel] = kernel_dir.directory("tracing", mode=0o700, rules=DEBUGFS)


@tracing.attribute("available_events", mode=0o440)
def available_events(kernel: Kernel) -> str:
    """None."""
    return ""
