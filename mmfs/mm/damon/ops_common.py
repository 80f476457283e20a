"""What operations of all kinds of addresses have in common.

Linux: mm/damon/ops-common.c; include/linux/damon.h, struct damon_operations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mmfs.mm.damon.schemes import DAMOS_MAX_SCORE, Damos, DamosAction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.mm.damon.core import Damon, DamonCtx, DamonRegion, DamonTarget

MAX_SUBSCORE: Final = 100
MAX_AGE_IN_LOG: Final = 32


class DamonOperations(ABC):
    """How memory of a kind is sampled, and what schemes do with it."""

    name: ClassVar[str]
    has_pid: ClassVar[bool]
    """Whether a target is a process. Linux: damon_target_has_pid()."""
    scores: ClassVar[dict[DamosAction, bool]]
    """For which actions hot regions (True) or cold ones (False) come first."""

    def __init__(self, damon: Damon) -> None:
        self.damon = damon
        self.loops = damon.loops

    def init(self, ctx: DamonCtx) -> None:
        """Before the first sample: nothing, unless it is to be found out what to monitor."""
        return

    def update(self, ctx: DamonCtx) -> None:
        """Now and then: fit targets to what there is, if that changes."""
        return

    def any_target_valid(self, ctx: DamonCtx) -> bool:
        """Whether there is still anything to monitor."""
        return True

    @abstractmethod
    def mkold(self, target: DamonTarget, addresses: NDArray[np.int64]) -> None:
        """Prepare samples of a target."""

    @abstractmethod
    def young(self, target: DamonTarget, addresses: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Set ``out`` to whether they were accessed."""

    @abstractmethod
    def apply_scheme(self, target: DamonTarget, region: DamonRegion, scheme: Damos) -> tuple[int, int]:
        """Do what a scheme says with a region; to how many bytes it was done, how many filters of pages let through."""

    def prepare_access_checks(self, ctx: DamonCtx) -> None:
        """Sample a page of each region. Linux: damon_va_prepare_access_checks()."""
        rand = self.damon.rand
        for target in ctx.targets:
            addresses = [rand(region.start, region.end) for region in target.regions]
            target.samples = np.array(addresses, np.uint64).astype(np.int64)
            self.mkold(target, target.samples)

    def check_accesses(self, ctx: DamonCtx) -> int:
        """Count the samples that were accessed; the most of any region. Linux: damon_va_check_accesses()."""
        window, most = ctx.attrs.max_nr_accesses if ctx.attrs.sample_interval else 1, 0
        for target in ctx.targets:
            accessed = np.zeros(len(target.regions), np.uint8)
            self.young(target, target.samples, accessed)
            for region, young in zip(target.regions, accessed.tolist(), strict=True):
                if not (young or region.nr_accesses_bp or region.last_nr_accesses):
                    continue  # of most regions all is 0
                moving = region.nr_accesses_bp - region.last_nr_accesses * 10000 // window
                region.nr_accesses_bp = (moving + young * 10000) & 0xFFFF_FFFF
                region.nr_accesses += young
                most = max(most, region.nr_accesses)
        return most

    def scheme_score(self, ctx: DamonCtx, region: DamonRegion, scheme: Damos) -> int:
        """How much a region deserves what a scheme does."""
        hot_first = self.scores.get(scheme.action)
        if hot_first is None:
            return DAMOS_MAX_SCORE
        hotness = hot_score(ctx, region, scheme)
        return hotness if hot_first else DAMOS_MAX_SCORE - hotness


def hot_score(ctx: DamonCtx, region: DamonRegion, scheme: Damos) -> int:
    """How hot a region is, by weights of how often and how long. Linux: damon_hot_score()."""
    weight, age_weight = scheme.quota.weight_nr_accesses, scheme.quota.weight_age
    often = region.nr_accesses_bp // 10000 * MAX_SUBSCORE // ctx.attrs.max_nr_accesses
    age = min((region.age * ctx.attrs.aggr_interval // 1_000_000).bit_length(), MAX_AGE_IN_LOG)
    if often == 0:
        age = -age
    age_score = (age + MAX_AGE_IN_LOG) * MAX_SUBSCORE // MAX_AGE_IN_LOG // 2
    hotness = weight * often + age_weight * age_score
    if weight + age_weight:
        hotness //= weight + age_weight
    return max(min(hotness * DAMOS_MAX_SCORE // MAX_SUBSCORE, DAMOS_MAX_SCORE), 0)
