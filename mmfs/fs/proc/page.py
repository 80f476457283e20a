"""/proc/kpagecount, kpageflags, kpagecgroup: eight bytes a frame, read by position.

The flags of user space (KPF_*) are stable across kernels; they are made here from the bits of page records, or, for
a pageblock that has no records of its own (free, reserved or mapped as a whole), from the block.

Linux: fs/proc/page.c, stable_page_flags(); include/uapi/linux/kernel-page-flags.h.

Simplified: the fields of a slab page that overlap a page's mapping show nothing (Linux shows them as ANON and KSM).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmfs.fs.proc.root import proc
from mmfs.mm import hugetlb_failure
from mmfs.mm.folio import of_tails
from mmfs.mm.huge_memory import states_of
from mmfs.mm.sparse import PAGES_PER_SECTION
from mmfs.mm_types import (
    BLK_FREE,
    BLK_HUGE,
    BLK_HUGETLB,
    BLK_RESERVED,
    BLK_SPLIT,
    BLK_TAIL,
    BLK_VIRGIN,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    PG_ACTIVE,
    PG_ANON,
    PG_BUDDY,
    PG_DIRTY,
    PG_HEAD,
    PG_HUGETLB,
    PG_HWPOISON,
    PG_IDLE,
    PG_KSM,
    PG_LOCKED,
    PG_LRU,
    PG_MLOCKED,
    PG_PRIVATE,
    PG_RECLAIM,
    PG_REFERENCED,
    PG_RESERVED,
    PG_SLAB,
    PG_SWAPBACKED,
    PG_SWAPCACHE,
    PG_TABLE,
    PG_TAIL,
    PG_UNEVICTABLE,
    PG_UPTODATE,
    PG_WRITEBACK,
)
from mmfs.profile import config

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

    U64 = NDArray[np.uint64]

KPMSIZE = 8
PUD_LEVEL = 3
"""The highest level of page tables that Linux marks and counts as such (pagetable_pud_ctor())."""

class Kpf(IntEnum):
    """Bit numbers in kpageflags. Linux: KPF_*."""

    LOCKED = 0
    REFERENCED = 2
    UPTODATE = 3
    DIRTY = 4
    LRU = 5
    ACTIVE = 6
    SLAB = 7
    WRITEBACK = 8
    RECLAIM = 9
    BUDDY = 10
    MMAP = 11
    ANON = 12
    SWAPCACHE = 13
    SWAPBACKED = 14
    COMPOUND_HEAD = 15
    COMPOUND_TAIL = 16
    HUGE = 17
    UNEVICTABLE = 18
    HWPOISON = 19
    NOPAGE = 20
    KSM = 21
    THP = 22
    OFFLINE = 23
    ZERO_PAGE = 24
    IDLE = 25
    PGTABLE = 26
    RESERVED = 32
    MLOCKED = 33
    PRIVATE = 35


COPIED = (
    (PG_LOCKED, Kpf.LOCKED),
    (PG_REFERENCED, Kpf.REFERENCED),
    (PG_UPTODATE, Kpf.UPTODATE),
    (PG_DIRTY, Kpf.DIRTY),
    (PG_LRU, Kpf.LRU),
    (PG_ACTIVE, Kpf.ACTIVE),
    (PG_SLAB, Kpf.SLAB),
    (PG_WRITEBACK, Kpf.WRITEBACK),
    (PG_RECLAIM, Kpf.RECLAIM),
    (PG_BUDDY, Kpf.BUDDY),
    (PG_ANON, Kpf.ANON),
    (PG_SWAPBACKED, Kpf.SWAPBACKED),
    (PG_HEAD, Kpf.COMPOUND_HEAD),
    (PG_TAIL, Kpf.COMPOUND_TAIL),
    (PG_UNEVICTABLE, Kpf.UNEVICTABLE),
    (PG_HWPOISON, Kpf.HWPOISON),
    (PG_KSM, Kpf.KSM),
    (PG_IDLE, Kpf.IDLE),
    (PG_TABLE, Kpf.PGTABLE),
    (PG_RESERVED, Kpf.RESERVED),
    (PG_MLOCKED, Kpf.MLOCKED),
    (PG_PRIVATE, Kpf.PRIVATE),
)


def bit(flag: Kpf) -> int:
    """The value of a flag."""
    return 1 << flag


BLOCK_FLAGS = {
    BLK_VIRGIN: bit(Kpf.BUDDY),
    BLK_FREE: bit(Kpf.BUDDY),
    BLK_TAIL: bit(Kpf.BUDDY),
    BLK_RESERVED: bit(Kpf.RESERVED),
}
"""What the frames of a block without page records show."""


def stable_page_flags(flags: NDArray[np.uint32], mapcount: NDArray[np.int32]) -> U64:
    """KPF bits of page records.

    Linux: fs/proc/page.c, stable_page_flags().
    """
    out = np.zeros(len(flags), np.uint64)
    for ours, theirs in COPIED:
        out[flags & ours != 0] |= np.uint64(bit(theirs))
    out[mapcount > 0] |= np.uint64(bit(Kpf.MMAP))
    out[flags & (PG_SWAPCACHE | PG_SWAPBACKED) == PG_SWAPCACHE | PG_SWAPBACKED] |= np.uint64(bit(Kpf.SWAPCACHE))
    large = (flags & (PG_HEAD | PG_TAIL) != 0) & (flags & (PG_ANON | PG_LRU) != 0)
    out[large] |= np.uint64(bit(Kpf.THP))
    return out


def spread_buddy(flags: U64, order: NDArray[np.uint32]) -> None:
    """Every frame of a free block is BUDDY, not its first only. Linux: is_free_buddy_page()."""
    for head in np.nonzero(flags & np.uint64(bit(Kpf.BUDDY)))[0]:
        flags[head : head + (1 << int(order[head]))] |= np.uint64(bit(Kpf.BUDDY))


def block_pageflags(kernel: Kernel, block: int) -> U64:
    """KPF bits of the frames of a pageblock."""
    frames = kernel.frames
    record = frames.blocks[block]
    state = int(record["state"])
    if state == BLK_SPLIT:
        pages = frames.pages[block << PAGEBLOCK_ORDER : (block + 1) << PAGEBLOCK_ORDER]
        flags = stable_page_flags(pages["flags"], pages["mapcount"])
        uncounted = (pages["flags"] & PG_TABLE != 0) & (pages["private"] > PUD_LEVEL)
        flags[uncounted] &= ~np.uint64(bit(Kpf.PGTABLE))
        spread_buddy(flags, pages["private"])
        flags |= folio_pageflags(kernel, block)
        flags[flags & np.uint64(bit(Kpf.COMPOUND_HEAD)) != 0] &= ~np.uint64(bit(Kpf.COMPOUND_TAIL))
    elif state == BLK_HUGE:
        flags = huge_pageflags(kernel, block)
    elif state == BLK_HUGETLB:
        flags = np.zeros(PAGEBLOCK_NR_PAGES, np.uint64)
    else:
        if state == BLK_VIRGIN and not kernel.page_alloc.in_extent(block << PAGEBLOCK_ORDER):
            state = BLK_RESERVED  # a hole inside a section has reserved struct pages
        flags = np.full(PAGEBLOCK_NR_PAGES, BLOCK_FLAGS[state], np.uint64)
    for low, high in hugetlb_parts(kernel, block):
        flags[low:high] = hugetlb_pageflags(kernel, (block << PAGEBLOCK_ORDER) + low, high - low)
    for pfn in kernel.memory_failure.poisoned:
        if pfn >> PAGEBLOCK_ORDER == block:
            flags[pfn & PAGEBLOCK_NR_PAGES - 1] |= np.uint64(bit(Kpf.HWPOISON))
    zero = kernel.mmu.anon.zero_pfn - (block << PAGEBLOCK_ORDER)
    if 0 <= zero < PAGEBLOCK_NR_PAGES:
        flags[zero] |= np.uint64(bit(Kpf.ZERO_PAGE))
    return flags


def huge_pageflags(kernel: Kernel, block: int) -> U64:
    """KPF bits of the frames of a huge page that come from its folio: the first frame is the head."""
    frames = kernel.frames
    record = frames.pages[frames.huge + block]
    head = stable_page_flags(record["flags"][np.newaxis], record["mapcount"][np.newaxis])
    flags = np.repeat(head & ~np.uint64(bit(Kpf.COMPOUND_HEAD)) | np.uint64(bit(Kpf.COMPOUND_TAIL)), PAGEBLOCK_NR_PAGES)
    flags[0] = head[0]
    return flags


def frames_of_folios(kernel: Kernel, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The frames of a pageblock that are of folios of several pages, counted from its first, and these."""
    first = block << PAGEBLOCK_ORDER
    flags = kernel.frames.pages["flags"][first : first + PAGEBLOCK_NR_PAGES]
    tails = np.flatnonzero(flags & (PG_TAIL | PG_SLAB) == PG_TAIL)
    return tails, of_tails(kernel.frames, first + tails)


