"""An address space: its VMAs, its layout and its accounts.

An MmStruct belongs to one process (threads share it) and owns a page-table root. It keeps the VMAs in order of
address, knows where the program put its segments, and keeps the sums that /proc/PID/status prints: `total_vm`
(VmSize), of which `data_vm`, `exec_vm` and `stack_vm` are parts, and `locked_vm`. How many pages are really there
(RSS, page tables) is counted by the fast path, in the row `mm.row` of its tables.

Every change of the set of VMAs goes through three methods: `vma_link()`, `vma_unlink()` and `vma_adjust()` (and
`vma_changed()` when only flags change). Whoever mirrors VMAs elsewhere has to watch only those; `vma_seq` counts
the changes.

The limits of setrlimit(2) are those of the owner. Linux asks the current task; the model's calls always act on
the caller's own address space, so it is the same. Without an owner there are no limits.

Linux: include/linux/mm_types.h (struct mm_struct), mm/mmap.c, kernel/fork.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from mmfs.mm import mmap_layout, rows
from mmfs.mm.ksm_contents import KsmMm
from mmfs.mm.maple_tree import MapleTree
from mmfs.mm.mman import (
    CAP_IPC_LOCK,
    RLIM_INFINITY,
    RLIMIT_AS,
    RLIMIT_DATA,
    RLIMIT_MEMLOCK,
    VM_LOCKED,
    is_data_mapping,
    is_exec_mapping,
    is_stack_mapping,
)
from mmfs.mm.percpu import PercpuObject
from mmfs.mm_types import PAGE_SHIFT
from mmfs.profile import config

if TYPE_CHECKING:
    from random import Random

    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.numa_balancing import MmNuma
    from mmfs.mm.inode import File
    from mmfs.mm.mempolicy import Mempolicy
    from mmfs.mm.vma import VmAreaStruct


PKEYS: Final = config("X86_INTEL_MEMORY_PROTECTION_KEYS")
MMF_OOM_SKIP: Final = 1 << 21
MMF_OOM_REAP_QUEUED: Final = 1 << 25
"""The OOM killer looks elsewhere; the reaper has been told. Linux: include/linux/sched/coredump.h."""


class MmOwner(Protocol):
    """What an address space asks of the task that owns it."""

    pid: int
    comm: str
    personality: int
    mempolicy: Mempolicy | None
    mems_allowed: frozenset[int] | None
    memcg: int

    @property
    def rlimits(self) -> Mapping[int, tuple[int, int]]:
        """RLIMIT_* to (soft, hard)."""

    def capable(self, capability: int) -> bool:
        """Whether it has a CAP_*."""


class MmStruct:
    """One address space. Linux: struct mm_struct."""

    def __init__(self, kernel: Kernel, owner: MmOwner | None = None) -> None:
        self.kernel = kernel
        self.owner = owner
        self.row = -1
        """The row of the fast path's tables (counters, page-table root); set by rows.mm_init()."""
        self.serial = 0
        """Grows from one address space to the next: which ones the aging has not met yet."""
        self.mm_users = 1
        self.ksm = KsmMm()
        self.numa: MmNuma | None = None
        """How it is scanned for NUMA balancing (kernel/numa_balancing.py)."""
        self.objects: tuple[int, PercpuObject] = (0, PercpuObject(0))
        """Its object of the slab, and its counters."""
        self.mt = MapleTree()
        self.map_count = 0
        self.vma_seq = 0
        self.total_vm = self.locked_vm = self.pinned_vm = self.data_vm = self.exec_vm = self.stack_vm = 0
        self.hiwater_vm = 0
        self.hugetlb_usage = 0
        """Huge pages of pools that it maps, in pages of 4 KB; they are no part of the RSS."""
        self.def_flags = 0
        self.flags = 0
        """MMF_OOM_*."""
        self.coredump_filter = 0x33
        self.start_code = self.end_code = self.start_data = self.end_data = 0
        self.start_brk = self.brk = self.start_stack = 0
        self.arg_start = self.arg_end = self.env_start = self.env_end = 0
        self.saved_auxv = b""
        self.vdso = 0
        self.exe_file: File | None = None
        self.randomize = True
        self.rng: Random | None = None
        """Where this process's random addresses come from (seeded per task, so runs repeat)."""
        self.topdown = True
        self.arch = kernel.profile.arch
        self.task_size = mmap_layout.task_size_max(kernel)
        self.has_pkeys = "ospke" in kernel.machine.cpu.flags and PKEYS(kernel)
        self.mmap_base = self.mmap_legacy_base = self.mmap_compat_base = self.mmap_compat_legacy_base = 0
        self.stack_guard_gap = mmap_layout.stack_guard_gap(kernel)

    # ---- looking up ---------------------------------------------------------------------------------------------

    @property
    def mmap(self) -> list[VmAreaStruct]:
        """The VMAs, low to high. To be read only."""
        return self.mt.entries

    def find_vma(self, addr: int) -> VmAreaStruct | None:
        """The VMA that holds `addr`, or the next above it. Linux: mm/mmap.c, find_vma()."""
        return self.mt.find(addr)

    def vma_lookup(self, addr: int) -> VmAreaStruct | None:
        """The VMA that holds `addr`. Linux: include/linux/mm.h, vma_lookup()."""
        vma = self.mt.find(addr)
        return vma if vma is not None and vma.vm_start <= addr else None

    def find_vma_prev(self, addr: int) -> VmAreaStruct | None:
        """The last VMA that ends at or below `addr`. Linux: the second result of find_vma_prev()."""
        index = self.mt.index_above(addr) - 1
        return self.mt.entries[index] if index >= 0 else None

    def find_vma_intersection(self, start: int, end: int) -> VmAreaStruct | None:
        """The first VMA that overlaps [start, end). Linux: mm/mmap.c, find_vma_intersection()."""
        vma = self.mt.find(start)
        return vma if vma is not None and vma.vm_start < end else None

    # ---- changing the set of VMAs: the only places ----------------------------------------------------------------

    def vma_link(self, vma: VmAreaStruct, split_from: VmAreaStruct | None = None) -> None:
        """Add `vma`. Linux: mm/vma.c, vma_link().

        `split_from` is the VMA it was cut from: its pages, if any, stay mapped and change hands.
        """
        self.mt.store(vma)
        self.map_count += 1
        self.vma_seq += 1
        if vma.vm_file is not None:
            vma.vm_file.mapping.vma_link(vma)
        rows.vma_changed(vma)

    def vma_unlink(self, vma: VmAreaStruct, merged_into: VmAreaStruct | None = None) -> None:
        """Take `vma` out. `merged_into` is the neighbour that is about to grow over it and has its pages."""
        if vma.vm_file is not None:
            vma.vm_file.mapping.vma_unlink(vma)
        self.mt.erase(vma)
        self.map_count -= 1
        self.vma_seq += 1

    def vma_adjust(self, vma: VmAreaStruct, start: int, end: int, pgoff: int) -> None:
        """Move the borders of `vma`. Linux: mm/vma.c, vma_prepare(), vma_set_range(), vma_complete()."""
        rows.vma_adjust_trans_huge(vma, start, end)
        self.mt.resize(vma, start, end)
        vma.vm_pgoff = pgoff
        self.vma_seq += 1
        rows.vma_changed(vma)

    def vma_changed(self, vma: VmAreaStruct) -> None:
        """The flags of `vma` (in the tree) have changed."""
        self.vma_seq += 1
        rows.vma_changed(vma)

    # ---- accounts -----------------------------------------------------------------------------------------------

    def vm_stat_account(self, vm_flags: int, npages: int) -> None:
        """Add pages of that kind to the sums. Linux: mm/mmap.c, vm_stat_account()."""
        self.total_vm += npages
        if is_exec_mapping(vm_flags):
            self.exec_vm += npages
        elif is_stack_mapping(vm_flags):
            self.stack_vm += npages
        elif is_data_mapping(vm_flags):
            self.data_vm += npages

    def get_mm_counter(self, member: int) -> int:
        """One of MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS, MM_SHMEMPAGES. Linux: include/linux/mm.h."""
        return rows.get_mm_counter(self, member)

    @property
    def rss(self) -> int:
        """Resident pages. Linux: include/linux/mm.h, get_mm_rss()."""
        return rows.get_mm_rss(self)

    @property
    def pgtables_bytes(self) -> int:
        """Bytes of page tables below the root. Linux: include/linux/mm.h, mm_pgtables_bytes()."""
        return rows.mm_pgtables_bytes(self)

    @property
    def hiwater_rss(self) -> int:
        """The highest RSS there was, as far as it has fallen since; kept in the fast path's row."""
        return rows.get_hiwater_rss(self)

    @hiwater_rss.setter
    def hiwater_rss(self, pages: int) -> None:
        rows.set_hiwater_rss(self, pages)

    def update_hiwater_rss(self) -> None:
        """Remember the RSS before it falls. Linux: include/linux/mm.h, update_hiwater_rss()."""
        rows.update_hiwater_rss(self)

    def update_hiwater_vm(self) -> None:
        """Remember the size before it falls. Linux: include/linux/mm.h, update_hiwater_vm()."""
        self.hiwater_vm = max(self.hiwater_vm, self.total_vm)

    # ---- limits -------------------------------------------------------------------------------------------------

    def rlimit(self, resource: int, hard: bool = False) -> int:
        """The owner's limit, in the units of setrlimit(2). Linux: include/linux/sched/signal.h, rlimit()."""
        if self.owner is None:
            return RLIM_INFINITY
        limit = self.owner.rlimits.get(resource, (RLIM_INFINITY, RLIM_INFINITY))[hard]
        return limit if limit >= 0 else RLIM_INFINITY

    def capable(self, capability: int) -> bool:
        """Whether the owner has a CAP_*. Linux: kernel/capability.c, capable()."""
        return self.owner is None or self.owner.capable(capability)

    @property
    def personality(self) -> int:
        """The owner's. Linux: current->personality."""
        return 0 if self.owner is None else self.owner.personality

    def may_expand_vm(self, vm_flags: int, npages: int) -> bool:
        """Whether RLIMIT_AS and RLIMIT_DATA allow so many pages more. Linux: mm/mmap.c, may_expand_vm()."""
        if self.total_vm + npages > self.rlimit(RLIMIT_AS) >> PAGE_SHIFT:
            return False
        data_limit = self.rlimit(RLIMIT_DATA)
        if is_data_mapping(vm_flags) and self.data_vm + npages > data_limit >> PAGE_SHIFT:
            if data_limit == 0 and self.data_vm + npages <= self.rlimit(RLIMIT_DATA, hard=True) >> PAGE_SHIFT:
                return True
            return self._data_limit_exceeded(self.data_vm + npages << PAGE_SHIFT, data_limit)
        return True

    def _data_limit_exceeded(self, data_bytes: int, limit: int) -> bool:
        ignore = mmap_layout.ignore_rlimit_data(self.kernel)
        pid, comm = (self.owner.pid, self.owner.comm) if self.owner is not None else (0, "swapper/0")
        self.kernel.overcommit.warn_once(
            "VmData",
            f"mmap: {comm} ({pid}): VmData {data_bytes} exceed data ulimit {limit}. "
            f"Update limits{'' if ignore else ' or use boot option ignore_rlimit_data'}.",
        )
        return ignore

    def can_do_mlock(self) -> bool:
        """Whether the owner may lock anything at all. Linux: mm/mlock.c, can_do_mlock()."""
        return self.rlimit(RLIMIT_MEMLOCK) != 0 or self.capable(CAP_IPC_LOCK)

    def mlock_future_ok(self, vm_flags: int, nr_bytes: int) -> bool:
        """Whether RLIMIT_MEMLOCK allows so many bytes more, if they will be locked. Linux: mlock_future_ok()."""
        if not vm_flags & VM_LOCKED or self.capable(CAP_IPC_LOCK):
            return True
        return (nr_bytes >> PAGE_SHIFT) + self.locked_vm <= self.rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT
