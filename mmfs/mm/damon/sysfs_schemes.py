"""What users have written about schemes, and what they may read of them.

Linux: mm/damon/sysfs-schemes.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from errno import EINVAL, ENOMEM
from typing import TYPE_CHECKING

from mmfs.mm.damon.core import UINT_MAX
from mmfs.mm.damon.schemes import (
    NUMA_NO_NODE,
    Damos,
    DamosAccessPattern,
    DamosAction,
    DamosFilter,
    DamosFilterType,
    DamosQuota,
    DamosQuotaGoal,
    DamosQuotaGoalMetric,
    DamosStat,
    DamosWatermarks,
    DamosWmarkMetric,
)

if TYPE_CHECKING:
    from mmfs.mm.damon.core import DamonCtx, DamonRegion
    from mmfs.mm.damon.sysfs import DamonSysfs


@dataclass(eq=False)
class DamonSysfsUlRange:
    """Linux: struct damon_sysfs_ul_range."""

    min: int = 0
    max: int = 0


@dataclass(eq=False)
class DamonSysfsSchemeRegion:
    """A region that a scheme was tried on. Linux: struct damon_sysfs_scheme_region."""

    number: int
    start: int
    end: int
    nr_accesses: int
    age: int


class UpdStatus(IntEnum):
    """How far the regions of a scheme are. Linux: enum damos_sysfs_regions_upd_status."""

    IDLE = 0
    STARTED = 1
    FINISHED = 2


@dataclass(eq=False)
class DamonSysfsSchemeRegions:
    """Linux: struct damon_sysfs_scheme_regions."""

    regions: list[DamonSysfsSchemeRegion] = field(default_factory=list)
    total_bytes: int = 0
    upd_status: UpdStatus = UpdStatus.IDLE
    upd_timeout_jiffies: int = 0

    def clear(self) -> None:
        """Linux: damon_sysfs_scheme_regions_rm_dirs()."""
        self.regions.clear()
        self.total_bytes = 0


@dataclass(eq=False)
class DamonSysfsSchemeFilter:
    """Linux: struct damon_sysfs_scheme_filter."""

    sysfs: DamonSysfs
    type: DamosFilterType = DamosFilterType.ANON
    matching: bool = False
    memcg_path: str = ""
    addr_start: int = 0
    addr_end: int = 0
    target_idx: int = 0

    def build(self) -> DamosFilter:
        """Raises OSError(EINVAL). Linux: damon_sysfs_add_scheme_filters(), damon_sysfs_memcg_path_to_id()."""
        made = DamosFilter(self.type, self.matching)
        if self.type == DamosFilterType.MEMCG:
            wanted = self.memcg_path.removesuffix("\n")
            found = (one.row for one in self.sysfs.damon.kernel.memcgs.root.descendants() if one.path == wanted)
            made.memcg = next(found, -1)
            if made.memcg < 0:
                raise OSError(EINVAL, "no such cgroup")
        elif self.type == DamosFilterType.ADDR:
            made.start, made.end = self.addr_start, self.addr_end
            if made.end < made.start:
                raise OSError(EINVAL, "it ends before it begins")
        elif self.type == DamosFilterType.TARGET:
            made.target_idx = self.target_idx
        return made


@dataclass(eq=False)
class DamosSysfsQuotaGoal:
    """Linux: struct damos_sysfs_quota_goal."""

    metric: DamosQuotaGoalMetric = DamosQuotaGoalMetric.USER_INPUT
    target_value: int = 0
    current_value: int = 0


@dataclass(eq=False)
class DamonSysfsQuotas:
    """Linux: struct damon_sysfs_quotas, struct damon_sysfs_weights."""

    sysfs: DamonSysfs
    ms: int = 0
    sz: int = 0
    reset_interval_ms: int = 0
    effective_sz: int = 0
    weight_sz: int = 0
    weight_nr_accesses: int = 0
    weight_age: int = 0
    goals: list[DamosSysfsQuotaGoal] = field(default_factory=list)

    def build_goals(self) -> list[DamosQuotaGoal]:
        """Linux: damos_sysfs_add_quota_score()."""
        made = []
        for one in self.goals:
            if one.target_value:
                user = one.metric == DamosQuotaGoalMetric.USER_INPUT
                made.append(DamosQuotaGoal(one.metric, one.target_value, one.current_value if user else 0))
        return made


@dataclass(eq=False)
class DamonSysfsWatermarks:
    """Linux: struct damon_sysfs_watermarks."""

    metric: DamosWmarkMetric = DamosWmarkMetric.NONE
    interval_us: int = 0
    high: int = 0
    mid: int = 0
    low: int = 0


@dataclass(eq=False)
class DamonSysfsScheme:
    """A directory of a scheme. Linux: struct damon_sysfs_scheme, struct damon_sysfs_access_pattern."""

    sysfs: DamonSysfs
    action: DamosAction = DamosAction.STAT
    apply_interval_us: int = 0
    target_nid: int = NUMA_NO_NODE
    sz: DamonSysfsUlRange = field(default_factory=DamonSysfsUlRange)
    nr_accesses: DamonSysfsUlRange = field(default_factory=DamonSysfsUlRange)
    age: DamonSysfsUlRange = field(default_factory=DamonSysfsUlRange)
    quotas: DamonSysfsQuotas = field(init=False)
    watermarks: DamonSysfsWatermarks = field(default_factory=DamonSysfsWatermarks)
    filters: list[DamonSysfsSchemeFilter] = field(default_factory=list)
    stats: DamosStat = field(default_factory=DamosStat)
    tried_regions: DamonSysfsSchemeRegions = field(default_factory=DamonSysfsSchemeRegions)

    def __post_init__(self) -> None:
        self.quotas = DamonSysfsQuotas(self.sysfs)

    def build(self) -> Damos:
        """The scheme of it. Raises OSError(ENOMEM) whatever is wrong. Linux: damon_sysfs_mk_scheme()."""
        pattern = DamosAccessPattern(
            self.sz.min, self.sz.max,
            self.nr_accesses.min & UINT_MAX, self.nr_accesses.max & UINT_MAX,
            self.age.min & UINT_MAX, self.age.max & UINT_MAX,
        )  # fmt: skip
        quotas, wmarks = self.quotas, self.watermarks
        quota = DamosQuota(
            quotas.ms, quotas.sz, quotas.reset_interval_ms, quotas.weight_sz, quotas.weight_nr_accesses,
            quotas.weight_age, quotas.build_goals(),
        )  # fmt: skip
        try:
            filters = [one.build() for one in self.filters]
        except OSError as error:
            raise OSError(ENOMEM, error.strerror) from error
        return Damos(
            pattern, self.action, self.apply_interval_us, quota,
            DamosWatermarks(wmarks.metric, wmarks.interval_us, wmarks.high, wmarks.mid, wmarks.low),
            self.target_nid, filters,
        )  # fmt: skip


class RegionsUpdate:
    """Collecting the regions that schemes are tried on. Linux: damon_sysfs_schemes_update_regions_start() and so on."""

    def __init__(self, schemes: list[DamonSysfsScheme], ctx: DamonCtx, total_bytes_only: bool) -> None:
        self.schemes = schemes
        self.total_bytes_only = total_bytes_only
        self.next_number = 0
        clear_regions(schemes, ctx)
        jiffies = ctx.damon.kernel.clock.jiffies
        for number, one in enumerate(schemes):
            tried = one.tried_regions
            if number >= len(ctx.schemes):
                tried.upd_status = UpdStatus.FINISHED
                continue
            interval_us = ctx.schemes[number].apply_interval_us or ctx.attrs.aggr_interval
            tried.upd_status = UpdStatus.IDLE
            tried.upd_timeout_jiffies = jiffies + 2 * -(-interval_us // 4000)

    def add(self, number: int, region: DamonRegion) -> None:
        """A scheme is about to be applied. Linux: damon_sysfs_before_damos_apply()."""
        if number >= len(self.schemes):
            return
        tried = self.schemes[number].tried_regions
        if tried.upd_status == UpdStatus.FINISHED:
            return
        tried.upd_status = UpdStatus.STARTED
        tried.total_bytes += region.size
        if not self.total_bytes_only:
            tried.regions.append(
                DamonSysfsSchemeRegion(
                    self.next_number, region.start, region.end, region.nr_accesses_bp // 10000, region.age
                )
            )
            self.next_number += 1

    def mark_finished(self, jiffies: int) -> bool:
        """Whether all schemes have been applied, or could have been. Linux: damos_sysfs_regions_upd_done()."""
        for one in self.schemes:
            tried = one.tried_regions
            if tried.upd_status == UpdStatus.STARTED or jiffies > tried.upd_timeout_jiffies:
                tried.upd_status = UpdStatus.FINISHED
        return all(one.tried_regions.upd_status == UpdStatus.FINISHED for one in self.schemes)


def clear_regions(schemes: list[DamonSysfsScheme], ctx: DamonCtx) -> None:
    """Linux: damon_sysfs_schemes_clear_regions()."""
    for one, _ in zip(schemes, ctx.schemes, strict=False):
        one.tried_regions.clear()


def update_stats(schemes: list[DamonSysfsScheme], ctx: DamonCtx) -> None:
    """Linux: damon_sysfs_schemes_update_stats()."""
    for one, scheme in zip(schemes, ctx.schemes, strict=False):
        one.stats = DamosStat(**vars(scheme.stat))


def update_effective_quotas(schemes: list[DamonSysfsScheme], ctx: DamonCtx) -> None:
    """Linux: damos_sysfs_update_effective_quotas()."""
    for one, scheme in zip(schemes, ctx.schemes, strict=False):
        one.quotas.effective_sz = scheme.quota.esz


def set_quota_scores(schemes: list[DamonSysfsScheme], ctx: DamonCtx) -> None:
    """Linux: damos_sysfs_set_quota_scores()."""
    for one, scheme in zip(schemes, ctx.schemes, strict=False):
        scheme.quota.commit_goals(one.quotas.build_goals())
