"""Regions, targets, contexts, and the machine's monitors.

Linux: mm/damon/core.c; include/linux/damon.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from errno import EBUSY, EINVAL, EPERM
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from mmfs.fastpath.damon import DamonLoops
from mmfs.mm_types import PAGE_SIZE
from mmfs.profile import since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.damon.kdamond import Kdamond
    from mmfs.mm.damon.ops_common import DamonOperations
    from mmfs.mm.damon.schemes import Damos

DAMON_MIN_REGION: Final = PAGE_SIZE
UINT_MAX: Final = (1 << 32) - 1
ULONG_MAX: Final = (1 << 64) - 1
ATTRS_COMPARED: Final = since(7, 0)
"""Which kernels begin an aggregation anew only if a commit changes how there is monitored."""
AddrRange = tuple[int, int]


def align(address: int) -> int:
    """Up to where a region may begin. Linux: ALIGN(, DAMON_MIN_REGION)."""
    return -(-address // DAMON_MIN_REGION) * DAMON_MIN_REGION


def align_down(address: int) -> int:
    """Down to where a region may begin."""
    return address - address % DAMON_MIN_REGION


class DamonRegion:
    """A range of addresses that are taken to be accessed alike. Linux: struct damon_region."""

    __slots__ = ("age", "end", "last_nr_accesses", "nr_accesses", "nr_accesses_bp", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.nr_accesses = self.nr_accesses_bp = self.last_nr_accesses = self.age = 0

    @property
    def size(self) -> int:
        """Bytes. Linux: damon_sz_region()."""
        return self.end - self.start

    def split_at(self, size: int) -> DamonRegion:
        """Keep so many bytes; the rest is a new region like it. Linux: damon_split_region_at()."""
        new = DamonRegion(self.start + size, self.end)
        self.end = new.start
        new.age, new.last_nr_accesses = self.age, self.last_nr_accesses
        new.nr_accesses_bp, new.nr_accesses = self.nr_accesses_bp, self.nr_accesses
        return new

    def merge(self, right: DamonRegion) -> None:
        """Take over the next region. Linux: damon_merge_two_regions()."""
        left_size, right_size = self.size, right.size
        both = left_size + right_size
        self.nr_accesses = (self.nr_accesses * left_size + right.nr_accesses * right_size) // both
        self.nr_accesses_bp = self.nr_accesses * 10000
        self.age = (self.age * left_size + right.age * right_size) // both
        self.end = right.end


class DamonTarget:
    """What is monitored: a process, or physical memory. Linux: struct damon_target."""

    def __init__(self, task: Task | None = None) -> None:
        self.task = task
        """The process. Linux keeps its struct pid, which says nothing any more when it is gone."""
        self.obsolete = False
        """Whether the target at this place is to be monitored no more. Linux: 7.0, struct damon_target."""
        self.regions: list[DamonRegion] = []
        self.samples = np.zeros(0, np.int64)
        """An address in each region. Linux: struct damon_region, sampling_addr."""

    def set_regions(self, ranges: Sequence[AddrRange]) -> None:
        """Fit the regions to ranges. Raises OSError(EINVAL) of ranges that are empty or overlap.

        Linux: damon_set_regions().
        """
        last_end = 0
        for number, (start, end) in enumerate(ranges):
            if align_down(start) >= align(end) or (number and last_end > align_down(start)):
                raise OSError(EINVAL, "not ranges of memory")
            last_end = align(end)
        fitted: list[DamonRegion] = []
        for start, end in ranges:
            inside = [region for region in self.regions if not (region.end <= start or end <= region.start)]
            start, end = align_down(start), align(end)
            if not inside:
                fitted.append(DamonRegion(start, end))
                continue
            inside[0].start, inside[-1].end = start, end
            for region in inside:
                if region is not inside[0] and fitted[-1].end != region.start:
                    fitted.append(DamonRegion(fitted[-1].end, region.start))
                fitted.append(region)
        self.regions = fitted

    def merge_regions(self, threshold: int, size_limit: int, count_age: bool) -> None:
        """Merge neighbours that are accessed alike; regions that stay as they are grow older.

        Linux: damon_merge_regions_of().
        """
        merged: list[DamonRegion] = []
        for region in self.regions:
            if count_age:
                changed = abs(region.nr_accesses - region.last_nr_accesses) > threshold
                region.age = 0 if changed else region.age + 1
            last = merged[-1] if merged else None
            if (
                last is not None
                and last.end == region.start
                and abs(last.nr_accesses - region.nr_accesses) <= threshold
                and last.size + region.size <= size_limit
            ):
                last.merge(region)
            else:
                merged.append(region)
        self.regions = merged

    def split_regions(self, pieces: int, rand: Callable[[int, int], int]) -> None:
        """Cut every region at random. Linux: damon_split_regions_of()."""
        split: list[DamonRegion] = []
        for region in self.regions:
            size, after = region.size, list[DamonRegion]()
            for _ in range(pieces - 1):
                if size <= 2 * DAMON_MIN_REGION:
                    break
                left = align_down(rand(1, 10) * size // 10)
                if left == 0 or left >= size:
                    continue
                after.insert(0, region.split_at(left))
                size = left
            split += [region, *after]
        self.regions = split

    def insert_after(self, region: DamonRegion, new: DamonRegion) -> None:
        """Put the second part of a region that was split behind the first. Linux: damon_insert_region()."""
        self.regions.insert(self.regions.index(region) + 1, new)


@dataclass(frozen=True)
class DamonIntervalsGoal:
    """What share of samples, of 10000, is to be accessed in so many aggregations, 0: intervals stay as they are.

    Linux: struct damon_intervals_goal.
    """

    access_bp: int = 0
    aggrs: int = 0
    min_sample_us: int = 0
    max_sample_us: int = 0

    def allows(self, sample_interval: int) -> bool:
        """Linux: damon_valid_intervals_goal()."""
        return not self.aggrs or self.min_sample_us <= sample_interval <= self.max_sample_us


@dataclass(frozen=True)
class DamonAttrs:
    """How a context is monitored; intervals in microseconds. Linux: struct damon_attrs.

    ``aggr_samples``: samples in an aggregation, which stay as many when intervals are tuned.
    """

    sample_interval: int = 5_000
    aggr_interval: int = 100_000
    ops_update_interval: int = 60_000_000
    min_nr_regions: int = 10
    max_nr_regions: int = 1_000
    intervals_goal: DamonIntervalsGoal = DamonIntervalsGoal()
    aggr_samples: int = field(default=0, compare=False)

    @property
    def max_nr_accesses(self) -> int:
        """Samples in an aggregation interval. Linux: damon_max_nr_accesses()."""
        return min(self.aggr_interval // (self.sample_interval or 1), UINT_MAX) or 1


class DamonCallback(Protocol):
    """Who is asked when a monitor has come so far; True ends the monitor. Linux: struct damon_callback."""

    def after_wmarks_check(self, ctx: DamonCtx) -> bool:
        """It is not active, as watermarks say."""

    def after_sampling(self, ctx: DamonCtx) -> bool:
        """Samples are prepared."""

    def after_aggregation(self, ctx: DamonCtx) -> bool:
        """The results of an interval are there."""

    def before_damos_apply(self, ctx: DamonCtx, region: DamonRegion, scheme: Damos) -> None:
        """A scheme is about to be applied to a region."""

    def after_damos_apply(self, ctx: DamonCtx, scheme: Damos, passed: int) -> None:
        """It was, and filters of pages let so many bytes through."""

    def before_terminate(self, ctx: DamonCtx) -> None:
        """It ends."""


@dataclass(eq=False)
class DamonCtx:
    """What a kdamond does: targets, attributes, schemes. Linux: struct damon_ctx."""

    damon: Damon
    ops: DamonOperations
    attrs: DamonAttrs = DamonAttrs()
    targets: list[DamonTarget] = field(default_factory=list)
    schemes: list[Damos] = field(default_factory=list)
    callback: DamonCallback | None = None
    kdamond: Kdamond | None = None
    passed_sample_intervals: int = 0
    next_aggregation_sis: int = 0
    next_ops_update_sis: int = 0
    next_intervals_tune_sis: int = 0

    @property
    def regions(self) -> Iterator[DamonRegion]:
        """Those of all targets."""
        for target in self.targets:
            yield from target.regions

    @property
    def nr_regions(self) -> int:
        """How many there are."""
        return sum(len(target.regions) for target in self.targets)

    @property
    def region_size_limit(self) -> int:
        """How large a region may get. Linux: damon_region_sz_limit()."""
        size = sum(region.size for region in self.regions)
        return max(size // self.attrs.min_nr_regions if self.attrs.min_nr_regions else size, DAMON_MIN_REGION)

    def set_attrs(self, attrs: DamonAttrs) -> None:
        """Monitor like that from now on. Raises OSError(EINVAL). Linux: damon_set_attrs()."""
        if not attrs.intervals_goal.allows(attrs.sample_interval):
            raise OSError(EINVAL, "intervals can never be like that")
        if attrs.min_nr_regions < 3 or attrs.min_nr_regions > attrs.max_nr_regions:
            raise OSError(EINVAL, "no such number of regions")
        if attrs.sample_interval > attrs.aggr_interval:
            raise OSError(EINVAL, "no sample in an aggregation interval")
        sample = attrs.sample_interval or 1
        if not attrs.aggr_samples:
            attrs = replace(attrs, aggr_samples=attrs.aggr_interval // sample)
        self.next_aggregation_sis = self.passed_sample_intervals + attrs.aggr_interval // sample
        self.next_ops_update_sis = self.passed_sample_intervals + attrs.ops_update_interval // sample
        self._update_results(attrs)
        self.attrs = attrs
        for scheme in self.schemes:
            scheme.set_next_apply_sis(self)

    def _update_results(self, new: DamonAttrs) -> None:
        """Results so far, in terms of new intervals. Linux: damon_update_monitoring_results()."""
        old = self.attrs
        if 0 in (old.sample_interval, old.aggr_interval, new.sample_interval, new.aggr_interval):
            return
        for region in self.regions:
            ratio = region.nr_accesses * 10000 // old.max_nr_accesses
            region.nr_accesses = ratio * new.max_nr_accesses // 10000
            region.nr_accesses_bp = region.nr_accesses * 10000
            region.age = region.age * old.aggr_interval // new.aggr_interval

    def add_scheme(self, scheme: Damos) -> None:
        """Linux: damon_add_scheme()."""
        self.schemes.append(scheme)
        scheme.set_next_apply_sis(self)

    def commit(self, source: DamonCtx) -> None:
        """Take over what a user wants of another context; results stay. Raises OSError(EINVAL).

        Linux: damon_commit_ctx().
        """
        del self.schemes[len(source.schemes) :]
        for number, wanted in enumerate(source.schemes):
            if number < len(self.schemes):
                self.schemes[number].commit(wanted)
            else:
                self.add_scheme(wanted)
        self._commit_targets(source.targets)
        if self.attrs != source.attrs or not ATTRS_COMPARED(self.damon):
            self.set_attrs(source.attrs)
        self.ops = source.ops

    def _commit_targets(self, wanted: list[DamonTarget]) -> None:
        """Linux: damon_commit_targets()."""
        if any(target.obsolete for target in wanted[len(self.targets) :]):
            raise OSError(EINVAL, "no target to be rid of")
        del self.targets[len(wanted) :]
        for number, target in enumerate(wanted):
            if number == len(self.targets):
                self.targets.append(DamonTarget())
            if target.obsolete:
                continue
            if target.regions:
                self.targets[number].set_regions([(region.start, region.end) for region in target.regions])
            self.targets[number].task = target.task
        gone = [mine for mine, target in zip(self.targets, wanted, strict=True) if target.obsolete]
        for target in gone:
            self.targets.remove(target)
        for scheme in self.schemes:
            scheme.quota.forget(gone)


class KdamondThreads(Protocol):
    """The threads of monitors; the kernel has them (kernel/kthread.py)."""

    def create(self, name: str) -> Task:
        """A new thread."""

    def end(self, task: Task) -> None:
        """A thread ends."""

    def wake(self, task: Task) -> None:
        """A timer has woken a thread."""

    def charge(self, task: Task, scanned: int) -> None:
        """A thread has looked at so many pages."""

    def ready_ns(self, task: Task) -> int:
        """When a thread will be through with its work so far."""

    def sleep_until(self, when_ns: int) -> bool:
        """Let time pass, from outside; False within a wakeup, where it cannot."""


class Damon:
    """All monitors of a machine, and who wants them."""

    def __init__(self, kernel: Kernel) -> None:
        from mmfs.mm.damon.lru_sort import DamonLruSort
        from mmfs.mm.damon.paddr import DamonPaddr
        from mmfs.mm.damon.reclaim import DamonReclaim
        from mmfs.mm.damon.sysfs import DamonSysfs
        from mmfs.mm.damon.vaddr import DamonFvaddr, DamonVaddr

        self.kernel = kernel
        self.loops = DamonLoops(kernel.pagetables, kernel.mmu.rmap, kernel.lru)
        self._random = Random(f"damon {kernel.seed}").random
        self.running: list[DamonCtx] = []
        self.exclusive = False
        """Whether nobody else may start a monitor. Linux: running_exclusive_ctxs."""
        self.threads: KdamondThreads | None = None
        self.last_nr_regions = 0
        """Linux: the static variable of kdamond_split_regions()."""
        self.nr_objects = 0
        self.operations: tuple[DamonOperations, ...] = (DamonVaddr(self), DamonFvaddr(self), DamonPaddr(self))
        self.sysfs = DamonSysfs(self)
        self.reclaim = DamonReclaim(self)
        self.lru_sort = DamonLruSort(self)

    def rand(self, low: int, high: int) -> int:
        """A number of [low, high), of a span of 32 bits at most. Linux: damon_rand()."""
        return low + int(self._random() * ((high - low) & UINT_MAX or UINT_MAX + 1))

    def new_ctx(self, ops: DamonOperations) -> DamonCtx:
        """Linux: damon_new_ctx(), damon_select_ops()."""
        return DamonCtx(self, ops)

    def start(self, ctx: DamonCtx, exclusive: bool) -> None:
        """Start to monitor. Raises OSError(EBUSY) where others do who do not suffer it. Linux: damon_start()."""
        from mmfs.mm.damon.kdamond import Kdamond

        if self.exclusive or (exclusive and self.running) or ctx.kdamond is not None:
            raise OSError(EBUSY, "another monitor runs")
        assert self.threads is not None
        self.exclusive = exclusive
        ctx.kdamond = Kdamond(ctx, self.threads, f"kdamond.{len(self.running)}")
        self.running.append(ctx)
        ctx.kdamond.start()

    def stop(self, ctx: DamonCtx) -> Iterator[None]:
        """End a monitor, which takes until its thread has woken. Raises OSError(EPERM) if it does not run.

        Linux: damon_stop().
        """
        kdamond = ctx.kdamond
        if kdamond is None:
            raise OSError(EPERM, "it does not run")
        kdamond.stop()
        while ctx.kdamond is kdamond:
            if not kdamond.threads.sleep_until(kdamond.wakes_ns):
                kdamond.wake_up()
            yield

    def finished(self, ctx: DamonCtx) -> None:
        """A kdamond has ended. Linux: the end of kdamond_fn()."""
        ctx.kdamond = None
        self.running.remove(ctx)
        self.exclusive = self.exclusive and bool(self.running)

    @property
    def nr_regions(self) -> int:
        """Those of all contexts that there are, which are objects of the slab cache damon_region."""
        contexts = {id(ctx): ctx for ctx in (*self.running, *self.sysfs.contexts, self.reclaim.ctx, self.lru_sort.ctx)}
        return sum(ctx.nr_regions for ctx in contexts.values())

    def sync_objects(self) -> None:
        """The objects of regions. Linux: damon_new_region(), damon_free_region()."""
        more = self.nr_regions - self.nr_objects
        if more > 0:
            self.kernel.slab.alloc_counted("damon_region", more)
        elif more < 0:
            self.kernel.slab.free_counted("damon_region", -more)
        self.nr_objects += more

    def system_ram(self) -> AddrRange:
        """First and last byte of the largest range of memory. Linux: damon_find_biggest_system_ram()."""
        found = (0, 0)
        for _, resource in self.kernel.memblock.iomem.walk():
            if resource.name == "System RAM" and found[1] - found[0] < resource.end - resource.start + 1:
                found = resource.start, resource.end
        return found
