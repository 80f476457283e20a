"""Against a real kernel on machines of 80 MB to 12 TB: reservations, zones, watermarks, /proc/iomem, the log."""

from __future__ import annotations

import re

import pytest

from mmfs.kernel import setup_arm64
from mmfs.kernel.setup import boot_log
from mmfs.mm import watermark
from mmfs.mm.mm_init import zone_types
from mmfs.mm.page_alloc import MOVABLE_APART, PCP_TUNED, RESERVES_FOLLOW
from mmfs.mm_types import PAGE_SHIFT, ZONE_HIGHMEM, ZONE_MOVABLE
from tests.boot.real_machines import ALL, SHAPES, RealMachine, booted, real_machine

# Where KASLR puts the direct map, the memory map and the CPU entry areas decides whether each needs a page
# table more; that many pages, at most, nobody can foresee.
KASLR_PAGES = 8


def slack(real: RealMachine) -> int:
    """How many pages may differ: none on arm64, where KASLR moves the image's addresses only."""
    return KASLR_PAGES if real.profile.config("X86") else 0



@pytest.fixture(params=ALL)
def real(request: pytest.FixtureRequest) -> RealMachine:
    return real_machine(request.param)


def test_memtotal(real: RealMachine) -> None:
    total = int(real.meminfo.split()[1]) >> PAGE_SHIFT - 10
    assert abs(real.memblock.totalram_pages() - total) <= slack(real)


def test_zones(real: RealMachine) -> None:
    for zone in real.memblock.zone_ranges:
        numbers = real.zone(zone.nid, zone.zone_type).numbers
        assert numbers.get("spanned", 0) == zone.spanned
        assert numbers.get("present", 0) == zone.present
        assert numbers.get("start_pfn", 0) == zone.start_pfn
        managed = real.memblock.managed_pages(zone.start_pfn, zone.end_pfn, zone.nid)
        assert abs(numbers.get("managed", 0) - managed) <= slack(real)


def our_watermarks(real: RealMachine) -> tuple[int, list[int], list[watermark.Watermarks]]:
    """min_free_kbytes, managed pages and watermarks of each zone as the kernel computes them while it boots."""
    zones = real.memblock.zone_ranges
    managed = [real.memblock.managed_pages(z.start_pfn, z.end_pfn, z.nid, booted=False) for z in zones]
    high = {ZONE_HIGHMEM, ZONE_MOVABLE}
    has_high = any(zone.spanned for zone in zones if zone.zone_type == ZONE_HIGHMEM)
    apart = high if MOVABLE_APART(real.profile) or has_high else {ZONE_HIGHMEM}
    lowmem = sum(pages for pages, zone in zip(managed, zones, strict=True) if zone.zone_type not in high)

    def marks(kbytes: int) -> list[watermark.Watermarks]:
        return [
            watermark.zone_watermarks(pages, lowmem, kbytes, movable=zone.zone_type in apart)
            for pages, zone in zip(managed, zones, strict=True)
        ]

    min_free = watermark.calculate_min_free_kbytes(lowmem)
    if sum(managed) << PAGE_SHIFT >= 512 << 20:  # below, transparent huge pages are off and khugepaged does not run
        populated = sum(1 for zone in zones if zone.present and zone.zone_type not in high)
        free = sum(
            max(pages - mark.high, 0)
            for pages, mark, zone in zip(managed, marks(min_free), zones, strict=True)
            if zone.zone_type not in high
        )
        min_free = max(min_free, watermark.recommended_min_free_kbytes(populated, free))
    return min_free, managed, marks(min_free)


