# cython: language_level=3
"""Memory for compressed pages: objects of like size packed into groups of a few pages.

A pool has classes of sizes, 16 bytes apart (those that would lie alike in a group are one). A group (zspage) is as
many pages as waste least, and takes objects of one class. Groups stand on lists by how full they are; a new object goes
to the fullest that has room, and a group without objects gives its pages back.

What an object holds is known by a key of the user's: a swap slot, a page of a disk. ``entries`` tells by key where it
is; the objects of a group are chained, so that compaction can move them.

Linux: mm/zsmalloc.c.

Simplified: the slab objects of handles and groups are not charged.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MIN_SIZE = 32
_DELTA = 16
_HANDLE = cython.declare(cython.int, 8)
_CHAIN = 8
_CLASSES = cython.declare(cython.int, 255)
_GROUPS = cython.declare(cython.int, 12)
_EMPTY = cython.declare(cython.int, 0)
_ALMOST_FULL = cython.declare(cython.int, 10)
_FULL = cython.declare(cython.int, 11)

ENTRY_DTYPE = np.dtype(
    [("zspage", "u4"), ("length", "u2"), ("flags", "u2"), ("nxt", "u4"), ("prv", "u4"), ("obj_nxt", "u4"),
     ("obj_prv", "u4")]
)  # fmt: skip
ZSPAGE_DTYPE = np.dtype(
    [("klass", "u2"), ("inuse", "u2"), ("first", "u4"), ("objects", "u4"), ("nxt", "u4"), ("prv", "u4"),
     ("group", "i4")]
)  # fmt: skip


def _chain_size(size):
    """How many pages a group of a class has. Linux: calculate_zspage_chain_size()."""
    if size & (size - 1) == 0:
        return 1
    return min(range(1, _CHAIN + 1), key=lambda pages: (pages * PAGE_SIZE % size, pages))


def size_classes():
    """(index of the class, size, objects, pages of a group) of each step of sizes. Linux: zs_create_pool()."""
    table = np.zeros((_CLASSES, 4), np.int32)
    for i in reversed(range(_CLASSES)):
        size = min(_MIN_SIZE + i * _DELTA, PAGE_SIZE)
        pages = _chain_size(size)
        table[i] = i, size, pages * PAGE_SIZE // size, pages
        if i + 1 < _CLASSES and (table[i, 2:] == table[i + 1, 2:]).all():
            table[i] = table[i + 1]
    return table


class ZsPool:
    """A pool. ``entries`` ENTRY_DTYPE by key, from 1 on; ``zspages`` ZSPAGE_DTYPE by number, from 1 on.

    Objects in use of each class are in ``nr_used``, those that there is room for in ``nr_room``.
    ``pages_allocated``; ``bytes_stored``, their lengths together; ``nr_objects``.
    """

    def __init__(self, buddy, vmstat, max_keys):
        self.frames = buddy.frames
        self.buddy = buddy
        self.zone_stat = view(vmstat.zone_stat)
        self.classes = size_classes()
        self.klass = view(self.classes)
        self.entries = lazy_array(max_keys, ENTRY_DTYPE)
        self.entry = view(self.entries)
        self.zspages = lazy_array(buddy.frames.nr_frames + 1, ZSPAGE_DTYPE)
        self.zspage = view(self.zspages)
        self.used = np.zeros(_CLASSES, np.int64)
        self.room = np.zeros(_CLASSES, np.int64)
        self.nr_used = view(self.used)
        self.nr_room = view(self.room)
        self.head = view(np.zeros(_CLASSES * _GROUPS, np.uint32))
        self.free_zspage_list = 0
        self.nr_zspages = 1
        self.pages_allocated = self.pages_compacted = self.nr_objects = self.bytes_stored = 0

    def class_of(self, size):
        """The class of an object. Linux: get_size_class_index()."""
        i: cython.int = 0
        size += _HANDLE
        if size > 32:
            i = (size - 32 + 15) // 16
        return self.klass[min(i, _CLASSES - 1), 0]

    # ------------------------------------------------------------------------------ groups

    def group_of(self, z):
        """How full a group is. Linux: get_fullness_group()."""
        inuse: cython.int = self.zspage[z].inuse
        objects: cython.int = self.klass[self.zspage[z].klass, 2]
        if inuse == 0:
            return _EMPTY
        if inuse == objects:
            return _FULL
        return 100 * inuse // objects // 10 + 1

    def insert(self, z, group):
        """Put a group on a list, as its first. Linux: insert_zspage()."""
        at: cython.long = self.zspage[z].klass * _GROUPS + group
        first: cython.uint = self.head[at]
        self.zspage[z].group = group
        self.zspage[z].nxt = first
        self.zspage[z].prv = 0
        if first:
            self.zspage[first].prv = cython.cast(cython.uint, z)
        self.head[at] = cython.cast(cython.uint, z)

    def remove(self, z):
        """Take a group off its list. Linux: remove_zspage()."""
        nxt: cython.uint = self.zspage[z].nxt
        prv: cython.uint = self.zspage[z].prv
        if nxt:
            self.zspage[nxt].prv = prv
        if prv:
            self.zspage[prv].nxt = nxt
        else:
            self.head[self.zspage[z].klass * _GROUPS + self.zspage[z].group] = nxt

    def fix_fullness(self, z):
        """A group's objects have come or gone: to the list where it belongs; which. Linux: fix_fullness_group()."""
        group: cython.int = self.group_of(z)
        if group != self.zspage[z].group:
            self.remove(z)
            self.insert(z, group)
        return group

    def alloc_zspage(self, k, nid):
        """A new group on no list, or 0 without memory. Linux: alloc_zspage().

        Whoever compresses frees memory thereby, and may use the last of it.
        """
        i: cython.int
        z: cython.long
        pfn: cython.long
        first: cython.long = 0
        for i in range(self.klass[k, 3]):
            pfn = self.buddy.alloc(
                0, MIGRATE_MOVABLE, nid, ZONE_MOVABLE, ALLOC_NO_WATERMARKS | ALLOC_KSWAPD,
                ~cython.cast(cython.ulong, 0),
            )  # fmt: skip
            if pfn < 0:
                self.free_chain(first)
                return 0
            self.zone_stat[self.frames.block[pfn >> PAGEBLOCK_ORDER].zone, NR_ZSPAGES] += 1
            self.frames.page[pfn].index = cython.cast(cython.uint, first)
            first = pfn
        z = self.free_zspage_list
        if z:
            self.free_zspage_list = self.zspage[z].nxt
        else:
            z = self.nr_zspages
            self.nr_zspages += 1
        self.zspage[z].klass = k
        self.zspage[z].inuse = self.zspage[z].objects = 0
        self.zspage[z].first = cython.cast(cython.uint, first)
        self.nr_room[k] += self.klass[k, 2]
        self.pages_allocated += self.klass[k, 3]
        return z

    def free_chain(self, first):
        """Give pages back that lead from one to the next."""
        pfn: cython.long = first
        nxt: cython.long
        while pfn:
            nxt = self.frames.page[pfn].index
            self.frames.page[pfn].index = 0
            self.zone_stat[self.frames.block[pfn >> PAGEBLOCK_ORDER].zone, NR_ZSPAGES] -= 1
            self.buddy.free(pfn, 0)
            pfn = nxt

    def free_zspage(self, z):
        """A group without objects, on no list, goes. Linux: __free_zspage()."""
        k: cython.int = self.zspage[z].klass
        self.free_chain(self.zspage[z].first)
        self.zspage[z].first = 0
        self.zspage[z].nxt = cython.cast(cython.uint, self.free_zspage_list)
        self.free_zspage_list = z
        self.nr_room[k] -= self.klass[k, 2]
        self.pages_allocated -= self.klass[k, 3]

    # ------------------------------------------------------------------------------ objects

    def link(self, z, key):
        """An object is in a group."""
        first: cython.uint = self.zspage[z].objects
        self.entry[key].zspage = cython.cast(cython.uint, z)
        self.entry[key].obj_nxt = first
        self.entry[key].obj_prv = 0
        if first:
            self.entry[first].obj_prv = cython.cast(cython.uint, key)
        self.zspage[z].objects = cython.cast(cython.uint, key)
        self.zspage[z].inuse += 1

    def unlink(self, key):
        """An object is in its group no more."""
        z: cython.uint = self.entry[key].zspage
        nxt: cython.uint = self.entry[key].obj_nxt
        prv: cython.uint = self.entry[key].obj_prv
        if nxt:
            self.entry[nxt].obj_prv = prv
        if prv:
            self.entry[prv].obj_nxt = nxt
        else:
            self.zspage[z].objects = nxt
        self.zspage[z].inuse -= 1

    def malloc(self, key, size, nid):
        """Store ``size`` bytes, at most a page, under a key that has nothing. False: no memory. Linux: zs_malloc()."""
        k: cython.int = self.class_of(size)
        group: cython.int
        z: cython.long = 0
        for group in range(_ALMOST_FULL, _EMPTY, -1):
            z = self.head[k * _GROUPS + group]
            if z:
                break
        if z:
            self.link(z, key)
            self.fix_fullness(z)
        else:
            z = self.alloc_zspage(k, nid)
            if z == 0:
                return False
            self.link(z, key)
            self.insert(z, self.group_of(z))
        self.entry[key].length = cython.cast(cython.ushort, size)
        self.nr_used[k] += 1
        self.nr_objects += 1
        self.bytes_stored += size
        return True

    def free(self, key):
        """Forget what a key has. Linux: zs_free()."""
        z: cython.uint = self.entry[key].zspage
        self.unlink(key)
        self.nr_used[self.zspage[z].klass] -= 1
        self.nr_objects -= 1
        self.bytes_stored -= self.entry[key].length
        self.entry[key].zspage = 0
        if self.fix_fullness(z) == _EMPTY:
            self.remove(z)
            self.free_zspage(z)

    # ------------------------------------------------------------------------------ compaction

    def can_compact(self, k):
        """Pages that would be free if a class's objects lay close. Linux: zs_can_compact()."""
        return (self.nr_room[k] - self.nr_used[k]) // self.klass[k, 2] * self.klass[k, 3]

    def isolate(self, k, first, last):
        """The first group on a class's lists from ``first`` to ``last``, off its list; or 0."""
        step: cython.int = 1 if first <= last else -1
        group: cython.int = first
        z: cython.long
        while True:
            z = self.head[k * _GROUPS + group]
            if z:
                self.remove(z)
                return z
            if group == last:
                return 0
            group += step

    def compact_class(self, k):
        """Move objects from the emptiest groups to the fullest; how many pages that freed. Linux: __zs_compact()."""
        freed: cython.long = 0
        dst: cython.long = 0
        src: cython.long
        key: cython.long
        while self.can_compact(k):
            if dst == 0:
                dst = self.isolate(k, _ALMOST_FULL, 1)
                if dst == 0:
                    break
            src = self.isolate(k, 1, _ALMOST_FULL)
            if src == 0:
                break
            while self.zspage[src].inuse and self.zspage[dst].inuse < self.klass[k, 2]:
                key = self.zspage[src].objects
                self.unlink(key)
                self.link(dst, key)
            if self.zspage[src].inuse == 0:
                self.free_zspage(src)
                freed += self.klass[k, 3]
            else:
                self.insert(src, self.group_of(src))
            if self.zspage[dst].inuse == self.klass[k, 2]:
                self.insert(dst, _FULL)
                dst = 0
        if dst:
            self.insert(dst, self.group_of(dst))
        return freed

    def compact(self):
        """Free pages by moving objects together; how many. Linux: zs_compact()."""
        k: cython.int
        freed: cython.long = 0
        with cython.nogil:
            for k in range(_CLASSES - 1, -1, -1):
                if self.klass[k, 0] == k:
                    freed += self.compact_class(k)
        self.pages_compacted += freed
        return freed

    def compactable(self):
        """Pages that compaction would free. Linux: zs_shrinker_count()."""
        k: cython.int
        pages: cython.long = 0
        for k in range(_CLASSES):
            if self.klass[k, 0] == k:
                pages += self.can_compact(k)
        return pages

    # ------------------------------------------------------------------------------ for checks

    def groups(self):
        """(class, list, number) of all groups, and the keys of their objects: for checks."""
        out = []
        for k in range(_CLASSES):
            for group in range(_GROUPS):
                z = int(self.head[k * _GROUPS + group])
                while z:
                    keys = []
                    key = int(self.zspage[z].objects)
                    while key:
                        keys.append(key)
                        key = int(self.entry[key].obj_nxt)
                    out.append((k, group, z, keys))
                    z = int(self.zspage[z].nxt)
        return out

    def pages_of(self, z: cython.long):
        """The frames of a group: for checks."""
        pfn: cython.long = self.zspage[z].first
        out = []
        while pfn:
            out.append(pfn)
            pfn = self.frames.page[pfn].index
        return out
