"""zswap: its parameters, the worker that writes pages back, and what its compressors do.

The pages are the fast path's (fastpath/zswap.py, fastpath/zswap_writeback.py).

Linux: mm/zswap.c.

Simplified: zsmalloc is the only allocator, a pool that is called zbud keeps pages as it does; slab objects for entries
are not charged.
"""

from __future__ import annotations

from errno import ENOENT
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from mmfs.mm.shrinker import DEFAULT_SEEKS, SHRINK_BATCH, Shrinker
from mmfs.mm_types import ALLOC_KSWAPD, ALLOC_NO_WATERMARKS, VmEventItem
from mmfs.profile import Needs, since, until

if TYPE_CHECKING:
    from mmfs.fastpath.contents import Contents
    from mmfs.fastpath.zsmalloc import ZsPool
    from mmfs.kernel.clock import Timer
    from mmfs.kernel.kernel import Kernel

LONG_MAX: Final = (1 << 63) - 1
LOG_ERR: Final = 3
LOG_INFO: Final = 6
WRITEBACK_SLICE: Final = 256
"""Pages that the worker writes back before others get their turn."""
CONTENT_KINDS: Final = ("anon", "shmem")
"""The kinds of pages whose contents are told apart, in the order of `Contents.table`."""
CONTENT_TERMS: Final = ("mean", "spread", "incompressible", "same", "zero")


class Compressor(NamedTuple):
    """What a compressor makes of pages of programs: thousandths of lz4's size; ns of a server's core for a page.

    Measured with scripts/benchmarks/compressors.py; lzo-rle is taken for lzo.
    """

    factor: int
    compress_ns: int
    decompress_ns: int


COMPRESSORS: Final = {
    "lzo": Compressor(880, 6_900, 3_800),
    "lzo-rle": Compressor(880, 6_900, 3_800),
    "lz4": Compressor(1000, 9_400, 5_400),
    "lz4hc": Compressor(740, 106_000, 3_000),
    "zstd": Compressor(400, 18_200, 8_900),
    "deflate": Compressor(400, 100_000, 13_400),
}


def set_default_contents(contents: Contents) -> None:
    """Pages as a Python program's heap and data compress, the zero pages aside."""
    contents.table[:] = (250, 200, 20, 0, 0)


def compactable(pool: ZsPool, nid: int) -> int:
    """Pages that moving objects together would free; a pool is of no node. Linux: zs_shrinker_count()."""
    return 0 if nid else int(pool.compactable())


def compact(pool: ZsPool, nid: int, nr_to_scan: int) -> int:
    """Move objects together; how many pages that freed. Linux: zs_shrinker_scan()."""
    return int(pool.compact())


def pool_shrinker(name: str, pool: ZsPool) -> Shrinker:
    """What reclaim asks of a pool. Linux: mm/zsmalloc.c, zs_register_shrinker()."""
    return Shrinker(f"mm-zspool:{name}", partial(compactable, pool), partial(compact, pool))


ZPOOLS: Final[dict[str, Needs | None]] = {"zsmalloc": None, "zbud": until(6, 12)}
"""The allocators of pools that there are."""
HAS_ZPOOL: Final = until(6, 18)
"""Kernels in which the allocator can be chosen; later ones have zsmalloc only."""
COMPRESSOR_DEFAULT: Final = "lzo"
AT_BOOT: Final = until(6, 12)
"""Kernels that set it up whether it is wanted or not."""
ZPOOL_DEFAULT: Final = (("zsmalloc", since(6, 12)), ("zbud", until(6, 12)))


