"""Writes that wait for others, with a clock of their own."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest

from mmfs.mount import writes
from mmfs.mount.writes import PATIENCE, SLICE_SECONDS, LongWrites


class Time:
    """Stands still but for what slices take."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        pass


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(writes, "time", made)
    return made


def slices(time: Time, count: int, seconds: float, taken: int = 7) -> Generator[None, None, int]:
    for _ in range(count):
        time.now += seconds
        yield
    return taken


def done(answers: dict[int, int]) -> Callable[[int, Callable[[], int | None]], bool]:
    def answer(unique: int, work: Callable[[], int | None]) -> bool:
        taken = work()
        if taken is not None:
            answers[unique] = taken
        return taken is not None

    return answer


def test_begun_at_once_if_nobody_else_asks(time: Time) -> None:
    queue = LongWrites()
    assert queue.begin(1, slices(time, 3, SLICE_SECONDS / 10)) == 7
    assert not queue


def test_others_have_as_long_as_four_slices(time: Time) -> None:
    queue, answers = LongWrites(), dict[int, int]()
    length = SLICE_SECONDS * 1.5
    assert queue.begin(1, slices(time, 3, length)) is None
    assert not queue.due
    time.now += PATIENCE * length * 0.9
    assert not queue.due
    time.now += PATIENCE * length * 0.2
    assert queue.due
    while queue:
        queue.work(done(answers))
    assert answers == {1: 7}


def test_deferred_writes_take_turns(time: Time) -> None:
    queue, answers = LongWrites(), dict[int, int]()
    assert queue.begin(1, slices(time, 1, 0.0)) == 7
    time.now += 1
    queue.defer(2, slices(time, 1, 0.0005, taken=2))
    assert not queue.due, "the clock starts when it comes"
    time.now += 1
    queue.defer(3, slices(time, 1, 0.0005, taken=3))
    assert queue.due, "and is not set back by the next"
    queue.work(done(answers))
    assert answers == {2: 2}
    queue.work(done(answers))
    assert answers == {2: 2, 3: 3}


def test_broken_off(time: Time) -> None:
    queue = LongWrites()
    queue.defer(2, slices(time, 1, 0.0))
    assert not queue.interrupt(3)
    assert queue.interrupt(2)
    assert not queue
