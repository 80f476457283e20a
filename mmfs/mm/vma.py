"""Virtual memory areas: what they hold, and how one becomes two.

A VMA says that a range of addresses is mapped in one manner: these flags, this file from this page offset. When
two of them become one is in mm/vma_merge.py. All changes of the tree go through `MmStruct.vma_link()`,
`vma_unlink()`, `vma_adjust()` and `vma_changed()`.

Linux: mm/vma.c, include/linux/mm_types.h (struct vm_area_struct).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from errno import EINTR, ENOMEM
from typing import TYPE_CHECKING, Any

from mmfs.mm import rmap, rows
from mmfs.mm.mman import (
    EXECUTE_ONLY_PKEY,
    VM_ACCESS_FLAGS,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_PKEY_MASK,
    VM_PKEY_SHIFT,
    VM_SHADOW_STACK,
    VM_SOFTDIRTY,
)
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.mm.inode import File
    from mmfs.mm.mempolicy import Mempolicy
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.rmap import AnonVma


@dataclass(frozen=True, slots=True)
class VmOperations:
    """What a mapping's owner wants to be told or asked. Linux: struct vm_operations_struct."""

    name: str = ""
    open: Callable[[VmAreaStruct], None] | None = None
    close: Callable[[VmAreaStruct], None] | None = None
    may_split: Callable[[VmAreaStruct, int], None] | None = None


class VmAreaStruct:
    """One mapped range of an address space. Linux: struct vm_area_struct."""

    __slots__ = (
        "anon_name",
        "anon_vma",
        "anon_vma_chain",
        "objects",
        "row",
        "row_plain",
        "vm_end",
        "vm_file",
        "vm_flags",
        "vm_mm",
        "vm_ops",
        "vm_pgoff",
        "vm_policy",
        "vm_private_data",
        "vm_start",
    )  # fmt: skip

    def __init__(self, mm: MmStruct, start: int, end: int, vm_flags: int, pgoff: int) -> None:
        self.vm_mm = mm
        self.vm_start = start
        self.vm_end = end
        self.vm_flags = vm_flags
        self.vm_pgoff = pgoff
        self.vm_file: File | None = None
        self.vm_ops: VmOperations | None = None
        self.vm_policy: Mempolicy | None = None
        self.vm_private_data: Any = None
        """What its operations keep there: of huge pages, a HugetlbVmaPrivate."""
        self.anon_vma: AnonVma | None = None
        self.anon_vma_chain: list[AnonVma] = []
        self.anon_name: str | None = None
        self.row = -1
        """The row of the fast path's table of VMAs, or -1."""
        self.objects: tuple[int, ...] = ()
        """Its objects of the slab: itself and its lock."""
        self.row_plain = False
        """The row says that no memory policy rules its pages."""

    def __repr__(self) -> str:
        return f"<vma {self.vm_start:x}-{self.vm_end:x} flags {self.vm_flags:#x} pgoff {self.vm_pgoff:#x}>"

    @property
    def pages(self) -> int:
        """Its length. Linux: vma_pages()."""
        return self.vm_end - self.vm_start >> PAGE_SHIFT

    @property
    def name(self) -> str:
        """What /proc/PID/maps shows in place of a file's path. Linux: fs/proc/task_mmu.c, get_vma_name()."""
        if self.vm_file is not None:
            return f"[anon_shmem:{self.anon_name}]" if self.anon_name else ""
        if self.vm_ops is not None and self.vm_ops.name:
            return self.vm_ops.name
        mm = self.vm_mm
        if self.vm_start < mm.brk and self.vm_end > mm.start_brk:
            return "[heap]"
        if self.vm_start <= mm.start_stack <= self.vm_end:
            return "[stack]"
        return f"[anon:{self.anon_name}]" if self.anon_name else ""

    def is_anonymous(self) -> bool:
        """Whether its pages have no file behind them. Linux: vma_is_anonymous()."""
        return self.vm_file is None and self.vm_ops is None

    def is_accessible(self) -> bool:
        """Whether any access is allowed. Linux: vma_is_accessible()."""
        return bool(self.vm_flags & VM_ACCESS_FLAGS)

    @property
    def pkey(self) -> int:
        """Its memory protection key. Linux: vma_pkey()."""
        return (self.vm_flags & VM_PKEY_MASK) >> VM_PKEY_SHIFT

    def is_readable(self) -> bool:
        """Whether a read is allowed: any right will do, but that to execute only. Linux: access_error()."""
        return self.is_accessible() and self.pkey != EXECUTE_ONLY_PKEY

    def is_hugetlb(self) -> bool:
        """Whether hugetlbfs backs it. Linux: is_vm_hugetlb_page()."""
        return bool(self.vm_flags & VM_HUGETLB)

    def is_shmem(self) -> bool:
        """Whether it maps shared memory. Linux: shmem_file()."""
        return self.vm_file is not None and self.vm_file.inode.shmem and not self.is_hugetlb()

    def start_gap(self) -> int:
        """Its start, less the guard gap of a stack. Linux: vm_start_gap()."""
        if self.vm_flags & VM_GROWSDOWN:
            return max(self.vm_start - self.vm_mm.stack_guard_gap, 0)
        if self.vm_flags & VM_SHADOW_STACK:
            return max(self.vm_start - PAGE_SIZE, 0)
        return self.vm_start

    def flags_reset(self, vm_flags: int) -> None:
        """Replace the flags of a VMA that is in a tree. Linux: vm_flags_reset()."""
        self.vm_flags = vm_flags
        self.vm_mm.vma_changed(self)


