"""Which pageblocks are movable when the machine has booted, against real machines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mmfs
from mmfs.mm_types import BLK_RESERVED, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE, PAGEBLOCK_ORDER

CAPTURES = Path(__file__).parent.parent / "golden" / "captures"
CLAIMED = 6
"""Unmovable blocks are claimed in pairs (of order 10) while the kernel boots. Boots of the same 512 MB had 38 and 40,
and 25 where KASLR had put half of the kernel's image below the deferred memory; here it is two pairs less than 38."""


def blocks(text: str) -> dict[str, list[int]]:
    """Zone -> how many pageblocks are unmovable, movable, reclaimable ..."""
    rows = re.findall(r"^Node 0, zone +(\w+)((?: +\d+)+) *$", text.partition("Number of blocks")[2], re.M)
    return {zone: [int(number) for number in numbers.split()] for zone, numbers in rows}


@pytest.mark.parametrize(
    ("ram", "capture", "cmdline"),
    [("512M", "512M/00-boot", ""), ("1G", "1G-hugepages/00-boot-hugepages", "hugepages=64")],
)
def test_types(ram: str, capture: str, cmdline: str) -> None:
    """What begins reserved in deferred memory, and below the first frame, was never made movable."""
    kernel = mmfs.boot(ram=ram, cpus=2, preset="bare", cmdline=cmdline)
    ours = blocks(kernel.read("/proc/pagetypeinfo").decode())
    real = blocks((CAPTURES / capture / "proc" / "pagetypeinfo").read_text())
    assert ours["DMA"] == real["DMA"]
    assert sum(ours["DMA32"]) == sum(real["DMA32"])
    assert ours["DMA32"][2:] == real["DMA32"][2:]
    assert abs(ours["DMA32"][0] - real["DMA32"][0]) <= CLAIMED
    kernel.check()


def test_early_memory_is_movable() -> None:
    """Reserved blocks before the deferred memory are movable, those behind are not."""
    kernel = mmfs.boot(ram="512M", cpus=2, preset="bare")
    reserved = [b for b, row in enumerate(kernel.frames.blocks[:256]) if row["state"] == BLK_RESERVED]
    deferred = kernel.memblock.first_deferred_pfn[0] >> PAGEBLOCK_ORDER
    types = {int(kernel.frames.blocks[b]["migratetype"]) for b in reserved if b >= deferred}
    assert types == {MIGRATE_UNMOVABLE}
    assert all(kernel.frames.blocks[b]["migratetype"] == MIGRATE_MOVABLE for b in reserved if 0 < b < deferred)
