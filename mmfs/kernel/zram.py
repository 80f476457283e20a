"""zram: disks in memory, made and configured through /sys.

A disk has no size until one is written to `disksize`; then a compressor and a table of its pages are set up, and it can
be swapped on. `reset` gives all of it back. The pages are the fast path's (fastpath/zram.py).

Linux: drivers/block/zram/zram_drv.c.

Simplified: only swap reads and writes a disk; there is no backing device, and no second compressor.
"""

from __future__ import annotations

from errno import E2BIG, EBUSY, EINVAL, ENODEV, ENOMEM
from typing import TYPE_CHECKING, Final, NamedTuple

from mmfs.fastpath.zram import Zram
from mmfs.kernel.block import SECTOR_SHIFT, DiskSpeed, Gendisk
from mmfs.kernel.fs_writeback import BdiWriteback
from mmfs.kernel.module import Module
from mmfs.kernel.printk import LOG_INFO
from mmfs.mm.backing_dev import BackingDevInfo
from mmfs.mm.shrinker import Shrinker
from mmfs.mm.zswap import COMPRESSORS, pool_shrinker
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE
from mmfs.profile import Needs, since, until

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


class Algorithm(NamedTuple):
    """What a compressor needs: pages of its vmalloc areas for each CPU; bytes that mkswap(8)'s first page becomes."""

    areas: tuple[int, ...]
    header_bytes: int


class Backends(NamedTuple):
    """The compressors that a kernel is built with, and the one that a new disk has."""

    algorithms: dict[str, Algorithm]
    default: str
    needs: Needs


BACKENDS: Final = (
    Backends(
        {
            "lz4": Algorithm((2, 5), 63),
            "lz4hc": Algorithm((2, 65), 61),
            "zstd": Algorithm((2, 22, 24), 58),
            "deflate": Algorithm((2, 36, 11), 67),
        },
        "lz4",
        since(6, 12),
    ),
    Backends(
        {
            "lzo": Algorithm((), 78),
            "lzo-rle": Algorithm((), 73),
            "lz4": Algorithm((5,), 63),
            "lz4hc": Algorithm((65,), 61),
            "zstd": Algorithm((317, 40), 58),
        },
        "lzo-rle",
        until(6, 12),
    ),
)
"""Those of Debian's kernels; real ones were asked. Linux: drivers/block/zram/zcomp.c, backends[]."""


def backends(kernel: Kernel) -> Backends:
    """Those of this kernel."""
    return next(one for one in BACKENDS if one.needs(kernel))


CRYPTO_MAX_ALG_NAME: Final = 128
TABLE_ENTRY_BYTES: Final = 24
"""Of the table of a disk's pages, each. Linux: struct zram_table_entry, with ZRAM_TRACK_ENTRY_ACTIME."""
MODULE_BYTES: Final = 49152
USED_MODULES: Final = ("lz4_compress", "lz4hc_compress", "zsmalloc")
MAX_SECTORS_KB: Final = 124
MEMORY: Final = DiskSpeed(0, 0, 0, 0, 1 << 40, 1 << 40)
"""It answers at once; compressing is time of the CPU's."""


