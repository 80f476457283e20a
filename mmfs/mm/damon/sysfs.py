"""What users have written to /sys/kernel/mm/damon/admin, and what becomes of it.

Nothing that is written reaches a monitor by itself: turning it on, or a commit, builds a context of it all. A command
that looks into a monitor is a request, which the monitor serves when it has come to the next point at which it may; who
has written it waits for that. While the regions of schemes are collected the monitor holds the lock of all of these
files, and whoever needs it is told EBUSY.

Linux: mm/damon/sysfs.c.

Simplified: a command that is written within a wakeup does not wait to be served.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from errno import EBUSY, EINVAL, ENOMEM
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from mmfs.mm.damon.core import DamonAttrs, DamonIntervalsGoal, DamonTarget
from mmfs.mm.damon.sysfs_schemes import (
    DamonSysfsScheme,
    DamonSysfsUlRange,
    OfSysfs,
    RegionsUpdate,
    clear_regions,
    set_quota_scores,
    update_effective_quotas,
    update_stats,
)
from mmfs.mm_types import MAX_PAGE_ORDER, PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.mm.damon.core import Damon, DamonCtx, DamonRegion
    from mmfs.mm.damon.schemes import Damos

POINTER_SIZE: Final = 8
KMALLOC_MAX_SIZE: Final = PAGE_SIZE << MAX_PAGE_ORDER
COMMANDS: Final = (
    "on", "off", "commit", "commit_schemes_quota_goals", "update_schemes_stats", "update_schemes_tried_bytes",
    "update_schemes_tried_regions", "clear_schemes_tried_regions", "update_schemes_effective_quotas",
    "update_tuned_intervals",
)  # fmt: skip
"""Linux: damon_sysfs_cmd_strs[]; the last came after 6.12."""
POLL_NS: Final = 100_000_000
MSEC_PER_JIFFY: Final = 4


def msecs_to_jiffies(msecs: int) -> int:
    """Linux: msecs_to_jiffies()."""
    return -(-msecs // MSEC_PER_JIFFY)


@dataclass(eq=False)
class DamonSysfsRegion:
    """Linux: struct damon_sysfs_region."""

    start: int = 0
    end: int = 0


@dataclass(eq=False)
class DamonSysfsTarget(OfSysfs):
    """Linux: struct damon_sysfs_target."""

    sysfs: DamonSysfs
    pid: int = 0
    obsolete: bool = False
    regions: list[DamonSysfsRegion] = field(default_factory=list)


@dataclass(eq=False)
class DamonSysfsIntervalsGoal:
    """Linux: struct damon_sysfs_intervals_goal."""

    access_bp: int = 0
    aggrs: int = 0
    min_sample_us: int = 0
    max_sample_us: int = 0


@dataclass(eq=False)
class DamonSysfsContext(OfSysfs):
    """Linux: struct damon_sysfs_context, struct damon_sysfs_intervals."""

    sysfs: DamonSysfs
    ops: str = "vaddr"
    sample_us: int = 5_000
    aggr_us: int = 100_000
    update_us: int = 60_000_000
    intervals_goal: DamonSysfsIntervalsGoal = field(default_factory=DamonSysfsIntervalsGoal)
    nr_regions: DamonSysfsUlRange = field(default_factory=lambda: DamonSysfsUlRange(10, 1000))
    targets: list[DamonSysfsTarget] = field(default_factory=list)
    schemes: list[DamonSysfsScheme] = field(default_factory=list)

    def build(self) -> DamonCtx:
        """A context of all of it. Raises OSError. Linux: damon_sysfs_build_ctx()."""
        damon = self.sysfs.damon
        ctx = damon.new_ctx(next(ops for ops in damon.operations if ops.name == self.ops))
        ctx.set_attrs(
            DamonAttrs(
                self.sample_us, self.aggr_us, self.update_us, self.nr_regions.min, self.nr_regions.max,
                DamonIntervalsGoal(**vars(self.intervals_goal)),
            )
        )
        if not ctx.ops.has_pid and len(self.targets) > 1:
            raise OSError(EINVAL, "there is one physical memory")
        ctx.targets = [self._target(damon, one, ctx.ops.has_pid) for one in self.targets]
        for one in self.schemes:
            ctx.add_scheme(one.build())
        ctx.callback = self.sysfs
        return ctx

    @staticmethod
    def _target(damon: Damon, one: DamonSysfsTarget, has_pid: bool) -> DamonTarget:
        """Linux: damon_sysfs_add_target(), damon_sysfs_set_regions()."""
        target = DamonTarget()
        target.obsolete = one.obsolete
        if has_pid:
            target.task = damon.kernel.tasks.get(one.pid)
            if target.task is None:
                raise OSError(EINVAL, "no such process")
        ranges = [(region.start, region.end) for region in one.regions]
        if any(start > end for start, end in ranges):
            raise OSError(EINVAL, "a region ends before it begins")
        if any(before[1] > after[0] for before, after in pairwise(ranges)):
            raise OSError(EINVAL, "regions overlap")
        target.set_regions(ranges)
        return target


@dataclass(eq=False)
class DamonSysfsKdamond(OfSysfs):
    """Linux: struct damon_sysfs_kdamond."""

    sysfs: DamonSysfs
    refresh_ms: int = 0
    next_update_jiffies: int = 0
    contexts: list[DamonSysfsContext] = field(default_factory=list)
    ctx: DamonCtx | None = None

    @property
    def running(self) -> bool:
        """Linux: damon_sysfs_kdamond_running()."""
        return self.ctx is not None and self.ctx.kdamond is not None

    @property
    def pid(self) -> int:
        """Of its thread, -1 if there is none."""
        kdamond = self.ctx.kdamond if self.ctx is not None else None
        return -1 if kdamond is None else kdamond.task.pid

    @property
    def schemes(self) -> list[DamonSysfsScheme]:
        """The directories of the context's schemes."""
        return self.contexts[0].schemes if self.contexts else []


