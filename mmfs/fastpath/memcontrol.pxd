cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.page_counter cimport PageCounterRec, PageCounters

@cython.final
cdef class Memcontrol:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly long nr_nodes
    cdef PageCounterRec[::1] counter
    cdef int[::1] parent
    cdef long[::1] ref
    cdef int[::1] stock_memcg
    cdef long[::1] stock_pages
    cdef unsigned char[::1] updated
    cdef unsigned int[::1] update_list
    cdef int[::1] event_column
    cdef long[:, ::1] node_stat
    cdef long[:, ::1] zone_stat
    cdef long[::1] event
    cdef long[:, ::1] lruvec_stat
    cdef long[:, ::1] lruvec_flushed
    cdef long[:, ::1] lruvec_total
    cdef long[:, ::1] lruvec_zone_stat
    cdef long[:, ::1] own_stat
    cdef long[:, ::1] own_flushed
    cdef long[:, ::1] own_total
    cdef readonly PageCounters counters
    cdef readonly object refs
    cdef long nr_updated
    cdef public long current
    cdef public long over_high_pages
    cdef public long failed
    cdef readonly long failed_for
    cdef public bint failed_swap
    cdef public bint memsw
    cdef bint consume_stock(self, long memcg, long nr) noexcept nogil
    cdef void uncharge_counters(self, long memcg, long nr) noexcept nogil
    cdef void drain_stock(self, long cpu) noexcept nogil
    cdef void refill_stock(self, long memcg, long nr) noexcept nogil
    cdef bint charge_batch(self, long memcg, long nr) noexcept nogil
    cpdef bint charge(self, long memcg, long nr) noexcept nogil
    cdef void note_high(self, long memcg, long nr) noexcept nogil
    cdef void set_owner(self, long pfn, long memcg) noexcept nogil
    cdef void clear_owner(self, long pfn) noexcept nogil
    cdef long swapout(self, long pfn) noexcept nogil
    cdef void commit_charge(self, long pfn, long memcg) noexcept nogil
    cdef void unused(self, long memcg, long nr) noexcept nogil
    cpdef void commit_kmem(self, long pfn, long memcg) noexcept nogil
    cpdef void uncharge_kmem(self, long pfn) noexcept nogil
    cdef void reparent_kmem(self, long memcg, long parent, long nr) noexcept nogil
    cdef void uncharge_folio(self, long pfn) noexcept nogil
    cdef long[:, ::1] local_event
    cdef long[:, ::1] total_event
    cdef unsigned char[::1] alive
    cdef readonly object local_events
    cdef readonly object total_events
    cdef readonly object alives
    cdef readonly object zswap_maxes
    cdef readonly object no_zswap_writebacks
    cdef long[::1] zswap_max
    cdef unsigned char[::1] no_zswap_writeback
    cdef bint may_zswap(self, long memcg) noexcept nogil
    cdef bint may_write_back(self, long memcg) noexcept nogil
    cdef public bint only_local_events
    cdef bint try_charge_swap(self, long memcg, long nr) noexcept nogil
    cdef void uncharge_swap(self, long memcg) noexcept nogil
    cdef bint swap_full(self, long memcg) noexcept nogil
    cdef long swapin_memcg(self, long memcg, long other) noexcept nogil
    cpdef void memory_event(self, long memcg, int event) noexcept nogil
    cdef void count_memcg_events(self, long memcg, int item, long nr) noexcept nogil
    cdef void mark_updated(self, long lruvec) noexcept nogil
    cdef void mod_lruvec_state(self, long lruvec, long nid, int item, long nr) noexcept nogil
    cdef void mod_memcg_lruvec_state(self, long memcg, long nid, int item, long nr) noexcept nogil
    cpdef void force_charge(self, long memcg, long nr) noexcept nogil
    cpdef void mod_folio_state(self, long pfn, int item, long nr) noexcept nogil
    cpdef void mod_memcg_state(self, long memcg, int item, long nr) noexcept nogil
    cpdef void count_events(self, long memcg, int item, long nr) noexcept nogil
    cdef void update_lru_size(self, long lruvec, long zone, int lru, long nr) noexcept nogil
    cdef void flush_lruvec(self, long lruvec) noexcept nogil
    cpdef void flush(self) noexcept nogil
    cpdef long nr_swap_pages(self, long memcg, long free) noexcept nogil
    cdef long memcg_of(self, long lruvec) noexcept nogil
    cdef long parent_lruvec(self, long lruvec) noexcept nogil
    cpdef long lruvec_page_state(self, long lruvec, int item) noexcept nogil
