"""The clock fires what is due, in the order (time, sequence), and nothing else moves time."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfs.kernel.clock import HZ, INITIAL_JIFFIES, NSEC_PER_SEC, Clock, nsec_to_clock_t


class Journal:
    """Something with state that timers call, as the model's objects are."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.entries: list[tuple[int, str]] = []

    def note(self, name: str = "tick") -> None:
        self.entries.append((self.clock.now_ns, name))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(clock: Clock) -> Journal:
    return Journal(clock)


def test_starts_at_zero_on_new_year_2026(clock: Clock) -> None:
    assert clock.now_ns == 0
    assert clock.realtime_ns == 1767225600 * NSEC_PER_SEC
    assert clock.boottime_ns == 1767225600 * NSEC_PER_SEC


def test_time_passes_only_when_run(clock: Clock) -> None:
    clock.run_for(1_500_000_000)
    assert clock.now_ns == 1_500_000_000
    assert clock.realtime_ns - clock.realtime_base_ns == 1_500_000_000


def test_jiffies_start_five_minutes_before_they_wrap(clock: Clock) -> None:
    assert clock.jiffies == INITIAL_JIFFIES == 2**32 - 300 * HZ
    clock.run_for(NSEC_PER_SEC)
    assert clock.jiffies == INITIAL_JIFFIES + HZ


def test_user_hz_rounds_down() -> None:
    assert nsec_to_clock_t(9_999_999) == 0
    assert nsec_to_clock_t(10_000_000) == 1


def test_timers_fire_at_their_time_in_order(clock: Clock, journal: Journal) -> None:
    clock.add_timer(30, journal.note, "late")
    clock.add_timer(10, journal.note, "first")
    clock.add_timer(10, journal.note, "second")
    clock.run_until(20)
    assert journal.entries == [(10, "first"), (10, "second")]
    assert clock.now_ns == 20
    assert clock.next_event_ns() == 30


def test_a_timer_in_the_past_fires_now(clock: Clock, journal: Journal) -> None:
    clock.run_until(100)
    clock.add_timer(5, journal.note)
    clock.run_for(0)
    assert journal.entries == [(100, "tick")]


def test_cancelled_timers_do_not_fire(clock: Clock, journal: Journal) -> None:
    timer = clock.add_timer(10, journal.note)
    assert timer.pending
    timer.cancel()
    assert not timer.pending
    assert clock.next_event_ns() is None
    clock.run_until(20)
    assert journal.entries == []


def test_periodic_work_repeats_and_can_change_its_period(clock: Clock, journal: Journal) -> None:
    work = clock.call_every("vmstat", 10, journal.note)
    clock.run_until(25)
    work.period_ns = 100
    clock.restart(work)
    clock.run_until(200)
    assert [when for when, _ in journal.entries] == [10, 20, 125]
    work.period_ns = 0
    clock.restart(work)
    clock.run_until(1000)
    assert work.runs == 3


def test_periodic_work_may_stop_itself(clock: Clock) -> None:
    class Once:
        runs = 0

        def run(self) -> None:
            self.runs += 1
            work.period_ns = 0

    once = Once()
    work = clock.call_every("once", 5, once.run)
    clock.run_until(100)
    assert once.runs == 1


def test_periodic_names_are_unique(clock: Clock, journal: Journal) -> None:
    clock.call_every("kswapd0", 5, journal.note)
    with pytest.raises(ValueError, match="kswapd0"):
        clock.call_every("kswapd0", 5, journal.note)


def test_a_bounded_run_stops_after_so_many_wakeups(clock: Clock, journal: Journal) -> None:
    for when in (1, 2, 3):
        clock.add_timer(when, journal.note)
    assert not clock.run_until(10, max_events=2)
    assert (clock.now_ns, len(journal.entries)) == (2, 2)
    assert clock.run_until(10, max_events=2)
    assert (clock.now_ns, len(journal.entries)) == (10, 3)


def test_a_clock_can_be_pickled_between_wakeups(clock: Clock, journal: Journal) -> None:
    clock.call_every("work", 7, journal.note)
    clock.run_until(10)
    copy: Journal = pickle.loads(pickle.dumps(journal))
    clock.run_until(50)
    copy.clock.run_until(50)
    assert copy.entries == journal.entries


@given(st.lists(st.integers(0, 1000), max_size=30), st.lists(st.integers(0, 300), max_size=10))
def test_every_timer_fires_once_in_order(whens: list[int], steps: list[int]) -> None:
    clock = Clock()
    journal = Journal(clock)
    for number, when in enumerate(whens):
        clock.add_timer(when, journal.note, str(number))
    for step in [0, *steps]:
        clock.run_for(step)
    now = sum(steps)
    expected = sorted((when, number) for number, when in enumerate(whens) if when <= now)
    assert journal.entries == [(when, str(number)) for when, number in expected]
    assert clock.now_ns == now
