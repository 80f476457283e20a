"""What a process maps: maps, smaps, smaps_rollup, map_files.

The counts come from one walk over the page tables of a mapping (fastpath/task_mmu.py).

Linux: fs/proc/task_mmu.c.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import numpy as np

from mmfs.fs.proc.pid import attribute, check_ptrace, needs_mm, pid_dir, proc_mem_open
from mmfs.kernfs.kstrtox import fail
from mmfs.mm.hugetlb_vma import folios_in, nr_poisoned, vma_kernel_pagesize
from mmfs.mm.mman import (
    FMODE_READ,
    FMODE_WRITE,
    VM_ACCOUNT,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DONTEXPAND,
    VM_DROPPABLE,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_IO,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_MERGEABLE,
    VM_MIXEDMAP,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_PFNMAP,
    VM_RAND_READ,
    VM_READ,
    VM_SEALED,
    VM_SEQ_READ,
    VM_SHADOW_STACK,
    VM_SHARED,
    VM_SOFTDIRTY,
    VM_SYNC,
    VM_UFFD_MINOR,
    VM_UFFD_MISSING,
    VM_UFFD_WP,
    VM_WIPEONFORK,
    VM_WRITE,
)
from mmfs.mm_types import (
    NR_SMAPS,
    PAGE_SHIFT,
    SMAPS_ANON_HUGE,
    SMAPS_ANONYMOUS,
    SMAPS_LAZYFREE,
    SMAPS_LOCKED,
    SMAPS_PRIVATE_CLEAN,
    SMAPS_PRIVATE_DIRTY,
    SMAPS_PRIVATE_HUGETLB,
    SMAPS_PSS,
    SMAPS_PSS_ANON,
    SMAPS_PSS_DIRTY,
    SMAPS_PSS_FILE,
    SMAPS_PSS_SHMEM,
    SMAPS_REFERENCED,
    SMAPS_RSS,
    SMAPS_SHARED_CLEAN,
    SMAPS_SHARED_DIRTY,
    SMAPS_SHARED_HUGETLB,
    SMAPS_SHMEM_HUGE,
    SMAPS_SWAP,
    SMAPS_SWAP_PSS,
)
from mmfs.profile import Needs, Profile, config, since, until

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.kernel.task import Task
    from mmfs.kernfs import Caller, Directory
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct

FLAG_WORDS: Final = sorted((
    (VM_READ, "rd"),
    (VM_WRITE, "wr"),
    (VM_EXEC, "ex"),
    (VM_SHARED, "sh"),
    (VM_MAYREAD, "mr"),
    (VM_MAYWRITE, "mw"),
    (VM_MAYEXEC, "me"),
    (VM_MAYSHARE, "ms"),
    (VM_GROWSDOWN, "gd"),
    (VM_PFNMAP, "pf"),
    (VM_LOCKED, "lo"),
    (VM_IO, "io"),
    (VM_SEQ_READ, "sr"),
    (VM_RAND_READ, "rr"),
    (VM_DONTCOPY, "dc"),
    (VM_DONTEXPAND, "de"),
    (VM_LOCKONFAULT, "lf"),
    (VM_ACCOUNT, "ac"),
    (VM_NORESERVE, "nr"),
    (VM_HUGETLB, "ht"),
    (VM_WIPEONFORK, "wf"),
    (VM_DONTDUMP, "dd"),
    (VM_SOFTDIRTY, "sd"),
    (VM_HUGEPAGE, "hg"),
    (VM_NOHUGEPAGE, "nh"),
    (VM_MERGEABLE, "mg"),
    (VM_SYNC, "sf"),
    (VM_MIXEDMAP, "mm"),
    (VM_UFFD_MISSING, "um"),
    (VM_UFFD_WP, "uw"),
    (VM_UFFD_MINOR, "ui"),
    (VM_SHADOW_STACK, "ss"),
    (VM_DROPPABLE, "dp"),
    (VM_SEALED, "sl"),
))  # fmt: skip
"""Bits and their words, in the order of the bits."""


# ---------------------------------------------------------------------------------- maps


def file_path(vma: VmAreaStruct) -> str:
    """The path of a mapping's file as seq_file_path() prints it, deleted or not."""
    assert vma.vm_file is not None
    return f"{vma.vm_file.path} (deleted)" if vma.vm_file.deleted else vma.vm_file.path


def vma_name(vma: VmAreaStruct) -> str:
    """The last column of maps. Linux: get_vma_name()."""
    if vma.vm_file is not None:
        return vma.name or file_path(vma).replace("\n", "\\012")
    return vma.name


def show_map_vma(vma: VmAreaStruct) -> str:
    """A line of maps. Linux: show_map_vma()."""
    flags = vma.vm_flags
    rights = (
        f"{'r' if flags & VM_READ else '-'}{'w' if flags & VM_WRITE else '-'}"
        f"{'x' if flags & VM_EXEC else '-'}{'s' if flags & VM_MAYSHARE else 'p'}"
    )
    pgoff, major, minor, ino = 0, 0, 0, 0
    if vma.vm_file is not None:
        inode = vma.vm_file.inode
        pgoff, (major, minor), ino = vma.vm_pgoff << PAGE_SHIFT, inode.dev, inode.ino
    head = f"{vma.vm_start:08x}-{vma.vm_end:08x} {rights} {pgoff:08x} {major:02x}:{minor:02x} {ino} "
    name = vma_name(vma)
    return f"{head:<{name_column(vma.vm_mm)}}{name}\n" if name else f"{head}\n"


