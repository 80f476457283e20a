"""What the kernel's own start takes from the page allocator besides slabs: hash tables, BPF, DMA pools, requests.

Sizes follow from the machine where Linux computes them (hash tables, per-CPU chunks, the queues of disks), and are
those of Debian's kernel where they are constants.

Linux: mm/mm_init.c, alloc_large_system_hash(); mm/percpu.c, pcpu_create_chunk(); kernel/bpf/core.c,
bpf_prog_pack_alloc(); kernel/dma/pool.c, dma_atomic_pool_init(); kernel/trace/ftrace.c, ftrace_allocate_records();
fs/iomap/direct-io.c, iomap_dio_init(); block/blk-mq.c, blk_mq_alloc_rqs(); drivers/virtio/virtio_ring.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from mmfs.mm.percpu import per_cpu_unit_bytes
from mmfs.mm_types import (
    GFP_DMA32_BIT,
    GFP_DMA_BIT,
    GFP_KERNEL,
    GFP_NOWARN_BIT,
    GFP_THISNODE_BIT,
    HPAGE_PMD_ORDER,
    HPAGE_PMD_SIZE,
    MAX_PAGE_ORDER,
    PAGE_SHIFT,
    PAGE_SIZE,
)
from mmfs.profile import config

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

SMALL_AREAS: Final = (1, 1, 1, 1, 4, 3, 1)
"""Descriptor pools, the idle task's stack, a terminal's buffers, a BPF program."""
SMALL_AREAS_32: Final = (1, 1, 3)
COMPRESSOR_AREAS: Final = (32, 32)
"""Each CPU's buffers of compressors that work on one page. Linux: crypto/scompress.c."""
BOUNCE_POOL: Final = 64
"""Pages in which data of high memory is copied for devices that cannot reach it. Linux: block/bounce.c."""
X86, LONG_64, COHERENT_POOL = config("X86"), config("64BIT"), config("DMA_COHERENT_POOL")
PERCPU_MIN_ALLOC: Final = 4
PERCPU_BLOCK: Final = 32
DMA_POOL_LEAST: Final = (128 << 10) >> PAGE_SHIFT
DMA_POOL_SHARE: Final = 8192
"""A pool has 128 KB for every gigabyte."""
FTRACE_BYTES, FTRACE_BYTES_32, FTRACE_BYTES_ARM64 = 180 << 12, 73 << 12, 27_513 << 4
"""A record of 16 bytes for each function that can be traced."""
DIO_ZERO_ORDER: Final = 16 - PAGE_SHIFT
"""The zeros that direct I/O pads blocks with: 64 KB."""
REQUESTS_BYTES: Final = 128 << 10
REQUESTS_ORDER: Final = min(4, 17 - PAGE_SHIFT)
REQUESTS_BLOCKS: Final = REQUESTS_BYTES >> PAGE_SHIFT + REQUESTS_ORDER
"""The 256 requests of one queue of a virtio disk, each with what the driver keeps of it, in blocks of 16 pages."""
VRING_BYTES: Final = 3 << 12
"""A virtio queue of 256 descriptors."""


