"""The formulas at their corners; test_real_kernel.py holds them against real machines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfs.arch import X86_64
from mmfs.mm import mm_init, watermark
from mmfs.mm.cmdline import BootOptions, memparse
from mmfs.mm.e820 import RAM, RESERVED, E820Entry, E820Table
from mmfs.mm.percpu import pcpu_units_per_alloc
from mmfs.mm.resource import Resource
from mmfs.mm.system_hash import large_system_hash
from mmfs.mm_types import ZONE_DMA32, ZONE_MOVABLE, ZONE_NORMAL
from mmfs.profile import load_profile

GB_PAGES = 1 << 18
ZONES = mm_init.zone_types(load_profile())


@pytest.mark.parametrize(
    ("kbytes", "expected"), [(16, 128), (16 << 10, 512), (128 << 10, 1448), (16 << 20, 16384), (1 << 40, 262144)]
)
def test_min_free_kbytes(kbytes: int, expected: int) -> None:
    assert watermark.calculate_min_free_kbytes(kbytes // 4) == expected


def test_movable_zones_keep_a_small_min() -> None:
    mark = watermark.zone_watermarks(1 << 20, 1 << 20, 65536, movable=True)
    assert mark == (128, 128 + 4096, 128 + 8192, 128 + 12288)
    assert watermark.zone_watermarks(100, 1000, 4096, movable=True).min == 32
    assert watermark.zone_watermarks(0, 0, 4096) == (0, 0, 0, 0)


@given(st.integers(0, 1 << 32), st.integers(1, 1 << 22), st.integers(1, 1000))
def test_watermarks_are_evenly_spaced(managed: int, min_free_kbytes: int, scale: int) -> None:
    mark = watermark.zone_watermarks(managed, managed + 1, min_free_kbytes, scale)
    assert mark.low - mark.min == mark.high - mark.low == mark.promo - mark.high
    assert mark.low - mark.min >= managed * scale // 10000 - 1


@given(st.integers(0, 1 << 32))
def test_batch_is_one_less_than_a_power_of_two(managed: int) -> None:
    batch = watermark.zone_batchsize(managed)
    assert batch & (batch + 1) == 0
    assert 0 <= batch <= 63


def test_pcp_high_fraction_pins_the_list() -> None:
    low, high, batch = watermark.pageset_high_and_batch(1 << 20, 5000, 4, 8, percpu_pagelist_high_fraction=8)
    assert (low, high, batch) == ((1 << 20) // 8 // 4, (1 << 20) // 8 // 4, 63)
    # A node without CPUs shares its lists among all of them.
    assert watermark.pageset_high_and_batch(1 << 20, 5000, 0, 8)[0] == 5000 // 8


@pytest.mark.parametrize(
    ("cpus", "megabytes", "threshold"), [(1, 900, 8), (2, 900, 16), (2, 1900, 20), (8, 1900, 40), (1024, 16000, 125)]
)
def test_normal_threshold(cpus: int, megabytes: int, threshold: int) -> None:
    assert watermark.calculate_normal_threshold(megabytes << 8, cpus) == threshold


def test_pressure_threshold() -> None:
    assert watermark.calculate_pressure_threshold(1000, 900, 4) == 25
    assert watermark.calculate_pressure_threshold(10, 9, 4) == 1


def test_lowmem_reserve_of_empty_zones_and_ratio_zero() -> None:
    ratios = watermark.LOWMEM_RESERVE_RATIO
    rows = watermark.lowmem_reserves([3840, 0, 100000, 0, 5000, 0], ratios)
    assert rows[0] == [0, 0, 100000 // 256, 100000 // 256, 105000 // 256, 105000 // 256]
    assert rows[1] == [0] * 6
    assert rows[2] == [0, 0, 0, 0, 5000 // 32, 5000 // 32]
    assert watermark.lowmem_reserves([3840, 1000, 0, 0, 0, 0], (0, *ratios[1:]))[0] == [0] * 6


def test_kernelcore_spreads_over_the_nodes() -> None:
    memory = [(1, 4 * GB_PAGES, 0), (4 * GB_PAGES, 5 * GB_PAGES, 1)]
    limits = mm_init.zone_limits(1, 5 * GB_PAGES, 5 * GB_PAGES, ZONES)
    assert mm_init.movable_zone(limits) == ZONE_NORMAL
    starts = mm_init.find_zone_movable_pfns(memory, limits, GB_PAGES // 2, 0)
    # Node 0 lies below the zone that Movable is cut from, so all of it is the kernel's.
    assert set(starts) == {1}
    _, zones = mm_init.setup_nodes(memory, range(2), limits, starts)
    movable = [zone for zone in zones if zone.zone_type == ZONE_MOVABLE]
    assert (movable[0].spanned, movable[1].end_pfn) == (0, 5 * GB_PAGES)
    assert mm_init.find_zone_movable_pfns(memory, limits, 0, 0) == {}
    assert mm_init.find_zone_movable_pfns(memory, limits, 6 * GB_PAGES, 0) == {}


def test_movablecore_on_one_zone() -> None:
    memory = [(256, GB_PAGES, 0)]
    limits = mm_init.zone_limits(256, GB_PAGES, GB_PAGES, ZONES)
    assert mm_init.movable_zone(limits) == ZONE_DMA32
    starts = mm_init.find_zone_movable_pfns(memory, limits, 0, GB_PAGES // 4)
    assert GB_PAGES - starts[0] == GB_PAGES // 4


def test_fallback_orders() -> None:
    ring = [[10, 20, 30, 20], [20, 10, 20, 30], [30, 20, 10, 20], [20, 30, 20, 10]]
    assert mm_init.node_fallback_orders(ring, [True] * 4, [True] * 4) == [
        [0, 1, 3, 2],
        [1, 2, 0, 3],
        [2, 3, 1, 0],
        [3, 0, 2, 1],
    ]
    # A node without memory begins with the nearest that has some.
    assert mm_init.node_fallback_orders([[10, 20], [20, 10]], [True, False], [True, True]) == [[0], [0]]


@pytest.mark.parametrize(
    ("gigabytes", "extra", "hypervisor", "megabytes"),
    [(63, 0, True, 128), (64, 0, False, 2048), (64, 0, True, 2048), (65, 0, True, 1024), (65, 1 << 15, True, 128)],
)
def test_memory_block_size(gigabytes: int, extra: int, hypervisor: bool, megabytes: int) -> None:
    assert mm_init.memory_block_size(gigabytes * GB_PAGES + extra, hypervisor) == megabytes << 20


def test_hash_scale_grows_with_large_memory() -> None:
    per_bucket = [(gb << 30) // large_system_hash(8, gb * GB_PAGES, 13).entries for gb in (64, 256, 1024, 4096, 16384)]
    assert per_bucket == [8192, 16384, 32768, 65536, 131072]
    assert large_system_hash(8, GB_PAGES, 13, entries=1000).entries == 1024
    assert large_system_hash(16, 64 * GB_PAGES, 21, high_limit=4096).entries == 4096


@pytest.mark.parametrize(
    ("groups", "units"), [([1], 1), ([2], 2), ([4], 4), ([8], 4), ([6], 4), ([3], 4), ([1, 1], 1), ([16, 16], 4)]
)
def test_per_cpu_units(groups: list[int], units: int) -> None:
    assert pcpu_units_per_alloc(66 * 4096, groups) == units


@pytest.mark.parametrize(
    ("text", "value"),
    [("1G", 1 << 30), ("512m", 1 << 29), ("0x1000", 4096), ("0x10k", 16384), ("7", 7), ("", 0), ("x", 0)],
)
def test_memparse(text: str, value: int) -> None:
    assert memparse(text) == value


def test_boot_options() -> None:
    text = "quiet mem=1G hugepages=9 hugepagesz=1G hugepages=2 hugepagesz=2M hugepages=7 nokaslr"
    options = BootOptions.parse(text, X86_64)
    assert (options.mem, options.gigantic_pages, options.nokaslr) == (1 << 30, ((None, 2),), True)
    assert options.core_pages("25%", 1000) == 250
    assert options.core_pages("4M", 1000) == 1024


def test_e820_edits() -> None:
    table = E820Table([E820Entry(0, 100 << 20, RAM), E820Entry(200 << 20, 300 << 20, RESERVED)])
    table.range_update(10 << 20, 20 << 20, RAM, RESERVED)
    table.range_remove(50 << 20, 1 << 40, RAM)
    assert [(start >> 20, end >> 20, kind) for start, end, kind in table] == [
        (0, 10, RAM), (10, 20, RESERVED), (20, 50, RAM), (200, 300, RESERVED),
    ]  # fmt: skip
    assert table.nosave_regions(60 << 8) == [(10 << 20, 20 << 20), (50 << 20, 60 << 20)]
    assert table.pci_gap() == (300 << 20, 4 << 30)
    assert table.ram_buffers() == [(50 << 20, 64 << 20)]


def test_resources_nest() -> None:
    root = Resource("root", 0, 999)
    inner = root.add("inner", 100, 199)
    assert inner is not None
    assert root.add("outer", 50, 299) is not None
    assert root.add("leaf", 120, 130) is not None
    assert root.add("across", 190, 210) is None
    root.add_where_free("rest", 250, 399)
    assert [(depth, r.name, r.start, r.end) for depth, r in root.walk()] == [
        (0, "outer", 50, 299),
        (1, "inner", 100, 199),
        (2, "leaf", 120, 130),
        (0, "rest", 300, 399),
    ]
