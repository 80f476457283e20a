"""Files in memory: inodes, open files, and the address_space that holds a file's cached pages.

The slots of an address_space (which page of the file is in which frame) lie in the fast path's page-cache
arena; a row there says where. Faults fill them (fastpath/mmu.py), as do read(2) and write(2) here. An inode
that has no name and no user any more is evicted with its pages; all others stay cached until somebody needs
the memory.

Linux: mm/filemap.c, mm/truncate.c, include/linux/fs.h.

Simplified: reading and writing take no time, and nothing is written back yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.mm.mman import FMODE_READ, FMODE_WRITE
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.fastpath.mmu import Mmu
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.vma import VmAreaStruct

_MIN_SLOTS_SHIFT = 6


class PageCache:
    """Rows and arena extents for address_spaces. Extents are powers of two and are reused by size."""

    def __init__(self, mmu: Mmu) -> None:
        self.mmu = mmu
        self.mappings: dict[int, AddressSpace] = {}
        self._next_row = 1
        self._free_rows: list[int] = []
        self._next_slot = 0
        self._free_extents: dict[int, list[int]] = {}

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
        record = self.mmu.folios.mappings[row]
        if pages <= record["slots"]:
            return
        slots = 1 << max(_MIN_SLOTS_SHIFT, (pages - 1).bit_length())
        free = self._free_extents.get(slots)
        if free:
            base = free.pop()
        else:
            base = self._next_slot
            if base + slots > len(self.mmu.folios.slots):
                raise MemoryError("the page-cache arena is full")
            self._next_slot += slots
        old, count = int(record["base"]), int(record["slots"])
        if count:
            self.mmu.folios.slots[base : base + count] = self.mmu.folios.slots[old : old + count]
            self.mmu.folios.slots[old : old + count] = 0
            self._free_extents.setdefault(count, []).append(old)
        record["base"], record["slots"] = base, slots


class AddressSpace:
    """The cached pages of one inode and the VMAs that map it. Linux: struct address_space."""

    def __init__(self, inode: Inode) -> None:
        self.host = inode
        self.kernel = inode.kernel
        self.cache = inode.kernel.page_cache
        self.id = self.cache.new_row(self)
        self.i_mmap: dict[VmAreaStruct, int] = {}
        """The VMAs that map the file, each with its link in the fast path's chain."""
        record = self.cache.mmu.folios.mappings[self.id]
        record["shmem"] = inode.shmem

    @property
    def nrpages(self) -> int:
        """Pages in the cache."""
        return int(self.cache.mmu.folios.mappings[self.id]["nrpages"])

    @property
    def nr_dirty(self) -> int:
        """Cached pages that differ from the file."""
        return int(self.cache.mmu.folios.mappings[self.id]["nr_dirty"])

    def vma_link(self, vma: VmAreaStruct) -> None:
        """A VMA maps the file from now on."""
        self.i_mmap[vma] = self.cache.mmu.rmap.link_file(self.id, vma.row)

    def vma_unlink(self, vma: VmAreaStruct) -> None:
        """It does no longer."""
        if vma in self.i_mmap:
            self.cache.mmu.rmap.unlink(self.i_mmap.pop(vma))

    def set_size(self, pages: int) -> None:
        """The file has so many pages; those beyond are no longer cached."""
        mmu = self.cache.mmu
        old = int(mmu.folios.mappings[self.id]["size"])
        self.cache.reserve(self.id, pages)
        if pages < old:
            self.truncate_pages(pages, old)
        mmu.folios.mappings[self.id]["size"] = pages

    def cached(self, first: int, last: int) -> list[int]:
        """Which page indices of [first, last) are cached."""
        record = self.cache.mmu.folios.mappings[self.id]
        base, last = int(record["base"]), min(last, int(record["slots"]))
        if last <= first:
            return []
        return [first + int(i) for i in self.cache.mmu.folios.slots[base + first : base + last].nonzero()[0]]

    def truncate_pages(self, first: int, last: int) -> None:
        """Unmap and drop the cached pages [first, last). Linux: truncate_inode_pages_range()."""
        from mmfs.mm import memory

        for vma in list(self.i_mmap):
            start = max(vma.vm_start, vma.vm_start + ((first - vma.vm_pgoff) << PAGE_SHIFT))
            end = min(vma.vm_end, vma.vm_start + ((last - vma.vm_pgoff) << PAGE_SHIFT))
            if start < end:
                memory.zap_page_range(vma.vm_mm, vma, start, end)
        for index in self.cached(first, last):
            self.cache.mmu.folios.page_cache_delete(self.id, index)

    def read_pages(self, first: int, last: int) -> int:
        """Have pages [first, last) in the cache, as read(2) does. Returns how many had to be read.

        Raises MemoryError when there is no room.
        """
        mmu = self.cache.mmu
        before = self.nrpages
        for index in range(first, min(last, int(mmu.folios.mappings[self.id]["size"]))):
            if mmu.read_page(self.id, index) < 0:
                raise MemoryError("no memory for the page cache")
        return self.nrpages - before


