# mypy: disable-error-code="misc"
"""What bears on a cgroup that has too much: memory.high slows it down, setting a limit and memory.reclaim shrink it.

Linux: mm/memcontrol.c, mem_cgroup_handle_over_high(), memory_max_write(), memory_high_write(), memory_reclaim().
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from mmfs.mm.memcontrol_charge import MAX_RECLAIM_RETRIES
from mmfs.mm_types import GFP_KERNEL, MEMCG_CHARGE_BATCH, SWAP_CLUSTER_MAX, MemcgMemoryEvent

if TYPE_CHECKING:
    from mmfs.kernel.task import Task
    from mmfs.mm.mem_cgroup import MemCgroup
    from mmfs.mm.memcontrol import MemCgroups

HZ: Final = 250
NSEC_PER_JIFFY: Final = 1_000_000_000 // HZ
MEMCG_MAX_HIGH_DELAY_JIFFIES: Final = 2 * HZ
MEMCG_DELAY_PRECISION_SHIFT: Final = 20
MEMCG_DELAY_SCALING_SHIFT: Final = 14


def calculate_overage(usage: int, high: int) -> int:
    """By how much a high mark is passed, as a fraction of it shifted by 20. Linux: calculate_overage()."""
    return 0 if usage <= high else (usage - high << MEMCG_DELAY_PRECISION_SHIFT) // max(high, 1)


def calculate_high_delay(nr_pages: int, max_overage: int) -> int:
    """How many jiffies a task sleeps that has charged so much above the mark. Linux: calculate_high_delay()."""
    jiffies = max_overage * max_overage * HZ >> MEMCG_DELAY_PRECISION_SHIFT + MEMCG_DELAY_SCALING_SHIFT
    return jiffies * nr_pages // MEMCG_CHARGE_BATCH


class Limits:
    """The part of `MemCgroups` that keeps cgroups within bounds."""

    # -- memory.high ----------------------------------------------------------------------------------------

    def handle_over_high(self: MemCgroups, task: Task, gfp: int = GFP_KERNEL) -> None:
        """A task that has charged above a high mark returns to user mode: reclaim, then sleep.

        Linux: mem_cgroup_handle_over_high().
        """
        nr_pages = int(self.fast.over_high_pages)
        if not nr_pages:
            return
        self.fast.over_high_pages = 0
        memcg, retries, wanted = self.from_task(task), MAX_RECLAIM_RETRIES, nr_pages
        while not self.kernel.oom_killer.is_dying(task):
            reclaimed = self.reclaim_high(task, memcg, wanted, gfp)
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

    def reclaim_high(self: MemCgroups, task: Task | None, memcg: MemCgroup, nr_pages: int, gfp: int) -> int:
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

    def _max_swap_overage(self: MemCgroups, memcg: MemCgroup) -> int:
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
    def for_a_writer(self: MemCgroups) -> Iterator[None]:
        """Whoever writes a file is none of the simulated tasks."""
        tasks = self.kernel.tasks
        running, tasks.current = tasks.current, None
        try:
            yield
        finally:
            tasks.current = running if running is not None and tasks.get(running.pid) is running else None

    # -- setting limits -------------------------------------------------------------------------------------

    def set_memory_max(self: MemCgroups, memcg: MemCgroup, pages: int) -> None:
        """memory.max: reclaim, then kill, until usage is below. Linux: memory_max_write()."""
        memcg.memory.max = pages
        with self.for_a_writer():
            self._reclaim_to_max(memcg, pages)

    def _reclaim_to_max(self: MemCgroups, memcg: MemCgroup, pages: int) -> None:
        drained, retries, reclaim = False, MAX_RECLAIM_RETRIES, self.kernel.reclaim
        while memcg.memory.usage > pages:
            if not drained:
                self.drain_all_stock(memcg)
                drained = True
            elif retries:
                if not reclaim.try_to_free_mem_cgroup_pages(None, memcg, memcg.memory.usage - pages, GFP_KERNEL):
                    retries -= 1
            else:
                memcg.event(MemcgMemoryEvent.MEMCG_OOM)
                before = memcg.memory.usage
                if not self.out_of_memory(memcg, GFP_KERNEL, 0) or memcg.memory.usage >= before:
                    break  # nobody to kill, or who was killed is in the middle of a call and frees its memory later

    def set_memory_high(self: MemCgroups, memcg: MemCgroup, pages: int) -> None:
        """memory.high: reclaim what is above. Linux: memory_high_write()."""
        memcg.memory.high = pages
        with self.for_a_writer():
            self._reclaim_to_high(memcg, pages)

    def _reclaim_to_high(self: MemCgroups, memcg: MemCgroup, pages: int) -> None:
        drained, retries, reclaim = False, MAX_RECLAIM_RETRIES, self.kernel.reclaim
        while memcg.memory.usage > pages:
            if not drained:
                self.drain_all_stock(memcg)
                drained = True
            elif not reclaim.try_to_free_mem_cgroup_pages(None, memcg, memcg.memory.usage - pages, GFP_KERNEL):
                retries -= 1
                if retries < 0:
                    break

    def reclaim(self: MemCgroups, memcg: MemCgroup, nr_to_reclaim: int, swappiness: int = -1) -> bool:
        """memory.reclaim: take so many pages; whether that could be done. Linux: memory_reclaim()."""
        with self.for_a_writer():
            return self._reclaim(memcg, nr_to_reclaim, swappiness)

    def _reclaim(self: MemCgroups, memcg: MemCgroup, nr_to_reclaim: int, swappiness: int) -> bool:
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
