"""Where virtual memory meets page tables: accesses and what cannot be served, unmapping, copying, protecting.

The loops are the fast path's (fastpath/mmu.py, fastpath/pgtable.py); they know rows (mm/rows.py), not objects. This
module checks what the hardware would check before a range is touched (is there a VMA, does it allow the access, must
a stack grow), and decides when the loop stops: out of memory it tries lower watermarks, then drained per-CPU lists,
then the OOM killer; what nobody can serve is a Fault that becomes a signal.

Linux: mm/memory.c, arch/x86/mm/fault.c.

Simplified: the pages of [vvar] and [vdso] are not faulted in.
"""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGBUS, SIGKILL, SIGSEGV
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike

from mmfs.fastpath.madvise import Madvise
from mmfs.fastpath.mmu import Mmu
from mmfs.fastpath.page_idle import PageIdle
from mmfs.fastpath.pgtable import PageTables
from mmfs.fastpath.task_mmu import TaskMmu
from mmfs.mm import hugetlb_vma, memcontrol_v1, rmap
from mmfs.mm.filemap import PageCache, filemap_fault, task_ns
from mmfs.mm.lru_gen import LruGenState
from mmfs.mm.memcontrol import MemCgroups
from mmfs.mm.mempolicy import policy_nodemask
from mmfs.mm.mman import VM_PFNMAP, VM_SHARED, VM_WRITE
from mmfs.mm.page_io import SwapWrites
from mmfs.mm.rows import Rows, vma_row
from mmfs.mm.shmem import ShmMnt
from mmfs.mm.swapfile import SwapFiles
from mmfs.mm_types import (
    ALLOC_KSWAPD,
    ALLOC_WMARK_LOW,
    ALLOC_WMARK_MIN,
    FAULT_FILE,
    FAULT_HIGH,
    FAULT_HUGE,
    FAULT_OOM,
    FAULT_SIGBUS,
    FAULT_SLICE,
    GFP_COMP_BIT,
    GFP_HIGHUSER_MOVABLE,
    GFP_ZERO_BIT,
    PAGE_SHIFT,
    PAGE_SIZE,
    PTE_ACCESSED,
    PTE_RW,
    PTE_SOFT_DIRTY,
    ZONE_MOVABLE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct

GFP_ANONYMOUS = GFP_HIGHUSER_MOVABLE | GFP_COMP_BIT | GFP_ZERO_BIT
"""What a fault asks an anonymous page with. Linux: vma_alloc_zeroed_movable_folio()."""
_WINDOW = 2048  # addresses looked at together: about what a slice has time for
_NO_ROWS = np.zeros(0, np.int32)

SLICE_NS = 1_000_000
"""How much a call uses up before others get their turn."""
LONG_SLICE_NS = 4_000_000
"""The same where nothing is due before."""
SLEEP_NS = 64_000_000
"""And with the time that it sleeps: as many swap-ins from a fast disk take about a millisecond of the host's."""


RETRY_NS = 20_000_000
"""What a fault costs that found no memory and nobody to kill, most of it for the report in the log."""
RETRYING_NS = 1_000_000_000
"""How long a call tries such a fault again before it gives up."""


class Fault(Exception):
    """An access that ends in a signal: SIGSEGV, SIGBUS, or SIGKILL of the OOM killer; 0: it has not ended yet."""

    def __init__(self, signal: int, address: int) -> None:
        super().__init__(f"signal {signal} at {address:#x}")
        self.signal = signal
        self.address = address


class OomWaitError(Exception):
    """The task sleeps until there is room in its memory cgroup, and makes the access again then.

    Linux: mm/memcontrol-v1.c, mem_cgroup_oom_synchronize().
    """


def paging_init(kernel: Kernel) -> None:
    """Make what address spaces need: the MMU, the page cache, rows, reverse maps. Linux: mm_core_init()."""
    page_alloc = kernel.page_alloc
    kernel.lru = page_alloc.lru
    kernel.mmu = Mmu(
        page_alloc.buddy,
        page_alloc.lru,
        kernel.vmstat,
        5 if kernel.machine.cpu.la57 else 4,
        kernel.memblock.kernel_base >> PAGE_SHIFT,
    )
    kernel.pagetables = PageTables(kernel.mmu)
    kernel.page_idle = PageIdle(kernel.mmu.rmap)
    kernel.task_mmu = TaskMmu(kernel.pagetables)
    kernel.madvise = Madvise(kernel.pagetables)
    kernel.lru_gen = LruGenState(kernel)
    kernel.memcgs = MemCgroups(kernel)
    kernel.page_cache = PageCache(kernel)
    kernel.rmap = rmap.Rmap()
    kernel.swap_files = SwapFiles(kernel)
    kernel.swap_writes = SwapWrites(kernel)
    kernel.shm_mnt = ShmMnt()
    kernel.mm_rows = Rows()
    kernel.vma_rows = Rows()
    kernel.mms = {}


# ---------------------------------------------------------------------------------- access


def _vma_for_access(mm: MmStruct, addr: int, write: bool) -> VmAreaStruct:
    """The VMA that allows the access, a stack grown if need be; or Fault(SIGSEGV). Linux: do_user_addr_fault()."""
    from mmfs.mm.stack import expand_stack

    vma = expand_stack(mm, addr)
    if vma is None or (not vma.vm_flags & VM_WRITE if write else not vma.is_readable()):
        raise Fault(SIGSEGV, addr)
    if _wants_anon_vma(vma, write):
        rmap.anon_vma_prepare(vma)
    return vma


def _cannot_be_faulted(vma: VmAreaStruct) -> bool:
    return bool(vma.vm_flags & VM_PFNMAP) or (vma.vm_file is None and vma.vm_ops is not None)


def _retry(mm: MmStruct, addr: int) -> None:
    """The fast path found no memory: have the slow path hand it a page, or raise Fault(SIGKILL)."""
    kernel = mm.kernel
    buddy = kernel.page_alloc.buddy
    _give_back(kernel)
    task_of(mm).account_faults()
    if kernel.mmu.memcg.failed >= 0:
        _charge(mm, addr)
        return
    node, nodes = int(buddy.cpu_nodes[buddy.cpu]), _nodemask(mm, addr)
    pfn = kernel.page_alloc.slowpath(GFP_ANONYMOUS, 0, node, nodes)
    buddy.handed = pfn
    asleep = not buddy.wake_awake_kswapds(node, ZONE_MOVABLE, buddy.mems_allowed if nodes is None else nodes)
    mark = ALLOC_WMARK_MIN if asleep and not kernel.vm.zone_reclaim_mode else ALLOC_WMARK_LOW
    kernel.mmu.walker.alloc_flags = mark | ALLOC_KSWAPD
    if pfn < 0 or mm.row < 0 or kernel.page_alloc.current_is_victim():
        _give_back(kernel)
        raise Fault(SIGKILL, addr)


def _charge(mm: MmStruct, addr: int) -> None:
    """A limit was hit: make room in the memory cgroup; or raise Fault."""
    memcgs = mm.kernel.memcgs
    row = int(memcgs.fast.failed_for)
    _until_served(mm, addr, lambda: memcgs.make_room(GFP_ANONYMOUS, row))


def _until_served(mm: MmStruct, addr: int, serve: Callable[[], bool]) -> None:
    """Have a fault served. Where there is no memory for it and nobody who may be killed, it is tried again and again.

    Linux: mm/oom_kill.c, pagefault_out_of_memory().

    Simplified: after a second, in which others may make room, and at once in a step of a program, the call gives up.
    """
    kernel, task, began = mm.kernel, task_of(mm), mm.kernel.clock.now_ns
    while not serve():
        if mm.row < 0 or not task.alive or kernel.oom_killer.is_dying(task):
            raise Fault(SIGKILL, addr)
        kernel.oom_killer.pagefault_out_of_memory()
        kernel.scheduler.charge(task, system_ns=RETRY_NS)
        if kernel.clock.running or kernel.clock.now_ns - began >= RETRYING_NS:
            raise Fault(0, addr)
        _cond_resched(mm, addr)
        kernel.tasks.current = task
    if mm.row < 0:
        raise Fault(SIGKILL, addr)


def _give_back(kernel: Kernel) -> None:
    """The page that the slow path has handed out was not needed in the end."""
    buddy = kernel.page_alloc.buddy
    if buddy.handed >= 0:
        pfn, buddy.handed = int(buddy.handed), -1
        buddy.free_pages(pfn, 0)


def _stop_retrying(kernel: Kernel) -> None:
    """The call is over, or others run: the next fault begins at the low watermark again."""
    if not kernel.mmu.stop_retrying(ALLOC_WMARK_LOW | ALLOC_KSWAPD):
        return
    kernel.thp.put_back()
    _give_back(kernel)
    if kernel.page_alloc.buddy.wake_kswapd:
        kernel.page_alloc.wake_boosted()


def task_of(mm: MmStruct) -> Task:
    """Who accesses an address space: the running task, unless it acts for another."""
    task = mm.kernel.tasks.current
    return cast("Task", mm.owner) if task is None or task.mm is not mm else task


def _cond_resched(mm: MmStruct, addr: int) -> None:
    """A long call has used up its slice: account it, and let others run. Raises Fault if they have killed it."""
    kernel, task = mm.kernel, task_of(mm)
    _stop_retrying(kernel)
    kernel.cond_resched(task)
    if mm.row < 0 or not task.alive:
        raise Fault(SIGKILL, addr)


def _begin_slice(mm: MmStruct) -> None:
    """The running task goes on at its own time, until something else is due; as ever for a while, and not too long."""
    kernel = mm.kernel
    if kernel.numa_balancing.ran:
        kernel.numa_balancing.run(task_of(mm))
    now = task_ns(kernel)
    due = kernel.clock.next_event_ns()
    budget = SLICE_NS if due is None else min(max(due - now, SLICE_NS), SLEEP_NS)
    kernel.mmu.begin_slice(now, budget, LONG_SLICE_NS)


def _nodemask(mm: MmStruct, addr: int) -> int | None:
    """The nodes to which the policy of an address binds its pages, None if to none. Linux: get_vma_policy()."""
    vma = mm.vma_lookup(addr)
    policy = vma.vm_policy if vma is not None else None
    return policy_nodemask(policy or (mm.owner.mempolicy if mm.owner is not None else None), mm.owner)


def _file_fault(mm: MmStruct, addr: int) -> None:
    vma = mm.vma_lookup(addr)
    assert vma is not None

    def serve() -> bool:
        try:
            filemap_fault(vma, addr)
        except MemoryError:
            return False
        return True

    _until_served(mm, addr, serve)


def _huge_fault(mm: MmStruct, addr: int) -> None:
    vma = mm.vma_lookup(addr)
    assert vma is not None
    task_of(mm).account_faults()
    mm.kernel.thp.alloc_slowly(vma, addr)
    if mm.row < 0:
        raise Fault(SIGKILL, addr)


def _user_fault(mm: MmStruct, addr: int, serve: Callable[[MmStruct, int], None]) -> None:
    """Serve a fault; one that fails at the limit of a cgroup that does not kill is made again when there is room.

    Linux: mm/memory.c, handle_mm_fault(), mem_cgroup_enter_user_fault().
    """
    memcgs = mm.kernel.memcgs
    memcgs.in_oom = None
    try:
        serve(mm, addr)
    except Fault:
        if mm.row < 0 or not memcontrol_v1.oom_synchronize(memcgs, task_of(mm)):
            raise
        raise OomWaitError(f"task {task_of(mm).pid} waits at the limit of its memory cgroup") from None


def _serve(mm: MmStruct, stopped_at: int, addr: int) -> None:
    """After a stop of the loop: see to it that it can go on, or raise Fault."""
    reason = mm.kernel.mmu.reason
    if reason == FAULT_SLICE:
        _cond_resched(mm, addr)
    elif reason == FAULT_SIGBUS:
        raise Fault(SIGBUS, addr)
    elif reason == FAULT_HUGE:
        _huge_fault(mm, addr)
    elif reason in (FAULT_FILE, FAULT_OOM):
        _user_fault(mm, addr, _file_fault if reason == FAULT_FILE else _retry)
    elif reason == FAULT_HIGH:
        task_of(mm).account_faults()
        mm.kernel.memcgs.handle_over_high(task_of(mm))
        _cond_resched(mm, addr)
    else:
        raise AssertionError(f"fast path stopped with {reason} at {stopped_at}")
    _begin_slice(mm)


def access_range(mm: MmStruct, start: int, end: int, write: bool, stride: int = PAGE_SIZE) -> None:
    """Access one byte every ``stride`` of [start, end), as a program would. Raises Fault."""
    if stride <= 0:
        raise ValueError("stride: must be above zero")
    kernel = mm.kernel
    mmu = kernel.mmu
    _begin_slice(mm)
    addr = start
    try:
        while addr < end:
            vma = mm.vma_lookup(addr)
            row = _row_for_access(vma, write) if vma is not None else None
            if row is None:
                vma = _vma_for_access(mm, addr, write)
                if _cannot_be_faulted(vma):
                    addr += -(-(min(end, vma.vm_end) - addr) // stride) * stride
                    continue
                if vma.is_hugetlb():
                    addr = _access_huge(vma, addr, min(end, vma.vm_end), write, stride)
                    continue
                row = vma_row(vma)
            assert vma is not None
            stop = min(end, vma.vm_end)
            reached = mmu.touch_range(mm.row, row, addr, stop, stride, write)
            if reached < stop:
                _serve(mm, reached, reached)
            addr = reached
    finally:
        mmu.tried = False
        _stop_retrying(kernel)


def access_pages(mm: MmStruct, addresses: ArrayLike, write: bool) -> None:
    """Access addresses (integers, any order) one after the other. Raises Fault at the first that cannot be."""
    mmu = mm.kernel.mmu
    _begin_slice(mm)
    order = np.ascontiguousarray(addresses, dtype=np.int64).ravel()
    done, window = 0, _Window(order, 0)
    try:
        while done < len(order):
            if done == window.end:
                window = _Window(order, done)
            row, rows, known = window.rows(mm, done, write)
            if known == done:
                done += _access_apart(mm, int(order[done]), write)
                continue
            reached = mmu.touch_pages(mm.row, row, rows, order[window.start : known], done - window.start, write)
            done = window.start + reached
            if done < known:
                _serve(mm, done, int(order[done]))
    finally:
        mmu.tried = False
        _stop_retrying(mm.kernel)


def _access_huge(vma: VmAreaStruct, addr: int, end: int, write: bool, stride: int = PAGE_SIZE) -> int:
    """Access a mapping of huge pages for a slice; where to go on. Raises Fault."""
    from mmfs.mm.hugetlb_fault import touch_range

    reached = touch_range(vma, addr, end, stride, write)
    if reached < end:
        _serve(vma.vm_mm, reached, reached)
    return reached


def _access_apart(mm: MmStruct, addr: int, write: bool) -> bool:
    """An access that is not the fast path's alone; False: it may be by now. Raises Fault."""
    vma = _vma_for_access(mm, addr, write)
    if vma.is_hugetlb():
        return _access_huge(vma, addr, addr + 1, write) > addr
    return _cannot_be_faulted(vma)


class _Window:
    """Some of the addresses in an order of accesses: those that are looked at together."""

    def __init__(self, order: np.ndarray, start: int) -> None:
        self.order = order
        self.start = start
        self.end = min(start + _WINDOW, len(order))
        bounds: tuple[int, int] = Mmu.bounds(order[start : self.end]) if start < self.end else (0, 0)
        self.lowest, self.highest = bounds

    def rows(self, mm: MmStruct, done: int, write: bool) -> tuple[int, np.ndarray, int]:
        """The VMA row of all addresses, or 0 and that of each from `start` on; and the position in the order, from
        `done` on, of the first that needs a closer look.

        Others may have changed the VMAs between two calls.
        """
        vma = mm.vma_lookup(self.lowest)
        if vma is not None and self.highest < vma.vm_end:  # as most often
            row = _row_for_access(vma, write)
            return (0, _NO_ROWS, done) if row is None else (row, _NO_ROWS, self.end)
        rows, known = _rows_of(mm, self.order[done : self.end], write)
        return 0, np.concatenate((np.zeros(done - self.start, np.int32), rows)), done + known


def _row_for_access(vma: VmAreaStruct, write: bool) -> int | None:
    """The row of a VMA that may be accessed like this and has ordinary pages, ready to be faulted in."""
    if vma.is_hugetlb() or not (vma.vm_flags & VM_WRITE if write else vma.is_readable()) or _cannot_be_faulted(vma):
        return None
    if _wants_anon_vma(vma, write):
        rmap.anon_vma_prepare(vma)
    return vma_row(vma)


def _wants_anon_vma(vma: VmAreaStruct, write: bool) -> bool:
    """Whether a fault may give a VMA its first anonymous page: a write, or a huge page for a read."""
    if vma.anon_vma is not None or vma.vm_flags & VM_SHARED:
        return False
    return write or vma.vm_mm.kernel.thp.pmd_allowable(vma, enforce=True)


def _rows_of(mm: MmStruct, order: np.ndarray, write: bool) -> tuple[np.ndarray, int]:
    """The VMA row of each address, and the position of the first that needs a closer look."""
    vmas = mm.mmap
    starts = np.array([vma.vm_start for vma in vmas], np.int64)
    ends = np.array([vma.vm_end for vma in vmas], np.int64)
    at = np.searchsorted(ends, order, side="right")
    inside = at < len(vmas)
    at = np.where(inside, at, 0)
    usable = np.zeros(len(vmas), bool)
    rows = np.zeros(len(vmas), np.int32)
    for i in np.flatnonzero(np.bincount(at[inside])):
        row = _row_for_access(vmas[i], write)
        if row is not None:
            usable[i], rows[i] = True, row
    good = inside & usable[at] & (starts[at] <= order) if len(vmas) else inside
    bad = np.flatnonzero(~good)
    return rows[at] if len(vmas) else rows, int(bad[0]) if len(bad) else len(order)


def populate(mm: MmStruct, start: int, end: int) -> None:
    """Fault in a range: for writing where it is private and writable. Raises Fault. Linux: mm/gup.c."""
    while start < end:
        vma = mm.vma_lookup(start)
        if vma is None:
            raise Fault(SIGSEGV, start)
        stop = min(end, vma.vm_end)
        access_range(mm, start, stop, bool(vma.vm_flags & VM_WRITE and not vma.vm_flags & VM_SHARED))
        start = stop


# ---------------------------------------------------------------------------------- ranges of a VMA


def zap_page_range(mm: MmStruct, vma: VmAreaStruct, start: int, end: int) -> None:
    """Unmap the pages of a range. Linux: mm/memory.c, zap_page_range_single(), unmap_vmas()."""
    if vma.is_hugetlb():
        hugetlb_vma.unmap_hugepage_range(vma, start, end)
        return
    mm.update_hiwater_rss()
    mm.kernel.lru.lru_add_drain()
    mm.kernel.pagetables.zap_range(mm.row, vma.vm_flags, start, end)


def free_pgtables(mm: MmStruct, floor: int, ceiling: int) -> None:
    """Free the page tables that span nothing but [floor, ceiling), which is unmapped. Linux: free_pgtables()."""
    mm.kernel.pagetables.free_tables(mm.row, floor, ceiling)


def copy_page_range(mm: MmStruct, vma: VmAreaStruct, src: VmAreaStruct) -> None:
    """Copy a VMA's entries to a child, private pages shared until written. Linux: copy_page_range().

    Files' pages are not copied unless some are private: the child faults them in. Raises OSError(ENOMEM).
    """
    from errno import ENOMEM

    if src.anon_vma is None:
        return
    if src.is_hugetlb():
        hugetlb_vma.copy_hugetlb_page_range(vma, src)
        return
    tables = mm.kernel.pagetables
    addr = src.vm_start
    try:
        while addr < src.vm_end:
            reached = tables.copy_range(mm.row, src.vm_mm.row, src.vm_flags, addr, src.vm_end)
            if reached < src.vm_end:
                _retry(src.vm_mm, reached)
            addr = reached
    except Fault as fault:
        raise OSError(ENOMEM, "no memory for page tables") from fault
    finally:
        _stop_retrying(mm.kernel)


def change_protection(mm: MmStruct, vma: VmAreaStruct, start: int, end: int) -> None:
    """Give the entries of a range the rights of their VMA. Linux: mm/mprotect.c, change_protection()."""
    if vma.is_hugetlb():
        hugetlb_vma.hugetlb_change_protection(vma, start, end)
        return
    mm.kernel.pagetables.protect_range(mm.row, vma.vm_flags, start, end)


def move_page_tables(
    mm: MmStruct, vma: VmAreaStruct, old_addr: int, new_vma: VmAreaStruct, new_addr: int, length: int
) -> int:
    """Move entries from one VMA to another; returns how many bytes. Linux: mm/mremap.c, move_page_tables()."""
    if vma.is_hugetlb():
        return hugetlb_vma.move_hugetlb_page_tables(vma, old_addr, new_addr, length)
    tables = mm.kernel.pagetables
    done = 0
    try:
        while done < length:
            moved = tables.move_range(mm.row, old_addr + done, new_addr + done, length - done)
            done += moved
            if done < length:
                _retry(mm, new_addr + done)
    except Fault:
        return done
    finally:
        _stop_retrying(mm.kernel)
    return done


def mlock_vma_pages_range(mm: MmStruct, vma: VmAreaStruct, start: int, end: int, lock: bool) -> None:
    """mlock or munlock the pages that are mapped in a range. Linux: mm/mlock.c, mlock_vma_pages_range()."""
    mm.kernel.lru.lru_add_drain()
    mm.kernel.pagetables.lock_range(mm.row, start, end, lock)


def clear_refs(mm: MmStruct, vma: VmAreaStruct, soft_dirty: bool) -> None:
    """Forget that pages of a VMA were accessed, or were written. Linux: fs/proc/task_mmu.c, clear_refs_write()."""
    if vma.is_hugetlb():  # Linux: clear_refs_walk_ops has no hugetlb_entry
        return
    bits = PTE_SOFT_DIRTY | PTE_RW if soft_dirty else PTE_ACCESSED
    mm.kernel.task_mmu.clear_refs(mm.row, vma.vm_start, vma.vm_end, bits)
