"""What a process maps: maps, smaps, smaps_rollup, numa_maps, pagemap, map_files.

The counts come from one walk over the page tables of a mapping (fastpath/pgtable.py).

Linux: fs/proc/task_mmu.c.

Simplified: `active` of numa_maps is 0, as it is with the multi-generational LRU of 6.12; nothing is THP eligible.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmfs.fs.proc.pid import check_ptrace, pid_dir
from mmfs.mm.mman import (
    VM_ACCOUNT,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DONTEXPAND,
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
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_PFNMAP,
    VM_RAND_READ,
    VM_READ,
    VM_SEQ_READ,
    VM_SHARED,
    VM_SOFTDIRTY,
    VM_WIPEONFORK,
    VM_WRITE,
)
from mmfs.mm_types import (
    NR_SMAPS,
    PAGE_SHIFT,
    PAGE_SIZE,
    PG_ANON,
    PTE_PFN_MASK,
    PTE_PRESENT,
    PTE_SOFT_DIRTY,
    PTE_SPECIAL,
    SMAPS_ANONYMOUS,
    SMAPS_LAZYFREE,
    SMAPS_LOCKED,
    SMAPS_PRIVATE_CLEAN,
    SMAPS_PRIVATE_DIRTY,
    SMAPS_PSS,
    SMAPS_PSS_ANON,
    SMAPS_PSS_DIRTY,
    SMAPS_PSS_FILE,
    SMAPS_PSS_SHMEM,
    SMAPS_REFERENCED,
    SMAPS_RSS,
    SMAPS_SHARED_CLEAN,
    SMAPS_SHARED_DIRTY,
    SMAPS_SWAP,
)

if TYPE_CHECKING:
    from mmfs.kernel.task import Task
    from mmfs.kernfs import Caller, Directory
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct

NAME_COLUMN = 73
PM_SOFT_DIRTY, PM_MMAP_EXCLUSIVE, PM_FILE, PM_PRESENT = (np.uint64(1 << bit) for bit in (55, 56, 61, 63))
PM_ENTRY_BYTES = 8
VM_FLAG_NAMES = (
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
)
FLAG_WORDS = tuple(sorted(VM_FLAG_NAMES))


def _may_look(task: Task, caller: Caller) -> None:
    """Linux: proc_mem_open(), which wants PTRACE_MODE_READ."""
    check_ptrace(task, caller)


def _needs_mm(task: Task, caller: Caller) -> None:
    check_ptrace(task, caller)
    if task.mm is None:
        raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))


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
    return f"{head:<{NAME_COLUMN}}{name}\n" if name else f"{head}\n"


def maps(task: Task) -> str:
    """Every mapping, low to high; nothing for tasks without memory."""
    return "".join([show_map_vma(vma) for vma in task.mm.mmap]) if task.mm is not None else ""


# ---------------------------------------------------------------------------------- smaps


def smap_gather_stats(mm: MmStruct, vma: VmAreaStruct, counts: NDArray[np.int64]) -> None:
    """Add a mapping's pages to the counts. Linux: smap_gather_stats()."""
    mm.kernel.pagetables.smaps(mm.row, vma.vm_flags, vma.vm_start, vma.vm_end, counts)


def _rows(names: tuple[tuple[str, int], ...]) -> str:
    return "".join([f"{name + ':':<16}{kb:8d} kB\n" for name, kb in names])


