"""The page cache: the address_space that holds a file's cached pages, and who waits for the disk to fill it.

The slots of an address_space (which page of the file is in which frame) lie in the fast path's page-cache
arena; a row there says where. The loops that fill them are fastpath/filemap.py (read, write, read ahead) and
fastpath/mmu.py (faults); here is what they need objects for: who waits for the disk, and what to do without memory.
Pages stay cached until somebody needs the memory, or their inode goes (mm/inode.py).

Linux: mm/filemap.c, mm/readahead.c.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from mmfs.mm.mman import VM_RAND_READ, VM_SEQ_READ
from mmfs.mm_types import (
    ALLOC_KSWAPD,
    ALLOC_WMARK_LOW,
    ALLOC_WMARK_MIN,
    FAULT_DONE,
    FAULT_OOM,
    GFP_HIGHUSER_MOVABLE,
    GFP_NORETRY_BIT,
    GFP_NOWARN_BIT,
    HPAGE_PMD_NR,
    PAGE_SECTORS,
    PAGE_SHIFT,
    PG_WORKINGSET,
    SLOT_SHADOW,
    SLOT_SWAP,
    VmEventItem,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmfs.fastpath.mmu import Mmu
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.backing_dev import BackingDevInfo
    from mmfs.mm.inode import File, Inode
    from mmfs.mm.vma import VmAreaStruct

_MIN_SLOTS_SHIFT = 6
NODE_SLOTS = 64
MMAP_LOTSAMISS = 100
"""Linux: mm/filemap.c."""


class PageCache:
    """Rows and arena extents for address_spaces. Extents are powers of two and are reused by size."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.mmu: Mmu = kernel.mmu
        self.mappings: dict[int, AddressSpace] = {}
        self._next_row = 1
        self._free_rows: list[int] = []
        self._next_slot = 0
        self._free_extents: dict[int, list[int]] = {}
        self._next_file = 1
        self._free_files: list[int] = []
        self._inner_nodes = 0
        """Nodes of the trees above those of slots that the slab has objects for."""
        self._settling = False

    def new_row(self, mapping: AddressSpace) -> int:
        """A row for a new address_space; 0 is never one."""
        if self._free_rows:
            row = self._free_rows.pop()
        else:
            row = self._next_row
            self._next_row += 1
        self.mappings[row] = mapping
        return row

    def drop(self, row: int) -> None:
        """Give a row and its extent back; the extent is empty."""
        record = self.mmu.folios.mappings[row]
        if record["slots"]:
            self._free_extents.setdefault(int(record["slots"]), []).append(int(record["base"]))
        self.mmu.folios.mappings[row] = 0
        del self.mappings[row]
        self._free_rows.append(row)

    def reserve(self, row: int, pages: int) -> None:
        """Make room for so many pages, cached ones moved along."""
        folios = self.mmu.folios
        record = folios.mappings[row]
        if pages <= record["slots"]:
            return
        slots = 1 << max(_MIN_SLOTS_SHIFT, (pages - 1).bit_length())
        free = self._free_extents.get(slots)
        if free:
            base = free.pop()
        else:
            base = self._next_slot
            if base + slots > len(folios.slots):
                raise MemoryError("the page-cache arena is full")
            self._next_slot += slots
        old, count = int(record["base"]), int(record["slots"])
        if count:
            folios.nodes.move(old, base, count)
            self._free_extents.setdefault(count, []).append(old)
        record["base"], record["slots"] = base, slots

    def new_file(self, ra_pages: int) -> int:
        """A row for the read-ahead state of a file that was opened. Linux: mm/readahead.c, file_ra_state_init()."""
        if self._free_files:
            row = self._free_files.pop()
        else:
            row = self._next_file
            self._next_file += 1
        self.mmu.filemap.files[row] = (0, 0, 0, ra_pages, -1, 0, 0)
        return row

    def free_file(self, row: int) -> None:
        """The file is closed."""
        self.mmu.filemap.files[row] = 0
        self._free_files.append(row)

    def settle(self) -> None:
        """Have the slab hold the tree nodes above those of slots that the cached pages need.

        Linux: lib/xarray.c, xas_alloc(). Simplified: a node for each 64 below, whose files' ever they are.
        """
        missing = self.mmu.folios.nodes.nr_nodes // NODE_SLOTS - self._inner_nodes
        if not missing or self._settling:  # nothing new, or the slab had to make room and reclaim calls
            return
        self._settling = True
        try:
            if missing < 0:
                self.kernel.slab.free_counted("radix_tree_node", -missing)
            elif not self.kernel.slab.alloc_counted("radix_tree_node", missing):
                return
            self._inner_nodes += missing
        finally:
            self._settling = False


