cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.huge_split cimport HugeSplit
from mmfs.fastpath.migrate cimport Migration

@cython.final
cdef class Demotion:
    cdef readonly Migration migration
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly object preferred
    cdef readonly object lower
    cdef unsigned long[::1] target
    cdef unsigned long[::1] allowed
    cdef long[::1] event
    cdef unsigned int[::1] kept
    cdef public bint enabled
    cdef public unsigned long wake
    cdef public unsigned long seed
    cdef readonly long nr_demoted
    cdef bint full
    cdef int node_random(self, unsigned long mask) noexcept nogil
    cpdef int next_demotion_node(self, int nid) noexcept nogil
    cdef bint can_demote(self, int nid) noexcept nogil
    cdef long alloc_on(self, int order, int nid, unsigned long mask) noexcept nogil
    cdef long alloc_migrate_folio(self, int order, int nid, unsigned long allowed) noexcept nogil
    cdef bint demote_large(self, long folio, int nid, unsigned long allowed) noexcept nogil
    cdef bint demote_page(self, long pfn, int nid, unsigned long allowed) noexcept nogil
    cdef long demote_folio_list(self, unsigned int[::1] folio, long n, int source) noexcept nogil
