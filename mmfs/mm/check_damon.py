"""The invariants of DAMON: regions of a target, threads, and objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.mm.damon.core import DAMON_MIN_REGION

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.damon.core import DamonCtx


def _same(what: str, left: object, right: object) -> None:
    if left != right:
        raise AssertionError(f"{what}: {left} is not {right}")


def check_damon(kernel: Kernel) -> None:
    """All of it."""
    damon = kernel.damon
    for ctx in damon.running:
        _check_ctx(kernel, ctx)
    _same("contexts that run alone", damon.exclusive and len(damon.running) > 1, False)
    threads = {pid for pid, task in kernel.tasks.items() if task.is_kthread and task.comm.startswith("kdamond.")}
    _same("threads of monitors", {ctx.kdamond.task.pid for ctx in damon.running if ctx.kdamond}, threads)
    _same("objects of regions", damon.nr_objects, damon.nr_regions)
    if damon.nr_objects and len(kernel.slab.counted.get(kernel.slab["damon_region"].name, ())) < damon.nr_objects:
        raise AssertionError("damon_region: fewer objects than regions")
    for ctx in (*damon.sysfs.contexts, damon.reclaim.ctx, damon.lru_sort.ctx):
        _same("a context runs", ctx.kdamond is not None, ctx in damon.running)


def _check_ctx(kernel: Kernel, ctx: DamonCtx) -> None:
    """Regions follow each other, and what they count is possible."""
    kdamond = ctx.kdamond
    if kdamond is None or kdamond.ctx is not ctx or kdamond.timer is None or not kdamond.timer.pending:
        raise AssertionError("a monitor runs that never wakes")
    for target in ctx.targets:
        last = 0
        for region in target.regions:
            if not last <= region.start < region.end or (region.start | region.end) % DAMON_MIN_REGION:
                raise AssertionError(f"region {region.start:#x}-{region.end:#x} behind {last:#x}")
            last = region.end
            if region.nr_accesses > ctx.passed_sample_intervals:
                raise AssertionError(f"{region.nr_accesses} accesses in {ctx.passed_sample_intervals} samples")
