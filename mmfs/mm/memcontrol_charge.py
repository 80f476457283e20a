# mypy: disable-error-code="misc"
"""Charging where a limit is in the way: reclaim from the cgroup that is full, then its OOM killer.

As long as none is, the fast path charges alone (fastpath/memcontrol.py).

Linux: mm/memcontrol.c, try_charge_memcg(), mem_cgroup_oom(), __memcg_kmem_charge_page(), obj_cgroup_charge().
"""

from __future__ import annotations

from collections.abc import Sequence
from errno import ENOMEM
from typing import TYPE_CHECKING, Final

from mmfs.mm_types import (
    GFP_DIRECT_RECLAIM_BIT,
    GFP_HIGH_BIT,
    GFP_KERNEL,
    GFP_NOFAIL_BIT,
    GFP_NORETRY_BIT,
    GFP_RETRY_MAYFAIL_BIT,
    PAGE_ALLOC_COSTLY_ORDER,
    PAGE_SIZE,
    MemcgMemoryEvent,
)

if TYPE_CHECKING:
    from mmfs.kernel.task import Task
    from mmfs.mm.mem_cgroup import MemCgroup
    from mmfs.mm.memcontrol import MemCgroups

MAX_RECLAIM_RETRIES: Final = 16
PF_MEMALLOC: Final = 0x0000_0800


class Charging:
    """The part of `MemCgroups` that charges."""

    in_oom: MemCgroup | None

    def try_charge(self: MemCgroups, row: int, gfp: int, nr_pages: int = 1) -> bool:
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
                self.drain_all_stock(over)
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

    def _force(self: MemCgroups, row: int, nr_pages: int, over: MemCgroup, raised: bool) -> bool:
        if not raised:
            over.event(MemcgMemoryEvent.MEMCG_MAX)
        self.fast.force_charge(row, nr_pages)
        return True

    def drain_all_stock(self: MemCgroups, memcg: MemCgroup) -> None:
        """Give back what CPUs have charged in advance at or below a cgroup. Linux: drain_all_stock()."""
        self.objcgs.drain_all_stock(memcg.row)
        self.fast.drain_all_stock(memcg.row)

    def charge_objcg(self: MemCgroups, objcg: int, nr_pages: int, gfp: int = GFP_KERNEL) -> bool:
        """The fast path could not charge bytes: charge pages, for it to find when it tries again."""
        if not self.try_charge(int(self.objcgs.rows[objcg]), gfp, nr_pages):
            return False
        self.objcgs.give(objcg, nr_pages)
        return True

    def charge_bytes(self: MemCgroups, objcg: int, size: int) -> bool:
        """Charge bytes, with reclaim and the OOM killer if need be. Linux: obj_cgroup_charge()."""
        while not self.objcgs.charge(objcg, size, False):
            if not self.charge_objcg(objcg, -(-size // PAGE_SIZE)):
                return False
        return True

    def make_room(self: MemCgroups, gfp: int, row: int | None = None) -> bool:
        """The fast path could not charge a page: charge it, for it to find when it tries again."""
        row = int(self.fast.failed_for) if row is None else row
        if not self.try_charge(row, gfp):
            return False
        self.fast.give_stock(row, 1)
        return True

    def alloc_kmem_page(self: MemCgroups, gfp: int, nid: int | None = None) -> int:
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

    def charge_kmem(self: MemCgroups, pages: Sequence[int], gfp: int = GFP_KERNEL) -> None:
        """Have the running task's cgroup pay for pages that the kernel has. Raises OSError(ENOMEM)."""
        row = int(self.fast.current)
        for done, pfn in enumerate(pages):
            if row and not self.try_charge(row, gfp):
                self.uncharge_kmem(pages[:done])
                raise OSError(ENOMEM, "the memory cgroup is full")
            self.fast.commit_kmem(pfn, row)

    def uncharge_kmem(self: MemCgroups, pages: Sequence[int]) -> None:
        """Such pages are given back."""
        for pfn in pages:
            self.fast.uncharge_kmem(pfn)

    def free_kmem_page(self: MemCgroups, pfn: int) -> None:
        """Give such a page back."""
        self.fast.uncharge_kmem(pfn)
        self.kernel.page_alloc.free_pages(pfn)

    def oom(self: MemCgroups, memcg: MemCgroup, gfp: int, order: int) -> bool:
        """Kill somebody in a cgroup that is full; whether it makes sense to try again. Linux: mem_cgroup_oom()."""
        if order > PAGE_ALLOC_COSTLY_ORDER:
            return False
        memcg.event(MemcgMemoryEvent.MEMCG_OOM)
        if memcg.oom_kill_disable:
            self.in_oom = memcg
            return False
        return self.out_of_memory(memcg, gfp, order)

    def out_of_memory(self: MemCgroups, memcg: MemCgroup, gfp: int, order: int) -> bool:
        """Linux: mem_cgroup_out_of_memory()."""
        if memcg.margin >= 1 << order:
            return True
        return self._is_dying(self.kernel.tasks.current) or self.kernel.oom_killer.out_of_memory(
            gfp, order, memcg=memcg
        )

    def _is_dying(self: MemCgroups, task: Task | None) -> bool:
        return task is not None and self.kernel.oom_killer.is_dying(task)
