"""The OOM killer: who has to go when nothing else frees memory.

Every process has a badness: the pages it keeps from others (resident, swapped, page tables), shifted by its
oom_score_adj, each unit of which is a thousandth of the memory in question. The worst is killed with SIGKILL, and
whoever shares its memory with it; init, kernel threads and who has -1000 are spared. If the request that failed may
come from some nodes only, these are the memory in question, and who is bound to other nodes is spared too.

A process that is killed frees its memory at once, unless it is in the middle of a system call. Then it may dip into
the reserves (ALLOC_OOM) to come to the call's end, and after two seconds the oom_reaper takes its private memory away;
until then nobody else is killed. Where nobody can be killed, or vm.panic_on_oom says so, the kernel panics.

Linux: mm/oom_kill.c.

Simplified: no process_mrelease(2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mmfs.mm import memory
from mmfs.mm.debug import LOG_ERR, LOG_INFO, LOG_WARNING, gfp_flag_names
from mmfs.mm.dump_stack import current, dump_stack
from mmfs.mm.memcg_stat import oom_meminfo
from mmfs.mm.mempolicy import mempolicy_in_oom_domain, nodemask_of
from mmfs.mm.mm_struct import MMF_OOM_REAP_QUEUED, MMF_OOM_SKIP
from mmfs.mm.mman import VM_HUGETLB, VM_PFNMAP, VM_SHARED
from mmfs.mm.ratelimit import NSEC_PER_SEC, RatelimitState
from mmfs.mm.show_mem import (
    current_mems_allowed,
    dump_unreclaimable_slab,
    node_page_state_pages,
    nodemask_text,
    show_mem,
)
from mmfs.mm_types import (
    GFP_FS_BIT,
    GFP_HARDWALL_BIT,
    GFP_THISNODE_BIT,
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_SHMEMPAGES,
    MM_SWAPENTS,
    PAGE_SHIFT,
    MemcgMemoryEvent,
    NodeStatItem,
    VmEventItem,
)
from mmfs.profile import since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.mem_cgroup import MemCgroup
    from mmfs.mm.mm_struct import MmStruct

LONG_MIN: Final = -(1 << 63)
LONG_MAX: Final = (1 << 63) - 1
OOM_SCORE_ADJ_MIN: Final = -1000
PF_EXITING: Final = 0x0000_0004
OOM_REAPER_DELAY_NS: Final = 2 * NSEC_PER_SEC
SYSRQ_ORDER: Final = -1
"""The order of a request that is none: a kill that SysRq-f asks for. Linux: is_sysrq_oom()."""

_LRU: Final = (
    NodeStatItem.NR_ACTIVE_ANON, NodeStatItem.NR_INACTIVE_ANON, NodeStatItem.NR_ACTIVE_FILE,
    NodeStatItem.NR_INACTIVE_FILE, NodeStatItem.NR_ISOLATED_ANON, NodeStatItem.NR_ISOLATED_FILE,
    NodeStatItem.NR_UNEVICTABLE,
)  # fmt: skip


@dataclass
class OomControl:
    """A request for memory that failed, and whom it will cost his life. Linux: struct oom_control."""

    gfp: int
    order: int
    nodemask: int | None = None
    memcg: MemCgroup | None = None
    """The memory cgroup that is full."""
    constraint: str = "CONSTRAINT_NONE"
    totalpages: int = 0
    chosen: Task | None = None

    @property
    def is_sysrq(self) -> bool:
        """Whether nobody needs memory, but the user asked for a kill."""
        return self.order == SYSRQ_ORDER


# ---- who --------------------------------------------------------------------------------------------------------


def oom_unkillable_task(task: Task) -> bool:
    """Whether `task` is never a candidate. Linux: mm/oom_kill.c, oom_unkillable_task()."""
    return task.tgid == 1 or task.is_kthread


def find_lock_task_mm(task: Task) -> Task | None:
    """A thread of the process that still has its memory. Linux: mm/oom_kill.c, find_lock_task_mm()."""
    return next((thread for thread in task.threads if thread.mm is not None), None)


def oom_badness(task: Task, totalpages: int) -> int:
    """Pages to be gained by killing a process, shifted by its oom_score_adj; LONG_MIN if it must not be killed.

    Linux: mm/oom_kill.c, oom_badness().
    """
    if oom_unkillable_task(task):
        return LONG_MIN
    holder = find_lock_task_mm(task)
    adj = task.oom_score_adj
    if holder is None or holder.mm is None or adj == OOM_SCORE_ADJ_MIN or holder.vfork_parent is not None:
        return LONG_MIN
    mm = holder.mm
    if mm.flags & MMF_OOM_SKIP:
        return LONG_MIN
    points = mm.rss + mm.get_mm_counter(MM_SWAPENTS) + (mm.pgtables_bytes >> PAGE_SHIFT)
    return points + adj * (totalpages // 1000)


def oom_totalpages(kernel: Kernel) -> int:
    """RAM and swap together, what badness is measured against. Linux: constrained_alloc()."""
    return kernel.totalram_pages() + kernel.total_swap_pages


def proc_oom_score(task: Task) -> int:
    """What /proc/PID/oom_score shows: 0 to 2000. Linux: fs/proc/base.c, proc_oom_score()."""
    totalpages = oom_totalpages(task.kernel)
    badness = oom_badness(task, totalpages)
    if badness == LONG_MIN:
        return 0
    thousandths = abs(badness) * 1000 // totalpages
    return (1000 + (thousandths if badness >= 0 else -thousandths)) * 2 // 3


def tsk_is_oom_victim(task: Task) -> bool:
    """Whether the process has been chosen already. Linux: include/linux/oom.h, tsk_is_oom_victim()."""
    return task.signal.oom_mm is not None


def oom_mm_gone(mm: MmStruct) -> bool:
    """Whether nothing more is to be had from a victim's memory: freed or reaped."""
    return mm.row < 0 or bool(mm.flags & MMF_OOM_SKIP)


