"""/sys/kernel/mm/lru_gen: which kind of LRU lists rules, and how long a working set is kept at any price.

Linux: mm/vmscan.c, lru_gen_attrs[]; Documentation/admin-guide/mm/multigen_lru.rst.
"""

from __future__ import annotations

from mmfs.fs.sys.root import DIRECTORY, mm
from mmfs.kernel.clock import HZ
from mmfs.kernfs import Directory, kstrtouint
from mmfs.mm.lru_gen import ALL_CAPS, LruGenState

_MSEC_PER_JIFFY = 1000 // HZ

lru_gen: Directory[LruGenState] = Directory(mode=DIRECTORY)
mm.mount("lru_gen", lru_gen, obj=lambda kernel: kernel.lru_gen)


@lru_gen.attribute("enabled")
def enabled(state: LruGenState) -> str:
    """The parts that are switched on, as bits."""
    return f"0x{state.caps:04x}\n"


@enabled.store
def enabled_store(state: LruGenState, buf: str) -> None:
    """`y`, `n`, or a number of bits. Linux: enabled_store()."""
    first = buf[:1].lower()
    state.set_caps(ALL_CAPS if first == "y" else 0 if first == "n" else kstrtouint(buf, 0))


@lru_gen.attribute("min_ttl_ms")
def min_ttl_ms(state: LruGenState) -> int:
    """What was used in so many ms is not evicted: the OOM killer comes first."""
    return state.min_ttl_jiffies * _MSEC_PER_JIFFY


@min_ttl_ms.store
def min_ttl_ms_store(state: LruGenState, buf: str) -> None:
    """Linux: min_ttl_ms_store()."""
    state.min_ttl_jiffies = -(-kstrtouint(buf, 0) // _MSEC_PER_JIFFY)
