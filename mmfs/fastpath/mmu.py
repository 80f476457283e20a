# cython: language_level=3
"""The memory management unit: accesses and the page-fault paths that need no policy.

An access looks into the running CPU's TLB, walks the tables, sets accessed and dirty bits, and faults as the
hardware would; the fault is served here as long as memory is to be had. When it is not, or when the address
cannot be served, the loop stops and says why (``reason``), and mm/fault.py decides.

Linux: mm/memory.c, handle_mm_fault() and below; mm/filemap.c, filemap_fault(), filemap_map_pages();
mm/rmap.c, folio_add_new_anon_rmap().

A page of a file that is not cached, or not yet read, stops the loop with FAULT_FILE: mm/filemap.py reads it.
"""

import cython

from mmfs.fastpath.anon_folio import AnonFolios
from mmfs.fastpath.compaction import Compaction
from mmfs.fastpath.filemap import Filemap
from mmfs.fastpath.folio import Folios
from mmfs.fastpath.frames import lazy_array, view
from mmfs.fastpath.huge_memory import HugeMemory
from mmfs.fastpath.huge_split import HugeSplit
from mmfs.fastpath.lru_gen_walk import LruGenWalk
from mmfs.fastpath.migrate import Migration
from mmfs.fastpath.numa import Numa
from mmfs.fastpath.rmap import Rmap
from mmfs.fastpath.shmem import Shmem
from mmfs.fastpath.swap import Swap
from mmfs.fastpath.swap_state import SwapState
from mmfs.fastpath.swapin import SwapIn
from mmfs.fastpath.tlb import Tlb
from mmfs.fastpath.vma import Vmas
from mmfs.fastpath.walk import Walker
from mmfs.fastpath.writeback import Writeback
from mmfs.fastpath.zswap_writeback import ZswapWriteback
from mmfs.mm_types import MM_DTYPE

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_AHEAD = cython.declare(cython.Py_ssize_t, 8)  # accesses for which the host's cache is told what is coming: entries,
_SLOT_AHEAD = cython.declare(cython.Py_ssize_t, 4)  # and, once these are there, swap slots
_ALL_LRUVECS = cython.declare(cython.uint, 0xFFFFFFFF)
_MAX_MMS = 1 << 22
_TICK_NS = cython.declare(cython.long, 4_000_000)
_TICK_MS = cython.declare(cython.long, 4)


