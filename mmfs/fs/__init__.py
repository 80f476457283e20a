"""The mounted tree: each module here is one view of the machine, and its path is the virtual path.

    proc/   the machine and its processes         sys/   kernel parameters, nodes, cgroups
    dev/    kmsg                                  sim/   what a real machine does by system call or by waiting

Files are functions of typed objects of the model (a Kernel, a Zone, a Task); nothing here keeps state, and the
model imports nothing from here. `mount()` puts the trees together and hangs them into the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.kernfs import Directory, Vfs

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


def tree() -> Directory[Kernel]:
    """The template of all that is served."""
    from mmfs.fs.dev import dev
    from mmfs.fs.proc import proc
    from mmfs.fs.sim import sim
    from mmfs.fs.sys import sys

    root: Directory[Kernel] = Directory(mode=0o755)
    root.mount("dev", dev)
    root.mount("proc", proc)
    root.mount("sim", sim)
    root.mount("sys", sys)
    return root


def mount(kernel: Kernel) -> Vfs:
    """Bind the tree to a kernel; afterwards `kernel.read()` and its like work."""
    vfs = Vfs(tree(), kernel, time_ns=lambda: kernel.clock.realtime_ns)
    kernel.vfs = vfs
    return vfs
