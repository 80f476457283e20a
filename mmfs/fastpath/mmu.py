# cython: language_level=3
"""The memory management unit: accesses and the page-fault paths that need no policy.

An access looks into the running CPU's TLB, walks the tables, sets accessed and dirty bits, and faults as the
hardware would; the fault is served here as long as memory is to be had. When it is not, or when the address
cannot be served, the loop stops and says why (``reason``), and mm/fault.py decides.

Linux: mm/memory.c, handle_mm_fault(), do_swap_page(), do_numa_page().
"""

import cython

from mmfs.fastpath.anon_fault import AnonFaults
from mmfs.fastpath.anon_folio import AnonFolios
from mmfs.fastpath.compaction import Compaction
from mmfs.fastpath.file_fault import FileFaults
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
from mmfs.fastpath.task_time import TaskTime
from mmfs.fastpath.tlb import Tlb
from mmfs.fastpath.unmap import Unmap
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
    ``tlb`` the TLBs, ``folios`` the page cache; ``anon`` and ``file_faults`` serve faults, ``time`` tells what the task
    that ran has used.
    """

    def __init__(self, buddy, lru, vmstat, levels, zero_pfn):
        self.frames = buddy.frames
        self.buddy = buddy
        self.lru = lru
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
        self.swap = Swap(self.folios, self.huge, vmstat)
        self.lru_gen_walk = LruGenWalk(self.areas, self.folios)
        self.rmap = Rmap(self.areas, self.folios, self.tlb, self.swap, self.lru_gen_walk, self.huge)
        self.shmem = Shmem(self.filemap, self.rmap)
        self.huge_split = HugeSplit(self.huge, self.shmem)
        self.swap_state = SwapState(self.areas, self.folios, self.swap)
        anon_folios = AnonFolios(self.huge)
        self.swapin = SwapIn(self.swap_state, self.shmem, anon_folios)
        self.time = TaskTime()
        self.unmap = Unmap(self.rmap)
        self.anon = AnonFaults(anon_folios, self.rmap, self.unmap, self.time, vmstat, zero_pfn)
        self.file_faults = FileFaults(self.anon, self.swapin, self.filemap, self.walker)
        self.zswap_writeback = ZswapWriteback(self.swap_state)
        self.compaction = Compaction(Migration(self.rmap, self.huge_split, self.filemap, vmstat), vmstat)
        self.numa = Numa(self.areas, self.compaction.migration, lru.nr_nodes)
        self.memcg = self.lru.memcg
        self.reason = FAULT_DONE
        if not cython.compiled:
            self.coming = [-1] * 8

    def begin_slice(self, now_ns: cython.long, budget_ns: cython.long, cpu_budget_ns: cython.long):
        """The task goes on at its own time ``now_ns``, for so long."""
        self.filemap.now_ns = now_ns
        self.time.begin_slice(now_ns, budget_ns, cpu_budget_ns)

    def stop_retrying(self, alloc_flags: cython.int):
        """The next fault begins at the watermark of ``alloc_flags`` again. Whether there is something left to clear."""
        self.filemap.locked = -1
        self.walker.alloc_flags = alloc_flags
        return self.buddy.handed >= 0 or self.buddy.wake_kswapd or self.huge.wanted != 0

    def swap_fault(self, mm, vma, addr, at, write):
        """An access to a page that is swapped out. Linux: do_swap_page()."""
        result: cython.int
        self.swap_state.begin(self.time.now())
        result = self.swapin.swap_in(mm, vma, addr, at, write)
        self.time.wait_on_read(self.swap_state)
        if result != FAULT_DONE:
            return result
        if self.swapin.major:
            self.time.tried = True
            self.memcg.count_events(self.mm[mm].memcg, PGMAJFAULT, 1)
        if write and not self.frames.entry[at] & PTE_RW:
            return self.anon.write_protect_fault(mm, vma, addr, at)
        return FAULT_DONE

    def fault(self, mm, vma, addr, at, write):
        """Serve a page fault whose VMA allows the access. Linux: handle_mm_fault(), handle_pte_fault()."""
        result: cython.int
        if self.frames.entry[at] & PTE_PRESENT:
            result = self.anon.write_protect_fault(mm, vma, addr, at)
        elif self.frames.entry[at] & PTE_HWPOISON == PTE_HWPOISON:
            result = FAULT_SIGBUS
        elif self.frames.entry[at] != 0:
            result = FAULT_DONE
            if self.frames.entry[at] & PTE_GLOBAL:
                self.numa_fault(mm, vma, addr, at, False)
            else:
                result = self.swap_fault(mm, vma, addr, at, write)
        elif self.vma[vma].mapping == 0:
            result = self.anon.anonymous_fault(mm, vma, addr, at, write)
        else:
            result = self.file_faults.file_fault(mm, vma, addr, at, write)
        if result != FAULT_OOM and result != FAULT_FILE and result != FAULT_HUGE:
            self.count_fault(mm)
        return result

    def numa_fault(self, mm, vma, addr, at, huge):
        """An access to what was marked to learn of it; the time it takes to move the page is the task's."""
        self.numa.now_ms = self.time.now() // _TICK_NS * _TICK_MS
        if huge:
            self.numa.do_huge_pmd_numa_page(vma, at)
        else:
            self.numa.do_numa_page(vma, at)
        self.time.cpu_ns += self.numa.migration.cpu_ns
        self.numa.migration.cpu_ns = 0
        self.tlb.flush_page(mm, addr)

    def count_fault(self, mm):
        """A fault has been served. Linux: mm_account_fault()."""
        self.memcg.count_events(self.mm[mm].memcg, PGFAULT, 1)
        self.time.count_fault()

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
                self.time.use_large(HPAGE_PMD_NR)
            self.tlb.fill(mm, addr, self.frames.entry[pmd])
        return result

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
                result = self.file_faults.huge_fault(mm, vma, addr, write)
                if result == FAULT_DONE:
                    self.count_fault(mm)
            if result != FAULT_FALLBACK:
                return result
            at = self.walker.get_entry(mm, addr)
            if at < 0:
                return FAULT_OOM
        return self.access_entry(mm, vma, addr, at, write)

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

    def touch_range(self, mm: cython.long, vma: cython.long, start: cython.long, end: cython.long,
                    stride: cython.long, write: cython.bint):
        """Access every ``stride`` bytes of [start, end), all in one VMA.

        Returns the first address that was not accessed; ``reason`` tells why it stopped.
        """
        addr: cython.long = start
        used: cython.long = 0
        left: cython.long = self.time.left_ns()
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
                    self.time.use(used)
                    used = 0
                    self.reason = self.access(mm, vma, addr, write)
                    if self.reason != FAULT_DONE:
                        break
                    left = self.time.left_ns()
                used += self.time.cost_access
                addr += stride
            self.time.use(used)
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
        left: cython.long = self.time.left_ns()
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
                    self.time.use(used)
                    used = 0
                    if row == 0:
                        vma = rows[i]
                    if at >= 0:
                        self.reason = self.access_entry(mm, vma, addresses[i], at, write)
                    else:
                        self.reason = self.access(mm, vma, addresses[i], write)
                    if self.reason != FAULT_DONE:
                        break
                    left = self.time.left_ns()
                    high = self.memcg.over_high_pages != 0
                used += self.time.cost_access
                i += 1
            self.time.use(used)
        return i
