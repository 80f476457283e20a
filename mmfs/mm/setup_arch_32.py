"""Boot memory where the kernel maps only the lower part of it: what setup_arch.py has for 64 bits, on i386-pae.

All that the boot code takes lies in low memory, for the rest cannot be looked at: the memory map too, 40 bytes a frame
in one table whatever its size, so that a machine of 64 GB has little left that the kernel can use. High memory is
handed to the buddy allocator as it is.

Linux: arch/x86/kernel/setup.c, setup_arch(); arch/x86/mm/init_32.c; mm/mm_init.c, with CONFIG_FLATMEM.

Simplified: KASLR loads the kernel where it leaves room for the memory map above it; a real kernel that was loaded amid
the room for a large one panics.
"""

from __future__ import annotations

from mmfs.mm import mm_init
from mmfs.mm.memblock import ALTERNATIVES, Region
from mmfs.mm.percpu import percpu_tables, percpu_unit_pages
from mmfs.mm.setup_arch import BootMemory
from mmfs.mm_types import HPAGE_PMD_SIZE as PMD_SIZE
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE, PAGEBLOCK_NR_PAGES

KERNEL_IMAGE_SIZE = 512 << 20
TABLES_ROOM = 8 << 20
"""What the tables that are taken before the memory map need, at most."""
PAGEBLOCK_BITS = 4
LOW_PAGE_TABLES = 2
"""Page tables of the permanent and the temporary mappings of high memory. Linux: permanent_kmaps_init()."""


class BootMemory32(BootMemory):
    """The steps that differ. Linux: setup_arch(), with CONFIG_X86_32."""

    initrd_limit = 2 << 30
    """Linux: arch/x86/boot/header.S, initrd_addr_max."""
    io_tlb_slot, io_tlb_area = 16, 12
    hpet_resource, io_apic_resource, e820_resource, firmware_map, nosave_region = 49, 51, 40, 64, 16

    def firmware(self) -> None:
        """What can be mapped is low, and all that boot code may take. Linux: find_low_pfn_range()."""
        super().firmware()
        block, arch, max_low = self.memblock, self.profile.arch, self.profile.arch.max_low
        block.max_pfn = block.e820.end_of_ram_pfn(arch.max_ram >> PAGE_SHIFT)
        reach = arch.max_ram
        block.regions = [r._replace(end=min(r.end, reach)) for r in block.regions if r.start < reach]
        block.max_low_pfn = min(block.max_pfn, max_low >> PAGE_SHIFT)
        block.current_limit = max_low

    @property
    def kaslr_limit(self) -> int:
        """Linux: KERNEL_IMAGE_SIZE."""
        room = self.profile.arch.max_low - self.memmap_bytes() - TABLES_ROOM
        return min(KERNEL_IMAGE_SIZE, room) if room > 0 else KERNEL_IMAGE_SIZE

    def memmap_bytes(self) -> int:
        """From the first frame to the last, in whole blocks of the largest order."""
        frames = -(-self.memblock.max_pfn // mm_init.MAX_ORDER_NR_PAGES) * mm_init.MAX_ORDER_NR_PAGES
        return frames * self.profile.struct_page_size

    def early_page_tables(self, kernel_base: int) -> int:
        """A table for every 2 MB below it. Linux: arch/x86/kernel/head32.c, mk_early_pgtbl_32()."""
        return kernel_base // PMD_SIZE * PAGE_SIZE

    def direct_map(self) -> None:
        """Its page tables lie in the kernel's brk. Linux: arch/x86/mm/init.c, early_alloc_pgt_buf()."""

    def mapped_end(self) -> int:
        """The end of what is mapped: an initramfs beyond is moved."""
        return self.memblock.max_low_pfn << PAGE_SHIFT

    def nodes(self) -> None:
        """There is one node, and it is part of the image. Linux: contig_page_data."""
        self.node_data[0] = 0

    def sparse(self) -> None:
        """One memory map for all, from the first frame to the last. Linux: mm/mm_init.c, alloc_node_mem_map()."""
        self.memblock.alloc(self.memmap_bytes(), "memmap", nid=0)

    def zones(self) -> None:
        """Cut memory into zones, and note the pageblocks of each. Linux: setup_usemap(), free_area_init_core()."""
        super().zones()
        block, self.memblock.first_deferred_pfn = self.memblock, {}
        for zone in block.zone_ranges:
            if zone.spanned:
                pages = zone.spanned + zone.start_pfn % PAGEBLOCK_NR_PAGES
                bits = -(-pages // PAGEBLOCK_NR_PAGES) * PAGEBLOCK_BITS
                block.alloc(-(-bits // 32) * 4, "pageblock flags", nid=0)
        block.nr_kernel_pages = block.nr_kernel_free_pages(self.profile)

    def per_cpu(self) -> None:
        """The first per-CPU chunk, in units of whole pages. Linux: pcpu_embed_first_chunk()."""
        block, profile, nr_cpus = self.memblock, self.profile, self.machine.nr_cpus
        unit = percpu_unit_pages(profile) * PAGE_SIZE
        scratch = [block.alloc(PAGE_SIZE, "per-CPU scratch", align=PAGE_SIZE) for _ in range(2)]
        block.alloc(nr_cpus * unit, "per-CPU area", align=PAGE_SIZE, low=16 << 20)
        for size, why in percpu_tables(profile, unit, 1, nr_cpus):
            block.alloc(size, why)
        self.log_buffer(nr_cpus)
        for start in scratch:
            block.free(start, start + PAGE_SIZE)

    def cpu_entry_area_tables(self) -> int:
        """Nothing for CPU entry areas, which have their place; high memory is mapped through two tables."""
        return LOW_PAGE_TABLES

    def give_back(self) -> None:
        """What the kernel frees when it has booted, in that order. Linux: free_initmem(), free_initrd_mem()."""
        block, image = self.memblock, self.profile.image
        base = block.kernel_base
        for why, start, end in (
            (ALTERNATIVES, base + image.init_end, base + image.smp_locks_end),
            ("initrd", *self.initrd),
            ("kernel image (initmem)", base + image.init_start, base + image.init_end),
        ):
            block.late_freed.append(Region(start, end, -1, why))