def name_column(mm: MmStruct) -> int:
    """Where names begin. Linux: show_map_vma(), seq_setwidth(25 + sizeof(void *) * 6 - 1)."""
    return 25 + mm.arch.bits_per_long // 8 * 6


@attribute("maps", open=proc_mem_open)
def maps(task: Task) -> str:
    """Every mapping, low to high; nothing for tasks without memory."""
    return "".join([show_map_vma(vma) for vma in task.mm.mmap]) if task.mm is not None else ""


# ---------------------------------------------------------------------------------- smaps


def smap_gather_stats(mm: MmStruct, vma: VmAreaStruct, counts: NDArray[np.int64]) -> None:
    """Add a mapping's pages to the counts. Linux: smap_gather_stats().

    Simplified: of a private mapping of shared memory, what is in swap counts even where the page was copied.
    """
    if vma.is_hugetlb():
        smaps_hugetlb(vma, counts)
        return
    mm.kernel.task_mmu.smaps(mm.row, vma.vm_flags, vma.vm_start, vma.vm_end, counts)
    if vma.vm_file is not None and vma.vm_file.inode.shmem:
        mapping = vma.vm_file.mapping.id
        counts[SMAPS_SWAP] += mm.kernel.mmu.swap.shmem_swap_usage(mapping, vma.vm_pgoff, vma.vm_pgoff + vma.pages)


def smaps_hugetlb(vma: VmAreaStruct, counts: NDArray[np.int64]) -> None:
    """Add a mapping's huge pages, failed ones as shared. Linux: smaps_hugetlb_range()."""
    counts[SMAPS_SHARED_HUGETLB] += nr_poisoned(vma) * vma_kernel_pagesize(vma) >> PAGE_SHIFT
    for _, _, folio in folios_in(vma):
        counts[SMAPS_SHARED_HUGETLB if folio.mapcount > 1 else SMAPS_PRIVATE_HUGETLB] += 1 << folio.hstate.order


SMAP_ROWS: Final[dict[str, Needs | None]] = {
    **dict.fromkeys(("Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty", "Referenced", "Anonymous")),
    "KSM": since(6, 12),
    **dict.fromkeys(
        (
            "LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb", "Swap",
            "SwapPss", "Locked",
        )
    ),
}  # fmt: skip
"""The rows that smaps and smaps_rollup share, with the kernels that have them."""
ELIGIBLE_WIDTH: Final = ((since(6, 12), 8), (until(6, 12), 0))
PSS_SHIFT: Final = 12


@cache
def smap_rows(profile: Profile) -> tuple[str, Callable[[Sequence[int]], tuple[int, ...]]]:
    """A kernel's rows as a template, and what takes their numbers from those of all rows."""
    rows = [(place, name) for place, (name, needs) in enumerate(SMAP_ROWS.items()) if needs is None or needs(profile)]
    return "".join(f"{name + ':':<16}%8d kB\n" for _, name in rows), itemgetter(*(place for place, _ in rows))


@cache
def eligible_width(profile: Profile) -> int:
    """In how many columns a kernel prints THPeligible. Linux: show_smap()."""
    return next(width for needs, width in ELIGIBLE_WIDTH if needs(profile))


def show_smap(profile: Profile, counts: NDArray[np.int64], ksm: int, rollup: bool) -> str:
    """The counts as rows. Linux: __show_smap()."""
    template, take = smap_rows(profile)
    pages = counts.tolist()
    kb = [count << PAGE_SHIFT - 10 for count in pages]
    pss = [count >> PSS_SHIFT + 10 for count in pages]
    parts = (
        f"Pss_Anon:       {pss[SMAPS_PSS_ANON]:8d} kB\nPss_File:       {pss[SMAPS_PSS_FILE]:8d} kB\n"
        f"Pss_Shmem:      {pss[SMAPS_PSS_SHMEM]:8d} kB\n"
        if rollup
        else ""
    )
    return (
        f"Rss:            {kb[SMAPS_RSS]:8d} kB\nPss:            {pss[SMAPS_PSS]:8d} kB\n"
        f"Pss_Dirty:      {pss[SMAPS_PSS_DIRTY]:8d} kB\n{parts}"
    ) + template % take((
        kb[SMAPS_SHARED_CLEAN],
        kb[SMAPS_SHARED_DIRTY],
        kb[SMAPS_PRIVATE_CLEAN],
        kb[SMAPS_PRIVATE_DIRTY],
        kb[SMAPS_REFERENCED],
        kb[SMAPS_ANONYMOUS],
        ksm << PAGE_SHIFT - 10,
        kb[SMAPS_LAZYFREE],
        kb[SMAPS_ANON_HUGE],
        kb[SMAPS_SHMEM_HUGE],
        0,
        kb[SMAPS_SHARED_HUGETLB],
        kb[SMAPS_PRIVATE_HUGETLB],
        kb[SMAPS_SWAP],
        pss[SMAPS_SWAP_PSS],
        pss[SMAPS_LOCKED],
    ))


