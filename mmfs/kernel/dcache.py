"""Names and inodes that are kept in memory though nobody uses them, and how they are given up.

A name that was looked up has a dentry, and its inode is in memory, each in an object of the slab. When nobody has the
file open any more the dentry waits on a list, is spared once if it was used since, and pins its inode. When it goes,
the inode waits on a list of its own, once no page of it is cached. The shrinker of the file system takes from both,
the more the higher vm.vfs_cache_pressure is.

Linux: fs/dcache.c, fs/inode.c, fs/super.c.

Simplified: names of tmpfs stay; directories have no dentries of their own; everything counts on the first node.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.inode import Inode

INODE_CACHES = {"ext4": "ext4_inode_cache", "tmpfs": "shmem_inode_cache", "proc": "proc_inode_cache"}


class Dcache:
    """Dentries and inodes in memory. `dentry_lru` tells which were used since they were put there."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.dentries: set[Inode] = set()
        self.dentry_lru: dict[Inode, bool] = {}
        self.inode_lru: dict[Inode, None] = {}
        self.with_pages: dict[Inode, None] = {}
        """Inodes without a dentry that wait until none of their pages is cached."""
        self.in_core: dict[Inode, str] = {}
        """Inodes in memory, and the slab cache that each is in."""

    # -- use ----------------------------------------------------------------------------------------------------------

    def iget(self, inode: Inode, fstype: str) -> None:
        """The inode is in memory. Linux: fs/inode.c, iget_locked()."""
        self.inode_lru.pop(inode, None)
        self.with_pages.pop(inode, None)
        if inode not in self.in_core:
            cache = INODE_CACHES.get(fstype, "shmem_inode_cache")
            self.kernel.slab.alloc(cache, 1)
            self.kernel.slab.alloc("lsm_inode_cache", 1)
            self.in_core[inode] = cache

    def d_alloc(self, inode: Inode) -> None:
        """A name is in memory. Linux: fs/dcache.c, d_alloc()."""
        if inode not in self.dentries:
            self.dentries.add(inode)
            self.kernel.slab.alloc("dentry", 1)

    def dput(self, inode: Inode) -> None:
        """Nobody uses the name just now. Linux: fs/dcache.c, retain_dentry()."""
        if inode.i_count or inode.shmem or inode not in self.dentries:
            return
        if inode in self.dentry_lru:
            self.dentry_lru[inode] = True
        else:
            self.dentry_lru[inode] = False

    def d_delete(self, inode: Inode) -> None:
        """The name is gone, and the inode goes when nobody has it open. Linux: fs/dcache.c, d_delete()."""
        self._free_dentry(inode)
        if not inode.i_count:
            self.evict(inode)

    def _free_dentry(self, inode: Inode) -> None:
        self.dentry_lru.pop(inode, None)
        if inode in self.dentries:
            self.dentries.remove(inode)
            self.kernel.slab.free("dentry", 1)

    def evict(self, inode: Inode) -> None:
        """The inode leaves memory. Linux: fs/inode.c, evict()."""
        self.inode_lru.pop(inode, None)
        self.with_pages.pop(inode, None)
        cache = self.in_core.pop(inode, None)
        if cache is not None:
            self.kernel.slab.free(cache, 1)
            self.kernel.slab.free("lsm_inode_cache", 1)

    # -- giving up -----------------------------------------------------------------------------------------------------

    def count_objects(self, nid: int) -> int:
        """What could go from a node. Linux: fs/super.c, super_cache_count()."""
        if nid != self._nid():
            return 0
        self._requeue()
        return (len(self.dentry_lru) + len(self.inode_lru)) * self.kernel.vm.vfs_cache_pressure // 100

    def scan_objects(self, nid: int, nr_to_scan: int) -> int:
        """Look at so many and give up those that were not used again; how many. Linux: super_cache_scan()."""
        if nid != self._nid():
            return 0
        dentries, inodes = len(self.dentry_lru), len(self.inode_lru)
        total = dentries + inodes + 1
        freed = self.prune_dcache(nr_to_scan * dentries // total + 1)
        return freed + self.prune_icache(nr_to_scan * inodes // total + 1)

    def _nid(self) -> int:
        for pgdat in self.kernel.node_data:
            if pgdat.node_present_pages:
                return pgdat.node_id
        raise AssertionError("no node has memory")

    def prune_dcache(self, nr_to_scan: int) -> int:
        """Linux: fs/dcache.c, prune_dcache_sb()."""
        freed = 0
        for inode in list(islice(self.dentry_lru, nr_to_scan)):
            if inode.i_count:
                del self.dentry_lru[inode]
            elif self.dentry_lru.pop(inode):
                self.dentry_lru[inode] = False
            else:
                self._free_dentry(inode)
                self.with_pages[inode] = None
                freed += 1
        self._requeue()
        return freed

    def _requeue(self) -> None:
        """Inodes whose last page has gone may go too. Linux: fs/inode.c, inode_add_lru(); mapping_shrinkable()."""
        if not self.with_pages:
            return
        for inode in [inode for inode in self.with_pages if not inode.mapping.nrpages]:
            del self.with_pages[inode]
            if inode in self.in_core and inode not in self.dentries and not inode.i_count:
                self.inode_lru[inode] = None

    def prune_icache(self, nr_to_scan: int) -> int:
        """Linux: fs/inode.c, prune_icache_sb(), inode_lru_isolate()."""
        freed = 0
        for inode in list(islice(self.inode_lru, nr_to_scan)):
            if inode.i_count or inode.mapping.nrpages:
                del self.inode_lru[inode]
                self.with_pages[inode] = None
            else:
                self.evict(inode)
                freed += 1
        return freed
