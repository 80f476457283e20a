"""Quotas: how much a scheme may do in an interval, which goals can tune.

Linux: mm/damon/core.c, damos_set_effective_quota() and its kin; include/linux/damon.h, struct damos_quota.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from errno import EINVAL
from typing import TYPE_CHECKING, Final

from mmfs.mm.damon.core import DAMON_MIN_REGION, ULONG_MAX, align_down
from mmfs.mm_types import PAGE_SIZE, NodeStatItem, ZoneStatItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.damon.core import DamonRegion, DamonTarget

PSI_MEM_SOME: Final = 2
GOAL: Final = 10_000


class DamosQuotaGoalMetric(IntEnum):
    """Linux: enum damos_quota_goal_metric."""

    USER_INPUT = 0
    SOME_MEM_PSI_US = 1
    NODE_MEM_USED_BP = 2
    NODE_MEM_FREE_BP = 3
    NODE_MEMCG_USED_BP = 4
    NODE_MEMCG_FREE_BP = 5
    ACTIVE_MEM_BP = 6
    INACTIVE_MEM_BP = 7

    @property
    def of_node(self) -> bool:
        """Whether it is of one node."""
        return DamosQuotaGoalMetric.NODE_MEM_USED_BP <= self <= DamosQuotaGoalMetric.NODE_MEMCG_FREE_BP

    @property
    def of_memcg(self) -> bool:
        """Whether it is of a cgroup on a node."""
        return self in (DamosQuotaGoalMetric.NODE_MEMCG_USED_BP, DamosQuotaGoalMetric.NODE_MEMCG_FREE_BP)


@dataclass
class DamosQuotaGoal:
    """What a quota is to achieve. Linux: struct damos_quota_goal."""

    metric: DamosQuotaGoalMetric
    target_value: int
    current_value: int = 0
    last_psi_total: int = 0
    nid: int = 0
    memcg: int = 0

    def _of_node(self, kernel: Kernel) -> int:
        """A node that is not there has nothing, and all of it is free, as in 7.1: 7.0 dies of one.

        Linux: damos_get_node_mem_bp(), damos_get_node_memcg_used_bp(), invalid_mem_node().
        """
        metric = DamosQuotaGoalMetric
        wants_free = self.metric in (metric.NODE_MEM_FREE_BP, metric.NODE_MEMCG_FREE_BP)
        if not 0 <= self.nid < len(kernel.node_data) or not kernel.node_data[self.nid].node_present_pages:
            return GOAL if wants_free else 0
        total = sum(zone.managed_pages for zone in kernel.node_data[self.nid].node_zones)
        free = kernel.vmstat.sum_zone_node_page_state(self.nid, ZoneStatItem.NR_FREE_PAGES)
        if self.metric.of_memcg:
            of = next((one for one in kernel.memcgs.root.descendants() if one.row == self.memcg), None)
            rows = [one.row for one in of.descendants()] if of is not None else []
            lists = kernel.vmstat.lruvec_stat[[row * kernel.lru.nr_nodes + self.nid for row in rows]]
            free = total - int(lists[:, NodeStatItem.NR_INACTIVE_ANON : NodeStatItem.NR_UNEVICTABLE].sum())
        return (free if wants_free else total - free) * GOAL // total

    def _of_lists(self, kernel: Kernel) -> int:
        """Linux: 7.0, damos_get_in_active_mem_bp()."""
        state = kernel.vmstat.global_node_page_state
        inactive, active = (
            sum(state(NodeStatItem[f"NR_{kind}_{of}"]) for of in ("ANON", "FILE")) for kind in ("INACTIVE", "ACTIVE")
        )
        part = active if self.metric == DamosQuotaGoalMetric.ACTIVE_MEM_BP else inactive
        return part * GOAL // max(active + inactive, 1)

    def _measure(self, kernel: Kernel) -> int:
        """What is the case now. Linux: damos_set_quota_goal_current_value()."""
        if self.metric == DamosQuotaGoalMetric.SOME_MEM_PSI_US:
            total = int(kernel.scheduler.psi_system.total["avgs"][PSI_MEM_SOME]) // 1000
            since_last, self.last_psi_total = total - self.last_psi_total, total
            return since_last
        if self.metric.of_node:
            return self._of_node(kernel)
        return self.current_value if self.metric == DamosQuotaGoalMetric.USER_INPUT else self._of_lists(kernel)

    def score(self, kernel: Kernel) -> int:
        """How far it is achieved, of GOAL. Linux: damos_quota_score()."""
        self.current_value = self._measure(kernel)
        return self.current_value * GOAL // self.target_value


def feed_loop_next_input(last: int, score: int) -> int:
    """The next quota, if the last made this score. Linux: damon_feed_loop_next_input()."""
    if score == GOAL:
        return last
    if score >= 2 * GOAL:
        return GOAL
    difference = last * abs(score - GOAL) // GOAL
    return max(last - difference, GOAL) if score > GOAL else min(last + difference, ULONG_MAX)


@dataclass
class DamosQuota:
    """How much a scheme may do in an interval. Linux: struct damos_quota.

    ``esz`` is the size that follows from all of it; ``charge_target`` and ``charge_addr`` are where it was used up.
    """

    ms: int = 0
    sz: int = 0
    reset_interval: int = 0
    weight_sz: int = 0
    weight_nr_accesses: int = 0
    weight_age: int = 0
    goals: list[DamosQuotaGoal] = field(default_factory=list)
    esz: int = 0
    esz_bp: int = 0
    total_charged_sz: int = 0
    total_charged_ns: int = 0
    charged_sz: int = 0
    charged_from: int = 0
    charge_target: DamonTarget | None = None
    charge_addr: int = 0
    min_score: int = 0

    @property
    def wanted(self) -> bool:
        """Whether there is any."""
        return bool(self.esz or self.ms or self.sz or self.goals)

    @property
    def used_up(self) -> bool:
        """Whether nothing is left of this interval's."""
        return bool(self.esz) and self.charged_sz >= self.esz

    def forget(self, gone: list[DamonTarget]) -> None:
        """Begin anew with what is left, if the interval ended in one of those that go."""
        if self.charge_target in gone:
            self.charge_target, self.charge_addr = None, 0

    def commit_goals(self, goals: list[DamosQuotaGoal]) -> None:
        """Linux: damos_commit_quota_goals()."""
        if any(not goal.target_value for goal in goals):
            raise OSError(EINVAL, "a goal without a value")
        del self.goals[len(goals) :]
        for mine, wanted in zip(self.goals, goals, strict=False):
            mine.metric, mine.target_value = wanted.metric, wanted.target_value
            if wanted.metric == DamosQuotaGoalMetric.USER_INPUT:
                mine.current_value = wanted.current_value
            mine.nid, mine.memcg = wanted.nid, wanted.memcg
        self.goals += goals[len(self.goals) :]

    def set_effective(self, kernel: Kernel) -> None:
        """Linux: damos_set_effective_quota()."""
        if not self.ms and not self.goals:
            self.esz = self.sz
            return
        sizes = []
        if self.goals:
            score = max(goal.score(kernel) for goal in self.goals)
            self.esz_bp = feed_loop_next_input(max(self.esz_bp, GOAL), score)
            sizes.append(self.esz_bp // GOAL)
        if self.ms:
            throughput = PAGE_SIZE * 1024
            if self.total_charged_ns:
                throughput = self.total_charged_sz * 1_000_000 // self.total_charged_ns
            sizes = [max(DAMON_MIN_REGION, min(throughput * self.ms, *sizes, ULONG_MAX))]
        if self.sz:
            sizes.append(self.sz)
        self.esz = min(sizes)

    def skip_charged(self, target: DamonTarget, region: DamonRegion) -> bool:
        """Whether the last interval got beyond this region, or got to the middle of it, where it is split then.

        Linux: damos_skip_charged_region().
        """
        skip = False
        if self.charge_target is not None:
            if target is not self.charge_target:
                return True
            if self.charge_addr and region.end <= self.charge_addr:
                skip = True
            elif self.charge_addr and region.start < self.charge_addr:
                skip = True
                size = align_down(self.charge_addr - region.start)
                if size or region.size > DAMON_MIN_REGION:
                    target.insert_after(region, region.split_at(size or DAMON_MIN_REGION))
        if region is target.regions[-1]:
            self.charge_target, self.charge_addr = None, 0
        return skip