class ZramDisk(Gendisk):
    """A zram disk. Linux: struct zram."""

    def __init__(self, kernel: Kernel, number: int, major: int) -> None:
        super().__init__(kernel.clock, kernel.vmstat, f"zram{number}", major, number, 0, MEMORY)
        self.kernel = kernel
        self.virtual = True
        self.backends = backends(kernel)
        self.comp_algorithm = self.backends.default
        self.limit_pages = 0
        self.writeback_limit = 0
        self.writeback_limit_enable = False
        self.writeback_batch_size = 32
        self.compressed_writeback = False
        self._areas: list[list[int]] = []
        """The table of its pages, and what its compressor has for each CPU."""
        self._shrinker: Shrinker | None = None

    @property
    def disksize(self) -> int:
        """Bytes; 0 until it is set up."""
        return self.nr_sectors << SECTOR_SHIFT

    @property
    def in_use(self) -> bool:
        """Whether somebody has it open, as swap does."""
        return any(area.file == self.path for area in self.kernel.swap_info)

    def set_disksize(self, size: int) -> None:
        """Set the disk up. EINVAL, EBUSY, ENOMEM. Linux: disksize_store()."""
        if not size:
            raise OSError(EINVAL, "no size")
        if self.zram is not None:
            self.kernel.printk.emit("zram: Cannot change disksize for initialized device", LOG_INFO)
            raise OSError(EBUSY, f"{self.name} has a size")
        pages = -(-size // PAGE_SIZE)
        table_pages = -(-pages * TABLE_ENTRY_BYTES // PAGE_SIZE)
        if table_pages > self.kernel.totalram_pages():
            raise OSError(ENOMEM, f"no memory for the table of {self.name}")
        algorithm = self.backends.algorithms[self.comp_algorithm]
        self._alloc_areas([table_pages, *algorithm.areas * self.kernel.machine.nr_cpus])
        contents = self.kernel.mmu.swap.slots.zswap.contents
        zram = Zram(self.kernel.page_alloc.buddy, contents, self.kernel.vmstat, self.queue, pages)
        zram.factor, zram.compress_ns, zram.decompress_ns = COMPRESSORS[self.comp_algorithm]
        zram.header_bytes = algorithm.header_bytes
        zram.limit_pages = self.limit_pages
        self.zram = zram
        self._shrinker = pool_shrinker(self.name, zram.pool)
        self.kernel.reclaim.shrinkers.register(self._shrinker)
        self.nr_sectors = pages << PAGE_SHIFT - SECTOR_SHIFT
        self.kernel.printk.emit(f"{self.name}: detected capacity change from 0 to {self.nr_sectors}", LOG_INFO)

    def _alloc_areas(self, areas: list[int]) -> None:
        """All of them, or ENOMEM. Linux: zram_meta_alloc(), zcomp_create()."""
        try:
            for nr_pages in areas:
                self._areas.append(self.kernel.vmalloc.alloc(nr_pages, 0))
        except OSError:
            self._free_areas()
            raise

    def _free_areas(self) -> None:
        """Linux: zram_meta_free(), zcomp_destroy()."""
        while self._areas:
            self.kernel.vmalloc.free(self._areas.pop())

    def set_limit(self, size: int) -> None:
        """How much memory its pages may take, 0: any. Linux: mem_limit_store()."""
        self.limit_pages = -(-size // PAGE_SIZE)
        if self.zram is not None:
            self.zram.limit_pages = self.limit_pages

    def set_algorithm(self, name: str) -> None:
        """E2BIG, EINVAL, EBUSY. Linux: __comp_algorithm_store()."""
        if len(name) >= CRYPTO_MAX_ALG_NAME:
            raise OSError(E2BIG, "too long a name")
        if name.removesuffix("\n") not in self.backends.algorithms:
            raise OSError(EINVAL, f"no compressor {name}")
        if self.zram is not None:
            self.kernel.printk.emit("zram: Can't change algorithm for initialized device", LOG_INFO)
            raise OSError(EBUSY, f"{self.name} has a size")
        self.comp_algorithm = name.removesuffix("\n")

    def initialised(self) -> Zram:
        """What keeps its pages; EINVAL while it has no size."""
        if self.zram is None:
            raise OSError(EINVAL, f"{self.name} has no size")
        return self.zram

    def reset(self) -> None:
        """Give all memory back, as if it had just been made. EBUSY while it is used. Linux: zram_reset_device()."""
        if self.in_use:
            raise OSError(EBUSY, f"{self.name} is in use")
        self.limit_pages = 0
        if self.zram is None:
            return
        self.zram.reset()
        self.zram = None
        if self._shrinker is not None:
            self.kernel.reclaim.shrinkers.unregister(self._shrinker)
        self._free_areas()
        self.kernel.printk.emit(f"{self.name}: detected capacity change from {self.nr_sectors} to 0", LOG_INFO)
        self.kernel.swap_files.headers.pop(id(self), None)
        self.nr_sectors, self.comp_algorithm = 0, self.backends.default
        self.queue.reset_stats()

    def mm_stat(self) -> list[int]:
        """Sizes in bytes, counts of pages, in the order of the file. Linux: mm_stat_show()."""
        zram = self.zram
        if zram is None:
            return [0, 0, 0, self.limit_pages << PAGE_SHIFT, 0, 0, 0, 0, 0]
        return [
            zram.pages_stored << PAGE_SHIFT, zram.compr_data_size, zram.pool.pages_allocated << PAGE_SHIFT,
            self.limit_pages << PAGE_SHIFT, zram.max_used_pages << PAGE_SHIFT, zram.same_pages,
            zram.pool.pages_compacted, zram.huge_pages, zram.huge_pages_since,
        ]  # fmt: skip


class ZramModule(Module):
    """The module itself: each disk that is in use uses it."""

    def __init__(self, control: ZramControl) -> None:
        super().__init__("zram", MODULE_BYTES)
        self.control = control

    @property
    def refcnt(self) -> int:
        """How often it is used."""
        return sum(disk.in_use for disk in self.control.disks.values())


class ZramControl:
    """What the module has: its disks, once it is loaded. Linux: zram_index_idr, zram_control_class."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.major = 0
        self.disks: dict[int, ZramDisk] = {}

    @property
    def loaded(self) -> bool:
        """Whether the module is there."""
        return bool(self.major)

    def load(self, num_devices: int = 1) -> None:
        """modprobe(8) zram num_devices=N. EINVAL. Linux: zram_init()."""
        if self.loaded:
            return
        if not 0 <= num_devices <= 1 << 20:
            raise OSError(EINVAL, "no such number of devices")
        self.kernel.modules.load(ZramModule(self), needs=USED_MODULES)
        self.major = self.kernel.block_devices.register_blkdev("zram")
        for _ in range(num_devices):
            self.add()

    def add(self) -> int:
        """A disk of the lowest free number. Linux: zram_add()."""
        number = next(number for number in range(len(self.disks) + 1) if number not in self.disks)
        disk = self.disks[number] = ZramDisk(self.kernel, number, self.major)
        self.kernel.block_devices.add_disk(disk)
        bdi = BackingDevInfo(disk)
        bdi.rotational = False
        bdi.set_io_pages(MAX_SECTORS_KB << 10 >> PAGE_SHIFT)
        bdi.wb = BdiWriteback(self.kernel, bdi)
        self.kernel.bdis.append(bdi)
        self.kernel.printk.emit(f"zram: Added device: {disk.name}", LOG_INFO)
        return number

    def remove(self, number: int) -> None:
        """ENODEV, EBUSY while it is used. Linux: zram_remove()."""
        disk = self.disks.get(number)
        if disk is None:
            raise OSError(ENODEV, f"no zram{number}")
        disk.reset()
        self.kernel.bdis[:] = [bdi for bdi in self.kernel.bdis if bdi.disk is not disk]
        self.kernel.block_devices.del_gendisk(disk)
        del self.disks[number]
        self.kernel.printk.emit(f"zram: Removed device: {disk.name}", LOG_INFO)
