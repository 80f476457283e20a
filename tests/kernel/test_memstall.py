"""Waits under memory pressure: they take their time one after another, and what of them is a stall on memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mmfs.kernel.clock import NSEC_PER_MSEC, NSEC_PER_SEC
from mmfs.mm_types import VmEventItem

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

PAGE = 4096
PAGES = (192 << 20) // PAGE


@pytest.fixture(params=["y", "n"], ids=["mglru", "classic"])
def small(request: pytest.FixtureRequest, boot: Callable[..., Kernel]) -> Kernel:
    """A machine that can hold half of what is asked of it."""
    kernel = boot(ram="128M", swap="256M", disks="nvme", preset="bare", cpus=2)
    kernel.write("/sys/kernel/mm/lru_gen/enabled", request.param)
    return kernel


def totals(kernel: Kernel, resource: str) -> list[int]:
    """some and full in microseconds."""
    lines = kernel.read(f"/proc/pressure/{resource}").decode().splitlines()
    return [int(line.rpartition("=")[2]) for line in lines]


def overcommitted(kernel: Kernel, name: str = "thrash") -> tuple[Task, int]:
    task = kernel.spawn(name)
    addr = task.mmap(PAGES * PAGE)
    task.touch(addr, PAGES * PAGE, write=True)
    return task, addr


def thrash(task: Task, addr: int, accesses: int = 20_000, seed: int = 1) -> None:
    pages = np.random.default_rng(seed).integers(0, PAGES, accesses)
    task.touch(pages * PAGE + addr, write=True)


def test_each_swap_in_waits_for_its_disk(small: Kernel) -> None:
    task, addr = overcommitted(small)
    small.run_for(1)
    before, waits = small.clock.now_ns, task.nvcsw
    iowait, faults = sum(cpu.iowait for cpu in small.cpus), task.maj_flt
    switches = small.scheduler.nr_context_switches
    thrash(task, addr)
    took, faults = small.clock.now_ns - before, task.maj_flt - faults
    waited = sum(cpu.iowait for cpu in small.cpus) - iowait
    assert faults > 5_000
    # the latency of the disk is 70 us, and nobody waits for two reads at once
    assert took > waited >= faults * 70_000
    assert faults <= task.nvcsw - waits <= 2 * faults
    assert small.scheduler.nr_context_switches - switches >= 2 * faults
    assert int(small.vmstat.event[VmEventItem.PGMAJFAULT]) >= faults
    small.check()


def test_pages_that_were_in_use_are_a_stall_on_memory(small: Kernel) -> None:
    task, addr = overcommitted(small)
    for seed in range(2, 5):
        thrash(task, addr, seed=seed)
    some, full = totals(small, "memory")
    io = totals(small, "io")
    before = small.clock.now_ns
    thrash(task, addr)
    took = (small.clock.now_ns - before) // 1000
    some, full = (now - then for now, then in zip(totals(small, "memory"), (some, full), strict=True))
    assert 0 < full <= some <= took
    assert 0.5 * took < totals(small, "io")[0] - io[0] <= took
    small.check()


def test_kswapd_stalls_on_memory_all_the_while(small: Kernel) -> None:
    kswapd = next(task for task in small.tasks.values() if task.comm == "kswapd0")
    before, stalled = small.scheduler.cputime(kswapd)[1], totals(small, "memory")[0]
    overcommitted(small)
    small.run_for(1)
    worked = small.scheduler.cputime(kswapd)[1] - before
    assert worked > NSEC_PER_MSEC
    # two CPUs are weighted by how long each was busy, in ticks: at worst half of it shows
    assert totals(small, "memory")[0] - stalled >= worked // 2000


def test_the_waits_of_a_wakeup_do_not_overlap_its_work(small: Kernel) -> None:
    task, addr = overcommitted(small)
    small.run_for(1)
    seen: list[int] = []

    def step() -> None:
        begun, cpu, faults = small.clock.now_ns, sum(small.scheduler.cputime(task)), task.maj_flt
        thrash(task, addr, 3_000)
        small.scheduler.call_when_ready(task, ready, begun, cpu, faults)

    def ready(begun: int, cpu: int, faults: int) -> None:
        work = sum(small.scheduler.cputime(task)) - cpu
        seen.extend((small.clock.now_ns - begun, work + (task.maj_flt - faults) * 70_000))

    small.clock.add_timer(small.clock.now_ns, step)
    small.run_for(5)
    assert seen and seen[0] >= seen[1]
    small.check()


def blkio_ticks(kernel: Kernel, task: Task) -> int:
    return int(kernel.read(f"/proc/{task.pid}/stat").decode().rpartition(")")[2].split()[39])


def test_delays_are_accounted_for_when_that_is_wanted(boot: Callable[..., Kernel]) -> None:
    ways = (("", "", False), ("delayacct", "", True), ("", "1", True), ("delayacct", "0", False))
    for cmdline, sysctl, wanted in ways:
        kernel = boot(ram="128M", preset="bare", cmdline=cmdline)
        assert kernel.read("/proc/sys/kernel/task_delayacct") == (b"1\n" if cmdline else b"0\n")
        before = kernel.spawn("before")
        if sysctl:
            kernel.write("/proc/sys/kernel/task_delayacct", sysctl)
        task = kernel.spawn("after")
        for waiter in (before, task):
            kernel.io_wait(waiter, NSEC_PER_SEC // 2)
        assert blkio_ticks(kernel, task) == (50 if wanted else 0)
        assert blkio_ticks(kernel, before) == (50 if wanted and cmdline else 0)
