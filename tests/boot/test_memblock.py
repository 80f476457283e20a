"""The boot-time allocator against a model that keeps a bit a page, and what must hold on any machine."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfs.machine import Machine
from mmfs.mm.memblock import PAGE_SIZE, Memblock, MemblockError, boot_memory
from mmfs.mm_types import MAX_NR_ZONES, ZONE_MOVABLE
from mmfs.profile import load_profile

PAGES = 64
PROFILE = load_profile()
Operation = tuple[str, int, int]


def small_memblock() -> Memblock:
    """Two nodes with a hole between them."""
    block = Memblock()
    block.add(PAGE_SIZE, 20 * PAGE_SIZE, 0)
    block.add(24 * PAGE_SIZE, 40 * PAGE_SIZE, 0)
    block.add(40 * PAGE_SIZE, PAGES * PAGE_SIZE, 1)
    return block


operations = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "free", "alloc", "alloc0", "alloc1", "low"]),
        st.integers(0, PAGES - 1),
        st.integers(1, 12),
    ),
    max_size=40,
)


@given(operations)
def test_agrees_with_a_page_map(todo: list[Operation]) -> None:
    block = small_memblock()
    nodes = dict.fromkeys([*range(1, 20), *range(24, 40)], 0) | dict.fromkeys(range(40, PAGES), 1)
    taken: set[int] = set()

    def highest(size: int, low: int, high: int, nid: int) -> int:
        for start in range(high - size, low - 1, -1):
            pages = range(start, start + size)
            fits = all(page in nodes and page not in taken and nid in (-1, nodes[page]) for page in pages)
            if fits and len({nodes[page] for page in pages}) == 1:  # an allocation lies in one region
                return start
        return -1

    for what, page, size in todo:
        pages = set(range(page, page + size))
        if what == "reserve":
            block.reserve(page * PAGE_SIZE, (page + size) * PAGE_SIZE, "test")
            taken |= pages
        elif what == "free":
            block.free(page * PAGE_SIZE, (page + size) * PAGE_SIZE)
            taken -= pages
        else:
            nid = {"alloc0": 0, "alloc1": 1}.get(what, -1)
            high = page if what == "low" else PAGES
            expected = highest(size, 1, high, nid)
            if expected < 0 and nid >= 0:
                expected = highest(size, 1, high, -1)
            try:
                limit = high * PAGE_SIZE or 1
                got = block.alloc(size * PAGE_SIZE, what, align=PAGE_SIZE, nid=nid, high=limit) // PAGE_SIZE
            except MemblockError:
                got = -1
            assert got == expected
            if got >= 0:
                taken |= set(range(got, got + size))
    free = {page for start, end, _ in block.memblock_free_ranges() for page in range(start, end)}
    assert free == set(nodes) - taken
    ordered = block.reservations
    assert all(one.end <= other.start for one, other in pairwise(ordered))


def test_alignment_and_partial_pages() -> None:
    block = small_memblock()
    assert block.alloc(100, "a") == PAGES * PAGE_SIZE - 128
    assert block.alloc(PAGE_SIZE, "b", align=PAGE_SIZE) == (PAGES - 2) * PAGE_SIZE
    # A page of which 100 bytes are taken is not free.
    assert block.memblock_free_ranges()[-1].end_pfn == PAGES - 2
    assert block.reserved[-1].why == "a"


def test_reservations_of_one_purpose_merge() -> None:
    block = small_memblock()
    for _ in range(10):
        block.alloc(PAGE_SIZE, "tables", align=PAGE_SIZE)
    assert len(block.reservations) == 1


SHAPES: list[dict[str, Any]] = [
    {"ram": "80M"},
    {"ram": "512M"},
    {"ram": "3G"},
    {"ram": "3500M", "nodes": 3},
    {"ram": "5G", "nodes": 2},
    {"ram": "64G", "nodes": 4, "cpus": 96},
    {"ram": "1T", "cpus": 256},
    {"ram": "15T", "nodes": 64, "cpus": 512},
    {"nodes": [{"memory": 0, "cpus": 2}, {"memory": "1G", "cpus": 0}, {"memory": "100M", "cpus": 0}]},
]


@pytest.mark.parametrize("cmdline", ["", "movablecore=30%", "kernelcore=300M", "mem=1500M", "crashkernel=128M"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_frame_is_accounted_for_once(shape: dict[str, Any], cmdline: str) -> None:
    machine = Machine.from_sizes(**shape)
    if machine.ram < 128 << 20 and cmdline == "crashkernel=128M":
        cmdline = "crashkernel=8M"
    block = boot_memory(machine, PROFILE, cmdline, 7)
    assert sum(zone.present for zone in block.zone_ranges) == block.phys_pages()
    assert len(block.zone_ranges) == MAX_NR_ZONES * len(machine.nodes)
    free = sorted(block.free_ranges())
    assert all(one.end_pfn <= other.start_pfn for one, other in pairwise(free))
    for start, end, nid in free:
        assert any(low <= start and end <= high and nid == on for low, high, on in block.memory)
    managed = sum(block.managed_pages(zone.start_pfn, zone.end_pfn, zone.nid) for zone in block.zone_ranges)
    assert managed == block.totalram_pages()
    # What is not free is reserved: the two make up all memory.
    late = sum(end - start for start, end, _ in block.late_free_ranges())
    taken: set[tuple[int, int]] = set()
    at = 0
    for reserved in block.reserved:
        start, end = max(reserved.start_pfn, at), reserved.end_pfn
        for low, high, _ in block.memory:
            if max(start, low) < min(end, high):
                taken.add((max(start, low), min(end, high)))
        at = max(at, end)
    assert managed + sum(end - start for start, end in taken) - late == block.phys_pages()
    if cmdline == "movablecore=30%" or (cmdline == "kernelcore=300M" and machine.ram > 300 << 20):
        assert any(zone.present for zone in block.zone_ranges if zone.zone_type == ZONE_MOVABLE)


def test_the_seed_moves_the_kernel() -> None:
    machine = Machine.from_sizes("8G")
    bases = {boot_memory(machine, PROFILE, "", seed).kernel_base for seed in range(20)}
    assert len(bases) == 20
    assert all(base % PROFILE.config_int("PHYSICAL_ALIGN") == 0 and base >= 16 << 20 for base in bases)
    one, other = (boot_memory(machine, PROFILE, "", 3) for _ in range(2))
    assert one.reservations == other.reservations
    assert boot_memory(machine, PROFILE, "nokaslr", 3).kernel_base == 16 << 20


def test_deferred_frames_come_after_the_early_ones() -> None:
    block = boot_memory(Machine.from_sizes("8G", nodes=2), PROFILE)
    assert block.first_deferred_pfn.keys() == {0, 1}
    for start, end, nid in block.early_free_ranges():
        assert end <= block.first_deferred_pfn[nid], start
    assert block.early_free_ranges() == sorted(block.early_free_ranges())


def test_too_small_for_its_processors() -> None:
    with pytest.raises(ValueError, match="too little to boot"):
        boot_memory(Machine.from_sizes("128M", cpus=2048), PROFILE)
    with pytest.raises(ValueError, match="too little to boot"):
        boot_memory(Machine.from_sizes("1G"), PROFILE, "mem=20M")


def test_boot_costs_what_the_ranges_cost_not_the_pages() -> None:
    machine = Machine.from_sizes("12T", nodes=8)
    boot_memory(machine, PROFILE)
    begun = time.process_time()
    block = boot_memory(machine, PROFILE)
    # Milliseconds; the bound leaves room for a slow and busy machine.
    assert time.process_time() - begun < 0.25
    assert len(block.free_ranges()) < 100
    assert 0.98 < block.totalram_pages() * PAGE_SIZE / machine.ram < 0.99
