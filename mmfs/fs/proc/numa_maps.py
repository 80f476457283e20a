"""/proc/PID/numa_maps: every mapping's memory policy, and on which nodes its pages are.

Linux: fs/proc/task_mmu.c, show_numa_map().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from mmfs.fs.proc.pid import attribute, proc_mem_open
from mmfs.fs.proc.task_mmu import file_path
from mmfs.kernfs.bitmap import bitmap_list
from mmfs.mm.hugetlb_vma import folios_in, vma_kernel_pagesize
from mmfs.mm_types import (
    PAGE_SHIFT,
    PAGE_SIZE,
    PG_UNEVICTABLE,
    PTE_DIRTY,
    PTE_GLOBAL,
    PTE_PFN_MASK,
    PTE_PRESENT,
    PTE_SPECIAL,
    NodeStatItem,
)
from mmfs.profile import config

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.kernel.task import Task
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct

ESCAPED: Final = str.maketrans({char: f"\\{ord(char):03o}" for char in "\n\t= "})
"""Linux: the set that show_numa_map() gives seq_path()."""


@attribute("numa_maps", open=proc_mem_open, needs=config("NUMA"))
def numa_maps(task: Task) -> str:
    """A line a mapping, low to high."""
    mm = task.mm
    return "".join([show_numa_map(task, mm, vma) for vma in mm.mmap]) if mm is not None else ""


def show_numa_map(task: Task, mm: MmStruct, vma: VmAreaStruct) -> str:
    """A line of numa_maps."""
    policy = vma.vm_policy if vma.vm_policy is not None else task.mempolicy
    mode = "default" if policy is None else policy.mode
    if policy is not None and policy.nodes:
        mode += f":{bitmap_list(policy.nodes)}"
    words = [f"{vma.vm_start:08x} {mode}"]
    if vma.vm_file is not None:
        words.append(f"file={file_path(vma).translate(ESCAPED)}")
    elif vma.vm_start < mm.brk and vma.vm_end > mm.start_brk:
        words.append("heap")
    elif vma.vm_start <= mm.start_stack <= vma.vm_end:
        words.append("stack")
    huge = vma.is_hugetlb()
    words += ["huge"] if huge else []
    nodes = len(mm.kernel.node_data)
    counts = np.zeros(nodes + 7, np.int64)
    if huge:
        gather_hugetlb_stats(vma, counts)
    else:
        mm.kernel.task_mmu.count_nodes(mm.row, vma.vm_start, vma.vm_end, counts)
    per_node, (anon, dirty, _, mapmax, active, swapcache, writeback) = counts[:nodes].tolist(), counts[nodes:].tolist()
    pages = sum(per_node)
    if pages:
        active = unevictable(mm, vma) if active and not huge else 0
        words += [f"anon={anon}"] if anon else []
        words += [f"dirty={dirty}"] if dirty else []
        words += [f"mapped={pages}"] if pages not in (anon, dirty) else []
        words += [f"mapmax={mapmax}"] if mapmax > 1 else []
        words += [f"swapcache={swapcache}"] if swapcache else []
        words += [f"active={active}"] if active < pages and not huge else []
        words += [f"writeback={writeback}"] if writeback else []
        words += [f"N{nid}={count}" for nid, count in enumerate(per_node) if count]
        words.append(f"kernelpagesize_kB={vma_kernel_pagesize(vma) >> 10}")
    return " ".join(words) + "\n"


def gather_hugetlb_stats(vma: VmAreaStruct, counts: NDArray[np.int64]) -> None:
    """As the fast path's count_nodes(), in huge pages. Linux: gather_hugetlb_stats()."""
    totals = counts[-7:]
    for _, entry, folio in folios_in(vma):
        counts[folio.nid] += 1
        totals[:3] += folio.anon, folio.dirty or bool(entry & PTE_DIRTY), folio.mapcount == 1
        totals[3] = max(int(totals[3]), folio.mapcount)


def unevictable(mm: MmStruct, vma: VmAreaStruct) -> int:
    """Pages of a mapping that count as active: those that are mlocked.

    The multi-generational LRU keeps no active flag on the pages on its lists. Linux: gather_stats().
    """
    kernel = mm.kernel
    if not kernel.vmstat.global_node_page_state(NodeStatItem.NR_UNEVICTABLE):
        return 0
    entries = np.zeros((vma.vm_end - vma.vm_start) // PAGE_SIZE, np.uint64)
    kernel.task_mmu.read_entries(mm.row, vma.vm_start, entries)
    mapped = entries[(entries & np.uint64(PTE_PRESENT | PTE_GLOBAL) != 0) & (entries & np.uint64(PTE_SPECIAL) == 0)]
    pfns = ((mapped & np.uint64(PTE_PFN_MASK)) >> np.uint64(PAGE_SHIFT)).astype(np.int64)
    return int(np.count_nonzero(kernel.frames.pages["flags"][pfns] & PG_UNEVICTABLE))
