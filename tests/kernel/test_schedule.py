"""The time of system calls: long ones move the clock, waits are state D, what a wakeup calls never nests it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mmfs.kernel.clock import NSEC_PER_MSEC, NSEC_PER_SEC
from mmfs.kernel.cputime import Cost
from mmfs.kernel.signal import SIGKILL, TaskKilled
from mmfs.mm.fault import SLICE_NS

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

MB = 1 << 20


@pytest.fixture
def task(kernel: Kernel) -> Task:
    task = kernel.spawn("sh")
    kernel.run_for(0.1)
    return task


def state(kernel: Kernel, task: Task) -> str:
    return kernel.read(f"/proc/{task.pid}/stat").decode().split()[2]


def test_a_short_call_leaves_the_clock_alone(kernel: Kernel, task: Task) -> None:
    before = kernel.clock.now_ns
    task.touch(task.mmap(1 * MB), 1 * MB, write=True)
    assert kernel.clock.now_ns == before
    assert kernel.scheduler.backlog_ns(task) == 2 * Cost.SYSCALL + 256 * (Cost.FAULT_MINOR + Cost.ACCESS)
    assert state(kernel, task) == "R"
    kernel.run_for(0.001)
    assert state(kernel, task) == "S"


def test_a_long_call_takes_its_time_in_slices_beside_others(kernel: Kernel, task: Task) -> None:
    seen: list[tuple[int, int]] = []
    addr = task.mmap(64 * MB)
    assert task.mm is not None
    before, rss = kernel.clock.now_ns, task.mm.rss

    def look() -> None:
        assert task.mm is not None
        seen.append((kernel.clock.now_ns - before, task.mm.rss - rss))

    kernel.clock.call_every("look", NSEC_PER_MSEC, look)
    task.touch(addr, 64 * MB, write=True)
    cost = (64 * MB >> 12) * (Cost.FAULT_MINOR + Cost.ACCESS)
    assert cost - SLICE_NS <= kernel.clock.now_ns - before <= cost
    assert len(seen) == (kernel.clock.now_ns - before) // NSEC_PER_MSEC
    growth = [pages for _, pages in seen]
    assert growth == sorted(set(growth))
    assert all(abs(pages * (Cost.FAULT_MINOR + Cost.ACCESS) - when) <= 2 * SLICE_NS for when, pages in seen)
    assert task.min_flt >= 64 * MB >> 12


def test_a_task_finishes_earlier_calls_before_it_makes_the_next(kernel: Kernel, task: Task) -> None:
    kernel.scheduler.charge(task, user_ns=NSEC_PER_SEC)
    before = kernel.clock.now_ns
    task.brk()
    assert 0 <= kernel.clock.now_ns - before - NSEC_PER_SEC < NSEC_PER_MSEC  # what kernel threads took of its CPU


def test_faults_and_time_of_others_are_not_the_callers(kernel: Kernel, task: Task) -> None:
    other = kernel.spawn("sh", cpus=[1 - task.processor])
    kernel.run_for(0.1)
    area = other.mmap(64 * MB)
    faults, done = other.min_flt, [0]

    def step() -> None:
        other.touch(area + done[0] * MB, MB, write=True)
        done[0] += 1
        kernel.scheduler.call_when_ready(other, step)

    kernel.scheduler.call_when_ready(other, step)
    mine = task.min_flt
    task.touch(task.mmap(32 * MB), 32 * MB, write=True)
    assert task.min_flt - mine == 32 * MB >> 12
    assert other.min_flt - faults == done[0] * (MB >> 12)
    assert abs(done[0] - 32) <= 1  # two CPUs, the same work on each


def test_a_task_that_others_kill_in_a_long_call_is_gone(kernel: Kernel, task: Task) -> None:
    kernel.clock.add_timer(kernel.clock.now_ns + 5 * NSEC_PER_MSEC, kernel.kill, task.pid, SIGKILL)
    with pytest.raises(TaskKilled):
        task.touch(task.mmap(64 * MB), 64 * MB, write=True)
    assert not task.alive


def test_waiting_for_a_device_moves_the_clock_from_outside(kernel: Kernel, task: Task) -> None:
    before = kernel.clock.now_ns
    waits = kernel.cpus[task.processor].iowait
    kernel.io_schedule(task, before + 7 * NSEC_PER_MSEC)
    assert kernel.clock.now_ns == before + 7 * NSEC_PER_MSEC
    assert kernel.cpus[task.processor].iowait - waits == 7 * NSEC_PER_MSEC


def test_in_a_wakeup_a_wait_is_noted_and_completions_come_early(kernel: Kernel, task: Task) -> None:
    disk, ended, states = next(iter(kernel.block_devices)), [], []

    def program() -> None:
        now = kernel.clock.now_ns
        until = now + disk.submit_bio(0, 8, end_io=ended.append, args=("bio",))
        kernel.io_schedule(task, until)
        kernel.schedule_timeout(task, 3 * NSEC_PER_MSEC)
        assert kernel.clock.now_ns == now
        assert ended == ["bio"]
        assert kernel.scheduler.ready_ns(task) == until + 3 * NSEC_PER_MSEC
        kernel.scheduler.call_when_ready(task, lambda: states.append(kernel.clock.now_ns - until))
        assert (state(kernel, task), kernel.scheduler.nr_iowait, kernel.nr_active()) == ("D", 1, 1)
        kernel.clock.add_timer(until + NSEC_PER_MSEC, throttled)

    def throttled() -> None:
        assert (state(kernel, task), kernel.scheduler.nr_iowait, kernel.nr_active()) == ("D", 0, 1)
        states.append("throttled")

    kernel.clock.add_timer(kernel.clock.now_ns, program)
    kernel.run_for(0.1)
    assert states == ["throttled", 3 * NSEC_PER_MSEC]
    assert state(kernel, task) == "S"


def test_a_task_that_dies_waits_no_more(kernel: Kernel, task: Task) -> None:
    kernel.scheduler.wait(task, NSEC_PER_SEC, io=True)
    kernel.scheduler.wait(task, NSEC_PER_SEC, io=False)
    kernel.kill(task.pid, SIGKILL)
    assert (kernel.scheduler.nr_iowait, kernel.scheduler.nr_uninterruptible) == (0, 0)
    kernel.run_for(3)
    assert (kernel.scheduler.nr_iowait, kernel.scheduler.nr_uninterruptible) == (0, 0)


def test_work_waits_until_the_wait_is_over(kernel: Kernel, task: Task) -> None:
    kernel.scheduler.charge(task, user_ns=2 * NSEC_PER_MSEC)
    kernel.scheduler.wait(task, 10 * NSEC_PER_MSEC, io=True)
    kernel.run_for(0.010)
    assert kernel.scheduler.backlog_ns(task) == 2 * NSEC_PER_MSEC
    assert state(kernel, task) == "R"
    kernel.run_for(0.002)
    assert kernel.scheduler.is_ready(task)


def test_time_is_not_moved_from_within_a_wakeup(kernel: Kernel) -> None:
    kernel.clock.add_timer(kernel.clock.now_ns, kernel.run_for, 1)
    with pytest.raises(RuntimeError, match="within a wakeup"):
        kernel.run_for(1)
    assert not kernel.clock.running


def test_a_task_that_goes_on_elsewhere_has_migrated(boot: Callable[..., Kernel]) -> None:
    """Two tasks that both ran on CPU 0 work at once: one of them goes to CPU 1, and stays."""
    kernel = boot(cpus=2)
    kernel.run_for(1)
    tasks = [kernel.spawn("sh") for _ in range(2)]
    for task in tasks:
        task.sched_setaffinity([0])
        kernel.scheduler.charge(task, user_ns=NSEC_PER_MSEC)
    kernel.run_for(0.1)
    before = [migrations(kernel, task) for task in tasks]
    for task in tasks:
        task.sched_setaffinity([0, 1])
        kernel.scheduler.charge(task, user_ns=100 * NSEC_PER_MSEC)
    kernel.run_for(0.05)
    assert sorted(task.processor for task in tasks) == [0, 1]
    assert sum(migrations(kernel, task) for task in tasks) == sum(before) + 1


def migrations(kernel: Kernel, task: Task) -> int:
    lines = kernel.read(f"/proc/{task.pid}/sched").decode().splitlines()
    return next(int(line.split()[2]) for line in lines if line.startswith("se.nr_migrations"))
