"""Memory cgroups as cgroup v1 has them: memory and swap counted together, limits that can be refused.

The second counter of a cgroup (`MemCgroup.swap`) counts memory and swap together here (memsw): a page that is swapped
out stays charged to it, with its slot instead of its frame. A limit that reclaim cannot reach is refused (EBUSY) where
cgroup v2 kills; with `oom_kill_disable` a task whose page fault cannot be charged sleeps until there is room. The soft
limit can be written and has no effect in 6.12.

Linux: mm/memcontrol-v1.c.

Simplified: nor has it with the profiles of 6.1 and 7.0, where Linux reclaims by it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from mmfs.mm import memcg_stat
from mmfs.mm_types import (
    GFP_KERNEL,
    NR_LRU_LISTS,
    PAGE_SIZE,
    MemcgStatItem,
    NodeStatItem,
    VmEventItem,
)
from mmfs.profile import since

if TYPE_CHECKING:
    from mmfs.kernel.task import Task
    from mmfs.mm.mem_cgroup import MemCgroup
    from mmfs.mm.memcontrol import MemCgroups

MAX_RECLAIM_RETRIES: Final = 16
LOG_WARNING: Final = 4
TASK_INTERRUPTIBLE: Final = "S"
TASK_UNINTERRUPTIBLE: Final = "D"
OOM_WAIT: Final = "memcg_oom_waitq"
OOM_WAIT_NS: Final = 10_000_000

_S, _N, _E = MemcgStatItem, NodeStatItem, VmEventItem
MEMCG1_STATS: Final[tuple[tuple[str, MemcgStatItem | NodeStatItem], ...]] = (
    ("cache", _N.NR_FILE_PAGES),
    ("rss", _N.NR_ANON_MAPPED),
    ("rss_huge", _N.NR_ANON_THPS),
    ("shmem", _N.NR_SHMEM),
    ("mapped_file", _N.NR_FILE_MAPPED),
    ("dirty", _N.NR_FILE_DIRTY),
    ("writeback", _N.NR_WRITEBACK),
    ("workingset_refault_anon", _N.WORKINGSET_REFAULT_ANON),
    ("workingset_refault_file", _N.WORKINGSET_REFAULT_FILE),
    ("swap", _S.MEMCG_SWAP),
    ("swapcached", _N.NR_SWAPCACHE),
)
STAT_NEEDS: Final = {"swapcached": since(6, 12)}
"""The rows that not all kernels have."""
MEMCG1_EVENTS: Final = (_E.PGPGIN, _E.PGPGOUT, _E.PGFAULT, _E.PGMAJFAULT)
LRU_NAMES: Final = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")
NUMA_STATS: Final = (
    ("total", range(NR_LRU_LISTS)),
    ("file", (2, 3)),
    ("anon", (0, 1)),
    ("unevictable", (4,)),
)
REPORT: Final = "Please report your usecase to linux-mm@kvack.org if you depend on this functionality."
DEPRECATED: Final = {
    "kmem.limit_in_bytes": "kmem.limit_in_bytes is deprecated and will be removed. "
    f"Writing any value to this file has no effect. {REPORT}",
    "kmem.tcp.limit_in_bytes": f"kmem.tcp.limit_in_bytes is deprecated and will be removed. {REPORT}",
    "soft_limit_in_bytes": "soft_limit_in_bytes is deprecated and will be removed. "
    f"Writing any value to this file has no effect. {REPORT}",
    "use_hierarchy": f"Non-hierarchical mode is deprecated. {REPORT}",
    "oom_control": f"oom_control is deprecated and will be removed. {REPORT}",
    "move_charge_at_immigrate": f"Cgroup memory moving (move_charge_at_immigrate) is deprecated. {REPORT}",
}


def warn_once(memcg: MemCgroup, name: str) -> None:
    """The kernel says once that a file will go. Linux: pr_warn_once()."""
    owner = memcg.owner
    if name not in owner.warned:
        owner.warned.add(name)
        owner.kernel.printk.emit(DEPRECATED[name], LOG_WARNING)


# -- limits --------------------------------------------------------------------------------------------------------


def usage(memcg: MemCgroup, swap: bool) -> int:
    """Pages in use, with swap or without; the root's are those of the machine. Linux: mem_cgroup_usage()."""
    if not memcg.is_root:
        return memcg.swap.usage if swap else memcg.memory.usage
    kernel = memcg.owner.kernel
    state = kernel.vmstat.global_node_page_state
    pages = state(NodeStatItem.NR_FILE_PAGES) + state(NodeStatItem.NR_ANON_MAPPED)
    return pages + kernel.total_swap_pages - kernel.nr_swap_pages if swap else pages


def resize_max(memcg: MemCgroup, pages: int, memsw: bool) -> None:
    """Set a limit, with reclaim down to it: EINVAL if that of memory passed that of memory and swap, EBUSY.

    Linux: mem_cgroup_resize_max().
    """
    owner, counter, drained = memcg.owner, memcg.swap if memsw else memcg.memory, False
    if pages < memcg.memory.max if memsw else pages > memcg.swap.max:
        raise OSError(errno.EINVAL, "memory may not have more than memory and swap together")
    enlarge = pages > counter.max
    with owner.for_a_writer():
        while not counter.set_max(pages):
            if not drained:
                owner.fast.drain_all_stock(memcg.row)
                drained = True
            elif not owner.kernel.reclaim.try_to_free_mem_cgroup_pages(None, memcg, 1, GFP_KERNEL, may_swap=not memsw):
                raise OSError(errno.EBUSY, f"{memcg.path} uses more, and nothing can be reclaimed")
    if enlarge:
        oom_recover(memcg)


