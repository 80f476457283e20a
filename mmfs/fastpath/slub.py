# cython: language_level=3
"""The slab allocator object by object: which slab an object lies in, and on which list that slab is.

A slab is a record (SLAB_DTYPE) over a few frames that are cut into objects; an object is a number, ``slab << 16 |
index``, which whoever uses it keeps and gives back. So a slab goes back to the page allocator only when the last of
its objects is freed, and a cache of which a few objects survive everywhere stays as large as it was.

Objects come from the slab that the CPU works on; when that is used up, from the CPU's list of partial slabs, from
the node's, from another node's that has many, from the page allocator. A full slab of which an object is freed joins
the CPU's list; what is too much for that goes to the node's, where empty slabs beyond ``min_partial`` are given up.

Each object has an entry (uint32): the next free one, or, taken, the objcg that pays for it (fastpath/obj_cgroup.py).

Linux: mm/slub.c.

Simplified: the objects of a slab are handed out in order, not shuffled; vectors of objcgs take no memory of their own.
"""

import cython
import numpy as np
from cython import address

from mmfs.fastpath.frames import lazy_array, view
from mmfs.mm_types import KMEM_CACHE_CPU_DTYPE, KMEM_CACHE_DTYPE, KMEM_CACHE_NODE_DTYPE, SLAB_DTYPE

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_CACHES = 1 << 12
_MAX_SLABS = 1 << 28
_MAX_OBJECTS = 1 << 36
_MAX_SLAB_OBJECTS = 1 << 15
_SHRINK_PROMOTE_MAX = cython.declare(cython.int, 32)


