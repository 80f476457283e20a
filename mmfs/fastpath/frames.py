# cython: language_level=3
"""Physical memory as records: a ``struct page`` of 32 bytes a frame, 32 bytes a pageblock, 4 KB a page table.

The arrays lie in anonymous memory that the host commits when it is first touched (MAP_NORESERVE), indexed
directly by frame number. A page record is valid only while its pageblock is SPLIT; a block that nobody
touched (VIRGIN), that is free as a whole (FREE, TAIL) or mapped as a whole (HUGE) has none, so a machine
of terabytes costs what it uses. ``entry`` is the content of the frames that serve as page tables: PTRS_PER_TABLE
entries each, at ``pfn * PTRS_PER_TABLE``.

Lists are intrusive and circular; their heads are extra records past the last frame or block.

A huge page of a pageblock has one record too, past the list heads: ``huge + block``. It stands for all of it where a
page may be handed on: on the lists of pages, in batches, charged, counted (``nr_pages()``). So a *folio* is one number,
a frame's or one from ``huge`` on. Records of its frames are written only once some of them are mapped by
entries of their own (the block is SPLIT then, its frames PG_TAIL), or at once if the page is a file's, for the page
cache finds them one by one; ``folio_of()`` leads from a frame to its folio.

A folio of 4 to 256 pages has its record behind those: ``mthp`` and a quarter of its first frame's number. Its frames
have theirs always, PG_TAIL; ``mlock_count`` of each is the folio's order. Folio numbers are below 2^32: only frames
below ``mthp_pfns`` can be of such folios, which on machines of up to 12 TB are all, and fewer the larger it is beyond:
of 14 TB the first 3.

Linux: include/linux/mm_types.h, struct page, struct folio; mm/mm_init.c, the deferred initialisation of struct pages.
"""

import gc
import mmap

import cython
import numpy as np
from cython import address

from mmfs.mm_types import BLOCK_DTYPE, PAGE_DTYPE

_MAP_NORESERVE = 0x4000

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

    class Record(np.record):
        """A record whose fields read as Python integers, as a C struct's do in the compiled module."""

        def __getattribute__(self, name):
            fields = np.void.__getattribute__(self, "dtype").fields
            return int(self[name]) if name in fields else super().__getattribute__(name)

    class Integers(np.ndarray):
        """An integer array whose elements read as Python integers."""

        def __getitem__(self, index):
            value = super().__getitem__(index)
            return int(value) if isinstance(value, np.integer) else value


def view(array):
    """The array as the loops index it: itself, or uncompiled a view that yields Python integers."""
    if cython.compiled:
        return array
    if array.dtype.fields:
        return array.view(np.dtype((Record, array.dtype.descr)))
    return array.view(Integers)


