"""CPU time by cgroup: what cpu.stat shows of every cgroup, whether or not it has the cpu controller.

Time is added where the task is, and goes up the tree when somebody reads: a cgroup with news is linked to its parent,
and reading visits only those with news.

Linux: kernel/cgroup/rstat.c, cgroup_rstat_updated(), cgroup_base_stat_flush().
"""

from __future__ import annotations

from typing import Final

USER: Final = 0
NICE: Final = 1
SYSTEM: Final = 2
"""The buckets that tasks fill, as `CpuTime` numbers them."""


class BaseStat:
    """Nanoseconds of one cgroup. Linux: struct cgroup_base_stat, struct cgroup_rstat_cpu."""

    __slots__ = ("linked", "parent", "pending", "total", "updated_children")

    def __init__(self, parent: BaseStat | None) -> None:
        self.parent = parent
        self.total = [0, 0, 0]
        """By bucket, of this cgroup and all below, as far as it has come up."""
        self.pending = [0, 0, 0]
        """New since the last flush."""
        self.updated_children: list[BaseStat] = []
        self.linked = False

    def account(self, bucket: int, nsec: int) -> None:
        """A task here had so much time. Linux: __cgroup_account_cputime_field()."""
        self.pending[bucket] += nsec
        stat: BaseStat = self
        while not stat.linked:
            stat.linked = True
            if stat.parent is None:
                return
            stat.parent.updated_children.append(stat)
            stat = stat.parent

    def flush(self) -> list[int]:
        """Let all news below come up to here; the totals. Linux: cgroup_rstat_flush()."""
        if self.linked:
            children, self.updated_children = self.updated_children, []
            for child in children:
                child.flush()
                child.linked = False
            for bucket, nsec in enumerate(self.pending):
                self.total[bucket] += nsec
                if self.parent is not None:
                    self.parent.pending[bucket] += nsec
            self.pending = [0, 0, 0]
        return self.total
