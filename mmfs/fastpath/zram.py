# cython: language_level=3
"""A disk in memory whose pages are compressed, and where a swap area's pages are.

Linux: drivers/block/zram/zram_drv.c.

Simplified: only swap reads and writes it; there is no backing device.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import view
from mmfs.fastpath.zsmalloc import ZsPool

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_SAME = cython.declare(cython.uint, 1)
_HUGE = cython.declare(cython.uint, 2)
_READ = cython.declare(cython.int, 0)
_WRITE = cython.declare(cython.int, 1)


class Zram:
    """The pages of a zram disk; page n of the disk has key n + 1 of ``pool``.

    ``limit_pages``: how many pages the pool may have, 0: any number. ``huge_size``: from how many bytes on a page is
    kept as it is. Sizes are in bytes, times in ns.
    """

    def __init__(self, buddy, contents, vmstat, disk, nr_pages):
        self.frames = buddy.frames
        self.buddy = buddy
        self.contents = contents
        self.disk = disk
        self.pool = ZsPool(buddy, vmstat, nr_pages + 1)
        self.entry = view(self.pool.entries)
        self.huge_size = max(row[1] for row in self.pool.classes.tolist() if row[2] != 1 and row[3] != 1) - 7
        self.factor = 1000
        self.compress_ns = self.decompress_ns = 0
        self.header_bytes = 0
        self.limit_pages = self.max_used_pages = 0
        self.pages_stored = self.same_pages = self.huge_pages = self.huge_pages_since = self.compr_data_size = 0
        self.failed_writes = self.notify_free = 0

    def free_page(self, key):
        """Linux: zram_free_page()."""
        if self.entry[key].flags & _SAME:
            self.same_pages -= 1
        elif self.entry[key].zspage:
            if self.entry[key].flags & _HUGE:
                self.huge_pages -= 1
            self.compr_data_size -= self.entry[key].length
            self.pool.free(key)
        else:
            return
        self.entry[key].flags = 0
        self.pages_stored -= 1

    def write_header(self):
        """A swap area's first page, which compresses to ``header_bytes``; False: there is no room for it."""
        size: cython.int = self.header_bytes
        self.free_page(1)
        if not self.pool.malloc(1, size, self.buddy.cpu_node[self.buddy.cpu]):
            return False
        self.max_used_pages = max(self.max_used_pages, self.pool.pages_allocated)
        self.compr_data_size += size
        self.pages_stored += 1
        self.disk.count(_WRITE, PAGE_SECTORS, self.compress_ns)
        return True

    def write(self, page, pfn):
        """Keep a page of memory as one of the disk. False: there is no room. Linux: zram_write_page()."""
        key: cython.long = page + 1
        size: cython.int = self.contents.compressed(pfn, self.factor)
        flags: cython.uint = 0
        nid: cython.int = self.buddy.cpu_node[self.buddy.cpu]
        if size <= 0:
            self.free_page(key)
            flags = _SAME
            self.same_pages += 1
        else:
            self.contents.cpu_ns += self.compress_ns
            if size >= self.huge_size:
                size = PAGE_SIZE
                flags = _HUGE
            self.free_page(key)
            if not self.pool.malloc(key, size, nid):
                self.failed_writes += 1
                return False
            if self.limit_pages and self.pool.pages_allocated > self.limit_pages:
                self.pool.free(key)
                self.failed_writes += 1
                return False
            self.max_used_pages = max(self.max_used_pages, self.pool.pages_allocated)
            if flags:
                self.huge_pages += 1
                self.huge_pages_since += 1
            self.compr_data_size += size
        self.entry[key].flags = cython.cast(cython.ushort, flags)
        self.pages_stored += 1
        self.disk.count(_WRITE, PAGE_SECTORS, self.compress_ns)
        return True

    def read(self, page):
        """Linux: zram_read_page()."""
        if self.entry[page + 1].zspage and not self.entry[page + 1].flags & _HUGE:
            self.contents.cpu_ns += self.decompress_ns
        self.disk.count(_READ, PAGE_SECTORS, self.decompress_ns)

    def reset(self):
        """Free all pages. Linux: zram_meta_free()."""
        for key in np.flatnonzero(self.pool.entries["zspage"]).tolist():
            self.free_page(key)

    def slot_free_notify(self, page):
        """Nobody will ask for a page of the disk again. Linux: zram_slot_free_notify()."""
        self.notify_free += 1
        self.free_page(page + 1)


class SwapDevice:
    """Where an area's pages are: on a disk, from a sector on (-1: scattered), or in ``zram``. One leads to the next."""

    def __init__(self, type, disk, zram, sector, nxt):
        self.type = type
        self.disk = disk
        self.zram = zram
        self.sector = sector
        self.nxt = nxt

    def read(self, t, offset, pages, now_ns):
        """Ask area ``t``'s disk for neighbouring pages; when they are there."""
        if self.type != t:
            return self.nxt.read(t, offset, pages, now_ns)
        return self.disk.submit(
            _READ, pages * PAGE_SECTORS, pages, 1, now_ns,
            -1 if self.sector < 0 else self.sector + offset * PAGE_SECTORS,
        )

    def zram_write(self, t, offset, pfn):
        """Write to area ``t``, which is in a zram."""
        if self.type != t:
            return self.nxt.zram_write(t, offset, pfn)
        return self.zram.write(offset, pfn)

    def zram_read(self, t, offset):
        """Read from area ``t``, which is in a zram."""
        if self.type != t:
            self.nxt.zram_read(t, offset)
        else:
            self.zram.read(offset)

    def zram_free(self, t, offset):
        """A slot of area ``t``, which is in a zram, is free."""
        if self.type != t:
            self.nxt.zram_free(t, offset)
        else:
            self.zram.slot_free_notify(offset)
