"""The thread of a monitor: samples, aggregation, schemes, by timers of the simulated clock.

Linux: mm/damon/core.c, kdamond_fn().
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mmfs.mm.damon.quota import GOAL, feed_loop_next_input
from mmfs.mm.damon.schemes import apply_schemes

if TYPE_CHECKING:
    from mmfs.kernel.clock import Timer
    from mmfs.mm.damon.core import DamonCtx, KdamondThreads

NSEC_PER_USEC: Final = 1_000
NSEC_PER_JIFFY: Final = 4_000_000
TUNE_INPUT: Final = 100_000_000
USLEEP_MAX_US: Final = 20_000
"""Longer sleeps are counted in jiffies, and end when the thread is told to stop."""


class Kdamond:
    """One thread. What it has to remember while it sleeps is here, and what it does next in ``timer``.

    ``wakes_ns``: when it will wake.
    """

    def __init__(self, ctx: DamonCtx, threads: KdamondThreads, name: str) -> None:
        self.ctx = ctx
        self.damon = ctx.damon
        self.kernel = ctx.damon.kernel
        self.threads = threads
        self.task = threads.create(name)
        self.should_stop = False
        self.timer: Timer | None = None
        self.wakes_ns = 0
        self.max_nr_accesses = self.size_limit = 0
        self._next: Callable[[], None] = self._begin
        self._by_jiffies = False
        self._min_wait_us: int | None = None
        self._next_aggregation_sis = self._next_ops_update_sis = 0

    # -- sleeping and waking ----------------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """The thread's own time, which runs ahead of the clock while it works."""
        return max(self.kernel.clock.now_ns, self.threads.ready_ns(self.task))

    def _sleep(self, usecs: int, then: Callable[[], None]) -> None:
        """Linux: kdamond_usleep()."""
        now_ns = self.now_ns
        self._by_jiffies = usecs > USLEEP_MAX_US
        if self._by_jiffies:
            jiffies = -(-usecs * NSEC_PER_USEC // NSEC_PER_JIFFY)
            when_ns = (now_ns // NSEC_PER_JIFFY + jiffies) * NSEC_PER_JIFFY
        else:
            when_ns = now_ns + max(usecs, 1) * NSEC_PER_USEC
        self._sleep_until(when_ns, then)

    def _sleep_until(self, when_ns: int, then: Callable[[], None]) -> None:
        self._next, self.wakes_ns = then, when_ns
        self.timer = self.kernel.clock.add_timer(when_ns, self._woken)

    def _woken(self) -> None:
        self.timer = None
        tasks = self.kernel.tasks
        current, tasks.current = tasks.current, self.task
        self.threads.wake(self.task)
        try:
            self._next()
        finally:
            tasks.current = current if current is not None and current.pid in tasks else None
            self.charge()
            self.damon.sync_objects()

    def charge(self) -> None:
        """What the loops have looked at is the thread's."""
        loops = self.damon.loops
        self.threads.charge(self.task, int(loops.scanned))
        loops.scanned = 0

    def start(self) -> None:
        """It runs as soon as time passes."""
        self._sleep_until(self.kernel.clock.now_ns, self._begin)

    def stop(self) -> None:
        """Have it end at the next opportunity. Linux: kthread_stop()."""
        self.should_stop = True
        if self._by_jiffies and self.timer is not None:
            self.timer.cancel()
            self._sleep_until(self.kernel.clock.now_ns, self._next)

    def wake_up(self) -> None:
        """Do what it would do next at once."""
        if self.timer is not None:
            self.timer.cancel()
            self._woken()

    # -- its loop ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Linux: kdamond_init_intervals_sis(), and what comes before the loop."""
        ctx, attrs = self.ctx, self.ctx.attrs
        sample = attrs.sample_interval or 1
        ctx.passed_sample_intervals = 0
        ctx.next_aggregation_sis = attrs.aggr_interval // sample
        ctx.next_ops_update_sis = attrs.ops_update_interval // sample
        ctx.next_intervals_tune_sis = ctx.next_aggregation_sis * attrs.intervals_goal.aggrs
        for scheme in ctx.schemes:
            scheme.set_next_apply_sis(ctx)
        ctx.ops.init(ctx)
        self.size_limit = ctx.region_size_limit
        self._loop()

    def _need_stop(self) -> bool:
        """Linux: kdamond_need_stop()."""
        return self.should_stop or not self.ctx.ops.any_target_valid(self.ctx)

    def _loop(self) -> None:
        if self._need_stop():
            self._done()
            return
        self._next_aggregation_sis = self.ctx.next_aggregation_sis
        self._next_ops_update_sis = self.ctx.next_ops_update_sis
        self._min_wait_us = None
        self._wait_activation()

    def _wait_activation(self) -> None:
        """Linux: kdamond_wait_activation()."""
        if self._need_stop():
            self._done()
            return
        for scheme in self.ctx.schemes:
            wait_us = scheme.wmarks.wait_us(self.kernel)
            if self._min_wait_us is None or wait_us < self._min_wait_us:
                self._min_wait_us = wait_us
        if self._min_wait_us:
            self._sleep(self._min_wait_us, self._after_wait)
        else:
            self._prepare()

    def _after_wait(self) -> None:
        callback = self.ctx.callback
        if callback is not None and callback.after_wmarks_check(self.ctx):
            self._done()
        else:
            self._wait_activation()

    def _prepare(self) -> None:
        ctx = self.ctx
        sample_interval = ctx.attrs.sample_interval
        ctx.ops.prepare_access_checks(ctx)
        if ctx.callback is not None and ctx.callback.after_sampling(ctx):
            self._done()
            return
        self.charge()
        self._sleep(sample_interval, self._sampled)

    def _sampled(self) -> None:
        """A sample interval is over."""
        ctx = self.ctx
        ctx.passed_sample_intervals += 1
        self.max_nr_accesses = ctx.ops.check_accesses(ctx)
        aggregated = ctx.passed_sample_intervals >= self._next_aggregation_sis
        if aggregated:
            self._merge_regions(self.max_nr_accesses // 10)
            if ctx.callback is not None and ctx.callback.after_aggregation(ctx):
                self._done()
                return
        if ctx.schemes:
            apply_schemes(ctx, self)
        sample = ctx.attrs.sample_interval or 1
        if aggregated:
            sample = self._tune_intervals() or sample
            ctx.next_aggregation_sis = self._next_aggregation_sis + ctx.attrs.aggr_interval // sample
            for region in ctx.regions:
                region.last_nr_accesses, region.nr_accesses = region.nr_accesses, 0
            self._split_regions()
        if ctx.passed_sample_intervals >= self._next_ops_update_sis:
            ctx.next_ops_update_sis = self._next_ops_update_sis + ctx.attrs.ops_update_interval // sample
            ctx.ops.update(ctx)
            self.size_limit = ctx.region_size_limit
        self._loop()

    def _tune_intervals(self) -> int:
        """Longer intervals if too little was accessed, shorter ones if too much: the sample interval, or 0.

        Linux: 7.0, kdamond_tune_intervals().
        """
        ctx, attrs, goal = self.ctx, self.ctx.attrs, self.ctx.attrs.intervals_goal
        if not goal.aggrs or ctx.passed_sample_intervals < ctx.next_intervals_tune_sis:
            return 0
        ctx.next_aggregation_sis = self._next_aggregation_sis
        ctx.next_intervals_tune_sis += attrs.aggr_samples * goal.aggrs
        most = sum(region.size for region in ctx.regions) * attrs.aggr_samples
        accessed = sum(region.size * region.nr_accesses for region in ctx.regions)
        score = accessed * GOAL // (most * goal.access_bp // GOAL or 1)
        change = feed_loop_next_input(TUNE_INPUT, score) // (TUNE_INPUT // GOAL)
        if change <= GOAL:
            change = GOAL // 2 + change // 2
        if change != GOAL:
            sample = max(min(goal.max_sample_us, attrs.sample_interval * change // GOAL), goal.min_sample_us)
            ctx.set_attrs(replace(attrs, sample_interval=sample, aggr_interval=sample * attrs.aggr_samples))
        return ctx.attrs.sample_interval or 1

    def _merge_regions(self, threshold: int) -> None:
        """Merge until there are not too many regions. Linux: kdamond_merge_regions()."""
        ctx, attrs = self.ctx, self.ctx.attrs
        most = attrs.aggr_interval // (attrs.sample_interval or 1)
        count_age = True
        while True:
            for target in ctx.targets:
                target.merge_regions(threshold, self.size_limit, count_age)
            count_age = False
            if ctx.nr_regions <= attrs.max_nr_regions or most <= threshold:
                return
            threshold = max(1, threshold * 2) if threshold < most // 2 else most

    def _split_regions(self) -> None:
        """Cut regions unless there are many already. Linux: kdamond_split_regions()."""
        ctx, damon = self.ctx, self.damon
        nr_regions, pieces = ctx.nr_regions, 2
        if nr_regions > ctx.attrs.max_nr_regions // 2:
            return
        if damon.last_nr_regions == nr_regions and nr_regions < ctx.attrs.max_nr_regions // 3:
            pieces = 3
        for target in ctx.targets:
            target.split_regions(pieces, damon.rand)
        damon.last_nr_regions = nr_regions

    def _done(self) -> None:
        """The thread ends."""
        ctx = self.ctx
        for target in ctx.targets:
            target.regions.clear()
        if ctx.callback is not None:
            ctx.callback.before_terminate(ctx)
        self.charge()
        self.damon.finished(ctx)
        if self.kernel.tasks.current is self.task:
            self.kernel.tasks.current = None
        self.threads.end(self.task)
