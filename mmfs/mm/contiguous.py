"""Setting contiguous memory areas aside, before anybody else has their memory: `cma=SIZE[@BASE[-LIMIT]]`, and areas on
nodes with `numa_cma=NODE:SIZE,...` and `cma_pernuma=SIZE`.

Linux: kernel/dma/contiguous.c; mm/cma.c, cma_declare_contiguous_nid().

Simplified: `hugetlb_cma=` is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mmfs.mm.cmdline import memparse
from mmfs.mm.memblock import NUMA_NO_NODE, CmaRange, Memblock
from mmfs.mm_types import PAGE_SHIFT, PAGEBLOCK_NR_PAGES

MB, FOUR_GB = 1 << 20, 1 << 32
CMA_MIN_ALIGNMENT_BYTES = PAGEBLOCK_NR_PAGES << PAGE_SHIFT
MAX_CMA_AREAS = 20


class CmaRequest(NamedTuple):
    """An area that the command line asks for, in bytes; what it leaves open is 0."""

    name: str
    size: int
    base: int = 0
    limit: int = 0
    nid: int = NUMA_NO_NODE

    @property
    def fixed(self) -> bool:
        """Whether it says just where."""
        return bool(self.base) and self.base + self.size == self.limit


def cma_requests(cmdline: str, nids: list[int]) -> Iterator[CmaRequest]:
    """The areas in the order in which they are reserved. Linux: dma_contiguous_reserve(), dma_numa_cma_reserve()."""
    options = dict(word.split("=", 1) for word in cmdline.split() if "=" in word)
    by_node = _numa_sizes(options.get("numa_cma", ""))
    pernuma = memparse(options.get("cma_pernuma", ""))
    for nid in nids:
        if pernuma:
            yield CmaRequest(f"pernuma{nid}", pernuma, nid=nid)
        if by_node.get(nid):
            yield CmaRequest(f"numa{nid}", by_node[nid], nid=nid)
    size_text, _, place = options.get("cma", "").partition("@")
    if size := memparse(size_text):
        base_text, dash, limit_text = place.partition("-")
        base = memparse(base_text)
        yield CmaRequest("reserved", size, base, memparse(limit_text) if dash else base + size if place else 0)


def _numa_sizes(text: str) -> dict[int, int]:
    """Sizes by node, up to what cannot be read. Linux: early_numa_cma()."""
    sizes: dict[int, int] = {}
    for part in text.split(","):
        node, colon, size = part.partition(":")
        if not (colon and node.isdecimal()):
            break
        sizes[int(node)] = memparse(size)
    return sizes


def dma_contiguous_reserve(memblock: Memblock, nids: list[int]) -> None:
    """Set aside what the command line asks for, as far as there is room; what becomes of it is for the boot log."""
    for wanted in cma_requests(memblock.cmdline, nids):
        size = -(-wanted.size // CMA_MIN_ALIGNMENT_BYTES) * CMA_MIN_ALIGNMENT_BYTES
        start = _place(memblock, wanted, size) if len(memblock.cma_areas) < MAX_CMA_AREAS else -1
        if start < 0:
            memblock.cma_log.append(f"Failed to reserve {size // MB} MiB on node {wanted.nid}")
            continue
        memblock.reserve(start, start + size, f"CMA {wanted.name}")
        memblock.cma_areas.append(CmaRange(wanted.name, start >> PAGE_SHIFT, start + size >> PAGE_SHIFT))
        memblock.cma_log.append(f"Reserved {size // MB} MiB at 0x{start:016x} on node {wanted.nid}")


def _place(memblock: Memblock, wanted: CmaRequest, size: int) -> int:
    """Where an area goes: the lowest place above 4 GB, else the highest; -1 if there is none.

    Linux: cma_declare_contiguous_nid().
    """
    align, memory_end = CMA_MIN_ALIGNMENT_BYTES, memblock.max_pfn << PAGE_SHIFT
    base = -(-wanted.base // align) * align
    limit = min(wanted.limit & -align or memory_end, memory_end)
    if wanted.fixed and wanted.base % align:
        memblock.cma_log.append(f"Region at 0x{wanted.base:016x} must be aligned to 0x{align:016x} bytes")
        return -1
    if base + size > limit:
        memblock.cma_log.append(f"Size (0x{size:016x}) of region at 0x{base:016x} exceeds limit (0x{limit:016x})")
        return -1
    if wanted.fixed:
        return base if memblock.find_bottom_up(size, align, base, base + size) == base else -1
    start = -1
    if memory_end >= FOUR_GB + size:
        start = memblock.find_bottom_up(size, align, FOUR_GB, limit, wanted.nid)
    return start if start >= 0 else memblock.find_top_down(size, align, base, limit, wanted.nid)
