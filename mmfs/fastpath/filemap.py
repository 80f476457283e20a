# cython: language_level=3
"""Reading and writing files through the page cache, and reading ahead.

A page that is being read is in the cache at once; ``private`` then names the request (a number in a ring of
completion times), and whoever wants the page before that time waits. Time runs along here (``now_ns``: what copying
and waiting took), ahead of the clock by at most what the caller allows; the caller charges it to the task.

A loop that finds no memory stops with FAULT_OOM and remembers the window that it was filling; the next call goes on
with it, ``abandon()`` leaves it at what there is. ``spare`` is a page that the slow path has found for it, or -1.

Linux: mm/readahead.c; mm/filemap.c, filemap_read(), generic_perform_write(); fs/mpage.c, mpage_readahead().

Simplified: a page of a file that is being read counts as up to date.
"""

import cython
import numpy as np

from mmfs.fastpath.blk import Disk
from mmfs.fastpath.frames import lazy_array, view
from mmfs.mm_types import FILE_RA_DTYPE

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_FILES = 1 << 24
_BIOS = cython.declare(cython.long, 1 << 16)
_BATCH = cython.declare(cython.long, 31)
_BIO_MAX_VECS = cython.declare(cython.long, 256)
_READ = cython.declare(cython.int, 0)


class Filemap:
    """The page cache as files use it. ``files`` FILE_RA_DTYPE: rows of open files, handed out by mm/filemap.py.

    ``read_ns``, ``write_ns``, ``add_ns``: what it costs to copy a page out, to copy one in and dirty it, to add one.
    ``locked``: the page that a fault waits for and is about to map, or -1. ``in_fault``: pages are read for a fault,
    which tells that they are hot. Linux: lru_gen_in_fault().
    """

    def __init__(self, folios, walker):
        self.frames = folios.frames
        self.buddy = folios.buddy
        self.lru = folios.lru
        self.folios = folios
        self.walker = walker
        self.mapping = view(folios.mappings)
        self.files = lazy_array(_MAX_FILES, FILE_RA_DTYPE)
        self.file = view(self.files)
        self.bio_done_ns = view(np.zeros(_BIOS, np.int64))
        self.bio_number = view(np.zeros(_BIOS, np.uint32))
        self.next_bio = 1
        self.reason = FAULT_DONE
        self.now_ns = self.cpu_ns = self.memstall_ns = self.nr_dirtied = 0
        self.read_ns = self.add_ns = self.write_ns = 0
        self.spare = self.locked = -1
        self.last_done_ns = 0
        self.in_fault = False
        self.ra_index = self.ra_end = self.ra_mark = self.ra_run = self.ra_m = 0
        self.ra_disk = None

    def prev_pos(self, row: cython.long):
        """Where the last read of an open file has ended."""
        return self.file[row].prev_pos

    def set_prev_pos(self, row: cython.long, pos: cython.long):
        """A read has ended there."""
        self.file[row].prev_pos = pos

    def alloc_page(self):
        """A page for the page cache, charged to whoever runs; -1: no memory, or above a limit.

        Linux: filemap_alloc_folio(), filemap_add_folio().
        """
        pfn: cython.long = self.spare
        memcg: cython.long = self.folios.memcg.current
        if not self.folios.memcg.charge(memcg, 1):
            return -1
        self.spare = -1
        if pfn < 0:
            pfn = self.walker.alloc_page(
                MIGRATE_MOVABLE, self.buddy.cpu_node[self.buddy.cpu], ZONE_MOVABLE, self.buddy.mems_allowed
            )
        if pfn < 0:
            self.folios.memcg.unused(memcg, 1)
            return -1
        self.folios.memcg.commit_charge(pfn, memcg)
        return pfn

    def spend(self, ns):
        """The CPU works."""
        self.now_ns += ns
        self.cpu_ns += ns

    def reading_until(self, pfn):
        """When a page that is being read will have come; 0 if it has. Linux: folio_test_uptodate()."""
        number: cython.uint = self.frames.page[pfn].private
        at: cython.long = number & (_BIOS - 1)
        if number == 0:
            return 0
        if self.bio_number[at] == number and self.bio_done_ns[at] > self.now_ns:
            return self.bio_done_ns[at]
        self.frames.page[pfn].private = 0
        return 0

    def is_locked(self, pfn, now_ns):
        """Whether a file's page must not be reclaimed: it is to be read, is being read, or a fault is about to map it.

        Linux: include/linux/pagemap.h, folio_trylock().
        """
        number: cython.uint = self.frames.page[pfn].private
        at: cython.long = number & (_BIOS - 1)
        if pfn == self.locked:
            return True
        return number != 0 and (
            number == self.next_bio or (self.bio_number[at] == number and self.bio_done_ns[at] > now_ns)
        )

    # ------------------------------------------------------------------------------ windows

    def begin(self, m, disk, index, nr, lookahead):
        """Set out to read [index, index + nr), within the file, the page before the last ``lookahead`` marked.

        Linux: do_page_cache_ra(), page_cache_ra_unbounded().
        """
        self.ra_m = m
        self.ra_disk = disk
        self.ra_index = index
        self.ra_end = min(index + nr, self.mapping[m].size)
        self.ra_mark = index + nr - lookahead if lookahead else -1
        self.ra_run = 0

    def resume(self):
        """Fill the window and ask the disk for what was not cached; FAULT_OOM: there is no memory, it goes on later."""
        pfn: cython.long
        while self.ra_index < self.ra_end:
            if self.folios.lookup(self.ra_m, self.ra_index) >= 0:
                self.read_pages()
                self.ra_index += 1
                continue
            pfn = self.alloc_page()
            if pfn < 0:
                return FAULT_OOM
            self.folios.cache_add(self.ra_m, self.ra_index, pfn, self.in_fault)
            if self.ra_index == self.ra_mark:
                self.frames.page[pfn].flags |= PG_READAHEAD
            if self.ra_index < self.mapping[self.ra_m].on_disk:
                self.frames.page[pfn].private = self.next_bio
                self.ra_run += 1
            else:
                self.read_pages()
            self.ra_index += 1
            self.spend(self.add_ns)
        self.read_pages()
        return FAULT_DONE

    def read_pages(self):
        """Ask the disk for the pages collected, which end where the window has got to. Linux: read_pages()."""
        nr: cython.long = self.ra_run
        at: cython.long = self.next_bio & (_BIOS - 1)
        limit: cython.long
        if nr == 0:
            return
        limit = self.ra_disk.io_pages
        self.ra_run = 0
        self.bio_done_ns[at] = self.ra_disk.submit(
            _READ, nr << PAGE_SECTORS_SHIFT, (nr + _BIO_MAX_VECS - 1) // _BIO_MAX_VECS, (nr + limit - 1) // limit,
            self.now_ns, self.mapping[self.ra_m].sector + ((self.ra_index - nr) << PAGE_SECTORS_SHIFT),
        )
        self.last_done_ns = self.bio_done_ns[at]
        self.bio_number[at] = self.next_bio
        self.next_bio += 1
        if self.next_bio == 0:
            self.next_bio = 1

    def abandon(self):
        """No memory for the rest of the window: read what there is room for."""
        self.read_pages()
        self.ra_end = self.ra_index

    def window(self):
        """The window that is being filled, to be put back by ``set_window()`` after others have used the loops."""
        return self.ra_m, self.ra_disk, self.ra_index, self.ra_end, self.ra_mark, self.ra_run

    def set_window(self, window):
        """Go on with a window."""
        self.ra_m, self.ra_disk, self.ra_index, self.ra_end, self.ra_mark, self.ra_run = window

    def prev_miss(self, m, index, max_scan):
        """The nearest page at or before an index that is not cached. Linux: page_cache_prev_miss()."""
        while max_scan > 0 and self.folios.lookup(m, index) >= 0:
            index -= 1
            max_scan -= 1
        return index

    def next_miss(self, m, index, max_scan):
        """The nearest page at or behind an index that is not cached. Linux: page_cache_next_miss()."""
        while max_scan > 0 and self.folios.lookup(m, index) >= 0:
            index += 1
            max_scan -= 1
        return index

    def max_pages(self, row, disk, req):
        """How large a window may become. Linux: ractl_max_pages()."""
        pages: cython.long = self.file[row].ra_pages
        if req > pages and disk.io_pages > pages:
            pages = min(req, disk.io_pages)
        return pages

    def sync_ra(self, m, row, disk, index, req):
        """A page that was wanted is not there: read it, and ahead of it. Linux: page_cache_sync_ra()."""
        limit: cython.long = self.max_pages(row, disk, req)
        prev: cython.long = self.file[row].prev_pos >> PAGE_SHIFT if self.file[row].prev_pos >= 0 else -2
        size: cython.long = 1
        contig: cython.long
        if self.file[row].ra_pages == 0:
            self.begin(m, disk, index, 1, 0)
            return self.resume()
        if self.file[row].random:
            self.begin(m, disk, index, min(req, max(disk.io_pages, self.file[row].ra_pages)), 0)
            return self.resume()
        if index == 0 or req > limit or index - prev == 0 or index - prev == 1:
            while size < req:
                size *= 2
            if size <= limit // 32:
                size *= 4
            elif size <= limit // 4:
                size *= 2
            else:
                size = limit
            self.file[row].async_size = size - req if size > req else size >> 1
        else:
            contig = index - self.prev_miss(m, index - 1, limit) - 1
            if contig <= req:
                self.begin(m, disk, index, req, 0)
                return self.resume()
            if contig == index:
                contig *= 2
            size = min(contig + req, limit)
            self.file[row].async_size = 1
        self.file[row].start = index
        self.file[row].size = size
        self.begin(m, disk, index, size, self.file[row].async_size)
        return self.resume()

    def async_ra(self, m, row, disk, pfn, index, req):
        """A page with the mark was reached: read the next window. Linux: page_cache_async_ra()."""
        limit: cython.long = self.max_pages(row, disk, req)
        size: cython.long
        start: cython.long
        if self.file[row].ra_pages == 0 or self.frames.page[pfn].flags & PG_WRITEBACK:
            return FAULT_DONE
        self.frames.page[pfn].flags &= ~PG_READAHEAD
        if index == self.file[row].start + self.file[row].size - self.file[row].async_size:
            start = self.file[row].start + self.file[row].size
            size = self.file[row].size
        else:
            start = self.next_miss(m, index + 1, limit)
            if start - index > limit:
                return FAULT_DONE
            size = start - index + req
            self.file[row].size = 0
        if size < limit // 16:
            size *= 4
        elif size <= limit // 2:
            size *= 2
        else:
            size = limit
        self.file[row].start = start
        self.file[row].size = self.file[row].async_size = max(size, self.file[row].size)
        self.begin(m, disk, start, self.file[row].size, self.file[row].async_size)
        return self.resume()

    def readahead(self, m: cython.long, disk: Disk, index: cython.long, nr: cython.long, lookahead: cython.long,
                  now_ns: cython.long):
        """Read [index, index + nr) as far as it is not cached. FAULT_DONE or FAULT_OOM. Linux: do_page_cache_ra()."""
        self.now_ns = now_ns
        self.cpu_ns = self.last_done_ns = 0
        self.begin(m, disk, index, nr, lookahead)
        return self.resume()

    def mmap_sync_ra(self, m: cython.long, row: cython.long, disk: Disk, index: cython.long, now_ns: cython.long):
        """As a fault in a sequential mapping does. Linux: do_sync_mmap_readahead() with VM_SEQ_READ."""
        self.now_ns = now_ns
        self.cpu_ns = 0
        return self.sync_ra(m, row, disk, index, self.file[row].ra_pages)

    def mmap_async_ra(self, m: cython.long, row: cython.long, disk: Disk, index: cython.long, now_ns: cython.long):
        """As a fault on a page with the mark does. Linux: do_async_mmap_readahead()."""
        pfn: cython.long = self.folios.lookup(m, index)
        self.now_ns = now_ns
        self.cpu_ns = 0
        return self.async_ra(m, row, disk, pfn, index, self.file[row].ra_pages)

    def go_on(self, now_ns: cython.long):
        """Fill the window further after memory was made. FAULT_DONE or FAULT_OOM."""
        self.now_ns = max(now_ns, self.now_ns)
        self.cpu_ns = 0
        return self.resume()

    # ------------------------------------------------------------------------------ pages of a device

    def getblk(self, m: cython.long, index: cython.long):
        """A page of the device, with a buffer head, whatever it holds; -1 without memory. Linux: bdev_getblk()."""
        pfn: cython.long = self.folios.lookup(m, index)
        if pfn < 0:
            pfn = self.alloc_page()
            if pfn < 0:
                return -1
            self.folios.cache_add(m, index, pfn, False)
        self.folios.add_buffers(pfn)
        self.lru.mark_accessed(pfn)
        return pfn

    def dirty_pages(self, m: cython.long, indices: cython.long[::1]):
        """Pages of the device differ from it. Linux: fs/buffer.c, mark_buffer_dirty()."""
        i: cython.Py_ssize_t
        pfn: cython.long
        for i in range(indices.shape[0]):
            pfn = self.folios.lookup(m, indices[i])
            if pfn >= 0:
                self.folios.mark_dirty(pfn)

    # ------------------------------------------------------------------------------ read(2)

    def read_batch(self, m, index, last):
        """How many of the pages [index, last) can be copied at a go: to one with a mark or one that is being read.

        Linux: filemap_get_read_batch().
        """
        n: cython.long = 0
        pfn: cython.long
        while n < _BATCH and index + n < last:
            pfn = self.folios.lookup(m, index + n)
            if pfn < 0:
                break
            n += 1
            if self.reading_until(pfn) or self.frames.page[pfn].flags & PG_READAHEAD:
                break
        return n

    def wait_on_page(self, pfn):
        """Wait until a page was read; if it was in use when it was reclaimed, that is a stall on memory.

        Linux: folio_wait_bit_common().
        """
        done: cython.long = self.reading_until(pfn)
        if done > self.now_ns:
            if self.frames.page[pfn].flags & PG_WORKINGSET:
                self.memstall_ns += done - self.now_ns
            self.now_ns = done

    def read(self, m: cython.long, row: cython.long, disk: Disk, pos: cython.long, end: cython.long,
             last_pos: cython.long, now_ns: cython.long, until_ns: cython.long):
        """Read the bytes [pos, end) of a file, the last read having ended at ``last_pos``. Returns how far it got.

        ``reason`` is FAULT_OOM, or FAULT_SLICE when time has reached ``until_ns``. Linux: filemap_read().
        """
        index: cython.long
        last: cython.long = (end + PAGE_SIZE - 1) >> PAGE_SHIFT
        n: cython.long
        i: cython.long
        pfn: cython.long
        self.now_ns = now_ns
        self.cpu_ns = self.memstall_ns = 0
        self.reason = FAULT_DONE
        if self.ra_index < self.ra_end:
            self.reason = self.resume()
        while pos < end and self.reason == FAULT_DONE:
            index = pos >> PAGE_SHIFT
            n = self.read_batch(m, index, last)
            if n == 0:
                self.reason = self.sync_ra(m, row, disk, index, last - index)
                continue
            pfn = self.folios.lookup(m, index + n - 1)
            if self.frames.page[pfn].flags & PG_READAHEAD:
                self.reason = self.async_ra(m, row, disk, pfn, index + n - 1, last - (index + n - 1))
                if self.reason != FAULT_DONE:
                    break
            self.wait_on_page(pfn)
            for i in range(index, index + n):
                if i > index or last_pos <= 0 or (last_pos - 1) >> PAGE_SHIFT != index:
                    self.lru.mark_accessed(self.folios.lookup(m, i))
            pos = min(end, (index + n) << PAGE_SHIFT)
            last_pos = pos
            self.spend(n * self.read_ns)
            if self.now_ns >= until_ns:
                self.reason = FAULT_SLICE
        return pos

    # ------------------------------------------------------------------------------ write(2)

    def write_begin(self, m, disk, pos, end):
        """Have the page of a write cached and up to date; False without memory. Linux: fs/ext4/inode.c."""
        index: cython.long = pos >> PAGE_SHIFT
        pfn: cython.long = self.folios.lookup(m, index)
        if pfn >= 0:
            self.wait_on_page(pfn)
            return True
        pfn = self.alloc_page()
        if pfn < 0:
            return False
        self.folios.cache_add(m, index, pfn, False)
        self.spend(self.add_ns)
        within: cython.long = pos | min(end, (index + 1) << PAGE_SHIFT)
        if index < self.mapping[m].on_disk and within & (PAGE_SIZE - 1):
            sector: cython.long = self.mapping[m].sector + (index << PAGE_SECTORS_SHIFT)
            self.now_ns = disk.submit(_READ, PAGE_SECTORS, 1, 1, self.now_ns, sector)
        return True

    def write(self, m: cython.long, disk: object, pos: cython.long, end: cython.long, limit: cython.long,
              now_ns: cython.long, until_ns: cython.long):
        """Write the bytes [pos, end) of a file. Returns how far it got.

        ``reason`` is FAULT_OOM, or FAULT_SLICE when time has reached ``until_ns`` or ``limit`` pages have become dirty
        (``nr_dirtied``). Linux: generic_perform_write().
        """
        pfn: cython.long
        queue: Disk = disk
        self.now_ns = now_ns
        self.cpu_ns = self.memstall_ns = self.nr_dirtied = 0
        self.reason = FAULT_DONE
        while pos < end:
            if not self.write_begin(m, queue, pos, end):
                self.reason = FAULT_OOM
                break
            pfn = self.folios.lookup(m, pos >> PAGE_SHIFT)
            if not self.frames.page[pfn].flags & PG_DIRTY:
                self.nr_dirtied += 1
            self.folios.mark_dirty(pfn)
            pos = min(end, ((pos >> PAGE_SHIFT) + 1) << PAGE_SHIFT)
            self.spend(self.write_ns)
            if pos < end and (self.now_ns >= until_ns or self.nr_dirtied >= limit):
                self.reason = FAULT_SLICE
                break
        return pos
