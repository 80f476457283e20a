"""The invariants of large folios: what maps them, what lies in store for them, where they are listed and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mmfs.mm.folio import folio_order, folio_pfn, large_folios, nr_pages
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
    PG_ANON,
    PG_MEMCG_KMEM,
    PG_MLOCKED,
    PG_PARTIALLY_MAPPED,
    PG_SWAPCACHE,
    PG_TABLE,
    PG_TAIL,
    PTE_PFN_MASK,
    PTE_PSE,
    PTE_SPECIAL,
    PTRS_PER_TABLE,
    MthpStatItem,
    NodeStatItem,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.filemap import AddressSpace
    from mmfs.mm.mm_struct import MmStruct


def _same(what: str, left: object, right: object) -> None:
    if left != right:
        raise AssertionError(f"{what}: {left} is not {right}")


def _blocks(entries: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The pageblocks that PMD entries map."""
    return (entries & np.uint64(PTE_PFN_MASK)).astype(np.int64) >> PAGE_SHIFT + PAGEBLOCK_ORDER


def check_pmds(
    kernel: Kernel, mm: MmStruct, table: int, base: int, rss: list[int], mapped: Counter[int]
) -> list[int]:
    """The huge entries of a PMD table, and one page table in store for each: these tables."""
    entries = kernel.frames.entries[table * PTRS_PER_TABLE :][:PTRS_PER_TABLE]
    huge = np.flatnonzero(entries & np.uint64(PTE_PSE))
    huge = huge[kernel.frames.blocks["state"][_blocks(entries[huge])] != BLK_HUGETLB]
    for i in huge.tolist():
        _check_pmd(kernel, mm, int(entries[i]), base + i * HPAGE_PMD_SIZE, rss, mapped)
    files = int((kernel.frames.pages["flags"][kernel.frames.huge + _blocks(entries[huge])] & PG_ANON == 0).sum())
    files -= int((entries[huge] & np.uint64(PTE_SPECIAL) != 0).sum())
    deposited, one = [], int(kernel.frames.pages[table]["mapping"])
    while one:
        _same(f"table {one:#x} in store: flags", int(kernel.frames.pages[one]["flags"]) & ~PG_MEMCG_KMEM, PG_TABLE)
        deposited.append(one)
        one = int(kernel.frames.pages[one]["index"])
    _same(f"table {table:#x}: tables in store", len(deposited), len(huge) - files)
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
    anon = bool(record["flags"] & PG_ANON)
    if anon:
        anon_vma = kernel.rmap.anon_vmas.get(int(record["mapping"]))
        if anon_vma is None or vma not in anon_vma.vmas:
            raise AssertionError(f"{addr:#x}: the anon_vma of a huge page does not lead to {vma!r}")
    else:
        _same(f"{addr:#x}: the file of a huge page", int(record["mapping"]), vma.vm_file and vma.vm_file.mapping.id)
    index = (vma.vm_pgoff + ((addr - vma.vm_start) >> PAGE_SHIFT)) & 0xFFFF_FFFF
    _same(f"{addr:#x}: index of a huge page", int(record["index"]), index)
    rss[0 if anon else 2] += HPAGE_PMD_NR
    mapped[folio] += 1


def pages_mapped_whole(kernel: Kernel, mapped: Counter[int]) -> tuple[int, int]:
    """Frames of huge pages that only PMD entries map: of anonymous memory, and of files."""
    blocks, found = kernel.frames.blocks, [0, 0]
    for folio in mapped:
        kind = not kernel.frames.pages[folio]["flags"] & PG_ANON
        found[kind] += HPAGE_PMD_NR - int(blocks[folio - kernel.frames.huge]["nr_mapped"])
    return found[0], found[1]


def pages_locked(kernel: Kernel) -> int:
    """Frames of large folios that are locked."""
    folios = large_folios(kernel.frames)
    return int(nr_pages(kernel.frames, folios[kernel.frames.pages["flags"][folios] & PG_MLOCKED != 0]).sum())


def check_files(kernel: Kernel, folios: list[int]) -> set[int]:
    """Large folios of files fill as many slots as they have pages, and so do swapped-out ones: which are in files."""
    frames, fast, large = kernel.frames, kernel.mmu.shmem.slots, 0
    found = set()
    for folio in folios:
        record, first, nr = frames.pages[folio], folio_pfn(frames, folio), 1 << folio_order(frames, folio)
        mapping = kernel.page_cache.mappings.get(int(record["mapping"]))
        at, where = int(record["index"]), f"folio at {first:#x} of a file"
        if mapping is None or at % nr:
            raise AssertionError(f"{where} is in none, or not on its boundary there")
        _same(f"{where}: slots", mapping.slots()[at : at + nr].tolist(), list(range(first + 1, first + 1 + nr)))
        found.add(folio)
    for mapping in kernel.page_cache.mappings.values():
        if mapping.host.shmem:
            large += sum(1 for _ in large_entries(kernel, mapping))
    _same("entries of several slots", large, int(fast.nr_large))
    thps = kernel.vmstat.global_node_page_state(NodeStatItem.NR_SHMEM_THPS)
    _same("nr_shmem_hugepages", sum(folio < frames.mthp for folio in found) * HPAGE_PMD_NR, thps)
    return found


