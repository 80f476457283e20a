cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.compact_control cimport CompactControl, CompactZoneRec, CompactZones
from mmfs.fastpath.free_area cimport FreeArea, ZoneRec

@cython.final
cdef class FreeScanner:
    cdef readonly Buddy buddy
    cdef readonly FreeArea areas
    cdef readonly Frames frames
    cdef readonly CompactZones zones
    cdef long[:, ::1] zone_stat
    cdef long[::1] event
    cdef bint isolate_free_page(self, CompactControl cc, long pfn, int order) noexcept nogil
    cdef long isolate_freepages_block(self, CompactControl cc, long pfn, long end, long stride) noexcept nogil
    cdef bint suitable_migration_target(self, CompactControl cc, long pfn) noexcept nogil
    cdef int next_search_order(self, CompactControl cc, int order) noexcept nogil
    cdef void fast_isolate_freepages(self, CompactControl cc) noexcept nogil
    cdef void search_done(self, CompactControl cc, long found, bint start, long highest, long min_pfn) noexcept nogil
    cdef void fast_isolate_around(self, CompactControl cc, long pfn) noexcept nogil
    cdef void isolate_freepages(self, CompactControl cc) noexcept nogil
    cdef long compaction_alloc(self, CompactControl cc, int order) noexcept nogil
    cdef int first_order(self, CompactControl cc, int order) noexcept nogil
    cdef void compaction_free(self, CompactControl cc, long pfn) noexcept nogil
    cpdef long release_free_list(self, CompactControl cc) noexcept nogil