def constrained_alloc(kernel: Kernel, oc: OomControl) -> None:
    """Find which memory the request may come from. Linux: mm/oom_kill.c, constrained_alloc()."""
    if oc.memcg is not None:
        oc.totalpages, oc.constraint, oc.nodemask = oc.memcg.max_pages or 1, "CONSTRAINT_MEMCG", None
        return
    oc.totalpages = oom_totalpages(kernel)
    present = {pgdat.node_id: pgdat.node_present_pages for pgdat in kernel.node_data if pgdat.node_present_pages}
    if oc.is_sysrq or oc.gfp & GFP_THISNODE_BIT or all((oc.nodemask or -1) >> nid & 1 for nid in present):
        oc.nodemask = None
    mask, constraint = oc.nodemask, "CONSTRAINT_MEMORY_POLICY"
    if mask is None and oc.gfp & GFP_HARDWALL_BIT and not oc.is_sysrq:
        mask, constraint = nodemask_of(current(kernel).mems_allowed), "CONSTRAINT_CPUSET"
    if mask is None or all(mask >> nid & 1 for nid in present):
        return
    oc.totalpages = kernel.total_swap_pages + sum(pages for nid, pages in present.items() if mask >> nid & 1)
    oc.constraint = constraint


def oom_cpuset_eligible(task: Task, nodemask: int | None, asks: Task) -> bool:
    """Whether killing the process may free memory of these nodes, or of those that who asks may use.

    Linux: mm/oom_kill.c, oom_cpuset_eligible().
    """
    if nodemask is not None:
        return any(mempolicy_in_oom_domain(thread.mempolicy, nodemask) for thread in task.threads)
    allowed = nodemask_of(asks.mems_allowed)
    return any(nodemask_of(thread.mems_allowed) & allowed for thread in task.threads)