def large_entries(kernel: Kernel, mapping: AddressSpace) -> Iterator[tuple[int, int]]:
    """Where entries of several slots of a file begin, and their orders; those of swap name slots side by side."""
    at, slots, fast = 0, mapping.slots(), kernel.mmu.shmem.slots
    filled = np.flatnonzero(slots)
    while (rest := np.searchsorted(filled, at)) < len(filled):
        at = int(filled[rest])
        order = int(fast.order(mapping.id, at))
        if order:
            if at % (1 << order):
                raise AssertionError(f"{mapping.host!r}: an entry of order {order} begins at {at}")
            entry = slots[at : at + (1 << order)]
            _same(f"{mapping.host!r}: entry of order {order} at {at}", np.diff(entry).tolist(), [1] * (len(entry) - 1))
            yield at, order
        at += 1 << order


def _check_folio(kernel: Kernel, folio: int, whole: int, singly: int, queued: bool) -> None:
    """One large folio, which so many PMD entries and so many others map."""
    frames = kernel.frames
    record, order, first = frames.pages[folio], folio_order(frames, folio), folio_pfn(frames, folio)
    where = f"folio of order {order} at {first:#x}"
    block, pages = frames.blocks[first >> PAGEBLOCK_ORDER], frames.pages[first : first + (1 << order)]
    _same(f"{where}: entries", whole + singly, int(record["mapcount"]))
    _same(f"{where}: PMD entries", whole, int(block["mapcount"]))
    if block["state"] == BLK_SPLIT:
        if order == HPAGE_PMD_ORDER:
            _same(f"{where}: frames mapped singly", int((pages["mapcount"] > 0).sum()), int(block["nr_mapped"]))
        if not ((pages["flags"] & PG_TAIL != 0) & (pages["mlock_count"] == order)).all():
            raise AssertionError(f"{where}: a frame is not marked as part of it")
        _same(f"{where}: entries of its frames", singly, int(pages["mapcount"].sum()))
        indices = (int(record["index"]) + np.arange(1 << order)) & 0xFFFF_FFFF
        _same(f"{where}: places of its frames", pages["index"].tolist(), indices.tolist())
    else:
        _same(f"{where}: state", (int(block["state"]), order), (BLK_HUGE, HPAGE_PMD_ORDER))
        _same(f"{where}: frames mapped singly", 0, int(block["nr_mapped"]))
    _same(f"{where}: queued", int(record["flags"]) & PG_PARTIALLY_MAPPED != 0, queued)
    if record["flags"] & PG_SWAPCACHE and (whole or queued):
        raise AssertionError(f"{where}: in the swap cache, but mapped whole, or queued to be split")


def check_huge(kernel: Kernel, whole: Counter[int], singly: Counter[int]) -> None:
    """Each large folio against what maps it, all of them against the counters, the queue against its marks."""
    frames, fast = kernel.frames, kernel.mmu.huge
    folios = large_folios(frames)
    found = folios.tolist()
    flags = frames.pages["flags"][folios]
    cached, files = folios[flags & PG_SWAPCACHE != 0].tolist(), folios[flags & PG_ANON == 0].tolist()
    in_files = check_files(kernel, [folio for folio in files if folio not in cached])
    known = whole.keys() | singly.keys() | set(cached) | in_files
    _same("large folios that are mapped, cached, or in files", known, set(found))
    queued = [folio for nid in range(kernel.lru.nr_nodes) for folio in fast.folios_queued(nid)]
    for folio in found:
        _check_folio(kernel, folio, whole[folio], singly[folio], folio in queued)
    _same("queues of folios to split", len(queued), int(fast.queued_counts.sum()))
    state, of_files = kernel.vmstat.global_node_page_state, len(whole.keys() & set(files))
    _same("nr_anon_thps", (len(whole) - of_files) * HPAGE_PMD_NR, state(NodeStatItem.NR_ANON_THPS))
    _same("nr_shmem_pmdmapped", of_files * HPAGE_PMD_NR, state(NodeStatItem.NR_SHMEM_PMDMAPPED))
    counts = np.zeros((2, HPAGE_PMD_ORDER + 1), np.int64)
    for folio in set(found) - set(files):
        counts[0, folio_order(frames, folio)] += 1
        counts[1, folio_order(frames, folio)] += int(frames.pages[folio]["flags"]) & PG_PARTIALLY_MAPPED != 0
    items = MthpStatItem.MTHP_STAT_NR_ANON, MthpStatItem.MTHP_STAT_NR_ANON_PARTIALLY_MAPPED
    for item, count in zip(items, counts.tolist(), strict=True):
        _same(f"{item.name} by order", count, fast.stats[:, item].tolist())
    holders = sum(int(kernel.mmu.mms[row]["flags"]) & MMF_HUGE_ZERO_PAGE != 0 for row in kernel.mms)
    _same("holders of the huge page of zeros", holders, int(fast.zero_users))
