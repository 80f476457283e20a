"""The pids controller: how many tasks a cgroup and all below it may have. A fork beyond fails with EAGAIN.

Moving tasks in is never refused, so there may be more than the limit says.

Linux: kernel/cgroup/pids.c.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmfs.kernel.printk import LOG_INFO
from mmfs.mm.cgroup_defs import CgroupSubsys, CgroupSubsysState, Migration

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task


class PidsCgroup(CgroupSubsysState):
    """What the controller knows of a cgroup; ``limit`` None is no limit. Linux: struct pids_cgroup."""

    parent: PidsCgroup | None

    def __init__(self) -> None:
        super().__init__()
        self.counter = self.watermark = 0
        self.limit: int | None = None
        self.events_max = self.events_local_max = self.forks_failed = 0
        """How often a limit here or below was hit, how often the one here, how often a fork here failed."""

    def ancestors(self) -> Iterator[PidsCgroup]:
        """It and those above."""
        pids: PidsCgroup | None = self
        while pids is not None:
            yield pids
            pids = pids.parent

    def charge(self, delta: int) -> None:
        """So many tasks more. Linux: pids_charge(), pids_uncharge()."""
        for pids in self.ancestors():
            pids.counter += delta
            pids.watermark = max(pids.watermark, pids.counter)


class Pids(CgroupSubsys):
    """The controller. Linux: pids_cgrp_subsys."""

    name = "pids"
    threaded = True

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def css_alloc(self, parent: PidsCgroup | None) -> PidsCgroup:
        """Linux: pids_css_alloc()."""
        return PidsCgroup()

    def can_attach(self, tset: list[Migration]) -> None:
        """Tasks are counted where they go, whatever the limit. Linux: pids_can_attach()."""
        for _, old, new in tset:
            new.charge(1)
            old.charge(-1)

    def cancel_attach(self, tset: list[Migration]) -> None:
        """Linux: pids_cancel_attach()."""
        for _, old, new in tset:
            old.charge(1)
            new.charge(-1)

    def can_fork(self, task: Task, css: PidsCgroup) -> None:
        """Whether one more task may be there. Linux: pids_can_fork(), pids_event()."""
        over = next((pids for pids in css.ancestors() if pids.limit is not None and pids.counter >= pids.limit), None)
        if over is None:
            css.charge(1)
            return
        css.forks_failed += 1
        if css.forks_failed == 1:
            self.kernel.printk.emit(f"cgroup: fork rejected by pids controller in {css.cgroup.path}", LOG_INFO)
        over.events_local_max += 1
        for pids in over.ancestors():
            pids.events_max += 1
        raise OSError(errno.EAGAIN, f"pids.max of {over.cgroup.path} is reached")

    def cancel_fork(self, task: Task, css: PidsCgroup) -> None:
        """Linux: pids_cancel_fork()."""
        css.charge(-1)

    def release(self, task: Task) -> None:
        """A task is gone. Linux: pids_release()."""
        task.cgrp.e_css["pids"].charge(-1)
