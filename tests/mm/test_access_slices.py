"""Long runs of accesses: how far a task goes before others have their turn, and what they may change meanwhile."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from mmfs.kernel.clock import NSEC_PER_MSEC
from mmfs.kernel.signal import SegmentationFault
from mmfs.mm.fault import LONG_SLICE_NS, SLICE_NS
from mmfs.mm.mman import MADV_NOHUGEPAGE, MADV_PAGEOUT
from mmfs.mm.munmap import do_munmap
from mmfs.mm_types import MAX_NR_ZONES, ZONE_DMA32, ZONE_MOVABLE, ZONE_NORMAL

MB = 1 << 20
PAGE = 4096
READ_NS = 70_000
"""What a read from this disk takes at least."""
pytestmark = pytest.mark.machine(ram="128M", swap="64M", cpus=2, preset="bare", disks="nvme")


def swapped_out(kernel: Any, task: Any, pages: int) -> int:
    """So many pages, each of which has to be read from the disk by itself."""
    kernel.write("/proc/sys/vm/page-cluster", "0")
    addr = int(task.mmap(pages * PAGE))
    task.touch(addr, pages * PAGE, write=True)
    task.madvise(addr, pages * PAGE, MADV_PAGEOUT)
    kernel.run_for(1)
    kernel.write("/proc/sys/vm/drop_caches", "1")
    kernel.reclaim.reclaim_pages(None, np.flatnonzero(kernel.frames.pages[: kernel.max_pfn]["mapcount"] == 0))
    return addr


@pytest.fixture
def task(kernel: Any) -> Any:
    return kernel.spawn("hog")


def test_reads_are_taken_together_until_something_is_due(
    kernel: Any, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    addr = swapped_out(kernel, task, 1024)
    seen: list[tuple[int, int]] = []
    kernel.clock.call_every("watcher", 7 * NSEC_PER_MSEC, lambda: seen.append((kernel.clock.now_ns, task.maj_flt)))
    slices = 0
    whole = kernel.cond_resched

    def count(task: Any) -> None:
        nonlocal slices
        slices += 1
        whole(task)

    monkeypatch.setattr(kernel, "cond_resched", count)
    faults, switches, begin = task.maj_flt, task.nvcsw, kernel.clock.now_ns
    task.touch(np.arange(1024) * PAGE + addr, write=True)
    assert task.maj_flt - faults == 1024
    assert task.nvcsw - switches == 1024  # each read was waited for
    assert kernel.clock.now_ns - begin >= 1024 * READ_NS
    assert 8 <= slices <= 20  # 75 ms
    for (then, before), (now, after) in pairwise(seen):
        assert (after - before) * READ_NS <= now - then + SLICE_NS  # nobody has come from the future
    kernel.check()


def test_computing_ends_a_slice_sooner(kernel: Any, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    addr = task.mmap(MB)
    task.touch(addr, MB, write=True)
    stops = []
    whole = kernel.cond_resched
    monkeypatch.setattr(kernel, "cond_resched", lambda task: (stops.append(kernel.mmu.time.cpu_ns), whole(task)))
    task.touch(np.tile(np.arange(256) * PAGE + addr, 20_000), write=False)  # 20 ms
    assert len(stops) >= 5
    assert max(stops) < LONG_SLICE_NS + 1000


def test_an_area_that_goes_meanwhile(kernel: Any, task: Any) -> None:
    """The addresses have been looked at by then, but are looked at again."""
    addr = swapped_out(kernel, task, 1024)
    mm = task.mm
    kernel.clock.add_timer(kernel.clock.now_ns + 10 * NSEC_PER_MSEC, do_munmap, mm, addr + 2 * MB, 2 * MB)
    with pytest.raises(SegmentationFault):
        task.touch(np.arange(1024) * PAGE + addr, write=True)
    kernel.check()


def test_several_areas(kernel: Any, task: Any) -> None:
    areas = [task.mmap(MB), task.mmap(MB, 1), task.mmap(2 * MB)]
    rng = np.random.default_rng(1)
    order = rng.choice(areas, 5000) + rng.integers(0, 256, 5000) * PAGE
    task.touch(order)
    assert task.min_flt >= len(np.unique(order))
    with pytest.raises(SegmentationFault):
        task.touch(order, write=True)  # one of them is read-only
    kernel.check()


class TestAwakeKswapd:
    """Who finds free memory below the low watermark asks kswapd, which may be at work already."""

    def test_who_sleeps_is_not_asked(self, boot: Any) -> None:
        kernel = boot(ram="256M", nodes=2, cpus=2, preset="bare")
        buddy = kernel.page_alloc.buddy
        every = (1 << 64) - 1
        buddy.kswapds_awake = 0b01
        assert not buddy.wake_awake_kswapds(0, ZONE_MOVABLE, every)
        assert buddy.kswapd_highest.tolist() == [MAX_NR_ZONES, MAX_NR_ZONES]
        assert buddy.wake_awake_kswapds(0, ZONE_DMA32, 0b01)
        assert buddy.wake_awake_kswapds(0, ZONE_MOVABLE, 0b01)
        assert buddy.wake_awake_kswapds(0, ZONE_NORMAL, 0b01)
        assert [pgdat.kswapd_highest_zoneidx for pgdat in kernel.node_data] == [ZONE_MOVABLE, MAX_NR_ZONES]
        buddy.kswapds_awake = 0

    def test_faults_go_on_meanwhile(self, kernel: Any, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Between the low and the min watermark nothing has to be decided."""
        asked = []
        slow = kernel.page_alloc.slowpath
        monkeypatch.setattr(
            kernel.page_alloc, "slowpath", lambda *given: (asked.append(kernel.kswapds[0].state), slow(*given))[1]
        )
        addr = task.mmap(120 * MB)
        task.madvise(addr, 120 * MB, MADV_NOHUGEPAGE)
        low = sum(zone.low_wmark_pages() for zone in kernel.zones)
        low_while_awake = 0
        for at in range(addr, addr + 120 * MB, PAGE):
            free = kernel.page_alloc.nr_free_pages()
            task.touch(at, write=True)
            low_while_awake += free < low and kernel.kswapds[0].state == 2
        assert low_while_awake > 100
        assert sum(state == 2 for state in asked) < low_while_awake // 2
        kernel.check()
