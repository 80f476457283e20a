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

cdef packed struct PcpRec:
    int count
    int high
    int high_min
    int high_max
    int batch
    int alloc_factor
    int free_count
    int flags

@cython.final
cdef class Buddy:
    cdef readonly Frames frames
    cdef ZoneRec[::1] zone
    cdef PcpRec[::1] pcp
    cdef long[::1] nr_free
    cdef long[:, ::1] extent
    cdef long[:, ::1] zone_stat
    cdef long[:, ::1] numa_event
    cdef long[::1] event
    cdef int[:, ::1] zonelist
    cdef long[:, ::1] lowmem_reserve
    cdef int[::1] cpu_node
    cdef int[:, ::1] fallbacks
    cdef readonly object zones
    cdef readonly object pcps
    cdef readonly object nr_free_counts
    cdef readonly object extents
    cdef readonly object zonelists
    cdef readonly object lowmem_reserves
    cdef readonly object cpu_nodes
    cdef readonly long nr_zones
    cdef readonly long nr_cpus
    cdef public long cpu
    cdef public long watermark_boost_factor
    cdef public int nr_online_nodes
    cdef public bint wake_kswapd
    cdef public bint grouping_disabled
    cdef long page_heads
    cdef long block_heads
    cdef long pcp_heads
    cdef int mode
    cdef bint whole_blocks
    cdef void account_freepages(self, long zone, long nr, int mt) noexcept nogil
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
    cdef void free_one_page(self, long zone, long pfn, int order, int mt, bint to_tail) noexcept nogil
    cdef int nr_pcp_alloc(self, long slot, long zone, int order) noexcept nogil
    cdef int nr_pcp_high(self, long slot, long zone, int batch, bint free_high) noexcept nogil
    cdef int nr_pcp_free(self, long slot, int batch, int high, bint free_high) noexcept nogil
    cdef void free_pcppages_bulk(self, long zone, long slot, long count, int pindex) noexcept nogil
    cdef long rmqueue_pcplist(self, long zone, int order, int mt, int alloc_flags) noexcept nogil
    cdef long rmqueue(self, long preferred, long zone, int order, int mt, int alloc_flags) noexcept nogil
    cdef bint watermark_ok(self, long zone, int order, long mark, int highest, int alloc_flags) noexcept nogil
    cdef void reserve_highatomic(self, long zone, long pfn, int order) noexcept nogil
    cdef long alloc(self, int order, int mt, int nid, int highest, int alloc_flags, unsigned long nodemask) noexcept nogil
    cdef void free(self, long pfn, int order) noexcept nogil
    cdef long alloc_block(self, int alloc_flags) noexcept nogil
    cdef void free_block(self, long block) noexcept nogil
