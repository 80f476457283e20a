"""swapoff(2) reads back what an area holds: the pages of all address spaces and of shared memory.

The loops are the fast path's (fastpath/swapin.py); here is who waits for the disk, and what to do without memory.

Linux: mm/swapfile.c, try_to_unuse().
"""

from __future__ import annotations

from errno import EINTR, ENOMEM
from typing import TYPE_CHECKING

from mmfs.mm.filemap import Room
from mmfs.mm_types import FAULT_OOM, FAULT_SLICE, GFP_HIGHUSER_MOVABLE, GFP_NORETRY_BIT

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.filemap import AddressSpace
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.swapfile import SwapInfoStruct
    from mmfs.mm.vma import VmAreaStruct


class Unuse:
    """Emptying an area: every page of it is read and mapped again. Linux: mm/swapfile.c, try_to_unuse().

    Others run while it waits for a disk, so what it has been looking at may be gone then.
    """

    def __init__(self, kernel: Kernel, area: SwapInfoStruct, task: Task | None = None) -> None:
        self.kernel = kernel
        self.area = area
        self.task = task
        self.room = Room(kernel, GFP_HIGHUSER_MOVABLE | (GFP_NORETRY_BIT if task is None else 0))

    def run(self) -> None:
        """Raises OSError: ENOMEM, or EINTR when the task that called was killed."""
        while self.area.inuse_pages:
            self.wait_for_writes()
            for mapping in list(self.kernel.page_cache.mappings.values()):
                if mapping.host.shmem:
                    self.unuse_shmem(mapping)
            for mm in list(self.kernel.mms.values()):
                for vma in list(mm.mmap) if mm.mm_users else []:
                    if vma.anon_vma is not None and self.area.inuse_pages:
                        self.unuse_vma(mm, vma)
            self.kernel.mmu.swap.free_unused(self.area.number)

    def wait_for_writes(self) -> None:
        """Linux: folio_wait_writeback()."""
        self.kernel.swap_writes.write_unplug()
        while self.area.disk.bios:
            self.wait_until(self.area.disk.bios[-1].when_ns)

    def wait_until(self, when_ns: int) -> None:
        """Sleep until a disk has answered."""
        kernel, clock = self.kernel, self.kernel.clock
        if clock.running:
            kernel.block_devices.complete_until(when_ns)
            return
        current, cpu = kernel.tasks.current, kernel.page_alloc.buddy.cpu
        clock.run_until(max(when_ns, clock.now_ns))
        kernel.tasks.current, kernel.page_alloc.buddy.cpu = current, cpu
        if self.task is not None and not self.task.alive:
            raise OSError(EINTR, "killed")

    def unuse_vma(self, mm: MmStruct, vma: VmAreaStruct) -> None:
        """Linux: unuse_vma()."""
        mmu, addr = self.kernel.mmu, vma.vm_start
        while mm.mm_users and mm.vma_lookup(addr) is vma:
            mmu.swap_state.begin(self.kernel.clock.now_ns)
            reached = self.kernel.pagetables.unuse_range(mm.row, vma.row, addr, vma.vm_end, self.area.number)
            self.wait_until(mmu.swap_state.done_ns)
            self.after(mmu.reason)
            addr = reached

    def unuse_shmem(self, mapping: AddressSpace) -> None:
        """Linux: mm/shmem.c, shmem_unuse()."""
        state, swapin, index = self.kernel.mmu.swap_state, self.kernel.mmu.swapin, 0
        end = int(mapping.record["slots"])
        while index < end and self.kernel.page_cache.mappings.get(mapping.id) is mapping:
            state.begin(self.kernel.clock.now_ns)
            index = swapin.shmem_swapin_range(mapping.id, index, end, self.area.number)
            self.wait_until(state.done_ns)
            self.after(swapin.reason)

    def after(self, reason: int) -> None:
        """A loop has stopped: help it on."""
        if reason == FAULT_SLICE:
            self.wait_for_writes()
        elif reason == FAULT_OOM:
            self.make_room()

    def make_room(self) -> None:
        """Have a page for what is read next; or be killed for it, or raise ENOMEM."""
        found = self.room.hand()
        if self.task is not None and not self.task.alive:
            raise OSError(EINTR, "killed")
        if not found:
            raise OSError(ENOMEM, f"{self.area.file}: no memory for what is in it")
