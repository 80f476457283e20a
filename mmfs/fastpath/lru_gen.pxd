cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.memcontrol cimport Memcontrol

@cython.final
cdef class LruGen:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Memcontrol memcg
    cdef long[::1] event
    cdef long[:, ::1] seq
    cdef long[:, ::1] size
    cdef long[:, ::1] evict
    cdef long[:, ::1] refault_count
    cdef long[:, ::1] protect
    cdef long[:, ::1] avg_refault
    cdef long[:, ::1] avg_sum
    cdef readonly object seqs
    cdef readonly object sizes
    cdef readonly object evicted
    cdef readonly object refaulted
    cdef readonly object protected
    cdef readonly object avg_refaulted
    cdef readonly object avg_total
    cdef readonly long nr_lruvecs
    cdef readonly long isolated
    cdef readonly long nr_folios
    cdef long coming
    cdef long page_heads
    cdef public bint fault_activates
    cdef int gen_of(self, long pfn) noexcept nogil
    cdef int refs_of(self, long pfn) noexcept nogil
    cdef int tier_of(self, int refs) noexcept nogil
    cdef bint is_active(self, long lruvec, int gen) noexcept nogil
    cdef long head(self, long lruvec, int gen, int kind, int zid) noexcept nogil
    cdef void update_size(self, long lruvec, long zone, int kind, int old, int new, long nr) noexcept nogil
    cdef long seq_for(self, long lruvec, unsigned int flags, bint reclaiming) noexcept nogil
    cdef void add_folio(self, long lruvec, long pfn, bint reclaiming) noexcept nogil
    cdef void del_folio(self, long lruvec, long pfn, bint reclaiming) noexcept nogil
    cdef void inc_refs(self, long pfn) noexcept nogil
    cdef void clear_refs(self, long pfn) noexcept nogil
    cdef void update_gen(self, long lruvec, long pfn, int gen) noexcept nogil
    cdef int inc_gen(self, long lruvec, long pfn, int kind, bint reclaiming) noexcept nogil
    cdef bint sort_folio(self, long lruvec, long pfn, int kind, int zid, int tier_idx, int reclaim_idx) noexcept nogil
    cdef bint isolate_folio(self, long lruvec, long pfn, bint may_io) noexcept nogil
    cpdef bint gen_empty(self, long lruvec, int kind, long seq) noexcept nogil
    cdef long scan_folios(self, long lruvec, int kind, int tier, int reclaim_idx, bint may_io, int item, bint cgroup, long[::1] out) noexcept nogil
    cdef long eviction_token(self, long lruvec, long pfn) noexcept nogil
    cdef bint test_recent(self, long lruvec, int kind, long token, long mask) noexcept nogil
    cdef void refault(self, long lruvec, long pfn, long token, long mask, bint workingset, bint in_fault) noexcept nogil
