"""/sys/kernel/slab: each slab cache, what it is made of and what its lists hold.

A cache that others of its kind may be merged into has a directory named after its flags and size (`:A-0000064`), to
which the names of all that share it are links.

Linux: mm/slub.c, slab_attrs[], create_unique_id(), show_slab_objects().

Simplified: no cache is debugged, so none can be validated.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mmfs.fs.sys.root import DIRECTORY, kernel_dir
from mmfs.kernfs import Directory, Text, fail, kstrtouint, kstrtoul
from mmfs.mm.slub import KmemCache
from mmfs.profile import config, since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

slab = kernel_dir.directory("slab", mode=DIRECTORY)


def directories(kernel: Kernel) -> list[str]:
    """The name of each cache's directory."""
    return [cache.sysfs_name for cache in kernel.slab]


def find(kernel: Kernel, name: str) -> KmemCache | None:
    """The cache of a directory."""
    return next((cache for cache in kernel.slab if cache.sysfs_name == name), None)


def links(kernel: Kernel) -> list[str]:
    """The names of merged caches and of those that may be merged."""
    mergeable = [cache.name for cache in kernel.slab if cache.mergeable]
    return mergeable + [name for name, of in kernel.slab.aliases.items() if kernel.slab[of].mergeable]


def link_target(kernel: Kernel, name: str) -> KmemCache | None:
    """The cache that a name is a link to."""
    return kernel.slab[name] if name in links(kernel) else None


cache_dir: Directory[KmemCache] = slab.family(list=directories, lookup=find, mode=DIRECTORY)


@slab.symlinks(list=links, lookup=link_target)
def alias(cache: KmemCache) -> str:
    """To the directory of the cache that has the objects."""
    return cache.sysfs_name


def by_node(counts: Iterable[int]) -> str:
    """A sum, and what each node has of it. Linux: show_slab_objects()."""
    numbers = [int(count) for count in counts]
    parts = "".join(f" N{nid}={count}" for nid, count in enumerate(numbers) if count)
    return f"{sum(numbers)}{parts}\n"


def cpu_slabs(cache: KmemCache) -> str:
    """Slabs that CPUs work on or keep; since 7.0 Linux has none. Linux: show_slab_objects()."""
    if since(7, 0)(cache.owner):
        return by_node(())
    counts, slabs = [0] * len(cache.nodes), cache.owner.fast.slabs
    for cpu in cache.cpus:
        for first, nr in ((cpu["slab"], 1), (cpu["partial"], cpu["partial_slabs"])):
            if first:
                counts[int(slabs[int(first)]["nid"])] += int(nr)
    return by_node(counts)


def slabs_cpu_partial(cache: KmemCache) -> str:
    """Partial slabs that CPUs keep, and the objects if half of each were free. Linux: slabs_cpu_partial_show()."""

    def objects(slabs: int) -> str:
        return f"{slabs * cache.objs_per_slab // 2}({slabs})"

    kept = [int(nr) for nr in cache.cpus["partial_slabs"]]
    return objects(sum(kept)) + "".join(f" C{cpu}={objects(nr)}" for cpu, nr in enumerate(kept) if nr) + "\n"


def partial_objects(cache: KmemCache) -> list[int]:
    """The objects in use in the partial slabs of each node. Linux: count_partial(), count_inuse()."""
    fast = cache.owner.fast
    lists = (fast.partial(cache.index, nid) for nid in range(fast.nr_nodes))
    return [int(fast.slabs["inuse"][one].sum()) for one in lists]