# ---- the killer -------------------------------------------------------------------------------------------------


class OomKiller:
    """The OOM killer of a machine and its reaper.

    `kill(task)` sends SIGKILL, which acts when the task can die; `fatal_signal_pending(task)` tells whether one waits.
    """

    def __init__(
        self, kernel: Kernel, kill: Callable[[Task], object], fatal_signal_pending: Callable[[Task], bool]
    ) -> None:
        self.kernel = kernel
        self.kill = kill
        self.fatal_signal_pending = fatal_signal_pending
        self.oom_rs = RatelimitState(kernel, "oom_kill_process")
        self.pfoom_rs = RatelimitState(kernel, "pagefault_out_of_memory")

    def out_of_memory(
        self, gfp: int, order: int, nodemask: int | None = None, memcg: MemCgroup | None = None
    ) -> bool:
        """Make room for a request that failed: whether it is worth a new try. Linux: mm/oom_kill.c, out_of_memory().

        `nodemask` are the nodes that the request may use, None for all; `memcg` the memory cgroup that is full.
        """
        kernel, task = self.kernel, current(self.kernel)
        oc = OomControl(gfp, order, nodemask, memcg)
        if self._task_will_free_mem(task):
            self._mark_oom_victim(task)
            self._queue_oom_reaper(task)
            return True
        if not gfp & GFP_FS_BIT and memcg is None:
            return True
        constrained_alloc(kernel, oc)
        self._check_panic_on_oom(oc)
        if memcg is None and kernel.vm.oom_kill_allocating_task and self._may_go(task, oc):
            oc.chosen = task
            self._oom_kill_process(oc, "Out of memory (oom_kill_allocating_task)", "oom_kill_allocating_task")
            return True
        dying = self.select_bad_process(oc)
        if dying is not None:
            self._oom_reap_task(dying)  # the request would wait for it, in vain while time stands still
            return True
        if oc.chosen is None:
            self._dump_header(oc, "oom_nobody_sysrq" if oc.is_sysrq else "oom_nobody")
            kernel.printk.emit("Out of memory and no killable processes...", LOG_WARNING)
            if not oc.is_sysrq and memcg is None:
                kernel.panic("System is deadlocked on memory", "panic: deadlocked")
            return False
        message = "Out of memory" if memcg is None else "Memory cgroup out of memory"
        self._oom_kill_process(oc, message, "oom_kill_sysrq" if oc.is_sysrq else "oom_kill")
        return True

    def pagefault_out_of_memory(self) -> None:
        """A page fault found no memory, and nobody was killed for it. Linux: mm/oom_kill.c."""
        if self.pfoom_rs.ratelimit():
            self.kernel.printk.emit("Huh VM_FAULT_OOM leaked out to the #PF handler. Retrying PF", LOG_WARNING)

    def is_dying(self, task: Task) -> bool:
        """Whether a task will not come back to user mode. Linux: include/linux/oom.h, task_is_dying()."""
        return tsk_is_oom_victim(task) or self.fatal_signal_pending(task) or bool(task.flags & PF_EXITING)

    def is_reaped_victim(self, task: Task | None) -> bool:
        """Whether a task was killed and has nothing left to give. Linux: MMF_OOM_SKIP."""
        mm = None if task is None else task.signal.oom_mm
        return mm is not None and bool(mm.flags & MMF_OOM_SKIP)

    def current_is_victim(self) -> bool:
        """Whether the current task is to die and may use the reserves. Linux: oom_reserves_allowed()."""
        return tsk_is_oom_victim(current(self.kernel))

    def _may_go(self, task: Task, oc: OomControl) -> bool:
        """Whether vm.oom_kill_allocating_task may take the task that allocates."""
        return (
            task.mm is not None
            and not oom_unkillable_task(task)
            and oom_cpuset_eligible(task, oc.nodemask, task)
            and task.oom_score_adj != OOM_SCORE_ADJ_MIN
        )

    def select_bad_process(self, oc: OomControl) -> Task | None:
        """Choose the process with the highest badness, of equals the youngest; or return one that is dying already.

        Linux: mm/oom_kill.c, select_bad_process(), oom_evaluate_task().
        """
        chosen_points = LONG_MIN
        for task in self._candidates(oc):
            if not oc.is_sysrq and task.signal.oom_mm is not None:
                if oom_mm_gone(task.signal.oom_mm):
                    continue
                return task
            points = LONG_MAX if task.signal.oom_flag_origin else oom_badness(task, oc.totalpages)
            if points != LONG_MIN and points >= chosen_points:
                oc.chosen, chosen_points = task, points
        return None

    def _candidates(self, oc: OomControl) -> Iterator[Task]:
        """The processes that may have what the request needs. Linux: for_each_process(), mem_cgroup_scan_tasks()."""
        for task in self.kernel.tasks.values():
            if task.pid != task.tgid or oom_unkillable_task(task):
                continue
            if oc.memcg is not None:
                if self.kernel.memcgs.from_task(task).is_descendant(oc.memcg):
                    yield task
            elif oom_cpuset_eligible(task, oc.nodemask, current(self.kernel)):
                yield task

    def _check_panic_on_oom(self, oc: OomControl) -> None:
        """Linux: mm/oom_kill.c, check_panic_on_oom()."""
        wanted = self.kernel.vm.panic_on_oom
        if not wanted or oc.is_sysrq or (wanted != 2 and oc.constraint != "CONSTRAINT_NONE"):
            return
        self._dump_header(oc, "panic_on_oom")
        how = "compulsory" if wanted == 2 else "system-wide"
        self.kernel.panic(f"Out of memory: {how} panic_on_oom is enabled", "panic: panic_on_oom")

    # ---- the kill -----------------------------------------------------------------------------------------------

    def _dying(self, task: Task) -> bool:
        """Whether the process is on its way out. Linux: mm/oom_kill.c, __task_will_free_mem()."""
        return task.signal.group_exit or self.fatal_signal_pending(task) or (len(task.threads) == 1 and not task.alive)

    def _sharers(self, victim: Task, mm: MmStruct) -> list[Task]:
        """Other processes in the same address space. Linux: mm/oom_kill.c, process_shares_mm()."""
        if mm.mm_users <= 1:
            return []
        return [
            task
            for task in self.kernel.tasks.processes()
            if task.tgid != victim.tgid and (holder := find_lock_task_mm(task)) is not None and holder.mm is mm
        ]

    def _task_will_free_mem(self, task: Task) -> bool:
        """Whether the memory of a task will be free soon anyway. Linux: mm/oom_kill.c, task_will_free_mem()."""
        mm = task.mm
        if mm is None or not self._dying(task) or mm.flags & MMF_OOM_SKIP:
            return False
        return all(self._dying(other) for other in self._sharers(task, mm))

    def _mark_oom_victim(self, task: Task) -> None:
        """From now on it may use the reserves. Linux: mm/oom_kill.c, mark_oom_victim()."""
        if task.signal.oom_mm is None:
            task.signal.oom_mm = task.mm

    def _oom_kill_process(self, oc: OomControl, message: str, complaint: str) -> None:
        """Linux: mm/oom_kill.c, oom_kill_process()."""
        victim = oc.chosen
        assert victim is not None
        if self._task_will_free_mem(victim):
            self._mark_oom_victim(victim)
            self._queue_oom_reaper(victim)
            return
        if self.oom_rs.ratelimit():
            self._dump_header(oc, complaint)
            where = "global_oom" if oc.memcg is None else f"oom_memcg={oc.memcg.path}"
            self.kernel.printk.emit(
                f"oom-kill:constraint={oc.constraint},nodemask={nodemask_text(oc.nodemask)}"
                f"{current_mems_allowed(self.kernel)},{where},task_memcg={self.kernel.memcgs.from_task(victim).path},"
                f"task={victim.comm},pid={victim.pid},uid={victim.uid}",
                LOG_INFO,
            )
        group = self.kernel.memcgs.oom_group(victim, oc.memcg)
        self._kill(victim, message)
        if group is not None:
            self._kill_group(group, message)

    def _kill_group(self, group: MemCgroup, message: str) -> None:
        """memory.oom.group: all of a cgroup go together. Linux: oom_kill_memcg_member()."""
        group.event(MemcgMemoryEvent.MEMCG_OOM_GROUP_KILL)
        self.kernel.printk.emit(
            f"Tasks in {group.path} are going to be killed due to memory.oom.group set", LOG_INFO
        )
        for task in list(self._candidates(OomControl(0, 0, memcg=group))):
            if task.oom_score_adj != OOM_SCORE_ADJ_MIN and task.alive:
                self._kill(task, message)

    def _kill(self, process: Task, message: str) -> None:
        """Linux: mm/oom_kill.c, __oom_kill_process()."""
        kernel, victim = self.kernel, find_lock_task_mm(process)
        if victim is None or victim.mm is None:
            kernel.printk.emit(
                f"{message}: OOM victim {process.pid} ({process.comm}) is already exiting. Skip killing the task",
                LOG_INFO,
            )
            return
        mm = victim.mm
        kernel.vmstat.count_vm_events(VmEventItem.OOM_KILL)
        kernel.memcgs.from_task(victim).event(MemcgMemoryEvent.MEMCG_OOM_KILL)
        kernel.printk.emit(
            f"{message}: Killed process {victim.pid} ({victim.comm}) total-vm:{_kb(mm.total_vm)}, {_rss(mm)}, "
            f"UID:{victim.uid} pgtables:{mm.pgtables_bytes >> 10}kB oom_score_adj:{victim.oom_score_adj}",
            LOG_ERR,
        )
        sharers = self._sharers(victim, mm)
        self._mark_oom_victim(victim)
        self.kill(victim)
        can_oom_reap = True
        for task in sharers:
            if task.pid == 1:
                can_oom_reap = False
                mm.flags |= MMF_OOM_SKIP
                kernel.printk.emit(
                    f"oom killer {victim.pid} ({victim.comm}) has mm pinned by {task.pid} ({task.comm})", LOG_INFO
                )
            elif not task.is_kthread:
                self.kill(task)
        if can_oom_reap:
            self._queue_oom_reaper(victim)

    # ---- the reaper ---------------------------------------------------------------------------------------------

    def _queue_oom_reaper(self, task: Task) -> None:
        """Give the victim two seconds to go by itself. Linux: mm/oom_kill.c, queue_oom_reaper()."""
        mm = task.signal.oom_mm
        if mm is None or oom_mm_gone(mm) or mm.flags & MMF_OOM_REAP_QUEUED:
            return
        mm.flags |= MMF_OOM_REAP_QUEUED
        self.kernel.clock.add_timer(self.kernel.clock.now_ns + OOM_REAPER_DELAY_NS, self._oom_reap_task, task)

    def _oom_reap_task(self, task: Task) -> None:
        """Unmap what only the victim has of its memory. Linux: mm/oom_kill.c, oom_reap_task(), __oom_reap_task_mm()."""
        kernel, mm = self.kernel, task.signal.oom_mm
        if mm is None or oom_mm_gone(mm):
            return
        for vma in mm.mmap:
            if not vma.vm_flags & (VM_HUGETLB | VM_PFNMAP) and (vma.is_anonymous() or not vma.vm_flags & VM_SHARED):
                memory.zap_page_range(mm, vma, vma.vm_start, vma.vm_end)
        mm.flags |= MMF_OOM_SKIP
        kernel.printk.emit(f"oom_reaper: reaped process {task.pid} ({task.comm}), now {_rss(mm)}", LOG_INFO)
        reaper = next((one for one in kernel.tasks.values() if one.is_kthread and one.comm == "oom_reaper"), None)
        kernel.scheduler.run_kthread(reaper)

    # ---- the report ---------------------------------------------------------------------------------------------

    def _dump_header(self, oc: OomControl, complaint: str) -> None:
        """Say who wanted memory, how memory is, and who the candidates are. Linux: mm/oom_kill.c, dump_header()."""
        kernel, task = self.kernel, current(self.kernel)
        kernel.printk.emit(
            f"{task.comm} invoked oom-killer: gfp_mask={oc.gfp:#x}({gfp_flag_names(oc.gfp)}), order={oc.order}, "
            f"oom_score_adj={task.oom_score_adj}",
            LOG_WARNING,
        )
        dump_stack(kernel, complaint, "events moom_callback" if oc.is_sysrq else "")
        if oc.memcg is None:
            self._show_mem(oc)
        else:
            for line in oom_meminfo(oc.memcg):
                kernel.printk.emit(line, LOG_INFO)
        if PROTECTION(kernel) and not kernel.lru.memcg.memsw:
            root = (oc.memcg or kernel.memcgs.root).memory
            least, low = root.children_min_usage, root.children_low_usage
            text = f"Memory cgroup min protection {_kb(least)} -- low protection {_kb(low)}"
            kernel.printk.emit(text, LOG_WARNING)
        if kernel.vm.oom_dump_tasks:
            self._dump_tasks(oc)

    def _show_mem(self, oc: OomControl) -> None:
        kernel = self.kernel
        show_mem(kernel, oc.nodemask, kernel.page_alloc.gfp_zone(oc.gfp))
        pages = node_page_state_pages([int(count) for count in kernel.vmstat.node_stat.sum(axis=0)])
        if pages[NodeStatItem.NR_SLAB_UNRECLAIMABLE_B] > sum(pages[item] for item in _LRU):
            dump_unreclaimable_slab(kernel)

    def _dump_tasks(self, oc: OomControl) -> None:
        """Linux: mm/oom_kill.c, dump_tasks(), dump_task()."""
        emit = self.kernel.printk.emit
        emit("Tasks state (memory values in pages):", LOG_INFO)
        kinds = RSS_KINDS(self.kernel)
        emit(
            f"[  pid  ]   uid  tgid total_vm      rss {'rss_anon rss_file rss_shmem ' if kinds else ''}pgtables_bytes "
            "swapents oom_score_adj name",
            LOG_INFO,
        )
        for process in self._candidates(oc):
            task = find_lock_task_mm(process)
            if task is None or task.mm is None:
                continue
            mm = task.mm
            anon, file, shmem, swap = (
                mm.get_mm_counter(m) for m in (MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS)
            )
            parts = f"{anon:8d} {file:8d} {shmem:9d} " if kinds else ""
            emit(
                f"[{task.pid:7d}] {task.uid:5d} {task.tgid:5d} {mm.total_vm:8d} {mm.rss:8d} {parts}"
                f"{mm.pgtables_bytes:8d} {swap:8d}         {task.oom_score_adj:5d} {task.comm}",
                LOG_INFO,
            )


PROTECTION: Final = since(6, 19)
"""Kernels that say how much of what is used is protected. Linux: mem_cgroup_show_protected_memory()."""
RSS_KINDS: Final = since(6, 12)
"""Kernels whose table of tasks tells what kind of pages is resident."""


def _kb(pages: int) -> str:
    return f"{pages << (PAGE_SHIFT - 10)}kB"


def _rss(mm: MmStruct) -> str:
    """What is resident, by kind."""
    kinds = (("anon", MM_ANONPAGES), ("file", MM_FILEPAGES), ("shmem", MM_SHMEMPAGES))
    return ", ".join(f"{kind}-rss:{_kb(mm.get_mm_counter(member))}" for kind, member in kinds)
