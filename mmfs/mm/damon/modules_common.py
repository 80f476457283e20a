"""What damon_reclaim and damon_lru_sort have in common: parameters, and a monitor of physical memory made of them.

Linux: mm/damon/modules-common.c, modules-common.h.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from errno import EINVAL
from typing import TYPE_CHECKING, ClassVar

from mmfs.mm.damon.core import DamonAttrs, DamonTarget
from mmfs.mm.damon.schemes import Damos, DamosStat, DamosWatermarks, DamosWmarkMetric

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.damon.core import Damon, DamonCtx, DamonRegion

ATTRS = {"sample_interval": 5_000, "aggr_interval": 100_000, "min_nr_regions": 10, "max_nr_regions": 1_000}


class DamonModule(ABC):
    """A built-in module: ``params`` by name, ``stats`` by ``stat_names``."""

    defaults: ClassVar[dict[str, int | bool]]
    newer: ClassVar[frozenset[str]] = frozenset()
    """Parameters that came after 6.12."""
    stat_names: ClassVar[tuple[str, ...]]
    """Of each statistic: what was tried, what came of it, what there was too much of."""

    def __init__(self, damon: Damon) -> None:
        self.damon = damon
        self.params: dict[str, int | bool] = {**self.defaults, "commit_inputs": False}
        self.stats = {name: DamosStat() for name in self.stat_names}
        self.ctx = self.new_ctx()
        self.ctx.callback = self

    def new_ctx(self) -> DamonCtx:
        """Linux: damon_modules_new_paddr_ctx_target()."""
        ctx = self.damon.new_ctx(next(ops for ops in self.damon.operations if ops.name == "paddr"))
        ctx.targets.append(DamonTarget())
        return ctx

    @property
    def kernel(self) -> Kernel:
        """Whose memory is monitored."""
        return self.damon.kernel

    @property
    def attrs(self) -> DamonAttrs:
        """As the parameters say."""
        sample, aggr, least, most = (int(self.params[name]) for name in ATTRS)
        return DamonAttrs(sample, aggr, 0, least, most)

    @property
    def wmarks(self) -> DamosWatermarks:
        """As the parameters say, by free memory."""
        interval, high, mid, low = (int(self.params[f"wmarks_{name}"]) for name in ("interval", "high", "mid", "low"))
        return DamosWatermarks(DamosWmarkMetric.FREE_MEM_RATE, interval, high, mid, low)

    def set_region(self, ctx: DamonCtx) -> None:
        """What is monitored: as the parameters say, or the largest range of memory, which they say then.

        Raises OSError(EINVAL). Linux: damon_set_region_biggest_system_ram_default().
        """
        start, end = int(self.params["monitor_region_start"]), int(self.params["monitor_region_end"])
        if start > end:
            raise OSError(EINVAL, "it ends before it begins")
        if not start and not end:
            start, end = self.damon.system_ram()
            self.params["monitor_region_start"], self.params["monitor_region_end"] = start, end
        ctx.targets[0].set_regions([(start, end)])

    @abstractmethod
    def apply_parameters(self) -> None:
        """Make the context what the parameters say. Raises OSError."""

    def stat_of(self, scheme: Damos) -> DamosStat:
        """Where is shown what a scheme has done."""
        return self.stats[self.stat_names[0]]

    @property
    def enabled(self) -> bool:
        """Whether it runs."""
        return self.ctx.kdamond is not None

    @property
    def kdamond_pid(self) -> int:
        """Of its thread, or -1."""
        return -1 if self.ctx.kdamond is None else self.ctx.kdamond.task.pid

    def turn(self, on: bool) -> Iterator[None]:
        """Linux: damon_reclaim_turn()."""
        if on == self.enabled:
            return
        if not on:
            yield from self.damon.stop(self.ctx)
            return
        try:
            self.apply_parameters()
            self.damon.start(self.ctx, exclusive=True)
        finally:
            self.damon.sync_objects()

    # -- what the monitor calls -------------------------------------------------------------------------------------

    def _commit_inputs(self) -> bool:
        """Linux: damon_reclaim_handle_commit_inputs()."""
        if not self.params["commit_inputs"]:
            return False
        self.params["commit_inputs"] = False
        try:
            self.apply_parameters()
        except OSError:
            return True
        return False

    def after_wmarks_check(self, ctx: DamonCtx) -> bool:
        """It rests, but listens."""
        return self._commit_inputs()

    def after_sampling(self, ctx: DamonCtx) -> bool:
        """Nothing to do."""
        return False

    def after_aggregation(self, ctx: DamonCtx) -> bool:
        """Statistics are brought up to date."""
        for scheme in ctx.schemes:
            vars(self.stat_of(scheme)).update(vars(scheme.stat))
        return self._commit_inputs()

    def before_damos_apply(self, ctx: DamonCtx, region: DamonRegion, scheme: Damos) -> None:
        """Nothing to do."""
        return

    def after_damos_apply(self, ctx: DamonCtx, scheme: Damos, passed: int) -> None:
        """Nothing to do."""
        return

    def before_terminate(self, ctx: DamonCtx) -> None:
        """Nothing to do."""
        return
