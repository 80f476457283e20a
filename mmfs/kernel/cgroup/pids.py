"""How many tasks a cgroup may have: fork fails with EAGAIN beyond.

Zombies count until they are reaped. Who moves in, or was there before the limit was set, is never refused.

Linux: kernel/cgroup/pids.c.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from mmfs.mm.cgroup_defs import CgroupSubsys, CgroupSubsysState, Migration

if TYPE_CHECKING:
    from mmfs.kernel.task import Task

PID_MAX_LIMIT: Final = 4 * 1024 * 1024
PIDS_MAX: Final = PID_MAX_LIMIT + 1
"""No limit."""


class PidsCgroup(CgroupSubsysState):
    """Linux: struct pids_cgroup."""

    __slots__ = ("counter", "events", "events_local", "forkfail", "limit", "watermark")

    parent: PidsCgroup | None

    def __init__(self) -> None:
        super().__init__()
        self.counter = self.watermark = 0
        self.limit = PIDS_MAX
        self.events = self.events_local = 0
        """How often a limit was hit: here or below, here."""
        self.forkfail = 0
        """How many forks were refused to tasks of this cgroup."""

    def charge(self, num: int) -> None:
        """Count tasks here and above, whatever the limits; the root is not counted. Linux: pids_charge()."""
        pids: PidsCgroup | None = self
        while pids is not None and pids.parent is not None:
            pids.counter += num
            pids.watermark = max(pids.watermark, pids.counter)
            pids = pids.parent

    def try_charge(self) -> PidsCgroup | None:
        """Count one more task; the cgroup whose limit is in the way if there is one. Linux: pids_try_charge()."""
        pids: PidsCgroup | None = self
        while pids is not None and pids.parent is not None:
            pids.counter += 1
            if pids.counter > pids.limit:
                self._revert(pids)
                return pids
            pids.watermark = max(pids.watermark, pids.counter)
            pids = pids.parent
        return None

    def _revert(self, last: PidsCgroup) -> None:
        pids: PidsCgroup | None = self
        while pids is not None:
            pids.counter -= 1
            pids = None if pids is last else pids.parent

    @property
    def only_local_events(self) -> bool:
        """Whether events count where the fork was, as in cgroup v1: mount option pids_localevents."""
        root = self.cgroup.root
        return not root.on_dfl or "pids_localevents" in root.flags

    def event(self, over: PidsCgroup) -> None:
        """A fork of a task here was refused because of `over`'s limit. Linux: pids_event()."""
        self.forkfail += 1
        if self.forkfail == 1:
            self.cgroup.root.kernel.printk.emit(f"cgroup: fork rejected by pids controller in {self.cgroup.path}")
        if self.only_local_events:
            self.cgroup.file_notify("pids.events")
            self.cgroup.file_notify("pids.events.local")
            return
        over.events_local += 1
        over.cgroup.file_notify("pids.events.local")
        pids: PidsCgroup | None = over
        while pids is not None and pids.parent is not None:
            pids.events += 1
            pids.cgroup.file_notify("pids.events")
            pids = pids.parent


class Pids(CgroupSubsys):
    """The controller."""

    name = "pids"
    threaded = True

    def css_alloc(self, parent: Any) -> PidsCgroup:
        """Nothing counted, no limit."""
        return PidsCgroup()

    def can_attach(self, tset: list[Migration]) -> None:
        """Tasks are counted where they come to. Linux: pids_can_attach()."""
        for move in tset:
            move.new.charge(1)
            move.old.charge(-1)

    def cancel_attach(self, tset: list[Migration]) -> None:
        """Linux: pids_cancel_attach()."""
        for move in tset:
            move.old.charge(1)
            move.new.charge(-1)

    def can_fork(self, task: Task, css: PidsCgroup) -> None:
        """Linux: pids_can_fork()."""
        over = css.try_charge()
        if over is not None:
            css.event(over)
            raise BlockingIOError(errno.EAGAIN, f"pids.max of {over.cgroup.path}")

    def cancel_fork(self, task: Task, css: PidsCgroup) -> None:
        """Linux: pids_cancel_fork()."""
        css.charge(-1)

    def release(self, task: Task) -> None:
        """Linux: pids_release()."""
        self.task_css(task).charge(-1)

    def check(self, css: PidsCgroup) -> None:
        """Everybody at and below is counted, and nobody who has gone."""
        group = css.cgroup
        if css.parent is None or group.nr_dying_descendants:
            return
        tasks = sum(len(one.tasks) for one in (group, *group.descendants()))
        if css.counter != tasks:
            raise AssertionError(f"pids.current of {group.path}: {css.counter}, of {tasks} tasks")
