"""Files of huge pages: hugetlbfs, and the nameless files behind MAP_ANONYMOUS | MAP_HUGETLB and SHM_HUGETLB.

Their pages stay in memory: no disk is behind them, they are on no LRU list and are never swapped out. A file knows its
pages by number, and what of it was reserved. A mounted hugetlbfs has a page size, and maybe a size and a number of
inodes; the kernel mounts one for each page size for its own nameless files.

Linux: fs/hugetlbfs/inode.c.
"""

from __future__ import annotations

from errno import EINVAL, ENOMEM, ENOSPC
from typing import TYPE_CHECKING, Final

from mmfs.mm.cmdline import memparse
from mmfs.mm.fault import task_of
from mmfs.mm.hugetlb_resv import HugepageSubpool, ResvMap, hugetlb_reserve_pages, hugetlb_unreserve_pages
from mmfs.mm.hugetlb_vma import hugetlb_vm_ops, unmap_file_range
from mmfs.mm.inode import File, Inode
from mmfs.mm.mman import MAP_HUGE_MASK, MAP_HUGE_SHIFT, VM_DONTEXPAND, VM_HUGETLB, VM_NORESERVE, VM_WRITE
from mmfs.mm_types import PAGE_SHIFT
from mmfs.profile import since, until

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.mounts import Mount
    from mmfs.kernel.task import Task
    from mmfs.mm.hugetlb import Hstate, HugetlbFolio
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.vma import VmAreaStruct

_ALL: Final = 1 << 62
DEV_HUGETLBFS: Final = ((17, since(6, 12)), (15, until(6, 12)))
"""The kernel's own mount for the default size has device 0:17, those of the other sizes follow."""
DEFAULT_MODE: Final = 0o755


class HugetlbfsSuperBlock:
    """A hugetlbfs and its options. Linux: struct hugetlbfs_sb_info."""

    def __init__(self, kernel: Kernel, options: str = "", hstate: Hstate | None = None) -> None:
        """EINVAL for an option that it does not know, ENOMEM for a min_size that is not to be had."""
        self.kernel = kernel
        self.hstate = kernel.hugetlb.default if hstate is None else hstate
        self.uid = self.gid = 0
        self.mode = DEFAULT_MODE
        self.max_inodes = -1
        sizes = {"size": "", "min_size": ""}
        for word in filter(None, options.split(",")):
            key, _, value = word.partition("=")
            if key in sizes:
                sizes[key] = value if value[:1].isdigit() else _bad(word)
            else:
                self._parse_param(key, value, word)
        max_hpages, min_hpages = self._hpages(sizes["size"]), self._hpages(sizes["min_size"])
        if sizes["size"] and min_hpages > max_hpages:
            kernel.printk.emit("hugetlbfs: Minimum size can not be greater than maximum size", 3)
            raise OSError(EINVAL, "min_size is greater than size")
        self.free_inodes = self.max_inodes
        self.subpool: HugepageSubpool | None = None
        if max_hpages != -1 or min_hpages != -1:
            self.subpool = HugepageSubpool(self.hstate, max_hpages, min_hpages)
        self.alloc_inode()  # of its root directory

    def _parse_param(self, key: str, value: str, word: str) -> None:
        """Linux: hugetlbfs_parse_param()."""
        if key in ("uid", "gid") and value.isdecimal():
            setattr(self, key, int(value))
        elif key == "mode" and value and not value.strip("01234567"):
            self.mode = int(value, 8) & 0o1777
        elif key == "nr_inodes" and value[:1].isdigit():
            self.max_inodes = memparse(value)
        elif key == "pagesize":
            size = memparse(value)
            found = next((one for one in self.kernel.hugetlb if one.huge_page_size == size), None)
            if found is None:
                self.kernel.printk.emit(f"hugetlbfs: Unsupported page size {size >> 20} MB", 3)
                raise OSError(EINVAL, "no such huge page size")
            self.hstate = found
        else:
            _bad(word)

    def _hpages(self, text: str) -> int:
        """A size, or a percentage of the pool, in huge pages; -1 for none. Linux: hugetlbfs_size_to_hpages()."""
        if not text:
            return -1
        size = memparse(text)
        if text.endswith("%"):
            size = (size << self.hstate.order + PAGE_SHIFT) * self.hstate.nr_huge_pages // 100
        return size >> self.hstate.order + PAGE_SHIFT

    def show_options(self) -> str:
        """What /proc/mounts prints behind rw. Linux: hugetlbfs_show_options()."""
        kb, text = self.hstate.size_kb, ""
        text += f",uid={self.uid}" if self.uid else ""
        text += f",gid={self.gid}" if self.gid else ""
        text += f",mode={self.mode:o}" if self.mode != DEFAULT_MODE else ""
        text += f",nr_inodes={self.max_inodes}" if self.max_inodes != -1 else ""
        text += f",pagesize={kb >> 10}M" if kb >= 1024 else f",pagesize={kb}K"
        if self.subpool is not None:
            shift = self.hstate.order + PAGE_SHIFT
            text += f",size={self.subpool.max_hpages << shift}" if self.subpool.max_hpages != -1 else ""
            text += f",min_size={self.subpool.min_hpages << shift}" if self.subpool.min_hpages != -1 else ""
        return text

    def alloc_inode(self) -> None:
        """One inode more; ENOSPC. Linux: hugetlbfs_dec_free_inodes()."""
        if self.max_inodes == -1:
            return
        if self.free_inodes <= 0:
            raise OSError(ENOSPC, "the file system has no inodes left")
        self.free_inodes -= 1

    def free_inode(self) -> None:
        """One less. Linux: hugetlbfs_inc_free_inodes()."""
        if self.max_inodes != -1:
            self.free_inodes += 1

    def put_super(self) -> None:
        """It is unmounted, all files are gone: its pages are anybody's. Linux: hugepage_put_subpool()."""
        if self.subpool is not None and self.subpool.min_hpages != -1:
            self.hstate.acct_memory(-self.subpool.min_hpages)


