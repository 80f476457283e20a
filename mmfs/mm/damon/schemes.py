"""Schemes: what is done with regions that fit a pattern, how much of it, and when not.

Linux: mm/damon/core.c, kdamond_apply_schemes() and its kin; include/linux/damon.h, struct damos.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from mmfs.mm.damon.core import UINT_MAX, ULONG_MAX, align_down
from mmfs.mm.damon.quota import DamosQuota
from mmfs.mm_types import ZoneStatItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.damon.core import DamonCtx, DamonRegion, DamonTarget
    from mmfs.mm.damon.kdamond import Kdamond

DAMOS_MAX_SCORE: Final = 99
NUMA_NO_NODE: Final = -1
NSEC_PER_JIFFY: Final = 4_000_000
MSEC_PER_JIFFY: Final = 4


class DamosAction(IntEnum):
    """Linux: enum damos_action."""

    WILLNEED = 0
    COLD = 1
    PAGEOUT = 2
    HUGEPAGE = 3
    NOHUGEPAGE = 4
    LRU_PRIO = 5
    LRU_DEPRIO = 6
    MIGRATE_HOT = 7
    MIGRATE_COLD = 8
    STAT = 9


class DamosFilterType(IntEnum):
    """Linux: enum damos_filter_type; those that came after 6.12 are last."""

    ANON = 0
    MEMCG = 1
    YOUNG = 2
    ADDR = 3
    TARGET = 4
    ACTIVE = 5
    HUGEPAGE_SIZE = 6
    UNMAPPED = 7

    @property
    def of_core(self) -> bool:
        """Whether it is of regions, not of pages. Linux: 7.0, damos_filter_for_ops()."""
        return self in (DamosFilterType.ADDR, DamosFilterType.TARGET)


class DamosWmarkMetric(IntEnum):
    """Linux: enum damos_wmark_metric."""

    NONE = 0
    FREE_MEM_RATE = 1


@dataclass(frozen=True)
class DamosAccessPattern:
    """Which regions a scheme is for. Linux: struct damos_access_pattern."""

    min_sz_region: int = 0
    max_sz_region: int = ULONG_MAX
    min_nr_accesses: int = 0
    max_nr_accesses: int = UINT_MAX
    min_age_region: int = 0
    max_age_region: int = UINT_MAX

    def fits(self, region: DamonRegion) -> bool:
        """Linux: __damos_valid_target()."""
        return (
            self.min_sz_region <= region.size <= self.max_sz_region
            and self.min_nr_accesses <= region.nr_accesses_bp // 10000 <= self.max_nr_accesses
            and self.min_age_region <= region.age <= self.max_age_region
        )


@dataclass
class DamosFilter:
    """Memory that a scheme leaves alone, or that it is for. Linux: struct damos_filter.

    ``memcg``: the row of a memory cgroup; ``start`` and ``end``: of addresses, or the least and the most bytes of a
    folio.
    """

    type: DamosFilterType
    matching: bool
    memcg: int = 0
    start: int = 0
    end: int = 0
    target_idx: int = 0
    allow: bool = False


@dataclass
class DamosWatermarks:
    """When a scheme rests. Linux: struct damos_watermarks; ``interval`` in microseconds."""

    metric: DamosWmarkMetric = DamosWmarkMetric.NONE
    interval: int = 0
    high: int = 0
    mid: int = 0
    low: int = 0
    activated: bool = True

    def wait_us(self, kernel: Kernel) -> int:
        """0 if it is active, else when to look again. Linux: damos_wmark_wait_us()."""
        if self.metric == DamosWmarkMetric.NONE:
            return 0
        free = kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_FREE_PAGES)
        rate = free * 1000 // kernel.totalram_pages()
        if rate > self.high or rate < self.low:
            self.activated = False
            return self.interval
        if rate >= self.mid and not self.activated:
            return self.interval
        self.activated = True
        return 0


@dataclass
class DamosStat:
    """What a scheme has done. Linux: struct damos_stat."""

    nr_tried: int = 0
    sz_tried: int = 0
    nr_applied: int = 0
    sz_applied: int = 0
    qt_exceeds: int = 0
    sz_ops_filter_passed: int = 0
    nr_snapshots: int = 0

    def update(self, tried: int, applied: int, passed: int = 0) -> None:
        """Linux: damos_update_stat()."""
        self.sz_ops_filter_passed += passed
        self.nr_tried += 1
        self.sz_tried += tried
        self.nr_applied += applied > 0
        self.sz_applied += applied


@dataclass(eq=False)
class Damos:
    """A scheme. Linux: struct damos."""

    pattern: DamosAccessPattern
    action: DamosAction
    apply_interval_us: int = 0
    quota: DamosQuota = field(default_factory=DamosQuota)
    wmarks: DamosWatermarks = field(default_factory=DamosWatermarks)
    target_nid: int = NUMA_NO_NODE
    filters: list[DamosFilter] = field(default_factory=list)
    stat: DamosStat = field(default_factory=DamosStat)
    next_apply_sis: int = 0
    max_nr_snapshots: int = 0
    core_allowed: bool = False
    """Whether a filter of regions has let the region through, which filters of pages do not look at then."""

    def default_reject(self, of_core: bool) -> bool:
        """What becomes of memory that no filter matches. Linux: 7.0, damos_set_filters_default_reject()."""
        if of_core and any(not one.type.of_core for one in self.filters):
            return False
        last = next((one for one in reversed(self.filters) if one.type.of_core == of_core), None)
        return last is not None and last.allow

    @property
    def enough(self) -> bool:
        """Whether it has been tried on all regions as often as was wanted."""
        return 0 < self.max_nr_snapshots <= self.stat.nr_snapshots

    def set_next_apply_sis(self, ctx: DamonCtx) -> None:
        """Linux: damos_set_next_apply_sis()."""
        interval = self.apply_interval_us or ctx.attrs.aggr_interval
        self.next_apply_sis = ctx.passed_sample_intervals + interval // (ctx.attrs.sample_interval or 1)

    def commit(self, wanted: Damos) -> None:
        """Be like another; what was done so far stays. Linux: damos_commit()."""
        self.pattern, self.action, self.apply_interval_us = wanted.pattern, wanted.action, wanted.apply_interval_us
        mine, theirs = self.quota, wanted.quota
        mine.reset_interval, mine.ms, mine.sz = theirs.reset_interval, theirs.ms, theirs.sz
        mine.commit_goals(theirs.goals)
        mine.weight_sz, mine.weight_age = theirs.weight_sz, theirs.weight_age
        mine.weight_nr_accesses = theirs.weight_nr_accesses
        self.wmarks, self.target_nid, self.filters = wanted.wmarks, wanted.target_nid, wanted.filters
        self.max_nr_snapshots = wanted.max_nr_snapshots

    def is_due(self, ctx: DamonCtx) -> bool:
        """Whether its turn has come."""
        return ctx.passed_sample_intervals >= self.next_apply_sis

    def valid_target(self, ctx: DamonCtx, region: DamonRegion) -> bool:
        """Linux: damos_valid_target()."""
        if not self.pattern.fits(region) or not self.quota.esz:
            return self.pattern.fits(region)
        return ctx.ops.scheme_score(ctx, region, self) >= self.quota.min_score

    def filter_out(self, ctx: DamonCtx, target: DamonTarget, region: DamonRegion) -> bool:
        """Whether a filter of addresses or targets spares a region, which may get split.

        Linux: damos_filter_out(); 7.0, damos_core_filter_out().
        """
        self.core_allowed = False
        for one in self.filters:
            if one.type == DamosFilterType.TARGET:
                matched = ctx.targets.index(target) == one.target_idx
            elif one.type == DamosFilterType.ADDR:
                matched = _in_range(one, target, region)
            else:
                continue
            if matched == one.matching:
                self.core_allowed = one.allow
                return not one.allow
        return self.default_reject(of_core=True)


def _in_range(one: DamosFilter, target: DamonTarget, region: DamonRegion) -> bool:
    start, end = align_down(one.start), align_down(one.end)
    if start <= region.start and region.end <= end:
        return True
    if region.end <= start or end <= region.start:
        return False
    if region.start < start:
        target.insert_after(region, region.split_at(start - region.start))
        return False
    target.insert_after(region, region.split_at(end - region.start))
    return True


def adjust_quota(ctx: DamonCtx, scheme: Damos) -> None:
    """Begin an interval of a quota, and find the score from which it suffices. Linux: damos_adjust_quota()."""
    quota, jiffies = scheme.quota, ctx.damon.kernel.clock.jiffies
    if not quota.wanted:
        return
    if not quota.total_charged_sz and not quota.charged_from:
        quota.charged_from = jiffies
    if jiffies - quota.charged_from >= -(-quota.reset_interval // MSEC_PER_JIFFY):
        scheme.stat.qt_exceeds += quota.used_up
        quota.total_charged_sz += quota.charged_sz
        quota.charged_from, quota.charged_sz = jiffies, 0
        quota.set_effective(ctx.damon.kernel)
    histogram = [0] * (DAMOS_MAX_SCORE + 1)
    for region in ctx.regions:
        if scheme.pattern.fits(region):
            histogram[ctx.ops.scheme_score(ctx, region, scheme)] += region.size
    score = max((number for number, size in enumerate(histogram) if size), default=0)
    total = histogram[score]
    while score and total < quota.esz:
        score -= 1
        total += histogram[score]
    quota.min_score = score


def apply_scheme(ctx: DamonCtx, target: DamonTarget, region: DamonRegion, scheme: Damos, kdamond: Kdamond) -> None:
    """Linux: damos_apply_scheme()."""
    quota, size = scheme.quota, region.size
    if quota.esz and quota.charged_sz + size > quota.esz:
        size = align_down(quota.esz - quota.charged_sz)
        if not size:
            scheme.stat.update(size, 0)
            return
        if size < region.size:
            target.insert_after(region, region.split_at(size))
    if scheme.filter_out(ctx, target, region):
        return
    size = region.size
    begin = kdamond.now_ns // NSEC_PER_JIFFY
    if ctx.callback is not None:
        ctx.callback.before_damos_apply(ctx, region, scheme)
    applied, passed = ctx.ops.apply_scheme(target, region, scheme)
    if ctx.callback is not None:
        ctx.callback.after_damos_apply(ctx, scheme, passed)
    kdamond.charge()
    quota.total_charged_ns += (kdamond.now_ns // NSEC_PER_JIFFY - begin) * NSEC_PER_JIFFY
    quota.charged_sz += size
    if quota.used_up:
        quota.charge_target, quota.charge_addr = target, region.end
    if scheme.action != DamosAction.STAT:
        region.age = 0
    scheme.stat.update(size, applied, passed)


def apply_schemes(ctx: DamonCtx, kdamond: Kdamond) -> None:
    """Apply those whose turn has come to all regions. Linux: kdamond_apply_schemes()."""
    due = [scheme for scheme in ctx.schemes if scheme.is_due(ctx)]
    active = [scheme for scheme in due if scheme.wmarks.activated]
    if not active:
        return
    for scheme in active:
        adjust_quota(ctx, scheme)
    for target in ctx.targets:
        number = 0
        while number < len(target.regions):  # regions that are split off come next
            region = target.regions[number]
            for scheme in active:
                if scheme.quota.used_up or scheme.quota.skip_charged(target, region) or scheme.enough:
                    continue
                if scheme.valid_target(ctx, region):
                    apply_scheme(ctx, target, region, scheme, kdamond)
                scheme.stat.nr_snapshots += region is target.regions[-1]
            number += 1
    for scheme in due:
        scheme.set_next_apply_sis(ctx)
