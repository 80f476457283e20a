"""The engine: the buddy allocator against the same algorithm in C, page faults against the real kernel."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.measure import Row, Side, numbers, program, scratch


def buddy(rounds: int = 7, pages: int = 1 << 20) -> Iterator[Row]:
    """Order-0 bulk allocation, and freeing in random order with merging."""
    from mmfs import mm_types
    from mmfs.fastpath.buddy import Buddy
    from mmfs.mm.vmstat import VmStat

    allocator = Buddy.of_machine(2 * pages, VmStat(1), 1, 1)
    normal = mm_types.ZONE_NORMAL
    allocator.zones[normal]["end_pfn"] = allocator.zones[normal]["managed"] = 2 * pages
    allocator.zones[normal]["zid"] = normal
    allocator.zones[normal]["wmark_min"], allocator.zones[normal]["wmark_low"] = 4000, 5000
    allocator.zones[normal]["wmark_high"] = 6000
    allocator.zonelists[0, 0] = normal
    allocator.pcps[normal]["high_min"], allocator.pcps[normal]["high_max"], allocator.pcps[normal]["batch"] = (
        1000,
        8000,
        63,
    )
    movable = mm_types.MIGRATE_MOVABLE
    allocator.areas.init_zone_range(normal, 0, 2 * pages, movable, mm_types.BLK_RESERVED)
    allocator.areas.free_range(normal, 0, 2 * pages)

    order = np.random.default_rng(1).permutation(pages).astype(np.int64)
    order.tofile(scratch() / "permutation")
    pfns = np.zeros(pages, np.int64)
    weights = np.power(np.uint64(31), np.arange(pages - 1, -1, -1, dtype=np.uint64))
    samples: dict[str, list[float]] = {"alloc": [], "free": [], "c alloc": [], "c free": []}
    command = [str(program("buddy")), str(pages), str(scratch() / "permutation")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin and other.stdout
        for turn in range(rounds + 1):
            begin = time.process_time_ns()
            allocator.alloc_pages_bulk(pfns, movable, 0, mm_types.ZONE_MOVABLE, 1)
            allocated = time.process_time_ns()
            shuffled = pfns[order]
            freeing = time.process_time_ns()
            allocator.free_pages_bulk(shuffled)
            freed = time.process_time_ns()
            other.stdin.write("\n")
            other.stdin.flush()
            answer = [int(word) for word in other.stdout.readline().split()]
            free_blocks = allocator.areas.nr_free_counts.reshape(-1, 11, 5)[normal, :, movable]
            assert int((pfns.astype(np.uint64) * weights).sum()) == answer[2], "not the same frames as in C"
            assert free_blocks.tolist() == answer[3:], "not the same free lists as in C"
            if turn:
                for name, took in zip(samples, (allocated - begin, freed - freeing, *answer[:2]), strict=True):
                    samples[name].append(pages / took * 1000)
        other.stdin.close()
    for name, what in (("alloc", "order-0 allocation in bulk"), ("free", "free in random order, merging")):
        yield Row(
            f"buddy: {what}",
            "M pages/s",
            Side.of("mmfs", samples[name]),
            Side.of("same algorithm in C", samples[f"c {name}"]),
            least=0.7,
            notes=[
                "per second of CPU; per-CPU lists, watermarks, counters included; same frames and free lists as C",
                "a block that a batch takes whole is split page by page in C, as in Linux, and in mmfs not at all",
            ],
        )


def faults(rounds: int = 5, megabytes: int = 1024) -> Iterator[Row]:
    """First touches of anonymous memory, in order and page by page in random order; best of the passes."""
    import mmfs
    from mmfs.mm.mman import MADV_NOHUGEPAGE

    kernel = mmfs.boot(ram="8G", cpus=2, seed=1, preset="bare")
    task = kernel.spawn("toucher")
    size = megabytes << 20
    pages = np.random.default_rng(1).permutation(size // 4096).astype(np.int64) * 4096
    for order in ("in order", "in random order"):
        ours: list[float] = []
        for _ in range(rounds):
            addr = task.mmap(size)
            task.madvise(addr, size, MADV_NOHUGEPAGE)
            addresses = pages + addr
            begin = time.perf_counter()
            if order == "in order":
                task.touch(addr, size, write=True)
            else:
                task.touch(addresses, write=True)
            ours.append(size / 4096 / (time.perf_counter() - begin) / 1e6)
            task.munmap(addr, size)
        options = ["random"] if order != "in order" else []
        theirs = [
            size / 4096 / took * 1e3 for took in numbers(program("faults"), str(megabytes), str(rounds), *options)
        ]
        yield Row(
            f"anonymous page faults {order} (4 KB, huge pages off)",
            "M faults/s",
            Side("mmfs", max(ours), max(ours) - min(ours)),
            Side("the real kernel here", max(theirs), max(theirs) - min(theirs)),
            least=10,
            notes=["best of the passes; the spread is best to worst"],
        )
