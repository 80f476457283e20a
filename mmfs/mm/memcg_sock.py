"""What socket buffers hold is charged to the memory cgroup in which the socket was made, in pages.

On cgroup v2 it is memory like all other, and the row `sock` of memory.stat says how much of it this is. On v1 it counts
in kmem.tcp alone, and only of sockets that were made after a limit had been set there.

Linux: mm/memcontrol.c, mem_cgroup_sk_alloc(), mem_cgroup_charge_skmem(); mm/memcontrol-v1.c, memcg1_charge_skmem().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.mm_types import GFP_ATOMIC, GFP_KERNEL, MEMCG_CHARGE_BATCH, MEMCG_COUNTER_TCPMEM, MemcgStatItem

if TYPE_CHECKING:
    from mmfs.kernel.task import Task
    from mmfs.mm.mem_cgroup import MemCgroup
    from mmfs.mm.memcontrol import MemCgroups


def sk_alloc(owner: MemCgroups, task: Task) -> MemCgroup | None:
    """Who pays for a new socket; the socket holds it. None: nobody does. Linux: mem_cgroup_sk_alloc()."""
    memcg = owner.from_task(task)
    if memcg.is_root or (owner.fast.memsw and not memcg.tcpmem_active):
        return None
    memcg.css_get()
    return memcg


def charge_skmem(memcg: MemCgroup, nr_pages: int) -> bool:
    """Charge what has come in for a socket; False: only v1 refuses. Linux: mem_cgroup_charge_skmem()."""
    owner, fast = memcg.owner, memcg.owner.fast
    if fast.memsw:
        return bool(fast.counters.try_charge(memcg.row, MEMCG_COUNTER_TCPMEM, nr_pages) < 0)
    noted = int(fast.over_high_pages)
    owner.try_charge(memcg.row, GFP_ATOMIC, nr_pages)
    fast.mod_memcg_state(memcg.row, MemcgStatItem.MEMCG_SOCK, nr_pages)
    if fast.over_high_pages > noted:
        fast.over_high_pages = noted  # it comes in an interrupt: a worker reclaims, not the task that is interrupted
        with owner.for_a_writer():
            owner.reclaim_high(None, memcg, MEMCG_CHARGE_BATCH, GFP_KERNEL)
    return True


def uncharge_skmem(memcg: MemCgroup, nr_pages: int) -> None:
    """Linux: mem_cgroup_uncharge_skmem()."""
    owner, fast = memcg.owner, memcg.owner.fast
    if fast.memsw:
        fast.counters.uncharge(memcg.row, MEMCG_COUNTER_TCPMEM, nr_pages)
        return
    fast.mod_memcg_state(memcg.row, MemcgStatItem.MEMCG_SOCK, -nr_pages)
    fast.give_stock(memcg.row, nr_pages)
    if not memcg.online:
        owner.drain_all_stock(memcg)
