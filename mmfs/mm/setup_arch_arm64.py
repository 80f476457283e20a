"""Boot memory of arm64: what setup_arch.py has for x86, on QEMU's board `virt` with pages of 64 KB.

RAM is one piece from 1 GB on, of which a device tree tells; the loader puts the kernel 2 MB into it and the initramfs
and the device tree 128 MB into it (or at half of a smaller one). Devices reach the lower 4 GB, which are one zone.
There are no large pages for the memory map, as a section's needs 512 KB and a huge page has 512 MB: it is made of
single pages.

Linux: arch/arm64/kernel/setup.c, setup_arch(); arch/arm64/mm/init.c, mmu.c; mm/sparse-vmemmap.c; mm/percpu.c.
QEMU: hw/arm/virt.c, hw/arm/boot.c.
"""

from __future__ import annotations

from mmfs.machine import Machine
from mmfs.mm import mm_init
from mmfs.mm.iomem_arm64 import build_iomem
from mmfs.mm.memblock import MemblockError, Region
from mmfs.mm.percpu import percpu_tables, percpu_unit_pages
from mmfs.mm.setup_arch import GB, IO_TLB_BYTES, IO_TLB_SLOT_BYTES, MB, BootMemory
from mmfs.mm_types import HPAGE_PMD_SIZE as PMD_SIZE
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE

RAM_START = GB
LOAD_OFFSET = 2 * MB
INITRD_OFFSET = 128 * MB
DTB_ALIGN = 2 * MB
DTB_BYTES = MB
"""Linux takes all that the tree says it fills, which is what QEMU has made room for."""
DT_NODES_BYTES, DT_CPU_BYTES, DT_NUMA_BYTES = 41308, 1280, 484
"""What the tree takes when it is unpacked: the board's, each CPU's and each node's of several."""
CPUMASK_BYTES = 64
RESOURCE_BYTES = 64
IO_TLB_SEGMENT = 128
"""Slots that a bounce buffer has at least, each area. Linux: IO_TLB_SEGSIZE."""
IO_TLB_SHARE = 1024
FOUR_GB = 4 * GB
PHYSMEM_BITS = 48


