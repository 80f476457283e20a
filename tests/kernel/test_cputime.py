"""CPU time: every nanosecond is in one bucket, and what tasks did shows up as the clock moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfs.kernel.clock import NSEC_PER_SEC, TICK_NSEC, Clock
from mmfs.kernel.cputime import CpuTime
from mmfs.kernel.loadavg import EXP_1, FIXED_1, LOAD_FREQ, LoadAverage, calc_load
from mmfs.kernel.psi import PsiGroup
from mmfs.kernel.rq import SCHED_SLICE_NS
from mmfs.kernel.scheduler import Scheduler

SECOND = NSEC_PER_SEC


@dataclass(eq=False)
class FakeTask:
    nice: int = 0
    processor: int = 0
    cpus_allowed: set[int] | None = None
    nvcsw: int = 0
    nivcsw: int = 0
    delays: bool = True
    blkio_delay_ns: int = 0
    psi_group: PsiGroup | None = None
    sched: Any = None


@pytest.fixture
def sched() -> Scheduler:
    return Scheduler(Clock(), [0, 0])


def test_an_idle_machine_is_idle(sched: Scheduler) -> None:
    sched.clock.run_for(3 * SECOND)
    assert [cpu.idle for cpu in sched.cpus] == [3 * SECOND] * 2
    assert sched.idle_ns() == 6 * SECOND
    assert sched.nr_running == 0


def test_work_is_queued_and_done_as_time_passes(sched: Scheduler) -> None:
    task = FakeTask()
    sched.charge(task, user_ns=SECOND, system_ns=SECOND // 2)
    assert sched.cputime(task) == (0, 0)
    assert sched.backlog_ns(task) == SECOND + SECOND // 2
    assert sched.ready_ns(task) == SECOND + SECOND // 2
    assert sched.nr_running == 1
    assert sched.is_running(task)
    assert sched.cpus[0].user == 0
    sched.clock.run_for(SECOND)
    assert sched.cputime(task) == (SECOND, 0)
    assert (sched.cpus[0].user, sched.cpus[0].idle) == (SECOND, 0)
    sched.clock.run_for(SECOND)
    assert sched.cputime(task) == (SECOND, SECOND // 2)
    assert (sched.cpus[0].system, sched.cpus[0].idle) == (SECOND // 2, SECOND // 2)
    assert sched.nr_running == 0
    assert not sched.is_running(task)
    assert sched.cpus[1].idle == 2 * SECOND


def test_a_niced_task_goes_to_the_nice_bucket(sched: Scheduler) -> None:
    sched.charge(FakeTask(nice=10), user_ns=1000)
    sched.clock.run_for(SECOND)
    assert (sched.cpus[0].nice, sched.cpus[0].user) == (1000, 0)


def test_a_busy_cpu_is_left_for_an_idle_one(sched: Scheduler) -> None:
    first, second, third = FakeTask(cpus_allowed={0}), FakeTask(), FakeTask(cpus_allowed={0})
    for task in (first, second, third):
        sched.charge(task, user_ns=SECOND)
    assert [task.processor for task in (first, second, third)] == [0, 1, 0]
    assert sched.nr_running == 3
    sched.clock.run_for(SECOND)
    assert [cpu.user for cpu in sched.cpus] == [SECOND, SECOND]
    assert sched.nr_running == 2  # the two on CPU 0 have each had half of it
    assert [sched.cputime(task)[0] for task in (first, second, third)] == [SECOND // 2, SECOND, SECOND // 2]
    assert first.nivcsw == third.nivcsw == SECOND // 2 // TICK_NSEC


def test_context_switches_to_and_from_idle(sched: Scheduler) -> None:
    sched.charge(FakeTask(), user_ns=1000)
    assert sched.nr_context_switches == 1
    sched.clock.run_for(SECOND)
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


def test_tasks_share_a_cpu_by_weight() -> None:
    sched = Scheduler(Clock(), [0])
    tasks = [FakeTask(nice=nice) for nice in (0, 0, 5, 19)]
    for task in tasks:
        sched.charge(task, user_ns=1000 * SECOND)
    sched.clock.run_for(100 * SECOND)
    had = [sum(sched.cputime(task)) for task in tasks]
    assert sum(had) == 100 * SECOND
    fair = [100 * SECOND * weight // (1024 + 1024 + 335 + 15) for weight in (1024, 1024, 335, 15)]
    # they run a slice at a time, and each may be as far from its share
    assert all(abs(a - b) <= 3 * SCHED_SLICE_NS for a, b in zip(had, fair, strict=True))
    tasks[3].nice = 0
    sched.task_changed(tasks[3])
    sched.clock.run_for(100 * SECOND)
    gained = [sum(sched.cputime(task)) - before for task, before in zip(tasks, had, strict=True)]
    assert abs(gained[3] - gained[0]) <= 3 * SCHED_SLICE_NS


def test_who_looks_when_changes_nothing() -> None:
    def story(step: int) -> list[tuple[int, ...]]:
        sched = Scheduler(Clock(), [0, 0])
        tasks = [FakeTask(nice=nice, cpus_allowed={nice % 2}) for nice in range(6)]
        for number, task in enumerate(tasks):
            sched.charge(task, user_ns=number * 12_345_678, system_ns=87_654_321)
        while sched.clock.now_ns < SECOND:
            sched.clock.run_for(min(step, SECOND - sched.clock.now_ns))
            sched.idle_ns()
        switches = tuple(task.nivcsw for task in tasks)
        return [switches, *(sched.cputime(task) for task in tasks), *(cpu.times() for cpu in sched.cpus)]

    assert story(SECOND) == story(1_111_111) == story(17_000_003)


def test_a_task_that_sleeps_gets_its_turn_at_once(sched: Scheduler) -> None:
    hog, short = FakeTask(cpus_allowed={0}), FakeTask(cpus_allowed={0})
    sched.charge(hog, user_ns=100 * SECOND)
    done: list[int] = []
    for number in range(1, 50):
        sched.clock.run_until(number * SECOND // 10)
        sched.charge(short, user_ns=SECOND // 2000)
        asked = sched.clock.now_ns
        sched.call_when_ready(short, lambda asked=asked: done.append(sched.clock.now_ns - asked))
    sched.clock.run_for(SECOND)
    assert done == [SECOND // 2000] * 49


def test_steps_of_any_length_get_the_same_share() -> None:
    sched = Scheduler(Clock(), [0])
    tasks = {step: FakeTask() for step in (SECOND // 1000, SECOND // 100, SECOND // 10)}

    def program(step: int) -> None:
        sched.charge(tasks[step], user_ns=step)
        sched.call_when_ready(tasks[step], program, step)

    for step in tasks:
        program(step)
    sched.clock.run_for(30 * SECOND)
    assert all(abs(sum(sched.cputime(task)) - 10 * SECOND) < SECOND // 20 for task in tasks.values())


def test_when_a_task_is_ready_it_is_called(sched: Scheduler) -> None:
    tasks = [FakeTask(nice=nice, cpus_allowed={0}) for nice in (0, 3, 10)]
    called: dict[int, int] = {}
    for number, task in enumerate(tasks, 1):
        sched.charge(task, user_ns=number * SECOND)
        sched.wait(task, number * SECOND, io=True)
        assert sched.ready_ns(task) == 2 * number * SECOND

        def ready(number: int = number) -> None:
            assert sched.is_ready(tasks[number - 1])
            called[number] = sched.clock.now_ns

        sched.call_when_ready(task, ready)
    sched.clock.run_for(SECOND)
    assert not called and sched.ready_ns(tasks[0]) == 2 * SECOND
    sched.clock.run_for(9 * SECOND)
    assert list(called) == [1, 2, 3]
    assert called[3] == 7 * SECOND  # six of work, and one until there was any


def test_three_tasks_on_two_cpus_get_two_thirds_each(sched: Scheduler) -> None:
    tasks = [FakeTask() for _ in range(3)]
    for task in tasks:
        sched.charge(task, user_ns=100 * SECOND)
    sched.clock.run_for(30 * SECOND)
    assert all(abs(sum(sched.cputime(task)) - 20 * SECOND) < SECOND // 4 for task in tasks)
    assert sched.idle_ns() == 0


def test_an_idle_cpu_takes_over_a_task_that_waits(sched: Scheduler) -> None:
    long, short, third = FakeTask(), FakeTask(), FakeTask()
    for task, nsec in ((long, 2 * SECOND), (short, SECOND // 10), (third, 2 * SECOND)):
        sched.charge(task, user_ns=nsec)
    assert sched.cpus[0].nr_running == 2
    sched.clock.run_for(2 * SECOND)
    assert sched.idle_ns() <= TICK_NSEC
    assert {long.processor, third.processor} == {0, 1}


def test_a_bound_task_is_left_where_it_is(sched: Scheduler) -> None:
    for task in (FakeTask(cpus_allowed={0}), FakeTask(cpus_allowed={0})):
        sched.charge(task, user_ns=SECOND)
    sched.clock.run_for(2 * SECOND)
    assert (sched.cpus[0].user, sched.cpus[1].user) == (2 * SECOND, 0)


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
    assert work == sum(sum(sched.cputime(task)) for task in tasks)


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
