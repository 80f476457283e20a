# cython: language_level=3
"""KSM's records: an item for each page that ksmd has looked at, a node for each page that it has merged.

Items of an address space are a list by address. An item is in the *stable tree*, on the list of the node whose page
its address maps; or in the *unstable tree*, where it waits during one full scan for an equal page; or in neither. What
is the same has the same key here (fastpath/ksm.py), so both trees are tables of lists by key. Nodes of one key, once a
page has `max_page_sharing` items, are *dups* of a *chain*.

Linux: mm/ksm.c, struct ksm_rmap_item, struct ksm_stable_node, and who keeps them.

Simplified: tables by key, not trees by content; a chain is no record of its own, and ends with its last dup.
"""

import cython
import numpy as np
from cython import address

from mmfs.fastpath.frames import lazy_array, view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_ITEMS = 1 << 30
_MAX_NODES = 1 << 30
_MAX_MMS = 1 << 22
_BUCKETS = cython.declare(cython.long, 1 << 20)

_NO_TREE = cython.declare(cython.uchar, 0)
_UNSTABLE = cython.declare(cython.uchar, 1)
_STABLE = cython.declare(cython.uchar, 2)

ITEM_DTYPE = np.dtype([
    ("address", "i8"), ("key", "u8"), ("nxt", "u4"), ("mm", "u4"), ("anon_vma", "u4"), ("vma", "u4"), ("node", "u4"),
    ("after", "u4"), ("before", "u4"), ("turn", "u4"), ("tree", "u1"), ("age", "u1"), ("skips", "u1"), ("pad", "u1"),
])  # fmt: skip
"""``nxt``: in its address space; ``after``, ``before``: in its bucket or on its node's list."""
NODE_DTYPE = np.dtype([
    ("key", "u8"), ("kpfn", "i8"), ("pruned_ms", "i8"), ("first", "u4"), ("nr", "u4"), ("after", "u4"),
    ("before", "u4"), ("dup", "u4"), ("used", "u4"),
])  # fmt: skip
MM_DTYPE = np.dtype([("first", "u4"), ("rmap_items", "u4"), ("merging", "u4"), ("zero", "u4")])
"""Of an address space: its first item, ksm_rmap_items, ksm_merging_pages, ksm_zero_pages."""


