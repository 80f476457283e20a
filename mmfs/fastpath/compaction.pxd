cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.compact_control cimport CompactControl, CompactZoneRec, CompactZones
from mmfs.fastpath.compact_free cimport FreeScanner
from mmfs.fastpath.compact_migrate cimport MigrateScanner
from mmfs.fastpath.frames cimport Frames
from mmfs.fastpath.free_area cimport FreeArea, ZoneRec
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.migrate cimport Migration

@cython.final
cdef class Compaction:
    cdef readonly Migration migration
    cdef readonly Buddy buddy
    cdef readonly FreeArea areas
    cdef readonly Frames frames
    cdef readonly Lru lru
    cdef readonly CompactZones zones
    cdef readonly FreeScanner free
    cdef readonly MigrateScanner source
    cdef long[::1] event
    cdef long[::1] blocks
    cdef public long budget_ns
    cdef public long cpu_ns
    cdef public long cost_scan
    cdef public int proactiveness
    cdef void contig_page_info(self, long zone, int order) noexcept nogil
    cpdef int extfrag_for_order(self, long zone, int order) noexcept nogil
    cpdef int fragmentation_index(self, long zone, int order) noexcept nogil
    cpdef int unusable_free_index(self, long zone, int order) noexcept nogil
    cpdef int score_wmark(self, bint low) noexcept nogil
    cdef int finished(self, CompactControl cc) noexcept nogil
    cdef void begin(self, CompactControl cc) noexcept nogil
    cdef int migrate_pages(self, CompactControl cc) noexcept nogil
    cdef int migrate_large(self, CompactControl cc, int at) noexcept nogil
    cdef int round(self, CompactControl cc) noexcept nogil
    cpdef int compact_zone(self, CompactControl cc) noexcept nogil
