cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.lru_gen cimport LruGen
from mmfs.fastpath.memcontrol cimport Memcontrol

cdef packed struct LruvecRec:
    int nid
    int memcg
    long anon_cost
    long file_cost
    long nonresident_age
    long refaults_anon
    long refaults_file

@cython.final
cdef class Lru:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly LruGen gen
    cdef readonly Memcontrol memcg
    cdef readonly long nr_nodes
    cdef LruvecRec[::1] lruvec
    cdef long[:, ::1] node_stat
    cdef long[:, ::1] zone_stat
    cdef long[::1] event
    cdef unsigned int[:, ::1] batch
    cdef int[::1] batched
    cdef long page_heads
    cdef readonly object lruvecs
    cdef readonly long nr_lruvecs
    cdef readonly long nr_cpus
    cdef public bint enabled
    cpdef long lruvec_of(self, long pfn) noexcept nogil
    cdef int lru_of(self, unsigned int flags) noexcept nogil
    cpdef long zone_size(self, long lruvec, int zid, int lru) noexcept nogil
    cpdef long size(self, long lruvec, int lru) noexcept nogil
    cdef void add_page(self, long pfn) noexcept nogil
    cdef void add_page_tail(self, long pfn) noexcept nogil
    cdef void del_page(self, long pfn) noexcept nogil
    cdef void queue(self, int kind, long pfn) noexcept nogil
    cdef void move(self, int kind, long pfn) noexcept nogil
    cdef void lru_add(self, long pfn) noexcept nogil
    cdef void lru_deactivate_file(self, long pfn) noexcept nogil
    cdef void drain_batch(self, long cpu, int kind) noexcept nogil
    cdef void drain(self, long cpu) noexcept nogil
    cdef void drain_all(self) noexcept nogil
    cpdef void add(self, long pfn, bint in_fault) noexcept nogil
    cpdef void activate(self, long pfn) noexcept nogil
    cdef void activate_new(self, long pfn) noexcept nogil
    cpdef void mark_accessed(self, long pfn) noexcept nogil
    cpdef void deactivate(self, long pfn) noexcept nogil
    cpdef void deactivate_file(self, long pfn) noexcept nogil
    cpdef void lazyfree(self, long pfn) noexcept nogil
    cpdef void rotate(self, long pfn) noexcept nogil
    cpdef void note_cost(self, long lruvec, bint file, long nr_io, long nr_rotated) noexcept nogil
    cpdef void age_nonresident(self, long lruvec, long nr) noexcept nogil
    cdef void readd_page(self, long pfn) noexcept nogil
