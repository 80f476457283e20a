"""The invariants of huge pages: what maps them, what lies in store for them, where they are listed and counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from mmfs.mm_types import (
    BLK_HUGE,
    BLK_HUGETLB,
    BLK_SPLIT,
    HPAGE_PMD_NR,
    HPAGE_PMD_ORDER,
    HPAGE_PMD_SIZE,
    MMF_HUGE_ZERO_PAGE,
    PAGE_SHIFT,
    PAGEBLOCK_ORDER,
    PG_HEAD,
    PG_MEMCG_KMEM,
    PG_SWAPCACHE,
    PG_TABLE,
    PG_TAIL,
    PTE_PFN_MASK,
    PTE_PSE,
    PTE_SPECIAL,
    MthpStatItem,
    NodeStatItem,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mm_struct import MmStruct


def _same(what: str, left: object, right: object) -> None:
    if left != right:
        raise AssertionError(f"{what}: {left} is not {right}")


def check_pmds(
    kernel: Kernel, mm: MmStruct, table: int, base: int, rss: list[int], mapped: Counter[int]
) -> list[int]:
    """The huge entries of a PMD table, and one page table in store for each: these tables."""
    entries = kernel.frames.entries[table * 512 : table * 512 + 512]
    huge = np.flatnonzero(entries & np.uint64(PTE_PSE))
    blocks = (entries[huge] & np.uint64(PTE_PFN_MASK)).astype(np.int64) >> PAGE_SHIFT + PAGEBLOCK_ORDER
    huge = huge[kernel.frames.blocks["state"][blocks] != BLK_HUGETLB]
    for i in huge.tolist():
        _check_pmd(kernel, mm, int(entries[i]), base + i * HPAGE_PMD_SIZE, rss, mapped)
    deposited, one = [], int(kernel.frames.pages[table]["mapping"])
    while one:
        _same(f"table {one:#x} in store: flags", int(kernel.frames.pages[one]["flags"]) & ~PG_MEMCG_KMEM, PG_TABLE)
        deposited.append(one)
        one = int(kernel.frames.pages[one]["index"])
    _same(f"table {table:#x}: tables in store", len(deposited), len(huge))
    return deposited


def _check_pmd(kernel: Kernel, mm: MmStruct, entry: int, addr: int, rss: list[int], mapped: Counter[int]) -> None:
    frames, pfn = kernel.frames, (entry & PTE_PFN_MASK) >> PAGE_SHIFT
    vma = mm.vma_lookup(addr)
    if vma is None or vma.vm_end < addr + HPAGE_PMD_SIZE:
        raise AssertionError(f"{addr:#x}: a huge page is mapped beyond its VMA")
    if entry & PTE_SPECIAL:
        _same(f"{addr:#x}: the huge page of zeros", pfn, int(kernel.mmu.huge.zero_pfn))
        return
    folio = frames.huge + (pfn >> PAGEBLOCK_ORDER)
    record = frames.pages[folio]
    anon_vma = kernel.rmap.anon_vmas.get(int(record["mapping"]))
    if anon_vma is None or vma not in anon_vma.vmas:
        raise AssertionError(f"{addr:#x}: the anon_vma of a huge page does not lead to {vma!r}")
    index = (vma.vm_pgoff + ((addr - vma.vm_start) >> PAGE_SHIFT)) & 0xFFFF_FFFF
    _same(f"{addr:#x}: index of a huge page", int(record["index"]), index)
    rss[0] += HPAGE_PMD_NR
    mapped[folio] += 1


def pages_mapped_whole(kernel: Kernel, mapped: Counter[int]) -> int:
    """Frames of huge pages that only PMD entries map."""
    blocks = kernel.frames.blocks
    return sum(HPAGE_PMD_NR - int(blocks[folio - kernel.frames.huge]["nr_mapped"]) for folio in mapped)


def check_huge(kernel: Kernel, whole: Counter[int], singly: Counter[int]) -> None:
    """Each huge page against the entries that map it, all of them against the counters, the queue against its marks."""
    frames, fast = kernel.frames, kernel.mmu.huge
    folios = frames.pages[frames.huge :]
    found = (frames.huge + np.flatnonzero(folios["flags"] & PG_HEAD)).tolist()
    cached = (frames.huge + np.flatnonzero(folios["flags"] & PG_SWAPCACHE)).tolist()
    _same("huge pages that are mapped, or cached", sorted(whole.keys() | singly.keys() | set(cached)), found)
    queued = [folio for nid in range(kernel.lru.nr_nodes) for folio in fast.folios_queued(nid)]
    for folio in found:
        record, block = frames.pages[folio], frames.blocks[folio - frames.huge]
        where = f"huge page {folio - frames.huge:#x}"
        _same(f"{where}: entries", whole[folio] + singly[folio], int(record["mapcount"]))
        _same(f"{where}: PMD entries", whole[folio], int(block["mapcount"]))
        first = (folio - frames.huge) << PAGEBLOCK_ORDER
        pages = frames.pages[first : first + HPAGE_PMD_NR]
        if block["state"] == BLK_SPLIT:
            _same(f"{where}: frames mapped singly", int((pages["mapcount"] > 0).sum()), int(block["nr_mapped"]))
            if not (pages["flags"] & PG_TAIL != 0).all():
                raise AssertionError(f"{where}: a frame is not marked as part of it")
        else:
            _same(f"{where}: state", int(block["state"]), BLK_HUGE)
            _same(f"{where}: frames mapped singly", 0, int(block["nr_mapped"]))
        _same(f"{where}: queued", bool(block["deferred"]), folio in queued)
        if record["flags"] & PG_SWAPCACHE and (whole[folio] or folio in queued):
            raise AssertionError(f"{where}: in the swap cache, but mapped whole, or queued to be split")
    _same("queues of huge pages", len(queued), int(fast.queued_counts.sum()))
    thps = kernel.vmstat.global_node_page_state(NodeStatItem.NR_ANON_THPS)
    _same("nr_anon_thps", len(whole) * HPAGE_PMD_NR, thps)
    _same("nr_anon", len(found), int(fast.stats[HPAGE_PMD_ORDER, MthpStatItem.MTHP_STAT_NR_ANON]))
    partially = sum(int(frames.blocks[folio - frames.huge]["partially"]) for folio in found)
    count = int(fast.stats[HPAGE_PMD_ORDER, MthpStatItem.MTHP_STAT_NR_ANON_PARTIALLY_MAPPED])
    _same("nr_anon_partially_mapped", partially, count)
    holders = sum(int(kernel.mmu.mms[row]["flags"]) & MMF_HUGE_ZERO_PAGE != 0 for row in kernel.mms)
    _same("holders of the huge page of zeros", holders, int(fast.zero_users))
