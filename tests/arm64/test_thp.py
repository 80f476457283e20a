"""Transparent huge pages with pages of 64 KB: of 512 MB, and folios from 256 KB on.

The numbers are those that a real 6.12 counts on QEMU's machine "virt" with 2 GB, after the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mmfs.mm.mman import MADV_COLLAPSE, MADV_DONTNEED, MAP_ANONYMOUS, MAP_SHARED
from mmfs.mm_types import PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

pytestmark = pytest.mark.machine(arch="arm64-64k", ram="2G", swap=None)
MB = 1 << 20
THP = "/sys/kernel/mm/transparent_hugepage"
SIZES = [f"hugepages-{128 << at}kB" for at in range(13)]


def vmstat(kernel: Kernel, prefix: str = "thp_") -> dict[str, int]:
    rows = (line.split() for line in kernel.read("/proc/vmstat").decode().splitlines())
    return {name: int(count) for name, count in rows if name.startswith(prefix) and int(count)}


def stats(kernel: Kernel, kb: int) -> dict[str, int]:
    folder = f"{THP}/hugepages-{kb}kB/stats"
    counts = {name: int(kernel.read(f"{folder}/{name}")) for name in kernel.vfs.listdir(folder)}
    return {name: count for name, count in counts.items() if count}


def meminfo(kernel: Kernel, row: str) -> int:
    lines = kernel.read("/proc/meminfo").decode().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{row}:"))


def touched(kernel: Kernel, size: str, **options: Any) -> tuple[Any, int]:
    task = kernel.spawn("hold")
    addr = task.mmap(size, **options)
    task.touch(addr, size, write=True)
    return task, addr


def two_huge_pages(kernel: Kernel) -> tuple[Any, int]:
    """The machine has no more. The first fault puts the other one on the CPU's list, whence a worker returns it."""
    task = kernel.spawn("hold")
    addr = task.mmap("1G")
    task.touch(addr, "512M", write=True)
    for cpu in range(2):
        kernel.page_alloc.refresh_cpu_vm_stats(cpu)
    task.touch(addr + 512 * MB, "512M", write=True)
    return task, addr


def test_files(kernel: Kernel) -> None:
    """Which sizes there are, for whom: the page cache has folios of 128 MB at most."""
    assert sorted(name for name in kernel.vfs.listdir(THP) if name.startswith("hugepages-")) == sorted(SIZES)
    ours = [name for name in SIZES if "enabled" in kernel.vfs.listdir(f"{THP}/{name}")]
    files = [name for name in SIZES if "shmem_enabled" in kernel.vfs.listdir(f"{THP}/{name}")]
    assert (ours, files) == (SIZES[1:], SIZES[:11])
    assert set(kernel.vfs.listdir(f"{THP}/hugepages-524288kB/stats")) == {
        "anon_fault_alloc", "anon_fault_fallback", "anon_fault_fallback_charge", "nr_anon", "nr_anon_partially_mapped",
        "split", "split_deferred", "split_failed", "swpout", "swpout_fallback",
    }  # fmt: skip
    assert kernel.read(f"{THP}/hpage_pmd_size") == b"536870912\n"
    assert kernel.read(f"{THP}/hugepages-524288kB/enabled") == b"always [inherit] madvise never\n"
    limits = {"max_ptes_none": 8191, "max_ptes_shared": 4096, "max_ptes_swap": 1024, "pages_to_scan": 65536}
    for name, value in limits.items():
        assert int(kernel.read(f"{THP}/khugepaged/{name}")) == value


def test_a_fault_takes_a_pageblock(kernel: Kernel) -> None:
    task, addr = two_huge_pages(kernel)
    assert addr % (512 * MB) == 0
    assert vmstat(kernel) == {"thp_fault_alloc": 2}
    assert (meminfo(kernel, "AnonHugePages"), vmstat(kernel, "nr_anon_tr")) == (
        1 << 20, {"nr_anon_transparent_hugepages": 2},
    )  # fmt: skip
    assert stats(kernel, 524288) == {"anon_fault_alloc": 2, "nr_anon": 2}
    task.exit(0)
    assert meminfo(kernel, "AnonHugePages") == 0
    _, addr = touched(kernel, "600M")
    assert vmstat(kernel) == {"thp_fault_alloc": 2}, "what is no multiple of 512 MB is not aligned to it"
    assert addr % (512 * MB)