def test_watermarks(real: RealMachine) -> None:
    min_free, _, marks = our_watermarks(real)
    if real.min_free_kbytes is not None:
        assert abs(min_free - real.min_free_kbytes) <= 1  # for the same reason as below
    for zone, mark in zip(real.memblock.zone_ranges, marks, strict=True):
        theirs = real.zone(zone.nid, zone.zone_type)
        for name, ours in mark._asdict().items():
            # A page of KASLR_PAGES more or less can change a quotient by one.
            boosted = ours + theirs.numbers.get("boost", 0)
            assert abs(theirs.numbers.get(name, boosted) - boosted) <= 1, (zone, name)
        ranges = [other for other in real.memblock.zone_ranges if other.nid == zone.nid]
        late = RESERVES_FOLLOW(real.profile)
        own = [real.memblock.managed_pages(z.start_pfn, z.end_pfn, z.nid, booted=late) for z in ranges]
        row = watermark.lowmem_reserves(own)[zone.zone_type]
        reserve = tuple(row[other] for other in zone_types(real.profile))
        assert theirs.protection in ((), reserve)


def test_per_cpu_lists_and_thresholds(real: RealMachine) -> None:
    _, managed, marks = our_watermarks(real)
    nr_cpus = real.machine.nr_cpus
    for zone, pages, mark in zip(real.memblock.zone_ranges, managed, marks, strict=True):
        theirs = real.zone(zone.nid, zone.zone_type)
        if not theirs.pcp_high:
            continue
        assert theirs.numbers["threshold"] == watermark.calculate_normal_threshold(pages, nr_cpus)
        node_cpus = len(real.machine.nodes[zone.nid].cpus)
        low, high, batch = watermark.pageset_high_and_batch(pages, mark.low, node_cpus, nr_cpus)
        assert theirs.numbers["batch"] == batch
        # The kernel tunes each list between the two; it is 0 until the list is first used. Older ones do not.
        if PCP_TUNED(real.profile):
            assert all(now == 0 or min(low, now) <= now <= high for now in theirs.pcp_high)
        else:
            assert theirs.pcp_high == [low] * nr_cpus


def test_iomem(real: RealMachine) -> None:
    ours = "".join(f"{'  ' * depth}{r.start:08x}-{r.end:08x} : {r.name}\n" for depth, r in real.memblock.iomem.walk())
    assert ours == real.iomem


# Lines that depend on the host's clock, on what the kernel had allocated meanwhile, or on the random layout.
MEASURED = re.compile(
    r"tsc: Detected|Calibrating|smpboot: Total|deferred pages initialised|Adding \d+k swap|virtio_blk virtio[23]"
    r"|NODE_DATA|NUMA: Initialized distance|automatic NUMA"
)


@pytest.mark.parametrize("name", SHAPES)
def test_boot_log(name: str) -> None:
    real = booted(name)
    assert real.dmesg is not None
    theirs = [re.sub(r"^\[ *[\d.]+\] ", "", line) for line in real.dmesg]
    available = next(int(match[1]) for line in theirs if (match := re.match(r"Memory: (\d+)K", line)))
    if real.profile.config("X86"):
        log = boot_log(real.machine, real.profile, real.memblock, nr_free_pages=available // 4)
    else:
        free = available >> PAGE_SHIFT - 10
        log = setup_arm64.boot_log(real.machine, real.profile, real.memblock, nr_free_pages=free)
    for _, _, text in log:
        if MEASURED.search(text):
            continue
        if text.startswith("Memory: "):
            numbers = re.compile(r"\d+(?=K reserved)")
            (line,) = (line for line in theirs if line.startswith("Memory: "))
            assert numbers.sub("", text) == numbers.sub("", line)
            reserved = [int(numbers.search(row)[0]) for row in (text, line)]  # type: ignore[index]
            assert abs(reserved[0] - reserved[1]) <= slack(real) << PAGE_SHIFT - 10
            continue
        assert text in theirs
    kept = re.compile(
        r"BIOS-e820|  node|Initmem|On node|hash table entries|Fallback|Freeing|last_pfn|nosave|SRAT: Node"
        + ("" if real.profile.config("X86") else "|IO TLB|percpu|DMA: pre|Machine model|KASLR|NUMA: Faking")
    )
    ours = {text for _, _, text in log}
    assert [line for line in theirs if kept.search(line) and line not in ours] == []
