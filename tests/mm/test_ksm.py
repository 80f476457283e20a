"""KSM: what is merged, what comes apart again, and what is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mmfs.mm.mman import MADV_HUGEPAGE, MADV_MERGEABLE, MADV_NOHUGEPAGE, MADV_UNMERGEABLE, MREMAP_MAYMOVE
from mmfs.mm_types import PAGE_SIZE, PG_KSM, VmEventItem, ZoneStatItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

MB = 1 << 20
SYS = "/sys/kernel/mm/ksm/"


def spawn(kernel: Kernel, length: int, what: str, number: int = 0, name: str = "worker") -> tuple[Task, int]:
    """A process with so much written, mergeable memory that holds something."""
    task = kernel.spawn(name)
    addr = task.mmap(length)
    task.madvise(addr, length, MADV_NOHUGEPAGE)
    task.set_contents(addr, length, what, number)
    task.touch(addr, length, write=True)
    task.madvise(addr, length, MADV_MERGEABLE)
    return task, addr


def scan(kernel: Kernel, full_scans: int = 4, pages: int = 1_000_000) -> None:
    """Have ksmd run through everything so often."""
    kernel.write(SYS + "pages_to_scan", str(pages))
    kernel.write(SYS + "run", "1")
    goal = kernel.ksm.full_scans + full_scans
    for _ in range(10_000):
        if kernel.ksm.full_scans >= goal:
            break
        kernel.run_for(0.02)
    assert kernel.ksm.full_scans >= goal


def text(kernel: Kernel, path: str) -> str:
    return kernel.read(path).decode()


def free(kernel: Kernel) -> int:
    """Free pages, those on per-CPU lists among them."""
    pcp = int(kernel.page_alloc.buddy.pcps["count"].sum())
    return kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_FREE_PAGES) + pcp


def value(kernel: Kernel, name: str) -> int:
    return int(kernel.read(SYS + name))


def counts(kernel: Kernel) -> dict[str, int]:
    names = (
        "pages_shared", "pages_sharing", "pages_unshared", "pages_volatile", "stable_node_chains", "stable_node_dups",
    )  # fmt: skip
    return {name: value(kernel, name) for name in names}


def test_zoo(kernel: Kernel) -> None:
    """Two processes with 2 MB of equal pages each: what tests/golden/captures/1G-hugepages/01-thp-ksm-zoo has."""
    spawn(kernel, 2 * MB, "same", 0x5A)
    spawn(kernel, 2 * MB, "same", 0x5A)
    scan(kernel)
    assert counts(kernel) == {
        "pages_shared": 4, "pages_sharing": 1020, "pages_unshared": 0, "pages_volatile": 0,
        "stable_node_chains": 1, "stable_node_dups": 4,
    }  # fmt: skip
    assert value(kernel, "general_profit") == 4112384
    kernel.check()


@pytest.mark.machine(ram="1G")
@pytest.mark.parametrize("what", ["same", "zero", "unique", "volatile", "image"])
def test_two_processes(kernel: Kernel, what: str) -> None:
    """Two processes with 64 MB each, as a real 6.12 with 1 GB in QEMU counted them after a few full scans.

    Its `unique` had one page that was volatile still: two pages held the same there by chance of the fill.
    """
    recorded = {
        "same": (128, 32640, 0, 0, 1, 128), "zero": (128, 32640, 0, 0, 1, 128), "unique": (0, 0, 32768, 0, 0, 0),
        "volatile": (0, 0, 0, 32768, 0, 0), "image": (16384, 16384, 0, 0, 0, 0),
    }  # fmt: skip
    profit = {"same": 131596288, "zero": 131596288, "unique": -2097152, "volatile": -2097152, "image": 65011712}
    tasks = [spawn(kernel, 64 * MB, what, 7)[0] for _ in range(2)]
    before = free(kernel)
    scan(kernel, 3)
    assert tuple(counts(kernel).values()) == recorded[what]
    assert value(kernel, "general_profit") == profit[what]
    items, zero, merging, _ = kernel.ksm.mm_stat(tasks[0].mm)
    assert (items, zero, merging) == (16384, 0, 0 if what in ("unique", "volatile") else 16384)
    slabs = 32768 // 64 + -(-value(kernel, "pages_shared") // 64)
    assert free(kernel) - before == pytest.approx(value(kernel, "pages_sharing") - slabs, abs=3)  # with the caches' own


def test_image(kernel: Kernel) -> None:
    a, _ = spawn(kernel, 4 * MB, "image", 1)
    b, there = spawn(kernel, 4 * MB, "image", 1)
    before = free(kernel)
    scan(kernel)
    assert counts(kernel)["pages_shared"] == counts(kernel)["pages_sharing"] == 1024
    slabs = 2048 // 64 + -(-1024 // 64)  # objects of 64 bytes: 2048 items, 1024 nodes
    assert free(kernel) - before == pytest.approx(1024 - slabs, abs=2)  # objects that the caches had free
    assert "ksm_merging_pages 1024\n" in text(kernel, f"/proc/{a.pid}/ksm_stat")
    assert text(kernel, f"/proc/{a.pid}/ksm_merging_pages") == "1024\n"
    assert "KSM:                4096 kB\n" in text(kernel, f"/proc/{b.pid}/smaps")
    cow = kernel.vmstat.event[VmEventItem.COW_KSM]
    b.touch(there, MB, write=True)
    assert kernel.vmstat.event[VmEventItem.COW_KSM] - cow == 256
    kernel.check()
    scan(kernel)
    assert counts(kernel)["pages_sharing"] == 1024
    kernel.check()


def test_kinds(kernel: Kernel) -> None:
    spawn(kernel, MB, "unique")
    spawn(kernel, MB, "volatile")
    spawn(kernel, MB, "zero")
    scan(kernel, 2)
    got = counts(kernel)
    assert (got["pages_shared"], got["pages_sharing"]) == (1, 255)
    assert (got["pages_unshared"], got["pages_volatile"]) == (256, 256)
    kernel.check()


def test_zero_pages(kernel: Kernel) -> None:
    kernel.write(SYS + "use_zero_pages", "1")
    task, addr = spawn(kernel, MB, "zero")
    scan(kernel)
    assert value(kernel, "ksm_zero_pages") == 256
    assert "KSM:                1024 kB\n" in text(kernel, f"/proc/{task.pid}/smaps")
    kernel.check()
    child = task.fork()
    assert value(kernel, "ksm_zero_pages") == 512
    kernel.check()
    task.touch(addr, 64 * PAGE_SIZE, write=True)
    child.munmap(addr, 32 * PAGE_SIZE)
    assert value(kernel, "ksm_zero_pages") == 512 - 96
    kernel.check()
    child.exit(0)
    kernel.write(SYS + "run", "2")
    assert value(kernel, "ksm_zero_pages") == 0
    kernel.check()


def test_smart_scan(kernel: Kernel) -> None:
    spawn(kernel, MB, "unique")
    scan(kernel, 12)
    assert value(kernel, "pages_skipped") > 0
    assert value(kernel, "pages_skipped") + value(kernel, "pages_scanned") == 12 * 256
    kernel.write(SYS + "smart_scan", "0")
    skipped = value(kernel, "pages_skipped")
    scan(kernel, 4)
    assert value(kernel, "pages_skipped") == skipped


def test_unmerge(kernel: Kernel) -> None:
    a, addr = spawn(kernel, 2 * MB, "same", 1)
    scan(kernel)
    assert a.mm is not None
    with pytest.raises(OSError, match="merged"):
        kernel.write(SYS + "max_page_sharing", "8")
    a.madvise(addr, MB, MADV_UNMERGEABLE)
    assert a.mm.rss >= 512
    kernel.check()
    kernel.write(SYS + "run", "2")
    assert counts(kernel) == dict.fromkeys(counts(kernel), 0)
    kernel.check()
    kernel.write(SYS + "max_page_sharing", "8")
    scan(kernel)
    assert counts(kernel)["pages_shared"] == 256 // 8
    kernel.check()


def test_fork_exit(kernel: Kernel) -> None:
    a, addr = spawn(kernel, 2 * MB, "same", 1)
    scan(kernel)
    child = a.fork()
    kernel.check()
    scan(kernel, 1)
    assert counts(kernel)["pages_sharing"] + counts(kernel)["pages_shared"] == 1024
    kernel.check()
    a.exit(0)
    kernel.check()
    child.munmap(addr, MB)
    kernel.check()
    child.mremap(addr + MB, MB, 2 * MB, MREMAP_MAYMOVE)
    kernel.check()
    scan(kernel)
    child.exit(0)
    kernel.check()
    scan(kernel, 0)
    assert value(kernel, "pages_sharing") == 0


def test_merge_any(kernel: Kernel) -> None:
    task = kernel.spawn("any")
    task.prctl(67, 1)
    assert task.prctl(68) == 1
    addr = task.mmap(2 * MB)
    task.set_contents(addr, 2 * MB, "same", 1)
    task.touch(addr, 2 * MB, write=True)
    scan(kernel)
    assert value(kernel, "pages_sharing") >= 510
    kernel.check()
    task.prctl(67, 0)
    assert "KSM:                   0 kB\n" in text(kernel, f"/proc/{task.pid}/smaps_rollup")
    kernel.check()


def test_huge_pages_are_split(kernel: Kernel) -> None:
    kernel.write("/sys/kernel/mm/transparent_hugepage/enabled", "always")
    task = kernel.spawn("huge")
    addr = task.mmap(8 * MB)
    task.madvise(addr, 8 * MB, MADV_HUGEPAGE)
    task.set_contents(addr, 8 * MB, "same", 1)
    task.touch(addr, 8 * MB, write=True)
    split = kernel.vmstat.event[VmEventItem.THP_SPLIT_PAGE]
    task.madvise(addr, 8 * MB, MADV_MERGEABLE)
    scan(kernel)
    assert kernel.vmstat.event[VmEventItem.THP_SPLIT_PAGE] - split >= 3
    assert value(kernel, "pages_sharing") >= 3 * 510
    kernel.check()


@pytest.mark.machine(ram="128M", swap="64M", cpus=2, preset="bare", disks="nvme")
def test_swap(kernel: Kernel) -> None:
    a, addr = spawn(kernel, 2 * MB, "image", 1)
    b, there = spawn(kernel, 2 * MB, "image", 1)
    scan(kernel)
    kernel.write(SYS + "run", "0")
    merged = np.flatnonzero(kernel.frames.pages["flags"][: kernel.max_pfn] & PG_KSM)
    assert len(merged) == 512
    for _ in range(4):  # used lately; to be written; written
        kernel.reclaim.reclaim_pages(None, merged)
        kernel.run_for(1)
    kernel.check()
    assert not np.any(kernel.frames.pages["mapcount"][merged] * (kernel.frames.pages["flags"][merged] & PG_KSM))
    kept = int(np.count_nonzero(kernel.frames.pages["flags"][merged] & PG_KSM))  # in the swap cache, as pages of KSM
    a.touch(addr, 2 * MB)
    b.touch(there, 2 * MB)
    kernel.check()
    assert kernel.vmstat.event[VmEventItem.KSM_SWPIN_COPY] == 512 - kept > 256  # the first's are in the swap cache
    scan(kernel)
    assert value(kernel, "pages_sharing") == 512
    kernel.check()


def test_compaction(kernel: Kernel) -> None:
    for _ in range(2):
        spawn(kernel, 16 * MB, "image", 1)
    scan(kernel)
    kernel.write("/proc/sys/vm/compact_memory", "1")
    kernel.check()
    assert value(kernel, "pages_sharing") == 4096
