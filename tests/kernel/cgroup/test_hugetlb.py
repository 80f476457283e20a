"""hugetlb.SIZE.*: limits in whole huge pages, charges up the tree."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

import mmfs
from mmfs.kernel.signal import BusError
from mmfs.mm.mman import MAP_ANONYMOUS, MAP_HUGETLB, MAP_NORESERVE, MAP_PRIVATE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

HUGE = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB
TOP = "/sys/fs/cgroup"


@pytest.fixture
def kernel() -> Kernel:
    kernel = mmfs.boot(ram="256M", preset="bare", seed=1)
    kernel.write(f"{TOP}/cgroup.subtree_control", "+hugetlb")
    kernel.mkdir(f"{TOP}/a")
    kernel.write(f"{TOP}/a/cgroup.subtree_control", "+hugetlb")
    kernel.mkdir(f"{TOP}/a/b")
    return kernel


def read(kernel: Kernel, path: str) -> str:
    return kernel.read(f"{TOP}/{path}").decode()


def test_files(kernel: Kernel) -> None:
    """As a real one with pages of 1 GB has them."""
    kinds = ("current", "events", "events.local", "max", "numa_stat", "rsvd.current", "rsvd.max")
    names = [name for name in kernel.listdir(f"{TOP}/a") if name.startswith("hugetlb.")]
    sizes = [name.split(".")[1] for name in names]
    assert sorted(names) == sorted(f"hugetlb.{size}.{kind}" for size in set(sizes) for kind in kinds)
    assert "2MB" in sizes and not [name for name in kernel.listdir(TOP) if name.startswith("hugetlb")]
    texts = [read(kernel, f"a/hugetlb.2MB.{kind}") for kind in kinds]
    assert texts == ["0\n", "max 0\n", "max 0\n", "max\n", "total=0 N0=0\n", "0\n", "max\n"]


@pytest.mark.parametrize(
    ("text", "shown"), [("1", "0"), ("3M", "2097152"), ("max", "max"), ("5M\n", "4194304"), ("1G", "1073741824")]
)
def test_limits_are_whole_pages(kernel: Kernel, text: str, shown: str) -> None:
    for name in ("hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"):
        kernel.write(f"{TOP}/a/{name}", text)
        assert read(kernel, f"a/{name}") == f"{shown}\n"


@pytest.mark.parametrize("text", ["x", "-1", "5Mx"])
def test_no_limits(kernel: Kernel, text: str) -> None:
    with pytest.raises(OSError) as caught:
        kernel.write(f"{TOP}/a/hugetlb.2MB.max", text)
    assert caught.value.errno == errno.EINVAL


def test_charges(kernel: Kernel) -> None:
    kernel.write("/proc/sys/vm/nr_hugepages", "8")
    kernel.write(f"{TOP}/a/hugetlb.2MB.max", "4M")
    task = kernel.spawn("huge", cgroup="/a/b")
    addr = task.mmap("8M", flags=HUGE)
    assert [read(kernel, f"{path}/hugetlb.2MB.rsvd.current") for path in ("a", "a/b")] == ["8388608\n"] * 2
    task.touch(addr, "4M", write=True)
    with pytest.raises(BusError):
        task.touch(addr + (4 << 20), 1)
    assert read(kernel, "a/b/hugetlb.2MB.current") == "0\n", "it has died of it"
    task = kernel.spawn("huge", cgroup="/a/b")
    addr = task.mmap("4M", flags=HUGE)
    task.touch(addr, "4M", write=True)
    for path in ("a", "a/b"):
        assert read(kernel, f"{path}/hugetlb.2MB.current") == "4194304\n"
        assert read(kernel, f"{path}/hugetlb.2MB.numa_stat") == "total=4194304 N0=4194304\n"
        assert read(kernel, f"{path}/hugetlb.2MB.events") == "max 1\n"
    assert [read(kernel, f"{path}/hugetlb.2MB.events.local") for path in ("a", "a/b")] == ["max 0\n", "max 1\n"]
    with pytest.raises(OSError) as caught:
        kernel.write(f"{TOP}/a/hugetlb.2MB.max", "2M")
    assert caught.value.errno == errno.EBUSY
    kernel.check()


def test_pages_of_a_cgroup_that_goes_are_the_parents(kernel: Kernel) -> None:
    kernel.write("/proc/sys/vm/nr_hugepages", "8")
    task = kernel.spawn("huge", cgroup="/a/b")
    addr = task.mmap("4M", flags=HUGE)
    task.touch(addr, "4M", write=True)
    kernel.mkdir(f"{TOP}/a/c")
    kernel.write(f"{TOP}/a/c/cgroup.procs", str(task.pid))
    kernel.rmdir(f"{TOP}/a/b")
    assert read(kernel, "a/hugetlb.2MB.current") == "4194304\n"
    assert "nr_dying_descendants 1\n" in read(kernel, "a/cgroup.stat"), "a reservation holds it"
    kernel.check()
    task.munmap(addr, "4M")
    assert read(kernel, "a/hugetlb.2MB.current") == read(kernel, "a/hugetlb.2MB.rsvd.current") == "0\n"
    assert "nr_dying_descendants 0\n" in read(kernel, "a/cgroup.stat")
    kernel.check()


def test_a_limit_on_reservations(kernel: Kernel) -> None:
    """What is reserved counts when it is mapped; of what is not, each page when it is touched."""
    kernel.write("/proc/sys/vm/nr_hugepages", "8")
    kernel.write(f"{TOP}/a/hugetlb.2MB.rsvd.max", "4M")
    task = kernel.spawn("huge", cgroup="/a/b")
    with pytest.raises(OSError) as caught:
        task.mmap("6M", flags=HUGE)
    assert caught.value.errno == errno.ENOMEM
    addr = task.mmap("6M", flags=HUGE | MAP_NORESERVE)
    assert read(kernel, "a/hugetlb.2MB.rsvd.current") == "0\n"
    task.touch(addr, "4M", write=True)
    assert read(kernel, "a/hugetlb.2MB.rsvd.current") == "4194304\n"
    kernel.check()
    with pytest.raises(BusError):
        task.touch(addr + (4 << 20), 1)
    assert read(kernel, "a/b/hugetlb.2MB.events") == "max 2\n"
    kernel.check()