def _bad(word: str) -> str:
    raise OSError(EINVAL, f"hugetlbfs: {word!r}")


class HugetlbInode(Inode):
    """A file of huge pages."""

    def __init__(self, sb: HugetlbfsSuperBlock, ino: int, dev: tuple[int, int], path: str, mode: int = 0o100600,
                 uid: int = 0, gid: int = 0) -> None:
        sb.alloc_inode()
        self.sb = sb
        self.hstate = sb.hstate
        self.resv_map = ResvMap(sb.hstate)
        self.folios: dict[int, HugetlbFolio] = {}
        """Its pages by number, in huge pages."""
        super().__init__(sb.kernel, ino, dev, 0, path, shmem=True, mode=mode, uid=uid, gid=gid)
        self.huge_page_size = sb.hstate.huge_page_size
        sb.kernel.hugetlb.inodes[self] = None

    @property
    def subpool(self) -> HugepageSubpool | None:
        """What stands between the file and the pool. Linux: subpool_inode()."""
        return self.sb.subpool

    def mmap(self, vma: VmAreaStruct) -> None:
        """A VMA is about to map the file."""
        hugetlbfs_file_mmap(self, vma)

    def add_to_page_cache(self, folio: HugetlbFolio, index: int) -> None:
        """A new page is the file's. Linux: mm/hugetlb.c, hugetlb_add_to_page_cache()."""
        self.folios[index] = folio
        folio.mapping, folio.index = self, index
        folio.dirty = True
        folio.restore_reserve = False

    def truncate(self, size: int) -> None:
        """Give the file a size; EINVAL inside a huge page. Linux: hugetlbfs_setattr(), hugetlb_vmtruncate()."""
        if size & self.hstate.huge_page_size - 1:
            raise OSError(EINVAL, "not a multiple of the huge page size")
        if size < self.size:
            self.remove_pages(size // self.hstate.huge_page_size, _ALL)
        self.size = size

    def remove_pages(self, first: int, last: int, hole: bool = False) -> None:
        """Unmap and free pages; of a hole, those that were only reserved stay so. Linux: remove_inode_hugepages()."""
        unmap_file_range(list(self.mapping.i_mmap), first, last)
        gone = [index for index in sorted(self.folios) if first <= index < last]
        for index in gone:
            folio = self.folios.pop(index)
            folio.mapping = None
            self.hstate.free_huge_folio(folio)
            if hole:
                hugetlb_unreserve_pages(self, index, index + 1, 1)
        if not hole:
            hugetlb_unreserve_pages(self, first, last, len(gone))

    def _evict_if_unused(self) -> None:
        """Linux: hugetlbfs_evict_inode()."""
        if self.i_nlink or self.i_count:
            return
        self.remove_pages(0, _ALL)
        self.mapping.cache.drop(self.mapping.id)
        self.sb.free_inode()
        del self.kernel.hugetlb.inodes[self]


def hugetlbfs_file_mmap(inode: HugetlbInode, vma: VmAreaStruct) -> None:
    """Make a VMA one of huge pages, and reserve them. EINVAL, ENOMEM. Linux: hugetlbfs_file_mmap()."""
    hstate = inode.hstate
    if vma.vm_pgoff & (1 << hstate.order) - 1:
        raise OSError(EINVAL, "not a multiple of the huge page size")
    vma.vm_flags |= VM_HUGETLB | VM_DONTEXPAND
    vma.vm_ops = hugetlb_vm_ops
    length = vma.pages + vma.vm_pgoff << PAGE_SHIFT
    first = vma.vm_pgoff >> hstate.order
    hugetlb_reserve_pages(inode, first, length >> hstate.order + PAGE_SHIFT, vma, vma.vm_flags, task_of(vma.vm_mm))
    if vma.vm_flags & VM_WRITE:
        inode.size = max(inode.size, length)


def hugetlbfs_super(kernel: Kernel, mount: Mount) -> HugetlbfsSuperBlock:
    """The file system that is mounted there."""
    sb = kernel.hugetlb.mounts.get(mount.dev)
    if sb is None:  # init has mounted it
        sb = kernel.hugetlb.mounts[mount.dev] = HugetlbfsSuperBlock(kernel, mount.super_options.partition(",")[2])
    return sb


def _vfsmount(kernel: Kernel, hstate: Hstate) -> tuple[HugetlbfsSuperBlock, tuple[int, int]]:
    """The kernel's own mount for a page size, and its device number. Linux: hugetlbfs_vfsmount[]."""
    mounts = kernel.hugetlb.vfsmounts
    if not mounts:
        others = [one for one in kernel.hugetlb if one is not kernel.hugetlb.default]
        first = next(minor for minor, needs in DEV_HUGETLBFS if needs(kernel))
        for minor, one in enumerate([kernel.hugetlb.default, *others], first):
            mounts[one] = HugetlbfsSuperBlock(kernel, hstate=one), (0, minor)
    return mounts[hstate]


def hugetlb_file_setup(
    kernel: Kernel, name: str, size: int, acctflag: int, page_size_log: int, task: Task | None
) -> File:
    """A nameless file of a page size (0: the default). EINVAL, ENOMEM. Linux: hugetlb_file_setup()."""
    hstate = hstate_sizelog(kernel, page_size_log)
    sb, dev = _vfsmount(kernel, hstate)
    inode = HugetlbInode(sb, kernel.hugetlb.new_ino(), dev, name, 0o100777)
    inode.size = size
    inode.i_nlink = 0
    try:
        hugetlb_reserve_pages(inode, 0, size // hstate.huge_page_size, None, acctflag, task)
    except OSError:
        inode._evict_if_unused()
        raise OSError(ENOMEM, "too few huge pages are free") from None
    return File(inode)


def hstate_sizelog(kernel: Kernel, page_size_log: int) -> Hstate:
    """The pool of a page size, 0 the default. EINVAL. Linux: include/linux/hugetlb.h, hstate_sizelog()."""
    if page_size_log == 0:
        return kernel.hugetlb.default
    hstate = next((one for one in kernel.hugetlb if one.order + PAGE_SHIFT == page_size_log), None)
    if hstate is None:
        raise OSError(EINVAL, "no such huge page size")
    return hstate


def hugetlb_anon_file(mm: MmStruct, length: int, flags: int) -> File:
    """What mmap() with MAP_ANONYMOUS | MAP_HUGETLB maps. Linux: mm/mmap.c, ksys_mmap_pgoff()."""
    kernel = mm.kernel
    page_size_log = flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK
    huge = hstate_sizelog(kernel, page_size_log).huge_page_size
    size = -(-length // huge) * huge
    return hugetlb_file_setup(kernel, "/anon_hugepage", size, VM_NORESERVE, page_size_log, task_of(mm))