def show_smap(counts: NDArray[np.int64], rollup: bool) -> str:
    """The counts as rows. Linux: __show_smap()."""
    pages = [int(count) for count in counts]
    kb = [count << 2 for count in pages]
    pss = {column: pages[column] >> 22 for column in (SMAPS_PSS, SMAPS_PSS_DIRTY, SMAPS_PSS_ANON, SMAPS_PSS_FILE,
                                                        SMAPS_PSS_SHMEM, SMAPS_LOCKED)}  # fmt: skip
    parts = (
        (("Pss_Anon", pss[SMAPS_PSS_ANON]), ("Pss_File", pss[SMAPS_PSS_FILE]), ("Pss_Shmem", pss[SMAPS_PSS_SHMEM]))
        if rollup
        else ()
    )
    return _rows((
        ("Rss", kb[SMAPS_RSS]),
        ("Pss", pss[SMAPS_PSS]),
        ("Pss_Dirty", pss[SMAPS_PSS_DIRTY]),
        *parts,
        ("Shared_Clean", kb[SMAPS_SHARED_CLEAN]),
        ("Shared_Dirty", kb[SMAPS_SHARED_DIRTY]),
        ("Private_Clean", kb[SMAPS_PRIVATE_CLEAN]),
        ("Private_Dirty", kb[SMAPS_PRIVATE_DIRTY]),
        ("Referenced", kb[SMAPS_REFERENCED]),
        ("Anonymous", kb[SMAPS_ANONYMOUS]),
        ("KSM", 0),
        ("LazyFree", kb[SMAPS_LAZYFREE]),
        ("AnonHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FilePmdMapped", 0),
        ("Shared_Hugetlb", 0),
        ("Private_Hugetlb", 0),
        ("Swap", kb[SMAPS_SWAP]),
        ("SwapPss", 0),
        ("Locked", pss[SMAPS_LOCKED]),
    ))  # fmt: skip


def vm_flag_words(vm_flags: int) -> str:
    """The two letters of every flag that is set. Linux: show_smap_vma_flags()."""
    return "".join([f"{word} " for bit, word in FLAG_WORDS if vm_flags & bit])


def smaps(task: Task) -> str:
    """maps with what of each mapping is there, and how. Linux: show_smap()."""
    mm = task.mm
    if mm is None:
        return ""
    parts = []
    for vma in mm.mmap:
        counts = np.zeros(NR_SMAPS, np.int64)
        smap_gather_stats(mm, vma, counts)
        size = _rows((("Size", vma.vm_end - vma.vm_start >> 10), ("KernelPageSize", 4), ("MMUPageSize", 4)))
        parts.append(
            f"{show_map_vma(vma)}{size}{show_smap(counts, False)}"
            f"THPeligible:    {0:8d}\nProtectionKey:  {0:8d}\nVmFlags: {vm_flag_words(vma.vm_flags)}\n"
        )
    return "".join(parts)


def smaps_rollup(task: Task) -> str:
    """The sum over all mappings. Linux: show_smaps_rollup()."""
    mm = task.mm
    if mm is None:
        raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))
    counts = np.zeros(NR_SMAPS, np.int64)
    for vma in mm.mmap:
        smap_gather_stats(mm, vma, counts)
    first, last = (mm.mmap[0].vm_start, mm.mmap[-1].vm_end) if mm.mmap else (0, 0)
    head = f"{first:08x}-{last:08x} ---p 00000000 00:00 0 "
    return f"{head:<{NAME_COLUMN}}[rollup]\n{show_smap(counts, True)}"


# ---------------------------------------------------------------------------------- numa_maps


def numa_maps(task: Task) -> str:
    """Every mapping's memory policy and where its pages are. Linux: show_numa_map()."""
    mm = task.mm
    return "".join([show_numa_map(task, mm, vma) for vma in mm.mmap]) if mm is not None else ""


def show_numa_map(task: Task, mm: MmStruct, vma: VmAreaStruct) -> str:
    """A line of numa_maps."""
    policy = vma.vm_policy if vma.vm_policy is not None else task.mempolicy
    words = [f"{vma.vm_start:08x} {policy if policy is not None else 'default'}"]
    if vma.vm_file is not None:
        path = file_path(vma)
        for char in "\\\n\t= ":
            path = path.replace(char, f"\\{ord(char):03o}")
        words.append(f"file={path}")
    elif vma.vm_start <= mm.brk and vma.vm_end >= mm.start_brk:
        words.append("heap")
    elif vma.vm_start <= mm.start_stack <= vma.vm_end:
        words.append("stack")
    nodes = len(mm.kernel.node_data)
    counts = np.zeros(nodes + 5, np.int64)
    mm.kernel.pagetables.count_nodes(mm.row, vma.vm_start, vma.vm_end, counts)
    per_node, (anon, dirty, _, mapmax, _) = counts[:nodes], (int(n) for n in counts[nodes:])
    pages = int(per_node.sum())
    if pages:
        words += [f"anon={anon}"] if anon else []
        words += [f"dirty={dirty}"] if dirty else []
        words += [f"mapped={pages}"] if pages not in (anon, dirty) else []
        words += [f"mapmax={mapmax}"] if mapmax > 1 else []
        words.append("active=0")
        words += [f"N{nid}={int(count)}" for nid, count in enumerate(per_node) if count]
        words.append("kernelpagesize_kB=4")
    return " ".join(words) + "\n"