class KsmTree:
    """Items and nodes of a machine. ``unmerging``: run is 2; counters as /sys/kernel/mm/ksm has them.

    ``turn``: the full scan; an item waits in the unstable tree of one. Linux: ksm_scan.seqnr.
    """

    def __init__(self, frames):
        self.frames = frames
        self.items = lazy_array(_MAX_ITEMS, ITEM_DTYPE)
        self.nodes = lazy_array(_MAX_NODES, NODE_DTYPE)
        self.mms = lazy_array(_MAX_MMS, MM_DTYPE)
        self.item = view(self.items)
        self.node = view(self.nodes)
        self.mm = view(self.mms)
        self.stable = view(lazy_array(_BUCKETS, np.uint32))
        self.unstable = view(lazy_array(_BUCKETS, np.uint32))
        self.stamp = view(lazy_array(_BUCKETS, np.uint32))
        self.next_item = self.next_node = 1
        self.free_item = self.free_node = 0
        self.turn = 1
        self.max_page_sharing = 256
        self.unmerging = False
        self.now_ms = 0
        self.prune_ms = 2000
        self.rmap_items = self.pages_shared = self.pages_sharing = self.pages_unshared = self.zero_pages = 0
        self.chains = self.dups = self.nr_nodes = 0

    def bucket(self, key):
        """Where things of a key are."""
        return cython.cast(cython.long, key & cython.cast(cython.ulong, _BUCKETS - 1))

    # ------------------------------------------------------------------------------ items

    def new_item(self, mm, addr, before):
        """A new item behind another of its address space, or the first. Linux: alloc_rmap_item()."""
        i: cython.long = self.free_item
        if i:
            self.free_item = self.item[i].nxt
        else:
            i = self.next_item
            self.next_item = i + 1
        it = address(self.item[i])
        it.address = addr
        it.mm = cython.cast(cython.uint, mm)
        it.key = 0
        it.anon_vma = it.vma = it.node = it.after = it.before = it.turn = 0
        it.tree = it.age = it.skips = 0
        if before:
            it.nxt = self.item[before].nxt
            self.item[before].nxt = cython.cast(cython.uint, i)
        else:
            it.nxt = self.mm[mm].first
            self.mm[mm].first = cython.cast(cython.uint, i)
        self.rmap_items += 1
        self.mm[mm].rmap_items += 1
        return i

    def free_next(self, mm, before):
        """Free the item behind another, or the first of an address space. Linux: free_rmap_item()."""
        i: cython.long = self.item[before].nxt if before else self.mm[mm].first
        self.remove_item(i)
        if before:
            self.item[before].nxt = self.item[i].nxt
        else:
            self.mm[mm].first = self.item[i].nxt
        self.item[i].nxt = cython.cast(cython.uint, self.free_item)
        self.item[i].mm = 0
        self.free_item = i
        self.rmap_items -= 1
        self.mm[mm].rmap_items -= 1

    def get_item(self, mm, before, addr):
        """The item of an address, those between ``before`` and it freed. Linux: get_next_rmap_item()."""
        i: cython.long = self.item[before].nxt if before else self.mm[mm].first
        while i and self.item[i].address < addr:
            self.free_next(mm, before)
            i = self.item[before].nxt if before else self.mm[mm].first
        if i and self.item[i].address == addr:
            return i
        return self.new_item(mm, addr, before)

    def remove_trailing(self, mm: cython.long, before: cython.long):
        """Free all items behind one, or all. Linux: remove_trailing_rmap_items()."""
        while (self.item[before].nxt if before else self.mm[mm].first) != 0:
            self.free_next(mm, before)

    def remove_item(self, i):
        """Take an item from its tree. Linux: remove_rmap_item_from_tree()."""
        it = address(self.item[i])
        if it.tree == _STABLE:
            if self.ksm_page(it.node) >= 0:  # or all of its items are gone from it
                self.leave_node(i)
        elif it.tree == _UNSTABLE:
            if it.turn == self.turn:
                if it.before:
                    self.item[it.before].after = it.after
                else:
                    self.unstable[self.bucket(it.key)] = it.after
                if it.after:
                    self.item[it.after].before = it.before
            self.pages_unshared -= 1
            it.tree = _NO_TREE
        it.after = it.before = 0

    # ------------------------------------------------------------------------------ the unstable tree

    def insert_unstable(self, i):
        """An item waits for an equal page until this full scan ends. Linux: unstable_tree_search_insert()."""
        it = address(self.item[i])
        b: cython.long = self.bucket(it.key)
        stamp: cython.uint = cython.cast(cython.uint, self.turn)
        if self.stamp[b] != stamp:
            self.stamp[b] = stamp
            self.unstable[b] = 0
        it.after = self.unstable[b]
        it.before = 0
        if it.after:
            self.item[it.after].before = cython.cast(cython.uint, i)
        self.unstable[b] = cython.cast(cython.uint, i)
        it.turn = cython.cast(cython.uint, self.turn)
        it.tree = _UNSTABLE
        self.pages_unshared += 1

    def search_unstable(self, key):
        """An item that waits with this key, or 0. Linux: unstable_tree_search_insert()."""
        b: cython.long = self.bucket(key)
        i: cython.long
        if self.stamp[b] != cython.cast(cython.uint, self.turn):
            return 0
        i = self.unstable[b]
        while i and self.item[i].key != key:
            i = self.item[i].after
        return i

    # ------------------------------------------------------------------------------ the stable tree

    def ksm_page(self, n):
        """The page of a node; -1: nobody has mapped it any more, and the node is no more. Linux: ksm_get_folio()."""
        kpfn: cython.long = self.node[n].kpfn
        if (
            self.frames.page[kpfn].flags & (PG_KSM | PG_ANON) == PG_KSM | PG_ANON
            and self.frames.page[kpfn].mapping == n
        ):
            return kpfn
        self.remove_node(n)
        return -1

    def append(self, i, n):
        """An item's address maps a node's page. Linux: stable_tree_append()."""
        it = address(self.item[i])
        it.node = cython.cast(cython.uint, n)
        it.after = self.node[n].first
        it.before = 0
        if it.after:
            self.item[it.after].before = cython.cast(cython.uint, i)
            self.pages_sharing += 1
        else:
            self.pages_shared += 1
        self.node[n].first = cython.cast(cython.uint, i)
        self.node[n].nr += 1
        it.tree = _STABLE
        self.mm[it.mm].merging += 1

    def leave_node(self, i):
        """Take an item off its node's list."""
        it = address(self.item[i])
        n: cython.long = it.node
        if it.before:
            self.item[it.before].after = it.after
        else:
            self.node[n].first = it.after
        if it.after:
            self.item[it.after].before = it.before
        if self.node[n].first:
            self.pages_sharing -= 1
        else:
            self.pages_shared -= 1
        self.node[n].nr -= 1
        self.mm[it.mm].merging -= 1
        it.tree = _NO_TREE
        it.node = it.anon_vma = it.after = it.before = 0

    def new_node(self, key, kpfn):
        """A node for a page that has been merged; a dup if there are others of its key. Linux: stable_tree_insert()."""
        n: cython.long = self.free_node
        b: cython.long = self.bucket(key)
        other: cython.long = self.stable[b]
        if n:
            self.free_node = self.node[n].after
        else:
            n = self.next_node
            self.next_node = n + 1
        while other and self.node[other].key != key:
            other = self.node[other].after
        node = address(self.node[n])
        node.key, node.kpfn, node.pruned_ms = key, kpfn, self.now_ms
        node.first = node.nr = node.dup = 0
        node.used = 1
        if other:
            if not self.node[other].dup:
                self.node[other].dup = 1
                self.node[other].pruned_ms = self.now_ms
                self.dups += 1
                self.chains += 1
            node.dup = 1
            node.pruned_ms = self.node[other].pruned_ms
            self.dups += 1
        node.after = self.stable[b]
        node.before = 0
        if node.after:
            self.node[node.after].before = cython.cast(cython.uint, n)
        self.stable[b] = cython.cast(cython.uint, n)
        self.nr_nodes += 1
        return n

    def remove_node(self, n):
        """A node goes; its items are in no tree. Linux: remove_node_from_stable_tree()."""
        node = address(self.node[n])
        b: cython.long = self.bucket(node.key)
        other: cython.long
        while node.first:
            self.leave_node(node.first)
        if node.before:
            self.node[node.before].after = node.after
        else:
            self.stable[b] = node.after
        if node.after:
            self.node[node.after].before = node.before
        if node.dup:
            self.dups -= 1
            other = self.stable[b]
            while other and self.node[other].key != node.key:
                other = self.node[other].after
            self.chains -= other == 0
        node.used = node.dup = node.before = 0
        node.kpfn = 0
        node.after = cython.cast(cython.uint, self.free_node)
        self.free_node = n
        self.nr_nodes -= 1

    def search_stable(self, key):
        """The node of a key that may have one more item, or 0. Linux: stable_tree_search(), stable_node_dup()."""
        n: cython.long = self.stable[self.bucket(key)]
        after: cython.long
        found: cython.long = 0
        nr: cython.long = 0
        prune: cython.bint = False
        while n:
            after = self.node[n].after
            if self.node[n].key == key and self.ksm_page(n) >= 0:
                nr += 1
                if nr == 1 and self.node[n].dup and self.now_ms - self.node[n].pruned_ms >= self.prune_ms:
                    self.node[n].pruned_ms = self.now_ms
                    prune = True
                if self.has_room(n) and (found == 0 or self.node[n].nr > self.node[found].nr):
                    found = n
                if found and nr > 1 and not prune:
                    return found
            n = after
        if found and nr == 1 and self.node[found].dup:
            self.node[found].dup = 0
            self.dups -= 1
            self.chains -= 1
        return found

    def has_room(self, n):
        """Whether one more item may go to a node. Linux: is_page_sharing_candidate()."""
        return self.node[n].nr < cython.cast(cython.uint, self.max_page_sharing)

    def remove_all_nodes(self):
        """Do away with the nodes whose pages nobody maps; how many are left. Linux: remove_all_stable_nodes()."""
        n: cython.long
        kpfn: cython.long
        for n in range(1, self.next_node):
            kpfn = self.ksm_page(n) if self.node[n].used else -1
            if kpfn >= 0 and self.frames.page[kpfn].mapcount == 0:
                self.frames.page[kpfn].mapping = 0
                self.remove_node(n)
        return self.nr_nodes

    def forget_unstable(self, mm: cython.long):
        """What an address space holds has changed: none of its items waits for an equal page any more."""
        i: cython.long = self.mm[mm].first
        while i:
            if self.item[i].tree == _UNSTABLE:
                self.remove_item(i)
            i = self.item[i].nxt

    def unmap_zero(self, mm, entry):
        """An entry is cleared that is neither a page's nor a swapped page's: it may be a zero page that KSM has put
        there. Linux: ksm_might_unmap_zero_page()."""
        if entry & PTE_DIRTY:
            self.zero_pages -= 1
            self.mm[mm].zero -= 1

    def map_zero(self, mm):
        """KSM has put a zero page in the place of a page, or fork has copied one. Linux: ksm_map_zero_page()."""
        self.zero_pages += 1
        self.mm[mm].zero += 1