class Mmu:
    """Address translation and page faults of a machine.

    ``mms`` MM_DTYPE, ``vmas`` VMA_DTYPE: rows handed out by mm/rows.py; ``walker`` has the page tables,
    ``tlb`` the TLBs, ``folios`` the page cache. ``tried``: the next fault has waited for the disk before.

    For whoever accounts the task that ran, since ``begin()``: ``minflt``, ``majflt``, ``cow``, ``nr_read`` pages read,
    ``cpu_ns`` of time by the ``cost_*`` (``user_ns`` of it in user mode), and ``wait_ns`` spent in ``nr_waits`` waits
    for a device (``memstall_ns`` of that for pages that were in use when they were reclaimed). So the task's own time
    runs ahead of the clock: a page is asked for when the waits before are over. A loop stops with FAULT_SLICE when
    both together come to ``budget_ns``, or ``cpu_ns`` alone to ``cpu_budget_ns``.
    """

    def __init__(self, buddy, lru, vmstat, levels, zero_pfn):
        self.frames = buddy.frames
        self.buddy = buddy
        self.lru = lru
        self.zero_pfn = zero_pfn
        self.mms = lazy_array(_MAX_MMS, MM_DTYPE)
        self.folios = Folios(buddy, lru, vmstat)
        self.tlb = Tlb(buddy, self.mms)
        self.walker = Walker(buddy, lru, vmstat, self.mms, levels)
        self.filemap = Filemap(self.folios, self.walker)
        self.writeback = Writeback(self.folios, self.walker, self.tlb, vmstat)
        self.mm = view(self.mms)
        self.areas = Vmas(buddy, self.walker)
        self.vmas = self.areas.vmas
        self.vma = view(self.vmas)
        self.huge = HugeMemory(self.areas, self.folios, self.tlb)
        self.huge.page_zero = zero_pfn
        self.anon_folios = AnonFolios(self.huge)
        self.swap = Swap(self.folios, self.huge, vmstat)
        self.lru_gen_walk = LruGenWalk(self.areas, self.folios)
        self.rmap = Rmap(self.areas, self.folios, self.tlb, self.swap, self.lru_gen_walk, self.huge)
        self.shmem = Shmem(self.filemap, self.rmap)
        self.huge_split = HugeSplit(self.huge, self.shmem)
        self.swap_state = SwapState(self.areas, self.folios, self.swap)
        self.swapin = SwapIn(self.swap_state, self.shmem, self.anon_folios)
        self.zswap_writeback = ZswapWriteback(self.swap_state)
        self.compaction = Compaction(Migration(self.rmap, self.huge_split, self.filemap, vmstat), vmstat)
        self.numa = Numa(self.areas, self.compaction.migration, lru.nr_nodes)
        self.mapping = view(self.folios.mappings)
        self.file = view(self.filemap.files)
        self.memcg = self.lru.memcg
        self.zone_stat = view(vmstat.zone_stat)
        self.event = view(vmstat.event)
        self.reason = FAULT_DONE
        self.budget_ns = self.cpu_budget_ns = 1 << 62
        self.cost_access = self.cost_fault = self.cost_cow = self.cost_major = self.cost_huge = 0
        self.fault_around_pages = 16
        if not cython.compiled:
            self.coming = [-1] * 8
        self.begin(0)
        self.tried = False

    def begin(self, now_ns):
        """A task runs from ``now_ns`` on, with nothing used up yet."""
        self.now_ns = now_ns
        self.minflt = self.majflt = self.cow = self.nr_read = 0
        self.cpu_ns = self.user_ns = self.wait_ns = self.nr_waits = self.memstall_ns = 0

    def begin_unused(self, now_ns: cython.long):
        """Whether the task has used up nothing since ``begin()``, which then need not be called."""
        if self.cpu_ns or self.wait_ns or self.minflt or self.majflt or self.nr_read:
            return False
        self.now_ns = now_ns
        return True

    def begin_slice(self, now_ns: cython.long, budget_ns: cython.long, cpu_budget_ns: cython.long):
        """The task goes on at its own time ``now_ns``, for so long."""
        self.filemap.now_ns = now_ns
        self.now_ns = now_ns - self.cpu_ns - self.wait_ns
        self.budget_ns = budget_ns
        self.cpu_budget_ns = cpu_budget_ns

    def stop_retrying(self, alloc_flags: cython.int):
        """The next fault begins at the watermark of ``alloc_flags`` again. Whether there is something left to clear."""
        self.filemap.locked = -1
        self.walker.alloc_flags = alloc_flags
        return self.buddy.handed >= 0 or self.buddy.wake_kswapd or self.huge.wanted != 0

    def task_ns(self):
        """The task's time."""
        return self.now_ns + self.cpu_ns + self.wait_ns

    def left_ns(self):
        """How long the task may run before the loop stops with FAULT_SLICE."""
        return min(self.cpu_budget_ns, self.budget_ns - self.wait_ns) - self.cpu_ns

    def wait_on_read(self):
        """Sleep until what the swap-in of a fault has asked for is there. Linux: folio_wait_bit_common()."""
        wait: cython.long = self.swap_state.done_ns - self.task_ns()
        self.nr_read += self.swap_state.nr_read
        self.cpu_ns += self.swap_state.zswap.contents.take_ns()
        if wait > 0:
            self.wait_ns += wait
            self.nr_waits += 1
            if self.swap_state.thrashing:
                self.memstall_ns += wait

    # ------------------------------------------------------------------------------ faults

    def has_recency(self, vma):
        """Whether accesses through a VMA tell that its pages are hot. Linux: vma_has_recency()."""
        return not self.vma[vma].flags & (VMF_SEQ_READ | VMF_RAND_READ)

    def add_anon(self, mm, vma, addr, pfn):
        """Give a new page to a VMA as anonymous memory. Linux: folio_add_new_anon_rmap(), folio_add_lru_vma()."""
        self.frames.page[pfn].flags = PG_UPTODATE | PG_SWAPBACKED | PG_ANON | PG_ANON_EXCLUSIVE
        self.frames.page[pfn].mapping = self.vma[vma].anon_vma
        self.frames.page[pfn].index = self.areas.index(vma, addr)
        self.frames.page[pfn].mapcount = 1
        self.memcg.mod_folio_state(pfn, NR_ANON_MAPPED, 1)
        self.mm[mm].rss_anon += 1
        if self.vma[vma].flags & VMF_LOCKED:
            self.frames.page[pfn].flags |= PG_MLOCKED | PG_UNEVICTABLE
            self.frames.page[pfn].mlock_count = 1
            self.zone_stat[self.frames.block[pfn >> PAGEBLOCK_ORDER].zone, NR_MLOCK] += 1
            self.event[UNEVICTABLE_PGS_MLOCKED] += 1
        self.lru.add(pfn, self.has_recency(vma))

    def anonymous_fault(self, mm, vma, addr, at, write):
        """First access to anonymous memory. Linux: do_anonymous_page()."""
        result: cython.int
        pfn: cython.long
        flags: cython.ulong = self.vma[vma].flags
        if not write:
            self.frames.entry[at] = (
                cython.cast(cython.ulong, self.zero_pfn) << PAGE_SHIFT | self.areas.prot(flags) | PTE_SPECIAL
            )
            return FAULT_DONE
        if self.anon_folios.enabled:
            result = self.large_fault(mm, vma, addr, at)
            if result != FAULT_FALLBACK:
                return result
        pfn = self.areas.alloc_charged(
            vma, self.vma[vma].pgoff + ((addr - self.vma[vma].start) >> PAGE_SHIFT), self.mm[mm].memcg
        )
        if pfn < 0:
            return FAULT_OOM
        self.add_anon(mm, vma, addr, pfn)
        self.frames.entry[at] = (
            cython.cast(cython.ulong, pfn) << PAGE_SHIFT | self.areas.prot(flags) | PTE_DIRTY | PTE_SOFT_DIRTY
            | (PTE_RW if flags & VMF_WRITE else 0)
        )
        return FAULT_DONE

    def large_fault(self, mm, vma, addr, at):
        """Serve a write to anonymous memory with a folio of several pages; as AnonFolios.fault()."""
        result: cython.int = self.anon_folios.fault(mm, vma, addr, at)
        if result == FAULT_DONE:
            self.cpu_ns += (self.cost_huge - self.cost_fault) * self.anon_folios.nr // HPAGE_PMD_NR
        return result

    def can_reuse(self, vma, pfn):
        """Whether a write may go to the page itself: nobody else has it. Linux: wp_can_reuse_anon_folio()."""
        folio: cython.long
        if self.frames.page[pfn].flags & (PG_ANON | PG_KSM) != PG_ANON:
            return False
        if self.frames.page[pfn].flags & PG_ANON_EXCLUSIVE:
            return True
        if self.frames.page[pfn].flags & PG_TAIL:
            folio = self.frames.folio_of(pfn)
            if self.frames.page[folio].mapcount > 1 or self.frames.page[folio].flags & PG_SWAPCACHE:
                return False
            self.frames.page[folio].mapping = self.vma[vma].anon_vma
            self.frames.page[pfn].mapping = self.vma[vma].anon_vma
            self.frames.page[pfn].flags |= PG_ANON_EXCLUSIVE
            return True
        if self.frames.page[pfn].mapcount > 1:
            return False
        if not self.frames.page[pfn].flags & PG_LRU:
            self.lru.drain(self.buddy.cpu)
        if self.frames.page[pfn].flags & PG_BATCHED:
            return False
        if self.frames.page[pfn].flags & PG_SWAPCACHE and not self.swap.free_swap(pfn):
            return False
        self.frames.page[pfn].mapping = self.vma[vma].anon_vma
        self.frames.page[pfn].flags |= PG_ANON_EXCLUSIVE
        return True

    def map_copy(self, mm, vma, addr, at, pfn):
        """A page has been copied because of a write: map the copy. Linux: wp_page_copy(), finish_fault()."""
        self.cow += 1
        self.cpu_ns += self.cost_cow - self.cost_fault
        self.add_anon(mm, vma, addr, pfn)
        self.frames.entry[at] = (
            cython.cast(cython.ulong, pfn) << PAGE_SHIFT
            | self.areas.prot(self.vma[vma].flags) | PTE_RW | PTE_DIRTY | PTE_SOFT_DIRTY
        )

    def write_protect_fault(self, mm, vma, addr, at):
        """A write to a page that is mapped read-only. Linux: do_wp_page(), wp_page_copy(), wp_page_reuse()."""
        entry: cython.ulong = self.frames.entry[at]
        old: cython.long = (entry & PTE_PFN_MASK) >> PAGE_SHIFT
        pfn: cython.long
        if self.vma[vma].flags & VMF_SHARED:
            self.folios.mark_dirty(self.frames.folio_of(old))
        elif entry & PTE_SPECIAL or not self.can_reuse(vma, old):
            pfn = self.areas.alloc_charged(
                vma, self.vma[vma].pgoff + ((addr - self.vma[vma].start) >> PAGE_SHIFT), self.mm[mm].memcg
            )
            if pfn < 0:
                return FAULT_OOM
            self.map_copy(mm, vma, addr, at, pfn)
            if entry & PTE_SPECIAL:
                self.rmap.ksm.unmap_zero(mm, entry)
            else:
                self.event[COW_KSM] += self.frames.page[old].flags & PG_KSM != 0
                self.unmap_page(mm, self.vma[vma].flags, old)
            self.tlb.flush_page(mm, addr)
            return FAULT_DONE
        self.event[PGREUSE] += 1
        self.frames.entry[at] = entry | PTE_RW | PTE_ACCESSED | PTE_DIRTY | PTE_SOFT_DIRTY
        return FAULT_DONE

    def file_page(self, vma, m, index):
        """The page of a file at an index; -1: it must be read, -2: no memory, -3: its memory has failed, -4: policy has
        more to try for a huge page.

        Linux: filemap_fault(), shmem_fault().
        """
        pfn: cython.long = self.folios.lookup(m, index)
        row: cython.long = self.vma[vma].file
        if self.mapping[m].shmem:
            if pfn < 0 and self.folios.slot[self.mapping[m].base + index] & SLOT_SWAP:
                return self.shmem_fault(m, index)
            if pfn < 0 and self.mapping[m].huge_fault:
                pfn = self.shmem.fault(m, vma, index)
                if pfn == -4:
                    return pfn
                if pfn >= 0:
                    self.cpu_ns += self.cost_huge - self.cost_fault
            if pfn < 0:
                pfn = self.areas.alloc_charged(vma, index, self.mm[self.vma[vma].mm].memcg)
                if pfn < 0:
                    return -2
                self.folios.cache_add(m, index, pfn, self.has_recency(vma))
            return -3 if self.frames.page[pfn].flags & PG_HWPOISON else pfn
        if pfn < 0:
            return -1
        if not self.vma[vma].flags & VMF_RAND_READ and self.file[row].ra_pages:
            if self.file[row].mmap_miss > 0 and not self.tried:
                self.file[row].mmap_miss -= 1
            if self.frames.page[pfn].flags & PG_READAHEAD and not self.frames.page[pfn].flags & PG_WRITEBACK:
                return -1
        if self.filemap.reading_until(pfn):
            return -1
        return pfn

    def shmem_fault(self, m, index):
        """A fault on shared memory that is swapped out; as file_page(). Linux: mm/shmem.c, shmem_fault()."""
        pfn: cython.long
        self.swap_state.begin(self.task_ns())
        self.swapin.major = False
        pfn = self.swapin.shmem_swapin(m, index)
        self.wait_on_read()
        if self.swapin.major:
            self.tried = True
        return pfn

    def map_file(self, mm, vma, pfn, at, write):
        """Map a page of the page cache. Linux: set_pte_range(), folio_add_file_rmap_pte()."""
        flags: cython.ulong = self.vma[vma].flags
        entry: cython.ulong = cython.cast(cython.ulong, pfn) << PAGE_SHIFT | self.areas.prot(flags)
        shmem: cython.bint = (self.frames.page[pfn].flags & PG_SWAPBACKED) != 0
        if self.frames.page[pfn].flags & PG_TAIL:
            self.map_frame(mm, vma, pfn, at, write)
            return
        if self.frames.page[pfn].mapcount == 0:
            self.memcg.mod_folio_state(pfn, NR_FILE_MAPPED, 1)
        self.frames.page[pfn].mapcount += 1
        if shmem:
            self.mm[mm].rss_shmem += 1
        else:
            self.mm[mm].rss_file += 1
        if flags & VMF_SHARED and flags & VMF_WRITE and (write or shmem):
            entry |= PTE_RW
        if write:
            entry |= PTE_DIRTY | PTE_SOFT_DIRTY
            self.folios.mark_dirty(pfn)
        if flags & VMF_LOCKED:
            self.folios.mlock_page(pfn)
        self.frames.entry[at] = entry

    def map_frame(self, mm, vma, pfn, at, write):
        """Map a frame of a huge page of a file; if that has no name and the table is empty there, all others too.

        Linux: finish_fault(), set_pte_range().
        """
        flags: cython.ulong = self.vma[vma].flags
        bits: cython.ulong = self.areas.prot(flags)
        first: cython.long = at & -cython.cast(cython.long, HPAGE_PMD_NR)
        start: cython.long = pfn & -cython.cast(cython.long, HPAGE_PMD_NR)
        nr: cython.long = 1
        i: cython.long
        if flags & VMF_SHARED and flags & VMF_WRITE:
            bits |= PTE_RW
        if write:
            self.folios.mark_dirty(self.frames.folio_of(pfn))
            bits |= PTE_DIRTY | PTE_SOFT_DIRTY
        if (
            self.mapping[self.vma[vma].mapping].unnamed
            and at - first == pfn - start
            and self.shmem.suits(vma, self.rmap.start_address(vma, self.frames.page[pfn].index))
        ):
            nr = HPAGE_PMD_NR
            for i in range(first, first + HPAGE_PMD_NR):
                if self.frames.entry[i]:
                    nr = 1
                    break
        if nr == 1:
            first = at
            start = pfn
        self.huge.file.add_rmaps(start, nr)
        self.mm[mm].rss_shmem += nr
        for i in range(nr):
            self.frames.entry[first + i] = cython.cast(cython.ulong, start + i) << PAGE_SHIFT | bits

    def fault_around(self, mm, vma, addr):
        """Map what is cached of the aligned pages around a read fault. Linux: do_fault_around()."""
        table: cython.long = self.walker.get_entry(mm, addr) - (addr >> PAGE_SHIFT & (PTRS_PER_TABLE - 1))
        here: cython.long = addr >> PAGE_SHIFT & (PTRS_PER_TABLE - 1)
        behind: cython.long = (addr - self.vma[vma].start) >> PAGE_SHIFT
        low: cython.long = max(here & ~(self.fault_around_pages - 1), here - behind)
        high: cython.long = min(
            min(low + self.fault_around_pages, cython.cast(cython.long, PTRS_PER_TABLE)),
            here + ((self.vma[vma].end - addr) >> PAGE_SHIFT),
        )
        index: cython.long = self.vma[vma].pgoff + behind - here
        m: cython.long = self.vma[vma].mapping
        row: cython.long = self.vma[vma].file
        miss: cython.long = self.file[row].mmap_miss
        i: cython.long
        pfn: cython.long
        for i in range(low, high):
            if index + i >= self.mapping[m].size:
                break
            pfn = self.folios.lookup(m, index + i)
            if pfn < 0 or self.frames.page[pfn].flags & (PG_READAHEAD | PG_HWPOISON) or self.filemap.reading_until(pfn):
                continue
            if miss > 0 and not self.frames.page[pfn].flags & PG_WORKINGSET:
                miss -= 1
            if self.frames.entry[table + i] == 0:
                self.map_file(mm, vma, pfn, table + i, False)
        self.file[row].mmap_miss = cython.cast(cython.int, miss)

    def file_fault(self, mm, vma, addr, at, write):
        """First access to a page of a mapped file. Linux: do_read_fault(), do_cow_fault(), do_shared_fault()."""
        index: cython.long = self.vma[vma].pgoff + ((addr - self.vma[vma].start) >> PAGE_SHIFT)
        m: cython.long = self.vma[vma].mapping
        page: cython.long
        copy: cython.long = -1
        if index >= self.mapping[m].size:
            return FAULT_SIGBUS
        if not write and self.fault_around_pages > 1:
            self.fault_around(mm, vma, addr)
            if self.frames.entry[at] != 0:
                return FAULT_DONE
        page = self.file_page(vma, m, index)
        if page < 0:
            return self.unserved(page)
        if write and not self.vma[vma].flags & VMF_SHARED:
            copy = self.areas.alloc_charged(vma, index, self.mm[mm].memcg)
            if copy < 0:
                return FAULT_OOM
        if copy < 0:
            self.map_file(mm, vma, page, at, write)
            return FAULT_DONE
        self.map_copy(mm, vma, addr, at, copy)
        return FAULT_DONE

    def unserved(self, page):
        """The reason to stop for what file_page() has said."""
        return FAULT_FILE if page == -1 else FAULT_OOM if page == -2 else FAULT_HUGE if page == -4 else FAULT_SIGBUS

    def swap_fault(self, mm, vma, addr, at, write):
        """An access to a page that is swapped out. Linux: do_swap_page()."""
        result: cython.int
        self.swap_state.begin(self.task_ns())
        result = self.swapin.swap_in(mm, vma, addr, at, write)
        self.wait_on_read()
        if result != FAULT_DONE:
            return result
        if self.swapin.major:
            self.tried = True
            self.memcg.count_events(self.mm[mm].memcg, PGMAJFAULT, 1)
        if write and not self.frames.entry[at] & PTE_RW:
            return self.write_protect_fault(mm, vma, addr, at)
        return FAULT_DONE

    def fault(self, mm, vma, addr, at, write):
        """Serve a page fault whose VMA allows the access. Linux: handle_mm_fault(), handle_pte_fault()."""
        result: cython.int
        if self.frames.entry[at] & PTE_PRESENT:
            result = self.write_protect_fault(mm, vma, addr, at)
        elif self.frames.entry[at] & PTE_HWPOISON == PTE_HWPOISON:
            result = FAULT_SIGBUS
        elif self.frames.entry[at] != 0:
            result = FAULT_DONE
            if self.frames.entry[at] & PTE_GLOBAL:
                self.numa_fault(mm, vma, addr, at, False)
            else:
                result = self.swap_fault(mm, vma, addr, at, write)
        elif self.vma[vma].mapping == 0:
            result = self.anonymous_fault(mm, vma, addr, at, write)
        else:
            result = self.file_fault(mm, vma, addr, at, write)
        if result != FAULT_OOM and result != FAULT_FILE and result != FAULT_HUGE:
            self.count_fault(mm)
        return result

    def numa_fault(self, mm, vma, addr, at, huge):
        """An access to what was marked to learn of it; the time it takes to move the page is the task's."""
        self.numa.now_ms = self.task_ns() // _TICK_NS * _TICK_MS
        if huge:
            self.numa.do_huge_pmd_numa_page(vma, at)
        else:
            self.numa.do_numa_page(vma, at)
        self.cpu_ns += self.numa.migration.cpu_ns
        self.numa.migration.cpu_ns = 0
        self.tlb.flush_page(mm, addr)

    def count_fault(self, mm):
        """A fault has been served. Linux: mm_account_fault()."""
        self.memcg.count_events(self.mm[mm].memcg, PGFAULT, 1)
        if self.tried:
            self.cpu_ns += self.cost_major
            self.majflt += 1
            self.tried = False
        else:
            self.cpu_ns += self.cost_fault
            self.minflt += 1

    def access(self, mm, vma, addr, write):
        """One access that the running CPU's TLB does not know: walk, fault. FAULT_DONE or why not."""
        at: cython.long = self.walker.lookup(mm, addr)
        result: cython.int
        if at < 0:
            result = FAULT_FALLBACK
            if at == HUGE_PMD:
                result = self.access_huge(mm, vma, addr, self.walker.pmd, write)
            elif self.huge.allowed(mm, vma, addr):
                result = self.huge_fault(mm, vma, addr, write)
            elif self.vma[vma].mapping and self.shmem.may_map(vma, addr, write):
                result = self.shmem_huge_fault(mm, vma, addr, write)
            if result != FAULT_FALLBACK:
                return result
            at = self.walker.get_entry(mm, addr)
            if at < 0:
                return FAULT_OOM
        return self.access_entry(mm, vma, addr, at, write)

    def huge_fault(self, mm, vma, addr, write):
        """Serve a fault with a huge page if the PMD entry is empty; as access(). Linux: __handle_mm_fault()."""
        pmd: cython.long = self.walker.get_entry_level(mm, addr, 1)
        result: cython.int
        if pmd < 0:
            return FAULT_OOM
        if self.frames.entry[pmd]:
            return FAULT_FALLBACK
        result = self.huge.fault(mm, vma, addr, pmd, write)
        if result == FAULT_DONE:
            self.count_fault(mm)
            if not self.frames.entry[pmd] & PTE_SPECIAL:
                self.cpu_ns += self.cost_huge - self.cost_fault
            self.tlb.fill(mm, addr, self.frames.entry[pmd])
        return result

    def shmem_huge_fault(self, mm, vma, addr, write):
        """Map a huge page of shared memory if there is one or a new one; as access(). Linux: do_set_pmd()."""
        index: cython.long = self.vma[vma].pgoff + ((addr - self.vma[vma].start) >> PAGE_SHIFT)
        m: cython.long = self.vma[vma].mapping
        pmd: cython.long
        page: cython.long
        if index >= self.mapping[m].size:
            return FAULT_FALLBACK
        page = self.file_page(vma, m, index)
        if page < 0:
            return self.unserved(page)
        if not self.frames.page[page].flags & PG_TAIL:
            return FAULT_FALLBACK
        pmd = self.walker.get_entry_level(mm, addr, 1)
        if pmd < 0:
            return FAULT_OOM
        self.huge.file.set_pmd(mm, self.vma[vma].flags, pmd, self.frames.folio_of(page), write)
        self.count_fault(mm)
        self.tlb.fill(mm, addr, self.frames.entry[pmd])
        return FAULT_DONE

    def access_huge(self, mm, vma, addr, pmd, write):
        """One access to what a PMD entry maps; FAULT_FALLBACK: it was taken apart. Linux: wp_huge_pmd()."""
        entry: cython.ulong = self.frames.entry[pmd]
        result: cython.int
        if not entry & PTE_PRESENT:
            self.numa_fault(mm, vma, addr, pmd, True)
            self.count_fault(mm)
            entry = self.frames.entry[pmd]
        if write and not entry & PTE_RW:
            result = self.huge.write_protect_fault(mm, vma, addr, pmd)
            if result != FAULT_DONE:
                return result
            self.count_fault(mm)
        entry = self.frames.entry[pmd] | PTE_ACCESSED
        if write:
            entry |= PTE_DIRTY
        self.frames.entry[pmd] = entry
        self.tlb.fill(mm, addr, entry)
        return FAULT_DONE

    def access_entry(self, mm, vma, addr, at, write):
        """As access(), behind the walk."""
        entry: cython.ulong = self.frames.entry[at]
        result: cython.int
        if not entry & PTE_PRESENT or (write and not entry & PTE_RW):
            result = self.fault(mm, vma, addr, at, write)
            if result == FAULT_DONE and write and not self.frames.entry[at] & PTE_RW:  # it was marked for NUMA
                result = self.fault(mm, vma, addr, at, write)
            if result != FAULT_DONE:
                return result
        entry = self.frames.entry[at] | PTE_ACCESSED
        if write:
            entry |= PTE_DIRTY
        self.frames.entry[at] = entry
        self.tlb.fill(mm, addr, entry)
        return FAULT_DONE

    def use(self, ns):
        """The task has run so long in user mode."""
        self.cpu_ns += ns
        self.user_ns += ns

    def touch_range(self, mm: cython.long, vma: cython.long, start: cython.long, end: cython.long,
                    stride: cython.long, write: cython.bint):
        """Access every ``stride`` bytes of [start, end), all in one VMA.

        Returns the first address that was not accessed; ``reason`` tells why it stopped.
        """
        addr: cython.long = start
        used: cython.long = 0
        left: cython.long = self.left_ns()
        self.reason = FAULT_DONE
        self.mm[mm].lru_gen_bitmap = _ALL_LRUVECS
        with cython.nogil:
            while addr < end:
                if used >= left:
                    self.reason = FAULT_SLICE
                    break
                if self.memcg.over_high_pages:
                    self.reason = FAULT_HIGH
                    break
                if not self.tlb.hit(mm, addr, write):
                    self.use(used)
                    used = 0
                    self.reason = self.access(mm, vma, addr, write)
                    if self.reason != FAULT_DONE:
                        break
                    left = self.left_ns()
                used += self.cost_access
                addr += stride
            self.use(used)
        return addr

    def prefetch_slot(self, at):
        """Have the host fetch what is known of the swap slot at an entry, if there is one."""
        entry: cython.ulong = self.frames.entry[at]
        if entry and not entry & (PTE_PRESENT | PTE_GLOBAL):
            self.swap.slots.prefetch(entry)

    @staticmethod
    def bounds(addresses: cython.long[::1]):
        """The lowest and the highest of at least one address."""
        i: cython.Py_ssize_t
        lowest: cython.long = addresses[0]
        highest: cython.long = lowest
        for i in range(1, addresses.shape[0]):
            if addresses[i] < lowest:
                lowest = addresses[i]
            elif addresses[i] > highest:
                highest = addresses[i]
        return lowest, highest

    def touch_pages(self, mm: cython.long, row: cython.long, rows: cython.int[::1], addresses: cython.long[::1],
                    start: cython.Py_ssize_t, write: cython.bint):
        """Access addresses in the order given, all in the VMA of ``row``, or (0) each in that of its row, from position
        ``start`` on.

        Returns the position of the first that was not accessed; ``reason`` tells why it stopped.
        """
        i: cython.Py_ssize_t = start
        j: cython.Py_ssize_t
        at: cython.long
        soon: cython.long
        vma: cython.long = row
        high: cython.bint = self.memcg.over_high_pages != 0
        n: cython.Py_ssize_t = addresses.shape[0]
        used: cython.long = 0
        left: cython.long = self.left_ns()
        self.reason = FAULT_DONE
        self.mm[mm].lru_gen_bitmap = _ALL_LRUVECS
        with cython.nogil:
            for j in range(_AHEAD):
                self.coming[j] = -1
            while i < n:
                if used >= left:
                    self.reason = FAULT_SLICE
                    break
                if high:
                    self.reason = FAULT_HIGH
                    break
                at = self.coming[i & (_AHEAD - 1)]
                if i + _AHEAD < n:
                    self.coming[i & (_AHEAD - 1)] = self.walker.prefetch_entry(mm, addresses[i + _AHEAD])
                    soon = self.coming[i + _SLOT_AHEAD & (_AHEAD - 1)]
                    if soon >= 0:
                        self.prefetch_slot(soon)
                if not self.tlb.hit(mm, addresses[i], write):
                    self.use(used)
                    used = 0
                    if row == 0:
                        vma = rows[i]
                    if at >= 0:
                        self.reason = self.access_entry(mm, vma, addresses[i], at, write)
                    else:
                        self.reason = self.access(mm, vma, addresses[i], write)
                    if self.reason != FAULT_DONE:
                        break
                    left = self.left_ns()
                    high = self.memcg.over_high_pages != 0
                used += self.cost_access
                i += 1
            self.use(used)
        return i

    # ------------------------------------------------------------------------------ letting go

    def unmap_frames(self, mm, pfn, nr):
        """One entry less maps each of ``nr`` frames of a huge page. Linux: folio_remove_rmap_ptes()."""
        folio: cython.long = self.frames.folio_of(pfn)
        if not self.frames.page[folio].flags & PG_ANON:
            self.huge.file.remove_rmaps(mm, pfn, nr)
            return
        self.mm[mm].rss_anon -= nr
        self.huge.remove_rmap(pfn, nr)
        if self.frames.page[folio].flags & PG_SWAPCACHE and self.frames.page[folio].mapcount == 0:
            self.swap.free_swap_cache(folio)

    def unmap_page(self, mm, vmflags, pfn):
        """One entry less maps a page; the last frees anonymous memory. Linux: folio_remove_rmap_pte()."""
        if self.frames.page[pfn].flags & PG_TAIL:
            self.unmap_frames(mm, pfn, 1)
            return
        if vmflags & VMF_LOCKED:
            self.folios.munlock_page(pfn)
        self.frames.page[pfn].mapcount -= 1
        if self.frames.page[pfn].flags & PG_ANON:
            self.mm[mm].rss_anon -= 1
            if self.frames.page[pfn].mapcount == 0:
                self.memcg.mod_folio_state(pfn, NR_ANON_MAPPED, -1)
                if self.frames.page[pfn].flags & PG_SWAPCACHE and not self.swap.free_swap(pfn):
                    return
                self.folios.free_page(pfn)
            return
        if self.frames.page[pfn].flags & PG_SWAPBACKED:
            self.mm[mm].rss_shmem -= 1
        else:
            self.mm[mm].rss_file -= 1
        if self.frames.page[pfn].mapcount == 0:
            self.memcg.mod_folio_state(pfn, NR_FILE_MAPPED, -1)
            if self.frames.page[pfn].mapping == 0:
                self.folios.free_page(pfn)
