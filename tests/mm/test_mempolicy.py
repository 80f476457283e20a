"""Memory policies on a machine of two nodes: where pages come from, what numa_maps and numastat say."""

from collections.abc import Callable
from typing import Any

import pytest

from mmfs.mm.mempolicy import MPOL_MF_MOVE
from mmfs.mm_types import NumaStatItem

PAGE = 4096


@pytest.fixture
def task(boot: Callable[..., Any]) -> Any:
    kernel = boot(nodes=[{"memory": "256M", "cpus": 1}, {"memory": "256M", "cpus": 1}], preset="bare")
    return kernel.spawn("hog")


def line(task: Any, addr: int) -> str:
    """The line of numa_maps for a mapping."""
    text = task.kernel.read(f"/proc/{task.pid}/numa_maps").decode()
    return next(row for row in text.splitlines() if row.startswith(f"{addr:08x} "))


def test_without_a_policy_pages_are_local(task: Any) -> None:
    addr = task.mmap(64 * PAGE)
    task.touch(addr, 64 * PAGE, write=True)
    home = task.kernel.cpu_to_node(task.processor)
    assert line(task, addr).split()[1] == "default"
    assert f"N{home}=64" in line(task, addr)


@pytest.mark.parametrize("node", [0, 1])
def test_bind_takes_the_nodes_memory_whoever_runs(task: Any, node: int) -> None:
    addr = task.mmap(64 * PAGE)
    task.mbind(addr, 64 * PAGE, "bind", [node])
    task.touch(addr, 64 * PAGE, write=True)
    assert line(task, addr).split()[1] == f"bind:{node}"
    assert f"N{node}=64" in line(task, addr)


def test_interleave_alternates_and_counts(task: Any) -> None:
    before = task.kernel.vmstat.global_numa_event_state(NumaStatItem.NUMA_INTERLEAVE_HIT)
    addr = task.mmap(64 * PAGE)
    task.mbind(addr, 64 * PAGE, "interleave", [0, 1])
    task.touch(addr, 64 * PAGE, write=True)
    assert line(task, addr).split()[1] == "interleave:0-1"
    assert "N0=32 N1=32" in line(task, addr)
    assert task.kernel.vmstat.global_numa_event_state(NumaStatItem.NUMA_INTERLEAVE_HIT) == before + 64


def test_weighted_interleave_gives_each_node_its_share(task: Any) -> None:
    weights = "/sys/kernel/mm/mempolicy/weighted_interleave"
    before = task.kernel.vmstat.global_numa_event_state(NumaStatItem.NUMA_INTERLEAVE_HIT)
    task.kernel.write(f"{weights}/node0", "3")
    addr = task.mmap(64 * PAGE)
    task.mbind(addr, 64 * PAGE, "weighted interleave", [0, 1])
    task.touch(addr, 64 * PAGE, write=True)
    assert "weighted interleave:0-1 " in line(task, addr)
    assert "N0=48 N1=16" in line(task, addr)
    assert task.kernel.vmstat.global_numa_event_state(NumaStatItem.NUMA_INTERLEAVE_HIT) == before
    task.kernel.write(f"{weights}/node0", "\n")
    assert task.kernel.read(f"{weights}/node0") == b"1\n"
    task.mbind(addr, 64 * PAGE, "bind", [1], MPOL_MF_MOVE)
    task.mbind(addr, 64 * PAGE, "weighted interleave", [0, 1], MPOL_MF_MOVE)  # all are where they may be
    assert "N1=64" in line(task, addr)


def test_preferred_many_takes_from_others_when_those_are_full(boot: Callable[..., Any]) -> None:
    kernel = boot(nodes=[{"memory": "96M", "cpus": 1}, {"memory": "96M", "cpus": 1}, {"memory": "96M", "cpus": 1}])
    task = kernel.spawn("hog")
    task.set_mempolicy("prefer (many)", [1, 2])
    addr = task.mmap(150 << 20)
    task.touch(addr, 32 << 20, write=True)
    assert line(task, addr).split()[1:3] == ["prefer", "(many):1-2"]
    assert "N0=" not in line(task, addr)
    task.touch(addr, 150 << 20, write=True)
    assert "N0=" in line(task, addr)
    kernel.check()


def test_a_policy_on_a_part_splits_the_mapping(task: Any) -> None:
    addr = task.mmap(64 * PAGE)
    count = task.mm.map_count
    task.mbind(addr + 16 * PAGE, 16 * PAGE, "prefer", [1])
    assert task.mm.map_count == count + 2
    assert line(task, addr + 16 * PAGE).split()[1] == "prefer:1"
    task.mbind(addr + 16 * PAGE, 16 * PAGE, "default")
    assert task.mm.map_count == count


def test_bind_runs_out_though_the_other_node_is_free(task: Any) -> None:
    task.oom_score_adj = 1000
    addr = task.mmap("300M")
    task.mbind(addr, "300M", "bind", [1])
    with pytest.raises(Exception, match=r"killed|SIGKILL|9"):
        task.touch(addr, "300M", write=True)
    assert not task.alive


def test_the_tasks_policy_is_inherited(task: Any) -> None:
    task.set_mempolicy("bind", [1])
    child = task.fork()
    addr = child.mmap(8 * PAGE)
    child.touch(addr, 8 * PAGE, write=True)
    assert "N1=8" in line(child, addr)


@pytest.mark.parametrize(
    ("mode", "nodes"), [("bind", []), ("interleave", []), ("bind", [2]), ("local", [0]), ("default", [0]), ("odd", [0])]
)
def test_bad_policies(task: Any, mode: str, nodes: list[int]) -> None:
    addr = task.mmap(8 * PAGE)
    with pytest.raises(OSError, match="Errno 22"):
        task.mbind(addr, 8 * PAGE, mode, nodes)


def test_holes_are_efault(task: Any) -> None:
    with pytest.raises(OSError, match="Errno 14"):
        task.mbind(0x10000, PAGE, "bind", [0])
