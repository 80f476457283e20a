"""/proc/slabinfo: each slab cache, how many objects it holds and how many pages they take.

Linux: mm/slab_common.c, cache_show().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.slub import KmemCache

HEADER = (
    "slabinfo - version: 2.1\n"
    "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
    " : tunables <limit> <batchcount> <sharedfactor>"
    " : slabdata <active_slabs> <num_slabs> <sharedavail>\n"
)


@proc.attribute("slabinfo", mode=0o400)
def slabinfo(kernel: Kernel) -> str:
    """A row a cache, newest first."""
    return HEADER + "".join([cache_show(cache, *row) for cache, row in kernel.slab.slabinfo()])


def cache_show(cache: KmemCache, active_objs: int, num_objs: int, num_slabs: int) -> str:
    """One row; SLUB has no tunables and no shared objects, and counts every slab as active."""
    return (
        f"{cache.name:<17} {active_objs:6d} {num_objs:6d} {cache.size:6d} {cache.objs_per_slab:4d}"
        f" {1 << cache.order:4d} : tunables    0    0    0 : slabdata {num_slabs:6d} {num_slabs:6d}      0\n"
    )