def test_a_part_is_unmapped(kernel: Kernel) -> None:
    task, addr = two_huge_pages(kernel)
    task.madvise(addr, PAGE_SIZE, MADV_DONTNEED)
    kernel.check()
    assert vmstat(kernel) == {"thp_fault_alloc": 2, "thp_split_pmd": 1, "thp_deferred_split_page": 1}
    assert stats(kernel, 524288) == {
        "anon_fault_alloc": 2, "nr_anon": 2, "nr_anon_partially_mapped": 1, "split_deferred": 1,
    }  # fmt: skip
    child = task.fork()
    child.touch(addr + 512 * MB, 1, write=True)
    kernel.check()
    assert vmstat(kernel)["thp_split_pmd"] == 2, "a child copies one page of 64 KB"


def test_khugepaged_and_collapse(kernel: Kernel) -> None:
    """One entry of 8192 is enough."""
    kernel.write(f"{THP}/enabled", "never")
    task = kernel.spawn("sparse")
    addr = task.mmap("1G")
    task.touch([addr, addr + 700 * MB], write=True)
    kernel.write(f"{THP}/enabled", "always")
    for name in ("scan_sleep_millisecs", "alloc_sleep_millisecs"):
        kernel.write(f"{THP}/khugepaged/{name}", "50")
    task.touch(task.mmap("512M"), 1, write=True)
    kernel.run_for(1)
    kernel.check()
    assert int(kernel.read(f"{THP}/khugepaged/pages_collapsed")) == 1, "then no pageblock is free"
    assert meminfo(kernel, "AnonHugePages") == 2 * 512 * 1024


def test_smaller_folios(kernel: Kernel) -> None:
    for kb in (2048, 131072):
        kernel.write(f"{THP}/hugepages-{kb}kB/enabled", "always")
    task, _ = touched(kernel, "300M")
    large, small = stats(kernel, 131072)["nr_anon"], stats(kernel, 2048)["nr_anon"]
    assert large >= 1 and 300 - 128 * large - 2 <= 2 * small <= 300 - 128 * large
    kernel.check()
    kernel.write("/sys/kernel/debug/split_huge_pages", "1")
    kernel.check()
    assert stats(kernel, 131072)["split"] == large and stats(kernel, 2048)["split"] == small
    task.exit(0)


def test_no_file_has_one(kernel: Kernel) -> None:
    """A folio of 512 MB would be too large for the page cache; who writes `always` is not told."""
    kernel.write(f"{THP}/shmem_enabled", "always")
    task, addr = touched(kernel, "512M", flags=MAP_SHARED | MAP_ANONYMOUS)
    assert meminfo(kernel, "ShmemHugePages") == 0 and meminfo(kernel, "Shmem") >= 512 * 1024
    with pytest.raises(OSError):
        task.madvise(addr, "512M", MADV_COLLAPSE)
    assert vmstat(kernel) == {}
    kernel.write(f"{THP}/shmem_enabled", "force")
    assert "[force]" in kernel.read(f"{THP}/shmem_enabled").decode()


@pytest.mark.machine(arch="arm64-64k", ram="2G", swap="1G")
def test_none_goes_to_swap_whole(kernel: Kernel) -> None:
    """With pages of 64 KB there is no CONFIG_THP_SWAP, also on a disk without seek times."""
    kernel.write(f"{THP}/hugepages-2048kB/enabled", "always")
    task, _ = touched(kernel, "2100M")
    kernel.check()
    counts = vmstat(kernel)
    assert counts.get("thp_swpout", 0) == 0 and vmstat(kernel, "pswpout")["pswpout"] > 1000
    small = stats(kernel, 2048)
    assert small["swpout_fallback"] == small["split"] > 50 and "swpout" not in small
    assert counts.get("thp_split_page", 0) == counts.get("thp_swpout_fallback", 0)
    task.exit(0)
