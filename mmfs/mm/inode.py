"""Files in memory: inodes and open files.

An inode that has no name and no user any more is evicted with its pages (mm/filemap.py).

Linux: include/linux/fs.h, fs/inode.c.
"""

from __future__ import annotations

from errno import EIO
from typing import TYPE_CHECKING

from mmfs.mm.backing_dev import BackingDevInfo, bdi_of
from mmfs.mm.filemap import AddressSpace
from mmfs.mm.folio import folio_order
from mmfs.mm.mman import FMODE_READ, FMODE_WRITE
from mmfs.mm_types import PAGE_SECTORS, PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.vma import VmAreaStruct


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
        self.atime_ns = self.mtime_ns = 0
        self.acct_pages = 0
        self.swapfile = False
        self.sysv = False
        """It is a segment of System V, whose mappings are no shared anonymous memory: vma_is_anon_shmem()."""
        self.huge_page_size = 0
        """Bytes of a page, of a file of hugetlbfs."""
        self.size = 0
        self.bdi: BackingDevInfo | None = None if shmem else bdi_of(kernel.bdis, dev)
        self.mapping: AddressSpace = AddressSpace(self)
        self.truncate(size)

    def __repr__(self) -> str:
        return f"<inode {self.dev[0]:02x}:{self.dev[1]:02x} {self.ino} {self.path}>"

    def mmap(self, vma: VmAreaStruct) -> None:
        """A VMA is about to map the file; nothing to do for those in the page cache."""

    def sound_bytes(self, pos: int, count: int) -> int:
        """How much of [pos, pos + count) can be read or written before memory that has failed; EIO if nothing can.

        Linux: mm/shmem.c, shmem_file_read_iter(), shmem_write_begin(); fs/hugetlbfs/inode.c, adjust_range_hwpoison().
        """
        failed = self.kernel.memory_failure.kept_pages(self.mapping.id)
        stop = min([pos + count, *(index * PAGE_SIZE for index in failed if (index + 1) * PAGE_SIZE > pos)])
        if stop <= pos < pos + count:
            raise OSError(EIO, "memory of the file has failed")
        return stop - pos

    def truncate(self, size: int) -> None:
        """Give the file a size; a large folio that reaches beyond it is split. Linux: truncate_setsize()."""
        old, self.size = self.size, size
        self.mapping.set_size(-(-size // PAGE_SIZE))
        if size <= old:
            self.mapping.truncate_beyond()
        folio = self.mapping.large_folio(size // PAGE_SIZE) if size <= old else -1
        if folio >= 0 and size % (PAGE_SIZE << folio_order(self.kernel.frames, folio)):
            self.kernel.mmu.huge_split.split_huge_page(folio)

    def allocate(self, pages: int) -> None:
        """The file system gives it its first so many pages on the disk, next to each other."""
        record, bdi = self.mapping.record, self.bdi
        assert bdi is not None
        if not record["sector"]:
            bdi.next_sector += 8
            record["sector"] = bdi.next_sector
        bdi.next_sector += max(pages - int(record["on_disk"]), 0) * PAGE_SECTORS
        record["on_disk"] = max(pages, int(record["on_disk"]))

    def unlink(self) -> None:
        """Take its name away; it goes when nobody has it open."""
        self.i_nlink = 0
        if self.shmem:
            self.kernel.shmem_huge.apply(self.mapping)
        self._evict_if_unused()

    def _evict_if_unused(self) -> None:
        """Linux: fs/inode.c, iput_final()."""
        if self.i_nlink or self.i_count:
            return
        if self.bdi is not None:
            self.bdi.wb.forget(self)
        self.mapping.set_size(0)
        self.mapping.truncate_beyond()
        self.kernel.shmem_huge.forget(self.mapping)
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
        self.ra = inode.kernel.page_cache.new_file(inode.bdi.ra_pages if inode.bdi is not None else 0)
        """Row of its read-ahead state."""
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
        """Called when a VMA maps the file. Linux: include/linux/fs.h, call_mmap()."""
        self.inode.mmap(vma)

    def get(self) -> File:
        """One more user. Linux: get_file()."""
        self.f_count += 1
        return self

    def put(self) -> None:
        """One user less; the last closes it. Linux: fput()."""
        self.f_count -= 1
        if self.f_count == 0:
            self.inode.kernel.page_cache.free_file(self.ra)
            self.inode.i_count -= 1
            self.inode._evict_if_unused()
