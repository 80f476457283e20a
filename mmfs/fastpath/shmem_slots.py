# cython: language_level=3
"""Folios of several pages in the slots of shared memory, and the swap entries that they leave there.

A folio of an order fills as many slots as it has pages, each with its own frame, that begin at a multiple of their
number. Swapped out, it is as many swap entries, each of which says so (SLOT_ORDER_SHIFT); Linux has one entry of this
order in either case. One of 64 pages and more stands there in a node above those of slots: so the nodes of its slots
(fastpath/xa_nodes.py) count nothing.

Linux: lib/xarray.c, xas_get_order(), xas_split(); mm/shmem.c, shmem_add_to_page_cache().

Simplified: the node above that holds the entry of a large folio is no object of the slab.
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_NODE_SHIFT = cython.declare(cython.int, 6)
_ORDER_MASK = cython.declare(cython.ulong, 15)


class ShmemSlots:
    """The slots of all files of shared memory. ``nr_large``: entries of an order above 0 that they have."""

    def __init__(self, folios):
        self.folios = folios
        self.frames = folios.frames
        self.memcg = folios.memcg
        self.mapping = self.folios.mapping
        self.nr_large = 0

    def order_at(self, m, index):
        """The order of what is in a slot, 0 if that is nothing. Linux: xas_get_order()."""
        value: cython.ulong
        if index >= self.mapping[m].slots:
            return 0
        value = self.folios.slot[self.mapping[m].base + index]
        if value & SLOT_SWAP:
            return cython.cast(cython.int, value >> SLOT_ORDER_SHIFT & _ORDER_MASK)
        if value == 0 or value & SLOT_SHADOW or not self.frames.page[value - 1].flags & PG_TAIL:
            return 0
        return self.frames.page[value - 1].mlock_count

    def start_of(self, index, order):
        """Where an entry of this order around an index begins."""
        return index & -(cython.cast(cython.long, 1) << order)

    def is_vacant(self, m, first, order):
        """Whether there is nothing in so many slots. Linux: mm/shmem.c, shmem_suitable_orders()."""
        at: cython.long = self.mapping[m].base + first
        node: cython.long
        i: cython.long
        if order < _NODE_SHIFT:
            for i in range(at, at + (1 << order)):
                if self.folios.slot[i]:
                    return False
            return True
        if self.folios.slot[at]:  # a file's first page is in no node
            return False
        for node in range(at >> _NODE_SHIFT, (at + (1 << order)) >> _NODE_SHIFT):
            if self.folios.nodes.entry[node] or self.folios.slot[node << _NODE_SHIFT | 1]:
                return False
        return True

    def store(self, m, index, value, order):
        """Store what is part of an entry of this order, or clear it, into a slot."""
        if order < _NODE_SHIFT:
            self.folios.set_slot(m, index, value)
        else:
            self.folios.slot[self.mapping[m].base + index] = value

    def insert(self, m, first, folio):
        """Have a folio found in the page cache. Linux: shmem_add_to_page_cache()."""
        pfn: cython.long = self.frames.folio_pfn(folio)
        order: cython.int = self.frames.folio_order(folio)
        nr: cython.long = cython.cast(cython.long, 1) << order
        i: cython.long
        self.frames.page[folio].mapping = cython.cast(cython.uint, m)
        self.frames.page[folio].index = cython.cast(cython.uint, first & INDEX_MASK)
        for i in range(nr):
            self.store(m, first + i, pfn + i + 1, order)
            self.frames.page[pfn + i].mapping = cython.cast(cython.uint, m)
            self.frames.page[pfn + i].index = cython.cast(cython.uint, (first + i) & INDEX_MASK)
        self.count_cached(m, folio, nr)

    def insert_swapped(self, m, first, folio):
        """The same where its swap entries stand, which may have been split."""
        order: cython.int = self.frames.folio_order(folio)
        i: cython.long
        if self.order_at(m, first) == order:
            self.nr_large -= 1
        else:
            for i in range(first, first + (1 << order)):
                self.folios.set_slot(m, i, 0)
        self.insert(m, first, folio)

    def remove(self, folio, swp):
        """Take a folio out of the page cache; the swap slot ``swp``, and what follows it, stand there then if it is
        not 0. Linux: shmem_delete_from_page_cache(), filemap_remove_folio().
        """
        m: cython.long = self.frames.page[folio].mapping
        first: cython.long = self.frames.page[folio].index
        pfn: cython.long = self.frames.folio_pfn(folio)
        order: cython.int = self.frames.folio_order(folio)
        nr: cython.long = cython.cast(cython.long, 1) << order
        entry: cython.ulong = SLOT_SWAP | cython.cast(cython.ulong, order) << SLOT_ORDER_SHIFT
        i: cython.long
        self.count_cached(m, folio, -nr)
        self.nr_large += swp != 0
        for i in range(nr):
            self.store(m, first + i, entry | cython.cast(cython.ulong, swp + i) if swp else 0, order)
            self.frames.page[pfn + i].mapping = 0
        self.frames.page[folio].mapping = 0

    def count_cached(self, m, folio, nr):
        """Linux: shmem_update_stats()."""
        self.nr_large += 1 if nr > 0 else -1
        self.mapping[m].nrpages += nr
        if folio < self.frames.mthp:
            self.memcg.mod_folio_state(folio, NR_SHMEM_THPS, nr)
        self.memcg.mod_folio_state(folio, NR_FILE_PAGES, nr)
        self.memcg.mod_folio_state(folio, NR_SHMEM, nr)

    def split(self, m, first, order):
        """Have as many entries in place of one. Linux: xas_split(), shmem_split_large_entry()."""
        at: cython.long = self.mapping[m].base + first
        value: cython.ulong
        i: cython.long
        for i in range(1 << order):
            value = self.folios.slot[at + i] & ~(_ORDER_MASK << SLOT_ORDER_SHIFT)
            self.store(m, first + i, 0, order)
            self.folios.set_slot(m, first + i, value)
        self.nr_large -= 1

    def clear(self, m, first, order):
        """Have nothing in place of a swap entry of this order."""
        i: cython.long
        for i in range(first, first + (1 << order)):
            self.store(m, i, 0, order)
        self.nr_large -= 1

    # ------------------------------------------------------------------------------ for mm

    def order(self, m: cython.long, index: cython.long):
        """order_at(), for policy."""
        return self.order_at(m, index) if self.nr_large else 0
