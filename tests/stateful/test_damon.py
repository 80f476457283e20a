"""Monitors that come, change and go, with schemes of all kinds, under what SwappingMachine's programs do.

Every step ends in `kernel.check()`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import initialize, precondition, rule

from mmfs.mm.damon.schemes import DamosAction
from tests.stateful.test_machine import EXAMPLES, SETTINGS, Machine, SwappingMachine

ADMIN = "/sys/kernel/mm/damon/admin/kdamonds/"
COMMANDS = st.sampled_from([
    "on", "on", "off", "commit", "commit_schemes_quota_goals", "update_schemes_stats", "update_schemes_tried_bytes",
    "update_schemes_tried_regions", "clear_schemes_tried_regions", "update_schemes_effective_quotas",
])  # fmt: skip
FILTERS = st.sampled_from(["", "anon", "memcg", "young", "addr", "target"])


class DamonMachine(SwappingMachine):
    """Two kdamonds, each with a context, a target and a scheme, and the modules."""

    options: ClassVar[dict[str, Any]] = {"ram": "96M", "cpus": 2, "nodes": 2, "swap": "32M"}

    @initialize(seed=st.integers(0, 3))
    def boot(self, seed: int) -> None:
        super().boot(seed)
        self.set("nr_kdamonds", 2)
        for number in range(2):
            self.set(f"{number}/contexts/nr_contexts", 1)
            self.set(f"{number}/contexts/0/targets/nr_targets", 1)
            self.set(f"{number}/contexts/0/schemes/nr_schemes", 1)
            for name in ("sz", "nr_accesses", "age"):
                self.set(f"{number}/contexts/0/schemes/0/access_pattern/{name}/max", (1 << 64) - 1)

    def set(self, path: str, value: object) -> None:
        Machine.call(self, self.kernel.write, ADMIN + path, str(value))

    @precondition(Machine.alive)
    @rule(data=st.data(), number=st.integers(0, 1), ops=st.sampled_from(["vaddr", "fvaddr", "paddr"]))
    def aim(self, data: st.DataObject, number: int, ops: str) -> None:
        """What the next start or commit monitors."""
        context = f"{number}/contexts/0/"
        self.set(context + "operations", ops)
        task = self.task(data)
        self.set(context + "targets/0/pid_target", task.pid)
        self.set(context + "targets/0/regions/nr_regions", int(ops != "vaddr"))
        start, end = 0, self.kernel.max_pfn << 12
        if ops == "fvaddr":
            start = task.mm.mmap[0].vm_start
            end = start + (4 << 20)
        self.set(context + "targets/0/regions/0/start", start)
        self.set(context + "targets/0/regions/0/end", end)
        self.set(context + "monitoring_attrs/intervals/update_us", data.draw(st.sampled_from([100_000, 10_000_000])))

    @rule(
        data=st.data(), number=st.integers(0, 1), action=st.sampled_from([one.name.lower() for one in DamosAction]),
        idle=st.booleans(), quota=st.sampled_from([0, 4096, 100_000, 4 << 20]), ms=st.sampled_from([0, 1]),
        kind=FILTERS, matching=st.booleans(),
    )  # fmt: skip
    def scheme(self, data: st.DataObject, number: int, action: str, idle: bool, quota: int, ms: int, kind: str,
               matching: bool) -> None:  # fmt: skip
        """What it does then."""
        scheme = f"{number}/contexts/0/schemes/0/"
        self.set(scheme + "action", action)
        self.set(scheme + "target_nid", data.draw(st.integers(-1, 2)))
        self.set(scheme + "access_pattern/nr_accesses/max", 0 if idle else 1000)
        self.set(scheme + "quotas/bytes", quota)
        self.set(scheme + "quotas/ms", ms)
        self.set(scheme + "quotas/reset_interval_ms", data.draw(st.sampled_from([0, 50, 1000])))
        self.set(scheme + "quotas/weights/age_permil", data.draw(st.sampled_from([0, 1000])))
        self.set(scheme + "filters/nr_filters", int(kind != ""))
        self.set(scheme + "filters/0/type", kind)
        self.set(scheme + "filters/0/matching", "NY"[matching])
        self.set(scheme + "filters/0/memcg_path", "/")
        self.set(scheme + "filters/0/addr_start", 8 << 20)
        self.set(scheme + "filters/0/addr_end", data.draw(st.sampled_from([9 << 20, 1 << 47])))

    @rule(number=st.integers(0, 1), command=COMMANDS, seconds=st.sampled_from([0, 0.002, 0.3]))
    def command(self, number: int, command: str, seconds: float) -> None:
        """Have it done, and time pass."""
        self.set(f"{number}/state", command)
        self.kernel.run_for(seconds)
        self.keep_usable()

    @rule(module=st.sampled_from(["reclaim", "lru_sort"]), enabled=st.booleans(), commit=st.booleans())
    def module(self, module: str, enabled: bool, commit: bool) -> None:
        """damon_reclaim or damon_lru_sort, with watermarks that let it work always."""
        base = f"/sys/module/damon_{module}/parameters/"
        for name, value in (("wmarks_high", 1000), ("wmarks_low", 0), ("commit_inputs", "NY"[commit]),
                            ("enabled", "NY"[enabled])):  # fmt: skip
            Machine.call(self, self.kernel.write, base + name, str(value))


TestDamon = pytest.mark.stateful(DamonMachine.TestCase)
TestDamon.settings = settings(SETTINGS, max_examples=max(EXAMPLES // 4, 1))
