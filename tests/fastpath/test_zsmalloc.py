"""zsmalloc: how many pages objects take, as a real kernel, and that nothing is lost as they come, go and are moved."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from mmfs.fastpath.zsmalloc import ZsPool
from mmfs.mm.check_swap import check_pool
from mmfs.mm_types import ZoneStatItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

pytestmark = pytest.mark.machine(ram="128M", preset="bare")

# What mm_stat of a real 6.12 says a thousand pages take that compress to so many bytes each: bytes, pages.
REAL = (
    (34, 12), (47, 16), (67, 20), (128, 42), (329, 88), (1032, 264), (1533, 384), (2134, 536), (2834, 700), (3335, 835),
    (4096, 1000),
)  # fmt: skip


def pool_of(kernel: Kernel) -> ZsPool:
    return ZsPool(kernel.page_alloc.buddy, kernel.vmstat, 5000)


@pytest.mark.parametrize(("size", "pages"), REAL)
def test_as_many_pages_as_a_real_kernel(kernel: Kernel, size: int, pages: int) -> None:
    pool = pool_of(kernel)
    free = kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_FREE_PAGES)
    assert all(pool.malloc(key, size, 0) for key in range(1, 1001))
    assert (pool.pages_allocated, pool.nr_objects, pool.bytes_stored) == (pages, 1000, 1000 * size)
    assert kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_ZSPAGES) == pages
    check_pool("pool", pool)
    for key in range(1, 1001):
        pool.free(key)
    assert (pool.pages_allocated, pool.nr_objects, pool.bytes_stored) == (0, 0, 0)
    assert kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_ZSPAGES) == 0
    kernel.page_alloc.drain_all_pages()
    assert kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_FREE_PAGES) >= free
    kernel.check()


def test_compaction_moves_objects_together(kernel: Kernel) -> None:
    """Three of four objects go; the rest fits a quarter of the pages, once it is moved."""
    pool = pool_of(kernel)
    for key in range(1, 2001):
        assert pool.malloc(key, 1000, 0)
    before = int(pool.pages_allocated)
    for key in range(1, 2001):
        if key % 4:
            pool.free(key)
    assert pool.pages_allocated == before, "each group has kept some"
    promised = int(pool.compactable())
    freed = int(pool.compact())
    assert freed == promised == before - int(pool.pages_allocated)
    assert freed >= before * 7 // 10 and pool.compactable() == 0
    assert pool.pages_compacted == freed
    assert sorted(check_pool("pool", pool)) == list(range(4, 2001, 4))
    for key in range(4, 2001, 4):
        pool.free(key)


@pytest.mark.parametrize("seed", range(3))
def test_at_random(kernel: Kernel, seed: int) -> None:
    pool, rng, kept = pool_of(kernel), random.Random(seed), {}
    for step in range(4000):
        key = rng.randrange(1, 1000)
        if key in kept:
            pool.free(key)
            del kept[key]
        else:
            kept[key] = rng.choice((20, 40, 333, 700, 1500, 2500, 4000, 4096))
            assert pool.malloc(key, kept[key], 0)
        if step % 500 == 0:
            pool.compact()
            assert sorted(check_pool("pool", pool)) == sorted(kept)
            assert {key: int(pool.entries["length"][key]) for key in kept} == kept
    for key in kept:
        pool.free(key)
    assert pool.pages_allocated == 0


def test_no_memory(kernel: Kernel) -> None:
    """The last group that cannot be had leaves nothing behind."""
    pool = ZsPool(kernel.page_alloc.buddy, kernel.vmstat, 1 << 16)
    key = 1
    while pool.malloc(key, 1032, 0):
        key += 1
    assert pool.nr_objects == key - 1
    assert kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_ZSPAGES) == pool.pages_allocated
    for one in range(1, key):
        pool.free(one)
    kernel.check()
