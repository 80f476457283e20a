"""The direct map against what real kernels printed for the same memory."""

from __future__ import annotations

import re

import pytest

from mmfs.mm.direct_map import MODULE_SPLITS_2M, SPLITS_32, SPLITS_64, SPLITS_64_7_0, DirectMap
from mmfs.mm.vmstat import VmStat
from mmfs.mm_types import VmEventItem
from tests.golden.captures import MACHINES, at_boot

GB = 1 << 30
LOW = (0x1000, 0x9FC00)
RAM = {
    "512M": [LOW, (0x100000, 0x1FFDA000)],
    "512M-6.1": [LOW, (0x100000, 0x1FFDA000)],
    "512M-7.0": [LOW, (0x100000, 0x1FFDA000)],
    "2G-686-pae": [LOW, (0x100000, 0x36FFE000)],
    "1G-hugepages": [LOW, (0x100000, 0x3FFDA000)],
    "5G-numa2": [LOW, (0x100000, 0xBFFDA000), (4 * GB, 6 * GB)],
}


class Pages:
    """As many pages as one asks for."""

    def __init__(self) -> None:
        self.vmstat = VmStat(1)

    def alloc_pages(self, gfp: int, order: int, nid: int) -> int:
        return 1


@pytest.mark.parametrize("machine", MACHINES)
def test_direct_map(machine: str) -> None:
    """All three sizes, less the pages that modules happened to split on that boot."""
    golden = dict(re.findall(r"DirectMap(\w+): +(\d+) kB", at_boot(machine, "/proc/meminfo").decode()))
    splits = int(re.search(r"direct_map_level2_splits (\d+)", at_boot(machine, "/proc/vmstat").decode())[1])  # type: ignore[index]
    pae = "arch" in MACHINES[machine]
    boot_splits = SPLITS_64_7_0 if machine == "512M-7.0" else SPLITS_64
    direct_map = DirectMap(RAM[machine], gbpages=not pae, splits=SPLITS_32[True] if pae else boot_splits)
    # 6.1 has split one more that it did not count.
    for _ in range(splits + (MACHINES[machine].get("profile") == "6.1" and not pae)):
        assert direct_map.split_2m()
    assert direct_map.nr_4k * 4 == int(golden["4k"])
    assert direct_map.nr_2m * 2048 == int(golden["2M"])
    assert direct_map.nr_1g << 20 == int(golden.get("1G", 0))


def test_without_gigabyte_pages() -> None:
    direct_map = DirectMap(RAM["5G-numa2"], gbpages=False)
    assert direct_map.nr_1g == 0
    total = direct_map.nr_4k * 4096 + direct_map.nr_2m * (2 << 20)
    assert total == 0x100000 + sum(end - max(start, 0x100000) for start, end in RAM["5G-numa2"][1:])


def test_loading_modules_splits() -> None:
    pages = Pages()
    direct_map = DirectMap(RAM["512M"], gbpages=True)
    before = direct_map.nr_4k
    direct_map.load_modules(pages)  # type: ignore[arg-type]
    assert direct_map.nr_4k - before == MODULE_SPLITS_2M * 512
    assert pages.vmstat.event[VmEventItem.DIRECT_MAP_LEVEL2_SPLITS] == MODULE_SPLITS_2M


def test_twelve_terabytes() -> None:
    """The work is by ranges, not by pages; nearly all is mapped by gigabytes."""
    direct_map = DirectMap([LOW, (0x100000, 0xBFFDA000), (1 << 40, 13 << 40)], gbpages=True)
    assert direct_map.nr_1g == pytest.approx(12 << 10, rel=0.001)
