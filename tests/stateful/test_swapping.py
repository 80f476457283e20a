"""A machine that is always short of memory and whose swap areas come and go under it.

What SwappingMachine's programs do, and: three disks and a file are swapped on, with and without a priority, as disks
that seek or do not (which take huge pages whole), and swapped off again, while other programs run; tmpfs files are
written, read, cut and removed; read-ahead is tuned. Every step ends in `kernel.check()`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import initialize, precondition, rule

from mmfs import workload
from mmfs.kernel.panic import KernelPanicError
from mmfs.mm.mman import (
    MADV_COLD,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_HWPOISON,
    MADV_PAGEOUT,
    MADV_SOFT_OFFLINE,
    MADV_WILLNEED,
    MAP_ANONYMOUS,
    MAP_SHARED,
)
from tests.stateful.test_machine import PAGE, SETTINGS, Machine, SwappingMachine

O_RDWR, O_CREAT = 2, 0o100
HUGE = 2 << 20
AREAS = st.sampled_from(["/dev/vdb", "/dev/vdc", "/dev/vdd", "/swapfile"])
RANGE_ADVICE = st.sampled_from([MADV_PAGEOUT, MADV_PAGEOUT, MADV_FREE, MADV_COLD, MADV_DONTNEED, MADV_WILLNEED])

PROGRAMS = [
    ("hog", {"anon": "12M", "rate": "20M/s", "pattern": "random"}),
    ("leak", {"anon": "30M/s", "until": "20M"}),
    ("forkserver", {"anon": "8M", "rate": "20/s", "dirty": "1M", "life": "100ms", "most": "6"}),
    ("tmpfs", {"file": "6M"}),
    ("mlock", {"anon": "4M"}),
]


class SwapAreasMachine(SwappingMachine):
    """Three disks, the largest mostly without seek times; a file, a tmpfs; programs that keep more than it holds."""

    options: ClassVar[dict[str, Any]] = {"ram": "96M", "cpus": 2, "swap": ["6M", "4M", "16M"]}

    @initialize(seed=st.integers(0, 5))
    def boot(self, seed: int) -> None:
        super().boot(seed)
        if seed:
            self.swapoff("/dev/vdd")
            self.swapon("/dev/vdd", 100, "0")
        self.kernel.create_file("/swapfile", 8 << 20)
        self.kernel.mkswap("/swapfile")

    def call(self, function: Any, *arguments: Any, **keywords: Any) -> Any:
        """As ever; a kernel that panics stops in the middle of the call, so another one is booted unchecked."""
        try:
            return Machine.call(self, function, *arguments, **keywords)
        except KernelPanicError:
            self.boot(0)
            return None

    @rule(name=st.sampled_from(["hog", "bash", "cron"]), adj=st.sampled_from([0, 0, 700]))
    def spawn(self, name: str, adj: int) -> None:
        """Only who may be killed: with too many others the machine thrashes for ever."""
        super().spawn(name=name, adj=adj)

    @rule(swappiness=st.sampled_from([0, 1, 60, 100, 200]), zone_reclaim=st.just(0))
    def tune_reclaim(self, swappiness: int, zone_reclaim: int) -> None:
        """Without zone_reclaim_mode, which would have every page of a full machine searched for at once."""
        super().tune_reclaim(swappiness=swappiness, zone_reclaim=zone_reclaim)

    @rule(path=AREAS, priority=st.sampled_from([None, None, 0, 5, 5, 100]), rotational=st.sampled_from("01"))
    def swapon(self, path: str, priority: int | None, rotational: str) -> None:
        disk = path.removeprefix("/dev/") if path.startswith("/dev/") else "vda"
        self.kernel.write(f"/sys/block/{disk}/queue/rotational", rotational)
        self.call(self.kernel.swapon, path, priority)

    @rule(seconds=st.sampled_from([0.001, 0.2, 1.0]))
    def pass_time(self, seconds: float) -> None:
        self.call(self.kernel.run_for, seconds)

    @rule(path=AREAS)
    def swapoff(self, path: str) -> None:
        self.call(self.kernel.swapoff, path)

    @precondition(SwappingMachine.alive)
    @rule(data=st.data(), path=AREAS)
    def swapoff_by_program(self, data: st.DataObject, path: str) -> None:
        self.call(self.task(data).swapoff, path)

    @precondition(SwappingMachine.alive)
    @rule(data=st.data(), pages=st.integers(1, 3000), write=st.booleans())
    def share(self, data: st.DataObject, pages: int, write: bool) -> None:
        task = self.task(data)
        start = self.call(task.mmap, pages * PAGE, flags=MAP_SHARED | MAP_ANONYMOUS)
        if start is not None and task.alive:
            self.call(task.touch, start, pages * PAGE, write=write)

    @precondition(SwappingMachine.alive)
    @rule(data=st.data(), size=st.integers(1, 4), again=st.integers(0, 2000), pages=st.integers(1, 1024))
    def page_out_huge(self, data: st.DataObject, size: int, again: int, pages: int) -> None:
        """Memory that has huge pages if it may, paged out at once and used again in part, even while it is written."""
        task = self.task(data)
        start = self.call(task.mmap, size * HUGE)
        if start is None or not task.alive:
            return
        self.call(task.touch, start, size * HUGE, write=True)
        if task.alive:
            self.call(task.madvise, start, size * HUGE, MADV_PAGEOUT)
        length = min(pages * PAGE, size * HUGE - again * PAGE)
        if task.alive and length > 0:
            self.call(task.touch, start + again * PAGE, length, write=bool(again % 2))

    @precondition(SwappingMachine.alive)
    @rule(data=st.data(), advice=st.sampled_from([MADV_SOFT_OFFLINE, MADV_HWPOISON]), at=st.integers(0, 200))
    def lose_a_page(self, data: st.DataObject, advice: int, at: int) -> None:
        """Memory fails, also such as is in swap or shared."""
        task = self.task(data)
        vmas = task.mm.mmap
        vma = vmas[data.draw(st.integers(0, len(vmas) - 1), label="vma")]
        start = vma.vm_start + at % vma.pages * PAGE
        if data.draw(st.booleans(), label="swapped"):
            self.call(task.madvise, vma.vm_start, vma.vm_end - vma.vm_start, MADV_PAGEOUT)
            if task.alive:
                self.call(task.touch, start, PAGE)
        if task.alive:
            self.call(task.madvise, start, PAGE, advice)

    @precondition(SwappingMachine.alive)
    @rule(data=st.data(), advice=RANGE_ADVICE, touch=st.booleans(), write=st.booleans())
    def advise_whole(self, data: st.DataObject, advice: int, touch: bool, write: bool) -> None:
        """A whole mapping, and perhaps a use of it afterwards."""
        task = self.task(data)
        vmas = task.mm.mmap
        vma = vmas[data.draw(st.integers(0, len(vmas) - 1), label="vma")]
        start, length = vma.vm_start, vma.vm_end - vma.vm_start
        self.call(task.madvise, start, length, advice)
        if touch and task.alive and task.mm.vma_lookup(start) is not None:
            self.call(task.touch, start, length, write=write)

    @precondition(SwappingMachine.alive)
    @rule(data=st.data(), name=st.sampled_from("xyz"), offset=st.integers(0, 1500), pages=st.integers(1, 1500),
          how=st.sampled_from(["write", "write", "read", "truncate", "unlink", "map"]))  # fmt: skip
    def tmpfs(self, data: st.DataObject, name: str, offset: int, pages: int, how: str) -> None:
        task, path = self.task(data), f"/dev/{name}"
        if how == "unlink":
            self.call(task.unlink, path)
            return
        fd = self.call(task.open, path, O_RDWR | O_CREAT)
        if fd is None or not task.alive:
            return
        self.call(task.lseek, fd, offset * PAGE, 0)
        if how == "truncate":
            self.call(task.ftruncate, fd, offset * PAGE)
        elif how == "map":
            self.call(task.mmap, pages * PAGE, flags=MAP_SHARED, file=path, offset=offset * PAGE)
        else:
            self.call(task.write if how == "write" else task.read, fd, pages * PAGE)
        if task.alive:
            self.call(task.close, fd)

    @rule(which=st.sampled_from(PROGRAMS))
    def program(self, which: tuple[str, dict[str, str]]) -> None:
        """Somebody who goes on by himself, while swapoff waits for a disk too; the oldest stops for him."""
        running = [pid for pid, one in workload.programs_of(self.kernel).by_pid.items() if one.task.alive]
        if len(running) > 1:
            self.call(self.kernel.kill, running[0], 9)
        self.call(workload.spawn, self.kernel, which[0], which[1])

    @rule(cluster=st.integers(0, 6), vma=st.sampled_from("01"))
    def tune_readahead(self, cluster: int, vma: str) -> None:
        self.kernel.write("/proc/sys/vm/page-cluster", str(cluster))
        self.kernel.write("/sys/kernel/mm/swap/vma_ra_enabled", vma)


TestSwapAreasMachine = pytest.mark.stateful(SwapAreasMachine.TestCase)
TestSwapAreasMachine.settings = SETTINGS