def folio_pageflags(kernel: Kernel, block: int) -> U64:
    """KPF bits of the frames of a pageblock that come from their folios: the first frame of each is the head."""
    tails, folios = frames_of_folios(kernel, block)
    flags = np.zeros(PAGEBLOCK_NR_PAGES, np.uint64)
    heads = np.diff(folios, prepend=-1) != 0
    records = kernel.frames.pages[folios]
    flags[tails] = stable_page_flags(records["flags"], records["mapcount"])
    flags[tails[~heads]] &= ~np.uint64(bit(Kpf.COMPOUND_HEAD))
    return flags


def hugetlb_parts(kernel: Kernel, block: int) -> Iterator[tuple[int, int]]:
    """Where huge pages of pools, or a part of one, lie in a pageblock: from which of its frames to which."""
    state = kernel.frames.blocks["state"][block]
    if state == BLK_HUGETLB:
        yield 0, PAGEBLOCK_NR_PAGES
    elif state == BLK_SPLIT:
        pages = kernel.frames.pages[block << PAGEBLOCK_ORDER : (block + 1) << PAGEBLOCK_ORDER]
        end = 0
        for at in np.flatnonzero(pages["flags"] & PG_HUGETLB).tolist():
            if at >= end:
                end = at + (1 << int(pages["private"][at]))
                yield at, end


