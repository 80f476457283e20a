# cython: language_level=3
"""The nodes of the trees in which files' pages are found, as objects of the slab, and the list of those worth nothing.

64 slots are one node. It takes an object when its first slot is filled, for which the running task's cgroup pays, and
gives it back with the last. A node that holds nothing but shadows of evicted pages is on a list of its cgroup and node
of the machine; when there are more of them than could tell anything, a shrinker has the oldest go.

A page that was written has a buffer head, an object too, for which the page's cgroup pays.

By node (slot // 64): ``entries`` uint8: slots that are filled, ``values`` uint8: those that hold shadows, ``objects``
int64; ``lists`` int32: the lruvec on whose list it is, + 1. By slot: ``buffers`` int64.

Linux: lib/xarray.c, xas_alloc(), xas_free_nodes(); mm/workingset.c, shadow_nodes; fs/buffer.c, alloc_buffer_head().

Simplified: what finds no memory even in the reserves has no object.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_NODE_SHIFT = cython.declare(cython.int, 6)


class XaNodes:
    """The nodes over an arena of slots, and buffer heads, and how many there are.

    ``node_cache`` and ``buffer_cache`` are caches of ``slub``, -1 before there are any.
    """

    def __init__(self, slub, slots):
        nr: cython.long = len(slots)
        self.slub = slub
        self.memcg = slub.objcg.memcg
        self.slot = view(slots)
        self.entries = lazy_array(nr >> 6, np.uint8)
        self.values = lazy_array(nr >> 6, np.uint8)
        self.objects = lazy_array(nr >> 6, np.int64)
        self.lists = lazy_array(nr >> 6, np.int32)
        self.buffers = lazy_array(nr, np.int64)
        self.entry = view(self.entries)
        self.value = view(self.values)
        self.obj = view(self.objects)
        self.on_list = view(self.lists)
        self.buffer = view(self.buffers)
        self.nxt = view(lazy_array(nr >> 6, np.uint32))
        self.prv = view(lazy_array(nr >> 6, np.uint32))
        self.first = view(lazy_array(MAX_MEMCGS * self.memcg.nr_nodes, np.uint32))
        self.last = view(lazy_array(MAX_MEMCGS * self.memcg.nr_nodes, np.uint32))
        self.nr_listed = view(lazy_array(MAX_MEMCGS * self.memcg.nr_nodes, np.int64))
        self.node_cache = self.buffer_cache = -1
        self.nr_nodes = self.nr_buffers = 0

    def store(self, at, value):
        """Fill or clear a slot. Linux: xas_store(), workingset_update_node()."""
        node: cython.long = at >> _NODE_SHIFT
        old: cython.ulong = self.slot[at]
        self.slot[at] = value
        if value and not old:
            if self.entry[node] == 0:
                self.nr_nodes += 1
                if self.node_cache >= 0:
                    self.obj[node] = self.slub.alloc_atomic(self.node_cache, self.slub.objcg.current())
            self.entry[node] += 1
        elif old and not value:
            self.entry[node] -= 1
        if value & SLOT_SHADOW:
            self.value[node] += 1
        if old & SLOT_SHADOW:
            self.value[node] -= 1
        if self.entry[node] == 0:
            if old:
                self.free_node(node)
        elif self.entry[node] == self.value[node]:
            if self.on_list[node] == 0:
                self.list_add(node)
        elif self.on_list[node]:
            self.list_del(node)

    def free_node(self, node):
        """The last slot of a node is empty. Linux: xas_delete_node()."""
        if self.on_list[node]:
            self.list_del(node)
        self.nr_nodes -= 1
        if self.obj[node]:
            self.slub.free(self.obj[node])
        self.obj[node] = 0

    # ------------------------------------------------------------------------------ nodes of shadows

    def lruvec_of(self, node):
        """The list for a node: of its object's cgroup and node of the machine."""
        if self.obj[node] == 0:
            return 0
        return (
            self.slub.memcg_of(self.obj[node]) * self.memcg.nr_nodes
            + self.slub.slab[self.obj[node] >> 16].nid
        )

    def list_add(self, node):
        """The youngest of its list. Linux: list_lru_add_obj()."""
        lruvec: cython.long = self.lruvec_of(node)
        last: cython.uint = self.last[lruvec]
        self.on_list[node] = cython.cast(cython.int, lruvec + 1)
        self.prv[node] = last
        self.nxt[node] = 0
        if self.nr_listed[lruvec]:
            self.nxt[last] = cython.cast(cython.uint, node)
        else:
            self.first[lruvec] = cython.cast(cython.uint, node)
        self.last[lruvec] = cython.cast(cython.uint, node)
        self.nr_listed[lruvec] += 1
        self.memcg.node_stat[lruvec % self.memcg.nr_nodes, WORKINGSET_NODES] += 1

    def list_del(self, node):
        """Linux: list_lru_del_obj()."""
        lruvec: cython.long = self.on_list[node] - 1
        self.on_list[node] = 0
        if self.first[lruvec] == cython.cast(cython.uint, node):
            self.first[lruvec] = self.nxt[node]
        else:
            self.nxt[self.prv[node]] = self.nxt[node]
        if self.last[lruvec] == cython.cast(cython.uint, node):
            self.last[lruvec] = self.prv[node]
        else:
            self.prv[self.nxt[node]] = self.prv[node]
        self.nr_listed[lruvec] -= 1
        self.memcg.node_stat[lruvec % self.memcg.nr_nodes, WORKINGSET_NODES] -= 1

    def nr_shadow_nodes(self, lruvec: cython.long):
        """Linux: list_lru_shrink_count()."""
        return self.nr_listed[lruvec]

    def scan_shadow_nodes(self, lruvec: cython.long, nr_to_scan: cython.long):
        """Have the oldest nodes of shadows go; how many went. Linux: scan_shadow_nodes(), shadow_lru_isolate()."""
        i: cython.long
        node: cython.long
        at: cython.long
        nr: cython.long = min(nr_to_scan, self.nr_listed[lruvec])
        for i in range(nr):
            node = self.first[lruvec]
            for at in range(node << _NODE_SHIFT, (node + 1) << _NODE_SHIFT):
                if self.slot[at] & SLOT_SHADOW:  # a file's first page is in no node
                    self.slot[at] = 0
            self.entry[node] = self.value[node] = 0
            self.memcg.mod_lruvec_state(lruvec, lruvec % self.memcg.nr_nodes, WORKINGSET_NODERECLAIM, 1)
            self.free_node(node)
        return nr

    def reparent(self, memcg: cython.long):
        """A memory cgroup is removed: its lists become its parent's. Linux: memcg_reparent_list_lrus()."""
        nid: cython.long
        node: cython.long
        for nid in range(self.memcg.nr_nodes):
            while self.nr_listed[memcg * self.memcg.nr_nodes + nid]:
                node = self.first[memcg * self.memcg.nr_nodes + nid]
                self.list_del(node)
                self.list_add(node)

    # ------------------------------------------------------------------------------ buffer heads

    def add_buffer(self, at, memcg):
        """The page of a slot gets a buffer head. Linux: alloc_buffer_head()."""
        self.nr_buffers += 1
        if self.buffer_cache >= 0:
            self.buffer[at] = self.slub.alloc_atomic(self.buffer_cache, self.slub.objcg.from_memcg(memcg))

    def free_buffer(self, at):
        """Linux: free_buffer_head()."""
        self.nr_buffers -= 1
        if self.buffer[at]:
            self.slub.free(self.buffer[at])
        self.buffer[at] = 0

    # ------------------------------------------------------------------------------ for mm

    def move(self, old: cython.long, new: cython.long, nr: cython.long):
        """``nr`` slots from ``old`` on, with their nodes, are from ``new`` on from now on."""
        i: cython.long
        for i in range(nr):
            self.slot[new + i] = self.slot[old + i]
            self.buffer[new + i] = self.buffer[old + i]
            self.slot[old + i] = 0
            self.buffer[old + i] = 0
        for i in range(nr >> _NODE_SHIFT):
            self.move_node((old >> _NODE_SHIFT) + i, (new >> _NODE_SHIFT) + i)

    def move_node(self, old, new):
        """One node, which keeps its place on its list."""
        lruvec: cython.long = self.on_list[old] - 1
        self.entry[new], self.value[new], self.obj[new] = self.entry[old], self.value[old], self.obj[old]
        self.entry[old] = self.value[old] = 0
        self.obj[old] = 0
        self.on_list[new] = self.on_list[old]
        self.on_list[old] = 0
        if lruvec < 0:
            return
        self.nxt[new], self.prv[new] = self.nxt[old], self.prv[old]
        if self.first[lruvec] == cython.cast(cython.uint, old):
            self.first[lruvec] = cython.cast(cython.uint, new)
        else:
            self.nxt[self.prv[new]] = cython.cast(cython.uint, new)
        if self.last[lruvec] == cython.cast(cython.uint, old):
            self.last[lruvec] = cython.cast(cython.uint, new)
        else:
            self.prv[self.nxt[new]] = cython.cast(cython.uint, new)
