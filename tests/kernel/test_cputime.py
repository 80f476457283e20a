"""CPU time: every nanosecond is in one bucket, and what tasks did shows up as the clock moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfs.kernel.clock import NSEC_PER_SEC, TICK_NSEC, Clock
from mmfs.kernel.cputime import Cost, CpuTime, Scheduler
from mmfs.kernel.loadavg import EXP_1, FIXED_1, LOAD_FREQ, LoadAverage, calc_load

SECOND = NSEC_PER_SEC


@dataclass(eq=False)
class FakeTask:
    nice: int = 0
    processor: int = 0
    cpus_allowed: set[int] | None = None
    utime_ns: int = 0
    stime_ns: int = 0
    nvcsw: int = 0
    nivcsw: int = 0
    sched: Any = None


@pytest.fixture
def sched() -> Scheduler:
    return Scheduler(Clock(), [0, 0])


def test_an_idle_machine_is_idle(sched: Scheduler) -> None:
    sched.clock.run_for(3 * SECOND)
    assert [cpu.idle for cpu in sched.cpus] == [3 * SECOND] * 2
    assert sched.idle_ns() == 6 * SECOND
    assert sched.nr_running == 0


def test_work_is_charged_to_the_task_at_once_and_done_as_time_passes(sched: Scheduler) -> None:
    task = FakeTask()
    sched.charge(task, user_ns=SECOND, system_ns=SECOND // 2)
    assert (task.utime_ns, task.stime_ns) == (SECOND, SECOND // 2)
    assert sched.nr_running == 1
    assert sched.is_running(task)
    assert sched.cpus[0].user == 0
    sched.clock.run_for(SECOND)
    assert (sched.cpus[0].user, sched.cpus[0].idle) == (SECOND, 0)
    sched.clock.run_for(SECOND)
    assert (sched.cpus[0].system, sched.cpus[0].idle) == (SECOND // 2, SECOND // 2)
    assert sched.nr_running == 0
    assert not sched.is_running(task)
    assert sched.cpus[1].idle == 2 * SECOND


def test_a_niced_task_goes_to_the_nice_bucket(sched: Scheduler) -> None:
    sched.charge(FakeTask(nice=10), user_ns=1000)
    sched.clock.run_for(SECOND)
    assert (sched.cpus[0].nice, sched.cpus[0].user) == (1000, 0)


def test_a_busy_cpu_is_left_for_an_idle_one(sched: Scheduler) -> None:
    first, second, third = FakeTask(), FakeTask(), FakeTask(cpus_allowed={0})
    for task in (first, second, third):
        sched.charge(task, user_ns=SECOND)
    assert [task.processor for task in (first, second, third)] == [0, 1, 0]
    assert sched.nr_running == 3
    sched.clock.run_for(SECOND)
    assert [cpu.user for cpu in sched.cpus] == [SECOND, SECOND]
    assert sched.nr_running == 2  # the two on CPU 0 have each had half of it
    assert first.nivcsw == third.nivcsw > 100


def test_context_switches_to_and_from_idle(sched: Scheduler) -> None:
    sched.charge(FakeTask(), user_ns=1000)
    assert sched.nr_context_switches == 2


def test_waiting_for_a_disk_is_iowait_not_idle(sched: Scheduler) -> None:
    task = FakeTask()
    sched.wait(task, SECOND, io=True)
    sched.wait(task, SECOND, io=True)
    assert sched.nr_iowait == 1
    sched.clock.run_for(3 * SECOND)
    assert (sched.cpus[0].iowait, sched.cpus[0].idle) == (2 * SECOND, SECOND)
    assert sched.nr_iowait == 0
    assert task.nvcsw == 2


def test_an_exited_task_leaves_no_trace_on_the_queue_but_its_work(sched: Scheduler) -> None:
    task = FakeTask()
    sched.charge(task, user_ns=SECOND)
    sched.exit(task)
    assert sched.nr_running == 0
    sched.clock.run_for(2 * SECOND)
    assert sched.cpus[0].user == SECOND


def test_ticks_stop_when_idle(sched: Scheduler) -> None:
    sched.charge(FakeTask(), user_ns=SECOND)
    sched.clock.run_for(10 * SECOND)
    assert [cpu.timer_interrupts for cpu in sched.cpus] == [SECOND // TICK_NSEC, 0]
    sched.run_kthread(None)
    assert sched.cpus[0].timer_interrupts == SECOND // TICK_NSEC + 1


def test_faults_cost_what_the_table_says(sched: Scheduler) -> None:
    task = FakeTask()
    sched.charge_faults(task, minor=100, major=3, accesses=1000)
    assert task.stime_ns == 100 * Cost.FAULT_MINOR + 3 * Cost.FAULT_MAJOR
    assert task.utime_ns == 1000 * Cost.ACCESS


charges = st.tuples(
    st.integers(0, 3), st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 2 * 10**7)
)


@given(st.lists(charges, max_size=25))
def test_buckets_always_add_up_to_the_uptime(steps: list[tuple[int, int, int, int, int]]) -> None:
    sched = Scheduler(Clock(), [0, 0, 1])
    tasks = [FakeTask(nice=number - 1) for number in range(4)]
    for who, user, system, wait, elapsed in steps:
        sched.charge(tasks[who], user_ns=user, system_ns=system)
        if wait:
            sched.wait(tasks[who], wait, io=True)
        before = [cpu.times() for cpu in sched.cpus]
        sched.clock.run_for(elapsed)
        sched.check()
        for old, new in zip(before, (cpu.times() for cpu in sched.cpus), strict=True):
            assert all(a <= b for a, b in zip(old, new, strict=True))
    sched.clock.run_for(10 * SECOND)
    work = sum(cpu.times()[b] for cpu in sched.cpus for b in (CpuTime.USER, CpuTime.NICE, CpuTime.SYSTEM))
    assert work == sum(task.utime_ns + task.stime_ns for task in tasks)


def test_calc_load_rounds_up_when_rising_and_down_when_falling() -> None:
    assert calc_load(0, EXP_1, FIXED_1) == (FIXED_1 * (FIXED_1 - EXP_1) + FIXED_1 - 1) // FIXED_1
    assert calc_load(FIXED_1, EXP_1, 0) == EXP_1


def test_one_busy_task_for_a_minute_is_a_load_of_about_0_63() -> None:
    clock = Clock()
    load = LoadAverage(clock, lambda: 1)
    clock.run_until(61 * SECOND)
    assert load.get_avenrun() == ("0.63", "0.18", "0.06")


def test_the_load_of_an_idle_machine_is_zero_and_is_sampled_every_five_seconds() -> None:
    clock = Clock()
    samples: list[int] = []

    def count() -> int:
        samples.append(clock.now_ns)
        return 0

    load = LoadAverage(clock, count)
    clock.run_until(12 * SECOND)
    assert samples == [(LOAD_FREQ + 10) * TICK_NSEC, (2 * LOAD_FREQ + 10) * TICK_NSEC]
    assert load.get_avenrun() == ("0.00", "0.00", "0.00")
