"""The end of a kernel: panic().

A kernel that has panicked does nothing more. Its time stands still, a system call or a write to one of its files fails
and says why; what it was can still be read, as from a crash dump.

Linux: kernel/panic.c.

Simplified: a machine that would start again (kernel.panic above or below zero) stays as it is; no kdump; the line with
the kernel's random offset is missing.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NoReturn

from mmfs.kernel.printk import LOG_EMERG
from mmfs.mm.dump_stack import dump_stack

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


class KernelPanicError(RuntimeError):
    """The simulated kernel has panicked and does nothing more."""


def panic(kernel: Kernel, reason: str, complaint: str = "panic") -> NoReturn:
    """Log the end of this kernel and stop; `complaint` names the call stack. Linux: kernel/panic.c, panic()."""
    kernel.panicked = reason
    kernel.printk.emit(f"Kernel panic - not syncing: {reason}", LOG_EMERG)
    dump_stack(kernel, complaint)
    if kernel.sysctl.panic > 0:
        kernel.printk.emit(f"Rebooting in {kernel.sysctl.panic} seconds..", LOG_EMERG)
    elif kernel.sysctl.panic == 0:
        kernel.printk.emit(f"---[ end Kernel panic - not syncing: {reason} ]---", LOG_EMERG)
    kernel.clock.halt()
    raise KernelPanicError(reason)


def check_panicked(kernel: Kernel) -> None:
    """Raise KernelPanicError if nothing can be done any more."""
    if kernel.panicked:
        raise KernelPanicError(kernel.panicked)


def refuse_writes(kernel: Kernel) -> None:
    """Raise EIO, with the reason, if nothing can be written any more."""
    if kernel.panicked:
        raise OSError(errno.EIO, f"Kernel panic - not syncing: {kernel.panicked}")
