"""Reverse mapping: from an anonymous page to the VMAs that may map it.

A page that a VMA faults in remembers that VMA's anon_vma. Fork gives the child's VMA an anon_vma of its own for
what it will fault in, and links it to all the parent's, whose pages it shares; so an anon_vma's list of VMAs
holds everyone who can have the page in his tables. Files do the same with their address_space.

The chains themselves, and the walks over them, are the fast path's (fastpath/rmap.py); they hold rows of VMAs.

Linux: mm/rmap.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.vma import VmAreaStruct


class AnonVma:
    """Who may map the anonymous pages of a VMA and its descendants. Linux: struct anon_vma."""

    __slots__ = ("id", "kernel", "obj", "num_children", "parent", "root", "vmas")

    def __init__(self, kernel: Kernel, parent: AnonVma | None = None) -> None:
        self.kernel = kernel
        self.id = kernel.rmap.new_id(self)
        self.parent = parent
        self.root: AnonVma = parent.root if parent is not None else self
        self.num_children = 0
        self.vmas: dict[VmAreaStruct, tuple[int, int]] = {}
        """The VMAs linked to it, each with its link in the fast path's chain and the link's object of the slab."""
        kernel.mmu.rmap.roots[self.id] = self.root.id
        if parent is not None:
            parent.num_children += 1
        self.obj = kernel.slab.alloc("anon_vma", force=True)


class Rmap:
    """All anon_vmas of a machine by the id that page records hold (0 is none)."""

    def __init__(self) -> None:
        self.anon_vmas: dict[int, AnonVma] = {}
        self._free: list[int] = []
        self._next = 1

    def new_id(self, anon_vma: AnonVma) -> int:
        """A free id for a new anon_vma."""
        if self._free:
            number = self._free.pop()
        else:
            number = self._next
            self._next += 1
        self.anon_vmas[number] = anon_vma
        return number

    def drop(self, anon_vma: AnonVma) -> None:
        """Forget an anon_vma that nobody is linked to."""
        del self.anon_vmas[anon_vma.id]
        self._free.append(anon_vma.id)


def _link(vma: VmAreaStruct, anon_vma: AnonVma) -> None:
    vma.anon_vma_chain.append(anon_vma)
    kernel = anon_vma.kernel
    obj = kernel.slab.alloc("anon_vma_chain", force=True)
    anon_vma.vmas[vma] = kernel.mmu.rmap.link_anon(anon_vma.id, vma.row), obj


def anon_vma_prepare(vma: VmAreaStruct) -> None:
    """Give a VMA an anon_vma before its first anonymous page. Linux: __anon_vma_prepare()."""
    if vma.anon_vma is not None:
        return
    from mmfs.mm.vma import find_mergeable_anon_vma

    anon_vma = find_mergeable_anon_vma(vma) or AnonVma(vma.vm_mm.kernel)
    vma.anon_vma = anon_vma
    _link(vma, anon_vma)
    vma.vm_mm.vma_changed(vma)


def anon_vma_clone(dst: VmAreaStruct, src: VmAreaStruct) -> None:
    """Link a VMA to every anon_vma another is linked to. Linux: anon_vma_clone()."""
    for anon_vma in src.anon_vma_chain:
        _link(dst, anon_vma)


def anon_vma_fork(vma: VmAreaStruct, pvma: VmAreaStruct) -> None:
    """Link a child's VMA to the parent's anon_vmas, and give it its own. Linux: anon_vma_fork().

    Simplified: a childless parent's anon_vma is never handed on for reuse.
    """
    vma.anon_vma = None
    if pvma.anon_vma is None:
        return
    anon_vma_clone(vma, pvma)
    vma.anon_vma = AnonVma(vma.vm_mm.kernel, pvma.anon_vma)
    _link(vma, vma.anon_vma)


def unlink_anon_vmas(vma: VmAreaStruct) -> None:
    """Take a VMA out of every anon_vma; those without VMAs go. Linux: unlink_anon_vmas()."""
    for anon_vma in vma.anon_vma_chain:
        slab = anon_vma.kernel.slab
        link, obj = anon_vma.vmas.pop(vma)
        anon_vma.kernel.mmu.rmap.unlink(link)
        slab.free_if(obj)
        if not anon_vma.vmas:
            anon_vma.kernel.rmap.drop(anon_vma)
            slab.free_if(anon_vma.obj)
            if anon_vma.parent is not None:
                anon_vma.parent.num_children -= 1
    vma.anon_vma_chain.clear()
    vma.anon_vma = None
