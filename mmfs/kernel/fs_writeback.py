"""The flusher: a worker a disk that writes dirty pages back.

An inode that becomes dirty stands on `b_dirty`, the oldest first. The worker wakes every dirty_writeback_centisecs
and writes what has been dirty for dirty_expire_centisecs; beyond the background threshold it writes until it is
below; `sync` and reclaim ask for everything. It takes inodes to `b_io`, gives each a turn of some megabytes, and
those that are still dirty come again by way of `b_more_io`.

The worker is woken by the clock and does what it can: the block layer lets it have only so many requests under
way (`wbt`), so it stops there and goes on when one is done. Pages count as being written until then.

Linux: fs/fs-writeback.c; block/blk-wbt.c for how many requests there may be.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from mmfs.kernel.block import StatGroup
from mmfs.kernel.clock import NSEC_PER_MSEC, TICK_NSEC, Timer
from mmfs.kernel.cputime import Cost
from mmfs.mm.mman import VM_SHARED, VM_WRITE
from mmfs.mm.page_io import RWB_DEF_DEPTH
from mmfs.mm.page_writeback import (
    BANDWIDTH_INTERVAL,
    DirtyThrottleControl,
    wb_bandwidth_estimate_start,
    wb_update_bandwidth,
)
from mmfs.mm_types import PAGE_SECTORS, PAGE_SHIFT, NodeStatItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.backing_dev import BackingDevInfo
    from mmfs.mm.filemap import AddressSpace
    from mmfs.mm.inode import Inode

NSEC_PER_CENTISEC: Final = 10 * NSEC_PER_MSEC
INIT_BW: Final = 100 << (20 - PAGE_SHIFT)
MIN_WRITEBACK_PAGES: Final = 4096 >> (PAGE_SHIFT - 10)
DIRTY_SCOPE: Final = 8
WB_BACKGROUND: Final = (RWB_DEF_DEPTH + 3) // 4
WB_NORMAL: Final = (RWB_DEF_DEPTH + 1) // 2
"""Requests of writeback that may be under way. Linux: block/blk-wbt.c, calc_wb_limits()."""
FOREVER: Final = 1 << 62


@dataclass
class WritebackWork:
    """What the flusher is asked for. Linux: struct wb_writeback_work."""

    nr_pages: int
    for_background: bool = False
    for_kupdate: bool = False


class BdiWriteback:
    """Who writes back to a disk, what is left to write, and how fast it goes. Linux: struct bdi_writeback."""

    def __init__(self, kernel: Kernel, bdi: BackingDevInfo) -> None:
        self.kernel = kernel
        self.bdi = bdi
        self.b_dirty: dict[Inode, int] = {}
        """When each became dirty, ns."""
        self.b_io: deque[Inode] = deque()
        self.b_more_io: deque[Inode] = deque()
        self.work_list: deque[WritebackWork] = deque()
        self.work: WritebackWork | None = None
        self.start_all = self.background = False
        self.last_old_flush_ns = 0
        self.timer: Timer | None = None
        self.laptop_timer: Timer | None = None
        self.bandwidth_timer: Timer | None = None
        self.requests = self.pages_in_flight = self.written = self.completions = 0
        self.dirty_exceeded = False
        self.dirty_ratelimit = self.balanced_dirty_ratelimit = INIT_BW
        self.write_bandwidth = self.avg_write_bandwidth = INIT_BW
        self.bw_time_stamp = kernel.clock.jiffies
        self.dirtied_stamp = self.written_stamp = 0
        self._turn = 0
        self._queued = False

    # -- what there is ------------------------------------------------------------------------------------------

    def nr_dirty(self) -> int:
        """Dirty pages of the disk's files."""
        return self._of_files(NodeStatItem.NR_FILE_DIRTY)

    def nr_dirtied(self) -> int:
        """Pages that have ever become dirty."""
        return self._of_files(NodeStatItem.NR_DIRTIED)

    def _of_files(self, item: NodeStatItem) -> int:
        """A count of the machine's pages: all of its files are on the first disk."""
        if self.bdi is not self.kernel.bdis[0]:
            return 0
        return self.kernel.vmstat.global_node_page_state(item)

    def nr_writeback(self) -> int:
        """Pages that it is writing."""
        return self.pages_in_flight

    def inodes(self) -> list[Inode]:
        """All dirty inodes, in the order in which they would be written."""
        self.kernel.collect_dirty_inodes()
        return [*self.b_io, *self.b_more_io, *self.b_dirty]

    # -- what wakes it ------------------------------------------------------------------------------------------

    def mark_inode_dirty(self, inode: Inode) -> None:
        """An inode has its first dirty page. Linux: __mark_inode_dirty()."""
        idle = not (self.b_dirty or self.b_io or self.b_more_io)
        self.b_dirty[inode] = self.kernel.clock.now_ns
        if idle and self.timer is None and self.work is None:
            self.wakeup_delayed()

    def forget(self, inode: Inode) -> None:
        """The inode is going away. Linux: inode_io_list_del()."""
        self.b_dirty.pop(inode, None)
        for queue in (self.b_io, self.b_more_io):
            if inode in queue:
                queue.remove(inode)

    def wakeup(self) -> None:
        """Have the worker run now. Linux: wb_wakeup()."""
        if self.timer is not None:
            self.timer.cancel()
        if self.work is None or self.requests == 0:
            self.timer = self.kernel.clock.add_timer(self.kernel.clock.now_ns, self.run)

    def wakeup_delayed(self) -> None:
        """Have it run after a while. Linux: wb_wakeup_delayed()."""
        interval = self.kernel.vm.dirty_writeback_centisecs * NSEC_PER_CENTISEC
        if interval and self.timer is None:
            self.timer = self.kernel.clock.add_timer(self.kernel.clock.now_ns + interval, self.run)

    def start_background_writeback(self) -> None:
        """Linux: wb_start_background_writeback()."""
        if self.work is None:
            self.wakeup()

    def start_writeback(self) -> None:
        """Everything that is dirty. Linux: wb_start_writeback()."""
        if not self.start_all:
            self.start_all = True
            self.wakeup()

    def laptop_io_completion(self) -> None:
        """The disk has turned for a read: in laptop mode, soon write everything. Linux: mm/page-writeback.c."""
        clock, jiffies = self.kernel.clock, self.kernel.vm.laptop_mode
        if jiffies:
            if self.laptop_timer is not None:
                self.laptop_timer.cancel()
            self.laptop_timer = clock.add_timer(clock.now_ns + jiffies * TICK_NSEC, self._laptop_mode_timer)

    def _laptop_mode_timer(self) -> None:
        self.laptop_timer = None
        if self.inodes():
            self.start_writeback()

    # -- the worker -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Write until nothing is left to do or the disk's queue is full. Linux: wb_workfn(), wb_do_writeback()."""
        self.timer = None
        self.kernel.collect_dirty_inodes()
        before = self.pages_in_flight
        finished = True
        while (work := self.work or self._next_work()) is not None:
            self.work = work
            left = work.nr_pages
            if not self._writeback(work):
                finished = False
                break
            self.work = None
            if work.for_background and work.nr_pages == left:
                break
        pages = max(self.pages_in_flight - before, 0)
        self.kernel.run_worker("kworker/u", Cost.WAKEUP + pages * Cost.WRITE_PAGE)
        if finished and self.inodes():
            self.wakeup_delayed()

    def _next_work(self) -> WritebackWork | None:
        vm, now = self.kernel.vm, self.kernel.clock.now_ns
        self._queued = False
        if self.work_list:
            return self.work_list.popleft()
        if self.start_all:
            self.start_all = False
            return WritebackWork(self.nr_dirty()) if self.nr_dirty() else self._next_work()
        interval = vm.dirty_writeback_centisecs * NSEC_PER_CENTISEC
        if interval and now >= self.last_old_flush_ns + interval:
            self.last_old_flush_ns = now
            if self.nr_dirty():
                return WritebackWork(self.nr_dirty(), for_kupdate=True)
        if self.over_bg_thresh():
            return WritebackWork(FOREVER, for_background=True)
        return None

    def over_bg_thresh(self) -> bool:
        """Whether there is enough to write in the background. Linux: wb_over_bg_thresh()."""
        if not self.inodes():
            return False
        dtc = DirtyThrottleControl(self)
        return dtc.nr_dirty > dtc.bg_thresh or self.nr_dirty() > self.kernel.wb_domain.wb_calc_thresh(
            self, dtc.bg_thresh
        )

    def _writeback(self, work: WritebackWork) -> bool:
        """Write as a work says; False if the disk's queue is full before it is done. Linux: wb_writeback()."""
        progress = True
        while work.nr_pages > 0:
            if (work.for_background or work.for_kupdate) and self.work_list:
                break
            if work.for_background and not self.over_bg_thresh():
                break
            if not self.b_io:
                if not progress:  # what is dirty is being written already
                    break
                progress = False
                self._queue_io(work)
                if not self.b_io:
                    break
            room = (WB_BACKGROUND if work.for_background else WB_NORMAL) - self.requests
            if room <= 0:
                return False
            left = work.nr_pages
            self._write_inode(self.b_io[0], work, room)
            progress |= work.nr_pages < left
        return True

    def _queue_io(self, work: WritebackWork) -> None:
        """Take the inodes that are due. Linux: queue_io(), move_expired_inodes()."""
        before = self.kernel.clock.now_ns
        if work.for_kupdate:
            before -= self.kernel.vm.dirty_expire_centisecs * NSEC_PER_CENTISEC
            if self._queued and not self.b_more_io:
                return
        self._queued = True
        self.b_io.extend(self.b_more_io)
        self.b_more_io.clear()
        due = [inode for inode, when in self.b_dirty.items() if when <= before]
        for inode in due:
            del self.b_dirty[inode]
        self.b_io.extend(due)

    def _chunk_size(self, work: WritebackWork) -> int:
        """How much of an inode is written in one turn. Linux: writeback_chunk_size()."""
        pages = min(self.avg_write_bandwidth // 2, self.kernel.wb_domain.dirty_limit // DIRTY_SCOPE, work.nr_pages)
        return (pages + MIN_WRITEBACK_PAGES) // MIN_WRITEBACK_PAGES * MIN_WRITEBACK_PAGES

    def _write_inode(self, inode: Inode, work: WritebackWork, room: int) -> None:
        """Give an inode some of its turn. Linux: writeback_sb_inodes(), requeue_inode()."""
        if self._turn <= 0:
            self._turn = self._chunk_size(work)
        mapping = inode.mapping
        wanted = min(self._turn, room * self.bdi.queue.io_pages)
        wrote = write_cache_pages(mapping, wanted, cyclic=True)
        self._turn -= wrote
        work.nr_pages -= wrote
        if mapping.nr_dirty and wrote == wanted and self._turn > 0:
            return
        self.b_io.popleft()
        if not mapping.nr_dirty:
            mapping.record["queued"] = 0
        elif self._turn <= 0:
            self.b_more_io.append(inode)
        else:  # pages that are being written have become dirty again
            self.b_dirty[inode] = self.kernel.clock.now_ns
        self._turn = 0

    # -- the disk -------------------------------------------------------------------------------------------------

    def submit(self, mapping: AddressSpace, pfns: NDArray[np.uint32], sector: int, nr_bios: int, requests: int) -> int:
        """Hand pages to the disk; when it will be done."""
        self.requests += requests
        self.pages_in_flight += len(pfns)
        clock, disk = self.kernel.clock, self.bdi.disk
        wait = disk.submit_bio(
            StatGroup.WRITE, len(pfns) * PAGE_SECTORS, nr_bios, requests, sector,
            end_io=self._end_io, args=(mapping, pfns, requests),
        )  # fmt: skip
        return int(clock.now_ns + wait)

    def _end_io(self, mapping: AddressSpace, pfns: NDArray[np.uint32], requests: int) -> None:
        """The disk has written pages. Linux: fs/ext4/page-io.c, ext4_end_bio(); folio_end_writeback()."""
        self.kernel.mmu.writeback.end_writeback(pfns)
        self.requests -= requests
        self.pages_in_flight -= len(pfns)
        self.written += len(pfns)
        self.kernel.wb_domain.writeout_add(self, len(pfns))
        clock = self.kernel.clock
        if not mapping.nr_writeback and self.bandwidth_timer is None:  # Linux: wb_inode_writeback_end()
            until = clock.now_ns + BANDWIDTH_INTERVAL * TICK_NSEC
            self.bandwidth_timer = clock.add_timer(until, self._update_bandwidth)
        if self.work is not None and self.timer is None:
            self.timer = clock.add_timer(clock.now_ns, self.run)

    def _update_bandwidth(self) -> None:
        """Linux: mm/backing-dev.c, wb_update_bandwidth_workfn()."""
        self.bandwidth_timer = None
        wb_update_bandwidth(self)


def write_cache_pages(
    mapping: AddressSpace, nr_to_write: int, first: int = 0, last: int = FOREVER, *, cyclic: bool = False
) -> int:
    """Start writing dirty pages of a file, at most so many; how many. `cyclic`: from where the last time ended.

    Linux: fs/ext4/inode.c, ext4_writepages(); mm/page-writeback.c, do_writepages(), write_cache_pages().
    """
    record = mapping.record
    if cyclic:
        start = int(record["writeback_index"])
        wrote = write_cache_pages(mapping, nr_to_write, start)
        if wrote < nr_to_write and start and mapping.nr_dirty:
            wrote += write_cache_pages(mapping, nr_to_write - wrote, 0, start)
        record["writeback_index"] = mapping.cache.mmu.writeback.next_index % max(int(record["size"]), 1)
        return wrote
    bdi, fast = mapping.host.bdi, mapping.cache.mmu.writeback
    assert bdi is not None
    nr = min(nr_to_write, mapping.nr_dirty)
    if not nr:
        return 0
    wb_bandwidth_estimate_start(bdi.wb)
    pfns = np.zeros(nr, np.uint32)
    on_disk = int(record["on_disk"])
    count = fast.write_cache_pages(mapping.id, first, last, pfns, bdi.queue.io_pages)
    if not count:
        return 0
    mkclean(mapping)
    if int(record["on_disk"]) > on_disk:
        grown, record["on_disk"] = int(record["on_disk"]), on_disk
        mapping.host.allocate(grown)
        mapping.kernel.ext4.map_blocks(mapping.host, on_disk, grown)
    sector = int(record["sector"]) + fast.first_index * PAGE_SECTORS
    until = bdi.wb.submit(mapping, pfns[:count], sector, fast.nr_bios, fast.nr_requests)
    mapping.written_until_ns = max(mapping.written_until_ns, until)
    if mapping.kernel.clock.jiffies > bdi.wb.bw_time_stamp + BANDWIDTH_INTERVAL:
        wb_update_bandwidth(bdi.wb)
    return int(count)


def mkclean(mapping: AddressSpace) -> None:
    """Have the next write through a shared mapping fault again. Linux: mm/rmap.c, folio_mkclean()."""
    for vma in mapping.i_mmap:
        if vma.vm_flags & VM_SHARED and vma.vm_flags & VM_WRITE:
            mapping.cache.mmu.writeback.mkclean(vma.vm_mm.row, vma.vm_start, vma.vm_end)


def filemap_write_and_wait(task: Task, mapping: AddressSpace, first: int = 0, last: int = FOREVER) -> int:
    """Write the dirty pages of a range and wait for all that are being written; how many were dirty.

    Linux: mm/filemap.c, file_write_and_wait_range().
    """
    mapping.wait_writeback(first, last)
    wrote = write_cache_pages(mapping, FOREVER, first, last)
    kernel = mapping.kernel
    kernel.scheduler.charge(task, system_ns=wrote * Cost.WRITE_PAGE)
    mapping.wait_writeback(first, last)
    return wrote


def sync_inodes(kernel: Kernel, task: Task) -> None:
    """Write everything that is dirty and wait for it. Linux: fs/sync.c, ksys_sync(); sync_inodes_sb()."""
    for bdi in kernel.bdis:
        if bdi.wb.laptop_timer is not None:
            bdi.wb.laptop_timer.cancel()
            bdi.wb.laptop_timer = None
        inodes = bdi.wb.inodes()
        for inode in inodes:
            mapping = inode.mapping
            if mapping.nr_dirty and not mapping.nr_writeback:
                kernel.scheduler.charge(task, system_ns=write_cache_pages(mapping, FOREVER) * Cost.WRITE_PAGE)
        for inode in inodes:
            filemap_write_and_wait(task, inode.mapping)
            if not inode.mapping.nr_dirty:
                bdi.wb.forget(inode)
                inode.mapping.record["queued"] = 0
