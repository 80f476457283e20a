cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.folio cimport Folios, MappingRec
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.xa_nodes cimport XaNodes

@cython.final
cdef class ShmemSlots:
    cdef readonly Folios folios
    cdef readonly Frames frames
    cdef readonly Memcontrol memcg
    cdef MappingRec[::1] mapping
    cdef readonly long nr_large
    cdef int order_at(self, long m, long index) noexcept nogil
    cdef long start_of(self, long index, int order) noexcept nogil
    cdef bint is_vacant(self, long m, long first, int order) noexcept nogil
    cdef void store(self, long m, long index, unsigned long value, int order) noexcept nogil
    cdef void insert(self, long m, long first, long folio) noexcept nogil
    cdef void insert_swapped(self, long m, long first, long folio) noexcept nogil
    cdef void remove(self, long folio, unsigned long swp) noexcept nogil
    cdef void count_cached(self, long m, long folio, long nr) noexcept nogil
    cdef void split(self, long m, long first, int order) noexcept nogil
    cdef void clear(self, long m, long first, int order) noexcept nogil
