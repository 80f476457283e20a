cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec, prefetch
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.tlb cimport MmRec

@cython.final
cdef class Walker:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Lru lru
    cdef MmRec[::1] mm
    cdef readonly Memcontrol memcg
    cdef readonly int levels
    cdef public int alloc_flags
    cdef public int pte_zone
    cdef public int failed_highest
    cdef long cached_key
    cdef long cached_table
    cdef long[4] upper_key
    cdef long[4] upper_table
    cdef long pmd
    cdef long alloc_page(self, int mt, int node, int highest, unsigned long nodemask) noexcept nogil
    cdef void count_table(self, long mm, long pfn, int level, int sign) noexcept nogil
    cdef long alloc_table(self, long mm, int level, bint filled) noexcept nogil
    cdef void free_table(self, long mm, long table, int level) noexcept nogil
    cdef long lookup(self, long mm, long addr) noexcept nogil
    cdef void forget_tables(self) noexcept nogil
    cdef long prefetch_entry(self, long mm, long addr) noexcept nogil
    cdef long get_entry(self, long mm, long addr) noexcept nogil
    cpdef long huge_pte_offset(self, long mm, long addr, int last) noexcept nogil
    cdef long get_entry_level(self, long mm, long addr, int last) noexcept nogil