def force_empty(memcg: MemCgroup) -> None:
    """Reclaim all that can be. Linux: mem_cgroup_force_empty()."""
    owner, retries = memcg.owner, MAX_RECLAIM_RETRIES
    owner.kernel.lru.lru_add_drain_all()
    owner.fast.drain_all_stock(memcg.row)
    with owner.for_a_writer():
        while retries and memcg.memory.usage:
            if not owner.kernel.reclaim.try_to_free_mem_cgroup_pages(None, memcg, 1, GFP_KERNEL):
                retries -= 1


# -- waiting instead of killing ----------------------------------------------------------------------------------------


def oom_synchronize(memcgs: MemCgroups, task: Task) -> bool:
    """If a fault has failed because its cgroup does not kill: the task sleeps. Linux: mem_cgroup_oom_synchronize()."""
    memcg, memcgs.in_oom = memcgs.in_oom, None
    if memcg is None:
        return False
    for one in memcg.descendants():
        one.under_oom += 1
    task.state, task.wchan = TASK_UNINTERRUPTIBLE, "mem_cgroup_oom_synchronize"
    if not memcgs.oom_waiters:
        memcgs.kernel.clock.call_every(OOM_WAIT, OOM_WAIT_NS, partial(_look_for_room, memcgs))
    memcg.css_get()
    memcgs.oom_waiters[task] = memcg
    return True


def _look_for_room(memcgs: MemCgroups) -> None:
    """Wake those for whom there is room by now.

    Simplified: every ten milliseconds, not with each page that is given back.
    """
    for task, memcg in list(memcgs.oom_waiters.items()):
        if not task.alive or memcg.margin:
            wake(memcgs, task)


def wake(memcgs: MemCgroups, task: Task) -> None:
    """A task that has slept at a limit tries again."""
    memcg = memcgs.oom_waiters.pop(task)
    for one in memcg.descendants():
        one.under_oom = max(one.under_oom - 1, 0)
    if not memcgs.oom_waiters:
        memcgs.kernel.clock.forget(OOM_WAIT)
    memcg.css_put()
    if task.alive:
        task.state, task.wchan = TASK_INTERRUPTIBLE, "0"
        if memcgs.kernel.workload is not None:
            memcgs.kernel.workload.wake(task)


def oom_recover(memcg: MemCgroup) -> None:
    """Something has been done about it: those who wait at it, above or below try again. Linux: memcg1_oom_recover()."""
    memcgs = memcg.owner
    for task, limit in list(memcgs.oom_waiters.items()):
        if limit.is_descendant(memcg) or memcg.is_descendant(limit):
            wake(memcgs, task)


# -- what memory.stat tells ------------------------------------------------------------------------------------------


def stat_rows(memcg: MemCgroup) -> Iterator[tuple[str, int]]:
    """The rows of memory.stat: of the cgroup alone, its limits, then with all below. Linux: memcg1_stat_format()."""
    memcg.owner.fast.flush()
    unit, owner = memcg_stat.output_unit, memcg.owner
    stats = [row for row in MEMCG1_STATS if row[0] not in STAT_NEEDS or STAT_NEEDS[row[0]](owner)]
    for name, item in stats:
        yield name, memcg_stat.page_state(memcg, item, local=True) * unit(item)
    for event in MEMCG1_EVENTS:
        yield event.name.lower(), memcg_stat.events(memcg, event, local=True)
    for lru, name in enumerate(LRU_NAMES):
        yield name, memcg_stat.page_state(memcg, NodeStatItem(lru), local=True) * PAGE_SIZE
    limits = [*memcg.ancestors(), memcg.owner.root]
    yield "hierarchical_memory_limit", min(one.memory.max for one in limits) * PAGE_SIZE
    yield "hierarchical_memsw_limit", min(one.swap.max for one in limits) * PAGE_SIZE
    for name, item in stats:
        yield f"total_{name}", memcg_stat.page_state(memcg, item) * unit(item)
    for event in MEMCG1_EVENTS:
        yield f"total_{event.name.lower()}", memcg_stat.events(memcg, event)
    for lru, name in enumerate(LRU_NAMES):
        yield f"total_{name}", memcg_stat.page_state(memcg, NodeStatItem(lru)) * PAGE_SIZE


def numa_rows(memcg: MemCgroup, nodes: list[int]) -> Iterator[tuple[str, list[int]]]:
    """The rows of memory.numa_stat: pages by node, here, then with all below. Linux: memcg_numa_stat_show()."""
    owner, vmstat = memcg.owner, memcg.owner.kernel.vmstat
    owner.fast.flush()
    first = memcg.row * owner.fast.nr_nodes
    for prefix, table in (("", vmstat.lruvec_stat), ("hierarchical_", vmstat.lruvec_total)):
        for name, lists in NUMA_STATS:
            yield f"{prefix}{name}", [max(sum(int(table[first + nid, lru]) for lru in lists), 0) for nid in nodes]

