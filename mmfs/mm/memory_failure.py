"""Memory that fails: what becomes of a page when its frame can no longer be trusted.

`memory_failure()` is told by the hardware, here by who writes to hard_offline_page or calls madvise(MADV_HWPOISON). A
free frame is taken out of the buddy allocator. A page of a file that is as on disk is dropped; one that was written is
lost, and fsync(2) says so (EIO). Anonymous memory is lost: its page-table entries say that it was, and who touches it
gets SIGBUS, or at once if vm.memory_failure_early_kill is set. The kernel's own memory cannot be helped. Before it
comes to that, `soft_offline_page()` moves a page away from a frame that corrects too many errors, and nobody notices.
Huge pages of a pool: mm/hugetlb_failure.py.

The frame is nobody's from then on: it counts as HardwareCorrupted, and /proc/kpageflags says HWPOISON.

Linux: mm/memory-failure.c.

A page of shared memory stays in its file, where reads and writes find it (EIO); one of the swap cache that is newer
than what swap has stays there, and whose entry leads to it gets SIGBUS.

Simplified: a page of the kernel's that failed is used again once it was freed. Unpoisoning, which wants the module
hwpoison_inject, is missing; pagemap does not tell which frame an entry had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from errno import EBUSY, EIO, ENXIO, EOPNOTSUPP
from typing import TYPE_CHECKING, Final

import numpy as np

from mmfs.fastpath.memory_failure import Hwpoison
from mmfs.mm import hugetlb_failure, hugetlb_vma
from mmfs.mm.debug import LOG_ERR, LOG_INFO
from mmfs.mm.filemap import task_ns
from mmfs.mm_types import (
    BLK_FREE,
    BLK_HUGETLB,
    BLK_SPLIT,
    BLK_TAIL,
    BLK_VIRGIN,
    INDEX_MASK,
    MAX_PAGE_ORDER,
    PAGE_SHIFT,
    PAGEBLOCK_ORDER,
    PG_ANON,
    PG_BUDDY,
    PG_DIRTY,
    PG_LRU,
    PG_MLOCKED,
    PG_SWAPBACKED,
    PG_SWAPCACHE,
    PG_UNEVICTABLE,
    PG_WRITEBACK,
    PTE_PFN_MASK,
    PTE_PRESENT,
    ZONE_MOVABLE,
    ZONE_NORMAL,
)
from mmfs.profile import since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

PFNS_OF_DEVICES: Final = since(7, 0)
"""Which kernels ask devices about a frame that has no record. Linux: 7.0, memory_failure_pfn()."""
EHWPOISON: Final = 133
"""Which Python's errno does not know."""
WRITEBACK_NS: Final = 20_000_000
RECOVERED, IGNORED, FAILED, DELAYED = "Recovered", "Ignored", "Failed", "Delayed"


@dataclass
class MemoryFailureStats:
    """What became of the failures of a node. Linux: struct memory_failure_stats."""

    total: int = 0
    ignored: int = 0
    failed: int = 0
    delayed: int = 0
    recovered: int = 0