class DamonSysfs:
    """All of it; of contexts that were turned on there it is the callback. Linux: damon_sysfs_lock and its kin."""

    def __init__(self, damon: Damon) -> None:
        self.damon = damon
        self.kdamonds: list[DamonSysfsKdamond] = []
        self.request: tuple[str, DamonSysfsKdamond] | None = None
        """The command that waits to be served. Linux: damon_sysfs_cmd_request."""
        self.update: RegionsUpdate | None = None
        """Regions that are being collected; the lock is held. Linux: damon_sysfs_schemes_regions_updating."""

    @property
    def contexts(self) -> list[DamonCtx]:
        """Those that were turned on."""
        return [one.ctx for one in self.kdamonds if one.ctx is not None]

    def trylock(self) -> None:
        """Raises OSError(EBUSY) while a monitor holds the lock. Linux: mutex_trylock(&damon_sysfs_lock)."""
        if self.update is not None:
            raise OSError(EBUSY, "regions are being collected")

    def kmalloc_array(self, count: int) -> None:
        """See that there can be an array of so many pointers, and what they point to. Raises OSError(ENOMEM).

        Linux: include/linux/slab.h, kmalloc_array().

        Simplified: directories take no memory of the machine, but there are no more than it has free pages.
        """
        if count * POINTER_SIZE > KMALLOC_MAX_SIZE or count > self.damon.kernel.page_alloc.nr_free_pages():
            raise OSError(ENOMEM, f"no memory for {count} directories")

    def set_nr_kdamonds(self, count: int) -> None:
        """New directories, all as they are at first. Linux: damon_sysfs_kdamonds_add_dirs()."""
        if any(one.running or (self.request is not None and self.request[1] is one) for one in self.kdamonds):
            raise OSError(EBUSY, "one of them runs")
        self.kmalloc_array(count)
        self.kdamonds = [DamonSysfsKdamond(self) for _ in range(count)]

    # -- commands ---------------------------------------------------------------------------------------------------

    def handle_cmd(self, cmd: str, kdamond: DamonSysfsKdamond) -> Iterator[None]:
        """Do what was written to a state file. Raises OSError. Linux: damon_sysfs_handle_cmd()."""
        if cmd != "off" and len(kdamond.contexts) != 1:
            raise OSError(EINVAL, "no context")
        if cmd == "on":
            self._turn_on(kdamond)
            return
        if cmd == "off":
            if kdamond.ctx is None:
                raise OSError(EINVAL, "it was never on")
            yield from self.damon.stop(kdamond.ctx)
            return
        if self.request is not None:
            raise OSError(EBUSY, "another command waits")
        if not kdamond.running:
            raise OSError(EINVAL, "it does not run")
        mine = self.request = cmd, kdamond
        yield from self._wait(mine)

    def _wait(self, mine: tuple[str, DamonSysfsKdamond]) -> Iterator[None]:
        threads, clock = self.damon.threads, self.damon.kernel.clock
        assert threads is not None
        while self.request is mine:
            if not threads.sleep_until(clock.now_ns + POLL_NS):
                return
            if self.update is None and self.request is mine and not mine[1].running:
                self.request = None
            yield

    def _turn_on(self, kdamond: DamonSysfsKdamond) -> None:
        """Linux: damon_sysfs_turn_damon_on()."""
        if kdamond.running or (self.request is not None and self.request[1] is kdamond):
            raise OSError(EBUSY, "it runs")
        kdamond.ctx = None
        ctx = kdamond.contexts[0].build()
        self.damon.start(ctx, exclusive=False)
        kdamond.ctx = ctx
        kdamond.next_update_jiffies = self.damon.kernel.clock.jiffies + msecs_to_jiffies(kdamond.refresh_ms)
        self.damon.sync_objects()

    # -- what monitors call -----------------------------------------------------------------------------------------

    def after_wmarks_check(self, ctx: DamonCtx) -> bool:
        """Linux: damon_sysfs_after_wmarks_check()."""
        return self._serve(ctx, active=False, aggregated=False)

    def after_sampling(self, ctx: DamonCtx) -> bool:
        """Linux: damon_sysfs_after_sampling()."""
        self._refresh(ctx)
        return self._serve(ctx, active=True, aggregated=False)

    def after_aggregation(self, ctx: DamonCtx) -> bool:
        """Linux: damon_sysfs_after_aggregation()."""
        return self._serve(ctx, active=True, aggregated=True)

    def before_damos_apply(self, ctx: DamonCtx, region: DamonRegion, scheme: Damos) -> None:
        """Linux: damon_sysfs_before_damos_apply()."""
        if self.update is not None and self.request is not None and self.request[1].ctx is ctx:
            self.update.add(ctx.schemes.index(scheme), region)

    def after_damos_apply(self, ctx: DamonCtx, scheme: Damos, passed: int) -> None:
        """Linux: 7.0, damos_sysfs_populate_region_dir()."""
        if self.update is not None and self.request is not None and self.request[1].ctx is ctx:
            self.update.passed(ctx.schemes.index(scheme), passed)

    def before_terminate(self, ctx: DamonCtx) -> None:
        """Linux: damon_sysfs_before_terminate()."""
        if self.update is not None and self.request is not None and self.request[1].ctx is ctx:
            self.update = None
        if ctx.ops.has_pid:
            ctx.targets.clear()

    def _refresh(self, ctx: DamonCtx) -> None:
        """Bring up to date, now and then, what users would have to ask for.

        Linux: 7.0, damon_sysfs_repeat_call_fn().
        """
        kdamond = next((one for one in self.kdamonds if one.ctx is ctx), None)
        jiffies = self.damon.kernel.clock.jiffies
        if kdamond is None or not kdamond.refresh_ms or jiffies < kdamond.next_update_jiffies:
            return
        kdamond.next_update_jiffies = jiffies + msecs_to_jiffies(kdamond.refresh_ms)
        if self.update is None and len(kdamond.contexts) == 1:
            for cmd in ("update_tuned_intervals", "update_schemes_stats", "update_schemes_effective_quotas"):
                self._do(cmd, kdamond, ctx)

    def _serve(self, ctx: DamonCtx, *, active: bool, aggregated: bool) -> bool:
        """Serve the command that waits for this monitor; True: it must end. Linux: damon_sysfs_cmd_request_callback().

        A commit of what cannot be ends the monitor.
        """
        if self.request is None or self.request[1].ctx is not ctx:
            return False
        cmd, kdamond = self.request
        if cmd == "commit" and not aggregated:
            return False
        if cmd in ("update_schemes_tried_bytes", "update_schemes_tried_regions"):
            if self.update is None:
                self.update = RegionsUpdate(kdamond.schemes, ctx, cmd.endswith("bytes"))
                return False
            if not self.update.mark_finished(self.damon.kernel.clock.jiffies) and active:
                return False
            self.update = None
        self.request = None
        try:
            self._do(cmd, kdamond, ctx)
        except OSError:
            return True
        return False

    def _do(self, cmd: str, kdamond: DamonSysfsKdamond, ctx: DamonCtx) -> None:
        schemes = kdamond.schemes
        if cmd == "update_schemes_stats":
            update_stats(schemes, ctx)
        elif cmd == "update_schemes_effective_quotas":
            update_effective_quotas(schemes, ctx)
        elif cmd == "update_tuned_intervals":
            shown = kdamond.contexts[0]
            shown.sample_us, shown.aggr_us = ctx.attrs.sample_interval, ctx.attrs.aggr_interval
        elif cmd == "clear_schemes_tried_regions":
            clear_regions(schemes, ctx)
        elif cmd in ("commit", "commit_schemes_quota_goals"):
            if len(kdamond.contexts) != 1:
                raise OSError(EINVAL, "no context")
            if cmd == "commit":
                ctx.commit(kdamond.contexts[0].build())
            else:
                set_quota_scores(schemes, ctx)