class AddressSpace:
    """The cached pages of one inode and the VMAs that map it. Linux: struct address_space."""

    def __init__(self, inode: Inode) -> None:
        self.host = inode
        self.kernel = inode.kernel
        self.cache = inode.kernel.page_cache
        self.id = self.cache.new_row(self)
        self.i_mmap: dict[VmAreaStruct, int] = {}
        """The VMAs that map the file, each with its link in the fast path's chain."""
        self.written_until_ns = 0
        """When the disk will be done with the pages that it was given to write."""
        self.wb_error = 0
        """The errno of data that were lost, until fsync(2) has told. Linux: mapping_set_error()."""
        self.record["shmem"] = inode.shmem
        if inode.shmem:
            self.kernel.shmem_huge.apply(self)

    @property
    def record(self) -> np.void:
        """Its row. MAPPING_DTYPE."""
        record: np.void = self.cache.mmu.folios.mappings[self.id]
        return record

    @property
    def nrpages(self) -> int:
        """Pages in the cache."""
        return int(self.record["nrpages"])

    @property
    def nr_dirty(self) -> int:
        """Cached pages that differ from the file."""
        return int(self.record["nr_dirty"])

    @property
    def nr_writeback(self) -> int:
        """Cached pages that are being written."""
        return int(self.record["nr_writeback"])

    def vma_link(self, vma: VmAreaStruct) -> None:
        """A VMA maps the file from now on."""
        self.i_mmap[vma] = self.cache.mmu.rmap.link_file(self.id, vma.row)

    def vma_unlink(self, vma: VmAreaStruct) -> None:
        """It does no longer."""
        if vma in self.i_mmap:
            self.cache.mmu.rmap.unlink(self.i_mmap.pop(vma))

    def set_size(self, pages: int) -> None:
        """The file has so many pages; those beyond are no longer cached."""
        record = self.record
        old = int(record["size"])
        self.reserve(pages)
        record["size"] = pages
        if pages < old:
            self.truncate_pages(pages, max(old, int(record["slots"])) if self.host.shmem else old)
            record["on_disk"] = min(int(record["on_disk"]), pages)

    def truncate_beyond(self) -> None:
        """Drop what a file of shared memory has beyond its end, where fallocate(2) may have put something."""
        size, slots = int(self.record["size"]), int(self.record["slots"])
        if self.host.shmem and size < slots and (self.nrpages or self.cache.mmu.swap.nr_shmem_swapped):
            self.truncate_pages(size, slots)

    def reserve(self, pages: int) -> None:
        """Make room for so many pages, and for all of the last folio if it may be large."""
        if self.record["huge_fault"] or self.record["huge_write"]:
            pages = -(-pages // HPAGE_PMD_NR) * HPAGE_PMD_NR
        self.cache.reserve(self.id, pages)

    def large_folio(self, index: int) -> int:
        """The folio of several pages that a page of the file is part of, or -1."""
        mmu = self.cache.mmu
        pfn = int(mmu.folios.lookup(self.id, index)) if mmu.shmem.slots.order(self.id, index) else -1
        return self.kernel.frames.folio(pfn) if pfn >= 0 else -1

    def cached(self) -> NDArray[np.intp]:
        """Which of its pages are cached."""
        slots = self.slots()
        at: NDArray[np.intp] = ((slots != 0) & (slots < SLOT_SWAP)).nonzero()[0]
        return at

    def slots(self) -> NDArray[np.uint64]:
        """What is in the slots: a frame + 1, 0, or an entry that stands for a page that is not there."""
        base = int(self.record["base"])
        found: NDArray[np.uint64] = self.cache.mmu.folios.slots[base : base + int(self.record["slots"])]
        return found

    def truncate_pages(self, first: int, last: int) -> None:
        """Unmap and drop the cached pages [first, last). Linux: truncate_inode_pages_range()."""
        from mmfs.mm import memory

        for vma in list(self.i_mmap):
            start = max(vma.vm_start, vma.vm_start + ((first - vma.vm_pgoff) << PAGE_SHIFT))
            end = min(vma.vm_end, vma.vm_start + ((last - vma.vm_pgoff) << PAGE_SHIFT))
            if start < end:
                memory.zap_page_range(vma.vm_mm, vma, start, end)
        self.wait_writeback(first, last)
        if self.host.shmem:
            self._undo_large(first, last)
            self.cache.mmu.swap.shmem_free_range(self.id, first, last)
        self.cache.mmu.folios.truncate_range(self.id, first, last)
        self.cache.settle()

    def _undo_large(self, first: int, last: int) -> None:
        """Drop the large folios in [first, last), and split those that are there in part. Linux: shmem_undo_range()."""
        from mmfs.mm.shmem import swapin_range

        mmu = self.cache.mmu
        while (index := int(mmu.shmem.undo_range(self.id, first, last))) >= 0:
            if (folio := self.large_folio(index)) >= 0:
                mmu.huge_split.split_huge_page(folio)
            else:
                with suppress(MemoryError):  # what is out is single pages then
                    swapin_range(self, index, index + 1)

    def wait_writeback(self, first: int = 0, last: int = 1 << 62) -> None:
        """Sleep until pages of [first, last) have been written. Linux: __filemap_fdatawait_range()."""
        if self.cache.mmu.writeback.range_has_writeback(self.id, first, last):
            self.kernel.current_io_schedule(self.written_until_ns)

    def readahead(self, first: int, last: int) -> int:
        """Have the disk read what of [first, last) is not cached; when it will have come, 0 if nothing was to do.

        Linux: mm/readahead.c, page_cache_ra_unbounded().
        """
        bdi, fast = self.host.bdi, self.cache.mmu.filemap
        if bdi is None:
            return 0
        now = task_ns(self.kernel)
        return finish_readahead(self.kernel, fast.readahead(self.id, bdi.queue, first, last - first, 0, now))

    def force_readahead(self, file: File, first: int, last: int) -> None:
        """Read ahead as somebody has asked for, at most a request or a window. Linux: force_page_cache_ra()."""
        bdi = self.host.bdi
        if bdi is not None:
            limit = max(int(bdi.queue.io_pages), int(self.cache.mmu.filemap.files[file.ra]["ra_pages"]))
            self.readahead(first, min(last, first + limit))

    def read_pages(self, first: int, last: int) -> int:
        """Have pages [first, last) in the cache and wait for them. Returns how many had to be read."""
        before = self.nrpages
        until = self.readahead(first, last)
        self.kernel.current_io_schedule(until)
        return self.nrpages - before

    def check(self) -> None:
        """The slots' entries are pages, shadows (of files) or swap entries (of shared memory)."""
        slots = self.slots()
        odd = slots[slots >= SLOT_SWAP]
        kind = SLOT_SWAP if self.host.shmem else SLOT_SHADOW
        if not (odd >> 62 == kind >> 62).all():
            raise AssertionError(f"{self.host!r}: an entry of another kind in a slot")


class Room:
    """Memory for a loop that has found none: a page by the slow path, and lower watermarks while this goes on."""

    def __init__(self, kernel: Kernel, gfp: int = GFP_HIGHUSER_MOVABLE) -> None:
        self.kernel = kernel
        self.gfp = gfp

    def __enter__(self) -> Room:
        return self

    def make(self, window: object = None, ahead: bool = False) -> bool:
        """Find a page, and go on with a window that was begun; False if there is none to be had.

        `ahead`: nobody has asked for the page yet, so it is not worth a life. Linux: readahead_gfp_mask().
        """
        mmu, gfp = self.kernel.mmu, self.gfp | (GFP_NORETRY_BIT | GFP_NOWARN_BIT if ahead else 0)
        if mmu.memcg.failed >= 0:
            return self._charge(gfp, window)
        pfn = self.kernel.page_alloc.alloc_pages(gfp)
        mmu.walker.alloc_flags = ALLOC_WMARK_MIN | ALLOC_KSWAPD
        mmu.filemap.spare = pfn
        if window is not None:
            mmu.filemap.set_window(window)
        return bool(pfn >= 0)

    def _charge(self, gfp: int, window: object) -> bool:
        """A limit was hit: make room in the memory cgroup, whose reclaim may use the window meanwhile."""
        charged = self.kernel.memcgs.make_room(gfp)
        if window is not None:
            self.kernel.mmu.filemap.set_window(window)
        return charged

    def hand(self) -> bool:
        """Find a page that whoever allocates next gets: for loops that know of no spare one. False if there is none."""
        page_alloc = self.kernel.page_alloc
        if self.kernel.mmu.memcg.failed >= 0:
            return self._charge(self.gfp, None)
        pfn = page_alloc.alloc_pages(self.gfp)
        self.kernel.mmu.walker.alloc_flags = ALLOC_WMARK_MIN | ALLOC_KSWAPD
        page_alloc.buddy.handed = pfn
        return pfn >= 0

    def __exit__(self, *_: object) -> None:
        mmu, buddy = self.kernel.mmu, self.kernel.page_alloc.buddy
        mmu.walker.alloc_flags = ALLOC_WMARK_LOW | ALLOC_KSWAPD
        if buddy.handed >= 0:
            pfn, buddy.handed = int(buddy.handed), -1
            buddy.free_pages(pfn, 0)
        if mmu.filemap.spare >= 0:
            self.kernel.page_alloc.free_pages(mmu.filemap.spare)
            mmu.filemap.spare = -1


def task_ns(kernel: Kernel) -> int:
    """The running task's time: it may still have to wait for what it has asked disks for."""
    task, used = kernel.tasks.current, kernel.mmu.time
    return (kernel.scheduler.ready_ns(task) if task is not None else kernel.clock.now_ns) + used.cpu_ns + used.wait_ns


def finish_readahead(kernel: Kernel, reason: int) -> int:
    """Make memory for a window until it is full, or let it be; when its pages will have come, 0 if they are there."""
    fast = kernel.mmu.filemap
    if reason == FAULT_OOM:
        with Room(kernel) as room:
            while reason == FAULT_OOM:
                if not room.make(fast.window(), ahead=True):
                    fast.abandon()
                    break
                reason = fast.go_on(task_ns(kernel))
    kernel.page_cache.settle()
    return int(fast.last_done_ns)


def filemap_fault(vma: VmAreaStruct, address: int) -> None:
    """Read the page of a fault, and as much around or ahead of it as the mapping's use suggests; wait for it.

    Linux: mm/filemap.c, filemap_fault(), do_sync_mmap_readahead(), do_async_mmap_readahead().
    """
    kernel, file, task = vma.vm_mm.kernel, vma.vm_file, vma.vm_mm.kernel.tasks.current
    assert file is not None
    mapping, bdi = file.mapping, file.inode.bdi
    index = vma.vm_pgoff + ((address - vma.vm_start) >> PAGE_SHIFT)
    if bdi is None:
        kernel.swap_writes.wait_on_write(mapping, index)
        return
    mmu, fast, sectors = kernel.mmu, kernel.mmu.filemap, bdi.disk.sectors_read
    missed = mmu.folios.lookup(mapping.id, index) < 0
    fast.in_fault = not vma.vm_flags & (VM_SEQ_READ | VM_RAND_READ)  # Linux: vma_has_recency()
    try:
        if missed:
            mmu.memcg.count_events(mmu.memcg.current, VmEventItem.PGMAJFAULT, 1)
            finish_readahead(kernel, _sync_mmap_readahead(vma, index))
            _read_folio(mapping, bdi, index)
        elif not vma.vm_flags & VM_RAND_READ:
            finish_readahead(kernel, fast.mmap_async_ra(mapping.id, file.ra, bdi.queue, index, task_ns(kernel)))
    finally:
        fast.in_fault = False
    nr_read = (bdi.disk.sectors_read - sectors) // PAGE_SECTORS
    if nr_read:
        mmu.time.nr_read += nr_read
        bdi.wb.laptop_io_completion()
    pfn = mmu.folios.lookup(mapping.id, index)
    until = fast.reading_until(pfn) if pfn >= 0 else 0
    fast.locked = pfn
    workingset = pfn >= 0 and bool(kernel.frames.pages[pfn]["flags"] & PG_WORKINGSET)
    if task is not None:
        task.account_faults()
        if until:
            kernel.io_schedule(task, until, memstall=workingset)
    mmu.time.tried = missed or until > 0


def _sync_mmap_readahead(vma: VmAreaStruct, index: int) -> int:
    kernel, file = vma.vm_mm.kernel, vma.vm_file
    assert file is not None and file.inode.bdi is not None
    fast, row, queue = kernel.mmu.filemap, file.mapping.id, file.inode.bdi.queue
    ra = fast.files[file.ra]
    ra_pages, now = int(ra["ra_pages"]), task_ns(kernel)
    if vma.vm_flags & VM_RAND_READ or not ra_pages:
        return FAULT_DONE
    if vma.vm_flags & VM_SEQ_READ:
        return int(fast.mmap_sync_ra(row, file.ra, queue, index, now))
    if ra["mmap_miss"] < MMAP_LOTSAMISS * 10:
        ra["mmap_miss"] += 1
    if ra["mmap_miss"] > MMAP_LOTSAMISS:
        return FAULT_DONE
    ra["start"] = max(0, index - ra_pages // 2)
    ra["size"], ra["async_size"] = ra_pages, ra_pages // 4
    return int(fast.readahead(row, queue, int(ra["start"]), ra_pages, ra_pages // 4, now))


def _read_folio(mapping: AddressSpace, bdi: BackingDevInfo, index: int) -> None:
    """Read one page that no window has brought; who needs it gets memory or is killed. Linux: filemap_read_folio()."""
    kernel = mapping.kernel
    folios, fast = kernel.mmu.folios, kernel.mmu.filemap
    with Room(kernel) as room:
        while folios.lookup(mapping.id, index) < 0:
            if fast.readahead(mapping.id, bdi.queue, index, 1, 0, task_ns(kernel)) == FAULT_OOM:
                fast.abandon()
                if not room.make():
                    raise MemoryError("no memory for the page cache")
