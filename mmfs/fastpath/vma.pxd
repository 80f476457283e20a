cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.walk cimport Walker

cdef packed struct VmaRec:
    long start
    long end
    unsigned long flags
    long pgoff
    unsigned int mapping
    unsigned int anon_vma
    int mm
    int policy
    int nid
    unsigned int file
    unsigned long nodemask

@cython.final
cdef class Vmas:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Walker walker
    cdef readonly Memcontrol memcg
    cdef VmaRec[::1] vma
    cdef readonly object vmas
    cdef unsigned char[::1] weight
    cdef readonly object weights
    cdef long alloc_page(self, long vma, long index, int mt, int highest) noexcept nogil
    cdef void count_interleave_hit(self, long zone, int node) noexcept nogil
    cpdef int policy_node(self, long vma, long index) noexcept nogil
    cpdef int node_in_turn(self, unsigned long mask, long index, bint weighted) noexcept nogil
    cdef int turns(self, int node, bint weighted) noexcept nogil
    cdef long alloc_large(self, long vma, long index, int order, int alloc_flags) noexcept nogil
    cdef long alloc_charged(self, long vma, long index, long memcg) noexcept nogil
    cdef unsigned long prot(self, unsigned long flags) noexcept nogil
    cdef unsigned int index(self, long vma, long addr) noexcept nogil