def vm_area_alloc(mm: MmStruct, start: int, end: int, vm_flags: int, pgoff: int) -> VmAreaStruct:
    """A new VMA, in no tree yet. Linux: kernel/fork.c, vm_area_alloc()."""
    slab = mm.kernel.slab
    obj = slab.alloc("vm_area_struct")
    locked = "vma_lock" in slab  # newer kernels
    lock = slab.alloc("vma_lock") if obj and locked else 0
    if not obj or (locked and not lock):
        slab.free_if(obj)
        raise OSError(ENOMEM, "no memory for a vm_area_struct")
    if mm.mm_users == 0:  # the OOM killer has chosen the caller to make room for it
        slab.free(obj)
        slab.free_if(lock)
        raise OSError(EINTR, "killed")
    vma = VmAreaStruct(mm, start, end, vm_flags, pgoff)
    vma.objects = (obj, lock) if lock else (obj,)
    rows.vma_allocated(vma)
    return vma


def vm_area_dup(orig: VmAreaStruct) -> VmAreaStruct:
    """A copy that shares file and name but has no anon_vma chain yet. Linux: kernel/fork.c, vm_area_dup()."""
    vma = vm_area_alloc(orig.vm_mm, orig.vm_start, orig.vm_end, orig.vm_flags, orig.vm_pgoff)
    vma.vm_file = orig.vm_file
    vma.vm_ops = orig.vm_ops
    vma.vm_policy = orig.vm_policy
    vma.vm_private_data = orig.vm_private_data
    vma.anon_vma = orig.anon_vma
    vma.anon_name = orig.anon_name
    return vma


def vm_area_free(vma: VmAreaStruct) -> None:
    """Give back the slab object. Linux: kernel/fork.c, vm_area_free()."""
    rows.vma_freed(vma)
    for obj in vma.objects:
        vma.vm_mm.kernel.slab.free(obj)


def remove_vma(vma: VmAreaStruct) -> None:
    """Close a VMA that has left its tree and whose pages are gone. Linux: mm/vma.c, remove_vma()."""
    if vma.vm_ops is not None and vma.vm_ops.close is not None:
        vma.vm_ops.close(vma)
    rmap.unlink_anon_vmas(vma)
    if vma.vm_file is not None:
        vma.vm_file.put()
    vm_area_free(vma)


# ---- splitting -----------------------------------------------------------------------------------------------


def split_vma_unchecked(vma: VmAreaStruct, addr: int, new_below: bool) -> VmAreaStruct:
    """Cut `vma` in two at `addr` without regard to max_map_count; returns the new VMA. Linux: __split_vma()."""
    if vma.vm_ops is not None and vma.vm_ops.may_split is not None:
        vma.vm_ops.may_split(vma, addr)
    new = vm_area_dup(vma)
    rmap.anon_vma_clone(new, vma)
    pages_below = addr - vma.vm_start >> PAGE_SHIFT
    if new.vm_file is not None:
        new.vm_file.get()
    if new.vm_ops is not None and new.vm_ops.open is not None:
        new.vm_ops.open(new)
    if new_below:
        new.vm_end = addr
        vma.vm_mm.vma_adjust(vma, addr, vma.vm_end, vma.vm_pgoff + pages_below)
    else:
        new.vm_start = addr
        new.vm_pgoff += pages_below
        vma.vm_mm.vma_adjust(vma, vma.vm_start, addr, vma.vm_pgoff)
    vma.vm_mm.vma_link(new, split_from=vma)
    return new


def split_vma(vma: VmAreaStruct, addr: int, new_below: bool) -> VmAreaStruct:
    """Cut `vma` in two at `addr`. Linux: mm/vma.c, split_vma()."""
    if vma.vm_mm.map_count >= vma.vm_mm.kernel.vm.max_map_count:
        raise OSError(ENOMEM, "max_map_count reached")
    return split_vma_unchecked(vma, addr, new_below)


# ---- anon_vma sharing ------------------------------------------------------------------------------------------


def find_mergeable_anon_vma(vma: VmAreaStruct) -> AnonVma | None:
    """A neighbour's anon_vma that the first fault in `vma` may share, so that they can merge later.

    Linux: mm/vma.c, find_mergeable_anon_vma(), reusable_anon_vma(), anon_vma_compatible().
    """
    tree = vma.vm_mm.mt
    next, prev = tree.next(vma), tree.prev(vma)
    for old, below, above in ((next, vma, next), (prev, prev, vma)):
        if old is None or below is None or above is None:
            continue
        if (
            below.vm_end == above.vm_start
            and below.vm_policy == above.vm_policy
            and below.vm_file is above.vm_file
            and not (below.vm_flags ^ above.vm_flags) & ~(VM_ACCESS_FLAGS | VM_SOFTDIRTY)
            and above.vm_pgoff == below.vm_pgoff + below.pages
            and old.anon_vma is not None
            and len(old.anon_vma_chain) == 1
        ):
            return old.anon_vma
    return None
