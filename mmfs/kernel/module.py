"""Loaded modules: where they lie, how large they are, who uses them.

The initramfs of the simulated machine loads what its virtio disks and its ext4 root need. A module's areas lie one
behind the other in the module space, a guard page after each, from an offset that KASLR chose; its pages come from
vmalloc.

Linux: kernel/module/main.c, procfs.c.

Simplified: modules are loaded at boot and stay; they have sizes, not code.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

from mmfs.mm_types import PAGE_SIZE
from mmfs.profile import config, since, until

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

MODULES_VADDR: Final = 0xFFFFFFFFC0000000
MODULES_RANDOM_PAGES: Final = 1024
EARLY_VMALLOC_PAGES: Final = 15
"""What lies before the first module in the vmalloc area: mappings of devices' registers."""
SMALL_MODULE_PAGES: Final = 6


@dataclass
class Module:
    """One module. Linux: struct module."""

    name: str
    size: int
    uses: int = 0
    """References that are not modules': mounts, devices."""
    source_list: list[str] = field(default_factory=list)
    """Modules that need this one."""
    base: int = 0

    @property
    def refcnt(self) -> int:
        """How often it is used. Linux: module_refcount()."""
        return self.uses + len(self.source_list)

    @property
    def nr_pages(self) -> int:
        """Pages of all its areas."""
        return self.size // PAGE_SIZE

    @property
    def nr_areas(self) -> int:
        """Text, data, read-only data; larger modules have data that is read-only after init too."""
        return 3 if self.nr_pages <= SMALL_MODULE_PAGES else 4


INITRAMFS_6_12: Final = (
    ("virtio_blk", 32768, 1, ()),
    ("crc32c_generic", 12288, 0, ()),
    ("crc32c_intel", 16384, 1, ()),
    ("jbd2", 200704, 0, ("ext4",)),
    ("mbcache", 16384, 0, ("ext4",)),
    ("crc16", 12288, 0, ("ext4",)),
    ("ext4", 1146880, 1, ()),
    ("lz4_compress", 24576, 0, ("lz4",)),
    ("lz4", 12288, 0, ()),
    ("zstd", 12288, 0, ()),
    ("lz4hc_compress", 20480, 0, ()),
    ("virtio_balloon", 32768, 0, ()),
)
INITRAMFS_6_1: Final = (
    ("virtio_ring", 49152, 0, ("virtio_balloon", "virtio_console", "virtio_blk", "virtio_pci", "virtio")),
    ("virtio", 20480, 0, ("virtio_balloon", "virtio_console", "virtio_blk", "virtio_pci")),
    ("virtio_pci_modern_dev", 20480, 0, ("virtio_pci",)),
    ("virtio_pci_legacy_dev", 16384, 0, ("virtio_pci",)),
    ("virtio_pci", 24576, 0, ()),
    ("virtio_blk", 28672, 1, ()),
    ("jbd2", 167936, 0, ("ext4",)),
    ("mbcache", 16384, 0, ("ext4",)),
    ("crc16", 16384, 0, ("ext4",)),
    ("ext4", 983040, 1, ()),
    ("crc32c_generic", 16384, 0, ()),
    ("crc32c_intel", 24576, 1, ()),
    ("virtio_console", 40960, 1, ()),
    ("zsmalloc", 28672, 0, ()),
    ("lz4_compress", 24576, 0, ("lz4",)),
    ("lz4", 16384, 0, ()),
    ("zstd_compress", 294912, 0, ("zstd",)),
    ("zstd", 16384, 0, ()),
    ("virtio_balloon", 24576, 0, ()),
)
INITRAMFS_686_PAE: Final = (
    ("virtio", 16384, 0, ("virtio_balloon", "virtio_console", "virtio_blk", "virtio_pci")),
    ("virtio_ring", 32768, 0, ("virtio_balloon", "virtio_console", "virtio_blk", "virtio_pci")),
    ("virtio_pci_modern_dev", 16384, 0, ("virtio_pci",)),
    ("virtio_pci_legacy_dev", 16384, 0, ("virtio_pci",)),
    ("virtio_pci", 20480, 0, ()),
    ("virtio_blk", 24576, 1, ()),
    ("jbd2", 110592, 0, ("ext4",)),
    ("mbcache", 16384, 0, ("ext4",)),
    ("crc16", 16384, 0, ("ext4",)),
    ("ext4", 679936, 1, ()),
    ("crc32c_generic", 16384, 0, ()),
    ("crc32c_intel", 16384, 1, ()),
    ("virtio_console", 32768, 1, ()),
    ("zsmalloc", 24576, 0, ()),
    ("lz4_compress", 24576, 0, ("lz4",)),
    ("lz4", 16384, 0, ()),
    ("zstd_compress", 245760, 0, ("zstd",)),
    ("zstd", 16384, 0, ()),
    ("virtio_balloon", 24576, 0, ()),
)
"""Name, size, uses, users; in the order of loading."""
INITRAMFS: Final = (
    ((), config("ARM64")), (INITRAMFS_686_PAE, ~config("64BIT")), (INITRAMFS_6_12, since(6, 12)),
    (INITRAMFS_6_1, until(6, 12)),
)  # fmt: skip
ONE_AREA: Final = until(6, 12)
OWN_SPACE: Final = config("64BIT")
"""Kernels whose modules have addresses of their own; others have them in the vmalloc area."""
"""Kernels that give a module one area for all its parts."""


class Modules:
    """All modules, newest first as /proc/modules lists them."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.list: list[Module] = []
        if OWN_SPACE(kernel):
            offset = Random(f"module_load_offset {kernel.seed}").randint(1, MODULES_RANDOM_PAGES)
            self.next_base = MODULES_VADDR + offset * PAGE_SIZE
        else:
            self.next_base = kernel.vmalloc.start + EARLY_VMALLOC_PAGES * PAGE_SIZE

    def load(self, module: Module, needs: Collection[str] = ()) -> Module:
        """Give a module its memory; `needs`: modules that it uses. Linux: kernel/module/main.c, load_module()."""
        for used in self.list:
            if used.name in needs:
                used.source_list.insert(0, module.name)
        module.base = self.next_base
        nr_areas = 1 if ONE_AREA(self.kernel) else module.nr_areas
        self.next_base += (module.nr_pages + nr_areas) * PAGE_SIZE
        self.kernel.vmalloc.alloc(module.nr_pages, 0)
        self.list.insert(0, module)
        return module

    def load_initramfs(self) -> None:
        """What the initramfs loads before it mounts the root file system."""
        modules = next(rows for rows, needs in INITRAMFS if needs(self.kernel))
        for name, size, uses, users in modules:
            self.load(Module(name, size, uses, list(users)))
