"""The invariants: what must be true of the model whenever nothing is under way.

Each check compares two things that are kept independently: free lists with counters, page tables with map
counts and with rss, lists with their lengths, every frame with exactly one use. ``check()`` runs them all and
raises AssertionError with what differs.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmfs.mm import check_damon, check_huge, check_hugetlb, check_ksm, check_memcg, check_swap
from mmfs.mm.filemap import NODE_SLOTS
from mmfs.mm.folio import nr_pages, of_tails
from mmfs.mm_types import (
    BLK_SPLIT,
    BLK_TAIL,
    LRU_UNEVICTABLE,
    MAX_PAGE_ORDER,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    MIGRATE_TYPES,
    NR_LRU_LISTS,
    NR_PAGE_ORDERS,
    NR_PCP_LISTS,
    PAGE_SHIFT,
    PAGE_SIZE,
    PAGEBLOCK_ORDER,
    PG_ANON,
    PG_BUDDY,
    PG_DIRTY,
    PG_KSM,
    PG_LRU,
    PG_MEMCG_KMEM,
    PG_MLOCKED,
    PG_PCP,
    PG_PRIVATE,
    PG_SWAPBACKED,
    PG_TABLE,
    PG_TAIL,
    PG_WRITEBACK,
    PTE_CONT,
    PTE_DIRTY,
    PTE_HWPOISON,
    PTE_PFN_MASK,
    PTE_PRESENT,
    PTE_PSE,
    PTE_SPECIAL,
    PTRS_PER_TABLE,
    SLOT_SHADOW,
    TABLE_SHIFT,
    NodeStatItem,
    ZoneStatItem,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.inode import Inode
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct

_MAPPED = np.uint64(0x101)


def _same(what: str, left: object, right: object) -> None:
    if left != right:
        raise AssertionError(f"{what}: {left} is not {right}")


def check(kernel: Kernel) -> None:
    """Every invariant of memory. Raises AssertionError."""
    free = check_free_lists(kernel)
    check_pcp_lists(kernel, free)
    check_compaction(kernel, free)
    mapped = check_page_tables(kernel)
    check_lru(kernel, mapped)
    check_page_cache(kernel)
    check_swap.check_swap(kernel, mapped.slots)
    check_writeback(kernel)
    check_counters(kernel, mapped)
    check_huge.check_huge(kernel, mapped.huge, mapped.singly)
    check_ksm.check_ksm(kernel, mapped.zero_pages, mapped.pfns)
    check_damon.check_damon(kernel)
    check_memcg.check_memcgs(kernel)
    check_hugetlb.check_hugetlb(kernel, mapped.hugetlb)
    kernel.memory_tiers.check()


def check_free_lists(kernel: Kernel) -> set[int]:
    """Free lists against their counts, NR_FREE_PAGES and the records. Returns the heads of free blocks."""
    buddy, frames = kernel.page_alloc.buddy, kernel.frames
    seen: set[int] = set()
    for zone in kernel.zones:
        virgin_blocks = sum(high - low for low, high in zone.virgin_extents()) >> MAX_PAGE_ORDER
        total, highatomic, cma = virgin_blocks << MAX_PAGE_ORDER, 0, 0
        for order in range(NR_PAGE_ORDERS):
            for mt in range(MIGRATE_TYPES):
                blocks = buddy.areas.free_list(zone.index, order, mt)
                where = f"{zone!r} order {order} type {mt}"
                virgin = virgin_blocks if (order, mt) == (MAX_PAGE_ORDER, MIGRATE_MOVABLE) else 0
                _same(f"{where}: length of the list", len(blocks) + virgin, zone.free_area_nr_free_mt(order, mt))
                for pfn in blocks:
                    _same(f"{where}: alignment of {pfn:#x}", pfn & ((1 << order) - 1), 0)
                    if not zone.zone_start_pfn <= pfn < zone.zone_end_pfn:
                        raise AssertionError(f"{where}: {pfn:#x} is not in the zone")
                if order < PAGEBLOCK_ORDER:
                    _check_small_free(kernel, blocks, order, mt, where)
                if mt != MIGRATE_ISOLATE:
                    total += len(blocks) << order
                if mt == MIGRATE_HIGHATOMIC:
                    highatomic += len(blocks) << order
                if mt == MIGRATE_CMA:
                    cma += len(blocks) << order
                seen.update(blocks)
        _same(f"{zone!r}: nr_free_pages", total, kernel.vmstat.zone_page_state(zone.index, ZoneStatItem.NR_FREE_PAGES))
        _same(f"{zone!r}: nr_free_highatomic", highatomic, zone.nr_free_highatomic)
        _same(f"{zone!r}: nr_free_cma", cma, int(kernel.vmstat.zone_stat[zone.index, ZoneStatItem.NR_FREE_CMA_PAGES]))
    states = frames.blocks["state"]
    for pfn in seen:
        if states[pfn >> PAGEBLOCK_ORDER] == BLK_TAIL:
            raise AssertionError(f"free block {pfn:#x} begins in the tail of another")
    return seen


def _check_small_free(kernel: Kernel, blocks: list[int], order: int, mt: int, where: str) -> None:
    if not blocks:
        return
    pfns = np.array(blocks)
    records = kernel.frames.pages[pfns]
    if not (records["flags"] == PG_BUDDY).all() or not (records["private"] == order).all():
        raise AssertionError(f"{where}: a page on the list is not marked free at this order")
    owners = kernel.frames.blocks[pfns >> PAGEBLOCK_ORDER]
    if not (owners["migratetype"] == mt).all():
        raise AssertionError(f"{where}: a page is on the list of another type than its pageblock's")
    if not (owners["state"] == BLK_SPLIT).all():
        raise AssertionError(f"{where}: a page of a pageblock that is not split")


def check_compaction(kernel: Kernel, free: set[int]) -> None:
    """Free pages that a kcompactd has taken, between two slices of its work, and none but these."""
    for cc in (kernel.compactor.cc, *(kcompactd.cc for kcompactd in kernel.kcompactds)):
        taken = 0
        for order in range(PAGEBLOCK_ORDER):
            for pfn in kernel.frames.walk_pages(cc.freepages + order):
                taken += 1 << order
                _same(f"flags of {pfn:#x}, taken by compaction", int(kernel.frames.pages[pfn]["flags"]), 0)
                _same(f"{pfn:#x} is taken by compaction, and free", pfn in free, False)
        _same("free pages taken by compaction", taken, cc.nr_freepages)
        _same("pages off their lists for compaction", cc.nr_isolated, 0)
        if taken and not cc.begun:
            raise AssertionError(f"compaction is over and has still {taken} pages")


def check_pcp_lists(kernel: Kernel, free: set[int]) -> None:
    """Per-CPU lists against their counts; no page is on two lists."""
    buddy = kernel.page_alloc.buddy
    for cpu in range(buddy.nr_cpus):
        for zone in kernel.zones:
            if not zone.populated():
                continue
            total = 0
            for pindex in range(NR_PCP_LISTS):
                order = PAGEBLOCK_ORDER if pindex >= 12 else pindex // 3
                for folio in buddy.pcp_list(cpu, zone.index, pindex):
                    total += 1 << order
                    _same(f"flags of {folio:#x} on a per-CPU list", int(kernel.frames.pages[folio]["flags"]), PG_PCP)
                    pfn = folio if order < PAGEBLOCK_ORDER else (folio - kernel.frames.huge) << PAGEBLOCK_ORDER
                    if pfn in free:
                        raise AssertionError(f"{pfn:#x} is on a per-CPU list and a free list")
            _same(f"cpu {cpu} {zone!r}: pcp count", total, int(buddy.pcps[cpu * buddy.nr_zones + zone.index]["count"]))


class _Mapped:
    """What the page tables of all address spaces say, gathered by walking them."""

    def __init__(self) -> None:
        self.frames: list[NDArray[np.int64]] = []
        self.huge: Counter[int] = Counter()
        """PMD entries by the folio that they map."""
        self.singly: Counter[int] = Counter()
        """Entries of frames by their folio."""
        self.tables: dict[int, int] = {}
        self.pfns: NDArray[np.int64] = np.zeros(0, np.int64)
        self.slots: Counter[int] = Counter()
        self.zero_pages: Counter[int] = Counter()
        """Zero pages that KSM has put there, by address space."""
        self.hugetlb: list[tuple[int, int, int]] = []
        """Entries of huge pages of pools: (address space, address, entry)."""


def check_page_tables(kernel: Kernel) -> _Mapped:
    """Every entry against the page it maps: rss, map counts, reverse map, rights of the VMA."""
    mapped = _Mapped()
    for row, mm in kernel.mms.items():
        rss = [0, 0, 0, 0]
        tables = 0
        record = kernel.mmu.mms[row]
        root, levels = int(record["pgd"]), kernel.mmu.walker.levels
        ptrs_per_pgd = kernel.profile.arch.ptrs_per_pgd or PTRS_PER_TABLE
        stack = [(root, levels, 0)]
        while stack:
            first, level, base = stack.pop()
            table, ptrs = first // PTRS_PER_TABLE, PTRS_PER_TABLE if level < levels else ptrs_per_pgd
            if ptrs == PTRS_PER_TABLE:
                mapped.tables[table] = row
                _same(f"table {table:#x}: flags", int(kernel.frames.pages[table]["flags"]) & ~PG_MEMCG_KMEM, PG_TABLE)
                tables += PAGE_SIZE if level <= 3 else 0
            entries = kernel.frames.entries[first : first + ptrs]
            shift = PAGE_SHIFT + TABLE_SHIFT * (level - 1)
            huge = check_hugetlb.entries_of_pools(kernel, entries, level)
            mapped.hugetlb += [(row, base + (i << shift), int(entries[i])) for i in huge.tolist()]
            if level == 1:
                _check_entries(kernel, mm, entries, base, rss, mapped)
                continue
            if level == 2:
                deposited = check_huge.check_pmds(kernel, mm, table, base, rss, mapped.huge)
                tables += len(deposited) * PAGE_SIZE
                mapped.tables.update(dict.fromkeys(deposited, row))
            for i in np.flatnonzero(entries):
                entry = int(entries[i])
                child = (entry & PTE_PFN_MASK) >> PAGE_SHIFT
                if entry & PTE_PRESENT and not entry & PTE_PSE:
                    stack.append((child * PTRS_PER_TABLE, level - 1, base + (int(i) << shift)))
        for name, count in zip(("rss_anon", "rss_file", "rss_shmem", "rss_swap"), rss, strict=True):
            _same(f"mm of {mm.owner.pid if mm.owner else row}: {name}", count, int(record[name]))
        _same(f"mm {row}: page-table bytes", tables, int(record["pgtables_bytes"]))
    mapped.pfns, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *mapped.frames]), return_counts=True)
    wrong = np.flatnonzero(kernel.frames.pages[mapped.pfns]["mapcount"] != counts)
    for i in wrong[:1]:
        pfn = int(mapped.pfns[i])
        _same(f"map count of {pfn:#x}", int(counts[i]), int(kernel.frames.pages[pfn]["mapcount"]))
    return mapped


def _check_entries(
    kernel: Kernel, mm: MmStruct, entries: NDArray[np.uint64], base: int, rss: list[int], mapped: _Mapped
) -> None:
    """The entries of one table, VMA by VMA."""
    gone = entries[(entries != 0) & (entries & _MAPPED == 0)]
    rss[3] += len(gone)
    mapped.slots.update(kernel.mmu.swap.slots.slot(int(entry)) for entry in gone)
    used = np.flatnonzero((entries & _MAPPED != 0) & (entries & np.uint64(PTE_CONT) == 0))
    addresses = base + (used << PAGE_SHIFT)
    done = 0
    while done < len(used):
        vma = mm.vma_lookup(int(addresses[done]))
        if vma is None:
            raise AssertionError(f"{int(addresses[done]):#x} is mapped where there is no VMA")
        stop = int(np.searchsorted(addresses, vma.vm_end))
        _check_vma_entries(kernel, vma, entries[used[done:stop]], addresses[done:stop], rss, mapped)
        done = stop


def _check_vma_entries(
    kernel: Kernel, vma: VmAreaStruct, entries: NDArray[np.uint64], addresses: NDArray[np.int64], rss: list[int],
    mapped: _Mapped,
) -> None:  # fmt: skip
    poisoned = entries & np.uint64(PTE_HWPOISON) == PTE_HWPOISON
    marked = (entries & np.uint64(PTE_PRESENT) == 0) & ~poisoned
    if vma.is_accessible() and not kernel.numa_balancing.ran and marked.any():
        raise AssertionError(f"{vma!r}: entries give no access, and nobody has marked them")
    real = entries & np.uint64(PTE_SPECIAL) == 0
    mapped.zero_pages[vma.vm_mm.row] += int((entries[~real] & np.uint64(PTE_DIRTY) != 0).sum())
    pfns = (entries[real] & np.uint64(PTE_PFN_MASK)).astype(np.int64) >> PAGE_SHIFT
    addresses = addresses[real]
    pages = kernel.frames.pages[pfns]
    anon = pages["flags"] & PG_ANON != 0
    shmem = ~anon & (pages["flags"] & PG_SWAPBACKED != 0)
    rss[0] += int(anon.sum())
    rss[2] += int(shmem.sum())
    rss[1] += len(pfns) - int(anon.sum()) - int(shmem.sum())
    mapped.frames.append(pfns)
    mapped.singly.update(of_tails(kernel.frames, pfns[pages["flags"] & PG_TAIL != 0]).tolist())
    index = (vma.vm_pgoff + ((addresses - vma.vm_start) >> PAGE_SHIFT)) & 0xFFFF_FFFF
    ksm = pages["flags"] & PG_KSM != 0
    for i in np.flatnonzero((anon | (pages["mapping"] != 0)) & ~ksm & (pages["index"] != index))[:1]:
        _same(f"{int(addresses[i]):#x}: index of frame {int(pfns[i]):#x}", int(pages["index"][i]), int(index[i]))
    for number in np.unique(pages["mapping"][anon & ~ksm]):
        anon_vma = kernel.rmap.anon_vmas.get(int(number))
        if anon_vma is None or vma not in anon_vma.vmas or vma.row not in kernel.mmu.rmap.chain_of(int(number)):
            raise AssertionError(f"anon_vma {number} of pages in {vma!r} does not lead back to it")
    row = kernel.mmu.vmas[vma.row]
    mapping, ra = (vma.vm_file.mapping.id, vma.vm_file.ra) if vma.vm_file is not None else (0, 0)
    number = vma.anon_vma.id if vma.anon_vma is not None else 0
    where = (vma.vm_start, vma.vm_end, vma.vm_flags, vma.vm_pgoff, vma.vm_mm.row, mapping, ra, number)
    names = ("start", "end", "flags", "pgoff", "mm", "mapping", "file", "anon_vma")
    _same(f"{vma!r}: its row", tuple(int(row[name]) for name in names), where)
    if mapping and vma.row not in kernel.mmu.rmap.file_chain_of(mapping):
        raise AssertionError(f"the file of {vma!r} does not lead to it")


def check_lru(kernel: Kernel, mapped: _Mapped) -> None:
    """List lengths against counters; every listed page is marked so and belongs there."""
    lru = kernel.lru
    for pgdat in kernel.node_data:
        totals = [0] * NR_LRU_LISTS
        for row in kernel.memcgs.rows:
            _check_lruvec(kernel, row * lru.nr_nodes + pgdat.node_id, mapped, totals)
        for kind, total in enumerate(totals):
            item = NodeStatItem(NodeStatItem.NR_INACTIVE_ANON + kind)
            _same(f"{pgdat!r}: {item.name}", total, kernel.vmstat.node_page_state(pgdat.node_id, item))
    for kind in range(NR_LRU_LISTS):
        zone_item, node_item = ZoneStatItem(ZoneStatItem.NR_ZONE_INACTIVE_ANON + kind), NodeStatItem(kind)
        _same(
            f"zones' and nodes' {node_item.name}",
            kernel.vmstat.global_zone_page_state(zone_item),
            kernel.vmstat.global_node_page_state(node_item),
        )


def _check_lruvec(kernel: Kernel, number: int, mapped: _Mapped, totals: list[int]) -> None:
    lru, frames = kernel.lru, kernel.frames
    generations = kernel.lru_gen.lruvecs[number].check()
    for kind in range(NR_LRU_LISTS):
        where = f"lruvec {number}: list {kind}"
        pages = np.array(lru.pages(number, kind), np.int64)
        total = int(nr_pages(frames, pages).sum()) + generations[kind]
        totals[kind] += total
        if kind != LRU_UNEVICTABLE and lru.enabled and len(pages):
            raise AssertionError(f"{where} is not empty while generations rule")
        _same(f"{where}: length", total, int(kernel.vmstat.lruvec_stat[number, NodeStatItem.NR_INACTIVE_ANON + kind]))
        if len(pages) and not (frames.pages[pages]["flags"] & PG_LRU).all():
            raise AssertionError(f"{where}: a page is not marked as listed")
        if len(pages) and not (frames.pages[pages]["memcg"] == number // lru.nr_nodes).all():
            raise AssertionError(f"{where}: a page is of another memory cgroup")


def check_page_cache(kernel: Kernel) -> None:
    """Slots against pages: each cached page knows its file and index, and the sums of what its flags say agree."""
    cached = shmem = dirty = writeback = buffers = nodes = shadow_nodes = 0
    for row, mapping in kernel.page_cache.mappings.items():
        record, host = mapping.record, mapping.host
        mapping.check()
        slots = mapping.slots()
        at = mapping.cached()
        _same(f"{host!r}: nrpages", len(at), int(record["nrpages"]))
        pages = kernel.frames.pages[(slots[at] - np.uint64(1)).astype(np.int64)]
        if not (pages["mapping"] == row).all() or not (pages["index"] == at).all():
            raise AssertionError(f"{host!r}: a slot holds a page of another place")
        written = int((pages["flags"] & PG_WRITEBACK != 0).sum())
        _same(f"{host!r}: pages that are being written", written, int(record["nr_writeback"]))
        if record["shmem"]:
            shmem += len(at)
        else:
            changed = int((pages["flags"] & PG_DIRTY != 0).sum())
            _same(f"{host!r}: dirty pages", changed, int(record["nr_dirty"]))
            if changed and not record["queued"]:
                raise AssertionError(f"{host!r} has dirty pages and no flusher knows")
            dirty += changed
        cached += len(at)
        writeback += written
        buffers += int((pages["flags"] & PG_PRIVATE != 0).sum())
        used = slots != 0
        used[:1] = False
        if record["shmem"]:
            for first, order in check_huge.large_entries(kernel, kernel.page_cache.mappings[row]):
                if 1 << order >= NODE_SLOTS:  # it stands in a node above theirs
                    used[first : first + (1 << order)] = False
        used = used.reshape(-1, NODE_SLOTS)
        shadows = used & (slots >= SLOT_SHADOW).reshape(-1, NODE_SLOTS)
        nodes += int(used.any(axis=1).sum())
        shadow_nodes += int((used.any(axis=1) & (used == shadows).all(axis=1)).sum())
    state = kernel.vmstat.global_node_page_state
    _same("nr_file_pages", cached, state(NodeStatItem.NR_FILE_PAGES) - state(NodeStatItem.NR_SWAPCACHE))
    _same("nr_shmem", shmem, state(NodeStatItem.NR_SHMEM))
    _same("nr_dirty", dirty, state(NodeStatItem.NR_FILE_DIRTY))
    xa_nodes = kernel.mmu.folios.nodes
    _same("pages with buffer heads", buffers, xa_nodes.nr_buffers)
    _same("nodes of slots", nodes, xa_nodes.nr_nodes)
    _same("nodes of shadows", shadow_nodes, kernel.vmstat.global_node_page_state(NodeStatItem.WORKINGSET_NODES))
    pending = kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_ZONE_WRITE_PENDING)
    _same("nr_zone_write_pending", dirty + state(NodeStatItem.NR_WRITEBACK), pending)
    swapping = state(NodeStatItem.NR_WRITEBACK) - writeback
    if not 0 <= swapping <= state(NodeStatItem.NR_SWAPCACHE):
        raise AssertionError(f"nr_writeback is {swapping} more than the files' pages that are being written")


def check_writeback(kernel: Kernel) -> None:
    """Every page that a disk is writing is marked so, and every dirty file stands on one list."""
    for bdi in kernel.bdis:
        in_flight = sum(inode.mapping.nr_writeback for inode in _inodes(kernel) if inode.bdi is bdi)
        _same(f"{bdi.name}: pages under way", in_flight, bdi.wb.pages_in_flight)
        queued = [*bdi.wb.b_io, *bdi.wb.b_more_io, *bdi.wb.b_dirty]
        _same(f"{bdi.name}: inodes on its lists", len(set(queued)), len(queued))


def _inodes(kernel: Kernel) -> list[Inode]:
    return [mapping.host for mapping in kernel.page_cache.mappings.values()]


def check_counters(kernel: Kernel, mapped: _Mapped) -> None:
    """Counters of mapped pages and page tables against the tables."""
    flags = kernel.frames.pages[mapped.pfns]["flags"]
    anon = int((flags & PG_ANON != 0).sum())
    file = len(flags) - anon
    whole = check_huge.pages_mapped_whole(kernel, mapped.huge)
    state = kernel.vmstat.global_node_page_state
    _same("nr_anon_pages", anon + whole[0], state(NodeStatItem.NR_ANON_MAPPED))
    _same("nr_mapped", file + whole[1], state(NodeStatItem.NR_FILE_MAPPED))
    total = sum(int(kernel.mmu.mms[row]["pgtables_bytes"]) for row in kernel.mms)
    locked = int(((flags & PG_MLOCKED != 0) & (flags & PG_TAIL == 0)).sum()) + check_huge.pages_locked(kernel)
    _same("nr_mlock", locked, kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_MLOCK))
    _same("nr_page_table_pages", total // PAGE_SIZE, state(NodeStatItem.NR_PAGETABLE))
