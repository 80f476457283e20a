"""/proc/pressure: how much time tasks lose for want of memory, a disk or a CPU, and triggers on it.

A write(2) of `some 150000 1000000` or `full ...` (microseconds, of a window) makes the open file a trigger: poll(2)
on it says POLLPRI when so much was lost within the window. The last character that is written is taken for the end of
the line, whatever it is.

Linux: kernel/sched/psi.c, psi_write(), psi_fop_poll(), psi_proc_init().
"""

from __future__ import annotations

import errno
import re
import select
from typing import TYPE_CHECKING, Any, Final

from mmfs.fs.proc.root import proc
from mmfs.kernel.psi import PsiGroup, PsiRes
from mmfs.kernfs import OpenFile, fail
from mmfs.kernfs.file import DEFAULT_POLLMASK

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

BUFFER: Final = 32
TRIGGER: Final = re.compile(r"(some|full)\s*(\d+)(?!\d)\s*(\d+)", re.ASCII)
U32: Final = (1 << 32) - 1


def psi_enabled(kernel: Kernel) -> bool:
    """Whether pressure is accounted at all: psi= of the command line. Linux: kernel/sched/psi.c, setup_psi()."""
    return "psi=0" not in kernel.cmdline.split()


pressure = proc.directory("pressure", needs=psi_enabled)


def group_of(kernel: Kernel) -> PsiGroup:
    """The pressure on all tasks."""
    return kernel.scheduler.psi_system


def psi_write(group: PsiGroup, res: PsiRes, buf: str, file: OpenFile) -> None:
    """What was written, without its last character, makes a trigger. Linux: psi_write()."""
    if not buf:
        fail(errno.EINVAL)
    psi_trigger_create(group, res, buf[: min(len(buf), BUFFER) - 1], file)


def psi_trigger_create(group: PsiGroup, res: PsiRes, buf: str, file: OpenFile) -> None:
    """Make an open file a trigger, once. Linux: psi_trigger_create()."""
    if file.private is not None:
        fail(errno.EBUSY)
    match = TRIGGER.match(buf.partition("\0")[0])
    if match is None:
        fail(errno.EINVAL)
    threshold_us, window_us = int(match[2]) & U32, int(match[3]) & U32
    file.private = group.trigger_create(res, match[1] == "full", threshold_us, window_us, file.caller.uid == 0)


def psi_poll(file: OpenFile) -> int:
    """What poll(2) says. Linux: psi_trigger_poll()."""
    if file.private is None:
        return DEFAULT_POLLMASK | select.POLLERR | select.POLLPRI
    return DEFAULT_POLLMASK | (select.POLLPRI if file.private.poll() else 0)


def psi_release(file: OpenFile) -> None:
    """The last close(2). Linux: psi_fop_release()."""
    if file.private is not None:
        file.private.group.trigger_destroy(file.private)


def _file(name: str, res: PsiRes) -> None:
    def show(kernel: Kernel, *, file: OpenFile) -> str:
        return group_of(kernel).show(res)

    def store(kernel: Kernel, buf: str, *, file: OpenFile) -> None:
        psi_write(group_of(kernel), res, buf, file)

    def poll(kernel: Kernel, file: Any) -> int:
        return psi_poll(file)

    def release(kernel: Kernel, file: Any) -> None:
        psi_release(file)

    pressure.attributes(name, show, store, mode=0o666, wants_file=True, poll=poll, release=release)


_file("io", PsiRes.IO)
_file("cpu", PsiRes.CPU)
_file("memory", PsiRes.MEM)
