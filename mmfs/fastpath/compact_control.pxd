cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.free_area cimport FreeArea, ZoneRec

cdef packed struct CompactZoneRec:
    long cached_free_pfn
    long cached_migrate_pfn
    long cached_migrate_sync_pfn
    long init_migrate_pfn
    long init_free_pfn
    int considered
    int defer_shift
    int order_failed
    int blockskip_flush

@cython.final
cdef class CompactControl:
    cdef readonly long zone
    cdef readonly int order
    cdef public int search_order
    cdef public long gfp
    cdef public int mode
    cdef public int alloc_flags
    cdef public int highest
    cdef public int migratetype
    cdef public bint direct
    cdef public bint proactive
    cdef public bint whole_zone
    cdef public bint ignore_skip_hint
    cdef public bint ignore_block_suitable
    cdef public bint finish_pageblock
    cdef public bint begun
    cdef public bint update_cached
    cdef public long migrate_pfn
    cdef public long free_pfn
    cdef public long fast_start_pfn
    cdef public long last_migrated_pfn
    cdef public int fast_search_fail
    cdef public int nr_isolated
    cdef public long nr_migratepages
    cdef public long nr_freepages
    cdef public long total_migrate_scanned
    cdef public long total_free_scanned
    cdef readonly long freepages
    cdef readonly object pfns
    cdef long[::1] pfn
    cpdef void prepare(self, long zone, int order, long gfp, int mode, int alloc_flags, int highest)
    cdef void clear(self) noexcept nogil
    cdef int freelist_scan_limit(self) noexcept nogil

@cython.final
cdef class CompactZones:
    cdef readonly FreeArea areas
    cdef readonly Frames frames
    cdef readonly object zones
    cdef CompactZoneRec[::1] zone
    cdef bint block_in_zone(self, long pfn, long zone) noexcept nogil
    cdef int free_order(self, long pfn) noexcept nogil
    cdef bint isolation_suitable(self, CompactControl cc, long pfn) noexcept nogil
    cdef void set_skip(self, long pfn) noexcept nogil
    cdef bint test_and_set_skip(self, CompactControl cc, long pfn) noexcept nogil
    cdef void update_cached_migrate(self, CompactControl cc, long pfn) noexcept nogil
    cdef void update_pageblock_skip(self, long zone, long pfn, long next_pfn) noexcept nogil
    cdef void set_cached_migrate(self, long zone, long pfn) noexcept nogil
    cdef long last_block(self, long zone) noexcept nogil
    cpdef void reset_cached_positions(self, long zone) noexcept nogil
    cdef bint reset_isolation_pfn(self, long zone, long pfn, bint check_source, bint check_target) noexcept nogil
    cpdef void reset_isolation_suitable(self, long zone) noexcept nogil
    cpdef void defer(self, long zone, int order) noexcept nogil
    cpdef bint deferred(self, long zone, int order) noexcept nogil
    cpdef void defer_reset(self, long zone, int order, bint alloc_success) noexcept nogil
    cpdef bint restarting(self, long zone, int order) noexcept nogil
