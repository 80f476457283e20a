"""Memory cgroups: limits, protection and accounts for groups of processes.

What a cgroup's processes use is charged to it and to all above it: anonymous memory, the page cache (to whoever touched
a page first), page tables, kernel stacks. The fast path charges as long as no limit is in the way
(fastpath/memcontrol.py); here is what happens at one: reclaim from the cgroup that is full, then its own OOM killer;
above `memory.high`, reclaim and sleep before the task goes on. A cgroup that is removed stays, dying, until all that
was charged to it is gone: reclaim takes its pages first.

Linux: mm/memcontrol.c.

Simplified: slab objects and zswap's copies are not charged; sockets, percpu memory and vmalloc areas neither.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOMEM
from typing import TYPE_CHECKING, Any, Final

from mmfs.mm.cgroup_defs import CgroupSubsys, CgroupSubsysState, Migration
from mmfs.mm.page_counter import PageCounter
from mmfs.mm_types import (
    GFP_DIRECT_RECLAIM_BIT,
    GFP_HIGH_BIT,
    GFP_KERNEL,
    GFP_NOFAIL_BIT,
    GFP_NORETRY_BIT,
    GFP_RETRY_MAYFAIL_BIT,
    MAX_MEMCGS,
    MEMCG_CHARGE_BATCH,
    MEMCG_COUNTER_KMEM,
    MEMCG_COUNTER_MEMORY,
    MEMCG_COUNTER_SWAP,
    PAGE_ALLOC_COSTLY_ORDER,
    SWAP_CLUSTER_MAX,
    MemcgMemoryEvent,
)

if TYPE_CHECKING:
    from mmfs.fastpath.memcontrol import Memcontrol
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

MAX_RECLAIM_RETRIES: Final = 16
HZ: Final = 250
NSEC_PER_JIFFY: Final = 1_000_000_000 // HZ
MEMCG_MAX_HIGH_DELAY_JIFFIES: Final = 2 * HZ
MEMCG_DELAY_PRECISION_SHIFT: Final = 20
MEMCG_DELAY_SCALING_SHIFT: Final = 14
PF_MEMALLOC: Final = 0x0000_0800


class MemCgroup(CgroupSubsysState):
    """One memory cgroup. Linux: struct mem_cgroup.

    ``row`` is its number in the fast path's arrays.
    """

    parent: MemCgroup | None

    def __init__(self, owner: MemCgroups, row: int, parent: MemCgroup | None) -> None:
        super().__init__()
        fast = owner.fast
        self.owner = owner
        self.row = row
        self.parent = parent
        self.children: list[MemCgroup] = []
        """Those that are dying included."""
        self.oom_group = False
        self.swappiness: int = owner.kernel.vm.swappiness if parent is None else parent.swappiness
        """Of cgroup v1 only."""
        self.peaks: dict[str, list[Any]] = {}
        """By counter: the peaks of open files that have asked for one of their own. Linux: memory_peaks, swap_peaks."""
        self.positions: dict[int, MemCgroup | None] = {}
        """Where direct reclaim from here on has stopped, by node. Linux: struct mem_cgroup_reclaim_iter."""
        above: tuple[PageCounter | None, ...] = (
            (None, None, None) if parent is None else (parent.memory, parent.swap, parent.kmem)
        )
        self.memory: PageCounter = PageCounter(fast, row, MEMCG_COUNTER_MEMORY, above[0])
        self.swap: PageCounter = PageCounter(fast, row, MEMCG_COUNTER_SWAP, above[1])
        self.kmem: PageCounter = PageCounter(fast, row, MEMCG_COUNTER_KMEM, above[2])
        if parent is not None:
            parent.children.append(self)

    def __repr__(self) -> str:
        return f"<memcg {self.row} {self.path}>"

    @property
    def path(self) -> str:
        """The path of its cgroup."""
        return "/" if self.is_root else self.cgroup.path

    @property
    def zswap_max(self) -> int:
        """Pages that zswap may take for it."""
        return int(self.owner.fast.zswap_maxes[self.row])

    @zswap_max.setter
    def zswap_max(self, pages: int) -> None:
        self.owner.fast.zswap_maxes[self.row] = pages

    @property
    def zswap_writeback(self) -> bool:
        """Whether what zswap does not keep may go to a disk."""
        return not self.owner.fast.no_zswap_writebacks[self.row]

    @zswap_writeback.setter
    def zswap_writeback(self, allowed: bool) -> None:
        self.owner.fast.no_zswap_writebacks[self.row] = not allowed

    @property
    def is_root(self) -> bool:
        """Linux: mem_cgroup_is_root()."""
        return self.parent is None

    @property
    def charged(self) -> int:
        """Pages and swap slots that are charged to it and not to one below."""
        return int(self.owner.fast.refs[self.row])

    def descendants(self) -> Iterator[MemCgroup]:
        """It and those below, parents before their children. Linux: mem_cgroup_iter()."""
        yield self
        for child in self.children:
            yield from child.descendants()

    def ancestors(self) -> Iterator[MemCgroup]:
        """It and those above it but the root."""
        memcg = self
        while memcg.parent is not None:
            yield memcg
            memcg = memcg.parent

    def is_descendant(self, root: MemCgroup) -> bool:
        """Whether it is `root` or below it. Linux: mem_cgroup_is_descendant()."""
        memcg: MemCgroup | None = self
        while memcg is not None and memcg is not root:
            memcg = memcg.parent
        return memcg is root

    @property
    def margin(self) -> int:
        """Pages that may be charged before its limit is hit. Linux: mem_cgroup_margin()."""
        margin = max(self.memory.max - self.memory.usage, 0)
        if self.owner.fast.memsw:
            margin = min(margin, max(self.swap.max - self.swap.usage, 0))
        return margin

    @property
    def max_pages(self) -> int:
        """Memory and swap that it may have at most. Linux: mem_cgroup_get_max()."""
        kernel, limit = self.owner.kernel, self.memory.max
        if not self.owner.swappiness(self):
            return limit
        swap = self.swap.max - limit if self.owner.fast.memsw else self.swap.max
        return limit + min(swap, kernel.total_swap_pages)

    def event(self, event: MemcgMemoryEvent) -> None:
        """Count an event of memory.events, and tell who watches. Linux: memcg_memory_event()."""
        self.owner.fast.memory_event(self.row, event)
        swap = event >= MemcgMemoryEvent.MEMCG_SWAP_HIGH
        if not self.is_root and not swap:
            self.cgroup.file_notify("memory.events.local")
        for memcg in self.ancestors():
            memcg.cgroup.file_notify("memory.swap.events" if swap else "memory.events")

    # -- protection -----------------------------------------------------------------------------------------

    def calculate_protection(self, target: MemCgroup | None) -> None:
        """How much is protected against reclaim from `target` (None: the root) on; it is asked parents first."""
        root = target or self.owner.root
        self.memory.calculate_protection(root.memory, self.owner.recursive_protection)

    def protection(self, target: MemCgroup | None) -> tuple[int, int]:
        """(min, low) against reclaim from `target` on. Linux: mem_cgroup_protection()."""
        if self is (target or self.owner.root):
            return 0, 0
        return self.memory.emin, self.memory.elow

    def _protected(self, target: MemCgroup | None) -> bool:
        return self.parent is not None and self is not target

    def below_min(self, target: MemCgroup | None) -> bool:
        """Whether all of it is protected. Linux: mem_cgroup_below_min()."""
        return self._protected(target) and self.memory.emin >= self.memory.usage

    def below_low(self, target: MemCgroup | None) -> bool:
        """Whether it is protected as long as others have something. Linux: mem_cgroup_below_low()."""
        return self._protected(target) and self.memory.elow >= self.memory.usage


def calculate_overage(usage: int, high: int) -> int:
    """By how much a high mark is passed, as a fraction of it shifted by 20. Linux: calculate_overage()."""
    return 0 if usage <= high else (usage - high << MEMCG_DELAY_PRECISION_SHIFT) // max(high, 1)


def calculate_high_delay(nr_pages: int, max_overage: int) -> int:
    """How many jiffies a task sleeps that has charged so much above the mark. Linux: calculate_high_delay()."""
    jiffies = max_overage * max_overage * HZ >> MEMCG_DELAY_PRECISION_SHIFT + MEMCG_DELAY_SCALING_SHIFT
    return jiffies * nr_pages // MEMCG_CHARGE_BATCH


class MemCgroups(CgroupSubsys):
    """All memory cgroups of a machine, by row. ``recursive_protection``: mounted with memory_recursiveprot."""

    name = "memory"

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.fast: Memcontrol = kernel.lru.memcg
        self.rows: dict[int, MemCgroup] = {}
        self._free_rows: list[int] = []
        self._dying: list[MemCgroup] = []
        self.recursive_protection = False
        self.root = MemCgroup(self, 0, None)
        self.root.online = True
        self.rows[0] = self.root

    # -- beginning and end ----------------------------------------------------------------------------------

    def css_alloc(self, parent: MemCgroup | None) -> MemCgroup:
        """A new cgroup below `parent`. Raises OSError(ENOMEM). Linux: mem_cgroup_css_alloc()."""
        if parent is None:
            return self.root
        self.reap()
        row = heapq.heappop(self._free_rows) if self._free_rows else len(self.rows)
        if row >= MAX_MEMCGS:
            raise OSError(ENOMEM, "there are as many memory cgroups as there can be")
        self.fast.init(row, parent.row)
        self.kernel.lru.init_lruvecs(row)
        self.kernel.lru_gen.online_memcg(row)
        memcg = self.rows[row] = MemCgroup(self, row, parent)
        return memcg

    def css_offline(self, memcg: MemCgroup) -> None:
        """Its directory is removed: what is charged to it holds it. Linux: mem_cgroup_css_offline()."""
        memcg.css_get()
        self.fast.alives[memcg.row] = 0
        memcg.memory.min = memcg.memory.low = 0
        self.kernel.lru_gen.offline_memcg(memcg.row)
        self.fast.drain_all_stock(memcg.row)
        self._dying.append(memcg)

    def reap(self) -> None:
        """Let go of dying cgroups that nothing is charged to any more."""
        gone = [memcg for memcg in self._dying if not memcg.charged]
        if gone:
            self._dying = [memcg for memcg in self._dying if memcg.charged]
            for memcg in gone:
                memcg.css_put()

    def css_free(self, memcg: MemCgroup) -> None:
        """Nothing holds it any more. Linux: mem_cgroup_css_free()."""
        assert memcg.parent is not None
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

    def attach(self, tset: list[Migration]) -> None:
        """Threads have moved: what they use from now on is charged here. Linux: mem_cgroup_attach()."""
        for task, _, memcg in tset:
            self._attach(task, memcg)

    def _attach(self, task: Task, memcg: MemCgroup) -> None:
        task.memcg = memcg.row
        if task.mm is not None and task.pid == task.tgid:
            self.kernel.mmu.mms[task.mm.row]["memcg"] = memcg.row
        if self.kernel.tasks.current is task:
            self.fast.current = memcg.row

    # -- charging -------------------------------------------------------------------------------------------

    def try_charge(self, row: int, gfp: int, nr_pages: int = 1) -> bool:
        """Charge pages, with reclaim and the OOM killer if need be; False: it cannot be. Linux: try_charge_memcg()."""
        fast, task = self.fast, self.kernel.tasks.current
        raised, drained, passed_oom, retries, kills_in_vain = False, False, False, MAX_RECLAIM_RETRIES, 0
        while not fast.charge(row, nr_pages):
            over = self.rows[int(fast.failed)]
            if task is not None and task.flags & PF_MEMALLOC:
                return self._force(row, nr_pages, over, raised)
            if not gfp & GFP_DIRECT_RECLAIM_BIT or self.kernel.oom_killer.is_reaped_victim(task):
                break
            over.event(MemcgMemoryEvent.MEMCG_MAX)
            raised = True
            reclaimed = self.kernel.reclaim.try_to_free_mem_cgroup_pages(
                task, over, nr_pages, gfp, may_swap=not fast.failed_swap
            )
            if over.margin >= nr_pages:
                continue
            if not drained:
                fast.drain_all_stock(over.row)
                drained = True
                continue
            if gfp & GFP_NORETRY_BIT:
                break
            if reclaimed and nr_pages <= 1 << PAGE_ALLOC_COSTLY_ORDER:
                continue
            retries -= 1
            if retries >= 0:
                continue
            if gfp & GFP_RETRY_MAYFAIL_BIT or (passed_oom and self._is_dying(task)):
                break
            before = over.memory.usage
            if not self.oom(over, gfp, (nr_pages - 1).bit_length()):
                break
            kills_in_vain = kills_in_vain + 1 if over.memory.usage >= before else 0
            if kills_in_vain > MAX_RECLAIM_RETRIES:
                break  # who was killed cannot die while we wait for it
            passed_oom, retries = True, MAX_RECLAIM_RETRIES
        else:
            return True
        if gfp & (GFP_NOFAIL_BIT | GFP_HIGH_BIT):
            return self._force(row, nr_pages, over, raised)
        return False

    def _force(self, row: int, nr_pages: int, over: MemCgroup, raised: bool) -> bool:
        if not raised:
            over.event(MemcgMemoryEvent.MEMCG_MAX)
        self.fast.force_charge(row, nr_pages)
        return True

    def make_room(self, gfp: int) -> bool:
        """The fast path could not charge a page: charge it, for it to find when it tries again."""
        row = int(self.fast.failed_for)
        if not self.try_charge(row, gfp):
            return False
        self.fast.give_stock(row, 1)
        return True

    def alloc_kmem_page(self, gfp: int, nid: int | None = None) -> int:
        """A page for the kernel that the running task's cgroup pays for, or -1. Linux: __memcg_kmem_charge_page()."""
        row, page_alloc = int(self.fast.current), self.kernel.page_alloc
        if row and not self.try_charge(row, gfp):
            return -1
        pfn = page_alloc.alloc_pages(gfp) if nid is None else page_alloc.alloc_pages(gfp, 0, nid)
        if pfn >= 0:
            self.fast.commit_kmem(pfn, row)
        elif row:
            self.fast.give_stock(row, 1)
        return int(pfn)

    def charge_kmem(self, pages: list[int], gfp: int = GFP_KERNEL) -> None:
        """Have the running task's cgroup pay for pages that the kernel has. Raises OSError(ENOMEM)."""
        row = int(self.fast.current)
        for done, pfn in enumerate(pages):
            if row and not self.try_charge(row, gfp):
                self.uncharge_kmem(pages[:done])
                raise OSError(ENOMEM, "the memory cgroup is full")
            self.fast.commit_kmem(pfn, row)

    def uncharge_kmem(self, pages: list[int]) -> None:
        """Such pages are given back."""
        for pfn in pages:
            self.fast.uncharge_kmem(pfn)

    def free_kmem_page(self, pfn: int) -> None:
        """Give such a page back."""
        self.fast.uncharge_kmem(pfn)
        self.kernel.page_alloc.free_pages(pfn)

    def oom(self, memcg: MemCgroup, gfp: int, order: int) -> bool:
        """Kill somebody in a cgroup that is full; whether it makes sense to try again. Linux: mem_cgroup_oom()."""
        if order > PAGE_ALLOC_COSTLY_ORDER:
            return False
        memcg.event(MemcgMemoryEvent.MEMCG_OOM)
        return self.out_of_memory(memcg, gfp, order)

    def out_of_memory(self, memcg: MemCgroup, gfp: int, order: int) -> bool:
        """Linux: mem_cgroup_out_of_memory()."""
        if memcg.margin >= 1 << order:
            return True
        return self._is_dying(self.kernel.tasks.current) or self.kernel.oom_killer.out_of_memory(
            gfp, order, memcg=memcg
        )

    def _is_dying(self, task: Task | None) -> bool:
        return task is not None and self.kernel.oom_killer.is_dying(task)

    # -- memory.high ----------------------------------------------------------------------------------------

    def handle_over_high(self, task: Task, gfp: int = GFP_KERNEL) -> None:
        """A task that has charged above a high mark returns to user mode: reclaim, then sleep.

        Linux: mem_cgroup_handle_over_high().
        """
        nr_pages = int(self.fast.over_high_pages)
        if not nr_pages:
            return
        self.fast.over_high_pages = 0
        memcg, retries, wanted = self.from_task(task), MAX_RECLAIM_RETRIES, nr_pages
        while not self.kernel.oom_killer.is_dying(task):
            reclaimed = self._reclaim_high(task, memcg, wanted, gfp)
            jiffies = calculate_high_delay(nr_pages, self._max_overage(memcg))
            jiffies += calculate_high_delay(nr_pages, self._max_swap_overage(memcg))
            jiffies = min(jiffies, MEMCG_MAX_HIGH_DELAY_JIFFIES)
            if jiffies <= HZ // 100:
                break
            if not reclaimed:
                retries -= 1
            if reclaimed or retries >= 0:
                wanted = SWAP_CLUSTER_MAX
                continue
            self.kernel.schedule_timeout(task, jiffies * NSEC_PER_JIFFY, memstall=True)
            break
        self.fast.over_high_pages = 0

    def _reclaim_high(self, task: Task, memcg: MemCgroup, nr_pages: int, gfp: int) -> int:
        """Linux: reclaim_high()."""
        reclaimed = 0
        for one in memcg.ancestors():
            if one.memory.usage > one.memory.high:
                one.event(MemcgMemoryEvent.MEMCG_HIGH)
                reclaimed += self.kernel.reclaim.try_to_free_mem_cgroup_pages(task, one, nr_pages, gfp)
        return reclaimed

    @staticmethod
    def _max_overage(memcg: MemCgroup) -> int:
        """Linux: mem_find_max_overage()."""
        return max((calculate_overage(one.memory.usage, one.memory.high) for one in memcg.ancestors()), default=0)

    def _max_swap_overage(self, memcg: MemCgroup) -> int:
        """Linux: swap_find_max_overage()."""
        found = 0
        if self.fast.memsw:
            return found
        for one in memcg.ancestors():
            overage = calculate_overage(one.swap.usage, one.swap.high)
            if overage:
                one.event(MemcgMemoryEvent.MEMCG_SWAP_HIGH)
            found = max(found, overage)
        return found

    @contextmanager
    def _for_a_writer(self) -> Iterator[None]:
        """Whoever writes a file is none of the simulated tasks."""
        tasks = self.kernel.tasks
        running, tasks.current = tasks.current, None
        try:
            yield
        finally:
            tasks.current = running if running is not None and tasks.get(running.pid) is running else None

    # -- setting limits -------------------------------------------------------------------------------------

    def set_memory_max(self, memcg: MemCgroup, pages: int) -> None:
        """memory.max: reclaim, then kill, until usage is below. Linux: memory_max_write()."""
        memcg.memory.max = pages
        with self._for_a_writer():
            self._reclaim_to_max(memcg, pages)

    def _reclaim_to_max(self, memcg: MemCgroup, pages: int) -> None:
        drained, retries, reclaim = False, MAX_RECLAIM_RETRIES, self.kernel.reclaim
        while memcg.memory.usage > pages:
            if not drained:
                self.fast.drain_all_stock(memcg.row)
                drained = True
            elif retries:
                if not reclaim.try_to_free_mem_cgroup_pages(None, memcg, memcg.memory.usage - pages, GFP_KERNEL):
                    retries -= 1
            else:
                memcg.event(MemcgMemoryEvent.MEMCG_OOM)
                before = memcg.memory.usage
                if not self.out_of_memory(memcg, GFP_KERNEL, 0) or memcg.memory.usage >= before:
                    break  # nobody to kill, or who was killed is in the middle of a call and frees its memory later

    def set_memory_high(self, memcg: MemCgroup, pages: int) -> None:
        """memory.high: reclaim what is above. Linux: memory_high_write()."""
        memcg.memory.high = pages
        with self._for_a_writer():
            self._reclaim_to_high(memcg, pages)

    def _reclaim_to_high(self, memcg: MemCgroup, pages: int) -> None:
        drained, retries, reclaim = False, MAX_RECLAIM_RETRIES, self.kernel.reclaim
        while memcg.memory.usage > pages:
            if not drained:
                self.fast.drain_all_stock(memcg.row)
                drained = True
            elif not reclaim.try_to_free_mem_cgroup_pages(None, memcg, memcg.memory.usage - pages, GFP_KERNEL):
                retries -= 1
                if retries < 0:
                    break

    def reclaim(self, memcg: MemCgroup, nr_to_reclaim: int, swappiness: int = -1) -> bool:
        """memory.reclaim: take so many pages; whether that could be done. Linux: memory_reclaim()."""
        with self._for_a_writer():
            return self._reclaim(memcg, nr_to_reclaim, swappiness)

    def _reclaim(self, memcg: MemCgroup, nr_to_reclaim: int, swappiness: int) -> bool:
        reclaimed, retries = 0, MAX_RECLAIM_RETRIES
        while reclaimed < nr_to_reclaim:
            if not retries:
                self.kernel.lru.lru_add_drain_all()
            got = self.kernel.reclaim.try_to_free_mem_cgroup_pages(
                None, memcg, (nr_to_reclaim - reclaimed) // 4, GFP_KERNEL, proactive=True, swappiness=swappiness
            )
            if not got:
                retries -= 1
                if retries < 0:
                    return False
            reclaimed += got
        return True
