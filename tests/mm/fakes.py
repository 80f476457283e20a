"""Stand-ins for what the VMA code stands on: the page tables, the reverse map, files, tasks and the kernel.

They keep of each page only whether it is there, so that a test sees what was zapped, copied, moved and locked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from errno import EINVAL
from signal import SIGBUS, SIGSEGV
from types import SimpleNamespace
from typing import Any

from mmfs.arch import X86_64
from mmfs.mm.fault import Fault
from mmfs.mm_types import MM_ANONPAGES

PAGE = 4096
KB, MB, GB = 1 << 10, 1 << 20, 1 << 30
UNLIMITED = (1 << 64) - 1


class AnonVma:
    """As rmap.AnonVma: an identity."""


class FakeRmap:
    """anon_vma bookkeeping as mm/rmap.c does it."""

    def anon_vma_prepare(self, vma: Any) -> None:
        from mmfs.mm.vma import find_mergeable_anon_vma

        if vma.anon_vma is None:
            vma.anon_vma = find_mergeable_anon_vma(vma) or AnonVma()
            vma.anon_vma_chain.append(vma.anon_vma)

    def anon_vma_clone(self, dst: Any, src: Any) -> None:
        dst.anon_vma_chain = list(src.anon_vma_chain)

    def anon_vma_fork(self, vma: Any, pvma: Any) -> None:
        vma.anon_vma = None
        if pvma.anon_vma is not None:
            self.anon_vma_clone(vma, pvma)
            vma.anon_vma = AnonVma()
            vma.anon_vma_chain.append(vma.anon_vma)

    def unlink_anon_vmas(self, vma: Any) -> None:
        vma.anon_vma = None
        vma.anon_vma_chain = []


class FakeMemory:
    """Pages by (address space, address); every call is also noted in `calls`."""

    def __init__(self, rmap: FakeRmap) -> None:
        self.rmap = rmap
        self.pages: dict[int, set[int]] = {}
        self.locked: dict[int, set[int]] = {}
        self.hiwater_rss: dict[int, int] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.fail_move = False

    def of(self, mm: Any) -> set[int]:
        return self.pages.setdefault(id(mm), set())

    def mm_init(self, kernel: Any, mm: Any, oldmm: Any = None) -> None:
        mm.row = 0

    def mm_release(self, mm: Any) -> None:
        self.calls.append(("mm_release", mm))

    def get_mm_counter(self, mm: Any, member: int) -> int:
        return len(self.of(mm)) if member == MM_ANONPAGES else 0

    def get_mm_rss(self, mm: Any) -> int:
        return len(self.of(mm))

    def update_hiwater_rss(self, mm: Any) -> None:
        self.set_hiwater_rss(mm, max(self.get_hiwater_rss(mm), self.get_mm_rss(mm)))

    def get_hiwater_rss(self, mm: Any) -> int:
        return self.hiwater_rss.get(id(mm), 0)

    def set_hiwater_rss(self, mm: Any, pages: int) -> None:
        self.hiwater_rss[id(mm)] = pages

    def mm_pgtables_bytes(self, mm: Any) -> int:
        return 0

    def access_range(self, mm: Any, start: int, end: int, write: bool, stride: int = PAGE) -> None:
        from mmfs.mm.stack import expand_stack

        self.calls.append(("access_range", start, end, write))
        for addr in range(start, end, stride):
            vma = expand_stack(mm, addr)
            if vma is None or not (vma.vm_flags & 2 if write else vma.is_readable()):
                raise Fault(SIGSEGV, addr)
            size = getattr(vma.vm_file.inode, "size", None) if vma.vm_file else None
            if size is not None and vma.vm_pgoff + (addr - vma.vm_start) // PAGE >= size:
                raise Fault(SIGBUS, addr)
            if write and not vma.vm_flags & 8:
                self.rmap.anon_vma_prepare(vma)
            self.of(mm).add(addr & ~(PAGE - 1))

    def zap_page_range(self, mm: Any, vma: Any, start: int, end: int) -> None:
        assert vma.vm_start <= start < end <= vma.vm_end
        self.pages[id(mm)] = {page for page in self.of(mm) if not start <= page < end}

    def free_pgtables(self, mm: Any, floor: int, ceiling: int) -> None:
        assert mm.find_vma_intersection(floor, ceiling) is None
        self.calls.append(("free_pgtables", floor, ceiling))

    def copy_page_range(self, mm: Any, vma: Any, src: Any) -> None:
        self.of(mm).update(page for page in self.of(src.vm_mm) if src.vm_start <= page < src.vm_end)

    def change_protection(self, mm: Any, vma: Any, start: int, end: int) -> None:
        assert vma.vm_start <= start < end <= vma.vm_end
        self.calls.append(("change_protection", start, end))

    def move_page_tables(self, mm: Any, vma: Any, old: int, new_vma: Any, new: int, length: int) -> int:
        if self.fail_move:
            self.fail_move = False
            length //= 2
        moved = {page for page in self.of(mm) if old <= page < old + length}
        self.pages[id(mm)] = (self.of(mm) - moved) | {page - old + new for page in moved}
        return length

    def mlock_vma_pages_range(self, mm: Any, vma: Any, start: int, end: int, lock: bool) -> None:
        assert bool(vma.vm_flags & 0x2000) == lock
        pages = {page for page in self.of(mm) if start <= page < end}
        locked = self.locked.setdefault(id(mm), set())
        self.locked[id(mm)] = locked | pages if lock else locked - pages

    def vma_allocated(self, vma: Any) -> None:
        assert vma.row == -1
        vma.row = 1

    def vma_freed(self, vma: Any) -> None:
        assert vma.row == 1
        vma.row = -1

    def vma_adjust_trans_huge(self, vma: Any, start: int, end: int) -> None:
        """There are no huge pages here."""

    def vma_changed(self, vma: Any) -> None:
        assert vma.row == 1

    def madvise(self, name: str) -> Any:
        return lambda mm, vma, start, end: self.calls.append((f"madvise_{name}", start, end))


class FakeMapping:
    """As filemap.AddressSpace: the VMAs that map it."""

    def __init__(self) -> None:
        self.i_mmap: list[Any] = []

    def vma_link(self, vma: Any) -> None:
        self.i_mmap.append(vma)

    def vma_unlink(self, vma: Any) -> None:
        self.i_mmap.remove(vma)


class FakeFile:
    """As inode.File, with what mmap() asks of it."""

    def __init__(self, path: str = "/data/f", shmem: bool = False, huge: int = 0, mode: int = 3, **inode: Any) -> None:
        self.path = path
        self.f_mode = mode
        self.mapping: FakeMapping | None = FakeMapping()
        self.inode = SimpleNamespace(shmem=shmem, huge_page_size=huge, **inode)
        self.count = 1

    def get(self) -> None:
        self.count += 1

    def put(self) -> None:
        self.count -= 1

    def mmap(self, vma: Any) -> None:
        from mmfs.mm.mman import VM_DONTEXPAND, VM_HUGETLB
        from mmfs.mm.vma import VmOperations

        if self.inode.huge_page_size:
            vma.vm_flags |= VM_HUGETLB | VM_DONTEXPAND
        vma.vm_ops = VmOperations()


class FakeTask:
    """As kernel.task.Task: the owner of an address space."""

    def __init__(self, uid: int = 0, pid: int = 100, comm: str = "test") -> None:
        self.pid, self.comm, self.uid, self.personality = pid, comm, uid, 0
        self.rlimits: dict[int, tuple[int, int]] = {3: (8 * MB, UNLIMITED), 8: (8 * MB, 8 * MB)}

    def capable(self, capability: int) -> bool:
        return self.uid == 0


class FakeKernel:
    """A machine of `ram` and `swap` bytes, with nothing in it."""

    def __init__(self, ram: int = GB, swap: int = 0, la57: bool = True, cmdline: str = "") -> None:
        from mmfs.mm.ksm import INCOMPATIBLE
        from mmfs.mm.util import Overcommit

        self.cmdline = cmdline
        self.machine = SimpleNamespace(cpu=SimpleNamespace(la57=la57, flags=("ospke",)))
        self.options = {"64BIT": True, "X86_INTEL_MEMORY_PROTECTION_KEYS": True}
        self.profile = SimpleNamespace(
            arch=X86_64,
            config=lambda name: self.options.get(name, False),
            since=lambda major, minor: (major, minor) <= (6, 12),
        )
        self.vm = SimpleNamespace(
            max_map_count=65530, mmap_min_addr=65536, legacy_va_layout=0, mmap_rnd_bits=28, mmap_rnd_compat_bits=8
        )
        self.clock = SimpleNamespace(now_ns=0)
        self.log: list[tuple[int, str]] = []
        self.printk = SimpleNamespace(emit=lambda text, level=6: self.log.append((level, text)))
        self.ram_pages = ram >> 12
        self.hugetlb_pages = 0
        self.shmem_huge = SimpleNamespace(alignment=lambda file: 0)
        self.total_swap_pages = swap >> 12
        self.nr_vmas = 0
        self.slab = self
        self.overcommit = Overcommit(self)  # type: ignore[arg-type]
        self.ksm = SimpleNamespace(
            madvise=lambda vma, start, end, merge: not (merge and vma.vm_flags & INCOMPATIBLE),
            unmerge=lambda vma, start, end: None,
            fork=lambda mm, oldmm: None,
            leave=lambda mm: None,
        )
        self.khugepaged = SimpleNamespace(madvise_collapse=self._no_huge_pages)

    def totalram_pages(self) -> int:
        return self.ram_pages

    def hugetlb_total_pages(self) -> int:
        return self.hugetlb_pages

    def _no_huge_pages(self, vma: object, start: int, end: int) -> None:
        raise OSError(EINVAL, "huge pages are not possible there")

    def __contains__(self, name: str) -> bool:
        return True

    def alloc(self, name: str) -> int:
        """An object of a slab cache, all of which there are."""
        self.nr_vmas += name == "vm_area_struct"
        return 1 if name == "vm_area_struct" else 2

    def free(self, obj: int) -> None:
        self.nr_vmas -= obj == 1


def new_mm(kernel: FakeKernel, task: FakeTask | None = None, seed: int = 1) -> Any:
    """An empty address space with a layout."""
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.mmap import arch_pick_mmap_layout

    mm = MmStruct(kernel, task or FakeTask())  # type: ignore[arg-type]
    mm.row = 0
    arch_pick_mmap_layout(mm, random.Random(seed), mm.rlimit(3))
    return mm


def layout(mm: Any) -> list[tuple[int, int]]:
    """The ranges that are mapped."""
    return [(vma.vm_start, vma.vm_end) for vma in mm.mmap]


def check_mm(mm: Any) -> None:
    """What must hold of an address space at any time: order, gaps, sums, and the promises of memory."""
    from mmfs.mm.mman import VM_ACCOUNT, VM_LOCKED, is_data_mapping, is_exec_mapping, is_stack_mapping

    vmas = list(mm.mmap)
    assert mm.map_count == len(vmas)
    assert mm.mt.ends == [vma.vm_end for vma in vmas]
    last = 0
    gaps = []
    for vma in vmas:
        assert vma.vm_mm is mm
        assert last <= vma.vm_start < vma.vm_end
        if last < vma.vm_start:
            gaps.append((last, vma.vm_start))
        last = vma.vm_end
    assert mm.mt.gaps() == [*gaps, (last, 1 << 64)]

    def total(test: Any) -> int:
        return sum(vma.pages for vma in vmas if test(vma.vm_flags))

    assert mm.total_vm == total(lambda flags: True)
    assert mm.exec_vm == total(is_exec_mapping)
    assert mm.stack_vm == total(is_stack_mapping)
    assert mm.data_vm == total(lambda f: is_data_mapping(f) and not is_exec_mapping(f) and not is_stack_mapping(f))
    assert mm.locked_vm == total(lambda flags: flags & VM_LOCKED)
    assert mm.kernel.nr_vmas >= len(vmas)
    assert mm.kernel.overcommit.vm_committed_as >= total(lambda flags: flags & VM_ACCOUNT)


def unmapped(mm: Any) -> Iterator[int]:
    """Pages that are there although nothing maps them (there must be none)."""
    from mmfs.mm import memory

    return (page for page in memory.of(mm) if mm.vma_lookup(page) is None)  # type: ignore[attr-defined]