class Slub:
    """All slabs of a machine.

    ``caches`` KMEM_CACHE_DTYPE; ``nodes`` KMEM_CACHE_NODE_DTYPE [cache * nr_nodes + node]; ``cpus``
    KMEM_CACHE_CPU_DTYPE [cache * nr_cpus + cpu]; ``slabs`` SLAB_DTYPE; ``entries`` uint32 from ``slabs[].base`` on.
    """

    def __init__(self, objcgs, vmstat):
        self.objcg = objcgs
        self.buddy = objcgs.buddy
        self.frames = self.buddy.frames
        self.nr_nodes = objcgs.nr_nodes
        self.nr_cpus = self.buddy.nr_cpus
        self.caches = np.zeros(_MAX_CACHES, KMEM_CACHE_DTYPE)
        self.nodes = lazy_array(_MAX_CACHES * self.nr_nodes, KMEM_CACHE_NODE_DTYPE)
        self.cpus = lazy_array(_MAX_CACHES * self.nr_cpus, KMEM_CACHE_CPU_DTYPE)
        self.slabs = lazy_array(_MAX_SLABS, SLAB_DTYPE)
        self.entries = lazy_array(_MAX_OBJECTS, np.uint32)
        self.cache = view(self.caches)
        self.node = view(self.nodes)
        self.cpu = view(self.cpus)
        self.slab = view(self.slabs)
        self.entry = view(self.entries)
        self.free_slabs = view(np.zeros(_MAX_SLAB_OBJECTS + 1, np.uint32))
        self.node_stat = view(vmstat.node_stat)
        self.end = 1
        self.end_of_entries = 0
        self.defrag_turn = 0

    # ------------------------------------------------------------------------------ slabs and pages

    def new_record(self, objects):
        """A record with room for the entries of so many objects, one that was used before if there is one."""
        slab: cython.long = self.free_slabs[objects]
        if slab:
            self.free_slabs[objects] = self.slab[slab].nxt
            return slab
        slab = self.end
        self.end += 1
        self.slab[slab].base = self.end_of_entries
        self.end_of_entries += objects
        return slab

    def add_slab(self, cache, pfn, order):
        """Pages become a slab, on no list yet. Linux: allocate_slab(), account_slab()."""
        i: cython.long
        objects: cython.int = (PAGE_SIZE << order) // self.cache[cache].size
        nid: cython.long = self.buddy.zone[self.frames.block[pfn >> PAGEBLOCK_ORDER].zone].nid
        slab: cython.long = self.new_record(objects)
        s = address(self.slab[slab])
        n = address(self.node[cache * self.nr_nodes + nid])
        s.pfn = pfn
        s.cache = cython.cast(cython.ushort, cache)
        s.nid = cython.cast(cython.ushort, nid)
        s.objects = cython.cast(cython.ushort, objects)
        s.order = cython.cast(cython.uchar, order)
        s.inuse = s.fresh = 0
        s.freelist = SLAB_NO_OBJECT
        s.state = SLAB_FULL
        n.nr_slabs += 1
        n.total_objects += objects
        self.node_stat[nid, self.cache[cache].stat_item] += PAGE_SIZE << order
        for i in range(pfn, pfn + (1 << order)):
            self.frames.page[i].flags = PG_SLAB | PG_TAIL
        self.frames.page[pfn].flags = PG_SLAB | PG_HEAD if order else PG_SLAB
        return slab

    def discard(self, slab):
        """A slab without objects, on no list, goes back to the page allocator. Linux: discard_slab(), __free_slab()."""
        i: cython.long
        s = address(self.slab[slab])
        n = address(self.node[s.cache * self.nr_nodes + s.nid])
        n.nr_slabs -= 1
        n.total_objects -= s.objects
        self.node_stat[s.nid, self.cache[s.cache].stat_item] -= PAGE_SIZE << s.order
        for i in range(s.pfn, s.pfn + (1 << s.order)):
            self.frames.page[i].flags = 0
        s.state = SLAB_NONE
        s.nxt = self.free_slabs[s.objects]
        self.free_slabs[s.objects] = cython.cast(cython.uint, slab)
        self.buddy.free(s.pfn, s.order)

    def new_slab(self, cache, nid):
        """A slab from the page allocator, if that has free memory; 0 if not. Linux: allocate_slab()."""
        c = address(self.cache[cache])
        pfn: cython.long = self.buddy.alloc(
            c.order, c.migratetype, cython.cast(cython.int, nid), c.highest_zoneidx, ALLOC_WMARK_LOW | ALLOC_KSWAPD,
            self.buddy.mems_allowed,
        )  # fmt: skip
        return self.add_slab(cache, pfn, c.order) if pfn >= 0 else 0

    # ------------------------------------------------------------------------------ the nodes' lists

    def add_partial(self, slab, tail):
        """Linux: add_partial()."""
        s = address(self.slab[slab])
        n = address(self.node[s.cache * self.nr_nodes + s.nid])
        s.state = SLAB_NODE_PARTIAL
        n.nr_partial += 1
        n.partial_free += s.objects - s.inuse
        if tail:
            s.nxt, s.prv = 0, n.last
            if n.last:
                self.slab[n.last].nxt = cython.cast(cython.uint, slab)
            else:
                n.first = cython.cast(cython.uint, slab)
            n.last = cython.cast(cython.uint, slab)
        else:
            s.nxt, s.prv = n.first, 0
            if n.first:
                self.slab[n.first].prv = cython.cast(cython.uint, slab)
            else:
                n.last = cython.cast(cython.uint, slab)
            n.first = cython.cast(cython.uint, slab)

    def remove_partial(self, slab):
        """Linux: remove_partial()."""
        s = address(self.slab[slab])
        n = address(self.node[s.cache * self.nr_nodes + s.nid])
        n.nr_partial -= 1
        n.partial_free -= s.objects - s.inuse
        if s.nxt:
            self.slab[s.nxt].prv = s.prv
        else:
            n.last = s.prv
        if s.prv:
            self.slab[s.prv].nxt = s.nxt
        else:
            n.first = s.nxt

    def put_partial(self, slab, tail):
        """A slab with free objects that no CPU has goes to its node, or away if that has enough empty ones."""
        s = address(self.slab[slab])
        if s.inuse == 0 and (
            self.node[s.cache * self.nr_nodes + s.nid].nr_partial >= self.cache[s.cache].min_partial
        ):
            self.discard(slab)
        else:
            self.add_partial(slab, tail)

    def get_partial_node(self, cache, nid, at):
        """A partial slab of a node, and some more for the CPU's list; 0: it has none. Linux: get_partial_node()."""
        n = address(self.node[cache * self.nr_nodes + nid])
        found: cython.long = n.first
        slab: cython.long
        more: cython.long = 0
        enough: cython.long = self.cache[cache].cpu_partial_slabs // 2
        if found == 0:
            return 0
        self.remove_partial(found)
        while n.first and self.cache[cache].cpu_partial_slabs:
            slab = n.first
            self.remove_partial(slab)
            self.put_cpu_partial(at, slab, False)
            more += 1
            if more > enough:
                break
        return found

    def get_any_partial(self, cache, nid, at):
        """A partial slab of another node that has many. Linux: get_any_partial()."""
        i: cython.Py_ssize_t
        zone: cython.long
        slab: cython.long
        c = address(self.cache[cache])
        self.defrag_turn = (self.defrag_turn + 1) % 1024
        if c.remote_node_defrag_ratio == 0 or self.defrag_turn > c.remote_node_defrag_ratio:
            return 0
        for i in range(self.buddy.nr_zones):
            zone = self.buddy.zonelist[nid, i]
            if zone < 0:
                break
            z = address(self.buddy.zone[zone])
            if z.zid <= c.highest_zoneidx and self.node[cache * self.nr_nodes + z.nid].nr_partial > c.min_partial:
                slab = self.get_partial_node(cache, z.nid, at)
                if slab:
                    return slab
        return 0

    # ------------------------------------------------------------------------------ the CPUs' lists

    def put_cpu_partial(self, at, slab, drain):
        """A slab joins a CPU's list, which goes to the nodes if it is long. Linux: put_cpu_partial()."""
        cpu = address(self.cpu[at])
        old: cython.long = cpu.partial
        if old and drain and cpu.partial_slabs >= self.cache[self.slab[slab].cache].cpu_partial_slabs:
            cpu.partial = 0
            cpu.partial_slabs = 0
        else:
            old = 0
        self.slab[slab].nxt = cpu.partial
        self.slab[slab].state = SLAB_CPU_PARTIAL
        cpu.partial = cython.cast(cython.uint, slab)
        cpu.partial_slabs += 1
        self.put_partials(old)

    def put_partials(self, slab):
        """The slabs of a CPU's list go to their nodes. Linux: __put_partials()."""
        nxt: cython.long
        while slab:
            nxt = self.slab[slab].nxt
            self.put_partial(slab, True)
            slab = nxt

    def deactivate(self, slab):
        """A CPU works on a slab no longer. Linux: deactivate_slab()."""
        if self.slab[slab].inuse == self.slab[slab].objects:
            self.slab[slab].state = SLAB_FULL
        else:
            self.put_partial(slab, False)

    def refill(self, cache, at):
        """Have a CPU work on a slab with free objects; 0: there is no memory for one. Linux: ___slab_alloc()."""
        nid: cython.long = self.buddy.cpu_node[self.buddy.cpu]
        cpu = address(self.cpu[at])
        slab: cython.long = cpu.slab
        if slab:
            self.slab[slab].state = SLAB_FULL
            cpu.slab = 0
        slab = cpu.partial
        if slab:
            cpu.partial = self.slab[slab].nxt
            cpu.partial_slabs -= 1
        else:
            slab = self.get_partial_node(cache, nid, at)
            if slab == 0:
                slab = self.get_any_partial(cache, nid, at)
            if slab == 0:
                slab = self.new_slab(cache, nid)
        if slab:
            self.slab[slab].state = SLAB_CPU
            cpu.slab = cython.cast(cython.uint, slab)
        return slab

    def give_slab(self, cache, pfn, order):
        """Pages that the slow path has found become the running CPU's slab. Linux: ___slab_alloc(), retry_load_slab."""
        at: cython.long = cache * self.nr_cpus + self.buddy.cpu
        slab: cython.long = self.add_slab(cache, pfn, order)
        if self.cpu[at].slab:
            self.deactivate(self.cpu[at].slab)
        self.slab[slab].state = SLAB_CPU
        self.cpu[at].slab = cython.cast(cython.uint, slab)

    # ------------------------------------------------------------------------------ objects

    def take(self, cache):
        """An object that nobody pays for, or 0: no memory. Linux: slab_alloc_node()."""
        at: cython.long = cache * self.nr_cpus + self.buddy.cpu
        slab: cython.long = self.cpu[at].slab
        index: cython.long
        if slab == 0 or self.slab[slab].inuse == self.slab[slab].objects:
            slab = self.refill(cache, at)
            if slab == 0:
                return 0
        s = address(self.slab[slab])
        index = s.freelist
        if index == SLAB_NO_OBJECT:
            index = s.fresh
            s.fresh += 1
        else:
            s.freelist = cython.cast(cython.ushort, self.entry[s.base + index])
        s.inuse += 1
        self.entry[s.base + index] = SLAB_OBJECT_TAKEN
        self.cache[cache].nr_inuse += 1
        return slab << 16 | index

    def give_back(self, slab, index):
        """An object that nobody pays for any more is free. Linux: do_slab_free(), __slab_free()."""
        s = address(self.slab[slab])
        n = address(self.node[s.cache * self.nr_nodes + s.nid])
        self.entry[s.base + index] = s.freelist
        s.freelist = cython.cast(cython.ushort, index)
        s.inuse -= 1
        self.cache[s.cache].nr_inuse -= 1
        if s.state == SLAB_FULL:
            self.put_cpu_partial(s.cache * self.nr_cpus + self.buddy.cpu, slab, True)
        elif s.state == SLAB_NODE_PARTIAL:
            n.partial_free += 1
            if s.inuse == 0 and n.nr_partial >= self.cache[s.cache].min_partial:
                self.remove_partial(slab)
                self.discard(slab)

    def alloc(self, cache, objcg, force):
        """An object that an objcg pays for: 0: no memory, -1: a limit is hit. Linux: kmem_cache_alloc()."""
        obj: cython.long = self.take(cache)
        size: cython.long
        slab: cython.long
        if obj == 0 or objcg == 0:
            return obj
        slab = obj >> 16
        size = self.cache[cache].size + SLAB_OBJ_EXT_BYTES
        if not self.objcg.charge(objcg, size, force):
            self.give_back(slab, obj & 0xFFFF)
            return -1
        self.entry[self.slab[slab].base + (obj & 0xFFFF)] |= cython.cast(cython.uint, objcg)
        self.objcg.mod_state(objcg, self.slab[slab].nid, self.cache[cache].stat_item, size)
        return obj

    def alloc_atomic(self, cache, objcg):
        """An object whatever limits and watermarks say; 0: there is no memory at all. Linux: GFP_NOWAIT, GFP_ATOMIC."""
        order: cython.int = 0
        pfn: cython.long
        obj: cython.long = self.alloc(cache, objcg, True)
        if obj:
            return obj
        while PAGE_SIZE << order < self.cache[cache].size:
            order += 1
        pfn = self.buddy.alloc(
            order, self.cache[cache].migratetype, self.buddy.cpu_node[self.buddy.cpu],
            self.cache[cache].highest_zoneidx, ALLOC_WMARK_MIN | ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK | ALLOC_KSWAPD,
            ~cython.cast(cython.ulong, 0),
        )  # fmt: skip
        if pfn < 0:
            return 0
        self.give_slab(cache, pfn, order)
        return self.alloc(cache, objcg, True)

    def memcg_of(self, obj):
        """The memory cgroup whose objcg pays for an object. Linux: mem_cgroup_from_slab_obj()."""
        objcg: cython.uint = self.entry[self.slab[obj >> 16].base + (obj & 0xFFFF)] & ~SLAB_OBJECT_TAKEN
        return self.objcg.row[objcg]

    def free(self, obj):
        """Give an object back; False: it is none that is in use. Linux: kmem_cache_free()."""
        slab: cython.long = obj >> 16
        index: cython.long = obj & 0xFFFF
        size: cython.long
        objcg: cython.int
        entry: cython.uint
        if slab <= 0 or slab >= self.end or self.slab[slab].state == SLAB_NONE or index >= self.slab[slab].fresh:
            return False
        entry = self.entry[self.slab[slab].base + index]
        if not entry & SLAB_OBJECT_TAKEN:
            return False
        objcg = entry & ~SLAB_OBJECT_TAKEN
        if objcg:
            size = self.cache[self.slab[slab].cache].size + SLAB_OBJ_EXT_BYTES
            self.objcg.mod_state(objcg, self.slab[slab].nid, self.cache[self.slab[slab].cache].stat_item, -size)
            self.objcg.uncharge(objcg, size)
        self.give_back(slab, index)
        return True

    def alloc_bulk(self, cache: cython.long, objcg: cython.int, force: cython.bint, out: cython.long[::1]):
        """Fill ``out`` (int64) with objects; how many there were: ``alloc()`` tells of the next why it is not there."""
        i: cython.Py_ssize_t
        n: cython.Py_ssize_t = out.shape[0]
        with cython.nogil:
            for i in range(n):
                out[i] = self.alloc(cache, objcg, force)
                if out[i] <= 0:
                    n = i
                    break
        return n

    def free_bulk(self, objects: cython.long[::1]):
        """Give objects back in the order given; how many were in use."""
        i: cython.Py_ssize_t
        nr: cython.long = 0
        with cython.nogil:
            for i in range(objects.shape[0]):
                nr += self.free(objects[i])
        return nr

    # ------------------------------------------------------------------------------ shrinking

    def flush_all(self, cache: cython.long):
        """No CPU works on, or keeps, a slab of a cache. Linux: flush_all()."""
        cpu: cython.long
        at: cython.long
        slab: cython.long
        for cpu in range(self.nr_cpus):
            at = cache * self.nr_cpus + cpu
            slab = self.cpu[at].slab
            self.cpu[at].slab = 0
            if slab:
                self.deactivate(slab)
            slab = self.cpu[at].partial
            self.cpu[at].partial = 0
            self.cpu[at].partial_slabs = 0
            self.put_partials(slab)

    def shrink(self, cache: cython.long):
        """Give up the empty slabs and sort the others, the fullest first; how many went. Linux: kmem_cache_shrink()."""
        nid: cython.long
        nr: cython.long = 0
        self.flush_all(cache)
        for nid in range(self.nr_nodes):
            nr += self.shrink_node(cache, nid)
        return nr

    def shrink_node(self, cache, nid):
        """Linux: __kmem_cache_do_shrink(), for one node."""
        n = address(self.node[cache * self.nr_nodes + nid])
        slab: cython.long = n.first
        nxt: cython.long
        last: cython.long = n.last
        free: cython.long
        nr: cython.long = 0
        while slab:
            nxt = self.slab[slab].nxt
            if self.slab[slab].inuse == 0:
                self.remove_partial(slab)
                self.discard(slab)
                nr += 1
            if slab == last:
                break
            slab = nxt
        for free in range(_SHRINK_PROMOTE_MAX, 0, -1):
            self.promote(cache * self.nr_nodes + nid, free)
        return nr

    def promote(self, at, free):
        """The partial slabs of a node with so many free objects move to the front, in the reverse of their order."""
        slab: cython.long = self.node[at].first
        last: cython.long = self.node[at].last
        nxt: cython.long
        while slab:
            nxt = self.slab[slab].nxt
            if self.slab[slab].objects - self.slab[slab].inuse == free:
                self.remove_partial(slab)
                self.add_partial(slab, False)
            if slab == last:
                break
            slab = nxt

    # ------------------------------------------------------------------------------ for mm

    def partial(self, cache: cython.long, nid: cython.long):
        """A node's partial slabs in order: for checks and debugging."""
        out = []
        slab: cython.long = self.node[cache * self.nr_nodes + nid].first
        while slab:
            out.append(slab)
            slab = self.slab[slab].nxt
        return out

    def cpu_partial(self, cache: cython.long, cpu: cython.long):
        """A CPU's partial slabs in order."""
        out = []
        slab: cython.long = self.cpu[cache * self.nr_cpus + cpu].partial
        while slab:
            out.append(slab)
            slab = self.slab[slab].nxt
        return out
