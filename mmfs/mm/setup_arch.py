"""From the firmware's map to the buddy allocator's first free pages: what the kernel takes at boot, in order.

Each step allocates what Linux allocates there, of the size that Linux computes, from the top of memory
down. The sum of it is the difference between a machine's RAM and its MemTotal: the kernel image, 64 bytes
of memory map a frame, hash tables, the per-CPU areas, page tables, bounce buffers. When it has booted, the
kernel gives some back (the initramfs, its init sections); Memblock.late_freed lists that.

Linux: arch/x86/kernel/setup.c, setup_arch(); mm/sparse.c; mm/percpu.c; kernel/dma/swiotlb.c.
"""

from __future__ import annotations

import random

from mmfs.arch import ARM64_64K, I386_PAE, X86_64
from mmfs.machine import Machine
from mmfs.mm import e820, mm_init
from mmfs.mm.cmdline import BootOptions, memparse
from mmfs.mm.contiguous import dma_contiguous_reserve
from mmfs.mm.iomem import build_iomem
from mmfs.mm.memblock import ALTERNATIVES, Memblock, MemblockError, PfnRange, Region
from mmfs.mm.percpu import per_cpu_unit_bytes, percpu_tables, percpu_unit_pages
from mmfs.mm.sparse import PAGES_PER_SECTION, SECTION_SIZE_BITS
from mmfs.mm.system_hash import system_hash_tables
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE
from mmfs.profile import Profile

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30
PMD_SIZE, PUD_SIZE = 2 * MB, GB
MAX_DMA_ADDRESS = 16 * MB
SECTION_SIZE = 1 << SECTION_SIZE_BITS
REAL_MODE_BYTES = 28672
CPU_ENTRY_AREA_PAGES = 59
CPU_ENTRY_AREA_SLOTS = (512 * GB - PAGE_SIZE) // (CPU_ENTRY_AREA_PAGES * PAGE_SIZE)
IO_TLB_BYTES = 64 * MB
IO_TLB_SLOT_BYTES = 2048
LOG_CPU_BYTES, PRB_DESC_STRUCT, PRINTK_INFO_STRUCT = 4096, 24, 88


def setup_memory(
    machine: Machine, profile: Profile, cmdline: str, rng_seed: int, kernel_base: int | None = None
) -> Memblock:
    """Boot a machine's physical memory. Linux: setup_arch() to mm_core_init()."""
    from mmfs.mm.setup_arch_32 import BootMemory32
    from mmfs.mm.setup_arch_arm64 import BootMemoryArm64

    steps = {X86_64: BootMemory, I386_PAE: BootMemory32, ARM64_64K: BootMemoryArm64}[profile.arch]
    boot = steps(machine, profile, cmdline, rng_seed, kernel_base)
    boot.firmware()
    boot.kernel_image()
    boot.direct_map()
    boot.relocate_initrd()
    boot.nodes()
    boot.contiguous_areas()
    boot.crash_kernel()
    boot.sparse()
    boot.zones()
    boot.firmware_resources()
    boot.per_cpu()
    boot.gigantic_pages()
    boot.hash_tables()
    boot.core_init()
    boot.give_back()
    boot.resources()
    return boot.memblock