READ_ONLY: dict[str, Callable[[KmemCache], Text]] = {
    "aliases": lambda cache: cache.nr_aliases,
    "align": lambda cache: cache.align,
    "cache_dma": lambda cache: int(cache.cache_dma),
    "cpu_slabs": cpu_slabs,
    "ctor": lambda cache: f"{cache.ctor}\n" if cache.ctor else "",
    "destroy_by_rcu": lambda cache: int(cache.destroy_by_rcu),
    "hwcache_align": lambda cache: int(cache.hwcache_align),
    "object_size": lambda cache: cache.object_size,
    "objects": lambda cache: by_node(cache.nodes["total_objects"] - cache.nodes["partial_free"]),
    "objects_partial": lambda cache: by_node(partial_objects(cache)),
    "objs_per_slab": lambda cache: cache.objs_per_slab,
    "order": lambda cache: cache.order,
    "partial": lambda cache: by_node(cache.nodes["nr_partial"]),
    "poison": lambda cache: 0,
    "reclaim_account": lambda cache: int(cache.reclaim_account),
    "red_zone": lambda cache: 0,
    "sanity_checks": lambda cache: 0,
    "slab_size": lambda cache: cache.size,
    "slabs": lambda cache: by_node(cache.nodes["nr_slabs"]),
    "slabs_cpu_partial": slabs_cpu_partial,
    "store_user": lambda cache: 0,
    "total_objects": lambda cache: by_node(cache.nodes["total_objects"]),
    "trace": lambda cache: 0,
    "usersize": lambda cache: cache.usersize,
}
for name, show in READ_ONLY.items():
    cache_dir.attributes(name, show, mode=0o400)


@cache_dir.attribute("min_partial", mode=0o600)
def min_partial(cache: KmemCache) -> int:
    """As many partial slabs a node keeps though they are empty."""
    return int(cache.record["min_partial"]) & (1 << 64) - 1


@min_partial.store
def min_partial_store(cache: KmemCache, buf: str) -> None:
    """Linux: min_partial_store()."""
    value = kstrtoul(buf, 10)
    cache.record["min_partial"] = min(value, (1 << 63) - 1)


@cache_dir.attribute("sheaf_capacity", mode=0o400, needs=since(7, 0))
def sheaf_capacity(cache: KmemCache) -> int:
    """Objects of the array that a CPU takes them from."""
    return cache.sheaf_capacity


@cache_dir.attribute("cpu_partial", mode=0o600)
def cpu_partial(cache: KmemCache) -> int:
    """Free objects that a CPU's list of partial slabs is meant to hold."""
    return cache.cpu_partial


@cpu_partial.store
def cpu_partial_store(cache: KmemCache, buf: str) -> None:
    """Linux: cpu_partial_store()."""
    objects = kstrtouint(buf, 10)
    if objects and not config("SLUB_CPU_PARTIAL")(cache.owner):
        fail(errno.EINVAL)
    cache.set_cpu_partial(objects)
    cache.flush_all()


@cache_dir.attribute("remote_node_defrag_ratio", mode=0o600, needs=config("NUMA"))
def remote_node_defrag_ratio(cache: KmemCache) -> int:
    """How often of a hundred times other nodes' partial slabs are used."""
    return int(cache.record["remote_node_defrag_ratio"]) // 10


@remote_node_defrag_ratio.store
def remote_node_defrag_ratio_store(cache: KmemCache, buf: str) -> None:
    """Linux: remote_node_defrag_ratio_store()."""
    ratio = kstrtouint(buf, 10)
    if ratio > 100:
        fail(errno.ERANGE)
    cache.record["remote_node_defrag_ratio"] = ratio * 10


@cache_dir.attribute("shrink", mode=0o600)
def shrink(cache: KmemCache) -> str:
    """A 1 gives the empty slabs back."""
    return ""


@shrink.store
def shrink_store(cache: KmemCache, buf: str) -> None:
    """Linux: shrink_store()."""
    if not buf.startswith("1"):
        fail(errno.EINVAL)
    cache.shrink()


@cache_dir.attribute("validate", mode=0o600)
def validate(cache: KmemCache) -> str:
    """Nothing to read."""
    return ""


@validate.store
def validate_store(cache: KmemCache, buf: str) -> None:
    """Linux: validate_store()."""
    fail(errno.EINVAL)


@cache_dir.attribute("skip_kfence", mode=0o600, needs=config("KFENCE"))
def skip_kfence(cache: KmemCache) -> int:
    """Whether KFENCE leaves its objects alone."""
    return int(cache.skip_kfence)


@skip_kfence.store
def skip_kfence_store(cache: KmemCache, buf: str) -> None:
    """Linux: skip_kfence_store()."""
    if buf[:1] not in ("0", "1"):
        fail(errno.EINVAL)
    cache.skip_kfence = buf[0] == "1"
