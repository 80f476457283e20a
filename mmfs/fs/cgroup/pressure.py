"""cpu.pressure, memory.pressure, io.pressure: what the tasks of a cgroup lose, with triggers; cgroup.pressure.

A trigger is written as in /proc/pressure, but here the last character counts.

Linux: kernel/cgroup/cgroup.c, cgroup_psi_files[].

Simplified: no irq.pressure, which a kernel with IRQ_TIME_ACCOUNTING has.
"""

from __future__ import annotations

import errno
from typing import Any

from mmfs.fs.cgroup.core import cgroup
from mmfs.fs.proc.pressure import psi_enabled, psi_poll, psi_release, psi_trigger_create
from mmfs.kernel.cgroup import Cgroup
from mmfs.kernel.psi import PsiRes
from mmfs.kernfs import OpenFile, fail, kstrtoint


def _enabled(group: Cgroup) -> bool:
    return psi_enabled(group.root.kernel)


def _shown(group: Cgroup) -> bool:
    return group.psi_shown and _enabled(group)


def _file(name: str, res: PsiRes) -> None:
    def show(group: Cgroup, *, file: OpenFile) -> str:
        return group.psi.show(res)

    def store(group: Cgroup, buf: str, *, file: OpenFile) -> None:
        psi_trigger_create(group.psi, res, buf, file)

    def poll(group: Cgroup, file: Any) -> int:
        return psi_poll(file)

    def release(group: Cgroup, file: Any) -> None:
        psi_release(file)

    cgroup.attributes(name, show, store, wants_file=True, poll=poll, release=release, needs=_shown)


_file("io.pressure", PsiRes.IO)
_file("memory.pressure", PsiRes.MEM)
_file("cpu.pressure", PsiRes.CPU)


@cgroup.attribute("cgroup.pressure", needs=_enabled)
def cgroup_pressure(group: Cgroup) -> str:
    """Whether pressure is accounted here. Linux: cgroup_pressure_show()."""
    return f"{int(group.psi_shown)}\n"


@cgroup_pressure.store
def cgroup_pressure_store(group: Cgroup, buf: str) -> None:
    """Account for it or not; without, the files are not there. Linux: cgroup_pressure_write()."""
    value = kstrtoint(buf.strip())
    if value not in (0, 1):
        fail(errno.ERANGE)
    if group.psi_shown is not bool(value):
        group.psi_shown = bool(value)
        group.psi.enable(group.psi_shown)
