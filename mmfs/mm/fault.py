"""Page faults that the fast path cannot serve alone, and what comes of them.

fastpath/mmu.py serves accesses until it needs a decision, and says why it stopped. This module checks what the
hardware would check before a range is touched (is there a VMA, does it allow the access, must a stack grow), and
decides when the loop has stopped: out of memory it tries lower watermarks, then drained per-CPU lists, then the OOM
killer; what nobody can serve is a Fault that becomes a signal.

Linux: arch/x86/mm/fault.c; mm/memory.c, handle_mm_fault().

Simplified: the pages of [vvar] and [vdso] are not faulted in.
"""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGBUS, SIGKILL, SIGSEGV
from typing import TYPE_CHECKING, cast

from mmfs.mm import memcontrol_v1, rmap
from mmfs.mm.filemap import filemap_fault, task_ns
from mmfs.mm.mempolicy import policy_nodemask
from mmfs.mm.mman import VM_PFNMAP, VM_SHARED, VM_WRITE
from mmfs.mm.pgd import GFP_PGTABLE_USER
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
    ZONE_MOVABLE,
    ZONE_NORMAL,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct

GFP_ANONYMOUS = GFP_HIGHUSER_MOVABLE | GFP_COMP_BIT | GFP_ZERO_BIT
"""What a fault asks an anonymous page with. Linux: vma_alloc_zeroed_movable_folio()."""

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


def vma_for_access(mm: MmStruct, addr: int, write: bool) -> VmAreaStruct:
    """The VMA that allows the access, a stack grown if need be; or Fault(SIGSEGV). Linux: do_user_addr_fault()."""
    from mmfs.mm.stack import expand_stack

    vma = expand_stack(mm, addr)
    if vma is None or (not vma.vm_flags & VM_WRITE if write else not vma.is_readable()):
        raise Fault(SIGSEGV, addr)
    if wants_anon_vma(vma, write):
        rmap.anon_vma_prepare(vma)
    return vma


def cannot_be_faulted(vma: VmAreaStruct) -> bool:
    return bool(vma.vm_flags & VM_PFNMAP) or (vma.vm_file is None and vma.vm_ops is not None)


def wants_anon_vma(vma: VmAreaStruct, write: bool) -> bool:
    """Whether a fault may give a VMA its first anonymous page: a write, or a huge page for a read."""
    if vma.anon_vma is not None or vma.vm_flags & VM_SHARED:
        return False
    return write or (vma.vm_file is None and vma.vm_mm.kernel.thp.pmd_allowable(vma, enforce=True))


def retry(mm: MmStruct, addr: int) -> None:
    """The fast path found no memory: have the slow path hand it a page, or raise Fault(SIGKILL)."""
    kernel = mm.kernel
    buddy = kernel.page_alloc.buddy
    _give_back(kernel)
    task_of(mm).account_faults()
    if kernel.mmu.memcg.failed >= 0:
        _charge(mm, addr)
        return
    node, nodes = int(buddy.cpu_nodes[buddy.cpu]), _nodemask(mm, addr)
    low = kernel.mmu.walker.failed_highest < buddy.opt_zone_highmem
    pfn = kernel.page_alloc.slowpath(GFP_PGTABLE_USER if low else GFP_ANONYMOUS, 0, node, nodes)
    buddy.handed = pfn
    highest = ZONE_NORMAL if low else ZONE_MOVABLE
    asleep = not buddy.wake_awake_kswapds(node, highest, buddy.mems_allowed if nodes is None else nodes)
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


def stop_retrying(kernel: Kernel) -> None:
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
    stop_retrying(kernel)
    kernel.cond_resched(task)
    if mm.row < 0 or not task.alive:
        raise Fault(SIGKILL, addr)


def begin_slice(mm: MmStruct) -> None:
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
    mm.kernel.thp.alloc_slowly(vma, addr, _nodemask(mm, addr))
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


def serve(mm: MmStruct, stopped_at: int, addr: int) -> None:
    """After a stop of the loop: see to it that it can go on, or raise Fault."""
    reason = mm.kernel.mmu.reason
    if reason == FAULT_SLICE:
        _cond_resched(mm, addr)
    elif reason == FAULT_SIGBUS:
        raise Fault(SIGBUS, addr)
    elif reason == FAULT_HUGE:
        _huge_fault(mm, addr)
    elif reason in (FAULT_FILE, FAULT_OOM):
        _user_fault(mm, addr, _file_fault if reason == FAULT_FILE else retry)
    elif reason == FAULT_HIGH:
        task_of(mm).account_faults()
        mm.kernel.memcgs.handle_over_high(task_of(mm))
        _cond_resched(mm, addr)
    else:
        raise AssertionError(f"fast path stopped with {reason} at {stopped_at}")
    begin_slice(mm)
