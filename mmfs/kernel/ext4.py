"""The metadata of the root file system: which blocks of the disk a call touches, and the journal.

Inode tables, bitmaps, group descriptors and directories are blocks of the disk, cached as pages of the device itself:
Buffers in /proc/meminfo. A call that changes some of them puts them into the running transaction. After five seconds,
or when somebody syncs, the journal's thread writes them to the journal; only then do their pages become dirty, and
the flusher brings them to their places in its own time.

Linux: fs/ext4/, fs/jbd2/.

Simplified: blocks are numbered in the order in which they are first used; the journal has room always; extents are
as long as they can be; directories grow and do not shrink.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from mmfs.kernel.block import StatGroup
from mmfs.kernel.clock import NSEC_PER_SEC, Timer
from mmfs.kernel.cputime import Cost
from mmfs.mm.filemap import AddressSpace, Room
from mmfs.mm.inode import Inode
from mmfs.mm_types import PAGE_SECTORS, PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmfs.kernel.kernel import Kernel

COMMIT_INTERVAL_NS: Final = 5 * NSEC_PER_SEC
"""Linux: include/linux/jbd2.h, JBD2_DEFAULT_MAX_COMMIT_AGE."""
INODES_PER_BLOCK: Final = PAGE_SIZE // 256
INODES_PER_GROUP: Final = 8192
BLOCKS_PER_GROUP: Final = 32768
DESCS_PER_BLOCK: Final = PAGE_SIZE // 64
EXTENTS_IN_INODE: Final = 4
EXTENTS_PER_BLOCK: Final = 340
DIR_ENTRY: Final = 8
TAGS_PER_BLOCK: Final = 254
"""Blocks that a descriptor block of the journal tells the places of."""
INODE_READAHEAD_BLKS: Final = 32
Block = tuple[str, int]


class Ext4:
    """The mounted file system. Linux: struct ext4_sb_info, journal_t."""

    def __init__(self, kernel: Kernel, mapping: AddressSpace) -> None:
        self.kernel = kernel
        self.mapping = mapping
        """Of the device."""
        self.live = False
        """Set when boot is over, whose blocks are counted as one."""
        self.blocks: dict[Block, int] = {}
        """A metadata block's page of the device."""
        self.dir_bytes: dict[str, int] = {}
        self.max_ino = 0
        self.transaction: dict[int, None] = {}
        self.timer: Timer | None = None
        self.journal_block = 0

    # -- blocks -----------------------------------------------------------------------------------------------------

    def _index(self, block: Block) -> int:
        index = self.blocks.get(block)
        if index is None:
            index = self.blocks[block] = int(self.mapping.record["size"])
            self.mapping.set_size(index + 1)
            self.mapping.record["on_disk"] = index + 1
        return index

    def _dir_block(self, path: str) -> Block:
        """The block of its directory that a name is in."""
        directory, _, name = path.rpartition("/")
        nr = -(-self.dir_bytes.get(directory, 0) // PAGE_SIZE)
        return f"dir {directory}", hash_name(name) % max(nr, 1)

    def _inode_blocks(self, ino: int, ahead: bool) -> list[Block]:
        number = (ino - 1) // INODES_PER_BLOCK
        if not ahead:
            return [("inode table", number)]
        first = number - number % INODE_READAHEAD_BLKS
        last = min(first + INODE_READAHEAD_BLKS, (self.max_ino - 1) // INODES_PER_BLOCK + 1)
        return [("inode table", number), *(("inode table", block) for block in range(first, last) if block != number)]

    def bread(self, blocks: Iterable[Block], *, new: bool = False) -> list[int]:
        """Have blocks in the device's page cache, read unless they are `new`; their pages. Linux: ext4_sb_bread()."""
        kernel, mapping = self.kernel, self.mapping
        fast = kernel.mmu.filemap
        indices = [self._index(block) for block in blocks]
        until = 0
        with Room(kernel) as room:
            for index in indices:
                if not new and kernel.mmu.folios.lookup(mapping.id, index) < 0:
                    until = max(until, mapping.readahead(index, index + 1))
                while fast.getblk(mapping.id, index) < 0 and room.make():
                    pass
        kernel.page_cache.settle()
        kernel.current_io_schedule(until)
        return indices

    # -- what calls do ------------------------------------------------------------------------------------------------

    def lookup(self, inode: Inode) -> None:
        """A name and its inode are read from the disk. Linux: ext4_lookup(), ext4_iget()."""
        if self.live:
            self.bread([self._dir_block(inode.path), *self._inode_blocks(inode.ino, ahead=True)])

    def add_entry(self, path: str) -> None:
        """A name takes room in its directory. Linux: ext4_add_entry()."""
        directory, _, name = path.rpartition("/")
        size = DIR_ENTRY + (len(name.encode()) + 3 & ~3)
        self.dir_bytes[directory] = self.dir_bytes.get(directory, 0) + size * 4 // 3

    def create(self, inode: Inode) -> None:
        """A name and an inode are made. Linux: ext4_create()."""
        fresh = (inode.ino - 1) // INODES_PER_BLOCK > (self.max_ino - 1) // INODES_PER_BLOCK
        self.max_ino = max(self.max_ino, inode.ino)
        self.add_entry(inode.path)
        if self.live:
            group = (inode.ino - 1) // INODES_PER_GROUP
            changed = self.bread([("inode bitmap", group), ("group", group // DESCS_PER_BLOCK)])
            changed += self.bread(self._inode_blocks(inode.ino, ahead=False), new=fresh)
            changed += self.bread([self._dir_block(inode.path)], new=True)
            self.journal(changed)

    def unlink(self, inode: Inode) -> None:
        """A name goes, and with it the inode and its blocks. Linux: ext4_unlink(), ext4_evict_inode()."""
        if self.live:
            group = (inode.ino - 1) // INODES_PER_GROUP
            blocks = [("inode bitmap", group), ("group", group // DESCS_PER_BLOCK), self._dir_block(inode.path)]
            pages = int(inode.mapping.record["on_disk"])
            if pages:
                first = int(inode.mapping.record["sector"]) // PAGE_SECTORS
                blocks += self._bitmaps(first, first + pages)
            self.journal(self.bread([*blocks, *self._inode_blocks(inode.ino, ahead=False)]))

    def _bitmaps(self, first: int, last: int) -> list[Block]:
        groups = range(first // BLOCKS_PER_GROUP, (last - 1) // BLOCKS_PER_GROUP + 1)
        return [("block bitmap", group) for group in groups] + [("group", groups[0] // DESCS_PER_BLOCK)]

    def map_blocks(self, inode: Inode, first: int, last: int) -> None:
        """Pages of a file get places on the disk. Linux: ext4_map_blocks()."""
        if self.live:
            start = int(inode.mapping.record["sector"]) // PAGE_SECTORS
            blocks = self._bitmaps(start + first, start + last) + self._inode_blocks(inode.ino, ahead=False)
            extents = -(-last // BLOCKS_PER_GROUP)
            if extents > EXTENTS_IN_INODE:
                blocks.append((f"extents {inode.ino}", extents // EXTENTS_PER_BLOCK))
            self.journal(self.bread(blocks, new=True))

    def dirty_inode(self, inode: Inode) -> None:
        """The inode itself has changed: its times, its size. Linux: ext4_dirty_inode()."""
        if self.live:
            self.journal(self.bread(self._inode_blocks(inode.ino, ahead=False)))

    # -- the journal ---------------------------------------------------------------------------------------------------

    def journal(self, indices: Iterable[int]) -> None:
        """Blocks belong to the running transaction. Linux: fs/jbd2/transaction.c, jbd2_journal_dirty_metadata()."""
        self.transaction.update(dict.fromkeys(indices))
        if self.transaction and self.timer is None:
            self.timer = self.kernel.clock.add_timer(self.kernel.clock.now_ns + COMMIT_INTERVAL_NS, self._expired)

    def _expired(self) -> None:
        self.kernel.run_worker("jbd2/", Cost.WAKEUP + len(self.transaction) * Cost.WRITE_PAGE)
        self.commit()

    def commit(self) -> int:
        """Write the running transaction to the journal; when the disk will have it, 0 if there was nothing.

        Linux: fs/jbd2/commit.c, jbd2_journal_commit_transaction().
        """
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.transaction:
            return 0
        kernel, indices = self.kernel, np.array(sorted(self.transaction), np.int64)
        self.transaction = {}
        nr_own = -(-len(indices) // TAGS_PER_BLOCK) + 1
        self.bread([("journal", self.journal_block + number) for number in range(nr_own)], new=True)
        nr = len(indices) + nr_own
        self.journal_block += nr_own
        disk = kernel.block_devices[kernel.machine.disks[0].name]
        requests = -(-nr // int(disk.queue.io_pages)) + 1
        disk.submit_bio(StatGroup.WRITE, nr * PAGE_SECTORS, nr, min(requests, nr))
        wait = disk.submit_bio(StatGroup.FLUSH, 0)
        kernel.mmu.filemap.dirty_pages(self.mapping.id, indices)
        kernel.collect_dirty_inodes()
        return int(kernel.clock.now_ns + wait)


def hash_name(name: str) -> int:
    """Where in its directory a name goes: any number that is always the same."""
    value = 0
    for char in name.encode():
        value = value * 31 + char & 0xFFFFFFFF
    return value


