"""MemAvailable and the dirty thresholds, from the counters that a real kernel printed in the same moment."""

from __future__ import annotations

import re

import pytest

from mmfs.mm.page_writeback import global_dirty_limits, global_dirtyable_memory
from mmfs.mm.show_mem import node_page_state_pages, si_mem_available
from mmfs.mm.sysctl import VmSysctl
from mmfs.mm.vmstat import node_stat_text, zone_stat_text
from mmfs.mm_types import PAGE_SIZE, NodeStatItem, ZoneStatItem
from tests.golden.captures import CAPTURES, MACHINES, snapshots

# The files of a snapshot were read some milliseconds one after the other, and per-CPU counters lag.
SLACK_PAGES = 150

# The reserve is summed up when a sysctl is written; there a zone's watermarks were boosted by so much at that time.
BOOST_AT_SUM = {("1G-hugepages", "06-frag-0clean"): 2145}


class Snapshot:
    """The three files of one moment."""

    def __init__(self, machine: str, snapshot: str) -> None:
        proc = CAPTURES / machine / snapshot / "proc"
        self.meminfo = {k: int(v) for k, v in re.findall(r"^(\S+): +(\d+)", (proc / "meminfo").read_text(), re.M)}
        self.vmstat = {k: int(v) for k, v in re.findall(r"^(\w+) (\d+)$", (proc / "vmstat").read_text(), re.M)}
        zones = re.split(r"^(?=Node )", (proc / "zoneinfo").read_text(), flags=re.M)[1:]
        self.wmark_low = 0
        self.highmem = 0
        self.totalreserve = BOOST_AT_SUM.get((machine, snapshot), 0)
        for zone in zones:
            of = {k: int(v) for k, v in reversed(re.findall(r"^ +(\w+) +(\d+)$", zone, re.M))}
            protection = [int(word) for word in re.search(r"protection: \((.*)\)", zone)[1].split(",")]  # type: ignore[index]
            self.wmark_low += of["low"]
            if "HighMem" in zone.partition("\n")[0]:
                free = of["nr_free_pages"]
                self.highmem += free - min(free, of["high"]) + of["nr_zone_inactive_file"] + of["nr_zone_active_file"]
            self.totalreserve += min(of["high"] - of["boost"] + max(protection), of["managed"])
        self.zone = [self.vmstat.get(name, 0) for name in zone_stat_text]
        self.node = [self.vmstat.get(name, 0) for name in node_stat_text]


def moments() -> list[tuple[str, str]]:
    """Snapshots that kept all three files."""
    return [
        (machine, snapshot)
        for machine in MACHINES
        for snapshot in snapshots(machine)
        if all((CAPTURES / machine / snapshot / "proc" / name).exists() for name in ("meminfo", "vmstat", "zoneinfo"))
    ]


@pytest.mark.parametrize(("machine", "snapshot"), moments())
def test_mem_available(machine: str, snapshot: str) -> None:
    real = Snapshot(machine, snapshot)
    mine = si_mem_available(real.zone, real.node, real.totalreserve, real.wmark_low)
    assert mine == pytest.approx(real.meminfo["MemAvailable"] // 4, abs=SLACK_PAGES)


@pytest.mark.parametrize(("machine", "snapshot"), moments())
def test_dirty_thresholds(machine: str, snapshot: str) -> None:
    real = Snapshot(machine, snapshot)
    dirtyable = global_dirtyable_memory(real.zone, real.node, real.totalreserve, real.highmem)
    background, threshold = global_dirty_limits(VmSysctl(), dirtyable)
    assert threshold == pytest.approx(real.vmstat["nr_dirty_threshold"], abs=SLACK_PAGES)
    assert background == pytest.approx(real.vmstat["nr_dirty_background_threshold"], abs=SLACK_PAGES)


def test_dirty_bytes_win_over_ratios_and_the_background_stays_below() -> None:
    vm = VmSysctl()
    vm.dirty_bytes, vm.dirty_background_bytes = 10 * PAGE_SIZE + 1, PAGE_SIZE
    assert global_dirty_limits(vm, 1 << 20) == (1, 11)
    vm.dirty_background_bytes = 11 * PAGE_SIZE
    assert global_dirty_limits(vm, 1 << 20) == (5, 11)  # half of the threshold
    vm.dirty_bytes, vm.dirty_background_bytes = 0, 0
    vm.dirty_ratio, vm.dirty_background_ratio = 100, 0
    assert global_dirty_limits(vm, 1000) == (0, 1000)


def test_available_is_never_negative_and_half_of_the_cache_stays() -> None:
    zone, node = [0] * len(ZoneStatItem), [0] * len(NodeStatItem)
    assert si_mem_available(zone, node, 1000, 10) == 0
    zone[ZoneStatItem.NR_FREE_PAGES] = 2000
    node[NodeStatItem.NR_ACTIVE_FILE] = 100
    assert si_mem_available(zone, node, 1000, 10) == 1000 + 90
    assert si_mem_available(zone, node, 1000, 80) == 1000 + 50
    node[NodeStatItem.NR_SLAB_RECLAIMABLE_B] = 40
    assert si_mem_available(zone, node, 1000, 80) == 1000 + 50 + 20


def test_slab_is_counted_in_bytes() -> None:
    state = [0] * len(NodeStatItem)
    state[NodeStatItem.NR_SLAB_RECLAIMABLE_B] = 3 * PAGE_SIZE
    state[NodeStatItem.NR_FILE_PAGES] = 7
    pages = node_page_state_pages(state)
    assert pages[NodeStatItem.NR_SLAB_RECLAIMABLE_B] == 3
    assert pages[NodeStatItem.NR_FILE_PAGES] == 7
