"""Words for the log: levels, allocation flags by their names, and what there is to say of a page.

Linux: mm/debug.c, include/linux/kern_levels.h, include/trace/events/mmflags.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.mm_types import (
    BLK_SPLIT,
    GFP_ACCOUNT_BIT,
    GFP_ATOMIC,
    GFP_COMP_BIT,
    GFP_DIRECT_RECLAIM_BIT,
    GFP_DMA32_BIT,
    GFP_DMA_BIT,
    GFP_FS_BIT,
    GFP_HARDWALL_BIT,
    GFP_HIGH_BIT,
    GFP_HIGHMEM_BIT,
    GFP_HIGHUSER,
    GFP_HIGHUSER_MOVABLE,
    GFP_IO_BIT,
    GFP_KERNEL,
    GFP_KERNEL_ACCOUNT,
    GFP_KSWAPD_RECLAIM_BIT,
    GFP_MEMALLOC_BIT,
    GFP_MOVABLE_BIT,
    GFP_NOFAIL_BIT,
    GFP_NOMEMALLOC_BIT,
    GFP_NORETRY_BIT,
    GFP_NOWAIT,
    GFP_NOWARN_BIT,
    GFP_RECLAIM,
    GFP_RECLAIMABLE_BIT,
    GFP_RETRY_MAYFAIL_BIT,
    GFP_THISNODE_BIT,
    GFP_USER,
    GFP_WRITE_BIT,
    GFP_ZERO_BIT,
    PAGEBLOCK_ORDER,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

LOG_EMERG, LOG_ERR, LOG_WARNING, LOG_INFO = 0, 3, 4, 6

_TRANSHUGE_LIGHT: Final = (GFP_HIGHUSER_MOVABLE | GFP_COMP_BIT | GFP_NOMEMALLOC_BIT | GFP_NOWARN_BIT) & ~GFP_RECLAIM

GFPFLAG_NAMES: Final = (
    (_TRANSHUGE_LIGHT | GFP_DIRECT_RECLAIM_BIT, "GFP_TRANSHUGE"), (_TRANSHUGE_LIGHT, "GFP_TRANSHUGE_LIGHT"),
    (GFP_HIGHUSER_MOVABLE, "GFP_HIGHUSER_MOVABLE"), (GFP_HIGHUSER, "GFP_HIGHUSER"), (GFP_USER, "GFP_USER"),
    (GFP_KERNEL_ACCOUNT, "GFP_KERNEL_ACCOUNT"), (GFP_KERNEL, "GFP_KERNEL"), (GFP_RECLAIM | GFP_IO_BIT, "GFP_NOFS"),
    (GFP_ATOMIC, "GFP_ATOMIC"), (GFP_RECLAIM, "GFP_NOIO"), (GFP_NOWAIT, "GFP_NOWAIT"), (GFP_DMA_BIT, "GFP_DMA"),
    (GFP_HIGHMEM_BIT, "__GFP_HIGHMEM"), (GFP_DMA32_BIT, "GFP_DMA32"), (GFP_HIGH_BIT, "__GFP_HIGH"),
    (GFP_IO_BIT, "__GFP_IO"), (GFP_FS_BIT, "__GFP_FS"), (GFP_NOWARN_BIT, "__GFP_NOWARN"),
    (GFP_RETRY_MAYFAIL_BIT, "__GFP_RETRY_MAYFAIL"), (GFP_NOFAIL_BIT, "__GFP_NOFAIL"),
    (GFP_NORETRY_BIT, "__GFP_NORETRY"), (GFP_COMP_BIT, "__GFP_COMP"), (GFP_ZERO_BIT, "__GFP_ZERO"),
    (GFP_NOMEMALLOC_BIT, "__GFP_NOMEMALLOC"), (GFP_MEMALLOC_BIT, "__GFP_MEMALLOC"),
    (GFP_HARDWALL_BIT, "__GFP_HARDWALL"), (GFP_THISNODE_BIT, "__GFP_THISNODE"),
    (GFP_RECLAIMABLE_BIT, "__GFP_RECLAIMABLE"), (GFP_MOVABLE_BIT, "__GFP_MOVABLE"),
    (GFP_ACCOUNT_BIT, "__GFP_ACCOUNT"), (GFP_WRITE_BIT, "__GFP_WRITE"),
    (GFP_DIRECT_RECLAIM_BIT, "__GFP_DIRECT_RECLAIM"), (GFP_KSWAPD_RECLAIM_BIT, "__GFP_KSWAPD_RECLAIM"),
)  # fmt: skip
"""In the order in which they are looked for, those of most bits first. Linux: __def_gfpflag_names."""


def gfp_flag_names(gfp: int) -> str:
    """Allocation flags as %pGg prints them. Linux: lib/vsprintf.c, format_flags()."""
    names = []
    for mask, name in GFPFLAG_NAMES:
        if gfp & mask == mask:
            names.append(name)
            gfp &= ~mask
    return "|".join(names if not gfp else [*names, f"{gfp:#x}"])


def ranges(numbers: list[int]) -> str:
    """Rising numbers as %*pbl prints them: 0-3,8. Linux: lib/vsprintf.c, bitmap_list_string()."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


PAGEFLAG_NAMES: Final = (
    "locked", "writeback", "referenced", "uptodate", "dirty", "lru", "head", "waiters", "active", "workingset",
    "owner_priv_1", "owner_2", "arch_1", "reserved", "private", "private_2", "reclaim", "swapbacked", "unevictable",
    "mlocked", "hwpoison", "young", "idle",
)  # fmt: skip
"""By bit. Linux: __def_pageflag_names."""
LAST_CPUPID_SHIFT, ZONES_SHIFT, NODES_SHIFT, LAST_CPUPID = 30, 51, 54, 0x1F_FFFF


def dump_page(kernel: Kernel, pfn: int, reason: str) -> None:
    """Say in the log what a page is that stands in the way. Linux: mm/debug.c, dump_page().

    Simplified: a page counts as held by who maps it, or once; its words in memory and its file are left out.
    """
    split = kernel.frames.blocks["state"][pfn >> PAGEBLOCK_ORDER] == BLK_SPLIT
    page = kernel.frames.pages[pfn] if split else None
    zone = kernel.zones[int(kernel.frames.blocks["zone"][pfn >> PAGEBLOCK_ORDER])]
    nid, zid = zone.zone_pgdat.node_id, zone.zone_idx
    flags = int(page["flags"]) & (1 << len(PAGEFLAG_NAMES)) - 1 if page is not None else 1 << 13
    mapcount, index = (int(page["mapcount"]), int(page["index"])) if page is not None else (0, 0)
    names = [*(name for bit, name in enumerate(PAGEFLAG_NAMES) if flags >> bit & 1), f"node={nid}", f"zone={zid}"]
    word = flags | LAST_CPUPID << LAST_CPUPID_SHIFT | zid << ZONES_SHIFT | nid << NODES_SHIFT
    for text in (
        f"page: refcount:{max(mapcount, 1)} mapcount:{mapcount} mapping:0000000000000000 index:{index:#x} pfn:{pfn:#x}",
        f"flags: {word:#x}({'|'.join(names)}|lastcpupid={LAST_CPUPID:#x})",
        f"page dumped because: {reason}",
    ):
        kernel.printk.emit(text, LOG_WARNING)
