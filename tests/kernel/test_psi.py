"""Pressure: what is lost while tasks wait is counted as psi.c counts it, and triggers tell of it."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfs.kernel.clock import HZ, NSEC_PER_MSEC, NSEC_PER_SEC, TICK_NSEC, Clock
from mmfs.kernel.psi import PSI_FREQ, PsiGroup, PsiRes, calc_load_n
from mmfs.kernel.scheduler import Scheduler
from mmfs.kernfs import Caller
from tests.kernel.test_cputime import FakeTask

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernfs import OpenFile

SECOND = NSEC_PER_SEC
DEFAULT = select.POLLIN | select.POLLOUT | select.POLLRDNORM | select.POLLWRNORM


@pytest.fixture
def sched() -> Scheduler:
    return Scheduler(Clock(), [0])


def total(sched: Scheduler, res: PsiRes) -> tuple[int, ...]:
    """Totals of some and full in microseconds, from the text."""
    return tuple(int(line.rpartition("=")[2]) for line in sched.psi_system.show(res).splitlines())


def average(sched: Scheduler, res: PsiRes) -> list[list[float]]:
    return [
        [float(word.partition("=")[2]) for word in line.split()[1:4]]
        for line in sched.psi_system.show(res).splitlines()
    ]


def test_nothing_is_lost_on_an_idle_machine(sched: Scheduler) -> None:
    sched.clock.run_for(100 * SECOND)
    for res in PsiRes:
        assert sched.psi_system.show(res) == (
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
        )


def test_waiting_for_a_disk_alone_is_full(sched: Scheduler) -> None:
    sched.wait(FakeTask(), 3 * SECOND, io=True)
    sched.clock.run_for(5 * SECOND)
    assert total(sched, PsiRes.IO) == (3_000_000, 3_000_000)
    assert total(sched, PsiRes.MEM) == total(sched, PsiRes.CPU) == (0, 0)


def test_waiting_for_a_disk_beside_work_is_some(sched: Scheduler) -> None:
    sched.wait(FakeTask(), 3 * SECOND, io=True)
    sched.charge(FakeTask(), user_ns=2 * SECOND)
    sched.clock.run_for(5 * SECOND)
    assert total(sched, PsiRes.IO) == (3_000_000, 1_000_000)


def test_a_memstall_is_memory_and_a_disk_is_both(sched: Scheduler) -> None:
    task = FakeTask()
    sched.wait(task, SECOND, io=True, memstall=True)
    sched.wait(task, 2 * SECOND, io=False, memstall=True)
    sched.wait(task, SECOND, io=False)
    sched.clock.run_for(5 * SECOND)
    assert total(sched, PsiRes.IO) == (1_000_000, 1_000_000)
    assert total(sched, PsiRes.MEM) == (3_000_000, 3_000_000)


def test_a_task_that_reclaims_is_stalled_while_it_runs(sched: Scheduler) -> None:
    reclaimer, other = FakeTask(), FakeTask()
    sched.charge(reclaimer, user_ns=SECOND, system_ns=SECOND, memstall=True)
    sched.clock.run_for(3 * SECOND)
    assert total(sched, PsiRes.MEM) == (1_000_000, 1_000_000)
    sched.charge(reclaimer, system_ns=SECOND, memstall=True)
    sched.charge(other, user_ns=SECOND)
    sched.clock.run_for(3 * SECOND)
    some, full = total(sched, PsiRes.MEM)
    # it shares the CPU: stalled for two seconds less its last slice, and all is lost while it has the CPU
    assert abs(some - 1_000_000 - 2_000_000) <= 4_000
    assert full == 2_000_000


def test_who_waits_for_a_cpu_is_some_pressure_on_it(sched: Scheduler) -> None:
    for _ in range(3):
        sched.charge(FakeTask(), user_ns=SECOND)
    sched.clock.run_for(4 * SECOND)
    some, full = total(sched, PsiRes.CPU)
    assert abs(some - 3_000_000) <= 12_000  # two slices before the end only one is left
    assert full == 0


def test_cpus_are_weighted_by_how_busy_they_are() -> None:
    sched = Scheduler(Clock(), [0, 0, 0, 0])
    sched.wait(FakeTask(processor=0), SECOND, io=True)
    sched.charge(FakeTask(processor=1), user_ns=3 * SECOND)
    sched.clock.run_for(4 * SECOND)
    weighted = 1_000_000 * 250 // (250 + 501)  # ticks of the first sample in which each was busy; an idle one has none
    assert total(sched, PsiRes.IO) == (weighted, weighted)


def test_averages_follow_the_last_two_seconds(sched: Scheduler) -> None:
    for _ in range(200):
        sched.wait(FakeTask(), SECOND, io=False, memstall=True)
        sched.clock.run_for(2 * SECOND)
    some, full = average(sched, PsiRes.MEM)
    assert some == full
    assert abs(some[0] - 50) < 1.5 and abs(some[1] - 50) < 1.5  # a sample of 2.004 s may see a bit more than half
    assert 34 < some[2] < 38  # 50 * (1 - exp(-400 / 300))
    sched.clock.run_for(60 * SECOND)
    ten, sixty, _ = average(sched, PsiRes.MEM)[0]
    assert ten < 0.2 and 16 < sixty < 20.5  # 50 / e


def test_averages_are_the_same_whether_anybody_looks_in_between() -> None:
    def story(step: int) -> str:
        sched = Scheduler(Clock(), [0])
        for second in range(20):
            sched.wait(FakeTask(), second * SECOND // 20, io=False, memstall=True)
            end = (second + 1) * SECOND
            while sched.clock.now_ns < end:
                sched.clock.run_for(min(step, end - sched.clock.now_ns))
                sched.cpus[0].sync()
        return sched.psi_system.show(PsiRes.MEM)

    assert story(SECOND) == story(70 * NSEC_PER_MSEC)


def test_many_idle_periods_at_once_are_as_many_one_by_one() -> None:
    load = 1 << 16
    for periods in range(12):
        one_by_one = load
        for _ in range(periods):
            one_by_one = one_by_one * 1677 >> 11
        assert abs(calc_load_n(load, 1677, 0, periods) - one_by_one) <= load // 500 + periods


steps = st.lists(
    st.tuples(
        st.integers(0, 4), st.sampled_from(("run", "reclaim", "io", "stall", "swap")), st.integers(1, 2 * 10**8),
        st.integers(0, 3 * 10**8),
    ),
    max_size=25,
)  # fmt: skip


@given(steps)
def test_pressure_never_exceeds_the_time(story: list[tuple[int, str, int, int]]) -> None:
    sched = Scheduler(Clock(), [0, 0])
    tasks = [FakeTask(processor=number % 2) for number in range(5)]
    for who, what, nsec, elapsed in story:
        if what in ("run", "reclaim"):
            sched.charge(tasks[who], system_ns=nsec, memstall=what == "reclaim")
        else:
            sched.wait(tasks[who], nsec, io=what != "stall", memstall=what != "io")
        sched.clock.run_for(elapsed)
        sched.psi_system.show(PsiRes.MEM)
        sched.check()
    sched.clock.run_for(100 * SECOND)
    sched.check()
    assert sched.nr_running == sched.nr_iowait == sched.nr_uninterruptible == 0
    for groupc in sched.psi_system.pcpu.values():
        assert (groupc.nr_running, groupc.nr_iowait, groupc.nr_memstall, groupc.oncpu) == (0, 0, 0, 0)


def test_groups_have_parents_and_a_full_cpu_line() -> None:
    sched = Scheduler(Clock(), [0])
    group = PsiGroup(sched.clock, sched.cpus, sched.psi_system)
    inside, outside = FakeTask(), FakeTask()
    sched._entity(inside).psi_group = group
    for task in (inside, outside):
        sched.charge(task, user_ns=2 * SECOND)
    sched.clock.run_for(5 * SECOND)
    some, full = (int(line.rpartition("=")[2]) for line in group.show(PsiRes.CPU).splitlines())
    assert some == full and abs(full - 2_000_000) <= 8_000  # half of four seconds somebody else had the CPU
    assert abs(total(sched, PsiRes.CPU)[0] - 4_000_000) <= 8_000


# ---- triggers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def open_file(kernel: Kernel) -> Callable[..., OpenFile]:
    def open_file(name: str, trigger: str, uid: int = 0) -> OpenFile:
        file: OpenFile = kernel.vfs.open(f"/proc/pressure/{name}", os.O_RDWR, Caller(1, uid, uid))
        assert file.write(trigger.encode() + b"\n") == len(trigger) + 1
        return file

    return open_file


def stall(kernel: Kernel, milliseconds: int, memstall: bool = True) -> None:
    """A task loses so much of the next second."""
    kernel.scheduler.wait(kernel.tasks[1], milliseconds * NSEC_PER_MSEC, io=not memstall, memstall=memstall)
    kernel.run_for(1)


def test_a_trigger_tells_of_a_stall_once_a_window(kernel: Kernel, open_file: Callable[..., OpenFile]) -> None:
    file = open_file("memory", "some 150000 1000000")
    kernel.run_for(5)
    assert file.poll() == DEFAULT
    stall(kernel, 100)
    assert file.poll() == DEFAULT
    kernel.run_for(20)
    stall(kernel, 400)
    assert file.poll() == DEFAULT | select.POLLPRI
    assert file.poll() == DEFAULT
    file.release()


def test_a_trigger_watches_its_own_resource(kernel: Kernel, open_file: Callable[..., OpenFile]) -> None:
    memory, io = open_file("memory", "full 100000 1000000"), open_file("io", "full 100000 1000000")
    stall(kernel, 500, memstall=False)
    assert (memory.poll(), io.poll()) == (DEFAULT, DEFAULT | select.POLLPRI)
    for file in (memory, io):
        file.release()


def test_events_come_at_most_once_a_window(kernel: Kernel, open_file: Callable[..., OpenFile]) -> None:
    file = open_file("memory", "some 100000 2000000")
    kernel.scheduler.wait(kernel.tasks[1], 20 * SECOND, io=False, memstall=True)
    events = []
    for _ in range(200):
        kernel.run_for(0.1)
        if file.poll() & select.POLLPRI:
            events.append(kernel.clock.now_ns)
    gaps = [b - a for a, b in pairwise(events)]
    assert len(events) in (9, 10) and min(gaps) >= 19 * SECOND // 10
    file.release()


def test_the_unprivileged_are_told_when_averages_are_made(kernel: Kernel, open_file: Callable[..., OpenFile]) -> None:
    file = open_file("memory", "some 150000 2000000", uid=1000)
    assert not any(task.comm == "psimon" for task in kernel.tasks.values())
    kernel.scheduler.wait(kernel.tasks[1], 3 * SECOND, io=False, memstall=True)
    kernel.run_for(1)
    assert file.poll() == DEFAULT
    kernel.run_for(PSI_FREQ / SECOND + 0.1)
    assert file.poll() == DEFAULT | select.POLLPRI
    file.release()


def test_psimon_lives_while_there_are_triggers(kernel: Kernel, open_file: Callable[..., OpenFile]) -> None:
    def psimon() -> list[str]:
        return [kernel.read(f"/proc/{task.pid}/stat").decode().split()[17] for task in kernel.tasks.values()
                if task.comm == "psimon"]  # fmt: skip

    files = [open_file("memory", "some 150000 1000000"), open_file("cpu", "some 150000 1000000")]
    assert psimon() == ["-2"]
    files[0].release()
    assert psimon() == ["-2"]
    files[1].release()
    assert psimon() == []
    kernel.run_for(10)


@pytest.mark.parametrize(
    ("text", "uid", "number"),
    [
        ("", 0, errno.EINVAL), ("some", 0, errno.EINVAL), ("some 1", 0, errno.EINVAL), ("none 1 2\n", 0, errno.EINVAL),
        ("some 0 1000000\n", 0, errno.EINVAL), ("some 150000 100000\n", 0, errno.EINVAL),
        ("some 150000 1000000", 0, errno.EINVAL), ("some 150000 10000001\n", 0, errno.EINVAL),
        ("some -1 1000000\n", 0, errno.EINVAL), ("some 150000 1000000\n", 1000, errno.EINVAL),
        (" some 150000 1000000\n", 0, errno.EINVAL), ("some 1500000000000\n", 0, errno.EINVAL),
        ("some 150000 1000000\n", 0, 0), ("some 150000 10000001", 0, 0), ("full\t150000\n 1000000 whatever", 0, 0),
        ("some 4295117296 1000000\n", 0, 0), ("some 150000 4000000\n", 1000, 0), ("some150000 1000000\n", 0, 0),
    ],
)  # fmt: skip
def test_what_may_be_written(kernel: Kernel, text: str, uid: int, number: int) -> None:
    file = kernel.vfs.open("/proc/pressure/memory", os.O_RDWR, Caller(1, uid, uid))
    assert file.poll() == DEFAULT | select.POLLERR | select.POLLPRI
    if number:
        with pytest.raises(OSError) as refused:
            file.write(text.encode())
        assert refused.value.errno == number
    else:
        assert file.write(text.encode()) == len(text)
        with pytest.raises(OSError) as refused:
            file.write(text.encode())
        assert refused.value.errno == errno.EBUSY
        assert file.poll() == DEFAULT
    file.release()


def test_the_files(kernel: Kernel, boot: Callable[..., Kernel]) -> None:
    assert kernel.listdir("/proc/pressure") == ["io", "cpu", "memory"]
    assert kernel.stat("/proc/pressure/cpu").st_mode & 0o7777 == 0o666
    task = kernel.spawn("sh", cpus=[0])
    kernel.run_for(1)
    kernel.scheduler.charge(task, user_ns=SECOND)
    kernel.scheduler.charge(kernel.spawn("sh", cpus=[0]), user_ns=SECOND)
    kernel.run_for(4)
    some, full = kernel.read("/proc/pressure/cpu").decode().splitlines()
    assert 1_900_000 < int(some.rpartition("=")[2]) < 2_600_000
    assert full == "full avg10=0.00 avg60=0.00 avg300=0.00 total=0"
    assert "pressure" not in boot(ram="256M", preset="bare", cmdline="psi=0").listdir("/proc")


def test_sampling_is_the_kernel_s() -> None:
    assert PSI_FREQ == (2 * HZ + 1) * TICK_NSEC == 2_004_000_000
