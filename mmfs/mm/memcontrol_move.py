"""Charges that follow a process to another memory cgroup, where cgroup v1's move_charge_at_immigrate asks for it.

Before the process moves, as much is charged to where it goes as may follow it (`can_attach()`), with reclaim but
without a kill, or it may not move; then each page and slot changes hands (`move_task()`), and what was charged too
much, and what has left the old cgroup, is given back.

Linux: mm/memcontrol-v1.c, struct move_charge_struct.

Simplified: huge pages stay where they are, and so do pages of files that the process does not map, and those that are
in the swap cache alone.
"""

from __future__ import annotations

from errno import ENOMEM
from typing import TYPE_CHECKING, Final

import numpy as np

from mmfs.mm_types import (
    BLK_SPLIT,
    GFP_DIRECT_RECLAIM_BIT,
    GFP_KERNEL,
    GFP_NORETRY_BIT,
    MEMCG_COUNTER_MEMORY,
    MEMCG_COUNTER_SWAP,
    PAGE_SHIFT,
    PAGE_SIZE,
    PAGEBLOCK_ORDER,
    PG_ANON,
    PTE_GLOBAL,
    PTE_PFN_MASK,
    PTE_PRESENT,
    PTE_SPECIAL,
    MemcgStatItem,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.mm.cgroup_defs import Migration
    from mmfs.mm.mem_cgroup import MemCgroup
    from mmfs.mm.memcontrol import MemCgroups
    from mmfs.mm.mm_struct import MmStruct

MOVE_ANON: Final = 1
MOVE_FILE: Final = 2


class MoveCharge:
    """What is on its way. Linux: struct move_charge_struct."""

    def __init__(self, mm: MmStruct, source: MemCgroup, to: MemCgroup, flags: int) -> None:
        self.mm = mm
        self.source = source
        self.to = to
        self.flags = flags
        self.precharge = 0
        """Pages that are charged to `to` in advance."""

    def targets(self) -> tuple[NDArray[np.int64], list[int]]:
        """Frames and slots that may move. Linux: get_mctgt_type()."""
        kernel = self.mm.kernel
        pages: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        slots: list[int] = []
        for vma in self.mm.mmap:
            raw = np.zeros((vma.vm_end - vma.vm_start) // PAGE_SIZE, np.uint64)
            kernel.task_mmu.read_entries(self.mm.row, vma.vm_start, raw)
            here = raw[(raw & np.uint64(PTE_PRESENT | PTE_GLOBAL) != 0) & (raw & np.uint64(PTE_SPECIAL) == 0)]
            pages.append(self._pages(((here & np.uint64(PTE_PFN_MASK)) >> np.uint64(PAGE_SHIFT)).astype(np.int64)))
            if self.flags & MOVE_ANON:
                gone = raw[(raw != 0) & (raw & np.uint64(PTE_PRESENT | PTE_GLOBAL) == 0)]
                slots += self._slots(gone)
        return np.unique(np.concatenate(pages)), slots

    def _pages(self, pfns: NDArray[np.int64]) -> NDArray[np.int64]:
        frames = self.mm.kernel.frames
        pfns = pfns[frames.blocks["state"][pfns >> PAGEBLOCK_ORDER] == BLK_SPLIT]
        records = frames.pages[pfns]
        anon = records["flags"] & PG_ANON != 0
        wanted = (anon & bool(self.flags & MOVE_ANON)) | (~anon & bool(self.flags & MOVE_FILE))
        found: NDArray[np.int64] = pfns[wanted & (records["memcg"] == self.source.row)]
        return found

    def _slots(self, entries: NDArray[np.uint64]) -> list[int]:
        slots = self.mm.kernel.mmu.swap.slots
        found = {int(slots.slot(int(entry))) for entry in entries}
        return sorted(slot for slot in found if self.source.row and int(slots.memcgs[slot]) == self.source.row)

    def uncharge(self, memcg: MemCgroup, pages: int, swap: int) -> None:
        """Give back memory and, of the counter of both, memory and swap. Linux: __mem_cgroup_clear_mc()."""
        fast = memcg.owner.fast
        if memcg.row:
            fast.counters.uncharge(memcg.row, MEMCG_COUNTER_MEMORY, pages)
            fast.counters.uncharge(memcg.row, MEMCG_COUNTER_SWAP, swap)


def can_attach(memcgs: MemCgroups, tset: list[Migration]) -> None:
    """Charge what follows a process in advance. OSError(ENOMEM): there is no room. Linux: memcg1_can_attach()."""
    move = next((move for move in tset if move.task.pid == move.task.tgid), None)
    if move is None or not move.new.move_charge_at_immigrate or move.task.mm is None:
        return
    moving = MoveCharge(move.task.mm, move.old, move.new, move.new.move_charge_at_immigrate)
    pages, slots = moving.targets()
    wanted = len(pages) + len(slots)
    if wanted and memcgs.try_charge(move.new.row, GFP_KERNEL & ~GFP_DIRECT_RECLAIM_BIT, wanted):
        moving.precharge = wanted
    while moving.precharge < wanted:
        if not memcgs.try_charge(move.new.row, GFP_KERNEL | GFP_NORETRY_BIT):
            moving.uncharge(move.new, moving.precharge, moving.precharge)
            raise OSError(ENOMEM, f"no room in {move.new.path} for what moves with the process")
        moving.precharge += 1
    memcgs.moving = moving


def cancel_attach(memcgs: MemCgroups) -> None:
    """The process does not move after all. Linux: memcg1_cancel_attach()."""
    moving, memcgs.moving = memcgs.moving, None
    if moving is not None:
        moving.uncharge(moving.to, moving.precharge, moving.precharge)


def move_task(memcgs: MemCgroups) -> None:
    """The process has moved: its pages and slots follow. Linux: memcg1_move_task(), mem_cgroup_move_charge()."""
    moving, memcgs.moving = memcgs.moving, None
    if moving is None:
        return
    kernel, fast = memcgs.kernel, memcgs.fast
    kernel.lru.lru_add_drain_all()
    pages, slots = moving.targets()
    pages, slots = pages[: moving.precharge], slots[: max(moving.precharge - len(pages), 0)]
    moved = kernel.mmu.folios.move_accounts(pages, moving.source.row, moving.to.row)
    for slot in slots:
        kernel.mmu.swap.slots.memcgs[slot] = moving.to.row
        for memcg, change in ((moving.source, -1), (moving.to, 1)):
            fast.refs[memcg.row] += change
            fast.mod_memcg_state(memcg.row, MemcgStatItem.MEMCG_SWAP, change)
    left = moving.precharge - moved - len(slots)
    moving.uncharge(moving.to, left + len(slots), left)
    moving.uncharge(moving.source, moved, moved + len(slots))
