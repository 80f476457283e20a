"""Random memory-mapping calls: the model returns what a real 6.12 returned and leaves the same VMAs after each.

tests/mm/vma_recording has the recording and says how it was made.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import pytest

from tests.mm.fakes import FakeKernel, FakeMemory, check_mm
from tests.mm.replay import Replay, recorded_state

RECORDING = Path(__file__).parent / "vma_recording" / "calls.txt.gz"
NR_SEQUENCES = 120


@cache
def sequences() -> list[list[str]]:
    """The lines of each sequence."""
    with gzip.open(RECORDING, "rt") as file:
        return [text.splitlines() for text in file.read().split("#")[1:]]


def difference(model: str, real: str) -> str:
    """The VMAs that only one side has."""
    ours, theirs = model.split(";"), real.split(";")
    lines = [f"\n  model {vma}" for vma in ours if vma not in theirs]
    lines += [f"\n  real  {vma}" for vma in theirs if vma not in ours]
    return "".join(lines)


def test_recording_is_whole() -> None:
    assert len(sequences()) == NR_SEQUENCES
    assert sum(len(lines) - 2 for lines in sequences()) == 4735


@pytest.mark.parametrize("number", range(NR_SEQUENCES))
def test_sequence(number: int, fake_kernel: FakeKernel, fake_memory: FakeMemory) -> None:
    head, init, *answers = sequences()[number]
    fake_kernel.ram_pages = 472940 // 4
    uid, _, stat = head.partition(" ")
    replay = Replay(fake_kernel, fake_memory, stat, init, int(uid))
    assert not difference(replay.state(), recorded_state(init)[1])
    for done, line in enumerate(answers):
        call, _, answer = line.partition("\t")
        result, state = recorded_state(answer)
        before = replay.state()
        assert (replay.call(call), call) == (result, call), f"call {done}; before it{difference(before, '')}"
        assert replay.state() == state, f"call {done}: {call}{difference(replay.state(), state)}"
        check_mm(replay.mm)
