"""damon_reclaim: memory that was not accessed for long is reclaimed before it is short.

In 6.12 it does nothing of the sort: what the parameters say goes to the running context, which then takes over, scheme
by scheme, a new one that has none. Its thread monitors, and that is all (mm/damon/reclaim.c,
damon_reclaim_apply_parameters()); so it is here. 7.0 hands over the scheme, too.

Linux: mm/damon/reclaim.c.
"""

from __future__ import annotations

from errno import EINVAL
from typing import ClassVar, Final

from mmfs.mm.damon.modules_common import ATTRS, DamonModule
from mmfs.mm.damon.quota import DamosQuota, DamosQuotaGoal, DamosQuotaGoalMetric
from mmfs.mm.damon.schemes import Damos, DamosAccessPattern, DamosAction, DamosFilter, DamosFilterType
from mmfs.mm_types import PAGE_SIZE
from mmfs.profile import since

SCHEME_COMMITTED: Final = since(7, 0)
"""Which kernels give the scheme to the context that the running one becomes like."""


class DamonReclaim(DamonModule):
    """The module."""

    defaults: ClassVar[dict[str, int | bool]] = {
        "min_age": 120_000_000, "quota_ms": 10, "quota_sz": 128 << 20, "quota_reset_interval_ms": 1_000,
        "quota_mem_pressure_us": 0, "quota_autotune_feedback": 0, "wmarks_interval": 5_000_000, "wmarks_high": 500,
        "wmarks_mid": 400, "wmarks_low": 200, **ATTRS, "monitor_region_start": 0, "monitor_region_end": 0,
        "skip_anon": False,
    }  # fmt: skip
    stat_names = ("reclaim_tried_regions reclaimed_regions quota_exceeds",)

    def _scheme(self) -> Damos:
        """Linux: damon_reclaim_new_scheme(), and what is added to it."""
        params = {name: int(value) for name, value in self.params.items()}
        pattern = DamosAccessPattern(
            min_sz_region=PAGE_SIZE, max_nr_accesses=0, min_age_region=params["min_age"] // params["aggr_interval"]
        )
        quota = DamosQuota(params["quota_ms"], params["quota_sz"], params["quota_reset_interval_ms"], weight_age=1)
        if params["quota_mem_pressure_us"]:
            quota.goals.append(
                DamosQuotaGoal(DamosQuotaGoalMetric.SOME_MEM_PSI_US, params["quota_mem_pressure_us"])
            )
        if params["quota_autotune_feedback"]:
            goal = DamosQuotaGoal(DamosQuotaGoalMetric.USER_INPUT, 10_000, params["quota_autotune_feedback"])
            quota.goals.append(goal)
        filters = [DamosFilter(DamosFilterType.ANON, True)] if params["skip_anon"] else []
        return Damos(pattern, DamosAction.PAGEOUT, 0, quota, self.wmarks, filters=filters)

    def apply_parameters(self) -> None:
        """Linux: damon_reclaim_apply_parameters()."""
        wanted = self.new_ctx()
        if not self.params["aggr_interval"]:
            raise OSError(EINVAL, "no aggregation interval")
        taken_over = wanted if SCHEME_COMMITTED(self.damon) else self.ctx
        taken_over.set_attrs(self.attrs)
        taken_over.schemes.clear()
        taken_over.add_scheme(self._scheme())
        self.set_region(wanted)
        self.ctx.commit(wanted)
