cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.tlb cimport MmRec

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define mmfs_prefetch(address) __builtin_prefetch(address, 1)
    #else
    #define mmfs_prefetch(address) ((void)(address))
    #endif
    """
    void prefetch "mmfs_prefetch"(const void *address) noexcept nogil

@cython.final
cdef class Walker:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Lru lru
    cdef MmRec[::1] mm
    cdef readonly Memcontrol memcg
    cdef readonly int levels
    cdef public int alloc_flags
    cdef long cached_key
    cdef long cached_table
    cdef void count_table(self, long mm, long pfn, int level, int sign) noexcept nogil
    cdef long alloc_table(self, long mm, int level, bint implied) noexcept nogil
    cdef long lookup(self, long mm, long addr) noexcept nogil
    cdef void prefetch_entry(self, long mm, long addr) noexcept nogil
    cdef long get_entry(self, long mm, long addr) noexcept nogil
    cdef long get_entry_level(self, long mm, long addr, int last) noexcept nogil
    cdef void split_uniform(self, long mm, long addr, long pmd) noexcept nogil
    cdef void split_if_maps(self, long mm, long addr, long block) noexcept nogil
