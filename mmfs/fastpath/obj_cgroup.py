# cython: language_level=3
"""Who pays for what of the kernel's memory is smaller than a page: objects of the slab, percpu memory, zswap's copies.

Bytes are charged to an objcg, which charges whole pages to its memory cgroup and keeps what is left of one; each CPU
has a stock of bytes of one objcg, so that most charges touch one number. When a cgroup is removed, its objcgs, and
what was charged to them, become its parent's, and so do whole pages that the kernel uses: only what reclaim can take
keeps a dead cgroup alive.

An objcg is a number; 0 is the root's, which pays for nothing. It goes when its cgroup is gone and nothing is charged
to it any more.

``rows`` int32 [MAX_OBJCGS]: whose memory cgroup's it is; ``nr_charged_bytes`` int64: what is left of a page and in no
CPU's stock; ``pages`` int64: charged for it; ``refs`` int64: what is charged to it, and one while its cgroup is online.

Linux: mm/memcontrol.c, struct obj_cgroup.

Simplified: a cgroup's counters of bytes are exact at once, where Linux lets up to a page's worth a CPU wait.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import lazy_array, view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403


class ObjCgroups:
    """The objcgs of a machine. ``of_rows`` int32 [MAX_MEMCGS]: the objcg of each memory cgroup that is online."""

    def __init__(self, memcg):
        self.memcg = memcg
        self.buddy = memcg.buddy
        self.nr_nodes = memcg.nr_nodes
        self.rows = lazy_array(MAX_OBJCGS, np.int32)
        self.nr_charged_bytes = lazy_array(MAX_OBJCGS, np.int64)
        self.pages = lazy_array(MAX_OBJCGS, np.int64)
        self.refs = lazy_array(MAX_OBJCGS, np.int64)
        self.of_rows = lazy_array(MAX_MEMCGS, np.int32)
        self.row = view(self.rows)
        self.charged_bytes = view(self.nr_charged_bytes)
        self.page = view(self.pages)
        self.ref = view(self.refs)
        self.of_row = view(self.of_rows)
        self.first = view(lazy_array(MAX_MEMCGS, np.int32))
        self.nxt = view(lazy_array(MAX_OBJCGS, np.int32))
        self.prv = view(lazy_array(MAX_OBJCGS, np.int32))
        self.stock_objcg = view(np.zeros(self.buddy.nr_cpus, np.int32))
        self.stock_bytes = view(np.zeros(self.buddy.nr_cpus, np.int64))
        self.free_list = 0
        self.end = 1

    # ------------------------------------------------------------------------------ beginning and end

    def online(self, memcg: cython.long):
        """A memory cgroup begins. Linux: memcg_online_kmem()."""
        objcg: cython.int = self.free_list
        if objcg:
            self.free_list = self.nxt[objcg]
        else:
            if self.end == MAX_OBJCGS:
                raise MemoryError("there are as many objcgs as there can be")
            objcg = self.end
            self.end += 1
        self.row[objcg] = cython.cast(cython.int, memcg)
        self.charged_bytes[objcg] = self.page[objcg] = 0
        self.ref[objcg] = 1
        self.of_row[memcg] = objcg
        self.link(objcg, memcg)

    def link(self, objcg, memcg):
        """It is among a memory cgroup's."""
        first: cython.int = self.first[memcg]
        self.nxt[objcg] = first
        self.prv[objcg] = 0
        if first:
            self.prv[first] = objcg
        self.first[memcg] = objcg

    def offline(self, memcg: cython.long):
        """A memory cgroup is removed: what is charged to its objcgs is its parent's. Linux: memcg_offline_kmem()."""
        objcg: cython.int = self.of_row[memcg]
        self.drain_all_stock(memcg)
        self.of_row[memcg] = 0
        self.reparent(memcg, self.memcg.parent[memcg])
        if objcg:
            self.put(objcg)

    def reparent(self, memcg, parent):
        """Linux: memcg_reparent_objcgs()."""
        objcg: cython.int = self.first[memcg]
        nxt: cython.int
        nr: cython.long = self.memcg.own_stat[memcg, MEMCG_KMEM]
        whole: cython.long = nr
        while objcg:
            nxt = self.nxt[objcg]
            whole -= self.page[objcg]
            self.row[objcg] = cython.cast(cython.int, parent)
            self.link(objcg, parent)
            objcg = nxt
        self.first[memcg] = 0
        self.memcg.reparent_kmem(memcg, parent, whole)
        self.memcg.counters.add_usage(memcg, MEMCG_COUNTER_MEMORY, -nr)
        self.memcg.counters.add_usage(memcg, MEMCG_COUNTER_KMEM, -nr)
        if self.memcg.memsw:
            self.memcg.counters.add_usage(memcg, MEMCG_COUNTER_SWAP, -nr)
        self.memcg.mod_memcg_state(memcg, MEMCG_KMEM, -nr)
        self.memcg.mod_memcg_state(parent, MEMCG_KMEM, nr)
        self.hand_on_state(memcg, parent)

    def hand_on_state(self, memcg, parent):
        """The counters of the kernel's memory become the parent's."""
        nid: cython.long
        for nid in range(self.nr_nodes):
            self.hand_on_lruvec_state(memcg, parent, nid, NR_SLAB_RECLAIMABLE_B)
            self.hand_on_lruvec_state(memcg, parent, nid, NR_SLAB_UNRECLAIMABLE_B)
            self.hand_on_lruvec_state(memcg, parent, nid, NR_KERNEL_STACK_KB)
            self.hand_on_lruvec_state(memcg, parent, nid, NR_PAGETABLE)
        self.hand_on_memcg_state(memcg, parent, MEMCG_PERCPU_B)
        self.hand_on_memcg_state(memcg, parent, MEMCG_VMALLOC)
        self.hand_on_memcg_state(memcg, parent, MEMCG_ZSWAP_B)
        self.hand_on_memcg_state(memcg, parent, MEMCG_ZSWAPPED)

    def hand_on_lruvec_state(self, memcg, parent, nid, item):
        """One counter of a node."""
        nr: cython.long = self.memcg.lruvec_stat[memcg * self.nr_nodes + nid, item]
        if nr:
            self.memcg.mod_memcg_lruvec_state(memcg, nid, item, -nr)
            self.memcg.mod_memcg_lruvec_state(parent, nid, item, nr)

    def hand_on_memcg_state(self, memcg, parent, item):
        """One counter of the memory cgroup."""
        nr: cython.long = self.memcg.own_stat[memcg, item]
        if nr:
            self.memcg.mod_memcg_state(memcg, item, -nr)
            self.memcg.mod_memcg_state(parent, item, nr)

    def put(self, objcg):
        """One thing less is charged to it; the last lets it go. Linux: obj_cgroup_release()."""
        cpu: cython.long
        self.ref[objcg] -= 1
        if self.ref[objcg]:
            return
        for cpu in range(self.buddy.nr_cpus):
            if self.stock_objcg[cpu] == objcg:
                self.drain_stock(cpu)
        self.uncharge_pages(objcg, self.charged_bytes[objcg] >> PAGE_SHIFT)
        if self.prv[objcg]:
            self.nxt[self.prv[objcg]] = self.nxt[objcg]
        else:
            self.first[self.row[objcg]] = self.nxt[objcg]
        if self.nxt[objcg]:
            self.prv[self.nxt[objcg]] = self.prv[objcg]
        self.nxt[objcg] = self.free_list
        self.free_list = objcg

    def from_memcg(self, memcg):
        """The objcg that pays for a memory cgroup: its own, or one above's. Linux: __get_obj_cgroup_from_memcg()."""
        while memcg > 0:
            if self.of_row[memcg]:
                return self.of_row[memcg]
            memcg = self.memcg.parent[memcg]
        return 0

    def current(self):
        """The objcg of the running task. Linux: current_obj_cgroup()."""
        return self.from_memcg(self.memcg.current)

    # ------------------------------------------------------------------------------ charging

    def charge_pages(self, objcg, nr):
        """Charge whole pages; False: a limit is hit, ``memcg.failed`` says whose. Linux: obj_cgroup_charge_pages()."""
        if not self.memcg.charge(self.row[objcg], nr):
            return False
        self.account_kmem(objcg, nr)
        return True

    def account_kmem(self, objcg, nr):
        """Pages have been charged for an objcg. Linux: memcg_account_kmem()."""
        memcg: cython.long = self.row[objcg]
        self.page[objcg] += nr
        self.memcg.mod_memcg_state(memcg, MEMCG_KMEM, nr)
        self.memcg.counters.charge(memcg, MEMCG_COUNTER_KMEM, nr)

    def uncharge_pages(self, objcg, nr):
        """Linux: obj_cgroup_uncharge_pages()."""
        memcg: cython.long = self.row[objcg]
        if nr == 0:
            return
        self.page[objcg] -= nr
        self.memcg.mod_memcg_state(memcg, MEMCG_KMEM, -nr)
        self.memcg.counters.uncharge(memcg, MEMCG_COUNTER_KMEM, nr)
        if memcg:
            self.memcg.refill_stock(memcg, nr)
        else:
            self.memcg.uncharge_counters(0, nr)

    def drain_stock(self, cpu):
        """Linux: drain_obj_stock()."""
        objcg: cython.int = self.stock_objcg[cpu]
        nr_bytes: cython.long = self.stock_bytes[cpu]
        if objcg:
            self.stock_objcg[cpu] = 0
            self.stock_bytes[cpu] = 0
            self.uncharge_pages(objcg, nr_bytes >> PAGE_SHIFT)
            self.charged_bytes[objcg] += nr_bytes & (PAGE_SIZE - 1)

    def refill_stock(self, objcg, nr_bytes, allow_uncharge):
        """Keep charged bytes for the CPU's next charges. Linux: refill_obj_stock()."""
        cpu: cython.long = self.buddy.cpu
        if self.stock_objcg[cpu] != objcg:
            self.drain_stock(cpu)
            self.stock_objcg[cpu] = objcg
            self.stock_bytes[cpu] = self.charged_bytes[objcg]
            self.charged_bytes[objcg] = 0
            allow_uncharge = True
        self.stock_bytes[cpu] += nr_bytes
        if allow_uncharge and self.stock_bytes[cpu] > PAGE_SIZE:
            nr_bytes = self.stock_bytes[cpu]
            self.stock_bytes[cpu] = nr_bytes & (PAGE_SIZE - 1)
            self.uncharge_pages(objcg, nr_bytes >> PAGE_SHIFT)

    def drain_all_stock(self, root: cython.long):
        """Give back what CPUs keep for objcgs of rows at or below ``root``. Linux: obj_stock_flush_required()."""
        cpu: cython.long
        memcg: cython.long
        for cpu in range(self.buddy.nr_cpus):
            if self.stock_objcg[cpu]:
                memcg = self.row[self.stock_objcg[cpu]]
                while memcg > 0 and memcg != root:
                    memcg = self.memcg.parent[memcg]
                if memcg == root:
                    self.drain_stock(cpu)

    def charge(self, objcg, size, force):
        """Charge bytes; False: a limit is hit and it is not to be ignored. Linux: obj_cgroup_charge()."""
        cpu: cython.long = self.buddy.cpu
        nr: cython.long = (size + PAGE_SIZE - 1) >> PAGE_SHIFT
        if self.stock_objcg[cpu] == objcg and self.stock_bytes[cpu] >= size:
            self.stock_bytes[cpu] -= size
        else:
            if not self.charge_pages(objcg, nr):
                if not force:
                    return False
                self.memcg.memory_event(self.memcg.failed, MEMCG_MAX)
                self.memcg.failed = -1
                self.memcg.force_charge(self.row[objcg], nr)
                self.account_kmem(objcg, nr)
            if size & (PAGE_SIZE - 1):
                self.refill_stock(objcg, (nr << PAGE_SHIFT) - size, False)
        self.ref[objcg] += 1
        return True

    def uncharge(self, objcg, size):
        """Linux: obj_cgroup_uncharge()."""
        self.refill_stock(objcg, size, True)
        self.put(objcg)

    def give(self, objcg: cython.int, nr: cython.long):
        """Whole pages that were charged to its row are kept as bytes, for a charge that is tried again."""
        self.account_kmem(objcg, nr)
        self.refill_stock(objcg, nr << PAGE_SHIFT, False)

    def mod_state(self, objcg, nid, item, nr):
        """Change a counter of bytes of a node of its memory cgroup only. Linux: mod_objcg_state()."""
        self.memcg.mod_memcg_lruvec_state(self.row[objcg], nid, item, nr)

    def mod_memcg_state(self, objcg, item, nr):
        """Change a counter of its memory cgroup (MemcgStatItem)."""
        self.memcg.mod_memcg_state(self.row[objcg], item, nr)

    def stock(self, cpu):
        """(objcg, bytes) that a CPU keeps: for checks."""
        return int(self.stock_objcg[cpu]), int(self.stock_bytes[cpu])
