"""Tiers of memory on machines of several shapes: who demotes to whom, and what is moved, kept and counted."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from mmfs.cli.machine_options import parse_nodes
from mmfs.machine import Machine
from mmfs.mm_types import NodeStatItem, VmEventItem

Boot = Callable[..., Any]
MB = 1 << 20
ENABLED = "/sys/kernel/mm/numa/demotion_enabled"
DRAM = {"memory": "256M", "cpus": 2}
SLOW = {"memory": "256M", "cpus": 0, "slow": True}
SLOWER = {"memory": "256M", "cpus": 0, "latency": 1000, "bandwidth": "8G"}


def vmstat(kernel: Any, path: str = "/proc/vmstat") -> dict[str, int]:
    """The counters of a file."""
    return {name: int(value) for name, value in (line.split() for line in kernel.read(path).decode().splitlines())}


def targets(kernel: Any) -> list[str]:
    """What boot, and what came later, said of targets."""
    lines = [text for *_, text in kernel.printk.records if "Demotion targets" in text]
    return [line.removeprefix("Demotion targets for ") for line in lines]


def tier_nodes(kernel: Any) -> dict[str, str]:
    """The nodes of each tier."""
    top = "/sys/devices/virtual/memory_tiering"
    names = [name for name in kernel.listdir(top) if name.startswith("memory_tier")]
    return {name: kernel.read(f"{top}/{name}/nodelist").decode().strip() for name in names}


def test_one_node_is_one_tier(boot: Boot) -> None:
    kernel = boot(ram="256M", preset="bare")
    assert tier_nodes(kernel) == {"memory_tier4": "0"}
    assert targets(kernel) == ["Node 0: null"]
    kernel.write(ENABLED, "1")
    assert kernel.read(ENABLED) == b"true\n"


def test_nodes_of_which_nothing_is_known_are_alike(boot: Boot) -> None:
    kernel = boot(nodes=[DRAM, {"memory": "256M", "cpus": 0}], preset="bare")
    assert tier_nodes(kernel) == {"memory_tier4": "0-1"}
    assert not [name for name in kernel.listdir("/sys/devices/system/node/node0") if name.startswith("access")]


def test_three_tiers_are_a_chain(boot: Boot) -> None:
    kernel = boot(nodes=[DRAM, SLOWER, SLOW], preset="bare")
    assert tier_nodes(kernel) == {"memory_tier4": "0", "memory_tier45": "2", "memory_tier720": "1"}
    assert targets(kernel) == [
        "Node 0: preferred: 2, fallback: 1-2", "Node 1: null", "Node 2: preferred: 1, fallback: 1",
    ]  # fmt: skip


def test_the_nearest_node_of_the_next_tier(boot: Boot) -> None:
    near = [DRAM | {"distances": [10, 21, 14, 24]}, DRAM | {"distances": [21, 10, 24, 14]}]
    far = [SLOW | {"distances": [14, 24, 10, 26]}, SLOW | {"distances": [24, 14, 26, 10]}]
    kernel = boot(nodes=near + far, preset="bare")
    assert targets(kernel)[:2] == ["Node 0: preferred: 2, fallback: 2-3", "Node 1: preferred: 3, fallback: 2-3"]


def test_targets_of_equal_distance_are_all_used(boot: Boot) -> None:
    kernel = boot(nodes=[DRAM, SLOW, SLOW], preset="bare")
    assert targets(kernel)[0] == "Node 0: preferred: 1-2, fallback: 1-2"
    kernel.write(ENABLED, "1")
    group = kernel_group(kernel)
    hold(kernel, 100)
    kernel.write(f"{group}/memory.reclaim", "60M")
    near, first, second = on_nodes(kernel, group)
    assert near < 50 * MB and first > 5 * MB and second > 5 * MB


def test_dram_that_differs_says_nothing(boot: Boot) -> None:
    """Linux: mt_set_default_dram_perf(), by more than a tenth."""
    kernel = boot(nodes=[DRAM, DRAM | {"latency": 120}, SLOW], preset="bare")
    assert tier_nodes(kernel) == {"memory_tier4": "0-2"}
    assert tier_nodes(boot(nodes=[DRAM, DRAM | {"latency": 105}, SLOW], preset="bare"))["memory_tier4"] == "0-1"


def test_hotplug(boot: Boot) -> None:
    """A node that loses its last memory leaves its tier, which goes with it; what comes back makes one again."""
    later = {"memory": 0, "cpus": 1, "slow": True}
    kernel = boot(nodes=[DRAM, later], preset="bare", maxmem="512M")
    assert tier_nodes(kernel) == {"memory_tier4": "0"} and targets(kernel) == ["Node 0: null"]
    kernel.write("/sys/devices/system/memory/auto_online_blocks", "online_movable")
    kernel.write("/sim/control", "plug 256M node=1")
    assert tier_nodes(kernel) == {"memory_tier4": "0", "memory_tier45": "1"}
    assert targets(kernel)[1:] == ["Node 0: preferred: 1, fallback: 1", "Node 1: null"]
    kernel.check()
    kernel.write("/sim/control", "unplug dimm0")
    assert tier_nodes(kernel) == {"memory_tier4": "0"} and targets(kernel)[3:] == ["Node 0: null"]


# -- demotion ------------------------------------------------------------------------------------------------------


def kernel_group(kernel: Any) -> str:
    """A cgroup that allocates on node 0 only and may not swap."""
    top = "/sys/fs/cgroup"
    kernel.write(f"{top}/cgroup.subtree_control", "+memory +cpuset")
    kernel.mkdir(f"{top}/a")
    kernel.write(f"{top}/a/cpuset.mems", "0")
    return f"{top}/a"


def hold(kernel: Any, megabytes: int) -> tuple[Any, int]:
    """A process of it with so much memory."""
    task = kernel.spawn("hold", cgroup="/a")
    addr = task.mmap(megabytes * MB)
    task.touch(addr, megabytes * MB, write=True)
    return task, addr


def on_nodes(kernel: Any, group: str, name: str = "anon") -> list[int]:
    """A row of memory.numa_stat by node."""
    text = kernel.read(f"{group}/memory.numa_stat").decode()
    row = next(line for line in text.splitlines() if line.split()[0] == name)
    return [int(part.partition("=")[2]) for part in row.split()[1:]]


def rss_of(task: Any) -> str:
    """Its anonymous memory."""
    text = task.kernel.read(f"/proc/{task.pid}/status").decode()
    return next(line for line in text.splitlines() if line.startswith("RssAnon"))


@pytest.fixture
def tiered(boot: Boot) -> Any:
    kernel = boot(nodes=[DRAM, SLOW], preset="bare", cmdline="transparent_hugepage=never")
    kernel.write(ENABLED, "1")
    kernel_group(kernel)
    return kernel


@pytest.mark.parametrize("generations", ["y", "n"])
def test_demoted_memory_is_still_mapped(tiered: Any, generations: str) -> None:
    tiered.write("/sys/kernel/mm/lru_gen/enabled", generations)
    task, addr = hold(tiered, 60)
    faults, rss = task.maj_flt, rss_of(task)
    tiered.write("/sys/fs/cgroup/a/memory.reclaim", "30M")
    tiered.check()
    moved = on_nodes(tiered, "/sys/fs/cgroup/a")[1]
    assert 27 * MB < moved < 33 * MB
    nodes = re.findall(r" N1=(\d+)", tiered.read(f"/proc/{task.pid}/numa_maps").decode())
    assert sum(map(int, nodes)) == moved // 4096
    before = task.min_flt
    task.touch(addr, 60 * MB)
    assert (task.min_flt, task.maj_flt, rss_of(task)) == (before, faults, rss)
    events = vmstat(tiered)
    assert events["pgdemote_direct"] == events["pgmigrate_success"]
    assert events["pgdemote_direct"] == vmstat(tiered, "/sys/devices/system/node/node0/vmstat")["pgdemote_direct"]


def test_nothing_is_reclaimed_of_it_when_demotion_is_off(tiered: Any) -> None:
    tiered.write(ENABLED, "0")
    hold(tiered, 60)
    with pytest.raises(BlockingIOError):
        tiered.write("/sys/fs/cgroup/a/memory.reclaim", "30M")
    assert on_nodes(tiered, "/sys/fs/cgroup/a")[1] == 0
    assert vmstat(tiered)["pgdemote_direct"] == 0


def test_the_cache_of_files_is_demoted(tiered: Any) -> None:
    tiered.create_file("/data", "40M")
    task = tiered.spawn("reader", cgroup="/a")
    fd = task.open("/data")
    for at in range(0, 40 * MB, MB):
        task.read(fd, MB, at)
    tiered.write("/sys/fs/cgroup/a/memory.reclaim", "20M")
    near, far = on_nodes(tiered, "/sys/fs/cgroup/a", "file")
    rows = vmstat(tiered, "/sys/fs/cgroup/a/memory.stat")
    freed = rows["pgsteal"] - rows["pgdemote_direct"]
    assert rows["pgdemote_direct"] >= 10 * MB // 4096 and far > 5 * MB
    assert 0 <= near + far + freed * 4096 - 40 * MB < 4 * MB  # the program's own file is in it, too


def test_madvise_pageout_does_not_demote(boot: Boot) -> None:
    kernel = boot(nodes=[DRAM, SLOW], swap="64M", preset="bare", cmdline="transparent_hugepage=never")
    kernel.write(ENABLED, "1")
    kernel_group(kernel)
    task, addr = hold(kernel, 20)
    task.madvise(addr, 20 * MB, 21)
    assert on_nodes(kernel, "/sys/fs/cgroup/a")[1] == 0
    assert vmstat(kernel)["pswpout"] >= 20 * MB // 4096 - 32


def test_a_full_target_wakes_its_kswapd_and_spares_nobody_in_need(boot: Boot) -> None:
    """Proactive reclaim only demotes; a limit takes what finds no room from the fast node."""
    small = SLOW | {"memory": "128M"}
    kernel = boot(nodes=[DRAM, small], swap="256M", preset="bare", cmdline="transparent_hugepage=never")
    kernel.write(ENABLED, "1")
    group = kernel_group(kernel)
    kernel.mkdir("/sys/fs/cgroup/far")
    kernel.write("/sys/fs/cgroup/far/cpuset.mems", "1")
    other = kernel.spawn("other", cgroup="/far")
    addr = other.mmap(92 * MB)
    other.touch(addr, 92 * MB, write=True)
    hold(kernel, 100)
    swapped = vmstat(kernel)["pswpout"]
    kernel.write(f"{group}/memory.max", str(40 * MB))
    kernel.check()
    assert int(kernel.read(f"{group}/memory.current")) <= 40 * MB
    events = vmstat(kernel)
    assert events["pgdemote_direct"] > 0 and events["pgmigrate_fail"] > 0
    assert events["pswpout"] - swapped >= 50 * MB // 4096
    kernel.run_for(1.0)
    assert vmstat(kernel)["pageoutrun"] > 0


def test_kswapd_demotes_before_a_node_is_full(tiered: Any) -> None:
    hold(tiered, 240)
    tiered.run_for(2.0)
    events = vmstat(tiered)
    assert events["pgdemote_kswapd"] > 0
    assert events["pgsteal_kswapd"] >= events["pgdemote_kswapd"]
    assert on_nodes(tiered, "/sys/fs/cgroup/a")[1] > 12 * MB
    assert events["oom_kill"] == 0


def test_huge_pages_move_whole(boot: Boot) -> None:
    kernel = boot(nodes=[{"memory": "512M", "cpus": 1}, {"memory": "512M", "cpus": 0, "slow": True}], preset="bare")
    kernel.write(ENABLED, "1")
    group = kernel_group(kernel)
    hold(kernel, 100)
    kernel.write(f"{group}/memory.reclaim", "40M")
    kernel.check()
    near, far = on_nodes(kernel, group, "anon_thp")
    assert near + far >= 96 * MB and far >= 36 * MB
    events = vmstat(kernel)
    assert events["thp_migration_success"] == far // (2 * MB) and events["thp_migration_split"] == 0


def test_huge_pages_are_split_where_no_block_is_free(boot: Boot) -> None:
    small = {"memory": "128M", "cpus": 0, "slow": True}
    kernel = boot(nodes=[{"memory": "512M", "cpus": 1}, small], preset="bare")
    kernel.write(ENABLED, "1")
    kernel_group(kernel)
    hold(kernel, 200)
    with pytest.raises(BlockingIOError):
        kernel.write("/sys/fs/cgroup/a/memory.reclaim", "180M")
    kernel.check()
    events = vmstat(kernel)
    assert events["thp_migration_split"] == events["thp_migration_fail"] > 0
    assert events["pgdemote_direct"] > 30 * MB // 4096


def test_who_demotes_is_counted(tiered: Any) -> None:
    """khugepaged has rows of its own. Linux: reclaimer_offset()."""
    tiered.khugepaged.running = True
    hold(tiered, 60)
    tiered.write("/sys/fs/cgroup/a/memory.reclaim", "10M")
    tiered.khugepaged.running = False
    rows = vmstat(tiered, "/sys/fs/cgroup/a/memory.stat")
    assert rows["pgdemote_khugepaged"] > 0 and rows["pgdemote_direct"] == 0
    assert rows["pgsteal_khugepaged"] == rows["pgsteal"] and rows["pgscan_khugepaged"] == rows["pgscan"]


def test_saved_and_restored(tiered: Any) -> None:
    hold(tiered, 60)
    other = pickle.loads(pickle.dumps(tiered))
    for kernel in (tiered, other):
        kernel.write("/sys/fs/cgroup/a/memory.reclaim", "30M")
    assert vmstat(tiered) == vmstat(other)
    other.check()
    assert vmstat(other)["pgdemote_direct"] == int(other.vmstat.node_stat[0, NodeStatItem.PGDEMOTE_DIRECT]) > 0
    assert other.vmstat.event[VmEventItem.PGMIGRATE_SUCCESS] == vmstat(other)["pgmigrate_success"]


# -- how it is described -------------------------------------------------------------------------------------------


def test_description() -> None:
    machine = Machine.from_sizes(nodes=parse_nodes("1G:2,4G:0:slow"))
    assert [(node.latency, node.bandwidth) for node in machine.nodes] == [(100, 131072), (250, 32768)]
    assert machine.hmat and not Machine.from_sizes(nodes=2).hmat
    assert parse_nodes("2G::slow") == [{"memory": "2G", "slow": True}]
    machine = Machine.from_sizes(nodes=[{"memory": "1G", "latency": 80}, {"memory": 0, "cpus": 1}])
    assert [node.latency for node in machine.nodes] == [80, 0]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"latency": 0}, "latency: 0 is not a number of ns"),
        ({"latency": True}, "latency: True is not"),
        ({"latency": "40ns"}, "latency: '40ns' is not"),
        ({"bandwidth": "10K"}, "less than 1M"),
        ({"bandwidth": "fast"}, "'fast' is not a size"),
        ({"speed": 1}, "unknown key 'speed' .known: memory, cpus, distances, slow, latency, bandwidth"),
    ],
)
def test_odd_descriptions(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Machine.from_sizes(nodes=[{"memory": "1G"} | table])


def test_odd_kinds_of_memory() -> None:
    with pytest.raises(Exception, match="'fast' is no kind of memory"):
        parse_nodes("1G:2,4G:0:fast")
