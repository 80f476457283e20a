"""/sys/kernel/mm/damon and the parameters of damon_reclaim and damon_lru_sort, as a real 6.12 shows and takes them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

import mmfs
from tests.mm.damon_machine import ADMIN, CONTEXT, MB, SCHEME, Worker, read, set_up, stats, tried_regions, turn, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmfs.kernel.kernel import Kernel

RECLAIM, LRU_SORT = (f"/sys/module/damon_{name}/parameters/" for name in ("reclaim", "lru_sort"))

# Mode, path, content of a scheme, a target, a filter, a goal and a region each, as Debian's 6.12 makes them.
TREE = """
400 0/contexts/0/avail_operations vaddr fvaddr paddr
600 0/contexts/0/monitoring_attrs/intervals/aggr_us 100000
600 0/contexts/0/monitoring_attrs/intervals/sample_us 5000
600 0/contexts/0/monitoring_attrs/intervals/update_us 60000000
600 0/contexts/0/monitoring_attrs/nr_regions/max 1000
600 0/contexts/0/monitoring_attrs/nr_regions/min 10
600 0/contexts/0/operations vaddr
600 0/contexts/0/schemes/0/access_pattern/age/max 0
600 0/contexts/0/schemes/0/access_pattern/age/min 0
600 0/contexts/0/schemes/0/access_pattern/nr_accesses/max 0
600 0/contexts/0/schemes/0/access_pattern/nr_accesses/min 0
600 0/contexts/0/schemes/0/access_pattern/sz/max 0
600 0/contexts/0/schemes/0/access_pattern/sz/min 0
600 0/contexts/0/schemes/0/action stat
600 0/contexts/0/schemes/0/apply_interval_us 0
600 0/contexts/0/schemes/0/filters/0/addr_end 0
600 0/contexts/0/schemes/0/filters/0/addr_start 0
600 0/contexts/0/schemes/0/filters/0/damon_target_idx 0
600 0/contexts/0/schemes/0/filters/0/matching N
600 0/contexts/0/schemes/0/filters/0/memcg_path
600 0/contexts/0/schemes/0/filters/0/type anon
600 0/contexts/0/schemes/0/filters/nr_filters 1
600 0/contexts/0/schemes/0/quotas/bytes 0
400 0/contexts/0/schemes/0/quotas/effective_bytes 0
600 0/contexts/0/schemes/0/quotas/goals/0/current_value 0
600 0/contexts/0/schemes/0/quotas/goals/0/target_metric user_input
600 0/contexts/0/schemes/0/quotas/goals/0/target_value 0
600 0/contexts/0/schemes/0/quotas/goals/nr_goals 1
600 0/contexts/0/schemes/0/quotas/ms 0
600 0/contexts/0/schemes/0/quotas/reset_interval_ms 0
600 0/contexts/0/schemes/0/quotas/weights/age_permil 0
600 0/contexts/0/schemes/0/quotas/weights/nr_accesses_permil 0
600 0/contexts/0/schemes/0/quotas/weights/sz_permil 0
400 0/contexts/0/schemes/0/stats/nr_applied 0
400 0/contexts/0/schemes/0/stats/nr_tried 0
400 0/contexts/0/schemes/0/stats/qt_exceeds 0
400 0/contexts/0/schemes/0/stats/sz_applied 0
400 0/contexts/0/schemes/0/stats/sz_tried 0
600 0/contexts/0/schemes/0/target_nid -1
400 0/contexts/0/schemes/0/tried_regions/total_bytes 0
600 0/contexts/0/schemes/0/watermarks/high 0
600 0/contexts/0/schemes/0/watermarks/interval_us 0
600 0/contexts/0/schemes/0/watermarks/low 0
600 0/contexts/0/schemes/0/watermarks/metric none
600 0/contexts/0/schemes/0/watermarks/mid 0
600 0/contexts/0/schemes/nr_schemes 1
600 0/contexts/0/targets/0/pid_target 0
600 0/contexts/0/targets/0/regions/0/end 0
600 0/contexts/0/targets/0/regions/0/start 0
600 0/contexts/0/targets/0/regions/nr_regions 1
600 0/contexts/0/targets/nr_targets 1
600 0/contexts/nr_contexts 1
400 0/pid -1
600 0/state off
600 nr_kdamonds 1
""".strip().splitlines()

PARAMETERS = {
    RECLAIM: """aggr_interval 100000,bytes_reclaim_tried_regions 0,bytes_reclaimed_regions 0,commit_inputs N,enabled N,
        kdamond_pid -1,max_nr_regions 1000,min_age 120000000,min_nr_regions 10,monitor_region_end 0,
        monitor_region_start 0,nr_quota_exceeds 0,nr_reclaim_tried_regions 0,nr_reclaimed_regions 0,
        quota_autotune_feedback 0,quota_mem_pressure_us 0,quota_ms 10,quota_reset_interval_ms 1000,
        quota_sz 134217728,sample_interval 5000,skip_anon N,wmarks_high 500,wmarks_interval 5000000,wmarks_low 200,
        wmarks_mid 400""",
    LRU_SORT: """aggr_interval 100000,bytes_lru_sort_tried_cold_regions 0,bytes_lru_sort_tried_hot_regions 0,
        bytes_lru_sorted_cold_regions 0,bytes_lru_sorted_hot_regions 0,cold_min_age 120000000,commit_inputs N,
        enabled N,hot_thres_access_freq 500,kdamond_pid -1,max_nr_regions 1000,min_nr_regions 10,
        monitor_region_end 0,monitor_region_start 0,nr_cold_quota_exceeds 0,nr_hot_quota_exceeds 0,
        nr_lru_sort_tried_cold_regions 0,nr_lru_sort_tried_hot_regions 0,nr_lru_sorted_cold_regions 0,
        nr_lru_sorted_hot_regions 0,quota_ms 10,quota_reset_interval_ms 1000,sample_interval 5000,wmarks_high 200,
        wmarks_interval 5000000,wmarks_low 50,wmarks_mid 150""",
}


def refused(kernel: Kernel, path: str, value: object, number: int) -> None:
    with pytest.raises(OSError) as caught:
        kernel.write(path, f"{value}\n")
    assert caught.value.errno == number, path


def files(kernel: Kernel, top: str) -> list[str]:
    found = []
    for name in kernel.listdir(top):
        path = f"{top}/{name}"
        if kernel.stat(path).st_mode & 0o170000 == 0o040000:
            assert kernel.stat(path).st_mode & 0o7777 == 0o755
            found += files(kernel, path)
        else:
            found.append(path)
    return found


@pytest.fixture
def tree(kernel: Kernel) -> Kernel:
    """A machine with one of all directories."""
    for path in ("nr_kdamonds", "0/contexts/nr_contexts", CONTEXT + "targets/nr_targets",
                 CONTEXT + "targets/0/regions/nr_regions", CONTEXT + "schemes/nr_schemes",
                 SCHEME + "filters/nr_filters", SCHEME + "quotas/goals/nr_goals"):  # fmt: skip
        assert int(read(kernel, path)) == 0
        write(kernel, path, 1)
    return kernel


def test_the_tree(tree: Kernel) -> None:
    found = []
    for path in sorted(files(tree, ADMIN.rstrip("/"))):
        content = tree.read(path).decode()
        assert content.endswith("\n")
        line = f"{tree.stat(path).st_mode & 0o777:o} {path.removeprefix(ADMIN)} {' '.join(content.split())}"
        found.append(line.rstrip())
        assert tree.stat(path).st_size == 4096
    assert found == TREE


@pytest.mark.parametrize(
    ("path", "value", "number"),
    [
        ("nr_kdamonds", -1, errno.EINVAL), ("nr_kdamonds", "x", errno.EINVAL),
        ("0/contexts/nr_contexts", 2, errno.EINVAL), ("0/contexts/nr_contexts", -1, errno.EINVAL),
        ("0/state", "foo", errno.EINVAL), ("0/state", "off", errno.EINVAL), ("0/state", "commit", errno.EINVAL),
        ("0/state", "update_schemes_stats", errno.EINVAL), (CONTEXT + "operations", "xaddr", errno.EINVAL),
        (CONTEXT + "targets/0/pid_target", "x", errno.EINVAL),
        (CONTEXT + "targets/0/pid_target", 99999999999, errno.EINVAL),
        (SCHEME + "quotas/ms", -1, errno.EINVAL), (SCHEME + "quotas/ms", 10**20 - 1, errno.EINVAL),
        (SCHEME + "apply_interval_us", 10**20 - 1, errno.ERANGE), (SCHEME + "action", "", errno.EINVAL),
        (SCHEME + "filters/0/type", "memcgx", errno.EINVAL), (SCHEME + "filters/0/matching", 2, errno.EINVAL),
        (SCHEME + "quotas/weights/sz_permil", 1 << 32, errno.ERANGE),
        (SCHEME + "quotas/weights/sz_permil", -1, errno.EINVAL),
    ],
)  # fmt: skip
def test_what_is_refused(tree: Kernel, path: str, value: object, number: int) -> None:
    refused(tree, ADMIN + path, value, number)


def test_what_is_taken(tree: Kernel) -> None:
    for path, value, shown in (
        (SCHEME + "quotas/ms", "0x10", "16"), (SCHEME + "target_nid", "-2", "-2"),
        (SCHEME + "filters/0/memcg_path", "/foo", "/foo\n"), (SCHEME + "filters/0/type", "target", "target"),
        (SCHEME + "watermarks/metric", "free_mem_rate", "free_mem_rate"),
        (SCHEME + "quotas/goals/0/target_metric", "some_mem_psi_us", "some_mem_psi_us"),
        (SCHEME + "access_pattern/sz/max", (1 << 64) - 1, str((1 << 64) - 1)),
        (CONTEXT + "targets/0/pid_target", "99999", "99999"), (CONTEXT + "operations", "paddr", "paddr"),
    ):  # fmt: skip
        write(tree, path, value)
        assert read(tree, path) == shown
    write(tree, CONTEXT + "schemes/nr_schemes", 2)
    assert read(tree, SCHEME + "quotas/ms") == "0"  # they begin anew


def test_what_may_not_be_turned_on(tree: Kernel) -> None:
    state, attrs = ADMIN + "0/state", CONTEXT + "monitoring_attrs/"
    write(tree, CONTEXT + "targets/0/pid_target", 99999)
    refused(tree, state, "on", errno.EINVAL)
    write(tree, CONTEXT + "targets/0/pid_target", 1)
    refused(tree, state, "on", errno.EINVAL)  # an empty region
    write(tree, CONTEXT + "targets/0/regions/nr_regions", 0)
    write(tree, SCHEME + "filters/0/type", "memcg")
    write(tree, SCHEME + "filters/0/memcg_path", "/foo")
    refused(tree, state, "on", errno.ENOMEM)  # no such cgroup
    write(tree, SCHEME + "filters/nr_filters", 0)
    write(tree, attrs + "intervals/sample_us", 5_000_000)
    refused(tree, state, "on", errno.EINVAL)
    write(tree, attrs + "intervals/sample_us", 5_000)
    for least in (2, 2000):
        write(tree, attrs + "nr_regions/min", least)
        refused(tree, state, "on", errno.EINVAL)
    write(tree, attrs + "nr_regions/min", 10)
    write(tree, CONTEXT + "operations", "paddr")
    write(tree, CONTEXT + "targets/nr_targets", 2)
    refused(tree, state, "on", errno.EINVAL)
    write(tree, CONTEXT + "targets/nr_targets", 1)
    turn(tree, "on")
    assert read(tree, "0/state") == "on"
    refused(tree, state, "on", errno.EBUSY)
    refused(tree, ADMIN + "nr_kdamonds", 0, errno.EBUSY)
    for module in (RECLAIM, LRU_SORT):
        refused(tree, module + "enabled", "Y", errno.EBUSY)
    turn(tree, "off")
    refused(tree, state, "off", errno.EPERM)
    write(tree, "nr_kdamonds", 0)


def test_a_bad_commit_ends_the_monitor_and_a_good_one_does_not(tree: Kernel) -> None:
    write(tree, CONTEXT + "targets/0/pid_target", 1)
    write(tree, CONTEXT + "targets/0/regions/nr_regions", 0)
    turn(tree, "on")
    write(tree, CONTEXT + "monitoring_attrs/intervals/sample_us", 10_000)
    turn(tree, "commit")
    assert tree.damon.running[0].attrs.sample_interval == 10_000
    write(tree, CONTEXT + "schemes/nr_schemes", 0)
    turn(tree, "update_schemes_stats")
    turn(tree, "update_schemes_tried_regions")
    turn(tree, "commit_schemes_quota_goals")
    write(tree, CONTEXT + "monitoring_attrs/intervals/sample_us", 5_000_000)
    turn(tree, "commit")
    assert read(tree, "0/state") == "off"


def test_tried_regions_come_and_go(kernel: Kernel) -> None:
    worker = Worker(kernel, 16 * MB, 0, 4 * MB)
    set_up(kernel, "vaddr", worker.task.pid)
    turn(kernel, "on")
    kernel.run_for(1)
    first = ADMIN + SCHEME + "tried_regions/0/"
    assert tried_regions(kernel)
    assert {name: kernel.stat(first + name).st_mode & 0o777 for name in kernel.listdir(first)} == dict.fromkeys(
        ("start", "end", "nr_accesses", "age"), 0o400
    )
    turn(kernel, "update_schemes_tried_bytes")
    assert kernel.listdir(ADMIN + SCHEME + "tried_regions") == ["total_bytes"]
    assert int(read(kernel, SCHEME + "tried_regions/total_bytes")) > 16 * MB
    tried_regions(kernel)
    turn(kernel, "clear_schemes_tried_regions")
    assert kernel.listdir(ADMIN + SCHEME + "tried_regions") == ["total_bytes"]
    assert read(kernel, SCHEME + "tried_regions/total_bytes") == "0"


def test_the_lock_is_held_while_regions_are_collected(kernel: Kernel) -> None:
    worker = Worker(kernel, 16 * MB, 0, 4 * MB)
    set_up(kernel, "vaddr", worker.task.pid)
    write(kernel, CONTEXT + "monitoring_attrs/intervals/aggr_us", 500_000)
    turn(kernel, "on")
    kernel.run_for(0.6)
    waiting = kernel.damon.sysfs.handle_cmd("update_schemes_tried_regions", kernel.damon.sysfs.kdamonds[0])
    next(waiting)
    with pytest.raises(OSError, match=rf"\[Errno {errno.EBUSY}\]"):
        read(kernel, "0/state")
    refused(kernel, ADMIN + CONTEXT + "schemes/nr_schemes", 0, errno.EBUSY)
    for _ in waiting:
        kernel.check()
    assert read(kernel, "0/state") == "on"


def test_quota_goals_are_committed_alone(kernel: Kernel) -> None:
    worker = Worker(kernel, 16 * MB, 0, 4 * MB)
    set_up(kernel, "vaddr", worker.task.pid, "pageout")
    write(kernel, SCHEME + "quotas/goals/nr_goals", 1)
    write(kernel, SCHEME + "quotas/goals/0/target_value", 1000)
    write(kernel, SCHEME + "quotas/goals/0/current_value", 100)
    write(kernel, SCHEME + "quotas/reset_interval_ms", 100)
    turn(kernel, "on")
    kernel.run_for(0.5)
    write(kernel, SCHEME + "quotas/goals/0/current_value", 900)
    write(kernel, SCHEME + "action", "stat")
    turn(kernel, "commit_schemes_quota_goals")
    (scheme,) = kernel.damon.running[0].schemes
    assert (scheme.quota.goals[0].current_value, scheme.action.name) == (900, "PAGEOUT")
    turn(kernel, "update_schemes_effective_quotas")
    assert int(read(kernel, SCHEME + "quotas/effective_bytes")) > 0


def test_no_event_can_be_traced(kernel: Kernel) -> None:
    """Where tools of DAMON look for its tracepoints."""
    path = "/sys/kernel/tracing/available_events"
    assert (kernel.read(path), kernel.stat(path).st_mode & 0o777) == (b"", 0o440)
    assert kernel.stat("/sys/kernel/tracing").st_mode & 0o777 == 0o700


# -- modules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [RECLAIM, LRU_SORT])
def test_parameters(kernel: Kernel, module: str) -> None:
    found = {name: kernel.read(module + name).decode() for name in kernel.listdir(module)}
    assert found == {name: f"{value}\n" for name, value in map(str.split, PARAMETERS[module].split(","))}
    read_only = [name for name in found if kernel.stat(module + name).st_mode & 0o777 == 0o400]
    assert sorted(read_only) == sorted(name for name in found if name.startswith(("nr_", "bytes_", "kdamond_pid")))
    refused(kernel, module + "enabled", "maybe", errno.EINVAL)
    refused(kernel, module + "quota_ms", "12x", errno.EINVAL)
    kernel.write(module + "quota_ms", "0x20\n")
    assert kernel.read(module + "quota_ms") == b"32\n"
    kernel.write(module + "enabled", "N")
    kernel.write(module + "min_nr_regions", "2")
    refused(kernel, module + "enabled", "Y", errno.EINVAL)
    kernel.write(module + "min_nr_regions", "10")
    kernel.write(module + "monitor_region_start", "5")
    kernel.write(module + "monitor_region_end", "3")
    refused(kernel, module + "enabled", "Y", errno.EINVAL)
    kernel.check()


def enable(kernel: Kernel, module: str, age: str) -> None:
    for name, value in (("wmarks_high", 1000), ("wmarks_mid", 999), ("wmarks_low", 0), (age, 500_000)):
        kernel.write(module + name, str(value))
    kernel.write(module + "enabled", "Y")
    kernel.run_for(3)
    kernel.check()


def test_lru_sort(kernel: Kernel) -> None:
    Worker(kernel, 64 * MB, 0, 16 * MB)
    enable(kernel, LRU_SORT, "cold_min_age")
    pid = int(kernel.read(LRU_SORT + "kdamond_pid"))
    assert kernel.read(f"/proc/{pid}/comm") == b"kdamond.0\n"
    assert int(kernel.read(LRU_SORT + "nr_lru_sort_tried_cold_regions")) > 0
    assert int(kernel.read(LRU_SORT + "bytes_lru_sorted_cold_regions")) > 0
    top = int(kernel.read(LRU_SORT + "monitor_region_end"))
    assert f"{top:08x} : System RAM" in kernel.read("/proc/iomem").decode()
    refused(kernel, RECLAIM + "enabled", "Y", errno.EBUSY)
    set_up(kernel, "paddr")
    refused(kernel, ADMIN + "0/state", "on", errno.EBUSY)
    kernel.write(LRU_SORT + "min_nr_regions", "2")
    kernel.write(LRU_SORT + "commit_inputs", "Y")
    kernel.run_for(1)
    kernel.check()
    assert (kernel.read(LRU_SORT + "enabled"), kernel.read(LRU_SORT + "commit_inputs")) == (b"N\n", b"N\n")
    turn(kernel, "on")


def test_reclaim_monitors_and_reclaims_nothing_as_in_6_12(kernel: Kernel) -> None:
    Worker(kernel, 64 * MB, 0, 16 * MB)
    enable(kernel, RECLAIM, "min_age")
    assert kernel.read(RECLAIM + "enabled") == b"Y\n"
    assert int(kernel.read(RECLAIM + "nr_reclaim_tried_regions")) == 0
    assert kernel.damon.running[0].nr_regions >= 3
    kernel.write(RECLAIM + "enabled", "N")
    kernel.check()
    assert kernel.read(RECLAIM + "kdamond_pid") == b"-1\n"


def test_a_machine_goes_on_from_its_bytes(boot: Callable[..., Kernel]) -> None:
    import pickle

    kernel = boot(ram="1G", seed=3)
    set_up(kernel, "paddr", action="lru_deprio")
    write(kernel, CONTEXT + "targets/0/regions/nr_regions", 1)
    write(kernel, CONTEXT + "targets/0/regions/0/end", 1 << 29)
    turn(kernel, "on")
    kernel.run_for(0.33)
    copy = pickle.loads(pickle.dumps(kernel))
    kernel.run_for(1)
    copy.run_for(1)
    copy.check()
    assert stats(kernel) == stats(copy)
    assert tried_regions(kernel) == tried_regions(copy)


@pytest.mark.parametrize("directory", ["kdamonds/nr_kdamonds", "kdamonds/0/contexts/0/targets/nr_targets"])
def test_more_directories_than_memory_can_hold(directory: str) -> None:
    kernel = mmfs.boot(ram="192M", preset="bare", seed=1)
    top = "/sys/kernel/mm/damon/admin"
    kernel.write(f"{top}/kdamonds/nr_kdamonds", "1")
    kernel.write(f"{top}/kdamonds/0/contexts/nr_contexts", "1")
    for count in (2**31 - 1, 524_289, 100_000):
        with pytest.raises(OSError, match="directories") as raised:
            kernel.write(f"{top}/{directory}", f"{count}")
        assert raised.value.errno == errno.ENOMEM
    kernel.write(f"{top}/{directory}", "20")
    assert kernel.read(f"{top}/{directory}") == b"20\n"