def pages_of(size: int) -> int:
    """Whole pages of a number of bytes."""
    return -(-size // PAGE_SIZE)


def percpu_chunk_areas(unit_bytes: int, long: int) -> Iterator[int]:
    """Pages of the tables about one per-CPU chunk that come from vmalloc. Linux: mm/percpu.c, pcpu_alloc_chunk()."""
    bits = unit_bytes // PERCPU_MIN_ALLOC
    tables = (bits * long, bits // 8 + long, bits // 8, unit_bytes // PAGE_SIZE * PERCPU_BLOCK)
    return (pages_of(size) for size in tables if size > PAGE_SIZE)


def ftrace_bytes(kernel: Kernel) -> int:
    """What the records of the kernel's functions take. Linux: kernel/trace/ftrace.c, ftrace_allocate_records()."""
    if not X86(kernel):
        return FTRACE_BYTES_ARM64
    return FTRACE_BYTES if LONG_64(kernel) else FTRACE_BYTES_32


def boot_areas(kernel: Kernel) -> None:
    """Take it all. Linux: init/main.c, do_basic_setup()."""
    hash_tables(kernel)
    nodes = kernel.machine.nodes
    unit = per_cpu_unit_bytes(kernel.profile, [len(node.cpus) for node in nodes if node.cpus])
    long = kernel.profile.arch.bits_per_long // 8
    areas = SMALL_AREAS if LONG_64(kernel) else (*SMALL_AREAS_32, *COMPRESSOR_AREAS * kernel.machine.nr_cpus)
    for pages in (*percpu_chunk_areas(unit, long), *areas):
        kernel.vmalloc.alloc(pages, 0)
    if X86(kernel) and LONG_64(kernel):
        kernel.vmalloc.alloc_huge(len(nodes) * HPAGE_PMD_SIZE >> PAGE_SHIFT, 0)
    if COHERENT_POOL(kernel):
        dma_pools(kernel)
    linear_pages(kernel, pages_of(ftrace_bytes(kernel)))
    for _ in range(BOUNCE_POOL if kernel.page_alloc.totalhigh_pages() else 0):
        kernel.page_alloc.alloc_pages(GFP_KERNEL, 0, 0)
    kernel.page_alloc.alloc_pages(GFP_KERNEL, DIO_ZERO_ORDER, 0)
    for _ in kernel.block_devices:
        disk_queues(kernel)


def dma_pool_bytes(totalram_pages: int) -> int:
    """Bytes of a pool: 128 KB at least, and for each gigabyte. Linux: dma_atomic_pool_init()."""
    pages = max(totalram_pages // DMA_POOL_SHARE, DMA_POOL_LEAST)
    return PAGE_SIZE << min((pages - 1).bit_length(), MAX_PAGE_ORDER)


def dma_pools(kernel: Kernel) -> None:
    """Memory for devices when nothing may sleep, in each zone that devices can need. Linux: dma_atomic_pool_init()."""
    order = (dma_pool_bytes(kernel.totalram_pages()) >> PAGE_SHIFT).bit_length() - 1
    for zone in (0, GFP_DMA_BIT, GFP_DMA32_BIT):
        fit = order
        while kernel.page_alloc.alloc_pages(GFP_KERNEL | GFP_NOWARN_BIT | zone, fit, 0) < 0 and fit:
            fit -= 1


def disk_queues(kernel: Kernel) -> None:
    """Requests and rings of one virtio disk, which has a queue for each CPU.

    A disk of a single queue has an I/O scheduler, with requests of its own. Linux: block/blk-mq-sched.c.
    """
    queues = kernel.machine.nr_cpus
    for _ in range(max(queues, 2) * REQUESTS_BLOCKS):
        kernel.page_alloc.alloc_pages(GFP_KERNEL, REQUESTS_ORDER, 0)
    for _ in range(queues):
        linear_pages(kernel, pages_of(VRING_BYTES))


def hash_tables(kernel: Kernel) -> None:
    """Those that are not made from boot memory; on a NUMA machine every node carries a share."""
    nodes = [pgdat.node_id for pgdat in kernel.node_data if pgdat.node_present_pages]
    turn = 0
    for table in kernel.memblock.hash_tables:
        pages = pages_of(table.size)
        if table.early:
            continue
        if table.where == "linear":
            linear_pages(kernel, pages)
        elif table.where == "vmalloc":
            for place, nid in enumerate(nodes):
                kernel.vmalloc.alloc((pages + len(nodes) - 1 - place) // len(nodes), nid)
        else:
            for _ in range(pages >> HPAGE_PMD_ORDER):
                kernel.vmalloc.alloc_huge(1 << HPAGE_PMD_ORDER, nodes[turn % len(nodes)])
                turn += 1


def linear_pages(kernel: Kernel, pages: int) -> None:
    """A contiguous run that need not be a power of two. Linux: mm/page_alloc.c, alloc_pages_exact()."""
    while pages:
        order = min(pages.bit_length() - 1, MAX_PAGE_ORDER)
        kernel.page_alloc.alloc_pages(GFP_KERNEL | GFP_THISNODE_BIT, order, 0)
        pages -= 1 << order
