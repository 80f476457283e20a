cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.lru cimport Lru

cdef packed struct MappingRec:
    long base
    long slots
    long size
    long nrpages
    int shmem
    int memcg
    long nr_dirty

@cython.final
cdef class Folios:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Lru lru
    cdef MappingRec[::1] mapping
    cdef unsigned long[::1] slot
    cdef long[:, ::1] node_stat
    cdef long[:, ::1] zone_stat
    cdef long[::1] event
    cdef readonly object mappings
    cdef readonly object slots
    cdef void cache_add(self, long m, long index, long pfn, bint in_fault) noexcept nogil
    cdef void mark_dirty(self, long pfn) noexcept nogil
    cdef void mlock_page(self, long pfn) noexcept nogil
    cdef void munlock_page(self, long pfn) noexcept nogil
    cdef void free_page(self, long pfn) noexcept nogil
