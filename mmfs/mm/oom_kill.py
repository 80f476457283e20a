"""The OOM killer: who has to go when nothing else frees memory.

Every process has a badness: the pages it keeps from others (resident, swapped, page tables), shifted by its
oom_score_adj, each unit of which is a thousandth of the memory in question. The worst is killed with SIGKILL;
init, kernel threads and who has -1000 are spared.

Linux: mm/oom_kill.c.

Simplified: only the whole machine runs out of memory (no cpusets, policies or cgroups yet); no OOM reaper, since a
killed process gives its memory back at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mmfs.mm_types import (
    GFP_ATOMIC,
    GFP_COMP_BIT,
    GFP_HIGHUSER,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    GFP_KERNEL_ACCOUNT,
    GFP_MOVABLE_BIT,
    GFP_NORETRY_BIT,
    GFP_NOWAIT,
    GFP_NOWARN_BIT,
    GFP_RECLAIMABLE_BIT,
    GFP_THISNODE_BIT,
    GFP_USER,
    GFP_ZERO_BIT,
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_SHMEMPAGES,
    MM_SWAPENTS,
    PAGE_SHIFT,
    VmEventItem,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

LONG_MIN: Final = -(1 << 63)
OOM_SCORE_ADJ_MIN: Final = -1000
LOG_ERR, LOG_WARNING, LOG_INFO = 3, 4, 6

# Linux: include/trace/events/mmflags.h, __def_gfpflag_names.
_GFP_NAMES: Final = (
    (GFP_HIGHUSER_MOVABLE, "GFP_HIGHUSER_MOVABLE"), (GFP_HIGHUSER, "GFP_HIGHUSER"), (GFP_USER, "GFP_USER"),
    (GFP_KERNEL_ACCOUNT, "GFP_KERNEL_ACCOUNT"), (GFP_KERNEL, "GFP_KERNEL"), (GFP_ATOMIC, "GFP_ATOMIC"),
    (GFP_NOWAIT, "GFP_NOWAIT"), (GFP_MOVABLE_BIT, "__GFP_MOVABLE"), (GFP_RECLAIMABLE_BIT, "__GFP_RECLAIMABLE"),
    (GFP_ZERO_BIT, "__GFP_ZERO"), (GFP_COMP_BIT, "__GFP_COMP"), (GFP_NORETRY_BIT, "__GFP_NORETRY"),
    (GFP_NOWARN_BIT, "__GFP_NOWARN"), (GFP_THISNODE_BIT, "__GFP_THISNODE"),
)  # fmt: skip


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


class OomKiller:
    """The OOM killer of a machine; `kill` sends SIGKILL and tells whether that freed memory at once."""

    def __init__(self, kernel: Kernel, kill: Callable[[Task], bool]) -> None:
        self.kernel = kernel
        self.kill = kill

    def out_of_memory(self, gfp: int, order: int) -> bool:
        """Kill the worst process; False if there is none or it cannot go yet. Linux: out_of_memory().

        Simplified: where Linux panics because nobody can be killed, the allocation fails.
        """
        current = self.kernel.tasks.current
        self._dump_header(current, gfp, order)
        allocating = self.kernel.vm.oom_kill_allocating_task and current is not None and current.alive
        if allocating and current is not None and oom_badness(current, 1000) != LONG_MIN:
            return self._oom_kill_process(current, "Out of memory (oom_kill_allocating_task)")
        victim = self.select_bad_process()
        if victim is None:
            self.kernel.printk.emit("Out of memory and no killable processes...", LOG_WARNING)
            return False
        return self._oom_kill_process(victim, "Out of memory")

    def select_bad_process(self) -> Task | None:
        """The process with the highest badness; of equals, the youngest. Linux: select_bad_process()."""
        totalpages = oom_totalpages(self.kernel)
        chosen, chosen_points = None, LONG_MIN
        for task in self.kernel.tasks.values():
            if task.pid == task.tgid:
                points = oom_badness(task, totalpages)
                if points != LONG_MIN and points >= chosen_points:
                    chosen, chosen_points = task, points
        return chosen

    def _oom_kill_process(self, victim: Task, message: str) -> bool:
        """Linux: mm/oom_kill.c, oom_kill_process(), __oom_kill_process()."""
        kernel, mm = self.kernel, victim.mm
        if mm is None:
            mm = next(thread.mm for thread in victim.threads if thread.mm is not None)
        kernel.vmstat.count_vm_events(VmEventItem.OOM_KILL)
        nodes = ",".join(str(pgdat.node_id) for pgdat in kernel.node_data if pgdat.node_present_pages)
        kernel.printk.emit(
            f"oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed={nodes},global_oom,"
            f"task_memcg={victim.cgroup},task={victim.comm},pid={victim.pid},uid={victim.uid}",
            LOG_INFO,
        )
        anon, file, shmem = (mm.get_mm_counter(m) << 2 for m in (MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES))
        kernel.printk.emit(
            f"{message}: Killed process {victim.pid} ({victim.comm}) total-vm:{mm.total_vm << 2}kB, "
            f"anon-rss:{anon}kB, file-rss:{file}kB, shmem-rss:{shmem}kB, UID:{victim.uid} "
            f"pgtables:{mm.pgtables_bytes >> 10}kB oom_score_adj:{victim.oom_score_adj}",
            LOG_ERR,
        )
        sharers = [t for t in kernel.tasks.values() if t.mm is mm and t.tgid != victim.tgid and t.pid == t.tgid]
        freed = self.kill(victim)
        for task in sharers:
            if not oom_unkillable_task(task):
                self.kill(task)
        return freed

    def _dump_header(self, current: Task | None, gfp: int, order: int) -> None:
        """Say who wanted memory, and list the candidates. Linux: dump_header(), dump_tasks()."""
        emit = self.kernel.printk.emit
        comm, adj = (current.comm, current.oom_score_adj) if current is not None else ("swapper/0", 0)
        emit(
            f"{comm} invoked oom-killer: gfp_mask={gfp:#x}({gfp_flag_names(gfp)}), order={order}, oom_score_adj={adj}",
            LOG_WARNING,
        )
        if not self.kernel.vm.oom_dump_tasks:
            return
        emit("Tasks state (memory values in pages):", LOG_INFO)
        emit(
            "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents "
            "oom_score_adj name",
            LOG_INFO,
        )
        for task in self.kernel.tasks.values():
            if task.pid == task.tgid and not oom_unkillable_task(task):
                self._dump_task(task)

    def _dump_task(self, task: Task) -> None:
        """Linux: mm/oom_kill.c, dump_task()."""
        holder = find_lock_task_mm(task)
        if holder is None or holder.mm is None:
            return
        mm = holder.mm
        anon, file, shmem, swap = (
            mm.get_mm_counter(m) for m in (MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS)
        )
        self.kernel.printk.emit(
            f"[{task.pid:7d}] {task.uid:5d} {task.tgid:5d} {mm.total_vm:8d} {mm.rss:8d} {anon:8d} {file:8d} "
            f"{shmem:9d} {mm.pgtables_bytes:8d} {swap:8d}         {task.oom_score_adj:5d} {task.comm}",
            LOG_INFO,
        )


def gfp_flag_names(gfp: int) -> str:
    """Allocation flags by their names, compound ones first. Linux: lib/vsprintf.c, format_flags()."""
    names = []
    for mask, name in _GFP_NAMES:
        if mask and gfp & mask == mask:
            names.append(name)
            gfp &= ~mask
    return "|".join(names) if not gfp else "|".join([*names, f"{gfp:#x}"])
