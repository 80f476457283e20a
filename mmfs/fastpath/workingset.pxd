cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.lru cimport Lru, LruvecRec

@cython.final
cdef class Workingset:
    cdef readonly Frames frames
    cdef readonly Lru lru
    cdef LruvecRec[::1] lruvec
    cdef public long nr_swap_pages
    cdef public long target
    cdef unsigned long pack_shadow(self, long lruvec, unsigned long eviction, bint workingset) noexcept nogil
    cpdef unsigned long eviction(self, long pfn) noexcept nogil
    cdef long shadow_lruvec(self, unsigned long shadow) noexcept nogil
    cdef bint test_recent(self, unsigned long shadow, bint file) noexcept nogil
    cpdef void refault(self, long pfn, unsigned long shadow, bint in_fault) noexcept nogil
