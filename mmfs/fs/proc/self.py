"""/proc/self, thread-self and mounts: links to whoever looks.

Linux: fs/proc/self.c, thread_self.c, root.c.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernfs import Caller


def self_target(kernel: Kernel, caller: Caller) -> str:
    """The caller's process; nobody's if the caller is not in this pid namespace."""
    if not caller.pid:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    return str(caller.pid)


def thread_self_target(kernel: Kernel, caller: Caller) -> str:
    """The caller's thread."""
    process = self_target(kernel, caller)
    return f"{process}/task/{process}"


proc.symlink("self", self_target, wants_caller=True, size=0)
proc.symlink("thread-self", thread_self_target, wants_caller=True, size=0)
proc.symlink("mounts", "self/mounts")
