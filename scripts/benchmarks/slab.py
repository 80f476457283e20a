"""The slab: objects of one cache allocated and freed in random order, and /proc/slabinfo."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from benchmarks.measure import Row, Side


def slab(rounds: int = 7, objects: int = 1 << 20) -> Iterator[Row]:
    """A million objects come and go while as many stay; slabs are taken from and given back to the page allocator."""
    import mmfs

    kernel = mmfs.boot(ram="4G", cpus=1, preset="bare")
    fast, cache = kernel.slab.fast, kernel.slab["dentry"].index
    held = np.zeros(objects, np.int64)
    assert fast.alloc_bulk(cache, 0, False, held) == objects
    rng = np.random.default_rng(1)
    churn: list[float] = []
    for turn in range(rounds + 1):
        order = rng.permutation(objects)
        half = held[order[: objects // 2]].copy()
        begin = time.process_time_ns()
        freed = fast.free_bulk(half)
        taken = fast.alloc_bulk(cache, 0, False, half)
        took = time.process_time_ns() - begin
        assert freed == taken == objects // 2
        held[order[: objects // 2]] = half
        if turn:
            churn.append((freed + taken) / took * 1000)
    kernel.slab.check()
    yield Row(
        "slab: objects freed at random and allocated",
        "M objects/s",
        Side.of("mmfs", churn),
        least=5,
        notes=["dentries, half of a million at a time; lists of CPUs and nodes, pages and counters included"],
    )
    reading: list[float] = []
    for turn in range(rounds * 10 + 1):
        begin = time.process_time_ns()
        kernel.read("/proc/slabinfo")
        if turn:
            reading.append((time.process_time_ns() - begin) / 1e6)
    yield Row(
        "slab: /proc/slabinfo", "ms", Side.of("mmfs", reading), most=1, notes=[f"{len(kernel.slab)} caches, in-process"]
    )
