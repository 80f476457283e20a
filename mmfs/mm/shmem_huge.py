"""Large folios of shared memory: which files may have some, and what becomes of those that reach beyond a file's end.

The files of a tmpfs follow its mount option `huge`. Those of the kernel's own tmpfs (shared anonymous memory, memfds,
System V segments) follow /sys/kernel/mm/transparent_hugepage/shmem_enabled, which also can deny huge pages to all or
force them on all. Mapped, those without a name follow hugepages-SIZEkB/shmem_enabled, a switch for each size, which
says `inherit` for 2 MB by default; segments do not. What follows for a file is written into its row (``huge_fault``,
``huge_write``), the sizes into the fast path (fastpath/shmem.py), which looks when a page is missing. The page cache
has folios of MAX_PAGECACHE_ORDER at most: where a huge page is larger, as with pages of 64 KB, no file ever gets one.

A page that was brought for a file that does not fill it wastes memory. Such files are on a list, and when memory is
short a shrinker has the last page of the oldest split, and what lies beyond the end freed.

Linux: mm/shmem.c, shmem_allowable_huge_orders(), shmem_unused_huge_shrink().

Simplified: one list for all tmpfs, and a file whose name was taken away counts as one that has none, even where it was
mapped before.
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING, Final

from mmfs.mm.folio import folio_order
from mmfs.mm.rows import vma_row
from mmfs.mm.shrinker import SUPER_BATCH, Shrinker
from mmfs.mm_types import (
    HPAGE_PMD_ORDER,
    PAGE_SHIFT,
    PAGE_SIZE,
    SHMEM_ADVISE,
    SHMEM_ALWAYS,
    SHMEM_BY_SIZE,
    SHMEM_WITHIN_SIZE,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.filemap import AddressSpace
    from mmfs.mm.inode import File
    from mmfs.mm.vma import VmAreaStruct

SHM_MNT_DEV: Final = (0, 1)
SHMEM_MODES: Final = ("always", "inherit", "within_size", "advise", "never")
SHMEM_ENABLED: Final = ("always", "within_size", "advise", "never", "deny", "force")
MOUNT_MODES: Final = ("never", "always", "within_size", "advise")
MAX_PAGECACHE_ORDER: Final = min(11, HPAGE_PMD_ORDER)
"""The largest folios of the page cache. Linux: include/linux/pagemap.h; 11 is what a tree of slots can have."""
SHMEM_ORDERS: Final = range(1, MAX_PAGECACHE_ORDER + 1)
_ORDERS: Final = range(1, HPAGE_PMD_ORDER + 1)
_OF_MOUNT: Final = {
    "never": 0, "always": SHMEM_ALWAYS, "within_size": SHMEM_WITHIN_SIZE | SHMEM_ADVISE, "advise": SHMEM_ADVISE,
}  # fmt: skip


class ShmemHuge:
    """The switches, and the list of files to shrink. Linux: shmem_huge, huge_shmem_orders_always and its kin."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.enabled = "never"
        self.orders = {order: "inherit" if order == HPAGE_PMD_ORDER else "never" for order in _ORDERS}
        self.mounts: dict[tuple[int, int], str] = {}
        """By device, of a tmpfs that has one: its option `huge`."""
        self.shrinklist: dict[AddressSpace, None] = {}
        self.apply_all()

    # -- the switches ---------------------------------------------------------------------------------------------

    def set_enabled(self, mode: str) -> None:
        """shmem_enabled. EINVAL: other sizes inherit, which cannot be forced. Linux: shmem_enabled_store()."""
        inherit = [order for order, one in self.orders.items() if one == "inherit"]
        if mode == "force" and inherit != [HPAGE_PMD_ORDER]:
            raise OSError(EINVAL, "only pages of 2 MB can be forced")
        self.enabled = mode
        if mode not in ("deny", "force"):
            self.mounts[SHM_MNT_DEV] = mode
        self.apply_all()

    def set_order(self, order: int, mode: str) -> None:
        """hugepages-SIZEkB/shmem_enabled. EINVAL. Linux: thpsize_shmem_enabled_store()."""
        if mode == "inherit" and self.enabled == "force" and order != HPAGE_PMD_ORDER:
            raise OSError(EINVAL, "only pages of 2 MB can be forced")
        self.orders[order] = mode
        self.apply_all()

    def set_mount(self, dev: tuple[int, int], mode: str) -> None:
        """The mount option `huge` of a tmpfs. Linux: shmem_reconfigure()."""
        self.mounts[dev] = mode
        self.apply_all()

    def apply_all(self) -> None:
        """A switch was set: tell the fast path."""
        fast = self.kernel.mmu.shmem
        fast.always = self._orders("always")
        fast.within_size = self._orders("within_size")
        fast.madvise = self._orders("advise")
        fast.inherit = self._orders("inherit")
        for mapping in list(self.kernel.page_cache.mappings.values()):
            if mapping.host.shmem:
                self.apply(mapping)

    def apply(self, mapping: AddressSpace) -> None:
        """Write into a file's row what holds for it. Linux: shmem_allowable_huge_orders()."""
        host, record = mapping.host, mapping.record
        of_mount = self.of_mount(host.dev)
        record["huge_write"] = of_mount & ~SHMEM_ADVISE
        record["huge_fault"] = of_mount
        record["unnamed"] = not host.i_nlink and not host.sysv
        if record["unnamed"]:
            fast = self.kernel.mmu.shmem
            own = fast.always or fast.within_size or fast.madvise or (of_mount and fast.inherit)
            record["huge_fault"] = of_mount | SHMEM_BY_SIZE if own else 0
        mapping.reserve(int(record["size"]))

    def of_mount(self, dev: tuple[int, int]) -> int:
        """When files of a tmpfs get huge pages (SHMEM_*). Linux: shmem_huge_global_enabled()."""
        if HPAGE_PMD_ORDER > MAX_PAGECACHE_ORDER:
            return 0
        if self.enabled in ("deny", "force"):
            return SHMEM_ALWAYS if self.enabled == "force" else 0
        return _OF_MOUNT[self.mounts.get(dev, "never")]

    def _orders(self, mode: str) -> int:
        """The sizes whose switch says so, a bit an order; if all are denied, or 2 MB is forced, it says nothing."""
        if self.enabled == "deny" or (self.enabled == "force" and mode != "inherit"):
            return 0
        return sum(1 << order for order, one in self.orders.items() if one == mode)

    # -- of a mapping ---------------------------------------------------------------------------------------------

    def allowable(self, vma: VmAreaStruct, order: int, *, enforce: bool) -> bool:
        """Whether a mapping of shared memory may have pages of a size; unless ``enforce``, whatever is switched on.

        Linux: shmem_allowable_huge_orders(), for the first page.
        """
        assert vma.vm_file is not None
        if not enforce:
            return order == HPAGE_PMD_ORDER <= MAX_PAGECACHE_ORDER and self.enabled != "deny"
        orders = self.kernel.mmu.shmem.orders(vma.vm_file.mapping.id, vma_row(vma), vma.vm_pgoff)
        return bool(orders >> order & 1)

    def alignment(self, file: File | None) -> int:
        """To how many bytes an address for a mapping of a file (None: anonymous memory) is aligned, 0: to none.

        Linux: shmem_get_unmapped_area().
        """
        if self.enabled in ("deny", "force"):
            return PAGE_SIZE << HPAGE_PMD_ORDER if self.enabled == "force" else 0
        mount = self.mounts.get(SHM_MNT_DEV if file is None else file.inode.dev, "never")
        orders = [HPAGE_PMD_ORDER] if mount != "never" else []
        if file is None:
            inherited = ("never",) if orders else ("never", "inherit")
            orders = [order for order, mode in self.orders.items() if mode not in inherited] or orders
        return PAGE_SIZE << max(orders) if orders else 0

    def alloc_slowly(self) -> None:
        """The free lists had no huge page for a write: find one, or have it do without; or it cannot be charged.

        Linux: shmem_alloc_folio(), mem_cgroup_charge().
        """
        thp = self.kernel.thp
        if thp.fast.handed >= 0:
            thp.charge_slowly(thp.gfp_mask(False))
            return
        buddy = self.kernel.page_alloc.buddy
        self.kernel.thp.alloc_on(self.kernel.thp.gfp_mask(False), int(buddy.cpu_nodes[buddy.cpu]))

    # -- beyond the end -------------------------------------------------------------------------------------------

    def shrinker(self) -> Shrinker:
        """Of the list. Linux: fs/super.c, super_cache_scan(); mm/shmem.c, shmem_unused_huge_scan()."""
        return Shrinker("sb-tmpfs", self._count, self._scan, batch=SUPER_BATCH)

    def forget(self, mapping: AddressSpace) -> None:
        """A file goes."""
        self._collect()
        self.shrinklist.pop(mapping, None)

    def _collect(self) -> None:
        fast, cache = self.kernel.mmu.shmem, self.kernel.page_cache
        for row in fast.queued[: fast.nr_queued].tolist():
            mapping = cache.mappings.get(row)
            if mapping is not None and mapping.record["shrinking"]:
                self.shrinklist[mapping] = None
        fast.nr_queued = 0

    def _count(self, nid: int) -> int:
        self._collect()
        return len(self.shrinklist)

    def _scan(self, nid: int, nr: int) -> int:
        """Look at the oldest; how many pages were split. Linux: shmem_unused_huge_shrink()."""
        self._collect()
        split = 0
        for mapping in list(self.shrinklist)[:nr]:
            del self.shrinklist[mapping]
            mapping.record["shrinking"] = 0
            index = mapping.host.size >> PAGE_SHIFT
            folio = mapping.large_folio(index)
            end = -(-mapping.host.size // PAGE_SIZE)
            if folio >= 0 and end % (1 << folio_order(self.kernel.frames, folio)):
                self.kernel.mmu.huge_split.split_huge_page(folio)
                split += 1
        return split


