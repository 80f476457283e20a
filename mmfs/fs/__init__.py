"""The mounted tree: each module here is one view of the machine, and its path is the virtual path.

    proc/   the machine and its processes         sys/   kernel parameters, nodes, cgroups
    dev/    kmsg                                  sim/   what a real machine does by system call or by waiting

Files are functions of typed objects of the model (a Kernel, a Zone, a Task); nothing here keeps state, and the
model imports nothing from here. `mount()` puts the trees together and hangs them into the kernel.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mmfs.kernel.panic import refuse_writes
from mmfs.kernfs import Caller, Directory, Vfs
from mmfs.kernfs.kstrtox import Long
from mmfs.kernfs.rules import Page
from mmfs.mm_types import PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

Page.size = PAGE_SIZE


def tree() -> Directory[Kernel]:
    """The template of all that is served."""
    root: Directory[Kernel] = Directory(mode=0o755)
    for name in ("dev", "proc", "sim", "sys"):
        if find_spec(f"mmfs.fs.{name}") is not None:
            root.mount(name, getattr(import_module(f"mmfs.fs.{name}"), name))
    return root


def before_write(kernel: Kernel) -> None:
    """What a write means depends on how wide the kernel's longs are; there may be none after a panic."""
    Long.bits = kernel.profile.arch.bits_per_long
    refuse_writes(kernel)


def mount(kernel: Kernel) -> Vfs:
    """Bind the tree to a kernel; afterwards `kernel.read()` and its like work."""
    root = tree()
    flushed = import_module("mmfs.fs.proc.pid").flushed
    vfs = Vfs(
        root,
        kernel,
        time_ns=lambda: kernel.clock.realtime_ns,
        guard=partial(before_write, kernel),
        flushed=partial(flushed, kernel),
    )
    kernel.vfs = vfs
    kernel.caller = Caller(pid=1)
    return vfs