# ---------------------------------------------------------------------------------- pagemap


def pagemap(task: Task, offset: int, size: int, caller: Caller) -> bytes:
    """8 bytes a page of the address space: frame, soft-dirty, exclusive, file, present. Linux: pagemap_read()."""
    mm = task.mm
    if mm is None:
        return b""
    if offset % PM_ENTRY_BYTES or size % PM_ENTRY_BYTES:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    start = offset // PM_ENTRY_BYTES * PAGE_SIZE
    pages = min(size // PM_ENTRY_BYTES, max(mm.task_size - start, 0) // PAGE_SIZE)
    if pages <= 0:
        return b""
    return pagemap_entries(mm, start, pages, show_pfn=caller.uid == 0).tobytes()


def pagemap_entries(mm: MmStruct, start: int, pages: int, show_pfn: bool) -> NDArray[np.uint64]:
    """The entries of ``pages`` pages from an address on. Linux: pte_to_pagemap_entry()."""
    kernel = mm.kernel
    raw = np.zeros(pages, np.uint64)
    kernel.pagetables.read_entries(mm.row, start, raw)
    out = np.zeros(pages, np.uint64)
    here = np.flatnonzero(raw & np.uint64(PTE_PRESENT))
    entries = raw[here]
    pfns = (entries & np.uint64(PTE_PFN_MASK)) >> np.uint64(PAGE_SHIFT)
    value = np.full(len(here), PM_PRESENT)
    if show_pfn:
        value |= pfns
    value[entries & np.uint64(PTE_SOFT_DIRTY) != 0] |= PM_SOFT_DIRTY
    normal = entries & np.uint64(PTE_SPECIAL) == 0
    records = kernel.frames.pages[pfns.astype(np.int64)]
    value[normal & (records["flags"] & PG_ANON == 0)] |= PM_FILE
    value[normal & (records["mapcount"] == 1)] |= PM_MMAP_EXCLUSIVE
    out[here] = value
    end = start + pages * PAGE_SIZE
    vma = mm.find_vma(start)
    while vma is not None and vma.vm_start < end:
        if vma.vm_flags & VM_SOFTDIRTY:
            low, high = max(vma.vm_start, start), min(vma.vm_end, end)
            out[(low - start) // PAGE_SIZE : (high - start) // PAGE_SIZE] |= PM_SOFT_DIRTY
        vma = mm.find_vma(vma.vm_end)
    return out


# ---------------------------------------------------------------------------------- declared


def declare_task_mmu(files: Directory[Task]) -> None:
    """The files that a process and each of its threads have alike."""
    for name, show in (("maps", maps), ("smaps", smaps), ("numa_maps", numa_maps)):
        files.attributes(name, show, open=_may_look)
    files.attributes("smaps_rollup", smaps_rollup, open=_needs_mm)
    files.binary("pagemap", mode=0o400, open=_needs_mm, wants_caller=True)(pagemap)


declare_task_mmu(pid_dir)


def _map_files(task: Task) -> list[str]:
    return (
        [f"{vma.vm_start:x}-{vma.vm_end:x}" for vma in task.mm.mmap if vma.vm_file is not None]
        if task.mm is not None
        else []
    )


def _map_file(task: Task, name: str) -> VmAreaStruct | None:
    start, dash, end = name.partition("-")
    if task.mm is None or not dash or name not in _map_files(task):
        return None
    return task.mm.find_vma(int(start, 16))


map_files_dir: Directory[Task] = pid_dir.directory("map_files", mode=0o500)


@map_files_dir.symlinks(list=_map_files, lookup=_map_file, mode=0o777, size=64)
def map_file(vma: VmAreaStruct) -> str:
    """The file of a mapping."""
    return file_path(vma)