def hugetlb_pageflags(kernel: Kernel, pfn: int, nr_pages: int) -> U64:
    """KPF bits of the frames of a huge page, or of a part of one.

    Linux 6.12 takes the bit of anonymous pages for that of KSM.

    Simplified: a free one shows no trace of who had it.
    """
    order, folio = kernel.hugetlb.folio_hstate(pfn).order, hugetlb_failure.folio_in_use(kernel, pfn)
    common = bit(Kpf.HUGE)
    if folio is not None:
        common |= bit(Kpf.UPTODATE)
        common |= bit(Kpf.MMAP) if folio.mapcount else 0
        common |= bit(Kpf.ANON) | bit(Kpf.KSM) if folio.anon else 0
        common |= bit(Kpf.DIRTY) if folio.dirty else 0
    flags = np.full(nr_pages, common | bit(Kpf.COMPOUND_TAIL), np.uint64)
    if pfn & (1 << order) - 1 == 0:
        flags[0] = common | bit(Kpf.COMPOUND_HEAD)
    return flags


def block_mapcount(kernel: Kernel, block: int) -> U64:
    """How often each frame of a pageblock is mapped. Linux: folio_precise_page_mapcount()."""
    first, mapcounts = block << PAGEBLOCK_ORDER, np.zeros(PAGEBLOCK_NR_PAGES, np.uint64)
    if kernel.frames.blocks["state"][block] in (BLK_SPLIT, BLK_HUGE):
        _, counts = states_of(kernel.frames, np.arange(first, first + PAGEBLOCK_NR_PAGES))
        mapcounts[:] = np.maximum(counts, 0)
    for low, high in hugetlb_parts(kernel, block):
        folio = hugetlb_failure.folio_in_use(kernel, first + low)
        mapcounts[low:high] = folio.mapcount if folio is not None else 0
    return mapcounts