def lazy_area(size):
    """Zeroed memory of ``size`` bytes, in whole pages, that the host commits where it is touched.

    Raises MemoryError when the host refuses the address space.
    """
    size = -(-max(size, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    try:
        return mmap.mmap(-1, size, flags=flags)
    except OSError:
        gc.collect()  # a machine is a cycle: one that nobody holds keeps its areas until the collector comes to it
    try:
        return mmap.mmap(-1, size, flags=flags)
    except OSError as error:
        raise MemoryError(
            f"the host refuses {size >> 30} GiB of address space ({error.strerror}); "
            "with vm.overcommit_memory=2 set it to 0 or 1, or simulate a smaller machine"
        ) from error


def lazy_array(count, dtype):
    """Zeroed array of ``count`` records in a memory of its own, as lazy_area()."""
    dtype = np.dtype(dtype)
    area = lazy_area(int(count) * dtype.itemsize)
    return np.frombuffer(area, dtype=dtype, count=int(count))


class Frames:
    """The frames 0 .. nr_frames-1 of a machine, their pageblocks, and the list heads of all who link them."""

    def __init__(self, nr_frames, page_heads, block_heads):
        self.nr_frames = nr_frames
        self.nr_blocks = (nr_frames + (1 << PAGEBLOCK_ORDER) - 1) >> PAGEBLOCK_ORDER
        self.nr_blocks += self.nr_blocks & 1
        last_frame: cython.long = self.nr_blocks << PAGEBLOCK_ORDER
        if last_frame + page_heads + self.nr_blocks >= 1 << 32:
            raise ValueError("at most 15T of memory can be simulated")
        self.next_page_head = last_frame
        self.next_block_head = self.nr_blocks
        self.page_heads_end = last_frame + page_heads
        self.block_heads_end = self.nr_blocks + block_heads
        self.huge = self.page_heads_end
        self.mthp = self.huge + self.nr_blocks
        self.mthp_pfns = min(last_frame, ((1 << 32) - self.mthp - 1) << 2)
        self.pages = lazy_array(self.mthp + (self.mthp_pfns >> 2), PAGE_DTYPE)
        self.blocks = lazy_array(self.block_heads_end, BLOCK_DTYPE)
        self.entries = lazy_array(last_frame * PTRS_PER_TABLE, np.uint64)
        self.page = view(self.pages)
        self.block = view(self.blocks)
        self.entry = view(self.entries)

    def new_page_head(self):
        """A new empty list of pages; returns its head."""
        head: cython.long = self.next_page_head
        if head >= self.page_heads_end:
            raise MemoryError("no page list heads left")
        self.next_page_head = head + 1
        self.init_page_head(head)
        return head

    def new_block_head(self):
        """A new empty list of pageblocks; returns its head."""
        head: cython.long = self.next_block_head
        if head >= self.block_heads_end:
            raise MemoryError("no block list heads left")
        self.next_block_head = head + 1
        self.init_block_head(head)
        return head

    def reserve_page_heads(self, nr):
        """Heads of ``nr`` lists of pages that init_page_head() makes lists one by one; returns the first."""
        head: cython.long = self.next_page_head
        if head + nr > self.page_heads_end:
            raise MemoryError("no page list heads left")
        self.next_page_head = head + nr
        return head

    def reserve_block_heads(self, nr):
        """As reserve_page_heads(), of pageblocks."""
        head: cython.long = self.next_block_head
        if head + nr > self.block_heads_end:
            raise MemoryError("no block list heads left")
        self.next_block_head = head + nr
        return head

    def init_page_head(self, head):
        """An empty list of pages."""
        self.page[head].nxt = self.page[head].prv = cython.cast(cython.uint, head)

    def init_block_head(self, head):
        """An empty list of pageblocks."""
        self.block[head].nxt = self.block[head].prv = cython.cast(cython.uint, head)

    def prefetch_page(self, pfn):
        """Have the host fetch a page's record, which will be looked at soon."""
        if cython.compiled:
            prefetch(address(self.page[pfn]))

    def maps_thp(self, entry):
        """Whether a PMD entry maps a transparent huge page, not one of a pool. Linux: pmd_trans_huge()."""
        pfn: cython.long = (entry & PTE_PFN_MASK) >> PAGE_SHIFT
        return entry & PTE_PSE != 0 and self.block[pfn >> PAGEBLOCK_ORDER].state != BLK_HUGETLB

    def page_list_add(self, head, pfn):
        """Link a page at the front."""
        first: cython.long = self.page[head].nxt
        self.page[head].nxt = cython.cast(cython.uint, pfn)
        self.page[pfn].prv = cython.cast(cython.uint, head)
        self.page[pfn].nxt = cython.cast(cython.uint, first)
        self.page[first].prv = cython.cast(cython.uint, pfn)

    def page_list_add_tail(self, head, pfn):
        """Link a page at the end."""
        last: cython.long = self.page[head].prv
        self.page[head].prv = cython.cast(cython.uint, pfn)
        self.page[pfn].nxt = cython.cast(cython.uint, head)
        self.page[pfn].prv = cython.cast(cython.uint, last)
        self.page[last].nxt = cython.cast(cython.uint, pfn)

    def page_list_add_run(self, head, first, nr, flags):
        """Link consecutive pages at the end, in order, with these flags."""
        pfn: cython.long
        last: cython.long = self.page[head].prv
        for pfn in range(first, first + nr):
            page = address(self.page[pfn])
            page.flags = flags
            page.prv = cython.cast(cython.uint, last)
            page.nxt = cython.cast(cython.uint, pfn + 1)
            self.page[last].nxt = cython.cast(cython.uint, pfn)
            last = pfn
        self.page[last].nxt = cython.cast(cython.uint, head)
        self.page[head].prv = cython.cast(cython.uint, last)

    def page_list_del(self, pfn):
        """Unlink a page from whichever list it is on."""
        before: cython.long = self.page[pfn].prv
        after: cython.long = self.page[pfn].nxt
        self.page[before].nxt = cython.cast(cython.uint, after)
        self.page[after].prv = cython.cast(cython.uint, before)

    def block_list_add(self, head, block):
        """Link a pageblock at the front."""
        first: cython.long = self.block[head].nxt
        self.block[head].nxt = cython.cast(cython.uint, block)
        self.block[block].prv = cython.cast(cython.uint, head)
        self.block[block].nxt = cython.cast(cython.uint, first)
        self.block[first].prv = cython.cast(cython.uint, block)

    def block_list_add_tail(self, head, block):
        """Link a pageblock at the end."""
        last: cython.long = self.block[head].prv
        self.block[head].prv = cython.cast(cython.uint, block)
        self.block[block].nxt = cython.cast(cython.uint, head)
        self.block[block].prv = cython.cast(cython.uint, last)
        self.block[last].nxt = cython.cast(cython.uint, block)

    def block_list_del(self, block):
        """Unlink a pageblock from whichever list it is on."""
        before: cython.long = self.block[block].prv
        after: cython.long = self.block[block].nxt
        self.block[before].nxt = cython.cast(cython.uint, after)
        self.block[after].prv = cython.cast(cython.uint, before)

    def block_of(self, folio):
        """The pageblock of a folio."""
        return self.folio_pfn(folio) >> PAGEBLOCK_ORDER

    def zone_of(self, folio):
        """The zone of a folio. Linux: folio_zone()."""
        return self.block[self.folio_pfn(folio) >> PAGEBLOCK_ORDER].zone

    def folio_order(self, folio):
        """Linux: folio_order()."""
        if folio < self.huge:
            return 0
        return HPAGE_PMD_ORDER if folio < self.mthp else self.page[(folio - self.mthp) << 2].mlock_count

    def nr_pages(self, folio):
        """Linux: folio_nr_pages()."""
        return 1 if folio < self.huge else cython.cast(cython.long, 1) << self.folio_order(folio)

    def folio_pfn(self, folio):
        """The first frame of a folio. Linux: folio_pfn()."""
        if folio < self.huge:
            return folio
        return (folio - self.huge) << PAGEBLOCK_ORDER if folio < self.mthp else (folio - self.mthp) << 2

    def large_folio(self, pfn, order):
        """The folio of an order above 0 that begins at a frame."""
        return self.huge + (pfn >> PAGEBLOCK_ORDER) if order == HPAGE_PMD_ORDER else self.mthp + (pfn >> 2)

    def folio_of(self, pfn):
        """The folio of a frame that an entry maps. Linux: page_folio()."""
        order: cython.int
        if self.page[pfn].flags & (PG_TAIL | PG_SLAB) != PG_TAIL:
            return pfn
        order = self.page[pfn].mlock_count
        return self.large_folio(pfn >> order << order, order)

    def page_folio(self, pfn):
        """The folio of a frame that need not have a record, or -1: nobody uses it. Linux: page_folio()."""
        if self.block[pfn >> PAGEBLOCK_ORDER].state == BLK_HUGE:
            return self.huge + (pfn >> PAGEBLOCK_ORDER)
        return self.folio_of(pfn) if self.block[pfn >> PAGEBLOCK_ORDER].state == BLK_SPLIT else -1

    def folio(self, pfn: cython.long):
        """page_folio(), for policy."""
        return self.page_folio(pfn)

    def first_frame(self, folio: cython.long):
        """folio_pfn(), for policy."""
        return self.folio_pfn(folio)

    def order(self, folio: cython.long):
        """folio_order(), for policy."""
        return self.folio_order(folio)

    def valid(self, pfn):
        """Whether the frame has a page record of its own."""
        return self.block[pfn >> PAGEBLOCK_ORDER].state == BLK_SPLIT

    def clear_table(self, pfn):
        """Zero the entries of a frame that becomes a page table."""
        i: cython.Py_ssize_t
        base: cython.Py_ssize_t = pfn << TABLE_SHIFT
        for i in range(base, base + PTRS_PER_TABLE):
            self.entry[i] = 0

    def walk_pages(self, head, limit=1 << 62):
        """The pages of a list from its front, at most ``limit``: for checks and debugging."""
        out = []
        pfn: cython.long = self.page[head].nxt
        while pfn != head and len(out) < limit:
            out.append(pfn)
            pfn = self.page[pfn].nxt
        return out

    def walk_blocks(self, head):
        """The pageblocks of a list from its front: for checks and debugging."""
        out = []
        block: cython.long = self.block[head].nxt
        while block != head:
            out.append(block)
            block = self.block[block].nxt
        return out
