cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.huge_memory cimport HugeMemory
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.tlb cimport MmRec
from mmfs.fastpath.vma cimport VmaRec, Vmas

@cython.final
cdef class AnonFolios:
    cdef readonly HugeMemory huge
    cdef readonly Vmas areas
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Lru lru
    cdef readonly Memcontrol memcg
    cdef MmRec[::1] mm
    cdef VmaRec[::1] vma
    cdef long[:, ::1] stat
    cdef public unsigned int always
    cdef public unsigned int madvise
    cdef public bint enabled
    cdef long nr
    cdef unsigned int allowable_orders(self, long mm, long vma) noexcept nogil
    cdef long start_of(self, long addr, int order) noexcept nogil
    cdef bint suitable(self, long vma, long addr, int order) noexcept nogil
    cdef bint range_none(self, long at, long nr) noexcept nogil
    cdef int next_order(self, unsigned int orders, int order) noexcept nogil
    cdef int largest_order(self, unsigned int orders, long vma, long addr, long at) noexcept nogil
    cdef int fault(self, long mm, long vma, long addr, long at) noexcept nogil
    cdef void map_new(self, long mm, long vma, long addr, long at, long pfn, int order) noexcept nogil
    cdef void add_new(self, long vma, long start, long pfn, int order, long memcg) noexcept nogil
