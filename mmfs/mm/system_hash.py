"""The system hash tables that a kernel makes while it boots, in order, sized by the memory it has.

Two of them come from the boot allocator, unless the machine has several nodes: then all are spread over the
nodes by vmalloc, so that no node carries them alone.

Linux: mm/mm_init.c, alloc_large_system_hash() and its callers in fs/, kernel/ and net/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mmfs.mm_types import HPAGE_PMD_SIZE, MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE
from mmfs.profile import Needs, config, since, until

if TYPE_CHECKING:
    from mmfs.profile import Profile



class HashSize(NamedTuple):
    """Entries and bytes of a system hash table."""

    entries: int
    size: int

    @property
    def order(self) -> int:
        """Order of an allocation that holds it."""
        return max(-(-self.size // PAGE_SIZE) - 1, 0).bit_length()


def large_system_hash(
    bucket_size: int, nr_pages: int, scale: int, *, entries: int = 0, low_limit: int = 0, high_limit: int = 0
) -> HashSize:
    """Size of a hash table with one bucket per 2**scale bytes of memory (or that many entries).

    From 64 GB on, the scale grows with the memory, unless the table has a limit of its own.

    Linux: mm/mm_init.c, alloc_large_system_hash().
    """
    if not entries:
        entries = -(-nr_pages // 256) * 256
        if not high_limit:
            adapt = (64 << 30) >> PAGE_SHIFT
            while adapt < entries:
                scale += 1
                adapt <<= 2
        entries = entries >> (scale - PAGE_SHIFT) if scale > PAGE_SHIFT else entries << (PAGE_SHIFT - scale)
        if entries * bucket_size < PAGE_SIZE:
            entries = PAGE_SIZE // bucket_size
    entries = 1 << (entries - 1).bit_length() if entries > 1 else 1
    limit = min(high_limit or (nr_pages << PAGE_SHIFT >> 4) // bucket_size, 0x80000000)
    entries = min(max(entries, low_limit), limit)
    entries = 1 << (entries.bit_length() - 1)
    return HashSize(entries, entries * bucket_size)


class HashTable(NamedTuple):
    """A hash table as the boot log reports it."""

    name: str
    entries: int
    order: int
    size: int
    where: str  # linear, vmalloc or "vmalloc hugepage"
    early: bool  # taken from memblock, before the buddy allocator


class _Spec(NamedTuple):
    name: str
    bucket_size: int
    """Bytes with 64 bits."""
    scale: int
    low_limit: int = 0
    high_limit: int = 0
    entries: int = 0
    like: str = ""  # as many entries as that table
    early: bool = False
    bucket_size_32: int = 0
    """Bytes with 32 bits, if not the same."""
    needs: Needs | None = None


_SPECS = (
    _Spec("Dentry cache", 8, 13, low_limit=2, early=True, bucket_size_32=4),
    _Spec("Inode-cache", 8, 14, early=True, bucket_size_32=4),
    _Spec("Mount-cache", 8, 19, bucket_size_32=4),
    _Spec("Mountpoint-cache", 8, 19, bucket_size_32=4),
    _Spec("posixtimers", 16, 0, needs=since(7, 0)),
    _Spec("futex", 64, 0),
    _Spec("IP idents", 8, 16, low_limit=2048, high_limit=256 * 1024),
    _Spec("tcp_listen_portaddr_hash", 16, 21, high_limit=64 * 1024, bucket_size_32=8),
    _Spec("Table-perturb", 4, 0, entries=65536, low_limit=65536, high_limit=65536),
    _Spec("TCP established", 8, 17, high_limit=512 * 1024, bucket_size_32=4),
    _Spec("TCP bind", 32, 17, high_limit=64 * 1024, like="TCP established", bucket_size_32=16),
    _Spec("MPTCP token", 24, 20, high_limit=64 * 1024, bucket_size_32=16, needs=config("MPTCP")),
    _Spec("UDP", 32, 21, low_limit=256, high_limit=64 * 1024, needs=until(7, 0)),
    _Spec("UDP-Lite", 32, 21, low_limit=256, high_limit=64 * 1024, needs=until(7, 0)),
    _Spec("UDP", 64, 21, low_limit=256, high_limit=64 * 1024, needs=since(7, 0)),
    _Spec("UDP-Lite", 64, 21, low_limit=256, high_limit=64 * 1024, needs=since(7, 0)),
)
PER_CPU = {"posixtimers": 512, "futex": 256}
"""Entries a CPU, of tables that do not follow memory."""


def system_hash_tables(profile: Profile, nr_pages: int, nr_cpus: int, nr_memory_nodes: int) -> list[HashTable]:
    """Every table of a machine; nr_pages is what was free when the zones were cut.

    Linux: vfs_caches_init_early(), vfs_caches_init(), futex_init(), inet_init().
    """
    tables: dict[str, HashTable] = {}
    for spec in _SPECS:
        if spec.needs is not None and not spec.needs(profile):
            continue
        entries = tables[spec.like].entries if spec.like else spec.entries
        low, high = spec.low_limit, spec.high_limit
        if spec.name in PER_CPU:
            entries = low = high = 1 << (PER_CPU[spec.name] * nr_cpus - 1).bit_length()
        size = spec.bucket_size if profile.config("64BIT") else spec.bucket_size_32 or spec.bucket_size
        table = large_system_hash(
            size, nr_pages, spec.scale, entries=entries, low_limit=low, high_limit=high
        )
        early = spec.early and nr_memory_nodes == 1
        where = "linear"
        if not early and (table.order > MAX_PAGE_ORDER or nr_memory_nodes > 1):
            where = "vmalloc hugepage" if table.size // nr_memory_nodes >= HPAGE_PMD_SIZE else "vmalloc"
        tables[spec.name] = HashTable(spec.name, table.entries, table.order, table.size, where, early)
    return list(tables.values())
