"""The pids controller: how many tasks a cgroup and all below it may have. A fork beyond fails with EAGAIN.

Moving tasks in is never refused, so there may be more than the limit says.

Linux: kernel/cgroup/pids.c.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmfs.kernel.printk import LOG_INFO

if TYPE_CHECKING:
    from mmfs.kernel.cgroup import Cgroup
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task


class PidsCgroup:
    """What the controller knows of a cgroup; ``limit`` None is no limit. Linux: struct pids_cgroup."""

    def __init__(self, parent: PidsCgroup | None, cgroup: Cgroup | None) -> None:
        self.parent = parent
        self._cgroup = cgroup
        self.counter = self.watermark = 0
        self.limit: int | None = None
        self.events_max = self.events_local_max = self.forks_failed = 0
        """How often a limit here or below was hit, how often the one here, how often a fork here failed."""
        self.notified = 0

    def ancestors(self) -> Iterator[PidsCgroup]:
        """It and those above."""
        pids: PidsCgroup | None = self
        while pids is not None:
            yield pids
            pids = pids.parent

    @property
    def path(self) -> str:
        """The path of its cgroup."""
        return "/" if self._cgroup is None else self._cgroup.path

    def charge(self, delta: int) -> None:
        """So many tasks more. Linux: pids_charge(), pids_uncharge()."""
        for pids in self.ancestors():
            pids.counter += delta
            pids.watermark = max(pids.watermark, pids.counter)


class PidsController:
    """The controller. Linux: struct cgroup_subsys pids_cgrp_subsys."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.root = PidsCgroup(None, None)

    def css_alloc(self, parent: PidsCgroup, cgroup: Cgroup) -> PidsCgroup:
        """Linux: pids_css_alloc()."""
        return PidsCgroup(parent, cgroup)

    def css_offline(self, css: PidsCgroup) -> bool:
        """Nothing stays charged."""
        return True

    def reap(self) -> None:
        """Nothing is ever left."""

    def attach(self, task: Task, css: PidsCgroup) -> None:
        """Linux: pids_can_attach()."""
        old = task.pids
        if old is not None:
            css.charge(1)
            old.charge(-1)
            task.pids = css

    def can_fork(self, css: PidsCgroup) -> None:
        """Whether one more task may be there. Linux: pids_can_fork(), pids_event()."""
        over = next((pids for pids in css.ancestors() if pids.limit is not None and pids.counter >= pids.limit), None)
        if over is None:
            return
        css.forks_failed += 1
        if css.forks_failed == 1:
            self.kernel.printk.emit(f"cgroup: fork rejected by pids controller in {css.path}", LOG_INFO)
        over.events_local_max += 1
        for pids in over.ancestors():
            pids.events_max += 1
            pids.notified += 1
        raise OSError(errno.EAGAIN, f"pids.max of {over.path} is reached")

    def fork(self, task: Task, css: PidsCgroup) -> None:
        """A task was made. Linux: pids_try_charge()."""
        css.charge(1)
        task.pids = css

    def exit(self, task: Task) -> None:
        """A task is gone. Linux: pids_release()."""
        if task.pids is not None:
            task.pids.charge(-1)
            task.pids = None