def ksm_pages(vma: VmAreaStruct) -> int:
    """Pages of a mapping that are merged, those of zeros among them. Linux: smaps_account()."""
    mm = vma.vm_mm
    if vma.anon_vma is None or not any(mm.kernel.ksm.mm_stat(mm)[1:3]):
        return 0
    return int(mm.kernel.ksm.loops.count_range(mm.row, vma.vm_start, vma.vm_end))


SOFT_DIRTY: Final = config("MEM_SOFT_DIRTY")
"""Kernels that remember what was written since it was asked."""


@cache
def vm_flag_words(vm_flags: int) -> str:
    """The two letters of every flag that is set. Linux: show_smap_vma_flags()."""
    return "".join([f"{word} " for bit, word in FLAG_WORDS if vm_flags & bit])


def _protection_key(vma: VmAreaStruct) -> str:
    """A line that only CPUs with protection keys have. Linux: arch_pkeys_enabled()."""
    return f"ProtectionKey:  {vma.pkey:8d}\n" if vma.vm_mm.has_pkeys else ""


@attribute("smaps", open=proc_mem_open)
def smaps(task: Task) -> str:
    """maps with what of each mapping is there, and how. Linux: show_smap()."""
    mm = task.mm
    if mm is None:
        return ""
    parts, profile = [], task.kernel.profile
    width, shown = eligible_width(profile), ~0 if SOFT_DIRTY(profile) else ~VM_SOFTDIRTY
    for vma in mm.mmap:
        counts = np.zeros(NR_SMAPS, np.int64)
        smap_gather_stats(mm, vma, counts)
        page_kb = vma_kernel_pagesize(vma) >> 10
        parts.append(
            f"{show_map_vma(vma)}Size:           {vma.vm_end - vma.vm_start >> 10:8d} kB\n"
            f"KernelPageSize: {page_kb:8d} kB\nMMUPageSize:    {page_kb:8d} kB\n"
            f"{show_smap(profile, counts, ksm_pages(vma), False)}"
            f"THPeligible:    {mm.kernel.thp.allowable(vma):{width}d}\n"
            f"{_protection_key(vma)}VmFlags: {vm_flag_words(vma.vm_flags & shown)}\n"
        )
    return "".join(parts)


@attribute("smaps_rollup", open=needs_mm)
def smaps_rollup(task: Task) -> str:
    """The sum over all mappings. Linux: show_smaps_rollup()."""
    mm = task.mm
    if mm is None:
        fail(errno.ESRCH)
    counts = np.zeros(NR_SMAPS, np.int64)
    for vma in mm.mmap:
        smap_gather_stats(mm, vma, counts)
    first, last = (mm.mmap[0].vm_start, mm.mmap[-1].vm_end) if mm.mmap else (0, 0)
    head = f"{first:08x}-{last:08x} ---p 00000000 00:00 0 "
    rows = show_smap(task.kernel.profile, counts, sum(ksm_pages(vma) for vma in mm.mmap), True)
    return f"{head:<{name_column(mm)}}[rollup]\n{rows}"


# ---------------------------------------------------------------------------------- map_files


def _map_files(task: Task) -> list[str]:
    return (
        [f"{vma.vm_start:x}-{vma.vm_end:x}" for vma in task.mm.mmap if vma.vm_file is not None]
        if task.mm is not None
        else []
    )


def _map_file(task: Task, name: str) -> VmAreaStruct | None:
    """The mapping of exactly these borders, if it has a file. Linux: proc_map_files_lookup()."""
    if task.mm is None:
        return None
    try:
        vma = task.mm.find_vma(int(name.partition("-")[0], 16))
    except ValueError:
        return None
    return vma if vma is not None and vma.vm_file is not None and name == f"{vma.vm_start:x}-{vma.vm_end:x}" else None


def _map_file_mode(vma: VmAreaStruct) -> int:
    """What the file was opened for. Linux: proc_map_files_instantiate()."""
    assert vma.vm_file is not None
    f_mode = vma.vm_file.f_mode
    return (0o400 if f_mode & FMODE_READ else 0) | (0o200 if f_mode & FMODE_WRITE else 0)


map_files_dir: Directory[Task] = pid_dir.directory("map_files", mode=0o500)


@map_files_dir.symlinks(list=_map_files, lookup=_map_file, mode=_map_file_mode, size=64, wants_caller=True)
def map_file(vma: VmAreaStruct, caller: Caller) -> str:
    """The file of a mapping. Linux: map_files_get_link()."""
    owner = vma.vm_mm.owner
    if owner is not None and owner.pid in vma.vm_mm.kernel.tasks:
        check_ptrace(vma.vm_mm.kernel.tasks[owner.pid], caller)
    return file_path(vma)
