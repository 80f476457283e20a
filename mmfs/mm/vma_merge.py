"""When two VMAs become one.

The kernel keeps as few VMAs as it can. Whenever a range is added, or the flags of a range change, it asks whether
the result continues the neighbour below, the neighbour above, or closes the hole between both; only when the
range is part of a VMA and merges with neither side is the VMA split. How many lines /proc/PID/maps has follows
from these rules alone.

Two VMAs merge when flags (but for the soft-dirty bit), file, memory policy and name agree, when the page offsets
continue each other, and when their anonymous memory is compatible: the same anon_vma, or one of them none and the
other not shared with a parent. A VMA whose operations have a close hook (System V shared memory) is never
swallowed by another.

Linux: mm/vma.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmfs.mm import rmap
from mmfs.mm.mman import VM_SOFTDIRTY, VM_SPECIAL
from mmfs.mm.vma import VmAreaStruct, split_vma, vm_area_dup, vm_area_free
from mmfs.mm_types import PAGE_SHIFT

if TYPE_CHECKING:
    from mmfs.mm.inode import File
    from mmfs.mm.mempolicy import Mempolicy
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.rmap import AnonVma


@dataclass(slots=True)
class VmaMergeStruct:
    """A range that is added or changed, and its neighbours. Linux: mm/vma.h, struct vma_merge_struct."""

    mm: MmStruct
    start: int
    end: int
    flags: int
    pgoff: int
    file: File | None = None
    anon_vma: AnonVma | None = None
    policy: Mempolicy | None = None
    anon_name: str | None = None
    prev: VmAreaStruct | None = None
    next: VmAreaStruct | None = None

    @classmethod
    def of(cls, vma: VmAreaStruct, start: int, end: int) -> VmaMergeStruct:
        """The part [start, end) of `vma` (or a continuation of it), as it is now. Linux: VMG_VMA_STATE()."""
        pgoff = vma.vm_pgoff + (start - vma.vm_start >> PAGE_SHIFT)
        return cls(
            vma.vm_mm, start, end, vma.vm_flags, pgoff, vma.vm_file, vma.anon_vma, vma.vm_policy, vma.anon_name
        )  # fmt: skip

    def agrees_with(self, vma: VmAreaStruct) -> bool:
        """Whether flags, file, policy and name are the same. Linux: mm/vma.c, is_mergeable_vma()."""
        return (
            not (vma.vm_flags ^ self.flags) & ~VM_SOFTDIRTY
            and vma.vm_file is self.file
            and vma.vm_policy == self.policy
            and vma.anon_name == self.anon_name
        )

    def can_merge_left(self) -> bool:
        """Whether the range continues `prev`. Linux: mm/vma.c, can_vma_merge_left()."""
        prev = self.prev
        return (
            prev is not None
            and prev.vm_end == self.start
            and self.agrees_with(prev)
            and is_mergeable_anon_vma(self.anon_vma, prev.anon_vma, prev)
            and prev.vm_pgoff + prev.pages == self.pgoff
        )

    def can_merge_right(self, left: bool) -> bool:
        """Whether `next` continues the range, and `prev` where that merges too. Linux: can_vma_merge_right()."""
        next = self.next
        if (
            next is None
            or next.vm_start != self.end
            or not self.agrees_with(next)
            or not is_mergeable_anon_vma(self.anon_vma, next.anon_vma, next)
            or next.vm_pgoff != self.pgoff + (self.end - self.start >> PAGE_SHIFT)
        ):
            return False
        return not left or self.prev is None or is_mergeable_anon_vma(self.prev.anon_vma, next.anon_vma, None)


def is_mergeable_anon_vma(a: AnonVma | None, b: AnonVma | None, vma: VmAreaStruct | None) -> bool:
    """Whether two ranges' anonymous pages may share a VMA. Linux: mm/vma.c, is_mergeable_anon_vma().

    A VMA cloned from a parent (more than one anon_vma in its chain) does not take in a range without one.
    """
    if (a is None or b is None) and (vma is None or len(vma.anon_vma_chain) == 1):
        return True
    return a is b


def can_merge_remove_vma(vma: VmAreaStruct) -> bool:
    """Whether a merge may delete `vma`. Linux: mm/vma.c, can_merge_remove_vma()."""
    return vma.vm_ops is None or vma.vm_ops.close is None


def _dup_anon_vma(dst: VmAreaStruct, src: VmAreaStruct) -> None:
    if src.anon_vma is not None and dst.anon_vma is None:
        dst.anon_vma = src.anon_vma
        rmap.anon_vma_clone(dst, src)


def _drop_merged(vma: VmAreaStruct, into: VmAreaStruct) -> None:
    vma.vm_mm.vma_unlink(vma, merged_into=into)
    if vma.anon_vma is not None:
        rmap.unlink_anon_vmas(vma)
    if vma.vm_file is not None:
        vma.vm_file.put()
    vm_area_free(vma)


def vma_merge_new_range(vmg: VmaMergeStruct, just_expand: bool = False) -> VmAreaStruct | None:
    """Extend a neighbour over a range that is about to be added; None if neither fits.

    Linux: mm/vma.c, vma_merge_new_range(), vma_expand().
    """
    if vmg.flags & VM_SPECIAL:
        return None
    left = vmg.can_merge_left()
    right = not just_expand and vmg.can_merge_right(left)
    mm, prev, next = vmg.mm, vmg.prev, vmg.next
    if left and prev is not None:
        end = vmg.end
        if right and next is not None and can_merge_remove_vma(next):
            _dup_anon_vma(prev, next)
            end = next.vm_end
            _drop_merged(next, prev)
        mm.vma_adjust(prev, prev.vm_start, end, prev.vm_pgoff)
        return prev
    if right and next is not None:
        mm.vma_adjust(next, vmg.start, next.vm_end, vmg.pgoff)
        return next
    return None


def vma_merge_existing_range(vmg: VmaMergeStruct, vma: VmAreaStruct) -> VmAreaStruct | None:
    """Merge the changed range of `vma` with the neighbours it now equals; None if it equals neither.

    Linux: mm/vma.c, vma_merge_existing_range().
    """
    start, end, mm = vmg.start, vmg.end, vmg.mm
    left_side, right_side = start == vma.vm_start, end == vma.vm_end
    if vmg.flags & VM_SPECIAL:
        return None
    left = left_side and vmg.can_merge_left()
    vmg.next = mm.mt.next(vma) if right_side else None
    right = right_side and vmg.can_merge_right(left)
    whole = left_side and right_side
    if not (left or right) or (whole and not can_merge_remove_vma(vma)):
        return None
    prev, next = vmg.prev, vmg.next
    if left and prev is not None:
        if right and next is not None and can_merge_remove_vma(next):
            _dup_anon_vma(prev, next if next.anon_vma is not None else vma)
            end = next.vm_end
            _drop_merged(vma, prev)
            _drop_merged(next, prev)
        else:
            _dup_anon_vma(prev, vma)
            if whole:
                _drop_merged(vma, prev)
            else:
                mm.vma_adjust(vma, end, vma.vm_end, vma.vm_pgoff + (end - vma.vm_start >> PAGE_SHIFT))
        mm.vma_adjust(prev, prev.vm_start, end, prev.vm_pgoff)
        return prev
    assert next is not None
    _dup_anon_vma(next, vma)
    if whole:
        _drop_merged(vma, next)
    else:
        mm.vma_adjust(vma, vma.vm_start, start, vma.vm_pgoff)
    mm.vma_adjust(next, start, next.vm_end, next.vm_pgoff - (end - start >> PAGE_SHIFT))
    return next


def vma_merge_extend(vma: VmAreaStruct, delta: int) -> VmAreaStruct | None:
    """Grow `vma` upwards by `delta` bytes, joining the VMA above if that continues it. Linux: vma_merge_extend()."""
    vmg = VmaMergeStruct.of(vma, vma.vm_end, vma.vm_end + delta)
    vmg.prev, vmg.next = vma, vma.vm_mm.mt.next(vma)
    return vma_merge_new_range(vmg)


# ---- changing ---------------------------------------------------------------------------------------------------


def _vma_modify(vmg: VmaMergeStruct, vma: VmAreaStruct) -> VmAreaStruct:
    start, end = vmg.start, vmg.end
    merged = vma_merge_existing_range(vmg, vma)
    if merged is not None:
        return merged
    if vma.vm_start < start:
        split_vma(vma, start, new_below=True)
    if vma.vm_end > end:
        split_vma(vma, end, new_below=False)
    return vma


def vma_modify_flags(prev: VmAreaStruct | None, vma: VmAreaStruct, start: int, end: int, flags: int) -> VmAreaStruct:
    """Make [start, end) of `vma` a VMA fit for `flags`, by merging or splitting; the caller then sets them.

    Linux: mm/vma.c, vma_modify_flags(), vma_modify().
    """
    vmg = VmaMergeStruct.of(vma, start, end)
    vmg.prev, vmg.flags = prev, flags
    return _vma_modify(vmg, vma)


def vma_modify_flags_name(
    prev: VmAreaStruct | None, vma: VmAreaStruct, start: int, end: int, flags: int, name: str | None
) -> VmAreaStruct:
    """As `vma_modify_flags()`, with a new name too. Linux: mm/vma.c, vma_modify_flags_name()."""
    vmg = VmaMergeStruct.of(vma, start, end)
    vmg.prev, vmg.flags, vmg.anon_name = prev, flags, name
    return _vma_modify(vmg, vma)


def vma_modify_policy(
    prev: VmAreaStruct | None, vma: VmAreaStruct, start: int, end: int, policy: Mempolicy | None
) -> VmAreaStruct:
    """As `vma_modify_flags()`, for a memory policy. Linux: mm/vma.c, vma_modify_policy()."""
    vmg = VmaMergeStruct.of(vma, start, end)
    vmg.prev, vmg.policy = prev, policy
    return _vma_modify(vmg, vma)


def copy_vma(vma: VmAreaStruct, addr: int, length: int, pgoff: int, keep_source: bool) -> VmAreaStruct:
    """A VMA at `addr` to which mremap() may move `vma`'s pages; merged with its neighbours where it can be.

    The source may be swallowed by that merge, if no page of it was ever touched; it is then the result itself.

    Linux: mm/vma.c, copy_vma().
    """
    mm = vma.vm_mm
    faulted = True
    if vma.is_anonymous() and vma.anon_vma is None:
        pgoff = addr >> PAGE_SHIFT
        faulted = False
    vmg = VmaMergeStruct.of(vma, addr, addr + length)
    vmg.pgoff = pgoff
    vmg.next = mm.mt.find(addr)
    vmg.prev = mm.find_vma_prev(addr)
    if not faulted and keep_source:
        vmg.prev = None if vmg.prev is vma else vmg.prev
        vmg.next = None if vmg.next is vma else vmg.next
    merged = vma_merge_new_range(vmg)
    if merged is not None:
        return merged
    new = vm_area_dup(vma)
    new.vm_start, new.vm_end, new.vm_pgoff = addr, addr + length, pgoff
    rmap.anon_vma_clone(new, vma)
    if new.vm_file is not None:
        new.vm_file.get()
    if new.vm_ops is not None and new.vm_ops.open is not None:
        new.vm_ops.open(new)
    mm.vma_link(new)
    return new