class BootMemory:
    """The boot code's working state; Memblock is what remains of it."""

    def __init__(
        self, machine: Machine, profile: Profile, cmdline: str, rng_seed: int, kernel_base: int | None = None
    ) -> None:
        self.machine = machine
        self.profile = profile
        self.options = BootOptions.parse(cmdline, profile.arch)
        self.rng = random.Random(f"boot memory {rng_seed}")
        self.kernel_base = kernel_base
        self.memblock = Memblock()
        self.memblock.cmdline = cmdline
        self.node_data: dict[int, int] = {}
        self.initrd = (0, 0)
        self.crash: tuple[int, int] | None = None

    # -- what is there ------------------------------------------------------------------------------------

    def firmware(self) -> None:
        """Read the e820 map and take the first megabyte. Linux: e820__memory_setup(), e820__memblock_setup()."""
        block = self.memblock
        block.e820_firmware = e820.firmware_map(self.machine)
        block.e820 = e820.kernel_map(block.e820_firmware, self.options.mem)
        for start, end, _ in block.e820.ram():
            block.add(start, end & -PAGE_SIZE, 0)
        block.max_pfn = block.e820.end_of_ram_pfn(1 << 52)
        block.max_low_pfn = block.max_pfn  # with 64 bits all memory is low, once it is mapped
        block.reserve(0, e820.ISA_END, "first megabyte", 0)

    def kernel_image(self) -> None:
        """Place the kernel where KASLR puts it, and the initramfs below the firmware's tables."""
        block, image = self.memblock, self.profile.image
        top = min(e820.initrd_end(self.machine), self.initrd_limit)
        start = (top - self.profile.initrd_size) & -PAGE_SIZE
        block.ramdisk = (start, start + self.profile.initrd_size)
        self.initrd = (start, top)
        block.kernel_base = self.kernel_base or self._kaslr(image.end + image.brk)
        block.reserve(block.kernel_base, block.kernel_base + image.end, "kernel image")
        brk = image.brk + self.early_page_tables(block.kernel_base)
        block.reserve(block.kernel_base + image.end, block.kernel_base + image.end + brk, "kernel brk")
        block.reserve(*self.initrd, "initrd")

    initrd_limit = 1 << 52
    """Below which address the initramfs must lie."""
    io_tlb_slot, io_tlb_area = 24, 16
    """Bytes for each slot and each area of the bounce buffers."""
    max_dma_pfn = mm_init.MAX_DMA_PFN
    """The end of what the most limited devices reach."""
    section_pages = PAGES_PER_SECTION
    hpet_resource, io_apic_resource, e820_resource, firmware_map, nosave_region = 73, 75, 64, 104, 32
    """Bytes of what stands for a device (its name included), a line of the map, and memory that is not saved."""

    @property
    def kaslr_limit(self) -> int:
        """Below which address the kernel must lie."""
        return 1 << 52

    def early_page_tables(self, kernel_base: int) -> int:
        """Bytes of the kernel's brk that depend on where it lies."""
        return 0

    def _kaslr(self, size: int) -> int:
        """A random 2 MB slot that holds the kernel. Linux: arch/x86/boot/compressed/kaslr.c."""
        align = self.profile.config_int("PHYSICAL_ALIGN")
        lowest = self.profile.config_int("PHYSICAL_START")
        if self.options.nokaslr:
            return lowest
        slots = []
        for region in self.memblock.regions:
            end = min(region.end, self.kaslr_limit)
            for low, high in (
                (region.start, min(end, self.initrd[0])),
                (max(region.start, self.initrd[1]), end),
            ):
                first = -(-max(low, lowest) // align) * align
                if high - first >= size:
                    slots.append((first, (high - first - size) // align + 1))
        if not slots:
            raise MemblockError("ram: too little to boot, no room for the kernel")
        pick = self.rng.randrange(sum(count for _, count in slots))
        for first, count in slots:
            if pick < count:
                return first + pick * align
            pick -= count
        raise AssertionError("unreachable")

    def direct_map(self) -> None:
        """Page tables of the direct map beyond those in the kernel's brk.

        Linux: arch/x86/mm/init.c, init_mem_mapping().
        Simplified: the map is aligned as its tables are; where KASLR puts it across one more, Linux takes two more.
        """
        block = self.memblock
        reach = 512 * GB if self.machine.cpu.gbpages else PUD_SIZE
        for _ in range((block.max_pfn << PAGE_SHIFT) // reach):
            block.alloc(PAGE_SIZE, "direct map page tables", align=PAGE_SIZE)

    def relocate_initrd(self) -> None:
        """Move the initramfs where ``mem=`` allows. Linux: arch/x86/kernel/setup.c, reserve_initrd()."""
        start, end = self.initrd
        if end <= self.mapped_end():
            return
        moved = self.memblock.alloc(end - start, "initrd", align=PAGE_SIZE)
        self.memblock.free(start, end)
        self.initrd = (moved, moved + end - start)

    def mapped_end(self) -> int:
        """The end of what is mapped."""
        return self.memblock.max_pfn << PAGE_SHIFT

    def node_spans(self) -> list[tuple[int, int, int]]:
        """The physical ranges of each node (start, end, nid)."""
        return e820.node_spans(self.machine)

    @property
    def physmem_bits(self) -> int:
        """Bits of an address by which sections are counted. Linux: MAX_PHYSMEM_BITS."""
        return 52 if self.machine.cpu.la57 else 46

    def nodes(self) -> None:
        """Give memory to its nodes, and each node its pglist_data. Linux: initmem_init(), alloc_node_data()."""
        block, machine = self.memblock, self.machine
        if machine.numa:
            self.distance_table()
            block.set_nodes(self.node_spans())
        with_memory = sorted({region.nid for region in block.regions})
        for nid in range(len(machine.nodes)):
            if nid in with_memory:
                self.node_data[nid] = block.alloc(self.profile.pglist_data_size, f"NODE_DATA({nid})", nid=nid)

    def distance_table(self) -> None:
        """How far each node is from each. Linux: numa_alloc_distance()."""
        count = len(self.machine.nodes)
        if count > 1:
            self.memblock.alloc(count * count, "NUMA distance table", align=PAGE_SIZE)

    def contiguous_areas(self) -> None:
        """Set CMA areas aside. Linux: kernel/dma/contiguous.c, dma_contiguous_reserve()."""
        if self.profile.config("DMA_CMA"):
            dma_contiguous_reserve(self.memblock, sorted(self.node_data))

    def crash_kernel(self) -> None:
        """crashkernel=SIZE[@OFFSET]. Linux: arch_reserve_crashkernel()."""
        size_text, _, offset_text = self.options.crashkernel.partition("@")
        size = memparse(size_text) if ":" not in size_text and "," not in size_text else 0
        if not size:
            return
        if offset_text:
            start: int | None = memparse(offset_text)
            self.memblock.reserve(start or 0, (start or 0) + size, "crash kernel")
        else:
            start = self.memblock.alloc_or_none(size, "crash kernel", align=16 * MB, high=e820.FOUR_GB)
        if start is not None:
            self.crash = (start, start + size - 1)

    # -- the memory map ---------------------------------------------------------------------------------------

    def sections(self) -> dict[int, list[tuple[int, int]]]:
        """Present sections of 128 MB by node, as ranges of section numbers. Linux: memblocks_present()."""
        found: dict[int, list[tuple[int, int]]] = {}
        last = 0
        for start, end, nid in self.memblock.memory:
            first = max(start // PAGES_PER_SECTION, last)
            last = -(-end // PAGES_PER_SECTION)
            if first < last:
                ranges = found.setdefault(nid, [])
                if ranges and ranges[-1][1] == first:
                    ranges[-1] = (ranges[-1][0], last)
                else:
                    ranges.append((first, last))
        return found

    def sparse(self) -> None:
        """Section tables and the memory map itself: 2 MB for every 128 MB of RAM. Linux: sparse_init()."""
        block, profile = self.memblock, self.profile
        per_root = PAGE_SIZE // profile.mem_section_size
        roots = (1 << (self.physmem_bits - SECTION_SIZE_BITS)) // per_root
        block.alloc(roots * 8, "section roots")
        by_node = self.sections()
        seen: set[int] = set()
        for nid, ranges in sorted(by_node.items()):
            for root in sorted(
                {number // per_root for low, high in ranges for number in (low, high - 1)}
                | {root for low, high in ranges for root in range(low // per_root, high // per_root)}
            ):
                if root not in seen:
                    seen.add(root)
                    block.alloc(PAGE_SIZE, "section table", nid=nid)
        map_bytes = PAGES_PER_SECTION * profile.struct_page_size
        mapped: set[int] = set()
        for nid, ranges in sorted(by_node.items()):
            count = sum(high - low for low, high in ranges)
            goal = self.node_data[nid] & -SECTION_SIZE
            usage = profile.mem_section_usage_size * count
            if block.alloc_or_none(usage, "section usage", nid=nid, low=goal, high=goal + SECTION_SIZE) is None:
                block.alloc(usage, "section usage", nid=nid, low=goal)
            self.memmap(nid, ranges, map_bytes, mapped)

    def memmap(self, nid: int, ranges: list[tuple[int, int]], map_bytes: int, mapped: set[int]) -> None:
        """The memory map of a node's sections; its page tables: a PMD page for each of its gigabytes, and two above.

        ``mapped``: the gigabytes that have one.
        """
        size = sum(high - low for low, high in ranges) * map_bytes
        self.memblock.alloc(size, "memmap", align=PMD_SIZE, nid=nid, low=MAX_DMA_ADDRESS, exact_nid=True)
        fresh = set()
        for low, high in ranges:
            fresh |= set(range(low * map_bytes // PUD_SIZE, (high * map_bytes - 1) // PUD_SIZE + 1)) - mapped
        levels = 0 if mapped else 2
        mapped |= fresh
        for _ in range(len(fresh) + levels):
            self.memblock.alloc(PAGE_SIZE, "memmap page tables", align=PAGE_SIZE, nid=nid, low=MAX_DMA_ADDRESS)

    def zones(self) -> None:
        """Cut nodes into zones. Linux: zone_sizes_init(), free_area_init()."""
        block, options = self.memblock, self.options
        memory = block.memory
        total = sum(end - start for start, end, _ in memory)
        types = mm_init.zone_types(self.profile)
        limits = mm_init.zone_limits(memory[0].start_pfn, block.max_low_pfn, block.max_pfn, types, self.max_dma_pfn)
        movable = mm_init.find_zone_movable_pfns(
            memory,
            limits,
            options.core_pages(options.kernelcore, total),
            options.core_pages(options.movablecore, total),
        )
        nids = range(len(self.machine.nodes))
        for nid in nids:
            if nid not in self.node_data:
                block.alloc(self.profile.pglist_data_size, f"NODE_DATA({nid})")
        block.zone_limits, block.zone_movable_pfn = limits, movable
        block.node_ranges, block.zone_ranges = mm_init.setup_nodes(memory, nids, limits, movable)
        for node in block.node_ranges:
            zones = [zone for zone in block.zone_ranges if zone.nid == node.nid]
            deferred = mm_init.first_deferred_pfn(memory, node, zones)
            if deferred is not None:
                block.first_deferred_pfn[node.nid] = deferred
        block.nr_kernel_pages = sum(end - start for start, end, _ in block.memblock_free_ranges())

    # -- tables -------------------------------------------------------------------------------------------------

    def firmware_resources(self) -> None:
        """Small tables about the firmware's map. Linux: acpi_boot_init(), e820__reserve_resources()."""
        block = self.memblock
        block.alloc(self.hpet_resource, "HPET resource")
        block.alloc(self.io_apic_resource, "IO-APIC resource")
        block.alloc(self.e820_resource * len(block.e820), "e820 resources")
        for _ in block.e820_firmware:
            block.alloc(self.firmware_map, "firmware map entry")
        for _ in block.e820.nosave_regions(block.max_pfn):
            block.alloc(self.nosave_region, "nosave region")
        for _ in range(2):
            block.alloc(len(block.cmdline) + 1, "command line")

    def per_cpu(self) -> None:
        """The first per-CPU chunk, one unit a CPU, each group on its node. Linux: pcpu_embed_first_chunk()."""
        block, profile = self.memblock, self.profile
        used = percpu_unit_pages(profile) * PAGE_SIZE
        groups = [node.cpus for node in self.machine.nodes if node.cpus]
        unit = per_cpu_unit_bytes(profile, [len(cpus) for cpus in groups])
        upa = PMD_SIZE // unit
        nr_cpus = self.machine.nr_cpus
        scratch = [
            (block.alloc(PAGE_SIZE * pages, "per-CPU scratch", align=PAGE_SIZE), pages)
            for pages in (-(-(48 + 24 * len(groups) + 8 * nr_cpus) // PAGE_SIZE), 1)
        ]
        areas = []
        for nid, node in enumerate(self.machine.nodes):
            if node.cpus:
                nr_units = -(-len(node.cpus) // upa) * upa
                where = nid if nid in self.node_data else -1
                base = block.alloc(nr_units * unit, "per-CPU area", align=PMD_SIZE, nid=where, low=MAX_DMA_ADDRESS)
                areas.append((base, nr_units, len(node.cpus)))
        for base, nr_units, nr_used in areas:
            for number in range(nr_units):
                start = base + number * unit
                block.free(start + (used if number < nr_used else 0), start + unit)
        for size, why in percpu_tables(profile, unit, len(groups), nr_cpus):
            block.alloc(size, why)
        self.log_buffer(nr_cpus)
        for start, pages in scratch:
            block.free(start, start + pages * PAGE_SIZE)
        for _ in range(3 if len(groups) > 1 else 2):
            block.alloc(-(-nr_cpus // 64) * 8, "cpumask")

    def log_buffer(self, nr_cpus: int) -> None:
        """A larger log buffer for many CPUs or log_buf_len=, with a descriptor and an info for every 32 bytes of it.

        Linux: kernel/printk/printk.c, log_buf_add_cpu(), setup_log_buf().
        """
        static = 1 << self.profile.config_int("LOG_BUF_SHIFT")
        extra = (nr_cpus - 1) * LOG_CPU_BYTES
        size = 1 << (static + extra - 1).bit_length() if extra > static // 2 else 0
        if self.options.log_buf_len:
            size = 1 << (self.options.log_buf_len - 1).bit_length()
        if size > static:
            for part in (size, (size >> 5) * PRB_DESC_STRUCT, (size >> 5) * PRINTK_INFO_STRUCT):
                self.memblock.alloc(part, "log buffer")

    def gigantic_pages(self) -> None:
        """hugepagesz=1G hugepages=N, spread over the nodes. Linux: mm/hugetlb.c, alloc_bootmem_huge_page()."""
        block, size = self.memblock, PAGE_SIZE << self.profile.arch.hugetlb_orders[0]
        nids = sorted(self.node_data)
        for nid, count in self.options.gigantic_pages:
            for number in range(count):
                on = nids[number % len(nids)] if nid is None else nid
                start = block.alloc_or_none(size, "huge page", align=size, nid=on) if on in nids else None
                if start is None:
                    break
                pfn = start >> PAGE_SHIFT
                block.gigantic_pages.append(PfnRange(pfn, pfn + (size >> PAGE_SHIFT), block.pfn_to_nid(pfn)))

    def hash_tables(self) -> None:
        """Size all hash tables and take those that come from here. Linux: vfs_caches_init_early()."""
        block = self.memblock
        nr_cpus, nodes = self.machine.nr_cpus, len(self.node_data)
        block.hash_tables = system_hash_tables(self.profile, block.nr_kernel_pages, nr_cpus, nodes)
        for table in block.hash_tables:
            if table.early:
                block.alloc(table.size, f"{table.name} hash table")

    def core_init(self) -> None:
        """What trap_init() and mem_init() still take: CPU entry areas and bounce buffers."""
        block = self.memblock
        for _ in range(self.cpu_entry_area_tables()):
            block.alloc(PAGE_SIZE, "CPU entry area page tables", align=PAGE_SIZE)
        block.max_possible_pfn = self._max_possible_pfn()
        if block.max_possible_pfn > mm_init.MAX_DMA32_PFN and self.options.swiotlb != "noforce":
            block.alloc(IO_TLB_BYTES, "software IO TLB", align=PAGE_SIZE, high=e820.FOUR_GB)
            slots = IO_TLB_BYTES // IO_TLB_SLOT_BYTES
            block.alloc(slots * self.io_tlb_slot, "software IO TLB slots", align=PAGE_SIZE)
            block.alloc(self.io_tlb_area << (self.machine.nr_cpus - 1).bit_length(), "software IO TLB areas")

    def _max_possible_pfn(self) -> int:
        """The end of memory, or of what the firmware's SRAT announces. Linux: max_possible_pfn."""
        spans = e820.node_spans(self.machine) if self.machine.numa else []
        hotplug = e820.hotplug_span(self.machine)[1] if self.machine.maxmem else 0
        return max([self.memblock.max_pfn, hotplug >> PAGE_SHIFT, *(end >> PAGE_SHIFT for _, end, _ in spans)])

    def cpu_entry_area_tables(self) -> int:
        """Page tables of the CPU entry areas, which lie at random in 512 GB. Linux: setup_cpu_entry_areas()."""
        pmds, ptes = set(), set()
        for slot in self.rng.sample(range(CPU_ENTRY_AREA_SLOTS), self.machine.nr_cpus):
            first = PAGE_SIZE + slot * CPU_ENTRY_AREA_PAGES * PAGE_SIZE
            for address in (first, first + CPU_ENTRY_AREA_PAGES * PAGE_SIZE - 1):
                pmds.add(address // PUD_SIZE)
                ptes.add(address // PMD_SIZE)
        return 1 + len(pmds) + len(ptes)

    def resources(self) -> None:
        """Who claims which addresses. Linux: e820__reserve_resources()."""
        self.memblock.iomem = build_iomem(self.machine, self.profile, self.memblock, self.crash)

    def give_back(self) -> None:
        """What the kernel frees when it has booted, in that order. Linux: free_initmem(), free_initrd_mem()."""
        block, image = self.memblock, self.profile.image
        base = block.kernel_base
        for why, start, end in (
            (ALTERNATIVES, base + image.init_end, base + image.smp_locks_end),
            ("initrd", *self.initrd),
            ("decrypted", base + image.end - image.decrypted_unused, base + image.end),
            ("kernel image (initmem)", base + image.init_start, base + image.init_end),
            ("kernel image (text/rodata gap)", base + image.text_pages_end, base + image.rodata_start),
            ("kernel image (rodata/data gap)", base + image.rodata_end, base + image.data_start),
        ):
            if start < end:
                block.late_freed.append(Region(start, end, -1, why))