class BootMemoryArm64(BootMemory):
    """The steps that differ. Linux: setup_arch(), bootmem_init(), mem_init() of arm64."""

    max_dma_pfn = mm_init.MAX_DMA32_PFN
    physmem_bits = PHYSMEM_BITS
    io_tlb_slot, io_tlb_area = 24, 16

    def firmware(self) -> None:
        """Memory as the device tree has it, less what `mem=` takes. Linux: early_init_dt_scan_memory()."""
        block = self.memblock
        ram = min(self.machine.ram, self.options.mem or self.machine.ram)
        block.add(RAM_START, RAM_START + (ram & -PAGE_SIZE), 0)
        block.max_pfn = block.max_low_pfn = (RAM_START + ram) >> PAGE_SHIFT

    def node_spans(self) -> list[tuple[int, int, int]]:
        """One node's memory behind the other's."""
        return node_spans(self.machine)

    def kernel_image(self) -> None:
        """Where the loader puts the kernel (KASLR moves its addresses only), the initramfs and the device tree."""
        block, image = self.memblock, self.profile.image
        start = RAM_START + min(self.machine.ram // 2, INITRD_OFFSET)
        end = start + self.profile.initrd_size
        dtb = -(-end // DTB_ALIGN) * DTB_ALIGN
        if dtb + DTB_BYTES > block.max_pfn << PAGE_SHIFT:
            raise MemblockError("ram: too little to boot, no room for the initramfs and the device tree")
        block.ramdisk = self.initrd = (start, end)
        block.kernel_base = RAM_START + LOAD_OFFSET
        block.reserve(start, -(-end // PAGE_SIZE) * PAGE_SIZE, "initrd")
        block.reserve(block.kernel_base, block.kernel_base + image.end, "kernel image")
        block.reserve(dtb, dtb + DTB_BYTES, "device tree")

    def direct_map(self) -> None:
        """Tables of the linear map, which has single pages, one for each 512 MB; then the device tree's nodes.

        Linux: arch/arm64/mm/mmu.c, map_mem(), with rodata=full; unflatten_device_tree().
        """
        block = self.memblock
        for _ in range(1 + -(-(block.max_pfn << PAGE_SHIFT) // PMD_SIZE) - RAM_START // PMD_SIZE):
            block.alloc(PAGE_SIZE, "linear map page tables", align=PAGE_SIZE)
        tree = DT_NODES_BYTES + DT_CPU_BYTES * self.machine.nr_cpus
        tree += DT_NUMA_BYTES * len(self.machine.nodes) if self.machine.numa else 0
        block.alloc(tree, "device tree nodes", align=8)

    def nodes(self) -> None:
        """As on x86 but for a table of distances, and a mask of CPUs each. Linux: arch_numa_init()."""
        super().nodes()
        for _ in self.machine.nodes:
            self.memblock.alloc(CPUMASK_BYTES, "cpumask")

    def distance_table(self) -> None:
        """The tree tells of none, and those that are assumed are not kept. Linux: numa_set_distance()."""

    def memmap(self, nid: int, ranges: list[tuple[int, int]], map_bytes: int, mapped: set[int]) -> None:
        """The memory map in single pages, and a table of pages for each 512 MB of it.

        Linux: mm/sparse-vmemmap.c, vmemmap_populate_basepages().
        """
        first = RAM_START >> PAGE_SHIFT
        fresh = set[int]()
        for low, high in ranges:
            start = (low * self.section_pages - first) * self.profile.struct_page_size
            fresh |= set(range(start // PMD_SIZE, -(-(start + (high - low) * map_bytes) // PMD_SIZE))) - mapped
        mapped |= fresh
        for _ in fresh:
            self.memblock.alloc(PAGE_SIZE, "memmap page tables", align=PAGE_SIZE, nid=nid)
        for _ in range(sum(high - low for low, high in ranges) * map_bytes // PAGE_SIZE):
            self.memblock.alloc(PAGE_SIZE, "memmap", align=PAGE_SIZE, nid=nid)

    def firmware_resources(self) -> None:
        """What stands for each piece of RAM, and the command line twice. Linux: request_standard_resources()."""
        block = self.memblock
        block.alloc(RESOURCE_BYTES * len(block.regions), "resources")
        for _ in range(2):
            block.alloc(len(block.cmdline) + 1, "command line")

    def per_cpu(self) -> None:
        """The first per-CPU chunk, in units of whole pages, each group on its node. Linux: pcpu_embed_first_chunk()."""
        block, profile, nr_cpus = self.memblock, self.profile, self.machine.nr_cpus
        unit = percpu_unit_pages(profile) * PAGE_SIZE
        groups = [(nid, node.cpus) for nid, node in enumerate(self.machine.nodes) if node.cpus]
        scratch = [block.alloc(PAGE_SIZE, "per-CPU scratch", align=PAGE_SIZE) for _ in range(2)]
        for nid, cpus in groups:
            where = nid if nid in self.node_data else -1
            block.alloc(len(cpus) * unit, "per-CPU area", align=PAGE_SIZE, nid=where)
        for size, why in percpu_tables(profile, unit, len(groups), nr_cpus):
            block.alloc(size, why)
        for start in scratch:
            block.free(start, start + PAGE_SIZE)
        self.log_buffer(nr_cpus)

    def core_init(self) -> None:
        """Bounce buffers, for devices below 4 GB or for what is not aligned to a cache line. Linux: mem_init()."""
        block = self.memblock
        block.max_possible_pfn = block.max_pfn
        if self.options.swiotlb == "noforce":
            return
        nr_areas, slots = 1 << (self.machine.nr_cpus - 1).bit_length(), IO_TLB_BYTES // IO_TLB_SLOT_BYTES
        if block.max_pfn <= mm_init.MAX_DMA32_PFN:
            size = min(IO_TLB_BYTES, -(-block.phys_pages() * PAGE_SIZE // IO_TLB_SHARE))
            slots = max(-(-size // IO_TLB_SLOT_BYTES), IO_TLB_SEGMENT * nr_areas)
            slots = 1 << (slots - 1).bit_length()
        limit = min(block.max_pfn << PAGE_SHIFT, FOUR_GB) - 1
        block.alloc(slots * IO_TLB_SLOT_BYTES, "software IO TLB", align=PAGE_SIZE, high=limit)
        size = -(-slots * self.io_tlb_slot // PAGE_SIZE) * PAGE_SIZE
        block.alloc(size, "software IO TLB slots", align=PAGE_SIZE)
        block.alloc(self.io_tlb_area * nr_areas, "software IO TLB areas")

    def give_back(self) -> None:
        """What the kernel frees when it has booted, in that order. Linux: free_initrd_mem(), free_initmem()."""
        block, image = self.memblock, self.profile.image
        base = block.kernel_base
        for why, start, end in (
            ("initrd", *self.initrd),
            ("kernel memory", base + image.init_start, base + image.init_end),
        ):
            block.late_freed.append(Region(start, end, -1, why))

    def resources(self) -> None:
        """Who claims which addresses."""
        self.memblock.iomem = build_iomem(self.machine, self.profile, self.memblock, self.crash)


def node_spans(machine: Machine) -> list[tuple[int, int, int]]:
    """The physical range of each node (start, end, nid), as the device tree lists them."""
    spans, at = [], RAM_START
    for nid, node in enumerate(machine.nodes):
        if node.memory:
            spans.append((at, at + node.memory, nid))
        at += node.memory
    return spans
