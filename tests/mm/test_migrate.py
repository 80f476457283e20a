"""Pages that move between nodes: mbind(2), move_pages(2), migrate_pages(2), and with their task's cpuset."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import Any

import pytest

from mmfs.mm.mempolicy import MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, MPOL_MF_STRICT
from mmfs.mm.migrate import migration_steps, node_remap
from mmfs.mm_types import VmEventItem
from tests.mm.test_mempolicy import PAGE, line

MB = 1 << 20


@pytest.fixture
def kernel(boot: Callable[..., Any]) -> Any:
    return boot(nodes=[{"memory": "128M", "cpus": 1}, {"memory": "128M", "cpus": 1}], preset="bare")


@pytest.fixture
def task(kernel: Any) -> Any:
    task = kernel.spawn("hog")
    task.set_mempolicy("bind", [0])
    return task


def filled(task: Any, size: int = 4 * MB) -> int:
    addr: int = task.mmap(size)
    task.touch(addr, size, write=True)
    return addr


def test_mbind_moves_what_is_elsewhere(kernel: Any, task: Any) -> None:
    addr = filled(task)
    assert "N0=1024" in line(task, addr)
    task.mbind(addr, 2 * MB, "bind", [1])
    assert "N0=512" in line(task, addr)
    with pytest.raises(OSError) as caught:
        task.mbind(addr, 2 * MB, "bind", [1], MPOL_MF_STRICT)
    assert caught.value.errno == errno.EIO
    task.mbind(addr, 2 * MB, "bind", [1], MPOL_MF_MOVE | MPOL_MF_STRICT)
    assert "N1=512" in line(task, addr)
    assert kernel.vmstat.event[VmEventItem.PGMIGRATE_SUCCESS] == 512
    with pytest.raises(OSError) as caught:
        task.mbind(addr, 2 * MB, "bind", [1], 64)
    assert caught.value.errno == errno.EINVAL


def test_move_pages_says_where_each_is(kernel: Any, task: Any) -> None:
    addr = filled(task)
    hole = task.mmap(MB)
    pages = [addr, addr + PAGE, hole, 0x1000]
    assert task.move_pages(0, pages) == [0, 0, -errno.ENOENT, -errno.EFAULT]
    assert task.move_pages(0, pages, [1, 0, 1, 1]) == [1, 0, -errno.ENOENT, -errno.EFAULT]
    assert task.move_pages(0, pages) == [1, 0, -errno.ENOENT, -errno.EFAULT]
    with pytest.raises(OSError) as caught:
        task.move_pages(0, pages, [7] * 4)
    assert caught.value.errno == errno.ENODEV
    with pytest.raises(OSError) as caught:
        task.move_pages(99999, pages)
    assert caught.value.errno == errno.ESRCH


def test_shared_pages_move_only_when_all_may(kernel: Any, task: Any) -> None:
    addr = filled(task, MB)
    child = task.fork()
    assert child.move_pages(0, [addr], [1]) == [-errno.EACCES]
    assert child.move_pages(0, [addr], [1], MPOL_MF_MOVE_ALL) == [1]
    assert task.move_pages(0, [addr]) == [1]
    child.touch(addr, PAGE, write=True)
    kernel.check()


def test_another_users_pages(kernel: Any, task: Any) -> None:
    addr = filled(task, MB)
    other = kernel.spawn("hog", uid=1000)
    for call in (lambda: other.move_pages(task.pid, [addr]), lambda: other.migrate_pages(task.pid, [0], [1]),
                 lambda: other.mbind(0, PAGE, "bind", [0], MPOL_MF_MOVE_ALL)):  # fmt: skip
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EPERM


def test_migrate_pages_swaps_nodes(kernel: Any, task: Any) -> None:
    low, high = filled(task, MB), task.mmap(2 * MB)
    task.mbind(high, 2 * MB, "bind", [1])
    task.touch(high, 2 * MB, write=True)
    assert task.migrate_pages(0, [0, 1], [1, 0]) == 0
    assert "N0=" in line(task, low)  # the same set of nodes: Linux has nothing to do
    assert task.migrate_pages(0, [0], [1]) == 0
    assert "N1=256" in line(task, low)
    assert "N1=512" in line(task, high)


def test_a_full_node_takes_no_more(kernel: Any, task: Any) -> None:
    addr = filled(task, 70 * MB)
    other = kernel.spawn("hog")
    other.set_mempolicy("bind", [1])
    filled(other, 60 * MB)
    left = task.migrate_pages(0, [0], [1])
    match = re.search(r" N0=(\d+)", line(task, addr))
    assert match is not None
    assert 1000 < int(match[1]) <= left


def test_the_order_of_steps() -> None:
    """Examples that Linux's comment on do_migrate_pages() gives, and others."""
    assert list(migration_steps([0, 1, 2], [1, 2, 3])) == [(2, 3), (1, 2), (0, 1)]
    assert list(migration_steps([0, 1], [0, 1])) == []
    assert sorted(migration_steps([0, 1, 2, 3], [1])) == [(0, 1), (2, 1), (3, 1)]
    assert node_remap(2, [1, 2], [5, 6]) == 6
    assert node_remap(4, [1, 2], [5, 6]) == 4


