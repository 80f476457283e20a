"""hugetlb.SIZE.*: limits in whole huge pages, charges up the tree."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

import mmfs

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

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
    css = kernel.cgroups.makedirs("/a/b").subsys["hugetlb"]
    kernel.write(f"{TOP}/a/hugetlb.2MB.max", "4M")
    css.charge("2MB", 512, 0)
    css.charge("2MB", 512, 0)
    with pytest.raises(OSError) as caught:
        css.charge("2MB", 512, 0)
    assert caught.value.errno == errno.ENOMEM
    for path in ("a", "a/b"):
        assert read(kernel, f"{path}/hugetlb.2MB.current") == "4194304\n"
        assert read(kernel, f"{path}/hugetlb.2MB.numa_stat") == "total=4194304 N0=4194304\n"
        assert read(kernel, f"{path}/hugetlb.2MB.events") == "max 1\n"
    assert [read(kernel, f"{path}/hugetlb.2MB.events.local") for path in ("a", "a/b")] == ["max 0\n", "max 1\n"]
    with pytest.raises(OSError) as caught:
        kernel.write(f"{TOP}/a/hugetlb.2MB.max", "2M")
    assert caught.value.errno == errno.EBUSY
    kernel.check()
    kernel.rmdir(f"{TOP}/a/b")
    assert read(kernel, "a/hugetlb.2MB.current") == "4194304\n", "the parent has them now"
    kernel.check()
    css.parent.uncharge("2MB", 1024, 0)
    assert read(kernel, "a/hugetlb.2MB.current") == "0\n"
    kernel.check()
