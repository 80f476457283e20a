"""One memory cgroup: its counters, its place in the tree, what of it is protected.

Linux: include/linux/memcontrol.h, struct mem_cgroup; mm/memcontrol.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mmfs.mm.cgroup_defs import CgroupSubsysState
from mmfs.mm.page_counter import PageCounter
from mmfs.mm_types import (
    MEMCG_COUNTER_KMEM,
    MEMCG_COUNTER_MEMORY,
    MEMCG_COUNTER_SWAP,
    MEMCG_COUNTER_TCPMEM,
    MemcgMemoryEvent,
)

if TYPE_CHECKING:
    from mmfs.mm.memcontrol import MemCgroups
    from mmfs.mm.percpu import PercpuObject

Counters = tuple[int, "PercpuObject | None"]
"""A cgroup's counters of one kind: their object of the slab and their percpu memory."""


class MemCgroup(CgroupSubsysState):
    """One memory cgroup. Linux: struct mem_cgroup.

    ``row`` is its number in the fast path's arrays.
    """

    parent: MemCgroup | None

    def __init__(self, owner: MemCgroups, row: int, parent: MemCgroup | None) -> None:
        super().__init__()
        counters = owner.fast.counters
        self.owner = owner
        self.row = row
        self.id = 0
        """What swap and debugfs know it by; 0 once it is removed and has nothing in swap. Linux: mem_cgroup_id."""
        self.parent = parent
        self.children: list[MemCgroup] = []
        """Those that are dying included."""
        self.oom_group = False
        self.swappiness: int = 0 if parent is None else owner.swappiness(parent)
        """Of cgroup v1 only, as the next five; the root's is the machine's."""
        self.oom_kill_disable: bool = parent is not None and parent.oom_kill_disable
        """Whether a task at the limit sleeps until there is room."""
        self.under_oom = 0
        """How many tasks do, here or above."""
        self.tcpmem_active = False
        """Whether new sockets count in kmem.tcp: since a limit was set there, also if it is gone again."""
        self.move_charge_at_immigrate = 0
        """What of a process's memory follows it here: 1 anonymous, 2 of files."""
        self.objects: list[Counters] = []
        """What its counters take."""
        self.peaks: dict[str, list[Any]] = {}
        """By counter: the peaks of open files that have asked for one of their own. Linux: memory_peaks, swap_peaks."""
        self.positions: dict[int, MemCgroup | None] = {}
        """Where direct reclaim from here on has stopped, by node. Linux: struct mem_cgroup_reclaim_iter."""
        above: tuple[PageCounter | None, ...] = (
            (None,) * 4 if parent is None else (parent.memory, parent.swap, parent.kmem, parent.tcpmem)
        )
        self.memory: PageCounter = PageCounter(counters, row, MEMCG_COUNTER_MEMORY, above[0])
        self.swap: PageCounter = PageCounter(counters, row, MEMCG_COUNTER_SWAP, above[1])
        self.kmem: PageCounter = PageCounter(counters, row, MEMCG_COUNTER_KMEM, above[2])
        self.tcpmem: PageCounter = PageCounter(counters, row, MEMCG_COUNTER_TCPMEM, above[3])
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
