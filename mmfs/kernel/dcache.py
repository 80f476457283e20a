"""Names and inodes that are kept in memory though nobody uses them, and how they are given up.

A name that was looked up has a dentry, and its inode is in memory, each in an object of the slab. When nobody has the
file open any more the dentry waits on a list, is spared once if it was used since, and pins its inode. When it goes,
the inode waits on a list of its own, once no page of it is cached. The shrinker of the file system takes from both,
the more the higher vm.vfs_cache_pressure is.

Linux: fs/dcache.c, fs/inode.c, fs/super.c.

Simplified: names of tmpfs stay; directories have no dentries of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.mm.list_lru import ListLru
from mmfs.mm_types import NodeStatItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.inode import Inode

LSM_CACHE = "lsm_inode_cache"
"""What a security module keeps of an inode, if there is one that does."""
INODE_CACHES = {
    "ext4": "ext4_inode_cache", "tmpfs": "shmem_inode_cache", "proc": "proc_inode_cache",
    "hugetlbfs": "hugetlbfs_inode_cache",
}  # fmt: skip


class Dcache:
    """Dentries and inodes in memory. `dentry_lru` tells which were used since they were put there."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.dentries: dict[Inode, int] = {}
        """The inodes whose name is in memory, and its object of the slab."""
        self.dentry_lru: ListLru[Inode, bool] = ListLru(kernel.slab)
        self.inode_lru: ListLru[Inode, None] = ListLru(kernel.slab)
        self.with_pages: dict[Inode, None] = {}
        """Inodes without a dentry that wait until none of their pages is cached."""
        self._cached = 0, 0
        """File pages and `with_pages` when that was looked through."""
        self.in_core: dict[Inode, tuple[int, int]] = {}
        """Inodes in memory, and the objects of the slab that each takes."""

    # -- use ----------------------------------------------------------------------------------------------------------

    def iget(self, inode: Inode, fstype: str) -> None:
        """The inode is in memory. Linux: fs/inode.c, iget_locked()."""
        self.inode_lru.discard(inode)
        self.with_pages.pop(inode, None)
        if inode not in self.in_core:
            cache = INODE_CACHES.get(fstype, "shmem_inode_cache")
            slab = self.kernel.slab
            lsm = slab.alloc(LSM_CACHE, force=True) if LSM_CACHE in slab else 0
            self.in_core[inode] = slab.alloc(cache, force=True), lsm

    def d_alloc(self, inode: Inode) -> None:
        """A name is in memory. Linux: fs/dcache.c, d_alloc()."""
        if inode not in self.dentries:
            self.dentries[inode] = self.kernel.slab.alloc("dentry", force=True)

    def dput(self, inode: Inode) -> None:
        """Nobody uses the name just now. Linux: fs/dcache.c, retain_dentry()."""
        if inode.i_count or inode.shmem or inode not in self.dentries:
            return
        if inode in self.dentry_lru:
            self.dentry_lru.set(inode, True)
        else:
            self.dentry_lru.add(inode, False, self.dentries[inode])

    def d_delete(self, inode: Inode) -> None:
        """The name is gone, and the inode goes when nobody has it open. Linux: fs/dcache.c, d_delete()."""
        self._free_dentry(inode)
        if not inode.i_count:
            self.evict(inode)

    def _free_dentry(self, inode: Inode) -> None:
        self.dentry_lru.discard(inode)
        if inode in self.dentries:
            self.kernel.slab.free_if(self.dentries.pop(inode))

    def evict(self, inode: Inode) -> None:
        """The inode leaves memory. Linux: fs/inode.c, evict()."""
        self.inode_lru.discard(inode)
        self.with_pages.pop(inode, None)
        for obj in self.in_core.pop(inode, ()):
            self.kernel.slab.free_if(obj)

    # -- giving up -----------------------------------------------------------------------------------------------------

    def count_objects(self, lruvec: int) -> int:
        """What of a lruvec could go. Linux: fs/super.c, super_cache_count()."""
        self._requeue()
        objects = self.dentry_lru.count(lruvec) + self.inode_lru.count(lruvec)
        return objects * self.kernel.vm.vfs_cache_pressure // self.kernel.vm.vfs_cache_pressure_denom

    def scan_objects(self, lruvec: int, nr_to_scan: int) -> int:
        """Look at so many and give up those that were not used again; how many. Linux: super_cache_scan()."""
        dentries, inodes = self.dentry_lru.count(lruvec), self.inode_lru.count(lruvec)
        total = dentries + inodes + 1
        freed = self.prune_dcache(lruvec, nr_to_scan * dentries // total + 1)
        return freed + self.prune_icache(lruvec, nr_to_scan * inodes // total + 1)

    def prune_dcache(self, lruvec: int, nr_to_scan: int) -> int:
        """Linux: fs/dcache.c, prune_dcache_sb()."""
        freed = 0
        for inode in self.dentry_lru.oldest(lruvec, nr_to_scan):
            if inode.i_count:
                self.dentry_lru.discard(inode)
            elif self.dentry_lru.get(inode):
                self.dentry_lru.rotate(inode, False)
            else:
                self._free_dentry(inode)
                self.with_pages[inode] = None
                freed += 1
        self._requeue()
        return freed

    def _requeue(self) -> None:
        """Inodes whose last page has gone may go too. Linux: fs/inode.c, inode_add_lru(); mapping_shrinkable()."""
        cached = self.kernel.vmstat.global_node_page_state(NodeStatItem.NR_FILE_PAGES), len(self.with_pages)
        if not self.with_pages or cached == self._cached:
            return
        for inode in [inode for inode in self.with_pages if not inode.mapping.nrpages]:
            del self.with_pages[inode]
            if inode in self.in_core and inode not in self.dentries and not inode.i_count:
                self.inode_lru.add(inode, None, self.in_core[inode][0])
        self._cached = cached[0], len(self.with_pages)

    def prune_icache(self, lruvec: int, nr_to_scan: int) -> int:
        """Linux: fs/inode.c, prune_icache_sb(), inode_lru_isolate()."""
        freed = 0
        for inode in self.inode_lru.oldest(lruvec, nr_to_scan):
            if inode.i_count or inode.mapping.nrpages:
                self.inode_lru.discard(inode)
                self.with_pages[inode] = None
            else:
                self.evict(inode)
                freed += 1
        return freed

    def reparent(self, memcg: int, parent: int) -> None:
        """A cgroup is removed: what it paid for is its parent's."""
        self.dentry_lru.reparent(memcg, parent)
        self.inode_lru.reparent(memcg, parent)
