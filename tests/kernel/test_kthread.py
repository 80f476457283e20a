"""Kernel threads wake up when they should, and their time is charged to them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mmfs.kernel import kthread
from mmfs.kernel.clock import NSEC_PER_SEC
from mmfs.kernel.cputime import Cost
from mmfs.kernel.kernel import Kernel


@pytest.fixture
def kernel(boot: Callable[..., Kernel]) -> Kernel:
    return boot(ram="512M", cpus=2, preset="bare")


def thread(kernel: Kernel, comm: str) -> int:
    return next(task.pid for task in kernel.tasks.values() if task.comm == comm)


def test_kcompactd_wakes_twice_a_second_and_pays_for_it(kernel: Kernel) -> None:
    task = kernel.tasks[thread(kernel, "kcompactd0")]
    stime, switches = task.stime_ns, task.nvcsw
    kernel.run_for(10)
    assert task.nvcsw - switches == 20
    assert task.stime_ns - stime == 20 * Cost.WAKEUP


def test_a_thread_can_be_given_more_work(kernel: Kernel) -> None:
    ran: list[int] = []
    work = kthread.start(kernel, "scan", "khugepaged", NSEC_PER_SEC, lambda: ran.append(kernel.clock.now_ns))
    kernel.run_for(5)
    assert len(ran) == work.runs == 5
    work.period_ns = 0
    kernel.clock.restart(work)
    kernel.run_for(5)
    assert len(ran) == 5


def test_work_without_its_thread_still_costs_the_cpu(kernel: Kernel) -> None:
    before = kernel.cpus[1].timer_wakeups
    kthread.start(kernel, "orphan", "no_such_thread", NSEC_PER_SEC, cpu=1)
    kernel.run_for(4)
    assert kernel.cpus[1].timer_wakeups - before >= 4


def test_the_shepherd_leaves_quiet_cpus_alone(boot: Callable[..., Kernel]) -> None:
    kernel = boot(ram="512M", cpus=8, preset="bare")
    kernel.run_for(10)
    before = [cpu.timer_wakeups for cpu in kernel.cpus]
    kernel.run_for(100)
    woken = [cpu.timer_wakeups - count for cpu, count in zip(kernel.cpus, before, strict=True)]
    # A CPU that nothing runs on has the clocksource watchdog every four seconds, and then counters to fold.
    assert 25 <= min(woken) <= 75


def test_starts_are_spread_over_the_period(kernel: Kernel) -> None:
    periodics = kernel.clock.periodics.values()
    phases = {work.timer.when_ns % work.period_ns for work in periodics if work.timer is not None}
    assert len(phases) == len(periodics)
