"""The tree of VMAs answers as a search of a plain list does."""

from __future__ import annotations

import random
import time
from types import SimpleNamespace
from typing import Any

import pytest

from mmfs.mm.maple_tree import TOP, MapleTree

PAGE = 4096


def vma(start: int, end: int) -> Any:
    return SimpleNamespace(vm_start=start * PAGE, vm_end=end * PAGE)


def holes(tree: MapleTree, low: int, high: int) -> list[tuple[int, int]]:
    """The gaps within [low, high), cut to it."""
    edges = [0]
    for entry in tree:
        edges += [entry.vm_start, entry.vm_end]
    edges.append(TOP)
    cut = [(max(a, low), min(b, high)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return [(a, b) for a, b in cut if a < b]


@pytest.mark.parametrize("seed", range(20))
def test_against_a_list(seed: int) -> None:
    rng = random.Random(seed)
    tree = MapleTree()
    for _ in range(300):
        action = rng.random()
        start = rng.randrange(400)
        end = start + rng.randrange(1, 20)
        if action < 0.55 and not tree.span(start * PAGE, end * PAGE):
            tree.store(vma(start, end))
        elif action < 0.75 and len(tree):
            tree.erase(rng.choice(tree.entries))
        elif len(tree):
            entry = rng.choice(tree.entries)
            before, after = tree.prev(entry), tree.next(entry)
            low = before.vm_end if before else 0
            high = after.vm_start if after else 500 * PAGE
            first = rng.randrange(low, entry.vm_end, PAGE)
            tree.resize(entry, first, rng.randrange(max(first, entry.vm_start) + PAGE, high + PAGE, PAGE))
        assert tree.gaps() == holes(tree, 0, TOP)
        addr = rng.randrange(500) * PAGE
        assert tree.find(addr) is next((entry for entry in tree if entry.vm_end > addr), None)
        low, size = rng.randrange(200) * PAGE, rng.randrange(1, 40) * PAGE
        high = low + rng.randrange(1, 400) * PAGE
        fitting = [hole for hole in holes(tree, low, high) if hole[1] - hole[0] >= size]
        assert tree.empty_area_rev(low, high, size) == (fitting[-1] if fitting else None)
        assert tree.empty_area(low, high, size) == (fitting[0] if fitting else None)


def test_clear() -> None:
    tree = MapleTree()
    for start in range(0, 100, 2):
        tree.store(vma(start, start + 1))
    tree.clear()
    assert len(tree) == 0
    assert tree.gaps() == [(0, TOP)]


def test_65530_entries_are_quick() -> None:
    """Linear work per call would take minutes here."""
    tree = MapleTree()
    began = time.process_time()
    top = 1 << 47
    for _ in range(65530):
        hole = tree.empty_area_rev(PAGE, top, 2 * PAGE)
        assert hole is not None
        tree.store(SimpleNamespace(vm_start=hole[1] - PAGE, vm_end=hole[1]))  # type: ignore[arg-type]
        tree.find(hole[1])
    assert time.process_time() - began < 15
