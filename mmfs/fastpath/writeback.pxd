cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.folio cimport Folios, MappingRec
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.tlb cimport Tlb
from mmfs.fastpath.walk cimport Walker

@cython.final
cdef class Writeback:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Lru lru
    cdef readonly Folios folios
    cdef readonly Tlb tlb
    cdef readonly Walker walker
    cdef MappingRec[::1] mapping
    cdef readonly Memcontrol memcg
    cdef long[:, ::1] zone_stat
    cdef readonly long next_index
    cdef readonly long nr_requests
    cdef readonly long nr_bios
    cdef readonly long first_index
    cdef void start(self, long pfn) noexcept nogil
    cdef void end(self, long pfn) noexcept nogil
