"""What users have written about schemes, and what they may read of them.

Linux: mm/damon/sysfs-schemes.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from errno import EINVAL, ENOMEM
from typing import TYPE_CHECKING

from mmfs.mm.damon.core import UINT_MAX
from mmfs.mm.damon.quota import DamosQuota, DamosQuotaGoal, DamosQuotaGoalMetric
from mmfs.mm.damon.schemes import (
    NUMA_NO_NODE,
    Damos,
    DamosAccessPattern,
    DamosAction,
    DamosFilter,
    DamosFilterType,
    DamosStat,
    DamosWatermarks,
    DamosWmarkMetric,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.damon.core import DamonCtx, DamonRegion
    from mmfs.mm.damon.sysfs import DamonSysfs


class OfSysfs:
    """What has all of these files within reach."""

    sysfs: DamonSysfs

    @property
    def kernel(self) -> Kernel:
        """Whose memory is monitored."""
        return self.sysfs.damon.kernel


def memcg_of(sysfs: DamonSysfs, path: str) -> int:
    """The row of a memory cgroup. Raises OSError(EINVAL). Linux: damon_sysfs_memcg_path_to_id()."""
    wanted = path.removesuffix("\n")
    found = (one.row for one in sysfs.damon.kernel.memcgs.root.descendants() if one.path == wanted)
    row = next(found, -1)
    if row < 0:
        raise OSError(EINVAL, "no such cgroup")
    return row


@dataclass(eq=False)
class DamonSysfsUlRange:
    """Linux: struct damon_sysfs_ul_range."""

    min: int = 0
    max: int = 0


@dataclass(eq=False)
class DamonSysfsSchemeRegion(OfSysfs):
    """A region that a scheme was tried on. Linux: struct damon_sysfs_scheme_region."""

    sysfs: DamonSysfs
    number: int
    start: int
    end: int
    nr_accesses: int
    age: int
    sz_filter_passed: int = 0


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
class DamonSysfsSchemeFilter(OfSysfs):
    """Linux: struct damon_sysfs_scheme_filter. ``of_core``: whether it must be of regions, or must not."""

    sysfs: DamonSysfs
    of_core: bool | None = None
    type: DamosFilterType = DamosFilterType.ANON
    matching: bool = False
    memcg_path: str = ""
    addr_start: int = 0
    addr_end: int = 0
    target_idx: int = 0
    allow: bool = False
    min_size: int = 0
    max_size: int = 0

    def build(self) -> DamosFilter:
        """Raises OSError(EINVAL). Linux: damon_sysfs_add_scheme_filters()."""
        made = DamosFilter(self.type, self.matching, allow=self.allow)
        if self.type == DamosFilterType.MEMCG:
            made.memcg = memcg_of(self.sysfs, self.memcg_path)
        elif self.type in (DamosFilterType.ADDR, DamosFilterType.HUGEPAGE_SIZE):
            made.start, made.end = self.addr_start, self.addr_end
            if self.type == DamosFilterType.HUGEPAGE_SIZE:
                made.start, made.end = self.min_size, self.max_size
            if made.end < made.start:
                raise OSError(EINVAL, "it ends before it begins")
        elif self.type == DamosFilterType.TARGET:
            made.target_idx = self.target_idx
        return made


@dataclass(eq=False)
class DamosSysfsQuotaGoal(OfSysfs):
    """Linux: struct damos_sysfs_quota_goal."""

    sysfs: DamonSysfs
    metric: DamosQuotaGoalMetric = DamosQuotaGoalMetric.USER_INPUT
    target_value: int = 0
    current_value: int = 0
    nid: int = 0
    path: str = ""

    def build(self) -> DamosQuotaGoal:
        """Raises OSError(EINVAL). Linux: damos_sysfs_add_quota_score()."""
        made = DamosQuotaGoal(self.metric, self.target_value)
        if self.metric == DamosQuotaGoalMetric.USER_INPUT:
            made.current_value = self.current_value
        if self.metric.of_memcg:
            made.memcg = memcg_of(self.sysfs, self.path)
        if self.metric.of_node:
            made.nid = self.nid
        return made


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
        """Of those that have a value."""
        return [one.build() for one in self.goals if one.target_value]


@dataclass(eq=False)
class DamonSysfsWatermarks:
    """Linux: struct damon_sysfs_watermarks."""

    metric: DamosWmarkMetric = DamosWmarkMetric.NONE
    interval_us: int = 0
    high: int = 0
    mid: int = 0
    low: int = 0


@dataclass(eq=False)
class DamonSysfsFilters(OfSysfs):
    """A directory of filters. Linux: struct damon_sysfs_scheme_filters."""

    sysfs: DamonSysfs
    of_core: bool | None = None
    filters: list[DamonSysfsSchemeFilter] = field(default_factory=list)


@dataclass(eq=False)
class DamonSysfsScheme(OfSysfs):
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
    filters: DamonSysfsFilters = field(init=False)
    core_filters: DamonSysfsFilters = field(init=False)
    ops_filters: DamonSysfsFilters = field(init=False)
    stats: DamosStat = field(default_factory=DamosStat)
    max_nr_snapshots: int = 0
    tried_regions: DamonSysfsSchemeRegions = field(default_factory=DamonSysfsSchemeRegions)

    def __post_init__(self) -> None:
        self.quotas = DamonSysfsQuotas(self.sysfs)
        self.core_filters, self.ops_filters, self.filters = (
            DamonSysfsFilters(self.sysfs, of_core) for of_core in (True, False, None)
        )

    def build(self) -> Damos:
        """The scheme of it. Raises OSError(ENOMEM) whatever is wrong. Linux: damon_sysfs_mk_scheme()."""
        pattern = DamosAccessPattern(
            self.sz.min, self.sz.max,
            self.nr_accesses.min & UINT_MAX, self.nr_accesses.max & UINT_MAX,
            self.age.min & UINT_MAX, self.age.max & UINT_MAX,
        )  # fmt: skip
        quotas, wmarks = self.quotas, self.watermarks
        try:
            goals = quotas.build_goals()
            groups = (self.core_filters, self.ops_filters, self.filters)
            filters = [one.build() for group in groups for one in group.filters]
        except OSError as error:
            raise OSError(ENOMEM, error.strerror) from error
        quota = DamosQuota(
            quotas.ms, quotas.sz, quotas.reset_interval_ms, quotas.weight_sz, quotas.weight_nr_accesses,
            quotas.weight_age, goals,
        )  # fmt: skip
        return Damos(
            pattern, self.action, self.apply_interval_us, quota,
            DamosWatermarks(wmarks.metric, wmarks.interval_us, wmarks.high, wmarks.mid, wmarks.low),
            self.target_nid, filters, max_nr_snapshots=self.max_nr_snapshots,
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
                    self.schemes[number].sysfs, self.next_number, region.start, region.end,
                    region.nr_accesses_bp // 10000, region.age,
                )
            )  # fmt: skip
            self.next_number += 1

    def passed(self, number: int, size: int) -> None:
        """So many bytes of that region have passed the filters of pages."""
        if number < len(self.schemes) and not self.total_bytes_only and self.schemes[number].tried_regions.regions:
            self.schemes[number].tried_regions.regions[-1].sz_filter_passed = size

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
