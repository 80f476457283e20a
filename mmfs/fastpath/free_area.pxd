cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec

cdef packed struct ZoneRec:
    long start_pfn
    long end_pfn
    long managed
    long wmark_min
    long wmark_low
    long wmark_high
    long wmark_promo
    long watermark_boost
    long nr_reserved_highatomic
    long nr_free_highatomic
    long virgin
    long virgin_end
    int nid
    int zid
    int below_high
    int boosted
    int reclaim_active
    int pad

@cython.final
cdef class FreeArea:
    cdef readonly Frames frames
    cdef ZoneRec[::1] zone
    cdef long[::1] nr_free
    cdef long[:, ::1] extent
    cdef long[:, ::1] zone_stat
    cdef int[:, ::1] fallbacks
    cdef readonly object zones
    cdef readonly object nr_free_counts
    cdef readonly object extents
    cdef readonly long nr_zones
    cdef public long watermark_boost_factor
    cdef public bint grouping_disabled
    cdef long page_heads
    cdef long block_heads
    cdef int mode
    cdef long run
    cdef void begin_bulk(self) noexcept nogil
    cdef void account_freepages(self, long zone, long nr, int mt) noexcept nogil
    cdef bint is_migrate_movable(self, long block) noexcept nogil
    cdef bint is_buddy(self, long pfn, int order, long zone) noexcept nogil
    cdef void add_to_free_list(self, long zone, long pfn, int order, int mt, bint tail) noexcept nogil
    cdef void del_from_free_list(self, long zone, long pfn, int order, int mt) noexcept nogil
    cdef long first_free(self, long zone, int order, int mt) noexcept nogil
    cdef void take_blocks(self, long pfn, int order) noexcept nogil
    cdef long expand(self, long zone, long pfn, int low, int high, int mt) noexcept nogil
    cdef long rmqueue_smallest(self, long zone, int order, int mt) noexcept nogil
    cdef int suitable_fallback(self, long zone, int order, int mt) noexcept nogil
    cdef bint can_steal(self, int order, int mt) noexcept nogil
    cdef void boost_watermark(self, long zone, int alloc_flags) noexcept nogil
    cdef long move_freepages_block(self, long zone, long block, int old_mt, int new_mt) noexcept nogil
    cdef long try_to_steal_block(self, long zone, long pfn, int current_order, int order, int mt, int alloc_flags) noexcept nogil
    cdef long rmqueue_claim(self, long zone, int order, int mt, int alloc_flags) noexcept nogil
    cdef long rmqueue_steal(self, long zone, int order, int mt) noexcept nogil
    cdef long rmqueue_mode(self, long zone, int order, int mt, int alloc_flags) noexcept nogil
    cdef long rmqueue_run(self, long zone, long most, int mt, int alloc_flags) noexcept nogil
    cdef void free_one_page(self, long zone, long pfn, int order, int mt, bint to_tail) noexcept nogil