class Inode:
    """A file, named or not. Sizes in bytes, ``dev`` (major, minor). Linux: struct inode."""

    def __init__(
        self,
        kernel: Kernel,
        ino: int,
        dev: tuple[int, int],
        size: int = 0,
        path: str = "",
        *,
        shmem: bool = False,
        mode: int = 0o100644,
        uid: int = 0,
        gid: int = 0,
    ) -> None:
        self.kernel = kernel
        self.ino = ino
        self.dev = dev
        self.path = path
        self.shmem = shmem
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.i_nlink = 1
        self.i_count = 0
        self.acct_pages = 0
        self.swapfile = False
        self.size = 0
        self.mapping: AddressSpace = AddressSpace(self)
        self.truncate(size)

    def __repr__(self) -> str:
        return f"<inode {self.dev[0]:02x}:{self.dev[1]:02x} {self.ino} {self.path}>"

    def truncate(self, size: int) -> None:
        """Give the file a size. Linux: truncate_setsize()."""
        self.size = size
        self.mapping.set_size(-(-size // PAGE_SIZE))

    def unlink(self) -> None:
        """Take its name away; it goes when nobody has it open."""
        self.i_nlink = 0
        self._evict_if_unused()

    def _evict_if_unused(self) -> None:
        """Linux: fs/inode.c, iput_final()."""
        if self.i_nlink or self.i_count:
            return
        self.mapping.set_size(0)
        self.mapping.cache.drop(self.mapping.id)
        if self.acct_pages:
            self.kernel.overcommit.vm_unacct_memory(self.acct_pages)
            self.acct_pages = 0


class File:
    """An open file. Linux: struct file."""

    def __init__(self, inode: Inode, path: str | None = None, f_mode: int = FMODE_READ | FMODE_WRITE) -> None:
        self.inode = inode
        self.path = inode.path if path is None else path
        self.f_mode = f_mode
        self.f_pos = 0
        self.f_count = 1
        inode.i_count += 1

    def __repr__(self) -> str:
        return f"<file {self.path}>"

    @property
    def mapping(self) -> AddressSpace:
        """Where its pages are."""
        return self.inode.mapping

    @property
    def deleted(self) -> bool:
        """Whether its name is gone: shown as "(deleted)"."""
        return self.inode.i_nlink == 0

    def mmap(self, vma: VmAreaStruct) -> None:
        """Called when a VMA maps the file; nothing to do for files in the page cache."""

    def get(self) -> File:
        """One more user. Linux: get_file()."""
        self.f_count += 1
        return self

    def put(self) -> None:
        """One user less; the last closes it. Linux: fput()."""
        self.f_count -= 1
        if self.f_count == 0:
            self.inode.i_count -= 1
            self.inode._evict_if_unused()