def block_cgroup(kernel: Kernel, block: int) -> U64:
    """The inode number of the cgroup that each frame of a pageblock is charged to; 0: to none.

    Linux: page_cgroup_ino().
    """
    frames = kernel.frames
    flags = block_pageflags(kernel, block)
    rows = np.zeros(PAGEBLOCK_NR_PAGES, np.intp)
    state = int(frames.blocks["state"][block])
    if state == BLK_SPLIT:
        rows[:] = frames.pages["memcg"][block << PAGEBLOCK_ORDER : (block + 1) << PAGEBLOCK_ORDER]
        tails, folios = frames_of_folios(kernel, block)
        rows[tails] = frames.pages["memcg"][folios]
    elif state == BLK_HUGE:
        rows[:] = frames.pages["memcg"][frames.huge + block]
    charged = (rows != 0) & (flags & np.uint64(bit(Kpf.BUDDY)) == 0) | (flags & np.uint64(bit(Kpf.LRU)) != 0)
    found = np.zeros(PAGEBLOCK_NR_PAGES, np.uint64)
    for row, inode in cgroup_inodes(kernel, np.unique(rows[charged])).items():
        found[charged & (rows == row)] = inode
    return found


def cgroup_inodes(kernel: Kernel, rows: NDArray[np.intp]) -> dict[int, int]:
    """The directory of each row of the memory controller, or of the nearest above that is not removed."""
    found: dict[int, int] = {}
    for row in rows.tolist():
        memcg = kernel.memcgs.rows[row]
        while not memcg.online and memcg.parent is not None:
            memcg = memcg.parent
        found[row] = memcg.cgroup.id
    return found


def read_frames(
    kernel: Kernel, offset: int, size: int, of_block: Callable[[Kernel, int], U64], outside: int = 0
) -> bytes:
    """A read(2) of an array of u64 by frame number: aligned to 8 bytes, up to the end of the last section."""
    if offset % KPMSIZE or size % KPMSIZE:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    first = offset // KPMSIZE
    end = -(-kernel.max_pfn // PAGES_PER_SECTION) * PAGES_PER_SECTION
    last = min(first + size // KPMSIZE, end)
    if first >= last:
        return b""
    blocks = range(first >> PAGEBLOCK_ORDER, (last - 1 >> PAGEBLOCK_ORDER) + 1)
    none = np.full(PAGEBLOCK_NR_PAGES, outside, np.uint64)
    online = kernel.sections.online
    parts = [of_block(kernel, block) if online(block << PAGEBLOCK_ORDER) else none for block in blocks]
    start = first - (blocks.start << PAGEBLOCK_ORDER)
    return np.concatenate(parts)[start : start + last - first].astype("<u8").tobytes()


@proc.binary("kpagecount", mode=0o400)
def kpagecount(kernel: Kernel, offset: int, size: int) -> bytes:
    """How often each frame is mapped."""
    return read_frames(kernel, offset, size, block_mapcount)


@proc.binary("kpageflags", mode=0o400)
def kpageflags(kernel: Kernel, offset: int, size: int) -> bytes:
    """What each frame is, as KPF bits."""
    return read_frames(kernel, offset, size, block_pageflags, bit(Kpf.NOPAGE))


@proc.binary("kpagecgroup", mode=0o400, needs=config("MEMCG"))
def kpagecgroup(kernel: Kernel, offset: int, size: int) -> bytes:
    """Which cgroup each frame is charged to."""
    return read_frames(kernel, offset, size, block_cgroup)
