cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.filemap cimport Filemap
from mmfs.fastpath.folio cimport Folios, MappingRec
from mmfs.fastpath.huge_file cimport HugeFile
from mmfs.fastpath.huge_memory cimport HugeMemory
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.rmap cimport ChainRec, Rmap
from mmfs.fastpath.swap cimport Swap
from mmfs.fastpath.tlb cimport MmRec, Tlb
from mmfs.fastpath.vma cimport VmaRec
from mmfs.fastpath.walk cimport Walker
from mmfs.fastpath.shmem_slots cimport ShmemSlots

@cython.final
cdef class Shmem:
    cdef readonly Filemap filemap
    cdef readonly Rmap rmap
    cdef readonly HugeMemory huge
    cdef readonly HugeFile file
    cdef readonly Swap swap
    cdef readonly Folios folios
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Lru lru
    cdef readonly Walker walker
    cdef readonly Memcontrol memcg
    cdef readonly Tlb tlb
    cdef MappingRec[::1] mapping
    cdef MmRec[::1] mm
    cdef VmaRec[::1] vma
    cdef long[::1] event
    cdef long[:, ::1] stat
    cdef readonly ShmemSlots slots
    cdef public unsigned int always
    cdef public unsigned int within_size
    cdef public unsigned int madvise
    cdef public unsigned int inherit
    cdef readonly object queued
    cdef unsigned int[::1] queued_mapping
    cdef public long nr_queued
    cdef bint suits(self, long vma, long addr, int order) noexcept nogil
    cdef bint disabled(self, long vma) noexcept nogil
    cdef bint wanted(self, long index, long end, int policy, bint advised) noexcept nogil
    cdef unsigned int orders_within(self, long index, long end) noexcept nogil
    cdef unsigned int allowable_orders(self, long m, long vma, long index) noexcept nogil
    cdef int next_order(self, unsigned int orders, int order) noexcept nogil
    cdef int largest_order(self, long m, long index, long vma, unsigned int orders) noexcept nogil
    cdef void count_fallback(self, int order, bint charge) noexcept nogil
    cdef long alloc(self, long m, long index, long vma, unsigned int orders, long memcg, bint in_fault) noexcept nogil
    cdef void add_new(self, long m, long first, long pfn, int order, long memcg, bint in_fault) noexcept nogil
    cdef bint may_map(self, long vma, long addr, bint write) noexcept nogil
    cdef long fault(self, long m, long vma, long index) noexcept nogil
    cdef long bring(self, long m, long index, long end) noexcept nogil
    cdef long write_begin(self, long m, long index, long end) noexcept nogil
    cdef bint unmap(self, long folio, bint locked) noexcept nogil
    cdef bint unmap_frame(self, long vma, long pfn, long folio, bint locked) noexcept nogil
    cdef void free_swap(self, long m, long first, int order) noexcept nogil
    cdef bint add_to_swap(self, long folio) noexcept nogil
    cdef long swap_in(self, long m, long index, long folio) noexcept nogil
