# cython: language_level=3
"""Translation lookaside buffers: what each CPU remembers of the page tables, and how it is made to forget.

An entry is tagged with its address space, so a switch between processes flushes nothing; an address space
whose translations must all go gets a new tag. Flushes that reach other CPUs are counted there as shootdowns.

Linux: arch/x86/mm/tlb.c.

Simplified: 512 entries of a page each in 128 sets of 4, replaced in turn; huge pages and upper levels are not cached.
"""

import cython
import numpy as np

from mmfs.fastpath.frames import view

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_SETS = cython.declare(cython.long, 128)
_WAYS = cython.declare(cython.long, 4)
_HITS = cython.declare(cython.int, 0)
_MISSES = cython.declare(cython.int, 1)
_SHOOTDOWNS = cython.declare(cython.int, 2)
_NEXT_WAY = cython.declare(cython.int, 3)
_FLUSH_CEILING = cython.declare(cython.long, 33)


class Tlb:
    """The TLBs of all CPUs. ``counts`` [cpus, 4] int64: hits, misses, shootdowns received, next way."""

    def __init__(self, buddy, mms):
        self.buddy = buddy
        self.mm = view(mms)
        self.tag = view(np.zeros(buddy.nr_cpus * _SETS * _WAYS, np.uint64))
        self.counts = np.zeros((buddy.nr_cpus, 4), np.int64)
        self.count = view(self.counts)
        self.next_asid = 1

    def set_of(self, cpu, addr):
        """Where the entries of a CPU begin that may translate an address."""
        return (cpu * _SETS + (addr >> PAGE_SHIFT & (_SETS - 1))) * _WAYS

    def tag_of(self, mm, addr):
        """How an entry says what it translates; its lowest bit says whether writes may use it."""
        return (cython.cast(cython.ulong, self.mm[mm].asid) << 36 | cython.cast(cython.ulong, addr) >> PAGE_SHIFT) << 1

    def hit(self, mm, addr, write):
        """Whether the running CPU's TLB translates the access; counts the hit or miss."""
        cpu: cython.long = self.buddy.cpu
        at: cython.long = self.set_of(cpu, addr)
        wanted: cython.ulong = self.tag_of(mm, addr) | 1
        either: cython.ulong = 0 if write else 1
        if (
            self.tag[at] | either == wanted
            or self.tag[at + 1] | either == wanted
            or self.tag[at + 2] | either == wanted
            or self.tag[at + 3] | either == wanted
        ):
            self.count[cpu, _HITS] += 1
            return True
        self.count[cpu, _MISSES] += 1
        return False

    def fill(self, mm, addr, entry):
        """Remember a translation, in place of the same page's or of the set's oldest."""
        cpu: cython.long = self.buddy.cpu
        base: cython.long = self.set_of(cpu, addr)
        tag: cython.ulong = self.tag_of(mm, addr) | 1
        at: cython.long = base
        turn: cython.long
        while at < base + _WAYS and self.tag[at] | 1 != tag:
            at += 1
        if at == base + _WAYS:
            turn = self.count[cpu, _NEXT_WAY]
            at = base + (turn + turn // _SETS & (_WAYS - 1))  # else pages in order, set by set, would get one way only
            self.count[cpu, _NEXT_WAY] = turn + 1
        self.tag[at] = tag if entry & PTE_RW and entry & PTE_DIRTY else tag - 1
        self.mm[mm].cpumask |= cython.cast(cython.ulong, 1) << (cpu & 63)

    def flush_page(self, mm, addr):
        """Drop a translation from every TLB that may hold it; other CPUs' are shot down."""
        cpu: cython.long
        i: cython.long
        base: cython.long
        tag: cython.ulong = self.tag_of(mm, addr) | 1
        for cpu in range(self.buddy.nr_cpus):
            if self.mm[mm].cpumask >> (cpu & 63) & 1:
                if cpu != self.buddy.cpu:
                    self.count[cpu, _SHOOTDOWNS] += 1
                base = self.set_of(cpu, addr)
                for i in range(base, base + _WAYS):
                    if self.tag[i] | 1 == tag:
                        self.tag[i] = 0

    def flush_mm(self, mm):
        """Drop every translation of an address space: it gets a new tag."""
        cpu: cython.long
        for cpu in range(self.buddy.nr_cpus):
            if self.mm[mm].cpumask >> (cpu & 63) & 1 and cpu != self.buddy.cpu:
                self.count[cpu, _SHOOTDOWNS] += 1
        self.mm[mm].asid = self.next_asid
        self.next_asid += 1
        self.mm[mm].cpumask = 0

    def flush_range(self, mm, start, end):
        """Linux: arch/x86/mm/tlb.c, flush_tlb_mm_range(): page by page up to 33, else all."""
        addr: cython.long
        if self.mm[mm].cpumask == 0:
            return
        if end - start > _FLUSH_CEILING << PAGE_SHIFT:
            self.flush_mm(mm)
            return
        addr = start
        while addr < end:
            self.flush_page(mm, addr)
            addr += PAGE_SIZE

    def get_mm_rss(self, mm: cython.long):
        """Pages that an address space maps. Linux: include/linux/mm.h, get_mm_rss()."""
        return self.mm[mm].rss_file + self.mm[mm].rss_anon + self.mm[mm].rss_shmem

    def update_hiwater_rss(self, mm: cython.long):
        """Remember how many they are before they get fewer. Linux: include/linux/mm.h, update_hiwater_rss()."""
        self.mm[mm].hiwater_rss = max(
            self.mm[mm].hiwater_rss, self.mm[mm].rss_file + self.mm[mm].rss_anon + self.mm[mm].rss_shmem
        )

    def new_asid(self, mm):
        """Tag an address space for the TLBs."""
        self.mm[mm].asid = self.next_asid
        self.next_asid += 1
        self.mm[mm].cpumask = 0

    def flush_tlb_mm(self, mm):
        """Drop every translation of an address space from the TLBs."""
        if self.mm[mm].cpumask:
            self.flush_mm(mm)