class MemoryFailure:
    """The failures of a machine's memory. ``send_sigbus`` is the kernel's, with a task."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.loops = Hwpoison(kernel.mmu.compaction.migration, kernel.vmstat)
        self.poisoned: set[int] = set()
        """The frames that have failed. Linux: PG_hwpoison, num_poisoned_pages."""
        self.stats = [MemoryFailureStats() for _ in kernel.node_data]
        self.send_sigbus: Callable[[Task], None] = lambda task: None

    # -- what to say ----------------------------------------------------------------------------------------------

    def _say(self, pfn: int, text: str, level: int = LOG_ERR, what: str = "Memory failure") -> None:
        self.kernel.printk.emit(f"{what}: {pfn:#x}: {text}", level)

    def action_result(self, pfn: int, kind: str, result: str) -> None:
        """Count and log what was done; EBUSY unless it has helped. Linux: action_result()."""
        stats = self.stats[self.kernel.page_alloc.page_to_nid(pfn)]
        setattr(stats, result.lower(), getattr(stats, result.lower()) + 1)
        stats.total += 1
        self.poisoned.add(pfn)
        self._say(pfn, f"recovery action for {kind}: {result}")
        if result not in (RECOVERED, DELAYED):
            raise OSError(EBUSY, f"{kind}: {result}")

    # -- what it is -----------------------------------------------------------------------------------------------

    def _state(self, pfn: int) -> int:
        """The state of the pageblock, or of a pool's page in it.

        A page that was never used, or belongs to a huge one, gets its own record.
        """
        kernel, block = self.kernel, pfn >> PAGEBLOCK_ORDER
        if kernel.frames.blocks["state"][block] == BLK_VIRGIN and kernel.page_alloc.in_extent(pfn):
            start = pfn >> MAX_PAGE_ORDER << MAX_PAGE_ORDER
            for zone in kernel.zones:
                if any(low <= pfn < high for low, high in zone.virgin_extents()):
                    kernel.memory_hotplug.isolation.cut_extents(zone, start, start + (1 << MAX_PAGE_ORDER))
        kernel.memory_hotplug.isolation.loops.split(pfn)
        return BLK_HUGETLB if kernel.page_alloc.is_hugetlb(pfn) else int(kernel.frames.blocks["state"][block])

    def _is_free_buddy(self, pfn: int, state: int) -> bool:
        """Linux: is_free_buddy_page()."""
        if state in (BLK_FREE, BLK_TAIL):
            return True
        pages = self.kernel.frames.pages
        heads = (pfn >> order << order for order in range(PAGEBLOCK_ORDER))
        return state == BLK_SPLIT and any(
            pages[head]["flags"] & PG_BUDDY and pages[head]["private"] >= order for order, head in enumerate(heads)
        )

    def _free_huge_page(self, pfn: int) -> bool:
        """Whether the huge page of a pool was free, and left it but for one frame. Linux: __page_handle_poison()."""
        try:
            self.kernel.hugetlb.dissolve_free_hugetlb_folios(pfn, pfn + 1)
        except OSError:
            return False
        self.kernel.page_alloc.drain_all_pages()
        return bool(self.loops.take_page_off_buddy(pfn))

    def _handlable(self, pfn: int, state: int) -> bool:
        """Whether something can be done for a page in use. Linux: HWPoisonHandlable()."""
        return state == BLK_SPLIT and bool(self.kernel.frames.pages[pfn]["flags"] & PG_LRU)

    def _wait_on_writeback(self, pfn: int) -> None:
        """Linux: folio_wait_writeback()."""
        while self.kernel.frames.pages[pfn]["flags"] & PG_WRITEBACK:
            self.kernel.current_io_schedule(self.kernel.clock.now_ns + WRITEBACK_NS)

    # -- a frame has failed ---------------------------------------------------------------------------------------

    def memory_failure(self, pfn: int, victim: Task | None = None) -> None:
        """A frame has failed; ``victim`` has just touched it. Linux: memory_failure().

        ENXIO: there is no such frame; EHWPOISON: it had failed already; EBUSY: nothing can be done.
        """
        kernel = self.kernel
        if not kernel.vm.memory_failure_recovery:
            kernel.panic(f"Memory failure on page {pfn:x}")
        if pfn >= kernel.max_pfn and PFNS_OF_DEVICES(kernel):
            self._say(pfn, "recovery action for non struct page pfn: Ignored")
            raise OSError(EBUSY, "no device has such a frame")
        if pfn >= kernel.max_pfn or not kernel.sections.online(pfn):
            self._say(pfn, "memory outside kernel control")
            raise OSError(ENXIO, "no such frame")
        if pfn in self.poisoned:
            self._say(pfn, "recovery action for already poisoned page: Failed")
            raise OSError(EHWPOISON, "the frame has failed already")
        kernel.lru.lru_add_drain_all()
        state = self._state(pfn)
        if state == BLK_HUGETLB:
            self._huge_page_failure(pfn, victim)
        elif self._is_free_buddy(pfn, state):
            self.action_result(pfn, "free buddy page", RECOVERED if self.loops.take_page_off_buddy(pfn) else FAILED)
        elif self._handlable(pfn, state):
            self._wait_on_writeback(pfn)
            self._take_away(pfn, victim)
        else:
            self._say(pfn, "unhandlable page.")
            self.action_result(pfn, "get hwpoison page", IGNORED)

    def _take_away(self, pfn: int, victim: Task | None) -> None:
        """Unmap a page, kill whom it cannot be kept from, and let go of it. Linux: hwpoison_user_mappings()."""
        page, loops = self.kernel.frames.pages[pfn], self.loops
        anon, poison = bool(page["flags"] & PG_ANON), True
        to_kill = list(self._collect_procs(self._mapped_by(pfn), victim)) if page["mapcount"] else []
        if page["mapcount"] and page["flags"] & PG_SWAPCACHE:
            self._say(pfn, "keeping poisoned page in swap cache")
        if page["mapcount"] and not page["flags"] & (PG_ANON | PG_SWAPBACKED):
            loops.make_dirty_clean(pfn)
            poison = bool(page["flags"] & PG_DIRTY)
            if not poison:
                self._say(pfn, "corrupted page was clean: dropped without side effects", LOG_INFO)
        if loops.unmap_poisoned(pfn, poison):
            self.action_result(pfn, "unmapping failed page", FAILED)
        forced = bool(page["flags"] & PG_DIRTY) or (anon and victim is not None)
        kind, result = self._let_go(pfn)  # first: a file may end with who is killed
        if forced:
            self._kill(pfn, to_kill)
        self.action_result(pfn, kind, result)

    def _let_go(self, pfn: int) -> tuple[str, str]:
        """Nobody maps the page any more: what it was, and the result.

        Linux: identify_page_state(), me_swapcache_dirty() to me_pagecache_clean().
        """
        page, loops = self.kernel.frames.pages[pfn], self.loops
        flags, result = int(page["flags"]), RECOVERED
        kind = "mlocked LRU" if flags & PG_MLOCKED else "unevictable LRU" if flags & PG_UNEVICTABLE else "LRU"
        kind = f"{'dirty' if flags & PG_DIRTY else 'clean'} {'swapcache' if flags & PG_SWAPCACHE else kind} page"
        in_file = page["mapping"] and not flags & (PG_ANON | PG_SWAPCACHE)
        if in_file and flags & PG_DIRTY:
            self.kernel.page_cache.mappings[int(page["mapping"])].wb_error = EIO
        if flags & PG_SWAPCACHE and flags & PG_DIRTY:
            loops.keep_in_swap_cache(pfn)
            result = DELAYED
        elif flags & PG_SWAPCACHE:
            loops.leave_swap_cache(pfn)
        elif in_file and flags & PG_SWAPBACKED:
            loops.keep(pfn)
        elif in_file and not loops.evict(pfn):
            result = FAILED
        else:
            loops.forget(pfn)
        return kind, result

    def _huge_page_failure(self, pfn: int, victim: Task | None) -> None:
        """A frame of a huge page of a pool has failed. Linux: try_memory_failure_hugetlb()."""
        kernel, folio = self.kernel, hugetlb_failure.folio_in_use(self.kernel, pfn)
        if folio is None:
            self.action_result(pfn, "free huge page", RECOVERED if self._free_huge_page(pfn) else FAILED)
            return
        if folio.hwpoison:
            self._say(pfn, "recovery action for already poisoned page: Failed")
            raise OSError(EHWPOISON, "the huge page has failed already")
        mapped = {vma.vm_mm.row for vma, _ in hugetlb_vma.mappings(kernel, folio)}
        to_kill = list(self._collect_procs(mapped, victim))
        hugetlb_failure.unmap_poisoned(kernel, folio)
        gone = not hugetlb_failure.let_go(folio) or self._free_huge_page(pfn)
        if folio.dirty:
            self._kill(pfn, to_kill)
        self.action_result(pfn, "huge page", RECOVERED if gone else FAILED)

    def _kill(self, pfn: int, tasks: list[Task]) -> None:
        """Linux: kill_procs()."""
        for task in tasks:
            self._say(pfn, f"Sending SIGBUS to {task.comm}:{task.pid} due to hardware memory corruption")
            self.send_sigbus(task)

    def _mapped_by(self, pfn: int) -> set[int]:
        """The address spaces that map a page, by row."""
        kernel, page = self.kernel, self.kernel.frames.pages[pfn]
        rmap, number = kernel.mmu.rmap, int(page["mapping"])
        rows = rmap.chain_of(number) if page["flags"] & PG_ANON else rmap.file_chain_of(number)
        return {int(kernel.mmu.vmas[row]["mm"]) for row in rows if self._maps(int(row), pfn)}

    def _collect_procs(self, mapped: set[int], victim: Task | None) -> Iterator[Task]:
        """Whom to kill at once of those who map a page. Linux: collect_procs(), task_early_kill()."""
        kernel = self.kernel
        for task in sorted(kernel.tasks.values(), key=lambda one: one.pid):
            if task.mm is None or task.mm.row not in mapped or not task.thread_group_leader:
                continue
            if victim is not None and task.mm is victim.mm:
                yield victim
                continue
            early = kernel.vm.memory_failure_early_kill
            yield from [one for one in task.threads if one.mce_early or (one.mce_early is None and early)][:1]

    def _maps(self, row: int, pfn: int) -> bool:
        """Whether a VMA maps a page. Linux: page_mapped_in_vma()."""
        vma = self.kernel.mmu.vmas[row]
        at = (int(self.kernel.frames.pages[pfn]["index"]) - int(vma["pgoff"])) & INDEX_MASK
        addr = int(vma["start"]) + (at << PAGE_SHIFT)
        return addr < int(vma["end"]) and self._mapped_at(int(vma["mm"]), addr) == pfn

    def _mapped_at(self, mm_row: int, addr: int) -> int:
        """The frame that is mapped at an address, -1 if none is."""
        raw = np.zeros(1, np.uint64)
        self.kernel.task_mmu.read_entries(mm_row, addr, raw)
        entry = int(raw[0])
        return (entry & PTE_PFN_MASK) >> PAGE_SHIFT if entry & PTE_PRESENT else -1

    # -- a frame is about to fail ---------------------------------------------------------------------------------

    def soft_offline_page(self, pfn: int) -> None:
        """Move a page away from a frame that will not be used again. Linux: soft_offline_page().

        ENXIO, EIO: there is no such frame, or nothing can be done for its page; EOPNOTSUPP: vm.enable_soft_offline is
        0.
        """
        kernel = self.kernel
        if pfn >= kernel.max_pfn:
            raise OSError(ENXIO, "no such frame")
        if not kernel.sections.online(pfn):
            raise OSError(EIO, "the memory is offline")
        if not kernel.vm.enable_soft_offline:
            raise OSError(EOPNOTSUPP, "vm.enable_soft_offline is 0")
        if pfn in self.poisoned:
            self._say(pfn, "page already poisoned", LOG_INFO, "Soft offline")
            return
        kernel.lru.lru_add_drain_all()
        state = self._state(pfn)
        if state == BLK_HUGETLB:
            folio = hugetlb_failure.folio_in_use(kernel, pfn)
            if not (folio is None or hugetlb_failure.migrate(kernel, folio)) or not self._free_huge_page(pfn):
                raise OSError(EBUSY, "the huge page is in use, or promised")
        elif self._is_free_buddy(pfn, state):
            self.loops.take_page_off_buddy(pfn)
        elif self._handlable(pfn, state):
            self._wait_on_writeback(pfn)
            self._move_away(pfn)
        else:
            self._say(pfn, "unhandlable page.")
            raise OSError(EIO, "the page cannot move")
        self.poisoned.add(pfn)

    def _move_away(self, pfn: int) -> None:
        """A page that can be read again is dropped, any other one moves. Linux: soft_offline_in_use_page()."""
        kernel, page = self.kernel, self.kernel.frames.pages[pfn]
        migration = kernel.mmu.compaction.migration
        clean = not page["flags"] & (PG_ANON | PG_DIRTY | PG_SWAPBACKED) and not page["mapcount"]
        if clean and page["mapping"] and self.loops.evict(pfn):
            self._say(pfn, "invalidated", LOG_INFO, "Soft offline")
            self.loops.forget(pfn)
            return
        zone = kernel.page_alloc.page_zone(pfn)
        migration.now_ns = task_ns(kernel)
        highest = ZONE_MOVABLE if zone.zone_idx == ZONE_MOVABLE else ZONE_NORMAL
        if self.loops.migrate(pfn, zone.zone_pgdat.node_id, highest):
            raise OSError(EBUSY, "the page does not move")
        kernel.lru.lru_add_drain_all()

    # -- where else it shows --------------------------------------------------------------------------------------

    def nr_poisoned(self, start: int, end: int) -> int:
        """How many frames of a range have failed. Linux: memblk_nr_poison()."""
        return sum(start <= pfn < end for pfn in self.poisoned)

    def kept_pages(self, mapping: int) -> Iterator[int]:
        """Where a file of shared memory or of huge pages has memory that has failed, in pages of 4 KB."""
        for pfn in self.poisoned:
            page = self.kernel.frames.pages[pfn]
            if page["mapping"] == mapping and page["flags"] & (PG_ANON | PG_SWAPBACKED) == PG_SWAPBACKED:
                yield int(page["index"])
        yield from hugetlb_failure.kept_pages(self.kernel, mapping, self.poisoned)

    def clear_hwpoisoned_pages(self, start: int, end: int) -> None:
        """The memory was taken out. Linux: clear_hwpoisoned_pages()."""
        self.poisoned = {pfn for pfn in self.poisoned if not start <= pfn < end}
