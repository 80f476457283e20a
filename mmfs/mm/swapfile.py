"""Swap areas: what is swapped on, how large, how full.

Slots, their owners and the swap cache are the fast path's (fastpath/swap*.py), an area a row there. What is written to
the areas is mm/page_io.py's, emptying one mm/unuse.py's.

Linux: mm/swapfile.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from errno import EBUSY, EINVAL, EIO, EISDIR, ENOENT, EPERM
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from mmfs.fastpath.zram import SwapDevice
from mmfs.mm.backing_dev import bdi_of
from mmfs.mm.unuse import Unuse
from mmfs.mm_types import (
    MAX_SWAPFILES,
    PAGE_SECTORS,
    PAGE_SHIFT,
    PAGE_SIZE,
    SWAPFILE_CLUSTER,
    SWP_AREA_DISCARD,
    SWP_BLKDEV,
    SWP_DISCARDABLE,
    SWP_PAGE_DISCARD,
    SWP_SOLIDSTATE,
    SWP_STABLE_WRITES,
    SWP_SYNCHRONOUS_IO,
    SWP_USED,
    SWP_WRITEOK,
)
from mmfs.profile import config, since

if TYPE_CHECKING:
    from mmfs.fastpath.blk import Disk
    from mmfs.fastpath.swap import Swap
    from mmfs.fastpath.zram import Zram
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.backing_dev import BackingDevInfo
    from mmfs.mm.inode import Inode

SWAP_FLAG_PREFER: Final = 0x8000
SWAP_FLAG_PRIO_MASK: Final = 0x7FFF
SWAP_FLAG_DISCARD: Final = 0x1_0000
SWAP_FLAG_DISCARD_ONCE: Final = 0x2_0000
SWAP_FLAG_DISCARD_PAGES: Final = 0x4_0000
SWAP_FLAGS_VALID: Final = (
    SWAP_FLAG_PRIO_MASK | SWAP_FLAG_PREFER | SWAP_FLAG_DISCARD | SWAP_FLAG_DISCARD_ONCE | SWAP_FLAG_DISCARD_PAGES
)
SWAP_MAP_BAD: Final = 0x3FFF_FFFF
MIN_SWAP_PAGES: Final = 10
DISCARD: Final = 2
MAX_DISCARD_SECTORS: Final = 2147483136 >> 9
"""Of a virtio disk: what queue/discard_max_bytes says."""
NSEC_PER_SEC: Final = 1_000_000_000
DISCARD_WORK: Final = "swap_discard_work"
DISCARD_FLAGS: Final = {SWP_DISCARDABLE: "D", SWP_AREA_DISCARD: "s", SWP_PAGE_DISCARD: "c"}
LOG_ERR: Final = 3
LOG_WARNING: Final = 4
SAME_PRIORITY: Final = since(7, 0)
"""Which kernels give -1 to all areas that ask for no priority, and take turns; older ones count down."""


def swap_flags(priority: int | None) -> int:
    """The flags of swapon(2) for a priority. util-linux: swapon(8)."""
    if priority is None or priority < 0:
        return 0
    return SWAP_FLAG_PREFER | min(priority, SWAP_FLAG_PRIO_MASK)


class SwapDisk(Protocol):
    """What swap asks of a disk (kernel/block.py, Gendisk)."""

    queue: Disk
    bios: Sequence[Any]
    zram: Zram | None

    def submit_bio(
        self, op: Any, nr_sectors: int, nr_bios: int = 1, nr_requests: int = 1, sector: int = -1,
        end_io: Callable[..., object] | None = None, args: tuple[object, ...] = (), now_ns: int = 0,
    ) -> int:  # fmt: skip
        """Ask for sectors; `end_io(*args)` is called when they have come or gone."""


class Backing(NamedTuple):
    """What a swap area may lie on: a disk, or a file (its inode; without a disk: of tmpfs), so many pages."""

    key: int
    bdi: BackingDevInfo | None
    pages: int
    inode: Inode | None
    busy: bool


class SwapInfoStruct:
    """One swap area; ``pages`` leaves out its header page. Linux: struct swap_info_struct."""

    def __init__(self, swap: Swap, number: int, file: str, backing: Backing) -> None:
        assert backing.bdi is not None
        self.swap = swap
        self.number = number
        self.file = file
        self.disk: SwapDisk = backing.bdi.disk
        self.inode = backing.inode

    @property
    def type(self) -> str:
        """What it is, as /proc/swaps shows it."""
        return "partition" if self.inode is None else "file"

    @property
    def sector(self) -> int:
        """Where on the disk it begins."""
        return 0 if self.inode is None else int(self.inode.mapping.record["sector"])

    @property
    def solidstate(self) -> bool:
        """Whether seeks cost no time there."""
        return bool(self.swap.slots.areas[self.number]["flags"] & SWP_SOLIDSTATE)

    def adding_line(self, path: str) -> str:
        """What swapon says."""
        flags = int(self.swap.slots.areas[self.number]["flags"])
        letters = "SS" if self.solidstate else ""
        letters += "".join(letter for bit, letter in DISCARD_FLAGS.items() if flags & bit)
        return f"Adding {self.size}k swap on {path}.  Priority:{self.prio} extents:1 across:{self.size}k {letters}"

    def discard(self, offset: int, pages: int) -> None:
        """Tell the disk that pages are not needed. Linux: discard_swap(), discard_swap_cluster()."""
        sector, end = self.sector + offset * PAGE_SECTORS, self.sector + (offset + pages) * PAGE_SECTORS
        while sector < end:
            nr = min(end - sector, MAX_DISCARD_SECTORS)
            self.disk.submit_bio(DISCARD, nr, sector=sector)
            sector += nr

    @property
    def pages(self) -> int:
        """Usable pages."""
        return int(self.swap.slots.areas[self.number]["pages"])

    @property
    def inuse_pages(self) -> int:
        """Pages in use, those that CPUs keep for themselves included."""
        return int(self.swap.slots.areas[self.number]["inuse"])

    @property
    def prio(self) -> int:
        """Higher is used first; below zero it was chosen by the kernel."""
        return int(self.swap.slots.areas[self.number]["prio"])

    @property
    def size(self) -> int:
        """Usable size in kB, as /proc/swaps shows it."""
        return self.pages << (PAGE_SHIFT - 10)

    @property
    def used(self) -> int:
        """Size in use in kB."""
        return self.inuse_pages << (PAGE_SHIFT - 10)


class SwapFiles:
    """All swap areas of a machine. Linux: mm/swapfile.c, swap_info[], swap_active_head, least_priority."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.swap = kernel.mmu.swap
        self.swap.thp_swap = config("THP_SWAP")(kernel)
        self.areas: dict[int, SwapInfoStruct] = {}
        self.active: list[SwapInfoStruct] = []
        """Those that are not being swapped off, by falling priority."""
        self.headers: dict[int, int] = {}
        """What mkswap has written, by the id() of a disk or an inode: pages, the header among them."""
        self.least_priority = -1
        self._next_base = 0
        self._free_bases: dict[int, list[int]] = {}

    # ---- adding and removing areas ------------------------------------------------------------------------------

    def mkswap(self, path: str) -> None:
        """Write a swap header on a disk or into a file. util-linux: mkswap(8)."""
        backing = self._open(path)
        if backing.pages < MIN_SWAP_PAGES:
            raise OSError(EINVAL, f"{path}: a swap area needs at least {MIN_SWAP_PAGES * PAGE_SIZE >> 10} KiB")
        if backing.busy:
            raise OSError(EBUSY, f"{path} is in use")
        zram = None if backing.bdi is None else backing.bdi.disk.zram
        if zram is not None and not zram.write_header():
            raise OSError(EIO, f"{path}: no memory for the header")
        self.headers[backing.key] = backing.pages

    def _open(self, path: str) -> Backing:
        """What a path names: a disk, or a file. Raises OSError."""
        kernel = self.kernel
        if path.startswith("/dev/") and kernel.mounts.find(path).fstype == "devtmpfs":
            try:
                disk = kernel.block_devices[path]
            except KeyError:
                raise OSError(ENOENT, f"no disk {path}") from None
            mounted = any(mount.source == disk.path for mount in kernel.mounts)
            used = mounted or any(area.file == disk.path for area in self.areas.values())
            bdi = bdi_of(kernel.bdis, disk.dev)
            return Backing(id(disk), bdi, disk.nr_sectors // PAGE_SECTORS, None, used)
        inode = kernel.namei.lookup(path)
        if inode is None and any(mount.mountpoint == path for mount in kernel.mounts):
            raise OSError(EISDIR, f"{path} is a directory")
        if inode is None:
            raise OSError(ENOENT, f"no file {path}")
        return Backing(id(inode), inode.bdi, inode.size // PAGE_SIZE, inode, inode.swapfile)

    def swapon(self, path: str, swap_flags: int = 0, capable: bool = True) -> SwapInfoStruct:
        """swapon(2). Linux: mm/swapfile.c, SYSCALL_DEFINE2(swapon).

        Simplified: a file lies on its disk in one piece.
        """
        log = self.kernel.printk.emit
        if swap_flags & ~SWAP_FLAGS_VALID:
            raise OSError(EINVAL, "no such flag")
        if not capable:
            raise OSError(EPERM, "needs CAP_SYS_ADMIN")
        if len(self.areas) == MAX_SWAPFILES:
            raise OSError(EPERM, f"{MAX_SWAPFILES} areas are all that there can be")
        backing = self._open(path)
        if backing.busy:
            raise OSError(EBUSY, f"{path} is in use")
        if backing.bdi is None:
            raise OSError(EINVAL, "a file of this file system cannot be swapped on")
        pages = self.headers.get(backing.key, 0)
        if not pages:
            log("Unable to find swap-space signature", LOG_ERR)
            raise OSError(EINVAL, f"{path} has no swap header")
        if pages > backing.pages:
            log("Swap area shorter than signature indicates", LOG_WARNING)
            raise OSError(EINVAL, f"{path} is too short for its swap header")
        if backing.inode is not None and backing.inode.mapping.record["on_disk"] < pages:
            log(f"swapon: file {path} has unallocated extents", LOG_ERR)
            raise OSError(EINVAL, f"{path} has holes")
        prio = swap_flags & SWAP_FLAG_PRIO_MASK if swap_flags & SWAP_FLAG_PREFER else -1
        area = self._enable(path, backing, pages, prio, discard_flags(swap_flags))
        log(area.adding_line(path))
        return area

    def _enable(self, path: str, backing: Backing, pages: int, prio: int, discards: int) -> SwapInfoStruct:
        """Linux: setup_swap_info(), enable_swap_info()."""
        assert backing.bdi is not None
        number = next(number for number in range(MAX_SWAPFILES) if number not in self.areas)
        slots, clusters = self.swap.slots, -(-pages // SWAPFILE_CLUSTER)
        base = self._take_base(clusters)
        slots.types[base // SWAPFILE_CLUSTER :][:clusters] = number
        slots.counts[base] = SWAP_MAP_BAD
        flags = SWP_USED | (SWP_BLKDEV if backing.inode is None else 0)
        flags |= discards | (0 if backing.bdi.rotational else SWP_SOLIDSTATE)
        flags |= SWP_SYNCHRONOUS_IO | SWP_STABLE_WRITES if backing.bdi.disk.zram is not None else 0
        slots.areas[number] = (base, pages, pages - 1, 0, 1, pages - 1, 1, 0, 0, flags)
        if flags & SWP_SOLIDSTATE:
            slots.setup_clusters(number)
        else:
            self.kernel.mmu.swap_state.nr_rotate_swap += 1
        area = SwapInfoStruct(self.swap, number, path, backing)
        self.areas[number] = area
        self._set_devices()
        if backing.inode is not None:
            backing.inode.swapfile = True
        if discards & SWP_AREA_DISCARD:
            area.discard(1, pages - 1)
        if discards & SWP_PAGE_DISCARD and DISCARD_WORK not in self.kernel.clock.periodics:
            self.kernel.clock.call_every(DISCARD_WORK, NSEC_PER_SEC, self.swap_do_scheduled_discard)
        self._insert(area, prio)
        return area

    def _take_base(self, clusters: int) -> int:
        """Where the slots of an area begin; those of areas of the same size that are gone are used again."""
        if self._free_bases.get(clusters):
            return self._free_bases[clusters].pop()
        self._next_base += clusters * SWAPFILE_CLUSTER
        return self._next_base - clusters * SWAPFILE_CLUSTER

    def end_of_slots(self) -> int:
        """Slots below which all areas lie."""
        return self._next_base

    def _set_devices(self) -> None:
        slots = self.swap.slots
        slots.devices = None
        for area in self.areas.values():
            disk = area.disk
            slots.devices = SwapDevice(area.number, disk.queue, disk.zram, area.sector, slots.devices)

    def _insert(self, area: SwapInfoStruct, prio: int) -> None:
        """Let an area be written to. Linux: setup_swap_info(), _enable_swap_info()."""
        slots = self.swap.slots
        record = slots.areas[area.number]
        if prio < 0 and not SAME_PRIORITY(self.kernel):
            self.least_priority -= 1
            prio = self.least_priority
        record["prio"] = prio
        record["flags"] |= SWP_WRITEOK
        slots.workingset.nr_swap_pages += area.pages
        slots.total_swap_pages += area.pages
        at = sum(other.prio >= prio for other in self.active)
        self.active.insert(at, area)
        if record["highest_bit"]:
            slots.add_area(area.number)
        self.swap.slot_cache_enabled = True

    def _remove(self, area: SwapInfoStruct) -> None:
        """Let an area be written to no longer; those of lower automatic priority move up. Linux: swapoff()."""
        slots = self.swap.slots
        at = self.active.index(area)
        if area.prio < 0 and not SAME_PRIORITY(self.kernel):
            for other in self.active[at + 1 :]:
                slots.areas[other.number]["prio"] += 1
            self.least_priority += 1
        del self.active[at]
        slots.del_area(area.number)
        slots.workingset.nr_swap_pages -= area.pages
        slots.total_swap_pages -= area.pages
        slots.areas[area.number]["flags"] &= ~SWP_WRITEOK
        self.swap.slot_cache_enabled = False
        self.swap.drain_swap_slots_cache()

    def swapoff(self, path: str, task: Task | None = None, capable: bool = True) -> None:
        """swapoff(2): read everything back, or put the area back in and raise. Linux: SYSCALL_DEFINE1(swapoff).

        Without memory, the OOM killer's first choice is the task that calls.
        """
        if not capable:
            raise OSError(EPERM, "needs CAP_SYS_ADMIN")
        self._open(path)
        area = next((area for area in self.active if area.file == path), None)
        if area is None:
            raise OSError(EINVAL, f"{path} is not swapped on")
        self.kernel.overcommit.enough_memory(area.pages, task.mm if task is not None else None)
        self.kernel.overcommit.vm_unacct_memory(area.pages)
        self._remove(area)
        try:
            if task is not None:
                task.signal.oom_flag_origin = True
            unuse = Unuse(self.kernel, area, task)
            with unuse.room:
                unuse.run()
        except OSError:
            self._insert(area, area.prio)
            raise
        finally:
            if task is not None:
                task.signal.oom_flag_origin = False
            self.swap.slot_cache_enabled = bool(self.active)
        self._destroy(area)

    def _destroy(self, area: SwapInfoStruct) -> None:
        """Forget an area without users. Linux: flush_work(), destroy_swap_extents()."""
        slots = self.swap.slots
        self.swap_do_scheduled_discard()
        base, pages = (int(slots.areas[area.number][name]) for name in ("base", "max"))
        slots.counts[base : base + pages] = 0
        slots.caches[base : base + pages] = 0
        self._free_bases.setdefault(-(-pages // SWAPFILE_CLUSTER), []).append(base)
        if not area.solidstate:
            self.kernel.mmu.swap_state.nr_rotate_swap -= 1
        self.swap.allocator.forget(area.number)
        slots.areas[area.number] = 0
        del self.areas[area.number]
        if not any(slots.areas[number]["flags"] & SWP_PAGE_DISCARD for number in self.areas):
            self.kernel.clock.forget(DISCARD_WORK)
        self._set_devices()
        if area.inode is not None:
            area.inode.swapfile = False

    def swap_do_scheduled_discard(self) -> None:
        """Discard the clusters that have become free. Linux: swap_do_scheduled_discard().

        Simplified: once a second, and a cluster may be taken again before that.
        """
        slots = self.swap.slots
        for cluster in slots.discards[: slots.nr_discards].tolist():
            area = self.areas.get(int(slots.types[cluster]))
            if area is not None:
                area.discard(cluster * SWAPFILE_CLUSTER - int(slots.areas[area.number]["base"]), SWAPFILE_CLUSTER)
        slots.nr_discards = 0


def discard_flags(swap_flags: int) -> int:
    """When an area's slots are discarded: at swapon, when they are free, or both. Linux: SYSCALL_DEFINE2(swapon)."""
    if not swap_flags & SWAP_FLAG_DISCARD:
        return 0
    if swap_flags & SWAP_FLAG_DISCARD_ONCE:
        return SWP_DISCARDABLE | SWP_AREA_DISCARD
    if swap_flags & SWAP_FLAG_DISCARD_PAGES:
        return SWP_DISCARDABLE | SWP_PAGE_DISCARD
    return SWP_DISCARDABLE | SWP_AREA_DISCARD | SWP_PAGE_DISCARD


def total_swap_pages(kernel: Kernel) -> int:
    """Pages of all areas. Linux: total_swap_pages."""
    return int(kernel.mmu.swap.slots.total_swap_pages)


def nr_swap_pages(kernel: Kernel) -> int:
    """Free pages of all areas. Linux: get_nr_swap_pages()."""
    return int(kernel.mmu.swap.slots.workingset.nr_swap_pages)
