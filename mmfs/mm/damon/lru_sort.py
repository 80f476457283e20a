"""damon_lru_sort: hot memory moves to the front of the lists of reclaim, cold memory to their ends.

Linux: mm/damon/lru_sort.c.
"""

from __future__ import annotations

from dataclasses import replace
from errno import EINVAL
from typing import ClassVar, Final

from mmfs.mm.damon.core import ULONG_MAX, DamonIntervalsGoal
from mmfs.mm.damon.modules_common import ATTRS, DamonModule
from mmfs.mm.damon.quota import GOAL, DamosQuota, DamosQuotaGoal, DamosQuotaGoalMetric
from mmfs.mm.damon.schemes import Damos, DamosAccessPattern, DamosAction, DamosFilter, DamosFilterType, DamosStat
from mmfs.mm_types import PAGE_SIZE

TUNED: Final = DamonIntervalsGoal(40, 3, 5_000, 10_000_000)
CONFLICT: Final = 2
"""By so much, of GOAL, more is to be active and inactive than there is: a few pages always change sides."""


class DamonLruSort(DamonModule):
    """The module."""

    defaults: ClassVar[dict[str, int | bool]] = {
        "hot_thres_access_freq": 500, "cold_min_age": 120_000_000, "quota_ms": 10, "quota_reset_interval_ms": 1_000,
        "wmarks_interval": 5_000_000, "wmarks_high": 200, "wmarks_mid": 150, "wmarks_low": 50, **ATTRS,
        "monitor_region_start": 0, "monitor_region_end": 0,
        "active_mem_bp": 0, "autotune_monitoring_intervals": False, "filter_young_pages": False,
    }  # fmt: skip
    newer = frozenset({"active_mem_bp", "autotune_monitoring_intervals", "filter_young_pages"})
    stat_names = (
        "lru_sort_tried_hot_regions lru_sorted_hot_regions hot_quota_exceeds",
        "lru_sort_tried_cold_regions lru_sorted_cold_regions cold_quota_exceeds",
    )

    def _scheme(self, pattern: DamosAccessPattern, action: DamosAction) -> Damos:
        """Either has half of the time. Linux: damon_lru_sort_new_scheme()."""
        quota_ms, reset_ms = int(self.params["quota_ms"]), int(self.params["quota_reset_interval_ms"])
        quota = DamosQuota(quota_ms // 2, 0, reset_ms, weight_nr_accesses=1)
        return Damos(pattern, action, 0, quota, self.wmarks)

    def apply_parameters(self) -> None:
        """Linux: damon_lru_sort_apply_parameters()."""
        wanted, attrs = self.new_ctx(), self.attrs
        if not attrs.sample_interval:
            raise OSError(EINVAL, "no sample interval")
        if self.params["autotune_monitoring_intervals"]:
            attrs = replace(attrs, sample_interval=5_000, aggr_interval=100_000, intervals_goal=TUNED)
        wanted.set_attrs(attrs)
        hot = attrs.max_nr_accesses * int(self.params["hot_thres_access_freq"]) // 1000
        cold = int(self.params["cold_min_age"]) // attrs.aggr_interval
        wanted.add_scheme(self._scheme(DamosAccessPattern(PAGE_SIZE, min_nr_accesses=hot), DamosAction.LRU_PRIO))
        pattern = DamosAccessPattern(PAGE_SIZE, max_nr_accesses=0, min_age_region=cold)
        wanted.add_scheme(self._scheme(pattern, DamosAction.LRU_DEPRIO))
        self._add_goals_and_filters(*wanted.schemes)
        self.set_region(wanted)
        self.ctx.commit(wanted)

    def _add_goals_and_filters(self, hot: Damos, cold: Damos) -> None:
        """Linux: 7.0, damon_lru_sort_add_quota_goals(), damon_lru_sort_add_filters()."""
        active = int(self.params["active_mem_bp"])
        if active:
            hot.quota.goals.append(DamosQuotaGoal(DamosQuotaGoalMetric.ACTIVE_MEM_BP, active))
            inactive = (GOAL - active + CONFLICT) & ULONG_MAX
            cold.quota.goals.append(DamosQuotaGoal(DamosQuotaGoalMetric.INACTIVE_MEM_BP, inactive))
        if self.params["filter_young_pages"]:
            hot.filters.append(DamosFilter(DamosFilterType.YOUNG, False))
            cold.filters.append(DamosFilter(DamosFilterType.YOUNG, True))

    def stat_of(self, scheme: Damos) -> DamosStat:
        """Linux: damon_lru_sort_after_aggregation()."""
        return self.stats[self.stat_names[scheme.action != DamosAction.LRU_PRIO]]
