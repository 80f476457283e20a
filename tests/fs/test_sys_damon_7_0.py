"""DAMON's files of 7.0 that 6.12 has not: goals of intervals and of quotas, filters that allow, what passes them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.mm.damon_machine import ADMIN, CONTEXT, MB, SCHEME, Worker, read, set_up, stats, turn, write

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

GOAL = CONTEXT + "monitoring_attrs/intervals/intervals_goal/"
INTERVALS = CONTEXT + "monitoring_attrs/intervals/"


@pytest.fixture
def kernel(boot: Callable[..., Kernel]) -> Kernel:
    return boot(ram="128M", cpus=2, seed=1, preset="bare", profile="7.0")


def refused(kernel: Kernel, path: str, value: object) -> str:
    with pytest.raises(OSError) as info:
        write(kernel, path, value)
    return errno.errorcode[info.value.errno or 0]


def all_of_memory(kernel: Kernel, action: str = "stat") -> None:
    """Physical memory is monitored, from its first byte to its last."""
    set_up(kernel, "paddr", action=action)
    write(kernel, CONTEXT + "targets/0/regions/nr_regions", 1)
    write(kernel, CONTEXT + "targets/0/regions/0/end", 128 * MB)


def test_names(kernel: Kernel, boot: Callable[..., Kernel]) -> None:
    """What there is more than in 6.12, and what is taken there."""
    old = boot(ram="128M", cpus=2, seed=1, preset="bare")
    for one in (kernel, old):
        set_up(one, "paddr")
        write(one, SCHEME + "filters/nr_filters", 1)
        write(one, SCHEME + "quotas/goals/nr_goals", 1)
    more = {
        "0/": "refresh_ms",
        CONTEXT + "targets/0/": "obsolete_target",
        INTERVALS: "intervals_goal",
        SCHEME: "core_filters ops_filters",
        SCHEME + "filters/0/": "allow max min",
        SCHEME + "quotas/goals/0/": "nid path",
        SCHEME + "stats/": "max_nr_snapshots nr_snapshots sz_ops_filter_passed",
    }
    for path, names in more.items():
        new, before = (set(one.listdir(ADMIN + path)) for one in (kernel, old))
        assert sorted(new - before) == names.split()
        assert not before - new
    for path, value in (
        ("filters/0/type", "active"), ("filters/0/type", "unmapped"), ("quotas/goals/0/target_metric", "active_mem_bp"),
    ):  # fmt: skip
        write(kernel, SCHEME + path, value)
        assert refused(old, SCHEME + path, value) == "EINVAL"
    assert refused(old, "0/state", "update_tuned_intervals") == "EINVAL"


def test_layers_of_filters(kernel: Kernel) -> None:
    """Those of regions and those of pages each have a directory, and one that takes both."""
    set_up(kernel, "paddr")
    for name, wrong, right in (("core", "anon", "addr"), ("ops", "target", "young")):
        write(kernel, f"{SCHEME}{name}_filters/nr_filters", 1)
        assert refused(kernel, f"{SCHEME}{name}_filters/0/type", wrong) == "EINVAL"
        write(kernel, f"{SCHEME}{name}_filters/0/type", right)
    write(kernel, SCHEME + "ops_filters/0/type", "hugepage_size")
    write(kernel, SCHEME + "ops_filters/0/min", 2)
    assert refused(kernel, "0/state", "on") == "ENOMEM"  # the most is 0


@pytest.mark.parametrize(
    ("kind", "matching", "allow", "passes"),
    [
        ("anon", "Y", "Y", "AnonPages"), ("anon", "N", "N", "AnonPages"), ("anon", "N", "Y", "Cached Buffers"),
        ("anon", "Y", "N", "Cached Buffers"), ("unmapped", "N", "Y", "AnonPages Mapped"),
    ],
)  # fmt: skip
def test_what_passes_filters(kernel: Kernel, kind: str, matching: str, allow: str, passes: str) -> None:
    """Anonymous memory is let through, or kept back, and so is the rest, by what the last filter says."""
    Worker(kernel, 16 * MB, 0, 1 * MB)
    all_of_memory(kernel)
    write(kernel, SCHEME + "ops_filters/nr_filters", 1)
    for name, value in (("type", kind), ("matching", matching), ("allow", allow)):
        write(kernel, f"{SCHEME}ops_filters/0/{name}", value)
    write(kernel, SCHEME + "stats/max_nr_snapshots", 1)
    turn(kernel, "on")
    kernel.run_for(1.0)
    found = stats(kernel)
    meminfo = dict(line.split(":") for line in kernel.read("/proc/meminfo").decode().splitlines())
    wanted = sum(int(meminfo[row].split()[0]) << 10 for row in passes.split())
    on_their_way = 2 * 31 << 12  # pages that each CPU has not put on the lists yet
    assert wanted >= found["sz_ops_filter_passed"] >= wanted - on_their_way
    assert found["nr_snapshots"] == 1
    assert found["nr_applied"] == 0


def test_intervals_are_tuned(kernel: Kernel) -> None:
    """Nothing is accessed: intervals double until they are as long as they may be, and no further."""
    task = kernel.spawn("sleeper")
    addr = task.mmap("8M")
    task.touch(addr, "8M", write=True)
    set_up(kernel, "vaddr", task.pid)
    for name, value in (("access_bp", 400), ("aggrs", 2), ("min_sample_us", 5_000), ("max_sample_us", 12_000)):
        write(kernel, GOAL + name, value)
    write(kernel, "0/refresh_ms", 100)
    turn(kernel, "on")
    kernel.run_for(0.45)
    assert read(kernel, INTERVALS + "sample_us") == "10000"
    assert read(kernel, INTERVALS + "aggr_us") == "200000"
    write(kernel, "0/refresh_ms", 0)
    kernel.run_for(3.0)
    assert read(kernel, INTERVALS + "sample_us") == "10000"
    turn(kernel, "update_tuned_intervals")
    assert read(kernel, INTERVALS + "sample_us") == "12000"
    assert int(read(kernel, SCHEME + "stats/nr_tried")) > 0  # brought up to date without being asked


def test_a_sample_interval_outside_its_goal(kernel: Kernel) -> None:
    set_up(kernel, "paddr")
    write(kernel, GOAL + "aggrs", 1)
    write(kernel, GOAL + "max_sample_us", 4_000)
    assert refused(kernel, "0/state", "on") == "EINVAL"


def test_an_obsolete_target(kernel: Kernel) -> None:
    """It is not monitored any more after a commit."""
    tasks = [kernel.spawn(name) for name in ("one", "two")]
    for task in tasks:
        task.touch(task.mmap("4M"), "4M", write=True)
    set_up(kernel, "vaddr", tasks[0].pid)
    write(kernel, CONTEXT + "targets/nr_targets", 2)
    for number, task in enumerate(tasks):
        write(kernel, f"{CONTEXT}targets/{number}/pid_target", task.pid)
    turn(kernel, "on")
    kernel.run_for(0.3)
    write(kernel, CONTEXT + "targets/0/obsolete_target", "Y")
    assert read(kernel, CONTEXT + "targets/0/obsolete_target") == "Y"
    turn(kernel, "commit")
    kernel.run_for(0.3)
    context = kernel.damon.sysfs.contexts[0]
    assert [target.task for target in context.targets] == [tasks[1]]


@pytest.mark.parametrize(
    ("metric", "value"),
    [("node_mem_used_bp", 30_000), ("node_mem_free_bp", 1), ("active_mem_bp", 30_000), ("inactive_mem_bp", 1)],
)
def test_goals_of_quotas(kernel: Kernel, metric: str, value: int) -> None:
    """A quota grows while its goal is not reached, and is as small as can be when it is reached twice."""
    task = kernel.spawn("hog")
    task.touch(task.mmap("16M"), "16M", write=True)
    all_of_memory(kernel)
    write(kernel, SCHEME + "quotas/goals/nr_goals", 1)
    write(kernel, SCHEME + "quotas/goals/0/target_metric", metric)
    write(kernel, SCHEME + "quotas/goals/0/target_value", value)
    turn(kernel, "on")
    kernel.run_for(2.0)
    turn(kernel, "update_schemes_effective_quotas")
    quota = int(read(kernel, SCHEME + "quotas/effective_bytes"))
    assert quota > 1000 if value > 1 else quota == 1


@pytest.mark.parametrize(("metric", "grows"), [("node_mem_used_bp", True), ("node_mem_free_bp", False)])
@pytest.mark.parametrize("nid", [-1, 1, 2_000_000_000])
def test_a_node_that_is_not_there(kernel: Kernel, nid: int, metric: str, grows: bool) -> None:
    """Nothing of it is used, all of it free, so the one goal is never reached and the other always is."""
    all_of_memory(kernel)
    write(kernel, SCHEME + "quotas/goals/nr_goals", 1)
    for name, value in (("target_metric", metric), ("target_value", 5_000), ("nid", nid)):
        write(kernel, f"{SCHEME}quotas/goals/0/{name}", value)
    turn(kernel, "on")
    kernel.run_for(2.0)
    turn(kernel, "update_schemes_effective_quotas")
    assert (int(read(kernel, SCHEME + "quotas/effective_bytes")) > 1) == grows


def test_a_cgroup_that_is_not_there(kernel: Kernel) -> None:
    set_up(kernel, "paddr")
    write(kernel, SCHEME + "quotas/goals/nr_goals", 1)
    goal = SCHEME + "quotas/goals/0/"
    write(kernel, goal + "target_metric", "node_memcg_used_bp")
    write(kernel, goal + "target_value", 1)
    write(kernel, goal + "path", "/nowhere")
    assert refused(kernel, "0/state", "on") == "ENOMEM"


def test_damon_reclaim_reclaims(kernel: Kernel) -> None:
    """Unlike 6.12's, whose context has no scheme once it has taken over the parameters."""
    parameters = "/sys/module/damon_reclaim/parameters/"
    for name, value in (("min_age", 100_000), ("wmarks_high", 1000), ("wmarks_mid", 990), ("wmarks_low", 0)):
        kernel.write(parameters + name, f"{value}\n")
    kernel.create_file("/data/log", 24 * MB)
    task = kernel.spawn("reader")
    task.read("/data/log", 0, 24 * MB)
    kernel.write(parameters + "enabled", "Y")
    kernel.run_for(3.0)
    assert int(kernel.read(parameters + "bytes_reclaimed_regions")) > 8 * MB
    kernel.check()


def test_parameters_of_damon_lru_sort(kernel: Kernel) -> None:
    parameters = "/sys/module/damon_lru_sort/parameters/"
    assert [kernel.read(parameters + name) for name in ("active_mem_bp", "filter_young_pages")] == [b"0\n", b"N\n"]
    wanted = {"active_mem_bp": "4000", "filter_young_pages": "Y", "autotune_monitoring_intervals": "Y"}
    marks = {"wmarks_high": "1000", "wmarks_mid": "990", "wmarks_low": "0"}
    for name, value in (wanted | marks).items():
        kernel.write(parameters + name, value)
    kernel.write(parameters + "enabled", "Y")
    kernel.run_for(1.0)
    hot, cold = kernel.damon.lru_sort.ctx.schemes
    assert (hot.quota.goals[0].target_value, cold.quota.goals[0].target_value) == (4000, 6002)
    assert not hot.filters[0].matching and cold.filters[0].matching
    assert kernel.damon.lru_sort.ctx.attrs.sample_interval > 5_000  # it is tuned
    kernel.check()
