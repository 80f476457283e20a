"""Memory cgroups: limits, protection and accounts for groups of processes.

What a cgroup's processes use is charged to it and to all above it: anonymous memory, the page cache (to whoever touched
a page first), page tables, kernel stacks, objects of the slab. The fast path charges as long as no limit is in the way
(fastpath/memcontrol.py, fastpath/obj_cgroup.py); at one there is reclaim from the cgroup that is full, then its own OOM
killer (memcontrol_charge.py); above `memory.high`, reclaim and sleep before the task goes on (memcontrol_limits.py).
Here is how cgroups begin and end, and whose a task is. A cgroup that is removed stays, dying, until all pages that were
charged to it are gone: reclaim takes them first. What is smaller than a page is its parent's from then on.

Linux: mm/memcontrol.c.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from errno import ENOMEM
from typing import TYPE_CHECKING, Final

from mmfs.mm import memcontrol_move
from mmfs.mm.cgroup_defs import CgroupSubsys, Migration
from mmfs.mm.mem_cgroup import Counters, MemCgroup
from mmfs.mm.memcontrol_charge import Charging
from mmfs.mm.memcontrol_limits import Limits
from mmfs.mm_types import MAX_MEMCGS, MemcgStatItem

if TYPE_CHECKING:
    from mmfs.fastpath.memcontrol import Memcontrol
    from mmfs.fastpath.obj_cgroup import ObjCgroups
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.memcontrol_move import MoveCharge

VMSTATS_BYTES: Final = (1568, 1088)
"""Bytes of struct memcg_vmstats and, a CPU, of memcg_vmstats_percpu."""
LRUVEC_STATS_BYTES: Final = (744, 496)
"""Bytes of struct lruvec_stats and, a CPU, of lruvec_stats_percpu, a node."""


class MemCgroups(Charging, Limits, CgroupSubsys):
    """All memory cgroups of a machine, by row. ``recursive_protection``: mounted with memory_recursiveprot."""

    name = "memory"

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.fast: Memcontrol = kernel.lru.memcg
        self.objcgs: ObjCgroups = kernel.mmu.folios.slub.objcg
        self.rows: dict[int, MemCgroup] = {}
        self._free_rows: list[int] = []
        self._free_ids: list[int] = []
        self._next_id = 1
        self._dying: list[MemCgroup] = []
        self.list_lrus: list[Callable[[int, int], None]] = []
        """Who has lists by cgroup, and is told that one is its parent's now. Linux: memcg_list_lrus."""
        self.recursive_protection = False
        self.warned: set[str] = set()
        """Of which files of cgroup v1 the log says that they will go."""
        self.in_oom: MemCgroup | None = None
        """Whose limit the last charge has hit that failed because nobody is to be killed. Linux: memcg_in_oom."""
        self.moving: MoveCharge | None = None
        """What follows a process that is about to move here, in cgroup v1."""
        self.oom_waiters: dict[Task, MemCgroup] = {}
        """Who sleeps at a limit, and at whose."""
        self.root = MemCgroup(self, 0, None)
        self.root.id = self._new_id()
        self.root.online = True
        self.rows[0] = self.root

    # -- beginning and end ----------------------------------------------------------------------------------

    def css_alloc(self, parent: MemCgroup | None) -> MemCgroup:
        """A new cgroup below `parent`. Raises OSError(ENOMEM). Linux: mem_cgroup_css_alloc()."""
        if parent is None:
            return self.root
        self.reap()
        objects = self._alloc_counters(parent)
        row = heapq.heappop(self._free_rows) if self._free_rows else len(self.rows)
        if row >= MAX_MEMCGS:
            self._free_counters(objects)
            raise OSError(ENOMEM, "there are as many memory cgroups as there can be")
        self.fast.init(row, parent.row)
        self.objcgs.online(row)
        self.kernel.lru.init_lruvecs(row)
        self.kernel.lru_gen.online_memcg(row)
        memcg = self.rows[row] = MemCgroup(self, row, parent)
        memcg.id = self._new_id()
        memcg.objects = objects
        return memcg

    def _new_id(self) -> int:
        """The lowest that is free. Linux: mem_cgroup_alloc(), its xa_alloc()."""
        if self._free_ids:
            return heapq.heappop(self._free_ids)
        self._next_id += 1
        return self._next_id - 1

    def from_id(self, number: int) -> MemCgroup | None:
        """Whose an id is. Linux: mem_cgroup_from_id()."""
        return next((memcg for memcg in self.rows.values() if memcg.id == number), None) if number else None

    def _alloc_counters(self, parent: MemCgroup) -> list[Counters]:
        """The parent pays for a cgroup's counters. Linux: mem_cgroup_alloc(), alloc_mem_cgroup_per_node_info()."""
        kernel, objects = self.kernel, list[Counters]()
        running, self.fast.current = int(self.fast.current), parent.row
        try:
            for size, percpu_size in (VMSTATS_BYTES, *[LRUVEC_STATS_BYTES] * self.fast.nr_nodes):
                obj = kernel.slab.kmalloc(size, "kmalloc-cg")
                percpu = kernel.percpu.alloc(percpu_size) if obj else None
                objects.append((obj, percpu))
                if percpu is None:
                    self._free_counters(objects)
                    raise OSError(ENOMEM, "no memory for a memory cgroup")
        finally:
            self.fast.current = running
        return objects

    def _free_counters(self, objects: list[Counters]) -> None:
        for obj, percpu in objects:
            self.kernel.slab.free_if(obj)
            if percpu is not None:
                self.kernel.percpu.free(percpu)

    def css_offline(self, memcg: MemCgroup) -> None:
        """Its directory is removed: what is charged to it holds it. Linux: mem_cgroup_css_offline()."""
        memcg.css_get()
        self.fast.alives[memcg.row] = 0
        memcg.memory.min = memcg.memory.low = 0
        self.kernel.lru_gen.offline_memcg(memcg.row)
        self.objcgs.offline(memcg.row)
        assert memcg.parent is not None
        self.kernel.mmu.folios.nodes.reparent(memcg.row)
        for reparent in self.list_lrus:
            reparent(memcg.row, memcg.parent.row)
        self.fast.drain_all_stock(memcg.row)
        self._dying.append(memcg)

    def reap(self) -> None:
        """Let go of dying cgroups that nothing is charged to any more, and of the ids of those with nothing in swap.

        Linux: mem_cgroup_id_put_many(), css_release().
        """
        for memcg in self._dying:
            if memcg.id and not self.kernel.vmstat.memcg_stat[memcg.row, MemcgStatItem.MEMCG_SWAP]:
                heapq.heappush(self._free_ids, memcg.id)
                memcg.id = 0
        gone = [memcg for memcg in self._dying if not memcg.charged]
        if gone:
            self._dying = [memcg for memcg in self._dying if memcg.charged]
            for memcg in gone:
                memcg.css_put()

    def css_free(self, memcg: MemCgroup) -> None:
        """Nothing holds it any more. Linux: mem_cgroup_css_free()."""
        assert memcg.parent is not None
        self._free_counters(memcg.objects)
        self.fast.clear(memcg.row)
        self.kernel.lru_gen.release_memcg(memcg.row)
        memcg.parent.children.remove(memcg)
        for other in memcg.ancestors():
            other.positions = {nid: at for nid, at in other.positions.items() if at is not memcg}
        self.root.positions = {nid: at for nid, at in self.root.positions.items() if at is not memcg}
        del self.rows[memcg.row]
        heapq.heappush(self._free_rows, memcg.row)
        memcg.row = -1

    # -- whose ----------------------------------------------------------------------------------------------

    def from_task(self, task: Task) -> MemCgroup:
        """The cgroup of a task. Linux: mem_cgroup_from_task()."""
        return self.rows[task.memcg]

    def swappiness(self, memcg: MemCgroup) -> int:
        """How readily anonymous memory of a cgroup is swapped. Linux: mem_cgroup_swappiness()."""
        return self.kernel.vm.swappiness if not self.fast.memsw or memcg.is_root else memcg.swappiness

    def oom_group(self, victim: Task, domain: MemCgroup | None) -> MemCgroup | None:
        """The highest cgroup up to `domain` whose processes go together. Linux: mem_cgroup_get_oom_group()."""
        domain, memcg = domain or self.root, self.from_task(victim)
        if self.fast.memsw or memcg.is_root or not memcg.is_descendant(domain):
            return None
        found = None
        for one in (*memcg.ancestors(), self.root):
            if one.oom_group:
                found = one
            if one is domain:
                break
        return found

    def can_attach(self, tset: list[Migration]) -> None:
        """OSError(ENOMEM): what is to follow a process has no room. Linux: memcg1_can_attach()."""
        if self.fast.memsw:
            memcontrol_move.can_attach(self, tset)

    def cancel_attach(self, tset: list[Migration]) -> None:
        """Linux: memcg1_cancel_attach()."""
        memcontrol_move.cancel_attach(self)

    def attach(self, tset: list[Migration]) -> None:
        """Threads have moved: what they use from now on is charged here. Linux: mem_cgroup_attach()."""
        for task, _, memcg in tset:
            self._attach(task, memcg)
        memcontrol_move.move_task(self)

    def _attach(self, task: Task, memcg: MemCgroup) -> None:
        task.memcg = memcg.row
        if task.mm is not None and task.pid == task.tgid:
            self.kernel.mmu.mms[task.mm.row]["memcg"] = memcg.row
        if self.kernel.tasks.current is task:
            self.fast.current = memcg.row