def test_pages_follow_the_cpuset(kernel: Any, task: Any) -> None:
    """cgroup v2: a task's memory moves with its cpuset.mems."""
    top = "/sys/fs/cgroup"
    kernel.write(f"{top}/cgroup.subtree_control", "+cpuset")
    kernel.mkdir(f"{top}/a")
    task.set_mempolicy("default")
    kernel.write(f"{top}/a/cpuset.mems", "0")
    kernel.write(f"{top}/a/cgroup.procs", f"{task.pid}")
    addr = filled(task)
    assert "N0=1024" in line(task, addr)
    kernel.write(f"{top}/a/cpuset.mems", "1")
    assert "N1=1024" in line(task, addr)
    kernel.write(f"{top}/a/cpuset.mems", "0-1")
    assert "N1=1024" in line(task, addr)
    kernel.mkdir(f"{top}/b")
    kernel.write(f"{top}/b/cpuset.mems", "0")
    kernel.write(f"{top}/b/cgroup.procs", f"{task.pid}")
    assert "N0=1024" in line(task, addr)


@pytest.fixture
def huge(kernel: Any, task: Any) -> int:
    """4 MB of `task` in two huge pages on node 0."""
    kernel.write("/sys/kernel/mm/transparent_hugepage/enabled", "always")
    addr = filled(task)
    assert kernel.vmstat.event[VmEventItem.THP_FAULT_ALLOC] == 2
    return addr


def test_a_huge_page_moves_whole(kernel: Any, task: Any, huge: int) -> None:
    assert task.move_pages(0, [huge + 5 * PAGE], [1]) == [1]
    assert task.move_pages(0, [huge, huge + 2 * MB]) == [1, 0]
    kernel.check()
    assert kernel.vmstat.event[VmEventItem.THP_MIGRATION_SUCCESS] == 1
    assert kernel.vmstat.event[VmEventItem.PGMIGRATE_SUCCESS] == 512
    assert "AnonHugePages:      2048 kB" in kernel.read("/sys/devices/system/node/node1/meminfo").decode()
    task.mbind(huge, 4 * MB, "bind", [1], MPOL_MF_MOVE | MPOL_MF_STRICT)
    assert "N1=1024" in line(task, huge)
    task.touch(huge, 4 * MB, write=True)
    assert kernel.vmstat.event[VmEventItem.THP_MIGRATION_SPLIT] == 0
    kernel.check()


def test_a_shared_huge_page_moves_for_all(kernel: Any, task: Any, huge: int) -> None:
    child = task.fork()
    assert child.move_pages(0, [huge], [1]) == [-errno.EACCES]
    assert child.move_pages(0, [huge], [1], MPOL_MF_MOVE_ALL) == [1]
    assert task.move_pages(0, [huge]) == [1]
    kernel.check()
    child.touch(huge, 4 * MB, write=True)
    kernel.check()


def test_a_huge_page_that_is_mapped_in_part_is_split(kernel: Any, task: Any, huge: int) -> None:
    task.munmap(huge + PAGE, PAGE)
    assert task.move_pages(0, [huge, huge + 2 * PAGE], [1, 1]) == [1, 1]
    assert task.move_pages(0, [huge, huge + 3 * PAGE]) == [1, 0]
    assert kernel.vmstat.event[VmEventItem.THP_MIGRATION_SPLIT] == 1
    kernel.check()


def test_a_huge_page_is_split_where_no_pageblock_is_free(kernel: Any, task: Any, huge: int) -> None:
    kernel.write("/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages", "64")
    assert task.move_pages(0, [huge, huge + PAGE], [1, 0]) == [1, 0]
    assert kernel.vmstat.event[VmEventItem.THP_MIGRATION_SPLIT] == 1
    kernel.check()