class Zswap:
    """The module's parameters. Pages are compressed from when `enabled` is set first."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.loops = kernel.mmu.swap.slots.zswap
        self.max_pool_percent = 20
        self.accept_threshold_percent = 90
        self.shrinker_enabled = False
        self.non_same_filled_pages_enabled = True
        self.compressor = COMPRESSOR_DEFAULT
        self.zpool = self.default_zpool
        self.loops.zeromap = self.loops.exclusive = since(6, 12)(kernel)
        self._timer: Timer | None = None
        self._swapins = 0
        set_default_contents(self.loops.contents)
        self._use_compressor(COMPRESSOR_DEFAULT)

    def setup(self) -> None:
        """Older kernels do it at boot, newer ones when somebody enables it.

        Linux: zswap_setup(), zswap_alloc_shrinker(), zs_register_shrinker().
        """
        self._fall_back()
        self.loops.ever_enabled = True
        shrinkers = self.kernel.reclaim.shrinkers
        shrinkers.register(
            Shrinker("mm-zswap", self.shrinker_count, self.shrinker_scan, DEFAULT_SEEKS, SHRINK_BATCH)
        )
        shrinkers.register(pool_shrinker("zswap1", self.loops.pool))
        pool = f"{self.compressor}/{self.zpool}" if HAS_ZPOOL(self.kernel) else self.compressor
        self.kernel.printk.emit(f"zswap: loaded using pool {pool}", LOG_INFO)

    def _fall_back(self) -> None:
        """Names that were set before anybody looked at them may be wrong. Linux: __zswap_pool_create_fallback()."""
        for what, name, default, exists in (
            ("compressor", self.compressor, COMPRESSOR_DEFAULT, self.compressor in COMPRESSORS),
            ("zpool", self.zpool, self.default_zpool, self._has_zpool(self.zpool)),
        ):
            if not exists:
                text = f"zswap: {what} {name} not available, using default {default}"
                self.kernel.printk.emit(text, LOG_ERR)
                setattr(self, what, default)
        self._use_compressor(self.compressor)

    # -- parameters ------------------------------------------------------------------------------------------------

    @property
    def default_zpool(self) -> str:
        """The allocator that this kernel was built to use."""
        return next(name for name, needs in ZPOOL_DEFAULT if needs(self.kernel))

    def _has_zpool(self, name: str) -> bool:
        """Linux: mm/zpool.c, zpool_has_pool()."""
        needs = ZPOOLS.get(name)
        return name in ZPOOLS and (needs is None or needs(self.kernel))

    @property
    def nr_stored(self) -> int:
        """Pages in the pool, those of one word all over included. Linux: zswap_stored_pages."""
        return int(self.loops.pool.nr_objects) + self.nr_same_filled

    @property
    def nr_same_filled(self) -> int:
        """Pages of one word all over, which take no memory of the pool. Linux: zswap_same_filled_pages."""
        return 0 if self.loops.zeromap else int(self.loops.nr_zero)

    @property
    def same_filled_pages_enabled(self) -> bool:
        """Whether pages of one word all over are told apart."""
        return bool(self.loops.same_filled)

    @same_filled_pages_enabled.setter
    def same_filled_pages_enabled(self, enabled: bool) -> None:
        self.loops.same_filled = enabled

    @property
    def enabled(self) -> bool:
        """Whether pages are compressed now."""
        return bool(self.loops.enabled)

    def set_enabled(self, enabled: bool) -> None:
        """Linux: zswap_enabled_param_set()."""
        if enabled and not self.loops.ever_enabled:
            self.setup()
        self.loops.enabled = enabled
        self.update()

    def set_compressor(self, name: str) -> None:
        """ENOENT if there is none of that name, once it is set up. Linux: zswap_compressor_param_set()."""
        if self.loops.ever_enabled:
            if name not in COMPRESSORS:
                self.kernel.printk.emit(f"zswap: compressor {name} not available", LOG_ERR)
                raise OSError(ENOENT, f"no compressor {name}")
            self._use_compressor(name)
        self.compressor = name

    def _use_compressor(self, name: str) -> None:
        self.loops.factor, self.loops.compress_ns, self.loops.decompress_ns = COMPRESSORS[name]

    def set_zpool(self, name: str) -> None:
        """ENOENT if there is none of that name, once it is set up. Linux: zswap_zpool_param_set()."""
        if self.loops.ever_enabled and not self._has_zpool(name):
            self.kernel.printk.emit(f"zswap: zpool {name} not available", LOG_ERR)
            raise OSError(ENOENT, f"no zpool {name}")
        self.zpool = name

    def update(self) -> None:
        """Set the limits of the pool. Linux: zswap_max_pages(), zswap_accept_thr_pages()."""
        most = self.kernel.totalram_pages() * self.max_pool_percent // 100
        self.loops.max_pages = min(most, LONG_MAX)
        self.loops.accept_pages = min(most * self.accept_threshold_percent // 100, LONG_MAX)

    # -- writing back ----------------------------------------------------------------------------------------------

    def queue_work(self) -> None:
        """The pool is full: have the worker write back. Linux: queue_work(shrink_wq, &zswap_shrink_work)."""
        self.loops.want_shrink = False
        if self._timer is None:
            self._timer = self.kernel.clock.add_timer(self.kernel.clock.now_ns, self.shrink_worker)

    def shrink_worker(self) -> None:
        """Write back until the pool takes pages again. Linux: shrink_worker()."""
        self._timer = None
        kernel = self.kernel
        kernel.mmu.swap_state.begin(kernel.clock.now_ns)
        done = kernel.mmu.zswap_writeback.shrink_zswap(len(kernel.node_data), WRITEBACK_SLICE)
        kernel.run_worker("kworker", self.loops.contents.take_ns())
        kernel.swap_writes.write_unplug()
        if not done:
            wait_ns = kernel.swap_writes.write_throttle_ns(kernel.clock.now_ns)
            self._timer = kernel.clock.add_timer(kernel.clock.now_ns + max(wait_ns, 1), self.shrink_worker)

    def shrinker_count(self, nid: int) -> int:
        """How many pages the shrinker may write back. Linux: zswap_shrinker_count().

        Simplified: pages read from disks lately are counted for all nodes together.
        """
        if not self.shrinker_enabled or not self.loops.pool.nr_objects:
            return 0
        swapins = int(self.kernel.vmstat.event[VmEventItem.PSWPIN])
        freeable = int(self.loops.nr_on_lru(nid)) - (swapins - self._swapins)
        self._swapins = swapins
        return max(freeable, 0) * int(self.loops.pool.pages_allocated) // int(self.loops.pool.nr_objects)

    def shrinker_scan(self, nid: int, nr_to_scan: int) -> int:
        """Write back the oldest of a node's. Linux: zswap_shrinker_scan()."""
        kernel = self.kernel
        mmu, walker = kernel.mmu, kernel.mmu.walker
        mmu.swap_state.begin(kernel.clock.now_ns)
        flags, walker.alloc_flags = walker.alloc_flags, ALLOC_NO_WATERMARKS | ALLOC_KSWAPD
        try:
            return int(mmu.zswap_writeback.shrink_zswap_node(nid, nr_to_scan))
        finally:
            walker.alloc_flags = flags
            kernel.swap_writes.write_unplug()


def parse_contents(contents: Contents, text: str) -> None:
    """`KIND TERM=THOUSANDTHS...`: what pages hold from now on. Raises ValueError."""
    kind, *terms = text.split()
    if kind not in CONTENT_KINDS:
        raise ValueError(f"no kind of pages {kind!r}: {', '.join(CONTENT_KINDS)}")
    row = contents.table[CONTENT_KINDS.index(kind)].copy()
    for term in terms:
        name, _, value = term.partition("=")
        if name not in CONTENT_TERMS or not value.isascii() or not value.isdecimal() or int(value) > 1000:
            raise ValueError(f"{term!r} is not one of {'=, '.join(CONTENT_TERMS)}= with up to 1000 thousandths")
        row[CONTENT_TERMS.index(name)] = int(value)
    if row[2:].sum() > 1000:
        raise ValueError("more than all pages")
    contents.table[CONTENT_KINDS.index(kind)] = row
